/* responses_write.h - the answers of OpenAI's Responses API: the whole object, and the events of a
 * stream. Each event has its name, and a number that rises from 0. Pure. */
#ifndef COG_PROTO_RESPONSES_WRITE_H
#define COG_PROTO_RESPONSES_WRITE_H

#include "proto/answer_write.h"
#include "proto/api_error.h"

/* n is 1. */
void cog_responses_write(cog_buf *out, const cog_answer_head *head,
                         const cog_answer_choice *choices, int n, const cog_answer_usage *usage);

/* prefix becomes the response's object up to its status. */
void cog_responses_stream_init(cog_answer_stream *st, const cog_answer_head *head,
                               bool include_usage, bool continuous_usage);

/* Each adds whole events: response.created to response.content_part.added; a delta;
 * response.output_text.done to response.output_item.done; response.completed or
 * response.incomplete. There is no [DONE]. */
void cog_responses_stream_begin(cog_buf *out, cog_answer_stream *st, int choice,
                                const cog_answer_usage *usage);
void cog_responses_stream_text(cog_buf *out, cog_answer_stream *st, int choice,
                               const cog_answer_delta *d, const cog_answer_usage *usage);
void cog_responses_stream_finish(cog_buf *out, cog_answer_stream *st, int choice,
                                 const cog_answer_choice *finished, const cog_answer_usage *usage);
void cog_responses_stream_end(cog_buf *out, cog_answer_stream *st, const cog_answer_choice *choices,
                              const cog_answer_usage *usage);

/* Instead, after the beginning: error, and response.failed. */
void cog_responses_stream_fail(cog_buf *out, cog_answer_stream *st, const cog_api_error *err);

#endif
