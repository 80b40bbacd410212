/* acts.c - activations on the device: made, freed, and copied to and from the host, which only
 * tests and traces do. */
#include "engine/cuda/cuda.h"

#include "base/alloc.h"

#include <limits.h>
#include <string.h>

/* The residual streams and features are made after the model was loaded and before the first step:
 * the last time that products may be tuned without anybody waiting. */
int cog_cuda_act_new(cog_backend *be, cog_act **out, int rows, int cols)
{
    cog_act *a;
    int rc;

    if (rows < 1 || cols < 1 || cols > INT_MAX / 8 || rows > INT_MAX / 2)
        return COG_EINVAL;
    rc = be->failed ? COG_EDEVICE : cog_cuda_ready(be);
    if (rc < 0)
        return cog_cuda_end(be, rc);
    a = cog_new(cog_act);
    a->rows = rows;
    a->cols = cols;
    a->ld = cog_cuda_ld(cols);
    if (cudaMalloc((void **)&a->data, (size_t)cog_cuda_padded(rows) * a->ld * be->elem) !=
        cudaSuccess) {
        cudaGetLastError();
        cog_free(a);
        return COG_ENOMEM;
    }
    *out = a;
    return 0;
}

static int wait_all(const cog_backend *be)
{
    int rc = cog_cuda_check(cudaStreamSynchronize(be->decoder.stream), "decoder");

    return rc ? rc : cog_cuda_check(cudaStreamSynchronize(be->tower.stream), "vision");
}

void cog_cuda_act_free(cog_backend *be, cog_act *a)
{
    if (!a)
        return;
    cog_cuda_forget(be);
    if (be->pending == a)
        be->pending = NULL;
    if (!be->failed) /* after a device error nothing runs, and it was logged */
        cog_cuda_end(be, wait_all(be));
    cudaFree(a->data);
    cog_free(a);
}

static void to_floats(const cog_backend *be, float *dst, const char *src, size_t n)
{
    if (be->cfg.dtype == COG_F32)
        memcpy(dst, src, n * sizeof(float));
    else
        for (size_t i = 0; i < n; i++)
            dst[i] = cog_bf16_to_f32(((const uint16_t *)(const void *)src)[i]);
}

static void from_floats(const cog_backend *be, char *dst, const float *src, size_t n)
{
    if (be->cfg.dtype == COG_F32)
        memcpy(dst, src, n * sizeof(float));
    else
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)(void *)dst)[i] = cog_f32_to_bf16(src[i]);
}

/* Device rows of ld elements, of which cols count, to the floats `to`, or from the floats `from`:
 * one of them is NULL. After all work so far of the decoder's stream. */
static int move_rows(cog_backend *be, char *rows_at, size_t ld, int cols, int rows, float *to,
                     const float *from)
{
    size_t row = (size_t)cols * be->elem, pitch = ld * be->elem;
    int at_once = (int)(be->host_rows_bytes / row);

    for (int first = 0; first < rows; first += at_once) {
        int n = rows - first < at_once ? rows - first : at_once;
        size_t at = (size_t)first * (size_t)cols, values = (size_t)n * (size_t)cols;
        char *device = rows_at + (size_t)first * pitch;
        cudaError_t e;
        int rc;

        if (from) {
            from_floats(be, be->host_rows, from + at, values);
            e = cudaMemcpy2DAsync(device, pitch, be->host_rows, row, row, (size_t)n,
                                  cudaMemcpyHostToDevice, be->decoder.stream);
        } else {
            e = cudaMemcpy2DAsync(be->host_rows, row, device, pitch, row, (size_t)n,
                                  cudaMemcpyDeviceToHost, be->decoder.stream);
        }
        if (e == cudaSuccess)
            e = cudaStreamSynchronize(be->decoder.stream);
        rc = cog_cuda_check(e, from ? "writing rows" : "reading rows");
        if (rc < 0)
            return rc;
        if (to)
            to_floats(be, to + at, be->host_rows, values);
    }
    return 0;
}

static int move_act(cog_backend *be, const cog_act *a, int first, int rows, float *to,
                    const float *from)
{
    int rc = 0;

    if (be->failed)
        return COG_EDEVICE;
    if (first < 0 || rows < 0 || rows > a->rows - first || a->ld * be->elem > be->host_rows_bytes)
        return COG_EINVAL;
    if (be->pending == a)
        rc = cog_cuda_flush(be);
    if (rc == 0)
        rc = wait_all(be);
    if (rc == 0)
        rc = move_rows(be, cog_cuda_at(be, a, first), a->ld, a->cols, rows, to, from);
    return cog_cuda_end(be, rc);
}

int cog_cuda_act_read(cog_backend *be, float *dst, const cog_act *a, int first, int rows)
{
    return move_act(be, a, first, rows, dst, NULL);
}

int cog_cuda_act_write(cog_backend *be, cog_act *a, const float *src, int first, int rows)
{
    return move_act(be, a, first, rows, NULL, src);
}

int cog_cuda_logits_read(cog_backend *be, float *dst)
{
    if (be->failed)
        return COG_EDEVICE;
    return cog_cuda_end(be, move_rows(be, be->logits, cog_cuda_ld(be->model.vocab), be->model.vocab,
                                      be->batch->n_logits, dst, NULL));
}

int cog_cuda_logits_row(cog_backend *be, float *dst, int row)
{
    size_t ld = cog_cuda_ld(be->model.vocab);

    if (be->failed)
        return COG_EDEVICE;
    if (row < 0 || row >= be->batch->n_logits)
        return COG_EINVAL;
    return cog_cuda_end(be, move_rows(be, be->logits + (size_t)row * ld * be->elem, ld,
                                      be->model.vocab, 1, dst, NULL));
}
