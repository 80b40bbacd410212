/* pace.h - how much else a step may do while answers are streaming: the bound on what a long prompt
 * or a burst of pictures costs those who are already reading. Pure logic: it is told what steps
 * took and says how many rows of prompts, and how much time for pictures, the next one has.
 *
 * The bound: a step with streams takes at most `stretch` times what its streams alone take, vision
 * slice included, or the smallest piece of work there is (COG_PACE_MIN_ROWS rows of prompts, one
 * tower layer of one picture) where that is longer. Without streams there is no bound.
 *
 * Where prompts have a fixed cost, of whatever number of rows (the vision expert's weights are to
 * be read), so few rows would be all cost and no gain that the server could do a fraction of its
 * work: as many rows as cost no more than the fixed cost are had even beyond `stretch`, for up to
 * twice the room that it leaves.
 *
 * Pictures and prompts take turns: a step's room goes to one of them, because both have costs that
 * do not shrink with the piece (weights to be read). So of two steps in a row with streams, one at
 * least may have COG_PACE_MIN_ROWS rows of prompts or more, and one a slice. A turn that the other
 * has no use for is not lost. */
#ifndef COG_ENGINE_PACE_H
#define COG_ENGINE_PACE_H

#include <stdint.h>

enum { COG_PACE_MIN_ROWS = 16, COG_PACE_MAX_STREAMS = 4096 };

typedef struct cog_pace cog_pace;

/* stretch >= 1.1; max_rows: of a step, streams included. */
cog_pace *cog_pace_new(double stretch, int max_rows, int max_streams);
void cog_pace_free(cog_pace *p); /* NULL is fine */

/* A step of n_streams decode rows and n_prompt rows of prompts took so long, pictures not counted.
 * To be told of every step. */
void cog_pace_observe(cog_pace *p, int n_streams, int n_prompt, uint64_t step_ns);

/* Time that a vision slice may take before the next step, or beside it on a device with a lane of
 * its own: 0 when it is the prompts' turn, else at least 1, as one tower layer of one picture may
 * always run; UINT64_MAX without streams. n_prompt_waiting: rows that prompts could use now. */
uint64_t cog_pace_vision_ns(const cog_pace *p, int n_streams, int n_prompt_waiting);

/* Rows of prompts that the next step may have after a vision slice of vision_ns, 0 for none: at
 * least COG_PACE_MIN_ROWS as far as max_rows has room, or 0 in two cases, never twice in a row: the
 * slice took what room there was, or it is time to see what so many streams alone take, which steps
 * that always have prompts would never show. On a device with a lane for pictures vision_ns is 0:
 * what a slice beside a step costs shows in what the step takes. */
int cog_pace_rows(const cog_pace *p, int n_streams, uint64_t vision_ns);

#endif
