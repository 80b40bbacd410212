/* order.cc - what lies before what in global memory.
 *
 * Between works (launches, copies): by the clocks that stream.cc gave them. Between blocks of a
 * launch: only by a release and an acquire through an atomic: a thread that has fenced
 * (__threadfence) passes on, with its atomic, what it knew at the fence: all that its block had
 * done before the last barrier, and its own; a thread that has made an atomic on the same place and
 * then fenced knows it, and so does its block after the next barrier. Inside a block: barriers, and
 * __syncwarp within its warp.
 *
 * A launch with the programmatic attribute runs beside the kernel before it until
 * cog_dependency_wait; and if that one let it start before it had waited itself, also beside the
 * one before that. */
#include "shadow.h"
#include "stream.h"

#include <algorithm>
#include <unordered_map>

namespace emu
{

enum : uint32_t { MAX_ACTOR = (1u << 22) - 2, MANY_ACTORS = 1u << 21 };

/* A work that ran, for those that may not lie behind it. */
struct Ran {
    uint32_t first_actor;
    const char *name;
    int stream;
    uint32_t number;
    uint3 grid, block;
    bool is_kernel;
    std::vector<std::pair<uint32_t, uint32_t>> blocks; /* first actor -> block */
};

/* Of a stream: how dependent launches may overlap. */
struct Last {
    uint32_t number = 0;
    bool is_kernel = false, let_go_early = false;
    uint32_t complete = 0; /* number up to which all was complete when it began */
};

struct Sync {
    Known released;
    uint32_t last_stamp;
};

static std::vector<Ran> ran;
static std::unordered_map<int, Last> last_of;
static std::unordered_map<const void *, Sync> syncs;
static uint32_t next_actor = 2;
static uint32_t safe_early, safe_late; /* before cog_dependency_wait, and after */
static uint32_t complete_early;        /* number of the own stream */
static bool any_waited, triggered_early;
static Known block_known;
static uint32_t block_covered; /* stamps of the block below this were fenced */
static std::vector<Known> pending(MAX_THREADS), known(MAX_THREADS);
static bool any_known;

void forget_stamps();

void Known::add(const Known &k)
{
    for (const auto &b : k.below)
        below[b.first] = std::max(below[b.first], b.second);
    stamps.insert(k.stamps.begin(), k.stamps.end());
}

bool Known::has(uint32_t of_block, uint32_t stamp) const
{
    auto it = below.find(of_block);

    return (it != below.end() && stamp < it->second) || stamps.count(stamp);
}

/* ---- actors ---- */

static void next_stretch()
{
    if (next_actor >= MAX_ACTOR) { /* loses what this work did so far */
        forget_stamps();
        ran.erase(ran.begin(), ran.end() - 1);
        next_actor = 2;
        ran.back().first_actor = 2;
        ran.back().blocks = { { 2, block.linear } };
        now.safe = now.work_first = now.block_first = safe_early = safe_late = 2u << THREAD_BITS;
    }
    now.actor = next_actor++ << THREAD_BITS;
}

void everything_is_before()
{
    ran.clear();
    if (next_actor > MANY_ACTORS) {
        forget_stamps();
        next_actor = 2;
    }
}

/* The first stamp that does not lie before work, if of the own stream everything up to number is
 * complete. */
static uint32_t first_beside(const Work &work, uint32_t number)
{
    for (const Ran &r : ran) {
        uint32_t before = r.stream == work.stream ? number
                          : static_cast<size_t>(r.stream) < work.clock.size()
                              ? work.clock[static_cast<size_t>(r.stream)]
                              : 0;

        if (r.number > before)
            return r.first_actor << THREAD_BITS;
    }
    return next_actor << THREAD_BITS;
}

void order_begin(const Work &work)
{
    Last &last = last_of[work.stream];
    uint32_t before = work.number - 1;

    complete_early = before;
    if (work.dependent && last.is_kernel && last.number == before && before)
        complete_early = last.let_go_early ? last.complete : before - 1;
    safe_early = first_beside(work, complete_early);
    now.safe = safe_late = complete_early == before ? safe_early : first_beside(work, before);
    now.work = &work;
    now.work_first = next_actor << THREAD_BITS;
    now.alone = now.safe == now.work_first && safe_early == now.safe;
    any_waited = triggered_early = false;
    syncs.clear();
    ran.push_back({ next_actor,
                    work.name,
                    work.stream,
                    work.number,
                    work.grid,
                    work.block,
                    work.is_kernel,
                    {} });
    if (!work.is_kernel) {
        next_stretch();
        now.block_first = now.stamp = now.actor;
    }
}

void order_end(const Work &work)
{
    if (work.dependent && !any_waited && options.checks)
        report("no dependency wait", nullptr, nullptr,
               "launched to overlap the kernel before it, and no thread ever waits for that");
    last_of[work.stream] = { work.number, work.is_kernel, triggered_early, complete_early };
    now.work = nullptr;
}

void order_block_begin()
{
    ran.back().blocks.push_back({ next_actor, block.linear });
    now.block_first = next_actor << THREAD_BITS;
    next_stretch();
    block_covered = 0;
    if (any_known) {
        block_known = Known{};
        for (unsigned i = 0; i < MAX_THREADS; i++)
            pending[i] = known[i] = Known{};
        any_known = false;
    }
    for (unsigned i = 0; i < block.n; i++) {
        block.fibers[i].dirty = block.fibers[i].waited = false;
        block.fibers[i].covered = 0;
    }
}

void order_barrier()
{
    bool clean = true;

    for (unsigned i = 0; i < block.n; i++) {
        clean &= !block.fibers[i].dirty;
        block_covered = std::max(block_covered, block.fibers[i].covered);
        if (any_known)
            block_known.add(known[i]);
    }
    next_stretch();
    if (clean)
        block_covered = now.actor;
    for (unsigned i = 0; i < block.n; i++)
        block.warps[i / WARP].synced = false;
}

/* ---- atomics and fences ---- */

void check_fence()
{
    size_t i = self->id;

    self->dirty = false;
    self->covered = now.actor;
    if (any_known)
        known[i].add(pending[i]);
}

static bool is_atomic_stamp(const void *p, uint32_t stamp)
{
    auto it = syncs.find(p);

    return it != syncs.end() && it->second.last_stamp == stamp;
}

static void look_at_atomic(const void *p, size_t bytes)
{
    size_t g = granule_of(p);
    uint32_t w = planes.written[g];

    if (!w) {
        global_read(p, bytes); /* says what is wrong */
        return;
    }
    for (uint32_t stamp : { w, planes.read[g], planes.read_block[g], planes.read_stream[g] })
        if (stamp && !is_before(stamp) && !is_atomic_stamp(p, stamp)) {
            Party other = party_of(stamp);

            report(race_with(stamp), p, &other,
                   "atomic on %zu bytes that the other uses otherwise, not ordered", bytes);
            return;
        }
}

void check_atomic(void *p, size_t bytes)
{
    size_t i = self->id;

    if (!options.checks)
        return;
    if (reinterpret_cast<uintptr_t>(p) & (bytes - 1))
        report("misaligned", p, nullptr, "atomic on %zu bytes", bytes);
    if (is_shared(p))
        return shared_atomic(p, bytes);
    if (!is_arena(p)) {
        report("out of bounds", p, nullptr, "atomic on what is no device memory");
        return;
    }
    look_at_atomic(p, bytes);
    for (size_t g = granule_of(p), n = 0; n < bytes / 2; n++)
        planes.written[g + n] = now.stamp;

    Sync &s = syncs[p];
    any_known = true;
    pending[i].add(s.released);
    Known mine = known[i];
    mine.add(block_known);
    mine.below[block.linear] = std::max(block_covered, self->covered);
    if (!self->dirty)
        mine.stamps.insert(now.stamp);
    s.released.add(mine);
    s.last_stamp = now.stamp;
}

/* ---- questions ---- */

static const Ran *ran_of(uint32_t stamp)
{
    uint32_t actor = stamp >> THREAD_BITS;
    auto it = std::upper_bound(ran.begin(), ran.end(), actor,
                               [](uint32_t a, const Ran &r) { return a < r.first_actor; });

    return it == ran.begin() ? nullptr : &it[-1];
}

static uint32_t block_of(const Ran &r, uint32_t stamp)
{
    uint32_t actor = stamp >> THREAD_BITS;
    auto it = std::upper_bound(r.blocks.begin(), r.blocks.end(), actor,
                               [](uint32_t a, const auto &b) { return a < b.first; });

    return it == r.blocks.begin() ? 0 : it[-1].second;
}

static uint3 index_in(uint32_t linear, uint3 n)
{
    return { linear % n.x, linear / n.x % n.y, linear / (n.x * n.y) };
}

bool is_before(uint32_t stamp)
{
    if (stamp < now.safe || stamp == now.stamp)
        return true;
    if (stamp >= now.work_first) {
        if (stamp >= now.block_first) {
            uint32_t thread = stamp & THREAD_MASK;

            return stamp < now.actor || !self ||
                   (thread / WARP == self->warp && block.warps[self->warp].synced);
        }
        uint32_t b = block_of(ran.back(), stamp);
        return self && any_known && (block_known.has(b, stamp) || known[self->id].has(b, stamp));
    }
    const Ran *r = ran_of(stamp);
    if (!r)
        return true;
    size_t i = static_cast<size_t>(r->stream);
    if (r->stream != now.work->stream)
        return i < now.work->clock.size() && r->number <= now.work->clock[i];
    return r->number <=
           (self && now.work->dependent && !self->waited ? complete_early : now.work->number - 1);
}

const char *race_with(uint32_t stamp)
{
    const Ran *r = ran_of(stamp);

    if (stamp >= now.work_first)
        return stamp >= now.block_first ? "missing barrier" : "race between blocks";
    return r && r->stream == now.work->stream ? "before dependency wait" : "race between streams";
}

Party party_of(uint32_t stamp)
{
    const Ran *r = ran_of(stamp);
    Party p;

    if (!r)
        return p;
    p.kernel = r->name;
    if (r->is_kernel) {
        p.block = index_in(block_of(*r, stamp), r->grid);
        p.thread = index_in(stamp & THREAD_MASK, r->block);
    }
    return p;
}

Party party_in_block(unsigned thread)
{
    return { block.work->name, block.index, block.fibers[thread].index };
}

Party party_now()
{
    if (self)
        return { block.work->name, block.index, self->index };
    return { now.work ? now.work->name : "host", { 0, 0, 0 }, { 0, 0, 0 } };
}

/* ---- dependent launch ---- */

void switch_dependent()
{
    now.safe = self->waited ? safe_late : safe_early;
}

void check_dependency_wait()
{
    if (code_version() < 90)
        return;
    any_waited = self->waited = true;
    check_switch();
}

void check_dependency_trigger()
{
    if (code_version() >= 90 && now.work->dependent && !self->waited)
        triggered_early = true;
}

} // namespace emu
