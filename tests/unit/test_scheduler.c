#include "tests/unit/sched_fixture.h"

#include <string.h>

/* One step: plan, compute, and a new token for every sequence whose known tokens are all computed.
 */
static void step(fixture *f)
{
    cog_sched_seq *run[64];
    int n;

    plan(f);
    n = f->p.n_run;
    memcpy(run, f->p.run, (size_t)n * sizeof(run[0]));
    cog_scheduler_commit(&f->s, &f->p);
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
    plan(&f);
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
    plan(&f);
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

static void the_largest_number_gives_way_first(void **state)
{
    cog_sched_seq a, b, c;
    fixture f;

    open_fixture(&f, 6, 3, 64);
    init_seq(&a, 0, 30, 64);
    init_seq(&b, 1, 30, 64);
    init_seq(&c, 2, 30, 64);
    a.item.priority = b.item.priority = 3;
    cog_scheduler_add(&f.s, &a);
    cog_scheduler_add(&f.s, &b);
    cog_scheduler_add(&f.s, &c);
    for (int i = 0; i < 4; i++)
        step(&f); /* all need a third page now, and there is none */
    assert_int_equal(a.state, COG_SEQ_RUNNING);
    assert_int_equal(b.state, COG_SEQ_WAITING); /* the younger of the two that are less urgent */
    assert_int_equal(c.state, COG_SEQ_RUNNING);
    assert_ptr_equal(f.s.running.head, &c);
    fini_seq(&f, &a);
    fini_seq(&f, &b);
    fini_seq(&f, &c);
    close_fixture(&f);
}

static void prompts_get_the_rows_they_are_given(void **state)
{
    int n_streams, n_prompt;
    cog_sched_seq a, b, c;
    fixture f;

    open_fixture(&f, 16, 3, 64);
    init_seq(&a, 0, 4, 60);
    init_seq(&b, 1, 50, 60);
    init_seq(&c, 2, 8, 60);
    cog_scheduler_add(&f.s, &a);
    step(&f);
    cog_scheduler_add(&f.s, &b);
    cog_scheduler_add(&f.s, &c);
    cog_scheduler_plan(&f.s, &f.p, 0, 7);
    assert_int_equal(f.p.decode_rows, 1);
    assert_int_equal(f.p.rows, 8);
    assert_int_equal(c.state, COG_SEQ_WAITING);
    assert_true(f.s.has_backlog);
    cog_scheduler_commit(&f.s, &f.p);
    a.n_tokens++;
    cog_scheduler_load(&f.s, &n_streams, &n_prompt);
    assert_int_equal(n_streams, 1);
    assert_int_equal(n_prompt, 43 + 64);
    cog_scheduler_plan(&f.s, &f.p, 0, 0);
    assert_int_equal(f.p.rows, 1);
    cog_scheduler_commit(&f.s, &f.p);
    a.n_tokens++;
    cog_scheduler_plan(&f.s, &f.p, 0, 50);
    assert_int_equal(c.n_rows, 7);
    assert_false(f.s.has_backlog);
    fini_seq(&f, &a);
    fini_seq(&f, &b);
    fini_seq(&f, &c);
    close_fixture(&f);
}

static void a_tenant_pays_for_its_answers_too(void **state)
{
    cog_sched_seq a, b, c;
    fixture f;

    open_fixture(&f, 16, 1, 64);
    init_seq(&a, 0, 10, 80);
    init_seq(&b, 1, 10, 80);
    init_seq(&c, 2, 30, 80);
    c.tenant = 1;
    cog_scheduler_add(&f.s, &a);
    step(&f);
    cog_scheduler_add(&f.s, &b);
    cog_scheduler_add(&f.s, &c);
    for (int i = 0; i < 50; i++)
        step(&f);
    assert_int_equal(a.n_computed, 60);
    fini_seq(&f, &a);
    step(&f);
    assert_int_equal(b.state, COG_SEQ_WAITING); /* it came first, but its tenant has had 60 rows */
    assert_int_equal(c.state, COG_SEQ_RUNNING);
    fini_seq(&f, &b);
    fini_seq(&f, &c);
    close_fixture(&f);
}

static void who_waits_for_a_picture_is_passed(void **state)
{
    cog_picture picture = { 0 }, *out[4];
    cog_sched_seq q, r, text;
    fixture f;

    open_fixture(&f, 16, 3, 128);
    init_seq(&q, 0, 30, 40);
    init_seq(&r, 1, 30, 40);
    init_seq(&text, 2, 20, 40);
    q.picture = r.picture = &picture; /* two requests, one picture */
    q.n_visual = r.n_visual = N_VISUAL;
    cog_scheduler_add(&f.s, &q);
    cog_scheduler_add(&f.s, &r);
    cog_scheduler_add(&f.s, &text);
    plan(&f);
    assert_int_equal(f.p.rows, 20);
    assert_int_equal(q.state, COG_SEQ_WAITING);
    assert_int_equal(text.state, COG_SEQ_RUNNING);
    assert_int_equal(cog_scheduler_pictures(&f.s, 0, out, 4), 1);
    assert_ptr_equal(out[0], &picture);
    picture.in_pass = true;
    assert_int_equal(cog_scheduler_pictures(&f.s, 0, out, 4), 0);
    picture.ready = true;
    plan(&f);
    assert_int_equal(q.n_rows, 30);
    assert_true(cog_scheduler_uses_features(&f.s, &picture));
    cog_scheduler_commit(&f.s, &f.p);
    assert_false(cog_scheduler_uses_features(&f.s, &picture));
    fini_seq(&f, &q);
    fini_seq(&f, &r);
    fini_seq(&f, &text);
    close_fixture(&f);
}

static void pictures_come_in_the_order_of_the_queue(void **state)
{
    cog_picture picture[4] = { { 0 } }, *out[4];
    cog_sched_seq q[4];
    fixture f;

    open_fixture(&f, 16, 1, 64);
    for (int i = 0; i < 4; i++) {
        init_seq(&q[i], (uint64_t)i, 30, 40);
        q[i].picture = &picture[i];
        q[i].n_visual = N_VISUAL;
        q[i].item.priority = i == 3 ? -1 : 0;
        cog_scheduler_add(&f.s, &q[i]);
    }
    assert_int_equal(cog_scheduler_pictures(&f.s, 0, out, 4), 4);
    assert_ptr_equal(out[0], &picture[3]);
    assert_ptr_equal(out[1], &picture[0]);
    assert_int_equal(cog_scheduler_pictures(&f.s, 0, out, 2), 2);
    for (int i = 0; i < 4; i++)
        fini_seq(&f, &q[i]);
    close_fixture(&f);
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
        cmocka_unit_test(the_largest_number_gives_way_first),
        cmocka_unit_test(prompts_get_the_rows_they_are_given),
        cmocka_unit_test(a_tenant_pays_for_its_answers_too),
        cmocka_unit_test(who_waits_for_a_picture_is_passed),
        cmocka_unit_test(pictures_come_in_the_order_of_the_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
