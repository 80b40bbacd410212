/* bench_model.h - models of a published shape with random weights, for measurements that carry no
 * checkpoint. tools/bench_torch.py makes the same weights.
 *
 * Every value is cog_rng_at of a key that names the parameter, so both sides agree bit for bit. */
#ifndef COG_TOOLS_BENCH_MODEL_H
#define COG_TOOLS_BENCH_MODEL_H

#include "engine/model.h"

#include <stdbool.h>

typedef struct bench_shape {
    const char *name;
    cog_model_config cfg;
    bool has_adapter;  /* false: the adapter is not one this engine has; features are random */
    bool has_qkv_bias; /* in the vision expert */
    int text;          /* text tokens of a prompt with a picture */
    int context;       /* slots in use when a token is decoded */
    int prefill[3];    /* rows of the text prefills */
    int max_images;    /* of a vision pass */
    int max_batch;     /* sequences that decode together */
    int max_rows;      /* of a step: covers the largest prefill */
    int block;         /* slots of a page */
} bench_shape;

/* NULL when there is none of that name. */
const bench_shape *bench_shape_find(const char *name);
const char *bench_shape_names(void);

/* What a parameter is for; a key is part << 32 | layer << 8 | kind. */
enum bench_part { BENCH_TOWER = 1, BENCH_ADAPTER, BENCH_DECODER, BENCH_DATA };

static inline uint64_t bench_key(enum bench_part part, int layer, int kind)
{
    return (uint64_t)part << 32 | (uint64_t)layer << 8 | (uint64_t)kind;
}

enum { BENCH_PICTURE, BENCH_FEATURES, BENCH_TOKENS }; /* kinds of BENCH_DATA */

/* A model on the device, all weights made there. Freed by bench_model_free. */
int bench_model_new(cog_model **out, const bench_shape *shape, const cog_backend_ops *ops,
                    cog_backend *be, cog_err *err);
void bench_model_free(cog_model *m); /* NULL is fine */

/* Picture i, [side, side, 3]; features, [image_tokens, hidden]; token i of the text. */
void bench_picture(uint8_t *rgb, const cog_model_config *m, int i);
void bench_features(float *dst, const cog_model_config *m);
int32_t bench_token(const cog_model_config *m, int i);

#endif
