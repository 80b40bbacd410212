/* outflow.h - how fast requests end, so that a client that is refused can be told when to come
 * back.
 *
 * Ends are counted over the last half minute in which there was work: hours without a request say
 * nothing about the pace, and neither does the distance of two ends that came in one step.
 *
 * Pure: times are given, in nanoseconds of one clock. One thread at a time. */
#ifndef COG_SERVER_OUTFLOW_H
#define COG_SERVER_OUTFLOW_H

#include <stdbool.h>
#include <stdint.h>

enum { COG_OUTFLOW_SLOTS = 30 };

typedef struct cog_outflow {
    int n_live;
    uint64_t at_ns, busy_ns;      /* when the time with work was last added up, and that sum */
    uint64_t slot;                /* of busy_ns */
    int ended[COG_OUTFLOW_SLOTS]; /* a ring: in each second of work */
} cog_outflow;                    /* zero-initialised is valid */

/* One more request is at work. */
void cog_outflow_begin(cog_outflow *o, uint64_t now_ns);
/* One less; counts: it made room by ending, not by giving up. */
void cog_outflow_end(cog_outflow *o, uint64_t now_ns, bool counts);

/* How long n requests take to end at that pace. While none has ended, each is taken to need as long
 * as there has been work. */
uint64_t cog_outflow_ns(cog_outflow *o, uint64_t now_ns, int n);

#endif
