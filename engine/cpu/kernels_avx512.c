/* kernels_avx512.c - AVX-512 (F, BW, VL, DQ), bf16 products by widening. */
#include "engine/cpu/simd_avx512_tmpl.h"

#define ROWS_F32  6
#define ROWS_BF16 6
#include "engine/cpu/kernels_simd_tmpl.h"

void cog_kernels_avx512(cog_kernels *k, cog_dtype dtype)
{
    k->isa = "avx512";
    fill(k, dtype);
}
