/* answer_write.h - what the answers to requests for text have in common, whole and as streams:
 * head, choices, usage, metrics, and the frame of a chunk. What is in a choice is chat_write.h's
 * and completion_write.h's. Pure. */
#ifndef COG_PROTO_ANSWER_WRITE_H
#define COG_PROTO_ANSWER_WRITE_H

#include "base/buf.h"
#include "proto/logprob_write.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cog_answer_head {
    const char *id;  /* of the request: without "chatcmpl-" */
    int64_t created; /* Unix seconds */
    const char *model, *fingerprint;
    int image_width, image_height;  /* told where boxes are; 0: not */
    const cog_buf *prompt_logprobs; /* a list of all choices' prompt's; NULL: none */
    const cog_buf *prompt_ids; /* the same of its tokens; a stream tells it in its first chunk */
    const cog_buf *echo;       /* what responses repeat of the request (responses.h); borrowed */
} cog_answer_head;

/* Where the time of a request with one choice went, in milliseconds. */
typedef struct cog_answer_metrics {
    double time_to_first_token_ms; /* from the last byte of the request */
    double generation_time_ms;     /* from the first token to the last */
    double queue_time_ms, image_decode_ms, vision_encode_ms, prefill_ms;
    double mean_itl_ms;       /* between tokens; below 0, written as null: there was only one */
    double tokens_per_second; /* from the last byte of the request to the last token */
} cog_answer_metrics;

typedef struct cog_answer_usage {
    int prompt_tokens, image_tokens, cached_tokens, completion_tokens;
    /* Borrowed; NULL: not asked for. Goes beside the usage of a whole answer, and of a stream's
     * usage chunk, or without one into the chunk with the finish reason. */
    const cog_answer_metrics *metrics;
} cog_answer_usage;

typedef struct cog_answer_choice {
    cog_buf text;
    const char *finish;            /* "stop" or "length" */
    const char *stop_reason;       /* the stop string that matched; NULL: none did */
    bool is_stop_token;            /* it was a token, */
    int32_t stop_token;            /* this one */
    cog_buf error;                 /* "error" with its object: instead of an answer; empty: none */
    int image_width, image_height; /* told beside the boxes of this choice; 0: not */
    cog_buf grounding; /* the boxes as JSON, when it is finished; empty: not asked for */
    bool has_logprobs;
    cog_buf logprobs[COG_LOGPROB_COLUMNS]; /* logprob_write.h: a chat's entries are the first */
    double logprob_sum; /* of the n_scored tokens in logprobs, and in those that went out */
    int n_scored;
    cog_buf confidence;             /* as JSON, when it is finished; empty: not asked for */
    const cog_buf *prompt_logprobs; /* a list of its own prompt's; borrowed; NULL: none */
    const cog_buf *prompt_ids;      /* the same of its tokens */
    bool is_prompt_told;            /* they went out */
    bool has_token_ids;
    cog_buf token_ids; /* a list of all its tokens, or of those that did not go out yet */
    size_t told_bytes, told_chars; /* of its text that went out, also where it is not kept */
} cog_answer_choice;

/* What a choice of a stream grew by. */
typedef struct cog_answer_delta {
    const char *text; /* [len] */
    size_t len;
    const cog_buf *logprobs;   /* [COG_LOGPROB_COLUMNS] as in a choice; NULL: none */
    const cog_buf *token_ids;  /* a list; NULL: not asked for */
    const cog_buf *prompt_ids; /* its own prompt's; NULL: none, or told before */
} cog_answer_delta;

/* "metrics" with a comma before it; nothing for NULL. */
void cog_answer_metrics_write(cog_buf *out, const cog_answer_metrics *m);

/* A whole answer from its beginning up to the first choice, and from behind the last to the end.
 * kind: before the request's id, "chatcmpl"; object: "chat.completion". */
void cog_answer_begin(cog_buf *out, const cog_answer_head *head, const char *kind,
                      const char *object);
void cog_answer_end(cog_buf *out, const cog_answer_usage *usage);
/* "finish_reason", "stop_reason", and what else is told of a choice, up to its end. */
void cog_answer_finish(cog_buf *out, const cog_answer_choice *c);

/* "finish_reason" null of a choice that goes on, and its tokens' ids, up to its end. */
void cog_answer_go_on(cog_buf *out, const cog_answer_delta *d);

/* A stream's constant parts, written once: per chunk only the text is escaped. */
typedef struct cog_answer_stream {
    cog_buf prefix; /* "data: {..." up to the value of choices; of responses, see there */
    bool include_usage, continuous_usage;
    const cog_buf *prompt_ids; /* borrowed; NULL: none, or told */
    cog_buf item;              /* of responses: the id of their only item */
    int64_t n_events;          /* of responses: so far */
} cog_answer_stream;

void cog_answer_stream_init(cog_answer_stream *st, const cog_answer_head *head, const char *kind,
                            const char *object, bool include_usage, bool continuous_usage);
void cog_answer_stream_fini(cog_answer_stream *st);

/* A chunk up to its only choice, and from behind it. usage is the running count; it is written
 * where the stream's options say so. is_last: the choice is finished. */
void cog_answer_chunk_begin(cog_buf *out, const cog_answer_stream *st);
void cog_answer_chunk_end(cog_buf *out, cog_answer_stream *st, const cog_answer_usage *usage,
                          bool is_last);
/* The usage chunk, when the stream has one, and [DONE]. */
void cog_answer_stream_end(cog_buf *out, const cog_answer_stream *st,
                           const cog_answer_usage *usage);

#endif
