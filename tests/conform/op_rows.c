/* Kernels that work row by row. */
#include "tests/conform/ops.h"

#include <math.h>
#include <string.h>

static const int widths[] = { 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 112, 1000, 4096 };
enum { WIDTHS = sizeof(widths) / sizeof(widths[0]) };

typedef struct row_case {
    int n;
    void *x, *y; /* elements */
    float *w, *b;
    void *got, *want;
    double *bound;
} row_case;

static void begin(conform *c, row_case *r, const char *what, int n, float center, float spread)
{
    conform_shape(c, "%s of %d, around %g", what, n, (double)center);
    r->n = n;
    r->x = conform_elements(c, (size_t)n, spread);
    r->y = conform_elements(c, (size_t)n, spread);
    for (int i = 0; i < n; i++)
        conform_set(c, r->x, (size_t)i, center + conform_get(c, r->x, (size_t)i));
    r->w = conform_floats(c, (size_t)n, 1, 0.5f);
    r->b = conform_floats(c, (size_t)n, 0, 0.5f);
    r->got = conform_alloc(c, (size_t)n, conform_size(c));
    r->want = conform_alloc(c, (size_t)n, conform_size(c));
    r->bound = conform_alloc(c, (size_t)n, sizeof(double));
}

static void end(conform *c, row_case *r)
{
    conform_free(c, r->x);
    conform_free(c, r->y);
    conform_free(c, r->w);
    conform_free(c, r->b);
    conform_free(c, r->got);
    conform_free(c, r->want);
    conform_free(c, r->bound);
}

/* ---- norms ----
 *
 * Sums of n terms in 32 or 64 lanes err by a few 2^-24 relatively; 2^-20 covers that, the root and
 * the products. Layer norm subtracts the mean first, so its terms are as large as x and the mean
 * were, over the deviation. */

static void run_layernorm(conform *c, int n, float center, float spread, float eps)
{
    row_case r;
    double mean = 0, variance = 0;

    begin(c, &r, "layernorm", n, center, spread);
    for (int i = 0; i < n; i++)
        mean += (double)conform_get(c, r.x, (size_t)i) / n;
    for (int i = 0; i < n; i++)
        variance += pow((double)conform_get(c, r.x, (size_t)i) - mean, 2) / n;
    c->got.layernorm(r.got, r.x, r.w, r.b, n, eps);
    c->ref.layernorm(r.want, r.x, r.w, r.b, n, eps);
    for (int i = 0; i < n; i++) {
        double x = fabs((double)conform_get(c, r.x, (size_t)i)) + fabs(mean);
        r.bound[i] = 0x1p-20 * (fabs((double)r.w[i]) * x / sqrt(variance + (double)eps) +
                                fabs((double)r.b[i]));
    }
    conform_elements_near(c, r.got, r.want, (size_t)n, r.bound);
    c->got.layernorm(r.x, r.x, r.w, r.b, n, eps);
    conform_same(c, "in place", r.x, r.got, (size_t)n * conform_size(c));
    end(c, &r);
}

static void run_rmsnorm(conform *c, int n, float center, float spread, float eps)
{
    row_case r;

    begin(c, &r, "rmsnorm", n, center, spread);
    c->got.rmsnorm(r.got, r.x, r.w, n, eps);
    c->ref.rmsnorm(r.want, r.x, r.w, n, eps);
    for (int i = 0; i < n; i++)
        r.bound[i] = 0x1p-20 * fabs((double)conform_get(c, r.want, (size_t)i));
    conform_elements_near(c, r.got, r.want, (size_t)n, r.bound);
    c->got.rmsnorm(r.x, r.x, r.w, n, eps);
    conform_same(c, "in place", r.x, r.got, (size_t)n * conform_size(c));
    end(c, &r);
}

void conform_norms(conform *c)
{
    for (int i = 0; i < WIDTHS; i++) {
        run_layernorm(c, widths[i], 0, 1, 1e-6f);
        run_layernorm(c, widths[i], 3, 1, 1e-5f);
        run_layernorm(c, widths[i], 0, 0.001f, 1e-6f);
        run_rmsnorm(c, widths[i], 0, 1, 1e-5f);
        run_rmsnorm(c, widths[i], 0, 0.001f, 1e-5f);
    }
    for (int i = 0; i < RANDOM_SHAPES; i++) {
        run_layernorm(c, conform_between(c, 1, 300), conform_random(c, 2), 1, 1e-6f);
        run_rmsnorm(c, conform_between(c, 1, 300), conform_random(c, 2), 1, 1e-6f);
    }
}

/* ---- functions ----
 *
 * GELU: the polynomial, exp and two products err by 3, 2 and 1 ulp of f32 at most, silu * up by a
 * little less: 2^-20 relative (8 ulp). Results below 2^-126 may be lost: 1e-37 absolute; silu loses
 * those of gates below -88.7, 1e-36, times up. */

static void run_gelu(conform *c, int n, float center, float spread)
{
    row_case r;

    begin(c, &r, "gelu", n, center, spread);
    c->got.gelu(r.got, r.x, n);
    c->ref.gelu(r.want, r.x, n);
    for (int i = 0; i < n; i++)
        r.bound[i] = 0x1p-20 * fabs((double)conform_get(c, r.want, (size_t)i)) + 1e-37;
    conform_elements_near(c, r.got, r.want, (size_t)n, r.bound);
    c->got.gelu(r.x, r.x, n);
    conform_same(c, "in place", r.x, r.got, (size_t)n * conform_size(c));
    end(c, &r);
}

static void run_silu_mul(conform *c, int n, float center, float spread)
{
    row_case r;

    begin(c, &r, "silu_mul", n, center, spread);
    c->got.silu_mul(r.got, r.x, r.y, n);
    c->ref.silu_mul(r.want, r.x, r.y, n);
    /* bf16: silu itself may round the other way before the product */
    for (int i = 0; i < n; i++)
        r.bound[i] = (c->dtype == COG_F32 ? 0x1p-20 : 0x1p-7) *
                         fabs((double)conform_get(c, r.want, (size_t)i)) +
                     1e-36 * fabs((double)conform_get(c, r.y, (size_t)i));
    conform_elements_near(c, r.got, r.want, (size_t)n, r.bound);
    c->got.silu_mul(r.x, r.x, r.y, n);
    conform_same(c, "in place", r.x, r.got, (size_t)n * conform_size(c));
    end(c, &r);
}

static void near_special(conform *c, const row_case *r, size_t i)
{
    float want = conform_get(c, r->want, i);
    double ulps = c->dtype == COG_F32 ? 0x1p-20 : 0x1p-7;

    conform_near(c, i, conform_get(c, r->got, i), want,
                 isfinite(want) ? ulps * fabs((double)want) + 1e-36 : 0);
}

/* Zeros, infinities and NaN behave as in the reference. */
static void run_special(conform *c)
{
    static const float value[] = { 0.0f,  -0.0f,  INFINITY, -INFINITY, NAN,     1e-40f, -1e-40f,
                                   1e30f, -1e30f, 88.0f,    -88.0f,    -104.0f, 14.42f, -14.42f };
    enum { N = sizeof(value) / sizeof(value[0]) };
    row_case r;

    begin(c, &r, "special values", N, 0, 1);
    for (size_t i = 0; i < N; i++) {
        conform_set(c, r.x, i, value[i]);
        conform_set(c, r.y, i, 1);
    }
    c->got.gelu(r.got, r.x, N);
    c->ref.gelu(r.want, r.x, N);
    for (size_t i = 0; i < N; i++)
        near_special(c, &r, i);
    c->got.silu_mul(r.got, r.x, r.y, N);
    c->ref.silu_mul(r.want, r.x, r.y, N);
    for (size_t i = 0; i < N; i++)
        near_special(c, &r, i);
    end(c, &r);
}

void conform_functions(conform *c)
{
    for (int i = 0; i < WIDTHS; i++) {
        run_gelu(c, widths[i], 0, 4);
        run_silu_mul(c, widths[i], 0, 4);
    }
    for (int i = 0; i < RANDOM_SHAPES; i++) {
        run_gelu(c, conform_between(c, 1, 300), conform_random(c, 12), 3);
        run_silu_mul(c, conform_between(c, 1, 300), conform_random(c, 70), 10);
    }
    run_special(c);
}

/* ---- exact ones ---- */

static void run_add(conform *c, int n)
{
    row_case r;
    size_t bytes = (size_t)n * conform_size(c);

    begin(c, &r, "add", n, 0, 3);
    c->got.add(r.got, r.x, r.y, n);
    c->ref.add(r.want, r.x, r.y, n);
    conform_same(c, "sum", r.got, r.want, bytes);
    c->got.add(r.x, r.x, r.y, n);
    conform_same(c, "in place", r.x, r.got, bytes);
    end(c, &r);
}

static void run_rope(conform *c, int heads, int head_dim)
{
    size_t n = (size_t)heads * (size_t)head_dim, bytes = n * conform_size(c);
    char *got = conform_elements(c, n, 2), *want = conform_alloc(c, n, conform_size(c));
    float *cos_ = conform_floats(c, (size_t)head_dim / 2, 0, 1);
    float *sin_ = conform_floats(c, (size_t)head_dim / 2, 0, 1);

    conform_shape(c, "rope of %d heads of %d", heads, head_dim);
    memcpy(want, got, bytes);
    c->got.rope(got, cos_, sin_, heads, head_dim);
    c->ref.rope(want, cos_, sin_, heads, head_dim);
    conform_same(c, "rotated", got, want, bytes);
    conform_free(c, got);
    conform_free(c, want);
    conform_free(c, cos_);
    conform_free(c, sin_);
}

/* Random bit patterns: every exponent, ties, infinities and NaN. */
static void run_conversions(conform *c, int n)
{
    row_case r;
    float *wide = conform_alloc(c, (size_t)n, sizeof(float));
    float *back = conform_alloc(c, (size_t)n, sizeof(float));

    begin(c, &r, "conversions", n, 0, 1);
    for (int i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)cog_rng_next(&c->rng);
        if (i % 3 == 0)
            bits = (bits & 0xffff0000u) | 0x8000; /* a tie */
        if (i % 11 == 0)
            bits |= 0x7f800000u;
        memcpy(&wide[i], &bits, sizeof(bits));
    }
    c->got.from_float(r.got, wide, n);
    c->ref.from_float(r.want, wide, n);
    conform_same(c, "from_float", r.got, r.want, (size_t)n * conform_size(c));
    c->got.to_float(wide, r.got, n);
    c->ref.to_float(back, r.got, n);
    conform_same(c, "to_float", wide, back, (size_t)n * sizeof(float));
    end(c, &r);
    conform_free(c, wide);
    conform_free(c, back);
}

void conform_exact(conform *c)
{
    static const int dims[] = { 2, 6, 14, 16, 18, 30, 32, 34, 64, 80, 112, 128, 130 };

    for (int i = 0; i < WIDTHS; i++) {
        run_add(c, widths[i]);
        run_conversions(c, widths[i]);
    }
    for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
        run_rope(c, (int)d % 4, dims[d]);
    for (int i = 0; i < RANDOM_SHAPES; i++) {
        run_add(c, conform_between(c, 1, 300));
        run_conversions(c, conform_between(c, 1, 300));
        run_rope(c, conform_between(c, 0, 9), 2 * conform_between(c, 1, 80));
    }
}
