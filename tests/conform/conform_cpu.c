/* conform_cpu.c - the kernels of one instruction set. */
#include "tests/conform/ops.h"

#include "engine/cpu/cpuflags.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const conform_op ops[] = {
    { "gemm", conform_gemm },           { "gemm_out", conform_gemm_out },
    { "attention", conform_attention }, { "norms", conform_norms },
    { "functions", conform_functions }, { "exact", conform_exact },
};

static const struct {
    const char *name;
    unsigned need, mask;
} variants[] = {
    { "ref", 0, 0 },
    { "avx2", COG_CPU_AVX2, COG_CPU_AVX2 },
    { "avx512", COG_CPU_AVX512, COG_CPU_AVX512 },
    { "bf16", COG_CPU_AVX512_BF16, ~0u },
};

static void begin(conform *c)
{
    cog_kernels_get(&c->got, c->dtype, cog_cpu_flags());
    c->variant = c->got.isa;
}

static int usage(void)
{
    fprintf(stderr, "conform [--op gemm|gemm_out|attention|norms|functions|exact] "
                    "[--flags ref|avx2|avx512|bf16] [--seed N]\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *op = NULL, *flags = "bf16";
    uint64_t seed = 1;

    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            return usage();
        if (strcmp(argv[i], "--op") == 0)
            op = argv[i + 1];
        else if (strcmp(argv[i], "--flags") == 0)
            flags = argv[i + 1];
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
        else
            return usage();
    }
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        if (strcmp(flags, variants[i].name) != 0)
            continue;
        if ((cog_cpu_flags() & variants[i].need) != variants[i].need) {
            printf("1..0 # SKIP this CPU has no %s\n", flags);
            return 0; /* TAP says the rest: another status would be an error */
        }
        cog_cpu_set_mask(variants[i].mask);
        return conform_run(ops, sizeof(ops) / sizeof(ops[0]), op, seed, begin);
    }
    return usage();
}
