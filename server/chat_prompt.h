/* chat_prompt.h - from a chat's body to the prompt that the engine takes: what answering a chat and
 * counting its tokens have in common. Any thread. */
#ifndef COG_SERVER_CHAT_PROMPT_H
#define COG_SERVER_CHAT_PROMPT_H

#include "proto/chat.h"
#include "server/internal.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    COG_NONCE_SIZE = 33,
    COG_LARGE_BODY = 64 << 10, /* bytes from which a body's JSON may take some 1 ms and more */
};

/* Draws a nonce for the scan of a body: for each request, so that none can use another's. */
int cog_chat_prompt_nonce(char nonce[COG_NONCE_SIZE], const char *id, cog_api_error *err);

/* The most choices that a request may ask for. */
int cog_chat_prompt_max_n(const cog_server *s);

/* What the server's configuration says about chats. */
cog_chat_options cog_chat_prompt_options(const cog_server *s, const char *nonce);

/* model_not_found, unless model is absent, empty or a served name. */
int cog_chat_prompt_check_model(const cog_server_config *cfg, const char *model,
                                cog_api_error *err);

/* What a prompt is made of. */
typedef struct cog_prompt_parts {
    const char *field; /* of the body, that has it: "messages" */
    cog_template form;
    const cog_turn *turns;
    int n_turns;
    bool has_image;
    size_t text_len; /* bytes of all texts */
    int64_t wanted;  /* tokens of the answer, for errors */
} cog_prompt_parts;

/* The prompt, without looking at its length where that is not hopeless. Needs the engine ready; id
 * is for the log. */
int cog_chat_prompt_make(cog_prompt *out, cog_server *s, const cog_prompt_parts *p, const char *id,
                         cog_api_error *err);
/* A chat's. */
int cog_chat_prompt_build(cog_prompt *out, cog_server *s, const cog_chat *c, const char *id,
                          cog_api_error *err);

/* Tokens of prompt and answer together: a small pool of pages bounds a request as the context does.
 */
int cog_chat_prompt_capacity(const cog_engine_info *info);

/* context_length_exceeded, in the words that gateways look for. field: that has the prompt,
 * "messages". at_least: prompt is a lower bound. */
int cog_chat_prompt_refuse(const cog_engine_info *info, const char *field, bool at_least,
                           int64_t prompt, int image, int64_t wanted, cog_api_error *err);

#endif
