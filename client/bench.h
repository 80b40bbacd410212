/* bench.h - `cogwheel bench URL`: requests against any server of the OpenAI API, and how long they
 * took. Runs on the calling thread. */
#ifndef COG_CLIENT_BENCH_H
#define COG_CLIENT_BENCH_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef enum cog_bench_eos {
    COG_BENCH_EOS_AUTO,   /* ask for full lengths if the server takes the field */
    COG_BENCH_EOS_IGNORE, /* ask for full lengths */
    COG_BENCH_EOS_OBEY,
} cog_bench_eos;

/* Strings are borrowed for the call. */
typedef struct cog_bench_options {
    /* the server */
    const char *url;      /* with or without "/v1" */
    const char *api_key;  /* NULL: none */
    const char *key_file; /* its first line is the key instead; NULL: no file */
    const char *ca_file;  /* NULL: the system's certificates */
    const char *model;    /* NULL: the first one that the server names */
    /* the load */
    int concurrency;    /* requests under way at a time; 0: 1 without a rate, no limit with one */
    float request_rate; /* a second; 0: as many as concurrency lets (a closed loop) */
    float burstiness;
    int n_prompts;        /* requests; 0: 100, or what duration_ms brings */
    uint32_t duration_ms; /* no request begins after this; 0: no limit */
    int n_warmup;         /* requests before, not counted */
    uint32_t timeout_ms;  /* of one answer */
    uint64_t seed;        /* of all that is random */
    const char *goodput;  /* "ttft:500,tpot:50"; NULL: none */
    /* what is asked */
    const char *prompt;
    int prompt_words; /* random words after the prompt */
    int max_tokens;
    float length_spread; /* lengths are drawn evenly from 1 - spread to 1 + spread times theirs */
    float temperature;
    cog_bench_eos eos;
    bool stream;
    const char *const *images; /* files; none: random ones */
    int n_images;
    const char *image_size;     /* of random pictures, "490x490" */
    float image_share;          /* of requests that carry a picture */
    float repeated_image_share; /* of those, that carry one of a few that others carry too */
    int repeated_images;        /* how many these few are */
    bool json;                  /* the report */
} cog_bench_options;

extern const cog_bench_options cog_bench_defaults;

/* Runs it and prints the report to out. SIGINT ends it early: no further request begins. *n_failed
 * counts requests without a whole answer. COG_EINVAL: an option; COG_EIO, COG_EFORMAT: a picture's
 * file or the key's; COG_EIO also when the server gives no answer to begin with. */
int cog_bench_run(int *n_failed, FILE *out, const cog_bench_options *opt, cog_err *err);

#endif
