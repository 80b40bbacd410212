#include "base/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local const char *guard; /* name of the section that must not allocate */

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "level=error event=abort reason=\"%s %s\"\n", what, detail);
    abort();
}

static void check_guard(void)
{
    if (guard)
        die("allocation inside", guard);
}

static size_t product(size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes))
        die("allocation size", "overflow");
    return bytes ? bytes : 1;
}

void *cog_alloc(size_t n, size_t size)
{
    void *p;

    check_guard();
    p = calloc(1, product(n, size));
    if (!p)
        die("out of", "memory");
    return p;
}

void *cog_realloc(void *p, size_t n, size_t size)
{
    check_guard();
    p = realloc(p, product(n, size));
    if (!p)
        die("out of", "memory");
    return p;
}

void *cog_alloc_aligned(size_t bytes, size_t align)
{
    void *p;

    check_guard();
    if (posix_memalign(&p, align, product(bytes, 1)) != 0)
        die("out of", "memory");
    memset(p, 0, bytes);
    return p;
}

char *cog_strndup(const char *s, size_t len)
{
    char *copy = cog_alloc(len + 1, 1);

    memcpy(copy, s, len);
    return copy;
}

char *cog_strdup(const char *s)
{
    return cog_strndup(s, strlen(s));
}

char *cog_sprintf(const char *fmt, ...)
{
    va_list ap;
    char *text;
    int len;

    va_start(ap, fmt);
    len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    text = cog_alloc((size_t)len + 1, 1);
    va_start(ap, fmt);
    vsnprintf(text, (size_t)len + 1, fmt, ap);
    va_end(ap);
    return text;
}

void cog_free(void *p)
{
    free(p);
}

void cog_alloc_guard_begin(const char *name)
{
    guard = name;
}

void cog_alloc_guard_end(void)
{
    guard = NULL;
}
