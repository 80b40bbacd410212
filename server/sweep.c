/* sweep.c - what only time can find: requests that come too slowly, idle connections, readers that
 * stopped reading, and streams that have been silent for so long that a proxy may cut them. */
#include "server/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/sse.h"

#include <time.h>

enum { EXTRA_MS = 2000 }; /* for the head, on a connection that is kept free for probes */

static bool is_over(uint64_t now, uint64_t since, int limit_ms)
{
    return limit_ms > 0 && now >= since && now - since > (uint64_t)limit_ms * 1000000;
}

/* Fine enough for the shortest limit, and no finer than ten times a second needs. */
unsigned cog_sweep_period_ms(const cog_server_config *cfg)
{
    const int limits[] = { cfg->header_timeout_ms, cfg->body_idle_timeout_ms,
                           cfg->body_timeout_ms,   cfg->keepalive_timeout_ms,
                           cfg->sse_ping_ms,       cfg->slow_reader_ms,
                           cfg->drain_delay_ms,    cfg->drain_timeout_ms,
                           cfg->request_timeout_ms };
    int period = 250;

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        if (limits[i] > 0 && limits[i] / 4 < period)
            period = limits[i] / 4;
    }
    return period < 10 ? 10 : (unsigned)period;
}

static void check_conn(const cog_server *s, cog_conn *c, uint64_t now)
{
    const cog_server_config *cfg = &s->cfg;
    bool is_late = false;

    switch (c->phase) {
    case COG_CONN_NEW:
    case COG_CONN_HEAD:
        is_late = is_over(now, c->phase_ns, cfg->header_timeout_ms) ||
                  (c->is_extra && is_over(now, c->phase_ns, EXTRA_MS));
        break;
    case COG_CONN_BODY:
        is_late = is_over(now, c->phase_ns, cfg->body_timeout_ms) ||
                  is_over(now, c->body_ns, cfg->body_idle_timeout_ms);
        break;
    case COG_CONN_IDLE:
        if (is_over(now, c->phase_ns, cfg->keepalive_timeout_ms))
            shutdown(c->fd, SHUT_RDWR);
        return;
    case COG_CONN_PAUSED:
    case COG_CONN_BUSY:
        return;
    }
    if (!is_late)
        return;
    cog_log(COG_INFO, "event=request_timeout phase=%s",
            c->phase == COG_CONN_BODY ? "body" : "head");
    for (cog_exchange *x = s->exchanges; x; x = x->next) {
        if (x->mhd && x->conn == c) {
            x->answered = 408;
            x->record.error = COG_API_REQUEST_TIMEOUT;
        }
    }
    cog_http_refuse(c->fd, COG_API_REQUEST_TIMEOUT);
    shutdown(c->fd, SHUT_RDWR); /* MHD reads the end and cleans up */
    c->phase = COG_CONN_BUSY;
}

static void check_stream(const cog_server *s, cog_exchange *x, uint64_t now)
{
    if (!x->is_stream || x->is_gone || x->is_stream_done)
        return;
    if (!x->out.len && is_over(now, x->wrote_ns, s->cfg.sse_ping_ms)) {
        cog_sse_ping(&x->out);
        cog_exchange_send(x);
    }
}

static void check_reader(const cog_server *s, cog_exchange *x, uint64_t now)
{
    if (!x->is_streaming || x->is_gone || !x->out.len ||
        !is_over(now, x->taken_ns, s->cfg.slow_reader_ms))
        return;
    cog_log(COG_WARN, "event=slow_reader id=%s unsent=%zu", x->id, x->out.len);
    cog_exchange_abandon(x);
}

/* Wherever the request is, also when that place has stopped moving. */
static void check_deadline(cog_exchange *x, uint64_t now)
{
    if (now < x->deadline_ns || x->is_gone || x->reply.status || x->is_stream_done)
        return;
    if (x->route->expire)
        x->route->expire(x);
    else
        cog_exchange_fail_code(x, COG_API_DEADLINE);
    if (x->route->cancel)
        x->route->cancel(x);
}

void cog_sweep_run(cog_server *s)
{
    uint64_t now = cog_now_ns();

    cog_listen_sweep(s, now);
    cog_body_sweep(s, now);
    cog_file_store_expire(s->files, time(NULL));
    for (cog_conn *c = s->conns; c; c = c->next)
        check_conn(s, c, now);
    for (cog_exchange *x = s->exchanges; x; x = x->next) {
        if (!x->mhd)
            continue;
        check_deadline(x, now);
        check_reader(s, x, now);
        check_stream(s, x, now);
    }
}
