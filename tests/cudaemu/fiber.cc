/* fiber.cc - runs the threads of a block as fibers of one OS thread.
 *
 * A fiber runs until it waits: at a barrier for the block, or at a warp's rendezvous (shuffle,
 * vote, mma, ldmatrix, __syncwarp) for the lanes that the mask names. It then switches straight to
 * the next fiber that can run: first of its own warp, then of the others. The last lane to arrive
 * does the rendezvous' work for all. When nobody can run, the block either stands complete at one
 * barrier, which opens, or is stuck, which is an error of the kernel. */
#include "shadow.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <algorithm>

namespace emu
{

Block block;
Fiber *self;
pthread_t running_on;

enum : size_t { STACK = 64 * 1024, STACK_GUARD = 4096 };

static unsigned char *stacks;

#if defined(__x86_64__)

/* Saves the registers a callee keeps on the stack, and takes those of the other stack. */
extern "C" void cudaemu_switch(void **save, void *to);
__asm__(".text\n"
        ".globl cudaemu_switch\n"
        ".type cudaemu_switch, @function\n"
        "cudaemu_switch:\n"
        "  pushq %rbp\n"
        "  pushq %rbx\n"
        "  pushq %r12\n"
        "  pushq %r13\n"
        "  pushq %r14\n"
        "  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n"
        "  popq %r14\n"
        "  popq %r13\n"
        "  popq %r12\n"
        "  popq %rbx\n"
        "  popq %rbp\n"
        "  ret\n"
        ".size cudaemu_switch, . - cudaemu_switch\n");

static void make_context(Fiber *f, unsigned char *top, void (*entry)())
{
    void **sp = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{ 15 });

    *--sp = nullptr; /* where entry would return to; aligns its frame */
    *--sp = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    f->context = sp;
}

#else

#include <ucontext.h>

static ucontext_t contexts[MAX_THREADS + 1];

static void cudaemu_switch(void **save, void *to)
{
    ucontext_t *here =
        &contexts[save == &block.main_context
                      ? MAX_THREADS
                      : static_cast<size_t>(reinterpret_cast<Fiber *>(save) - block.fibers)];

    *save = here;
    swapcontext(here, static_cast<ucontext_t *>(to));
}

static void make_context(Fiber *f, unsigned char *top, void (*entry)())
{
    ucontext_t *c = &contexts[f - block.fibers];

    getcontext(c);
    c->uc_stack.ss_sp = stacks + static_cast<size_t>(f - block.fibers) * STACK + STACK_GUARD;
    c->uc_stack.ss_size =
        static_cast<size_t>(top - static_cast<unsigned char *>(c->uc_stack.ss_sp));
    c->uc_link = nullptr;
    makecontext(c, entry, 0);
    f->context = c;
}

#endif

/* A stack for each thread, with an unmapped page below, and not all at the same distance: they
 * would share a few lines of the cache. */
static unsigned char *stack_top(size_t i)
{
    if (!stacks) {
        void *p = mmap(nullptr, MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED)
            die("no memory for stacks");
        stacks = static_cast<unsigned char *>(p);
        for (size_t k = 0; k < MAX_THREADS; k++)
            mprotect(stacks + k * STACK, STACK_GUARD, PROT_NONE);
        stack_range = { stacks, MAX_THREADS * STACK };
    }
    return stacks + (i + 1) * STACK - i % 61 * 192;
}

Range stack_range;

void die(const char *why)
{
    fprintf(stderr, "cudaemu: %s\n", why);
    abort();
}

/* ---- who is next ---- */

static Fiber *pick()
{
    Warp *w = &block.warps[self->warp];

    if (!w->ready) {
        uint32_t later = self->warp == 31 ? 0 : block.ready_warps & ~0u << (self->warp + 1);
        uint32_t from = later ? later : block.ready_warps;

        if (!from)
            return nullptr;
        w = &block.warps[__builtin_ctz(from)];
    }
    return &block.fibers[w->index * WARP + static_cast<unsigned>(__builtin_ctz(w->ready))];
}

static void make_ready(Warp *w, uint32_t lanes)
{
    if (!lanes)
        return;
    w->ready |= lanes;
    block.ready_warps |= 1u << w->index;
}

static void not_ready(Fiber *f)
{
    Warp *w = &block.warps[f->warp];

    w->ready &= ~(1u << f->lane);
    if (!w->ready)
        block.ready_warps &= ~(1u << f->warp);
}

static void go(Fiber *to)
{
    Fiber *from = self;

    if (to == from)
        return;
    self = to;
    check_switch();
    cudaemu_switch(&from->context, to->context);
}

static void open_barrier();
static void stuck();

/* Runs others until somebody makes this fiber ready. */
static void wait()
{
    Fiber *me = self, *next;

    not_ready(me);
    while (!(next = pick())) {
        if (block.at_barrier == block.alive)
            open_barrier();
        else
            stuck();
    }
    go(next);
}

void yield()
{
    Fiber *next = pick();

    if (next)
        go(next);
}

/* ---- the block's barrier ---- */

static void open_barrier()
{
    int any = 0, all = 1, count = 0;

    for (unsigned i = 0; i < block.n; i++) {
        const Fiber *f = &block.fibers[i];

        if (f->state != AT_BARRIER)
            continue;
        any |= f->predicate != 0;
        all &= f->predicate != 0;
        count += f->predicate != 0;
    }
    check_barrier();
    for (unsigned i = 0; i < block.n; i++) {
        Fiber *f = &block.fibers[i];

        if (f->state != AT_BARRIER)
            continue;
        f->state = RUNS;
        f->predicate = f->kind == CUDAEMU_BARRIER_COUNT ? count
                       : f->kind == CUDAEMU_BARRIER_OR  ? any
                                                        : all;
        make_ready(&block.warps[f->warp], 1u << f->lane);
    }
    block.at_barrier = 0;
}

/* ---- a warp's rendezvous ---- */

void meet(uint32_t mask, int kind, void (*complete)(Warp *w, uint32_t mask))
{
    Fiber *me = self;
    Warp *w = &block.warps[me->warp];

    if (__builtin_expect(mask != (w->exists & ~w->exited), 0))
        mask = check_mask(mask);
    me->mask = mask;
    me->kind = kind;
    me->state = IN_WARP;
    w->waiting |= 1u << me->lane;
    if ((w->waiting & mask) == mask) {
        bool together = true;

        for (uint32_t left = mask; left; left &= left - 1) {
            const Fiber *f = &w->fibers[__builtin_ctz(left)];

            together &= f->kind == kind && f->mask == mask;
        }
        if (together) {
            complete(w, mask);
            w->waiting &= ~mask;
            for (uint32_t left = mask; left; left &= left - 1)
                w->fibers[__builtin_ctz(left)].state = RUNS;
            make_ready(w, mask & ~(1u << me->lane));
            return;
        }
    }
    wait();
}

/* Nobody can run and there is no barrier that all wait at: says so, and lets those go that wait for
 * lanes that will not come. */
static void stuck()
{
    report_stuck();
    for (unsigned i = 0; i < block.n; i++) {
        Fiber *f = &block.fibers[i];

        if (f->state == IN_WARP) {
            f->state = RUNS;
            block.warps[f->warp].waiting &= ~(1u << f->lane);
            make_ready(&block.warps[f->warp], 1u << f->lane);
        }
    }
    if (!block.ready_warps)
        open_barrier();
}

/* ---- life of a block ---- */

static void thread_main()
{
    Fiber *next;

    block.work->call(block.work->kernel, block.work->arguments.start);
    self->state = EXITED;
    block.alive--;
    block.warps[self->warp].exited |= 1u << self->lane;
    not_ready(self);
    while (block.alive && !(next = pick())) {
        if (block.at_barrier == block.alive)
            open_barrier();
        else
            stuck();
    }
    if (block.alive) {
        go(next);
    } else {
        void *ignored;
        cudaemu_switch(&ignored, block.main_context);
    }
    abort();
}

static void start_fibers(const Work &work)
{
    unsigned n = work.block.x * work.block.y * work.block.z;
    unsigned warps = static_cast<unsigned>((n + WARP - 1) / WARP);

    block.n = block.alive = n;
    block.at_barrier = 0;
    block.n_warps = warps;
    block.ready_warps = warps == 32 ? ~0u : (1u << warps) - 1;
    for (unsigned i = 0; i < warps; i++) {
        Warp *w = &block.warps[i];
        unsigned lanes = std::min<unsigned>(WARP, n - i * WARP);

        *w = Warp{};
        w->index = i;
        w->fibers = &block.fibers[i * WARP];
        w->ready = w->exists = lanes == 32 ? ~0u : (1u << lanes) - 1;
    }
    for (unsigned i = 0; i < n; i++) {
        Fiber *f = &block.fibers[i];

        f->state = RUNS;
        f->id = i;
        f->warp = static_cast<uint32_t>(i / WARP);
        f->lane = static_cast<uint32_t>(i % WARP);
        f->index = { i % work.block.x, i / work.block.x % work.block.y,
                     i / (work.block.x * work.block.y) };
        f->copies.clear();
        f->groups.clear();
        f->open_copies = 0;
        make_context(f, stack_top(i), thread_main);
    }
}

static void run_block(const Work &work, uint32_t linear)
{
    block.work = &work;
    block.linear = linear;
    block.index = { linear % work.grid.x, linear / work.grid.x % work.grid.y,
                    linear / (work.grid.x * work.grid.y) };
    start_fibers(work);
    memset(block.shared, 0xff, work.shared);
    check_block_begin();
    self = &block.fibers[0];
    check_switch();
    cudaemu_switch(&block.main_context, self->context);
    self = nullptr;
}

static void prepare_shared()
{
    void *p = mmap(nullptr, SHARED_SPAN, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        die("no memory for the shared memory");
    block.shared = static_cast<unsigned char *>(p) + SHARED_GUARD;
}

void run_kernel(const Work &work)
{
    uint32_t blocks = work.grid.x * work.grid.y * work.grid.z;
    std::vector<uint32_t> order(blocks);

    if (!block.shared)
        prepare_shared();
    for (uint32_t i = 0; i < blocks; i++)
        order[i] = i;
    if (options.seed)
        for (uint32_t i = blocks; i > 1; i--)
            std::swap(order[i - 1], order[choose(i)]);
    running_on = pthread_self();
    check_kernel_begin(work);
    for (uint32_t linear : order)
        run_block(work, linear);
    check_kernel_end(work);
}

} // namespace emu

/* ---- what kernels call ---- */

using namespace emu;

uint3 cudaemu_thread_idx(void)
{
    return self->index;
}

uint3 cudaemu_block_idx(void)
{
    return block.index;
}

uint3 cudaemu_block_dim(void)
{
    return block.work->block;
}

uint3 cudaemu_grid_dim(void)
{
    return block.work->grid;
}

void *cudaemu_shared(void)
{
    return block.shared;
}

int cudaemu_syncthreads(enum cudaemu_barrier kind, int predicate, int line)
{
    self->kind = kind;
    self->predicate = predicate;
    self->line = line;
    self->state = AT_BARRIER;
    block.at_barrier++;
    wait();
    return self->predicate;
}
