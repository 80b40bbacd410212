/* tiny_checkpoint.h - a checkpoint of toy sizes, tensor by tensor, for tests to damage and write.
 *
 * Names and shapes are stated here once more, from the published files' listings: the model's own
 * table is what they test. */
#ifndef COG_TESTS_TINY_CHECKPOINT_H
#define COG_TESTS_TINY_CHECKPOINT_H

#include "tests/unit/folder.h"

#include "base/buf.h"
#include "engine/tensor.h"

enum {
    TINY_VOCAB = 300,
    TINY_HIDDEN = 8,
    TINY_INTER = 12,
    TINY_LAYERS = 2,
    TINY_FREQ = 2, /* two heads of four */
    TINY_V_HIDDEN = 6,
    TINY_V_INTER = 10,
    TINY_V_LAYERS = 3,
    TINY_V_ROWS = 5, /* 2 x 2 patches and cls */
    TINY_PATCH = 2,
    TINY_MAX = 96,
};

#define TINY_CONFIG                                                                               \
    "{\"architectures\":[\"CogVLMForCausalLM\"],\"bos_token_id\":1,\"eos_token_id\":2,"           \
    "\"hidden_act\":\"silu\",\"hidden_size\":8,\"intermediate_size\":12,"                         \
    "\"max_position_embeddings\":64,\"num_attention_heads\":2,\"num_hidden_layers\":2,"           \
    "\"pad_token_id\":0,\"rms_norm_eps\":1e-05,\"template_version\":\"chat\","                    \
    "\"tie_word_embeddings\":false,\"vision_config\":{\"hidden_act\":\"gelu\",\"hidden_size\":6," \
    "\"image_size\":4,\"in_channels\":3,\"intermediate_size\":10,\"layer_norm_eps\":1e-06,"       \
    "\"num_heads\":2,\"num_hidden_layers\":3,\"num_positions\":5,\"patch_size\":2},"              \
    "\"vocab_size\":300}"

struct tiny_tensor {
    char name[96];
    cog_dtype dtype;
    int n_dims, dim[COG_MAX_DIMS];
    uint64_t seed; /* of the bytes; tensors with the same seed and size are equal */
};

struct tiny {
    struct tiny_tensor tensor[TINY_MAX];
    int n;
};

static inline void tiny_add(struct tiny *c, const char *name, int d0, int d1, int d2, int d3)
{
    struct tiny_tensor *t = &c->tensor[c->n++];

    assert_true(c->n <= TINY_MAX);
    snprintf(t->name, sizeof(t->name), "%s", name);
    t->dtype = COG_BF16;
    t->dim[0] = d0;
    t->dim[1] = d1;
    t->dim[2] = d2;
    t->dim[3] = d3;
    for (t->n_dims = 0; t->n_dims < COG_MAX_DIMS && t->dim[t->n_dims]; t->n_dims++)
        ;
    t->seed = (uint64_t)c->n;
}

static inline void tiny_layer(struct tiny *c, int layer)
{
    static const char *const expert[] = { "language", "vision" };
    const int h = TINY_HIDDEN, inter = TINY_INTER;
    char name[96];

#define AT(...) (snprintf(name, sizeof(name), __VA_ARGS__), name)
    tiny_add(c, AT("model.layers.%d.input_layernorm.weight", layer), h, 0, 0, 0);
    tiny_add(c, AT("model.layers.%d.post_attention_layernorm.weight", layer), h, 0, 0, 0);
    tiny_add(c, AT("model.layers.%d.self_attn.rotary_emb.inv_freq", layer), TINY_FREQ, 0, 0, 0);
    c->tensor[c->n - 1].seed = 1000;
    for (int e = 0; e < 2; e++) {
        tiny_add(c,
                 AT("model.layers.%d.self_attn.%s_expert_query_key_value.weight", layer, expert[e]),
                 3 * h, h, 0, 0);
        tiny_add(c, AT("model.layers.%d.self_attn.%s_expert_dense.weight", layer, expert[e]), h, h,
                 0, 0);
        tiny_add(c, AT("model.layers.%d.mlp.%s_mlp.gate_proj.weight", layer, expert[e]), inter, h,
                 0, 0);
        tiny_add(c, AT("model.layers.%d.mlp.%s_mlp.up_proj.weight", layer, expert[e]), inter, h, 0,
                 0);
        tiny_add(c, AT("model.layers.%d.mlp.%s_mlp.down_proj.weight", layer, expert[e]), h, inter,
                 0, 0);
    }
}

static inline void tiny_tower_layer(struct tiny *c, int layer)
{
    const int v = TINY_V_HIDDEN, inter = TINY_V_INTER;
    const struct {
        const char *name;
        int rows, cols;
    } part[] = { { "attention.query_key_value", 3 * v, v },
                 { "attention.dense", v, v },
                 { "input_layernorm", v, 0 },
                 { "mlp.fc1", inter, v },
                 { "mlp.fc2", v, inter },
                 { "post_attention_layernorm", v, 0 } };
    char name[96];

    for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
        const char *prefix = "model.vision.transformer.layers";
        tiny_add(c, AT("%s.%d.%s.weight", prefix, layer, part[i].name), part[i].rows, part[i].cols,
                 0, 0);
        tiny_add(c, AT("%s.%d.%s.bias", prefix, layer, part[i].name), part[i].rows, 0, 0, 0);
    }
#undef AT
}

static inline void tiny_init(struct tiny *c)
{
    const int h = TINY_HIDDEN, v = TINY_V_HIDDEN, inter = TINY_INTER;

    memset(c, 0, sizeof(*c));
    tiny_add(c, "model.embed_tokens.weight", TINY_VOCAB, h, 0, 0);
    for (int l = 0; l < TINY_LAYERS; l++)
        tiny_layer(c, l);
    tiny_add(c, "model.norm.weight", h, 0, 0, 0);
    tiny_add(c, "lm_head.weight", TINY_VOCAB, h, 0, 0);
    tiny_add(c, "model.vision.patch_embedding.cls_embedding", 1, v, 0, 0);
    tiny_add(c, "model.vision.patch_embedding.position_embedding.weight", TINY_V_ROWS, v, 0, 0);
    tiny_add(c, "model.vision.patch_embedding.proj.weight", v, 3, TINY_PATCH, TINY_PATCH);
    tiny_add(c, "model.vision.patch_embedding.proj.bias", v, 0, 0, 0);
    for (int l = 0; l < TINY_V_LAYERS; l++)
        tiny_tower_layer(c, l);
    tiny_add(c, "model.vision.linear_proj.linear_proj.weight", h, v, 0, 0);
    tiny_add(c, "model.vision.linear_proj.norm1.weight", h, 0, 0, 0);
    tiny_add(c, "model.vision.linear_proj.norm1.bias", h, 0, 0, 0);
    tiny_add(c, "model.vision.linear_proj.gate_proj.weight", inter, h, 0, 0);
    tiny_add(c, "model.vision.linear_proj.dense_h_to_4h.weight", inter, h, 0, 0);
    tiny_add(c, "model.vision.linear_proj.dense_4h_to_h.weight", h, inter, 0, 0);
    tiny_add(c, "model.vision.boi", 1, 1, h, 0);
    tiny_add(c, "model.vision.eoi", 1, 1, h, 0);
}

static inline struct tiny_tensor *tiny_find(struct tiny *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->tensor[i].name, name) == 0)
            return &c->tensor[i];
    fail_msg("no tensor '%s'", name);
    return NULL;
}

static inline void tiny_remove(struct tiny *c, const char *name)
{
    *tiny_find(c, name) = c->tensor[c->n - 1];
    c->n--;
}

/* Element i of a tensor, as its 16-bit pattern: small numbers, different for each seed. */
static inline uint16_t tiny_bits(uint64_t seed, size_t i)
{
    return (uint16_t)(0x3c00 + (seed * 37 + i * 11) % 0x300);
}

static inline void tiny_write(const struct tiny *c, const char *dir)
{
    static const char *const dtype[] = {
        [COG_F32] = "F32", [COG_BF16] = "BF16", [COG_F16] = "F16"
    };
    cog_buf header = { 0 }, data = { 0 }, file = { 0 };
    uint64_t len;

    for (int i = 0; i < c->n; i++) {
        const struct tiny_tensor *t = &c->tensor[i];
        size_t n = 1, begin = data.len;
        cog_buf_printf(&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "{", t->name,
                       dtype[t->dtype]);
        for (int k = 0; k < t->n_dims; k++) {
            n *= (size_t)t->dim[k];
            cog_buf_printf(&header, "%s%d", k ? "," : "", t->dim[k]);
        }
        for (size_t k = 0; k < n; k++) {
            uint16_t bits[2] = { 0, tiny_bits(t->seed, k) };
            cog_buf_add(&data, t->dtype == COG_F32 ? &bits[0] : &bits[1], cog_dtype_size(t->dtype));
        }
        cog_buf_printf(&header, "],\"data_offsets\":[%zu,%zu]}", begin, data.len);
    }
    cog_buf_puts(&header, "}");
    len = header.len;
    cog_buf_add(&file, &len, sizeof(len));
    cog_buf_add(&file, header.data, header.len);
    cog_buf_add(&file, data.data, data.len);
    folder_write(dir, "model.safetensors", file.data, file.len);
    folder_puts(dir, "config.json", TINY_CONFIG);
    cog_buf_fini(&header);
    cog_buf_fini(&data);
    cog_buf_fini(&file);
}

#endif
