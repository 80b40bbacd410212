/* shadow.h - what is remembered about each piece of memory.
 *
 * A stamp is 32 bits: an actor and, in the low 10 bits, a thread. Actors are numbered in the order
 * in which they run: each stretch of a block between two barriers is one, and so is a copy or a
 * stand-in. Stamp 0 is "never", actor 1 is "long ago, before everything".
 *
 * Global memory has four stamps for every 2 bytes (a granule): the last write, the last read, the
 * last read of another block than that one, and the last read of another stream. That is enough:
 * whatever is ordered before an access may be forgotten when the access takes its place, because
 * order is transitive (FastTrack; Flanagan, Freund 2009). The planes are reserved for all addresses
 * at once, and exist where touched.
 *
 * An access is fine at once when the stamps it meets are smaller than `safe` (of something that
 * lies before all that runs now) or belong to earlier stretches of its own block; everything else
 * is looked at in full: clocks of streams, acquired releases, warps. */
#ifndef COG_TESTS_CUDAEMU_SHADOW_H
#define COG_TESTS_CUDAEMU_SHADOW_H

#include "memory.h"

#include <set>

namespace emu
{

enum : uint32_t { THREAD_BITS = 10, THREAD_MASK = (1u << THREAD_BITS) - 1, LONG_AGO = 1u << 10 };

struct Now {
    uint32_t stamp;       /* of this access */
    uint32_t actor;       /* the stamp without the thread */
    uint32_t safe;        /* smaller stamps lie before this thread's accesses */
    uint32_t block_first; /* first actor of the block */
    uint32_t work_first;  /* first actor of the work */
    bool alone;           /* safe is work_first: nothing runs beside this */
    const Work *work;     /* NULL: nothing runs */
};
extern Now now;

struct Planes {
    uint32_t *written, *read, *read_block, *read_stream; /* one stamp a granule */
};
extern Planes planes;

static inline size_t granule_of(const void *p)
{
    return static_cast<size_t>(static_cast<const unsigned char *>(p) - device.base) >> 1;
}

static inline bool is_arena(const void *p)
{
    return static_cast<size_t>(static_cast<const unsigned char *>(p) - device.base) < 2 * ARENA;
}

/* How many granules an access of that many bytes touches at most: 1, 2, 4 or 8 for aligned ones. */
void global_read(const void *p, size_t bytes);
void global_write(void *p, size_t bytes);
/* Copies "unwritten" along with the bytes. */
void global_copy(void *to, const void *from, size_t bytes);

/* shared.cc: memory of the block, byte by byte */
static inline bool is_shared(const void *p)
{
    return static_cast<size_t>(static_cast<const unsigned char *>(p) - block.shared +
                               SHARED_GUARD) < SHARED_SPAN;
}
void shared_read(const void *p, size_t bytes);
void shared_write(void *p, size_t bytes);
void shared_atomic(void *p, size_t bytes);
void shared_block_begin();
void shared_barrier();
void shared_syncwarp(Warp *w, uint32_t mask);

/* Another thread of the block runs. What it may touch changes with cog_dependency_wait, and so from
 * thread to thread. */
void switch_dependent();
static inline void check_switch()
{
    now.stamp = now.actor | self->id;
    if (now.work->dependent)
        switch_dependent();
}

/* ---- who is who ---- */

struct Party {
    const char *kernel = nullptr;
    uint3 block{ 0, 0, 0 }, thread{ 0, 0, 0 };
};
Party party_of(uint32_t stamp);        /* of a stamp of global memory */
Party party_in_block(unsigned thread); /* thread of this block */
Party party_now();

/* Prints and ends the program, or calls the handler. other may be NULL. */
void report(const char *what, const void *address, const Party *other, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* What a thread knows of other blocks, through atomics and fences. */
struct Known {
    std::map<uint32_t, uint32_t> below; /* block -> stamps of it below this are before */
    std::set<uint32_t> stamps;          /* and these */

    bool empty() const
    {
        return below.empty() && stamps.empty();
    }
    void add(const Known &k);
    bool has(uint32_t of_block, uint32_t stamp) const;
};

/* order.cc: atomics, fences, what lies before what */
void order_begin(const Work &work);
void order_end(const Work &work);
void order_block_begin();
void order_barrier();
/* Whether what has the stamp lies before this thread's next access to it. */
bool is_before(uint32_t stamp);
/* NULL, or why not: the name of the mistake. */
const char *race_with(uint32_t stamp);
void everything_is_before(); /* nothing is queued and the host has waited for all */

} // namespace emu

#endif
