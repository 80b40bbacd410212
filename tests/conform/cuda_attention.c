/* Attention over pages and of pictures, against sums in double.
 *
 * With score_j = scale q k_j, w_j = exp(score_j) / sum exp: f32 sums err in a score by some 2^-21
 * of scale sum |q_i k_i| (up to 256 terms, added in a tree or in fours), which changes a weight by
 * as much, relatively, and so does rounding of the exponential's argument; the result errs by that
 * times sum w_j |v_j|, twice, for numerator and denominator. In bf16 each weight is rounded, by
 * 2^-8 of itself at most, and so is the result. All this is worst case. Errors of many weights
 * cancel: if they are independent, the error's square is on average below 2^-16 (sum (w_j v_j)^2 +
 * result^2) / 3, and the sum over an array may be at most three times that.
 *
 * Nobody may see: pages of no sequence, slots past a row's own, columns past the last: all NaN. */
#include "tests/conform/cuda_ops.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>

enum { LAYERS = 2, LAYER = 1, MAX_ROWS = 400, MAX_ITEMS = 64 };

/* What an element should be, by how much it may be off at most, and what its error's square may be
 * on average over many. */
typedef struct expected {
    double value, bound, square;
} expected;

typedef struct attn_case {
    int heads, kv_heads, head_dim, block;
    int rows;
    int32_t seq[MAX_ROWS], slot[MAX_ROWS];
    device_pages pages;
    device_array q;
    expected *want; /* [rows, heads * head_dim] */
    float scale;
} attn_case;

/* ---- the reference ---- */

/* want [head_dim] of one query over slots; k, v: the keys and values. */
static void expect_query(conform *c, expected *want, const void *q, const void *const *k,
                         const void *const *v, int slots, int head_dim, float scale)
{
    double *weight = cog_array(double, (size_t)slots), max = -INFINITY, sum = 0, error = 0;

    for (int j = 0; j < slots; j++) {
        double score = 0, size = 0;
        for (int d = 0; d < head_dim; d++) {
            double term =
                (double)conform_get(c, q, (size_t)d) * (double)conform_get(c, k[j], (size_t)d);
            score += term;
            size += fabs(term);
        }
        weight[j] = score * (double)scale;
        max = fmax(max, weight[j]);
        error = fmax(error, size * (double)scale * 0x1p-21);
    }
    for (int j = 0; j < slots; j++)
        sum += weight[j] = exp(weight[j] - max);
    for (int d = 0; d < head_dim; d++) {
        double mean = 0, size = 0, square = 0;
        for (int j = 0; j < slots; j++) {
            double x = weight[j] / sum * (double)conform_get(c, v[j], (size_t)d);
            mean += x;
            size += fabs(x);
            square += x * x;
        }
        double f32 = size * (2 * error + 0x1p-19);
        want[d] = (expected){ mean, f32, f32 * f32 / 4 };
        if (c->dtype == COG_BF16) {
            want[d].bound += (size + fabs(mean)) * 0x1p-8;
            want[d].square += (square + mean * mean) * 0x1p-16;
        }
    }
    cog_free(weight);
}

static void compare(conform *c, device_array *out, const expected *want)
{
    double off = 0, most = 0;
    size_t at = 0;
    char text[80];

    for (int r = 0; r < out->rows; r++) {
        for (int i = 0; i < out->cols; i++, at++) {
            double got = (double)device_get(c, out, r, i);
            conform_near(c, at, (float)got, (float)want[at].value, want[at].bound);
            off += (got - want[at].value) * (got - want[at].value);
            most += want[at].square;
        }
    }
    if (!(off <= most)) {
        snprintf(text, sizeof(text), "square of the errors %.3g, of what is allowed %.3g", off,
                 most);
        conform_fail(c, text);
    }
}

/* ---- cases over pages ---- */

static void expect_row(conform *c, attn_case *a, int r)
{
    int slots = a->slot[r] + 1, group = a->heads / a->kv_heads;
    const void **k = cog_array(const void *, (size_t)slots),
               **v = cog_array(const void *, (size_t)slots);

    for (int h = 0; h < a->heads; h++) {
        size_t at = ((size_t)r * (size_t)a->heads + (size_t)h) * (size_t)a->head_dim;
        const char *q = device_host_row(&a->q, r);
        for (int j = 0; j < slots; j++) {
            k[j] = device_host_row(&a->pages.pool,
                                   device_key_row(&a->pages, LAYER, a->seq[r], h / group, j));
            v[j] = device_host_row(&a->pages.pool,
                                   device_value_row(&a->pages, LAYER, a->seq[r], h / group, j));
        }
        expect_query(c, a->want + at, q + (size_t)(h * a->head_dim) * conform_size(c), k, v, slots,
                     a->head_dim, a->scale);
    }
    cog_free(k);
    cog_free(v);
}

/* The rows of a are set; slots: of each sequence. The own slot's key is the first head's query in
 * some rows: it weighs most, so losing it shows. */
static void make(conform *c, attn_case *a, int seqs, const int *slots, float spread)
{
    size_t n = (size_t)a->rows * (size_t)(a->heads * a->head_dim);

    a->scale = 1 / sqrtf((float)a->head_dim);
    a->pages = device_pages_new(c, LAYERS, a->kv_heads, a->block, a->head_dim, seqs, slots);
    a->q = device_random(c, a->rows, a->heads * a->head_dim, 0, spread);
    for (int s = 0; s < seqs; s++)
        device_pages_fill(c, &a->pages, LAYER, s, slots[s], 1);
    for (int r = 0; r < a->rows; r += 2) {
        int key = device_key_row(&a->pages, LAYER, a->seq[r], 0, a->slot[r]);
        for (int d = 0; d < a->head_dim; d++)
            device_set(c, &a->pages.pool, key, d, device_get(c, &a->q, r, d));
    }
    device_upload(c, &a->pages.pool);
    a->want = cog_array(expected, n);
    for (int r = 0; r < a->rows; r++)
        expect_row(c, a, r);
}

static void fini(conform *c, attn_case *a)
{
    device_pages_free(c, &a->pages);
    device_free(c, &a->q);
    cog_free(a->want);
}

/* ---- row by row ---- */

typedef enum cut { WHOLE, SINGLE, ANYHOW, N_CUTS } cut;

/* Items of rows first .. first + rows - 1, in any order; returns how many. */
static int cut_rows(conform *c, const attn_case *a, cog_attn_item *item, int first, int rows,
                    cut how, int *n_partial)
{
    int n = 0;

    *n_partial = 0;
    for (int r = first; r < first + rows; r++) {
        int total = cog_segments(a->slot[r] + 1), at = 0;
        while (at < total) {
            int some = how == WHOLE ? total : how == SINGLE ? 1 : conform_between(c, 1, total - at);
            item[n++] = (cog_attn_item){ .row = r,
                                         .seq = a->seq[r],
                                         .slots = a->slot[r] + 1,
                                         .first = at,
                                         .n = some,
                                         .total = total,
                                         .partial = *n_partial };
            at += some;
        }
        *n_partial += item[n - 1].n < total;
    }
    for (int i = n - 1; i > 0; i--) {
        int j = conform_between(c, 0, i);
        cog_attn_item x = item[i];
        item[i] = item[j];
        item[j] = x;
    }
    return n;
}

/* The rows' results, of all rows; the other rows stay NaN. */
static device_array run_rows(conform *c, const attn_case *a, int first, int rows, cut how)
{
    cog_attn_item item[MAX_ITEMS] = { 0 };
    uint32_t zero[MAX_ROWS] = { 0 };
    int n_partial, segments = 0, n = cut_rows(c, a, item, first, rows, how, &n_partial);
    int32_t count = n;

    for (int r = 0; r < a->rows; r++)
        segments =
            cog_segments(a->slot[r] + 1) > segments ? cog_segments(a->slot[r] + 1) : segments;
    segments += conform_between(c, 0, 1);
    size_t floats = (size_t)(n_partial ? n_partial : 1) *
                    cog_attn_partial_floats(a->heads, a->head_dim, segments);
    size_t n_done = (size_t)((n_partial ? n_partial : 1) * a->kv_heads);
    device_array items = device_vector(c, sizeof(cog_attn_item), MAX_ITEMS, item);
    device_array n_items = device_vector(c, sizeof(int32_t), 1, &count);
    device_array partial = device_vector(c, sizeof(float), floats, NULL);
    device_array done = device_vector(c, sizeof(uint32_t), n_done, zero);
    device_array out = device_new(c, a->rows, a->heads * a->head_dim);
    device_done(c, cog_cuda_attention_rows(
                       c->stream, c->dtype, out.data, out.ld, a->q.data, a->q.ld, &a->pages.kv,
                       LAYER, a->pages.table.data, a->pages.max_blocks, items.data, n_items.data,
                       n + conform_between(c, 0, 2), partial.data, segments, done.data, a->heads,
                       a->scale, conform_between(c, 0, 1)));
    device_download(c, &out);
    device_download(c, &partial);
    device_download(c, &done);
    conform_same(c, "counters are zero again", done.host, zero, n_done * sizeof(uint32_t));
    device_free(c, &items);
    device_free(c, &n_items);
    device_free(c, &partial);
    device_free(c, &done);
    return out;
}

static void same_rows(conform *c, const char *what, const device_array *got,
                      const device_array *want, int first, int rows)
{
    for (int r = first; r < first + rows; r++)
        conform_same(c, what, device_host_row(got, r), device_host_row(want, r),
                     (size_t)got->cols * got->size);
}

/* slots: of the longest row. */
static void check_rows(conform *c, int kv_heads, int group, int head_dim, int block, int slots,
                       float spread)
{
    attn_case a = { .heads = kv_heads * group,
                    .kv_heads = kv_heads,
                    .head_dim = head_dim,
                    .block = block,
                    .rows = 3,
                    .seq = { 0, 1, 0 } };
    int seqs[2] = { slots, conform_between(c, 1, slots) };
    static const char *const what[N_CUTS] = { "whole rows", "single segments", "any items" };

    conform_shape(c, "rows: %d x %d heads of %d, %d slots in pages of %d", kv_heads, group,
                  head_dim, slots, block);
    a.slot[0] = slots - 1;
    a.slot[1] = seqs[1] - 1;
    a.slot[2] = slots > 1 ? slots - 2 : 0;
    a.rows = slots > 1 ? 3 : 2;
    make(c, &a, 2, seqs, spread);
    device_array whole = run_rows(c, &a, 0, a.rows, WHOLE);
    compare(c, &whole, a.want);
    for (cut how = SINGLE; how < N_CUTS; how++) {
        device_array other = run_rows(c, &a, 0, a.rows, how);
        same_rows(c, what[how], &other, &whole, 0, a.rows);
        device_free(c, &other);
    }
    device_array alone = run_rows(c, &a, 1, 1, ANYHOW);
    same_rows(c, "a row alone", &alone, &whole, 1, 1);
    device_free(c, &alone);
    device_free(c, &whole);
    fini(c, &a);
}

static const int dims[] = { 20, 24, 32, 64, 80, 96, 112, 128, 256, 1, 130 };
static const int blocks[] = { 16, 32, 64, 256 };

void conform_cuda_attention_rows(conform *c)
{
    static const int slots[] = { 1,   2,   15,  16,  17,  31,  32,  33,  63,  64, 65,
                                 127, 128, 129, 255, 256, 257, 511, 512, 513, 800 };
    static const int groups[] = { 1, 2, 4, 8, 3, 12 };

    device_done(c, cog_cuda_attention_rows_prepare());
    for (int s = 0; s < 21; s++)
        check_rows(c, 1 + s % 2, groups[s % 6], dims[s % 11], blocks[s % 4], slots[s],
                   s % 3 ? 1 : 8);
    for (int d = 0; d < 11; d++)
        check_rows(c, 1, groups[d % 4], dims[d], blocks[(d + 1) % 4], 257 + d, 4);
    for (int g = 0; g < 6; g++)
        check_rows(c, 2, groups[g], 128, blocks[(g + 2) % 4], 300, 4);
    for (int i = 0; i < RANDOM_SHAPES / 10; i++)
        check_rows(c, conform_between(c, 1, 3), conform_between(c, 1, 5),
                   conform_between(c, 1, 256), blocks[conform_between(c, 0, 3)],
                   conform_between(c, 1, 600), 6);
}

/* ---- in tiles ---- */

/* Rows of a sequence that are in the batch: slots first .. first + n - 1. */
typedef struct chunk {
    int seq, first, n;
} chunk;

/* Tiles of up to `most` rows; rows stand in the batch in any order. */
static device_array run_tiles(conform *c, const attn_case *a, const chunk *chunks, int n_chunks,
                              int most, const int *at)
{
    cog_flash_tile tile[MAX_ROWS];
    int32_t order[MAX_ROWS];
    int n = 0, rows = 0;

    for (int i = 0; i < n_chunks; i++) {
        for (int j = 0, some; j < chunks[i].n; j += some) {
            some = most == COG_FLASH_ROWS ? most : conform_between(c, 1, most);
            some = some < chunks[i].n - j ? some : chunks[i].n - j;
            tile[n++] = (cog_flash_tile){ rows + j, some, chunks[i].seq, chunks[i].first + j };
        }
        for (int j = 0; j < chunks[i].n; j++)
            order[rows + j] = at[rows + j];
        rows += chunks[i].n;
    }
    device_array tiles = device_vector(c, sizeof(cog_flash_tile), (size_t)n, tile);
    device_array orders = device_vector(c, sizeof(int32_t), (size_t)rows, order);
    device_array out = device_new(c, a->rows, a->heads * a->head_dim);
    device_done(c,
                cog_cuda_flash_paged(c->stream, out.data, out.ld, a->q.data, a->q.ld, &a->pages.kv,
                                     LAYER, a->pages.table.data, a->pages.max_blocks, orders.data,
                                     tiles.data, n, a->heads, a->scale));
    device_download(c, &out);
    device_free(c, &tiles);
    device_free(c, &orders);
    return out;
}

static void check_tiles(conform *c, int kv_heads, int group, int head_dim, int block, int first,
                        int n)
{
    attn_case a = {
        .heads = kv_heads * group, .kv_heads = kv_heads, .head_dim = head_dim, .block = block
    };
    chunk chunks[2] = { { 0, first, n }, { 1, 0, conform_between(c, 1, 20) } };
    int slots[2] = { first + n, chunks[1].n }, at[MAX_ROWS], k = 0;

    conform_shape(c, "tiles: %d x %d heads of %d, slots %d + %d in pages of %d", kv_heads, group,
                  head_dim, first, n, block);
    a.rows = chunks[0].n + chunks[1].n;
    for (int i = 0; i < a.rows; i++)
        at[i] = i;
    for (int i = a.rows - 1; i > 0; i--) {
        int j = conform_between(c, 0, i), x = at[i];
        at[i] = at[j];
        at[j] = x;
    }
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < chunks[i].n; j++, k++) {
            a.seq[at[k]] = chunks[i].seq;
            a.slot[at[k]] = chunks[i].first + j;
        }
    }
    make(c, &a, 2, slots, 3);
    device_array whole = run_tiles(c, &a, chunks, 2, COG_FLASH_ROWS, at);
    compare(c, &whole, a.want);
    device_array other = run_tiles(c, &a, chunks, 2, 40, at);
    same_rows(c, "tiles cut elsewhere", &other, &whole, 0, a.rows);
    device_free(c, &other);
    device_free(c, &whole);
    fini(c, &a);
}

void conform_cuda_attention_flash(conform *c)
{
    static const int rows[] = { 1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200 };
    static const int firsts[] = { 0, 0, 1, 63, 64, 65, 100, 0, 12, 0, 129 };
    static const int fit[] = { 8, 24, 32, 64, 80, 96, 112, 128 };
    static const int groups[] = { 1, 2, 4 };

    for (int d = 0; d < 11; d++)
        if (cog_cuda_flash_fits(c->dtype, dims[d]) !=
            (c->dtype == COG_BF16 && dims[d] % 8 == 0 && dims[d] <= 128))
            conform_fail(c, "says that other head_dims fit");
    if (c->dtype != COG_BF16)
        return;
    device_done(c, cog_cuda_flash_prepare());
    for (int i = 0; i < 12; i++)
        check_tiles(c, 1 + i % 2, groups[i % 3], fit[i % 8], blocks[i % 4], firsts[i % 11],
                    rows[i]);
    for (int d = 0; d < 8; d++)
        check_tiles(c, 1, groups[(d + 1) % 3], fit[d], blocks[(d + 2) % 4], 30 * d, 70);
    for (int i = 0; i < RANDOM_SHAPES / 20; i++)
        check_tiles(c, conform_between(c, 1, 2), conform_between(c, 1, 3),
                    8 * conform_between(c, 1, 16), blocks[conform_between(c, 0, 3)],
                    conform_between(c, 0, 150), conform_between(c, 1, 150));
}

/* ---- a picture's tokens ---- */

static void check_dense(conform *c, bool in_tiles, int images, int tokens, int heads, int head_dim)
{
    int cols = heads * head_dim;
    size_t n = (size_t)(images * tokens) * (size_t)cols, size = conform_size(c);
    float scale = 1 / sqrtf((float)head_dim);
    expected *want = cog_array(expected, n);
    const void **k = cog_array(const void *, (size_t)tokens),
               **v = cog_array(const void *, (size_t)tokens);
    device_array qkv = device_random(c, images * tokens, 3 * cols, 0, 2);
    device_array out = device_new(c, images * tokens, cols);

    conform_shape(c, "%s: %d pictures of %d tokens, %d heads of %d", in_tiles ? "tiles" : "rows",
                  images, tokens, heads, head_dim);
    for (int r = 0; r < images * tokens; r++) {
        for (int h = 0; h < heads; h++) {
            size_t at = (size_t)r * (size_t)cols + (size_t)(h * head_dim);
            for (int j = 0; j < tokens; j++) {
                const char *row = device_host_row(&qkv, r / tokens * tokens + j);
                k[j] = row + (size_t)(cols + h * head_dim) * size;
                v[j] = row + (size_t)(2 * cols + h * head_dim) * size;
            }
            expect_query(c, want + at,
                         (const char *)device_host_row(&qkv, r) + (size_t)(h * head_dim) * size, k,
                         v, tokens, head_dim, scale);
        }
    }
    if (in_tiles)
        device_done(c, cog_cuda_flash_dense(c->stream, out.data, out.ld, qkv.data, qkv.ld, images,
                                            tokens, heads, head_dim, scale));
    else
        device_done(c,
                    cog_cuda_attention_rows_dense(c->stream, c->dtype, out.data, out.ld, qkv.data,
                                                  qkv.ld, images, tokens, heads, head_dim, scale));
    device_download(c, &out);
    compare(c, &out, want);
    device_free(c, &out);
    device_free(c, &qkv);
    cog_free(want);
    cog_free(k);
    cog_free(v);
}

void conform_cuda_attention_dense(conform *c)
{
    static const int tokens[] = { 1, 2, 7, 8, 9, 10, 63, 64, 65, 74, 128, 138, 257 };

    device_done(c, cog_cuda_attention_rows_prepare());
    device_done(c, cog_cuda_flash_prepare());
    for (int t = 0; t < 13; t++)
        for (int tiles = 0; tiles < 2; tiles++)
            for (int d = t; d < 11; d += 5)
                if (!tiles || cog_cuda_flash_fits(c->dtype, dims[d]))
                    check_dense(c, tiles, 1 + t % 2, tokens[t], 1 + t % 3 / 2, dims[d]);
    for (int i = 0; i < RANDOM_SHAPES / 20; i++) {
        int head_dim = conform_between(c, 1, 16) * 8;
        bool fits = cog_cuda_flash_fits(c->dtype, head_dim);
        check_dense(c, fits && i % 2, conform_between(c, 1, 2), conform_between(c, 1, 200),
                    conform_between(c, 1, 2), head_dim);
    }
}
