/* What happens when clients leave, stop reading or wait long, and when the engine fails. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "tests/unit/server_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Sends a request and leaves the answer unread. */
static http_client begin(fixture *f, char *body)
{
    http_client c = client_open(f->address);
    char *raw = cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
                            "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                            strlen(body), body);

    client_puts(&c, raw);
    cog_free(raw);
    cog_free(body);
    return c;
}

static http_client begin_chat(fixture *f, const char *text, const char *more)
{
    return begin(f, chat_body(text, more));
}

/* ------------------------------------------------------------------ leaving */

static void leave(http_client *c, int how)
{
    switch (how) {
    case 0:
        client_close(c);
        break;
    case 1:
        client_reset(c);
        break;
    default:
        shutdown(c->fd, SHUT_WR); /* half-close counts as leaving */
        break;
    }
}

static void leaving_cancels(void **state)
{
    fixture *f = *state;
    int n_cancelled = 0;

    for (int how = 0; how < 3; how++) {
        for (int phase = 0; phase < 4; phase++) {
            const char *stream = phase < 3 ? ",\"stream\":true" : "";
            const char *text = phase == 0 ? "hold" : phase == 3 ? "hold" : "count=100000 every=5";
            http_client c;

            fake_engine_pause(f->engine, phase == 1); /* still in the queue */
            c = begin_chat(f, text, stream);
            assert_true(fixture_wait(f, fake_engine_live, 1));
            if (phase == 2)
                assert_true(client_wait_for(&c, "t3 "));
            leave(&c, how);
            assert_true(fixture_wait(f, fake_engine_cancelled, ++n_cancelled));
            assert_true(fixture_wait(f, fake_engine_live, 0));
            if (how == 2)
                assert_true(client_is_ended(&c));
            client_close(&c);
        }
    }
    fake_engine_pause(f->engine, false);
}

static void leaving_during_decode(void **state)
{
    fixture *f = *state;
    int decoded = fake_engine_decoded(), accepted = fake_engine_accepted(f->engine);
    http_client c = begin(f, picture_body("x", "FAKE slow=150", ""));

    for (int i = 0; i < 4000 && fake_engine_decoded() == decoded; i++)
        usleep(1000);
    assert_int_equal(fake_engine_decoded(), decoded + 1);
    client_close(&c);
    http_response r = chat(f, "still alive", "");
    assert_int_equal(r.status, 200);
    response_fini(&r);
    usleep(250000);
    assert_int_equal(fake_engine_accepted(f->engine), accepted + 1);
}

/* Requests that leave never disturb one that stays. */
static void others_are_undisturbed(void **state)
{
    fixture *f = *state;
    http_client stay = begin_chat(f, "count=60 every=3", ",\"stream\":true");
    http_response r;

    for (int i = 0; i < 30; i++) {
        http_client c = begin_chat(f, "count=50 every=2", i % 2 ? ",\"stream\":true" : "");
        usleep(3000);
        leave(&c, i % 3);
        client_close(&c);
    }
    r = client_read(&stay, false);
    assert_true(r.is_whole);
    for (int i = 0; i < 60; i++) {
        char text[32];
        snprintf(text, sizeof(text), "\"content\":\"t%d \"", i);
        assert_non_null(strstr(r.body.data, text));
    }
    assert_true(fixture_wait(f, fake_engine_live, 0));
    response_fini(&r);
    client_close(&stay);
}

/* One connection, many requests: each is watched anew. */
static void kept_alive(void **state)
{
    fixture *f = *state;
    http_client c = client_open(f->address);

    for (int i = 0; i < 40; i++) {
        char *body = chat_body("count=3", i % 2 ? ",\"stream\":true" : "");
        char *raw = cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
                                "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                                strlen(body), body);
        http_response r;

        client_puts(&c, raw);
        r = client_read(&c, false);
        assert_int_equal(r.status, 200);
        assert_true(r.is_whole);
        assert_non_null(strstr(r.body.data, "t2 "));
        response_fini(&r);
        cog_free(raw);
        cog_free(body);
    }
    client_close(&c);
    c = begin_chat(f, "hold", "");
    assert_true(fixture_wait(f, fake_engine_live, 1));
    client_close(&c);
    assert_true(fixture_wait(f, fake_engine_cancelled, 1));
}

static void many_idle_streams(void **state)
{
    enum { N = 300 };
    fixture *f = *state;
    http_client *idle = cog_array(http_client, N);
    http_response r;

    fake_engine_set_queue(f->engine, N); /* they come faster than it may look at them */
    fixture_start(f);
    for (int i = 0; i < N; i++) {
        idle[i] = begin_chat(f, "hold", ",\"stream\":true");
        assert_true(fixture_wait(f, fake_engine_live, i + 1));
    }
    r = chat(f, "count=50", ",\"stream\":true");
    assert_true(r.is_whole);
    assert_non_null(strstr(r.body.data, "t49 "));
    response_fini(&r);
    for (int i = 0; i < N; i++)
        leave(&idle[i], i % 2);
    assert_true(fixture_wait(f, fake_engine_live, 0));
    assert_int_equal(fake_engine_cancelled(f->engine), N);
    cog_free(idle);
}

/* ------------------------------------------------------------------ slow readers */

static void slow_reader_is_cut(void **state)
{
    fixture *f = *state;
    http_client c;

    f->cfg.max_unsent_bytes = 100000;
    fixture_start(f);
    c = begin_chat(f, "count=1000000 bytes=4000 burst=5", ",\"stream\":true");
    assert_true(fixture_wait(f, fake_engine_accepted, 1));
    assert_true(fixture_wait(f, fake_engine_cancelled, 1));
    assert_true(fixture_wait(f, fake_engine_live, 0));
    assert_true(client_is_ended(&c));
    assert_null(c.in.data ? strstr(c.in.data, "[DONE]") : NULL);
    client_close(&c);
}

static void stalled_reader_is_cut(void **state)
{
    fixture *f = *state;
    http_client c;
    http_response r = { 0 };

    f->cfg.slow_reader_ms = 200;
    f->cfg.max_unsent_bytes = 100u << 20;
    f->cfg.max_connections = 1; /* so that another one only gets in after the cut */
    fixture_start(f);
    c = begin_chat(f, "count=3900 bytes=4000 burst=100", ",\"stream\":true");
    assert_true(fixture_wait(f, fake_engine_accepted, 1));
    for (int i = 0; i < 2000 && r.status != 200; i++) {
        usleep(10000);
        response_fini(&r);
        r = client_get(f->address, "/v1/models");
    }
    assert_int_equal(r.status, 200);
    response_fini(&r);
    assert_true(client_is_ended(&c));
    assert_null(strstr(c.in.data, "[DONE]"));
    client_close(&c);
}

static void slow_writer_is_no_slow_reader(void **state)
{
    fixture *f = *state;
    http_response r;

    f->cfg.slow_reader_ms = 100;
    fixture_start(f);
    r = chat(f, "count=3 every=300", ",\"stream\":true");
    assert_non_null(strstr(r.body.data, "[DONE]"));
    response_fini(&r);
}

/* ------------------------------------------------------------------ pings */

static int count(const char *text, const char *word)
{
    int n = 0;

    for (text = strstr(text, word); text; text = strstr(text + 1, word))
        n++;
    return n;
}

static void pings_fill_silence(void **state)
{
    fixture *f = *state;
    http_response r;

    f->cfg.sse_ping_ms = 100;
    fixture_start(f);
    r = chat(f, "count=2 first=500 every=500", ",\"stream\":true");
    assert_int_equal(r.status, 200);
    assert_true(count(r.body.data, ": ping\n\n") >= 3);
    assert_int_equal(count(r.body.data, ": ping\n\n"), count(r.body.data, ": ping"));
    assert_int_equal(count(r.body.data, "\"role\""), 1);
    assert_int_equal(count(r.body.data, "data: [DONE]"), 1);
    response_fini(&r);
    r = chat(f, "count=2 first=300", "");
    assert_int_equal(count(r.body.data, "ping"), 0);
    response_fini(&r);
}

/* Once a ping has gone out the status is 200, and an error comes as an event. */
static void error_after_ping(void **state)
{
    fixture *f = *state;
    http_response r;

    f->cfg.sse_ping_ms = 50;
    f->cfg.request_timeout_ms = 1000;
    fixture_start(f);
    r = chat(f, "hold", ",\"stream\":true");
    assert_int_equal(r.status, 200);
    assert_true(r.is_whole);
    assert_non_null(strstr(r.body.data, ": ping\n\n"));
    assert_int_equal(count(r.body.data, "\"role\""), 0);
    assert_non_null(strstr(r.body.data, "data: {\"error\":{\"message\":"));
    assert_non_null(
        strstr(r.body.data, "\"code\":\"request_deadline_exceeded\"}}\n\ndata: [DONE]"));
    response_fini(&r);
}

/* ------------------------------------------------------------------ failures */

static void device_fails(void **state)
{
    fixture *f = *state;
    http_response r = chat(f, "count=9 fail=0", "");

    assert_int_equal(r.status, 500);
    assert_string_equal(error_code(&r), "internal_error");
    assert_string_equal(error_member(&r, "type"), "server_error");
    assert_non_null(strstr(r.body.data, response_header(&r, "x-request-id")));
    response_fini(&r);
    r = chat(f, "count=9 fail=0", ",\"stream\":true");
    assert_int_equal(r.status, 500);
    response_fini(&r);
    r = chat(f, "count=9 fail=2", ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    assert_int_equal(r.status, 200);
    assert_true(r.is_whole);
    assert_non_null(strstr(r.body.data, "\"t1 \""));
    assert_non_null(strstr(r.body.data, "\"code\":\"internal_error\"}}\n\ndata: [DONE]\n\n"));
    assert_null(strstr(r.body.data, "invalid_request_error"));
    assert_null(strstr(r.body.data, "prompt_tokens"));
    response_fini(&r);
}

static void deadline_passes(void **state)
{
    fixture *f = *state;
    http_response r;

    f->cfg.request_timeout_ms = 400;
    fixture_start(f);
    r = chat(f, "hold", "");
    assert_int_equal(r.status, 504);
    assert_string_equal(error_code(&r), "request_deadline_exceeded");
    assert_string_equal(response_header(&r, "x-should-retry"), "false");
    response_fini(&r);
    r = chat(f, "hold", ",\"stream\":true");
    assert_int_equal(r.status, 504);
    response_fini(&r);
    r = chat(f, "count=1000 every=20", ",\"stream\":true");
    assert_int_equal(r.status, 200);
    assert_non_null(
        strstr(r.body.data, "\"code\":\"request_deadline_exceeded\"}}\n\ndata: [DONE]"));
    response_fini(&r);
}

/* A picture that takes too long uses the time up before the engine sees the request. */
static void deadline_passes_during_decode(void **state)
{
    fixture *f = *state;
    char *body = picture_body("x", "FAKE slow=6000", "");
    http_response r;

    f->cfg.request_timeout_ms = 1500; /* by then it is decoded, on a busy machine too */
    fixture_start(f);
    r = client_post(f->address, "/v1/chat/completions", body);
    assert_int_equal(r.status, 504);
    assert_int_equal(fake_engine_decoding(), 1); /* it did not wait for that to end */
    while (fake_engine_decoding() > 0)
        usleep(1000);
    assert_int_equal(fake_engine_accepted(f->engine), 0);
    response_fini(&r);
    cog_free(body);
}

/* Time in the decoder's queue counts as well, and what waits there is never decoded. */
static void deadline_passes_before_decode(void **state)
{
    fixture *f = *state;
    http_client slow;
    char *body = picture_body("x", "FAKE", "");
    int decoded = fake_engine_decoded();
    http_response r;

    f->cfg.request_timeout_ms = 200;
    f->cfg.image_workers = 1;
    fixture_start(f);
    slow = begin(f, picture_body("x", "FAKE slow=1500", ""));
    for (int i = 0; i < 4000 && fake_engine_decoded() == decoded; i++)
        usleep(1000);
    r = client_post(f->address, "/v1/chat/completions", body);
    assert_int_equal(r.status, 504);
    assert_int_equal(fake_engine_decoded(), decoded + 1);
    response_fini(&r);
    client_close(&slow);
    cog_free(body);
}

static int decode_together(fixture *f, const char *picture)
{
    http_client c[3];

    (void)fake_engine_take_max_decoding();
    for (int i = 0; i < 3; i++)
        c[i] = begin(f, picture_body("x", picture, ""));
    for (int i = 0; i < 3; i++) {
        http_response r = client_read(&c[i], false);
        assert_int_equal(r.status, 200);
        response_fini(&r);
        client_close(&c[i]);
    }
    return fake_engine_take_max_decoding();
}

/* Three small pictures are decoded side by side, three that need a gigabyte each one by one. */
static void large_pictures_are_decoded_one_by_one(void **state)
{
    fixture *f = *state;

    assert_true(decode_together(f, "FAKE slow=300") > 1);
    assert_int_equal(decode_together(f, "FAKE slow=100 side=9000"), 1);
}

static void queue_full(void **state)
{
    fixture *f = *state;
    http_client c[FAKE_QUEUE];
    char *body = picture_body("x", "FAKE", "");
    int decoded;
    http_response r;

    fake_engine_pause(f->engine, true);
    for (int i = 0; i < FAKE_QUEUE; i++) {
        c[i] = begin_chat(f, "x", "");
        assert_true(fixture_wait(f, fake_engine_live, i + 1));
    }
    decoded = fake_engine_decoded();
    r = client_post(f->address, "/v1/chat/completions", body);
    assert_int_equal(r.status, 503);
    assert_string_equal(error_code(&r), "server_is_overloaded");
    assert_string_equal(error_member(&r, "type"), "service_unavailable_error");
    assert_int_equal(fake_engine_decoded(), decoded);
    assert_true(atoi(response_header(&r, "Retry-After")) >= 1);
    assert_true(atoi(response_header(&r, "Retry-After")) <= 30);
    response_fini(&r);
    r = client_get(f->address, "/readyz");
    assert_int_equal(r.status, 200); /* overload never turns readiness off */
    response_fini(&r);
    fake_engine_pause(f->engine, false);
    for (int i = 0; i < FAKE_QUEUE; i++) {
        r = client_read(&c[i], false);
        assert_int_equal(r.status, 200);
        response_fini(&r);
        client_close(&c[i]);
    }
    r = client_post(f->address, "/v1/chat/completions", body);
    assert_int_equal(r.status, 200);
    response_fini(&r);
    cog_free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(leaving_cancels, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(leaving_during_decode, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(large_pictures_are_decoded_one_by_one, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(others_are_undisturbed, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(kept_alive, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(many_idle_streams, fixture_create, fixture_teardown),
        cmocka_unit_test_setup_teardown(slow_reader_is_cut, fixture_create, fixture_teardown),
        cmocka_unit_test_setup_teardown(stalled_reader_is_cut, fixture_create, fixture_teardown),
        cmocka_unit_test_setup_teardown(slow_writer_is_no_slow_reader, fixture_create,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(pings_fill_silence, fixture_create, fixture_teardown),
        cmocka_unit_test_setup_teardown(error_after_ping, fixture_create, fixture_teardown),
        cmocka_unit_test_setup_teardown(device_fails, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(deadline_passes, fixture_create, fixture_teardown),
        cmocka_unit_test_setup_teardown(deadline_passes_during_decode, fixture_create,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(deadline_passes_before_decode, fixture_create,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(queue_full, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
