/* The scheduler by strings of operations, against a model of what each page holds: whatever counts
 * as computed is what the sequence itself would have computed, no page is lost or written by two,
 * and without arrivals everything ends. The first four bytes are the sizes of pool and step. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/scheduler.h"

#include <limits.h>
#include <string.h>

enum { BLOCK = 16, SEQS = 12, PICTURES = 3, LONGEST = 96, MAX_PAGES = 32, N_VISUAL = 21 };

typedef struct world {
    cog_scheduler s;
    cog_plan p;
    cog_sched_seq q[SEQS];
    int32_t tokens[SEQS][LONGEST];
    int limit[SEQS]; /* tokens at which it ends */
    bool live[SEQS];
    cog_picture picture[PICTURES];
    uint64_t memory[MAX_PAGES][BLOCK]; /* what each slot holds: the hash of all it depends on */
    uint64_t now_ns, next_order;
} world;

typedef struct script {
    const uint8_t *at, *end;
} script;

static unsigned next(script *s)
{
    return s->at < s->end ? *s->at++ : 0;
}

/* What the slots of sequence i up to n hold. */
static void contents(const world *w, int i, uint64_t *at, int n)
{
    const cog_sched_seq *q = &w->q[i];
    uint64_t h = 77;

    for (int k = 0; k < n; k++) {
        h = cog_rng_mix(h * 31 + (uint64_t)w->tokens[i][k] + 1);
        if (k > 0 && k < q->n_visual)
            h = cog_rng_mix(h * 31 + 1000 + (uint64_t)(q->picture - w->picture));
        at[k] = h;
    }
}

static void check_contents(const world *w)
{
    for (const cog_sched_seq *q = w->s.running.head; q; q = q->next) {
        uint64_t at[LONGEST];

        contents(w, (int)(q - w->q), at, q->n_computed);
        for (int k = 0; k < q->n_computed; k++)
            REQUIRE(w->memory[q->table.block[k / BLOCK]][k % BLOCK] == at[k]);
    }
}

static void check_world(const world *w)
{
    int held[MAX_PAGES] = { 0 }, running = 0, waiting = 0;

    for (int i = 0; i < SEQS; i++) {
        const cog_sched_seq *q = &w->q[i];

        if (!w->live[i])
            continue;
        running += q->state == COG_SEQ_RUNNING;
        waiting += q->state == COG_SEQ_WAITING;
        REQUIRE(q->state != COG_SEQ_WAITING || q->table.n == 0);
        REQUIRE(q->n_computed <= q->n_tokens);
        REQUIRE(q->table.n * BLOCK >= q->n_computed + q->n_rows);
        for (int k = 0; k < q->table.n; k++)
            held[q->table.block[k]]++;
    }
    REQUIRE(running == w->s.running.n && running <= w->s.max_seqs);
    REQUIRE(waiting == cog_queue_count(w->s.waiting));
    for (int i = 0; i < w->s.kv.n_blocks; i++)
        REQUIRE(w->s.kv.refs[i] == held[i]);
    REQUIRE(cog_kv_is_sound(&w->s.kv));
}

/* Copies in their order, then all rows at once; a page that is written is held by one. */
static void compute(world *w)
{
    const cog_plan *p = &w->p;
    int rows = 0;

    REQUIRE(p->n_copies <= w->s.max_seqs && p->n_run <= w->s.max_seqs);
    for (int i = 0; i < p->n_copies; i++)
        memcpy(w->memory[p->copy[i].dst], w->memory[p->copy[i].src],
               (size_t)p->copy[i].n_slots * sizeof(uint64_t));
    for (int i = 0; i < p->n_run; i++) {
        cog_sched_seq *q = p->run[i];
        uint64_t at[LONGEST];

        REQUIRE(q->state == COG_SEQ_RUNNING && q->n_rows > 0);
        REQUIRE(!q->picture || q->picture->ready || q->n_computed >= q->n_visual);
        REQUIRE(i >= p->decode_rows || q->n_rows == 1);
        contents(w, (int)(q - w->q), at, q->n_computed + q->n_rows);
        for (int k = q->n_computed; k < q->n_computed + q->n_rows; k++) {
            REQUIRE(w->s.kv.refs[q->table.block[k / BLOCK]] == 1);
            w->memory[q->table.block[k / BLOCK]][k % BLOCK] = at[k];
        }
        rows += q->n_rows;
    }
    REQUIRE(rows == p->rows && rows <= w->s.step_tokens);
}

static void init_seq(world *w, int i, int n_tokens, int limit)
{
    w->q[i] = (cog_sched_seq){ .n_tokens = n_tokens, .n_found = -1 };
    cog_block_table_init(&w->q[i].table, (limit + BLOCK - 1) / BLOCK);
    w->limit[i] = limit;
    w->live[i] = true;
}

static void use_cache(world *w, int i)
{
    const cog_sha256 salt = { { 0 } };
    cog_sched_seq *q = &w->q[i];
    cog_sha256 picture = { { 0 } };

    if (q->picture)
        picture.byte[0] = (uint8_t)(q->picture - w->picture);
    cog_prefix_chain_init(&q->chain, w->tokens[i], w->limit[i], BLOCK, &salt, q->n_visual,
                          &picture);
}

static void leave(world *w, int i)
{
    cog_scheduler_remove(&w->s, &w->q[i]);
    cog_block_table_fini(&w->q[i].table);
    cog_prefix_chain_fini(&w->q[i].chain);
    w->live[i] = false;
}

/* Texts are few, so that prefixes meet. */
static void arrive(world *w, int i, script *s)
{
    unsigned kind = next(s), who = next(s);
    int prompt = 1 + (int)(next(s) % 60), more = 1 + (int)(next(s) % 30), room;
    cog_sched_seq *q = &w->q[i];

    if (w->live[i])
        return;
    prompt = kind & 1 && prompt < N_VISUAL ? N_VISUAL : prompt;
    room = w->s.kv.n_blocks * BLOCK < LONGEST ? w->s.kv.n_blocks * BLOCK : LONGEST;
    prompt = prompt >= room ? room - 1 : prompt;
    init_seq(w, i, prompt, prompt + more > room ? room : prompt + more);
    q->item.order = w->next_order++;
    q->item.arrived_ns = w->now_ns;
    q->item.priority = (int)(who % 3) - 1;
    q->tenant = who / 3 % 3;
    if (kind & 1) {
        q->picture = &w->picture[kind / 8 % PICTURES];
        q->n_visual = N_VISUAL;
    }
    for (int k = 0; k < prompt; k++)
        w->tokens[i][k] =
            k < q->n_visual ? k == 0 : (int)(k < (int)(who / 9) ? kind / 2 % 2 : 10u + who);
    if (!(kind & 4))
        use_cache(w, i);
    cog_scheduler_add(&w->s, q);
}

/* A sequence that just got a token splits in two that differ in it. */
static void fork_one(world *w, int of, int i)
{
    const cog_sched_seq *parent = &w->q[of];
    cog_sched_seq *q = &w->q[i];

    if (!w->live[of] || w->live[i] || parent->state != COG_SEQ_RUNNING || parent->n_computed == 0 ||
        parent->n_tokens - parent->n_computed != 1 || parent->n_tokens <= parent->n_visual)
        return;
    init_seq(w, i, parent->n_tokens, w->limit[of]);
    q->item.order = parent->item.order;
    q->item.arrived_ns = parent->item.arrived_ns;
    q->item.priority = parent->item.priority;
    q->tenant = parent->tenant;
    q->picture = parent->picture;
    q->n_visual = parent->n_visual;
    memcpy(w->tokens[i], w->tokens[of], sizeof(w->tokens[i]));
    w->tokens[i][parent->n_tokens - 1] += 5;
    if (parent->chain.name)
        use_cache(w, i);
    cog_scheduler_fork(&w->s, q, parent);
}

/* Returns the rows computed. */
static int step(world *w, int max_prompt_rows)
{
    cog_sched_seq *run[SEQS];
    int n, rows;

    cog_scheduler_plan(&w->s, &w->p, w->now_ns, max_prompt_rows);
    check_world(w);
    compute(w);
    n = w->p.n_run;
    rows = w->p.rows;
    memcpy(run, w->p.run, (size_t)n * sizeof(run[0]));
    cog_scheduler_commit(&w->s, &w->p);
    check_contents(w);
    for (int k = 0; k < n; k++) {
        int i = (int)(run[k] - w->q);

        if (run[k]->n_computed < run[k]->n_tokens)
            continue;
        w->tokens[i][run[k]->n_tokens++] = (int32_t)(w->now_ns & 1);
        if (run[k]->n_tokens == w->limit[i])
            leave(w, i);
    }
    return rows;
}

static void encode(world *w, unsigned n)
{
    cog_picture *out[PICTURES];
    int found = cog_scheduler_pictures(&w->s, w->now_ns, out, 1 + (int)(n % PICTURES));

    REQUIRE(found >= 0 && found <= PICTURES);
    for (int i = 0; i < found; i++) {
        REQUIRE(!out[i]->ready && !out[i]->in_pass);
        out[i]->ready = true;
    }
}

static void act(world *w, script *s)
{
    unsigned what = next(s);
    int i = (int)(what / 8 % SEQS);

    switch (what % 8) {
    case 0:
    case 1:
        arrive(w, i, s);
        break;
    case 2:
        if (w->live[i])
            leave(w, i);
        break;
    case 3:
        if (!cog_scheduler_uses_features(&w->s, &w->picture[i % PICTURES]))
            w->picture[i % PICTURES].ready = false;
        break;
    case 4:
        fork_one(w, i, (int)(next(s) % SEQS));
        break;
    case 5:
        encode(w, what / 8);
        break;
    default:
        w->now_ns += next(s) * UINT64_C(200000000);
        step(w, what & 64 ? INT_MAX : (int)(what / 8 % 8) * 8);
        break;
    }
    check_world(w);
}

/* Without arrivals everything ends, and of two steps one makes progress. */
static void drain(world *w)
{
    int idle = 0;

    while (w->s.running.n + cog_queue_count(w->s.waiting) > 0) {
        encode(w, PICTURES - 1);
        idle = step(w, INT_MAX) == 0 ? idle + 1 : 0;
        REQUIRE(idle < 3);
    }
    REQUIRE(cog_kv_available(&w->s.kv) == w->s.kv.n_blocks);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    script s = { bytes, bytes + len };
    int n_blocks = 2 + (int)(next(&s) % (MAX_PAGES - 2)), max_seqs = 1 + (int)(next(&s) % 6);
    int step_tokens = max_seqs + (int)(next(&s) % 64);
    world *w = cog_new(world);

    cog_scheduler_init(&w->s, n_blocks, BLOCK, max_seqs, step_tokens, next(&s) % 4 != 0);
    cog_plan_init(&w->p, max_seqs);
    while (s.at < s.end)
        act(w, &s);
    drain(w);
    cog_plan_fini(&w->p);
    cog_scheduler_fini(&w->s);
    cog_free(w);
    return 0;
}
