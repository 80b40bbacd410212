/* sequence.h - requests in flight: a job is one accepted request, a sequence one of its answers.
 * Engine thread only.
 *
 *   job ── sequence[0] (computes the prompt), sequence[1..] (share its pages from the first token
 *    │     on), and so does one for each candidate, whose tokens are given instead of drawn
 *    └──── picture (counted, shared with other jobs) */
#ifndef COG_ENGINE_SEQUENCE_H
#define COG_ENGINE_SEQUENCE_H

#include "engine/constraint.h"
#include "engine/engine.h"
#include "engine/scheduler.h"
#include "engine/stops.h"
#include "engine/tokenizer.h"
#include "engine/vision.h"

#include <stdbool.h>

typedef struct cog_job cog_job;

typedef struct cog_sequence {
    cog_sched_seq sched; /* what the scheduler sees; first member */
    cog_job *job;
    int choice;
    int32_t *tokens;                /* [n_prompt + max_tokens], sched.n_tokens of them known */
    const cog_candidate *candidate; /* it is of this one; NULL: an answer */
    double score;                   /* of what is known of the candidate, natural logarithm */
    cog_detokenizer detok;
    cog_stops stops;
    cog_constraint constraint;
    cog_buf text; /* scratch of one token's text */
    bool finished;
    /* Log-probabilities: tokens whose text is not out, in order. */
    cog_scored_token *held;
    int n_held, max_held;
    size_t n_decoded, n_out; /* bytes of text so far: before the search for stop strings, after */
} cog_sequence;

struct cog_job {
    cog_job *prev, *next;
    cog_request *req;            /* owned */
    cog_vision_picture *picture; /* a reference, or NULL */
    cog_matcher *matcher;        /* of the request's grammar, taken; or NULL */
    cog_sequence *seq;           /* [n_seqs], owned */
    int n_seqs;           /* req->n, or 1 when sampling is greedy and all answers are equal */
    cog_sequence *scorer; /* [req->n_candidates], owned */
    int n_scoring;        /* of them, not finished */
    cog_event *late, **last_late; /* FINISH events that wait for the candidates; owned */
    int n_live;                   /* sequences not finished, candidates among them */
    int failed;                   /* COG_E... that ends it after this step, or 0 */
    bool is_first_sender;         /* its picture was not there before */
    bool is_scheduled;            /* had rows in some step */
    bool has_forked;              /* the prompt's logits gave every sequence its first token */
    int stage;                    /* cog_engine_stage, or -1 */
    uint64_t stage_began_ns;
    uint64_t stage_ns[COG_N_STAGES]; /* spent in those it has left */
    int completion_tokens;
    int32_t *end_token;      /* [n_end_tokens], owned: the model's end tokens, then the request's */
    int n_end_tokens, n_eos; /* n_eos: the model's */
};

/* Takes req. Sequences are idle; the prompt's tokens stand in each. salt: of the pages that they
 * take from the cache and leave there; NULL: they do neither. */
cog_job *cog_job_new(cog_request *req, cog_vision_picture *picture, int block,
                     const cog_sha256 *salt, uint64_t order, uint64_t arrived_ns);
/* eos: the model's end tokens; before the first token. */
void cog_job_set_ends(cog_job *j, const int32_t *eos, int n_eos);
void cog_job_free(
    cog_job *j); /* the sequences are idle and the picture's reference was given back */

/* The sequence's position in its prompt and answer, as routes and rotary positions need it. */
static inline bool cog_sequence_has_image(const cog_sequence *q)
{
    return q->job->req->prompt.n_image_tokens > 0;
}

/* What one token did to the answer. */
typedef struct cog_step_result {
    bool finished;
    cog_finish finish;
    int stop;           /* index of the stop string, or -1 */
    int32_t stop_token; /* the request's stop token, or -1 */
} cog_step_result;

/* Appends the token; q->text then holds the text that became certain. scored: its likelihood, or
 * NULL when nobody asked. */
cog_step_result cog_sequence_push(cog_sequence *q, int32_t token, const cog_tokenizer *t,
                                  const cog_scored_token *scored);

/* The tokens whose first text is out, the caller's, and no longer held; NULL: none. */
cog_scored_token *cog_sequence_take_scored(cog_sequence *q, int *n);

#endif
