/* fiber.cc - runs the threads of a block as fibers of one OS thread.
 *
 * A fiber runs until it waits: at a barrier for the block, or at a warp's rendezvous (shuffle,
 * vote, mma, ldmatrix, __syncwarp) for the lanes that the mask names. It then switches straight to
 * the next fiber that can run: first of its own warp, then of the others. The last lane to arrive
 * does the rendezvous' work for all. When nobody can run, the block either stands complete at one
 * barrier, which opens, or is stuck, which is an error of the kernel. */
#include "fiber.h"

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

enum : size_t { STACK = 64 * 1024, GUARD = 4096 };

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
    c->uc_stack.ss_sp = stacks + static_cast<size_t>(f - block.fibers) * STACK + GUARD;
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
            mprotect(stacks + k * STACK, GUARD, PROT_NONE);
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

/* Waits for the lanes of mask at the same kind; the last one calls complete. */
static void meet(uint32_t mask, int kind, void (*complete)(Warp *w, uint32_t mask))
{
    Fiber *me = self;
    Warp *w = &block.warps[me->warp];

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

/* Kinds of rendezvous: one number for each instruction. */
enum { SYNCWARP, SHUFFLE = 16, VOTE = 32, MATCH = 48, REDUCE = 64, MMA = 96, LDMATRIX = 112 };

void cudaemu_syncwarp(unsigned mask)
{
    meet(mask, SYNCWARP, [](Warp *w, uint32_t m) { check_syncwarp(w, m); });
}

uint64_t cudaemu_shfl(unsigned mask, enum cudaemu_shuffle kind, uint64_t value, int lane, int width)
{
    int me = static_cast<int>(self->lane), first = me & ~(width - 1), last = first + width - 1;
    int from = kind == CUDAEMU_IDX    ? first | (lane & (width - 1))
               : kind == CUDAEMU_UP   ? me - lane
               : kind == CUDAEMU_DOWN ? me + lane
                                      : me ^ lane;

    if (kind == CUDAEMU_BFLY ? from > last : from < first || from > last)
        from = me;
    check_shuffle(mask, from);
    self->value = value;
    self->from = static_cast<uint32_t>(from);
    meet(mask, SHUFFLE + kind, [](Warp *w, uint32_t m) {
        for (uint32_t left = m; left; left &= left - 1) {
            Fiber *f = &w->fibers[__builtin_ctz(left)];

            f->result = w->fibers[f->from].value;
        }
    });
    return self->result;
}

unsigned cudaemu_warp_vote(unsigned mask, enum cudaemu_vote kind, int predicate)
{
    self->value = predicate != 0;
    meet(mask, VOTE, [](Warp *w, uint32_t m) {
        uint32_t votes = 0;

        for (uint32_t left = m; left; left &= left - 1)
            votes |= static_cast<uint32_t>(w->fibers[__builtin_ctz(left)].value)
                     << __builtin_ctz(left);
        for (uint32_t left = m; left; left &= left - 1)
            w->fibers[__builtin_ctz(left)].result = votes;
    });
    uint32_t votes = static_cast<uint32_t>(self->result);
    return kind == CUDAEMU_BALLOT ? votes : kind == CUDAEMU_ANY ? votes != 0 : votes == mask;
}

unsigned cudaemu_match_any(unsigned mask, uint64_t value)
{
    self->value = value;
    meet(mask, MATCH, [](Warp *w, uint32_t m) {
        for (uint32_t left = m; left; left &= left - 1) {
            Fiber *f = &w->fibers[__builtin_ctz(left)];

            f->result = 0;
            for (uint32_t other = m; other; other &= other - 1)
                if (w->fibers[__builtin_ctz(other)].value == f->value)
                    f->result |= 1u << __builtin_ctz(other);
        }
    });
    return static_cast<unsigned>(self->result);
}

static uint32_t reduced(int kind, uint32_t a, uint32_t b)
{
    bool is_signed = kind & 8,
         less = is_signed ? static_cast<int32_t>(b) < static_cast<int32_t>(a) : b < a;

    switch (kind & 7) {
    case CUDAEMU_ADD:
        return a + b;
    case CUDAEMU_MIN:
        return less ? b : a;
    case CUDAEMU_MAX:
        return less ? a : b;
    case CUDAEMU_AND:
        return a & b;
    case CUDAEMU_OR:
        return a | b;
    default:
        return a ^ b;
    }
}

unsigned cudaemu_warp_reduce(unsigned mask, enum cudaemu_reduce kind, unsigned value, int is_signed)
{
    self->value = value;
    meet(mask, REDUCE + kind + (is_signed ? 8 : 0), [](Warp *w, uint32_t m) {
        const Fiber *first = &w->fibers[__builtin_ctz(m)];
        uint32_t r = static_cast<uint32_t>(first->value);

        for (uint32_t left = m & (m - 1); left; left &= left - 1)
            r = reduced(first->kind - REDUCE, r,
                        static_cast<uint32_t>(w->fibers[__builtin_ctz(left)].value));
        for (uint32_t left = m; left; left &= left - 1)
            w->fibers[__builtin_ctz(left)].result = r;
    });
    return static_cast<unsigned>(self->result);
}

unsigned cudaemu_activemask(void)
{
    const Warp *w = &block.warps[self->warp];

    return w->exists & ~w->exited;
}

/* ---- tensor cores ---- */

static float bf16(uint32_t pair, int high)
{
    return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}

/* Each product of two bf16 is exact in f32; they are added to d one after the other, k ascending,
 * each sum rounded to nearest even. Hardware adds groups of them with other roundings: results
 * agree with it within f32 noise, not bit for bit. */
static void multiply(Warp *w, uint32_t)
{
    alignas(32) float a[16][16], b[16][8], d[16][8];

    for (int lane = 0; lane < 32; lane++) {
        const Fiber *f = &w->fibers[lane];
        int g = lane / 4, t = lane % 4;

        for (int i = 0; i < 4; i++)
            for (int h = 0; h < 2; h++)
                a[g + 8 * (i & 1)][2 * t + 8 * (i >> 1) + h] = bf16(f->a[i], h);
        for (int i = 0; i < 2; i++)
            for (int h = 0; h < 2; h++)
                b[2 * t + 8 * i + h][g] = bf16(static_cast<uint32_t>(f->b >> 32 * i), h);
        for (int i = 0; i < 4; i++)
            d[g + 8 * (i >> 1)][2 * t + (i & 1)] = f->d[i];
    }
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++)
                d[m][n] += a[m][k] * b[k][n];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++)
            w->fibers[lane].d[i] = d[lane / 4 + 8 * (i >> 1)][2 * (lane % 4) + (i & 1)];
}

cudaemu_f32x4 cudaemu_mma_bf16(cudaemu_f32x4 d, cudaemu_u32x4 a, uint64_t b)
{
    self->d = d;
    self->a = a;
    self->b = b;
    meet(~0u, MMA, multiply);
    return self->d;
}

static void load_matrices(Warp *w, uint32_t)
{
    int trans = w->fibers[0].predicate;

    for (int i = 0; i < 4; i++) {
        uint16_t m[8][8];

        for (int row = 0; row < 8; row++)
            memcpy(m[row], reinterpret_cast<const void *>(w->fibers[8 * i + row].value), 16);
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, t = lane % 4;
            uint32_t low = trans ? m[2 * t][g] : m[g][2 * t];
            uint32_t high = trans ? m[2 * t + 1][g] : m[g][2 * t + 1];

            w->fibers[lane].a[i] = high << 16 | low;
        }
    }
}

cudaemu_u32x4 cudaemu_ldmatrix_x4(const void *shared_row, int trans)
{
    check_shared_read(shared_row, 16, 16);
    self->value = reinterpret_cast<uint64_t>(shared_row);
    self->predicate = trans;
    meet(~0u, LDMATRIX + trans, load_matrices);
    return self->a;
}

/* ---- copies past the registers: each happens as late as the contract allows ---- */

void cudaemu_cp_async_16(void *shared, const void *global, int valid)
{
    check_copy_begin(shared, global, valid);
    self->copies.push_back({ shared, global, valid != 0 });
    self->open_copies++;
}

void cudaemu_cp_async_commit(void)
{
    self->groups.push_back(self->open_copies);
    self->open_copies = 0;
}

void cudaemu_cp_async_wait(int n)
{
    Fiber *f = self;
    size_t done = 0;

    while (f->groups.size() > static_cast<size_t>(n)) {
        for (unsigned i = 0; i < f->groups.front(); i++, done++) {
            const Copy &c = f->copies[done];

            check_copy_end(c.to);
            if (c.valid)
                memcpy(c.to, c.from, 16);
            else
                memset(c.to, 0, 16);
        }
        f->groups.erase(f->groups.begin());
    }
    f->copies.erase(f->copies.begin(), f->copies.begin() + static_cast<ptrdiff_t>(done));
}

cudaemu_u32x4 cudaemu_load_16(const void *global)
{
    cudaemu_u32x4 v;

    check_global_read(global, 16, 16);
    memcpy(&v, global, 16);
    return v;
}

/* ---- atomics: fibers are interrupted nowhere else than where they wait ---- */

template <typename T> static T changed(enum cudaemu_atomic_op op, T old, T value, T compare)
{
    switch (op) {
    case CUDAEMU_ATOMIC_ADD:
        return old + value;
    case CUDAEMU_ATOMIC_SUB:
        return old - value;
    case CUDAEMU_ATOMIC_MIN:
        return value < old ? value : old;
    case CUDAEMU_ATOMIC_MAX:
        return old < value ? value : old;
    case CUDAEMU_ATOMIC_INC:
        return old >= value ? T{ 0 } : old + T{ 1 };
    case CUDAEMU_ATOMIC_DEC:
        return old == T{ 0 } || old > value ? value : old - T{ 1 };
    case CUDAEMU_ATOMIC_CAS:
        return old == compare ? value : old;
    default:
        return value;
    }
}

static uint64_t changed_bits(enum cudaemu_atomic_op op, uint64_t old, uint64_t value)
{
    return op == CUDAEMU_ATOMIC_AND  ? old & value
           : op == CUDAEMU_ATOMIC_OR ? old | value
                                     : old ^ value;
}

template <typename T>
static uint64_t atomic(void *p, enum cudaemu_atomic_op op, uint64_t value, uint64_t compare)
{
    T old, next;

    memcpy(&old, p, sizeof old);
    if (op == CUDAEMU_ATOMIC_AND || op == CUDAEMU_ATOMIC_OR || op == CUDAEMU_ATOMIC_XOR)
        next = cudaemu_from_bits<T>(changed_bits(op, cudaemu_to_bits(old), value));
    else
        next = changed(op, old, cudaemu_from_bits<T>(value), cudaemu_from_bits<T>(compare));
    memcpy(p, &next, sizeof next);
    return cudaemu_to_bits(old);
}

uint64_t cudaemu_atomic(void *p, enum cudaemu_atomic_op op, enum cudaemu_type type, uint64_t value,
                        uint64_t compare)
{
    check_atomic(p, type == CUDAEMU_U64 || type == CUDAEMU_F64 ? 8 : 4);
    switch (type) {
    case CUDAEMU_I32:
        return atomic<int32_t>(p, op, value, compare);
    case CUDAEMU_U32:
        return atomic<uint32_t>(p, op, value, compare);
    case CUDAEMU_U64:
        return atomic<uint64_t>(p, op, value, compare);
    case CUDAEMU_F32:
        return atomic<float>(p, op, value, compare);
    default:
        return atomic<double>(p, op, value, compare);
    }
}

void cudaemu_threadfence(int device_wide)
{
    if (device_wide)
        check_fence();
}

void cudaemu_dependency_wait(void)
{
    check_dependency_wait();
}

void cudaemu_dependency_trigger(void)
{
    check_dependency_trigger();
}

void cudaemu_trap(const char *what)
{
    if (what)
        report_trap(what);
    Fiber *next = pick();
    if (next)
        go(next);
}

long long cudaemu_clock(void)
{
    static long long ticks;

    return ticks += 100;
}
