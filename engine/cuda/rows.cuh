/* rows.cuh - rows of elements in pieces of 16 bytes, and sums over a block. Included by the .cu
 * files whose kernels are bound by memory.
 *
 * Rows start at multiples of 16 bytes; the piece that a row's last elements do not fill is read and
 * written element by element, so nothing between cols and ld is touched. */
#ifndef COG_ENGINE_CUDA_ROWS_CUH
#define COG_ENGINE_CUDA_ROWS_CUH

#include "engine/cuda/launch.cuh"

enum { COG_ROW_THREADS = 256 };

/* Elements of a piece. */
template <typename T> constexpr int cog_piece = 16 / static_cast<int>(sizeof(T));

COG_DEVICE void cog_unpack(float v[4], uint4 q, float)
{
    v[0] = __uint_as_float(q.x);
    v[1] = __uint_as_float(q.y);
    v[2] = __uint_as_float(q.z);
    v[3] = __uint_as_float(q.w);
}

COG_DEVICE void cog_unpack(float v[8], uint4 q, cog_bf16)
{
    v[0] = cog_bf16_low(q.x);
    v[1] = cog_bf16_high(q.x);
    v[2] = cog_bf16_low(q.y);
    v[3] = cog_bf16_high(q.y);
    v[4] = cog_bf16_low(q.z);
    v[5] = cog_bf16_high(q.z);
    v[6] = cog_bf16_low(q.w);
    v[7] = cog_bf16_high(q.w);
}

COG_DEVICE uint4 cog_pack(const float v[4], float)
{
    return make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]),
                      __float_as_uint(v[3]));
}

COG_DEVICE uint4 cog_pack(const float v[8], cog_bf16)
{
    return make_uint4(cog_bf16_pack(v[0], v[1]), cog_bf16_pack(v[2], v[3]),
                      cog_bf16_pack(v[4], v[5]), cog_bf16_pack(v[6], v[7]));
}

/* v = elements at .. of the row, 0 from cols on; at is a multiple of the piece. */
template <typename T>
COG_DEVICE void cog_load_piece(float (&v)[cog_piece<T>], const T *row, int at, int cols)
{
    if (at + cog_piece<T> <= cols) {
        cog_unpack(v, *reinterpret_cast<const uint4 *>(row + at), T());
    } else {
#pragma unroll
        for (int j = 0; j < cog_piece<T>; j++)
            v[j] = at + j < cols ? cog_get(row[at + j]) : 0.0f;
    }
}

/* Rounds v into the row; nothing from cols on. */
template <typename T>
COG_DEVICE void cog_store_piece(T *row, int at, int cols, const float (&v)[cog_piece<T>])
{
    if (at + cog_piece<T> <= cols) {
        *reinterpret_cast<uint4 *>(row + at) = cog_pack(v, T());
    } else {
#pragma unroll
        for (int j = 0; j < cog_piece<T>; j++)
            if (at + j < cols)
                row[at + j] = cog_put<T>(v[j]);
    }
}

/* Copies the bits of a piece. */
template <typename T> COG_DEVICE void cog_copy_piece(T *dst, const T *src, int at, int cols)
{
    if (at + cog_piece<T> <= cols) {
        *reinterpret_cast<uint4 *>(dst + at) = *reinterpret_cast<const uint4 *>(src + at);
    } else {
#pragma unroll
        for (int j = 0; j < cog_piece<T>; j++)
            if (at + j < cols)
                dst[at + j] = src[at + j];
    }
}

/* The sum over the block in an order that depends on its size only, in all threads. part: one float
 * for each warp, not used before in this kernel. */
COG_DEVICE float cog_block_sum(float x, float *part)
{
    int warps = static_cast<int>(blockDim.x) / 32;
    float sum;

#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, mask);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    __syncthreads();
    sum = part[0];
    for (int w = 1; w < warps; w++)
        sum += part[w];
    return sum;
}

/* Whole warps, at most COG_ROW_THREADS threads, enough for n items where that is. */
static inline unsigned cog_row_threads(int n)
{
    int threads = n >= COG_ROW_THREADS ? COG_ROW_THREADS : (n + 31) / 32 * 32;

    return static_cast<unsigned>(threads);
}

/* A thread per item: blocks of a row along y, rows along x, which may be many. */
static inline cog_launch_at cog_over_rows(cudaStream_t s, int rows, int items)
{
    cog_launch_at at = {};
    unsigned threads = cog_row_threads(items);

    at.stream = s;
    at.block = dim3(threads);
    at.grid = dim3(static_cast<unsigned>(rows),
                   threads ? (static_cast<unsigned>(items) + threads - 1) / threads : 0);
    return at;
}

/* The item of this thread under cog_over_rows. */
COG_DEVICE int cog_row_item()
{
    return static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
}

/* Pieces of a row of cols elements. */
template <typename T> static inline int cog_pieces(int cols)
{
    return (cols + cog_piece<T> - 1) / cog_piece<T>;
}

#endif
