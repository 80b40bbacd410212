#include "engine/load.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/memory.h"
#include "engine/rope.h"

#include <stdio.h>
#include <string.h>

static int choose_dtype(cog_dtype *out, const char *name, cog_err *err)
{
    if (strcmp(name, "auto") == 0 || strcmp(name, "bf16") == 0)
        *out = COG_BF16;
    else if (strcmp(name, "f32") == 0)
        *out = COG_F32;
    else
        return cog_err_set(err, COG_EINVAL,
                           "dtype '%s' is not in this build; it has: auto, f32, bf16", name);
    return 0;
}

/* What the parameters take in the mode's type. */
static uint64_t weight_bytes(const cog_safetensors *file, cog_dtype dtype)
{
    uint64_t n = 0;

    for (int i = 0; i < cog_safetensors_count(file); i++) {
        const cog_tensor *t = cog_safetensors_at(file, i);
        n += t->bytes / cog_dtype_size(t->dtype);
    }
    return n * cog_dtype_size(dtype);
}

/* Pages for the pool: what was asked for, or room for every sequence's whole context within a
 * quarter of the memory that is left; never less than one context, or some request could never run.
 */
static int size_pool(int *n_blocks, const cog_engine_config *cfg, const cog_model_config *m,
                     cog_dtype dtype, uint64_t weight_bytes, cog_err *err)
{
    uint64_t page = cog_kv_block_bytes(m, dtype, cfg->block);
    uint64_t least = (uint64_t)(m->max_positions + cfg->block - 1) / (uint64_t)cfg->block;
    uint64_t n;

    if (cfg->kv_bytes) {
        n = cfg->kv_bytes / page;
        if (n < least)
            return cog_err_set(err, COG_ELIMIT,
                               "a KV cache of %llu MiB does not hold one context of %d tokens: "
                               "give at least %llu MiB",
                               (unsigned long long)(cfg->kv_bytes >> 20), m->max_positions,
                               (unsigned long long)((least * page + (1u << 20) - 1) >> 20));
    } else {
        uint64_t memory = cog_memory_available();
        uint64_t quarter = (memory > weight_bytes ? memory - weight_bytes : 0) / 4 / page;
        n = least * (uint64_t)cfg->max_seqs;
        n = n > quarter ? quarter : n;
        n = n < least ? least : n;
    }
    *n_blocks = n > INT32_MAX / 2 ? INT32_MAX / 2 : (int)n;
    return 0;
}

static int make_rope(cog_loaded *l, const cog_safetensors *file, cog_dtype dtype, cog_err *err)
{
    const cog_model_config *m = &l->config;
    int n_freq = m->head_dim / 2;
    size_t n = (size_t)m->max_positions * (size_t)n_freq;
    float *inv_freq = cog_array(float, (size_t)n_freq);
    int rc = cog_model_inv_freq(inv_freq, m, file, err);

    if (rc == 0) {
        l->rope_cos = cog_array(float, n);
        l->rope_sin = cog_array(float, n);
        cog_rope_tables(l->rope_cos, l->rope_sin, inv_freq, n_freq, m->max_positions, dtype);
    }
    cog_free(inv_freq);
    return rc;
}

static int open_device(cog_loaded *l, const cog_engine_config *cfg, cog_dtype dtype,
                       const cog_safetensors *file, cog_err *err)
{
    cog_device_config d = {
        .model = &l->config,
        .dtype = dtype,
        .threads = cfg->threads,
        .max_rows = cfg->step_tokens,
        .max_seqs = cfg->max_seqs,
        .max_images = l->max_images,
        .block = cfg->block,
        .rope_cos = l->rope_cos,
        .rope_sin = l->rope_sin,
        .n_positions = l->config.max_positions,
    };
    int rc = size_pool(&d.n_blocks, cfg, &l->config, dtype, weight_bytes(file, dtype), err);

    if (rc == 0)
        rc = l->ops->open(&l->be, &d, err);
    l->info.n_blocks = d.n_blocks;
    return rc;
}

int cog_load(cog_loaded *l, const cog_engine_config *cfg,
             bool (*progress)(void *arg, double fraction), void *arg, cog_err *err)
{
    cog_safetensors *file = NULL;
    cog_dtype dtype = COG_BF16;
    int rc = choose_dtype(&dtype, cfg->dtype, err);

    if (rc == 0)
        rc = cog_backend_find(&l->ops, cfg->backend, err);
    if (rc == 0)
        l->max_images = cfg->max_images ? cfg->max_images : l->ops->vision_batch;
    if (rc == 0)
        rc = cog_model_config_load(&l->config, cfg->model_dir, err);
    if (rc == 0)
        rc = cog_tokenizer_open(&l->tokenizer, cfg->model_dir, l->config.vocab, l->config.bos, err);
    if (rc == 0)
        rc = cog_safetensors_open(&file, cfg->model_dir, err);
    if (rc == 0)
        rc = cog_model_check(&l->config, file, err);
    if (rc == 0)
        rc = make_rope(l, file, dtype, err);
    if (rc == 0)
        rc = open_device(l, cfg, dtype, file, err);
    if (rc == 0)
        rc = cog_model_load(&l->model, &l->config, file, l->ops, l->be, progress, arg, err);
    if (rc == 0) {
        l->info.backend = l->ops->name;
        l->info.device = l->ops->describe(l->be);
        l->info.dtype = cog_dtype_name(dtype);
        l->info.fingerprint = cog_model_fingerprint(file);
        l->info.vocab = l->config.vocab;
        l->info.context = l->config.max_positions;
        l->info.image_side = l->config.vision.image_side;
        l->info.image_tokens = l->config.image_tokens;
        l->info.default_template = l->config.default_template;
        l->info.block = cfg->block;
        cog_log(COG_INFO, "event=loaded device=\"%s\" dtype=%s context=%d kv_pages=%d kv_mib=%zu",
                l->info.device, l->info.dtype, l->info.context, l->info.n_blocks,
                (size_t)l->info.n_blocks * cog_kv_block_bytes(&l->config, dtype, cfg->block) >> 20);
    }
    cog_safetensors_close(file);
    return rc;
}

void cog_unload(cog_loaded *l)
{
    cog_model_free(l->model);
    if (l->be)
        l->ops->close(l->be);
    cog_tokenizer_close(l->tokenizer);
    cog_free(l->rope_cos);
    cog_free(l->rope_sin);
    memset(l, 0, sizeof(*l));
}
