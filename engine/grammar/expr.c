#include "engine/grammar/expr.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

void cog_exprs_fini(cog_exprs *x)
{
    cog_free(x->node);
    cog_free(x->range);
    cog_free(x->part);
    cog_buf_fini(&x->bytes);
    *x = (cog_exprs){ 0 };
}

/* Room for n more of an array that doubles; false when there would be too many. */
static bool grow(cog_exprs *x, void **array, int32_t *cap, int32_t used, int n, size_t size)
{
    if (used + (int64_t)n > COG_EXPR_MAX) {
        x->is_full = true;
        return false;
    }
    if (used + n > *cap) {
        *cap = 2 * (used + n) + 64;
        *array = cog_realloc(*array, (size_t)*cap, size);
    }
    return true;
}

static int32_t add(cog_exprs *x, cog_expr node)
{
    if (!grow(x, (void **)&x->node, &x->cap, x->n, 1, sizeof(cog_expr)))
        return 0;
    x->node[x->n] = node;
    return x->n++;
}

static int by_lo(const void *a, const void *b)
{
    const cog_char_range *x = a, *y = b;

    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static void put_range(cog_exprs *x, uint32_t lo, uint32_t hi)
{
    static const uint32_t hole[][2] = { { 0, 0 }, { 0xd800, 0xdfff } };

    for (int i = 0; i < 2 && lo <= hi; i++) {
        if (hi < hole[i][0] || lo > hole[i][1])
            continue;
        if (lo < hole[i][0])
            put_range(x, lo, hole[i][0] - 1);
        lo = hole[i][1] + 1;
    }
    if (lo > hi || !grow(x, (void **)&x->range, &x->cap_ranges, x->n_ranges, 1, sizeof(*x->range)))
        return;
    x->range[x->n_ranges++] = (cog_char_range){ lo, hi };
}

int32_t cog_expr_chars(cog_exprs *x, const cog_char_range *range, int n, bool negate,
                       bool is_quoted)
{
    cog_char_range *sorted = cog_array(cog_char_range, (size_t)n + 1);
    int32_t first = x->n_ranges;
    uint32_t next = 0; /* the first character not looked at */

    if (n > 0)
        memcpy(sorted, range, (size_t)n * sizeof(*range));
    qsort(sorted, (size_t)n, sizeof(*sorted), by_lo);
    for (int i = 0; i < n; i++) {
        uint32_t lo = sorted[i].lo > next ? sorted[i].lo : next;
        if (sorted[i].hi < next)
            continue;
        if (negate && lo > next)
            put_range(x, next, lo - 1);
        if (!negate)
            put_range(x, lo, sorted[i].hi);
        next = sorted[i].hi + 1;
    }
    if (negate && next <= COG_EXPR_MAX_CHAR)
        put_range(x, next, COG_EXPR_MAX_CHAR);
    cog_free(sorted);
    return add(x, (cog_expr){ .kind = COG_EXPR_CHARS,
                              .is_quoted = is_quoted,
                              .first = first,
                              .n = x->n_ranges - first });
}

int32_t cog_expr_bytes(cog_exprs *x, const char *bytes, size_t len)
{
    int32_t first = (int32_t)x->bytes.len;

    if (len > COG_EXPR_MAX || x->bytes.len > COG_EXPR_MAX - len) {
        x->is_full = true;
        return 0;
    }
    cog_buf_add(&x->bytes, bytes, len);
    return add(x, (cog_expr){ .kind = COG_EXPR_BYTES, .first = first, .n = (int32_t)len });
}

static int32_t add_parts(cog_exprs *x, cog_expr_kind kind, const int32_t *part, int n)
{
    int32_t first = x->n_parts;

    if (n == 1)
        return part[0];
    if (!grow(x, (void **)&x->part, &x->cap_parts, x->n_parts, n, sizeof(int32_t)))
        return 0;
    if (n > 0)
        memcpy(x->part + first, part, (size_t)n * sizeof(int32_t));
    x->n_parts += n;
    return add(x, (cog_expr){ .kind = kind, .first = first, .n = n });
}

int32_t cog_expr_cat(cog_exprs *x, const int32_t *part, int n)
{
    return add_parts(x, COG_EXPR_CAT, part, n);
}

int32_t cog_expr_alt(cog_exprs *x, const int32_t *part, int n)
{
    return add_parts(x, COG_EXPR_ALT, part, n);
}

int32_t cog_expr_tail(cog_exprs *x, int32_t cat, int skip)
{
    cog_expr whole = x->node[cat];

    if (whole.kind != COG_EXPR_CAT) /* one part alone is itself */
        return skip == 0 ? cat : cog_expr_cat(x, NULL, 0);
    return add(
        x, (cog_expr){ .kind = COG_EXPR_CAT, .first = whole.first + skip, .n = whole.n - skip });
}

int32_t cog_expr_repeat(cog_exprs *x, int32_t part, int min, int max)
{
    return add(x, (cog_expr){ .kind = COG_EXPR_REPEAT, .first = part, .min = min, .max = max });
}

int32_t cog_expr_call(cog_exprs *x, int rule)
{
    return add(x, (cog_expr){ .kind = COG_EXPR_CALL, .first = rule });
}

int cog_expr_rule(cog_exprs *x)
{
    if (x->n_rules == COG_EXPR_MAX_RULES) {
        x->is_full = true;
        return -1;
    }
    return x->n_rules++;
}
