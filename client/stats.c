#include "client/stats.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_IN_MS 1e6

/* ---------------------------------------------------------------- goodput */

int cog_bench_goodput_parse(cog_bench_goodput *out, const char *text, cog_err *err)
{
    cog_bench_goodput limits = { 0 };

    while (*text) {
        double *limit = strncmp(text, "ttft:", 5) == 0   ? &limits.ttft
                        : strncmp(text, "tpot:", 5) == 0 ? &limits.tpot
                        : strncmp(text, "e2el:", 5) == 0 ? &limits.e2el
                                                         : NULL;
        char *end = NULL;
        double value = limit ? strtod(text + 5, &end) : 0;

        if (!limit || end == text + 5 || !(value > 0) || isinf(value) || (*end && *end != ','))
            return cog_err_set(err, COG_EINVAL,
                               "--goodput: '%.64s' is no limit; give milliseconds like "
                               "ttft:500,tpot:50,e2el:5000",
                               text);
        *limit = value;
        text = *end ? end + 1 : end;
    }
    *out = limits;
    return 0;
}

static bool is_within(double value, double limit)
{
    return limit == 0 || value <= limit;
}

/* ---------------------------------------------------------------- spread */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double cog_bench_percentile(const double *sorted, size_t n, double p)
{
    double rank = p / 100 * (double)(n - 1);
    size_t below = (size_t)rank;

    if (below + 1 >= n)
        return sorted[n - 1];
    return sorted[below] + (sorted[below + 1] - sorted[below]) * (rank - (double)below);
}

cog_bench_spread cog_bench_spread_of(double *values, size_t n)
{
    cog_bench_spread s = { .n = n };
    double sum = 0;

    if (n == 0)
        return s;
    qsort(values, n, sizeof(*values), compare);
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    s.mean = sum / (double)n;
    s.median = cog_bench_percentile(values, n, 50);
    s.p90 = cog_bench_percentile(values, n, 90);
    s.p99 = cog_bench_percentile(values, n, 99);
    return s;
}

/* ---------------------------------------------------------------- one sample */

static double between_ms(uint64_t from, uint64_t to)
{
    return ((double)to - (double)from) / NS_IN_MS;
}

static double ttft_of(const cog_bench_sample *s)
{
    return between_ms(s->due_ns, s->first_ns);
}

static double e2el_of(const cog_bench_sample *s)
{
    return between_ms(s->due_ns, s->last_ns);
}

static bool has_tpot(const cog_bench_sample *s)
{
    return s->first_ns && s->output_tokens > 1;
}

static double tpot_of(const cog_bench_sample *s)
{
    return has_tpot(s) ? between_ms(s->first_ns, s->last_ns) / (s->output_tokens - 1) : 0;
}

static bool is_good(const cog_bench_sample *s, const cog_bench_goodput *limits)
{
    return (!s->first_ns || is_within(ttft_of(s), limits->ttft)) &&
           is_within(tpot_of(s), limits->tpot) && is_within(e2el_of(s), limits->e2el);
}

/* ---------------------------------------------------------------- groups */

enum { ANY_PICTURE = -1 };

static cog_bench_group group_of(const cog_bench_sample *samples, size_t n, int picture)
{
    cog_bench_group g = { 0 };
    size_t n_ttft = 0, n_tpot = 0, n_itl = 0, room = 0;
    double *ttft = cog_array(double, n + 1), *tpot = cog_array(double, n + 1);
    double *e2el = cog_array(double, n + 1), *itl;

    for (size_t i = 0; i < n; i++)
        room += samples[i].n_gaps;
    itl = cog_array(double, room + 1);
    for (size_t i = 0; i < n; i++) {
        const cog_bench_sample *s = &samples[i];

        if (s->outcome != COG_BENCH_OK || (picture != ANY_PICTURE && (int)s->picture != picture))
            continue;
        e2el[g.completed++] = e2el_of(s);
        if (s->first_ns)
            ttft[n_ttft++] = ttft_of(s);
        if (has_tpot(s))
            tpot[n_tpot++] = tpot_of(s);
        for (size_t k = 0; k < s->n_gaps; k++)
            itl[n_itl++] = s->gaps[k];
    }
    g.ttft = cog_bench_spread_of(ttft, n_ttft);
    g.tpot = cog_bench_spread_of(tpot, n_tpot);
    g.itl = cog_bench_spread_of(itl, n_itl);
    g.e2el = cog_bench_spread_of(e2el, g.completed);
    cog_free(ttft);
    cog_free(tpot);
    cog_free(e2el);
    cog_free(itl);
    return g;
}

/* ---------------------------------------------------------------- errors */

static void count_error(cog_bench_summary *out, const cog_bench_sample *s)
{
    int status = s->outcome == COG_BENCH_STATUS ? s->status : 0;
    int i = 0;

    while (i < out->n_errors &&
           (out->errors[i].outcome != s->outcome || out->errors[i].status != status))
        i++;
    if (i == COG_BENCH_MAX_ERRORS)
        i--;
    else if (i == out->n_errors)
        out->errors[out->n_errors++] = (cog_bench_error){ .outcome = s->outcome, .status = status };
    out->errors[i].count++;
}

static int more_frequent(const void *a, const void *b)
{
    const cog_bench_error *x = a, *y = b;

    return (x->count < y->count) - (x->count > y->count);
}

const char *cog_bench_error_name(char *dst, size_t size, const cog_bench_error *e)
{
    static const char *const names[] = {
        [COG_BENCH_OK] = "ok",
        [COG_BENCH_OVERLOADED] = "overloaded",
        [COG_BENCH_STATUS] = "status",
        [COG_BENCH_CONNECT] = "connect",
        [COG_BENCH_TIMEOUT] = "timeout",
        [COG_BENCH_CUT] = "cut",
        [COG_BENCH_STREAM_ERROR] = "stream_error",
        [COG_BENCH_MALFORMED] = "malformed",
        [COG_BENCH_UNFINISHED] = "unfinished",
        [COG_BENCH_EMPTY] = "empty",
    };

    if (e->outcome == COG_BENCH_STATUS)
        snprintf(dst, size, "status_%d", e->status);
    else
        snprintf(dst, size, "%s", names[e->outcome]);
    return dst;
}

/* ---------------------------------------------------------------- */

static void add_tokens(cog_bench_summary *out, const cog_bench_sample *s)
{
    out->prompt_tokens += (uint64_t)s->prompt_tokens;
    out->output_tokens += (uint64_t)s->output_tokens;
    out->cached_tokens += (uint64_t)s->cached_tokens;
    out->image_tokens += (uint64_t)s->image_tokens;
    out->images += s->picture != COG_BENCH_TEXT;
    out->estimated += s->is_estimated;
}

void cog_bench_summarize(cog_bench_summary *out, const cog_bench_sample *samples, size_t n,
                         const cog_bench_goodput *limits)
{
    double *delay = cog_array(double, n + 1);
    uint64_t begin = UINT64_MAX, end = 0;

    *out = (cog_bench_summary){ 0 };
    for (size_t i = 0; i < n; i++) {
        const cog_bench_sample *s = &samples[i];

        begin = s->due_ns < begin ? s->due_ns : begin;
        end = s->end_ns > end ? s->end_ns : end;
        delay[i] = between_ms(s->due_ns, s->sent_ns);
        if (s->outcome != COG_BENCH_OK) {
            out->failed++;
            count_error(out, s);
            continue;
        }
        add_tokens(out, s);
        out->good += is_good(s, limits);
    }
    qsort(out->errors, (size_t)out->n_errors, sizeof(out->errors[0]), more_frequent);
    out->seconds = n ? between_ms(begin, end) / 1e3 : 0;
    out->start_delay = cog_bench_spread_of(delay, n);
    out->all = group_of(samples, n, ANY_PICTURE);
    out->text = group_of(samples, n, COG_BENCH_TEXT);
    out->cold = group_of(samples, n, COG_BENCH_COLD);
    out->repeated = group_of(samples, n, COG_BENCH_REPEATED);
    cog_free(delay);
}
