#include "engine/constraint.h"

#include "base/alloc.h"

#include <assert.h>

enum { MAX_UNUSED = 8 };

typedef struct entry {
    struct entry *next;   /* used later */
    cog_grammar *grammar; /* the matcher's */
    cog_matcher *matcher;
    int n_users;
} entry;

struct cog_constraints {
    const cog_trie *trie;
    const cog_tokenizer *tokenizer;
    entry *list; /* the one that was taken last comes last */
};

cog_constraints *cog_constraints_new(const cog_trie *trie, const cog_tokenizer *tokenizer)
{
    cog_constraints *c = cog_new(cog_constraints);

    c->trie = trie;
    c->tokenizer = tokenizer;
    return c;
}

/* Takes *place out of the list. */
static entry *unlink_at(entry **place)
{
    entry *x = *place;

    *place = x->next;
    x->next = NULL;
    return x;
}

static void drop(entry **place)
{
    entry *x = unlink_at(place);

    assert(x->n_users == 0);
    cog_matcher_free(x->matcher);
    cog_free(x);
}

void cog_constraints_free(cog_constraints *c)
{
    while (c && c->list)
        drop(&c->list);
    cog_free(c);
}

cog_matcher *cog_constraints_take(cog_constraints *c, cog_grammar *g)
{
    entry **place = &c->list, *x;

    while (*place && (*place)->grammar != g)
        place = &(*place)->next;
    if (*place) {
        x = unlink_at(place);
    } else {
        x = cog_new(entry);
        x->grammar = g;
        x->matcher = cog_matcher_new(g, c->trie);
    }
    x->n_users++;
    for (place = &c->list; *place;)
        place = &(*place)->next;
    *place = x;
    return x->matcher;
}

static int count_unused(const cog_constraints *c)
{
    int n = 0;

    for (const entry *x = c->list; x; x = x->next)
        n += x->n_users == 0;
    return n;
}

void cog_constraints_give(cog_constraints *c, cog_matcher *m)
{
    entry **place = &c->list;

    if (!m)
        return;
    while ((*place)->matcher != m)
        place = &(*place)->next;
    (*place)->n_users--;
    if (count_unused(c) <= MAX_UNUSED)
        return;
    for (place = &c->list; (*place)->n_users > 0;)
        place = &(*place)->next;
    drop(place);
}

void cog_constraints_tidy(cog_constraints *c)
{
    for (entry *x = c->list; x; x = x->next)
        cog_matcher_tidy(x->matcher);
}

static void read_token(cog_constraint *s, cog_constraints *c, cog_matcher *m, int32_t token)
{
    size_t len;
    const char *bytes = cog_tokenizer_piece(c->tokenizer, token, &len);

    s->n_read++;
    if (len == 0)
        return;
    if (!s->has_text && bytes[0] == ' ') { /* as the detokenizer does */
        bytes++;
        len--;
    }
    s->has_text = true;
    s->place = cog_matcher_text(m, s->place, bytes, len);
}

int cog_constraint_mask(const uint64_t **mask, cog_constraint *s, cog_constraints *c,
                        cog_matcher *m, const int32_t *output, int n_output)
{
    if (s->epoch != cog_matcher_epoch(m))
        *s = (cog_constraint){ .epoch = cog_matcher_epoch(m),
                               .place = cog_matcher_start(m),
                               .has_text = s->continues,
                               .continues = s->continues };
    while (s->n_read < n_output && s->place >= 0)
        read_token(s, c, m, output[s->n_read]);
    if (s->place < 0)
        return s->place == COG_MATCHER_NOWHERE ? COG_EDEVICE : COG_ELIMIT;
    *mask = cog_matcher_mask(m, s->place, !s->has_text);
    return *mask ? 0 : COG_ELIMIT;
}

bool cog_constraint_has_other(const uint64_t *mask, int vocab, const int32_t *token, int n)
{
    for (int i = 0; i < (vocab + 63) / 64; i++) {
        uint64_t left = mask[i];

        for (int k = 0; k < n; k++)
            if (token[k] / 64 == i)
                left &= ~(UINT64_C(1) << (token[k] % 64));
        if (left)
            return true;
    }
    return false;
}
