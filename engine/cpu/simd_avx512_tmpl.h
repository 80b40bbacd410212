/* simd_avx512_tmpl.h - 16-lane vectors for the kernel templates. f: 16 floats; u: 16 words. Loads
 * and stores with a count touch exactly that many elements, 1 to 16, and give zeros elsewhere. */
#include "engine/tensor.h"

#include <immintrin.h>

enum { VL = 16 };
typedef __m512 vf;
typedef __m512i vu;

#define SIMD static inline __attribute__((always_inline))

SIMD __mmask16 v_first(int n)
{
    return (__mmask16)(0xffffu >> (VL - n));
}

SIMD vf v_set(float x)
{
    return _mm512_set1_ps(x);
}

SIMD vf v_zero(void)
{
    return _mm512_setzero_ps();
}

SIMD vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

SIMD vf v_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(v_first(n), p);
}

SIMD void v_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}

SIMD void v_store_n(float *p, vf x, int n)
{
    _mm512_mask_storeu_ps(p, v_first(n), x);
}

SIMD vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

SIMD vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

SIMD vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

SIMD vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

/* a * b + c */
SIMD vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* The larger and the smaller; b where either is NaN. */
SIMD vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

SIMD vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

SIMD vf v_abs(vf a)
{
    return _mm512_abs_ps(a);
}

SIMD vf v_nearest(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* x * 2^n for whole n, overflow and underflow included */
SIMD vf v_scale(vf x, vf n)
{
    return _mm512_scalef_ps(x, n);
}

/* a where s < 0, else b */
SIMD vf v_if_negative(vf s, vf a, vf b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(s, v_zero(), _CMP_LT_OQ), b, a);
}

/* lanes below n from a, the others from b; any n */
SIMD vf v_first_or(vf a, int n, vf b)
{
    return n >= VL ? a : n <= 0 ? b : _mm512_mask_blend_ps(v_first(n), b, a);
}

SIMD float v_sum(vf a)
{
    return _mm512_reduce_add_ps(a);
}

SIMD float v_largest(vf a)
{
    return _mm512_reduce_max_ps(a);
}

SIMD float v_lane0(vf a)
{
    return _mm512_cvtss_f32(a);
}

SIMD vu u_set(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}

SIMD vu u_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

SIMD vu u_load_n(const void *p, int n)
{
    return _mm512_maskz_loadu_epi32(v_first(n), p);
}

SIMD vu u_and(vu a, vu b)
{
    return _mm512_and_si512(a, b);
}

SIMD vu u_high(vu a)
{
    return _mm512_slli_epi32(a, 16);
}

SIMD vf u_as_float(vu a)
{
    return _mm512_castsi512_ps(a);
}

/* bf16 to float and back, to nearest even, NaN to NaN */
SIMD vf v_widen(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

SIMD __m256i v_narrow(vf x)
{
    __m512i u = _mm512_castps_si512(x), high = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i even = _mm512_srli_epi32(
        _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));

    return _mm512_cvtepi32_epi16(
        _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), even, quiet));
}

SIMD vf v_load_bf16(const uint16_t *p)
{
    return v_widen(_mm256_loadu_si256((const __m256i *)p));
}

SIMD vf v_load_bf16_n(const uint16_t *p, int n)
{
    return v_widen(_mm256_maskz_loadu_epi16(v_first(n), p));
}

SIMD void v_store_bf16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)p, v_narrow(x));
}

SIMD void v_store_bf16_n(uint16_t *p, vf x, int n)
{
    _mm256_mask_storeu_epi16(p, v_first(n), v_narrow(x));
}

SIMD vf v_round_bf16(vf x)
{
    return v_widen(v_narrow(x));
}
