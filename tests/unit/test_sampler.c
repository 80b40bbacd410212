#include "tests/unit/unit.h"

#include "base/rng.h"
#include "engine/sample_math.h"
#include "engine/sampler.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 64 };

static const cog_sampling neutral = { .temperature = 1, .top_p = 1, .repetition_penalty = 1 };

static int32_t pick(const float *logits, cog_sampling p, const cog_sample_context *ctx)
{
    cog_sampler *s = cog_sampler_new(VOCAB);
    int32_t token = -1;

    assert_int_equal(cog_sampler_pick(s, &token, logits, &p, ctx), 0);
    cog_sampler_free(s);
    return token;
}

static void fill(float *logits, float value)
{
    for (int i = 0; i < VOCAB; i++)
        logits[i] = value;
}

static void greedy_takes_the_lowest_id_on_ties(void **state)
{
    cog_sample_context ctx = { 0 };
    cog_sampling p = neutral;
    float logits[VOCAB];

    fill(logits, 1);
    logits[9] = logits[7] = 2;
    p.temperature = 0;
    assert_int_equal(pick(logits, p, &ctx), 7);
    p.temperature = 1;
    p.top_p = 0;
    assert_int_equal(pick(logits, p, &ctx), 7);
}

static void penalties_follow_their_definitions(void **state)
{
    static const int32_t prompt[] = { 3 }, output[] = { 5, 5, 6 };
    cog_sample_context ctx = { .prompt = prompt, .n_prompt = 1, .output = output, .n_output = 3 };
    cog_sampling p = neutral;
    float logits[VOCAB];

    p.temperature = 0;
    fill(logits, -10);
    logits[3] = 2;    /* halved: 1 */
    logits[4] = 1.5f; /* not seen */
    p.repetition_penalty = 2;
    assert_int_equal(pick(logits, p, &ctx), 4);
    logits[4] = 0.9f;
    assert_int_equal(pick(logits, p, &ctx), 3);

    fill(logits, -10);
    logits[3] = -1; /* doubled: -2 */
    logits[4] = -1.5f;
    assert_int_equal(pick(logits, p, &ctx), 4);

    p.repetition_penalty = 1;
    p.frequency_penalty = 0.5f;
    fill(logits, -10);
    logits[3] = 0.9f; /* in the prompt only: untouched */
    logits[5] = 2;    /* twice: 1 */
    logits[6] = 1.2f; /* once: 0.7 */
    assert_int_equal(pick(logits, p, &ctx), 5);
    logits[5] = 1.85f; /* 0.85 */
    assert_int_equal(pick(logits, p, &ctx), 3);

    p.frequency_penalty = 0;
    p.presence_penalty = 0.5f;
    logits[5] = 1.45f; /* once, although it stands twice: 0.95 */
    assert_int_equal(pick(logits, p, &ctx), 5);
}

/* Draws many times and returns how often each token came. */
static void histogram(int *count, const float *logits, cog_sampling p, int draws)
{
    cog_sampler *s = cog_sampler_new(VOCAB);
    cog_sample_context ctx = { 0 };

    memset(count, 0, VOCAB * sizeof(*count));
    for (int i = 0; i < draws; i++) {
        int32_t token;
        p.seed = (uint64_t)i;
        assert_int_equal(cog_sampler_pick(s, &token, logits, &p, &ctx), 0);
        count[token]++;
    }
    cog_sampler_free(s);
}

static void biases_come_before_penalties(void **state)
{
    static const int32_t output[] = { 5 };
    cog_logit_bias bias[] = { { 3, -100 }, { 5, 1 }, { 7, 100 } };
    cog_sample_context ctx = { .output = output, .n_output = 1 };
    cog_sampling p = neutral;
    float logits[VOCAB];

    p.temperature = 0;
    p.bias = bias;
    p.n_bias = 3;
    fill(logits, -10);
    logits[3] = 80; /* banned */
    logits[4] = 50;
    assert_int_equal(pick(logits, p, &ctx), 7); /* 90 */
    logits[4] = 90.5f;
    assert_int_equal(pick(logits, p, &ctx), 4);

    p.n_bias = 2;
    fill(logits, -10);
    p.repetition_penalty = 2;
    logits[5] = -0.5f; /* 0.5, halved 0.25; the other way round it would be 0 */
    logits[6] = 0.2f;
    assert_int_equal(pick(logits, p, &ctx), 5);
}

static void a_bias_moves_probabilities(void **state)
{
    cog_logit_bias bias[] = { { 8, logf(2) } };
    float logits[VOCAB];
    int count[VOCAB];
    cog_sampling p = neutral;

    fill(logits, -INFINITY);
    logits[8] = logits[9] = 1;
    p.bias = bias;
    p.n_bias = 1;
    histogram(count, logits, p, 9000); /* two thirds: five deviations are 224 */
    assert_true(abs(count[8] - 6000) < 224);
    assert_int_equal(count[8] + count[9], 9000);
}

static void what_is_masked_is_not_drawn(void **state)
{
    static const int32_t masked[] = { 7, 9, 9 };
    int32_t allowed[] = { 2, 7, 11 };
    cog_logit_bias bias[] = { { 4, 100 }, { 7, 100 }, { 11, -50 } };
    cog_sample_context ctx = { .masked = masked, .n_masked = 3 };
    cog_sampling p = neutral;
    float logits[VOCAB];

    p.temperature = 0;
    fill(logits, 0);
    logits[7] = 30;
    logits[9] = 20;
    logits[1] = 10;
    assert_int_equal(pick(logits, p, &ctx), 1);
    p.bias = bias; /* brings back neither 7, which is masked, */
    p.n_bias = 3;
    p.allowed = allowed; /* nor 4, which is not allowed */
    p.n_allowed = 3;
    assert_int_equal(pick(logits, p, &ctx), 2);
    logits[2] = -60;
    assert_int_equal(pick(logits, p, &ctx), 11);
    p.n_bias = 0;
    ctx.n_masked = 0;
    assert_int_equal(pick(logits, p, &ctx), 7);
    p.temperature = 2;
    for (uint64_t seed = 0; seed < 200; seed++) {
        p.seed = seed;
        fill(logits, 3);
        int32_t token = pick(logits, p, &ctx);
        assert_true(token == 2 || token == 7 || token == 11);
    }
}

/* Bits and a list of the same tokens give the same ones, whatever was drawn before. */
static void a_mask_of_bits_is_a_list(void **state)
{
    enum { MANY = 1000, WORDS = (MANY + 63) / 64 };
    cog_rng rng = { .key = 5 };
    cog_sampler *s = cog_sampler_new(MANY);
    int32_t allowed[MANY], output[] = { 1, 64, 500, 500 }, want, got;
    float logits[MANY];

    (void)state;
    for (int round = 0; round < 500; round++) {
        cog_sample_context ctx = { .output = output, .n_output = 4 };
        cog_sampling p = { .temperature = round % 3 ? 1.5f : 0, .top_k = round % 5 * 3 };
        uint64_t only[WORDS] = { 0 };

        p.top_p = round % 2 ? 0.9f : 1;
        p.repetition_penalty = round % 7 ? 1 : 1.3f;
        p.seed = (uint64_t)round;
        for (int i = 0; i < MANY; i++)
            logits[i] = (float)cog_rng_below(&rng, 200) / 20 - 5;
        for (int i = (int)cog_rng_below(&rng, 60); i < MANY;
             i += 1 + (int)cog_rng_below(&rng, 400)) {
            only[i / 64] |= UINT64_C(1) << (i % 64);
            allowed[p.n_allowed++] = i;
        }
        p.allowed = allowed;
        assert_int_equal(cog_sampler_pick(s, &want, logits, &p, &ctx), 0);
        p.n_allowed = 0;
        ctx.only = only;
        assert_int_equal(cog_sampler_pick(s, &got, logits, &p, &ctx), 0);
        assert_int_equal(got, want);
        ctx.only = NULL; /* leaves logits of its own behind */
        assert_int_equal(cog_sampler_pick(s, &got, logits, &p, &ctx), 0);
    }
    cog_sampler_free(s);
}

static void logits_are_left_alone_and_scratch_is_clean(void **state)
{
    static const int32_t output[] = { 1, 2 };
    cog_sample_context ctx = { .output = output, .n_output = 2 };
    cog_sampler *s = cog_sampler_new(VOCAB);
    cog_sampling p = { .temperature = 0.7f,
                       .top_p = 0.9f,
                       .top_k = 5,
                       .repetition_penalty = 1.3f,
                       .frequency_penalty = 0.2f,
                       .seed = 1 };
    float logits[VOCAB], copy[VOCAB];
    int32_t first, again;

    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)((i * 37) % 11);
    memcpy(copy, logits, sizeof(copy));
    assert_int_equal(cog_sampler_pick(s, &first, logits, &p, &ctx), 0);
    assert_memory_equal(copy, logits, sizeof(copy));
    assert_int_equal(cog_sampler_pick(s, &again, logits, &p, &ctx), 0);
    assert_int_equal(first, again);
    cog_sampler_free(s);
}

static void draws_follow_the_softmax(void **state)
{
    enum { DRAWS = 40000 };
    float logits[VOCAB];
    double total = 0;
    int count[VOCAB];
    cog_sampling p = neutral;

    fill(logits, -INFINITY);
    for (int i = 0; i < 6; i++)
        logits[10 * i] = (float)i;
    p.temperature = 2;
    for (int i = 0; i < 6; i++)
        total += exp(i / 2.0);
    histogram(count, logits, p, DRAWS);
    for (int i = 0; i < 6; i++) {
        double want = DRAWS * exp(i / 2.0) / total;
        assert_true(fabs(count[10 * i] - want) <
                    5 * sqrt(want)); /* five deviations; the seeds are fixed */
    }
}

static void filters_keep_what_their_definitions_say(void **state)
{
    float logits[VOCAB];
    int count[VOCAB];
    cog_sampling p = neutral;

    /* probabilities 0.5, 0.25, 0.125, 0.125 */
    fill(logits, -INFINITY);
    logits[8] = logf(0.5f);
    logits[4] = logf(0.25f);
    logits[30] = logits[20] = logf(0.125f);

    p.top_k = 2;
    histogram(count, logits, p, 2000);
    assert_int_equal(count[8] + count[4], 2000);
    assert_true(count[4] > 0);

    p.top_k = 3; /* ties with the third are kept */
    histogram(count, logits, p, 2000);
    assert_true(count[20] > 0 && count[30] > 0);

    p.top_k = 0;
    p.top_p = 0.74f; /* 0.5 is not enough, 0.75 is */
    histogram(count, logits, p, 2000);
    assert_int_equal(count[8] + count[4], 2000);
    assert_true(count[4] > 0);

    p.top_p = 0.8f; /* of the two equal ones the lower id */
    histogram(count, logits, p, 2000);
    assert_int_equal(count[30], 0);
    assert_true(count[20] > 0);

    p.top_p = 1e-6f; /* at least one */
    histogram(count, logits, p, 200);
    assert_int_equal(count[8], 200);

    p.top_p = 1;
    p.min_p = 0.4f; /* 0.25 / 0.5 stays, 0.125 / 0.5 goes */
    histogram(count, logits, p, 2000);
    assert_int_equal(count[8] + count[4], 2000);
    assert_true(count[4] > 0);
}

static void a_draw_depends_on_seed_choice_and_index_only(void **state)
{
    static const int32_t output[] = { 1, 2, 3 };
    float logits[VOCAB];
    int differ[3] = { 0 };

    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)sin(i);
    for (uint64_t seed = 0; seed < 50; seed++) {
        cog_sampling p = neutral, q = neutral;
        cog_sample_context a = { .output = output, .n_output = 1 }, b = a, c = a;
        p.seed = seed;
        q.seed = seed + 1000;
        b.choice = 1;
        c.n_output = 2;
        assert_int_equal(pick(logits, p, &a), pick(logits, p, &a));
        differ[0] += pick(logits, p, &a) != pick(logits, q, &a);
        differ[1] += pick(logits, p, &a) != pick(logits, p, &b);
        differ[2] += pick(logits, p, &a) != pick(logits, p, &c);
    }
    for (int i = 0; i < 3; i++)
        assert_true(differ[i] > 30);
}

static void a_tiny_penalty_does_not_look_like_a_broken_model(void **state)
{
    static const int32_t output[] = { 5 };
    cog_sample_context ctx = { .output = output, .n_output = 1 };
    cog_sampling p = neutral;
    float logits[VOCAB];

    fill(logits, -1);
    logits[5] = 20;
    p.repetition_penalty = 1e-38f;
    assert_int_equal(pick(logits, p, &ctx), 5);
}

/* The heap keeps what a full sort would. */
static void filters_agree_with_sorting(void **state)
{
    cog_rng rng = { .key = 3 };

    for (int round = 0; round < 300; round++) {
        float logits[VOCAB];
        int count[VOCAB];
        cog_sampling p = neutral;
        double total = 0, sum = 0;
        int k = 1 + (int)cog_rng_below(&rng, VOCAB - 1);
        bool kept[VOCAB] = { false };

        for (int i = 0; i < VOCAB; i++)
            logits[i] = (float)cog_rng_below(&rng, 9) / 2; /* many ties */
        if (round % 2)
            p.top_k = k;
        else
            p.top_p = (float)(k + 1) / (VOCAB + 2);
        for (int i = 0; i < VOCAB; i++)
            total += exp(logits[i]);
        for (int rank = 0; rank < VOCAB; rank++) {
            int best = -1;
            for (int i = 0; i < VOCAB; i++)
                if (!kept[i] && (best < 0 || logits[i] > logits[best]))
                    best = i;
            if (p.top_k && rank >= k) {
                int better = 0;
                for (int i = 0; i < VOCAB; i++)
                    better += logits[i] > logits[best];
                if (better >= k)
                    break;
            }
            if (!p.top_k && rank > 0 && sum >= (double)p.top_p * total)
                break;
            kept[best] = true;
            sum += exp(logits[best]);
        }
        histogram(count, logits, p, 400);
        for (int i = 0; i < VOCAB; i++)
            assert_true(kept[i] || count[i] == 0);
    }
}

static void logits_that_are_not_finite(void **state)
{
    cog_sampler *s = cog_sampler_new(VOCAB);
    cog_sample_context ctx = { 0 };
    cog_sampling p = neutral;
    float logits[VOCAB];
    int32_t token = 77;

    fill(logits, NAN);
    assert_int_equal(cog_sampler_pick(s, &token, logits, &p, &ctx), COG_EDEVICE);
    fill(logits, -INFINITY);
    assert_int_equal(cog_sampler_pick(s, &token, logits, &p, &ctx), COG_EDEVICE);
    logits[3] = INFINITY;
    assert_int_equal(cog_sampler_pick(s, &token, logits, &p, &ctx), COG_EDEVICE);
    assert_int_equal(token, 77);
    fill(logits, NAN);
    logits[5] = 1;
    assert_int_equal(cog_sampler_pick(s, &token, logits, &p, &ctx), 0);
    assert_int_equal(token, 5);
    cog_sampler_free(s);
}

static void weights_are_exp(void **state)
{
    uint64_t last = (uint64_t)1 << COG_SAMPLE_BITS;

    assert_int_equal(cog_sample_exp(0), last);
    assert_int_equal(cog_sample_exp(-0.0), last);
    for (int i = 1; i < 3000000; i++) {
        double x = -1e-5 * i; /* to -30 */
        uint64_t weight = cog_sample_exp(x);
        double want = ldexp(exp(x), COG_SAMPLE_BITS);
        assert_true(weight <= last);
        /* without its fraction, and 2^-48 of it for the series and its roundings */
        assert_true((double)weight <= want * (1 + 0x1p-48));
        assert_true((double)weight > want * (1 - 0x1p-44) - 1);
        last = weight;
    }
    assert_int_equal(last, 0);
    assert_int_equal(cog_sample_exp(-INFINITY), 0);
    assert_int_equal(cog_sample_exp(NAN), 0);
    assert_int_equal(cog_sample_exp(-1e300), 0);
}

/* Next to each other, also where the power of two changes. */
static void weights_never_rise(void **state)
{
    for (int n = 0; n < 40; n++) {
        double x = -(n + 0.5) * 0.69314718055994531;
        uint64_t last = cog_sample_exp(x + 1e-9);
        for (int i = 0; i < 20000; i++) {
            uint64_t weight = cog_sample_exp(x + 1e-9 - 1e-13 * i);
            assert_true(weight <= last);
            last = weight;
        }
    }
}

static void shares_and_targets(void **state)
{
    assert_int_equal(cog_sample_share(1000, 0.5f), 500);
    assert_int_equal(cog_sample_share(1000, 1e-9f), 1);
    assert_int_equal(cog_sample_target(1000, 0), 0);
    assert_int_equal(cog_sample_target(1000, UINT64_MAX), 999);
    assert_int_equal(cog_sample_target(1000, (uint64_t)1 << 63), 500);
    assert_true(cog_sample_weight(-0.7f, 0, 1, 0.5f) == 0);
    assert_true(cog_sample_weight(-0.69f, 0, 1, 0.5f) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_lowest_id_on_ties),
        cmocka_unit_test(penalties_follow_their_definitions),
        cmocka_unit_test(biases_come_before_penalties),
        cmocka_unit_test(a_bias_moves_probabilities),
        cmocka_unit_test(what_is_masked_is_not_drawn),
        cmocka_unit_test(a_mask_of_bits_is_a_list),
        cmocka_unit_test(logits_are_left_alone_and_scratch_is_clean),
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(filters_keep_what_their_definitions_say),
        cmocka_unit_test(a_draw_depends_on_seed_choice_and_index_only),
        cmocka_unit_test(a_tiny_penalty_does_not_look_like_a_broken_model),
        cmocka_unit_test(filters_agree_with_sorting),
        cmocka_unit_test(logits_that_are_not_finite),
        cmocka_unit_test(weights_are_exp),
        cmocka_unit_test(weights_never_rise),
        cmocka_unit_test(shares_and_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
