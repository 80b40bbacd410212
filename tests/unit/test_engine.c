/* The whole engine on a tiny random checkpoint: what a request gets does not depend on its company,
 * and nothing leaks. */
#include "tests/unit/engine_rig.h"

#include "base/clock.h"
#include "engine/sampler.h"
#include "tests/unit/folder.h"

/* ONE_CONTEXT: elements of 2048 slots, 2 layers of keys and values, 2 heads of 64 */
enum { N = 32, ONE_CONTEXT = 2048 * 2 * 2 * 128 };

/* Some tokens likelier, some allowed, some that end, and not too soon. */
static void edit_tokens(cog_request *q, int vocab)
{
    cog_sampling *p = &q->sampling;

    p->bias = cog_array(cog_logit_bias, 20);
    for (p->n_bias = 0; p->n_bias < 20; p->n_bias++)
        p->bias[p->n_bias] = (cog_logit_bias){ 3 + 7 * p->n_bias, (float)(p->n_bias % 5) - 2 };
    p->allowed = cog_array(int32_t, (size_t)vocab);
    for (int token = 0; token < vocab; token += 1 + token % 2)
        p->allowed[p->n_allowed++] = token;
    for (int i = 0; i < 20; i++)
        q->stop_token[q->n_stop_tokens++] = 10 * i;
    q->min_tokens = q->max_tokens / 2;
}

/* The id-th of N requests: lengths, pictures (some shared), sampling and choices all differ. */
static cog_request *varied(rig *r, uint64_t id)
{
    cog_rng rng = { .key = 1000 + id };
    char query[1200] = "";
    int words = 1 + (int)cog_rng_below(&rng, 120);
    cog_request *q;

    for (int i = 0; i < words; i++) {
        static const char *const word[] = { "what ", "is ",    "the ", "big ",
                                            "red ",  "cat 7 ", "dog ", "left of " };
        strcat(query, word[cog_rng_below(&rng, 8)]);
    }
    q = make_request(r, id, query, id % 4 != 3, id % 5 == 0 ? 7 : id);
    q->max_tokens = 1 + (int)cog_rng_below(&rng, LONGEST - 1);
    q->n = 1 + (int)(id % CHOICES);
    if (id % 6 == 0)
        q->sampling.temperature = 0;
    if (id % 7 == 0)
        q->sampling = (cog_sampling){ .temperature = 1.2f,
                                      .top_p = 0.9f,
                                      .top_k = 20,
                                      .repetition_penalty = 1.2f,
                                      .frequency_penalty = 0.1f,
                                      .seed = id };
    if (id % 8 == 3)
        edit_tokens(q, cog_engine_get_info(r->e)->vocab);
    q->logprobs = id % 3 == 1;
    q->n_top = (int)(id % (COG_MAX_TOP + 1));
    return q;
}

/* Each request alone, one after another, and nothing of one is used for the next. */
static void run_alone(rig *r, const char *dtype)
{
    cog_engine_config cfg = cog_engine_defaults;

    cfg.prefix_cache = false;
    cfg.image_cache_bytes = 0;
    cfg.dtype = dtype;
    cfg.batch_invariant = true;
    cfg.threads = 1;
    cfg.step_tokens = 1024; /* every prompt in one chunk */
    open_rig(r, cfg, N);
    for (int i = 0; i < N; i++) {
        submit(r, varied(r, (uint64_t)i));
        wait_for(r, i + 1);
    }
    settled(r);
}

static void check_scored(const cog_scored_token *x, const cog_scored_token *y)
{
    assert_int_equal(x->self.token, y->self.token);
    assert_memory_equal(&x->self.logprob, &y->self.logprob, sizeof(float));
    assert_int_equal(x->n_top, y->n_top);
    assert_memory_equal(x->top, y->top, (size_t)x->n_top * sizeof(x->top[0]));
}

static void check_equal(const rig *a, const rig *b)
{
    for (int i = 0; i < N; i++) {
        const outcome *x = &a->out[i], *y = &b->out[i];

        assert_int_equal(x->status, 0);
        assert_int_equal(y->status, 0);
        for (int c = 0; c < CHOICES; c++) {
            assert_int_equal(x->n_finish[c], c <= i % CHOICES);
            assert_int_equal(y->n_finish[c], x->n_finish[c]);
            assert_int_equal(x->finish[c], y->finish[c]);
            assert_int_equal(x->n_tokens[c], y->n_tokens[c]);
            assert_int_equal(x->text[c].len, y->text[c].len);
            assert_int_equal(x->n_scored[c], y->n_scored[c]);
            for (int k = 0; k < x->n_scored[c]; k++)
                check_scored(&x->scored[c][k], &y->scored[c][k]);
            if (x->text[c].len)
                assert_memory_equal(x->text[c].data, y->text[c].data, x->text[c].len);
        }
    }
}

/* Rows that a preempted sequence draws from come once: it computes its KV again, not its tokens. */
static void check_logits(const rig *a, const rig *b)
{
    for (int i = 0; i < N; i++)
        for (int c = 0; c < CHOICES; c++) {
            assert_int_equal(a->out[i].n_logits[c], b->out[i].n_logits[c]);
            assert_memory_equal(a->out[i].logits[c], b->out[i].logits[c],
                                sizeof(a->out[i].logits[c]));
        }
}

static cog_engine_stats run_together(rig *r, cog_engine_config cfg, uint64_t seed)
{
    cog_rng rng = { .key = seed };
    cog_engine_stats s;
    int order[N];

    open_rig(r, cfg, N);
    for (int i = 0; i < N; i++)
        order[i] = i;
    for (int i = N - 1; i > 0; i--) {
        int k = (int)cog_rng_below(&rng, (uint64_t)i + 1), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
    for (int i = 0; i < N; i++) {
        submit(r, varied(r, (uint64_t)order[i]));
        if (cog_rng_below(&rng, 3) == 0)
            usleep((useconds_t)cog_rng_below(&rng, 4000));
        take_events(r, 0);
    }
    wait_for(r, N);
    s = settled(r);
    return s;
}

static void invariance(const char *dtype)
{
    static const struct {
        int max_seqs, step_tokens, threads, block, max_images, is_tight;
        uint64_t image_cache;
    } shape[] = {
        { 32, 256, 2, 32, 4, 0, 1 << 28 }, /* all together */
        { 8, 13, 2, 16, 1, 0, 0 },         /* prompts cut into odd chunks */
        { 5, 5, 3, 64, 3, 0, 1 << 28 },    /* a row or two of a prompt at a time */
        { 12, 64, 2, 16, 2, 1, 1 << 16 },  /* pages and pictures come and go */
    };
    rig alone, together;
    uint64_t shared = 0;

    run_alone(&alone, dtype);
    for (size_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++) {
        cog_engine_config cfg = cog_engine_defaults;
        cog_engine_stats s;

        cfg.dtype = dtype;
        cfg.batch_invariant = true;
        cfg.max_seqs = shape[i].max_seqs;
        cfg.step_tokens = shape[i].step_tokens;
        cfg.threads = shape[i].threads;
        cfg.block = shape[i].block;
        cfg.max_images = shape[i].max_images;
        cfg.image_cache_bytes = shape[i].image_cache;
        if (shape[i].is_tight)
            cfg.kv_bytes = ONE_CONTEXT * (strcmp(dtype, "f32") == 0 ? 4 : 2);
        s = run_together(&together, cfg, i);
        check_equal(&alone, &together);
        check_logits(&alone, &together);
        shared += s.images_shared;
        close_rig(&together, N);
    }
    assert_true(shared > 0); /* some requests met others with their picture */
    close_rig(&alone, N);
}

static void logits_are_the_same_bits_in_any_company_f32(void **state)
{
    invariance("f32");
}

static void logits_are_the_same_bits_in_any_company_bf16(void **state)
{
    invariance("bf16");
}

/* 20 prompts of 7 pages, each of whose three answers soon needs a page of its own, in a pool of
 * 128: somebody has to give way.
 */
static cog_engine_stats run_long(rig *r, uint64_t kv_bytes)
{
    cog_engine_config cfg = cog_engine_defaults;
    cog_request *made[20];
    char query[400] = "";

    for (int i = 0; i < 70; i++)
        strcat(query, "dog ");
    cfg.dtype = "f32";
    cfg.batch_invariant = true;
    cfg.block = 16;
    cfg.kv_bytes = kv_bytes;
    cfg.prefix_cache = kv_bytes != 0;
    cfg.step_stretch = 1000; /* or prompts might come in as slowly as answers end */
    open_rig(r, cfg, 20);
    for (int i = 0; i < 20; i++) {
        cog_request *q = make_request(r, (uint64_t)i, query, true, (uint64_t)i);
        assert_true(q->prompt.n_tokens >= 108);
        q->prompt.n_tokens = 108; /* 7 pages */
        q->n = CHOICES;
        q->max_tokens = LONGEST - 1;
        made[i] = q;
    }
    for (int i = 0; i < 20; i++) /* all at once: making them takes as long as answering them */
        submit(r, made[i]);
    wait_for(r, 20);
    return settled(r);
}

static void preempted_sequences_go_on_with_the_same_bits(void **state)
{
    rig roomy, tight;

    assert_int_equal(run_long(&roomy, 0).preemptions, 0);
    assert_true(run_long(&tight, (uint64_t)ONE_CONTEXT * 4).preemptions > 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(tight.out[i].status, 0);
        assert_memory_equal(roomy.out[i].logits, tight.out[i].logits, sizeof(roomy.out[i].logits));
        assert_int_equal(roomy.out[i].text[0].len, tight.out[i].text[0].len);
    }
    close_rig(&roomy, 20);
    close_rig(&tight, 20);
}

/* ------------------------------------------------------------------ a request's life */

static void open_default(rig *r, int n)
{
    cog_engine_config cfg = cog_engine_defaults;

    cfg.dtype = "f32";
    cfg.batch_invariant = true;
    open_rig(r, cfg, n);
}

static void a_cancelled_request_ends_and_frees_everything(void **state)
{
    enum { STAGES = 25 };
    rig r;

    open_default(&r, STAGES);
    for (int i = 0; i < STAGES; i++) {
        cog_request *q = varied(&r, (uint64_t)i);
        outcome *o = &r.out[i];

        q->max_tokens = LONGEST - 1;
        submit(&r, q);
        while (o->n_tokens[0] < i &&
               !o->n_end) /* at every stage: before, in and after the prompt */
            take_events(&r, 100000000);
        cog_engine_cancel(r.e, (uint64_t)i);
        wait_for(&r, i + 1);
        assert_true(o->status == COG_ECANCELED || o->n_finish[0] == 1);
        settled(&r);
    }
    cog_engine_cancel(r.e, 12345); /* unknown: ignored */
    close_rig(&r, STAGES);
}

enum { ROUNDS = 20 };

/* From the engine's own thread, so that the moment is certain: an answer that has more to come
 * never ends by itself. */
static void cancel_in_second_round(rig *r, uint64_t id, int choice, int index, const float *logits,
                                   int vocab)
{
    if (choice == 0 && (uint64_t)index + ROUNDS == id)
        cog_engine_cancel(r->e, id);
}

static void a_cancel_stops_at_the_token_it_meets(void **state)
{
    int stopped = 0;
    rig r;

    open_default(&r, 2 * ROUNDS);
    for (int i = 0; i < 2 * ROUNDS; i++) { /* each whole, then cancelled */
        cog_request *q = varied(&r, (uint64_t)(i % ROUNDS));
        const outcome *whole = &r.out[i % ROUNDS], *o = &r.out[i];

        r.at_token = i < ROUNDS ? NULL : cancel_in_second_round;
        q->id = (uint64_t)i;
        q->max_tokens = LONGEST - 1;
        submit(&r, q);
        wait_for(&r, i + 1);
        settled(&r);
        if (i < ROUNDS || whole->n_tokens[0] <= i - ROUNDS + 1)
            continue;
        assert_int_equal(o->status, COG_ECANCELED);
        assert_int_equal(o->n_tokens[0], i - ROUNDS + 1);
        stopped++;
    }
    assert_true(stopped >= 5);
    close_rig(&r, 2 * ROUNDS);
}

static void cancelling_one_leaves_the_others_bits(void **state)
{
    rig alone, together;

    run_alone(&alone, "f32");
    open_default(&together, N);
    for (int i = 0; i < N; i++)
        submit(&together, varied(&together, (uint64_t)i));
    for (int i = 0; i < N; i += 2)
        cog_engine_cancel(together.e, (uint64_t)i);
    wait_for(&together, N);
    settled(&together);
    for (int i = 1; i < N; i += 2) {
        assert_int_equal(together.out[i].status, 0);
        assert_memory_equal(alone.out[i].logits, together.out[i].logits,
                            sizeof(alone.out[i].logits));
    }
    close_rig(&alone, N);
    close_rig(&together, N);
}

static void a_deadline_ends_a_request(void **state)
{
    cog_request *q;
    rig r;

    open_default(&r, 2);
    q = make_request(&r, 0, "what is this", true, 1);
    q->max_tokens = LONGEST - 1;
    q->deadline_ns = cog_now_ns();
    submit(&r, q);
    submit(&r, make_request(&r, 1, "and this", true, 2));
    wait_for(&r, 2);
    assert_int_equal(r.out[0].status, COG_ETIMEOUT);
    assert_int_equal(r.out[1].status, 0);
    settled(&r);
    close_rig(&r, 2);
}

static void the_queue_is_bounded(void **state)
{
    cog_engine_config cfg = cog_engine_defaults;
    int accepted = 0, refused = 0;
    cog_request *made[64];
    cog_err err;
    rig r;

    cfg.dtype = "f32";
    cfg.max_seqs = 1;
    cfg.max_queue = 3;
    open_rig(&r, cfg, 65);
    for (int i = 0; i < 64; i++) {
        made[i] = make_request(&r, (uint64_t)i, "what is this", true, (uint64_t)i);
        made[i]->max_tokens = LONGEST - 1;
    }
    for (int i = 0; i < 64; i++) {
        int rc = cog_engine_submit(r.e, made[i], &err);

        if (rc == 0) {
            accepted++;
        } else {
            assert_int_equal(rc, COG_EBUSY);
            cog_request_free(made[i]); /* it stayed the caller's */
            refused++;
        }
    }
    assert_true(accepted >= 3 && refused > 0);
    wait_for(&r, accepted);
    settled(&r);
    submit(&r, make_request(&r, 64, "again", false, 0)); /* an id of its own: 63 may have run */
    wait_for(&r, accepted + 1);
    close_rig(&r, 65);
}

static void requests_that_can_never_run_are_refused(void **state)
{
    cog_request *q;
    cog_err err;
    rig r;

    open_default(&r, 1);
    q = make_request(&r, 0, "what", true, 1);
    q->max_tokens = cog_engine_get_info(r.e)->context;
    assert_int_equal(cog_engine_submit(r.e, q, &err), COG_EINVAL);
    q->max_tokens = 0;
    assert_int_equal(cog_engine_submit(r.e, q, &err), COG_EINVAL);
    q->max_tokens = 1;
    q->n = COG_MAX_CHOICES + 1;
    assert_int_equal(cog_engine_submit(r.e, q, &err), COG_EINVAL);
    q->n = 1;
    q->prompt.tokens[q->prompt.n_tokens - 1] = cog_engine_get_info(r.e)->vocab;
    assert_int_equal(cog_engine_submit(r.e, q, &err), COG_EINVAL);
    q->prompt.tokens[q->prompt.n_tokens - 1] = -1;
    assert_int_equal(cog_engine_submit(r.e, q, &err), COG_EINVAL);
    q->prompt.tokens[q->prompt.n_tokens - 1] = 5;
    q->image->side++;
    assert_int_equal(cog_engine_submit(r.e, q, &err), COG_EINVAL);
    q->image->side--;
    cog_image_free(q->image);
    q->image = NULL;
    assert_int_equal(cog_engine_submit(r.e, q, &err), COG_EINVAL);
    cog_request_free(q);
    close_rig(&r, 1);
}

static void choices_equal_requests_of_their_own(void **state)
{
    rig r;

    /* Three choices of one request: the first is what n = 1 gives, all differ from one another, and
     * all are what the same request gives when only one sequence may run at a time. */
    cog_engine_config cfg = cog_engine_defaults;
    rig narrow;

    open_default(&r, 2);
    for (int i = 0; i < 2; i++) {
        cog_request *q = make_request(&r, (uint64_t)i, "what is this", true, 1);
        q->n = i == 0 ? 1 : 3;
        q->sampling.seed = 5;
        q->sampling.temperature = 2;
        submit(&r, q);
    }
    wait_for(&r, 2);
    assert_int_equal(r.out[0].text[0].len, r.out[1].text[0].len);
    assert_memory_equal(r.out[0].logits[0], r.out[1].logits[0], sizeof(r.out[0].logits[0]));
    assert_memory_equal(&r.out[1].logits[0][0], &r.out[1].logits[1][0], sizeof(cog_sha256));
    assert_memory_not_equal(r.out[1].logits[0], r.out[1].logits[1], sizeof(r.out[0].logits[0]));
    assert_memory_not_equal(r.out[1].logits[1], r.out[1].logits[2], sizeof(r.out[0].logits[0]));
    assert_int_equal(r.out[1].usage.completion_tokens,
                     r.out[1].n_tokens[0] + r.out[1].n_tokens[1] + r.out[1].n_tokens[2]);

    cfg.dtype = "f32";
    cfg.batch_invariant = true;
    cfg.max_seqs = 1;
    open_rig(&narrow, cfg, 2);
    cog_request *q = make_request(&narrow, 1, "what is this", true, 1);
    q->n = 3;
    q->sampling.seed = 5;
    q->sampling.temperature = 2;
    submit(&narrow, q);
    wait_for(&narrow, 1);
    assert_memory_equal(r.out[1].logits, narrow.out[1].logits, sizeof(r.out[1].logits));
    close_rig(&narrow, 2);
    close_rig(&r, 2);
}

static void greedy_choices_are_computed_once(void **state)
{
    cog_request *q;
    rig r;

    open_default(&r, 1);
    q = make_request(&r, 0, "what is this", true, 1);
    q->n = 3;
    q->sampling.temperature = 0;
    submit(&r, q);
    wait_for(&r, 1);
    assert_int_equal(r.out[0].n_logits[1], 0);
    for (int c = 1; c < 3; c++) {
        assert_int_equal(r.out[0].n_finish[c], 1);
        assert_int_equal(r.out[0].n_tokens[c], r.out[0].n_tokens[0]);
        assert_int_equal(r.out[0].text[c].len, r.out[0].text[0].len);
        assert_memory_equal(r.out[0].text[c].data, r.out[0].text[0].data, r.out[0].text[0].len);
    }
    assert_int_equal(r.out[0].usage.completion_tokens, 3 * r.out[0].n_tokens[0]);
    close_rig(&r, 1);
}

static void a_stop_string_ends_an_answer(void **state)
{
    const char *text;
    cog_request *q;
    char stop[3] = "";
    rig r;

    open_default(&r, 2);
    q = make_request(&r, 0, "what is this", true, 1);
    q->max_tokens = LONGEST - 1;
    submit(&r, q);
    wait_for(&r, 1);
    text = r.out[0].text[0].data;
    assert_true(r.out[0].text[0].len > 8);
    memcpy(stop, text + 5, 2);

    q = make_request(&r, 1, "what is this", true, 1);
    q->sampling.seed = 0; /* as the first one */
    q->max_tokens = LONGEST - 1;
    q->stop[q->n_stop++] = cog_strdup("never in the text");
    q->stop[q->n_stop++] = cog_strdup(stop);
    submit(&r, q);
    wait_for(&r, 2);
    assert_int_equal(r.out[1].finish[0], COG_FINISH_STOP);
    assert_int_equal(r.out[1].stop[0], 1);
    assert_int_equal(r.out[1].text[0].len, (size_t)(strstr(text, stop) - text));
    assert_memory_equal(r.out[1].text[0].data, text, r.out[1].text[0].len);
    assert_true(r.out[1].n_tokens[0] < r.out[0].n_tokens[0]);
    close_rig(&r, 2);
}

static char *read_whole(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    char *bytes;

    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    bytes = cog_alloc(*len + 1, 1);
    assert_int_equal(fread(bytes, 1, *len, f), *len);
    fclose(f);
    return bytes;
}

/* The checkpoint in dir, with a token whose embedding is no number. */
static void write_broken_model(const char *dir, int32_t token, int vocab)
{
    static const char *const same[] = { "config.json", "generation_config.json", "tokenizer.model",
                                        "tokenizer_config.json" };
    char *from = cog_strdup(model_dir("hd64-bf16"));
    char *path = cog_sprintf("%s/model.safetensors", from), *bytes, *at;
    size_t len, first, last, row;
    uint64_t head;

    bytes = read_whole(path, &len);
    memcpy(&head, bytes, sizeof(head));
    at = memmem(bytes, len, "\"model.embed_tokens.weight\"", 27);
    assert_non_null(at);
    at = strstr(at, "\"data_offsets\":");
    assert_int_equal(sscanf(at, "\"data_offsets\":[%zu,%zu]", &first, &last), 2);
    row = (last - first) / (size_t)vocab;
    memset(bytes + 8 + head + first + (size_t)token * row, 0xff, row);
    folder_write(dir, "model.safetensors", bytes, len);
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        char *target = cog_sprintf("%s/%s", from, same[i]);
        char *link = cog_sprintf("%s/%s", dir, same[i]);
        assert_int_equal(symlink(target, link), 0);
        cog_free(target);
        cog_free(link);
    }
    cog_free(bytes);
    cog_free(path);
    cog_free(from);
}

static void submit_two(rig *r)
{
    for (int i = 0; i < 2; i++) {
        cog_request *q = make_request(r, (uint64_t)i, "what is this", true, (uint64_t)i);
        q->n = CHOICES; /* the other answers' rows stand in the same step */
        q->sampling.temperature = 2;
        submit(r, q);
    }
    wait_for(r, 2);
}

/* What request 0 draws first at temperature 2. */
static int32_t first_token[CHOICES];

static void note_first_token(rig *r, uint64_t id, int choice, int index, const float *logits,
                             int vocab)
{
    const cog_sampling p = { .temperature = 2, .top_p = 1, .repetition_penalty = 1 };
    cog_sampler *s;

    if (id != 0 || index != 0)
        return;
    s = cog_sampler_new(vocab);
    cog_sampler_pick(s, &first_token[choice], logits, &p,
                     &(cog_sample_context){ .choice = choice });
    cog_sampler_free(s);
}

/* A broken model, at the second token of one answer. */
static void logits_that_are_no_numbers_end_one_request(void **state)
{
    cog_engine_config cfg = cog_engine_defaults;
    int32_t token;
    int vocab;
    rig r;

    open_default(&r, 2);
    r.at_token = note_first_token;
    submit_two(&r);
    for (int i = 0; i < 2; i++)
        assert_int_equal(r.out[i].status, 0);
    token = first_token[0];
    assert_true(token != first_token[1] && token != first_token[2]);
    vocab = cog_engine_get_info(r.e)->vocab;
    close_rig(&r, 2);

    write_broken_model(*state, token, vocab);
    cfg.model_dir = *state;
    cfg.dtype = "f32";
    open_rig(&r, cfg, 2);
    submit_two(&r);
    assert_int_equal(r.out[0].status, COG_EDEVICE);
    for (int c = 0; c < CHOICES; c++)
        assert_true(r.out[0].n_tokens[c] >= 1); /* the first ones came */
    assert_int_equal(r.out[1].status, 0);
    settled(&r);
    close_rig(&r, 2);
}

/* More pictures are held by requests far back in the queue than features are reserved: those that
 * run get theirs, and the others are encoded again. */
static void features_go_to_those_who_run(void **state)
{
    enum { PICTURES = 8 };
    cog_engine_config cfg = cog_engine_defaults;
    cog_request *made[2 * PICTURES];
    cog_engine_stats s;
    rig r;

    cfg.dtype = "f32";
    cfg.max_seqs = 1;
    cfg.max_images = 1; /* features of two pictures */
    cfg.prefix_cache = false;
    cfg.image_cache_bytes = 0;
    open_rig(&r, cfg, 2 * PICTURES);
    for (int i = 0; i < 2 * PICTURES; i++) {
        made[i] = make_request(&r, (uint64_t)i, "what is this", true, (uint64_t)(i % PICTURES));
        made[i]->sampling.seed = 0;
    }
    for (int i = 0; i < 2 * PICTURES; i++)
        submit(&r, made[i]);
    wait_for(&r, 2 * PICTURES);
    for (int i = 0; i < PICTURES; i++) {
        const outcome *x = &r.out[i], *y = &r.out[PICTURES + i];
        assert_int_equal(x->status, 0);
        assert_int_equal(y->status, 0);
        assert_memory_equal(x->logits, y->logits, sizeof(x->logits));
    }
    s = settled(&r);
    assert_true(s.images_encoded > PICTURES);
    close_rig(&r, 2 * PICTURES);
}

static void a_pass_nobody_waits_for_is_dropped(void **state)
{
    cog_engine_stats s;
    rig r;

    open_default(&r, 20);
    for (int i = 0; i < 20; i++) {
        submit(&r, make_request(&r, (uint64_t)i, "what is this", true, (uint64_t)i));
        cog_engine_cancel(r.e, (uint64_t)i);
        wait_for(&r, i + 1);
    }
    s = settled(&r);
    assert_true(s.images_encoded < 20);
    close_rig(&r, 20);
}

static void one_picture_is_encoded_once(void **state)
{
    cog_request *made[16];
    cog_engine_stats s;
    rig r;

    open_default(&r, 16);
    for (int i = 0; i < 16; i++) {
        cog_request *q =
            make_request(&r, (uint64_t)i, i % 2 ? "what is this" : "how many", true, 42);
        q->max_tokens = LONGEST - 1;
        made[i] = q;
    }
    for (int i = 0; i < 16; i++)
        submit(&r, made[i]);
    wait_for(&r, 16);
    s = settled(&r);
    assert_int_equal(s.images_encoded + s.images_shared, 16);
    assert_true(s.images_shared >= 8); /* those that met a live one */
    close_rig(&r, 16);
}

static void closing_ends_what_is_running(void **state)
{
    rig r;

    open_default(&r, 8);
    for (int i = 0; i < 8; i++) {
        cog_request *q = varied(&r, (uint64_t)i);
        q->max_tokens = LONGEST - 1;
        submit(&r, q);
    }
    take_events(&r, 10000000);
    close_rig(&r, 8); /* under a leak checker: every request, event and page is freed */
}

static void a_folder_that_does_not_load_says_why(void **state)
{
    cog_engine_config cfg = cog_engine_defaults;
    cog_engine_state s;
    cog_engine *e;
    cog_err err;

    cfg.model_dir = "/nonexistent";
    assert_int_equal(cog_engine_open(&e, &cfg, &err), 0);
    assert_true(cog_engine_wait(e, &err) < 0);
    assert_non_null(strstr(err.text, "/nonexistent"));
    cog_engine_get_state(e, &s);
    assert_int_equal(s.phase, COG_ENGINE_FAILED);
    assert_null(cog_engine_get_info(e));
    cog_engine_close(e);

    cfg.model_dir = model_dir("hd64-bf16");
    cfg.backend = "abacus";
    assert_int_equal(cog_engine_open(&e, &cfg, &err), 0);
    assert_int_equal(cog_engine_wait(e, &err), COG_EINVAL);
    assert_non_null(strstr(err.text, "auto"));
    assert_non_null(strstr(err.text, "cpu"));
    cog_engine_close(e);

    cfg.backend = "auto";
    cfg.kv_bytes = 4096;
    assert_int_equal(cog_engine_open(&e, &cfg, &err), 0);
    assert_int_equal(cog_engine_wait(e, &err), COG_ELIMIT);
    assert_non_null(strstr(err.text, "at least"));
    cog_engine_close(e);

    cfg.max_seqs = 100;
    cfg.step_tokens = 99;
    assert_int_equal(cog_engine_open(&e, &cfg, &err), COG_EINVAL);
    cfg = cog_engine_defaults;
    cfg.model_dir = model_dir("hd64-bf16");
    cfg.memory_utilization = 1.5f;
    assert_int_equal(cog_engine_open(&e, &cfg, &err), COG_EINVAL);
    cfg.memory_utilization = 0.9f;
    cfg.block = 33;
    assert_int_equal(cog_engine_open(&e, &cfg, &err), COG_EINVAL);
}

/* With an argument only the tests whose names match it. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_same_bits_in_any_company_f32),
        cmocka_unit_test(logits_are_the_same_bits_in_any_company_bf16),
        cmocka_unit_test(preempted_sequences_go_on_with_the_same_bits),
        cmocka_unit_test(a_cancelled_request_ends_and_frees_everything),
        cmocka_unit_test(a_cancel_stops_at_the_token_it_meets),
        cmocka_unit_test(cancelling_one_leaves_the_others_bits),
        cmocka_unit_test(a_deadline_ends_a_request),
        cmocka_unit_test(the_queue_is_bounded),
        cmocka_unit_test(requests_that_can_never_run_are_refused),
        cmocka_unit_test(choices_equal_requests_of_their_own),
        cmocka_unit_test(greedy_choices_are_computed_once),
        cmocka_unit_test(a_stop_string_ends_an_answer),
        folder_test(logits_that_are_no_numbers_end_one_request),
        cmocka_unit_test(features_go_to_those_who_run),
        cmocka_unit_test(a_pass_nobody_waits_for_is_dropped),
        cmocka_unit_test(one_picture_is_encoded_once),
        cmocka_unit_test(closing_ends_what_is_running),
        cmocka_unit_test(a_folder_that_does_not_load_says_why),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
