/* weight.h - parameters on the device: one arena, filled through pinned buffers.
 *
 * A tensor's rows are converted or copied by worker threads from wherever they are (a mapped file)
 * into one of a few pinned buffers, which a stream of its own copies to the device while the next
 * one is filled. A call returns when all it borrows has been read; the copies end by
 * cog_cuda_weights_end. One thread. */
#ifndef COG_ENGINE_CUDA_WEIGHT_H
#define COG_ENGINE_CUDA_WEIGHT_H

#include "engine/backend.h"

#include <stddef.h>
#include <stdint.h>

struct cog_weight {
    cog_weight_use use;
    int rows, cols;
    size_t ld;  /* elements from row to row: cols rounded up to 8; cols for a VECTOR */
    void *data; /* device, 256-byte aligned: MATRIX, ROWS [rows, ld] elements of the mode's type
                   with zeros from cols to ld; VECTOR [rows * cols] */
};

typedef struct cog_cuda_weights cog_cuda_weights;

/* Device bytes of a model's weights: what open reserves. Weights that need more (tensors that are
 * not the model's) are given further memory as they come. */
uint64_t cog_cuda_weights_bytes(const cog_device_config *cfg);

/* Memory is taken when the first weight is made. */
int cog_cuda_weights_open(cog_cuda_weights **out, const cog_device_config *cfg, cog_err *err);
void cog_cuda_weights_close(cog_cuda_weights *ws); /* after all weights were freed; NULL is fine */

/* weight and weight_random of backend.h. */
int cog_cuda_weights_upload(cog_cuda_weights *ws, cog_weight **out, const cog_tensor *const *parts,
                            int n_parts, cog_weight_use use, cog_err *err);
int cog_cuda_weights_random(cog_cuda_weights *ws, cog_weight **out, int rows, int cols,
                            cog_weight_use use, uint64_t key, float center, float spread,
                            cog_err *err);

/* Waits until every weight is on the device, and gives buffers and threads back; a later upload
 * makes new ones. To be called before a weight is used; costs nothing when there is nothing to do.
 * 0 or COG_EDEVICE. */
int cog_cuda_weights_end(cog_cuda_weights *ws);

/* Device memory is used again once all weights are free. NULL is fine. */
void cog_cuda_weights_free(cog_cuda_weights *ws, cog_weight *w);

#endif
