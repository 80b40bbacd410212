/* check.cc - checks of what kernels do. */
#include "fiber.h"

#include <stdio.h>

namespace emu
{

void run_host(const Work &work)
{
    work.run();
}
void check_reset()
{
}
void check_allocated(void *, size_t)
{
}
void check_freed(void *)
{
}
void check_kernel_begin(const Work &)
{
}
void check_kernel_end(const Work &)
{
}
void check_block_begin()
{
}
void check_block_end()
{
}
void check_exit()
{
}
void check_barrier()
{
}
void check_syncwarp(Warp *, uint32_t)
{
}
void check_mask(uint32_t)
{
}
void check_shuffle(uint32_t, int)
{
}
void check_shared_read(const void *, size_t, size_t)
{
}
void check_global_read(const void *, size_t, size_t)
{
}
void check_copy_begin(void *, const void *, bool)
{
}
void check_copy_end(void *)
{
}
void check_atomic(void *, size_t)
{
}
void check_fence()
{
}
void check_dependency_wait()
{
}
void check_dependency_trigger()
{
}

void report_stuck()
{
    die("threads wait for others that will not come");
}

void report_trap(const char *what)
{
    die(what);
}

} // namespace emu

void cudaemu_reads(const void *, size_t)
{
}
void cudaemu_writes(void *, size_t)
{
}
void cudaemu_on_report(void (*)(void *, const cudaemu_report *), void *)
{
}
