/* ptx.cuh - what the machine has and C++ does not: conversions, tensor-core products, asynchronous
 * copies, cache hints, dependent launch. Kernels use nothing of PTX but this.
 *
 * A "fragment" is a warp's matrix, spread over its lanes as the PTX ISA describes for mma.m16n8k16
 * (section "Matrix Fragments for mma.m16n8k16"): with g = lane / 4 and t = lane % 4,
 *   A [16, 16] row-major, 4 registers of two bf16: (g, 2t..), (g + 8, 2t..), (g, 2t + 8..),
 *     (g + 8, 2t + 8..)
 *   B [16, 8] "column": 2 registers: (k = 2t.., n = g), (k = 2t + 8.., n = g)
 *   C, D [16, 8] f32: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
 *
 * Compiled by anything but nvcc, the same functions come from cudaemu_device.h, which runs them on
 * a CPU, exactly. */
#ifndef COG_ENGINE_CUDA_PTX_CUH
#define COG_ENGINE_CUDA_PTX_CUH

#include <stdint.h>

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#define COG_DEVICE static __device__ __forceinline__

/* The block's dynamic shared memory, 16-byte aligned, as a T. */
template <typename T> COG_DEVICE T &cog_shared()
{
    extern __shared__ __align__(128) unsigned char cog_shared_memory[];
    return *reinterpret_cast<T *>(cog_shared_memory);
}

/* Rounded to nearest even. */
COG_DEVICE uint16_t cog_bf16_round_bits(float x)
{
    uint16_t y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

/* Two of them, low in the low half. */
COG_DEVICE uint32_t cog_bf16_pack(float low, float high)
{
    uint32_t y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

/* 2^x to 2 ulp; 0 for -infinity. */
COG_DEVICE float cog_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* d += a * b. All lanes of a warp together. */
COG_DEVICE void cog_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

COG_DEVICE uint32_t cog_shared_address(const void *p)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/* Four 8x8 matrices of 16-bit elements from shared memory: lane l names row l % 8 of matrix l / 8
 * (16 bytes, 16-byte aligned); register i gets elements (row lane / 4, columns 2 (lane % 4)..) of
 * matrix i. trans: of the transposed matrices. All lanes of a warp together. */
COG_DEVICE void cog_ldmatrix_x4(uint32_t r[4], const void *shared_row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(cog_shared_address(shared_row))
                 : "memory");
}

COG_DEVICE void cog_ldmatrix_x4_trans(uint32_t r[4], const void *shared_row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(cog_shared_address(shared_row))
                 : "memory");
}

/* Copies 16 bytes, both sides 16-byte aligned, past the registers; zeros when not valid (global is
 * then not read, but must be a device address). Seen by this thread after cog_cp_async_wait, by the
 * others after a barrier that follows it. */
COG_DEVICE void cog_cp_async_16(void *shared, const void *global, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(cog_shared_address(shared)), "l"(__cvta_generic_to_global(global)),
                   "r"(valid ? 16 : 0)
                 : "memory");
}

/* Ends a group of copies. */
COG_DEVICE void cog_cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most N of this thread's groups are under way. */
template <int N> COG_DEVICE void cog_cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* 16 bytes of memory that nobody writes while the kernel runs and that is read once: weights. */
COG_DEVICE uint4 cog_load_stream(const void *global)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(__cvta_generic_to_global(global)));
    return v;
}

/* Programmatic dependent launch (sm_90 and later, launched so; otherwise nothing happens): wait
 * returns once the preceding kernel has finished and its writes are visible; before it only memory
 * that kernel does not write may be touched. trigger lets the next kernel start early. */
COG_DEVICE void cog_dependency_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

COG_DEVICE void cog_dependency_trigger()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#else

#include <cudaemu_device.h>

#endif

/* ---- elements: float, or bf16 bit patterns ---- */

struct cog_bf16 {
    uint16_t bits;
};

COG_DEVICE float cog_get(float x)
{
    return x;
}

COG_DEVICE float cog_get(cog_bf16 x)
{
    return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}

template <typename T> COG_DEVICE T cog_put(float x);

template <> __device__ __forceinline__ float cog_put<float>(float x)
{
    return x;
}

template <> __device__ __forceinline__ cog_bf16 cog_put<cog_bf16>(float x)
{
    return cog_bf16{ cog_bf16_round_bits(x) };
}

/* x as the element type holds it. */
template <typename T> COG_DEVICE float cog_rounded(float x)
{
    return cog_get(cog_put<T>(x));
}

COG_DEVICE float cog_bf16_low(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

COG_DEVICE float cog_bf16_high(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

#endif
