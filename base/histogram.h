/* histogram.h - counts of values in buckets with fixed upper bounds, as Prometheus wants them.
 * Plain data: copying one is a snapshot. Whoever shares one between threads locks it. */
#ifndef COG_BASE_HISTOGRAM_H
#define COG_BASE_HISTOGRAM_H

#include <stdint.h>

enum { COG_HISTOGRAM_MAX = 24 };

typedef struct cog_histogram {
    const double *bounds; /* [n], ascending, static: bucket i has values <= bounds[i] */
    int n;                /* <= COG_HISTOGRAM_MAX */
    uint64_t count[COG_HISTOGRAM_MAX + 1]; /* of each bucket alone; the last is beyond all bounds */
    double sum;
} cog_histogram;

static inline void cog_histogram_add(cog_histogram *h, double v)
{
    int i = 0;

    while (i < h->n && v > h->bounds[i])
        i++;
    h->count[i]++;
    h->sum += v;
}

#endif
