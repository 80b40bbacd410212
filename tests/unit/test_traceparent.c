/* The trace context header: the examples of the specification, and its rules one by one. */
#include "tests/unit/unit.h"

#include "proto/traceparent.h"

#include <string.h>

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static void the_example_is_read(void **state)
{
    cog_traceparent t;

    assert_true(cog_traceparent_read(&t, "00-" TRACE "-" PARENT "-01"));
    assert_string_equal(t.trace_id, TRACE);
    assert_string_equal(t.parent_id, PARENT);
    assert_true(t.is_sampled);
    assert_true(cog_traceparent_read(&t, "00-" TRACE "-" PARENT "-00"));
    assert_false(t.is_sampled);
    assert_true(cog_traceparent_read(&t, "00-" TRACE "-" PARENT "-fe"));
    assert_false(t.is_sampled);
}

static void later_versions_may_go_on(void **state)
{
    cog_traceparent t;

    assert_true(cog_traceparent_read(&t, "01-" TRACE "-" PARENT "-01"));
    assert_true(cog_traceparent_read(&t, "cc-" TRACE "-" PARENT "-01-what-the-future-will-be"));
    assert_string_equal(t.trace_id, TRACE);
    assert_false(cog_traceparent_read(&t, "cc-" TRACE "-" PARENT "-01.what"));
    assert_false(cog_traceparent_read(&t, "00-" TRACE "-" PARENT "-01-what"));
    assert_false(cog_traceparent_read(&t, "ff-" TRACE "-" PARENT "-01"));
}

static void anything_else_is_no_header(void **state)
{
    static const char *const bad[] = {
        "",
        "00",
        "00-" TRACE "-" PARENT,
        "00-" TRACE "-" PARENT "-1",
        "00-" TRACE "-" PARENT "-011",
        " 00-" TRACE "-" PARENT "-01",
        "00-" TRACE "-" PARENT "-0g",
        "0-" TRACE "-" PARENT "-001",
        "00_" TRACE "-" PARENT "-01",
        "00-" TRACE "_" PARENT "-01",
        "00-" TRACE "-" PARENT "_01",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00-" TRACE "-00F067AA0BA902B7-01",
        "0x-" TRACE "-" PARENT "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-" PARENT "-001",
    };
    cog_traceparent t = { .trace_id = "kept" };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(cog_traceparent_read(&t, bad[i]));
    assert_string_equal(t.trace_id, "kept");
}

/* No byte of the header may be something else, or be missing. */
static void every_byte_counts(void **state)
{
    static const char good[] = "00-" TRACE "-" PARENT "-01";
    char text[sizeof(good)];
    cog_traceparent t;

    for (size_t i = 0; i < sizeof(good) - 1; i++) {
        memcpy(text, good, sizeof(good));
        text[i] = 'z';
        assert_false(cog_traceparent_read(&t, text));
        memcpy(text, good, sizeof(good));
        text[i] = '\0';
        assert_false(cog_traceparent_read(&t, text));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_is_read),
        cmocka_unit_test(later_versions_may_go_on),
        cmocka_unit_test(anything_else_is_no_header),
        cmocka_unit_test(every_byte_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
