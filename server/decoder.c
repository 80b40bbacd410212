#include "server/decoder.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "server/decode_worker.h"

#include <assert.h>

/* Decoders take up to 11 bytes for each pixel; the sum over all of them is bounded. A picture
 * larger than the bound is decoded alone. */
enum { BYTES_PER_PIXEL = 12, TICK_MS = 20, MAX_WORKERS = 64 };
#define MAX_BYTES ((size_t)1 << 30)

struct cog_decoder {
    uv_loop_t *loop;
    const cog_server_config *cfg;
    uv_timer_t tick;  /* runs while anything is queued */
    uv_async_t ended; /* there is something in done */
    cog_decode *queue, **queue_end;
    cog_decode *done, **done_end;
    cog_decode_worker *waiting, **waiting_end; /* for memory, in order */
    cog_decode_worker *worker[MAX_WORKERS];
    int n_workers;
    size_t bytes; /* that the decodes under way may take */
};

uv_loop_t *cog_decoder_loop(cog_decoder *dec)
{
    return dec->loop;
}

const cog_server_config *cog_decoder_config(const cog_decoder *dec)
{
    return dec->cfg;
}

/* ------------------------------------------------------------------ ends */

static void finish(cog_decoder *dec, cog_decode *d, cog_decode_status status)
{
    d->status = status;
    d->worker = NULL;
    d->next = NULL;
    *dec->done_end = d;
    dec->done_end = &d->next;
    uv_async_send(&dec->ended);
}

static void on_ended(uv_async_t *a)
{
    cog_decoder *dec = a->data;
    cog_decode *d;

    while ((d = dec->done) != NULL) {
        dec->done = d->next;
        if (!dec->done)
            dec->done_end = &dec->done;
        d->is_submitted = false;
        d->done(d);
    }
}

/* ------------------------------------------------------------------ work */

/* A large picture waits for the others to end, and whoever comes after it waits behind it: no
 * stream of small ones may keep it waiting. */
static void grant_memory(cog_decoder *dec)
{
    cog_decode_worker *w;

    while ((w = dec->waiting) != NULL && (dec->bytes == 0 || dec->bytes + w->cost <= MAX_BYTES)) {
        dec->waiting = w->next;
        if (!dec->waiting)
            dec->waiting_end = &dec->waiting;
        dec->bytes += w->cost;
        w->phase = COG_WORKER_PIXELS;
        if (w->d && w->d->began_ns)
            *w->d->began_ns = cog_now_ns();
        w->ops->pixels(w);
    }
}

static cog_decode_worker *idle_worker(cog_decoder *dec)
{
    for (int i = 0; i < dec->n_workers; i++) {
        if (dec->worker[i]->phase == COG_WORKER_IDLE)
            return dec->worker[i];
    }
    return NULL;
}

static void start_queued(cog_decoder *dec)
{
    cog_decode_worker *w;
    cog_decode *d;

    while ((d = dec->queue) != NULL && (w = idle_worker(dec)) != NULL) {
        dec->queue = d->next;
        if (!dec->queue)
            dec->queue_end = &dec->queue;
        d->worker = w;
        w->d = d;
        w->phase = COG_WORKER_HEADER;
        w->ops->header(w);
    }
}

static void on_tick(uv_timer_t *t);

static void advance(cog_decoder *dec)
{
    grant_memory(dec);
    start_queued(dec);
    if (!dec->queue)
        uv_timer_stop(&dec->tick);
    else if (!uv_is_active((uv_handle_t *)&dec->tick))
        uv_timer_start(&dec->tick, on_tick, TICK_MS, TICK_MS);
}

static void unlink_waiting(cog_decoder *dec, cog_decode_worker *w)
{
    cog_decode_worker **at = &dec->waiting;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (!*at)
        dec->waiting_end = at;
}

void cog_worker_header(cog_decode_worker *w, int width, int height)
{
    cog_decoder *dec = w->decoder;

    w->cost = (size_t)width * (size_t)height * BYTES_PER_PIXEL;
    w->phase = COG_WORKER_WAITING;
    w->next = NULL;
    *dec->waiting_end = w;
    dec->waiting_end = &w->next;
    advance(dec);
}

void cog_worker_end(cog_decode_worker *w, cog_decode_status status)
{
    cog_decoder *dec = w->decoder;
    cog_decode *d = w->d;

    if (w->phase == COG_WORKER_WAITING)
        unlink_waiting(dec, w);
    if (w->phase == COG_WORKER_PIXELS)
        dec->bytes -= w->cost;
    w->phase = COG_WORKER_IDLE;
    w->d = NULL;
    if (d)
        finish(dec, d, status);
    advance(dec);
}

/* ------------------------------------------------------------------ the caller's side */

int cog_decode_init(cog_decode *d, const cog_decoder *dec, size_t file_room, int side, cog_err *err)
{
    d->options = &dec->cfg->image;
    d->side = side;
    return cog_picture_memory_init(&d->memory, file_room, side, false, err);
}

void cog_decode_fini(cog_decode *d)
{
    cog_image_free(d->image);
    d->image = NULL;
    cog_picture_memory_fini(&d->memory);
}

void cog_decoder_submit(cog_decoder *dec, cog_decode *d)
{
    d->is_submitted = true;
    d->work.data = d;
    d->next = NULL;
    *dec->queue_end = d;
    dec->queue_end = &d->next;
    advance(dec);
}

static bool unlink_queued(cog_decoder *dec, cog_decode *d)
{
    for (cog_decode **at = &dec->queue; *at; at = &(*at)->next) {
        if (*at != d)
            continue;
        *at = d->next;
        if (!*at)
            dec->queue_end = at;
        return true;
    }
    return false;
}

void cog_decoder_cancel(cog_decoder *dec, cog_decode *d)
{
    if (!d->is_submitted || atomic_exchange(&d->is_abandoned, true))
        return;
    if (d->worker)
        d->worker->ops->abandon(d->worker);
    else if (unlink_queued(dec, d))
        finish(dec, d, COG_DECODE_CANCELED);
}

static void on_tick(uv_timer_t *t)
{
    cog_decoder *dec = t->data;
    uint64_t now = cog_now_ns();

    for (cog_decode *d = dec->queue, *next; d; d = next) {
        next = d->next;
        if (now >= d->deadline_ns)
            cog_decoder_cancel(dec, d);
    }
    advance(dec);
}

/* ------------------------------------------------------------------ open and close */

/* Few: a picture takes more memory than time. Two at least, so that one slow picture does not stop
 * all others. */
static int n_workers_of(const cog_server_config *cfg)
{
    unsigned n = uv_available_parallelism();

    if (cfg->image_workers > 0)
        return cfg->image_workers < MAX_WORKERS ? cfg->image_workers : MAX_WORKERS;
    return n < 2 ? 2 : n > 4 ? 4 : (int)n;
}

cog_decoder *cog_decoder_open(uv_loop_t *loop, const cog_server_config *cfg)
{
    cog_decoder *dec = cog_new(cog_decoder);

    dec->loop = loop;
    dec->cfg = cfg;
    dec->queue_end = &dec->queue;
    dec->done_end = &dec->done;
    dec->waiting_end = &dec->waiting;
    uv_timer_init(loop, &dec->tick);
    dec->tick.data = dec;
    uv_async_init(loop, &dec->ended, on_ended);
    dec->ended.data = dec;
    dec->n_workers = n_workers_of(cfg);
    for (int i = 0; i < dec->n_workers; i++)
        dec->worker[i] = cog_decode_thread_new(dec);
    return dec;
}

void cog_decoder_close(cog_decoder *dec)
{
    for (int i = 0; i < dec->n_workers; i++)
        dec->worker[i]->ops->close(dec->worker[i]);
    uv_close((uv_handle_t *)&dec->tick, NULL);
    uv_close((uv_handle_t *)&dec->ended, NULL);
}

void cog_decoder_free(cog_decoder *dec)
{
    if (!dec)
        return;
    for (int i = 0; i < dec->n_workers; i++)
        dec->worker[i]->ops->free(dec->worker[i]);
    cog_free(dec);
}
