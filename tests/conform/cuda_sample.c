/* The device draws what the CPU draws: the same token, always. Logits with many ties, with NaN and
 * infinities, options at their ends. */
#include "base/alloc.h"
#include "engine/sampler.h"
#include "tests/conform/cuda_ops.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DRAWS = 8, MAX_TEXT = 24, MAX_EDITS = 12 };

typedef struct sample_case {
    int vocab;
    device_array logits, draws, edits, token, scratch;
    cog_sampling sampling[DRAWS];
    int32_t text[DRAWS][2][MAX_TEXT]; /* prompt, output */
    int n_text[DRAWS][2];
    cog_logit_bias bias[DRAWS][MAX_EDITS];
    int32_t allowed[DRAWS][MAX_EDITS], masked[DRAWS][MAX_EDITS];
    int n_masked[DRAWS];
    cog_cuda_edit list[DRAWS * (2 * MAX_TEXT + 3 * MAX_EDITS)];
    int n_list;
} sample_case;

static float one_of(conform *c, const float *values, int n)
{
    return values[conform_between(c, 0, n - 1)];
}

/* How a row looks: a few values, a plain spread, spikes, all equal; then some that are not finite.
 */
static void fill_row(conform *c, device_array *logits, int row)
{
    int kind = conform_between(c, 0, 5), odd = conform_between(c, 0, 3);
    float spread = one_of(c, (const float[]){ 1, 4, 12, 30, 1e30f }, 5);

    for (int i = 0; i < logits->cols; i++) {
        float value = conform_random(c, spread);
        if (kind == 0)
            value = (float)conform_between(c, -3, 3) / 2;
        else if (kind == 1)
            value = conform_between(c, 0, logits->cols) < 3 ? 15 : conform_random(c, 1);
        else if (kind == 2)
            value = conform_between(c, 0, 1) ? 0.0f : -0.0f;
        if (odd == 0 && conform_between(c, 0, 9) == 0)
            value = one_of(c, (const float[]){ NAN, -INFINITY, -INFINITY, -3e38f }, 4);
        if (odd == 1 && conform_between(c, 0, 999) == 0)
            value = one_of(c, (const float[]){ INFINITY, NAN, 3e38f }, 3);
        if (odd == 2 && row % 5 == 4)
            value = i % 2 ? NAN : -INFINITY;
        device_set(c, logits, row, i, value);
    }
}

static cog_sampling options(conform *c, int vocab)
{
    cog_sampling p = { .temperature = 1, .top_p = 1, .repetition_penalty = 1 };

    p.seed = cog_rng_next(&c->rng);
    p.temperature = one_of(
        c,
        (const float[]){ 1, 0.7f, 2, 1e-5f, 1e-3f, 100, 0, 1, 0.1f + fabsf(conform_random(c, 2)) },
        9);
    if (conform_between(c, 0, 1))
        p.top_p = one_of(c, (const float[]){ 0.9f, 0.95f, 0.5f, 1e-7f, 0.99999994f, 0, 0.1f }, 7);
    if (conform_between(c, 0, 1))
        p.top_k =
            (int[]){ 1, 2, 5, 40, vocab - 1, vocab, vocab + 1, 1 << 30 }[conform_between(c, 0, 7)];
    if (conform_between(c, 0, 2) == 0)
        p.min_p = one_of(c, (const float[]){ 0.05f, 0.5f, 1, 1e-20f, 0.9f }, 5);
    if (conform_between(c, 0, 2) == 0)
        p.repetition_penalty = one_of(c, (const float[]){ 1.1f, 0.5f, 100, 1e-38f, 1.3f }, 5);
    if (conform_between(c, 0, 2) == 0)
        p.frequency_penalty = conform_random(c, 2);
    if (conform_between(c, 0, 2) == 0)
        p.presence_penalty = conform_random(c, 2);
    return p;
}

/* Ascending tokens of the vocabulary, at most max. */
static int some_tokens(conform *c, int32_t *out, int max, int vocab)
{
    int n = 0;

    for (int id = conform_between(c, 0, 3); id < vocab && n < max; id += conform_between(c, 1, 9))
        out[n++] = id;
    return n;
}

static void add_biases_and_masks(conform *c, sample_case *s, int draw)
{
    cog_sampling *p = &s->sampling[draw];
    int32_t token[MAX_EDITS];

    p->bias = s->bias[draw];
    p->allowed = s->allowed[draw];
    if (conform_between(c, 0, 2) == 0) {
        p->n_bias = some_tokens(c, token, MAX_EDITS, s->vocab);
        for (int i = 0; i < p->n_bias; i++)
            p->bias[i] =
                (cog_logit_bias){ token[i],
                                  one_of(c, (const float[]){ 100, -100, 0, 1.5f, -0.25f, 5 }, 6) };
    }
    if (conform_between(c, 0, 3) == 0)
        p->n_allowed = some_tokens(c, p->allowed, MAX_EDITS, s->vocab);
    if (conform_between(c, 0, 2) == 0)
        s->n_masked[draw] = some_tokens(c, s->masked[draw], MAX_EDITS, s->vocab);
}

/* The list of edits that kernels.h describes. */
static void add_edits(sample_case *s, int draw, cog_cuda_draw *d)
{
    const cog_sampling *p = &s->sampling[draw];
    bool has_penalties =
        p->repetition_penalty != 1 || p->frequency_penalty != 0 || p->presence_penalty != 0;

    d->first_edit = s->n_list;
    d->only_edits = p->n_allowed > 0;
    for (int id = 0; id < s->vocab; id++) {
        cog_cuda_edit e = { .token = id, .count = -1 };
        bool is_edit = false, is_allowed = p->n_allowed == 0;
        for (int i = 0; has_penalties && i < s->n_text[draw][0]; i++)
            if (s->text[draw][0][i] == id)
                e.count = 0;
        for (int i = 0; has_penalties && i < s->n_text[draw][1]; i++)
            if (s->text[draw][1][i] == id)
                e.count = e.count < 0 ? 1 : e.count + 1;
        for (int i = 0; i < p->n_bias; i++)
            if (p->bias[i].token == id) {
                e.bias = p->bias[i].bias;
                is_edit = true;
            }
        for (int i = 0; i < s->n_masked[draw]; i++)
            if (s->masked[draw][i] == id) {
                e.bias = -INFINITY;
                is_edit = true;
            }
        for (int i = 0; i < p->n_allowed; i++)
            is_allowed |= p->allowed[i] == id;
        if (is_allowed && (is_edit || e.count >= 0 || p->n_allowed > 0))
            s->list[s->n_list++] = e;
    }
    d->n_edits = s->n_list - d->first_edit;
}

static cog_sample_context context_of(const sample_case *s, int i)
{
    return (cog_sample_context){ .prompt = s->text[i][0],
                                 .n_prompt = s->n_text[i][0],
                                 .output = s->text[i][1],
                                 .n_output = s->n_text[i][1],
                                 .masked = s->masked[i],
                                 .n_masked = s->n_masked[i],
                                 .choice = i };
}

static void make(conform *c, sample_case *s)
{
    cog_cuda_draw draws[DRAWS] = { 0 };

    s->logits = device_new(c, DRAWS, s->vocab);
    for (int i = 0; i < DRAWS; i++) {
        cog_sampling *p = &s->sampling[i];
        fill_row(c, &s->logits, i);
        *p = options(c, s->vocab);
        add_biases_and_masks(c, s, i);
        for (int kind = 0; kind < 2; kind++) {
            s->n_text[i][kind] = conform_between(c, 0, MAX_TEXT);
            for (int t = 0; t < s->n_text[i][kind]; t++)
                s->text[i][kind][t] = conform_between(c, 0, s->vocab < 30 ? s->vocab - 1 : 29);
        }
        draws[i] = (cog_cuda_draw){ .row = DRAWS - 1 - i,
                                    .temperature = p->temperature,
                                    .top_p = p->top_p,
                                    .min_p = p->min_p,
                                    .top_k = p->top_k,
                                    .repetition = p->repetition_penalty,
                                    .frequency = p->frequency_penalty,
                                    .presence = p->presence_penalty,
                                    .bits = cog_sample_bits(p, i, s->n_text[i][1]) };
        add_edits(s, i, &draws[i]);
    }
    device_upload(c, &s->logits);
    s->draws = device_vector(c, sizeof(draws[0]), DRAWS, draws);
    s->edits = device_vector(c, sizeof(s->list[0]), (size_t)s->n_list, s->list);
    s->token = device_vector(c, sizeof(int32_t), DRAWS, NULL);
    s->scratch = device_vector(c, sizeof(float), cog_cuda_sample_scratch(s->vocab, DRAWS), NULL);
}

static void compare(conform *c, const sample_case *s)
{
    cog_sampler *sampler = cog_sampler_new(s->vocab);
    float *row = cog_array(float, (size_t)s->vocab);

    for (int i = 0; i < DRAWS; i++) {
        const cog_sampling *p = &s->sampling[i];
        cog_sample_context context = context_of(s, i);
        int32_t want = -1, got = ((const int32_t *)s->token.host)[i];
        for (int id = 0; id < s->vocab; id++)
            row[id] = device_get(c, &s->logits, DRAWS - 1 - i, id);
        if (cog_sampler_pick(sampler, &want, row, p, &context) != 0)
            want = -1;
        conform_shape(c,
                      "vocab %d, T %g, top_p %.9g, top_k %d, min_p %g, penalties %g %g %g, "
                      "%d biases, %d allowed, %d masked, draw %d",
                      s->vocab, (double)p->temperature, (double)p->top_p, p->top_k,
                      (double)p->min_p, (double)p->repetition_penalty, (double)p->frequency_penalty,
                      (double)p->presence_penalty, p->n_bias, p->n_allowed, s->n_masked[i], i);
        conform_near(c, (size_t)i, (float)got, (float)want, 0);
    }
    cog_free(row);
    cog_sampler_free(sampler);
}

static void run(conform *c, int vocab)
{
    sample_case *s = cog_new(sample_case);

    s->vocab = vocab;
    make(c, s);
    device_done(c, cog_cuda_sample(c->stream, c->dtype, s->token.data, s->logits.data, s->logits.ld,
                                   vocab, s->draws.data, s->edits.data, DRAWS, s->scratch.data));
    device_download(c, &s->token);
    device_download(c, &s->scratch);
    compare(c, s);
    device_array *all[] = { &s->logits, &s->draws, &s->edits, &s->token, &s->scratch };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        device_free(c, all[i]);
    cog_free(s);
}

/* Equal weights: the draw is a division, and what falls on a boundary belongs to the next token. */
static void run_boundaries(conform *c)
{
    enum { VOCAB = 64, N = 2 * VOCAB };
    device_array logits = device_new(c, 1, VOCAB), token = device_vector(c, 4, N, NULL);
    device_array scratch = device_vector(c, 4, cog_cuda_sample_scratch(VOCAB, N), NULL);
    cog_cuda_draw draw[N];

    conform_shape(c, "boundaries between %d equal tokens", VOCAB);
    for (int i = 0; i < VOCAB; i++)
        device_set(c, &logits, 0, i, 0.5f);
    for (int i = 0; i < N; i++)
        draw[i] = (cog_cuda_draw){ .temperature = 1,
                                   .top_p = 1,
                                   .repetition = 1,
                                   .bits = ((uint64_t)(i + 1) / 2 << 58) - (uint64_t)(i % 2) };
    device_array draws = device_vector(c, sizeof(draw[0]), N, draw);
    device_upload(c, &logits);
    device_done(c, cog_cuda_sample(c->stream, c->dtype, token.data, logits.data, logits.ld, VOCAB,
                                   draws.data, NULL, N, scratch.data));
    device_download(c, &token);
    for (int i = 0; i < N; i++)
        conform_near(c, (size_t)i, (float)((const int32_t *)token.host)[i], (float)(i / 2), 0);
    device_free(c, &logits);
    device_free(c, &token);
    device_free(c, &draws);
    device_free(c, &scratch);
}

void conform_cuda_sample(conform *c)
{
    device_done(c, cog_cuda_sample_prepare());
    run_boundaries(c);
    for (int vocab = 1; vocab < 20; vocab++)
        run(c, vocab);
    for (int i = 0; i < 120; i++)
        run(c, conform_between(c, 1, 700));
    for (int i = 0; i < 6; i++)
        run(c, conform_between(c, 3000, 6000));
    run(c, 32000);
    run(c, 128256);
}
