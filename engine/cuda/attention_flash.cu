/* attention_flash.cu - attention of many rows of one sequence, on tensor cores, bf16.
 *
 *   out = sum_j exp(score(j) - max) v(j) / sum_j exp(score(j) - max),  score(j) = scale q . k(j)
 *
 * Milakov, Gimelshein, "Online normalizer calculation for softmax", 2018; Dao, "FlashAttention-2",
 * 2023. Weights are rounded to bf16 before they meet v, their sum is not; exp(scale x) is
 * exp2(scale log2(e) x).
 *
 * Map: a block is 64 query rows of one head, a warp is 16 of them. It walks tiles of 64 slots in
 * ascending order, from multiples of 64: a row's running maximum, sum and result see the same
 * values in the same order whatever other rows share its block, so its bits do not depend on how a
 * prompt was cut. While a tile is multiplied the next one is copied into the other half of shared
 * memory, past the registers; one barrier a tile. Slots past the last one that the block sees are
 * not read: keys and values are zeros there (0 * NaN is NaN), and hidden slots weigh 0.
 *
 * Shared memory: rows of K and V are DIM + 8 elements apart, an odd number of 16-byte chunks, so
 * the 8 rows that one phase of ldmatrix reads (or 8 lanes' copies write) lie in 8 different groups
 * of 4 banks: no conflicts. DIM = 128: 69632 bytes, 3 blocks on an SM with 227 KiB, 2 with 163, 1
 * with 99.
 *
 * Limits, DIM = 128: a tile costs each warp 64 ldmatrix.x4 of 512 bytes, 128 KiB a block or 1024
 * clocks of shared memory's 128 bytes a clock, for 2.1 MFLOP: 2048 FLOP a clock and SM at most. */
#include "engine/cuda/launch.cuh"

#include <math.h>

namespace
{

enum { WARPS = 4, THREADS = 32 * WARPS, TILE = 64, PAD = 8 };

static_assert(COG_FLASH_ROWS == 16 * WARPS, "16 rows a warp");

/* Blocks on an SM, as shared memory allows with DIM = 128; bounds the registers. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1200
enum { BLOCKS = 3 };
#else
enum { BLOCKS = 2 };
#endif

constexpr float LOG2_E = 1.44269504f;

/* What both kernels walk. */
struct walk {
    int head_dim;
    int last;      /* slot that the block sees */
    int own;       /* slot of the block's row 0, which sees no further */
    cog_bf16 *out; /* of the head, in row 0 of the batch or the block */
};

/* How the 16-byte chunks of a tile are dealt out: LANES threads to a row. */
template <int DIM> struct deal {
    static constexpr int CHUNKS = DIM / 8, LANES = CHUNKS > 8 ? 16 : CHUNKS;
    static constexpr int ROWS = THREADS / LANES; /* at a time */
    static_assert(DIM % 16 == 0 && (CHUNKS + PAD / 8) % 2 == 1, "conflicts");
};

/* ---- where keys and values are ---- */

struct paged_view {
    static constexpr bool CAUSAL = true;
    const cog_bf16 *data; /* slot 0 of page 0, this head */
    const int32_t *pages;
    int page, value,
        ld; /* elements from page to page, from a key to its value, from slot to slot */
    int block_shift;
};

struct dense_view {
    static constexpr bool CAUSAL = false;
    const cog_bf16 *data;
    int value, ld;
};

template <int DIM, typename V> struct flash_shared {
    cog_bf16 k[2][TILE][DIM + PAD]; /* k[1] holds the queries first, and the results last */
    cog_bf16 v[2][TILE][DIM + PAD];
    V view; /* here, not in registers: there are none left */
    walk w;
};

/* The page of the 16 slots of a tile that a lane answers for; 0 past the last slot. */
COG_DEVICE int page_of(const paged_view &v, int tile, int last)
{
    int slot = tile * TILE + static_cast<int>(threadIdx.x % 4) * 16;

    return slot <= last ? v.pages[slot >> v.block_shift] : 0;
}

COG_DEVICE int page_of(const dense_view &, int, int)
{
    return 0;
}

/* The key of a slot; page: what page_of gave each lane for the slot's tile. */
COG_DEVICE const cog_bf16 *key_at(const paged_view &v, int slot, int page)
{
    int in_page = slot & ((1 << v.block_shift) - 1);
    int its = __shfl_sync(0xffffffffu, page, slot % TILE / 16);

    return v.data + static_cast<int64_t>(its) * v.page + in_page * v.ld;
}

COG_DEVICE const cog_bf16 *key_at(const dense_view &v, int slot, int)
{
    return v.data + static_cast<int64_t>(slot) * v.ld;
}

/* Starts copying a tile's keys and values; zeros past the last slot and past head_dim. */
template <int DIM, typename V>
COG_DEVICE void copy_tile(flash_shared<DIM, V> &s, const V &view, const walk &w, int tile, int page)
{
    using D = deal<DIM>;
    int lane = static_cast<int>(threadIdx.x) % D::LANES;
    int row = static_cast<int>(threadIdx.x) / D::LANES, half = tile & 1;

#pragma unroll 2
    for (int i = 0; i < TILE; i += D::ROWS) {
        int slot = tile * TILE + row + i;
        bool is_seen = slot <= w.last && lane * 8 < w.head_dim;
        const cog_bf16 *k = key_at(view, slot, page);
        k = is_seen ? k + lane * 8 : view.data;
        if (D::LANES == D::CHUNKS || lane < D::CHUNKS) {
            cog_cp_async_16(&s.k[half][row + i][lane * 8], k, is_seen);
            cog_cp_async_16(&s.v[half][row + i][lane * 8], is_seen ? k + view.value : k, is_seen);
        }
    }
    cog_cp_async_commit();
}

/* 16 bytes of shared memory to global memory. */
COG_DEVICE void store_16(void *global, const void *shared)
{
    *static_cast<uint4 *>(global) = *static_cast<const uint4 *>(shared);
}

/* ---- products ---- */

/* What a warp keeps: 16 rows, of which a lane has two, lane / 4 and 8 further. */
template <int DIM> struct state {
    uint32_t q[DIM / 16][4];
    float out[DIM / 8][4];
    float max[2], sum[2]; /* sum: of the lane's own columns */
};

template <int DIM, typename V>
COG_DEVICE void load_queries(state<DIM> &r, const flash_shared<DIM, V> &s)
{
    int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;

#pragma unroll
    for (int k = 0; k < DIM / 16; k++)
        cog_ldmatrix_x4(r.q[k], &s.k[1][warp * 16 + lane % 16][k * 16 + lane / 16 * 8]);
}

/* x[n] = 16 rows against slots 8 n .. 8 n + 7 of the tile */
template <int DIM>
COG_DEVICE void scores(float (&x)[TILE / 8][4], const state<DIM> &r,
                       const cog_bf16 (&k)[TILE][DIM + PAD])
{
    int lane = static_cast<int>(threadIdx.x) % 32;

#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            x[n][i] = 0;
#pragma unroll
    for (int d = 0; d < DIM / 16; d++) {
#pragma unroll
        for (int n = 0; n < TILE / 8; n += 2) {
            uint32_t b[4];
            cog_ldmatrix_x4(b, &k[n * 8 + lane / 16 * 8 + lane % 8][d * 16 + lane / 8 % 2 * 8]);
            cog_mma_bf16(x[n], r.q[d], b);
            cog_mma_bf16(x[n + 1], r.q[d], b + 2);
        }
    }
}

/* Hides slots past `limit` from row lane / 4 and past limit + step from the one 8 further; both
 * counted from the tile's first slot. */
COG_DEVICE void hide(float (&x)[TILE / 8][4], int limit, int step)
{
    int lane = static_cast<int>(threadIdx.x) % 32;

#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (n * 8 + lane % 4 * 2 + i % 2 > limit + i / 2 * step)
                x[n][i] = -INFINITY;
}

/* Scores become weights. Every row sees slot 0, so its maximum is finite from the first tile on. */
template <int DIM> COG_DEVICE void weigh(float (&x)[TILE / 8][4], state<DIM> &r, float scale)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float max = r.max[h];
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
            max = fmaxf(max, fmaxf(x[n][2 * h], x[n][2 * h + 1]));
        max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
        max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
        float keep = cog_exp2((r.max[h] - max) * scale), shift = -max * scale;
        r.max[h] = max;
        r.sum[h] *= keep;
#pragma unroll
        for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float e = cog_exp2(fmaf(x[n][2 * h + i], scale, shift));
                x[n][2 * h + i] = e;
                r.sum[h] += e;
            }
        }
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            r.out[n][2 * h] *= keep;
            r.out[n][2 * h + 1] *= keep;
        }
    }
}

/* out += weights V. A product's result has the layout of a product's left operand. */
template <int DIM>
COG_DEVICE void mix(state<DIM> &r, const float (&x)[TILE / 8][4],
                    const cog_bf16 (&v)[TILE][DIM + PAD])
{
    int lane = static_cast<int>(threadIdx.x) % 32;

#pragma unroll
    for (int k = 0; k < TILE / 16; k++) {
        uint32_t p[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[i] = cog_bf16_pack(x[2 * k + i / 2][i % 2 * 2], x[2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < DIM / 8; n += 2) {
            uint32_t b[4];
            cog_ldmatrix_x4_trans(b, &v[k * 16 + lane % 16][n * 8 + lane / 16 * 8]);
            cog_mma_bf16(r.out[n], p, b);
            cog_mma_bf16(r.out[n + 1], p, b + 2);
        }
    }
}

/* The queries are under way. scale: times log2 e. */
template <int DIM, typename V>
COG_DEVICE void walk_tiles(state<DIM> &r, flash_shared<DIM, V> &s, const V &view, const walk &w,
                           float scale)
{
    int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    int page = page_of(view, 0, w.last);

    if (threadIdx.x == 0) {
        s.view = view;
        s.w = w;
    }
    cog_cp_async_commit();
    copy_tile(s, view, w, 0, page);
    page = page_of(view, 1, w.last);
    cog_cp_async_wait<1>();
    __syncthreads();
    load_queries(r, s);
#pragma unroll
    for (int n = 0; n < DIM / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            r.out[n][i] = 0;
    r.max[0] = r.max[1] = -INFINITY;
    r.sum[0] = r.sum[1] = 0;
#pragma unroll 1
    for (int tile = 0; tile * TILE <= s.w.last; tile++) {
        float x[TILE / 8][4];
        cog_cp_async_wait<0>();
        __syncthreads();
        if ((tile + 1) * TILE <= s.w.last) {
            copy_tile(s, s.view, s.w, tile + 1, page);
            page = page_of(s.view, tile + 2, s.w.last);
        }
        scores<DIM>(x, r, s.k[tile & 1]);
        if (V::CAUSAL && tile * TILE + TILE - 1 > s.w.own)
            hide(x, s.w.own + warp * 16 + lane / 4 - tile * TILE, 8);
        if (!V::CAUSAL && tile * TILE + TILE - 1 > s.w.last)
            hide(x, s.w.last - tile * TILE, 0);
        weigh(x, r, scale);
        mix<DIM>(r, x, s.v[tile & 1]);
    }
}

/* Divides and hands the warp's 16 rows to shared memory; returns the place of row 0 of the block.
 * The half that the last tile did not use is free: nobody copies into it, and all warps have passed
 * the barrier after which nobody reads it. */
template <int DIM, typename V>
COG_DEVICE const cog_bf16 (*finish(state<DIM> &r, flash_shared<DIM, V> &s))[DIM + PAD]
{
    int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    cog_bf16(*to)[DIM + PAD] = s.k[(s.w.last / TILE + 1) & 1];

#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = r.sum[h] + __shfl_xor_sync(0xffffffffu, r.sum[h], 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        cog_bf16 *row = to[warp * 16 + lane / 4 + 8 * h];
#pragma unroll
        for (int n = 0; n < DIM / 8; n++)
            *reinterpret_cast<uint32_t *>(row + n * 8 + lane % 4 * 2) =
                cog_bf16_pack(r.out[n][2 * h] / sum, r.out[n][2 * h + 1] / sum);
    }
    __syncwarp();
    return to;
}

/* The tile's queries, n of which there are, on their way to where the second tile of keys will be;
 * at(i) is where query i starts. LANES lanes to a row, 16 bytes each. */
template <int DIM, typename View, typename At>
COG_DEVICE void load_queries(flash_shared<DIM, View> &s, const cog_bf16 *q, int n, int head_dim,
                             const At &at)
{
    using D = deal<DIM>;
    int lane = static_cast<int>(threadIdx.x) % D::LANES;

#pragma unroll
    for (int i = static_cast<int>(threadIdx.x) / D::LANES; i < COG_FLASH_ROWS; i += D::ROWS) {
        bool is_row = i < n && lane * 8 < head_dim;
        const cog_bf16 *row = is_row ? q + at(i) + lane * 8 : q;
        if (lane < D::CHUNKS)
            cog_cp_async_16(&s.k[1][i][lane * 8], row, is_row);
    }
}

/* A warp stores its own rows. */
template <int DIM, typename View, typename At>
COG_DEVICE void store_rows(const flash_shared<DIM, View> &s, const cog_bf16 (*from)[DIM + PAD],
                           int n, int head_dim, const At &at)
{
    using D = deal<DIM>;
    int lane = static_cast<int>(threadIdx.x) % D::LANES;
    int first =
        static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / D::LANES;

#pragma unroll
    for (int i = 0; i < 16; i += 32 / D::LANES) {
        int row = first + i;
        if (row < n && lane * 8 < head_dim)
            store_16(s.w.out + at(row) + lane * 8, &from[row][lane * 8]);
    }
}

/* ---- over pages ---- */

struct paged_args {
    cog_bf16 *out;
    const cog_bf16 *q;
    size_t ld_out, ld_q;
    cog_cuda_kv kv;
    const int32_t *block_table, *order;
    const cog_flash_tile *tiles;
    int layer, max_blocks, heads;
    float scale; /* times log2 e */
};

/* Grid (head, tile): the heads of one KV head run side by side and find its pages in the L2. Tiles
 * are planned longest first, and start so. */
template <int DIM>
static __global__ void __launch_bounds__(THREADS, BLOCKS) flash_paged(paged_args a)
{
    flash_shared<DIM, paged_view> &s = cog_shared<flash_shared<DIM, paged_view>>();
    const cog_flash_tile &tile = a.tiles[blockIdx.y];
    int head = static_cast<int>(blockIdx.x);
    walk w = { a.kv.head_dim, tile.slot + tile.rows - 1, tile.slot, a.out };
    size_t at = static_cast<size_t>(head) * static_cast<size_t>(w.head_dim);
    paged_view view;
    state<DIM> r;

    w.out += at;
    view.data = static_cast<const cog_bf16 *>(a.kv.data) +
                cog_kv_at(&a.kv, a.layer, 0, head / (a.heads / a.kv.kv_heads), 0);
    view.pages = a.block_table + static_cast<size_t>(tile.seq) * static_cast<size_t>(a.max_blocks);
    view.page = static_cast<int>(cog_kv_page_elements(&a.kv));
    view.value = static_cast<int>(cog_kv_value_offset(&a.kv));
    view.ld = a.kv.ld;
    view.block_shift = a.kv.block_shift;
    load_queries<DIM>(s, a.q + at, tile.rows, w.head_dim,
                      [&](int i) { return static_cast<size_t>(a.order[tile.first + i]) * a.ld_q; });
    walk_tiles(r, s, view, w, a.scale);
    store_rows<DIM>(s, finish(r, s), tile.rows, w.head_dim,
                    [&](int i) { return static_cast<size_t>(a.order[tile.first + i]) * a.ld_out; });
}

/* ---- a picture's tokens ---- */

struct dense_args {
    cog_bf16 *out;
    const cog_bf16 *qkv;
    size_t ld_out, ld_qkv;
    int tokens, heads, head_dim;
    float scale; /* times log2 e */
};

/* Grid (64 tokens, head, picture). */
template <int DIM>
static __global__ void __launch_bounds__(THREADS, BLOCKS) flash_dense(dense_args a)
{
    flash_shared<DIM, dense_view> &s = cog_shared<flash_shared<DIM, dense_view>>();
    int token = static_cast<int>(blockIdx.x) * COG_FLASH_ROWS;
    size_t base = static_cast<size_t>(blockIdx.z) * static_cast<size_t>(a.tokens);
    size_t cols = static_cast<size_t>(a.heads) * static_cast<size_t>(a.head_dim);
    size_t at = static_cast<size_t>(blockIdx.y) * static_cast<size_t>(a.head_dim);
    walk w = { a.head_dim, a.tokens - 1, a.tokens - 1,
               a.out + (base + static_cast<size_t>(token)) * a.ld_out + at };
    dense_view view = { a.qkv + base * a.ld_qkv + cols + at, static_cast<int>(cols),
                        static_cast<int>(a.ld_qkv) };
    state<DIM> r;

    load_queries<DIM>(s, a.qkv, a.tokens - token, a.head_dim, [&](int i) {
        return (base + static_cast<size_t>(token + i)) * a.ld_qkv + at;
    });
    walk_tiles(r, s, view, w, a.scale);
    store_rows<DIM>(s, finish(r, s), a.tokens - token, a.head_dim,
                    [&](int i) { return static_cast<size_t>(i) * a.ld_out; });
}

/* ---- launching ---- */

template <int DIM> int prepare()
{
    int rc = cog_prepare("flash_paged", flash_paged<DIM>, sizeof(flash_shared<DIM, paged_view>));

    return rc ? rc
              : cog_prepare("flash_dense", flash_dense<DIM>, sizeof(flash_shared<DIM, dense_view>));
}

template <int DIM> int launch_paged(cudaStream_t stream, const paged_args &a, int n_tiles)
{
    dim3 grid(static_cast<unsigned>(a.heads), static_cast<unsigned>(n_tiles));
    cog_launch_at at = { stream, grid, dim3(THREADS), sizeof(flash_shared<DIM, paged_view>),
                         false };

    return cog_launch("flash_paged", at, flash_paged<DIM>, a);
}

template <int DIM> int launch_dense(cudaStream_t stream, const dense_args &a, int n_images)
{
    dim3 grid(static_cast<unsigned>((a.tokens + COG_FLASH_ROWS - 1) / COG_FLASH_ROWS),
              static_cast<unsigned>(a.heads), static_cast<unsigned>(n_images));
    cog_launch_at at = { stream, grid, dim3(THREADS), sizeof(flash_shared<DIM, dense_view>),
                         false };

    return cog_launch("flash_dense", at, flash_dense<DIM>, a);
}

} // namespace

extern "C" int cog_cuda_flash_prepare(void)
{
    int rc = prepare<32>();

    rc = rc ? rc : prepare<64>();
    rc = rc ? rc : prepare<112>();
    return rc ? rc : prepare<128>();
}

extern "C" bool cog_cuda_flash_fits(cog_dtype type, int head_dim)
{
    return type == COG_BF16 && head_dim > 0 && head_dim <= 128 && head_dim % 8 == 0;
}

extern "C" int cog_cuda_flash_paged(cudaStream_t s, void *out, size_t ld_out, const void *q,
                                    size_t ld_q, const cog_cuda_kv *kv, int layer,
                                    const int32_t *block_table, int max_blocks,
                                    const int32_t *order, const cog_flash_tile *tiles, int n_tiles,
                                    int heads, float scale)
{
    paged_args a = { static_cast<cog_bf16 *>(out),
                     static_cast<const cog_bf16 *>(q),
                     ld_out,
                     ld_q,
                     *kv,
                     block_table,
                     order,
                     tiles,
                     layer,
                     max_blocks,
                     heads,
                     scale * LOG2_E };

    if (kv->head_dim <= 32)
        return launch_paged<32>(s, a, n_tiles);
    if (kv->head_dim <= 64)
        return launch_paged<64>(s, a, n_tiles);
    if (kv->head_dim <= 112)
        return launch_paged<112>(s, a, n_tiles);
    return launch_paged<128>(s, a, n_tiles);
}

extern "C" int cog_cuda_flash_dense(cudaStream_t s, void *out, size_t ld_out, const void *qkv,
                                    size_t ld_qkv, int n_images, int tokens, int heads,
                                    int head_dim, float scale)
{
    dense_args a = { static_cast<cog_bf16 *>(out),
                     static_cast<const cog_bf16 *>(qkv),
                     ld_out,
                     ld_qkv,
                     tokens,
                     heads,
                     head_dim,
                     scale * LOG2_E };

    if (head_dim <= 32)
        return launch_dense<32>(s, a, n_images);
    if (head_dim <= 64)
        return launch_dense<64>(s, a, n_images);
    if (head_dim <= 112)
        return launch_dense<112>(s, a, n_images);
    return launch_dense<128>(s, a, n_images);
}
