/* gemm.cc - the emulator's stand-in for cuBLASLt behind engine/cuda/gemm.h.
 *
 * A product is one piece of work of its stream, with what it reads and writes declared. Each
 * element is summed in f32 in an order that depends on k only, so rows do not see each other. What
 * cuBLASLt asks of pointers and leading dimensions is asked here too. */
#include <cuda_runtime.h>

extern "C" {
#include "base/alloc.h"
#include "base/log.h"
#include "engine/cuda/gemm.h"
}

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

enum {
    LANES = 8,  /* partial sums of an element: lane l has k = l, l + 8, ... */
    BLOCK = 4,  /* rows of a that one pass over a row of w serves */
    ALIGN = 16, /* bytes */
};

static const size_t WORKSPACE = 256;

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

struct cog_cuda_gemm {
    cog_dtype type;
    void *workspace;
    size_t workspace_bytes;
};

struct work {
    cog_dtype type;
    void *workspace; /* its first bytes are written: products that share it come one by one */
    size_t workspace_bytes;
    cog_cuda_product p;
};

static float element(cog_dtype type, const void *p, size_t i)
{
    uint16_t bits;
    float value;

    if (type == COG_BF16) {
        memcpy(&bits, static_cast<const char *>(p) + 2 * i, sizeof(bits));
        return cog_bf16_to_f32(bits);
    }
    memcpy(&value, static_cast<const char *>(p) + 4 * i, sizeof(value));
    return value;
}

/* dst = k elements, with zeros up to a multiple of LANES. */
static void load_row(float *dst, cog_dtype type, const void *p, size_t first, int k)
{
    int i = 0;

    for (; i < k; i++)
        dst[i] = element(type, p, first + static_cast<size_t>(i));
    for (; i % LANES; i++)
        dst[i] = 0;
}

/* sum[r] = w . a[r] of k floats, k a multiple of LANES. */
template <int N>
static inline __attribute__((always_inline)) void dot_rows(float sum[BLOCK], const float *w,
                                                           const float *a, int k)
{
    lanes acc[N] = {};

    for (int i = 0; i < k; i += LANES) {
        lanes x;
        memcpy(&x, w + i, sizeof(x));
#pragma GCC unroll 4
        for (int r = 0; r < N; r++) {
            lanes y;
            memcpy(&y, a + static_cast<size_t>(r) * static_cast<size_t>(k) + i, sizeof(y));
            acc[r] += x * y;
        }
    }
    for (int r = 0; r < N; r++) {
        sum[r] = 0;
        for (int l = 0; l < LANES; l++)
            sum[r] += acc[r][l];
    }
}

static inline __attribute__((always_inline)) void dot_all(float *sum, const float *w,
                                                          const float *a, int rows, int k)
{
    int r = 0;

    for (; r + BLOCK <= rows; r += BLOCK)
        dot_rows<BLOCK>(sum + r, w, a + static_cast<size_t>(r) * static_cast<size_t>(k), k);
    for (; r < rows; r++)
        dot_rows<1>(sum + r, w, a + static_cast<size_t>(r) * static_cast<size_t>(k), k);
}

#if defined(__x86_64__)
/* Without contraction a product and its sum are two roundings in either version. */
__attribute__((target("avx2"))) static void dot_avx2(float *sum, const float *w, const float *a,
                                                     int rows, int k)
{
    dot_all(sum, w, a, rows, k);
}
#endif

static void dot(float *sum, const float *w, const float *a, int rows, int k)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        dot_avx2(sum, w, a, rows, k);
        return;
    }
#endif
    dot_all(sum, w, a, rows, k);
}

static void put(cog_dtype type, void *p, size_t i, float value)
{
    uint16_t bits = cog_f32_to_bf16(value);

    if (type == COG_BF16)
        memcpy(static_cast<char *>(p) + 2 * i, &bits, sizeof(bits));
    else
        memcpy(static_cast<char *>(p) + 4 * i, &value, sizeof(value));
}

static void declare(const work *j)
{
    const cog_cuda_product &p = j->p;
    size_t elem = cog_dtype_size(j->type), k = static_cast<size_t>(p.k) * elem;
    const char *a = static_cast<const char *>(p.a), *w = static_cast<const char *>(p.w);
    char *dst = static_cast<char *>(p.dst);

    for (int r = 0; r < p.rows; r++) {
        cudaemu_reads(a + static_cast<size_t>(r) * p.lda * elem, k);
        cudaemu_writes(dst + static_cast<size_t>(r) * p.ldd * elem,
                       static_cast<size_t>(p.n) * elem);
    }
    for (int n = 0; n < p.n; n++)
        cudaemu_reads(w + static_cast<size_t>(n) * p.ldw * elem, k);
    if (j->workspace_bytes > 0)
        cudaemu_writes(j->workspace, j->workspace_bytes);
    if (p.bias)
        cudaemu_reads(p.bias, static_cast<size_t>(p.n) * elem);
}

static void multiply(void *args)
{
    const work *j = static_cast<const work *>(args);
    const cog_cuda_product &p = j->p;
    int k = (p.k + LANES - 1) / LANES * LANES;
    size_t rows = static_cast<size_t>(p.rows);
    std::vector<float> a(rows * static_cast<size_t>(k)), w(static_cast<size_t>(k)), sum(rows);

    declare(j);
    for (size_t r = 0; r < rows; r++)
        load_row(&a[r * static_cast<size_t>(k)], j->type, p.a, r * p.lda, p.k);
    for (size_t n = 0; n < static_cast<size_t>(p.n); n++) {
        float bias = p.bias ? element(j->type, p.bias, n) : 0;
        load_row(w.data(), j->type, p.w, n * p.ldw, p.k);
        dot(sum.data(), w.data(), a.data(), p.rows, k);
        for (size_t r = 0; r < rows; r++)
            put(j->type, p.dst, r * p.ldd + n, sum[r] + bias);
    }
}

static bool is_matrix(const void *p, size_t ld, int cols, size_t elem)
{
    return p && reinterpret_cast<uintptr_t>(p) % ALIGN == 0 && ld * elem % ALIGN == 0 &&
           ld >= static_cast<size_t>(cols);
}

/* 0, or COG_EDEVICE for what cuBLASLt has no algorithm for. */
static int check(cog_dtype type, const cog_cuda_product *p)
{
    size_t elem = cog_dtype_size(type);
    const char *wrong = NULL;

    if (p->rows < 0 || p->n < 1 || p->k < 1)
        wrong = "size";
    else if (!is_matrix(p->w, p->ldw, p->k, elem))
        wrong = "w";
    else if (p->rows > 0 && !is_matrix(p->a, p->lda, p->k, elem))
        wrong = "a";
    else if (p->rows > 0 && (!is_matrix(p->dst, p->ldd, p->n, elem) || p->dst == p->a))
        wrong = "dst";
    else if (reinterpret_cast<uintptr_t>(p->bias) % ALIGN)
        wrong = "bias";
    if (!wrong)
        return 0;
    cog_log(COG_ERROR,
            "event=gemm_refused why=%s rows=%d n=%d k=%d a=%p lda=%zu w=%p ldw=%zu dst=%p ldd=%zu "
            "bias=%p",
            wrong, p->rows, p->n, p->k, p->a, p->lda, p->w, p->ldw, p->dst, p->ldd, p->bias);
    return COG_EDEVICE;
}

int cog_cuda_gemm_available(cog_err *err)
{
    (void)err;
    return 0;
}

int cog_cuda_gemm_open(cog_cuda_gemm **out, cog_dtype type, void *workspace, size_t workspace_bytes,
                       bool invariant, cog_err *err)
{
    cog_cuda_gemm *g = cog_new(cog_cuda_gemm);

    (void)invariant;
    (void)err;
    g->type = type;
    g->workspace = workspace;
    g->workspace_bytes = std::min(workspace_bytes, WORKSPACE);
    *out = g;
    return 0;
}

void cog_cuda_gemm_close(cog_cuda_gemm *g)
{
    cog_free(g);
}

int cog_cuda_gemm_run(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p)
{
    work job = { g->type, g->workspace, g->workspace_bytes, *p };
    int rc = check(g->type, p);

    if (rc < 0 || p->rows == 0)
        return rc;
    if (cudaemu_enqueue(s, "gemm", multiply, &job, sizeof(job)) == 0)
        return 0;
    cog_log(COG_ERROR, "event=gemm_refused why=stream");
    return COG_EDEVICE;
}

/* There is nothing to choose; what is overwritten and waited for is as it would be. */
int cog_cuda_gemm_tune(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p, int max_rows)
{
    cog_cuda_product all = *p;
    int rc;

    all.rows = max_rows;
    rc = check(g->type, &all);
    if (rc < 0 || max_rows == 0)
        return rc;
    rc = cog_cuda_gemm_run(g, s, &all);
    if (rc == 0 && cudaStreamSynchronize(s) != cudaSuccess)
        rc = COG_EDEVICE;
    return rc;
}
