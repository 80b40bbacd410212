#include "engine/logprob.h"

#include "engine/sample_math.h"

#include <math.h>

/* Puts the token into its place among the likeliest so far; logprob holds logits meanwhile. */
static void insert(cog_scored_token *out, int n_top, int32_t token, float logit)
{
    int at = out->n_top;

    if (at == n_top && (n_top == 0 || !(logit > out->top[at - 1].logprob)))
        return;
    at = at < n_top ? out->n_top++ : at - 1;
    for (; at > 0 && logit > out->top[at - 1].logprob; at--)
        out->top[at] = out->top[at - 1];
    out->top[at] = (cog_logprob){ token, logit };
}

cog_logprob_row cog_logprob_row_of(const float *logits, int vocab)
{
    cog_logprob_row row = { .max = -INFINITY };
    uint64_t sum = 0;

    for (int i = 0; i < vocab; i++)
        row.max = logits[i] > row.max ? logits[i] : row.max;
    for (int i = 0; i < vocab; i++)
        sum += cog_sample_exp((double)logits[i] - (double)row.max);
    row.log_sum = log(ldexp((double)sum, -COG_SAMPLE_BITS));
    return row;
}

float cog_logprob_of(const cog_logprob_row *row, float logit)
{
    return (float)((double)logit - (double)row->max - row->log_sum);
}

void cog_logprob_score(cog_scored_token *out, const float *logits, int vocab, int32_t token,
                       int n_top)
{
    cog_logprob_row row = cog_logprob_row_of(logits, vocab);

    *out = (cog_scored_token){ .self.token = token, .rank = 1 };
    for (int i = 0; i < vocab; i++) {
        out->rank += logits[i] > logits[token];
        if (logits[i] > -INFINITY) /* nor NaN */
            insert(out, n_top, i, logits[i]);
    }
    out->self.logprob = cog_logprob_of(&row, logits[token]);
    for (int i = 0; i < out->n_top; i++)
        out->top[i].logprob = cog_logprob_of(&row, out->top[i].logprob);
}
