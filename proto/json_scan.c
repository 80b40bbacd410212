#include "proto/json_scan.h"

#include "base/alloc.h"
#include "base/err.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct string_end {
    const char *quote; /* NULL: the string does not end */
    bool has_escape;
    bool is_plain; /* "\/" is the only escape */
};

void cog_json_init(void)
{
    json_object_seed(0);
}

/* Looks for the closing quote once, and again only when an escape jumped over it: searching again
 * after every backslash would be quadratic. */
static struct string_end find_end(const char *text, const char *end)
{
    struct string_end r = { .is_plain = true };
    const char *quote = memchr(text, '"', (size_t)(end - text));

    while (quote) {
        const char *slash = memchr(text, '\\', (size_t)(quote - text));
        if (!slash)
            break;
        r.has_escape = true;
        if (slash[1] != '/')
            r.is_plain = false;
        text = slash + 2;
        if (slash + 1 == quote)
            quote = memchr(text, '"', (size_t)(end - text));
    }
    r.quote = quote;
    return r;
}

static bool is_key(const char *after, const char *end)
{
    while (after < end && (*after == ' ' || *after == '\t' || *after == '\n' || *after == '\r'))
        after++;
    return after < end && *after == ':';
}

static void lift(cog_json_scan *s, const char *text, size_t len, bool is_escaped)
{
    if ((s->n_pieces & (s->n_pieces - 1)) == 0)
        s->pieces =
            cog_realloc(s->pieces, (size_t)(s->n_pieces ? 2 * s->n_pieces : 1), sizeof(*s->pieces));
    s->pieces[s->n_pieces] = (cog_json_piece){ text, len, is_escaped };
    cog_buf_printf(&s->skeleton, "%s:%d", s->nonce, s->n_pieces++);
}

struct walk {
    const char *run; /* copied up to here */
    int n_values, depth;
};

/* p is an opening quote; returns the closing one, NULL when there is none. */
static const char *walk_string(cog_json_scan *s, struct walk *w, const char *p, const char *end)
{
    struct string_end e = find_end(p + 1, end);
    size_t len;

    if (!e.quote)
        return NULL;
    len = (size_t)(e.quote - p - 1);
    if (len >= COG_JSON_LIFT && e.is_plain && strncasecmp(p + 1, "data:", 5) == 0 &&
        !is_key(e.quote + 1, end)) {
        cog_buf_add(&s->skeleton, w->run, (size_t)(p + 1 - w->run));
        lift(s, p + 1, len, e.has_escape);
        w->run = e.quote;
    }
    return e.quote;
}

static int walk_body(cog_json_scan *s, const char *body, size_t len, cog_api_error *err)
{
    const char *end = body + len;
    struct walk w = { .run = body };

    for (const char *p = body; p < end; p++) {
        switch (*p) {
        case '"':
            w.n_values++;
            p = walk_string(s, &w, p, end);
            if (!p)
                return cog_api_error_set(err, COG_API_INVALID_JSON, NULL,
                                         "The request body ends inside a JSON string.");
            break;
        case '{':
        case '[':
            w.n_values++;
            if (++w.depth > COG_JSON_MAX_DEPTH)
                return cog_api_error_set(err, COG_API_INVALID_JSON, NULL,
                                         "The request body nests deeper than %d levels.",
                                         COG_JSON_MAX_DEPTH);
            break;
        case '}':
        case ']':
            w.depth--;
            break;
        case ',':
            w.n_values++;
            break;
        default:
            break;
        }
        if (w.n_values > COG_JSON_MAX_VALUES)
            return cog_api_error_set(err, COG_API_INVALID_JSON, NULL,
                                     "The request body holds more than %d values.",
                                     COG_JSON_MAX_VALUES);
    }
    cog_buf_add(&s->skeleton, w.run, (size_t)(end - w.run));
    return 0;
}

int cog_json_scan_init(cog_json_scan *out, const char *body, size_t len, const char *nonce,
                       cog_api_error *err)
{
    cog_json_scan s = { .nonce = nonce };
    int rc = walk_body(&s, body, len, err);

    if (rc < 0) {
        cog_json_scan_fini(&s);
        return rc;
    }
    *out = s;
    return 0;
}

void cog_json_scan_fini(cog_json_scan *s)
{
    cog_buf_fini(&s->skeleton);
    cog_free(s->pieces);
    *s = (cog_json_scan){ 0 };
}

const cog_json_piece *cog_json_scan_find(const cog_json_scan *s, const char *text)
{
    size_t len = strlen(s->nonce);
    char *end;
    long i;

    if (s->n_pieces == 0 || strncmp(text, s->nonce, len) != 0 || text[len] != ':')
        return NULL;
    i = strtol(text + len + 1, &end, 10);
    if (*end || i < 0 || i >= s->n_pieces)
        return NULL;
    return &s->pieces[i];
}

char *cog_json_piece_text(const cog_json_piece *p, size_t *out_len)
{
    cog_buf quoted = { 0 };
    char *text = NULL;
    json_t *v;

    cog_buf_reserve(&quoted, p->len + 2);
    cog_buf_add(&quoted, "\"", 1);
    cog_buf_add(&quoted, p->data, p->len);
    cog_buf_add(&quoted, "\"", 1);
    v = json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY, NULL);
    cog_buf_fini(&quoted);
    if (json_is_string(v)) {
        *out_len = json_string_length(v);
        text = cog_strndup(json_string_value(v), *out_len);
    }
    json_decref(v);
    return text;
}

char *cog_json_piece_unescape(const cog_json_piece *p, size_t *out_len)
{
    char *text = cog_realloc(NULL, p->len + 1, 1);
    size_t n = 0;

    for (size_t i = 0; i < p->len;) {
        const char *slash = memchr(p->data + i, '\\', p->len - i);
        size_t run = slash ? (size_t)(slash - p->data) - i : p->len - i;
        memcpy(text + n, p->data + i, run);
        n += run;
        i += run + (slash != NULL);
    }
    text[n] = '\0';
    *out_len = n;
    return text;
}

static int restore_text(const cog_json_scan *s, json_t *v, cog_api_error *err)
{
    const cog_json_piece *p = cog_json_scan_find(s, json_string_value(v));
    size_t len;
    char *text;

    if (!p)
        return 0;
    text = cog_json_piece_text(p, &len);
    if (!text)
        return cog_api_error_set(err, COG_API_INVALID_JSON, NULL,
                                 "The request body could not be parsed: a string is not valid.");
    json_string_setn_nocheck(v, text, len);
    cog_free(text);
    return 0;
}

/* As deep as the scan allows. */
static int restore(const cog_json_scan *s, json_t *v, bool is_picture, cog_api_error *err)
{
    const char *key;
    json_t *member;
    size_t i;

    if (json_is_string(v))
        return is_picture ? 0 : restore_text(s, v, err);
    json_array_foreach(v, i, member)
    {
        if (restore(s, member, false, err) < 0)
            return COG_EINVAL;
    }
    json_object_foreach(v, key, member)
    {
        if (restore(s, member, strcmp(key, "url") == 0 || strcmp(key, "image_url") == 0, err) < 0)
            return COG_EINVAL;
    }
    return 0;
}

int cog_json_scan_restore(const cog_json_scan *s, json_t *root, cog_api_error *err)
{
    return s->n_pieces > 0 ? restore(s, root, false, err) : 0;
}
