/* engine.c - the engine thread: take messages, work on pictures, run a step, report events; and the
 * public side.
 *
 * Threads: the public functions run anywhere and touch only the two mailboxes, the atomics and what
 * state_lock and stats_lock guard; everything else belongs to the engine thread. */
#include "engine/core.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/prompt.h"
#include "engine/request.h"
#include "engine/tally.h"

#include <stdlib.h>
#include <string.h>

enum {
    IDLE_WAIT_NS = 1000000000, /* the heartbeat's period while there is nothing to do */
    LANE_WAIT_NS = 1000000,    /* between looks at a device that works on pictures alone */
};

typedef enum message_kind {
    MESSAGE_SUBMIT,
    MESSAGE_CANCEL,
    MESSAGE_UNPIN,
    MESSAGE_CLOSE,
} message_kind;

typedef struct message {
    cog_link link;
    message_kind kind;
    cog_request *req;     /* SUBMIT: owned */
    uint64_t accepted_ns; /* SUBMIT */
    uint64_t id;          /* CANCEL, UNPIN */
} message;

const cog_engine_config cog_engine_defaults = {
    .backend = "auto",
    .dtype = "auto",
    .max_seqs = 32,
    .step_tokens = 256,
    .block = 32,
    .max_queue = 256,
    .memory_utilization = 0.90f,
    .prefix_cache = true,
    .image_cache_bytes = (uint64_t)256 << 20,
    .step_stretch = 2,
};

void cog_event_free(cog_event *ev)
{
    if (!ev)
        return;
    cog_free(ev->text);
    cog_free(ev->scored);
    cog_free(ev->candidate);
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

/* ------------------------------------------------------------------ the thread */

static void unpin(cog_engine *e, uint64_t pin)
{
    for (cog_job *j = e->jobs; j; j = j->next) {
        if (j->req->pin != pin)
            continue;
        for (int i = 0; i < j->n_seqs; i++)
            j->seq[i].sched.pin = 0;
        for (int i = 0; i < j->req->n_candidates; i++)
            j->scorer[i].sched.pin = 0;
    }
    cog_kv_unpin(&e->sched.kv, pin);
}

static void handle(cog_engine *e, message *m, cog_engine_phase phase)
{
    switch (m->kind) {
    case MESSAGE_SUBMIT:
        cog_core_begin(e, m->req, m->accepted_ns);
        if (phase == COG_ENGINE_FAILED)
            cog_core_end(e, e->jobs, COG_EDEVICE, "the engine has failed");
        break;
    case MESSAGE_CANCEL:
        for (cog_job *j = e->jobs; j; j = j->next) {
            if (j->req->id == m->id) {
                cog_core_end(e, j, COG_ECANCELED, "cancelled");
                break;
            }
        }
        break;
    case MESSAGE_UNPIN:
        unpin(e, m->id);
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
    cog_core_end_all(e, COG_EDEVICE, "the engine has failed");
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
        cog_core_expire(e);
        rc = phase == COG_ENGINE_FAILED ? 0 : cog_core_work(e);
        if (rc < 0) {
            fail(e, rc);
            phase = COG_ENGINE_FAILED;
        }
        cog_core_publish_stats(e);
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
    e->loaded.info.prefix_cache = e->cfg.prefix_cache;
    cog_scheduler_init(&e->sched, l->info.n_blocks, e->cfg.block, e->cfg.max_seqs,
                       e->cfg.step_tokens, e->cfg.prefix_cache);
    cog_plan_init(&e->plan, e->cfg.max_seqs);
    cog_vision_init(&e->vision, e->forward, l->model, l->max_images, l->max_features,
                    l->max_cached);
    e->constraints = cog_constraints_new(l->trie, l->tokenizer);
    e->vision.batch = &e->counts.vision_batch;
    e->sched.picture_changes = &e->vision.n_changes;
    cog_batcher_init(&e->batcher, e->cfg.step_tokens, e->cfg.max_seqs, max_blocks, m->image_tokens);
    e->pace = cog_pace_new((double)e->cfg.step_stretch, e->cfg.step_tokens, e->cfg.max_seqs);
    e->draw = cog_array(cog_draw, max_draws);
    e->token = cog_array(int32_t, max_draws);
    e->row = cog_array(float, (size_t)m->vocab);
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
        cog_pace_free(e->pace);
        cog_constraints_free(e->constraints);
        cog_free(e->draw);
        cog_free(e->token);
        cog_free(e->row);
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
        pthread_setname_np(pthread_self(), "cog-engine"); /* for debuggers and top */
        publish(e, COG_ENGINE_READY, 1, NULL);
        serve(e);
        cog_core_end_all(e, COG_ECANCELED, "the engine is closing");
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
    if (!(c->step_stretch >= 1.1f && c->step_stretch <= 1000))
        return cog_err_set(err, COG_EINVAL, "step_stretch is %g, expected 1.1 to 1000",
                           (double)c->step_stretch);
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
    pthread_mutex_init(&e->stats_lock, NULL);
    pthread_cond_init(&e->state_changed, NULL);
    atomic_store(&e->heartbeat_ns, cog_now_ns());
    cog_tally_init(&e->counts);
    e->stats = e->counts;
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
    pthread_mutex_destroy(&e->stats_lock);
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
    pthread_mutex_lock(&e->stats_lock);
    *out = e->stats;
    pthread_mutex_unlock(&e->stats_lock);
    out->waiting = atomic_load(&e->n_waiting);
}

int cog_engine_tokenize(int32_t **ids, int *n_ids, cog_engine *e, const char *text, size_t len,
                        cog_err *err)
{
    return cog_tokenizer_encode(e->loaded.tokenizer, ids, n_ids, text, len, err);
}

const char *cog_engine_piece(cog_engine *e, int32_t id, size_t *len)
{
    return cog_tokenizer_piece(e->loaded.tokenizer, id, len);
}

const char *cog_engine_control(cog_engine *e, int32_t id, size_t *len)
{
    return cog_tokenizer_control(e->loaded.tokenizer, id, len);
}

void cog_engine_detokenize(cog_buf *out, cog_engine *e, const int32_t *ids, int n_ids)
{
    cog_detokenizer d = { 0 };

    for (int i = 0; i < n_ids; i++)
        cog_detokenizer_push(&d, out, e->loaded.tokenizer, ids[i]);
    cog_detokenizer_finish(&d, out);
    cog_detokenizer_fini(&d);
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
    rc = cog_tokenizer_encode(e->loaded.tokenizer, &ids, &n_text, cog_buf_text(&text), text.len,
                              err);
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

void cog_engine_unpin(cog_engine *e, uint64_t pin)
{
    send(e, MESSAGE_UNPIN, NULL, pin);
}
