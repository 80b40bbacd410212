/* global.cc - device and pinned memory: who wrote and read which granule. See shadow.h. */
#include "shadow.h"

#include <sys/mman.h>

namespace emu
{

Planes planes;
Now now;

enum : size_t { GRANULES = ARENA, CHUNK = 1 << 20 };

static std::vector<bool> touched; /* chunks of memory with stamps */

static void reserve_planes()
{
    size_t bytes = GRANULES * sizeof(uint32_t);
    void *p = mmap(nullptr, 4 * bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        die("no address space for the shadow");
    madvise(p, 4 * bytes, MADV_DONTDUMP);
    uint32_t *u = static_cast<uint32_t *>(p);
    planes = { u, u + GRANULES, u + 2 * GRANULES, u + 3 * GRANULES };
    touched.assign(2 * ARENA / CHUNK, false);
}

/* Gives the whole pages back, where there are some; they are zeros then. */
static void give_back(unsigned char *p, size_t bytes)
{
    unsigned char *first = p + (-reinterpret_cast<uintptr_t>(p) & 4095);
    unsigned char *last = p + bytes - (reinterpret_cast<uintptr_t>(p + bytes) & 4095);

    if (bytes >= 16384)
        madvise(first, static_cast<size_t>(last - first), MADV_DONTNEED);
}

static void forget(uint32_t *stamps, size_t n)
{
    unsigned char *p = reinterpret_cast<unsigned char *>(stamps);

    give_back(p, n * sizeof *stamps);
    if (n * sizeof *stamps < 16384) {
        memset(stamps, 0, n * sizeof *stamps);
        return;
    }
    memset(p, 0, -reinterpret_cast<uintptr_t>(p) & 4095);
    p += n * sizeof *stamps;
    memset(p - (reinterpret_cast<uintptr_t>(p) & 4095), 0, reinterpret_cast<uintptr_t>(p) & 4095);
}

void check_allocated(void *p, size_t bytes)
{
    if (!planes.written)
        reserve_planes();
    if (is_device(p) && options.checks)
        return; /* nobody reads it unwritten unnoticed */
    Open open;
    /* NaN, to be seen; the rest of something large stays untouched */
    memset(p, 0xff, bytes < (1 << 20) ? bytes : 1 << 20);
}

void check_freed(void *p)
{
    const Allocation *a = is_device(p) ? device.find(p) : pinned.find(p);
    size_t first = granule_of(p), n = (a->bytes + 1) / 2;

    give_back(a->start, a->bytes);
    for (uint32_t *plane : { planes.written, planes.read, planes.read_block, planes.read_stream })
        forget(plane + first, n);
}

void check_reset()
{
    everything_is_before();
    if (planes.written)
        madvise(planes.written, 4 * GRANULES * sizeof(uint32_t), MADV_DONTNEED);
    touched.assign(touched.size(), false);
}

/* Stamps start again: whatever was written was long ago. */
void forget_stamps()
{
    if (!planes.written)
        return;
    for (size_t c = 0; c < touched.size(); c++) {
        uint32_t *w = planes.written + c * (CHUNK / 2);

        if (touched[c])
            for (size_t i = 0; i < CHUNK / 2; i++)
                w[i] = w[i] ? +LONG_AGO : 0u;
    }
    madvise(planes.read, 3 * GRANULES * sizeof(uint32_t), MADV_DONTNEED);
}

/* ---- the slow way ---- */

static const char *side(bool writes)
{
    return writes ? "write" : "read";
}

/* An access to memory without a stamp: true when it is live memory. */
static bool is_live(const void *p, size_t bytes, bool writes)
{
    const unsigned char *last = static_cast<const unsigned char *>(p) + bytes - 1;
    const Arena &arena = is_device(p) ? device : pinned;
    const Allocation *a = arena.find(p);

    if (a && a->live && last < a->start + a->bytes)
        return true;
    report(a && !a->live ? "use after free" : "out of bounds", p, nullptr, "%s of %zu bytes",
           side(writes), bytes);
    return false;
}

/* False: there was something to report. */
static bool look(const void *p, size_t bytes, bool writes, uint32_t stamp, bool was_write)
{
    if (!stamp || is_before(stamp))
        return true;
    Party other = party_of(stamp);
    const char *what = race_with(stamp);

    report(what, p, &other, "%s of %zu bytes, not ordered with the %s by the other", side(writes),
           bytes, side(!was_write ? false : true));
    return false;
}

static void write_slowly(const void *p, size_t bytes, size_t g, size_t n)
{
    for (size_t i = g; i < g + n; i++) {
        uint32_t w = planes.written[i];

        if (!w) {
            if (!is_live(p, bytes, true))
                return;
            touched[i / (CHUNK / 2)] = true;
            for (; i + 1 < g + n && !planes.written[i + 1]; i++)
                ;
            continue;
        }
        if (!look(p, bytes, true, w, true) || !look(p, bytes, true, planes.read[i], false) ||
            !look(p, bytes, true, planes.read_block[i], false) ||
            !look(p, bytes, true, planes.read_stream[i], false))
            return;
    }
}

/* False: stop, reported. */
static bool read_slowly(const void *p, size_t bytes, size_t g, size_t n)
{
    for (size_t i = g; i < g + n; i++) {
        uint32_t w = planes.written[i];

        if (!w) {
            if (!is_live(p, bytes, false))
                return false;
            if (is_pinned(p)) { /* the host writes unseen */
                planes.written[i] = LONG_AGO;
                touched[i / (CHUNK / 2)] = true;
                continue;
            }
            report("unwritten memory", p, nullptr, "read of %zu bytes that nobody has written",
                   bytes);
            return false;
        }
        if (!look(p, bytes, false, w, true))
            return false;
    }
    return true;
}

/* ---- the fast way ---- */

/* Bounds of `now`, in registers: stores of stamps could change it, for all the compiler knows. */
struct Bounds {
    uint32_t stamp, safe, first, stretch;

    Bounds() : stamp(now.stamp), safe(now.safe), first(now.block_first), stretch(now.actor - first)
    {
    }
    /* 1 where the stamp is fine; without branches, for vectors */
    uint32_t wrote(uint32_t w) const
    {
        return uint32_t(w - 1 < safe - 1) | uint32_t(w - first < stretch) | uint32_t(w == stamp);
    }
    uint32_t was_read(uint32_t r) const
    {
        return uint32_t(r < safe) | uint32_t(r - first < stretch) | uint32_t(r == stamp);
    }
};

static inline void note_reader(size_t i)
{
    uint32_t r = planes.read[i];

    if (r >= now.safe && r - now.block_first > now.stamp - now.block_first) {
        if (r >= now.work_first)
            planes.read_block[i] = r;
        else if (!is_before(r))
            planes.read_stream[i] = r;
    }
    planes.read[i] = now.stamp;
}

template <size_t N> static inline void fill(uint32_t *plane, uint32_t stamp)
{
    for (size_t i = 0; i < N; i++)
        plane[i] = stamp;
}

template <size_t N> static inline void read_granules(const void *p, size_t bytes, size_t g)
{
    const Bounds b;
    const uint32_t *w = planes.written + g;
    uint32_t *r = planes.read + g, unlike = 0, bad = 0, last = r[0];

    for (size_t i = 0; i < N; i++) {
        bad |= b.wrote(w[i]) ^ 1;
        unlike |= r[i] ^ last;
    }
    if (__builtin_expect(bad, 0))
        read_slowly(p, bytes, g, N);
    if (unlike) {
        for (size_t i = 0; i < N; i++)
            note_reader(g + i);
        return;
    }
    if (last == b.stamp)
        return;
    if (last >= b.safe && last - b.first > b.stamp - b.first) {
        if (last < now.work_first) {
            for (size_t i = 0; i < N; i++)
                note_reader(g + i);
            return;
        }
        fill<N>(planes.read_block + g, last);
    }
    fill<N>(r, b.stamp);
}

template <size_t N> static inline void write_granules(const void *p, size_t bytes, size_t g)
{
    const Bounds b;
    uint32_t *w = planes.written + g, bad = 0, recent = !now.alone;
    const uint32_t *r = planes.read + g;

    for (size_t i = 0; i < N; i++) {
        bad |= (b.wrote(w[i]) & b.was_read(r[i])) ^ 1;
        recent |= r[i] >= b.safe;
    }
    if (recent)
        for (size_t i = 0; i < N; i++)
            bad |=
                (b.was_read(planes.read_block[g + i]) & b.was_read(planes.read_stream[g + i])) ^ 1;
    if (__builtin_expect(bad, 0))
        write_slowly(p, bytes, g, N);
    fill<N>(w, b.stamp);
}

/* A host function of the project's touches device memory: nobody may. */
static bool outside_work(const void *p, size_t bytes, bool writes)
{
    if (now.work)
        return false;
    if (is_device(p) && options.checks)
        report("device memory touched by the host", p, nullptr, "%s of %zu bytes", side(writes),
               bytes);
    return true;
}

void global_read(const void *p, size_t bytes)
{
    size_t g = granule_of(p), n = granule_of(static_cast<const char *>(p) + bytes + 1) - g;

    if (outside_work(p, bytes, false) || !options.checks)
        return;
    if (n == 2)
        return read_granules<2>(p, bytes, g);
    if (n == 1)
        return read_granules<1>(p, bytes, g);
    if (n == 4)
        return read_granules<4>(p, bytes, g);
    for (; n >= 8; n -= 8, g += 8)
        read_granules<8>(p, bytes, g);
    for (; n; n--, g++)
        read_granules<1>(p, bytes, g);
}

void global_write(void *p, size_t bytes)
{
    size_t g = granule_of(p), n = granule_of(static_cast<const char *>(p) + bytes + 1) - g;

    if (outside_work(p, bytes, true) || !options.checks)
        return;
    if (self)
        self->dirty = true;
    if (n == 2)
        return write_granules<2>(p, bytes, g);
    if (n == 1)
        return write_granules<1>(p, bytes, g);
    if (n == 4)
        return write_granules<4>(p, bytes, g);
    for (; n >= 8; n -= 8, g += 8)
        write_granules<8>(p, bytes, g);
    for (; n; n--, g++)
        write_granules<1>(p, bytes, g);
}

void global_copy(void *to, const void *from, size_t bytes)
{
    size_t a = granule_of(to), b = granule_of(from), n = (bytes + 1) / 2;

    if (!options.checks || !is_live(from, bytes, false) || !is_live(to, bytes, true))
        return;
    for (size_t i = 0; i < n; i++) {
        const char *p = static_cast<const char *>(from) + 2 * i;
        bool written = planes.written[b + i] != 0;

        if (written)
            global_read(p, 1);
        global_write(static_cast<char *>(to) + 2 * i, 1);
        if (!written)
            planes.written[a + i] = 0;
    }
}

} // namespace emu
