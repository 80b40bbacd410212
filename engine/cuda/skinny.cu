/* skinny.cu - products of a few rows with a large weight, and what is done with them.
 *
 *   y = w x' + bias,   x' = x or the RMSNorm of x, rounded; y rounded once
 *   store: out = y                 add: x = x + y
 *   gate_up: out = rounded(silu(gate)) * up
 *   qkv: query and key rotated (each product rounded, then their sum); key and value to their page
 *
 * The weight is all that counts: it is 2 n k bytes, read once, while the rest lies in caches. So
 * the kernel is written as a stream of the weight through registers.
 *
 * Map. The weight is operand A of the 16 x 8 x 16 product, the batch's rows are its columns, eight
 * to a fragment, NT fragments. A dot product may run through k in any fixed order, so lane (g, t)
 * of a warp takes k = 8 t .. 8 t + 7 of a window of 32 k as its share of two products: one load of
 * 16 bytes per weight row, and one per row of x, are two fragments as they stand, with no exchange
 * between lanes and no shared memory. A block of 16 warps owns 32 weight rows (two tiles) at a
 * time; its warps take turns at units of 64 k, 128 bytes of a weight row, and the sums are added up
 * in the order of the warps. Nothing of this order depends on the number of rows, so neither do a
 * row's bits.
 *
 * Loads in flight. A thread holds a unit of both tiles, 8 loads of 16 bytes, and asks for its next
 * piece as soon as it has used one, across the ends of tiles: 512 threads * 128 bytes = 64 KiB per
 * SM. By Little's law 4.8 TB/s over 132 SMs at 0.7 us need 25 KB. A group of two tiles is 64 k
 * bytes, 256 KiB at k = 4096: at an H100's 25 KB/us and SM some 10 us of streaming between two
 * exchanges of sums, which cost two barriers and 16 shared loads of 2 NT of the 16 warps.
 *
 * Tails. Blocks are as many as SMs and walk the groups with that stride. n = 4096, 12288, 22016 are
 * 128, 384, 688 groups: 0.97, 2.9, 5.2 rounds on 132 SMs. A last round of 28 groups costs less than
 * a full one: what bounds an SM that shares the memory with few is its own 64 KiB per 0.7 us, more
 * than three times its part of 3.35 TB/s. Where the next kernel may start early, its blocks ask for
 * their first 64 KiB of weights on the SMs that have drained: see Registers.
 *
 * x from the caches. A block reads 8 NT rows of x once per group: NT / 4 of the weight's bytes. The
 * weight does not go through the L1, so x stays there from group to group while it fits beside the
 * sums (18 NT KiB): on Hopper 16 rows of 4096. Columns past the last row are the last row again,
 * which costs no bytes. The norm is applied to each fragment as it is loaded: some 40 instructions
 * per window and fragment; at an H100's bandwidth a window lasts an SM about 540 issue slots.
 *
 * Registers: the 512 threads have 128 each at most; NT = 1 uses some 80. That leaves no room beside
 * a running block, neither for another of these nor for attention's of 256 threads with 128 each: a
 * kernel that starts early starts on SMs without one. Shared memory: sums, 16 KiB NT, are the bulk.
 */
#include "engine/cuda/launch.cuh"

#include <assert.h>

/* In elements; a chunk is a load of 16 bytes. Places in x and w are counted in chunks, as 32 bits.
 */
enum { WARPS = 16, TILES = 2, CHUNK = 8, WINDOW = 32, UNIT = 64, WINDOWS = UNIT / WINDOW };
enum { PARTS = 4 }; /* of a sum of squares, each added up by one warp */

enum skinny_op { SKINNY_STORE, SKINNY_ADD, SKINNY_GATE_UP, SKINNY_QKV };

struct skinny_args {
    const cog_bf16 *x, *norm, *w, *bias;
    const int32_t *row;
    uint32_t ld_x, ld_w; /* in chunks */
    float eps;
    int rows, n, k;

    /* The 16 weight rows of a tile are 8 and their 8 partners:
     * first(tile) .. + 7 and first(tile) + partner .. + 7,
     * first(tile) = tile / per_span * span + tile % per_span * 8. */
    int tiles, per_span, span, partner;

    skinny_op op;
    cog_bf16 *out;
    size_t ld_out;

    /* qkv */
    const float *cos, *sin;
    cog_cuda_kv kv;
    int layer, heads, max_blocks;
    const int32_t *position, *slot, *seq, *block_table;
};

struct x_row {
    uint32_t start; /* in chunks */
    float scale;    /* of the norm */
};

template <int NT> struct skinny_shared {
    float4 sum[WARPS][TILES * NT][32]; /* fragments as the lanes have them: no bank conflicts */
    cog_bf16 rest[NT * 8][UNIT];       /* the end of x' that fills no unit, then zeros */
    x_row row[NT * 8];                 /* rows past the last are the last one */
    float square[COG_SKINNY_ROWS][PARTS];
    cog_bf16 *out[COG_SKINNY_ROWS];
    int32_t position[COG_SKINNY_ROWS], page[COG_SKINNY_ROWS], slot_in_page[COG_SKINNY_ROWS];
};

COG_DEVICE uint4 load_chunk(const cog_bf16 *p, uint32_t chunk)
{
    return *reinterpret_cast<const uint4 *>(p + static_cast<size_t>(chunk) * CHUNK);
}

COG_DEVICE uint4 stream_chunk(const cog_bf16 *p, uint32_t chunk)
{
    return cog_load_stream(p + static_cast<size_t>(chunk) * CHUNK);
}

COG_DEVICE int first_of(const skinny_args &a, int tile)
{
    return tile / a.per_span * a.span + tile % a.per_span * 8;
}

/* ---- x ---- */

/* Where a row starts, in chunks. */
COG_DEVICE uint32_t x_start(const skinny_args &a, int r)
{
    return static_cast<uint32_t>(a.row ? a.row[r] : r) * a.ld_x;
}

COG_DEVICE cog_bf16 x_at(const skinny_args &a, uint32_t row, int k)
{
    return a.x[static_cast<size_t>(row) * CHUNK + k];
}

COG_DEVICE float add_squares(float sum, uint32_t pair)
{
    sum = fmaf(cog_bf16_low(pair), cog_bf16_low(pair), sum);
    return fmaf(cog_bf16_high(pair), cog_bf16_high(pair), sum);
}

/* The sums of squares in PARTS parts: one row is the work of PARTS warps, many rows keep all warps
 * busy, and the order is the same. */
COG_DEVICE void square_rows(const skinny_args &a, float (*square)[PARTS])
{
    int lane = threadIdx.x % 32, chunks = a.k / CHUNK;

    for (int task = threadIdx.x / 32; task < a.rows * PARTS; task += WARPS) {
        uint32_t x = x_start(a, task / PARTS);
        int part = task % PARTS;
        float sum = 0;
#pragma unroll 4
        for (int c = part * 32 + lane; c < chunks; c += PARTS * 32) {
            uint4 v = load_chunk(a.x, x + c);
            sum = add_squares(add_squares(sum, v.x), v.y);
            sum = add_squares(add_squares(sum, v.z), v.w);
        }
        if (part == 0 && lane < a.k % CHUNK) {
            float v = cog_get(x_at(a, x, chunks * CHUNK + lane));
            sum = fmaf(v, v, sum);
        }
        for (int distance = 16; distance > 0; distance /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        if (lane == 0)
            square[task / PARTS][part] = sum;
    }
}

COG_DEVICE float norm_scale(const skinny_args &a, const float square[PARTS])
{
    float sum = (square[0] + square[1]) + (square[2] + square[3]);

    return 1.0f / sqrtf(sum / static_cast<float>(a.k) + a.eps);
}

COG_DEVICE uint32_t normalised(uint32_t x, uint32_t w, float scale)
{
    return cog_bf16_pack(cog_bf16_low(w) * (cog_bf16_low(x) * scale),
                         cog_bf16_high(w) * (cog_bf16_high(x) * scale));
}

COG_DEVICE uint4 normalised(const uint4 &x, const uint4 &w, float scale)
{
    return make_uint4(normalised(x.x, w.x, scale), normalised(x.y, w.y, scale),
                      normalised(x.z, w.z, scale), normalised(x.w, w.w, scale));
}

/* ---- products ---- */

/* Two products: 32 k of a tile's rows g (low) and g + 8 (high) with a row of x. */
COG_DEVICE void multiply(float acc[4], const uint4 &low, const uint4 &high, const uint4 &x)
{
    const uint32_t a0[4] = { low.x, high.x, low.y, high.y };
    const uint32_t a1[4] = { low.z, high.z, low.w, high.w };
    const uint32_t b0[2] = { x.x, x.y }, b1[2] = { x.z, x.w };

    cog_mma_bf16(acc, a0, b0);
    cog_mma_bf16(acc, a1, b1);
}

/* This lane's place in the weight rows of a tile. Rows past the last are the last one again: read,
 * but not stored. */
COG_DEVICE void aim_tile(const skinny_args &a, int tile, int chunk, uint32_t at[2])
{
    int row = first_of(a, min(tile, a.tiles - 1)) + threadIdx.x % 32 / 4;

    at[0] = min(row, a.n - 1) * a.ld_w + chunk;
    at[1] = min(row + a.partner, a.n - 1) * a.ld_w + chunk;
}

COG_DEVICE void aim(const skinny_args &a, int group, int chunk, uint32_t at[TILES][2])
{
#pragma unroll
    for (int m = 0; m < TILES; m++)
        aim_tile(a, group * TILES + m, chunk, at[m]);
}

/* What is left of k after the whole units, of one fragment. */
COG_DEVICE void multiply_rest(const skinny_args &a, const cog_bf16 *x, int tile, float acc[4])
{
    int t = threadIdx.x % 4, whole = a.k / UNIT * (UNIT / CHUNK);
    uint32_t at[2];

    aim_tile(a, tile, whole, at);
#pragma unroll 1
    for (int chunk = 0; chunk * CHUNK < a.k % UNIT; chunk += WINDOW / CHUNK) {
        uint4 low = make_uint4(0, 0, 0, 0), high = low;
        if ((chunk + t) * CHUNK < a.k % UNIT) {
            low = stream_chunk(a.w, at[0] + chunk + t);
            high = stream_chunk(a.w, at[1] + chunk + t);
        }
        multiply(acc, low, high, load_chunk(x, chunk + t));
    }
}

/* ---- what becomes of the products ---- */

COG_DEVICE float with_bias(const skinny_args &a, float sum, int row)
{
    return cog_rounded<cog_bf16>(a.bias ? sum + cog_get(a.bias[row]) : sum);
}

COG_DEVICE float silu(float x)
{
    return cog_rounded<cog_bf16>(x / (1.0f + expf(-x)));
}

/* Rows i and i + head_dim / 2 of a head. */
template <int NT>
COG_DEVICE void emit_head(const skinny_args &a, const skinny_shared<NT> &s, int tile, int i,
                          int token, float low, float high)
{
    int half = a.partner, head = tile / a.per_span, head_kv = (head - a.heads) % a.kv.kv_heads;
    cog_bf16 *dst = s.out[token] + head * a.span;

    if (head >= a.heads) {
        dst = static_cast<cog_bf16 *>(a.kv.data) +
              cog_kv_at(&a.kv, a.layer, s.page[token], head_kv, s.slot_in_page[token]);
        dst += head - a.heads >= a.kv.kv_heads ? cog_kv_value_offset(&a.kv) : 0;
    }
    if (head < a.heads + a.kv.kv_heads) {
        size_t at = static_cast<size_t>(s.position[token]) * half + i;
        float cosine = a.cos[at], sine = a.sin[at], first = low;
        low = cog_rounded<cog_bf16>(first * cosine) - cog_rounded<cog_bf16>(high * sine);
        high = cog_rounded<cog_bf16>(high * cosine) + cog_rounded<cog_bf16>(first * sine);
    }
    dst[i] = cog_put<cog_bf16>(low);
    dst[i + half] = cog_put<cog_bf16>(high);
}

/* Rows `first` and its partner of the weight; sums of one row of the batch. */
template <int NT>
COG_DEVICE void emit(const skinny_args &a, const skinny_shared<NT> &s, int tile, int token,
                     float sum_low, float sum_high)
{
    int g = threadIdx.x % 32 / 4, first = first_of(a, tile) + g, second = first + a.partner;
    bool has_low = first < a.n, has_high = second < a.n;
    float low = has_low ? with_bias(a, sum_low, first) : 0;
    float high = has_high ? with_bias(a, sum_high, second) : 0;
    cog_bf16 *out = s.out[token];

    switch (a.op) {
    case SKINNY_STORE:
        if (has_low)
            out[first] = cog_put<cog_bf16>(low);
        if (has_high)
            out[second] = cog_put<cog_bf16>(high);
        break;
    case SKINNY_ADD:
        if (has_low)
            out[first] = cog_put<cog_bf16>(cog_get(out[first]) + low);
        if (has_high)
            out[second] = cog_put<cog_bf16>(cog_get(out[second]) + high);
        break;
    case SKINNY_GATE_UP:
        if (first < a.partner)
            out[first] = cog_put<cog_bf16>(silu(low) * high);
        break;
    case SKINNY_QKV:
        emit_head(a, s, tile, tile % a.per_span * 8 + g, token, low, high);
        break;
    }
}

/* The first TILES * NT warps add up one fragment each. */
template <int NT>
COG_DEVICE void finish(const skinny_args &a, const skinny_shared<NT> &s, int group)
{
    int lane = threadIdx.x % 32, fragment = threadIdx.x / 32;
    int tile = group * TILES + fragment / NT, token = fragment % NT * 8 + lane % 4 * 2;
    float sum[4] = {};

    if (fragment >= TILES * NT || tile >= a.tiles)
        return;
#pragma unroll 4
    for (int w = 0; w < WARPS; w++) {
        float4 more = s.sum[w][fragment][lane];
        sum[0] += more.x;
        sum[1] += more.y;
        sum[2] += more.z;
        sum[3] += more.w;
    }
    if (a.k % UNIT != 0)
        multiply_rest(a, s.rest[fragment % NT * 8 + lane / 4], tile, sum);
#pragma unroll 1
    for (int i = 0; i < 2 && token + i < a.rows; i++)
        emit(a, s, tile, token + i, i == 0 ? sum[0] : sum[1], i == 0 ? sum[2] : sum[3]);
}

/* ---- the kernel ---- */

/* Past k neither x nor the norm may be read. */
template <int NT, bool NORM> COG_DEVICE void keep_rest(const skinny_args &a, skinny_shared<NT> &s)
{
    for (int i = threadIdx.x; i < NT * 8 * UNIT; i += WARPS * 32) {
        int r = i / UNIT, k = a.k / UNIT * UNIT + i % UNIT;
        bool inside = r < a.rows && k < a.k;
        float v = inside ? cog_get(x_at(a, s.row[r].start, k)) : 0;
        if (NORM && inside)
            v = cog_get(a.norm[k]) * (v * s.row[r].scale);
        s.rest[r][i % UNIT] = cog_put<cog_bf16>(v);
    }
}

/* What all groups need to know of the rows. */
template <int NT, bool NORM>
COG_DEVICE void look_at_rows(const skinny_args &a, skinny_shared<NT> &s)
{
    int r = threadIdx.x;

    if (NORM) {
        square_rows(a, s.square);
        __syncthreads();
    }
    if (r < NT * 8) {
        int real = min(r, a.rows - 1);
        s.row[r].start = x_start(a, real);
        s.row[r].scale = NORM ? norm_scale(a, s.square[real]) : 1;
    }
    if (r < a.rows)
        s.out[r] = a.out + static_cast<size_t>(r) * a.ld_out;
    if (a.op == SKINNY_QKV && r < a.rows) {
        int slot = a.slot[r];
        s.position[r] = a.position[r];
        s.page[r] = a.block_table[static_cast<size_t>(a.seq[r]) * a.max_blocks +
                                  (slot >> a.kv.block_shift)];
        s.slot_in_page[r] = slot & (a.kv.block - 1);
    }
    __syncthreads();
    if (a.k % UNIT != 0) {
        keep_rest<NT, NORM>(a, s);
        __syncthreads();
    }
}

/* The piece of the weight that this thread holds, and where its next piece lies. */
struct weight_stream {
    uint4 now[WINDOWS][TILES][2];
    uint32_t next[TILES][2];
};

COG_DEVICE void ask(const skinny_args &a, weight_stream &w, int window)
{
#pragma unroll
    for (int m = 0; m < TILES; m++) {
        w.now[window][m][0] = stream_chunk(a.w, w.next[m][0] + window * (WINDOW / CHUNK));
        w.now[window][m][1] = stream_chunk(a.w, w.next[m][1] + window * (WINDOW / CHUNK));
    }
}

/* The warp's first unit of a group. */
COG_DEVICE void aim_first(const skinny_args &a, weight_stream &w, int group)
{
    int unit = threadIdx.x / 32;

    aim(a, group, unit * (UNIT / CHUNK) + threadIdx.x % 4, w.next);
}

/* acc += the warp's units of a group; leaves the first unit of the next group asked for. */
template <int NT, bool NORM>
COG_DEVICE void multiply_units(const skinny_args &a, const skinny_shared<NT> &s, weight_stream &w,
                               int group, float acc[TILES][NT][4])
{
    const int units = a.k / UNIT, stride = gridDim.x, g = threadIdx.x % 32 / 4;

#pragma unroll 1
    for (int unit = threadIdx.x / 32; unit < units; unit += WARPS) {
        bool more = true;
        if (unit + WARPS < units) {
#pragma unroll
            for (int i = 0; i < TILES * 2; i++)
                w.next[i / 2][i % 2] += WARPS * UNIT / CHUNK;
        } else {
            more = (group + stride) * TILES < a.tiles;
            aim_first(a, w, group + stride);
        }
#pragma unroll
        for (int window = 0; window < WINDOWS; window++) {
            int chunk = (unit * UNIT + window * WINDOW) / CHUNK + threadIdx.x % 4;
            uint4 norm = NORM ? load_chunk(a.norm, chunk) : make_uint4(0, 0, 0, 0);
#pragma unroll
            for (int nt = 0; nt < NT; nt++) {
                /* Skips fragments without rows, and keeps the compiler from having more of x under
                 * way than registers for it. */
                if (nt >= 2 && nt * 8 >= a.rows)
                    break;
                x_row row = s.row[nt * 8 + g];
                uint4 b = load_chunk(a.x, row.start + chunk);
                if (NORM)
                    b = normalised(b, norm, row.scale);
#pragma unroll
                for (int m = 0; m < TILES; m++)
                    multiply(acc[m][nt], w.now[window][m][0], w.now[window][m][1], b);
            }
            if (more)
                ask(a, w, window);
        }
    }
}

template <int NT, bool NORM>
static __global__ void __launch_bounds__(WARPS * 32) skinny_kernel(const skinny_args a)
{
    skinny_shared<NT> &s = cog_shared<skinny_shared<NT>>();
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    weight_stream w;

    /* Weights do not wait for the preceding kernel. */
    aim_first(a, w, blockIdx.x);
    if (warp < a.k / UNIT) {
#pragma unroll
        for (int window = 0; window < WINDOWS; window++)
            ask(a, w, window);
    }
    cog_dependency_trigger();
    cog_dependency_wait();

    look_at_rows<NT, NORM>(a, s);
#pragma unroll 1
    for (int group = blockIdx.x; group * TILES < a.tiles; group += gridDim.x) {
        float acc[TILES][NT][4] = {};

        multiply_units<NT, NORM>(a, s, w, group, acc);
        __syncthreads(); /* the sums of the group before have been read */
#pragma unroll
        for (int i = 0; i < TILES * NT; i++) {
            const float *sum = acc[i / NT][i % NT];
            s.sum[warp][i][lane] = make_float4(sum[0], sum[1], sum[2], sum[3]);
        }
        __syncthreads();
        finish(a, s, group);
    }
}

/* ---- launchers ---- */

/* Of the device; set once by prepare. */
static int multiprocessors;

template <int NT, bool NORM> static int prepare()
{
    return cog_prepare("skinny", skinny_kernel<NT, NORM>, sizeof(skinny_shared<NT>));
}

template <int NT> static int launch_rows(cudaStream_t s, const cog_skinny *p, const skinny_args &a)
{
    int groups = (a.tiles + TILES - 1) / TILES;
    /* One block fills an SM's registers, and a second round would repeat the norm. */
    unsigned grid = static_cast<unsigned>(groups < multiprocessors ? groups : multiprocessors);
    cog_launch_at at = { s, dim3(grid), dim3(WARPS * 32), sizeof(skinny_shared<NT>), p->dependent };

    if (p->norm)
        return cog_launch("skinny", at, skinny_kernel<NT, true>, a);
    return cog_launch("skinny", at, skinny_kernel<NT, false>, a);
}

static int launch(cudaStream_t s, const cog_skinny *p, const skinny_args &a)
{
    assert(multiprocessors > 0 && p->rows <= COG_SKINNY_ROWS);
    assert(p->ld_w % CHUNK == 0 && p->ld_x % CHUNK == 0);
    assert(static_cast<uint64_t>(p->n) * (p->ld_w / CHUNK) <= UINT32_MAX);
    if (p->rows <= 0 || p->n <= 0)
        return 0;
    if (p->rows <= 8)
        return launch_rows<1>(s, p, a);
    return p->rows <= 16 ? launch_rows<2>(s, p, a) : launch_rows<4>(s, p, a);
}

static skinny_args arguments(const cog_skinny *p, skinny_op op, void *out, size_t ld_out)
{
    skinny_args a = {};

    a.x = static_cast<const cog_bf16 *>(p->x);
    a.norm = static_cast<const cog_bf16 *>(p->norm);
    a.w = static_cast<const cog_bf16 *>(p->w);
    a.bias = static_cast<const cog_bf16 *>(p->bias);
    a.row = p->row;
    a.ld_x = static_cast<uint32_t>(p->ld_x / CHUNK);
    a.ld_w = static_cast<uint32_t>(p->ld_w / CHUNK);
    a.eps = p->eps;
    a.rows = p->rows;
    a.n = p->n;
    a.k = p->k;
    a.tiles = (p->n + 15) / 16;
    a.per_span = 1;
    a.span = 16;
    a.partner = 8;
    a.op = op;
    a.out = static_cast<cog_bf16 *>(out);
    a.ld_out = ld_out;
    return a;
}

extern "C" int cog_cuda_skinny_prepare(void)
{
    int device = 0, rc = cog_cuda_check(cudaGetDevice(&device), "skinny");

    if (rc == 0)
        rc = cog_cuda_check(
            cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
            "skinny");
    if (rc == 0)
        rc = prepare<1, false>();
    if (rc == 0)
        rc = prepare<1, true>();
    if (rc == 0)
        rc = prepare<2, false>();
    if (rc == 0)
        rc = prepare<2, true>();
    if (rc == 0)
        rc = prepare<4, false>();
    if (rc == 0)
        rc = prepare<4, true>();
    return rc;
}

/* One kernel stands for all: they are compiled together. */
extern "C" bool cog_cuda_skinny_can_depend(void)
{
    return cog_can_depend(skinny_kernel<1, false>);
}

extern "C" bool cog_cuda_skinny_fits(cog_dtype type, int hidden, int inter, int head_dim)
{
    return type == COG_BF16 && hidden > 0 && inter > 0 && head_dim > 0 && head_dim <= 256 &&
           head_dim % 16 == 0;
}

extern "C" int cog_cuda_skinny_store(cudaStream_t s, const cog_skinny *p, void *out, size_t ld_out)
{
    return launch(s, p, arguments(p, SKINNY_STORE, out, ld_out));
}

extern "C" int cog_cuda_skinny_add(cudaStream_t s, const cog_skinny *p, void *x, size_t ld_x)
{
    return launch(s, p, arguments(p, SKINNY_ADD, x, ld_x));
}

extern "C" int cog_cuda_skinny_gate_up(cudaStream_t s, const cog_skinny *p, void *out,
                                       size_t ld_out)
{
    skinny_args a = arguments(p, SKINNY_GATE_UP, out, ld_out);

    assert(p->n % 2 == 0);
    a.partner = p->n / 2;
    a.tiles = (a.partner + 7) / 8;
    a.per_span = a.tiles > 0 ? a.tiles : 1;
    a.span = 0;
    return launch(s, p, a);
}

extern "C" int cog_cuda_skinny_qkv(cudaStream_t s, const cog_skinny *p, void *out, size_t ld_out,
                                   const float *cos, const float *sin, const cog_cuda_kv *kv,
                                   int layer, const int32_t *position, const int32_t *slot,
                                   const int32_t *seq, const int32_t *block_table, int max_blocks,
                                   int heads)
{
    skinny_args a = arguments(p, SKINNY_QKV, out, ld_out);

    assert(kv->head_dim % 16 == 0 && kv->block == 1 << kv->block_shift &&
           p->n == (heads + 2 * kv->kv_heads) * kv->head_dim);
    a.tiles = p->n / 16;
    a.per_span = kv->head_dim / 16;
    a.span = kv->head_dim;
    a.partner = kv->head_dim / 2;
    a.cos = cos;
    a.sin = sin;
    a.kv = *kv;
    a.layer = layer;
    a.heads = heads;
    a.max_blocks = max_blocks;
    a.position = position;
    a.slot = slot;
    a.seq = seq;
    a.block_table = block_table;
    return launch(s, p, a);
}
