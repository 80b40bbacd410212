/* gemm_lt.c - gemm.h by cuBLASLt.
 *
 * In cuBLASLt's column-major words dst is [n, rows] = transposed([k, n] = w) * [k, rows] = a: the
 * "TN" form, the one for which it has the most kernels.
 *
 * Invariant: one algorithm does every number of rows: no split of k, so each element of dst is
 * summed by one block in the order of the tile, wherever in the grid the tile is. The library
 * promises this nowhere; tuning compares the bits of a few numbers of rows, the backend's
 * self-check and the conformance tests those of whole steps. */
#include "engine/cuda/gemm_lt.h"

#include "base/alloc.h"
#include "base/log.h"
#include "engine/cuda/kernels.h"

#include <string.h>

typedef cog_cuda_gemm_shape shape;

enum {
    ALIGN = 16, /* bytes that pointers and rows are known to be aligned to */
    OBJECT_MS = 3000,
};

int cog_cuda_gemm_check(const cog_cuda_gemm *g, cublasStatus_t status, const char *what)
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
    int rc = cog_cuda_gemm_check(g, g->lt.MatmulPreferenceCreate(&g->preference),
                                 "MatmulPreferenceCreate");

#define PREFER(attribute, value)                                                                   \
    if (rc == 0)                                                                                   \
        rc = cog_cuda_gemm_check(                                                                  \
            g,                                                                                     \
            g->lt.MatmulPreferenceSetAttribute(g->preference, attribute, &(value), sizeof(value)), \
            "MatmulPreferenceSetAttribute");
    PREFER(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, bytes)
    PREFER(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, scheme)
    for (int i = 0; i < 4; i++)
        PREFER(align[i], bytes_aligned)
    return rc;
}

/* Where the objects' products run. */
static int ask_device(cog_cuda_gemm *g, cog_err *err)
{
    int l2 = 0, rc = cog_cuda_check(cudaGetDevice(&g->device), "cudaGetDevice");

    if (rc == 0)
        rc = cog_cuda_check(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, g->device),
                            "L2 size");
    g->l2_bytes = l2 > 0 ? (size_t)l2 : 0;
    return rc < 0 ? cog_err_set(err, rc, "the GPU does not tell the size of its L2 cache") : 0;
}

int cog_cuda_gemm_open(cog_cuda_gemm **out, cog_dtype type, void *workspace, size_t workspace_bytes,
                       bool invariant, cog_err *err)
{
    cog_cuda_gemm *g = cog_new(cog_cuda_gemm);
    int rc;

    g->type = type;
    g->workspace = workspace;
    g->workspace_bytes = workspace_bytes;
    g->invariant = invariant;
    g->left_ns = OBJECT_MS * UINT64_C(1000000);
    rc = cog_cublaslt_load(&g->lt, &g->handle, err);
    if (rc < 0)
        goto fail;
    rc = ask_device(g, err);
    if (rc < 0)
        goto fail;
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
    cog_cublaslt_unload(&g->lt);
    cog_free(g);
}

/* ---- shapes ---- */

static int set_op(const cog_cuda_gemm *g, const shape *sh, cublasLtMatmulDescAttributes_t attribute,
                  const void *value, size_t bytes)
{
    return cog_cuda_gemm_check(g, g->lt.MatmulDescSetAttribute(sh->op, attribute, value, bytes),
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
    if (g->invariant) {
        sh->choice = cog_new(cog_cuda_gemm_choice);
        sh->n_choices = 1;
    }
    rc = cog_cuda_gemm_check(g, g->lt.MatmulDescCreate(&sh->op, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                             "MatmulDescCreate");
    if (rc == 0)
        rc = set_op(g, sh, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed));
    if (rc == 0)
        rc = set_op(g, sh, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue));
    if (rc == 0)
        rc = cog_cuda_gemm_check(g, g->lt.MatrixLayoutCreate(&sh->w, type, k, n, (int64_t)p->ldw),
                                 "layout of w");
    if (rc == 0)
        rc = cog_cuda_gemm_check(g, g->lt.MatrixLayoutCreate(&sh->a, type, k, 1, (int64_t)p->lda),
                                 "layout of a");
    if (rc == 0)
        rc = cog_cuda_gemm_check(g, g->lt.MatrixLayoutCreate(&sh->d, type, n, 1, (int64_t)p->ldd),
                                 "layout of dst");
    return rc;
}

int cog_cuda_gemm_set_rows(const cog_cuda_gemm *g, const shape *sh, int rows)
{
    const cublasLtMatrixLayoutAttribute_t attribute = CUBLASLT_MATRIX_LAYOUT_COLS;
    uint64_t cols = (uint64_t)rows;
    int rc = cog_cuda_gemm_check(
        g, g->lt.MatrixLayoutSetAttribute(sh->a, attribute, &cols, sizeof(cols)), "rows of a");

    return rc ? rc
              : cog_cuda_gemm_check(
                    g, g->lt.MatrixLayoutSetAttribute(sh->d, attribute, &cols, sizeof(cols)),
                    "rows of dst");
}

static bool is_of(const shape *sh, const cog_cuda_product *p)
{
    return sh->n == p->n && sh->k == p->k && sh->lda == p->lda && sh->ldw == p->ldw &&
           sh->ldd == p->ldd && sh->has_bias == !!p->bias;
}

shape *cog_cuda_gemm_describe(cog_cuda_gemm *g, const cog_cuda_product *p, int rows)
{
    shape *sh;
    int i = 0, rc = 0;

    while (i < g->n_shapes && !is_of(&g->shape[i], p))
        i++;
    if (i == g->n_shapes) {
        g->shape = cog_realloc(g->shape, (size_t)i + 1, sizeof(*sh));
        rc = shape_init(g, &g->shape[i], p);
        if (rc < 0) {
            shape_fini(g, &g->shape[i]);
            return NULL;
        }
        g->n_shapes++;
    }
    sh = &g->shape[i];
    if (p->bias)
        rc = set_op(g, sh, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof(p->bias));
    if (rc == 0)
        rc = cog_cuda_gemm_set_rows(g, sh, rows);
    return rc == 0 ? sh : NULL;
}

int cog_cuda_gemm_candidates(const cog_cuda_gemm *g, const shape *sh,
                             cublasLtMatmulHeuristicResult_t *out, int max)
{
    int n = 0;
    cublasStatus_t status = g->lt.MatmulAlgoGetHeuristic(g->handle, sh->op, sh->w, sh->a, sh->d,
                                                         sh->d, g->preference, max, out, &n);

    if (status == CUBLAS_STATUS_SUCCESS && n > 0 && out[0].state == CUBLAS_STATUS_SUCCESS)
        return n;
    cog_log(COG_ERROR, "event=cublaslt_error call=MatmulAlgoGetHeuristic n=%d k=%d", sh->n, sh->k);
    return COG_EDEVICE;
}

/* ---- products ---- */

cublasStatus_t cog_cuda_gemm_multiply(const cog_cuda_gemm *g, cudaStream_t s, const shape *sh,
                                      const cog_cuda_product *p, const cublasLtMatmulAlgo_t *algo)
{
    static const float one = 1, zero = 0;

    return g->lt.Matmul(g->handle, sh->op, &one, p->w, sh->w, p->a, sh->a, &zero, p->dst, sh->d,
                        p->dst, sh->d, algo, g->workspace, g->workspace_bytes, s);
}

/* Where the library's choice for exactly these rows is or may be stored. */
static cog_cuda_gemm_exact *exact_at(cog_cuda_gemm *g, int i_shape, int rows)
{
    cog_cuda_gemm_exact *e = g->exact;

    for (int i = 0; i < COG_CUDA_GEMM_EXACT; i++, e++)
        if (e->rows == rows && e->shape == i_shape)
            return e;
    return &g->exact[g->n_exact % COG_CUDA_GEMM_EXACT];
}

static const cublasLtMatmulAlgo_t *chosen(cog_cuda_gemm *g, const shape *sh, int rows)
{
    int bucket = g->invariant ? 0 : cog_cuda_gemm_bucket(rows);
    int i_shape = (int)(sh - g->shape);

    if (sh->has_exact) {
        const cog_cuda_gemm_exact *e = exact_at(g, i_shape, rows);
        if (e->rows == rows && e->shape == i_shape)
            return &e->algo;
    }
    return bucket < sh->n_choices && sh->choice[bucket].known ? &sh->choice[bucket].algo : NULL;
}

/* Allocates nothing: a step may need it. NULL when the library has no choice. */
static const cublasLtMatmulAlgo_t *choose_exact(cog_cuda_gemm *g, shape *sh, int rows)
{
    int i_shape = (int)(sh - g->shape);
    cog_cuda_gemm_exact *e = exact_at(g, i_shape, rows);
    cublasLtMatmulHeuristicResult_t first;

    if (cog_cuda_gemm_candidates(g, sh, &first, 1) < 0)
        return NULL;
    if (e->rows != rows || e->shape != i_shape)
        g->n_exact++;
    *e = (cog_cuda_gemm_exact){ .shape = i_shape, .rows = rows, .algo = first.algo };
    sh->has_exact = true;
    return &e->algo;
}

static void warn_once(cog_cuda_gemm *g, const shape *sh, int rows, cublasStatus_t status)
{
    if (g->has_warned)
        return;
    g->has_warned = true;
    cog_log(COG_WARN,
            "event=gemm_refused rows=%d n=%d k=%d reason=\"%s\" instead=\"the library's own "
            "choice\"",
            rows, sh->n, sh->k, g->lt.GetStatusString(status));
}

int cog_cuda_gemm_run(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p)
{
    const cublasLtMatmulAlgo_t *algo;
    cublasStatus_t status;
    shape *sh;

    if (p->rows == 0)
        return 0;
    sh = cog_cuda_gemm_describe(g, p, p->rows);
    if (!sh)
        return COG_EDEVICE;
    if (g->invariant && !sh->choice[0].known &&
        (cog_cuda_gemm_choose_untuned(g, sh) < 0 || cog_cuda_gemm_set_rows(g, sh, p->rows) < 0))
        return COG_EDEVICE;
    algo = chosen(g, sh, p->rows);
    if (algo) {
        status = cog_cuda_gemm_multiply(g, s, sh, p, algo);
        if (status == CUBLAS_STATUS_SUCCESS || g->invariant) /* any other has other bits */
            return cog_cuda_gemm_check(g, status, "Matmul");
        warn_once(g, sh, p->rows, status);
    }
    algo = choose_exact(g, sh, p->rows);
    if (!algo)
        return COG_EDEVICE;
    return cog_cuda_gemm_check(g, cog_cuda_gemm_multiply(g, s, sh, p, algo), "Matmul");
}
