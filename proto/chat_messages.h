/* chat_messages.h - the messages of a chat request: roles and parts into turns and one picture; and
 * what chats and responses (responses.h) read alike. Private to proto/. */
#ifndef COG_PROTO_CHAT_MESSAGES_H
#define COG_PROTO_CHAT_MESSAGES_H

#include "proto/chat.h"

/* Fills turns, text_len and picture of chat, whose scan and field are set. */
int cog_chat_messages_read(cog_chat *chat, const struct json_t *messages,
                           const cog_chat_options *opt, cog_api_error *err);
/* The same from a response's: input is a text, or items in the form of messages; instructions, a
 * string or NULL, come before what they say as system. */
int cog_chat_input_read(cog_chat *chat, const struct json_t *instructions,
                        const struct json_t *input, const cog_chat_options *opt,
                        cog_api_error *err);

/* chat.c: template_version and chat_template_kwargs, and that no tool is to be called. */
int cog_chat_form_read(cog_chat *c, cog_api_error *err);
int cog_chat_tools_read(const cog_chat *c, const char *list, const char *choice,
                        cog_api_error *err);

#endif
