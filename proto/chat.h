/* chat.h - the chat-completion request: bytes of a body in, a checked struct out. Pure, any
 * thread. Responses are in chat_write.h. */
#ifndef COG_PROTO_CHAT_H
#define COG_PROTO_CHAT_H

#include "base/buf.h"
#include "proto/api_error.h"
#include "proto/grounding.h"
#include "proto/json_scan.h"
#include "proto/params.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COG_CHAT_MAX_MESSAGES = 256,
    COG_CHAT_MAX_BATCH = 64, /* conversations of one request */
};

/* The prompt forms of the model family, as the API names them. */
typedef enum cog_chat_form {
    COG_CHAT_FORM_DEFAULT, /* not named: the server's default */
    COG_CHAT_FORM_CHAT,
    COG_CHAT_FORM_VQA,
    COG_CHAT_FORM_BASE,
} cog_chat_form;

typedef struct cog_chat_options {
    const char *nonce; /* see json_scan.h */
    int max_n;
    int vocab; /* token ids are below it */
    int max_images;
    bool image_policy_last; /* take the last picture instead of refusing several */
    bool takes_web;         /* pictures by http: and https: URLs */
    bool takes_files;       /* pictures by file: URLs */
    bool strict;            /* refuse unknown fields */
} cog_chat_options;

typedef struct cog_chat_turn {
    cog_buf query;
    cog_buf answer; /* empty in the last turn, unless that is to go on */
} cog_chat_turn;

typedef enum cog_picture_kind {
    COG_PICTURE_NONE,
    COG_PICTURE_INLINE, /* base64 in the request */
    COG_PICTURE_FILE,   /* url says where; it is not looked at here */
    COG_PICTURE_WEB,
    COG_PICTURE_STORED, /* url is the id of a file that was uploaded */
} cog_picture_kind;

typedef struct cog_chat_picture {
    cog_picture_kind kind;
    const char *url;    /* of FILE, WEB and STORED; borrowed from the request */
    const char *base64; /* of INLINE: a view of the body, of the request or of owned */
    size_t len;
    bool is_bare;    /* came without data: */
    char *owned;     /* or NULL */
    char param[128]; /* path of the part, for errors */
} cog_chat_picture;

typedef struct cog_chat {
    struct json_t *root; /* owns the borrowed strings */
    cog_json_scan scan;

    cog_params params;
    int64_t max_completion_tokens, max_tokens; /* 0: absent */
    cog_chat_form form;
    bool logprobs;
    int64_t top_logprobs;
    int64_t prompt_logprobs; /* so many of the likeliest for each token of the prompt, -1: 20;
                                below: nothing */
    cog_grounding_format grounding; /* how to tell the boxes; with a picture only */
    bool continue_final; /* the last turn's answer has begun, and goes on where it ends */
    bool is_open;        /* the last question is not ended: no answer is asked for */

    char field[24];       /* of the request, that has them, for errors: "messages" */
    cog_chat_turn *turns; /* the last one is to be answered */
    int n_turns;
    size_t text_len; /* bytes of all queries and answers */
    cog_chat_picture picture;
    cog_buf ignored; /* names of fields that had no effect, for x-ignored-parameters */
} cog_chat;

extern const cog_field_table cog_chat_fields; /* those beside cog_params_fields */

/* Understands a body, which must outlive the struct. Fails with COG_EINVAL and fills err; *out is
 * valid for cog_chat_fini after failure as well. */
int cog_chat_init(cog_chat *out, const char *body, size_t len, const cog_chat_options *opt,
                  cog_api_error *err);
void cog_chat_fini(cog_chat *c);

/* A body with several conversations, 1 to max <= COG_CHAT_MAX_BATCH, which share all fields but the
 * messages: *out has those, and no turns. As cog_chat_init. */
extern const cog_field_table cog_chat_batch_fields; /* those beside cog_params_fields */
int cog_chat_batch_init(cog_chat *out, int *n, const char *body, size_t len, int max,
                        const cog_chat_options *opt, cog_api_error *err);
/* The i-th of them, which the batch outlives; without params. */
int cog_chat_batch_read(cog_chat *out, const cog_chat *batch, int i, const cog_chat_options *opt,
                        cog_api_error *err);

/* Gives everything back but what an error says about the picture: the body may go. */
void cog_chat_release(cog_chat *c);

/* The output limit that was asked for, 0 when none was. */
int64_t cog_chat_max_tokens(const cog_chat *c);

/* For a picture that is INLINE: bytes that its file may have: never less than
 * cog_chat_picture_decode writes. Refuses a file above max_bytes. */
int cog_chat_picture_room(size_t *room, const cog_chat_picture *p, size_t max_bytes,
                          cog_api_error *err);

/* Decodes the picture's base64 to dst, which has that room; *len is what it wrote. */
int cog_chat_picture_decode(const cog_chat_picture *p, uint8_t *dst, size_t *len,
                            cog_api_error *err);

#endif
