/* The CUDA backend's table against the CPU's, block by block, on small random models; and against
 * itself: recorded and padded steps, deferred additions, work in flight. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/backend.h"
#include "engine/prompt.h"
#include "engine/rope.h"
#include "engine/sampler.h"
#include "tests/cudaemu/include/cudaemu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CPU,
    CUDA,
    N_SIDES,
    MAX_PARAMS = 80,
    LAYERS = 2,
    BLOCK = 16,
    CONTEXT = 96,
    MAX_BLOCKS = CONTEXT / BLOCK,
    MAX_SEQS = 40,
    PAGES = MAX_SEQS * MAX_BLOCKS + 2,
    MAX_ROWS = 130,
    PICTURES = 2,
    VOCAB = 163,
};

typedef struct shape {
    const char *name;
    int hidden, inter, heads, kv_heads, head_dim;
    int vision_hidden, vision_heads, vision_inter;
} shape;

static const shape shapes[] = {
    { "head_dim 20", 60, 52, 3, 1, 20, 44, 2, 60 },
    { "head_dim 32", 128, 96, 4, 2, 32, 64, 2, 96 },
    { "head_dim 64", 128, 160, 2, 2, 64, 64, 1, 64 },
    { "head_dim 112", 224, 128, 2, 1, 112, 112, 1, 80 },
    { "head_dim 128", 256, 192, 2, 1, 128, 128, 1, 128 },
};

typedef struct params {
    cog_vit_embed embed;
    cog_vit_layer vit;
    cog_adapter adapter;
    cog_weight *table;
    cog_layer layer[LAYERS];
    cog_head head;
} params;

typedef struct side {
    const cog_backend_ops *op;
    cog_backend *be;
    cog_weight *made[MAX_PARAMS];
    int n_made;
    params p;
    cog_act *x, *vit_x, *features[PICTURES];
} side;

typedef struct duo {
    cog_model_config m;
    cog_device_config cfg;
    float *cos, *sin;
    side s[N_SIDES];
    /* the step */
    cog_batch batch, begun[N_SIDES];
    int32_t token[MAX_ROWS], feature[MAX_ROWS], position[MAX_ROWS], slot[MAX_ROWS], seq[MAX_ROWS];
    int32_t table[MAX_SEQS * MAX_BLOCKS], logits_row[MAX_SEQS];
    const cog_act *features[N_SIDES][MAX_SEQS];
    int n_slots[MAX_SEQS]; /* of every sequence, so far */
    int seed;              /* of the tokens */
} duo;

/* ---- two backends with the same weights ---- */

static void weight(duo *d, size_t place, cog_weight_use use, int rows, int cols, float center,
                   float spread)
{
    size_t n = (size_t)rows * (size_t)cols;
    float *value = cog_array(float, n);
    cog_tensor t = { .name = "random", .dtype = COG_F32, .n_dims = 2, .dim = { rows, cols } };
    const cog_tensor *part = &t;

    for (size_t i = 0; i < n; i++)
        value[i] = center + spread * (float)(2 * cog_rng_unit(cog_rng_at(place + 1, i)) - 1);
    t.data = value;
    t.bytes = n * sizeof(float);
    for (int i = 0; i < N_SIDES; i++) {
        side *s = &d->s[i];
        cog_err err = { 0 };
        assert_true(s->n_made < MAX_PARAMS);
        assert_int_equal(s->op->weight(s->be, &s->made[s->n_made], &part, 1, use, &err), 0);
        *(cog_weight **)(void *)((char *)&s->p + place) = s->made[s->n_made++];
    }
    cog_free(value);
}

#define PLACE(field) offsetof(params, field)

static void vision_weights(duo *d)
{
    const cog_model_config *m = &d->m;
    int h = m->vision.hidden, inter = m->vision.inter, p = m->vision.patch;

    weight(d, PLACE(embed.patch), COG_USE_MATRIX, h, 3 * p * p, 0, 0.2f);
    weight(d, PLACE(embed.patch_bias), COG_USE_VECTOR, 1, h, 0, 0.3f);
    weight(d, PLACE(embed.cls), COG_USE_ROWS, 1, h, 0, 1);
    weight(d, PLACE(embed.position), COG_USE_ROWS, m->vision.tokens, h, 0, 0.5f);
    weight(d, PLACE(vit.qkv), COG_USE_MATRIX, 3 * h, h, 0, 0.3f);
    weight(d, PLACE(vit.qkv_bias), COG_USE_VECTOR, 1, 3 * h, 0, 0.3f);
    weight(d, PLACE(vit.dense), COG_USE_MATRIX, h, h, 0, 0.3f);
    weight(d, PLACE(vit.dense_bias), COG_USE_VECTOR, 1, h, 0, 0.2f);
    weight(d, PLACE(vit.norm1), COG_USE_VECTOR, 1, h, 1, 0.3f);
    weight(d, PLACE(vit.norm1_bias), COG_USE_VECTOR, 1, h, 0, 0.3f);
    weight(d, PLACE(vit.fc1), COG_USE_MATRIX, inter, h, 0, 0.3f);
    weight(d, PLACE(vit.fc1_bias), COG_USE_VECTOR, 1, inter, 0, 0.3f);
    weight(d, PLACE(vit.fc2), COG_USE_MATRIX, h, inter, 0, 0.3f);
    weight(d, PLACE(vit.fc2_bias), COG_USE_VECTOR, 1, h, 0, 0.2f);
    weight(d, PLACE(vit.norm2), COG_USE_VECTOR, 1, h, 1, 0.3f);
    weight(d, PLACE(vit.norm2_bias), COG_USE_VECTOR, 1, h, 0, 0.3f);
    weight(d, PLACE(adapter.proj), COG_USE_MATRIX, m->hidden, h, 0, 0.3f);
    weight(d, PLACE(adapter.norm), COG_USE_VECTOR, 1, m->hidden, 1, 0.3f);
    weight(d, PLACE(adapter.norm_bias), COG_USE_VECTOR, 1, m->hidden, 0, 0.3f);
    weight(d, PLACE(adapter.gate_up), COG_USE_MATRIX, 2 * m->inter, m->hidden, 0, 0.2f);
    weight(d, PLACE(adapter.down), COG_USE_MATRIX, m->hidden, m->inter, 0, 0.3f);
    weight(d, PLACE(adapter.boi), COG_USE_ROWS, 1, m->hidden, 0, 1);
    weight(d, PLACE(adapter.eoi), COG_USE_ROWS, 1, m->hidden, 0, 1);
}

static void decoder_weights(duo *d)
{
    const cog_model_config *m = &d->m;
    int h = m->hidden, wide = (m->heads + 2 * m->kv_heads) * m->head_dim;

    weight(d, PLACE(table), COG_USE_ROWS, m->vocab, h, 0, 1);
    for (int l = 0; l < LAYERS; l++) {
        weight(d, PLACE(layer[l].norm_in), COG_USE_VECTOR, 1, h, 1, 0.5f);
        weight(d, PLACE(layer[l].norm_post), COG_USE_VECTOR, 1, h, 1, 0.5f);
        for (int e = 0; e < COG_N_EXPERTS; e++) {
            weight(d, PLACE(layer[l].expert[e].qkv), COG_USE_MATRIX, wide, h, 0, 0.2f);
            if (e == COG_VISION || l == 1)
                weight(d, PLACE(layer[l].expert[e].qkv_bias), COG_USE_VECTOR, 1, wide, 0, 0.3f);
            weight(d, PLACE(layer[l].expert[e].dense), COG_USE_MATRIX, h, m->heads * m->head_dim, 0,
                   0.2f);
            weight(d, PLACE(layer[l].expert[e].gate_up), COG_USE_MATRIX, 2 * m->inter, h, 0, 0.1f);
            weight(d, PLACE(layer[l].expert[e].down), COG_USE_MATRIX, h, m->inter, 0, 0.2f);
        }
    }
    weight(d, PLACE(head.norm), COG_USE_VECTOR, 1, h, 1, 0.5f);
    weight(d, PLACE(head.lm_head), COG_USE_MATRIX, m->vocab, h, 0, 0.3f);
}

static void describe(duo *d, const shape *s, cog_dtype dtype)
{
    d->m = (cog_model_config){
        .vocab = VOCAB,
        .hidden = s->hidden,
        .inter = s->inter,
        .layers = LAYERS,
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .head_dim = s->head_dim,
        .max_positions = CONTEXT,
        .rms_eps = 1e-5f,
        .vision = { .hidden = s->vision_hidden,
                    .heads = s->vision_heads,
                    .head_dim = s->vision_hidden / s->vision_heads,
                    .layers = 1,
                    .inter = s->vision_inter,
                    .image_side = 20,
                    .patch = 5,
                    .grid = 4,
                    .tokens = 17,
                    .eps = 1e-6f },
        .patches = 16,
        .image_tokens = 18,
    };
    d->cfg = (cog_device_config){ .model = &d->m,
                                  .dtype = dtype,
                                  .threads = 1,
                                  .max_rows = MAX_ROWS,
                                  .max_seqs = MAX_SEQS,
                                  .max_images = PICTURES,
                                  .max_features = PICTURES,
                                  .block = BLOCK,
                                  .n_blocks = PAGES,
                                  .n_positions = CONTEXT };
}

static void duo_open(duo *d, const shape *s, cog_dtype dtype, bool invariant)
{
    memset(d, 0, sizeof(*d));
    describe(d, s, dtype);
    int half = d->m.head_dim / 2;
    float inv_freq[128];
    d->cos = cog_array(float, CONTEXT *(size_t)half);
    d->sin = cog_array(float, CONTEXT *(size_t)half);
    for (int i = 0; i < half; i++)
        inv_freq[i] = powf(100, -(float)i / (float)half);
    cog_rope_tables(d->cos, d->sin, inv_freq, half, CONTEXT, dtype);
    d->cfg.rope_cos = d->cos;
    d->cfg.rope_sin = d->sin;
    d->cfg.batch_invariant = invariant;
    d->s[CPU].op = &cog_cpu_ops;
    d->s[CUDA].op = &cog_cuda_ops;
    for (int i = 0; i < N_SIDES; i++) {
        cog_err err = { 0 };
        if (d->s[i].op->open(&d->s[i].be, &d->cfg, &err) < 0)
            fail_msg("%s", err.text);
    }
    vision_weights(d);
    decoder_weights(d);
    for (int i = 0; i < N_SIDES; i++) {
        side *e = &d->s[i];
        assert_int_equal(e->op->act_new(e->be, &e->x, MAX_ROWS, d->m.hidden), 0);
        assert_int_equal(
            e->op->act_new(e->be, &e->vit_x, PICTURES * d->m.vision.tokens, d->m.vision.hidden), 0);
        for (int f = 0; f < PICTURES; f++)
            assert_int_equal(e->op->act_new(e->be, &e->features[f], d->m.image_tokens, d->m.hidden),
                             0);
    }
    /* 7 divides no factor of it. Page 0 begins sequence 0, so that a row that writes where it must
     * not (a padding row's page is none of these) shows. */
    for (int i = 0; i < MAX_SEQS * MAX_BLOCKS; i++)
        d->table[i] = i * 7 % (MAX_SEQS * MAX_BLOCKS);
}

static void duo_close(duo *d)
{
    for (int i = 0; i < N_SIDES; i++) {
        side *s = &d->s[i];
        s->op->act_free(s->be, s->x);
        s->op->act_free(s->be, s->vit_x);
        for (int f = 0; f < PICTURES; f++)
            s->op->act_free(s->be, s->features[f]);
        for (int w = 0; w < s->n_made; w++)
            s->op->weight_free(s->be, s->made[w]);
        s->op->close(s->be);
    }
    cog_free(d->cos);
    cog_free(d->sin);
}

/* ---- comparing ---- */

static double distance(const float *got, const float *want, size_t n)
{
    double diff = 0, norm = 0;

    for (size_t i = 0; i < n; i++) {
        diff += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        norm += (double)want[i] * (double)want[i];
    }
    return norm > 0 ? sqrt(diff / norm) : sqrt(diff);
}

static void near(const duo *d, const char *what, const float *got, const float *want, size_t n)
{
    double far = distance(got, want, n), allowed = d->cfg.dtype == COG_F32 ? 2e-6 : 6e-3;

    if (!(far <= allowed))
        fail_msg("head_dim %d, %s, %s, %d rows: %g from the CPU's", d->m.head_dim,
                 cog_dtype_name(d->cfg.dtype), what, d->batch.rows, far);
}

/* Compares, then gives CUDA the CPU's values, so that each block is judged alone. */
static void compare(duo *d, const char *what, cog_act *cuda, const cog_act *cpu, int rows, int cols)
{
    size_t n = (size_t)rows * (size_t)cols;
    float *got = cog_array(float, n), *want = cog_array(float, n);
    const side *s = d->s;

    assert_int_equal(s[CUDA].op->act_read(s[CUDA].be, got, cuda, 0, rows), 0);
    assert_int_equal(s[CPU].op->act_read(s[CPU].be, want, cpu, 0, rows), 0);
    near(d, what, got, want, n);
    assert_int_equal(s[CUDA].op->act_write(s[CUDA].be, cuda, want, 0, rows), 0);
    assert_int_equal(s[CUDA].op->act_read(s[CUDA].be, got, cuda, 0, rows), 0);
    assert_memory_equal(got, want, n * sizeof(float));
    cog_free(got);
    cog_free(want);
}

/* ---- steps ---- */

static void step_clear(duo *d)
{
    d->batch = (cog_batch){ .token = d->token,
                            .feature = d->feature,
                            .position = d->position,
                            .slot = d->slot,
                            .seq = d->seq,
                            .block_table = d->table,
                            .max_blocks = MAX_BLOCKS,
                            .logits_row = d->logits_row };
}

/* The next n tokens of the sequence that go to this expert; the last row's logits when wanted. */
static void step_add(duo *d, int seq, int n, bool has_image, bool vision)
{
    int it = d->m.image_tokens;

    for (int i = d->n_slots[seq]; i < d->n_slots[seq] + n; i++) {
        int r = d->batch.rows;
        if (cog_prompt_is_vision(i, has_image, it) != vision)
            continue;
        assert_true(r < MAX_ROWS);
        d->token[r] = (int32_t)(cog_rng_at((uint64_t)(d->seed * 1000 + seq), (uint64_t)i) % VOCAB);
        d->feature[r] = cog_prompt_feature(i, has_image, it);
        d->position[r] = cog_prompt_position(i, has_image, it);
        d->slot[r] = i;
        d->seq[r] = seq;
        d->batch.rows++;
    }
}

typedef struct part {
    int seq, n;
    bool has_image, wants_logits;
} part;

/* The parts in one batch, language rows first. Sequences are seqs 0 .. of the table. */
static void step_build(duo *d, const part *p, int n_parts)
{
    step_clear(d);
    for (int i = 0; i < n_parts; i++) {
        step_add(d, p[i].seq, p[i].n, p[i].has_image, false);
        if (p[i].wants_logits)
            d->logits_row[d->batch.n_logits++] = d->batch.rows - 1;
        d->batch.seqs = p[i].seq + 1 > d->batch.seqs ? p[i].seq + 1 : d->batch.seqs;
        for (int s = 0; s < N_SIDES; s++)
            d->features[s][p[i].seq] = p[i].has_image ? d->s[s].features[0] : NULL;
    }
    d->batch.language_rows = d->batch.rows;
    for (int i = 0; i < n_parts; i++)
        step_add(d, p[i].seq, p[i].n, p[i].has_image, true);
}

static void step_done(duo *d, const part *p, int n_parts)
{
    for (int i = 0; i < n_parts; i++)
        d->n_slots[p[i].seq] += p[i].n;
}

static int issue(void *arg)
{
    side *s = arg;
    int rc = s->op->embed(s->be, s->x, s->p.table);

    for (int l = 0; l < LAYERS && rc == 0; l++) {
        rc = s->op->attention(s->be, s->x, &s->p.layer[l], l);
        if (rc == 0)
            rc = s->op->ffn(s->be, s->x, &s->p.layer[l]);
    }
    return rc ? rc : s->op->logits(s->be, s->x, &s->p.head);
}

static void begin(duo *d, int which)
{
    d->begun[which] = d->batch;
    d->begun[which].features = d->features[which];
    assert_int_equal(d->s[which].op->step_begin(d->s[which].be, &d->begun[which]), 0);
}

/* The whole step without looking; its logits. */
static void run_quietly(duo *d, int which, bool replay, float *logits)
{
    side *s = &d->s[which];

    begin(d, which);
    assert_int_equal(replay ? s->op->replay(s->be, issue, s) : issue(s), 0);
    assert_int_equal(s->op->sample(s->be, NULL), 0);
    assert_int_equal(s->op->logits_read(s->be, logits), 0);
}

/* Block by block on both sides; *logits is the CUDA side's, the caller's to free. */
static float *run_blocks(duo *d)
{
    side *c = &d->s[CPU], *g = &d->s[CUDA];
    size_t n = (size_t)d->batch.n_logits * VOCAB;
    float *want = cog_array(float, n + 1), *got = cog_array(float, n + 1);
    int rows = d->batch.rows;

    begin(d, CPU);
    begin(d, CUDA);
    assert_int_equal(c->op->embed(c->be, c->x, c->p.table), 0);
    assert_int_equal(g->op->embed(g->be, g->x, g->p.table), 0);
    compare(d, "embed", g->x, c->x, rows, d->m.hidden);
    for (int l = 0; l < LAYERS; l++) {
        assert_int_equal(c->op->attention(c->be, c->x, &c->p.layer[l], l), 0);
        assert_int_equal(g->op->attention(g->be, g->x, &g->p.layer[l], l), 0);
        compare(d, "attention", g->x, c->x, rows, d->m.hidden);
        assert_int_equal(c->op->ffn(c->be, c->x, &c->p.layer[l]), 0);
        assert_int_equal(g->op->ffn(g->be, g->x, &g->p.layer[l]), 0);
        compare(d, "ffn", g->x, c->x, rows, d->m.hidden);
    }
    assert_int_equal(c->op->logits(c->be, c->x, &c->p.head), 0);
    assert_int_equal(g->op->logits(g->be, g->x, &g->p.head), 0);
    assert_int_equal(c->op->sample(c->be, NULL), 0);
    assert_int_equal(g->op->sample(g->be, NULL), 0);
    assert_int_equal(c->op->logits_read(c->be, want), 0);
    assert_int_equal(g->op->logits_read(g->be, got), 0);
    near(d, "logits", got, want, n);
    cog_free(want);
    return got;
}

/* A step in all ways that must give the same bits. */
static void step(duo *d, const part *p, int n_parts)
{
    size_t n;
    float *first, *again, *last;

    step_build(d, p, n_parts);
    n = (size_t)d->batch.n_logits * VOCAB;
    first = cog_array(float, n + 1);
    again = cog_array(float, n + 1);
    last = run_blocks(d);
    run_quietly(d, CUDA, false, first);
    for (int i = 0; i < 2; i++) { /* recorded, then repeated */
        memset(again, 0xff, n * sizeof(float));
        run_quietly(d, CUDA, true, again);
        assert_memory_equal(first, again, n * sizeof(float));
    }
    run_quietly(d, CPU, false, again); /* the CPU's own keys and values: the last to be written */
    cog_free(first);
    cog_free(again);
    cog_free(last);
    step_done(d, p, n_parts);
}

static void pictures(duo *d)
{
    const int bytes = 3 * 20 * 20;
    uint8_t *pixels = cog_array(uint8_t, (size_t)(PICTURES * bytes));
    const uint8_t *rgb[PICTURES];
    side *c = &d->s[CPU], *g = &d->s[CUDA];
    int rows = PICTURES * d->m.vision.tokens;
    uint64_t busy_ns = 0;
    bool idle = false;

    for (int i = 0; i < PICTURES * bytes; i++)
        pixels[i] = (uint8_t)cog_rng_at(77, (uint64_t)i);
    for (int i = 0; i < PICTURES; i++)
        rgb[i] = pixels + i * bytes;
    for (int i = 0; i < N_SIDES; i++)
        assert_int_equal(
            d->s[i].op->vit_embed(d->s[i].be, d->s[i].vit_x, rgb, PICTURES, &d->s[i].p.embed), 0);
    memset(pixels, 0, (size_t)(PICTURES * bytes)); /* the call has copied them */
    compare(d, "vit_embed", g->vit_x, c->vit_x, rows, d->m.vision.hidden);
    for (int i = 0; i < N_SIDES; i++)
        assert_int_equal(d->s[i].op->vit_block(d->s[i].be, d->s[i].vit_x, PICTURES, &d->s[i].p.vit),
                         0);
    compare(d, "vit_block", g->vit_x, c->vit_x, rows, d->m.vision.hidden);
    for (int i = 0; i < N_SIDES; i++)
        assert_int_equal(d->s[i].op->vit_project(d->s[i].be, d->s[i].features, d->s[i].vit_x,
                                                 PICTURES, &d->s[i].p.adapter),
                         0);
    assert_int_equal(g->op->vision_poll(g->be, true, &idle, &busy_ns), 0);
    assert_true(idle);
    for (int i = 0; i < PICTURES; i++)
        compare(d, "vit_project", g->features[i], c->features[i], d->m.image_tokens, d->m.hidden);
    cog_free(pixels);
}

static void decode(duo *d, int rows)
{
    part p[MAX_SEQS];

    for (int i = 0; i < rows; i++)
        p[i] = (part){ .seq = i, .n = 1, .has_image = i == 0, .wants_logits = true };
    step(d, p, rows);
}

/* Prompts with and without a picture, whole and in pieces, alone and in company, then decoding. */
static void everything(const shape *s, cog_dtype dtype, bool invariant, const int *decode_rows,
                       int n_decode)
{
    duo *d = cog_new(duo);
    part start[MAX_SEQS];

    duo_open(d, s, dtype, invariant);
    pictures(d);
    step(d, (const part[]){ { 0, 9, true, false }, { 1, 7, false, true } }, 2);
    step(d, (const part[]){ { 0, 18, true, true }, { 1, 1, false, true }, { 2, 70, false, true } },
         3);
    step(d, (const part[]){ { 1, 3, false, false } }, 1); /* no logits */
    for (int i = 3; i < MAX_SEQS; i++)
        start[i] = (part){ .seq = i, .n = 1 + i % 4 };
    step(d, start + 3, MAX_SEQS - 3);
    for (int i = 0; i < n_decode; i++)
        decode(d, decode_rows[i]);
    duo_close(d);
    cog_free(d);
}

static const int all_rows[] = { 1, 3, 8, 13, 17, 32, 33, 40 };
static const int few_rows[] = { 2, 33 };

static void f32(void **state)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
        everything(&shapes[i], COG_F32, false, few_rows, 2);
}

static void bf16(void **state)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
        everything(&shapes[i], COG_BF16, false, i == 1 ? all_rows : few_rows, i == 1 ? 8 : 2);
}

/* What is compiled for older devices does not wait for the kernel before it. */
static void older_code(void **state)
{
    cudaemu_set(CUDAEMU_CODE, 80);
    everything(&shapes[1], COG_BF16, false, few_rows, 1);
    cudaemu_set(CUDAEMU_CODE, 0);
}

static void bf16_invariant(void **state)
{
    everything(&shapes[1], COG_BF16, true, few_rows, 2);
}

/* In the invariant mode a row's logits do not depend on its company. */
static void invariance(void **state)
{
    duo *d = cog_new(duo);
    float alone[VOCAB], *all = cog_array(float, (size_t)MAX_SEQS *VOCAB);
    part p[MAX_SEQS];

    duo_open(d, &shapes[1], COG_BF16, true);
    for (int i = 0; i < MAX_SEQS; i++)
        p[i] = (part){ .seq = i, .n = 1 + i % 3, .wants_logits = true };
    for (int i = 0; i < 2; i++) {
        step_build(d, p, MAX_SEQS);
        run_quietly(d, CUDA, true, all);
        for (int j = 1; j < MAX_SEQS; j += 19) {
            step_build(d, p + j, 1);
            run_quietly(d, CUDA, true, alone);
            assert_memory_equal(alone, all + (size_t)j * VOCAB, sizeof(alone));
        }
        step_done(d, p, MAX_SEQS);
        for (int j = 0; j < MAX_SEQS; j++)
            p[j].n = 1;
    }
    duo_close(d);
    cog_free(d);
    cog_free(all);
}

/* A copied page is as good as the original, up to the slots copied. */
static void copy_on_write(void **state)
{
    for (int dtype = COG_F32; dtype <= COG_BF16; dtype++) {
        duo *d = cog_new(duo);
        float first[VOCAB], again[VOCAB];
        const part prompt = { 0, 21, false, false }, next = { 0, 1, false, true };
        const side *g = &d->s[CUDA];

        duo_open(d, &shapes[0], (cog_dtype)dtype, false);
        step_build(d, &prompt, 1);
        run_quietly(d, CUDA, false, first);
        step_done(d, &prompt, 1);
        assert_int_equal(g->op->kv_copy(g->be, PAGES - 1, d->table[1], 5), 0);
        step_build(d, &next, 1);
        run_quietly(d, CUDA, false, first);
        d->table[1] = PAGES - 1;
        step_build(d, &next, 1);
        run_quietly(d, CUDA, false, again);
        assert_memory_equal(first, again, sizeof(first));
        assert_int_equal(g->op->kv_copy(g->be, PAGES, 0, 5), COG_EINVAL);
        assert_int_equal(g->op->kv_copy(g->be, 0, -1, 5), COG_EINVAL);
        assert_int_equal(g->op->kv_copy(g->be, 0, 1, BLOCK + 1), COG_EINVAL);
        duo_close(d);
        cog_free(d);
    }
}

/* Many draws of all kinds give what the sampler gives on the same logits. */
static void draws(void **state)
{
    enum { N = 150 }; /* more than the step's buffer holds */
    duo *d = cog_new(duo);
    float *logits = cog_array(float, 3 * VOCAB);
    cog_sampler *sampler = cog_sampler_new(VOCAB);
    cog_sampling sampling[N];
    cog_draw draw[N];
    cog_logit_bias bias[30];
    int32_t prompt[40], output[30], allowed[VOCAB / 2], masked[5] = { 3, 1, 3, 7, 20 }, got[N];
    const part p[] = { { 0, 4, false, true }, { 1, 2, false, true }, { 2, 1, false, true } };
    side *g = &d->s[CUDA];

    for (int i = 0; i < 40; i++)
        prompt[i] = (int32_t)(cog_rng_at(1, (uint64_t)i) % VOCAB);
    for (int i = 0; i < 30; i++)
        output[i] = (int32_t)(cog_rng_at(2, (uint64_t)i) % VOCAB);
    for (int i = 0; i < 30; i++)
        bias[i] = (cog_logit_bias){ 2 * i + 1, (float)(i % 7) - 3 };
    for (int i = 0; i < VOCAB / 2; i++)
        allowed[i] = 2 * i + i % 2;
    duo_open(d, &shapes[1], COG_BF16, false);
    step_build(d, p, 3);
    for (int i = 0; i < N; i++) {
        sampling[i] = (cog_sampling){ .temperature = i % 3 ? 0.5f + (float)(i % 5) : 0,
                                      .top_p = i % 4 ? 1 : 0.7f,
                                      .top_k = i % 5 ? 0 : 20,
                                      .min_p = i % 7 ? 0 : 0.05f,
                                      .repetition_penalty = i % 2 ? 1 : 1.5f,
                                      .frequency_penalty = i % 6 ? 0 : 0.4f,
                                      .presence_penalty = i % 9 ? 0 : -0.7f,
                                      .bias = bias,
                                      .n_bias = i % 8 < 4 ? 0 : i % 31,
                                      .allowed = allowed,
                                      .n_allowed = i % 10 < 7 ? 0 : VOCAB / 2,
                                      .seed = (uint64_t)i };
        draw[i] = (cog_draw){ .row = i * 3 / N,
                              .params = &sampling[i],
                              .context = { .prompt = prompt,
                                           .n_prompt = i % 41,
                                           .output = output,
                                           .n_output = i % 31,
                                           .masked = masked,
                                           .n_masked = i % 11 < 6 ? 0 : 5,
                                           .choice = i % 3 } };
    }
    begin(d, CUDA);
    assert_int_equal(g->op->replay(g->be, issue, g), 0);
    d->begun[CUDA].n_draws = N; /* known while the device is at work */
    d->begun[CUDA].draw = draw;
    assert_int_equal(g->op->sample(g->be, got), 0);
    assert_int_equal(g->op->logits_read(g->be, logits), 0);
    for (int row = 0; row < 3; row++) {
        float one[VOCAB];
        assert_int_equal(g->op->logits_row(g->be, one, row), 0);
        assert_memory_equal(one, logits + (size_t)row * VOCAB, sizeof(one));
    }
    assert_int_equal(g->op->logits_row(g->be, logits, 3), COG_EINVAL);
    assert_int_equal(g->op->logits_row(g->be, logits, -1), COG_EINVAL);
    for (int i = 0; i < N; i++) {
        int32_t want = -1;
        (void)cog_sampler_pick(sampler, &want, logits + (size_t)draw[i].row * VOCAB, &sampling[i],
                               &draw[i].context);
        assert_int_equal(got[i], want);
    }
    cog_sampler_free(sampler);
    cog_free(logits);
    duo_close(d);
    cog_free(d);
}

/* A pass of pictures is enqueued around steps that read the features made before. */
static void in_flight(void **state)
{
    duo *d = cog_new(duo);
    const int bytes = 3 * 20 * 20;
    uint8_t *pixels = cog_array(uint8_t, (size_t)(2 * bytes));
    float *logits[3];
    const part p = { 0, 21, true, true };
    side *g = &d->s[CUDA];
    uint64_t busy_ns = 0;
    bool idle;

    duo_open(d, &shapes[1], COG_BF16, false);
    for (int i = 0; i < 2 * bytes; i++)
        pixels[i] = (uint8_t)cog_rng_at(78, (uint64_t)i);
    for (int pass = 0; pass < 3; pass++) { /* pictures 0, 1, 0 into the same features */
        const uint8_t *rgb = pixels + (pass % 2) * bytes;
        logits[pass] = cog_array(float, VOCAB);
        assert_int_equal(g->op->vit_embed(g->be, g->vit_x, &rgb, 1, &g->p.embed), 0);
        assert_int_equal(g->op->vit_block(g->be, g->vit_x, 1, &g->p.vit), 0);
        if (pass > 0) { /* a step that reads the old features is not yet waited for */
            step_build(d, &p, 1);
            begin(d, CUDA);
            assert_int_equal(issue(g), 0);
        }
        assert_int_equal(g->op->vit_project(g->be, g->features, g->vit_x, 1, &g->p.adapter), 0);
        if (pass > 0) {
            assert_int_equal(g->op->sample(g->be, NULL), 0);
            assert_int_equal(g->op->logits_read(g->be, logits[pass - 1]), 0);
        }
        assert_int_equal(g->op->vision_poll(g->be, pass == 1, &idle, &busy_ns), 0);
        assert_true(idle || pass != 1);
    }
    step_build(d, &p, 1);
    run_quietly(d, CUDA, true, logits[2]); /* waits for the features by itself */
    assert_memory_equal(logits[0], logits[2], VOCAB * sizeof(float));
    assert_memory_not_equal(logits[0], logits[1], VOCAB * sizeof(float));
    assert_int_equal(g->op->vision_poll(g->be, true, &idle, &busy_ns), 0);
    assert_true(idle);
    assert_int_equal(g->op->vision_poll(g->be, false, &idle, &busy_ns), 0);
    assert_true(idle);
    assert_true(busy_ns == 0);
    for (int i = 0; i < 3; i++)
        cog_free(logits[i]);
    cog_free(pixels);
    duo_close(d);
    cog_free(d);
}

static void refused_steps(void **state)
{
    duo *d = cog_new(duo);
    const part p[] = { { 0, 4, false, true }, { 1, 2, false, true } };
    side *g = &d->s[CUDA];
    int32_t *const value[] = { d->token, d->position, d->slot, d->seq, d->logits_row, d->table };
    const int32_t bad[] = { VOCAB, CONTEXT, CONTEXT, 2, 6, PAGES };
    float logits[2 * VOCAB];

    duo_open(d, &shapes[1], COG_BF16, false);
    for (int i = 0; i < 6; i++) {
        for (int sign = 0; sign < 2; sign++) {
            int32_t good;
            step_build(d, p, 2);
            good = value[i][1];
            if (value[i] == d->table) { /* the page of sequence 1 */
                good = d->table[MAX_BLOCKS];
                d->table[MAX_BLOCKS] = sign ? -1 : bad[i];
            } else {
                value[i][1] = sign ? -1 : bad[i];
            }
            d->batch.features = d->features[CUDA];
            assert_int_equal(g->op->step_begin(g->be, &d->batch), COG_EINVAL);
            if (value[i] == d->table)
                d->table[MAX_BLOCKS] = good;
            else
                value[i][1] = good;
        }
    }
    for (int i = 0; i < 6; i++) {
        int32_t token = i % 2 ? -1 : VOCAB, drawn;
        cog_logit_bias bias = { token, 1 };
        cog_sampling sampling = { .top_p = 1, .repetition_penalty = 1 };
        cog_draw draw = { .params = &sampling };

        if (i / 2 == 0) {
            sampling.bias = &bias;
            sampling.n_bias = 1;
        } else if (i / 2 == 1) {
            sampling.allowed = &token;
            sampling.n_allowed = 1;
        } else {
            draw.context.masked = &token;
            draw.context.n_masked = 1;
        }
        step_build(d, p, 2);
        d->batch.draw = &draw;
        d->batch.n_draws = 1;
        assert_int_equal(g->op->step_begin(g->be, &d->batch), 0);
        assert_int_equal(g->op->sample(g->be, &drawn), COG_EINVAL);
    }
    step_build(d, p, 2);
    d->feature[0] = 0; /* of a sequence that has none */
    assert_int_equal(g->op->step_begin(g->be, &d->batch), COG_EINVAL);
    step_build(d, p, 2); /* and nothing has gone wrong for good */
    run_quietly(d, CUDA, true, logits);
    duo_close(d);
    cog_free(d);
}

static void refused_configurations(void **state)
{
    duo *d = cog_new(duo);
    cog_backend *be = NULL;
    cog_memory_plan plan;
    cog_err err = { 0 };

    describe(d, &shapes[0], COG_F16);
    assert_int_equal(cog_cuda_ops.memory(&plan, &d->cfg, &err), COG_EINVAL);
    describe(d, &shapes[0], COG_F32);
    assert_int_equal(cog_cuda_ops.memory(&plan, &d->cfg, &err), 0);
    assert_true(plan.total > 0 && plan.activations > 0 && plan.workspace > 0 && plan.page > 0);
    assert_true(plan.page >= cog_kv_block_bytes(&d->m, COG_F32, BLOCK));
    d->cfg.n_blocks = 0;
    assert_int_equal(cog_cuda_ops.open(&be, &d->cfg, &err), COG_EINVAL);
    d->cfg.n_blocks = 100000000;
    d->cfg.rope_cos = d->cfg.rope_sin = (const float[CONTEXT * 10]){ 0 };
    assert_int_equal(cog_cuda_ops.open(&be, &d->cfg, &err), COG_ENOMEM);
    assert_non_null(strstr(err.text, "MiB"));
    d->cfg.block = 24;
    assert_int_equal(cog_cuda_ops.memory(&plan, &d->cfg, &err), COG_EINVAL);
    d->cfg.block = BLOCK;
    d->m.head_dim = 258;
    assert_int_equal(cog_cuda_ops.memory(&plan, &d->cfg, &err), COG_ELIMIT);
    d->m.head_dim = 16;
    cudaemu_set(CUDAEMU_CAPABILITY, 75);
    assert_int_equal(cog_cuda_ops.memory(&plan, &d->cfg, &err), COG_EDEVICE);
    cudaemu_set(CUDAEMU_CAPABILITY, 90);
    assert_null(be);
    cog_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32),           cmocka_unit_test(bf16),
        cmocka_unit_test(older_code),    cmocka_unit_test(bf16_invariant),
        cmocka_unit_test(invariance),    cmocka_unit_test(copy_on_write),
        cmocka_unit_test(draws),         cmocka_unit_test(in_flight),
        cmocka_unit_test(refused_steps), cmocka_unit_test(refused_configurations),
    };

    return cmocka_run_group_tests_name("cuda_backend", tests, NULL, NULL);
}
