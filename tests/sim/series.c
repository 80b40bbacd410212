#include "tests/sim/sim.h"

#include "base/alloc.h"

#include <stdlib.h>

void sim_series_add(sim_series *s, double v)
{
    if (s->n == s->max) {
        s->max = s->max ? 2 * s->max : 1024;
        s->v = cog_realloc(s->v, s->max, sizeof(*s->v));
    }
    s->v[s->n++] = (float)v;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

double sim_percentile(sim_series *s, double p)
{
    if (s->n == 0)
        return 0;
    qsort(s->v, s->n, sizeof(*s->v), compare);
    return (double)s->v[(size_t)(p * (double)(s->n - 1) + 0.5)];
}

void sim_result_free(sim_result *r)
{
    cog_free(r->ttft.v);
    cog_free(r->itl.v);
    cog_free(r->wait.v);
}
