#include "engine/cuda/weight.h"

#include "base/alloc.h"
#include "engine/cuda/kernels.h"
#include "engine/pool.h"

#include <cuda_runtime.h>
#include <limits.h>
#include <string.h>

enum {
    ALIGN = 256,  /* bytes, of a tensor */
    ROW_UNIT = 8, /* elements, of a row */
    N_BUFFERS = 4,
    BUFFER_BYTES = 16 << 20,
    SLICE = 64 << 10,         /* elements that a thread converts at a time */
    STAGE = 1024,             /* elements that are floats on the way */
    MORE_BYTES = 64 << 20,    /* of memory that was not planned for */
    MAX_SIDE = INT_MAX - 255, /* rows or columns */
};

typedef struct chunk {
    char *data;
    size_t bytes, used;
} chunk;

typedef struct buffer {
    void *data; /* pinned */
    cudaEvent_t copied;
} buffer;

struct cog_cuda_weights {
    cog_dtype type;
    size_t elem; /* bytes of an element */
    int threads;
    uint64_t planned;
    chunk *chunk; /* [n_chunks] */
    int n_chunks;
    int alive; /* weights */
    cudaStream_t stream;
    bool is_busy; /* something may be under way in stream */
    /* From the first upload to end. */
    cog_pool *pool;
    buffer buffer[N_BUFFERS];
    int next; /* buffer */
};

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* ---- memory ---- */

uint64_t cog_cuda_weights_bytes(const cog_device_config *cfg)
{
    const cog_model_config *m = cfg->model;
    const int width[] = { m->hidden, m->inter, m->heads * m->head_dim, m->vision.hidden,
                          m->vision.inter };
    size_t patch = 3 * (size_t)m->vision.patch * (size_t)m->vision.patch, worst = 0;
    uint64_t bytes = cfg->weight_bytes;

    /* Rows are padded by the same part everywhere but in the patch embedding. */
    for (size_t i = 0; i < sizeof(width) / sizeof(*width); i++) {
        size_t cols = (size_t)width[i], pad = round_up(cols, ROW_UNIT) - cols;
        if (pad * 1024 > worst * cols)
            worst = (pad * 1024 + cols - 1) / cols;
    }
    bytes += bytes / 1024 * worst + worst;
    bytes += (round_up(patch, ROW_UNIT) - patch) * (uint64_t)m->vision.hidden *
             cog_dtype_size(cfg->dtype);
    return bytes + (uint64_t)cfg->n_weights * ALIGN;
}

/* NULL: there is none. The first memory is what was planned. */
static void *arena_take(cog_cuda_weights *ws, size_t bytes)
{
    size_t want = ws->n_chunks == 0 && ws->planned > 0 ? ws->planned : MORE_BYTES;
    chunk *c = ws->chunk;
    void *p;

    bytes = round_up(bytes, ALIGN);
    for (int i = 0; i < ws->n_chunks; i++, c++) {
        if (c->bytes - c->used < bytes)
            continue;
        p = c->data + c->used;
        c->used += bytes;
        return p;
    }
    if (want < bytes)
        want = bytes;
    if (cudaMalloc(&p, want) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    ws->chunk = cog_realloc(ws->chunk, (size_t)ws->n_chunks + 1, sizeof(chunk));
    ws->chunk[ws->n_chunks++] = (chunk){ .data = p, .bytes = want, .used = bytes };
    return p;
}

int cog_cuda_weights_open(cog_cuda_weights **out, const cog_device_config *cfg, cog_err *err)
{
    cog_cuda_weights *ws = cog_new(cog_cuda_weights);

    ws->type = cfg->dtype;
    ws->elem = cog_dtype_size(cfg->dtype);
    ws->threads = cfg->threads;
    ws->planned = cog_cuda_weights_bytes(cfg);
    if (cudaStreamCreateWithFlags(&ws->stream, cudaStreamNonBlocking) != cudaSuccess) {
        cog_cuda_weights_close(ws);
        return cog_err_set(err, COG_EDEVICE, "no stream for loading: %s",
                           cudaGetErrorString(cudaGetLastError()));
    }
    *out = ws;
    return 0;
}

void cog_cuda_weights_close(cog_cuda_weights *ws)
{
    if (!ws)
        return;
    cog_cuda_weights_end(ws);
    for (int i = 0; i < ws->n_chunks; i++)
        cudaFree(ws->chunk[i].data);
    cog_free(ws->chunk);
    if (ws->stream)
        cudaStreamDestroy(ws->stream);
    cog_free(ws);
}

/* ---- buffers ---- */

static int staging_begin(cog_cuda_weights *ws, cog_err *err)
{
    int rc = ws->pool ? 0 : cog_pool_open(&ws->pool, ws->threads, err);
    cudaError_t error = cudaSuccess;

    for (int i = 0; i < N_BUFFERS && rc == 0 && error == cudaSuccess; i++) {
        buffer *b = &ws->buffer[i];
        if (!b->data)
            error = cudaMallocHost(&b->data, BUFFER_BYTES);
        if (error == cudaSuccess && !b->copied)
            error = cudaEventCreateWithFlags(&b->copied,
                                             cudaEventDisableTiming | cudaEventBlockingSync);
    }
    if (error == cudaSuccess)
        return rc;
    cudaGetLastError();
    return cog_err_set(err, error == cudaErrorMemoryAllocation ? COG_ENOMEM : COG_EDEVICE,
                       "no pinned memory for loading: %s", cudaGetErrorString(error));
}

int cog_cuda_weights_end(cog_cuda_weights *ws)
{
    int rc = 0;

    if (ws->is_busy)
        rc = cog_cuda_check(cudaStreamSynchronize(ws->stream), "upload of weights");
    ws->is_busy = false;
    for (int i = 0; i < N_BUFFERS; i++) {
        if (ws->buffer[i].copied)
            cudaEventDestroy(ws->buffer[i].copied);
        if (ws->buffer[i].data)
            cudaFreeHost(ws->buffer[i].data);
    }
    memset(ws->buffer, 0, sizeof(ws->buffer));
    cog_pool_close(ws->pool);
    ws->pool = NULL;
    return rc;
}

/* ---- conversion ---- */

typedef struct fill_job {
    const cog_cuda_weights *ws;
    const cog_weight *w;
    const cog_tensor *const *parts; /* of w->cols columns each */
    char *dst;                      /* elements first .. first + n - 1 of w->data */
    size_t first, n;
} fill_job;

/* dst, aligned for the type = n elements of t from `first` on. */
static void convert(const cog_cuda_weights *ws, char *dst, const cog_tensor *t, size_t first,
                    size_t n)
{
    float stage[STAGE];

    if (t->dtype == ws->type) {
        memcpy(dst, (const char *)t->data + first * ws->elem, n * ws->elem);
        return;
    }
    if (ws->type == COG_F32) {
        cog_tensor_read((float *)(void *)dst, t, first, n);
        return;
    }
    for (size_t at = 0; at < n; at += STAGE) {
        size_t m = n - at < STAGE ? n - at : STAGE;
        uint16_t *bits = (uint16_t *)(void *)dst + at;
        cog_tensor_read(stage, t, first + at, m);
        for (size_t i = 0; i < m; i++)
            bits[i] = cog_f32_to_bf16(stage[i]);
    }
}

/* Elements first .. first + n - 1 of the stacked rows, padding included. */
static void fill(const fill_job *j, char *dst, size_t first, size_t n)
{
    const cog_tensor *const *t = j->parts;
    size_t ld = j->w->ld, cols = (size_t)j->w->cols, elem = j->ws->elem;
    size_t row = first / ld, col = first % ld, rows;

    for (; row >= (size_t)cog_tensor_rows(*t); t++)
        row -= (size_t)cog_tensor_rows(*t);
    rows = (size_t)cog_tensor_rows(*t);
    while (n > 0) {
        /* To the end of the row, or of the tensor where rows follow each other without gaps. */
        size_t left = ld == cols ? (rows - row) * cols - col : ld - col, take;
        bool is_padding = col >= cols;
        if (!is_padding && ld != cols)
            left = cols - col;
        take = n < left ? n : left;
        if (is_padding)
            memset(dst, 0, take * elem);
        else
            convert(j->ws, dst, *t, row * cols + col, take);
        dst += take * elem;
        n -= take;
        row += (col + take) / ld;
        col = (col + take) % ld;
        while (row == rows && n > 0) {
            rows = (size_t)cog_tensor_rows(*++t);
            row = 0;
        }
    }
}

static void fill_slice(void *arg, int item, int thread)
{
    const fill_job *j = arg;
    size_t at = (size_t)item * SLICE;

    fill(j, j->dst + at * j->ws->elem, j->first + at, j->n - at < SLICE ? j->n - at : SLICE);
}

/* ---- upload ---- */

static int upload(cog_cuda_weights *ws, const cog_weight *w, const cog_tensor *const *parts,
                  cog_err *err)
{
    size_t total =
        w->use == COG_USE_VECTOR ? (size_t)w->rows * (size_t)w->cols : (size_t)w->rows * w->ld;
    size_t step = BUFFER_BYTES / ws->elem;
    cudaError_t error = cudaSuccess;
    int rc = staging_begin(ws, err);

    for (size_t at = 0; at < total && rc == 0 && error == cudaSuccess; at += step) {
        buffer *b = &ws->buffer[ws->next];
        fill_job j = { .ws = ws, .w = w, .parts = parts, .dst = b->data, .first = at };
        j.n = total - at < step ? total - at : step;
        ws->next = (ws->next + 1) % N_BUFFERS;
        error = cudaEventSynchronize(b->copied);
        if (error != cudaSuccess)
            break;
        cog_pool_run(ws->pool, fill_slice, &j, (int)((j.n + SLICE - 1) / SLICE));
        ws->is_busy = true;
        error = cudaMemcpyAsync((char *)w->data + at * ws->elem, b->data, j.n * ws->elem,
                                cudaMemcpyHostToDevice, ws->stream);
        if (error == cudaSuccess)
            error = cudaEventRecord(b->copied, ws->stream);
    }
    if (error != cudaSuccess)
        rc = cog_err_set(err, COG_EDEVICE, "copy to the device: %s", cudaGetErrorString(error));
    return rc;
}

/* *out = a weight with memory, which holds nothing yet. */
static int make(cog_cuda_weights *ws, cog_weight **out, int64_t rows, int64_t cols,
                cog_weight_use use, cog_err *err)
{
    cog_weight *w;
    size_t ld, bytes;

    if (rows < 1 || rows > MAX_SIDE || cols < 1 || cols > MAX_SIDE ||
        (use == COG_USE_VECTOR && rows * cols > MAX_SIDE))
        return cog_err_set(err, COG_EFORMAT, "a size out of range");
    ld = use == COG_USE_VECTOR ? (size_t)cols : round_up((size_t)cols, ROW_UNIT);
    if (__builtin_mul_overflow((size_t)rows, ld * ws->elem, &bytes))
        return cog_err_set(err, COG_EFORMAT, "a size out of range");
    w = cog_new(cog_weight);
    *w = (cog_weight){ .use = use, .rows = (int)rows, .cols = (int)cols, .ld = ld };
    w->data = arena_take(ws, bytes);
    if (!w->data) {
        cog_free(w);
        return cog_err_set(err, COG_ENOMEM, "no device memory for %zu bytes", bytes);
    }
    ws->alive++;
    *out = w;
    return 0;
}

int cog_cuda_weights_upload(cog_cuda_weights *ws, cog_weight **out, const cog_tensor *const *parts,
                            int n_parts, cog_weight_use use, cog_err *err)
{
    cog_weight *w = NULL;
    int64_t rows, cols;
    int rc = cog_tensor_stack(&rows, &cols, parts, n_parts, err);

    if (rc < 0)
        return rc;
    rc = make(ws, &w, rows, cols, use, err);
    if (rc < 0)
        goto fail;
    rc = upload(ws, w, parts, err);
    if (rc < 0)
        goto fail;
    *out = w;
    return 0;

fail:
    cog_err_prefix(err, "tensor '%s'", parts[0]->name);
    cog_cuda_weights_free(ws, w);
    return rc;
}

int cog_cuda_weights_random(cog_cuda_weights *ws, cog_weight **out, int rows, int cols,
                            cog_weight_use use, uint64_t key, float center, float spread,
                            cog_err *err)
{
    bool is_flat = use == COG_USE_VECTOR;
    cog_weight *w = NULL;
    int rc = make(ws, &w, rows, cols, use, err);

    if (rc < 0)
        return rc;
    ws->is_busy = true;
    rc = cog_cuda_random(ws->stream, ws->type, w->data, is_flat ? (size_t)rows * w->ld : w->ld,
                         is_flat ? 1 : rows, is_flat ? rows * cols : cols, key, center, spread);
    if (rc < 0) {
        cog_cuda_weights_free(ws, w);
        return cog_err_set(err, rc, "random weight [%d, %d]: the device failed", rows, cols);
    }
    *out = w;
    return 0;
}

void cog_cuda_weights_free(cog_cuda_weights *ws, cog_weight *w)
{
    if (!w)
        return;
    cog_free(w);
    ws->alive--;
    for (int i = 0; i < ws->n_chunks && ws->alive == 0; i++)
        ws->chunk[i].used = 0;
}
