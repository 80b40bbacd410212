/* core.h - the engine's state and what its files do with it: engine.c has the thread and the public
 * side, jobs.c where requests begin and end, step.c what a step computes. */
#ifndef COG_ENGINE_CORE_H
#define COG_ENGINE_CORE_H

#include "engine/batch.h"
#include "engine/constraint.h"
#include "engine/engine.h"
#include "engine/forward.h"
#include "engine/load.h"
#include "engine/pace.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/vision.h"

#include <pthread.h>
#include <stdatomic.h>

struct cog_engine {
    cog_engine_config cfg;
    pthread_t thread;
    cog_mailbox inbox, events;
    _Atomic int n_waiting; /* accepted requests that had no rows yet */
    _Atomic uint64_t heartbeat_ns;
    _Atomic bool close_asked; /* stops loading; the close message ends the rest */

    /* Held by the engine thread only when its state changes, never in a step: probes ask for it. */
    pthread_mutex_t state_lock;
    pthread_cond_t state_changed;
    cog_engine_state state;
    pthread_mutex_t stats_lock; /* guards stats, written in each step */
    cog_engine_stats stats;
    cog_loaded loaded; /* written before phase becomes READY, immutable after */
    bool is_loaded;    /* likewise: phase was READY once */

    /* the engine thread's */
    bool closing;
    cog_job *jobs;
    uint64_t next_order;
    cog_forward *forward;
    cog_scheduler sched;
    cog_plan plan;
    cog_vision vision;
    cog_constraints *constraints;
    cog_pace *pace;
    cog_batcher batcher;
    cog_draw *draw; /* [max_seqs * COG_MAX_CHOICES] of the step */
    int32_t *token; /* one for each */
    float *row;     /* [vocab] of logits, for log-probabilities */
    float *logits;  /* [max_seqs, vocab] for on_logits, or NULL */
    bool is_idle;   /* the last plan had no rows */
    uint64_t last_accepted_ns;
    uint64_t n_seen; /* changes of pictures and prefixes that the jobs' stages account for */
    cog_engine_stats counts;
};

/* ---- jobs.c ----
 *
 * Invariant: every accepted request is in the job list from the moment its message is taken until
 * its END event is posted, exactly once. */

cog_event *cog_core_event(cog_event_type type, const cog_job *j);
void cog_core_post(cog_engine *e, cog_event *ev);

/* Takes req. */
void cog_core_begin(cog_engine *e, cog_request *req, uint64_t accepted_ns);

/* The one place where a job ends. Who sees its END sees statistics without it. */
void cog_core_end(cog_engine *e, cog_job *j, int status, const char *why);
void cog_core_end_all(cog_engine *e, int status, const char *why);
void cog_core_expire(cog_engine *e); /* those whose deadline has passed */

/* The job has rows in a step, for the first time or again. */
void cog_core_schedule(cog_engine *e, cog_job *j, uint64_t now_ns);

/* Looks where the jobs are that wait, if pictures or prefixes have changed. */
void cog_core_look_at_stages(cog_engine *e);

void cog_core_publish_stats(cog_engine *e);

/* ---- step.c ---- */

/* A slice of pictures, then one step, as long as its streams allow; reports the step's tokens.
 * Device errors. */
int cog_core_work(cog_engine *e);

#endif
