/* POST /v1/completions over the engine's double: a byte is a token, letters have pieces. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/server_fixture.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static http_response complete(fixture *f, const char *fields)
{
    char *body = cog_sprintf("{%s}", fields);
    http_response r = client_post(f->address, "/v1/completions", body);

    cog_free(body);
    return r;
}

static json_t *answer_of(http_response r)
{
    json_t *root = json_loads(cog_buf_text(&r.body), 0, NULL);

    if (r.status != 200 || !root)
        fail_msg("%d %s", r.status, r.body.data);
    response_fini(&r);
    return root;
}

static void expect_error(http_response r, int status, const char *code, const char *param)
{
    if (r.status != status || strcmp(error_code(&r), code) != 0 ||
        strcmp(error_member(&r, "param"), param) != 0)
        fail_msg("%d %s", r.status, r.body.data);
    response_fini(&r);
}

static json_t *choice_at(const json_t *root, size_t i)
{
    return json_array_get(json_object_get(root, "choices"), i);
}

static void expect_choice(const json_t *root, size_t i, const char *text, const char *finish)
{
    json_t *c = choice_at(root, i);

    assert_int_equal(json_integer_value(json_object_get(c, "index")), i);
    assert_string_equal(json_string_value(json_object_get(c, "text")), text);
    assert_string_equal(json_string_value(json_object_get(c, "finish_reason")), finish);
}

static int usage_of(const json_t *root, const char *name)
{
    return (int)json_integer_value(json_object_get(json_object_get(root, "usage"), name));
}

static void one_text(void **state)
{
    static const char *const paths[] = { "/v1/completions", "/completions", "/v1/completions/" };
    fixture *f = *state;

    for (size_t i = 0; i < 3; i++) {
        http_response r = client_post(f->address, paths[i], "{\"prompt\":\"one two\",\"x\":1}");
        const char *id;
        json_t *root;

        assert_string_equal(response_header(&r, "x-ignored-parameters"), "x");
        id = response_header(&r, "x-request-id");
        assert_non_null(strstr(r.body.data, id));
        root = answer_of(r);
        assert_string_equal(json_string_value(json_object_get(root, "object")), "text_completion");
        assert_int_equal(
            strncmp(json_string_value(json_object_get(root, "id")), "cmpl-", strlen("cmpl-")), 0);
        expect_choice(root, 0, "one two", "stop");
        assert_int_equal(usage_of(root, "prompt_tokens"), 8);
        assert_int_equal(usage_of(root, "completion_tokens"), 2);
        json_decref(root);
    }
}

/* The text as it is, with what the fields say. */
static void what_the_engine_gets(void **state)
{
    fixture *f = *state;
    fake_seen seen;

    json_decref(answer_of(complete(f, "\"prompt\":\"one\",\"seed\":3,\"temperature\":0.5,"
                                      "\"top_k\":4,\"stop\":[\"x\",\"y\"],\"priority\":2")));
    seen = fake_engine_seen(f->engine);
    assert_string_equal(seen.text, "one");
    assert_int_equal(seen.form, COG_TEMPLATE_BASE);
    assert_true(seen.continues_prompt);
    assert_int_equal(seen.max_tokens, 16);
    assert_true(seen.sampling.seed == 3 && seen.sampling.temperature == 0.5f);
    assert_int_equal(seen.sampling.top_k, 4);
    assert_int_equal(seen.n_stop, 2);
    assert_int_equal(seen.priority, 2);
    json_decref(answer_of(complete(f, "\"prompt\":[97,98,122],\"max_tokens\":2")));
    seen = fake_engine_seen(f->engine);
    assert_string_equal(seen.text, "abz");
    assert_int_equal(seen.form, 1); /* the token that begins a prompt */
    assert_int_equal(seen.max_tokens, 2);
    json_decref(answer_of(complete(f, "\"prompt\":\"\"")));
    assert_false(fake_engine_seen(f->engine).continues_prompt);
    json_decref(answer_of(chat(f, "one", "")));
    assert_false(fake_engine_seen(f->engine).continues_prompt);
}

/* Numbered through: the prompt's number times n, and the choice. Tokens are added up. */
static void several_prompts(void **state)
{
    fixture *f = *state;
    json_t *root = answer_of(complete(f, "\"prompt\":[\"a b c d\",\"count=2 every=20\",\"x\"],"
                                         "\"n\":2,\"max_tokens\":3"));

    assert_int_equal(json_array_size(json_object_get(root, "choices")), 6);
    for (size_t i = 0; i < 2; i++) {
        expect_choice(root, i, "a b c ", "length");
        expect_choice(root, 2 + i, "t0 t1 ", "stop");
        expect_choice(root, 4 + i, "x", "stop");
    }
    assert_int_equal(usage_of(root, "prompt_tokens"), 8 + 17 + 2);
    assert_int_equal(usage_of(root, "completion_tokens"), 2 * (3 + 2 + 1));
    assert_int_equal(usage_of(root, "total_tokens"), 27 + 12);
    json_decref(root);
    assert_int_equal(fake_engine_accepted(f->engine), 3);

    root = answer_of(complete(f, "\"prompt\":[[97],[98,99]]"));
    expect_choice(root, 0, "a", "stop");
    expect_choice(root, 1, "bc", "stop");
    json_decref(root);
}

/* Without a seed equal prompts have their own. */
static void seeds(void **state)
{
    fixture *f = *state;
    uint64_t first, second;

    json_decref(answer_of(complete(f, "\"prompt\":[\"a\",\"a\"]")));
    first = fake_engine_seen(f->engine).sampling.seed;
    second = fake_engine_seen_before(f->engine).sampling.seed;
    assert_true(first != second);
    json_decref(answer_of(complete(f, "\"prompt\":[\"a\",\"a\"],\"seed\":9")));
    assert_true(fake_engine_seen(f->engine).sampling.seed == 9);
    assert_true(fake_engine_seen_before(f->engine).sampling.seed == 9);
}

static void echoes(void **state)
{
    fixture *f = *state;
    json_t *root = answer_of(complete(f, "\"prompt\":[\"a b \",\"c\"],\"echo\":true,\"n\":2"));

    expect_choice(root, 0, "a b a b ", "stop");
    expect_choice(root, 1, "a b a b ", "stop");
    expect_choice(root, 2, "cc", "stop");
    json_decref(root);
    root = answer_of(complete(f, "\"prompt\":[97,98],\"echo\":true"));
    expect_choice(root, 0, "abab", "stop");
    json_decref(root);
    assert_int_equal(fake_engine_accepted(f->engine), 3);

    /* nothing is left to be computed */
    root = answer_of(complete(f, "\"prompt\":[\"a b\",\"c\"],\"echo\":true,\"max_tokens\":0,"
                                 "\"return_metrics\":true"));
    expect_choice(root, 0, "a b", "length");
    expect_choice(root, 1, "c", "length");
    assert_int_equal(usage_of(root, "prompt_tokens"), 6);
    assert_int_equal(usage_of(root, "completion_tokens"), 0);
    json_decref(root);
    assert_int_equal(fake_engine_accepted(f->engine), 3);
}

/* ------------------------------------------------------------------ streams */

typedef struct streamed {
    char text[8][256], finish[8][16];
    int prompt_tokens, completion_tokens, n_usages;
} streamed;

static streamed stream_of(http_response r)
{
    static const char done[] = "data: [DONE]\n\n";
    streamed s = { 0 };
    const char *p = r.body.data;

    assert_int_equal(r.status, 200);
    assert_string_equal(response_header(&r, "Content-Type"), "text/event-stream; charset=utf-8");
    while (strcmp(p, done) != 0) {
        const char *end = strstr(p, "\n\n");
        json_t *root, *choice, *finish;
        size_t i;

        assert_true(end && strncmp(p, "data: ", 6) == 0);
        root = json_loadb(p + 6, (size_t)(end - p) - 6, 0, NULL);
        choice = choice_at(root, 0);
        if (choice) {
            i = (size_t)json_integer_value(json_object_get(choice, "index"));
            assert_true(i < 8 && !s.finish[i][0]);
            strcat(s.text[i], json_string_value(json_object_get(choice, "text")));
            finish = json_object_get(choice, "finish_reason");
            if (json_is_string(finish))
                strcpy(s.finish[i], json_string_value(finish));
            assert_null(json_object_get(choice, "delta"));
        } else {
            s.n_usages++;
            s.prompt_tokens = usage_of(root, "prompt_tokens");
            s.completion_tokens = usage_of(root, "completion_tokens");
        }
        json_decref(root);
        p = end + 2;
    }
    response_fini(&r);
    return s;
}

static void streams(void **state)
{
    fixture *f = *state;
    streamed s = stream_of(complete(f, "\"prompt\":[\"count=3 every=10\",\"a b\"],\"n\":2,"
                                       "\"stream\":true,\"stream_options\":{"
                                       "\"include_usage\":true}"));

    for (int i = 0; i < 2; i++) {
        assert_string_equal(s.text[i], "t0 t1 t2 ");
        assert_string_equal(s.text[2 + i], "a b");
        assert_string_equal(s.finish[i], "stop");
        assert_string_equal(s.finish[2 + i], "stop");
    }
    assert_int_equal(s.n_usages, 1);
    assert_int_equal(s.prompt_tokens, 17 + 4);
    assert_int_equal(s.completion_tokens, 2 * (3 + 2));

    s = stream_of(complete(f, "\"prompt\":[\"a b \",\"c\"],\"echo\":true,\"stream\":true"));
    assert_string_equal(s.text[0], "a b a b ");
    assert_string_equal(s.text[1], "cc");
    assert_int_equal(s.n_usages, 0);
    s = stream_of(complete(f, "\"prompt\":[97,98],\"echo\":true,\"stream\":true,"
                              "\"max_tokens\":0"));
    assert_string_equal(s.text[0], "ab");
    assert_string_equal(s.finish[0], "length");
}

/* ------------------------------------------------------------------ how likely tokens were */

static json_t *column(const json_t *choice, const char *name)
{
    json_t *logprobs = json_object_get(choice, "logprobs");

    if (!json_is_array(json_object_get(logprobs, name)))
        fail_msg("no %s", name);
    return json_object_get(logprobs, name);
}

/* Token i of a choice is a letter, begins at character `offset` and has a value of -i / 2; the
 * likeliest are the double's. */
static void expect_token(const json_t *choice, size_t at, int i, int offset, int n_top)
{
    const char name[] = { (char)('a' + i), '\0' };
    json_t *top = json_array_get(column(choice, "top_logprobs"), at);

    assert_string_equal(json_string_value(json_array_get(column(choice, "tokens"), at)), name);
    assert_true(json_number_value(json_array_get(column(choice, "token_logprobs"), at)) ==
                -0.5 * i);
    assert_int_equal(json_integer_value(json_array_get(column(choice, "text_offset"), at)), offset);
    assert_non_null(json_object_get(top, name));
    assert_int_equal(json_object_size(top), n_top + (i + 1 >= n_top));
    assert_true(n_top == 0 || json_number_value(json_object_get(top, "</s>")) == 0);
}

/* Of each choice of each prompt; in a stream with the text that they begin. Texts are counted in
 * characters: "\u00fc0\u20ac " has four. */
static void log_probabilities(void **state)
{
    static const char fields[] = "\"prompt\":[\"count=3 utf8\",\"a b\"],\"n\":2,\"logprobs\":2";
    fixture *f = *state;
    json_t *root = answer_of(complete(f, fields));
    int n_seen[4] = { 0 };
    http_response r;

    for (size_t i = 0; i < 4; i++) {
        size_t n = i < 2 ? 3 : 2;

        assert_int_equal(json_array_size(column(choice_at(root, i), "tokens")), n);
        for (size_t k = 0; k < n; k++)
            expect_token(choice_at(root, i), k, (int)k, (int)k * (i < 2 ? 4 : 2), 2);
    }
    json_decref(root);

    r = complete(f, "\"stream\":true,\"prompt\":[\"count=3 utf8\",\"a b\"],\"n\":2,\"logprobs\":0");
    assert_int_equal(r.status, 200);
    for (const char *p = r.body.data; strncmp(p, "data: [", 7) != 0; p = strstr(p, "\n\n") + 2) {
        json_t *chunk = json_loadb(p + 6, strcspn(p + 6, "\n"), 0, NULL), *c = choice_at(chunk, 0);
        size_t i = (size_t)json_integer_value(json_object_get(c, "index"));

        if (json_is_string(json_object_get(c, "finish_reason"))) {
            assert_true(json_is_null(json_object_get(c, "logprobs")));
        } else {
            assert_int_equal(json_array_size(column(c, "tokens")), 1);
            expect_token(c, 0, n_seen[i], n_seen[i] * (i < 2 ? 4 : 2), 0);
            n_seen[i]++;
        }
        json_decref(chunk);
    }
    response_fini(&r);
    for (int i = 0; i < 4; i++)
        assert_int_equal(n_seen[i], i < 2 ? 3 : 2);

    root = answer_of(complete(f, "\"prompt\":\"a b\"")); /* not asked */
    assert_true(json_is_null(json_object_get(choice_at(root, 0), "logprobs")));
    json_decref(root);
}

/* ------------------------------------------------------------------ refusals */

static void refused(void **state)
{
    fixture *f = *state;
    char *long_text = cog_sprintf("\"prompt\":[\"a\",\"%0*d\"]", FAKE_CONTEXT, 0);
    http_response r;

    expect_error(complete(f, ""), 400, "missing_required_parameter", "prompt");
    expect_error(complete(f, "\"prompt\":[97,256]"), 400, "invalid_value", "prompt[1]");
    expect_error(complete(f, "\"prompt\":[[97],[98,1]]"), 400, "invalid_value", "prompt[1][1]");
    expect_error(complete(f, "\"prompt\":[97,0]"), 400, "invalid_value", "prompt[1]");
    expect_error(complete(f, "\"prompt\":\"a\",\"model\":\"none\""), 404, "model_not_found",
                 "model");
    r = complete(f, long_text);
    assert_non_null(strstr(r.body.data, "This model's maximum context length is 4000 tokens"));
    assert_non_null(strstr(r.body.data, "in the prompt"));
    expect_error(r, 400, "context_length_exceeded", "prompt");
    expect_error(client_get(f->address, "/v1/completions"), 405, "method_not_allowed", "");
    assert_int_equal(fake_engine_accepted(f->engine), 0);
    cog_free(long_text);
}

static void wait_live(fixture *f, int n)
{
    assert_true(fixture_wait(f, fake_engine_live, n));
}

/* All have a place in the queue, or none is taken. */
static void places_for_all(void **state)
{
    fixture *f = *state;
    http_client c[2];
    http_response r;

    fake_engine_pause(f->engine, true);
    for (int i = 0; i < 2; i++) {
        c[i] = client_open(f->address);
        begin_chat_as(&c[i], "k", "x", "");
    }
    wait_live(f, 2);
    r = complete(f, "\"prompt\":[\"a\",\"b\",\"c\"]"); /* FAKE_QUEUE is 4 */
    assert_non_null(response_header(&r, "Retry-After"));
    expect_error(r, 503, "server_is_overloaded", "");
    assert_int_equal(fake_engine_accepted(f->engine), 2);
    fake_engine_pause(f->engine, false);
    for (int i = 0; i < 2; i++) {
        r = client_read(&c[i], false);
        assert_int_equal(r.status, 200);
        response_fini(&r);
        client_close(&c[i]);
    }
    json_decref(answer_of(complete(f, "\"prompt\":[\"a\",\"b\",\"c\",\"d\"]")));
    expect_error(complete(f, "\"prompt\":[\"a\",\"b\",\"c\",\"d\",\"e\"]"), 400,
                 "array_above_max_length", "prompt");
}

static void limits_count_all(void **state)
{
    fixture *f = *state;

    f->cfg.key_tpm = 40;
    fixture_start(f);
    json_decref(answer_of(complete(f, "\"prompt\":\"aaaaaaaaaaaa\""))); /* 14 of them */
    expect_error(complete(f, "\"prompt\":[\"aaaaaaaaaaaa\",\"bbbbbbbbbbbb\",\"cccccccc\"]"), 429,
                 "rate_limit_exceeded", "");
    json_decref(answer_of(complete(f, "\"prompt\":\"aaaaaaaaaaaa\"")));
}

/* ------------------------------------------------------------------ ends */

static void begin(http_client *c, const char *fields)
{
    char *body = cog_sprintf("{%s}", fields);
    char *raw = cog_sprintf("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
                            "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                            strlen(body), body);

    client_puts(c, raw);
    cog_free(raw);
    cog_free(body);
}

static void a_client_that_leaves_cancels_all(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);

    begin(&c, "\"prompt\":[\"hold\",\"hold\",\"hold\"]");
    wait_live(f, 3);
    client_reset(&c);
    wait_live(f, 0);
    assert_int_equal(fake_engine_cancelled(f->engine), 3);
}

static void one_that_fails_fails_all(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);
    http_response r;

    begin(&c, "\"prompt\":[\"hold\",\"count=5 fail=1\",\"a\"]");
    expect_error(client_read(&c, false), 500, "internal_error", "");
    wait_live(f, 0);
    assert_in_range(fake_engine_cancelled(f->engine), 1, 2); /* the last may have ended before */
    client_close(&c);
    r = complete(f, "\"prompt\":[\"count=900 every=2\",\"count=9 every=20 fail=2\"],"
                    "\"stream\":true");
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body.data, "\"internal_error\""));
    assert_non_null(strstr(r.body.data, "data: [DONE]\n\n"));
    response_fini(&r);
    wait_live(f, 0);
    json_decref(answer_of(complete(f, "\"prompt\":\"a\"")));
}

static void deadlines(void **state)
{
    fixture *f = *state;

    f->cfg.request_timeout_ms = 300;
    fixture_start(f);
    expect_error(complete(f, "\"prompt\":[\"hold\",\"a\"]"), 504, "request_deadline_exceeded", "");
    wait_live(f, 0);
}

/* ------------------------------------------------------------------ metrics */

static double value_in(const char *page, const char *series)
{
    char *line = cog_sprintf("\n%s ", series);
    const char *at = strstr(page, line);
    double v = at ? strtod(at + strlen(line), NULL) : -1;

    cog_free(line);
    return v;
}

#define STAGE(name)  "cogwheel_requests_in_stage{stage=\"" name "\"}"
#define HANDLED      "http_requests_total{handler=\"/v1/completions\",method=\"POST\",status=\"2xx\"}"
#define PROMPTS(end) "vllm:request_prompt_tokens_" end "{model_name=\"test\",engine=\"0\"}"

/* One request, whatever the number of its prompts. */
static void counted_once(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);
    http_response r;

    begin(&c, "\"prompt\":[\"hold\",\"hold\",\"hold\"]");
    wait_live(f, 3);
    do {
        r = client_get(f->address, "/metrics");
        if (value_in(r.body.data, STAGE("prefill")) == 1)
            break;
        assert_true(value_in(r.body.data, STAGE("queue")) == 1);
        response_fini(&r);
    } while (true);
    assert_true(value_in(r.body.data, STAGE("queue")) == 0);
    assert_true(
        value_in(r.body.data, "vllm:num_requests_running{model_name=\"test\",engine=\"0\"}") == 1);
    response_fini(&r);
    client_reset(&c);
    wait_live(f, 0);
    json_decref(answer_of(complete(f, "\"prompt\":[\"a b\",\"c\"]")));
    do {
        r = client_get(f->address, "/metrics");
        if (value_in(r.body.data, HANDLED) == 1)
            break;
        response_fini(&r);
    } while (true);
    assert_true(value_in(r.body.data, "cogwheel_requests_total") == 2);
    assert_true(value_in(r.body.data, PROMPTS("sum")) == 6);
    assert_true(value_in(r.body.data, PROMPTS("count")) == 1);
    response_fini(&r);
}

#define TEST(name)   cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define CLOSED(name) cmocka_unit_test_setup_teardown(name, fixture_create, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_text),
        TEST(what_the_engine_gets),
        TEST(several_prompts),
        TEST(seeds),
        TEST(echoes),
        TEST(streams),
        TEST(log_probabilities),
        TEST(refused),
        TEST(places_for_all),
        CLOSED(limits_count_all),
        TEST(a_client_that_leaves_cancels_all),
        TEST(one_that_fails_fails_all),
        CLOSED(deadlines),
        TEST(counted_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
