/* logprob.h - how likely the model finds tokens: natural logarithms of the softmax over its logits
 * as they are, before mask, biases, penalties and temperature. Pure.
 *
 * The sum is over the sampler's integer weights (sample_math.h): equal logits give equal bits
 * whatever the order of adding them. A token of less than 2^-40 of the highest adds nothing to it,
 * which for 2^17 tokens is an error below 2^-23. */
#ifndef COG_ENGINE_LOGPROB_H
#define COG_ENGINE_LOGPROB_H

#include "engine/engine.h"

/* What all tokens of a row of logits have in common. */
typedef struct cog_logprob_row {
    float max;
    double log_sum; /* of the weights, which are relative to max */
} cog_logprob_row;

/* logits [vocab], one of them finite. */
cog_logprob_row cog_logprob_row_of(const float *logits, int vocab);
float cog_logprob_of(const cog_logprob_row *row, float logit);

/* Of the token, its rank too, and, likeliest first and of equal ones the lower id, of out->n_top of
 * all tokens: n_top, or as many as have a logit above -infinity. logits [vocab], one of them
 * finite. */
void cog_logprob_score(cog_scored_token *out, const float *logits, int vocab, int32_t token,
                       int n_top);

#endif
