#include "server/picture/decoder.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sha256.h"
#include "server/picture/decode_wire.h"
#include "server/picture/decode_worker.h"
#include "server/picture/pixel_cache.h"
#include "server/picture/quarantine.h"

enum { TICK_MS = 20, MAX_WORKERS = 64 };

/* Of all pictures being decoded. A larger one is decoded alone. */
#define MAX_BYTES ((size_t)1 << 30)

struct cog_decoder {
    uv_loop_t *loop;
    const cog_server_config *cfg;
    uv_timer_t tick;  /* runs while anything is queued or a worker is not idle */
    uv_async_t ended; /* there is something in done */
    cog_decode *queue, **queue_end;
    cog_decode *done, **done_end;
    cog_decode_worker *waiting, **waiting_end; /* for memory, in order */
    cog_decode_worker *worker[MAX_WORKERS];
    int n_workers;
    bool has_helpers; /* the workers are processes */
    size_t bytes;     /* that the decodes under way may take */
    cog_quarantine quarantine;
    cog_pixel_cache cache;
    uint64_t n_died;
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

static bool is_hopeless(const cog_decoder *dec)
{
    for (int i = 0; i < dec->n_workers; i++) {
        if (!dec->worker[i]->is_hopeless)
            return false;
    }
    return true;
}

static cog_decode *take_queued(cog_decoder *dec)
{
    cog_decode *d = dec->queue;

    dec->queue = d->next;
    if (!dec->queue)
        dec->queue_end = &dec->queue;
    return d;
}

static void start_queued(cog_decoder *dec)
{
    cog_decode_worker *w;

    while (dec->queue && is_hopeless(dec))
        finish(dec, take_queued(dec), COG_DECODE_UNAVAILABLE);
    while (dec->queue && (w = idle_worker(dec)) != NULL) {
        cog_decode *d = take_queued(dec);

        if (cog_quarantine_has(&dec->quarantine, &d->file, cog_now_ns())) {
            finish(dec, d, COG_DECODE_QUARANTINED);
            continue;
        }
        d->worker = w;
        w->d = d;
        w->phase = COG_WORKER_HEADER;
        w->ops->header(w);
    }
}

static bool is_quiet(const cog_decoder *dec)
{
    for (int i = 0; i < dec->n_workers; i++) {
        if (dec->worker[i]->phase != COG_WORKER_IDLE)
            return false;
    }
    return dec->queue == NULL;
}

static void on_tick(uv_timer_t *t);

static void advance(cog_decoder *dec)
{
    grant_memory(dec);
    start_queued(dec);
    if (is_quiet(dec))
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

    w->cost = (size_t)width * (size_t)height * COG_DECODE_BYTES_PER_PIXEL;
    w->phase = COG_WORKER_WAITING;
    w->next = NULL;
    *dec->waiting_end = w;
    dec->waiting_end = &w->next;
    advance(dec);
}

/* Pixels that a helper wrote; it may still be writing. */
static void collect(uv_work_t *work)
{
    cog_decode *d = work->data;

    if (!atomic_load(&d->is_abandoned))
        d->image = cog_image_new(d->memory.base + d->memory.pixels_at, d->side, &d->source);
}

/* A picture that is worth keeping. */
static void finish_image(cog_decoder *dec, cog_decode *d)
{
    if (d->salt)
        cog_pixel_cache_add(&dec->cache, &d->file, d->salt, d->image);
    finish(dec, d, COG_DECODE_DONE);
}

static void after_collect(uv_work_t *work, int status)
{
    cog_decode *d = work->data;

    if (d->image)
        finish_image(d->decoder, d);
    else
        finish(d->decoder, d, COG_DECODE_CANCELED);
}

void cog_worker_end(cog_decode_worker *w, cog_decode_status status, cog_worker_phase after)
{
    cog_decoder *dec = w->decoder;
    cog_decode *d = w->d;

    if (w->phase == COG_WORKER_WAITING)
        unlink_waiting(dec, w);
    if (w->phase == COG_WORKER_PIXELS)
        dec->bytes -= w->cost;
    dec->n_died += after == COG_WORKER_DOWN;
    w->phase = after;
    w->d = NULL;
    if (d && status == COG_DECODE_DONE && !d->image) { /* the pixels are in its memory */
        d->worker = NULL;
        uv_queue_work(dec->loop, &d->work, collect, after_collect);
    } else if (d && d->image) {
        finish_image(dec, d);
    } else if (d) {
        finish(dec, d, status);
    }
    advance(dec);
}

void cog_worker_return(cog_decode_worker *w)
{
    cog_decoder *dec = w->decoder;
    cog_decode *d = w->d;

    if (!d || d->is_returned) {
        cog_worker_end(w, COG_DECODE_FAILED, COG_WORKER_DOWN);
        return;
    }
    if (w->phase == COG_WORKER_PIXELS)
        dec->bytes -= w->cost;
    dec->n_died++;
    w->phase = COG_WORKER_DOWN;
    w->d = NULL;
    d->is_returned = true;
    d->worker = NULL;
    d->next = dec->queue;
    if (!dec->queue)
        dec->queue_end = &d->next;
    dec->queue = d;
    advance(dec);
}

void cog_worker_up(cog_decode_worker *w)
{
    w->phase = COG_WORKER_IDLE;
    advance(w->decoder);
}

void cog_worker_detach(cog_decode_worker *w)
{
    cog_decode *d = w->d;

    w->d = NULL;
    finish(w->decoder, d, COG_DECODE_CANCELED);
}

void cog_worker_quarantine(cog_decode_worker *w, const cog_sha256 *file)
{
    cog_quarantine_add(&w->decoder->quarantine, file, cog_now_ns());
}

/* ------------------------------------------------------------------ the caller's side */

int cog_decode_init(cog_decode *d, const cog_decoder *dec, size_t file_room, int side, cog_err *err)
{
    d->options = &dec->cfg->image;
    d->side = side;
    return cog_picture_memory_init(&d->memory, file_room, side, dec->has_helpers, err);
}

void cog_decode_ready(cog_decode *d, const cog_decoder *dec)
{
    if (dec->has_helpers || dec->cache.max_bytes > 0)
        d->file = cog_sha256_of(&(cog_span){ d->memory.base, d->file_len }, 1);
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
    d->is_returned = false;
    d->decoder = dec;
    d->work.data = d;
    d->image = d->salt ? cog_pixel_cache_find(&dec->cache, &d->file, d->salt, d->side) : NULL;
    if (d->image) {
        finish(dec, d, COG_DECODE_DONE);
        return;
    }
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
    for (int i = 0; i < dec->n_workers; i++) {
        if (dec->worker[i]->phase != COG_WORKER_IDLE)
            dec->worker[i]->ops->tick(dec->worker[i], now);
    }
    advance(dec);
}

void cog_decoder_get_stats(const cog_decoder *dec, cog_decoder_stats *out)
{
    *out = (cog_decoder_stats){ .n_workers = dec->n_workers,
                                .n_died = dec->n_died,
                                .n_asked = dec->cache.n_asked,
                                .n_found = dec->cache.n_found };
    for (int i = 0; i < dec->n_workers; i++)
        out->n_up += dec->worker[i]->phase != COG_WORKER_DOWN;
    for (const cog_decode *d = dec->queue; d; d = d->next)
        out->n_queued++;
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

/* All of them, up; on failure none. */
static int start_helpers(cog_decoder *dec, int n, bool *are_guarded, cog_err *why)
{
    bool is_guarded = true;
    int rc = 0;

    for (int i = 0; rc == 0 && i < n; i++) {
        dec->worker[i] = cog_decode_helper_new(dec, why);
        if (!dec->worker[i])
            rc = COG_EIO;
        else
            dec->n_workers++;
    }
    *are_guarded = true;
    for (int i = 0; rc == 0 && i < n; i++) {
        rc = cog_decode_helper_wait(dec->worker[i], &is_guarded, why);
        *are_guarded = *are_guarded && is_guarded;
    }
    if (rc == 0)
        return 0;
    for (int i = 0; i < dec->n_workers; i++) {
        dec->worker[i]->ops->close(dec->worker[i]);
        dec->worker[i]->ops->free(dec->worker[i]);
    }
    dec->n_workers = 0;
    return rc;
}

static void start_threads(cog_decoder *dec, int n)
{
    for (dec->n_workers = 0; dec->n_workers < n; dec->n_workers++)
        dec->worker[dec->n_workers] = cog_decode_thread_new(dec);
}

static void log_helpers(const cog_decoder *dec, bool are_guarded, const cog_err *why)
{
    if (are_guarded)
        cog_log(COG_INFO, "event=image_sandbox helpers=%d filter=yes", dec->n_workers);
    else
        cog_log(COG_WARN,
                "event=image_sandbox helpers=%d filter=no reason=\"%s\" effect=\"pictures are "
                "decoded in processes of their own, which may call the system\"",
                dec->n_workers, why->text);
}

static int start_workers(cog_decoder *dec, int n, cog_err *err)
{
    cog_image_sandbox mode = dec->cfg->image_sandbox;
    bool are_guarded = false;
    cog_err why = { 0 };

    if (mode == COG_SANDBOX_OFF || (!dec->cfg->image_helper && mode == COG_SANDBOX_AUTO)) {
        start_threads(dec, n);
        return 0;
    }
    if (!dec->cfg->image_helper)
        cog_err_set(&why, COG_EUNSUPPORTED, "this program has no helper");
    else
        dec->has_helpers = start_helpers(dec, n, &are_guarded, &why) == 0;
    if (mode == COG_SANDBOX_REQUIRE && !(dec->has_helpers && are_guarded))
        return cog_err_set(err, COG_EUNSUPPORTED,
                           "pictures cannot be decoded in a sandbox here (%s); allow seccomp, or "
                           "set image-sandbox to auto or off",
                           why.text);
    if (!dec->has_helpers) {
        cog_log(COG_WARN,
                "event=image_sandbox helpers=0 filter=no reason=\"%s\" effect=\"pictures are "
                "decoded in the server's process\"",
                why.text);
        start_threads(dec, n);
        return 0;
    }
    for (int i = 0; are_guarded && i < n; i++)
        cog_decode_helper_guard(dec->worker[i]);
    log_helpers(dec, are_guarded, &why);
    return 0;
}

int cog_decoder_open(cog_decoder **out, uv_loop_t *loop, const cog_server_config *cfg, cog_err *err)
{
    cog_decoder *dec = cog_new(cog_decoder);

    dec->loop = loop;
    dec->cfg = cfg;
    dec->queue_end = &dec->queue;
    dec->done_end = &dec->done;
    dec->waiting_end = &dec->waiting;
    dec->quarantine.keep_ns = (uint64_t)cfg->image_quarantine_ms * 1000000;
    dec->cache.max_bytes = cfg->image_pixel_cache;
    uv_timer_init(loop, &dec->tick);
    dec->tick.data = dec;
    uv_async_init(loop, &dec->ended, on_ended);
    dec->ended.data = dec;
    *out = dec; /* also on failure: what is on the loop must be closed there */
    return start_workers(dec, n_workers_of(cfg), err);
}

void cog_decoder_close(cog_decoder *dec)
{
    if (!dec)
        return;
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
    cog_pixel_cache_fini(&dec->cache);
    cog_free(dec);
}
