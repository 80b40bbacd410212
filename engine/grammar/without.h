/* without.h - the texts that have none of some words in them, as an automaton: that of Aho and
 * Corasick (1975) without the states in which a word is complete. Each of its states is an end, and
 * may go on for ever. Pure. */
#ifndef COG_ENGINE_GRAMMAR_WITHOUT_H
#define COG_ENGINE_GRAMMAR_WITHOUT_H

#include "engine/grammar/automaton.h"

#include <stddef.h>

enum {
    COG_WITHOUT_MAX_WORDS = 64,
    COG_WITHOUT_MAX_LEN = 128, /* bytes of a word */
};

typedef struct cog_without_word {
    const char *bytes; /* borrowed */
    size_t len;        /* 1..COG_WITHOUT_MAX_LEN */
} cog_without_word;

/* n: 1..COG_WITHOUT_MAX_WORDS. *out is to be given to cog_automaton_fini. */
void cog_without_init(cog_automaton *out, const cog_without_word *word, int n);

#endif
