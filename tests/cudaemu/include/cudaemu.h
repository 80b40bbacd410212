/* cudaemu.h - what the emulator has beyond CUDA's interface: options, reports, host work that takes
 * part in streams. C and C++. */
#ifndef COG_TESTS_CUDAEMU_CUDAEMU_H
#define COG_TESTS_CUDAEMU_CUDAEMU_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* The name of this thread's next launch, in reports. Static storage. */
void cudaemu_name_launch(const char *name);

/* Enqueues fn(copy of args), which does what a kernel of a library would do, on host threads of the
 * emulator: it tells what it touches by cudaemu_reads and cudaemu_writes before it touches it, and
 * is recorded like a launch. 0, or a cudaError_t. */
int cudaemu_enqueue(struct CUstream_st *stream, const char *name, void (*fn)(void *args),
                    const void *args, size_t bytes);
void cudaemu_reads(const void *p, size_t bytes);
void cudaemu_writes(void *p, size_t bytes);

typedef enum cudaemu_option {
    CUDAEMU_LATE,       /* 0: in order of enqueue, when somebody waits; 1: as late and in as odd an
                           order as the rules allow; 2: at enqueue. CUDAEMU_LATE */
    CUDAEMU_SEED,       /* of the order of CUDAEMU_LATE = 1, blocks and threads; 0: the natural
                           order of blocks and threads. CUDAEMU_SEED */
    CUDAEMU_MEMORY_MIB, /* device memory, 4096 unless said otherwise; before the first allocation.
                           CUDAEMU_MEMORY_MIB */
    CUDAEMU_CAPABILITY, /* 80 or 90 (which is what there is otherwise): dependent launch is an error
                           below 90. CUDAEMU_CAPABILITY */
    CUDAEMU_FAIL_AFTER, /* launches until one fails with cudaErrorIllegalAddress, for good; 0:
                           never. CUDAEMU_FAIL_AFTER */
    CUDAEMU_CHECKS,     /* 1: all (otherwise); 0: none. CUDAEMU_CHECKS */
    CUDAEMU_CODE, /* what kernels were compiled for, at most the capability; 0: for that. Below
                     90 there is no dependency wait in them. CUDAEMU_CODE */
} cudaemu_option;

/* Options come from environment variables of the same name, once, and from here. */
void cudaemu_set(cudaemu_option option, long value);

/* Back to a device without allocations, streams, errors: between tests. Options stay. */
void cudaemu_reset(void);

/* Called with each report instead of printing it and ending the program; NULL: back to that. The
 * access goes on when handler returns, and so does the program. */
typedef struct cudaemu_report {
    const char *what;   /* "missing barrier", ...: see the README */
    const char *kernel; /* or "cudaMemcpyAsync", "host" */
    unsigned block[3];
    unsigned thread[3];
    const void *address; /* NULL where there is none */
    const char *other;   /* the other party's kernel, NULL where there is none */
    unsigned other_block[3];
    unsigned other_thread[3];
    const char *text; /* all of it, for a person */
} cudaemu_report;
void cudaemu_on_report(void (*handler)(void *user, const cudaemu_report *report), void *user);

#ifdef __cplusplus
}
#endif

#endif
