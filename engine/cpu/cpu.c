/* cpu.c - the CPU backend's table, opening and closing, activations. */
#include "engine/cpu/cpu.h"

#include "base/alloc.h"
#include "base/memory.h"
#include "engine/cpu/cpuflags.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { HUGE_PAGE = 2 << 20 };

void *cog_cpu_mem(size_t n, size_t size)
{
    size_t bytes;
    void *p;

    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    if (bytes < 2 * (size_t)HUGE_PAGE)
        return posix_memalign(&p, 64, bytes ? bytes : 1) == 0 ? p : NULL;
    bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (posix_memalign(&p, HUGE_PAGE, bytes) != 0)
        return NULL;
    madvise(p, bytes, MADV_HUGEPAGE); /* a wish: refusing it costs speed only */
    return p;
}

static size_t leading(int cols, size_t elem)
{
    size_t ld = ((size_t)cols + 31) / 32 * 32;

    /* Rows a multiple of 4 KiB apart would share their cache sets. */
    return ld * elem % 4096 == 0 ? ld + 32 : ld;
}

int cog_cpu_act_new(cog_backend *be, cog_act **out, int rows, int cols)
{
    cog_act *a;

    if (rows < 1 || cols < 1 || cols > INT_MAX / 8)
        return COG_EINVAL;
    a = cog_new(cog_act);
    a->rows = rows;
    a->cols = cols;
    a->ld = leading(cols, be->elem);
    a->data = cog_cpu_mem((size_t)rows, a->ld * be->elem);
    if (!a->data) {
        cog_free(a);
        return COG_ENOMEM;
    }
    *out = a;
    return 0;
}

void cog_cpu_act_free(cog_backend *be, cog_act *a)
{
    if (!a)
        return;
    free(a->data);
    cog_free(a);
}

static int act_read(cog_backend *be, float *dst, const cog_act *a, int first, int rows)
{
    if (first < 0 || rows < 0 || rows > a->rows - first)
        return COG_EINVAL;
    for (int r = 0; r < rows; r++)
        be->kern.to_float(dst + (size_t)r * (size_t)a->cols, cog_cpu_at(be, a, first + r, 0),
                          a->cols);
    return 0;
}

static int act_write(cog_backend *be, cog_act *a, const float *src, int first, int rows)
{
    if (first < 0 || rows < 0 || rows > a->rows - first)
        return COG_EINVAL;
    for (int r = 0; r < rows; r++)
        be->kern.from_float(cog_cpu_at(be, a, first + r, 0), src + (size_t)r * (size_t)a->cols,
                            a->cols);
    return 0;
}

/* ---- open ---- */

static int check_config(const cog_device_config *c, cog_err *err)
{
    if (c->dtype != COG_F32 && c->dtype != COG_BF16)
        return cog_err_set(err, COG_EUNSUPPORTED, "the cpu backend computes in f32 or bf16");
    return cog_device_check(c, err);
}

static int open_threads(cog_backend *be)
{
    const cog_model_config *m = &be->model;
    int n = cog_pool_threads(be->pool);
    int head_dim = m->head_dim > m->vision.head_dim ? m->head_dim : m->vision.head_dim;
    int cols = m->hidden > m->vision.hidden ? m->hidden : m->vision.hidden;

    if (cols < m->vision.patch)
        cols = m->vision.patch;
    be->thread = cog_array(cog_cpu_thread, (size_t)n);
    for (int i = 0; i < n; i++) {
        cog_cpu_thread *t = &be->thread[i];
        t->acc = cog_cpu_mem((size_t)COG_GEMM_ROWS * COG_PANEL, sizeof(float));
        t->attn = cog_cpu_mem(cog_attn_scratch(head_dim), sizeof(float));
        t->row = cog_cpu_mem((size_t)cols, sizeof(float));
        if (!t->acc || !t->attn || !t->row)
            return COG_ENOMEM;
    }
    return 0;
}

enum { N_ACTS = 9 };

typedef struct act_shape {
    int rows, cols;
} act_shape;

/* What lies between kernels; the order is that of open_acts. */
static void list_acts(act_shape out[N_ACTS], const cog_device_config *cfg)
{
    const cog_model_config *m = cfg->model;
    int chunk = cfg->max_rows > COG_CPU_CHUNK ? cfg->max_rows : COG_CPU_CHUNK;
    int patch = 3 * m->vision.patch * m->vision.patch;
    const act_shape want[N_ACTS] = {
        { chunk, m->hidden },
        { cfg->max_rows, (m->heads + 2 * m->kv_heads) * m->head_dim },
        { cfg->max_rows, m->heads * m->head_dim },
        { chunk, 2 * m->inter },
        { chunk, m->inter },
        { m->vision.tokens, 3 * m->vision.hidden },
        { m->vision.tokens, m->vision.hidden },
        { m->vision.tokens, m->vision.hidden },
        { COG_CPU_CHUNK, m->vision.inter > patch ? m->vision.inter : patch },
    };

    memcpy(out, want, sizeof(want));
}

static int open_acts(cog_backend *be)
{
    cog_act **const act[N_ACTS] = { &be->norm,      &be->qkv,     &be->mixed,
                                    &be->gate_up,   &be->inner,   &be->vit_qkv,
                                    &be->vit_mixed, &be->vit_out, &be->vit_inner };
    act_shape shape[N_ACTS];

    list_acts(shape, &be->cfg);
    for (int i = 0; i < N_ACTS; i++) {
        int rc = cog_cpu_act_new(be, act[i], shape[i].rows, shape[i].cols);
        if (rc < 0)
            return rc;
    }
    be->logits = cog_cpu_mem((size_t)be->cfg.max_seqs * (size_t)be->model.vocab, sizeof(float));
    be->sampler = cog_sampler_new(be->model.vocab);
    return be->logits ? 0 : COG_ENOMEM;
}

static int open_kv(cog_backend *be)
{
    const cog_model_config *m = &be->model;
    size_t tiles = (size_t)(m->vision.tokens + COG_TILE - 1) / COG_TILE;

    be->kv_tile = cog_tile_elements(m->head_dim) * be->elem;
    be->kv_head = (size_t)(be->cfg.block / COG_TILE) * be->kv_tile;
    be->kv_part = (size_t)m->kv_heads * be->kv_head;
    be->kv_layer = 2 * be->kv_part;
    be->kv_page = (size_t)m->layers * be->kv_layer;
    be->kv = cog_cpu_mem((size_t)be->cfg.n_blocks, be->kv_page);

    be->vit_tile = cog_tile_elements(m->vision.head_dim) * be->elem;
    be->vit_part = tiles * be->vit_tile;
    be->vit_kv = cog_cpu_mem(2 * (size_t)m->vision.heads, be->vit_part);
    be->run = cog_array(int, (size_t)be->cfg.max_rows + 1);
    return be->kv && be->vit_kv ? 0 : COG_ENOMEM;
}

static void describe_device(cog_backend *be)
{
    char cpu[49] = "CPU";
#if defined(__x86_64__)
    unsigned id[12];
    bool has_brand = true;

    for (unsigned i = 0; i < 3; i++)
        has_brand &= __get_cpuid(0x80000002u + i, &id[4 * i], &id[4 * i + 1], &id[4 * i + 2],
                                 &id[4 * i + 3]) != 0;
    if (has_brand)
        memcpy(cpu, id, sizeof(id));
    for (size_t n = strlen(cpu); n > 0 && cpu[n - 1] == ' '; n--)
        cpu[n - 1] = 0;
#endif
    snprintf(be->text, sizeof(be->text), "%s, %s, %d threads", cpu, be->kern.isa,
             cog_pool_threads(be->pool));
}

static void close_backend(cog_backend *be)
{
    if (!be)
        return;
    for (int i = 0; be->thread && i < cog_pool_threads(be->pool); i++) {
        free(be->thread[i].acc);
        free(be->thread[i].attn);
        free(be->thread[i].row);
    }
    cog_free(be->thread);
    cog_pool_close(be->pool);
    cog_act *const acts[] = { be->norm,    be->qkv,       be->mixed,   be->gate_up,  be->inner,
                              be->vit_qkv, be->vit_mixed, be->vit_out, be->vit_inner };
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
        cog_cpu_act_free(be, acts[i]);
    free(be->logits);
    cog_sampler_free(be->sampler);
    free(be->kv);
    free(be->vit_kv);
    cog_free(be->run);
    cog_free(be);
}

/* With what forward.c keeps: the residual streams and the pictures' features. */
static int memory(cog_memory_plan *out, const cog_device_config *cfg, cog_err *err)
{
    const cog_model_config *m = cfg->model;
    size_t elem = cog_dtype_size(cfg->dtype);
    act_shape shape[N_ACTS + 3];
    int rc = check_config(cfg, err);

    if (rc < 0)
        return rc;
    list_acts(shape, cfg);
    shape[N_ACTS] = (act_shape){ cfg->max_rows, m->hidden };
    shape[N_ACTS + 1] = (act_shape){ cfg->max_images * m->vision.tokens, m->vision.hidden };
    shape[N_ACTS + 2] = (act_shape){ cfg->max_features * m->image_tokens, m->hidden };
    *out = (cog_memory_plan){ .total = cog_memory_available(),
                              .is_shared = true,
                              .weights = cfg->weight_bytes,
                              .page = cog_kv_block_bytes(m, cfg->dtype, cfg->block) };
    for (int i = 0; i < N_ACTS + 3; i++)
        out->activations += (uint64_t)shape[i].rows * leading(shape[i].cols, elem) * elem;
    out->activations += (uint64_t)cfg->max_seqs * (uint64_t)m->vocab * sizeof(float);
    return 0;
}

static int open_backend(cog_backend **out, const cog_device_config *cfg, cog_err *err)
{
    cog_backend *be;
    int rc = check_config(cfg, err);

    if (rc < 0)
        return rc;
    if (cfg->n_blocks < 1)
        return cog_err_set(err, COG_EINVAL, "a KV pool of %d pages holds nothing", cfg->n_blocks);
    be = cog_alloc_aligned(sizeof(*be), 64);
    be->cfg = *cfg;
    be->model = *cfg->model;
    be->elem = cog_dtype_size(cfg->dtype);
    cog_kernels_get(&be->kern, cfg->dtype, cog_cpu_flags());
    rc = cog_pool_open(&be->pool, cfg->threads, err);
    if (rc < 0)
        goto fail;
    rc = open_threads(be);
    if (rc == 0)
        rc = open_acts(be);
    if (rc == 0)
        rc = open_kv(be);
    if (rc < 0) {
        cog_err_set(err, rc, "no memory for %d pages of KV and the activations of %d rows",
                    cfg->n_blocks, cfg->max_rows);
        goto fail;
    }
    cog_pixel_table(be->pixel, be->kern.dtype);
    describe_device(be);
    *out = be;
    return 0;

fail:
    close_backend(be);
    return rc;
}

static const char *describe(const cog_backend *be)
{
    return be->text;
}

/* Nothing runs late here. */
static int vision_poll(cog_backend *be, bool wait, bool *idle, uint64_t *busy_ns)
{
    *idle = true;
    *busy_ns = be->vision_ns;
    be->vision_ns = 0;
    return 0;
}

const cog_backend_ops cog_cpu_ops = {
    .name = "cpu",
    .vision_batch = 1, /* one picture fills the products; a second would only make it wait */
    .memory = memory,
    .open = open_backend,
    .close = close_backend,
    .describe = describe,
    .weight = cog_cpu_weight,
    .weight_random = cog_cpu_weight_random,
    .weight_free = cog_cpu_weight_free,
    .act_new = cog_cpu_act_new,
    .act_free = cog_cpu_act_free,
    .act_read = act_read,
    .act_write = act_write,
    .vit_embed = cog_cpu_vit_embed,
    .vit_block = cog_cpu_vit_block,
    .vit_project = cog_cpu_vit_project,
    .vision_poll = vision_poll,
    .step_begin = cog_cpu_step_begin,
    .embed = cog_cpu_embed,
    .attention = cog_cpu_attention,
    .ffn = cog_cpu_ffn,
    .logits = cog_cpu_logits,
    .sample = cog_cpu_sample,
    .logits_read = cog_cpu_logits_read,
    .logits_row = cog_cpu_logits_row,
    .kv_copy = cog_cpu_kv_copy,
};
