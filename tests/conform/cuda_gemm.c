/* Products of gemm.h. Bound: as in op_gemm.c, f32 sums in any order, ten times what they err by;
 * then one rounding to the element. */
#include "engine/cuda/gemm.h"
#include "tests/conform/cuda_ops.h"

#include <math.h>

enum { WORKSPACE = 32 << 20 };

typedef struct product {
    int rows, n, k;
    device_array a, w, bias, dst;
    bool has_bias;
} product;

static device_array elements(conform *c, int n)
{
    device_array v = device_new_ld(c, conform_size(c), 1, n, (size_t)n);

    for (int i = 0; i < n; i++)
        device_set(c, &v, 0, i, conform_random(c, 4));
    device_upload(c, &v);
    return v;
}

static product make(conform *c, int rows, int n, int k, bool has_bias)
{
    product p = { .rows = rows, .n = n, .k = k, .has_bias = has_bias };

    conform_shape(c, "rows %d n %d k %d%s", rows, n, k, has_bias ? " bias" : "");
    p.a = device_random(c, rows, k, 0, 1);
    p.w = device_random(c, n, k, 0, 1);
    if (has_bias)
        p.bias = elements(c, n);
    p.dst = device_new(c, rows, n);
    return p;
}

static void fini(conform *c, product *p)
{
    device_free(c, &p->a);
    device_free(c, &p->w);
    if (p->has_bias)
        device_free(c, &p->bias);
    device_free(c, &p->dst);
}

static cog_cuda_product call_of(const product *p)
{
    return (cog_cuda_product){ .a = p->a.data,
                               .lda = p->a.ld,
                               .w = p->w.data,
                               .ldw = p->w.ld,
                               .bias = p->has_bias ? p->bias.data : NULL,
                               .dst = p->dst.data,
                               .ldd = p->dst.ld,
                               .rows = p->rows,
                               .n = p->n,
                               .k = p->k };
}

static void expect(conform *c, const product *p)
{
    size_t n = (size_t)p->rows * (size_t)p->n, at = 0;
    double *want = conform_alloc(c, n, sizeof(double)),
           *bound = conform_alloc(c, n, sizeof(double));

    for (int r = 0; r < p->rows; r++) {
        for (int o = 0; o < p->n; o++, at++) {
            double sum = p->has_bias ? (double)device_get(c, &p->bias, 0, o) : 0, square = 0;
            for (int i = 0; i < p->k; i++) {
                double term =
                    (double)device_get(c, &p->a, r, i) * (double)device_get(c, &p->w, o, i);
                sum += term;
                square += term * term;
            }
            want[at] = sum;
            /* the sum, and the addition of a bias up to 4 */
            bound[at] = 0x1p-24 * (10 * p->k * sqrt(square / p->k) / 2.4 + 2 * fabs(sum) + 8);
        }
    }
    device_near(c, &p->dst, want, bound);
    conform_free(c, want);
    conform_free(c, bound);
}

static void check_case(conform *c, cog_cuda_gemm *g, int rows, int n, int k, bool has_bias,
                       bool is_tuned)
{
    product p = make(c, rows, n, k, has_bias);
    cog_cuda_product call = call_of(&p);

    if (is_tuned)
        device_done(c, cog_cuda_gemm_tune(g, c->stream, &call, rows));
    device_done(c, cog_cuda_gemm_run(g, c->stream, &call));
    device_download(c, &p.dst);
    expect(c, &p);
    fini(c, &p);
}

/* Rows alone, in the middle of others and at their end have the same bits. */
static void check_invariant(conform *c, cog_cuda_gemm *g, int rows, int n, int k)
{
    product p = make(c, rows, n, k, true);
    cog_cuda_product call = call_of(&p);

    device_done(c, cog_cuda_gemm_tune(g, c->stream, &call, rows));
    device_done(c, cog_cuda_gemm_run(g, c->stream, &call));
    device_download(c, &p.dst);
    for (int some = 1; some <= rows; some = some * 3 + 1) {
        int first = conform_between(c, 0, rows - some);
        device_array part = device_new_ld(c, conform_size(c), some, n, p.dst.ld);
        call.a = device_row(&p.a, first);
        call.dst = part.data;
        call.rows = some;
        device_done(c, cog_cuda_gemm_run(g, c->stream, &call));
        device_download(c, &part);
        for (int r = 0; r < some; r++)
            conform_same(c, "row in other company", device_host_row(&part, r),
                         device_host_row(&p.dst, first + r), (size_t)n * conform_size(c));
        device_free(c, &part);
    }
    fini(c, &p);
}

void conform_cuda_gemm(conform *c)
{
    static const int edge[][3] = { { 0, 8, 8 },     { 1, 1, 1 },     { 1, 8, 3 },
                                   { 1, 264, 40 },  { 7, 13, 21 },   { 7, 64, 592 },
                                   { 33, 96, 129 }, { 64, 128, 64 }, { 300, 24, 72 },
                                   { 130, 67, 33 } };
    cog_err err = { 0 };
    void *workspace;

    device_check(cudaMalloc(&workspace, WORKSPACE), "cudaMalloc");
    for (int invariant = 0; invariant < 2; invariant++) {
        cog_cuda_gemm *g = NULL;
        if (cog_cuda_gemm_open(&g, c->dtype, workspace, WORKSPACE, invariant, &err) < 0) {
            conform_fail(c, err.text);
            break;
        }
        for (size_t i = 0; i < sizeof(edge) / sizeof(*edge); i++)
            for (int how = 0; how < 4; how++)
                check_case(c, g, edge[i][0], edge[i][1], edge[i][2], how & 1, how & 2);
        for (int i = 0; i < RANDOM_SHAPES / 10; i++)
            check_case(c, g, conform_between(c, 1, 40), conform_between(c, 1, 90),
                       conform_between(c, 1, 200), i & 1, false);
        if (invariant)
            check_invariant(c, g, 150, 72, 168);
        cog_cuda_gemm_close(g);
    }
    device_check(cudaFree(workspace), "cudaFree");
}
