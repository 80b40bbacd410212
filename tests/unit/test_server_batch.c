/* POST /v1/chat/completions/batch over HTTP: each conversation has its own answer or its own error,
 * none waits for another, and the client's leaving ends all. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/server_fixture.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#define PATH       "/v1/chat/completions/batch"
#define USER(text) "[{\"role\":\"user\",\"content\":\"" text "\"}]"

/* A conversation about a picture. Owned by the caller. */
static char *about(const char *text, const char *picture)
{
    char *body = picture_body(text, picture, ""), *list = strchr(body, '['), *copy;

    body[strlen(body) - 1] = '\0';
    copy = cog_strdup(list);
    cog_free(body);
    return copy;
}

static http_response ask(fixture *f, const char *conversations, const char *more)
{
    char *body = cog_sprintf("{\"messages\":[%s]%s}", conversations, more);
    http_response r = client_post(f->address, PATH, body);

    cog_free(body);
    return r;
}

static json_t *answered(const http_response *r)
{
    json_t *root = json_loads(r->body.data, JSON_REJECT_DUPLICATES, NULL);

    if (r->status != 200 || !root)
        fail_msg("%d %s", r->status, r->body.data);
    assert_string_equal(json_string_value(json_object_get(root, "object")), "chat.completion");
    return root;
}

/* The i-th choice has this text, or this error. */
static void check_choice(const json_t *root, size_t i, const char *text, const char *code,
                         const char *param)
{
    const json_t *c = json_array_get(json_object_get(root, "choices"), i);
    const json_t *content = json_object_get(json_object_get(c, "message"), "content");
    const json_t *error = json_object_get(c, "error");

    assert_int_equal(json_integer_value(json_object_get(c, "index")), i);
    if (text) {
        assert_null(error);
        assert_string_equal(json_string_value(content), text);
        assert_true(json_is_string(json_object_get(c, "finish_reason")));
        return;
    }
    assert_true(json_is_null(content));
    assert_true(json_is_null(json_object_get(c, "finish_reason")));
    assert_string_equal(json_string_value(json_object_get(error, "code")), code);
    if (param)
        assert_string_equal(json_string_value(json_object_get(error, "param")), param);
    else
        assert_true(json_is_null(json_object_get(error, "param")));
}

static json_int_t usage_of(const json_t *root, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(root, "usage"), name));
}

static void each_has_its_answer(void **state)
{
    fixture *f = *state;
    char *picture = about("a b", "FAKE 1"), *other = about("c", "FAKE 2");
    char *all = cog_sprintf("%s,%s,%s", picture, USER("one two three"), other);
    http_response r = ask(f, all, ",\"max_tokens\":2,\"odd\":1");
    json_t *root = answered(&r);

    assert_int_equal(json_array_size(json_object_get(root, "choices")), 3);
    check_choice(root, 0, "a b", NULL, NULL);
    check_choice(root, 1, "one two ", NULL, NULL);
    check_choice(root, 2, "c", NULL, NULL);
    assert_int_equal(usage_of(root, "completion_tokens"), 5);
    assert_int_equal(json_integer_value(json_object_get(
                         json_object_get(json_object_get(root, "usage"), "prompt_tokens_details"),
                         "image_tokens")),
                     2 * FAKE_IMAGE_TOKENS);
    assert_string_equal(response_header(&r, "x-ignored-parameters"), "odd");
    assert_int_equal(fake_engine_accepted(f->engine), 3);
    json_decref(root);
    response_fini(&r);
    cog_free(all);
    cog_free(picture);
    cog_free(other);
}

static void each_has_its_error(void **state)
{
    fixture *f = *state;
    char *broken = about("a", "BROKEN"), *slow = about("b", "FAKE slow=50");
    char *first = cog_sprintf("%s,%s,%s,%s", broken, USER("count=3 fail=1"), slow, USER("fine"));
    char *text = cog_alloc(1, 24001), *second;
    http_response r = ask(f, first, "");
    json_t *root = answered(&r);

    check_choice(root, 0, NULL, "image_parse_error", "messages[0][0].content[1].image_url.url");
    check_choice(root, 1, NULL, "internal_error", NULL);
    check_choice(root, 2, "b", NULL, NULL);
    check_choice(root, 3, "fine", NULL, NULL);
    assert_int_equal(usage_of(root, "completion_tokens"), 2); /* of those that are answered */
    json_decref(root);
    response_fini(&r);

    for (int i = 0; i < 6000; i++)
        memcpy(text + 4 * i, "abc ", 4);
    second = cog_sprintf("5,[{\"role\":\"user\",\"content\":\"%s\"}],[{\"role\":\"tool\"}],%s",
                         text, USER("fine"));
    r = ask(f, second, "");
    root = answered(&r);
    check_choice(root, 0, NULL, "invalid_type", "messages[0]");
    check_choice(root, 1, NULL, "context_length_exceeded", "messages[1]");
    check_choice(root, 2, NULL, "unsupported_value", "messages[2][0].role");
    check_choice(root, 3, "fine", NULL, NULL);
    json_decref(root);
    response_fini(&r);

    r = ask(f, "[],5", ""); /* nothing ever runs */
    root = answered(&r);
    check_choice(root, 0, NULL, "empty_array", "messages[0]");
    check_choice(root, 1, NULL, "invalid_type", "messages[1]");
    assert_int_equal(usage_of(root, "total_tokens"), 0);
    json_decref(root);
    response_fini(&r);
    cog_free(first);
    cog_free(second);
    cog_free(text);
    cog_free(broken);
    cog_free(slow);
}

static void boxes_are_in_pixels_of_their_picture(void **state)
{
    fixture *f = *state;
    char *one = about("a dog [[100,200,300,999]]", "FAKE width=100 height=1000");
    char *two = about("[[100,200,300,999]]", "FAKE width=1000 height=100");
    char *all = cog_sprintf("%s,%s,%s", one, two, USER("no picture"));
    http_response r = ask(f, all, ",\"grounding\":true");
    json_t *root = answered(&r);
    json_t *want = json_pack("[[[ii]],[[ii]]]", 100, 1000, 1000, 100);

    for (size_t i = 0; i < 2; i++) {
        const json_t *c = json_array_get(json_object_get(root, "choices"), i);
        const json_t *found = json_array_get(json_object_get(c, "grounding"), 0);
        const json_t *box = json_array_get(json_object_get(found, "boxes"), 0);

        assert_true(json_equal(json_object_get(c, "image_sizes"), json_array_get(want, i)));
        assert_int_equal(json_integer_value(json_object_get(box, "x0")), i ? 100 : 10);
        assert_int_equal(json_integer_value(json_object_get(box, "y0")), i ? 20 : 200);
    }
    check_choice(root, 2, NULL, "invalid_value", "grounding");
    json_decref(want);
    json_decref(root);
    response_fini(&r);
    cog_free(all);
    cog_free(one);
    cog_free(two);
}

static void begin(http_client *c, const char *conversations)
{
    char *body = cog_sprintf("{\"messages\":[%s]}", conversations);
    char *raw = cog_sprintf("POST " PATH " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
                            "\r\nContent-Length: %zu\r\n\r\n%s",
                            strlen(body), body);

    client_puts(c, raw);
    cog_free(raw);
    cog_free(body);
}

/* The second is with the engine before the first, whose picture takes long. */
static void none_waits_for_another(void **state)
{
    fixture *f = *state;
    char *slow = about("a", "FAKE slow=1500"), *all = cog_sprintf("%s,%s", slow, USER("b"));
    http_client c = client_open(f->address);
    http_response r;
    json_t *root;

    begin(&c, all);
    r = client_read(&c, false);
    root = answered(&r);
    assert_string_equal(fake_engine_seen_before(f->engine).text, "b");
    assert_string_equal(fake_engine_seen(f->engine).text, "a");
    check_choice(root, 0, "a", NULL, NULL);
    check_choice(root, 1, "b", NULL, NULL);
    json_decref(root);
    response_fini(&r);
    client_close(&c);
    cog_free(all);
    cog_free(slow);
}

static void a_deadline_takes_what_is_not_ready(void **state)
{
    fixture *f = *state;
    char *slow = about("a", "FAKE slow=4000");
    char *all = cog_sprintf("%s,%s,%s", USER("hold"), USER("fine"), slow);
    http_response r;
    json_t *root;

    f->cfg.request_timeout_ms = 2000;
    fixture_start(f);
    r = ask(f, all, "");
    root = answered(&r);
    check_choice(root, 0, NULL, "request_deadline_exceeded", NULL);
    check_choice(root, 1, "fine", NULL, NULL);
    check_choice(root, 2, NULL, "request_deadline_exceeded", NULL);
    assert_true(fixture_wait(f, fake_engine_live, 0));
    while (fake_engine_decoding() > 0)
        usleep(1000);
    json_decref(root);
    response_fini(&r);
    cog_free(all);
    cog_free(slow);
}

static void a_client_that_leaves_ends_all(void **state)
{
    fixture *f = *state;
    char *slow = about("a", "FAKE slow=300");
    char *all = cog_sprintf("%s,%s,%s", USER("hold"), slow, USER("hold"));
    http_client c = client_open(f->address);
    http_response r;

    begin(&c, all);
    assert_true(fixture_wait(f, fake_engine_accepted, 2));
    client_close(&c);
    assert_true(fixture_wait(f, fake_engine_cancelled, 2));
    assert_true(fixture_wait(f, fake_engine_live, 0));
    r = ask(f, USER("fine"), "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
    cog_free(all);
    cog_free(slow);
}

static void what_is_refused(void **state)
{
    static const struct {
        const char *conversations, *more;
        int status;
        const char *code, *param;
    } cases[] = {
        { "", "", 400, "empty_array", "messages" },
        { "1,2,3,4,5", "", 400, "array_above_max_length", "messages" }, /* FAKE_QUEUE is 4 */
        { USER("a"), ",\"stream\":true", 400, "unsupported_value", "stream" },
        { USER("a"), ",\"n\":2", 400, "integer_above_max_value", "n" },
        { USER("a"), ",\"temperature\":3", 400, "decimal_above_max_value", "temperature" },
        { USER("a"), ",\"top_logprobs\":3", 400, "invalid_value", "top_logprobs" },
        { USER("a"), ",\"model\":\"none\"", 404, "model_not_found", "model" },
    };
    fixture *f = *state;
    http_client c;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        http_response r = ask(f, cases[i].conversations, cases[i].more);

        assert_int_equal(r.status, cases[i].status);
        assert_string_equal(error_code(&r), cases[i].code);
        assert_string_equal(error_member(&r, "param"), cases[i].param);
        response_fini(&r);
    }
    assert_int_equal(fake_engine_accepted(f->engine), 0);

    fake_engine_pause(f->engine, true); /* two wait; there is no room for three more */
    c = client_open(f->address);
    begin(&c, USER("a") "," USER("b"));
    assert_true(fixture_wait(f, fake_engine_accepted, 2));
    for (int n = 3; n >= 2; n--) {
        http_client d = client_open(f->address);
        http_response r;

        begin(&d, n == 3 ? USER("c") "," USER("d") "," USER("e") : USER("c") "," USER("d"));
        if (n == 2) {
            assert_true(fixture_wait(f, fake_engine_accepted, 4));
            fake_engine_pause(f->engine, false);
        }
        r = client_read(&d, false);
        assert_int_equal(r.status, n == 3 ? 503 : 200);
        if (n == 3)
            assert_string_equal(error_code(&r), "server_is_overloaded");
        response_fini(&r);
        client_close(&d);
    }
    client_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_has_its_answer, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(each_has_its_error, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(boxes_are_in_pixels_of_their_picture, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(none_waits_for_another, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_deadline_takes_what_is_not_ready, fixture_create,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_client_that_leaves_ends_all, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(what_is_refused, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
