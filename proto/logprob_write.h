/* logprob_write.h - how likely the tokens of an answer were, as OpenAI writes it. Pure. */
#ifndef COG_PROTO_LOGPROB_WRITE_H
#define COG_PROTO_LOGPROB_WRITE_H

#include "base/buf.h"

#include <stddef.h>

typedef struct cog_logprob_token {
    const char *bytes; /* of its text, perhaps a part of a character; borrowed */
    size_t len;
    double logprob; /* below -9999, as -infinity is, it is written as that: JSON has no infinity */
} cog_logprob_token;

/* Adds one more token to a list of entries, with the n_top likeliest in its place. */
void cog_logprob_add(cog_buf *entries, const cog_logprob_token *token, const cog_logprob_token *top,
                     int n_top);

/* The value of "logprobs": an object with the entries, perhaps none; null for NULL. */
void cog_logprob_write(cog_buf *out, const cog_buf *entries);

#endif
