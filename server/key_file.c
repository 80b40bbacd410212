#include "server/key_file.h"

#include "base/alloc.h"
#include "base/buf.h"

#include <stdbool.h>
#include <string.h>

enum { MAX_FILE = 1 << 20, MAX_KEY = 4096, MAX_KEYS = 10000, MAX_LIMIT = 1000000000 };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The next word of [*at, end), which may be empty; *at moves behind it. */
static cog_span next_word(const char **at, const char *end)
{
    const char *start;

    while (*at < end && is_blank(**at))
        ++*at;
    start = *at;
    while (*at < end && !is_blank(**at))
        ++*at;
    return (cog_span){ start, (size_t)(*at - start) };
}

static bool is_key(cog_span w)
{
    const char *s = w.data;

    for (size_t i = 0; i < w.len; i++) {
        if (s[i] <= ' ' || s[i] >= 0x7f)
            return false;
    }
    return w.len <= MAX_KEY;
}

/* name=N; false when it is none of the limits or no number in range. */
static bool read_limit(cog_key_entry *e, cog_span w)
{
    const struct {
        const char *name;
        int *value;
    } limits[] = { { "rpm=", &e->requests },
                   { "tpm=", &e->tokens },
                   { "concurrent=", &e->concurrent } };
    const char *s = w.data;

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        size_t n = strlen(limits[i].name);
        int value = 0;

        if (w.len <= n || memcmp(s, limits[i].name, n) != 0)
            continue;
        for (size_t k = n; k < w.len; k++) {
            if (s[k] < '0' || s[k] > '9' || value > MAX_LIMIT / 10)
                return false;
            value = 10 * value + (s[k] - '0');
        }
        *limits[i].value = value;
        return value <= MAX_LIMIT;
    }
    return false;
}

/* 1: an entry, 0: none on this line. */
static int parse_line(cog_key_entry *e, const char *at, const char *end, int line, cog_err *err)
{
    cog_span w = next_word(&at, end);

    if (w.len == 0 || *(const char *)w.data == '#')
        return 0;
    if (!is_key(w))
        return cog_err_set(err, COG_EFORMAT,
                           "line %d: a key is at most %d visible ASCII characters", line, MAX_KEY);
    *e = (cog_key_entry){ cog_sha256_of(&w, 1), -1, -1, -1 };
    for (w = next_word(&at, end); w.len > 0; w = next_word(&at, end)) {
        if (*(const char *)w.data == '#')
            break;
        if (!read_limit(e, w))
            return cog_err_set(err, COG_EFORMAT,
                               "line %d: behind a key may stand rpm=N, tpm=N, concurrent=N and a "
                               "comment, with N up to %d",
                               line, MAX_LIMIT);
    }
    return 1;
}

static bool has(const cog_key_entry *entries, int n, const cog_sha256 *digest)
{
    for (int i = 0; i < n; i++) {
        if (memcmp(&entries[i].digest, digest, sizeof(*digest)) == 0)
            return true;
    }
    return false;
}

int cog_key_file_parse(cog_key_entry **out, int *n_out, const char *text, size_t len, cog_err *err)
{
    const char *end = text + len;
    cog_key_entry *entries = NULL;
    int n = 0, line = 0, rc = 0;

    for (const char *p = text; p < end; line++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *stop = newline ? newline : end;
        cog_key_entry e;

        rc = parse_line(&e, p, stop, line + 1, err);
        if (rc > 0 && has(entries, n, &e.digest))
            rc = cog_err_set(err, COG_EFORMAT, "line %d: this key stands further up as well",
                             line + 1);
        if (rc > 0 && n == MAX_KEYS)
            rc = cog_err_set(err, COG_ELIMIT, "line %d: at most %d keys are read", line + 1,
                             MAX_KEYS);
        if (rc < 0)
            goto fail;
        if (rc > 0) {
            entries = cog_realloc(entries, (size_t)n + 1, sizeof(*entries));
            entries[n++] = e;
        }
        p = newline ? newline + 1 : end;
    }
    if (n == 0) {
        rc = cog_err_set(err, COG_EFORMAT, "it holds no key; put one on a line");
        goto fail;
    }
    *out = entries;
    *n_out = n;
    return 0;

fail:
    cog_free(entries);
    return rc;
}

int cog_key_file_read(cog_key_entry **out, int *n_out, const char *path, cog_err *err)
{
    cog_buf text = { 0 };
    cog_err why;
    int rc = cog_buf_add_file(&text, path, MAX_FILE, err);

    if (rc == 0) {
        rc = cog_key_file_parse(out, n_out, cog_buf_text(&text), text.len, &why);
        if (rc < 0)
            cog_err_set(err, rc, "%s, %s", path, why.text);
    }
    cog_buf_fini(&text);
    return rc;
}
