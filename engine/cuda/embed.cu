/* embed.cu - what enters the model: embedding rows, picture patches, random weights. All but
 * vit_patches: a thread per piece of 16 bytes of a row. */
#include "base/rng.h"
#include "engine/cuda/rows.cuh"

namespace
{

template <typename T>
__global__ void __launch_bounds__(COG_ROW_THREADS)
    embed(T *x, size_t ld_x, const T *table, size_t ld_table, const int32_t *token,
          const int32_t *feature, const int32_t *seq, const void *const *features,
          size_t ld_features, int cols)
{
    size_t r = blockIdx.x;
    int at = cog_row_item() * cog_piece<T>;
    const T *src;

    if (at >= cols)
        return;
    if (feature[r] < 0)
        src = table + static_cast<size_t>(token[r]) * ld_table;
    else
        src = static_cast<const T *>(features[seq[r]]) +
              static_cast<size_t>(feature[r]) * ld_features;
    cog_copy_piece(x + r * ld_x, src, at, cols);
}

/* A block per patch, a thread per element: writes are contiguous, and a picture's bytes, three
 * channels side by side, are read from L1 by all but the first that touches a line. */
template <typename T>
__global__ void __launch_bounds__(COG_ROW_THREADS)
    vit_patches(T *dst, size_t ld_dst, const uint8_t *rgb, const float *pixel, int side, int patch)
{
    int grid = side / patch, area = patch * patch;
    size_t row = blockIdx.x, image = row / static_cast<size_t>(grid * grid);
    int at = static_cast<int>(row - image * static_cast<size_t>(grid * grid));
    size_t top = static_cast<size_t>(at / grid) * static_cast<size_t>(patch);
    size_t left = static_cast<size_t>(at % grid) * static_cast<size_t>(patch);

    rgb += image * static_cast<size_t>(side) * static_cast<size_t>(side) * 3;
    dst += row * ld_dst;
    for (int i = static_cast<int>(threadIdx.x); i < 3 * area; i += static_cast<int>(blockDim.x)) {
        int channel = i / area, y = i % area / patch, x = i % patch;
        size_t from = (top + static_cast<size_t>(y)) * static_cast<size_t>(side) + left +
                      static_cast<size_t>(x);
        int byte = rgb[3 * from + static_cast<size_t>(channel)];
        dst[i] = cog_put<T>(pixel[channel * 256 + byte]);
    }
}

template <typename T>
__global__ void __launch_bounds__(COG_ROW_THREADS)
    vit_position(T *x, size_t ld_x, const T *patches, size_t ld_patches, const T *bias,
                 const T *cls, const T *position, size_t ld_position, int tokens, int cols)
{
    size_t r = blockIdx.x, image = r / static_cast<size_t>(tokens);
    size_t t = r - image * static_cast<size_t>(tokens);
    int at = cog_row_item() * cog_piece<T>;
    float v[cog_piece<T>], b[cog_piece<T>], p[cog_piece<T>];

    if (at >= cols)
        return;
    cog_load_piece(p, position + t * ld_position, at, cols);
    if (t == 0) {
        cog_load_piece(v, cls, at, cols);
    } else {
        cog_load_piece(v, patches + (r - image - 1) * ld_patches, at, cols);
        cog_load_piece(b, bias, at, cols);
#pragma unroll
        for (int j = 0; j < cog_piece<T>; j++)
            v[j] = cog_rounded<T>(v[j] + b[j]);
    }
#pragma unroll
    for (int j = 0; j < cog_piece<T>; j++)
        v[j] += p[j];
    cog_store_piece(x + r * ld_x, at, cols, v);
}

/* A block per row; ld is that of the whole row, zeros included. */
template <typename T>
__global__ void __launch_bounds__(COG_ROW_THREADS)
    random(T *dst, int ld, int cols, uint64_t key, float center, float spread)
{
    size_t r = blockIdx.x;
    int at = cog_row_item() * cog_piece<T>;
    float v[cog_piece<T>];

    if (at >= ld)
        return;
#pragma unroll
    for (int j = 0; j < cog_piece<T>; j++) {
        uint64_t index =
            static_cast<uint64_t>(r) * static_cast<uint64_t>(cols) + static_cast<uint64_t>(at + j);
        float value = cog_rng_around(cog_rng_at(key, index), center, spread);
        v[j] = at + j < cols ? value : 0.0f;
    }
    cog_store_piece(dst + r * static_cast<size_t>(ld), at, ld, v);
}

template <typename T>
int launch_embed(cudaStream_t s, void *x, size_t ld_x, const void *table, size_t ld_table,
                 const int32_t *token, const int32_t *feature, const int32_t *seq,
                 const void *const *features, size_t ld_features, int rows, int cols)
{
    return cog_launch("embed", cog_over_rows(s, rows, cog_pieces<T>(cols)), embed<T>,
                      static_cast<T *>(x), ld_x, static_cast<const T *>(table), ld_table, token,
                      feature, seq, features, ld_features, cols);
}

template <typename T>
int launch_vit_patches(cudaStream_t s, void *dst, size_t ld_dst, const uint8_t *rgb,
                       const float *pixel, int n_images, int side, int patch)
{
    int grid = side / patch;
    cog_launch_at at = {};

    at.stream = s;
    at.grid = dim3(static_cast<unsigned>(n_images) * static_cast<unsigned>(grid * grid));
    at.block = dim3(cog_row_threads(3 * patch * patch));
    return cog_launch("vit_patches", at, vit_patches<T>, static_cast<T *>(dst), ld_dst, rgb, pixel,
                      side, patch);
}

template <typename T>
int launch_vit_position(cudaStream_t s, void *x, size_t ld_x, const void *patches,
                        size_t ld_patches, const void *bias, const void *cls, const void *position,
                        size_t ld_position, int n_images, int tokens, int cols)
{
    return cog_launch("vit_position", cog_over_rows(s, n_images * tokens, cog_pieces<T>(cols)),
                      vit_position<T>, static_cast<T *>(x), ld_x, static_cast<const T *>(patches),
                      ld_patches, static_cast<const T *>(bias), static_cast<const T *>(cls),
                      static_cast<const T *>(position), ld_position, tokens, cols);
}

template <typename T>
int launch_random(cudaStream_t s, void *dst, size_t ld, int rows, int cols, uint64_t key,
                  float center, float spread)
{
    int row = static_cast<int>(ld);

    return cog_launch("random", cog_over_rows(s, rows, cog_pieces<T>(row)), random<T>,
                      static_cast<T *>(dst), row, cols, key, center, spread);
}

template <typename T> int prepare()
{
    int rc = cog_prepare("embed", embed<T>, 0);

    if (rc == 0)
        rc = cog_prepare("vit_patches", vit_patches<T>, 0);
    if (rc == 0)
        rc = cog_prepare("vit_position", vit_position<T>, 0);
    if (rc == 0)
        rc = cog_prepare("random", random<T>, 0);
    return rc;
}

} // namespace

int cog_cuda_embed_prepare(void)
{
    int rc = prepare<float>();

    return rc ? rc : prepare<cog_bf16>();
}

int cog_cuda_embed(cudaStream_t s, cog_dtype type, void *x, size_t ld_x, const void *table,
                   size_t ld_table, const int32_t *token, const int32_t *feature,
                   const int32_t *seq, const void *const *features, size_t ld_features, int rows,
                   int cols)
{
    return (type == COG_F32 ? launch_embed<float>
                            : launch_embed<cog_bf16>)(s, x, ld_x, table, ld_table, token, feature,
                                                      seq, features, ld_features, rows, cols);
}

int cog_cuda_vit_patches(cudaStream_t s, cog_dtype type, void *dst, size_t ld_dst,
                         const uint8_t *rgb, const float *pixel, int n_images, int side, int patch)
{
    return (type == COG_F32
                ? launch_vit_patches<float>
                : launch_vit_patches<cog_bf16>)(s, dst, ld_dst, rgb, pixel, n_images, side, patch);
}

int cog_cuda_vit_position(cudaStream_t s, cog_dtype type, void *x, size_t ld_x, const void *patches,
                          size_t ld_patches, const void *bias, const void *cls,
                          const void *position, size_t ld_position, int n_images, int tokens,
                          int cols)
{
    return (type == COG_F32 ? launch_vit_position<float>
                            : launch_vit_position<cog_bf16>)(s, x, ld_x, patches, ld_patches, bias,
                                                             cls, position, ld_position, n_images,
                                                             tokens, cols);
}

int cog_cuda_random(cudaStream_t s, cog_dtype type, void *dst, size_t ld, int rows, int cols,
                    uint64_t key, float center, float spread)
{
    return (type == COG_F32 ? launch_random<float>
                            : launch_random<cog_bf16>)(s, dst, ld, rows, cols, key, center, spread);
}
