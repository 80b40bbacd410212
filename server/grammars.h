/* grammars.h - compiled grammars by what they were made of, so that the same schema in every
 * request is compiled once. Any thread. */
#ifndef COG_SERVER_GRAMMARS_H
#define COG_SERVER_GRAMMARS_H

#include "engine/engine.h"

typedef struct cog_grammars cog_grammars;

cog_grammars *cog_grammars_new(void);
void cog_grammars_free(cog_grammars *g); /* NULL is fine */

/* As cog_grammar_new, on the calling thread; the reference is the caller's. */
int cog_grammars_get(cog_grammar **out, cog_grammars *g, cog_grammar_kind kind, const char *text,
                     size_t len, cog_err *err);

#endif
