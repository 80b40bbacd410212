#include "proto/responses_write.h"

#include "proto/json_write.h"

#include <string.h>

/* ------------------------------------------------------------------ parts of the object */

/* Up to the status. */
static void write_head(cog_buf *out, const cog_answer_head *head)
{
    cog_buf_puts(out, "{\"id\":\"resp_");
    cog_buf_puts(out, head->id);
    cog_buf_printf(
        out, "\",\"object\":\"response\",\"created_at\":%lld,\"model\":", (long long)head->created);
    cog_json_write_string(out, head->model);
    cog_buf_puts(out, ",\"background\":false,\"max_tool_calls\":null,\"parallel_tool_calls\":false,"
                      "\"previous_response_id\":null,\"reasoning\":{\"effort\":null,"
                      "\"summary\":null},\"store\":false,\"tools\":[],"
                      "\"truncation\":\"disabled\"");
    cog_buf_add(out, head->echo->data, head->echo->len);
}

static void write_usage(cog_buf *out, const cog_answer_usage *u)
{
    if (!u) {
        cog_buf_puts(out, "null");
        return;
    }
    cog_buf_printf(out,
                   "{\"input_tokens\":%d,\"input_tokens_details\":{\"cached_tokens\":%d,"
                   "\"image_tokens\":%d,\"text_tokens\":%d},\"output_tokens\":%d,"
                   "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":%d}",
                   u->prompt_tokens, u->cached_tokens, u->image_tokens,
                   u->prompt_tokens - u->image_tokens, u->completion_tokens,
                   u->prompt_tokens + u->completion_tokens);
}

static bool is_cut(const cog_answer_choice *c)
{
    return strcmp(c->finish, "length") == 0;
}

static const char *status_of(const cog_answer_choice *c)
{
    return is_cut(c) ? "incomplete" : "completed";
}

/* NULL is a part at its beginning. */
static void write_part(cog_buf *out, const cog_answer_choice *c)
{
    cog_buf_puts(out, "{\"type\":\"output_text\",\"text\":\"");
    if (c)
        cog_json_write_text(out, c->text.data, c->text.len);
    cog_buf_puts(out, "\",\"annotations\":[],\"logprobs\":[");
    if (c)
        cog_buf_add(out, c->logprobs[0].data, c->logprobs[0].len);
    cog_buf_puts(out, "]}");
}

static void write_item(cog_buf *out, const char *id, const cog_answer_choice *c)
{
    cog_buf_puts(out, "{\"type\":\"message\",\"id\":\"");
    cog_buf_puts(out, id);
    cog_buf_printf(out, "\",\"status\":\"%s\",\"role\":\"assistant\",\"content\":[",
                   c ? status_of(c) : "in_progress");
    if (c)
        write_part(out, c);
    cog_buf_puts(out, "]}");
}

/* The object from its status on. c: NULL: not finished; err: NULL: it did not fail. */
static void write_rest(cog_buf *out, const char *item, const cog_answer_choice *c,
                       const cog_answer_usage *usage, const cog_api_error *err)
{
    cog_buf_printf(out, ",\"status\":\"%s\",\"error\":",
                   err ? "failed"
                   : c ? status_of(c)
                       : "in_progress");
    if (err) {
        cog_buf_printf(out, "{\"code\":\"%s\",\"message\":", cog_api_error_name(err->code));
        cog_json_write_string(out, err->message);
        cog_buf_puts(out, "}");
    } else {
        cog_buf_puts(out, "null");
    }
    cog_buf_printf(out, ",\"incomplete_details\":%s,\"output\":[",
                   c && is_cut(c) ? "{\"reason\":\"max_output_tokens\"}" : "null");
    if (c)
        write_item(out, item, c);
    cog_buf_puts(out, "],\"usage\":");
    write_usage(out, usage);
    cog_answer_metrics_write(out, usage ? usage->metrics : NULL);
    cog_buf_puts(out, "}");
}

static void name_item(cog_buf *id, const cog_answer_head *head)
{
    cog_buf_puts(id, "msg_");
    cog_buf_puts(id, head->id);
}

void cog_responses_write(cog_buf *out, const cog_answer_head *head,
                         const cog_answer_choice *choices, int n, const cog_answer_usage *usage)
{
    cog_buf item = { 0 };

    name_item(&item, head);
    write_head(out, head);
    write_rest(out, item.data, &choices[0], usage, NULL);
    cog_buf_fini(&item);
}

/* ------------------------------------------------------------------ events */

static void event_begin(cog_buf *out, cog_answer_stream *st, const char *type)
{
    cog_buf_printf(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%lld", type, type,
                   (long long)st->n_events++);
}

static void event_end(cog_buf *out)
{
    cog_buf_puts(out, "}\n\n");
}

/* One that carries the response. */
static void write_response(cog_buf *out, cog_answer_stream *st, const char *type,
                           const cog_answer_choice *c, const cog_answer_usage *usage,
                           const cog_api_error *err)
{
    event_begin(out, st, type);
    cog_buf_puts(out, ",\"response\":");
    cog_buf_add(out, st->prefix.data, st->prefix.len);
    write_rest(out, st->item.data, c, usage, err);
    event_end(out);
}

/* One about the item, or its only part. */
static void item_begin(cog_buf *out, cog_answer_stream *st, const char *type)
{
    event_begin(out, st, type);
    cog_buf_puts(out, ",\"output_index\":0");
}

static void part_begin(cog_buf *out, cog_answer_stream *st, const char *type)
{
    item_begin(out, st, type);
    cog_buf_puts(out, ",\"content_index\":0,\"item_id\":\"");
    cog_buf_puts(out, st->item.data);
    cog_buf_puts(out, "\"");
}

void cog_responses_stream_init(cog_answer_stream *st, const cog_answer_head *head,
                               bool include_usage, bool continuous_usage)
{
    *st =
        (cog_answer_stream){ .include_usage = include_usage, .continuous_usage = continuous_usage };
    write_head(&st->prefix, head);
    name_item(&st->item, head);
}

static void write_item_event(cog_buf *out, cog_answer_stream *st, const char *type,
                             const cog_answer_choice *c)
{
    item_begin(out, st, type);
    cog_buf_puts(out, ",\"item\":");
    write_item(out, st->item.data, c);
    event_end(out);
}

static void write_part_event(cog_buf *out, cog_answer_stream *st, const char *type,
                             const cog_answer_choice *c)
{
    part_begin(out, st, type);
    cog_buf_puts(out, ",\"part\":");
    write_part(out, c);
    event_end(out);
}

void cog_responses_stream_begin(cog_buf *out, cog_answer_stream *st, int choice,
                                const cog_answer_usage *usage)
{
    write_response(out, st, "response.created", NULL, NULL, NULL);
    write_response(out, st, "response.in_progress", NULL, NULL, NULL);
    write_item_event(out, st, "response.output_item.added", NULL);
    write_part_event(out, st, "response.content_part.added", NULL);
}

void cog_responses_stream_text(cog_buf *out, cog_answer_stream *st, int choice,
                               const cog_answer_delta *d, const cog_answer_usage *usage)
{
    part_begin(out, st, "response.output_text.delta");
    cog_buf_puts(out, ",\"delta\":\"");
    cog_json_write_text(out, d->text, d->len);
    cog_buf_puts(out, "\",\"logprobs\":[");
    if (d->logprobs)
        cog_buf_add(out, d->logprobs->data, d->logprobs->len);
    cog_buf_puts(out, "]");
    event_end(out);
}

void cog_responses_stream_finish(cog_buf *out, cog_answer_stream *st, int choice,
                                 const cog_answer_choice *finished, const cog_answer_usage *usage)
{
    part_begin(out, st, "response.output_text.done");
    cog_buf_puts(out, ",\"text\":\"");
    cog_json_write_text(out, finished->text.data, finished->text.len);
    cog_buf_puts(out, "\",\"logprobs\":[");
    cog_buf_add(out, finished->logprobs[0].data, finished->logprobs[0].len);
    cog_buf_puts(out, "]");
    event_end(out);
    write_part_event(out, st, "response.content_part.done", finished);
    write_item_event(out, st, "response.output_item.done", finished);
}

void cog_responses_stream_end(cog_buf *out, cog_answer_stream *st, const cog_answer_choice *choices,
                              const cog_answer_usage *usage)
{
    write_response(out, st, is_cut(choices) ? "response.incomplete" : "response.completed", choices,
                   usage, NULL);
}

void cog_responses_stream_fail(cog_buf *out, cog_answer_stream *st, const cog_api_error *err)
{
    event_begin(out, st, "error");
    cog_buf_printf(out, ",\"code\":\"%s\",\"message\":", cog_api_error_name(err->code));
    cog_json_write_string(out, err->message);
    cog_buf_puts(out, ",\"param\":");
    cog_json_write_string(out, err->param[0] ? err->param : NULL);
    event_end(out);
    write_response(out, st, "response.failed", NULL, NULL, err);
}
