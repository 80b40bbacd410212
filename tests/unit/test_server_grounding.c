/* `grounding` over HTTP: where the boxes stand in whole answers and in streams, whose pixels they
 * are in, and what is refused. What is a box is test_grounding.c's. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/server_fixture.h"

#include <jansson.h>
#include <string.h>

#define PICTURE "FAKE width=640 height=480"
/* The double answers with the question. */
#define TEXT                                                                                     \
    "caf\xc3\xa9, a dog [[100,200,301,999]] and the cats [[1,2,3,4;500,500,750,750]] [[1,2,3]] " \
    "cut=3"
#define PIXELS                                                  \
    "[{\"phrase\":\"a dog\",\"start\":7,\"end\":12,"            \
    "\"boxes\":[{\"x0\":64,\"y0\":96,\"x1\":192,\"y1\":479}]}," \
    "{\"phrase\":\"the cats\",\"start\":37,\"end\":45,"         \
    "\"boxes\":[{\"x0\":0,\"y0\":0,\"x1\":1,\"y1\":1},"         \
    "{\"x0\":320,\"y0\":240,\"x1\":480,\"y1\":360}]}]"

static http_response ask(fixture *f, const char *text, const char *picture, const char *more)
{
    char *body = picture_body(text, picture, more);
    http_response r = client_post(f->address, "/v1/chat/completions", body);

    cog_free(body);
    return r;
}

static json_t *parse(const char *text)
{
    json_t *root = json_loads(text, 0, NULL);

    assert_non_null(root);
    return root;
}

static void require_equal(const json_t *got, const char *want)
{
    json_t *v = parse(want);

    if (!json_equal(got, v)) {
        char *text = got ? json_dumps(got, JSON_ENCODE_ANY) : NULL;
        fail_msg("%s is not %s", text, want);
    }
    json_decref(v);
}

static json_t *choice_of(const json_t *root, size_t i)
{
    return json_array_get(json_object_get(root, "choices"), i);
}

static void whole_answers(void **state)
{
    static const struct {
        const char *field, *want;
    } cases[] = {
        { ",\"n\":2,\"grounding\":true", PIXELS },
        { ",\"n\":2,\"grounding\":{}", PIXELS },
        { ",\"n\":2,\"grounding\":{\"format\":\"pixel\"}", PIXELS },
        { ",\"n\":2,\"grounding\":{\"format\":\"norm1000\"},\"max_tokens\":14",
          "[{\"phrase\":\"a dog\",\"start\":7,\"end\":12,"
          "\"boxes\":[{\"x0\":100,\"y0\":200,\"x1\":301,\"y1\":999}]}]" },
        { ",\"n\":2,\"grounding\":{\"format\":\"norm1\"},\"max_tokens\":14",
          "[{\"phrase\":\"a dog\",\"start\":7,\"end\":12,"
          "\"boxes\":[{\"x0\":0.1,\"y0\":0.2,\"x1\":0.301,\"y1\":0.999}]}]" },
        { ",\"n\":2,\"grounding\":true,\"max_tokens\":4", "[]" },
    };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        http_response r = ask(f, TEXT, PICTURE, cases[i].field);
        json_t *root = parse(r.body.data);

        require_equal(json_object_get(root, "image_sizes"), "[[640,480]]");
        for (size_t k = 0; k < 2; k++) {
            const json_t *c = choice_of(root, k), *message = json_object_get(c, "message");
            const char *content = json_string_value(json_object_get(message, "content"));

            require_equal(json_object_get(c, "grounding"), cases[i].want);
            assert_null(json_object_get(message, "grounding"));
            assert_memory_equal(content, TEXT, strlen(content));
            if (i == 0)
                assert_string_equal(content, TEXT);
        }
        json_decref(root);
        response_fini(&r);
    }
}

static void only_where_asked(void **state)
{
    static const char *const fields[] = { "", ",\"grounding\":false", ",\"grounding\":null",
                                          ",\"stream\":true" };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        http_response r = ask(f, TEXT, PICTURE, fields[i]);

        assert_int_equal(r.status, 200);
        assert_null(strstr(r.body.data, "\"grounding\""));
        assert_null(strstr(r.body.data, "image_sizes"));
        response_fini(&r);
    }
}

/* The chunks of a stream with two choices. The boxes come once for each, beside its finish_reason,
 * however the text was cut. */
static void check_stream(char *stream)
{
    int n_boxes = 0;
    cog_buf text = { 0 };

    for (char *at = stream, *end; strncmp(at, "data: {", 7) == 0; at = end + 2) {
        json_t *root;
        const json_t *c, *delta;
        const char *content;

        end = strstr(at, "\n\n");
        assert_non_null(end);
        *end = '\0';
        root = parse(at + 6);
        c = choice_of(root, 0);
        delta = json_object_get(c, "delta");
        content = json_string_value(json_object_get(delta, "content"));
        require_equal(json_object_get(root, "image_sizes"), "[[640,480]]");
        assert_null(json_object_get(delta, "grounding"));
        if (json_is_string(json_object_get(c, "finish_reason"))) {
            require_equal(json_object_get(c, "grounding"), PIXELS);
            n_boxes++;
        } else {
            assert_null(json_object_get(c, "grounding"));
        }
        if (content && json_integer_value(json_object_get(c, "index")) == 0)
            cog_buf_puts(&text, content);
        json_decref(root);
    }
    assert_string_equal(text.data, TEXT);
    assert_int_equal(n_boxes, 2);
    cog_buf_fini(&text);
}

static void streams(void **state)
{
    fixture *f = *state;
    http_response r = ask(f, TEXT, PICTURE, ",\"n\":2,\"stream\":true,\"grounding\":true");
    json_t *root;
    char *last;

    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body.data, "\"content\":\"[[1\""));
    check_stream(r.body.data);
    response_fini(&r);
    /* the metrics hold the last chunk back */
    r = ask(f, TEXT, PICTURE, ",\"stream\":true,\"return_metrics\":true,\"grounding\":true");
    last = strstr(r.body.data, "\"finish_reason\":\"stop\"");
    assert_non_null(last);
    while (last[-1] != '\n')
        last--;
    *strstr(last, "\n\n") = '\0';
    root = parse(last + 6);
    require_equal(json_object_get(choice_of(root, 0), "grounding"), PIXELS);
    assert_non_null(json_object_get(root, "metrics"));
    json_decref(root);
    response_fini(&r);
}

/* The picture of a turn before is the one that boxes are in. */
static void pictures_of_the_past(void **state)
{
    static const char body[] =
        "{\"grounding\":true,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
        "\"image_url\":{\"url\":\"data:image/png;base64,RkFLRSB3aWR0aD0xMDAgaGVpZ2h0PTUw\"}},"
        "{\"type\":\"text\",\"text\":\"hi\"}]},{\"role\":\"assistant\",\"content\":\"x\"},"
        "{\"role\":\"user\",\"content\":\"it [[100,100,200,200]]\"}]}";
    fixture *f = *state;
    http_response r = client_post(f->address, "/v1/chat/completions", body);
    json_t *root = parse(r.body.data);

    require_equal(json_object_get(root, "image_sizes"), "[[100,50]]");
    require_equal(json_object_get(choice_of(root, 0), "grounding"),
                  "[{\"phrase\":\"it\",\"start\":0,\"end\":2,"
                  "\"boxes\":[{\"x0\":10,\"y0\":5,\"x1\":20,\"y1\":10}]}]");
    json_decref(root);
    response_fini(&r);
}

static void refusals(void **state)
{
    static const struct {
        const char *more, *code, *param;
        bool has_picture;
    } cases[] = {
        { ",\"grounding\":true", "invalid_value", "grounding", false },
        { ",\"grounding\":{\"format\":\"norm1\"}", "invalid_value", "grounding", false },
        { ",\"grounding\":1", "invalid_type", "grounding", true },
        { ",\"grounding\":\"pixel\"", "invalid_type", "grounding", true },
        { ",\"grounding\":{\"format\":\"percent\"}", "invalid_value", "grounding.format", true },
        { ",\"grounding\":{\"format\":3}", "invalid_type", "grounding.format", true },
    };
    fixture *f = *state;
    int accepted = fake_engine_accepted(f->engine);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        http_response r = cases[i].has_picture ? ask(f, TEXT, PICTURE, cases[i].more)
                                               : chat(f, TEXT, cases[i].more);

        assert_int_equal(r.status, 400);
        assert_string_equal(error_code(&r), cases[i].code);
        assert_string_equal(error_member(&r, "param"), cases[i].param);
        response_fini(&r);
    }
    assert_int_equal(fake_engine_accepted(f->engine), accepted);
}

/* What is no box after all is left out, and counted. */
static void counted(void **state)
{
    fixture *f = *state;
    http_response r = ask(f, TEXT, PICTURE, ",\"n\":2,\"grounding\":true");

    response_fini(&r);
    r = ask(f, TEXT, PICTURE, "");
    response_fini(&r);
    r = client_get(f->address, "/metrics");
    assert_non_null(strstr(r.body.data, "\ncogwheel_boxes_total{result=\"ok\"} 6\n"));
    assert_non_null(strstr(r.body.data, "\ncogwheel_boxes_total{result=\"broken\"} 2\n"));
    response_fini(&r);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(whole_answers),        TEST(only_where_asked), TEST(streams),
        TEST(pictures_of_the_past), TEST(refusals),         TEST(counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
