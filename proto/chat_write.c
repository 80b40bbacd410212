#include "proto/chat_write.h"

#include "proto/json_write.h"
#include "proto/sse.h"

static void write_usage(cog_buf *out, const cog_chat_usage *u)
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

static void write_metrics(cog_buf *out, const cog_chat_metrics *m)
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

static void write_head(cog_buf *out, const cog_chat_head *head, const char *object)
{
    cog_buf_puts(out, "{\"id\":\"chatcmpl-");
    cog_buf_puts(out, head->id);
    cog_buf_printf(out, "\",\"object\":\"%s\",\"created\":%lld,\"model\":", object,
                   (long long)head->created);
    cog_json_write_string(out, head->model);
    cog_buf_puts(out, ",\"system_fingerprint\":");
    cog_json_write_string(out, head->fingerprint);
}

void cog_chat_write_response(cog_buf *out, const cog_chat_head *head,
                             const cog_chat_choice *choices, int n, const cog_chat_usage *usage)
{
    write_head(out, head, "chat.completion");
    cog_buf_puts(out, ",\"choices\":[");
    for (int i = 0; i < n; i++) {
        cog_buf_printf(out, "%s{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":\"",
                       i ? "," : "", i);
        cog_json_write_text(out, choices[i].text.data, choices[i].text.len);
        cog_buf_printf(out,
                       "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,"
                       "\"finish_reason\":\"%s\",\"stop_reason\":",
                       choices[i].finish);
        cog_json_write_string(out, choices[i].stop_reason);
        cog_buf_puts(out, "}");
    }
    cog_buf_puts(out, "],\"usage\":");
    write_usage(out, usage);
    write_metrics(out, usage->metrics);
    cog_buf_puts(out, "}");
}

void cog_chat_stream_init(cog_chat_stream *st, const cog_chat_head *head, bool include_usage,
                          bool continuous_usage)
{
    *st = (cog_chat_stream){ .include_usage = include_usage, .continuous_usage = continuous_usage };
    cog_buf_puts(&st->prefix, "data: ");
    write_head(&st->prefix, head, "chat.completion.chunk");
    cog_buf_puts(&st->prefix, ",\"choices\":[");
}

void cog_chat_stream_fini(cog_chat_stream *st)
{
    cog_buf_fini(&st->prefix);
}

static void end_chunk(cog_buf *out, const cog_chat_stream *st, const cog_chat_usage *usage,
                      const cog_chat_metrics *metrics)
{
    cog_buf_puts(out, "]");
    if (st->continuous_usage) {
        cog_buf_puts(out, ",\"usage\":");
        write_usage(out, usage);
    } else if (st->include_usage) {
        cog_buf_puts(out, ",\"usage\":null");
    }
    write_metrics(out, metrics);
    cog_buf_puts(out, "}\n\n");
}

void cog_chat_stream_role(cog_buf *out, const cog_chat_stream *st, int choice,
                          const cog_chat_usage *usage)
{
    cog_buf_add(out, st->prefix.data, st->prefix.len);
    cog_buf_printf(out,
                   "{\"index\":%d,\"delta\":{\"role\":\"assistant\",\"content\":\"\","
                   "\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}",
                   choice);
    end_chunk(out, st, usage, NULL);
}

void cog_chat_stream_text(cog_buf *out, const cog_chat_stream *st, int choice, const char *text,
                          size_t len, const cog_chat_usage *usage)
{
    cog_buf_add(out, st->prefix.data, st->prefix.len);
    cog_buf_printf(out, "{\"index\":%d,\"delta\":{\"content\":\"", choice);
    cog_json_write_text(out, text, len);
    cog_buf_puts(out, "\"},\"logprobs\":null,\"finish_reason\":null}");
    end_chunk(out, st, usage, NULL);
}

void cog_chat_stream_finish(cog_buf *out, const cog_chat_stream *st, int choice, const char *finish,
                            const char *stop_reason, const cog_chat_usage *usage)
{
    cog_buf_add(out, st->prefix.data, st->prefix.len);
    cog_buf_printf(out,
                   "{\"index\":%d,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"%s\","
                   "\"stop_reason\":",
                   choice, finish);
    cog_json_write_string(out, stop_reason);
    cog_buf_puts(out, "}");
    end_chunk(out, st, usage, st->include_usage ? NULL : usage->metrics);
}

void cog_chat_stream_end(cog_buf *out, const cog_chat_stream *st, const cog_chat_usage *usage)
{
    if (st->include_usage) {
        cog_buf_add(out, st->prefix.data, st->prefix.len);
        cog_buf_puts(out, "],\"usage\":");
        write_usage(out, usage);
        write_metrics(out, usage->metrics);
        cog_buf_puts(out, "}\n\n");
    }
    cog_sse_done(out);
}
