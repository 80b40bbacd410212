#include "engine/core.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/logprob.h"
#include "engine/tally.h"

#include <string.h>

/* Of pictures at a time, even if nobody streams: messages are to be read. */
enum { MAX_SLICE_NS = 50000000 };

/* ------------------------------------------------------------------ tokens */

/* Reports what one token did; a greedy job reports it for each of its equal answers. */
static void report(cog_engine *e, cog_sequence *q, cog_step_result r)
{
    cog_job *j = q->job;
    int last = j->n_seqs == 1 ? j->req->n - 1 : q->choice, n_scored;
    cog_scored_token *scored = cog_sequence_take_scored(q, &n_scored);

    for (int c = q->choice; c <= last; c++) {
        cog_event *ev = cog_core_event(COG_EVENT_TEXT, j);
        if (scored) {
            ev->scored = cog_array(cog_scored_token, (size_t)n_scored);
            memcpy(ev->scored, scored, (size_t)n_scored * sizeof(scored[0]));
            ev->n_scored = n_scored;
        }
        ev->choice = c;
        ev->text = cog_strndup(q->text.data ? q->text.data : "", q->text.len);
        ev->text_len = q->text.len;
        ev->n_tokens = 1;
        cog_core_post(e, ev);
        j->completion_tokens++;
        if (r.finished) {
            ev = cog_core_event(COG_EVENT_FINISH, j);
            ev->choice = c;
            ev->finish = r.finish;
            ev->stop = r.stop;
            ev->stop_token = r.stop_token;
            cog_core_post(e, ev);
        }
    }
    cog_free(scored);
}

/* What the request's grammar leaves for the sequence's next token; NULL: everything, also when it
 * cannot be followed any more, which ends the job after the step. */
static const uint64_t *find_mask(cog_engine *e, cog_sequence *q)
{
    int n_prompt = q->job->req->prompt.n_tokens, rc;
    const uint64_t *mask = NULL;

    if (!q->job->matcher || q->job->failed)
        return NULL;
    rc = cog_constraint_mask(&mask, &q->constraint, e->constraints, q->job->matcher,
                             q->tokens + n_prompt, q->sched.n_tokens - n_prompt);
    if (rc < 0)
        q->job->failed = rc;
    return mask;
}

/* An end that comes too early is not drawn, unless there is nothing else. */
static bool is_end_masked(const cog_engine *e, const cog_sequence *q, int n_output,
                          const uint64_t *only)
{
    const cog_job *j = q->job;

    return n_output < j->req->min_tokens &&
           (!only ||
            cog_constraint_has_other(only, e->loaded.info.vocab, j->end_token, j->n_end_tokens));
}

static void add_draw(cog_engine *e, cog_sequence *q, int row)
{
    const cog_request *req = q->job->req;
    int n_prompt = req->prompt.n_tokens, n_skip = 1 + req->prompt.n_image_tokens;
    int n_output = q->sched.n_tokens - n_prompt;
    const uint64_t *only = find_mask(e, q);

    e->draw[e->batcher.batch.n_draws++] = (cog_draw){
        .row = row,
        .params = &req->sampling,
        .context = {
            .prompt = q->tokens + n_skip,
            .n_prompt = n_prompt - n_skip,
            .output = q->tokens + n_prompt,
            .n_output = n_output,
            .masked = q->job->end_token,
            .n_masked = is_end_masked(e, q, n_output, only) ? q->job->n_end_tokens : 0,
            .only = only,
            .choice = q->choice,
        },
    };
}

/* The prompt's logits are the first row of every answer: each sequence draws its own first token
 * from them. */
static void build_draws(cog_engine *e)
{
    cog_batch *b = &e->batcher.batch;

    b->draw = e->draw;
    b->n_draws = 0;
    cog_constraints_tidy(e->constraints);
    for (int i = 0; i < b->n_logits; i++) {
        cog_sequence *q = e->batcher.sample[i];
        for (int c = 1; !q->job->has_forked && c < q->job->n_seqs; c++)
            add_draw(e, &q->job->seq[c], i);
        add_draw(e, q, i);
    }
}

/* Appends the token that the sequence drew, -1 when it could not. e->row has the logits when the
 * request asks for log-probabilities. */
static int advance(cog_engine *e, cog_sequence *q, int32_t token)
{
    const cog_request *req = q->job->req;
    cog_scored_token scored;
    cog_step_result r;

    if (token < 0)
        return COG_EDEVICE;
    if (q->job->stage != COG_STAGE_DECODE) {
        cog_tally_enter(&e->counts, q->job, COG_STAGE_DECODE, cog_now_ns());
        e->counts.prompt_tokens += (uint64_t)q->job->req->prompt.n_tokens;
    }
    if (req->logprobs)
        cog_logprob_score(&scored, e->row, e->loaded.model->cfg.vocab, token, req->n_top);
    r = cog_sequence_push(q, token, e->loaded.tokenizer, req->logprobs ? &scored : NULL);
    report(e, q, r);
    if (r.finished)
        q->job->n_live--;
    e->counts.tokens++;
    return 0;
}

/* Each other answer goes on with the prompt's pages. */
static int fork_job(cog_engine *e, cog_job *j, const int32_t *token)
{
    int rc = 0;

    j->has_forked = true;
    for (int i = 1; rc == 0 && i < j->n_seqs; i++) {
        rc = advance(e, &j->seq[i], token[i - 1]);
        if (rc == 0 && !j->seq[i].finished)
            cog_scheduler_fork(&e->sched, &j->seq[i].sched, &j->seq[0].sched);
    }
    return rc;
}

/* Takes the tokens drawn from one row, in the order of build_draws; returns how many, or a device's
 * error. */
static int take_tokens(cog_engine *e, int row, const int32_t *token)
{
    const cog_model *m = e->loaded.model;
    cog_sequence *q = e->batcher.sample[row];
    cog_job *j = q->job;
    int n = j->has_forked ? 1 : j->n_seqs;
    int rc = j->req->logprobs ? m->ops->logits_row(m->be, e->row, row) : 0;

    if (rc < 0)
        return rc;
    if (!j->failed && !j->has_forked)
        j->failed = fork_job(e, j, token);
    if (!j->failed)
        j->failed = advance(e, q, token[n - 1]);
    if (q->finished)
        cog_scheduler_remove(&e->sched, &q->sched);
    return n;
}

static int show_logits(cog_engine *e)
{
    const cog_model *m = e->loaded.model;
    const cog_batch *b = &e->batcher.batch;
    int rc = m->ops->logits_read(m->be, e->logits);

    if (rc < 0)
        return rc;
    for (int i = 0; i < b->n_logits; i++) {
        const cog_sequence *q = e->batcher.sample[i];
        for (const cog_draw *d = b->draw; d < b->draw + b->n_draws; d++)
            if (d->row == i)
                e->cfg.on_logits(e->cfg.on_logits_arg, q->job->req->id, d->context.choice,
                                 d->context.n_output, e->logits + (size_t)i * (size_t)m->cfg.vocab,
                                 m->cfg.vocab);
    }
    return 0;
}

/* Jobs end here and not while rows of logits are handed out: several rows may be of one job. */
static void end_finished_jobs(cog_engine *e)
{
    for (cog_job *j = e->jobs, *next; j; j = next) {
        next = j->next;
        if (j->failed == COG_ELIMIT) {
            cog_core_end(e, j, j->failed, "the grammar became too ambiguous");
        } else if (j->failed) {
            cog_log(COG_ERROR, "event=bad_logits prompt_tokens=%d", j->req->prompt.n_tokens);
            cog_core_end(e, j, j->failed, "the model produced no finite logits");
        } else if (j->n_live == 0) {
            cog_core_end(e, j, 0, NULL);
        }
    }
}

/* ------------------------------------------------------------------ steps */

static int copy_pages(cog_engine *e)
{
    const cog_model *m = e->loaded.model;
    int rc = 0;

    for (int i = 0; rc == 0 && i < e->plan.n_copies; i++) {
        const cog_page_copy *c = &e->plan.copy[i];
        rc = m->ops->kv_copy(m->be, c->dst, c->src, c->n_slots);
    }
    return rc;
}

static int compute(cog_engine *e)
{
    const cog_batch *b = &e->batcher.batch;
    int rc = copy_pages(e);

    if (rc < 0)
        return rc;
    cog_batcher_build(&e->batcher, &e->plan);
    build_draws(e);
    cog_alloc_guard_begin("a step");
    rc = cog_forward_step(e->forward, b, e->token);
    cog_alloc_guard_end();
    if (rc == 0 && e->logits && b->n_logits > 0)
        rc = show_logits(e);
    return rc;
}

static int run_step(cog_engine *e, int n_streams)
{
    const cog_batch *b = &e->batcher.batch;
    /* in a lane of its own the slice is beside the step, and shows in what that takes */
    uint64_t now = cog_now_ns(), slice_ns = e->vision.is_busy ? 0 : e->vision.slice_ns;
    int rc;

    cog_scheduler_plan(&e->sched, &e->plan, now, cog_pace_rows(e->pace, n_streams, slice_ns));
    e->is_idle = e->plan.rows == 0;
    if (e->is_idle)
        return copy_pages(e);
    for (int i = 0; i < e->plan.n_run; i++)
        cog_core_schedule(e, ((cog_sequence *)e->plan.run[i])->job, now);
    rc = compute(e);
    if (rc < 0)
        return rc;
    cog_pace_observe(e->pace, e->plan.decode_rows, e->plan.rows - e->plan.decode_rows,
                     cog_now_ns() - now);
    cog_tally_step(&e->counts, &e->plan, b);
    cog_scheduler_commit(&e->sched, &e->plan);
    for (int i = 0, at = 0; i < b->n_logits; i++) {
        rc = take_tokens(e, i, e->token + at);
        if (rc < 0)
            return rc;
        at += rc;
    }
    end_finished_jobs(e);
    return 0;
}

int cog_core_work(cog_engine *e)
{
    int n_streams, n_prompt, rc;
    uint64_t slice_ns;

    cog_scheduler_load(&e->sched, &n_streams, &n_prompt);
    slice_ns = cog_pace_vision_ns(e->pace, n_streams, n_prompt);
    rc = cog_vision_work(&e->vision, &e->sched, cog_now_ns(),
                         slice_ns < MAX_SLICE_NS ? slice_ns : MAX_SLICE_NS);
    cog_core_look_at_stages(e);
    return rc == 0 && e->jobs ? run_step(e, n_streams) : rc;
}
