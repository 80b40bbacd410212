/* act.cu - activation functions: a thread per piece of 16 bytes.
 *
 *   gelu      x * Phi(x)
 *   silu_mul  rounded(gate / (1 + exp(-gate))) * up */
#include "engine/cuda/gelu.cuh"
#include "engine/cuda/rows.cuh"

namespace
{

template <typename T>
__global__ void __launch_bounds__(COG_ROW_THREADS) gelu(T *y, size_t ld_y, int cols)
{
    int at = cog_row_item() * cog_piece<T>;
    float v[cog_piece<T>];

    if (at >= cols)
        return;
    y += blockIdx.x * ld_y;
    cog_load_piece(v, y, at, cols);
#pragma unroll
    for (int j = 0; j < cog_piece<T>; j++)
        v[j] = cog_gelu(v[j]);
    cog_store_piece(y, at, cols, v);
}

/* up starts at a multiple of 16 bytes where ALIGNED says so, at any element otherwise. */
template <typename T, bool ALIGNED>
__global__ void __launch_bounds__(COG_ROW_THREADS)
    silu_mul(T *dst, size_t ld_dst, const T *gate_up, size_t ld_gate_up, int inter)
{
    int at = cog_row_item() * cog_piece<T>;
    float gate[cog_piece<T>], up[cog_piece<T>];

    if (at >= inter)
        return;
    gate_up += blockIdx.x * ld_gate_up;
    cog_load_piece(gate, gate_up, at, inter);
    if (ALIGNED) {
        cog_load_piece(up, gate_up + inter, at, inter);
    } else {
#pragma unroll
        for (int j = 0; j < cog_piece<T>; j++)
            up[j] = at + j < inter ? cog_get(gate_up[inter + at + j]) : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < cog_piece<T>; j++)
        gate[j] = cog_rounded<T>(gate[j] / (1 + expf(-gate[j]))) * up[j];
    cog_store_piece(dst + blockIdx.x * ld_dst, at, inter, gate);
}

template <typename T> int launch_gelu(cudaStream_t s, void *y, size_t ld_y, int rows, int cols)
{
    return cog_launch("gelu", cog_over_rows(s, rows, cog_pieces<T>(cols)), gelu<T>,
                      static_cast<T *>(y), ld_y, cols);
}

template <typename T>
int launch_silu_mul(cudaStream_t s, void *dst, size_t ld_dst, const void *gate_up,
                    size_t ld_gate_up, int rows, int inter)
{
    bool aligned = inter % cog_piece<T> == 0;

    return cog_launch("silu_mul", cog_over_rows(s, rows, cog_pieces<T>(inter)),
                      aligned ? silu_mul<T, true> : silu_mul<T, false>, static_cast<T *>(dst),
                      ld_dst, static_cast<const T *>(gate_up), ld_gate_up, inter);
}

template <typename T> int prepare()
{
    int rc = cog_prepare("gelu", gelu<T>, 0);

    if (rc == 0)
        rc = cog_prepare("silu_mul", silu_mul<T, true>, 0);
    if (rc == 0)
        rc = cog_prepare("silu_mul", silu_mul<T, false>, 0);
    return rc;
}

} // namespace

int cog_cuda_act_prepare(void)
{
    int rc = prepare<float>();

    return rc ? rc : prepare<cog_bf16>();
}

int cog_cuda_gelu(cudaStream_t s, cog_dtype type, void *y, size_t ld_y, int rows, int cols)
{
    return (type == COG_F32 ? launch_gelu<float> : launch_gelu<cog_bf16>)(s, y, ld_y, rows, cols);
}

int cog_cuda_silu_mul(cudaStream_t s, cog_dtype type, void *dst, size_t ld_dst, const void *gate_up,
                      size_t ld_gate_up, int rows, int inter)
{
    return (type == COG_F32
                ? launch_silu_mul<float>
                : launch_silu_mul<cog_bf16>)(s, dst, ld_dst, gate_up, ld_gate_up, rows, inter);
}
