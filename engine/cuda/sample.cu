/* sample.cu - logits to tokens: a block per draw. Order and definitions are those of
 * engine/sampler.h; arithmetic is engine/sample_math.h, integers where sums are taken, so that the
 * order of threads does not show.
 *
 * Tokens are ranked by a number: an order-preserving form of the logit, and below it the id turned
 * round, so that the lower of two equal tokens ranks higher. What top_k and top_p keep is all that
 * ranks at or above a cut. The cut is found by counting: first in bins of equal width below the
 * highest logit, which spread tokens evenly, then within one bin digit by digit of the rank. A pass
 * reads the row from the L2; weights are computed once for each token, and again for those few that
 * a pass is about. */
#include "engine/cuda/rows.cuh"
#include "engine/sample_math.h"

namespace
{

constexpr int THREADS = 512, BINS = 1024, DIGIT = 8;

struct sample_shared {
    union {
        unsigned long long bin[BINS]; /* counts or weights, best first */
        unsigned half[2 * BINS];      /* their low and high halves */
    };
    unsigned long long warp[32];
    uint32_t low[32];
    unsigned long long total, before;
    int found;
};

/* Bits of the logit's part of a rank: all that differ in the type. */
template <typename T> constexpr int key_bits = 8 * static_cast<int>(sizeof(T));

/* -0 and 0 are equal logits. NaN has no key that matters: nobody takes it. */
COG_DEVICE uint32_t key_of(float logit)
{
    uint32_t bits = __float_as_uint(logit == 0 ? 0.0f : logit);

    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

COG_DEVICE float logit_of(uint32_t key)
{
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

template <typename T> struct row {
    const T *logits;
    int vocab, id_bits;
    float max;
    double inverse; /* of the temperature */
    float min_p;
    float bins_per_logit;
};

template <typename T> COG_DEVICE uint64_t weight_of(const row<T> &r, float logit)
{
    return cog_sample_weight(logit, r.max, r.inverse, r.min_p);
}

template <typename T> COG_DEVICE uint64_t rank_of(const row<T> &r, float logit, int id)
{
    uint64_t turned = (uint64_t{ 1 } << r.id_bits) - 1 - static_cast<uint64_t>(id);

    return static_cast<uint64_t>(key_of(logit) >> (32 - key_bits<T>)) << r.id_bits | turned;
}

/* Never rises with the logit. */
template <typename T> COG_DEVICE int bin_of(const row<T> &r, float logit)
{
    return static_cast<int>(fminf((r.max - logit) * r.bins_per_logit, BINS - 1));
}

/* ---- over the block ---- */

COG_DEVICE unsigned long long warp_sum(unsigned long long x)
{
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, mask);
    return x;
}

/* The sum over this lane and those before it. */
COG_DEVICE unsigned long long warp_scan(unsigned long long x)
{
#pragma unroll
    for (int delta = 1; delta < 32; delta *= 2) {
        unsigned long long lower = __shfl_up_sync(0xffffffffu, x, delta);
        if (static_cast<int>(threadIdx.x % 32) >= delta)
            x += lower;
    }
    return x;
}

struct extremes {
    unsigned long long best; /* the rank of the highest, with the id in its low half; 0: none */
    uint32_t low;            /* the key of the lowest */
};

/* Of the logits above -infinity. All threads get them. */
template <typename T> COG_DEVICE extremes extremes_of(const T *logits, int vocab)
{
    sample_shared &shared = cog_shared<sample_shared>();
    int warps = static_cast<int>(blockDim.x) / 32;
    unsigned long long best = 0;
    uint32_t low = UINT32_MAX;

    for (int at = static_cast<int>(threadIdx.x) * cog_piece<T>; at < vocab;
         at += static_cast<int>(blockDim.x) * cog_piece<T>) {
        float v[cog_piece<T>];
        cog_load_piece(v, logits, at, vocab);
#pragma unroll
        for (int j = 0; j < cog_piece<T>; j++) {
            uint32_t key = key_of(v[j]);
            unsigned long long rank =
                static_cast<unsigned long long>(key) << 32 | ~static_cast<unsigned>(at + j);
            if (at + j >= vocab || !(v[j] > -INFINITY))
                continue;
            best = rank > best ? rank : best;
            low = min(low, key);
        }
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) {
        unsigned long long other = __shfl_xor_sync(0xffffffffu, best, mask);
        best = other > best ? other : best;
        low = min(low, __shfl_xor_sync(0xffffffffu, low, mask));
    }
    if (threadIdx.x % 32 == 0) {
        shared.warp[threadIdx.x / 32] = best;
        shared.low[threadIdx.x / 32] = low;
    }
    __syncthreads();
    for (int w = 0; w < warps; w++) {
        best = shared.warp[w] > best ? shared.warp[w] : best;
        low = min(low, shared.low[w]);
    }
    __syncthreads();
    return { best, low };
}

/* ---- the cut ---- */

/* What is searched: the token with which the running measure, best first, reaches need. */
struct search {
    bool by_weight; /* the measure is the weight; otherwise each counts one */
    float share;    /* by_weight: need is this share of all; */
    unsigned long long need;
};

COG_DEVICE void clear_bins()
{
    sample_shared &shared = cog_shared<sample_shared>();

    for (int i = static_cast<int>(threadIdx.x); i < BINS; i += static_cast<int>(blockDim.x))
        shared.bin[i] = 0;
    __syncthreads();
}

/* Warp 0 finds the bin in which the running sum reaches need, and the sum before it; found is BINS
 * when all together do not. By the first call of a search by_weight, need comes of the total. All
 * threads get the same need. */
COG_DEVICE void find_bin(search &s, bool is_first)
{
    enum { EACH = BINS / 32 };
    sample_shared &shared = cog_shared<sample_shared>();
    int lane = static_cast<int>(threadIdx.x);

    __syncthreads();
    if (threadIdx.x < 32) {
        unsigned long long mine = 0;
        for (int j = 0; j < EACH; j++) /* lanes begin in different banks */
            mine += shared.bin[lane * EACH + (j + lane) % EACH];
        unsigned long long up_to = warp_scan(mine);
        unsigned long long total = __shfl_sync(0xffffffffu, up_to, 31);
        unsigned long long need = s.need;
        if (is_first && s.by_weight)
            need = cog_sample_share(total, s.share);
        unsigned reached = __ballot_sync(0xffffffffu, up_to >= need);
        if (lane == 0) {
            shared.total = need;
            shared.found = BINS;
        }
        __syncwarp();
        if (reached != 0 && lane == __ffs(static_cast<int>(reached)) - 1) {
            unsigned long long sum = up_to - mine;
            int i = lane * EACH;
            while (sum + shared.bin[i] < need)
                sum += shared.bin[i++];
            shared.before = sum;
            shared.found = i;
        }
    }
    __syncthreads();
    s.need = shared.total;
}

/* Adds to the bins what the tokens at or above floor measure. BY_DIGIT: those of bin `in` whose
 * rank above shift + width is prefix, by the digit at shift; otherwise all by bin_of. */
template <bool BY_DIGIT, typename T>
COG_DEVICE void fill_bins(const row<T> &r, const search &s, uint64_t floor, int in, uint64_t prefix,
                          int shift, int width)
{
    sample_shared &shared = cog_shared<sample_shared>();

    for (int at = static_cast<int>(threadIdx.x) * cog_piece<T>; at < r.vocab;
         at += static_cast<int>(blockDim.x) * cog_piece<T>) {
        float v[cog_piece<T>];
        cog_load_piece(v, r.logits, at, r.vocab);
#pragma unroll
        for (int j = 0; j < cog_piece<T>; j++) {
            uint64_t rank = rank_of(r, v[j], at + j), weight;
            if (at + j >= r.vocab || isnan(v[j]) || rank < floor)
                continue;
            int bin = bin_of(r, v[j]);
            if (BY_DIGIT) {
                if (bin != in || rank >> (shift + width) != prefix)
                    continue;
                int mask = (1 << width) - 1;
                bin = mask - (static_cast<int>(rank >> shift) & mask);
            }
            weight = weight_of(r, v[j]);
            if (weight > 0 && s.by_weight)
                atomicAdd(&shared.bin[bin], static_cast<unsigned long long>(weight));
            else if (weight > 0) /* 64 bits would be a loop of compare and swap */
                atomicAdd(&shared.half[2 * bin], 1u);
        }
    }
}

/* The rank from which on tokens are kept. keep_equal: those with the same logit as the last are,
 * too. floor stays when all above it together do not reach what is needed. */
template <typename T>
COG_DEVICE uint64_t cut_of(const row<T> &r, search s, uint64_t floor, bool keep_equal)
{
    sample_shared &shared = cog_shared<sample_shared>();
    int shift = key_bits<T> + r.id_bits, stop = keep_equal ? r.id_bits : 0, in;
    uint64_t prefix = 0;

    clear_bins();
    fill_bins<false>(r, s, floor, 0, 0, 0, 0);
    find_bin(s, true);
    in = shared.found;
    if (in == BINS)
        return floor;
    s.need -= shared.before;
    while (shift > stop) {
        int width = shift - stop < DIGIT ? shift - stop : DIGIT, mask = (1 << width) - 1;
        __syncthreads(); /* found was read */
        clear_bins();
        shift -= width;
        fill_bins<true>(r, s, floor, in, prefix, shift, width);
        find_bin(s, false);
        prefix = prefix << width | static_cast<uint64_t>(mask - shared.found);
        s.need -= shared.before;
    }
    __syncthreads();
    return prefix << shift;
}

/* ---- the draw ---- */

template <typename T>
COG_DEVICE uint64_t kept_weight(const row<T> &r, uint64_t cut, float logit, int id)
{
    return id < r.vocab && rank_of(r, logit, id) >= cut ? weight_of(r, logit) : 0;
}

/* The token at which the running sum by id exceeds target, in pieces first .. end - 1, which warp
 * walks; sum is that before them. */
template <typename T>
COG_DEVICE void walk(int32_t *token, const row<T> &r, uint64_t cut, int first, int end,
                     unsigned long long sum, unsigned long long target)
{
    int lane = static_cast<int>(threadIdx.x % 32);

    for (int step = first; step < end; step += 32) {
        int at = (step + lane) * cog_piece<T>;
        float v[cog_piece<T>];
        unsigned long long weight[cog_piece<T>], mine = 0;
        cog_load_piece(v, r.logits, at, r.vocab);
#pragma unroll
        for (int j = 0; j < cog_piece<T>; j++) {
            weight[j] = step + lane < end ? kept_weight(r, cut, v[j], at + j) : 0;
            mine += weight[j];
        }
        unsigned long long up_to = sum + warp_scan(mine);
        unsigned beyond = __ballot_sync(0xffffffffu, up_to > target);
        if (beyond != 0) {
            if (lane != __ffs(static_cast<int>(beyond)) - 1)
                return;
            int last = 0;
            up_to -= mine;
#pragma unroll
            for (int j = 0; j < cog_piece<T>; j++) {
                last += up_to + weight[j] <= target;
                up_to += weight[j];
            }
            *token = at + last;
            return;
        }
        sum = __shfl_sync(0xffffffffu, up_to, 31);
    }
}

/* Each warp has a run of ids, so that the sums of warps are in order of id. */
template <typename T>
COG_DEVICE void draw_by_id(int32_t *token, const row<T> &r, uint64_t cut, uint64_t bits)
{
    sample_shared &shared = cog_shared<sample_shared>();
    int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
    int pieces = (r.vocab + cog_piece<T> - 1) / cog_piece<T>, each = (pieces + warps - 1) / warps;
    int first = warp * each, end = first + each < pieces ? first + each : pieces;
    unsigned long long mine = 0, total = 0, before = 0, target;

    for (int p = first + static_cast<int>(threadIdx.x % 32); p < end; p += 32) {
        float v[cog_piece<T>];
        cog_load_piece(v, r.logits, p * cog_piece<T>, r.vocab);
#pragma unroll
        for (int j = 0; j < cog_piece<T>; j++)
            mine += kept_weight(r, cut, v[j], p * cog_piece<T> + j);
    }
    mine = warp_sum(mine);
    if (threadIdx.x % 32 == 0)
        shared.warp[warp] = mine;
    __syncthreads();
    for (int w = 0; w < warps; w++) {
        before += w < warp ? shared.warp[w] : 0;
        total += shared.warp[w];
    }
    target = cog_sample_target(total, bits);
    if (before <= target && target < before + mine)
        walk(token, r, cut, first, end, before, target);
}

/* How far below the highest logit the bins reach: no token weighs anything 28 temperatures below
 * it, and none lies below the lowest. Not so little that BINS divided by it would overflow. */
COG_DEVICE float bins_range(float max, float low, float temperature)
{
    return fmaxf(fminf(28 * temperature, max - low), 1e-30f);
}

template <typename T>
COG_DEVICE void pick(int32_t *token, const T *logits, int vocab, const cog_cuda_draw &d)
{
    extremes e = extremes_of(logits, vocab);
    unsigned long long best = e.best;
    float max = logit_of(static_cast<uint32_t>(best >> 32));
    uint64_t cut = 0;

    if (best == 0 || max == INFINITY || d.temperature < 1e-5f || d.top_p == 0) {
        if (threadIdx.x == 0)
            *token = best == 0 || max == INFINITY
                         ? -1
                         : static_cast<int32_t>(~static_cast<unsigned>(best));
        return;
    }
    row<T> r = { logits,
                 vocab,
                 32 - __clz(vocab),
                 max,
                 1 / static_cast<double>(d.temperature),
                 d.min_p,
                 BINS / bins_range(max, logit_of(e.low), d.temperature) };
    if (d.top_k > 0)
        cut = cut_of(r, search{ false, 0, static_cast<unsigned long long>(d.top_k) }, 0, true);
    if (d.top_p < 1)
        cut = cut_of(r, search{ true, d.top_p, 0 }, cut, false);
    draw_by_id(token, r, cut, d.bits);
}

/* The row after its edits, in scratch. */
template <typename T>
COG_DEVICE void edit(float *scratch, const T *logits, int vocab, const cog_cuda_edit *edits,
                     const cog_cuda_draw &d)
{
    int threads = static_cast<int>(blockDim.x), first = static_cast<int>(threadIdx.x);

    for (int at = first * cog_piece<T>; at < vocab; at += threads * cog_piece<T>) {
        float v[cog_piece<T>];
        cog_load_piece(v, logits, at, vocab);
#pragma unroll
        for (int j = 0; j < cog_piece<T>; j += 4) {
            float quad[4] = { v[j], v[j + 1], v[j + 2], v[j + 3] };
            if (d.only_edits)
                quad[0] = quad[1] = quad[2] = quad[3] = -INFINITY;
            cog_store_piece(scratch, at + j, vocab, quad);
        }
    }
    __syncthreads();
    for (int i = first; i < d.n_edits; i += threads) {
        const cog_cuda_edit e = edits[i];
        float logit = cog_sample_bias(cog_get(logits[e.token]), e.bias);
        if (e.count >= 0 && d.repetition != 1)
            logit = cog_sample_repeat(logit, d.repetition);
        if (e.count > 0)
            logit = cog_sample_occur(logit, d.frequency, d.presence, e.count);
        scratch[e.token] = logit;
    }
    __syncthreads();
}

template <typename T>
__global__ void __launch_bounds__(THREADS, 1)
    sample(int32_t *token, const T *logits, size_t ld_logits, int vocab, const cog_cuda_draw *draws,
           const cog_cuda_edit *edits, float *scratch, size_t ld_scratch)
{
    const cog_cuda_draw d = draws[blockIdx.x];

    token += blockIdx.x;
    logits += static_cast<size_t>(d.row) * ld_logits;
    scratch += blockIdx.x * ld_scratch;
    if (d.n_edits > 0)
        edit(scratch, logits, vocab, edits + d.first_edit, d);
    if constexpr (sizeof(T) == sizeof(float))
        pick(token, d.n_edits > 0 ? scratch : logits, vocab, d);
    else if (d.n_edits > 0)
        pick(token, scratch, vocab, d);
    else
        pick(token, logits, vocab, d);
}

size_t ld_of_scratch(int vocab)
{
    return (static_cast<size_t>(vocab) + 3) / 4 * 4;
}

template <typename T>
int launch(cudaStream_t s, int32_t *token, const void *logits, size_t ld_logits, int vocab,
           const cog_cuda_draw *draws, const cog_cuda_edit *edits, int n_draws, float *scratch)
{
    int pieces = cog_pieces<T>(vocab);
    cog_launch_at at = {};

    at.stream = s;
    at.grid = dim3(static_cast<unsigned>(n_draws));
    at.block = dim3(static_cast<unsigned>(pieces < THREADS ? (pieces + 31) / 32 * 32 : THREADS));
    at.shared = sizeof(sample_shared);
    return cog_launch("sample", at, sample<T>, token, static_cast<const T *>(logits), ld_logits,
                      vocab, draws, edits, scratch, ld_of_scratch(vocab));
}

} // namespace

int cog_cuda_sample_prepare(void)
{
    int rc = cog_prepare("sample", sample<float>, sizeof(sample_shared));

    return rc ? rc : cog_prepare("sample", sample<cog_bf16>, sizeof(sample_shared));
}

size_t cog_cuda_sample_scratch(int vocab, int n_draws)
{
    return ld_of_scratch(vocab) * static_cast<size_t>(n_draws);
}

int cog_cuda_sample(cudaStream_t s, cog_dtype type, int32_t *token, const void *logits,
                    size_t ld_logits, int vocab, const cog_cuda_draw *draws,
                    const cog_cuda_edit *edits, int n_draws, float *scratch)
{
    return (type == COG_F32 ? launch<float> : launch<cog_bf16>)(s, token, logits, ld_logits, vocab,
                                                                draws, edits, n_draws, scratch);
}
