/* engine/cuda/gemm_*.c against a cuBLASLt made here: it computes what its descriptors say, column
 * by column, on the emulator's streams; its clock, event times and L2 cache are this test's. Built
 * with dlopen and its kin, clock_gettime and a few functions of CUDA renamed to fake_*.
 *
 * What a process has decided stays decided: each test has a shape of its own. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "engine/cuda/gemm.h"
#include "engine/cuda/kernels.h"
#include "tests/cudaemu/include/cudaemu.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <math.h>
#include <string.h>
#include <time.h>

enum { N_ALGOS = 5, BROKEN = 2, QUICKEST = 3, WORKSPACE = 1024, L2 = 4096, ALL_ROWS = -1 };

typedef struct fake_layout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
} fake_layout;

typedef struct fake_op {
    cublasComputeType_t compute;
    cudaDataType scale;
    cublasOperation_t transa;
    cublasLtEpilogue_t epilogue;
    const void *bias;
} fake_op;

typedef struct fake_preference {
    uint64_t workspace;
    uint32_t scheme, align[4];
} fake_preference;

typedef struct fake_work {
    fake_op op;
    bool is_off;
    fake_layout a, b, d;
    const void *a_data, *b_data;
    void *d_data, *workspace;
} fake_work;

static struct {
    bool is_missing, fails_to_start;
    bool has_own; /* one of this toolkit's version, too, which does not start */
    const char *lacks;
    char tried[200];
    int alive; /* handles, descriptors and library references */
    int asked; /* times that candidates were asked for */
    int products;
    uint64_t algo, rows; /* of the last product: which, and for which rows it was proposed */
    uint64_t clock_ns, product_ns;
    uint32_t scheme;
    float ms[N_ALGOS];
    int timed;
    bool splits[N_ALGOS];
    int refused[N_ALGOS]; /* rows for which the library's check refuses the algorithm */
    int broken[N_ALGOS];  /* for which it does not run */
    int off[N_ALGOS];     /* from which the result is another; 0: never */
    size_t l2, flushed, least_flushed;
    void *workspace;
} lib, own;

/* Is one of these rows meant? */
static bool hits(int which, uint64_t rows)
{
    return which == ALL_ROWS || (which > 0 && (uint64_t)which == rows);
}

/* ---- the library ---- */

static cublasStatus_t made(void *out, size_t size, const void *value)
{
    void *p = cog_alloc(1, size);

    memcpy(p, value, size);
    memcpy(out, &p, sizeof(p));
    lib.alive++;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t gone(const void *p)
{
    cog_free((void *)(uintptr_t)p);
    lib.alive--;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t fake_Create(cublasLtHandle_t *handle)
{
    if (lib.fails_to_start)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    return made(handle, 1, "");
}

static cublasStatus_t own_Create(cublasLtHandle_t *handle)
{
    return CUBLAS_STATUS_NOT_INITIALIZED;
}

static cublasStatus_t fake_Destroy(cublasLtHandle_t handle)
{
    return gone(handle);
}

static const char *fake_GetStatusString(cublasStatus_t status)
{
    return "as told";
}

static size_t fake_GetVersion(void)
{
    return 130000;
}

static cublasStatus_t fake_MatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                            cudaDataType_t scale)
{
    fake_op op = { .compute = compute,
                   .scale = scale,
                   .transa = CUBLAS_OP_N,
                   .epilogue = CUBLASLT_EPILOGUE_DEFAULT };

    return made(out, sizeof(op), &op);
}

static cublasStatus_t fake_MatmulDescDestroy(cublasLtMatmulDesc_t op)
{
    return gone(op);
}

static cublasStatus_t take(void *field, size_t size, const void *value, size_t bytes)
{
    assert_int_equal(size, bytes);
    memcpy(field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t fake_MatmulDescSetAttribute(cublasLtMatmulDesc_t p,
                                                  cublasLtMatmulDescAttributes_t attribute,
                                                  const void *value, size_t bytes)
{
    fake_op *op = (void *)p;

    switch ((int)attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(&op->transa, sizeof(int32_t), value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(&op->epilogue, sizeof(uint32_t), value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(&op->bias, sizeof(void *), value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

static cublasStatus_t fake_MatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                              uint64_t rows, uint64_t cols, int64_t ld)
{
    fake_layout layout = { .type = type, .rows = rows, .cols = cols, .ld = ld };

    return made(out, sizeof(layout), &layout);
}

static cublasStatus_t fake_MatrixLayoutDestroy(cublasLtMatrixLayout_t p)
{
    return gone(p);
}

static cublasStatus_t fake_MatrixLayoutSetAttribute(cublasLtMatrixLayout_t p,
                                                    cublasLtMatrixLayoutAttribute_t attribute,
                                                    const void *value, size_t bytes)
{
    fake_layout *layout = (void *)p;

    assert_int_equal(attribute, CUBLASLT_MATRIX_LAYOUT_COLS);
    return take(&layout->cols, sizeof(uint64_t), value, bytes);
}

static cublasStatus_t fake_MatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    fake_preference preference = { .scheme = CUBLASLT_REDUCTION_SCHEME_MASK,
                                   .align = { 256, 256, 256, 256 } };

    return made(out, sizeof(preference), &preference);
}

static cublasStatus_t fake_MatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    return gone(p);
}

static cublasStatus_t
fake_MatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                  cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                  size_t bytes)
{
    fake_preference *preference = (void *)p;

    switch ((int)attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return take(&preference->workspace, sizeof(uint64_t), value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return take(&preference->scheme, sizeof(uint32_t), value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return take(&preference->align[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
                    sizeof(uint32_t), value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

static void check_shape(const fake_op *op, const fake_layout *a, const fake_layout *b,
                        const fake_layout *d)
{
    assert_int_equal(op->compute, CUBLAS_COMPUTE_32F);
    assert_int_equal(op->scale, CUDA_R_32F);
    assert_int_equal(op->transa, CUBLAS_OP_T);
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->cols, d->rows);
    assert_int_equal(b->cols, d->cols);
    assert_true(a->type == b->type && b->type == d->type);
    assert_true(a->ld >= (int64_t)a->rows && b->ld >= (int64_t)b->rows &&
                d->ld >= (int64_t)d->rows);
    assert_int_equal(op->epilogue == CUBLASLT_EPILOGUE_BIAS, op->bias != NULL);
}

static cublasStatus_t fake_MatmulAlgoGetHeuristic(
    cublasLtHandle_t handle, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t p, int max, cublasLtMatmulHeuristicResult_t *out, int *n)
{
    const fake_preference *preference = (void *)p;

    check_shape((void *)op, (void *)a, (void *)b, (void *)d);
    assert_ptr_equal(c, d);
    assert_int_equal(preference->workspace, WORKSPACE);
    for (int i = 0; i < 4; i++)
        assert_int_equal(preference->align[i], 16);
    lib.scheme = preference->scheme;
    lib.asked++;
    *n = max < N_ALGOS ? max : N_ALGOS;
    memset(out, 0, (size_t)*n * sizeof(*out));
    for (int i = 0; i < *n; i++) {
        out[i].algo.data[0] = (uint64_t)i;
        out[i].algo.data[1] = ((const fake_layout *)(void *)d)->cols;
    }
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t fake_MatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t op,
                                           cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                           cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                           const cublasLtMatmulAlgo_t *algo,
                                           cublasLtMatmulHeuristicResult_t *result)
{
    check_shape((void *)op, (void *)a, (void *)b, (void *)d);
    memset(result, 0, sizeof(*result));
    return hits(lib.refused[algo->data[0]], ((const fake_layout *)(void *)d)->cols)
               ? CUBLAS_STATUS_NOT_SUPPORTED
               : CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t fake_MatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                        cublasLtMatmulAlgoConfigAttributes_t attr,
                                                        void *value, size_t bytes, size_t *written)
{
    int32_t parts = lib.splits[algo->data[0]] ? 4 : 1;

    assert_int_equal(attr, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
    *written = bytes;
    return take(value, sizeof(parts), &parts, bytes);
}

static float get(cudaDataType type, const void *p, size_t i)
{
    return type == CUDA_R_32F ? ((const float *)p)[i] : cog_bf16_to_f32(((const uint16_t *)p)[i]);
}

static size_t size_of(cudaDataType type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

/* Tells the emulator. */
static void touch(const fake_layout *l, const void *data, bool writes)
{
    for (uint64_t i = 0; i < l->cols; i++) {
        char *column = (char *)(uintptr_t)data + i * (uint64_t)l->ld * size_of(l->type);
        if (writes)
            cudaemu_writes(column, l->rows * size_of(l->type));
        else
            cudaemu_reads(column, l->rows * size_of(l->type));
    }
}

/* d = transposed(a) * b, all column-major. */
static void compute(void *args)
{
    const fake_work *w = args;

    cudaemu_writes(w->workspace, WORKSPACE);
    touch(&w->a, w->a_data, false);
    touch(&w->b, w->b_data, false);
    touch(&w->d, w->d_data, true);
    if (w->op.bias)
        cudaemu_reads(w->op.bias, w->d.rows * size_of(w->d.type));
    for (uint64_t j = 0; j < w->d.cols; j++)
        for (uint64_t i = 0; i < w->d.rows; i++) {
            float sum = w->op.bias ? get(w->d.type, w->op.bias, i) : 0;
            size_t at = j * (uint64_t)w->d.ld + i;
            for (uint64_t l = 0; l < w->b.rows; l++)
                sum += get(w->a.type, w->a_data, i * (uint64_t)w->a.ld + l) *
                       get(w->b.type, w->b_data, j * (uint64_t)w->b.ld + l);
            if (w->is_off)
                sum = -sum - 1;
            if (w->d.type == CUDA_R_32F)
                ((float *)w->d_data)[at] = sum;
            else
                ((uint16_t *)w->d_data)[at] = cog_f32_to_bf16(sum);
        }
}

static cublasStatus_t fake_Matmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t op,
                                  const void *alpha, const void *a_data, cublasLtMatrixLayout_t a,
                                  const void *b_data, cublasLtMatrixLayout_t b, const void *beta,
                                  const void *c_data, cublasLtMatrixLayout_t c, void *d_data,
                                  cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algo,
                                  void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    fake_work w = { .op = *(fake_op *)(void *)op,
                    .a = *(fake_layout *)(void *)a,
                    .b = *(fake_layout *)(void *)b,
                    .d = *(fake_layout *)(void *)d,
                    .a_data = a_data,
                    .b_data = b_data,
                    .d_data = d_data,
                    .workspace = workspace };

    check_shape(&w.op, &w.a, &w.b, &w.d);
    assert_true(*(const float *)alpha == 1 && *(const float *)beta == 0);
    assert_ptr_equal(c_data, d_data);
    assert_ptr_equal(workspace, lib.workspace);
    assert_int_equal(workspace_bytes, WORKSPACE);
    lib.products++;
    if (lib.flushed < lib.least_flushed)
        lib.least_flushed = lib.flushed;
    lib.flushed = 0;
    lib.clock_ns += lib.product_ns;
    lib.algo = algo->data[0];
    lib.rows = algo->data[1];
    w.is_off = lib.off[lib.algo] > 0 && w.d.cols >= (uint64_t)lib.off[lib.algo];
    if (hits(lib.broken[lib.algo], w.d.cols))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    assert_int_equal(cudaemu_enqueue(stream, "product", compute, &w, sizeof(w)), 0);
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the loader, the clock ---- */

void *fake_dlopen(const char *name, int flags)
{
    strncat(lib.tried, name, sizeof(lib.tried) - strlen(lib.tried) - 1);
    if (lib.is_missing || !(strcmp(name, "libcublasLt.so.12") == 0 ||
                            (lib.has_own && strcmp(name, "libcublasLt.so.13") == 0)))
        return NULL;
    lib.alive++;
    return strcmp(name, "libcublasLt.so.12") == 0 ? &lib : &own;
}

int fake_dlclose(void *handle)
{
    lib.alive--;
    return 0;
}

char *fake_dlerror(void)
{
    static char text[] = "no such file";
    return text;
}

void *fake_dlsym(void *handle, const char *name)
{
#define FUNCTION(f)                     \
    {                                   \
        "cublasLt" #f, (void *)fake_##f \
    }
    static const struct {
        const char *name;
        void *function;
    } table[] = {
        FUNCTION(Create),
        FUNCTION(Destroy),
        FUNCTION(GetStatusString),
        FUNCTION(GetVersion),
        FUNCTION(Matmul),
        FUNCTION(MatmulAlgoCheck),
        FUNCTION(MatmulAlgoConfigGetAttribute),
        FUNCTION(MatmulAlgoGetHeuristic),
        FUNCTION(MatmulDescCreate),
        FUNCTION(MatmulDescDestroy),
        FUNCTION(MatmulDescSetAttribute),
        FUNCTION(MatmulPreferenceCreate),
        FUNCTION(MatmulPreferenceDestroy),
        FUNCTION(MatmulPreferenceSetAttribute),
        FUNCTION(MatrixLayoutCreate),
        FUNCTION(MatrixLayoutDestroy),
        FUNCTION(MatrixLayoutSetAttribute),
    };

    if (handle == &own && strcmp(name, "cublasLtCreate") == 0)
        return (void *)own_Create;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
        if (strcmp(name, table[i].name) == 0 && !(lib.lacks && strcmp(name, lib.lacks) == 0))
            return table[i].function;
    return NULL;
}

int fake_clock_gettime(clockid_t which, struct timespec *t)
{
    *t = (struct timespec){ .tv_sec = (time_t)(lib.clock_ns / 1000000000),
                            .tv_nsec = (long)(lib.clock_ns % 1000000000) };
    return 0;
}

cudaError_t fake_elapsed(float *ms, cudaEvent_t begin, cudaEvent_t end);
cudaError_t fake_elapsed(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    *ms = lib.ms[lib.algo];
    lib.timed++;
    return cudaSuccess;
}

cudaError_t fake_attribute(int *value, enum cudaDeviceAttr attribute, int device);
cudaError_t fake_attribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    assert_int_equal(attribute, cudaDevAttrL2CacheSize);
    *value = (int)lib.l2;
    return cudaSuccess;
}

cudaError_t real_memset(void *p, int value, size_t bytes,
                        cudaStream_t s) __asm__("cudaMemsetAsync");
cudaError_t fake_memset(void *p, int value, size_t bytes, cudaStream_t s);
cudaError_t fake_memset(void *p, int value, size_t bytes, cudaStream_t s)
{
    lib.flushed += bytes;
    return real_memset(p, value, bytes, s);
}

int cog_cuda_check(cudaError_t error, const char *what)
{
    return error == cudaSuccess ? 0 : COG_EDEVICE;
}

/* ---- tests ---- */

typedef struct bed {
    cog_cuda_gemm *g;
    cudaStream_t stream;
    cog_dtype type;
    cog_cuda_product p;  /* device memory for max_rows rows */
    float *a, *w, *bias; /* [max_rows, k], [n, k], [n], as the device has them */
    int max_rows;
} bed;

static void *upload(cog_dtype type, const float *v, int rows, int cols, size_t ld)
{
    size_t elem = cog_dtype_size(type);
    char *host = cog_alloc((size_t)rows * ld, elem);
    void *device = NULL;

    for (size_t r = 0; r < (size_t)rows; r++)
        for (size_t i = 0; i < (size_t)cols; i++) {
            uint16_t bits = cog_f32_to_bf16(v[r * (size_t)cols + i]);
            memcpy(host + (r * ld + i) * elem,
                   type == COG_BF16 ? (const void *)&bits : &v[r * (size_t)cols + i], elem);
        }
    assert_int_equal(cudaMalloc(&device, (size_t)rows * ld * elem), cudaSuccess);
    assert_int_equal(cudaMemcpy(device, host, (size_t)rows * ld * elem, cudaMemcpyHostToDevice),
                     cudaSuccess);
    cog_free(host);
    return device;
}

static float *small_numbers(int n)
{
    float *v = cog_array(float, (size_t)n);

    for (int i = 0; i < n; i++)
        v[i] = (float)((i * 7 + 3) % 11 - 5); /* products and sums are exact */
    return v;
}

static bed bed_open(cog_dtype type, int max_rows, int n, int k, bool has_bias, bool invariant)
{
    bed b = { .type = type, .max_rows = max_rows };
    size_t ldk = ((size_t)k + 7) / 8 * 8, ldn = ((size_t)n + 7) / 8 * 8;
    cog_err err = { 0 };

    memset(&lib, 0, sizeof(lib));
    lib.l2 = L2;
    for (int i = 0; i < N_ALGOS; i++)
        lib.ms[i] = i == QUICKEST ? 1 : i == 1 ? 2 : 5;
    lib.broken[BROKEN] = ALL_ROWS;
    assert_int_equal(cudaMalloc(&lib.workspace, WORKSPACE), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cog_cuda_gemm_open(&b.g, type, lib.workspace, WORKSPACE, invariant, &err), 0);
    b.a = small_numbers(max_rows * k);
    b.w = small_numbers(n * k);
    b.bias = small_numbers(n);
    b.p = (cog_cuda_product){ .a = upload(type, b.a, max_rows, k, ldk),
                              .lda = ldk,
                              .w = upload(type, b.w, n, k, ldk),
                              .ldw = ldk,
                              .bias = has_bias ? upload(type, b.bias, 1, n, ldn) : NULL,
                              .ldd = ldn,
                              .rows = max_rows,
                              .n = n,
                              .k = k };
    assert_int_equal(cudaMalloc(&b.p.dst, (size_t)max_rows * ldn * cog_dtype_size(type)),
                     cudaSuccess);
    assert_int_equal(
        cudaMemsetAsync(b.p.dst, 0xff, (size_t)max_rows * ldn * cog_dtype_size(type), b.stream),
        cudaSuccess);
    return b;
}

static void bed_close(bed *b)
{
    cog_cuda_gemm_close(b->g);
    assert_int_equal(lib.alive, 0);
    cudaFree((void *)(uintptr_t)b->p.a);
    cudaFree((void *)(uintptr_t)b->p.w);
    cudaFree((void *)(uintptr_t)b->p.bias);
    cudaFree(b->p.dst);
    cudaFree(lib.workspace);
    cudaStreamDestroy(b->stream);
    cog_free(b->a);
    cog_free(b->w);
    cog_free(b->bias);
}

static void run(bed *b, int rows)
{
    b->p.rows = rows;
    assert_int_equal(cog_cuda_gemm_run(b->g, b->stream, &b->p), 0);
}

static void expect(bed *b, int rows)
{
    size_t elem = cog_dtype_size(b->type), bytes = (size_t)rows * b->p.ldd * elem;
    char *got = cog_alloc(bytes + 1, 1);

    assert_int_equal(cudaStreamSynchronize(b->stream), cudaSuccess);
    assert_int_equal(cudaMemcpy(got, b->p.dst, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < b->p.n; o++) {
            float want = b->p.bias ? b->bias[o] : 0;
            for (int i = 0; i < b->p.k; i++)
                want += b->a[r * b->p.k + i] * b->w[o * b->p.k + i];
            assert_true(get(b->type == COG_F32 ? CUDA_R_32F : CUDA_R_16BF, got,
                            (size_t)r * b->p.ldd + (size_t)o) ==
                        (b->type == COG_F32 ? want : cog_round_bf16(want)));
        }
    cog_free(got);
}

static void a_product_is_what_the_contract_says(void **state)
{
    for (int how = 0; how < 8; how++) {
        bed b = bed_open(how & 1 ? COG_BF16 : COG_F32, 9, 13, 21, how & 2, how & 4);
        static const int rows[] = { 9, 0, 1, 5, 9 };
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
            run(&b, rows[i]);
            expect(&b, rows[i]);
        }
        bed_close(&b);
    }
}

/* Two products of one shape and different memory, then a graph of both. */
static void a_tuned_product_may_be_recorded(void **state)
{
    bed b = bed_open(COG_BF16, 40, 8, 16, true, false);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    int asked;

    assert_int_equal(cog_cuda_gemm_tune(b.g, b.stream, &b.p, 40), 0);
    asked = lib.asked;
    cog_alloc_guard_begin("recording");
    assert_int_equal(cudaStreamBeginCapture(b.stream, cudaStreamCaptureModeThreadLocal),
                     cudaSuccess);
    run(&b, 33);
    assert_int_equal(cudaStreamEndCapture(b.stream, &graph), cudaSuccess);
    cog_alloc_guard_end();
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(b.p.dst, 0xff, 40 * b.p.ldd * 2, b.stream), cudaSuccess);
    assert_int_equal(cudaGraphLaunch(exec, b.stream), cudaSuccess);
    expect(&b, 33);
    assert_int_equal(lib.asked, asked);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    bed_close(&b);
}

static void tune(bed *b, int max_rows)
{
    assert_int_equal(cog_cuda_gemm_tune(b->g, b->stream, &b->p, max_rows), 0);
}

static cog_cuda_gemm *another(const bed *b, bool invariant)
{
    cog_cuda_gemm *g = NULL;
    cog_err err = { 0 };

    assert_int_equal(cog_cuda_gemm_open(&g, b->type, lib.workspace, WORKSPACE, invariant, &err), 0);
    return g;
}

static void the_quickest_that_runs_is_kept_for_its_rows(void **state)
{
    static const int rows[][2] = { { 1, 1 },     { 2, 2 },    { 3, 4 },     { 17, 24 },
                                   { 65, 96 },   { 97, 128 }, { 128, 128 }, { 129, 256 },
                                   { 257, 384 }, { 300, 384 } };
    bed b = bed_open(COG_BF16, 300, 8, 8, false, false);
    int asked;

    tune(&b, 300);
    assert_int_equal(lib.scheme, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    asked = lib.asked;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        run(&b, rows[i][0]);
        assert_int_equal(lib.algo, QUICKEST);
        assert_int_equal(lib.rows, rows[i][1]);
    }
    tune(&b, 200);
    assert_int_equal(lib.asked, asked);
    bed_close(&b);
}

/* One of a bucket's numbers is refused, also one above this object's most. */
static void a_choice_does_all_of_its_rows(void **state)
{
    static const struct {
        int refused, run, algo;
    } cases[] = { { 20, 17, 1 }, { 20, 24, 1 }, { 20, 16, QUICKEST }, { 384, 300, 1 } };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        bed b = bed_open(COG_BF16, 300, 8, 16 + (int)i, false, false);
        lib.refused[QUICKEST] = cases[i].refused;
        tune(&b, 300);
        run(&b, cases[i].run);
        assert_int_equal(lib.algo, cases[i].algo);
        expect(&b, cases[i].run);
        bed_close(&b);
    }
}

/* No candidate does all of a bucket: each number there has the library's choice for it. */
static void a_bucket_without_a_choice_asks_for_each_number(void **state)
{
    bed b = bed_open(COG_BF16, 32, 8, 20, false, false);
    int asked;

    for (int i = 0; i < N_ALGOS; i++)
        lib.refused[i] = 20;
    tune(&b, 32);
    asked = lib.asked;
    run(&b, 21);
    assert_int_equal(lib.algo, 0);
    assert_int_equal(lib.rows, 21);
    run(&b, 25);
    assert_int_equal(lib.algo, QUICKEST);
    run(&b, 21);
    assert_int_equal(lib.rows, 21);
    assert_int_equal(lib.asked, asked + 1);
    bed_close(&b);
}

/* In a step: nothing is allocated. */
static void what_fails_is_done_as_the_library_says(void **state)
{
    bed b = bed_open(COG_BF16, 32, 8, 21, true, false);
    int asked;

    tune(&b, 32);
    asked = lib.asked;
    lib.broken[QUICKEST] = 30;
    cog_alloc_guard_begin("step");
    run(&b, 30);
    cog_alloc_guard_end();
    assert_int_equal(lib.algo, 0);
    assert_int_equal(lib.rows, 30);
    expect(&b, 30);
    lib.products = 0;
    run(&b, 30);
    assert_int_equal(lib.products, 1);
    assert_int_equal(lib.asked, asked + 1);
    run(&b, 29);
    assert_int_equal(lib.algo, QUICKEST);
    lib.broken[0] = lib.broken[QUICKEST] = ALL_ROWS;
    for (b.p.rows = 28; b.p.rows <= 30; b.p.rows++)
        assert_int_equal(cog_cuda_gemm_run(b.g, b.stream, &b.p), COG_EDEVICE);
    bed_close(&b);
}

static void an_untuned_shape_takes_the_first_choice_once(void **state)
{
    bed b = bed_open(COG_F32, 700, 8, 8, false, false);

    run(&b, 700);
    assert_int_equal(lib.algo, 0);
    assert_int_equal(lib.rows, 700);
    expect(&b, 700);
    for (int pass = 0; pass < 2; pass++)
        for (int rows = 1; rows <= 200; rows++)
            run(&b, rows);
    assert_int_equal(lib.asked, 201);
    for (int rows = 201; rows <= 600; rows++) { /* more than are kept */
        run(&b, rows);
        assert_int_equal(lib.rows, rows);
    }
    run(&b, 600);
    assert_int_equal(lib.asked, 601);
    tune(&b, 600);
    run(&b, 600);
    assert_int_equal(lib.algo, QUICKEST);
    run(&b, 700);
    run(&b, 600);
    assert_int_equal(lib.algo, QUICKEST);
    bed_close(&b);
}

/* The clock says otherwise by the time that the second object is there. */
static void one_process_decides_once(void **state)
{
    bed b = bed_open(COG_BF16, 200, 8, 22, false, false);
    cog_cuda_gemm *first = b.g;

    tune(&b, 40);
    b.g = another(&b, false);
    lib.ms[1] = 0.5f;
    lib.asked = lib.products = 0;
    tune(&b, 40);
    assert_int_equal(lib.asked + lib.products, 0);
    run(&b, 33);
    assert_int_equal(lib.algo, QUICKEST);
    tune(&b, 200); /* more rows: those that nobody decided about */
    assert_int_equal(lib.asked, 4);
    run(&b, 48);
    assert_int_equal(lib.algo, QUICKEST);
    run(&b, 49);
    assert_int_equal(lib.algo, 1);
    expect(&b, 49);
    cog_cuda_gemm_close(first);

    first = b.g;
    b.g = another(&b, true);
    lib.asked = 0;
    tune(&b, 48); /* an invariant object decides for itself */
    assert_int_equal(lib.asked, 1);
    cog_cuda_gemm_close(first);
    bed_close(&b);
}

/* The first that qualifies, though another is quicker. */
static void invariant_takes_the_first_that_keeps_the_bits(void **state)
{
    bed b = bed_open(COG_BF16, 200, 8, 23, true, true);

    lib.refused[0] = 17;
    lib.splits[1] = true;
    lib.off[QUICKEST] = 100;
    tune(&b, 200);
    assert_int_equal(lib.timed, 0);
    assert_int_equal(lib.scheme, CUBLASLT_REDUCTION_SCHEME_NONE);
    for (int rows = 1; rows <= 200; rows += 33) {
        run(&b, rows);
        assert_int_equal(lib.algo, 4);
        assert_int_equal(lib.rows, 128); /* whatever the most is */
        expect(&b, rows);
    }
    bed_close(&b);
}

static void invariant_refuses_what_cannot_be(void **state)
{
    bed b = bed_open(COG_BF16, 200, 8, 24, true, true);

    for (int i = 0; i < N_ALGOS; i++)
        lib.off[i] = 200; /* only among all of them */
    assert_int_equal(cog_cuda_gemm_tune(b.g, b.stream, &b.p, 200), COG_EUNSUPPORTED);
    lib.splits[0] = true;
    tune(&b, 199);
    run(&b, 150);
    assert_int_equal(lib.algo, 1);
    lib.broken[1] = 150; /* no other would have its bits */
    assert_int_equal(cog_cuda_gemm_run(b.g, b.stream, &b.p), COG_EDEVICE);
    bed_close(&b);
}

static void an_untuned_invariant_shape_has_one_algorithm(void **state)
{
    bed b = bed_open(COG_BF16, 200, 8, 25, false, true);

    lib.splits[0] = true;
    lib.refused[1] = 100;
    lib.broken[BROKEN] = 0;
    for (int rows = 5; rows <= 200; rows += 65) {
        run(&b, rows);
        assert_int_equal(lib.algo, 2);
        assert_int_equal(lib.rows, 128);
        expect(&b, rows);
    }
    assert_int_equal(lib.asked, 1);
    bed_close(&b);
    b = bed_open(COG_BF16, 1, 8, 26, false, true);
    for (int i = 0; i < N_ALGOS; i++)
        lib.splits[i] = true;
    b.p.rows = 1;
    assert_int_equal(cog_cuda_gemm_run(b.g, b.stream, &b.p), COG_EDEVICE);
    bed_close(&b);
}

/* A slow device: every bucket still gets its first choice, and not much more. */
static void tuning_ends(void **state)
{
    bed b = bed_open(COG_BF16, 300, 8, 27, false, false);
    enum { BUCKETS = 13, RUNS = 4 };

    lib.product_ns = 100 * UINT64_C(1000000);
    tune(&b, 300);
    assert_in_range(lib.products, BUCKETS * 2, BUCKETS * RUNS);
    run(&b, 300);
    assert_int_equal(lib.algo, 0);
    bed_close(&b);
}

/* As much as the cache holds is written before each, or what there is. */
static void a_timed_product_finds_a_cold_cache(void **state)
{
    static const size_t l2[][2] = { { L2, L2 },
                                    { WORKSPACE / 2, WORKSPACE },
                                    { (size_t)INT32_MAX, WORKSPACE } };
    size_t before, after, total;

    cudaemu_set(CUDAEMU_MEMORY_MIB, 64);
    for (size_t i = 0; i < sizeof(l2) / sizeof(*l2); i++) {
        bed b = bed_open(COG_BF16, 20, 8, 28 + (int)i, false, false);
        cog_cuda_gemm_close(b.g);
        lib.l2 = l2[i][0];
        b.g = another(&b, false);
        lib.least_flushed = SIZE_MAX;
        assert_int_equal(cudaMemGetInfo(&before, &total), cudaSuccess);
        tune(&b, 20);
        assert_int_equal(cudaMemGetInfo(&after, &total), cudaSuccess);
        assert_int_equal(after, before);
        assert_int_not_equal(lib.timed, 0);
        assert_int_equal(lib.least_flushed, l2[i][1]);
        assert_int_equal(cudaGetLastError(), cudaSuccess);
        bed_close(&b);
    }
}

static void what_is_missing_is_named(void **state)
{
    static const char *const names[] = { "libcublasLt.so.13", "libcublasLt.so.12",
                                         "libcublasLt.so" };
    cog_cuda_gemm *g = NULL;
    cog_err err = { 0 };

    memset(&lib, 0, sizeof(lib));
    lib.is_missing = true;
    assert_int_equal(cog_cuda_gemm_open(&g, COG_F32, NULL, 0, false, &err), COG_EUNSUPPORTED);
    assert_string_equal(lib.tried, CUDART_VERSION >= 13000
                                       ? "libcublasLt.so.13libcublasLt.so.12libcublasLt.so"
                                       : "libcublasLt.so.12libcublasLt.so.13libcublasLt.so");
    for (int i = 0; i < 3; i++)
        assert_non_null(strstr(err.text, names[i]));
    assert_int_equal(cog_cuda_gemm_available(&err), COG_EUNSUPPORTED);
    lib.is_missing = false;
    assert_int_equal(cog_cuda_gemm_available(&err), 0);
    lib.lacks = "cublasLtMatmulAlgoCheck";
    assert_int_equal(cog_cuda_gemm_open(&g, COG_F32, NULL, 0, false, &err), COG_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "cublasLtMatmulAlgoCheck"));
    assert_int_equal(cog_cuda_gemm_available(&err), COG_EUNSUPPORTED);
    lib.lacks = NULL;
    lib.fails_to_start = true;
    assert_int_equal(cog_cuda_gemm_available(&err), 0); /* there may be no device */
    assert_int_equal(cog_cuda_gemm_open(&g, COG_F32, NULL, 0, false, &err), COG_EDEVICE);
    assert_non_null(strstr(err.text, "as told"));
    assert_null(g);
    assert_int_equal(lib.alive, 0);
    cog_cuda_gemm_close(NULL);
}

static void the_next_library_is_tried(void **state)
{
    cog_cuda_gemm *g = NULL;
    cog_err err = { 0 };

    memset(&lib, 0, sizeof(lib));
    lib.has_own = true;
    assert_int_equal(cog_cuda_gemm_open(&g, COG_F32, NULL, WORKSPACE, false, &err), 0);
    assert_string_equal(lib.tried, CUDART_VERSION >= 13000 ? "libcublasLt.so.13libcublasLt.so.12"
                                                           : "libcublasLt.so.12");
    cog_cuda_gemm_close(g);
    assert_int_equal(lib.alive, 0);
}

static int end_device(void **state)
{
    cudaemu_reset();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_is_what_the_contract_says),
        cmocka_unit_test(a_tuned_product_may_be_recorded),
        cmocka_unit_test(the_quickest_that_runs_is_kept_for_its_rows),
        cmocka_unit_test(a_choice_does_all_of_its_rows),
        cmocka_unit_test(a_bucket_without_a_choice_asks_for_each_number),
        cmocka_unit_test(what_fails_is_done_as_the_library_says),
        cmocka_unit_test(an_untuned_shape_takes_the_first_choice_once),
        cmocka_unit_test(one_process_decides_once),
        cmocka_unit_test(invariant_takes_the_first_that_keeps_the_bits),
        cmocka_unit_test(invariant_refuses_what_cannot_be),
        cmocka_unit_test(an_untuned_invariant_shape_has_one_algorithm),
        cmocka_unit_test(tuning_ends),
        cmocka_unit_test(a_timed_product_finds_a_cold_cache),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(the_next_library_is_tried),
    };

    return cmocka_run_group_tests(tests, NULL, end_device);
}
