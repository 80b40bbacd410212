#include "engine/tally.h"

/* vLLM's bounds of the same number, for rules that name them */
static const double row_bounds[] = {
    1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384
};

static const double sequence_bounds[] = { 1,  2,  4,   8,   12,  16,  24,   32,   48,
                                          64, 96, 128, 192, 256, 512, 1024, 2048, 4096 };

static const double picture_bounds[] = { 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64 };

#define HISTOGRAM(b)                                 \
    (cog_histogram)                                  \
    {                                                \
        .bounds = b, .n = sizeof(b) / sizeof((b)[0]) \
    }

void cog_tally_init(cog_engine_stats *s)
{
    *s = (cog_engine_stats){ .step_tokens = HISTOGRAM(row_bounds),
                             .decode_batch = HISTOGRAM(sequence_bounds),
                             .vision_batch = HISTOGRAM(picture_bounds) };
}

void cog_tally_leave(cog_engine_stats *s, cog_job *j, uint64_t now_ns)
{
    if (j->stage < 0)
        return;
    if (now_ns > j->stage_began_ns)
        j->stage_ns[j->stage] += now_ns - j->stage_began_ns;
    s->in_stage[j->stage]--;
    j->stage = -1;
}

void cog_tally_enter(cog_engine_stats *s, cog_job *j, cog_engine_stage stage, uint64_t now_ns)
{
    if (j->stage == (int)stage)
        return;
    cog_tally_leave(s, j, now_ns);
    j->stage = (int)stage;
    j->stage_began_ns = now_ns;
    s->in_stage[stage]++;
}

void cog_tally_lookups(cog_engine_stats *s, const cog_job *j)
{
    const cog_sched_seq *q = &j->seq[0].sched;
    int n_image = j->req->prompt.n_image_tokens;
    int n_image_found = q->n_found - 1 < n_image ? q->n_found - 1 : n_image; /* BOS comes first */

    if (q->chain.name && !j->req->no_cache) {
        s->prefix_queries += (uint64_t)q->n_tokens;
        s->prefix_hits += (uint64_t)q->n_found;
    }
    if (!j->picture)
        return;
    s->image_tokens += (uint64_t)n_image;
    s->image_tokens_cached += n_image_found > 0 ? (uint64_t)n_image_found : 0;
    if (j->req->no_cache)
        return;
    s->image_queries++;
    s->image_hits += !j->is_first_sender || q->n_found >= q->n_visual;
}

void cog_tally_step(cog_engine_stats *s, const cog_plan *p, const cog_batch *b)
{
    s->steps++;
    s->language_rows += (uint64_t)b->language_rows;
    s->vision_rows += (uint64_t)(b->rows - b->language_rows);
    cog_histogram_add(&s->step_tokens, p->rows);
    if (p->decode_rows > 0)
        cog_histogram_add(&s->decode_batch, p->decode_rows);
}

void cog_tally_pools(cog_engine_stats *s, const cog_scheduler *sched, const cog_vision *v)
{
    const cog_kv *kv = &sched->kv;

    s->running = s->in_stage[COG_STAGE_PREFILL] + s->in_stage[COG_STAGE_DECODE];
    s->blocks_free = kv->n_free;
    s->blocks_cached = kv->n_cached;
    s->blocks_pinned = kv->n_pinned;
    s->blocks_used = kv->n_blocks - kv->n_free - kv->n_cached;
    s->features = v->n_features - v->n_cached;
    s->features_cached = v->n_cached;
    s->images_encoded = v->n_encoded;
    s->images_shared = v->n_shared;
    s->preemptions = sched->n_preempted;
}
