/* cpu.h - what the files of the CPU backend share. Private to engine/cpu.
 *
 * Activations are row-major elements of the mode's type with a leading dimension of their own.
 * Everything a step or a picture needs is reserved in open; see scratch below for who uses what. */
#ifndef COG_ENGINE_CPU_CPU_H
#define COG_ENGINE_CPU_CPU_H

#include "engine/backend.h"
#include "engine/cpu/kernels.h"
#include "engine/pool.h"

enum {
    /* Rows whose inner MLP activations exist at a time, in the vision tower and the adapter. */
    COG_CPU_CHUNK = 480,
    COG_CPU_ROWS =
        2, /* rows of one item of a row-by-row section: few, so that small batches share */
};

struct cog_weight {
    cog_weight_use use;
    int rows, cols;
    float *vector; /* VECTOR: [rows * cols], values already rounded to the mode's type */
    char *data;    /* MATRIX: packed panels, [ceil(rows / 64)]; ROWS: elements [rows, cols] */
    size_t panel_bytes;
};

struct cog_act {
    int rows, cols;
    size_t ld; /* elements from row to row */
    char *data;
};

/* A thread's own memory in a parallel section. */
typedef struct cog_cpu_thread {
    float *acc;  /* [COG_GEMM_ROWS, COG_PANEL]: the sums of one product's item */
    float *attn; /* cog_attn_scratch of the larger head */
    float *row;  /* a row of either residual stream, or a line of a patch */
} cog_cpu_thread;

struct cog_backend {
    cog_device_config cfg;
    cog_model_config model; /* a copy of *cfg.model */
    cog_kernels kern;
    size_t elem; /* bytes of an element */
    cog_pool *pool;
    cog_cpu_thread *thread; /* one per thread of the pool */
    char text[160];         /* describe */

    /* Decoder, [max_rows, .]; norm, gate_up and inner also serve the adapter and have at least
     * COG_CPU_CHUNK rows. */
    cog_act *norm;    /* [., hidden]: a norm's output */
    cog_act *qkv;     /* [., (heads + 2 * kv_heads) * head_dim] */
    cog_act *mixed;   /* [., heads * head_dim]: attention output */
    cog_act *gate_up; /* [., 2 * inter] */
    cog_act *inner;   /* [., inter]: what down reads */

    /* Vision, one picture at a time. */
    cog_act *vit_qkv;          /* [tokens, 3 * hidden] */
    cog_act *vit_mixed;        /* [tokens, hidden]: attention output */
    cog_act *vit_out;          /* [tokens, hidden]: what a norm reads */
    cog_act *vit_inner;        /* [COG_CPU_CHUNK, .]: patches as rows, or fc1's output */
    char *vit_kv;              /* [heads][k, v] runs of tiles over all tokens */
    size_t vit_tile, vit_part; /* bytes of a tile, of a run */

    /* [n_blocks][layers][k, v][kv_heads][block / COG_TILE] tiles */
    char *kv;
    size_t kv_tile, kv_head, kv_part, kv_layer, kv_page; /* bytes */

    float *logits; /* [max_seqs, vocab] of the step */
    cog_sampler *sampler;
    uint64_t vision_ns; /* worked on vision since the last poll */

    const cog_batch *batch;
    int *run; /* [n_runs + 1]: run i is rows run[i] .. run[i + 1] - 1, all of one sequence */
    int n_runs;

    float pixel[3][256]; /* channel values, normalised and rounded to the mode's type */
};

/* ---- memory: aligned, large blocks on huge pages, not zeroed; NULL when there is none ---- */

void *cog_cpu_mem(size_t n, size_t size);

/* ---- activations ---- */

int cog_cpu_act_new(cog_backend *be, cog_act **out, int rows, int cols);
void cog_cpu_act_free(cog_backend *be, cog_act *a);

static inline char *cog_cpu_at(const cog_backend *be, const cog_act *a, int row, int col)
{
    return a->data + ((size_t)row * a->ld + (size_t)col) * be->elem;
}

/* ---- weight.c ---- */

int cog_cpu_weight(cog_backend *be, cog_weight **out, const cog_tensor *const *parts, int n_parts,
                   cog_weight_use use, cog_err *err);
int cog_cpu_weight_random(cog_backend *be, cog_weight **out, int rows, int cols, cog_weight_use use,
                          uint64_t key, float center, float spread, cog_err *err);
void cog_cpu_weight_free(cog_backend *be, cog_weight *w);

static inline const char *cog_cpu_weight_row(const cog_backend *be, const cog_weight *w, int row)
{
    return w->data + (size_t)row * (size_t)w->cols * be->elem;
}

/* ---- gemm.c ---- */

enum { COG_GEMM_ROWS = 240 }; /* rows of one work item */

typedef struct cog_gemm {
    const cog_weight *w;    /* MATRIX [n, k] */
    const cog_weight *bias; /* VECTOR [n] or NULL */
    const char *a;          /* [rows, k] elements */
    size_t lda;             /* elements */
    char *dst;              /* [rows, n] elements, or floats for COG_OUT_FLOAT */
    size_t ldd;             /* elements, or floats */
    int rows;               /* 0 is fine */
    cog_gemm_out how;
} cog_gemm;

enum { COG_MAX_GEMMS = 2 };

/* dst = a * w^T for up to COG_MAX_GEMMS products, in one parallel section. */
void cog_cpu_gemm(cog_backend *be, const cog_gemm *g, int n);

/* ---- the block operations, as in backend.h ---- */

int cog_cpu_vit_embed(cog_backend *be, cog_act *x, const uint8_t *const *rgb, int n_images,
                      const cog_vit_embed *w);
int cog_cpu_vit_block(cog_backend *be, cog_act *x, int n_images, const cog_vit_layer *w);
int cog_cpu_vit_project(cog_backend *be, cog_act *const *features, const cog_act *x, int n_images,
                        const cog_adapter *w);
int cog_cpu_step_begin(cog_backend *be, const cog_batch *b);
int cog_cpu_embed(cog_backend *be, cog_act *x, const cog_weight *table);
int cog_cpu_attention(cog_backend *be, cog_act *x, const cog_layer *w, int layer);
int cog_cpu_ffn(cog_backend *be, cog_act *x, const cog_layer *w);
int cog_cpu_logits(cog_backend *be, const cog_act *x, const cog_head *w);
int cog_cpu_sample(cog_backend *be, int32_t *token);
int cog_cpu_logits_read(cog_backend *be, float *dst);
int cog_cpu_logits_row(cog_backend *be, float *dst, int row);
int cog_cpu_kv_copy(cog_backend *be, int dst, int src, int n_slots);

/* inner = silu(gate) * up of gate_up, the first rows rows. */
void cog_cpu_silu_mul(cog_backend *be, int rows);

/* Row-by-row sections hand out pieces of COG_CPU_ROWS rows. */
static inline int cog_cpu_pieces(int rows)
{
    return (rows + COG_CPU_ROWS - 1) / COG_CPU_ROWS;
}

static inline int cog_cpu_piece_end(int piece, int rows)
{
    return rows - piece * COG_CPU_ROWS < COG_CPU_ROWS ? rows : (piece + 1) * COG_CPU_ROWS;
}

#endif
