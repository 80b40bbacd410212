#include "engine/batch.h"

#include "base/alloc.h"
#include "engine/prompt.h"

#include <assert.h>
#include <string.h>

void cog_batcher_init(cog_batcher *b, int max_rows, int max_seqs, int max_blocks, int image_tokens)
{
    *b = (cog_batcher){ .image_tokens = image_tokens };
    b->token = cog_array(int32_t, (size_t)max_rows);
    b->feature = cog_array(int32_t, (size_t)max_rows);
    b->position = cog_array(int32_t, (size_t)max_rows);
    b->slot = cog_array(int32_t, (size_t)max_rows);
    b->seq = cog_array(int32_t, (size_t)max_rows);
    b->block_table = cog_array(int32_t, (size_t)max_seqs * (size_t)max_blocks);
    b->features = cog_array(const cog_act *, (size_t)max_seqs);
    b->logits_row = cog_array(int32_t, (size_t)max_seqs);
    b->sample = cog_array(cog_sequence *, (size_t)max_seqs);
    b->scores = cog_array(int32_t, (size_t)max_seqs);
    b->batch = (cog_batch){
        .token = b->token,
        .feature = b->feature,
        .position = b->position,
        .slot = b->slot,
        .seq = b->seq,
        .block_table = b->block_table,
        .max_blocks = max_blocks,
        .features = b->features,
        .logits_row = b->logits_row,
    };
}

void cog_batcher_fini(cog_batcher *b)
{
    cog_free(b->token);
    cog_free(b->feature);
    cog_free(b->position);
    cog_free(b->slot);
    cog_free(b->seq);
    cog_free(b->block_table);
    cog_free(b->features);
    cog_free(b->logits_row);
    cog_free(b->sample);
    cog_free(b->scores);
    *b = (cog_batcher){ 0 };
}

/* The row added last is a language row. */
static void add_logits(cog_batcher *b, cog_sequence *q, int scores)
{
    b->logits_row[b->batch.n_logits] = b->batch.rows - 1;
    b->scores[b->batch.n_logits] = scores;
    b->sample[b->batch.n_logits++] = q;
}

/* The rows of the sequence that go to the expert. */
static void add_rows(cog_batcher *b, cog_sequence *q, int seq, bool vision)
{
    bool has_image = cog_sequence_has_image(q);
    int from, to;

    cog_scheduler_shown(&q->sched, &from, &to);
    for (int i = q->sched.n_computed; i < q->sched.n_computed + q->sched.n_rows; i++) {
        int row = b->batch.rows;

        if (cog_prompt_is_vision(i, has_image, b->image_tokens) != vision)
            continue;
        b->token[row] = q->tokens[i];
        b->feature[row] = cog_prompt_feature(i, has_image, b->image_tokens);
        b->position[row] = cog_prompt_position(i, has_image, b->image_tokens);
        b->slot[row] = i;
        b->seq[row] = seq;
        b->batch.rows++;
        if (!vision && i >= from && i < to) /* text, or eoi */
            add_logits(b, q, i + 1);
    }
}

void cog_batcher_build(cog_batcher *b, const cog_plan *plan)
{
    cog_batch *batch = &b->batch;

    batch->rows = batch->n_logits = 0;
    batch->seqs = plan->n_run;
    for (int s = 0; s < plan->n_run; s++) {
        cog_sequence *q = (cog_sequence *)plan->run[s];

        memcpy(b->block_table + (size_t)s * (size_t)batch->max_blocks, q->sched.table.block,
               (size_t)q->sched.table.n * sizeof(int32_t));
        b->features[s] = q->job->picture ? q->job->picture->features : NULL;
        add_rows(b, q, s, false);
        if (q->sched.n_computed + q->sched.n_rows == q->sched.n_tokens)
            add_logits(b, q, -1); /* the last known token is text or eoi */
    }
    batch->language_rows = batch->rows;
    for (int s = 0; s < plan->n_run; s++)
        add_rows(b, (cog_sequence *)plan->run[s], s, true);
    assert(batch->rows == plan->rows);
}
