#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/server_fixture.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
    fixture *f = fixture_new();

    fixture_start(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

static json_t *body_of(const http_response *r)
{
    json_t *root = json_loads(r->body.data ? r->body.data : "", 0, NULL);

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
    assert_non_null(response_header(&r, "Server-Timing"));
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
    const char *p = r->body.data ? r->body.data : "";

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(choices_and_length, setup, teardown),
        cmocka_unit_test_setup_teardown(streamed_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(streamed_choices_and_usage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
