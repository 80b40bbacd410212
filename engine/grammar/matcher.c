#include "engine/grammar/matcher.h"

#include "base/alloc.h"
#include "base/err.h"
#include "engine/grammar/boxes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_ITEMS = 512,      /* of one place */
    MAX_KEPT = 8 << 20,   /* bytes, before tidy drops them */
    MAX_FRESH = 64 << 20, /* bytes at any time */
    MAX_WORK = 30000000,  /* looks at items for one mask: some 50 ms */
    UNKNOWN = -3,
};

typedef struct item {
    int32_t state, frame;
} item;

/* Where a call goes on: a stack of these, shared. Frame 0 is the bottom. */
typedef struct frame {
    int32_t parent, back;
    int32_t room; /* depth that calls inside may take */
} frame;

typedef struct place {
    int32_t first, n; /* of items */
    bool may_end;
    int32_t *next;     /* [n_classes] places, or UNKNOWN; NULL: nothing is known */
    uint64_t *mask[2]; /* is_first; NULL: not known */
} place;

/* Open addressing by hash: indices + 1. */
typedef struct table {
    int32_t *slot;
    size_t cap, n;
} table;

struct cog_matcher {
    cog_grammar *grammar;
    const cog_automaton *a;
    const cog_trie *trie;
    uint32_t epoch;
    size_t kept; /* bytes */
    item *item;
    frame *frame;
    place *place;
    int32_t n_items, cap_items, n_frames, cap_frames, n_places, cap_places;
    table frames, places;
    item fresh[MAX_ITEMS]; /* a place in the making */
    int n_fresh;
    bool is_full;
    int64_t work;  /* of this call */
    int32_t *walk; /* [max_depth + 1] the places on the way down the trie */
};

/* ------------------------------------------------------------------ memory */

static void *grow(cog_matcher *m, void *array, int32_t *cap, int32_t n, size_t size)
{
    if (n < *cap)
        return array;
    m->kept += (size_t)(*cap + 64) * size;
    *cap = 2 * *cap + 64;
    return cog_realloc(array, (size_t)*cap, size);
}

static void table_init(table *t)
{
    t->cap = 256;
    t->n = 0;
    t->slot = cog_array(int32_t, t->cap);
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 32;
}

static uint64_t hash_frame(const frame *f)
{
    return mix(mix(17, (uint32_t)f->parent), (uint64_t)(uint32_t)f->back << 8 | (uint32_t)f->room);
}

static uint64_t hash_items(const item *it, int n, bool may_end)
{
    uint64_t h = may_end;

    for (int i = 0; i < n; i++)
        h = mix(h, (uint64_t)(uint32_t)it[i].state << 32 | (uint32_t)it[i].frame);
    return h;
}

static void clear(cog_matcher *m)
{
    for (int32_t i = 0; i < m->n_places; i++) {
        cog_free(m->place[i].next);
        cog_free(m->place[i].mask[0]);
        cog_free(m->place[i].mask[1]);
    }
    cog_free(m->item);
    cog_free(m->frame);
    cog_free(m->place);
    cog_free(m->frames.slot);
    cog_free(m->places.slot);
    m->item = NULL;
    m->frame = NULL;
    m->place = NULL;
    m->n_items = m->cap_items = m->n_frames = m->cap_frames = m->n_places = m->cap_places = 0;
    m->kept = 0;
}

static void begin(cog_matcher *m)
{
    table_init(&m->frames);
    table_init(&m->places);
    m->frame = grow(m, m->frame, &m->cap_frames, 0, sizeof(frame));
    m->frame[m->n_frames++] = (frame){ .parent = -1, .back = -1, .room = m->a->max_depth };
    m->epoch++;
}

cog_matcher *cog_matcher_new(cog_grammar *g, const cog_trie *t)
{
    cog_matcher *m = cog_new(cog_matcher);

    m->grammar = cog_grammar_ref(g);
    m->a = &g->automaton;
    m->trie = t;
    m->walk = cog_array(int32_t, (size_t)t->max_depth + 1);
    begin(m);
    return m;
}

void cog_matcher_free(cog_matcher *m)
{
    if (!m)
        return;
    clear(m);
    cog_free(m->walk);
    cog_grammar_free(m->grammar);
    cog_free(m);
}

void cog_matcher_tidy(cog_matcher *m)
{
    if (m->kept <= MAX_KEPT)
        return;
    clear(m);
    begin(m);
}

uint32_t cog_matcher_epoch(const cog_matcher *m)
{
    return m->epoch;
}

/* ------------------------------------------------------------------ frames */

static void frames_grow(cog_matcher *m)
{
    table *t = &m->frames;

    cog_free(t->slot);
    t->cap *= 2;
    t->slot = cog_array(int32_t, t->cap);
    for (int32_t i = 1; i < m->n_frames; i++) {
        size_t at = hash_frame(&m->frame[i]) & (t->cap - 1);
        while (t->slot[at])
            at = (at + 1) & (t->cap - 1);
        t->slot[at] = i + 1;
    }
}

static int32_t frame_of(cog_matcher *m, frame f)
{
    table *t = &m->frames;
    size_t at;

    if (2 * ++t->n > t->cap)
        frames_grow(m);
    at = hash_frame(&f) & (t->cap - 1);
    for (; t->slot[at]; at = (at + 1) & (t->cap - 1)) {
        const frame *g = &m->frame[t->slot[at] - 1];
        if (g->parent == f.parent && g->back == f.back && g->room == f.room) {
            t->n--;
            return t->slot[at] - 1;
        }
    }
    m->frame = grow(m, m->frame, &m->cap_frames, m->n_frames, sizeof(frame));
    m->frame[m->n_frames] = f;
    t->slot[at] = m->n_frames + 1;
    return m->n_frames++;
}

/* ------------------------------------------------------------------ places */

/* Adds a state, if its rule can come to an end from there. */
static void add(cog_matcher *m, int32_t state, int32_t at)
{
    if (!m->grammar->has_boxes && m->a->state[state].need > m->frame[at].room)
        return;
    m->work += m->n_fresh + 1;
    for (int i = 0; i < m->n_fresh; i++)
        if (m->fresh[i].state == state && m->fresh[i].frame == at)
            return;
    if (m->n_fresh == MAX_ITEMS) {
        m->is_full = true;
        return;
    }
    m->fresh[m->n_fresh++] = (item){ state, at };
}

static void add_calls(cog_matcher *m, item it)
{
    const cog_automaton_state *s = &m->a->state[it.state];

    for (int32_t i = 0; i < s->n_calls; i++) {
        cog_rule_call c = m->a->call[s->first_call + i];
        int32_t start = m->a->start[c.rule];
        int room = m->frame[it.frame].room;

        /* what comes after the call has the room that was there before it */
        if (start < 0 || m->a->state[c.to].need > room ||
            m->a->state[start].need > room - m->a->weight[c.rule])
            continue;
        add(m, start, frame_of(m, (frame){ it.frame, c.to, room - m->a->weight[c.rule] }));
    }
}

static int by_item(const void *a, const void *b)
{
    const item *x = a, *y = b;

    if (x->state != y->state)
        return x->state < y->state ? -1 : 1;
    return x->frame < y->frame ? -1 : x->frame > y->frame;
}

/* Adds what is reached without a byte, and drops what no byte leads on from. True when the text may
 * end here. */
static bool close_fresh(cog_matcher *m)
{
    bool may_end = false;
    int n = 0;

    if (m->grammar->has_boxes)
        return m->n_fresh > 0 && cog_boxes_may_end(m->fresh[0].state);
    for (int i = 0; i < m->n_fresh && !m->is_full; i++) {
        item it = m->fresh[i];

        add_calls(m, it);
        if (m->a->state[it.state].is_final) {
            if (it.frame == 0)
                may_end = true;
            else
                add(m, m->frame[it.frame].back, m->frame[it.frame].parent);
        }
    }
    for (int i = 0; i < m->n_fresh; i++)
        if (m->a->state[m->fresh[i].state].n_arcs > 0)
            m->fresh[n++] = m->fresh[i];
    m->n_fresh = n;
    qsort(m->fresh, (size_t)n, sizeof(item), by_item);
    return may_end;
}

static uint64_t hash_place(const cog_matcher *m, const place *p)
{
    return hash_items(m->item + p->first, p->n, p->may_end);
}

static void places_grow(cog_matcher *m)
{
    table *t = &m->places;

    cog_free(t->slot);
    t->cap *= 2;
    t->slot = cog_array(int32_t, t->cap);
    for (int32_t i = 0; i < m->n_places; i++) {
        size_t at = hash_place(m, &m->place[i]) & (t->cap - 1);
        while (t->slot[at])
            at = (at + 1) & (t->cap - 1);
        t->slot[at] = i + 1;
    }
}

static int32_t add_place(cog_matcher *m, bool may_end)
{
    while (m->n_items + m->n_fresh > m->cap_items)
        m->item = grow(m, m->item, &m->cap_items, m->cap_items, sizeof(item));
    if (m->n_fresh > 0)
        memcpy(m->item + m->n_items, m->fresh, (size_t)m->n_fresh * sizeof(item));
    m->place = grow(m, m->place, &m->cap_places, m->n_places, sizeof(place));
    m->place[m->n_places] = (place){ .first = m->n_items, .n = m->n_fresh, .may_end = may_end };
    m->n_items += m->n_fresh;
    return m->n_places++;
}

/* The place of the fresh items. */
static int32_t place_of_fresh(cog_matcher *m)
{
    bool may_end = close_fresh(m);
    table *t = &m->places;
    size_t at;

    if (m->is_full || m->kept > MAX_FRESH || m->work > MAX_WORK)
        return COG_ELIMIT;
    if (m->n_fresh == 0 && !may_end)
        return COG_MATCHER_NOWHERE;
    if (2 * ++t->n > t->cap)
        places_grow(m);
    at = hash_items(m->fresh, m->n_fresh, may_end) & (t->cap - 1);
    for (; t->slot[at]; at = (at + 1) & (t->cap - 1)) {
        const place *p = &m->place[t->slot[at] - 1];
        if (p->n == m->n_fresh && p->may_end == may_end &&
            (p->n == 0 || memcmp(m->item + p->first, m->fresh, (size_t)p->n * sizeof(item)) == 0)) {
            t->n--;
            return t->slot[at] - 1;
        }
    }
    t->slot[at] = m->n_places + 1;
    return add_place(m, may_end);
}

static void reset_fresh(cog_matcher *m)
{
    m->n_fresh = 0;
    m->is_full = false;
}

int32_t cog_matcher_start(cog_matcher *m)
{
    reset_fresh(m);
    m->work = 0;
    add(m, m->grammar->has_boxes ? COG_BOXES_START : m->a->start[m->a->n_rules], 0);
    return place_of_fresh(m);
}

static int32_t make_step(cog_matcher *m, int32_t from, uint8_t byte)
{
    int32_t n = m->place[from].n, first = m->place[from].first;

    reset_fresh(m);
    for (int32_t i = 0; i < n; i++) {
        item it = m->item[first + i];
        int32_t to = m->grammar->has_boxes ? cog_boxes_step(it.state, byte)
                                           : cog_automaton_step(m->a, it.state, byte);
        if (to >= 0)
            add(m, to, it.frame);
    }
    return place_of_fresh(m);
}

int32_t cog_matcher_step(cog_matcher *m, int32_t from, uint8_t byte)
{
    int class = m->a->class_of[byte];
    int32_t to;

    if (!m->place[from].next) {
        size_t bytes = (size_t)m->a->n_classes * sizeof(int32_t);
        m->place[from].next = cog_alloc(1, bytes);
        m->kept += bytes;
        for (int i = 0; i < m->a->n_classes; i++)
            m->place[from].next[i] = UNKNOWN;
    }
    to = m->place[from].next[class];
    if (to != UNKNOWN)
        return to;
    to = make_step(m, from, byte);
    if (to != COG_ELIMIT)
        m->place[from].next[class] = to;
    return to;
}

int32_t cog_matcher_text(cog_matcher *m, int32_t at, const char *bytes, size_t len)
{
    m->work = 0;
    for (size_t i = 0; i < len && at >= 0; i++)
        at = cog_matcher_step(m, at, (uint8_t)bytes[i]);
    return at;
}

bool cog_matcher_may_end(const cog_matcher *m, int32_t at)
{
    return m->place[at].may_end;
}

/* ------------------------------------------------------------------ masks */

static void set(uint64_t *mask, int32_t token)
{
    mask[token / 64] |= UINT64_C(1) << (token % 64);
}

/* Nodes stand before those below them, so one pass walks the tree; what leads nowhere is skipped
 * with all below. */
static int walk(cog_matcher *m, uint64_t *mask, int32_t from, bool is_first)
{
    const cog_trie *t = m->trie;

    m->walk[0] = from;
    for (int32_t i = 0; i < t->n;) {
        int depth = t->depth[i];
        int32_t to = from;

        if (depth > 1 || !is_first || t->byte[i] != ' ')
            to = cog_matcher_step(m, m->walk[depth - 1], t->byte[i]);
        if (to == COG_ELIMIT)
            return COG_ELIMIT;
        if (to < 0) {
            i = t->end[i];
            continue;
        }
        m->walk[depth] = to;
        for (int32_t k = t->first[i]; k < t->first[i + 1]; k++)
            set(mask, t->token[k]);
        i++;
    }
    return 0;
}

const uint64_t *cog_matcher_mask(cog_matcher *m, int32_t at, bool is_first)
{
    const cog_trie *t = m->trie;
    size_t words = ((size_t)t->vocab + 63) / 64;
    uint64_t *mask = m->place[at].mask[is_first];

    if (mask)
        return mask;
    mask = cog_array(uint64_t, words);
    m->work = 0;
    if (walk(m, mask, at, is_first) < 0) {
        cog_free(mask);
        return NULL;
    }
    for (int i = 0; i < t->n_eos && m->place[at].may_end; i++)
        set(mask, t->eos[i]);
    m->kept += words * sizeof(uint64_t);
    m->place[at].mask[is_first] = mask;
    return mask;
}
