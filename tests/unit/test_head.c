#include "tests/unit/unit.h"

#include "server/head.h"

#include <stdio.h>
#include <string.h>

/* "Name: value" lines, the last argument NULL. */
static cog_head head_of(const char *const *fields)
{
    cog_head h = { .method = "POST", .version = "HTTP/1.1" };

    for (; *fields; fields++) {
        const char *colon = strchr(*fields, ':');
        cog_head_add(&h, *fields, (size_t)(colon - *fields), colon + 2, strlen(colon + 2));
    }
    return h;
}

static void framing(void **state)
{
    static const struct {
        const char *fields[4];
        cog_api_code code;
    } cases[] = {
        { { "Host: x" }, COG_API_NONE },
        { { "Host: x", "Content-Length: 5" }, COG_API_NONE },
        { { "HOST: x", "TRANSFER-ENCODING: Chunked" }, COG_API_NONE },
        { { "Content-Length: 5" }, COG_API_BAD_REQUEST },
        { { "Host: x", "host: x" }, COG_API_BAD_REQUEST },
        { { "Host: x", "Content-Length: 5", "content-length: 5" }, COG_API_BAD_REQUEST },
        { { "Host: x", "Content-Length: 5", "Transfer-Encoding: chunked" }, COG_API_BAD_REQUEST },
        { { "Host: x", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked" },
          COG_API_BAD_REQUEST },
        { { "Host: x", "Transfer-Encoding: xchunked" }, COG_API_BAD_REQUEST },
        { { "Host: x", "Transfer-Encoding: gzip, chunked" }, COG_API_BAD_REQUEST },
        { { "Host: x", "Transfer-Encoding : chunked" }, COG_API_BAD_REQUEST },
        { { "Host: x", "A\x7f: b" }, COG_API_BAD_REQUEST },
        { { "Host: x", "A: b\rc" }, COG_API_BAD_REQUEST },
        { { "Host: x", "A: b\nc" }, COG_API_BAD_REQUEST },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *fields[5] = { 0 };
        cog_api_error err = { 0 };
        cog_head h;

        memcpy(fields, cases[i].fields, sizeof(cases[i].fields));
        h = head_of(fields);
        cog_head_check(&h, "/x", &err);
        if (err.code != cases[i].code)
            fail_msg("case %zu: %s", i, err.message);
    }
}

static void what_is_only_noted(void **state)
{
    static const struct {
        const char *value;
        int retries;
    } counts[] = { { "0", 0 },   { "2", 2 },          { "12", 12 },         { "", 0 },
                   { "-1", 0 },  { "1.5", 0 },        { "99999999999", 0 }, { "1 ", 0 },
                   { "two", 0 }, { "999999", 999999 } };
    cog_head h = head_of(
        (const char *const[]){ "TraceParent: a", "X-Gateway-Inference-Objectives: b",
                               "x-gateway-inference-fairness-id: c", "traceparent: d", NULL });

    assert_int_equal(h.n_traceparent, 2);
    assert_string_equal(h.traceparent, "d");
    assert_string_equal(h.objective, "b");
    assert_string_equal(h.fairness, "c");
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        char field[64];

        snprintf(field, sizeof(field), "x-stainless-retry-count: %s", counts[i].value);
        h = head_of((const char *const[]){ field, NULL });
        assert_int_equal(h.n_retries, counts[i].retries);
    }
}

static void nul_and_targets(void **state)
{
    cog_head h = head_of((const char *const[]){ "Host: x", NULL });
    cog_api_error err = { 0 };
    char target[COG_HEAD_MAX_TARGET + 2];

    assert_int_equal(cog_head_check(&h, "/a%20b%0", &err), 0);
    assert_true(cog_head_check(&h, "/a%00", &err) < 0);
    memset(target, 'a', sizeof(target));
    target[COG_HEAD_MAX_TARGET] = '\0';
    assert_int_equal(cog_head_check(&h, target, &err), 0);
    target[COG_HEAD_MAX_TARGET] = 'a';
    target[COG_HEAD_MAX_TARGET + 1] = '\0';
    assert_true(cog_head_check(&h, target, &err) < 0);
    assert_int_equal(err.code, COG_API_HEADERS_TOO_LARGE);
    cog_head_add(&h, "A", 1, "b\0c", 3);
    assert_true(cog_head_check(&h, "/", &err) < 0);
    assert_int_equal(err.code, COG_API_BAD_REQUEST);
}

static void sizes(void **state)
{
    cog_head h = head_of((const char *const[]){ "Host: x", NULL });
    cog_api_error err = { 0 };

    h.bytes = COG_HEAD_MAX_BYTES;
    assert_int_equal(cog_head_check(&h, "/", &err), 0);
    h.bytes++;
    assert_true(cog_head_check(&h, "/", &err) < 0);
    h.bytes = 0;
    for (int i = 1; i < COG_HEAD_MAX_FIELDS; i++)
        cog_head_add(&h, "A", 1, "b", 1);
    assert_int_equal(cog_head_check(&h, "/", &err), 0);
    cog_head_add(&h, "A", 1, "b", 1);
    assert_true(cog_head_check(&h, "/", &err) < 0);
    assert_int_equal(err.code, COG_API_HEADERS_TOO_LARGE);
}

static void old_version_needs_no_host(void **state)
{
    cog_head h = { .method = "GET", .version = "HTTP/1.0" };
    cog_api_error err = { 0 };

    assert_int_equal(cog_head_check(&h, "/", &err), 0);
}

static void json_types(void **state)
{
    static const struct {
        const char *type;
        bool is_good;
    } cases[] = {
        { "application/json", true },
        { "application/json;charset=utf-8", true },
        { " application/JSON ; a=b; charset=\"utf8\"", true },
        { "application/problem+json", true },
        { "application/json; charset=latin1", false },
        { "application/json; charset=", false },
        { "application/json; x=1; charset=utf-16", false },
        { "application/jsonx", false },
        { "text/plain", false },
        { "json", false },
        { "+json", false },
        { "", false },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_head h = { .content_type = cases[i].type, .n_content_length = 1 };
        cog_api_error err = { 0 };

        if ((cog_head_check_json(&h, &err) == 0) != cases[i].is_good)
            fail_msg("%s", cases[i].type);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(framing),
        cmocka_unit_test(what_is_only_noted),
        cmocka_unit_test(nul_and_targets),
        cmocka_unit_test(sizes),
        cmocka_unit_test(old_version_needs_no_host),
        cmocka_unit_test(json_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
