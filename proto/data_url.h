/* data_url.h - data: URLs (RFC 2397) that carry a picture in base64. Pure. */
#ifndef COG_PROTO_DATA_URL_H
#define COG_PROTO_DATA_URL_H

#include <stdbool.h>
#include <stddef.h>

typedef enum cog_url_kind {
    COG_URL_DATA,       /* data:[type][;param...];base64,... */
    COG_URL_NOT_BASE64, /* data: without ;base64 */
    COG_URL_NOT_IMAGE,  /* data: of a declared type that is no picture */
    COG_URL_WEB,        /* http: or https: */
    COG_URL_FILE,       /* file: */
    COG_URL_OTHER,      /* another scheme */
    COG_URL_BARE,       /* no scheme: perhaps base64 alone */
} cog_url_kind;

/* What a picture's url is. For COG_URL_DATA and COG_URL_BARE *payload and *payload_len give the
 * base64 characters, a view of url; they are not checked. The declared type is not trusted: it may
 * be empty, image/anything or application/octet-stream. */
cog_url_kind cog_data_url_split(const char **payload, size_t *payload_len, const char *url,
                                size_t len);

#endif
