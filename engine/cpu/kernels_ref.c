/* kernels_ref.c - what each kernel means, in scalar C. Never optimised: products and norms add up
 * in double, functions are libm's. Each row is visited on its own, in one order. */
#include "engine/cpu/kernels.h"

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
