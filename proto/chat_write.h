/* chat_write.h - chat-completion responses: the whole object, and the chunks of a stream. Pure. */
#ifndef COG_PROTO_CHAT_WRITE_H
#define COG_PROTO_CHAT_WRITE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cog_chat_head {
    const char *id;  /* of the request: without "chatcmpl-" */
    int64_t created; /* Unix seconds */
    const char *model, *fingerprint;
} cog_chat_head;

/* Where the time of a request with one choice went, in milliseconds. */
typedef struct cog_chat_metrics {
    double time_to_first_token_ms; /* from the last byte of the request */
    double generation_time_ms;     /* from the first token to the last */
    double queue_time_ms, image_decode_ms, vision_encode_ms, prefill_ms;
    double mean_itl_ms;       /* between tokens; below 0, written as null: there was only one */
    double tokens_per_second; /* from the last byte of the request to the last token */
} cog_chat_metrics;

typedef struct cog_chat_usage {
    int prompt_tokens, image_tokens, cached_tokens, completion_tokens;
    /* Borrowed; NULL: not asked for. Goes beside the usage of a whole answer, and of a stream's
     * usage chunk, or without one into the chunk with the finish reason. */
    const cog_chat_metrics *metrics;
} cog_chat_usage;

typedef struct cog_chat_choice {
    cog_buf text;
    const char *finish;      /* "stop" or "length" */
    const char *stop_reason; /* the stop string that matched; NULL: none did */
} cog_chat_choice;

void cog_chat_write_response(cog_buf *out, const cog_chat_head *head,
                             const cog_chat_choice *choices, int n, const cog_chat_usage *usage);

/* A stream's constant parts, written once: per chunk only the text is escaped. */
typedef struct cog_chat_stream {
    cog_buf prefix; /* "data: {..." up to the value of choices */
    bool include_usage, continuous_usage;
} cog_chat_stream;

void cog_chat_stream_init(cog_chat_stream *st, const cog_chat_head *head, bool include_usage,
                          bool continuous_usage);
void cog_chat_stream_fini(cog_chat_stream *st);

/* Each adds one whole event. usage is the running count; it is written where the stream's options
 * say so. */
void cog_chat_stream_role(cog_buf *out, const cog_chat_stream *st, int choice,
                          const cog_chat_usage *usage);
void cog_chat_stream_text(cog_buf *out, const cog_chat_stream *st, int choice, const char *text,
                          size_t len, const cog_chat_usage *usage);
void cog_chat_stream_finish(cog_buf *out, const cog_chat_stream *st, int choice, const char *finish,
                            const char *stop_reason, const cog_chat_usage *usage);
/* The usage chunk, when the stream has one, and [DONE]. */
void cog_chat_stream_end(cog_buf *out, const cog_chat_stream *st, const cog_chat_usage *usage);

#endif
