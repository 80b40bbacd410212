/* stats.h - what happened to each request of a benchmark, and the figures made of it, defined as
 * those of `vllm bench serve`:
 *
 *     TTFT   from the start to the first chunk that has choices
 *     E2EL   from the start to the last chunk that has choices
 *     TPOT   (E2EL - TTFT) / (output tokens - 1), of answers of two tokens or more
 *     ITL    every gap between successive chunks that have choices, of all answers together
 *
 * The start is when a request was due: in an open loop a client that is late to send must not make
 * the server look quick (coordinated omission). Percentiles interpolate linearly between the
 * closest ranks, as NumPy does. Pure. */
#ifndef COG_CLIENT_STATS_H
#define COG_CLIENT_STATS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cog_bench_outcome {
    COG_BENCH_OK,
    COG_BENCH_OVERLOADED,   /* 503 that says when to come back */
    COG_BENCH_STATUS,       /* another status than 200 */
    COG_BENCH_CONNECT,      /* no connection */
    COG_BENCH_TIMEOUT,      /* no whole answer in time */
    COG_BENCH_CUT,          /* the connection ended before the answer */
    COG_BENCH_STREAM_ERROR, /* an error object after the stream began */
    COG_BENCH_MALFORMED,    /* what came is no JSON object, or not framed as one */
    COG_BENCH_UNFINISHED,   /* the stream ended without [DONE] */
    COG_BENCH_EMPTY,        /* ended well, and never had a choice */
} cog_bench_outcome;

typedef enum cog_bench_picture {
    COG_BENCH_TEXT,     /* none */
    COG_BENCH_COLD,     /* never sent before */
    COG_BENCH_REPEATED, /* sent before, by the warm-up or by a request */
} cog_bench_picture;

typedef struct cog_bench_sample {
    cog_bench_outcome outcome;
    int status; /* of HTTP; 0: none came */
    cog_bench_picture picture;
    /* CLOCK_MONOTONIC. first and last are those of chunks with choices; 0: there was none. Of an
     * answer in one piece, first is 0 and last its end. */
    uint64_t due_ns, sent_ns, first_ns, last_ns, end_ns;
    float *gaps; /* [n_gaps] milliseconds, owned */
    size_t n_gaps;
    int prompt_tokens, output_tokens, cached_tokens, image_tokens;
    bool is_estimated; /* no usage came: output_tokens are chunks with text */
} cog_bench_sample;

/* Milliseconds; 0: no limit. */
typedef struct cog_bench_goodput {
    double ttft, tpot, e2el;
} cog_bench_goodput;

/* Understands "ttft:500,tpot:50". COG_EINVAL with what would be right. */
int cog_bench_goodput_parse(cog_bench_goodput *out, const char *text, cog_err *err);

/* Milliseconds. */
typedef struct cog_bench_spread {
    size_t n; /* values; with none the rest is 0 */
    double mean, median, p90, p99;
} cog_bench_spread;

/* Sorts values. */
cog_bench_spread cog_bench_spread_of(double *values, size_t n);

/* p in [0, 100]; sorted ascending, n > 0. */
double cog_bench_percentile(const double *sorted, size_t n, double p);

/* Answers of one sort. */
typedef struct cog_bench_group {
    size_t completed;
    cog_bench_spread ttft, tpot, itl, e2el;
} cog_bench_group;

enum { COG_BENCH_MAX_ERRORS = 32 };

typedef struct cog_bench_error {
    cog_bench_outcome outcome;
    int status; /* of COG_BENCH_STATUS, else 0 */
    size_t count;
} cog_bench_error;

typedef struct cog_bench_summary {
    cog_bench_group all, text, cold, repeated;
    cog_bench_spread start_delay; /* from due to sent, of all requests */
    size_t failed, good;          /* good: completed within every limit */
    cog_bench_error
        errors[COG_BENCH_MAX_ERRORS]; /* by frequency; kinds beyond it are added to the last */
    int n_errors;
    double seconds; /* from the first request's start to the last one's end */
    uint64_t prompt_tokens, output_tokens, cached_tokens, image_tokens, images; /* of completed */
    size_t estimated; /* answers whose output tokens are estimated */
} cog_bench_summary;

void cog_bench_summarize(cog_bench_summary *out, const cog_bench_sample *samples, size_t n,
                         const cog_bench_goodput *limits);

/* "overloaded", "status 404": dst is returned. */
const char *cog_bench_error_name(char *dst, size_t size, const cog_bench_error *e);

#endif
