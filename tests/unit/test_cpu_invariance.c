/* Bit for bit: a row's result does not depend on other rows, on chunks, on threads, on the page
 * size, or on where its pages are. Every variant of the kernels. */
#include "tests/unit/unit.h"

#include "tests/unit/cpu_rig.h"

#include <math.h>

enum { MAX_ROWS = 300, MAX_SEQS = 4, MAX_BLOCKS = 24, PICTURE = 66, TEXT = 30 };

/* A sequence: BOS, boi, patches, eoi, text; or text only. */
typedef struct sequence {
    int slots;
    bool has_picture;
    uint64_t key;
    int pages[MAX_BLOCKS];
} sequence;

static bool is_vision(const sequence *s, int slot)
{
    return s->has_picture && slot >= 1 && slot < PICTURE;
}

static int position(const sequence *s, int slot)
{
    if (!s->has_picture || slot <= 2)
        return slot;
    return slot < PICTURE ? 2 : slot - PICTURE + 3;
}

typedef struct step {
    int32_t token[MAX_ROWS], feature[MAX_ROWS], position[MAX_ROWS], slot[MAX_ROWS], seq[MAX_ROWS];
    int32_t logits_row[MAX_ROWS], pages[MAX_SEQS * MAX_BLOCKS];
    const cog_act *features[MAX_SEQS];
    cog_batch b;
} step;

static void begin_step(step *s, const sequence *q, int n_seqs, const cog_act *features)
{
    memset(s, 0, sizeof(*s));
    for (int i = 0; i < n_seqs; i++) {
        for (int k = 0; k < MAX_BLOCKS; k++)
            s->pages[i * MAX_BLOCKS + k] = q[i].pages[k];
        s->features[i] = q[i].has_picture ? features : NULL;
    }
    s->b = (cog_batch){ .token = s->token,
                        .feature = s->feature,
                        .position = s->position,
                        .slot = s->slot,
                        .seq = s->seq,
                        .seqs = n_seqs,
                        .block_table = s->pages,
                        .max_blocks = MAX_BLOCKS,
                        .features = s->features,
                        .logits_row = s->logits_row };
}

/* Adds the rows of one expert among slots first .. last - 1 of sequence i. */
static void add_rows(step *s, const sequence *q, int i, int first, int last, bool vision)
{
    for (int slot = first; slot < last; slot++) {
        int r = s->b.rows;
        if (is_vision(&q[i], slot) != vision)
            continue;
        assert_true(r < MAX_ROWS);
        bool in_picture = q[i].has_picture && slot >= 1 && slot <= PICTURE;
        s->feature[r] = in_picture ? slot - 1 : -1;
        s->token[r] = (int32_t)(cog_rng_at(q[i].key, (uint64_t)slot) % 101);
        s->position[r] = position(&q[i], slot);
        s->slot[r] = slot;
        s->seq[r] = i;
        s->b.rows++;
        s->b.language_rows += !vision;
    }
}

/* Result of a whole prompt: logits of every slot. */
typedef struct result {
    float *logits; /* [slots, vocab] */
} result;

/* Runs one step and stores the logits of its rows by sequence and slot. */
static void run_step(const rig *g, step *s, result *out, cog_act *x)
{
    float *logits = cog_array(float, (size_t)s->b.rows *(size_t)g->m.vocab);
    size_t vocab = (size_t)g->m.vocab;

    s->b.n_logits = s->b.rows;
    for (int r = 0; r < s->b.rows; r++)
        s->logits_row[r] = s->b.rows - 1 - r;
    assert_int_equal(cog_cpu_ops.step_begin(g->be, &s->b), 0);
    assert_int_equal(cog_cpu_ops.embed(g->be, x, g->table), 0);
    for (int l = 0; l < g->m.layers; l++) {
        assert_int_equal(cog_cpu_ops.attention(g->be, x, &g->layer[l], l), 0);
        assert_int_equal(cog_cpu_ops.ffn(g->be, x, &g->layer[l]), 0);
    }
    assert_int_equal(cog_cpu_ops.logits(g->be, x, &g->head), 0);
    assert_int_equal(cog_cpu_ops.logits_read(g->be, logits), 0);
    for (int r = 0; r < s->b.rows; r++) {
        int row = s->logits_row[r];
        memcpy(out[s->seq[row]].logits + (size_t)s->slot[row] * vocab, logits + (size_t)r * vocab,
               vocab * sizeof(float));
    }
    cog_free(logits);
}

static void make_sequences(sequence *q, int block, bool reverse_pages)
{
    int next = 0, total = 3 * MAX_BLOCKS > 64 ? 64 : 3 * MAX_BLOCKS;

    q[0] = (sequence){ .slots = PICTURE + TEXT, .has_picture = true, .key = 1 };
    q[1] = (sequence){ .slots = 37, .key = 2 };
    q[2] = (sequence){ .slots = PICTURE + 1, .has_picture = true, .key = 3 };
    for (int i = 0; i < 3; i++)
        for (int k = 0; k * block < q[i].slots; k++, next++)
            q[i].pages[k] = reverse_pages ? total - 1 - next : next;
}

static void alloc_results(const rig *g, const sequence *q, result *r)
{
    for (int i = 0; i < 3; i++)
        r[i].logits = cog_array(float, (size_t)q[i].slots *(size_t)g->m.vocab);
}

static void free_results(result *r)
{
    for (int i = 0; i < 3; i++)
        cog_free(r[i].logits);
}

/* Adapter output of a random picture. */
static cog_act *encode(const rig *g, int n_images, int which)
{
    size_t side = (size_t)g->m.vision.image_side;
    uint8_t *rgb[2] = { cog_alloc(3 * side * side, 1), cog_alloc(3 * side * side, 1) };
    const uint8_t *picture[2] = { rgb[0], rgb[1] };
    cog_act *x, *features[2];

    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < 3 * side * side; k++)
            rgb[i][k] = (uint8_t)cog_rng_at(50 + (uint64_t)(n_images == 1 ? which : i), k);
    assert_int_equal(
        cog_cpu_ops.act_new(g->be, &x, n_images * g->m.vision.tokens, g->m.vision.hidden), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(cog_cpu_ops.act_new(g->be, &features[i], g->m.image_tokens, g->m.hidden),
                         0);
    assert_int_equal(cog_cpu_ops.vit_embed(g->be, x, picture, n_images, &g->vit_embed), 0);
    assert_int_equal(cog_cpu_ops.vit_block(g->be, x, n_images, &g->vit), 0);
    assert_int_equal(cog_cpu_ops.vit_project(g->be, features, x, n_images, &g->adapter), 0);
    cog_cpu_ops.act_free(g->be, x);
    cog_cpu_ops.act_free(g->be, features[n_images == 1 ? 1 : 1 - which]);
    cog_free(rgb[0]);
    cog_free(rgb[1]);
    return features[n_images == 1 ? 0 : which];
}

typedef enum way {
    ALONE,    /* each sequence in a step of its own */
    TOGETHER, /* all in one step */
    CHUNKED,  /* in chunks of 23 slots, all sequences side by side */
    TOKENS,   /* one slot per step and sequence: decode */
    WAYS,
} way;

static void compute(const rig *g, way how, const sequence *q, result *out)
{
    int chunk = how == TOKENS ? 1 : how == CHUNKED ? 23 : 1000;
    cog_act *features = encode(g, 1, 0), *x;
    step *s = cog_new(step);

    assert_int_equal(cog_cpu_ops.act_new(g->be, &x, MAX_ROWS, g->m.hidden), 0);
    for (int only = how == ALONE ? 0 : -1; only < (how == ALONE ? 3 : 0); only++) {
        for (int first = 0; first < PICTURE + TEXT; first += chunk) {
            begin_step(s, q, 3, features);
            for (int vision = 0; vision < 2; vision++) {
                for (int i = 0; i < 3; i++) {
                    int last = first + chunk < q[i].slots ? first + chunk : q[i].slots;
                    if (only < 0 || only == i)
                        add_rows(s, q, i, first, last, vision);
                }
            }
            if (s->b.rows > 0)
                run_step(g, s, out, x);
        }
    }
    cog_free(s);
    cog_cpu_ops.act_free(g->be, x);
    cog_cpu_ops.act_free(g->be, features);
}

static void expect_same(const rig *g, const sequence *q, const result *a, const result *b,
                        const char *what)
{
    for (int i = 0; i < 3; i++) {
        for (size_t k = 0; k < (size_t)q[i].slots * (size_t)g->m.vocab; k++) {
            if (!isfinite(a[i].logits[k]) ||
                memcmp(&a[i].logits[k], &b[i].logits[k], sizeof(float)) != 0)
                fail_msg("%s, %s, %s: sequence %d, slot %zu: %.9g and %.9g",
                         cog_cpu_ops.describe(g->be), cog_dtype_name(g->cfg.dtype), what, i,
                         k / (size_t)g->m.vocab, (double)a[i].logits[k], (double)b[i].logits[k]);
        }
    }
}

static void each(void (*fn)(unsigned flags, cog_dtype dtype))
{
    unsigned variant[4];
    int n = rig_variants(variant);

    for (int i = 0; i < n; i++)
        for (cog_dtype dtype = COG_F32; dtype <= COG_BF16; dtype++)
            fn(variant[i], dtype);
}

static void check_ways(unsigned flags, cog_dtype dtype)
{
    static const char *const name[] = { "alone", "together", "chunked", "token by token" };
    sequence q[MAX_SEQS];
    result base[3], other[3];
    rig g;

    rig_open(&g, dtype, 2, flags);
    make_sequences(q, g.cfg.block, false);
    alloc_results(&g, q, base);
    compute(&g, ALONE, q, base);
    for (way w = TOGETHER; w < WAYS; w++) {
        alloc_results(&g, q, other);
        compute(&g, w, q, other);
        expect_same(&g, q, base, other, name[w]);
        free_results(other);
    }
    free_results(base);
    rig_close(&g);
}

static void company_and_chunks_change_nothing(void **state)
{
    each(check_ways);
}

static void check_threads_and_pages(unsigned flags, cog_dtype dtype)
{
    static const struct {
        int threads, block;
        bool reverse;
    } setting[] = { { 1, 16, false }, { 2, 16, true }, { 3, 32, false }, { 2, 128, true } };
    sequence q[MAX_SEQS];
    result base[3], other[3];
    rig g;

    for (int i = 0; i < 4; i++) {
        rig_open_as(&g, dtype, setting[i].threads, flags, setting[i].block, 5);
        make_sequences(q, g.cfg.block, setting[i].reverse);
        alloc_results(&g, q, i == 0 ? base : other);
        compute(&g, TOGETHER, q, i == 0 ? base : other);
        if (i > 0) {
            expect_same(&g, q, base, other, "threads and pages");
            free_results(other);
        }
        rig_close(&g);
    }
    free_results(base);
}

static void threads_and_pages_change_nothing(void **state)
{
    each(check_threads_and_pages);
}

/* Grouped heads: each KV head serves five query heads. */
static void check_grouped_heads(unsigned flags, cog_dtype dtype)
{
    sequence q[MAX_SEQS];
    result base[3], other[3];
    rig g;

    rig_open_as(&g, dtype, 2, flags, 16, 1);
    make_sequences(q, g.cfg.block, false);
    alloc_results(&g, q, base);
    alloc_results(&g, q, other);
    compute(&g, CHUNKED, q, base);
    compute(&g, TOKENS, q, other);
    expect_same(&g, q, base, other, "grouped heads");
    free_results(base);
    free_results(other);
    rig_close(&g);
}

static void grouped_heads_are_invariant_too(void **state)
{
    each(check_grouped_heads);
}

static void check_pictures(unsigned flags, cog_dtype dtype)
{
    rig g;

    rig_open(&g, dtype, 3, flags);
    size_t n = (size_t)g.m.image_tokens * (size_t)g.m.hidden;
    float *alone = cog_array(float, n), *beside = cog_array(float, n);
    for (int which = 0; which < 2; which++) {
        cog_act *a = encode(&g, 1, which), *b = encode(&g, 2, which);
        cog_cpu_ops.act_read(g.be, alone, a, 0, g.m.image_tokens);
        cog_cpu_ops.act_read(g.be, beside, b, 0, g.m.image_tokens);
        assert_memory_equal(alone, beside, n * sizeof(float));
        for (size_t i = 0; i < n; i++)
            assert_true(isfinite(alone[i]));
        cog_cpu_ops.act_free(g.be, a);
        cog_cpu_ops.act_free(g.be, b);
    }
    cog_free(alone);
    cog_free(beside);
    rig_close(&g);
}

static void pictures_do_not_meet(void **state)
{
    each(check_pictures);
}

/* Steps without a row of one expert, and a step without rows. */
static void check_one_sided_steps(unsigned flags, cog_dtype dtype)
{
    sequence q[MAX_SEQS];
    result whole[3], parts[3];
    cog_act *features, *x;
    step *s = cog_new(step);
    rig g;

    rig_open(&g, dtype, 2, flags);
    make_sequences(q, g.cfg.block, false);
    alloc_results(&g, q, whole);
    alloc_results(&g, q, parts);
    compute(&g, TOGETHER, q, whole);
    features = encode(&g, 1, 0);
    assert_int_equal(cog_cpu_ops.act_new(g.be, &x, MAX_ROWS, g.m.hidden), 0);
    /* BOS (language only), the picture (vision only), the rest (language only) */
    static const int cut[] = { 0, 1, PICTURE, PICTURE + TEXT };
    for (int c = 0; c < 3; c++) {
        begin_step(s, q, 3, features);
        for (int vision = 0; vision < 2; vision++)
            for (int i = 0; i < 3; i += 2)
                add_rows(s, q, i, cut[c], cut[c + 1] < q[i].slots ? cut[c + 1] : q[i].slots,
                         vision);
        assert_true(s->b.language_rows == 0 || s->b.language_rows == s->b.rows);
        run_step(&g, s, parts, x);
    }
    begin_step(s, q, 3, features);
    run_step(&g, s, parts, x);
    begin_step(s, q, 3, features);
    add_rows(s, q, 1, 0, q[1].slots, false);
    run_step(&g, s, parts, x);
    expect_same(&g, q, whole, parts, "one-sided steps");
    free_results(whole);
    free_results(parts);
    cog_free(s);
    cog_cpu_ops.act_free(g.be, x);
    cog_cpu_ops.act_free(g.be, features);
    rig_close(&g);
}

static void steps_of_one_expert_are_fine(void **state)
{
    each(check_one_sided_steps);
}

/* A prefix continued on copied pages equals the original, and the copy leaves the source alone. */
static void check_copy(unsigned flags, cog_dtype dtype)
{
    enum { PREFIX = 21, FREE_PAGE = 60 };
    sequence q[MAX_SEQS];
    result whole[3], parts[3];
    cog_act *features, *x;
    step *s = cog_new(step);
    rig g;

    rig_open(&g, dtype, 2, flags);
    make_sequences(q, g.cfg.block, false);
    alloc_results(&g, q, whole);
    alloc_results(&g, q, parts);
    compute(&g, TOGETHER, q, whole);
    features = encode(&g, 1, 0);
    assert_int_equal(cog_cpu_ops.act_new(g.be, &x, MAX_ROWS, g.m.hidden), 0);
    memcpy(parts[1].logits, whole[1].logits, sizeof(float) * PREFIX * (size_t)g.m.vocab);
    /* slots 16 to 20 of sequence 1 are in the second page */
    assert_int_equal(cog_cpu_ops.kv_copy(g.be, FREE_PAGE, q[1].pages[1], PREFIX - 16), 0);
    q[1].pages[1] = FREE_PAGE;
    q[1].pages[2] = FREE_PAGE + 1;
    begin_step(s, q, 3, features);
    add_rows(s, q, 1, PREFIX, q[1].slots, false);
    run_step(&g, s, parts, x);
    memcpy(parts[0].logits, whole[0].logits,
           sizeof(float) * (size_t)q[0].slots * (size_t)g.m.vocab);
    memcpy(parts[2].logits, whole[2].logits,
           sizeof(float) * (size_t)q[2].slots * (size_t)g.m.vocab);
    expect_same(&g, q, whole, parts, "copied page");
    assert_int_equal(cog_cpu_ops.kv_copy(g.be, 0, 64, 1), COG_EINVAL);
    assert_int_equal(cog_cpu_ops.kv_copy(g.be, 0, 1, 17), COG_EINVAL);
    free_results(whole);
    free_results(parts);
    cog_free(s);
    cog_cpu_ops.act_free(g.be, x);
    cog_cpu_ops.act_free(g.be, features);
    rig_close(&g);
}

static void copied_pages_continue_a_sequence(void **state)
{
    each(check_copy);
}

/* A sequence full of NaN next to others changes none of their bits, not even on pages it left. */
static void check_poison(unsigned flags, cog_dtype dtype)
{
    sequence q[MAX_SEQS];
    result whole[3], other[3];
    cog_act *x;
    step *s = cog_new(step);
    rig g;

    rig_open(&g, dtype, 2, flags);
    make_sequences(q, g.cfg.block, false);
    alloc_results(&g, q, whole);
    alloc_results(&g, q, other);
    compute(&g, ALONE, q, whole);
    assert_int_equal(cog_cpu_ops.act_new(g.be, &x, MAX_ROWS, g.m.hidden), 0);
    float *nan = cog_array(float, (size_t)g.m.hidden);
    for (int i = 0; i < g.m.hidden; i++)
        nan[i] = NAN;
    /* every page in use gets NaN keys and values in all slots */
    for (int i = 0; i < 3; i++) {
        begin_step(s, q, 3, NULL);
        q[i].has_picture = false;
        add_rows(s, q, i, 0, (q[i].slots + 15) / 16 * 16, false);
        for (int r = 0; r < s->b.rows; r++)
            cog_cpu_ops.act_write(g.be, x, nan, r, 1);
        assert_int_equal(cog_cpu_ops.step_begin(g.be, &s->b), 0);
        for (int l = 0; l < g.m.layers; l++)
            assert_int_equal(cog_cpu_ops.attention(g.be, x, &g.layer[l], l), 0);
    }
    make_sequences(q, g.cfg.block, false);
    compute(&g, TOKENS, q, other);
    expect_same(&g, q, whole, other, "pages full of NaN");
    free_results(whole);
    free_results(other);
    cog_free(nan);
    cog_free(s);
    cog_cpu_ops.act_free(g.be, x);
    rig_close(&g);
}

static void stale_pages_do_not_leak(void **state)
{
    each(check_poison);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_and_chunks_change_nothing),
        cmocka_unit_test(threads_and_pages_change_nothing),
        cmocka_unit_test(grouped_heads_are_invariant_too),
        cmocka_unit_test(pictures_do_not_meet),
        cmocka_unit_test(steps_of_one_expert_are_fine),
        cmocka_unit_test(copied_pages_continue_a_sequence),
        cmocka_unit_test(stale_pages_do_not_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
