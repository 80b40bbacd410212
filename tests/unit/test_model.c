#include "tests/unit/unit.h"

#include "engine/model.h"
#include "tests/unit/folder.h"
#include "tests/unit/tiny_checkpoint.h"

/* ------------------------------------------------------------------ a device that only remembers
 */

struct cog_weight {
    cog_weight_use use;
    int n_parts;
    char name[2][96];
    int64_t rows[2];
    uint16_t first[2]; /* bits of each part's first element */
};

struct cog_backend {
    int live;    /* weights not freed */
    int fail_at; /* countdown to a refusal; -1: never */
};

static int fake_weight(cog_backend *be, cog_weight **out, const cog_tensor *const *parts,
                       int n_parts, cog_weight_use use, cog_err *err)
{
    cog_weight *w;

    if (be->fail_at >= 0 && be->fail_at-- == 0)
        return cog_err_set(err, COG_ENOMEM, "device memory is exhausted");
    w = cog_new(cog_weight);
    w->use = use;
    w->n_parts = n_parts;
    for (int i = 0; i < n_parts; i++) {
        snprintf(w->name[i], sizeof(w->name[i]), "%s", parts[i]->name);
        w->rows[i] = parts[i]->dim[0];
        memcpy(&w->first[i], parts[i]->data, sizeof(w->first[i]));
    }
    be->live++;
    *out = w;
    return 0;
}

static void fake_weight_free(cog_backend *be, cog_weight *w)
{
    be->live -= w != NULL;
    cog_free(w);
}

static const cog_backend_ops fake_ops = { .name = "fake",
                                          .weight = fake_weight,
                                          .weight_free = fake_weight_free };

/* ------------------------------------------------------------------ helpers */

struct opened {
    cog_model_config cfg;
    cog_safetensors *file;
};

static struct opened open_dir(const char *dir)
{
    struct opened o;
    cog_err err = { 0 };

    if (cog_model_config_load(&o.cfg, dir, &err) < 0 ||
        cog_safetensors_open(&o.file, dir, &err) < 0)
        fail_msg("%s", err.text);
    return o;
}

static void expect_verdict(const struct tiny *c, const char *dir, int code, const char *text)
{
    struct opened o;
    cog_err err = { 0 };
    int rc;

    tiny_write(c, dir);
    o = open_dir(dir);
    rc = cog_model_check(&o.cfg, o.file, &err);
    if (text)
        assert_string_equal(err.text, text);
    assert_int_equal(rc, code);
    cog_safetensors_close(o.file);
}

#define QKV1 "model.layers.1.self_attn.vision_expert_query_key_value.weight"

/* ------------------------------------------------------------------ check */

static void accepts_what_it_should(void **state)
{
    struct tiny c;

    tiny_init(&c);
    assert_int_equal(c.n, 13 * TINY_LAYERS + 12 * TINY_V_LAYERS + 12 + 3); /* 1187 at full size */
    expect_verdict(&c, *state, 0, NULL);
    for (int i = 0; i < c.n; i++) /* types may be mixed */
        c.tensor[i].dtype = (cog_dtype)(i % 3);
    expect_verdict(&c, *state, 0, NULL);
    tiny_remove(&c, "model.layers.0.self_attn.rotary_emb.inv_freq");
    tiny_remove(&c, "model.layers.1.self_attn.rotary_emb.inv_freq");
    expect_verdict(&c, *state, 0, NULL);
}

static void each_missing_tensor_is_named(void **state)
{
    struct tiny whole, c;

    tiny_init(&whole);
    for (int i = 0; i < whole.n; i++) {
        struct opened o;
        cog_err err = { 0 };
        char expected[160];
        c = whole;
        tiny_remove(&c, whole.tensor[i].name);
        tiny_write(&c, *state);
        o = open_dir(*state);
        assert_int_equal(cog_model_check(&o.cfg, o.file, &err), COG_EFORMAT);
        snprintf(expected, sizeof(expected), "tensor '%s' [", whole.tensor[i].name);
        assert_mentions(err.text, expected);
        assert_mentions(err.text, "] is missing");
        assert_null(strstr(err.text, "more"));
        cog_safetensors_close(o.file);
    }
}

static void each_wrong_shape_is_named(void **state)
{
    struct tiny whole, c;

    tiny_init(&whole);
    for (int i = 0; i < whole.n; i++) {
        struct opened o;
        cog_err err = { 0 };
        char expected[160];
        c = whole;
        c.tensor[i].dim[c.tensor[i].n_dims - 1] += 1;
        tiny_write(&c, *state);
        o = open_dir(*state);
        assert_int_equal(cog_model_check(&o.cfg, o.file, &err), COG_EFORMAT);
        snprintf(expected, sizeof(expected), "tensor '%s' is [", whole.tensor[i].name);
        assert_mentions(err.text, expected);
        cog_safetensors_close(o.file);
    }
}

static void messages_name_both_shapes_and_count(void **state)
{
    struct tiny c;

    tiny_init(&c);
    tiny_find(&c, QKV1)->dim[0] = 12;
    expect_verdict(&c, *state, COG_EFORMAT, "tensor '" QKV1 "' is [12, 8], expected [24, 8]");
    tiny_remove(&c, "model.norm.weight");
    tiny_add(&c, "model.surplus", 2, 0, 0, 0);
    expect_verdict(&c, *state, COG_EFORMAT,
                   "tensor '" QKV1 "' is [12, 8], expected [24, 8] (and 2 more: 1 misshapen, 1 "
                   "missing, 1 surplus in all)");
    tiny_init(&c);
    c.tensor[0].n_dims = 1; /* the same extents, fewer of them */
    expect_verdict(&c, *state, COG_EFORMAT,
                   "tensor 'model.embed_tokens.weight' is [300], expected [300, 8]");
    tiny_init(&c);
    tiny_remove(&c, "model.norm.weight");
    tiny_add(&c, "model.norm.weight", 8, 3, 0, 0); /* and more of them */
    expect_verdict(&c, *state, COG_EFORMAT, "tensor 'model.norm.weight' is [8, 3], expected [8]");
    tiny_init(&c);
    tiny_add(&c, "model.layers.2.input_layernorm.weight", 8, 0, 0, 0);
    expect_verdict(&c, *state, COG_EFORMAT,
                   "tensor 'model.layers.2.input_layernorm.weight' [8] is not one of this model's "
                   "(see the layer counts in config.json)");
    tiny_init(&c);
    tiny_remove(&c, "model.layers.0.self_attn.rotary_emb.inv_freq");
    expect_verdict(&c, *state, COG_EFORMAT,
                   "tensor 'model.layers.0.self_attn.rotary_emb.inv_freq' [2] is missing");
}

static void relatives_are_refused_by_name(void **state)
{
    static const struct {
        const char *name, *part;
    } row[] = {
        { "model.layers.0.self_attn.cross_attn.query.weight", "CogAgent" },
        { "model.vision.conv.weight", "CogVLM2's vision tower" },
        { "model.layers.0.self_attn.vision_expert_query_key_value.bias", "CogVLM2" },
        { "model.layers.0.self_attn.vision_expert_query.weight", "separate query, key and value" },
        { "model.layers.0.self_attn.language_expert_key.weight", "separate query" },
        { "model.layers.0.self_attn.language_expert_value.weight", "separate query" },
        { "model.layers.0.mlp.language_mlp.up_proj.weight.absmax", "bitsandbytes" },
        { "model.layers.0.mlp.language_mlp.up_proj.weight.quant_state.bitsandbytes__nf4",
          "bitsandbytes" },
        { "model.layers.0.mlp.language_mlp.up_proj.SCB", "bitsandbytes" },
        { "model.layers.0.mlp.language_mlp.up_proj.qweight", "GPTQ or AWQ" },
        { "model.layers.0.mlp.language_mlp.up_proj.scales", "GPTQ or AWQ" },
        { "model.layers.0.mlp.language_mlp.up_proj.lora_A.weight", "LoRA" },
    };

    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct tiny c;
        struct opened o;
        cog_err err = { 0 };
        tiny_init(&c);
        tiny_find(&c, QKV1)->dim[0] = 12; /* the foreign tensor explains more */
        tiny_add(&c, row[i].name, 4, 0, 0, 0);
        tiny_write(&c, *state);
        o = open_dir(*state);
        assert_int_equal(cog_model_check(&o.cfg, o.file, &err), COG_EUNSUPPORTED);
        assert_mentions(err.text, row[i].name);
        assert_mentions(err.text, row[i].part);
        cog_safetensors_close(o.file);
    }
}

static void a_model_without_vision_experts_is_none(void **state)
{
    struct tiny c;

    tiny_init(&c);
    for (int i = c.n - 1; i >= 0; i--)
        if (strstr(c.tensor[i].name, "vision_expert") || strstr(c.tensor[i].name, "vision_mlp"))
            tiny_remove(&c, c.tensor[i].name);
    expect_verdict(
        &c, *state, COG_EUNSUPPORTED,
        "the file has no vision experts: not a CogVLM (a CogVLM2 video or caption model?)");
}

/* ------------------------------------------------------------------ the published sizes */

struct totals {
    int n;
    int64_t elements[COG_N_PARTS];
};

static void add_up(void *arg, const cog_tensor_item *item)
{
    struct totals *t = arg;
    int64_t n = 1;

    if (item->fault != COG_TENSOR_MISSING)
        return;
    for (int i = 0; i < item->n_dims; i++)
        n *= item->expected[i];
    t->n++;
    t->elements[item->part] += n;
}

static void the_published_model_has_its_parameters(void **state)
{
    static const char config[] =
        "{\"architectures\":[\"CogVLMForCausalLM\"],\"hidden_size\":4096,"
        "\"intermediate_size\":11008,\"max_position_embeddings\":2048,\"num_attention_heads\":32,"
        "\"num_hidden_layers\":32,\"rms_norm_eps\":1e-05,\"vision_config\":{\"hidden_size\":1792,"
        "\"image_size\":490,\"intermediate_size\":15360,\"layer_norm_eps\":1e-06,\"num_heads\":16,"
        "\"num_hidden_layers\":63,\"num_positions\":1226,\"patch_size\":14},\"vocab_size\":32000}";
    struct totals t = { 0 };
    struct tiny c = { 0 };
    struct opened o;

    tiny_add(&c, "nothing.of.it", 1, 0, 0, 0);
    tiny_write(&c, *state);
    folder_puts(*state, "config.json", config);
    o = open_dir(*state);
    cog_model_visit(&o.cfg, o.file, add_up, &t);
    cog_safetensors_close(o.file);
    assert_int_equal(t.n, 1187 - 32); /* without the buffers */
    assert_int_equal(t.elements[COG_PART_EMBEDDING], 2 * 131072000);
    assert_int_equal(t.elements[COG_PART_NORM], 266240);
    assert_true(t.elements[COG_PART_LANGUAGE] == 6476005376);
    assert_true(t.elements[COG_PART_VISION] == 6476005376);
    assert_true(t.elements[COG_PART_TOWER] == 4282641664);
    assert_true(t.elements[COG_PART_ADAPTER] == 142614528 + 8192);
}

/* ------------------------------------------------------------------ rotary frequencies */

/* The buffer in the file is what the model was trained with; a formula is not. */
static void trap_stored_inv_freq_is_used(void **state)
{
    struct tiny c;
    struct opened o;
    float freq[TINY_FREQ];
    cog_err err = { 0 };

    tiny_init(&c);
    tiny_write(&c, *state);
    o = open_dir(*state);
    assert_int_equal(cog_model_inv_freq(freq, &o.cfg, o.file, &err), 0);
    for (int i = 0; i < TINY_FREQ; i++)
        assert_true(freq[i] == cog_bf16_to_f32(tiny_bits(1000, (size_t)i)));
    assert_true(freq[0] != 1.0f); /* the formula's first value */
    cog_safetensors_close(o.file);
}

static void unlike_or_broken_inv_freq_is_refused(void **state)
{
    struct tiny c;
    struct opened o;
    float freq[TINY_FREQ];
    cog_err err = { 0 };

    tiny_init(&c);
    tiny_find(&c, "model.layers.1.self_attn.rotary_emb.inv_freq")->seed = 1001;
    tiny_write(&c, *state);
    o = open_dir(*state);
    assert_int_equal(cog_model_inv_freq(freq, &o.cfg, o.file, &err), COG_EFORMAT);
    assert_mentions(err.text, "layers.1.self_attn.rotary_emb.inv_freq' differs");
    cog_safetensors_close(o.file);

    tiny_init(&c);
    tiny_find(&c, "model.layers.0.self_attn.rotary_emb.inv_freq")->dim[0] = 4;
    tiny_write(&c, *state);
    o = open_dir(*state);
    assert_int_equal(cog_model_inv_freq(freq, &o.cfg, o.file, &err), COG_EFORMAT);
    assert_mentions(err.text, "is [4], expected [2]");
    cog_safetensors_close(o.file);
}

/* A file without the buffers: the formula in f32, rounded to the file's type. Published values for
 * theta 10000, head_dim 128. */
static void missing_inv_freq_is_made_as_the_reference_makes_it(void **state)
{
    static const uint16_t expected[64] = {
        0x3F80, 0x3F5E, 0x3F40, 0x3F26, 0x3F10, 0x3EF9, 0x3ED8, 0x3EBB, 0x3EA2, 0x3E8C, 0x3E73,
        0x3E52, 0x3E36, 0x3E1E, 0x3E09, 0x3DEC, 0x3DCD, 0x3DB1, 0x3D9A, 0x3D85, 0x3D66, 0x3D47,
        0x3D2D, 0x3D16, 0x3D02, 0x3CE0, 0x3CC2, 0x3CA8, 0x3C92, 0x3C7C, 0x3C5A, 0x3C3D, 0x3C24,
        0x3C0E, 0x3BF6, 0x3BD5, 0x3BB8, 0x3BA0, 0x3B8A, 0x3B6F, 0x3B4F, 0x3B33, 0x3B1B, 0x3B07,
        0x3AE9, 0x3ACA, 0x3AAF, 0x3A97, 0x3A83, 0x3A63, 0x3A45, 0x3A2A, 0x3A13, 0x39FF, 0x39DD,
        0x39BF, 0x39A6, 0x3990, 0x3979, 0x3957, 0x393A, 0x3921, 0x390C, 0x38F2
    };
    struct tiny c = { 0 };
    cog_err err = { 0 };
    float freq[64];

    for (int dtype = 0; dtype < 3; dtype++) {
        struct opened o;
        c.n = 0;
        tiny_add(&c, "model.embed_tokens.weight", 2, 2, 0, 0);
        c.tensor[0].dtype = (cog_dtype)dtype;
        tiny_write(&c, *state);
        o = open_dir(*state);
        o.cfg.head_dim = 128;
        assert_int_equal(cog_model_inv_freq(freq, &o.cfg, o.file, &err), 0);
        for (int i = 0; i < 64; i++) {
            if (dtype == COG_F32) /* unrounded */
                assert_int_equal(cog_f32_to_bf16(freq[i]), expected[i]);
            if (dtype == COG_BF16)
                assert_true(freq[i] == cog_bf16_to_f32(expected[i]));
        }
        if (dtype == COG_F16) /* 10000 ** (-1 / 64) = 0.86596..., to 11 bits */
            assert_true(freq[1] == 1773.0f / 2048);
        cog_safetensors_close(o.file);
    }
}

/* ------------------------------------------------------------------ load */

static void expect_weight(const struct tiny *c, const cog_weight *w, cog_weight_use use,
                          const char *a, const char *b)
{
    const char *const name[] = { a, b };
    int n = b ? 2 : 1;

    assert_non_null(w);
    assert_int_equal(w->use, use);
    assert_int_equal(w->n_parts, n);
    for (int i = 0; i < n; i++) {
        const struct tiny_tensor *t = tiny_find((struct tiny *)c, name[i]);
        assert_string_equal(w->name[i], name[i]);
        assert_int_equal(w->rows[i], t->dim[0]);
        assert_int_equal(w->first[i], tiny_bits(t->seed, 0));
    }
}

static void expect_layer(const struct tiny *c, const cog_layer *l, int layer)
{
    static const char *const expert[] = { [COG_LANGUAGE] = "language", [COG_VISION] = "vision" };
    char a[96], b[96];

#define AT(buf, ...) (snprintf(buf, sizeof(buf), __VA_ARGS__), buf)
    expect_weight(c, l->norm_in, COG_USE_VECTOR,
                  AT(a, "model.layers.%d.input_layernorm.weight", layer), NULL);
    expect_weight(c, l->norm_post, COG_USE_VECTOR,
                  AT(a, "model.layers.%d.post_attention_layernorm.weight", layer), NULL);
    for (int e = 0; e < COG_N_EXPERTS; e++) {
        const char *x = expert[e];
        expect_weight(c, l->expert[e].qkv, COG_USE_MATRIX,
                      AT(a, "model.layers.%d.self_attn.%s_expert_query_key_value.weight", layer, x),
                      NULL);
        assert_null(l->expert[e].qkv_bias);
        expect_weight(c, l->expert[e].dense, COG_USE_MATRIX,
                      AT(a, "model.layers.%d.self_attn.%s_expert_dense.weight", layer, x), NULL);
        expect_weight(c, l->expert[e].gate_up, COG_USE_MATRIX,
                      AT(a, "model.layers.%d.mlp.%s_mlp.gate_proj.weight", layer, x),
                      AT(b, "model.layers.%d.mlp.%s_mlp.up_proj.weight", layer, x));
        expect_weight(c, l->expert[e].down, COG_USE_MATRIX,
                      AT(a, "model.layers.%d.mlp.%s_mlp.down_proj.weight", layer, x), NULL);
    }
}

static void expect_tower_layer(const struct tiny *c, const cog_vit_layer *l, int layer)
{
    const struct {
        const char *name;
        const cog_weight *weight, *bias;
        cog_weight_use use;
    } part[] = {
        { "attention.query_key_value", l->qkv, l->qkv_bias, COG_USE_MATRIX },
        { "attention.dense", l->dense, l->dense_bias, COG_USE_MATRIX },
        { "input_layernorm", l->norm1, l->norm1_bias, COG_USE_VECTOR },
        { "mlp.fc1", l->fc1, l->fc1_bias, COG_USE_MATRIX },
        { "mlp.fc2", l->fc2, l->fc2_bias, COG_USE_MATRIX },
        { "post_attention_layernorm", l->norm2, l->norm2_bias, COG_USE_VECTOR },
    };
    char a[96];

    for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
        const char *prefix = "model.vision.transformer.layers";
        expect_weight(c, part[i].weight, part[i].use,
                      AT(a, "%s.%d.%s.weight", prefix, layer, part[i].name), NULL);
        expect_weight(c, part[i].bias, COG_USE_VECTOR,
                      AT(a, "%s.%d.%s.bias", prefix, layer, part[i].name), NULL);
    }
#undef AT
}

static bool hear(void *arg, double fraction)
{
    double *last = arg;

    assert_true(fraction >= *last && fraction <= 1.0);
    *last = fraction;
    return true;
}

static bool stop_half_way(void *arg, double fraction)
{
    return fraction < 0.5;
}

static void loading_can_be_stopped(void **state)
{
    cog_backend be = { .fail_at = -1 };
    cog_err err = { 0 };
    struct tiny c;
    struct opened o;
    cog_model *m;

    tiny_init(&c);
    tiny_write(&c, *state);
    o = open_dir(*state);
    assert_int_equal(cog_model_load(&m, &o.cfg, o.file, &fake_ops, &be, stop_half_way, NULL, &err),
                     COG_ECANCELED);
    assert_int_equal(be.live, 0); /* what was made is freed */
    cog_safetensors_close(o.file);
}

static void every_field_gets_its_tensor(void **state)
{
    cog_backend be = { .fail_at = -1 };
    double progress = 0;
    cog_err err = { 0 };
    struct tiny c;
    struct opened o;
    cog_model *m;

    tiny_init(&c);
    tiny_write(&c, *state);
    o = open_dir(*state);
    assert_int_equal(cog_model_load(&m, &o.cfg, o.file, &fake_ops, &be, hear, &progress, &err), 0);
    cog_safetensors_close(o.file);
    assert_true(progress == 1.0);
    assert_int_equal(be.live, c.n - TINY_LAYERS - 2 * TINY_LAYERS - 1); /* buffers; pairs */

    expect_weight(&c, m->embed, COG_USE_ROWS, "model.embed_tokens.weight", NULL);
    expect_weight(&c, m->head.norm, COG_USE_VECTOR, "model.norm.weight", NULL);
    expect_weight(&c, m->head.lm_head, COG_USE_MATRIX, "lm_head.weight", NULL);
    expect_weight(&c, m->vit_embed.patch, COG_USE_MATRIX,
                  "model.vision.patch_embedding.proj.weight", NULL);
    expect_weight(&c, m->vit_embed.patch_bias, COG_USE_VECTOR,
                  "model.vision.patch_embedding.proj.bias", NULL);
    expect_weight(&c, m->vit_embed.cls, COG_USE_ROWS, "model.vision.patch_embedding.cls_embedding",
                  NULL);
    expect_weight(&c, m->vit_embed.position, COG_USE_ROWS,
                  "model.vision.patch_embedding.position_embedding.weight", NULL);
    expect_weight(&c, m->adapter.proj, COG_USE_MATRIX,
                  "model.vision.linear_proj.linear_proj.weight", NULL);
    expect_weight(&c, m->adapter.norm, COG_USE_VECTOR, "model.vision.linear_proj.norm1.weight",
                  NULL);
    expect_weight(&c, m->adapter.norm_bias, COG_USE_VECTOR, "model.vision.linear_proj.norm1.bias",
                  NULL);
    expect_weight(&c, m->adapter.gate_up, COG_USE_MATRIX,
                  "model.vision.linear_proj.gate_proj.weight",
                  "model.vision.linear_proj.dense_h_to_4h.weight");
    expect_weight(&c, m->adapter.down, COG_USE_MATRIX,
                  "model.vision.linear_proj.dense_4h_to_h.weight", NULL);
    expect_weight(&c, m->adapter.boi, COG_USE_ROWS, "model.vision.boi", NULL);
    expect_weight(&c, m->adapter.eoi, COG_USE_ROWS, "model.vision.eoi", NULL);
    for (int l = 0; l < TINY_LAYERS; l++)
        expect_layer(&c, &m->layer[l], l);
    for (int l = 0; l < TINY_V_LAYERS; l++)
        expect_tower_layer(&c, &m->vit[l], l);
    cog_model_free(m);
    cog_model_free(NULL);
    assert_int_equal(be.live, 0);
}

static void a_failing_device_leaves_nothing_behind(void **state)
{
    struct tiny c;
    struct opened o;

    tiny_init(&c);
    tiny_write(&c, *state);
    o = open_dir(*state);
    for (int at = 0; at < 60; at++) {
        cog_backend be = { .fail_at = at };
        cog_err err = { 0 };
        cog_model *m = NULL;
        assert_int_equal(cog_model_load(&m, &o.cfg, o.file, &fake_ops, &be, NULL, NULL, &err),
                         COG_ENOMEM);
        assert_mentions(err.text, "': device memory is exhausted");
        assert_null(m);
        assert_int_equal(be.live, 0);
    }
    cog_safetensors_close(o.file);
}

static void a_wrong_file_is_not_loaded(void **state)
{
    cog_backend be = { .fail_at = 0 }; /* and the device hears nothing of it */
    cog_err err = { 0 };
    cog_model *m = NULL;
    struct tiny c;
    struct opened o;

    tiny_init(&c);
    tiny_remove(&c, "lm_head.weight");
    tiny_write(&c, *state);
    o = open_dir(*state);
    assert_int_equal(cog_model_load(&m, &o.cfg, o.file, &fake_ops, &be, NULL, NULL, &err),
                     COG_EFORMAT);
    assert_mentions(err.text, "'lm_head.weight'");
    assert_null(m);
    cog_safetensors_close(o.file);
}

static uint64_t fingerprint(const struct tiny *c, const char *dir)
{
    struct opened o;
    uint64_t value;

    tiny_write(c, dir);
    o = open_dir(dir);
    value = cog_model_fingerprint(o.file);
    cog_safetensors_close(o.file);
    return value;
}

static void fingerprints_tell_checkpoints_apart(void **state)
{
    struct tiny c;
    uint64_t base;

    tiny_init(&c);
    base = fingerprint(&c, *state);
    tiny_find(&c, "model.vision.eoi")->seed++;
    assert_true(fingerprint(&c, *state) != base);
    tiny_find(&c, "model.vision.eoi")->seed--;
    assert_true(fingerprint(&c, *state) == base);
    tiny_find(&c, "model.vision.eoi")->dtype = COG_F16;
    assert_true(fingerprint(&c, *state) != base);
    tiny_init(&c);
    tiny_find(&c, "model.norm.weight")->name[0] = 'n';
    assert_true(fingerprint(&c, *state) != base);
    tiny_init(&c); /* order in the file does not count */
    c.tensor[TINY_MAX - 1] = c.tensor[0];
    memmove(c.tensor, c.tensor + 1, (size_t)(c.n - 1) * sizeof(c.tensor[0]));
    c.tensor[c.n - 1] = c.tensor[TINY_MAX - 1];
    assert_true(fingerprint(&c, *state) == base);

    /* a tensor larger than its sample: both ends count */
    c.n = 0;
    tiny_add(&c, "big", 100000, 0, 0, 0);
    base = fingerprint(&c, *state);
    c.tensor[0].seed++;
    assert_true(fingerprint(&c, *state) != base);
}

static void shapes_print_and_are_cut(void **state)
{
    const int64_t dim[] = { 1, 22, 333, 4444 };
    char text[12];
    char wide[64];

    assert_string_equal(cog_model_shape_text(wide, sizeof(wide), dim, 4), "[1, 22, 333, 4444]");
    assert_string_equal(cog_model_shape_text(wide, sizeof(wide), dim, 0), "[]");
    assert_string_equal(cog_model_shape_text(text, sizeof(text), dim, 4), "[1, 22, 333");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        folder_test(accepts_what_it_should),
        folder_test(each_missing_tensor_is_named),
        folder_test(each_wrong_shape_is_named),
        folder_test(messages_name_both_shapes_and_count),
        folder_test(relatives_are_refused_by_name),
        folder_test(a_model_without_vision_experts_is_none),
        folder_test(the_published_model_has_its_parameters),
        folder_test(trap_stored_inv_freq_is_used),
        folder_test(unlike_or_broken_inv_freq_is_refused),
        folder_test(missing_inv_freq_is_made_as_the_reference_makes_it),
        folder_test(loading_can_be_stopped),
        folder_test(every_field_gets_its_tensor),
        folder_test(a_failing_device_leaves_nothing_behind),
        folder_test(a_wrong_file_is_not_loaded),
        folder_test(fingerprints_tell_checkpoints_apart),
        cmocka_unit_test(shapes_print_and_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
