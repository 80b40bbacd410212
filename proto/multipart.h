/* multipart.h - bodies of multipart/form-data (RFC 7578), as HTML forms and SDKs send files. Pure.
 *
 *     --boundary CRLF  headers CRLF  CRLF  bytes CRLF  --boundary CRLF ... CRLF  --boundary--
 * [CRLF]
 *
 * Nothing but parts is taken: no text before the first or behind the last, no nested parts, no
 * transfer encodings. */
#ifndef COG_PROTO_MULTIPART_H
#define COG_PROTO_MULTIPART_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    COG_MULTIPART_MAX_PARTS = 16,
    COG_MULTIPART_MAX_HEADERS = 4096, /* bytes of one part's */
    COG_MULTIPART_MAX_BOUNDARY = 70,
    COG_MULTIPART_MAX_NAME = 63,      /* bytes */
    COG_MULTIPART_MAX_FILENAME = 255, /* bytes */
};

typedef struct cog_multipart_part {
    char name[COG_MULTIPART_MAX_NAME + 1];         /* UTF-8 without control characters */
    char filename[COG_MULTIPART_MAX_FILENAME + 1]; /* as name; has_filename: it was given */
    bool has_filename;
    const char *data; /* a view of the body */
    size_t len;
} cog_multipart_part;

typedef struct cog_multipart {
    cog_multipart_part part[COG_MULTIPART_MAX_PARTS];
    int n;
} cog_multipart;

/* Whether a Content-Type says multipart/form-data, whatever its parameters are. NULL: it does not.
 */
bool cog_multipart_is_type(const char *content_type);

/* The boundary of such a type. COG_EINVAL: it has none, or one that is not allowed. */
int cog_multipart_boundary(char dst[COG_MULTIPART_MAX_BOUNDARY + 1], const char *content_type);

/* Finds the parts. body outlives out. COG_EINVAL, COG_ELIMIT: too many or too long; err is fit for
 * a client and holds none of its bytes. What out then holds is undefined. */
int cog_multipart_parse(cog_multipart *out, const char *body, size_t len, const char *boundary,
                        cog_err *err);

#endif
