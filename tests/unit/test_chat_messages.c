/* Messages: roles, parts, joining, and the one picture. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "proto/chat.h"

#include <stdio.h>
#include <string.h>

static cog_chat_options options = { .nonce = "0123456789abcdef", .max_n = 8, .max_images = 1 };

static int read_messages(cog_chat *c, char **body, const char *messages, cog_api_error *err)
{
    memset(err, 0, sizeof(*err));
    *body = cog_sprintf("{\"messages\":%s}", messages);
    return cog_chat_init(c, *body, strlen(*body), &options, err);
}

/* Turns as "query|answer|query". */
static void expect_turns(const char *messages, const char *turns)
{
    cog_chat c;
    cog_api_error err;
    cog_buf out = { 0 };
    char *body;

    if (read_messages(&c, &body, messages, &err) < 0)
        fail_msg("%s: %s", messages, err.message);
    for (int i = 0; i < c.n_turns; i++) {
        cog_buf_add(&out, c.turns[i].query.data, c.turns[i].query.len);
        if (i < c.n_turns - 1) {
            cog_buf_puts(&out, "|");
            cog_buf_add(&out, c.turns[i].answer.data, c.turns[i].answer.len);
            cog_buf_puts(&out, "|");
        }
    }
    assert_string_equal(out.data, turns);
    cog_buf_fini(&out);
    cog_chat_fini(&c);
    cog_free(body);
}

static void expect_code(const char *messages, const char *code, const char *param)
{
    cog_chat c;
    cog_api_error err;
    char *body;

    if (read_messages(&c, &body, messages, &err) == 0)
        fail_msg("accepted: %s", messages);
    if (strcmp(cog_api_error_name(err.code), code) != 0)
        fail_msg("%s: got %s (%s), expected %s", messages, cog_api_error_name(err.code),
                 err.message, code);
    if (param)
        assert_string_equal(err.param, param);
    cog_chat_fini(&c);
    cog_free(body);
}

#define USER(content)      "{\"role\":\"user\",\"content\":" content "}"
#define ASSISTANT(content) "{\"role\":\"assistant\",\"content\":" content "}"
#define SYSTEM(content)    "{\"role\":\"system\",\"content\":" content "}"
#define TEXT(text)         "{\"type\":\"text\",\"text\":\"" text "\"}"
#define PNG                "data:image/png;base64,AAAA"
#define IMAGE(url)         "{\"type\":\"image_url\",\"image_url\":{\"url\":\"" url "\"}}"

static void joining(void **state)
{
    expect_turns("[" USER("\"a\"") "]", "a");
    expect_turns("[" USER("[" TEXT("a") "," TEXT("b") "]") "]", "a b");
    expect_turns("[" USER("\"a\"") "," USER("\"b\"") "]", "a\nb");
    expect_turns("[" USER("\"a\"") "," ASSISTANT("\"b\"") "," USER("\"c\"") "]", "a|b|c");
    expect_turns(
        "[" USER("\"a\"") "," ASSISTANT("\"b\"") "," ASSISTANT("\"c\"") "," USER("\"d\"") "]",
        "a|b\nc|d");
    expect_turns("[" USER("\"a\"") "," ASSISTANT("null") "," USER("\"c\"") "]", "a||c");
    expect_turns("[" USER("\"a\"") ",{\"role\":\"assistant\"}," USER("\"c\"") "]", "a||c");
    expect_turns("[" USER("\"a\"") "," ASSISTANT("[" TEXT("b") ",{\"type\":\"refusal\",\"refusal\":"
                                                               "\"no\"}]") "," USER("\"c\"") "]",
                 "a|b no|c");
    expect_turns("[" USER("[{\"type\":\"input_text\",\"text\":\"a\"}]") "]", "a");
    expect_turns("[" USER("[" IMAGE(PNG) "]") "," USER("\"what?\"") "]", "what?");
    expect_turns("[{\"role\":\"user\",\"name\":\"Ann\",\"content\":\"a\",\"x\":1}]", "a");
}

static void system_text(void **state)
{
    expect_turns("[" SYSTEM("\"s\"") "," USER("\"a\"") "]", "s\na");
    expect_turns("[" SYSTEM("\"s\"") ",{\"role\":\"developer\",\"content\":[" TEXT("d") "]}," USER(
                     "\"a\"") "]",
                 "s\nd\na");
    expect_turns("[" USER("\"a\"") "," SYSTEM("\"s\"") "," USER("\"b\"") "]", "s\na\nb");
    expect_turns("[" USER("\"a\"") "," ASSISTANT("\"b\"") "," SYSTEM("\"s\"") "," USER("\"c\"") "]",
                 "s\na|b|c");
    expect_turns("[" SYSTEM("\"\"") "," USER("\"a\"") "]", "a");
    expect_turns("[" SYSTEM("\"s\"") "," USER("[" IMAGE(PNG) "]") "]", "s");
}

static void broken_orders(void **state)
{
    expect_code("[" ASSISTANT("\"b\"") "]", "invalid_value", "messages[0]");
    expect_code("[" SYSTEM("\"s\"") "," ASSISTANT("\"b\"") "," USER("\"a\"") "]", "invalid_value",
                "messages[1]");
    expect_code("[" USER("\"a\"") "," ASSISTANT("\"b\"") "]", "invalid_value", "messages[1]");
    expect_code("[" SYSTEM("\"s\"") "]", "invalid_value", "messages");
}

static void shapes(void **state)
{
    expect_code("null", "missing_required_parameter", "messages");
    expect_code("{}", "invalid_type", "messages");
    expect_code("[]", "empty_array", "messages");
    expect_code("[5]", "invalid_type", "messages[0]");
    expect_code("[{}]", "missing_required_parameter", "messages[0].role");
    expect_code("[{\"role\":5}]", "invalid_type", "messages[0].role");
    expect_code("[{\"role\":\"robot\",\"content\":\"a\"}]", "invalid_value", "messages[0].role");
    expect_code("[{\"role\":\"tool\",\"content\":\"a\"}]", "unsupported_value", "messages[0].role");
    expect_code("[{\"role\":\"function\",\"content\":\"a\"}]", "unsupported_value",
                "messages[0].role");
    expect_code("[{\"role\":\"user\"}]", "missing_required_parameter", "messages[0].content");
    expect_code("[" USER("null") "]", "missing_required_parameter", "messages[0].content");
    expect_code("[" USER("5") "]", "invalid_type", "messages[0].content");
    expect_code("[" USER("[]") "]", "empty_array", "messages[0].content");
    expect_code("[" USER("[5]") "]", "invalid_type", "messages[0].content[0]");
    expect_code("[" USER("[{}]") "]", "missing_required_parameter", "messages[0].content[0].type");
    expect_code("[" USER("[{\"type\":\"text\"}]") "]", "missing_required_parameter",
                "messages[0].content[0].text");
    expect_code("[" USER("[{\"type\":\"text\",\"text\":5}]") "]", "invalid_type",
                "messages[0].content[0].text");
    expect_code("[" USER("[" TEXT("a") ",{\"type\":\"video\"}]") "]", "invalid_value",
                "messages[0].content[1]");
    expect_code("[" USER("[{\"type\":\"input_audio\"}]") "]", "unsupported_value",
                "messages[0].content[0]");
    expect_code("[" USER("[{\"type\":\"image_embeds\"}]") "]", "unsupported_value", NULL);
    expect_code("[" USER("[{\"type\":\"video_url\",\"video_url\":{}}]") "]", "unsupported_value",
                NULL);
    expect_code("[" SYSTEM("[" IMAGE(PNG) "]") "," USER("\"a\"") "]", "invalid_value",
                "messages[0].content[0]");
    expect_code(
        "[" USER("\"a\"") ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{}]}," USER(
            "\"b\"") "]",
        "unsupported_value", "messages[1].tool_calls");
}

static void too_many_messages(void **state)
{
    cog_buf messages = { 0 };

    cog_buf_puts(&messages, "[" USER("\"a\""));
    for (int i = 1; i < 257; i++)
        cog_buf_puts(&messages, "," USER("\"a\""));
    cog_buf_puts(&messages, "]");
    expect_code(messages.data, "array_above_max_length", "messages");
    cog_buf_fini(&messages);
}

/* ------------------------------------------------------------------ pictures */

static void image_parts(void **state)
{
    static const char *const good[] = {
        "[" USER("[" IMAGE(PNG) "]") "]",
        "[" USER("[{\"type\":\"image_url\",\"image_url\":\"" PNG "\"}]") "]",
        "[" USER("[{\"type\":\"input_image\",\"image_url\":\"" PNG "\",\"detail\":\"high\"}]") "]",
        "[" USER("[{\"type\":\"image_url\",\"uuid\":\"u\",\"image_url\":{\"url\":\"" PNG
                 "\",\"detail\":\"low\"}}]") "]",
        "[" USER("[" IMAGE("AAAA") "]") "]",
        "[" USER("[" IMAGE("data:image\\/png;base64,AAAA") "]") "]",
    };

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        cog_chat c;
        cog_api_error err;
        char *body;

        assert_int_equal(read_messages(&c, &body, good[i], &err), 0);
        assert_int_equal(c.picture.len, 4);
        assert_memory_equal(c.picture.base64, "AAAA", 4);
        assert_int_equal(c.picture.is_bare, i == 4);
        cog_chat_fini(&c);
        cog_free(body);
    }
}

static void bad_image_parts(void **state)
{
    const char *url = "messages[0].content[0].image_url.url";

    expect_code("[" USER("[" IMAGE("http://x/a.png") "]") "]", "invalid_image_url", url);
    expect_code("[" USER("[" IMAGE("file:///a.png") "]") "]", "invalid_image_url", url);
    expect_code("[" USER("[" IMAGE("ftp://a") "]") "]", "invalid_image_url", url);
    expect_code("[" USER("[" IMAGE("data:image/png,AAAA") "]") "]", "invalid_image_url", url);
    expect_code("[" USER("[" IMAGE("data:text/html;base64,AAAA") "]") "]", "invalid_image_url",
                url);
    expect_code("[" USER("[{\"type\":\"image_url\"}]") "]", "missing_required_parameter",
                "messages[0].content[0].image_url");
    expect_code("[" USER("[{\"type\":\"image_url\",\"image_url\":{}}]") "]",
                "missing_required_parameter", url);
    expect_code("[" USER("[{\"type\":\"image_url\",\"uuid\":\"u\"}]") "]",
                "missing_required_parameter", NULL);
    expect_code("[" USER("[{\"type\":\"image_url\",\"image_url\":{\"url\":5}}]") "]",
                "invalid_type", url);
    expect_code("[" USER("[{\"type\":\"image_url\",\"image_url\":{\"url\":\"" PNG
                         "\",\"detail\":\"ultra\"}}]") "]",
                "invalid_value", "messages[0].content[0].image_url.detail");
}

/* A picture that was uploaded, in the forms of three APIs. */
static void stored_images(void **state)
{
    static const struct {
        const char *part, *param;
    } good[] = {
        { "{\"type\":\"input_image\",\"file_id\":\"f1\",\"detail\":\"low\"}", "file_id" },
        { "{\"type\":\"input_image\",\"file_id\":\"f1\",\"image_url\":null}", "file_id" },
        { "{\"type\":\"file\",\"file\":{\"file_id\":\"f1\",\"filename\":\"a\"}}", "file.file_id" },
        { "{\"type\":\"image_file\",\"image_file\":{\"file_id\":\"f1\"}}", "image_file.file_id" },
    };
    static const struct {
        const char *part, *code, *param;
    } bad[] = {
        { "{\"type\":\"input_image\",\"file_id\":5}", "invalid_type", "file_id" },
        { "{\"type\":\"input_image\",\"file_id\":\"f\",\"detail\":\"x\"}", "invalid_value",
          "detail" },
        { "{\"type\":\"file\"}", "missing_required_parameter", "file" },
        { "{\"type\":\"file\",\"file\":\"f1\"}", "invalid_type", "file" },
        { "{\"type\":\"file\",\"file\":{}}", "missing_required_parameter", "file.file_id" },
        { "{\"type\":\"file\",\"file\":{\"file_data\":5}}", "invalid_type", "file.file_data" },
        { "{\"type\":\"file\",\"file\":{\"file_data\":\"http://a\"}}", "invalid_image_url",
          "file.file_data" },
        { "{\"type\":\"image_file\",\"image_file\":{\"file_id\":[]}}", "invalid_type",
          "image_file.file_id" },
        { "{\"type\":\"image_file\",\"image_file\":{\"file_id\":\"f\",\"detail\":\"x\"}}",
          "invalid_value", "image_file.detail" },
    };
    char param[128], text[512], *body;
    cog_api_error err;
    cog_chat c;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        snprintf(text, sizeof(text), "[" USER("[%s," TEXT("what?") "]") "]", good[i].part);
        assert_int_equal(read_messages(&c, &body, text, &err), 0);
        assert_int_equal(c.picture.kind, COG_PICTURE_STORED);
        assert_string_equal(c.picture.url, "f1");
        snprintf(param, sizeof(param), "messages[0].content[0].%s", good[i].param);
        assert_string_equal(c.picture.param, param);
        cog_chat_fini(&c);
        cog_free(body);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "[" USER("[%s]") "]", bad[i].part);
        snprintf(param, sizeof(param), "messages[0].content[0].%s", bad[i].param);
        expect_code(text, bad[i].code, param);
    }
    expect_code("[" USER("[" IMAGE(PNG) ",{\"type\":\"input_image\",\"file_id\":\"f\"}]") "]",
                "too_many_images", "messages[0].content[1].file_id");
}

static void several_images(void **state)
{
    const char *messages = "[" USER("[" IMAGE(PNG) "]") "," ASSISTANT("\"b\"") "," USER(
        "[" TEXT("c") "," IMAGE("data:image/png;base64,BBBB") "]") "]";
    cog_chat c;
    cog_api_error err;
    char *body;

    expect_code(messages, "too_many_images", "messages[2].content[1].image_url.url");
    options.image_policy_last = true;
    assert_int_equal(read_messages(&c, &body, messages, &err), 0);
    options.image_policy_last = false;
    assert_memory_equal(c.picture.base64, "BBBB", 4);
    cog_chat_fini(&c);
    cog_free(body);
}

/* Long pictures are lifted out of the JSON; a long text that looks like one stays text. */
static void lifted(void **state)
{
    char *payload = cog_alloc(1, 8001), *messages, *body;
    cog_chat c;
    cog_api_error err;

    memset(payload, 'A', 8000);
    messages =
        cog_sprintf("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"data:%s\"},"
                    "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image\\/png;base64,"
                    "%s\"}}]}]",
                    payload, payload);
    assert_int_equal(read_messages(&c, &body, messages, &err), 0);
    assert_int_equal(c.scan.n_pieces, 2);
    assert_int_equal(c.picture.len, 8000);
    assert_memory_equal(c.picture.base64, payload, 8000);
    assert_int_equal(c.turns[0].query.len, 8005);
    assert_memory_equal(c.turns[0].query.data, "data:AAAA", 9);
    cog_chat_fini(&c);
    cog_free(body);
    cog_free(messages);
    cog_free(payload);
}

/* A client cannot name a piece of its own. */
static void forged_piece(void **state)
{
    expect_turns("[" USER("\"0123456789abcdef:0\"") "]", "0123456789abcdef:0");
    expect_turns("[" USER("\"0123456789abcdef:-1\"") "]", "0123456789abcdef:-1");
}

static void picture_bytes(void **state)
{
    static const struct {
        const char *base64;
        bool is_bare;
        size_t max;
        cog_api_code code;
    } cases[] = {
        { "Zm9vYmFy", false, 6, COG_API_NONE },
        { "Zm9vYmFy", true, 100, COG_API_NONE },
        { "", false, 6, COG_API_IMAGE_EMPTY },
        { "Zm9v YmFy", false, 100, COG_API_IMAGE_BASE64 },
        { "Zm9v\\nYmFy", false, 100, COG_API_IMAGE_BASE64 },
        { "photo.png", true, 100, COG_API_IMAGE_URL },
        { "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFy", false, 6, COG_API_IMAGE_FILE_SIZE },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_chat_picture p = { .base64 = cases[i].base64,
                               .len = strlen(cases[i].base64),
                               .is_bare = cases[i].is_bare,
                               .param = "at" };
        cog_api_error err = { 0 };
        uint8_t *bytes = NULL;
        size_t room, len = 0;
        int rc = cog_chat_picture_room(&room, &p, cases[i].max, &err);

        if (rc == 0) {
            bytes = cog_alloc(room, 1);
            rc = cog_chat_picture_decode(&p, bytes, &len, &err);
        }
        assert_int_equal(err.code, cases[i].code);
        assert_int_equal(rc == 0, cases[i].code == COG_API_NONE);
        if (rc == 0) {
            assert_int_equal(len, 6);
            assert_memory_equal(bytes, "foobar", 6);
        } else {
            assert_string_equal(err.param, "at");
        }
        cog_free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joining),           cmocka_unit_test(system_text),
        cmocka_unit_test(broken_orders),     cmocka_unit_test(shapes),
        cmocka_unit_test(too_many_messages), cmocka_unit_test(image_parts),
        cmocka_unit_test(bad_image_parts),   cmocka_unit_test(stored_images),
        cmocka_unit_test(several_images),    cmocka_unit_test(lifted),
        cmocka_unit_test(forged_piece),      cmocka_unit_test(picture_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
