#include "engine/sequence.h"

#include "base/alloc.h"
#include "engine/sampler.h"

#include <string.h>

static void sequence_init(cog_sequence *q, cog_job *j, int max_tokens, int block)
{
    const cog_request *r = j->req;

    q->job = j;
    q->tokens = cog_array(int32_t, (size_t)max_tokens);
    memcpy(q->tokens, r->prompt.tokens, (size_t)r->prompt.n_tokens * sizeof(int32_t));
    q->sched.n_tokens = r->prompt.n_tokens;
    q->sched.n_found = -1;
    q->sched.tenant = r->tenant;
    q->sched.item.priority = r->priority;
    if (j->picture) {
        q->sched.picture = &j->picture->sched;
        q->sched.n_visual = 1 + r->prompt.n_image_tokens;
        q->sched.pin = r->pin;
    }
    cog_block_table_init(&q->sched.table, (max_tokens + block - 1) / block);
}

static void answer_init(cog_sequence *q, int choice)
{
    const cog_request *r = q->job->req;

    q->choice = choice;
    cog_stops_init(&q->stops, r->stop, r->n_stop);
    q->stops.keeps = r->keep_stop;
    q->detok.shows_controls = r->show_controls;
    q->detok.started = r->continues_prompt;
    q->constraint.continues = r->continues_prompt;
}

/* Row i tells how likely token i + 1 is; the last one's is for the answer. */
static void show_prompt(cog_sequence *q)
{
    const cog_prompt *p = &q->job->req->prompt;

    q->sched.shown_from = p->n_image_tokens;
    q->sched.shown_to = p->n_tokens - 1;
}

cog_job *cog_job_new(cog_request *req, cog_vision_picture *picture, int block,
                     const cog_sha256 *salt, uint64_t order, uint64_t arrived_ns)
{
    cog_job *j = cog_new(cog_job);

    j->req = req;
    j->picture = picture;
    j->stage = -1;
    j->n_seqs = cog_sampling_is_greedy(&req->sampling) ? 1 : req->n;
    j->n_scoring = req->n_candidates;
    j->n_live = j->n_seqs + j->n_scoring;
    j->last_late = &j->late;
    j->seq = cog_array(cog_sequence, (size_t)j->n_seqs);
    j->scorer = cog_array(cog_sequence, (size_t)j->n_scoring);
    for (int i = 0; i < j->n_live; i++) {
        const cog_candidate *c = i < j->n_seqs ? NULL : &req->candidate[i - j->n_seqs];
        int max_tokens = req->prompt.n_tokens + (c ? c->n : req->max_tokens);
        cog_sequence *q = c ? &j->scorer[i - j->n_seqs] : &j->seq[i];
        sequence_init(q, j, max_tokens, block);
        q->candidate = c;
        if (!c)
            answer_init(q, i);
        q->sched.item.order = order;
        q->sched.item.arrived_ns = arrived_ns;
        if (salt)
            cog_prefix_chain_init(&q->sched.chain, q->tokens, max_tokens, block, salt,
                                  q->sched.n_visual, picture ? &picture->hash : NULL);
    }
    if (req->score_prompt)
        show_prompt(&j->seq[0]);
    return j;
}

void cog_job_set_ends(cog_job *j, const int32_t *eos, int n_eos)
{
    const cog_request *r = j->req;

    j->n_eos = n_eos;
    j->n_end_tokens = n_eos + r->n_stop_tokens;
    j->end_token = cog_array(int32_t, (size_t)j->n_end_tokens + 1);
    memcpy(j->end_token, eos, (size_t)n_eos * sizeof(int32_t));
    memcpy(j->end_token + n_eos, r->stop_token, (size_t)r->n_stop_tokens * sizeof(int32_t));
}

static void sequence_fini(cog_sequence *q)
{
    cog_free(q->tokens);
    cog_block_table_fini(&q->sched.table);
    cog_prefix_chain_fini(&q->sched.chain);
    cog_detokenizer_fini(&q->detok);
    cog_stops_fini(&q->stops);
    cog_buf_fini(&q->text);
    cog_free(q->held);
}

void cog_job_free(cog_job *j)
{
    for (int i = 0; i < j->n_seqs; i++)
        sequence_fini(&j->seq[i]);
    for (int i = 0; i < j->req->n_candidates; i++)
        sequence_fini(&j->scorer[i]);
    for (cog_event *ev = j->late, *next; ev; ev = next) {
        next = (cog_event *)ev->link.next;
        cog_event_free(ev);
    }
    cog_free(j->seq);
    cog_free(j->scorer);
    cog_free(j->end_token);
    cog_request_free(j->req);
    cog_free(j);
}

static bool is_one_of(int32_t token, const int32_t *list, int n)
{
    for (int i = 0; i < n; i++)
        if (token == list[i])
            return true;
    return false;
}

/* Whether the token itself ends the answer, and how. */
static bool is_end(cog_step_result *r, const cog_job *j, int32_t token)
{
    if (!j->req->ignore_eos && is_one_of(token, j->end_token, j->n_eos))
        return true;
    if (!is_one_of(token, j->end_token + j->n_eos, j->n_end_tokens - j->n_eos))
        return false;
    r->stop_token = token;
    return true;
}

static void hold(cog_sequence *q, const cog_scored_token *scored, bool is_first)
{
    if (q->n_held == q->max_held) {
        q->max_held = 2 * q->max_held + 4;
        q->held = cog_realloc(q->held, (size_t)q->max_held, sizeof(q->held[0]));
    }
    q->held[q->n_held] = *scored;
    q->held[q->n_held].at = q->n_decoded;
    q->held[q->n_held++].is_first = is_first;
}

/* The text of a token; what is not a whole character yet waits. */
static void decode(cog_sequence *q, cog_buf *fresh, int32_t token, const cog_tokenizer *t,
                   const cog_scored_token *scored)
{
    size_t pending = q->detok.pending.len;
    bool is_first = !q->detok.started;

    cog_detokenizer_push(&q->detok, fresh, t, token);
    if (scored && (fresh->len > 0 || q->detok.pending.len != pending))
        hold(q, scored, is_first);
}

cog_scored_token *cog_sequence_take_scored(cog_sequence *q, int *n)
{
    cog_scored_token *out;
    int ready = 0;

    while (ready < q->n_held && q->held[ready].at < q->n_out)
        ready++;
    *n = ready;
    if (ready == 0)
        return NULL;
    out = cog_array(cog_scored_token, (size_t)ready);
    memcpy(out, q->held, (size_t)ready * sizeof(out[0]));
    q->n_held -= ready;
    memmove(q->held, q->held + ready, (size_t)q->n_held * sizeof(q->held[0]));
    return out;
}

cog_step_result cog_sequence_push(cog_sequence *q, int32_t token, const cog_tokenizer *t,
                                  const cog_scored_token *scored)
{
    cog_step_result r = { .stop = -1, .stop_token = -1 };
    const cog_request *req = q->job->req;
    int n_output = q->sched.n_tokens + 1 - req->prompt.n_tokens;
    cog_buf fresh = { 0 };

    cog_buf_clear(&q->text);
    q->tokens[q->sched.n_tokens++] = token;
    r.finished = is_end(&r, q->job, token);
    if (!r.finished || req->keep_stop)
        decode(q, &fresh, token, t, scored);
    if (!r.finished && n_output == req->max_tokens) {
        r.finished = true;
        r.finish = COG_FINISH_LENGTH;
    }
    if (r.finished)
        cog_detokenizer_finish(&q->detok, &fresh);
    q->n_decoded += fresh.len;
    q->stops.is_off = n_output <= req->min_tokens;
    if (cog_stops_push(&q->stops, &q->text, fresh.data, fresh.len))
        r = (cog_step_result){
            .finished = true, .finish = COG_FINISH_STOP, .stop = q->stops.hit, .stop_token = -1
        };
    else if (r.finished)
        cog_stops_finish(&q->stops, &q->text);
    q->n_out += q->text.len;
    cog_buf_fini(&fresh);
    q->finished = r.finished;
    return r;
}
