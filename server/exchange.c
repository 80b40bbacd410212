#include "server/internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "proto/sse.h"

#include <assert.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void cog_id_new(char id[COG_ID_SIZE])
{
    unsigned char bytes[12];
    int n;

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        memset(bytes, 0, sizeof(bytes)); /* an id names a request; nothing is protected by it */
    n = snprintf(id, COG_ID_SIZE, "req_");
    for (size_t i = 0; i < sizeof(bytes); i++)
        n += snprintf(id + n, COG_ID_SIZE - (size_t)n, "%02x", bytes[i]);
}

void cog_reply_header(cog_reply *r, const char *name, const char *fmt, ...)
{
    char value[1024];
    va_list ap;

    assert(r->n_headers < COG_MAX_REPLY_HEADERS);
    va_start(ap, fmt);
    vsnprintf(value, sizeof(value), fmt, ap);
    va_end(ap);
    r->header[r->n_headers].name = name;
    r->header[r->n_headers++].value = cog_strdup(value);
}

static void clear_reply(cog_reply *r)
{
    cog_buf_fini(&r->body);
    for (int i = 0; i < r->n_headers; i++)
        cog_free(r->header[i].value);
    *r = (cog_reply){ 0 };
}

cog_exchange *cog_exchange_new(cog_server *s, const char *target)
{
    cog_exchange *x = cog_new(cog_exchange);

    x->refs = 1;
    x->server = s;
    x->target = cog_strdup(target);
    x->start_ns = cog_now_ns();
    x->deadline_ns = UINT64_MAX;
    x->stage = "head";
    cog_id_new(x->id);
    x->next = s->exchanges;
    if (x->next)
        x->next->prev = x;
    s->exchanges = x;
    return x;
}

void cog_exchange_ref(cog_exchange *x)
{
    x->refs++;
}

void cog_exchange_unref(cog_exchange *x)
{
    if (--x->refs > 0)
        return;
    if (x->route && x->route->fini)
        x->route->fini(x);
    cog_exchange_drop_body(x);
    clear_reply(&x->reply);
    cog_buf_fini(&x->out);
    if (x->prev)
        x->prev->next = x->next;
    else
        x->server->exchanges = x->next;
    if (x->next)
        x->next->prev = x->prev;
    cog_free(x->target);
    cog_free(x);
}

void cog_exchange_drop_body(cog_exchange *x)
{
    cog_buf_fini(&x->body);
    x->server->inflight -= x->reserved;
    x->reserved = 0;
}

static void reply_with(cog_exchange *x, const cog_api_error *err)
{
    cog_reply *r = &x->reply;
    const char *retry = cog_api_error_retry(err->code);

    clear_reply(r);
    r->status = cog_api_error_status(err->code);
    r->type = "application/json";
    cog_api_error_write(&r->body, err);
    if (err->retry_after_s)
        cog_reply_header(r, "Retry-After", "%d", err->retry_after_s);
    if (retry)
        cog_reply_header(r, "x-should-retry", "%s", retry);
    if (err->code == COG_API_INVALID_KEY)
        cog_reply_header(r, "WWW-Authenticate", "Bearer");
    if (err->code == COG_API_METHOD)
        cog_reply_header(r, "Allow", "%s", x->route->is_post ? "POST" : "GET, HEAD");
    if (err->code == COG_API_BAD_REQUEST || err->code == COG_API_REQUEST_TIMEOUT ||
        err->code == COG_API_HEADERS_TOO_LARGE || err->code == COG_API_DRAINING)
        cog_reply_header(r, "Connection", "close");
}

void cog_exchange_fail(cog_exchange *x, const cog_api_error *err)
{
    if (x->is_gone || x->is_stream_done || x->reply.status)
        return;
    if (!x->is_streaming) {
        reply_with(x, err);
        cog_exchange_reply(x);
        return;
    }
    cog_buf_puts(&x->out, "data: ");
    cog_api_error_write(&x->out, err);
    cog_buf_puts(&x->out, "\n\n");
    cog_sse_done(&x->out);
    x->is_stream_done = true;
    x->answered = cog_api_error_status(err->code);
    cog_exchange_send(x);
}

void cog_exchange_fail_code(cog_exchange *x, cog_api_code code)
{
    cog_api_error err;

    if (code == COG_API_INTERNAL)
        cog_status_fail(&err, x->id);
    else
        cog_status_text(x->server, code, &err);
    cog_exchange_fail(x, &err);
}

void cog_exchange_reply(cog_exchange *x)
{
    assert(x->reply.status && !x->is_streaming);
    x->answered = x->reply.status;
    cog_http_resume(x);
}

void cog_exchange_send(cog_exchange *x)
{
    if (x->is_gone)
        return;
    if (!x->is_streaming) {
        x->is_streaming = true;
        x->answered = 200;
    }
    x->wrote_ns = cog_now_ns();
    if (x->is_suspended) /* the reader has had everything before this */
        x->taken_ns = x->wrote_ns;
    if (x->out.len > x->server->cfg.max_unsent_bytes) {
        cog_log(COG_WARN, "event=slow_reader id=%s unsent=%zu", x->id, x->out.len);
        cog_exchange_abandon(x);
        return;
    }
    cog_http_resume(x);
}

void cog_exchange_abandon(cog_exchange *x)
{
    if (x->is_gone || x->is_finished)
        return;
    x->is_gone = true;
    if (x->route && x->route->cancel)
        x->route->cancel(x);
    cog_http_cut(x);
}

void cog_exchange_log(cog_exchange *x)
{
    bool is_probe = x->route && x->route->is_open && x->answered == 200;
    uint64_t ms = (cog_now_ns() - x->start_ns) / 1000000;
    char path[96];

    x->target[strcspn(x->target, "?")] = '\0'; /* a query may hold what a log must not */
    cog_log(
        is_probe ? COG_DEBUG : COG_INFO,
        "event=request id=%s method=%s path=%s status=%d stage=%s ms=%llu bytes_in=%llu key=%s%s",
        x->id, x->head.method ? x->head.method : "-",
        x->route ? x->route->path : cog_log_quote(path, sizeof(path), x->target),
        x->is_finished && x->answered ? x->answered : 499, x->is_finished ? "done" : x->stage,
        (unsigned long long)ms, (unsigned long long)(x->n_body + x->n_dropped),
        x->key[0] ? x->key : "-", x->note);
}
