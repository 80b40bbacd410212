#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/server_fixture.h"

#include <stdio.h>
#include <string.h>

static void expect(fixture *f, const char *path, const char *body, const char *answer)
{
    http_response r = client_post(f->address, path, body);

    assert_int_equal(r.status, 200);
    assert_string_equal(r.body.data, answer);
    assert_string_equal(response_header(&r, "Content-Type"), "application/json");
    response_fini(&r);
}

static void expect_error(http_response r, int status, const char *code, const char *param)
{
    if (r.status != status || strcmp(error_code(&r), code) != 0 ||
        strcmp(error_member(&r, "param"), param) != 0)
        fail_msg("%d %s", r.status, r.body.data);
    response_fini(&r);
}

/* The engine's double: a byte is a token, a prompt begins with the number of its template. */
static void texts(void **state)
{
    fixture *f = *state;
    static const char *const paths[] = { "/tokenize", "/v1/tokenize", "/tokenize/" };

    for (int i = 0; i < 3; i++)
        expect(f, paths[i], "{\"prompt\":\"ab\"}",
               "{\"count\":3,\"max_model_len\":4000,\"tokens\":[1,97,98],\"token_strs\":null}");
    expect(f, "/tokenize",
           "{\"prompt\":\"ab\",\"add_special_tokens\":false,"
           "\"return_token_strs\":true}",
           "{\"count\":2,\"max_model_len\":4000,\"tokens\":[97,98],\"token_strs\":[\"a\",\"b\"]}");
    expect(f, "/tokenize", "{\"content\":\"a-\",\"with_pieces\":true}",
           "{\"count\":2,\"max_model_len\":4000,\"tokens\":[{\"id\":97,\"piece\":\"a\"},"
           "{\"id\":45,\"piece\":\"\"}],\"token_strs\":null}");
    expect(f, "/tokenize",
           "{\"prompt\":\"\",\"add_special_tokens\":false,"
           "\"return_token_strs\":true}",
           "{\"count\":0,\"max_model_len\":4000,\"tokens\":[],\"token_strs\":[]}");
}

static void prompts_are_counted(void **state)
{
    static const char path[] = "/v1/chat/completions/input_tokens";
    fixture *f = *state;
    int decoded = fake_engine_decoded();
    char *text = chat_body("ab", ",\"max_tokens\":5"), *picture = picture_body("ab", "x", "");
    char *bad = chat_body("ab", ",\"n\":0"), *unknown = chat_body("ab", ",\"model\":\"no\"");

    expect(f, path, text,
           "{\"object\":\"response.input_tokens\",\"input_tokens\":3,\"image_tokens\":0}");
    expect(f, path + 3, picture,
           "{\"object\":\"response.input_tokens\",\"input_tokens\":21,\"image_tokens\":18}");
    expect_error(client_post(f->address, path, bad), 400, "integer_below_min_value", "n");
    expect_error(client_post(f->address, path, unknown), 404, "model_not_found", "model");
    expect_error(client_post(f->address, path, "{}"), 400, "missing_required_parameter",
                 "messages");
    assert_int_equal(fake_engine_decoded(), decoded);
    assert_int_equal(fake_engine_accepted(f->engine), 0);
    cog_free(unknown);
    cog_free(bad);
    cog_free(picture);
    cog_free(text);
}

/* The picture is no picture: nobody looks, it counts as every other. */
static void chats(void **state)
{
    fixture *f = *state;
    int decoded = fake_engine_decoded();
    char *text = chat_body("ab", ""), *picture = picture_body("ab", "no picture", "");
    http_response r;

    r = client_post(f->address, "/tokenize", text);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body.data, "\"count\":3,"));
    assert_non_null(strstr(r.body.data, ",97,98]"));
    response_fini(&r);
    r = client_post(f->address, "/tokenize", picture);
    assert_int_equal(r.status, 200);
    assert_null(strstr(r.body.data, "\"count\":3,"));
    response_fini(&r);
    assert_int_equal(fake_engine_decoded(), decoded);
    expect_error(client_post(f->address, "/tokenize", "{\"messages\":[]}"), 400, "empty_array",
                 "messages");
    cog_free(text);
    cog_free(picture);
}

static void ids(void **state)
{
    fixture *f = *state;

    expect(f, "/detokenize", "{\"tokens\":[97,98]}", "{\"prompt\":\"ab\",\"content\":\"ab\"}");
    expect(f, "/v1/detokenize", "{\"tokens\":[]}", "{\"prompt\":\"\",\"content\":\"\"}");
    expect_error(client_post(f->address, "/detokenize", "{\"tokens\":[97,256]}"), 400,
                 "invalid_value", "tokens[1]");
    expect_error(client_post(f->address, "/detokenize", "{\"tokens\":[-1]}"), 400, "invalid_value",
                 "tokens[0]");
}

static void what_all_addresses_check(void **state)
{
    static const char *const paths[] = { "/tokenize", "/detokenize" };
    fixture *f = *state;
    http_response r;

    for (int i = 0; i < 2; i++) {
        expect_error(client_post(f->address, paths[i],
                                 "{\"model\":\"none\",\"prompt\":\"x\","
                                 "\"tokens\":[]}"),
                     404, "model_not_found", "model");
        expect_error(client_post(f->address, paths[i], "{"), 400, "invalid_json", "");
        r = client_get(f->address, paths[i]);
        assert_string_equal(response_header(&r, "Allow"), "POST");
        expect_error(r, 405, "method_not_allowed", "");
    }
    expect_error(client_post(f->address, "/tokenize",
                             "{\"model\":\"none\",\"messages\":[{\"role\":\"user\",\"content\":"
                             "\"x\"}],\"temperature\":3}"),
                 400, "decimal_above_max_value", "temperature");
    r = client_post(f->address, "/tokenize", "{\"prompt\":\"x\",\"frobnicate\":1}");
    assert_string_equal(response_header(&r, "x-ignored-parameters"), "frobnicate");
    response_fini(&r);
}

static void not_while_loading(void **state)
{
    fixture *f = *state;
    http_response r;

    fixture_start(f);
    fake_engine_set_phase(f->engine, COG_ENGINE_LOADING, 0.25);
    r = client_post(f->address, "/tokenize", "{\"prompt\":\"x\"}");
    assert_non_null(response_header(&r, "Retry-After"));
    expect_error(r, 503, "model_loading", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(texts, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(chats, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(prompts_are_counted, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(ids, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_all_addresses_check, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(not_while_loading, fixture_create, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
