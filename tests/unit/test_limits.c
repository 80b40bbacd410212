/* Buckets and counts of one client, on a clock of the test's. */
#include "tests/unit/unit.h"

#include "server/limits.h"

#define MS  1000000ull
#define SEC (1000 * MS)

static const cog_sha256 nobody;

static cog_client *client(int requests, int tokens, int concurrent)
{
    return cog_client_new(&nobody, &(cog_limits){ requests, tokens, concurrent }, SEC);
}

/* How many begin at that time, each ending at once; wait is what the first refused one was told. */
static int begin_all(cog_client *c, uint64_t now, cog_limit *why, uint64_t *wait)
{
    int n = 0;

    while (n < 1000 && (*why = cog_client_begin(c, now, wait)) == COG_LIMIT_NONE) {
        cog_client_end(c);
        n++;
    }
    return n;
}

static void a_minutes_worth_and_then_evenly(void **state)
{
    cog_client *c = client(60, 0, 0);
    cog_limit why;
    uint64_t wait;

    assert_int_equal(begin_all(c, SEC, &why, &wait), 60);
    assert_int_equal(why, COG_LIMIT_REQUESTS);
    assert_int_equal(wait, 1000);
    assert_int_equal(begin_all(c, SEC + 400 * MS, &why, &wait), 0);
    assert_int_equal(wait, 600);
    assert_int_equal(begin_all(c, 2 * SEC, &why, &wait), 1);
    assert_int_equal(begin_all(c, 12 * SEC, &why, &wait), 10);
    assert_int_equal(begin_all(c, 1000 * SEC, &why, &wait), 60); /* and never more */
    cog_client_unref(c);
}

static void waiting_as_told_is_enough(void **state)
{
    static const int limits[] = { 1, 7, 59, 1000, 999999 };

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        cog_client *c = client(limits[i], 0, 0);
        uint64_t now = SEC, wait = 0;
        int n = 0;

        while (cog_client_begin(c, now, &wait) == COG_LIMIT_NONE)
            n++;
        assert_int_equal(n, limits[i]);
        now += wait * MS;
        assert_int_equal(cog_client_begin(c, now, &wait), COG_LIMIT_NONE);
        cog_client_unref(c);
    }
}

static void a_clock_that_stands_or_goes_back_gives_nothing(void **state)
{
    cog_client *c = client(2, 0, 0);
    cog_limit why;
    uint64_t wait;

    assert_int_equal(begin_all(c, SEC, &why, &wait), 2);
    assert_int_equal(begin_all(c, SEC, &why, &wait), 0);
    assert_int_equal(begin_all(c, SEC / 2, &why, &wait), 0);
    cog_client_unref(c);
}

static void as_many_at_a_time(void **state)
{
    cog_client *c = client(0, 0, 2);
    uint64_t wait;

    assert_int_equal(cog_client_begin(c, SEC, &wait), COG_LIMIT_NONE);
    assert_int_equal(cog_client_begin(c, SEC, &wait), COG_LIMIT_NONE);
    assert_int_equal(cog_client_begin(c, 100 * SEC, &wait), COG_LIMIT_CONCURRENT);
    assert_true(wait >= 1);
    cog_client_end(c);
    assert_int_equal(cog_client_begin(c, SEC, &wait), COG_LIMIT_NONE);
    cog_client_unref(c);
}

/* Prompts are paid when they come, answers when they are there; a debt is waited for. */
static void tokens(void **state)
{
    cog_client *c = client(0, 600, 0);
    uint64_t wait;

    assert_int_equal(cog_client_take_prompt(c, SEC, 500, &wait), COG_LIMIT_NONE);
    assert_int_equal(cog_client_take_prompt(c, SEC, 101, &wait), COG_LIMIT_TOKENS);
    assert_int_equal(wait, 100); /* one token, at ten a second */
    assert_int_equal(cog_client_begin(c, SEC, &wait), COG_LIMIT_NONE);
    cog_client_charge(c, SEC, 200);
    assert_int_equal(cog_client_begin(c, SEC, &wait), COG_LIMIT_TOKENS);
    assert_int_equal(wait, 10100);
    assert_int_equal(cog_bucket_remaining(&c->tokens, 600, SEC), 0);
    assert_int_equal(cog_bucket_reset_ms(&c->tokens, 600, SEC), 70000);
    assert_int_equal(cog_client_begin(c, SEC + wait * MS, &wait), COG_LIMIT_NONE);
    cog_client_unref(c);
}

/* It would never pass otherwise. */
static void a_prompt_beyond_the_limit_passes_when_all_is_left(void **state)
{
    cog_client *c = client(0, 100, 0);
    uint64_t wait;

    assert_int_equal(cog_client_take_prompt(c, SEC, 1000, &wait), COG_LIMIT_NONE);
    assert_int_equal(cog_client_take_prompt(c, 2 * SEC, 1000, &wait), COG_LIMIT_TOKENS);
    assert_true(wait == 599000);
    cog_client_unref(c);
}

static void no_limits(void **state)
{
    cog_client *c = client(0, 0, 0);
    uint64_t wait;

    for (int i = 0; i < 100000; i++) {
        assert_int_equal(cog_client_begin(c, SEC, &wait), COG_LIMIT_NONE);
        assert_int_equal(cog_client_take_prompt(c, SEC, 1000000, &wait), COG_LIMIT_NONE);
    }
    cog_client_unref(c);
}

static void a_refund_may_be_used_again(void **state)
{
    cog_client *c = client(1, 0, 0);
    uint64_t wait;

    assert_int_equal(cog_client_begin(c, SEC, &wait), COG_LIMIT_NONE);
    cog_client_refund(c);
    assert_int_equal(cog_client_begin(c, SEC, &wait), COG_LIMIT_NONE);
    assert_int_equal(cog_client_begin(c, SEC, &wait), COG_LIMIT_REQUESTS);
    cog_client_unref(c);
}

/* Reading the file again is no way to get a new minute. */
static void new_limits_count_what_was_used(void **state)
{
    cog_client *c = client(10, 0, 0);
    cog_limit why;
    uint64_t wait;

    assert_int_equal(begin_all(c, SEC, &why, &wait), 10);
    cog_client_set_limits(c, &(cog_limits){ .requests = 10 }, SEC);
    assert_int_equal(begin_all(c, SEC, &why, &wait), 0);
    cog_client_set_limits(c, &(cog_limits){ .requests = 15 }, SEC);
    assert_int_equal(begin_all(c, SEC, &why, &wait), 5);
    cog_client_set_limits(c, &(cog_limits){ 0 }, SEC);
    assert_int_equal(begin_all(c, SEC, &why, &wait), 1000);
    cog_client_set_limits(c, &(cog_limits){ .requests = 3 }, SEC);
    assert_int_equal(begin_all(c, SEC, &why, &wait), 3);
    cog_client_unref(c);
}

static void times_as_text(void **state)
{
    char text[COG_RESET_SIZE];

    assert_string_equal(cog_reset_text(text, 0), "0ms");
    assert_string_equal(cog_reset_text(text, 12), "12ms");
    assert_string_equal(cog_reset_text(text, 1000), "1s");
    assert_string_equal(cog_reset_text(text, 1001), "2s");
    assert_string_equal(cog_reset_text(text, 59001), "1m0s");
    assert_string_equal(cog_reset_text(text, 360000), "6m0s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minutes_worth_and_then_evenly),
        cmocka_unit_test(waiting_as_told_is_enough),
        cmocka_unit_test(a_clock_that_stands_or_goes_back_gives_nothing),
        cmocka_unit_test(as_many_at_a_time),
        cmocka_unit_test(tokens),
        cmocka_unit_test(a_prompt_beyond_the_limit_passes_when_all_is_left),
        cmocka_unit_test(no_limits),
        cmocka_unit_test(a_refund_may_be_used_again),
        cmocka_unit_test(new_limits_count_what_was_used),
        cmocka_unit_test(times_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
