#include "tests/unit/unit.h"

#include "proto/multipart.h"

#include <stdlib.h>
#include <string.h>

static void types(void **state)
{
    assert_true(cog_multipart_is_type("multipart/form-data; boundary=x"));
    assert_true(cog_multipart_is_type("Multipart/Form-Data;boundary=x"));
    assert_true(cog_multipart_is_type("multipart/form-data"));
    assert_false(cog_multipart_is_type("multipart/form-data2"));
    assert_false(cog_multipart_is_type("multipart/mixed; boundary=x"));
    assert_false(cog_multipart_is_type("application/json"));
    assert_false(cog_multipart_is_type(NULL));
}

static void boundaries(void **state)
{
    static const struct {
        const char *type, *boundary; /* NULL: refused */
    } cases[] = {
        { "multipart/form-data; boundary=abc", "abc" },
        { "multipart/form-data;boundary=\"a b\"", "a b" },
        { "multipart/form-data; charset=utf-8; BOUNDARY=a;", "a" },
        { "multipart/form-data; boundary=----formdata-undici-012345678901", "----formdata-undici-"
                                                                            "012345678901" },
        { "multipart/form-data; boundary=\"a\\\"b\"", NULL },
        { "multipart/form-data; boundary=\"a \"", NULL },
        { "multipart/form-data; boundary=", NULL },
        { "multipart/form-data; boundary=\"\"", NULL },
        { "multipart/form-data; boundary=\"abc", NULL },
        { "multipart/form-data; boundary=a; boundary=b", NULL },
        { "multipart/form-data; boundary", NULL },
        { "multipart/form-data; boundary=a b", NULL },
        { "multipart/form-data", NULL },
        { "multipart/form-data; boundary=a\x01", NULL },
        { "multipart/form-data; "
          "boundary=01234567890123456789012345678901234567890123456789012345678901234567890",
          NULL },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char boundary[COG_MULTIPART_MAX_BOUNDARY + 1];
        int rc = cog_multipart_boundary(boundary, cases[i].type);

        assert_int_equal(rc, cases[i].boundary ? 0 : COG_EINVAL);
        if (cases[i].boundary)
            assert_string_equal(boundary, cases[i].boundary);
    }
}

/* As the openai package of npm sends an upload. */
static const char upload[] =
    ("--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nvision\r\n"
     "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".jpg\"\r\n"
     "Content-Type: application/octet-stream\r\n\r\n\xff\xd8\r\n--xy\r\n-\0z\r\n"
     "--xyz\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n"
     "--xyz--\r\n");

static void parts(void **state)
{
    static const char file[] = "\xff\xd8\r\n--xy\r\n-\0z";
    cog_multipart m;
    cog_err err;

    assert_int_equal(cog_multipart_parse(&m, upload, sizeof(upload) - 1, "xyz", &err), 0);
    assert_int_equal(m.n, 3);
    assert_string_equal(m.part[0].name, "purpose");
    assert_false(m.part[0].has_filename);
    assert_int_equal(m.part[0].len, 6);
    assert_memory_equal(m.part[0].data, "vision", 6);
    assert_string_equal(m.part[1].name, "file");
    assert_true(m.part[1].has_filename);
    assert_string_equal(m.part[1].filename, "a \"b\".jpg");
    assert_int_equal(m.part[1].len, sizeof(file) - 1);
    assert_memory_equal(m.part[1].data, file, sizeof(file) - 1);
    assert_string_equal(m.part[2].name, "empty");
    assert_int_equal(m.part[2].len, 0);
}

/* Nothing behind the end is read, and no beginning is the whole. */
static void every_prefix(void **state)
{
    for (size_t len = 0; len < sizeof(upload) - 3; len++) {
        char *body = len ? malloc(len) : NULL;
        cog_multipart m;
        cog_err err;

        if (len)
            memcpy(body, upload, len);
        assert_true(cog_multipart_parse(&m, body ? body : "", len, "xyz", &err) < 0);
        free(body);
    }
}

static void refused(void **state)
{
#define HEAD "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n"
    static const char *const bodies[] = {
        "",
        "--x",
        "--y--\r\n",
        "before\r\n--x--\r\n",
        "--x--\r\nafter",
        "--x--\r\n\r\n",
        "--xz\r\n\r\n\r\n--x--\r\n",
        HEAD "\r\nb\r\n--x",
        HEAD "\r\nb\r\n--xx",
        HEAD "\r\nb--x--",
        "--x\r\n\r\nb\r\n--x--\r\n",
        "--x\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\nb\r\n--x--\r\n",
        "--x\r\nContent-Disposition: form-data\r\n\r\nb\r\n--x--\r\n",
        "--x\r\nContent-Disposition: form-data; name=\"\"\r\n\r\nb\r\n--x--\r\n",
        "--x\r\nContent-Disposition: form-data; name=\"a\"; name=\"b\"\r\n\r\nb\r\n--x--\r\n",
        "--x\r\nContent-Disposition: form-data; name=\"a\n\"\r\n\r\nb\r\n--x--\r\n",
        "--x\r\nContent-Disposition: form-data; name=\"\xff\"\r\n\r\nb\r\n--x--\r\n",
        "--x\r\nContent-Disposition: form-data; name=\"a\r\n\r\nb\r\n--x--\r\n",
        "--x\r\nContent-Disposition: form-data; name=a name=b\r\n\r\nb\r\n--x--\r\n",
        HEAD "Content-Disposition: form-data; name=\"b\"\r\n\r\nb\r\n--x--\r\n",
        HEAD "Content-Transfer-Encoding: base64\r\n\r\nYg==\r\n--x--\r\n",
        HEAD "no field\r\n\r\nb\r\n--x--\r\n",
        HEAD " folded: x\r\n\r\nb\r\n--x--\r\n",
        "--x\nContent-Disposition: form-data; name=\"a\"\n\nb\n--x--\n",
    };
    cog_multipart m;
    cog_err err;

    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        assert_int_equal(cog_multipart_parse(&m, bodies[i], strlen(bodies[i]), "x", &err),
                         COG_EINVAL);
#undef HEAD
}

static void add(char *body, const char *text, int times)
{
    for (char *at = body + strlen(body); times > 0; times--, at += strlen(text))
        strcpy(at, text);
}

static void limits(void **state)
{
    static const char part[] = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n";
    char body[8192] = "";
    cog_multipart m;
    cog_err err;

    add(body, part, COG_MULTIPART_MAX_PARTS);
    add(body, "--x--", 1);
    assert_int_equal(cog_multipart_parse(&m, body, strlen(body), "x", &err), 0);
    assert_int_equal(m.n, COG_MULTIPART_MAX_PARTS);
    body[strlen(body) - 5] = '\0';
    add(body, part, 1);
    add(body, "--x--", 1);
    assert_int_equal(cog_multipart_parse(&m, body, strlen(body), "x", &err), COG_ELIMIT);

    strcpy(body, "--x\r\nContent-Disposition: form-data; name=a\r\nX: ");
    add(body, "y", COG_MULTIPART_MAX_HEADERS);
    add(body, "\r\n\r\nb\r\n--x--\r\n", 1);
    assert_true(cog_multipart_parse(&m, body, strlen(body), "x", &err) < 0);
    assert_non_null(strstr(err.text, "4096 bytes"));

    strcpy(body, "--x\r\nContent-Disposition: form-data; name=a; filename=\"");
    add(body, "y", COG_MULTIPART_MAX_FILENAME);
    add(body, "\"\r\n\r\nb\r\n--x--\r\n", 1);
    assert_int_equal(cog_multipart_parse(&m, body, strlen(body), "x", &err), 0);
    assert_int_equal(strlen(m.part[0].filename), COG_MULTIPART_MAX_FILENAME);
    strcpy(body, "--x\r\nContent-Disposition: form-data; name=a; filename=\"");
    add(body, "y", COG_MULTIPART_MAX_FILENAME + 1);
    add(body, "\"\r\n\r\nb\r\n--x--\r\n", 1);
    assert_int_equal(cog_multipart_parse(&m, body, strlen(body), "x", &err), COG_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types),   cmocka_unit_test(boundaries), cmocka_unit_test(parts),
        cmocka_unit_test(refused), cmocka_unit_test(limits),     cmocka_unit_test(every_prefix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
