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

static float log_of(float logit, float max, double log_sum)
{
    return (float)((double)logit - (double)max - log_sum);
}

void cog_logprob_score(cog_scored_token *out, const float *logits, int vocab, int32_t token,
                       int n_top)
{
    float max = -INFINITY;
    uint64_t sum = 0;
    double log_sum;

    *out = (cog_scored_token){ .self.token = token };
    for (int i = 0; i < vocab; i++) {
        if (!(logits[i] > -INFINITY)) /* nor NaN */
            continue;
        max = logits[i] > max ? logits[i] : max;
        insert(out, n_top, i, logits[i]);
    }
    out->rank = 1;
    for (int i = 0; i < vocab; i++) {
        sum += cog_sample_exp((double)logits[i] - (double)max);
        out->rank += logits[i] > logits[token];
    }
    log_sum = log(ldexp((double)sum, -COG_SAMPLE_BITS));
    out->self.logprob = log_of(logits[token], max, log_sum);
    for (int i = 0; i < out->n_top; i++)
        out->top[i].logprob = log_of(out->top[i].logprob, max, log_sum);
}
