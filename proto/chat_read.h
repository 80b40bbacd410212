/* chat_read.h - answers of the OpenAI API as a client reads them: chunks of a stream, whole chat
 * completions, error bodies, the list of models. Of any server, so nothing but the form is relied
 * on. Pure. */
#ifndef COG_PROTO_CHAT_READ_H
#define COG_PROTO_CHAT_READ_H

#include <stdbool.h>
#include <stddef.h>

/* What a benchmark wants to know of one chunk, or of a whole completion. */
typedef struct cog_chat_chunk {
    bool is_error;    /* has an error object instead */
    bool has_choices; /* a list of choices that is not empty: a usage chunk has none */
    bool has_text;    /* some choice carries text */
    bool is_finished; /* some choice has a finish_reason */
    bool has_usage;
    /* Of usage; 0 where it does not say. */
    int prompt_tokens, completion_tokens, cached_tokens, image_tokens;
} cog_chat_chunk;

/* COG_EFORMAT: no JSON object. */
int cog_chat_read(cog_chat_chunk *out, const char *bytes, size_t len);

/* The first model's id in an answer to GET /v1/models, to be freed with cog_free. COG_EFORMAT:
 * there is none. */
int cog_chat_read_models(char **id, const char *bytes, size_t len);

/* The message of an error body, to be freed with cog_free; NULL when it has none. */
char *cog_chat_read_error(const char *bytes, size_t len);

#endif
