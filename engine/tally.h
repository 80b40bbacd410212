/* tally.h - what the engine counts: where requests are and how long they stayed there, what was
 * found in the caches, what steps had to do. Plain arithmetic on what it is given; engine thread
 * only. */
#ifndef COG_ENGINE_TALLY_H
#define COG_ENGINE_TALLY_H

#include "engine/backend.h"
#include "engine/engine.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/vision.h"

void cog_tally_init(cog_engine_stats *s);

/* The job is in that stage from now on; no change when it is there already. */
void cog_tally_enter(cog_engine_stats *s, cog_job *j, cog_engine_stage stage, uint64_t now_ns);
void cog_tally_leave(cog_engine_stats *s, cog_job *j, uint64_t now_ns); /* and in none */

/* What the job found computed and encoded when it came in; once. */
void cog_tally_lookups(cog_engine_stats *s, const cog_job *j);

/* A step was computed, and not yet committed. */
void cog_tally_step(cog_engine_stats *s, const cog_plan *p, const cog_batch *b);

/* What the others know: pages, pictures, requests by stage. */
void cog_tally_pools(cog_engine_stats *s, const cog_scheduler *sched, const cog_vision *v);

#endif
