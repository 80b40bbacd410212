#include "engine/core.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/logprob.h"
#include "engine/tally.h"

#include <math.h>
#include <string.h>

/* Of pictures at a time, even if nobody streams: messages are to be read. */
enum { MAX_SLICE_NS = 50000000 };

/* ------------------------------------------------------------------ tokens */

/* A choice ends only when the candidates have been told. */
static void report_finish(cog_engine *e, cog_job *j, int choice, const cog_step_result *r)
{
    cog_event *ev = cog_core_event(COG_EVENT_FINISH, j);

    ev->choice = choice;
    ev->finish = r->finish;
    ev->stop = r->stop;
    ev->stop_token = r->stop_token;
    if (j->n_scoring == 0) {
        cog_core_post(e, ev);
        return;
    }
    *j->last_late = ev;
    j->last_late = (cog_event **)&ev->link.next;
}

/* Reports what one token did; a greedy job reports it for each of its equal answers. */
static void report(cog_engine *e, cog_sequence *q, int32_t token, cog_step_result r)
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
        ev->text = cog_strndup(cog_buf_text(&q->text), q->text.len);
        ev->text_len = q->text.len;
        ev->n_tokens = 1;
        ev->token = token;
        cog_core_post(e, ev);
        j->completion_tokens++;
        if (r.finished)
            report_finish(e, j, c, &r);
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
        if (e->batcher.scores[i] >= 0 || q->candidate || q->job->req->max_tokens == 0)
            continue;
        for (int c = 1; !q->job->has_forked && c < q->job->n_seqs; c++)
            add_draw(e, &q->job->seq[c], i);
        add_draw(e, q, i);
    }
}

static int read_row(cog_engine *e, int row)
{
    const cog_model *m = e->loaded.model;

    return m->ops->logits_row(m->be, e->row, row);
}

/* ------------------------------------------------------------------ scores */

/* Reports the rows from this one on that tell of their sequence's prompt; returns how many, or a
 * device's error. */
static int take_prompt(cog_engine *e, int first)
{
    cog_sequence *q = e->batcher.sample[first];
    cog_event *ev = cog_core_event(COG_EVENT_PROMPT, q->job);
    int n = 0;

    ev->first = e->batcher.scores[first];
    ev->scored = cog_array(cog_scored_token, (size_t)e->batcher.batch.n_logits);
    for (int i = first; i < e->batcher.batch.n_logits; i++, n++) {
        int at = e->batcher.scores[i];
        int rc = at >= 0 && e->batcher.sample[i] == q ? read_row(e, i) : 1;
        if (rc < 0) {
            cog_event_free(ev);
            return rc;
        }
        if (rc > 0)
            break;
        cog_logprob_score(&ev->scored[n], e->row, e->loaded.model->cfg.vocab, q->tokens[at],
                          q->job->req->n_prompt_top);
        if (isnan(ev->scored[n].self.logprob))
            q->job->failed = COG_EDEVICE;
    }
    ev->n_scored = n;
    if (q->job->failed)
        cog_event_free(ev);
    else
        cog_core_post(e, ev);
    return n;
}

/* How likely it is that an answer ends here. */
static double score_end(const cog_engine *e, const cog_logprob_row *row)
{
    const cog_engine_info *info = &e->loaded.info;
    double sum = 0;

    for (int i = 0; i < info->n_eos; i++)
        sum += exp((double)cog_logprob_of(row, e->row[info->eos[i]]));
    return log(sum);
}

/* e->row has the logits, as row says, for the candidate's next token, or its end. */
static int advance_candidate(cog_engine *e, cog_sequence *q, const cog_logprob_row *row)
{
    const cog_candidate *c = q->candidate;
    int n = q->sched.n_tokens - q->job->req->prompt.n_tokens;

    if (n == c->n) {
        q->score += score_end(e, row);
        q->finished = true;
        q->job->n_live--;
        q->job->n_scoring--;
    } else {
        q->score += (double)cog_logprob_of(row, e->row[c->token[n]]);
        q->tokens[q->sched.n_tokens++] = c->token[n];
    }
    return isnan(q->score) ? COG_EDEVICE : 0;
}

/* Once all are known. */
static void report_candidates(cog_engine *e, cog_job *j)
{
    cog_event *ev, *late = j->late;

    if (j->failed || j->n_scoring > 0)
        return;
    ev = cog_core_event(COG_EVENT_CANDIDATES, j);
    ev->n_candidates = j->req->n_candidates;
    ev->candidate = cog_array(double, (size_t)ev->n_candidates);
    for (int i = 0; i < ev->n_candidates; i++)
        ev->candidate[i] = j->scorer[i].score;
    cog_core_post(e, ev);
    j->late = NULL;
    j->last_late = &j->late;
    while ((ev = late)) {
        late = (cog_event *)ev->link.next;
        cog_core_post(e, ev);
    }
}

/* The prompt's logits are in e->row, and its sequence still has its pages. */
static int begin_candidates(cog_engine *e, cog_job *j)
{
    cog_logprob_row row = cog_logprob_row_of(e->row, e->loaded.model->cfg.vocab);

    for (int i = 0; i < j->req->n_candidates; i++) {
        cog_sequence *q = &j->scorer[i];
        int rc = advance_candidate(e, q, &row);
        if (rc < 0)
            return rc;
        if (!q->finished)
            cog_scheduler_fork(&e->sched, &q->sched, &j->seq[0].sched);
    }
    report_candidates(e, j);
    return 0;
}

static int take_candidate(cog_engine *e, int row)
{
    cog_sequence *q = e->batcher.sample[row];
    int rc = read_row(e, row);
    cog_logprob_row all;

    if (rc < 0 || q->job->failed)
        return rc;
    all = cog_logprob_row_of(e->row, e->loaded.model->cfg.vocab);
    q->job->failed = advance_candidate(e, q, &all);
    if (q->finished) {
        cog_scheduler_remove(&e->sched, &q->sched);
        report_candidates(e, q->job);
    }
    return 0;
}

/* ------------------------------------------------------------------ answers */

/* The prompt is computed. */
static void end_prefill(cog_engine *e, cog_job *j)
{
    if (j->stage == COG_STAGE_DECODE)
        return;
    cog_tally_enter(&e->counts, j, COG_STAGE_DECODE, cog_now_ns());
    e->counts.prompt_tokens += (uint64_t)j->req->prompt.n_tokens;
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
    end_prefill(e, q->job);
    if (req->logprobs)
        cog_logprob_score(&scored, e->row, e->loaded.model->cfg.vocab, token, req->n_top);
    r = cog_sequence_push(q, token, e->loaded.tokenizer, req->logprobs ? &scored : NULL);
    report(e, q, token, r);
    if (r.finished)
        q->job->n_live--;
    e->counts.tokens++;
    return 0;
}

/* Each other answer goes on with the prompt's pages, and so does each candidate. */
static int fork_job(cog_engine *e, cog_job *j, const int32_t *token)
{
    int rc = j->n_scoring > 0 ? begin_candidates(e, j) : 0;

    j->has_forked = true;
    for (int i = 1; rc == 0 && i < j->n_seqs; i++) {
        rc = advance(e, &j->seq[i], token[i - 1]);
        if (rc == 0 && !j->seq[i].finished)
            cog_scheduler_fork(&e->sched, &j->seq[i].sched, &j->seq[0].sched);
    }
    return rc;
}

/* All that was asked for was how likely the prompt is. */
static void end_prompt(cog_engine *e, cog_job *j)
{
    const cog_step_result r = { .finish = COG_FINISH_LENGTH, .stop = -1, .stop_token = -1 };

    for (int c = 0; c < j->req->n; c++)
        report_finish(e, j, c, &r);
    end_prefill(e, j);
    j->n_live -= j->n_seqs;
    j->seq[0].finished = true;
}

/* Takes the tokens drawn from one row, in the order of build_draws; returns how many, or a device's
 * error. */
static int take_tokens(cog_engine *e, int row, const int32_t *token)
{
    cog_sequence *q = e->batcher.sample[row];
    cog_job *j = q->job;
    int n = j->has_forked ? 1 : j->n_seqs;
    int rc = j->req->logprobs || j->n_scoring > 0 ? read_row(e, row) : 0;

    if (rc < 0)
        return rc;
    if (j->req->max_tokens == 0) {
        end_prompt(e, j);
        cog_scheduler_remove(&e->sched, &q->sched);
        return 0;
    }
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
    e->batcher.batch.n_draws = 0;
    cog_alloc_guard_begin("a step");
    rc = cog_forward_begin(e->forward, b);
    cog_alloc_guard_end();
    if (rc < 0)
        return rc;
    build_draws(e); /* masks are looked for while a device computes */
    cog_alloc_guard_begin("draws");
    rc = cog_forward_draw(e->forward, e->token);
    cog_alloc_guard_end();
    if (rc == 0 && e->logits && b->n_logits > 0)
        rc = show_logits(e);
    return rc;
}

/* What the step's rows of logits are for. */
static int take_rows(cog_engine *e)
{
    const cog_batcher *b = &e->batcher;
    int n_drawn = 0, rc;

    for (int i = 0; i < b->batch.n_logits;) {
        if (b->scores[i] >= 0) {
            rc = take_prompt(e, i);
            i += rc;
        } else {
            rc = b->sample[i]->candidate ? take_candidate(e, i)
                                         : take_tokens(e, i, e->token + n_drawn);
            n_drawn += rc;
            i++;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
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
    rc = take_rows(e);
    if (rc == 0)
        end_finished_jobs(e);
    return rc;
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
