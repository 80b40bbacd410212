#include "engine/kv.h"

#include "base/alloc.h"

#include <assert.h>

void cog_kv_init(cog_kv *kv, int n_blocks, int block)
{
    kv->block = block;
    kv->n_blocks = n_blocks;
    kv->n_free = n_blocks;
    kv->free_list = cog_array(int32_t, (size_t)n_blocks);
    kv->refs = cog_array(int32_t, (size_t)n_blocks);
    for (int i = 0; i < n_blocks; i++)
        kv->free_list[i] = n_blocks - 1 - i; /* page 0 is handed out first */
}

void cog_kv_fini(cog_kv *kv)
{
    cog_free(kv->free_list);
    cog_free(kv->refs);
    *kv = (cog_kv){ 0 };
}

int cog_kv_blocks_for(const cog_kv *kv, int n_slots)
{
    return (n_slots + kv->block - 1) / kv->block;
}

void cog_block_table_init(cog_block_table *t, int max)
{
    t->block = cog_array(int32_t, (size_t)max);
    t->n = 0;
    t->max = max;
}

void cog_block_table_fini(cog_block_table *t)
{
    assert(t->n == 0);
    cog_free(t->block);
    *t = (cog_block_table){ 0 };
}

static int32_t take(cog_kv *kv)
{
    int32_t id = kv->free_list[--kv->n_free];

    assert(kv->refs[id] == 0);
    kv->refs[id] = 1;
    return id;
}

static void unref(cog_kv *kv, int32_t id)
{
    assert(kv->refs[id] > 0);
    if (--kv->refs[id] == 0)
        kv->free_list[kv->n_free++] = id;
}

int cog_kv_grow(cog_kv *kv, cog_block_table *t, int n_slots)
{
    int want = cog_kv_blocks_for(kv, n_slots);

    assert(want <= t->max);
    if (want - t->n > kv->n_free)
        return COG_ENOMEM;
    while (t->n < want)
        t->block[t->n++] = take(kv);
    return 0;
}

void cog_kv_release(cog_kv *kv, cog_block_table *t)
{
    while (t->n > 0)
        unref(kv, t->block[--t->n]);
}

void cog_kv_share(cog_kv *kv, cog_block_table *dst, const cog_block_table *src, int n_slots)
{
    int n = cog_kv_blocks_for(kv, n_slots);

    assert(dst->n == 0 && n <= src->n && n <= dst->max);
    for (; dst->n < n; dst->n++) {
        dst->block[dst->n] = src->block[dst->n];
        kv->refs[dst->block[dst->n]]++;
    }
}

int cog_kv_own(cog_kv *kv, cog_block_table *t, int slot, int32_t *dst, int32_t *src)
{
    int at = slot / kv->block;
    int32_t shared;

    assert(at < t->n);
    shared = t->block[at];
    *src = -1;
    if (kv->refs[shared] == 1)
        return 0;
    if (kv->n_free == 0)
        return COG_ENOMEM;
    t->block[at] = take(kv);
    unref(kv, shared);
    *dst = t->block[at];
    *src = shared;
    return 0;
}

bool cog_kv_is_sound(const cog_kv *kv)
{
    int free_pages = 0;

    if (kv->n_free < 0 || kv->n_free > kv->n_blocks)
        return false;
    for (int i = 0; i < kv->n_blocks; i++) {
        if (kv->refs[i] < 0)
            return false;
        free_pages += kv->refs[i] == 0;
    }
    for (int i = 0; i < kv->n_free; i++)
        if (kv->refs[kv->free_list[i]] != 0)
            return false;
    return free_pages == kv->n_free;
}
