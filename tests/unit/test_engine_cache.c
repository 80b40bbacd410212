/* What requests leave behind for others, through the whole engine: a hit gives the bits of a miss,
 * costs what it says, and stays among requests of one salt. */
#include "tests/unit/engine_rig.h"

enum { REQUESTS = 96, ONE_CONTEXT = 2048 * 2 * 2 * 128 /* elements of one context's KV pages */ };

static const char *const dtypes[] = { "f32", "bf16" };

/* Texts of several pages; the first two begin alike. */
static const char *const questions[] = {
    "what is the big red thing left of the dog and how many cats are there in the picture that I "
    "have sent to you just now please say it in some words and count them one by one",
    "what is the big red thing left of the dog and how many cats are there in the picture that I "
    "have sent to you just now but say nothing at all about the birds",
    "how many",
};

static cog_engine_config config_of(const char *dtype, bool caches)
{
    cog_engine_config cfg = cog_engine_defaults;

    cfg.dtype = dtype;
    cfg.batch_invariant = true;
    cfg.block = 16;
    cfg.prefix_cache = caches;
    cfg.image_cache_bytes = caches ? cfg.image_cache_bytes : 0;
    return cfg;
}

static cog_request *question(rig *r, int id, int which, uint64_t picture)
{
    cog_request *q = make_request(r, (uint64_t)id, questions[which], true, picture);

    q->sampling.seed = (uint64_t)which;
    q->max_tokens = 20;
    return q;
}

static const outcome *ask(rig *r, int id, int which, uint64_t picture)
{
    return run(r, question(r, id, which, picture));
}

/* Texts of 2,048 tokens and more: every page becomes theirs. */
static void take_all_pages(rig *r, int first_id)
{
    char query[1200] = "";

    for (int i = 0; i < 100; i++)
        strcat(query, "dog cat ");
    for (int i = 0; i < 12; i++) {
        query[0] = (char)('a' + i);
        submit(r, make_request(r, (uint64_t)(first_id + i), query, false, 0));
        wait_for(r, r->n_ended + 1);
    }
    assert_true(12 * r->out[first_id].usage.prompt_tokens > 2048);
}

static void assert_same_bits(const outcome *a, const outcome *b)
{
    for (int c = 0; c < CHOICES; c++)
        assert_int_equal(a->n_logits[c], b->n_logits[c]);
    assert_memory_equal(a->logits, b->logits, sizeof(a->logits));
    assert_int_equal(a->text[0].len, b->text[0].len);
}

static int n_visual(rig *r)
{
    return 1 + cog_engine_get_info(r->e)->image_tokens;
}

static int full_pages(rig *r, const outcome *o)
{
    return o->usage.prompt_tokens / 16 * 16;
}

static void a_hit_gives_the_bits_of_a_miss(const char *dtype)
{
    cog_engine_config cfg = config_of(dtype, true);
    const outcome *miss[3], *o;
    cog_engine_stats s;
    uint64_t rows;
    rig cold, r;

    open_rig(&cold, config_of(dtype, false), 3);
    for (int i = 0; i < 3; i++) {
        miss[i] = ask(&cold, i, i, 1);
        assert_int_equal(miss[i]->usage.cached_tokens, 0);
    }
    cfg.kv_bytes = (uint64_t)ONE_CONTEXT * (strcmp(dtype, "f32") == 0 ? 4 : 2);
    open_rig(&r, cfg, REQUESTS);

    o = ask(&r, 0, 0, 1); /* nothing there */
    assert_same_bits(o, miss[0]);
    assert_int_equal(o->usage.cached_tokens, 0);
    o = ask(&r, 1, 0, 1); /* the same again: all but what is behind its last full page */
    assert_same_bits(o, miss[0]);
    assert_int_equal(o->usage.cached_tokens, full_pages(&r, o));
    o = ask(&r, 2, 1, 1); /* as far as the text is equal */
    assert_same_bits(o, miss[1]);
    assert_true(o->usage.cached_tokens > n_visual(&r));
    o = ask(&r, 3, 2, 1); /* the picture */
    assert_same_bits(o, miss[2]);
    assert_int_equal(o->usage.cached_tokens, n_visual(&r));
    s = settled(&r);
    assert_int_equal(s.images_encoded, 1);
    assert_int_equal(s.vision_rows, n_visual(&r) - 2);

    take_all_pages(&r, 10); /* its features are there, its pages are not */
    rows = settled(&r).vision_rows;
    assert_int_equal(rows, n_visual(&r) - 2);
    o = ask(&r, 30, 0, 1);
    assert_same_bits(o, miss[0]);
    assert_int_equal(o->usage.cached_tokens, 0);
    s = settled(&r);
    assert_int_equal(s.images_encoded, 1);
    assert_int_equal(s.vision_rows, 2 * rows);
    assert_int_equal(s.image_queries, 5);
    assert_int_equal(s.image_hits, 4);
    assert_int_equal(s.features_cached, 1);
    close_rig(&r, REQUESTS);

    cfg.image_cache_bytes = 0; /* its pages are there, its features are not */
    open_rig(&r, cfg, REQUESTS);
    assert_same_bits(ask(&r, 0, 2, 1), miss[2]);
    o = ask(&r, 1, 0, 1);
    assert_same_bits(o, miss[0]);
    assert_int_equal(o->usage.cached_tokens, n_visual(&r));
    s = settled(&r);
    assert_int_equal(s.images_encoded, 1);
    assert_int_equal(s.features_cached, 0);
    take_all_pages(&r, 10); /* and then neither */
    assert_same_bits(ask(&r, 30, 1, 1), miss[1]);
    assert_int_equal(settled(&r).images_encoded, 2);
    close_rig(&r, REQUESTS);
    close_rig(&cold, 3);
}

static void a_hit_gives_the_bits_of_a_miss_f32(void **state)
{
    a_hit_gives_the_bits_of_a_miss("f32");
}

static void a_hit_gives_the_bits_of_a_miss_bf16(void **state)
{
    a_hit_gives_the_bits_of_a_miss("bf16");
}

/* Twelve answers of many pages in a pool for some; each is asked twice. */
static void preempted_sequences_find_what_they_computed(void **state)
{
    enum { EACH = 12 };
    cog_engine_config cfg = config_of("f32", true);
    cog_request *made[2 * EACH];
    cog_engine_stats s;
    rig cold, r;

    open_rig(&cold, config_of("f32", false), 2 * EACH);
    cfg.kv_bytes = (uint64_t)ONE_CONTEXT * 4;
    cfg.max_seqs = 2 * EACH * CHOICES;
    open_rig(&r, cfg, 2 * EACH);
    for (int k = 0; k < 2; k++) {
        rig *at = k ? &r : &cold;
        for (int i = 0; i < 2 * EACH; i++) {
            made[i] = question(at, i, i % 2, (uint64_t)(i % EACH));
            made[i]->sampling.seed = (uint64_t)i;
            made[i]->n = CHOICES;
            made[i]->max_tokens = LONGEST - 1;
        }
        for (int i = 0; i < 2 * EACH; i++)
            submit(at, made[i]);
        wait_for(at, 2 * EACH);
    }
    for (int i = 0; i < 2 * EACH; i++)
        assert_same_bits(&cold.out[i], &r.out[i]);
    s = settled(&r);
    assert_true(s.preemptions > 0);
    assert_true(s.prefix_hits > 0);
    close_rig(&cold, 2 * EACH);
    close_rig(&r, 2 * EACH);
}

/* Issue: one encoder pass, one prefix prefill. */
static void sixty_four_questions_about_a_picture_cost_one(void **state)
{
    enum { ASKED = 64 };

    for (int k = 0; k < 2; k++) {
        cog_engine_config cfg = config_of(dtypes[k], true);
        int language_rows = 0, cached = 0;
        cog_request *made[ASKED];
        cog_engine_stats s;
        rig r;

        cfg.step_tokens = 40;
        open_rig(&r, cfg, ASKED);
        for (int i = 0; i < ASKED; i++) {
            char query[64];
            snprintf(query, sizeof(query), "%c what is number %d", 'a' + i % 26, i);
            made[i] = make_request(&r, (uint64_t)i, query, true, 9);
            language_rows += made[i]->prompt.n_tokens - n_visual(&r);
        }
        for (int i = 0; i < ASKED; i++)
            submit(&r, made[i]);
        wait_for(&r, ASKED);
        s = settled(&r);
        assert_int_equal(s.images_encoded, 1);
        assert_int_equal(s.images_shared, ASKED - 1);
        assert_int_equal(s.vision_rows, n_visual(&r) - 2); /* BOS and eoi are language */
        for (int i = 0; i < ASKED; i++) {
            assert_int_equal(r.out[i].status, 0);
            cached += r.out[i].usage.cached_tokens;
        }
        assert_true(cached >= (ASKED - 1) * n_visual(&r));
        assert_int_equal(s.prefix_hits, cached);
        assert_int_equal(s.prefix_queries, ASKED * n_visual(&r) + language_rows);
        assert_int_equal(s.image_queries, ASKED);
        assert_int_equal(s.image_hits, ASKED - 1);
        assert_int_equal(s.image_tokens, ASKED * (n_visual(&r) - 1));
        assert_int_equal(s.image_tokens_cached, (ASKED - 1) * (n_visual(&r) - 1));
        close_rig(&r, ASKED);
    }
}

/* ------------------------------------------------------------------ who shares with whom */

static void ask_with(rig *r, int id, int which, uint8_t salt, bool no_cache)
{
    cog_request *q = question(r, id, which, 1);

    q->salt.byte[5] = salt;
    q->no_cache = no_cache;
    submit(r, q);
}

/* The same picture and the same words, one after another and at a time. */
static void salts_never_share(void **state)
{
    cog_engine_stats s;
    rig r;

    open_rig(&r, config_of("f32", true), 16);
    ask_with(&r, 0, 0, 1, false);
    wait_for(&r, 1);
    ask_with(&r, 1, 0, 2, false);
    wait_for(&r, 2);
    s = settled(&r);
    assert_int_equal(r.out[1].usage.cached_tokens, 0);
    assert_true(r.out[1].usage.stage_ns[COG_STAGE_ENCODE] > 0);
    assert_int_equal(s.images_encoded, 2);
    assert_int_equal(s.images_shared, 0);
    assert_int_equal(s.vision_rows, 2 * (n_visual(&r) - 2));
    assert_int_equal(s.image_hits + s.prefix_hits, 0);
    assert_same_bits(&r.out[0], &r.out[1]);
    ask_with(&r, 2, 0, 1, false); /* each finds its own */
    ask_with(&r, 3, 0, 2, false);
    wait_for(&r, 4);
    assert_true(r.out[2].usage.cached_tokens > 0);
    assert_true(r.out[3].usage.cached_tokens > 0);
    for (int i = 4; i < 16; i++)
        ask_with(&r, i, 2, (uint8_t)i, false);
    wait_for(&r, 16);
    s = settled(&r);
    assert_int_equal(s.images_encoded, 2 + 12);
    assert_int_equal(s.vision_rows, (2 + 12) * (n_visual(&r) - 2));
    close_rig(&r, 16);
}

static void who_wants_no_cache_gets_none_and_leaves_none(void **state)
{
    cog_engine_stats s;
    rig r;

    open_rig(&r, config_of("f32", true), 16);
    for (int i = 0; i < 2; i++) {
        ask_with(&r, i, 0, 0, true);
        wait_for(&r, i + 1);
        assert_int_equal(r.out[i].usage.cached_tokens, 0);
    }
    s = settled(&r);
    assert_int_equal(s.images_encoded, 2);
    assert_int_equal(s.blocks_cached + s.features_cached, 0);
    assert_int_equal(s.image_queries + s.prefix_queries, 0);
    ask_with(&r, 2, 0, 0, false);
    wait_for(&r, 3);
    assert_int_equal(r.out[2].usage.cached_tokens, 0);
    assert_true(settled(&r).blocks_cached > 0);
    ask_with(&r, 3, 0, 0, true); /* nor does it take what others left */
    wait_for(&r, 4);
    assert_int_equal(r.out[3].usage.cached_tokens, 0);
    assert_int_equal(settled(&r).images_encoded, 4);
    for (int i = 4; i < 10; i++) /* nor of one another while they run */
        ask_with(&r, i, 0, 0, true);
    wait_for(&r, 10);
    assert_int_equal(settled(&r).images_encoded, 10);
    for (int i = 1; i < 10; i++)
        assert_same_bits(&r.out[0], &r.out[i]);
    close_rig(&r, 16);
}

/* Fewer places than choices: those that come in later do not compute the prompt again. */
static void choices_share_their_prompt_without_a_cache(void **state)
{
    cog_engine_config cfg = config_of("f32", true);
    cog_engine_stats s;
    cog_request *q;
    rig r, roomy;

    open_rig(&roomy, cfg, 1);
    cfg.max_seqs = 2;
    open_rig(&r, cfg, 1);
    for (int i = 0; i < 2; i++) {
        q = question(&r, 0, 0, 1);
        q->sampling.temperature = 1;
        q->n = CHOICES;
        q->no_cache = true;
        submit(i ? &r : &roomy, q);
        wait_for(i ? &r : &roomy, 1);
    }
    s = settled(&r);
    assert_int_equal(s.vision_rows, n_visual(&r) - 2);
    assert_int_equal(s.images_encoded, 1);
    assert_int_equal(s.blocks_cached + s.features_cached, 0);
    assert_int_equal(s.blocks_used + s.features, 0);
    assert_int_equal(s.prefix_queries + s.image_queries, 0);
    assert_int_equal(r.out[0].usage.cached_tokens, 0);
    assert_same_bits(&r.out[0], &roomy.out[0]);
    close_rig(&roomy, 1);
    close_rig(&r, 1);
}

static void without_caches_nothing_is_kept(void **state)
{
    cog_engine_stats s;
    rig r;

    open_rig(&r, config_of("f32", false), 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(ask(&r, i, 0, 1)->usage.cached_tokens, 0);
    s = settled(&r);
    assert_int_equal(s.images_encoded, 4);
    assert_int_equal(s.blocks_cached + s.features_cached, 0);
    assert_int_equal(s.prefix_queries, 0);
    close_rig(&r, 4);
}

/* ------------------------------------------------------------------ usage, statistics, order */

static void a_request_knows_where_its_time_went(void **state)
{
    const uint64_t *ns;
    cog_engine_stats s;
    uint64_t n = 0;
    rig r;

    open_rig(&r, config_of("f32", true), 2);
    ns = ask(&r, 0, 0, 1)->usage.stage_ns;
    for (int i = 0; i < COG_N_STAGES; i++)
        if (i != COG_STAGE_QUEUE) /* it may come in at the very moment */
            assert_true(ns[i] > 0);
    assert_true(r.out[0].usage.vision_ns > 0);
    /* the first slice of a pass counts as its pass */
    assert_true(ns[COG_STAGE_ENCODE] >= r.out[0].usage.vision_ns);
    ns = ask(&r, 1, 0, 1)->usage.stage_ns;
    assert_int_equal(ns[COG_STAGE_ENCODE_WAIT] + ns[COG_STAGE_ENCODE], 0);
    assert_true(ns[COG_STAGE_PREFILL] > 0 && ns[COG_STAGE_DECODE] > 0);
    assert_int_equal(r.out[1].usage.vision_ns, 0);
    s = settled(&r);
    for (int i = 0; i < COG_N_STAGES; i++)
        assert_int_equal(s.in_stage[i], 0);
    assert_int_equal(s.prompt_tokens, r.out[0].usage.prompt_tokens + r.out[1].usage.prompt_tokens);
    for (int i = 0; i <= s.step_tokens.n; i++)
        n += s.step_tokens.count[i];
    assert_int_equal(n, s.steps);
    assert_true(s.step_tokens.sum == (double)(s.language_rows + s.vision_rows));
    assert_true(s.vision_batch.sum == 1);
    assert_true(s.decode_batch.sum == (double)(r.out[0].n_logits[0] + r.out[1].n_logits[0] - 2));
    close_rig(&r, 2);
}

enum { LATE = 20 };

/* From the engine's thread, while request 0 has the only place. */
static cog_request *late[LATE];

static void submit_late(rig *r, uint64_t id, int choice, int index, const float *logits, int vocab)
{
    for (int i = 1; id == 0 && index == 0 && i < LATE; i++)
        if (late[i])
            submit(r, late[i]);
}

static cog_engine_config one_at_a_time(void)
{
    cog_engine_config cfg = config_of("f32", true);

    cfg.max_seqs = 1;
    return cfg;
}

static void smaller_numbers_come_first(void **state)
{
    static const int priority[6] = { 0, 5, 0, -3, 5, -100 };
    static const uint64_t expected[6] = { 0, 5, 3, 2, 1, 4 };
    rig r;

    open_rig(&r, one_at_a_time(), LATE);
    memset(late, 0, sizeof(late));
    for (int i = 1; i < 6; i++) {
        late[i] = make_request(&r, (uint64_t)i, "what is this", false, 0);
        late[i]->priority = priority[i];
    }
    r.at_token = submit_late;
    submit(&r, make_request(&r, 0, "what is this", false, 0));
    wait_for(&r, 6);
    assert_memory_equal(r.ended, expected, sizeof(expected));
    close_rig(&r, LATE);
}

/* One tenant has sent ten, and another comes. */
static void tenants_take_turns(void **state)
{
    int before[2] = { 0, 0 };
    rig r;

    open_rig(&r, one_at_a_time(), LATE);
    memset(late, 0, sizeof(late));
    for (int i = 1; i < 14; i++) {
        late[i] = make_request(&r, (uint64_t)i, "what is this", false, 0);
        late[i]->tenant = i > 10;
    }
    r.at_token = submit_late;
    submit(&r, make_request(&r, 0, "what is this", false, 0));
    wait_for(&r, 14);
    for (int i = 0; i < 8; i++)
        before[r.ended[i] > 10]++;
    assert_int_equal(before[1], 3); /* all three of it among the first eight */
    close_rig(&r, LATE);
}

/* With an argument only the tests whose names match it. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hit_gives_the_bits_of_a_miss_f32),
        cmocka_unit_test(a_hit_gives_the_bits_of_a_miss_bf16),
        cmocka_unit_test(preempted_sequences_find_what_they_computed),
        cmocka_unit_test(sixty_four_questions_about_a_picture_cost_one),
        cmocka_unit_test(salts_never_share),
        cmocka_unit_test(who_wants_no_cache_gets_none_and_leaves_none),
        cmocka_unit_test(choices_share_their_prompt_without_a_cache),
        cmocka_unit_test(without_caches_nothing_is_kept),
        cmocka_unit_test(a_request_knows_where_its_time_went),
        cmocka_unit_test(smaller_numbers_come_first),
        cmocka_unit_test(tenants_take_turns),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
