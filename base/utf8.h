/* utf8.h - UTF-8 as the Unicode Standard defines it (table 3-7: no overlong forms, no surrogates).
 */
#ifndef COG_BASE_UTF8_H
#define COG_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

bool cog_utf8_valid(const char *s, size_t len);

/* The length of the longest prefix that ends on a character boundary: what follows it is the valid
 * start of a character that is not complete yet. Bytes that can never become valid count as
 * characters of their own, so nothing is held back for ever. */
size_t cog_utf8_complete(const char *s, size_t len);

/* The characters of valid UTF-8; of a beginning of it, with one that is not whole. */
size_t cog_utf8_count(const char *s, size_t len);

/* Copies s to dst with each maximal invalid subpart replaced by U+FFFD, as a decoder does. dst has
 * room for 3 * len bytes. Returns the bytes written. */
size_t cog_utf8_sanitize(char *dst, const char *s, size_t len);

#endif
