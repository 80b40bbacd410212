/* sdpa_cudnn.c - sdpa.h by cuDNN's graph interface: one operation, SDPA_FWD, on packed rows of
 * queries, keys and values.
 *
 * A plan is made for one number of pictures, by a compiler in the library. There is one for each
 * power of two; other numbers are made of these. */
#include "engine/cuda/sdpa.h"

#include "base/alloc.h"
#include "base/log.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/library.h"
#include "engine/tensor.h"

#include <cudnn.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    MAX_PLANS = 5, /* 1, 2, 4, 8, 16 pictures */
    MAX_CONFIGS = 3,
    REPEATS = 5,
    ALIGN = 16,    /* bytes */
    MAX_KEPT = 16, /* descriptors of one number of pictures */
};

/* Relative distance of two results of bf16 arithmetic, each within 4e-3 of the exact one. */
static const double MOST_APART = 1e-2;

enum { UID_Q = 1, UID_K, UID_V, UID_OUT, UID_SCALE, N_UIDS = UID_SCALE };

#define FUNCTIONS(X)            \
    X(Create)                   \
    X(Destroy)                  \
    X(GetVersion)               \
    X(SetStream)                \
    X(BackendCreateDescriptor)  \
    X(BackendDestroyDescriptor) \
    X(BackendExecute)           \
    X(BackendFinalize)          \
    X(BackendGetAttribute)      \
    X(BackendSetAttribute)

#define DECLARE(name) __typeof__(&cudnn##name) name;

typedef struct library {
    void *handle;
    FUNCTIONS(DECLARE)
} library;

typedef cudnnBackendDescriptor_t descriptor;

struct cog_cuda_sdpa {
    library dnn;
    cudnnHandle_t handle;
    descriptor plan[MAX_PLANS];            /* for 1 << i pictures; NULL: our own kernel is better */
    descriptor kept[MAX_PLANS * MAX_KEPT]; /* everything that was created */
    int n_kept;
    void *workspace;
    size_t workspace_bytes;
    float scale;
    cog_cuda_dense shape; /* without memory */
};

/* ---- the library ---- */

/* libcudnn is a shell that loads these at the first call, and where one is missing ends the process
 * instead of saying so. They stay loaded. */
static const char *const parts[] = {
    "libcudnn_graph.so.9",
    "libcudnn_engines_runtime_compiled.so.9",
    "libcudnn_engines_precompiled.so.9",
    "libcudnn_heuristic.so.9",
};

static int load(library *dnn, cog_err *err)
{
    const char *name = NULL;
    int rc = 0;

    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts) && rc == 0; i++) {
        void *part;
        name = parts[i];
        rc = cog_cuda_library_open(&part, name, err);
        if (rc == 0)
            dlclose(part);
    }
    if (rc == 0) {
        name = "libcudnn.so.9";
        rc = cog_cuda_library_open(&dnn->handle, name, err);
    }
    if (rc < 0) {
        cog_err_prefix(err, "%s", name);
        return rc;
    }
#define FIND(f)                                                  \
    dnn->f = (__typeof__(dnn->f))dlsym(dnn->handle, "cudnn" #f); \
    if (!dnn->f)                                                 \
        return cog_err_set(err, COG_EUNSUPPORTED, "%s lacks cudnn%s", name, #f);
    FUNCTIONS(FIND)
    return 0;
}

/* A descriptor that is freed with a; NULL when the library does not know the kind. */
static descriptor make(cog_cuda_sdpa *a, cudnnBackendDescriptorType_t kind)
{
    descriptor d = NULL;

    if (a->n_kept == MAX_PLANS * MAX_KEPT ||
        a->dnn.BackendCreateDescriptor(kind, &d) != CUDNN_STATUS_SUCCESS)
        return NULL;
    a->kept[a->n_kept++] = d;
    return d;
}

static bool set(const cog_cuda_sdpa *a, descriptor d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *value)
{
    return d && a->dnn.BackendSetAttribute(d, name, type, n, value) == CUDNN_STATUS_SUCCESS;
}

static bool link(const cog_cuda_sdpa *a, descriptor d, cudnnBackendAttributeName_t name,
                 descriptor value)
{
    return value && set(a, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static bool finish(const cog_cuda_sdpa *a, descriptor d)
{
    return d && a->dnn.BackendFinalize(d) == CUDNN_STATUS_SUCCESS;
}

/* ---- plans ---- */

static descriptor tensor(cog_cuda_sdpa *a, int64_t uid, cudnnDataType_t type, const int64_t *dim,
                         const int64_t *stride)
{
    descriptor t = make(a, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    int64_t align = ALIGN;
    bool by_value = uid == UID_SCALE;

    return set(a, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid) &&
                   set(a, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type) &&
                   set(a, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align) &&
                   set(a, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim) &&
                   set(a, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride) &&
                   set(a, t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value) &&
                   finish(a, t)
               ? t
               : NULL;
}

/* The graph of one operation: [pictures, heads, tokens, head_dim] in all tensors. */
static descriptor graph(cog_cuda_sdpa *a, int n_images)
{
    const cog_cuda_dense *s = &a->shape;
    int64_t ld_in = (int64_t)s->ld_qkv, ld_out = (int64_t)s->ld_out;
    int64_t dim[4] = { n_images, s->heads, s->tokens, s->head_dim }, one[4] = { 1, 1, 1, 1 };
    int64_t in[4] = { s->tokens * ld_in, s->head_dim, ld_in, 1 };
    int64_t out[4] = { s->tokens * ld_out, s->head_dim, ld_out, 1 };
    descriptor op = make(a, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    descriptor g = make(a, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);

    return link(a, op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC,
                tensor(a, UID_Q, CUDNN_DATA_BFLOAT16, dim, in)) &&
                   link(a, op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC,
                        tensor(a, UID_K, CUDNN_DATA_BFLOAT16, dim, in)) &&
                   link(a, op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC,
                        tensor(a, UID_V, CUDNN_DATA_BFLOAT16, dim, in)) &&
                   link(a, op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC,
                        tensor(a, UID_OUT, CUDNN_DATA_BFLOAT16, dim, out)) &&
                   link(a, op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC,
                        tensor(a, UID_SCALE, CUDNN_DATA_FLOAT, one, one)) &&
                   finish(a, op) &&
                   set(a, g, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &a->handle) &&
                   link(a, g, CUDNN_ATTR_OPERATIONGRAPH_OPS, op) && finish(a, g)
               ? g
               : NULL;
}

/* The library's plans for the graph that run in the workspace, best first by its own estimate. */
static int make_plans(cog_cuda_sdpa *a, descriptor g, descriptor plan[MAX_CONFIGS])
{
    descriptor heur = make(a, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), config[MAX_CONFIGS];
    cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    int64_t n = 0, count, bytes;
    int n_plans = 0;

    for (int i = 0; i < MAX_CONFIGS; i++)
        config[i] = make(a, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (!config[MAX_CONFIGS - 1] || !link(a, heur, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g) ||
        !set(a, heur, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode) ||
        !finish(a, heur) ||
        a->dnn.BackendGetAttribute(heur, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                   CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_CONFIGS, &n,
                                   config) != CUDNN_STATUS_SUCCESS)
        return 0;
    for (int i = 0; i < n && i < MAX_CONFIGS; i++) {
        descriptor p = make(a, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        if (set(a, p, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &a->handle) &&
            link(a, p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config[i]) && finish(a, p) &&
            a->dnn.BackendGetAttribute(p, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                       CUDNN_TYPE_INT64, 1, &count,
                                       &bytes) == CUDNN_STATUS_SUCCESS &&
            bytes >= 0 && (uint64_t)bytes <= a->workspace_bytes)
            plan[n_plans++] = p;
    }
    return n_plans;
}

/* ---- running ---- */

static bool execute(cog_cuda_sdpa *a, cudaStream_t s, descriptor plan, const cog_cuda_dense *d)
{
    size_t part = (size_t)d->heads * (size_t)d->head_dim;
    uint16_t *qkv = (uint16_t *)(uintptr_t)d->qkv;
    int64_t uid[N_UIDS] = { UID_Q, UID_K, UID_V, UID_OUT, UID_SCALE };
    void *data[N_UIDS] = { qkv, qkv + part, qkv + 2 * part, d->out, &a->scale };
    descriptor pack = NULL;
    bool ok = a->dnn.BackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack) ==
              CUDNN_STATUS_SUCCESS;

    a->scale = d->scale;
    ok = ok && set(a, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, N_UIDS, uid) &&
         set(a, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, N_UIDS, data) &&
         set(a, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &a->workspace) &&
         finish(a, pack) && a->dnn.SetStream(a->handle, s) == CUDNN_STATUS_SUCCESS &&
         a->dnn.BackendExecute(a->handle, plan, pack) == CUDNN_STATUS_SUCCESS;
    if (pack)
        a->dnn.BackendDestroyDescriptor(pack);
    return ok;
}

static int flash(cudaStream_t s, const cog_cuda_dense *d)
{
    return cog_cuda_flash_dense(s, d->out, d->ld_out, d->qkv, d->ld_qkv, d->n_images, d->tokens,
                                d->heads, d->head_dim, d->scale);
}

int cog_cuda_sdpa_run(cog_cuda_sdpa *a, cudaStream_t s, const cog_cuda_dense *d)
{
    cog_cuda_dense part = *d;
    int rc = 0;

    for (int left = d->n_images; left > 0 && rc == 0; left -= part.n_images) {
        int i = MAX_PLANS - 1;
        while (i >= 0 && (!a->plan[i] || 1 << i > left))
            i--;
        part.n_images = i < 0 ? left : 1 << i;
        if (i < 0) {
            rc = flash(s, &part);
        } else if (!execute(a, s, a->plan[i], &part)) {
            cog_log(COG_ERROR, "event=cudnn_error call=BackendExecute images=%d", part.n_images);
            rc = COG_EDEVICE;
        }
        part.out = (uint16_t *)part.out + (size_t)part.n_images * (size_t)d->tokens * d->ld_out;
        part.qkv =
            (const uint16_t *)part.qkv + (size_t)part.n_images * (size_t)d->tokens * d->ld_qkv;
    }
    return rc;
}

/* ---- choosing ---- */

typedef struct trial {
    cudaStream_t stream;
    cudaEvent_t begin, end;
    uint16_t *want, *got; /* host copies of the output, without padding */
} trial;

/* The least milliseconds of a few runs; plan NULL: of our own kernel. Less than 0 when it fails. */
static float time_plan(cog_cuda_sdpa *a, const trial *t, descriptor plan, const cog_cuda_dense *d)
{
    float best = -1;

    for (int i = 0; i <= REPEATS; i++) {
        float ms = -1;
        if (cudaEventRecord(t->begin, t->stream) != cudaSuccess ||
            !(plan ? execute(a, t->stream, plan, d) : flash(t->stream, d) == 0) ||
            cudaEventRecord(t->end, t->stream) != cudaSuccess ||
            cudaEventSynchronize(t->end) != cudaSuccess ||
            cudaEventElapsedTime(&ms, t->begin, t->end) != cudaSuccess)
            return -1;
        if (i > 0 && (best < 0 || ms < best)) /* the first loads the kernel */
            best = ms;
    }
    return best;
}

static size_t columns(const cog_cuda_dense *d)
{
    return (size_t)d->heads * (size_t)d->head_dim;
}

static bool read_out(const trial *t, uint16_t *host, const cog_cuda_dense *d)
{
    size_t row = columns(d) * sizeof(uint16_t);

    return cudaMemcpy2DAsync(host, row, d->out, d->ld_out * sizeof(uint16_t), row,
                             (size_t)d->n_images * (size_t)d->tokens, cudaMemcpyDeviceToHost,
                             t->stream) == cudaSuccess &&
           cudaStreamSynchronize(t->stream) == cudaSuccess;
}

/* Distance of got from want, relative to want; infinite when got is not finite. */
static double distance(const trial *t, const cog_cuda_dense *d)
{
    size_t n = (size_t)d->n_images * (size_t)d->tokens * columns(d);
    double off = 0, size = 0;

    for (size_t i = 0; i < n; i++) {
        double want = (double)cog_bf16_to_f32(t->want[i]);
        double got = (double)cog_bf16_to_f32(t->got[i]);
        off += (got - want) * (got - want);
        size += want * want;
    }
    off = size > 0 ? sqrt(off / size) : 1;
    return isfinite(off) ? off : INFINITY;
}

/* Sets a->plan[i] when a plan for that many pictures is right and quicker than our own kernel. */
static int try_count(cog_cuda_sdpa *a, const trial *t, int i, const cog_cuda_dense *all)
{
    cog_cuda_dense d = *all;
    descriptor plan[MAX_CONFIGS], g = graph(a, 1 << i);
    int n = g ? make_plans(a, g, plan) : 0;
    float best, own;

    d.n_images = 1 << i;
    own = best = time_plan(a, t, NULL, &d);
    if (best < 0 || !read_out(t, t->want, &d))
        return COG_EDEVICE;
    for (int p = 0; p < n; p++) {
        float ms;
        double apart;
        if (cudaMemsetAsync(d.out, 0xff, (size_t)d.n_images * (size_t)d.tokens * d.ld_out * 2,
                            t->stream) != cudaSuccess)
            return COG_EDEVICE;
        ms = time_plan(a, t, plan[p], &d);
        if (!read_out(t, t->got, &d))
            return COG_EDEVICE;
        apart = ms < 0 ? INFINITY : distance(t, &d);
        if (ms >= 0 && apart > MOST_APART)
            cog_log(COG_WARN, "event=cudnn_refused images=%d plan=%d apart=%.3g", d.n_images, p,
                    apart);
        if (apart > MOST_APART || ms >= best)
            continue;
        best = ms;
        a->plan[i] = plan[p];
    }
    cog_log(COG_DEBUG, "event=sdpa_tuned images=%d plans=%d ms=%.4f own_ms=%.4f", d.n_images, n,
            (double)best, (double)own);
    return 0;
}

static int try_all(cog_cuda_sdpa *a, const trial *t, const cog_cuda_dense *d, cog_err *err)
{
    bool any = false;
    int rc = 0;

    for (int i = 0; i < MAX_PLANS && 1 << i <= d->n_images && rc == 0; i++) {
        rc = try_count(a, t, i, d);
        any = any || a->plan[i];
    }
    if (rc < 0)
        return cog_err_set(err, rc, "attention fails on the device");
    if (!any)
        return cog_err_set(err, COG_EUNSUPPORTED, "cuDNN %zu is not quicker", a->dnn.GetVersion());
    return 0;
}

int cog_cuda_sdpa_open(cog_cuda_sdpa **out, cudaStream_t s, const cog_cuda_dense *d,
                       void *workspace, size_t workspace_bytes, cog_err *err)
{
    cog_cuda_sdpa *a = cog_new(cog_cuda_sdpa);
    size_t most = (size_t)d->n_images * (size_t)d->tokens * columns(d);
    trial t = { .stream = s };
    int rc = load(&a->dnn, err);

    a->workspace = workspace;
    a->workspace_bytes = workspace_bytes;
    a->shape = *d;
    if (rc == 0 && a->dnn.Create(&a->handle) != CUDNN_STATUS_SUCCESS) {
        a->handle = NULL;
        rc = cog_err_set(err, COG_EUNSUPPORTED, "cuDNN %zu does not start", a->dnn.GetVersion());
    }
    if (rc == 0)
        rc = cog_cuda_check(cudaEventCreate(&t.begin), "cudaEventCreate");
    if (rc == 0)
        rc = cog_cuda_check(cudaEventCreate(&t.end), "cudaEventCreate");
    if (rc == 0) {
        t.want = cog_array(uint16_t, most);
        t.got = cog_array(uint16_t, most);
        rc = try_all(a, &t, d, err);
    }
    if (t.begin)
        cudaEventDestroy(t.begin);
    if (t.end)
        cudaEventDestroy(t.end);
    cog_free(t.want);
    cog_free(t.got);
    if (rc == 0)
        *out = a;
    else
        cog_cuda_sdpa_close(a);
    return rc;
}

void cog_cuda_sdpa_close(cog_cuda_sdpa *a)
{
    if (!a)
        return;
    while (a->n_kept > 0)
        a->dnn.BackendDestroyDescriptor(a->kept[--a->n_kept]);
    if (a->handle)
        a->dnn.Destroy(a->handle);
    if (a->dnn.handle)
        dlclose(a->dnn.handle);
    cog_free(a);
}
