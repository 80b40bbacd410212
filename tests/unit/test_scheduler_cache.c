/* What the scheduler takes over from the past: against a model of what each page holds. */
#include "tests/unit/sched_fixture.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <string.h>

/* ---- a world of sequences, with the memory that pages stand for ---- */

enum { SEQS = 40, PICTURES = 4, LONGEST = 128, MAX_PAGES = 4096, NOBODY = 0 };

typedef struct world {
    fixture f;
    cog_rng rng;
    cog_sched_seq q[SEQS];
    int32_t tokens[SEQS][LONGEST];
    int limit[SEQS]; /* tokens at which it ends */
    int salt[SEQS];
    bool live[SEQS];
    int show_from[SEQS], show_to[SEQS]; /* rows to have logits */
    int n_shown[SEQS];                  /* those that had, one after another */
    cog_picture picture[PICTURES];
    uint64_t memory[MAX_PAGES][BLOCK]; /* what each slot holds: the hash of all it depends on */
    uint64_t known[1 << 16];           /* of ends of pages that were ever named, a set */
    uint64_t next_order, finished, visual_rows, found;
} world;

static uint64_t mixed(uint64_t a, uint64_t b)
{
    return cog_rng_mix(a * 31 + b + 1);
}

/* What the slots of sequence i up to n hold; at[n]. */
static void contents(const world *w, int i, uint64_t *at, int n)
{
    const cog_sched_seq *q = &w->q[i];
    uint64_t h = mixed(77, (uint64_t)w->salt[i]);

    for (int k = 0; k < n; k++) {
        h = mixed(h, (uint64_t)w->tokens[i][k]);
        if (k > 0 && k < q->n_visual)
            h = mixed(h, 1000 + (uint64_t)(q->picture - w->picture));
        at[k] = h;
    }
}

static bool is_known(const world *w, uint64_t h)
{
    uint64_t k = h & 0xffff;

    while (w->known[k] != NOBODY && w->known[k] != h)
        k = (k + 1) & 0xffff;
    return w->known[k] == h;
}

static void make_known(world *w, uint64_t h)
{
    uint64_t k = h & 0xffff;

    while (w->known[k] != NOBODY && w->known[k] != h)
        k = (k + 1) & 0xffff;
    w->known[k] = h;
}

/* How much of sequence i has ever been computed by one that leaves things behind. */
static int longest_known(const world *w, int i)
{
    const cog_sched_seq *q = &w->q[i];
    int most = q->shown_from < q->shown_to ? q->shown_from : q->n_tokens - 1, n = 0;
    uint64_t at[LONGEST];

    contents(w, i, at, q->n_tokens);
    if (!q->chain.name)
        return 0;
    while (n + BLOCK <= most && is_known(w, at[n + BLOCK - 1]))
        n += BLOCK;
    if (n + BLOCK <= q->n_tokens && is_known(w, at[n + BLOCK - 1]))
        return most;
    if (q->n_visual / BLOCK == n / BLOCK && q->n_visual % BLOCK && is_known(w, at[q->n_visual - 1]))
        return q->n_visual < most ? q->n_visual : most;
    return n;
}

/* The copies, then all rows at once. */
static void compute(world *w)
{
    cog_plan *p = &w->f.p;

    for (int i = 0; i < p->n_copies; i++)
        memcpy(w->memory[p->copy[i].dst], w->memory[p->copy[i].src],
               (size_t)p->copy[i].n_slots * sizeof(uint64_t));
    for (int i = 0; i < p->n_run; i++) {
        cog_sched_seq *q = p->run[i];
        uint64_t at[LONGEST];

        contents(w, (int)(q - w->q), at, q->n_computed + q->n_rows);
        for (int k = q->n_computed; k < q->n_computed + q->n_rows; k++) {
            w->memory[q->table.block[k / BLOCK]][k % BLOCK] = at[k];
            w->visual_rows += k < q->n_visual;
        }
    }
}

/* Whatever counts as computed holds what the sequence itself would have computed. */
static void check_contents(const world *w)
{
    for (const cog_sched_seq *q = w->f.s.running.head; q; q = q->next) {
        uint64_t at[LONGEST];

        contents(w, (int)(q - w->q), at, q->n_computed);
        for (int k = 0; k < q->n_computed; k++)
            assert_true(w->memory[q->table.block[k / BLOCK]][k % BLOCK] == at[k]);
    }
}

static void check_world(world *w)
{
    static int held[MAX_PAGES];
    int running = 0, waiting = 0, computing[PICTURES] = { 0 }, pending[PICTURES] = { 0 };

    memset(held, 0, sizeof(held));
    for (int i = 0; i < SEQS; i++) {
        cog_sched_seq *q = &w->q[i];
        if (!w->live[i])
            continue;
        running += q->state == COG_SEQ_RUNNING;
        waiting += q->state == COG_SEQ_WAITING;
        if (q->state == COG_SEQ_WAITING)
            assert_int_equal(q->table.n, 0);
        assert_true(q->n_computed <= q->n_tokens);
        assert_true(q->table.n * BLOCK >= q->n_computed + q->n_rows);
        for (int k = 0; k < q->table.n; k++)
            held[q->table.block[k]]++;
        if (q->picture && q->chain.name && q->state == COG_SEQ_RUNNING && q->n_computed < N_VISUAL)
            computing[q->picture - w->picture]++;
        if (q->picture && q->state == COG_SEQ_WAITING)
            pending[q->picture - w->picture]++;
    }
    for (int i = 0; i < PICTURES; i++) {
        assert_true(computing[i] <= 1); /* single flight */
        assert_int_equal(w->picture[i].leader != NULL, computing[i]);
        assert_int_equal(w->picture[i].n_waiting, pending[i]);
    }
    assert_int_equal(running, w->f.s.running.n);
    assert_int_equal(waiting, cog_queue_count(w->f.s.waiting));
    assert_true(running <= w->f.s.max_seqs);
    for (int i = 0; i < w->f.s.kv.n_blocks; i++)
        assert_int_equal(w->f.s.kv.refs[i], held[i]);
    assert_true(cog_kv_is_sound(&w->f.s.kv));
    for (cog_sched_seq *q = w->f.s.running.head; q && q->next; q = q->next)
        assert_true(
            q->item.priority < q->next->item.priority ||
            (q->item.priority == q->next->item.priority && q->item.order <= q->next->item.order));
}

/* The rows of which logits are wanted have them, in order and once each. */
static int count_logits(world *w, const cog_sched_seq *q)
{
    int i = (int)(q - w->q), from, to, n = q->n_computed + q->n_rows == q->n_tokens;

    cog_scheduler_shown(q, &from, &to);
    if (from >= to)
        return n;
    assert_true(from >= q->n_computed && to <= q->n_computed + q->n_rows);
    assert_int_equal(from, w->show_from[i] + w->n_shown[i]);
    w->n_shown[i] += to - from;
    return n + to - from;
}

/* What the planned rows write: each (page, slot) is written by one row only, and a written page is
 * held by one. */
static void check_writes(world *w)
{
    cog_plan *p = &w->f.p;
    int rows = 0, logits = 0;

    for (int i = 0; i < p->n_run; i++) {
        cog_sched_seq *q = p->run[i];
        assert_int_equal(q->state, COG_SEQ_RUNNING);
        assert_true(q->n_rows > 0);
        assert_true(!q->picture || q->picture->ready || q->n_computed >= N_VISUAL);
        for (int slot = q->n_computed; slot < q->n_computed + q->n_rows; slot++)
            assert_int_equal(w->f.s.kv.refs[q->table.block[slot / BLOCK]], 1);
        assert_true(i >= p->decode_rows || q->n_rows == 1);
        rows += q->n_rows;
        logits += count_logits(w, q);
    }
    assert_true(logits <= w->f.s.max_seqs);
    assert_int_equal(rows, p->rows);
    assert_true(rows <= w->f.s.step_tokens);
    assert_true(p->n_copies <= w->f.s.max_seqs);
}

/* What a sequence says: BOS, the picture, then one of few scripts, from which some depart. */
static void write_tokens(world *w, int i, int n_visual, int n)
{
    int script = (int)cog_rng_below(&w->rng, 3), departs = (int)cog_rng_below(&w->rng, LONGEST);

    for (int k = 0; k < n; k++)
        w->tokens[i][k] = k < n_visual ? k == 0 : k < departs ? script : 10 + i;
}

static void use_cache(world *w, int i)
{
    cog_sched_seq *q = &w->q[i];
    cog_sha256 salt = { { (uint8_t)w->salt[i] } }, picture = { { 0 } };

    if (q->picture)
        picture.byte[0] = (uint8_t)(q->picture - w->picture);
    cog_prefix_chain_init(&q->chain, w->tokens[i], w->limit[i], BLOCK, &salt, q->n_visual,
                          &picture);
}

/* Sequence i, with a picture or none (-1), not yet added. */
static cog_sched_seq *make(world *w, int i, int n_tokens, int limit, int picture)
{
    cog_sched_seq *q = &w->q[i];

    init_seq(q, w->next_order++, n_tokens, limit);
    w->limit[i] = limit;
    w->salt[i] = 0;
    w->live[i] = true;
    w->show_from[i] = w->show_to[i] = w->n_shown[i] = 0;
    if (picture >= 0) {
        q->picture = &w->picture[picture];
        q->pin = (uint64_t)(i % 4); /* some are pinned, by several numbers in turn */
        q->n_visual = N_VISUAL;
    }
    return q;
}

/* Rows from the last of the picture, or BOS, on are to have logits. */
static void show(world *w, int i)
{
    cog_sched_seq *q = &w->q[i];

    w->show_from[i] = q->shown_from = q->picture ? N_VISUAL - 1 : 0;
    w->show_to[i] = q->shown_to = q->n_tokens - 1;
}

/* One picture is of one salt. */
static void arrive(world *w)
{
    int i = (int)cog_rng_below(&w->rng, SEQS);
    int picture = (int)cog_rng_below(&w->rng, 2 * PICTURES) - PICTURES;
    int prompt = 1 + (int)cog_rng_below(&w->rng, 60);
    int more = 1 + (int)cog_rng_below(&w->rng, 40);
    cog_sched_seq *q;

    if (w->live[i])
        return;
    prompt = picture >= 0 && prompt < N_VISUAL ? N_VISUAL : prompt;
    q = make(w, i, prompt, prompt + more, picture < 0 ? -1 : picture);
    w->salt[i] = picture >= 0 ? picture % 2 : (int)cog_rng_below(&w->rng, 2);
    q->item.priority = (int)cog_rng_below(&w->rng, 3) - 1;
    q->tenant = cog_rng_below(&w->rng, 3);
    write_tokens(w, i, q->n_visual, prompt);
    if (cog_rng_below(&w->rng, 8) > 0)
        use_cache(w, i);
    if (cog_rng_below(&w->rng, 5) == 0)
        show(w, i);
    cog_scheduler_add(&w->f.s, q);
}

static void leave(world *w, int i)
{
    fini_seq(&w->f, &w->q[i]);
    w->live[i] = false;
}

static void fork_one(world *w, cog_sched_seq *parent)
{
    int of = (int)(parent - w->q);

    for (int i = 0; i < SEQS; i++) {
        if (w->live[i])
            continue;
        init_seq(&w->q[i], parent->item.order, parent->n_tokens, w->limit[of]);
        w->q[i].picture = parent->picture;
        w->q[i].n_visual = parent->n_visual;
        w->q[i].item.priority = parent->item.priority;
        w->q[i].tenant = parent->tenant;
        w->limit[i] = w->limit[of];
        w->salt[i] = w->salt[of];
        memcpy(w->tokens[i], w->tokens[of], sizeof(w->tokens[i]));
        w->tokens[i][parent->n_tokens - 1] += 5;
        w->live[i] = true;
        w->show_from[i] = w->show_to[i] = w->n_shown[i] = 0;
        if (parent->chain.name)
            use_cache(w, i);
        cog_scheduler_fork(&w->f.s, &w->q[i], parent);
        return;
    }
}

/* Those that came in found what there was: all that was ever computed when no page had to go. */
static void check_found(world *w, const bool *was_new, bool is_all)
{
    for (int i = 0; i < SEQS; i++) {
        if (!w->live[i] || !was_new[i] || w->q[i].n_found < 0)
            continue;
        if (is_all)
            assert_int_equal(w->q[i].n_found, longest_known(w, i));
        assert_true(w->q[i].n_found <= longest_known(w, i));
        assert_true(w->q[i].n_found < w->q[i].n_tokens);
        w->found += (uint64_t)w->q[i].n_found;
    }
}

static void note_known(world *w, const cog_sched_seq *q)
{
    uint64_t at[LONGEST];

    if (!q->chain.name)
        return;
    contents(w, (int)(q - w->q), at, q->n_computed);
    for (int k = BLOCK; k <= q->n_computed; k += BLOCK)
        make_known(w, at[k - 1]);
    if (q->n_visual > 0 && q->n_computed >= q->n_visual)
        make_known(w, at[q->n_visual - 1]);
}

/* Returns the rows computed. */
static int run_step(world *w, int max_prompt_rows, bool is_all)
{
    cog_sched_seq *run[SEQS];
    bool was_new[SEQS];
    int n, rows;

    for (int i = 0; i < SEQS; i++)
        was_new[i] = w->live[i] && w->q[i].n_found < 0 && w->q[i].state == COG_SEQ_WAITING;
    cog_scheduler_plan(&w->f.s, &w->f.p, 0, max_prompt_rows);
    check_found(w, was_new, is_all);
    check_world(w);
    check_writes(w);
    compute(w);
    n = w->f.p.n_run;
    rows = w->f.p.rows;
    memcpy(run, w->f.p.run, (size_t)n * sizeof(run[0]));
    cog_scheduler_commit(&w->f.s, &w->f.p);
    check_contents(w);
    for (int i = 0; i < n; i++)
        note_known(w, run[i]);
    for (int i = 0; i < n; i++) {
        int at = (int)(run[i] - w->q);
        if (run[i]->n_computed < run[i]->n_tokens)
            continue;
        w->tokens[at][run[i]->n_tokens++] = (int32_t)cog_rng_below(&w->rng, 2);
        if (run[i]->n_tokens < w->limit[at] && cog_rng_below(&w->rng, 8) == 0)
            fork_one(w, run[i]);
        if (run[i]->n_tokens == w->limit[at]) {
            assert_int_equal(w->n_shown[at], w->show_to[at] - w->show_from[at]);
            leave(w, at);
            w->finished++;
        }
    }
    return rows;
}

static void toggle(world *w, cog_picture *picture)
{
    if (!cog_scheduler_uses_features(&w->f.s, picture))
        picture->ready = cog_rng_below(&w->rng, 4) != 0;
}

static world *open_world(uint64_t seed, int n_blocks, int max_seqs, int step_tokens)
{
    world *w = cog_new(world);

    assert_true(n_blocks <= MAX_PAGES);
    w->rng.key = seed;
    open_fixture(&w->f, n_blocks, max_seqs, step_tokens);
    return w;
}

static void close_world(world *w)
{
    for (int i = 0; i < SEQS; i++)
        if (w->live[i])
            leave(w, i);
    close_fixture(&w->f);
    cog_free(w);
}

static void random_operations(uint64_t seed, int n_blocks, int max_seqs, int step_tokens,
                              int n_steps, bool is_all)
{
    world *w = open_world(seed, n_blocks, max_seqs, step_tokens);
    int idle = 0;

    for (int step_no = 0; step_no < n_steps; step_no++) {
        uint64_t dice = cog_rng_below(&w->rng, 10);
        if (dice < 3)
            arrive(w);
        else if (dice == 3) {
            int i = (int)cog_rng_below(&w->rng, SEQS);
            if (w->live[i] && cog_rng_below(&w->rng, 4) == 0)
                leave(w, i); /* cancelled */
        } else if (dice == 4)
            toggle(w, &w->picture[cog_rng_below(&w->rng, PICTURES)]);
        else
            run_step(w, (int)cog_rng_below(&w->rng, (uint64_t)step_tokens + 1), is_all);
        if (step_no % 16 == 0)
            cog_kv_unpin(&w->f.s.kv, 1 + (uint64_t)(step_no / 16 % 3));
        check_world(w);
    }
    /* Nobody starves: without arrivals everything ends, and every step makes progress. */
    for (int i = 0; i < PICTURES; i++)
        w->picture[i].ready = true;
    while (w->f.s.running.n + cog_queue_count(w->f.s.waiting) > 0) {
        idle = run_step(w, INT_MAX, is_all) == 0 ? idle + 1 : 0;
        assert_true(idle < 2); /* a step may only preempt; the next one computes */
    }
    assert_true(w->finished > 100);
    assert_true(w->found > 1000);
    close_world(w);
}

static void random_operations_with_room(void **state)
{
    random_operations(1, 200, 8, 64, 6000, false);
}

static void random_operations_in_a_tight_pool(void **state)
{
    random_operations(2, 7, 6, 16, 6000, false); /* exactly one largest sequence fits */
}

static void random_operations_one_row_at_a_time(void **state)
{
    random_operations(3, 12, 1, 1, 20000, false);
}

static void all_that_was_computed_is_found(void **state)
{
    random_operations(4, MAX_PAGES, 8, 64, 3000, true); /* no page ever goes */
}

/* ---- the picture's prefix ---- */

/* Steps until the sequence has computed its prompt; returns the rows that took. */
static int compute_prompt(world *w, cog_sched_seq *q)
{
    int rows = 0;

    for (int i = 0; i < 1000 && (q->state != COG_SEQ_RUNNING || q->n_computed < q->n_tokens); i++) {
        plan(&w->f);
        compute(w);
        rows += w->f.p.rows;
        cog_scheduler_commit(&w->f.s, &w->f.p);
        check_contents(w);
        check_world(w);
    }
    assert_int_equal(q->n_computed, q->n_tokens);
    return rows;
}

static cog_sched_seq *ask(world *w, int i, int picture, int n_words)
{
    cog_sched_seq *q = make(w, i, N_VISUAL + n_words, N_VISUAL + n_words + 8, picture);

    for (int k = 0; k < q->n_tokens; k++)
        w->tokens[i][k] = k < N_VISUAL ? k == 0 : 10 + i;
    use_cache(w, i);
    cog_scheduler_add(&w->f.s, q);
    return q;
}

static void a_second_question_computes_its_own_words(void **state)
{
    world *w = open_world(1, 32, 4, 64);
    cog_sched_seq *a, *b;

    w->picture[0].ready = true;
    a = ask(w, 0, 0, 9);
    assert_int_equal(compute_prompt(w, a), N_VISUAL + 9);
    w->picture[0].ready = false; /* nobody needs its features any more */
    b = ask(w, 1, 0, 4);         /* while the first still runs */
    assert_false(cog_scheduler_needs_features(&w->f.s, b));
    assert_int_equal(cog_scheduler_pictures(&w->f.s, 0, (cog_picture *[1]){ NULL }, 1), 0);
    assert_int_equal(compute_prompt(w, b), 4);
    assert_int_equal(b->n_found, N_VISUAL);
    assert_ptr_equal(a->table.block[0], b->table.block[0]);
    leave(w, 0);
    leave(w, 1);
    assert_int_equal(compute_prompt(w, ask(w, 2, 0, 5)), 5); /* and when nobody does */
    close_world(w);
}

static void the_last_token_is_computed_always(void **state)
{
    world *w = open_world(1, 32, 4, 64);

    for (int n = N_VISUAL; n <= 3 * BLOCK; n++) {
        w->picture[0].ready = true;
        compute_prompt(w, ask(w, 0, 0, n - N_VISUAL));
        leave(w, 0);
        assert_true(compute_prompt(w, ask(w, 0, 0, n - N_VISUAL)) >= 1);
        assert_int_equal(w->q[0].n_found, n == N_VISUAL    ? N_VISUAL - 1
                                          : n % BLOCK == 0 ? n - 1
                                          : n < 2 * BLOCK  ? N_VISUAL
                                                           : 2 * BLOCK);
        leave(w, 0);
    }
    close_world(w);
}

/* What is shown is not taken from the cache, and a step shows as much as it has room for. */
static void shown_rows_are_computed(void **state)
{
    world *w = open_world(1, 32, 4, 64);

    w->picture[0].ready = true;
    compute_prompt(w, ask(w, 0, 0, 40));
    leave(w, 0);
    assert_int_equal(compute_prompt(w, ask(w, 0, 0, 40)), N_VISUAL + 40 - 3 * BLOCK);
    leave(w, 0);
    w->picture[0].ready = false;
    make(w, 0, N_VISUAL + 40, N_VISUAL + 48, 0);
    for (int k = 0; k < N_VISUAL + 40; k++)
        w->tokens[0][k] = k < N_VISUAL ? k == 0 : 10;
    use_cache(w, 0);
    show(w, 0);
    cog_scheduler_add(&w->f.s, &w->q[0]);
    assert_true(cog_scheduler_needs_features(&w->f.s, &w->q[0])); /* for the end of the picture */
    plan(&w->f);
    assert_int_equal(w->f.p.rows, 0);
    w->picture[0].ready = true;
    for (int left = 41; left > 0; left -= 4) {
        plan(&w->f);
        check_writes(w);
        compute(w);
        assert_int_equal(w->q[0].n_found, N_VISUAL - 1);
        assert_int_equal(w->f.p.rows, left < 4 ? left : 4);
        cog_scheduler_commit(&w->f.s, &w->f.p);
        check_contents(w);
    }
    assert_int_equal(w->n_shown[0], 40);
    leave(w, 0);
    close_world(w);
}

static void others_wait_for_who_computes_the_prefix(void **state)
{
    world *w = open_world(1, 200, 8, 10);
    cog_sched_seq *text;

    w->picture[0].ready = true;
    for (int i = 0; i < 6; i++)
        ask(w, i, 0, 3 + i);
    text = make(w, 6, 5, 20, -1);
    cog_scheduler_add(&w->f.s, text);
    for (int i = 0; i < 2; i++) {
        plan(&w->f);
        compute(w);
        assert_ptr_equal(w->picture[0].leader, &w->q[0]);
        assert_int_equal(w->f.s.running.n, 1); /* the first one took all rows */
        cog_scheduler_commit(&w->f.s, &w->f.p);
    }
    assert_int_equal(w->q[0].n_computed, N_VISUAL - 1);
    leave(w, 0); /* it goes: another takes its place, and finds the page that is full */
    compute_prompt(w, text);
    assert_int_equal(w->q[1].state, COG_SEQ_RUNNING);
    for (int i = 1; i < 6; i++) {
        compute_prompt(w, &w->q[i]);
        assert_int_equal(w->q[i].n_found, i == 1 ? BLOCK : N_VISUAL);
    }
    assert_int_equal(w->visual_rows, 2 * 10 + N_VISUAL - BLOCK);
    close_world(w);
}

/* A page that is copied from is taken for somebody else in the same plan, who copies into it. */
static void a_source_may_be_written_in_the_same_plan(void **state)
{
    world *w = open_world(1, 5, 4, 64);
    int32_t end[2];

    for (int i = 0; i < 2; i++) { /* two pictures of two pages each */
        w->picture[i].ready = true;
        compute_prompt(w, ask(w, i, i, 3));
        end[i] = w->q[i].table.block[1];
        leave(w, i);
    }
    assert_int_equal(w->f.s.kv.n_free, 1);
    ask(w, 2, 0, 4);
    ask(w, 3, 1, 4);
    plan(&w->f);
    assert_int_equal(w->f.s.running.n, 2);
    assert_int_equal(w->f.p.n_copies, 2);
    assert_int_equal(w->f.p.copy[0].src, end[0]);
    assert_int_equal(w->f.p.copy[1].dst, end[0]);
    assert_int_equal(w->f.p.copy[1].src, end[1]);
    compute(w);
    cog_scheduler_commit(&w->f.s, &w->f.p);
    check_contents(w);
    assert_int_equal(w->q[3].n_computed, N_VISUAL + 4);
    close_world(w);
}

/* The only page left is the one to copy from: it stays where it is. */
static void the_last_page_is_not_copied_onto_itself(void **state)
{
    world *w = open_world(1, 2, 4, 64);

    w->picture[0].ready = true;
    compute_prompt(w, ask(w, 0, 0, 3));
    leave(w, 0);
    ask(w, 1, 0, 4);
    plan(&w->f);
    assert_int_equal(w->f.p.n_copies, 0);
    assert_int_equal(w->q[1].n_computed, N_VISUAL);
    compute(w);
    cog_scheduler_commit(&w->f.s, &w->f.p);
    check_contents(w);
    leave(w, 1);
    assert_int_equal(compute_prompt(w, ask(w, 0, 0, 3)), 3); /* and has its name again */
    close_world(w);
}

/* Tails go first, and what is asked again stays. */
static void a_pictures_pages_stay_together(void **state)
{
    world *w = open_world(1, 8, 4, 64);

    for (int i = 0; i < 2; i++) { /* four pages each, the last one not full */
        w->picture[i].ready = true;
        compute_prompt(w, ask(w, i, i, 40));
        leave(w, i);
    }
    assert_int_equal(w->f.s.kv.n_cached, 6);
    compute_prompt(w, ask(w, 2, 0, 3));
    leave(w, 2);
    make(w, 3, 90, 100, -1); /* takes two free pages and four that are kept */
    cog_scheduler_add(&w->f.s, &w->q[3]);
    compute_prompt(w, &w->q[3]);
    leave(w, 3);
    assert_int_equal(w->f.s.kv.n_cached, 2);
    w->picture[0].ready = w->picture[1].ready = false;
    assert_true(cog_scheduler_needs_features(&w->f.s, ask(w, 4, 1, 6)));
    assert_int_equal(compute_prompt(w, ask(w, 5, 0, 6)), 6);
    close_world(w);
}

/* Also without the picture's features, which may be gone by then. */
static void preempted_sequences_find_their_pages(void **state)
{
    world *w = open_world(1, 5, 2, 64);

    w->picture[0].ready = true;
    compute_prompt(w, ask(w, 0, 0, 22)); /* three pages each, the first one shared */
    w->picture[0].ready = false;
    ask(w, 1, 0, 22);
    while (w->f.s.n_preempted == 0) { /* both answer until one has to give way */
        plan(&w->f);
        compute(w);
        cog_scheduler_commit(&w->f.s, &w->f.p);
        check_contents(w);
        for (int i = 0; i < 2; i++) {
            cog_sched_seq *q = &w->q[i];
            assert_true(q->n_tokens < w->limit[i]);
            if (q->n_computed == q->n_tokens)
                w->tokens[i][q->n_tokens++] = 7 + i;
        }
    }
    assert_int_equal(w->q[1].state, COG_SEQ_WAITING);
    leave(w, 0);
    assert_true(compute_prompt(w, &w->q[1]) < BLOCK + 3);
    assert_int_equal(w->visual_rows, N_VISUAL);
    close_world(w);
}

static void without_an_index_nothing_is_found(void **state)
{
    world *w = cog_new(world);

    cog_scheduler_init(&w->f.s, 32, BLOCK, 4, 64, false);
    cog_plan_init(&w->f.p, 4);
    w->picture[0].ready = true;
    for (int i = 0; i < 3; i++) { /* nor do they wait for one another */
        ask(w, i, 0, 4);
        assert_true(cog_scheduler_needs_features(&w->f.s, &w->q[i]));
    }
    plan(&w->f);
    assert_int_equal(w->f.s.running.n, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(w->q[i].n_found, 0);
        leave(w, i);
    }
    assert_int_equal(w->f.s.kv.n_free, 32);
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_with_room),
        cmocka_unit_test(random_operations_in_a_tight_pool),
        cmocka_unit_test(random_operations_one_row_at_a_time),
        cmocka_unit_test(all_that_was_computed_is_found),
        cmocka_unit_test(a_second_question_computes_its_own_words),
        cmocka_unit_test(the_last_token_is_computed_always),
        cmocka_unit_test(shown_rows_are_computed),
        cmocka_unit_test(others_wait_for_who_computes_the_prefix),
        cmocka_unit_test(a_source_may_be_written_in_the_same_plan),
        cmocka_unit_test(the_last_page_is_not_copied_onto_itself),
        cmocka_unit_test(a_pictures_pages_stay_together),
        cmocka_unit_test(preempted_sequences_find_their_pages),
        cmocka_unit_test(without_an_index_nothing_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
