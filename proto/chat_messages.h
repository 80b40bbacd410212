/* chat_messages.h - the messages of a chat request: roles and parts into turns and one picture.
 * Private to proto/. */
#ifndef COG_PROTO_CHAT_MESSAGES_H
#define COG_PROTO_CHAT_MESSAGES_H

#include "proto/chat.h"

/* Fills turns, text_len and picture of chat, whose scan is set. */
int cog_chat_messages_read(cog_chat *chat, const struct json_t *messages,
                           const cog_chat_options *opt, cog_api_error *err);

#endif
