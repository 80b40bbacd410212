/* fake_cublaslt.h - a cuBLASLt for tests of engine/cuda/gemm_*.c: it computes what its descriptors
 * say, column by column, on the emulator's streams; clock, event times and L2 cache are made up,
 * too. The sources under test are built with dlopen and its kin, clock_gettime and a few functions
 * of CUDA renamed to fake_*. */
#ifndef COG_TESTS_FAKE_CUBLASLT_H
#define COG_TESTS_FAKE_CUBLASLT_H

#include <cublasLt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { N_ALGOS = 5, WORKSPACE = 1024, ALL_ROWS = -1 };

/* What a test sets and finds; all zero before each. */
extern struct fake_cublaslt {
    bool is_missing, fails_to_start;
    bool has_own; /* one of this toolkit's version, too, which does not start */
    const char *lacks;
    char tried[200];
    int asked; /* times that candidates were asked for */
    int products;
    uint64_t algo, rows; /* of the last product: which, and for which rows it was proposed */
    uint64_t clock_ns, product_ns;
    uint32_t scheme;
    float ms[N_ALGOS];
    int timed;
    bool splits[N_ALGOS];
    int refused[N_ALGOS]; /* rows for which the library's check refuses the algorithm */
    int broken[N_ALGOS];  /* for which it does not run */
    int off[N_ALGOS];     /* from which the result is another; 0: never */
    size_t l2, flushed, least_flushed;
    void *workspace;
} lib;

/* Element `at` of an array of this type. */
float fake_get(cudaDataType type, const void *p, size_t at);

#endif
