/* scheduler.h - who runs in the next step: admission, token budget, preemption, and what of the
 * past is used again. Pure logic on plain data: no tensors, no clock but the times it is given, no
 * threads, so that tests can drive it with random operations and simulations.
 *
 * A sequence is known by how many tokens it has (prompt and answer so far) and for how many of them
 * the KV cache holds keys and values. The rest follows:
 *
 *     n_tokens - n_computed == 1   decode: one row
 *     n_tokens - n_computed  > 1   prefill: rows in chunks, also after a preemption, answer
 * included
 *
 * One step: decode rows first, because a stream already running must not stall when somebody sends
 * a long prompt; then prefill chunks of running sequences, small priority numbers first, then older
 * ones; then admission from the queue, in its order (queue.h), as long as a whole prompt's pages
 * can be had. Who lacks pages is not overtaken, so nobody starves; who lacks its picture's features
 * is, and holds neither pages nor a place meanwhile. When a running sequence needs a page and there
 * is none, the one with the largest priority number, of those the youngest, is
 * preempted: it gives its pages back and waits.
 *
 * A step has logits for max_seqs rows at most: the last token's of each sequence, and those that a
 * sequence wants shown.
 *
 * Pages get their names (prefix.h) when they are full, and the page that ends a picture's prefix
 * when that far. A sequence that comes in takes over what is found, so that it computes only its
 * own words, but always its last token, whose logits are wanted. A page that it would have to write
 * is copied.
 *
 * Single flight: while a running sequence computes a picture's prefix, others with the picture
 * wait, and find it computed; they, too, are overtaken. */
#ifndef COG_ENGINE_SCHEDULER_H
#define COG_ENGINE_SCHEDULER_H

#include "engine/kv.h"
#include "engine/prefix.h"
#include "engine/queue.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cog_sched_seq cog_sched_seq;

/* A picture that sequences wait for; shared by all requests that sent the same one with the same
 * salt. The engine owns it. */
typedef struct cog_picture {
    bool ready;    /* its features are there; it stays so while a running sequence uses them */
    bool in_pass;  /* a vision pass is encoding it now */
    int n_waiting; /* sequences of it in the queue */
    uint64_t met;  /* the last cog_scheduler_pictures that met it before one to encode */
    cog_sched_seq *leader; /* the running sequence that computes its prefix for all, or NULL */
} cog_picture;

typedef enum cog_seq_state { COG_SEQ_IDLE, COG_SEQ_WAITING, COG_SEQ_RUNNING } cog_seq_state;

struct cog_sched_seq {
    cog_queue_item item; /* first member. order (children of one request share it), arrived_ns and
                            priority are the owner's; the rest is the scheduler's */
    uint64_t tenant;     /* whose turn it uses */
    cog_sched_seq *prev, *next; /* in the running list */
    cog_seq_state state;
    int n_tokens;           /* prompt and answer so far */
    int n_computed;         /* slots 0 .. n_computed - 1 are in the KV cache */
    cog_picture *picture;   /* NULL for text only */
    int n_visual;           /* rows below it need the picture's features: BOS and the picture */
    cog_prefix_chain chain; /* zeroed: it neither takes from the cache nor leaves anything there */
    cog_block_table table;
    int n_named;     /* pages of the table that have their full names */
    uint64_t pin;    /* the pages of its picture are pinned for this number; 0: they are not */
    bool has_pinned; /* they were since it came in */
    int n_paid;      /* tokens whose rows its tenant was charged for */
    int n_found;     /* tokens found computed when it first came in; the owner begins with -1 */
    int n_rows; /* rows in the step just planned: tokens n_computed .. n_computed + n_rows - 1 */
    /* Rows shown_from .. shown_to - 1 are to have logits, which are not in the cache: they are
     * computed, whatever is found. shown_from moves on with what was computed, so that they are
     * once. 0, 0: none are. shown_to < n_tokens. */
    int shown_from, shown_to;
};

typedef struct cog_sched_list {
    cog_sched_seq *head, *tail;
    int n;
} cog_sched_list;

typedef struct cog_scheduler {
    cog_kv kv;
    int max_seqs; /* running sequences at once; <= step_tokens, so that every decode row fits in a
                     step */
    int step_tokens; /* rows in one step */
    cog_queue *waiting;
    int n_pictured;         /* of those that wait, with a picture */
    cog_sched_list running; /* by priority, then order: the last one gives way first */
    bool has_backlog;       /* the last plan had rows for no more prompts */
    uint64_t n_preempted;   /* since the start */
    uint64_t n_led;         /* pictures' prefixes computed, or given up, since the start */
    uint64_t n_walks;       /* calls of cog_scheduler_pictures */
    /* Counts how often the ready or in_pass of any picture changed, so that a walk that found all
     * who wait held, or no picture missing, is not repeated before something changes: thousands may
     * wait. The owner's; NULL: each walk is made. */
    const uint64_t *picture_changes;
    uint64_t n_queued;                   /* how often a sequence began to wait */
    uint64_t all_held_at, no_missing_at; /* changes up to that walk; 0: there was none */
} cog_scheduler;

typedef struct cog_page_copy {
    int32_t dst, src;
    int n_slots;
} cog_page_copy;

/* What the next step does. Arrays belong to the plan. */
typedef struct cog_plan {
    cog_sched_seq **run; /* [max_seqs], n_rows > 0 each, decode rows first */
    int n_run, rows;
    int decode_rows;
    int prompt_left; /* rows that prompts may still have */
    int logits_left; /* rows that may still have logits; max_seqs before the first */
    /* [max_seqs], to be done one after another before the step's first write, also when there are
     * no rows: what one copies from may be written by a later one. */
    cog_page_copy *copy;
    int n_copies;
} cog_plan;

void cog_scheduler_init(cog_scheduler *s, int n_blocks, int block, int max_seqs, int step_tokens,
                        bool keeps_prefixes);
void cog_scheduler_fini(cog_scheduler *s); /* every sequence was removed */
void cog_plan_init(cog_plan *p, int max_seqs);
void cog_plan_fini(cog_plan *p);

/* The sequence's table is initialised and empty, n_computed 0, n_tokens >= 1, and so many slots
 * that it could run alone in the pool. It waits from now on. */
void cog_scheduler_add(cog_scheduler *s, cog_sched_seq *q);

/* A running sequence splits: child, idle, with the same first n_computed tokens, shares their pages
 * and runs at once if there is room for one more; otherwise it waits like one that was preempted.
 * Both orders are equal. */
void cog_scheduler_fork(cog_scheduler *s, cog_sched_seq *child, const cog_sched_seq *parent);

/* The sequence is idle afterwards and holds no page. From any state. */
void cog_scheduler_remove(cog_scheduler *s, cog_sched_seq *q);

/* What the sequence, idle, left in the cache is free again. For one whose salt no request has but
 * its own: all sequences of that salt are idle, and each is to be forgotten. */
void cog_scheduler_forget(cog_scheduler *s, cog_sched_seq *q);

/* Plans one step with at most max_prompt_rows rows that are not decode rows. */
void cog_scheduler_plan(cog_scheduler *s, cog_plan *p, uint64_t now_ns, int max_prompt_rows);

/* Which of the sequence's planned rows have logits, beside the last token's: tokens *from up to
 * *to.
 */
void cog_scheduler_shown(const cog_sched_seq *q, int *from, int *to);

/* The planned rows were computed. The engine then adds sampled tokens (n_tokens++) itself. */
void cog_scheduler_commit(cog_scheduler *s, cog_plan *p);

/* What a step could do now: decode rows, and rows of prompts. */
void cog_scheduler_load(const cog_scheduler *s, int *n_streams, int *n_prompt_rows);

/* Up to max distinct pictures to encode next, those that are needed first: of waiting sequences
 * that will not find the picture's prefix computed. Returns how many. Ready ones that are needed
 * before the first of them are marked: met == n_walks. */
int cog_scheduler_pictures(cog_scheduler *s, uint64_t now_ns, cog_picture **out, int max);

/* Whether the sequence, waiting or running, needs its picture's features as things are. */
bool cog_scheduler_needs_features(const cog_scheduler *s, cog_sched_seq *q);

/* A running sequence has rows left that need the picture's features. */
bool cog_scheduler_uses_features(const cog_scheduler *s, const cog_picture *picture);

#endif
