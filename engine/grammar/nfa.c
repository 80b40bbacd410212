#include "engine/grammar/nfa.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MAX_DEPTH = 2000, PATIENCE = 1024 };

/* An automaton is built from its end: what begins a part is a state that knows where it goes on. So
 * a part that is followed by the same twice is there once. */
typedef struct known {
    uint64_t key; /* 0: free */
    int32_t state;
} known;

typedef struct builder {
    cog_nfa *a;
    const cog_exprs *x;
    known *known; /* [cap], open addressing */
    size_t n_known, cap;
    uint64_t deadline_ns;
    int depth, patience;
    bool has_failed; /* too large, too deep, too long */
} builder;

uint64_t cog_nfa_cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void cog_nfa_fini(cog_nfa *a)
{
    cog_free(a->first);
    cog_free(a->edge);
    cog_free(a->start);
    *a = (cog_nfa){ 0 };
}

/* ------------------------------------------------------------------ what is there already */

static known *find(builder *b, uint64_t key)
{
    size_t at = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (b->cap - 1);

    while (b->known[at].key && b->known[at].key != key)
        at = (at + 1) & (b->cap - 1);
    return &b->known[at];
}

static void remember(builder *b, uint64_t key, int32_t state)
{
    if (2 * (b->n_known + 1) > b->cap) {
        known *old = b->known;
        size_t n = b->cap;

        b->cap = 2 * n;
        b->known = cog_array(known, b->cap);
        for (size_t i = 0; i < n; i++)
            if (old[i].key)
                *find(b, old[i].key) = old[i];
        cog_free(old);
    }
    *find(b, key) = (known){ key, state };
    b->n_known++;
}

/* ------------------------------------------------------------------ states and edges */

static int32_t add_state(builder *b)
{
    cog_nfa *a = b->a;

    if (a->n == COG_NFA_MAX) {
        b->has_failed = true;
        return 0;
    }
    if (a->n == a->cap) {
        a->cap = 2 * a->cap + 256;
        a->first = cog_realloc(a->first, (size_t)a->cap, sizeof(int32_t));
    }
    a->first[a->n] = -1;
    return a->n++;
}

static void add_edge(builder *b, int32_t from, cog_nfa_edge edge)
{
    cog_nfa *a = b->a;

    if (a->n_edges == COG_NFA_MAX) {
        b->has_failed = true;
        return;
    }
    if (a->n_edges == a->cap_edges) {
        a->cap_edges = 2 * a->cap_edges + 256;
        a->edge = cog_realloc(a->edge, (size_t)a->cap_edges, sizeof(cog_nfa_edge));
    }
    edge.next = a->first[from];
    a->edge[a->n_edges] = edge;
    a->first[from] = a->n_edges++;
}

static int32_t byte_state(builder *b, uint8_t lo, uint8_t hi, int32_t to)
{
    int32_t s = add_state(b);

    add_edge(b, s, (cog_nfa_edge){ .kind = COG_NFA_BYTE, .lo = lo, .hi = hi, .to = to });
    return s;
}

static void skip(builder *b, int32_t from, int32_t to)
{
    add_edge(b, from, (cog_nfa_edge){ .kind = COG_NFA_EMPTY, .to = to });
}

/* ------------------------------------------------------------------ characters as bytes */

static int encode(uint8_t out[4], uint32_t c)
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xc0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xe0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

/* The bytes of [lo, hi] to `to`, whose encodings have one length and differ in each byte but the
 * first only by whole ranges 80..bf. */
static void add_sequence(builder *b, int32_t from, uint32_t lo, uint32_t hi, int32_t to)
{
    uint8_t x[4], y[4];
    int n = encode(x, lo);

    encode(y, hi);
    for (int i = n - 1; i > 0; i--) {
        /* the same tails to the same state, as of all characters of a class, are there once */
        uint64_t key =
            UINT64_C(1) << 63 | (uint64_t)x[i] << 40 | (uint64_t)y[i] << 32 | (uint32_t)to;
        const known *k = find(b, key);

        if (k->key) {
            to = k->state;
        } else {
            to = byte_state(b, x[i], y[i], to);
            remember(b, key, to);
        }
    }
    add_edge(b, from, (cog_nfa_edge){ .kind = COG_NFA_BYTE, .lo = x[0], .hi = y[0], .to = to });
}

/* Cuts [lo, hi] into pieces that add_sequence takes. */
static void add_range(builder *b, int32_t from, uint32_t lo, uint32_t hi, int32_t to)
{
    static const uint32_t last[] = { 0x7f, 0x7ff, 0xffff };

    for (int i = 0; i < 3; i++) {
        if (lo <= last[i] && hi > last[i]) {
            add_range(b, from, lo, last[i], to);
            add_range(b, from, last[i] + 1, hi, to);
            return;
        }
    }
    for (int bits = 6; bits < 21 && hi >= 0x80; bits += 6) {
        uint32_t mask = (1u << bits) - 1;

        if ((lo & ~mask) == (hi & ~mask))
            continue;
        if (lo & mask) {
            add_range(b, from, lo, lo | mask, to);
            add_range(b, from, (lo | mask) + 1, hi, to);
            return;
        }
        if ((hi & mask) != mask) {
            add_range(b, from, lo, (hi & ~mask) - 1, to);
            add_range(b, from, hi & ~mask, hi, to);
            return;
        }
    }
    add_sequence(b, from, lo, hi, to);
}

static void add_text(builder *b, int32_t from, const char *text, int32_t to)
{
    for (size_t i = strlen(text); i-- > 1;)
        to = byte_state(b, (uint8_t)text[i], (uint8_t)text[i], to);
    add_edge(b, from,
             (cog_nfa_edge){
                 .kind = COG_NFA_BYTE, .lo = (uint8_t)text[0], .hi = (uint8_t)text[0], .to = to });
}

/* A character that JSON escapes. */
static void add_escaped(builder *b, int32_t from, uint32_t c, int32_t to)
{
    static const char names[] = "\"\\bfnrt", values[] = "\"\\\b\f\n\r\t";
    const char *name = strchr(values, (int)c);
    char text[8];

    if (name)
        snprintf(text, sizeof(text), "\\%c", names[name - values]);
    else
        snprintf(text, sizeof(text), "\\u%04x", c);
    add_text(b, from, text, to);
}

static void add_quoted(builder *b, int32_t from, uint32_t lo, uint32_t hi, int32_t to)
{
    static const uint32_t special[] = { '"', '\\' };

    for (; lo <= hi && lo < 0x20; lo++)
        add_escaped(b, from, lo, to);
    for (int i = 0; i < 2 && lo <= hi; i++) {
        if (special[i] < lo || special[i] > hi)
            continue;
        if (special[i] > lo)
            add_range(b, from, lo, special[i] - 1, to);
        add_escaped(b, from, special[i], to);
        lo = special[i] + 1;
    }
    if (lo <= hi)
        add_range(b, from, lo, hi, to);
}

static int32_t build_chars(builder *b, const cog_expr *e, int32_t next)
{
    int32_t s = add_state(b);

    for (int i = 0; i < e->n && !b->has_failed; i++) {
        cog_char_range r = b->x->range[e->first + i];
        if (e->is_quoted)
            add_quoted(b, s, r.lo, r.hi, next);
        else
            add_range(b, s, r.lo, r.hi, next);
    }
    return s;
}

/* ------------------------------------------------------------------ expressions */

static int32_t build(builder *b, int32_t id, int32_t next);

static int32_t build_bytes(builder *b, const cog_expr *e, int32_t next)
{
    const uint8_t *bytes = (const uint8_t *)b->x->bytes.data + e->first;

    for (int i = e->n - 1; i >= 0 && !b->has_failed; i--)
        next = byte_state(b, bytes[i], bytes[i], next);
    return next;
}

static int32_t build_repeat(builder *b, const cog_expr *e, int32_t next)
{
    int32_t s = next;

    if (e->max == COG_EXPR_UNBOUNDED) {
        s = add_state(b);
        skip(b, s, next);
        skip(b, s, build(b, e->first, s));
    }
    for (int i = e->min; i < e->max && !b->has_failed; i++) {
        int32_t more = build(b, e->first, s);

        s = add_state(b);
        skip(b, s, next);
        skip(b, s, more);
    }
    for (int i = 0; i < e->min && !b->has_failed; i++)
        s = build(b, e->first, s);
    return s;
}

static int32_t build_node(builder *b, const cog_expr *e, int32_t next)
{
    int32_t s;

    switch (e->kind) {
    case COG_EXPR_CHARS:
        return build_chars(b, e, next);
    case COG_EXPR_BYTES:
        return build_bytes(b, e, next);
    case COG_EXPR_CAT:
        for (int i = e->n - 1; i >= 0 && !b->has_failed; i--)
            next = build(b, b->x->part[e->first + i], next);
        return next;
    case COG_EXPR_ALT:
        s = add_state(b);
        for (int i = 0; i < e->n && !b->has_failed; i++)
            skip(b, s, build(b, b->x->part[e->first + i], next));
        return s;
    case COG_EXPR_REPEAT:
        return build_repeat(b, e, next);
    default:
        s = add_state(b);
        add_edge(b, s, (cog_nfa_edge){ .kind = COG_NFA_CALL, .rule = e->first, .to = next });
        return s;
    }
}

/* The state that begins id where what follows begins at next. */
static int32_t build(builder *b, int32_t id, int32_t next)
{
    uint64_t key = (uint64_t)(uint32_t)id << 32 | (uint32_t)next;
    int32_t s;

    key++; /* 0 is a free place */
    if (b->has_failed)
        return 0;
    if (find(b, key)->key)
        return find(b, key)->state;
    if (++b->patience % PATIENCE == 0 && cog_nfa_cpu_ns() > b->deadline_ns)
        b->has_failed = true;
    if (++b->depth > MAX_DEPTH)
        b->has_failed = true;
    s = b->has_failed ? 0 : build_node(b, &b->x->node[id], next);
    b->depth--;
    if (!b->has_failed)
        remember(b, key, s);
    return s;
}

int cog_nfa_init(cog_nfa *out, const cog_exprs *x, int32_t whole, uint64_t deadline_ns,
                 cog_err *err)
{
    builder b = { .a = out, .x = x, .cap = 1024, .deadline_ns = deadline_ns };

    *out = (cog_nfa){ .n_rules = x->n_rules };
    out->start = cog_array(int32_t, (size_t)x->n_rules + 1);
    b.known = cog_array(known, b.cap);
    b.has_failed = x->is_full;
    if (!b.has_failed)
        add_state(&b); /* the end */
    for (int i = 0; i <= x->n_rules; i++)
        out->start[i] = build(&b, i < x->n_rules ? x->rule[i] : whole, 0);
    cog_free(b.known);
    if (b.has_failed)
        return cog_err_set(err, COG_ELIMIT, "it needs more than %d states or too long to compile",
                           COG_NFA_MAX);
    return 0;
}
