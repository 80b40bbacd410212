/* automaton.h - what answers a grammar takes: one deterministic automaton over bytes for each rule,
 * which call each other. Immutable: any thread.
 *
 * A text's state is a set of (state, stack of states where calls go on). matcher.h walks it. A
 * state has at most one way for each byte and one for each rule that may begin here; both at once
 * are possible, which is why it is a set. Calls of rules that can come back to themselves may be
 * nested max_depth deep, and each state knows how much of that it needs to come to an end: states
 * that lack it are never entered, so every text that is on its way can be finished. */
#ifndef COG_ENGINE_GRAMMAR_AUTOMATON_H
#define COG_ENGINE_GRAMMAR_AUTOMATON_H

#include "engine/grammar/nfa.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    COG_AUTOMATON_MAX = 50000, /* states */
    COG_AUTOMATON_NEVER = 255, /* no depth is enough */
};

typedef struct cog_arc {
    uint8_t lo, hi;
    int32_t to;
} cog_arc;

typedef struct cog_rule_call {
    int32_t rule, to; /* to: where it goes on afterwards */
} cog_rule_call;

typedef struct cog_automaton_state {
    int32_t first_arc, n_arcs; /* ascending, none overlapping */
    int32_t first_call, n_calls;
    uint8_t need;  /* depth that it takes to come to the rule's end, or NEVER */
    bool is_final; /* the rule may end here */
} cog_automaton_state;

typedef struct cog_automaton {
    cog_automaton_state *state;
    cog_arc *arc;
    cog_rule_call *call;
    int32_t n, cap, n_arcs, cap_arcs, n_calls, cap_calls;
    int32_t *start;  /* [n_rules + 1]; the last one is the whole */
    uint8_t *weight; /* [n_rules] the depth that its call takes: 1 when it can come back to itself,
                        else 0 */
    int n_rules;
    int max_depth;
    uint8_t class_of[256]; /* bytes that no state tells apart have one number */
    int n_classes;
} cog_automaton;

/* COG_EINVAL when nothing satisfies it, COG_ELIMIT when it has too many states or the thread's CPU
 * time passes deadline_ns. *out is valid for cog_automaton_fini either way. */
int cog_automaton_init(cog_automaton *out, const cog_nfa *nfa, int max_depth, uint64_t deadline_ns,
                       cog_err *err);
/* Sets class_of and n_classes by the arcs: the last step of making one in another way. */
void cog_automaton_find_classes(cog_automaton *a);
void cog_automaton_fini(cog_automaton *a);
size_t cog_automaton_bytes(const cog_automaton *a); /* of memory */

/* Where a byte leads; -1: nowhere. */
int32_t cog_automaton_step(const cog_automaton *a, int32_t state, uint8_t byte);

#endif
