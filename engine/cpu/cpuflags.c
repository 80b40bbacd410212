#include "engine/cpu/cpuflags.h"

#include <stdatomic.h>

static _Atomic unsigned mask = ~0u;

static unsigned detect(void)
{
    unsigned flags = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        flags |= COG_CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        flags |= COG_CPU_AVX512;
    if ((flags & COG_CPU_AVX512) && __builtin_cpu_supports("avx512bf16"))
        flags |= COG_CPU_AVX512_BF16;
#endif
    return flags;
}

unsigned cog_cpu_flags(void)
{
    return detect() & atomic_load(&mask);
}

void cog_cpu_set_mask(unsigned allowed)
{
    atomic_store(&mask, allowed);
}
