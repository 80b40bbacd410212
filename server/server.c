/* server.c - open, run, close: the loop, its wake-ups and signals, and the way down.
 *
 * Stopping has four phases: serving; a delay in which readiness already fails while the listeners
 * stay open, so that balancers notice; draining, in which running requests finish; ending, in which
 * every request has been ended and answers are only flushed. */
#include "server/server.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "proto/json_scan.h"
#include "server/cors.h"
#include "server/files.h"
#include "server/generate.h"
#include "server/internal.h"
#include "server/picture/decoder.h"
#include "server/picture/fetch_url.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    N_WORKERS = 3,       /* for JSON: two large bodies at a time, and small ones beside them */
    END_GRACE_MS = 2000, /* for flushing the last answers and for the engine's last events */
    EVENT_BATCH = 64,
    OTHER_DESCRIPTORS = 128,
};

const cog_server_config cog_server_defaults = {
    .max_body_bytes = 32u << 20,
    .max_connections = 2000,
    .max_inflight_bytes = 512u << 20,
    .header_timeout_ms = 10000,
    .body_idle_timeout_ms = 15000,
    .body_timeout_ms = 120000,
    .keepalive_timeout_ms = 75000,
    .request_timeout_ms = 600000,
    .drain_delay_ms = 5000,
    .drain_timeout_ms = 30000,
    .watchdog_ms = 60000,
    .sse_ping_ms = 15000,
    .max_unsent_bytes = 1u << 20,
    .slow_reader_ms = 30000,
    .max_n = 8,
    .max_images = 1,
    .default_template = COG_TEMPLATE_DEFAULT,
    .image = { .max_bytes = 20u << 20,
               .max_pixels = 89478485,
               .max_side = 32767,
               .max_scans = 100,
               .max_metadata = 1u << 20,
               .max_ms = 5000 },
    .image_helper_ms = 20000,
    .image_pixel_cache = 64u << 20,
    .image_quarantine_ms = 3600000,
    .files_max_bytes = 256u << 20,
    .files_key_bytes = 128u << 20,
    .files_max_count = 1000,
    .files_key_count = 500,
    .files_expiry_ms = 24 * 3600000,
};

/* ------------------------------------------------------------------ phases */

static void enter(cog_server *s, cog_server_phase phase)
{
    static const char *const name[] = { "serving", "delay", "draining", "ending" };

    s->phase = phase;
    s->phase_ns = cog_now_ns();
    cog_log(COG_INFO, "event=phase phase=%s connections=%d requests=%d", name[phase], s->n_open,
            s->n_submitted);
}

/* Whoever watches sees the drain to its end. */
static void stop_listening(cog_server *s)
{
    for (cog_listener *l = s->listeners; l; l = l->next) {
        if (!l->is_metrics)
            cog_listener_stop(l);
    }
}

/* Ends every request with the error; with none the connections are cut. */
static void end_requests(cog_server *s, cog_api_code code)
{
    for (cog_exchange *x = s->exchanges; x; x = x->next) {
        if (!x->mhd || (!x->is_begun && !x->paused_len))
            continue;
        if (code == COG_API_NONE) {
            cog_exchange_abandon(x);
            continue;
        }
        if (x->paused_len) {
            cog_status_text(s, code, &x->verdict);
            cog_body_drop(x);
            continue;
        }
        cog_exchange_fail_code(x, code);
        if (x->route && x->route->cancel)
            x->route->cancel(x);
    }
}

/* Also while a body is still coming in: its request was let in before the end was known. */
static bool has_work(const cog_server *s)
{
    for (const cog_exchange *x = s->exchanges; x; x = x->next) {
        if (x->mhd && (x->is_begun || x->paused_len || x->conn->phase == COG_CONN_BODY))
            return true;
    }
    return false;
}

static bool is_past(const cog_server *s, int limit_ms)
{
    return cog_now_ns() - s->phase_ns >= (uint64_t)limit_ms * 1000000;
}

static void advance(cog_server *s)
{
    switch (s->phase) {
    case COG_SERVER_DELAY:
        if (is_past(s, s->cfg.drain_delay_ms)) {
            stop_listening(s);
            enter(s, COG_SERVER_DRAINING);
        }
        break;
    case COG_SERVER_DRAINING:
        if (!has_work(s) || is_past(s, s->cfg.drain_timeout_ms)) {
            enter(s, COG_SERVER_ENDING);
            end_requests(s, COG_API_DRAINING);
        }
        break;
    case COG_SERVER_ENDING:
        if ((!has_work(s) && s->n_submitted == 0) || is_past(s, END_GRACE_MS))
            uv_stop(&s->loop);
        break;
    default:
        break;
    }
}

static void on_signal(uv_signal_t *h, int number)
{
    cog_server *s = h->data;

    cog_log(COG_INFO, "event=signal number=%d", number);
    if (s->phase == COG_SERVER_SERVING) {
        enter(s, COG_SERVER_DELAY);
        return;
    }
    stop_listening(s);
    enter(s, COG_SERVER_ENDING);
    end_requests(s, COG_API_NONE);
    cog_http_flush(s);
    uv_stop(&s->loop);
}

static void on_hangup(uv_signal_t *h, int number)
{
    cog_server *s = h->data;

    if (s->phase != COG_SERVER_ENDING)
        cog_auth_reload(s);
}

static void check_engine(cog_server *s)
{
    cog_engine_state state;
    char why[560];

    cog_engine_get_state(s->engine, &state);
    if (state.phase != COG_ENGINE_FAILED || s->has_failed)
        return;
    s->has_failed = true;
    cog_log(COG_ERROR, "event=engine_failed reason=%s",
            cog_log_quote(why, sizeof(why), state.err.text));
    stop_listening(s);
    enter(s, COG_SERVER_ENDING);
    end_requests(s, COG_API_INTERNAL);
}

/* ------------------------------------------------------------------ callbacks */

static void take_events(cog_server *s)
{
    cog_event *next;
    int n = 0;

    for (cog_event *ev = cog_engine_take_events(s->engine); ev; ev = next) {
        next = (cog_event *)ev->link.next;
        cog_generate_on_event(ev->user, ev);
        cog_event_free(ev);
        /* Bytes that MHD was not offered yet must not pile up to what a slow reader leaves. */
        if (++n % EVENT_BATCH == 0)
            cog_http_flush(s);
    }
}

static void on_wake(uv_async_t *a)
{
    cog_server *s = a->data;

    if (!s->engine)
        return;
    take_events(s);
    check_engine(s);
    cog_http_flush(s);
}

static void on_sweep(uv_timer_t *t)
{
    cog_server *s = t->data;

    cog_sweep_run(s);
    advance(s);
    cog_http_flush(s);
}

void cog_server_wake(void *server)
{
    uv_async_send(&((cog_server *)server)->async);
}

/* ------------------------------------------------------------------ open */

/* From here on signals wait for the loop: one that comes early neither ends the process nor is
 * lost. */
static void hold_signals(cog_server *s)
{
    const struct {
        uv_signal_t *handle;
        int number;
        uv_signal_cb handler;
    } on[] = { { &s->term, SIGTERM, on_signal },
               { &s->interrupt, SIGINT, on_signal },
               { &s->hangup, SIGHUP, on_hangup } };
    sigset_t held;

    sigemptyset(&held);
    for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++) {
        uv_signal_init(&s->loop, on[i].handle);
        on[i].handle->data = s;
        uv_signal_start(on[i].handle, on[i].handler, on[i].number);
        sigaddset(&held, on[i].number);
    }
    pthread_sigmask(SIG_UNBLOCK, &held, NULL);
}

static void raise_limits(const cog_server_config *cfg)
{
    /* beside connections: files, pictures under way, helpers */
    rlim_t wanted = (rlim_t)cfg->max_connections + COG_PROBE_CONNECTIONS + OTHER_DESCRIPTORS;
    struct rlimit limit = { 0 };

    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < wanted)
        cog_log(COG_WARN, "event=few_descriptors limit=%llu wanted=%llu",
                (unsigned long long)limit.rlim_cur, (unsigned long long)wanted);
}

static int check_config(const cog_server_config *cfg, cog_err *err)
{
    static const char node_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789";

    if (cfg->n_listen < 1)
        return cog_err_set(err, COG_EINVAL, "the server needs an address to listen on");
    if (cfg->n_served_names < 1)
        return cog_err_set(err, COG_EINVAL, "the model needs a name to be served under");
    if (cfg->max_connections < 1)
        return cog_err_set(err, COG_EINVAL, "max_connections is %d, expected at least 1",
                           cfg->max_connections);
    if (cfg->metrics_auth && !cfg->api_key_file)
        return cog_err_set(err, COG_EINVAL,
                           "metrics can only ask for a key where there are keys; set "
                           "--api-key-file, or leave out --metrics-auth");
    if (cfg->files_node && (strlen(cfg->files_node) > COG_FILE_MAX_NODE ||
                            strspn(cfg->files_node, node_chars) != strlen(cfg->files_node)))
        return cog_err_set(err, COG_EINVAL,
                           "files_node is '%.64s', expected at most %d letters and digits, in "
                           "lower case",
                           cfg->files_node, COG_FILE_MAX_NODE);
    for (int i = 0; i < cfg->n_cors_origins; i++) {
        if (cog_cors_check(cfg->cors_origins[i], err) < 0)
            return COG_EINVAL;
    }
    return 0;
}

/* Where pictures may lie beside requests. */
static int open_places(cog_server *s, cog_err *err)
{
    const cog_server_config *cfg = &s->cfg;
    int rc = 0;

    for (int i = 0; i < cfg->n_image_domains && rc == 0; i++)
        rc = cog_fetch_domain_check(cfg->image_domains[i], err);
    if (rc == 0 && cfg->n_image_domains > 0)
        rc = cog_fetcher_open(&s->fetcher, &s->loop, &cog_fetch_defaults, err);
    if (rc == 0 && cfg->media_root)
        rc = cog_media_open(&s->media, cfg->media_root, err);
    return rc;
}

int cog_server_open(cog_server **out, const cog_server_config *cfg, cog_err *err)
{
    cog_server *s = cog_new(cog_server);
    int rc;

    s->cfg = *cfg;
    s->open_ns = cog_now_ns();
    s->created = (int64_t)time(NULL);
    cog_metrics_init(&s->metrics);
    cog_process_open(&s->process);
    raise_limits(cfg);
    cog_json_init();
    uv_loop_init(&s->loop);
    hold_signals(s);
    uv_async_init(&s->loop, &s->async, on_wake);
    s->async.data = s;
    s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    s->grammars = cog_grammars_new();
    s->workers = cog_workers_open(&s->loop, N_WORKERS);
    s->media.fd = -1;
    s->files = cog_files_open(s);
    rc = check_config(cfg, err);
    if (rc == 0)
        rc = cog_decoder_open(&s->decoder, &s->loop, &s->cfg, err);
    if (rc < 0)
        goto fail;
    rc = open_places(s, err);
    if (rc < 0)
        goto fail;
    rc = cog_auth_open(s, err);
    if (rc < 0)
        goto fail;
    for (int i = 0; i < cfg->n_listen; i++) {
        rc = cog_listen(s, cfg->listen[i], false, err);
        if (rc < 0)
            goto fail;
    }
    if (cfg->metrics_listen) {
        rc = cog_listen(s, cfg->metrics_listen, true, err);
        if (rc < 0)
            goto fail;
    }
    rc = cog_http_open(s, err);
    if (rc < 0)
        goto fail;

    *out = s;
    return 0;

fail:
    cog_server_close(s);
    return rc;
}

static const cog_listener *listener_at(const cog_server *s, int idx)
{
    const cog_listener *l = s->listeners;

    while (l && idx-- > 0)
        l = l->next;
    return l;
}

const char *cog_server_address(const cog_server *s, int idx)
{
    const cog_listener *l = listener_at(s, idx);

    return l ? l->address : NULL;
}

bool cog_server_is_metrics_address(const cog_server *s, int idx)
{
    const cog_listener *l = listener_at(s, idx);

    return l && l->is_metrics;
}

/* ------------------------------------------------------------------ run */

static void start(cog_server *s)
{
    unsigned period = cog_sweep_period_ms(&s->cfg);

    uv_timer_init(&s->loop, &s->sweep);
    s->sweep.data = s;
    uv_timer_start(&s->sweep, on_sweep, period, period);
    for (cog_listener *l = s->listeners; l; l = l->next)
        cog_listener_start(l);
}

/* MHD must not be stopped with a suspended connection, and the pool holds jobs that point here. Who
 * does not want to wait for those ends the process with one more SIGTERM; a SIGHUP that comes now
 * still finds its handler. */
static void wind_down(cog_server *s)
{
    end_requests(s, COG_API_NONE);
    cog_http_flush(s);
    for (cog_listener *l = s->listeners; l; l = l->next)
        cog_listener_stop(l);
    cog_http_close(s);
    uv_close((uv_handle_t *)&s->term, NULL);
    uv_close((uv_handle_t *)&s->interrupt, NULL);
    uv_close((uv_handle_t *)&s->sweep, NULL);
    while (s->n_working > 0)
        uv_run(&s->loop, UV_RUN_ONCE);
    take_events(s);
}

int cog_server_run(cog_server *s, cog_engine *e)
{
    s->engine = e;
    enter(s, COG_SERVER_SERVING);
    start(s);
    cog_server_wake(s); /* the engine may have got ready before */
    uv_run(&s->loop, UV_RUN_DEFAULT);
    wind_down(s);
    s->engine = NULL;
    return s->has_failed ? 1 : 0;
}

/* ------------------------------------------------------------------ close */

static void close_handle(uv_handle_t *h, void *arg)
{
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

void cog_server_close(cog_server *s)
{
    if (!s)
        return;
    for (cog_listener *l = s->listeners; l; l = l->next)
        cog_listener_stop(l);
    cog_http_close(s);
    /* What is left waited for events of an engine that is gone. */
    for (cog_exchange *x = s->exchanges, *next; x; x = next) {
        next = x->next;
        x->refs = 1;
        cog_exchange_unref(x);
    }
    cog_decoder_close(s->decoder);
    cog_workers_close(s->workers);
    cog_fetcher_close(s->fetcher);
    uv_walk(&s->loop, close_handle, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_loop_close(&s->loop);
    cog_decoder_free(s->decoder);
    cog_workers_free(s->workers);
    cog_grammars_free(s->grammars);
    cog_media_close(&s->media);
    cog_file_store_free(s->files);
    if (s->spare_fd >= 0)
        close(s->spare_fd);
    cog_process_close(&s->process);
    for (cog_listener *l = s->listeners, *next; l; l = next) {
        next = l->next;
        cog_free(l);
    }
    cog_auth_close(s);
    cog_free(s);
}
