/* main.c - the simulator as a program: latency against load, for the server and for the baseline.
 *
 *     build/tests/sim/sim [--machine NAME] [--requests N] [--stretch X] [--seed N] [RATE...]
 */
#include "tests/sim/sim.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double cpu_rates[] = { 1, 10, 50, 100, 300, 1000, 10000 };
static const double gpu_rates[] = { 1, 5, 10, 20, 30, 100, 1000, 10000 };

typedef struct options {
    const char *machine;
    int n_requests;
    double stretch;
    uint64_t seed;
} options;

/* Half of the requests have a picture, half of these one that others have, too. */
static sim_load mixed(const options *o, double rate)
{
    sim_load l = { .rate = rate,
                   .burst = 4,
                   .n_requests = o->n_requests,
                   .pictures = 0.5,
                   .n_pictures = o->n_requests / 4,
                   .n_tenants = 4,
                   .answer_max = 100,
                   .cancelled = 0.05 };

    sim_load_fill(&l);
    return l;
}

static void print_row(const char *machine, double rate, const char *who, sim_result *r)
{
    double s = (double)r->now_ns / 1e9;

    printf("| %s | %g | %s | %.0f %% | %.0f | %.0f / %.0f | %.1f / %.1f | %.0f / %.0f |\n", machine,
           rate, who, 100.0 * r->n_refused / (r->n_refused + r->n_accepted), (double)r->tokens / s,
           sim_percentile(&r->ttft, 0.5), sim_percentile(&r->ttft, 0.99),
           sim_percentile(&r->itl, 0.5), sim_percentile(&r->itl, 0.99),
           sim_percentile(&r->wait, 0.5), sim_percentile(&r->wait, 0.99));
}

static bool print_rate(const options *o, const sim_machine *machine, double rate)
{
    sim_machine m = *machine;
    sim_load l = mixed(o, rate);
    bool holds = true;

    m.stretch = o->stretch > 0 ? o->stretch : m.stretch;
    for (int policy = SIM_BASELINE; policy >= SIM_SERVER; policy--) {
        sim_result r = sim_run(&m, &l, (sim_policy)policy, SIM_SOUND, o->seed);
        print_row(m.name, rate, policy == SIM_SERVER ? "Cogwheel" : "baseline", &r);
        if (r.broken != SIM_HOLDS) {
            fprintf(stderr, "%s: %s\n", sim_check_names[r.broken], r.why);
            holds = false;
        }
        sim_result_free(&r);
    }
    return holds;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: sim [--machine NAME] [--requests N] [--stretch X] [--seed N] [RATE...]\n"
            "machines:");
    for (int i = 0; i < sim_n_machines; i++)
        fprintf(stderr, " %s", sim_machines[i].name);
    fprintf(stderr, "; X of at least 1.1\n");
    return 2;
}

static bool parse(options *o, int argc, char **argv)
{
    static const struct option names[] = { { "machine", required_argument, NULL, 'm' },
                                           { "requests", required_argument, NULL, 'n' },
                                           { "stretch", required_argument, NULL, 's' },
                                           { "seed", required_argument, NULL, 'r' },
                                           { 0 } };

    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (c == 'm')
            o->machine = optarg;
        else if (c == 'n')
            o->n_requests = atoi(optarg);
        else if (c == 's')
            o->stretch = atof(optarg);
        else if (c == 'r')
            o->seed = strtoull(optarg, NULL, 10);
        else
            return false;
    }
    return o->n_requests >= 4 && (o->stretch == 0 || o->stretch >= 1.1);
}

int main(int argc, char **argv)
{
    options o = { .n_requests = 4000, .seed = 1 };
    bool holds = true, is_known = false;

    if (!parse(&o, argc, argv))
        return usage();
    printf("| Machine | Requests/s | | Refused | Tokens/s | First token, ms p50 / p99 | Between "
           "tokens | "
           "Wait |\n|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < sim_n_machines; i++) {
        const sim_machine *m = &sim_machines[i];
        const double *rates = i ? gpu_rates : cpu_rates;
        size_t n = i ? sizeof(gpu_rates) / sizeof(*rates) : sizeof(cpu_rates) / sizeof(*rates);
        if (o.machine && strcmp(o.machine, m->name) != 0)
            continue;
        is_known = true;
        for (int k = optind; k < argc; k++)
            holds &= atof(argv[k]) > 0 && print_rate(&o, m, atof(argv[k]));
        for (size_t k = 0; optind == argc && k < n; k++)
            holds &= print_rate(&o, m, rates[k]);
    }
    return !is_known ? usage() : !holds;
}
