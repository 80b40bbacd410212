/* What a chat may say of single tokens, of the end of an answer and of its tokens' likelihood. */
#include "tests/unit/unit.h"

#include "tests/unit/server_fixture.h"

#include <string.h>

/* ------------------------------------------------------------------ what reaches the engine */

static void tokens_and_ends(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "x",
                           ",\"logit_bias\":{\"70\":-1.5,\"255\":100},\"stop_token_ids\":[9,3],"
                           "\"allowed_token_ids\":[7,5],\"min_tokens\":4,\"max_tokens\":4,"
                           "\"ignore_eos\":true,\"no_stop_trim\":true,"
                           "\"skip_special_tokens\":false");
    fake_seen seen = fake_engine_seen(f->engine);

    assert_int_equal(r.status, 200);
    assert_null(response_header(&r, "x-ignored-parameters"));
    assert_int_equal(seen.sampling.n_bias, 2);
    assert_int_equal(seen.bias[0].token, 70);
    assert_true(seen.bias[0].bias == -1.5f);
    assert_int_equal(seen.bias[1].token, 255);
    assert_int_equal(seen.sampling.n_allowed, 2);
    assert_int_equal(seen.allowed[0], 5);
    assert_int_equal(seen.allowed[1], 7);
    assert_int_equal(seen.n_stop_tokens, 2);
    assert_int_equal(seen.stop_token[0], 9);
    assert_int_equal(seen.stop_token[1], 3);
    assert_int_equal(seen.min_tokens, 4);
    assert_true(seen.ignore_eos && seen.keep_stop && seen.show_controls);
    response_fini(&r);

    r = chat(f, "x", ",\"include_stop_str_in_output\":true");
    seen = fake_engine_seen(f->engine);
    assert_true(seen.keep_stop && !seen.ignore_eos && !seen.show_controls);
    assert_int_equal(
        seen.min_tokens + seen.n_stop_tokens + seen.sampling.n_bias + seen.sampling.n_allowed, 0);
    response_fini(&r);

    /* with the most, the context cuts the least */
    r = chat(f, "count=1", ",\"min_tokens\":4100,\"max_tokens\":4200");
    seen = fake_engine_seen(f->engine);
    assert_int_equal(r.status, 200);
    assert_int_equal(seen.max_tokens, FAKE_CONTEXT - 8);
    assert_int_equal(seen.min_tokens, FAKE_CONTEXT - 8);
    response_fini(&r);
}

/* ------------------------------------------------------------------ answers */

/* A number, and in a stream as well. */
static void stop_token(void **state)
{
    fixture *f = *state;

    for (int stream = 0; stream < 2; stream++) {
        http_response r =
            chat(f, "count=2 stop_token=0",
                 stream ? ",\"stream\":true,\"stop_token_ids\":[0]" : ",\"stop_token_ids\":[0]");
        assert_non_null(strstr(r.body.data, "\"finish_reason\":\"stop\",\"stop_reason\":0}"));
        response_fini(&r);
    }
}

#define ENTRY(token, logprob, bytes, top)                                     \
    "{\"token\":\"" token "\",\"logprob\":" logprob ",\"bytes\":[" bytes "]," \
    "\"top_logprobs\":[" top "]}"
#define TOP                                                        \
    "{\"token\":\"</s>\",\"logprob\":0,\"bytes\":[60,47,115,62]}," \
    "{\"token\":\"a\",\"logprob\":-1,\"bytes\":[97]}"
#define LOGPROBS(entries) "\"logprobs\":{\"content\":[" entries "],\"refusal\":null}"

/* In a stream with the text of each token, else all together; and null where nobody asked. */
static void log_probabilities(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "count=2", ",\"logprobs\":true,\"top_logprobs\":2,\"n\":2");
    const char *one = LOGPROBS(
        ENTRY("a", "-0", "97", TOP) "," ENTRY("b", "-0.5", "98", TOP)) ",\"finish_reason\"";
    const char *at;

    assert_int_equal(r.status, 200);
    at = strstr(r.body.data, one);
    assert_non_null(at);
    assert_non_null(strstr(at + 1, one));
    response_fini(&r);

    r = chat(f, "count=2", ",\"logprobs\":true,\"stream\":true");
    at = strstr(r.body.data, "\"content\":\"t0 \"}," LOGPROBS(ENTRY("a", "-0", "97", "")) ",");
    assert_non_null(at);
    assert_non_null(strstr(at, "\"content\":\"t1 \"}," LOGPROBS(ENTRY("b", "-0.5", "98", "")) ","));
    assert_non_null(strstr(at, "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\""));
    response_fini(&r);

    r = chat(f, "count=0", ",\"logprobs\":true");
    assert_non_null(strstr(r.body.data, LOGPROBS("") ","));
    response_fini(&r);
    r = chat(f, "count=2", "");
    assert_non_null(strstr(r.body.data, "\"logprobs\":null,"));
    response_fini(&r);
}

/* ------------------------------------------------------------------ refusals */

static void expect_error(http_response r, const char *code, const char *param)
{
    assert_int_equal(r.status, 400);
    assert_string_equal(error_code(&r), code);
    assert_string_equal(error_member(&r, "param"), param);
    response_fini(&r);
}

/* The vocabulary is the engine's. */
static void ids_out_of_range(void **state)
{
    fixture *f = *state;

    expect_error(chat(f, "x", ",\"logit_bias\":{\"256\":1}"), "invalid_value", "logit_bias");
    expect_error(chat(f, "x", ",\"stop_token_ids\":[255,256]"), "invalid_value",
                 "stop_token_ids[1]");
    expect_error(chat(f, "x", ",\"allowed_token_ids\":[-1]"), "invalid_value",
                 "allowed_token_ids[0]");
    assert_int_equal(fake_engine_accepted(f->engine), 0);
}

static void more_than_there_is_room_for(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "count=1", ",\"min_tokens\":3992");

    assert_int_equal(r.status, 200);
    response_fini(&r);
    expect_error(chat(f, "count=1", ",\"min_tokens\":3993"), "integer_above_max_value",
                 "min_tokens");
    expect_error(chat(f, "x", ",\"min_new_tokens\":5,\"max_tokens\":4"), "integer_above_max_value",
                 "min_new_tokens");
}

/* An answer of a token, and every token that may be drawn ends it: 2 is the engine's. */
static void no_token_left(void **state)
{
    fixture *f = *state;
    http_response r =
        chat(f, "x", ",\"min_tokens\":1,\"allowed_token_ids\":[2,5,7],\"stop_token_ids\":[5]");

    assert_int_equal(r.status, 200);
    response_fini(&r);
    expect_error(
        chat(f, "x", ",\"min_tokens\":1,\"allowed_token_ids\":[2,5],\"stop_token_ids\":[5]"),
        "invalid_value", "min_tokens");
    r = chat(f, "x", ",\"allowed_token_ids\":[2,5],\"stop_token_ids\":[5]");
    assert_int_equal(r.status, 200);
    response_fini(&r);
}

#define STARTED(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STARTED(tokens_and_ends),
        STARTED(stop_token),
        STARTED(log_probabilities),
        STARTED(ids_out_of_range),
        STARTED(more_than_there_is_room_for),
        STARTED(no_token_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
