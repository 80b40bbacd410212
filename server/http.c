/* http.c - libmicrohttpd, the only file that knows it. Everything runs on the loop thread.
 *
 * MHD gets accepted sockets and one epoll descriptor per shard, which sits in the loop. Its
 * callbacks suspend a connection that has nothing to say yet; resuming only sets flags, and
 * cog_http_flush lets MHD act on them. Two things it cannot do are done here: it does not notice a
 * client that leaves while suspended (the watch does), and its time-outs only see inactivity (the
 * sweep has real deadlines). */
#include "server/cors.h"
#include "server/internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "proto/params.h"

#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    POOL_BYTES = 32768,       /* of one connection: its head, and one chunk of a stream */
    SHARD_CONNECTIONS = 1000, /* each wake-up walks a shard's suspended connections */
    ONE_SHARD = 2000,
    STREAM_BLOCK = 2048, /* of HTTP/1.0; chunks are made in the pool */
    PUMP_TURNS = 4,
    DROP_BYTES = 64 << 20,  /* of a refused body: answering before it ends would lose the answer */
    SPARE_CONNECTIONS = 16, /* MHD's own limit must never be the one that is met */
};

struct cog_watch {
    uv_poll_t poll;
    cog_exchange *x;
};

/* ------------------------------------------------------------------ the pump */

static void on_timer(uv_timer_t *t);

/* Wait 0 means "at once": MHD's sockets are edge-triggered, bytes left unread raise no new event.
 */
static void pump(cog_shard *sh)
{
    for (int turn = 0; turn < PUMP_TURNS; turn++) {
        MHD_UNSIGNED_LONG_LONG wait_ms;

        sh->is_dirty = false;
        MHD_run(sh->daemon);
        if (sh->is_dirty) /* a callback resumed another connection */
            continue;
        if (MHD_get_timeout(sh->daemon, &wait_ms) != MHD_YES) {
            uv_timer_stop(&sh->timer);
            return;
        }
        if (wait_ms > 0) {
            uv_timer_start(&sh->timer, on_timer, wait_ms, 0);
            return;
        }
    }
    uv_timer_start(&sh->timer, on_timer, 0, 0);
}

void cog_http_flush(cog_server *s)
{
    for (int i = 0; i < s->n_shards; i++) {
        if (s->shards[i].is_dirty)
            pump(&s->shards[i]);
    }
}

static void wake(cog_shard *sh)
{
    sh->is_dirty = true;
    cog_http_flush(sh->server); /* callbacks may have resumed connections of other shards */
}

static void on_timer(uv_timer_t *t)
{
    wake(t->data);
}

static void on_epoll(uv_poll_t *p, int status, int events)
{
    wake(p->data);
}

void cog_http_resume(cog_exchange *x)
{
    if (!x->is_suspended)
        return;
    x->is_suspended = false;
    MHD_resume_connection(x->mhd);
    x->server->shards[x->shard].is_dirty = true;
}

static enum MHD_Result suspend(cog_exchange *x)
{
    assert(!x->is_suspended);
    x->is_suspended = true;
    MHD_suspend_connection(x->mhd);
    return MHD_YES;
}

/* MHD stops reading after a short read, and may so have missed the edge of a client that left; a
 * reset socket raises none for the shutdown. Coming back into its epoll set raises one again. */
void cog_http_cut(cog_exchange *x)
{
    if (!x->mhd)
        return;
    shutdown(x->conn->fd, SHUT_RDWR);
    if (!x->is_suspended)
        suspend(x);
    cog_http_resume(x);
}

/* ------------------------------------------------------------------ the watch */

static void free_watch(uv_handle_t *h)
{
    cog_free(h->data);
}

static void unwatch(cog_exchange *x)
{
    if (!x->watch)
        return;
    uv_close((uv_handle_t *)&x->watch->poll, free_watch);
    x->watch = NULL;
}

/* Unless this server closed the connection first. */
static void note_left(cog_exchange *x)
{
    if (!x->is_gone && x->record.error != COG_API_REQUEST_TIMEOUT)
        cog_record_left(&x->record);
}

/* FIN comes as UV_DISCONNECT, a reset or a dead peer as an error. Both are level-triggered. */
static void on_left(uv_poll_t *p, int status, int events)
{
    cog_exchange *x = ((struct cog_watch *)p->data)->x;
    cog_server *s = x->server;

    unwatch(x);
    note_left(x);
    cog_exchange_abandon(x);
    cog_http_flush(s);
}

void cog_http_watch(cog_exchange *x)
{
    struct cog_watch *w;

    if (x->watch)
        return;
    w = cog_new(struct cog_watch);
    w->x = x;
    if (uv_poll_init(&x->server->loop, &w->poll, x->conn->fd) != 0) {
        cog_free(w);
        return;
    }
    w->poll.data = w;
    x->watch = w;
    uv_poll_start(&w->poll, UV_DISCONNECT, on_left);
}

/* ------------------------------------------------------------------ answers */

static void add_limit(struct MHD_Response *res, const char *what, const cog_bucket *b, int limit,
                      uint64_t now)
{
    static const char *const names[] = { "limit", "remaining", "reset" };
    char name[48], value[3][COG_RESET_SIZE];

    snprintf(value[0], sizeof(value[0]), "%d", limit);
    snprintf(value[1], sizeof(value[1]), "%d", cog_bucket_remaining(b, limit, now));
    cog_reset_text(value[2], cog_bucket_reset_ms(b, limit, now));
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof(name), "x-ratelimit-%s-%s", names[i], what);
        MHD_add_response_header(res, name, value[i]);
    }
}

static void add_limits(struct MHD_Response *res, const cog_client *c)
{
    uint64_t now = cog_now_ns();

    if (c->limits.requests)
        add_limit(res, "requests", &c->requests, c->limits.requests, now);
    if (c->limits.tokens)
        add_limit(res, "tokens", &c->tokens, c->limits.tokens, now);
}

/* Which answer a cache keeps depends on who asked, also where that is nobody who may. */
static void add_cors(struct MHD_Response *res, const cog_exchange *x)
{
    const cog_server_config *cfg = &x->server->cfg;
    const char *origin = cog_cors_origin(cfg, &x->head);

    if (cfg->n_cors_origins)
        MHD_add_response_header(res, "Vary", "Origin");
    if (!origin)
        return;
    MHD_add_response_header(res, "Access-Control-Allow-Origin", origin);
    MHD_add_response_header(res, "Access-Control-Expose-Headers", cog_cors_exposed);
}

static void add_headers(struct MHD_Response *res, const cog_exchange *x)
{
    const cog_reply *r = &x->reply;
    bool closes = false;

    MHD_add_response_header(res, "x-request-id", x->id);
    add_cors(res, x);
    if (x->client && x->route && cog_route_is_limited(x->route))
        add_limits(res, x->client);
    for (int i = 0; i < r->n_headers; i++) {
        MHD_add_response_header(res, r->header[i].name, r->header[i].value);
        closes |= strcmp(r->header[i].name, "Connection") == 0;
    }
    if (!closes && (x->server->phase != COG_SERVER_SERVING || (x->conn && x->conn->is_extra)))
        MHD_add_response_header(res, "Connection", "close");
}

static void drop_file(void *file)
{
    cog_file_unref(file);
}

/* A file's bytes are not copied: the response has a reference, however slow its reader is. */
static struct MHD_Response *make_response(const cog_reply *r)
{
    struct MHD_Response *res;

    if (!r->file)
        return MHD_create_response_from_buffer(r->body.len, r->body.data, MHD_RESPMEM_MUST_COPY);
    res = MHD_create_response_from_buffer_with_free_callback_cls(r->file->len, r->file->data,
                                                                 drop_file, r->file);
    if (res)
        cog_file_ref(r->file);
    return res;
}

static enum MHD_Result queue_reply(cog_exchange *x)
{
    cog_reply *r = &x->reply;
    struct MHD_Response *res = make_response(r);
    enum MHD_Result ok;

    if (!res)
        return MHD_NO;
    if (r->type)
        MHD_add_response_header(res, "Content-Type", r->type);
    MHD_add_response_header(res, "Cache-Control", "no-store");
    add_headers(res, x);
    ok = MHD_queue_response(x->mhd, (unsigned)r->status, res);
    MHD_destroy_response(res);
    cog_buf_fini(&r->body);
    x->is_queued = true;
    return ok;
}

static ssize_t next_bytes(void *cls, uint64_t pos, char *out, size_t max)
{
    cog_exchange *x = cls;
    size_t n = x->out.len < max ? x->out.len : max;

    if (x->is_gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n) {
        memcpy(out, x->out.data, n);
        cog_buf_drop(&x->out, n);
        x->taken_ns = cog_now_ns();
        if (x->record.first_ns && !x->record.written_ns)
            x->record.written_ns = x->taken_ns;
        return (ssize_t)n;
    }
    if (x->is_stream_done)
        return MHD_CONTENT_READER_END_OF_STREAM;
    suspend(x); /* 0 without it would spin */
    return 0;
}

static enum MHD_Result queue_stream(cog_exchange *x)
{
    struct MHD_Response *res =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, next_bytes, x, NULL);
    enum MHD_Result ok;

    if (!res)
        return MHD_NO;
    MHD_add_response_header(res, "Content-Type", "text/event-stream; charset=utf-8");
    MHD_add_response_header(res, "Cache-Control", "no-cache");
    MHD_add_response_header(res, "X-Accel-Buffering", "no");
    add_headers(res, x);
    ok = MHD_queue_response(x->mhd, 200, res);
    MHD_destroy_response(res);
    x->is_queued = true;
    return ok;
}

/* ------------------------------------------------------------------ the request's head */

static void enter(cog_conn *c, cog_conn_phase phase)
{
    c->phase = phase;
    c->phase_ns = c->body_ns = cog_now_ns();
}

static enum MHD_Result on_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                size_t name_len, const char *value, size_t value_len)
{
    cog_head_add(cls, name, name_len, value, value_len);
    return MHD_YES;
}

static void read_head(cog_exchange *x, const char *method, const char *version)
{
    const union MHD_ConnectionInfo *size =
        MHD_get_connection_info(x->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

    x->head.method = method;
    x->head.version = version;
    x->head.bytes = size ? size->header_size : 0;
    MHD_get_connection_values_n(x->mhd, MHD_HEADER_KIND, on_field, &x->head);
    cog_record_head(&x->record, &x->head);
    if (x->head.request_id && cog_params_is_request_id(x->head.request_id)) {
        snprintf(x->id, sizeof(x->id), "%s", x->head.request_id);
        x->has_client_id = true;
    }
}

static void refuse_size(const cog_server *s, cog_api_error *err)
{
    cog_api_error_set(err, COG_API_BODY_TOO_LARGE, NULL,
                      "The request body is larger than the %zu bytes allowed.",
                      s->cfg.max_body_bytes);
}

static void name_key(cog_exchange *x)
{
    const uint8_t *b = x->client->digest.byte;

    if (x->client != x->server->everybody)
        snprintf(x->key, sizeof(x->key), "%02x%02x%02x%02x", b[0], b[1], b[2], b[3]);
}

/* Everything that can be said before the body, in the order the API states. */
static int judge(cog_exchange *x, cog_api_error *err)
{
    cog_server *s = x->server;
    const cog_head *h = &x->head;
    cog_api_error routing;
    const cog_route *route = cog_route_find(x, &routing);
    bool is_options = strcmp(h->method, "OPTIONS") == 0;

    x->route = route;
    x->record.is_work = route && route->is_work && !routing.code;
    if (x->record.is_work)
        cog_metrics_begin(x);
    if (x->conn->is_extra && !(route && route->is_open)) {
        s->metrics.refused_connections++;
        cog_api_error_set(err, COG_API_OVERLOADED, NULL, "The server has too many connections.");
        err->retry_after_ms = 1000;
        return COG_EINVAL;
    }
    if (!is_options && !(route && cog_route_is_open(s, route))) {
        x->client = cog_auth_find(s, h, err);
        if (!x->client)
            return COG_EINVAL;
        cog_client_ref(x->client);
        name_key(x);
    }
    if (routing.code) {
        *err = routing;
        return COG_EINVAL;
    }
    if (!route->is_post)
        return 0;
    if ((route->is_form ? cog_head_check_form(h, err) : cog_head_check_json(h, err)) < 0)
        return COG_EINVAL;
    if (route->needs_engine && !cog_status_check(s, err))
        return COG_EINVAL;
    if (h->content_length > s->cfg.max_body_bytes) {
        refuse_size(s, err);
        return COG_EINVAL;
    }
    if (!cog_body_admit(x) || (cog_route_is_limited(route) && !cog_status_has_room(s, 1))) {
        cog_status_text(s, COG_API_OVERLOADED, err);
        return COG_EINVAL;
    }
    return cog_route_is_limited(route) && !cog_auth_count(x, err) ? COG_EINVAL : 0;
}

static bool has_header(const cog_reply *r, const char *name)
{
    for (int i = 0; i < r->n_headers; i++) {
        if (strcmp(r->header[i].name, name) == 0)
            return true;
    }
    return false;
}

static enum MHD_Result refuse_now(cog_exchange *x)
{
    enter(x->conn, COG_CONN_BUSY);
    cog_exchange_fail(x, &x->verdict);
    if (cog_head_has_body(&x->head) && !has_header(&x->reply, "Connection"))
        cog_reply_header(&x->reply, "Connection", "close"); /* the body is not read */
    return queue_reply(x);
}

static enum MHD_Result on_head(cog_exchange *x, const char *method, const char *version)
{
    read_head(x, method, version);
    if (cog_head_check(&x->head, x->target, &x->verdict) < 0)
        return refuse_now(x);
    if (judge(x, &x->verdict) < 0) {
        /* Any other client writes before it reads, and would lose an answer that closes on it. */
        bool is_hopeless = x->head.content_length > DROP_BYTES;
        if (cog_head_has_body(&x->head) && (x->head.expects_100 || is_hopeless)) {
            cog_log(COG_DEBUG, "event=refused_early id=%s", x->id);
            return refuse_now(x);
        }
    }
    if (cog_head_has_body(&x->head)) {
        enter(x->conn, COG_CONN_BODY);
        cog_http_watch(x);
    }
    return MHD_YES;
}

/* ------------------------------------------------------------------ the body */

static enum MHD_Result drop_bytes(cog_exchange *x, size_t len)
{
    x->n_dropped += len;
    return x->n_dropped > DROP_BYTES ? MHD_NO : MHD_YES;
}

/* *len becomes what is left to be given again. */
static enum MHD_Result take_body(cog_exchange *x, const char *data, size_t *len)
{
    cog_server *s = x->server;
    size_t n = *len;

    if (x->is_gone)
        return MHD_NO;
    x->conn->body_ns = cog_now_ns();
    if (!x->verdict.code && x->route->is_post) {
        if (x->n_body + n <= s->cfg.max_body_bytes) {
            if (!cog_body_take(x, data, n))
                return suspend(x);
        } else {
            refuse_size(s, &x->verdict);
            cog_body_drop(x);
        }
        x->n_body += n;
        *len = 0;
        return MHD_YES;
    }
    *len = 0;
    return drop_bytes(x, n);
}

static enum MHD_Result on_complete_request(cog_exchange *x)
{
    if (!x->is_begun) {
        x->is_begun = true;
        x->begin_ns = x->record.begin_ns = cog_now_ns();
        if (x->server->cfg.request_timeout_ms > 0)
            x->deadline_ns = x->begin_ns + (uint64_t)x->server->cfg.request_timeout_ms * 1000000;
        enter(x->conn, COG_CONN_BUSY);
        if (x->verdict.code)
            cog_exchange_fail(x, &x->verdict);
        else
            x->route->begin(x);
    }
    if (x->is_gone)
        return MHD_NO;
    if (x->reply.status)
        return queue_reply(x);
    if (x->is_streaming)
        return queue_stream(x);
    return suspend(x);
}

/* ------------------------------------------------------------------ MHD's callbacks */

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **context)
{
    cog_exchange *x = *context;

    if (!x->head.method)
        return on_head(x, method, version);
    if (*len)
        return take_body(x, data, len);
    return on_complete_request(x);
}

/* The request line is there: an exchange begins. What is returned becomes the context. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
    cog_shard *sh = cls;
    cog_exchange *x = cog_exchange_new(sh->server, target);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    x->shard = (int)(sh - sh->server->shards);
    x->mhd = mhd;
    x->conn = info->socket_context;
    /* The first request's time runs from accept, so that a slow request line counts as well. */
    if (x->conn->phase == COG_CONN_NEW)
        x->conn->phase = COG_CONN_HEAD;
    else
        enter(x->conn, COG_CONN_HEAD);
    return x;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **context,
                         enum MHD_RequestTerminationCode code)
{
    cog_exchange *x = *context;

    if (!x)
        return;
    *context = NULL;
    unwatch(x);
    x->is_suspended = false;
    if (!x->is_begun)
        cog_body_drop(x);
    x->mhd = NULL;
    x->is_finished = code == MHD_REQUEST_TERMINATED_COMPLETED_OK && x->is_queued && !x->is_gone;
    if (!x->is_finished)
        note_left(x);
    cog_record_done(&x->record, x->is_finished);
    cog_metrics_http(x);
    x->is_gone |= !x->is_finished;
    if (x->route && x->route->cancel)
        x->route->cancel(x);
    enter(x->conn, COG_CONN_IDLE);
    x->conn = NULL;
    cog_exchange_unref(x);
}

/* A peer that is gone without a word takes as little as a reader that sleeps. */
static void set_options(int fd, const cog_server_config *cfg)
{
    const struct {
        int level, name, value;
    } options[] = {
        { SOL_SOCKET, SO_KEEPALIVE, 1 },
        { IPPROTO_TCP, TCP_KEEPIDLE, 30 },
        { IPPROTO_TCP, TCP_KEEPINTVL, 10 },
        { IPPROTO_TCP, TCP_KEEPCNT, 3 },
        { IPPROTO_TCP, TCP_USER_TIMEOUT, cfg->slow_reader_ms },
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    const cog_shard *sh = cls;
    cog_server *s = sh->server;
    int *n_open = sh->is_metrics ? &s->n_metrics_open : &s->n_open;
    cog_conn *c = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        c = cog_new(cog_conn);
        c->server = s;
        c->is_extra = !sh->is_metrics && s->n_open >= s->cfg.max_connections;
        c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        enter(c, COG_CONN_NEW);
        c->next = s->conns;
        if (c->next)
            c->next->prev = c;
        s->conns = c;
        ++*n_open;
        *context = c;
        return;
    }
    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    --*n_open;
    *context = NULL;
    cog_free(c);
}

static void on_mhd_log(void *cls, const char *fmt, va_list ap)
{
    char text[256], quoted[300];

    vsnprintf(text, sizeof(text), fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    cog_log(COG_DEBUG, "event=mhd text=%s", cog_log_quote(quoted, sizeof(quoted), text));
}

/* ------------------------------------------------------------------ open and close */

/* MHD's inactivity time-out is the backstop behind the sweep: longer than all of its limits. */
static unsigned backstop_s(const cog_server_config *cfg)
{
    int ms = cfg->keepalive_timeout_ms;

    if (cfg->header_timeout_ms > ms)
        ms = cfg->header_timeout_ms;
    if (cfg->body_idle_timeout_ms > ms)
        ms = cfg->body_idle_timeout_ms;
    if (cfg->slow_reader_ms > ms)
        ms = cfg->slow_reader_ms;
    return (unsigned)ms / 1000 + 2;
}

static int open_shard(cog_server *s, cog_shard *sh, cog_err *err)
{
    const union MHD_DaemonInfo *info;
    unsigned flags =
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    unsigned limit = (unsigned)s->cfg.max_connections + COG_PROBE_CONNECTIONS + SPARE_CONNECTIONS;

    sh->server = s;
    sh->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, sh, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, sh, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        sh, MHD_OPTION_URI_LOG_CALLBACK, on_target, sh, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)POOL_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, backstop_s(&s->cfg),
        MHD_OPTION_CONNECTION_LIMIT, limit, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!sh->daemon)
        return cog_err_set(err, COG_EIO, "cannot start the HTTP library");
    info = MHD_get_daemon_info(sh->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_poll_init(&s->loop, &sh->poll, info->epoll_fd);
    uv_timer_init(&s->loop, &sh->timer);
    sh->poll.data = sh->timer.data = sh;
    uv_poll_start(&sh->poll, UV_READABLE, on_epoll);
    return 0;
}

int cog_http_open(cog_server *s, cog_err *err)
{
    int n = s->cfg.max_connections;

    s->n_shards = n <= ONE_SHARD ? 1 : (n + SHARD_CONNECTIONS - 1) / SHARD_CONNECTIONS;
    if (s->n_shards > COG_MAX_SHARDS)
        s->n_shards = COG_MAX_SHARDS;
    if (s->cfg.metrics_listen)
        s->shards[s->n_shards++].is_metrics = true;
    for (int i = 0; i < s->n_shards; i++) {
        int rc = open_shard(s, &s->shards[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void cog_http_close(cog_server *s)
{
    for (int i = 0; i < s->n_shards; i++) {
        cog_shard *sh = &s->shards[i];

        if (!sh->daemon)
            continue;
        uv_close((uv_handle_t *)&sh->poll, NULL);
        uv_close((uv_handle_t *)&sh->timer, NULL);
        MHD_stop_daemon(sh->daemon);
        sh->daemon = NULL;
    }
}

void cog_http_add(const cog_listener *l, int fd, const struct sockaddr *addr, socklen_t len)
{
    cog_server *s = l->server;
    int n = s->n_shards - (s->cfg.metrics_listen != NULL);
    cog_shard *sh = &s->shards[l->is_metrics ? n : s->next_shard++ % n];

    if (addr->sa_family != AF_UNIX)
        set_options(fd, &s->cfg);
    if (MHD_add_connection(sh->daemon, fd, addr, len) != MHD_YES)
        cog_log(COG_WARN, "event=connection_refused reason=library errno=%d", errno);
    sh->is_dirty = true;
}

void cog_http_refuse(int fd, cog_api_code code)
{
    cog_api_error err;
    cog_buf body = { 0 }, out = { 0 };
    char id[COG_ID_SIZE];

    cog_id_new(id, NULL);
    cog_api_error_set(&err, code, NULL,
                      code == COG_API_REQUEST_TIMEOUT ? "The request came too slowly."
                                                      : "The server has too many connections.");
    cog_api_error_write(&body, &err);
    cog_buf_printf(
        &out,
        "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
        "Cache-Control: no-store\r\nx-request-id: %s\r\n%sConnection: close\r\n\r\n%s",
        cog_api_error_status(code),
        code == COG_API_REQUEST_TIMEOUT ? "Request Timeout" : "Service Unavailable", body.len, id,
        code == COG_API_REQUEST_TIMEOUT ? "x-should-retry: false\r\n" : "Retry-After: 1\r\n",
        body.data);
    if (send(fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        cog_log(COG_DEBUG, "event=refusal_unsent errno=%d", errno);
    cog_buf_fini(&body);
    cog_buf_fini(&out);
}
