/* body.c - bodies on their way in, within one budget of bytes (--max-inflight-bytes).
 *
 * A body counts with the bytes of it that are here, never with what its head promises: a client
 * that announces much and sends nothing takes nothing from others.
 *
 *   - A request begins to be read only if its announced length fits beside what is here now and
 *     nobody waits for room. Else it is refused before its body.
 *   - So several that begin together may want more than there is. Then those whose bytes find no
 *     room are not read for a while (their clients wait, as on a slow line), and go on in order of
 *     age as bodies are used up.
 *   - Only when nothing was used up for STALL_MS, because all that is here belongs to bodies that
 *     are not complete, the youngest that waits is refused and gives its bytes back.
 *
 * Room that the oldest of those still needs is kept for it, so that it ends. An upload that was let
 * in therefore fails half way only when the budget is full of others that came before it and do not
 * end. */
#include "base/alloc.h"
#include "base/clock.h"
#include "server/internal.h"

enum { STALL_MS = 2000 };

static bool fits(const cog_server *s, uint64_t bytes)
{
    return bytes <= s->cfg.max_inflight_bytes - s->inflight;
}

/* What of the room belongs to bodies that came before x and have found none: all that the oldest of
 * them still needs, or all there is while one waits. The list has the youngest first. */
static uint64_t claimed_before(const cog_exchange *x)
{
    const cog_exchange *oldest = NULL;
    uint64_t need;

    if (x->server->n_short == 0)
        return 0;
    for (const cog_exchange *y = x->next; y; y = y->next) {
        if (y->paused_len)
            return UINT64_MAX / 2;
        oldest = y->is_short && !y->is_begun ? y : oldest;
    }
    if (!oldest)
        return 0;
    need =
        oldest->head.content_length ? oldest->head.content_length : x->server->cfg.max_body_bytes;
    return need > oldest->body.len ? need - oldest->body.len : 0;
}

static void begin_pause(cog_exchange *x, size_t len)
{
    cog_server *s = x->server;

    x->paused_ns = cog_now_ns();
    x->paused_len = len;
    s->n_short += !x->is_short;
    x->is_short = true;
    x->conn->phase = COG_CONN_PAUSED;
    if (s->n_paused++ == 0)
        s->used_up_ns = x->paused_ns;
}

/* The client is not at fault for the time it could not send. */
static void end_pause(cog_exchange *x)
{
    uint64_t now = cog_now_ns();

    x->paused_len = 0;
    x->server->n_paused--;
    x->conn->phase = COG_CONN_BODY;
    x->conn->phase_ns += now - x->paused_ns;
    x->conn->body_ns = now;
    cog_http_resume(x);
}

static void go_on(cog_server *s)
{
    uint64_t granted = 0;

    while (s->n_paused > 0) {
        cog_exchange *oldest = NULL;

        for (cog_exchange *x = s->exchanges; x; x = x->next)
            oldest = x->paused_len ? x : oldest;
        granted += oldest->paused_len;
        if (!fits(s, granted))
            return;
        end_pause(oldest);
    }
}

bool cog_body_admit(const cog_exchange *x)
{
    return x->server->n_paused == 0 && fits(x->server, x->head.content_length);
}

bool cog_body_take(cog_exchange *x, const char *data, size_t len)
{
    cog_server *s = x->server;

    if (!fits(s, len + claimed_before(x))) {
        begin_pause(x, len);
        return false;
    }
    cog_buf_add(&x->body, data, len);
    s->inflight += len;
    return true;
}

bool cog_body_reserve(cog_exchange *x, size_t bytes)
{
    cog_server *s = x->server;

    if (s->n_paused > 0 || !fits(s, bytes))
        return false;
    s->inflight += bytes;
    x->reserved += bytes;
    return true;
}

void cog_body_drop(cog_exchange *x)
{
    cog_server *s = x->server;

    s->inflight -= x->body.len + x->reserved;
    x->reserved = 0;
    cog_buf_fini(&x->body);
    if (x->paused_len)
        end_pause(x);
    s->n_short -= x->is_short;
    x->is_short = false;
    s->used_up_ns = cog_now_ns();
    go_on(s);
}

char *cog_body_detach(cog_exchange *x)
{
    size_t len;
    char *data = cog_buf_detach(&x->body, &len);

    x->server->inflight -= len;
    cog_body_drop(x);
    return len ? cog_realloc(data, len, 1) : data;
}

void cog_body_sweep(cog_server *s, uint64_t now)
{
    if (s->n_paused == 0 || now < s->used_up_ns + (uint64_t)STALL_MS * 1000000)
        return;
    for (cog_exchange *x = s->exchanges; x; x = x->next) {
        if (!x->paused_len)
            continue;
        cog_status_text(s, COG_API_OVERLOADED, &x->verdict);
        cog_body_drop(x);
        return;
    }
}
