/* sdpa.h - attention among a picture's tokens by cuDNN, for the numbers of pictures for which it is
 * found to be quicker than cog_cuda_flash_dense, which does the rest. One thread, one stream. */
#ifndef COG_ENGINE_CUDA_SDPA_H
#define COG_ENGINE_CUDA_SDPA_H

#include "base/err.h"

#include <cuda_runtime.h>
#include <stddef.h>

typedef struct cog_cuda_sdpa cog_cuda_sdpa;

/* The arguments of cog_cuda_flash_dense (kernels.h). */
typedef struct cog_cuda_dense {
    void *out;
    size_t ld_out;
    const void *qkv;
    size_t ld_qkv;
    int n_images, tokens, heads, head_dim;
    float scale;
} cog_cuda_dense;

/* For up to d->n_images pictures of this shape. Compares and times cuDNN with our own kernel on d's
 * memory, which holds random numbers; out is overwritten. Waits for the stream; takes about a
 * second for each doubling of n_images. workspace: device memory, borrowed, used in stream order.
 * COG_EUNSUPPORTED, nothing amiss: there is no cuDNN, or none that is right and quicker; err says
 * which. COG_EDEVICE: the device failed. */
int cog_cuda_sdpa_open(cog_cuda_sdpa **out, cudaStream_t s, const cog_cuda_dense *d,
                       void *workspace, size_t workspace_bytes, cog_err *err);
void cog_cuda_sdpa_close(cog_cuda_sdpa *a); /* NULL is fine */

/* Enqueues the attention of up to open's number of pictures; shape and leading dimensions are those
 * of open. Not to be recorded. A picture's bits may depend on n_images. 0 or COG_EDEVICE. */
int cog_cuda_sdpa_run(cog_cuda_sdpa *a, cudaStream_t s, const cog_cuda_dense *d);

#endif
