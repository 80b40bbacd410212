/* rope_kv.cu - rotary positions, and keys and values into pages.
 *
 *   x'[i]        = rounded(x[i] cos[i]) - rounded(x[i + half] sin[i])
 *   x'[i + half] = rounded(x[i + half] cos[i]) + rounded(x[i] sin[i]),  i < half = head_dim / 2
 *
 * A thread per 16 bytes of half a head, or per pair where half a head is no multiple of 16 bytes.
 */
#include "base/device.h"
#include "engine/cuda/rows.cuh"

namespace
{

struct rope_args {
    const float *cos, *sin;
    cog_cuda_kv kv;
    int layer;
    const int32_t *position, *slot, *seq, *block_table;
    int max_blocks, heads;
};

/* Threads that turn heads of a row: N pairs each. After them come those that copy values. */
template <int N> COG_HOST_DEVICE int turning(const rope_args &a)
{
    return (a.heads + a.kv.kv_heads) * (a.kv.head_dim / 2 / N);
}

template <int N> COG_HOST_DEVICE int copying(const rope_args &a)
{
    return a.kv.kv_heads * (a.kv.head_dim / N);
}

template <typename T, int N> COG_DEVICE void load(float (&v)[N], const T *p)
{
    if constexpr (N == 1)
        v[0] = cog_get(*p);
    else
        cog_unpack(v, *reinterpret_cast<const uint4 *>(p), T());
}

template <typename T, int N> COG_DEVICE void store(T *p, const float (&v)[N])
{
    if constexpr (N == 1)
        *p = cog_put<T>(v[0]);
    else
        *reinterpret_cast<uint4 *>(p) = cog_pack(v, T());
}

template <int N> COG_DEVICE void load_angles(float (&v)[N], const float *p)
{
    if constexpr (N == 1) {
        v[0] = *p;
    } else {
#pragma unroll
        for (int j = 0; j < N; j += 4) {
            float4 q = *reinterpret_cast<const float4 *>(p + j);
            v[j] = q.x;
            v[j + 1] = q.y;
            v[j + 2] = q.z;
            v[j + 3] = q.w;
        }
    }
}

/* The key of a KV head of the row's slot. */
template <typename T> COG_DEVICE T *key_at(const rope_args &a, size_t row, int head)
{
    int slot = a.slot[row];
    int page = a.block_table[static_cast<size_t>(a.seq[row]) * static_cast<size_t>(a.max_blocks) +
                             static_cast<size_t>(slot >> a.kv.block_shift)];

    return static_cast<T *>(a.kv.data) +
           cog_kv_at(&a.kv, a.layer, page, head, slot & (a.kv.block - 1));
}

template <typename T, int N> COG_DEVICE void turn(T *qkv, const rope_args &a, size_t row, int item)
{
    int half = a.kv.head_dim / 2, per_head = half / N;
    int head = item / per_head, i = item % per_head * N;
    size_t angle =
        static_cast<size_t>(a.position[row]) * static_cast<size_t>(half) + static_cast<size_t>(i);
    T *x = qkv + static_cast<size_t>(head) * static_cast<size_t>(a.kv.head_dim) + i;
    float low[N], high[N], cos[N], sin[N];

    load(low, x);
    load(high, x + half);
    load_angles(cos, a.cos + angle);
    load_angles(sin, a.sin + angle);
#pragma unroll
    for (int j = 0; j < N; j++) {
        float l = low[j], h = high[j];
        low[j] = cog_rounded<T>(l * cos[j]) - cog_rounded<T>(h * sin[j]);
        high[j] = cog_rounded<T>(h * cos[j]) + cog_rounded<T>(l * sin[j]);
    }
    store(x, low);
    store(x + half, high);
    if (head >= a.heads) {
        T *key = key_at<T>(a, row, head - a.heads) + i;
        store(key, low);
        store(key + half, high);
    }
}

template <typename T, int N>
COG_DEVICE void copy(const T *qkv, const rope_args &a, size_t row, int item)
{
    int per_head = a.kv.head_dim / N, head = item / per_head, i = item % per_head * N;
    size_t from =
        static_cast<size_t>(a.heads + a.kv.kv_heads + head) * static_cast<size_t>(a.kv.head_dim) +
        static_cast<size_t>(i);
    T *value = key_at<T>(a, row, head) + cog_kv_value_offset(&a.kv) + i;

    if constexpr (N == 1)
        *value = qkv[from];
    else
        *reinterpret_cast<uint4 *>(value) = *reinterpret_cast<const uint4 *>(qkv + from);
}

template <typename T, int N>
__global__ void __launch_bounds__(COG_ROW_THREADS) rope_kv(T *qkv, size_t ld_qkv, rope_args a)
{
    size_t row = blockIdx.x;
    int item = cog_row_item(), turns = turning<N>(a);

    qkv += row * ld_qkv;
    if (item < turns)
        turn<T, N>(qkv, a, row, item);
    else if (item < turns + copying<N>(a))
        copy<T, N>(qkv, a, row, item - turns);
}

/* A block along x is one head of one layer, keys or values. */
template <typename T>
__global__ void __launch_bounds__(COG_ROW_THREADS)
    kv_copy(cog_cuda_kv kv, int dst, int src, int n_slots, int pieces)
{
    int heads = 2 * kv.kv_heads, layer = static_cast<int>(blockIdx.x) / heads;
    int head = static_cast<int>(blockIdx.x) % heads, item = cog_row_item();
    int slot = item / pieces;
    T *data = static_cast<T *>(kv.data);

    if (slot < n_slots)
        cog_copy_piece(data + cog_kv_at(&kv, layer, dst, head, slot),
                       data + cog_kv_at(&kv, layer, src, head, slot), item % pieces * cog_piece<T>,
                       kv.head_dim);
}

template <typename T, int N>
int launch_rope_kv(cudaStream_t s, void *qkv, size_t ld_qkv, const rope_args &a, int rows)
{
    return cog_launch("rope_kv", cog_over_rows(s, rows, turning<N>(a) + copying<N>(a)),
                      rope_kv<T, N>, static_cast<T *>(qkv), ld_qkv, a);
}

template <typename T>
int launch_kv_copy(cudaStream_t s, const cog_cuda_kv *kv, int dst, int src, int n_slots)
{
    int pieces = cog_pieces<T>(kv->head_dim);

    return cog_launch("kv_copy", cog_over_rows(s, kv->layers * 2 * kv->kv_heads, n_slots * pieces),
                      kv_copy<T>, *kv, dst, src, n_slots, pieces);
}

template <typename T> int prepare()
{
    int rc = cog_prepare("rope_kv", rope_kv<T, 1>, 0);

    if (rc == 0)
        rc = cog_prepare("rope_kv", rope_kv<T, cog_piece<T>>, 0);
    if (rc == 0)
        rc = cog_prepare("kv_copy", kv_copy<T>, 0);
    return rc;
}

} // namespace

int cog_cuda_rope_kv_prepare(void)
{
    int rc = prepare<float>();

    return rc ? rc : prepare<cog_bf16>();
}

int cog_cuda_rope_kv(cudaStream_t s, cog_dtype type, void *qkv, size_t ld_qkv, const float *cos,
                     const float *sin, const cog_cuda_kv *kv, int layer, const int32_t *position,
                     const int32_t *slot, const int32_t *seq, const int32_t *block_table,
                     int max_blocks, int rows, int heads)
{
    rope_args a = { cos, sin, *kv, layer, position, slot, seq, block_table, max_blocks, heads };
    int half = kv->head_dim / 2;

    if (type == COG_F32)
        return (half % cog_piece<float> == 0 ? launch_rope_kv<float, cog_piece<float>>
                                             : launch_rope_kv<float, 1>)(s, qkv, ld_qkv, a, rows);
    return (half % cog_piece<cog_bf16> == 0 ? launch_rope_kv<cog_bf16, cog_piece<cog_bf16>>
                                            : launch_rope_kv<cog_bf16, 1>)(s, qkv, ld_qkv, a, rows);
}

int cog_cuda_kv_copy(cudaStream_t s, cog_dtype type, const cog_cuda_kv *kv, int dst, int src,
                     int n_slots)
{
    return (type == COG_F32 ? launch_kv_copy<float> : launch_kv_copy<cog_bf16>)(s, kv, dst, src,
                                                                                n_slots);
}
