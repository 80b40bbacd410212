#include "engine/safetensors.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "engine/file.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SINGLE      "model.safetensors"
#define INDEX       "model.safetensors.index.json"
#define MAX_HEADER  ((size_t)100 << 20) /* as the reference implementation of the format */
#define MAX_SHARDS  1024
#define MAX_NAME    512
#define MAX_SYMBOLS ((size_t)1 << 20) /* some 80,000 tensors */

struct shard {
    char *name; /* owned: the file's, inside the folder */
    void *map;
    size_t size;
};

struct entry {
    cog_tensor t; /* t.name is owned here */
    int shard;
    uint64_t begin, end; /* bytes after the header */
};

struct cog_safetensors {
    struct shard *shard;
    int n_shards;
    struct entry *entry; /* sorted by name once open */
    int n, cap;
    uint64_t bytes;
};

/* ------------------------------------------------------------------ JSON under limits */

/* A JSON value costs up to a hundred times its text in memory, so the number of values is bounded
 * from the bytes alone, before the parser runs. */
static int check_symbols(const char *text, size_t len, const char *file, cog_err *err)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += text[i] == ',' || text[i] == '[' || text[i] == '{' || text[i] == ':';
    if (n > MAX_SYMBOLS)
        return cog_err_set(err, COG_ELIMIT, "%s: more than %zu values in its JSON", file,
                           MAX_SYMBOLS);
    return 0;
}

static int parse_object(json_t **out, const char *text, size_t len, const char *file, cog_err *err)
{
    json_error_t why;
    json_t *root;
    int rc = check_symbols(text, len, file, err);

    if (rc < 0)
        return rc;
    root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return cog_err_set(err, COG_EFORMAT, "%s: not sound JSON at byte %d: %.200s", file,
                           why.position, why.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return cog_err_set(err, COG_EFORMAT, "%s: its JSON is no object", file);
    }
    *out = root;
    return 0;
}

/* Names end up in messages and on terminals. */
static bool plain_name(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return len > 0 && len <= MAX_NAME;
}

/* ------------------------------------------------------------------ one file's header */

static int parse_dtype(cog_dtype *out, const json_t *v, const char *name, cog_err *err)
{
    static const struct {
        const char *name;
        cog_dtype dtype;
    } known[] = { { "F32", COG_F32 }, { "F16", COG_F16 }, { "BF16", COG_BF16 } };
    const char *s = json_string_value(v);

    if (!s)
        return cog_err_set(err, COG_EFORMAT, "tensor '%s' has no dtype", name);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(s, known[i].name) == 0) {
            *out = known[i].dtype;
            return 0;
        }
    return cog_err_set(err, COG_EFORMAT,
                       "tensor '%s' has dtype '%.16s'; F32, F16 and BF16 are supported (integers "
                       "mean a quantised re-pack: use the original files)",
                       name, plain_name(s) ? s : "?");
}

static int parse_shape(cog_tensor *t, const json_t *shape, cog_err *err)
{
    size_t n = json_array_size(shape);
    size_t bytes = cog_dtype_size(t->dtype);

    if (!json_is_array(shape))
        return cog_err_set(err, COG_EFORMAT, "tensor '%s' has no shape", t->name);
    if (n > COG_MAX_DIMS)
        return cog_err_set(err, COG_EFORMAT, "tensor '%s' has %zu dimensions, at most %d are known",
                           t->name, n, COG_MAX_DIMS);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(shape, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return cog_err_set(err, COG_EFORMAT,
                               "tensor '%s': dimension %zu is not a whole number of 0 or more",
                               t->name, i);
        t->dim[i] = json_integer_value(v);
        if (__builtin_mul_overflow(bytes, (size_t)t->dim[i], &bytes))
            return cog_err_set(err, COG_EFORMAT, "tensor '%s': the product of its shape overflows",
                               t->name);
    }
    t->n_dims = (int)n;
    t->bytes = bytes;
    return 0;
}

static int parse_offsets(struct entry *e, const json_t *offsets, size_t data_size, cog_err *err)
{
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);

    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return cog_err_set(err, COG_EFORMAT, "tensor '%s': data_offsets is not [begin, end]",
                           e->t.name);
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    if (e->end > data_size)
        return cog_err_set(err, COG_EFORMAT,
                           "tensor '%s' ends at byte %llu of the data, which has %zu (is the file "
                           "cut short?)",
                           e->t.name, (unsigned long long)e->end, data_size);
    if (e->end - e->begin != e->t.bytes)
        return cog_err_set(err, COG_EFORMAT,
                           "tensor '%s' has %llu bytes of data, its shape and dtype need %zu",
                           e->t.name, (unsigned long long)(e->end - e->begin), e->t.bytes);
    return 0;
}

static struct entry *new_entry(cog_safetensors *s)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 256;
        s->entry = cog_realloc(s->entry, (size_t)s->cap, sizeof(*s->entry));
    }
    memset(&s->entry[s->n], 0, sizeof(*s->entry));
    return &s->entry[s->n++];
}

static int parse_tensor(cog_safetensors *s, int shard, const char *name, json_t *v,
                        const char *data, size_t data_size, cog_err *err)
{
    struct entry *e;
    int rc;

    if (!plain_name(name))
        return cog_err_set(err, COG_EFORMAT,
                           "a tensor's name is empty, too long or has control characters");
    e = new_entry(s);
    e->shard = shard;
    e->t.name = cog_strdup(name);
    rc = parse_dtype(&e->t.dtype, json_object_get(v, "dtype"), name, err);
    if (rc == 0)
        rc = parse_shape(&e->t, json_object_get(v, "shape"), err);
    if (rc == 0)
        rc = parse_offsets(e, json_object_get(v, "data_offsets"), data_size, err);
    if (rc == 0)
        e->t.data = data + e->begin;
    return rc;
}

static int by_offset(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;

    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

/* Every byte of the data belongs to exactly one of the tensors from index first on. Reorders them.
 */
static int check_layout(cog_safetensors *s, int first, size_t data_size, cog_err *err)
{
    struct entry *e = s->entry;
    uint64_t at = 0;

    if (s->n > first)
        qsort(e + first, (size_t)(s->n - first), sizeof(*e), by_offset);
    for (int i = first; i < s->n; i++) {
        if (e[i].begin < at)
            return cog_err_set(err, COG_EFORMAT, "tensors '%.200s' and '%.200s' overlap",
                               e[i - 1].t.name, e[i].t.name);
        if (e[i].begin > at)
            return cog_err_set(err, COG_EFORMAT, "%llu bytes before tensor '%s' belong to none",
                               (unsigned long long)(e[i].begin - at), e[i].t.name);
        at = e[i].end;
    }
    if (at != data_size)
        return cog_err_set(err, COG_EFORMAT, "%llu bytes after the last tensor belong to none",
                           (unsigned long long)(data_size - at));
    return 0;
}

static int parse_header(cog_safetensors *s, int shard, size_t header_len, cog_err *err)
{
    struct shard *f = &s->shard[shard];
    const char *header = (const char *)f->map + 8, *name;
    size_t data_size = f->size - 8 - header_len;
    int first = s->n;
    json_t *root, *v;
    int rc;

    if (header_len == 0 || header[0] != '{')
        return cog_err_set(err, COG_EFORMAT, "%s: the header does not start with '{'", f->name);
    rc = parse_object(&root, header, header_len, f->name, err);
    if (rc < 0)
        return rc;
    json_object_foreach(root, name, v)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        rc = parse_tensor(s, shard, name, v, header + header_len, data_size, err);
        if (rc < 0)
            break;
    }
    json_decref(root);
    if (rc == 0)
        rc = check_layout(s, first, data_size, err);
    if (rc < 0)
        cog_err_prefix(err, "%s", f->name);
    return rc;
}

static bool is_lfs_pointer(const struct shard *f)
{
    static const char start[] = "version https://git-lfs";

    return f->size >= sizeof(start) - 1 && memcmp(f->map, start, sizeof(start) - 1) == 0;
}

/* Adds the file and its tensors to s. Takes name. */
static int read_shard(cog_safetensors *s, const char *dir, char *name, cog_err *err)
{
    struct shard *f;
    uint64_t header_len = 0;
    int fd;
    int rc;

    s->shard = cog_realloc(s->shard, (size_t)s->n_shards + 1, sizeof(*s->shard));
    f = &s->shard[s->n_shards++];
    *f = (struct shard){ .name = name };
    rc = cog_file_open(&fd, &f->size, dir, name, err);
    if (rc < 0)
        return rc;
    if (f->size < 8)
        rc = cog_err_set(err, COG_EFORMAT, "%s: %zu bytes, too short for a header", name, f->size);
    if (rc == 0) {
        f->map = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (f->map == MAP_FAILED) {
            f->map = NULL;
            rc = cog_err_set(err, COG_EIO, "%s: cannot map: %s", name, strerror(errno));
        }
    }
    close(fd);
    if (rc < 0)
        return rc;
    if (is_lfs_pointer(f))
        return cog_err_set(err, COG_EFORMAT,
                           "%s: a Git LFS pointer, not the weights: run 'git lfs pull'", name);
    for (int i = 0; i < 8; i++)
        header_len |= (uint64_t)((const unsigned char *)f->map)[i] << (8 * i);
    if (header_len > f->size - 8)
        return cog_err_set(err, COG_EFORMAT,
                           "%s: a header of %llu bytes in a file of %zu (is the file cut short, or "
                           "not safetensors?)",
                           name, (unsigned long long)header_len, f->size);
    if (header_len > MAX_HEADER)
        return cog_err_set(err, COG_ELIMIT,
                           "%s: a header of %llu bytes, more than the limit of %zu", name,
                           (unsigned long long)header_len, MAX_HEADER);
    return parse_header(s, s->n_shards - 1, (size_t)header_len, err);
}

/* ------------------------------------------------------------------ the folder */

static int by_name(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;

    return strcmp(a->t.name, b->t.name);
}

static int sort_by_name(cog_safetensors *s, cog_err *err)
{
    if (s->n == 0)
        return cog_err_set(err, COG_EFORMAT, "%s: holds no tensors", s->shard[0].name);
    qsort(s->entry, (size_t)s->n, sizeof(*s->entry), by_name);
    for (int i = 0; i < s->n; i++) {
        if (i > 0 && strcmp(s->entry[i - 1].t.name, s->entry[i].t.name) == 0)
            return cog_err_set(err, COG_EFORMAT, "tensor '%.200s' is in both %.100s and %.100s",
                               s->entry[i].t.name, s->shard[s->entry[i - 1].shard].name,
                               s->shard[s->entry[i].shard].name);
        s->bytes += s->entry[i].t.bytes;
    }
    return 0;
}

static bool plain_file_name(const char *name)
{
    return plain_name(name) && strlen(name) < 256 && name[0] != '.' && !strchr(name, '/') &&
           !strchr(name, '\\');
}

static int by_text(const void *pa, const void *pb)
{
    return strcmp(*(const char *const *)pa, *(const char *const *)pb);
}

/* Reads each file that the map names, once, in the order of names. */
static int read_shards(cog_safetensors *s, const char *dir, json_t *map, cog_err *err)
{
    const char **name = cog_array(const char *, json_object_size(map));
    const char *tensor;
    size_t n = 0;
    json_t *v;
    int rc = 0;

    json_object_foreach(map, tensor, v)
    {
        const char *file = json_string_value(v);
        if (!file || !plain_file_name(file)) {
            rc = cog_err_set(err, COG_EFORMAT,
                             INDEX ": tensor '%.200s' is not mapped to the name of a file in the "
                                   "folder",
                             plain_name(tensor) ? tensor : "?");
            break;
        }
        name[n++] = file;
    }
    if (rc == 0)
        qsort(name, n, sizeof(*name), by_text);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (i > 0 && strcmp(name[i - 1], name[i]) == 0)
            continue;
        if (s->n_shards == MAX_SHARDS)
            rc = cog_err_set(err, COG_ELIMIT, INDEX ": more than %d files", MAX_SHARDS);
        else
            rc = read_shard(s, dir, cog_strdup(name[i]), err);
    }
    cog_free(name);
    return rc;
}

/* The map and the files list the same tensors in the same places. Entries are sorted. */
static int check_map(const cog_safetensors *s, json_t *map, cog_err *err)
{
    const char *name;
    json_t *v;

    for (int i = 0; i < s->n; i++) {
        const char *file = json_string_value(json_object_get(map, s->entry[i].t.name));
        const char *holder = s->shard[s->entry[i].shard].name;
        if (!file)
            return cog_err_set(err, COG_EFORMAT,
                               INDEX ": does not list tensor '%.200s', which is in %.100s",
                               s->entry[i].t.name, holder);
        if (strcmp(file, holder) != 0)
            return cog_err_set(err, COG_EFORMAT,
                               INDEX ": lists tensor '%.200s' in %.100s, but it is in %.100s",
                               s->entry[i].t.name, file, holder);
    }
    json_object_foreach(map, name, v) if (!cog_safetensors_find(s, name)) return cog_err_set(
        err, COG_EFORMAT, INDEX ": tensor '%.200s' is not in its file %.100s",
        plain_name(name) ? name : "?", json_string_value(v));
    return 0;
}

static int open_indexed(cog_safetensors *s, const char *dir, cog_err *err)
{
    cog_buf text = { 0 };
    json_t *root = NULL, *map;
    int rc = cog_file_read(&text, dir, INDEX, MAX_HEADER, err);

    if (rc < 0)
        goto done;
    rc = parse_object(&root, text.data, text.len, INDEX, err);
    if (rc < 0)
        goto done;
    map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        rc = cog_err_set(err, COG_EFORMAT, INDEX ": has no weight_map");
    if (rc == 0)
        rc = read_shards(s, dir, map, err);
    if (rc == 0)
        rc = sort_by_name(s, err);
    if (rc == 0)
        rc = check_map(s, map, err);
done:
    json_decref(root);
    cog_buf_fini(&text);
    return rc;
}

int cog_safetensors_open(cog_safetensors **out, const char *dir, cog_err *err)
{
    cog_safetensors *s = cog_new(cog_safetensors);
    int rc;

    if (cog_file_exists(dir, SINGLE)) {
        rc = read_shard(s, dir, cog_strdup(SINGLE), err);
        if (rc == 0)
            rc = sort_by_name(s, err);
    } else if (cog_file_exists(dir, INDEX)) {
        rc = open_indexed(s, dir, err);
    } else if (cog_file_exists(dir, "pytorch_model.bin") ||
               cog_file_exists(dir, "pytorch_model.bin.index.json")) {
        rc = cog_err_set(err, COG_EIO, "%.300s: holds pytorch_model.bin only; safetensors are read",
                         dir);
    } else {
        rc = cog_err_set(err, COG_EIO, "%.300s: neither " SINGLE " nor " INDEX " is there", dir);
    }
    if (rc < 0)
        goto fail;
    *out = s;
    return 0;

fail:
    cog_safetensors_close(s);
    return rc;
}

void cog_safetensors_close(cog_safetensors *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n; i++)
        cog_free((char *)s->entry[i].t.name);
    for (int i = 0; i < s->n_shards; i++) {
        if (s->shard[i].map)
            munmap(s->shard[i].map, s->shard[i].size);
        cog_free(s->shard[i].name);
    }
    cog_free(s->entry);
    cog_free(s->shard);
    cog_free(s);
}

int cog_safetensors_count(const cog_safetensors *s)
{
    return s->n;
}

const cog_tensor *cog_safetensors_at(const cog_safetensors *s, int idx)
{
    return &s->entry[idx].t;
}

int cog_safetensors_index(const cog_safetensors *s, const char *name)
{
    struct entry key = { .t.name = name };
    const struct entry *e = bsearch(&key, s->entry, (size_t)s->n, sizeof(*s->entry), by_name);

    return e ? (int)(e - s->entry) : -1;
}

const cog_tensor *cog_safetensors_find(const cog_safetensors *s, const char *name)
{
    int idx = cog_safetensors_index(s, name);

    return idx < 0 ? NULL : &s->entry[idx].t;
}

uint64_t cog_safetensors_bytes(const cog_safetensors *s)
{
    return s->bytes;
}
