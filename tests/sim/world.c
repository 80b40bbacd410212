/* world.c - the rounds of the engine thread: messages, pictures, a step, tokens; and the clock. */
#include "tests/sim/sim.h"

#include "base/alloc.h"

#include <limits.h>
#include <string.h>

enum { SLICE_NS = 50000000 }; /* of pictures, when nobody streams: as in engine.c */

/* ------------------------------------------------------------------ timers: a heap */

static void swap_timers(sim_timer *a, sim_timer *b)
{
    sim_timer t = *a;

    *a = *b;
    *b = t;
}

static void add_timer(sim_world *w, uint64_t ns, sim_request *r)
{
    int i = w->n_timers++;

    if (ns == UINT64_MAX) {
        w->n_timers--;
        return;
    }
    if (w->n_timers > w->max_timers) {
        w->max_timers = 2 * w->n_timers;
        w->timer = cog_realloc(w->timer, (size_t)w->max_timers, sizeof(sim_timer));
    }
    w->timer[i] = (sim_timer){ .ns = ns, .request = r };
    for (; i > 0 && w->timer[(i - 1) / 2].ns > w->timer[i].ns; i = (i - 1) / 2)
        swap_timers(&w->timer[i], &w->timer[(i - 1) / 2]);
}

static sim_request *take_timer(sim_world *w)
{
    sim_request *r = w->timer[0].request;

    w->timer[0] = w->timer[--w->n_timers];
    for (int i = 0, child; (child = 2 * i + 1) < w->n_timers; i = child) {
        child += child + 1 < w->n_timers && w->timer[child + 1].ns < w->timer[child].ns;
        if (w->timer[i].ns <= w->timer[child].ns)
            break;
        swap_timers(&w->timer[i], &w->timer[child]);
    }
    return r;
}

/* ------------------------------------------------------------------ requests */

static void drop_request(sim_request *r)
{
    if (--r->n_holders == 0)
        sim_request_free(r);
}

static void leave_queue(sim_world *w, sim_request *r)
{
    w->n_waiting -= !r->has_rows;
    w->tenant[r->tenant].n_waiting -= !r->has_rows;
    r->has_rows = true;
}

static void remove_seq(sim_world *w, sim_seq *q)
{
    sim_check_seq(w, q);
    if (w->fault == SIM_LOSES_A_PAGE && q->sched.table.n > 1)
        q->sched.table.n--;
    cog_scheduler_remove(&w->sched, &q->sched);
    if (q->sched.table.n > 0)
        sim_break(w, SIM_PAGES, "a sequence that was removed holds pages");
}

static void end_request(sim_world *w, sim_request *r)
{
    if (r->n_ends++ > 0) {
        sim_break(w, SIM_ENDS_ONCE, "request %llu ended twice", (unsigned long long)r->id);
        return;
    }
    leave_queue(w, r);
    for (int i = 0; i < r->n_choices; i++)
        remove_seq(w, &r->seq[i]);
    if (r->features)
        cog_vision_unref(&w->vision, r->features);
    w->tenant[r->tenant].live_rows -= sim_request_rows(w->m, r);
    *(r->prev ? &r->prev->next : &w->live) = r->next;
    if (r->next)
        r->next->prev = r->prev;
    w->n_live--;
    if (w->fault == SIM_ENDS_TWICE && r->id % 64 == 63)
        end_request(w, r);
    drop_request(r);
}

static bool is_accepted(const sim_world *w)
{
    if (w->fault == SIM_TAKES_ALL)
        return true;
    if (w->fault == SIM_REFUSES_TOO_EARLY)
        return w->n_waiting < w->l->max_queue / 2;
    return w->n_waiting < w->l->max_queue;
}

static void submit(sim_world *w, sim_request *r)
{
    r->n_holders = 1;
    r->was_accepted = is_accepted(w);
    sim_check_submit(w, r->was_accepted);
    if (!r->was_accepted) {
        w->result.n_refused++;
        drop_request(r);
        return;
    }
    w->result.n_accepted++;
    w->n_waiting++;
    sim_request_prepare(w, r);
    w->tenant[r->tenant].n_waiting++;
    r->before_rows = w->tenant[r->tenant].live_rows;
    w->tenant[r->tenant].live_rows += sim_request_rows(w->m, r);
    r->next = w->live;
    if (w->live)
        w->live->prev = r;
    w->live = r;
    w->n_live++;
    r->n_holders += (r->cancel_ns != UINT64_MAX) + (r->deadline_ns != UINT64_MAX);
    add_timer(w, r->cancel_ns, r);
    add_timer(w, r->deadline_ns, r);
    if (w->fault != SIM_FORGETS_A_REQUEST || r->id % 64 != 63)
        cog_scheduler_add(&w->sched, &r->seq[0].sched);
}

static void take_messages(sim_world *w)
{
    while (w->n_timers > 0 && w->timer[0].ns <= w->now) {
        uint64_t ns = w->timer[0].ns;
        sim_request *r = take_timer(w);
        if (r->n_ends == 0 && w->fault != SIM_IGNORES_A_CANCEL) {
            w->result.n_cancelled += ns == r->cancel_ns;
            w->result.n_expired += ns != r->cancel_ns;
            end_request(w, r);
        }
        if (r->n_ends == 0)
            sim_break(w, SIM_ENDS_ONCE, "a request that was cancelled goes on");
        drop_request(r);
    }
    while (sim_next_arrival(w) <= w->now)
        submit(w, sim_arrive(w));
}

/* ------------------------------------------------------------------ tokens */

static void add_token(sim_world *w, sim_seq *q)
{
    sim_request *r = q->request;

    if (q->token_ns)
        sim_series_add(&w->result.itl, (double)(w->now - q->token_ns) / 1e6);
    else if (q == r->seq)
        sim_series_add(&w->result.ttft, (double)(w->now - r->arrived_ns) / 1e6);
    q->token_ns = w->now;
    w->result.tokens++;
    q->sched.n_tokens++;
    q->has_finished = q->sched.n_tokens == q->limit;
    r->n_live -= q->has_finished;
}

/* The first token of each answer comes from the prompt's logits; then the answers part. */
static void fork_request(sim_world *w, sim_request *r)
{
    r->has_forked = true;
    for (int i = 1; i < r->n_choices; i++) {
        add_token(w, &r->seq[i]);
        if (!r->seq[i].has_finished)
            cog_scheduler_fork(&w->sched, &r->seq[i].sched, &r->seq[0].sched);
    }
}

static void take_tokens(sim_world *w, sim_seq *q)
{
    if (!q->request->has_forked)
        fork_request(w, q->request);
    add_token(w, q);
    if (q->has_finished)
        remove_seq(w, q);
    if (q->request->n_live == 0) {
        w->result.n_finished++;
        end_request(w, q->request);
    }
}

/* ------------------------------------------------------------------ a round */

static void copy_pages(sim_world *w)
{
    size_t block = (size_t)w->m->block;

    for (int i = 0; i < w->plan.n_copies; i++) {
        const cog_page_copy *c = &w->plan.copy[i];
        if (w->fault != SIM_SKIPS_A_COPY)
            memcpy(w->contents + (size_t)c->dst * block, w->contents + (size_t)c->src * block,
                   (size_t)c->n_slots * sizeof(*w->contents));
    }
}

static double step_us(const sim_world *w)
{
    int n_visual = 0;
    double us;

    for (int i = 0; i < w->plan.n_run; i++)
        n_visual += sim_visual_rows(w->plan.run[i]);
    us = sim_step_us(w->m, w->plan.decode_rows, w->plan.rows - w->plan.decode_rows - n_visual,
                     n_visual);
    return w->vision.is_busy && w->m->lane > 0 ? us * w->m->lane : us;
}

static uint64_t slice_room(const sim_world *w, int n_streams, int n_prompt)
{
    uint64_t ns = cog_pace_vision_ns(w->pace, n_streams, n_prompt);

    if (w->policy == SIM_BASELINE || w->fault == SIM_TAKES_WHOLE_PASSES)
        return UINT64_MAX;
    return ns < SLICE_NS ? ns : SLICE_NS;
}

static int room_for_prompts(const sim_world *w, int n_streams, uint64_t slice_ns)
{
    if (w->policy == SIM_BASELINE || w->fault == SIM_TAKES_WHOLE_PROMPTS)
        return INT_MAX;
    if (w->fault == SIM_IDLES && n_streams == 0)
        return 0;
    return cog_pace_rows(w->pace, n_streams, slice_ns);
}

/* Mistakes about pictures, made before and after a plan. */
static void spoil_pictures(sim_world *w, bool is_planned)
{
    if (w->fault != SIM_FORGETS_LEADERS && w->fault != SIM_DROPS_FEATURES)
        return;
    for (sim_request *r = w->live; r; r = r->next) {
        if (!r->features)
            continue;
        if (w->fault == SIM_FORGETS_LEADERS && is_planned)
            r->features->sched.leader = NULL;
        if (w->fault == SIM_DROPS_FEATURES && !is_planned && w->result.steps > 100)
            r->features->sched.ready = true;
    }
}

static void begin_rows(sim_world *w)
{
    for (int i = 0; i < w->plan.n_run; i++) {
        sim_request *r = ((sim_seq *)w->plan.run[i])->request;
        if (!r->has_rows) {
            sim_series_add(&w->result.wait, (double)(w->now - r->arrived_ns) / 1e6);
            sim_check_admission(w, r);
            leave_queue(w, r);
        }
    }
}

static void finish_step(sim_world *w)
{
    static sim_seq *done[4096];
    int n = 0;

    for (int i = 0; i < w->plan.n_run; i++) {
        cog_sched_seq *q = w->plan.run[i];
        if (q->n_computed + q->n_rows == q->n_tokens)
            done[n++] = (sim_seq *)q;
    }
    w->result.rows += (uint64_t)w->plan.rows;
    sim_check_commit(w);
    cog_scheduler_commit(&w->sched, &w->plan);
    for (int i = 0; i < n; i++)
        take_tokens(w, done[i]);
}

/* Returns whether anything was done. */
static bool round_of_work(sim_world *w)
{
    int n_streams, n_prompt;
    uint64_t before = w->now, slice_ns;
    double us;

    cog_scheduler_load(&w->sched, &n_streams, &n_prompt);
    (void)cog_vision_work(&w->vision, &w->sched, w->now, slice_room(w, n_streams, n_prompt));
    slice_ns = w->m->lane > 0 ? 0 : w->now - before; /* in a lane it is beside the step */
    spoil_pictures(w, false);
    cog_scheduler_plan(&w->sched, &w->plan, w->fault == SIM_HAS_NO_PATIENCE ? 0 : w->now,
                       room_for_prompts(w, n_streams, slice_ns));
    spoil_pictures(w, true);
    sim_check_plan(w);
    copy_pages(w);
    begin_rows(w);
    if (w->plan.rows == 0)
        return w->now > before;
    w->result.steps++;
    n_streams = w->plan.decode_rows;
    us = step_us(w);
    sim_check_step(w, slice_ns, us, n_streams);
    w->now += (uint64_t)(us * 1000);
    if (w->policy == SIM_SERVER)
        cog_pace_observe(w->pace, n_streams, w->plan.rows - n_streams, (uint64_t)(us * 1000));
    finish_step(w);
    return true;
}

/* To the next thing that happens. False when nothing will. */
static bool wait(sim_world *w)
{
    uint64_t next = sim_next_arrival(w), lane = sim_lane_ns(w);

    next = lane < next ? lane : next;
    next = w->n_timers > 0 && w->timer[0].ns < next ? w->timer[0].ns : next;
    if (next == UINT64_MAX)
        return false;
    w->now = next > w->now ? next : w->now;
    return true;
}

static void run(sim_world *w)
{
    while (w->result.broken == SIM_HOLDS) {
        take_messages(w);
        if (w->result.broken == SIM_HOLDS && round_of_work(w))
            continue;
        if (w->result.broken == SIM_HOLDS)
            sim_check_idle(w);
        if (!wait(w))
            break;
    }
}

/* ------------------------------------------------------------------ the whole */

static void open_world(sim_world *w)
{
    const sim_machine *m = w->m;
    bool is_server = w->policy == SIM_SERVER;
    int step_tokens = is_server ? m->step_tokens : m->n_blocks * m->block;

    cog_scheduler_init(&w->sched, m->n_blocks, m->block,
                       w->fault == SIM_LEAVES_PLACES_EMPTY ? m->max_seqs / 2 : m->max_seqs,
                       step_tokens, is_server);
    cog_plan_init(&w->plan, m->max_seqs);
    w->pace = cog_pace_new(m->stretch, step_tokens, m->max_seqs);
    sim_device_init(w);
    w->sched.picture_changes = &w->vision.n_changes;
    sim_check_init(w);
    sim_load_init(w);
}

static void close_world(sim_world *w)
{
    while (w->live) {
        sim_request *r = w->live;
        w->live = r->next;
        for (int i = 0; i < r->n_choices; i++)
            cog_scheduler_remove(&w->sched, &r->seq[i].sched);
        if (r->features)
            cog_vision_unref(&w->vision, r->features);
        drop_request(r);
    }
    while (w->n_timers > 0)
        drop_request(take_timer(w));
    sim_device_fini(w);
    sim_check_fini(w);
    cog_pace_free(w->pace);
    cog_plan_fini(&w->plan);
    cog_scheduler_fini(&w->sched);
    cog_free(w->timer);
}

sim_result sim_run(const sim_machine *m, const sim_load *l, sim_policy policy, sim_fault fault,
                   uint64_t seed)
{
    sim_world *w = cog_new(sim_world);
    sim_result result;

    w->m = m;
    w->l = l;
    w->policy = policy;
    w->fault = fault;
    w->rng.key = seed;
    open_world(w);
    run(w);
    if (w->result.broken == SIM_HOLDS)
        sim_check_end(w);
    w->result.now_ns = w->now;
    w->result.preempted = w->sched.n_preempted;
    w->result.encoded = w->vision.n_encoded;
    result = w->result;
    close_world(w);
    cog_free(w);
    return result;
}
