/* emu.h - what the emulator's files share.
 *
 * One recursive mutex (emu::lock) guards everything: the runtime may be called from any thread, and
 * whoever waits runs what is queued, kernels too, on its own thread while it holds the lock. */
#ifndef COG_TESTS_CUDAEMU_EMU_H
#define COG_TESTS_CUDAEMU_EMU_H

#include "cudaemu_device.h"

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace emu
{

/* A moment: for each stream how many of its operations lie before it. */
using Clock = std::vector<uint32_t>;

void join(Clock &into, const Clock &from);

struct Range {
    const unsigned char *start;
    size_t bytes;

    bool has(const void *p) const
    {
        return static_cast<size_t>(static_cast<const unsigned char *>(p) - start) < bytes;
    }
};

/* Rows of host memory. */
struct Source {
    const unsigned char *at = nullptr;
    size_t pitch = 0, width = 0, height = 0;
};

/* One thing the device does: a launch, a copy, a stand-in for a library. */
struct Work {
    const char *name = "";
    std::function<void()> run; /* of what is no kernel */
    void (*call)(const void *kernel,
                 const void *arguments) = nullptr; /* of a kernel: each thread */
    const void *kernel = nullptr;
    std::shared_ptr<const void> kept_arguments;
    Range arguments{ nullptr, 0 }; /* in there */
    bool is_kernel = false, dependent = false;
    uint3 grid{ 1, 1, 1 }, block{ 1, 1, 1 };
    size_t shared = 0;
    Source source;                     /* pinned memory that a copy reads; at is NULL otherwise */
    std::shared_ptr<std::string> kept; /* what it held when the copy was enqueued */
    /* where it stands, set when enqueued (a recorded one: when the graph is launched) */
    int stream = 0;
    uint32_t number = 0; /* of its stream, from 1 */
    Clock clock;         /* what lies before it */
};

struct Options {
    long late, seed, memory_mib, capability, fail_after, checks, code;
};
extern Options options;
extern std::recursive_mutex lock;

/* What the kernels were compiled for, as compute capability. */
static inline long code_version()
{
    return options.code ? options.code : options.capability;
}

/* A number below n from the seeded generator. */
uint32_t choose(uint32_t n);

/* check.cc: runs what is no kernel. */
void run_host(const Work &work);
void keep_source(Work &work);
void compare_source(const Work &work);

/* fiber.cc: runs every block of the launch. */
void run_kernel(const Work &work);

enum : size_t { MAX_SHARED = 227 * 1024, MAX_THREADS = 1024, WARP = 32 };

/* memory.cc */
bool is_device(const void *p);
bool is_pinned(const void *p);

} // namespace emu

#endif
