#include "engine/cuda/sdpa.h"

int cog_cuda_sdpa_open(cog_cuda_sdpa **out, cudaStream_t s, const cog_cuda_dense *d,
                       void *workspace, size_t workspace_bytes, cog_err *err)
{
    return cog_err_set(err, COG_EUNSUPPORTED, "built without cuDNN");
}

void cog_cuda_sdpa_close(cog_cuda_sdpa *a)
{
}

int cog_cuda_sdpa_run(cog_cuda_sdpa *a, cudaStream_t s, const cog_cuda_dense *d)
{
    return COG_EDEVICE;
}
