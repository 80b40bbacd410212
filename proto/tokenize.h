/* tokenize.h - requests for the tokens of a text, and for the text of tokens: bytes of a body in,
 * a checked struct out. Pure, any thread. */
#ifndef COG_PROTO_TOKENIZE_H
#define COG_PROTO_TOKENIZE_H

#include "base/buf.h"
#include "proto/api_error.h"
#include "proto/field.h"
#include "proto/json_scan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const cog_field_table cog_tokenize_fields, cog_detokenize_fields;

enum { COG_TOKENIZE_MAX_LEN = 1 << 20 }; /* bytes of text */

typedef struct cog_tokenize {
    struct json_t *root; /* owns the borrowed strings */
    cog_json_scan scan;
    const char *model; /* NULL: absent */
    bool has_messages; /* the text is a chat's, which cog_chat_init reads from the same body */
    const char *text;  /* else the text, or NULL */
    size_t text_len;
    bool add_special;   /* the token that begins a prompt, before the text's */
    bool token_strings; /* beside the ids */
    bool pieces;        /* an object for each token (llama.cpp) */
    cog_buf ignored;    /* for x-ignored-parameters */
} cog_tokenize;

/* Understands {"prompt"}, {"messages"} (vLLM) and {"content"} (llama.cpp). body must outlive the
 * struct. Fails with COG_EINVAL and fills err; *out is valid for fini after failure as well. */
int cog_tokenize_init(cog_tokenize *out, const char *body, size_t len, const char *nonce,
                      bool strict, cog_api_error *err);
void cog_tokenize_fini(cog_tokenize *t);

typedef struct cog_detokenize {
    struct json_t *root;
    cog_json_scan scan;
    const char *model;
    int32_t *tokens; /* owned; each in [0, vocab) */
    int n_tokens;
    cog_buf ignored;
} cog_detokenize;

/* Same, for {"tokens"}. */
int cog_detokenize_init(cog_detokenize *out, const char *body, size_t len, const char *nonce,
                        int vocab, bool strict, cog_api_error *err);
void cog_detokenize_fini(cog_detokenize *d);

/* Reads an array of ids: COG_API_INVALID_TYPE for what is no integer, COG_API_INVALID_VALUE for an
 * id outside [0, vocab); the error names the entry. tokens has room for all of them. */
int cog_tokens_read(int32_t *tokens, const struct json_t *array, const char *param, int vocab,
                    cog_api_error *err);

#endif
