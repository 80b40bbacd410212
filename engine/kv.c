#include "engine/kv.h"

#include "base/alloc.h"

#include <assert.h>

void cog_kv_init(cog_kv *kv, int n_blocks, int block, bool keeps_prefixes)
{
    *kv = (cog_kv){ .block = block, .n_blocks = n_blocks, .n_free = n_blocks };
    kv->free_list = cog_array(int32_t, (size_t)n_blocks);
    kv->refs = cog_array(int32_t, (size_t)n_blocks);
    kv->max_pinned = n_blocks / 2;
    kv->pin = cog_array(uint64_t, (size_t)n_blocks);
    kv->older = cog_array(int32_t, (size_t)n_blocks + 2);
    kv->newer = cog_array(int32_t, (size_t)n_blocks + 2);
    for (int head = n_blocks; head < n_blocks + 2; head++)
        kv->older[head] = kv->newer[head] = head;
    cog_prefix_init(&kv->index, keeps_prefixes ? n_blocks : 0);
    for (int i = 0; i < n_blocks; i++)
        kv->free_list[i] = n_blocks - 1 - i; /* page 0 is handed out first */
}

void cog_kv_fini(cog_kv *kv)
{
    cog_free(kv->free_list);
    cog_free(kv->refs);
    cog_free(kv->pin);
    cog_free(kv->older);
    cog_free(kv->newer);
    cog_prefix_fini(&kv->index);
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

static void link_newest(cog_kv *kv, int32_t id)
{
    int32_t head = kv->n_blocks + (kv->pin[id] != 0);

    kv->older[id] = kv->older[head];
    kv->newer[id] = head;
    kv->newer[kv->older[head]] = id;
    kv->older[head] = id;
    kv->n_cached++;
    kv->n_pinned += kv->pin[id] != 0;
}

static void unlink_cached(cog_kv *kv, int32_t id)
{
    kv->newer[kv->older[id]] = kv->newer[id];
    kv->older[kv->newer[id]] = kv->older[id];
    kv->n_cached--;
    kv->n_pinned -= kv->pin[id] != 0;
}

/* A pinned page that nobody holds becomes like the others, the newest of them: it was let go after
 * all that continues it. */
static void demote(cog_kv *kv, int32_t id)
{
    unlink_cached(kv, id);
    kv->pin[id] = 0;
    link_newest(kv, id);
}

static void push_newest(cog_kv *kv, int32_t id)
{
    link_newest(kv, id);
    if (kv->n_pinned > kv->max_pinned)
        demote(kv, kv->newer[kv->n_blocks + 1]);
}

static int32_t take(cog_kv *kv)
{
    int32_t id;

    if (kv->n_free > 0) {
        id = kv->free_list[--kv->n_free];
    } else {
        id = kv->newer[kv->n_blocks]; /* the oldest */
        if (id == kv->n_blocks)
            id = kv->newer[kv->n_blocks + 1];
        unlink_cached(kv, id);
        kv->pin[id] = 0;
        cog_prefix_forget(&kv->index, id);
    }
    assert(kv->refs[id] == 0);
    kv->refs[id] = 1;
    return id;
}

static void ref(cog_kv *kv, int32_t id)
{
    if (kv->refs[id]++ == 0)
        unlink_cached(kv, id);
}

static void unref(cog_kv *kv, int32_t id)
{
    assert(kv->refs[id] > 0);
    if (--kv->refs[id] > 0)
        return;
    if (cog_prefix_knows(&kv->index, id))
        push_newest(kv, id);
    else
        kv->free_list[kv->n_free++] = id;
}

int cog_kv_grow(cog_kv *kv, cog_block_table *t, int n_slots)
{
    int want = cog_kv_blocks_for(kv, n_slots);

    assert(want <= t->max);
    if (want - t->n > cog_kv_available(kv))
        return COG_ENOMEM;
    while (t->n < want)
        t->block[t->n++] = take(kv);
    return 0;
}

void cog_kv_release(cog_kv *kv, cog_block_table *t, int n_left)
{
    while (t->n > n_left)
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
    if (cog_kv_available(kv) == 0)
        return COG_ENOMEM;
    t->block[at] = take(kv);
    unref(kv, shared);
    *dst = t->block[at];
    *src = shared;
    return 0;
}

void cog_kv_hold(cog_kv *kv, cog_block_table *t, int32_t page)
{
    assert(t->n < t->max);
    ref(kv, page);
    t->block[t->n++] = page;
}

void cog_kv_name(cog_kv *kv, cog_block_table *t, int i, cog_prefix_kind kind,
                 const cog_sha256 *name)
{
    int32_t mine = t->block[i], known = cog_prefix_find(&kv->index, kind, name);

    assert(i < t->n && kv->refs[mine] > 0);
    if (known < 0) {
        cog_prefix_add(&kv->index, kind, name, mine, i > 0 ? t->block[i - 1] : -1);
    } else if (kind == COG_PREFIX_FULL && known != mine) {
        ref(kv, known);
        t->block[i] = known;
        unref(kv, mine);
    }
}

void cog_kv_touch(cog_kv *kv, int32_t page)
{
    if (kv->refs[page] > 0)
        return;
    unlink_cached(kv, page);
    push_newest(kv, page);
}

void cog_kv_forget(cog_kv *kv, int32_t page)
{
    if (kv->refs[page] > 0 || !cog_prefix_knows(&kv->index, page))
        return;
    unlink_cached(kv, page);
    kv->pin[page] = 0;
    cog_prefix_forget(&kv->index, page);
    kv->free_list[kv->n_free++] = page;
}

void cog_kv_pin(cog_kv *kv, int32_t page, uint64_t number)
{
    if (!cog_prefix_knows(&kv->index, page) || kv->pin[page] == number)
        return;
    if (kv->refs[page] == 0)
        unlink_cached(kv, page);
    kv->pin[page] = number;
    if (kv->refs[page] == 0)
        push_newest(kv, page);
}

void cog_kv_unpin(cog_kv *kv, uint64_t number)
{
    for (int32_t id = kv->newer[kv->n_blocks + 1], next; id != kv->n_blocks + 1; id = next) {
        next = kv->newer[id];
        if (kv->pin[id] == number)
            demote(kv, id);
    }
    for (int i = 0; i < kv->n_blocks; i++) {
        if (kv->pin[i] == number)
            kv->pin[i] = 0;
    }
}

/* Numbers the pages of a ring, in the order in which they are taken. */
static bool number_ring(int32_t *place, int *n, const cog_kv *kv, int32_t head)
{
    bool sound = true;

    for (int32_t id = kv->newer[head]; sound && id != head; id = kv->newer[id]) {
        sound = kv->refs[id] == 0 && place[id] == 0 && cog_prefix_knows(&kv->index, id) &&
                kv->older[kv->newer[id]] == id && *n < kv->n_cached &&
                (kv->pin[id] != 0) == (head != kv->n_blocks);
        place[id] = ++*n;
    }
    return sound;
}

/* The rings hold the pages without holders that have a name, each once, and what comes before one
 * is taken later. */
static bool is_ring_sound(const cog_kv *kv)
{
    int32_t *place = cog_array(int32_t, (size_t)kv->n_blocks); /* 1: the first; 0: in none */
    bool sound;
    int n = 0;

    sound = number_ring(place, &n, kv, kv->n_blocks) && n == kv->n_cached - kv->n_pinned &&
            number_ring(place, &n, kv, kv->n_blocks + 1) && kv->n_pinned <= kv->max_pinned;
    for (int32_t id = 0; sound && id < kv->index.n_pages; id++) {
        int32_t before = kv->index.before[id];
        if (cog_prefix_knows(&kv->index, id))
            sound = (kv->refs[id] > 0 || place[id] > 0) &&
                    (before < 0 || kv->refs[before] > 0 || place[before] > place[id]) &&
                    (before < 0 || kv->refs[id] == 0 || kv->refs[before] > 0);
    }
    cog_free(place);
    return sound && n == kv->n_cached;
}

bool cog_kv_is_sound(const cog_kv *kv)
{
    int n_idle = 0;

    if (kv->n_free < 0 || kv->n_cached < 0 || kv->n_free > kv->n_blocks)
        return false;
    for (int i = 0; i < kv->n_blocks; i++) {
        if (kv->refs[i] < 0 || (kv->pin[i] && !cog_prefix_knows(&kv->index, i)))
            return false;
        n_idle += kv->refs[i] == 0;
    }
    for (int i = 0; i < kv->n_free; i++)
        if (kv->refs[kv->free_list[i]] != 0 || cog_prefix_knows(&kv->index, kv->free_list[i]))
            return false;
    return n_idle == kv->n_free + kv->n_cached && is_ring_sound(kv) &&
           cog_prefix_is_sound(&kv->index);
}
