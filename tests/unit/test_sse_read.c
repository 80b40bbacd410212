#include "tests/unit/unit.h"

#include "proto/sse.h"
#include "proto/sse_read.h"

#include <string.h>

/* Adds each event in brackets. */
static void note(void *arg, const char *data, size_t len)
{
    cog_buf_puts(arg, "[");
    cog_buf_add(arg, data, len);
    cog_buf_puts(arg, "]");
}

/* The events of a text that comes in two pieces. */
static void expect_cut(const char *text, size_t at, const char *events)
{
    cog_sse_reader r = { 0 };
    cog_buf got = { 0 };

    cog_sse_read(&r, text, at, note, &got);
    cog_sse_read(&r, text + at, strlen(text) - at, note, &got);
    if (strcmp(got.len ? got.data : "", events) != 0)
        fail_msg("cut at %zu: %s instead of %s", at, got.len ? got.data : "nothing", events);
    cog_sse_reader_fini(&r);
    cog_buf_fini(&got);
}

static void expect(const char *text, const char *events)
{
    for (size_t at = 0; at <= strlen(text); at++)
        expect_cut(text, at, events);
}

static void events_are_what_the_server_writes(void **state)
{
    cog_buf text = { 0 };

    cog_sse_event(&text, "{\"a\":1}", 7);
    cog_sse_ping(&text);
    cog_sse_event(&text, "", 0);
    cog_sse_done(&text);
    expect(text.data, "[{\"a\":1}][][[DONE]]");
    cog_buf_fini(&text);
}

static void every_kind_of_line_end(void **state)
{
    expect("data: a\n\ndata: b\n\n", "[a][b]");
    expect("data: a\r\n\r\ndata: b\r\n\r\n", "[a][b]");
    expect("data: a\r\rdata: b\r\r", "[a][b]");
    expect("data: a\n\r\ndata: b\r\n\n", "[a][b]");
    expect("data: a\r\ndata: b\r\n\r\n", "[a\nb]"); /* the LF of a CRLF is no empty line */
}

static void fields(void **state)
{
    expect("data:a\n\n", "[a]");
    expect("data:  a \n\n", "[ a ]");
    expect("data\n\n", "[]");
    expect("data: a\ndata: b\n\n", "[a\nb]");
    expect("event: x\nid: 1\nretry: 9\ndata: a\n\n", "[a]");
    expect("database: a\ndat: b\n\n", "");
    expect(": ping\n\ndata: a\n: in between\ndata: b\n\n\n\n", "[a\nb]");
}

static void what_is_not_ended_is_no_event(void **state)
{
    expect("data: a\n\ndata: b\n", "[a]");
    expect("data: a\n\ndata: b", "[a]");
}

static void byte_by_byte(void **state)
{
    static const char text[] = ": ping\r\n\r\ndata: {\"x\":\"\xc3\xbc\"}\r\n\r\ndata: [DONE]\n\n";
    cog_sse_reader r = { 0 };
    cog_buf got = { 0 };

    for (size_t i = 0; i < sizeof(text) - 1; i++)
        cog_sse_read(&r, text + i, 1, note, &got);
    assert_string_equal(got.data, "[{\"x\":\"\xc3\xbc\"}][[DONE]]");
    cog_sse_reader_fini(&r);
    cog_buf_fini(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_what_the_server_writes),
        cmocka_unit_test(every_kind_of_line_end),
        cmocka_unit_test(fields),
        cmocka_unit_test(what_is_not_ended_is_no_event),
        cmocka_unit_test(byte_by_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
