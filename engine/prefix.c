#include "engine/prefix.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

/* ------------------------------------------------------------------ names */

static const char ROOT_TAG[] = "cogwheel kv root", PAGE_TAG[] = "cogwheel kv page";

void cog_prefix_chain_init(cog_prefix_chain *c, const int32_t *tokens, int max_tokens, int block,
                           const cog_sha256 *salt, int n_visual, const cog_sha256 *picture)
{
    const cog_span root[] = { { ROOT_TAG, sizeof(ROOT_TAG) }, { salt, sizeof(*salt) } };

    *c = (cog_prefix_chain){
        .tokens = tokens, .block = block, .n_visual = n_visual, .max = max_tokens / block
    };
    if (n_visual > 0)
        c->picture = *picture;
    c->name = cog_array(cog_sha256, (size_t)c->max + 1);
    c->name[0] = cog_sha256_of(root, 2);
}

void cog_prefix_chain_fini(cog_prefix_chain *c)
{
    cog_free(c->name);
    *c = (cog_prefix_chain){ 0 };
}

void cog_prefix_chain_copy(cog_prefix_chain *dst, const cog_prefix_chain *src, int n_full)
{
    int n = src->n < n_full ? src->n : n_full;

    if (!dst->name || !src->name || n <= dst->n)
        return;
    assert(n <= dst->max);
    memcpy(dst->name, src->name, ((size_t)n + 1) * sizeof(*dst->name));
    dst->n = n;
}

/* Of the first n slots of page i. Every field has a fixed length but the tokens, whose number is
 * hashed before them, and the picture, which comes last and whose presence is, too. */
static cog_sha256 name_of(const cog_prefix_chain *c, int i, int n)
{
    const int32_t head[2] = { n, i * c->block < c->n_visual };
    const cog_span spans[] = {
        { PAGE_TAG, sizeof(PAGE_TAG) },
        { head, sizeof(head) },
        { &c->name[i], sizeof(c->name[i]) },
        { c->tokens + (size_t)i * (size_t)c->block, (size_t)n * sizeof(int32_t) },
        { &c->picture, sizeof(c->picture) },
    };

    return cog_sha256_of(spans, head[1] ? 5 : 4);
}

const cog_sha256 *cog_prefix_full(cog_prefix_chain *c, int i)
{
    assert(i < c->max);
    for (; c->n <= i; c->n++)
        c->name[c->n + 1] = name_of(c, c->n, c->block);
    return &c->name[i + 1];
}

const cog_sha256 *cog_prefix_partial(cog_prefix_chain *c)
{
    int at = c->n_visual / c->block, n = c->n_visual % c->block;

    assert(n > 0);
    if (!c->has_partial) {
        if (at > 0)
            (void)cog_prefix_full(c, at - 1);
        c->partial = name_of(c, at, n);
        c->has_partial = true;
    }
    return &c->partial;
}

/* ------------------------------------------------------------------ index */

void cog_prefix_init(cog_prefix *x, int n_pages)
{
    size_t n_entries = 2 * (size_t)n_pages, n_buckets = 1;

    *x = (cog_prefix){ .n_pages = n_pages };
    if (n_pages == 0)
        return;
    while (n_buckets < n_entries)
        n_buckets *= 2;
    x->mask = (uint32_t)n_buckets - 1;
    x->bucket = cog_array(int32_t, n_buckets);
    x->next = cog_array(int32_t, n_entries);
    x->name = cog_array(cog_sha256, n_entries);
    x->kinds = cog_array(uint8_t, (size_t)n_pages);
    x->before = cog_array(int32_t, (size_t)n_pages);
}

void cog_prefix_fini(cog_prefix *x)
{
    cog_free(x->bucket);
    cog_free(x->next);
    cog_free(x->name);
    cog_free(x->kinds);
    cog_free(x->before);
    *x = (cog_prefix){ 0 };
}

static int32_t *bucket_of(const cog_prefix *x, const cog_sha256 *name)
{
    uint32_t h;

    memcpy(&h, name->byte, sizeof(h));
    return &x->bucket[h & x->mask];
}

static bool has(const cog_prefix *x, cog_prefix_kind kind, int32_t page)
{
    return x->kinds[page] & (1u << kind);
}

int32_t cog_prefix_find(const cog_prefix *x, cog_prefix_kind kind, const cog_sha256 *name)
{
    if (x->n_pages == 0)
        return -1;
    for (int32_t e = *bucket_of(x, name); e; e = x->next[e - 1])
        if (((e - 1) & 1) == (int32_t)kind && memcmp(&x->name[e - 1], name, sizeof(*name)) == 0)
            return (e - 1) / 2;
    return -1;
}

void cog_prefix_add(cog_prefix *x, cog_prefix_kind kind, const cog_sha256 *name, int32_t page,
                    int32_t before)
{
    int32_t *bucket = bucket_of(x, name), e = 2 * page + (int32_t)kind;

    assert(!has(x, kind, page) && cog_prefix_find(x, kind, name) < 0);
    assert(before < 0 || has(x, COG_PREFIX_FULL, before));
    assert(x->kinds[page] == 0 || x->before[page] == before);
    x->name[e] = *name;
    x->next[e] = *bucket;
    *bucket = e + 1;
    x->kinds[page] |= (uint8_t)(1u << kind);
    x->before[page] = before;
    x->n_changes++;
}

static void unlink_entry(cog_prefix *x, int32_t e)
{
    int32_t *link = bucket_of(x, &x->name[e]);

    while (*link != e + 1)
        link = &x->next[*link - 1];
    *link = x->next[e];
}

void cog_prefix_forget(cog_prefix *x, int32_t page)
{
    if (x->n_pages == 0)
        return;
    for (int kind = COG_PREFIX_FULL; kind <= COG_PREFIX_PARTIAL; kind++)
        if (has(x, (cog_prefix_kind)kind, page))
            unlink_entry(x, 2 * page + kind);
    x->kinds[page] = 0;
    x->n_changes++;
}

bool cog_prefix_is_sound(const cog_prefix *x)
{
    int n_names = 0, n_linked = 0;

    for (int32_t page = 0; page < x->n_pages; page++) {
        for (int kind = COG_PREFIX_FULL; kind <= COG_PREFIX_PARTIAL; kind++) {
            if (!has(x, (cog_prefix_kind)kind, page))
                continue;
            n_names++;
            if (cog_prefix_find(x, (cog_prefix_kind)kind, &x->name[2 * page + kind]) != page)
                return false;
        }
        if (x->kinds[page] && x->before[page] >= 0 && !has(x, COG_PREFIX_FULL, x->before[page]))
            return false;
    }
    for (uint32_t b = 0; x->n_pages > 0 && b <= x->mask; b++)
        for (int32_t e = x->bucket[b]; e; e = x->next[e - 1])
            n_linked++;
    return n_linked == n_names;
}
