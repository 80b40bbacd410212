/* openapi_text.h - the parts of the OpenAPI document that no table of the code has. JSON here has '
 * in the place of ", and so no apostrophes, and @Name in the place of a reference to a schema. */
#ifndef COG_PROTO_OPENAPI_TEXT_H
#define COG_PROTO_OPENAPI_TEXT_H

#include "proto/field.h"

#include <stdbool.h>

typedef struct cog_openapi_operation {
    const char *path, *id, *summary;
    const char *request;   /* name of its body's schema; NULL: has none */
    const char *response;  /* of its answer's; NULL: another type */
    const char *type;      /* that type; NULL: plain text */
    const char *query;     /* its parameters, with commas between them; NULL: it has none */
    bool is_delete;        /* its method; else it is POST where there is a request, or GET */
    const char *chunk;     /* of a stream's events; NULL: does not stream */
    bool has_named_events; /* the stream's events have names, errors are among the chunks */
    const char *unready;   /* of a 503 that is no error of the API; NULL: there is none */
    bool has_model;        /* 404 when it is another one, as for every address with an id */
} cog_openapi_operation;

typedef struct cog_openapi_request {
    const char *name;
    const cog_field_table *tables[2]; /* the second may be NULL */
    const char *more;                 /* members of its schema, each with a comma before it */
    bool has_one_choice;              /* n is 1 */
    bool takes_unknown;               /* also on a server that refuses unknown fields elsewhere */
} cog_openapi_request;

typedef struct cog_openapi_schema {
    const char *name, *text;
} cog_openapi_schema;

extern const cog_openapi_operation cog_openapi_operations[]; /* the last has no path */
extern const cog_openapi_request cog_openapi_requests[];     /* the last has no name */
extern const char cog_openapi_description[];
extern const cog_openapi_schema cog_openapi_schemas[]; /* the last has no name */
extern const char cog_openapi_headers[];               /* members of components.headers */

#endif
