/* arrivals.h - when the requests of an open loop are due. Pure. */
#ifndef COG_CLIENT_ARRIVALS_H
#define COG_CLIENT_ARRIVALS_H

#include "base/rng.h"

/* The next gap in seconds of a process with this many arrivals a second: gamma distributed with
 * shape burstiness, so 1 is a Poisson process, less comes in bursts, more is steadier. Marsaglia
 * and Tsang, "A simple method for generating gamma variables" (ACM TOMS 26, 2000). rate and
 * burstiness are greater than 0. */
double cog_arrivals_gap(cog_rng *rng, double rate, double burstiness);

#endif
