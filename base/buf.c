#include "base/buf.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void cog_buf_fini(cog_buf *b)
{
    cog_free(b->data);
    *b = (cog_buf){ 0 };
}

void cog_buf_clear(cog_buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

void cog_buf_reserve(cog_buf *b, size_t extra)
{
    size_t need = b->len + extra + 1;
    size_t cap = b->cap ? b->cap : 64;

    if (need <= b->cap)
        return;
    while (cap < need)
        cap *= 2;
    b->data = cog_realloc(b->data, cap, 1);
    b->cap = cap;
    b->data[b->len] = '\0';
}

void cog_buf_add(cog_buf *b, const void *bytes, size_t len)
{
    cog_buf_reserve(b, len);
    if (len)
        memcpy(b->data + b->len, bytes, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void cog_buf_puts(cog_buf *b, const char *s)
{
    cog_buf_add(b, s, strlen(s));
}

void cog_buf_printf(cog_buf *b, const char *fmt, ...)
{
    va_list ap;
    int len;

    va_start(ap, fmt);
    len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    assert(len >= 0);
    cog_buf_reserve(b, (size_t)len);
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)len + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)len;
}

void cog_buf_drop(cog_buf *b, size_t len)
{
    assert(len <= b->len);
    if (len == 0)
        return;
    memmove(b->data, b->data + len, b->len - len + 1);
    b->len -= len;
}

char *cog_buf_detach(cog_buf *b, size_t *out_len)
{
    char *data;

    cog_buf_reserve(b, 0);
    data = b->data;
    if (out_len)
        *out_len = b->len;
    *b = (cog_buf){ 0 };
    return data;
}

int cog_buf_add_file(cog_buf *b, const char *path, size_t max, cog_err *err)
{
    size_t start = b->len, n;
    char chunk[4096];
    FILE *f = fopen(path, "rbe");
    int failed;

    if (!f)
        return cog_err_set(err, COG_EIO, "cannot open %s: %s", path, strerror(errno));
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0 && b->len - start <= max)
        cog_buf_add(b, chunk, n);
    failed = ferror(f) ? errno : 0;
    fclose(f);
    if (failed)
        return cog_err_set(err, COG_EIO, "cannot read %s: %s", path, strerror(failed));
    if (b->len - start > max)
        return cog_err_set(err, COG_ELIMIT, "%s is larger than %zu KiB", path, max / 1024);
    return 0;
}
