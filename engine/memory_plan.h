/* memory_plan.h - how many KV pages a device has room for. Pure but for asking the backend what
 * another type would take. */
#ifndef COG_ENGINE_MEMORY_PLAN_H
#define COG_ENGINE_MEMORY_PLAN_H

#include "engine/backend.h"

/* Left alone on a device with memory of its own: for what the device's runtime and libraries take
 * after the plan was made, modules loaded at their first use and recorded steps. */
#define COG_RUNTIME_BYTES ((uint64_t)256 << 20)

/* That of a plan: 0 where memory is shared. */
uint64_t cog_memory_runtime(const cog_memory_plan *p);

/* Pages of d->block slots for the pool; p is what ops->memory said about d.
 *
 * kv_bytes, when not 0, is what the pool shall take. Otherwise a device gives what it has left:
 * total * utilization - used - weights - activations - workspace - runtime. Memory that is shared
 * with the rest of the machine is taken more modestly: room for d->max_seqs whole contexts within a
 * quarter of what is left, but no less than one context.
 *
 * A pool that does not hold one context, or does not fit on a device, is COG_ELIMIT: err has the
 * numbers and says which type would fit. */
int cog_memory_pages(int *n_blocks, const cog_backend_ops *ops, const cog_device_config *d,
                     const cog_memory_plan *p, uint64_t kv_bytes, double utilization, cog_err *err);

#endif
