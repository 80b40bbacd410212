/* Bodies of responses: what they mean, what is repeated of them, and what is refused. */
#include "tests/unit/unit.h"

#include "proto/responses.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const cog_chat_options defaults = {
    .nonce = "0123456789abcdef0123456789abcdef", .max_n = 8, .vocab = 1000, .max_images = 1
};

static void bad_bodies(void **state)
{
    static const struct {
        const char *body, *code, *param;
    } cases[] = {
        { "{}", "missing_required_parameter", "input" },
        { "{\"input\":1}", "invalid_type", "input" },
        { "{\"input\":{}}", "invalid_type", "input" },
        { "{\"input\":[]}", "empty_array", "input" },
        { "{\"input\":[1]}", "invalid_type", "input[0]" },
        { "{\"input\":[{\"type\":1}]}", "invalid_type", "input[0].type" },
        { "{\"input\":[{\"type\":\"function_call_output\"}]}", "unsupported_value",
          "input[0].type" },
        { "{\"input\":[{\"content\":\"a\"}]}", "missing_required_parameter", "input[0].role" },
        { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_file\"}]}]}",
          "unsupported_value", "input[0].content[0]" },
        { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]}",
          "missing_required_parameter", "input[0].content[0].image_url" },
        { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\","
          "\"image_url\":\"https://a/b.png\"}]}]}",
          "invalid_image_url", "input[0].content[0].image_url" },
        { "{\"input\":[{\"role\":\"assistant\",\"content\":\"a\"}]}", "invalid_value", "input[0]" },
        { "{\"input\":\"a\",\"instructions\":[]}", "invalid_type", "instructions" },
        { "{\"input\":\"a\",\"max_output_tokens\":0}", "integer_below_min_value",
          "max_output_tokens" },
        { "{\"input\":\"a\",\"n\":2}", "integer_above_max_value", "n" },
        { "{\"input\":\"a\",\"top_logprobs\":1}", "invalid_value", "top_logprobs" },
        { "{\"input\":\"a\",\"include\":[\"b\"]}", "invalid_value", "include[0]" },
        { "{\"input\":\"a\",\"include\":[1]}", "invalid_type", "include[0]" },
        { "{\"input\":\"a\",\"text\":1}", "invalid_type", "text" },
        { "{\"input\":\"a\",\"text\":{\"format\":1}}", "invalid_type", "text.format" },
        { "{\"input\":\"a\",\"text\":{\"format\":{}}}", "invalid_value", "text.format.type" },
        { "{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"b\"}}}", "invalid_value",
          "text.format.type" },
        { "{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_schema\"}}}", "invalid_value",
          "text.format.name" },
        { "{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"b\","
          "\"schema\":1}}}",
          "invalid_type", "text.format.schema" },
        { "{\"input\":\"a\",\"regex\":\"b\",\"text\":{\"format\":{\"type\":\"json_object\"}}}",
          "invalid_value", "text.format" },
        { "{\"input\":\"a\",\"metadata\":{\"b\":1}}", "invalid_type", "metadata" },
        { "{\"input\":\"a\",\"truncation\":\"auto\"}", "unsupported_value", "truncation" },
        { "{\"input\":\"a\",\"background\":true}", "unsupported_parameter", "background" },
        { "{\"input\":\"a\",\"previous_response_id\":\"resp_1\"}", "unsupported_parameter",
          "previous_response_id" },
        { "{\"input\":\"a\",\"conversation\":\"c\"}", "unsupported_parameter", "conversation" },
        { "{\"prompt\":{\"id\":\"p\"}}", "unsupported_parameter", "prompt" },
        { "{\"input\":\"a\",\"tools\":[{\"type\":\"function\"}]}", "unsupported_parameter",
          "tools" },
        { "{\"input\":\"a\",\"tool_choice\":\"required\"}", "unsupported_parameter", "tools" },
        { "{\"input\":\"a\",\"template_version\":\"b\"}", "invalid_value", "template_version" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_api_error err = { 0 };
        cog_buf echo = { 0 };
        cog_chat c;
        int rc =
            cog_responses_init(&c, &echo, cases[i].body, strlen(cases[i].body), &defaults, &err);

        if (rc == 0 || strcmp(cog_api_error_name(err.code), cases[i].code) != 0 ||
            strcmp(err.param, cases[i].param) != 0)
            fail_msg("%s: %s %s", cases[i].body, cog_api_error_name(err.code), err.param);
        cog_buf_fini(&echo);
        cog_chat_fini(&c);
    }
}

static cog_chat understood(cog_buf *echo, const char *body)
{
    cog_api_error err = { 0 };
    cog_chat c;

    if (cog_responses_init(&c, echo, body, strlen(body), &defaults, &err) < 0)
        fail_msg("%s: %s %s", body, cog_api_error_name(err.code), err.message);
    return c;
}

static void conversations(void **state)
{
    static const struct {
        const char *body, *turns; /* "query|answer|query" */
    } cases[] = {
        { "{\"input\":\"a\"}", "a" },
        { "{\"input\":\"\"}", "" },
        { "{\"input\":\"a\",\"instructions\":\"be\"}", "be\na" },
        { "{\"input\":\"a\",\"instructions\":\"\"}", "a" },
        { "{\"instructions\":\"be\",\"input\":[{\"role\":\"developer\",\"content\":[{\"type\":"
          "\"input_text\",\"text\":\"brief\"}]},{\"role\":\"user\",\"content\":\"a\"}]}",
          "be\nbrief\na" },
        { "{\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
          "\"input_text\",\"text\":\"a\"}]},{\"type\":\"message\",\"id\":\"msg_1\",\"status\":"
          "\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
          "\"text\":\"b\",\"annotations\":[],\"logprobs\":[]}]},{\"type\":null,\"role\":\"user\","
          "\"content\":\"c\"}]}",
          "a|b|c" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_buf echo = { 0 }, turns = { 0 };
        cog_chat c = understood(&echo, cases[i].body);

        cog_buf_puts(&turns, "");
        for (int k = 0; k < c.n_turns; k++) {
            cog_buf_add(&turns, c.turns[k].query.data, c.turns[k].query.len);
            if (k < c.n_turns - 1)
                cog_buf_printf(&turns, "|%s|", c.turns[k].answer.data);
        }
        assert_string_equal(turns.data, cases[i].turns);
        assert_int_equal(c.picture.kind, COG_PICTURE_NONE);
        cog_buf_fini(&turns);
        cog_buf_fini(&echo);
        cog_chat_fini(&c);
    }
}

static void fields_of_the_chat(void **state)
{
    cog_buf echo = { 0 };
    cog_chat c =
        understood(&echo, "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\","
                          "\"image_url\":\"data:image/png;base64,AAAA\",\"detail\":\"low\"}]}],"
                          "\"max_output_tokens\":7,\"include\":[\"message.output_text.logprobs\"],"
                          "\"top_logprobs\":3,\"temperature\":0.5,\"seed\":4,\"stop\":\"b\","
                          "\"template_version\":\"vqa\",\"store\":true,\"odd\":1,\"tools\":[{}],"
                          "\"tool_choice\":\"none\",\"text\":{\"format\":{\"type\":\"json_schema\","
                          "\"name\":\"n\",\"schema\":{\"type\":\"integer\"}}}}");

    assert_int_equal(cog_chat_max_tokens(&c), 7);
    assert_true(c.logprobs && c.top_logprobs == 3);
    assert_true(c.params.temperature == 0.5 && c.params.seed == 4 && c.params.n_stop == 1);
    assert_int_equal(c.form, COG_CHAT_FORM_VQA);
    assert_int_equal(c.picture.kind, COG_PICTURE_INLINE);
    assert_string_equal(c.picture.param, "input[0].content[0].image_url");
    assert_int_equal(c.params.structured.kind, COG_STRUCTURED_SCHEMA);
    assert_string_equal(c.params.structured.text, "{\"type\":\"integer\"}");
    assert_string_equal(c.params.structured.param, "text.format.schema");
    assert_string_equal(c.ignored.data, "odd");
    cog_buf_fini(&echo);
    cog_chat_fini(&c);
}

static void repeated(const char *body, const char *want)
{
    cog_buf echo = { 0 };
    cog_chat c = understood(&echo, body);
    json_t *got, *wanted = json_loads(want, 0, NULL);
    char *whole;

    assert_int_equal(echo.data[0], ',');
    echo.data[0] = '{';
    cog_buf_puts(&echo, "}");
    got = json_loads(echo.data, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(got);
    assert_non_null(wanted);
    whole = json_dumps(got, 0);
    if (!json_equal(got, wanted))
        fail_msg("%s", whole);
    free(whole);
    json_decref(got);
    json_decref(wanted);
    cog_buf_fini(&echo);
    cog_chat_fini(&c);
}

static void what_is_repeated(void **state)
{
    repeated("{\"input\":\"a\"}",
             "{\"instructions\":null,\"max_output_tokens\":null,\"metadata\":{},\"temperature\":1,"
             "\"top_p\":1,\"top_logprobs\":0,\"tool_choice\":\"auto\",\"user\":null,"
             "\"text\":{\"format\":{\"type\":\"text\"}}}");
    repeated("{\"input\":\"a\",\"instructions\":\"b \\\"c\\\"\",\"max_output_tokens\":20,"
             "\"metadata\":{\"d\":\"e\"},\"temperature\":0.25,\"top_p\":0.5,\"tool_choice\":"
             "\"none\",\"user\":\"f\",\"text\":{\"format\":{\"type\":\"json_object\"}}}",
             "{\"instructions\":\"b \\\"c\\\"\",\"max_output_tokens\":20,"
             "\"metadata\":{\"d\":\"e\"},\"temperature\":0.25,\"top_p\":0.5,\"top_logprobs\":0,"
             "\"tool_choice\":\"none\",\"user\":\"f\","
             "\"text\":{\"format\":{\"type\":\"json_object\"}}}");
}

/* A response may be asked for again with them; what is larger than that is not kept. */
static void sizes_of_metadata(void **state)
{
    static const struct {
        int n, name, value;
        bool is_taken;
    } cases[] = {
        { 16, 64, 512, true }, { 17, 1, 1, false }, { 1, 65, 1, false }, { 1, 1, 513, false }
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_buf body = { 0 }, echo = { 0 };
        cog_api_error err = { 0 };
        cog_chat c;
        int rc;

        cog_buf_puts(&body, "{\"input\":\"a\",\"metadata\":{");
        for (int k = 0; k < cases[i].n; k++)
            cog_buf_printf(&body, "%s\"%0*d\":\"%0*d\"", k ? "," : "", cases[i].name,
                           k % (cases[i].name > 1 ? 100 : 10) + (k > 9 ? 10 : 0), cases[i].value,
                           1);
        cog_buf_puts(&body, "}}");
        rc = cog_responses_init(&c, &echo, body.data, body.len, &defaults, &err);
        if ((rc == 0) != cases[i].is_taken)
            fail_msg("%s: %s", body.data, err.message);
        cog_buf_fini(&body);
        cog_buf_fini(&echo);
        cog_chat_fini(&c);
    }
}

/* A long picture stands where a text is repeated: nothing of how it was lifted is told. */
static void pictures_are_not_repeated(void **state)
{
    static const char *const bodies[] = {
        "{\"input\":\"a\",\"metadata\":{\"url\":\"%s\"}}",
        "{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"b\","
        "\"schema\":{\"examples\":[{\"url\":\"%s\"}]}}}}",
    };
    char picture[COG_JSON_LIFT + 100] = "data:image/png;base64,";

    memset(picture + 22, 'A', sizeof(picture) - 23);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        cog_buf body = { 0 }, echo = { 0 };
        cog_api_error err = { 0 };
        cog_chat c;
        const char *at = strstr(bodies[i], "%s");

        cog_buf_add(&body, bodies[i], (size_t)(at - bodies[i]));
        cog_buf_puts(&body, picture);
        cog_buf_puts(&body, at + 2);
        assert_true(cog_responses_init(&c, &echo, body.data, body.len, &defaults, &err) < 0);
        assert_int_equal(cog_api_error_status(err.code), 400);
        cog_buf_fini(&body);
        cog_buf_fini(&echo);
        cog_chat_fini(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_bodies),         cmocka_unit_test(conversations),
        cmocka_unit_test(fields_of_the_chat), cmocka_unit_test(what_is_repeated),
        cmocka_unit_test(sizes_of_metadata),  cmocka_unit_test(pictures_are_not_repeated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
