/* report.h - the figures of a benchmark, for people and for machines. */
#ifndef COG_CLIENT_REPORT_H
#define COG_CLIENT_REPORT_H

#include "client/bench.h"
#include "client/stats.h"

#include <stdio.h>

/* How it was measured. */
typedef struct cog_bench_setting {
    const cog_bench_options *opt;
    const char *model;
    bool ignores_eos;
    double client_cpu; /* processors that this program took, 0 to 1: near 1 it measures itself */
} cog_bench_setting;

/* Names are those of `vllm bench serve` where it has the figure. A figure without values is null.
 */
void cog_bench_report_json(FILE *out, const cog_bench_summary *s, const cog_bench_setting *how);
void cog_bench_report_text(FILE *out, const cog_bench_summary *s, const cog_bench_setting *how);

#endif
