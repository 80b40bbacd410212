/* gemm.h - products of many rows: dst = a w^T + bias. On a GPU by cuBLASLt, whose candidates are
 * timed on the device itself; under the emulator by a stand-in.
 *
 * One gemm object serves one stream at a time per workspace; the backend has one object for each of
 * its lanes. */
#ifndef COG_ENGINE_CUDA_GEMM_H
#define COG_ENGINE_CUDA_GEMM_H

#include "base/err.h"
#include "engine/tensor.h"

#include <cuda_runtime.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct cog_cuda_gemm cog_cuda_gemm;

/* All device memory, elements of the mode's type; rows start at multiples of 16 bytes. */
typedef struct cog_cuda_product {
    const void *a; /* [rows, k] */
    size_t lda;
    const void *w; /* [n, k] */
    size_t ldw;
    const void *bias; /* [n] or NULL */
    void *dst;        /* [rows, n], rounded once after the bias; not a */
    size_t ldd;
    int rows, n, k;
} cog_cuda_product;

/* workspace: device memory of that many bytes, borrowed. invariant: a row of dst has the same bits
 * whatever rows is. COG_EUNSUPPORTED when the library cannot be loaded: err says which and why. */
int cog_cuda_gemm_open(cog_cuda_gemm **out, cog_dtype type, void *workspace, size_t workspace_bytes,
                       bool invariant, cog_err *err);
void cog_cuda_gemm_close(cog_cuda_gemm *g); /* NULL is fine */

/* Chooses how products of this shape are done for every number of rows up to max_rows, by timing
 * the library's candidates on p's memory (which it overwrites: dst). Waits for the stream. Shapes
 * are tuned before the first step; a product of a shape that was not is done by the library's first
 * choice. */
int cog_cuda_gemm_tune(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p, int max_rows);

/* Enqueues the product; may be recorded. rows = 0 is fine. 0 or COG_EDEVICE. */
int cog_cuda_gemm_run(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p);

#endif
