/* gemm_lt.c - gemm.h by cuBLASLt, loaded when the first object is opened, so that one binary runs
 * on machines that do not have it.
 *
 * In cuBLASLt's column-major words dst is [n, rows] = transposed([k, n] = w) * [k, rows] = a: the
 * "TN" form, the one for which it has the most kernels.
 *
 * Invariant: one algorithm does every number of rows: no split of k, so each element of dst is
 * summed by one block in the order of the tile, wherever in the grid the tile is. The library
 * promises this nowhere; the backend's self-check and the conformance tests compare the bits. */
#include "engine/cuda/gemm.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/cuda/kernels.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

enum {
    ALIGN = 16, /* bytes that pointers and rows are known to be aligned to */
    MAX_CANDIDATES = 12,
    MAX_CANDIDATES_SMALL = 6, /* for up to ROWS_SMALL rows: the weight's read decides */
    ROWS_SMALL = 96,
    ROWS_UNTUNED = 128, /* an invariant shape that was never tuned is chosen for these */
    REPEATS = 3,
    SHAPE_MS = 250,
    OBJECT_MS = 3000,
};

#define FUNCTIONS(X)                \
    X(Create)                       \
    X(Destroy)                      \
    X(GetStatusString)              \
    X(GetVersion)                   \
    X(Matmul)                       \
    X(MatmulAlgoCheck)              \
    X(MatmulAlgoGetHeuristic)       \
    X(MatmulDescCreate)             \
    X(MatmulDescDestroy)            \
    X(MatmulDescSetAttribute)       \
    X(MatmulPreferenceCreate)       \
    X(MatmulPreferenceDestroy)      \
    X(MatmulPreferenceSetAttribute) \
    X(MatrixLayoutCreate)           \
    X(MatrixLayoutDestroy)          \
    X(MatrixLayoutSetAttribute)

#define DECLARE(name) __typeof__(&cublasLt##name) name;

typedef struct library {
    void *handle;
    FUNCTIONS(DECLARE)
} library;

typedef struct choice {
    bool known;
    cublasLtMatmulAlgo_t algo;
} choice;

/* What a product must have in common with another to be done in the same way. The descriptors'
 * number of rows and bias are those of the last product. */
typedef struct shape {
    int n, k;
    size_t lda, ldw, ldd;
    bool has_bias;
    int tuned_rows; /* 0: never tuned */
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w, a, d;
    choice *choice; /* [n_choices], by bucket_of */
    int n_choices;
} shape;

struct cog_cuda_gemm {
    library lt;
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    cog_dtype type;
    void *workspace;
    size_t workspace_bytes;
    bool invariant;
    uint64_t left_ns; /* for tuning */
    shape *shape;
    int n_shapes;
};

/* ---- numbers of rows that share a choice ---- */

static const int small_bucket[] = { 1, 2, 4, 8, 16, 24, 32, 48, 64, 96 };

enum {
    N_SMALL = sizeof(small_bucket) / sizeof(*small_bucket),
    FINE = 128, /* then multiples of this up to FINE_END, then of COARSE */
    FINE_END = 2048,
    COARSE = 256,
    N_FINE = FINE_END / FINE,
};

static int bucket_of(int rows)
{
    for (int i = 0; i < N_SMALL; i++)
        if (rows <= small_bucket[i])
            return i;
    if (rows <= FINE_END)
        return N_SMALL + (rows - 1) / FINE;
    return N_SMALL + N_FINE + (rows - FINE_END - 1) / COARSE;
}

static int bucket_rows(int bucket)
{
    if (bucket < N_SMALL)
        return small_bucket[bucket];
    if (bucket < N_SMALL + N_FINE)
        return (bucket - N_SMALL + 1) * FINE;
    return FINE_END + (bucket - N_SMALL - N_FINE + 1) * COARSE;
}

/* ---- the library ---- */

static int load(library *lt, cog_err *err)
{
    static const char *const names[] = { "libcublasLt.so.13", "libcublasLt.so.12",
                                         "libcublasLt.so" };
    const char *reason = NULL;

    /* What it registers at exit must still be there then. */
    for (size_t i = 0; i < sizeof(names) / sizeof(*names) && !lt->handle; i++) {
        lt->handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (!lt->handle && !reason)
            reason = dlerror();
    }
    if (!lt->handle)
        return cog_err_set(err, COG_EUNSUPPORTED,
                           "cuBLASLt cannot be loaded as %s, %s or %s: %s; install the CUDA "
                           "libraries or add their folder to LD_LIBRARY_PATH",
                           names[0], names[1], names[2], reason ? reason : "no reason given");
#define FIND(name)                                                        \
    lt->name = (__typeof__(lt->name))dlsym(lt->handle, "cublasLt" #name); \
    if (!lt->name)                                                        \
        return cog_err_set(err, COG_EUNSUPPORTED, "the cuBLASLt library lacks cublasLt%s", #name);
    FUNCTIONS(FIND)
    return 0;
}

static int check(const cog_cuda_gemm *g, cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return 0;
    cog_log(COG_ERROR, "event=cublaslt_error call=%s reason=\"%s\"", what,
            g->lt.GetStatusString(status));
    return COG_EDEVICE;
}

static int make_preference(cog_cuda_gemm *g)
{
    static const cublasLtMatmulPreferenceAttributes_t align[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES
    };
    uint64_t bytes = g->workspace_bytes;
    /* The other schemes keep partial sums in dst's type: several roundings. */
    uint32_t scheme =
        g->invariant ? CUBLASLT_REDUCTION_SCHEME_NONE : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    uint32_t bytes_aligned = ALIGN;
    int rc = check(g, g->lt.MatmulPreferenceCreate(&g->preference), "MatmulPreferenceCreate");

#define PREFER(attribute, value)                                                                   \
    if (rc == 0)                                                                                   \
        rc = check(                                                                                \
            g,                                                                                     \
            g->lt.MatmulPreferenceSetAttribute(g->preference, attribute, &(value), sizeof(value)), \
            "MatmulPreferenceSetAttribute");
    PREFER(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, bytes)
    PREFER(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, scheme)
    for (int i = 0; i < 4; i++)
        PREFER(align[i], bytes_aligned)
    return rc;
}

int cog_cuda_gemm_open(cog_cuda_gemm **out, cog_dtype type, void *workspace, size_t workspace_bytes,
                       bool invariant, cog_err *err)
{
    cog_cuda_gemm *g = cog_new(cog_cuda_gemm);
    cublasStatus_t status;
    int rc;

    g->type = type;
    g->workspace = workspace;
    g->workspace_bytes = workspace_bytes;
    g->invariant = invariant;
    g->left_ns = OBJECT_MS * UINT64_C(1000000);
    rc = load(&g->lt, err);
    if (rc < 0)
        goto fail;
    status = g->lt.Create(&g->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        rc = cog_err_set(err, COG_EDEVICE, "cuBLASLt %zu does not start: %s", g->lt.GetVersion(),
                         g->lt.GetStatusString(status));
        goto fail;
    }
    rc = make_preference(g);
    if (rc < 0) {
        cog_err_set(err, rc, "cuBLASLt %zu refuses a setting", g->lt.GetVersion());
        goto fail;
    }
    cog_log(COG_DEBUG, "event=cublaslt version=%zu workspace=%zu", g->lt.GetVersion(),
            workspace_bytes);
    *out = g;
    return 0;

fail:
    cog_cuda_gemm_close(g);
    return rc;
}

static void shape_fini(const cog_cuda_gemm *g, shape *sh)
{
    if (sh->op)
        g->lt.MatmulDescDestroy(sh->op);
    if (sh->w)
        g->lt.MatrixLayoutDestroy(sh->w);
    if (sh->a)
        g->lt.MatrixLayoutDestroy(sh->a);
    if (sh->d)
        g->lt.MatrixLayoutDestroy(sh->d);
    cog_free(sh->choice);
}

void cog_cuda_gemm_close(cog_cuda_gemm *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->n_shapes; i++)
        shape_fini(g, &g->shape[i]);
    cog_free(g->shape);
    if (g->preference)
        g->lt.MatmulPreferenceDestroy(g->preference);
    if (g->handle)
        g->lt.Destroy(g->handle);
    if (g->lt.handle)
        dlclose(g->lt.handle);
    cog_free(g);
}

/* ---- shapes ---- */

static int set_op(const cog_cuda_gemm *g, const shape *sh, cublasLtMatmulDescAttributes_t attribute,
                  const void *value, size_t bytes)
{
    return check(g, g->lt.MatmulDescSetAttribute(sh->op, attribute, value, bytes),
                 "MatmulDescSetAttribute");
}

static int shape_init(const cog_cuda_gemm *g, shape *sh, const cog_cuda_product *p)
{
    cudaDataType_t type = g->type == COG_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    uint64_t n = (uint64_t)p->n, k = (uint64_t)p->k;
    int rc;

    *sh = (shape){ .n = p->n, .k = p->k, .lda = p->lda, .ldw = p->ldw, .ldd = p->ldd };
    sh->has_bias = p->bias;
    rc = check(g, g->lt.MatmulDescCreate(&sh->op, CUBLAS_COMPUTE_32F, CUDA_R_32F),
               "MatmulDescCreate");
    if (rc == 0)
        rc = set_op(g, sh, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed));
    if (rc == 0)
        rc = set_op(g, sh, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue));
    if (rc == 0)
        rc = check(g, g->lt.MatrixLayoutCreate(&sh->w, type, k, n, (int64_t)p->ldw), "layout of w");
    if (rc == 0)
        rc = check(g, g->lt.MatrixLayoutCreate(&sh->a, type, k, 1, (int64_t)p->lda), "layout of a");
    if (rc == 0)
        rc = check(g, g->lt.MatrixLayoutCreate(&sh->d, type, n, 1, (int64_t)p->ldd),
                   "layout of dst");
    return rc;
}

/* The shape's descriptors with p's bias and this many rows; NULL when the library fails. */
static shape *describe(cog_cuda_gemm *g, const cog_cuda_product *p, int rows)
{
    shape *sh = g->shape;
    uint64_t cols = (uint64_t)rows;
    int i = 0, rc = 0;

    for (; i < g->n_shapes; i++, sh++)
        if (sh->n == p->n && sh->k == p->k && sh->lda == p->lda && sh->ldw == p->ldw &&
            sh->ldd == p->ldd && sh->has_bias == !!p->bias)
            break;
    if (i == g->n_shapes) {
        g->shape = cog_realloc(g->shape, (size_t)i + 1, sizeof(*sh));
        sh = &g->shape[i];
        rc = shape_init(g, sh, p);
        if (rc < 0) {
            shape_fini(g, sh);
            return NULL;
        }
        g->n_shapes++;
    }
    if (p->bias)
        rc = set_op(g, sh, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof(p->bias));
    if (rc == 0)
        rc = check(
            g,
            g->lt.MatrixLayoutSetAttribute(sh->a, CUBLASLT_MATRIX_LAYOUT_COLS, &cols, sizeof(cols)),
            "rows of a");
    if (rc == 0)
        rc = check(
            g,
            g->lt.MatrixLayoutSetAttribute(sh->d, CUBLASLT_MATRIX_LAYOUT_COLS, &cols, sizeof(cols)),
            "rows of dst");
    return rc == 0 ? sh : NULL;
}

/* The library's candidates for the shape as described, best first by its own estimate: at least
 * one, or COG_EDEVICE. */
static int candidates(const cog_cuda_gemm *g, const shape *sh, int rows,
                      cublasLtMatmulHeuristicResult_t *out, int max)
{
    int n = 0;
    cublasStatus_t status = g->lt.MatmulAlgoGetHeuristic(g->handle, sh->op, sh->w, sh->a, sh->d,
                                                         sh->d, g->preference, max, out, &n);

    if (status == CUBLAS_STATUS_SUCCESS && n > 0 && out[0].state == CUBLAS_STATUS_SUCCESS)
        return n;
    cog_log(COG_ERROR, "event=cublaslt_error call=MatmulAlgoGetHeuristic rows=%d n=%d k=%d", rows,
            sh->n, sh->k);
    return COG_EDEVICE;
}

static choice *choice_at(const cog_cuda_gemm *g, shape *sh, int rows)
{
    int bucket = g->invariant ? 0 : bucket_of(rows);

    if (bucket >= sh->n_choices) {
        sh->choice = cog_realloc(sh->choice, (size_t)bucket + 1, sizeof(choice));
        memset(sh->choice + sh->n_choices, 0,
               (size_t)(bucket + 1 - sh->n_choices) * sizeof(choice));
        sh->n_choices = bucket + 1;
    }
    return &sh->choice[bucket];
}

static cublasStatus_t multiply(const cog_cuda_gemm *g, cudaStream_t s, const shape *sh,
                               const cog_cuda_product *p, const cublasLtMatmulAlgo_t *algo)
{
    static const float one = 1, zero = 0;

    return g->lt.Matmul(g->handle, sh->op, &one, p->w, sh->w, p->a, sh->a, &zero, p->dst, sh->d,
                        p->dst, sh->d, algo, g->workspace, g->workspace_bytes, s);
}

int cog_cuda_gemm_run(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p)
{
    cublasLtMatmulHeuristicResult_t first;
    choice *c;
    shape *sh;

    if (p->rows == 0)
        return 0;
    sh = describe(g, p, p->rows);
    if (!sh)
        return COG_EDEVICE;
    c = choice_at(g, sh, p->rows);
    if (!c->known) {
        if (g->invariant && !describe(g, p, ROWS_UNTUNED))
            return COG_EDEVICE;
        if (candidates(g, sh, p->rows, &first, 1) < 0)
            return COG_EDEVICE;
        *c = (choice){ .known = true, .algo = first.algo };
        if (!describe(g, p, p->rows))
            return COG_EDEVICE;
    }
    return check(g, multiply(g, s, sh, p, &c->algo), "Matmul");
}

/* ---- tuning ---- */

typedef struct timer {
    cudaStream_t stream;
    cudaEvent_t begin, end;
} timer;

/* Milliseconds of one product that finds nothing in the L2 cache, as in a step; less than 0 when
 * the algorithm does not run. */
static float time_once(const cog_cuda_gemm *g, const timer *t, const shape *sh,
                       const cog_cuda_product *p, const cublasLtMatmulAlgo_t *algo)
{
    float ms = -1;

    if (cudaMemsetAsync(g->workspace, 0, g->workspace_bytes, t->stream) != cudaSuccess ||
        cudaEventRecord(t->begin, t->stream) != cudaSuccess ||
        multiply(g, t->stream, sh, p, algo) != CUBLAS_STATUS_SUCCESS ||
        cudaEventRecord(t->end, t->stream) != cudaSuccess ||
        cudaEventSynchronize(t->end) != cudaSuccess ||
        cudaEventElapsedTime(&ms, t->begin, t->end) != cudaSuccess)
        return -1;
    return ms;
}

/* The best of a few, or of two when that is far from the best so far. */
static float time_algo(const cog_cuda_gemm *g, const timer *t, const shape *sh,
                       const cog_cuda_product *p, const cublasLtMatmulAlgo_t *algo, float best)
{
    float least = time_once(g, t, sh, p, algo); /* loads the kernel: not counted */

    if (least < 0)
        return -1;
    least = time_once(g, t, sh, p, algo);
    for (int i = 1; i < REPEATS && least >= 0 && (best < 0 || least < 1.2f * best); i++) {
        float ms = time_once(g, t, sh, p, algo);
        if (ms < least)
            least = ms;
    }
    return least;
}

/* Does it do every number of rows, in the memory there is? */
static bool fits_all(cog_cuda_gemm *g, const cog_cuda_product *p, const cublasLtMatmulAlgo_t *algo,
                     int max_rows)
{
    cublasLtMatmulHeuristicResult_t result;

    for (int b = bucket_of(max_rows); b >= 0; b--) {
        int rows = bucket_rows(b) < max_rows ? bucket_rows(b) : max_rows;
        const shape *sh = describe(g, p, rows);
        if (!sh || g->lt.MatmulAlgoCheck(g->handle, sh->op, sh->w, sh->a, sh->d, sh->d, algo,
                                         &result) != CUBLAS_STATUS_SUCCESS)
            return false;
        if (result.workspaceSize > g->workspace_bytes)
            return false;
    }
    return true;
}

/* Times candidates for this many rows until the time is used up, the first in any case. */
static int tune_rows(cog_cuda_gemm *g, const timer *t, const cog_cuda_product *p, int rows,
                     uint64_t until_ns)
{
    cublasLtMatmulHeuristicResult_t list[MAX_CANDIDATES];
    shape *sh = describe(g, p, rows);
    float best = -1, first = -1;
    int n, winner = -1, tried = 0;

    if (!sh)
        return COG_EDEVICE;
    n = candidates(g, sh, rows, list, rows <= ROWS_SMALL ? MAX_CANDIDATES_SMALL : MAX_CANDIDATES);
    if (n < 0)
        return n;
    for (int i = 0; i < n && (winner < 0 || cog_now_ns() < until_ns); i++) {
        float ms;
        if (g->invariant && !fits_all(g, p, &list[i].algo, rows))
            continue;
        if (!describe(g, p, rows))
            return COG_EDEVICE;
        ms = time_algo(g, t, sh, p, &list[i].algo, best);
        tried++;
        if (i == 0)
            first = ms;
        if (ms >= 0 && (best < 0 || ms < best)) {
            best = ms;
            winner = i;
        }
    }
    if (winner < 0) {
        cog_log(COG_ERROR,
                "event=cublaslt_error call=Matmul rows=%d n=%d k=%d reason=\"none of %d "
                "algorithms runs\"",
                rows, sh->n, sh->k, n);
        return COG_EDEVICE;
    }
    *choice_at(g, sh, rows) = (choice){ .known = true, .algo = list[winner].algo };
    cog_log(COG_DEBUG,
            "event=gemm_tuned rows=%d n=%d k=%d winner=%d tried=%d ms=%.4f first_ms=%.4f", rows,
            sh->n, sh->k, winner, tried, (double)best, (double)first);
    return 0;
}

/* Largest first; each may use its part of the time left by rows, what it does not use goes to the
 * smaller ones. */
static int tune_all(cog_cuda_gemm *g, const timer *t, const cog_cuda_product *p, int max_rows,
                    uint64_t end_ns)
{
    int rc = 0;

    for (int b = bucket_of(max_rows); b >= 0 && rc == 0; b--) {
        int rows = bucket_rows(b) < max_rows ? bucket_rows(b) : max_rows;
        uint64_t now = cog_now_ns(), all = 0;
        for (int i = 0; i < b; i++)
            all += (uint64_t)bucket_rows(i);
        all += (uint64_t)rows;
        rc = tune_rows(g, t, p, rows,
                       now < end_ns ? now + (end_ns - now) * (uint64_t)rows / all : now);
        if (g->invariant)
            break;
    }
    return rc;
}

int cog_cuda_gemm_tune(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p, int max_rows)
{
    uint64_t begin = cog_now_ns(), time = SHAPE_MS * UINT64_C(1000000);
    timer t = { .stream = s };
    shape *sh;
    int rc;

    if (max_rows < 1)
        return 0;
    sh = describe(g, p, max_rows);
    if (!sh)
        return COG_EDEVICE;
    if (sh->tuned_rows >= max_rows)
        return 0;
    rc = cog_cuda_check(cudaEventCreate(&t.begin), "cudaEventCreate");
    if (rc < 0)
        goto fail;
    rc = cog_cuda_check(cudaEventCreate(&t.end), "cudaEventCreate");
    if (rc < 0)
        goto fail;
    rc = tune_all(g, &t, p, max_rows, begin + (time < g->left_ns ? time : g->left_ns));
    if (rc < 0)
        goto fail;
    sh->tuned_rows = max_rows;
    time = cog_now_ns() - begin;
    g->left_ns -= time < g->left_ns ? time : g->left_ns;

fail:
    if (t.begin)
        cudaEventDestroy(t.begin);
    if (t.end)
        cudaEventDestroy(t.end);
    return rc;
}
