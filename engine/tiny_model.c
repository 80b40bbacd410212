#include "engine/tiny_model.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/rope.h"

#include <math.h>

enum { MAX_PARAMS = 48, GRID = 9, INTER = 192, VOCAB = 320 };

typedef struct param {
    cog_weight **at;
    cog_weight_use use;
    int rows, cols;
    int parts; /* tensors that the rows come from */
    float center, spread;
} param;

typedef struct param_list {
    param param[MAX_PARAMS];
    int n;
} param_list;

/* ------------------------------------------------------------------ the shape */

/* Few heads of the real size, a multiple of group, so that their width is one of 64 if any is. */
static int few_heads(int real, int group, int head_dim)
{
    int first = group < 2 ? 2 : group;

    for (int n = first; n <= real; n += group)
        if (n * head_dim % 64 == 0)
            return n;
    return first < real ? first : real;
}

void cog_tiny_config(cog_model_config *out, const cog_model_config *real)
{
    int group = real->heads / real->kv_heads;
    cog_model_config m = *real;

    m.vocab = VOCAB;
    m.inter = INTER;
    m.layers = 1;
    m.heads = few_heads(real->heads, group, real->head_dim);
    m.kv_heads = m.heads / group;
    m.hidden = m.heads * m.head_dim;
    m.max_positions = COG_TINY_POSITIONS;
    m.vision.heads = few_heads(real->vision.heads, 1, real->vision.head_dim);
    m.vision.hidden = m.vision.heads * m.vision.head_dim;
    m.vision.layers = 1;
    m.vision.inter = INTER;
    m.vision.grid = GRID;
    m.vision.image_side = GRID * m.vision.patch;
    m.vision.tokens = 1 + GRID * GRID;
    m.patches = GRID * GRID;
    m.image_tokens = m.patches + 2;
    *out = m;
}

/* ------------------------------------------------------------------ the parameters */

static void add(param_list *l, cog_weight **at, cog_weight_use use, int rows, int cols, int parts,
                float center, float spread)
{
    l->param[l->n++] = (param){ at, use, rows, cols, parts, center, spread };
}

/* A product keeps the size of what it is given. */
static void matrix(param_list *l, cog_weight **at, int rows, int cols, int parts)
{
    add(l, at, COG_USE_MATRIX, rows, cols, parts, 0, sqrtf(3.0f / (float)cols));
}

static void vector(param_list *l, cog_weight **at, int n, float center)
{
    add(l, at, COG_USE_VECTOR, 1, n, 1, center, 0.3f);
}

static void rows(param_list *l, cog_weight **at, int n, int cols)
{
    add(l, at, COG_USE_ROWS, n, cols, 1, 0, 1);
}

static void list_vision(param_list *l, cog_tiny_model *t, const cog_model_config *m)
{
    int h = m->vision.hidden, inter = m->vision.inter;
    cog_vit_embed *e = &t->model.vit_embed;
    cog_vit_layer *v = &t->vit;
    cog_adapter *a = &t->model.adapter;

    matrix(l, &e->patch, h, 3 * m->vision.patch * m->vision.patch, 1);
    vector(l, &e->patch_bias, h, 0);
    rows(l, &e->cls, 1, h);
    rows(l, &e->position, m->vision.tokens, h);
    matrix(l, &v->qkv, 3 * h, h, 1);
    vector(l, &v->qkv_bias, 3 * h, 0);
    matrix(l, &v->dense, h, h, 1);
    vector(l, &v->dense_bias, h, 0);
    vector(l, &v->norm1, h, 1);
    vector(l, &v->norm1_bias, h, 0);
    matrix(l, &v->fc1, inter, h, 1);
    vector(l, &v->fc1_bias, inter, 0);
    matrix(l, &v->fc2, h, inter, 1);
    vector(l, &v->fc2_bias, h, 0);
    vector(l, &v->norm2, h, 1);
    vector(l, &v->norm2_bias, h, 0);
    matrix(l, &a->proj, m->hidden, h, 1);
    vector(l, &a->norm, m->hidden, 1);
    vector(l, &a->norm_bias, m->hidden, 0);
    matrix(l, &a->gate_up, 2 * m->inter, m->hidden, 2);
    matrix(l, &a->down, m->hidden, m->inter, 1);
    rows(l, &a->boi, 1, m->hidden);
    rows(l, &a->eoi, 1, m->hidden);
}

static void list_decoder(param_list *l, cog_tiny_model *t, const cog_model_config *m)
{
    int wide = (m->heads + 2 * m->kv_heads) * m->head_dim;

    rows(l, &t->model.embed, m->vocab, m->hidden);
    vector(l, &t->layer.norm_in, m->hidden, 1);
    vector(l, &t->layer.norm_post, m->hidden, 1);
    for (int e = 0; e < COG_N_EXPERTS; e++) {
        matrix(l, &t->layer.expert[e].qkv, wide, m->hidden, 1);
        matrix(l, &t->layer.expert[e].dense, m->hidden, m->heads * m->head_dim, 1);
        matrix(l, &t->layer.expert[e].gate_up, 2 * m->inter, m->hidden, 2);
        matrix(l, &t->layer.expert[e].down, m->hidden, m->inter, 1);
    }
    vector(l, &t->model.head.norm, m->hidden, 1);
    matrix(l, &t->model.head.lm_head, m->vocab, m->hidden, 1);
}

static void list_params(param_list *l, cog_tiny_model *t, const cog_model_config *m)
{
    l->n = 0;
    list_vision(l, t, m);
    list_decoder(l, t, m);
}

void cog_tiny_size(uint64_t *weight_bytes, int *n_weights, const cog_model_config *cfg,
                   cog_dtype dtype)
{
    cog_tiny_model t;
    param_list l;

    list_params(&l, &t, cfg);
    *weight_bytes = 0;
    for (int i = 0; i < l.n; i++)
        *weight_bytes += (uint64_t)l.param[i].rows * (uint64_t)l.param[i].cols;
    *weight_bytes *= cog_dtype_size(dtype);
    *n_weights = l.n;
}

/* The tensors are bf16, as published checkpoints are. */
static int make_param(cog_tiny_model *t, const param *p, uint64_t key, cog_err *err)
{
    size_t n = (size_t)p->rows * (size_t)p->cols, per_part = n / (size_t)p->parts;
    uint16_t *value = cog_array(uint16_t, n);
    const cog_tensor *part[2];
    cog_tensor tensor[2];
    int rc;

    for (size_t i = 0; i < n; i++) {
        float unit = (float)cog_rng_unit(cog_rng_at(key, i));
        value[i] = cog_f32_to_bf16(p->center + p->spread * (2 * unit - 1));
    }
    for (int i = 0; i < p->parts; i++) {
        tensor[i] = (cog_tensor){ .name = "self-check",
                                  .dtype = COG_BF16,
                                  .n_dims = 2,
                                  .dim = { p->rows / p->parts, p->cols },
                                  .data = value + (size_t)i * per_part,
                                  .bytes = per_part * sizeof(uint16_t) };
        part[i] = &tensor[i];
    }
    rc = t->model.ops->weight(t->model.be, p->at, part, p->parts, p->use, err);
    cog_free(value);
    return rc;
}

static void make_tables(cog_tiny_model *t, const cog_model_config *m, cog_dtype dtype)
{
    int n_freq = m->head_dim / 2;
    float *inv_freq = cog_array(float, (size_t)n_freq);

    for (int i = 0; i < n_freq; i++)
        inv_freq[i] = cog_round_bf16(powf(10000, -(float)(2 * i) / (float)m->head_dim));
    t->cos = cog_array(float, (size_t)COG_TINY_POSITIONS *(size_t)n_freq);
    t->sin = cog_array(float, (size_t)COG_TINY_POSITIONS *(size_t)n_freq);
    cog_rope_tables(t->cos, t->sin, inv_freq, n_freq, COG_TINY_POSITIONS, dtype);
    cog_free(inv_freq);
}

int cog_tiny_init(cog_tiny_model *t, const cog_backend_ops *ops, const cog_model_config *cfg,
                  cog_device_config *d, cog_err *err)
{
    param_list l;
    int rc;

    make_tables(t, cfg, d->dtype);
    t->model = (cog_model){ .cfg = *cfg, .ops = ops, .vit = &t->vit, .layer = &t->layer };
    d->model = &t->model.cfg;
    d->rope_cos = t->cos;
    d->rope_sin = t->sin;
    d->n_positions = COG_TINY_POSITIONS;
    rc = ops->open(&t->model.be, d, err);
    list_params(&l, t, cfg);
    for (int i = 0; rc == 0 && i < l.n; i++)
        rc = make_param(t, &l.param[i], (uint64_t)i, err);
    return rc;
}

void cog_tiny_fini(cog_tiny_model *t)
{
    param_list l;

    if (t->model.be) {
        list_params(&l, t, &t->model.cfg);
        for (int i = 0; i < l.n; i++)
            t->model.ops->weight_free(t->model.be, *l.param[i].at);
        t->model.ops->close(t->model.be);
    }
    cog_free(t->cos);
    cog_free(t->sin);
    *t = (cog_tiny_model){ 0 };
}
