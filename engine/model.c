#include "engine/model.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/sha256.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MAX_NAME     128
#define SAMPLE_BYTES 4096 /* 16 pieces of a page each make the 64 KiB of a tensor's fingerprint */
#define SAMPLES      16

/* ------------------------------------------------------------------ what a checkpoint holds
 *
 * Each parameter once: where it lives, how it is used, what its tensors are called and how they are
 * shaped. Check, load and free all walk this table. */

enum size { END, ONE, RGB, VOCAB, HIDDEN, INTER, QKV, V_HIDDEN, V_QKV, V_INTER, V_ROWS, PATCH };

enum group { TOP, DECODER, TOWER, N_GROUPS };

static const char *const group_prefix[N_GROUPS] = {
    [TOP] = "",
    [DECODER] = "model.layers.",
    [TOWER] = "model.vision.transformer.layers.",
};

enum { MAX_PARTS = 2 };

struct param {
    enum group group;
    cog_component part;
    cog_weight_use use;
    size_t at;                   /* of the cog_weight * in cog_model, cog_layer or cog_vit_layer */
    const char *name[MAX_PARTS]; /* tensors stacked in order; a layer's prefix goes before it */
    uint8_t size[COG_MAX_DIMS];  /* enum size, outermost first */
};

#define MATRIX  COG_USE_MATRIX
#define VECTOR  COG_USE_VECTOR
#define ROWS    COG_USE_ROWS
#define M(f)    offsetof(cog_model, f)
#define L(f)    offsetof(cog_layer, f)
#define T(f)    offsetof(cog_vit_layer, f)
#define LANG(f) offsetof(cog_layer, expert[COG_LANGUAGE].f)
#define VIS(f)  offsetof(cog_layer, expert[COG_VISION].f)

/* clang-format off */
static const struct param params[] = {
    { TOP, COG_PART_EMBEDDING, ROWS, M(embed),
      { "model.embed_tokens.weight" }, { VOCAB, HIDDEN } },

    { DECODER, COG_PART_NORM, VECTOR, L(norm_in),
      { "input_layernorm.weight" }, { HIDDEN } },
    { DECODER, COG_PART_LANGUAGE, MATRIX, LANG(qkv),
      { "self_attn.language_expert_query_key_value.weight" }, { QKV, HIDDEN } },
    { DECODER, COG_PART_VISION, MATRIX, VIS(qkv),
      { "self_attn.vision_expert_query_key_value.weight" }, { QKV, HIDDEN } },
    { DECODER, COG_PART_LANGUAGE, MATRIX, LANG(dense),
      { "self_attn.language_expert_dense.weight" }, { HIDDEN, HIDDEN } },
    { DECODER, COG_PART_VISION, MATRIX, VIS(dense),
      { "self_attn.vision_expert_dense.weight" }, { HIDDEN, HIDDEN } },
    { DECODER, COG_PART_NORM, VECTOR, L(norm_post),
      { "post_attention_layernorm.weight" }, { HIDDEN } },
    { DECODER, COG_PART_LANGUAGE, MATRIX, LANG(gate_up),
      { "mlp.language_mlp.gate_proj.weight", "mlp.language_mlp.up_proj.weight" },
      { INTER, HIDDEN } },
    { DECODER, COG_PART_LANGUAGE, MATRIX, LANG(down),
      { "mlp.language_mlp.down_proj.weight" }, { HIDDEN, INTER } },
    { DECODER, COG_PART_VISION, MATRIX, VIS(gate_up),
      { "mlp.vision_mlp.gate_proj.weight", "mlp.vision_mlp.up_proj.weight" },
      { INTER, HIDDEN } },
    { DECODER, COG_PART_VISION, MATRIX, VIS(down),
      { "mlp.vision_mlp.down_proj.weight" }, { HIDDEN, INTER } },

    { TOP, COG_PART_NORM, VECTOR, M(head.norm),
      { "model.norm.weight" }, { HIDDEN } },
    { TOP, COG_PART_EMBEDDING, MATRIX, M(head.lm_head),
      { "lm_head.weight" }, { VOCAB, HIDDEN } },

    { TOP, COG_PART_TOWER, ROWS, M(vit_embed.cls),
      { "model.vision.patch_embedding.cls_embedding" }, { ONE, V_HIDDEN } },
    { TOP, COG_PART_TOWER, ROWS, M(vit_embed.position),
      { "model.vision.patch_embedding.position_embedding.weight" }, { V_ROWS, V_HIDDEN } },
    { TOP, COG_PART_TOWER, MATRIX, M(vit_embed.patch),
      { "model.vision.patch_embedding.proj.weight" }, { V_HIDDEN, RGB, PATCH, PATCH } },
    { TOP, COG_PART_TOWER, VECTOR, M(vit_embed.patch_bias),
      { "model.vision.patch_embedding.proj.bias" }, { V_HIDDEN } },

    { TOWER, COG_PART_TOWER, MATRIX, T(qkv),
      { "attention.query_key_value.weight" }, { V_QKV, V_HIDDEN } },
    { TOWER, COG_PART_TOWER, VECTOR, T(qkv_bias),
      { "attention.query_key_value.bias" }, { V_QKV } },
    { TOWER, COG_PART_TOWER, MATRIX, T(dense),
      { "attention.dense.weight" }, { V_HIDDEN, V_HIDDEN } },
    { TOWER, COG_PART_TOWER, VECTOR, T(dense_bias),
      { "attention.dense.bias" }, { V_HIDDEN } },
    { TOWER, COG_PART_TOWER, VECTOR, T(norm1),
      { "input_layernorm.weight" }, { V_HIDDEN } },
    { TOWER, COG_PART_TOWER, VECTOR, T(norm1_bias),
      { "input_layernorm.bias" }, { V_HIDDEN } },
    { TOWER, COG_PART_TOWER, MATRIX, T(fc1),
      { "mlp.fc1.weight" }, { V_INTER, V_HIDDEN } },
    { TOWER, COG_PART_TOWER, VECTOR, T(fc1_bias),
      { "mlp.fc1.bias" }, { V_INTER } },
    { TOWER, COG_PART_TOWER, MATRIX, T(fc2),
      { "mlp.fc2.weight" }, { V_HIDDEN, V_INTER } },
    { TOWER, COG_PART_TOWER, VECTOR, T(fc2_bias),
      { "mlp.fc2.bias" }, { V_HIDDEN } },
    { TOWER, COG_PART_TOWER, VECTOR, T(norm2),
      { "post_attention_layernorm.weight" }, { V_HIDDEN } },
    { TOWER, COG_PART_TOWER, VECTOR, T(norm2_bias),
      { "post_attention_layernorm.bias" }, { V_HIDDEN } },

    { TOP, COG_PART_ADAPTER, MATRIX, M(adapter.proj),
      { "model.vision.linear_proj.linear_proj.weight" }, { HIDDEN, V_HIDDEN } },
    { TOP, COG_PART_ADAPTER, VECTOR, M(adapter.norm),
      { "model.vision.linear_proj.norm1.weight" }, { HIDDEN } },
    { TOP, COG_PART_ADAPTER, VECTOR, M(adapter.norm_bias),
      { "model.vision.linear_proj.norm1.bias" }, { HIDDEN } },
    { TOP, COG_PART_ADAPTER, MATRIX, M(adapter.gate_up),
      { "model.vision.linear_proj.gate_proj.weight",
        "model.vision.linear_proj.dense_h_to_4h.weight" }, { INTER, HIDDEN } },
    { TOP, COG_PART_ADAPTER, MATRIX, M(adapter.down),
      { "model.vision.linear_proj.dense_4h_to_h.weight" }, { HIDDEN, INTER } },
    { TOP, COG_PART_ADAPTER, ROWS, M(adapter.boi),
      { "model.vision.boi" }, { ONE, ONE, HIDDEN } },
    { TOP, COG_PART_ADAPTER, ROWS, M(adapter.eoi),
      { "model.vision.eoi" }, { ONE, ONE, HIDDEN } },
};
/* clang-format on */

#define N_PARAMS (sizeof(params) / sizeof(params[0]))

static const char inv_freq_name[] = "self_attn.rotary_emb.inv_freq";

static int64_t size_of(const cog_model_config *c, enum size s)
{
    switch (s) {
    case END:
        break;
    case ONE:
        return 1;
    case RGB:
        return 3;
    case VOCAB:
        return c->vocab;
    case HIDDEN:
        return c->hidden;
    case INTER:
        return c->inter;
    case QKV:
        return ((int64_t)c->heads + 2 * (int64_t)c->kv_heads) * c->head_dim;
    case V_HIDDEN:
        return c->vision.hidden;
    case V_QKV:
        return 3 * (int64_t)c->vision.hidden;
    case V_INTER:
        return c->vision.inter;
    case V_ROWS:
        return c->vision.tokens;
    case PATCH:
        return c->vision.patch;
    }
    return 0;
}

static int shape_of(int64_t dim[COG_MAX_DIMS], const cog_model_config *c, const struct param *p)
{
    int n = 0;

    while (n < COG_MAX_DIMS && p->size[n] != END) {
        dim[n] = size_of(c, (enum size)p->size[n]);
        n++;
    }
    return n;
}

static int n_layers(const cog_model_config *c, enum group g)
{
    return g == TOP ? 1 : g == DECODER ? c->layers : c->vision.layers;
}

static const char *full_name(char dst[MAX_NAME], enum group g, int layer, const char *name)
{
    if (g == TOP)
        snprintf(dst, MAX_NAME, "%s", name);
    else
        snprintf(dst, MAX_NAME, "%s%d.%s", group_prefix[g], layer, name);
    return dst;
}

/* ------------------------------------------------------------------ comparing with the file */

/* Tensors of other models and re-packed forms, by a part of their name. */
static const char *foreign_reason(const char *name)
{
    static const struct {
        const char *part, *reason;
    } known[] = {
        { "cross_", "belongs to CogAgent's cross attention" },
        { "model.vision.conv.", "belongs to CogVLM2's vision tower" },
        { "vision_expert_query_key_value.bias", "belongs to CogVLM2" },
        { "_expert_query.", "is from a re-pack with separate query, key and value" },
        { "_expert_key.", "is from a re-pack with separate query, key and value" },
        { "_expert_value.", "is from a re-pack with separate query, key and value" },
        { ".absmax", "is bitsandbytes quantisation state" },
        { ".quant_map", "is bitsandbytes quantisation state" },
        { ".nested_", "is bitsandbytes quantisation state" },
        { ".quant_state", "is bitsandbytes quantisation state" },
        { ".SCB", "is bitsandbytes quantisation state" },
        { ".qweight", "is a GPTQ or AWQ quantised weight" },
        { ".qzeros", "is GPTQ or AWQ quantisation state" },
        { ".scales", "is GPTQ or AWQ quantisation state" },
        { ".g_idx", "is GPTQ quantisation state" },
        { ".lora_", "is a LoRA adapter's, to be merged first" },
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strstr(name, known[i].part))
            return known[i].reason;
    return NULL;
}

struct walk {
    const cog_safetensors *file;
    bool *used; /* [count of file] */
    void (*visit)(void *arg, const cog_tensor_item *item);
    void *arg;
};

static void visit_wanted(struct walk *w, cog_component part, const char *name, const int64_t *dim,
                         int n_dims)
{
    int idx = cog_safetensors_index(w->file, name);
    cog_tensor_item item = { .name = name, .part = part, .expected = dim, .n_dims = n_dims };

    if (idx < 0) {
        item.fault = COG_TENSOR_MISSING;
    } else {
        item.found = cog_safetensors_at(w->file, idx);
        w->used[idx] = true;
        if (item.found->n_dims != n_dims ||
            memcmp(item.found->dim, dim, (size_t)n_dims * sizeof(*dim)) != 0)
            item.fault = COG_TENSOR_SHAPE;
    }
    w->visit(w->arg, &item);
}

/* The rotary buffers are in all decoder layers or in none. */
static void visit_buffers(struct walk *w, const cog_model_config *c)
{
    int64_t dim = c->head_dim / 2;
    bool any = false;
    char name[MAX_NAME];

    for (int l = 0; l < c->layers && !any; l++)
        any = cog_safetensors_find(w->file, full_name(name, DECODER, l, inv_freq_name));
    for (int l = 0; l < c->layers && any; l++)
        visit_wanted(w, COG_PART_BUFFER, full_name(name, DECODER, l, inv_freq_name), &dim, 1);
}

void cog_model_visit(const cog_model_config *cfg, const cog_safetensors *file,
                     void (*visit)(void *arg, const cog_tensor_item *item), void *arg)
{
    int count = cog_safetensors_count(file);
    struct walk w = { file, cog_array(bool, (size_t)count), visit, arg };
    int64_t dim[COG_MAX_DIMS];
    char name[MAX_NAME];

    for (size_t i = 0; i < N_PARAMS; i++) {
        const struct param *p = &params[i];
        int n_dims = shape_of(dim, cfg, p);
        for (int l = 0; l < n_layers(cfg, p->group); l++)
            for (int k = 0; k < MAX_PARTS && p->name[k]; k++)
                visit_wanted(&w, p->part, full_name(name, p->group, l, p->name[k]), dim, n_dims);
    }
    visit_buffers(&w, cfg);
    for (int i = 0; i < count; i++) {
        cog_tensor_item item = { .found = cog_safetensors_at(file, i) };
        if (w.used[i])
            continue;
        item.name = item.found->name;
        item.reason = foreign_reason(item.name);
        item.fault = item.reason ? COG_TENSOR_FOREIGN : COG_TENSOR_SURPLUS;
        visit(arg, &item);
    }
    cog_free(w.used);
}

const char *cog_model_shape_text(char *dst, size_t size, const int64_t *dim, int n_dims)
{
    size_t len = (size_t)snprintf(dst, size, "[");

    for (int i = 0; i < n_dims && len < size; i++)
        len += (size_t)snprintf(dst + len, size - len, "%s%lld", i ? ", " : "", (long long)dim[i]);
    if (len < size)
        snprintf(dst + len, size - len, "]");
    return dst;
}

struct verdict {
    int count[COG_N_FAULTS];
    int experts;                 /* tensors of vision experts in the file */
    cog_err first[COG_N_FAULTS]; /* one sentence for the first of each kind */
};

static void judge(void *arg, const cog_tensor_item *item)
{
    struct verdict *v = arg;
    cog_err *first = &v->first[item->fault];
    char found[96], expected[96];

    v->experts += item->part == COG_PART_VISION && item->found && item->expected;
    if (v->count[item->fault]++ > 0)
        return;
    if (item->expected)
        cog_model_shape_text(expected, sizeof(expected), item->expected, item->n_dims);
    switch (item->fault) {
    case COG_TENSOR_SHAPE:
        cog_err_set(
            first, COG_EFORMAT, "tensor '%s' is %s, expected %s", item->name,
            cog_model_shape_text(found, sizeof(found), item->found->dim, item->found->n_dims),
            expected);
        break;
    case COG_TENSOR_MISSING:
        cog_err_set(first, COG_EFORMAT, "tensor '%s' %s is missing", item->name, expected);
        break;
    case COG_TENSOR_SURPLUS:
        cog_err_set(
            first, COG_EFORMAT,
            "tensor '%.200s' %s is not one of this model's (see the layer counts in "
            "config.json)",
            item->name,
            cog_model_shape_text(found, sizeof(found), item->found->dim, item->found->n_dims));
        break;
    case COG_TENSOR_FOREIGN:
        cog_err_set(first, COG_EUNSUPPORTED, "tensor '%.200s' %s, which is not supported",
                    item->name, item->reason);
        break;
    case COG_TENSOR_FINE:
    case COG_N_FAULTS:
        break;
    }
}

int cog_model_check(const cog_model_config *cfg, const cog_safetensors *file, cog_err *err)
{
    struct verdict v = { 0 };
    int total = 0, fault = COG_TENSOR_FINE;

    cog_model_visit(cfg, file, judge, &v);
    for (int f = COG_N_FAULTS - 1; f > COG_TENSOR_FINE; f--) {
        total += v.count[f];
        if (v.count[f])
            fault = f;
    }
    if (total == 0)
        return 0;
    if (v.experts == 0 && fault != COG_TENSOR_FOREIGN)
        return cog_err_set(err, COG_EUNSUPPORTED,
                           "the file has no vision experts: not a CogVLM (a CogVLM2 video or "
                           "caption model?)");
    if (total == 1)
        return cog_err_set(err, v.first[fault].code, "%s", v.first[fault].text);
    return cog_err_set(err, v.first[fault].code,
                       "%.400s (and %d more: %d misshapen, %d missing, %d "
                       "surplus in all)",
                       v.first[fault].text, total - 1, v.count[COG_TENSOR_SHAPE],
                       v.count[COG_TENSOR_MISSING],
                       v.count[COG_TENSOR_SURPLUS] + v.count[COG_TENSOR_FOREIGN]);
}

/* ------------------------------------------------------------------ rotary frequencies */

/* The value after one rounding to dtype; value is in (0, 1]. */
static float round_to(float value, cog_dtype dtype)
{
    int exponent;
    float step;

    if (dtype != COG_F16)
        return dtype == COG_BF16 ? cog_round_bf16(value) : value;
    frexpf(value, &exponent);
    step =
        ldexpf(1, (exponent < -13 ? -13 : exponent) - 11); /* 11 significant bits, or subnormal */
    return rintf(value / step) * step;
}

/* As the reference makes the buffer: in f32, then in the checkpoint's type. */
static void make_inv_freq(float *dst, const cog_model_config *cfg, const cog_safetensors *file)
{
    const cog_tensor *t = cog_safetensors_find(file, params[0].name[0]);
    cog_dtype dtype = t ? t->dtype : COG_BF16;

    for (int i = 0; i < cfg->head_dim / 2; i++) {
        float exponent = (float)(2 * i) / (float)cfg->head_dim;
        dst[i] = round_to(1.0f / powf((float)cfg->rope_theta, exponent), dtype);
    }
}

static int read_inv_freq(float *dst, const cog_model_config *cfg, const cog_tensor *t, cog_err *err)
{
    int n = cfg->head_dim / 2;
    char found[96];

    if (t->n_dims != 1 || t->dim[0] != n)
        return cog_err_set(err, COG_EFORMAT, "tensor '%s' is %s, expected [%d]", t->name,
                           cog_model_shape_text(found, sizeof(found), t->dim, t->n_dims), n);
    cog_tensor_read(dst, t, 0, (size_t)n);
    for (int i = 0; i < n; i++)
        if (!isfinite(dst[i]))
            return cog_err_set(err, COG_EFORMAT, "tensor '%s': element %d is not finite", t->name,
                               i);
    return 0;
}

int cog_model_inv_freq(float *dst, const cog_model_config *cfg, const cog_safetensors *file,
                       cog_err *err)
{
    size_t n = (size_t)cfg->head_dim / 2;
    float *first = cog_array(float, n), *other = cog_array(float, n);
    int n_stored = 0;
    int rc = 0;

    for (int l = 0; rc == 0 && l < cfg->layers; l++) {
        char name[MAX_NAME];
        const cog_tensor *t =
            cog_safetensors_find(file, full_name(name, DECODER, l, inv_freq_name));
        if (!t)
            continue;
        rc = read_inv_freq(n_stored ? other : first, cfg, t, err);
        if (rc == 0 && n_stored++ && memcmp(first, other, n * sizeof(*first)) != 0)
            rc = cog_err_set(err, COG_EFORMAT,
                             "tensor '%s' differs from the one of an earlier layer; one rotary "
                             "table serves all layers",
                             t->name);
    }
    if (rc == 0 && n_stored)
        memcpy(dst, first, n * sizeof(*dst));
    else if (rc == 0)
        make_inv_freq(dst, cfg, file);
    cog_free(first);
    cog_free(other);
    return rc;
}

/* ------------------------------------------------------------------ load and free */

static cog_weight **weight_at(cog_model *m, const struct param *p, int layer)
{
    char *base = (char *)m;

    if (p->group == DECODER)
        base = (char *)&m->layer[layer];
    else if (p->group == TOWER)
        base = (char *)&m->vit[layer];
    return (cog_weight **)(base + p->at);
}

/* Gives one parameter to the device; *bytes is what it took from the file. */
static int load_param(cog_model *m, size_t *bytes, const struct param *p, int layer,
                      const cog_safetensors *file, cog_err *err)
{
    const cog_tensor *part[MAX_PARTS];
    char name[MAX_NAME];
    int n = 0;
    int rc;

    *bytes = 0;
    while (n < MAX_PARTS && p->name[n]) {
        part[n] = cog_safetensors_find(file, full_name(name, p->group, layer, p->name[n]));
        *bytes += part[n++]->bytes;
    }
    rc = m->ops->weight(m->be, weight_at(m, p, layer), part, n, p->use, err);
    if (rc < 0)
        cog_err_prefix(err, "tensor '%s'", part[0]->name);
    return rc;
}

int cog_model_load(cog_model **out, const cog_model_config *cfg, const cog_safetensors *file,
                   const cog_backend_ops *ops, cog_backend *be,
                   bool (*progress)(void *arg, double fraction), void *arg, cog_err *err)
{
    double all = (double)cog_safetensors_bytes(file), done = 0;
    cog_model *m = cog_new(cog_model);
    size_t bytes;
    int rc = cog_model_check(cfg, file, err);

    m->cfg = *cfg;
    m->ops = ops;
    m->be = be;
    m->vit = cog_array(cog_vit_layer, (size_t)cfg->vision.layers);
    m->layer = cog_array(cog_layer, (size_t)cfg->layers);
    for (size_t i = 0; rc == 0 && i < N_PARAMS; i++)
        for (int l = 0; rc == 0 && l < n_layers(cfg, params[i].group); l++) {
            rc = load_param(m, &bytes, &params[i], l, file, err);
            done += (double)bytes;
            if (rc == 0 && progress && !progress(arg, done / all))
                rc = cog_err_set(err, COG_ECANCELED, "loading was stopped");
        }
    if (rc < 0)
        goto fail;
    if (progress)
        (void)progress(arg, 1.0); /* the buffers are part of the whole and were not counted */
    *out = m;
    return 0;

fail:
    cog_model_free(m);
    return rc;
}

void cog_model_free(cog_model *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < N_PARAMS; i++)
        for (int l = 0; l < n_layers(&m->cfg, params[i].group); l++)
            m->ops->weight_free(m->be, *weight_at(m, &params[i], l));
    cog_free(m->vit);
    cog_free(m->layer);
    cog_free(m);
}

/* ------------------------------------------------------------------ fingerprint */

/* Up to SAMPLES evenly spaced pieces of the tensor; returns how many. */
static int sample(cog_span span[SAMPLES], const cog_tensor *t)
{
    if (t->bytes <= (size_t)SAMPLES * SAMPLE_BYTES) {
        span[0] = (cog_span){ t->data, t->bytes };
        return 1;
    }
    for (size_t i = 0; i < SAMPLES; i++)
        span[i] = (cog_span){ (const char *)t->data + (t->bytes - SAMPLE_BYTES) / (SAMPLES - 1) * i,
                              SAMPLE_BYTES };
    return SAMPLES;
}

uint64_t cog_model_fingerprint(const cog_safetensors *file)
{
    int count = cog_safetensors_count(file), n = 1;
    cog_span *span = cog_array(cog_span, 1 + (size_t)count * SAMPLES);
    cog_buf names = { 0 };
    cog_sha256 digest;
    uint64_t value;

    for (int i = 0; i < count; i++) {
        const cog_tensor *t = cog_safetensors_at(file, i);
        char shape[96];
        cog_buf_printf(&names, "%s %s %s\n", t->name, cog_dtype_name(t->dtype),
                       cog_model_shape_text(shape, sizeof(shape), t->dim, t->n_dims));
        n += sample(span + n, t);
    }
    span[0] = (cog_span){ names.data, names.len };
    digest = cog_sha256_of(span, n);
    memcpy(&value, digest.byte, sizeof(value));
    cog_buf_fini(&names);
    cog_free(span);
    return value;
}
