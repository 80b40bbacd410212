#include "engine/grammar/trie.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_PIECE = 65535 };

typedef struct entry {
    const char *bytes;
    size_t len;
    int32_t token;
} entry;

static int by_bytes(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->bytes, y->bytes, n);

    if (order)
        return order;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

static size_t common(const entry *x, const entry *y)
{
    size_t i = 0;

    while (i < x->len && i < y->len && x->bytes[i] == y->bytes[i])
        i++;
    return i;
}

static void reserve(cog_trie *t, size_t nodes, size_t tokens)
{
    t->byte = cog_array(uint8_t, nodes + 1);
    t->depth = cog_array(uint16_t, nodes + 1);
    t->end = cog_array(int32_t, nodes + 1);
    t->first = cog_array(int32_t, nodes + 2);
    t->token = cog_array(int32_t, tokens + 1);
}

/* Entries in ascending order make the nodes in theirs. */
static void fill(cog_trie *t, const entry *e, size_t n)
{
    int32_t *open = cog_array(int32_t, MAX_PIECE + 1); /* the nodes above, by depth */
    size_t depth = 0;

    for (size_t i = 0; i < n; i++) {
        size_t shared = i > 0 ? common(&e[i - 1], &e[i]) : 0;

        while (depth > shared)
            t->end[open[depth--]] = t->n;
        while (depth < e[i].len) {
            t->byte[t->n] = (uint8_t)e[i].bytes[depth];
            t->first[t->n] = (int32_t)i;
            open[++depth] = t->n;
            t->depth[t->n++] = (uint16_t)depth;
        }
        t->token[i] = e[i].token;
        t->max_depth = (int)depth > t->max_depth ? (int)depth : t->max_depth;
    }
    while (depth > 0)
        t->end[open[depth--]] = t->n;
    t->first[t->n] = (int32_t)n;
    cog_free(open);
}

static bool has_all_bytes(const cog_trie *t)
{
    int found = 0;

    for (int i = 0; i < t->n; i = t->end[i])
        found += t->first[i] < t->first[i + 1] && t->depth[i] == 1;
    return found == 256;
}

cog_trie *cog_trie_new(cog_trie_piece piece, const void *arg, int vocab, const int32_t *eos,
                       int n_eos)
{
    cog_trie *t = cog_new(cog_trie);
    entry *e = cog_array(entry, (size_t)vocab + 1);
    size_t n = 0, bytes = 0;

    for (int32_t token = 0; token < vocab; token++) {
        size_t len;
        const char *text = piece(arg, token, &len);

        if (len == 0 || len > MAX_PIECE)
            continue;
        e[n++] = (entry){ text, len, token };
        bytes += len;
    }
    qsort(e, n, sizeof(*e), by_bytes);
    reserve(t, bytes, n);
    fill(t, e, n);
    cog_free(e);
    t->vocab = vocab;
    t->n_eos = n_eos;
    t->eos = cog_array(int32_t, (size_t)n_eos + 1);
    memcpy(t->eos, eos, (size_t)n_eos * sizeof(int32_t));
    t->has_bytes = has_all_bytes(t);
    return t;
}

void cog_trie_free(cog_trie *t)
{
    if (!t)
        return;
    cog_free(t->byte);
    cog_free(t->depth);
    cog_free(t->end);
    cog_free(t->first);
    cog_free(t->token);
    cog_free(t->eos);
    cog_free(t);
}
