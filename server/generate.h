/* generate.h - the life of a request for text, from a complete body to a complete answer: what the
 * routes that ask the engine have in common.
 *
 *     begin -> worker: understand, read an inline picture -> admit
 *           -> [[fetch -> pool: read | pool: read] -> decoder] -> submit -> events -> END
 *
 * What is special about a route, what its body means and how its answer looks, is a table of
 * functions (cog_generate_form). A body may ask for several answers with prompts of their own: each
 * is a request of the engine with an END of its own. They are admitted together and cancelled
 * together, and the answer is complete when all have ended well. Conversations that have nothing in
 * common but a body are parts, jobs of their own from their pictures to their ENDs: what fails one
 * is told in its choice.
 *
 * The stages on other threads touch the job, the body and immutable
 * facts only; between them and after them the loop thread looks whether the client is still there.
 * Everything that can be refused without decoding the picture is refused before it. */
#ifndef COG_SERVER_GENERATE_H
#define COG_SERVER_GENERATE_H

#include "proto/chat.h"
#include "proto/answer_write.h"
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
    size_t size;      /* of the route's job, whose first member is a cog_generate_job */
    bool has_columns; /* of log-probabilities: those of completions, instead of entries */

    /* Worker, once; the engine is ready. Reads the body and sets what the job has from it (below).
     * COG_EINVAL and the like: j->err says why. */
    int (*understand)(cog_generate_job *j);
    /* Loop. The body goes: lets go of all that points into it, but for what an error says about the
     * picture. */
    void (*release)(cog_generate_job *j);
    /* Loop, once, whatever happened before. */
    void (*fini)(cog_generate_job *j);

    /* Loop: the answer in one piece. */
    void (*write)(cog_buf *out, const cog_answer_head *head, const cog_answer_choice *choices,
                  int n, const cog_answer_usage *usage);
    /* Loop: the answer as a stream, each adds whole events. role, where there is
     * one, comes first for each choice, text as often as it grows, finish last. */
    void (*stream_init)(cog_answer_stream *st, const cog_answer_head *head, bool include_usage,
                        bool continuous_usage);
    void (*stream_role)(cog_buf *out, cog_answer_stream *st, int choice,
                        const cog_answer_usage *usage);
    void (*stream_text)(cog_buf *out, cog_answer_stream *st, int choice, const cog_answer_delta *d,
                        const cog_answer_usage *usage);
    void (*stream_finish)(cog_buf *out, cog_answer_stream *st, int choice,
                          const cog_answer_choice *finished, const cog_answer_usage *usage);
    /* NULL: cog_answer_stream_end. */
    void (*stream_end)(cog_buf *out, cog_answer_stream *st, const cog_answer_choice *choices,
                       const cog_answer_usage *usage);
    bool
        ends_whole; /* finish and end of a stream repeat the text and what was told of its tokens */
} cog_generate_form;

/* A picture on its way into its request. */
typedef struct cog_generate_picture {
    const cog_chat_picture *asked; /* the route's, until fini */
    cog_picture_source source;
    uv_work_t work;
    bool is_working; /* in the pool */
    bool is_fetching;
    bool is_read; /* for better or worse: read_err */
    cog_api_error read_err;
    cog_decode decode;
} cog_generate_picture;

/* Owned by its exchange, as x->job. */
struct cog_generate_job {
    cog_exchange *x;
    const cog_generate_form *form;
    cog_work parsing;
    atomic_bool is_abandoned; /* read by other threads: do not start what nobody waits for */
    char nonce[COG_NONCE_SIZE];
    cog_api_error err;

    /* Set by understand. Each of the requests has n choices; they are numbered through. */
    cog_request **requests; /* [n_requests], owned; each NULL once the engine took it */
    int n_requests, n;
    int64_t wanted;            /* the output limit as asked for; 0: not asked */
    bool is_known;             /* nothing is to be computed: the choices are what they are */
    char *stop[COG_MAX_STOPS]; /* owned; for stop_reason */
    int n_stop;
    bool stream, include_usage, continuous_usage;
    bool has_metrics;  /* the answer has them */
    bool has_logprobs; /* and these */
    int n_prompt_top;  /* of the prompt's tokens' likeliest, so many are told; below 0: nothing */
    int n_echo_top;    /* the same in the columns of completions that repeat their prompt */
    cog_buf *prompt_logprobs; /* [n_requests], owned, lists (logprob_write.h); NULL: nothing yet */
    size_t *prompt_chars;     /* [n_requests], owned: characters of prompts in columns */
    cog_buf *prompt_ids;      /* [n_requests], owned: lists; NULL: not asked for */
    char **candidate; /* [n_candidates], owned: the texts whose probability is told; none: 0 */
    int n_candidates;
    double **candidate_logprobs; /* [n_requests] of [n_candidates], owned; NULL until they come */
    const char *request_id;      /* from the body, checked; the route's. NULL: none */
    cog_buf ignored;             /* for x-ignored-parameters */
    cog_buf echo;                /* what the answer repeats; the route's form knows how */
    cog_grounding_view boxes;    /* how to tell them; the size is known when the picture is */
    cog_answer_choice *choices;  /* [n_requests * n]; a text they have already begins the answer */
    cog_pace *pace;              /* [n_requests * n] */
    cog_answer_usage usage;

    /* Set by understand. NULL: there is none, or its request has it. */
    cog_generate_picture *picture;

    /* Several parts in one body: this is a part, */
    cog_generate_job *whole; /* of that; NULL: of none */
    int index;
    bool is_over;     /* its choice is decided */
    bool is_released; /* it needs the body no more */
    int image_format; /* as in cog_record */
    /* or has parts. Set by understand, which makes the choices as well. */
    cog_generate_job **parts; /* [n_parts], owned */
    int n_parts;
    bool is_understood;
    int n_open, n_held; /* parts that are not over, and not released */

    /* The answer. */
    uint64_t first_id; /* the engine's, and on, in the order of the requests */
    int n_live;        /* requests of which there was no END */
    cog_usage spent;   /* by those that ended; stages: of the last one */
    cog_answer_stream writer;
    bool has_roles;
    cog_answer_metrics metrics;
};

/* The request is complete. What cannot be taken is refused before any work: refusals must be quick
 * when there is too much of it. */
void cog_generate_begin(cog_exchange *x, const cog_generate_form *form);
void cog_generate_cancel(cog_exchange *x);
void cog_generate_fini(cog_exchange *x);
/* Time is up: parts that are over are answered, the others have an error. */
void cog_generate_expire(cog_exchange *x);

/* Worker, for understand. So many parts of that form, empty, whose j->err may be set. */
void cog_generate_make_parts(cog_generate_job *j, int n, const cog_generate_form *part);

/* Worker, for understand. First so many requests, empty. */
void cog_generate_make_requests(cog_generate_job *j, int n);
/* Then for each that has its prompt: the room for its answer; j->err when there is none. field:
 * that has the prompt, for errors; wanted: as asked for, 0: not asked. */
int cog_generate_set_length(cog_generate_job *j, cog_request *r, const char *field, int64_t wanted);
/* At last, what the body says beside: the rest of the requests, and the job's part. */
int cog_generate_take_params(cog_generate_job *j, const cog_params *p);

/* ------------------------------------------------------------------ between its own files */

/* generate.c. Loop. A stage on another thread begins, which keeps the exchange and the server; it
 * has ended: true when the request goes on, else it was answered or nobody waits; and the last word
 * of it. */
void cog_generate_hold(cog_generate_job *j);
bool cog_generate_end_work(cog_generate_job *j);
void cog_generate_let_go(cog_exchange *x);
/* The same question without a stage that ended. */
bool cog_generate_goes_on(cog_generate_job *j);
/* The body is needed no more. */
void cog_generate_release(cog_generate_job *j);
void cog_generate_enter(const cog_generate_job *j, cog_at at);
/* generate_parts.c. Loop. Nothing comes of it: an error as the answer, or in the part's choice. */
void cog_generate_fail(cog_generate_job *j, const cog_api_error *err);
void cog_generate_fail_code(cog_generate_job *j, cog_api_code code);
/* Each part begins with its picture, or fails. */
void cog_generate_start_parts(cog_generate_job *j);
/* The part has its answer. */
void cog_generate_part_done(cog_generate_job *j);
cog_generate_job *cog_generate_part_of(cog_generate_job *j, uint64_t id); /* of an engine's id */
/* generate_events.c. All parts are over: answers. */
void cog_generate_answer_parts(cog_generate_job *j);

/* Everything is there: hands the requests to the engine, all of them or none. */
void cog_generate_submit(cog_generate_job *j);

/* generate_picture.c. Worker, for understand: the request has this picture, if it is one; else
 * j->err. */
int cog_generate_set_picture(cog_generate_job *j, const cog_chat_picture *asked);
bool cog_generate_is_remote(const cog_generate_job *j); /* it has one, which is to be fetched */
bool cog_generate_is_stored(const cog_generate_job *j); /* or was uploaded */
/* Any thread: the picture's file, into memory where it can be decoded; the result is read_err.
 * Nothing looks into it. */
void cog_generate_read_picture(cog_generate_job *j);
/* Loop. A picture that was uploaded becomes the request's; false: there is none of that id, and
 * j->err says so. */
bool cog_generate_take_stored(cog_generate_job *j);
/* Loop. The request is admitted: brings its picture, if it was not read yet, has it decoded, and
 * submits. */
void cog_generate_start_picture(cog_generate_job *j);
/* Loop, once the request is understood. Stops what is under way. */
void cog_generate_cancel_picture(cog_generate_job *j);
/* Loop. Nothing comes of it any more, or nothing more; nothing is under way. */
void cog_generate_drop_picture(cog_generate_job *j);

/* generate_events.c. Loop. Nothing is to be computed. */
void cog_generate_answer_known(cog_generate_job *j);
/* generate_logprobs.c. Adds an event's tokens to those of the choice, whose text so far is without
 * the event's (proto/logprob_write.h). */
void cog_generate_add_logprobs(cog_answer_choice *c, const cog_generate_job *j,
                               const cog_event *ev);

/* Worker: the prompt of this one of the requests, which has it, is scored for either of the two. */
void cog_generate_ask_prompt(cog_generate_job *j, int of, int64_t n_prompt_top, int64_t n_echo_top);
/* Loop: the event that tells of a prompt. */
void cog_generate_on_prompt(cog_generate_job *j, const cog_event *ev);

/* generate_confidence.c. Worker: the requests ask for the probability of each of the texts; where
 * there are too many, or one has no room, for that of none. */
void cog_generate_ask_candidates(cog_generate_job *j, char *const *text, int n);
/* Loop: the event that tells them; and the choice is finished. */
void cog_generate_on_candidates(cog_generate_job *j, const cog_event *ev);
void cog_generate_write_confidence(cog_generate_job *j, int choice);

/* generate_events.c. Loop. What a stream begins with, unless it has; to be sent by the caller. */
void cog_generate_begin_stream(cog_generate_job *j);
/* generate_events.c. Loop. An event of the engine for one of this exchange's requests. */
void cog_generate_on_event(cog_exchange *x, const cog_event *ev);

#endif
