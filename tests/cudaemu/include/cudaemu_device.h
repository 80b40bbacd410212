/* cudaemu_device.h - CUDA's device language for a host compiler: what ptx.cuh includes when nvcc
 * does not compile it. A thread of a block is a fiber (fiber.cc): functions that wait for other
 * threads switch to them. Loads and stores of kernels need nothing from here: the compiler's
 * instrumentation tells check.cc about each. */
#ifndef COG_TESTS_CUDAEMU_DEVICE_H
#define COG_TESTS_CUDAEMU_DEVICE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cuda_runtime.h>

#define __device__
#define __global__
#define __host__
#define __constant__    const
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__
#define COG_DEVICE static inline __attribute__((always_inline, unused))

/* ---- vectors ---- */

#define CUDAEMU_VECTOR2(name, type, align)      \
    struct alignas(align) name {                \
        type x, y;                              \
    };                                          \
    COG_DEVICE name make_##name(type x, type y) \
    {                                           \
        return name{ x, y };                    \
    }
#define CUDAEMU_VECTOR4(name, type, align)                      \
    struct alignas(align) name {                                \
        type x, y, z, w;                                        \
    };                                                          \
    COG_DEVICE name make_##name(type x, type y, type z, type w) \
    {                                                           \
        return name{ x, y, z, w };                              \
    }
CUDAEMU_VECTOR2(uint2, unsigned, 8)
CUDAEMU_VECTOR2(int2, int, 8)
CUDAEMU_VECTOR2(float2, float, 8)
CUDAEMU_VECTOR2(double2, double, 16)
CUDAEMU_VECTOR2(ulonglong2, unsigned long long, 16)
CUDAEMU_VECTOR4(uint4, unsigned, 16)
CUDAEMU_VECTOR4(int4, int, 16)
CUDAEMU_VECTOR4(float4, float, 16)
CUDAEMU_VECTOR4(ushort4, unsigned short, 8)
CUDAEMU_VECTOR4(uchar4, unsigned char, 4)

/* ---- who am I: constant for a fiber, so the compiler may ask once ---- */

extern "C" {
uint3 cudaemu_thread_idx(void) __attribute__((const));
uint3 cudaemu_block_idx(void) __attribute__((const));
uint3 cudaemu_block_dim(void) __attribute__((const));
uint3 cudaemu_grid_dim(void) __attribute__((const));
void *cudaemu_shared(void) __attribute__((const));
}

/* threadIdx and the like, without a load that would be instrumented: each member asks. */
template <uint3 (*ask)()> struct cudaemu_index {
    static struct axis_x {
        operator unsigned() const
        {
            return ask().x;
        }
    } x;
    static struct axis_y {
        operator unsigned() const
        {
            return ask().y;
        }
    } y;
    static struct axis_z {
        operator unsigned() const
        {
            return ask().z;
        }
    } z;
    operator uint3() const
    {
        return ask();
    }
    operator dim3() const
    {
        return dim3(ask());
    }
};
template <uint3 (*ask)()> typename cudaemu_index<ask>::axis_x cudaemu_index<ask>::x;
template <uint3 (*ask)()> typename cudaemu_index<ask>::axis_y cudaemu_index<ask>::y;
template <uint3 (*ask)()> typename cudaemu_index<ask>::axis_z cudaemu_index<ask>::z;

static cudaemu_index<cudaemu_thread_idx> threadIdx __attribute__((unused));
static cudaemu_index<cudaemu_block_idx> blockIdx __attribute__((unused));
static cudaemu_index<cudaemu_block_dim> blockDim __attribute__((unused));
static cudaemu_index<cudaemu_grid_dim> gridDim __attribute__((unused));
static constexpr int warpSize = 32;

template <typename T> COG_DEVICE T &cog_shared()
{
    return *static_cast<T *>(cudaemu_shared());
}

/* ---- waiting for others ---- */

enum cudaemu_vote { CUDAEMU_ANY, CUDAEMU_ALL, CUDAEMU_BALLOT };
enum cudaemu_reduce { CUDAEMU_ADD, CUDAEMU_MIN, CUDAEMU_MAX, CUDAEMU_AND, CUDAEMU_OR, CUDAEMU_XOR };
enum cudaemu_barrier {
    CUDAEMU_PLAIN,
    CUDAEMU_BARRIER_OR,
    CUDAEMU_BARRIER_AND,
    CUDAEMU_BARRIER_COUNT
};
enum cudaemu_shuffle { CUDAEMU_IDX, CUDAEMU_UP, CUDAEMU_DOWN, CUDAEMU_BFLY };
enum cudaemu_atomic_op {
    CUDAEMU_ATOMIC_ADD,
    CUDAEMU_ATOMIC_SUB,
    CUDAEMU_ATOMIC_EXCH,
    CUDAEMU_ATOMIC_MIN,
    CUDAEMU_ATOMIC_MAX,
    CUDAEMU_ATOMIC_INC,
    CUDAEMU_ATOMIC_DEC,
    CUDAEMU_ATOMIC_AND,
    CUDAEMU_ATOMIC_OR,
    CUDAEMU_ATOMIC_XOR,
    CUDAEMU_ATOMIC_CAS
};
enum cudaemu_type { CUDAEMU_I32, CUDAEMU_U32, CUDAEMU_U64, CUDAEMU_F32, CUDAEMU_F64 };

/* By value: an array that only mma sees stays in registers, where nothing is instrumented. */
typedef float cudaemu_f32x4 __attribute__((vector_size(16)));
typedef uint32_t cudaemu_u32x4 __attribute__((vector_size(16)));

extern "C" {
/* line: where in the source, which survives what compilers do to call sites */
int cudaemu_syncthreads(enum cudaemu_barrier kind, int predicate, int line);
void cudaemu_syncwarp(unsigned mask);
uint64_t cudaemu_shfl(unsigned mask, enum cudaemu_shuffle kind, uint64_t value, int lane,
                      int width);
unsigned cudaemu_warp_vote(unsigned mask, enum cudaemu_vote kind, int predicate);
unsigned cudaemu_match_any(unsigned mask, uint64_t value);
unsigned cudaemu_warp_reduce(unsigned mask, enum cudaemu_reduce kind, unsigned value,
                             int is_signed);
unsigned cudaemu_activemask(void);
/* The old value; value and compare are bit patterns. */
uint64_t cudaemu_atomic(void *p, enum cudaemu_atomic_op op, enum cudaemu_type type, uint64_t value,
                        uint64_t compare);
void cudaemu_threadfence(int device_wide);
cudaemu_f32x4 cudaemu_mma_bf16(cudaemu_f32x4 d, cudaemu_u32x4 a, uint64_t b);
cudaemu_u32x4 cudaemu_ldmatrix_x4(const void *shared_row, int trans);
void cudaemu_cp_async_16(void *shared, const void *global, int valid);
void cudaemu_cp_async_commit(void);
void cudaemu_cp_async_wait(int n);
cudaemu_u32x4 cudaemu_load_16(const void *global);
void cudaemu_dependency_wait(void);
void cudaemu_dependency_trigger(void);
void cudaemu_trap(const char *what);
long long cudaemu_clock(void);
}

COG_DEVICE void __syncthreads(int line = __builtin_LINE())
{
    cudaemu_syncthreads(CUDAEMU_PLAIN, 0, line);
}

COG_DEVICE int __syncthreads_or(int predicate, int line = __builtin_LINE())
{
    return cudaemu_syncthreads(CUDAEMU_BARRIER_OR, predicate, line);
}

COG_DEVICE int __syncthreads_and(int predicate, int line = __builtin_LINE())
{
    return cudaemu_syncthreads(CUDAEMU_BARRIER_AND, predicate, line);
}

COG_DEVICE int __syncthreads_count(int predicate, int line = __builtin_LINE())
{
    return cudaemu_syncthreads(CUDAEMU_BARRIER_COUNT, predicate, line);
}

COG_DEVICE void __syncwarp(unsigned mask = 0xffffffffu)
{
    cudaemu_syncwarp(mask);
}

template <typename T> COG_DEVICE uint64_t cudaemu_to_bits(T value)
{
    uint64_t bits = 0;
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    __builtin_memcpy(&bits, &value, sizeof value);
    return bits;
}

template <typename T> COG_DEVICE T cudaemu_from_bits(uint64_t bits)
{
    T value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename T> COG_DEVICE T __shfl_sync(unsigned mask, T value, int lane, int width = 32)
{
    return cudaemu_from_bits<T>(
        cudaemu_shfl(mask, CUDAEMU_IDX, cudaemu_to_bits(value), lane, width));
}

template <typename T>
COG_DEVICE T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32)
{
    return cudaemu_from_bits<T>(
        cudaemu_shfl(mask, CUDAEMU_UP, cudaemu_to_bits(value), static_cast<int>(delta), width));
}

template <typename T>
COG_DEVICE T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32)
{
    return cudaemu_from_bits<T>(
        cudaemu_shfl(mask, CUDAEMU_DOWN, cudaemu_to_bits(value), static_cast<int>(delta), width));
}

template <typename T>
COG_DEVICE T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32)
{
    return cudaemu_from_bits<T>(
        cudaemu_shfl(mask, CUDAEMU_BFLY, cudaemu_to_bits(value), lane_mask, width));
}

COG_DEVICE unsigned __ballot_sync(unsigned mask, int predicate)
{
    return cudaemu_warp_vote(mask, CUDAEMU_BALLOT, predicate);
}

COG_DEVICE int __any_sync(unsigned mask, int predicate)
{
    return static_cast<int>(cudaemu_warp_vote(mask, CUDAEMU_ANY, predicate));
}

COG_DEVICE int __all_sync(unsigned mask, int predicate)
{
    return static_cast<int>(cudaemu_warp_vote(mask, CUDAEMU_ALL, predicate));
}

template <typename T> COG_DEVICE unsigned __match_any_sync(unsigned mask, T value)
{
    return cudaemu_match_any(mask, cudaemu_to_bits(value));
}

#define CUDAEMU_REDUCE(name, kind, type, is_signed)                                    \
    COG_DEVICE type name(unsigned mask, type value)                                    \
    {                                                                                  \
        return static_cast<type>(                                                      \
            cudaemu_warp_reduce(mask, kind, static_cast<unsigned>(value), is_signed)); \
    }
CUDAEMU_REDUCE(__reduce_add_sync, CUDAEMU_ADD, unsigned, 0)
CUDAEMU_REDUCE(__reduce_add_sync, CUDAEMU_ADD, int, 1)
CUDAEMU_REDUCE(__reduce_min_sync, CUDAEMU_MIN, unsigned, 0)
CUDAEMU_REDUCE(__reduce_min_sync, CUDAEMU_MIN, int, 1)
CUDAEMU_REDUCE(__reduce_max_sync, CUDAEMU_MAX, unsigned, 0)
CUDAEMU_REDUCE(__reduce_max_sync, CUDAEMU_MAX, int, 1)
CUDAEMU_REDUCE(__reduce_and_sync, CUDAEMU_AND, unsigned, 0)
CUDAEMU_REDUCE(__reduce_or_sync, CUDAEMU_OR, unsigned, 0)
CUDAEMU_REDUCE(__reduce_xor_sync, CUDAEMU_XOR, unsigned, 0)

COG_DEVICE unsigned __activemask()
{
    return cudaemu_activemask();
}

/* ---- atomics, fences ---- */

#define CUDAEMU_ATOMIC(name, op, type, code)                                                    \
    COG_DEVICE type name(type *p, type value)                                                   \
    {                                                                                           \
        return cudaemu_from_bits<type>(cudaemu_atomic(p, op, code, cudaemu_to_bits(value), 0)); \
    }
#define CUDAEMU_ATOMIC_INTEGERS(name, op)           \
    CUDAEMU_ATOMIC(name, op, int, CUDAEMU_I32)      \
    CUDAEMU_ATOMIC(name, op, unsigned, CUDAEMU_U32) \
    CUDAEMU_ATOMIC(name, op, unsigned long long, CUDAEMU_U64)
CUDAEMU_ATOMIC_INTEGERS(atomicAdd, CUDAEMU_ATOMIC_ADD)
CUDAEMU_ATOMIC(atomicAdd, CUDAEMU_ATOMIC_ADD, float, CUDAEMU_F32)
CUDAEMU_ATOMIC(atomicAdd, CUDAEMU_ATOMIC_ADD, double, CUDAEMU_F64)
CUDAEMU_ATOMIC(atomicSub, CUDAEMU_ATOMIC_SUB, int, CUDAEMU_I32)
CUDAEMU_ATOMIC(atomicSub, CUDAEMU_ATOMIC_SUB, unsigned, CUDAEMU_U32)
CUDAEMU_ATOMIC_INTEGERS(atomicExch, CUDAEMU_ATOMIC_EXCH)
CUDAEMU_ATOMIC(atomicExch, CUDAEMU_ATOMIC_EXCH, float, CUDAEMU_F32)
CUDAEMU_ATOMIC_INTEGERS(atomicMin, CUDAEMU_ATOMIC_MIN)
CUDAEMU_ATOMIC_INTEGERS(atomicMax, CUDAEMU_ATOMIC_MAX)
CUDAEMU_ATOMIC(atomicInc, CUDAEMU_ATOMIC_INC, unsigned, CUDAEMU_U32)
CUDAEMU_ATOMIC(atomicDec, CUDAEMU_ATOMIC_DEC, unsigned, CUDAEMU_U32)
CUDAEMU_ATOMIC_INTEGERS(atomicAnd, CUDAEMU_ATOMIC_AND)
CUDAEMU_ATOMIC_INTEGERS(atomicOr, CUDAEMU_ATOMIC_OR)
CUDAEMU_ATOMIC_INTEGERS(atomicXor, CUDAEMU_ATOMIC_XOR)

#define CUDAEMU_CAS(type, code)                                                              \
    COG_DEVICE type atomicCAS(type *p, type compare, type value)                             \
    {                                                                                        \
        return cudaemu_from_bits<type>(cudaemu_atomic(                                       \
            p, CUDAEMU_ATOMIC_CAS, code, cudaemu_to_bits(value), cudaemu_to_bits(compare))); \
    }
CUDAEMU_CAS(int, CUDAEMU_I32)
CUDAEMU_CAS(unsigned, CUDAEMU_U32)
CUDAEMU_CAS(unsigned long long, CUDAEMU_U64)

COG_DEVICE void __threadfence()
{
    cudaemu_threadfence(1);
}

COG_DEVICE void __threadfence_block()
{
    cudaemu_threadfence(0);
}

COG_DEVICE void __threadfence_system()
{
    cudaemu_threadfence(1);
}

/* ---- bits and numbers ---- */

COG_DEVICE float __uint_as_float(unsigned x)
{
    float y;
    __builtin_memcpy(&y, &x, sizeof y);
    return y;
}

COG_DEVICE unsigned __float_as_uint(float x)
{
    unsigned y;
    __builtin_memcpy(&y, &x, sizeof y);
    return y;
}

COG_DEVICE float __int_as_float(int x)
{
    return __uint_as_float(static_cast<unsigned>(x));
}

COG_DEVICE int __float_as_int(float x)
{
    return static_cast<int>(__float_as_uint(x));
}

COG_DEVICE long long __double_as_longlong(double x)
{
    long long y;
    __builtin_memcpy(&y, &x, sizeof y);
    return y;
}

COG_DEVICE double __longlong_as_double(long long x)
{
    double y;
    __builtin_memcpy(&y, &x, sizeof y);
    return y;
}

COG_DEVICE int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

COG_DEVICE int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}

COG_DEVICE int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}

COG_DEVICE int __clzll(long long x)
{
    return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}

COG_DEVICE int __ffs(int x)
{
    return __builtin_ffs(x);
}

COG_DEVICE int __ffsll(long long x)
{
    return __builtin_ffsll(x);
}

COG_DEVICE unsigned __brev(unsigned x)
{
    unsigned y = 0;
    for (int i = 0; i < 32; i++)
        y |= (x >> i & 1u) << (31 - i);
    return y;
}

COG_DEVICE unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    uint64_t both = static_cast<uint64_t>(y) << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++)
        out |= static_cast<unsigned>(both >> 8 * (selector >> 4 * i & 7u) & 0xffu) << 8 * i;
    return out;
}

COG_DEVICE unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift)
{
    return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32 | low) << (shift & 31)) >> 32);
}

COG_DEVICE unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift)
{
    return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}

COG_DEVICE unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}

COG_DEVICE unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

template <typename T> COG_DEVICE T __ldg(const T *p)
{
    return *p;
}

template <typename T> COG_DEVICE T __ldcg(const T *p)
{
    return *p;
}

template <typename T> COG_DEVICE T __ldcs(const T *p)
{
    return *p;
}

template <typename T> COG_DEVICE void __stcs(T *p, T value)
{
    *p = value;
}

template <typename T> COG_DEVICE void __stcg(T *p, T value)
{
    *p = value;
}

#define CUDAEMU_MIN_MAX(type)           \
    COG_DEVICE type min(type a, type b) \
    {                                   \
        return b < a ? b : a;           \
    }                                   \
    COG_DEVICE type max(type a, type b) \
    {                                   \
        return a < b ? b : a;           \
    }
CUDAEMU_MIN_MAX(int)
CUDAEMU_MIN_MAX(unsigned)
CUDAEMU_MIN_MAX(long)
CUDAEMU_MIN_MAX(unsigned long)
CUDAEMU_MIN_MAX(long long)
CUDAEMU_MIN_MAX(unsigned long long)

COG_DEVICE float min(float a, float b)
{
    return fminf(a, b);
}

COG_DEVICE float max(float a, float b)
{
    return fmaxf(a, b);
}

COG_DEVICE double min(double a, double b)
{
    return fmin(a, b);
}

COG_DEVICE double max(double a, double b)
{
    return fmax(a, b);
}

/* Correctly rounded where the device's instruction is approximate. */
COG_DEVICE float rsqrtf(float x)
{
    return static_cast<float>(1.0 / sqrt(static_cast<double>(x)));
}

COG_DEVICE double rsqrt(double x)
{
    return 1.0 / sqrt(x);
}

COG_DEVICE float __fdividef(float a, float b)
{
    return a / b;
}

COG_DEVICE float __frcp_rn(float x)
{
    return 1.0f / x;
}

COG_DEVICE float __fsqrt_rn(float x)
{
    return sqrtf(x);
}

COG_DEVICE float __fdiv_rn(float a, float b)
{
    return a / b;
}

/* names that the C library has for itself */
#define __expf  cudaemu_expf
#define __logf  cudaemu_logf
#define __log2f cudaemu_log2f

COG_DEVICE float cudaemu_expf(float x)
{
    return expf(x);
}

COG_DEVICE float cudaemu_logf(float x)
{
    return logf(x);
}

COG_DEVICE float cudaemu_log2f(float x)
{
    return log2f(x);
}

COG_DEVICE float __saturatef(float x)
{
    return fminf(fmaxf(x, 0.0f), 1.0f);
}

COG_DEVICE float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

COG_DEVICE float __fmul_rn(float a, float b)
{
    return a * b;
}

COG_DEVICE float __fadd_rn(float a, float b)
{
    return a + b;
}

COG_DEVICE float __fsub_rn(float a, float b)
{
    return a - b;
}

COG_DEVICE double __dmul_rn(double a, double b)
{
    return a * b;
}

COG_DEVICE double __dadd_rn(double a, double b)
{
    return a + b;
}

COG_DEVICE double __dsub_rn(double a, double b)
{
    return a - b;
}

COG_DEVICE double __ddiv_rn(double a, double b)
{
    return a / b;
}

COG_DEVICE double __dsqrt_rn(double x)
{
    return sqrt(x);
}

COG_DEVICE double __fma_rn(double a, double b, double c)
{
    return fma(a, b, c);
}

COG_DEVICE float __int2float_rn(int x)
{
    return static_cast<float>(x);
}

COG_DEVICE float __uint2float_rn(unsigned x)
{
    return static_cast<float>(x);
}

COG_DEVICE float __double2float_rn(double x)
{
    return static_cast<float>(x);
}

COG_DEVICE int __float2int_rn(float x)
{
    return static_cast<int>(nearbyintf(x));
}

COG_DEVICE void __nanosleep(unsigned)
{
    cudaemu_trap(nullptr); /* others go first */
}

COG_DEVICE void __trap()
{
    cudaemu_trap("trap");
}

COG_DEVICE long long clock64()
{
    return cudaemu_clock();
}

/* ---- ptx.cuh ---- */

COG_DEVICE uint16_t cog_bf16_round_bits(float x)
{
    uint32_t u = __float_as_uint(x);

    if ((u & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff; /* what cvt gives for any NaN */
    return static_cast<uint16_t>((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

COG_DEVICE uint32_t cog_bf16_pack(float low, float high)
{
    return static_cast<uint32_t>(cog_bf16_round_bits(high)) << 16 | cog_bf16_round_bits(low);
}

COG_DEVICE float cog_exp2(float x)
{
    float y = exp2f(x);
    return fabsf(y) < 1.17549435e-38f ? 0.0f : y; /* ftz */
}

COG_DEVICE void cog_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    cudaemu_f32x4 sum = { d[0], d[1], d[2], d[3] };

    sum = cudaemu_mma_bf16(sum, cudaemu_u32x4{ a[0], a[1], a[2], a[3] },
                           static_cast<uint64_t>(b[1]) << 32 | b[0]);
    d[0] = sum[0];
    d[1] = sum[1];
    d[2] = sum[2];
    d[3] = sum[3];
}

COG_DEVICE void cog_ldmatrix_x4(uint32_t r[4], const void *shared_row)
{
    cudaemu_u32x4 v = cudaemu_ldmatrix_x4(shared_row, 0);

    r[0] = v[0];
    r[1] = v[1];
    r[2] = v[2];
    r[3] = v[3];
}

COG_DEVICE void cog_ldmatrix_x4_trans(uint32_t r[4], const void *shared_row)
{
    cudaemu_u32x4 v = cudaemu_ldmatrix_x4(shared_row, 1);

    r[0] = v[0];
    r[1] = v[1];
    r[2] = v[2];
    r[3] = v[3];
}

COG_DEVICE void cog_cp_async_16(void *shared, const void *global, bool valid)
{
    cudaemu_cp_async_16(shared, global, valid);
}

COG_DEVICE void cog_cp_async_commit()
{
    cudaemu_cp_async_commit();
}

template <int N> COG_DEVICE void cog_cp_async_wait()
{
    cudaemu_cp_async_wait(N);
}

COG_DEVICE uint4 cog_load_stream(const void *global)
{
    cudaemu_u32x4 v = cudaemu_load_16(global);

    return uint4{ v[0], v[1], v[2], v[3] };
}

COG_DEVICE void cog_dependency_wait()
{
    cudaemu_dependency_wait();
}

COG_DEVICE void cog_dependency_trigger()
{
    cudaemu_dependency_trigger();
}

#endif
