/* generate_picture.c - a request's picture, from where it lies to its pixels. */
#include "base/err.h"
#include "base/log.h"
#include "server/generate.h"

#include <stdio.h>

static void refuse_picture(cog_generate_job *j, cog_image_fault fault, const cog_err *why)
{
    const cog_chat_picture *p = j->picture;
    const cog_image_options *o = &j->x->server->cfg.image;
    cog_api_code code = COG_API_IMAGE_BROKEN;
    char text[600];

    snprintf(text, sizeof(text), "The picture cannot be decoded: %s.", why->text);

    switch (fault) {
    case COG_IMAGE_EMPTY:
        code = COG_API_IMAGE_EMPTY;
        snprintf(text, sizeof(text), "The picture has no bytes.");
        break;
    case COG_IMAGE_FILE_SIZE:
        code = COG_API_IMAGE_FILE_SIZE;
        snprintf(text, sizeof(text), "The picture's file is larger than the %zu bytes allowed.",
                 o->max_bytes);
        break;
    case COG_IMAGE_UNKNOWN:
        code = p->is_bare ? COG_API_IMAGE_URL : COG_API_IMAGE_MEDIA_TYPE;
        snprintf(text, sizeof(text), "The picture is none of JPEG, PNG, WebP and GIF.");
        break;
    case COG_IMAGE_TOO_LARGE:
        code = COG_API_IMAGE_TOO_LARGE;
        snprintf(text, sizeof(text),
                 "The picture is larger than the %llu pixels and the side of %d pixels allowed.",
                 (unsigned long long)o->max_pixels, o->max_side);
        break;
    case COG_IMAGE_TOO_SMALL:
        code = COG_API_IMAGE_TOO_SMALL;
        snprintf(text, sizeof(text), "The picture has a side of zero pixels.");
        break;
    default:
        break;
    }
    cog_api_error_set(&j->err, code, p->param, "%s", text);
}

static void refuse_for_now(cog_api_error *err)
{
    cog_api_error_set(err, COG_API_OVERLOADED, NULL,
                      "The server cannot decode a picture now. Try again shortly.");
    err->retry_after_ms = 1000;
}

void cog_generate_read_picture(cog_generate_job *j)
{
    cog_server *s = j->x->server;
    size_t room;
    cog_err err;

    if (atomic_load(&j->is_abandoned))
        return;
    j->is_read = true;
    if (cog_picture_source_room(&j->source, &room, &s->media, s->cfg.image.max_bytes,
                                &j->read_err) < 0)
        return;
    if (cog_decode_init(&j->decode, s->decoder, room, cog_engine_get_info(s->engine)->image_side,
                        &err) < 0) {
        cog_log(COG_ERROR, "event=picture_not_read id=%s reason=\"%s\"", j->x->id, err.text);
        refuse_for_now(&j->read_err);
        return;
    }
    if (cog_picture_source_read(&j->source, j->decode.memory.base, &j->decode.file_len,
                                &j->read_err) == 0)
        cog_decode_ready(&j->decode, s->decoder);
}

/* ------------------------------------------------------------------ decode */

static void check_decode(cog_generate_job *j)
{
    const cog_decode *d = &j->decode;
    cog_exchange *x = j->x;

    switch (d->status) {
    case COG_DECODE_REFUSED:
        refuse_picture(j, d->fault, &d->err);
        break;
    case COG_DECODE_NO_MEMORY: /* within the limits of size: a smaller picture is the remedy */
        cog_api_error_set(&j->err, COG_API_IMAGE_TOO_LARGE, j->picture->param,
                          "The picture takes more memory to decode than this server allows.");
        break;
    case COG_DECODE_FAILED:
        cog_log(COG_ERROR, "event=picture_failed id=%s", x->id);
        cog_status_fail(&j->err, x->id);
        break;
    case COG_DECODE_QUARANTINED:
        cog_log(COG_WARN, "event=picture_quarantined id=%s", x->id);
        cog_api_error_set(&j->err, COG_API_QUARANTINED, j->picture->param,
                          "This picture made the server fail before and is not tried again.");
        break;
    case COG_DECODE_UNAVAILABLE:
        cog_log(COG_ERROR, "event=picture_not_read id=%s reason=\"no helper\"", x->id);
        refuse_for_now(&j->err);
        break;
    case COG_DECODE_DONE:
    case COG_DECODE_CANCELED:
        break;
    }
}

static void after_decode(cog_decode *d)
{
    cog_generate_job *j = d->user;
    cog_exchange *x = j->x;

    x->server->n_preparing--;
    if (d->image) {
        j->boxes.width = d->image->source_width;
        j->boxes.height = d->image->source_height;
        x->record.image_pixels = (uint64_t)j->boxes.width * (uint64_t)j->boxes.height;
    }
    check_decode(j);
    cog_metrics_picture(x, j->err.code, d->status == COG_DECODE_CANCELED);
    j->requests[0]->image = d->image;
    d->image = NULL;
    cog_decode_fini(d);
    if (cog_generate_end_work(j))
        cog_generate_submit(j);
    cog_generate_let_go(x);
}

/* No picture comes of it: the request was refused, or nobody waits. */
static void give_up(cog_generate_job *j)
{
    cog_exchange *x = j->x;

    x->server->n_preparing--;
    cog_metrics_picture(x, j->err.code, j->err.code == COG_API_NONE);
    cog_decode_fini(&j->decode);
}

/* It is read, for better or worse. */
static void decode(cog_generate_job *j)
{
    cog_exchange *x = j->x;

    cog_picture_source_fini(&j->source);
    j->err = j->read_err;
    if (!cog_generate_goes_on(j)) {
        give_up(j);
        return;
    }
    /* What waits for its turn to be decoded holds its file and its prompt, nothing else. */
    j->form->release(j);
    cog_body_drop(x);
    cog_generate_hold(j);
    j->decode.user = j;
    j->decode.done = after_decode;
    j->decode.deadline_ns = x->deadline_ns;
    j->decode.salt = j->requests[0]->no_cache ? NULL : &j->requests[0]->salt;
    j->decode.began_ns = &x->record.decode_ns;
    cog_record_picture(&x->record, j->decode.memory.base, j->decode.file_len);
    cog_decoder_submit(x->server->decoder, &j->decode);
}

/* ------------------------------------------------------------------ fetch, read */

static void read_in_pool(uv_work_t *w)
{
    cog_generate_read_picture(w->data);
}

static void after_read(uv_work_t *w, int status)
{
    cog_generate_job *j = w->data;

    j->is_working = false;
    if (cog_generate_end_work(j))
        decode(j);
    else
        give_up(j);
    cog_generate_let_go(j->x);
}

static void start_read(cog_generate_job *j)
{
    cog_generate_hold(j);
    j->is_working = true;
    uv_queue_work(&j->x->server->loop, &j->work, read_in_pool, after_read);
}

static void after_fetch(cog_fetch *f)
{
    cog_generate_job *j = f->user;
    cog_exchange *x = j->x;

    j->is_fetching = false;
    if (f->status != COG_FETCH_OK)
        cog_log(COG_INFO, "event=picture_not_fetched id=%s curl=%d status=%d", x->id, f->curl_code,
                f->http_status);
    cog_picture_source_fetched(&j->source, x->server->cfg.image.max_bytes, &j->err);
    if (cog_generate_end_work(j))
        start_read(j);
    else
        give_up(j);
    cog_generate_let_go(x);
}

static void start_fetch(cog_generate_job *j)
{
    cog_exchange *x = j->x;
    cog_server *s = x->server;

    cog_generate_hold(j);
    j->is_fetching = true;
    cog_picture_source_start(&j->source, s->fetcher, x->deadline_ns, s->cfg.image.max_bytes,
                             after_fetch, j);
}

void cog_generate_start_picture(cog_generate_job *j)
{
    cog_record_enter(&j->x->record, COG_AT_IMAGE_WAIT);
    j->x->record.n_images = 1;
    j->x->server->n_preparing++;
    if (j->is_read)
        decode(j);
    else if (cog_picture_source_is_remote(&j->source))
        start_fetch(j);
    else
        start_read(j);
}

void cog_generate_cancel_picture(cog_generate_job *j)
{
    if (j->is_working)
        uv_cancel((uv_req_t *)&j->work);
    if (j->is_fetching)
        cog_fetch_cancel(&j->source.fetch);
    cog_decoder_cancel(j->x->server->decoder, &j->decode);
}
