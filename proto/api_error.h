/* api_error.h - the errors of the API: code, type, HTTP status and body. Pure.
 *
 * Clients and gateways classify errors by code, type and by words in the text, so all three are
 * part of the contract. A client's own text is quoted at most once, through cog_api_quote. */
#ifndef COG_PROTO_API_ERROR_H
#define COG_PROTO_API_ERROR_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum cog_api_code {
    COG_API_NONE,
    COG_API_BAD_REQUEST, /* not acceptable HTTP; the connection closes */
    COG_API_INVALID_JSON,
    COG_API_INVALID_FORM,
    COG_API_MISSING,
    COG_API_INVALID_TYPE,
    COG_API_INVALID_VALUE,
    COG_API_INTEGER_BELOW,
    COG_API_INTEGER_ABOVE,
    COG_API_DECIMAL_BELOW,
    COG_API_DECIMAL_ABOVE,
    COG_API_STRING_LONG,
    COG_API_ARRAY_LONG,
    COG_API_ARRAY_EMPTY,
    COG_API_UNSUPPORTED_PARAMETER,
    COG_API_UNSUPPORTED_VALUE,
    COG_API_UNKNOWN_PARAMETER,
    COG_API_CONTEXT_LENGTH,
    COG_API_INVALID_SCHEMA,
    COG_API_INVALID_GRAMMAR,
    COG_API_SCHEMA_COMPLEX,
    COG_API_TOO_MANY_IMAGES,
    COG_API_IMAGE_URL,
    COG_API_IMAGE_BASE64,
    COG_API_IMAGE_EMPTY,
    COG_API_IMAGE_FILE_SIZE,
    COG_API_IMAGE_MEDIA_TYPE,
    COG_API_IMAGE_BROKEN,
    COG_API_IMAGE_TOO_LARGE,
    COG_API_IMAGE_TOO_SMALL,
    COG_API_IMAGE_DOWNLOAD,       /* and will not be downloaded the next time */
    COG_API_IMAGE_DOWNLOAD_LATER, /* may be, the next time */
    COG_API_IMAGE_FILE_NOT_FOUND, /* a request for an answer names it */
    COG_API_FILES_FULL,
    COG_API_INVALID_KEY,
    COG_API_MODEL_NOT_FOUND,
    COG_API_UNKNOWN_URL,
    COG_API_FILE_NOT_FOUND,
    COG_API_METHOD,
    COG_API_REQUEST_TIMEOUT,
    COG_API_LENGTH_REQUIRED,
    COG_API_BODY_TOO_LARGE,
    COG_API_CONTENT_TYPE,
    COG_API_CONTENT_ENCODING,
    COG_API_RATE_LIMIT,
    COG_API_HEADERS_TOO_LARGE,
    COG_API_INTERNAL,
    COG_API_QUARANTINED, /* this input made a worker fail before */
    COG_API_OVERLOADED,
    COG_API_LOADING,
    COG_API_DRAINING,
    COG_API_DEADLINE,
    COG_API_N_CODES,
} cog_api_code;

enum { COG_API_QUOTE = 160 }; /* bytes that cog_api_quote needs */

typedef struct cog_api_error {
    cog_api_code code; /* COG_API_NONE: no error */
    char param[128];   /* path of the field, as messages[2].content[0].image_url.url; "": none */
    char message[640];
    int retry_after_ms; /* 0: no Retry-After */
} cog_api_error;

/* Fills e and returns COG_EINVAL, so that `return cog_api_error_set(...)` reads well. param may be
 * NULL. A message or param beyond its buffer is cut on a character boundary. */
int cog_api_error_set(cog_api_error *e, cog_api_code code, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

int cog_api_error_status(cog_api_code code);        /* HTTP status */
const char *cog_api_error_name(cog_api_code code);  /* the `code` member, "invalid_json" */
const char *cog_api_error_type(cog_api_code code);  /* the `type` member */
const char *cog_api_error_retry(cog_api_code code); /* value of x-should-retry, or NULL */

/* {"error":{"message":...,"type":...,"param":...,"code":...}} */
void cog_api_error_write(cog_buf *out, const cog_api_error *e);

/* A client's text for a message: in single quotes, cut to 64 bytes on a character boundary, control
 * characters escaped. Returns dst, which holds COG_API_QUOTE bytes. */
char *cog_api_quote(char *dst, const char *text, size_t len);

#endif
