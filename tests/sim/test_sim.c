/* test_sim.c - the scenarios hold, on several seeds; and every check finds the mistake that it is
 * for. */
#include "tests/unit/unit.h"

#include "tests/sim/sim.h"

static void say(const char *name, const sim_result *r)
{
    print_message(
        "# %s: %d accepted, %d refused, %d cancelled, %d expired, %llu steps, %llu tokens, "
        "%llu preempted, %llu%% found\n",
        name, r->n_accepted, r->n_refused, r->n_cancelled, r->n_expired,
        (unsigned long long)r->steps, (unsigned long long)r->tokens,
        (unsigned long long)r->preempted,
        (unsigned long long)(r->looked_up ? 100 * r->found / r->looked_up : 0));
}

static void check_scenario(const sim_scenario *s, uint64_t seed)
{
    sim_result r = sim_run_scenario(s, SIM_SOUND, seed);
    int rows = sim_machines[s->machine].image_tokens - 1; /* the last one counts as text */

    say(s->name, &r);
    if (r.broken != SIM_HOLDS)
        fail_msg("%s: %s: %s", s->name, sim_check_names[r.broken], r.why);
    assert_true(r.n_finished > 0);
    if (s->preempts)
        assert_true(r.preempted > 0);
    if (s->has_room) {
        assert_int_equal(r.visual_rows, r.pictures * (uint64_t)rows);
        assert_int_equal(r.encoded, r.pictures);
    }
    sim_result_free(&r);
}

static void every_scenario_holds(void **state)
{
    for (int i = 0; i < sim_n_scenarios; i++)
        check_scenario(&sim_scenarios[i], 1);
}

static void equal_seeds_give_equal_runs(void **state)
{
    sim_result a = sim_run_scenario(&sim_scenarios[3], SIM_SOUND, 7);
    sim_result b = sim_run_scenario(&sim_scenarios[3], SIM_SOUND, 7);
    sim_result c = sim_run_scenario(&sim_scenarios[3], SIM_SOUND, 8);

    assert_int_equal(a.now_ns, b.now_ns);
    assert_int_equal(a.rows, b.rows);
    assert_int_not_equal(a.now_ns, c.now_ns);
    sim_result_free(&a);
    sim_result_free(&b);
    sim_result_free(&c);
}

/* ---- planted mistakes ---- */

typedef struct planted {
    sim_fault fault;
    int scenario;
    sim_check found_by;
} planted;

static const planted mistakes[] = {
    { SIM_FORGETS_A_REQUEST, 0, SIM_ENDS_ONCE },
    { SIM_ENDS_TWICE, 0, SIM_ENDS_ONCE },
    { SIM_IGNORES_A_CANCEL, 3, SIM_ENDS_ONCE },
    { SIM_LOSES_A_PAGE, 0, SIM_PAGES },
    { SIM_SKIPS_A_COPY, 2, SIM_CONTENTS },
    { SIM_TAKES_ALL, 8, SIM_QUEUE },
    { SIM_REFUSES_TOO_EARLY, 8, SIM_QUEUE },
    { SIM_IDLES, 0, SIM_WORK_CONSERVING },
    { SIM_LEAVES_PLACES_EMPTY, 8, SIM_WORK_CONSERVING },
    { SIM_HAS_NO_PATIENCE, 7, SIM_STARVATION },
    { SIM_KNOWS_NO_TENANTS, 5, SIM_LIGHT_TENANT },
    { SIM_KNOWS_NO_TENANTS, 6, SIM_FAIRNESS },
    { SIM_TAKES_WHOLE_PROMPTS, 10, SIM_PACE },
    { SIM_TAKES_WHOLE_PASSES, 3, SIM_PACE },
    { SIM_FORGETS_LEADERS, 12, SIM_SINGLE_FLIGHT },
    { SIM_ENCODES_AGAIN, 12, SIM_SINGLE_FLIGHT },
    { SIM_DROPS_FEATURES, 2, SIM_FEATURES },
};

static void every_planted_mistake_is_found(void **state)
{
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        const planted *m = &mistakes[i];
        sim_result r = sim_run_scenario(&sim_scenarios[m->scenario], m->fault, 1);
        print_message("# mistake %d: %s: %s\n", (int)m->fault, sim_check_names[r.broken], r.why);
        if (r.broken != m->found_by)
            fail_msg("mistake %d was found by '%s', not '%s'", (int)m->fault,
                     sim_check_names[r.broken], sim_check_names[m->found_by]);
        sim_result_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scenario_holds),
        cmocka_unit_test(equal_seeds_give_equal_runs),
        cmocka_unit_test(every_planted_mistake_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
