/* ask.h - one request of a benchmark from its start to its end: reads the answer as it comes,
 * and leaves a sample. One thread. */
#ifndef COG_CLIENT_ASK_H
#define COG_CLIENT_ASK_H

#include "client/wire.h"
#include "client/stats.h"
#include "proto/sse_read.h"

typedef struct cog_ask cog_ask;

struct cog_ask {
    cog_wire_call call;                 /* the caller fills body */
    cog_bench_sample sample;            /* the caller fills due_ns, sent_ns and picture */
    void (*end)(cog_ask *x, void *arg); /* the sample is complete; may free x */
    void *arg;
    /* ---- private */
    bool is_stream;
    cog_sse_reader events;
    cog_buf whole; /* of what is no stream, and of errors */
    cog_buf gaps;  /* float[] */
    bool is_done;  /* [DONE] came */
    bool has_error, is_malformed, has_usage;
    int n_texts; /* chunks with text */
};

/* body and arg are set after this. */
cog_ask *cog_ask_new(bool is_stream, void (*end)(cog_ask *x, void *arg), void *arg);
void cog_ask_free(cog_ask *x); /* not while it is under way; the sample's gaps stay */

#endif
