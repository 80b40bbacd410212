#include "engine/scheduler.h"

#include "base/alloc.h"

#include <assert.h>

void cog_scheduler_init(cog_scheduler *s, int n_blocks, int block, int max_seqs, int step_tokens)
{
    assert(max_seqs <= step_tokens);
    *s = (cog_scheduler){ .max_seqs = max_seqs, .step_tokens = step_tokens };
    cog_kv_init(&s->kv, n_blocks, block, false);
}

void cog_scheduler_fini(cog_scheduler *s)
{
    assert(s->waiting.n == 0 && s->running.n == 0);
    cog_kv_fini(&s->kv);
}

void cog_plan_init(cog_plan *p, int max_seqs)
{
    *p = (cog_plan){ .run = cog_array(cog_sched_seq *, (size_t)max_seqs),
                     .copy = cog_array(cog_page_copy, (size_t)max_seqs) };
}

void cog_plan_fini(cog_plan *p)
{
    cog_free(p->run);
    cog_free(p->copy);
    *p = (cog_plan){ 0 };
}

/* Keeps the list sorted by order; equal orders stay in order of insertion. */
static void insert(cog_sched_list *l, cog_sched_seq *q)
{
    cog_sched_seq *after = l->tail;

    while (after && after->order > q->order)
        after = after->prev;
    q->prev = after;
    q->next = after ? after->next : l->head;
    *(q->next ? &q->next->prev : &l->tail) = q;
    *(q->prev ? &q->prev->next : &l->head) = q;
    l->n++;
}

static void unlink_seq(cog_sched_list *l, cog_sched_seq *q)
{
    *(q->next ? &q->next->prev : &l->tail) = q->prev;
    *(q->prev ? &q->prev->next : &l->head) = q->next;
    q->prev = q->next = NULL;
    l->n--;
}

static void set_state(cog_scheduler *s, cog_sched_seq *q, cog_seq_state state)
{
    if (q->state == COG_SEQ_WAITING)
        unlink_seq(&s->waiting, q);
    else if (q->state == COG_SEQ_RUNNING)
        unlink_seq(&s->running, q);
    q->state = state;
    if (state == COG_SEQ_WAITING)
        insert(&s->waiting, q);
    else if (state == COG_SEQ_RUNNING)
        insert(&s->running, q);
}

void cog_scheduler_add(cog_scheduler *s, cog_sched_seq *q)
{
    assert(q->state == COG_SEQ_IDLE && q->n_computed == 0 && q->table.n == 0);
    set_state(s, q, COG_SEQ_WAITING);
}

void cog_scheduler_fork(cog_scheduler *s, cog_sched_seq *child, const cog_sched_seq *parent)
{
    assert(child->state == COG_SEQ_IDLE && parent->state == COG_SEQ_RUNNING);
    assert(child->n_tokens >= parent->n_computed);
    if (s->running.n == s->max_seqs) {
        cog_scheduler_add(s, child);
        return;
    }
    cog_kv_share(&s->kv, &child->table, &parent->table, parent->n_computed);
    child->n_computed = parent->n_computed;
    set_state(s, child, COG_SEQ_RUNNING);
}

void cog_scheduler_remove(cog_scheduler *s, cog_sched_seq *q)
{
    set_state(s, q, COG_SEQ_IDLE);
    cog_kv_release(&s->kv, &q->table, 0);
    q->n_computed = 0;
    q->n_rows = 0;
}

static void preempt(cog_scheduler *s, cog_sched_seq *q)
{
    cog_kv_release(&s->kv, &q->table, 0);
    q->n_computed = 0;
    q->n_rows = 0;
    set_state(s, q, COG_SEQ_WAITING);
    s->n_preempted++;
}

static bool is_decode(const cog_sched_seq *q)
{
    return q->n_tokens - q->n_computed == 1;
}

static bool may_run(const cog_sched_seq *q)
{
    return !q->picture || q->picture->ready;
}

static void give_rows(cog_plan *p, cog_sched_seq *q, int n)
{
    q->n_rows = n;
    p->run[p->n_run++] = q;
    p->rows += n;
}

/* A page for the next token of q, and that page its own. */
static int reserve_next(cog_scheduler *s, cog_sched_seq *q, cog_plan *p)
{
    int32_t dst, src;
    int rc = cog_kv_grow(&s->kv, &q->table, q->n_computed + 1);

    if (rc == 0)
        rc = cog_kv_own(&s->kv, &q->table, q->n_computed, &dst, &src);
    if (rc == 0 && src >= 0)
        p->copy[p->n_copies++] =
            (cog_page_copy){ .dst = dst, .src = src, .n_slots = q->n_computed % s->kv.block };
    return rc;
}

/* Decode rows, oldest sequence first. The victim of a full pool is always the youngest running
 * sequence, which has no row in this plan yet: the ones that have are older. Returns false when
 * somebody was preempted. */
static bool plan_decode(cog_scheduler *s, cog_plan *p)
{
    uint64_t before = s->n_preempted;

    for (cog_sched_seq *q = s->running.head, *next; q; q = next) {
        bool mine = true;

        if (is_decode(q) && may_run(q)) {
            while (mine && reserve_next(s, q, p) != 0) {
                mine = s->running.tail != q;
                preempt(s, s->running.tail);
            }
            if (mine)
                give_rows(p, q, 1);
        }
        next = mine ? q->next : NULL; /* q was the last one when it preempted itself */
    }
    return s->n_preempted == before;
}

static void plan_prefill(cog_scheduler *s, cog_plan *p, cog_sched_seq *q)
{
    int left = q->n_tokens - q->n_computed;
    int room = s->step_tokens - p->rows;

    if (q->n_rows == 0 && may_run(q) && room > 0)
        give_rows(p, q, left < room ? left : room);
}

void cog_scheduler_plan(cog_scheduler *s, cog_plan *p)
{
    cog_sched_seq *q;
    bool roomy;

    p->n_run = p->rows = p->n_copies = 0;
    for (q = s->running.head; q; q = q->next)
        q->n_rows = 0;
    roomy = plan_decode(s, p);
    for (q = s->running.head; q; q = q->next)
        plan_prefill(s, p, q);

    /* A sequence comes in with pages for all its tokens and the next one. Not right after a
     * preemption: it would take the pages that were just freed for somebody older. */
    while (roomy && (q = s->waiting.head) && s->running.n < s->max_seqs &&
           p->rows < s->step_tokens && cog_kv_grow(&s->kv, &q->table, q->n_tokens + 1) == 0) {
        set_state(s, q, COG_SEQ_RUNNING);
        q->n_rows = 0;
        plan_prefill(s, p, q);
    }
}

void cog_scheduler_commit(cog_plan *p)
{
    for (int i = 0; i < p->n_run; i++) {
        p->run[i]->n_computed += p->run[i]->n_rows;
        p->run[i]->n_rows = 0;
    }
    p->n_run = p->rows = p->n_copies = 0;
}

static int collect(const cog_sched_list *l, cog_picture **out, int n, int max)
{
    for (const cog_sched_seq *q = l->head; q && n < max; q = q->next) {
        bool known = !q->picture || q->picture->ready || q->picture->in_pass;

        for (int i = 0; !known && i < n; i++)
            known = out[i] == q->picture;
        if (!known)
            out[n++] = q->picture;
    }
    return n;
}

int cog_scheduler_pictures(const cog_scheduler *s, cog_picture **out, int max, int max_waiting)
{
    int n = collect(&s->running, out, 0, max);

    return collect(&s->waiting, out, n, max - n < max_waiting ? max : n + max_waiting);
}
