/* kernels_simd_tmpl.h - all kernels on the vectors of the simd_*_tmpl.h included before, in both
 * numeric modes. ROWS_F32, ROWS_BF16: rows of a micro-tile. */
#include "engine/cpu/kernels.h"

#include <math.h>
#include <string.h>

#include "engine/cpu/math_tmpl.h"

#define MIX_V 8

#define T            float
#define LOAD         v_load
#define LOAD_N       v_load_n
#define STORE        v_store
#define STORE_N      v_store_n
#define ROUND(v)     (v)
#define NAME(x)      x##_f32
#define PAIR         1
#define A            vf
#define B            vf
#define A_SET(w)     u_as_float(u_set(w))
#define B_OF(v)      u_as_float(v)
#define ACC(c, a, b) v_fma(a, b, c)
#define MICRO_ROWS   ROWS_F32
#include "engine/cpu/rows_tmpl.h"
#include "engine/cpu/dot_tmpl.h"
#undef T
#undef LOAD
#undef LOAD_N
#undef STORE
#undef STORE_N
#undef ROUND
#undef NAME
#undef PAIR
#undef A
#undef B
#undef A_SET
#undef B_OF
#undef ACC
#undef MICRO_ROWS

/* Without an instruction for bf16 products the two halves of a unit are widened. */
typedef struct halves {
    vf even, odd;
} halves;

SIMD halves split(vu v)
{
    return (halves){ u_as_float(u_high(v)), u_as_float(u_and(v, u_set(0xffff0000u))) };
}

#define T            uint16_t
#define LOAD         v_load_bf16
#define LOAD_N       v_load_bf16_n
#define STORE        v_store_bf16
#define STORE_N      v_store_bf16_n
#define ROUND        v_round_bf16
#define NAME(x)      x##_bf16
#define PAIR         2
#define A            halves
#define B            halves
#define A_SET(w)     split(u_set(w))
#define B_OF         split
#define ACC(c, a, b) v_fma((a).odd, (b).odd, v_fma((a).even, (b).even, c))
#define MICRO_ROWS   ROWS_BF16
#include "engine/cpu/rows_tmpl.h"
#include "engine/cpu/dot_tmpl.h"

static void fill(cog_kernels *k, cog_dtype dtype)
{
    if (dtype == COG_F32) {
        fill_rows_f32(k);
        fill_dot_f32(k);
    } else {
        fill_rows_bf16(k);
        fill_dot_bf16(k);
    }
}
