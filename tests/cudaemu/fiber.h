/* fiber.h - the block that runs: what fiber.cc keeps of its threads, and what it tells check.cc. */
#ifndef COG_TESTS_CUDAEMU_FIBER_H
#define COG_TESTS_CUDAEMU_FIBER_H

#include "emu.h"

#include <pthread.h>

namespace emu
{

enum State : uint8_t { RUNS, IN_WARP, AT_BARRIER, EXITED };

struct Copy { /* cp.async under way */
    void *to;
    const void *from;
    bool valid;
};

struct Fiber {
    void *context; /* first: the saved stack pointer */
    uint3 index;
    uint32_t id, warp, lane; /* id: number in the block */
    State state;
    int kind, line; /* of what it waits for */
    uint32_t mask;
    int predicate;
    uint32_t from; /* lane that a shuffle reads */
    uint64_t value, result;
    cudaemu_u32x4 matrix; /* registers that ldmatrix fills */
    std::vector<Copy> copies;
    std::vector<unsigned> groups; /* copies in each group that is under way */
    unsigned open_copies;         /* of the group not yet ended */
    bool dirty;                   /* wrote global memory since its last fence */
    bool waited;                  /* called cog_dependency_wait */
    uint32_t covered;             /* stamps of the block below this lie before its last fence */
};

struct Warp {
    uint32_t index;
    Fiber *fibers;
    uint32_t exists, ready, waiting, exited; /* sets of lanes */
    bool synced;                             /* __syncwarp since the block's last barrier */
};

struct Block {
    const Work *work;
    uint32_t linear;
    uint3 index;
    unsigned n, alive, at_barrier, n_warps;
    uint32_t ready_warps;
    unsigned char *shared;
    void *main_context;
    Fiber fibers[MAX_THREADS];
    Warp warps[MAX_THREADS / WARP];
};

extern Block block;
extern pthread_t running_on; /* thread of the host that runs the kernel */
extern Fiber *self;          /* the thread that runs; NULL outside kernels */

extern Range stack_range;

enum : size_t { SHARED_GUARD = 64 * 1024, SHARED_SPAN = 512 * 1024 };

/* Waits for the lanes of mask at the same kind; the last one calls complete, for all. */
void meet(uint32_t mask, int kind, void (*complete)(Warp *w, uint32_t mask));
void yield(); /* lets another thread run */

[[noreturn]] void die(const char *why);

/* ---- check.cc: called at the moments of the same name ---- */

void check_reset();
void check_allocated(void *p, size_t bytes);
void check_freed(void *p);
void check_kernel_begin(const Work &work);
void check_kernel_end(const Work &work);
void check_block_begin();
void check_barrier();
void check_syncwarp(Warp *w, uint32_t mask);
uint32_t check_mask(uint32_t mask); /* the lanes of it that can come */
void check_shuffle(uint32_t mask, int from);
void check_shared_read(const void *p, size_t bytes, size_t align);
void check_global_read(const void *p, size_t bytes, size_t align);
void check_copy_begin(void *to, const void *from, bool valid);
void check_copy_end(void *to);
void check_atomic(void *p, size_t bytes);
void check_fence();
void check_dependency_wait();
void check_dependency_trigger();
void report_stuck();
void report_trap(const char *what);
void report_host_access(const void *p);

} // namespace emu

#endif
