/* More than the server can hold: bodies. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/unit/server_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUDGET = 1000000 };

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

static void expect_error(http_response r, int status, const char *code)
{
    assert_int_equal(r.status, status);
    assert_string_equal(error_code(&r), code);
    response_fini(&r);
}

/* ------------------------------------------------------------------ bodies */

static int setup_budget(void **state)
{
    fixture *f = fixture_new();

    f->cfg.max_body_bytes = BUDGET;
    f->cfg.max_inflight_bytes = BUDGET;
    fixture_start(f);
    *state = f;
    return 0;
}

/* An upload of len bytes, a valid request, of which the first part is sent. */
typedef struct upload {
    http_client c;
    char *body;
    size_t len, sent;
} upload;

static bool send_to(upload *u, size_t end)
{
    size_t from = u->sent;

    u->sent = end;
    return client_send(&u->c, u->body + from, end - from);
}

static upload begin_upload(fixture *f, size_t len, size_t first)
{
    upload u = { .c = client_open(f->address), .len = len, .body = cog_alloc(1, len + 1) };
    char *json = chat_body("count=2", ""), head[200];

    memset(u.body, ' ', len);
    memcpy(u.body, json, strlen(json));
    cog_free(json);
    snprintf(head, sizeof(head),
             "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n\r\n",
             len);
    client_puts(&u.c, head);
    send_to(&u, first);
    usleep(100000); /* it is there, unless it finds no room */
    return u;
}

static void end_upload(upload *u, int status)
{
    http_response r = client_read(&u->c, false);

    assert_int_equal(r.status, status);
    if (status == 503) {
        assert_string_equal(error_code(&r), "server_is_overloaded");
        assert_non_null(response_header(&r, "Retry-After"));
    }
    response_fini(&r);
    client_close(&u->c);
    cog_free(u->body);
}

/* What is here counts; a body that does not fit beside it is refused, and fits later. */
static void refused_beside_what_is_here(void **state)
{
    fixture *f = *state;
    upload held = begin_upload(f, 700000, 600000);
    http_client asks = client_open(f->address);
    upload late;

    client_puts(&asks, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                       "Content-Type: application/json\r\nContent-Length: 500000\r\n"
                       "Expect: 100-continue\r\n\r\n");
    expect_error(client_read(&asks, false), 503, "server_is_overloaded"); /* no 100 before */
    client_close(&asks);
    late = begin_upload(f, 500000, 500000);
    end_upload(&late, 503);
    late = begin_upload(f, 300000, 300000);
    end_upload(&late, 200);
    send_to(&held, held.len);
    end_upload(&held, 200);
    late = begin_upload(f, 500000, 500000);
    end_upload(&late, 200);
}

/* Announcing costs others nothing. */
static void promises_take_nothing(void **state)
{
    fixture *f = *state;
    upload silent[20], honest;

    for (int i = 0; i < 20; i++)
        silent[i] = begin_upload(f, BUDGET, i);
    honest = begin_upload(f, 900000, 900000);
    end_upload(&honest, 200);
    for (int i = 0; i < 20; i++) {
        client_reset(&silent[i].c);
        cog_free(silent[i].body);
    }
}

/* Two that together want more than there is: the younger waits, and then both are done. */
static void who_finds_no_room_waits(void **state)
{
    fixture *f = *state;
    upload older = begin_upload(f, 700000, 400000);
    upload younger = begin_upload(f, 600000, 600000 - 1);

    send_to(&younger, younger.len);
    usleep(300000);
    send_to(&older, 500000);
    usleep(300000);
    send_to(&older, older.len);
    end_upload(&older, 200);
    end_upload(&younger, 200);
}

/* A wait for room is not the client's: no read deadline runs on. */
static void waiting_is_no_slowness(void **state)
{
    fixture *f = *state;
    upload older, younger;

    f->cfg.max_body_bytes = f->cfg.max_inflight_bytes = BUDGET;
    f->cfg.body_idle_timeout_ms = 1000;
    fixture_start(f);
    older = begin_upload(f, 690150, 500000);
    younger = begin_upload(f, 500000, 1000);
    send_to(&older, 690000);
    send_to(&younger, 290000);
    usleep(500000);            /* all of it is there */
    send_to(&younger, 320000); /* and this finds no room, but leaves some to the older */
    for (int i = 1; i <= 9; i++) {
        usleep(150000);
        send_to(&older, older.sent + 10);
    }
    send_to(&older, older.len); /* the younger has waited for longer than the idle time-out */
    end_upload(&older, 200);
    send_to(&younger, younger.len);
    end_upload(&younger, 200);
}

/* All there is belongs to bodies that are not complete: the youngest gives way. */
static void the_youngest_gives_way(void **state)
{
    fixture *f = *state;
    upload u[3];

    for (int i = 0; i < 3; i++)
        u[i] = begin_upload(f, 550000, 100000);
    for (int i = 0; i < 3; i++)
        send_to(&u[i], 400000);
    for (int i = 0; i < 3; i++)
        send_to(&u[i], u[i].len);
    end_upload(&u[0], 200);
    end_upload(&u[1], 200);
    end_upload(&u[2], 503);
    u[0] = begin_upload(f, BUDGET, BUDGET); /* and nothing is left behind */
    end_upload(&u[0], 200);
}

static void leaving_while_waiting(void **state)
{
    fixture *f = *state;
    upload older = begin_upload(f, 700000, 600000);
    upload younger = begin_upload(f, 390000, 100);
    upload other;

    send_to(&older, 690000);
    usleep(50000);
    send_to(&younger, 380000); /* waits */
    usleep(50000);
    client_reset(&younger.c);
    cog_free(younger.body);
    usleep(50000);
    other = begin_upload(f, 290000, 290000);
    end_upload(&other, 200);
    send_to(&older, older.len);
    end_upload(&older, 200);
}

/* Stopping with a body that waits: it is told, or cut, and nothing hangs. */
static void stopping_while_waiting(void **state)
{
    fixture *f = *state;
    upload older = begin_upload(f, 700000, 600000);
    upload younger = begin_upload(f, 390000, 100);

    send_to(&older, 690000);
    usleep(50000);
    send_to(&younger, younger.len);
    usleep(50000);
    kill(getpid(), SIGTERM);
    assert_int_equal(fixture_join(f), 0);
    assert_true(client_is_ended(&older.c));
    assert_true(client_is_ended(&younger.c));
    client_close(&older.c);
    client_close(&younger.c);
    cog_free(older.body);
    cog_free(younger.body);
}

/* A picture that is on its way holds nothing of its body. */
static void pictures_hold_no_body(void **state)
{
    enum { N = 2 };
    fixture *f = *state;
    http_client c[N];
    char *picture = picture_body("x", "FAKE slow=700", ""), *body = cog_alloc(1, 700001);
    http_response r;

    memset(body, ' ', 700000);
    memcpy(body, picture, strlen(picture));
    f->cfg.max_body_bytes = f->cfg.max_inflight_bytes = BUDGET;
    f->cfg.image_workers = 1;
    fixture_start(f);
    for (int i = 0; i < N; i++) {
        c[i] = client_open(f->address);
        client_puts(&c[i], "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                           "Content-Type: application/json\r\nContent-Length: 700000\r\n\r\n");
        client_send(&c[i], body, 700000);
        while (i == 0 && fake_engine_decoding() == 0)
            usleep(1000);
    }
    for (int i = 0; i < N; i++) {
        r = client_read(&c[i], false);
        assert_int_equal(r.status, 200);
        response_fini(&r);
        client_close(&c[i]);
    }
    cog_free(body);
    cog_free(picture);
}

/* ------------------------------------------------------------------ refusals */

/* A full queue is seen before anything of the body is looked at. */
static void refused_before_the_json(void **state)
{
    fixture *f = *state;
    http_client c[FAKE_QUEUE];

    fixture_start(f);
    fake_engine_pause(f->engine, true);
    for (int i = 0; i < FAKE_QUEUE; i++) {
        c[i] = client_open(f->address);
        begin_chat_as(&c[i], "-", "x", "");
        assert_true(fixture_wait(f, fake_engine_live, i + 1));
    }
    expect_error(client_post(f->address, "/v1/chat/completions", "{no json"), 503,
                 "server_is_overloaded");
    for (int i = 0; i < FAKE_QUEUE; i++)
        client_close(&c[i]);
}

/* A place is held from the beginning: of many that come at once as many as fit are answered. */
static void as_many_as_fit(void **state)
{
    enum { N = 12 };
    fixture *f = *state;
    http_client c[N];
    int n_answered = 0;

    fixture_start(f);
    fake_engine_pause(f->engine, true);
    for (int i = 0; i < N; i++) {
        c[i] = client_open(f->address);
        begin_chat_as(&c[i], "-", "x", "");
    }
    assert_true(fixture_wait(f, fake_engine_live, FAKE_QUEUE));
    usleep(100000);
    assert_int_equal(fake_engine_live(f->engine), FAKE_QUEUE);
    fake_engine_pause(f->engine, false);
    for (int i = 0; i < N; i++) {
        http_response r = client_read(&c[i], false);
        assert_true(r.status == 200 || r.status == 503);
        n_answered += r.status == 200;
        response_fini(&r);
        client_close(&c[i]);
    }
    assert_int_equal(n_answered, FAKE_QUEUE);
}

/* What an overloaded server refuses does not count against the client. */
static void refusals_are_not_counted(void **state)
{
    fixture *f = *state;
    http_client c[FAKE_QUEUE];
    http_response r;

    fixture_keys(f, "k rpm=6\n");
    fixture_start(f);
    fake_engine_pause(f->engine, true);
    for (int i = 0; i < FAKE_QUEUE; i++) {
        c[i] = client_open(f->address);
        begin_chat_as(&c[i], "k", "x", "");
        assert_true(fixture_wait(f, fake_engine_live, i + 1));
    }
    for (int i = 0; i < 5; i++)
        expect_error(chat_as(f, "k", "x", ""), 503, "server_is_overloaded");
    fake_engine_pause(f->engine, false);
    for (int i = 0; i < FAKE_QUEUE; i++) {
        r = client_read(&c[i], false);
        assert_int_equal(r.status, 200);
        response_fini(&r);
        client_close(&c[i]);
    }
    r = chat_as(f, "k", "x", "");
    assert_int_equal(r.status, 200);
    assert_string_equal(response_header(&r, "x-ratelimit-remaining-requests"), "1");
    response_fini(&r);
}

#define BUDGETED(name) cmocka_unit_test_setup_teardown(name, setup_budget, teardown)
#define CREATED(name)  cmocka_unit_test_setup_teardown(name, create, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BUDGETED(refused_beside_what_is_here), BUDGETED(promises_take_nothing),
        BUDGETED(who_finds_no_room_waits),     CREATED(waiting_is_no_slowness),
        BUDGETED(the_youngest_gives_way),      BUDGETED(leaving_while_waiting),
        BUDGETED(stopping_while_waiting),      CREATED(pictures_hold_no_body),
        CREATED(refused_before_the_json),      CREATED(as_many_as_fit),
        CREATED(refusals_are_not_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
