#include "server/picture/file_store.h"

#include "base/alloc.h"
#include "base/err.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

enum {
    ID_BYTES = 16,
    BUCKETS = 1024,       /* a power of two */
    FILE_BYTES = 1 << 10, /* what one takes beside its bytes, rounded up */
};

typedef struct entry {
    cog_file file;      /* first member */
    struct entry *next; /* in its bucket */
} entry;

typedef struct tombstone {
    char id[COG_FILE_ID_SIZE]; /* "": none */
    cog_sha256 owner;
} tombstone;

struct cog_file_store {
    cog_file_limits limits;
    char node[COG_FILE_MAX_NODE + 2]; /* with its hyphen */
    void (*removed)(void *arg, const cog_file *f);
    void *arg;
    entry *bucket[BUCKETS];
    cog_file *oldest, *newest;
    uint64_t n_added;
    tombstone deleted[COG_FILE_MAX_DELETED]; /* a ring */
    cog_file_stats stats;
};

cog_file_store *cog_file_store_new(const cog_file_limits *limits, const char *node,
                                   void (*removed)(void *arg, const cog_file *f), void *arg)
{
    cog_file_store *s = cog_new(cog_file_store);

    s->limits = *limits;
    s->removed = removed;
    s->arg = arg;
    if (node && *node)
        snprintf(s->node, sizeof(s->node), "%.*s-", COG_FILE_MAX_NODE, node);
    return s;
}

static size_t cost_of(const cog_file *f)
{
    return cog_file_cost(f->body_len, f->image->side);
}

void cog_file_ref(cog_file *f)
{
    f->refs++;
}

void cog_file_unref(cog_file *f)
{
    if (!f || --f->refs > 0)
        return;
    assert(f->is_deleted);
    f->store->stats.bytes -= cost_of(f);
    cog_image_free(f->image);
    cog_free(f->body);
    cog_free(f->filename);
    cog_free(f);
}

/* ------------------------------------------------------------------ the index */

/* Ids are random in their last digits, and those who do not know them cannot choose them. */
static unsigned hash_of(const char *id)
{
    unsigned h = 2166136261u;

    for (; *id; id++)
        h = (h ^ (unsigned char)*id) * 16777619u;
    return h & (BUCKETS - 1);
}

static void remove_file(cog_file_store *s, cog_file *f)
{
    entry **at = &s->bucket[hash_of(f->id)];

    while (&(*at)->file != f)
        at = &(*at)->next;
    *at = (*at)->next;
    if (f->older)
        f->older->newer = f->newer;
    else
        s->oldest = f->newer;
    if (f->newer)
        f->newer->older = f->older;
    else
        s->newest = f->older;
    s->stats.n--;
    f->is_deleted = true;
    if (s->removed)
        s->removed(s->arg, f);
    cog_file_unref(f);
}

void cog_file_store_free(cog_file_store *s)
{
    if (!s)
        return;
    s->removed = NULL;
    while (s->oldest) {
        assert(s->oldest->refs == 1);
        remove_file(s, s->oldest);
    }
    cog_free(s);
}

/* ------------------------------------------------------------------ limits */

size_t cog_file_cost(size_t body_len, int side)
{
    return body_len + (size_t)side * (size_t)side * 3 + FILE_BYTES;
}

/* Room in all is told as if it were the owner's: how much others have is nobody's business. */
static int check(const cog_file_store *s, const cog_sha256 *owner, size_t cost, cog_err *err)
{
    const cog_file_limits *l = &s->limits;
    size_t bytes = 0;
    int n = 0;

    for (const cog_file *f = s->oldest; f; f = f->newer) {
        if (memcmp(&f->owner, owner, sizeof(*owner)) != 0)
            continue;
        bytes += cost_of(f);
        n++;
    }
    if (cost > l->bytes_of_one || bytes > l->bytes_of_one - cost)
        return cog_err_set(err, COG_ELIMIT,
                           "there is no room for the file: your files have %zu bytes and this one "
                           "would take %zu, with its pixels, of %zu in all",
                           bytes, cost, l->bytes_of_one);
    if (n >= l->files_of_one)
        return cog_err_set(err, COG_ELIMIT,
                           "there is no room for the file: you have %d, and that is as many as are "
                           "allowed",
                           n);
    if (cost > l->bytes || s->stats.bytes > l->bytes - cost || s->stats.n >= l->files)
        return cog_err_set(err, COG_ELIMIT, "there is no room for the file on this server");
    return 0;
}

int cog_file_store_check(cog_file_store *s, const cog_sha256 *owner, size_t cost, cog_err *err)
{
    int rc = check(s, owner, cost, err);

    s->stats.refused += rc < 0;
    return rc;
}

/* ------------------------------------------------------------------ files */

static int draw_id(char id[COG_FILE_ID_SIZE], const char *node)
{
    unsigned char bytes[ID_BYTES];
    int n = snprintf(id, COG_FILE_ID_SIZE, "file-%s", node);

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return COG_EIO;
    for (int i = 0; i < ID_BYTES; i++)
        n += snprintf(id + n, (size_t)(COG_FILE_ID_SIZE - n), "%02x", bytes[i]);
    return 0;
}

static void link_file(cog_file_store *s, entry *e)
{
    entry **at = &s->bucket[hash_of(e->file.id)];

    e->next = *at;
    *at = e;
    e->file.older = s->newest;
    if (s->newest)
        s->newest->newer = &e->file;
    else
        s->oldest = &e->file;
    s->newest = &e->file;
    s->stats.n++;
    s->stats.added++;
    s->stats.bytes += cost_of(&e->file);
}

int cog_file_store_add(cog_file **out, cog_file_store *s, const cog_new_file *file, char *body)
{
    char id[COG_FILE_ID_SIZE];
    entry *e;

    if (draw_id(id, s->node) < 0)
        return COG_EIO;
    e = cog_new(entry);
    e->file = (cog_file){ .refs = 1,
                          .number = ++s->n_added,
                          .owner = file->owner,
                          .filename = cog_strdup(file->filename),
                          .purpose = file->purpose,
                          .created = file->created,
                          .expires = file->expires,
                          .body = body,
                          .body_len = file->body_len,
                          .data = file->data,
                          .len = file->len,
                          .image = cog_image_ref(file->image),
                          .store = s };
    memcpy(e->file.id, id, sizeof(id));
    link_file(s, e);
    *out = &e->file;
    return 0;
}

cog_file *cog_file_store_find(cog_file_store *s, const cog_sha256 *owner, const char *id,
                              int64_t now)
{
    for (entry *e = s->bucket[hash_of(id)]; e; e = e->next) {
        cog_file *f = &e->file;

        if (strcmp(f->id, id) == 0 && now < f->expires &&
            CRYPTO_memcmp(&f->owner, owner, sizeof(*owner)) == 0) {
            s->stats.found++;
            return f;
        }
    }
    s->stats.missed++;
    return NULL;
}

void cog_file_store_delete(cog_file_store *s, cog_file *f)
{
    tombstone *t = &s->deleted[s->stats.deleted++ % COG_FILE_MAX_DELETED];

    memcpy(t->id, f->id, sizeof(t->id));
    t->owner = f->owner;
    remove_file(s, f);
}

bool cog_file_store_was_deleted(const cog_file_store *s, const cog_sha256 *owner, const char *id)
{
    for (int i = 0; i < COG_FILE_MAX_DELETED; i++) {
        const tombstone *t = &s->deleted[i];

        if (t->id[0] && strcmp(t->id, id) == 0 &&
            CRYPTO_memcmp(&t->owner, owner, sizeof(*owner)) == 0)
            return true;
    }
    return false;
}

void cog_file_store_expire(cog_file_store *s, int64_t now)
{
    for (cog_file *f = s->oldest, *next; f; f = next) {
        next = f->newer;
        if (now < f->expires)
            continue;
        s->stats.expired++;
        remove_file(s, f);
    }
}

void cog_file_store_forget(cog_file_store *s,
                           bool (*is_known)(const void *arg, const cog_sha256 *owner),
                           const void *arg)
{
    for (cog_file *f = s->oldest, *next; f; f = next) {
        next = f->newer;
        if (!is_known(arg, &f->owner))
            cog_file_store_delete(s, f);
    }
}

static const cog_file *own(const cog_file *f, const cog_sha256 *owner, bool newest_first)
{
    while (f && memcmp(&f->owner, owner, sizeof(*owner)) != 0)
        f = newest_first ? f->older : f->newer;
    return f;
}

const cog_file *cog_file_first(const cog_file_store *s, const cog_sha256 *owner, bool newest_first)
{
    return own(newest_first ? s->newest : s->oldest, owner, newest_first);
}

const cog_file *cog_file_next(const cog_file *f, bool newest_first)
{
    return own(newest_first ? f->older : f->newer, &f->owner, newest_first);
}

void cog_file_store_get_stats(const cog_file_store *s, cog_file_stats *out)
{
    *out = s->stats;
}
