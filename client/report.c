#include "client/report.h"

#include "base/buf.h"
#include "proto/json_write.h"

#include <inttypes.h>

/* More of one processor than this, and the client's own work is in the figures. */
#define BUSY_CLIENT 0.7

static double rate(double count, const cog_bench_summary *s)
{
    return s->seconds > 0 ? count / s->seconds : 0;
}

/* ---------------------------------------------------------------- for machines */

static void add_number(cog_buf *out, const char *name, double value)
{
    cog_buf_printf(out, ",\"%s\":%.6g", name, value);
}

static void add_count(cog_buf *out, const char *name, uint64_t value)
{
    cog_buf_printf(out, ",\"%s\":%" PRIu64, name, value);
}

static void add_spread(cog_buf *out, const char *name, const cog_bench_spread *s)
{
    const struct {
        const char *name;
        double value;
    } row[] = {
        { "mean", s->mean }, { "median", s->median }, { "p90", s->p90 }, { "p99", s->p99 }
    };

    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        cog_buf_printf(out, ",\"%s_%s_ms\":", row[i].name, name);
        cog_buf_printf(out, s->n ? "%.6g" : "null", row[i].value);
    }
}

static void add_group(cog_buf *out, const cog_bench_group *g)
{
    add_spread(out, "ttft", &g->ttft);
    add_spread(out, "tpot", &g->tpot);
    add_spread(out, "itl", &g->itl);
    add_spread(out, "e2el", &g->e2el);
}

static void add_named_group(cog_buf *out, const char *name, const cog_bench_group *g)
{
    cog_buf_printf(out, ",\"%s\":{\"completed\":%zu", name, g->completed);
    add_group(out, g);
    cog_buf_puts(out, "}");
}

static void add_errors(cog_buf *out, const cog_bench_summary *s)
{
    char name[32];

    cog_buf_puts(out, ",\"errors\":{");
    for (int i = 0; i < s->n_errors; i++)
        cog_buf_printf(out, "%s\"%s\":%zu", i ? "," : "",
                       cog_bench_error_name(name, sizeof(name), &s->errors[i]), s->errors[i].count);
    cog_buf_puts(out, "}");
}

static void add_setting(cog_buf *out, const cog_bench_setting *how)
{
    const cog_bench_options *opt = how->opt;

    cog_buf_puts(out, "{\"url\":");
    cog_json_write_string(out, opt->url);
    cog_buf_puts(out, ",\"model_id\":");
    cog_json_write_string(out, how->model);
    cog_buf_printf(out, ",\"ignore_eos\":%s", how->ignores_eos ? "true" : "false");
    cog_buf_printf(out, opt->request_rate > 0 ? ",\"request_rate\":%g" : ",\"request_rate\":null",
                   (double)opt->request_rate);
    add_number(out, "burstiness", (double)opt->burstiness);
    add_count(out, "max_concurrency", (uint64_t)opt->concurrency);
}

void cog_bench_report_json(FILE *out, const cog_bench_summary *s, const cog_bench_setting *how)
{
    cog_buf text = { 0 };

    add_setting(&text, how);
    add_number(&text, "duration", s->seconds);
    add_count(&text, "completed", s->all.completed);
    add_count(&text, "failed", s->failed);
    add_count(&text, "total_input_tokens", s->prompt_tokens);
    add_count(&text, "total_output_tokens", s->output_tokens);
    add_count(&text, "total_cached_tokens", s->cached_tokens);
    add_count(&text, "total_image_tokens", s->image_tokens);
    add_count(&text, "total_images", s->images);
    add_count(&text, "answers_with_estimated_tokens", s->estimated);
    add_number(&text, "request_throughput", rate((double)s->all.completed, s));
    if (how->opt->goodput)
        add_number(&text, "request_goodput", rate((double)s->good, s));
    add_number(&text, "output_throughput", rate((double)s->output_tokens, s));
    add_number(&text, "total_token_throughput",
               rate((double)(s->output_tokens + s->prompt_tokens), s));
    add_number(&text, "image_throughput", rate((double)s->images, s));
    add_number(&text, "image_token_throughput", rate((double)s->image_tokens, s));
    add_group(&text, &s->all);
    add_named_group(&text, "text", &s->text);
    add_named_group(&text, "cold_picture", &s->cold);
    add_named_group(&text, "repeated_picture", &s->repeated);
    add_spread(&text, "start_delay", &s->start_delay);
    add_errors(&text, s);
    add_number(&text, "client_cpu", how->client_cpu);
    cog_buf_puts(&text, "}\n");
    fwrite(text.data, 1, text.len, out);
    cog_buf_fini(&text);
}

/* ---------------------------------------------------------------- for people */

static void print_spread(FILE *out, const char *name, const cog_bench_spread *s)
{
    if (s->n)
        fprintf(out, "  %-22s%10zu%11.2f%11.2f%11.2f%11.2f\n", name, s->n, s->mean, s->median,
                s->p90, s->p99);
}

static void print_group(FILE *out, const char *title, const cog_bench_group *g)
{
    if (g->completed == 0)
        return;
    fprintf(out, "\n%-24s%10s%11s%11s%11s%11s\n", title, "values", "mean ms", "median", "p90",
            "p99");
    print_spread(out, "first token (TTFT)", &g->ttft);
    print_spread(out, "each further (TPOT)", &g->tpot);
    print_spread(out, "between chunks (ITL)", &g->itl);
    print_spread(out, "whole answer (E2EL)", &g->e2el);
}

static void print_load(FILE *out, const cog_bench_setting *how)
{
    const cog_bench_options *opt = how->opt;

    fprintf(out, "%s, model %s, ", opt->url, how->model);
    if (opt->request_rate > 0)
        fprintf(out, "open loop of %g requests/s (burstiness %g)", (double)opt->request_rate,
                (double)opt->burstiness);
    else
        fputs("closed loop", out);
    if (opt->concurrency)
        fprintf(out, ", at most %d at a time", opt->concurrency);
    fprintf(out, "\n%s\n\n",
            how->ignores_eos ? "answers are of full length (ignore_eos)"
                             : "answers end where the model ends them");
}

static void print_errors(FILE *out, const cog_bench_summary *s)
{
    char name[32];

    for (int i = 0; i < s->n_errors; i++)
        fprintf(out, "  %-22s%10zu%s\n", cog_bench_error_name(name, sizeof(name), &s->errors[i]),
                s->errors[i].count,
                s->errors[i].outcome == COG_BENCH_OVERLOADED ? "  (503 with Retry-After)" : "");
}

static void print_throughput(FILE *out, const cog_bench_summary *s, const cog_bench_setting *how)
{
    fprintf(out, "%-24s%10zu  in %.2f s\n", "completed", s->all.completed, s->seconds);
    fprintf(out, "%-24s%10zu\n", "failed", s->failed);
    print_errors(out, s);
    fprintf(out, "%-24s%10.2f\n", "requests/s", rate((double)s->all.completed, s));
    if (how->opt->goodput)
        fprintf(out, "%-24s%10.2f  (%zu within %s)\n", "goodput, requests/s",
                rate((double)s->good, s), s->good, how->opt->goodput);
    fprintf(out, "%-24s%10.1f\n", "output tokens/s", rate((double)s->output_tokens, s));
    fprintf(out, "%-24s%10.1f\n", "all tokens/s",
            rate((double)(s->output_tokens + s->prompt_tokens), s));
    if (s->images)
        fprintf(out, "%-24s%10.2f\n%-24s%10.1f\n", "pictures/s", rate((double)s->images, s),
                "picture tokens/s", rate((double)s->image_tokens, s));
    fprintf(out, "%-24s%10" PRIu64 "  of %" PRIu64 "\n", "prompt tokens cached", s->cached_tokens,
            s->prompt_tokens);
}

void cog_bench_report_text(FILE *out, const cog_bench_summary *s, const cog_bench_setting *how)
{
    int kinds = (s->text.completed > 0) + (s->cold.completed > 0) + (s->repeated.completed > 0);

    print_load(out, how);
    print_throughput(out, s, how);
    print_group(out, "all answers", &s->all);
    if (kinds > 1) {
        print_group(out, "text alone", &s->text);
        print_group(out, "picture never sent before", &s->cold);
        print_group(out, "picture sent before", &s->repeated);
    }
    if (how->opt->request_rate > 0)
        fprintf(out, "\nsent after it was due: median %.2f ms, p99 %.2f ms (counted in TTFT)\n",
                s->start_delay.median, s->start_delay.p99);
    if (s->estimated)
        fprintf(out, "%zu answers came without usage: their tokens are chunks with text\n",
                s->estimated);
    fprintf(out, "\nthis program took %.0f %% of a processor%s\n", how->client_cpu * 100,
            how->client_cpu > BUSY_CLIENT ? ": its own work is in the figures" : "");
}
