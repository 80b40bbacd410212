/* Bodies of forms: a line with the Content-Type, and behind it the body. Parts are views, in order,
 * without the boundary inside; put together again they are read as the same; whatever follows the
 * end is refused; a body that is cut is never the whole. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "proto/multipart.h"

#include <string.h>

static void write_text(cog_buf *out, const char *name, const char *text)
{
    cog_buf_printf(out, "; %s=\"", name);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            cog_buf_puts(out, "\\");
        cog_buf_add(out, text, 1);
    }
    cog_buf_puts(out, "\"");
}

static void write_form(cog_buf *out, const cog_multipart *m, const char *boundary)
{
    for (int i = 0; i < m->n; i++) {
        const cog_multipart_part *p = &m->part[i];

        cog_buf_printf(out, "--%s\r\nContent-Disposition: form-data", boundary);
        write_text(out, "name", p->name);
        if (p->has_filename)
            write_text(out, "filename", p->filename);
        cog_buf_puts(out, "\r\n\r\n");
        cog_buf_add(out, p->data, p->len);
        cog_buf_puts(out, "\r\n");
    }
    cog_buf_printf(out, "--%s--\r\n", boundary);
}

static void check_parts(const cog_multipart *m, const char *body, size_t len, const char *boundary)
{
    char *delimiter = cog_sprintf("\r\n--%s", boundary);
    const char *end = body;

    REQUIRE(m->n >= 0 && m->n <= COG_MULTIPART_MAX_PARTS);
    for (int i = 0; i < m->n; i++) {
        const cog_multipart_part *p = &m->part[i];

        REQUIRE(p->data > end && p->data + p->len < body + len);
        REQUIRE(memcmp(p->data + p->len, delimiter, strlen(delimiter)) == 0);
        REQUIRE(!memmem(p->data, p->len, delimiter, strlen(delimiter)));
        REQUIRE(p->name[0] && cog_utf8_valid(p->name, strlen(p->name)));
        REQUIRE(p->has_filename || !p->filename[0]);
        REQUIRE(cog_utf8_valid(p->filename, strlen(p->filename)));
        end = p->data + p->len;
    }
    cog_free(delimiter);
}

static void check_again(const cog_multipart *m, const char *boundary)
{
    cog_multipart other;
    cog_buf form = { 0 };
    cog_err err;

    write_form(&form, m, boundary);
    REQUIRE(cog_multipart_parse(&other, form.data, form.len, boundary, &err) == 0);
    REQUIRE(other.n == m->n);
    for (int i = 0; i < m->n; i++) {
        const cog_multipart_part *a = &m->part[i], *b = &other.part[i];

        REQUIRE(strcmp(a->name, b->name) == 0 && strcmp(a->filename, b->filename) == 0);
        REQUIRE(a->has_filename == b->has_filename && a->len == b->len);
        REQUIRE(memcmp(a->data, b->data, a->len) == 0);
    }
    REQUIRE(cog_multipart_parse(&other, form.data, form.len - 3, boundary, &err) < 0);
    cog_buf_puts(&form, "x");
    REQUIRE(cog_multipart_parse(&other, form.data, form.len, boundary, &err) < 0);
    cog_buf_fini(&form);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    const char *newline = len ? memchr(bytes, '\n', len) : NULL;
    char boundary[COG_MULTIPART_MAX_BOUNDARY + 1];
    cog_multipart m;
    cog_err err = { 0 };
    char *type, *body;
    size_t n;
    int rc;

    if (!newline)
        return 0;
    type = cog_strndup((const char *)bytes, (size_t)(newline - (const char *)bytes));
    n = len - (size_t)(newline + 1 - (const char *)bytes);
    body = cog_alloc(n ? n : 1, 1); /* of its own, so that a sanitizer sees its end */
    memcpy(body, newline + 1, n);
    if (cog_multipart_is_type(type) && cog_multipart_boundary(boundary, type) == 0) {
        REQUIRE(strlen(boundary) > 0 && strlen(boundary) <= COG_MULTIPART_MAX_BOUNDARY);
        rc = cog_multipart_parse(&m, body, n, boundary, &err);
        if (rc < 0) {
            fuzz_check_err(rc, &err);
        } else {
            check_parts(&m, body, n, boundary);
            check_again(&m, boundary);
        }
    }
    cog_free(body);
    cog_free(type);
    return 0;
}
