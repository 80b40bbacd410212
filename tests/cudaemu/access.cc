/* access.cc - asynchronous copies, atomics, fences, dependent launch. */
#include "fiber.h"

using namespace emu;

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
    yield();
}

long long cudaemu_clock(void)
{
    static long long ticks;

    return ticks += 100;
}
