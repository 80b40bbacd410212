/* buf.h - a growable byte buffer. The bytes are always followed by a NUL that len does not count.
 */
#ifndef COG_BASE_BUF_H
#define COG_BASE_BUF_H

#include "base/err.h"

#include <stddef.h>

typedef struct cog_buf {
    char *data; /* owned; NULL while nothing was added */
    size_t len, cap;
} cog_buf; /* zero-initialised is empty and valid */

void cog_buf_fini(cog_buf *b);  /* frees the bytes; b is empty and valid after */
void cog_buf_clear(cog_buf *b); /* len 0, memory kept */
void cog_buf_reserve(cog_buf *b, size_t extra);
void cog_buf_add(cog_buf *b, const void *bytes, size_t len);
void cog_buf_puts(cog_buf *b, const char *s);
void cog_buf_printf(cog_buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), nonnull(2)));
void cog_buf_drop(cog_buf *b, size_t len); /* removes the first len bytes; len <= b->len */
char *cog_buf_detach(cog_buf *b,
                     size_t *out_len); /* the bytes become the caller's; out_len may be NULL */

/* The bytes as a string; "" while nothing was added. */
static inline const char *cog_buf_text(const cog_buf *b)
{
    return b->data ? b->data : "";
}

/* Adds a small file's bytes. COG_EIO, or COG_ELIMIT when it has more than max; the text names it.
 */
int cog_buf_add_file(cog_buf *b, const char *path, size_t max, cog_err *err);

#endif
