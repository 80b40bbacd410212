/* constraint.h - holds answers to their grammars: for each draw the tokens that may come next.
 *
 * Requests with one grammar share its matcher, and what that found out; a few that nobody uses are
 * kept for the next request. Engine thread only; allocates, and therefore belongs between what a
 * step computes and its draws: a device is at work meanwhile. */
#ifndef COG_ENGINE_CONSTRAINT_H
#define COG_ENGINE_CONSTRAINT_H

#include "engine/grammar/matcher.h"
#include "engine/tokenizer.h"

typedef struct cog_constraints cog_constraints;

/* Borrows both. */
cog_constraints *cog_constraints_new(const cog_trie *trie, const cog_tokenizer *tokenizer);
void cog_constraints_free(cog_constraints *c); /* nobody uses a matcher; NULL is fine */

/* The grammar's matcher, for one request, until give. */
cog_matcher *cog_constraints_take(cog_constraints *c, cog_grammar *g);
void cog_constraints_give(cog_constraints *c, cog_matcher *m); /* NULL is fine */

/* Before the masks of a step: those of before are no more. */
void cog_constraints_tidy(cog_constraints *c);

/* How far an answer was followed. Zero-initialised: not at all. */
typedef struct cog_constraint {
    uint32_t epoch; /* of the matcher, when it was */
    int32_t place;
    int n_read;     /* tokens */
    bool has_text;  /* some of them had bytes */
    bool continues; /* to be set before: the text goes on where another ends */
} cog_constraint;

/* The bits of the tokens that may follow the answer; valid until tidy. 0, COG_ELIMIT when the
 * grammar is too ambiguous here, COG_EDEVICE when the answer does not hold to it, which masks
 * prevent. */
int cog_constraint_mask(const uint64_t **mask, cog_constraint *s, cog_constraints *c,
                        cog_matcher *m, const int32_t *output, int n_output);

/* Whether a mask has any other tokens than these n. */
bool cog_constraint_has_other(const uint64_t *mask, int vocab, const int32_t *token, int n);

#endif
