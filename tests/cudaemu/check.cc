/* check.cc - the moments of a block's life at which something is checked, and how threads wait for
 * each other. */
#include "shadow.h"

namespace emu
{

void run_host(const Work &work)
{
    order_begin(work);
    if (work.source.at && options.checks)
        compare_source(work);
    work.run();
    order_end(work);
}

/* A copy from pinned memory reads when it runs: until then the host must leave it alone. */
void compare_source(const Work &work)
{
    for (size_t i = 0; i < work.source.height; i++) {
        const unsigned char *at = work.source.at + i * work.source.pitch;
        const char *kept = work.kept->data() + i * work.source.width;

        if (memcmp(at, kept, work.source.width) == 0)
            continue;
        Party host{ "host", { 0, 0, 0 }, { 0, 0, 0 } };
        size_t k = 0;
        while (at[k] == static_cast<unsigned char>(kept[k]))
            k++;
        report("pinned memory reused", at + k, &host,
               "the host changed what a copy that was enqueued before had still to read");
        return;
    }
}

void keep_source(Work &work)
{
    if (!work.source.at)
        return;
    work.kept = std::make_shared<std::string>();
    for (size_t i = 0; i < work.source.height; i++)
        work.kept->append(reinterpret_cast<const char *>(work.source.at) + i * work.source.pitch,
                          work.source.width);
}

void check_kernel_begin(const Work &work)
{
    order_begin(work);
}

void check_kernel_end(const Work &work)
{
    order_end(work);
}

void check_block_begin()
{
    order_block_begin();
    shared_block_begin();
}

/* ---- waiting for each other ---- */

static const Fiber *another_line(const Fiber *first)
{
    for (unsigned i = 0; i < block.n; i++)
        if (block.fibers[i].state == AT_BARRIER && block.fibers[i].line != first->line)
            return &block.fibers[i];
    return nullptr;
}

/* All threads that are left stand at a barrier. */
void check_barrier()
{
    const Fiber *first = nullptr, *other, *was = self;

    for (unsigned i = 0; i < block.n && !first; i++)
        if (block.fibers[i].state == AT_BARRIER)
            first = &block.fibers[i];
    self = const_cast<Fiber *>(first);
    if (options.checks && first) {
        if (block.alive < block.n) {
            for (other = block.fibers; other->state != EXITED; other++)
                ;
            Party p = party_in_block(static_cast<unsigned>(other - block.fibers));
            report("barrier divergence", nullptr, &p,
                   "waits at the barrier of line %d; the other thread has ended", first->line);
        } else if ((other = another_line(first))) {
            Party p = party_in_block(static_cast<unsigned>(other - block.fibers));
            report("barrier divergence", nullptr, &p,
                   "waits at the barrier of line %d, the other at that of line %d", first->line,
                   other->line);
        }
    }
    self = const_cast<Fiber *>(was);
    shared_barrier();
    order_barrier();
    check_switch();
}

void check_syncwarp(Warp *w, uint32_t mask)
{
    shared_syncwarp(w, mask);
    w->synced = true;
}

/* The lanes of mask that can come. */
uint32_t check_mask(uint32_t mask)
{
    const Warp *w = &block.warps[self->warp];
    uint32_t there = w->exists & ~w->exited, mine = 1u << self->lane;

    if (!options.checks || ((mask & ~there) == 0 && (mask & mine)))
        return (mask & there) | mine;
    if (!(mask & mine)) {
        report("wrong mask", nullptr, nullptr, "mask %08x does not name the caller, lane %u", mask,
               self->lane);
    } else {
        unsigned lane = static_cast<unsigned>(__builtin_ctz(mask & ~there));
        Party p = party_in_block(self->warp * static_cast<unsigned>(WARP) + lane);

        if (!(w->exists >> lane & 1))
            p.kernel = nullptr;
        report("wrong mask", nullptr, &p, "mask %08x names lane %u, which %s", mask, lane,
               p.kernel ? "has ended" : "the block does not have");
    }
    return (mask & there) | mine;
}

void check_shuffle(uint32_t mask, int from)
{
    if (options.checks && !(mask >> from & 1))
        report("wrong mask", nullptr, nullptr,
               "shuffle from lane %d, which mask %08x does not name", from, mask);
}

/* Nobody can go on: the first that waits for lanes, and why they do not come. */
void report_stuck()
{
    const Fiber *was = self;

    for (unsigned i = 0; i < block.n; i++) {
        const Fiber *f = &block.fibers[i];
        const Warp *w = &block.warps[f->warp];

        if (f->state != IN_WARP)
            continue;
        for (uint32_t left = f->mask; left; left &= left - 1) {
            unsigned lane = static_cast<unsigned>(__builtin_ctz(left));
            const Fiber *o = &w->fibers[lane];

            if (o->state == IN_WARP && o->kind == f->kind && o->mask == f->mask)
                continue;
            Party p = party_in_block(f->warp * static_cast<unsigned>(WARP) + lane);
            self = const_cast<Fiber *>(f);
            report("wrong mask", nullptr, &p, "waits with mask %08x for lane %u, which %s", f->mask,
                   lane,
                   o->state == EXITED       ? "has ended"
                   : o->state == AT_BARRIER ? "waits at the block's barrier"
                                            : "waits for something else");
            self = const_cast<Fiber *>(was);
            return;
        }
    }
}

void report_host_access(const void *p)
{
    report("device memory touched by the host", p, nullptr, "outside any work");
}

void report_trap(const char *what)
{
    report("trap", nullptr, nullptr, "%s", what);
}

} // namespace emu
