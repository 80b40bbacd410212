/* batch.h - a plan becomes the arrays of cog_batch: rows sorted by expert, routes and rotary
 * positions from the whole prompt (never from a chunk). Memory is reserved once. Engine thread
 * only. */
#ifndef COG_ENGINE_BATCH_H
#define COG_ENGINE_BATCH_H

#include "engine/backend.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"

typedef struct cog_batcher {
    cog_batch batch;       /* points into the arrays below */
    cog_sequence **sample; /* [max_seqs]: whose the i-th row of logits is */
    int32_t *scores;       /* [max_seqs]: which of its known tokens the row tells the probability
                              of; -1: it is for the next one */
    int32_t *token, *feature, *position, *slot, *seq; /* [max_rows] */
    int32_t *block_table;                             /* [max_seqs, max_blocks] */
    const cog_act **features;                         /* [max_seqs] */
    int32_t *logits_row;                              /* [max_seqs] */
    int image_tokens;
} cog_batcher;

void cog_batcher_init(cog_batcher *b, int max_rows, int max_seqs, int max_blocks, int image_tokens);
void cog_batcher_fini(cog_batcher *b);

/* plan->rows > 0. The result, b->batch, holds until the next build. */
void cog_batcher_build(cog_batcher *b, const cog_plan *plan);

#endif
