/* Attention. f32 bound: scores err by some 2^-22 times their terms, weights by as much relatively,
 * so the weighted mean by 1e-5 of the largest value. bf16: the output's ulp, and a weight whose
 * rounding to bf16 falls the other way moves the result by 2^-9 of the largest value at most; such
 * weights are one in thousands. VDPBF16PS takes subnormals for zero: far below either. */
#include "tests/conform/ops.h"

#include <math.h>
#include <string.h>

typedef struct attn_case {
    int rows, head_dim, slots; /* slots: of the last row */
    int page_shift;            /* -1: no pages */
    float spread;              /* of queries: how unequal the weights are */
    size_t tile;               /* bytes */
    int tiles, pages;
    char *k, *v;
    int32_t *table;
    void *q;    /* [rows, head_dim] */
    int32_t *n; /* [rows] visible slots */
    cog_kv_view kv;
} attn_case;

static void place(conform *c, const attn_case *a, int slot)
{
    size_t at = cog_kv_tile_at(&a->kv, slot / COG_TILE);
    void *k = conform_elements(c, (size_t)a->head_dim, 1);
    void *v = conform_elements(c, (size_t)a->head_dim, 1);

    /* The last visible slot weighs most in some rows: losing it must show. */
    if (slot == a->slots - 1 && a->rows > 0)
        for (int d = 0; d < a->head_dim; d++)
            conform_set(c, k, (size_t)d,
                        conform_get(c, a->q, (size_t)((a->rows - 1) * a->head_dim + d)));
    cog_kv_put(a->k + at, a->v + at, slot % COG_TILE, k, v, a->head_dim, c->dtype);
    conform_free(c, k);
    conform_free(c, v);
}

/* Pages in random order, twice as many as needed; NaN in all slots that nobody sees. */
static void make(conform *c, attn_case *a)
{
    int per_page = a->page_shift < 0 ? 1 : 1 << a->page_shift;

    a->tile = cog_tile_elements(a->head_dim) * conform_size(c);
    a->tiles = (a->slots + COG_TILE - 1) / COG_TILE;
    a->pages = (a->tiles + per_page - 1) / per_page;
    a->table = conform_alloc(c, (size_t)a->pages, sizeof(int32_t));
    for (int i = 0; i < a->pages; i++)
        a->table[i] = 2 * ((i * 7 + 3) % a->pages) + conform_between(c, 0, 1);
    if (a->pages % 7 == 0)
        for (int i = 0; i < a->pages; i++)
            a->table[i] = 2 * (a->pages - 1 - i);
    size_t bytes = a->tile * (size_t)per_page * (size_t)a->pages * 2;
    a->k = conform_alloc(c, bytes, 1);
    a->v = conform_alloc(c, bytes, 1);
    a->kv = (cog_kv_view){ .k = a->k,
                           .v = a->v,
                           .tile_bytes = a->tile,
                           .page_bytes = a->tile * (size_t)per_page,
                           .page_shift = a->page_shift < 0 ? 0 : a->page_shift,
                           .pages = a->page_shift < 0 ? NULL : a->table };
    a->q = conform_elements(c, (size_t)a->rows * (size_t)a->head_dim, a->spread);
    a->n = conform_alloc(c, (size_t)a->rows, sizeof(int32_t));
    for (int r = 0; r < a->rows; r++) {
        int n = a->slots - (a->rows - 1 - r) * conform_between(c, 0, 3);
        a->n[r] = n < 1 ? 1 : n;
    }
    for (int s = 0; s < a->slots; s++)
        place(c, a, s);
}

/* Rows first .. first + rows - 1 in one call. */
static void call(conform *c, const cog_kernels *k, const attn_case *a, void *out, int first,
                 int rows)
{
    size_t step = (size_t)a->head_dim * conform_size(c);
    const void *q[COG_ATTN_ROWS];
    void *dst[COG_ATTN_ROWS];
    float *scratch = conform_alloc(c, cog_attn_scratch(a->head_dim), sizeof(float));

    for (int r = 0; r < rows; r++) {
        q[r] = (const char *)a->q + (size_t)(first + r) * step;
        dst[r] = (char *)out + (size_t)(first + r) * step;
    }
    k->attention(dst, q, a->n + first, rows, a->head_dim, 1 / sqrtf((float)a->head_dim), &a->kv,
                 scratch);
    conform_free(c, scratch);
}

static void run(conform *c, int rows, int head_dim, int slots, int page_shift, float spread)
{
    attn_case a = { .rows = rows,
                    .head_dim = head_dim,
                    .slots = slots,
                    .page_shift = page_shift,
                    .spread = spread };
    size_t n = (size_t)rows * (size_t)head_dim, bytes = n * conform_size(c);

    conform_shape(c, "%d rows, head_dim %d, %d slots, page_shift %d, spread %g", rows, head_dim,
                  slots, page_shift, (double)spread);
    make(c, &a);
    void *got = conform_alloc(c, bytes, 1), *want = conform_alloc(c, bytes, 1);
    void *alone = conform_alloc(c, bytes, 1);
    call(c, &c->got, &a, got, 0, rows);
    call(c, &c->ref, &a, want, 0, rows);
    for (int r = 0; r < rows; r++)
        call(c, &c->got, &a, alone, r, 1);
    for (size_t i = 0; i < n; i++) {
        float g = conform_get(c, got, i), w = conform_get(c, want, i);
        conform_near(c, i, g, w, c->dtype == COG_F32 ? 1e-5 : 0x1p-7 * fabs((double)w) + 0x1p-9);
    }
    conform_same(c, "rows alone", alone, got, bytes);
    conform_free(c, got);
    conform_free(c, want);
    conform_free(c, alone);
    conform_free(c, a.q);
    conform_free(c, a.n);
    conform_free(c, a.k);
    conform_free(c, a.v);
    conform_free(c, a.table);
}

void conform_attention(conform *c)
{
    static const int dims[] = { 1, 2, 17, 33, 64, 80, 112, 127, 128, 130, 256 };
    static const int slots[] = { 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129 };
    static const int rows[] = { 0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 32 };

    for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
        for (size_t s = 0; s < sizeof(slots) / sizeof(slots[0]); s++)
            run(c, rows[(d + s) % 11], dims[d], slots[s], (int)(d + s) % 6 - 1, s % 2 ? 1 : 8);
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++)
        run(c, rows[r], 128, 100, 1, 4);
    run(c, 2, 128, 2048, 1, 4);
    run(c, 32, 112, 1226, -1, 2);
    for (int i = 0; i < RANDOM_SHAPES; i++)
        run(c, conform_between(c, 0, COG_ATTN_ROWS), conform_between(c, 1, 160),
            conform_between(c, 1, 200), conform_between(c, -1, 4), 6);
}
