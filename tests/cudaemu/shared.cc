/* shared.cc - shared memory of the block, byte by byte: the last write, the last read, the last
 * read of another thread than that one, and the last read of another warp. A stamp here is a tick
 * and a thread; every barrier, and every __syncwarp, is a tick. Something lies before an access
 * when it is of the same thread, or older than the last barrier, or of the same warp and older than
 * its last
 * __syncwarp. Shuffles and votes order nothing. Older than the block is "unwritten". The top bit of
 * a write marks a copy (cp.async) that nobody has waited for. */
#include "shadow.h"

#include <unordered_map>

namespace emu
{

enum : uint32_t { UNDER_WAY = 1u << 31, MAX_TICKS = 1u << 21 };

/* index: byte of the span, guards included */
static uint32_t written[SHARED_SPAN], readers[3][SHARED_SPAN];
static uint32_t tick, block_start, block_sync; /* tick << THREAD_BITS for the last two */
static uint32_t warp_sync[MAX_THREADS / WARP];
static struct {
    uint32_t mask, stamp;
} partial_sync[MAX_THREADS]; /* a lane's last __syncwarp of some lanes */
static std::unordered_map<const void *, uint32_t> atomics; /* last atomic access */

static void next_tick()
{
    if (++tick == MAX_TICKS)
        die("too many barriers in one block");
}

void shared_block_begin()
{
    if (tick > MAX_TICKS / 2) {
        memset(written, 0, sizeof written);
        memset(readers, 0, sizeof readers);
        tick = 0;
    }
    next_tick();
    block_start = block_sync = tick << THREAD_BITS;
    for (uint32_t &w : warp_sync)
        w = block_start;
    for (unsigned i = 0; i < block.n; i++)
        partial_sync[i] = { 0, 0 };
    if (!atomics.empty())
        atomics.clear();
}

void shared_barrier()
{
    next_tick();
    block_sync = tick << THREAD_BITS;
}

void shared_syncwarp(Warp *w, uint32_t mask)
{
    next_tick();
    if (mask == w->exists) {
        warp_sync[w->index] = tick << THREAD_BITS;
        return;
    }
    for (uint32_t left = mask; left; left &= left - 1)
        partial_sync[w->index * WARP + static_cast<unsigned>(__builtin_ctz(left))] = {
            mask, tick << THREAD_BITS
        };
}

static inline uint32_t me()
{
    return self->id;
}

/* ---- the slow way ---- */

static bool is_ordered(uint32_t stamp)
{
    uint32_t other = stamp & THREAD_MASK;

    if (stamp < block_sync || other == me())
        return true;
    if (other / WARP != self->warp)
        return false;
    return stamp < warp_sync[self->warp] ||
           (partial_sync[me()].mask >> other % WARP & 1 && stamp < partial_sync[me()].stamp);
}

static bool out_of_bounds(const void *p, size_t bytes, const char *side)
{
    const unsigned char *first = static_cast<const unsigned char *>(p);

    if (self && first >= block.shared && first + bytes <= block.shared + block.work->shared)
        return false;
    report("out of bounds", p, nullptr, "%s of %zu bytes of shared memory, of which there are %zu",
           side, bytes, block.work ? block.work->shared : 0);
    return true;
}

static void race(const void *p, size_t bytes, const char *side, uint32_t stamp, const char *before)
{
    Party other = party_in_block(stamp & THREAD_MASK);

    report("missing barrier", p, &other,
           "%s of %zu bytes of shared memory, no barrier since the %s", side, bytes, before);
}

static bool look_at_write(const void *p, size_t bytes, const char *side, uint32_t w, bool is_atomic)
{
    if (w < block_start)
        return true;
    if (w & UNDER_WAY) {
        Party other = party_in_block(w & THREAD_MASK);

        report("copy under way", p, &other, "%s of %zu bytes that a cp.async not waited for writes",
               side, bytes);
        return false;
    }
    if (is_ordered(w))
        return true;
    if (is_atomic) {
        auto it = atomics.find(p);

        if (it != atomics.end() && it->second == w)
            return true;
    }
    race(p, bytes, side, w, "write");
    return false;
}

static void read_slowly(const void *p, size_t bytes, size_t at, size_t n)
{
    for (size_t i = at; i < at + n; i++) {
        if (written[i] < block_start) {
            report("unwritten memory", p, nullptr,
                   "read of %zu bytes of shared memory that nobody has written", bytes);
            return;
        }
        if (!look_at_write(p, bytes, "read", written[i], false))
            return;
    }
}

static void write_slowly(const void *p, size_t bytes, size_t at, size_t n, const char *side,
                         bool is_atomic)
{
    for (size_t i = at; i < at + n; i++) {
        if (!look_at_write(p, bytes, side, written[i], is_atomic))
            return;
        for (const uint32_t *r : { readers[0], readers[1], readers[2] })
            if (r[i] >= block_start && !is_ordered(r[i])) {
                race(p, bytes, side, r[i], "read");
                return;
            }
    }
}

/* ---- the fast way ---- */

static inline size_t index_of(const void *p)
{
    return static_cast<size_t>(static_cast<const unsigned char *>(p) - block.shared + SHARED_GUARD);
}

static inline bool inside(const void *p, size_t bytes)
{
    return self && index_of(p) - SHARED_GUARD + bytes <= block.work->shared &&
           index_of(p) >= SHARED_GUARD;
}

template <size_t N> static inline void read_bytes(const void *p, size_t at, size_t bytes)
{
    const uint32_t *w = written + at, id = me(), stamp = tick << THREAD_BITS | id;
    const uint32_t start = block_start, sync = block_sync;
    uint32_t *r = readers[0] + at, bad = 0, unlike = 0, last = r[0];

    for (size_t i = 0; i < N; i++) {
        bad |= !((w[i] - start < sync - start) |
                 (((w[i] & THREAD_MASK) == id) & (w[i] - start < UNDER_WAY - start)));
        unlike |= r[i] ^ last;
    }
    if (__builtin_expect(bad, 0))
        read_slowly(p, bytes, at, N);
    if (!unlike && last == stamp)
        return;
    if (unlike || (last >= sync && (last & THREAD_MASK) != id))
        for (size_t i = 0; i < N; i++) {
            uint32_t other = r[i];
            bool counts = other >= sync && (other & THREAD_MASK) != id;
            bool far = (other & THREAD_MASK) / WARP != id / WARP;

            readers[1][at + i] = counts ? other : readers[1][at + i];
            readers[2][at + i] = counts && far ? other : readers[2][at + i];
        }
    for (size_t i = 0; i < N; i++)
        r[i] = stamp;
}

template <size_t N> static inline void write_bytes(const void *p, size_t at, size_t bytes)
{
    const uint32_t id = me(), stamp = tick << THREAD_BITS | id, sync = block_sync;
    uint32_t *w = written + at, newest = 0;

    for (size_t i = 0; i < N; i++) {
        uint32_t mine = (w[i] & (UNDER_WAY | THREAD_MASK)) == id ? 0 : w[i];

        newest = newest > mine ? newest : mine;
        for (const uint32_t *r : { readers[0], readers[1], readers[2] }) {
            mine = (r[at + i] & THREAD_MASK) == id ? 0 : r[at + i];
            newest = newest > mine ? newest : mine;
        }
    }
    if (__builtin_expect(newest >= sync, 0))
        write_slowly(p, bytes, at, N, "write", false);
    for (size_t i = 0; i < N; i++)
        w[i] = stamp;
}

void shared_read(const void *p, size_t bytes)
{
    size_t at = index_of(p), n = bytes;

    if (!options.checks || (!inside(p, bytes) && out_of_bounds(p, bytes, "read")))
        return;
    if (n == 4)
        return read_bytes<4>(p, at, bytes);
    if (n == 2)
        return read_bytes<2>(p, at, bytes);
    for (; n >= 8; n -= 8, at += 8)
        read_bytes<8>(p, at, bytes);
    for (; n; n--, at++)
        read_bytes<1>(p, at, bytes);
}

void shared_write(void *p, size_t bytes)
{
    size_t at = index_of(p), n = bytes;

    if (!options.checks || (!inside(p, bytes) && out_of_bounds(p, bytes, "write")))
        return;
    if (n == 4)
        return write_bytes<4>(p, at, bytes);
    if (n == 2)
        return write_bytes<2>(p, at, bytes);
    for (; n >= 8; n -= 8, at += 8)
        write_bytes<8>(p, at, bytes);
    for (; n; n--, at++)
        write_bytes<1>(p, at, bytes);
}

/* Atomics of one place do not race with each other, and order nothing else. */
void shared_atomic(void *p, size_t bytes)
{
    size_t at = index_of(p);
    uint32_t stamp = tick << THREAD_BITS | me();

    if (!options.checks || (!inside(p, bytes) && out_of_bounds(p, bytes, "atomic")))
        return;
    if (written[at] < block_start)
        report("unwritten memory", p, nullptr,
               "atomic on %zu bytes of shared memory that nobody has written", bytes);
    write_slowly(p, bytes, at, bytes, "atomic", true);
    for (size_t i = at; i < at + bytes; i++)
        written[i] = stamp;
    atomics[p] = stamp;
}

/* ---- cp.async ---- */

void check_copy_begin(void *to, const void *from, bool valid)
{
    size_t at = index_of(to);

    if (!options.checks)
        return;
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) & 15)
        report("misaligned", reinterpret_cast<uintptr_t>(to) & 15 ? to : from, nullptr,
               "cp.async of 16 bytes");
    if (!is_device(from))
        report("out of bounds", from, nullptr, "cp.async from what is no device memory");
    else if (valid)
        global_read(from, 16);
    if (!is_shared(to) || (!inside(to, 16) && out_of_bounds(to, 16, "cp.async"))) {
        if (!is_shared(to))
            report("out of bounds", to, nullptr, "cp.async to what is no shared memory");
        return;
    }
    write_slowly(to, 16, at, 16, "cp.async", false);
    for (size_t i = at; i < at + 16; i++)
        written[i] = tick << THREAD_BITS | me() | UNDER_WAY;
}

/* The bytes may have come at any moment since the beginning: from here on, for this thread. */
void check_copy_end(void *to)
{
    size_t at = index_of(to);

    if (!options.checks || !is_shared(to))
        return;
    for (size_t i = at; i < at + 16; i++)
        written[i] = tick << THREAD_BITS | me();
}

} // namespace emu
