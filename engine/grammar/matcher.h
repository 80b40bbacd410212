/* matcher.h - walks a grammar's automaton along answers, and says which tokens may come next.
 *
 * A place is a number for all that decides how a text may go on: a set of states, each with the
 * stack of places where calls go on. Places, ways between them and their masks are made when they
 * are first needed, and kept; so a matcher belongs to one thread. When what it keeps grows too
 * large all is dropped at the next cog_matcher_tidy, and places of before mean nothing (epoch).
 *
 * Masks are exact: a token is in when all its bytes lead on, however many symbols of the grammar it
 * spans. From each place some token leads on, or the text may end, given a vocabulary with all
 * bytes (cog_trie.has_bytes). */
#ifndef COG_ENGINE_GRAMMAR_MATCHER_H
#define COG_ENGINE_GRAMMAR_MATCHER_H

#include "engine/grammar/grammar.h"
#include "engine/grammar/trie.h"

typedef struct cog_matcher cog_matcher;

enum { COG_MATCHER_NOWHERE = -1 };

/* Takes a reference to the grammar; the trie is borrowed. */
cog_matcher *cog_matcher_new(cog_grammar *g, const cog_trie *t);
void cog_matcher_free(cog_matcher *m); /* NULL is fine */

/* Drops what is kept when it is too much. Changes with each time: */
void cog_matcher_tidy(cog_matcher *m);
uint32_t cog_matcher_epoch(const cog_matcher *m);

/* The place of the empty text, after a byte, after several: COG_MATCHER_NOWHERE when no answer
 * begins so, COG_ELIMIT when the grammar is too ambiguous here. */
int32_t cog_matcher_start(cog_matcher *m);
int32_t cog_matcher_step(cog_matcher *m, int32_t place, uint8_t byte);
int32_t cog_matcher_text(cog_matcher *m, int32_t place, const char *bytes, size_t len);

bool cog_matcher_may_end(const cog_matcher *m, int32_t place);

/* The tokens that may come next, a bit each; those that end an answer where it may. is_first: there
 * is no text so far, and a space at the beginning of its first token is none. Owned by m, until
 * tidy. NULL: the grammar is too ambiguous here. */
const uint64_t *cog_matcher_mask(cog_matcher *m, int32_t place, bool is_first);

#endif
