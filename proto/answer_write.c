#include "proto/answer_write.h"

#include "proto/json_write.h"
#include "proto/sse.h"

static void write_usage(cog_buf *out, const cog_answer_usage *u)
{
    cog_buf_printf(out,
                   "{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%d,"
                   "\"prompt_tokens_details\":{\"cached_tokens\":%d,\"image_tokens\":%d,"
                   "\"text_tokens\":%d,\"audio_tokens\":0},"
                   "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"
                   "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
                   u->prompt_tokens, u->completion_tokens, u->prompt_tokens + u->completion_tokens,
                   u->cached_tokens, u->image_tokens, u->prompt_tokens - u->image_tokens);
}

void cog_answer_metrics_write(cog_buf *out, const cog_answer_metrics *m)
{
    if (!m)
        return;
    cog_buf_printf(out,
                   ",\"metrics\":{\"time_to_first_token_ms\":%.3f,\"generation_time_ms\":%.3f,"
                   "\"queue_time_ms\":%.3f,\"image_decode_ms\":%.3f,\"vision_encode_ms\":%.3f,"
                   "\"prefill_ms\":%.3f,\"mean_itl_ms\":",
                   m->time_to_first_token_ms, m->generation_time_ms, m->queue_time_ms,
                   m->image_decode_ms, m->vision_encode_ms, m->prefill_ms);
    if (m->mean_itl_ms < 0)
        cog_buf_puts(out, "null");
    else
        cog_buf_printf(out, "%.3f", m->mean_itl_ms);
    cog_buf_printf(out, ",\"tokens_per_second\":%.3f}", m->tokens_per_second);
}

static void write_list(cog_buf *out, const char *name, const cog_buf *list)
{
    if (!list)
        return;
    cog_buf_printf(out, ",\"%s\":[", name);
    cog_buf_add(out, list->data, list->len);
    cog_buf_puts(out, "]");
}

void cog_answer_begin(cog_buf *out, const cog_answer_head *head, const char *kind,
                      const char *object)
{
    cog_buf_printf(out, "{\"id\":\"%s-", kind);
    cog_buf_puts(out, head->id);
    cog_buf_printf(out, "\",\"object\":\"%s\",\"created\":%lld,\"model\":", object,
                   (long long)head->created);
    cog_json_write_string(out, head->model);
    cog_buf_puts(out, ",\"system_fingerprint\":");
    cog_json_write_string(out, head->fingerprint);
    if (head->image_width)
        cog_buf_printf(out, ",\"image_sizes\":[[%d,%d]]", head->image_width, head->image_height);
    write_list(out, "prompt_logprobs", head->prompt_logprobs);
    write_list(out, "prompt_token_ids", head->prompt_ids);
    cog_buf_puts(out, ",\"choices\":[");
}

void cog_answer_end(cog_buf *out, const cog_answer_usage *usage)
{
    cog_buf_puts(out, "],\"usage\":");
    write_usage(out, usage);
    cog_answer_metrics_write(out, usage->metrics);
    cog_buf_puts(out, "}");
}

void cog_answer_finish(cog_buf *out, const cog_answer_choice *c)
{
    cog_buf_printf(out, "\"finish_reason\":\"%s\",\"stop_reason\":", c->finish);
    if (c->is_stop_token) /* an end token has null, as in vLLM */
        cog_buf_printf(out, "%d", (int)c->stop_token);
    else
        cog_json_write_string(out, c->stop_reason);
    if (c->image_width)
        cog_buf_printf(out, ",\"image_sizes\":[[%d,%d]]", c->image_width, c->image_height);
    if (c->grounding.len) {
        cog_buf_puts(out, ",\"grounding\":");
        cog_buf_add(out, c->grounding.data, c->grounding.len);
    }
    write_list(out, "prompt_logprobs", c->prompt_logprobs);
    write_list(out, "prompt_token_ids", c->prompt_ids);
    write_list(out, "token_ids", c->has_token_ids ? &c->token_ids : NULL);
    if (c->confidence.len) {
        cog_buf_puts(out, ",\"confidence\":");
        cog_buf_add(out, c->confidence.data, c->confidence.len);
    }
    cog_buf_puts(out, "}");
}

void cog_answer_go_on(cog_buf *out, const cog_answer_delta *d)
{
    cog_buf_puts(out, "\"finish_reason\":null");
    write_list(out, "prompt_token_ids", d->prompt_ids);
    write_list(out, "token_ids", d->token_ids);
    cog_buf_puts(out, "}");
}

void cog_answer_stream_init(cog_answer_stream *st, const cog_answer_head *head, const char *kind,
                            const char *object, bool include_usage, bool continuous_usage)
{
    cog_answer_head all = *head;

    *st = (cog_answer_stream){ .include_usage = include_usage,
                               .continuous_usage = continuous_usage,
                               .prompt_ids = head->prompt_ids };
    all.prompt_ids = NULL;
    cog_buf_puts(&st->prefix, "data: ");
    cog_answer_begin(&st->prefix, &all, kind, object);
}

void cog_answer_stream_fini(cog_answer_stream *st)
{
    cog_buf_fini(&st->prefix);
    cog_buf_fini(&st->item);
}

void cog_answer_chunk_begin(cog_buf *out, const cog_answer_stream *st)
{
    cog_buf_add(out, st->prefix.data, st->prefix.len);
}

void cog_answer_chunk_end(cog_buf *out, cog_answer_stream *st, const cog_answer_usage *usage,
                          bool is_last)
{
    cog_buf_puts(out, "]");
    write_list(out, "prompt_token_ids", st->prompt_ids);
    st->prompt_ids = NULL;
    if (st->continuous_usage) {
        cog_buf_puts(out, ",\"usage\":");
        write_usage(out, usage);
    } else if (st->include_usage) {
        cog_buf_puts(out, ",\"usage\":null");
    }
    if (is_last && !st->include_usage)
        cog_answer_metrics_write(out, usage->metrics);
    cog_buf_puts(out, "}\n\n");
}

void cog_answer_stream_end(cog_buf *out, const cog_answer_stream *st, const cog_answer_usage *usage)
{
    if (st->include_usage) {
        cog_buf_add(out, st->prefix.data, st->prefix.len);
        cog_answer_end(out, usage);
        cog_buf_puts(out, "\n\n");
    }
    cog_sse_done(out);
}
