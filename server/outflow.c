#include "server/outflow.h"

static const uint64_t slot_ns = 1000000000;

/* Brings the sums to now. */
static void settle(cog_outflow *o, uint64_t now_ns)
{
    uint64_t slot;

    if (o->n_live > 0 && now_ns > o->at_ns)
        o->busy_ns += now_ns - o->at_ns;
    o->at_ns = now_ns;
    slot = o->busy_ns / slot_ns;
    if (slot > o->slot + COG_OUTFLOW_SLOTS)
        o->slot = slot - COG_OUTFLOW_SLOTS;
    while (o->slot < slot)
        o->ended[++o->slot % COG_OUTFLOW_SLOTS] = 0;
}

void cog_outflow_begin(cog_outflow *o, uint64_t now_ns)
{
    settle(o, now_ns);
    o->n_live++;
}

void cog_outflow_end(cog_outflow *o, uint64_t now_ns, bool counts)
{
    settle(o, now_ns);
    o->n_live--;
    if (counts)
        o->ended[o->slot % COG_OUTFLOW_SLOTS]++;
}

uint64_t cog_outflow_ns(cog_outflow *o, uint64_t now_ns, int n)
{
    uint64_t span_ns;
    int ended = 0;

    settle(o, now_ns);
    span_ns = o->busy_ns;
    if (o->slot >= COG_OUTFLOW_SLOTS)
        span_ns -= (o->slot - (COG_OUTFLOW_SLOTS - 1)) * slot_ns;
    for (int i = 0; i < COG_OUTFLOW_SLOTS; i++)
        ended += o->ended[i];
    return (uint64_t)((double)span_ns * n / (ended > 0 ? ended : 1));
}
