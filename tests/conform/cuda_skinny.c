/* Fused products of a few rows.
 *
 * Bound of a sum of k products: as in op_gemm.c, in any order, ten times what it errs by. A
 * normalised x is off by 2^-20 before its rounding (see op_rows.c): where that may move it to the
 * neighbouring bf16, the sum may be off by that step times the weight. Then each rounding in
 * between may fall to the other side: one ulp of what is rounded there. These are worst cases; that
 * almost all elements have the same bits (device_near) is what tells the roundings apart. */
#include "tests/conform/cuda_ops.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum kind { STORE, ADD, GATE_UP, QKV };
enum { LAYERS = 2, LAYER = 1, SEQS = 3, POSITIONS = 40 };

typedef struct shape {
    enum kind kind;
    int rows, n, k;
    bool has_norm, has_bias, gathers, dependent;
    int heads, kv_heads, head_dim, block; /* qkv */
} shape;

typedef struct skinny_case {
    shape s;
    device_array x, w, norm, bias, row;
    device_array out;
    double *before;                             /* add: [rows, n] */
    double *sum, *bound;                        /* [rows, n] of product + bias */
    device_array cos, sin, position, slot, seq; /* qkv */
    device_pages pages;
} skinny_case;

static double ulp(double value)
{
    return ldexp(fabs(value), -7);
}

static double rounded(double value)
{
    return (double)cog_round_bf16((float)value);
}

/* ---- inputs ---- */

static void make_qkv(conform *c, skinny_case *p)
{
    int32_t position[COG_SKINNY_ROWS], slot[COG_SKINNY_ROWS], seq[COG_SKINNY_ROWS];
    size_t rows = (size_t)p->s.rows, angles = (size_t)(POSITIONS * p->s.head_dim / 2);
    float *cosine = cog_array(float, angles), *sine = cog_array(float, angles);
    int slots[SEQS];

    for (int s = 0; s < SEQS; s++)
        slots[s] = conform_between(c, 0, 2 * p->s.block);
    for (int r = 0; r < p->s.rows; r++) {
        seq[r] = conform_between(c, 0, SEQS - 1);
        slot[r] = slots[seq[r]]++;
        position[r] = conform_between(c, 0, POSITIONS - 1);
    }
    for (size_t i = 0; i < angles; i++) {
        float angle = conform_random(c, 4);
        cosine[i] = cosf(angle);
        sine[i] = sinf(angle);
    }
    p->position = device_vector(c, sizeof(int32_t), rows, position);
    p->slot = device_vector(c, sizeof(int32_t), rows, slot);
    p->seq = device_vector(c, sizeof(int32_t), rows, seq);
    p->cos = device_vector(c, sizeof(float), angles, cosine);
    p->sin = device_vector(c, sizeof(float), angles, sine);
    p->pages = device_pages_new(c, LAYERS, p->s.kv_heads, p->s.block, p->s.head_dim, SEQS, slots);
    cog_free(cosine);
    cog_free(sine);
}

static int out_columns(const shape *s)
{
    return s->kind == GATE_UP ? s->n / 2 : s->kind == QKV ? s->heads * s->head_dim : s->n;
}

static skinny_case make(conform *c, const shape *s)
{
    static const char *const name[] = { "store", "add", "gate_up", "qkv" };
    skinny_case p = { .s = *s };
    float spread = 3 / sqrtf((float)s->k);
    int32_t row[COG_SKINNY_ROWS];

    conform_shape(c, "%s rows %d n %d k %d%s%s%s, heads %d / %d of %d, block %d", name[s->kind],
                  s->rows, s->n, s->k, s->has_norm ? " norm" : "", s->has_bias ? " bias" : "",
                  s->gathers ? " gather" : "", s->heads, s->kv_heads, s->head_dim, s->block);
    p.x = device_random(c, s->gathers ? s->rows + 3 : s->rows, s->k, 0, s->gathers ? 0.02f : 1);
    p.w = device_random(c, s->n, s->k, 0, spread);
    for (int o = 0; o < s->n; o++)
        for (size_t i = (size_t)s->k; i < p.w.ld; i++)
            conform_set(c, device_host_row(&p.w, o), i, 0);
    device_upload(c, &p.w);
    p.norm = device_new_ld(c, conform_size(c), 1, s->k, (size_t)s->k);
    for (int i = 0; i < s->k; i++)
        device_set(c, &p.norm, 0, i, 1 + conform_random(c, 0.5f));
    device_upload(c, &p.norm);
    p.bias = device_new_ld(c, conform_size(c), 1, s->n, (size_t)s->n);
    for (int i = 0; i < s->n; i++)
        device_set(c, &p.bias, 0, i, conform_random(c, 2));
    device_upload(c, &p.bias);
    for (int r = 0; r < s->rows; r++)
        row[r] = s->gathers ? s->rows + 2 - r : r;
    p.row = device_vector(c, sizeof(int32_t), (size_t)s->rows, row);

    if (s->kind == ADD) {
        p.out = device_random(c, s->rows, s->n, 0, 3);
        p.before = cog_array(double, (size_t)s->rows *(size_t)s->n);
        for (int r = 0; r < s->rows; r++)
            for (int o = 0; o < s->n; o++)
                p.before[r * s->n + o] = (double)device_get(c, &p.out, r, o);
    } else {
        p.out = device_new(c, s->rows, out_columns(s));
    }
    if (s->kind == QKV)
        make_qkv(c, &p);
    return p;
}

static void fini(conform *c, skinny_case *p)
{
    device_array *arrays[] = { &p->x, &p->w, &p->norm, &p->bias, &p->row, &p->out };
    device_array *of_qkv[] = { &p->cos, &p->sin, &p->position, &p->slot, &p->seq };

    for (size_t i = 0; i < sizeof(arrays) / sizeof(*arrays); i++)
        device_free(c, arrays[i]);
    for (size_t i = 0; p->s.kind == QKV && i < sizeof(of_qkv) / sizeof(*of_qkv); i++)
        device_free(c, of_qkv[i]);
    if (p->s.kind == QKV)
        device_pages_free(c, &p->pages);
    cog_free(p->before);
    cog_free(p->sum);
    cog_free(p->bound);
}

/* Rows first .. first + rows - 1 of the case, to rows of out. */
static void launch(conform *c, const skinny_case *p, const device_array *out, int first, int rows)
{
    const shape *s = &p->s;
    const int32_t *row = p->row.data, *position = p->position.data, *slot = p->slot.data,
                  *seq = p->seq.data;
    cog_skinny call = { .x = s->gathers ? p->x.data : device_row(&p->x, first),
                        .ld_x = p->x.ld,
                        .row = s->gathers ? row + first : NULL,
                        .norm = s->has_norm ? p->norm.data : NULL,
                        .eps = 1e-5f,
                        .w = p->w.data,
                        .ld_w = p->w.ld,
                        .bias = s->has_bias ? p->bias.data : NULL,
                        .rows = rows,
                        .n = s->n,
                        .k = s->k,
                        .dependent = s->dependent };

    switch (s->kind) {
    case STORE:
        device_done(c, cog_cuda_skinny_store(c->stream, &call, out->data, out->ld));
        break;
    case ADD:
        device_done(c, cog_cuda_skinny_add(c->stream, &call, out->data, out->ld));
        break;
    case GATE_UP:
        device_done(c, cog_cuda_skinny_gate_up(c->stream, &call, out->data, out->ld));
        break;
    case QKV:
        device_done(c, cog_cuda_skinny_qkv(c->stream, &call, out->data, out->ld, p->cos.data,
                                           p->sin.data, &p->pages.kv, LAYER, position + first,
                                           slot + first, seq + first, p->pages.table.data,
                                           p->pages.max_blocks, s->heads));
        break;
    }
}

/* ---- what is expected ---- */

/* x as the product takes it, and the step that each element may be off by. */
static void expect_row(conform *c, const skinny_case *p, int r, double *x, double *step)
{
    int row = ((const int32_t *)p->row.host)[r], k = p->s.k;
    double square = 0;

    for (int i = 0; i < k; i++) {
        x[i] = (double)device_get(c, &p->x, row, i);
        square += x[i] * x[i];
        step[i] = 0;
    }
    for (int i = 0; p->s.has_norm && i < k; i++) {
        double y = (double)device_get(c, &p->norm, 0, i) * (x[i] / sqrt(square / k + 1e-5));
        step[i] = fabs(rounded(y * (1 + 0x1p-20)) - rounded(y * (1 - 0x1p-20)));
        x[i] = rounded(y);
    }
}

static void expect_sums(conform *c, skinny_case *p)
{
    int n = p->s.n, k = p->s.k;
    double *x = cog_array(double, (size_t)k), *step = cog_array(double, (size_t)k);

    p->sum = cog_array(double, (size_t)p->s.rows *(size_t)n);
    p->bound = cog_array(double, (size_t)p->s.rows *(size_t)n);
    for (int r = 0, at = 0; r < p->s.rows; r++) {
        expect_row(c, p, r, x, step);
        for (int o = 0; o < n; o++, at++) {
            const uint16_t *w = device_host_row(&p->w, o);
            double sum = p->s.has_bias ? (double)device_get(c, &p->bias, 0, o) : 0;
            double square = 0, steps = 0;
            for (int i = 0; i < k; i++) {
                double weight = (double)cog_bf16_to_f32(w[i]);
                sum += x[i] * weight;
                square += x[i] * weight * x[i] * weight;
                steps += step[i] * fabs(weight);
            }
            p->sum[at] = sum;
            p->bound[at] = 0x1p-24 * (10 * k * sqrt(square / k) / 2.4 + 2 * fabs(sum) + 8) + steps;
        }
    }
    cog_free(x);
    cog_free(step);
}

/* Of a product once it is rounded. */
static double off(const skinny_case *p, int at)
{
    return p->bound[at] + ulp(p->sum[at]);
}

static void expect_add(conform *c, const skinny_case *p)
{
    size_t n = (size_t)p->s.rows * (size_t)p->s.n;
    double *want = cog_array(double, n), *bound = cog_array(double, n);

    for (size_t i = 0; i < n; i++) {
        want[i] = p->before[i] + rounded(p->sum[i]);
        bound[i] = off(p, (int)i);
    }
    device_near(c, &p->out, want, bound);
    cog_free(want);
    cog_free(bound);
}

/* silu's slope is 1.1 at most. */
static void expect_gate_up(conform *c, const skinny_case *p)
{
    int inter = p->s.n / 2;
    size_t n = (size_t)p->s.rows * (size_t)inter;
    double *want = cog_array(double, n), *bound = cog_array(double, n);

    for (int i = 0; i < (int)n; i++) {
        int gate = i / inter * p->s.n + i % inter, up = gate + inter;
        double g = rounded(p->sum[gate]), u = rounded(p->sum[up]),
               silu = rounded(g / (1 + exp(-g)));
        want[i] = silu * u;
        bound[i] = fabs(u) * (1.1 * off(p, gate) + ulp(silu)) + fabs(silu) * off(p, up);
    }
    device_near(c, &p->out, want, bound);
    cog_free(want);
    cog_free(bound);
}

/* Head `head` of row r of the product: want and bound [head_dim]. */
static void expect_head(const skinny_case *p, int r, int head, double *want, double *bound)
{
    int dim = p->s.head_dim, half = dim / 2, at = r * p->s.n + head * dim;
    int position = ((const int32_t *)p->position.host)[r];
    const float *cosine = (const float *)p->cos.host + position * half;
    const float *sine = (const float *)p->sin.host + position * half;
    bool turns = head < p->s.heads + p->s.kv_heads;

    for (int i = 0; i < half; i++) {
        double a = rounded(p->sum[at + i]), b = rounded(p->sum[at + i + half]);
        double off_a = off(p, at + i), off_b = off(p, at + i + half);
        double co = turns ? (double)cosine[i] : 1, si = turns ? (double)sine[i] : 0;
        want[i] = rounded(a * co) - rounded(b * si);
        want[i + half] = rounded(b * co) + rounded(a * si);
        bound[i] = fabs(co) * off_a + fabs(si) * off_b + ulp(a * co) + ulp(b * si);
        bound[i + half] = fabs(co) * off_b + fabs(si) * off_a + ulp(b * co) + ulp(a * si);
    }
}

/* Moves the keys and values of the batch's rows out of the pool's mirror, in the order of the
 * product's columns; what remains is all poison. */
static device_array take_pages(conform *c, skinny_case *p)
{
    const shape *s = &p->s;
    device_array got = device_new(c, s->rows, 2 * s->kv_heads * s->head_dim);
    size_t bytes = (size_t)s->head_dim * conform_size(c);
    device_array *pool = &p->pages.pool;

    device_download(c, pool);
    for (int r = 0; r < s->rows; r++) {
        int seq = ((const int32_t *)p->seq.host)[r], slot = ((const int32_t *)p->slot.host)[r];
        for (int i = 0; i < 2 * s->kv_heads; i++) {
            int from = i < s->kv_heads
                           ? device_key_row(&p->pages, LAYER, seq, i, slot)
                           : device_value_row(&p->pages, LAYER, seq, i - s->kv_heads, slot);
            char *to = device_host_row(&got, r);
            memcpy(to + (size_t)i * bytes, device_host_row(pool, from), bytes);
            memset(device_host_row(pool, from), CONFORM_POISON, bytes);
        }
    }
    for (size_t i = 0; i < pool->bytes; i++) {
        if ((unsigned char)pool->mirror[i] != CONFORM_POISON) {
            conform_fail(c, "wrote to other slots");
            break;
        }
    }
    device_upload(c, pool);
    device_upload(c, &got);
    return got;
}

static void expect_qkv(conform *c, const skinny_case *p, const device_array *pages)
{
    int dim = p->s.head_dim, all = p->s.heads + 2 * p->s.kv_heads, out = p->s.heads * dim,
        kept = 2 * p->s.kv_heads * dim;
    size_t n = (size_t)p->s.rows * (size_t)(all * dim);
    double *want = cog_array(double, n), *bound = cog_array(double, n);
    double *want_kv = want + p->s.rows * out, *bound_kv = bound + p->s.rows * out;

    for (int r = 0; r < p->s.rows; r++) {
        for (int head = 0; head < p->s.heads; head++)
            expect_head(p, r, head, want + r * out + head * dim, bound + r * out + head * dim);
        for (int i = 0; i < 2 * p->s.kv_heads; i++)
            expect_head(p, r, p->s.heads + i, want_kv + r * kept + i * dim,
                        bound_kv + r * kept + i * dim);
    }
    device_near(c, &p->out, want, bound);
    device_near(c, pages, want_kv, bound_kv);
    cog_free(want);
    cog_free(bound);
}

/* ---- the checks ---- */

/* A row has the bits that it has among others, also where another template does it. */
static void check_company(conform *c, skinny_case *p, const device_array *pages, int first,
                          int rows)
{
    size_t bytes = (size_t)p->out.cols * p->out.size;
    device_array out = device_new_ld(c, p->out.size, rows, p->out.cols, p->out.ld);
    device_array again;

    for (int r = 0; p->s.kind == ADD && r < rows; r++)
        for (int o = 0; o < p->s.n; o++)
            device_set(c, &out, r, o, (float)p->before[(first + r) * p->s.n + o]);
    device_upload(c, &out);
    launch(c, p, &out, first, rows);
    device_download(c, &out);
    for (int r = 0; r < rows; r++)
        conform_same(c, "row in other company", device_host_row(&out, r),
                     device_host_row(&p->out, first + r), bytes);
    if (p->s.kind == QKV) {
        again = take_pages(c, p);
        for (int r = first; r < first + rows; r++)
            conform_same(c, "pages in other company", device_host_row(&again, r),
                         device_host_row(pages, r), (size_t)pages->cols * pages->size);
        device_free(c, &again);
    }
    device_free(c, &out);
}

static void check_case(conform *c, const shape *s)
{
    skinny_case p = make(c, s);
    device_array pages = { 0 };

    launch(c, &p, &p.out, 0, s->rows);
    device_download(c, &p.out);
    expect_sums(c, &p);
    switch (s->kind) {
    case STORE:
        device_near(c, &p.out, p.sum, p.bound);
        break;
    case ADD:
        expect_add(c, &p);
        break;
    case GATE_UP:
        expect_gate_up(c, &p);
        break;
    case QKV:
        pages = take_pages(c, &p);
        expect_qkv(c, &p, &pages);
        break;
    }
    if (s->rows > 1) {
        int some = conform_between(c, 1, s->rows - 1);
        check_company(c, &p, &pages, s->rows - 1, 1);
        check_company(c, &p, &pages, conform_between(c, 0, s->rows - some), some);
    }
    if (s->kind == QKV)
        device_free(c, &pages);
    fini(c, &p);
}

/* rows at the ends of the templates, n of tiles, k of units, windows and 8 elements; 1100 and more:
 * several units of a warp; more than 128: several groups of a block of the emulator's device. */
static void check_products(conform *c)
{
    static const int rows[] = { 1, 2, 7, 8, 9, 16, 17, 24, 25, 32 };
    static const int edge[][2] = { { 1, 1 },    { 1, 8 },    { 15, 64 },  { 16, 63 },
                                   { 17, 65 },  { 32, 96 },  { 33, 100 }, { 31, 1024 },
                                   { 8, 1088 }, { 300, 72 }, { 40, 2200 } };
    enum { ROWS = sizeof(rows) / sizeof(*rows), EDGES = sizeof(edge) / sizeof(*edge) };
    int i = 0;

    for (int e = 0; e < EDGES; e++) {
        for (int kind = STORE; kind <= GATE_UP; kind++, i++) {
            for (int norm = 0; norm < 2; norm++) {
                shape s = { .kind = (enum kind)kind,
                            .rows = rows[(i + 7 * norm) % ROWS],
                            .n = edge[e][0] * (kind == GATE_UP ? 2 : 1),
                            .k = edge[e][1],
                            .has_norm = norm,
                            .has_bias = i & 1,
                            .gathers = i & 2,
                            .dependent = i & 4 };
                check_case(c, &s);
            }
        }
    }
}

static shape qkv_shape(int rows, int heads, int kv_heads, int head_dim, int block, int k)
{
    return (shape){ .kind = QKV,
                    .rows = rows,
                    .n = (heads + 2 * kv_heads) * head_dim,
                    .k = k,
                    .has_norm = true,
                    .heads = heads,
                    .kv_heads = kv_heads,
                    .head_dim = head_dim,
                    .block = block };
}

static void check_qkv(conform *c)
{
    static const int edge[][6] = { { 1, 1, 1, 16, 16, 16 },    { 9, 4, 2, 32, 16, 64 },
                                   { 8, 2, 2, 48, 64, 72 },    { 17, 3, 1, 112, 32, 40 },
                                   { 32, 2, 1, 128, 16, 33 },  { 3, 1, 1, 256, 256, 128 },
                                   { 25, 6, 3, 16, 128, 1100 } };

    for (size_t i = 0; i < sizeof(edge) / sizeof(*edge); i++) {
        shape s = qkv_shape(edge[i][0], edge[i][1], edge[i][2], edge[i][3], edge[i][4], edge[i][5]);
        for (int how = 0; how < 2; how++) {
            s.has_bias = s.gathers = how;
            s.dependent = !how;
            check_case(c, &s);
        }
    }
}

static void check_random(conform *c)
{
    for (int i = 0; i < RANDOM_SHAPES / 5; i++) {
        int heads = conform_between(c, 1, 3), kv_heads = conform_between(c, 1, 2);
        shape s = qkv_shape(conform_between(c, 1, 32), heads * kv_heads, kv_heads,
                            16 * conform_between(c, 1, 4), 16 << conform_between(c, 0, 4),
                            conform_between(c, 1, 200));
        s.kind = (enum kind)(i % 4);
        if (s.kind != QKV)
            s.n = 2 * conform_between(c, 1, 100);
        s.has_norm = conform_between(c, 0, 1);
        s.has_bias = conform_between(c, 0, 1);
        s.gathers = conform_between(c, 0, 1);
        check_case(c, &s);
    }
}

void conform_cuda_skinny(conform *c)
{
    cog_skinny none = { .ld_x = 8, .ld_w = 8, .n = 16, .k = 8 };

    if (c->dtype != COG_BF16) {
        if (cog_cuda_skinny_fits(c->dtype, 64, 64, 16))
            conform_fail(c, "bf16 only");
        return;
    }
    if (!cog_cuda_skinny_fits(COG_BF16, 33, 7, 48) || cog_cuda_skinny_fits(COG_BF16, 64, 64, 24))
        conform_fail(c, "heads of a multiple of 16 only");
    device_done(c, cog_cuda_skinny_prepare());
    device_done(c, cog_cuda_skinny_store(c->stream, &none, NULL, 16));
    check_products(c);
    check_qkv(c);
    check_random(c);
}
