/* kernels.h - the inner loops of the CPU backend, one table per instruction set and numeric mode.
 *
 * "Element" below is the mode's type: float in COG_F32, a bf16 bit pattern in COG_BF16. Arithmetic
 * is f32 in both; a value stored as an element is rounded there, once, to nearest even. A table is
 * filled from kernels_ref.c first and overwritten by what the CPU has. kernels_ref.c is the
 * specification.
 *
 * Every output element is computed by one fixed sequence of operations per variant, whatever the
 * number of rows in the call: products add up in ascending k (vdpbf16ps: in ascending pairs), and
 * attention visits its KV slots in steps of COG_ATTN_STEP that start at multiples of it. Kernels
 * are pure and may run on any thread. */
#ifndef COG_ENGINE_CPU_KERNELS_H
#define COG_ENGINE_CPU_KERNELS_H

#include "engine/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    /* Outputs of one packed weight panel. A panel is, for f32, [k][64]; for bf16, pairs of k side
     * by side as VDPBF16PS wants them: [ceil(k / 2)][64][2]. Outputs past the last and the odd k
     * are zero. */
    COG_PANEL = 64,
    /* KV slots of one tile. Keys are stored so that 16 scores come from one vector, values so that
     * 16 dimensions do; with dim = head_dim rounded up to even, f32: K [dim][16], V [16][dim];
     * bf16: K [dim / 2][16][2], V [8][dim][2]. A tile never straddles pages: they hold a multiple
     * of 16 slots. */
    COG_TILE = 16,
    COG_ATTN_STEP = 64, /* slots between two updates of a row's running maximum */
    COG_ATTN_ROWS = 32, /* query rows of one attention call at most */
};

/* Elements of one K or V tile. */
static inline size_t cog_tile_elements(int head_dim)
{
    return (size_t)COG_TILE * (size_t)((head_dim + 1) & ~1);
}

/* Elements of one packed panel. */
static inline size_t cog_panel_elements(int k, cog_dtype dtype)
{
    return (size_t)COG_PANEL * (size_t)(dtype == COG_F32 ? k : (k + 1) & ~1);
}

/* Floats of scratch for one attention call. */
static inline size_t cog_attn_scratch(int head_dim)
{
    return (size_t)COG_ATTN_ROWS * (size_t)(((head_dim + 15) & ~15) + COG_ATTN_STEP + 2);
}

/* Where the tiles of one head are: tile t is tile (t % tiles per page) of page pages[t / tiles per
 * page], or, without a page table, the t-th of one run. Strides in bytes. */
typedef struct cog_kv_view {
    const char *k, *v;
    size_t tile_bytes, page_bytes;
    int page_shift;       /* log2 of tiles per page */
    const int32_t *pages; /* NULL: no pages */
} cog_kv_view;

static inline size_t cog_kv_tile_at(const cog_kv_view *kv, int tile)
{
    if (!kv->pages)
        return (size_t)tile * kv->tile_bytes;
    return (size_t)kv->pages[tile >> kv->page_shift] * kv->page_bytes +
           (size_t)(tile & ((1 << kv->page_shift) - 1)) * kv->tile_bytes;
}

typedef enum cog_gemm_out {
    COG_OUT_STORE, /* element = acc + bias */
    COG_OUT_ADD,   /* element = element + rounded(acc + bias): a residual stream, two roundings */
    COG_OUT_FLOAT, /* float = acc + bias rounded to the element type */
} cog_gemm_out;

typedef struct cog_kernels {
    const char *isa; /* of the fastest kernel in the table: "ref", "avx2", ... */
    cog_dtype dtype;

    /* acc[rows, 64] = (add ? acc : 0) + a[rows, k] * panel^T. lda in elements. Reads exactly k
     * elements of each row of a. k is even when more of the sum follows in another call; but for
     * the reference, which rounds there, the sum's bits do not show the cut. */
    void (*gemm)(float *acc, const void *a, size_t lda, int rows, const void *panel, int k,
                 bool add);
    /* dst[n] from acc[n], n <= 64; bias [n] or NULL. */
    void (*gemm_out)(void *dst, const float *acc, const float *bias, int n, cog_gemm_out how);

    /* out[r][head_dim] = softmax(scale * q[r] K^T) V over slots 0 .. slots[r] - 1, slots[r] >= 1.
     * rows <= COG_ATTN_ROWS; q[r], out[r]: elements; scratch: cog_attn_scratch floats. Scores,
     * maximum and sum are f32; in bf16 the weights exp(score - running maximum) are rounded to bf16
     * before they meet V, as the reference's fused kernels do, while their sum is not. Tiles with
     * no visible slot are not read; nor do slots past slots[r] reach the result. */
    void (*attention)(void *const *out, const void *const *q, const int32_t *slots, int rows,
                      int head_dim, float scale, const cog_kv_view *kv, float *scratch);

    /* dst = (x - mean) / sqrt(variance + eps) * w + b, over n; variance biased. dst may be x. Ba,
     * Kiros, Hinton, "Layer normalization", 2016. */
    void (*layernorm)(void *dst, const void *x, const float *w, const float *b, int n, float eps);
    /* dst = w * (x / sqrt(mean(x^2) + eps)): one rounding, after the weight. dst may be x. Zhang,
     * Sennrich, "Root mean square layer normalization", 2019. */
    void (*rmsnorm)(void *dst, const void *x, const float *w, int n, float eps);
    /* dst = x / 2 * (1 + erf(x / sqrt 2)): the exact form. dst may be x. */
    void (*gelu)(void *dst, const void *x, int n);
    /* dst = rounded(gate / (1 + exp(-gate))) * up. dst may be gate or up. */
    void (*silu_mul)(void *dst, const void *gate, const void *up, int n);
    /* dst = a + b. dst may be a or b. */
    void (*add)(void *dst, const void *a, const void *b, int n);
    /* In place on heads of head_dim (even) elements side by side; cos, sin [head_dim / 2]. Each
     * product is rounded, then their sum. */
    void (*rope)(void *x, const float *cos, const float *sin, int heads, int head_dim);
    void (*to_float)(float *dst, const void *x, int n);
    void (*from_float)(void *dst, const float *x, int n);

    /* n times peak_flop floating-point operations of the kind gemm rests on, in registers: what one
     * core can do at most. NULL in the reference. */
    float (*peak)(int n);
    int peak_flop;
} cog_kernels;

/* The best table for flags (cog_cpu_flags()). */
void cog_kernels_get(cog_kernels *out, cog_dtype dtype, unsigned flags);

/* Fill or overwrite entries; each exists where its instruction set does. */
void cog_kernels_ref(cog_kernels *k, cog_dtype dtype);
void cog_kernels_avx2(cog_kernels *k, cog_dtype dtype);
void cog_kernels_avx512(cog_kernels *k, cog_dtype dtype);
void cog_kernels_avx512bf16(cog_kernels *k, cog_dtype dtype); /* changes nothing in COG_F32 */

/* Places the key and value of one slot into its tiles. k, v: head_dim elements. */
void cog_kv_put(void *k_tile, void *v_tile, int slot_in_tile, const void *k, const void *v,
                int head_dim, cog_dtype dtype);

#endif
