#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/rng.h"
#include "proto/json_scan.h"

#include <stdio.h>
#include <string.h>

static const char nonce[] = "0123456789abcdef";

static char *repeat(const char *text, size_t n)
{
    size_t len = strlen(text);
    char *out = cog_alloc(n * len + 1, 1);

    for (size_t i = 0; i < n; i++)
        memcpy(out + i * len, text, len);
    return out;
}

static cog_json_scan scan(const char *body)
{
    cog_json_scan s;
    cog_api_error err = { 0 };

    assert_int_equal(cog_json_scan_init(&s, body, strlen(body), nonce, &err), 0);
    return s;
}

static void refuse(const char *body, size_t len)
{
    cog_json_scan s = { 0 };
    cog_api_error err = { 0 };

    assert_true(cog_json_scan_init(&s, body, len, nonce, &err) < 0);
    assert_int_equal(err.code, COG_API_INVALID_JSON);
    assert_null(s.skeleton.data);
}

static void short_text_is_kept(void **state)
{
    static const char *const bodies[] = { "", "{}", "{\"a\":\"data:image/png;base64,AAAA\"}",
                                          "{\"a\\\"\\\\\":[1,2,{\"b\":null}]}", "nonsense ]]" };

    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        cog_json_scan s = scan(bodies[i]);

        assert_string_equal(s.skeleton.data, bodies[i]);
        assert_int_equal(s.n_pieces, 0);
        cog_json_scan_fini(&s);
    }
}

static void long_data_is_lifted(void **state)
{
    char *payload = repeat("AbC+", 2000);
    char *body = cog_sprintf("{\"a\":\"data:image/png;base64,%s\",\"b\" : [\"DATA:x\\/y,%s\"]}",
                             payload, payload);
    cog_json_scan s = scan(body);
    const cog_json_piece *p;
    size_t len;
    char *text;

    assert_string_equal(s.skeleton.data,
                        "{\"a\":\"0123456789abcdef:0\",\"b\" : [\"0123456789abcdef:1\"]}");
    assert_int_equal(s.n_pieces, 2);
    p = cog_json_scan_find(&s, "0123456789abcdef:0");
    assert_int_equal(p->len, 22 + 8000);
    assert_memory_equal(p->data, "data:image/png;base64,AbC+", 26);
    assert_false(p->is_escaped);
    p = cog_json_scan_find(&s, "0123456789abcdef:1");
    assert_true(p->is_escaped);
    text = cog_json_piece_unescape(p, &len);
    assert_memory_equal(text, "DATA:x/y,AbC+", 13);
    assert_int_equal(len, 9 + 8000);
    cog_free(text);
    text = cog_json_piece_text(p, &len);
    assert_memory_equal(text, "DATA:x/y,AbC+", 13);
    assert_int_equal(len, strlen(text));
    cog_free(text);
    assert_null(cog_json_scan_find(&s, "0123456789abcdef:2"));
    assert_null(cog_json_scan_find(&s, "0123456789abcdef:-1"));
    assert_null(cog_json_scan_find(&s, "0123456789abcdef:0x"));
    assert_null(cog_json_scan_find(&s, "0123456789abcdef"));
    assert_null(cog_json_scan_find(&s, "data:"));
    cog_json_scan_fini(&s);
    cog_free(body);
    cog_free(payload);
}

/* A key, and a string with other escapes, stay for the parser to judge. */
static void what_is_not_lifted(void **state)
{
    char *payload = repeat("A", 5000);
    char *bodies[] = { cog_sprintf("{\"data:%s\" : 1}", payload),
                       cog_sprintf("{\"a\":\"data:%s\\n\"}", payload),
                       cog_sprintf("{\"a\":\"data:%s\\\"\"}", payload),
                       cog_sprintf("{\"a\":\"\\u0064ata:%s\"}", payload),
                       cog_sprintf("{\"a\":\"date:%s\"}", payload) };

    for (int i = 0; i < 5; i++) {
        cog_json_scan s = scan(bodies[i]);

        assert_string_equal(s.skeleton.data, bodies[i]);
        cog_json_scan_fini(&s);
        cog_free(bodies[i]);
    }
    cog_free(payload);
}

static void broken_pieces_are_no_text(void **state)
{
    char *payload = repeat("A", 5000);
    char *body = cog_sprintf("[\"data:%s\x01\"]", payload);
    cog_json_scan s = scan(body);
    size_t len;

    assert_int_equal(s.n_pieces, 1);
    assert_null(cog_json_piece_text(&s.pieces[0], &len));
    cog_json_scan_fini(&s);
    cog_free(body);
    cog_free(payload);
}

static void limits(void **state)
{
    char *deep = repeat("[", 64), *deeper = repeat("[", 65), *bomb = repeat("[{},{}],", 50000);
    char *many = repeat("1,", 199999), *too_many = repeat("1,", 200001);
    char *strings = repeat("\"\"", 200001);
    cog_json_scan s = scan(deep);

    cog_json_scan_fini(&s);
    s = scan(many);
    cog_json_scan_fini(&s);
    refuse(deeper, strlen(deeper));
    refuse(too_many, strlen(too_many));
    refuse(strings, strlen(strings));
    refuse(bomb, strlen(bomb));
    cog_free(deep);
    cog_free(deeper);
    cog_free(bomb);
    cog_free(many);
    cog_free(too_many);
    cog_free(strings);
}

/* Every cut of a body: no byte behind the end is read, and an open string is always found. */
static void every_prefix(void **state)
{
    static const char body[] = "{\"a\\\\\\\"b\":[\"c\\/\",\"\\u00e9\"]}";

    for (size_t len = 0; len <= sizeof(body) - 1; len++) {
        char *exact = cog_alloc(1, len ? len : 1);
        cog_json_scan s;
        cog_api_error err;
        bool is_open = false;

        memcpy(exact, body, len);
        for (size_t i = 0; i < len; i++) {
            if (exact[i] == '"')
                is_open = !is_open;
            else if (is_open && exact[i] == '\\')
                i++;
        }
        if (is_open)
            refuse(exact, len);
        else {
            assert_int_equal(cog_json_scan_init(&s, exact, len, nonce, &err), 0);
            cog_json_scan_fini(&s);
        }
        cog_free(exact);
    }
}

/* Escapes everywhere: twenty megabytes would take minutes if the search were quadratic. */
static void escapes_are_linear(void **state)
{
    char *text = repeat("\\/\\\"\\n", 4000000);
    char *body = cog_sprintf("{\"a\":\"data:%s\"}", text);
    cog_json_scan s = scan(body);

    assert_string_equal(s.skeleton.data, body);
    cog_json_scan_fini(&s);
    cog_free(text);
    cog_free(body);
}

/* What is lifted and put back is what was there. */
static void random_bodies(void **state)
{
    static const char *const words[] = { "{",     "}",        "[", "]",        ",", ":",
                                         "\"a\"", "\"\\\"\"", " ", "\"\\\\\"", "1", "LIFT" };
    cog_rng rng = { .key = 3 };
    char *payload = repeat("B", 5000);

    for (int round = 0; round < 300; round++) {
        cog_buf body = { 0 }, back = { 0 };
        cog_json_scan s;
        const char *p;

        cog_buf_reserve(&body, 1);
        for (int i = 0; i < 40; i++) {
            const char *w = words[cog_rng_below(&rng, sizeof(words) / sizeof(words[0]))];
            if (*w == 'L')
                cog_buf_printf(&body, "\"data:%s\"", payload);
            else
                cog_buf_puts(&body, w);
        }
        s = scan(body.data);
        p = s.skeleton.data;
        for (int i = 0; i < s.n_pieces; i++) {
            char mark[32];
            const char *at;

            snprintf(mark, sizeof(mark), "%s:%d\"", nonce, i);
            at = strstr(p, mark);
            assert_non_null(at);
            cog_buf_add(&back, p, (size_t)(at - p));
            cog_buf_add(&back, s.pieces[i].data, s.pieces[i].len);
            p = at + strlen(mark) - 1;
        }
        cog_buf_puts(&back, p);
        assert_string_equal(back.data, body.data);
        cog_json_scan_fini(&s);
        cog_buf_fini(&body);
        cog_buf_fini(&back);
    }
    cog_free(payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_text_is_kept),
        cmocka_unit_test(long_data_is_lifted),
        cmocka_unit_test(what_is_not_lifted),
        cmocka_unit_test(broken_pieces_are_no_text),
        cmocka_unit_test(limits),
        cmocka_unit_test(every_prefix),
        cmocka_unit_test(escapes_are_linear),
        cmocka_unit_test(random_bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
