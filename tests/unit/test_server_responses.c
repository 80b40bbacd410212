/* POST /v1/responses over HTTP: the answer, the events of a stream and their order, what they say
 * of an answer that was cut or failed, and how its prompt is counted. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/server_fixture.h"

#include <jansson.h>
#include <string.h>

static json_t *parse(const char *text)
{
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

    if (!root)
        fail_msg("no JSON: %s", text);
    return root;
}

static http_response ask(fixture *f, const char *input, const char *more)
{
    char *body = cog_sprintf("{\"input\":\"%s\"%s}", input, more);
    http_response r = client_post(f->address, "/v1/responses", body);

    cog_free(body);
    return r;
}

static const char *text_in(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "(none)";
}

/* The only part of the only item of a response. */
static json_t *part_of(const json_t *response)
{
    json_t *output = json_object_get(response, "output"), *content;

    assert_int_equal(json_array_size(output), 1);
    content = json_object_get(json_array_get(output, 0), "content");
    assert_int_equal(json_array_size(content), 1);
    return json_array_get(content, 0);
}

static void check_answer(const json_t *response, const char *status, const char *text)
{
    const json_t *item = json_array_get(json_object_get(response, "output"), 0);

    assert_string_equal(text_in(response, "status"), status);
    assert_string_equal(text_in(item, "status"), status);
    assert_string_equal(text_in(item, "type"), "message");
    assert_string_equal(text_in(item, "role"), "assistant");
    assert_string_equal(text_in(part_of(response), "type"), "output_text");
    assert_string_equal(text_in(part_of(response), "text"), text);
    assert_true(json_is_null(json_object_get(response, "error")));
}

static void whole_answers(void **state)
{
    fixture *f = *state;
    http_response r = ask(f, "one two", ",\"metadata\":{\"a\":\"b\"},\"store\":true");
    json_t *root = parse(r.body.data), *usage = json_object_get(root, "usage");

    assert_int_equal(r.status, 200);
    check_answer(root, "completed", "one two");
    assert_memory_equal(text_in(root, "id"), "resp_", 5);
    assert_string_equal(text_in(root, "id") + 5, response_header(&r, "x-request-id"));
    assert_string_equal(text_in(root, "object"), "response");
    assert_string_equal(text_in(root, "model"), "test");
    assert_true(json_is_false(json_object_get(root, "store")));
    assert_true(json_is_null(json_object_get(root, "incomplete_details")));
    assert_string_equal(text_in(json_object_get(root, "metadata"), "a"), "b");
    assert_int_equal(json_integer_value(json_object_get(usage, "output_tokens")), 2);
    assert_int_equal(json_integer_value(json_object_get(usage, "input_tokens")) + 2,
                     json_integer_value(json_object_get(usage, "total_tokens")));
    assert_null(response_header(&r, "x-ignored-parameters"));
    json_decref(root);
    response_fini(&r);

    r = ask(f, "one two three", ",\"max_output_tokens\":2");
    root = parse(r.body.data);
    check_answer(root, "incomplete", "one two ");
    assert_string_equal(text_in(json_object_get(root, "incomplete_details"), "reason"),
                        "max_output_tokens");
    json_decref(root);
    response_fini(&r);
}

/* The next event of a stream, owned by the caller; its name and number are as they must be. NULL:
 * there is none. */
static json_t *next_event(char **at, int number)
{
    char *name = *at, *data, *end;
    json_t *event;

    if (!*name)
        return NULL;
    end = strstr(name, "\n\n");
    assert_non_null(end);
    *end = '\0';
    *at = end + 2;
    assert_memory_equal(name, "event: ", 7);
    data = strchr(name, '\n');
    assert_non_null(data);
    *data++ = '\0';
    assert_memory_equal(data, "data: ", 6);
    event = parse(data + 6);
    assert_string_equal(text_in(event, "type"), name + 7);
    assert_int_equal(json_integer_value(json_object_get(event, "sequence_number")), number);
    return event;
}

/* All events; deltas gets the texts, names those of the others. The last one is the caller's. */
static json_t *read_events(char *stream, cog_buf *names, cog_buf *deltas)
{
    json_t *event, *last = NULL;

    for (int n = 0; (event = next_event(&stream, n)) != NULL; n++) {
        const char *type = text_in(event, "type");

        if (strcmp(type, "response.output_text.delta") == 0)
            cog_buf_puts(deltas, text_in(event, "delta"));
        else
            cog_buf_printf(names, "%s ", type);
        json_decref(last);
        last = event;
    }
    assert_non_null(last);
    return last;
}

#define BEGINNING                                                       \
    "response.created response.in_progress response.output_item.added " \
    "response.content_part.added "
#define DONE "response.output_text.done response.content_part.done response.output_item.done "

static void streams(void **state)
{
    static const struct {
        const char *more, *names, *status, *text;
    } cases[] = {
        { ",\"stream\":true", BEGINNING DONE "response.completed ", "completed", "one two cut=2" },
        { ",\"stream\":true,\"max_output_tokens\":2", BEGINNING DONE "response.incomplete ",
          "incomplete", "one " },
    };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        http_response r = ask(f, "one two cut=2", cases[i].more);
        cog_buf names = { 0 }, deltas = { 0 };
        json_t *last = read_events(r.body.data, &names, &deltas);
        const json_t *response = json_object_get(last, "response");

        assert_int_equal(r.status, 200);
        assert_string_equal(response_header(&r, "Content-Type"),
                            "text/event-stream; charset=utf-8");
        assert_string_equal(names.data, cases[i].names);
        assert_string_equal(deltas.data, cases[i].text);
        check_answer(response, cases[i].status, cases[i].text);
        assert_true(json_is_object(json_object_get(response, "usage")));
        json_decref(last);
        cog_buf_fini(&names);
        cog_buf_fini(&deltas);
        response_fini(&r);
    }
}

/* What the deltas tell of the tokens, together, is what the end tells again. */
static void log_probabilities(void **state)
{
    static const char more[] = ",\"include\":[\"message.output_text.logprobs\"],\"top_logprobs\":2";
    fixture *f = *state;
    char *streaming = cog_sprintf("%s,\"stream\":true", more);
    http_response whole = ask(f, "one two three", more), r = ask(f, "one two three", streaming);
    json_t *root = parse(whole.body.data), *told = json_array(), *event;
    const json_t *want = json_object_get(part_of(root), "logprobs");
    char *at = r.body.data;

    assert_int_equal(json_array_size(want), 3);
    for (int n = 0; (event = next_event(&at, n)) != NULL; n++) {
        const json_t *list = json_object_get(event, "logprobs");

        if (strcmp(text_in(event, "type"), "response.output_text.delta") == 0)
            json_array_extend(told, (json_t *)list);
        else if (strcmp(text_in(event, "type"), "response.output_text.done") == 0)
            assert_true(json_equal(list, want));
        else if (strcmp(text_in(event, "type"), "response.completed") == 0)
            assert_true(json_equal(
                json_object_get(part_of(json_object_get(event, "response")), "logprobs"), want));
        json_decref(event);
    }
    assert_true(json_equal(told, want));
    assert_int_equal(json_array_size(json_object_get(json_array_get(told, 0), "top_logprobs")), 2);
    json_decref(root);
    json_decref(told);
    response_fini(&whole);
    response_fini(&r);
    cog_free(streaming);
}

static void failures(void **state)
{
    fixture *f = *state;
    http_response r = ask(f, "count=5 fail=2", ",\"stream\":true");
    cog_buf names = { 0 }, deltas = { 0 };
    json_t *last = read_events(r.body.data, &names, &deltas);
    const json_t *response = json_object_get(last, "response");

    assert_int_equal(r.status, 200);
    assert_string_equal(names.data, BEGINNING "error response.failed ");
    assert_string_equal(deltas.data, "t0 t1 ");
    assert_string_equal(text_in(response, "status"), "failed");
    assert_string_equal(text_in(json_object_get(response, "error"), "code"), "internal_error");
    json_decref(last);
    cog_buf_fini(&names);
    cog_buf_fini(&deltas);
    response_fini(&r);

    r = ask(f, "count=5 fail=0", ",\"stream\":true"); /* nothing was said yet */
    assert_int_equal(r.status, 500);
    assert_string_equal(error_code(&r), "internal_error");
    response_fini(&r);
    r = ask(f, "count=5 fail=2", "");
    assert_int_equal(r.status, 500);
    assert_string_equal(error_code(&r), "internal_error");
    response_fini(&r);
}

/* A ping has begun the stream before the request fails. */
static void failure_after_a_ping(void **state)
{
    fixture *f = *state;
    http_response r;
    char *at;
    cog_buf names = { 0 }, deltas = { 0 };

    f->cfg.sse_ping_ms = 20;
    f->cfg.request_timeout_ms = 400;
    fixture_start(f);
    r = ask(f, "hold", ",\"stream\":true");
    assert_int_equal(r.status, 200);
    for (at = r.body.data; strncmp(at, ": ping\n\n", 8) == 0; at += 8)
        ;
    assert_true(at > r.body.data);
    json_decref(read_events(at, &names, &deltas));
    assert_string_equal(names.data, BEGINNING "error response.failed ");
    cog_buf_fini(&names);
    response_fini(&r);
}

#define TURNS                                                                                  \
    "{\"instructions\":\"be brief\",\"input\":[{\"role\":\"user\",\"content\":[{\"type\":"     \
    "\"input_image\",\"image_url\":\"data:image/png;base64,RkFLRQ==\"},{\"type\":"             \
    "\"input_text\",\"text\":\"a\"}]},{\"type\":\"message\",\"role\":\"assistant\","           \
    "\"content\":[{\"type\":\"output_text\",\"text\":\"b\"}]},{\"role\":\"user\",\"content\":" \
    "\"c\"}]}"

static void pictures_and_turns(void **state)
{
    fixture *f = *state;
    http_response r = client_post(f->address, "/v1/responses", TURNS);
    fake_seen seen = fake_engine_seen(f->engine);
    json_t *root = parse(r.body.data);
    const json_t *usage = json_object_get(root, "usage");
    json_int_t n = json_integer_value(json_object_get(usage, "input_tokens"));

    assert_int_equal(r.status, 200);
    assert_string_equal(seen.text, "be brief\na|b|c");
    assert_true(seen.has_image);
    assert_int_equal(json_integer_value(json_object_get(
                         json_object_get(usage, "input_tokens_details"), "image_tokens")),
                     FAKE_IMAGE_TOKENS);
    json_decref(root);
    response_fini(&r);

    r = client_post(f->address, "/v1/responses/input_tokens", TURNS);
    root = parse(r.body.data);
    assert_int_equal(json_integer_value(json_object_get(root, "input_tokens")), n);
    assert_string_equal(text_in(root, "object"), "response.input_tokens");
    json_decref(root);
    response_fini(&r);
}

static void refusals(void **state)
{
    static const struct {
        const char *body, *code, *param;
    } cases[] = {
        { "{\"input\":\"a\",\"previous_response_id\":\"resp_1\"}", "unsupported_parameter",
          "previous_response_id" },
        { "{\"input\":\"a\",\"model\":\"none\"}", "model_not_found", "model" },
        { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\",\"image_url\":"
          "\"data:image/png;base64,AAA#\"}]}]}",
          "invalid_base64_image", "input[0].content[0].image_url" },
        { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\",\"image_url\":"
          "\"data:image/png;base64,QlJPS0VO\"}]}]}",
          "image_parse_error", "input[0].content[0].image_url" },
    };
    fixture *f = *state;
    char *many = cog_alloc(1, 3000 * 4 * 2 + 1), *body;
    http_response r;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        r = client_post(f->address, "/v1/responses", cases[i].body);
        assert_string_equal(error_code(&r), cases[i].code);
        assert_string_equal(error_member(&r, "param"), cases[i].param);
        response_fini(&r);
    }
    for (int i = 0; i < 3000 * 2; i++)
        memcpy(many + 4 * i, "abc ", 4);
    body = cog_sprintf("{\"input\":\"%s\"}", many);
    r = client_post(f->address, "/v1/responses", body);
    assert_string_equal(error_code(&r), "context_length_exceeded");
    assert_string_equal(error_member(&r, "param"), "input");
    response_fini(&r);
    cog_free(body);
    cog_free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_answers, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(streams, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(log_probabilities, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(failures, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(failure_after_a_ping, fixture_create, fixture_teardown),
        cmocka_unit_test_setup_teardown(pictures_and_turns, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(refusals, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
