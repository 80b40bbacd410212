/* head.h - one pass over a request's header fields: what the server wants to know, and what it must
 * refuse because two programs could read it in two ways (request smuggling). Pure. */
#ifndef COG_SERVER_HEAD_H
#define COG_SERVER_HEAD_H

#include "proto/api_error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COG_HEAD_MAX_BYTES = 16384,
    COG_HEAD_MAX_FIELDS = 100,
    COG_HEAD_MAX_TARGET = 8192,
};

typedef struct cog_head {
    const char *method, *version;
    int n_fields, n_content_length, n_transfer_encoding, n_host, n_authorization;
    bool is_broken;  /* a name or value with bytes that have no business there */
    bool has_coding; /* a transfer coding other than chunked */
    bool expects_100;
    uint64_t content_length;
    const char *content_type, *content_encoding, *authorization, *request_id; /* borrowed */
    int n_traceparent;
    const char *traceparent, *objective, *fairness; /* borrowed: of a trace, of a gateway */
    int n_origin;
    const char *origin, *cors_method, *cors_fields; /* borrowed: of a browser; NULL: absent */
    int n_retries; /* that an SDK says it has made; 0: the first try, or not said */
    size_t bytes;  /* of the whole head */
} cog_head;

/* Takes one field. value is NUL-terminated at value_len or before it (then it holds a NUL). */
void cog_head_add(cog_head *h, const char *name, size_t name_len, const char *value,
                  size_t value_len);

/* Framing and size: an error here closes the connection. target is as the client sent it. */
int cog_head_check(const cog_head *h, const char *target, cog_api_error *err);

/* Whether a body follows. */
bool cog_head_has_body(const cog_head *h);

/* Content-Type, Content-Encoding and the presence of a length, of a request with a JSON body. */
int cog_head_check_json(const cog_head *h, cog_api_error *err);

/* The same of one with a form's body. */
int cog_head_check_form(const cog_head *h, cog_api_error *err);

#endif
