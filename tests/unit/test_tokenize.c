#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "proto/json_write.h"
#include "proto/tokenize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char nonce[] = "0123456789abcdef0123456789abcdef";
enum { VOCAB = 1000 };

static void bad_texts(void **state)
{
    static const struct {
        const char *body, *code, *param;
    } cases[] = {
        { "{}", "missing_required_parameter", "prompt" },
        { "{\"prompt\":null}", "missing_required_parameter", "prompt" },
        { "{\"prompt\":1}", "invalid_type", "prompt" },
        { "{\"prompt\":[1,2]}", "invalid_type", "prompt" },
        { "{\"content\":{}}", "invalid_type", "content" },
        { "{\"messages\":\"x\"}", "invalid_type", "messages" },
        { "{\"prompt\":\"a\",\"content\":\"b\"}", "invalid_value", "prompt" },
        { "{\"prompt\":\"a\",\"messages\":[]}", "invalid_value", "prompt" },
        { "{\"prompt\":\"a\",\"add_special_tokens\":1}", "invalid_type", "add_special_tokens" },
        { "{\"prompt\":\"a\",\"with_pieces\":\"yes\"}", "invalid_type", "with_pieces" },
        { "{\"prompt\":\"a\",\"model\":1}", "invalid_type", "model" },
        { "{\"prompt\":\"a\",\"prompt\":\"b\"}", "invalid_json", "" },
        { "{\"prompt\":\"\\u0000\"}", "invalid_json", "" },
        { "[]", "invalid_json", "" },
        { "", "invalid_json", "" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_api_error err = { 0 };
        cog_tokenize t;
        int rc = cog_tokenize_init(&t, cases[i].body, strlen(cases[i].body), nonce, false, &err);

        if (rc == 0 || strcmp(cog_api_error_name(err.code), cases[i].code) != 0 ||
            strcmp(err.param, cases[i].param) != 0)
            fail_msg("%s: %s %s", cases[i].body, cog_api_error_name(err.code), err.param);
        cog_tokenize_fini(&t);
    }
}

static cog_tokenize read_text(const char *body)
{
    cog_api_error err = { 0 };
    cog_tokenize t;

    assert_int_equal(cog_tokenize_init(&t, body, strlen(body), nonce, false, &err), 0);
    return t;
}

static void forms_and_defaults(void **state)
{
    cog_tokenize t = read_text("{\"prompt\":\"a b\",\"model\":\"m\"}");

    assert_string_equal(t.text, "a b");
    assert_int_equal(t.text_len, 3);
    assert_string_equal(t.model, "m");
    assert_true(t.add_special && !t.token_strings && !t.pieces && !t.has_messages);
    cog_tokenize_fini(&t);
    t = read_text("{\"prompt\":\"\",\"add_special_tokens\":false,\"return_token_strs\":true,"
                  "\"frobnicate\":1,\"parse_special\":true}");
    assert_int_equal(t.text_len, 0);
    assert_true(!t.add_special && t.token_strings);
    assert_string_equal(t.ignored.data, "frobnicate");
    cog_tokenize_fini(&t);
    t = read_text("{\"content\":\"x\",\"with_pieces\":true}");
    assert_true(!t.add_special && t.pieces);
    cog_tokenize_fini(&t);
    t = read_text("{\"content\":\"x\",\"add_special\":true}");
    assert_true(t.add_special);
    cog_tokenize_fini(&t);
    t = read_text("{\"messages\":[{}],\"return_token_strs\":true,\"temperature\":0}");
    assert_true(t.has_messages && t.token_strings && !t.text);
    cog_tokenize_fini(&t);
}

static void strict(void **state)
{
    static const char body[] = "{\"prompt\":\"x\",\"frobnicate\":1}";
    static const char ids[] = "{\"tokens\":[],\"frobnicate\":1}";
    cog_api_error err;
    cog_tokenize t;
    cog_detokenize d;

    assert_int_not_equal(cog_tokenize_init(&t, body, strlen(body), nonce, true, &err), 0);
    assert_int_equal(err.code, COG_API_UNKNOWN_PARAMETER);
    cog_tokenize_fini(&t);
    assert_int_not_equal(cog_detokenize_init(&d, ids, strlen(ids), nonce, VOCAB, true, &err), 0);
    assert_int_equal(err.code, COG_API_UNKNOWN_PARAMETER);
    cog_detokenize_fini(&d);
}

/* A text that looks like a picture is lifted by the scan, and limited like every other. */
static void long_texts(void **state)
{
    for (int is_data = 0; is_data < 2; is_data++) {
        for (int extra = 0; extra < 2; extra++) {
            size_t len = COG_TOKENIZE_MAX_LEN + (size_t)extra;
            char *text = cog_alloc(1, len + 1), *body;
            cog_api_error err = { 0 };
            cog_tokenize t;
            int rc;

            memset(text, 'x', len);
            if (is_data)
                memcpy(text, "data:", 5);
            body = cog_sprintf("{\"prompt\":\"%s\"}", text);
            rc = cog_tokenize_init(&t, body, strlen(body), nonce, false, &err);
            if (extra) {
                assert_int_not_equal(rc, 0);
                assert_int_equal(err.code, COG_API_STRING_LONG);
                assert_string_equal(err.param, "prompt");
            } else {
                assert_int_equal(rc, 0);
                assert_int_equal(t.text_len, len);
                assert_memory_equal(t.text, text, len);
            }
            cog_tokenize_fini(&t);
            cog_free(body);
            cog_free(text);
        }
    }
}

static void ids(void **state)
{
    static const struct {
        const char *body, *code, *param;
    } cases[] = {
        { "{\"tokens\":[]}", NULL, NULL },
        { "{\"tokens\":[0,999,5.0,5e2]}", NULL, NULL },
        { "{}", "missing_required_parameter", "tokens" },
        { "{\"tokens\":null}", "missing_required_parameter", "tokens" },
        { "{\"tokens\":\"x\"}", "invalid_type", "tokens" },
        { "{\"tokens\":[\"1\"]}", "invalid_type", "tokens[0]" },
        { "{\"tokens\":[1,true]}", "invalid_type", "tokens[1]" },
        { "{\"tokens\":[1,null]}", "invalid_type", "tokens[1]" },
        { "{\"tokens\":[1,2,1.5]}", "invalid_type", "tokens[2]" },
        { "{\"tokens\":[[1]]}", "invalid_type", "tokens[0]" },
        { "{\"tokens\":[-1]}", "invalid_value", "tokens[0]" },
        { "{\"tokens\":[1,1000]}", "invalid_value", "tokens[1]" },
        { "{\"tokens\":[2147483647]}", "invalid_value", "tokens[0]" },
        { "{\"tokens\":[2147483648]}", "invalid_value", "tokens[0]" },
        { "{\"tokens\":[4294967296]}", "invalid_value", "tokens[0]" },
        { "{\"tokens\":[9223372036854775807]}", "invalid_value", "tokens[0]" },
        { "{\"tokens\":[-9223372036854775808]}", "invalid_value", "tokens[0]" },
        { "{\"tokens\":[9223372036854775808]}", "invalid_json", "" },
        { "{\"tokens\":[1e300]}", "invalid_value", "tokens[0]" },
        { "{\"tokens\":[-1e300]}", "invalid_value", "tokens[0]" },
        { "{\"tokens\":[1e999]}", "invalid_json", "" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_api_error err = { 0 };
        cog_detokenize d;
        int rc = cog_detokenize_init(&d, cases[i].body, strlen(cases[i].body), nonce, VOCAB, false,
                                     &err);

        if (cases[i].code ? rc == 0 || strcmp(cog_api_error_name(err.code), cases[i].code) != 0 ||
                                strcmp(err.param, cases[i].param) != 0
                          : rc != 0)
            fail_msg("%s: %d %s %s", cases[i].body, rc, cog_api_error_name(err.code), err.param);
        if (i == 1) {
            assert_int_equal(d.n_tokens, 4);
            assert_memory_equal(d.tokens, ((int32_t[]){ 0, 999, 5, 500 }), 4 * sizeof(int32_t));
        }
        cog_detokenize_fini(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_texts), cmocka_unit_test(forms_and_defaults),
        cmocka_unit_test(strict),    cmocka_unit_test(long_texts),
        cmocka_unit_test(ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
