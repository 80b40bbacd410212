/* chat_write.h - chat-completion responses: the whole object, and the chunks of a stream. Pure. */
#ifndef COG_PROTO_CHAT_WRITE_H
#define COG_PROTO_CHAT_WRITE_H

#include "proto/answer_write.h"

void cog_chat_write_response(cog_buf *out, const cog_answer_head *head,
                             const cog_answer_choice *choices, int n,
                             const cog_answer_usage *usage);

/* The stream's end is cog_answer_stream_end. */
void cog_chat_stream_init(cog_answer_stream *st, const cog_answer_head *head, bool include_usage,
                          bool continuous_usage);

/* Each adds one whole event. usage is the running count; it is written where the stream's options
 * say so. logprobs: the entries of the tokens whose text begins here; NULL: not asked for. */
void cog_chat_stream_role(cog_buf *out, cog_answer_stream *st, int choice,
                          const cog_answer_usage *usage);
void cog_chat_stream_text(cog_buf *out, cog_answer_stream *st, int choice,
                          const cog_answer_delta *d, const cog_answer_usage *usage);
void cog_chat_stream_finish(cog_buf *out, cog_answer_stream *st, int choice,
                            const cog_answer_choice *finished, const cog_answer_usage *usage);

#endif
