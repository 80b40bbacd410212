#include "tests/unit/unit.h"

#include "base/buf.h"
#include "base/utf8.h"
#include "proto/api_error.h"
#include "proto/json_write.h"
#include "proto/sse.h"

#include <jansson.h>
#include <string.h>

static void bodies_have_four_members(void **state)
{
    for (int code = COG_API_BAD_REQUEST; code < COG_API_N_CODES; code++) {
        cog_api_error e;
        cog_buf out = { 0 };
        json_t *root, *error;
        int status = cog_api_error_status((cog_api_code)code);

        cog_api_error_set(&e, (cog_api_code)code, code % 2 ? "a.b[0]" : NULL, "say \"%s\"\n", "x");
        cog_api_error_write(&out, &e);
        root = json_loads(out.data, 0, NULL);
        error = json_object_get(root, "error");
        assert_int_equal(json_object_size(root), 1);
        assert_int_equal(json_object_size(error), 4);
        assert_string_equal(json_string_value(json_object_get(error, "message")), "say \"x\"\n");
        assert_string_equal(json_string_value(json_object_get(error, "code")),
                            cog_api_error_name((cog_api_code)code));
        assert_true(json_is_string(json_object_get(error, "type")));
        if (code % 2)
            assert_string_equal(json_string_value(json_object_get(error, "param")), "a.b[0]");
        else
            assert_true(json_is_null(json_object_get(error, "param")));
        assert_true(status >= 400 && status <= 504);
        assert_int_not_equal(status, 409);
        assert_int_not_equal(status, 422);
        assert_int_not_equal(status, 501);
        if (status == 401 || status >= 500)
            assert_null(strstr(out.data, "invalid_request_error"));
        json_decref(root);
        cog_buf_fini(&out);
    }
}

static void long_text_is_cut_on_a_character(void **state)
{
    cog_api_error e;
    char text[4001];

    for (int i = 0; i < 2000; i++)
        memcpy(text + 2 * i, "\xc3\xbc", 2);
    text[4000] = '\0';
    for (int shift = 0; shift < 2; shift++) {
        cog_api_error_set(&e, COG_API_INVALID_VALUE, text, "%s%s", shift ? "x" : "", text);
        assert_true(cog_utf8_valid(e.message, strlen(e.message)));
        assert_true(cog_utf8_valid(e.param, strlen(e.param)));
        assert_true(strlen(e.message) > 600);
    }
}

static void quotes(void **state)
{
    char dst[COG_API_QUOTE], text[300];

    assert_string_equal(cog_api_quote(dst, "abc", 3), "'abc'");
    assert_string_equal(cog_api_quote(dst, "", 0), "''");
    assert_string_equal(cog_api_quote(dst, "a\nb\x7f", 4), "'a\\x0ab\\x7f'");
    memset(text, 'x', sizeof(text));
    cog_api_quote(dst, text, sizeof(text));
    assert_int_equal(strlen(dst), 64 + 5);
    assert_string_equal(dst + 65, "...'");
    memset(text, '\x01', sizeof(text));
    cog_api_quote(dst, text, sizeof(text));
    assert_true(strlen(dst) < COG_API_QUOTE);
    for (size_t len = 0; len < 100; len++) { /* never half a character */
        for (size_t i = 0; i < len; i++)
            text[i] = "\xe2\x82\xac"[i % 3];
        cog_api_quote(dst, text, len / 3 * 3);
        assert_true(cog_utf8_valid(dst, strlen(dst)));
    }
}

static void strings_always_parse(void **state)
{
    for (int i = 0; i < 256; i++) {
        char bytes[3] = { (char)i, (char)(255 - i), 'x' };
        cog_buf out = { 0 };
        json_t *v;

        cog_buf_puts(&out, "[\"");
        cog_json_write_text(&out, bytes, 3);
        cog_buf_puts(&out, "\"]");
        v = json_loadb(out.data, out.len, JSON_ALLOW_NUL, NULL);
        assert_non_null(v);
        if (i < 128 && i != 0 && cog_utf8_valid(bytes, 1))
            assert_int_equal(json_string_value(json_array_get(v, 0))[0], i);
        json_decref(v);
        cog_buf_fini(&out);
    }
}

static void events(void **state)
{
    cog_buf out = { 0 };

    cog_sse_event(&out, "{}", 2);
    cog_sse_ping(&out);
    cog_sse_done(&out);
    assert_string_equal(out.data, "data: {}\n\n: ping\n\ndata: [DONE]\n\n");
    cog_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_have_four_members),
        cmocka_unit_test(long_text_is_cut_on_a_character),
        cmocka_unit_test(quotes),
        cmocka_unit_test(strings_always_parse),
        cmocka_unit_test(events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
