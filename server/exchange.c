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

/* An id names a request; nothing is protected by it. */
static void draw(unsigned char *bytes, size_t n)
{
    if (RAND_bytes(bytes, (int)n) != 1)
        memset(bytes, 0, n);
}

void cog_id_new(char id[COG_ID_SIZE], cog_id_pool *pool)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char own[COG_ID_BYTES], *bytes = own;

    if (!pool) {
        draw(own, sizeof(own));
    } else {
        if (pool->left == 0) {
            draw(pool->bytes, sizeof(pool->bytes));
            pool->left = sizeof(pool->bytes);
        }
        pool->left -= COG_ID_BYTES;
        bytes = pool->bytes + pool->left;
    }
    memcpy(id, "req_", 4);
    for (int i = 0; i < COG_ID_BYTES; i++) {
        id[4 + 2 * i] = digits[bytes[i] >> 4];
        id[5 + 2 * i] = digits[bytes[i] & 15];
    }
    id[4 + 2 * COG_ID_BYTES] = '\0';
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
    cog_file_unref(r->file);
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
    cog_record_init(&x->record);
    cog_id_new(x->id, &s->ids);
    x->next = s->exchanges;
    if (x->next)
        x->next->prev = x;
    s->exchanges = x;
    return x;
}

/* ------------------------------------------------------------------ the log line */

int cog_exchange_status(const cog_exchange *x)
{
    return x->answered && (x->is_finished || x->answered == 408) ? x->answered : 499;
}

static void log_work(cog_log_line *l, const cog_exchange *x)
{
    static const char *const formats[] = { "jpeg", "png", "webp", "gif" };
    const cog_record *r = &x->record;

    cog_log_text(l, "model", x->server->cfg.served_names[0]);
    cog_log_text(l, "user", r->user);
    cog_log_text(l, "finish", cog_outcome_name(cog_record_outcome(r)));
    if (r->has_left)
        cog_log_text(l, "abort_stage", cog_at_name(r->left_at));
    if (r->n_images) {
        cog_log_int(l, "images", r->n_images);
        cog_log_int(l, "image_bytes", (int64_t)r->image_bytes);
        cog_log_text(l, "image_format", r->image_format < 0 ? NULL : formats[r->image_format]);
    }
    if (r->has_usage) {
        cog_log_int(l, "prompt_tokens", r->usage.prompt_tokens);
        cog_log_int(l, "image_tokens", r->usage.image_tokens);
        cog_log_int(l, "cached_tokens", r->usage.cached_tokens);
        cog_log_int(l, "output_tokens", r->usage.completion_tokens);
    }
    if (r->first_ns)
        cog_log_ms(l, "first_token_ms", r->first_ns - x->begin_ns);
    for (int i = 0; i < COG_N_AT; i++) {
        char key[32];

        snprintf(key, sizeof(key), "%s_ms", cog_at_name(i));
        cog_log_ms(l, key, r->ns[i]);
    }
    cog_log_text(l, "objective", r->objective);
    cog_log_text(l, "fairness", r->fairness);
    if (r->n_retries)
        cog_log_int(l, "retries", r->n_retries);
}

/* One line, when nothing of the exchange runs any more. */
static void log_end(const cog_exchange *x)
{
    const cog_record *r = &x->record;
    bool is_probe = x->route && x->route->is_open && x->answered == 200;
    cog_log_line l;
    char path[96];

    cog_log_begin(&l, is_probe ? COG_DEBUG : COG_INFO, "request");
    cog_log_text(&l, "id", x->id);
    cog_log_text(&l, "trace_id", r->trace_id);
    cog_log_text(&l, "key", x->key);
    cog_log_text(&l, "method", cog_method_name(r->method));
    /* a query may hold what a log must not */
    snprintf(path, sizeof(path), "%.*s", (int)strcspn(x->target, "?"), x->target);
    cog_log_text(&l, "route", x->route ? x->route->path : path);
    cog_log_int(&l, "status", cog_exchange_status(x));
    if (r->error)
        cog_log_text(&l, "error", cog_api_error_name(r->error));
    cog_log_int(&l, "bytes_in", (int64_t)(x->n_body + x->n_dropped));
    if (r->is_work)
        log_work(&l, x);
    cog_log_ms(&l, "ms", r->done_ns - x->start_ns);
    cog_log_end(&l);
}

void cog_exchange_ref(cog_exchange *x)
{
    x->refs++;
}

void cog_exchange_unref(cog_exchange *x)
{
    if (--x->refs > 0)
        return;
    if (!x->record.done_ns)
        cog_record_done(&x->record, false);
    cog_record_close(&x->record);
    cog_metrics_end(x);
    log_end(x);
    if (x->route && x->route->fini)
        x->route->fini(x);
    cog_body_drop(x);
    clear_reply(&x->reply);
    cog_buf_fini(&x->out);
    if (x->is_counted)
        cog_client_end(x->client);
    cog_client_unref(x->client);
    if (x->prev)
        x->prev->next = x->next;
    else
        x->server->exchanges = x->next;
    if (x->next)
        x->next->prev = x->prev;
    cog_free(x->target);
    cog_free(x);
}

static void reply_with(cog_exchange *x, const cog_api_error *err)
{
    cog_reply *r = &x->reply;
    const char *retry = cog_api_error_retry(err->code);
    char methods[COG_ALLOW_SIZE];

    clear_reply(r);
    r->status = cog_api_error_status(err->code);
    r->type = "application/json";
    cog_api_error_write(&r->body, err);
    if (err->retry_after_ms) {
        cog_reply_header(r, "Retry-After", "%d", (err->retry_after_ms + 999) / 1000);
        cog_reply_header(r, "retry-after-ms", "%d", err->retry_after_ms);
    }
    if (retry)
        cog_reply_header(r, "x-should-retry", "%s", retry);
    if (err->code == COG_API_INVALID_KEY)
        cog_reply_header(r, "WWW-Authenticate", "Bearer");
    if (err->code == COG_API_METHOD) {
        cog_route_allow(methods, x->route);
        cog_reply_header(r, "Allow", "%s", methods);
    }
    if (err->code == COG_API_BAD_REQUEST || err->code == COG_API_REQUEST_TIMEOUT ||
        err->code == COG_API_HEADERS_TOO_LARGE || err->code == COG_API_DRAINING)
        cog_reply_header(r, "Connection", "close");
}

static void fail_stream(cog_exchange *x, const cog_api_error *err)
{
    cog_buf_puts(&x->out, "data: ");
    cog_api_error_write(&x->out, err);
    cog_buf_puts(&x->out, "\n\n");
    cog_sse_done(&x->out);
}

void cog_exchange_fail(cog_exchange *x, const cog_api_error *err)
{
    if (x->is_gone || x->is_stream_done || x->reply.status)
        return;
    if (!x->record.error)
        x->record.error = err->code;
    if (x->is_counted && err->code == COG_API_OVERLOADED)
        cog_client_refund(x->client);
    if (!x->is_streaming) {
        reply_with(x, err);
        cog_exchange_reply(x);
        return;
    }
    if (x->route->fail_stream)
        x->route->fail_stream(x, err);
    else
        fail_stream(x, err);
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
    if (x->record.at < COG_AT_ENGINE)
        cog_record_enter(&x->record, COG_AT_WRITE);
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
