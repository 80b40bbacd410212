/* /metrics over HTTP, over the engine's double: where requests are, how they end, what a scrape may
 * see. That a page is good Prometheus text, and all names are there, is tests/e2e/metrics.py's. */
#include "tests/unit/unit.h"

#include "tests/unit/server_fixture.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHAT "/v1/chat/completions"

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

/* ------------------------------------------------------------------ reading a page */

static char *page_of(const char *address)
{
    http_response r = client_get(address, "/metrics");
    char *page;

    assert_int_equal(r.status, 200);
    assert_string_equal(response_header(&r, "Content-Type"),
                        "text/plain; version=0.0.4; charset=utf-8");
    page = cog_strdup(r.body.data);
    response_fini(&r);
    return page;
}

/* The value of a series, written as it is in the page; NAN when it is not there. */
static double value_in(const char *page, const char *series)
{
    size_t len = strlen(series);

    for (const char *at = page; (at = strstr(at, series)); at++) {
        if ((at == page || at[-1] == '\n') && at[len] == ' ')
            return strtod(at + len + 1, NULL);
    }
    return NAN;
}

static double value_of(fixture *f, const char *series)
{
    char *page = page_of(f->address);
    double value = value_in(page, series);

    cog_free(page);
    if (isnan(value))
        fail_msg("there is no %s", series);
    return value;
}

static void wait_at(const char *address, const char *series, double want)
{
    uint64_t end = cog_now_ns() + (uint64_t)CLIENT_WAIT_MS * 1000000;

    for (;;) {
        char *page = page_of(address);
        double value = value_in(page, series);

        cog_free(page);
        if (value == want)
            return;
        if (cog_now_ns() > end)
            fail_msg("%s is %g, not %g", series, value, want);
        usleep(1000);
    }
}

static void wait_value(fixture *f, const char *series, double want)
{
    wait_at(f->address, series, want);
}

/* The sum over all series of a family. */
static double total_in(const char *page, const char *name)
{
    size_t len = strlen(name);
    double sum = 0;

    for (const char *at = page; (at = strstr(at, name)); at++) {
        if ((at == page || at[-1] == '\n') && (at[len] == '{' || at[len] == ' '))
            sum += strtod(strchr(at, ' ') + 1, NULL);
    }
    return sum;
}

/* Every request is counted once: as one that ended, or where it is. */
static void expect_balance(const char *page)
{
    assert_true(total_in(page, "cogwheel_requests_total") ==
                total_in(page, "cogwheel_requests_ended_total") +
                    total_in(page, "cogwheel_requests_in_stage"));
    assert_true(value_in(page, "cogwheel_requests_ended_total{reason=\"rejected\"}") ==
                total_in(page, "cogwheel_rejected_total"));
}

#define STAGE(name)   "cogwheel_requests_in_stage{stage=\"" name "\"}"
#define LEFT(name)    "cogwheel_client_disconnects_total{stage=\"" name "\"}"
#define ENDED(reason) "cogwheel_requests_ended_total{reason=\"" reason "\"}"
#define REJECTED(why) "cogwheel_rejected_total{reason=\"" why "\"}"
#define VLLM(name)    "vllm:" name "{model_name=\"test\",engine=\"0\"}"
#define FINISHED(why) \
    "vllm:request_success_total{model_name=\"test\",engine=\"0\",finished_reason=\"" why "\"}"

/* ------------------------------------------------------------------ sending */

/* A POST of which the answer is not waited for. */
static http_client begin(fixture *f, const char *body)
{
    http_client c = client_open(f->address);
    char *head =
        cog_sprintf("POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    "Content-Length: %zu\r\n\r\n",
                    strlen(body));

    assert_true(client_puts(&c, head));
    assert_true(client_puts(&c, body));
    cog_free(head);
    return c;
}

static http_client begin_text(fixture *f, const char *text, const char *more)
{
    char *body = chat_body(text, more);
    http_client c = begin(f, body);

    cog_free(body);
    return c;
}

static http_client begin_picture(fixture *f, const char *picture)
{
    char *body = picture_body("x", picture, "");
    http_client c = begin(f, body);

    cog_free(body);
    return c;
}

static void answer(fixture *f, const char *text, const char *more, int status)
{
    http_response r = chat(f, text, more);

    assert_int_equal(r.status, status);
    response_fini(&r);
}

/* ------------------------------------------------------------------ tests */

static void an_answer_is_counted_once_everywhere(void **state)
{
    fixture *f = *state;
    char *page;

    fixture_start(f);
    answer(f, "count=5 every=2", "", 200);
    answer(f, "count=9", ",\"max_tokens\":3,\"n\":2", 200);
    wait_value(f, ENDED("length"), 1);
    page = page_of(f->address);
    assert_true(value_in(page, "cogwheel_requests_total") == 2);
    assert_true(value_in(page, FINISHED("stop")) == 1);
    assert_true(value_in(page, FINISHED("length")) == 1);
    assert_true(value_in(page, FINISHED("abort")) == 0);
    assert_true(value_in(page, VLLM("time_to_first_token_seconds_count")) == 2);
    assert_true(value_in(page, VLLM("e2e_request_latency_seconds_count")) == 2);
    assert_true(value_in(page, VLLM("inter_token_latency_seconds_count")) == 4 + 2 * 2);
    assert_true(value_in(page, VLLM("inter_token_latency_seconds_sum")) >= 4 * 0.002);
    assert_true(value_in(page, VLLM("request_time_per_output_token_seconds_count")) == 2);
    assert_true(value_in(page, VLLM("request_generation_tokens_sum")) == 5 + 2 * 3);
    assert_true(value_in(page, VLLM("request_max_num_generation_tokens_sum")) == 5 + 3);
    assert_true(value_in(page, VLLM("request_params_n_sum")) == 1 + 2);
    assert_true(value_in(page, VLLM("request_queue_time_seconds_sum")) == 0.002);
    assert_true(value_in(page, VLLM("request_inference_time_seconds_sum")) == 0.01);
    assert_true(value_in(page, "cogwheel_stage_seconds_count{stage=\"decode\"}") == 2);
    assert_true(value_in(page, "cogwheel_stage_seconds_count{stage=\"encode\"}") == 0);
    assert_true(value_in(page,
                         "http_requests_total{handler=\"/v1/chat/completions\",method=\"POST\","
                         "status=\"2xx\"}") == 2);
    expect_balance(page);
    cog_free(page);
}

static void first_token_is_when_it_is_written(void **state)
{
    fixture *f = *state;
    http_client c;

    fixture_start(f);
    answer(f, "count=2 first=30", ",\"stream\":true", 200);
    wait_value(f, ENDED("stop"), 1);
    assert_true(value_of(f, VLLM("time_to_first_token_seconds_sum")) >= 0.03);
    /* no token, no time to it */
    c = begin_text(f, "hold", ",\"stream\":true");
    wait_value(f, STAGE("prefill"), 1);
    client_close(&c);
    wait_value(f, ENDED("abort"), 1);
    assert_true(value_of(f, VLLM("time_to_first_token_seconds_count")) == 1);
}

/* The first page with one picture being decoded and two waiting for that. Owned by the caller. */
static char *page_of_pictures(fixture *f)
{
    uint64_t end = cog_now_ns() + (uint64_t)CLIENT_WAIT_MS * 1000000;

    for (;;) {
        char *page = page_of(f->address);

        if (value_in(page, STAGE("image_wait")) == 2 && value_in(page, STAGE("image_decode")) == 1)
            return page;
        cog_free(page);
        if (cog_now_ns() > end)
            fail_msg("never seen three pictures under way");
        usleep(1000);
    }
}

static void waiting_counts_pictures_under_way(void **state)
{
    fixture *f = *state;
    http_client c[3];
    char *page;

    f->cfg.image_workers = 1;
    fixture_start(f);
    for (int i = 0; i < 3; i++)
        c[i] = begin_picture(f, "FAKE slow=600");
    page = page_of_pictures(f);
    assert_true(value_in(page, VLLM("num_requests_waiting")) == 3);
    assert_true(value_in(page, VLLM("num_requests_running")) == 0);
    expect_balance(page);
    cog_free(page);
    for (int i = 0; i < 3; i++) {
        http_response r = client_read(&c[i], false);
        assert_int_equal(r.status, 200);
        response_fini(&r);
        client_close(&c[i]);
    }
    wait_value(f, ENDED("stop"), 3);
    assert_true(value_of(f, "cogwheel_images_total{format=\"unknown\",result=\"ok\"}") == 3);
    assert_true(value_of(f, "cogwheel_stage_seconds_count{stage=\"image_decode\"}") == 3);
    assert_true(value_of(f, "cogwheel_stage_seconds_sum{stage=\"image_wait\"}") >= 0.6);
    assert_true(value_of(f, "cogwheel_stage_seconds_count{stage=\"encode\"}") == 3);
}

static void the_engines_queue_is_waiting(void **state)
{
    fixture *f = *state;
    http_client c[3];

    fixture_start(f);
    fake_engine_pause(f->engine, true);
    for (int i = 0; i < 3; i++)
        c[i] = begin_text(f, "hold", "");
    wait_value(f, STAGE("queue"), 3);
    assert_true(value_of(f, VLLM("num_requests_waiting")) == 3);
    fake_engine_pause(f->engine, false);
    wait_value(f, STAGE("prefill"), 3);
    assert_true(value_of(f, VLLM("num_requests_waiting")) == 0);
    assert_true(value_of(f, VLLM("num_requests_running")) == 3);
    for (int i = 0; i < 3; i++)
        client_close(&c[i]);
    wait_value(f, LEFT("prefill"), 3);
    assert_true(value_of(f, ENDED("abort")) == 3);
}

/* Leaves one client after the other at each stage; each is one disconnect there, and one end. */
static void clients_leave_at_every_stage(void **state)
{
    fixture *f = *state;
    http_client c, busy;
    char *page;

    f->cfg.image_workers = 1;
    fixture_start(f);
    c = client_open(f->address);
    client_puts(&c, "POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    "Content-Length: 100\r\n\r\n{");
    wait_value(f, STAGE("read"), 1);
    client_close(&c);
    wait_value(f, LEFT("read"), 1);

    busy = begin_picture(f, "FAKE slow=1000");
    wait_value(f, STAGE("image_decode"), 1);
    c = begin_picture(f, "FAKE");
    wait_value(f, STAGE("image_wait"), 1);
    client_reset(&c);
    wait_value(f, LEFT("image_wait"), 1);
    client_close(&busy);
    wait_value(f, LEFT("image_decode"), 1);

    fake_engine_pause(f->engine, true);
    c = begin_text(f, "x", "");
    wait_value(f, STAGE("queue"), 1);
    client_close(&c);
    wait_value(f, LEFT("queue"), 1);
    fake_engine_pause(f->engine, false);

    c = begin_text(f, "count=1000 every=20", ",\"stream\":true");
    wait_value(f, STAGE("decode"), 1);
    client_close(&c);
    wait_value(f, LEFT("decode"), 1);

    wait_value(f, ENDED("abort"), 5);
    page = page_of(f->address);
    assert_true(total_in(page, "cogwheel_requests_in_stage") == 0);
    assert_true(total_in(page, "cogwheel_images_total") == 2);
    expect_balance(page);
    cog_free(page);
}

static void refusals_have_their_reasons(void **state)
{
    static const struct {
        const char *picture, *result;
    } bad[] = { { "BROKEN", "image_parse_error" },
                { "LARGE", "image_too_large" },
                { "what is it", "unsupported_image_media_type" } };
    fixture *f = *state;
    http_client full[FAKE_QUEUE];
    http_response r;
    char *page, *text;

    fixture_start(f);
    r = client_post(f->address, CHAT, "{");
    response_fini(&r);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *body = picture_body("x", bad[i].picture, "");
        char series[128];

        r = client_post(f->address, CHAT, body);
        assert_int_equal(r.status, 400);
        response_fini(&r);
        cog_free(body);
        snprintf(series, sizeof(series), "cogwheel_images_total{format=\"unknown\",result=\"%s\"}",
                 bad[i].result);
        assert_true(value_of(f, series) == 1);
    }
    text = cog_alloc(FAKE_CONTEXT + 10, 1);
    memset(text, 'x', FAKE_CONTEXT + 9);
    answer(f, text, "", 400);
    cog_free(text);
    fake_engine_pause(f->engine, true);
    for (int i = 0; i < FAKE_QUEUE; i++)
        full[i] = begin_text(f, "x", "");
    wait_value(f, STAGE("queue"), FAKE_QUEUE);
    answer(f, "x", "", 503);
    fake_engine_pause(f->engine, false);
    for (int i = 0; i < FAKE_QUEUE; i++) {
        r = client_read(&full[i], false);
        response_fini(&r);
        client_close(&full[i]);
    }
    fake_engine_set_phase(f->engine, COG_ENGINE_LOADING, 0.5);
    answer(f, "x", "", 503);
    fake_engine_set_phase(f->engine, COG_ENGINE_READY, 1);
    answer(f, "fail=1", "", 500);
    wait_value(f, ENDED("error"), 1);
    page = page_of(f->address);
    assert_true(value_in(page, REJECTED("invalid")) == 1);
    assert_true(value_in(page, REJECTED("bad_image")) == 3);
    assert_true(value_in(page, REJECTED("context")) == 1);
    assert_true(value_in(page, REJECTED("overloaded")) == 1);
    assert_true(value_in(page, REJECTED("loading")) == 1);
    assert_true(value_in(page, FINISHED("error")) == 1);
    assert_true(value_in(page, FINISHED("stop")) == FAKE_QUEUE);
    expect_balance(page);
    cog_free(page);
}

static void keys_and_their_limits_are_reasons(void **state)
{
    static const struct {
        const char *key;
        int status;
    } asks[] = { { "k", 200 }, { "k", 429 }, { "k", 429 }, { "other", 401 } };
    fixture *f = *state;

    fixture_keys(f, "k rpm=1\n");
    fixture_start(f);
    for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
        http_response r = chat_as(f, asks[i].key, "x", "");
        assert_int_equal(r.status, asks[i].status);
        response_fini(&r);
    }
    wait_value(f, ENDED("stop"), 1);
    wait_value(f, REJECTED("rate_limit"), 2);
    wait_value(f, REJECTED("invalid"), 1);
}

/* Whoever watches sees a drain to its end. */
static void a_drain_can_be_watched(void **state)
{
    fixture *f = *state;
    http_client busy, late;
    const char *watch;
    http_response r;

    f->cfg.metrics_listen = "127.0.0.1:0";
    f->cfg.drain_delay_ms = 200;
    f->cfg.drain_timeout_ms = CLIENT_WAIT_MS;
    fixture_start(f);
    watch = cog_server_address(f->server, 1);
    busy = begin_text(f, "hold", "");
    late = client_open(f->address);
    wait_at(watch, STAGE("prefill"), 1);
    kill(getpid(), SIGTERM);
    do {
        r = client_get(watch, "/readyz");
        response_fini(&r);
    } while (r.status != 503);
    client_puts(&late, "POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                       "Content-Length: 2\r\n\r\n{}");
    r = client_read(&late, false);
    assert_int_equal(r.status, 503);
    response_fini(&r);
    client_close(&late);
    wait_at(watch, REJECTED("draining"), 1);
    usleep(300000); /* the delay is over, the listeners for requests are closed */
    wait_at(watch, STAGE("prefill"), 1);
    client_close(&busy);
    assert_int_equal(fixture_join(f), 0);
}

static void other_addresses_are_no_requests(void **state)
{
    static const char *const gets[] = { "/livez", "/v1/models", "/v1/models/test", "/nothing" };
    fixture *f = *state;
    http_client c;
    http_response r;
    char *page;

    fixture_start(f);
    for (size_t i = 0; i < sizeof(gets) / sizeof(gets[0]); i++) {
        r = client_get(f->address, gets[i]);
        response_fini(&r);
    }
    c = client_open(f->address);
    client_puts(&c, "BREW /\"{}\\ HTTP/1.1\r\nHost: x\r\n\r\n");
    r = client_read(&c, false);
    assert_int_equal(r.status, 404);
    response_fini(&r);
    client_close(&c);
    page = page_of(f->address);
    assert_true(
        value_in(page, "http_requests_total{handler=\"none\",method=\"other\",status=\"4xx\"}") ==
        1);
    assert_true(total_in(page, "cogwheel_requests_total") == 0);
    assert_true(total_in(page, "cogwheel_requests_in_stage") == 0);
    assert_true(value_in(page, "http_requests_total{handler=\"/v1/models/{id}\",method=\"GET\","
                               "status=\"2xx\"}") == 1);
    assert_true(value_in(page, "http_requests_total{handler=\"/livez\",method=\"GET\","
                               "status=\"2xx\"}") == 1);
    assert_true(
        value_in(page, "http_requests_total{handler=\"none\",method=\"GET\",status=\"4xx\"}") == 1);
    assert_null(strstr(page, "BREW"));
    cog_free(page);
}

static void retries_are_counted(void **state)
{
    fixture *f = *state;
    static const char *const counts[] = { "0", "1", "2", "x" };

    fixture_start(f);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        http_client c = client_open(f->address);
        char *request = cog_sprintf("POST " CHAT " HTTP/1.1\r\nHost: x\r\n"
                                    "X-Stainless-Retry-Count: %s\r\nContent-Length: 2\r\n"
                                    "Content-Type: application/json\r\n\r\n{}",
                                    counts[i]);
        http_response r;

        client_puts(&c, request);
        r = client_read(&c, false);
        assert_int_equal(r.status, 400);
        response_fini(&r);
        client_close(&c);
        cog_free(request);
    }
    assert_true(value_of(f, "cogwheel_sdk_retries_total") == 2);
}

static void slow_senders_are_refusals(void **state)
{
    fixture *f = *state;
    http_client c;

    f->cfg.body_idle_timeout_ms = 50;
    fixture_start(f);
    c = client_open(f->address);
    client_puts(&c, "POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    "Content-Length: 100\r\n\r\n{");
    wait_value(f, REJECTED("invalid"), 1);
    assert_true(value_of(f, LEFT("read")) == 0);
    assert_true(value_of(f, "http_requests_total{handler=\"/v1/chat/completions\",method=\"POST\","
                            "status=\"4xx\"}") == 1);
    client_close(&c);
}

/* ------------------------------------------------------------------ who may look */

static void a_key_where_one_is_asked_for(void **state)
{
    fixture *f = *state;
    http_client c;
    http_response r;

    fixture_keys(f, "secret\n");
    f->cfg.metrics_auth = true;
    fixture_start(f);
    r = client_get(f->address, "/metrics");
    assert_int_equal(r.status, 401);
    response_fini(&r);
    c = client_open(f->address);
    client_puts(&c, "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n");
    r = client_read(&c, false);
    assert_int_equal(r.status, 200);
    response_fini(&r);
    client_close(&c);
}

static void a_key_needs_keys(void **state)
{
    fixture *f = *state;
    cog_server *s = NULL;
    cog_err err = { 0 };

    f->cfg.metrics_auth = true;
    assert_int_equal(cog_server_open(&s, &f->cfg, &err), COG_EINVAL);
    assert_non_null(strstr(err.text, "--metrics-auth"));
    assert_null(s);
}

static void expect_get(const char *address, const char *path, int status)
{
    http_response r = client_get(address, path);

    if (r.status != status)
        fail_msg("%s: %d", path, r.status);
    response_fini(&r);
}

static void an_address_of_their_own(void **state)
{
    fixture *f = *state;
    http_client idle[8];
    const char *watch;
    http_response r;

    f->cfg.metrics_listen = "0.0.0.0:0"; /* needs neither keys nor --insecure */
    f->cfg.max_connections = 8;
    fixture_start(f);
    watch = cog_server_address(f->server, 1);
    expect_get(f->address, "/metrics", 404);
    expect_get(f->address, "/livez", 200);
    expect_get(f->address, "/v1/models", 200);
    expect_get(watch, "/metrics", 200);
    expect_get(watch, "/livez", 200);
    expect_get(watch, "/v1/models", 404);
    r = client_post(watch, CHAT, "{}");
    assert_int_equal(r.status, 404);
    response_fini(&r);
    /* a full server can still be watched */
    wait_at(watch, "cogwheel_connections", 0);
    for (int i = 0; i < 8; i++)
        idle[i] = client_open(f->address);
    wait_at(watch, "cogwheel_connections", 8);
    expect_get(f->address, "/livez", 200);
    expect_get(f->address, "/v1/models", 503);
    expect_get(watch, "/livez", 200);
    wait_at(watch, "cogwheel_connections_refused_total", 1);
    for (int i = 0; i < 8; i++)
        client_close(&idle[i]);
}

static void only_our_own_names(void **state)
{
    fixture *f = *state;
    char *page;

    f->cfg.metrics_own_only = true;
    fixture_start(f);
    page = page_of(f->address);
    for (const char *line = page; *line; line = strchr(line, '\n') + 1)
        assert_true(*line == '#' || strncmp(line, "cogwheel_", 9) == 0);
    cog_free(page);
}

static void a_name_is_escaped(void **state)
{
    static const char *const names[] = { "a\"b\\c\nd" };
    fixture *f = *state;
    char *page;

    f->cfg.served_names = names;
    f->cfg.n_served_names = 1;
    fixture_start(f);
    page = page_of(f->address);
    assert_non_null(strstr(page, "{model_name=\"a\\\"b\\\\c\\nd\",engine=\"0\"} 0\n"));
    cog_free(page);
}

static void a_page_while_it_loads(void **state)
{
    fixture *f = *state;
    char *page;

    fake_engine_set_phase(f->engine, COG_ENGINE_LOADING, 0.5);
    fixture_start(f);
    page = page_of(f->address);
    assert_true(value_in(page, VLLM("request_prompt_tokens_count")) == 0);
    assert_non_null(strstr(page, "cogwheel_build_info{version=\"" COG_VERSION "\",commit=\""));
    cog_free(page);
    fake_engine_set_phase(f->engine, COG_ENGINE_READY, 1);
    page = page_of(f->address);
    assert_true(value_in(page, "vllm:request_prompt_tokens_bucket{model_name=\"test\",engine=\"0\","
                               "le=\"2000.0\"}") == 0);
    assert_null(strstr(page, "engine=\"0\",le=\"5000.0\"")); /* the context is 4000 */
    cog_free(page);
}

static void beats_and_the_process(void **state)
{
    fixture *f = *state;
    char *page;
    double cpu;

    fixture_start(f);
    page = page_of(f->address);
    cpu = value_in(page, "process_cpu_seconds_total");
    assert_true(cpu > 0);
    assert_true(value_in(page, "process_resident_memory_bytes") > 1e6);
    assert_true(value_in(page, "process_open_fds") > 5);
    assert_true(fabs(value_in(page, "process_start_time_seconds") - (double)time(NULL)) < 600);
    cog_free(page);
    fake_engine_stall(f->engine);
    usleep(20000);
    page = page_of(f->address);
    assert_true(value_in(page, "process_cpu_seconds_total") >= cpu);
    assert_true(value_in(page, "cogwheel_engine_heartbeat_age_seconds") >= 0.02);
    cog_free(page);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, create, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_is_counted_once_everywhere),
        TEST(first_token_is_when_it_is_written),
        TEST(waiting_counts_pictures_under_way),
        TEST(the_engines_queue_is_waiting),
        TEST(clients_leave_at_every_stage),
        TEST(refusals_have_their_reasons),
        TEST(keys_and_their_limits_are_reasons),
        TEST(a_drain_can_be_watched),
        TEST(other_addresses_are_no_requests),
        TEST(retries_are_counted),
        TEST(slow_senders_are_refusals),
        TEST(a_key_where_one_is_asked_for),
        TEST(a_key_needs_keys),
        TEST(an_address_of_their_own),
        TEST(only_our_own_names),
        TEST(a_name_is_escaped),
        TEST(a_page_while_it_loads),
        TEST(beats_and_the_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
