/* Limits of keys over HTTP, and keys that change while the server runs. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/unit/server_fixture.h"

#include <signal.h>
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

static void expect_status(http_response r, int status)
{
    assert_int_equal(r.status, status);
    response_fini(&r);
}

static void expect_header(const http_response *r, const char *name, const char *value)
{
    const char *got = response_header(r, name);

    if (!got || strcmp(got, value) != 0)
        fail_msg("%s: %s, expected %s", name, got ? got : "absent", value);
}

/* 429 as the API has it, and a time to wait that both headers agree on. */
static void expect_limit(http_response r, const char *says)
{
    int s, ms;

    assert_int_equal(r.status, 429);
    assert_string_equal(error_code(&r), "rate_limit_exceeded");
    assert_string_equal(error_member(&r, "type"), "rate_limit_error");
    assert_non_null(strstr(error_member(&r, "message"), says));
    assert_null(strstr(r.body.data, "invalid_request_error"));
    s = atoi(response_header(&r, "Retry-After"));
    assert_true(s >= 1 && s <= 60);
    ms = atoi(response_header(&r, "retry-after-ms"));
    assert_true(ms > (s - 1) * 1000 && ms <= s * 1000);
    response_fini(&r);
}

static void requests_per_minute(void **state)
{
    fixture *f = *state;
    http_response r;

    f->cfg.key_rpm = 2;
    fixture_keys(f, "slow\nfast rpm=1000\nfree rpm=0\n");
    fixture_start(f);
    r = chat_as(f, "slow", "x", "");
    assert_int_equal(r.status, 200);
    expect_header(&r, "x-ratelimit-limit-requests", "2");
    expect_header(&r, "x-ratelimit-remaining-requests", "1");
    assert_non_null(response_header(&r, "x-ratelimit-reset-requests"));
    assert_null(response_header(&r, "x-ratelimit-limit-tokens"));
    response_fini(&r);
    r = chat_as(f, "slow", "x", ",\"stream\":true");
    expect_header(&r, "x-ratelimit-remaining-requests", "0");
    expect_header(&r, "x-ratelimit-reset-requests", "1m0s");
    response_fini(&r);
    expect_limit(chat_as(f, "slow", "x", ""), "2 requests per minute");
    for (int i = 0; i < 5; i++) {
        expect_status(chat_as(f, "fast", "x", ""), 200);
        r = chat_as(f, "free", "x", "");
        assert_int_equal(r.status, 200);
        assert_null(response_header(&r, "x-ratelimit-limit-requests"));
        response_fini(&r);
    }
    assert_int_equal(fake_engine_accepted(f->engine), 12);
}

/* Nothing of the body is looked at, and none is wanted from a client that asks first. */
static void refused_before_the_body(void **state)
{
    fixture *f = *state;
    http_client c;
    http_response r;

    fixture_keys(f, "k rpm=1\n");
    fixture_start(f);
    expect_status(chat_as(f, "k", "x", ""), 200);
    expect_limit(chat_as(f, "k", "x", ",\"n\":0"), "1 requests per minute");
    c = client_open(f->address);
    client_puts(&c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
                    "Content-Type: application/json\r\nContent-Length: 1000000\r\n"
                    "Expect: 100-continue\r\n\r\n");
    r = client_read(&c, false);
    expect_limit(r, "1 requests per minute");
    client_close(&c);
}

static void tokens_per_minute(void **state)
{
    fixture *f = *state;
    http_response r;

    fixture_keys(f, "k tpm=100\n");
    fixture_start(f);
    r = chat_as(f, "k", "count=50", ""); /* 9 of the prompt, 50 of the answer */
    assert_int_equal(r.status, 200);
    expect_header(&r, "x-ratelimit-limit-tokens", "100");
    response_fini(&r);
    r = chat_as(f, "k", "count=50 and some more words to make it forty", "");
    expect_limit(r, "100 tokens per minute"); /* 46 where 41 are left */
    r = chat_as(f, "k", "count=99", "");      /* fits, and leaves a debt */
    assert_int_equal(r.status, 200);
    response_fini(&r);
    expect_limit(chat_as(f, "k", "x", ""), "100 tokens per minute");
    assert_int_equal(fake_engine_accepted(f->engine), 2);
}

/* A picture in the body is not looked into before the limits have been asked. */
static void refused_before_the_picture(void **state)
{
    fixture *f = *state;
    char *fine = picture_body("x", "FAKE", "");
    char *broken = cog_strdup(fine);
    int decoded = fake_engine_decoded();

    strstr(broken, "base64,")[7] = '?';
    f->cfg.key_tpm = 100;
    fixture_start(f);
    expect_status(client_post(f->address, "/v1/chat/completions", broken), 400);
    expect_status(client_post(f->address, "/v1/chat/completions", fine), 200);
    assert_int_equal(fake_engine_decoded(), decoded + 1);
    expect_status(chat(f, "count=45", ""), 200); /* what is left is less than a picture */
    for (int i = 0; i < 3; i++) {
        expect_limit(client_post(f->address, "/v1/chat/completions", fine), "100 tokens");
        expect_limit(client_post(f->address, "/v1/chat/completions", broken), "100 tokens");
    }
    assert_int_equal(fake_engine_decoded(), decoded + 1);
    cog_free(broken);
    cog_free(fine);
}

/* A place is given back however a request ends. */
static void requests_at_a_time(void **state)
{
    fixture *f = *state;
    http_client c[2];

    fixture_keys(f, "k concurrent=2\nother\n");
    fixture_start(f);
    for (int i = 0; i < 2; i++) {
        c[i] = client_open(f->address);
        begin_chat_as(&c[i], "k", "hold", "");
    }
    assert_true(fixture_wait(f, fake_engine_live, 2));
    expect_limit(chat_as(f, "k", "x", ""), "2 requests at a time");
    expect_status(chat_as(f, "other", "x", ""), 200);
    client_close(&c[0]);
    assert_true(fixture_wait(f, fake_engine_live, 1));
    for (int i = 0; i < 20; i++) {
        expect_status(chat_as(f, "k", "x", i % 2 ? "" : ",\"stream\":true"), 200);
        expect_status(chat_as(f, "k", "x", ",\"n\":0"), 400);
    }
    client_reset(&c[1]);
}

/* Without keys all clients together are one. */
static void limits_without_keys(void **state)
{
    fixture *f = *state;

    f->cfg.key_rpm = 3;
    fixture_start(f);
    for (int i = 0; i < 3; i++)
        expect_status(chat(f, "x", ""), 200);
    expect_limit(chat(f, "x", ""), "3 requests per minute");
    expect_status(client_get(f->address, "/v1/models"), 200);
    expect_status(client_get(f->address, "/readyz"), 200);
}

/* ------------------------------------------------------------------ SIGHUP */

/* Until a key is taken, or refused, as it should be now. */
static void wait_status(fixture *f, const char *key, int status)
{
    uint64_t end = cog_now_ns() + (uint64_t)CLIENT_WAIT_MS * 1000000;

    for (;;) {
        http_response r = chat_as(f, key, "x", "");
        int got = r.status;

        response_fini(&r);
        if (got == status)
            return;
        assert_true(cog_now_ns() < end);
        usleep(2000);
    }
}

static void keys_are_read_again(void **state)
{
    fixture *f = *state;
    http_client old;
    http_response r;

    fixture_keys(f, "one\ntwo\n");
    fixture_start(f);
    old = client_open(f->address);
    begin_chat_as(&old, "one", "count=300 every=5", "");
    assert_true(fixture_wait(f, fake_engine_live, 1));
    expect_status(chat_as(f, "three", "x", ""), 401);
    fixture_keys(f, "two\nthree\n");
    kill(getpid(), SIGHUP);
    wait_status(f, "three", 200);
    expect_status(chat_as(f, "two", "x", ""), 200);
    expect_status(chat_as(f, "one", "x", ""), 401);
    r = client_read(&old, false); /* what ran goes on */
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body.data, "t299 "));
    response_fini(&r);
    begin_chat_as(&old, "one", "x", ""); /* but its connection has no key any more */
    expect_status(client_read(&old, false), 401);
    client_close(&old);
}

static void a_bad_file_changes_nothing(void **state)
{
    static const char *const bad[] = { "", "two\nnot a key\n", "two rpm=many\n" };
    fixture *f = *state;

    fixture_keys(f, "one\n");
    fixture_start(f);
    expect_status(chat_as(f, "one", "x", ""), 200); /* the signal has its handler by now */
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fixture_keys(f, bad[i]);
        kill(getpid(), SIGHUP);
        usleep(50000);
        expect_status(chat_as(f, "one", "x", ""), 200);
        expect_status(chat_as(f, "two", "x", ""), 401);
    }
    unlink(f->key_file);
    kill(getpid(), SIGHUP);
    usleep(50000);
    expect_status(chat_as(f, "one", "x", ""), 200);
    fixture_keys(f, "two\n"); /* and a good one is still taken */
    kill(getpid(), SIGHUP);
    wait_status(f, "two", 200);
}

static void reading_again_gives_no_new_minute(void **state)
{
    fixture *f = *state;

    fixture_keys(f, "k rpm=2\nx\n");
    fixture_start(f);
    expect_status(chat_as(f, "k", "x", ""), 200);
    expect_status(chat_as(f, "k", "x", ""), 200);
    fixture_keys(f, "new\nk rpm=3\n");
    kill(getpid(), SIGHUP);
    wait_status(f, "new", 200);
    expect_status(chat_as(f, "k", "x", ""), 200);
    expect_limit(chat_as(f, "k", "x", ""), "3 requests per minute");
}

static void without_a_file(void **state)
{
    fixture *f = *state;

    fixture_start(f);
    expect_status(chat(f, "x", ""), 200);
    kill(getpid(), SIGHUP);
    usleep(50000);
    expect_status(chat(f, "x", ""), 200);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, create, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(requests_per_minute),
        TEST(refused_before_the_body),
        TEST(tokens_per_minute),
        TEST(refused_before_the_picture),
        TEST(requests_at_a_time),
        TEST(limits_without_keys),
        TEST(keys_are_read_again),
        TEST(a_bad_file_changes_nothing),
        TEST(reading_again_gives_no_new_minute),
        TEST(without_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
