/* engine.c - the engine thread: take messages, work on pictures, run a step, report events.
 *
 * Threads: the public functions run anywhere and touch only the two mailboxes, the atomics and what
 * state_lock guards; everything else belongs to the engine thread. Invariant: every accepted
 * request is in the job list from the moment its message is taken until its END event is posted,
 * exactly once. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/batch.h"
#include "engine/forward.h"
#include "engine/load.h"
#include "engine/prompt.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/vision.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    IDLE_WAIT_NS = 1000000000, /* the heartbeat's period while there is nothing to do */
    LANE_WAIT_NS = 1000000,    /* between looks at a device that works on pictures alone */
};

typedef enum message_kind { MESSAGE_SUBMIT, MESSAGE_CANCEL, MESSAGE_CLOSE } message_kind;

typedef struct message {
    cog_link link;
    message_kind kind;
    cog_request *req;     /* SUBMIT: owned */
    uint64_t accepted_ns; /* SUBMIT */
    uint64_t id;          /* CANCEL */
} message;

struct cog_engine {
    cog_engine_config cfg;
    pthread_t thread;
    cog_mailbox inbox, events;
    _Atomic int n_waiting; /* accepted requests that had no rows yet */
    _Atomic uint64_t heartbeat_ns;
    _Atomic bool close_asked; /* stops loading; the close message ends the rest */

    pthread_mutex_t state_lock;
    pthread_cond_t state_changed;
    cog_engine_state state;
    cog_engine_stats stats;
    cog_loaded loaded; /* written before phase becomes READY, immutable after */
    bool is_loaded;    /* likewise: phase was READY once */

    /* the engine thread's */
    bool closing;
    cog_job *jobs;
    uint64_t next_order;
    cog_forward *forward;
    cog_scheduler sched;
    cog_plan plan;
    cog_vision vision;
    cog_batcher batcher;
    cog_draw *draw; /* [max_seqs * COG_MAX_CHOICES] of the step */
    int32_t *token; /* one for each */
    float *logits;  /* [max_seqs, vocab] for on_logits, or NULL */
    bool is_idle;   /* the last plan had no rows */
    cog_engine_stats counts;
};

const cog_engine_config cog_engine_defaults = {
    .backend = "auto",
    .dtype = "auto",
    .max_seqs = 32,
    .step_tokens = 256,
    .block = 32,
    .max_queue = 256,
    .memory_utilization = 0.90f,
};

/* ------------------------------------------------------------------ events */

static cog_event *new_event(cog_event_type type, const cog_job *j)
{
    cog_event *ev = cog_new(cog_event);

    ev->type = type;
    ev->id = j->req->id;
    ev->user = j->req->user;
    ev->stop = -1;
    return ev;
}

static void post(cog_engine *e, cog_event *ev)
{
    if (cog_mailbox_post(&e->events, &ev->link) && e->cfg.notify)
        e->cfg.notify(e->cfg.notify_arg);
}

void cog_event_free(cog_event *ev)
{
    if (!ev)
        return;
    cog_free(ev->text);
    cog_free(ev);
}

cog_event *cog_engine_take_events(cog_engine *e)
{
    return (cog_event *)cog_mailbox_take(&e->events);
}

cog_event *cog_engine_wait_events(cog_engine *e, uint64_t timeout_ns)
{
    uint64_t now = cog_now_ns();

    return (cog_event *)cog_mailbox_wait(
        &e->events, timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX);
}

/* ------------------------------------------------------------------ jobs */

static void leave_queue(cog_engine *e, cog_job *j, uint64_t now)
{
    if (j->is_scheduled)
        return;
    j->is_scheduled = true;
    j->scheduled_ns = now;
    atomic_fetch_sub(&e->n_waiting, 1);
}

static void publish_stats(cog_engine *e)
{
    e->counts.waiting = atomic_load(&e->n_waiting);
    e->counts.running = 0;
    for (const cog_job *j = e->jobs; j; j = j->next)
        e->counts.running += j->is_scheduled;
    e->counts.blocks_free = e->sched.kv.n_free;
    e->counts.blocks_used = e->sched.kv.n_blocks - e->sched.kv.n_free;
    e->counts.features = e->vision.n_features;
    e->counts.images_encoded = e->vision.n_encoded;
    e->counts.images_shared = e->vision.n_shared;
    pthread_mutex_lock(&e->state_lock);
    e->stats = e->counts;
    pthread_mutex_unlock(&e->state_lock);
}

/* The one place where a job ends. Who sees its END sees statistics without it. */
static void end_job(cog_engine *e, cog_job *j, int status, const char *why)
{
    uint64_t now = cog_now_ns();
    cog_event *ev = new_event(COG_EVENT_END, j);

    leave_queue(e, j, now);
    ev->status = status;
    if (status)
        cog_err_set(&ev->err, status, "%s", why);
    ev->usage = (cog_usage){
        .prompt_tokens = j->req->prompt.n_tokens,
        .image_tokens = j->req->prompt.n_image_tokens,
        .completion_tokens = j->completion_tokens,
        .queue_ns = j->scheduled_ns - j->accepted_ns,
        .vision_ns = j->is_first_sender ? j->picture->encode_ns : 0,
        .prefill_ns = j->first_token_ns ? j->first_token_ns - j->scheduled_ns : 0,
        .decode_ns = j->first_token_ns ? now - j->first_token_ns : 0,
    };
    for (int i = 0; i < j->n_seqs; i++)
        cog_scheduler_remove(&e->sched, &j->seq[i].sched);
    cog_vision_unref(&e->vision, j->picture);
    *(j->prev ? &j->prev->next : &e->jobs) = j->next;
    if (j->next)
        j->next->prev = j->prev;
    cog_job_free(j);
    publish_stats(e);
    post(e, ev);
}

static void end_all(cog_engine *e, int status, const char *why)
{
    while (e->jobs)
        end_job(e, e->jobs, status, why);
}

static void begin_job(cog_engine *e, cog_request *req, uint64_t accepted_ns)
{
    bool is_new = false;
    cog_vision_picture *picture =
        req->image ? cog_vision_take(&e->vision, req->image, &is_new) : NULL;
    cog_job *j;

    req->image = NULL; /* the picture's now */
    j = cog_job_new(req, picture, e->cfg.block, e->next_order++, accepted_ns);
    j->is_first_sender = is_new;
    j->next = e->jobs;
    if (e->jobs)
        e->jobs->prev = j;
    e->jobs = j;
    cog_scheduler_add(&e->sched, &j->seq[0].sched);
}

static void expire_jobs(cog_engine *e)
{
    uint64_t now = cog_now_ns();

    for (cog_job *j = e->jobs, *next; j; j = next) {
        next = j->next;
        if (j->req->deadline_ns <= now)
            end_job(e, j, COG_ETIMEOUT, "the request's deadline passed");
    }
}

/* ------------------------------------------------------------------ tokens */

/* Reports what one token did; a greedy job reports it for each of its equal answers. */
static void report(cog_engine *e, cog_sequence *q, cog_step_result r)
{
    cog_job *j = q->job;
    int last = j->n_seqs == 1 ? j->req->n - 1 : q->choice;

    for (int c = q->choice; c <= last; c++) {
        cog_event *ev = new_event(COG_EVENT_TEXT, j);
        ev->choice = c;
        ev->text = cog_strndup(q->text.data ? q->text.data : "", q->text.len);
        ev->text_len = q->text.len;
        ev->n_tokens = 1;
        post(e, ev);
        j->completion_tokens++;
        if (r.finished) {
            ev = new_event(COG_EVENT_FINISH, j);
            ev->choice = c;
            ev->finish = r.finish;
            ev->stop = r.stop;
            post(e, ev);
        }
    }
}

static void add_draw(cog_engine *e, const cog_sequence *q, int row)
{
    const cog_request *req = q->job->req;
    int n_prompt = req->prompt.n_tokens, n_skip = 1 + req->prompt.n_image_tokens;

    e->draw[e->batcher.batch.n_draws++] = (cog_draw){
        .row = row,
        .params = &req->sampling,
        .context = {
            .prompt = q->tokens + n_skip,
            .n_prompt = n_prompt - n_skip,
            .output = q->tokens + n_prompt,
            .n_output = q->sched.n_tokens - n_prompt,
            .choice = q->choice,
        },
    };
}

/* The prompt's logits are the first row of every answer: each sequence draws its own first token
 * from them. */
static void build_draws(cog_engine *e)
{
    cog_batch *b = &e->batcher.batch;

    b->draw = e->draw;
    b->n_draws = 0;
    for (int i = 0; i < b->n_logits; i++) {
        const cog_sequence *q = e->batcher.sample[i];
        for (int c = 1; !q->job->has_forked && c < q->job->n_seqs; c++)
            add_draw(e, &q->job->seq[c], i);
        add_draw(e, q, i);
    }
}

/* Appends the token that the sequence drew, -1 when it could not. */
static int advance(cog_engine *e, cog_sequence *q, int32_t token)
{
    const cog_model_config *m = &e->loaded.model->cfg;
    cog_step_result r;

    if (token < 0)
        return COG_EDEVICE;
    if (!q->job->first_token_ns)
        q->job->first_token_ns = cog_now_ns();
    r = cog_sequence_push(q, token, e->loaded.tokenizer, m->eos, m->n_eos);
    report(e, q, r);
    if (r.finished)
        q->job->n_live--;
    e->counts.tokens++;
    return 0;
}

/* Each other answer goes on with the prompt's pages. */
static int fork_job(cog_engine *e, cog_job *j, const int32_t *token)
{
    int rc = 0;

    j->has_forked = true;
    for (int i = 1; rc == 0 && i < j->n_seqs; i++) {
        rc = advance(e, &j->seq[i], token[i - 1]);
        if (rc == 0 && !j->seq[i].finished)
            cog_scheduler_fork(&e->sched, &j->seq[i].sched, &j->seq[0].sched);
    }
    return rc;
}

/* Takes the tokens drawn from one row, in the order of build_draws; returns how many. */
static int take_tokens(cog_engine *e, cog_sequence *q, const int32_t *token)
{
    cog_job *j = q->job;
    int n = j->has_forked ? 1 : j->n_seqs;

    if (!j->failed && !j->has_forked)
        j->failed = fork_job(e, j, token);
    if (!j->failed)
        j->failed = advance(e, q, token[n - 1]);
    if (q->finished)
        cog_scheduler_remove(&e->sched, &q->sched);
    return n;
}

static int show_logits(cog_engine *e)
{
    const cog_model *m = e->loaded.model;
    const cog_batch *b = &e->batcher.batch;
    int rc = m->ops->logits_read(m->be, e->logits);

    if (rc < 0)
        return rc;
    for (int i = 0; i < b->n_logits; i++) {
        const cog_sequence *q = e->batcher.sample[i];
        for (const cog_draw *d = b->draw; d < b->draw + b->n_draws; d++)
            if (d->row == i)
                e->cfg.on_logits(e->cfg.on_logits_arg, q->job->req->id, d->context.choice,
                                 d->context.n_output, e->logits + (size_t)i * (size_t)m->cfg.vocab,
                                 m->cfg.vocab);
    }
    return 0;
}

/* Jobs end here and not while rows of logits are handed out: several rows may be of one job. */
static void end_finished_jobs(cog_engine *e)
{
    for (cog_job *j = e->jobs, *next; j; j = next) {
        next = j->next;
        if (j->failed) {
            cog_log(COG_ERROR, "event=bad_logits prompt_tokens=%d", j->req->prompt.n_tokens);
            end_job(e, j, j->failed, "the model produced no finite logits");
        } else if (j->n_live == 0) {
            end_job(e, j, 0, NULL);
        }
    }
}

/* ------------------------------------------------------------------ steps */

static int copy_pages(cog_engine *e)
{
    const cog_model *m = e->loaded.model;
    int rc = 0;

    for (int i = 0; rc == 0 && i < e->plan.n_copies; i++) {
        const cog_page_copy *c = &e->plan.copy[i];
        rc = m->ops->kv_copy(m->be, c->dst, c->src, c->n_slots);
    }
    return rc;
}

static int compute(cog_engine *e)
{
    const cog_batch *b = &e->batcher.batch;
    int rc = copy_pages(e);

    if (rc < 0)
        return rc;
    cog_batcher_build(&e->batcher, &e->plan);
    build_draws(e);
    cog_alloc_guard_begin("a step");
    rc = cog_forward_step(e->forward, b, e->token);
    cog_alloc_guard_end();
    if (rc == 0 && e->logits && b->n_logits > 0)
        rc = show_logits(e);
    return rc;
}

static int run_step(cog_engine *e)
{
    const cog_batch *b = &e->batcher.batch;
    uint64_t now = cog_now_ns();
    int rc;

    cog_scheduler_plan(&e->sched, &e->plan);
    e->counts.preemptions = e->sched.n_preempted;
    e->is_idle = e->plan.rows == 0;
    if (e->is_idle)
        return 0;
    for (int i = 0; i < e->plan.n_run; i++)
        leave_queue(e, ((cog_sequence *)e->plan.run[i])->job, now);
    rc = compute(e);
    if (rc < 0)
        return rc;
    e->counts.steps++;
    e->counts.language_rows += (uint64_t)b->language_rows;
    e->counts.vision_rows += (uint64_t)(b->rows - b->language_rows);
    cog_scheduler_commit(&e->plan);
    for (int i = 0, at = 0; i < b->n_logits; i++)
        at += take_tokens(e, e->batcher.sample[i], e->token + at);
    end_finished_jobs(e);
    return 0;
}

/* ------------------------------------------------------------------ the thread */

static void handle(cog_engine *e, message *m, cog_engine_phase phase)
{
    switch (m->kind) {
    case MESSAGE_SUBMIT:
        begin_job(e, m->req, m->accepted_ns);
        if (phase == COG_ENGINE_FAILED)
            end_job(e, e->jobs, COG_EDEVICE, "the engine has failed");
        break;
    case MESSAGE_CANCEL:
        for (cog_job *j = e->jobs; j; j = j->next) {
            if (j->req->id == m->id) {
                end_job(e, j, COG_ECANCELED, "cancelled");
                break;
            }
        }
        break;
    case MESSAGE_CLOSE:
        e->closing = true;
        break;
    }
    cog_free(m);
}

/* There is nothing to compute until the device is through with its pictures. */
static bool waits_for_pictures(const cog_engine *e)
{
    return e->jobs && e->is_idle && e->vision.is_busy;
}

static void take_messages(cog_engine *e, cog_engine_phase phase)
{
    uint64_t wait_ns = !e->jobs ? IDLE_WAIT_NS : waits_for_pictures(e) ? LANE_WAIT_NS : 0;
    cog_link *list =
        wait_ns ? cog_mailbox_wait(&e->inbox, cog_now_ns() + wait_ns) : cog_mailbox_take(&e->inbox);

    while (list) {
        message *m = (message *)list;
        list = list->next;
        handle(e, m, phase);
    }
}

static void publish(cog_engine *e, cog_engine_phase phase, double progress, const cog_err *why)
{
    pthread_mutex_lock(&e->state_lock);
    e->state.phase = phase;
    e->state.progress = progress;
    if (why)
        e->state.err = *why;
    pthread_cond_broadcast(&e->state_changed);
    pthread_mutex_unlock(&e->state_lock);
    if (e->cfg.notify)
        e->cfg.notify(e->cfg.notify_arg);
}

static void fail(cog_engine *e, int rc)
{
    cog_err why;

    cog_err_set(&why, rc, "the device failed (%s)", cog_err_name(rc));
    cog_log(COG_ERROR, "event=engine_failed reason=\"%s\"", why.text);
    end_all(e, COG_EDEVICE, "the engine has failed");
    publish(e, COG_ENGINE_FAILED, 1, &why);
}

static void serve(cog_engine *e)
{
    cog_engine_phase phase = COG_ENGINE_READY;
    uint64_t n_slices = 0;

    for (;;) {
        int rc;

        /* a device that never ends a slice is to look dead */
        if (!waits_for_pictures(e) || e->vision.n_slices != n_slices)
            atomic_store(&e->heartbeat_ns, cog_now_ns());
        n_slices = e->vision.n_slices;
        take_messages(e, phase);
        if (e->closing)
            return;
        expire_jobs(e);
        rc = phase == COG_ENGINE_FAILED ? 0 : cog_vision_work(&e->vision, &e->sched);
        if (rc == 0 && e->jobs)
            rc = run_step(e);
        if (rc < 0) {
            fail(e, rc);
            phase = COG_ENGINE_FAILED;
        }
        publish_stats(e);
    }
}

static bool on_progress(void *arg, double fraction)
{
    cog_engine *e = arg;

    atomic_store(&e->heartbeat_ns, cog_now_ns());
    publish(e, COG_ENGINE_LOADING, fraction, NULL);
    return !atomic_load(&e->close_asked);
}

static int reserve(cog_engine *e, cog_err *err)
{
    const cog_loaded *l = &e->loaded;
    const cog_model_config *m = &l->model->cfg;
    int max_blocks = (m->max_positions + e->cfg.block - 1) / e->cfg.block;
    size_t max_draws = (size_t)e->cfg.max_seqs * COG_MAX_CHOICES;
    int rc = cog_forward_open(&e->forward, l->model, e->cfg.step_tokens, l->max_images,
                              l->max_features, err);

    if (rc < 0)
        return rc;
    e->loaded.info.max_queue = e->cfg.max_queue;
    cog_scheduler_init(&e->sched, l->info.n_blocks, e->cfg.block, e->cfg.max_seqs,
                       e->cfg.step_tokens);
    cog_plan_init(&e->plan, e->cfg.max_seqs);
    cog_vision_init(&e->vision, e->forward, l->model, l->max_images, l->max_features);
    cog_batcher_init(&e->batcher, e->cfg.step_tokens, e->cfg.max_seqs, max_blocks, m->image_tokens);
    e->draw = cog_array(cog_draw, max_draws);
    e->token = cog_array(int32_t, max_draws);
    if (e->cfg.on_logits)
        e->logits = cog_array(float, (size_t)e->cfg.max_seqs *(size_t)m->vocab);
    return 0;
}

static void release(cog_engine *e)
{
    if (e->forward) {
        cog_vision_fini(&e->vision);
        cog_scheduler_fini(&e->sched);
        cog_plan_fini(&e->plan);
        cog_batcher_fini(&e->batcher);
        cog_free(e->draw);
        cog_free(e->token);
        cog_free(e->logits);
        cog_forward_close(e->forward);
    }
    cog_unload(&e->loaded);
}

static void *engine_main(void *arg)
{
    cog_engine *e = arg;
    cog_err err = { 0 };
    int rc = cog_load(&e->loaded, &e->cfg, on_progress, e, &err);

    if (rc == 0 && !on_progress(e, 1))
        rc = cog_err_set(&err, COG_ECANCELED, "loading was stopped");
    if (rc == 0)
        rc = reserve(e, &err);
    if (rc < 0) {
        publish(e, COG_ENGINE_FAILED, 0, &err);
        while (!e->closing) { /* nothing was accepted before READY: only the close can come */
            atomic_store(&e->heartbeat_ns, cog_now_ns());
            take_messages(e, COG_ENGINE_FAILED);
        }
    } else {
        e->is_loaded = true;
        publish(e, COG_ENGINE_READY, 1, NULL);
        serve(e);
        end_all(e, COG_ECANCELED, "the engine is closing");
    }
    release(e);
    return NULL;
}

/* ------------------------------------------------------------------ the public side */

static int check_config(const cog_engine_config *c, cog_err *err)
{
    if (c->max_seqs < 1 || c->max_seqs > 4096)
        return cog_err_set(err, COG_EINVAL, "max_seqs is %d, expected 1 to 4096", c->max_seqs);
    if (c->step_tokens < c->max_seqs || c->step_tokens > 65536)
        return cog_err_set(err, COG_EINVAL, "step_tokens is %d, expected max_seqs (%d) to 65536",
                           c->step_tokens, c->max_seqs);
    if (c->block < 16 || c->block > 256 || (c->block & (c->block - 1)))
        return cog_err_set(err, COG_EINVAL,
                           "KV page size is %d slots, expected 16, 32, 64, 128 or 256", c->block);
    if (c->max_images < 0 || c->max_images > COG_MAX_PASS_IMAGES)
        return cog_err_set(err, COG_EINVAL, "pictures of one vision pass: %d, expected 0 to %d",
                           c->max_images, COG_MAX_PASS_IMAGES);
    if (c->max_queue < 1)
        return cog_err_set(err, COG_EINVAL, "max_queue is %d, expected at least 1", c->max_queue);
    if (!(c->memory_utilization >= 0.05f && c->memory_utilization <= 1))
        return cog_err_set(err, COG_EINVAL, "memory_utilization is %g, expected 0.05 to 1",
                           (double)c->memory_utilization);
    if (c->threads < 0 || c->threads > 1024)
        return cog_err_set(err, COG_EINVAL, "threads is %d, expected 0 to 1024", c->threads);
    return 0;
}

int cog_engine_open(cog_engine **out, const cog_engine_config *cfg, cog_err *err)
{
    cog_engine *e;
    int rc = check_config(cfg, err);

    if (rc < 0)
        return rc;
    e = cog_new(cog_engine);
    e->cfg = *cfg;
    e->cfg.model_dir = cog_strdup(cfg->model_dir);
    e->cfg.backend = cog_strdup(cfg->backend);
    e->cfg.dtype = cog_strdup(cfg->dtype);
    cog_mailbox_init(&e->inbox);
    cog_mailbox_init(&e->events);
    pthread_mutex_init(&e->state_lock, NULL);
    pthread_cond_init(&e->state_changed, NULL);
    atomic_store(&e->heartbeat_ns, cog_now_ns());
    if (pthread_create(&e->thread, NULL, engine_main, e) != 0)
        abort();
    *out = e;
    return 0;
}

static void send(cog_engine *e, message_kind kind, cog_request *req, uint64_t id)
{
    message *m = cog_new(message);

    m->kind = kind;
    m->req = req;
    m->accepted_ns = cog_now_ns();
    m->id = id;
    cog_mailbox_post(&e->inbox, &m->link);
}

void cog_engine_close(cog_engine *e)
{
    cog_link *left;

    if (!e)
        return;
    atomic_store(&e->close_asked, true);
    send(e, MESSAGE_CLOSE, NULL, 0);
    pthread_join(e->thread, NULL);
    while ((left = cog_mailbox_take(&e->inbox))) /* posted after the close */
        for (cog_link *next; left; left = next) {
            next = left->next;
            cog_request_free(((message *)left)->req);
            cog_free(left);
        }
    for (cog_event *ev = cog_engine_take_events(e), *next; ev; ev = next) {
        next = (cog_event *)ev->link.next;
        cog_event_free(ev);
    }
    cog_mailbox_fini(&e->inbox);
    cog_mailbox_fini(&e->events);
    pthread_cond_destroy(&e->state_changed);
    pthread_mutex_destroy(&e->state_lock);
    cog_free((char *)e->cfg.model_dir);
    cog_free((char *)e->cfg.backend);
    cog_free((char *)e->cfg.dtype);
    cog_free(e);
}

int cog_engine_wait(cog_engine *e, cog_err *err)
{
    int rc = 0;

    pthread_mutex_lock(&e->state_lock);
    while (e->state.phase == COG_ENGINE_LOADING)
        pthread_cond_wait(&e->state_changed, &e->state_lock);
    if (e->state.phase == COG_ENGINE_FAILED) {
        rc = e->state.err.code;
        if (err)
            *err = e->state.err;
    }
    pthread_mutex_unlock(&e->state_lock);
    return rc;
}

void cog_engine_get_state(cog_engine *e, cog_engine_state *out)
{
    pthread_mutex_lock(&e->state_lock);
    *out = e->state;
    pthread_mutex_unlock(&e->state_lock);
    out->heartbeat_ns = atomic_load(&e->heartbeat_ns);
}

const cog_engine_info *cog_engine_get_info(cog_engine *e)
{
    cog_engine_state s;

    cog_engine_get_state(e, &s);
    return s.phase == COG_ENGINE_LOADING || !e->is_loaded ? NULL : &e->loaded.info;
}

void cog_engine_get_stats(cog_engine *e, cog_engine_stats *out)
{
    pthread_mutex_lock(&e->state_lock);
    *out = e->stats;
    pthread_mutex_unlock(&e->state_lock);
    out->waiting = atomic_load(&e->n_waiting);
}

int cog_engine_prompt(cog_prompt *out, cog_engine *e, cog_template tmpl, const cog_turn *turns,
                      int n_turns, bool has_image, cog_err *err)
{
    const cog_model_config *m = &e->loaded.model->cfg;
    int n_image = has_image ? m->image_tokens : 0, n_text = 0, rc;
    cog_buf text = { 0 };
    int32_t *ids = NULL;
    cog_prompt p;

    cog_prompt_text(&text, tmpl == COG_TEMPLATE_DEFAULT ? m->default_template : tmpl, turns,
                    n_turns);
    rc = cog_tokenizer_encode(e->loaded.tokenizer, &ids, &n_text, text.data ? text.data : "",
                              text.len, err);
    cog_buf_fini(&text);
    if (rc < 0)
        return rc;
    p = (cog_prompt){ .n_tokens = 1 + n_image + n_text, .n_image_tokens = n_image };
    p.tokens = cog_array(int32_t, (size_t)p.n_tokens);
    p.tokens[0] = m->bos;
    for (int i = 1; i <= n_image; i++)
        p.tokens[i] = m->pad;
    if (n_text)
        memcpy(p.tokens + 1 + n_image, ids, (size_t)n_text * sizeof(int32_t));
    cog_free(ids);
    *out = p;
    return 0;
}

int cog_engine_submit(cog_engine *e, cog_request *r, cog_err *err)
{
    cog_engine_state s;
    int rc;

    cog_engine_get_state(e, &s);
    if (s.phase == COG_ENGINE_FAILED)
        return cog_err_set(err, COG_EDEVICE, "the engine has failed");
    if (s.phase == COG_ENGINE_LOADING)
        return cog_err_set(err, COG_EBUSY, "the model is loading");
    rc = cog_request_check(r, &e->loaded.info, err);
    if (rc < 0)
        return rc;
    if (atomic_fetch_add(&e->n_waiting, 1) >= e->cfg.max_queue) {
        atomic_fetch_sub(&e->n_waiting, 1);
        return cog_err_set(err, COG_EBUSY, "%d requests are waiting already", e->cfg.max_queue);
    }
    send(e, MESSAGE_SUBMIT, r, 0);
    return 0;
}

void cog_engine_cancel(cog_engine *e, uint64_t id)
{
    send(e, MESSAGE_CANCEL, NULL, id);
}
