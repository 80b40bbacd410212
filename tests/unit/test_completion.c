/* Bodies of completion requests, and their answers' text. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "proto/completion.h"
#include "proto/completion_write.h"

#include <stdio.h>
#include <math.h>
#include <string.h>

enum { VOCAB = 1000 };

static const cog_completion_options defaults = {
    .nonce = "0123456789abcdef0123456789abcdef",
    .max_n = 8,
    .max_prompts = 3,
    .vocab = VOCAB,
};

static cog_completion understood(const char *body)
{
    cog_api_error err = { 0 };
    cog_completion c;

    if (cog_completion_init(&c, body, strlen(body), &defaults, &err) < 0)
        fail_msg("%s: %s %s", body, cog_api_error_name(err.code), err.message);
    return c;
}

static void bad_bodies(void **state)
{
    static const struct {
        const char *body, *code, *param;
    } cases[] = {
        { "", "invalid_json", "" },
        { "[]", "invalid_json", "" },
        { "{}", "missing_required_parameter", "prompt" },
        { "{\"prompt\":null}", "missing_required_parameter", "prompt" },
        { "{\"prompt\":1}", "invalid_type", "prompt" },
        { "{\"prompt\":{}}", "invalid_type", "prompt" },
        { "{\"prompt\":true}", "invalid_type", "prompt" },
        { "{\"prompt\":[]}", "empty_array", "prompt" },
        { "{\"prompt\":[null]}", "invalid_type", "prompt[0]" },
        { "{\"prompt\":[{}]}", "invalid_type", "prompt[0]" },
        { "{\"prompt\":[\"a\",1]}", "invalid_type", "prompt[1]" },
        { "{\"prompt\":[\"a\",[1]]}", "invalid_type", "prompt[1]" },
        { "{\"prompt\":[[1],\"a\"]}", "invalid_type", "prompt[1]" },
        { "{\"prompt\":[[1],2]}", "invalid_type", "prompt[1]" },
        { "{\"prompt\":[1,\"a\"]}", "invalid_type", "prompt[1]" },
        { "{\"prompt\":[1,2.5]}", "invalid_type", "prompt[1]" },
        { "{\"prompt\":[1,[2]]}", "invalid_type", "prompt[1]" },
        { "{\"prompt\":[[1],[]]}", "empty_array", "prompt[1]" },
        { "{\"prompt\":[5,1000]}", "invalid_value", "prompt[1]" },
        { "{\"prompt\":[5,-1]}", "invalid_value", "prompt[1]" },
        { "{\"prompt\":[1e300]}", "invalid_value", "prompt[0]" },
        { "{\"prompt\":[[5],[6,1000]]}", "invalid_value", "prompt[1][1]" },
        { "{\"prompt\":[\"a\",\"b\",\"c\",\"d\"]}", "array_above_max_length", "prompt" },
        { "{\"prompt\":[[1],[1],[1],[1]]}", "array_above_max_length", "prompt" },
        { "{\"prompt\":\"a\",\"max_tokens\":-1}", "integer_below_min_value", "max_tokens" },
        { "{\"prompt\":\"a\",\"max_tokens\":0}", "integer_below_min_value", "max_tokens" },
        { "{\"prompt\":\"a\",\"max_tokens\":0,\"echo\":false}", "integer_below_min_value",
          "max_tokens" },
        { "{\"prompt\":\"a\",\"max_tokens\":\"1\"}", "invalid_type", "max_tokens" },
        { "{\"prompt\":\"a\",\"echo\":1}", "invalid_type", "echo" },
        { "{\"prompt\":\"a\",\"suffix\":\"b\"}", "unsupported_parameter", "suffix" },
        { "{\"prompt\":\"a\",\"suffix\":1}", "invalid_type", "suffix" },
        { "{\"prompt\":\"a\",\"logprobs\":-1}", "integer_below_min_value", "logprobs" },
        { "{\"prompt\":\"a\",\"logprobs\":21}", "integer_above_max_value", "logprobs" },
        { "{\"prompt\":\"a\",\"logprobs\":0,\"echo\":true,\"stream\":true}",
          "unsupported_parameter", "logprobs" },
        { "{\"prompt\":\"a\",\"logprobs\":true}", "invalid_type", "logprobs" },
        { "{\"prompt\":\"a\",\"best_of\":2}", "unsupported_parameter", "best_of" },
        { "{\"prompt\":\"a\",\"add_special_tokens\":false}", "unsupported_parameter",
          "add_special_tokens" },
        { "{\"prompt\":\"a\",\"n\":9}", "integer_above_max_value", "n" },
        { "{\"prompt\":\"a\",\"temperature\":2.1}", "decimal_above_max_value", "temperature" },
        { "{\"prompt\":\"a\",\"stop\":\"\"}", "invalid_value", "stop" },
        { "{\"prompt\":\"a\",\"stream_options\":{}}", "invalid_value", "stream_options" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_api_error err = { 0 };
        cog_completion c;
        int rc = cog_completion_init(&c, cases[i].body, strlen(cases[i].body), &defaults, &err);

        if (rc == 0 || strcmp(cog_api_error_name(err.code), cases[i].code) != 0 ||
            strcmp(err.param, cases[i].param) != 0)
            fail_msg("%s: %s %s", cases[i].body, cog_api_error_name(err.code), err.param);
        cog_completion_fini(&c);
    }
}

static void forms_of_prompts(void **state)
{
    cog_completion c = understood("{\"prompt\":\"a \\u00fc\"}");

    assert_int_equal(c.n_prompts, 1);
    assert_int_equal(c.prompts[0].text_len, 4);
    assert_memory_equal(c.prompts[0].text, "a \xc3\xbc", 4);
    assert_string_equal(c.prompts[0].param, "prompt");
    cog_completion_fini(&c);

    c = understood("{\"prompt\":[\"a\",\"\",\"c\"]}");
    assert_int_equal(c.n_prompts, 3);
    assert_string_equal(c.prompts[0].text, "a");
    assert_string_equal(c.prompts[1].text, "");
    assert_string_equal(c.prompts[2].text, "c");
    assert_string_equal(c.prompts[2].param, "prompt[2]");
    cog_completion_fini(&c);

    c = understood("{\"prompt\":[5,6.0,999]}");
    assert_int_equal(c.n_prompts, 1);
    assert_null(c.prompts[0].text);
    assert_int_equal(c.prompts[0].n_tokens, 3);
    assert_int_equal(c.prompts[0].tokens[1], 6);
    assert_int_equal(c.prompts[0].tokens[2], 999);
    assert_string_equal(c.prompts[0].param, "prompt");
    cog_completion_fini(&c);

    c = understood("{\"prompt\":[[5],[0,7]]}");
    assert_int_equal(c.n_prompts, 2);
    assert_int_equal(c.prompts[0].n_tokens, 1);
    assert_int_equal(c.prompts[1].n_tokens, 2);
    assert_int_equal(c.prompts[1].tokens[1], 7);
    assert_string_equal(c.prompts[1].param, "prompt[1]");
    cog_completion_fini(&c);
}

static void limits_of_output(void **state)
{
    static const struct {
        const char *body;
        int64_t tokens;
    } cases[] = {
        { "{\"prompt\":\"a\"}", 16 },
        { "{\"prompt\":\"a\",\"max_tokens\":null}", 16 },
        { "{\"prompt\":\"a\",\"max_tokens\":3}", 3 },
        { "{\"prompt\":\"a\",\"max_tokens\":4294967295}", 4294967295 },
        { "{\"prompt\":\"a\",\"n_predict\":5}", 5 },
        { "{\"prompt\":\"a\",\"n_predict\":5,\"max_tokens\":3}", 3 },
        { "{\"prompt\":\"a\",\"max_tokens\":0,\"echo\":true}", 0 },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_completion c = understood(cases[i].body);

        if (cog_completion_max_tokens(&c) != cases[i].tokens)
            fail_msg("%s: %lld", cases[i].body, (long long)cog_completion_max_tokens(&c));
        cog_completion_fini(&c);
    }
}

static void other_fields(void **state)
{
    cog_completion c =
        understood("{\"prompt\":\"a\",\"echo\":true,\"n\":2,\"temperature\":0,\"seed\":7,"
                   "\"stop\":[\"x\"],\"user\":\"u\",\"best_of\":1,\"suffix\":\"\","
                   "\"logprobs\":null,\"add_special_tokens\":true,\"top_k\":3,\"messages\":1,"
                   "\"metadata\":{}}");
    cog_completion_options strict = defaults;
    cog_api_error err = { 0 };

    assert_true(c.echo);
    assert_true(c.logprobs < 0);
    assert_int_equal(c.params.n, 2);
    assert_true(c.params.temperature == 0 && c.params.top_p == 1);
    assert_true(c.params.has_seed && c.params.seed == 7);
    assert_string_equal(c.params.stop[0], "x");
    assert_int_equal(c.params.top_k, 3);
    assert_string_equal(c.ignored.data, "messages");
    cog_completion_fini(&c);
    c = understood("{\"prompt\":\"a\",\"logprobs\":0}");
    assert_int_equal(c.logprobs, 0);
    cog_completion_fini(&c);
    strict.strict = true;
    assert_true(cog_completion_init(&c, "{\"prompt\":\"a\",\"x\":1}", 20, &strict, &err) < 0);
    assert_string_equal(cog_api_error_name(err.code), "unknown_parameter");
    cog_completion_fini(&c);
}

/* ------------------------------------------------------------------ answers */

#define HEAD \
    "\"object\":\"text_completion\",\"created\":1,\"model\":\"m\",\"system_fingerprint\":\"fp\""

static const cog_answer_head head = { .id = "i", .created = 1, .model = "m", .fingerprint = "fp" };

static void whole(void **state)
{
    cog_answer_choice choices[2] = { { .finish = "stop", .stop_reason = "s" },
                                     { .finish = "length" } };
    const cog_answer_usage usage = { .prompt_tokens = 3, .completion_tokens = 2 };
    cog_buf out = { 0 };

    cog_buf_puts(&choices[0].text, "a\"");
    cog_completion_write(&out, &head, choices, 2, &usage);
    assert_non_null(strstr(
        out.data, "{\"id\":\"cmpl-i\"," HEAD ",\"choices\":["
                  "{\"index\":0,\"text\":\"a\\\"\",\"logprobs\":null,\"finish_reason\":\"stop\","
                  "\"stop_reason\":\"s\"},"
                  "{\"index\":1,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\","
                  "\"stop_reason\":null}],\"usage\":{\"prompt_tokens\":3,"));
    cog_buf_fini(&choices[0].text);
    cog_buf_fini(&out);
}

static void token_ids(void **state)
{
    cog_buf prompt = { 0 }, none = { 0 }, ids = { 0 }, out = { 0 };
    const cog_answer_usage usage = { 0 };
    cog_answer_choice choice = { .finish = "stop", .has_token_ids = true };
    cog_answer_head all = head;
    cog_answer_stream st;

    cog_buf_puts(&prompt, "1,2");
    cog_buf_puts(&ids, "5,6");
    choice.token_ids = ids;
    choice.prompt_ids = &prompt;
    cog_completion_write(&out, &head, &choice, 1, &usage);
    assert_non_null(
        strstr(out.data, "\"stop_reason\":null,\"prompt_token_ids\":[1,2],\"token_ids\":[5,6]}"));
    cog_buf_clear(&out);
    all.prompt_ids = &prompt; /* of a chat: once, in the first chunk */
    cog_completion_stream_init(&st, &all, false, false);
    for (int i = 0; i < 2; i++)
        cog_completion_stream_text(
            &out, &st, 0,
            &(cog_answer_delta){ .text = "a", .len = 1, .token_ids = i ? &none : &ids }, &usage);
    assert_non_null(strstr(out.data, "\"finish_reason\":null,\"token_ids\":[5,6]}],"
                                     "\"prompt_token_ids\":[1,2]}\n\n"));
    assert_non_null(strstr(out.data, "\"finish_reason\":null,\"token_ids\":[]}]}\n\n"));
    cog_answer_stream_fini(&st);
    cog_buf_fini(&prompt);
    cog_buf_fini(&ids);
    cog_buf_fini(&out);
}

static void streamed(void **state)
{
    const cog_answer_choice choice = { .finish = "length" };
    const cog_answer_usage usage = { 0 };
    cog_answer_stream st;
    cog_buf out = { 0 };

    cog_completion_stream_init(&st, &head, false, false);
    cog_completion_stream_text(
        &out, &st, 5, &(cog_answer_delta){ .text = "a\n", .len = 2, .logprobs = NULL }, &usage);
    cog_completion_stream_finish(&out, &st, 5, &choice, &usage);
    cog_answer_stream_end(&out, &st, &usage);
    assert_string_equal(
        out.data, "data: {\"id\":\"cmpl-i\"," HEAD ",\"choices\":[{\"index\":5,\"text\":\"a\\n\","
                  "\"logprobs\":null,\"finish_reason\":null}]}\n\n"
                  "data: {\"id\":\"cmpl-i\"," HEAD ",\"choices\":[{\"index\":5,\"text\":\"\","
                  "\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null}]}\n\n"
                  "data: [DONE]\n\n");
    cog_answer_stream_fini(&st);
    cog_buf_fini(&out);
}

#define COLUMNS                                                                            \
    "{\"tokens\":[\" \\\"\",\"bytes:\\\\xc3\",\"b\"],\"token_logprobs\":[-0.25,-9999,-2]," \
    "\"top_logprobs\":[{\"</s>\":0,\"a\":-1,\" \\\"\":-0.25},{\"bytes:\\\\xc3\":-9999},"   \
    "{\"</s>\":0,\"a\":-1,\"b\":-1.5}],\"text_offset\":[0,2,17]}"

/* Of tokens that are written alike the likeliest is told, the drawn one always; no name is twice in
 * an object. */
static void how_likely_tokens_were(void **state)
{
    const cog_logprob_token drawn[] = { { " \"", 2, -0.25 },
                                        { "\xc3", 1, -20000 },
                                        { "b", 1, -2 } };
    const cog_logprob_token top[] = {
        { "</s>", 4, 0 }, { "a", 1, -1 }, { "a", 1, -1.25 }, { "b", 1, -1.5 }
    };
    const cog_logprob_token nul = { "\0", 1, -3 };
    const cog_answer_usage usage = { 0 };
    cog_answer_choice choices[3] = { { .finish = "stop", .has_logprobs = true },
                                     { .finish = "stop", .has_logprobs = true },
                                     { .finish = "stop" } };
    cog_buf *columns = choices[0].logprobs;
    cog_answer_stream st;
    cog_buf out = { 0 };

    cog_logprob_add_row(columns, &nul, NULL, 0, 0);
    assert_string_equal(columns[0].data, "\"bytes:\\\\x00\"");
    for (int i = 0; i < COG_LOGPROB_COLUMNS; i++)
        cog_buf_clear(&columns[i]);
    cog_logprob_add_row(columns, &drawn[0], top, 3, 0);
    cog_logprob_add_row(columns, &drawn[1], top, 0, 2);
    cog_logprob_add_row(columns, &drawn[2], top, 4, 17);
    cog_completion_write(&out, &head, choices, 3, &usage);
    assert_non_null(strstr(out.data, "\"text\":\"\",\"logprobs\":" COLUMNS ",\"finish_reason\""));
    assert_non_null(strstr(out.data, "\"logprobs\":{\"tokens\":[],\"token_logprobs\":[],"
                                     "\"top_logprobs\":[],\"text_offset\":[]},"));
    assert_non_null(strstr(out.data, "{\"index\":2,\"text\":\"\",\"logprobs\":null,"));
    cog_buf_clear(&out);
    cog_completion_stream_init(&st, &head, false, false);
    cog_completion_stream_text(
        &out, &st, 1, &(cog_answer_delta){ .text = "x", .len = 1, .logprobs = columns }, &usage);
    cog_completion_stream_finish(&out, &st, 1, &choices[0], &usage);
    assert_non_null(
        strstr(out.data, "\"text\":\"x\",\"logprobs\":" COLUMNS ",\"finish_reason\":null}"));
    assert_non_null(strstr(out.data, "\"logprobs\":null,\"finish_reason\":\"stop\""));
    cog_answer_stream_fini(&st);
    for (int i = 0; i < COG_LOGPROB_COLUMNS; i++)
        cog_buf_fini(&columns[i]);
    cog_buf_fini(&out);
}

static const cog_logprob_ranked at[] = { { { "a\"", 2, -0.5 }, 7, 1 },
                                         { { "\xc3", 1, -INFINITY }, 8, 900 },
                                         { { "b", 1, -1 }, 9, 2 } };

/* Of the first token nothing is told; a token stands once beside the likeliest. */
static void how_likely_prompts_were(void **state)
{
    const cog_answer_usage usage = { 0 };
    cog_answer_choice choice = { .finish = "length", .has_logprobs = true };
    cog_answer_head with = head;
    cog_buf list = { 0 }, out = { 0 };

    cog_logprob_add_first(choice.logprobs, &at[0].token);
    cog_logprob_add_row(choice.logprobs, &at[2].token, NULL, 0, 2);
    cog_buf_puts(&list, "null");
    cog_logprob_add_ranked(&list, &at[0], at, 1);
    cog_logprob_add_ranked(&list, &at[1], at, 0);
    cog_logprob_add_ranked(&list, &at[2], at, 1);
    choice.prompt_logprobs = &list;
    cog_completion_write(&out, &head, &choice, 1, &usage);
    assert_non_null(strstr(out.data, "{\"tokens\":[\"a\\\"\",\"b\"],\"token_logprobs\":[null,-1],"
                                     "\"top_logprobs\":[null,{\"b\":-1}],\"text_offset\":[0,2]}"));
#define LIST                                                                                    \
    "\"prompt_logprobs\":[null,{\"7\":{\"logprob\":-0.5,\"rank\":1,"                            \
    "\"decoded_token\":\"a\\\"\"}},{\"8\":{\"logprob\":-9999,\"rank\":900,"                     \
    "\"decoded_token\":\"\xef\xbf\xbd\"}},{\"9\":{\"logprob\":-1,\"rank\":2,\"decoded_token\":" \
    "\"b\"},"                                                                                   \
    "\"7\":{\"logprob\":-0.5,\"rank\":1,\"decoded_token\":\"a\\\"\"}}]"
    assert_non_null(strstr(out.data, "\"stop_reason\":null," LIST "}],"));
    cog_buf_clear(&out);
    choice.prompt_logprobs = NULL;
    with.prompt_logprobs = &list;
    cog_completion_write(&out, &with, &choice, 1, &usage);
    assert_non_null(strstr(out.data, "," LIST ",\"choices\":["));
    for (int i = 0; i < COG_LOGPROB_COLUMNS; i++)
        cog_buf_fini(&choice.logprobs[i]);
    cog_buf_fini(&list);
    cog_buf_fini(&out);
}

static void expect_confidence(double sum, int n_tokens, const double *logprob, int n,
                              const char *want)
{
    char *const texts[] = { "y\"", "n" };
    cog_buf out = { 0 };

    cog_logprob_write_confidence(&out, sum, n_tokens, texts, logprob, n);
    assert_string_equal(out.data, want);
    cog_buf_fini(&out);
}

/* Shares of what little there is; equal ones where no text has a likelihood at all. */
static void shares_add_up(void **state)
{
    expect_confidence(-3, 4, NULL, 0, "{\"mean_logprob\":-0.75}");
    expect_confidence(0, 0, (const double[]){ -2 }, 1,
                      "{\"mean_logprob\":null,\"choices\":[{\"text\":\"y\\\"\",\"logprob\":-2,"
                      "\"probability\":1}]}");
    expect_confidence(-1, 1, (const double[]){ -5000, -5000 + log(3) }, 2,
                      "{\"mean_logprob\":-1,\"choices\":[{\"text\":\"y\\\"\",\"logprob\":-5000,"
                      "\"probability\":0.25},{\"text\":\"n\",\"logprob\":-4998.90139,"
                      "\"probability\":0.75}]}");
    expect_confidence(-1, 1, (const double[]){ -INFINITY, -1 }, 2,
                      "{\"mean_logprob\":-1,\"choices\":[{\"text\":\"y\\\"\",\"logprob\":-9999,"
                      "\"probability\":0},{\"text\":\"n\",\"logprob\":-1,\"probability\":1}]}");
    expect_confidence(-1, 1, (const double[]){ -INFINITY, -INFINITY }, 2,
                      "{\"mean_logprob\":-1,\"choices\":[{\"text\":\"y\\\"\",\"logprob\":-9999,"
                      "\"probability\":0.5},{\"text\":\"n\",\"logprob\":-9999,"
                      "\"probability\":0.5}]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_bodies),
        cmocka_unit_test(forms_of_prompts),
        cmocka_unit_test(limits_of_output),
        cmocka_unit_test(other_fields),
        cmocka_unit_test(whole),
        cmocka_unit_test(streamed),
        cmocka_unit_test(token_ids),
        cmocka_unit_test(how_likely_tokens_were),
        cmocka_unit_test(how_likely_prompts_were),
        cmocka_unit_test(shares_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
