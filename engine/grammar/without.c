#include "engine/grammar/without.h"

#include "base/alloc.h"

#include <stdbool.h>

/* A beginning of some words; 0 is the empty one. */
typedef struct node {
    int32_t next[256]; /* the longest end of this and a byte that is such a beginning */
    int32_t fail;      /* the longest end of this that is one */
    bool has_word;     /* ends with a word */
} node;

typedef struct tree {
    node *node;
    int32_t n;
    int32_t *order; /* [n] shorter ones first */
} tree;

static void add_word(tree *t, const cog_without_word *w)
{
    int32_t at = 0;

    for (size_t i = 0; i < w->len; i++) {
        int32_t *next = &t->node[at].next[(unsigned char)w->bytes[i]];
        if (!*next)
            *next = t->n++;
        at = *next;
    }
    t->node[at].has_word = true;
}

/* Ways that leave the words go on where the longest end does, which is shorter. */
static void connect(tree *t)
{
    int32_t n_ordered = 1;

    for (int32_t i = 0; i < n_ordered; i++) {
        int32_t at = t->order[i];
        node *p = &t->node[at];

        p->has_word |= t->node[p->fail].has_word;
        for (int b = 0; b < 256; b++) {
            int32_t by_fail = at ? t->node[p->fail].next[b] : 0;

            if (!p->next[b]) {
                p->next[b] = by_fail;
            } else {
                t->node[p->next[b]].fail = by_fail;
                t->order[n_ordered++] = p->next[b];
            }
        }
    }
}

static void add_arc(cog_automaton *a, cog_automaton_state *s, uint8_t byte, int32_t to)
{
    cog_arc *last = s->n_arcs ? &a->arc[a->n_arcs - 1] : NULL;

    if (last && last->to == to && last->hi + 1 == byte) {
        last->hi = byte;
        return;
    }
    if (a->n_arcs == a->cap_arcs) {
        a->cap_arcs = 2 * a->cap_arcs + 64;
        a->arc = cog_realloc(a->arc, (size_t)a->cap_arcs, sizeof(cog_arc));
    }
    a->arc[a->n_arcs++] = (cog_arc){ .lo = byte, .hi = byte, .to = to };
    s->n_arcs++;
}

/* The nodes are the states; nothing leads to those that have a word. */
static void take_states(cog_automaton *a, const tree *t)
{
    a->n = a->cap = t->n;
    a->state = cog_array(cog_automaton_state, (size_t)t->n);
    for (int32_t i = 0; i < t->n; i++) {
        a->state[i] = (cog_automaton_state){ .first_arc = a->n_arcs, .is_final = true };
        for (int b = 0; b < 256 && !t->node[i].has_word; b++) {
            int32_t to = t->node[i].next[b];
            if (!t->node[to].has_word)
                add_arc(a, &a->state[i], (uint8_t)b, to);
        }
    }
}

void cog_without_init(cog_automaton *out, const cog_without_word *word, int n)
{
    tree t = { .n = 1 };
    size_t max = 1;

    for (int i = 0; i < n; i++)
        max += word[i].len;
    t.node = cog_array(node, max);
    t.order = cog_array(int32_t, max);
    for (int i = 0; i < n; i++)
        add_word(&t, &word[i]);
    connect(&t);
    *out = (cog_automaton){ .start = cog_array(int32_t, 1), .weight = cog_array(uint8_t, 1) };
    take_states(out, &t);
    cog_automaton_find_classes(out);
    cog_free(t.node);
    cog_free(t.order);
}
