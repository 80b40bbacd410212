#include "tools/bench_ceiling_kernels.h"

#include "engine/cuda/launch.cuh"

enum { READ_THREADS = 256 };

/* Eight loads are under way in each thread at a time. */
static __global__ void __launch_bounds__(READ_THREADS)
    read_stream(uint32_t *sum, const uint4 *data, size_t n)
{
    size_t at = static_cast<size_t>(blockIdx.x) * READ_THREADS + threadIdx.x;
    size_t stride = static_cast<size_t>(gridDim.x) * READ_THREADS;
    size_t first = at;
    uint32_t x = 0;

    for (; at + 7 * stride < n; at += 8 * stride) {
        uint4 v[8];
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] = cog_load_stream(data + at + i * stride);
#pragma unroll
        for (int i = 0; i < 8; i++)
            x ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
    }
    for (; at < n; at += stride) {
        uint4 v = cog_load_stream(data + at);
        x ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    sum[first] = x;
}

static __global__ void __launch_bounds__(32) do_nothing(int)
{
}

extern "C" int bench_read_stream(cudaStream_t s, uint32_t *sum, const void *data, size_t bytes,
                                 int blocks)
{
    cog_launch_at at = { s, dim3(static_cast<unsigned>(blocks)), dim3(READ_THREADS), 0, false };

    return cog_launch("read_stream", at, read_stream, sum, static_cast<const uint4 *>(data),
                      bytes / 16);
}

extern "C" int bench_do_nothing(cudaStream_t s)
{
    cog_launch_at at = { s, dim3(1), dim3(32), 0, false };

    return cog_launch("do_nothing", at, do_nothing, 0);
}
