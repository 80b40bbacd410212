/* gemm.h - products of many rows: dst = a w^T + bias. On a GPU by cuBLASLt, whose candidates are
 * timed on the device itself, or chosen by a rule where rows must not see their company; under the
 * emulator by a stand-in.
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

/* 0 when the library can be loaded and has what is used of it; needs no device. COG_EUNSUPPORTED:
 * err says which and why. */
int cog_cuda_gemm_available(cog_err *err);

/* On the current device. workspace: memory there of that many bytes, borrowed. invariant: a row of
 * dst has the same bits whatever rows is. COG_EUNSUPPORTED as above; COG_EDEVICE. */
int cog_cuda_gemm_open(cog_cuda_gemm **out, cog_dtype type, void *workspace, size_t workspace_bytes,
                       bool invariant, cog_err *err);
void cog_cuda_gemm_close(cog_cuda_gemm *g); /* NULL is fine */

/* Chooses how products of this shape are done for every number of rows up to max_rows, on p's
 * memory: a is max_rows rows of what products are like, dst is overwritten. Waits for the stream.
 * Shapes are tuned before the first step; a product of a shape that was not is done by the
 * library's first choice, and the first such product allocates.
 *
 * By timing the library's candidates, once in a process: a second object takes what the first
 * found, so that both give the same bits. Invariant objects choose without a clock; for them
 * COG_EUNSUPPORTED says that no candidate does every number of rows with the same bits (logged:
 * for which shape, with which library). Otherwise 0 or COG_EDEVICE. Any thread. */
int cog_cuda_gemm_tune(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p, int max_rows);

/* Enqueues the product; may be recorded. rows = 0 is fine. 0 or COG_EDEVICE. */
int cog_cuda_gemm_run(cog_cuda_gemm *g, cudaStream_t s, const cog_cuda_product *p);

#endif
