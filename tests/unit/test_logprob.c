#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/logprob.h"

#include <math.h>

enum { VOCAB = 500 };

/* As its definition says, in double precision. */
static double log_softmax(const float *logits, int n, int token)
{
    double sum = 0, max = -INFINITY;

    for (int i = 0; i < n; i++)
        max = fmax(max, (double)logits[i]); /* of a NaN, the other */
    for (int i = 0; i < n; i++)
        sum += logits[i] > -INFINITY ? exp((double)logits[i] - max) : 0;
    return (double)logits[token] - max - log(sum);
}

static bool is_before(const float *logits, int a, int b)
{
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
}

static void check(const float *logits, int n, int token, int n_top)
{
    cog_scored_token s;
    int n_better = 0;

    cog_logprob_score(&s, logits, n, token, n_top);
    assert_int_equal(s.self.token, token);
    assert_true(fabs((double)s.self.logprob - log_softmax(logits, n, token)) <
                1e-6 + 1e-7 * fabs((double)s.self.logprob));
    assert_true(s.n_top <= n_top);
    for (int i = 0; i < s.n_top; i++) {
        assert_true(fabs((double)s.top[i].logprob - log_softmax(logits, n, s.top[i].token)) <
                    1e-6 + 1e-7 * fabs((double)s.top[i].logprob));
        assert_true(i == 0 || is_before(logits, s.top[i - 1].token, s.top[i].token));
        if (s.top[i].token == token)
            assert_true(s.top[i].logprob == s.self.logprob);
    }
    if (n_top == 0)
        return;
    for (int i = 0; i < n; i++)
        n_better += logits[i] > -INFINITY &&
                    (s.n_top < n_top || is_before(logits, i, s.top[n_top - 1].token));
    assert_int_equal(n_better, s.n_top < n_top ? s.n_top : n_top - 1);
}

static void random_rows(void **state)
{
    cog_rng rng = { .key = 5 };
    float logits[VOCAB];

    for (int round = 0; round < 400; round++) {
        int n = 1 + (int)cog_rng_below(&rng, VOCAB);
        for (int i = 0; i < n; i++) {
            logits[i] = (float)cog_rng_below(&rng, 1000) / 40;
            if (round % 3 == 1)
                logits[i] = (float)(int)logits[i]; /* many ties */
            if (round % 5 == 2 && cog_rng_below(&rng, 4) == 0)
                logits[i] = -INFINITY;
            if (round % 7 == 3 && cog_rng_below(&rng, 20) == 0)
                logits[i] = NAN;
        }
        logits[n / 2] = 7;
        check(logits, n, n / 2, round % (COG_MAX_TOP + 1));
    }
}

static void extremes(void **state)
{
    float logits[VOCAB] = { 0 };
    cog_scored_token s;

    logits[3] = 3e38f;
    logits[4] = -3e38f;
    cog_logprob_score(&s, logits, VOCAB, 3, 2);
    assert_true(s.self.logprob == 0);
    assert_int_equal(s.top[0].token, 3);
    assert_int_equal(s.top[1].token, 0);
    cog_logprob_score(&s, logits, VOCAB, 4, 0);
    assert_true(s.self.logprob == -INFINITY); /* beyond a float */
    assert_int_equal(s.n_top, 0);
    logits[4] = -INFINITY;
    cog_logprob_score(&s, logits, VOCAB, 4, 0);
    assert_true(s.self.logprob == -INFINITY);
}

/* A whole vocabulary of what the sum leaves out. */
static void what_is_left_out_is_little(void **state)
{
    enum { MANY = 1 << 17 };
    float *logits = cog_array(float, MANY);
    cog_scored_token s;

    for (int i = 0; i < MANY; i++)
        logits[i] = -27.8f;
    logits[MANY / 2] = 0;
    cog_logprob_score(&s, logits, MANY, MANY / 2, 20);
    assert_true(fabs((double)s.self.logprob - log_softmax(logits, MANY, MANY / 2)) < 0x1p-23);
    cog_free(logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_rows),
        cmocka_unit_test(extremes),
        cmocka_unit_test(what_is_left_out_is_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
