/* cpuflags.h - which instruction sets this CPU has, and a mask so that tests reach every variant.
 */
#ifndef COG_ENGINE_CPU_CPUFLAGS_H
#define COG_ENGINE_CPU_CPUFLAGS_H

enum {
    COG_CPU_AVX2 = 1,        /* AVX2 + FMA */
    COG_CPU_AVX512 = 2,      /* F, BW, VL, DQ */
    COG_CPU_AVX512_BF16 = 4, /* VDPBF16PS */
};

unsigned cog_cpu_flags(void);            /* present and not masked; any thread */
void cog_cpu_set_mask(unsigned allowed); /* tests, before a backend opens; ~0u: all */

#endif
