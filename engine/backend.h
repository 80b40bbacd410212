/* backend.h - what a device must do: the model's blocks, not single tensor operations.
 *
 * Coarse enough to fuse inside, fine enough to compare with the reference after each call. The
 * model is written once, in forward.c, as calls of this table. All calls of one backend come from
 * one thread (the engine's); a backend may use private worker threads but has joined them when a
 * call returns.
 *
 * A device may run late: a block call may only enqueue its work. Everything a call borrows from the
 * host is copied before it returns. The host waits in sample, act_read, logits_read, logits_row
 * and, when asked to, vision_poll, and only there. An error of late work is reported by whichever
 * call meets it first, as COG_EDEVICE, which is final.
 *
 * Two numeric modes (cog_device_config.dtype):
 *   COG_F32   weights, activations and KV in f32; the reference loaded in fp32.
 *   COG_BF16  weights and KV in bf16; every value the reference rounds to bf16 is rounded there,
 * once, to nearest even; sums inside products, norms and attention are f32.
 *
 * Batch invariance (always on a CPU, cog_device_config.batch_invariant elsewhere): what a row
 * computes depends on that row's own sequence only - not on the other rows, on how many there are,
 * on how a prompt was cut into chunks, or on the number of threads. Kernels therefore add up each
 * output element in one fixed order, and attention walks KV slots in tiles that start at multiples
 * of a constant. Without it, equal steps still give equal bits. */
#ifndef COG_ENGINE_BACKEND_H
#define COG_ENGINE_BACKEND_H

#include "base/err.h"
#include "engine/model_config.h"
#include "engine/sampler.h"
#include "engine/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cog_backend cog_backend; /* a device with everything reserved on it */
typedef struct cog_weight cog_weight;   /* one parameter in the form the device's kernels read */
typedef struct cog_act cog_act;         /* activations [rows, cols] on the device */

typedef enum cog_expert { COG_LANGUAGE, COG_VISION, COG_N_EXPERTS } cog_expert;

/* How a parameter is used, so that the device can choose its form. */
typedef enum cog_weight_use {
    COG_USE_MATRIX, /* [out, in]: products x * W^T */
    COG_USE_VECTOR, /* [n]: biases and norm weights */
    COG_USE_ROWS,   /* [n, cols]: rows are looked up (embedding, position table, cls, boi, eoi) */
} cog_weight_use;

typedef struct cog_device_config {
    const cog_model_config *model; /* borrowed for the backend's life */
    cog_dtype dtype;               /* COG_F32 or COG_BF16 */
    int threads;           /* workers, the calling thread included; 0: one per available core */
    int max_rows;          /* rows of a step */
    int max_seqs;          /* sequences of a step, and rows of logits */
    int max_images;        /* pictures of one vision pass */
    int max_features;      /* pictures whose features are held at a time */
    int block;             /* KV slots per page: a power of two, 16 to 256 */
    int n_blocks;          /* pages in the pool; 0 while the memory plan is made */
    uint64_t weight_bytes; /* of all parameters in the mode's type, without padding */
    int n_weights;         /* tensors, for padding */
    /* One path for every row: what a row computes is then the same bits in any batch, chunking and
     * company. A CPU is always so; on a GPU it costs speed. */
    bool batch_invariant;
    /* Rotary tables [n_positions, head_dim / 2], already rounded as the numeric mode wants them
     * (rope.h); borrowed for the backend's life. */
    const float *rope_cos, *rope_sin;
    int n_positions;
} cog_device_config;

/* ---- parameters of the blocks. Pointers are owned by cog_model, made and freed by the backend.
 * ---- */

typedef struct cog_vit_embed {
    cog_weight *patch;      /* MATRIX [hidden, 3 * patch * patch], columns in (c, ky, kx) order */
    cog_weight *patch_bias; /* VECTOR [hidden] */
    cog_weight *cls;        /* ROWS [1, hidden] */
    cog_weight *position;   /* ROWS [tokens, hidden]; row 0 belongs to cls */
} cog_vit_embed;

typedef struct cog_vit_layer {
    cog_weight *qkv, *qkv_bias; /* MATRIX [3 * hidden, hidden]: q rows, then k, then v; VECTOR */
    cog_weight *dense, *dense_bias; /* MATRIX [hidden, hidden]; VECTOR */
    cog_weight *norm1, *norm1_bias; /* VECTOR [hidden]: norm of the attention *output* */
    cog_weight *fc1, *fc1_bias;     /* MATRIX [inter, hidden]; VECTOR */
    cog_weight *fc2, *fc2_bias;     /* MATRIX [hidden, inter]; VECTOR */
    cog_weight *norm2, *norm2_bias; /* VECTOR [hidden]: norm of the MLP *output* */
} cog_vit_layer;

typedef struct cog_adapter {
    cog_weight *proj;             /* MATRIX [hidden, vision hidden] */
    cog_weight *norm, *norm_bias; /* VECTOR [hidden], eps COG_ADAPTER_EPS */
    cog_weight *gate_up;          /* MATRIX [2 * inter, hidden]: gate rows, then up rows */
    cog_weight *down;             /* MATRIX [hidden, inter] */
    cog_weight *boi, *eoi;        /* ROWS [1, hidden] */
} cog_adapter;

#define COG_ADAPTER_EPS 1e-5f /* the framework's default, not the tower's 1e-6 */

typedef struct cog_layer {
    cog_weight *norm_in, *norm_post; /* VECTOR [hidden], shared by the experts */
    struct {
        cog_weight *qkv; /* MATRIX [(heads + 2 * kv_heads) * head_dim, hidden]: q, then k, then v */
        cog_weight *qkv_bias; /* VECTOR or NULL */
        cog_weight *dense;    /* MATRIX [hidden, heads * head_dim] */
        cog_weight *gate_up;  /* MATRIX [2 * inter, hidden]: gate rows, then up rows */
        cog_weight *down;     /* MATRIX [hidden, inter] */
    } expert[COG_N_EXPERTS];
} cog_layer;

typedef struct cog_head {
    cog_weight *norm;    /* VECTOR [hidden] */
    cog_weight *lm_head; /* MATRIX [vocab, hidden] */
} cog_head;

/* One token to be drawn from a row of logits. Several draws may share a row: the first tokens of a
 * request's choices. */
typedef struct cog_draw {
    int row; /* of the step's logits, < n_logits */
    const cog_sampling *params;
    cog_sample_context context; /* sampler.h */
} cog_draw;

/* ---- one step ----
 *
 * Rows are tokens. The language expert's rows come first, the vision expert's after them, and the
 * residual stream keeps that order through all layers, so each expert's product is one contiguous
 * piece. Only attention looks up sequences. All patches of a picture share one rotary position, so
 * a row's KV slot says nothing about its position: both travel in the batch. Arrays are host
 * memory, borrowed until the step's last call. */
typedef struct cog_batch {
    int rows, language_rows; /* 0 <= language_rows <= rows */
    const int32_t *token;    /* [rows] id in the embedding table, used where feature < 0 */
    const int32_t
        *feature; /* [rows] row of the sequence's picture features, or -1 for a text token */
    const int32_t *position; /* [rows] rotary position, < n_positions */
    const int32_t
        *slot;          /* [rows] place in its sequence's KV; the row sees slots 0..slot, all
                           written by     earlier steps or by this step's rows of the same sequence */
    const int32_t *seq; /* [rows] < seqs */
    int seqs;
    const int32_t *block_table; /* [seqs, max_blocks]: page of slots [i * block, (i + 1) * block) */
    int max_blocks;
    const cog_act *const *features; /* [seqs] adapter output [image_tokens, hidden] or NULL */
    int n_logits;                   /* <= max_seqs */
    const int32_t *logits_row;      /* [n_logits] rows whose logits are wanted */
    int n_draws;                    /* any number */
    const cog_draw *draw;           /* [n_draws], in ascending order of row */
} cog_batch;

/* Where a device's memory goes, in bytes. */
typedef struct cog_memory_plan {
    uint64_t total;       /* of the device, or what this process may use */
    bool is_shared;       /* with the rest of the machine: take what is needed, not what there is */
    uint64_t used;        /* by others and by the device's own runtime, now */
    uint64_t weights;     /* parameters, with padding */
    uint64_t activations; /* residual streams, features and all buffers between kernels */
    uint64_t workspace;   /* of libraries, and recorded steps */
    uint64_t page;        /* of one KV page, all layers */
} cog_memory_plan;

typedef struct cog_backend_ops {
    const char *name; /* "cpu", "cuda" */
    int vision_batch; /* pictures of one vision pass from which the device gains */

    /* What open and the weights will take of the device, cfg->n_blocks left aside; `used` is what
     * others hold at the time of the call. COG_EUNSUPPORTED when this machine has no such device
     * or no driver for one, and then only. A device that is there and does not work, is too old, or
     * cannot run this configuration is any other code: COG_EDEVICE, COG_ELIMIT, COG_EINVAL. err
     * says which and why. */
    int (*memory)(cog_memory_plan *out, const cog_device_config *cfg, cog_err *err);

    /* Reserves everything a step needs: nothing allocates on the device afterwards but weights,
     * activations, and a kind of step that is repeated for the first time and can do without. */
    int (*open)(cog_backend **out, const cog_device_config *cfg, cog_err *err);
    void (*close)(cog_backend *be); /* NULL is fine; weights and activations were freed before */

    /* One line for the log and /v1/models: device, instruction set, threads. Valid until close. */
    const char *(*describe)(const cog_backend *be);

    /* Makes a parameter of the tensors' rows stacked in order (all with the same number of columns;
     * a [out, in, k, k] tensor counts as [out, in * k * k], a [1, 1, n] as [1, n]). The tensors'
     * memory may go afterwards. */
    int (*weight)(cog_backend *be, cog_weight **out, const cog_tensor *const *parts, int n_parts,
                  cog_weight_use use, cog_err *err);
    /* The same with values that are a pure function of (key, index), made on the device: uniform in
     * [center - spread, center + spread], index = row * cols + column: center + spread * (2 u - 1)
     * in f32, each operation rounded, u = cog_rng_at's top 24 bits / 2^24 (rng.h), then rounded
     * once to the mode's type. For measurements without a checkpoint. */
    int (*weight_random)(cog_backend *be, cog_weight **out, int rows, int cols, cog_weight_use use,
                         uint64_t key, float center, float spread, cog_err *err);
    void (*weight_free)(cog_backend *be, cog_weight *w); /* NULL is fine */

    /* Before the first step; values are undefined until written. */
    int (*act_new)(cog_backend *be, cog_act **out, int rows, int cols);
    void (*act_free)(cog_backend *be, cog_act *a); /* NULL is fine */
    /* dst[rows, cols] = a's rows first .. first + rows - 1, after all work so far. For tests and
     * tracing. */
    int (*act_read)(cog_backend *be, float *dst, const cog_act *a, int first, int rows);
    int (*act_write)(cog_backend *be, cog_act *a, const float *src, int first, int rows);

    /* Vision. x is [n_images * vision.tokens, vision.hidden]. */
    /* rgb[i]: [side, side, 3] bytes; scaled to 0..1 and normalised with the CLIP mean and deviation
     * here. */
    int (*vit_embed)(cog_backend *be, cog_act *x, const uint8_t *const *rgb, int n_images,
                     const cog_vit_embed *w);
    int (*vit_block)(cog_backend *be, cog_act *x, int n_images, const cog_vit_layer *w);
    /* features[i] = [boi; adapter(patches of picture i); eoi], [image_tokens, hidden]. Comes after
     * all steps begun so far: one of them may still read what features[i] held. */
    int (*vit_project)(cog_backend *be, cog_act *const *features, const cog_act *x, int n_images,
                       const cog_adapter *w);
    /* *idle: all vision work so far is done. wait: blocks until it is. *busy_ns: how long the
     * device worked on vision since the last call that said idle, once it says so again; features
     * written by vit_project may be used by a step's batch from then on. */
    int (*vision_poll)(cog_backend *be, bool wait, bool *idle, uint64_t *busy_ns);

    /* Decoder. x is [>= rows, hidden]; the batch given to step_begin is the one all later calls
     * mean. */
    int (*step_begin)(cog_backend *be, const cog_batch *b);
    int (*embed)(cog_backend *be, cog_act *x, const cog_weight *table);
    int (*attention)(cog_backend *be, cog_act *x, const cog_layer *w,
                     int layer);                                         /* norm .. residual, KV */
    int (*ffn)(cog_backend *be, cog_act *x, const cog_layer *w);         /* norm .. residual */
    int (*logits)(cog_backend *be, const cog_act *x, const cog_head *w); /* [n_logits, vocab] */
    /* token[n_draws], host: what cog_sampler_pick gives for each draw, -1 where it would fail. Ends
     * the step: the host waits. With n_draws 0 it does not wait. The batch's draws are first read
     * here. */
    int (*sample)(cog_backend *be, int32_t *token);
    /* dst [n_logits, vocab] = the step's logits, up to the next step_begin; sample leaves them as
     * they are. For tests and tracing. */
    int (*logits_read)(cog_backend *be, float *dst);
    /* dst [vocab] = one row of them; the host waits. */
    int (*logits_row)(cog_backend *be, float *dst, int row);

    /* Makes the calls of the step just begun, embed to logits, by calling issue(arg), or repeats
     * those of an earlier step of the same shape without it: they are the same calls. NULL: the
     * device gains nothing from that. */
    int (*replay)(cog_backend *be, int (*issue)(void *arg), void *arg);

    /* Copies the first n_slots slots of page src to page dst, in all layers (copy on write). */
    int (*kv_copy)(cog_backend *be, int dst, int src, int n_slots);
} cog_backend_ops;

/* Bytes of one KV page on any backend: layers * 2 * block * kv_heads * head_dim elements of the
 * mode's type. */
size_t cog_kv_block_bytes(const cog_model_config *m, cog_dtype dtype, int block);

/* ---- what every backend does alike ---- */

/* The sizes of cfg but those a device has limits of its own for: COG_EINVAL names the first that is
 * out of range. n_blocks may be 0, as for a memory plan. */
int cog_device_check(const cog_device_config *cfg, cog_err *err);

/* Whether a step's numbers stay inside cfg's: rows, sequences' slots and pages, positions, rows of
 * logits. Tokens and features are the backend's to check, which knows its tables. */
bool cog_batch_fits(const cog_batch *b, const cog_device_config *cfg);

/* pixel[channel][byte]: scaled to 0..1, normalised with the CLIP mean and deviation, rounded to
 * dtype. */
void cog_pixel_table(float pixel[3][256], cog_dtype dtype);

/* ---- which backends there are ---- */

enum { COG_MAX_BACKENDS = 2 };

/* The tables to try for name, best first: that one, or for "auto" all. Returns how many;
 * COG_EINVAL names what this build has. */
int cog_backend_find(const cog_backend_ops *out[COG_MAX_BACKENDS], const char *name, cog_err *err);

/* False for a table that stands for a backend that was not built: it has only memory and open, and
 * they refuse. */
bool cog_backend_is_built(const cog_backend_ops *ops);

extern const cog_backend_ops cog_cpu_ops;
extern const cog_backend_ops cog_cuda_ops; /* engine/cuda/stub.c without CUDA */

#endif
