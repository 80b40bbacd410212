/* memory.cc - device memory and pinned host memory: two ranges of addresses, reserved once, whose
 * pages exist when touched. An address is used again only when all have been used, so a pointer to
 * freed memory stays recognisable. */
#include "memory.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <map>

namespace emu
{

Arena device{ "device" }, pinned{ "pinned" };

static int opened;
static bool is_closed;
static unsigned times; /* that it could be closed */
static struct sigaction before;

static void protect(int access)
{
    if (device.base)
        mprotect(device.base, ARENA, access);
}

Open::Open()
{
    opened++;
    if (is_closed)
        protect(PROT_READ | PROT_WRITE);
    is_closed = false;
}

/* Whatever is no device memory is somebody else's: the fault comes again. */
static void on_fault(int, siginfo_t *info, void *)
{
    if (opened || !device.has(info->si_addr)) {
        sigaction(SIGSEGV, &before, nullptr);
        return;
    }
    report_host_access(info->si_addr);
    protect(PROT_READ | PROT_WRITE); /* a test goes on */
    is_closed = false;
}

/* Each time: frameworks of tests install their own. */
static void watch_faults()
{
    struct sigaction action = {}, was;

    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, &was);
    if (was.sa_sigaction != on_fault)
        before = was;
}

Open::~Open()
{
    /* Closing costs time for every page there is: always at first, then now and then. */
    if (--opened == 0 && options.checks && device.base) {
        if (++times < 64 || times % 16 == 0) {
            is_closed = true;
            protect(PROT_NONE);
            watch_faults();
        }
    }
}

static void reserve()
{
    if (device.base)
        return;
    void *p = mmap(nullptr, 2 * ARENA, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        die("no address space");
    madvise(p, 2 * ARENA, MADV_NOHUGEPAGE);
    device.base = static_cast<unsigned char *>(p);
    pinned.base = device.base + ARENA;
}

/* The live allocation that comes nearer than a guard zone to [at, at + span). */
const Allocation *Arena::in_the_way(size_t at, size_t span) const
{
    auto it = all.lower_bound(base + at + span);

    while (it != all.begin()) {
        --it;
        if (it->first + it->second.bytes + GUARD <= base + at)
            return nullptr;
        if (it->second.live)
            return &it->second;
    }
    return nullptr;
}

void *Arena::take(size_t bytes)
{
    size_t span = (bytes + GUARD + 255) / 256 * 256;
    const Allocation *other;

    reserve();
    if (bytes > ARENA - 2 * GUARD)
        return nullptr;
    if (next + span + GUARD > ARENA) {
        next = 0;
        for (auto it = all.begin(); it != all.end();)
            it = it->second.live ? std::next(it) : all.erase(it);
    }
    while ((other = in_the_way(next + GUARD, span)))
        next = (static_cast<size_t>(other->start - base) + other->bytes + 255) / 256 * 256;
    if (next + span + GUARD > ARENA)
        return nullptr;
    unsigned char *p = base + next + GUARD;
    next += span;
    all[p] = { p, bytes, true };
    live_bytes += bytes;
    return p;
}

bool Arena::give(void *p)
{
    auto it = all.find(static_cast<unsigned char *>(p));

    if (it == all.end() || !it->second.live)
        return false;
    it->second.live = false;
    live_bytes -= it->second.bytes;
    return true;
}

const Allocation *Arena::find(const void *p) const
{
    auto it = all.upper_bound(static_cast<unsigned char *>(const_cast<void *>(p)));

    if (it == all.begin())
        return nullptr;
    --it;
    return static_cast<const unsigned char *>(p) < it->first + it->second.bytes ? &it->second
                                                                                : nullptr;
}

void Arena::clear()
{
    if (base)
        madvise(base, ARENA, MADV_DONTNEED);
    all.clear();
    times = 0;
    next = live_bytes = 0;
}

bool is_device(const void *p)
{
    return device.has(p);
}

bool is_pinned(const void *p)
{
    return pinned.has(p);
}

} // namespace emu
