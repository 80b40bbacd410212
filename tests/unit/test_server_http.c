#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/unit/server_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Sends raw bytes on a new connection and reads one response. */
static http_response ask(fixture *f, const char *raw)
{
    http_client c = client_open(f->address);
    http_response r;

    client_puts(&c, raw);
    r = client_read(&c, strncmp(raw, "HEAD", 4) == 0);
    client_close(&c);
    return r;
}

static void expect_error(http_response r, int status, const char *code)
{
    assert_int_equal(r.status, status);
    assert_true(r.is_whole);
    assert_string_equal(error_code(&r), code);
    assert_non_null(response_header(&r, "x-request-id"));
    assert_string_equal(response_header(&r, "Content-Type"), "application/json");
    assert_true(strlen(error_member(&r, "message")) > 0);
    assert_non_null(strstr(r.body.data, "\"param\":"));
    if (status >= 500 || status == 401)
        assert_null(strstr(r.body.data, "invalid_request_error"));
    response_fini(&r);
}

/* ------------------------------------------------------------------ routes */

static const char *const get_routes[] = { "/v1/models",    "/models",  "/v1/models/test",
                                          "/models/other", "/version", "/livez",
                                          "/readyz",       "/health",  "/v1/health" };

static void get_and_head(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);

    for (size_t i = 0; i < sizeof(get_routes) / sizeof(get_routes[0]); i++) {
        for (int slash = 0; slash < 2; slash++) {
            char *get = cog_sprintf("GET %s%s HTTP/1.1\r\nHost: x\r\n\r\n", get_routes[i],
                                    slash ? "/" : "");
            char *head = cog_sprintf("HEAD %s%s?a=b HTTP/1.1\r\nHost: x\r\n\r\n", get_routes[i],
                                     slash ? "/" : "");
            http_response a, b;
            char length[16];

            client_puts(&c, get);
            a = client_read(&c, false);
            client_puts(&c, head);
            b = client_read(&c, true);
            assert_int_equal(a.status, 200);
            assert_int_equal(b.status, 200);
            assert_non_null(response_header(&a, "x-request-id"));
            assert_non_null(response_header(&b, "x-request-id"));
            snprintf(length, sizeof(length), "%zu", a.body.len);
            assert_string_equal(response_header(&b, "Content-Length"), length);
            assert_int_equal(c.in.len, 0);
            response_fini(&a);
            response_fini(&b);
            cog_free(get);
            cog_free(head);
        }
    }
    client_close(&c);
}

static void wrong_routes(void **state)
{
    static const char *const unknown[] = {
        "/",         "/v1",      "/v1/nothing",   "/v1/livez",     "/Health", "/v1%2fmodels",
        "/health/x", "//health", "/v1/v1/models", "/v1/embeddings"
    };
    fixture *f = *state;
    http_response r;

    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        expect_error(client_get(f->address, unknown[i]), 404, "unknown_url");
    expect_error(client_get(f->address, "/v1/models/none"), 404, "model_not_found");
    expect_error(client_get(f->address, "/v1/models/a%20b%2Fc"), 404, "model_not_found");
    r = client_get(f->address, "/v1/chat/completions");
    assert_string_equal(response_header(&r, "Allow"), "POST");
    expect_error(r, 405, "method_not_allowed");
    r = client_post(f->address, "/v1/models", "{}");
    assert_string_equal(response_header(&r, "Allow"), "GET, HEAD");
    expect_error(r, 405, "method_not_allowed");
    expect_error(ask(f, "get /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"), 405, "method_not_allowed");
    expect_error(ask(f, "OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"), 405,
                 "method_not_allowed");
    r = ask(f, "HEAD /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 405);
    response_fini(&r);
}

static void model_list(void **state)
{
    fixture *f = *state;
    http_response r = client_get(f->address, "/v1/models");

    assert_non_null(strstr(r.body.data, "{\"id\":\"test\",\"object\":\"model\""));
    assert_non_null(strstr(r.body.data, "{\"id\":\"other\",\"object\":\"model\""));
    assert_non_null(strstr(r.body.data, "\"max_model_len\":4000"));
    assert_non_null(strstr(r.body.data, "\"input_modalities\":[\"text\",\"image\"]"));
    response_fini(&r);
}

/* ------------------------------------------------------------------ ids */

static void request_ids(void **state)
{
    fixture *f = *state;
    http_response r = ask(f, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: a.B:1_-\r\n\r\n");
    char *long_id = cog_alloc(1, 10001);
    char *raw;

    assert_string_equal(response_header(&r, "x-request-id"), "a.B:1_-");
    response_fini(&r);
    r = ask(f, "GET /none HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n");
    assert_string_equal(response_header(&r, "x-request-id"), "mine");
    response_fini(&r);
    r = ask(f, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: a b\r\n\r\n");
    assert_int_equal(strncmp(response_header(&r, "x-request-id"), "req_", 4), 0);
    response_fini(&r);
    memset(long_id, 'a', 10000);
    raw = cog_sprintf("GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\n\r\n", long_id);
    r = ask(f, raw);
    assert_int_equal(r.status, 200);
    assert_int_equal(strncmp(response_header(&r, "x-request-id"), "req_", 4), 0);
    response_fini(&r);
    cog_free(raw);
    cog_free(long_id);
}

static void request_id_of_the_body(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "x", ",\"request_id\":\"from.body\"");

    assert_string_equal(response_header(&r, "x-request-id"), "from.body");
    assert_non_null(strstr(r.body.data, "\"id\":\"chatcmpl-from.body\""));
    response_fini(&r);
    r = chat(f, "x", ",\"request_id\":\"a b\"");
    expect_error(r, 400, "invalid_value");
}

/* ------------------------------------------------------------------ keys */

static int setup_keys(void **state)
{
    fixture *f = fixture_new();

    fixture_keys(f, "first-key\nsecond-key\n");
    fixture_start(f);
    *state = f;
    return 0;
}

static http_response with_header(fixture *f, const char *path, const char *header)
{
    char *raw = cog_sprintf("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, header);
    http_response r = ask(f, raw);

    cog_free(raw);
    return r;
}

#define TWICE(text) text text

static void keys(void **state)
{
    static const char *const bad[] = { "",
                                       "Authorization: Bearer wrong\r\n",
                                       "Authorization: Bearer \r\n",
                                       "Authorization: Bearer first-ke\r\n",
                                       "Authorization: Bearer first-keyy\r\n",
                                       "Authorization: Basic first-key\r\n",
                                       "Authorization: first-key\r\n",
                                       TWICE("Authorization: Bearer first-key\r\n") };
    static const char *const good[] = { "Authorization: Bearer first-key\r\n",
                                        "authorization: bearer second-key\r\n",
                                        "Authorization: BEARER first-key\r\n" };
    static const char *const closed[] = { "/v1/models",           "/v1/models/test", "/version",
                                          "/v1/chat/completions", "/nothing",        "/metrics/x" };
    static const char *const open[] = { "/livez", "/readyz", "/health", "/v1/health", "/metrics" };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        http_response r = with_header(f, "/v1/models?api_key=first-key", bad[i]);
        assert_string_equal(response_header(&r, "WWW-Authenticate"), "Bearer");
        assert_null(strstr(r.body.data, "first-key"));
        assert_string_equal(error_member(&r, "type"), "authentication_error");
        expect_error(r, 401, "invalid_api_key");
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        http_response r = with_header(f, "/v1/models", good[i]);
        assert_int_equal(r.status, 200);
        response_fini(&r);
    }
    for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++)
        expect_error(with_header(f, closed[i], ""), 401, "invalid_api_key");
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
        http_response r = with_header(f, open[i], "");
        assert_int_equal(r.status, 200);
        response_fini(&r);
    }
    expect_error(ask(f, "OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"), 405,
                 "method_not_allowed");
    expect_error(client_post(f->address, "/v1/chat/completions", "{}"), 401, "invalid_api_key");
}

static void open_address_needs_keys(void **state)
{
    static const char *const everywhere[] = { "0.0.0.0:0" };
    static const char *const odd[] = { "nowhere", "127.0.0.1:99999", "127.0.0.1:", "::1:80",
                                       "unix:" };
    fixture *f = *state;
    cog_err err = { 0 };
    cog_server *s = NULL;

    f->cfg.listen = everywhere;
    assert_int_equal(cog_server_open(&s, &f->cfg, &err), COG_EINVAL);
    assert_non_null(strstr(err.text, "0.0.0.0:0"));
    assert_non_null(strstr(err.text, "--insecure"));
    f->cfg.insecure = true;
    assert_int_equal(cog_server_open(&s, &f->cfg, &err), 0);
    cog_server_close(s);
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        f->cfg.listen = &odd[i];
        assert_int_equal(cog_server_open(&s, &f->cfg, &err), COG_EINVAL);
    }
}

/* ------------------------------------------------------------------ bodies */

static void content_types(void **state)
{
    static const char *const bad[] = { "", "Content-Type: text/plain\r\n",
                                       "Content-Type: application/x-www-form-urlencoded\r\n",
                                       "Content-Type: application/json; charset=latin1\r\n",
                                       "Content-Type: application/jsonp\r\n" };
    static const char *const good[] = { "Content-Type: application/json\r\n",
                                        "Content-Type: Application/JSON; charset=\"UTF-8\"\r\n",
                                        "content-type: application/vnd.x+json;charset=utf-8\r\n" };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *raw = cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n%s"
                                "Content-Length: 2\r\n\r\n{}",
                                bad[i]);
        expect_error(ask(f, raw), 415, "unsupported_content_type");
        cog_free(raw);
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char *raw = cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n%s"
                                "Content-Length: 2\r\n\r\n{}",
                                good[i]);
        expect_error(ask(f, raw), 400, "missing_required_parameter");
        cog_free(raw);
    }
    expect_error(ask(f, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n"
                        "Content-Length: 2\r\n\r\n{}"),
                 415, "unsupported_content_encoding");
    expect_error(ask(f, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                        "Content-Type: application/json\r\n\r\n"),
                 411, "length_required");
    expect_error(ask(f, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                        "Content-Type: application/json\r\nContent-Length: 0\r\n\r\n"),
                 400, "invalid_json");
}

static int setup_small(void **state)
{
    fixture *f = fixture_new();

    f->cfg.max_body_bytes = 200000;
    f->cfg.max_inflight_bytes = 250000;
    fixture_start(f);
    *state = f;
    return 0;
}

static char *spaces(size_t len)
{
    char *body = cog_alloc(1, len + 1);

    memset(body, ' ', len);
    return body;
}

static void send_head(http_client *c, const char *extra)
{
    char *raw = cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                            "Content-Type: application/json\r\n%s\r\n",
                            extra);

    client_puts(c, raw);
    cog_free(raw);
}

/* The client writes everything before it reads: the answer must still arrive. */
static void too_large_written_first(void **state)
{
    fixture *f = *state;
    size_t sizes[] = { 200001, 4000000 };

    for (int i = 0; i < 2; i++) {
        http_client c = client_open(f->address);
        char *body = spaces(sizes[i]), extra[64];

        snprintf(extra, sizeof(extra), "Content-Length: %zu\r\n", sizes[i]);
        send_head(&c, extra);
        assert_true(client_send(&c, body, sizes[i]));
        expect_error(client_read(&c, false), 413, "request_body_too_large");
        /* The connection stays usable. */
        client_puts(&c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
        http_response r = client_read(&c, false);
        assert_int_equal(r.status, 200);
        response_fini(&r);
        client_close(&c);
        cog_free(body);
    }
}

static void largest_body_passes(void **state)
{
    fixture *f = *state;
    char *body = spaces(200000);

    memcpy(body, "{}", 2);
    expect_error(client_post(f->address, "/v1/chat/completions", body), 400,
                 "missing_required_parameter");
    cog_free(body);
}

static void too_large_with_expect(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);

    send_head(&c, "Content-Length: 200001\r\nExpect: 100-continue\r\n");
    http_response r = client_read(&c, false);
    assert_string_equal(response_header(&r, "Connection"), "close"); /* the body was not read */
    expect_error(r, 413, "request_body_too_large");
    assert_true(client_is_ended(&c));
    client_close(&c);
    c = client_open(f->address);
    send_head(&c, "Content-Length: 2\r\nExpect: 100-continue\r\n");
    assert_true(client_wait_for(&c, "HTTP/1.1 100"));
    client_puts(&c, "{}");
    expect_error(client_read(&c, false), 400, "missing_required_parameter");
    client_close(&c);
}

static void too_large_chunked(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);
    char *piece = spaces(10000);

    send_head(&c, "Transfer-Encoding: chunked\r\n");
    for (int i = 0; i < 21; i++) {
        client_puts(&c, "2710\r\n");
        client_send(&c, piece, 10000);
        client_puts(&c, "\r\n");
    }
    client_puts(&c, "0\r\n\r\n");
    expect_error(client_read(&c, false), 413, "request_body_too_large");
    client_close(&c);
    c = client_open(f->address);
    send_head(&c, "Transfer-Encoding: chunked\r\n");
    client_puts(&c, "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n");
    expect_error(client_read(&c, false), 400, "missing_required_parameter");
    client_close(&c);
    cog_free(piece);
}

/* Dropping a refused body has an end. */
static void endless_body(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);
    char *piece = spaces(0x100000);
    bool is_open = true;
    int n = 0;

    send_head(&c, "Transfer-Encoding: chunked\r\n");
    for (; is_open && n < 100; n++)
        is_open = client_puts(&c, "100000\r\n") && client_send(&c, piece, 0x100000) &&
                  client_puts(&c, "\r\n");
    assert_false(is_open);
    assert_true(n > 64);
    client_close(&c);
    c = client_open(f->address);
    send_head(&c, "Content-Length: 99999999999\r\n");
    expect_error(client_read(&c, false), 413, "request_body_too_large");
    client_close(&c);
    cog_free(piece);
}

/* ------------------------------------------------------------------ heads */

static void large_heads(void **state)
{
    fixture *f = *state;
    cog_buf raw = { 0 };
    char *long_value = spaces(16400);

    memset(long_value, 'v', 16400);
    cog_buf_printf(&raw, "GET /livez HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n", long_value);
    expect_error(ask(f, raw.data), 431, "headers_too_large");
    cog_buf_clear(&raw);
    cog_buf_puts(&raw, "GET /livez HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 100; i++)
        cog_buf_printf(&raw, "H%d: v\r\n", i);
    cog_buf_puts(&raw, "\r\n");
    expect_error(ask(f, raw.data), 431, "headers_too_large");
    cog_buf_clear(&raw);
    cog_buf_printf(&raw, "GET /livez?%.8190s HTTP/1.1\r\nHost: x\r\n\r\n", long_value);
    expect_error(ask(f, raw.data), 431, "headers_too_large");
    cog_buf_fini(&raw);
    cog_free(long_value);
}

/* What two programs may read in two ways is refused, and the connection ends. MHD answers some of
 * these itself, with a page of its own. */
static void malformed(void **state)
{
    static const char *const cases[] = {
        "POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /livez HTTP/1.1\r\n\r\n",
        "GET /livez%00x HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /livez?%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1,1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /livez HTTP/9.9\r\nHost: x\r\n\r\n",
    };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        http_client c = client_open(f->address);
        http_response r;

        client_puts(&c, cases[i]);
        r = client_read_head(&c);
        if (r.status != 0 && !(r.status >= 400 && r.status < 506))
            fail_msg("case %zu: status %d", i, r.status);
        assert_true(client_is_ended(&c));
        response_fini(&r);
        client_close(&c);
    }
}

static void smuggled_request_is_not_read(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);
    http_response r;

    client_puts(&c, "POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                    "Content-Length: 40\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    r = client_read(&c, false);
    expect_error(r, 400, "bad_request");
    assert_true(client_is_ended(&c));
    assert_true(!c.in.data || !strstr(c.in.data, "HTTP/1.1"));
    client_close(&c);
}

/* ------------------------------------------------------------------ connections */

static void pipelining(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);
    char *body = chat_body("count=3 first=30", ",\"stream\":true");
    http_response a, b, d;
    char extra[64];

    snprintf(extra, sizeof(extra), "Content-Length: %zu\r\n", strlen(body));
    send_head(&c, extra);
    client_puts(&c, body);
    client_puts(&c,
                "GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    a = client_read(&c, false);
    b = client_read(&c, false);
    d = client_read(&c, false);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body.data, "[DONE]"));
    assert_string_equal(b.body.data, "ok");
    assert_non_null(strstr(d.body.data, "\"version\""));
    response_fini(&a);
    response_fini(&b);
    response_fini(&d);
    client_close(&c);
    cog_free(body);
}

static void http_1_0(void **state)
{
    fixture *f = *state;
    char *body = chat_body("count=2", ",\"stream\":true");
    char *raw = cog_sprintf("POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json"
                            "\r\nContent-Length: %zu\r\n\r\n%s",
                            strlen(body), body);
    http_response r = ask(f, "GET /livez HTTP/1.0\r\n\r\n");

    assert_int_equal(r.status, 200);
    response_fini(&r);
    r = ask(f, raw);
    assert_int_equal(r.status, 200);
    assert_null(response_header(&r, "Transfer-Encoding"));
    assert_non_null(strstr(r.body.data, "data: [DONE]\n\n"));
    response_fini(&r);
    cog_free(raw);
    cog_free(body);
}

/* Beyond the limit only probes are answered, and nothing is kept open; what is refused is read, so
 * that the refusal arrives. Beyond what is kept free for that, it comes at once. */
static void connection_limit(void **state)
{
    enum { LIMIT = 2, FREE = 64 };
    fixture *f = *state;
    http_client c[LIMIT], extra[FREE], late;
    char *body = spaces(3000000);
    http_response r;

    f->cfg.max_connections = LIMIT;
    fixture_start(f);
    for (int i = 0; i < LIMIT; i++) {
        c[i] = client_open(f->address);
        client_puts(&c[i], "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
        r = client_read(&c[i], false);
        assert_int_equal(r.status, 200);
        assert_null(response_header(&r, "Connection"));
        response_fini(&r);
    }
    for (int i = 0; i < 3; i++) {
        late = client_open(f->address);
        client_puts(&late, i == 0   ? "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
                           : i == 1 ? "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
                                    : "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        r = client_read(&late, false);
        assert_int_equal(r.status, 200);
        assert_string_equal(response_header(&r, "Connection"), "close");
        response_fini(&r);
        assert_true(client_is_ended(&late));
        client_close(&late);
    }
    r = client_post(f->address, "/v1/chat/completions", body); /* written before it is refused */
    assert_non_null(response_header(&r, "Retry-After"));
    expect_error(r, 503, "server_is_overloaded");
    for (int i = 0; i < FREE; i++)
        extra[i] = client_open(f->address);
    late = client_open(f->address);
    expect_error(client_read(&late, false), 503, "server_is_overloaded");
    client_close(&late);
    for (int i = 0; i < FREE; i++)
        client_close(&extra[i]);
    client_close(&c[0]);
    for (int tries = 0; tries < 1000; tries++) {
        r = client_get(f->address, "/v1/models");
        if (r.status == 200)
            break;
        response_fini(&r);
        usleep(5000);
    }
    assert_int_equal(r.status, 200);
    response_fini(&r);
    client_close(&c[1]);
    cog_free(body);
}

/* ------------------------------------------------------------------ deadlines */

static int setup_hasty(void **state)
{
    fixture *f = fixture_new();

    f->cfg.header_timeout_ms = 200;
    f->cfg.body_idle_timeout_ms = 200;
    f->cfg.body_timeout_ms = 400;
    f->cfg.keepalive_timeout_ms = 200;
    fixture_start(f);
    *state = f;
    return 0;
}

/* Sends text slowly until the server ends the connection; returns what it said. */
static http_response drip(http_client *c, const char *text, int pause_ms)
{
    http_response r;

    for (const char *p = text; *p; p++) {
        char byte;

        if (!client_send(c, p, 1) || recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
            break;
        usleep((useconds_t)pause_ms * 1000);
    }
    r = client_read(c, false);
    assert_true(client_is_ended(c));
    client_close(c);
    return r;
}

static void slow_heads(void **state)
{
    fixture *f = *state;
    char *header = spaces(400);
    http_client c;
    http_response r;

    memset(header, 'a', 400);
    c = client_open(f->address);
    r = drip(&c, "", 0); /* says nothing at all */
    expect_error(r, 408, "request_timeout");
    c = client_open(f->address);
    r = drip(&c, header, 10); /* a request line that never ends */
    expect_error(r, 408, "request_timeout");
    c = client_open(f->address);
    client_puts(&c, "GET /livez HTTP/1.1\r\n");
    r = drip(&c, header, 10);
    assert_string_equal(response_header(&r, "x-should-retry"), "false");
    assert_string_equal(response_header(&r, "Connection"), "close");
    expect_error(r, 408, "request_timeout");
    cog_free(header);
}

static void slow_bodies(void **state)
{
    fixture *f = *state;
    char *body = spaces(400);
    http_client c = client_open(f->address);

    send_head(&c, "Content-Length: 1000\r\n");
    expect_error(drip(&c, "{", 0), 408, "request_timeout"); /* idle */
    c = client_open(f->address);
    send_head(&c, "Content-Length: 1000\r\n");
    expect_error(drip(&c, body, 10), 408, "request_timeout"); /* never idle, never done */
    cog_free(body);
}

static void idle_connections_close(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);
    http_response r;

    client_puts(&c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    r = client_read(&c, false);
    assert_int_equal(r.status, 200);
    assert_true(client_is_ended(&c));
    assert_int_equal(c.in.len, 0);
    response_fini(&r);
    client_close(&c);
}

#define STARTED(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STARTED(get_and_head),
        STARTED(wrong_routes),
        STARTED(model_list),
        STARTED(request_ids),
        STARTED(request_id_of_the_body),
        cmocka_unit_test_setup_teardown(keys, setup_keys, fixture_teardown),
        cmocka_unit_test_setup_teardown(open_address_needs_keys, fixture_create, fixture_teardown),
        STARTED(content_types),
        cmocka_unit_test_setup_teardown(too_large_written_first, setup_small, fixture_teardown),
        cmocka_unit_test_setup_teardown(largest_body_passes, setup_small, fixture_teardown),
        cmocka_unit_test_setup_teardown(too_large_with_expect, setup_small, fixture_teardown),
        cmocka_unit_test_setup_teardown(too_large_chunked, setup_small, fixture_teardown),
        cmocka_unit_test_setup_teardown(endless_body, setup_small, fixture_teardown),
        STARTED(large_heads),
        STARTED(malformed),
        STARTED(smuggled_request_is_not_read),
        STARTED(pipelining),
        STARTED(http_1_0),
        cmocka_unit_test_setup_teardown(connection_limit, fixture_create, fixture_teardown),
        cmocka_unit_test_setup_teardown(slow_heads, setup_hasty, fixture_teardown),
        cmocka_unit_test_setup_teardown(slow_bodies, setup_hasty, fixture_teardown),
        cmocka_unit_test_setup_teardown(idle_connections_close, setup_hasty, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
