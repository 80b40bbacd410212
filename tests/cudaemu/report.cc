/* report.cc - says what was found, then ends the program; or tells a test. */
#include "shadow.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

namespace emu
{

static void (*handler)(void *user, const cudaemu_report *report);
static void *handler_user;

static std::string formatted(const char *format, ...) __attribute__((format(printf, 1, 2)));

static std::string formatted(const char *format, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return text;
}

static std::string place_in(const Arena &arena, const void *p)
{
    auto it = arena.all.upper_bound(static_cast<unsigned char *>(const_cast<void *>(p)));

    if (it == arena.all.begin())
        return formatted("%p, in no %s allocation", p, arena.name);
    --it;
    const Allocation &a = it->second;
    size_t at = static_cast<size_t>(static_cast<const unsigned char *>(p) - a.start);
    return formatted("%p, byte %zu %s of the %s%s allocation of %zu bytes at %p", p,
                     at < a.bytes ? at : at - a.bytes, at < a.bytes ? "" : "behind the end",
                     a.live ? "" : "freed ", arena.name, a.bytes, static_cast<void *>(a.start));
}

static std::string place(const void *p)
{
    if (is_device(p))
        return place_in(device, p);
    if (is_pinned(p))
        return place_in(pinned, p);
    if (block.work && is_shared(p))
        return formatted("%p, byte %td of the block's %zu bytes of shared memory", p,
                         static_cast<const unsigned char *>(p) - block.shared, block.work->shared);
    return formatted("%p, memory of the host", p);
}

static std::string who(const Party &p)
{
    return formatted("kernel %s block (%u, %u, %u) thread (%u, %u, %u)", p.kernel, p.block.x,
                     p.block.y, p.block.z, p.thread.x, p.thread.y, p.thread.z);
}

static void put(unsigned to[3], uint3 from)
{
    to[0] = from.x;
    to[1] = from.y;
    to[2] = from.z;
}

void report(const char *what, const void *address, const Party *other, const char *format, ...)
{
    char detail[256];
    Party here = party_now();
    va_list ap;

    va_start(ap, format);
    vsnprintf(detail, sizeof detail, format, ap);
    va_end(ap);
    std::string text = formatted("cudaemu: %s: %s\n    by %s\n", what, detail, who(here).c_str());
    if (address)
        text += "    at " + place(address) + "\n";
    if (other && other->kernel)
        text += "    with " + who(*other) + "\n";
    if (!handler) {
        fputs(text.c_str(), stderr);
        abort();
    }
    cudaemu_report r = {};
    r.what = what;
    r.kernel = here.kernel;
    put(r.block, here.block);
    put(r.thread, here.thread);
    r.address = address;
    if (other) {
        r.other = other->kernel;
        put(r.other_block, other->block);
        put(r.other_thread, other->thread);
    }
    r.text = text.c_str();
    handler(handler_user, &r);
}

} // namespace emu

void cudaemu_on_report(void (*fn)(void *user, const cudaemu_report *report), void *user)
{
    std::lock_guard<std::recursive_mutex> guard(emu::lock);

    emu::handler = fn;
    emu::handler_user = user;
}
