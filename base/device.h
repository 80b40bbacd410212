/* device.h - how to define a small pure function in a header so that CUDA kernels may call it too.
 */
#ifndef COG_BASE_DEVICE_H
#define COG_BASE_DEVICE_H

#if defined(__CUDACC__)
#define COG_HOST_DEVICE static __host__ __device__ inline
#else
#define COG_HOST_DEVICE static inline
#endif

#endif
