/* kernels_ref_tmpl.h - the scalar kernels for one element type. kernels_ref.c includes it once per
 * type with T (stored form), GET (to float), PUT (from float, rounding once), ROUND (float to the
 * nearest element value), PAIR (consecutive k or dimensions stored side by side: 1 or 2) and NAME
 * (adds the type's suffix). */

static void NAME(gemm)(float *acc, const void *a_, size_t lda, int rows, const void *panel_, int k,
                       bool add)
{
    const T *a = a_, *panel = panel_;

    for (int r = 0; r < rows; r++) {
        for (int o = 0; o < COG_PANEL; o++) {
            double sum = add ? acc[r * COG_PANEL + o] : 0;
            for (int i = 0; i < k; i++) {
                size_t at =
                    ((size_t)(i / PAIR) * COG_PANEL + (size_t)o) * PAIR + (size_t)(i % PAIR);
                sum += (double)GET(a[(size_t)r * lda + (size_t)i]) * (double)GET(panel[at]);
            }
            acc[r * COG_PANEL + o] = (float)sum;
        }
    }
}

static void NAME(gemm_out)(void *dst_, const float *acc, const float *bias, int n, cog_gemm_out how)
{
    T *dst = dst_;
    float *dst_float = dst_;

    for (int o = 0; o < n; o++) {
        float y = ROUND(bias ? acc[o] + bias[o] : acc[o]);
        if (how == COG_OUT_FLOAT)
            dst_float[o] = y;
        else if (how == COG_OUT_ADD)
            dst[o] = PUT(GET(dst[o]) + y);
        else
            dst[o] = PUT(y);
    }
}

static float NAME(score)(const T *q, const T *k_tile, int slot, int head_dim, float scale)
{
    double sum = 0;

    for (int d = 0; d < head_dim; d++) {
        int at = (d / PAIR * COG_TILE + slot) * PAIR + d % PAIR;
        sum += (double)GET(q[d]) * (double)GET(k_tile[at]);
    }
    return (float)sum * scale;
}

/* One step: n <= COG_ATTN_STEP slots from first on. */
static void NAME(attention_step)(float *acc, float *max, float *sum, const T *q, int first, int n,
                                 int head_dim, float scale, const cog_kv_view *kv)
{
    size_t dim = (size_t)((head_dim + 1) & ~1);
    float score[COG_ATTN_STEP];
    float old = *max;

    for (int j = 0; j < n; j++) {
        size_t tile = cog_kv_tile_at(kv, (first + j) / COG_TILE);
        score[j] = NAME(score)(q, (const T *)(kv->k + tile), j % COG_TILE, head_dim, scale);
        *max = score[j] > *max ? score[j] : *max;
    }
    float keep = expf(old - *max);
    *sum *= keep;
    for (int d = 0; d < head_dim; d++)
        acc[d] *= keep;
    for (int j = 0; j < n; j++) {
        const T *v = (const T *)(kv->v + cog_kv_tile_at(kv, (first + j) / COG_TILE));
        size_t s = (size_t)j % COG_TILE;
        float e = expf(score[j] - *max);
        *sum += e;
        for (size_t d = 0; d < (size_t)head_dim; d++)
            acc[d] += ROUND(e) * GET(v[(s / PAIR * dim + d) * PAIR + s % PAIR]);
    }
}

static void NAME(attention)(void *const *out, const void *const *q, const int32_t *slots, int rows,
                            int head_dim, float scale, const cog_kv_view *kv, float *scratch)
{
    for (int r = 0; r < rows; r++) {
        float max = -INFINITY, sum = 0;
        T *dst = out[r];
        for (int d = 0; d < head_dim; d++)
            scratch[d] = 0;
        for (int first = 0; first < slots[r]; first += COG_ATTN_STEP) {
            int n = slots[r] - first < COG_ATTN_STEP ? slots[r] - first : COG_ATTN_STEP;
            NAME(attention_step)(scratch, &max, &sum, q[r], first, n, head_dim, scale, kv);
        }
        for (int d = 0; d < head_dim; d++)
            dst[d] = PUT(scratch[d] / sum);
    }
}

static void NAME(layernorm)(void *dst_, const void *x_, const float *w, const float *b, int n,
                            float eps)
{
    const T *x = x_;
    T *dst = dst_;
    double mean = 0, variance = 0;

    for (int i = 0; i < n; i++)
        mean += (double)GET(x[i]);
    mean /= n;
    for (int i = 0; i < n; i++)
        variance += ((double)GET(x[i]) - mean) * ((double)GET(x[i]) - mean);
    variance /= n;
    for (int i = 0; i < n; i++) {
        double y = ((double)GET(x[i]) - mean) / sqrt(variance + (double)eps);
        dst[i] = PUT((float)(y * (double)w[i] + (double)b[i]));
    }
}

static void NAME(rmsnorm)(void *dst_, const void *x_, const float *w, int n, float eps)
{
    const T *x = x_;
    T *dst = dst_;
    double square = 0;

    for (int i = 0; i < n; i++)
        square += (double)GET(x[i]) * (double)GET(x[i]);
    for (int i = 0; i < n; i++)
        dst[i] = PUT((float)((double)w[i] * ((double)GET(x[i]) / sqrt(square / n + (double)eps))));
}

static void NAME(gelu)(void *dst_, const void *x_, int n)
{
    const T *x = x_;
    T *dst = dst_;

    for (int i = 0; i < n; i++) {
        double u = (double)GET(x[i]);
        dst[i] = PUT((float)(0.5 * u * erfc(-u * 0.70710678118654752440)));
    }
}

static void NAME(silu_mul)(void *dst_, const void *gate_, const void *up_, int n)
{
    const T *gate = gate_, *up = up_;
    T *dst = dst_;

    for (int i = 0; i < n; i++) {
        double g = (double)GET(gate[i]);
        float silu = ROUND((float)(g / (1 + exp(-g))));
        dst[i] = PUT(silu * GET(up[i]));
    }
}

static void NAME(add)(void *dst_, const void *a_, const void *b_, int n)
{
    const T *a = a_, *b = b_;
    T *dst = dst_;

    for (int i = 0; i < n; i++)
        dst[i] = PUT(GET(a[i]) + GET(b[i]));
}

static void NAME(rope)(void *x_, const float *cos_, const float *sin_, int heads, int head_dim)
{
    T *x = x_;
    int half = head_dim / 2;

    for (int h = 0; h < heads; h++, x += head_dim) {
        for (int i = 0; i < half; i++) {
            float a = GET(x[i]), b = GET(x[i + half]);
            x[i] = PUT(ROUND(a * cos_[i]) - ROUND(b * sin_[i]));
            x[i + half] = PUT(ROUND(b * cos_[i]) + ROUND(a * sin_[i]));
        }
    }
}

static void NAME(to_float)(float *dst, const void *x_, int n)
{
    const T *x = x_;

    for (int i = 0; i < n; i++)
        dst[i] = GET(x[i]);
}

static void NAME(from_float)(void *dst_, const float *x, int n)
{
    T *dst = dst_;

    for (int i = 0; i < n; i++)
        dst[i] = PUT(x[i]);
}

static void NAME(fill)(cog_kernels *k)
{
    k->gemm = NAME(gemm);
    k->gemm_out = NAME(gemm_out);
    k->attention = NAME(attention);
    k->layernorm = NAME(layernorm);
    k->rmsnorm = NAME(rmsnorm);
    k->gelu = NAME(gelu);
    k->silu_mul = NAME(silu_mul);
    k->add = NAME(add);
    k->rope = NAME(rope);
    k->to_float = NAME(to_float);
    k->from_float = NAME(from_float);
}
