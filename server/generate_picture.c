/* generate_picture.c - a request's picture, from where it lies to its pixels. */
#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "server/generate.h"
#include "server/picture_fault.h"

#include <string.h>
#include <time.h>

int cog_generate_set_picture(cog_generate_job *j, const cog_chat_picture *asked)
{
    cog_generate_picture *p;

    if (asked->kind == COG_PICTURE_NONE)
        return 0;
    p = j->picture = cog_new(cog_generate_picture);
    p->asked = asked;
    p->work.data = j;
    atomic_init(&p->decode.is_abandoned, false);
    return cog_picture_source_check(&p->source, asked, &j->x->server->cfg, &j->err);
}

bool cog_generate_is_remote(const cog_generate_job *j)
{
    return j->picture && cog_picture_source_is_remote(&j->picture->source);
}

bool cog_generate_is_stored(const cog_generate_job *j)
{
    return j->picture && j->picture->asked->kind == COG_PICTURE_STORED;
}

void cog_generate_drop_picture(cog_generate_job *j)
{
    if (!j->picture)
        return;
    cog_decode_fini(&j->picture->decode);
    cog_picture_source_fini(&j->picture->source);
    cog_free(j->picture);
    j->picture = NULL;
}

void cog_generate_read_picture(cog_generate_job *j)
{
    cog_generate_picture *p = j->picture;
    cog_server *s = j->x->server;
    size_t room;
    cog_err err;

    if (atomic_load(&j->is_abandoned))
        return;
    p->is_read = true;
    if (cog_picture_source_room(&p->source, &room, &s->media, s->cfg.image.max_bytes,
                                &p->read_err) < 0)
        return;
    if (cog_decode_init(&p->decode, s->decoder, room, cog_engine_get_info(s->engine)->image_side,
                        &err) < 0) {
        cog_log(COG_ERROR, "event=picture_not_read id=%s reason=\"%s\"", j->x->id, err.text);
        cog_picture_fault_later(&p->read_err);
        return;
    }
    if (cog_picture_source_read(&p->source, p->decode.memory.base, &p->decode.file_len,
                                &p->read_err) == 0)
        cog_decode_ready(&p->decode, s->decoder);
}

/* ------------------------------------------------------------------ decode */

/* The record has one picture at a time. */
static void count_picture(cog_generate_job *j, bool is_abandoned)
{
    cog_record *r = &j->x->record;

    r->image_format = j->image_format;
    r->image_pixels = (uint64_t)j->boxes.width * (uint64_t)j->boxes.height;
    cog_metrics_picture(j->x, j->err.code, is_abandoned);
}

static void after_decode(cog_decode *d)
{
    cog_generate_job *j = d->user;
    cog_exchange *x = j->x;

    x->server->n_preparing--;
    if (d->image) {
        j->boxes.width = d->image->source_width;
        j->boxes.height = d->image->source_height;
    }
    cog_picture_fault(&j->err, d, j->picture->asked->param, j->picture->asked->is_bare, x);
    count_picture(j, d->status == COG_DECODE_CANCELED);
    j->requests[0]->image = d->image;
    d->image = NULL;
    cog_generate_drop_picture(j);
    if (cog_generate_end_work(j))
        cog_generate_submit(j);
    cog_generate_let_go(x);
}

/* No picture comes of it: the request was refused, or nobody waits. */
static void give_up(cog_generate_job *j)
{
    cog_exchange *x = j->x;

    x->server->n_preparing--;
    count_picture(j, j->err.code == COG_API_NONE);
    cog_generate_drop_picture(j);
    if (j->whole)
        cog_generate_release(j);
}

/* It is read, for better or worse. */
static void decode(cog_generate_job *j)
{
    cog_exchange *x = j->x;
    cog_generate_picture *p = j->picture;

    cog_picture_source_fini(&p->source);
    j->err = p->read_err;
    if (!cog_generate_goes_on(j)) {
        give_up(j);
        return;
    }
    /* What waits for its turn to be decoded holds its file and its prompt, nothing else. */
    cog_generate_release(j);
    cog_generate_hold(j);
    p->decode.user = j;
    p->decode.done = after_decode;
    p->decode.deadline_ns = x->deadline_ns;
    p->decode.salt = j->requests[0]->no_cache ? NULL : &j->requests[0]->salt;
    p->decode.began_ns = &x->record.decode_ns;
    cog_record_picture(&x->record, p->decode.memory.base, p->decode.file_len);
    j->image_format = x->record.image_format;
    cog_decoder_submit(x->server->decoder, &p->decode);
}

/* ------------------------------------------------------------------ fetch, read */

static void read_in_pool(uv_work_t *w)
{
    cog_generate_read_picture(w->data);
}

static void after_read(uv_work_t *w, int status)
{
    cog_generate_job *j = w->data;

    j->picture->is_working = false;
    if (cog_generate_end_work(j))
        decode(j);
    else
        give_up(j);
    cog_generate_let_go(j->x);
}

static void start_read(cog_generate_job *j)
{
    cog_generate_hold(j);
    j->picture->is_working = true;
    uv_queue_work(&j->x->server->loop, &j->picture->work, read_in_pool, after_read);
}

static void after_fetch(cog_fetch *f)
{
    cog_generate_job *j = f->user;
    cog_exchange *x = j->x;

    j->picture->is_fetching = false;
    if (f->status != COG_FETCH_OK)
        cog_log(COG_INFO, "event=picture_not_fetched id=%s curl=%d status=%d", x->id, f->curl_code,
                f->http_status);
    cog_picture_source_fetched(&j->picture->source, x->server->cfg.image.max_bytes, &j->err);
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
    j->picture->is_fetching = true;
    cog_picture_source_start(&j->picture->source, s->fetcher, x->deadline_ns,
                             s->cfg.image.max_bytes, after_fetch, j);
}

/* It was decoded when it was uploaded. */
bool cog_generate_take_stored(cog_generate_job *j)
{
    cog_exchange *x = j->x;
    const cog_chat_picture *asked = j->picture->asked;
    const cog_file *f =
        cog_file_store_find(x->server->files, &x->client->digest, asked->url, time(NULL));
    cog_request *r = j->requests[0];

    cog_generate_drop_picture(j);
    x->record.n_images++;
    j->image_format = -1;
    if (!f) {
        char quoted[COG_API_QUOTE];

        cog_api_error_set(&j->err, COG_API_IMAGE_FILE_NOT_FOUND, asked->param,
                          "There is no file %s.",
                          cog_api_quote(quoted, asked->url, strlen(asked->url)));
        count_picture(j, false);
        return false;
    }
    r->image = cog_image_ref(f->image);
    r->pin = r->no_cache ? 0 : f->number;
    j->boxes.width = r->image->source_width;
    j->boxes.height = r->image->source_height;
    cog_record_picture(&x->record, f->data, f->len);
    j->image_format = x->record.image_format;
    count_picture(j, false);
    return true;
}

void cog_generate_start_picture(cog_generate_job *j)
{
    cog_generate_enter(j, COG_AT_IMAGE_WAIT);
    j->x->record.n_images++;
    j->image_format = -1;
    j->x->server->n_preparing++;
    if (j->picture->is_read)
        decode(j);
    else if (cog_generate_is_remote(j))
        start_fetch(j);
    else
        start_read(j);
}

void cog_generate_cancel_picture(cog_generate_job *j)
{
    cog_generate_picture *p = j->picture;

    if (!p)
        return;
    if (p->is_working)
        uv_cancel((uv_req_t *)&p->work);
    else if (p->is_fetching)
        cog_fetch_cancel(&p->source.fetch);
    else
        cog_decoder_cancel(j->x->server->decoder, &p->decode);
}
