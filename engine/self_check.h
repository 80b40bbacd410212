/* self_check.h - does a device compute what the CPU does? Before it serves, a device runs a tiny
 * model in every way that the engine uses it - a pass over pictures, prompts in chunks with both
 * experts, a shared page, decode steps of few and many rows, issued and replayed - and each result
 * is compared with the CPU's. A broken driver, library or card then refuses to start instead of
 * answering nonsense. Engine thread, once; takes well under two seconds. */
#ifndef COG_ENGINE_SELF_CHECK_H
#define COG_ENGINE_SELF_CHECK_H

#include "engine/backend.h"

/* real: what the engine is going to open; head sizes, type, KV page and epsilons are taken from it.
 * With batch_invariant, both paths are checked, on an instance of ops each, closed again here.
 * COG_EDEVICE: the device computes something else or failed; err names the stage and how far off it
 * is. What keeps an instance from opening is passed on as it is. */
int cog_self_check(const cog_backend_ops *ops, const cog_device_config *real, cog_err *err);

#endif
