/* check.c - what must hold, whatever comes. */
#include "tests/sim/sim.h"

#include "base/alloc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EVERY = 16,      /* the pool and the queue are counted so often, when they are large */
    SMALL = 64,      /* and at each step when they are not */
    MAX_PAIRED = 16, /* tenants compared with each other */
    LEARNING = 30,   /* steps that may exceed the bound before anything is known */
};
static const double OVER_SHARE = 0.02; /* of steps with more than streams, longer than the bound */

const char *const sim_check_names[] = {
    [SIM_HOLDS] = "none",
    [SIM_ENDS_ONCE] = "every accepted request ends once",
    [SIM_PAGES] = "no page is lost",
    [SIM_CONTENTS] = "pages hold what they should",
    [SIM_QUEUE] = "the queue is bounded",
    [SIM_WORK_CONSERVING] = "never idle while something could run",
    [SIM_STARVATION] = "patience ends every wait",
    [SIM_LIGHT_TENANT] = "who asks little waits little",
    [SIM_FAIRNESS] = "tenants that wait are served evenly",
    [SIM_PACE] = "no step is longer than the bound",
    [SIM_SINGLE_FLIGHT] = "a picture is computed once at a time",
    [SIM_FEATURES] = "rows have their picture",
};

void sim_break(sim_world *w, sim_check check, const char *fmt, ...)
{
    va_list ap;

    if (w->result.broken != SIM_HOLDS)
        return;
    w->result.broken = check;
    va_start(ap, fmt);
    (void)vsnprintf(w->result.why, sizeof(w->result.why), fmt, ap);
    va_end(ap);
}

void sim_check_init(sim_world *w)
{
    w->contents = cog_array(uint64_t, (size_t)w->m->n_blocks * (size_t)w->m->block);
    w->held = cog_array(int, (size_t)w->m->n_blocks);
}

void sim_check_fini(sim_world *w)
{
    cog_free(w->contents);
    cog_free(w->held);
    cog_free(w->prefilled);
    cog_free(w->log);
}

void sim_check_submit(sim_world *w, bool was_accepted)
{
    if (was_accepted && w->n_waiting >= w->l->max_queue)
        sim_break(w, SIM_QUEUE, "%d wait, and one more was accepted", w->n_waiting);
    if (!was_accepted && w->n_waiting < w->l->max_queue)
        sim_break(w, SIM_QUEUE, "%d wait, and one more was refused", w->n_waiting);
}

/* ------------------------------------------------------------------ contents */

/* What the keys and values of slot i depend on: the tokens so far, the picture, and whom it may be
 * shared with. */
static const uint64_t *hashes(sim_world *w, sim_seq *q, int n)
{
    const sim_request *r = q->request;
    bool has_caches = w->policy == SIM_SERVER && !r->is_private;

    if (!q->hash)
        q->hash = cog_array(uint64_t, (size_t)q->limit);
    for (; q->n_hashed < n; q->n_hashed++) {
        int i = q->n_hashed;
        uint64_t before = i ? q->hash[i - 1] : has_caches ? (uint64_t)r->salt : ~r->id;
        uint64_t picture = i < q->sched.n_visual ? (uint64_t)r->picture + 1 : 0;
        q->hash[i] = cog_rng_mix(
            before + cog_rng_at((uint64_t)q->tokens[i] + 1, picture * 8191 + (uint64_t)i));
    }
    return q->hash;
}

static uint64_t *slot(sim_world *w, const cog_block_table *t, int i)
{
    return w->contents + (size_t)t->block[i / w->m->block] * (size_t)w->m->block + i % w->m->block;
}

static void check_slots(sim_world *w, sim_seq *q, int from)
{
    const uint64_t *hash = hashes(w, q, q->sched.n_computed);

    for (int i = from; i < q->sched.n_computed; i++)
        if (*slot(w, &q->sched.table, i) != hash[i]) {
            sim_break(w, SIM_CONTENTS, "slot %d of %d holds something else", i,
                      q->sched.n_computed);
            return;
        }
}

void sim_check_seq(sim_world *w, sim_seq *q)
{
    if (q->sched.state == COG_SEQ_RUNNING)
        check_slots(w, q, 0);
}

static void count_pictures(sim_world *w, const sim_seq *q)
{
    int n_visual = sim_visual_rows(&q->sched);
    size_t at = (size_t)q->request->picture * (size_t)(w->l->n_salts > 1 ? w->l->n_salts : 1) +
                (size_t)q->request->salt;

    if (n_visual == 0 || !q->sched.chain.name)
        return;
    if (at >= w->n_known) {
        w->prefilled = cog_realloc(w->prefilled, 2 * at + 64, 1);
        memset(w->prefilled + w->n_known, 0, 2 * at + 64 - w->n_known);
        w->n_known = 2 * at + 64;
    }
    w->result.visual_rows += (uint64_t)n_visual;
    w->result.pictures += !w->prefilled[at];
    w->prefilled[at] = 1;
}

static void compute(sim_world *w, sim_seq *q)
{
    cog_sched_seq *s = &q->sched;
    const uint64_t *hash = hashes(w, q, s->n_computed + s->n_rows);
    bool is_decode = s->n_tokens - s->n_computed == 1;

    check_slots(w, q, is_decode && s->n_computed > 0 ? s->n_computed - 1 : 0);
    for (int i = s->n_computed; i < s->n_computed + s->n_rows; i++) {
        if (w->sched.kv.refs[s->table.block[i / w->m->block]] != 1)
            sim_break(w, SIM_PAGES, "a row is written to a page of several");
        *slot(w, &s->table, i) = hash[i];
    }
    count_pictures(w, q);
    w->tenant[q->request->tenant].rows += (uint64_t)s->n_rows;
}

/* ------------------------------------------------------------------ fairness */

/* Rows of two tenants, while both have requests waiting, differ by what the places may still have
 * had to do when they began to, on either side. Where nothing else decides who is next. */
static void check_fairness(sim_world *w)
{
    const sim_load *l = w->l;
    double bound = 2.0 * (double)(w->longest + (uint64_t)w->m->max_seqs * (uint64_t)l->answer_max);

    if (w->policy == SIM_BASELINE || l->pictures > 0 || l->n_priorities > 1 || l->n_light > 0 ||
        l->n_tenants > MAX_PAIRED || w->sched.n_preempted > 0)
        return;
    for (int a = 0; a < l->n_tenants; a++) {
        sim_tenant *t = &w->tenant[a];
        for (int b = 0; b < a; b++) {
            double more = (double)t->rows - (double)w->tenant[b].rows;
            if (t->n_waiting == 0 || w->tenant[b].n_waiting == 0)
                t->is_pair[b] = false;
            else if (!t->is_pair[b])
                t->base[b] = more;
            if (t->is_pair[b] && fabs(more - t->base[b]) > bound)
                sim_break(w, SIM_FAIRNESS, "tenants %d and %d: %.0f rows apart, bound %.0f", a, b,
                          more - t->base[b], bound);
            t->is_pair[b] = t->n_waiting > 0 && w->tenant[b].n_waiting > 0;
        }
    }
}

void sim_check_commit(sim_world *w)
{
    for (int i = 0; i < w->plan.n_run; i++)
        compute(w, (sim_seq *)w->plan.run[i]);
    check_fairness(w);
}

/* ------------------------------------------------------------------ waiting */

static uint64_t rows_admitted_by(const sim_world *w, uint64_t ns)
{
    size_t low = 0, high = w->n_log;

    while (low < high) {
        size_t mid = (low + high) / 2;
        if (w->log[mid].ns <= ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? w->log[low - 1].rows : 0;
}

static void log_admission(sim_world *w, uint64_t cost)
{
    w->admitted_rows += cost;
    if (w->n_log == w->max_log) {
        w->max_log = w->max_log ? 2 * w->max_log : 1024;
        w->log = cog_realloc(w->log, w->max_log, sizeof(*w->log));
    }
    w->log[w->n_log++] = (sim_log){ .ns = w->now, .rows = w->admitted_rows };
}

/* Once patience is over, who waits is behind its own tenant's earlier requests, and shares with the
 * other tenants. */
static void check_patience(sim_world *w, const sim_request *r)
{
    uint64_t end = r->arrived_ns + COG_QUEUE_PATIENCE_NS, n = (uint64_t)w->l->n_tenants, rows;
    uint64_t own = r->before_rows + sim_request_rows(w->m, r);

    if (w->now <= end)
        return;
    rows = w->admitted_rows - rows_admitted_by(w, end);
    if (rows > n * own + 3 * n * w->largest_cost)
        sim_break(w, SIM_STARVATION, "%llu rows were admitted before a request without patience",
                  (unsigned long long)rows);
}

/* While one of a light tenant waits, each other tenant gets ahead with little more than an
 * admission. */
static void check_light(sim_world *w, const sim_request *r, uint64_t cost)
{
    if (r->is_light && r->passed_rows > 3 * (uint64_t)w->l->n_tenants * w->largest_cost)
        sim_break(w, SIM_LIGHT_TENANT, "%llu rows were admitted before a light tenant's",
                  (unsigned long long)r->passed_rows);
    for (sim_request *o = w->l->n_light ? w->live : NULL; o; o = o->next)
        o->passed_rows += o->is_light && !o->has_rows ? cost : 0;
}

void sim_check_admission(sim_world *w, sim_request *r)
{
    const cog_sched_seq *q = &r->seq[0].sched;
    uint64_t cost = (uint64_t)(q->n_tokens - q->n_computed), rows = sim_request_rows(w->m, r);

    w->longest = rows > w->longest ? rows : w->longest;
    w->largest_cost = cost > w->largest_cost ? cost : w->largest_cost;
    w->result.looked_up += (uint64_t)q->n_tokens;
    w->result.found += (uint64_t)q->n_computed;
    if (w->policy == SIM_SERVER) {
        check_patience(w, r);
        check_light(w, r, cost);
    }
    log_admission(w, cost);
}

/* ------------------------------------------------------------------ a plan */

static void check_pool(sim_world *w)
{
    const cog_kv *kv = &w->sched.kv;

    if (kv->n_blocks > SMALL && w->result.steps % EVERY != 0)
        return;
    memset(w->held, 0, (size_t)kv->n_blocks * sizeof(*w->held));
    for (const cog_sched_seq *q = w->sched.running.head; q; q = q->next)
        for (int i = 0; i < q->table.n; i++)
            w->held[q->table.block[i]]++;
    if (memcmp(w->held, kv->refs, (size_t)kv->n_blocks * sizeof(*w->held)) != 0)
        sim_break(w, SIM_PAGES, "a page is held by nobody, or by more than it knows");
    if (!cog_kv_is_sound(kv))
        sim_break(w, SIM_PAGES, "the pool is not sound");
}

static bool needs_features(const cog_sched_seq *q)
{
    return q->picture && q->n_computed < q->n_visual;
}

static void check_pictures(sim_world *w)
{
    const cog_plan *p = &w->plan;

    for (int i = 0; i < p->n_run; i++) {
        const sim_seq *q = (const sim_seq *)p->run[i];
        if (!needs_features(&q->sched))
            continue;
        if (!q->request->features->features)
            sim_break(w, SIM_FEATURES, "rows of a picture that is not encoded");
        if (!q->sched.chain.name)
            continue;
        for (int k = 0; k < i; k++) {
            const sim_seq *o = (const sim_seq *)p->run[k];
            if (needs_features(&o->sched) && o->sched.chain.name &&
                o->request->picture == q->request->picture && o->request->salt == q->request->salt)
                sim_break(w, SIM_SINGLE_FLIGHT, "two compute the same picture's prefix");
        }
    }
}

/* Who may come in now: not one whose picture is missing, or being computed by another. */
static bool is_held(const sim_world *w, cog_sched_seq *q)
{
    if (!q->picture)
        return false;
    if (q->picture->leader && q->chain.name && w->policy == SIM_SERVER)
        return true;
    return !q->picture->ready && cog_scheduler_needs_features(&w->sched, q);
}

static void check_places(sim_world *w)
{
    cog_queue_cursor c;
    cog_queue_item *item;
    int n = cog_queue_count(w->sched.waiting);

    if (w->plan.prompt_left == 0 || w->sched.running.n >= w->m->max_seqs || n == 0 ||
        (n > SMALL && w->result.steps % (EVERY * 4) != 0))
        return;
    cog_queue_begin(&c, w->sched.waiting, w->now);
    while ((item = cog_queue_next(&c))) {
        cog_sched_seq *q = (cog_sched_seq *)item;
        if (is_held(w, q))
            continue;
        if (cog_kv_blocks_for(&w->sched.kv, q->n_tokens + 1) <= cog_kv_available(&w->sched.kv))
            sim_break(w, SIM_WORK_CONSERVING, "%d of %d run, pages are there, and one waits",
                      w->sched.running.n, w->m->max_seqs);
        return;
    }
}

void sim_check_plan(sim_world *w)
{
    bool was_preempted = w->sched.n_preempted != w->n_preempted;

    w->n_preempted = w->sched.n_preempted;
    check_pool(w);
    check_pictures(w);
    if (was_preempted)
        return;
    if (w->plan.rows == 0 && w->sched.running.n > 0)
        sim_break(w, SIM_WORK_CONSERVING, "%d run, and the step has no rows", w->sched.running.n);
    check_places(w);
}

void sim_check_step(sim_world *w, uint64_t slice_ns, double step_us, int n_streams)
{
    const sim_machine *m = w->m;
    double lane = m->lane > 0 ? m->lane : 1, total = step_us + (double)slice_ns / 1000;
    double alone = sim_step_us(m, n_streams, 0, 0), more, bound;
    double rows = COG_PACE_MIN_ROWS * fmax(m->text_row_us, m->visual_row_us) + m->visual_us;
    double piece = fmax(m->layer_us, m->adapter_us) * w->n_images;

    if (n_streams == 0 || w->policy == SIM_BASELINE || total <= alone * lane * 1.0001)
        return;
    /* up to twice the room for what is worth its fixed cost; beside a slice that cost is guessed */
    more = 1.7 * (m->stretch - 1) * alone;
    more = fmax((m->stretch - 1) * alone, m->lane > 0 ? more : fmin(2 * m->visual_us, more));
    bound = lane * (alone + fmax(more, fmax(rows, m->lane > 0 ? 0 : piece)));
    w->result.mixed++;
    w->result.over += total > bound;
    if (total / bound > w->result.worst)
        w->result.worst = total / bound;
}

void sim_check_idle(sim_world *w)
{
    bool is_known = cog_queue_count(w->sched.waiting) + w->sched.running.n > 0;

    if (w->n_live == 0 || w->vision.is_busy)
        return;
    if (!is_known)
        sim_break(w, SIM_ENDS_ONCE, "%d requests are with nobody", w->n_live);
    else
        sim_break(w, SIM_WORK_CONSERVING, "%d requests, and nothing is done", w->n_live);
}

void sim_check_end(sim_world *w)
{
    const sim_result *r = &w->result;
    const cog_kv *kv = &w->sched.kv;

    if (w->n_live > 0 || r->n_accepted != r->n_finished + r->n_cancelled + r->n_expired)
        sim_break(w, SIM_ENDS_ONCE, "%d accepted, %d ended", r->n_accepted,
                  r->n_finished + r->n_cancelled + r->n_expired);
    if (!cog_kv_is_sound(kv) || cog_kv_available(kv) != kv->n_blocks)
        sim_break(w, SIM_PAGES, "%d pages of %d are left", cog_kv_available(kv), kv->n_blocks);
    if ((double)r->over > LEARNING + OVER_SHARE * (double)r->mixed)
        sim_break(w, SIM_PACE, "%llu of %llu steps longer than the bound, by up to %.2f",
                  (unsigned long long)r->over, (unsigned long long)r->mixed, r->worst);
}
