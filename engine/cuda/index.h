/* index.h - where things are in device memory, in plain C: kernels use these functions, and host
 * tests enumerate them. */
#ifndef COG_ENGINE_CUDA_INDEX_H
#define COG_ENGINE_CUDA_INDEX_H

#include <stddef.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define COG_INDEX static __host__ __device__ inline
#else
#define COG_INDEX static inline
#endif

/* The KV pool, [layers][n_blocks][k, v][kv_heads][block][ld] elements; ld = head_dim rounded up to
 * 8, so that every row of 2-byte elements starts at a multiple of 16 bytes. Elements past head_dim
 * are never read. The tile of one head in one page is contiguous. */
typedef struct cog_cuda_kv {
    void *data;
    int layers, n_blocks, kv_heads, block, head_dim, ld;
    int block_shift; /* log2 of block */
} cog_cuda_kv;

COG_INDEX size_t cog_kv_head_elements(const cog_cuda_kv *kv)
{
    return (size_t)kv->block * (size_t)kv->ld;
}

/* Elements of a page in one layer. */
COG_INDEX size_t cog_kv_page_elements(const cog_cuda_kv *kv)
{
    return 2 * (size_t)kv->kv_heads * cog_kv_head_elements(kv);
}

/* Index of the first element of a slot's key; its value is cog_kv_value_offset elements on. page is
 * from the sequence's block table, slot_in_page < block. */
COG_INDEX size_t cog_kv_at(const cog_cuda_kv *kv, int layer, int page, int head, int slot_in_page)
{
    return ((size_t)layer * (size_t)kv->n_blocks + (size_t)page) * cog_kv_page_elements(kv) +
           (size_t)head * cog_kv_head_elements(kv) + (size_t)slot_in_page * (size_t)kv->ld;
}

COG_INDEX size_t cog_kv_value_offset(const cog_cuda_kv *kv)
{
    return (size_t)kv->kv_heads * cog_kv_head_elements(kv);
}

/* Attention adds up a row's slots in segments of this many, each on its own, then merges the
 * segments in ascending order, whatever the work was split into. */
enum { COG_SEGMENT = 256 };

COG_INDEX int cog_segments(int slots)
{
    return (slots + COG_SEGMENT - 1) / COG_SEGMENT;
}

/* One piece of row-by-row attention: segments first .. first + n - 1 of a row, for all its heads. A
 * row is covered by items of ascending first; total says how many segments it has. */
typedef struct cog_attn_item {
    int32_t row, seq; /* of the batch */
    int32_t slots;    /* that the row sees: its own slot + 1 */
    int32_t first, n, total;
    int32_t partial; /* row of the partial sums' buffer, used when n < total */
} cog_attn_item;

enum { COG_FLASH_ROWS = 64 }; /* query rows of one tile */

/* A tile of tiled attention: rows order[first] .. order[first + rows - 1] of the batch, all of one
 * sequence, with slots slot, slot + 1, ...; each sees the slots up to its own. */
typedef struct cog_flash_tile {
    int32_t first, rows, seq, slot;
} cog_flash_tile;

#endif
