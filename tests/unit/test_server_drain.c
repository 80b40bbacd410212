/* Loading, failing, and the way down. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/server_fixture.h"

#include <dlfcn.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int create(void **state)
{
    *state = fixture_new();
    return 0;
}

static int teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

static http_client begin_chat(fixture *f, const char *text, const char *more)
{
    http_client c = client_open(f->address);
    char *body = chat_body(text, more);
    char *raw = cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
                            "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                            strlen(body), body);

    client_puts(&c, raw);
    cog_free(raw);
    cog_free(body);
    return c;
}

static void expect_get(fixture *f, const char *path, int status, const char *text)
{
    http_response r = client_get(f->address, path);

    assert_int_equal(r.status, status);
    assert_non_null(strstr(r.body.data, text));
    response_fini(&r);
}

/* Until /readyz says so. */
static void wait_ready(fixture *f, const char *word)
{
    for (int i = 0; i < 2000; i++) {
        http_response r = client_get(f->address, "/readyz");
        bool is_there = r.body.data && strstr(r.body.data, word);

        response_fini(&r);
        if (is_there)
            return;
        usleep(5000);
    }
    fail_msg("never %s", word);
}

static void loading(void **state)
{
    fixture *f = *state;
    http_response r;

    fake_engine_set_phase(f->engine, COG_ENGINE_LOADING, 0.25);
    fixture_start(f);
    expect_get(f, "/livez", 200, "ok");
    expect_get(f, "/readyz", 503, "{\"status\":\"loading\",\"progress\":0.250}");
    expect_get(f, "/health", 503, "model_loading");
    expect_get(f, "/v1/models", 200, "\"id\":\"test\"");
    r = chat(f, "x", "");
    assert_int_equal(r.status, 503);
    assert_string_equal(error_code(&r), "model_loading");
    assert_true(atoi(response_header(&r, "Retry-After")) >= 1);
    assert_true(atoi(response_header(&r, "Retry-After")) <= 60);
    response_fini(&r);
    fake_engine_set_phase(f->engine, COG_ENGINE_READY, 1);
    expect_get(f, "/readyz", 200, "{\"status\":\"ready\",\"progress\":1.000}");
    expect_get(f, "/health", 200, "{\"status\":\"ok\"}");
    r = chat(f, "x", "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
}

/* The engine fails for good: every request ends with an error, and the server with 1. */
static void engine_fails(void **state)
{
    fixture *f = *state;
    http_client whole, stream;
    http_response r;

    fixture_start(f);
    whole = begin_chat(f, "hold", "");
    stream = begin_chat(f, "count=100000 every=5", ",\"stream\":true");
    assert_true(client_wait_for(&stream, "t2 "));
    assert_true(fixture_wait(f, fake_engine_live, 2));
    fake_engine_set_phase(f->engine, COG_ENGINE_FAILED, 0);
    r = client_read(&whole, false);
    assert_int_equal(r.status, 500);
    assert_string_equal(error_code(&r), "internal_error");
    response_fini(&r);
    r = client_read(&stream, false);
    assert_true(r.is_whole);
    assert_non_null(strstr(r.body.data, "\"code\":\"internal_error\"}}\n\ndata: [DONE]\n\n"));
    response_fini(&r);
    assert_int_equal(fixture_join(f), 1);
    client_close(&whole);
    client_close(&stream);
}

static void failed_before_start(void **state)
{
    fixture *f = *state;

    fake_engine_set_phase(f->engine, COG_ENGINE_FAILED, 0);
    fixture_start(f);
    assert_int_equal(fixture_join(f), 1);
}

static void stuck_engine(void **state)
{
    fixture *f = *state;
    http_client c;

    f->cfg.watchdog_ms = 500;
    fixture_start(f);
    usleep(700000);
    expect_get(f, "/livez", 200, "ok"); /* idle is not stuck */
    c = begin_chat(f, "hold", "");
    assert_true(fixture_wait(f, fake_engine_live, 1));
    usleep(700000);
    expect_get(f, "/livez", 200, "ok"); /* busy is not stuck */
    fake_engine_stall(f->engine);
    usleep(700000);
    expect_get(f, "/livez", 503, "stuck");
    expect_get(f, "/readyz", 200, "ready");
    client_close(&c);
}

/* The answer does not need the engine. */
static void deadline_passes_in_a_stuck_engine(void **state)
{
    fixture *f = *state;
    http_client whole, stream;
    http_response r;

    f->cfg.request_timeout_ms = 500;
    fixture_start(f);
    whole = begin_chat(f, "hold", "");
    stream = begin_chat(f, "count=100000 every=5", ",\"stream\":true");
    assert_true(client_wait_for(&stream, "t2 "));
    assert_true(fixture_wait(f, fake_engine_live, 2));
    fake_engine_stall(f->engine);
    r = client_read(&whole, false);
    assert_int_equal(r.status, 504);
    assert_string_equal(error_code(&r), "request_deadline_exceeded");
    assert_string_equal(response_header(&r, "x-should-retry"), "false");
    response_fini(&r);
    r = client_read(&stream, false);
    assert_true(r.is_whole);
    assert_non_null(
        strstr(r.body.data, "\"code\":\"request_deadline_exceeded\"}}\n\ndata: [DONE]\n\n"));
    response_fini(&r);
    client_close(&whole);
    client_close(&stream);
}

/* ------------------------------------------------------------------ stopping */

static void idle_server_stops(void **state)
{
    fixture *f = *state;
    http_client c;
    http_response r;

    fixture_start(f);
    c = client_open(f->address); /* an idle connection does not hold it */
    client_puts(&c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    r = client_read(&c, false);
    response_fini(&r);
    assert_int_equal(fixture_stop(f), 0);
    assert_true(client_is_ended(&c));
    client_close(&c);
}

static void draining_finishes_what_runs(void **state)
{
    fixture *f = *state;
    http_client stream, whole;
    http_response r;

    f->cfg.drain_delay_ms = 1500;
    f->cfg.drain_timeout_ms = 10000;
    fixture_start(f);
    stream = begin_chat(f, "count=40 every=50", ",\"stream\":true");
    whole = begin_chat(f, "count=40 every=50", "");
    assert_true(client_wait_for(&stream, "t2 "));
    assert_true(fixture_wait(f, fake_engine_live, 2));
    kill(getpid(), SIGTERM);
    wait_ready(f, "draining");
    expect_get(f, "/livez", 200, "ok");
    expect_get(f, "/health", 503, "server_draining");
    r = chat(f, "x", "");
    assert_int_equal(r.status, 503);
    assert_string_equal(error_code(&r), "server_draining");
    assert_string_equal(response_header(&r, "Connection"), "close");
    assert_string_equal(response_header(&r, "Retry-After"), "1");
    response_fini(&r);
    r = client_read(&stream, false);
    assert_true(r.is_whole);
    assert_non_null(strstr(r.body.data, "t39 "));
    assert_non_null(strstr(r.body.data, "data: [DONE]\n\n"));
    response_fini(&r);
    r = client_read(&whole, false);
    assert_int_equal(r.status, 200);
    assert_string_equal(response_header(&r, "Connection"), "close");
    response_fini(&r);
    assert_int_equal(fixture_join(f), 0);
    client_close(&stream);
    client_close(&whole);
}

/* A body that was on its way in when the signal came is still answered. */
static void draining_takes_the_rest_of_a_body(void **state)
{
    fixture *f = *state;
    http_client c;
    char *body = chat_body("count=3", "");
    char *head =
        cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
                    "application/json\r\nContent-Length: %zu\r\nExpect: 100-continue\r\n\r\n",
                    strlen(body));
    http_response r;

    f->cfg.drain_timeout_ms = 10000;
    fixture_start(f);
    c = client_open(f->address);
    client_puts(&c, head);
    assert_true(client_wait_for(&c, "100 Continue"));
    client_send(&c, body, 1);
    kill(getpid(), SIGTERM);
    usleep(1500000); /* several sweeps, after which an idle server would be gone */
    client_puts(&c, body + 1);
    r = client_read(&c, false);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body.data, "t2 "));
    response_fini(&r);
    assert_int_equal(fixture_join(f), 0);
    client_close(&c);
    cog_free(head);
    cog_free(body);
}

/* What does not finish in time ends with an error, also what is suspended. */
static void draining_ends_the_rest(void **state)
{
    fixture *f = *state;
    http_client stream, whole;
    http_response r;

    f->cfg.drain_timeout_ms = 150;
    fixture_start(f);
    stream = begin_chat(f, "count=100000 every=5", ",\"stream\":true");
    whole = begin_chat(f, "hold", "");
    assert_true(client_wait_for(&stream, "t2 "));
    assert_true(fixture_wait(f, fake_engine_live, 2));
    assert_int_equal(fixture_stop(f), 0);
    r = client_read(&stream, false);
    assert_true(r.is_whole);
    assert_non_null(strstr(r.body.data, "\"code\":\"server_draining\"}}\n\ndata: [DONE]\n\n"));
    response_fini(&r);
    r = client_read(&whole, false);
    assert_int_equal(r.status, 503);
    assert_string_equal(error_code(&r), "server_draining");
    response_fini(&r);
    assert_int_equal(fake_engine_cancelled(f->engine), 2);
    client_close(&stream);
    client_close(&whole);
}

static void second_signal_stops_at_once(void **state)
{
    fixture *f = *state;
    http_client stream, whole;

    f->cfg.drain_delay_ms = 60000;
    f->cfg.drain_timeout_ms = 60000;
    fixture_start(f);
    stream = begin_chat(f, "count=100000 every=5", ",\"stream\":true");
    whole = begin_chat(f, "hold", "");
    assert_true(client_wait_for(&stream, "t2 "));
    assert_true(fixture_wait(f, fake_engine_live, 2));
    kill(getpid(), SIGTERM);
    wait_ready(f, "draining");
    kill(getpid(), SIGINT);
    assert_int_equal(fixture_join(f), 0);
    assert_true(client_is_ended(&stream));
    assert_true(client_is_ended(&whole));
    assert_int_equal(whole.in.len, 0);
    client_close(&stream);
    client_close(&whole);
}

/* Work in the pool ends before the server does. */
static void stopping_during_decode(void **state)
{
    fixture *f = *state;
    char *body = picture_body("x", "FAKE slow=400", "");
    int decoded = fake_engine_decoded();
    http_client c;
    char *raw;

    f->cfg.drain_timeout_ms = 50;
    fixture_start(f);
    c = client_open(f->address);
    raw = cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
                      "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                      strlen(body), body);
    client_puts(&c, raw);
    for (int i = 0; i < 4000 && fake_engine_decoded() == decoded; i++)
        usleep(1000);
    assert_int_equal(fixture_stop(f), 0);
    http_response r = client_read(&c, false);
    assert_int_equal(r.status, 503);
    response_fini(&r);
    assert_int_equal(fake_engine_accepted(f->engine), 0);
    client_close(&c);
    cog_free(raw);
    cog_free(body);
}

static void unix_socket(void **state)
{
    fixture *f = *state;
    char *spec = cog_sprintf("unix:/tmp/cog-test-%d.sock", (int)getpid());
    const char *const listen[] = { "127.0.0.1:0", spec };

    f->cfg.listen = listen;
    f->cfg.n_listen = 2;
    fixture_start(f);
    assert_string_equal(cog_server_address(f->server, 1), spec);
    assert_int_equal(access(spec + 5, F_OK), 0);
    expect_get(f, "/livez", 200, "ok");
    assert_int_equal(fixture_stop(f), 0);
    assert_int_not_equal(access(spec + 5, F_OK), 0);
    cog_free(spec);
}

/* Stands before the C library's: "several.test" is a name with four addresses, of which one is said
 * twice and one is no address of any machine. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **out)
{
    static const char *const addresses[] = { "127.0.0.1", "127.0.0.2", "127.0.0.1", "192.0.2.1" };
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!host || strcmp(host, "several.test") != 0)
        return real(host, port, hints, out);
    for (int i = 0; i < 4; i++) {
        int rc = real(addresses[i], port, hints, out);

        if (rc != 0)
            return rc;
        while (*out)
            out = &(*out)->ai_next;
    }
    return 0;
}

/* A name is listened on under all of its addresses, with one port. */
static void all_addresses_of_a_name(void **state)
{
    static const char *const listen[] = { "several.test:0", "127.0.0.1:0" };
    fixture *f = *state;
    const char *address[3];

    f->cfg.listen = listen;
    f->cfg.n_listen = 2;
    f->cfg.insecure = true;
    fixture_start(f);
    for (int i = 0; i < 3; i++) {
        address[i] = cog_server_address(f->server, i);
        assert_non_null(address[i]);
        http_response r = client_get(address[i], "/livez");
        assert_int_equal(r.status, 200);
        response_fini(&r);
    }
    assert_null(cog_server_address(f->server, 3));
    assert_memory_equal(address[0], "127.0.0.1:", 10);
    assert_memory_equal(address[1], "127.0.0.2:", 10);
    assert_string_equal(strrchr(address[0], ':'), strrchr(address[1], ':'));
    assert_memory_equal(address[2], "127.0.0.1:", 10);
}

/* One of its addresses is another machine's way in. */
static void a_name_that_others_reach_needs_keys(void **state)
{
    static const char *const listen[] = { "several.test:0" };
    fixture *f = *state;
    cog_server *s = NULL;
    cog_err err = { 0 };

    f->cfg.listen = listen;
    assert_int_equal(cog_server_open(&s, &f->cfg, &err), COG_EINVAL);
    assert_non_null(strstr(err.text, "without an API key"));
}

static void taken_port(void **state)
{
    fixture *f = *state;
    cog_server *s = NULL;
    cog_err err = { 0 };
    const char *listen[1];

    fixture_start(f);
    listen[0] = f->address;
    f->cfg.listen = listen;
    assert_int_equal(cog_server_open(&s, &f->cfg, &err), COG_EIO);
    assert_non_null(strstr(err.text, f->address));
    assert_non_null(strstr(err.text, "--listen"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(loading, create, teardown),
        cmocka_unit_test_setup_teardown(engine_fails, create, teardown),
        cmocka_unit_test_setup_teardown(failed_before_start, create, teardown),
        cmocka_unit_test_setup_teardown(stuck_engine, create, teardown),
        cmocka_unit_test_setup_teardown(deadline_passes_in_a_stuck_engine, create, teardown),
        cmocka_unit_test_setup_teardown(idle_server_stops, create, teardown),
        cmocka_unit_test_setup_teardown(draining_finishes_what_runs, create, teardown),
        cmocka_unit_test_setup_teardown(draining_takes_the_rest_of_a_body, create, teardown),
        cmocka_unit_test_setup_teardown(draining_ends_the_rest, create, teardown),
        cmocka_unit_test_setup_teardown(second_signal_stops_at_once, create, teardown),
        cmocka_unit_test_setup_teardown(stopping_during_decode, create, teardown),
        cmocka_unit_test_setup_teardown(unix_socket, create, teardown),
        cmocka_unit_test_setup_teardown(all_addresses_of_a_name, create, teardown),
        cmocka_unit_test_setup_teardown(a_name_that_others_reach_needs_keys, create, teardown),
        cmocka_unit_test_setup_teardown(taken_port, create, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
