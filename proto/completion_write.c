#include "proto/completion_write.h"

#include "proto/json_write.h"

static const char kind[] = "cmpl", object[] = "text_completion";

static void write_text(cog_buf *out, int choice, const char *text, size_t len,
                       const cog_buf *logprobs)
{
    cog_buf_printf(out, "{\"index\":%d,\"text\":\"", choice);
    cog_json_write_text(out, text, len);
    cog_buf_puts(out, "\",\"logprobs\":");
    cog_logprob_write_columns(out, logprobs);
    cog_buf_puts(out, ",");
}

void cog_completion_write(cog_buf *out, const cog_answer_head *head,
                          const cog_answer_choice *choices, int n, const cog_answer_usage *usage)
{
    cog_answer_begin(out, head, kind, object);
    for (int i = 0; i < n; i++) {
        if (i)
            cog_buf_puts(out, ",");
        write_text(out, i, choices[i].text.data, choices[i].text.len,
                   choices[i].has_logprobs ? choices[i].logprobs : NULL);
        cog_answer_finish(out, &choices[i]);
    }
    cog_answer_end(out, usage);
}

void cog_completion_stream_init(cog_answer_stream *st, const cog_answer_head *head,
                                bool include_usage, bool continuous_usage)
{
    cog_answer_stream_init(st, head, kind, object, include_usage, continuous_usage);
}

void cog_completion_stream_text(cog_buf *out, cog_answer_stream *st, int choice,
                                const cog_answer_delta *d, const cog_answer_usage *usage)
{
    cog_answer_chunk_begin(out, st);
    write_text(out, choice, d->text, d->len, d->logprobs);
    cog_answer_go_on(out, d);
    cog_answer_chunk_end(out, st, usage, false);
}

void cog_completion_stream_finish(cog_buf *out, cog_answer_stream *st, int choice,
                                  const cog_answer_choice *finished, const cog_answer_usage *usage)
{
    cog_answer_chunk_begin(out, st);
    write_text(out, choice, "", 0, NULL);
    cog_answer_finish(out, finished);
    cog_answer_chunk_end(out, st, usage, true);
}
