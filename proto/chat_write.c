#include "proto/chat_write.h"

#include "proto/json_write.h"
#include "proto/logprob_write.h"

static void write_answered(cog_buf *out, const cog_answer_choice *c)
{
    cog_buf_puts(out, "\"");
    cog_json_write_text(out, c->text.data, c->text.len);
    cog_buf_puts(out, "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":");
    cog_logprob_write(out, c->has_logprobs ? c->logprobs : NULL);
    cog_buf_puts(out, ",");
    cog_answer_finish(out, c);
}

/* One of several conversations. */
static void write_failed(cog_buf *out, const cog_answer_choice *c)
{
    cog_buf_puts(out, "null,\"refusal\":null,\"annotations\":[]},\"logprobs\":null,"
                      "\"finish_reason\":null,\"stop_reason\":null,");
    cog_buf_add(out, c->error.data, c->error.len);
    cog_buf_puts(out, "}");
}

void cog_chat_write_response(cog_buf *out, const cog_answer_head *head,
                             const cog_answer_choice *choices, int n, const cog_answer_usage *usage)
{
    cog_answer_begin(out, head, "chatcmpl", "chat.completion");
    for (int i = 0; i < n; i++) {
        cog_buf_printf(out, "%s{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":",
                       i ? "," : "", i);
        if (choices[i].error.len)
            write_failed(out, &choices[i]);
        else
            write_answered(out, &choices[i]);
    }
    cog_answer_end(out, usage);
}

void cog_chat_stream_init(cog_answer_stream *st, const cog_answer_head *head, bool include_usage,
                          bool continuous_usage)
{
    cog_answer_stream_init(st, head, "chatcmpl", "chat.completion.chunk", include_usage,
                           continuous_usage);
}

void cog_chat_stream_role(cog_buf *out, cog_answer_stream *st, int choice,
                          const cog_answer_usage *usage)
{
    cog_answer_chunk_begin(out, st);
    cog_buf_printf(out,
                   "{\"index\":%d,\"delta\":{\"role\":\"assistant\",\"content\":\"\","
                   "\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}",
                   choice);
    cog_answer_chunk_end(out, st, usage, false);
}

void cog_chat_stream_text(cog_buf *out, cog_answer_stream *st, int choice,
                          const cog_answer_delta *d, const cog_answer_usage *usage)
{
    cog_answer_chunk_begin(out, st);
    cog_buf_printf(out, "{\"index\":%d,\"delta\":{\"content\":\"", choice);
    cog_json_write_text(out, d->text, d->len);
    cog_buf_puts(out, "\"},\"logprobs\":");
    cog_logprob_write(out, d->logprobs);
    cog_buf_puts(out, ",");
    cog_answer_go_on(out, d);
    cog_answer_chunk_end(out, st, usage, false);
}

void cog_chat_stream_finish(cog_buf *out, cog_answer_stream *st, int choice,
                            const cog_answer_choice *finished, const cog_answer_usage *usage)
{
    cog_answer_chunk_begin(out, st);
    cog_buf_printf(out, "{\"index\":%d,\"delta\":{},\"logprobs\":null,", choice);
    cog_answer_finish(out, finished);
    cog_answer_chunk_end(out, st, usage, true);
}
