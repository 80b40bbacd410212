/* alloc.h - the host allocator. Zeroes, aligns, and aborts when memory is out: a supervised server
 * gains nothing from limping on. What a client sizes is checked against a limit before it gets
 * here.
 *
 * Any thread. Free with cog_free (NULL is fine), also what cog_alloc_aligned returned. */
#ifndef COG_BASE_ALLOC_H
#define COG_BASE_ALLOC_H

#include <stddef.h>

void *cog_alloc(size_t n, size_t size);              /* n * size zeroed bytes; aborts on overflow */
void *cog_realloc(void *p, size_t n, size_t size);   /* new tail bytes are not zeroed */
void *cog_alloc_aligned(size_t bytes, size_t align); /* zeroed; align is a power of two >= 16 */
char *cog_strdup(const char *s);
char *cog_strndup(const char *s, size_t len);
char *cog_sprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), nonnull(1)));
void cog_free(void *p);

#define cog_new(type)      ((type *)cog_alloc(1, sizeof(type)))
#define cog_array(type, n) ((type *)cog_alloc((n), sizeof(type)))

/* The hot-path guard: between begin and end an allocation by the calling thread aborts with the
 * name, so that a step of the engine that starts to allocate is found at once. Does not nest. */
void cog_alloc_guard_begin(const char *name);
void cog_alloc_guard_end(void);

#endif
