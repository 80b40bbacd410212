/* generate_events.c - what the engine says of a request becomes the chunks of a stream or one
 * answer. The loop's. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/utf8.h"
#include "server/generate.h"

#include <assert.h>
#include <time.h>

static int n_choices(const cog_generate_job *j)
{
    return j->n_parts ? j->n_parts : j->n_requests * j->n;
}

/* What is told of a prompt stands at its choices; else once, in the head. */
static bool has_own_prompts(const cog_generate_job *j)
{
    return j->form->has_columns || j->whole;
}

static cog_answer_head head_of(const cog_generate_job *j)
{
    const cog_exchange *x = j->x;
    cog_server *s = x->server;
    bool has_boxes = j->boxes.format != COG_GROUNDING_OFF;

    return (cog_answer_head){ .id = x->id,
                              .created = (int64_t)time(NULL),
                              .model = s->cfg.served_names[0],
                              .fingerprint = cog_status_fingerprint(s),
                              .image_width = has_boxes ? j->boxes.width : 0,
                              .image_height = has_boxes ? j->boxes.height : 0,
                              .prompt_logprobs = j->n_prompt_top >= 0 && !has_own_prompts(j)
                                                     ? &j->prompt_logprobs[0]
                                                     : NULL,
                              .prompt_ids = has_own_prompts(j) ? NULL : j->prompt_ids,
                              .echo = &j->echo };
}

/* The ids of its own prompt, the first time; where all choices have one, the head tells them. */
static const cog_buf *take_prompt_ids(cog_generate_job *j, int choice)
{
    cog_answer_choice *c = &j->choices[choice];

    if (!j->prompt_ids || c->is_prompt_told || !has_own_prompts(j))
        return NULL;
    c->is_prompt_told = true;
    return &j->prompt_ids[choice / j->n];
}

/* The roles go out together with the first token: a chunk before it would make the time to first
 * token that clients measure a lie. */
void cog_generate_begin_stream(cog_generate_job *j)
{
    cog_answer_head head = head_of(j);

    if (j->has_roles)
        return;
    j->has_roles = true;
    j->form->stream_init(&j->writer, &head, j->include_usage, j->continuous_usage);
    for (int i = 0; i < n_choices(j); i++) {
        cog_answer_choice *c = &j->choices[i];
        cog_answer_delta begun = { .text = c->text.data, .len = c->text.len };

        if (j->form->stream_role)
            j->form->stream_role(&j->x->out, &j->writer, i, &j->usage);
        if (begun.len == 0)
            continue;
        begun.prompt_ids = take_prompt_ids(j, i);
        j->form->stream_text(&j->x->out, &j->writer, i, &begun, &j->usage);
    }
}

static void count_token(cog_generate_job *j, int choice, const cog_event *ev)
{
    bool is_first = !j->pace[choice].n_tokens;
    uint64_t gap_ns = cog_record_token(&j->x->record, &j->pace[choice], ev->n_tokens);

    cog_metrics_gap(&j->x->server->metrics, gap_ns, ev->n_tokens - is_first);
}

/* The entries of a list from a byte on. */
static cog_buf entries_from(const cog_buf *logprobs, size_t start)
{
    size_t skip = start && logprobs->len > start ? start + 1 : start; /* the comma before them */

    return (cog_buf){ .data = logprobs->data ? logprobs->data + skip : NULL,
                      .len = logprobs->len - skip };
}

/* start: of what this event added to the log-probabilities. */
static void stream_text(cog_generate_job *j, int choice, const cog_event *ev, size_t start)
{
    cog_answer_choice *c = &j->choices[choice];
    cog_buf *kept = c->logprobs;
    cog_buf added = entries_from(kept, start);
    const cog_buf *logprobs = j->form->ends_whole ? &added : kept;
    cog_answer_delta d = { .text = ev->text,
                           .len = ev->text_len,
                           .logprobs = j->has_logprobs ? logprobs : NULL,
                           .token_ids = c->has_token_ids ? &c->token_ids : NULL };

    cog_generate_begin_stream(j);
    if (d.len) {
        d.prompt_ids = take_prompt_ids(j, choice);
        j->form->stream_text(&j->x->out, &j->writer, choice, &d, &j->usage);
        cog_buf_clear(&c->token_ids);
    }
    for (int i = 0; !j->form->ends_whole && i < COG_LOGPROB_COLUMNS; i++)
        cog_buf_clear(&kept[i]);
    cog_exchange_send(j->x);
}

static void on_text(cog_generate_job *j, int choice, const cog_event *ev)
{
    cog_answer_choice *c = &j->choices[choice];
    size_t start = c->logprobs[0].len;

    count_token(j, choice, ev);
    j->usage.completion_tokens += ev->n_tokens;
    if (j->has_logprobs)
        cog_generate_add_logprobs(c, j, ev);
    if (c->has_token_ids)
        cog_buf_printf(&c->token_ids, c->token_ids.len ? ",%d" : "%d", (int)ev->token);
    if (j->stream)
        stream_text(j, choice, ev, start);
    c->told_bytes += ev->text_len;
    c->told_chars += cog_utf8_count(ev->text, ev->text_len);
    if (!j->stream || j->form->ends_whole || j->boxes.format != COG_GROUNDING_OFF)
        cog_buf_add(&c->text, ev->text, ev->text_len);
}

/* The text is whole. */
static void find_boxes(cog_generate_job *j, cog_answer_choice *c)
{
    cog_grounding_count count;

    if (j->boxes.format == COG_GROUNDING_OFF)
        return;
    count = cog_grounding_write(&c->grounding, &j->boxes, c->text.data, c->text.len);
    cog_metrics_boxes(&j->x->server->metrics, &count);
}

/* The last chunk tells the metrics, which only the END has. */
static bool is_finish_late(const cog_generate_job *j)
{
    return j->has_metrics && !j->include_usage && !j->form->stream_end;
}

static void write_finish(cog_generate_job *j, int choice)
{
    j->choices[choice].prompt_ids = take_prompt_ids(j, choice);
    j->form->stream_finish(&j->x->out, &j->writer, choice, &j->choices[choice], &j->usage);
}

static void on_finish(cog_generate_job *j, int choice, const cog_event *ev)
{
    cog_answer_choice *c = &j->choices[choice];

    c->finish = ev->finish == COG_FINISH_LENGTH ? "length" : "stop";
    j->x->record.is_length |= ev->finish == COG_FINISH_LENGTH;
    c->stop_reason = ev->stop >= 0 && ev->stop < j->n_stop ? j->stop[ev->stop] : NULL;
    c->is_stop_token = ev->stop_token >= 0;
    c->stop_token = ev->stop_token;
    find_boxes(j, c);
    if (j->has_logprobs)
        cog_generate_write_confidence(j, choice);
    if (j->n_prompt_top >= 0 && has_own_prompts(j))
        c->prompt_logprobs = &j->prompt_logprobs[choice / j->n];
    if (!j->stream)
        c->prompt_ids = take_prompt_ids(j, choice);
    if (!j->stream || is_finish_late(j))
        return;
    cog_generate_begin_stream(j);
    write_finish(j, choice);
    cog_exchange_send(j->x);
}

static double ms(uint64_t ns)
{
    return (double)ns * 1e-6;
}

static void answer_whole(cog_generate_job *j)
{
    cog_exchange *x = j->x;
    const cog_usage *u = &j->spent;
    cog_answer_head head = head_of(j);

    x->reply.status = 200;
    x->reply.type = "application/json";
    j->form->write(&x->reply.body, &head, j->choices, n_choices(j), &j->usage);
    cog_reply_header(&x->reply, "openai-processing-ms", "%llu",
                     (unsigned long long)((cog_now_ns() - x->begin_ns) / 1000000));
    cog_reply_header(&x->reply, "Server-Timing",
                     "queue;dur=%.1f, decode_image;dur=%.1f, encode;dur=%.1f, prefill;dur=%.1f, "
                     "generate;dur=%.1f",
                     ms(u->stage_ns[COG_STAGE_ENCODE_WAIT] + u->stage_ns[COG_STAGE_QUEUE]),
                     ms(x->record.ns[COG_AT_IMAGE_DECODE]), ms(u->stage_ns[COG_STAGE_ENCODE]),
                     ms(u->stage_ns[COG_STAGE_PREFILL]), ms(u->stage_ns[COG_STAGE_DECODE]));
    cog_exchange_reply(x);
}

static bool has_all_choices(const cog_generate_job *j)
{
    for (int i = 0; i < n_choices(j); i++) {
        if (!j->choices[i].finish)
            return false;
    }
    return true;
}

static void answer(cog_generate_job *j)
{
    cog_exchange *x = j->x;

    j->usage.prompt_tokens = j->spent.prompt_tokens;
    j->usage.image_tokens = j->spent.image_tokens;
    j->usage.cached_tokens = j->spent.cached_tokens;
    j->usage.completion_tokens = j->spent.completion_tokens;
    if (!has_all_choices(j)) {
        cog_log(COG_ERROR, "event=answer_incomplete id=%s", x->id);
        cog_generate_fail_code(j, COG_API_INTERNAL);
        return;
    }
    if (j->whole) {
        cog_generate_part_done(j);
        return;
    }
    if (j->has_metrics) {
        cog_record_measure(&j->metrics, &x->record);
        j->usage.metrics = &j->metrics;
    }
    if (!j->stream) {
        answer_whole(j);
        return;
    }
    cog_generate_begin_stream(j);
    if (is_finish_late(j))
        write_finish(j, 0);
    if (j->form->stream_end)
        j->form->stream_end(&x->out, &j->writer, j->choices, &j->usage);
    else
        cog_answer_stream_end(&x->out, &j->writer, &j->usage);
    x->is_stream_done = true;
    cog_exchange_send(x);
}

void cog_generate_answer_parts(cog_generate_job *j)
{
    if (j->x->is_gone || j->x->reply.status)
        return;
    cog_record_usage(&j->x->record, &j->spent);
    answer_whole(j);
}

static void fail(cog_generate_job *j, const cog_event *ev)
{
    cog_exchange *x = j->x;

    switch (ev->status) {
    case COG_ETIMEOUT:
        cog_generate_fail_code(j, COG_API_DEADLINE);
        return;
    case COG_ECANCELED:
        cog_generate_fail_code(j, x->server->phase == COG_SERVER_SERVING ? COG_API_INTERNAL
                                                                         : COG_API_DRAINING);
        return;
    case COG_ELIMIT:
        cog_generate_fail_code(j, COG_API_SCHEMA_COMPLEX);
        return;
    default:
        cog_log(COG_ERROR, "event=engine_failed_request id=%s code=%s", x->id,
                cog_err_name(ev->status));
        cog_generate_fail_code(j, COG_API_INTERNAL);
    }
}

static bool is_wanted(const cog_generate_job *j)
{
    const cog_exchange *x = j->x;

    return !x->is_gone && !x->reply.status && !x->is_stream_done && !j->is_over;
}

static void add_usage(cog_usage *sum, const cog_usage *u)
{
    cog_usage all = *u;

    all.prompt_tokens += sum->prompt_tokens;
    all.image_tokens += sum->image_tokens;
    all.completion_tokens += sum->completion_tokens;
    all.cached_tokens += sum->cached_tokens;
    *sum = all;
}

static void on_end(cog_generate_job *j, const cog_event *ev)
{
    cog_exchange *x = j->x;

    j->n_live--;
    x->server->n_submitted--;
    cog_outflow_end(&x->server->outflow, cog_now_ns(), ev->status != COG_ECANCELED);
    add_usage(&j->spent, &ev->usage);
    if (j->whole)
        add_usage(&j->whole->spent, &ev->usage);
    else if (j->n_live == 0)
        cog_record_usage(&x->record, &j->spent);
    cog_client_charge(x->client, cog_now_ns(), ev->usage.completion_tokens);
    if (is_wanted(j) && ev->status != 0)
        fail(j, ev); /* the others are cancelled when that has been sent */
    else if (is_wanted(j) && j->n_live == 0)
        answer(j);
    cog_exchange_unref(x);
}

void cog_generate_answer_known(cog_generate_job *j)
{
    for (int i = 0; i < n_choices(j); i++) {
        j->choices[i].finish = "length";
        if (!j->stream) {
            j->choices[i].prompt_ids = take_prompt_ids(j, i);
            continue;
        }
        cog_generate_begin_stream(j);
        write_finish(j, i);
    }
    j->x->record.is_length = true;
    j->spent.prompt_tokens = j->usage.prompt_tokens;
    cog_record_usage(&j->x->record, &j->spent);
    answer(j);
}

void cog_generate_on_event(cog_exchange *x, const cog_event *ev)
{
    cog_generate_job *j = cog_generate_part_of(x->job, ev->id);
    int choice = (int)(ev->id - j->first_id) * j->n + ev->choice;

    if (ev->type == COG_EVENT_END) {
        on_end(j, ev);
        return;
    }
    assert(ev->choice >= 0 && ev->choice < j->n && choice < n_choices(j));
    if (!is_wanted(j))
        return;
    if (ev->type == COG_EVENT_TEXT)
        on_text(j, choice, ev);
    else if (ev->type == COG_EVENT_FINISH)
        on_finish(j, choice, ev);
    else if (ev->type == COG_EVENT_PROMPT)
        cog_generate_on_prompt(j, ev);
    else if (ev->type == COG_EVENT_CANDIDATES)
        cog_generate_on_candidates(j, ev);
}
