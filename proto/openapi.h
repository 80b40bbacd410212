/* openapi.h - the description of the API as an OpenAPI 3.1 document. Requests come from the tables
 * that read them (field.h), errors from api_error.h's, addresses from the server's routes; what no
 * table has (messages, answers, what an address is for) is in openapi_text.c. Pure. */
#ifndef COG_PROTO_OPENAPI_H
#define COG_PROTO_OPENAPI_H

#include "base/buf.h"

#include <stdbool.h>

typedef struct cog_openapi_route {
    char path[64];                                                  /* "/v1/models/{id}" */
    bool is_post, is_form, is_delete, is_open, is_limited, is_work; /* is_form: beside is_post */
} cog_openapi_route;

/* What a server says of itself. */
typedef struct cog_openapi_server {
    const char *version;
    const cog_openapi_route *routes; /* one that openapi_text.c does not know is left out */
    int n_routes;
    int max_n;       /* choices of one request */
    int vocab;       /* 0: not known yet */
    bool has_keys;   /* asks for one where a route is not open */
    bool has_strict; /* refuses unknown fields */
} cog_openapi_server;

void cog_openapi_write(cog_buf *out, const cog_openapi_server *s);

/* The addresses that are described, from 0; NULL behind the last. */
const char *cog_openapi_path(int i);

#endif
