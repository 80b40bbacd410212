/* nfa.h - expressions over characters as a nondeterministic automaton over bytes. Pure. */
#ifndef COG_ENGINE_GRAMMAR_NFA_H
#define COG_ENGINE_GRAMMAR_NFA_H

#include "engine/grammar/expr.h"

enum {
    COG_NFA_MAX = 400000, /* states, and edges */
};

typedef enum cog_nfa_kind { COG_NFA_EMPTY, COG_NFA_BYTE, COG_NFA_CALL } cog_nfa_kind;

typedef struct cog_nfa_edge {
    cog_nfa_kind kind;
    uint8_t lo, hi; /* of BYTE */
    int32_t rule;   /* of CALL: goes on at `to` when the rule has ended */
    int32_t to;
    int32_t next; /* edge of the same state, or -1 */
} cog_nfa_edge;

typedef struct cog_nfa {
    int32_t *first; /* [n] a state's edges */
    cog_nfa_edge *edge;
    int32_t n, cap, n_edges, cap_edges;
    int32_t *start; /* [n_rules + 1] where each rule begins; the last one is the whole */
    int n_rules;
} cog_nfa;

/* State 0 is the end of each rule. COG_ELIMIT when it has too many states or CPU time of this
 * thread (CLOCK_THREAD_CPUTIME_ID) passes deadline_ns. *out is valid for cog_nfa_fini either way.
 */
int cog_nfa_init(cog_nfa *out, const cog_exprs *x, int32_t whole, uint64_t deadline_ns,
                 cog_err *err);
void cog_nfa_fini(cog_nfa *a);

/* CPU time of the calling thread. */
uint64_t cog_nfa_cpu_ns(void);

#endif
