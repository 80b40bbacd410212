/* base64.h - base64 (RFC 4648, section 4) with a strict decoder: the standard alphabet and nothing
 * else, padding optional but right, unused bits zero. Pure, any thread. */
#ifndef COG_PROTO_BASE64_H
#define COG_PROTO_BASE64_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that dst of a decode of len characters must hold: never less than it writes. */
static inline size_t cog_base64_room(size_t len)
{
    return len / 4 * 3 + 3;
}

/* Writes the bytes to dst and their number to out_len; COG_EINVAL when src is not base64. Picks the
 * fastest variant that the processor has. */
int cog_base64_decode(uint8_t *dst, size_t *out_len, const char *src, size_t len);

/* The reference that every variant must equal. */
int cog_base64_decode_table(uint8_t *dst, size_t *out_len, const char *src, size_t len);

/* Adds the characters of the bytes, padded. */
void cog_base64_encode(cog_buf *out, const void *bytes, size_t len);

/* Whether cog_base64_decode uses AVX2 here. */
bool cog_base64_has_avx2(void);

#endif
