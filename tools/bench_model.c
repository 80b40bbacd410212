#include "tools/bench_model.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <math.h>
#include <string.h>

#define TOWER                                                                                    \
    {                                                                                            \
        .hidden = 1792, .heads = 16, .head_dim = 112, .layers = 63, .inter = 15360, .patch = 14, \
        .eps = 1e-6f                                                                             \
    }

static const bench_shape shapes[] = {
    { .name = "v1",
      .cfg = { .vocab = 32000,
               .hidden = 4096,
               .inter = 11008,
               .layers = 32,
               .heads = 32,
               .kv_heads = 32,
               .max_positions = 4096,
               .rope_theta = 1e4,
               .vision = TOWER,
               .patches = 1225 },
      .has_adapter = true,
      .text = 32,
      .context = 1355,
      .prefill = { 128, 512, 2048 },
      .max_images = 8,
      .max_batch = 128,
      .max_rows = 4 * 1227 + 32,
      .block = 32 },
    { .name = "v2",
      .cfg = { .vocab = 128256,
               .hidden = 4096,
               .inter = 14336,
               .layers = 32,
               .heads = 32,
               .kv_heads = 8,
               .max_positions = 4096,
               .rope_theta = 5e5,
               .vision = TOWER,
               .patches = 2304 },
      .has_qkv_bias = true,
      .text = 32,
      .context = 2434,
      .prefill = { 128, 512, 2048 },
      .max_images = 2,
      .max_batch = 128,
      .max_rows = 4 * 2306 + 32,
      .block = 32 },
    { .name = "tiny",
      .cfg = { .vocab = 259,
               .hidden = 64,
               .inter = 96,
               .layers = 2,
               .heads = 4,
               .kv_heads = 2,
               .max_positions = 128,
               .rope_theta = 1e4,
               .vision = { .hidden = 48,
                           .heads = 3,
                           .head_dim = 16,
                           .layers = 2,
                           .inter = 80,
                           .patch = 7,
                           .eps = 1e-6f },
               .patches = 16 },
      .has_adapter = true,
      .has_qkv_bias = true,
      .text = 5,
      .context = 27,
      .prefill = { 3, 16, 40 },
      .max_images = 2,
      .max_batch = 4,
      .max_rows = 64,
      .block = 16 },
};

enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

const bench_shape *bench_shape_find(const char *name)
{
    static bench_shape found[N_SHAPES];

    for (int i = 0; i < N_SHAPES; i++) {
        cog_model_config *m = &found[i].cfg;
        if (strcmp(name, shapes[i].name) != 0)
            continue;
        found[i] = shapes[i];
        m->head_dim = m->hidden / m->heads;
        m->rms_eps = 1e-5f;
        m->bos = 1;
        /* the second version halves the grid on the way to the decoder */
        m->vision.grid = (int)lround(sqrt(m->patches)) * (found[i].has_adapter ? 1 : 2);
        m->vision.tokens = m->vision.grid * m->vision.grid + 1;
        m->vision.image_side = m->vision.grid * m->vision.patch;
        m->image_tokens = m->patches + 2;
        return &found[i];
    }
    return NULL;
}

const char *bench_shape_names(void)
{
    return "v1, v2, tiny";
}

/* ---- weights ---- */

typedef struct maker {
    const cog_backend_ops *ops;
    cog_backend *be;
    enum bench_part part;
    int layer, kind; /* of the next parameter */
    int rc;
    cog_err *err;
} maker;

static void make(maker *k, cog_weight **out, cog_weight_use use, int rows, int cols, float center,
                 float spread)
{
    uint64_t key = bench_key(k->part, k->layer, k->kind++);

    if (k->rc == 0)
        k->rc = k->ops->weight_random(k->be, out, rows, cols, use, key, center, spread, k->err);
}

/* Products of inputs of unit variance have the variance gain^2. */
static void matrix(maker *k, cog_weight **out, int rows, int cols, double gain)
{
    make(k, out, COG_USE_MATRIX, rows, cols, 0, (float)(gain * sqrt(3.0 / cols)));
}

static void vector(maker *k, cog_weight **out, int n, float center)
{
    make(k, out, COG_USE_VECTOR, 1, n, center, 0.125f);
}

static void rows_of(maker *k, cog_weight **out, int n, int cols)
{
    make(k, out, COG_USE_ROWS, n, cols, 0, 1);
}

/* The tower's residual stream grows with depth and its products read it unnormalised: a small gain
 * keeps attention from picking a single token. */
static const double tower_qkv_gain = 0.125;

static void make_tower(maker *k, cog_model *m)
{
    const cog_model_config *c = &m->cfg;
    int hidden = c->vision.hidden, inter = c->vision.inter;

    k->part = BENCH_TOWER;
    matrix(k, &m->vit_embed.patch, hidden, 3 * c->vision.patch * c->vision.patch, 1);
    vector(k, &m->vit_embed.patch_bias, hidden, 0);
    rows_of(k, &m->vit_embed.cls, 1, hidden);
    rows_of(k, &m->vit_embed.position, c->vision.tokens, hidden);
    for (int l = 0; l < c->vision.layers; l++) {
        cog_vit_layer *w = &m->vit[l];
        k->layer = l + 1;
        k->kind = 0;
        matrix(k, &w->qkv, 3 * hidden, hidden, tower_qkv_gain);
        vector(k, &w->qkv_bias, 3 * hidden, 0);
        matrix(k, &w->dense, hidden, hidden, 1);
        vector(k, &w->dense_bias, hidden, 0);
        vector(k, &w->norm1, hidden, 1);
        vector(k, &w->norm1_bias, hidden, 0);
        matrix(k, &w->fc1, inter, hidden, tower_qkv_gain);
        vector(k, &w->fc1_bias, inter, 0);
        matrix(k, &w->fc2, hidden, inter, 1);
        vector(k, &w->fc2_bias, hidden, 0);
        vector(k, &w->norm2, hidden, 1);
        vector(k, &w->norm2_bias, hidden, 0);
    }
}

static void make_adapter(maker *k, cog_model *m)
{
    const cog_model_config *c = &m->cfg;

    k->part = BENCH_ADAPTER;
    k->layer = k->kind = 0;
    matrix(k, &m->adapter.proj, c->hidden, c->vision.hidden, tower_qkv_gain);
    vector(k, &m->adapter.norm, c->hidden, 1);
    vector(k, &m->adapter.norm_bias, c->hidden, 0);
    matrix(k, &m->adapter.gate_up, 2 * c->inter, c->hidden, 1);
    matrix(k, &m->adapter.down, c->hidden, c->inter, 1);
    rows_of(k, &m->adapter.boi, 1, c->hidden);
    rows_of(k, &m->adapter.eoi, 1, c->hidden);
}

static void make_decoder(maker *k, cog_model *m, bool has_qkv_bias)
{
    const cog_model_config *c = &m->cfg;
    int mixed = c->heads * c->head_dim, qkv = mixed + 2 * c->kv_heads * c->head_dim;

    k->part = BENCH_DECODER;
    k->layer = k->kind = 0;
    rows_of(k, &m->embed, c->vocab, c->hidden);
    vector(k, &m->head.norm, c->hidden, 1);
    matrix(k, &m->head.lm_head, c->vocab, c->hidden, 1);
    for (int l = 0; l < c->layers; l++) {
        cog_layer *w = &m->layer[l];
        k->layer = l + 1;
        k->kind = 0;
        vector(k, &w->norm_in, c->hidden, 1);
        vector(k, &w->norm_post, c->hidden, 1);
        for (int e = 0; e < COG_N_EXPERTS; e++) {
            matrix(k, &w->expert[e].qkv, qkv, c->hidden, 1);
            if (e == COG_VISION && has_qkv_bias)
                vector(k, &w->expert[e].qkv_bias, qkv, 0);
            matrix(k, &w->expert[e].dense, c->hidden, mixed, 1);
            matrix(k, &w->expert[e].gate_up, 2 * c->inter, c->hidden, 1);
            matrix(k, &w->expert[e].down, c->hidden, c->inter, 1);
        }
    }
}

int bench_model_new(cog_model **out, const bench_shape *shape, const cog_backend_ops *ops,
                    cog_backend *be, cog_err *err)
{
    cog_model *m = cog_new(cog_model);
    maker k = { .ops = ops, .be = be, .err = err };

    m->cfg = shape->cfg;
    m->ops = ops;
    m->be = be;
    m->vit = cog_array(cog_vit_layer, (size_t)m->cfg.vision.layers);
    m->layer = cog_array(cog_layer, (size_t)m->cfg.layers);
    make_tower(&k, m);
    if (shape->has_adapter)
        make_adapter(&k, m);
    make_decoder(&k, m, shape->has_qkv_bias);
    if (k.rc < 0) {
        bench_model_free(m);
        return k.rc;
    }
    *out = m;
    return 0;
}

/* The blocks' structs hold nothing but pointers to weights. */
static void free_all(cog_model *m, void *block, size_t bytes)
{
    cog_weight **w = block;

    for (size_t i = 0; i < bytes / sizeof(*w); i++)
        m->ops->weight_free(m->be, w[i]);
}

void bench_model_free(cog_model *m)
{
    if (!m)
        return;
    free_all(m, &m->vit_embed, sizeof(m->vit_embed));
    free_all(m, m->vit, sizeof(*m->vit) * (size_t)m->cfg.vision.layers);
    free_all(m, &m->adapter, sizeof(m->adapter));
    free_all(m, &m->embed, sizeof(m->embed));
    free_all(m, m->layer, sizeof(*m->layer) * (size_t)m->cfg.layers);
    free_all(m, &m->head, sizeof(m->head));
    cog_free(m->vit);
    cog_free(m->layer);
    cog_free(m);
}

/* ---- inputs ---- */

void bench_picture(uint8_t *rgb, const cog_model_config *m, int i)
{
    size_t n = (size_t)m->vision.image_side * (size_t)m->vision.image_side * 3;
    uint64_t key = bench_key(BENCH_DATA, i, BENCH_PICTURE);

    for (size_t at = 0; at < n; at++)
        rgb[at] = (uint8_t)(cog_rng_at(key, at) >> 56);
}

void bench_features(float *dst, const cog_model_config *m)
{
    size_t n = (size_t)m->image_tokens * (size_t)m->hidden;
    uint64_t key = bench_key(BENCH_DATA, 0, BENCH_FEATURES);

    /* multiples of 2^-7 within +-1: the same in every type */
    for (size_t at = 0; at < n; at++)
        dst[at] = (float)((int)(cog_rng_at(key, at) >> 56) - 128) / 128.0f;
}

int32_t bench_token(const cog_model_config *m, int i)
{
    uint64_t bits = cog_rng_at(bench_key(BENCH_DATA, 0, BENCH_TOKENS), (uint64_t)i);

    return 3 + (int32_t)((bits >> 32) % (uint64_t)(m->vocab - 3));
}
