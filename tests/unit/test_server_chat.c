#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/server_fixture.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *body_of(const http_response *r)
{
    json_t *root = json_loads(cog_buf_text(&r->body), 0, NULL);

    assert_non_null(root);
    return root;
}

/* ------------------------------------------------------------------ whole answers */

static void whole_answer(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "a red \\\"cube\\\" \\u00fc", "");
    json_t *root = body_of(&r), *choice, *usage;
    const char *id = json_string_value(json_object_get(root, "id"));

    assert_int_equal(r.status, 200);
    assert_string_equal(response_header(&r, "Content-Type"), "application/json");
    assert_string_equal(response_header(&r, "Cache-Control"), "no-store");
    assert_non_null(response_header(&r, "openai-processing-ms"));
    assert_string_equal(response_header(&r, "Server-Timing"),
                        "queue;dur=1.0, decode_image;dur=0.0, encode;dur=0.0, prefill;dur=2.0, "
                        "generate;dur=3.0");
    assert_int_equal(strncmp(id, "chatcmpl-", 9), 0);
    assert_string_equal(response_header(&r, "x-request-id"), id + 9);
    assert_string_equal(json_string_value(json_object_get(root, "object")), "chat.completion");
    assert_string_equal(json_string_value(json_object_get(root, "model")), "test");
    assert_int_equal(
        strncmp(json_string_value(json_object_get(root, "system_fingerprint")), "fp_", 3), 0);
    assert_int_equal(json_array_size(json_object_get(root, "choices")), 1);
    choice = json_array_get(json_object_get(root, "choices"), 0);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(choice, "message"), "content")),
        "a red \"cube\" \xc3\xbc");
    assert_string_equal(json_string_value(json_object_get(choice, "finish_reason")), "stop");
    assert_true(json_is_null(json_object_get(choice, "logprobs")));
    usage = json_object_get(root, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "prompt_tokens")), 16);
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 4);
    assert_int_equal(json_integer_value(json_object_get(usage, "total_tokens")), 20);
    json_decref(root);
    response_fini(&r);
}

static void choices_and_length(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "one two three", ",\"n\":3,\"max_tokens\":2,\"seed\":-5");
    json_t *root = body_of(&r), *choices = json_object_get(root, "choices");
    fake_seen seen = fake_engine_seen(f->engine);

    assert_int_equal(json_array_size(choices), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *c = json_array_get(choices, i);
        assert_int_equal(json_integer_value(json_object_get(c, "index")), i);
        assert_string_equal(json_string_value(json_object_get(c, "finish_reason")), "length");
    }
    assert_int_equal(seen.n, 3);
    assert_int_equal(seen.max_tokens, 2);
    assert_true(seen.sampling.seed == (uint64_t)-5);
    json_decref(root);
    response_fini(&r);
}

/* ------------------------------------------------------------------ streams */

/* Collects a stream's content and counts its chunks by kind. */
struct stream {
    int n_roles, n_texts, n_finishes, n_usages, n_errors, n_pings;
    bool has_done;
    char text[4][8192];
    char order[256]; /* r, t, f, u, e, d in order of arrival */
    json_t *usage;
};

static void take_chunk(struct stream *st, json_t *root)
{
    json_t *choices = json_object_get(root, "choices");
    json_t *c = json_array_get(choices, 0), *delta = json_object_get(c, "delta");
    int idx = (int)json_integer_value(json_object_get(c, "index"));
    const char *content = json_string_value(json_object_get(delta, "content"));
    char kind;

    if (json_object_get(root, "error")) {
        st->n_errors++;
        kind = 'e';
    } else if (json_array_size(choices) == 0) {
        st->n_usages++;
        st->usage = json_incref(json_object_get(root, "usage"));
        kind = 'u';
    } else if (json_object_get(delta, "role")) {
        st->n_roles++;
        kind = 'r';
    } else if (content) {
        st->n_texts++;
        strcat(st->text[idx], content);
        kind = 't';
    } else {
        st->n_finishes++;
        assert_non_null(json_string_value(json_object_get(c, "finish_reason")));
        kind = 'f';
    }
    if (strlen(st->order) < sizeof(st->order) - 1)
        st->order[strlen(st->order)] = kind;
}

static void parse_stream(struct stream *st, const http_response *r)
{
    const char *p = cog_buf_text(&r->body);

    memset(st, 0, sizeof(*st));
    while (*p) {
        const char *end = strstr(p, "\n\n");
        json_t *root;

        assert_non_null(end);
        if (*p == ':') {
            st->n_pings++;
        } else if (strncmp(p, "data: [DONE]\n\n", 14) == 0) {
            st->has_done = true;
            assert_string_equal(p, "data: [DONE]\n\n");
        } else {
            assert_int_equal(strncmp(p, "data: ", 6), 0);
            root = json_loadb(p + 6, (size_t)(end - p - 6), 0, NULL);
            assert_non_null(root);
            take_chunk(st, root);
            json_decref(root);
        }
        p = end + 2;
    }
}

static void streamed_answer(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "count=3 utf8", ",\"stream\":true");
    struct stream st;

    assert_int_equal(r.status, 200);
    assert_true(r.is_whole);
    assert_string_equal(response_header(&r, "Content-Type"), "text/event-stream; charset=utf-8");
    assert_string_equal(response_header(&r, "Cache-Control"), "no-cache");
    assert_string_equal(response_header(&r, "X-Accel-Buffering"), "no");
    assert_non_null(response_header(&r, "x-request-id"));
    parse_stream(&st, &r);
    assert_string_equal(st.order, "rtttf");
    assert_string_equal(st.text[0], "ü0€ ü1€ ü2€ ");
    assert_true(st.has_done);
    assert_null(strstr(r.body.data, "\"usage\""));
    response_fini(&r);
}

static void streamed_choices_and_usage(void **state)
{
    fixture *f = *state;
    http_response r =
        chat(f, "count=2", ",\"stream\":true,\"n\":2,\"stream_options\":{\"include_usage\":true}");
    struct stream st;

    parse_stream(&st, &r);
    assert_string_equal(st.order, "rrttttffu");
    assert_string_equal(st.text[0], "t0 t1 ");
    assert_string_equal(st.text[1], "t0 t1 ");
    assert_int_equal(json_integer_value(json_object_get(st.usage, "completion_tokens")), 4);
    assert_non_null(strstr(r.body.data, "\"usage\":null"));
    json_decref(st.usage);
    response_fini(&r);
}

static double number_in(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    assert_true(json_is_number(v));
    return json_number_value(v);
}

/* The double's stages are 1, 2 and 3 ms; its tokens come 5 ms apart, or at once when it was late.
 */
static void check_metrics(const json_t *m)
{
    double first = number_in(m, "time_to_first_token_ms");
    double generation = number_in(m, "generation_time_ms");

    assert_int_equal(json_object_size(m), 8);
    assert_true(first >= 0 && generation >= 0);
    assert_true(number_in(m, "queue_time_ms") == 1 && number_in(m, "prefill_ms") == 2);
    assert_true(number_in(m, "image_decode_ms") == 0 && number_in(m, "vision_encode_ms") == 0);
    assert_true(fabs(number_in(m, "mean_itl_ms") - generation / 2) < 0.01);
    assert_true(number_in(m, "tokens_per_second") > 0);
    assert_true(number_in(m, "tokens_per_second") < 3000 / generation);
}

static void whole_answers_tell_metrics(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "count=3 every=5", ",\"return_metrics\":true");
    json_t *root = body_of(&r);

    check_metrics(json_object_get(root, "metrics"));
    json_decref(root);
    response_fini(&r);
    r = chat(f, "count=1", ",\"return_metrics\":true");
    root = body_of(&r);
    assert_true(json_is_null(json_object_get(json_object_get(root, "metrics"), "mean_itl_ms")));
    json_decref(root);
    response_fini(&r);
}

static void streams_tell_metrics_at_the_end(void **state)
{
    static const char *const more[] = { "", ",\"stream_options\":{\"include_usage\":true}" };
    fixture *f = *state;

    for (int i = 0; i < 2; i++) {
        char *fields = cog_sprintf(",\"stream\":true,\"return_metrics\":true%s", more[i]);
        http_response r = chat(f, "count=3 every=5", fields);
        const char *at = strstr(r.body.data, ",\"metrics\":");
        struct stream st;
        json_t *m;

        assert_non_null(at);
        m = json_loads(strchr(at, '{'), JSON_DISABLE_EOF_CHECK, NULL);
        check_metrics(m);
        assert_null(strstr(at + 12, "\"metrics\":"));
        assert_true(strstr(r.body.data, "\"finish_reason\":\"stop\"") < at);
        parse_stream(&st, &r);
        assert_string_equal(st.order, i ? "rtttfu" : "rtttf");
        json_decref(m);
        json_decref(st.usage);
        response_fini(&r);
        cog_free(fields);
    }
}

/* Several choices have no one time; who did not ask is told none. */
static void no_metrics_otherwise(void **state)
{
    static const char *const more[] = { "", ",\"return_metrics\":false",
                                        ",\"return_metrics\":true,\"n\":2",
                                        ",\"return_metrics\":true,\"n\":2,\"stream\":true" };
    fixture *f = *state;
    http_response r;

    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
        r = chat(f, "count=2", more[i]);
        assert_int_equal(r.status, 200);
        assert_null(strstr(r.body.data, "\"metrics\""));
        response_fini(&r);
    }
    r = chat(f, "count=2", ",\"return_metrics\":1");
    assert_string_equal(error_code(&r), "invalid_type");
    response_fini(&r);
    r = chat(f, "count=9 fail=2", ",\"stream\":true,\"return_metrics\":true");
    assert_null(strstr(r.body.data, "\"finish_reason\":\"stop\""));
    assert_null(strstr(r.body.data, "\"metrics\""));
    assert_non_null(strstr(r.body.data, "internal_error"));
    response_fini(&r);
}

/* What a stream says is what a whole answer says. */
static void stream_equals_whole(void **state)
{
    static const char *const texts[] = { "count=40 utf8",
                                         "a \\\"b\\\" \\n c\\\\ \\u0001 \\ud83d\\ude00", "count=0",
                                         "one two three" };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        http_response whole = chat(f, texts[i], ",\"stop\":[\"three\"]");
        http_response streamed = chat(f, texts[i], ",\"stream\":true,\"stop\":[\"three\"]");
        json_t *root = body_of(&whole);
        json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
        struct stream st;

        parse_stream(&st, &streamed);
        assert_string_equal(st.text[0], json_string_value(json_object_get(
                                            json_object_get(choice, "message"), "content")));
        assert_int_equal(st.n_roles, 1);
        assert_int_equal(st.n_finishes, 1);
        json_decref(root);
        response_fini(&whole);
        response_fini(&streamed);
    }
}

static void stop_reason(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "one two three", ",\"stop\":[\"zzz\",\"th\"]");

    assert_non_null(strstr(r.body.data, "\"content\":\"one two \""));
    assert_non_null(strstr(r.body.data, "\"finish_reason\":\"stop\",\"stop_reason\":\"th\""));
    response_fini(&r);
    r = chat(f, "one", ",\"stop\":[\"zzz\"]");
    assert_non_null(strstr(r.body.data, "\"stop_reason\":null"));
    response_fini(&r);
    r = chat(f, "one two three", ",\"stream\":true,\"stop\":\"th\"");
    assert_non_null(strstr(r.body.data, "\"finish_reason\":\"stop\",\"stop_reason\":\"th\""));
    response_fini(&r);
}

static void running_usage(void **state)
{
    fixture *f = *state;
    http_response r =
        chat(f, "count=2", ",\"stream\":true,\"stream_options\":{\"continuous_usage_stats\":true}");

    assert_non_null(strstr(r.body.data, "\"completion_tokens\":1,"));
    assert_non_null(strstr(r.body.data, "\"completion_tokens\":2,"));
    assert_null(strstr(r.body.data, "\"usage\":null"));
    assert_null(strstr(r.body.data, "\"choices\":[]"));
    response_fini(&r);
}

/* ------------------------------------------------------------------ what reaches the engine */

static void sampling(void **state)
{
    fixture *f = *state;
    http_response r =
        chat(f, "x",
             ",\"temperature\":0.25,\"top_p\":0.5,\"top_k\":-1,\"min_p\":0.125,"
             "\"repetition_penalty\":1.5,\"frequency_penalty\":-1,\"presence_penalty\":2,"
             "\"seed\":7,\"max_tokens\":9,\"max_completion_tokens\":8,"
             "\"template_version\":\"vqa\"");
    fake_seen seen = fake_engine_seen(f->engine);

    assert_int_equal(r.status, 200);
    assert_true(seen.sampling.temperature == 0.25f && seen.sampling.top_p == 0.5f);
    assert_true(seen.sampling.min_p == 0.125f && seen.sampling.repetition_penalty == 1.5f);
    assert_true(seen.sampling.frequency_penalty == -1 && seen.sampling.presence_penalty == 2);
    assert_int_equal(seen.sampling.top_k, 0);
    assert_int_equal(seen.sampling.seed, 7);
    assert_int_equal(seen.max_tokens, 8);
    assert_int_equal(seen.form, COG_TEMPLATE_VQA);
    response_fini(&r);
    r = chat(f, "x", "");
    seen = fake_engine_seen(f->engine);
    assert_int_equal(seen.form, COG_TEMPLATE_DEFAULT);
    assert_int_equal(seen.max_tokens, FAKE_CONTEXT - 2);
    response_fini(&r);
}

static void cached_tokens(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "count=1 cached=5", "");

    assert_non_null(strstr(r.body.data, "\"cached_tokens\":5,"));
    response_fini(&r);
    r = chat(f, "count=1 cached=5", ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    assert_non_null(strstr(r.body.data, "\"cached_tokens\":5,"));
    response_fini(&r);
}

static fake_seen seen_after(fixture *f, const char *key, const char *more)
{
    http_response r = chat_as(f, key, "x", more);

    assert_int_equal(r.status, 200);
    assert_null(response_header(&r, "x-ignored-parameters"));
    response_fini(&r);
    return fake_engine_seen(f->engine);
}

#define SAME(a, b, member) (memcmp(&(a).member, &(b).member, sizeof((a).member)) == 0)

/* Caches are shared within a key and a salt; turns are those of a key and a user. */
static void salt_and_tenant(void **state)
{
    fixture *f = *state;
    fake_seen plain, same, other, salted, user;

    fixture_keys(f, "one\ntwo\n");
    fixture_start(f);
    plain = seen_after(f, "one", "");
    same = seen_after(f, "one", ",\"cache_salt\":null,\"priority\":0,\"cache_prompt\":true");
    other = seen_after(f, "two", "");
    salted = seen_after(f, "one", ",\"cache_salt\":\"s\",\"cache_prompt\":false");
    user = seen_after(f, "one", ",\"user\":\"u\",\"priority\":-100");
    assert_true(SAME(plain, same, salt) && SAME(plain, same, tenant));
    assert_false(SAME(plain, other, salt) || SAME(plain, other, tenant));
    assert_false(SAME(plain, salted, salt));
    assert_true(SAME(plain, salted, tenant));
    assert_true(SAME(plain, user, salt));
    assert_false(SAME(plain, user, tenant));
    assert_true(salted.no_cache && !plain.no_cache && !same.no_cache);
    assert_int_equal(user.priority, -100);
    assert_int_equal(plain.priority, 0);
}

static void seeds_differ_when_absent(void **state)
{
    fixture *f = *state;
    uint64_t seed[2];

    for (int i = 0; i < 2; i++) {
        http_response r = chat(f, "x", "");
        seed[i] = fake_engine_seen(f->engine).sampling.seed;
        response_fini(&r);
    }
    assert_true(seed[0] != seed[1]);
}

static void turns_and_picture(void **state)
{
    fixture *f = *state;
    const char *body =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":["
        "{\"type\":\"image_url\",\"image_url\":\"data:;base64,RkFLRQ\"},{\"type\":\"text\","
        "\"text\":\"a\"}]},{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\","
        "\"content\":\"c\"}]}";
    http_response r = client_post(f->address, "/v1/chat/completions", body);
    fake_seen seen = fake_engine_seen(f->engine);

    assert_int_equal(r.status, 200);
    assert_string_equal(seen.text, "s\na|b|c");
    assert_true(seen.has_image);
    assert_int_equal(seen.n_image_tokens, FAKE_IMAGE_TOKENS);
    assert_non_null(strstr(r.body.data, "\"image_tokens\":18,\"text_tokens\":8,"));
    response_fini(&r);
}

/* ------------------------------------------------------------------ refusals */

static void expect_error(http_response r, int status, const char *code, const char *param)
{
    assert_int_equal(r.status, status);
    assert_string_equal(error_code(&r), code);
    assert_string_equal(error_member(&r, "param"), param);
    assert_non_null(response_header(&r, "x-request-id"));
    response_fini(&r);
}

static void models(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "x", ",\"model\":\"other\"");

    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body.data, "\"model\":\"test\""));
    response_fini(&r);
    r = chat(f, "x", ",\"model\":\"gpt-4\"");
    assert_non_null(strstr(error_member(&r, "message"), "'gpt-4'"));
    assert_string_equal(error_member(&r, "type"), "invalid_request_error");
    expect_error(r, 404, "model_not_found", "model");
}

static void any_model(void **state)
{
    fixture *f = *state;
    http_response r;

    f->cfg.any_model = true;
    fixture_start(f);
    r = chat(f, "x", ",\"model\":\"gpt-4\"");
    assert_int_equal(r.status, 200);
    response_fini(&r);
}

static void picture_errors(void **state)
{
    static const struct {
        const char *picture, *code;
    } cases[] = {
        { "EMPTY", "empty_image_file" },
        { "BROKEN", "image_parse_error" },
        { "LARGE", "image_too_large" },
        { "SMALL", "image_too_small" },
        { "%PDF", "unsupported_image_media_type" },
    };
    static const char *const urls[][2] = {
        { "data:image/png;base64,", "empty_image_file" },
        { "data:image/png;base64,!!!!", "invalid_base64_image" },
        { "photo.png", "invalid_image_url" },
        { "QUFB", "invalid_image_url" },
        { "https://example.com/a.png", "invalid_image_url" },
    };
    fixture *f = *state;
    http_response r;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *body = picture_body("x", cases[i].picture, "");
        expect_error(client_post(f->address, "/v1/chat/completions", body), 400, cases[i].code,
                     "messages[0].content[1].image_url.url");
        cog_free(body);
    }
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        char *body = cog_sprintf("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                                 "\"image_url\",\"image_url\":\"%s\"}]}],\"stream\":true}",
                                 urls[i][0]);
        expect_error(client_post(f->address, "/v1/chat/completions", body), 400, urls[i][1],
                     "messages[0].content[0].image_url");
        cog_free(body);
    }
    r = chat(f, "still alive", "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
}

static void picture_file_too_large(void **state)
{
    fixture *f = *state;
    char *body = picture_body("x", "FAKE and more than ten bytes", "");
    int decoded = fake_engine_decoded();

    f->cfg.image.max_bytes = 10;
    fixture_start(f);
    expect_error(client_post(f->address, "/v1/chat/completions", body), 400, "image_file_too_large",
                 "messages[0].content[1].image_url.url");
    assert_int_equal(fake_engine_decoded(), decoded);
    cog_free(body);
}

/* The prompt's size is known from the JSON: no picture is touched. */
static void context_length(void **state)
{
    fixture *f = *state;
    char *text = cog_alloc(1, 4001), *body;
    int decoded = fake_engine_decoded();
    http_response r;

    memset(text, 'a', 4000);
    body = picture_body(text, "FAKE", ",\"max_tokens\":5");
    r = client_post(f->address, "/v1/chat/completions", body);
    assert_non_null(strstr(error_member(&r, "message"),
                           "This model's maximum context length is 4000 tokens. However, you "
                           "requested 4024 tokens (4019 in the messages, of which 18 for images; 5 "
                           "in the completion)."));
    expect_error(r, 400, "context_length_exceeded", "messages");
    assert_int_equal(fake_engine_decoded(), decoded);
    cog_free(body);
    text[3998] = '\0';
    r = chat(f, text, ",\"max_tokens\":500"); /* clamped to the room left */
    assert_int_equal(r.status, 200);
    assert_int_equal(fake_engine_seen(f->engine).max_tokens, 1);
    response_fini(&r);
    cog_free(text);
}

/* Text that no tokenizer could make fit is refused without one. */
static void absurd_length(void **state)
{
    fixture *f = *state;
    char *text = cog_alloc(1, 2000001);
    http_response r;

    memset(text, 'a', 2000000);
    r = chat(f, text, "");
    assert_non_null(
        strstr(error_member(&r, "message"), "This model's maximum context length is 4000 tokens"));
    expect_error(r, 400, "context_length_exceeded", "messages");
    cog_free(text);
}

static void overflow_refused(void **state)
{
    fixture *f = *state;

    f->cfg.reject_overflow = true;
    fixture_start(f);
    expect_error(chat(f, "x", ",\"max_tokens\":4000"), 400, "context_length_exceeded", "messages");
    http_response r = chat(f, "x", ",\"max_tokens\":3998");
    assert_int_equal(r.status, 200);
    response_fini(&r);
}

static void ignored_parameters(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "x", ",\"mirostat\":2,\"session_id\":\"s\",\"store\":true");

    assert_int_equal(r.status, 200);
    assert_string_equal(response_header(&r, "x-ignored-parameters"), "mirostat, session_id");
    response_fini(&r);
    r = chat(f, "x", ",\"stream\":true,\"mirostat\":2");
    assert_string_equal(response_header(&r, "x-ignored-parameters"), "mirostat");
    response_fini(&r);
    r = chat(f, "x", "");
    assert_null(response_header(&r, "x-ignored-parameters"));
    response_fini(&r);
}

static void strict_parameters(void **state)
{
    fixture *f = *state;

    f->cfg.strict_parameters = true;
    fixture_start(f);
    expect_error(chat(f, "x", ",\"mirostat\":2"), 400, "unknown_parameter", "");
}

/* A check that comes earlier in the API's order wins. */
static void order_of_checks(void **state)
{
    fixture *f = *state;

    expect_error(client_post(f->address, "/v1/chat/completions", "{\"model\":\"x\",\"n\":0"), 400,
                 "invalid_json", "");
    expect_error(chat(f, "x", ",\"model\":\"none\",\"n\":0"), 400, "integer_below_min_value", "n");
    expect_error(client_post(f->address, "/v1/chat/completions",
                             "{\"model\":\"none\",\"messages\":[{\"role\":\"user\",\"content\":[{"
                             "\"type\":\"image_url\",\"image_url\":\"data:;base64,!\"}]}]}"),
                 404, "model_not_found", "model");
}

/* Bodies made to cost much: refused, and the server goes on. */
static void json_bombs(void **state)
{
    fixture *f = *state;
    cog_buf body = { 0 };
    http_response r;

    cog_buf_puts(&body, "{\"a\":[");
    for (int i = 0; i < 1000000; i++)
        cog_buf_puts(&body, "{},");
    cog_buf_puts(&body, "1]}");
    expect_error(client_post(f->address, "/v1/chat/completions", body.data), 400, "invalid_json",
                 "");
    cog_buf_clear(&body);
    for (int i = 0; i < 500000; i++)
        cog_buf_puts(&body, "[");
    expect_error(client_post(f->address, "/v1/chat/completions", body.data), 400, "invalid_json",
                 "");
    cog_buf_fini(&body);
    r = chat(f, "still alive", "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
}

#define STARTED(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
#define CREATED(test) cmocka_unit_test_setup_teardown(test, fixture_create, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STARTED(whole_answer),
        STARTED(choices_and_length),
        STARTED(streamed_answer),
        STARTED(streamed_choices_and_usage),
        STARTED(whole_answers_tell_metrics),
        STARTED(streams_tell_metrics_at_the_end),
        STARTED(no_metrics_otherwise),
        STARTED(stream_equals_whole),
        STARTED(stop_reason),
        STARTED(running_usage),
        STARTED(sampling),
        STARTED(cached_tokens),
        CREATED(salt_and_tenant),
        STARTED(seeds_differ_when_absent),
        STARTED(turns_and_picture),
        STARTED(models),
        CREATED(any_model),
        STARTED(picture_errors),
        CREATED(picture_file_too_large),
        STARTED(context_length),
        STARTED(absurd_length),
        CREATED(overflow_refused),
        STARTED(ignored_parameters),
        CREATED(strict_parameters),
        STARTED(order_of_checks),
        STARTED(json_bombs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
