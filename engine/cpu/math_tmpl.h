/* math_tmpl.h - exp and the normal distribution on the vectors of a simd_*_tmpl.h. */

/* e^x to 2 ulp; exactly 1 at 0; subnormal results may lose bits, NaN stays NaN. Cody-Waite
 * reduction by ln 2 in two parts, then a degree 7 polynomial on [-ln 2 / 2, ln 2 / 2]. */
SIMD vf v_exp(vf x)
{
    x = v_min(v_set(89), v_max(v_set(-104), x));
    vf n = v_nearest(v_mul(x, v_set(1.44269504088896341f)));
    vf r = v_fma(n, v_set(-0.693359375f), x);
    r = v_fma(n, v_set(2.12194440e-4f), r);
    vf p = v_set(1.9875691500e-4f);
    p = v_fma(p, r, v_set(1.3981999507e-3f));
    p = v_fma(p, r, v_set(8.3334519073e-3f));
    p = v_fma(p, r, v_set(4.1665795894e-2f));
    p = v_fma(p, r, v_set(1.6666665459e-1f));
    p = v_fma(p, r, v_set(5.0000001201e-1f));
    return v_scale(v_add(v_fma(p, v_mul(r, r), r), v_set(1)), n);
}

/* x * Phi(x), Phi the normal distribution: the exact GELU. Phi(-a) = exp(-a^2 / 2) * m(a), where m
 * (half the scaled complementary error function of a / sqrt 2) is a degree 9 polynomial in
 * q = (a - 3 sqrt 2) / (a + 3 sqrt 2), fitted to 3.4e-8 relative on [0, 14.42]; Phi(-14.42) is
 * below the smallest float. a^2 is split in two parts so that the tail keeps its precision. */
SIMD vf v_gelu(vf x)
{
    vf a = v_min(v_set(14.42f), v_abs(x));
    vf q = v_div(v_sub(a, v_set(4.24264069f)), v_add(a, v_set(4.24264069f)));
    vf m = v_set(-3.334219820e-05f);
    m = v_fma(m, q, v_set(-2.925341960e-04f));
    m = v_fma(m, q, v_set(3.955633185e-04f));
    m = v_fma(m, q, v_set(2.139230448e-03f));
    m = v_fma(m, q, v_set(-1.220786436e-02f));
    m = v_fma(m, q, v_set(3.583162280e-02f));
    m = v_fma(m, q, v_set(-7.505665762e-02f));
    m = v_fma(m, q, v_set(1.228019661e-01f));
    m = v_fma(m, q, v_set(-1.631168217e-01f));
    m = v_fma(m, q, v_set(8.950057558e-02f));
    vf square = v_mul(a, a);
    vf rest = v_fma(a, a, v_sub(v_zero(), square));
    vf e = v_exp(v_mul(square, v_set(-0.5f)));
    vf tail = v_mul(m, v_fma(v_mul(rest, v_set(-0.5f)), e, e));
    return v_mul(x, v_if_negative(x, tail, v_sub(v_set(1), tail)));
}
