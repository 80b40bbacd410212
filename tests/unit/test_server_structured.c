/* Structured output over HTTP: what reaches the engine, and what is refused before it. */
#include "tests/unit/unit.h"

#include "tests/unit/server_fixture.h"

#include "server/grammars.h"

#include <string.h>

static void expect_error(http_response r, const char *code, const char *param)
{
    assert_int_equal(r.status, 400);
    assert_string_equal(error_code(&r), code);
    assert_string_equal(error_member(&r, "param"), param);
    response_fini(&r);
}

static void grammars_reach_the_engine(void **state)
{
    static const char *const forms[] = {
        ",\"response_format\":{\"type\":\"json_object\"}",
        (",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\","
         "\"schema\":"
         "{\"type\":\"null\"}}}"),
        ",\"structured_outputs\":{\"choice\":[\"a\"]}",
        ",\"guided_regex\":\"[a-z]+\"",
        ",\"structured_outputs\":{\"boxes\":true}",
        ",\"bad_words\":[\"a\"]",
    };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        http_response r = chat(f, "count=1", forms[i]);

        assert_int_equal(r.status, 200);
        assert_null(response_header(&r, "x-ignored-parameters"));
        assert_true(fake_engine_seen(f->engine).has_grammar);
        response_fini(&r);
    }
    {
        http_response r = chat(f, "count=1", ",\"response_format\":{\"type\":\"text\"}");
        assert_false(fake_engine_seen(f->engine).has_grammar);
        response_fini(&r);
    }
}

static void what_cannot_be_compiled_is_refused(void **state)
{
    fixture *f = *state;

    expect_error(chat(f, "x",
                      ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":"
                      "\"x\",\"schema\":{\"not\":{}}}}"),
                 "invalid_json_schema", "response_format.json_schema.schema");
    expect_error(chat(f, "x", ",\"guided_regex\":\"(\""), "invalid_grammar", "guided_regex");
    expect_error(chat(f, "x", ",\"guided_regex\":\"(a|b)*a(a|b){30}\""), "schema_too_complex",
                 "guided_regex");
    expect_error(chat(f, "x", ",\"guided_json\":{\"minItems\":1000000000}"), "schema_too_complex",
                 "guided_json");
    expect_error(chat(f, "x", ",\"bad_words\":[\"a\"],\"allowed_token_ids\":[5]"), "invalid_value",
                 "allowed_token_ids");
    expect_error(chat(f, "x", ",\"regex\":\"a\",\"allowed_token_ids\":[5]"), "invalid_value",
                 "allowed_token_ids");
    assert_int_equal(fake_engine_accepted(f->engine), 0);
}

/* The response goes. */
static void expect_text(http_response r, const char *part, int times)
{
    int n = 0;

    assert_int_equal(r.status, 200);
    for (const char *at = r.body.data; (at = strstr(at, part)); at++)
        n++;
    assert_int_equal(n, times);
    response_fini(&r);
}

/* What stands twice counts once; of the second half as much as of the first. */
static void choices_have_probabilities(void **state)
{
    fixture *f = *state;

    expect_text(
        chat(f, "count=3", ",\"logprobs\":true,\"guided_choice\":[\"a\",\"b\\\"\",\"a\"],\"n\":2"),
        "\"confidence\":{\"mean_logprob\":-0.5,\"choices\":[{\"text\":\"a\",\"logprob\":-1,"
        "\"probability\":0.666666667},{\"text\":\"b\\\"\",\"logprob\":-1.69314718,"
        "\"probability\":0.333333333}]}}",
        2);
    expect_text(chat(f, "count=3", ",\"logprobs\":true,\"guided_regex\":\"a\""),
                "\"confidence\":{\"mean_logprob\":-0.5}}", 1);
    expect_text(chat(f, "count=0", ",\"logprobs\":true"), "\"confidence\":{\"mean_logprob\":null}}",
                1);
    expect_text(chat(f, "count=3", ",\"guided_choice\":[\"a\"]"), "confidence", 0);
}

/* The engine ends the request when it cannot follow any more. */
static void ambiguity_is_the_clients(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "count=3 fail=1 ambiguous", ",\"regex\":\"a\"");

    assert_int_equal(r.status, 400);
    assert_string_equal(error_code(&r), "schema_too_complex");
    response_fini(&r);
}

static void equal_grammars_are_one(void **state)
{
    cog_grammars *kept = cog_grammars_new();
    cog_grammar *first, *again;
    cog_err err;

    (void)state;
    assert_int_equal(cog_grammars_get(&first, kept, COG_GRAMMAR_REGEX, "a", 1, &err), 0);
    assert_int_equal(cog_grammars_get(&again, kept, COG_GRAMMAR_REGEX, "a", 1, &err), 0);
    assert_ptr_equal(first, again);
    cog_grammar_free(again);
    assert_int_equal(cog_grammars_get(&again, kept, COG_GRAMMAR_SCHEMA, "{}", 2, &err), 0);
    assert_ptr_not_equal(first, again);
    cog_grammar_free(again);
    for (int i = 0; i < 40; i++) { /* more than are kept */
        char text[8];
        int len = snprintf(text, sizeof(text), "b{%d}", i);

        assert_int_equal(cog_grammars_get(&again, kept, COG_GRAMMAR_REGEX, text, (size_t)len, &err),
                         0);
        cog_grammar_free(again);
    }
    assert_int_equal(cog_grammars_get(&again, kept, COG_GRAMMAR_REGEX, "a", 1, &err), 0);
    assert_ptr_not_equal(first, again);
    cog_grammar_free(again);
    cog_grammar_free(first);
    cog_grammars_free(kept);
}

#define STARTED(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STARTED(grammars_reach_the_engine),       STARTED(what_cannot_be_compiled_is_refused),
        STARTED(ambiguity_is_the_clients),        STARTED(choices_have_probabilities),
        cmocka_unit_test(equal_grammars_are_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
