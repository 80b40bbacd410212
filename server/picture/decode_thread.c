/* decode_thread.c - pictures decoded in this process, by the loop's pool. A picture that breaks a
 * decoder breaks the server. */
#include "server/picture/decode_worker.h"

#include "base/alloc.h"

static void read_header(uv_work_t *work)
{
    cog_decode *d = work->data;
    cog_image_format format;

    if (!atomic_load(&d->is_abandoned))
        d->rc = cog_image_probe(&format, &d->width, &d->height, &d->fault, d->memory.base,
                                d->file_len, d->options, &d->err);
}

static void after_header(uv_work_t *work, int status)
{
    cog_decode *d = work->data;

    if (status < 0 || atomic_load(&d->is_abandoned))
        cog_worker_end(d->worker, COG_DECODE_CANCELED, COG_WORKER_IDLE);
    else if (d->rc < 0)
        cog_worker_end(d->worker, COG_DECODE_REFUSED, COG_WORKER_IDLE);
    else
        cog_worker_header(d->worker, d->width, d->height);
}

static void read_pixels(uv_work_t *work)
{
    cog_decode *d = work->data;

    if (!atomic_load(&d->is_abandoned))
        d->rc = cog_image_load(&d->image, &d->fault, d->memory.base, d->file_len, d->side,
                               d->options, &d->err);
}

static void after_pixels(uv_work_t *work, int status)
{
    cog_decode *d = work->data;

    if (status < 0 || atomic_load(&d->is_abandoned))
        cog_worker_end(d->worker, COG_DECODE_CANCELED, COG_WORKER_IDLE);
    else
        cog_worker_end(d->worker, d->rc < 0 ? COG_DECODE_REFUSED : COG_DECODE_DONE,
                       COG_WORKER_IDLE);
}

static void thread_header(cog_decode_worker *w)
{
    uv_queue_work(cog_decoder_loop(w->decoder), &w->d->work, read_header, after_header);
}

static void thread_pixels(cog_decode_worker *w)
{
    uv_queue_work(cog_decoder_loop(w->decoder), &w->d->work, read_pixels, after_pixels);
}

static void thread_abandon(cog_decode_worker *w)
{
    if (w->phase == COG_WORKER_WAITING)
        cog_worker_end(w, COG_DECODE_CANCELED, COG_WORKER_IDLE);
    else
        uv_cancel((uv_req_t *)&w->d->work);
}

static void thread_tick(cog_decode_worker *w, uint64_t now_ns)
{
}

static void thread_close(cog_decode_worker *w)
{
}

static void thread_free(cog_decode_worker *w)
{
    cog_free(w);
}

static const struct cog_worker_ops ops = { .header = thread_header,
                                           .pixels = thread_pixels,
                                           .abandon = thread_abandon,
                                           .tick = thread_tick,
                                           .close = thread_close,
                                           .free = thread_free };

cog_decode_worker *cog_decode_thread_new(cog_decoder *dec)
{
    cog_decode_worker *w = cog_new(cog_decode_worker);

    w->ops = &ops;
    w->decoder = dec;
    w->phase = COG_WORKER_IDLE;
    return w;
}
