/* The file of keys: what is read, and that nothing of a bad one is shown. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "server/key_file.h"

#include <stdio.h>
#include <string.h>

static int parse(cog_key_entry **out, int *n, const char *text, cog_err *err)
{
    *out = NULL;
    *n = 0;
    return cog_key_file_parse(out, n, text, strlen(text), err);
}

static void expect_key(const cog_key_entry *e, const char *key, int requests, int tokens,
                       int concurrent)
{
    cog_sha256 digest = cog_sha256_of(&(cog_span){ key, strlen(key) }, 1);

    assert_memory_equal(&e->digest, &digest, sizeof(digest));
    assert_int_equal(e->requests, requests);
    assert_int_equal(e->tokens, tokens);
    assert_int_equal(e->concurrent, concurrent);
}

static void keys_and_their_limits(void **state)
{
    cog_key_entry *e;
    cog_err err;
    int n;

    assert_int_equal(parse(&e, &n,
                           "# rpm=1\n\n  sk-one  \r\n"
                           "sk-two rpm=60 tpm=100000 concurrent=4 # for tests, x=y\n"
                           "\t sk-three\tconcurrent=0 rpm=1000000000\nsk=four",
                           &err),
                     0);
    assert_int_equal(n, 4);
    expect_key(&e[0], "sk-one", -1, -1, -1);
    expect_key(&e[1], "sk-two", 60, 100000, 4);
    expect_key(&e[2], "sk-three", 1000000000, -1, 0);
    expect_key(&e[3], "sk=four", -1, -1, -1);
    cog_free(e);
}

static void bad_lines(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "", "holds no key" },
        { "\n# secret\n \n", "holds no key" },
        { "a\nsecret secret2\n", "line 2" },
        { "secret rpm=\n", "line 1" },
        { "secret rpm=-1", "line 1" },
        { "secret rpm=1x", "line 1" },
        { "secret rpm=1000000001", "line 1" },
        { "secret rpm=99999999999999999999", "line 1" },
        { "secret rps=1", "line 1" },
        { "a\nb\nsecret\x01", "line 3" },
        { "sec\xc3\xa9ret", "line 1" },
        { "secret\na\nsecret rpm=5", "line 3" },
    };
    cog_key_entry *e;
    cog_err err;
    int n;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse(&e, &n, cases[i].text, &err), COG_EFORMAT);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].text, err.text);
        assert_null(strstr(err.text, "secret"));
    }
    assert_int_equal(cog_key_file_parse(&e, &n, "a\0b\n", 4, &err), COG_EFORMAT);
}

static void too_much(void **state)
{
    cog_buf text = { 0 };
    cog_key_entry *e;
    cog_err err;
    int n;

    for (int i = 0; i < 4096; i++)
        cog_buf_puts(&text, "a");
    assert_int_equal(parse(&e, &n, text.data, &err), 0);
    cog_free(e);
    cog_buf_puts(&text, "a");
    assert_int_equal(parse(&e, &n, text.data, &err), COG_EFORMAT);
    cog_buf_clear(&text);
    for (int i = 0; i < 10001; i++)
        cog_buf_printf(&text, "k%d\n", i);
    assert_int_equal(parse(&e, &n, text.data, &err), COG_ELIMIT);
    text.data[text.len - strlen("k10000\n")] = '\0';
    assert_int_equal(parse(&e, &n, text.data, &err), 0);
    assert_int_equal(n, 10000);
    cog_free(e);
    cog_buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_and_their_limits),
        cmocka_unit_test(bad_lines),
        cmocka_unit_test(too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
