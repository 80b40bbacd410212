/* kernels.c - picks the kernels at run time; the form of a KV tile. */
#include "engine/cpu/kernels.h"

#include "engine/cpu/cpuflags.h"

void cog_kernels_get(cog_kernels *out, cog_dtype dtype, unsigned flags)
{
    cog_kernels_ref(out, dtype);
#if defined(__x86_64__)
    if (flags & COG_CPU_AVX2)
        cog_kernels_avx2(out, dtype);
    if (flags & COG_CPU_AVX512)
        cog_kernels_avx512(out, dtype);
    if ((flags & COG_CPU_AVX512) && (flags & COG_CPU_AVX512_BF16))
        cog_kernels_avx512bf16(out, dtype);
#endif
}

void cog_kv_put(void *k_tile, void *v_tile, int slot_in_tile, const void *k, const void *v,
                int head_dim, cog_dtype dtype)
{
    size_t dim = (size_t)((head_dim + 1) & ~1);
    size_t slot = (size_t)slot_in_tile;
    size_t n = (size_t)head_dim;

    if (dtype == COG_F32) {
        for (size_t d = 0; d < n; d++) {
            ((float *)k_tile)[d * COG_TILE + slot] = ((const float *)k)[d];
            ((float *)v_tile)[slot * dim + d] = ((const float *)v)[d];
        }
        return;
    }
    for (size_t d = 0; d < n; d++) {
        ((uint16_t *)k_tile)[(d / 2 * COG_TILE + slot) * 2 + d % 2] = ((const uint16_t *)k)[d];
        ((uint16_t *)v_tile)[(slot / 2 * dim + d) * 2 + slot % 2] = ((const uint16_t *)v)[d];
    }
    if (n % 2) /* the missing half of the last pair takes part in products */
        ((uint16_t *)k_tile)[(n / 2 * COG_TILE + slot) * 2 + 1] = 0;
}
