/* cuda.h - what the C files of the CUDA backend share. Private to engine/cuda.
 *
 * Activations are row-major elements of the mode's type. The leading dimension of every buffer and
 * weight is a function of its columns alone (cog_cuda_ld), so a product's shape is known from n and
 * k. All buffers are reserved in open.
 *
 * Two lanes, each a stream with products and a workspace of its own: decoder steps, and vision.
 * They meet where features change hands. */
#ifndef COG_ENGINE_CUDA_CUDA_H
#define COG_ENGINE_CUDA_CUDA_H

#include "engine/backend.h"
#include "engine/cuda/gemm.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/sdpa.h"
#include "engine/cuda/weight.h"

enum {
    COG_CUDA_BUCKETS = 8,         /* numbers of rows that steps are padded to */
    COG_CUDA_MAX_BUCKET = 64,     /* the largest of them */
    COG_CUDA_ADAPTER_ROWS = 4096, /* rows whose inner adapter activations exist at a time */
    COG_CUDA_SHAPES = 14
};

struct cog_act {
    int rows, cols; /* that the caller asked for; memory has cog_cuda_padded(rows) */
    size_t ld;      /* elements */
    char *data;     /* device */
};

/* ---- sizes: pure functions of the configuration, used by memory and open alike ---- */

/* Every row starts at a multiple of 16 bytes, in either type. */
static inline size_t cog_cuda_ld(int cols)
{
    return ((size_t)cols + 7) / 8 * 8;
}

/* Where a step's arrays are, in bytes from the start of the step buffer; the same in pinned host
 * memory and on the device. Rows of a padded step come after the batch's own. */
typedef struct cog_cuda_layout {
    int max_rows, max_seqs, max_blocks; /* max_seqs with the one that padding rows belong to */
    int max_logits, max_tiles, max_items, max_edits;   /* max_logits is also that of draws */
    int max_segments, max_partials;                    /* of attention's partial sums */
    size_t token, feature, position, slot, seq, order; /* int32 [max_rows] */
    size_t logits_row;                                 /* int32 [max_logits] */
    size_t n_items;                                    /* int32 */
    size_t features;                                   /* device pointers [max_seqs] */
    size_t tiles, items;                               /* [max_tiles], [max_items] */
    size_t draws;                                      /* [max_logits] */
    size_t block_table;                                /* int32 [max_seqs, max_blocks] */
    size_t edits;                                      /* [max_edits] */
    size_t bytes;
} cog_cuda_layout;

/* The vision lane's scratch: stages of a pass follow each other, so their buffers share memory. */
typedef struct cog_cuda_vision {
    char *out;     /* [rows, vision.hidden] what a norm or the position adds, all stages */
    char *patches; /* [pictures * grid^2, 3 * patch^2] */
    char *qkv;     /* [rows, 3 * vision.hidden] */
    char *mixed;   /* [rows, vision.hidden] attention output */
    char *inner;   /* [rows, vision.inter] */
    char *proj;    /* [rows, hidden] adapter: from proj, and from down */
    char *gate_up; /* [COG_CUDA_ADAPTER_ROWS, 2 * inter] */
    char *swiglu;  /* [COG_CUDA_ADAPTER_ROWS, inter] */
} cog_cuda_vision;

typedef struct cog_cuda_lane {
    cudaStream_t stream;
    cog_cuda_gemm *gemm;
    char *workspace;
} cog_cuda_lane;

/* A sequence's rows in a step, for planning its attention. */
typedef struct cog_cuda_run {
    int rows, first; /* order[first] .. order[first + rows - 1] */
    int32_t slot;    /* the lowest */
    bool is_broken;  /* the slots do not follow each other */
    bool is_tiled;
} cog_cuda_run;

/* A product's shape; each is tuned on the first weight that has it. */
typedef struct cog_cuda_shape {
    int n, k, max_rows;
    bool has_bias, is_tuned;
    const cog_cuda_lane *lane;
    char *a, *dst; /* buffers to tune on */
    const cog_weight *w;
} cog_cuda_shape;

/* ---- the backend ---- */

/* How the step under way is computed. */
typedef enum cog_cuda_path {
    COG_CUDA_LARGE,  /* products of many rows */
    COG_CUDA_SKINNY, /* fused kernels that read each weight once */
} cog_cuda_path;

struct cog_backend {
    cog_device_config cfg;
    cog_model_config model; /* a copy of *cfg.model */
    size_t elem;            /* bytes of an element */
    int sms;                /* multiprocessors */
    bool dependent;         /* kernels may start early: 9.0 and later, by device and code */
    bool failed;            /* a device error was seen: final */
    char text[384];         /* describe */
    cog_cuda_layout at;
    cog_cuda_lane decoder, tower;
    cog_cuda_weights *weights;
    cog_cuda_shape shape[COG_CUDA_SHAPES];
    bool is_ready; /* all weights made so far are on the device, and their products chosen */

    /* Decoder, [at.max_rows, .] */
    char *norm;    /* [., hidden] */
    char *qkv;     /* [., (heads + 2 * kv_heads) * head_dim] */
    char *mixed;   /* [., heads * head_dim] attention output */
    char *gate_up; /* [., 2 * inter] */
    char *inner;   /* [., inter] */
    char *delta;   /* [., hidden] a product on its way to the residual stream */
    char *logits;  /* [at.max_logits, vocab] */
    char *partial; /* attention's partial sums, floats */
    char *done;    /* and their counters */
    char *cos, *sin;
    char *pages;   /* n_blocks pages, and the one that padding rows write */
    char *step;    /* at.bytes */
    char *token;   /* int32 [at.max_logits] drawn */
    char *scratch; /* of sampling */
    cog_cuda_kv kv;

    /* Vision */
    char *vision_base;
    cog_cuda_vision vision;
    cog_cuda_sdpa *sdpa; /* attention of the tower; NULL: by our own kernels */
    bool sdpa_is_tried;
    char *rgb;   /* [max_images, side, side, 3] */
    char *pixel; /* floats [3][256] */

    /* Pinned host memory */
    char *host_step;  /* at.bytes */
    char *host_token; /* int32 [at.max_logits] */
    char *host_rgb;
    char *host_rows; /* host_rows_bytes for reading and writing activations */
    size_t host_rows_bytes;

    /* Events. A recorded one says when what is named has happened. */
    cudaEvent_t step_copied;          /* host_step may be written again */
    cudaEvent_t drawn;                /* host_token holds the tokens */
    cudaEvent_t rgb_copied;           /* host_rgb may be written again */
    cudaEvent_t steps_done;           /* the decoder's work so far */
    cudaEvent_t features_made;        /* the vision lane's last features */
    cudaEvent_t busy_begin, busy_end; /* of a run of vision work without a gap */
    bool is_busy;                     /* busy_begin and busy_end are recorded */
    uint64_t busy_ns;                 /* of finished runs since the last poll that said idle */

    /* The step under way */
    const cog_batch *batch;
    int rows, language_rows, n_logits; /* with padding */
    int bucket;                        /* of a padded step; -1: not padded */
    cog_cuda_path path;
    cog_cuda_run *run; /* [at.max_seqs] */
    int n_tiles;
    int grid_items;      /* items of attention row by row that the launch is made for */
    int n_draws;         /* placed in the step buffer */
    cog_act *pending;    /* delta waits to be added to this; NULL: none does */
    uint64_t *has_edit;  /* bits [vocab], zero between draws, and */
    cog_cuda_edit *edit; /* [vocab] what they stand for: for making a draw's list */

    cudaGraphExec_t recorded[COG_CUDA_BUCKETS];
    int (*recorded_issue)(void *arg); /* what they repeat */
    void *recorded_arg;
    bool is_replay_broken;
};

static inline void *cog_cuda_at(const cog_backend *be, const cog_act *a, int row)
{
    return a->data + (size_t)row * a->ld * be->elem;
}

/* Row of a buffer of `cols` columns. */
static inline void *cog_cuda_row(const cog_backend *be, char *data, int row, int cols)
{
    return data + (size_t)row * cog_cuda_ld(cols) * be->elem;
}

/* The array of the step at this offset. */
static inline void *cog_cuda_host(const cog_backend *be, size_t offset)
{
    return be->host_step + offset;
}

static inline void *cog_cuda_device(const cog_backend *be, size_t offset)
{
    return be->step + offset;
}

/* The smallest bucket that holds rows; rows when there is none. */
int cog_cuda_padded(int rows);
/* Index of a bucket; -1 when rows is none. */
int cog_cuda_bucket(int rows);

/* Every call ends with this: a device error is kept. Returns rc. */
static inline int cog_cuda_end(cog_backend *be, int rc)
{
    be->failed |= rc == COG_EDEVICE;
    return rc;
}

/* Before a weight is used: waits for the uploads, and tunes the products of new shapes. Costs
 * nothing when no weight was made since. 0 or COG_EDEVICE. */
int cog_cuda_ready(cog_backend *be);

/* dst = a * w^T + bias for rows rows; 0 rows are fine. */
int cog_cuda_product_run(cog_backend *be, const cog_cuda_lane *lane, void *dst, const void *a,
                         const cog_weight *w, const cog_weight *bias, int rows);

/* What is recorded names memory that is about to go. */
void cog_cuda_forget(cog_backend *be);

/* ---- acts.c ---- */

int cog_cuda_act_new(cog_backend *be, cog_act **out, int rows, int cols);
void cog_cuda_act_free(cog_backend *be, cog_act *a);
int cog_cuda_act_read(cog_backend *be, float *dst, const cog_act *a, int first, int rows);
int cog_cuda_act_write(cog_backend *be, cog_act *a, const float *src, int first, int rows);
int cog_cuda_logits_read(cog_backend *be, float *dst);
int cog_cuda_logits_row(cog_backend *be, float *dst, int row);

/* ---- step.c ---- */

void cog_cuda_lay_step(cog_cuda_layout *at, const cog_device_config *cfg);
int cog_cuda_step_begin(cog_backend *be, const cog_batch *b);
int cog_cuda_embed_step(cog_backend *be, cog_act *x, const cog_weight *table);
int cog_cuda_attention(cog_backend *be, cog_act *x, const cog_layer *w, int layer);
int cog_cuda_ffn(cog_backend *be, cog_act *x, const cog_layer *w);
int cog_cuda_logits(cog_backend *be, const cog_act *x, const cog_head *w);
int cog_cuda_replay(cog_backend *be, int (*issue)(void *arg), void *arg);
int cog_cuda_copy_page(cog_backend *be, int dst, int src, int n_slots);
/* Adds what waits to the residual stream it belongs to. */
int cog_cuda_flush(cog_backend *be);
/* Host to device, bytes [from, to) of the step buffer. */
int cog_cuda_copy_step(cog_backend *be, size_t from, size_t to);

/* ---- draw.c ---- */

int cog_cuda_sample_step(cog_backend *be, int32_t *token);

/* ---- plan_step.c ---- */

/* max_tiles, max_items and max_partials from the other numbers. */
void cog_cuda_plan_limits(cog_cuda_layout *at, const cog_device_config *cfg);
/* Order, tiles and items of the rows in the step buffer. */
void cog_cuda_plan_step(cog_backend *be);

/* ---- vision.c ---- */

/* Sets the places relative to base (NULL: only measures); returns the bytes. */
size_t cog_cuda_lay_vision(cog_cuda_vision *out, char *base, const cog_device_config *cfg);
/* The attention of that many pictures of a pass. */
cog_cuda_dense cog_cuda_tower_attention(const cog_backend *be, int n_images);
int cog_cuda_vit_embed(cog_backend *be, cog_act *x, const uint8_t *const *rgb, int n_images,
                       const cog_vit_embed *w);
int cog_cuda_vit_block(cog_backend *be, cog_act *x, int n_images, const cog_vit_layer *w);
int cog_cuda_vit_project(cog_backend *be, cog_act *const *features, const cog_act *x, int n_images,
                         const cog_adapter *w);
int cog_cuda_vision_poll(cog_backend *be, bool wait, bool *idle, uint64_t *busy_ns);

#endif
