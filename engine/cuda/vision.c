/* vision.c - the vision tower's blocks and the adapter, all pictures of a pass at once.
 *
 * The tower norms a sublayer's output before the residual addition; there is no norm before a
 * sublayer and none at the end. */
#include "engine/cuda/cuda.h"

#include <math.h>
#include <string.h>

enum { ALIGN = 256 };

/* ---- memory ---- */

/* The next piece of a region that ends at *used. */
static char *take(char *base, size_t *used, const cog_device_config *cfg, int rows, int cols)
{
    char *p = base ? base + *used : NULL;
    size_t bytes = (size_t)rows * cog_cuda_ld(cols) * cog_dtype_size(cfg->dtype);

    *used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

size_t cog_cuda_lay_vision(cog_cuda_vision *out, char *base, const cog_device_config *cfg)
{
    const cog_model_config *m = cfg->model;
    int rows = cfg->max_images * m->vision.tokens, hidden = m->vision.hidden;
    int chunk = rows < COG_CUDA_ADAPTER_ROWS ? rows : COG_CUDA_ADAPTER_ROWS;
    size_t shared = 0, stage[4], bytes = 0;

    out->out = take(base, &shared, cfg, rows, hidden);
    for (int i = 0; i < 4; i++)
        stage[i] = shared;
    out->patches = take(base, &stage[0], cfg, cfg->max_images * m->patches,
                        3 * m->vision.patch * m->vision.patch);
    out->qkv = take(base, &stage[1], cfg, rows, 3 * hidden);
    out->mixed = take(base, &stage[1], cfg, rows, hidden);
    out->inner = take(base, &stage[2], cfg, rows, m->vision.inter);
    out->proj = take(base, &stage[3], cfg, chunk, m->hidden);
    out->gate_up = take(base, &stage[3], cfg, chunk, 2 * m->inter);
    out->swiglu = take(base, &stage[3], cfg, chunk, m->inter);
    for (int i = 0; i < 4; i++)
        bytes = stage[i] > bytes ? stage[i] : bytes;
    return bytes;
}

/* ---- the lane ---- */

/* What is known of the run of work so far: *idle once its end was reached. */
static int settle(cog_backend *be, bool *idle)
{
    float ms = 0;
    cudaError_t e = be->is_busy ? cudaEventQuery(be->busy_end) : cudaSuccess;
    int rc;

    *idle = e == cudaSuccess;
    if (e == cudaErrorNotReady)
        return 0;
    rc = cog_cuda_check(e, "vision");
    if (rc < 0 || !be->is_busy)
        return rc;
    rc = cog_cuda_check(cudaEventElapsedTime(&ms, be->busy_begin, be->busy_end), "vision time");
    be->busy_ns += (uint64_t)((double)ms * 1e6);
    be->is_busy = false;
    return rc;
}

/* A call's work begins: behind earlier work without a gap, or as a run of its own. after: an event
 * that it waits for first, which counts for nothing when it is a run of its own; or NULL. */
static int begin(cog_backend *be, cudaEvent_t after)
{
    bool idle;
    int rc;

    if (be->failed)
        return COG_EDEVICE;
    rc = cog_cuda_ready(be);
    if (rc == 0)
        rc = settle(be, &idle);
    if (rc == 0 && after)
        rc = cog_cuda_check(cudaStreamWaitEvent(be->tower.stream, after, 0), "steps before");
    if (rc == 0 && idle)
        rc = cog_cuda_check(cudaEventRecord(be->busy_begin, be->tower.stream), "vision begin");
    return rc;
}

static int end(cog_backend *be, int rc)
{
    if (rc == 0)
        rc = cog_cuda_check(cudaEventRecord(be->busy_end, be->tower.stream), "vision end");
    if (rc == 0)
        be->is_busy = true;
    return cog_cuda_end(be, rc);
}

int cog_cuda_vision_poll(cog_backend *be, bool wait, bool *idle, uint64_t *busy_ns)
{
    int rc = be->failed ? COG_EDEVICE : 0;

    if (rc == 0 && wait && be->is_busy)
        rc = cog_cuda_check(cudaEventSynchronize(be->busy_end), "vision");
    if (rc == 0)
        rc = settle(be, idle);
    if (rc == 0 && *idle) {
        *busy_ns = be->busy_ns;
        be->busy_ns = 0;
    }
    return cog_cuda_end(be, rc);
}

static bool fits(const cog_backend *be, const cog_act *x, int n_images)
{
    return n_images >= 0 && n_images <= be->cfg.max_images &&
           (int64_t)n_images * be->model.vision.tokens <= x->rows &&
           x->cols == be->model.vision.hidden;
}

static int product(cog_backend *be, void *dst, const void *a, const cog_weight *w,
                   const cog_weight *bias, int rows)
{
    return cog_cuda_product_run(be, &be->tower, dst, a, w, bias, rows);
}

/* ---- embedding ---- */

static int upload(cog_backend *be, const uint8_t *const *rgb, int n_images)
{
    size_t side = (size_t)be->model.vision.image_side, bytes = 3 * side * side;
    int rc = cog_cuda_check(cudaEventSynchronize(be->rgb_copied), "pictures before");

    if (rc < 0)
        return rc;
    for (int i = 0; i < n_images; i++)
        memcpy(be->host_rgb + (size_t)i * bytes, rgb[i], bytes);
    rc = cog_cuda_check(cudaMemcpyAsync(be->rgb, be->host_rgb, (size_t)n_images * bytes,
                                        cudaMemcpyHostToDevice, be->tower.stream),
                        "pictures");
    return rc ? rc : cog_cuda_check(cudaEventRecord(be->rgb_copied, be->tower.stream), "pictures");
}

static int embed(cog_backend *be, cog_act *x, const uint8_t *const *rgb, int n,
                 const cog_vit_embed *w)
{
    const cog_model_config *m = &be->model;
    const cog_cuda_vision *v = &be->vision;
    cudaStream_t s = be->tower.stream;
    int rc = upload(be, rgb, n);

    if (rc == 0)
        rc = cog_cuda_vit_patches(s, be->cfg.dtype, v->patches,
                                  cog_cuda_ld(3 * m->vision.patch * m->vision.patch),
                                  (const uint8_t *)be->rgb, (const float *)(void *)be->pixel, n,
                                  m->vision.image_side, m->vision.patch);
    if (rc == 0)
        rc = product(be, v->out, v->patches, w->patch, NULL, n * m->patches);
    if (rc == 0)
        rc = cog_cuda_vit_position(s, be->cfg.dtype, x->data, x->ld, v->out,
                                   cog_cuda_ld(m->vision.hidden), w->patch_bias->data, w->cls->data,
                                   w->position->data, w->position->ld, n, m->vision.tokens,
                                   m->vision.hidden);
    return rc;
}

int cog_cuda_vit_embed(cog_backend *be, cog_act *x, const uint8_t *const *rgb, int n_images,
                       const cog_vit_embed *w)
{
    int rc;

    if (!fits(be, x, n_images))
        return COG_EINVAL;
    rc = begin(be, NULL);
    if (rc == 0 && n_images > 0)
        rc = embed(be, x, rgb, n_images, w);
    return end(be, rc);
}

/* ---- blocks ---- */

cog_cuda_dense cog_cuda_tower_attention(const cog_backend *be, int n_images)
{
    const cog_model_config *m = &be->model;

    return (cog_cuda_dense){ .out = be->vision.mixed,
                             .ld_out = cog_cuda_ld(m->vision.hidden),
                             .qkv = be->vision.qkv,
                             .ld_qkv = cog_cuda_ld(3 * m->vision.hidden),
                             .n_images = n_images,
                             .tokens = m->vision.tokens,
                             .heads = m->vision.heads,
                             .head_dim = m->vision.head_dim,
                             .scale = 1 / sqrtf((float)m->vision.head_dim) };
}

static int attend(cog_backend *be, int n)
{
    cudaStream_t s = be->tower.stream;
    cog_cuda_dense d = cog_cuda_tower_attention(be, n);

    if (be->sdpa)
        return cog_cuda_sdpa_run(be->sdpa, s, &d);
    if (cog_cuda_flash_fits(be->cfg.dtype, d.head_dim))
        return cog_cuda_flash_dense(s, d.out, d.ld_out, d.qkv, d.ld_qkv, n, d.tokens, d.heads,
                                    d.head_dim, d.scale);
    return cog_cuda_attention_rows_dense(s, be->cfg.dtype, d.out, d.ld_out, d.qkv, d.ld_qkv, n,
                                         d.tokens, d.heads, d.head_dim, d.scale);
}

/* x = x + LN(out) */
static int add_norm(cog_backend *be, cog_act *x, const cog_weight *w, const cog_weight *b, int rows)
{
    return cog_cuda_add_layernorm(be->tower.stream, be->cfg.dtype, x->data, x->ld, be->vision.out,
                                  cog_cuda_ld(x->cols), w->data, b->data, rows, x->cols,
                                  be->model.vision.eps);
}

static int block(cog_backend *be, cog_act *x, int n, const cog_vit_layer *w)
{
    const cog_cuda_vision *v = &be->vision;
    int rows = n * be->model.vision.tokens, inter = be->model.vision.inter;
    int rc = product(be, v->qkv, x->data, w->qkv, w->qkv_bias, rows);

    if (rc == 0)
        rc = attend(be, n);
    if (rc == 0)
        rc = product(be, v->out, v->mixed, w->dense, w->dense_bias, rows);
    if (rc == 0)
        rc = add_norm(be, x, w->norm1, w->norm1_bias, rows);
    if (rc == 0)
        rc = product(be, v->inner, x->data, w->fc1, w->fc1_bias, rows);
    if (rc == 0)
        rc = cog_cuda_gelu(be->tower.stream, be->cfg.dtype, v->inner, cog_cuda_ld(inter), rows,
                           inter);
    if (rc == 0)
        rc = product(be, v->out, v->inner, w->fc2, w->fc2_bias, rows);
    if (rc == 0)
        rc = add_norm(be, x, w->norm2, w->norm2_bias, rows);
    return rc;
}

int cog_cuda_vit_block(cog_backend *be, cog_act *x, int n_images, const cog_vit_layer *w)
{
    int rc;

    if (!fits(be, x, n_images))
        return COG_EINVAL;
    rc = begin(be, NULL);
    if (rc == 0 && n_images > 0)
        rc = block(be, x, n_images, w);
    return end(be, rc);
}

/* ---- adapter ---- */

/* Rows first .. first + rows - 1 of x, as if all were patches, to proj. */
static int adapt(cog_backend *be, const cog_act *x, int first, int rows, const cog_adapter *w)
{
    const cog_cuda_vision *v = &be->vision;
    int hidden = be->model.hidden, inter = be->model.inter;
    cudaStream_t s = be->tower.stream;
    int rc = product(be, v->proj, cog_cuda_at(be, x, first), w->proj, NULL, rows);

    if (rc == 0)
        rc = cog_cuda_layernorm_gelu(s, be->cfg.dtype, v->proj, cog_cuda_ld(hidden), w->norm->data,
                                     w->norm_bias->data, rows, hidden, COG_ADAPTER_EPS);
    if (rc == 0)
        rc = product(be, v->gate_up, v->proj, w->gate_up, NULL, rows);
    if (rc == 0)
        rc = cog_cuda_silu_mul(s, be->cfg.dtype, v->swiglu, cog_cuda_ld(inter), v->gate_up,
                               cog_cuda_ld(2 * inter), rows, inter);
    if (rc == 0)
        rc = product(be, v->proj, v->swiglu, w->down, NULL, rows);
    return rc;
}

static int copy_rows(cog_backend *be, cog_act *dst, int row, const char *src, int rows)
{
    size_t pitch = dst->ld * be->elem;

    return cog_cuda_check(cudaMemcpy2DAsync(cog_cuda_at(be, dst, row), pitch, src, pitch,
                                            (size_t)dst->cols * be->elem, (size_t)rows,
                                            cudaMemcpyDeviceToDevice, be->tower.stream),
                          "features");
}

/* proj has the adapter's rows first .. end - 1 of all pictures: those of patches go to their
 * pictures' features, those of the cls tokens nowhere. */
static int hand_out(cog_backend *be, cog_act *const *features, int first, int stop)
{
    int tokens = be->model.vision.tokens, rc = 0;

    for (int i = first / tokens; i * tokens < stop && rc == 0; i++) {
        int from = i * tokens + 1 > first ? i * tokens + 1 : first;
        int to = (i + 1) * tokens < stop ? (i + 1) * tokens : stop;
        if (from < to)
            rc = copy_rows(be, features[i], from - i * tokens,
                           cog_cuda_row(be, be->vision.proj, from - first, be->model.hidden),
                           to - from);
    }
    return rc;
}

static int project(cog_backend *be, cog_act *const *features, const cog_act *x, int n,
                   const cog_adapter *w)
{
    int rows = n * be->model.vision.tokens, rc = 0;

    for (int first = 0, stop; first < rows && rc == 0; first = stop) {
        stop = rows - first < COG_CUDA_ADAPTER_ROWS ? rows : first + COG_CUDA_ADAPTER_ROWS;
        rc = adapt(be, x, first, stop - first, w);
        if (rc == 0)
            rc = hand_out(be, features, first, stop);
    }
    for (int i = 0; i < n && rc == 0; i++) {
        rc = copy_rows(be, features[i], 0, w->boi->data, 1);
        if (rc == 0)
            rc = copy_rows(be, features[i], be->model.patches + 1, w->eoi->data, 1);
    }
    if (rc == 0)
        rc = cog_cuda_check(cudaEventRecord(be->features_made, be->tower.stream), "features");
    return rc;
}

int cog_cuda_vit_project(cog_backend *be, cog_act *const *features, const cog_act *x, int n_images,
                         const cog_adapter *w)
{
    int rc;

    if (!fits(be, x, n_images))
        return COG_EINVAL;
    for (int i = 0; i < n_images; i++)
        if (features[i]->rows < be->model.patches + 2 || features[i]->cols != be->model.hidden)
            return COG_EINVAL;
    /* Steps begun so far may still read the features. */
    rc = be->failed
             ? COG_EDEVICE
             : cog_cuda_check(cudaEventRecord(be->steps_done, be->decoder.stream), "steps before");
    if (rc == 0)
        rc = begin(be, be->steps_done);
    if (rc == 0 && n_images > 0)
        rc = project(be, features, x, n_images, w);
    return end(be, rc);
}
