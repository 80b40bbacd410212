/* Pages of other origins. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "server/cors.h"
#include "tests/unit/server_fixture.h"

#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------ pure */

static void origins_of_the_configuration(void **state)
{
    static const char *const good[] = { "*",
                                        "http://localhost:3000",
                                        "https://a-b.example.com",
                                        "http://127.0.0.1",
                                        "http://[::1]:80",
                                        "chrome-extension://abc" };
    static const char *const bad[] = { "",           "**",          "example.com", "http://",
                                       "http://a/",  "https://a b", "http://a/b",  "http://A",
                                       "http://a,b", "null",        "://a",        "http:/a" };
    cog_err err;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (cog_cors_check(good[i], &err) < 0)
            fail_msg("%s", err.text);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (cog_cors_check(bad[i], &err) == 0)
            fail_msg("%s", bad[i]);
    }
}

static void fields_that_are_allowed(void **state)
{
    static const struct {
        const char *asked, *allowed;
    } cases[] = {
        { "", "" },
        { "authorization", "authorization" },
        { "Authorization,Content-Type", "Authorization, Content-Type" },
        { "x-stainless-os, cookie , openai-organization", "x-stainless-os, openai-organization" },
        { "x-request-id,traceparent,tracestate", "x-request-id, traceparent" },
        { "openai-,x-stainless-", "" },
        { "authorization2,xauthorization", "" },
        { "openai-a:b,openai-a b", "openai-a" },
        { ",, ,\t,content-type,", "content-type" },
        { "content-type;x", "" },
    };
    cog_buf out = { 0 }, many = { 0 };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_buf_clear(&out);
        cog_cors_add_fields(&out, cases[i].asked);
        if (strcmp(cog_buf_text(&out), cases[i].allowed) != 0)
            fail_msg("%s: %s", cases[i].asked, out.data);
    }
    for (int i = 0; i < 1000; i++)
        cog_buf_printf(&many, "openai-%d,", i);
    cog_buf_clear(&out);
    cog_cors_add_fields(&out, many.data);
    assert_true(out.len > 400 && out.len < 600);
    cog_buf_fini(&many);
    cog_buf_fini(&out);
}

/* ------------------------------------------------------------------ over HTTP */

static const char *const listed[] = { "http://localhost:3000", "https://app.example.com" };

static int create(void **state)
{
    fixture *f = fixture_new();

    f->cfg.cors_origins = listed;
    f->cfg.n_cors_origins = 2;
    *state = f;
    return 0;
}

static http_response send(fixture *f, const char *line, const char *fields, const char *body)
{
    http_client c = client_open(f->address);
    char *raw = cog_sprintf("%s HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/json\r\n"
                            "Content-Length: %zu\r\n\r\n%s",
                            line, fields, strlen(body), body);
    http_response r;

    client_puts(&c, raw);
    r = client_read(&c, false);
    cog_free(raw);
    client_close(&c);
    return r;
}

static void expect_header(const http_response *r, const char *name, const char *value)
{
    const char *got = response_header(r, name);

    if (value ? !got || strcmp(got, value) != 0 : got != NULL)
        fail_msg("%s: %s, expected %s", name, got ? got : "absent", value ? value : "none");
}

#define ORIGIN(o) "Origin: " o "\r\n"
#define ASKS(m)   "Access-Control-Request-Method: " m "\r\n"

static void preflights(void **state)
{
    static const char *const targets[] = { "/v1/chat/completions", "/v1/models", "/nowhere", "*" };
    fixture *f = *state;

    fixture_keys(f, "k\n"); /* a preflight has none */
    fixture_start(f);
    for (size_t i = 0; i < 4; i++) {
        char *line = cog_sprintf("OPTIONS %s", targets[i]);
        http_response r =
            send(f, line,
                 ORIGIN("https://app.example.com")
                     ASKS("POST") "Access-Control-Request-Headers: authorization,content-type,"
                                  "x-other\r\n",
                 "");

        assert_int_equal(r.status, 204);
        assert_int_equal(r.body.len, 0);
        expect_header(&r, "Access-Control-Allow-Origin", "https://app.example.com");
        expect_header(&r, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
        expect_header(&r, "Access-Control-Allow-Headers", "authorization, content-type");
        expect_header(&r, "Access-Control-Max-Age", "600");
        expect_header(&r, "Access-Control-Allow-Credentials", NULL);
        expect_header(&r, "Vary", "Origin");
        expect_header(&r, "Content-Type", NULL);
        assert_non_null(response_header(&r, "x-request-id"));
        response_fini(&r);
        cog_free(line);
    }
}

/* They are as any OPTIONS was, and say nothing of origins. */
static void no_preflights(void **state)
{
    static const struct {
        const char *line, *fields;
        int status;
    } cases[] = {
        { "OPTIONS /v1/models", ORIGIN("https://other.example.com") ASKS("GET"), 405 },
        { "OPTIONS /v1/models", ORIGIN("null") ASKS("GET"), 405 },
        { "OPTIONS /v1/models", ORIGIN("https://app.example.com/") ASKS("GET"), 405 },
        { "OPTIONS /v1/models",
          ORIGIN("https://app.example.com") ORIGIN("http://localhost:3000") ASKS("GET"), 405 },
        { "OPTIONS /v1/models", ASKS("GET"), 405 },
        { "GET /v1/models", ORIGIN("https://other.example.com") ASKS("GET"), 200 },
        { "GET preflight", "", 404 },
    };
    fixture *f = *state;

    fixture_start(f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        http_response r = send(f, cases[i].line, cases[i].fields, "");

        if (r.status != cases[i].status)
            fail_msg("%s: %d", cases[i].fields, r.status);
        expect_header(&r, "Access-Control-Allow-Origin", NULL);
        expect_header(&r, "Access-Control-Allow-Methods", NULL);
        expect_header(&r, "Vary", "Origin");
        response_fini(&r);
    }
}

/* Answers, streams and refusals can be read. */
static void answers(void **state)
{
    fixture *f = *state;
    char *whole = chat_body("x", ""), *stream = chat_body("x", ",\"stream\":true");
    const char *const bodies[] = { whole, stream, "{}" };
    static const int status[] = { 200, 200, 400 };
    http_response r;

    fixture_start(f);
    for (size_t i = 0; i < 3; i++) {
        r = send(f, "POST /v1/chat/completions", ORIGIN("http://localhost:3000"), bodies[i]);

        assert_int_equal(r.status, status[i]);
        expect_header(&r, "Access-Control-Allow-Origin", "http://localhost:3000");
        expect_header(&r, "Access-Control-Expose-Headers", cog_cors_exposed);
        expect_header(&r, "Access-Control-Allow-Credentials", NULL);
        expect_header(&r, "Vary", "Origin");
        response_fini(&r);
    }
    r = send(f, "OPTIONS /v1/models", ORIGIN("http://localhost:3000"), ""); /* asks for nothing */
    assert_int_equal(r.status, 405);
    expect_header(&r, "Access-Control-Allow-Methods", NULL);
    response_fini(&r);
    cog_free(whole);
    cog_free(stream);
}

static void every_origin(void **state)
{
    static const char *const all[] = { "*" };
    fixture *f = *state;
    http_response r;

    f->cfg.cors_origins = all;
    f->cfg.n_cors_origins = 1;
    fixture_start(f);
    r = send(f, "OPTIONS /v1/models", ORIGIN("https://any.example.com") ASKS("GET"), "");
    assert_int_equal(r.status, 204);
    expect_header(&r, "Access-Control-Allow-Origin", "https://any.example.com");
    expect_header(&r, "Access-Control-Allow-Headers", NULL);
    response_fini(&r);
}

static void off_by_default(void **state)
{
    fixture *f = *state;
    http_response r;

    f->cfg.n_cors_origins = 0;
    fixture_start(f);
    r = send(f, "OPTIONS /v1/models", ORIGIN("http://localhost:3000") ASKS("GET"), "");
    assert_int_equal(r.status, 405);
    expect_header(&r, "Vary", NULL);
    response_fini(&r);
    r = send(f, "GET /v1/models", ORIGIN("http://localhost:3000"), "");
    assert_int_equal(r.status, 200);
    expect_header(&r, "Access-Control-Allow-Origin", NULL);
    expect_header(&r, "Vary", NULL);
    response_fini(&r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, create, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(origins_of_the_configuration),
        cmocka_unit_test(fields_that_are_allowed),
        TEST(preflights),
        TEST(no_preflights),
        TEST(answers),
        TEST(every_origin),
        TEST(off_by_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
