/* gelu.cuh - x * Phi(x), Phi the normal distribution: the exact GELU.
 *
 * Phi(-a) = exp(-a^2 / 2) * m(a), where m (half the scaled complementary error function of
 * a / sqrt 2) is a degree 9 polynomial in q = (a - 3 sqrt 2) / (a + 3 sqrt 2), fitted to 3.4e-8
 * relative on [0, 14.42]; Phi(-14.42) is below the smallest float. a^2 is split in two parts so
 * that the tail keeps its precision. The same form as in engine/cpu/math_tmpl.h. */
#ifndef COG_ENGINE_CUDA_GELU_CUH
#define COG_ENGINE_CUDA_GELU_CUH

#include "engine/cuda/ptx.cuh"

COG_DEVICE float cog_gelu(float x)
{
    float a = fabsf(x) < 14.42f ? fabsf(x) : 14.42f;
    float q = __fdividef(a - 4.24264069f, a + 4.24264069f);
    float square = a * a, rest = fmaf(a, a, -square), m, e, tail;

    m = -3.334219820e-05f;
    m = fmaf(m, q, -2.925341960e-04f);
    m = fmaf(m, q, 3.955633185e-04f);
    m = fmaf(m, q, 2.139230448e-03f);
    m = fmaf(m, q, -1.220786436e-02f);
    m = fmaf(m, q, 3.583162280e-02f);
    m = fmaf(m, q, -7.505665762e-02f);
    m = fmaf(m, q, 1.228019661e-01f);
    m = fmaf(m, q, -1.631168217e-01f);
    m = fmaf(m, q, 8.950057558e-02f);
    e = expf(-0.5f * square);
    tail = m * fmaf(-0.5f * rest, e, e);
    return x * (x < 0 ? tail : 1 - tail);
}

#endif
