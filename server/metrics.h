/* metrics.h - the sums behind /metrics. The loop thread's; the engine keeps its own.
 *
 * Every request for an answer is counted once when its head has been read, and once when nothing of
 * it runs any more, by how it ended: at any moment requests = ended + live, and live is what the
 * gauge of stages adds up to. */
#ifndef COG_SERVER_METRICS_H
#define COG_SERVER_METRICS_H

#include "base/buf.h"
#include "base/histogram.h"
#include "proto/grounding.h"
#include "server/record.h"

#include <stdint.h>

enum {
    COG_MAX_HANDLERS = 32, /* routes, and one for what is none */
    COG_N_CLASSES = 5,     /* of a status: 1xx to 5xx */
    COG_N_FORMATS = 5,     /* of pictures, the unknown one last */
};

typedef struct cog_handler_sums {
    uint64_t status[COG_N_CLASSES];
    cog_histogram seconds; /* from the first byte of the head to the end of the answer */
} cog_handler_sums;

typedef struct cog_metrics {
    uint64_t requests;
    uint64_t ended[COG_N_OUT];
    uint64_t rejected[COG_N_REASONS];
    uint64_t left[COG_N_AT];
    uint64_t retries;
    uint64_t refused_connections;
    uint64_t images[COG_N_FORMATS][COG_API_N_CODES]; /* by what was answered about it; NONE: fine */
    uint64_t abandoned_images[COG_N_FORMATS];
    cog_histogram image_pixels;
    uint64_t boxes, broken_boxes; /* of answers whose boxes were asked for */
    cog_histogram stage[COG_N_AT];
    cog_handler_sums http[COG_MAX_HANDLERS][COG_N_METHODS];

    cog_histogram first_token, first_token_fine; /* the finer ones are ours, the others vLLM's */
    cog_histogram gap, gap_fine;                 /* between tokens of an answer, pooled */
    /* Of requests that were answered (stop, length): */
    cog_histogram per_token; /* its mean gap */
    cog_histogram whole, whole_fine;
    cog_histogram queue, prefill, decode, inference;
    cog_histogram prompt_tokens, output_tokens, most_tokens, max_tokens, n;
} cog_metrics;

struct cog_exchange;
struct cog_server;

void cog_metrics_init(cog_metrics *m);

/* The bounds of token counts, 1, 2, 5 and so on, go up to the context's length: sets them when the
 * model is loaded (info is not NULL) for the first time. */
void cog_metrics_fit(cog_metrics *m, const cog_engine_info *info);

/* A request for an answer: its head has been read. */
void cog_metrics_begin(struct cog_exchange *x);
/* A token, or several, came so long after the one before. */
void cog_metrics_gap(cog_metrics *m, uint64_t gap_ns, int n_tokens);
/* A picture was decoded, or refused, or nobody waits for it any more. */
void cog_metrics_picture(struct cog_exchange *x, cog_api_code code, bool is_abandoned);
/* The boxes of an answer were asked for. */
void cog_metrics_boxes(cog_metrics *m, const cog_grounding_count *count);
/* The connection is done with the exchange. */
void cog_metrics_http(struct cog_exchange *x);
/* Nothing runs any more; its record is closed. */
void cog_metrics_end(struct cog_exchange *x);

/* metrics_text.c: the whole of /metrics. */
void cog_metrics_write(cog_buf *out, struct cog_server *s);

#endif
