#include "tests/unit/fake_cublaslt.h"

#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "engine/cuda/kernels.h"
#include "tests/cudaemu/include/cudaemu.h"
#include "tests/unit/fake_library.h"

#include <cublasLt.h>
#include <math.h>
#include <string.h>
#include <time.h>

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

struct fake_cublaslt lib;
static int own; /* the library of this toolkit's version */

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
    fake_alive++;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t gone(const void *p)
{
    cog_free((void *)(uintptr_t)p);
    fake_alive--;
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

float fake_get(cudaDataType type, const void *p, size_t at)
{
    return type == CUDA_R_32F ? ((const float *)p)[at] : cog_bf16_to_f32(((const uint16_t *)p)[at]);
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
            float sum = w->op.bias ? fake_get(w->d.type, w->op.bias, i) : 0;
            size_t at = j * (uint64_t)w->d.ld + i;
            for (uint64_t l = 0; l < w->b.rows; l++)
                sum += fake_get(w->a.type, w->a_data, i * (uint64_t)w->a.ld + l) *
                       fake_get(w->b.type, w->b_data, j * (uint64_t)w->b.ld + l);
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
    fake_alive++;
    return strcmp(name, "libcublasLt.so.12") == 0 ? (void *)&lib : (void *)&own;
}

void *fake_dlsym(void *handle, const char *name)
{
#define FUNCTION(f)                     \
    {                                   \
        "cublasLt" #f, (void *)fake_##f \
    }
    static const fake_symbol table[] = {
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
    return fake_symbol_find(table, sizeof(table) / sizeof(*table), name, lib.lacks);
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
