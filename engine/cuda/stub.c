/* stub.c - stands for the CUDA backend in a build without it: refuses everything. */
#include "engine/backend.h"

static int refuse(cog_err *err)
{
    return cog_err_set(err, COG_EUNSUPPORTED,
                       "this build has no CUDA: use --backend cpu, or build it where the CUDA "
                       "toolkit is installed");
}

static int memory(cog_memory_plan *out, const cog_device_config *cfg, cog_err *err)
{
    return refuse(err);
}

static int open_backend(cog_backend **out, const cog_device_config *cfg, cog_err *err)
{
    return refuse(err);
}

const cog_backend_ops cog_cuda_ops = { .name = "cuda", .memory = memory, .open = open_backend };
