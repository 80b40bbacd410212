/* engine/cuda/sdpa_cudnn.c against a cuDNN made here, which computes what its descriptors say on
 * the emulator's streams; times are this test's. Built with dlopen and its kin and
 * cudaEventElapsedTime renamed to fake_*. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/sdpa.h"
#include "tests/cudaemu/include/cudaemu.h"
#include "tests/unit/fake_library.h"

#include <cudnn.h>
#include <dlfcn.h>
#include <math.h>
#include <string.h>

enum { MAX_ATTRIBUTES = 12, MAX_BYTES = 64, N_CONFIGS = 2, WORKSPACE = 512 };

typedef struct fake {
    cudnnBackendDescriptorType_t kind;
    int n_attributes;
    struct {
        cudnnBackendAttributeName_t name;
        cudnnBackendAttributeType_t type;
        int64_t n;
        char value[MAX_BYTES];
    } attribute[MAX_ATTRIBUTES];
    bool is_finished;
    const struct fake *graph; /* of a config */
    int config;
} fake;

typedef struct view {
    uint16_t *data;
    int64_t dim[4], stride[4];
} view;

typedef struct attention {
    view q, k, v, out;
    float scale;
    int spoil; /* the result by so many percent */
} attention;

static struct {
    bool has_no_sdpa, refuses, is_started;
    const char *missing; /* a library */
    const char *lacks;
    int spoil[N_CONFIGS];
    int64_t workspace[N_CONFIGS];
    float ms[N_CONFIGS + 1];    /* for each picture; the last: our own kernel */
    int done[N_CONFIGS + 1][8]; /* runs, by pictures */
    int last, last_images;
    cudaStream_t stream;
} lib;

/* ---- attention by strides ---- */

static float at(const view *t, int64_t b, int64_t h, int64_t s, int64_t i)
{
    return cog_bf16_to_f32(t->data[b * t->stride[0] + h * t->stride[1] + s * t->stride[2] + i]);
}

static void attend_row(const attention *a, int64_t b, int64_t h, int64_t row)
{
    int64_t tokens = a->k.dim[2], d = a->q.dim[3];
    double *p = cog_array(double, (size_t)tokens), sum = 0;

    for (int64_t s = 0; s < tokens; s++) {
        double dot = 0;
        for (int64_t i = 0; i < d; i++)
            dot += (double)at(&a->q, b, h, row, i) * (double)at(&a->k, b, h, s, i);
        p[s] = exp(dot * (double)a->scale);
        sum += p[s];
    }
    for (int64_t i = 0; i < d; i++) {
        double value = 0;
        for (int64_t s = 0; s < tokens; s++)
            value += p[s] * (double)at(&a->v, b, h, s, i);
        a->out.data[b * a->out.stride[0] + h * a->out.stride[1] + row * a->out.stride[2] + i] =
            cog_f32_to_bf16((float)(value / sum * (1 + a->spoil / 100.0)));
    }
    cog_free(p);
}

/* Tells the emulator. */
static void touch(const view *t, bool writes)
{
    size_t bytes = (size_t)t->dim[3] * sizeof(uint16_t);

    for (int64_t b = 0; b < t->dim[0]; b++)
        for (int64_t h = 0; h < t->dim[1]; h++)
            for (int64_t row = 0; row < t->dim[2]; row++) {
                uint16_t *p = t->data + b * t->stride[0] + h * t->stride[1] + row * t->stride[2];
                if (writes)
                    cudaemu_writes(p, bytes);
                else
                    cudaemu_reads(p, bytes);
            }
}

static void attend(void *args)
{
    const attention *a = args;

    touch(&a->q, false);
    touch(&a->k, false);
    touch(&a->v, false);
    touch(&a->out, true);
    for (int64_t b = 0; b < a->q.dim[0]; b++)
        for (int64_t h = 0; h < a->q.dim[1]; h++)
            for (int64_t row = 0; row < a->q.dim[2]; row++)
                attend_row(a, b, h, row);
}

static int enqueue(cudaStream_t s, const attention *a, int who)
{
    lib.last = who;
    lib.last_images = (int)a->q.dim[0];
    lib.done[who][lib.last_images]++;
    return cudaemu_enqueue(s, "attention", attend, a, sizeof(*a));
}

int cog_cuda_flash_dense(cudaStream_t s, void *out, size_t ld_out, const void *qkv, size_t ld_qkv,
                         int n_images, int tokens, int heads, int head_dim, float scale)
{
    int64_t ld = (int64_t)ld_qkv, ld_o = (int64_t)ld_out;
    view in = { (uint16_t *)(uintptr_t)qkv,
                { n_images, heads, tokens, head_dim },
                { tokens * ld, head_dim, ld, 1 } };
    attention a = { .q = in, .k = in, .v = in, .scale = scale };

    a.k.data += heads * head_dim;
    a.v.data += 2 * heads * head_dim;
    a.out =
        (view){ out, { n_images, heads, tokens, head_dim }, { tokens * ld_o, head_dim, ld_o, 1 } };
    return enqueue(s, &a, N_CONFIGS);
}

int cog_cuda_check(cudaError_t error, const char *what)
{
    return error == cudaSuccess ? 0 : COG_EDEVICE;
}

/* ---- the library ---- */

static fake *of(cudnnBackendDescriptor_t d)
{
    return (fake *)d;
}

static const void *get(const fake *d, cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < d->n_attributes; i++)
        if (d->attribute[i].name == name)
            return d->attribute[i].value;
    fail_msg("attribute %d was not set", (int)name);
    return NULL;
}

static const fake *linked(const fake *d, cudnnBackendAttributeName_t name)
{
    const fake *other;

    memcpy(&other, get(d, name), sizeof(other));
    assert_true(other->is_finished || other->kind == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    return other;
}

static cudnnStatus_t fake_Create(cudnnHandle_t *handle)
{
    *handle = cog_alloc(1, 1);
    fake_alive++;
    lib.is_started = true;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t fake_Destroy(cudnnHandle_t handle)
{
    cog_free(handle);
    fake_alive--;
    return CUDNN_STATUS_SUCCESS;
}

static size_t fake_GetVersion(void)
{
    return 91900;
}

static cudnnStatus_t fake_SetStream(cudnnHandle_t handle, cudaStream_t s)
{
    lib.stream = s;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t fake_BackendCreateDescriptor(cudnnBackendDescriptorType_t kind,
                                                  cudnnBackendDescriptor_t *out)
{
    fake *d;

    if (lib.has_no_sdpa && kind == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)
        return CUDNN_STATUS_NOT_SUPPORTED;
    d = cog_new(fake);
    d->kind = kind;
    *out = d;
    fake_alive++;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t fake_BackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    cog_free(d);
    fake_alive--;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t fake_BackendSetAttribute(cudnnBackendDescriptor_t p,
                                              cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t n,
                                              const void *value)
{
    fake *d = of(p);
    size_t size = type == CUDNN_TYPE_BOOLEAN                                     ? 1
                  : type == CUDNN_TYPE_DATA_TYPE || type == CUDNN_TYPE_HEUR_MODE ? 4
                                                                                 : 8;

    assert_false(d->is_finished);
    assert_in_range(d->n_attributes, 0, MAX_ATTRIBUTES - 1);
    assert_in_range(size * (size_t)n, 1, MAX_BYTES);
    d->attribute[d->n_attributes].name = name;
    d->attribute[d->n_attributes].type = type;
    d->attribute[d->n_attributes].n = n;
    memcpy(d->attribute[d->n_attributes++].value, value, size * (size_t)n);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t fake_BackendGetAttribute(cudnnBackendDescriptor_t p,
                                              cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t max,
                                              int64_t *n, void *value)
{
    const fake *d = of(p);
    cudnnBackendDescriptor_t *config = value;

    assert_true(d->is_finished);
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        const fake *c = linked(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
        memcpy(value, &lib.workspace[c->config], sizeof(int64_t));
        *n = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    assert_int_equal(name, CUDNN_ATTR_ENGINEHEUR_RESULTS);
    assert_in_range(max, N_CONFIGS, 100);
    for (*n = 0; *n < N_CONFIGS; ++*n) {
        of(config[*n])->graph = linked(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
        of(config[*n])->config = (int)*n;
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t fake_BackendFinalize(cudnnBackendDescriptor_t p)
{
    fake *d = of(p);

    if (lib.refuses && d->kind == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
        return CUDNN_STATUS_NOT_SUPPORTED;
    d->is_finished = true;
    return CUDNN_STATUS_SUCCESS;
}

/* The tensor of an operation, and the memory that the pack has for it. */
static view view_of(const fake *op, cudnnBackendAttributeName_t name, const fake *pack)
{
    const fake *t = linked(op, name);
    const int64_t *uid = get(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    void *const *data = get(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    int64_t mine;
    view v = { 0 };

    memcpy(&mine, get(t, CUDNN_ATTR_TENSOR_UNIQUE_ID), sizeof(mine));
    memcpy(v.dim, get(t, CUDNN_ATTR_TENSOR_DIMENSIONS), sizeof(v.dim));
    memcpy(v.stride, get(t, CUDNN_ATTR_TENSOR_STRIDES), sizeof(v.stride));
    for (int i = 0; i < 5; i++)
        if (uid[i] == mine)
            v.data = data[i];
    assert_non_null(v.data);
    return v;
}

static cudnnStatus_t fake_BackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                         cudnnBackendDescriptor_t p)
{
    const fake *config = linked(of(plan), CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const fake *op = linked(config->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    attention a = { .q = view_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, of(p)),
                    .k = view_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, of(p)),
                    .v = view_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, of(p)),
                    .out = view_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, of(p)),
                    .spoil = lib.spoil[config->config] };
    view scale = view_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, of(p));

    assert_true(of(p)->is_finished);
    assert_true(*(const bool *)get(linked(op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC),
                                   CUDNN_ATTR_TENSOR_IS_BY_VALUE));
    memcpy(&a.scale, scale.data, sizeof(float));
    return enqueue(lib.stream, &a, config->config) == 0 ? CUDNN_STATUS_SUCCESS
                                                        : CUDNN_STATUS_EXECUTION_FAILED;
}

/* ---- the loader, the clock ---- */

void *fake_dlopen(const char *name, int flags)
{
    static const char *const names[] = { "libcudnn.so.9", "libcudnn_graph.so.9",
                                         "libcudnn_engines_runtime_compiled.so.9",
                                         "libcudnn_engines_precompiled.so.9",
                                         "libcudnn_heuristic.so.9" };

    assert_true(flags & RTLD_NODELETE);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(name, names[i]) == 0 && !(lib.missing && strcmp(name, lib.missing) == 0)) {
            fake_alive++;
            return i == 0 ? (void *)&lib : (void *)&lib.last; /* another one */
        }
    return NULL;
}

void *fake_dlsym(void *handle, const char *name)
{
#define FUNCTION(f)                  \
    {                                \
        "cudnn" #f, (void *)fake_##f \
    }
    static const fake_symbol table[] = {
        FUNCTION(Create),
        FUNCTION(Destroy),
        FUNCTION(GetVersion),
        FUNCTION(SetStream),
        FUNCTION(BackendCreateDescriptor),
        FUNCTION(BackendDestroyDescriptor),
        FUNCTION(BackendExecute),
        FUNCTION(BackendFinalize),
        FUNCTION(BackendGetAttribute),
        FUNCTION(BackendSetAttribute),
    };

    assert_ptr_equal(handle, &lib);
    return fake_symbol_find(table, sizeof(table) / sizeof(*table), name, lib.lacks);
}

cudaError_t fake_elapsed(float *ms, cudaEvent_t begin, cudaEvent_t end);
cudaError_t fake_elapsed(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    /* one picture leaves most of a device idle, for cuDNN */
    *ms = lib.ms[lib.last] * (lib.last < N_CONFIGS && lib.last_images == 1 ? 10 : 1);
    return cudaSuccess;
}

/* ---- tests ---- */

enum { IMAGES = 7, TOKENS = 5, HEADS = 3, DIM = 8, LD_OUT = 32, LD_QKV = 80 };

typedef struct bed {
    cudaStream_t stream;
    cog_cuda_dense d;
    void *workspace;
    cog_err err;
} bed;

static bed bed_open(void)
{
    size_t in = (size_t)IMAGES * TOKENS * LD_QKV, out = (size_t)IMAGES * TOKENS * LD_OUT;
    uint16_t *host = cog_array(uint16_t, in);
    void *qkv;
    bed b = { .d = { .ld_out = LD_OUT,
                     .ld_qkv = LD_QKV,
                     .n_images = IMAGES,
                     .tokens = TOKENS,
                     .heads = HEADS,
                     .head_dim = DIM,
                     .scale = 0.5f } };

    memset(&lib, 0, sizeof(lib));
    lib.ms[0] = 3;
    lib.ms[1] = 2;
    lib.ms[N_CONFIGS] = 5;
    for (size_t i = 0; i < in; i++)
        host[i] = cog_f32_to_bf16((float)(i * 37 % 101) / 50 - 1);
    assert_int_equal(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaMalloc(&qkv, 2 * in), cudaSuccess);
    assert_int_equal(cudaMemcpy(qkv, host, 2 * in, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(cudaMalloc(&b.d.out, 2 * out), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(b.d.out, 0xff, 2 * out, b.stream), cudaSuccess);
    assert_int_equal(cudaMalloc(&b.workspace, WORKSPACE), cudaSuccess);
    b.d.qkv = qkv;
    cog_free(host);
    return b;
}

static int open_sdpa(bed *b, cog_cuda_sdpa **a)
{
    return cog_cuda_sdpa_open(a, b->stream, &b->d, b->workspace, WORKSPACE, &b->err);
}

static void bed_close(bed *b)
{
    assert_int_equal(fake_alive, 0);
    cudaFree((void *)(uintptr_t)b->d.qkv);
    cudaFree(b->d.out);
    cudaFree(b->workspace);
    cudaStreamDestroy(b->stream);
}

static void read_out(const bed *b, uint16_t *host)
{
    assert_int_equal(cudaStreamSynchronize(b->stream), cudaSuccess);
    assert_int_equal(
        cudaMemcpy(host, b->d.out, 2 * (size_t)IMAGES * TOKENS * LD_OUT, cudaMemcpyDeviceToHost),
        cudaSuccess);
}

static void the_quicker_one_does_what_it_is_quicker_at(void **state)
{
    bed b = bed_open();
    cog_cuda_sdpa *a;
    uint16_t want[IMAGES * TOKENS * LD_OUT], got[IMAGES * TOKENS * LD_OUT];

    assert_int_equal(open_sdpa(&b, &a), 0);
    for (int n = 0; n <= IMAGES; n++) {
        cog_cuda_dense d = b.d;
        d.n_images = n;
        assert_int_equal(cudaMemsetAsync(d.out, 0xff, sizeof(want), b.stream), cudaSuccess);
        assert_int_equal(cog_cuda_flash_dense(b.stream, d.out, d.ld_out, d.qkv, d.ld_qkv, n, TOKENS,
                                              HEADS, DIM, d.scale),
                         0);
        read_out(&b, want);
        assert_int_equal(cudaMemsetAsync(d.out, 0xff, sizeof(want), b.stream), cudaSuccess);
        memset(lib.done, 0, sizeof(lib.done));
        assert_int_equal(cog_cuda_sdpa_run(a, b.stream, &d), 0);
        read_out(&b, got);
        assert_memory_equal(got, want, sizeof(want));
        assert_int_equal(lib.done[1][4], n / 4);
        assert_int_equal(lib.done[1][2], n / 2 % 2);
        assert_int_equal(lib.done[N_CONFIGS][1], n % 2);
        assert_int_equal(lib.done[1][1] + lib.done[0][1] + lib.done[0][2] + lib.done[0][4], 0);
    }
    cog_cuda_sdpa_close(a);
    bed_close(&b);
}

static void a_wrong_plan_is_refused(void **state)
{
    bed b = bed_open();
    cog_cuda_sdpa *a;
    cog_cuda_dense d = b.d;

    lib.spoil[1] = 3;
    assert_int_equal(open_sdpa(&b, &a), 0);
    memset(lib.done, 0, sizeof(lib.done));
    d.n_images = 4;
    assert_int_equal(cog_cuda_sdpa_run(a, b.stream, &d), 0);
    assert_int_equal(lib.done[0][4], 1);
    cog_cuda_sdpa_close(a);
    lib.spoil[0] = 3;
    assert_int_equal(open_sdpa(&b, &a), COG_EUNSUPPORTED);
    bed_close(&b);
}

static void a_plan_needs_the_workspace_there_is(void **state)
{
    bed b = bed_open();
    cog_cuda_sdpa *a;

    lib.workspace[0] = WORKSPACE;
    lib.workspace[1] = WORKSPACE + 1;
    assert_int_equal(open_sdpa(&b, &a), 0);
    assert_int_equal(lib.done[1][4], 0);
    assert_int_not_equal(lib.done[0][4], 0);
    cog_cuda_sdpa_close(a);
    bed_close(&b);
}

static void without_gain_there_is_none(void **state)
{
    bed b = bed_open();
    cog_cuda_sdpa *a = NULL;

    lib.ms[N_CONFIGS] = 2;
    assert_int_equal(open_sdpa(&b, &a), COG_EUNSUPPORTED);
    assert_non_null(strstr(b.err.text, "not quicker"));
    lib.ms[N_CONFIGS] = 5;
    lib.refuses = true;
    assert_int_equal(open_sdpa(&b, &a), COG_EUNSUPPORTED);
    lib.refuses = false;
    lib.has_no_sdpa = true;
    assert_int_equal(open_sdpa(&b, &a), COG_EUNSUPPORTED);
    lib.has_no_sdpa = false;
    lib.lacks = "cudnnBackendExecute";
    assert_int_equal(open_sdpa(&b, &a), COG_EUNSUPPORTED);
    assert_non_null(strstr(b.err.text, "cudnnBackendExecute"));
    assert_null(a);
    cog_cuda_sdpa_close(NULL);
    bed_close(&b);
}

/* Not one call into a library of which a part is missing. */
static void an_incomplete_library_is_left_alone(void **state)
{
    static const char *const parts[] = { "libcudnn.so.9", "libcudnn_graph.so.9",
                                         "libcudnn_engines_runtime_compiled.so.9",
                                         "libcudnn_engines_precompiled.so.9",
                                         "libcudnn_heuristic.so.9" };
    bed b = bed_open();
    cog_cuda_sdpa *a = NULL;

    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        lib.missing = parts[i];
        assert_int_equal(open_sdpa(&b, &a), COG_EUNSUPPORTED);
        assert_non_null(strstr(b.err.text, parts[i]));
        assert_false(lib.is_started);
        assert_null(a);
        assert_int_equal(fake_alive, 0);
    }
    bed_close(&b);
}

static int end_device(void **state)
{
    cudaemu_reset();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_quicker_one_does_what_it_is_quicker_at),
        cmocka_unit_test(a_wrong_plan_is_refused),
        cmocka_unit_test(a_plan_needs_the_workspace_there_is),
        cmocka_unit_test(without_gain_there_is_none),
        cmocka_unit_test(an_incomplete_library_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, end_device);
}
