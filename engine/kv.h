/* kv.h - bookkeeping of the paged KV cache: page ids, reference counts, block tables, and which
 * pages are kept when nobody holds them. Never touches tensor memory.
 *
 * A page holds `block` KV slots of one sequence in all layers. Sequences that share a prefix share
 * its pages; before one of them writes into a shared page it gets a private copy (copy on write).
 *
 *     free     nobody holds it and it has no name
 *     used     held by tables, refs times
 *     cached   nobody holds it and it has a name (prefix.h): it can be found, and taken when no
 *              page is free, the one that was let go first first; those that are pinned after all
 *              others
 *
 * Who holds a page with a name holds the pages before it, too, and lets go of the last page first:
 * so prefixes outlive what follows them, and no page with a name is without the pages before it. Of
 * pages that continue one another, those before a pinned one are pinned, too.
 * Engine thread only. */
#ifndef COG_ENGINE_KV_H
#define COG_ENGINE_KV_H

#include "base/err.h"
#include "engine/prefix.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cog_kv {
    int block;    /* slots per page */
    int n_blocks; /* pages in the pool */
    int n_free;
    int32_t *free_list; /* [n_blocks], a stack; the first n_free entries are free pages */
    int32_t *refs;      /* [n_blocks], 0: free or cached */
    int n_cached;
    int n_pinned, max_pinned; /* of n_cached; half the pool at most */
    uint64_t *pin;            /* [n_blocks]: for whom a page with a name is pinned; 0: it is not */
    int32_t *older, *newer; /* [n_blocks + 2]: the ring of cached pages; n_blocks stands between the
                               newest and the oldest. n_blocks + 1: the same of pinned ones */
    cog_prefix index;
} cog_kv;

/* The pages of one sequence: block[i] holds slots [i * kv.block, (i + 1) * kv.block). */
typedef struct cog_block_table {
    int32_t *block; /* [max] */
    int n, max;
} cog_block_table;

void cog_kv_init(cog_kv *kv, int n_blocks, int block, bool keeps_prefixes);
void cog_kv_fini(cog_kv *kv);

/* Pages that n_slots slots take. */
int cog_kv_blocks_for(const cog_kv *kv, int n_slots);

/* Pages that can be had: free and cached. */
static inline int cog_kv_available(const cog_kv *kv)
{
    return kv->n_free + kv->n_cached;
}

void cog_block_table_init(cog_block_table *t, int max); /* room for max pages, none held */
void cog_block_table_fini(cog_block_table *t);          /* holds none any more */

/* Makes the table cover n_slots slots: all pages or none (COG_ENOMEM). Covering less than it does
 * is no change. */
int cog_kv_grow(cog_kv *kv, cog_block_table *t, int n_slots);

/* Lets go of the pages behind the first n_left, the last one first. */
void cog_kv_release(cog_kv *kv, cog_block_table *t, int n_left);

/* dst, which holds nothing, comes to hold the pages of src's first n_slots slots as well. */
void cog_kv_share(cog_kv *kv, cog_block_table *dst, const cog_block_table *src, int n_slots);

/* Before a write to `slot`: when its page is shared, puts a fresh page in its place and says what
 * to copy
 * (*src >= 0); otherwise *src = -1. COG_ENOMEM when no page can be had. The table covers slot. */
int cog_kv_own(cog_kv *kv, cog_block_table *t, int slot, int32_t *dst, int32_t *src);

/* The table's next page becomes this one, which has a full name that continues the table's. */
void cog_kv_hold(cog_kv *kv, cog_block_table *t, int32_t page);

/* Page i of the table has that name from now on; those before it have theirs. When another page has
 * it already: of the same contents twice, the table takes the one that is known (full), or leaves
 * things as they are (partial). */
void cog_kv_name(cog_kv *kv, cog_block_table *t, int i, cog_prefix_kind kind,
                 const cog_sha256 *name);

/* When cached, the page counts as let go just now. The pages before it are held. */
void cog_kv_touch(cog_kv *kv, int32_t page);

/* The page, if it has a name, is pinned for this number, which is not 0, and for no other. The
 * pages before it are held, and have been pinned. Of too many pinned pages that nobody holds, those
 * let go first are pinned no more. */
void cog_kv_pin(cog_kv *kv, int32_t page, uint64_t number);
/* No page is pinned for it any more. */
void cog_kv_unpin(cog_kv *kv, uint64_t number);

/* A page that is cached becomes free; others stay what they are. Cached pages that continue it are
 * to be forgotten, too, before anything else is done. */
void cog_kv_forget(cog_kv *kv, int32_t page);

/* Every invariant of the pool, for tests: counts agree, each page is in one state, names lead to
 * their pages, the page before a cached one is held or was let go later. */
bool cog_kv_is_sound(const cog_kv *kv);

#endif
