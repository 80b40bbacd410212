#include "engine/cuda/kernels.h"

#include "base/err.h"
#include "base/log.h"

int cog_cuda_check(cudaError_t error, const char *what)
{
    char text[256];

    if (error == cudaSuccess)
        return 0;
    cog_log(COG_ERROR, "event=cuda_error what=%s error=%s text=%s", what, cudaGetErrorName(error),
            cog_log_quote(text, sizeof(text), cudaGetErrorString(error)));
    return COG_EDEVICE;
}
