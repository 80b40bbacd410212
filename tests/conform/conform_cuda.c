/* conform_cuda.c - the kernels of engine/cuda, on the first device there is. Without one the
 * program skips, and fails where COG_REQUIRE_GPU=1 says that there must be one. */
#include "tests/conform/cuda_ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const conform_op ops[] = {
    { "gemm", conform_cuda_gemm },
    { "rmsnorm", conform_cuda_rmsnorm },
    { "skinny", conform_cuda_skinny },
    { "layernorm", conform_cuda_layernorm },
    { "functions", conform_cuda_functions },
    { "exact", conform_cuda_exact },
    { "rope_kv", conform_cuda_rope_kv },
    { "sample", conform_cuda_sample },
    { "attention_rows", conform_cuda_attention_rows },
    { "attention_flash", conform_cuda_attention_flash },
    { "attention_dense", conform_cuda_attention_dense },
};
enum { N_OPS = sizeof(ops) / sizeof(ops[0]) };

static cudaStream_t stream;

static void begin(conform *c)
{
    c->variant = "cuda";
    c->stream = stream;
}

static int usage(void)
{
    fprintf(stderr, "conform_cuda [--op NAME] [--seed N]; NAME is one of\n");
    for (size_t i = 0; i < N_OPS; i++)
        fprintf(stderr, "  %s\n", ops[i].name);
    return 2;
}

int main(int argc, char **argv)
{
    const char *op = NULL, *required = getenv("COG_REQUIRE_GPU");
    uint64_t seed = 1;
    int devices = 0, rc;

    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            return usage();
        if (strcmp(argv[i], "--op") == 0)
            op = argv[i + 1];
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
        else
            return usage();
    }
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        bool is_error = required && strcmp(required, "1") == 0;
        printf(is_error ? "Bail out! There is no CUDA device.\n"
                        : "1..0 # SKIP there is no CUDA device\n");
        return is_error; /* TAP says the rest: another status would be an error */
    }
    device_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    rc = conform_run(ops, N_OPS, op, seed, begin);
    device_check(cudaStreamDestroy(stream), "cudaStreamDestroy");
    return rc;
}
