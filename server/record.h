/* record.h - what is noted about one exchange while it lives. The log line, the sums behind
 * /metrics and what a client is told about its own request are made from it.
 *
 * The loop thread's. */
#ifndef COG_SERVER_RECORD_H
#define COG_SERVER_RECORD_H

#include "engine/engine.h"
#include "proto/api_error.h"
#include "proto/answer_write.h"
#include "server/head.h"

#include <stdbool.h>
#include <stdint.h>

/* Where a request is, in the order of its way. */
typedef enum cog_at {
    COG_AT_READ,         /* head, body, JSON, and a picture in it: until it is admitted */
    COG_AT_IMAGE_WAIT,   /* admitted; its picture waits for its turn to be decoded */
    COG_AT_IMAGE_DECODE, /* that has come */
    COG_AT_ENGINE,       /* and on: the engine's stages, in the order of cog_engine_stage */
    COG_AT_WRITE = COG_AT_ENGINE + COG_N_STAGES, /* the answer is decided; the client takes it */
    COG_N_AT,
} cog_at;

const char *cog_at_name(int at); /* "image_wait" */

/* How a request ended. */
typedef enum cog_outcome {
    COG_OUT_NONE,   /* was none: a probe, an unknown address */
    COG_OUT_STOP,   /* answered */
    COG_OUT_LENGTH, /* answered; at least one choice reached its limit */
    COG_OUT_ABORT,  /* the client left, was cut off, or the server stopped */
    COG_OUT_ERROR,  /* the server failed it, or its time ran out */
    COG_OUT_REJECTED,
    COG_N_OUT,
} cog_outcome;

const char *cog_outcome_name(cog_outcome o); /* "stop" */

/* Why it was rejected. */
typedef enum cog_reason {
    COG_REASON_OVERLOADED,
    COG_REASON_RATE_LIMIT,
    COG_REASON_DRAINING,
    COG_REASON_LOADING,
    COG_REASON_BAD_IMAGE,
    COG_REASON_CONTEXT,
    COG_REASON_INVALID,
    COG_N_REASONS,
    COG_REASON_NONE = COG_N_REASONS, /* that error is no rejection */
} cog_reason;

const char *cog_reason_name(cog_reason r); /* "bad_image" */
cog_reason cog_reason_of(cog_api_code code);

/* The tokens of one choice. */
typedef struct cog_pace {
    uint64_t last_ns;
    int n_tokens;
} cog_pace;

typedef enum cog_method {
    COG_METHOD_GET,
    COG_METHOD_HEAD,
    COG_METHOD_POST,
    COG_METHOD_OPTIONS,
    COG_METHOD_PUT,
    COG_METHOD_DELETE,
    COG_METHOD_OTHER,
    COG_N_METHODS,
} cog_method;

const char *cog_method_name(cog_method m); /* "GET" */

enum { COG_NOTE_SIZE = 65 };

typedef struct cog_record {
    cog_method method;
    char trace_id[33];
    char objective[COG_NOTE_SIZE], fairness[COG_NOTE_SIZE]; /* visible ASCII; "": none */
    int n_retries;

    bool is_work;       /* a request for an answer, not a probe or a question about the server */
    bool has_left;      /* the client closed the connection before it had everything */
    bool is_finished;   /* the client has had the whole answer */
    bool is_submitted;  /* the engine took it */
    cog_at at, left_at; /* left_at: where it was when the client left */
    uint64_t begin_ns;  /* the last byte of the request came */
    uint64_t since_ns, done_ns; /* since it is there; when the connection was done with it */
    uint64_t ns[COG_N_AT];      /* spent in each place left */
    uint64_t decode_ns;         /* when its picture's turn came; 0: it has not */
    cog_api_code error;         /* the first that was answered */

    int n_images, image_format; /* image_format: a cog_image_format, -1 when it is not known */
    size_t image_bytes;
    uint64_t image_pixels; /* 0 unless it was decoded */

    int n, max_tokens, most_tokens; /* choices; per choice: asked for, and the longest answer */
    char user[9];                   /* of the digest of the request's user */
    bool is_length;                 /* a choice was cut at its limit */
    bool has_usage;
    cog_usage usage;
    uint64_t first_ns, last_ns; /* tokens came */
    uint64_t written_ns;        /* the first bytes after the first token were taken */
    uint64_t gap_ns, n_gaps;    /* between the tokens of a choice, over all choices */
} cog_record;

void cog_record_init(cog_record *r);

/* Takes over from the head what is worth noting; what is not sane is dropped. */
void cog_record_head(cog_record *r, const cog_head *h);

void cog_record_enter(cog_record *r, cog_at at);

/* Where it is now. In the engine it is COG_AT_ENGINE: which of its stages, the engine knows. */
cog_at cog_record_at(const cog_record *r);

/* The picture's file is there: what its first bytes say it is. */
void cog_record_picture(cog_record *r, const uint8_t *bytes, size_t len);

/* A token, or several at once, of a choice came. Returns the time since the last one of this choice
 * in nanoseconds, 0 for the first. */
uint64_t cog_record_token(cog_record *r, cog_pace *pace, int n_tokens);

/* The engine's END: its stages are known, and the request is in COG_AT_WRITE. */
void cog_record_usage(cog_record *r, const cog_usage *usage);

/* What the client is told about its request; the engine has ended it well, with one choice. */
void cog_record_measure(cog_answer_metrics *out, const cog_record *r);

void cog_record_left(cog_record *r);

/* The connection is done; the rest of the exchange may still be cancelled. */
void cog_record_done(cog_record *r, bool is_finished);

/* Nothing runs any more: closes the last stage. */
void cog_record_close(cog_record *r);

/* Of a closed record. */
cog_outcome cog_record_outcome(const cog_record *r);

#endif
