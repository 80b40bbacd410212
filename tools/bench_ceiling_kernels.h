/* bench_ceiling_kernels.h - launchers of bench_ceiling.cu: 0, or COG_EDEVICE (logged). */
#ifndef COG_TOOLS_BENCH_CEILING_KERNELS_H
#define COG_TOOLS_BENCH_CEILING_KERNELS_H

#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Reads bytes, a multiple of 16, once; blocks * 256 threads. sum: one word for each thread. */
int bench_read_stream(cudaStream_t s, uint32_t *sum, const void *data, size_t bytes, int blocks);
/* A kernel that does nothing. */
int bench_do_nothing(cudaStream_t s);

#ifdef __cplusplus
}
#endif

#endif
