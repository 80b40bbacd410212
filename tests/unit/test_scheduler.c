#include "tests/unit/unit.h"

#include "base/rng.h"
#include "engine/scheduler.h"

#include <string.h>

enum { BLOCK = 16 };

typedef struct fixture {
    cog_scheduler s;
    cog_plan p;
} fixture;

static void open_fixture(fixture *f, int n_blocks, int max_seqs, int step_tokens)
{
    cog_scheduler_init(&f->s, n_blocks, BLOCK, max_seqs, step_tokens);
    cog_plan_init(&f->p, max_seqs);
}

static void close_fixture(fixture *f)
{
    assert_int_equal(f->s.kv.n_free, f->s.kv.n_blocks);
    cog_plan_fini(&f->p);
    cog_scheduler_fini(&f->s);
}

static void init_seq(cog_sched_seq *q, uint64_t order, int n_tokens, int max_tokens)
{
    *q = (cog_sched_seq){ .order = order, .n_tokens = n_tokens };
    cog_block_table_init(&q->table, (max_tokens + BLOCK - 1) / BLOCK);
}

static void fini_seq(fixture *f, cog_sched_seq *q)
{
    cog_scheduler_remove(&f->s, q);
    cog_block_table_fini(&q->table);
}

/* One step: plan, compute, and a new token for every sequence whose known tokens are all computed.
 */
static void step(fixture *f)
{
    cog_sched_seq *run[64];
    int n;

    cog_scheduler_plan(&f->s, &f->p);
    n = f->p.n_run;
    memcpy(run, f->p.run, (size_t)n * sizeof(run[0]));
    cog_scheduler_commit(&f->p);
    for (int i = 0; i < n; i++)
        if (run[i]->n_computed == run[i]->n_tokens)
            run[i]->n_tokens++;
}

static void a_prompt_is_cut_into_chunks_and_then_decodes(void **state)
{
    cog_sched_seq q;
    fixture f;

    open_fixture(&f, 8, 2, 10);
    init_seq(&q, 0, 25, 40);
    cog_scheduler_add(&f.s, &q);
    step(&f);
    assert_int_equal(q.n_computed, 10);
    step(&f);
    assert_int_equal(q.n_computed, 20);
    step(&f);
    assert_int_equal(q.n_computed, 25);
    assert_int_equal(q.n_tokens, 26);
    step(&f);
    assert_int_equal(q.n_computed, 26);
    fini_seq(&f, &q);
    close_fixture(&f);
}

static void decode_rows_come_before_prefill_chunks(void **state)
{
    cog_sched_seq a, b;
    fixture f;

    open_fixture(&f, 16, 2, 8);
    init_seq(&a, 0, 4, 60);
    init_seq(&b, 1, 50, 60);
    cog_scheduler_add(&f.s, &a);
    step(&f);
    cog_scheduler_add(&f.s, &b);
    cog_scheduler_plan(&f.s, &f.p);
    assert_int_equal(f.p.n_run, 2);
    assert_ptr_equal(f.p.run[0], &a);
    assert_int_equal(a.n_rows, 1);
    assert_int_equal(b.n_rows, 7);
    fini_seq(&f, &a);
    fini_seq(&f, &b);
    close_fixture(&f);
}

static void admission_is_first_come_first_served(void **state)
{
    cog_sched_seq big, small;
    fixture f;

    /* The head of the queue does not fit yet; a small one behind it must not overtake it for ever.
     */
    open_fixture(&f, 4, 4, 64);
    cog_sched_seq running;
    init_seq(&running, 0, 30, 40);
    init_seq(&big, 1, 40, 50);
    init_seq(&small, 2, 4, 10);
    cog_scheduler_add(&f.s, &running);
    step(&f);
    cog_scheduler_add(&f.s, &small);
    cog_scheduler_add(&f.s, &big); /* inserted before small: its order is lower */
    step(&f);
    assert_int_equal(big.state, COG_SEQ_WAITING);
    assert_int_equal(small.state, COG_SEQ_WAITING);
    cog_scheduler_remove(&f.s, &running);
    step(&f);
    assert_int_equal(big.state, COG_SEQ_RUNNING);
    assert_int_equal(small.state, COG_SEQ_RUNNING);
    fini_seq(&f, &running);
    fini_seq(&f, &big);
    fini_seq(&f, &small);
    close_fixture(&f);
}

static void a_full_pool_preempts_the_youngest(void **state)
{
    cog_sched_seq a, b;
    fixture f;

    open_fixture(&f, 4, 2, 64);
    init_seq(&a, 0, 30, 64);
    init_seq(&b, 1, 30, 64);
    cog_scheduler_add(&f.s, &a);
    cog_scheduler_add(&f.s, &b);
    step(&f); /* two pages each: the pool is full */
    step(&f);
    step(&f);
    step(&f); /* both need slot 32 now */
    assert_int_equal(f.s.n_preempted, 1);
    assert_int_equal(a.state, COG_SEQ_RUNNING);
    assert_int_equal(b.state, COG_SEQ_WAITING);
    assert_int_equal(b.table.n, 0);
    assert_int_equal(b.n_computed, 0);
    assert_int_equal(b.n_tokens, 33); /* its answer so far is kept */
    cog_scheduler_remove(&f.s, &a);
    step(&f);
    assert_int_equal(b.state, COG_SEQ_RUNNING);
    assert_int_equal(b.n_computed, 33);
    fini_seq(&f, &a);
    fini_seq(&f, &b);
    close_fixture(&f);
}

static void a_fork_shares_pages_and_copies_the_partial_one(void **state)
{
    cog_sched_seq a, b;
    fixture f;

    open_fixture(&f, 8, 2, 64);
    init_seq(&a, 0, 20, 40);
    init_seq(&b, 0, 20, 40);
    cog_scheduler_add(&f.s, &a);
    step(&f);
    b.n_tokens = 21;
    cog_scheduler_fork(&f.s, &b, &a);
    assert_int_equal(b.state, COG_SEQ_RUNNING);
    assert_int_equal(b.n_computed, 20);
    cog_scheduler_plan(&f.s, &f.p);
    assert_int_equal(f.p.rows, 2);
    assert_int_equal(f.p.n_copies, 1);
    assert_int_equal(f.p.copy[0].n_slots, 20 % BLOCK);
    assert_int_equal(a.table.block[0], b.table.block[0]);
    assert_int_not_equal(a.table.block[1], b.table.block[1]);
    fini_seq(&f, &a);
    fini_seq(&f, &b);
    close_fixture(&f);
}

static void a_fork_without_room_waits_and_computes_again(void **state)
{
    cog_sched_seq a, b;
    fixture f;

    open_fixture(&f, 8, 1, 64);
    init_seq(&a, 0, 20, 40);
    init_seq(&b, 0, 20, 40);
    cog_scheduler_add(&f.s, &a);
    step(&f);
    b.n_tokens = 21;
    cog_scheduler_fork(&f.s, &b, &a);
    assert_int_equal(b.state, COG_SEQ_WAITING);
    cog_scheduler_remove(&f.s, &a);
    step(&f);
    assert_int_equal(b.n_computed, 21);
    fini_seq(&f, &a);
    fini_seq(&f, &b);
    close_fixture(&f);
}

static void rows_wait_for_their_picture(void **state)
{
    cog_picture picture = { 0 }, *out[4];
    cog_sched_seq q, r;
    fixture f;

    open_fixture(&f, 16, 1, 64);
    init_seq(&q, 0, 20, 40);
    init_seq(&r, 1, 20, 40);
    q.picture = r.picture = &picture; /* two requests, one picture */
    cog_scheduler_add(&f.s, &q);
    cog_scheduler_add(&f.s, &r);
    cog_scheduler_plan(&f.s, &f.p);
    assert_int_equal(f.p.rows, 0);
    assert_int_equal(q.state, COG_SEQ_RUNNING); /* its pages are reserved */
    assert_int_equal(cog_scheduler_pictures(&f.s, out, 4, 4), 1);
    assert_ptr_equal(out[0], &picture);
    picture.in_pass = true;
    assert_int_equal(cog_scheduler_pictures(&f.s, out, 4, 4), 0);
    picture.ready = true;
    cog_scheduler_plan(&f.s, &f.p);
    assert_int_equal(q.n_rows, 20);
    fini_seq(&f, &q);
    fini_seq(&f, &r);
    close_fixture(&f);
}

static void pictures_of_waiting_requests_are_limited(void **state)
{
    cog_picture picture[4] = { { 0 } }, *out[4];
    cog_sched_seq q[4];
    fixture f;

    open_fixture(&f, 16, 1, 64);
    for (int i = 0; i < 4; i++) {
        init_seq(&q[i], (uint64_t)i, 20, 40);
        q[i].picture = &picture[i];
        cog_scheduler_add(&f.s, &q[i]);
    }
    cog_scheduler_plan(&f.s, &f.p);
    assert_int_equal(cog_scheduler_pictures(&f.s, out, 4, 0), 1);
    assert_int_equal(cog_scheduler_pictures(&f.s, out, 4, 2), 3);
    assert_int_equal(cog_scheduler_pictures(&f.s, out, 2, 4), 2);
    for (int i = 0; i < 4; i++)
        fini_seq(&f, &q[i]);
    close_fixture(&f);
}

/* ---- random operations ---- */

enum { SEQS = 40 };

typedef struct world {
    fixture f;
    cog_rng rng;
    cog_sched_seq q[SEQS];
    int limit[SEQS]; /* tokens at which it ends */
    bool live[SEQS];
    cog_picture picture[4];
    uint64_t next_order, finished;
} world;

static void check_world(world *w)
{
    int held[256] = { 0 }, running = 0, waiting = 0;

    for (int i = 0; i < SEQS; i++) {
        cog_sched_seq *q = &w->q[i];
        if (!w->live[i])
            continue;
        running += q->state == COG_SEQ_RUNNING;
        waiting += q->state == COG_SEQ_WAITING;
        if (q->state == COG_SEQ_WAITING)
            assert_int_equal(q->table.n, 0);
        assert_true(q->n_computed <= q->n_tokens);
        assert_true(q->table.n * BLOCK >= q->n_computed + q->n_rows);
        for (int k = 0; k < q->table.n; k++)
            held[q->table.block[k]]++;
    }
    assert_int_equal(running, w->f.s.running.n);
    assert_int_equal(waiting, w->f.s.waiting.n);
    assert_true(running <= w->f.s.max_seqs);
    for (int i = 0; i < w->f.s.kv.n_blocks; i++)
        assert_int_equal(w->f.s.kv.refs[i], held[i]);
    assert_true(cog_kv_is_sound(&w->f.s.kv));
    for (cog_sched_list *l = &w->f.s.waiting; l; l = l == &w->f.s.waiting ? &w->f.s.running : NULL)
        for (cog_sched_seq *q = l->head; q && q->next; q = q->next)
            assert_true(q->order <= q->next->order);
}

/* What the planned rows write: each (page, slot) is written by one row only, and a written page is
 * held by one. */
static void check_writes(world *w)
{
    cog_plan *p = &w->f.p;
    int rows = 0;

    for (int i = 0; i < p->n_run; i++) {
        cog_sched_seq *q = p->run[i];
        assert_int_equal(q->state, COG_SEQ_RUNNING);
        assert_true(q->n_rows > 0);
        assert_true(!q->picture || q->picture->ready);
        for (int slot = q->n_computed; slot < q->n_computed + q->n_rows; slot++)
            assert_int_equal(w->f.s.kv.refs[q->table.block[slot / BLOCK]], 1);
        rows += q->n_rows;
        if (i > 0 && q->n_tokens - q->n_computed == 1 &&
            p->run[i - 1]->n_tokens - p->run[i - 1]->n_computed > 1)
            assert_int_equal(q->n_rows, 1); /* a one-token prompt may stand among the chunks */
    }
    assert_int_equal(rows, p->rows);
    assert_true(rows <= w->f.s.step_tokens);
}

static void arrive(world *w)
{
    int i = (int)cog_rng_below(&w->rng, SEQS);
    int prompt = 1 + (int)cog_rng_below(&w->rng, 60);
    int more = 1 + (int)cog_rng_below(&w->rng, 40);

    if (w->live[i])
        return;
    init_seq(&w->q[i], w->next_order++, prompt, prompt + more);
    if (cog_rng_below(&w->rng, 2))
        w->q[i].picture = &w->picture[cog_rng_below(&w->rng, 4)];
    w->limit[i] = prompt + more;
    w->live[i] = true;
    cog_scheduler_add(&w->f.s, &w->q[i]);
}

static void leave(world *w, int i)
{
    fini_seq(&w->f, &w->q[i]);
    w->live[i] = false;
}

static void fork_one(world *w, cog_sched_seq *parent)
{
    int of = (int)(parent - w->q);

    for (int i = 0; i < SEQS; i++) {
        if (w->live[i])
            continue;
        init_seq(&w->q[i], parent->order, parent->n_tokens, w->limit[of]);
        w->q[i].picture = parent->picture;
        w->limit[i] = w->limit[of];
        w->live[i] = true;
        cog_scheduler_fork(&w->f.s, &w->q[i], parent);
        return;
    }
}

/* Returns the rows computed. */
static int run_step(world *w)
{
    cog_sched_seq *run[SEQS];
    int n, rows;

    cog_scheduler_plan(&w->f.s, &w->f.p);
    check_world(w);
    check_writes(w);
    n = w->f.p.n_run;
    rows = w->f.p.rows;
    memcpy(run, w->f.p.run, (size_t)n * sizeof(run[0]));
    cog_scheduler_commit(&w->f.p);
    for (int i = 0; i < n; i++) {
        int at = (int)(run[i] - w->q);
        if (run[i]->n_computed < run[i]->n_tokens)
            continue;
        run[i]->n_tokens++;
        if (run[i]->n_tokens < w->limit[at] && cog_rng_below(&w->rng, 8) == 0)
            fork_one(w, run[i]);
        if (run[i]->n_tokens == w->limit[at]) {
            leave(w, at);
            w->finished++;
        }
    }
    return rows;
}

static void random_operations(uint64_t seed, int n_blocks, int max_seqs, int step_tokens)
{
    static world w;
    int idle = 0;

    memset(&w, 0, sizeof(w));
    w.rng.key = seed;
    open_fixture(&w.f, n_blocks, max_seqs, step_tokens);
    for (int step_no = 0; step_no < 6000; step_no++) {
        uint64_t dice = cog_rng_below(&w.rng, 10);
        if (dice < 3)
            arrive(&w);
        else if (dice == 3) {
            int i = (int)cog_rng_below(&w.rng, SEQS);
            if (w.live[i] && cog_rng_below(&w.rng, 4) == 0)
                leave(&w, i); /* cancelled */
        } else if (dice == 4)
            w.picture[cog_rng_below(&w.rng, 4)].ready = cog_rng_below(&w.rng, 4) != 0;
        else
            run_step(&w);
        check_world(&w);
    }
    /* Nobody starves: without arrivals everything ends, and every step makes progress. */
    for (int i = 0; i < 4; i++)
        w.picture[i].ready = true;
    while (w.f.s.running.n + w.f.s.waiting.n > 0) {
        idle = run_step(&w) == 0 ? idle + 1 : 0;
        assert_true(idle < 2); /* a step may only preempt; the next one computes */
    }
    assert_true(w.finished > 100);
    close_fixture(&w.f);
}

static void random_operations_with_room(void **state)
{
    random_operations(1, 200, 8, 64);
}

static void random_operations_in_a_tight_pool(void **state)
{
    random_operations(2, 7, 6, 16); /* exactly one largest sequence fits */
}

static void random_operations_one_row_at_a_time(void **state)
{
    random_operations(3, 12, 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_cut_into_chunks_and_then_decodes),
        cmocka_unit_test(decode_rows_come_before_prefill_chunks),
        cmocka_unit_test(admission_is_first_come_first_served),
        cmocka_unit_test(a_full_pool_preempts_the_youngest),
        cmocka_unit_test(a_fork_shares_pages_and_copies_the_partial_one),
        cmocka_unit_test(a_fork_without_room_waits_and_computes_again),
        cmocka_unit_test(rows_wait_for_their_picture),
        cmocka_unit_test(pictures_of_waiting_requests_are_limited),
        cmocka_unit_test(random_operations_with_room),
        cmocka_unit_test(random_operations_in_a_tight_pool),
        cmocka_unit_test(random_operations_one_row_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
