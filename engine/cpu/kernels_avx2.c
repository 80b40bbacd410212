/* kernels_avx2.c - AVX2 and FMA, bf16 products by widening. */
#include "engine/cpu/simd_avx2_tmpl.h"

#define ROWS_F32  6
#define ROWS_BF16 4
#include "engine/cpu/kernels_simd_tmpl.h"

void cog_kernels_avx2(cog_kernels *k, cog_dtype dtype)
{
    k->isa = "avx2";
    fill(k, dtype);
}
