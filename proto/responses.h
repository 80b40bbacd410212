/* responses.h - the request of OpenAI's Responses API, as the chat that it is: nothing is kept, so
 * all of a conversation is in its input. Bytes of a body in, a checked struct out. Pure, any
 * thread. Answers are in responses_write.h. */
#ifndef COG_PROTO_RESPONSES_H
#define COG_PROTO_RESPONSES_H

#include "proto/chat.h"

enum {
    COG_RESPONSES_MAX_METADATA = 16, /* members */
    COG_RESPONSES_MAX_KEY = 64,      /* bytes of a member's name */
    COG_RESPONSES_MAX_VALUE = 512,   /* bytes of its value */
};

extern const cog_field_table cog_responses_fields; /* those beside cog_params_fields */

/* As cog_chat_init; out->field is "input". Adds to echo what the answer repeats of the request, as
 * members of a JSON object with a comma before each; owned by the caller, also after failure. */
int cog_responses_init(cog_chat *out, cog_buf *echo, const char *body, size_t len,
                       const cog_chat_options *opt, cog_api_error *err);

#endif
