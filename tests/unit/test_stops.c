#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/stops.h"

#include <string.h>

/* Feeds text in pieces of the given size; returns what came out, the caller's. */
static char *feed(char *const *stop, int n, const char *text, size_t piece, int *hit)
{
    size_t len = strlen(text);
    cog_buf out = { 0 };
    cog_stops s;
    bool found = false;

    cog_stops_init(&s, stop, n);
    for (size_t i = 0; i < len && !found; i += piece)
        found = cog_stops_push(&s, &out, text + i, len - i < piece ? len - i : piece);
    if (!found)
        cog_stops_finish(&s, &out);
    *hit = s.hit;
    cog_stops_fini(&s);
    return cog_buf_detach(&out, NULL);
}

static void expect(char *const *stop, int n, const char *text, const char *want, int want_hit)
{
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        int hit;
        char *got = feed(stop, n, text, piece, &hit);
        assert_string_equal(got, want);
        assert_int_equal(hit, want_hit);
        cog_free(got);
    }
}

static void the_stop_string_and_what_follows_are_dropped(void **state)
{
    char *stop[] = { "END" };

    expect(stop, 1, "one END two", "one ", 0);
    expect(stop, 1, "ENDone", "", 0);
    expect(stop, 1, "one EN", "one EN", -1);
    expect(stop, 1, "EEENDD", "EE", 0);
}

static void the_string_that_is_complete_first_wins(void **state)
{
    char *stop[] = { "bcd", "abcdef" };

    char *nested[] = { "cd", "abcd" };

    expect(stop, 2, "xabcdefg", "xa", 0);
    expect(nested, 2, "xabcdx", "x", 1); /* both end here: the longer */
    expect(nested, 2, "xbcdx", "xb", 0);
}

/* Text in pieces; the first n_off of them while the strings are off. */
static void expect_late(char *const *stop, int n, const char *const *text, int n_off, bool keeps,
                        const char *want, int want_hit)
{
    cog_buf out = { 0 };
    bool found = false;
    cog_stops s;

    cog_stops_init(&s, stop, n);
    s.keeps = keeps;
    for (int i = 0; text[i] && !found; i++) {
        s.is_off = i < n_off;
        found = cog_stops_push(&s, &out, text[i], strlen(text[i]));
    }
    if (!found)
        cog_stops_finish(&s, &out);
    assert_int_equal(s.hit, want_hit);
    assert_string_equal(out.data, want);
    cog_stops_fini(&s);
    cog_buf_fini(&out);
}

static void strings_are_looked_for_from_a_token_on(void **state)
{
    char *stop[] = { "END", "aa" };
    const char *const whole[] = { "one END two", " END three", NULL };
    const char *const across[] = { "one EN", "D two", NULL };
    const char *const doubled[] = { "xa", "a", "a", "y", NULL };

    expect_late(stop, 2, whole, 0, false, "one ", 0);
    expect_late(stop, 2, whole, 1, false, "one END two ", 0);
    expect_late(stop, 2, whole, 2, false, "one END two END three", -1);
    expect_late(stop, 2, across, 1, false, "one ", 0);
    expect_late(stop, 2, across, 2, false, "one END two", -1);
    expect_late(stop, 2, doubled, 1, false, "x", 1);
    expect_late(stop, 2, doubled, 2, false, "xa", 1); /* it ends with the third */
    expect_late(stop, 2, doubled, 3, false, "xaaay", -1);
}

static void the_string_may_stay(void **state)
{
    char *stop[] = { "END", "aa" };
    const char *const whole[] = { "one END two", NULL }, *const none[] = { "one", NULL };
    const char *const doubled[] = { "xa", "a", "a", "y", NULL };

    expect_late(stop, 2, whole, 0, true, "one END", 0);
    expect_late(stop, 2, none, 0, true, "one", -1);
    expect_late(stop, 2, doubled, 2, true, "xaaa", 1);
}

static void overlapping_beginnings_are_found(void **state)
{
    char *stop[] = { "aab" };

    expect(stop, 1, "aaab", "a", 0);
    expect(stop, 1, "aaaaac", "aaaaac", -1);
}

static void no_stop_strings_hold_nothing_back(void **state)
{
    cog_buf out = { 0 };
    cog_stops s;

    cog_stops_init(&s, NULL, 0);
    assert_false(cog_stops_push(&s, &out, "abc", 3));
    assert_string_equal(out.data, "abc");
    cog_stops_fini(&s);
    cog_buf_fini(&out);
}

static void random_text_gives_the_same_in_any_pieces(void **state)
{
    cog_rng rng = { .key = 5 };

    for (int round = 0; round < 3000; round++) {
        char text[40] = { 0 }, a[6] = { 0 }, b[6] = { 0 }, *stop[] = { a, b };
        int len = (int)cog_rng_below(&rng, 39), hit1, hit2;
        char *whole, *cut;

        for (int i = 0; i < len; i++)
            text[i] = (char)('a' + cog_rng_below(&rng, 3));
        for (int i = 0, n = 1 + (int)cog_rng_below(&rng, 5); i < n; i++)
            a[i] = (char)('a' + cog_rng_below(&rng, 3));
        for (int i = 0, n = 1 + (int)cog_rng_below(&rng, 5); i < n; i++)
            b[i] = (char)('a' + cog_rng_below(&rng, 3));
        whole = feed(stop, 2, text, sizeof(text), &hit1);
        cut = feed(stop, 2, text, 1, &hit2);
        if (hit1 < 0)
            assert_true(!strstr(text, a) && !strstr(text, b));
        else
            assert_int_equal(strncmp(text + strlen(whole), stop[hit1], strlen(stop[hit1])), 0);
        assert_string_equal(whole, cut);
        assert_int_equal(hit1, hit2);
        cog_free(whole);
        cog_free(cut);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stop_string_and_what_follows_are_dropped),
        cmocka_unit_test(the_string_that_is_complete_first_wins),
        cmocka_unit_test(strings_are_looked_for_from_a_token_on),
        cmocka_unit_test(the_string_may_stay),
        cmocka_unit_test(overlapping_beginnings_are_found),
        cmocka_unit_test(no_stop_strings_hold_nothing_back),
        cmocka_unit_test(random_text_gives_the_same_in_any_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
