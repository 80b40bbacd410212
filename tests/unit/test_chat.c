/* The fields of a chat request: ranges, defaults, refusals, and bodies that are no JSON. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "proto/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cog_chat_options options = {
    .nonce = "0123456789abcdef", .max_n = 8, .vocab = 1000, .max_images = 1
};

#define MESSAGES "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"

static int read_body(cog_chat *c, const char *body, cog_api_error *err)
{
    memset(err, 0, sizeof(*err));
    return cog_chat_init(c, body, strlen(body), &options, err);
}

static void expect_code(const char *body, const char *code, const char *param)
{
    cog_chat c;
    cog_api_error err;

    if (read_body(&c, body, &err) == 0)
        fail_msg("accepted: %.200s", body);
    if (strcmp(cog_api_error_name(err.code), code) != 0)
        fail_msg("%.200s: got %s (%s), expected %s", body, cog_api_error_name(err.code),
                 err.message, code);
    if (param)
        assert_string_equal(err.param, param);
    assert_true(strlen(err.message) > 0);
    assert_true(strlen(err.message) < 400);
    cog_chat_fini(&c);
}

/* One field beside good messages; code NULL: it must be accepted. */
static void expect_field(const char *field, const char *value, const char *code)
{
    char *body = cog_sprintf("{" MESSAGES ",\"%s\":%s}", field, value);
    cog_chat c;
    cog_api_error err;

    if (code) {
        expect_code(body, code, NULL);
    } else {
        if (read_body(&c, body, &err) < 0)
            fail_msg("%s: %s", body, err.message);
        assert_int_equal(c.ignored.len, 0);
        cog_chat_fini(&c);
    }
    cog_free(body);
}

static const char low_int[] = "integer_below_min_value", high_int[] = "integer_above_max_value";
static const char low_num[] = "decimal_below_min_value", high_num[] = "decimal_above_max_value";
static const char type[] = "invalid_type", value_[] = "invalid_value";
static const char no[] = "unsupported_parameter";

static void ranges(void **state)
{
    static const struct {
        const char *field, *value, *code;
    } cases[] = {
        { "max_tokens", "1", NULL },
        { "max_tokens", "5.0", NULL },
        { "max_tokens", "4294967295", NULL },
        { "max_tokens", "0", low_int },
        { "max_tokens", "9007199254740994", high_int },
        { "max_tokens", "1.5", type },
        { "max_tokens", "\"5\"", type },
        { "max_tokens", "true", type },
        { "max_tokens", "null", NULL },
        { "max_completion_tokens", "0", low_int },
        { "n_predict", "-1", low_int },
        { "temperature", "0", NULL },
        { "temperature", "2", NULL },
        { "temperature", "-0.001", low_num },
        { "temperature", "2.001", high_num },
        { "temperature", "\"1\"", type },
        { "temperature", "false", type },
        { "temperature", "null", NULL },
        { "top_p", "0", NULL },
        { "top_p", "1.0", NULL },
        { "top_p", "1.1", high_num },
        { "top_p", "-1", low_num },
        { "n", "1", NULL },
        { "n", "8", NULL },
        { "n", "0", low_int },
        { "n", "9", high_int },
        { "n", "129", high_int },
        { "seed", "-9223372036854775808", NULL },
        { "seed", "9223372036854775807", NULL },
        { "seed", "1.5", type },
        { "seed", "1e300", type },
        { "stream", "false", NULL },
        { "stream", "1", type },
        { "logit_bias", "null", NULL },
        { "logit_bias", "{}", NULL },
        { "logit_bias", "{\"5\":1}", NULL },
        { "logit_bias", "{\"0\":-100,\"999\":100}", NULL },
        { "logit_bias", "{\"999\":0.5}", NULL },
        { "logit_bias", "{\"1000\":1}", value_ },
        { "logit_bias", "{\"4294967297\":1}", value_ },
        { "logit_bias", "{\"18446744073709551621\":1}", value_ },
        { "logit_bias", "{\"-1\":1}", value_ },
        { "logit_bias", "{\"05\":1}", value_ },
        { "logit_bias", "{\"5 \":1}", value_ },
        { "logit_bias", "{\"5.0\":1}", value_ },
        { "logit_bias", "{\"\":1}", value_ },
        { "logit_bias", "{\"cat\":1}", value_ },
        { "logit_bias", "{\"5\":100.1}", high_num },
        { "logit_bias", "{\"5\":-100.1}", low_num },
        { "logit_bias", "{\"5\":1,\"6\":101}", high_num },
        { "logit_bias", "{\"5\":\"1\"}", type },
        { "logit_bias", "{\"5\":null}", type },
        { "logit_bias", "[]", type },
        { "stop_token_ids", "null", NULL },
        { "stop_token_ids", "[]", NULL },
        { "stop_token_ids", "[0,999,5.0,5]", NULL },
        { "stop_token_ids", "[1000]", value_ },
        { "stop_token_ids", "[-1]", value_ },
        { "stop_token_ids", "[1e300]", value_ },
        { "stop_token_ids", "[\"5\"]", type },
        { "stop_token_ids", "[1.5]", type },
        { "stop_token_ids", "5", type },
        { "allowed_token_ids", "[]", "empty_array" },
        { "allowed_token_ids", "[0,999,0]", NULL },
        { "allowed_token_ids", "[1000]", value_ },
        { "allowed_token_ids", "[true]", type },
        { "allowed_token_ids", "{}", type },
        { "min_tokens", "0", NULL },
        { "min_tokens", "5", NULL },
        { "min_tokens", "-1", low_int },
        { "min_tokens", "0.5", type },
        { "min_tokens", "null", NULL },
        { "min_new_tokens", "5", NULL },
        { "min_new_tokens", "-1", low_int },
        { "ignore_eos", "true", NULL },
        { "ignore_eos", "1", type },
        { "include_stop_str_in_output", "true", NULL },
        { "include_stop_str_in_output", "\"\"", type },
        { "no_stop_trim", "true", NULL },
        { "skip_special_tokens", "false", NULL },
        { "skip_special_tokens", "0", type },
        { "presence_penalty", "-2", NULL },
        { "presence_penalty", "-2.1", low_num },
        { "frequency_penalty", "2.1", high_num },
        { "top_k", "-1", NULL },
        { "top_k", "-2", low_int },
        { "top_k", "0.5", type },
        { "min_p", "0", NULL },
        { "min_p", "1.01", high_num },
        { "repetition_penalty", "0", low_num },
        { "repetition_penalty", "0.001", NULL },
        { "repetition_penalty", "2.1", high_num },
        { "model", "5", type },
        { "model", "\"\"", NULL },
        { "user", "null", NULL },
        { "cache_salt", "\"s\"", NULL },
        { "cache_salt", "null", NULL },
        { "cache_salt", "\"\"", value_ },
        { "cache_salt", "5", type },
        { "cache_prompt", "false", NULL },
        { "cache_prompt", "0", type },
        { "priority", "-100", NULL },
        { "priority", "100", NULL },
        { "priority", "-101", low_int },
        { "priority", "101", high_int },
        { "priority", "\"1\"", type },
        { "user", "{}", type },
        { "request_id", "\"a-b\"", NULL },
        { "request_id", "\"a b\"", value_ },
        { "request_id", "\"\"", value_ },
        { "template_version", "\"vqa\"", NULL },
        { "template_version", "\"VQA\"", value_ },
        { "template_version", "1", type },
        { "chat_template_kwargs", "{\"template_version\":\"base\",\"x\":1}", NULL },
        { "chat_template_kwargs", "{\"template_version\":\"x\"}", value_ },
        { "chat_template_kwargs", "[]", type },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_field(cases[i].field, cases[i].value, cases[i].code);
}

static void refused_fields(void **state)
{
    static const struct {
        const char *field, *value, *code;
    } cases[] = {
        { "logprobs", "true", NULL },
        { "logprobs", "false", NULL },
        { "logprobs", "null", NULL },
        { "logprobs", "1", type },
        { "top_logprobs", "0", NULL },
        { "top_logprobs", "5", value_ },
        { "top_logprobs", "21", high_int },
        { "top_logprobs", "-1", low_int },
        { "response_format", "{\"type\":\"text\"}", NULL },
        { "response_format", "{\"type\":\"json_object\"}", NULL },
        { "response_format", "{\"type\":\"json_schema\",\"json_schema\":{}}", value_ },
        { "response_format", "{\"type\":\"xml\"}", value_ },
        { "response_format", "{}", value_ },
        { "response_format", "\"text\"", type },
        { "tools", "[]", NULL },
        { "tools", "[{}]", no },
        { "tools", "{}", type },
        { "tool_choice", "\"none\"", NULL },
        { "tool_choice", "\"auto\"", NULL },
        { "tool_choice", "\"required\"", no },
        { "tool_choice", "{\"type\":\"function\"}", no },
        { "functions", "[{}]", no },
        { "function_call", "\"none\"", NULL },
        { "function_call", "{\"name\":\"f\"}", no },
        { "modalities", "[\"text\"]", NULL },
        { "modalities", "[\"text\",\"audio\"]", "unsupported_value" },
        { "audio", "{\"voice\":\"x\"}", no },
        { "web_search_options", "{\"a\":1}", no },
        { "web_search_options", "{}", no }, /* a search with default options */
        { "structured_outputs", "{}", value_ },
        { "guided_json", "{}", NULL }, /* the schema that takes anything */
        { "guided_json", "[]", type },
        { "guided_json", "false", NULL },
        { "guided_choice", "[]", "empty_array" },
        { "bad_words", "[\"a\"]", NULL },
        { "bad_words", "{}", type },
        { "add_generation_prompt", "true", NULL },
        { "add_generation_prompt", "false", NULL },
        { "add_generation_prompt", "0", type },
        { "continue_final_message", "false", NULL },
        { "continue_final_message", "true", value_ }, /* the last message is a user's */
        { "echo", "true", no },
        { "prompt_logprobs", "20", NULL },
        { "prompt_logprobs", "-2", low_int },
        { "return_token_ids", "true", NULL },
        { "return_tokens_as_token_ids", "true", no },
        { "use_beam_search", "true", no },
        { "best_of", "1", NULL },
        { "best_of", "2", no },
        { "grounding", "false", NULL },
        { "grounding", "null", NULL },
        { "grounding", "true", "invalid_value" }, /* there is no picture */
        { "grounding", "{}", "invalid_value" },
        { "grounding", "7", "invalid_type" },
        { "chat_template", "\"{{x}}\"", no },
        { "structured_outputs", "{\"regex\":\"a\"}", NULL },
        { "guided_json", "{\"type\":\"object\"}", NULL },
        { "guided_regex", "\"a\"", NULL },
        { "guided_choice", "[\"a\"]", NULL },
        { "guided_grammar", "\"a\"", no },
        { "json_schema", "\"{}\"", NULL },
        { "regex", "\"a\"", NULL },
        { "ebnf", "\"a\"", no },
        { "grammar", "\"a\"", no },
        { "guided_json", "null", NULL },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_field(cases[i].field, cases[i].value, cases[i].code);
}

/* An object or array of n members, "MEMBER,MEMBER"; the caller's. */
static char *many(const char *begin, const char *member, int n, const char *end)
{
    cog_buf b = { 0 };

    cog_buf_puts(&b, begin);
    for (int i = 0; i < n; i++)
        cog_buf_printf(&b, member, i ? "," : "", i);
    cog_buf_puts(&b, end);
    return cog_buf_detach(&b, NULL);
}

static void lists_of_tokens(void **state)
{
    static const char too_many[] = "array_above_max_length";
    char *biases[] = { many("{", "%s\"%d\":1", 1000, "}"), many("{", "%s\"%d\":1", 1025, "}") };
    char *stops[] = { many("[", "%s%d", 64, "]"), many("[", "%s%d", 65, "]") };
    char *allowed[] = { many("[", "%s%d", 1000, "]"), many("[", "%s5", 1001, "]") };
    cog_chat c;
    cog_api_error err;

    for (int i = 0; i < 2; i++) {
        expect_field("logit_bias", biases[i], i ? too_many : NULL);
        expect_field("stop_token_ids", stops[i], i ? too_many : NULL);
        expect_field("allowed_token_ids", allowed[i], i ? too_many : NULL);
        cog_free(biases[i]);
        cog_free(stops[i]);
        cog_free(allowed[i]);
    }
    expect_code("{" MESSAGES ",\"logit_bias\":{\"5\":1,\"1000\":1}}", value_, "logit_bias");
    expect_code("{" MESSAGES ",\"logit_bias\":{\"5\":101}}", high_num, "logit_bias");
    expect_code("{" MESSAGES ",\"stop_token_ids\":[1,2,3,1000]}", value_, "stop_token_ids[3]");
    expect_code("{" MESSAGES ",\"allowed_token_ids\":[1,-2]}", value_, "allowed_token_ids[1]");

    assert_int_equal(read_body(&c,
                               "{" MESSAGES ",\"logit_bias\":{\"70\":1.5,\"9\":-100,\"800\":0},"
                               "\"stop_token_ids\":[7,3],\"allowed_token_ids\":[9,3,9,800,3]}",
                               &err),
                     0);
    assert_int_equal(c.params.tokens.n_bias, 3); /* ascending */
    assert_int_equal(c.params.tokens.bias[0].token, 9);
    assert_true(c.params.tokens.bias[0].bias == -100);
    assert_int_equal(c.params.tokens.bias[1].token, 70);
    assert_true(c.params.tokens.bias[1].bias == 1.5f);
    assert_int_equal(c.params.tokens.bias[2].token, 800);
    assert_int_equal(c.params.tokens.n_stop, 2);
    assert_int_equal(c.params.tokens.stop[0], 7);
    assert_int_equal(c.params.tokens.stop[1], 3);
    assert_int_equal(c.params.tokens.n_allowed, 3); /* each once */
    assert_int_equal(c.params.tokens.allowed[0], 3);
    assert_int_equal(c.params.tokens.allowed[1], 9);
    assert_int_equal(c.params.tokens.allowed[2], 800);
    cog_chat_fini(&c);
}

static void log_probabilities(void **state)
{
    cog_chat c;
    cog_api_error err;

    assert_int_equal(read_body(&c, "{" MESSAGES ",\"logprobs\":true,\"top_logprobs\":20}", &err),
                     0);
    assert_true(c.logprobs);
    assert_int_equal(c.top_logprobs, 20);
    cog_chat_fini(&c);
    expect_code("{" MESSAGES ",\"logprobs\":true,\"top_logprobs\":21}", high_int, "top_logprobs");
    expect_code("{" MESSAGES ",\"logprobs\":false,\"top_logprobs\":1}", value_, "top_logprobs");
    expect_code("{" MESSAGES ",\"logprobs\":null,\"top_logprobs\":1}", value_, "top_logprobs");
}

static void ignored_silently(void **state)
{
    static const char *const names[] = { "metadata",
                                         "store",
                                         "service_tier",
                                         "safety_identifier",
                                         "prompt_cache_key",
                                         "prompt_cache_retention",
                                         "prompt_cache_options",
                                         "reasoning_effort",
                                         "verbosity",
                                         "prediction",
                                         "parallel_tool_calls",
                                         "moderation",
                                         "spaces_between_special_tokens",
                                         "add_special_tokens",
                                         "mm_processor_kwargs",
                                         "media_io_kwargs",
                                         "length_penalty" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        expect_field(names[i], "{\"a\":[1,true]}", NULL);
        expect_field(names[i], "\"x\"", NULL);
    }
}

static void tools_with_none(void **state)
{
    cog_chat c;
    cog_api_error err;

    assert_int_equal(read_body(&c, "{" MESSAGES ",\"tools\":[{}],\"tool_choice\":\"none\"}", &err),
                     0);
    cog_chat_fini(&c);
    expect_code("{" MESSAGES ",\"tools\":[{}],\"tool_choice\":\"auto\"}", no, "tools");
}

static void defaults(void **state)
{
    cog_chat c;
    cog_api_error err;

    assert_int_equal(read_body(&c, "{" MESSAGES "}", &err), 0);
    assert_true(c.params.temperature == 1 && c.params.top_p == 1 &&
                c.params.repetition_penalty == 1);
    assert_true(c.params.min_p == 0 && c.params.frequency_penalty == 0 &&
                c.params.presence_penalty == 0);
    assert_int_equal(c.params.n, 1);
    assert_int_equal(c.params.top_k, 0);
    assert_false(c.params.has_seed);
    assert_false(c.params.stream);
    assert_null(c.params.model);
    assert_int_equal(cog_chat_max_tokens(&c), 0);
    assert_int_equal(c.form, COG_CHAT_FORM_DEFAULT);
    assert_int_equal(c.params.n_stop, 0);
    assert_int_equal(c.params.tokens.n_bias + c.params.tokens.n_stop + c.params.tokens.n_allowed,
                     0);
    assert_true(c.params.skip_special_tokens && !c.params.ignore_eos);
    assert_true(!c.params.keep_stop && !c.params.no_stop_trim);
    assert_null(c.picture.base64);
    cog_chat_fini(&c);
}

static void values(void **state)
{
    cog_chat c;
    cog_api_error err;

    assert_int_equal(
        read_body(&c,
                  "{" MESSAGES ",\"model\":\"m\",\"temperature\":0.5,\"top_p\":1,\"n\":2.0,"
                  "\"seed\":-7,\"stream\":true,\"stream_options\":{\"include_usage\":true,"
                  "\"include_obfuscation\":false,\"continuous_usage_stats\":true},\"stop\":[\"a\","
                  "\"\\u00fc\"],\"max_tokens\":5,\"max_completion_tokens\":6,\"n_predict\":7,"
                  "\"top_k\":40,\"template_version\":\"vqa\",\"user\":\"u\"}",
                  &err),
        0);
    assert_string_equal(c.params.model, "m");
    assert_string_equal(c.params.user, "u");
    assert_true(c.params.temperature == 0.5);
    assert_int_equal(c.params.n, 2);
    assert_true(c.params.has_seed && c.params.seed == -7);
    assert_true(c.params.stream && c.params.include_usage && c.params.continuous_usage);
    assert_int_equal(c.params.n_stop, 2);
    assert_string_equal(c.params.stop[1], "\xc3\xbc");
    assert_int_equal(cog_chat_max_tokens(&c), 6);
    assert_int_equal(c.params.top_k, 40);
    assert_int_equal(c.form, COG_CHAT_FORM_VQA);
    cog_chat_fini(&c);
}

static void stops(void **state)
{
    char *long_stop = cog_alloc(1, 258);

    expect_field("stop", "\"a\"", NULL);
    expect_field("stop", "[]", NULL);
    expect_field("stop", "\"\"", value_);
    expect_field("stop", "5", type);
    expect_field("stop", "[5]", type);
    expect_field("stop", "[null]", type);
    expect_field("stop",
                 "[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
                 "\"a\",\"a\",\"a\",\"a\"]",
                 NULL);
    expect_field("stop",
                 "[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
                 "\"a\",\"a\",\"a\",\"a\",\"a\"]",
                 "array_above_max_length");
    long_stop[0] = long_stop[257] = '"';
    memset(long_stop + 1, 'a', 256);
    char *longest = cog_sprintf("%.258s", long_stop);
    char *too_long = cog_sprintf("\"a%.257s", long_stop + 1);
    expect_field("stop", longest, NULL);
    expect_field("stop", too_long, "string_above_max_length");
    expect_code("{" MESSAGES ",\"stop\":[\"a\",\"\"]}", value_, "stop[1]");
    cog_free(longest);
    cog_free(too_long);
    longest = cog_sprintf("\"%01024d\"", 7);
    too_long = cog_sprintf("\"%01025d\"", 7);
    expect_field("cache_salt", longest, NULL);
    expect_field("cache_salt", too_long, "string_above_max_length");
    cog_free(longest);
    cog_free(too_long);
    cog_free(long_stop);
}

static void stream_options_rules(void **state)
{
    expect_field("stream_options", "{}", value_);
    expect_field("stream_options", "null", NULL);
    expect_code("{" MESSAGES ",\"stream\":true,\"stream_options\":{\"include_usage\":1}}", type,
                "stream_options.include_usage");
}

static void unknown_fields(void **state)
{
    const char *body = "{" MESSAGES ",\"mirostat\":1,\"a,b\\n\\u00fc\":2,\"1\":0,\"2\":0,\"3\":0,"
                       "\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"10\":0}";
    cog_chat_options strict = options;
    cog_chat c;
    cog_api_error err;

    assert_int_equal(read_body(&c, body, &err), 0);
    assert_string_equal(c.ignored.data, "mirostat, a?b???, 1, 2, 3, 4, 5, 6, 7, 8");
    cog_chat_fini(&c);
    strict.strict = true;
    assert_true(cog_chat_init(&c, body, strlen(body), &strict, &err) < 0);
    assert_int_equal(err.code, COG_API_UNKNOWN_PARAMETER);
    assert_non_null(strstr(err.message, "'mirostat'"));
    cog_chat_fini(&c);
}

/* ------------------------------------------------------------------ bodies */

static void broken_json(void **state)
{
    static const char *const bodies[] = {
        "",
        " ",
        "{",
        "[]",
        "null",
        "5",
        "\"x\"",
        "{" MESSAGES "}x",
        "{" MESSAGES "}{}",
        "{" MESSAGES ",}",
        "{" MESSAGES ",\"n\":1,\"n\":1}",
        "{" MESSAGES ",\"a\":{\"b\":1,\"b\":2}}",
        "{" MESSAGES ",\"seed\":9223372036854775808}",
        "{" MESSAGES ",\"temperature\":1e999}",
        "{" MESSAGES ",\"temperature\":NaN}",
        "{" MESSAGES ",\"temperature\":Infinity}",
        "{" MESSAGES ",\"n\":01}",
        "{" MESSAGES ",\"a\":\"\\u0000\"}",
        "{" MESSAGES ",\"a\\u0000\":1}",
        "{" MESSAGES ",\"a\":\"\\ud800\"}",
        "{" MESSAGES ",\"a\":\"\\udc00\\ud800\"}",
        "{" MESSAGES ",\"a\":\"\xff\"}",
        "{" MESSAGES ",\"a\":\"\xc0\xaf\"}",
        "{" MESSAGES ",\"a\":\"\xed\xa0\x80\"}",
        "{" MESSAGES ",\"a\":\"\n\"}",
        "{" MESSAGES ",\"a\":\"\\x\"}",
        "\xef\xbb\xbf{" MESSAGES "}",
        "{" MESSAGES "/*x*/}",
        "{'a':1}",
    };

    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        expect_code(bodies[i], "invalid_json", "");
}

static void depth(void **state)
{
    char open[65], close[65], *body;

    for (int d = 62; d <= 64; d++) {
        memset(open, '[', (size_t)d);
        memset(close, ']', (size_t)d);
        open[d] = close[d] = '\0';
        body = cog_sprintf("{" MESSAGES ",\"metadata\":%s%s}", open, close);
        if (d < 64)
            expect_field("metadata", "[]", NULL);
        else
            expect_code(body, "invalid_json", "");
        if (d < 64) {
            cog_chat c;
            cog_api_error err;
            assert_int_equal(read_body(&c, body, &err), 0);
            cog_chat_fini(&c);
        }
        cog_free(body);
    }
}

/* Every cut of a good body is an error, and never more than one. */
static void truncated(void **state)
{
    static const char body[] = "{" MESSAGES ",\"stop\":[\"\\u00e9\"],\"n\":2,\"stream\":true}";

    for (size_t len = 0; len < sizeof(body) - 1; len++) {
        char *exact = cog_alloc(1, len ? len : 1);
        cog_chat c;
        cog_api_error err = { 0 };

        memcpy(exact, body, len);
        assert_true(cog_chat_init(&c, exact, len, &options, &err) < 0);
        assert_int_equal(err.code, COG_API_INVALID_JSON);
        cog_chat_fini(&c);
        cog_free(exact);
    }
}

/* Any byte in any place: accepted or refused with one known code, and nothing else. */
static void flipped_bytes(void **state)
{
    static const char body[] = "{" MESSAGES ",\"n\":1,\"stop\":\"a\",\"seed\":12}";
    static const unsigned char bytes[] = { 0,   '"', '\\', '{',  '}',  '[', ']', ',',
                                           ':', '-', '9',  0x80, 0xff, 'e', ' ' };

    for (size_t at = 0; at < sizeof(body) - 1; at++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            char copy[sizeof(body)];
            cog_chat c;
            cog_api_error err = { 0 };

            memcpy(copy, body, sizeof(body));
            copy[at] = (char)bytes[i];
            if (cog_chat_init(&c, copy, sizeof(body) - 1, &options, &err) < 0)
                assert_int_equal(cog_api_error_status(err.code), 400);
            else
                assert_int_equal(err.code, COG_API_NONE);
            cog_chat_fini(&c);
        }
    }
}

/* A client's text comes back once, and short. */
static void errors_stay_small(void **state)
{
    char *name = cog_alloc(1, 100001), *body;
    cog_chat c;
    cog_api_error err;
    cog_buf out = { 0 };

    memset(name, 'q', 100000);
    body = cog_sprintf("{" MESSAGES ",\"template_version\":\"%s\"}", name);
    assert_true(read_body(&c, body, &err) < 0);
    cog_api_error_write(&out, &err);
    assert_true(out.len < 500);
    cog_chat_fini(&c);
    cog_buf_fini(&out);
    cog_free(body);
    cog_free(name);
}

static void request_ids(void **state)
{
    char longest[130];

    memset(longest, 'a', 129);
    longest[129] = '\0';
    assert_false(cog_params_is_request_id(longest));
    longest[128] = '\0';
    assert_true(cog_params_is_request_id(longest));
    assert_true(cog_params_is_request_id("AZaz09._:-"));
    assert_false(cog_params_is_request_id(""));
    assert_false(cog_params_is_request_id("a b"));
    assert_false(cog_params_is_request_id("a\n"));
    assert_false(cog_params_is_request_id("\xc3\xbc"));
}

/* A long string that looks like a picture is itself wherever no picture stands. */
static void long_strings_are_themselves(void **state)
{
    char *text = cog_sprintf("data:%05000d", 1), *body;
    cog_chat c;
    cog_api_error err;

    body = cog_sprintf("{" MESSAGES ",\"model\":\"%s\"}", text);
    assert_int_equal(read_body(&c, body, &err), 0);
    assert_string_equal(c.params.model, text);
    cog_chat_fini(&c);
    cog_free(body);
    body = cog_sprintf("{" MESSAGES ",\"user\":\"%s\"}", text);
    expect_code(body, "string_above_max_length", "user");
    cog_free(body);
    body = cog_sprintf("{" MESSAGES ",\"stop\":[\"%s\"]}", text);
    expect_code(body, "string_above_max_length", "stop[0]");
    cog_free(body);
    body = cog_sprintf("{\"messages\":[{\"role\":\"%s\",\"content\":\"x\"}]}", text);
    assert_true(read_body(&c, body, &err) < 0);
    assert_non_null(strstr(err.message, "'data:0000"));
    cog_chat_fini(&c);
    cog_free(body);
    cog_free(text);
}

/* An answer that has begun goes on; what is said of both ends of a prompt must fit. */
static void the_last_message_goes_on(void **state)
{
#define TURNS                                              \
    "\"messages\":[{\"role\":\"user\",\"content\":\"q\"}," \
    "{\"role\":\"assistant\",\"content\":\"The \"},{\"role\":\"assistant\",\"content\":\"a\"}]"
    static const char both[] = "{" TURNS ",\"continue_final_message\":true,"
                               "\"add_generation_prompt\":true}";
    cog_api_error err = { 0 };
    cog_chat c;

    assert_int_equal(read_body(&c, "{" TURNS ",\"continue_final_message\":true}", &err), 0);
    assert_true(c.continue_final && !c.is_open);
    assert_int_equal(c.n_turns, 1);
    assert_memory_equal(c.turns[0].answer.data, "The \na", 6);
    cog_chat_fini(&c);
    assert_int_equal(read_body(&c,
                               "{" TURNS ",\"continue_final_message\":true,"
                               "\"add_generation_prompt\":false}",
                               &err),
                     0);
    assert_true(c.continue_final && !c.is_open);
    cog_chat_fini(&c);
    assert_int_equal(read_body(&c, "{" MESSAGES ",\"add_generation_prompt\":false}", &err), 0);
    assert_true(c.is_open && !c.continue_final);
    cog_chat_fini(&c);
    expect_code(both, "invalid_value", "continue_final_message");
    expect_code("{" TURNS "}", "invalid_value", "messages[2]");
    expect_code("{" MESSAGES ",\"continue_final_message\":true}", "invalid_value",
                "continue_final_message");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges),
        cmocka_unit_test(refused_fields),
        cmocka_unit_test(lists_of_tokens),
        cmocka_unit_test(log_probabilities),
        cmocka_unit_test(ignored_silently),
        cmocka_unit_test(tools_with_none),
        cmocka_unit_test(defaults),
        cmocka_unit_test(values),
        cmocka_unit_test(stops),
        cmocka_unit_test(stream_options_rules),
        cmocka_unit_test(unknown_fields),
        cmocka_unit_test(broken_json),
        cmocka_unit_test(depth),
        cmocka_unit_test(truncated),
        cmocka_unit_test(flipped_bytes),
        cmocka_unit_test(errors_stay_small),
        cmocka_unit_test(request_ids),
        cmocka_unit_test(long_strings_are_themselves),
        cmocka_unit_test(the_last_message_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
