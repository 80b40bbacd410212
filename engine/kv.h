/* kv.h - bookkeeping of the paged KV cache: page ids, reference counts, block tables. Never touches
 * tensor memory.
 *
 * A page holds `block` KV slots of one sequence in all layers. Sequences that share a prefix share
 * its pages; before one of them writes into a shared page it gets a private copy (copy on write).
 * Engine thread only. */
#ifndef COG_ENGINE_KV_H
#define COG_ENGINE_KV_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cog_kv {
    int block;    /* slots per page */
    int n_blocks; /* pages in the pool */
    int n_free;
    int32_t *free_list; /* [n_blocks], a stack; the first n_free entries are free pages */
    int32_t *refs;      /* [n_blocks], 0: free */
} cog_kv;

/* The pages of one sequence: block[i] holds slots [i * kv.block, (i + 1) * kv.block). */
typedef struct cog_block_table {
    int32_t *block; /* [max] */
    int n, max;
} cog_block_table;

void cog_kv_init(cog_kv *kv, int n_blocks, int block);
void cog_kv_fini(cog_kv *kv);

/* Pages that n_slots slots take. */
int cog_kv_blocks_for(const cog_kv *kv, int n_slots);

void cog_block_table_init(cog_block_table *t, int max); /* room for max pages, none held */
void cog_block_table_fini(cog_block_table *t);          /* holds none any more */

/* Makes the table cover n_slots slots: all pages or none (COG_ENOMEM). Covering less than it does
 * is no change. */
int cog_kv_grow(cog_kv *kv, cog_block_table *t, int n_slots);

/* Gives every page of the table back (to the pool when nobody else holds it). */
void cog_kv_release(cog_kv *kv, cog_block_table *t);

/* dst, which holds nothing, comes to hold the pages of src's first n_slots slots as well. */
void cog_kv_share(cog_kv *kv, cog_block_table *dst, const cog_block_table *src, int n_slots);

/* Before a write to `slot`: when its page is shared, puts a fresh page in its place and says what
 * to copy
 * (*src >= 0); otherwise *src = -1. COG_ENOMEM when no page is free. The table covers slot. */
int cog_kv_own(cog_kv *kv, cog_block_table *t, int slot, int32_t *dst, int32_t *src);

/* Every invariant of the pool, for tests: counts agree, no page is both free and held. */
bool cog_kv_is_sound(const cog_kv *kv);

#endif
