#include "server/generate.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>

/* ------------------------------------------------------------------ between the stages */

void cog_generate_hold(cog_generate_job *j)
{
    cog_exchange_ref(j->x);
    j->x->server->n_working++;
}

void cog_generate_let_go(cog_exchange *x)
{
    cog_server *s = x->server;

    cog_exchange_unref(x);
    cog_http_flush(s);
}

bool cog_generate_goes_on(cog_generate_job *j)
{
    cog_exchange *x = j->x;

    if (x->is_gone || x->reply.status || j->is_over)
        return false;
    if (cog_now_ns() >= x->deadline_ns)
        cog_status_text(x->server, COG_API_DEADLINE, &j->err);
    if (j->err.code == COG_API_NONE)
        return true;
    cog_generate_fail(j, &j->err);
    return false;
}

/* The parts' ways cross: the record tells how far the first of them is. */
void cog_generate_enter(const cog_generate_job *j, cog_at at)
{
    cog_record *r = &j->x->record;

    if (!j->whole || at > r->at)
        cog_record_enter(r, at);
}

void cog_generate_release(cog_generate_job *j)
{
    cog_generate_job *whole = j->whole;

    j->form->release(j);
    if (whole && !j->is_released) {
        j->is_released = true;
        if (--whole->n_held == 0)
            whole->form->release(whole);
    }
    if (!whole || whole->n_held == 0)
        cog_body_drop(j->x);
}

bool cog_generate_end_work(cog_generate_job *j)
{
    j->x->server->n_working--;
    return cog_generate_goes_on(j);
}

static int submit_one(cog_generate_job *j, int i)
{
    cog_exchange *x = j->x;
    cog_server *s = x->server;
    cog_request *r = j->requests[i];
    cog_err err;
    int rc;

    r->id = j->first_id + (uint64_t)i;
    r->user = x;
    r->deadline_ns = x->deadline_ns;
    if (r->max_tokens > x->record.max_tokens)
        x->record.max_tokens = r->max_tokens;
    rc = cog_engine_submit(s->engine, r, &err);
    if (rc < 0)
        return rc;
    j->requests[i] = NULL;
    j->n_live++;
    cog_exchange_ref(x);
    if (s->n_submitted++ == 0)
        s->submitted_ns = cog_now_ns();
    cog_outflow_begin(&s->outflow, cog_now_ns());
    return 0;
}

static int submit_all(cog_generate_job *j)
{
    int rc = 0;

    j->first_id = j->x->server->next_id + 1;
    j->x->server->next_id += (uint64_t)j->n_requests;
    for (int i = 0; i < j->n_requests && rc == 0; i++)
        rc = submit_one(j, i);
    return rc; /* where one was refused, those before it are cancelled when that has been said */
}

void cog_generate_submit(cog_generate_job *j)
{
    cog_exchange *x = j->x;
    int rc = 0;

    cog_generate_release(j);
    x->record.n = j->whole ? j->whole->n_parts : j->n;
    cog_generate_enter(j, j->is_known ? COG_AT_WRITE : COG_AT_ENGINE);
    if (!j->is_known)
        rc = submit_all(j);
    if (rc < 0) {
        if (!j->whole)
            cog_record_enter(&x->record, COG_AT_WRITE);
        if (rc != COG_EBUSY)
            cog_log(COG_ERROR, "event=submit_failed id=%s code=%s", x->id, cog_err_name(rc));
        cog_generate_fail_code(j, rc == COG_EBUSY ? COG_API_OVERLOADED : COG_API_INTERNAL);
        return;
    }
    x->record.is_submitted = !j->is_known;
    x->is_stream = j->stream;
    x->wrote_ns = cog_now_ns();
    if (j->ignored.len)
        cog_reply_header(&x->reply, "x-ignored-parameters", "%s", j->ignored.data);
    if (j->is_known)
        cog_generate_answer_known(j);
}

/* ------------------------------------------------------------------ understand, admit */

static cog_generate_job *job_of(cog_work *w)
{
    return (cog_generate_job *)(void *)((char *)w - offsetof(cog_generate_job, parsing));
}

static void read_inline(cog_generate_job *j)
{
    if (j->picture && j->picture->asked->kind == COG_PICTURE_INLINE)
        cog_generate_read_picture(j);
}

/* A picture in the body is read at once: to hand it to another thread for that takes longer than to
 * read most of them, and what it takes is bounded by the body. A large one holds only threads that
 * are for large bodies. */
static void understand(cog_work *w)
{
    cog_generate_job *j = job_of(w);

    if (atomic_load(&j->is_abandoned))
        return;
    if (!cog_engine_get_info(j->x->server->engine)) {
        cog_status_fail(&j->err, j->x->id);
        return;
    }
    if (j->form->understand(j) < 0)
        return;
    read_inline(j);
    for (int i = 0; i < j->n_parts && !atomic_load(&j->is_abandoned); i++) {
        if (j->parts[i]->err.code == COG_API_NONE)
            read_inline(j->parts[i]);
    }
}

/* Everything the request itself says is fine, and it has a place since it began; several requests
 * need more. False: it was refused. */
static bool admit(cog_generate_job *j)
{
    cog_server *s = j->x->server;
    int n = j->n_parts ? j->n_parts : j->n_requests;

    if ((n > 1 && !cog_status_has_room(s, n)) ||
        (cog_generate_is_remote(j) && !cog_body_reserve(j->x, s->cfg.image.max_bytes))) {
        cog_exchange_fail_code(j->x, COG_API_OVERLOADED);
        return false;
    }
    if (cog_generate_is_stored(j) && !cog_generate_take_stored(j)) {
        cog_exchange_fail(j->x, &j->err);
        return false;
    }
    if (!cog_auth_count_prompt(j->x, j->usage.prompt_tokens, &j->err)) {
        cog_exchange_fail(j->x, &j->err);
        return false;
    }
    if (j->n_parts)
        cog_generate_start_parts(j);
    else if (j->picture)
        cog_generate_start_picture(j);
    else
        cog_generate_submit(j);
    return true;
}

static void after_understand(cog_work *w)
{
    cog_generate_job *j = job_of(w);
    cog_exchange *x = j->x;

    x->server->n_parsing--;
    if (j->request_id && !x->has_client_id && !x->is_gone && !x->reply.status)
        snprintf(x->id, sizeof(x->id), "%s", j->request_id);
    j->is_understood = true;
    if (!cog_generate_end_work(j) || !admit(j)) {
        cog_generate_drop_picture(j);
        for (int i = 0; i < j->n_parts; i++)
            cog_generate_drop_picture(j->parts[i]);
    }
    cog_generate_let_go(x);
}

/* ------------------------------------------------------------------ the route */

static cog_generate_job *make_job(cog_exchange *x, const cog_generate_form *form)
{
    cog_generate_job *j = cog_alloc(1, form->size);

    j->x = x;
    j->form = form;
    j->n_prompt_top = j->n_echo_top = -1;
    atomic_init(&j->is_abandoned, false);
    return j;
}

void cog_generate_make_parts(cog_generate_job *j, int n, const cog_generate_form *part)
{
    j->parts = cog_array(cog_generate_job *, (size_t)n);
    j->choices = cog_array(cog_answer_choice, (size_t)n);
    for (j->n_parts = 0; j->n_parts < n; j->n_parts++) {
        j->parts[j->n_parts] = make_job(j->x, part);
        j->parts[j->n_parts]->whole = j;
        j->parts[j->n_parts]->index = j->n_parts;
    }
    j->n_open = j->n_held = n;
}

void cog_generate_begin(cog_exchange *x, const cog_generate_form *form)
{
    cog_server *s = x->server;
    cog_generate_job *j;

    if (!cog_status_has_room(s, 1)) {
        cog_exchange_fail_code(x, COG_API_OVERLOADED);
        return;
    }
    j = make_job(x, form);
    x->job = j;
    cog_http_watch(x);
    cog_generate_hold(j);
    s->n_parsing++;
    j->parsing.run = understand;
    j->parsing.done = after_understand;
    cog_workers_post(s->workers, &j->parsing, x->body.len > COG_LARGE_BODY);
}

static void cancel(cog_generate_job *j)
{
    atomic_store(&j->is_abandoned, true);
    for (int i = 0; j->n_live && i < j->n_requests; i++)
        cog_engine_cancel(j->x->server->engine, j->first_id + (uint64_t)i);
}

void cog_generate_cancel(cog_exchange *x)
{
    cog_generate_job *j = x->job;

    if (!j)
        return;
    cancel(j);
    if (!j->is_understood) /* pictures and parts are the worker's */
        return;
    cog_generate_cancel_picture(j);
    for (int i = 0; i < j->n_parts; i++) {
        cancel(j->parts[i]);
        cog_generate_cancel_picture(j->parts[i]);
    }
}

static void free_choices(cog_generate_job *j)
{
    int n = j->n_parts ? j->n_parts : j->n_requests * j->n;

    for (int i = 0; j->choices && i < n; i++) {
        cog_buf_fini(&j->choices[i].text);
        cog_buf_fini(&j->choices[i].error);
        cog_buf_fini(&j->choices[i].grounding);
        cog_buf_fini(&j->choices[i].confidence);
        cog_buf_fini(&j->choices[i].token_ids);
        for (int k = 0; k < COG_LOGPROB_COLUMNS; k++)
            cog_buf_fini(&j->choices[i].logprobs[k]);
    }
    cog_free(j->choices);
}

static void free_job(cog_generate_job *j)
{
    assert(!j->picture); /* each way out of its stages gives it back */
    for (int i = 0; i < j->n_parts; i++)
        free_job(j->parts[i]);
    free_choices(j);
    cog_free(j->parts);
    j->form->fini(j);
    for (int i = 0; i < j->n_requests; i++)
        cog_request_free(j->requests[i]);
    for (int i = 0; j->candidate_logprobs && i < j->n_requests; i++)
        cog_free(j->candidate_logprobs[i]);
    cog_free(j->candidate_logprobs);
    for (int i = 0; j->prompt_logprobs && i < j->n_requests; i++)
        cog_buf_fini(&j->prompt_logprobs[i]);
    cog_free(j->prompt_logprobs);
    cog_free(j->prompt_chars);
    for (int i = 0; j->prompt_ids && i < j->n_requests; i++)
        cog_buf_fini(&j->prompt_ids[i]);
    cog_free(j->prompt_ids);
    for (int i = 0; i < j->n_candidates; i++)
        cog_free(j->candidate[i]);
    cog_free(j->candidate);
    cog_free(j->requests);
    for (int i = 0; i < j->n_stop; i++)
        cog_free(j->stop[i]);
    cog_free(j->pace);
    cog_buf_fini(&j->ignored);
    cog_buf_fini(&j->echo);
    cog_answer_stream_fini(&j->writer);
    cog_free(j);
}

void cog_generate_fini(cog_exchange *x)
{
    if (x->job)
        free_job(x->job);
    x->job = NULL;
}
