/* cpu_rig.h - a CPU backend with random weights of a small odd-shaped model, for tests of its block
 * operations. The weights stay readable as floats, already rounded to the numeric mode. */
#ifndef COG_TESTS_CPU_RIG_H
#define COG_TESTS_CPU_RIG_H

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/backend.h"
#include "engine/cpu/cpuflags.h"
#include "engine/rope.h"

#include <stdio.h>
#include <string.h>

typedef struct rig_param {
    cog_weight *w;
    float *value; /* [rows, cols] */
    int rows, cols;
} rig_param;

enum { RIG_MAX_PARAMS = 64, RIG_POSITIONS = 512 };

typedef struct rig {
    cog_model_config m;
    cog_device_config cfg;
    cog_backend *be;
    float *cos, *sin; /* [RIG_POSITIONS, head_dim / 2] */
    rig_param param[RIG_MAX_PARAMS];
    int n_params;
    cog_vit_embed vit_embed;
    cog_vit_layer vit;
    cog_adapter adapter;
    cog_weight *table;
    cog_layer layer[2];
    cog_head head;
} rig;

static inline float rig_round(const rig *g, float x)
{
    return g->cfg.dtype == COG_BF16 ? cog_round_bf16(x) : x;
}

/* Uniform in center +- spread, a pure function of (key, i). */
static inline float rig_random(uint64_t key, uint64_t i, float center, float spread)
{
    return center + spread * (float)(2 * cog_rng_unit(cog_rng_at(key, i)) - 1);
}

/* The values behind a weight. */
static inline const rig_param *rig_find(const rig *g, const cog_weight *w)
{
    for (int i = 0; i < g->n_params; i++)
        if (g->param[i].w == w)
            return &g->param[i];
    fail_msg("unknown weight");
    return NULL;
}

static inline const float *rig_values(const rig *g, const cog_weight *w)
{
    return rig_find(g, w)->value;
}

static inline cog_weight *rig_weight(rig *g, cog_weight_use use, int rows, int cols, float center,
                                     float spread)
{
    rig_param *p = &g->param[g->n_params];
    size_t n = (size_t)rows * (size_t)cols;
    cog_tensor t = { .name = "random", .dtype = COG_F32, .n_dims = 2, .dim = { rows, cols } };
    const cog_tensor *part = &t;
    cog_err err = { 0 };

    assert_true(g->n_params < RIG_MAX_PARAMS);
    p->value = cog_array(float, n);
    p->rows = rows;
    p->cols = cols;
    for (size_t i = 0; i < n; i++)
        p->value[i] = rig_round(g, rig_random(1000 + (uint64_t)g->n_params, i, center, spread));
    t.data = p->value;
    t.bytes = n * sizeof(float);
    g->n_params++;
    assert_int_equal(cog_cpu_ops.weight(g->be, &p->w, &part, 1, use, &err), 0);
    return p->w;
}

static inline void rig_vision(rig *g)
{
    const int h = g->m.vision.hidden, inter = g->m.vision.inter, p = g->m.vision.patch;

    g->vit_embed.patch = rig_weight(g, COG_USE_MATRIX, h, 3 * p * p, 0, 0.2f);
    g->vit_embed.patch_bias = rig_weight(g, COG_USE_VECTOR, 1, h, 0, 0.3f);
    g->vit_embed.cls = rig_weight(g, COG_USE_ROWS, 1, h, 0, 1);
    g->vit_embed.position = rig_weight(g, COG_USE_ROWS, g->m.vision.tokens, h, 0, 0.5f);
    g->vit.qkv = rig_weight(g, COG_USE_MATRIX, 3 * h, h, 0, 0.4f);
    g->vit.qkv_bias = rig_weight(g, COG_USE_VECTOR, 1, 3 * h, 0, 0.3f);
    g->vit.dense = rig_weight(g, COG_USE_MATRIX, h, h, 0, 0.3f);
    g->vit.dense_bias = rig_weight(g, COG_USE_VECTOR, 1, h, 0, 0.2f);
    g->vit.norm1 = rig_weight(g, COG_USE_VECTOR, 1, h, 1, 0.3f);
    g->vit.norm1_bias = rig_weight(g, COG_USE_VECTOR, 1, h, 0, 0.3f);
    g->vit.fc1 = rig_weight(g, COG_USE_MATRIX, inter, h, 0, 0.3f);
    g->vit.fc1_bias = rig_weight(g, COG_USE_VECTOR, 1, inter, 0, 0.3f);
    g->vit.fc2 = rig_weight(g, COG_USE_MATRIX, h, inter, 0, 0.3f);
    g->vit.fc2_bias = rig_weight(g, COG_USE_VECTOR, 1, h, 0, 0.2f);
    g->vit.norm2 = rig_weight(g, COG_USE_VECTOR, 1, h, 1, 0.3f);
    g->vit.norm2_bias = rig_weight(g, COG_USE_VECTOR, 1, h, 0, 0.3f);
    g->adapter.proj = rig_weight(g, COG_USE_MATRIX, g->m.hidden, h, 0, 0.3f);
    g->adapter.norm = rig_weight(g, COG_USE_VECTOR, 1, g->m.hidden, 1, 0.3f);
    g->adapter.norm_bias = rig_weight(g, COG_USE_VECTOR, 1, g->m.hidden, 0, 0.3f);
    g->adapter.gate_up = rig_weight(g, COG_USE_MATRIX, 2 * g->m.inter, g->m.hidden, 0, 0.3f);
    g->adapter.down = rig_weight(g, COG_USE_MATRIX, g->m.hidden, g->m.inter, 0, 0.3f);
    g->adapter.boi = rig_weight(g, COG_USE_ROWS, 1, g->m.hidden, 0, 1);
    g->adapter.eoi = rig_weight(g, COG_USE_ROWS, 1, g->m.hidden, 0, 1);
}

static inline void rig_decoder(rig *g)
{
    const int h = g->m.hidden, wide = (g->m.heads + 2 * g->m.kv_heads) * g->m.head_dim;

    g->table = rig_weight(g, COG_USE_ROWS, g->m.vocab, h, 0, 1);
    for (int l = 0; l < g->m.layers; l++) {
        cog_layer *w = &g->layer[l];
        w->norm_in = rig_weight(g, COG_USE_VECTOR, 1, h, 1, 0.5f);
        w->norm_post = rig_weight(g, COG_USE_VECTOR, 1, h, 1, 0.5f);
        for (int e = 0; e < COG_N_EXPERTS; e++) {
            w->expert[e].qkv = rig_weight(g, COG_USE_MATRIX, wide, h, 0, 0.3f);
            if (e == COG_VISION)
                w->expert[e].qkv_bias = rig_weight(g, COG_USE_VECTOR, 1, wide, 0, 0.3f);
            w->expert[e].dense =
                rig_weight(g, COG_USE_MATRIX, h, g->m.heads * g->m.head_dim, 0, 0.3f);
            w->expert[e].gate_up = rig_weight(g, COG_USE_MATRIX, 2 * g->m.inter, h, 0, 0.2f);
            w->expert[e].down = rig_weight(g, COG_USE_MATRIX, h, g->m.inter, 0, 0.2f);
        }
    }
    g->head.norm = rig_weight(g, COG_USE_VECTOR, 1, h, 1, 0.5f);
    g->head.lm_head = rig_weight(g, COG_USE_MATRIX, g->m.vocab, h, 0, 0.3f);
}

/* flags: the instruction sets allowed (cog_cpu_set_mask). */
static inline void rig_open_as(rig *g, cog_dtype dtype, int threads, unsigned flags, int block,
                               int kv_heads)
{
    cog_err err = { 0 };

    memset(g, 0, sizeof(*g));
    g->m = (cog_model_config){
        .vocab = 210,
        .hidden = 90,
        .inter = 77,
        .layers = 2,
        .heads = 5,
        .kv_heads = kv_heads,
        .head_dim = 18,
        .max_positions = 512,
        .rms_eps = 1e-5f,
        .vision = { .hidden = 66,
                    .heads = 2,
                    .head_dim = 33,
                    .layers = 1,
                    .inter = 75,
                    .image_side = 40,
                    .patch = 5,
                    .grid = 8,
                    .tokens = 65,
                    .eps = 1e-6f },
        .patches = 64,
        .image_tokens = 66,
    };
    g->cos = cog_array(float, RIG_POSITIONS *(size_t)(g->m.head_dim / 2));
    g->sin = cog_array(float, RIG_POSITIONS *(size_t)(g->m.head_dim / 2));
    float inv_freq[16];
    for (int i = 0; i < g->m.head_dim / 2; i++)
        inv_freq[i] = rig_random(5, (uint64_t)i, 0.5f, 0.49f);
    cog_rope_tables(g->cos, g->sin, inv_freq, g->m.head_dim / 2, RIG_POSITIONS, dtype);
    g->cfg = (cog_device_config){ .model = &g->m,
                                  .dtype = dtype,
                                  .threads = threads,
                                  .max_rows = 300,
                                  .max_seqs = 300, /* logits of every row of a step */
                                  .max_images = 2,
                                  .block = block,
                                  .n_blocks = 64,
                                  .rope_cos = g->cos,
                                  .rope_sin = g->sin,
                                  .n_positions = RIG_POSITIONS };
    cog_cpu_set_mask(flags);
    assert_int_equal(cog_cpu_ops.open(&g->be, &g->cfg, &err), 0);
    cog_cpu_set_mask(~0u);
    rig_vision(g);
    rig_decoder(g);
}

static inline void rig_open(rig *g, cog_dtype dtype, int threads, unsigned flags)
{
    rig_open_as(g, dtype, threads, flags, 16, 5);
}

static inline void rig_close(rig *g)
{
    for (int i = 0; i < g->n_params; i++) {
        cog_cpu_ops.weight_free(g->be, g->param[i].w);
        cog_free(g->param[i].value);
    }
    cog_cpu_ops.close(g->be);
    cog_free(g->cos);
    cog_free(g->sin);
}

/* Every variant this machine has, as a mask; returns how many. */
static inline int rig_variants(unsigned out[4])
{
    static const unsigned mask[] = { 0, COG_CPU_AVX2, COG_CPU_AVX2 | COG_CPU_AVX512, ~0u };
    static const unsigned need[] = { 0, COG_CPU_AVX2, COG_CPU_AVX512, COG_CPU_AVX512_BF16 };
    int n = 0;

    for (int i = 0; i < 4; i++)
        if ((cog_cpu_flags() & need[i]) == need[i])
            out[n++] = mask[i];
    return n;
}

#endif
