/* The well-known ways to compute this model slightly wrong. Every block operation is compared with
 * an oracle written here in double precision, which can also make each mistake on purpose: the
 * backend must agree with the right one and differ from the wrong one. */
#include "tests/unit/unit.h"

#include "tests/unit/cpu_rig.h"

#include <math.h>

typedef enum trap {
    NONE,
    TANH_GELU,
    RMS_TWO_ROUNDINGS,
    RMS_EPS_1E6,
    VIT_EPS_1E5,
    ADAPTER_EPS_1E6,
    VIT_PRE_NORM,
    VIT_NORM_OF_SUM,
    VIT_CAUSAL,
    LM_FULL_PICTURE,
    LM_POSITION_IS_SLOT,
    ROPE_INTERLEAVED,
    F32_LOGITS,
    EXPERTS_SWAPPED,
    NO_EXPERT_BIAS,
    CONV_BIAS_ONE_ROUNDING,
    SILU_UNROUNDED,
    CLS_LAST,
    PIXELS_HWC,
    BOI_EOI_SWAPPED,
} trap;

typedef struct oracle {
    const rig *g;
    trap trap;
} oracle;

static double *array(size_t n)
{
    return cog_array(double, n);
}

static double rnd(const oracle *o, double x)
{
    return o->g->cfg.dtype == COG_BF16 ? (double)cog_round_bf16((float)x) : x;
}

/* y[rows, w.rows] = x w^T + bias, not rounded. */
static void product(const oracle *o, double *y, const double *x, int rows, const cog_weight *w,
                    const cog_weight *bias)
{
    const rig_param *p = rig_find(o->g, w);

    for (int r = 0; r < rows; r++) {
        for (int n = 0; n < p->rows; n++) {
            double sum = bias ? (double)rig_values(o->g, bias)[n] : 0;
            for (int k = 0; k < p->cols; k++)
                sum += x[r * p->cols + k] * (double)p->value[n * p->cols + k];
            y[r * p->rows + n] = sum;
        }
    }
}

static void linear(const oracle *o, double *y, const double *x, int rows, const cog_weight *w,
                   const cog_weight *bias)
{
    product(o, y, x, rows, w, bias);
    for (int i = 0; i < rows * rig_find(o->g, w)->rows; i++)
        y[i] = rnd(o, y[i]);
}

static double gelu(const oracle *o, double u)
{
    if (o->trap == TANH_GELU)
        return 0.5 * u * (1 + tanh(sqrt(2 / M_PI) * (u + 0.044715 * u * u * u)));
    return 0.5 * u * (1 + erf(u / sqrt(2.0)));
}

static void layer_norm(const oracle *o, double *y, const double *x, const cog_weight *w,
                       const cog_weight *b, int n, double eps)
{
    double mean = 0, variance = 0;

    for (int i = 0; i < n; i++)
        mean += x[i] / n;
    for (int i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean) / n;
    for (int i = 0; i < n; i++)
        y[i] = rnd(o, (x[i] - mean) / sqrt(variance + eps) * (double)rig_values(o->g, w)[i] +
                          (double)rig_values(o->g, b)[i]);
}

static void rms_norm(const oracle *o, double *y, const double *x, const cog_weight *w, int n)
{
    double square = 0, eps = o->trap == RMS_EPS_1E6 ? 1e-6 : (double)o->g->m.rms_eps;

    for (int i = 0; i < n; i++)
        square += x[i] * x[i] / n;
    for (int i = 0; i < n; i++) {
        double unit = x[i] / sqrt(square + eps);
        if (o->trap == RMS_TWO_ROUNDINGS)
            unit = rnd(o, unit);
        y[i] = rnd(o, unit * (double)rig_values(o->g, w)[i]);
    }
}

/* out[dim] = softmax(q k^T / sqrt(dim)) v over n rows, stride apart. */
static void attend(const oracle *o, double *out, const double *q, const double *k, const double *v,
                   const int *visible, int n, int stride, int dim)
{
    double *p = array((size_t)n);
    double max = -INFINITY, sum = 0;

    for (int j = 0; j < n; j++) {
        p[j] = -INFINITY;
        if (!visible[j])
            continue;
        p[j] = 0;
        for (int d = 0; d < dim; d++)
            p[j] += q[d] * k[j * stride + d];
        p[j] /= sqrt((double)dim);
        max = fmax(max, p[j]);
    }
    for (int j = 0; j < n; j++) {
        p[j] = exp(p[j] - max);
        sum += p[j];
    }
    for (int d = 0; d < dim; d++) {
        double y = 0;
        for (int j = 0; j < n; j++)
            y += p[j] / sum * v[j * stride + d];
        out[d] = rnd(o, y);
    }
    cog_free(p);
}

/* ---- vision ---- */

static void oracle_embed(const oracle *o, double *x, const uint8_t *rgb)
{
    static const double mean[] = { 0.48145466, 0.4578275, 0.40821073 };
    static const double deviation[] = { 0.26862954, 0.26130258, 0.27577711 };
    const rig *g = o->g;
    int h = g->m.vision.hidden, p = g->m.vision.patch, grid = g->m.vision.grid;
    int side = g->m.vision.image_side, cls = o->trap == CLS_LAST ? g->m.patches : 0;
    double pixel[3 * 25];

    for (int t = 0; t < g->m.patches; t++) {
        double *row = x + (t + (cls == 0)) * h;
        for (int c = 0; c < 3; c++) {
            for (int i = 0; i < p * p; i++) {
                int y = t / grid * p + i / p, xx = t % grid * p + i % p;
                double v = ((double)rgb[(y * side + xx) * 3 + c] / 255 - mean[c]) / deviation[c];
                pixel[o->trap == PIXELS_HWC ? 3 * i + c : c * p * p + i] = rnd(o, v);
            }
        }
        if (o->trap == CONV_BIAS_ONE_ROUNDING) {
            linear(o, row, pixel, 1, g->vit_embed.patch, g->vit_embed.patch_bias);
            continue;
        }
        linear(o, row, pixel, 1, g->vit_embed.patch, NULL);
        for (int i = 0; i < h; i++)
            row[i] = rnd(o, row[i] + (double)rig_values(g, g->vit_embed.patch_bias)[i]);
    }
    for (int i = 0; i < h; i++)
        x[cls * h + i] = (double)rig_values(g, g->vit_embed.cls)[i];
    for (int i = 0; i < g->m.vision.tokens * h; i++)
        x[i] = rnd(o, x[i] + (double)rig_values(g, g->vit_embed.position)[i]);
}

static void oracle_vit_attention(const oracle *o, double *out, const double *x)
{
    const rig *g = o->g;
    int h = g->m.vision.hidden, n = g->m.vision.tokens, dim = g->m.vision.head_dim;
    double *qkv = array((size_t)n * 3 * (size_t)h), *mixed = array((size_t)n * (size_t)h);
    int *visible = cog_array(int, (size_t)n);

    linear(o, qkv, x, n, g->vit.qkv, g->vit.qkv_bias);
    for (int t = 0; t < n; t++) {
        for (int j = 0; j < n; j++)
            visible[j] = o->trap == VIT_CAUSAL ? j <= t : 1;
        for (int d = 0; d < h; d += dim)
            attend(o, mixed + t * h + d, qkv + t * 3 * h + d, qkv + h + d, qkv + 2 * h + d, visible,
                   n, 3 * h, dim);
    }
    linear(o, out, mixed, n, g->vit.dense, g->vit.dense_bias);
    cog_free(qkv);
    cog_free(mixed);
    cog_free(visible);
}

static void oracle_vit_mlp(const oracle *o, double *out, const double *x)
{
    const rig *g = o->g;
    int n = g->m.vision.tokens, inter = g->m.vision.inter;
    double *inner = array((size_t)n * (size_t)inter);

    linear(o, inner, x, n, g->vit.fc1, g->vit.fc1_bias);
    for (int i = 0; i < n * inter; i++)
        inner[i] = rnd(o, gelu(o, inner[i]));
    linear(o, out, inner, n, g->vit.fc2, g->vit.fc2_bias);
    cog_free(inner);
}

static void oracle_sublayer(const oracle *o, double *x, const cog_weight *w, const cog_weight *b,
                            void (*sublayer)(const oracle *o, double *out, const double *x))
{
    const rig *g = o->g;
    int n = g->m.vision.tokens, h = g->m.vision.hidden;
    double eps = o->trap == VIT_EPS_1E5 ? 1e-5 : (double)g->m.vision.eps;
    double *in = array((size_t)n * (size_t)h), *out = array((size_t)n * (size_t)h);

    for (int t = 0; t < n; t++) {
        if (o->trap == VIT_PRE_NORM)
            layer_norm(o, in + t * h, x + t * h, w, b, h, eps);
        else
            memcpy(in + t * h, x + t * h, sizeof(double) * (size_t)h);
    }
    sublayer(o, out, in);
    for (int t = 0; t < n; t++) {
        double *a = out + t * h, *y = x + t * h;
        if (o->trap != VIT_PRE_NORM && o->trap != VIT_NORM_OF_SUM)
            layer_norm(o, a, a, w, b, h, eps);
        for (int i = 0; i < h; i++)
            y[i] = rnd(o, y[i] + a[i]);
        if (o->trap == VIT_NORM_OF_SUM)
            layer_norm(o, y, y, w, b, h, eps);
    }
    cog_free(in);
    cog_free(out);
}

static void oracle_vit_block(const oracle *o, double *x)
{
    oracle_sublayer(o, x, o->g->vit.norm1, o->g->vit.norm1_bias, oracle_vit_attention);
    oracle_sublayer(o, x, o->g->vit.norm2, o->g->vit.norm2_bias, oracle_vit_mlp);
}

static void gated_mlp(const oracle *o, double *out, const double *x, const cog_weight *gate_up,
                      const cog_weight *down)
{
    int inter = o->g->m.inter;
    double *wide = array(2 * (size_t)inter);

    linear(o, wide, x, 1, gate_up, NULL);
    for (int i = 0; i < inter; i++) {
        double silu = wide[i] / (1 + exp(-wide[i]));
        if (o->trap != SILU_UNROUNDED)
            silu = rnd(o, silu);
        wide[i] = rnd(o, silu * wide[inter + i]);
    }
    linear(o, out, wide, 1, down, NULL);
    cog_free(wide);
}

static void oracle_project(const oracle *o, double *features, const double *x)
{
    const rig *g = o->g;
    int h = g->m.hidden, last = g->m.patches + 1;
    double *u = array((size_t)h), eps = o->trap == ADAPTER_EPS_1E6 ? 1e-6 : 1e-5;

    for (int t = 1; t <= g->m.patches; t++) {
        linear(o, u, x + t * g->m.vision.hidden, 1, g->adapter.proj, NULL);
        layer_norm(o, u, u, g->adapter.norm, g->adapter.norm_bias, h, eps);
        for (int i = 0; i < h; i++)
            u[i] = rnd(o, gelu(o, u[i]));
        gated_mlp(o, features + t * h, u, g->adapter.gate_up, g->adapter.down);
    }
    for (int i = 0; i < h; i++) {
        int swap = o->trap == BOI_EOI_SWAPPED;
        features[(swap ? last : 0) * h + i] = (double)rig_values(g, g->adapter.boi)[i];
        features[(swap ? 0 : last) * h + i] = (double)rig_values(g, g->adapter.eoi)[i];
    }
    cog_free(u);
}

/* ---- decoder: one sequence whose rows are slots 0, 1, ...; vision rows are `vision` ---- */

enum { N = 40, BOI = 1, EOI = 20 }; /* slots: BOS, boi, patches, eoi, text */

static int is_vision(const oracle *o, int slot)
{
    int vision = slot >= BOI && slot < EOI;

    return o->trap == EXPERTS_SWAPPED ? !vision : vision;
}

static int position(int slot)
{
    return slot <= 2 ? slot : slot < EOI ? 2 : slot - EOI + 3;
}

static void rotate(const oracle *o, double *x, int slot)
{
    const rig *g = o->g;
    int half = g->m.head_dim / 2, p = o->trap == LM_POSITION_IS_SLOT ? slot : position(slot);

    for (int i = 0; i < half; i++) {
        double c = (double)g->cos[p * half + i], s = (double)g->sin[p * half + i];
        double *a = o->trap == ROPE_INTERLEAVED ? x + 2 * i : x + i;
        double *b = o->trap == ROPE_INTERLEAVED ? a + 1 : x + i + half, a0 = *a, b0 = *b;
        *a = rnd(o, rnd(o, a0 * c) - rnd(o, b0 * s));
        *b = rnd(o, rnd(o, b0 * c) + rnd(o, a0 * s));
    }
}

static void oracle_attention(const oracle *o, double *x, const cog_layer *w)
{
    const rig *g = o->g;
    int h = g->m.hidden, dim = g->m.head_dim, q_width = g->m.heads * dim;
    int k_width = g->m.kv_heads * dim, wide = q_width + 2 * k_width;
    double *qkv = array((size_t)N * (size_t)wide), *mixed = array((size_t)q_width);
    double *n = array((size_t)h);

    for (int t = 0; t < N; t++) {
        int e = is_vision(o, t);
        const cog_weight *bias = o->trap == NO_EXPERT_BIAS ? NULL : w->expert[e].qkv_bias;
        rms_norm(o, n, x + t * h, w->norm_in, h);
        linear(o, qkv + t * wide, n, 1, w->expert[e].qkv, bias);
        for (int d = 0; d < q_width + k_width; d += dim)
            rotate(o, qkv + t * wide + d, t);
    }
    for (int t = 0; t < N; t++) {
        int visible[N];
        for (int j = 0; j < N; j++)
            visible[j] =
                j <= t || (o->trap == LM_FULL_PICTURE && is_vision(o, j) && is_vision(o, t));
        for (int head = 0; head < g->m.heads; head++) {
            int kv = head / (g->m.heads / g->m.kv_heads) * dim;
            attend(o, mixed + head * dim, qkv + t * wide + head * dim, qkv + q_width + kv,
                   qkv + q_width + k_width + kv, visible, N, wide, dim);
        }
        linear(o, n, mixed, 1, w->expert[is_vision(o, t)].dense, NULL);
        for (int i = 0; i < h; i++)
            x[t * h + i] = rnd(o, x[t * h + i] + n[i]);
    }
    cog_free(qkv);
    cog_free(mixed);
    cog_free(n);
}

static void oracle_ffn(const oracle *o, double *x, const cog_layer *w)
{
    int h = o->g->m.hidden;
    double *n = array((size_t)h), *out = array((size_t)h);

    for (int t = 0; t < N; t++) {
        int e = is_vision(o, t);
        rms_norm(o, n, x + t * h, w->norm_post, h);
        gated_mlp(o, out, n, w->expert[e].gate_up, w->expert[e].down);
        for (int i = 0; i < h; i++)
            x[t * h + i] = rnd(o, x[t * h + i] + out[i]);
    }
    cog_free(n);
    cog_free(out);
}

static void oracle_logits(const oracle *o, double *y, const double *x)
{
    const rig *g = o->g;
    double *n = array((size_t)g->m.hidden);

    for (int t = 0; t < N; t++) {
        rms_norm(o, n, x + t * g->m.hidden, g->head.norm, g->m.hidden);
        if (o->trap == F32_LOGITS)
            product(o, y + t * g->m.vocab, n, 1, g->head.lm_head, NULL);
        else
            linear(o, y + t * g->m.vocab, n, 1, g->head.lm_head, NULL);
    }
    cog_free(n);
}

/* ---- comparison ---- */

/* Share of elements that are off: in bf16 by 0.2 %, which is less than an ulp, in f32 by 1e-4 of
 * the typical size. A right implementation rounds a few the other way. */
static double wrong_share(const rig *g, const float *got, const double *want, size_t n)
{
    double size = 0;
    size_t wrong = 0;

    for (size_t i = 0; i < n; i++)
        size += fabs(want[i]) / (double)n;
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)got[i] - want[i]);
        if (!isfinite(got[i]))
            wrong++;
        else if (g->cfg.dtype == COG_BF16 ? error > 0.002 * fabs(want[i]) + 1e-4 * size
                                          : error > 1e-4 * size)
            wrong++;
    }
    return (double)wrong / (double)n;
}

/* Root mean square of the error, relative. For bf16 blocks with attention inside: their softmax
 * weights are rounded at another place than the oracle's, so many elements differ by an ulp. */
static double relative_error(const float *got, const double *want, size_t n)
{
    double error = 0, size = 0;

    for (size_t i = 0; i < n; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    return sqrt(error / size);
}

typedef struct run {
    const rig *g;
    bool has_attention;
    const float *start; /* [rows, cols of x] */
    const uint8_t *rgb;
    float *got; /* the backend's result */
    size_t n_start, n;
    void (*compute)(const oracle *o, double *out, const double *start, const uint8_t *rgb);
} run;

static double distance(const run *r, trap t)
{
    oracle o = { r->g, t };
    double *start = array(r->n_start), *out = array(r->n > r->n_start ? r->n : r->n_start);
    double s;

    for (size_t i = 0; i < r->n_start; i++)
        start[i] = (double)r->start[i];
    r->compute(&o, out, start, r->rgb);
    s = r->has_attention && r->g->cfg.dtype == COG_BF16 ? relative_error(r->got, out, r->n)
                                                        : wrong_share(r->g, r->got, out, r->n);
    cog_free(start);
    cog_free(out);
    return s;
}

/* The backend agrees with the right oracle and clearly less with the mistaken one. */
static void check(const run *r, trap mistake)
{
    double right = distance(r, NONE), wrong = distance(r, mistake);

    if (!(right < 0.02 && wrong > 3 * right + 0.01))
        fail_msg("trap %d in %s: %.2f %% off the right result, %.2f %% off the wrong one", mistake,
                 cog_dtype_name(r->g->cfg.dtype), 100 * right, 100 * wrong);
}

static float *random_rows(const rig *g, size_t n, float spread)
{
    float *x = cog_array(float, n);

    for (size_t i = 0; i < n; i++)
        x[i] = rig_round(g, rig_random(77, i, 0, spread));
    return x;
}

/* ---- running the backend ---- */

static void compute_embed(const oracle *o, double *out, const double *start, const uint8_t *rgb)
{
    oracle_embed(o, out, rgb);
}

static void check_vit_embed(rig *g, trap mistake)
{
    size_t side = (size_t)g->m.vision.image_side, n_px = 3 * side * side;
    size_t n = (size_t)g->m.vision.tokens * (size_t)g->m.vision.hidden;
    uint8_t *rgb = cog_alloc(n_px, 1);
    const uint8_t *one = rgb;
    float *got = cog_array(float, n);
    cog_act *x;
    run r = { .g = g, .rgb = rgb, .got = got, .n = n, .compute = compute_embed };

    for (size_t i = 0; i < n_px; i++)
        rgb[i] = (uint8_t)cog_rng_at(3, i);
    assert_int_equal(cog_cpu_ops.act_new(g->be, &x, g->m.vision.tokens, g->m.vision.hidden), 0);
    assert_int_equal(cog_cpu_ops.vit_embed(g->be, x, &one, 1, &g->vit_embed), 0);
    assert_int_equal(cog_cpu_ops.act_read(g->be, got, x, 0, g->m.vision.tokens), 0);
    check(&r, mistake);
    cog_cpu_ops.act_free(g->be, x);
    cog_free(rgb);
    cog_free(got);
}

static void compute_block(const oracle *o, double *out, const double *start, const uint8_t *rgb)
{
    memcpy(out, start,
           sizeof(double) * (size_t)o->g->m.vision.tokens * (size_t)o->g->m.vision.hidden);
    oracle_vit_block(o, out);
}

static void check_vit_block(rig *g, trap mistake)
{
    size_t n = (size_t)g->m.vision.tokens * (size_t)g->m.vision.hidden;
    float *start = random_rows(g, n, 1), *got = cog_array(float, n);
    cog_act *x;
    run r = { .g = g,
              .start = start,
              .n_start = n,
              .got = got,
              .n = n,
              .has_attention = true,
              .compute = compute_block };

    assert_int_equal(cog_cpu_ops.act_new(g->be, &x, g->m.vision.tokens, g->m.vision.hidden), 0);
    assert_int_equal(cog_cpu_ops.act_write(g->be, x, start, 0, g->m.vision.tokens), 0);
    assert_int_equal(cog_cpu_ops.vit_block(g->be, x, 1, &g->vit), 0);
    assert_int_equal(cog_cpu_ops.act_read(g->be, got, x, 0, g->m.vision.tokens), 0);
    check(&r, mistake);
    cog_cpu_ops.act_free(g->be, x);
    cog_free(start);
    cog_free(got);
}

static void compute_project(const oracle *o, double *out, const double *start, const uint8_t *rgb)
{
    oracle_project(o, out, start);
}

static void check_project(rig *g, trap mistake, float spread)
{
    size_t n = (size_t)g->m.image_tokens * (size_t)g->m.hidden;
    size_t n_start = (size_t)g->m.vision.tokens * (size_t)g->m.vision.hidden;
    float *start = random_rows(g, n_start, spread), *got = cog_array(float, n);
    cog_act *x, *features;
    run r = {
        .g = g, .start = start, .n_start = n_start, .got = got, .n = n, .compute = compute_project
    };

    assert_int_equal(cog_cpu_ops.act_new(g->be, &x, g->m.vision.tokens, g->m.vision.hidden), 0);
    assert_int_equal(cog_cpu_ops.act_new(g->be, &features, g->m.image_tokens, g->m.hidden), 0);
    assert_int_equal(cog_cpu_ops.act_write(g->be, x, start, 0, g->m.vision.tokens), 0);
    assert_int_equal(cog_cpu_ops.vit_project(g->be, &features, x, 1, &g->adapter), 0);
    assert_int_equal(cog_cpu_ops.act_read(g->be, got, features, 0, g->m.image_tokens), 0);
    check(&r, mistake);
    cog_cpu_ops.act_free(g->be, x);
    cog_cpu_ops.act_free(g->be, features);
    cog_free(start);
    cog_free(got);
}

/* Rows of the step: language first, then vision. */
typedef struct step {
    int32_t token[N], feature[N], position[N], slot[N], seq[N], pages[8], logits_row[N];
    cog_batch b;
} step;

static void make_step(step *s)
{
    int n = 0;

    memset(s, 0, sizeof(*s));
    for (int vision = 0; vision < 2; vision++) {
        for (int slot = 0; slot < N; slot++) {
            if ((slot >= BOI && slot < EOI) != vision)
                continue;
            s->feature[n] = -1;
            s->slot[n] = slot;
            s->position[n] = position(slot);
            s->logits_row[slot] = n++;
        }
        if (!vision)
            s->b.language_rows = n;
    }
    for (int i = 0; i < 8; i++)
        s->pages[i] = 11 * (i + 1) % 64;
    s->b.rows = N;
    s->b.token = s->token;
    s->b.feature = s->feature;
    s->b.position = s->position;
    s->b.slot = s->slot;
    s->b.seq = s->seq;
    s->b.seqs = 1;
    s->b.block_table = s->pages;
    s->b.max_blocks = 8;
    s->b.n_logits = N;
    s->b.logits_row = s->logits_row;
}

typedef enum part { ATTENTION, FFN, LOGITS } part;

static void compute_attention(const oracle *o, double *out, const double *x, const uint8_t *rgb)
{
    memcpy(out, x, sizeof(double) * N * (size_t)o->g->m.hidden);
    oracle_attention(o, out, &o->g->layer[1]);
}

static void compute_ffn(const oracle *o, double *out, const double *x, const uint8_t *rgb)
{
    memcpy(out, x, sizeof(double) * N * (size_t)o->g->m.hidden);
    oracle_ffn(o, out, &o->g->layer[1]);
}

static void compute_logits(const oracle *o, double *out, const double *x, const uint8_t *rgb)
{
    oracle_logits(o, out, x);
}

static void check_decoder(rig *g, part p, trap mistake, float spread)
{
    size_t h = (size_t)g->m.hidden, n = p == LOGITS ? N * (size_t)g->m.vocab : N * h;
    float *start = random_rows(g, N * h, spread), *got = cog_array(float, n);
    run r = { .g = g, .start = start, .n_start = N * h, .got = got, .n = n };
    step s;
    cog_act *x;

    make_step(&s);
    assert_int_equal(cog_cpu_ops.act_new(g->be, &x, N, g->m.hidden), 0);
    for (int slot = 0; slot < N; slot++)
        cog_cpu_ops.act_write(g->be, x, start + (size_t)slot * h, s.logits_row[slot], 1);
    assert_int_equal(cog_cpu_ops.step_begin(g->be, &s.b), 0);
    if (p == ATTENTION)
        assert_int_equal(cog_cpu_ops.attention(g->be, x, &g->layer[1], 1), 0);
    if (p == FFN)
        assert_int_equal(cog_cpu_ops.ffn(g->be, x, &g->layer[1]), 0);
    if (p == LOGITS) {
        assert_int_equal(cog_cpu_ops.logits(g->be, x, &g->head), 0);
        assert_int_equal(cog_cpu_ops.logits_read(g->be, got), 0);
    }
    for (int slot = 0; slot < N && p != LOGITS; slot++)
        cog_cpu_ops.act_read(g->be, got + (size_t)slot * h, x, s.logits_row[slot], 1);
    r.has_attention = p == ATTENTION;
    r.compute = p == ATTENTION ? compute_attention : p == FFN ? compute_ffn : compute_logits;
    check(&r, mistake);
    cog_cpu_ops.act_free(g->be, x);
    cog_free(start);
    cog_free(got);
}

/* ---- tests ---- */

enum { F32 = 1, BF16 = 2, BOTH = 3 };

typedef void (*checker)(rig *g, trap mistake);

static void each_variant(int modes, checker fn, trap mistake)
{
    unsigned variant[4];
    int n = rig_variants(variant);
    rig g;

    for (int i = 0; i < n; i++) {
        for (int mode = 0; mode < 2; mode++) {
            if (!(modes & (1 << mode)))
                continue;
            rig_open(&g, mode ? COG_BF16 : COG_F32, 2, variant[i]);
            fn(&g, mistake);
            rig_close(&g);
        }
    }
}

static void attention_1(rig *g, trap t)
{
    check_decoder(g, ATTENTION, t, 1);
}

static void attention_small(rig *g, trap t)
{
    check_decoder(g, ATTENTION, t, 0.003f);
}

static void ffn_1(rig *g, trap t)
{
    check_decoder(g, FFN, t, 1);
}

static void ffn_small(rig *g, trap t)
{
    check_decoder(g, FFN, t, 0.003f);
}

static void logits_1(rig *g, trap t)
{
    check_decoder(g, LOGITS, t, 1);
}

static void project_1(rig *g, trap t)
{
    check_project(g, t, 1);
}

static void project_small(rig *g, trap t)
{
    check_project(g, t, 0.003f);
}

/* A tower whose sublayers put out so little that the norms' epsilon shows. */
static void vit_block_small(rig *g, trap t)
{
    const int h = g->m.vision.hidden;

    g->vit.dense = rig_weight(g, COG_USE_MATRIX, h, h, 0, 0.001f);
    g->vit.dense_bias = rig_weight(g, COG_USE_VECTOR, 1, h, 0, 0.002f);
    g->vit.fc2 = rig_weight(g, COG_USE_MATRIX, h, g->m.vision.inter, 0, 0.0002f);
    g->vit.fc2_bias = rig_weight(g, COG_USE_VECTOR, 1, h, 0, 0.002f);
    check_vit_block(g, t);
}

static void trap_gelu_is_exact(void **state)
{
    each_variant(F32, check_vit_block, TANH_GELU);
    each_variant(F32, project_1, TANH_GELU);
}

static void trap_rms_norm_rounds_once(void **state)
{
    each_variant(BF16, logits_1, RMS_TWO_ROUNDINGS);
}

static void trap_three_epsilons(void **state)
{
    each_variant(BOTH, attention_small, RMS_EPS_1E6);
    each_variant(BOTH, ffn_small, RMS_EPS_1E6);
    each_variant(BOTH, vit_block_small, VIT_EPS_1E5);
    each_variant(F32, project_small, ADAPTER_EPS_1E6);
}

static void trap_tower_norms_sublayer_outputs(void **state)
{
    each_variant(BOTH, check_vit_block, VIT_PRE_NORM);
    each_variant(BOTH, check_vit_block, VIT_NORM_OF_SUM);
}

static void trap_tower_sees_everything(void **state)
{
    each_variant(BOTH, check_vit_block, VIT_CAUSAL);
}

static void trap_decoder_is_causal_inside_the_picture(void **state)
{
    each_variant(BOTH, attention_1, LM_FULL_PICTURE);
}

static void trap_rotary_position_is_not_the_slot(void **state)
{
    each_variant(BOTH, attention_1, LM_POSITION_IS_SLOT);
}

static void trap_rope_is_half_rotated(void **state)
{
    each_variant(BOTH, attention_1, ROPE_INTERLEAVED);
}

static void trap_logits_are_bf16(void **state)
{
    each_variant(BF16, logits_1, F32_LOGITS);
}

static void trap_experts_have_their_rows(void **state)
{
    each_variant(BOTH, attention_1, EXPERTS_SWAPPED);
    each_variant(BOTH, ffn_1, EXPERTS_SWAPPED);
    each_variant(BOTH, attention_1, NO_EXPERT_BIAS);
}

static void trap_patch_bias_rounds_on_its_own(void **state)
{
    each_variant(BF16, check_vit_embed, CONV_BIAS_ONE_ROUNDING);
}

static void trap_silu_rounds_before_the_product(void **state)
{
    each_variant(BF16, ffn_1, SILU_UNROUNDED);
}

static void trap_position_row_0_is_cls(void **state)
{
    each_variant(BOTH, check_vit_embed, CLS_LAST);
}

static void trap_patches_are_channel_first(void **state)
{
    each_variant(BOTH, check_vit_embed, PIXELS_HWC);
}

static void trap_boi_comes_first(void **state)
{
    each_variant(BF16, project_1, BOI_EOI_SWAPPED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trap_gelu_is_exact),
        cmocka_unit_test(trap_rms_norm_rounds_once),
        cmocka_unit_test(trap_three_epsilons),
        cmocka_unit_test(trap_tower_norms_sublayer_outputs),
        cmocka_unit_test(trap_tower_sees_everything),
        cmocka_unit_test(trap_decoder_is_causal_inside_the_picture),
        cmocka_unit_test(trap_rotary_position_is_not_the_slot),
        cmocka_unit_test(trap_rope_is_half_rotated),
        cmocka_unit_test(trap_logits_are_bf16),
        cmocka_unit_test(trap_experts_have_their_rows),
        cmocka_unit_test(trap_patch_bias_rounds_on_its_own),
        cmocka_unit_test(trap_silu_rounds_before_the_product),
        cmocka_unit_test(trap_position_row_0_is_cls),
        cmocka_unit_test(trap_patches_are_channel_first),
        cmocka_unit_test(trap_boi_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
