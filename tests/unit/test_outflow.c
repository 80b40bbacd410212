/* The pace of ends, on a clock of the test's. */
#include "tests/unit/unit.h"

#include "server/outflow.h"

#define SEC 1000000000ull

/* Requests that each end d after the one before, two at work at a time. */
static uint64_t run(cog_outflow *o, uint64_t now, uint64_t d, int n)
{
    cog_outflow_begin(o, now);
    for (int i = 0; i < n; i++) {
        cog_outflow_begin(o, now);
        now += d;
        cog_outflow_end(o, now, true);
    }
    cog_outflow_end(o, now, false);
    return now;
}

static void expect_s(cog_outflow *o, uint64_t now, int n, double s)
{
    double got = (double)cog_outflow_ns(o, now, n) * 1e-9;

    if (got < 0.9 * s || got > 1.1 * s)
        fail_msg("%d requests: %f s, expected %f", n, got, s);
}

static void an_even_pace(void **state)
{
    cog_outflow o = { 0 };
    uint64_t now = run(&o, 5 * SEC, SEC / 10, 200);

    expect_s(&o, now, 50, 5);
    expect_s(&o, now, 1, 0.1);
    assert_int_equal(cog_outflow_ns(&o, now, 0), 0);
}

/* A step ends many at once; what counts is how many in a while. */
static void ends_that_come_in_bursts(void **state)
{
    cog_outflow o = { 0 };
    uint64_t now = SEC;

    for (int burst = 0; burst < 20; burst++) {
        for (int i = 0; i < 32; i++)
            cog_outflow_begin(&o, now);
        now += 2 * SEC;
        for (int i = 0; i < 32; i++)
            cog_outflow_end(&o, now, true);
    }
    expect_s(&o, now, 16, 1);
}

static void idle_time_is_no_slowness(void **state)
{
    cog_outflow o = { 0 };
    uint64_t now = run(&o, SEC, SEC / 10, 100);

    now += 3600 * SEC;
    expect_s(&o, now, 10, 1);
    now = run(&o, now, SEC / 10, 3);
    expect_s(&o, now, 10, 1);
}

static void the_pace_of_late(void **state)
{
    cog_outflow o = { 0 };
    uint64_t now = run(&o, SEC, SEC / 100, 10000);

    expect_s(&o, now, 100, 1);
    now = run(&o, now, 10 * SEC, 5);
    expect_s(&o, now, 1, 10);
    now = run(&o, now, SEC / 10, 400);
    expect_s(&o, now, 10, 1);
}

/* A request that hangs is no news for ever: what is known is that nothing ended since. */
static void nothing_ends(void **state)
{
    cog_outflow o = { 0 };

    assert_int_equal(cog_outflow_ns(&o, SEC, 5), 0);
    cog_outflow_begin(&o, SEC);
    expect_s(&o, 5 * SEC, 3, 12);
    expect_s(&o, 1000 * SEC, 1, 30);
    expect_s(&o, 1000000 * SEC, 1, 30);
}

/* Clients that leave the queue say nothing about how fast it is worked off. */
static void who_gives_up_does_not_count(void **state)
{
    cog_outflow o = { 0 };
    uint64_t now = SEC;

    cog_outflow_begin(&o, now);
    for (int i = 0; i < 10; i++) {
        now += SEC;
        for (int k = 0; k < 50; k++) {
            cog_outflow_begin(&o, now);
            cog_outflow_end(&o, now, false);
        }
        cog_outflow_begin(&o, now);
        cog_outflow_end(&o, now, true);
    }
    expect_s(&o, now, 5, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_even_pace),
        cmocka_unit_test(ends_that_come_in_bursts),
        cmocka_unit_test(idle_time_is_no_slowness),
        cmocka_unit_test(the_pace_of_late),
        cmocka_unit_test(nothing_ends),
        cmocka_unit_test(who_gives_up_does_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
