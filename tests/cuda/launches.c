/* launches.c - every kernel's launches for the shapes of the published models, without a GPU: the
 * real launchers, linked with a runtime that only writes down. One line for each launch:
 *
 *     SYMBOL GRID_X GRID_Y GRID_Z BLOCK_X BLOCK_Y BLOCK_Z SHARED
 *
 * gates.py holds them against each architecture's limits. */
#include "base/err.h"
#include "engine/cuda/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the runtime ---- */

enum { MAX_KERNELS = 256 };

static struct {
    const void *host;
    const char *symbol;
} kernels[MAX_KERNELS];
static int n_kernels;

void **__cudaRegisterFatBinary(void *fat);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *symbol,
                            int limit, void *tid, void *bid, void *block, void *grid, int *warp);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream);
cudaError_t __cudaGetKernel(void **kernel, const void *host);
cudaError_t __cudaLaunchKernel(void *kernel, dim3 grid, dim3 block, void **args, size_t shared,
                               cudaStream_t stream);

void **__cudaRegisterFatBinary(void *fat)
{
    static void *handle;

    return &handle;
}

void __cudaRegisterFatBinaryEnd(void **handle)
{
}

void __cudaUnregisterFatBinary(void **handle)
{
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *symbol,
                            int limit, void *tid, void *bid, void *block, void *grid, int *warp)
{
    if (n_kernels == MAX_KERNELS)
        abort();
    kernels[n_kernels].host = host;
    kernels[n_kernels++].symbol = symbol;
}

/* Behind <<<>>>, which the project does not use; objects name them all the same. */
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream)
{
    abort();
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream)
{
    abort();
}

cudaError_t __cudaGetKernel(void **kernel, const void *host)
{
    abort();
}

cudaError_t __cudaLaunchKernel(void *kernel, dim3 grid, dim3 block, void **args, size_t shared,
                               cudaStream_t stream)
{
    abort();
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

/* Whatever decides about a grid: the most that any architecture has, so that it is at its largest.
 */
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    if (attr != cudaDevAttrMultiProcessorCount)
        abort();
    *value = 192;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel)
{
    memset(attributes, 0, sizeof(*attributes));
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *c, const void *kernel, void **args)
{
    for (int i = 0; i < n_kernels; i++)
        if (kernels[i].host == kernel) {
            printf("%s %u %u %u %u %u %u %zu\n", kernels[i].symbol, c->gridDim.x, c->gridDim.y,
                   c->gridDim.z, c->blockDim.x, c->blockDim.y, c->blockDim.z, c->dynamicSmemBytes);
            return cudaSuccess;
        }
    fprintf(stderr, "a kernel that was never registered is launched\n");
    exit(1);
}

int cog_cuda_check(cudaError_t error, const char *what)
{
    return error == cudaSuccess ? 0 : COG_EDEVICE;
}

/* ---- the models ---- */

typedef struct model {
    int vocab, hidden, inter, heads, kv_heads, head_dim, context;
    int vit_hidden, vit_heads, vit_head_dim, vit_inter, patch, tokens, image_tokens, max_images;
} model;

static const model models[] = {
    /* CogVLM-17B, CogVLM2-19B */
    { 32000, 4096, 11008, 32, 32, 128, 2048, 1792, 16, 112, 15360, 14, 1226, 1227, 8 },
    { 128256, 4096, 14336, 32, 8, 128, 8192, 1792, 16, 112, 15360, 14, 9217, 2306, 2 },
    /* sizes for which other kernels are chosen: odd ones, wide rows, other heads and groups */
    { 259, 160, 85, 8, 2, 20, 256, 50, 3, 32, 81, 7, 17, 18, 2 },
    { 1000, 1024, 512, 4, 1, 256, 256, 2048, 16, 128, 80, 7, 17, 18, 2 },
    { 1000, 1024, 512, 8, 1, 128, 256, 4096, 64, 64, 80, 7, 17, 18, 2 },
    { 1000, 512, 512, 4, 2, 128, 256, 8192, 32, 256, 80, 7, 17, 18, 2 },
    { 1000, 8192, 512, 128, 128, 64, 256, 16384, 64, 256, 80, 7, 17, 18, 2 },
    { 1000, 16384, 512, 512, 512, 32, 256, 1024, 32, 32, 80, 7, 17, 18, 2 },
    { 1000, 1792, 512, 16, 16, 112, 256, 2048, 16, 128, 80, 7, 17, 18, 2 },
};

/* Launchers pass pointers on and look at none. */
static void *const memory = (void *)0x100000;

static void must(int rc)
{
    if (rc < 0)
        exit(1);
}

static int ld_of(int cols)
{
    return (cols + 7) / 8 * 8;
}

static cog_cuda_kv pool_of(const model *m)
{
    return (cog_cuda_kv){ .data = memory,
                          .layers = 32,
                          .n_blocks = 4096,
                          .kv_heads = m->kv_heads,
                          .block = 32,
                          .head_dim = m->head_dim,
                          .ld = ld_of(m->head_dim),
                          .block_shift = 5 };
}

/* What works on rows of a step or of a vision pass. */
static void rows_of(const model *m, cog_dtype t, int rows)
{
    size_t ld = (size_t)ld_of(m->hidden), ld_inter = (size_t)ld_of(2 * m->inter);
    cog_cuda_kv kv = pool_of(m);
    int qkv = (m->heads + 2 * m->kv_heads) * m->head_dim;
    void *p = memory;

    must(cog_cuda_rmsnorm(0, t, p, ld, p, ld, p, ld, NULL, p, rows, m->hidden, 1e-5f));
    must(cog_cuda_rmsnorm(0, t, p, ld, p, ld, NULL, ld, p, p, rows, m->hidden, 1e-5f));
    must(cog_cuda_add(0, t, p, ld, p, ld, rows, m->hidden));
    must(cog_cuda_silu_mul(0, t, p, ld_inter, p, ld_inter, rows, m->inter));
    must(cog_cuda_embed(0, t, p, ld, p, ld, p, p, p, p, ld, rows, m->hidden));
    must(cog_cuda_rope_kv(0, t, p, (size_t)ld_of(qkv), p, p, &kv, 31, p, p, p, p, 64, rows,
                          m->heads));
    must(cog_cuda_kv_copy(0, t, &kv, 1, 0, 32));
    must(cog_cuda_kv_copy(0, t, &kv, 1, 0, 1));
    must(cog_cuda_layernorm_gelu(0, t, p, ld, p, p, rows, m->hidden, 1e-5f));
    must(cog_cuda_attention_rows(0, t, p, ld, p, (size_t)ld_of(qkv), &kv, 31, p,
                                 m->context / kv.block, p, p, rows, p, cog_segments(m->context), p,
                                 m->heads, 0.1f, true));
    must(cog_cuda_random(0, t, p, ld, rows, m->hidden, 1, 0, 1));
}

static void vision_of(const model *m, cog_dtype t, int images)
{
    int rows = images * m->tokens, side = m->patch, grid = 1;
    int patch = 3 * m->patch * m->patch, hidden = m->vit_heads * m->vit_head_dim;
    size_t ld = (size_t)ld_of(m->vit_hidden);
    void *p = memory;

    while (grid * grid < m->tokens - 1)
        grid++;
    side *= grid;
    must(cog_cuda_vit_patches(0, t, p, (size_t)ld_of(patch), p, p, images, side, m->patch));
    must(cog_cuda_vit_position(0, t, p, ld, p, ld, p, p, p, ld, images, m->tokens, m->vit_hidden));
    must(cog_cuda_add_layernorm(0, t, p, ld, p, ld, p, p, rows, m->vit_hidden, 1e-6f));
    must(cog_cuda_gelu(0, t, p, (size_t)ld_of(m->vit_inter), rows, m->vit_inter));
    must(cog_cuda_attention_rows_dense(0, t, p, ld, p, (size_t)ld_of(3 * hidden), images, m->tokens,
                                       m->vit_heads, m->vit_head_dim, 0.1f));
    if (cog_cuda_flash_fits(t, m->vit_head_dim))
        must(cog_cuda_flash_dense(0, p, ld, p, (size_t)ld_of(3 * hidden), images, m->tokens,
                                  m->vit_heads, m->vit_head_dim, 0.1f));
}

/* Tiles of a step of rows rows. */
static void flash_of(const model *m, int rows)
{
    cog_cuda_kv kv = pool_of(m);
    size_t ld = (size_t)ld_of(m->hidden);
    int qkv = (m->heads + 2 * m->kv_heads) * m->head_dim;

    if (cog_cuda_flash_fits(COG_BF16, m->head_dim))
        must(cog_cuda_flash_paged(
            0, memory, ld, memory, (size_t)ld_of(qkv), &kv, 31, memory, 64, memory, memory,
            (rows + COG_FLASH_ROWS - 1) / COG_FLASH_ROWS + 128, m->heads, 0.1f));
}

static void skinny_of(const model *m, int rows)
{
    cog_cuda_kv kv = pool_of(m);
    size_t ld = (size_t)ld_of(m->hidden), ld_inter = (size_t)ld_of(m->inter);
    int qkv = (m->heads + 2 * m->kv_heads) * m->head_dim;
    cog_skinny p = { .x = memory,
                     .ld_x = ld,
                     .norm = memory,
                     .eps = 1e-5f,
                     .w = memory,
                     .ld_w = ld,
                     .rows = rows,
                     .n = qkv,
                     .k = m->hidden,
                     .dependent = true };
    void *q = memory;

    if (!cog_cuda_skinny_fits(COG_BF16, m->hidden, m->inter, m->head_dim))
        return;
    must(cog_cuda_skinny_qkv(0, &p, q, ld, q, q, &kv, 31, q, q, q, q, 64, m->heads));
    p.n = 2 * m->inter;
    must(cog_cuda_skinny_gate_up(0, &p, q, ld_inter));
    p.n = m->vocab;
    p.row = memory;
    must(cog_cuda_skinny_store(0, &p, q, (size_t)ld_of(m->vocab)));
    p.norm = NULL;
    p.row = NULL;
    p.n = m->hidden;
    must(cog_cuda_skinny_add(0, &p, q, ld));
    p.k = m->inter;
    p.ld_w = p.ld_x = ld_inter;
    must(cog_cuda_skinny_add(0, &p, q, ld));
}

static void sample_of(const model *m, cog_dtype t, int draws)
{
    must(cog_cuda_sample(0, t, memory, memory, (size_t)ld_of(m->vocab), m->vocab, memory, memory,
                         draws, memory));
}

static void prepare(void)
{
    must(cog_cuda_norm_prepare());
    must(cog_cuda_act_prepare());
    must(cog_cuda_embed_prepare());
    must(cog_cuda_rope_kv_prepare());
    must(cog_cuda_attention_rows_prepare());
    must(cog_cuda_flash_prepare());
    must(cog_cuda_skinny_prepare());
    must(cog_cuda_sample_prepare());
}

int main(void)
{
    static const int step_rows[] = { 1, 2, 8, 9, 16, 32, 48, 64, 256, 512, 2048, 9252, 65536 };
    static const cog_dtype types[] = { COG_F32, COG_BF16 };

    prepare();
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        const model *m = &models[i];
        for (size_t t = 0; t < 2; t++) {
            for (size_t r = 0; r < sizeof(step_rows) / sizeof(step_rows[0]); r++)
                rows_of(m, types[t], step_rows[r]);
            for (int n = 1; n <= m->max_images; n++)
                vision_of(m, types[t], n);
            sample_of(m, types[t], 1);
            sample_of(m, types[t], 512);
        }
        for (size_t r = 0; r < sizeof(step_rows) / sizeof(step_rows[0]); r++) {
            flash_of(m, step_rows[r]);
            if (step_rows[r] <= COG_SKINNY_ROWS)
                skinny_of(m, step_rows[r]);
        }
    }
    return 0;
}
