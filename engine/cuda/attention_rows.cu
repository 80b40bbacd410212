/* attention_rows.cu - attention of single rows over long KV: decoding, short prompts, and whatever
 * the tiled kernel cannot do.
 *
 *   score(j) = scale q . k(j)
 *   out      = sum_j exp(score(j) - max) v(j) / sum_j exp(score(j) - max)
 *
 * The weights that meet v are rounded to the element type, their sum is not. Scores carry a factor
 * log2 e, so that exp is exp2 (Milakov, Gimelshein, "Online normalizer calculation for softmax",
 * 2018; split over slots: Dao and others, "Flash-Decoding for long-context inference", 2023).
 *
 * Map: a block is one item and one KV head, with the head's group of query heads side by side, so
 * that keys and values are read once. A segment's 256 slots go to 8 warps, 32 to each: a "piece",
 * with its own maximum, sum and weighted values. Within a warp 16 lanes share a row of K or V, 16
 * bytes each (two or more times for wide heads), and the warp reads two slots at a time. Pieces
 * merge in ascending order, then segments do, both by a fixed formula: a row's bits depend on
 * nothing but the row.
 *
 * Bytes: K and V of the slots, once (4 head_dim bytes a slot and KV head in bf16); the rest is less
 * than 1 %. In bf16 with head_dim 128 and one query head each thread keeps 8 to 16 loads of 16
 * bytes in flight, 32 to 64 KiB a block. */
#include "engine/cuda/rows.cuh"

#include <math.h>

namespace
{

enum { WARPS = 8, THREADS = 32 * WARPS, PIECE = COG_SEGMENT / WARPS, LANES = 16 };

/* Up to how many queries at a time 128 registers suffice. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
enum { TWO_BLOCKS = 1 };
#else
enum { TWO_BLOCKS = 4 };
#endif

static_assert(PIECE == 32, "a lane holds the score of one slot");

/* What a kernel is made for: up to G queries at a time, head_dim <= DIM. EXACT: rows of K and V are
 * whole chunks of 16 bytes at multiples of 16 bytes. */
template <typename E, int D, int N, bool X> struct shape {
    using T = E;
    static constexpr int DIM = D, G = N;
    static constexpr bool EXACT = X;
    static constexpr int PER = 16 / sizeof(E);       /* elements of a chunk */
    static constexpr int CHUNKS = D / (PER * LANES); /* of a lane in a row */
    static constexpr int PAIRS = !X       ? 1
                                 : N == 1 ? 8
                                 : N == 2 ? 4
                                          : 2; /* pairs of slots of one step */
    static constexpr int STEPS = PIECE / (2 * PAIRS);
    static constexpr int UNROLL = !X ? 1 : N <= 2 ? STEPS / 2 : 1;
    static constexpr int OWN = (N * D + THREADS - 1) / THREADS; /* results of a thread */
    static constexpr int BLOCKS =
        X && N <= TWO_BLOCKS ? 2 : 1; /* on one SM: bounds the registers */
};

/* One output element of some slots: the largest score, the sum of the weights, the weighted values.
 */
struct part {
    float max, sum, acc;
};

template <typename S> struct rows_shared {
    float q[S::G][S::DIM];            /* zero past head_dim and past the last query */
    float weight[WARPS][PIECE][S::G]; /* scores, then weights */
    float acc[WARPS][S::G][S::DIM];
    float max[WARPS][S::G], sum[WARPS][S::G];
    part row[S::OWN][THREADS]; /* of all segments so far: each thread its own */
    uint32_t before;           /* segments that others had finished */
};

/* ---- where keys and values are ---- */

/* One sequence's head in the KV pool. */
template <typename T> struct paged_view {
    const T *data; /* slot 0 of page 0 */
    const int32_t *pages;
    size_t page;   /* elements from page to page */
    int value, ld; /* from a key to its value, from a slot to the next */
    int block_shift;
};

/* One picture's head in the products of a tower's layer. */
template <typename T> struct dense_view {
    const T *data;
    int value, ld;
};

/* The key of a slot; those of the next slots, up to a multiple of 16, are ld apart. */
template <typename T> COG_DEVICE const T *key_at(const paged_view<T> &v, int slot)
{
    int in_page = slot & ((1 << v.block_shift) - 1);

    return v.data + static_cast<size_t>(v.pages[slot >> v.block_shift]) * v.page + in_page * v.ld;
}

template <typename T> COG_DEVICE const T *key_at(const dense_view<T> &v, int slot)
{
    return v.data + static_cast<int64_t>(slot) * v.ld;
}

/* A warp's piece: n visible slots (none: n <= 0). A piece may lie in two pages: of 16 slots. */
template <typename T> struct piece {
    const T *low, *high; /* keys of its slots 0 and 16 */
    int ld, value, n;
};

template <typename T, typename V>
COG_DEVICE piece<T> piece_of(const V &view, int segment, int slots, int warp)
{
    piece<T> p;
    int first = segment * COG_SEGMENT + warp * PIECE;

    p.n = min(slots - first, static_cast<int>(PIECE));
    p.ld = view.ld;
    p.value = view.value;
    p.low = p.n > 0 ? key_at(view, first) : view.data;
    p.high = p.n > 16 ? key_at(view, first + 16) : p.low;
    return p;
}

/* ---- chunks ---- */

/* Elements first .. of a row, zeros past head_dim, which nobody may read. */
template <typename S>
COG_DEVICE uint4 chunk_at(const typename S::T *row, int first, int head_dim, bool is_exact)
{
    union {
        uint4 all;
        typename S::T one[S::PER];
    } v = { make_uint4(0, 0, 0, 0) };

    if (is_exact)
        return first < head_dim ? *reinterpret_cast<const uint4 *>(row + first) : v.all;
    for (int i = 0; i < S::PER; i++)
        if (first + i < head_dim)
            v.one[i] = row[first + i];
    return v.all;
}

/* The lane's chunks of the rows of one step, from keys (at = 0) or values. Slots past the last one
 * and chunks past head_dim are replaced by such as are there: their weight, or the query at their
 * place, is zero. */
template <typename S>
COG_DEVICE void load(uint4 (&to)[S::PAIRS][S::CHUNKS], const piece<typename S::T> &p, int at,
                     int step, int head_dim, bool is_exact, int lane)
{
#pragma unroll
    for (int u = 0; u < S::PAIRS; u++) {
        int pair = step * S::PAIRS + u, slot = min(2 * pair + lane / LANES, p.n - 1);
        const typename S::T *row = (pair < 8 ? p.low : p.high) + (at + (slot & 15) * p.ld);
#pragma unroll
        for (int c = 0; c < S::CHUNKS; c++) {
            int first = (lane % LANES + c * LANES) * S::PER;
            if (S::EXACT)
                to[u][c] = *reinterpret_cast<const uint4 *>(row + (first < head_dim ? first : 0));
            else
                to[u][c] = chunk_at<S>(row, first, head_dim, is_exact);
        }
    }
}

/* ---- a piece ---- */

/* Sums each of the N values over 16 lanes, in the same order for all: lanes 8 apart first. A lane
 * that hands over half of its values at each step ends with one sum, that of value lane % 16 / (16
 * / N): N - 1 exchanges and a few, instead of 4 N. */
template <int N> COG_DEVICE float sum_lanes(float (&v)[N], int lane)
{
    int n = N;

#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2) {
        bool is_upper = lane & step;
        if (n == 1) {
            v[0] += __shfl_xor_sync(0xffffffffu, v[0], step);
            continue;
        }
        n /= 2;
#pragma unroll
        for (int i = 0; i < n; i++) {
            float give = is_upper ? v[i] : v[i + n], keep = is_upper ? v[i + n] : v[i];
            v[i] = keep + __shfl_xor_sync(0xffffffffu, give, step);
        }
    }
    return v[0];
}

template <typename S>
COG_DEVICE void score(rows_shared<S> &s, const uint4 (&k)[S::PAIRS][S::CHUNKS],
                      const float (&q)[S::G][S::CHUNKS * S::PER], int step, int warp, int lane)
{
    constexpr int N = S::PAIRS * S::G, SHARE = LANES / N;
    float v[N] = {};

#pragma unroll
    for (int u = 0; u < S::PAIRS; u++) {
#pragma unroll
        for (int c = 0; c < S::CHUNKS; c++) {
            float x[S::PER];
            cog_unpack(x, k[u][c], typename S::T());
#pragma unroll
            for (int g = 0; g < S::G; g++)
#pragma unroll
                for (int i = 0; i < S::PER; i++)
                    v[u * S::G + g] = fmaf(q[g][c * S::PER + i], x[i], v[u * S::G + g]);
        }
    }
    float sum = sum_lanes<N>(v, lane);
    int mine = lane % LANES / SHARE;
    int slot = 2 * (step * S::PAIRS + mine / S::G) + lane / LANES;
    if (lane % SHARE == 0)
        s.weight[warp][slot][mine % S::G] = sum;
}

COG_DEVICE float warp_max(float x)
{
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

COG_DEVICE float warp_sum(float x)
{
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* Scores become weights; the slot of a lane is its number. */
template <typename S>
COG_DEVICE void weigh(rows_shared<S> &s, int n, float scale, int warp, int lane)
{
    __syncwarp();
#pragma unroll
    for (int g = 0; g < S::G; g++) {
        float x = lane < n ? s.weight[warp][lane][g] * scale : -INFINITY;
        float max = warp_max(x), e = cog_exp2(x - max), sum = warp_sum(e);
        s.weight[warp][lane][g] = cog_rounded<typename S::T>(e);
        if (lane == 0) {
            s.max[warp][g] = max;
            s.sum[warp][g] = sum;
        }
    }
    __syncwarp();
}

template <typename S>
COG_DEVICE void mix(float (&acc)[S::G][S::CHUNKS * S::PER], const rows_shared<S> &s,
                    const uint4 (&v)[S::PAIRS][S::CHUNKS], int step, int warp, int lane)
{
#pragma unroll
    for (int u = 0; u < S::PAIRS; u++) {
        int slot = 2 * (step * S::PAIRS + u) + lane / LANES;
        float w[S::G];
#pragma unroll
        for (int g = 0; g < S::G; g++)
            w[g] = s.weight[warp][slot][g];
#pragma unroll
        for (int c = 0; c < S::CHUNKS; c++) {
            float x[S::PER];
            cog_unpack(x, v[u][c], typename S::T());
#pragma unroll
            for (int g = 0; g < S::G; g++)
#pragma unroll
                for (int i = 0; i < S::PER; i++)
                    acc[g][c * S::PER + i] = fmaf(w[g], x[i], acc[g][c * S::PER + i]);
        }
    }
}

/* Adds the two halves of the warp, which took every other slot each, and stores the sums: each half
 * one half of every chunk. */
template <typename S>
COG_DEVICE void store_piece(rows_shared<S> &s, const float (&acc)[S::G][S::CHUNKS * S::PER],
                            int warp, int lane)
{
    constexpr int HALF = S::PER / 2;
    bool is_upper = lane >= LANES;

#pragma unroll
    for (int g = 0; g < S::G; g++) {
#pragma unroll
        for (int c = 0; c < S::CHUNKS; c++) {
            const float *a = &acc[g][c * S::PER];
            int first = (lane % LANES + c * LANES) * S::PER + (is_upper ? HALF : 0);
#pragma unroll
            for (int i = 0; i < HALF; i++) {
                float give = is_upper ? a[i] : a[i + HALF], keep = is_upper ? a[i + HALF] : a[i];
                s.acc[warp][g][first + i] = keep + __shfl_xor_sync(0xffffffffu, give, LANES);
            }
        }
    }
}

/* The keys of the first two steps are in a and b. */
template <typename S>
COG_DEVICE void run_piece(rows_shared<S> &s, uint4 (&a)[S::PAIRS][S::CHUNKS],
                          uint4 (&b)[S::PAIRS][S::CHUNKS], const piece<typename S::T> &p,
                          int head_dim, bool is_exact, float scale, int warp, int lane)
{
    constexpr int N = S::CHUNKS * S::PER;

    {
        float q[S::G][N];
#pragma unroll
        for (int g = 0; g < S::G; g++)
#pragma unroll
            for (int i = 0; i < N; i++)
                q[g][i] = s.q[g][(lane % LANES + i / S::PER * LANES) * S::PER + i % S::PER];
#pragma unroll(S::UNROLL)
        for (int t = 0; t < S::STEPS; t += 2) {
            bool is_last = t + 2 >= S::STEPS;
            int next = is_last ? 0 : t + 2;
            int at = is_last ? p.value : 0;
            score<S>(s, a, q, t, warp, lane);
            load<S>(a, p, at, next, head_dim, is_exact, lane);
            score<S>(s, b, q, t + 1, warp, lane);
            load<S>(b, p, at, next + 1, head_dim, is_exact, lane);
        }
    }
    weigh<S>(s, p.n, scale, warp, lane);
    float acc[S::G][N] = {};
#pragma unroll(S::UNROLL)
    for (int t = 0; t < S::STEPS; t += 2) {
        mix<S>(acc, s, a, t, warp, lane);
        if (t + 2 < S::STEPS)
            load<S>(a, p, p.value, t + 2, head_dim, is_exact, lane);
        mix<S>(acc, s, b, t + 1, warp, lane);
        if (t + 2 < S::STEPS)
            load<S>(b, p, p.value, t + 3, head_dim, is_exact, lane);
    }
    store_piece<S>(s, acc, warp, lane);
}

/* ---- merging ---- */

/* The first n pieces of a segment. */
template <typename S> COG_DEVICE part merge_pieces(const rows_shared<S> &s, int n, int g, int d)
{
    part p = { s.max[0][g], 0, 0 };

    for (int w = 1; w < n; w++)
        p.max = fmaxf(p.max, s.max[w][g]);
    for (int w = 0; w < n; w++) {
        float keep = cog_exp2(s.max[w][g] - p.max);
        p.sum = fmaf(s.sum[w][g], keep, p.sum);
        p.acc = fmaf(s.acc[w][g][d], keep, p.acc);
    }
    return p;
}

/* The slots of row, then those of p, which follow. */
COG_DEVICE part fold(const part &row, const part &p)
{
    float max = fmaxf(row.max, p.max);
    float keep = cog_exp2(row.max - max), add = cog_exp2(p.max - max);

    return { max, fmaf(row.sum, keep, p.sum * add), fmaf(row.acc, keep, p.acc * add) };
}

COG_DEVICE int pieces_of(int segment, int slots)
{
    return (min(slots - segment * COG_SEGMENT, static_cast<int>(COG_SEGMENT)) + PIECE - 1) / PIECE;
}

/* ---- over pages ---- */

template <typename T> struct paged_args {
    T *out;
    const T *q;
    size_t ld_out, ld_q;
    cog_cuda_kv kv;
    const int32_t *block_table;
    const cog_attn_item *items;
    const int32_t *n_items;
    float *partial;
    uint32_t *done;
    int layer, max_blocks, max_segments, heads;
    float scale; /* times log2 e */
};

template <typename T> COG_DEVICE paged_view<T> view_of(const paged_args<T> &a, int seq, int head)
{
    paged_view<T> v;

    v.data = static_cast<const T *>(a.kv.data) + cog_kv_at(&a.kv, a.layer, 0, head, 0);
    v.pages = a.block_table + static_cast<size_t>(seq) * static_cast<size_t>(a.max_blocks);
    v.page = cog_kv_page_elements(&a.kv);
    v.value = static_cast<int>(cog_kv_value_offset(&a.kv));
    v.ld = a.kv.ld;
    v.block_shift = a.kv.block_shift;
    return v;
}

/* [max, sum, acc[head_dim]] of one segment of one head. */
template <typename T>
COG_DEVICE float *partial_at(const paged_args<T> &a, int row, int head, int segment)
{
    size_t at =
        (static_cast<size_t>(row) * static_cast<size_t>(a.heads) + static_cast<size_t>(head)) *
            static_cast<size_t>(a.max_segments) +
        static_cast<size_t>(segment);

    return a.partial + at * static_cast<size_t>(a.kv.head_dim + 2);
}

template <typename T>
COG_DEVICE void write_out(const paged_args<T> &a, int row, int head, int d, const part &p)
{
    a.out[static_cast<size_t>(row) * a.ld_out +
          static_cast<size_t>(head) * static_cast<size_t>(a.kv.head_dim) + static_cast<size_t>(d)] =
        cog_put<T>(p.acc / p.sum);
}

/* Whether this block was the last of the row's to write its part; then it sees what all wrote. */
template <typename S> COG_DEVICE bool is_last(rows_shared<S> &s, uint32_t *done, int n, int total)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence(); /* for the whole block: what the barrier ordered before it goes with it */
        s.before = atomicAdd(done, static_cast<uint32_t>(n));
        if (s.before + static_cast<uint32_t>(n) == static_cast<uint32_t>(total))
            atomicExch(done, 0u);
        __threadfence();
    }
    __syncthreads();
    return s.before + static_cast<uint32_t>(n) == static_cast<uint32_t>(total);
}

/* Which result a thread owns: its k-th. */
template <typename S> struct own {
    int g, d, head; /* head < 0: none */
};

template <typename S> COG_DEVICE own<S> own_of(int k, int head, int first, int group, int head_dim)
{
    int i = static_cast<int>(threadIdx.x) + k * THREADS;
    own<S> o = { i / S::DIM, i % S::DIM, -1 };

    if (o.g < S::G && first + o.g < group && o.d < head_dim)
        o.head = head * group + first + o.g;
    return o;
}

/* Queries first .. first + G - 1 of a head's group, all segments of the item. */
template <typename S>
COG_DEVICE void run_item(rows_shared<S> &s, const paged_args<typename S::T> &a,
                         const cog_attn_item &item, piece<typename S::T> p, int head, int first)
{
    using T = typename S::T;
    int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    int group = a.heads / a.kv.kv_heads, head_dim = a.kv.head_dim;
    bool is_exact = head_dim % S::PER == 0;
    uint4 x[S::PAIRS][S::CHUNKS], y[S::PAIRS][S::CHUNKS];

    if (p.n > 0) {
        load<S>(x, p, 0, 0, head_dim, is_exact, lane);
        load<S>(y, p, 0, 1, head_dim, is_exact, lane);
    }
    for (int k = 0; k < S::OWN; k++) {
        own<S> o = own_of<S>(k, head, first, group, head_dim);
        const T *q = a.q + static_cast<size_t>(item.row) * a.ld_q;
        if (o.g < S::G)
            s.q[o.g][o.d] = o.head < 0 ? 0 : cog_get(q[o.head * head_dim + o.d]);
    }
    __syncthreads();
    for (int i = 0; i < item.n; i++) {
        int segment = item.first + i, n = pieces_of(segment, item.slots);
        if (p.n > 0)
            run_piece<S>(s, x, y, p, head_dim, is_exact, a.scale, warp, lane);
        if (i + 1 < item.n) {
            p = piece_of<T>(view_of(a, item.seq, head), segment + 1, item.slots, warp);
            if (p.n > 0) {
                load<S>(x, p, 0, 0, head_dim, is_exact, lane);
                load<S>(y, p, 0, 1, head_dim, is_exact, lane);
            }
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < S::OWN; k++) {
            own<S> o = own_of<S>(k, head, first, group, head_dim);
            if (o.head < 0)
                continue;
            part now = merge_pieces<S>(s, n, o.g, o.d);
            if (item.n < item.total) {
                float *to = partial_at(a, item.partial, o.head, segment);
                if (o.d == 0) {
                    to[0] = now.max;
                    to[1] = now.sum;
                }
                to[2 + o.d] = now.acc;
                continue;
            }
            if (i > 0)
                now = fold(s.row[k][threadIdx.x], now);
            s.row[k][threadIdx.x] = now;
            if (i + 1 == item.n)
                write_out(a, item.row, o.head, o.d, now);
        }
        __syncthreads();
    }
}

/* All segments of a row from the partial sums. */
template <typename S>
COG_DEVICE void fold_row(const paged_args<typename S::T> &a, const cog_attn_item &item, int head)
{
    int group = a.heads / a.kv.kv_heads;

    for (int i = static_cast<int>(threadIdx.x); i < group * a.kv.head_dim; i += THREADS) {
        int h = head * group + i / a.kv.head_dim, d = i % a.kv.head_dim;
        part row = { 0, 0, 0 };
        for (int segment = 0; segment < item.total; segment++) {
            const float *from = partial_at(a, item.partial, h, segment);
            part now = { from[0], from[1], from[2 + d] };
            row = segment == 0 ? now : fold(row, now);
        }
        write_out(a, item.row, h, d, row);
    }
}

template <typename S>
static __global__ void __launch_bounds__(THREADS, S::BLOCKS) rows_paged(paged_args<typename S::T> a)
{
    using T = typename S::T;
    rows_shared<S> &s = cog_shared<rows_shared<S>>();
    int warp = static_cast<int>(threadIdx.x) / 32, kv_heads = a.kv.kv_heads;
    int n_work = *a.n_items * kv_heads, group = a.heads / kv_heads;

    cog_dependency_trigger();
    for (int work = static_cast<int>(blockIdx.x); work < n_work;
         work += static_cast<int>(gridDim.x)) {
        const cog_attn_item &item = a.items[work / kv_heads];
        int head = work % kv_heads;
        piece<T> p = piece_of<T>(view_of(a, item.seq, head), item.first, item.slots, warp);
        /* Items and block tables come from the host, long before; queries, keys and values from the
         * preceding kernel. */
        cog_dependency_wait();
        for (int first = 0; first < group; first += S::G)
            run_item<S>(s, a, item, p, head, first);
        if (item.n < item.total &&
            is_last<S>(s, a.done + static_cast<size_t>(item.partial) * kv_heads + head, item.n,
                       item.total))
            fold_row<S>(a, item, head);
    }
    /* Blocks without work wait as well: a grid that ends before the preceding one would let the
     * next overtake it. */
    cog_dependency_wait();
}

/* ---- a picture's tokens ---- */

template <typename T> struct dense_args {
    T *out;
    const T *qkv;
    size_t ld_out, ld_qkv;
    int tokens, heads, head_dim;
    float scale; /* times log2 e */
};

/* As rows_paged, with G consecutive tokens for a group of query heads: grid (token / G, head,
 * picture). */
template <typename S>
static __global__ void __launch_bounds__(THREADS, S::BLOCKS) rows_dense(dense_args<typename S::T> a)
{
    using T = typename S::T;
    rows_shared<S> &s = cog_shared<rows_shared<S>>();
    int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    int first = static_cast<int>(blockIdx.x) * S::G, head = static_cast<int>(blockIdx.y);
    int n_segments = cog_segments(a.tokens);
    size_t base = static_cast<size_t>(blockIdx.z) * static_cast<size_t>(a.tokens);
    size_t cols = static_cast<size_t>(a.heads) * static_cast<size_t>(a.head_dim);
    size_t at = static_cast<size_t>(head) * static_cast<size_t>(a.head_dim);
    bool is_exact = a.head_dim % S::PER == 0;
    dense_view<T> view = { a.qkv + base * a.ld_qkv + cols + at, static_cast<int>(cols),
                           static_cast<int>(a.ld_qkv) };
    uint4 x[S::PAIRS][S::CHUNKS], y[S::PAIRS][S::CHUNKS];

    for (int k = 0; k < S::OWN; k++) {
        own<S> o = own_of<S>(k, 0, first, a.tokens, a.head_dim);
        if (o.g < S::G)
            s.q[o.g][o.d] = o.head < 0
                                ? 0
                                : cog_get(a.qkv[(base + static_cast<size_t>(o.head)) * a.ld_qkv +
                                                at + static_cast<size_t>(o.d)]);
    }
    __syncthreads();
    for (int segment = 0; segment < n_segments; segment++) {
        piece<T> p = piece_of<T>(view, segment, a.tokens, warp);
        if (p.n > 0) {
            load<S>(x, p, 0, 0, a.head_dim, is_exact, lane);
            load<S>(y, p, 0, 1, a.head_dim, is_exact, lane);
            run_piece<S>(s, x, y, p, a.head_dim, is_exact, a.scale, warp, lane);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < S::OWN; k++) {
            own<S> o = own_of<S>(k, 0, first, a.tokens, a.head_dim);
            if (o.head < 0)
                continue;
            part now = merge_pieces<S>(s, pieces_of(segment, a.tokens), o.g, o.d);
            if (segment > 0)
                now = fold(s.row[k][threadIdx.x], now);
            s.row[k][threadIdx.x] = now;
            if (segment + 1 == n_segments)
                a.out[(base + static_cast<size_t>(o.head)) * a.ld_out + at +
                      static_cast<size_t>(o.d)] = cog_put<T>(now.acc / now.sum);
        }
        __syncthreads();
    }
}

/* ---- launching ---- */

using bf16_1 = shape<cog_bf16, 128, 1, true>;
using bf16_2 = shape<cog_bf16, 128, 2, true>;
using bf16_4 = shape<cog_bf16, 128, 4, true>;
using bf16_8 = shape<cog_bf16, 128, 8, true>;
using bf16_any = shape<cog_bf16, 256, 4, false>;
using f32_any = shape<float, 256, 4, false>;

enum { MAX_GRID = 1 << 16 }; /* blocks; more work than that takes turns */

constexpr float LOG2_E = 1.44269504f;

template <typename S> int prepare_paged()
{
    return cog_prepare("attention_rows", rows_paged<S>, sizeof(rows_shared<S>));
}

template <typename S> int prepare_dense()
{
    return cog_prepare("attention_rows_dense", rows_dense<S>, sizeof(rows_shared<S>));
}

template <typename S>
int launch_paged(cudaStream_t stream, const paged_args<typename S::T> &a, int max_items,
                 bool dependent)
{
    int64_t work = static_cast<int64_t>(max_items) * a.kv.kv_heads;
    unsigned grid = work < MAX_GRID ? static_cast<unsigned>(work) : static_cast<unsigned>(MAX_GRID);
    cog_launch_at at = { stream, dim3(grid), dim3(THREADS), sizeof(rows_shared<S>), dependent };

    return cog_launch("attention_rows", at, rows_paged<S>, a);
}

template <typename S>
int launch_dense(cudaStream_t stream, const dense_args<typename S::T> &a, int n_images)
{
    dim3 grid(static_cast<unsigned>((a.tokens + S::G - 1) / S::G), static_cast<unsigned>(a.heads),
              static_cast<unsigned>(n_images));
    cog_launch_at at = { stream, grid, dim3(THREADS), sizeof(rows_shared<S>), false };

    return cog_launch("attention_rows_dense", at, rows_dense<S>, a);
}

} // namespace

extern "C" int cog_cuda_attention_rows_prepare(void)
{
    int rc = prepare_paged<bf16_1>();

    rc = rc ? rc : prepare_paged<bf16_2>();
    rc = rc ? rc : prepare_paged<bf16_4>();
    rc = rc ? rc : prepare_paged<bf16_8>();
    rc = rc ? rc : prepare_paged<bf16_any>();
    rc = rc ? rc : prepare_paged<f32_any>();
    rc = rc ? rc : prepare_dense<bf16_8>();
    rc = rc ? rc : prepare_dense<bf16_any>();
    return rc ? rc : prepare_dense<f32_any>();
}

/* One kernel stands for all: they are compiled together. */
extern "C" bool cog_cuda_attention_rows_can_depend(void)
{
    return cog_can_depend(rows_paged<bf16_1>);
}

extern "C" int cog_cuda_attention_rows(cudaStream_t s, cog_dtype type, void *out, size_t ld_out,
                                       const void *q, size_t ld_q, const cog_cuda_kv *kv, int layer,
                                       const int32_t *block_table, int max_blocks,
                                       const cog_attn_item *items, const int32_t *n_items,
                                       int max_items, float *partial, int max_segments,
                                       uint32_t *done, int heads, float scale, bool dependent)
{
    int group = heads / kv->kv_heads;
    auto arguments = [&](auto element) {
        using T = decltype(element);
        return paged_args<T>{ static_cast<T *>(out),
                              static_cast<const T *>(q),
                              ld_out,
                              ld_q,
                              *kv,
                              block_table,
                              items,
                              n_items,
                              partial,
                              done,
                              layer,
                              max_blocks,
                              max_segments,
                              heads,
                              scale * LOG2_E };
    };

    if (type == COG_F32)
        return launch_paged<f32_any>(s, arguments(float()), max_items, dependent);
    paged_args<cog_bf16> a = arguments(cog_bf16());
    if (kv->head_dim % 8 != 0 || kv->head_dim > 128)
        return launch_paged<bf16_any>(s, a, max_items, dependent);
    if (group == 1)
        return launch_paged<bf16_1>(s, a, max_items, dependent);
    if (group == 2)
        return launch_paged<bf16_2>(s, a, max_items, dependent);
    if (group <= 4)
        return launch_paged<bf16_4>(s, a, max_items, dependent);
    return launch_paged<bf16_8>(s, a, max_items, dependent);
}

extern "C" int cog_cuda_attention_rows_dense(cudaStream_t s, cog_dtype type, void *out,
                                             size_t ld_out, const void *qkv, size_t ld_qkv,
                                             int n_images, int tokens, int heads, int head_dim,
                                             float scale)
{
    auto arguments = [&](auto element) {
        using T = decltype(element);
        return dense_args<T>{ static_cast<T *>(out),
                              static_cast<const T *>(qkv),
                              ld_out,
                              ld_qkv,
                              tokens,
                              heads,
                              head_dim,
                              scale * LOG2_E };
    };

    if (type == COG_F32)
        return launch_dense<f32_any>(s, arguments(float()), n_images);
    dense_args<cog_bf16> a = arguments(cog_bf16());
    if (head_dim % 8 != 0 || head_dim > 128)
        return launch_dense<bf16_any>(s, a, n_images);
    return launch_dense<bf16_8>(s, a, n_images);
}
