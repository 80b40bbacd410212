/* scheduler.h - who runs in the next step: admission, token budget, preemption. Pure logic on plain
 * data: no tensors, no clock, no threads, so that tests can drive it with random operations.
 *
 * A sequence is known by how many tokens it has (prompt and answer so far) and for how many of them
 * the KV cache holds keys and values. The rest follows:
 *
 *     n_tokens - n_computed == 1   decode: one row
 *     n_tokens - n_computed  > 1   prefill: rows in chunks, also after a preemption, answer
 * included
 *
 * One step: decode rows first, because a stream already running must not stall when somebody sends
 * a long prompt; then prefill chunks of running sequences, oldest first; then admission from the
 * waiting list, in order of arrival, as long as a whole prompt's pages are free. First come, first
 * served within each class, so nobody starves. When a running sequence needs a page and none is
 * free, the youngest running one is preempted: it gives its pages back and waits at its old place
 * in the order of arrival. */
#ifndef COG_ENGINE_SCHEDULER_H
#define COG_ENGINE_SCHEDULER_H

#include "engine/kv.h"

#include <stdbool.h>
#include <stdint.h>

/* A picture that sequences wait for; shared by all requests that sent the same one. The engine owns
 * it. */
typedef struct cog_picture {
    bool ready;   /* its features are there: rows of sequences that use it may run */
    bool in_pass; /* a vision pass is encoding it now */
} cog_picture;

typedef enum cog_seq_state { COG_SEQ_IDLE, COG_SEQ_WAITING, COG_SEQ_RUNNING } cog_seq_state;

typedef struct cog_sched_seq {
    struct cog_sched_seq *prev, *next; /* in the waiting or the running list, by order */
    cog_seq_state state;
    uint64_t order;       /* of arrival; children of one request share it */
    int n_tokens;         /* prompt and answer so far */
    int n_computed;       /* slots 0 .. n_computed - 1 are in the KV cache */
    cog_picture *picture; /* NULL for text only */
    cog_block_table table;
    int n_rows; /* rows in the step just planned: tokens n_computed .. n_computed + n_rows - 1 */
} cog_sched_seq;

typedef struct cog_sched_list {
    cog_sched_seq *head, *tail;
    int n;
} cog_sched_list;

typedef struct cog_scheduler {
    cog_kv kv;
    int max_seqs; /* running sequences at once; <= step_tokens, so that every decode row fits in a
                     step */
    int step_tokens; /* rows in one step */
    cog_sched_list waiting, running;
    uint64_t n_preempted;
} cog_scheduler;

typedef struct cog_page_copy {
    int32_t dst, src;
    int n_slots;
} cog_page_copy;

/* What the next step does. Arrays belong to the plan. */
typedef struct cog_plan {
    cog_sched_seq **run; /* [max_seqs], n_rows > 0 each, decode rows first */
    int n_run, rows;
    cog_page_copy *copy; /* [max_seqs], to be done before the step's first write */
    int n_copies;
} cog_plan;

void cog_scheduler_init(cog_scheduler *s, int n_blocks, int block, int max_seqs, int step_tokens);
void cog_scheduler_fini(cog_scheduler *s);
void cog_plan_init(cog_plan *p, int max_seqs);
void cog_plan_fini(cog_plan *p);

/* The sequence's table is initialised and empty, n_computed 0, n_tokens >= 1, and so many slots
 * that it could run alone in the pool. It waits from now on, at the place of its order. */
void cog_scheduler_add(cog_scheduler *s, cog_sched_seq *q);

/* A running sequence splits: child, idle and of the same length, shares its computed pages and runs
 * at once if there is room for one more; otherwise it waits and computes them again. Both orders
 * are equal. */
void cog_scheduler_fork(cog_scheduler *s, cog_sched_seq *child, const cog_sched_seq *parent);

/* The sequence is idle afterwards and holds no page. From any state. */
void cog_scheduler_remove(cog_scheduler *s, cog_sched_seq *q);

/* Plans one step. Sequences whose picture is not ready hold their pages and get no rows. */
void cog_scheduler_plan(cog_scheduler *s, cog_plan *p);

/* The planned rows were computed. The engine then adds sampled tokens (n_tokens++) itself. */
void cog_scheduler_commit(cog_plan *p);

/* Up to max distinct pictures to encode next: those running sequences wait for, then at most
 * max_waiting of those at the head of the waiting list. Returns how many. */
int cog_scheduler_pictures(const cog_scheduler *s, cog_picture **out, int max, int max_waiting);

#endif
