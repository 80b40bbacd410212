/* prefix.h - which page holds the keys and values of which tokens: names for pages, and an index
 * from names to pages. Pure logic on plain data; engine thread only.
 *
 * A page is named by all that its contents depend on, in a chain:
 *
 *     root        SHA-256(tag, salt)
 *     full page   SHA-256(tag, name of the page before, its tokens, the picture if it covers one)
 *     partial     the same over the first slots only, of the page in which a picture's prefix (BOS
 *                 and the picture's tokens) ends
 *
 * Salts differ, so names differ: requests of different salts never meet. SHA-256, because clients
 * choose what is hashed. */
#ifndef COG_ENGINE_PREFIX_H
#define COG_ENGINE_PREFIX_H

#include "base/sha256.h"

#include <stdbool.h>
#include <stdint.h>

/* The names of one sequence's pages, made as they are asked for. */
typedef struct cog_prefix_chain {
    const int32_t *tokens; /* borrowed; those that were named never change */
    int block;             /* tokens of one page */
    int n_visual;          /* BOS and the picture's tokens; 0 without a picture */
    cog_sha256 picture;    /* its pixels' hash */
    cog_sha256 *name;      /* [1 + max]: the root, then the full pages', n of them made */
    int n, max;
    cog_sha256 partial; /* of the page in which the picture's prefix ends */
    bool has_partial;   /* it was made */
} cog_prefix_chain;

/* For sequences of up to max_tokens tokens. picture: NULL when n_visual is 0. */
void cog_prefix_chain_init(cog_prefix_chain *c, const int32_t *tokens, int max_tokens, int block,
                           const cog_sha256 *salt, int n_visual, const cog_sha256 *picture);
void cog_prefix_chain_fini(cog_prefix_chain *c); /* a zeroed one is fine */

/* dst, whose first n_full pages are to be those of src, need not make their names again. Without
 * effect when one of them is zeroed. */
void cog_prefix_chain_copy(cog_prefix_chain *dst, const cog_prefix_chain *src, int n_full);

/* Of the page of tokens [i * block, (i + 1) * block), which are known. Valid until fini. */
const cog_sha256 *cog_prefix_full(cog_prefix_chain *c, int i);
/* Of the first n_visual % block slots of page n_visual / block, where that is not 0. */
const cog_sha256 *cog_prefix_partial(cog_prefix_chain *c);

typedef enum cog_prefix_kind { COG_PREFIX_FULL, COG_PREFIX_PARTIAL } cog_prefix_kind;

/* A page has at most one name of each kind: its first slots end a picture's prefix, and later all
 * are taken. A name has one page. */
typedef struct cog_prefix {
    int n_pages;        /* 0: an index that keeps nothing */
    uint64_t n_changes; /* names added and pages forgotten, since the start */
    uint32_t mask;      /* buckets - 1 */
    int32_t *bucket;    /* [mask + 1], 1 + entry, 0: none; entry = 2 * page + kind */
    int32_t *next;      /* [2 * n_pages], in its bucket, as above */
    cog_sha256 *name;   /* [2 * n_pages] */
    uint8_t *kinds;     /* [n_pages], bit 1 << kind: the page has a name of this kind */
    int32_t *before; /* [n_pages], of a page with a name: the page before it in the chain, or -1 */
} cog_prefix;

void cog_prefix_init(cog_prefix *x, int n_pages);
void cog_prefix_fini(cog_prefix *x);

/* The page of that name, or -1. */
int32_t cog_prefix_find(const cog_prefix *x, cog_prefix_kind kind, const cog_sha256 *name);

/* Nobody has the name, and the page has none of this kind. before: the page in front of it, which
 * has a full name, or -1. */
void cog_prefix_add(cog_prefix *x, cog_prefix_kind kind, const cog_sha256 *name, int32_t page,
                    int32_t before);

/* The page loses its names. */
void cog_prefix_forget(cog_prefix *x, int32_t page);

static inline bool cog_prefix_knows(const cog_prefix *x, int32_t page)
{
    return x->n_pages > 0 && x->kinds[page] != 0;
}

/* For tests: every name is found and leads to its page, and the page before has a full name. */
bool cog_prefix_is_sound(const cog_prefix *x);

#endif
