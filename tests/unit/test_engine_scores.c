/* How likely the model finds a prompt's tokens and the texts that might be its answer, through the
 * whole engine. What it says is compared, to the bit, with the rows of logits of requests that end
 * where the token in question would come: they know nothing of scores. */
#include "tests/unit/engine_rig.h"

#include "engine/logprob.h"

#include <math.h>

enum { REQUESTS = 240, MAX_VOCAB = 4096, TOP = 5, ONE_CONTEXT = 2048 * 2 * 2 * 128 };

static const char question[] = "how many cats are there left of the big red dog and what do they "
                               "say to the 3 birds";

static float last_row[MAX_VOCAB]; /* of request 0, which is for rows alone */

static void keep_row(rig *r, uint64_t id, int choice, int index, const float *logits, int vocab)
{
    assert_true(vocab <= MAX_VOCAB);
    if (id == 0)
        memcpy(last_row, logits, (size_t)vocab * sizeof(float));
}

static cog_engine_config config(int max_seqs, int step_tokens)
{
    cog_engine_config cfg = cog_engine_defaults;

    cfg.dtype = "f32";
    cfg.batch_invariant = true;
    cfg.block = 16;
    cfg.max_seqs = max_seqs;
    cfg.step_tokens = step_tokens;
    return cfg;
}

static void open(rig *r, cog_engine_config cfg)
{
    open_rig(r, cfg, REQUESTS);
    r->at_token = keep_row;
}

static int vocab_of(rig *r)
{
    return cog_engine_get_info(r->e)->vocab;
}

/* The logits for the token that comes after the first n of these. */
static const float *row_after(rig *r, const int32_t *tokens, int n, bool has_image)
{
    cog_request *q = make_request(r, 0, "", has_image, 1);

    memset(&r->out[0], 0, sizeof(r->out[0]));
    cog_free(q->prompt.tokens);
    q->prompt.tokens = cog_array(int32_t, (size_t)n);
    memcpy(q->prompt.tokens, tokens, (size_t)n * sizeof(int32_t));
    q->prompt.n_tokens = n;
    q->max_tokens = 1;
    run(r, q);
    cog_buf_fini(&r->out[0].text[0]);
    return last_row;
}

static cog_request *scored(rig *r, int id, const char *query, bool has_image)
{
    cog_request *q = make_request(r, (uint64_t)id, query, has_image, 1);

    q->score_prompt = true;
    q->n_prompt_top = TOP;
    q->sampling.seed = 1;
    return q;
}

static void assert_same_token(const cog_scored_token *a, const cog_scored_token *b)
{
    assert_int_equal(a->self.token, b->self.token);
    assert_true(a->self.logprob == b->self.logprob);
    assert_int_equal(a->rank, b->rank);
    assert_int_equal(a->n_top, b->n_top);
    for (int i = 0; i < a->n_top; i++) {
        assert_int_equal(a->top[i].token, b->top[i].token);
        assert_true(a->top[i].logprob == b->top[i].logprob);
    }
}

static void assert_same_prompt(const outcome *a, const outcome *b)
{
    assert_true(a->n_prompt > 0);
    assert_int_equal(a->n_prompt, b->n_prompt);
    for (int i = 0; i < a->n_prompt; i++)
        assert_same_token(&a->prompt[i], &b->prompt[i]);
}

static void assert_prompt(rig *r, const outcome *o, const int32_t *tokens, int n, bool has_image)
{
    int first = has_image ? 1 + cog_engine_get_info(r->e)->image_tokens : 1;

    assert_int_equal(o->n_prompt, n - first);
    for (int i = first; i < n; i++) {
        cog_scored_token want;

        cog_logprob_score(&want, row_after(r, tokens, i, has_image), vocab_of(r), tokens[i], TOP);
        assert_int_equal(want.n_top, TOP);
        assert_same_token(&o->prompt[i - first], &want);
    }
}

static int32_t *copy_of(const cog_prompt *p)
{
    int32_t *out = cog_array(int32_t, (size_t)p->n_tokens);

    memcpy(out, p->tokens, (size_t)p->n_tokens * sizeof(int32_t));
    return out;
}

/* ---- prompts ---- */

static void a_prompt_is_scored(void **state)
{
    for (int k = 0; k < 2; k++) {
        bool has_image = k == 1;
        cog_request *q;
        int32_t *tokens;
        const outcome *o;
        int n;
        rig r;

        open(&r, config(4, 64));
        q = scored(&r, 1, question, has_image);
        n = q->prompt.n_tokens;
        tokens = copy_of(&q->prompt);
        o = run(&r, q);
        assert_int_equal(o->n_finish[0], 1);
        assert_prompt(&r, o, tokens, n, has_image);
        cog_free(tokens);
        settled(&r);
        close_rig(&r, REQUESTS);
    }
}

/* The second time all but the text comes from the cache, whatever is kept of the first. */
static void what_is_cached_is_scored_again(void **state)
{
    for (int k = 0; k < 2; k++) {
        int n_image;
        rig r;

        open(&r, config(4, 64));
        n_image = k ? cog_engine_get_info(r.e)->image_tokens : 0;
        for (int i = 1; i <= 3; i++) {
            const outcome *o = run(&r, scored(&r, i, question, k));
            assert_int_equal(o->usage.cached_tokens, i == 1 ? 0 : n_image);
            assert_same_prompt(o, &r.out[1]);
            assert_memory_equal(o->logits, r.out[1].logits, sizeof(o->logits));
        }
        /* and what was scored is found by who does not ask for it */
        assert_true(run(&r, make_request(&r, 4, question, k, 1))->usage.cached_tokens > n_image);
        assert_memory_equal(r.out[4].logits, r.out[1].logits, sizeof(r.out[1].logits[0][0]));
        settled(&r);
        close_rig(&r, REQUESTS);
    }
}

/* Without the picture's features, which scoring needs for the end of the picture alone. */
static void a_picture_that_is_gone_is_encoded_again(void **state)
{
    cog_engine_config cfg = config(4, 64);
    const outcome *o;
    rig r;

    cfg.image_cache_bytes = 0;
    open(&r, cfg);
    run(&r, scored(&r, 1, question, true));
    o = run(&r, scored(&r, 2, question, true));
    assert_int_equal(o->usage.cached_tokens, cog_engine_get_info(r.e)->image_tokens);
    assert_same_prompt(o, &r.out[1]);
    assert_int_equal(settled(&r).images_encoded, 2);
    close_rig(&r, REQUESTS);
}

/* Many at once, some with several answers, in a pool for few: each is told its scores once, and the
 * same as alone. */
static void scores_do_not_depend_on_company(void **state)
{
    enum { EACH = 12 };
    cog_engine_config cfg = config(6, 24);
    cog_request *made[EACH];
    rig alone, r;

    open(&alone, config(1, 16));
    cfg.kv_bytes = (uint64_t)ONE_CONTEXT * 4;
    cfg.max_seqs = 3 * EACH;
    cfg.step_tokens = 3 * EACH;
    open(&r, cfg);
    for (int k = 0; k < 2; k++) {
        rig *at = k ? &r : &alone;
        for (int i = 0; i < EACH; i++) {
            made[i] = scored(at, 1 + i, question + i, i % 3 == 0);
            at->out[1 + i].prompt_from = 1 + made[i]->prompt.n_image_tokens;
            made[i]->n = i % 4 == 1 ? CHOICES : 1;
            made[i]->max_tokens = LONGEST - 1;
            made[i]->no_cache = i % 5 == 4;
        }
        for (int i = 0; i < EACH; i++)
            submit(at, made[i]);
        wait_for(at, EACH);
    }
    for (int i = 1; i <= EACH; i++) {
        assert_int_equal(r.out[i].status, 0);
        assert_int_equal(alone.out[i].n_prompt_events, alone.out[i].n_prompt); /* a row a step */
        assert_true(r.out[i].n_prompt_events < r.out[i].n_prompt);
        assert_same_prompt(&r.out[i], &alone.out[i]);
        assert_memory_equal(r.out[i].logits, alone.out[i].logits, sizeof(r.out[i].logits));
    }
    settled(&alone);
    settled(&r);
    close_rig(&alone, REQUESTS);
    close_rig(&r, REQUESTS);
}

static void a_prompt_may_be_all(void **state)
{
    const outcome *o;
    cog_request *q;
    rig r;

    open(&r, config(4, 16));
    run(&r, scored(&r, 1, question, false));
    q = scored(&r, 2, question, false);
    q->max_tokens = 0;
    q->n = 2;
    o = run(&r, q);
    assert_same_prompt(o, &r.out[1]);
    for (int c = 0; c < 2; c++) {
        assert_int_equal(o->n_finish[c], 1);
        assert_int_equal(o->finish[c], COG_FINISH_LENGTH);
        assert_int_equal(o->n_tokens[c], 0);
    }
    assert_int_equal(o->usage.completion_tokens, 0);
    assert_int_equal(o->usage.prompt_tokens, r.out[1].usage.prompt_tokens);
    settled(&r);
    close_rig(&r, REQUESTS);
}

/* ---- candidates ---- */

static void add_candidate(rig *r, cog_request *q, const char *text)
{
    cog_candidate *list = cog_array(cog_candidate, (size_t)q->n_candidates + 1);
    cog_candidate *c = &list[q->n_candidates];
    cog_err err;

    if (q->n_candidates)
        memcpy(list, q->candidate, (size_t)q->n_candidates * sizeof(*list));
    cog_free(q->candidate);
    q->candidate = list;
    assert_int_equal(cog_engine_tokenize(&c->token, &c->n, r->e, text, strlen(text), &err), 0);
    q->n_candidates++;
}

/* In double precision, as the definition says. */
static double log_softmax(const float *logits, int n, int32_t token)
{
    double sum = 0, max = -INFINITY;

    for (int i = 0; i < n; i++)
        max = fmax(max, (double)logits[i]);
    for (int i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return (double)logits[token] - max - log(sum);
}

static double expected_score(rig *r, const int32_t *prompt, int n, bool has_image, const char *text)
{
    int32_t *ids, *all;
    int n_ids;
    double sum = 0;
    cog_err err;

    assert_int_equal(cog_engine_tokenize(&ids, &n_ids, r->e, text, strlen(text), &err), 0);
    all = cog_array(int32_t, (size_t)(n + n_ids + 1));
    memcpy(all, prompt, (size_t)n * sizeof(int32_t));
    if (n_ids)
        memcpy(all + n, ids, (size_t)n_ids * sizeof(int32_t));
    all[n + n_ids] = cog_engine_get_info(r->e)->eos[0];
    for (int i = 0; i <= n_ids; i++)
        sum += log_softmax(row_after(r, all, n + i, has_image), vocab_of(r), all[n + i]);
    cog_free(ids);
    cog_free(all);
    return sum;
}

static const char *const texts[] = { "yes", "no", "", "yes it is", "a big red dog", "no" };

enum { TEXTS = sizeof(texts) / sizeof(texts[0]) };

static void candidates_are_as_likely_as_their_tokens(void **state)
{
    for (int k = 0; k < 2; k++) {
        bool has_image = k == 1;
        const outcome *o;
        cog_request *q;
        int32_t *prompt;
        int n;
        rig r;

        open(&r, config(4, 64));
        run(&r, make_request(&r, 2, question, has_image, 1));
        q = make_request(&r, 1, question, has_image, 1);
        q->sampling.seed = 2;
        n = q->prompt.n_tokens;
        prompt = copy_of(&q->prompt);
        for (int i = 0; i < TEXTS; i++)
            add_candidate(&r, q, texts[i]);
        o = run(&r, q);
        assert_int_equal(o->n_candidates, TEXTS);
        assert_memory_equal(o->logits, r.out[2].logits, sizeof(o->logits)); /* nothing else is */
        assert_int_equal(o->usage.completion_tokens, r.out[2].usage.completion_tokens);
        for (int i = 0; i < TEXTS; i++) {
            double want = expected_score(&r, prompt, n, has_image, texts[i]);
            assert_true(want < 0 && fabs(o->candidate[i] - want) < 1e-4);
        }
        assert_true(o->candidate[0] != o->candidate[1] && o->candidate[1] == o->candidate[5]);
        cog_free(prompt);
        settled(&r);
        close_rig(&r, REQUESTS);
    }
}

/* More of them than a step has rows, beside others, with and without what is cached, in pools of
 * any size: always the same. */
static void candidates_do_not_depend_on_company(void **state)
{
    enum { EACH = 8 };
    double want[COG_MAX_CANDIDATES];

    for (int k = 0; k < 3; k++) {
        cog_engine_config cfg = config(k == 1 ? 160 : 3, k == 1 ? 256 : 16);
        cog_request *made[EACH];
        cog_engine_stats s;
        rig r;

        cfg.prefix_cache = k != 2;
        if (k == 1)
            cfg.kv_bytes = (uint64_t)ONE_CONTEXT * 4;
        open(&r, cfg);
        for (int i = 0; i < EACH; i++) {
            made[i] = make_request(&r, (uint64_t)i + 1, question, i % 2 == 0, 1);
            made[i]->n = i % 3 == 2 ? CHOICES : 1;
            made[i]->max_tokens = 1 + 5 * i;
            made[i]->no_cache = i % 4 == 3;
            for (int c = 0; i < 2 && c < (i == 0 ? COG_MAX_CANDIDATES : TEXTS); c++) {
                char text[16];
                snprintf(text, sizeof(text), "cat %d", c);
                add_candidate(&r, made[i], i ? texts[c] : text);
            }
        }
        for (int i = 0; i < EACH; i++)
            submit(&r, made[i]);
        wait_for(&r, EACH);
        s = settled(&r);
        for (int i = 0; i < EACH; i++)
            assert_int_equal(r.out[i + 1].status, 0);
        assert_int_equal(r.out[1].n_candidates, COG_MAX_CANDIDATES);
        assert_true(k != 1 || s.preemptions > 0);
        if (k == 0)
            memcpy(want, r.out[1].candidate, sizeof(want));
        assert_memory_equal(want, r.out[1].candidate, sizeof(want));
        close_rig(&r, REQUESTS);
    }
}

/* ---- ends ---- */

static void cancel_at(rig *r, uint64_t id, int choice, int index, const float *logits, int vocab)
{
    if (id > 0 && index == (int)id % 4)
        cog_engine_cancel(r->e, id);
}

static void cancelled_requests_leave_nothing(void **state)
{
    enum { EACH = 40 };
    cog_request *made[EACH];
    rig r;

    open(&r, config(4, 16));
    r.at_token = cancel_at;
    for (int i = 0; i < EACH; i++) {
        made[i] = scored(&r, i + 1, question, i % 2);
        r.out[i + 1].prompt_from = 1 + made[i]->prompt.n_image_tokens;
        made[i]->n = 1 + i % 3;
        made[i]->no_cache = i % 5 == 0;
        for (int c = 0; c < TEXTS; c++)
            add_candidate(&r, made[i], texts[c]);
    }
    for (int i = 0; i < EACH; i++)
        submit(&r, made[i]);
    for (int i = 2; i < EACH; i += 3)
        cog_engine_cancel(r.e, (uint64_t)i + 1);
    wait_for(&r, EACH);
    settled(&r);
    close_rig(&r, REQUESTS);
}

static void refuse(rig *r, cog_request *q)
{
    cog_err err;

    assert_int_equal(cog_engine_submit(r->e, q, &err), COG_EINVAL);
    cog_request_free(q);
}

static void what_cannot_be_scored_is_refused(void **state)
{
    cog_request *q;
    rig r;

    open(&r, config(4, 16));
    q = make_request(&r, 1, question, false, 0);
    q->max_tokens = 0;
    refuse(&r, q);
    q = scored(&r, 1, question, false);
    q->max_tokens = 0;
    add_candidate(&r, q, "yes");
    refuse(&r, q);
    q = scored(&r, 1, question, false);
    q->n_prompt_top = COG_MAX_TOP + 1;
    refuse(&r, q);
    q = make_request(&r, 1, question, false, 0);
    add_candidate(&r, q, "yes");
    q->candidate[0].token[0] = vocab_of(&r);
    refuse(&r, q);
    for (int more = 0; more < 2; more++) { /* up to the context, and one more */
        q = make_request(&r, 1, question, false, 0);
        add_candidate(&r, q, "");
        q->candidate[0].n = cog_request_room(&q->prompt, cog_engine_get_info(r.e)) + more;
        cog_free(q->candidate[0].token);
        q->candidate[0].token = cog_array(int32_t, (size_t)q->candidate[0].n);
        for (int i = 0; i < q->candidate[0].n; i++)
            q->candidate[0].token[i] = 5;
        if (more)
            refuse(&r, q);
        else
            assert_true(run(&r, q)->candidate[0] < 0);
    }
    close_rig(&r, REQUESTS);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_scored),
        cmocka_unit_test(what_is_cached_is_scored_again),
        cmocka_unit_test(a_picture_that_is_gone_is_encoded_again),
        cmocka_unit_test(scores_do_not_depend_on_company),
        cmocka_unit_test(a_prompt_may_be_all),
        cmocka_unit_test(candidates_are_as_likely_as_their_tokens),
        cmocka_unit_test(candidates_do_not_depend_on_company),
        cmocka_unit_test(cancelled_requests_leave_nothing),
        cmocka_unit_test(what_cannot_be_scored_is_refused),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
