/* norm.cu - norms and residual additions: one block per row, which it reads once.
 *
 *   RMS norm    w * (x / sqrt(mean(x^2) + eps))
 *   layer norm  (y - mean) / sqrt(variance + eps) * w + b, variance biased, around the mean
 *
 * A thread holds up to CHUNKS pieces of its row in registers, pieces of neighbours side by side. A
 * longer row is taken in several passes and read anew for each use. */
#include "engine/cuda/gelu.cuh"
#include "engine/cuda/rows.cuh"

namespace
{

struct norm_shared {
    float sum[COG_ROW_THREADS / 32], square[COG_ROW_THREADS / 32];
};

/* Elements that a block holds. */
template <typename T, int CHUNKS> COG_DEVICE int span()
{
    return CHUNKS * static_cast<int>(blockDim.x) * cog_piece<T>;
}

/* First element of a thread's chunk in the pass that starts at base. */
template <typename T> COG_DEVICE int place(int base, int chunk)
{
    return base +
           (chunk * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * cog_piece<T>;
}

template <typename T, int CHUNKS>
COG_DEVICE void load(float (&v)[CHUNKS][cog_piece<T>], const T *row, int base, int cols)
{
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
        cog_load_piece(v[c], row, place<T>(base, c), cols);
}

template <typename T, int CHUNKS>
__global__ void __launch_bounds__(COG_ROW_THREADS)
    rmsnorm(T *out, size_t ld_out, T *x, size_t ld_x, const T *delta, size_t ld_delta,
            const int32_t *row, const T *w, int cols, float eps)
{
    constexpr int N = cog_piece<T>;
    norm_shared &shared = cog_shared<norm_shared>();
    size_t i = blockIdx.x, r = row ? static_cast<size_t>(row[i]) : i;
    float v[CHUNKS][N], square = 0;

    x += r * ld_x;
    out += i * ld_out;
    for (int base = 0; base < cols; base += span<T, CHUNKS>()) {
        load<T, CHUNKS>(v, x, base, cols);
        if (delta) {
            float d[CHUNKS][N];
            load<T, CHUNKS>(d, delta + r * ld_delta, base, cols);
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
                for (int j = 0; j < N; j++)
                    v[c][j] = cog_rounded<T>(v[c][j] + d[c][j]);
                cog_store_piece(x, place<T>(base, c), cols, v[c]);
            }
        }
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
#pragma unroll
            for (int j = 0; j < N; j++)
                square = fmaf(v[c][j], v[c][j], square);
    }
    square = cog_block_sum(square, shared.square);
    float scale = 1 / sqrtf(square / static_cast<float>(cols) + eps);
    for (int base = 0; base < cols; base += span<T, CHUNKS>()) {
        if (span<T, CHUNKS>() < cols)
            load<T, CHUNKS>(v, x, base, cols);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            float weight[N];
            cog_load_piece(weight, w, place<T>(base, c), cols);
#pragma unroll
            for (int j = 0; j < N; j++)
                v[c][j] = weight[j] * (v[c][j] * scale);
            cog_store_piece(out, place<T>(base, c), cols, v[c]);
        }
    }
}

/* mean, and 1 / sqrt(variance + eps). v holds the row afterwards when it fits. */
template <typename T, int CHUNKS>
COG_DEVICE float2 moments(float (&v)[CHUNKS][cog_piece<T>], const T *y, int cols, float eps)
{
    norm_shared &shared = cog_shared<norm_shared>();
    float sum = 0, square = 0;

    for (int base = 0; base < cols; base += span<T, CHUNKS>()) {
        load<T, CHUNKS>(v, y, base, cols);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
#pragma unroll
            for (int j = 0; j < cog_piece<T>; j++)
                sum += v[c][j];
    }
    float mean = cog_block_sum(sum, shared.sum) / static_cast<float>(cols);
    for (int base = 0; base < cols; base += span<T, CHUNKS>()) {
        if (span<T, CHUNKS>() < cols)
            load<T, CHUNKS>(v, y, base, cols);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
            for (int j = 0; j < cog_piece<T>; j++) {
                float off = place<T>(base, c) + j < cols ? v[c][j] - mean : 0;
                square = fmaf(off, off, square);
            }
        }
    }
    float variance = cog_block_sum(square, shared.square) / static_cast<float>(cols);
    return make_float2(mean, 1 / sqrtf(variance + eps));
}

/* v = the normed values of a piece */
template <typename T>
COG_DEVICE void apply(float (&v)[cog_piece<T>], float2 m, const T *w, const T *b, int at, int cols)
{
    float weight[cog_piece<T>], bias[cog_piece<T>];

    cog_load_piece(weight, w, at, cols);
    cog_load_piece(bias, b, at, cols);
#pragma unroll
    for (int j = 0; j < cog_piece<T>; j++)
        v[j] = cog_rounded<T>(fmaf((v[j] - m.x) * m.y, weight[j], bias[j]));
}

template <typename T, int CHUNKS>
__global__ void __launch_bounds__(COG_ROW_THREADS)
    add_layernorm(T *x, size_t ld_x, const T *y, size_t ld_y, const T *w, const T *b, int cols,
                  float eps)
{
    float v[CHUNKS][cog_piece<T>], residual[CHUNKS][cog_piece<T>];

    x += blockIdx.x * ld_x;
    y += blockIdx.x * ld_y;
    /* On its way while the moments are taken, where that costs no block of the multiprocessor. */
    bool is_early = CHUNKS == 1 && span<T, CHUNKS>() >= cols;
    if (is_early)
        load<T, CHUNKS>(residual, x, 0, cols);
    float2 m = moments<T, CHUNKS>(v, y, cols, eps);
    for (int base = 0; base < cols; base += span<T, CHUNKS>()) {
        if (span<T, CHUNKS>() < cols)
            load<T, CHUNKS>(v, y, base, cols);
        if (!is_early)
            load<T, CHUNKS>(residual, x, base, cols);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            apply(v[c], m, w, b, place<T>(base, c), cols);
#pragma unroll
            for (int j = 0; j < cog_piece<T>; j++)
                v[c][j] += residual[c][j];
            cog_store_piece(x, place<T>(base, c), cols, v[c]);
        }
    }
}

template <typename T, int CHUNKS>
__global__ void __launch_bounds__(COG_ROW_THREADS)
    layernorm_gelu(T *y, size_t ld_y, const T *w, const T *b, int cols, float eps)
{
    float v[CHUNKS][cog_piece<T>];

    y += blockIdx.x * ld_y;
    float2 m = moments<T, CHUNKS>(v, y, cols, eps);
    for (int base = 0; base < cols; base += span<T, CHUNKS>()) {
        if (span<T, CHUNKS>() < cols)
            load<T, CHUNKS>(v, y, base, cols);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            apply(v[c], m, w, b, place<T>(base, c), cols);
#pragma unroll
            for (int j = 0; j < cog_piece<T>; j++)
                v[c][j] = cog_gelu(v[c][j]);
            cog_store_piece(y, place<T>(base, c), cols, v[c]);
        }
    }
}

/* A thread per piece. */
template <typename T>
__global__ void __launch_bounds__(COG_ROW_THREADS)
    add(T *x, size_t ld_x, const T *delta, size_t ld_delta, int cols)
{
    int at = cog_row_item() * cog_piece<T>;
    float v[cog_piece<T>], d[cog_piece<T>];

    if (at >= cols)
        return;
    x += blockIdx.x * ld_x;
    cog_load_piece(v, x, at, cols);
    cog_load_piece(d, delta + blockIdx.x * ld_delta, at, cols);
#pragma unroll
    for (int j = 0; j < cog_piece<T>; j++)
        v[j] += d[j];
    cog_store_piece(x, at, cols, v);
}

/* ---- launching ---- */

template <typename T> cog_launch_at a_block_per_row(cudaStream_t s, int rows, int cols)
{
    cog_launch_at at = {};

    at.stream = s;
    at.grid = dim3(static_cast<unsigned>(rows));
    at.block = dim3(cog_row_threads(cog_pieces<T>(cols)));
    at.shared = sizeof(norm_shared);
    return at;
}

/* kernels[]: for 1, 2 and 4 chunks. */
template <typename T, typename K>
K by_chunks(const K (&kernels)[3], const cog_launch_at &at, int cols)
{
    int per_chunk = static_cast<int>(at.block.x) * cog_piece<T>;

    return kernels[cols <= per_chunk ? 0 : cols <= 2 * per_chunk ? 1 : 2];
}

#define BY_CHUNKS(kernel, T)                     \
    {                                            \
        kernel<T, 1>, kernel<T, 2>, kernel<T, 4> \
    }

template <typename T>
int launch_rmsnorm(cudaStream_t s, void *out, size_t ld_out, void *x, size_t ld_x,
                   const void *delta, size_t ld_delta, const int32_t *row, const void *w, int rows,
                   int cols, float eps)
{
    using kernel = void (*)(T *, size_t, T *, size_t, const T *, size_t, const int32_t *, const T *,
                            int, float);
    const kernel kernels[] = BY_CHUNKS(rmsnorm, T);
    cog_launch_at at = a_block_per_row<T>(s, rows, cols);

    return cog_launch("rmsnorm", at, by_chunks<T>(kernels, at, cols), static_cast<T *>(out), ld_out,
                      static_cast<T *>(x), ld_x, static_cast<const T *>(delta), ld_delta, row,
                      static_cast<const T *>(w), cols, eps);
}

template <typename T>
int launch_add_layernorm(cudaStream_t s, void *x, size_t ld_x, const void *y, size_t ld_y,
                         const void *w, const void *b, int rows, int cols, float eps)
{
    using kernel = void (*)(T *, size_t, const T *, size_t, const T *, const T *, int, float);
    const kernel kernels[] = BY_CHUNKS(add_layernorm, T);
    cog_launch_at at = a_block_per_row<T>(s, rows, cols);

    return cog_launch("add_layernorm", at, by_chunks<T>(kernels, at, cols), static_cast<T *>(x),
                      ld_x, static_cast<const T *>(y), ld_y, static_cast<const T *>(w),
                      static_cast<const T *>(b), cols, eps);
}

template <typename T>
int launch_layernorm_gelu(cudaStream_t s, void *y, size_t ld_y, const void *w, const void *b,
                          int rows, int cols, float eps)
{
    using kernel = void (*)(T *, size_t, const T *, const T *, int, float);
    const kernel kernels[] = BY_CHUNKS(layernorm_gelu, T);
    cog_launch_at at = a_block_per_row<T>(s, rows, cols);

    return cog_launch("layernorm_gelu", at, by_chunks<T>(kernels, at, cols), static_cast<T *>(y),
                      ld_y, static_cast<const T *>(w), static_cast<const T *>(b), cols, eps);
}

template <typename T>
int launch_add(cudaStream_t s, void *x, size_t ld_x, const void *delta, size_t ld_delta, int rows,
               int cols)
{
    return cog_launch("add", cog_over_rows(s, rows, cog_pieces<T>(cols)), add<T>,
                      static_cast<T *>(x), ld_x, static_cast<const T *>(delta), ld_delta, cols);
}

template <typename T, int CHUNKS> int prepare_chunks()
{
    int rc = cog_prepare("rmsnorm", rmsnorm<T, CHUNKS>, sizeof(norm_shared));

    if (rc == 0)
        rc = cog_prepare("add_layernorm", add_layernorm<T, CHUNKS>, sizeof(norm_shared));
    if (rc == 0)
        rc = cog_prepare("layernorm_gelu", layernorm_gelu<T, CHUNKS>, sizeof(norm_shared));
    return rc;
}

template <typename T> int prepare()
{
    int rc = cog_prepare("add", add<T>, 0);

    if (rc == 0)
        rc = prepare_chunks<T, 1>();
    if (rc == 0)
        rc = prepare_chunks<T, 2>();
    if (rc == 0)
        rc = prepare_chunks<T, 4>();
    return rc;
}

} // namespace

int cog_cuda_norm_prepare(void)
{
    int rc = prepare<float>();

    return rc ? rc : prepare<cog_bf16>();
}

int cog_cuda_rmsnorm(cudaStream_t s, cog_dtype type, void *out, size_t ld_out, void *x, size_t ld_x,
                     const void *delta, size_t ld_delta, const int32_t *row, const void *w,
                     int rows, int cols, float eps)
{
    return (type == COG_F32 ? launch_rmsnorm<float>
                            : launch_rmsnorm<cog_bf16>)(s, out, ld_out, x, ld_x, delta, ld_delta,
                                                        row, w, rows, cols, eps);
}

int cog_cuda_add(cudaStream_t s, cog_dtype type, void *x, size_t ld_x, const void *delta,
                 size_t ld_delta, int rows, int cols)
{
    return (type == COG_F32 ? launch_add<float> : launch_add<cog_bf16>)(s, x, ld_x, delta, ld_delta,
                                                                        rows, cols);
}

int cog_cuda_add_layernorm(cudaStream_t s, cog_dtype type, void *x, size_t ld_x, const void *y,
                           size_t ld_y, const void *w, const void *b, int rows, int cols, float eps)
{
    return (type == COG_F32
                ? launch_add_layernorm<float>
                : launch_add_layernorm<cog_bf16>)(s, x, ld_x, y, ld_y, w, b, rows, cols, eps);
}

int cog_cuda_layernorm_gelu(cudaStream_t s, cog_dtype type, void *y, size_t ld_y, const void *w,
                            const void *b, int rows, int cols, float eps)
{
    return (type == COG_F32 ? launch_layernorm_gelu<float>
                            : launch_layernorm_gelu<cog_bf16>)(s, y, ld_y, w, b, rows, cols, eps);
}
