/* simd_avx2_tmpl.h - 8-lane vectors for the kernel templates; the same functions as in
 * simd_avx512_tmpl.h. */
#include "engine/tensor.h"

#include <immintrin.h>
#include <string.h>

enum { VL = 8 };
typedef __m256 vf;
typedef __m256i vu;

#define SIMD static inline __attribute__((always_inline))

SIMD __m256i v_first(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

SIMD vf v_set(float x)
{
    return _mm256_set1_ps(x);
}

SIMD vf v_zero(void)
{
    return _mm256_setzero_ps();
}

SIMD vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

SIMD vf v_load_n(const float *p, int n)
{
    return _mm256_maskload_ps(p, v_first(n));
}

SIMD void v_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}

SIMD void v_store_n(float *p, vf x, int n)
{
    _mm256_maskstore_ps(p, v_first(n), x);
}

SIMD vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

SIMD vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

SIMD vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

SIMD vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

SIMD vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

SIMD vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

SIMD vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

SIMD vf v_abs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

SIMD vf v_nearest(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

SIMD vf v_power(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* In two factors, so that |n| up to 250 reaches zero and infinity. */
SIMD vf v_scale(vf x, vf n)
{
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);

    return v_mul(v_mul(x, v_power(half)), v_power(_mm256_sub_epi32(whole, half)));
}

SIMD vf v_if_negative(vf s, vf a, vf b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(s, v_zero(), _CMP_LT_OQ));
}

SIMD vf v_first_or(vf a, int n, vf b)
{
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(v_first(n)));
}

SIMD float v_sum(vf a)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

SIMD float v_largest(vf a)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

SIMD float v_lane0(vf a)
{
    return _mm256_cvtss_f32(a);
}

SIMD vu u_set(uint32_t x)
{
    return _mm256_set1_epi32((int)x);
}

SIMD vu u_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

SIMD vu u_load_n(const void *p, int n)
{
    return _mm256_maskload_epi32(p, v_first(n));
}

SIMD vu u_and(vu a, vu b)
{
    return _mm256_and_si256(a, b);
}

SIMD vu u_high(vu a)
{
    return _mm256_slli_epi32(a, 16);
}

SIMD vf u_as_float(vu a)
{
    return _mm256_castsi256_ps(a);
}

SIMD vf v_widen(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

SIMD __m128i v_narrow(vf x)
{
    __m256i u = _mm256_castps_si256(x), high = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i even = _mm256_srli_epi32(
        _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    __m256i word =
        _mm256_blendv_epi8(even, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));

    return _mm_packus_epi32(_mm256_castsi256_si128(word), _mm256_extracti128_si256(word, 1));
}

SIMD vf v_load_bf16(const uint16_t *p)
{
    return v_widen(_mm_loadu_si128((const __m128i *)p));
}

SIMD vf v_load_bf16_n(const uint16_t *p, int n)
{
    uint16_t all[VL] = { 0 };

    for (int i = 0; i < n; i++)
        all[i] = p[i];
    return v_load_bf16(all);
}

SIMD void v_store_bf16(uint16_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)p, v_narrow(x));
}

SIMD void v_store_bf16_n(uint16_t *p, vf x, int n)
{
    uint16_t all[VL];

    v_store_bf16(all, x);
    for (int i = 0; i < n; i++)
        p[i] = all[i];
}

SIMD vf v_round_bf16(vf x)
{
    return v_widen(v_narrow(x));
}
