/* kernels_avx512bf16.c - bf16 products with VDPBF16PS, which treats subnormals as zero. */
#include "engine/cpu/simd_avx512_tmpl.h"

#include "engine/cpu/kernels.h"

#include <math.h>
#include <string.h>

#include "engine/cpu/math_tmpl.h"

#define T            uint16_t
#define STORE        v_store_bf16
#define STORE_N      v_store_bf16_n
#define NAME(x)      x##_bf16
#define PAIR         2
#define A            __m512bh
#define B            __m512bh
#define A_SET(w)     (__m512bh) u_set(w)
#define B_OF(v)      (__m512bh)(v)
#define ACC(c, a, b) _mm512_dpbf16_ps(c, a, b)
#define MICRO_ROWS   6
#define MIX_V        8
#include "engine/cpu/dot_tmpl.h"

void cog_kernels_avx512bf16(cog_kernels *k, cog_dtype dtype)
{
    if (dtype != COG_BF16)
        return;
    k->isa = "avx512 + bf16";
    fill_dot_bf16(k);
}
