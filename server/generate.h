/* generate.h - the life of a request for text, from a complete body to a complete answer: what the
 * routes that ask the engine have in common.
 *
 *     begin -> worker: understand, read an inline picture -> admit
 *           -> [[fetch -> pool: read | pool: read] -> decoder] -> submit -> events -> END
 *
 * What is special about a route, what its body means and how its answer looks, is a table of
 * functions (cog_generate_form). The stages on other threads touch the job, the body and immutable
 * facts only; between them and after them the loop thread looks whether the client is still there.
 * Everything that can be refused without decoding the picture is refused before it. */
#ifndef COG_SERVER_GENERATE_H
#define COG_SERVER_GENERATE_H

#include "proto/chat.h"
#include "proto/chat_write.h"
#include "server/chat_prompt.h"
#include "server/internal.h"
#include "server/picture/decoder.h"
#include "server/picture/source.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

typedef struct cog_generate_job cog_generate_job;

/* One route's part. */
typedef struct cog_generate_form {
    size_t size; /* of the route's job, whose first member is a cog_generate_job */

    /* Worker, once; the engine is ready. Reads the body and sets what the job has from it (below).
     * COG_EINVAL and the like: j->err says why. */
    int (*understand)(cog_generate_job *j);
    /* Loop. The body goes: lets go of all that points into it, but for what an error says about the
     * picture. */
    void (*release)(cog_generate_job *j);
    /* Loop, once, whatever happened before. */
    void (*fini)(cog_generate_job *j);

    /* Loop: the answer in one piece. */
    void (*write)(cog_buf *out, const cog_chat_head *head, const cog_chat_choice *choices, int n,
                  const cog_chat_usage *usage);
    /* Loop: the answer as a stream, each adds whole events. role comes first for each choice, text
     * as often as it grows, finish last; end when all are finished. */
    void (*stream_init)(cog_chat_stream *st, const cog_chat_head *head, bool include_usage,
                        bool continuous_usage);
    void (*stream_role)(cog_buf *out, const cog_chat_stream *st, int choice,
                        const cog_chat_usage *usage);
    void (*stream_text)(cog_buf *out, const cog_chat_stream *st, int choice, const char *text,
                        size_t len, const cog_chat_usage *usage);
    void (*stream_finish)(cog_buf *out, const cog_chat_stream *st, int choice, const char *finish,
                          const char *stop_reason, const cog_chat_usage *usage);
    void (*stream_end)(cog_buf *out, const cog_chat_stream *st, const cog_chat_usage *usage);
} cog_generate_form;

/* Owned by its exchange, as x->job. */
struct cog_generate_job {
    cog_exchange *x;
    const cog_generate_form *form;
    cog_work parsing;
    uv_work_t work;
    bool is_working;          /* in the pool */
    atomic_bool is_abandoned; /* read by other threads: do not start what nobody waits for */
    char nonce[COG_NONCE_SIZE];
    cog_api_error err;

    /* Set by understand. */
    cog_request *request;      /* owned until the engine takes it */
    int n;                     /* choices */
    char *stop[COG_MAX_STOPS]; /* owned; for stop_reason */
    int n_stop;
    bool stream, include_usage, continuous_usage;
    bool has_metrics;         /* the answer has them */
    const char *request_id;   /* from the body, checked; the route's. NULL: none */
    cog_buf ignored;          /* for x-ignored-parameters */
    cog_chat_choice *choices; /* n of them */
    cog_pace *pace;           /* n of them */
    cog_chat_usage usage;

    /* The picture. The route's, until fini; NULL: there is none. */
    const cog_chat_picture *picture;
    cog_picture_source source;
    bool is_read; /* for better or worse: read_err */
    cog_api_error read_err;
    bool is_fetching;
    cog_decode decode;

    /* The answer. */
    uint64_t id; /* the engine's */
    bool is_submitted;
    cog_chat_stream writer;
    bool has_roles;
    cog_chat_metrics metrics;
};

/* The request is complete. What cannot be taken is refused before any work: refusals must be quick
 * when there is too much of it. */
void cog_generate_begin(cog_exchange *x, const cog_generate_form *form);
void cog_generate_cancel(cog_exchange *x);
void cog_generate_fini(cog_exchange *x);

/* Worker, for understand: what a body says beside its prompt, which j->request has already. Sets
 * the rest of the request and the job's part. */
int cog_generate_take_params(cog_generate_job *j, const cog_params *p, int64_t max_tokens);

/* ------------------------------------------------------------------ between its own files */

/* generate.c. Loop. A stage on another thread begins, which keeps the exchange and the server; it
 * has ended: true when the request goes on, else it was answered or nobody waits; and the last word
 * of it. */
void cog_generate_hold(cog_generate_job *j);
bool cog_generate_end_work(cog_generate_job *j);
void cog_generate_let_go(cog_exchange *x);
/* The same question without a stage that ended. */
bool cog_generate_goes_on(cog_generate_job *j);
/* Everything is there: hands the request to the engine. */
void cog_generate_submit(cog_generate_job *j);

/* generate_picture.c. Any thread: the picture's file, into memory where it can be decoded; the
 * result is j->read_err. Nothing looks into it. */
void cog_generate_read_picture(cog_generate_job *j);
/* Loop. The request is admitted: brings its picture, if it was not read yet, has it decoded, and
 * submits. */
void cog_generate_start_picture(cog_generate_job *j);
/* Loop. Stops what is under way. */
void cog_generate_cancel_picture(cog_generate_job *j);

/* generate_events.c. Loop. An event of the engine for this exchange's request. */
void cog_generate_on_event(cog_exchange *x, const cog_event *ev);

#endif
