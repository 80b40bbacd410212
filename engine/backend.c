#include "engine/backend.h"

#include "base/buf.h"

#include <string.h>

size_t cog_kv_block_bytes(const cog_model_config *m, cog_dtype dtype, int block)
{
    return (size_t)m->layers * 2 * (size_t)block * (size_t)m->kv_heads * (size_t)m->head_dim *
           cog_dtype_size(dtype);
}

int cog_device_check(const cog_device_config *cfg, cog_err *err)
{
    const cog_model_config *m = cfg->model;

    if (cfg->max_rows < 1 || cfg->max_seqs < 1 || cfg->max_images < 1 || cfg->n_blocks < 0)
        return cog_err_set(err, COG_EINVAL, "rows, sequences and pictures must be at least 1");
    if (cfg->block < 16 || cfg->block > 256 || (cfg->block & (cfg->block - 1)))
        return cog_err_set(err, COG_EINVAL, "block is %d, must be 16, 32, 64, 128 or 256",
                           cfg->block);
    if (m->head_dim < 2 || m->head_dim % 2 || m->kv_heads < 1 || m->heads % m->kv_heads)
        return cog_err_set(err, COG_EINVAL, "head_dim %d, heads %d, kv_heads %d do not fit",
                           m->head_dim, m->heads, m->kv_heads);
    return 0;
}

static bool row_fits(const cog_batch *b, int r, const cog_device_config *cfg)
{
    int block = b->slot[r] / cfg->block;
    const int32_t *pages;

    if (b->position[r] < 0 || b->position[r] >= cfg->n_positions || b->seq[r] < 0 ||
        b->seq[r] >= b->seqs || b->slot[r] < 0 || block >= b->max_blocks)
        return false;
    pages = b->block_table + (size_t)b->seq[r] * (size_t)b->max_blocks;
    for (int i = 0; i <= block; i++)
        if (pages[i] < 0 || pages[i] >= cfg->n_blocks)
            return false;
    return true;
}

bool cog_batch_fits(const cog_batch *b, const cog_device_config *cfg)
{
    if (b->rows < 0 || b->rows > cfg->max_rows || b->language_rows < 0 ||
        b->language_rows > b->rows || b->n_logits < 0 || b->n_logits > cfg->max_seqs ||
        b->n_draws < 0)
        return false;
    for (int r = 0; r < b->rows; r++)
        if (!row_fits(b, r, cfg))
            return false;
    for (int i = 0; i < b->n_logits; i++)
        if (b->logits_row[i] < 0 || b->logits_row[i] >= b->rows)
            return false;
    for (int i = 0; i < b->n_draws; i++)
        if (b->draw[i].row < 0 || b->draw[i].row >= b->n_logits)
            return false;
    return true;
}

void cog_pixel_table(float pixel[3][256], cog_dtype dtype)
{
    static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
    static const float deviation[3] = { 0.26862954f, 0.26130258f, 0.27577711f };

    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            float y = ((float)v / 255.0f - mean[c]) / deviation[c];
            pixel[c][v] = dtype == COG_BF16 ? cog_round_bf16(y) : y;
        }
    }
}

bool cog_backend_is_built(const cog_backend_ops *ops)
{
    return ops->weight != NULL;
}

int cog_backend_find(const cog_backend_ops *out[COG_MAX_BACKENDS], const char *name, cog_err *err)
{
    static const cog_backend_ops *const known[COG_MAX_BACKENDS] = { &cog_cuda_ops, &cog_cpu_ops };
    cog_buf names = { 0 };
    int n = 0, rc;

    for (int i = 0; i < COG_MAX_BACKENDS; i++)
        if (strcmp(name, "auto") == 0 || strcmp(name, known[i]->name) == 0)
            out[n++] = known[i];
    if (n > 0)
        return n;
    for (int i = 0; i < COG_MAX_BACKENDS; i++)
        if (cog_backend_is_built(known[i]))
            cog_buf_printf(&names, ", %s", known[i]->name);
    rc = cog_err_set(err, COG_EINVAL, "backend '%s' is not known; this build has: auto%s", name,
                     names.data);
    cog_buf_fini(&names);
    return rc;
}
