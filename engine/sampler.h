/* sampler.h - logits -> one token. Pure: equal inputs give equal tokens, whatever else the engine
 * does.
 *
 * Order: the mask; biases; repetition, frequency and presence penalties; then, when sampling is
 * greedy, the highest logit (lowest id on ties); otherwise division by the temperature, min_p,
 * top_k, top_p and a draw.
 *
 * - mask: a token that is masked, or not allowed where only some are, has no logit. Whoever masks
 *   leaves one.
 * - bias: is added to the logit.
 * - repetition (Keskar et al., "CTRL", 2019): a logit of a token seen in prompt text or output is
 *   divided by the penalty when positive, multiplied when negative; the result stays finite.
 * - frequency: minus the penalty times how often the token stands in the output.
 * - presence: minus the penalty once if it does.
 * - weights: exp((logit - highest) / temperature) * 2^40 as an integer; below that is 0, and such a
 *   token is never drawn. Integers, because their sums are the same in any order: a device that
 *   draws in parallel gives the token that sampler.c gives (sample_math.h).
 * - min_p: keeps tokens with p >= min_p * max p.
 * - top_k: keeps the k highest logits, and those equal to the k-th.
 * - top_p (Holtzman et al., 2020): keeps the smallest set of most likely tokens whose probability,
 *   renormalised over what min_p and top_k kept, reaches top_p; ties by lower id; at least one; 1
 *   keeps all.
 * - draw: the first kept token in order of id at which the running sum of weights exceeds
 *   u * total, rounded down; u = cog_sample_bits / 2^64. */
#ifndef COG_ENGINE_SAMPLER_H
#define COG_ENGINE_SAMPLER_H

#include "base/rng.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stdint.h>

/* True when no random number is drawn: equal choices may be computed once. */
static inline bool cog_sampling_is_greedy(const cog_sampling *p)
{
    return p->temperature < 1e-5f || p->top_p == 0;
}

/* The random number of a draw, from a counter-based generator keyed by (seed, choice); its counter
 * is the index of the token in the answer. */
static inline uint64_t cog_sample_bits(const cog_sampling *p, int choice, int index)
{
    return cog_rng_at(cog_rng_at(p->seed, (uint64_t)choice), (uint64_t)index);
}

/* Scratch memory for one vocabulary; one thread at a time. */
typedef struct cog_sampler cog_sampler;

cog_sampler *cog_sampler_new(int vocab);
void cog_sampler_free(cog_sampler *s); /* NULL is fine */

typedef struct cog_sample_context {
    const int32_t *prompt; /* text tokens of the prompt: without BOS and picture placeholders */
    int n_prompt;
    const int32_t *output; /* tokens of the answer so far; the new one has index n_output */
    int n_output;
    const int32_t *masked; /* tokens that must not be drawn now */
    int n_masked;
    const uint64_t *only; /* bits [vocab]: no others are drawn; NULL: all may be */
    int choice;
} cog_sample_context;

/* Writes the token to *token. logits [vocab] are left as they are. COG_EDEVICE when no logit is
 * finite. */
int cog_sampler_pick(cog_sampler *s, int32_t *token, const float *logits, const cog_sampling *p,
                     const cog_sample_context *ctx);

#endif
