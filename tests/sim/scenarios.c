/* scenarios.c - loads that the tests run, each with what it is for. */
#include "tests/sim/sim.h"

#include <string.h>

const sim_scenario sim_scenarios[] = {
    {
        .name = "one a second",
        .machine = 0,
        .load = { .rate = 1, .n_requests = 100, .pictures = 0.5 },
    },
    {
        .name = "new pictures in bursts",
        .machine = 0,
        .load = { .rate = 60, .burst = 16, .n_requests = 1500, .pictures = 0.8, .common = 0.3 },
    },
    {
        .name = "few pictures again and again",
        .machine = 0,
        .n_blocks = 6000,
        .load = { .rate = 100, .burst = 8, .n_requests = 2000, .pictures = 1, .n_pictures = 12 },
        .has_room = true,
    },
    {
        .name = "everything at once",
        .machine = 0,
        .load = { .rate = 110,
                  .burst = 4,
                  .n_requests = 2500,
                  .pictures = 0.5,
                  .n_pictures = 200,
                  .n_tenants = 5,
                  .flood = 0.6,
                  .n_priorities = 3,
                  .common = 0.4,
                  .private_share = 0.1,
                  .n_salts = 2,
                  .several = 0.2,
                  .cancelled = 0.15,
                  .deadline_s = 2 },
    },
    {
        .name = "a pool that holds little",
        .machine = 0,
        .n_blocks = 24,
        .preempts = true,
        .load = { .rate = 60,
                  .burst = 4,
                  .n_requests = 1200,
                  .pictures = 0.5,
                  .n_pictures = 30,
                  .n_tenants = 3,
                  .common = 0.3,
                  .several = 0.2,
                  .cancelled = 0.1,
                  .answer_max = 300 },
    },
    {
        .name = "one tenant floods, one asks now and then",
        .machine = 0,
        .load = { .rate = 800,
                  .n_requests = 6000,
                  .n_tenants = 4,
                  .flood = 0.8,
                  .n_light = 1,
                  .light_every = 0.2,
                  .max_queue = 10000 },
    },
    {
        .name = "three tenants, one with long questions",
        .machine = 0,
        .load = { .rate = 800,
                  .n_requests = 8000,
                  .n_tenants = 3,
                  .max_queue = 10000,
                  .text_max = 200,
                  .unequal = true },
    },
    {
        .name = "the lowest priority under a flood of the highest",
        .machine = 0,
        .load = { .rate = 180,
                  .n_requests = 9000,
                  .n_tenants = 3,
                  .n_priorities = 3,
                  .answer_min = 60,
                  .answer_max = 200,
                  .max_queue = 10000 },
    },
    {
        .name = "a thousand a second",
        .machine = 0,
        .load = { .rate = 1000,
                  .burst = 4,
                  .n_requests = 6000,
                  .pictures = 0.3,
                  .n_pictures = 50,
                  .n_tenants = 4,
                  .cancelled = 0.1 },
    },
    {
        .name = "ten thousand a second",
        .machine = 0,
        .load = { .rate = 10000,
                  .burst = 20,
                  .n_requests = 30000,
                  .pictures = 0.5,
                  .n_tenants = 40,
                  .cancelled = 0.3,
                  .deadline_s = 5,
                  .max_queue = 5000 },
    },
    {
        .name = "17B, some pictures",
        .machine = 1,
        .load = { .rate = 12,
                  .burst = 3,
                  .n_requests = 400,
                  .pictures = 0.6,
                  .n_pictures = 150,
                  .n_tenants = 3,
                  .common = 0.3,
                  .cancelled = 0.1 },
    },
    {
        .name = "17B, one picture for all",
        .machine = 1,
        .load = { .rate = 300, .burst = 64, .n_requests = 600, .pictures = 1, .n_pictures = 1 },
        .has_room = true,
    },
    {
        .name = "17B, some pictures in fashion",
        .machine = 1,
        .load = { .rate = 40,
                  .burst = 12,
                  .n_requests = 400,
                  .pictures = 0.8,
                  .n_pictures = 40,
                  .answer_max = 200 },
        .has_room = true,
    },
    {
        .name = "17B, a small pool",
        .machine = 1,
        .n_blocks = 300,
        .preempts = true,
        .load = { .rate = 40,
                  .burst = 4,
                  .n_requests = 300,
                  .pictures = 0.7,
                  .n_pictures = 40,
                  .n_tenants = 2,
                  .answer_max = 400,
                  .several = 0.2 },
    },
    {
        .name = "17B, pictures' pages that come and go",
        .machine = 1,
        .stretch = 4,
        .load = { .rate = 20,
                  .burst = 4,
                  .n_requests = 4000,
                  .pictures = 0.5,
                  .n_pictures = 1000,
                  .n_tenants = 4,
                  .answer_max = 100,
                  .cancelled = 0.05 },
    },
};
const int sim_n_scenarios = sizeof(sim_scenarios) / sizeof(sim_scenarios[0]);

static void fill(int *field, int value)
{
    if (*field == 0)
        *field = value;
}

void sim_load_fill(sim_load *l)
{
    l->burst = l->burst > 1 ? l->burst : 1;
    fill(&l->max_queue, 256);
    fill(&l->text_min, 8);
    fill(&l->text_max, 60);
    fill(&l->answer_min, 5);
    fill(&l->answer_max, 60);
    fill(&l->n_tenants, 1);
    fill(&l->n_priorities, 1);
}

sim_result sim_run_scenario(const sim_scenario *s, sim_fault fault, uint64_t seed)
{
    sim_machine m = sim_machines[s->machine];
    sim_load l = s->load;

    if (s->n_blocks)
        m.n_blocks = s->n_blocks;
    if (s->stretch > 0)
        m.stretch = s->stretch;
    sim_load_fill(&l);
    return sim_run(&m, &l, SIM_SERVER, fault, seed);
}
