/* Products. Bound: each of the k additions errs by half an ulp of the partial sum, which for random
 * signs is about sqrt(i) times the terms' root mean square t; the errors add up like sqrt too, to
 * k * t * 2^-24 / 2.4. Ten times that is never met by chance, and a lost term (t) is hundreds of
 * times larger. VDPBF16PS takes subnormals for zero: 1e-37 each at most. */
#include "tests/conform/ops.h"

#include <math.h>
#include <string.h>

typedef struct gemm_case {
    int rows, k;
    size_t lda;
    void *a;      /* [rows, lda], NaN past k */
    void *panel;  /* packed */
    float *start; /* [rows, 64] */
} gemm_case;

static size_t panel_at(const conform *c, int k, int o)
{
    size_t pair = c->dtype == COG_F32 ? 1 : 2;

    return ((size_t)k / pair * COG_PANEL + (size_t)o) * pair + (size_t)k % pair;
}

static void make(conform *c, gemm_case *g)
{
    size_t pad = c->dtype == COG_BF16 && g->k % 2;

    g->lda = (size_t)g->k + (size_t)conform_between(c, 0, 40);
    g->a = conform_alloc(c, (size_t)g->rows * g->lda, conform_size(c));
    g->panel = conform_elements(c, cog_panel_elements(g->k, c->dtype), 1);
    g->start = conform_floats(c, (size_t)g->rows * COG_PANEL, 0, 1);
    for (int r = 0; r < g->rows; r++)
        for (int i = 0; i < g->k; i++)
            conform_set(c, g->a, (size_t)r * g->lda + (size_t)i, conform_random(c, 1));
    for (int o = 0; pad && o < COG_PANEL; o++)
        conform_set(c, g->panel, panel_at(c, g->k, o), 0);
}

static const void *a_at(const conform *c, const gemm_case *g, int row, int k)
{
    return (const char *)g->a + ((size_t)row * g->lda + (size_t)k) * conform_size(c);
}

static double term_size(const conform *c, const gemm_case *g, int row, int o)
{
    double square = 0;

    for (int i = 0; i < g->k; i++) {
        double term = (double)conform_get(c, a_at(c, g, row, i), 0) *
                      (double)conform_get(c, g->panel, panel_at(c, i, o));
        square += term * term;
    }
    return sqrt(square / g->k);
}

/* A row alone has the bits it has among others. */
static void check_alone(conform *c, const gemm_case *g, const float *acc, bool add)
{
    for (int r = 0; r < g->rows; r += 1 + g->rows / 7) {
        float *one = conform_alloc(c, COG_PANEL, sizeof(float));
        memcpy(one, g->start + r * COG_PANEL, COG_PANEL * sizeof(float));
        c->got.gemm(one, a_at(c, g, r, 0), g->lda, 1, g->panel, g->k, add);
        conform_same(c, "row alone", one, acc + r * COG_PANEL, COG_PANEL * sizeof(float));
        conform_free(c, one);
    }
}

/* The sum cut in two calls has the bits of one call; the reference, whose sum is a double within a
 * call, rounds it in between. */
static void check_cut(conform *c, const gemm_case *g, const float *acc, bool add)
{
    int cut = conform_between(c, 0, g->k / 2) / 2 * 2;
    size_t bytes = (size_t)g->rows * COG_PANEL * sizeof(float);
    float *two = conform_alloc(c, bytes, 1);
    const char *rest = (const char *)g->panel + (size_t)cut * COG_PANEL * conform_size(c);

    if (cut > 0) {
        memcpy(two, g->start, bytes);
        c->got.gemm(two, g->a, g->lda, g->rows, g->panel, cut, add);
        c->got.gemm(two, a_at(c, g, 0, cut), g->lda, g->rows, rest, g->k - cut, true);
        conform_same(c, "sum in two calls", two, acc, bytes);
    }
    conform_free(c, two);
}

static void run(conform *c, int rows, int k, bool add)
{
    gemm_case g = { .rows = rows, .k = k };
    size_t n = (size_t)rows * COG_PANEL;

    conform_shape(c, "%d rows, k %d, add %d", rows, k, add);
    make(c, &g);
    float *acc = conform_alloc(c, n, sizeof(float)), *want = conform_alloc(c, n, sizeof(float));
    if (add) {
        memcpy(acc, g.start, n * sizeof(float));
        memcpy(want, g.start, n * sizeof(float));
    }
    c->got.gemm(acc, g.a, g.lda, rows, g.panel, k, add);
    c->ref.gemm(want, g.a, g.lda, rows, g.panel, k, add);
    for (size_t i = 0; i < n; i++) {
        double t = term_size(c, &g, (int)(i / COG_PANEL), (int)(i % COG_PANEL));
        conform_near(c, i, acc[i], want[i],
                     0x1p-24 * (4 * (double)k * t + 2 * fabs((double)want[i]) + (add ? 4 : 0)) +
                         1e-37 * k);
    }
    check_alone(c, &g, acc, add);
    if (c->got.gemm != c->ref.gemm)
        check_cut(c, &g, acc, add);
    conform_free(c, acc);
    conform_free(c, want);
    conform_free(c, g.a);
    conform_free(c, g.panel);
    conform_free(c, g.start);
}

void conform_gemm(conform *c)
{
    static const int rows[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 24, 240 };
    static const int ks[] = { 1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 1001 };

    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++)
        for (size_t k = 0; k < sizeof(ks) / sizeof(ks[0]); k++)
            if (rows[r] < 100 || ks[k] < 40)
                run(c, rows[r], ks[k], (r + k) % 2);
    run(c, 1, 15360, false);
    run(c, 7, 11008, true);
    for (int i = 0; i < RANDOM_SHAPES; i++)
        run(c, conform_between(c, 0, 30), conform_between(c, 1, 300), conform_between(c, 0, 1));
}

/* ---- what becomes of a sum: exact ---- */

static void run_out(conform *c, int n, bool has_bias, cog_gemm_out how)
{
    size_t bytes = (size_t)n * (how == COG_OUT_FLOAT ? sizeof(float) : conform_size(c));
    float *acc = conform_floats(c, COG_PANEL, 0, 3); /* kernels may read the whole panel's sums */
    float *bias = conform_floats(c, (size_t)n, 0, 2);
    char *got = conform_alloc(c, bytes, 1), *want = conform_alloc(c, bytes, 1);

    conform_shape(c, "n %d, bias %d, how %d", n, has_bias, how);
    for (int i = 0; how == COG_OUT_ADD && i < n; i++) {
        conform_set(c, got, (size_t)i, conform_random(c, 5));
        conform_set(c, want, (size_t)i, conform_get(c, got, (size_t)i));
    }
    c->got.gemm_out(got, acc, has_bias ? bias : NULL, n, how);
    c->ref.gemm_out(want, acc, has_bias ? bias : NULL, n, how);
    conform_same(c, "output", got, want, bytes);
    conform_free(c, acc);
    conform_free(c, bias);
    conform_free(c, got);
    conform_free(c, want);
}

void conform_gemm_out(conform *c)
{
    for (int n = 1; n <= COG_PANEL; n++)
        for (int how = COG_OUT_STORE; how <= COG_OUT_FLOAT; how++)
            for (int bias = 0; bias < 2; bias++)
                run_out(c, n, bias, (cog_gemm_out)how);
}
