/* chat.c - POST /v1/chat/completions: from a complete body to a complete answer.
 *
 *     begin -> worker: understand -> admit -> [[fetch] -> pool: read -> decoder] -> submit
 *           -> events -> END
 *
 * The stages on other threads touch the job, the body and immutable facts only; between them and
 * after them the loop thread looks whether the client is still there. Everything that can be
 * refused without looking at the picture is refused before it. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "proto/chat.h"
#include "proto/chat_write.h"
#include "server/chat_prompt.h"
#include "server/internal.h"
#include "server/picture/decoder.h"
#include "server/picture/source.h"

#include <assert.h>
#include <math.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct chat_job {
    cog_exchange *x;
    cog_work parsing;
    uv_work_t work;
    bool is_working;
    atomic_bool is_abandoned; /* read by the pool: do not start what nobody waits for */

    char nonce[COG_NONCE_SIZE];
    cog_chat chat; /* until the request is built */
    cog_api_error err;
    cog_request *request; /* until the engine takes it */
    uint64_t id;          /* the engine's */
    bool is_submitted;

    int n, n_stop;
    bool stream, include_usage, continuous_usage;
    bool has_metrics; /* the answer has them */
    cog_chat_metrics metrics;
    char *stop[COG_MAX_STOPS]; /* owned; for stop_reason */
    cog_buf ignored;
    cog_chat_stream writer;
    bool has_roles;
    cog_chat_choice *choices; /* n of them */
    cog_chat_usage usage;
    cog_pace *pace; /* n of them */
    cog_picture_source source;
    bool is_fetching;
    cog_decode decode;
} chat_job;

/* ------------------------------------------------------------------ worker: understand */

/* The room for the answer, from the asked limit and the context. */
static int set_length(chat_job *j, const cog_engine_info *info)
{
    const cog_prompt *p = &j->request->prompt;
    int64_t wanted = cog_chat_max_tokens(&j->chat);
    int64_t room = (int64_t)cog_chat_prompt_capacity(info) - p->n_tokens;

    if (room < 1 || (wanted > room && j->x->server->cfg.reject_overflow))
        return cog_chat_prompt_refuse(info, false, p->n_tokens, p->n_image_tokens,
                                      wanted ? wanted : 1, &j->err);
    j->request->max_tokens = (int)(wanted && wanted < room ? wanted : room);
    return 0;
}

static uint64_t random_seed(void)
{
    uint64_t seed = 0;

    if (RAND_bytes((unsigned char *)&seed, sizeof(seed)) != 1)
        seed = cog_now_ns();
    return seed;
}

static void hash_user(char out[9], const char *user)
{
    cog_sha256 d = cog_sha256_of(&(cog_span){ user, strlen(user) }, 1);

    snprintf(out, 9, "%02x%02x%02x%02x", d.byte[0], d.byte[1], d.byte[2], d.byte[3]);
}

/* Whose turn the request uses. Not a secret: an equal number costs two users a fair share. */
static uint64_t tenant_of(const cog_exchange *x, const char *user)
{
    uint64_t tenant;
    cog_sha256 d = cog_sha256_of((const cog_span[]){ { "tenant", 7 },
                                                     { &x->client->digest, sizeof(cog_sha256) },
                                                     { user, user ? strlen(user) : 0 } },
                                 3);

    memcpy(&tenant, d.byte, sizeof(tenant));
    return tenant;
}

/* What two requests must have in common to share what was computed for either. */
static cog_sha256 salt_of(const cog_exchange *x, const char *cache_salt)
{
    return cog_sha256_of((const cog_span[]){ { "cache salt", 11 },
                                             { &x->client->digest, sizeof(cog_sha256) },
                                             { cache_salt, cache_salt ? strlen(cache_salt) : 0 } },
                         3);
}

static void build_request(chat_job *j)
{
    const cog_chat *c = &j->chat;
    cog_request *r = j->request;

    r->sampling = (cog_sampling){
        .temperature = (float)c->temperature,
        .top_p = (float)c->top_p,
        .top_k = c->top_k > 0 ? (int)c->top_k : 0,
        .min_p = (float)c->min_p,
        .repetition_penalty = fmaxf((float)c->repetition_penalty, 0.01f), /* 1e-46 is no float */
        .frequency_penalty = (float)c->frequency_penalty,
        .presence_penalty = (float)c->presence_penalty,
        .seed = c->has_seed ? (uint64_t)c->seed : random_seed(),
    };
    r->tenant = tenant_of(j->x, c->user);
    r->salt = salt_of(j->x, c->cache_salt);
    r->no_cache = !c->cache_prompt;
    r->priority = (int)c->priority;
    r->n = (int)c->n;
    r->n_stop = c->n_stop;
    for (int i = 0; i < c->n_stop; i++) {
        r->stop[i] = cog_strdup(c->stop[i]);
        j->stop[i] = cog_strdup(c->stop[i]);
    }
    j->n = r->n;
    j->n_stop = c->n_stop;
    j->stream = c->stream;
    j->include_usage = c->include_usage;
    j->continuous_usage = c->continuous_usage;
    j->has_metrics = c->return_metrics && c->n == 1;
    j->choices = cog_array(cog_chat_choice, (size_t)j->n);
    j->pace = cog_array(cog_pace, (size_t)j->n);
    j->usage.prompt_tokens = r->prompt.n_tokens;
    j->usage.image_tokens = r->prompt.n_image_tokens;
    if (c->user)
        hash_user(j->x->record.user, c->user);
    j->ignored = j->chat.ignored;
    j->chat.ignored = (cog_buf){ 0 };
}

static void understand(cog_work *w)
{
    chat_job *j = (chat_job *)(void *)((char *)w - offsetof(chat_job, parsing));
    cog_server *s = j->x->server;
    const cog_engine_info *info = cog_engine_get_info(s->engine);
    cog_chat_options opt = cog_chat_prompt_options(s, j->nonce);

    if (atomic_load(&j->is_abandoned))
        return;
    if (!info) {
        cog_status_fail(&j->err, j->x->id);
        return;
    }
    if (cog_chat_prompt_nonce(j->nonce, j->x->id, &j->err) < 0 ||
        cog_chat_init(&j->chat, j->x->body.data ? j->x->body.data : "", j->x->body.len, &opt,
                      &j->err) < 0 ||
        cog_chat_prompt_check_model(&s->cfg, j->chat.model, &j->err) < 0 ||
        cog_picture_source_check(&j->source, &j->chat.picture, &s->cfg, &j->err) < 0)
        return;
    j->request = cog_new(cog_request);
    if (cog_chat_prompt_build(&j->request->prompt, s, &j->chat, j->x->id, &j->err) < 0 ||
        set_length(j, info) < 0)
        return;
    build_request(j);
}

/* ------------------------------------------------------------------ pool: picture */

static void refuse_picture(chat_job *j, cog_image_fault fault, const cog_err *why)
{
    const cog_chat_picture *p = &j->chat.picture;
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

/* The picture's file, into memory where it can be decoded. */
static void read_picture(uv_work_t *w)
{
    chat_job *j = w->data;
    cog_server *s = j->x->server;
    size_t room;
    cog_err err;

    if (atomic_load(&j->is_abandoned) ||
        cog_picture_source_room(&j->source, &room, &s->media, s->cfg.image.max_bytes, &j->err) < 0)
        return;
    if (cog_decode_init(&j->decode, s->decoder, room, cog_engine_get_info(s->engine)->image_side,
                        &err) < 0) {
        cog_log(COG_ERROR, "event=picture_not_read id=%s reason=\"%s\"", j->x->id, err.text);
        refuse_for_now(&j->err);
        return;
    }
    if (cog_picture_source_read(&j->source, j->decode.memory.base, &j->decode.file_len, &j->err) ==
        0)
        cog_decode_ready(&j->decode, s->decoder);
}

/* ------------------------------------------------------------------ between the stages */

static void hold(chat_job *j)
{
    cog_exchange_ref(j->x);
    j->x->server->n_working++;
}

static void start_work(chat_job *j, uv_work_cb work, uv_after_work_cb after)
{
    hold(j);
    j->is_working = true;
    uv_queue_work(&j->x->server->loop, &j->work, work, after);
}

/* True when the request goes on. */
static bool end_work(chat_job *j)
{
    cog_server *s = j->x->server;

    j->is_working = false;
    s->n_working--;
    if (j->x->is_gone || j->x->reply.status)
        return false;
    if (cog_now_ns() >= j->x->deadline_ns)
        cog_status_text(s, COG_API_DEADLINE, &j->err);
    if (j->chat.request_id && !j->x->has_client_id && cog_chat_is_request_id(j->chat.request_id))
        snprintf(j->x->id, sizeof(j->x->id), "%s", j->chat.request_id);
    if (j->err.code == COG_API_NONE)
        return true;
    cog_exchange_fail(j->x, &j->err);
    return false;
}

static void submit(chat_job *j)
{
    cog_exchange *x = j->x;
    cog_server *s = x->server;
    cog_request *r = j->request;
    cog_err err;
    int rc;

    cog_chat_fini(&j->chat);
    cog_body_drop(x);
    j->id = r->id = ++s->next_id;
    r->user = x;
    r->deadline_ns = x->deadline_ns;
    x->record.n = r->n;
    x->record.max_tokens = r->max_tokens;
    cog_record_enter(&x->record, COG_AT_ENGINE);
    rc = cog_engine_submit(s->engine, r, &err);
    if (rc < 0) {
        cog_record_enter(&x->record, COG_AT_WRITE);
        if (rc != COG_EBUSY)
            cog_log(COG_ERROR, "event=submit_failed id=%s code=%s", x->id, cog_err_name(rc));
        cog_exchange_fail_code(x, rc == COG_EBUSY ? COG_API_OVERLOADED : COG_API_INTERNAL);
        return;
    }
    j->request = NULL;
    j->is_submitted = true;
    cog_exchange_ref(x);
    if (s->n_submitted++ == 0)
        s->submitted_ns = cog_now_ns();
    cog_outflow_begin(&s->outflow, cog_now_ns());
    x->record.is_submitted = true;
    x->is_stream = j->stream;
    x->wrote_ns = cog_now_ns();
    if (j->ignored.len)
        cog_reply_header(&x->reply, "x-ignored-parameters", "%s", j->ignored.data);
}

/* The last of a stage: what start_work and hold began. */
static void let_go(cog_exchange *x)
{
    cog_server *s = x->server;

    cog_exchange_unref(x);
    cog_http_flush(s);
}

static void check_decode(chat_job *j)
{
    const cog_decode *d = &j->decode;
    cog_exchange *x = j->x;

    switch (d->status) {
    case COG_DECODE_REFUSED:
        refuse_picture(j, d->fault, &d->err);
        break;
    case COG_DECODE_NO_MEMORY: /* within the limits of size: a smaller picture is the remedy */
        cog_api_error_set(&j->err, COG_API_IMAGE_TOO_LARGE, j->chat.picture.param,
                          "The picture takes more memory to decode than this server allows.");
        break;
    case COG_DECODE_FAILED:
        cog_log(COG_ERROR, "event=picture_failed id=%s", x->id);
        cog_status_fail(&j->err, x->id);
        break;
    case COG_DECODE_QUARANTINED:
        cog_log(COG_WARN, "event=picture_quarantined id=%s", x->id);
        cog_api_error_set(&j->err, COG_API_QUARANTINED, j->chat.picture.param,
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
    chat_job *j = d->user;
    cog_exchange *x = j->x;

    x->server->n_preparing--;
    if (d->image)
        x->record.image_pixels =
            (uint64_t)d->image->source_width * (uint64_t)d->image->source_height;
    check_decode(j);
    cog_metrics_picture(x, j->err.code, d->status == COG_DECODE_CANCELED);
    j->request->image = d->image;
    d->image = NULL;
    cog_decode_fini(d);
    if (end_work(j))
        submit(j);
    let_go(x);
}

static void after_read(uv_work_t *w, int status)
{
    chat_job *j = w->data;
    cog_exchange *x = j->x;

    cog_picture_source_fini(&j->source);
    if (end_work(j)) {
        /* What waits for its turn to be decoded holds its file and its prompt, nothing else. */
        cog_chat_release(&j->chat);
        cog_body_drop(x);
        hold(j);
        j->decode.user = j;
        j->decode.done = after_decode;
        j->decode.deadline_ns = x->deadline_ns;
        j->decode.salt = j->request->no_cache ? NULL : &j->request->salt;
        j->decode.began_ns = &x->record.decode_ns;
        cog_record_picture(&x->record, j->decode.memory.base, j->decode.file_len);
        cog_decoder_submit(x->server->decoder, &j->decode);
    } else {
        x->server->n_preparing--;
        cog_metrics_picture(x, j->err.code, j->err.code == COG_API_NONE);
        cog_decode_fini(&j->decode);
    }
    let_go(x);
}

static void after_fetch(cog_fetch *f)
{
    chat_job *j = f->user;
    cog_exchange *x = j->x;

    j->is_fetching = false;
    if (f->status != COG_FETCH_OK)
        cog_log(COG_INFO, "event=picture_not_fetched id=%s curl=%d status=%d", x->id, f->curl_code,
                f->http_status);
    cog_picture_source_fetched(&j->source, x->server->cfg.image.max_bytes, &j->err);
    if (end_work(j)) {
        start_work(j, read_picture, after_read);
    } else {
        x->server->n_preparing--;
        cog_metrics_picture(x, j->err.code, j->err.code == COG_API_NONE);
    }
    let_go(x);
}

static void start_fetch(chat_job *j)
{
    cog_exchange *x = j->x;
    cog_server *s = x->server;

    hold(j);
    j->is_fetching = true;
    cog_picture_source_start(&j->source, s->fetcher, x->deadline_ns, s->cfg.image.max_bytes,
                             after_fetch, j);
}

/* Everything the request itself says is fine, and it has its place since it began. */
static void admit(chat_job *j)
{
    cog_server *s = j->x->server;
    bool is_remote = cog_picture_source_is_remote(&j->source);

    if (is_remote && !cog_body_reserve(j->x, s->cfg.image.max_bytes)) {
        cog_exchange_fail_code(j->x, COG_API_OVERLOADED);
        return;
    }
    if (!cog_auth_count_prompt(j->x, j->request->prompt.n_tokens, &j->err)) {
        cog_exchange_fail(j->x, &j->err);
        return;
    }
    if (j->chat.picture.kind == COG_PICTURE_NONE) {
        submit(j);
        return;
    }
    cog_record_enter(&j->x->record, COG_AT_IMAGE_WAIT);
    j->x->record.n_images = 1;
    s->n_preparing++;
    if (is_remote)
        start_fetch(j);
    else
        start_work(j, read_picture, after_read);
}

static void after_understand(cog_work *w)
{
    chat_job *j = (chat_job *)(void *)((char *)w - offsetof(chat_job, parsing));
    cog_exchange *x = j->x;

    x->server->n_parsing--;
    if (end_work(j))
        admit(j);
    let_go(x);
}

/* ------------------------------------------------------------------ the route */

/* What cannot be taken is refused before any work: refusals must be quick when there is too much of
 * it. */
void cog_chat_begin(cog_exchange *x)
{
    cog_server *s = x->server;
    chat_job *j;

    if (!cog_status_has_room(s)) {
        cog_exchange_fail_code(x, COG_API_OVERLOADED);
        return;
    }
    j = cog_new(chat_job);
    x->job = j;
    j->x = x;
    j->work.data = j;
    atomic_init(&j->is_abandoned, false);
    atomic_init(&j->decode.is_abandoned, false);
    cog_http_watch(x);
    hold(j);
    s->n_parsing++;
    j->parsing.run = understand;
    j->parsing.done = after_understand;
    cog_workers_post(s->workers, &j->parsing, x->body.len > COG_LARGE_BODY);
}

void cog_chat_cancel(cog_exchange *x)
{
    chat_job *j = x->job;

    if (!j)
        return;
    atomic_store(&j->is_abandoned, true);
    if (j->is_working)
        uv_cancel((uv_req_t *)&j->work);
    if (j->is_fetching)
        cog_fetch_cancel(&j->source.fetch);
    cog_decoder_cancel(x->server->decoder, &j->decode);
    if (j->is_submitted)
        cog_engine_cancel(x->server->engine, j->id);
}

void cog_chat_fini_job(cog_exchange *x)
{
    chat_job *j = x->job;

    if (!j)
        return;
    cog_picture_source_fini(&j->source);
    cog_chat_fini(&j->chat);
    cog_request_free(j->request);
    for (int i = 0; i < j->n_stop; i++)
        cog_free(j->stop[i]);
    for (int i = 0; j->choices && i < j->n; i++)
        cog_buf_fini(&j->choices[i].text);
    cog_free(j->choices);
    cog_free(j->pace);
    cog_buf_fini(&j->ignored);
    cog_chat_stream_fini(&j->writer);
    cog_free(j);
    x->job = NULL;
}

/* ------------------------------------------------------------------ events */

static cog_chat_head head_of(const cog_exchange *x)
{
    cog_server *s = x->server;

    return (cog_chat_head){ .id = x->id,
                            .created = (int64_t)time(NULL),
                            .model = s->cfg.served_names[0],
                            .fingerprint = cog_status_fingerprint(s) };
}

/* The roles go out together with the first token: a chunk before it would make the time to first
 * token that clients measure a lie. */
static void begin_stream(chat_job *j)
{
    cog_chat_head head = head_of(j->x);

    if (j->has_roles)
        return;
    j->has_roles = true;
    cog_chat_stream_init(&j->writer, &head, j->include_usage, j->continuous_usage);
    for (int i = 0; i < j->n; i++)
        cog_chat_stream_role(&j->x->out, &j->writer, i, &j->usage);
}

static void count_token(chat_job *j, const cog_event *ev)
{
    bool is_first = !j->pace[ev->choice].n_tokens;
    uint64_t gap_ns = cog_record_token(&j->x->record, &j->pace[ev->choice], ev->n_tokens);

    cog_metrics_gap(&j->x->server->metrics, gap_ns, ev->n_tokens - is_first);
}

static void on_text(chat_job *j, const cog_event *ev)
{
    count_token(j, ev);
    j->usage.completion_tokens += ev->n_tokens;
    if (!j->stream) {
        cog_buf_add(&j->choices[ev->choice].text, ev->text, ev->text_len);
        return;
    }
    begin_stream(j);
    if (ev->text_len)
        cog_chat_stream_text(&j->x->out, &j->writer, ev->choice, ev->text, ev->text_len, &j->usage);
    cog_exchange_send(j->x);
}

/* The last chunk tells the metrics, which only the END has. */
static bool is_finish_late(const chat_job *j)
{
    return j->has_metrics && !j->include_usage;
}

static void write_finish(chat_job *j, int choice)
{
    const cog_chat_choice *c = &j->choices[choice];

    cog_chat_stream_finish(&j->x->out, &j->writer, choice, c->finish, c->stop_reason, &j->usage);
}

static void on_finish(chat_job *j, const cog_event *ev)
{
    cog_chat_choice *c = &j->choices[ev->choice];

    c->finish = ev->finish == COG_FINISH_LENGTH ? "length" : "stop";
    j->x->record.is_length |= ev->finish == COG_FINISH_LENGTH;
    c->stop_reason = ev->stop >= 0 && ev->stop < j->n_stop ? j->stop[ev->stop] : NULL;
    if (!j->stream || is_finish_late(j))
        return;
    begin_stream(j);
    write_finish(j, ev->choice);
    cog_exchange_send(j->x);
}

static double ms(uint64_t ns)
{
    return (double)ns * 1e-6;
}

static void answer_whole(chat_job *j, const cog_usage *u)
{
    cog_exchange *x = j->x;
    cog_chat_head head = head_of(x);

    x->reply.status = 200;
    x->reply.type = "application/json";
    cog_chat_write_response(&x->reply.body, &head, j->choices, j->n, &j->usage);
    cog_reply_header(&x->reply, "openai-processing-ms", "%llu",
                     (unsigned long long)((cog_now_ns() - x->begin_ns) / 1000000));
    cog_reply_header(&x->reply, "Server-Timing",
                     "queue;dur=%.1f, decode_image;dur=%.1f, encode;dur=%.1f, prefill;dur=%.1f, "
                     "generate;dur=%.1f",
                     ms(u->stage_ns[COG_STAGE_ENCODE_WAIT] + u->stage_ns[COG_STAGE_QUEUE]),
                     ms(x->record.ns[COG_AT_IMAGE_DECODE]), ms(u->stage_ns[COG_STAGE_ENCODE]),
                     ms(u->stage_ns[COG_STAGE_PREFILL]), ms(u->stage_ns[COG_STAGE_DECODE]));
    cog_exchange_reply(x);
}

static bool has_all_choices(const chat_job *j)
{
    for (int i = 0; i < j->n; i++) {
        if (!j->choices[i].finish)
            return false;
    }
    return true;
}

static void answer(chat_job *j, const cog_event *ev)
{
    cog_exchange *x = j->x;

    j->usage.prompt_tokens = ev->usage.prompt_tokens;
    j->usage.image_tokens = ev->usage.image_tokens;
    j->usage.cached_tokens = ev->usage.cached_tokens;
    j->usage.completion_tokens = ev->usage.completion_tokens;
    if (!has_all_choices(j)) {
        cog_log(COG_ERROR, "event=answer_incomplete id=%s", x->id);
        cog_exchange_fail_code(x, COG_API_INTERNAL);
        return;
    }
    if (j->has_metrics) {
        cog_record_measure(&j->metrics, &x->record);
        j->usage.metrics = &j->metrics;
    }
    if (!j->stream) {
        answer_whole(j, &ev->usage);
        return;
    }
    begin_stream(j);
    if (is_finish_late(j))
        write_finish(j, 0);
    cog_chat_stream_end(&x->out, &j->writer, &j->usage);
    x->is_stream_done = true;
    cog_exchange_send(x);
}

static void fail(chat_job *j, const cog_event *ev)
{
    cog_exchange *x = j->x;

    switch (ev->status) {
    case COG_ETIMEOUT:
        cog_exchange_fail_code(x, COG_API_DEADLINE);
        return;
    case COG_ECANCELED:
        cog_exchange_fail_code(x, x->server->phase == COG_SERVER_SERVING ? COG_API_INTERNAL
                                                                         : COG_API_DRAINING);
        return;
    default:
        cog_log(COG_ERROR, "event=engine_failed_request id=%s code=%s", x->id,
                cog_err_name(ev->status));
        cog_exchange_fail_code(x, COG_API_INTERNAL);
    }
}

static void on_end(chat_job *j, const cog_event *ev)
{
    cog_exchange *x = j->x;

    j->is_submitted = false;
    x->server->n_submitted--;
    cog_outflow_end(&x->server->outflow, cog_now_ns(), ev->status != COG_ECANCELED);
    cog_record_usage(&x->record, &ev->usage);
    cog_client_charge(x->client, cog_now_ns(), ev->usage.completion_tokens);
    if (!x->is_gone && !x->reply.status && !x->is_stream_done) {
        if (ev->status == 0)
            answer(j, ev);
        else
            fail(j, ev);
    }
    cog_exchange_unref(x);
}

void cog_chat_on_event(cog_exchange *x, const cog_event *ev)
{
    chat_job *j = x->job;

    if (ev->type == COG_EVENT_END) {
        on_end(j, ev);
        return;
    }
    assert(ev->choice >= 0 && ev->choice < j->n);
    if (x->is_gone || x->reply.status || x->is_stream_done)
        return;
    if (ev->type == COG_EVENT_TEXT)
        on_text(j, ev);
    else
        on_finish(j, ev);
}
