#include "tests/unit/unit.h"

#include "base/rng.h"
#include "engine/pace.h"

#include <math.h>
#include <stdbool.h>

#define MS 1000000.0

enum { MAX_ROWS = 4096, MAX_STREAMS = 64 };

/* A made-up machine: what its steps take, in milliseconds. */
typedef struct machine {
    double fixed, stream, prompt_fixed, prompt_row;
    double slow;  /* a factor on everything */
    double noise; /* up to so much more */
    int one_in;   /* steps that something else holds up for ten times as long; 0: none */
    int kink_at;  /* from so many prompt rows on, another path with a higher fixed cost */
    double kink_ms;
    cog_rng rng;
    cog_pace *p;
    int rows;     /* what run() saw */
    int without;  /* steps without prompt rows */
    int over;     /* steps of more than the smallest piece that took longer than the bound */
    double worst; /* time of a step, slice included, over what is allowed */
    int in_a_row, most_in_a_row; /* steps without prompt rows though there are prompts */
} machine;

static double alone_ms(const machine *m, int n)
{
    return (m->fixed + m->stream * n) * m->slow;
}

static double mixed_ms(const machine *m, int n, int rows)
{
    double more = rows ? m->prompt_fixed + m->prompt_row * rows : 0;

    return alone_ms(m, n) + (more + (m->kink_at && rows >= m->kink_at ? m->kink_ms : 0)) * m->slow;
}

/* Twice what the streams alone take; or as much as the prompts' fixed cost again, for up to twice
 * the room. */
static double allowed_ms(const machine *m, int n)
{
    double alone = alone_ms(m, n);

    return alone + fmax(alone, fmin(2 * m->prompt_fixed * m->slow, 2 * 0.85 * alone));
}

static machine open_machine(double fixed, double stream, double prompt_fixed, double prompt_row)
{
    machine m = { .fixed = fixed, .stream = stream, .prompt_fixed = prompt_fixed };

    m.prompt_row = prompt_row;
    m.slow = 1;
    m.rng.key = 3;
    m.p = cog_pace_new(2, MAX_ROWS, MAX_STREAMS);
    return m;
}

static void forget(machine *m)
{
    m->rows = m->without = m->over = m->most_in_a_row = m->in_a_row = 0;
    m->worst = 0;
}

/* One step of n streams with endless prompts, after a slice of slice_ms. Returns its rows. */
static int step(machine *m, int n, double slice_ms)
{
    int rows = cog_pace_rows(m->p, n, (uint64_t)(slice_ms * MS));
    double ms = mixed_ms(m, n, rows) * (1 + m->noise * cog_rng_unit(cog_rng_next(&m->rng)));
    double over = (mixed_ms(m, n, rows) + slice_ms) / allowed_ms(m, n);

    assert_true(rows == 0 || rows >= COG_PACE_MIN_ROWS);
    assert_true(n + rows <= MAX_ROWS);
    if (m->one_in && cog_rng_below(&m->rng, (uint64_t)m->one_in) == 0)
        ms *= 10;
    cog_pace_observe(m->p, n, rows, (uint64_t)(ms * MS));
    m->rows += rows;
    m->without += rows == 0;
    m->over += rows > COG_PACE_MIN_ROWS && over > 1;
    m->in_a_row = rows ? 0 : m->in_a_row + 1;
    if (m->in_a_row > m->most_in_a_row)
        m->most_in_a_row = m->in_a_row;
    if (rows > COG_PACE_MIN_ROWS && over > m->worst)
        m->worst = over;
    return rows;
}

static void run(machine *m, int n, int steps)
{
    while (steps-- > 0)
        step(m, n, 0);
}

/* Rows that a step of n streams should have: its room is not used to the last. */
static double ideal(const machine *m, int n)
{
    return (0.8 * alone_ms(m, n) / m->slow - m->prompt_fixed) / m->prompt_row;
}

static void without_streams_there_is_no_bound(void **state)
{
    machine m = open_machine(1, 0, 0, 1);

    assert_int_equal(cog_pace_rows(m.p, 0, 0), MAX_ROWS);
    assert_int_equal(cog_pace_rows(m.p, 0, 12345), MAX_ROWS);
    assert_true(cog_pace_vision_ns(m.p, 0, 10) == UINT64_MAX);
    cog_pace_observe(m.p, 0, 100, 1);
    assert_int_equal(cog_pace_rows(m.p, 0, 0), MAX_ROWS);
    cog_pace_free(m.p);
}

/* Nothing is known: the smallest pieces, then streams alone, and in a few steps what there is room
 * for. At no time more than the bound. */
static void the_first_steps_feel_their_way(void **state)
{
    machine m = open_machine(20, 0.1, 1, 0.05);

    assert_int_equal(cog_pace_rows(m.p, 4, 0), COG_PACE_MIN_ROWS);
    assert_int_equal(cog_pace_vision_ns(m.p, 4, 0), 1);
    run(&m, 4, 20);
    assert_true(step(&m, 4, 0) >= 0.85 * ideal(&m, 4));
    assert_true(m.worst <= 1);
    cog_pace_free(m.p);
}

static void steps_stay_within_the_bound_and_use_it(void **state)
{
    static const double machines[][4] = {
        { 20, 0.1, 1, 0.05 },    /* streams are bound by reading the weights */
        { 0.2, 0.3, 0.1, 0.08 }, /* a small model: each row counts */
        { 5, 0, 4, 0.01 },       /* reading the other expert costs nearly as much as the streams */
        { 600, 20, 0, 3 },
    };

    for (int i = 0; i < 4; i++) {
        machine m = open_machine(machines[i][0], machines[i][1], machines[i][2], machines[i][3]);
        m.noise = 0.03;
        for (int n = 1; n <= 32; n *= 2) {
            run(&m, n, 100);
            forget(&m);
            run(&m, n, 1000);
            assert_true(m.worst <= 1.05);
            assert_true(m.most_in_a_row <= 1);
            if (ideal(&m, n) > COG_PACE_MIN_ROWS)
                assert_true(m.rows / 1000.0 >= 0.85 * ideal(&m, n));
            else
                assert_true(m.rows / 1000.0 >= 0.9 * COG_PACE_MIN_ROWS);
        }
        cog_pace_free(m.p);
    }
}

/* The fixed cost is nine tenths of the room: by their price sixteen rows leave room for one more,
 * and ninety cost hardly more. And as many are worth having as cost no more than the fixed cost,
 * for up to twice the room: otherwise prompts would spend most of their time on nothing. */
static void small_chunks_that_look_dear_do_not_stay_small(void **state)
{
    static const double machines[2][4] = { { 10, 0, 8, 0.005 }, { 4.4, 0, 3, 0.017 } };
    static const int least[2] = { 1000, 110 };

    for (int i = 0; i < 2; i++) {
        machine m = open_machine(machines[i][0], machines[i][1], machines[i][2], machines[i][3]);
        m.noise = 0.03;
        run(&m, 4, 200);
        forget(&m);
        run(&m, 4, 1000);
        assert_true(m.worst <= 1.05);
        assert_true(m.rows / 1000 >= least[i]);
        cog_pace_free(m.p);
    }
}

/* Not even the smallest piece fits: it runs all the same. */
static void the_smallest_piece_always_runs(void **state)
{
    machine m = open_machine(1, 0, 3, 0.5);

    run(&m, 2, 1000);
    assert_true(m.rows >= 900 * COG_PACE_MIN_ROWS);
    assert_true(m.rows <= 1000 * COG_PACE_MIN_ROWS);
    assert_int_equal(m.most_in_a_row, 1);
    cog_pace_free(m.p);
}

static void steps_held_up_by_something_else_change_little(void **state)
{
    machine m = open_machine(20, 0.1, 1, 0.05);

    m.one_in = 25;
    m.noise = 0.1;
    run(&m, 8, 100);
    forget(&m);
    run(&m, 8, 3000);
    assert_true(m.worst <= 1.025);
    assert_true(m.without <= 3000 / 100);
    assert_true(m.rows / 3000.0 >= 0.7 * ideal(&m, 8));
    cog_pace_free(m.p);
}

/* A slower machine is slower in both, so rows stay; and so they do when it is quick again, within
 * the bound of the machine that it then is. */
static void a_slow_phase_passes(void **state)
{
    machine m = open_machine(20, 0.1, 1, 0.05);

    run(&m, 8, 200);
    for (int turn = 0; turn < 3; turn++) {
        for (int slow = 4; slow >= 1; slow -= 3) {
            m.slow = slow;
            run(&m, 8, 12);
            forget(&m);
            run(&m, 8, 400);
            assert_true(m.worst <= 1);
            assert_true(m.rows / 400.0 >= 0.85 * ideal(&m, 8));
        }
    }
    cog_pace_free(m.p);
}

/* On the way from slow to quick the old room is too much for a while, but not for long, whenever
 * the streams' own time was measured last. */
static void a_quicker_machine_is_noticed(void **state)
{
    for (int phase = 0; phase < 256; phase += 30) {
        machine m = open_machine(20, 0.1, 1, 0.05);
        m.slow = 4;
        run(&m, 8, 1000 + phase);
        m.slow = 1;
        run(&m, 8, 14);
        forget(&m);
        run(&m, 8, 300);
        assert_true(m.worst <= 1);
        cog_pace_free(m.p);
    }
}

/* A change too small to be one shows when the streams' own time is measured the next time. */
static void small_changes_are_noticed(void **state)
{
    machine m = open_machine(20, 0.1, 1, 0.05);

    m.fixed *= 1.2;
    run(&m, 8, 500);
    m.fixed /= 1.2;
    run(&m, 8, 260);
    forget(&m);
    run(&m, 8, 200);
    assert_true(m.worst <= 1);
    cog_pace_free(m.p);
}

static void a_first_step_that_was_held_up_is_corrected(void **state)
{
    machine m = open_machine(20, 0.1, 1, 0.05);

    cog_pace_observe(m.p, 8, 0, (uint64_t)(200 * MS));
    run(&m, 8, 50);
    assert_true(m.worst <= 1);
    cog_pace_free(m.p);
}

static double room_ms(const machine *m, int n)
{
    return (double)cog_pace_vision_ns(m->p, n, 0) / MS;
}

static void unseen_numbers_of_streams_get_a_cautious_guess(void **state)
{
    machine m = open_machine(0, 1, 0, 1);
    double four;

    for (int i = 0; i < 10; i++)
        cog_pace_observe(m.p, 4, 0, (uint64_t)(40 * MS));
    four = room_ms(&m, 4);
    assert_true(four >= 0.8 * 40 && four <= 40);
    assert_float_equal(room_ms(&m, 32), four, 0.001);
    assert_float_equal(room_ms(&m, 1), four / 4, 0.001);
    for (int i = 0; i < 10; i++)
        cog_pace_observe(m.p, 8, 0, (uint64_t)(80 * MS));
    assert_float_equal(room_ms(&m, 6), four * 1.5, 0.001);
    cog_pace_free(m.p);
}

/* Numbers of streams that were never seen alone. */
static void streams_come_and_go(void **state)
{
    machine m = open_machine(0.2, 0.3, 0.1, 0.02);
    double expected = 0;
    int n = 1;

    m.noise = 0.05;
    for (int i = 0; i < 5000; i++) {
        n += (int)cog_rng_below(&m.rng, 3) - 1;
        n = n < 1 ? 1 : n > MAX_STREAMS ? MAX_STREAMS : n;
        if (cog_rng_below(&m.rng, 100) == 0)
            n = 1 + (int)cog_rng_below(&m.rng, MAX_STREAMS);
        step(&m, n, 0);
        expected += ideal(&m, n);
    }
    assert_true(m.worst <= 2.1);
    assert_true(m.most_in_a_row <= 1);
    assert_true(m.rows >= 0.5 * expected);
    cog_pace_free(m.p);
}

/* Many rows take another path through the machine, which costs more at once. */
static void a_kink_is_found_and_kept_below(void **state)
{
    machine m = open_machine(20, 0.1, 1, 0.05);

    m.kink_at = 100;
    m.kink_ms = 30;
    run(&m, 8, 100);
    forget(&m);
    run(&m, 8, 2000);
    assert_true(m.rows / 2000 >= 80);
    /* it is tried again and again, for the machine may have changed */
    int over = 0;
    for (int i = 0; i < 2000; i++)
        over += step(&m, 8, 0) >= 100;
    assert_true(over <= 2000 / 50);
    m.kink_at = 0;
    run(&m, 8, 500);
    assert_true(step(&m, 8, 0) >= 0.8 * ideal(&m, 8));
    cog_pace_free(m.p);
}

/* Also by those that would be worth their fixed cost. */
static void a_kink_limits_what_is_worth_its_cost(void **state)
{
    machine m = open_machine(10, 0, 8, 0.02);
    int over = 0;

    m.kink_at = 300;
    m.kink_ms = 20;
    run(&m, 8, 200);
    for (int i = 0; i < 2000; i++)
        over += step(&m, 8, 0) >= 300;
    assert_true(over <= 2000 / 20);
    cog_pace_free(m.p);
}

/* Rows of pictures and rows of text cost differently; the dearer decide, and turns of a few steps
 * are no change of the machine. */
static void the_dearer_rows_decide(void **state)
{
    for (int dearer = 4; dearer <= 10; dearer += 6) {
        machine m = open_machine(20, 0.1, 0, 0.05);
        for (int i = 0; i < 3000; i++) {
            m.prompt_fixed = i / 5 % 2 ? dearer : 0;
            if (i == 300)
                forget(&m);
            step(&m, 8, 0);
        }
        assert_true(m.over <= 2700 / 50); /* more rows were tried while they were cheap */
        assert_true(m.worst <= 1.3);
        assert_true(m.without <= 2700 / 50);
        m.prompt_fixed = dearer;
        assert_true(m.rows / 2700.0 >= 0.85 * ideal(&m, 8));
        cog_pace_free(m.p);
    }
}

typedef struct turns {
    int slices, prompts, both;
    double worst;
} turns;

/* A processor that does one thing after the other, with endless pictures and prompts. piece_ms:
 * the smallest slice. */
static turns take_turns(machine *m, int n, double piece_ms, int steps)
{
    turns t = { 0 };

    for (int i = 0; i < steps; i++) {
        uint64_t room = cog_pace_vision_ns(m->p, n, 1000);
        double slice = 0;
        int rows;
        if (room > 0) {
            int pieces = (int)((double)room / MS / piece_ms);
            slice = piece_ms * (pieces < 1 ? 1 : pieces);
        }
        rows = step(m, n, slice);
        t.slices += slice > 0;
        t.prompts += rows > 0;
        t.both += slice > 0 && rows > 0;
        t.worst = fmax(t.worst, (mixed_ms(m, n, rows) + slice) / allowed_ms(m, n));
    }
    return t;
}

static void pictures_and_prompts_take_turns(void **state)
{
    machine m = open_machine(20, 0.1, 4, 0.05);
    turns t;

    take_turns(&m, 8, 2, 100);
    forget(&m);
    t = take_turns(&m, 8, 2, 1000);
    assert_true(t.worst <= 1);
    assert_true(t.slices >= 450 && t.prompts >= 450);
    assert_true(m.most_in_a_row <= 1);
    assert_true(m.rows / 1000.0 >= 0.4 * ideal(&m, 8));
    cog_pace_free(m.p);
}

/* Pieces larger than all the room there is: never two of them for one token. */
static void large_pieces_take_turns_too(void **state)
{
    machine m = open_machine(1, 0, 2, 0.1);
    turns t;

    take_turns(&m, 2, 5, 100);
    t = take_turns(&m, 2, 5, 1000);
    assert_int_equal(t.both, 0);
    assert_true(t.slices >= 450 && t.prompts >= 450);
    cog_pace_free(m.p);
}

/* A device with a lane for pictures, whose slice is never through: rows of prompts all the same. */
static void prompts_have_turns_beside_an_endless_slice(void **state)
{
    machine m = open_machine(20, 0.1, 4, 0.05);

    run(&m, 8, 100);
    forget(&m);
    for (int i = 0; i < 100; i++)
        step(&m, 8, 100);
    assert_int_equal(m.most_in_a_row, 1);
    assert_true(m.rows >= 49 * COG_PACE_MIN_ROWS);
    cog_pace_free(m.p);
}

static void a_turn_without_use_is_not_lost(void **state)
{
    machine m = open_machine(20, 0, 1, 0.05);

    run(&m, 8, 200);
    forget(&m);
    run(&m, 8, 1000); /* prompts only */
    assert_true(m.rows / 1000.0 >= 0.85 * ideal(&m, 8));
    for (int i = 0; i < 10; i++) { /* pictures only */
        assert_true(cog_pace_vision_ns(m.p, 8, 0) >= 0.8 * 20 * MS);
        cog_pace_observe(m.p, 8, 0, (uint64_t)(20 * MS));
    }
    cog_pace_free(m.p);
}

/* A caller that never leaves prompts out, whatever it is told. */
static void streams_that_are_never_alone(void **state)
{
    machine m = open_machine(20, 0.1, 1, 0.05);

    for (int i = 0; i < 1000; i++) {
        int rows = cog_pace_rows(m.p, 4, 0);
        rows = rows < COG_PACE_MIN_ROWS ? COG_PACE_MIN_ROWS : rows;
        assert_int_equal(rows, COG_PACE_MIN_ROWS);
        cog_pace_observe(m.p, 4, rows, (uint64_t)(mixed_ms(&m, 4, rows) * MS));
    }
    cog_pace_free(m.p);
}

static void a_small_step_leaves_what_it_has(void **state)
{
    cog_pace *p = cog_pace_new(1.1, 20, 20);

    assert_int_equal(cog_pace_rows(p, 20, 0), 0);
    assert_int_equal(cog_pace_rows(p, 10, 0), 10);
    assert_int_equal(cog_pace_rows(p, 0, 0), 20);
    for (int i = 0; i < 100; i++)
        cog_pace_observe(p, 10, i % 2 ? 0 : 10, i % 2 ? 1000000 : 1000001);
    assert_int_equal(cog_pace_rows(p, 10, 0), 10);
    cog_pace_free(p);
    cog_pace_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_streams_there_is_no_bound),
        cmocka_unit_test(the_first_steps_feel_their_way),
        cmocka_unit_test(steps_stay_within_the_bound_and_use_it),
        cmocka_unit_test(small_chunks_that_look_dear_do_not_stay_small),
        cmocka_unit_test(the_smallest_piece_always_runs),
        cmocka_unit_test(steps_held_up_by_something_else_change_little),
        cmocka_unit_test(a_slow_phase_passes),
        cmocka_unit_test(a_quicker_machine_is_noticed),
        cmocka_unit_test(small_changes_are_noticed),
        cmocka_unit_test(a_first_step_that_was_held_up_is_corrected),
        cmocka_unit_test(unseen_numbers_of_streams_get_a_cautious_guess),
        cmocka_unit_test(streams_come_and_go),
        cmocka_unit_test(a_kink_is_found_and_kept_below),
        cmocka_unit_test(a_kink_limits_what_is_worth_its_cost),
        cmocka_unit_test(the_dearer_rows_decide),
        cmocka_unit_test(pictures_and_prompts_take_turns),
        cmocka_unit_test(large_pieces_take_turns_too),
        cmocka_unit_test(prompts_have_turns_beside_an_endless_slice),
        cmocka_unit_test(a_turn_without_use_is_not_lost),
        cmocka_unit_test(streams_that_are_never_alone),
        cmocka_unit_test(a_small_step_leaves_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
