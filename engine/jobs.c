#include "engine/core.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/tally.h"

cog_event *cog_core_event(cog_event_type type, const cog_job *j)
{
    cog_event *ev = cog_new(cog_event);

    ev->type = type;
    ev->id = j->req->id;
    ev->user = j->req->user;
    ev->stop = ev->stop_token = -1;
    return ev;
}

void cog_core_post(cog_engine *e, cog_event *ev)
{
    if (cog_mailbox_post(&e->events, &ev->link) && e->cfg.notify)
        e->cfg.notify(e->cfg.notify_arg);
}

void cog_core_publish_stats(cog_engine *e)
{
    e->counts.waiting = atomic_load(&e->n_waiting);
    cog_tally_pools(&e->counts, &e->sched, &e->vision);
    pthread_mutex_lock(&e->stats_lock);
    e->stats = e->counts;
    pthread_mutex_unlock(&e->stats_lock);
}

void cog_core_schedule(cog_engine *e, cog_job *j, uint64_t now_ns)
{
    if (j->is_scheduled)
        return;
    j->is_scheduled = true;
    cog_tally_enter(&e->counts, j, COG_STAGE_PREFILL, now_ns);
    cog_tally_lookups(&e->counts, j);
    atomic_fetch_sub(&e->n_waiting, 1);
}

static void fill_usage(cog_usage *u, const cog_job *j)
{
    *u = (cog_usage){
        .prompt_tokens = j->req->prompt.n_tokens,
        .image_tokens = j->req->prompt.n_image_tokens,
        .completion_tokens = j->completion_tokens,
        .cached_tokens = j->seq[0].sched.n_found > 0 ? j->seq[0].sched.n_found : 0,
        .vision_ns = j->is_first_sender ? j->picture->encode_ns : 0,
    };
    for (int i = 0; i < COG_N_STAGES; i++)
        u->stage_ns[i] = j->stage_ns[i];
}

void cog_core_end(cog_engine *e, cog_job *j, int status, const char *why)
{
    cog_event *ev = cog_core_event(COG_EVENT_END, j);

    if (!j->is_scheduled)
        atomic_fetch_sub(&e->n_waiting, 1);
    cog_tally_leave(&e->counts, j, cog_now_ns());
    ev->status = status;
    if (status)
        cog_err_set(&ev->err, status, "%s", why);
    fill_usage(&ev->usage, j);
    for (int i = 0; i < j->n_seqs; i++)
        cog_scheduler_remove(&e->sched, &j->seq[i].sched);
    for (int i = 0; i < j->req->n_candidates; i++)
        cog_scheduler_remove(&e->sched, &j->scorer[i].sched);
    for (int i = 0; j->req->no_cache && i < j->n_seqs; i++)
        cog_scheduler_forget(&e->sched, &j->seq[i].sched);
    for (int i = 0; j->req->no_cache && i < j->req->n_candidates; i++)
        cog_scheduler_forget(&e->sched, &j->scorer[i].sched);
    cog_vision_unref(&e->vision, j->picture);
    cog_constraints_give(e->constraints, j->matcher);
    *(j->prev ? &j->prev->next : &e->jobs) = j->next;
    if (j->next)
        j->next->prev = j->prev;
    cog_job_free(j);
    cog_core_publish_stats(e);
    cog_core_post(e, ev);
}

void cog_core_end_all(cog_engine *e, int status, const char *why)
{
    while (e->jobs)
        cog_core_end(e, e->jobs, status, why);
}

void cog_core_expire(cog_engine *e)
{
    uint64_t now = cog_now_ns();

    for (cog_job *j = e->jobs, *next; j; j = next) {
        next = j->next;
        if (j->req->deadline_ns <= now)
            cog_core_end(e, j, COG_ETIMEOUT, "the request's deadline passed");
    }
}

/* Of a job that had no rows yet. */
static cog_engine_stage stage_of(cog_engine *e, cog_job *j)
{
    if (!j->picture || j->picture->sched.ready ||
        !cog_scheduler_needs_features(&e->sched, &j->seq[0].sched))
        return COG_STAGE_QUEUE;
    return j->picture->sched.in_pass ? COG_STAGE_ENCODE : COG_STAGE_ENCODE_WAIT;
}

/* A pass begins, and may end, between two looks. */
static void move(cog_engine *e, cog_job *j, cog_engine_stage stage, uint64_t now_ns)
{
    if (j->stage == COG_STAGE_ENCODE_WAIT && j->picture->began_ns > j->stage_began_ns)
        cog_tally_enter(&e->counts, j, COG_STAGE_ENCODE, j->picture->began_ns);
    cog_tally_enter(&e->counts, j, stage, now_ns);
}

void cog_core_look_at_stages(cog_engine *e)
{
    uint64_t n = e->vision.n_changes + e->sched.n_led, now = cog_now_ns();

    if (n == e->n_seen)
        return;
    e->n_seen = n;
    for (cog_job *j = e->jobs; j; j = j->next)
        if (!j->is_scheduled)
            move(e, j, stage_of(e, j), now);
}

/* Messages of several threads may come a little out of order. */
static uint64_t not_falling(cog_engine *e, uint64_t accepted_ns)
{
    if (e->last_accepted_ns < accepted_ns)
        e->last_accepted_ns = accepted_ns;
    return e->last_accepted_ns;
}

/* Who wants no cache still shares with itself: choices that come in later, and those that had to
 * give way, take over what the first computed of the prompt. */
static cog_sha256 salt_of(const cog_engine *e, const cog_request *req)
{
    if (!req->no_cache)
        return req->salt;
    return cog_sha256_of((const cog_span[]){ { "cogwheel own salt", 18 },
                                             { &e->next_order, sizeof(e->next_order) },
                                             { &req->salt, sizeof(req->salt) } },
                         3);
}

void cog_core_begin(cog_engine *e, cog_request *req, uint64_t accepted_ns)
{
    cog_vision_picture *picture = NULL;
    bool is_new = false;
    cog_sha256 salt = salt_of(e, req);
    cog_job *j;

    if (req->image)
        picture = cog_vision_take(&e->vision, req->image, &req->salt, req->no_cache, &is_new);
    req->image = NULL; /* the picture's now */
    j = cog_job_new(req, picture, e->cfg.block, e->cfg.prefix_cache ? &salt : NULL, e->next_order++,
                    not_falling(e, accepted_ns));
    cog_job_set_ends(j, e->loaded.info.eos, e->loaded.info.n_eos);
    j->is_first_sender = is_new;
    if (req->grammar)
        j->matcher = cog_constraints_take(e->constraints, req->grammar);
    j->next = e->jobs;
    if (e->jobs)
        e->jobs->prev = j;
    e->jobs = j;
    cog_scheduler_add(&e->sched, &j->seq[0].sched);
    cog_tally_enter(&e->counts, j, stage_of(e, j), accepted_ns);
}
