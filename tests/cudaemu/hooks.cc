/* hooks.cc - what the compiler calls in code compiled with -fsanitize=thread: one function for each
 * size of load and store. The real library of that name is not linked. */
#include <stddef.h>

extern "C" {
#define HOOK(name)     \
    void name(void *); \
    void name(void *)  \
    {                  \
    }
#define HOOKS(size)                         \
    HOOK(__tsan_read##size)                 \
    HOOK(__tsan_write##size)                \
    HOOK(__tsan_unaligned_read##size)       \
    HOOK(__tsan_unaligned_write##size)      \
    HOOK(__tsan_read_write##size)           \
    HOOK(__tsan_unaligned_read_write##size) \
    HOOK(__tsan_volatile_read##size)        \
    HOOK(__tsan_volatile_write##size)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
HOOK(__tsan_func_entry)
HOOK(__tsan_vptr_read)

void __tsan_read_range(void *, size_t);
void __tsan_read_range(void *, size_t)
{
}
void __tsan_write_range(void *, size_t);
void __tsan_write_range(void *, size_t)
{
}
void __tsan_vptr_update(void **, void *);
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
}
