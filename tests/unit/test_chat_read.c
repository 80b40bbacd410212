#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/err.h"
#include "proto/chat_read.h"

#include <string.h>

static cog_chat_chunk read_chunk(const char *text)
{
    cog_chat_chunk c;

    memset(&c, 0xff, sizeof(c));
    assert_int_equal(cog_chat_read(&c, text, strlen(text)), 0);
    return c;
}

static void chunks_of_a_stream(void **state)
{
    cog_chat_chunk c = read_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
                                  "\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}");

    assert_true(c.has_choices);
    assert_false(c.has_text || c.is_finished || c.has_usage || c.is_error);
    c = read_chunk("{\"choices\":[{\"delta\":{}},{\"delta\":{\"content\":\"a\"}}]}");
    assert_true(c.has_choices && c.has_text);
    c = read_chunk("{\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}");
    assert_true(c.has_choices && c.is_finished);
    assert_false(c.has_text);
}

static void usage(void **state)
{
    cog_chat_chunk c =
        read_chunk("{\"choices\":[],\"usage\":{\"prompt_tokens\":78,\"completion_tokens\":11,"
                   "\"prompt_tokens_details\":{\"image_tokens\":66,\"cached_tokens\":5}}}");

    assert_false(c.has_choices);
    assert_true(c.has_usage);
    assert_int_equal(c.prompt_tokens, 78);
    assert_int_equal(c.completion_tokens, 11);
    assert_int_equal(c.image_tokens, 66);
    assert_int_equal(c.cached_tokens, 5);
    c = read_chunk("{\"usage\":{\"prompt_tokens\":-3,\"completion_tokens\":99999999999,"
                   "\"prompt_tokens_details\":null}}");
    assert_true(c.has_usage);
    assert_int_equal(c.prompt_tokens, 0);
    assert_int_equal(c.completion_tokens, 0);
}

static void whole_answers_and_errors(void **state)
{
    cog_chat_chunk c = read_chunk("{\"choices\":[{\"message\":{\"content\":\"a clock\"},"
                                  "\"finish_reason\":\"stop\"}],\"usage\":{}}");

    assert_true(c.has_choices && c.has_text && c.is_finished && c.has_usage);
    assert_true(read_chunk("{\"error\":{\"message\":\"no\"}}").is_error);
    assert_false(read_chunk("{\"error\":null}").is_error);
}

static void what_is_no_object(void **state)
{
    static const char *const bad[] = { "", "[]", "{", "{\"choices\":[]}x", "null", "\"a\"" };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cog_chat_chunk c;
        if (cog_chat_read(&c, bad[i], strlen(bad[i])) != COG_EFORMAT)
            fail_msg("took '%s'", bad[i]);
    }
    /* objects with members of the wrong kind are read as far as they go */
    assert_false(read_chunk("{\"choices\":{},\"usage\":7}").has_choices);
    assert_true(read_chunk("{\"choices\":[null,3]}").has_choices);
}

static void models_and_messages(void **state)
{
    static const char list[] = "{\"object\":\"list\",\"data\":[{\"id\":\"demo\"},{\"id\":\"b\"}]}";
    static const char error[] = "{\"error\":{\"message\":\"not so\",\"code\":null}}";
    char *text = NULL;

    assert_int_equal(cog_chat_read_models(&text, list, strlen(list)), 0);
    assert_string_equal(text, "demo");
    cog_free(text);
    assert_int_equal(cog_chat_read_models(&text, "{\"data\":[]}", 11), COG_EFORMAT);
    assert_int_equal(cog_chat_read_models(&text, "<html>", 6), COG_EFORMAT);
    text = cog_chat_read_error(error, strlen(error));
    assert_string_equal(text, "not so");
    cog_free(text);
    assert_null(cog_chat_read_error("<html>", 6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_of_a_stream),       cmocka_unit_test(usage),
        cmocka_unit_test(whole_answers_and_errors), cmocka_unit_test(what_is_no_object),
        cmocka_unit_test(models_and_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
