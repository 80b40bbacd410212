#include "server/grammars.h"

#include "base/alloc.h"

#include <pthread.h>
#include <string.h>

enum { MAX_KEPT = 32, MAX_BYTES = 32 << 20 };

typedef struct entry {
    cog_sha256 name;
    cog_grammar *grammar;
    size_t bytes;
} entry;

/* The one that was asked for last comes first. */
struct cog_grammars {
    pthread_mutex_t lock; /* held while entries move, never while one is compiled */
    entry kept[MAX_KEPT];
    int n;
    size_t bytes;
};

cog_grammars *cog_grammars_new(void)
{
    cog_grammars *g = cog_new(cog_grammars);

    pthread_mutex_init(&g->lock, NULL);
    return g;
}

void cog_grammars_free(cog_grammars *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->n; i++)
        cog_grammar_free(g->kept[i].grammar);
    pthread_mutex_destroy(&g->lock);
    cog_free(g);
}

static void to_front(cog_grammars *g, int at, entry e)
{
    memmove(&g->kept[1], &g->kept[0], (size_t)at * sizeof(entry));
    g->kept[0] = e;
}

static cog_grammar *find(cog_grammars *g, const cog_sha256 *name)
{
    for (int i = 0; i < g->n; i++) {
        if (memcmp(&g->kept[i].name, name, sizeof(*name)) == 0) {
            to_front(g, i, g->kept[i]);
            return cog_grammar_ref(g->kept[0].grammar);
        }
    }
    return NULL;
}

static void keep(cog_grammars *g, entry e)
{
    while (g->n > 0 && (g->n == MAX_KEPT || g->bytes + e.bytes > MAX_BYTES)) {
        const entry *last = &g->kept[--g->n];
        g->bytes -= last->bytes;
        cog_grammar_free(last->grammar);
    }
    if (e.bytes > MAX_BYTES)
        return;
    cog_grammar_ref(e.grammar);
    g->bytes += e.bytes;
    to_front(g, g->n++, e);
}

int cog_grammars_get(cog_grammar **out, cog_grammars *g, cog_grammar_kind kind, const char *text,
                     size_t len, cog_err *err)
{
    entry e = { .name = cog_sha256_of((const cog_span[]){ { &kind, sizeof(kind) }, { text, len } },
                                      2) };
    cog_grammar *known;
    int rc;

    pthread_mutex_lock(&g->lock);
    known = find(g, &e.name);
    pthread_mutex_unlock(&g->lock);
    if (known) {
        *out = known;
        return 0;
    }
    rc = cog_grammar_new(&e.grammar, kind, text, len, err);
    if (rc < 0)
        return rc;
    e.bytes = cog_grammar_bytes(e.grammar);
    pthread_mutex_lock(&g->lock);
    known = find(g, &e.name); /* somebody else was quicker: the engine is to see one of them only */
    if (!known)
        keep(g, e);
    pthread_mutex_unlock(&g->lock);
    if (known)
        cog_grammar_free(e.grammar);
    *out = known ? known : e.grammar;
    return 0;
}
