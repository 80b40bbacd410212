#include "engine/sampler.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/sample_math.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    float logit;
    int32_t id;
    uint64_t weight; /* exp((logit - max) / temperature) * 2^40 */
} candidate;

struct cog_sampler {
    int vocab;
    float *logits;   /* [vocab] after mask, biases and penalties */
    int32_t *count;  /* [vocab] times in the output; all zero between calls */
    bool *seen;      /* [vocab] in prompt text or output; all false between calls */
    candidate *cand; /* [vocab] */
};

cog_sampler *cog_sampler_new(int vocab)
{
    cog_sampler *s = cog_new(cog_sampler);

    s->vocab = vocab;
    s->logits = cog_array(float, (size_t)vocab);
    s->count = cog_array(int32_t, (size_t)vocab);
    s->seen = cog_array(bool, (size_t)vocab);
    s->cand = cog_array(candidate, (size_t)vocab);
    return s;
}

void cog_sampler_free(cog_sampler *s)
{
    if (!s)
        return;
    cog_free(s->logits);
    cog_free(s->count);
    cog_free(s->seen);
    cog_free(s->cand);
    cog_free(s);
}

static void repeat(cog_sampler *s, int32_t id, float penalty)
{
    if (s->seen[id])
        return;
    s->seen[id] = true;
    s->logits[id] = cog_sample_repeat(s->logits[id], penalty);
}

static void penalise(cog_sampler *s, const cog_sampling *p, const cog_sample_context *ctx)
{
    if (p->repetition_penalty != 1) {
        for (int i = 0; i < ctx->n_prompt; i++)
            repeat(s, ctx->prompt[i], p->repetition_penalty);
        for (int i = 0; i < ctx->n_output; i++)
            repeat(s, ctx->output[i], p->repetition_penalty);
        for (int i = 0; i < ctx->n_prompt; i++)
            s->seen[ctx->prompt[i]] = false;
        for (int i = 0; i < ctx->n_output; i++)
            s->seen[ctx->output[i]] = false;
    }
    if (p->frequency_penalty != 0 || p->presence_penalty != 0) {
        for (int i = 0; i < ctx->n_output; i++)
            s->count[ctx->output[i]]++;
        for (int i = 0; i < ctx->n_output; i++) {
            int32_t id = ctx->output[i];
            if (s->count[id] > 0)
                s->logits[id] = cog_sample_occur(s->logits[id], p->frequency_penalty,
                                                 p->presence_penalty, s->count[id]);
            s->count[id] = 0;
        }
    }
}

static bool may_be_drawn(const uint64_t *only, int32_t token)
{
    return !only || only[token / 64] >> (token % 64) & 1;
}

/* The next tokens of which a mask has some, by its words: it has few as a rule, and a vocabulary
 * many. Without a mask that is all. *to is where those before ended, 0 at first. False: no more. */
static bool next_span(int *from, int *to, const uint64_t *only, int vocab)
{
    *from = *to;
    while (only && *from < vocab && only[*from / 64] == 0)
        *from += 64;
    *to = only && *from + 64 < vocab ? *from + 64 : vocab;
    return *from < vocab;
}

/* Leaves what is outside of the spans as it is: nobody looks there. */
static void copy_only(cog_sampler *s, const float *logits, const uint64_t *only)
{
    for (int i, to = 0; next_span(&i, &to, only, s->vocab);)
        for (; i < to; i++)
            s->logits[i] = may_be_drawn(only, i) ? logits[i] : -INFINITY;
}

/* The logits as the request wants them. */
static void adjust(cog_sampler *s, const float *logits, const cog_sampling *p,
                   const cog_sample_context *ctx)
{
    if (p->n_allowed > 0) {
        for (int i = 0; i < s->vocab; i++)
            s->logits[i] = -INFINITY;
        for (int i = 0; i < p->n_allowed; i++)
            if (may_be_drawn(ctx->only, p->allowed[i]))
                s->logits[p->allowed[i]] = logits[p->allowed[i]];
    } else if (ctx->only) {
        copy_only(s, logits, ctx->only);
    } else {
        memcpy(s->logits, logits, (size_t)s->vocab * sizeof(float));
    }
    for (int i = 0; i < ctx->n_masked; i++)
        s->logits[ctx->masked[i]] = -INFINITY;
    for (int i = 0; i < p->n_bias; i++) {
        float *logit = &s->logits[p->bias[i].token];
        *logit = cog_sample_bias(*logit, p->bias[i].bias);
    }
    penalise(s, p, ctx);
}

static int32_t argmax(const float *logits, const uint64_t *only, int n)
{
    float max = -INFINITY;
    int32_t best = -1;

    for (int from, to = 0; next_span(&from, &to, only, n);) {
        for (int i = from, end = to; i < end; i++) {
            if (logits[i] > max) { /* a NaN compares false and is never taken */
                max = logits[i];
                best = i;
            }
        }
    }
    return best;
}

static bool is_before(const candidate *x, const candidate *y)
{
    return x->logit != y->logit ? x->logit > y->logit : x->id < y->id;
}

/* heap[0, n) is a heap with the best candidate on top, but for what stands at `at`. */
static void sift_down(candidate *heap, int n, int at)
{
    candidate moving = heap[at];

    for (int child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_before(&heap[child + 1], &heap[child]))
            child++;
        if (!is_before(&heap[child], &moving))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

static int by_id(const void *a, const void *b)
{
    const candidate *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* How many of the n candidates before end, best last, reach the share of their total. */
static int take_share(const candidate *end, int n, uint64_t total, float share)
{
    uint64_t need = cog_sample_share(total, share), sum = 0;
    int kept = 0;

    while (kept < n && sum < need)
        sum += end[-++kept].weight;
    return kept;
}

/* Moves what top_k and top_p allow to the end of cand[0, n), best last, and returns how many. A
 * heap gives up its best as long as they are wanted: a vocabulary is much larger than what is kept
 * of it. */
static int take_best(candidate *cand, int n, const cog_sampling *p)
{
    bool is_cut = p->top_k > 0 && p->top_k < n;
    uint64_t total = 0, need = UINT64_MAX, sum = 0;
    int kept = 0;

    for (int i = n / 2 - 1; i >= 0; i--)
        sift_down(cand, n, i);
    for (int i = 0; i < n; i++)
        total += cand[i].weight;
    if (!is_cut && p->top_p < 1)
        need = cog_sample_share(total, p->top_p);
    while (kept < n && sum < need) {
        candidate best = cand[0];

        /* those equal to the k-th stay */
        if (is_cut && kept >= p->top_k && best.logit != cand[n - kept].logit)
            break;
        cand[0] = cand[n - 1 - kept];
        cand[n - 1 - kept++] = best;
        sift_down(cand, n - kept, 0);
        sum += best.weight;
    }
    /* top_p renormalises over what top_k kept */
    return is_cut && p->top_p < 1 ? take_share(cand + n, kept, sum, p->top_p) : kept;
}

static int32_t draw(cog_sampler *s, int32_t best, const cog_sampling *p,
                    const cog_sample_context *ctx)
{
    double inverse = 1 / (double)p->temperature;
    uint64_t total = 0, sum = 0, target;
    candidate *cand = s->cand;
    int n = 0, i = 0;

    for (int id, to = 0; next_span(&id, &to, ctx->only, s->vocab);) {
        for (; id < to; id++) {
            uint64_t weight = cog_sample_weight(s->logits[id], s->logits[best], inverse, p->min_p);
            if (weight > 0)
                cand[n++] = (candidate){ .logit = s->logits[id], .id = id, .weight = weight };
        }
    }
    if (p->top_k > 0 || p->top_p < 1) {
        int kept = take_best(cand, n, p);
        cand += n - kept;
        n = kept;
        qsort(cand, (size_t)n, sizeof(*cand), by_id);
    }
    for (int j = 0; j < n; j++)
        total += cand[j].weight;
    target = cog_sample_target(total, cog_sample_bits(p, ctx->choice, ctx->n_output));
    while ((sum += cand[i].weight) <= target)
        i++;
    return cand[i].id;
}

int cog_sampler_pick(cog_sampler *s, int32_t *token, const float *logits, const cog_sampling *p,
                     const cog_sample_context *ctx)
{
    int32_t best;

    adjust(s, logits, p, ctx);
    best = argmax(s->logits, ctx->only, s->vocab);
    if (best < 0 || s->logits[best] == INFINITY)
        return COG_EDEVICE;
    *token = cog_sampling_is_greedy(p) ? best : draw(s, best, p, ctx);
    return 0;
}
