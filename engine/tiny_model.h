/* tiny_model.h - a random model of one layer on a device, for checking the device. Its values are
 * pure functions of their place, so that every device is given the same. Engine thread. */
#ifndef COG_ENGINE_TINY_MODEL_H
#define COG_ENGINE_TINY_MODEL_H

#include "engine/model.h"

enum { COG_TINY_POSITIONS = 128 };

typedef struct cog_tiny_model {
    cog_model model;
    cog_vit_layer vit;
    cog_layer layer;
    float *cos, *sin; /* [COG_TINY_POSITIONS, head_dim / 2] */
} cog_tiny_model;

/* What kernels choose their path by is that of real: head sizes, query heads to a KV head, patch,
 * epsilons. All else is small. */
void cog_tiny_config(cog_model_config *out, const cog_model_config *real);

/* Bytes of the parameters in the type, and how many there are; for cog_device_config. */
void cog_tiny_size(uint64_t *weight_bytes, int *n_weights, const cog_model_config *cfg,
                   cog_dtype dtype);

/* Opens the backend with *d, whose model and tables it sets, and makes the parameters. *t is
 * zeroed before and lasts until fini, which is also for half-built ones. */
int cog_tiny_init(cog_tiny_model *t, const cog_backend_ops *ops, const cog_model_config *cfg,
                  cog_device_config *d, cog_err *err);
void cog_tiny_fini(cog_tiny_model *t);

#endif
