/* cuda.c - the CUDA backend's table: the device, what is reserved on it, weights and their
 * products. */
#include "engine/cuda/cuda.h"

#include "base/alloc.h"
#include "base/log.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
    WORKSPACE_BYTES = 32 << 20, /* of a lane's products */
    NODE_BYTES = 16 << 10,      /* of a recorded call, an allowance */
    STEP_CALLS = 8,             /* recorded calls per layer, an allowance */
    HOST_ROWS_BYTES = 1 << 20,
    MAX_HEAD = 256, /* of attention row by row */
    MIB = 1 << 20
};

/* ---- buckets ---- */

/* No step is padded by more than 15 rows, which have room in one page. */
static const int bucket_rows[COG_CUDA_BUCKETS] = { 1, 2, 4, 8, 16, 32, 48, COG_CUDA_MAX_BUCKET };

int cog_cuda_padded(int rows)
{
    for (int i = 0; i < COG_CUDA_BUCKETS; i++)
        if (rows <= bucket_rows[i])
            return bucket_rows[i];
    return rows;
}

int cog_cuda_bucket(int rows)
{
    for (int i = 0; i < COG_CUDA_BUCKETS; i++)
        if (rows == bucket_rows[i])
            return i;
    return -1;
}

/* ---- the table of buffers ---- */

typedef struct buffer {
    const char *name;
    size_t bytes;
    size_t place; /* offset of its pointer in cog_backend */
} buffer;

enum { N_DEVICE = 20, N_PINNED = 4 };

static size_t rows_bytes(const cog_device_config *cfg, int rows, int cols)
{
    return (size_t)rows * cog_cuda_ld(cols) * cog_dtype_size(cfg->dtype);
}

static size_t page_bytes(const cog_device_config *cfg)
{
    const cog_model_config *m = cfg->model;

    return (size_t)m->layers * 2 * (size_t)m->kv_heads * (size_t)cfg->block *
           cog_cuda_ld(m->head_dim) * cog_dtype_size(cfg->dtype);
}

static size_t picture_bytes(const cog_device_config *cfg)
{
    size_t side = (size_t)cfg->model->vision.image_side;

    return 3 * side * side;
}

#define PLACE(field) offsetof(cog_backend, field)

static void list_device(buffer out[N_DEVICE], const cog_device_config *cfg)
{
    const cog_model_config *m = cfg->model;
    cog_cuda_vision vision;
    cog_cuda_layout at;
    int rows;

    cog_cuda_lay_step(&at, cfg);
    rows = at.max_rows;
    const size_t table = (size_t)cfg->n_positions * (size_t)(m->head_dim / 2) * sizeof(float);
    const size_t partial = cog_attn_partial_floats(m->heads, m->head_dim, at.max_segments) *
                           (size_t)at.max_partials * sizeof(float);
    const size_t done = (size_t)at.max_partials * (size_t)m->kv_heads * sizeof(uint32_t);
    const buffer list[N_DEVICE] = {
        { "norm", rows_bytes(cfg, rows, m->hidden), PLACE(norm) },
        { "qkv", rows_bytes(cfg, rows, (m->heads + 2 * m->kv_heads) * m->head_dim), PLACE(qkv) },
        { "attention", rows_bytes(cfg, rows, m->heads * m->head_dim), PLACE(mixed) },
        { "gate and up", rows_bytes(cfg, rows, 2 * m->inter), PLACE(gate_up) },
        { "inner", rows_bytes(cfg, rows, m->inter), PLACE(inner) },
        { "delta", rows_bytes(cfg, rows, m->hidden), PLACE(delta) },
        { "logits", rows_bytes(cfg, at.max_logits, m->vocab), PLACE(logits) },
        { "partial sums", partial, PLACE(partial) },
        { "counters", done, PLACE(done) },
        { "cosines", table, PLACE(cos) },
        { "sines", table, PLACE(sin) },
        { "KV pages", ((size_t)cfg->n_blocks + 1) * page_bytes(cfg), PLACE(pages) },
        { "step", at.bytes, PLACE(step) },
        { "tokens", (size_t)at.max_logits * sizeof(int32_t), PLACE(token) },
        { "sampling", cog_cuda_sample_scratch(m->vocab, at.max_logits) * sizeof(float),
          PLACE(scratch) },
        { "vision", cog_cuda_lay_vision(&vision, NULL, cfg), PLACE(vision_base) },
        { "pictures", (size_t)cfg->max_images * picture_bytes(cfg), PLACE(rgb) },
        { "pixels", 3 * 256 * sizeof(float), PLACE(pixel) },
        { "workspace", WORKSPACE_BYTES, PLACE(decoder.workspace) },
        { "vision workspace", WORKSPACE_BYTES, PLACE(tower.workspace) },
    };

    memcpy(out, list, sizeof(list));
}

static size_t host_rows_bytes(const cog_device_config *cfg)
{
    const cog_model_config *m = cfg->model;
    size_t row = rows_bytes(cfg, 1, m->vocab);

    return row > HOST_ROWS_BYTES ? row : HOST_ROWS_BYTES;
}

static void list_pinned(buffer out[N_PINNED], const cog_device_config *cfg)
{
    cog_cuda_layout at;

    cog_cuda_lay_step(&at, cfg);
    const buffer list[N_PINNED] = {
        { "step", at.bytes, PLACE(host_step) },
        { "tokens", (size_t)at.max_logits * sizeof(int32_t), PLACE(host_token) },
        { "pictures", (size_t)cfg->max_images * picture_bytes(cfg), PLACE(host_rgb) },
        { "rows", host_rows_bytes(cfg), PLACE(host_rows) },
    };

    memcpy(out, list, sizeof(list));
}

/* The device hands out memory in pages of 2 MiB, small pieces of 512 bytes. */
static size_t taken(size_t bytes)
{
    size_t unit = bytes > MIB ? 2 * (size_t)MIB : 512;

    return (bytes + unit - 1) / unit * unit;
}

static char **pointer_at(cog_backend *be, size_t place)
{
    return (char **)(void *)((char *)be + place);
}

/* ---- the device ---- */

typedef struct device {
    char name[256];
    int major, minor, sms, runtime;
    size_t free, total;
} device;

static int attribute(int *out, enum cudaDeviceAttr which, const char *what, cog_err *err)
{
    cudaError_t e = cudaDeviceGetAttribute(out, which, 0);

    if (e == cudaSuccess)
        return 0;
    return cog_err_set(err, COG_EDEVICE, "the GPU does not tell its %s: %s", what,
                       cudaGetErrorString(e));
}

/* Makes device 0 the calling thread's. */
static int find_device(device *d, cog_err *err)
{
    struct cudaDeviceProp properties;
    int n = 0, rc;
    cudaError_t e = cudaGetDeviceCount(&n);

    if (e != cudaSuccess || n == 0)
        return cog_err_set(err, COG_EUNSUPPORTED, "there is no CUDA device: %s",
                           e != cudaSuccess ? cudaGetErrorString(e) : "none is visible");
    rc = attribute(&d->major, cudaDevAttrComputeCapabilityMajor, "compute capability", err);
    if (rc == 0)
        rc = attribute(&d->minor, cudaDevAttrComputeCapabilityMinor, "compute capability", err);
    if (rc == 0)
        rc = attribute(&d->sms, cudaDevAttrMultiProcessorCount, "multiprocessors", err);
    if (rc < 0)
        return rc;
    e = cudaGetDeviceProperties(&properties, 0);
    if (e == cudaSuccess)
        e = cudaRuntimeGetVersion(&d->runtime);
    if (e == cudaSuccess)
        e = cudaSetDevice(0);
    if (e != cudaSuccess)
        return cog_err_set(err, COG_EDEVICE, "the GPU cannot be used: %s", cudaGetErrorString(e));
    snprintf(d->name, sizeof(d->name), "%s", properties.name);
    if (d->major < 8)
        return cog_err_set(err, COG_EDEVICE,
                           "%s has compute capability %d.%d, at least 8.0 is needed", d->name,
                           d->major, d->minor);
    e = cudaMemGetInfo(&d->free, &d->total);
    if (e != cudaSuccess)
        return cog_err_set(err, COG_EDEVICE, "the GPU does not start: %s", cudaGetErrorString(e));
    return 0;
}

static int check_config(const cog_device_config *c, cog_err *err)
{
    const cog_model_config *m = c->model;

    if (c->dtype != COG_F32 && c->dtype != COG_BF16)
        return cog_err_set(err, COG_EINVAL, "the cuda backend computes in f32 or bf16");
    if (c->max_features < 0 || c->n_positions < 1)
        return cog_err_set(err, COG_EINVAL, "%d features and %d positions are out of range",
                           c->max_features, c->n_positions);
    if (m->head_dim > MAX_HEAD || m->vision.head_dim > MAX_HEAD)
        return cog_err_set(err, COG_ELIMIT,
                           "heads of %d and %d values: the cuda backend has at most %d",
                           m->head_dim, m->vision.head_dim, MAX_HEAD);
    return cog_device_check(c, err);
}

/* With what forward.c keeps: the residual streams and the pictures' features. */
static int memory(cog_memory_plan *out, const cog_device_config *cfg, cog_err *err)
{
    const cog_model_config *m = cfg->model;
    cog_device_config without_pages = *cfg;
    buffer list[N_DEVICE];
    device d = { 0 };
    cog_err why = { 0 };
    int rc = check_config(cfg, err);

    if (rc == 0)
        rc = find_device(&d, err);
    if (rc == 0 && cog_cuda_gemm_available(&why) < 0) /* before anybody loads a model for it */
        rc = cog_err_set(err, COG_EDEVICE, "%s", why.text);
    if (rc < 0)
        return rc;
    without_pages.n_blocks = 0;
    list_device(list, &without_pages);
    *out = (cog_memory_plan){ .total = d.total,
                              .used = d.total - d.free,
                              .weights = cog_cuda_weights_bytes(cfg),
                              .page = page_bytes(cfg) };
    for (int i = 0; i < N_DEVICE - 2; i++)
        out->activations += taken(list[i].bytes);
    out->activations += taken(rows_bytes(cfg, cog_cuda_padded(cfg->max_rows), m->hidden));
    out->activations +=
        taken(rows_bytes(cfg, cfg->max_images * m->vision.tokens, m->vision.hidden));
    out->activations +=
        (uint64_t)cfg->max_features * taken(rows_bytes(cfg, m->image_tokens, m->hidden));
    for (int i = N_DEVICE - 2; i < N_DEVICE; i++)
        out->workspace += taken(list[i].bytes);
    out->workspace += (uint64_t)COG_CUDA_BUCKETS * (uint64_t)m->layers * STEP_CALLS * NODE_BYTES;
    return 0;
}

/* ---- open ---- */

static int open_buffers(cog_backend *be, cog_err *err)
{
    buffer device_list[N_DEVICE], pinned_list[N_PINNED];
    size_t free_bytes = 0, total = 0, all = 0;

    list_device(device_list, &be->cfg);
    list_pinned(pinned_list, &be->cfg);
    for (int i = 0; i < N_DEVICE; i++)
        all += taken(device_list[i].bytes);
    for (int i = 0; i < N_DEVICE; i++) {
        const buffer *b = &device_list[i];
        if (cudaMalloc((void **)pointer_at(be, b->place), b->bytes) == cudaSuccess)
            continue;
        cudaGetLastError();
        cudaMemGetInfo(&free_bytes, &total);
        return cog_err_set(err, COG_ENOMEM,
                           "no GPU memory for '%s', %zu MiB of %zu MiB in all: %zu of %zu MiB are "
                           "free",
                           b->name, b->bytes / MIB, all / MIB, free_bytes / MIB, total / MIB);
    }
    for (int i = 0; i < N_PINNED; i++) {
        const buffer *b = &pinned_list[i];
        if (cudaMallocHost((void **)pointer_at(be, b->place), b->bytes) == cudaSuccess)
            continue;
        cudaGetLastError();
        return cog_err_set(err, COG_ENOMEM, "no pinned memory for '%s', %zu MiB", b->name,
                           b->bytes / MIB);
    }
    be->host_rows_bytes = host_rows_bytes(&be->cfg);
    memset(be->host_step, 0, be->at.bytes); /* what a step leaves out is copied with it */
    return 0;
}

static int open_lane(cog_backend *be, cog_cuda_lane *lane, int priority, cog_err *err)
{
    int rc =
        cog_cuda_check(cudaStreamCreateWithPriority(&lane->stream, cudaStreamNonBlocking, priority),
                       "cudaStreamCreateWithPriority");

    if (rc < 0)
        return cog_err_set(err, rc, "the GPU gives no stream");
    return cog_cuda_gemm_open(&lane->gemm, be->cfg.dtype, lane->workspace, WORKSPACE_BYTES,
                              be->cfg.batch_invariant, err);
}

static int open_events(cog_backend *be, cog_err *err)
{
    /* Long waits sleep. The wait for the tokens spins: it is in the way of every step, and a thread
     * that sleeps wakes late. */
    const struct {
        cudaEvent_t *event;
        unsigned flags;
    } list[] = {
        { &be->step_copied, cudaEventDisableTiming },
        { &be->drawn, cudaEventDisableTiming },
        { &be->steps_done, cudaEventDisableTiming },
        { &be->features_made, cudaEventDisableTiming },
        { &be->rgb_copied, cudaEventDisableTiming | cudaEventBlockingSync },
        { &be->busy_begin, cudaEventDefault },
        { &be->busy_end, cudaEventBlockingSync },
    };
    int rc = 0;

    for (size_t i = 0; i < sizeof(list) / sizeof(*list) && rc == 0; i++)
        rc = cog_cuda_check(cudaEventCreateWithFlags(list[i].event, list[i].flags),
                            "cudaEventCreate");
    return rc ? cog_err_set(err, rc, "the GPU gives no events") : 0;
}

static int prepare_kernels(cog_err *err)
{
    static int (*const prepare[])(void) = {
        cog_cuda_norm_prepare,    cog_cuda_act_prepare,    cog_cuda_embed_prepare,
        cog_cuda_rope_kv_prepare, cog_cuda_flash_prepare,  cog_cuda_attention_rows_prepare,
        cog_cuda_skinny_prepare,  cog_cuda_sample_prepare,
    };
    int rc = 0;

    for (size_t i = 0; i < sizeof(prepare) / sizeof(*prepare) && rc == 0; i++)
        rc = prepare[i]();
    return rc ? cog_err_set(err, rc, "the kernels of this build do not load on the GPU") : 0;
}

/* What does not change afterwards. */
static int fill_tables(cog_backend *be, cog_err *err)
{
    size_t n = (size_t)be->cfg.n_positions * (size_t)(be->model.head_dim / 2) * sizeof(float);
    size_t done = (size_t)be->at.max_partials * (size_t)be->model.kv_heads * sizeof(uint32_t);
    float pixel[3][256];
    int rc;

    cog_pixel_table(pixel, be->cfg.dtype);
    rc =
        cog_cuda_check(cudaMemcpy(be->cos, be->cfg.rope_cos, n, cudaMemcpyHostToDevice), "cosines");
    if (rc == 0)
        rc = cog_cuda_check(cudaMemcpy(be->sin, be->cfg.rope_sin, n, cudaMemcpyHostToDevice),
                            "sines");
    if (rc == 0)
        rc = cog_cuda_check(cudaMemcpy(be->pixel, pixel, sizeof(pixel), cudaMemcpyHostToDevice),
                            "pixels");
    if (rc == 0)
        rc = cog_cuda_check(cudaMemset(be->done, 0, done), "counters");
    if (rc == 0)
        rc = cog_cuda_check(cudaDeviceSynchronize(), "tables");
    return rc ? cog_err_set(err, rc, "copying to the GPU fails") : 0;
}

static void place_pages(cog_backend *be)
{
    be->kv = (cog_cuda_kv){ .data = be->pages,
                            .layers = be->model.layers,
                            .n_blocks = be->cfg.n_blocks + 1,
                            .kv_heads = be->model.kv_heads,
                            .block = be->cfg.block,
                            .head_dim = be->model.head_dim,
                            .ld = (int)cog_cuda_ld(be->model.head_dim),
                            .block_shift = __builtin_ctz((unsigned)be->cfg.block) };
}

static void list_shapes(cog_backend *be)
{
    const cog_model_config *m = &be->model;
    const cog_cuda_vision *v = &be->vision;
    int rows = be->at.max_rows, tokens = be->cfg.max_images * m->vision.tokens;
    int chunk = tokens < COG_CUDA_ADAPTER_ROWS ? tokens : COG_CUDA_ADAPTER_ROWS;
    int wide = (m->heads + 2 * m->kv_heads) * m->head_dim, vh = m->vision.hidden;
    const cog_cuda_lane *d = &be->decoder, *t = &be->tower;
    const cog_cuda_shape list[COG_CUDA_SHAPES] = {
        { wide, m->hidden, rows, false, false, d, be->norm, be->qkv, NULL },
        { wide, m->hidden, rows, true, false, d, be->norm, be->qkv, NULL },
        { m->hidden, m->heads * m->head_dim, rows, false, false, d, be->mixed, be->delta, NULL },
        { 2 * m->inter, m->hidden, rows, false, false, d, be->norm, be->gate_up, NULL },
        { m->hidden, m->inter, rows, false, false, d, be->inner, be->delta, NULL },
        { m->vocab, m->hidden, be->at.max_logits, false, false, d, be->norm, be->logits, NULL },
        { vh, 3 * m->vision.patch * m->vision.patch, be->cfg.max_images * m->patches, false, false,
          t, v->patches, v->out, NULL },
        { 3 * vh, vh, tokens, true, false, t, v->mixed, v->qkv, NULL },
        { vh, vh, tokens, true, false, t, v->mixed, v->out, NULL },
        { m->vision.inter, vh, tokens, true, false, t, v->out, v->inner, NULL },
        { vh, m->vision.inter, tokens, true, false, t, v->inner, v->out, NULL },
        { m->hidden, vh, chunk, false, false, t, v->out, v->proj, NULL },
        { 2 * m->inter, m->hidden, chunk, false, false, t, v->proj, v->gate_up, NULL },
        { m->hidden, m->inter, chunk, false, false, t, v->swiglu, v->proj, NULL },
    };

    memcpy(be->shape, list, sizeof(list));
}

static void describe_device(cog_backend *be, const device *d)
{
    snprintf(be->text, sizeof(be->text), "%s, sm_%d%d, %d SMs, CUDA %d.%d", d->name, d->major,
             d->minor, d->sms, d->runtime / 1000, d->runtime % 1000 / 10);
}

static void close_lane(cog_cuda_lane *lane)
{
    cog_cuda_gemm_close(lane->gemm);
    if (lane->stream)
        cudaStreamDestroy(lane->stream);
}

static void close_backend(cog_backend *be)
{
    buffer device_list[N_DEVICE], pinned_list[N_PINNED];

    if (!be)
        return;
    cudaDeviceSynchronize(); /* after an error there is nobody to tell */
    cog_cuda_forget(be);
    cog_cuda_sdpa_close(be->sdpa);
    close_lane(&be->decoder);
    close_lane(&be->tower);
    cudaEvent_t const events[] = { be->step_copied, be->drawn,         be->rgb_copied,
                                   be->steps_done,  be->features_made, be->busy_begin,
                                   be->busy_end };
    for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
        if (events[i])
            cudaEventDestroy(events[i]);
    list_device(device_list, &be->cfg);
    list_pinned(pinned_list, &be->cfg);
    for (int i = 0; i < N_DEVICE; i++)
        cudaFree(*pointer_at(be, device_list[i].place));
    for (int i = 0; i < N_PINNED; i++)
        cudaFreeHost(*pointer_at(be, pinned_list[i].place));
    cog_cuda_weights_close(be->weights);
    cog_free(be->run);
    cog_free(be->has_edit);
    cog_free(be->edit);
    cog_free(be);
}

static int open_backend(cog_backend **out, const cog_device_config *cfg, cog_err *err)
{
    cog_backend *be;
    device d = { 0 };
    int least = 0, greatest = 0;
    int rc = check_config(cfg, err);

    if (rc == 0 && cfg->n_blocks < 1)
        rc = cog_err_set(err, COG_EINVAL, "a KV pool of %d pages holds nothing", cfg->n_blocks);
    if (rc == 0)
        rc = find_device(&d, err);
    if (rc < 0)
        return rc;
    be = cog_new(cog_backend);
    be->cfg = *cfg;
    be->model = *cfg->model;
    be->cfg.model = &be->model;
    be->elem = cog_dtype_size(cfg->dtype);
    be->sms = d.sms;
    be->bucket = -1;
    cog_cuda_lay_step(&be->at, cfg);
    be->has_edit = cog_array(uint64_t, ((size_t)be->model.vocab + 63) / 64);
    be->edit = cog_array(cog_cuda_edit, (size_t)be->model.vocab);
    be->run = cog_array(cog_cuda_run, (size_t)be->at.max_seqs);
    cudaDeviceGetStreamPriorityRange(&least, &greatest);
    rc = open_buffers(be, err);
    if (rc == 0)
        rc = open_lane(be, &be->decoder, greatest, err);
    if (rc == 0)
        rc = open_lane(be, &be->tower, least, err);
    if (rc == 0)
        rc = open_events(be, err);
    if (rc == 0)
        rc = prepare_kernels(err);
    be->dependent = rc == 0 && d.major >= 9 && cog_cuda_skinny_can_depend() &&
                    cog_cuda_attention_rows_can_depend();
    if (rc == 0)
        rc = fill_tables(be, err);
    if (rc == 0)
        rc = cog_cuda_weights_open(&be->weights, cfg, err);
    if (rc < 0)
        goto fail;
    place_pages(be);
    cog_cuda_lay_vision(&be->vision, be->vision_base, cfg);
    list_shapes(be);
    describe_device(be, &d);
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

/* ---- weights ---- */

/* The first weight of a shape is what its products are tuned on. */
static void note_weight(cog_backend *be, const cog_weight *w)
{
    be->is_ready = false;
    if (w->use != COG_USE_MATRIX)
        return;
    for (int i = 0; i < COG_CUDA_SHAPES; i++)
        if (!be->shape[i].w && be->shape[i].n == w->rows && be->shape[i].k == w->cols)
            be->shape[i].w = w;
}

static int weight(cog_backend *be, cog_weight **out, const cog_tensor *const *parts, int n_parts,
                  cog_weight_use use, cog_err *err)
{
    int rc = be->failed ? cog_err_set(err, COG_EDEVICE, "the GPU has failed")
                        : cog_cuda_weights_upload(be->weights, out, parts, n_parts, use, err);

    if (rc == 0)
        note_weight(be, *out);
    return cog_cuda_end(be, rc);
}

static int weight_random(cog_backend *be, cog_weight **out, int rows, int cols, cog_weight_use use,
                         uint64_t key, float center, float spread, cog_err *err)
{
    int rc = be->failed ? cog_err_set(err, COG_EDEVICE, "the GPU has failed")
                        : cog_cuda_weights_random(be->weights, out, rows, cols, use, key, center,
                                                  spread, err);

    if (rc == 0)
        note_weight(be, *out);
    return cog_cuda_end(be, rc);
}

static void weight_free(cog_backend *be, cog_weight *w)
{
    if (!w)
        return;
    cog_cuda_forget(be);
    for (int i = 0; i < COG_CUDA_SHAPES; i++)
        if (be->shape[i].w == w)
            be->shape[i].w = NULL;
    cog_cuda_weights_free(be->weights, w);
}

static cog_cuda_product product_of(const cog_weight *w, void *dst, const void *a, const void *bias,
                                   int rows)
{
    return (cog_cuda_product){ .a = a,
                               .lda = cog_cuda_ld(w->cols),
                               .w = w->data,
                               .ldw = w->ld,
                               .bias = bias,
                               .dst = dst,
                               .ldd = cog_cuda_ld(w->rows),
                               .rows = rows,
                               .n = w->rows,
                               .k = w->cols };
}

int cog_cuda_product_run(cog_backend *be, const cog_cuda_lane *lane, void *dst, const void *a,
                         const cog_weight *w, const cog_weight *bias, int rows)
{
    cog_cuda_product p = product_of(w, dst, a, bias ? bias->data : NULL, rows);

    return rows > 0 ? cog_cuda_gemm_run(lane->gemm, lane->stream, &p) : 0;
}

/* On random rows: zeros are quicker. The weight's first row stands for a bias. */
static int tune(const cog_backend *be, const cog_cuda_shape *s)
{
    cog_cuda_product p =
        product_of(s->w, s->dst, s->a, s->has_bias ? s->w->data : NULL, s->max_rows);
    int rc =
        cog_cuda_random(s->lane->stream, be->cfg.dtype, s->a, p.lda, s->max_rows, s->k, 1, 0, 1);

    return rc ? rc : cog_cuda_gemm_tune(s->lane->gemm, s->lane->stream, &p, s->max_rows);
}

/* A library's attention for the tower where there is one that is quicker. Its plans differ by the
 * number of pictures: not where rows must not see their company. */
static int choose_sdpa(cog_backend *be)
{
    const cog_model_config *m = &be->model;
    cog_cuda_dense d = cog_cuda_tower_attention(be, be->cfg.max_images);
    cog_err err = { 0 };
    int rc;

    if (be->sdpa_is_tried || be->cfg.batch_invariant || d.n_images < 1 ||
        !cog_cuda_flash_fits(be->cfg.dtype, m->vision.head_dim))
        return 0;
    be->sdpa_is_tried = true;
    rc = cog_cuda_random(be->tower.stream, be->cfg.dtype, be->vision.qkv, d.ld_qkv,
                         d.n_images * d.tokens, 3 * m->vision.hidden, 1, 0, 1);
    if (rc == 0)
        rc = cog_cuda_sdpa_open(&be->sdpa, be->tower.stream, &d, be->tower.workspace,
                                WORKSPACE_BYTES, &err);
    if (rc != COG_EUNSUPPORTED)
        return rc;
    cog_log(COG_DEBUG, "event=sdpa_own reason=\"%s\"", err.text);
    return 0;
}

int cog_cuda_ready(cog_backend *be)
{
    int rc;

    if (be->is_ready)
        return 0;
    rc = cog_cuda_weights_end(be->weights);
    for (int i = 0; i < COG_CUDA_SHAPES && rc == 0; i++) {
        cog_cuda_shape *s = &be->shape[i];
        if (s->is_tuned || !s->w)
            continue;
        rc = tune(be, s);
        s->is_tuned = true;
    }
    if (rc == 0)
        rc = choose_sdpa(be);
    be->is_ready = rc == 0;
    return rc;
}

const cog_backend_ops cog_cuda_ops = {
    .name = "cuda",
    .vision_batch = 8, /* a pass of so many pictures fills the products' tiles */
    .memory = memory,
    .open = open_backend,
    .close = close_backend,
    .describe = describe,
    .weight = weight,
    .weight_random = weight_random,
    .weight_free = weight_free,
    .act_new = cog_cuda_act_new,
    .act_free = cog_cuda_act_free,
    .act_read = cog_cuda_act_read,
    .act_write = cog_cuda_act_write,
    .vit_embed = cog_cuda_vit_embed,
    .vit_block = cog_cuda_vit_block,
    .vit_project = cog_cuda_vit_project,
    .vision_poll = cog_cuda_vision_poll,
    .step_begin = cog_cuda_step_begin,
    .embed = cog_cuda_embed_step,
    .attention = cog_cuda_attention,
    .ffn = cog_cuda_ffn,
    .logits = cog_cuda_logits,
    .sample = cog_cuda_sample_step,
    .logits_read = cog_cuda_logits_read,
    .logits_row = cog_cuda_logits_row,
    .replay = cog_cuda_replay,
    .kv_copy = cog_cuda_copy_page,
};
