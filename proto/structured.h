/* structured.h - the form that a request wants its answers to have, in the words of several APIs:
 * response_format (OpenAI, llama.cpp), structured_outputs and guided_json, guided_regex,
 * guided_choice, bad_words (vLLM), json_schema and regex (SGLang, llama.cpp),
 * text.format (OpenAI's responses). Pure. */
#ifndef COG_PROTO_STRUCTURED_H
#define COG_PROTO_STRUCTURED_H

#include "proto/api_error.h"

#include <stddef.h>

struct json_t;

typedef enum cog_structured_kind {
    COG_STRUCTURED_NONE,
    COG_STRUCTURED_REGEX,
    COG_STRUCTURED_CHOICE,  /* text: a JSON array of strings, none empty, at least one */
    COG_STRUCTURED_SCHEMA,  /* text: JSON; not looked into */
    COG_STRUCTURED_OBJECT,  /* no text: any JSON object */
    COG_STRUCTURED_BOXES,   /* no text: any text in which boxes are well-formed */
    COG_STRUCTURED_WITHOUT, /* text: a JSON array of 1..64 strings of 1..128 bytes, none to come up
                             */
} cog_structured_kind;

enum { COG_STRUCTURED_MAX = 64 << 10 };

/* A JSON text of more than COG_STRUCTURED_MAX bytes ends somewhere behind them: whoever reads it is
 * to refuse so much. */
typedef struct cog_structured {
    cog_structured_kind kind;
    char *text; /* owned */
    size_t len;
    char **choice; /* CHOICE: [n_choices], owned, in their order, each once */
    int n_choices;
    const char *param; /* the field that says so, for errors; static */
} cog_structured;

/* At most one of the fields may say something. COG_EINVAL; *out is as valid for fini. */
int cog_structured_read(cog_structured *out, const struct json_t *root, cog_api_error *err);
/* What a response's text.format, an object or NULL, adds to that. */
int cog_structured_read_text(cog_structured *out, const struct json_t *format, cog_api_error *err);
void cog_structured_fini(cog_structured *s);

#endif
