/* token_lists.h - what a request says of single tokens, by their ids. Pure. */
#ifndef COG_PROTO_TOKEN_LISTS_H
#define COG_PROTO_TOKEN_LISTS_H

#include "proto/api_error.h"

#include <stdint.h>

struct json_t;

enum { COG_MAX_TOKEN_BIASES = 1024, COG_MAX_TOKEN_STOPS = 64 };

typedef struct cog_token_bias {
    int32_t token;
    float bias; /* -100..100 */
} cog_token_bias;

typedef struct cog_token_lists {
    cog_token_bias *bias; /* owned; ascending by token, each once */
    int n_bias;
    int32_t *allowed; /* owned; ascending, each once */
    int n_allowed;    /* 0: all */
    int32_t stop[COG_MAX_TOKEN_STOPS];
    int n_stop;
} cog_token_lists;

/* logit_bias, stop_token_ids and allowed_token_ids of a body whose fields have their types already.
 * Every id is in [0, vocab). On failure, COG_EINVAL, *out is as valid for fini. */
int cog_token_lists_read(cog_token_lists *out, const struct json_t *root, int vocab,
                         cog_api_error *err);
void cog_token_lists_fini(cog_token_lists *t);

#endif
