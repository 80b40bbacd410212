#include "engine/model_config.h"

#include "base/buf.h"
#include "engine/file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG         "config.json"
#define GENERATION     "generation_config.json"
#define MAX_BYTES      ((size_t)1 << 20)
#define MAX_SIZE       (1 << 24)          /* of one dimension */
#define MAX_ELEMENTS   ((int64_t)1 << 40) /* of one parameter */
#define MAX_LAYERS     4096
#define MAX_SIDE       16384
#define MAX_TOWER_ROWS (1 << 22)

/* ------------------------------------------------------------------ reading keys */

/* The value as it stands in the file, short and safe to print. */
static void show_value(char dst[64], const json_t *v)
{
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    size_t len = text ? strlen(text) : 0;

    if (!text) {
        memcpy(dst, "absent", sizeof("absent"));
    } else if (len < 64) {
        memcpy(dst, text, len + 1);
    } else {
        memcpy(dst, text, 60);
        memcpy(dst + 60, "...", sizeof("..."));
    }
    free(text);
}

static int bad_value(const char *file, const char *key, const json_t *v, cog_err *err,
                     const char *expected)
{
    char found[64];

    show_value(found, v);
    return cog_err_set(err, COG_EFORMAT, "%s: '%s' is %s, expected %s", file, key, found, expected);
}

struct int_key {
    const char *name;
    size_t at; /* of the int in cog_model_config */
    int min, max;
    int fallback; /* used when the key is absent, or REQUIRED */
};

enum { REQUIRED = -1 };

#define AT(field) offsetof(cog_model_config, field)

static const struct int_key decoder_keys[] = {
    { "vocab_size", AT(vocab), 2, MAX_SIZE, REQUIRED },
    { "hidden_size", AT(hidden), 2, MAX_SIZE, REQUIRED },
    { "intermediate_size", AT(inter), 1, MAX_SIZE, REQUIRED },
    { "num_hidden_layers", AT(layers), 1, MAX_LAYERS, REQUIRED },
    { "num_attention_heads", AT(heads), 1, MAX_SIZE, REQUIRED },
    { "max_position_embeddings", AT(max_positions), 2, 1 << 20, REQUIRED },
    { "bos_token_id", AT(bos), 0, MAX_SIZE, 1 },
    { "pad_token_id", AT(pad), 0, MAX_SIZE, 0 },
};

static const struct int_key vision_keys[] = {
    { "hidden_size", AT(vision.hidden), 1, MAX_SIZE, REQUIRED },
    { "num_heads", AT(vision.heads), 1, MAX_SIZE, REQUIRED },
    { "num_hidden_layers", AT(vision.layers), 1, MAX_LAYERS, REQUIRED },
    { "intermediate_size", AT(vision.inter), 1, MAX_SIZE, REQUIRED },
    { "image_size", AT(vision.image_side), 1, MAX_SIDE, REQUIRED },
    { "patch_size", AT(vision.patch), 1, MAX_SIDE, REQUIRED },
    { "num_positions", AT(vision.tokens), 2, MAX_TOWER_ROWS, REQUIRED },
};

static int read_ints(cog_model_config *c, const json_t *object, const char *file,
                     const struct int_key *key, size_t n, cog_err *err)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(object, key[i].name);
        int *dst = (int *)((char *)c + key[i].at);
        json_int_t value = json_integer_value(v);
        char expected[64];

        if (!v && key[i].fallback != REQUIRED) {
            *dst = key[i].fallback;
            continue;
        }
        if (!json_is_integer(v) || value < key[i].min || value > key[i].max) {
            snprintf(expected, sizeof(expected), "a whole number from %d to %d", key[i].min,
                     key[i].max);
            return bad_value(file, key[i].name, v, err, expected);
        }
        *dst = (int)value;
    }
    return 0;
}

static int read_epsilon(float *out, const json_t *object, const char *file, const char *key,
                        cog_err *err)
{
    const json_t *v = json_object_get(object, key);
    float value = (float)json_number_value(v);

    if (!json_is_number(v) || !(value > 0 && value < 1))
        return bad_value(file, key, v, err, "a number above 0 and below 1");
    *out = value;
    return 0;
}

/* A key that may be absent and has one value this program computes with. */
static int expect_value(const json_t *object, const char *file, const char *key, json_t *want,
                        cog_err *err)
{
    const json_t *v = json_object_get(object, key);
    char expected[64];
    int rc = 0;

    if (v && !json_equal(v, want)) {
        show_value(expected, want);
        rc = bad_value(file, key, v, err, expected);
    }
    json_decref(want);
    return rc;
}

/* A single id or a list of one to COG_MAX_EOS ids, each below vocab. */
static int read_eos(cog_model_config *c, const json_t *v, const char *file, cog_err *err)
{
    size_t n = json_is_array(v) ? json_array_size(v) : 1;

    if (n < 1 || n > COG_MAX_EOS)
        return bad_value(file, "eos_token_id", v, err, "one to eight token ids");
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= c->vocab)
            return bad_value(file, "eos_token_id", v, err, "token ids below vocab_size");
        c->eos[i] = (int32_t)json_integer_value(id);
    }
    c->n_eos = (int)n;
    return 0;
}

static int read_template(cog_model_config *c, const json_t *root, cog_err *err)
{
    const json_t *v = json_object_get(root, "template_version");
    const char *name = v ? json_string_value(v) : "chat";

    for (int t = COG_TEMPLATE_CHAT; name && t <= COG_TEMPLATE_BASE; t++)
        if (strcmp(name, cog_template_name((cog_template)t)) == 0) {
            c->default_template = (cog_template)t;
            return 0;
        }
    return bad_value(CONFIG, "template_version", v, err, "\"chat\", \"vqa\" or \"base\"");
}

static int read_theta(cog_model_config *c, const json_t *root, cog_err *err)
{
    const json_t *v = json_object_get(root, "rope_theta");

    c->rope_theta = v ? json_number_value(v) : 10000.0;
    if ((v && !json_is_number(v)) || !(c->rope_theta > 1 && c->rope_theta <= 1e12))
        return bad_value(CONFIG, "rope_theta", v, err, "a number above 1");
    return 0;
}

/* ------------------------------------------------------------------ which model is it */

static bool has_architecture(const json_t *root, const char *name)
{
    const json_t *list = json_object_get(root, "architectures"), *v;
    size_t i;

    json_array_foreach(list, i, v)
    {
        const char *s = json_string_value(v);
        if (s && strcmp(s, name) == 0)
            return true;
    }
    return false;
}

static bool has_key_starting(json_t *root, const char *prefix)
{
    const char *key;
    json_t *v;

    json_object_foreach(root, key, v) if (strncmp(key, prefix, strlen(prefix)) == 0) return true;
    return false;
}

static bool is_integer(const json_t *root, const char *key, json_int_t value)
{
    const json_t *v = json_object_get(root, key);

    return json_is_integer(v) && json_integer_value(v) == value;
}

static bool is_text(const json_t *root, const char *key, const char *text)
{
    const char *s = json_string_value(json_object_get(root, key));

    return s && strcmp(s, text) == 0;
}

static bool is_cogvlm2(const json_t *root)
{
    return is_integer(root, "vocab_size", 128256) || is_integer(root, "bos_token_id", 128000) ||
           is_integer(json_object_get(root, "vision_config"), "image_size", 1344) ||
           json_object_get(root, "num_multi_query_heads");
}

static int refuse(cog_err *err, const char *reason)
{
    return cog_err_set(err, COG_EUNSUPPORTED, CONFIG ": %s", reason);
}

/* Refuses by name what looks like CogVLM and computes something else. */
static int check_family(json_t *root, cog_err *err)
{
    char found[64];

    if (has_architecture(root, "CogAgentForCausalLM") || has_key_starting(root, "cross_") ||
        is_text(root, "model_type", "cogagent"))
        return refuse(err, "this is CogAgent, which adds a second, high-resolution picture through "
                           "cross attention; it is not supported, CogVLM is");
    if (has_architecture(root, "CogVLMVideoForCausalLM"))
        return refuse(err, "this is a CogVLM2 video or caption model (CogVLMVideoForCausalLM), "
                           "which has no vision experts; it is not supported, CogVLM is");
    if (is_text(root, "model_type", "cogvlm2") || json_object_get(root, "num_key_value_heads") ||
        json_object_get(root, "num_image_tokens"))
        return refuse(err, "this is a text-generation-inference re-pack with separate query, key "
                           "and value; use the original Hugging Face repository");
    if (json_is_object(json_object_get(root, "quantization_config"))) {
        show_value(found,
                   json_object_get(json_object_get(root, "quantization_config"), "quant_method"));
        return cog_err_set(err, COG_EUNSUPPORTED,
                           CONFIG ": the weights are quantised already (quant_method %s); use the "
                                  "original bf16 files, this program chooses its own number types "
                                  "(--dtype)",
                           found);
    }
    if (has_architecture(root, "CogVLMForCausalLM"))
        return is_cogvlm2(root)
                   ? refuse(err, "this is CogVLM2, which is not supported yet; CogVLM (the first "
                                 "generation: chat, base-224, base-490, grounding) is")
                   : 0;
    show_value(found, json_object_get(root, "architectures"));
    return cog_err_set(err, COG_EUNSUPPORTED,
                       CONFIG ": 'architectures' is %s; only CogVLMForCausalLM is supported",
                       found);
}

/* ------------------------------------------------------------------ consistency */

static int check_product(const char *what, int64_t a, int64_t b, cog_err *err)
{
    int64_t n;

    if (__builtin_mul_overflow(a, b, &n) || n > MAX_ELEMENTS)
        return cog_err_set(err, COG_ELIMIT,
                           CONFIG ": %s would have %lld x %lld elements, more than the limit of "
                                  "%lld",
                           what, (long long)a, (long long)b, (long long)MAX_ELEMENTS);
    return 0;
}

static int check_sizes(const cog_model_config *c, cog_err *err)
{
    const struct {
        const char *what;
        int64_t rows, cols;
    } matrix[] = {
        { "the embedding", c->vocab, c->hidden },
        { "a decoder layer's query_key_value", 3 * (int64_t)c->hidden, c->hidden },
        { "a decoder layer's gate and up projection", 2 * (int64_t)c->inter, c->hidden },
        { "the tower's position table", c->vision.tokens, c->vision.hidden },
        { "a tower layer's query_key_value", 3 * (int64_t)c->vision.hidden, c->vision.hidden },
        { "a tower layer's fc1", c->vision.inter, c->vision.hidden },
        { "the patch projection", c->vision.hidden,
          3 * (int64_t)c->vision.patch * c->vision.patch },
        { "the adapter's projection", c->hidden, c->vision.hidden },
        { "the rotary table", c->max_positions, c->head_dim },
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(matrix) / sizeof(matrix[0]); i++)
        rc = check_product(matrix[i].what, matrix[i].rows, matrix[i].cols, err);
    return rc;
}

static int derive_decoder(cog_model_config *c, cog_err *err)
{
    if (c->hidden % c->heads)
        return cog_err_set(err, COG_EFORMAT,
                           CONFIG
                           ": 'hidden_size' %d is not a multiple of 'num_attention_heads' %d",
                           c->hidden, c->heads);
    c->kv_heads = c->heads;
    c->head_dim = c->hidden / c->heads;
    if (c->head_dim % 2)
        return cog_err_set(err, COG_EFORMAT,
                           CONFIG ": a head has %d dimensions ('hidden_size' / "
                                  "'num_attention_heads'); rotary positions need an even number",
                           c->head_dim);
    if (c->bos >= c->vocab || c->pad >= c->vocab)
        return cog_err_set(err, COG_EFORMAT,
                           CONFIG ": 'bos_token_id' %d and 'pad_token_id' %d must be below "
                                  "'vocab_size' %d",
                           c->bos, c->pad, c->vocab);
    return 0;
}

static int derive_vision(cog_model_config *c, cog_err *err)
{
    int side = c->vision.image_side, patch = c->vision.patch, positions = c->vision.tokens;

    if (c->vision.hidden % c->vision.heads)
        return cog_err_set(err, COG_EFORMAT,
                           CONFIG ": 'vision_config.hidden_size' %d is not a multiple of "
                                  "'vision_config.num_heads' %d",
                           c->vision.hidden, c->vision.heads);
    c->vision.head_dim = c->vision.hidden / c->vision.heads;
    if (side % patch)
        return cog_err_set(err, COG_EFORMAT,
                           CONFIG ": 'vision_config.image_size' %d is not a multiple of "
                                  "'vision_config.patch_size' %d",
                           side, patch);
    c->vision.grid = side / patch;
    c->patches = c->vision.grid * c->vision.grid;
    c->image_tokens = c->patches + 2;
    if (positions != c->patches + 1)
        return cog_err_set(err, COG_EFORMAT,
                           CONFIG
                           ": 'vision_config.num_positions' is %d, expected %d for a grid of "
                           "%d x %d patches and cls",
                           positions, c->patches + 1, c->vision.grid, c->vision.grid);
    if (c->image_tokens + 2 > c->max_positions)
        return cog_err_set(err, COG_EFORMAT,
                           CONFIG ": 'max_position_embeddings' is %d, too few for one picture, "
                                  "which takes %d",
                           c->max_positions, c->image_tokens + 2);
    return 0;
}

/* ------------------------------------------------------------------ the files */

static int parse(json_t **out, const char *dir, const char *file, cog_err *err)
{
    cog_buf text = { 0 };
    json_error_t why;
    int rc = cog_file_read(&text, dir, file, MAX_BYTES, err);

    if (rc == 0) {
        *out = json_loadb(cog_buf_text(&text), text.len, JSON_REJECT_DUPLICATES, &why);
        if (!*out)
            rc = cog_err_set(err, COG_EFORMAT, "%s: line %d: %.200s", file, why.line, why.text);
    }
    cog_buf_fini(&text);
    if (rc == 0 && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        rc = cog_err_set(err, COG_EFORMAT, "%s: not a JSON object", file);
    }
    return rc;
}

static int read_decoder(cog_model_config *c, const json_t *root, cog_err *err)
{
    const json_t *eos = json_object_get(root, "eos_token_id");
    int rc = read_ints(c, root, CONFIG, decoder_keys,
                       sizeof(decoder_keys) / sizeof(decoder_keys[0]), err);

    c->eos[0] = 2;
    c->n_eos = 1;
    if (rc == 0 && (eos || c->eos[0] >= c->vocab))
        rc = read_eos(c, eos, CONFIG, err);
    if (rc == 0)
        rc = read_epsilon(&c->rms_eps, root, CONFIG, "rms_norm_eps", err);
    if (rc == 0)
        rc = expect_value(root, CONFIG, "hidden_act", json_string("silu"), err);
    if (rc == 0)
        rc = expect_value(root, CONFIG, "tie_word_embeddings", json_false(), err);
    if (rc == 0)
        rc = expect_value(root, CONFIG, "rope_scaling", json_null(), err);
    if (rc == 0)
        rc = read_theta(c, root, err);
    if (rc == 0)
        rc = read_template(c, root, err);
    return rc == 0 ? derive_decoder(c, err) : rc;
}

static int read_vision(cog_model_config *c, const json_t *root, cog_err *err)
{
    static const char where[] = CONFIG " vision_config";
    const json_t *v = json_object_get(root, "vision_config");
    int rc;

    if (!json_is_object(v))
        return bad_value(CONFIG, "vision_config", v, err, "an object");
    rc = read_ints(c, v, where, vision_keys, sizeof(vision_keys) / sizeof(vision_keys[0]), err);
    if (rc == 0)
        rc = read_epsilon(&c->vision.eps, v, where, "layer_norm_eps", err);
    if (rc == 0)
        rc = expect_value(v, where, "hidden_act", json_string("gelu"), err);
    if (rc == 0)
        rc = expect_value(v, where, "in_channels", json_integer(3), err);
    return rc == 0 ? derive_vision(c, err) : rc;
}

/* What generation stops at is generation_config.json's to say, as in the reference. */
static int read_generation(cog_model_config *c, const char *dir, cog_err *err)
{
    json_t *root = NULL, *eos;
    int rc;

    if (!cog_file_exists(dir, GENERATION))
        return 0;
    rc = parse(&root, dir, GENERATION, err);
    if (rc < 0)
        return rc;
    eos = json_object_get(root, "eos_token_id");
    if (eos && !json_is_null(eos))
        rc = read_eos(c, eos, GENERATION, err);
    json_decref(root);
    return rc;
}

int cog_model_config_load(cog_model_config *out, const char *dir, cog_err *err)
{
    cog_model_config c = { 0 };
    json_t *root = NULL;
    int rc = parse(&root, dir, CONFIG, err);

    if (rc == 0)
        rc = check_family(root, err);
    if (rc == 0)
        rc = read_decoder(&c, root, err);
    if (rc == 0)
        rc = read_vision(&c, root, err);
    if (rc == 0)
        rc = check_sizes(&c, err);
    if (rc == 0)
        rc = read_generation(&c, dir, err);
    json_decref(root);
    if (rc == 0)
        *out = c;
    return rc;
}
