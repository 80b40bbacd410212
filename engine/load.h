/* load.h - from a folder and options to a model on a device. Engine thread, once. */
#ifndef COG_ENGINE_LOAD_H
#define COG_ENGINE_LOAD_H

#include "engine/engine.h"
#include "engine/grammar/trie.h"
#include "engine/model.h"
#include "engine/tokenizer.h"

#include <stdbool.h>

/* More are not kept, however small they are: each has a buffer of its own. */
enum { COG_MAX_CACHED_PICTURES = 1024 };

/* All owned; freed by cog_unload, also when half-built. */
typedef struct cog_loaded {
    cog_model_config config;
    const cog_backend_ops *ops;
    cog_backend *be;
    cog_model *model;
    cog_tokenizer *tokenizer;
    cog_trie *trie;             /* its tokens, for grammars */
    float *rope_cos, *rope_sin; /* [max_positions, head_dim / 2] */
    int max_images;             /* pictures of one vision pass, chosen */
    int max_features;           /* pictures whose features are held, at most */
    int max_cached;             /* of them, those that no request has */
    cog_engine_info info;
} cog_loaded;

/* out is zeroed by the caller; progress: as for cog_model_load, and also between the phases before
 * it: the device's self-check, its opening, the parameters; after an error it still needs
 * cog_unload. */
int cog_load(cog_loaded *out, const cog_engine_config *cfg,
             bool (*progress)(void *arg, double fraction), void *arg, cog_err *err);
void cog_unload(cog_loaded *l);

#endif
