/* grammar.h - the grammar of a request: engine.h's cog_grammar. Immutable and counted: any thread.
 */
#ifndef COG_ENGINE_GRAMMAR_GRAMMAR_H
#define COG_ENGINE_GRAMMAR_GRAMMAR_H

#include "engine/engine.h"
#include "engine/grammar/automaton.h"

#include <stdatomic.h>

struct cog_grammar {
    atomic_int refs;
    bool has_boxes; /* it is that of boxes.h, and the automaton's but the classes of bytes */
    cog_automaton automaton;
};

#endif
