/* draw.c - what a step's draws need of the host: their checks, their place in the step buffer and
 * the tokens that come back. */
#include "engine/cuda/cuda.h"

#include <math.h>
#include <string.h>

static bool are_tokens_valid(const cog_backend *be, const int32_t *token, int n)
{
    for (int i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= be->model.vocab)
            return false;
    return true;
}

static bool is_draw_valid(const cog_backend *be, const cog_draw *d)
{
    const cog_sample_context *c = &d->context;
    const cog_sampling *p = d->params;

    for (int i = 0; i < p->n_bias; i++)
        if (!are_tokens_valid(be, &p->bias[i].token, 1))
            return false;
    return d->row >= 0 && d->row < be->batch->n_logits &&
           are_tokens_valid(be, c->prompt, c->n_prompt) &&
           are_tokens_valid(be, c->output, c->n_output) &&
           are_tokens_valid(be, c->masked, c->n_masked) &&
           are_tokens_valid(be, p->allowed, p->n_allowed);
}

static int count_bits(const uint64_t *bits, int n)
{
    int sum = 0;

    for (int i = 0; i < (n + 63) / 64; i++)
        sum += __builtin_popcountll(bits[i]);
    return sum;
}

/* Whether the tokens that may be drawn are listed, and not those that may not: the shorter list. */
static bool lists_allowed(const cog_backend *be, const cog_draw *d)
{
    const uint64_t *only = d->context.only;

    return d->params->n_allowed > 0 ||
           (only && 2 * count_bits(only, be->model.vocab) <= be->model.vocab);
}

/* The token's edit, which does nothing when it is new. NULL for a token that is not allowed. */
static cog_cuda_edit *edit_of(cog_backend *be, bool lists, int32_t token)
{
    uint64_t bit = UINT64_C(1) << (token % 64);

    if (be->has_edit[token / 64] & bit)
        return &be->edit[token];
    if (lists) /* those that are have their edits already */
        return NULL;
    be->has_edit[token / 64] |= bit;
    be->edit[token] = (cog_cuda_edit){ .token = token, .count = -1 };
    return &be->edit[token];
}

static void add_allowed(cog_backend *be, const cog_draw *d)
{
    const cog_sampling *p = d->params;
    const uint64_t *only = d->context.only;

    for (int i = 0; i < p->n_allowed; i++)
        edit_of(be, false, p->allowed[i]);
    for (int i = 0; only && i < (be->model.vocab + 63) / 64; i++)
        for (uint64_t left = only[i]; left; left &= left - 1)
            edit_of(be, false, i * 64 + __builtin_ctzll(left));
}

static void add_forbidden(cog_backend *be, const uint64_t *only)
{
    for (int32_t token = 0; only && token < be->model.vocab; token++)
        if (!(only[token / 64] >> (token % 64) & 1))
            edit_of(be, false, token)->bias = -INFINITY;
}

static void add_penalties(cog_backend *be, const cog_draw *d, bool lists)
{
    const cog_sampling *p = d->params;
    const cog_sample_context *c = &d->context;
    cog_cuda_edit *e;

    for (int i = 0; i < c->n_prompt && p->repetition_penalty != 1; i++) {
        e = edit_of(be, lists, c->prompt[i]);
        if (e)
            e->count = 0;
    }
    for (int i = 0; i < c->n_output; i++) {
        e = edit_of(be, lists, c->output[i]);
        if (e)
            e->count = e->count < 0 ? 1 : e->count + 1;
    }
}

static void add_biases(cog_backend *be, const cog_draw *d, bool lists)
{
    const cog_sampling *p = d->params;
    const cog_sample_context *c = &d->context;
    cog_cuda_edit *e;

    for (int i = 0; i < p->n_bias; i++) {
        e = edit_of(be, lists, p->bias[i].token);
        if (e)
            e->bias = p->bias[i].bias;
    }
    for (int i = 0; i < c->n_masked; i++) {
        e = edit_of(be, lists, c->masked[i]);
        if (e)
            e->bias = -INFINITY;
    }
}

/* The edits made, ascending; there are none afterwards. -1: no room. */
static int list_edits(cog_backend *be, cog_cuda_edit *out, int max)
{
    int n = 0, words = (be->model.vocab + 63) / 64;

    for (int i = 0; i < words; i++) {
        while (be->has_edit[i]) {
            if (n >= 0 && n < max)
                out[n++] = be->edit[i * 64 + __builtin_ctzll(be->has_edit[i])];
            else
                n = -1;
            be->has_edit[i] &= be->has_edit[i] - 1;
        }
    }
    return n;
}

/* How many entries d's edits take of out[max]; -1: no room. */
static int place_edits(cog_backend *be, const cog_draw *d, cog_cuda_edit *out, int max)
{
    const cog_sampling *p = d->params;
    bool lists = lists_allowed(be, d);

    if (lists)
        add_allowed(be, d);
    if (p->repetition_penalty != 1 || p->frequency_penalty != 0 || p->presence_penalty != 0)
        add_penalties(be, d, lists);
    add_biases(be, d, lists);
    if (!lists)
        add_forbidden(be, d->context.only);
    return list_edits(be, out, max);
}

/* Puts draws from `first` on into the step buffer, as many as fit: at least one. Sets n_draws;
 * returns the number of edits. */
static int place_draws(cog_backend *be, int first)
{
    const cog_batch *b = be->batch;
    cog_cuda_draw *draw = cog_cuda_host(be, be->at.draws);
    cog_cuda_edit *edit = cog_cuda_host(be, be->at.edits);
    int used = 0;

    be->n_draws = 0;
    for (int i = first; i < b->n_draws && be->n_draws < be->at.max_logits; i++) {
        const cog_draw *d = &b->draw[i];
        const cog_sampling *p = d->params;
        int n = place_edits(be, d, edit + used, be->at.max_edits - used);
        if (n < 0)
            break;
        draw[be->n_draws++] = (cog_cuda_draw){
            .row = d->row,
            .temperature = p->temperature,
            .top_p = p->top_p,
            .min_p = p->min_p,
            .top_k = p->top_k,
            .repetition = p->repetition_penalty,
            .frequency = p->frequency_penalty,
            .presence = p->presence_penalty,
            .bits = cog_sample_bits(p, d->context.choice, d->context.n_output),
            .first_edit = used,
            .n_edits = n,
            .only_edits = lists_allowed(be, d),
        };
        used += n;
    }
    return used;
}

/* The draws in the step buffer; waits. */
static int draw(cog_backend *be, int32_t *token)
{
    size_t bytes = (size_t)be->n_draws * sizeof(int32_t);
    cudaStream_t s = be->decoder.stream;
    int rc = cog_cuda_sample(s, be->cfg.dtype, (int32_t *)(void *)be->token, be->logits,
                             cog_cuda_ld(be->model.vocab), be->model.vocab,
                             cog_cuda_device(be, be->at.draws), cog_cuda_device(be, be->at.edits),
                             be->n_draws, (float *)(void *)be->scratch);

    if (rc == 0)
        rc = cog_cuda_check(
            cudaMemcpyAsync(be->host_token, be->token, bytes, cudaMemcpyDeviceToHost, s), "tokens");
    if (rc == 0)
        rc = cog_cuda_check(cudaEventRecord(be->drawn, s), "tokens");
    if (rc == 0)
        rc = cog_cuda_check(cudaEventSynchronize(be->drawn), "tokens");
    if (rc == 0)
        memcpy(token, be->host_token, bytes);
    return rc;
}

int cog_cuda_sample_step(cog_backend *be, int32_t *token)
{
    const cog_batch *b = be->batch;
    int rc = be->failed ? COG_EDEVICE : 0;

    for (int i = 0; i < b->n_draws && rc == 0; i++)
        if (!is_draw_valid(be, &b->draw[i]))
            return COG_EINVAL;
    if (rc == 0 && b->n_draws > 0) /* the beginning of the step may not be copied yet */
        rc = cog_cuda_check(cudaEventSynchronize(be->step_copied), "step");
    for (int first = 0; first < b->n_draws && rc == 0; first += be->n_draws) {
        int n = place_draws(be, first); /* the host has waited for what was there before */
        rc = cog_cuda_copy_step(be, be->at.draws, be->at.edits + (size_t)n * sizeof(cog_cuda_edit));
        if (rc == 0)
            rc = draw(be, token + first);
    }
    return cog_cuda_end(be, rc);
}
