/* logprob_write.h - how likely the tokens of an answer were, as OpenAI writes it: an entry for each
 * in a chat, four columns in a completion. Pure. */
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

/* The form of completions: tokens, token_logprobs, top_logprobs, text_offset. */
enum { COG_LOGPROB_COLUMNS = 4 };

/* Adds one more token to the columns, with an object of the n_top likeliest and itself; of tokens
 * that are written alike it has the likeliest. What is no UTF-8, or has a NUL, is written as
 * "bytes:\xe4".
 * offset: where its text begins, in characters. */
void cog_logprob_add_row(cog_buf *columns, const cog_logprob_token *token,
                         const cog_logprob_token *top, int n_top, size_t offset);

/* The value of "logprobs": an object with the columns, perhaps empty; null for NULL. */
void cog_logprob_write_columns(cog_buf *out, const cog_buf *columns);

#endif
