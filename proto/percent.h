/* percent.h - %XX in addresses (RFC 3986, section 2.1). Pure. */
#ifndef COG_PROTO_PERCENT_H
#define COG_PROTO_PERCENT_H

#include <stddef.h>

/* The byte, 0 to 255, that the first three of text's len bytes stand for; -1: they are no %XX. */
int cog_percent_byte(const char *text, size_t len);

#endif
