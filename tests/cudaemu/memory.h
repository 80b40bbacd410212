/* memory.h - the ranges of addresses that the emulator hands out. */
#ifndef COG_TESTS_CUDAEMU_MEMORY_H
#define COG_TESTS_CUDAEMU_MEMORY_H

#include "fiber.h"

#include <map>

namespace emu
{

enum : size_t { ARENA = size_t{ 1 } << 33, GUARD = 512 };

struct Allocation {
    unsigned char *start;
    size_t bytes;
    bool live;
};

struct Arena {
    const char *name;
    unsigned char *base = nullptr;
    size_t next = 0, live_bytes = 0;
    std::map<unsigned char *, Allocation> all = {};

    bool has(const void *p) const
    {
        return base && static_cast<size_t>(static_cast<const unsigned char *>(p) - base) < ARENA;
    }
    const Allocation *in_the_way(size_t at, size_t span) const;
    void *take(size_t bytes); /* NULL when there is no room */
    bool give(void *p);       /* false: not a live allocation's start */
    const Allocation *find(const void *p) const;
    void clear();
};

/* While one of these is alive device memory can be touched; otherwise the host that tries is told
 * off by a signal. */
struct Open {
    Open();
    ~Open();
    Open(const Open &) = delete;
    Open &operator=(const Open &) = delete;
};

extern Arena device, pinned; /* pinned follows device */

} // namespace emu

#endif
