/* upload.c - POST /v1/files: from a form to a file in the store.
 *
 *     begin -> worker: take the form apart, copy the file to where it can be decoded
 *           -> is there room? -> decoder -> store, answer
 *
 * The file stays in the request's body, which becomes the store's; what a helper may have written
 * to is only its copy. An upload has a place among the requests whose pictures wait. */
#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "proto/multipart.h"
#include "server/chat_prompt.h"
#include "server/files.h"
#include "server/picture_fault.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MIN_KEPT_S = 3600, MAX_KEPT_S = 2592000, MAX_IGNORED = 10 };

typedef struct upload_job {
    cog_work parsing;
    cog_exchange *x;
    cog_api_error err;
    char boundary[COG_MULTIPART_MAX_BOUNDARY + 1]; /* "": there is none */
    cog_multipart form;
    cog_buf ignored;
    const cog_multipart_part *file;
    const char *purpose; /* static */
    int64_t kept_s;
    cog_decode decode;
} upload_job;

/* ------------------------------------------------------------------ a worker: the form */

static int refuse(upload_job *j, cog_api_code code, const char *param, const char *expected)
{
    if (code == COG_API_MISSING)
        return cog_api_error_set(&j->err, code, param, "Missing required parameter: '%s'.", param);
    return cog_api_error_set(&j->err, code, param, "Invalid '%s': expected %s.", param, expected);
}

static bool is_text(const cog_multipart_part *p, const char *text)
{
    return p->len == strlen(text) && memcmp(p->data, text, p->len) == 0;
}

static int read_purpose(upload_job *j, const cog_multipart_part *p)
{
    for (const char *const *known = cog_file_purposes; p && *known; known++) {
        if (is_text(p, *known)) {
            j->purpose = *known;
            return 0;
        }
    }
    return refuse(j, p ? COG_API_INVALID_VALUE : COG_API_MISSING, "purpose",
                  "'vision' or 'user_data'");
}

/* Both or none. */
static int read_expiry(upload_job *j, const cog_multipart_part *anchor,
                       const cog_multipart_part *seconds)
{
    char text[12] = "", *end;

    if (!anchor && !seconds)
        return 0;
    if (!anchor || !seconds)
        return refuse(j, COG_API_MISSING,
                      anchor ? "expires_after[seconds]" : "expires_after[anchor]", "");
    if (!is_text(anchor, "created_at"))
        return refuse(j, COG_API_INVALID_VALUE, "expires_after[anchor]", "'created_at'");
    if (seconds->len < sizeof(text))
        memcpy(text, seconds->data, seconds->len);
    j->kept_s = strtol(text, &end, 10);
    if (end == text || *end || text[strspn(text, "0123456789")])
        return refuse(j, COG_API_INVALID_TYPE, "expires_after[seconds]", "a whole number");
    if (j->kept_s < MIN_KEPT_S)
        return refuse(j, COG_API_INTEGER_BELOW, "expires_after[seconds]", "at least 3600");
    if (j->kept_s > MAX_KEPT_S)
        return refuse(j, COG_API_INTEGER_ABOVE, "expires_after[seconds]", "at most 2592000");
    return 0;
}

static bool is_visible(const char *name)
{
    for (; *name; name++) {
        if (*name <= ' ' || *name >= 0x7f || *name == ',')
            return false;
    }
    return true;
}

static int note_unknown(upload_job *j, const char *name, int *n)
{
    char quoted[COG_API_QUOTE];

    if (j->x->server->cfg.strict_parameters)
        return cog_api_error_set(&j->err, COG_API_UNKNOWN_PARAMETER, name, "Unknown parameter: %s.",
                                 cog_api_quote(quoted, name, strlen(name)));
    if (++*n <= MAX_IGNORED && is_visible(name)) {
        cog_buf_puts(&j->ignored, j->ignored.len ? "," : "");
        cog_buf_puts(&j->ignored, name);
    }
    return 0;
}

static int read_parts(upload_job *j)
{
    static const char *const names[] = { "file", "purpose", "expires_after[anchor]",
                                         "expires_after[seconds]" };
    const cog_multipart_part *found[4] = { NULL };
    int n_unknown = 0;

    for (int i = 0; i < j->form.n; i++) {
        const cog_multipart_part *p = &j->form.part[i];
        int k = 0;

        while (k < 4 && strcmp(names[k], p->name) != 0)
            k++;
        if (k == 4 && note_unknown(j, p->name, &n_unknown) < 0)
            return COG_EINVAL;
        if (k < 4 && found[k])
            return refuse(j, COG_API_INVALID_VALUE, names[k], "it once");
        if (k < 4)
            found[k] = p;
    }
    j->file = found[0];
    if (!j->file)
        return refuse(j, COG_API_MISSING, "file", "");
    if (read_purpose(j, found[1]) < 0)
        return COG_EINVAL;
    return read_expiry(j, found[2], found[3]);
}

static int read_form(upload_job *j)
{
    const cog_exchange *x = j->x;
    cog_err why = { 0 };

    if (!j->boundary[0])
        cog_err_set(&why, COG_EINVAL, "its Content-Type has no boundary, or a wrong one");
    else
        cog_multipart_parse(&j->form, cog_buf_text(&x->body), x->body.len, j->boundary, &why);
    if (why.code)
        return cog_api_error_set(&j->err, COG_API_INVALID_FORM, NULL,
                                 "The request is no form that can be read: %s.", why.text);
    return read_parts(j);
}

static int copy_file(upload_job *j)
{
    cog_server *s = j->x->server;
    cog_decode fault = { .status = COG_DECODE_REFUSED };
    cog_err why;

    if (j->file->len == 0 || j->file->len > s->cfg.image.max_bytes) {
        fault.fault = j->file->len ? COG_IMAGE_FILE_SIZE : COG_IMAGE_EMPTY;
        return cog_picture_fault(&j->err, &fault, "file", false, j->x);
    }
    if (cog_decode_init(&j->decode, s->decoder, j->file->len,
                        cog_engine_get_info(s->engine)->image_side, &why) < 0) {
        cog_log(COG_ERROR, "event=picture_not_read id=%s reason=\"%s\"", j->x->id, why.text);
        cog_picture_fault_later(&j->err);
        return COG_EINVAL;
    }
    memcpy(j->decode.memory.base, j->file->data, j->file->len);
    j->decode.file_len = j->file->len;
    cog_decode_ready(&j->decode, s->decoder);
    return 0;
}

static upload_job *job_of(cog_work *w)
{
    return (upload_job *)(void *)((char *)w - offsetof(upload_job, parsing));
}

static void understand(cog_work *w)
{
    upload_job *j = job_of(w);

    if (read_form(j) == 0)
        copy_file(j);
}

/* ------------------------------------------------------------------ the loop */

static size_t cost_of(const upload_job *j)
{
    return cog_file_cost(j->x->body.len, cog_engine_get_info(j->x->server->engine)->image_side);
}

static int check_room(upload_job *j)
{
    cog_exchange *x = j->x;
    cog_err why;

    if (cog_file_store_check(x->server->files, &x->client->digest, cost_of(j), &why) == 0)
        return 0;
    return cog_api_error_set(&j->err, COG_API_FILES_FULL, NULL, "The upload is refused: %s.",
                             why.text);
}

static bool goes_on(upload_job *j)
{
    cog_exchange *x = j->x;

    if (x->is_gone || x->reply.status)
        return false;
    if (j->err.code == COG_API_NONE)
        return true;
    cog_exchange_fail(x, &j->err);
    return false;
}

static void end(upload_job *j)
{
    cog_exchange *x = j->x;
    cog_server *s = x->server;

    cog_decode_fini(&j->decode);
    s->n_preparing--;
    s->n_working--;
    cog_body_drop(x);
    cog_exchange_unref(x);
    cog_http_flush(s);
}

static void answer(upload_job *j, const cog_file *f)
{
    cog_exchange *x = j->x;

    x->reply.status = 200;
    x->reply.type = "application/json";
    cog_files_write(&x->reply.body, f);
    if (j->ignored.len)
        cog_reply_header(&x->reply, "x-ignored-parameters", "%s", j->ignored.data);
    cog_exchange_reply(x);
}

static void store(upload_job *j)
{
    cog_exchange *x = j->x;
    cog_server *s = x->server;
    int64_t now = time(NULL);
    cog_new_file file = { .owner = x->client->digest,
                          .filename = j->file->filename[0] ? j->file->filename : "file",
                          .purpose = j->purpose,
                          .created = now,
                          .expires = now + j->kept_s,
                          .body_len = x->body.len,
                          .len = j->file->len,
                          .image = j->decode.image };
    size_t at = (size_t)(j->file->data - x->body.data);
    char *body = cog_body_detach(x);
    cog_file *f;

    file.data = (uint8_t *)body + at;
    if (cog_file_store_add(&f, s->files, &file, body) < 0) {
        cog_free(body);
        cog_log(COG_ERROR, "event=file_not_stored id=%s reason=\"no random numbers\"", x->id);
        cog_exchange_fail_code(x, COG_API_INTERNAL);
        return;
    }
    answer(j, f);
}

static void after_decode(cog_decode *d)
{
    upload_job *j = d->user;
    cog_exchange *x = j->x;

    if (d->image)
        x->record.image_pixels =
            (uint64_t)d->image->source_width * (uint64_t)d->image->source_height;
    cog_picture_fault(&j->err, d, "file", false, x);
    cog_metrics_picture(x, j->err.code, d->status == COG_DECODE_CANCELED);
    if (d->status == COG_DECODE_CANCELED && !x->is_gone && !x->reply.status)
        cog_exchange_fail_code(x, COG_API_DEADLINE);
    else if (goes_on(j)) {
        if (check_room(j) == 0)
            store(j);
        else
            cog_exchange_fail(x, &j->err);
    }
    end(j);
}

static void after_understand(cog_work *w)
{
    upload_job *j = job_of(w);
    cog_exchange *x = j->x;

    if (j->err.code == COG_API_NONE)
        check_room(j);
    if (!goes_on(j)) {
        end(j);
        return;
    }
    cog_record_picture(&x->record, j->decode.memory.base, j->decode.file_len);
    j->decode.user = j;
    j->decode.done = after_decode;
    j->decode.deadline_ns = x->deadline_ns;
    j->decode.began_ns = &x->record.decode_ns;
    cog_decoder_submit(x->server->decoder, &j->decode);
}

void cog_upload_begin(cog_exchange *x)
{
    cog_server *s = x->server;
    upload_job *j;

    if (!cog_status_has_room(s, 1)) {
        cog_exchange_fail_code(x, COG_API_OVERLOADED);
        return;
    }
    j = cog_new(upload_job);
    x->job = j;
    j->x = x;
    j->kept_s = s->cfg.files_expiry_ms / 1000;
    if (cog_multipart_boundary(j->boundary, x->head.content_type) < 0)
        j->boundary[0] = '\0';
    j->parsing = (cog_work){ .run = understand, .done = after_understand };
    atomic_init(&j->decode.is_abandoned, false);
    cog_http_watch(x);
    cog_exchange_ref(x);
    s->n_working++;
    s->n_preparing++;
    cog_workers_post(s->workers, &j->parsing, x->body.len > COG_LARGE_BODY);
}

void cog_upload_cancel(cog_exchange *x)
{
    upload_job *j = x->job;

    if (j)
        cog_decoder_cancel(x->server->decoder, &j->decode);
}

void cog_upload_fini(cog_exchange *x)
{
    upload_job *j = x->job;

    if (!j)
        return;
    cog_buf_fini(&j->ignored);
    cog_free(j);
    x->job = NULL;
}
