/* kernels.h - the launchers of the .cu files of this folder.
 *
 * Each enqueues its work on the stream and returns at once: 0, or COG_EDEVICE (logged). None
 * allocates or waits, so all of them may be recorded. Pointers are device memory unless said
 * otherwise; "element" is the numeric mode's type, float or a bf16 bit pattern, as `type` says; ld
 * is the distance of rows in elements; every row of an activation or a weight starts at a multiple
 * of 16 bytes, and elements between cols and ld are neither read nor written. Arithmetic is f32; a
 * value stored as an element is rounded there, once, to nearest even, and "rounded" below is a
 * rounding to the element type in between, where the reference has one. Sums over a row have a
 * fixed order that depends on its length only. Where a formula has a CPU twin, engine/cpu/kernels.h
 * is the specification. rows = 0 is fine everywhere.
 *
 * The *_prepare functions load a file's kernels and raise their limits; once, before anything. */
#ifndef COG_ENGINE_CUDA_KERNELS_H
#define COG_ENGINE_CUDA_KERNELS_H

#include "engine/cuda/index.h"
#include "engine/tensor.h"

#include <cuda_runtime.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0 for cudaSuccess; otherwise logs what failed and why, and returns COG_EDEVICE. */
int cog_cuda_check(cudaError_t error, const char *what);

/* ---- norm.cu ---- */

int cog_cuda_norm_prepare(void);
/* For i < rows, r = row ? row[i] : i (rows distinct):
 *   x[r] = x[r] + delta[r]   when delta is not NULL (one rounding)
 *   out[i] = w * (x[r] / sqrt(mean(x[r]^2) + eps)),   w [cols] elements
 * delta is an already rounded product that waits for its addition. */
int cog_cuda_rmsnorm(cudaStream_t s, cog_dtype type, void *out, size_t ld_out, void *x, size_t ld_x,
                     const void *delta, size_t ld_delta, const int32_t *row, const void *w,
                     int rows, int cols, float eps);
/* x = x + delta */
int cog_cuda_add(cudaStream_t s, cog_dtype type, void *x, size_t ld_x, const void *delta,
                 size_t ld_delta, int rows, int cols);
/* x = x + rounded(LN(y)); w, b [cols] elements */
int cog_cuda_add_layernorm(cudaStream_t s, cog_dtype type, void *x, size_t ld_x, const void *y,
                           size_t ld_y, const void *w, const void *b, int rows, int cols,
                           float eps);
/* y = gelu(rounded(LN(y))), exact form */
int cog_cuda_layernorm_gelu(cudaStream_t s, cog_dtype type, void *y, size_t ld_y, const void *w,
                            const void *b, int rows, int cols, float eps);

/* ---- act.cu ---- */

int cog_cuda_act_prepare(void);
/* y = gelu(y), exact form */
int cog_cuda_gelu(cudaStream_t s, cog_dtype type, void *y, size_t ld_y, int rows, int cols);
/* dst[., inter] = rounded(silu(gate)) * up of gate_up[., 2 * inter]: gate first, then up */
int cog_cuda_silu_mul(cudaStream_t s, cog_dtype type, void *dst, size_t ld_dst, const void *gate_up,
                      size_t ld_gate_up, int rows, int inter);

/* ---- embed.cu ---- */

int cog_cuda_embed_prepare(void);
/* x[r] = feature[r] < 0 ? table[token[r]] : features[seq[r]][feature[r]]; features [seqs] pointers
 * in device memory, rows ld_features apart */
int cog_cuda_embed(cudaStream_t s, cog_dtype type, void *x, size_t ld_x, const void *table,
                   size_t ld_table, const int32_t *token, const int32_t *feature,
                   const int32_t *seq, const void *const *features, size_t ld_features, int rows,
                   int cols);
/* dst[image * grid^2 + patch] = the patch's pixels in (channel, y, x) order as
 * pixel[channel][byte], rounded; rgb [n_images, side, side, 3], pixel [3][256] floats, grid = side
 * / patch */
int cog_cuda_vit_patches(cudaStream_t s, cog_dtype type, void *dst, size_t ld_dst,
                         const uint8_t *rgb, const float *pixel, int n_images, int side, int patch);
/* x[image * tokens] = cls + position[0];
 * x[image * tokens + 1 + p] = rounded(patches[image * (tokens - 1) + p] + bias) + position[1 + p]
 */
int cog_cuda_vit_position(cudaStream_t s, cog_dtype type, void *x, size_t ld_x, const void *patches,
                          size_t ld_patches, const void *bias, const void *cls,
                          const void *position, size_t ld_position, int n_images, int tokens,
                          int cols);
/* Values of a random weight: see weight_random in backend.h. Elements of cols .. ld become 0. */
int cog_cuda_random(cudaStream_t s, cog_dtype type, void *dst, size_t ld, int rows, int cols,
                    uint64_t key, float center, float spread);

/* ---- rope_kv.cu ---- */

int cog_cuda_rope_kv_prepare(void);
/* qkv[rows, (heads + 2 * kv_heads) * head_dim]: rotates queries and keys in place, each product
 * rounded, then their sum (cos, sin [n_positions, head_dim / 2] floats, row position[r]); writes
 * key and value to slot[r] of sequence seq[r]: page block_table[seq[r] * max_blocks + slot / block]
 * of the layer. */
int cog_cuda_rope_kv(cudaStream_t s, cog_dtype type, void *qkv, size_t ld_qkv, const float *cos,
                     const float *sin, const cog_cuda_kv *kv, int layer, const int32_t *position,
                     const int32_t *slot, const int32_t *seq, const int32_t *block_table,
                     int max_blocks, int rows, int heads);
/* The first n_slots slots of page src to page dst, all layers and heads. */
int cog_cuda_kv_copy(cudaStream_t s, cog_dtype type, const cog_cuda_kv *kv, int dst, int src,
                     int n_slots);

/* ---- attention_rows.cu: any type, any head_dim <= 256, row by row ---- */

int cog_cuda_attention_rows_prepare(void);
/* Whether the code that is loaded may be launched as dependent. */
bool cog_cuda_attention_rows_can_depend(void);
/* Floats of the partial sums of one row: [heads][max_segments][head_dim + 2]. */
static inline size_t cog_attn_partial_floats(int heads, int head_dim, int max_segments)
{
    return (size_t)heads * (size_t)max_segments * (size_t)(head_dim + 2);
}
/* out[row] = softmax(scale * q[row] K^T) V for the heads of every item's row; q and out are rows of
 * heads * head_dim elements, out not q; kv_heads divides heads. Segments and their merging as in
 * index.h: the bits do not depend on how items cut a row. n_items: one number in device memory, at
 * most max_items: the grid is made for max_items. partial: cog_attn_partial_floats for every
 * item.partial; done: [partial rows][kv_heads] counters, zero before the first call and after each.
 * dependent: items, n_items and block_table are read before the preceding kernel has ended; a copy
 * wrote them, or a kernel before a launch that is not dependent. */
int cog_cuda_attention_rows(cudaStream_t s, cog_dtype type, void *out, size_t ld_out, const void *q,
                            size_t ld_q, const cog_cuda_kv *kv, int layer,
                            const int32_t *block_table, int max_blocks, const cog_attn_item *items,
                            const int32_t *n_items, int max_items, float *partial, int max_segments,
                            uint32_t *done, int heads, float scale, bool dependent);
/* A picture's tokens see each other: qkv [n_images * tokens, 3 * heads * head_dim], out [., heads *
 * head_dim]. */
int cog_cuda_attention_rows_dense(cudaStream_t s, cog_dtype type, void *out, size_t ld_out,
                                  const void *qkv, size_t ld_qkv, int n_images, int tokens,
                                  int heads, int head_dim, float scale);

/* ---- attention_flash.cu: bf16, tiles of COG_FLASH_ROWS queries on tensor cores ----
 *
 * Online softmax over tiles of 64 slots (Milakov, Gimelshein 2018; Dao 2023): weights rounded to
 * bf16 before they meet V, their sum not. */

int cog_cuda_flash_prepare(void);
/* head_dim is a multiple of 8, at most 128. */
bool cog_cuda_flash_fits(cog_dtype type, int head_dim);
/* Causal, over pages: see cog_flash_tile. order [rows of the batch]. */
int cog_cuda_flash_paged(cudaStream_t s, void *out, size_t ld_out, const void *q, size_t ld_q,
                         const cog_cuda_kv *kv, int layer, const int32_t *block_table,
                         int max_blocks, const int32_t *order, const cog_flash_tile *tiles,
                         int n_tiles, int heads, float scale);
int cog_cuda_flash_dense(cudaStream_t s, void *out, size_t ld_out, const void *qkv, size_t ld_qkv,
                         int n_images, int tokens, int heads, int head_dim, float scale);

/* ---- skinny.cu: bf16 products of up to COG_SKINNY_ROWS rows, bound by reading the weight once
 * ----
 *
 * The norm before a product is recomputed in each block: it reads a few rows that lie in the L2. A
 * row's bits do not depend on the other rows, nor on how many there are. */

enum { COG_SKINNY_ROWS = 32 };

typedef struct cog_skinny {
    const void *x; /* [rows, k] */
    size_t ld_x;
    const int32_t *row; /* [rows] rows of x that are meant, or NULL */
    const void *norm;   /* [k] weight of an RMSNorm before the product, or NULL */
    float eps;          /* of the norm */
    const void *w;      /* [n, k], ld_w a multiple of 8, zeros between k and ld_w */
    size_t ld_w;
    const void *bias; /* [n] or NULL */
    int rows, n, k;
    bool dependent;
} cog_skinny;

int cog_cuda_skinny_prepare(void);
/* Whether the code that is loaded may be launched as dependent. */
bool cog_cuda_skinny_can_depend(void);
/* Shapes that the fused kernels can do: head_dim a multiple of 16 and so on. */
bool cog_cuda_skinny_fits(cog_dtype type, int hidden, int inter, int head_dim);
/* out = rounded(product + bias) */
int cog_cuda_skinny_store(cudaStream_t s, const cog_skinny *p, void *out, size_t ld_out);
/* x = x + rounded(product): a residual stream; x has p->rows rows and is not p->x */
int cog_cuda_skinny_add(cudaStream_t s, const cog_skinny *p, void *x, size_t ld_x);
/* out[., n / 2] = rounded(silu(rounded(gate))) * rounded(up); w: gate rows, then up rows */
int cog_cuda_skinny_gate_up(cudaStream_t s, const cog_skinny *p, void *out, size_t ld_out);
/* As cog_cuda_rope_kv on the rounded product: out gets the rotated queries (heads * head_dim
 * columns only), pages get keys and values. */
int cog_cuda_skinny_qkv(cudaStream_t s, const cog_skinny *p, void *out, size_t ld_out,
                        const float *cos, const float *sin, const cog_cuda_kv *kv, int layer,
                        const int32_t *position, const int32_t *slot, const int32_t *seq,
                        const int32_t *block_table, int max_blocks, int heads);

/* ---- sample.cu ---- */

/* A draw as the device sees it. What changes single logits travels as a list of edits: each token
 * of the prompt's text, the output, the biases and the mask once, ascending. */
typedef struct cog_cuda_draw {
    int32_t row; /* of the logits */
    float temperature, top_p, min_p;
    int32_t top_k;
    float repetition, frequency, presence;
    uint64_t bits; /* the random number of this draw, 64 bits */
    int32_t first_edit, n_edits;
    int32_t only_edits; /* tokens without an edit are not drawn */
} cog_cuda_draw;

typedef struct cog_cuda_edit {
    int32_t token;
    int32_t count; /* times in the output; 0: in the prompt's text only; -1: in neither */
    float bias;    /* -infinity: the token is not drawn */
} cog_cuda_edit;

int cog_cuda_sample_prepare(void);
/* Floats of scratch for n draws. */
size_t cog_cuda_sample_scratch(int vocab, int n_draws);
/* token[i] = what cog_sampler_pick gives, the same token always, or -1 where it fails. logits
 * [., vocab] elements, left as they are. */
int cog_cuda_sample(cudaStream_t s, cog_dtype type, int32_t *token, const void *logits,
                    size_t ld_logits, int vocab, const cog_cuda_draw *draws,
                    const cog_cuda_edit *edits, int n_draws, float *scratch);

#ifdef __cplusplus
}
#endif

#endif
