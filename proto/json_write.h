/* json_write.h - text into JSON strings. Pure. */
#ifndef COG_PROTO_JSON_WRITE_H
#define COG_PROTO_JSON_WRITE_H

#include "base/buf.h"

#include <stddef.h>

/* Adds text as the inside of a JSON string: quotes, backslashes and control characters escaped.
 * Bytes that are not UTF-8 become U+FFFD, so the result always parses. */
void cog_json_write_text(cog_buf *out, const char *text, size_t len);

/* The same with the quotes around it; NULL writes null. */
void cog_json_write_string(cog_buf *out, const char *text);

#endif
