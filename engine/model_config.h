/* model_config.h - a checkpoint's config.json and generation_config.json as numbers.
 *
 * Every key that shapes the computation is read, required or defaulted, and checked to be in range
 * and consistent with the others; any shape is accepted, not only the published ones. */
#ifndef COG_ENGINE_MODEL_CONFIG_H
#define COG_ENGINE_MODEL_CONFIG_H

#include "base/err.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stdint.h>

enum { COG_MAX_EOS = 8 };

typedef struct cog_model_config {
    /* decoder */
    int vocab;         /* rows of the embedding and of lm_head */
    int hidden;        /* width of the residual stream */
    int inter;         /* inner width of the SwiGLU blocks and of the adapter */
    int layers;        /* decoder layers, each with a language and a vision expert */
    int heads;         /* query heads */
    int kv_heads;      /* key and value heads; equal to heads in CogVLM v1 */
    int head_dim;      /* hidden / heads; even */
    int max_positions; /* context length in KV slots, prompt and answer together */
    float rms_eps;
    double rope_theta; /* used only when the checkpoint stores no inv_freq */
    int32_t bos, pad;  /* pad is also the placeholder id of picture tokens */
    int32_t eos[COG_MAX_EOS];
    int n_eos;
    cog_template default_template;

    /* vision tower */
    struct {
        int hidden, heads, head_dim, layers, inter;
        int image_side; /* pixels; every picture is squashed to this square */
        int patch;      /* side of one patch in pixels; divides image_side */
        int grid;       /* image_side / patch */
        int tokens;     /* 1 + grid * grid: cls first */
        float eps;      /* of its layer norms */
    } vision;

    int patches;      /* adapter rows that reach the decoder: grid * grid */
    int image_tokens; /* patches + 2: boi, patches, eoi */
} cog_model_config;

/* Reads DIR/config.json, and DIR/generation_config.json when present: the ids that end an answer
 * are the latter's if it has any, as in the reference; its sampling defaults are ignored. Absent
 * keys that the framework's class defaults (hidden_act, template_version, the token ids) get that
 * default; sizes and epsilons are required. rope_theta is not in the published files and is 10000
 * there. Keys that shape no computation are ignored.
 *
 * COG_EFORMAT and COG_ELIMIT name file, key, the value found and what was expected. Look-alikes
 * (CogAgent, the video model, CogVLM2, text-generation-inference and 4-bit re-packs as far as the
 * config shows them) are refused by name with COG_EUNSUPPORTED. */
int cog_model_config_load(cog_model_config *out, const char *dir, cog_err *err);

#endif
