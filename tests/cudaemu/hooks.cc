/* hooks.cc - what the compiler calls in code compiled with -fsanitize=thread,alignment: one
 * function for each size of load and store, and one for a pointer that is not aligned as its type
 * must be. The real libraries of those names are not linked. */
#include "shadow.h"

#include <link.h>
#include <stdio.h>
#include <stdlib.h>

namespace emu
{

/* The program's own code and constants. */
static bool in_image(const void *p)
{
    static std::vector<Range> images;

    if (images.empty())
        dl_iterate_phdr(
            [](struct dl_phdr_info *info, size_t, void *) {
                for (int i = 0; i < info->dlpi_phnum; i++)
                    if (info->dlpi_phdr[i].p_type == PT_LOAD)
                        images.push_back({ reinterpret_cast<unsigned char *>(
                                               info->dlpi_addr + info->dlpi_phdr[i].p_vaddr),
                                           info->dlpi_phdr[i].p_memsz });
                return 0;
            },
            nullptr);
    for (const Range &r : images)
        if (r.has(p))
            return true;
    return false;
}

/* Neither device nor shared memory nor a fiber's stack. */
static __attribute__((noinline)) void elsewhere(const void *p, size_t bytes, bool writes)
{
    if (!self || !options.checks || !pthread_equal(pthread_self(), running_on))
        return;
    if (!writes && (block.work->arguments.has(p) || in_image(p)))
        return;
    report("out of bounds", p, nullptr, "%s of %zu bytes of the host's memory",
           writes ? "write" : "read", bytes);
}

static __attribute__((noinline)) void misaligned(const void *p, size_t bytes)
{
    if (options.checks && self)
        report("misaligned", p, nullptr, "access to %zu bytes", bytes);
}

static inline void read(const void *p, size_t bytes)
{
    if (is_arena(p))
        global_read(p, bytes);
    else if (is_shared(p))
        shared_read(p, bytes);
    else if (!stack_range.has(p))
        elsewhere(p, bytes, false);
}

static inline void write(void *p, size_t bytes)
{
    if (is_arena(p))
        global_write(p, bytes);
    else if (is_shared(p))
        shared_write(p, bytes);
    else if (!stack_range.has(p))
        elsewhere(p, bytes, true);
}

template <size_t N> static inline void align(const void *p)
{
    if (__builtin_expect(reinterpret_cast<uintptr_t>(p) & (N - 1), 0))
        misaligned(p, N);
}

void check_global_read(const void *p, size_t bytes, size_t alignment)
{
    if (reinterpret_cast<uintptr_t>(p) & (alignment - 1))
        misaligned(p, bytes);
    if (is_arena(p))
        global_read(p, bytes);
    else if (options.checks)
        report("out of bounds", p, nullptr, "read of %zu bytes of what is no device memory", bytes);
}

void check_shared_read(const void *p, size_t bytes, size_t alignment)
{
    if (reinterpret_cast<uintptr_t>(p) & (alignment - 1))
        misaligned(p, bytes);
    if (is_shared(p))
        shared_read(p, bytes);
    else if (options.checks)
        report("out of bounds", p, nullptr, "read of %zu bytes of what is no shared memory", bytes);
}

} // namespace emu

using namespace emu;

void cudaemu_reads(const void *p, size_t bytes)
{
    if (bytes && is_arena(p))
        global_read(p, bytes);
}

void cudaemu_writes(void *p, size_t bytes)
{
    if (bytes && is_arena(p))
        global_write(p, bytes);
}

extern "C" {
#define HOOK(name, ...) \
    void name(void *p); \
    void name(void *p)  \
    {                   \
        (void)p;        \
        __VA_ARGS__;    \
    }
#define HOOKS(size)                                                              \
    HOOK(__tsan_read##size, align<size>(p), read(p, size))                       \
    HOOK(__tsan_write##size, align<size>(p), write(p, size))                     \
    HOOK(__tsan_read_write##size, align<size>(p), read(p, size), write(p, size)) \
    HOOK(__tsan_volatile_read##size, align<size>(p), read(p, size))              \
    HOOK(__tsan_volatile_write##size, align<size>(p), write(p, size))            \
    HOOK(__tsan_unaligned_read##size, read(p, size))                             \
    HOOK(__tsan_unaligned_write##size, write(p, size))                           \
    HOOK(__tsan_unaligned_read_write##size, read(p, size), write(p, size))
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
HOOK(__tsan_func_entry, )
HOOK(__tsan_vptr_read, )

void __tsan_read_range(void *p, size_t bytes);
void __tsan_read_range(void *p, size_t bytes)
{
    read(p, bytes);
}

void __tsan_write_range(void *p, size_t bytes);
void __tsan_write_range(void *p, size_t bytes)
{
    write(p, bytes);
}

void __tsan_vptr_update(void **p, void *value);
void __tsan_vptr_update(void **, void *)
{
}

void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}

void __tsan_init(void);
void __tsan_init(void)
{
}

/* What UBSan tells: where in the source, and the logarithm of the alignment. */
struct mismatch {
    const char *file;
    uint32_t line, column;
    const void *type;
    unsigned char log_alignment, kind;
};

void __ubsan_handle_type_mismatch_v1(const struct mismatch *m, const void *p)
    __attribute__((weak)); /* a static runtime of UBSan has its own */
void __ubsan_handle_type_mismatch_v1(const struct mismatch *m, const void *p)
{
    if (self) {
        misaligned(p, size_t{ 1 } << m->log_alignment);
        return;
    }
    fprintf(stderr, "%s:%u:%u: runtime error: misaligned or null pointer %p\n", m->file, m->line,
            m->column, p);
    abort();
}

void __ubsan_handle_type_mismatch_v1_abort(const struct mismatch *m, const void *p)
    __attribute__((weak));
void __ubsan_handle_type_mismatch_v1_abort(const struct mismatch *m, const void *p)
{
    __ubsan_handle_type_mismatch_v1(m, p);
}
}
