/* The form that answers are to have, in the words of several APIs. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/structured.h"

#include <jansson.h>
#include <string.h>

static int read_body(cog_structured *s, const char *body, cog_api_error *err)
{
    json_t *root = json_loads(body, 0, NULL);
    int rc;

    assert_non_null(root);
    *err = (cog_api_error){ 0 };
    rc = cog_structured_read(s, root, err);
    json_decref(root);
    return rc;
}

static void expect(const char *body, cog_structured_kind kind, const char *text, const char *param)
{
    cog_structured s;
    cog_api_error err;

    if (read_body(&s, body, &err) < 0)
        fail_msg("%s: %s", body, err.message);
    assert_int_equal(s.kind, kind);
    if (text) {
        assert_string_equal(s.text, text);
        assert_int_equal(s.len, strlen(text));
    } else {
        assert_null(s.text);
    }
    if (param)
        assert_string_equal(s.param, param);
    cog_structured_fini(&s);
}

static void expect_error(const char *body, const char *code, const char *param)
{
    cog_structured s;
    cog_api_error err;

    if (read_body(&s, body, &err) == 0)
        fail_msg("accepted: %s", body);
    assert_string_equal(cog_api_error_name(err.code), code);
    assert_string_equal(err.param, param);
    cog_structured_fini(&s);
}

#define FORMAT(text) "{\"response_format\":" text "}"
#define NAMED(text)  FORMAT("{\"type\":\"json_schema\",\"json_schema\":" text "}")

static void forms(void **state)
{
    (void)state;
    expect("{}", COG_STRUCTURED_NONE, NULL, NULL);
    expect("{\"response_format\":null,\"guided_json\":null,\"structured_outputs\":null}",
           COG_STRUCTURED_NONE, NULL, NULL);
    expect(FORMAT("{\"type\":\"text\"}"), COG_STRUCTURED_NONE, NULL, NULL);
    expect(FORMAT("{\"type\":\"json_object\"}"), COG_STRUCTURED_OBJECT, NULL, "response_format");
    expect(FORMAT("{\"type\":\"json_object\",\"schema\":{\"b\":1,\"a\":2}}"), COG_STRUCTURED_SCHEMA,
           "{\"b\":1,\"a\":2}", "response_format.schema");
    expect(FORMAT("{\"type\":\"json_schema\",\"schema\":{}}"), COG_STRUCTURED_SCHEMA, "{}",
           "response_format.schema");
    expect(NAMED("{\"name\":\"a-B_1\",\"strict\":true,\"schema\":{\"type\":\"null\"}}"),
           COG_STRUCTURED_SCHEMA, "{\"type\":\"null\"}", "response_format.json_schema.schema");
    expect(NAMED("{\"name\":\"x\"}"), COG_STRUCTURED_OBJECT, NULL, "response_format");
    expect("{\"structured_outputs\":{\"json\":{},\"regex\":null}}", COG_STRUCTURED_SCHEMA, "{}",
           "structured_outputs.json");
    expect("{\"structured_outputs\":{\"regex\":\"a|b\"}}", COG_STRUCTURED_REGEX, "a|b",
           "structured_outputs.regex");
    expect("{\"structured_outputs\":{\"choice\":[\"a\",\"b\"]}}", COG_STRUCTURED_CHOICE,
           "[\"a\",\"b\"]", "structured_outputs.choice");
    expect("{\"structured_outputs\":{\"boxes\":true}}", COG_STRUCTURED_BOXES, NULL,
           "structured_outputs.boxes");
    expect("{\"structured_outputs\":{\"boxes\":false}}", COG_STRUCTURED_NONE, NULL, NULL);
    expect("{\"guided_json\":\"{\\\"a\\\":1}\"}", COG_STRUCTURED_SCHEMA, "{\"a\":1}",
           "guided_json");
    expect("{\"guided_regex\":\"\"}", COG_STRUCTURED_REGEX, "", "guided_regex");
    expect("{\"guided_choice\":[\"a\"]}", COG_STRUCTURED_CHOICE, "[\"a\"]", "guided_choice");
    expect("{\"json_schema\":true}", COG_STRUCTURED_SCHEMA, "true", "json_schema");
    expect("{\"regex\":\"x\"}", COG_STRUCTURED_REGEX, "x", "regex");
    expect("{\"bad_words\":[\"x\",\" y\"]}", COG_STRUCTURED_WITHOUT, "[\"x\",\" y\"]", "bad_words");
    expect("{\"bad_words\":[],\"regex\":\"x\"}", COG_STRUCTURED_REGEX, "x", "regex");
}

static void errors(void **state)
{
    static const char value[] = "invalid_value", type[] = "invalid_type";

    (void)state;
    expect_error(FORMAT("{}"), value, "response_format.type");
    expect_error(FORMAT("{\"type\":7}"), value, "response_format.type");
    expect_error(FORMAT("{\"type\":\"xml\"}"), value, "response_format.type");
    expect_error(FORMAT("{\"type\":\"json_object\",\"schema\":7}"), type, "response_format.schema");
    expect_error(FORMAT("{\"type\":\"json_schema\"}"), "missing_required_parameter",
                 "response_format.json_schema");
    expect_error(NAMED("7"), type, "response_format.json_schema");
    expect_error(NAMED("{}"), value, "response_format.json_schema.name");
    expect_error(NAMED("{\"name\":\"\"}"), value, "response_format.json_schema.name");
    expect_error(NAMED("{\"name\":\"a b\"}"), value, "response_format.json_schema.name");
    expect_error(NAMED("{\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                       "aaaa\"}"),
                 value, "response_format.json_schema.name");
    expect_error(NAMED("{\"name\":\"x\",\"schema\":[]}"), type,
                 "response_format.json_schema.schema");
    expect_error("{\"structured_outputs\":{}}", value, "structured_outputs");
    expect_error("{\"structured_outputs\":{\"grammar\":\"x\"}}", "unsupported_value",
                 "structured_outputs");
    expect_error("{\"structured_outputs\":{\"json\":{},\"regex\":\"x\"}}", value,
                 "structured_outputs.regex");
    expect_error("{\"structured_outputs\":{\"boxes\":1}}", type, "structured_outputs.boxes");
    expect_error("{\"structured_outputs\":{\"boxes\":true,\"regex\":\"x\"}}", value,
                 "structured_outputs.regex");
    expect_error("{\"guided_regex\":7}", type, "guided_regex");
    expect_error("{\"guided_json\":[]}", type, "guided_json");
    expect_error("{\"guided_choice\":[]}", "empty_array", "guided_choice");
    expect_error("{\"guided_choice\":[\"a\",7]}", type, "guided_choice");
    expect_error("{\"guided_choice\":[\"\"]}", value, "guided_choice");
    expect_error("{\"guided_choice\":[\"a\"],\"regex\":\"x\"}", value, "regex");
    expect_error("{\"response_format\":{\"type\":\"json_object\"},\"guided_regex\":\"x\"}", value,
                 "guided_regex");
    expect_error("{\"bad_words\":\"x\"}", type, "bad_words");
    expect_error("{\"bad_words\":[\"x\",7]}", type, "bad_words");
    expect_error("{\"bad_words\":[\"\"]}", value, "bad_words");
    expect_error("{\"bad_words\":[\"x\"],\"regex\":\"x\"}", value, "bad_words");
}

static void lists_of_words_are_bounded(void **state)
{
    for (int too_much = 0; too_much < 2; too_much++) {
        char *word = cog_sprintf("{\"bad_words\":[\"%0*d\"]}", 128 + too_much, 7);
        cog_buf many = { 0 };
        cog_structured s;
        cog_api_error err;

        cog_buf_puts(&many, "{\"bad_words\":[\"0\"");
        for (int i = 1; i < 64 + too_much; i++)
            cog_buf_printf(&many, ",\"%d\"", i);
        cog_buf_puts(&many, "]}");
        if (too_much) {
            expect_error(word, "string_above_max_length", "bad_words");
            expect_error(many.data, "array_above_max_length", "bad_words");
        } else {
            assert_int_equal(read_body(&s, word, &err), 0);
            cog_structured_fini(&s);
            assert_int_equal(read_body(&s, many.data, &err), 0);
            cog_structured_fini(&s);
        }
        cog_buf_fini(&many);
        cog_free(word);
    }
}

/* Of a text that is too long only so much is made that it shows. */
static void long_texts_are_cut(void **state)
{
    cog_structured s;
    cog_api_error err;
    json_t *root = json_object(), *list = json_array();

    (void)state;
    for (int i = 0; i < 100000; i++)
        json_array_append_new(list, json_string("value"));
    json_object_set_new(root, "guided_choice", list);
    err = (cog_api_error){ 0 };
    assert_int_equal(cog_structured_read(&s, root, &err), 0);
    assert_in_range(s.len, COG_STRUCTURED_MAX + 1, COG_STRUCTURED_MAX + 16);
    assert_int_equal(strlen(s.text), s.len);
    cog_structured_fini(&s);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),
        cmocka_unit_test(errors),
        cmocka_unit_test(lists_of_words_are_bounded),
        cmocka_unit_test(long_texts_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
