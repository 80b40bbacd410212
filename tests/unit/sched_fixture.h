/* sched_fixture.h - a scheduler, a plan, and sequences for the scheduler's tests. */
#ifndef COG_TESTS_SCHED_FIXTURE_H
#define COG_TESTS_SCHED_FIXTURE_H

#include "tests/unit/unit.h"

#include "engine/scheduler.h"

#include <limits.h>

enum { BLOCK = 16, N_VISUAL = 21 };

typedef struct fixture {
    cog_scheduler s;
    cog_plan p;
} fixture;

static inline void open_fixture(fixture *f, int n_blocks, int max_seqs, int step_tokens)
{
    cog_scheduler_init(&f->s, n_blocks, BLOCK, max_seqs, step_tokens, true);
    cog_plan_init(&f->p, max_seqs);
}

static inline void close_fixture(fixture *f)
{
    assert_int_equal(cog_kv_available(&f->s.kv), f->s.kv.n_blocks);
    cog_plan_fini(&f->p);
    cog_scheduler_fini(&f->s);
}

static inline void init_seq(cog_sched_seq *q, uint64_t order, int n_tokens, int max_tokens)
{
    *q = (cog_sched_seq){ .item = { .order = order }, .n_tokens = n_tokens, .n_found = -1 };
    cog_block_table_init(&q->table, (max_tokens + BLOCK - 1) / BLOCK);
}

static inline void fini_seq(fixture *f, cog_sched_seq *q)
{
    cog_scheduler_remove(&f->s, q);
    cog_block_table_fini(&q->table);
    cog_prefix_chain_fini(&q->chain);
}

static inline void plan(fixture *f)
{
    cog_scheduler_plan(&f->s, &f->p, 0, INT_MAX);
}

#endif
