/* file.c - files are small and written by people: whatever is not exactly right is refused with the
 * line it stands in. */
#include "config/file.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "config/value.h"

#include <jansson.h>
#include <string.h>

enum { MAX_FILE = 1 << 20 };

struct cog_config_file {
    const char *path; /* borrowed during open */
    cog_buf text;
    cog_config_entry *entries; /* owned */
    int n_entries;
};

/* The line of a key of the outermost object, in text that is known to be JSON; jansson does not
 * keep it. A key written with escapes is not found and counts as line 1. */
static int line_of(const char *text, const char *key)
{
    size_t key_len = strlen(key);
    int line = 1, depth = 0;

    for (const char *p = text; *p; p++) {
        if (*p == '\n')
            line++;
        if (*p == '{' || *p == '[')
            depth++;
        if (*p == '}' || *p == ']')
            depth--;
        if (*p != '"')
            continue;
        const char *start = ++p;
        while (*p && *p != '"')
            p += *p == '\\' && p[1] ? 2 : 1;
        if (!*p)
            break;
        if (depth == 1 && (size_t)(p - start) == key_len && memcmp(start, key, key_len) == 0 &&
            p[1 + strspn(p + 1, " \t\r\n")] == ':')
            return line;
    }
    return 1;
}

/* A scalar as cog_value_set reads it; NULL for what is none. */
static char *scalar_text(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
        return cog_strdup(json_string_value(v));
    case JSON_INTEGER:
        return cog_sprintf("%lld", (long long)json_integer_value(v));
    case JSON_REAL:
        return cog_sprintf("%.17g", json_real_value(v));
    case JSON_TRUE:
        return cog_strdup("true");
    case JSON_FALSE:
        return cog_strdup("false");
    default:
        return NULL;
    }
}

static int refuse_kind(const cog_config_file *f, const cog_config_entry *e, const char *kind,
                       cog_err *err)
{
    return cog_err_set(err, COG_EFORMAT, "%s, line %d: '%s' must be %s", f->path, e->line,
                       e->option->name, kind);
}

static int read_values(cog_config_file *f, cog_config_entry *e, const json_t *v, cog_err *err)
{
    bool is_list = e->option->type == COG_OPTION_LIST;
    bool is_bool = e->option->type == COG_OPTION_BOOL;
    size_t n = is_list && json_is_array(v) ? json_array_size(v) : 1;

    if (is_bool != json_is_boolean(v))
        return refuse_kind(f, e, is_bool ? "true or false" : "a string or a number", err);
    e->values = cog_array(char *, n + 1);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = is_list && json_is_array(v) ? json_array_get(v, i) : v;
        char *text = is_list && !json_is_string(one) ? NULL : scalar_text(one);
        if (!text)
            return refuse_kind(f, e, is_list ? "a list of strings" : "a string or a number", err);
        e->values[e->n_values++] = text;
    }
    return 0;
}

static int refuse_key(const cog_config_file *f, const char *key, int line, cog_err *err)
{
    const cog_option *near = cog_option_nearest(key, strlen(key), ~0u);

    return cog_err_set(err, COG_EFORMAT, "%s, line %d: unknown option '%.64s'%s%s%s", f->path, line,
                       key, near ? "; did you mean '" : "", near ? near->name : "",
                       near ? "'?" : "");
}

static int read_entries(cog_config_file *f, json_t *root, cog_err *err)
{
    const char *key;
    json_t *v;
    int rc = 0;

    f->entries = cog_array(cog_config_entry, json_object_size(root) + 1);
    json_object_foreach(root, key, v)
    {
        cog_config_entry *e = &f->entries[f->n_entries];
        e->line = line_of(f->text.data, key);
        e->option = cog_option_find(key, strlen(key));
        if (!e->option)
            return refuse_key(f, key, e->line, err);
        f->n_entries++;
        rc = read_values(f, e, v, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int cog_config_file_open(cog_config_file **out, const char *path, cog_err *err)
{
    cog_config_file *f = cog_new(cog_config_file);
    json_error_t at;
    json_t *root = NULL;
    int rc;

    f->path = path;
    rc = cog_buf_add_file(&f->text, path, MAX_FILE, err);
    if (rc < 0)
        goto fail;
    root = json_loadb(cog_buf_text(&f->text), f->text.len, JSON_REJECT_DUPLICATES, &at);
    if (!root) {
        rc = cog_err_set(err, COG_EFORMAT, "%s, line %d: %s", path, at.line < 1 ? 1 : at.line,
                         at.text);
        goto fail;
    }
    if (!json_is_object(root)) {
        rc = cog_err_set(err, COG_EFORMAT, "%s: must be a JSON object of options", path);
        goto fail;
    }
    rc = read_entries(f, root, err);
    if (rc < 0)
        goto fail;
    json_decref(root);
    *out = f;
    return 0;

fail:
    json_decref(root);
    cog_config_file_free(f);
    return rc;
}

void cog_config_file_free(cog_config_file *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->n_entries; i++) {
        for (int k = 0; k < f->entries[i].n_values; k++)
            cog_free(f->entries[i].values[k]);
        cog_free(f->entries[i].values);
    }
    cog_free(f->entries);
    cog_buf_fini(&f->text);
    cog_free(f);
}

int cog_config_file_count(const cog_config_file *f)
{
    return f->n_entries;
}

const cog_config_entry *cog_config_file_entry(const cog_config_file *f, int idx)
{
    return &f->entries[idx];
}

/* A key travels in an HTTP header: visible ASCII without spaces. */
