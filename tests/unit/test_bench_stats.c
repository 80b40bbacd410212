#include "tests/unit/unit.h"

#include "base/rng.h"
#include "client/arrivals.h"
#include "client/stats.h"

#include <math.h>
#include <string.h>

#define MS 1000000u

static void assert_near(double got, double want)
{
    if (fabs(got - want) > 1e-9 * (1 + fabs(want)))
        fail_msg("%.12g instead of %.12g", got, want);
}

/* ---------------------------------------------------------------- percentiles */

/* numpy.percentile([15, 20, 35, 40, 50], [0, 10, 40, 50, 75, 90, 99, 100]) */
static void percentiles_are_numpys(void **state)
{
    static const double sorted[] = { 15, 20, 35, 40, 50 };
    static const double p[] = { 0, 10, 40, 50, 75, 90, 99, 100 };
    static const double want[] = { 15, 17, 29, 35, 40, 46, 49.6, 50 };

    for (size_t i = 0; i < 8; i++)
        assert_near(cog_bench_percentile(sorted, 5, p[i]), want[i]);
    assert_near(cog_bench_percentile(sorted, 1, 99), 15);
}

static void spread(void **state)
{
    double values[100];
    cog_bench_spread s;

    for (int i = 0; i < 100; i++)
        values[i] = (i * 37) % 100 + 1; /* 1 to 100 in some order */
    s = cog_bench_spread_of(values, 100);
    assert_int_equal(s.n, 100);
    assert_near(s.mean, 50.5);
    assert_near(s.median, 50.5);
    assert_near(s.p90, 90.1);
    assert_near(s.p99, 99.01);
    s = cog_bench_spread_of(values, 0);
    assert_int_equal(s.n, 0);
    assert_near(s.mean, 0);
}

/* ---------------------------------------------------------------- samples */

static float gaps_of_first[] = { 0, 20, 30 }, gaps_of_second[] = { 100 };

/* Due at 1 s, sent 2 ms later, first chunk after 100 ms, then the gaps. */
static cog_bench_sample answer(float *gaps, size_t n_gaps, int tokens)
{
    cog_bench_sample s = { .outcome = COG_BENCH_OK,
                           .status = 200,
                           .due_ns = 1000 * MS,
                           .sent_ns = 1002 * MS,
                           .first_ns = 1100 * MS,
                           .last_ns = 1100 * MS,
                           .gaps = gaps,
                           .n_gaps = n_gaps,
                           .prompt_tokens = 70,
                           .output_tokens = tokens };

    for (size_t i = 0; i < n_gaps; i++)
        s.last_ns += (uint64_t)(gaps[i] * MS);
    s.end_ns = s.last_ns + 5 * MS; /* usage and [DONE] */
    return s;
}

static void definitions(void **state)
{
    cog_bench_sample s[] = { answer(gaps_of_first, 3, 3), answer(gaps_of_second, 1, 2) };
    cog_bench_goodput none = { 0 };
    cog_bench_summary sum;

    s[1].due_ns = 900 * MS; /* TTFT 200, E2EL 300 */
    s[1].picture = COG_BENCH_COLD;
    s[1].image_tokens = 66;
    s[1].cached_tokens = 7;
    s[1].is_estimated = true;
    cog_bench_summarize(&sum, s, 2, &none);
    assert_int_equal(sum.all.completed, 2);
    assert_near(sum.all.ttft.mean, 150);
    assert_near(sum.all.e2el.mean, (150 + 300) / 2.0);
    assert_int_equal(sum.all.tpot.n, 2);
    assert_near(sum.all.tpot.mean, (50 / 2.0 + 100 / 1.0) / 2);
    assert_int_equal(sum.all.itl.n, 4);
    assert_near(sum.all.itl.mean, 150 / 4.0);
    assert_near(sum.all.itl.median, 25);
    assert_near(sum.seconds, 0.305); /* from the earliest due to the latest end */
    assert_near(sum.start_delay.p99, 2 + 100 * 0.99);
    assert_int_equal(sum.prompt_tokens, 140);
    assert_int_equal(sum.output_tokens, 5);
    assert_int_equal(sum.image_tokens, 66);
    assert_int_equal(sum.cached_tokens, 7);
    assert_int_equal(sum.images, 1);
    assert_int_equal(sum.estimated, 1);
    /* split by picture */
    assert_int_equal(sum.text.completed, 1);
    assert_near(sum.text.ttft.mean, 100);
    assert_int_equal(sum.cold.completed, 1);
    assert_near(sum.cold.ttft.mean, 200);
    assert_int_equal(sum.cold.itl.n, 1);
    assert_int_equal(sum.repeated.completed, 0);
}

static void answers_without_some_times(void **state)
{
    cog_bench_sample s[] = { answer(NULL, 0, 1), answer(NULL, 0, 9) };
    cog_bench_goodput none = { 0 };
    cog_bench_summary sum;

    s[1].first_ns = 0; /* in one piece */
    s[1].last_ns = 1400 * MS;
    cog_bench_summarize(&sum, s, 2, &none);
    assert_int_equal(sum.all.completed, 2);
    assert_int_equal(sum.all.ttft.n, 1);
    assert_int_equal(sum.all.tpot.n, 0); /* one token has none after the first */
    assert_int_equal(sum.all.itl.n, 0);
    assert_near(sum.all.e2el.mean, 250);
    cog_bench_summarize(&sum, s, 0, &none);
    assert_int_equal(sum.all.completed, 0);
    assert_near(sum.seconds, 0);
}

static void goodput_needs_every_limit(void **state)
{
    cog_bench_sample s[] = { answer(gaps_of_first, 3, 3), answer(gaps_of_second, 1, 2) };
    static const struct {
        const char *limits;
        size_t good;
    } rows[] = { { "ttft:100", 2 },         { "ttft:99.9", 0 },
                 { "tpot:25", 1 },          { "e2el:150,tpot:100", 1 },
                 { "ttft:100,tpot:24", 0 }, { "ttft:1000,tpot:1000,e2el:1000", 2 },
                 { "e2el:149", 0 } };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cog_bench_goodput limits;
        cog_bench_summary sum;

        assert_int_equal(cog_bench_goodput_parse(&limits, rows[i].limits, NULL), 0);
        cog_bench_summarize(&sum, s, 2, &limits);
        if (sum.good != rows[i].good)
            fail_msg("%s: %zu", rows[i].limits, sum.good);
    }
}

static void limits_that_are_none(void **state)
{
    static const char *const bad[] = { "ttft",   "ttft:",    "ttft:x",       "ttft:-1",
                                       "ttft:0", "itl:5",    "ttft:5tpot:6", "ttft:inf",
                                       ",",      "ttft:5,,", "ttft:nan" };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cog_bench_goodput limits;
        cog_err err = { 0 };

        if (cog_bench_goodput_parse(&limits, bad[i], &err) != COG_EINVAL)
            fail_msg("took '%s'", bad[i]);
        assert_non_null(strstr(err.text, "--goodput"));
    }
}

static void errors_are_counted_by_kind(void **state)
{
    cog_bench_sample s[64];
    cog_bench_goodput none = { 0 };
    cog_bench_summary sum;
    size_t total = 0;
    char name[32];

    memset(s, 0, sizeof(s));
    for (int i = 0; i < 64; i++) {
        s[i].outcome = COG_BENCH_STATUS;
        s[i].status = 400 + i % 3;
        s[i].end_ns = MS;
    }
    for (int i = 0; i < 40; i++)
        s[i].outcome = COG_BENCH_OVERLOADED;
    s[63] = answer(gaps_of_first, 3, 3);
    cog_bench_summarize(&sum, s, 64, &none);
    assert_int_equal(sum.failed, 63);
    assert_int_equal(sum.all.completed, 1);
    assert_int_equal(sum.n_errors, 4);
    assert_string_equal(cog_bench_error_name(name, sizeof(name), &sum.errors[0]), "overloaded");
    assert_int_equal(sum.errors[0].count, 40);
    assert_non_null(strstr(cog_bench_error_name(name, sizeof(name), &sum.errors[1]), "status_40"));
    /* more kinds than there is room for */
    for (int i = 0; i < 64; i++)
        s[i] = (cog_bench_sample){ .outcome = COG_BENCH_STATUS, .status = 400 + i };
    cog_bench_summarize(&sum, s, 64, &none);
    assert_int_equal(sum.n_errors, COG_BENCH_MAX_ERRORS);
    for (int i = 0; i < sum.n_errors; i++)
        total += sum.errors[i].count;
    assert_int_equal(total, 64);
}

/* ---------------------------------------------------------------- arrivals */

/* Mean 1 / rate, variance of a gamma distribution: mean^2 / shape. */
static void gaps_have_their_distribution(void **state)
{
    static const double shapes[] = { 0.25, 0.5, 1, 2, 10 };
    enum { N = 200000 };

    for (size_t k = 0; k < sizeof(shapes) / sizeof(shapes[0]); k++) {
        cog_rng rng = { .key = 7 };
        double sum = 0, squares = 0, mean, variance;

        for (int i = 0; i < N; i++) {
            double gap = cog_arrivals_gap(&rng, 20, shapes[k]);

            assert_true(gap >= 0 && isfinite(gap));
            sum += gap;
            squares += gap * gap;
        }
        mean = sum / N;
        variance = squares / N - mean * mean;
        if (fabs(mean * 20 - 1) > 0.02 || fabs(variance * 400 * shapes[k] - 1) > 0.06)
            fail_msg("shape %g: mean %g, variance %g", shapes[k], mean * 20, variance * 400);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_numpys),
        cmocka_unit_test(spread),
        cmocka_unit_test(definitions),
        cmocka_unit_test(answers_without_some_times),
        cmocka_unit_test(goodput_needs_every_limit),
        cmocka_unit_test(limits_that_are_none),
        cmocka_unit_test(errors_are_counted_by_kind),
        cmocka_unit_test(gaps_have_their_distribution),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
