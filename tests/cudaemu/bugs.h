/* bugs.h - kernels with a mistake each, and the same without. */
#ifndef COG_TESTS_CUDAEMU_BUGS_H
#define COG_TESTS_CUDAEMU_BUGS_H

#include <cuda_runtime.h>

struct bug {
    const char *name;        /* of the test, and of the kernel that is reported */
    void (*run)(bool right); /* right: without the mistake */
    const char *what;        /* that the report says */
    unsigned block, thread;  /* x of where it is found */
    const char *other;       /* kernel of the other party, or NULL */
};

extern const struct bug bugs[];
extern const int n_bugs;

/* Kernels without mistakes. out: device memory. */
void run_mma(cudaStream_t s, float *d, const uint16_t *a, const uint16_t *b);    /* 16x16 16x8 */
void run_ldmatrix(cudaStream_t s, uint32_t *out, const uint16_t *m, bool trans); /* [32][4] */
void run_warp(cudaStream_t s, unsigned *out);                                    /* [32][16] */
void run_atomics(cudaStream_t s, unsigned *out);                                 /* [8], zeros */
void run_add(cudaStream_t s, int *p, int n, int add);

#endif
