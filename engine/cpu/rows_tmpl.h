/* rows_tmpl.h - the row-by-row kernels for one element type on the vectors of a simd_*_tmpl.h.
 * Included once per type with T, LOAD, LOAD_N, STORE, STORE_N, ROUND and NAME as in kernels_ref.c.
 *
 * Sums over a row go lane by lane into four vectors that are then added up: an order that depends
 * on the row's length only. */

#define EACH(i, m, n) for (int i = 0, m; i < (n) && (m = (n)-i < VL ? (n)-i : VL); i += VL)

SIMD vf NAME(get)(const T *p, int m)
{
    return m == VL ? LOAD(p) : LOAD_N(p, m);
}

SIMD void NAME(put)(T *p, vf x, int m)
{
    if (m == VL)
        STORE(p, x);
    else
        STORE_N(p, x, m);
}

SIMD vf NAME(get_float)(const float *p, int m)
{
    return m == VL ? v_load(p) : v_load_n(p, m);
}

static void NAME(gemm_out)(void *dst_, const float *acc, const float *bias, int n, cog_gemm_out how)
{
    T *dst = dst_;

    EACH(i, m, n)
    {
        vf y = v_load(acc + i);
        if (bias)
            y = v_add(y, NAME(get_float)(bias + i, m));
        y = ROUND(y);
        if (how == COG_OUT_ADD)
            y = v_add(NAME(get)(dst + i, m), y);
        if (how == COG_OUT_FLOAT)
            v_store_n((float *)dst_ + i, y, m);
        else
            NAME(put)(dst + i, y, m);
    }
}

/* Sum of x, or of (x - mean)^2. */
SIMD float NAME(total)(const T *x, int n, float mean, bool squares)
{
    vf sum[4] = { v_zero(), v_zero(), v_zero(), v_zero() };
    vf center = v_set(mean);

    EACH(i, m, n)
    {
        vf v = NAME(get)(x + i, m);
        int lane = i / VL % 4;
        if (squares) {
            v = v_first_or(v_sub(v, center), m, v_zero());
            v = v_mul(v, v);
        }
        sum[lane] = v_add(sum[lane], v);
    }
    return v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

static void NAME(layernorm)(void *dst_, const void *x_, const float *w, const float *b, int n,
                            float eps)
{
    const T *x = x_;
    T *dst = dst_;
    float mean = NAME(total)(x, n, 0, false) / (float)n;
    float variance = NAME(total)(x, n, mean, true) / (float)n;
    vf center = v_set(mean), scale = v_set(1 / sqrtf(variance + eps));

    EACH(i, m, n)
    {
        vf unit = v_mul(v_sub(NAME(get)(x + i, m), center), scale);
        NAME(put)(dst + i, v_fma(unit, NAME(get_float)(w + i, m), NAME(get_float)(b + i, m)), m);
    }
}

static void NAME(rmsnorm)(void *dst_, const void *x_, const float *w, int n, float eps)
{
    const T *x = x_;
    T *dst = dst_;
    vf scale = v_set(1 / sqrtf(NAME(total)(x, n, 0, true) / (float)n + eps));

    EACH(i, m, n)
    {
        vf unit = v_mul(NAME(get)(x + i, m), scale);
        NAME(put)(dst + i, v_mul(NAME(get_float)(w + i, m), unit), m);
    }
}

static void NAME(gelu)(void *dst_, const void *x_, int n)
{
    const T *x = x_;
    T *dst = dst_;

    EACH(i, m, n)
    {
        NAME(put)(dst + i, v_gelu(NAME(get)(x + i, m)), m);
    }
}

static void NAME(silu_mul)(void *dst_, const void *gate_, const void *up_, int n)
{
    const T *gate = gate_, *up = up_;
    T *dst = dst_;

    EACH(i, m, n)
    {
        vf g = NAME(get)(gate + i, m);
        vf silu = v_div(g, v_add(v_set(1), v_exp(v_sub(v_zero(), g))));
        NAME(put)(dst + i, v_mul(ROUND(silu), NAME(get)(up + i, m)), m);
    }
}

static void NAME(add)(void *dst_, const void *a_, const void *b_, int n)
{
    const T *a = a_, *b = b_;
    T *dst = dst_;

    EACH(i, m, n)
    {
        NAME(put)(dst + i, v_add(NAME(get)(a + i, m), NAME(get)(b + i, m)), m);
    }
}

static void NAME(rope)(void *x_, const float *cos_, const float *sin_, int heads, int head_dim)
{
    T *x = x_;
    int half = head_dim / 2;

    for (int h = 0; h < heads; h++, x += head_dim) {
        EACH(i, m, half)
        {
            vf a = NAME(get)(x + i, m), b = NAME(get)(x + half + i, m);
            vf c = NAME(get_float)(cos_ + i, m), s = NAME(get_float)(sin_ + i, m);
            NAME(put)(x + i, v_sub(ROUND(v_mul(a, c)), ROUND(v_mul(b, s))), m);
            NAME(put)(x + half + i, v_add(ROUND(v_mul(b, c)), ROUND(v_mul(a, s))), m);
        }
    }
}

static void NAME(to_float)(float *dst, const void *x_, int n)
{
    const T *x = x_;

    EACH(i, m, n)
    {
        v_store_n(dst + i, NAME(get)(x + i, m), m);
    }
}

static void NAME(from_float)(void *dst_, const float *x, int n)
{
    T *dst = dst_;

    EACH(i, m, n)
    {
        NAME(put)(dst + i, NAME(get_float)(x + i, m), m);
    }
}

static void NAME(fill_rows)(cog_kernels *k)
{
    k->gemm_out = NAME(gemm_out);
    k->layernorm = NAME(layernorm);
    k->rmsnorm = NAME(rmsnorm);
    k->gelu = NAME(gelu);
    k->silu_mul = NAME(silu_mul);
    k->add = NAME(add);
    k->rope = NAME(rope);
    k->to_float = NAME(to_float);
    k->from_float = NAME(from_float);
}

#undef EACH
