/* kernels_ref.c - what each kernel means, in scalar C. Never optimised: products and norms add up
 * in double, functions are libm's. Each row is visited on its own, in one order. */
#include "engine/cpu/kernels.h"

#include "engine/cpu/cpuflags.h"

#include <math.h>

static float same(float x)
{
    return x;
}

#define T       float
#define GET     same
#define PUT     same
#define ROUND   same
#define PAIR    1
#define NAME(x) x##_f32
#include "engine/cpu/kernels_ref_tmpl.h"
#undef T
#undef GET
#undef PUT
#undef ROUND
#undef PAIR
#undef NAME

#define T       uint16_t
#define GET     cog_bf16_to_f32
#define PUT     cog_f32_to_bf16
#define ROUND   cog_round_bf16
#define PAIR    2
#define NAME(x) x##_bf16
#include "engine/cpu/kernels_ref_tmpl.h"

void cog_kernels_ref(cog_kernels *k, cog_dtype dtype)
{
    k->isa = "ref";
    k->dtype = dtype;
    if (dtype == COG_F32)
        fill_f32(k);
    else
        fill_bf16(k);
}

void cog_kernels_get(cog_kernels *out, cog_dtype dtype, unsigned flags)
{
    cog_kernels_ref(out, dtype);
    (void)flags;
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
