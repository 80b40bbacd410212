#include "engine/load.h"

#include "base/alloc.h"
#include "base/log.h"
#include "engine/memory_plan.h"
#include "engine/rope.h"
#include "engine/self_check.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* What a self-check depends on. */
typedef struct device_kind {
    const cog_backend_ops *ops;
    cog_dtype dtype;
    int block, heads, kv_heads, head_dim, vision_head_dim;
    float rms_eps, vision_eps;
    bool batch_invariant;
} device_kind;

/* The device is the same for all engines of a process, so one check of a kind is enough; a program
 * that opens many (the tests' do) is not slowed down by the others. */
static struct {
    pthread_mutex_t lock;
    device_kind kind[16];
    int n;
} sound = { .lock = PTHREAD_MUTEX_INITIALIZER };

typedef struct progress_to {
    bool (*fn)(void *arg, double fraction); /* NULL is fine */
    void *arg;
} progress_to;

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

static uint64_t feature_bytes(const cog_device_config *d)
{
    return (uint64_t)d->model->image_tokens * (uint64_t)d->model->hidden * cog_dtype_size(d->dtype);
}

/* Pictures whose features are held: those of the running sequences and of a pass, or as many as
 * the cache is to keep, if that is more. Where memory is shared with the rest of the machine, an
 * eighth of what is free goes to that at most. */
static void choose_features(cog_loaded *l, cog_device_config *d, const cog_backend_ops *ops,
                            uint64_t cache_bytes)
{
    int least = d->max_seqs + d->max_images;
    cog_memory_plan p = { 0 };
    uint64_t n;

    d->max_features = least;
    if (ops->memory(&p, d, NULL) == 0 && p.is_shared && cache_bytes > p.total / 8)
        cache_bytes = p.total / 8;
    n = cache_bytes / feature_bytes(d);
    l->max_cached = n < COG_MAX_CACHED_PICTURES ? (int)n : COG_MAX_CACHED_PICTURES;
    if (l->max_cached > least)
        d->max_features = l->max_cached;
}

/* The first backend that can run the configuration. */
static int choose_backend(cog_loaded *l, cog_device_config *d, cog_memory_plan *plan,
                          const cog_engine_config *cfg, cog_err *err)
{
    const cog_backend_ops *table[COG_MAX_BACKENDS];
    int n = cog_backend_find(table, cfg->backend, err), rc = n;

    for (int i = 0; i < n; i++) {
        cog_err why = { 0 };
        *plan = (cog_memory_plan){ 0 };
        d->max_images = cfg->max_images ? cfg->max_images : table[i]->vision_batch;
        choose_features(l, d, table[i], cfg->image_cache_bytes);
        rc = table[i]->memory(plan, d, &why);
        if (rc == 0) {
            l->ops = table[i];
            l->max_images = d->max_images;
            return 0;
        }
        if (i == n - 1)
            cog_err_set(err, rc, "%s", why.text);
        else if (cog_backend_is_built(table[i]))
            cog_log(rc == COG_EUNSUPPORTED ? COG_INFO : COG_WARN,
                    "event=backend_not_taken backend=%s reason=\"%s\"", table[i]->name, why.text);
    }
    return rc;
}

static void log_plan(const cog_loaded *l, const cog_device_config *d, const cog_memory_plan *p)
{
    uint64_t mib = 1u << 20;

    cog_log(COG_INFO,
            "event=memory_plan backend=%s dtype=%s total_mib=%llu used_mib=%llu weights_mib=%llu "
            "activations_mib=%llu workspace_mib=%llu runtime_mib=%llu kv_mib=%llu kv_pages=%d "
            "kv_page_kib=%llu",
            l->ops->name, cog_dtype_name(d->dtype), (unsigned long long)(p->total / mib),
            (unsigned long long)(p->used / mib), (unsigned long long)(p->weights / mib),
            (unsigned long long)(p->activations / mib), (unsigned long long)(p->workspace / mib),
            (unsigned long long)(cog_memory_runtime(p) / mib),
            (unsigned long long)((uint64_t)d->n_blocks * p->page / mib), d->n_blocks,
            (unsigned long long)(p->page >> 10));
}

/* A moment when loading may be stopped, before anything of the model is on the device. */
static int pause_at(const progress_to *p, cog_err *err)
{
    if (p->fn && !p->fn(p->arg, 0))
        return cog_err_set(err, COG_ECANCELED, "loading was stopped");
    return 0;
}

static int plan_pages(cog_device_config *d, const cog_loaded *l, const cog_memory_plan *plan,
                      const cog_engine_config *cfg, cog_err *err)
{
    return cog_memory_pages(&d->n_blocks, l->ops, d, plan, cfg->kv_bytes,
                            (double)cfg->memory_utilization, err);
}

/* Pictures that nobody has give way to pages. */
static int plan_without_cache(cog_device_config *d, cog_loaded *l, cog_memory_plan *plan,
                              const cog_engine_config *cfg, cog_err *err)
{
    int rc;

    d->max_features = l->max_cached = cfg->max_seqs + d->max_images;
    rc = l->ops->memory(plan, d, err);
    if (rc == 0)
        rc = plan_pages(d, l, plan, cfg, err);
    if (rc == 0)
        cog_log(COG_WARN, "event=image_cache_reduced pictures=%d reason=\"no memory for more\"",
                l->max_cached);
    return rc;
}

static bool is_same_kind(const device_kind *x, const device_kind *y)
{
    return x->ops == y->ops && x->dtype == y->dtype && x->block == y->block &&
           x->heads == y->heads && x->kv_heads == y->kv_heads && x->head_dim == y->head_dim &&
           x->vision_head_dim == y->vision_head_dim && x->rms_eps == y->rms_eps &&
           x->vision_eps == y->vision_eps && x->batch_invariant == y->batch_invariant;
}

static int self_check_once(const cog_backend_ops *ops, const cog_device_config *d, cog_err *err)
{
    const cog_model_config *m = d->model;
    const device_kind kind = { ops,           d->dtype,          d->block,           m->heads,
                               m->kv_heads,   m->head_dim,       m->vision.head_dim, m->rms_eps,
                               m->vision.eps, d->batch_invariant };
    bool known = false;
    int rc;

    pthread_mutex_lock(&sound.lock);
    for (int i = 0; i < sound.n; i++)
        known |= is_same_kind(&sound.kind[i], &kind);
    pthread_mutex_unlock(&sound.lock);
    rc = known ? 0 : cog_self_check(ops, d, err);
    pthread_mutex_lock(&sound.lock);
    if (rc == 0 && !known && sound.n < (int)(sizeof(sound.kind) / sizeof(sound.kind[0])))
        sound.kind[sound.n++] = kind;
    pthread_mutex_unlock(&sound.lock);
    return rc;
}

/* The pages are counted once more after the check: by then the device's libraries and our own
 * machine code are loaded and part of what is used. */
static int check_device(cog_device_config *d, cog_memory_plan *plan, const cog_loaded *l,
                        const cog_engine_config *cfg, cog_err *err)
{
    int rc = self_check_once(l->ops, d, err);

    if (rc == 0)
        rc = l->ops->memory(plan, d, err);
    return rc ? rc : plan_pages(d, l, plan, cfg, err);
}

static int open_device(cog_loaded *l, const cog_engine_config *cfg, cog_dtype dtype,
                       const cog_safetensors *file, const progress_to *progress, cog_err *err)
{
    cog_device_config d = {
        .model = &l->config,
        .dtype = dtype,
        .threads = cfg->threads,
        .max_rows = cfg->step_tokens,
        .max_seqs = cfg->max_seqs,
        .block = cfg->block,
        .weight_bytes = weight_bytes(file, dtype),
        .n_weights = cog_safetensors_count(file),
        .batch_invariant = cfg->batch_invariant,
        .rope_cos = l->rope_cos,
        .rope_sin = l->rope_sin,
        .n_positions = l->config.max_positions,
    };
    cog_memory_plan plan;
    int rc = choose_backend(l, &d, &plan, cfg, err);

    if (rc == 0)
        rc = plan_pages(&d, l, &plan, cfg, err);
    if (rc == COG_ELIMIT && d.max_features > cfg->max_seqs + d.max_images)
        rc = plan_without_cache(&d, l, &plan, cfg, err);
    if (rc == 0)
        rc = pause_at(progress, err);
    if (rc == 0 && l->ops != &cog_cpu_ops)
        rc = check_device(&d, &plan, l, cfg, err);
    if (rc == 0)
        rc = pause_at(progress, err);
    if (rc < 0)
        return rc;
    log_plan(l, &d, &plan);
    l->max_features = d.max_features;
    l->info.n_blocks = d.n_blocks;
    return l->ops->open(&l->be, &d, err);
}

static const char *piece(const void *arg, int32_t token, size_t *len)
{
    return cog_tokenizer_piece(arg, token, len);
}

static void make_trie(cog_loaded *l)
{
    l->trie = cog_trie_new(piece, l->tokenizer, l->info.vocab, l->info.eos, l->info.n_eos);
    l->info.takes_grammars = l->trie->has_bytes;
}

int cog_load(cog_loaded *l, const cog_engine_config *cfg,
             bool (*progress)(void *arg, double fraction), void *arg, cog_err *err)
{
    cog_safetensors *file = NULL;
    const cog_backend_ops *table[COG_MAX_BACKENDS];
    const progress_to to = { progress, arg };
    cog_dtype dtype = COG_BF16;
    int rc = choose_dtype(&dtype, cfg->dtype, err);

    if (rc == 0 && cog_backend_find(table, cfg->backend, err) < 0)
        rc = COG_EINVAL; /* before anything is read */
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
        rc = open_device(l, cfg, dtype, file, &to, err);
    if (rc == 0)
        rc = pause_at(&to, err);
    if (rc == 0)
        rc = cog_model_load(&l->model, &l->config, file, l->ops, l->be, progress, arg, err);
    if (rc == 0) {
        l->info.backend = l->ops->name;
        l->info.device = l->ops->describe(l->be);
        l->info.dtype = cog_dtype_name(dtype);
        l->info.fingerprint = cog_model_fingerprint(file);
        l->info.vocab = l->config.vocab;
        l->info.bos = l->config.bos;
        l->info.eos = l->config.eos;
        l->info.n_eos = l->config.n_eos;
        l->info.context = l->config.max_positions;
        l->info.image_side = l->config.vision.image_side;
        l->info.image_tokens = l->config.image_tokens;
        l->info.default_template = l->config.default_template;
        l->info.block = cfg->block;
        make_trie(l);
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
    cog_trie_free(l->trie);
    cog_tokenizer_close(l->tokenizer);
    cog_free(l->rope_cos);
    cog_free(l->rope_sin);
    memset(l, 0, sizeof(*l));
}
