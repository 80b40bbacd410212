/* launch.cuh - how .cu files start kernels. Included by nothing else.
 *
 * A kernel keeps its shared memory in one struct, reached by cog_shared<T>() and given to the
 * launch as sizeof(T): nothing is declared __shared__ anywhere else. */
#ifndef COG_ENGINE_CUDA_LAUNCH_CUH
#define COG_ENGINE_CUDA_LAUNCH_CUH

#include "engine/cuda/kernels.h"
#include "engine/cuda/ptx.cuh"

struct cog_launch_at {
    cudaStream_t stream;
    dim3 grid, block;
    size_t shared;  /* bytes */
    bool dependent; /* may start before the preceding kernel has ended: it calls
                       cog_dependency_wait. Only where the device can. */
};

/* 0 or COG_EDEVICE, logged with the name. An empty grid is no launch. */
template <typename... P, typename... A>
static int cog_launch(const char *name, const cog_launch_at &at, void (*kernel)(P...), A... args)
{
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute[1] = {};

    if (at.grid.x == 0 || at.grid.y == 0 || at.grid.z == 0)
        return 0;
    attribute[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute[0].val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = at.grid;
    config.blockDim = at.block;
    config.dynamicSmemBytes = at.shared;
    config.stream = at.stream;
    config.attrs = attribute;
    config.numAttrs = at.dependent ? 1 : 0;
#if !defined(__CUDACC__)
    cudaemu_name_launch(name);
#endif
    return cog_cuda_check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...), name);
}

/* Whether the kernel's code was compiled for 9.0 or later, so that it waits in a dependent launch:
 * PTX for older devices holds nothing of cog_dependency_wait, wherever it runs. */
template <typename... P> static bool cog_can_depend(void (*kernel)(P...))
{
    cudaFuncAttributes attributes;

    return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void *>(kernel)) ==
               cudaSuccess &&
           attributes.ptxVersion >= 90;
}

/* Loads the kernel now (a lazy load would break a recording) and lets it use that much shared
 * memory. 0 or COG_EDEVICE. */
template <typename... P>
static int cog_prepare(const char *name, void (*kernel)(P...), size_t shared)
{
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void *>(kernel));

    if (error == cudaSuccess && shared > 48 * 1024)
        error = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                     cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shared));
    return cog_cuda_check(error, name);
}

#endif
