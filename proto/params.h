/* params.h - what requests for text have in common, whatever they ask about: how to draw tokens,
 * when to stop, how to answer. One table of fields for all of them. Pure, any thread. */
#ifndef COG_PROTO_PARAMS_H
#define COG_PROTO_PARAMS_H

#include "proto/api_error.h"
#include "proto/field.h"
#include "proto/structured.h"
#include "proto/token_lists.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    COG_PARAMS_MAX_STOPS = 16,
    COG_PARAMS_MAX_STOP_LEN = 256,  /* bytes */
    COG_PARAMS_MAX_SALT_LEN = 1024, /* bytes */
};

#define COG_PARAMS_MAX_TOKENS 9007199254740992.0 /* clients send 2^32 - 1 for "no limit" */

/* Strings are borrowed from the request. */
typedef struct cog_params {
    const char *model, *user, *request_id, *cache_salt; /* NULL: absent */
    int64_t n_predict;                                  /* an output limit; 0: absent */
    double temperature, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty;
    int64_t top_k; /* <= 0: off */
    int64_t n;
    int64_t seed;
    bool has_seed;
    int64_t priority;  /* -100..100, smaller first */
    bool cache_prompt; /* may take from the caches and leave something there */
    bool stream, include_usage, continuous_usage, return_metrics;
    bool return_token_ids; /* where the route's own table has it */
    const char *stop[COG_PARAMS_MAX_STOPS];
    int n_stop;
    cog_token_lists tokens;
    cog_structured structured;
    int64_t min_tokens, min_new_tokens; /* 0: absent; the first that is not counts */
    bool keep_stop, no_stop_trim;       /* two names for one thing */
    bool ignore_eos, skip_special_tokens;
} cog_params;

extern const cog_params cog_params_defaults;
extern const cog_field_table cog_params_fields;

/* Reads them from a request; p has the defaults. max_n: the most choices that the server gives;
 * vocab: token ids are below it. Stops at the first error with COG_EINVAL. */
int cog_params_read(cog_params *p, const struct json_t *root, int max_n, int vocab,
                    cog_api_error *err);
void cog_params_fini(cog_params *p);

/* Whether text may name a request: [A-Za-z0-9._:-]{1,128}. */
bool cog_params_is_request_id(const char *text);

#endif
