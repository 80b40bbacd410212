/* completion.h - the completion request: text, or tokens, to be continued as it is. Bytes of a body
 * in, a checked struct out. Pure, any thread. Responses are in completion_write.h. */
#ifndef COG_PROTO_COMPLETION_H
#define COG_PROTO_COMPLETION_H

#include "base/buf.h"
#include "proto/api_error.h"
#include "proto/json_scan.h"
#include "proto/params.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COG_COMPLETION_MAX_PROMPTS = 64,
    COG_COMPLETION_MAX_TOKENS = 16, /* of an answer, where the request does not say */
};

typedef struct cog_completion_options {
    const char *nonce; /* see json_scan.h */
    int max_n;
    int max_prompts; /* at most COG_COMPLETION_MAX_PROMPTS */
    int vocab;       /* token ids are below it */
    bool strict;     /* refuse unknown fields */
} cog_completion_options;

/* One of the prompts: text, or ids. */
typedef struct cog_completion_prompt {
    const char *text; /* NULL: tokens. Borrowed from the request */
    size_t text_len;
    int32_t *tokens; /* owned; each in [0, vocab) */
    int n_tokens;    /* >= 1 */
    char param[32];  /* where it stands, for errors: "prompt", "prompt[3]" */
} cog_completion_prompt;

typedef struct cog_completion {
    struct json_t *root; /* owns the borrowed strings */
    cog_json_scan scan;
    cog_params params;
    int64_t max_tokens; /* below 0: absent */
    bool echo;          /* the answer begins with the prompt */
    int64_t logprobs;   /* so many of the likeliest are told for each token; below 0: nothing */
    int64_t prompt_logprobs; /* the same of the prompt's, -1: 20; below: nothing */
    cog_completion_prompt *prompts;
    int n_prompts;   /* 1..max_prompts */
    cog_buf ignored; /* for x-ignored-parameters */
} cog_completion;

extern const cog_field_table cog_completion_fields; /* those beside cog_params_fields */

/* Understands a body, which must outlive the struct. Fails with COG_EINVAL and fills err; *out is
 * valid for fini after failure as well. */
int cog_completion_init(cog_completion *out, const char *body, size_t len,
                        const cog_completion_options *opt, cog_api_error *err);
void cog_completion_fini(cog_completion *c);

/* The output limit of each answer: 0 only where the prompt alone is asked back. */
int64_t cog_completion_max_tokens(const cog_completion *c);

#endif
