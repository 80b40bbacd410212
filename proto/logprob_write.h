/* logprob_write.h - how likely the tokens of an answer were, as OpenAI writes it: an entry for each
 * in a chat, four columns in a completion. Pure. */
#ifndef COG_PROTO_LOGPROB_WRITE_H
#define COG_PROTO_LOGPROB_WRITE_H

#include "base/buf.h"

#include <stddef.h>

#define COG_LOGPROB_LEAST (-9999.0) /* what is below, as -infinity, is written as that */

typedef struct cog_logprob_token {
    const char *bytes; /* of its text, perhaps a part of a character; borrowed */
    size_t len;
    double logprob;
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

/* Adds the first token of a prompt, of which nothing is told. */
void cog_logprob_add_first(cog_buf *columns, const cog_logprob_token *token);

/* The value of "logprobs": an object with the columns, perhaps empty; null for NULL. */
void cog_logprob_write_columns(cog_buf *out, const cog_buf *columns);

/* One token of "prompt_logprobs", as vLLM has it: an object with an entry by the id of each. */
typedef struct cog_logprob_ranked {
    cog_logprob_token token;
    int id, rank;
} cog_logprob_ranked;

/* Adds one more to a list: the token itself, and the likeliest where they are others. */
void cog_logprob_add_ranked(cog_buf *list, const cog_logprob_ranked *self,
                            const cog_logprob_ranked *top, int n_top);

/* The value of "confidence": the mean of an answer's n_tokens log-probabilities, whose sum is sum
 * (null for none), and where n_choices > 0 for each text that might have been the answer its
 * log-probability and its share of the probability of them all. */
void cog_logprob_write_confidence(cog_buf *out, double sum, int n_tokens, char *const *choice,
                                  const double *logprob, int n_choices);

#endif
