/* automaton.c - subsets of an NFA's states as states (Rabin and Scott, 1959), rule by rule. */
#include "engine/grammar/automaton.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_MEMBERS = 4 << 20, PATIENCE = 64 };

typedef struct list {
    int32_t *id;
    int32_t n, cap;
} list;

/* A state that is made of a subset of the NFA's. */
typedef struct subset {
    int32_t first, n; /* of members */
    uint64_t hash;
} subset;

typedef struct determiniser {
    cog_automaton *a;
    const cog_nfa *nfa;
    list members;   /* of all subsets, one after another */
    subset *subset; /* [a->cap] */
    int32_t *table; /* [n_table] state + 1 by hash, of this rule */
    int32_t n_table;
    list found;           /* a subset in the making */
    int32_t *mark, stamp; /* [nfa->n] the stamp of the subset that it was last put into */
    list target[256];     /* of the byte ranges of one state */
    uint64_t deadline_ns;
    bool has_failed;
} determiniser;

static void push(list *l, int32_t id)
{
    if (l->n == l->cap) {
        l->cap = 2 * l->cap + 64;
        l->id = cog_realloc(l->id, (size_t)l->cap, sizeof(int32_t));
    }
    l->id[l->n++] = id;
}

static int by_value(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* ------------------------------------------------------------------ subsets */

/* Puts all that is reached without a byte into found; states that only lead on in that way are left
 * out, so that equal subsets look equal. */
static void close_over(determiniser *d, const int32_t *from, int32_t n)
{
    int32_t at = 0;

    d->stamp++;
    d->found.n = 0;
    for (int32_t i = 0; i < n; i++) {
        if (d->mark[from[i]] != d->stamp)
            push(&d->found, from[i]);
        d->mark[from[i]] = d->stamp;
    }
    while (at < d->found.n) {
        int32_t s = d->found.id[at], kept = s == 0;

        for (int32_t e = d->nfa->first[s]; e >= 0; e = d->nfa->edge[e].next) {
            const cog_nfa_edge *edge = &d->nfa->edge[e];
            if (edge->kind != COG_NFA_EMPTY) {
                kept = 1;
            } else if (d->mark[edge->to] != d->stamp) {
                d->mark[edge->to] = d->stamp;
                push(&d->found, edge->to);
            }
        }
        if (kept)
            at++;
        else
            d->found.id[at] = d->found.id[--d->found.n];
    }
    qsort(d->found.id, (size_t)d->found.n, sizeof(int32_t), by_value);
}

static uint64_t hash_of(const int32_t *id, int32_t n)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (int32_t i = 0; i < n; i++)
        h = (h ^ (uint32_t)id[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static void clear_table(determiniser *d, int32_t n)
{
    cog_free(d->table);
    d->n_table = n;
    d->table = cog_array(int32_t, (size_t)n);
}

static int32_t *find(determiniser *d, const int32_t *id, int32_t n, uint64_t hash)
{
    size_t at = (size_t)hash & (size_t)(d->n_table - 1);

    for (; d->table[at]; at = (at + 1) & (size_t)(d->n_table - 1)) {
        const subset *s = &d->subset[d->table[at] - 1];
        if (s->hash == hash && s->n == n &&
            memcmp(d->members.id + s->first, id, (size_t)n * sizeof(int32_t)) == 0)
            break;
    }
    return &d->table[at];
}

static int32_t add_state(determiniser *d, uint64_t hash)
{
    cog_automaton *a = d->a;

    if (a->n == COG_AUTOMATON_MAX || d->members.n + d->found.n > MAX_MEMBERS) {
        d->has_failed = true;
        return -1;
    }
    if (a->n == a->cap) {
        a->cap = 2 * a->cap + 64;
        a->state = cog_realloc(a->state, (size_t)a->cap, sizeof(*a->state));
        d->subset = cog_realloc(d->subset, (size_t)a->cap, sizeof(*d->subset));
    }
    a->state[a->n] = (cog_automaton_state){ .need = COG_AUTOMATON_NEVER };
    d->subset[a->n] = (subset){ .first = d->members.n, .n = d->found.n, .hash = hash };
    for (int32_t i = 0; i < d->found.n; i++)
        push(&d->members, d->found.id[i]);
    return a->n++;
}

/* The state of what the NFA's n states are and reach; -1: none. */
static int32_t state_of(determiniser *d, const int32_t *from, int32_t n, int32_t first_of_rule)
{
    uint64_t hash;
    int32_t *place, made;

    close_over(d, from, n);
    if (d->found.n == 0)
        return -1;
    hash = hash_of(d->found.id, d->found.n);
    place = find(d, d->found.id, d->found.n, hash);
    if (*place)
        return *place - 1;
    made = add_state(d, hash);
    *place = made + 1;
    if (made >= 0 && 2 * (made - first_of_rule + 1) > d->n_table) {
        clear_table(d, 2 * d->n_table);
        for (int32_t s = first_of_rule; s <= made; s++)
            *find(d, d->members.id + d->subset[s].first, d->subset[s].n, d->subset[s].hash) = s + 1;
    }
    return made;
}

/* ------------------------------------------------------------------ ways out of a state */

static void add_arc(determiniser *d, int32_t state, uint8_t lo, uint8_t hi, int32_t to)
{
    cog_automaton *a = d->a;
    cog_automaton_state *s = &a->state[state];
    cog_arc *last = s->n_arcs > 0 ? &a->arc[a->n_arcs - 1] : NULL;

    if (last && last->to == to && last->hi + 1 == lo) {
        last->hi = hi;
        return;
    }
    if (a->n_arcs == a->cap_arcs) {
        a->cap_arcs = 2 * a->cap_arcs + 256;
        a->arc = cog_realloc(a->arc, (size_t)a->cap_arcs, sizeof(cog_arc));
    }
    if (s->n_arcs++ == 0)
        s->first_arc = a->n_arcs;
    a->arc[a->n_arcs++] = (cog_arc){ lo, hi, to };
}

static void add_call(determiniser *d, int32_t state, int32_t rule, int32_t to)
{
    cog_automaton *a = d->a;
    cog_automaton_state *s = &a->state[state];

    if (a->n_calls == a->cap_calls) {
        a->cap_calls = 2 * a->cap_calls + 64;
        a->call = cog_realloc(a->call, (size_t)a->cap_calls, sizeof(cog_rule_call));
    }
    if (s->n_calls++ == 0)
        s->first_call = a->n_calls;
    a->call[a->n_calls++] = (cog_rule_call){ rule, to };
}

/* Cuts the bytes where some edge begins or ends. */
static void mark_edges(determiniser *d, const subset *s, bool begins[257])
{
    for (int32_t i = 0; i < s->n; i++) {
        int32_t member = d->members.id[s->first + i];
        for (int32_t e = d->nfa->first[member]; e >= 0; e = d->nfa->edge[e].next) {
            const cog_nfa_edge *edge = &d->nfa->edge[e];
            if (edge->kind == COG_NFA_BYTE)
                begins[edge->lo] = begins[edge->hi + 1] = true;
        }
    }
}

static void collect_targets(determiniser *d, const subset *s, const uint8_t end[256])
{
    for (int32_t i = 0; i < s->n; i++) {
        int32_t member = d->members.id[s->first + i];
        for (int32_t e = d->nfa->first[member]; e >= 0; e = d->nfa->edge[e].next) {
            const cog_nfa_edge *edge = &d->nfa->edge[e];
            if (edge->kind != COG_NFA_BYTE)
                continue;
            for (int b = edge->lo; b <= edge->hi; b = end[b] + 1)
                push(&d->target[b], edge->to);
        }
    }
}

static void expand_bytes(determiniser *d, int32_t state, int32_t first_of_rule)
{
    bool begins[257] = { [0] = true };
    subset s = d->subset[state];
    uint8_t end[256];

    mark_edges(d, &s, begins);
    for (int b = 255, last = 255; b >= 0; b--) {
        end[b] = (uint8_t)last;
        if (begins[b])
            last = b - 1;
    }
    collect_targets(d, &s, end);
    for (int b = 0; b < 256; b = end[b] + 1) {
        int32_t to = -1;
        if (d->target[b].n > 0 && !d->has_failed)
            to = state_of(d, d->target[b].id, d->target[b].n, first_of_rule);
        if (to >= 0)
            add_arc(d, state, (uint8_t)b, end[b], to);
        d->target[b].n = 0;
    }
}

static int by_rule(const void *a, const void *b)
{
    const cog_rule_call *x = a, *y = b;

    return x->rule != y->rule ? (x->rule < y->rule ? -1 : 1) : by_value(&x->to, &y->to);
}

static void expand_calls(determiniser *d, int32_t state, int32_t first_of_rule)
{
    subset s = d->subset[state];
    cog_rule_call *calls = NULL;
    int32_t n = 0, *to;

    for (int32_t i = 0; i < s.n; i++) {
        int32_t member = d->members.id[s.first + i];
        for (int32_t e = d->nfa->first[member]; e >= 0; e = d->nfa->edge[e].next)
            if (d->nfa->edge[e].kind == COG_NFA_CALL) {
                if ((n & (n - 1)) == 0)
                    calls = cog_realloc(calls, n ? 2 * (size_t)n : 1, sizeof(*calls));
                calls[n++] = (cog_rule_call){ d->nfa->edge[e].rule, d->nfa->edge[e].to };
            }
    }
    if (n == 0)
        return;
    qsort(calls, (size_t)n, sizeof(*calls), by_rule);
    to = cog_array(int32_t, (size_t)n);
    for (int32_t i = 0, end; i < n && !d->has_failed; i = end) {
        int32_t made;
        for (end = i; end < n && calls[end].rule == calls[i].rule; end++)
            to[end - i] = calls[end].to;
        made = state_of(d, to, end - i, first_of_rule);
        if (made >= 0)
            add_call(d, state, calls[i].rule, made);
    }
    cog_free(to);
    cog_free(calls);
}

static void expand(determiniser *d, int32_t state, int32_t first_of_rule)
{
    const subset *s = &d->subset[state];

    if (d->members.id[s->first] == 0)
        d->a->state[state].is_final = true;
    expand_bytes(d, state, first_of_rule);
    if (!d->has_failed)
        expand_calls(d, state, first_of_rule);
}

static void expand_rule(determiniser *d, int rule)
{
    cog_automaton *a = d->a;
    int32_t first = a->n;

    clear_table(d, 1024);
    a->start[rule] = state_of(d, &d->nfa->start[rule], 1, first);
    for (int32_t s = first; s < a->n && !d->has_failed; s++) {
        if ((s - first) % PATIENCE == 0 && cog_nfa_cpu_ns() > d->deadline_ns)
            d->has_failed = true;
        expand(d, s, first);
    }
}

/* ------------------------------------------------------------------ rules that come back */

/* Marks what a rule calls, directly or not, from what each calls directly. */
static void mark_called(const cog_automaton *a, const bool *calls, int rule, bool *is_called)
{
    for (int r = 0; r < a->n_rules; r++) {
        if (!calls[rule * a->n_rules + r] || is_called[r])
            continue;
        is_called[r] = true;
        mark_called(a, calls, r, is_called);
    }
}

static void weigh_rules(cog_automaton *a, const int32_t *end)
{
    bool *calls = cog_array(bool, (size_t)a->n_rules *(size_t)a->n_rules + 1);
    bool *is_called = cog_array(bool, (size_t)a->n_rules + 1);

    for (int r = 0; r < a->n_rules; r++)
        for (int32_t s = r == 0 ? 0 : end[r - 1]; s < end[r]; s++)
            for (int32_t i = 0; i < a->state[s].n_calls; i++)
                calls[r * a->n_rules + a->call[a->state[s].first_call + i].rule] = true;
    for (int r = 0; r < a->n_rules; r++) {
        memset(is_called, 0, (size_t)a->n_rules);
        mark_called(a, calls, r, is_called);
        a->weight[r] = is_called[r];
    }
    cog_free(calls);
    cog_free(is_called);
}

/* ------------------------------------------------------------------ what can come to an end */

static int need_of(const cog_automaton *a, const cog_automaton_state *s)
{
    int need = s->is_final ? 0 : COG_AUTOMATON_NEVER;

    for (int32_t i = 0; i < s->n_arcs; i++) {
        int n = a->state[a->arc[s->first_arc + i].to].need;
        need = n < need ? n : need;
    }
    for (int32_t i = 0; i < s->n_calls; i++) {
        cog_rule_call c = a->call[s->first_call + i];
        int start = a->start[c.rule], n = start < 0 ? COG_AUTOMATON_NEVER : a->state[start].need;
        n = n == COG_AUTOMATON_NEVER ? n : n + a->weight[c.rule];
        n = n > a->state[c.to].need ? n : a->state[c.to].need;
        need = n < need ? n : need;
    }
    return need > a->max_depth ? COG_AUTOMATON_NEVER : need;
}

/* The least solution, from above: needs only fall, and states follow mostly later ones. False when
 * the time is up. */
static bool find_needs(cog_automaton *a, uint64_t deadline_ns)
{
    for (bool has_changed = true; has_changed;) {
        if (cog_nfa_cpu_ns() > deadline_ns)
            return false;
        has_changed = false;
        for (int32_t i = a->n - 1; i >= 0; i--) {
            int need = need_of(a, &a->state[i]);
            has_changed |= need != a->state[i].need;
            a->state[i].need = (uint8_t)need;
        }
    }
    return true;
}

void cog_automaton_find_classes(cog_automaton *a)
{
    bool begins[257] = { false };

    for (int32_t i = 0; i < a->n_arcs; i++)
        begins[a->arc[i].lo] = begins[a->arc[i].hi + 1] = true;
    for (int b = 0; b < 256; b++) {
        a->n_classes += b > 0 && begins[b];
        a->class_of[b] = (uint8_t)a->n_classes;
    }
    a->n_classes++;
}

/* ------------------------------------------------------------------ the whole */

static void determiniser_fini(determiniser *d)
{
    cog_free(d->members.id);
    cog_free(d->subset);
    cog_free(d->table);
    cog_free(d->found.id);
    cog_free(d->mark);
    for (int b = 0; b < 256; b++)
        cog_free(d->target[b].id);
    cog_free(d);
}

int cog_automaton_init(cog_automaton *out, const cog_nfa *nfa, int max_depth, uint64_t deadline_ns,
                       cog_err *err)
{
    determiniser *d = cog_new(determiniser);
    int32_t *end = cog_array(int32_t, (size_t)nfa->n_rules + 1);
    bool has_failed;

    *out = (cog_automaton){ .n_rules = nfa->n_rules, .max_depth = max_depth };
    out->start = cog_array(int32_t, (size_t)nfa->n_rules + 1);
    out->weight = cog_array(uint8_t, (size_t)nfa->n_rules + 1);
    d->a = out;
    d->nfa = nfa;
    d->deadline_ns = deadline_ns;
    d->mark = cog_array(int32_t, (size_t)nfa->n);
    for (int r = 0; r <= nfa->n_rules && !d->has_failed; r++) {
        expand_rule(d, r);
        end[r] = out->n;
    }
    has_failed = d->has_failed;
    if (!has_failed) {
        weigh_rules(out, end);
        has_failed = !find_needs(out, deadline_ns);
        cog_automaton_find_classes(out);
    }
    determiniser_fini(d);
    cog_free(end);
    if (has_failed)
        return cog_err_set(err, COG_ELIMIT, "it needs more than %d states or too long to compile",
                           COG_AUTOMATON_MAX);
    if (out->start[out->n_rules] < 0 ||
        out->state[out->start[out->n_rules]].need == COG_AUTOMATON_NEVER)
        return cog_err_set(err, COG_EINVAL, "no text satisfies it");
    return 0;
}

void cog_automaton_fini(cog_automaton *a)
{
    cog_free(a->state);
    cog_free(a->arc);
    cog_free(a->call);
    cog_free(a->start);
    cog_free(a->weight);
    *a = (cog_automaton){ 0 };
}

size_t cog_automaton_bytes(const cog_automaton *a)
{
    return (size_t)a->cap * sizeof(*a->state) + (size_t)a->cap_arcs * sizeof(*a->arc) +
           (size_t)a->cap_calls * sizeof(*a->call) + (size_t)a->n_rules * 5 + sizeof(*a);
}

int32_t cog_automaton_step(const cog_automaton *a, int32_t state, uint8_t byte)
{
    const cog_automaton_state *s = &a->state[state];
    int32_t lo = 0, hi = s->n_arcs;

    while (lo < hi) {
        int32_t mid = (lo + hi) / 2;
        const cog_arc *arc = &a->arc[s->first_arc + mid];
        if (byte < arc->lo)
            hi = mid;
        else if (byte > arc->hi)
            lo = mid + 1;
        else
            return arc->to;
    }
    return -1;
}
