#include "engine/scheduler.h"

#include "base/alloc.h"

#include <assert.h>

void cog_scheduler_init(cog_scheduler *s, int n_blocks, int block, int max_seqs, int step_tokens,
                        bool keeps_prefixes)
{
    assert(max_seqs <= step_tokens);
    *s = (cog_scheduler){ .max_seqs = max_seqs, .step_tokens = step_tokens };
    s->waiting = cog_queue_new();
    cog_kv_init(&s->kv, n_blocks, block, keeps_prefixes);
}

void cog_scheduler_fini(cog_scheduler *s)
{
    assert(s->running.n == 0 && s->n_pictured == 0);
    cog_queue_free(s->waiting);
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

/* ------------------------------------------------------------------ states */

static bool comes_after(const cog_sched_seq *a, const cog_sched_seq *b)
{
    if (a->item.priority != b->item.priority)
        return a->item.priority > b->item.priority;
    return a->item.order > b->item.order;
}

/* Equals stay in order of insertion. */
static void insert(cog_sched_list *l, cog_sched_seq *q)
{
    cog_sched_seq *after = l->tail;

    while (after && comes_after(after, q))
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

/* One more, or one less, waits with a picture. */
static void count_waiting(cog_scheduler *s, cog_sched_seq *q, int n)
{
    if (!q->picture)
        return;
    q->picture->n_waiting += n;
    s->n_pictured += n;
}

static void wait_in_queue(cog_scheduler *s, cog_sched_seq *q)
{
    q->item.cost = q->n_tokens;
    q->state = COG_SEQ_WAITING;
    s->n_queued++;
    count_waiting(s, q, 1);
    cog_queue_add(s->waiting, &q->item);
}

static void run(cog_scheduler *s, cog_sched_seq *q)
{
    q->n_rows = 0;
    q->state = COG_SEQ_RUNNING;
    insert(&s->running, q);
}

void cog_scheduler_add(cog_scheduler *s, cog_sched_seq *q)
{
    assert(q->state == COG_SEQ_IDLE && q->n_computed == 0 && q->table.n == 0);
    assert(!q->picture || q->n_visual > 0);
    q->item.was_preempted = false;
    q->n_paid = 0;
    q->item.tenant = cog_queue_join(s->waiting, q->tenant);
    wait_in_queue(s, q);
}

void cog_scheduler_fork(cog_scheduler *s, cog_sched_seq *child, const cog_sched_seq *parent)
{
    assert(child->state == COG_SEQ_IDLE && parent->state == COG_SEQ_RUNNING);
    assert(child->n_tokens >= parent->n_computed);
    child->item.tenant = cog_queue_join(s->waiting, child->tenant);
    child->n_paid = parent->n_computed;
    cog_prefix_chain_copy(&child->chain, &parent->chain, parent->n_computed / s->kv.block);
    if (s->running.n == s->max_seqs) {
        child->item.was_preempted = true; /* others have read its first token already */
        wait_in_queue(s, child);
        return;
    }
    cog_kv_share(&s->kv, &child->table, &parent->table, parent->n_computed);
    child->n_computed = parent->n_computed;
    child->n_named = parent->n_named;
    run(s, child);
}

/* ------------------------------------------------------------------ the cache */

static bool uses_cache(const cog_scheduler *s, const cog_sched_seq *q)
{
    return q->chain.name && s->kv.index.n_pages > 0;
}

/* The page that ends the picture's prefix, when it is not full with it. */
static bool has_partial(const cog_scheduler *s, const cog_sched_seq *q)
{
    return q->n_visual % s->kv.block != 0;
}

static int32_t find_full(const cog_scheduler *s, cog_sched_seq *q, int i)
{
    return cog_prefix_find(&s->kv.index, COG_PREFIX_FULL, cog_prefix_full(&q->chain, i));
}

static int32_t find_partial(const cog_scheduler *s, cog_sched_seq *q)
{
    return cog_prefix_find(&s->kv.index, COG_PREFIX_PARTIAL, cog_prefix_partial(&q->chain));
}

/* So many tokens may be taken over: the last one is computed always, and so is what is shown. */
static int most_found(const cog_sched_seq *q)
{
    return q->shown_from < q->shown_to ? q->shown_from : q->n_tokens - 1;
}

/* What a sequence can take over. */
typedef struct match {
    int n_full;  /* pages to share */
    int n_idle;  /* of them, cached now */
    int32_t src; /* the next one, to be copied, or -1 */
    int n_slots; /* of it */
} match;

static match look_up(const cog_scheduler *s, cog_sched_seq *q)
{
    int block = s->kv.block, most = most_found(q), n;
    match f = { .src = -1 };
    int32_t page;

    if (!uses_cache(s, q))
        return f;
    for (; (f.n_full + 1) * block <= most; f.n_full++) {
        page = find_full(s, q, f.n_full);
        if (page < 0)
            break;
        f.n_idle += s->kv.refs[page] == 0;
    }
    n = f.n_full * block;
    if (n < most && n + block <= q->n_tokens) {
        f.src = find_full(s, q, f.n_full);
        f.n_slots = most - n;
    }
    if (f.src < 0 && has_partial(s, q) && q->n_visual / block == f.n_full) {
        f.n_slots = (q->n_visual < most ? q->n_visual : most) - n;
        f.src = f.n_slots > 0 ? find_partial(s, q) : -1;
    }
    return f;
}

/* The pages before one with a name have theirs, so the last one tells. */
static bool finds_picture(const cog_scheduler *s, cog_sched_seq *q)
{
    int block = s->kv.block, at = q->n_visual / block;

    if (!uses_cache(s, q) || most_found(q) < q->n_visual)
        return false;
    if (!has_partial(s, q))
        return find_full(s, q, at - 1) >= 0;
    return find_partial(s, q) >= 0 || ((at + 1) * block <= q->n_tokens && find_full(s, q, at) >= 0);
}

static bool needs_features(const cog_sched_seq *q)
{
    return q->picture && q->n_computed < q->n_visual;
}

/* Pages that were computed get their names. That of a picture's end is given again when the page
 * that had it went: whoever holds the picture's other pages holds the same slots. */
static void name_pages(cog_scheduler *s, cog_sched_seq *q)
{
    int n = q->n_computed / s->kv.block;

    if (!uses_cache(s, q))
        return;
    for (; q->n_named < n; q->n_named++)
        cog_kv_name(&s->kv, &q->table, q->n_named, COG_PREFIX_FULL,
                    cog_prefix_full(&q->chain, q->n_named));
    if (has_partial(s, q) && q->n_computed >= q->n_visual)
        cog_kv_name(&s->kv, &q->table, q->n_visual / s->kv.block, COG_PREFIX_PARTIAL,
                    cog_prefix_partial(&q->chain));
}

/* The pages of the picture, the first ones first. */
static void pin_picture(cog_scheduler *s, cog_sched_seq *q)
{
    int at = q->n_visual / s->kv.block;
    int32_t end;

    if (!q->pin || q->has_pinned || !uses_cache(s, q) || !q->picture || q->n_computed < q->n_visual)
        return;
    for (int i = 0; i < at; i++)
        cog_kv_pin(&s->kv, q->table.block[i], q->pin);
    end = has_partial(s, q) ? find_partial(s, q) : -1;
    if (end >= 0)
        cog_kv_pin(&s->kv, end, q->pin);
    q->has_pinned = true;
}

static void stop_leading(cog_scheduler *s, cog_sched_seq *q)
{
    if (!q->picture || q->picture->leader != q)
        return;
    q->picture->leader = NULL;
    s->n_led++;
}

/* The page of the picture's end is to go before its other pages, and after what others made of it.
 */
static void give_pages_back(cog_scheduler *s, cog_sched_seq *q)
{
    int at = q->n_visual / s->kv.block;

    if (uses_cache(s, q) && has_partial(s, q) && q->n_named >= at) {
        int32_t page = find_partial(s, q);
        if (q->table.n > at)
            cog_kv_release(&s->kv, &q->table, at);
        if (page >= 0)
            cog_kv_touch(&s->kv, page);
    }
    cog_kv_release(&s->kv, &q->table, 0);
    stop_leading(s, q);
    q->n_computed = q->n_named = q->n_rows = 0;
    q->has_pinned = false;
}

void cog_scheduler_remove(cog_scheduler *s, cog_sched_seq *q)
{
    if (q->state == COG_SEQ_IDLE)
        return;
    if (q->state == COG_SEQ_WAITING) {
        cog_queue_remove(s->waiting, &q->item);
        count_waiting(s, q, -1);
    } else {
        unlink_seq(&s->running, q);
    }
    q->state = COG_SEQ_IDLE;
    give_pages_back(s, q);
    cog_queue_leave(s->waiting, q->item.tenant);
}

void cog_scheduler_forget(cog_scheduler *s, cog_sched_seq *q)
{
    int32_t page = q->chain.has_partial ? find_partial(s, q) : -1;

    assert(q->state == COG_SEQ_IDLE);
    if (page >= 0)
        cog_kv_forget(&s->kv, page);
    for (int i = q->chain.n - 1; i >= 0; i--) {
        page = find_full(s, q, i);
        if (page >= 0)
            cog_kv_forget(&s->kv, page);
    }
}

static void preempt(cog_scheduler *s, cog_sched_seq *q)
{
    unlink_seq(&s->running, q);
    give_pages_back(s, q);
    q->item.was_preempted = true;
    wait_in_queue(s, q);
    s->n_preempted++;
}

/* ------------------------------------------------------------------ a plan */

static bool is_decode(const cog_sched_seq *q)
{
    return q->n_tokens - q->n_computed == 1;
}

void cog_scheduler_shown(const cog_sched_seq *q, int *from, int *to)
{
    int end = q->n_computed + q->n_rows;

    *from = q->shown_from > q->n_computed ? q->shown_from : q->n_computed;
    *to = q->shown_to < end ? q->shown_to : end;
}

/* Logits of the sequence's planned rows. */
static int count_logits(const cog_sched_seq *q)
{
    int from, to;

    cog_scheduler_shown(q, &from, &to);
    return (to > from ? to - from : 0) + (q->n_computed + q->n_rows == q->n_tokens);
}

/* Fewer than n where there is no room for their logits, perhaps none. */
static void give_rows(cog_plan *p, cog_sched_seq *q, int n)
{
    assert(!needs_features(q) || q->picture->ready);
    q->n_rows = n;
    while (q->n_rows > 0 && count_logits(q) > p->logits_left)
        q->n_rows--;
    if (q->n_rows == 0)
        return;
    p->logits_left -= count_logits(q);
    p->run[p->n_run++] = q;
    p->rows += q->n_rows;
}

static void add_copy(cog_plan *p, int32_t dst, int32_t src, int n_slots)
{
    p->copy[p->n_copies++] = (cog_page_copy){ .dst = dst, .src = src, .n_slots = n_slots };
}

/* A page for the next token of q, and that page its own. */
static int reserve_next(cog_scheduler *s, cog_sched_seq *q, cog_plan *p)
{
    int32_t dst, src;
    int rc = cog_kv_grow(&s->kv, &q->table, q->n_computed + 1);

    if (rc == 0)
        rc = cog_kv_own(&s->kv, &q->table, q->n_computed, &dst, &src);
    if (rc == 0 && src >= 0)
        add_copy(p, dst, src, q->n_computed % s->kv.block);
    return rc;
}

/* Decode rows, in the order of the running list. The victim when pages run out is always its last
 * sequence, which has no row in this plan yet: the ones that have stand before it. Returns false
 * when somebody was preempted. */
static bool plan_decode(cog_scheduler *s, cog_plan *p)
{
    uint64_t before = s->n_preempted;

    for (cog_sched_seq *q = s->running.head, *next; q; q = next) {
        bool mine = true;

        if (is_decode(q)) {
            while (mine && reserve_next(s, q, p) != 0) {
                mine = s->running.tail != q;
                preempt(s, s->running.tail);
            }
            if (mine)
                give_rows(p, q, 1);
        }
        next = mine ? q->next : NULL; /* q was the last one when it preempted itself */
    }
    p->decode_rows = p->rows;
    return s->n_preempted == before;
}

static void plan_prefill(cog_plan *p, cog_sched_seq *q)
{
    int left = q->n_tokens - q->n_computed;
    int n = left < p->prompt_left ? left : p->prompt_left;

    if (q->n_rows > 0 || n == 0)
        return;
    give_rows(p, q, n);
    p->prompt_left -= q->n_rows;
}

/* A sequence comes in with pages for all its tokens and the next one. False when they are not to be
 * had. */
static bool admit(cog_scheduler *s, cog_plan *p, cog_sched_seq *q)
{
    match f = look_up(s, q);
    int n_fresh = cog_kv_blocks_for(&s->kv, q->n_tokens + 1) - f.n_full;

    if (n_fresh > cog_kv_available(&s->kv) - f.n_idle)
        return false;
    for (int i = 0; i < f.n_full; i++)
        cog_kv_hold(&s->kv, &q->table, find_full(s, q, i));
    (void)cog_kv_grow(&s->kv, &q->table, q->n_tokens + 1);
    q->n_named = f.n_full;
    q->n_computed = f.n_full * s->kv.block + (f.src >= 0 ? f.n_slots : 0);
    /* the page to copy from may have become the one to copy to */
    if (f.src >= 0 && f.src != q->table.block[f.n_full])
        add_copy(p, q->table.block[f.n_full], f.src, f.n_slots);
    return true;
}

static void begin_to_run(cog_scheduler *s, cog_sched_seq *q)
{
    if (q->n_found < 0)
        q->n_found = q->n_computed;
    q->item.cost = q->n_tokens - q->n_computed;
    if (!q->item.was_preempted)
        q->n_paid = q->n_tokens;
    cog_queue_admit(s->waiting, &q->item);
    count_waiting(s, q, -1);
    if (uses_cache(s, q) && needs_features(q))
        q->picture->leader = q;
    run(s, q);
}

/* What it waits for is being made, and those behind it may pass: its picture's features, or the
 * whole prefix. */
static bool is_held(const cog_scheduler *s, cog_sched_seq *q)
{
    if (!q->picture)
        return false;
    if (q->picture->leader && uses_cache(s, q))
        return true;
    return !q->picture->ready && !finds_picture(s, q);
}

/* All that may change who is held and which pictures are missing; 0: not known. */
static uint64_t count_changes(const cog_scheduler *s)
{
    if (!s->picture_changes)
        return 0;
    return 1 + *s->picture_changes + s->n_queued + s->n_led + s->kv.index.n_changes;
}

static void plan_admission(cog_scheduler *s, cog_plan *p, uint64_t now_ns)
{
    cog_queue_cursor c;
    cog_queue_item *item;

    if (s->all_held_at && s->all_held_at == count_changes(s))
        return;
    cog_queue_begin(&c, s->waiting, now_ns);
    while (s->running.n < s->max_seqs) {
        cog_sched_seq *q;
        if (!(item = cog_queue_next(&c))) {
            s->all_held_at = count_changes(s);
            return;
        }
        q = (cog_sched_seq *)item;
        if (is_held(s, q))
            continue;
        s->has_backlog = p->prompt_left == 0;
        if (s->has_backlog || !admit(s, p, q))
            return;
        begin_to_run(s, q);
        plan_prefill(p, q);
    }
}

void cog_scheduler_plan(cog_scheduler *s, cog_plan *p, uint64_t now_ns, int max_prompt_rows)
{
    bool roomy;

    p->n_run = p->rows = p->n_copies = 0;
    p->logits_left = s->max_seqs;
    for (cog_sched_seq *q = s->running.head; q; q = q->next)
        q->n_rows = 0;
    roomy = plan_decode(s, p);
    p->prompt_left = s->step_tokens - p->rows;
    if (p->prompt_left > max_prompt_rows)
        p->prompt_left = max_prompt_rows;
    for (cog_sched_seq *q = s->running.head; q; q = q->next)
        plan_prefill(p, q);
    /* Not right after a preemption: who came in would take the pages that were just freed. */
    s->has_backlog = false;
    if (roomy)
        plan_admission(s, p, now_ns);
}

void cog_scheduler_commit(cog_scheduler *s, cog_plan *p)
{
    for (int i = 0; i < p->n_run; i++) {
        cog_sched_seq *q = p->run[i];

        q->n_computed += q->n_rows;
        q->n_rows = 0;
        if (q->shown_from < q->n_computed)
            q->shown_from = q->n_computed;
        if (q->n_computed > q->n_paid) {
            cog_queue_charge(s->waiting, q->item.tenant, q->n_computed - q->n_paid);
            q->n_paid = q->n_computed;
        }
        name_pages(s, q);
        pin_picture(s, q);
        if (!needs_features(q))
            stop_leading(s, q);
    }
    p->n_run = p->rows = p->n_copies = 0;
}

/* ------------------------------------------------------------------ what others ask */

void cog_scheduler_load(const cog_scheduler *s, int *n_streams, int *n_prompt_rows)
{
    *n_streams = 0;
    *n_prompt_rows = s->has_backlog ? s->step_tokens : 0;
    for (const cog_sched_seq *q = s->running.head; q; q = q->next) {
        if (is_decode(q))
            ++*n_streams;
        else
            *n_prompt_rows += q->n_tokens - q->n_computed;
    }
}

static bool is_among(cog_picture *const *out, int n, const cog_picture *picture)
{
    for (int i = 0; i < n; i++)
        if (out[i] == picture)
            return true;
    return false;
}

int cog_scheduler_pictures(cog_scheduler *s, uint64_t now_ns, cog_picture **out, int max)
{
    cog_queue_cursor c;
    cog_queue_item *item;
    int n = 0;

    s->n_walks++;
    if (s->n_pictured == 0 || (s->no_missing_at && s->no_missing_at == count_changes(s)))
        return 0;
    cog_queue_begin(&c, s->waiting, now_ns);
    while (n < max && (item = cog_queue_next(&c))) {
        cog_sched_seq *q = (cog_sched_seq *)item;
        cog_picture *p = q->picture;
        if (!p || p->in_pass || is_among(out, n, p) || finds_picture(s, q))
            continue;
        if (!p->ready)
            out[n++] = p;
        else if (n == 0)
            p->met = s->n_walks;
    }
    if (n == 0)
        s->no_missing_at = count_changes(s);
    return n;
}

bool cog_scheduler_needs_features(const cog_scheduler *s, cog_sched_seq *q)
{
    return q->picture && (q->state == COG_SEQ_RUNNING ? needs_features(q) : !finds_picture(s, q));
}

bool cog_scheduler_uses_features(const cog_scheduler *s, const cog_picture *picture)
{
    for (const cog_sched_seq *q = s->running.head; q; q = q->next)
        if (q->picture == picture && needs_features(q))
            return true;
    return false;
}
