/* workload.h - what the requests of a benchmark ask. Which request asks what is a function of the
 * options and the request's number, so two runs with one seed send the same. One thread. */
#ifndef COG_CLIENT_WORKLOAD_H
#define COG_CLIENT_WORKLOAD_H

#include "base/buf.h"
#include "base/err.h"
#include "client/bench.h"
#include "client/stats.h"

typedef struct cog_workload cog_workload;

/* Makes or reads the pictures that n requests need; n = 0: their number is not known. COG_EINVAL:
 * an option is not as it must be; COG_EIO, COG_EFORMAT: a picture's file. opt outlives the
 * workload. */
int cog_workload_new(cog_workload **out, const cog_bench_options *opt, size_t n, cog_err *err);
void cog_workload_free(cog_workload *w); /* NULL is fine */

/* Adds the body of request number i. *picture is what its picture is now: one is COLD only the
 * first time it is asked for here. ignore_eos asks for answers of full length. */
void cog_workload_add_body(cog_workload *w, cog_buf *out, cog_bench_picture *picture, size_t i,
                           const char *model, bool ignore_eos);

/* Warm-up requests: n of them, of which the first ask about each picture that will be repeated. */
void cog_workload_add_warmup(cog_workload *w, cog_buf *out, size_t i, const char *model,
                             bool ignore_eos);
size_t cog_workload_n_repeated(const cog_workload *w); /* pictures that requests share */

#endif
