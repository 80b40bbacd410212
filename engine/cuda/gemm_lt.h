/* gemm_lt.h - what the files behind gemm.h share on a GPU: gemm_load.c loads the library, gemm_lt.c
 * does products, gemm_tune.c chooses how. */
#ifndef COG_ENGINE_CUDA_GEMM_LT_H
#define COG_ENGINE_CUDA_GEMM_LT_H

#include "engine/cuda/gemm.h"

#include <cublasLt.h>
#include <stdint.h>

#define COG_CUBLASLT(X)             \
    X(Create)                       \
    X(Destroy)                      \
    X(GetStatusString)              \
    X(GetVersion)                   \
    X(Matmul)                       \
    X(MatmulAlgoCheck)              \
    X(MatmulAlgoConfigGetAttribute) \
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

#define COG_CUBLASLT_DECLARE(name) __typeof__(&cublasLt##name) name;

typedef struct cog_cublaslt {
    void *library;
    COG_CUBLASLT(COG_CUBLASLT_DECLARE)
} cog_cublaslt;

/* The first library that can be loaded and, when handle is not NULL, started. COG_EUNSUPPORTED:
 * none can be loaded; COG_EDEVICE: none that can be loaded starts. */
int cog_cublaslt_load(cog_cublaslt *lt, cublasLtHandle_t *handle, cog_err *err);
void cog_cublaslt_unload(cog_cublaslt *lt);

enum {
    /* Invariant mode's algorithm is the library's choice for so many rows, whatever the limits of
     * this object are: wide enough for thousands, and few rows still occupy the device. */
    COG_CUDA_GEMM_INVARIANT_ROWS = 128,
    COG_CUDA_GEMM_EXACT = 256,
};

typedef struct cog_cuda_gemm_choice {
    bool known;
    cublasLtMatmulAlgo_t algo;
} cog_cuda_gemm_choice;

/* What a product must have in common with another to be done in the same way. The descriptors'
 * number of rows and bias are those of the last product. */
typedef struct cog_cuda_gemm_shape {
    int n, k;
    size_t lda, ldw, ldd;
    bool has_bias, has_exact;
    int tuned_rows; /* 0: never tuned */
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w, a, d;
    cog_cuda_gemm_choice *choice; /* [n_choices], by bucket; one when invariant */
    int n_choices;
} cog_cuda_gemm_shape;

/* The library's choice for one number of rows. */
typedef struct cog_cuda_gemm_exact {
    int shape, rows; /* rows = 0: free */
    cublasLtMatmulAlgo_t algo;
} cog_cuda_gemm_exact;

struct cog_cuda_gemm {
    cog_cublaslt lt;
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    cog_dtype type;
    void *workspace;
    size_t workspace_bytes;
    bool invariant;
    int device;
    size_t l2_bytes;
    uint64_t left_ns; /* for tuning */
    cog_cuda_gemm_shape *shape;
    int n_shapes;
    cog_cuda_gemm_exact exact[COG_CUDA_GEMM_EXACT]; /* the oldest makes room */
    uint64_t n_exact;                               /* ever stored */
    bool has_warned;
};

/* ---- gemm_lt.c ---- */

/* 0, or COG_EDEVICE, logged. */
int cog_cuda_gemm_check(const cog_cuda_gemm *g, cublasStatus_t status, const char *what);

/* The shape's descriptors with p's bias and this many rows; NULL when the library fails. Valid
 * until a shape is described for the first time. */
cog_cuda_gemm_shape *cog_cuda_gemm_describe(cog_cuda_gemm *g, const cog_cuda_product *p, int rows);
int cog_cuda_gemm_set_rows(const cog_cuda_gemm *g, const cog_cuda_gemm_shape *sh, int rows);

/* The library's candidates for the shape as described, best first by its own estimate: at least
 * one, or COG_EDEVICE. */
int cog_cuda_gemm_candidates(const cog_cuda_gemm *g, const cog_cuda_gemm_shape *sh,
                             cublasLtMatmulHeuristicResult_t *out, int max);

cublasStatus_t cog_cuda_gemm_multiply(const cog_cuda_gemm *g, cudaStream_t s,
                                      const cog_cuda_gemm_shape *sh, const cog_cuda_product *p,
                                      const cublasLtMatmulAlgo_t *algo);

/* ---- gemm_tune.c ---- */

/* The numbers of rows that share a choice. */
int cog_cuda_gemm_bucket(int rows);

/* Sets sh->choice[0] of an invariant object whose shape was not tuned, without a product: nobody
 * compared the bits. */
int cog_cuda_gemm_choose_untuned(const cog_cuda_gemm *g, const cog_cuda_gemm_shape *sh);

#endif
