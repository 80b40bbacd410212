/* gemm_tune.c - how products are done: by the clock, or, when invariant, by a rule.
 *
 * By the clock: for each bucket of row counts the quickest of the library's candidates that does
 * every count of the bucket. Two runs of a clock differ, so the process decides once (decided,
 * below).
 *
 * Invariant: the library's first candidate for a fixed number of rows that splits nothing, does
 * every number of rows there can be, and shows the same bits in all that are compared. No clock:
 * the same device, library and shape give the same algorithm tomorrow. */
#include "engine/cuda/gemm_lt.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/cuda/kernels.h"

#include <pthread.h>
#include <string.h>

typedef cog_cuda_gemm_shape shape;

enum {
    MAX_CANDIDATES = 12,
    MAX_CANDIDATES_SMALL = 6, /* for up to ROWS_SMALL rows: the weight's read decides */
    MAX_CANDIDATES_INVARIANT = 32,
    ROWS_SMALL = 96,
    REPEATS = 3,
    SHAPE_MS = 250,
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

int cog_cuda_gemm_bucket(int rows)
{
    for (int i = 0; i < N_SMALL; i++)
        if (rows <= small_bucket[i])
            return i;
    if (rows <= FINE_END)
        return N_SMALL + (rows - 1) / FINE;
    return N_SMALL + N_FINE + (rows - FINE_END - 1) / COARSE;
}

/* The largest number of a bucket; 0 of none. */
static int bucket_rows(int bucket)
{
    if (bucket < N_SMALL)
        return bucket < 0 ? 0 : small_bucket[bucket];
    if (bucket < N_SMALL + N_FINE)
        return (bucket - N_SMALL + 1) * FINE;
    return FINE_END + (bucket - N_SMALL - N_FINE + 1) * COARSE;
}

/* ---- what this process has decided ---- */

typedef struct key {
    size_t device, type, invariant, workspace_bytes, n, k, lda, ldw, ldd, bias;
    size_t rows; /* the bucket's largest; when invariant: the most there can be */
} key;

typedef struct decision {
    key key;
    cublasLtMatmulAlgo_t algo;
} decision;

/* Mutable and global, as little else is: several objects live in one process (lanes, a second
 * engine, the self-check's), their products must have the same bits, and a clock decides
 * differently each time. Held while somebody measures: two that do so at once measure each other.
 * Lives as long as the process. */
static struct {
    pthread_mutex_t lock;
    decision *list;
    size_t n;
} decided = { .lock = PTHREAD_MUTEX_INITIALIZER };

static key key_of(const cog_cuda_gemm *g, const shape *sh, int rows)
{
    return (key){ .device = (size_t)g->device,
                  .type = (size_t)g->type,
                  .invariant = g->invariant,
                  .workspace_bytes = g->workspace_bytes,
                  .n = (size_t)sh->n,
                  .k = (size_t)sh->k,
                  .lda = sh->lda,
                  .ldw = sh->ldw,
                  .ldd = sh->ldd,
                  .bias = sh->has_bias,
                  .rows = (size_t)rows };
}

static bool recall(const cog_cuda_gemm *g, const shape *sh, int rows, cog_cuda_gemm_choice *out)
{
    key want = key_of(g, sh, rows);

    for (size_t i = 0; i < decided.n; i++)
        if (memcmp(&decided.list[i].key, &want, sizeof(want)) == 0) {
            *out = (cog_cuda_gemm_choice){ .known = true, .algo = decided.list[i].algo };
            return true;
        }
    return false;
}

static void decide(const cog_cuda_gemm *g, const shape *sh, int rows, cog_cuda_gemm_choice *out,
                   const cublasLtMatmulAlgo_t *algo)
{
    *out = (cog_cuda_gemm_choice){ .known = true, .algo = *algo };
    decided.list = cog_realloc(decided.list, decided.n + 1, sizeof(*decided.list));
    decided.list[decided.n++] = (decision){ .key = key_of(g, sh, rows), .algo = *algo };
}

/* Does it do every number of rows from least to most, in the memory there is? */
static bool does_all(const cog_cuda_gemm *g, const shape *sh, const cublasLtMatmulAlgo_t *algo,
                     int least, int most)
{
    cublasLtMatmulHeuristicResult_t result;

    for (int rows = most; rows >= least; rows--)
        if (cog_cuda_gemm_set_rows(g, sh, rows) < 0 ||
            g->lt.MatmulAlgoCheck(g->handle, sh->op, sh->w, sh->a, sh->d, sh->d, algo, &result) !=
                CUBLAS_STATUS_SUCCESS ||
            result.workspaceSize > g->workspace_bytes)
            return false;
    return true;
}

/* ---- invariant ---- */

static bool splits(const cog_cuda_gemm *g, const cublasLtMatmulAlgo_t *algo)
{
    int32_t parts = 1;
    size_t written;

    return g->lt.MatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts,
                                              sizeof(parts), &written) != CUBLAS_STATUS_SUCCESS ||
           parts > 1;
}

static int invariant_candidates(const cog_cuda_gemm *g, const shape *sh,
                                cublasLtMatmulHeuristicResult_t *out)
{
    int rc = cog_cuda_gemm_set_rows(g, sh, COG_CUDA_GEMM_INVARIANT_ROWS);

    return rc ? rc : cog_cuda_gemm_candidates(g, sh, out, MAX_CANDIDATES_INVARIANT);
}

static bool may_be_invariant(const cog_cuda_gemm *g, const shape *sh,
                             const cublasLtMatmulHeuristicResult_t *candidate, int max_rows)
{
    return candidate->state == CUBLAS_STATUS_SUCCESS && !splits(g, &candidate->algo) &&
           does_all(g, sh, &candidate->algo, 1, max_rows);
}

static int refuse_invariance(const cog_cuda_gemm *g, const shape *sh, int max_rows, int n)
{
    cog_log(COG_ERROR,
            "event=gemm_not_invariant rows=%d n=%d k=%d candidates=%d reason=\"batch invariance "
            "cannot be had for this shape with cuBLASLt %zu\"",
            max_rows, sh->n, sh->k, n, g->lt.GetVersion());
    return COG_EUNSUPPORTED;
}

/* ends[0], ends[1] = the first and the last row of the product of p's rows [first, first + rows). 1
 * when it was done, 0 when the algorithm does not run, COG_EDEVICE. */
static int do_rows(const cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p,
                   const shape *sh, const cublasLtMatmulAlgo_t *algo, int first, int rows,
                   char *const ends[2])
{
    size_t elem = cog_dtype_size(g->type), bytes = (size_t)p->n * elem, step = p->ldd * elem;
    cog_cuda_product part = *p;
    int rc = cog_cuda_gemm_set_rows(g, sh, rows);

    part.a = (const char *)p->a + (size_t)first * p->lda * elem;
    part.dst = (char *)p->dst + (size_t)first * step;
    if (rc < 0)
        return rc;
    if (cog_cuda_gemm_multiply(g, s, sh, &part, algo) != CUBLAS_STATUS_SUCCESS)
        return 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = cog_cuda_check(cudaMemcpyAsync(ends[i],
                                            (char *)part.dst + (i ? (size_t)(rows - 1) * step : 0),
                                            bytes, cudaMemcpyDeviceToHost, s),
                            "a row of a product");
    if (rc == 0)
        rc = cog_cuda_check(cudaStreamSynchronize(s), "a product");
    return rc ? rc : 1;
}

/* Do p's first and last row have the bits they have among max_rows, in smaller company? 1, 0 or
 * COG_EDEVICE. */
static int keeps_bits(const cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p,
                      const shape *sh, const cublasLtMatmulAlgo_t *algo, int max_rows)
{
    size_t bytes = (size_t)p->n * cog_dtype_size(g->type);
    char *memory = cog_alloc(4, bytes);
    char *const want[2] = { memory, memory + bytes };
    char *const got[2] = { memory + 2 * bytes, memory + 3 * bytes };
    int rc = do_rows(g, s, p, sh, algo, 0, max_rows, want);

    for (int rows = 1; rows < max_rows && rc == 1; rows = rows * 3 + 1)
        for (int end = 0; end < 2 && rc == 1; end++) {
            rc = do_rows(g, s, p, sh, algo, end ? max_rows - rows : 0, rows, got);
            if (rc == 1)
                rc = memcmp(got[end], want[end], bytes) == 0;
        }
    cog_free(memory);
    return rc;
}

static int choose_invariant(const cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p,
                            const shape *sh, int max_rows)
{
    cublasLtMatmulHeuristicResult_t list[MAX_CANDIDATES_INVARIANT];
    int n;

    if (recall(g, sh, max_rows, &sh->choice[0]))
        return 0;
    n = invariant_candidates(g, sh, list);
    for (int i = 0; i < n; i++) {
        int rc = may_be_invariant(g, sh, &list[i], max_rows)
                     ? keeps_bits(g, s, p, sh, &list[i].algo, max_rows)
                     : 0;
        if (rc < 0)
            return rc;
        if (rc == 0)
            continue;
        decide(g, sh, max_rows, &sh->choice[0], &list[i].algo);
        cog_log(COG_DEBUG, "event=gemm_invariant rows=%d n=%d k=%d candidate=%d of=%d", max_rows,
                sh->n, sh->k, i, n);
        return 0;
    }
    return n < 0 ? n : refuse_invariance(g, sh, max_rows, n);
}

int cog_cuda_gemm_choose_untuned(const cog_cuda_gemm *g, const shape *sh)
{
    cublasLtMatmulHeuristicResult_t list[MAX_CANDIDATES_INVARIANT];
    int n = invariant_candidates(g, sh, list);

    for (int i = 0; i < n; i++)
        if (may_be_invariant(g, sh, &list[i], COG_CUDA_GEMM_INVARIANT_ROWS)) {
            sh->choice[0] = (cog_cuda_gemm_choice){ .known = true, .algo = list[i].algo };
            return 0;
        }
    return n < 0 ? n : refuse_invariance(g, sh, COG_CUDA_GEMM_INVARIANT_ROWS, n);
}

/* ---- by the clock ---- */

typedef struct timer {
    cudaStream_t stream;
    cudaEvent_t begin, end;
    void *flush; /* written before each product */
    size_t flush_bytes;
    void *own; /* flush, when it is not the workspace */
} timer;

static void timer_fini(timer *t)
{
    if (t->begin)
        cudaEventDestroy(t->begin);
    if (t->end)
        cudaEventDestroy(t->end);
    cudaFree(t->own);
}

static int timer_init(timer *t, const cog_cuda_gemm *g, cudaStream_t s)
{
    int rc;

    *t = (timer){ .stream = s, .flush = g->workspace, .flush_bytes = g->workspace_bytes };
    rc = cog_cuda_check(cudaEventCreate(&t->begin), "cudaEventCreate");
    if (rc == 0)
        rc = cog_cuda_check(cudaEventCreate(&t->end), "cudaEventCreate");
    if (rc < 0 || t->flush_bytes >= g->l2_bytes)
        return rc;
    if (cudaMalloc(&t->own, g->l2_bytes) == cudaSuccess) {
        t->flush = t->own;
        t->flush_bytes = g->l2_bytes;
        return 0;
    }
    cudaGetLastError();
    t->own = NULL;
    cog_log(COG_DEBUG, "event=gemm_tuned_warm l2=%zu written=%zu", g->l2_bytes, t->flush_bytes);
    return 0;
}

/* Milliseconds of one product after as many bytes as the L2 cache holds were written, or as many as
 * there was memory for: what is left there of the weight, which a step reads from memory, is little
 * in the first case and up to the difference in the second. The rows of a are as cold, which in a
 * step they are not. Less than 0 when the algorithm does not run. */
static float time_once(const cog_cuda_gemm *g, const timer *t, const shape *sh,
                       const cog_cuda_product *p, const cublasLtMatmulAlgo_t *algo)
{
    float ms = -1;

    if (cudaMemsetAsync(t->flush, 0, t->flush_bytes, t->stream) != cudaSuccess ||
        cudaEventRecord(t->begin, t->stream) != cudaSuccess ||
        cog_cuda_gemm_multiply(g, t->stream, sh, p, algo) != CUBLAS_STATUS_SUCCESS ||
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

/* Times candidates until the time is used up, the first that will do in any case. The library is
 * asked for the bucket's largest number and its check for each, whatever this object's most is: the
 * choice serves others. */
static int tune_bucket(const cog_cuda_gemm *g, const timer *t, const cog_cuda_product *p,
                       const shape *sh, int bucket, int max_rows, uint64_t until_ns)
{
    cublasLtMatmulHeuristicResult_t list[MAX_CANDIDATES];
    int most = bucket_rows(bucket), least = bucket_rows(bucket - 1) + 1;
    int rows = most < max_rows ? most : max_rows, winner = -1, n_run = 0;
    int n = cog_cuda_gemm_set_rows(g, sh, most);
    float best = -1;

    if (n == 0)
        n = cog_cuda_gemm_candidates(g, sh, list,
                                     most <= ROWS_SMALL ? MAX_CANDIDATES_SMALL : MAX_CANDIDATES);
    if (n < 0)
        return n;
    for (int i = 0; i < n && (winner < 0 || cog_now_ns() < until_ns); i++) {
        float ms;
        if (list[i].state != CUBLAS_STATUS_SUCCESS || cog_cuda_gemm_set_rows(g, sh, rows) < 0)
            continue;
        ms = time_algo(g, t, sh, p, &list[i].algo, best);
        n_run += ms >= 0;
        if (ms < 0 || (best >= 0 && ms >= best) || !does_all(g, sh, &list[i].algo, least, most))
            continue;
        best = ms;
        winner = i;
    }
    if (winner >= 0) {
        decide(g, sh, most, &sh->choice[bucket], &list[winner].algo);
        cog_log(COG_DEBUG, "event=gemm_tuned rows=%d n=%d k=%d winner=%d of=%d run=%d ms=%.4f",
                rows, sh->n, sh->k, winner, n, n_run, (double)best);
        return 0;
    }
    cog_log(n_run > 0 ? COG_WARN : COG_ERROR,
            "event=gemm_not_tuned rows=%d n=%d k=%d candidates=%d run=%d instead=\"%s\"", most,
            sh->n, sh->k, n, n_run,
            n_run > 0 ? "the library is asked for each number of rows" : "nothing");
    return n_run > 0 ? 0 : COG_EDEVICE;
}

/* Largest first; each may use its part of the time left by rows, what it does not use goes to the
 * smaller ones. */
static int tune_missing(const cog_cuda_gemm *g, const timer *t, const cog_cuda_product *p,
                        const shape *sh, int max_rows, uint64_t end_ns)
{
    int rc = 0;

    for (int b = cog_cuda_gemm_bucket(max_rows); b >= 0 && rc == 0; b--) {
        uint64_t now = cog_now_ns(), all = 0;
        for (int i = 0; i <= b; i++)
            all += sh->choice[i].known ? 0 : (uint64_t)bucket_rows(i);
        if (!sh->choice[b].known)
            rc = tune_bucket(g, t, p, sh, b, max_rows,
                             now < end_ns ? now + (end_ns - now) * (uint64_t)bucket_rows(b) / all
                                          : now);
    }
    return rc;
}

/* What was asked before the shape was tuned no longer counts: other objects did not ask. */
static void forget_exact(cog_cuda_gemm *g, shape *sh)
{
    for (int i = 0; i < COG_CUDA_GEMM_EXACT; i++)
        if (g->exact[i].shape == sh - g->shape)
            g->exact[i].rows = 0;
    sh->has_exact = false;
}

static int choose_by_clock(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p, shape *sh,
                           int max_rows)
{
    uint64_t begin = cog_now_ns(), time = SHAPE_MS * UINT64_C(1000000);
    int n = cog_cuda_gemm_bucket(max_rows) + 1, n_missing = 0, rc;
    timer t;

    forget_exact(g, sh);
    if (n > sh->n_choices) {
        sh->choice = cog_realloc(sh->choice, (size_t)n, sizeof(*sh->choice));
        memset(sh->choice + sh->n_choices, 0, (size_t)(n - sh->n_choices) * sizeof(*sh->choice));
        sh->n_choices = n;
    }
    for (int b = 0; b < n; b++)
        n_missing += !recall(g, sh, bucket_rows(b), &sh->choice[b]);
    if (n_missing == 0)
        return 0;
    rc = timer_init(&t, g, s);
    if (rc == 0)
        rc = tune_missing(g, &t, p, sh, max_rows, begin + (time < g->left_ns ? time : g->left_ns));
    timer_fini(&t);
    time = cog_now_ns() - begin;
    g->left_ns -= time < g->left_ns ? time : g->left_ns;
    return rc;
}

int cog_cuda_gemm_tune(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p, int max_rows)
{
    shape *sh;
    int rc;

    if (max_rows < 1)
        return 0;
    sh = cog_cuda_gemm_describe(g, p, max_rows);
    if (!sh)
        return COG_EDEVICE;
    if (sh->tuned_rows >= max_rows)
        return 0;
    pthread_mutex_lock(&decided.lock);
    rc = g->invariant ? choose_invariant(g, s, p, sh, max_rows)
                      : choose_by_clock(g, s, p, sh, max_rows);
    pthread_mutex_unlock(&decided.lock);
    if (rc == 0)
        sh->tuned_rows = max_rows;
    return rc;
}
