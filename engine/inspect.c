/* inspect.c - what a checkpoint folder is, whether it will load, and what it takes. Reads headers
 * only; each of configuration, weights and tokenizer is looked at even when another one is broken.
 */
#include "base/alloc.h"
#include "base/utf8.h"
#include "engine/backend.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/model_config.h"
#include "engine/safetensors.h"
#include "engine/tokenizer.h"

#include <jansson.h>
#include <string.h>

enum { MAX_LISTED = 20, MAX_PROBLEMS = 6, N_DTYPES = 3 };

struct report {
    const char *dir;
    cog_err problem[MAX_PROBLEMS]; /* the first is the reason */
    int n_problems;

    bool has_config;
    cog_model_config cfg;

    cog_safetensors *file; /* NULL when the weights do not open */
    int n_dtype[N_DTYPES]; /* tensors by type */
    int n_wanted, n_fault[COG_N_FAULTS];
    char *line[COG_N_FAULTS][MAX_LISTED]; /* owned: the first of each fault */
    int64_t elements[COG_N_PARTS];        /* as the configuration asks for */

    cog_tokenizer *tokenizer; /* NULL when it does not open */
};

static const char *const part_name[COG_N_PARTS] = {
    [COG_PART_EMBEDDING] = "embedding",   [COG_PART_LANGUAGE] = "language experts",
    [COG_PART_VISION] = "vision experts", [COG_PART_NORM] = "decoder norms",
    [COG_PART_TOWER] = "vision tower",    [COG_PART_ADAPTER] = "adapter",
    [COG_PART_BUFFER] = "buffers",
};

static const char *const fault_name[COG_N_FAULTS] = {
    [COG_TENSOR_FINE] = "fine",       [COG_TENSOR_FOREIGN] = "foreign",
    [COG_TENSOR_SHAPE] = "misshapen", [COG_TENSOR_MISSING] = "missing",
    [COG_TENSOR_SURPLUS] = "surplus",
};

/* ------------------------------------------------------------------ gathering */

static void add_problem(struct report *r, int rc, const cog_err *err)
{
    if (rc < 0 && r->n_problems < MAX_PROBLEMS)
        r->problem[r->n_problems++] = *err;
}

static char *describe(const cog_tensor_item *item)
{
    char found[96] = "", expected[96] = "";

    if (item->found)
        cog_model_shape_text(found, sizeof(found), item->found->dim, item->found->n_dims);
    if (item->expected)
        cog_model_shape_text(expected, sizeof(expected), item->expected, item->n_dims);
    switch (item->fault) {
    case COG_TENSOR_SHAPE:
        return cog_sprintf("%s is %s, expected %s", item->name, found, expected);
    case COG_TENSOR_MISSING:
        return cog_sprintf("%s %s", item->name, expected);
    case COG_TENSOR_FOREIGN:
        return cog_sprintf("%s %s %s", item->name, found, item->reason);
    default:
        return cog_sprintf("%s %s", item->name, found);
    }
}

static void count_tensor(void *arg, const cog_tensor_item *item)
{
    struct report *r = arg;
    int64_t n = 1;

    if (item->expected) {
        for (int i = 0; i < item->n_dims; i++)
            n *= item->expected[i];
        r->elements[item->part] += n;
        r->n_wanted++;
    }
    if (item->fault != COG_TENSOR_FINE && r->n_fault[item->fault] < MAX_LISTED)
        r->line[item->fault][r->n_fault[item->fault]] = describe(item);
    r->n_fault[item->fault]++;
}

static void gather_weights(struct report *r)
{
    cog_err err = { 0 };
    float *inv_freq;
    int rc = cog_safetensors_open(&r->file, r->dir, &err);

    if (rc < 0) {
        add_problem(r, rc, &err);
        return;
    }
    for (int i = 0; i < cog_safetensors_count(r->file); i++)
        r->n_dtype[cog_safetensors_at(r->file, i)->dtype]++;
    if (!r->has_config)
        return;
    cog_model_visit(&r->cfg, r->file, count_tensor, r);
    rc = cog_model_check(&r->cfg, r->file, &err);
    if (rc == 0) {
        inv_freq = cog_array(float, (size_t)r->cfg.head_dim / 2);
        rc = cog_model_inv_freq(inv_freq, &r->cfg, r->file, &err);
        cog_free(inv_freq);
    }
    add_problem(r, rc, &err);
}

static void gather_tokenizer(struct report *r)
{
    cog_err err = { 0 };
    int vocab = r->has_config ? r->cfg.vocab : INT32_MAX;
    int32_t bos = r->has_config ? r->cfg.bos : -1;

    add_problem(r, cog_tokenizer_open(&r->tokenizer, r->dir, vocab, bos, &err), &err);
}

static void gather(struct report *r)
{
    cog_err err = { 0 };
    int rc = cog_model_config_load(&r->cfg, r->dir, &err);

    r->has_config = rc == 0;
    add_problem(r, rc, &err);
    gather_weights(r);
    gather_tokenizer(r);
}

static int64_t parameters(const struct report *r)
{
    int64_t n = 0;

    for (int i = 0; i < COG_N_PARTS; i++)
        n += i == COG_PART_BUFFER ? 0 : r->elements[i];
    return n;
}

/* ------------------------------------------------------------------ as JSON */

/* Paths are any bytes, and a message that was cut may end inside a character. */
static json_t *text_json(const char *text)
{
    size_t len = strlen(text);
    char *valid = cog_alloc(len + 1, 3);
    json_t *out = json_stringn(valid, cog_utf8_sanitize(valid, text, len));

    cog_free(valid);
    return out;
}

static json_t *tensors_json(const struct report *r)
{
    json_t *types = json_object(), *out;

    for (int d = 0; d < N_DTYPES; d++)
        json_object_set_new(types, cog_dtype_name((cog_dtype)d), json_integer(r->n_dtype[d]));
    out = json_pack("{s:i, s:I, s:o}", "found", cog_safetensors_count(r->file), "bytes",
                    (json_int_t)cog_safetensors_bytes(r->file), "by_dtype", types);
    if (!r->has_config)
        return out;
    json_object_set_new(out, "expected", json_integer(r->n_wanted));
    for (int f = COG_TENSOR_FOREIGN; f < COG_N_FAULTS; f++) {
        json_t *list = json_array();
        for (int i = 0; i < r->n_fault[f] && i < MAX_LISTED; i++)
            json_array_append_new(list, text_json(r->line[f][i]));
        json_object_set_new(out, fault_name[f],
                            json_pack("{s:i, s:o}", "count", r->n_fault[f], "first", list));
    }
    return out;
}

static json_t *memory_json(const struct report *r, cog_dtype dtype)
{
    json_int_t kv = (json_int_t)cog_kv_block_bytes(&r->cfg, dtype, 1);

    return json_pack("{s:I, s:I, s:I}", "weights",
                     (json_int_t)parameters(r) * (json_int_t)cog_dtype_size(dtype), "kv_per_token",
                     kv, "kv_of_a_full_context", kv * r->cfg.max_positions);
}

static void add_config(json_t *out, const struct report *r)
{
    const cog_model_config *c = &r->cfg;

    json_object_set_new(out, "family", json_string("CogVLM"));
    json_object_set_new(out, "template", json_string(cog_template_name(c->default_template)));
    json_object_set_new(out, "context", json_integer(c->max_positions));
    json_object_set_new(out, "image_tokens", json_integer(c->image_tokens));
    json_object_set_new(out, "decoder",
                        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f}", "vocab", c->vocab,
                                  "layers", c->layers, "hidden", c->hidden, "inter", c->inter,
                                  "heads", c->heads, "kv_heads", c->kv_heads, "head_dim",
                                  c->head_dim, "rms_eps", (double)c->rms_eps));
    json_object_set_new(
        out, "vision",
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f}", "layers", c->vision.layers,
                  "hidden", c->vision.hidden, "inter", c->vision.inter, "heads", c->vision.heads,
                  "head_dim", c->vision.head_dim, "image_side", c->vision.image_side, "patch",
                  c->vision.patch, "tokens", c->vision.tokens, "eps", (double)c->vision.eps));
}

static void add_parameters(json_t *out, const struct report *r)
{
    json_t *parts = json_object();

    for (int i = 0; i < COG_N_PARTS; i++) {
        char key[32];
        snprintf(key, sizeof(key), "%s", part_name[i]);
        for (char *c = strchr(key, ' '); c; c = strchr(c, ' '))
            *c = '_';
        json_object_set_new(parts, key, json_integer(r->elements[i]));
    }
    json_object_set_new(parts, "total", json_integer(parameters(r)));
    json_object_set_new(out, "parameters", parts);
    json_object_set_new(
        out, "memory",
        json_pack("{s:o, s:o}", "f32", memory_json(r, COG_F32), "bf16", memory_json(r, COG_BF16)));
}

static void print_json(FILE *out, const struct report *r)
{
    json_t *root = json_object(), *problems = json_array();

    json_object_set_new(root, "directory", text_json(r->dir));
    json_object_set_new(root, "loads", json_boolean(r->n_problems == 0));
    for (int i = 0; i < r->n_problems; i++)
        json_array_append_new(problems, text_json(r->problem[i].text));
    json_object_set_new(root, "problems", problems);
    if (r->has_config)
        add_config(root, r);
    if (r->file)
        json_object_set_new(root, "tensors", tensors_json(r));
    if (r->has_config && r->file)
        add_parameters(root, r);
    if (r->tokenizer)
        json_object_set_new(
            root, "tokenizer",
            json_pack("{s:i, s:i, s:i, s:i}", "pieces", cog_tokenizer_size(r->tokenizer), "bos",
                      cog_tokenizer_bos(r->tokenizer), "eos", cog_tokenizer_eos(r->tokenizer),
                      "unk", cog_tokenizer_unk(r->tokenizer)));
    json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(7));
    fputc('\n', out);
    json_decref(root);
}

/* ------------------------------------------------------------------ for people */

/* "35.28 GB", powers of ten; returns dst. */
static const char *size_text(char dst[32], double bytes)
{
    static const char *const unit[] = { "B", "kB", "MB", "GB", "TB", "PB" };
    int u = 0;

    while (bytes >= 999.5 && u < 5) {
        bytes /= 1000;
        u++;
    }
    snprintf(dst, 32, "%.*f %s", u == 0 ? 0 : 2, bytes, unit[u]);
    return dst;
}

static void print_config(FILE *out, const struct report *r)
{
    const cog_model_config *c = &r->cfg;

    fprintf(out, "model       CogVLM, template %s, context of %d tokens\n",
            cog_template_name(c->default_template), c->max_positions);
    fprintf(out, "decoder     %d layers, hidden %d, inner %d, %d heads of %d, vocabulary %d\n",
            c->layers, c->hidden, c->inter, c->heads, c->head_dim, c->vocab);
    fprintf(out, "tower       %d layers, hidden %d, inner %d, %d heads of %d\n", c->vision.layers,
            c->vision.hidden, c->vision.inter, c->vision.heads, c->vision.head_dim);
    fprintf(out, "picture     %d x %d pixels, patches of %d: %d tokens of the context\n",
            c->vision.image_side, c->vision.image_side, c->vision.patch, c->image_tokens);
}

static void print_tensors(FILE *out, const struct report *r)
{
    char bytes[32];

    fprintf(out, "tensors     %d in %s:", cog_safetensors_count(r->file),
            size_text(bytes, (double)cog_safetensors_bytes(r->file)));
    for (int d = 0; d < N_DTYPES; d++)
        if (r->n_dtype[d])
            fprintf(out, " %d %s", r->n_dtype[d], cog_dtype_name((cog_dtype)d));
    if (r->has_config)
        fprintf(out, "; %d expected, %d missing, %d misshapen, %d surplus", r->n_wanted,
                r->n_fault[COG_TENSOR_MISSING], r->n_fault[COG_TENSOR_SHAPE],
                r->n_fault[COG_TENSOR_SURPLUS] + r->n_fault[COG_TENSOR_FOREIGN]);
    fprintf(out, "\n");
    for (int f = COG_TENSOR_FOREIGN; f < COG_N_FAULTS; f++) {
        for (int i = 0; i < r->n_fault[f] && i < MAX_LISTED; i++)
            fprintf(out, "  %-9s %s\n", fault_name[f], r->line[f][i]);
        if (r->n_fault[f] > MAX_LISTED)
            fprintf(out, "  %-9s ... and %d more\n", fault_name[f], r->n_fault[f] - MAX_LISTED);
    }
}

static void print_row(FILE *out, const char *name, int64_t elements)
{
    char f32[32], bf16[32];

    fprintf(out, "  %-20s %16lld %12s %12s\n", name, (long long)elements,
            size_text(f32, 4.0 * (double)elements), size_text(bf16, 2.0 * (double)elements));
}

static void print_memory(FILE *out, const struct report *r)
{
    int64_t kv = (int64_t)cog_kv_block_bytes(&r->cfg, COG_F32, 1) / 4;

    fprintf(out, "memory               %17s %12s %12s\n", "elements", "f32", "bf16");
    for (int i = 0; i < COG_N_PARTS; i++)
        if (i != COG_PART_BUFFER)
            print_row(out, part_name[i], r->elements[i]);
    print_row(out, "all weights", parameters(r));
    print_row(out, "KV of one token", kv);
    print_row(out, "KV of a full context", kv * r->cfg.max_positions);
}

static void print_text(FILE *out, const struct report *r)
{
    fprintf(out, "folder      %s\n", r->dir);
    if (r->has_config)
        print_config(out, r);
    if (r->tokenizer)
        fprintf(out, "tokenizer   %d pieces, begin %d, end %d, unknown %d\n",
                cog_tokenizer_size(r->tokenizer), cog_tokenizer_bos(r->tokenizer),
                cog_tokenizer_eos(r->tokenizer), cog_tokenizer_unk(r->tokenizer));
    if (r->file)
        print_tensors(out, r);
    if (r->has_config && r->file)
        print_memory(out, r);
    if (r->n_problems == 0)
        fprintf(out, "verdict     will load\n");
    for (int i = 0; i < r->n_problems; i++)
        fprintf(out, "%s%s\n",
                i ? "            " : "verdict     will not load: ", r->problem[i].text);
}

int cog_inspect(FILE *out, const char *dir, bool as_json, cog_err *err)
{
    struct report *r = cog_new(struct report);
    int rc = 0;

    r->dir = dir;
    gather(r);
    if (as_json)
        print_json(out, r);
    else
        print_text(out, r);
    if (r->n_problems > 0)
        rc = cog_err_set(err, r->problem[0].code, "%s", r->problem[0].text);
    for (int f = 0; f < COG_N_FAULTS; f++)
        for (int i = 0; i < MAX_LISTED; i++)
            cog_free(r->line[f][i]);
    cog_tokenizer_close(r->tokenizer);
    cog_safetensors_close(r->file);
    cog_free(r);
    return rc;
}
