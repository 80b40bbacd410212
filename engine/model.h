/* model.h - a checkpoint bound to a backend: every parameter has a field, found by name and checked
 * by shape.
 *
 * No string look-up happens after load. */
#ifndef COG_ENGINE_MODEL_H
#define COG_ENGINE_MODEL_H

#include "base/err.h"
#include "engine/backend.h"
#include "engine/model_config.h"
#include "engine/safetensors.h"

typedef struct cog_model {
    cog_model_config cfg;
    const cog_backend_ops *ops; /* NULL after a check without a device */
    cog_backend *be;            /* borrowed */

    cog_vit_embed vit_embed;
    cog_vit_layer *vit; /* [vision.layers] */
    cog_adapter adapter;
    cog_weight *embed; /* ROWS [vocab, hidden] */
    cog_layer *layer;  /* [layers] */
    cog_head head;
} cog_model;

/* What a parameter belongs to. */
typedef enum cog_component {
    COG_PART_EMBEDDING, /* embed_tokens and lm_head */
    COG_PART_LANGUAGE,  /* the decoder's language experts */
    COG_PART_VISION,    /* the decoder's vision experts */
    COG_PART_NORM,      /* the decoder's norms */
    COG_PART_TOWER,     /* the vision tower */
    COG_PART_ADAPTER,   /* with boi and eoi */
    COG_PART_BUFFER,    /* inv_freq: not a parameter */
    COG_N_PARTS,
} cog_component;

typedef enum cog_tensor_fault {
    COG_TENSOR_FINE,
    COG_TENSOR_FOREIGN, /* surplus, and known to belong to another model or a re-packed form */
    COG_TENSOR_SHAPE,
    COG_TENSOR_MISSING,
    COG_TENSOR_SURPLUS,
    COG_N_FAULTS,
} cog_tensor_fault;

/* One tensor that the model wants, the file has, or both. */
typedef struct cog_tensor_item {
    const char *name;
    cog_tensor_fault fault;
    cog_component part;      /* meaningless for FOREIGN and SURPLUS */
    const cog_tensor *found; /* NULL when missing */
    const int64_t *expected; /* [n_dims] the shape the model wants; NULL for FOREIGN and SURPLUS */
    int n_dims;
    const char *reason; /* FOREIGN: what it belongs to, as a clause; otherwise NULL */
} cog_tensor_item;

/* Calls visit for every tensor that cfg asks for and then for each other one of the file. Pointers
 * in the item are good for that call. */
void cog_model_visit(const cog_model_config *cfg, const cog_safetensors *file,
                     void (*visit)(void *arg, const cog_tensor_item *item), void *arg);

/* "[4096, 4096]", cut to size; returns dst. */
const char *cog_model_shape_text(char *dst, size_t size, const int64_t *dim, int n_dims);

/* Checks every tensor of the file against cfg: missing, surplus, wrong shape and re-packed forms
 * (split q/k/v, quantisation state, cross attention) are errors that name the tensor and both
 * shapes. Needs no device. */
int cog_model_check(const cog_model_config *cfg, const cog_safetensors *file, cog_err *err);

/* The rotary frequencies inv_freq[head_dim / 2] as stored (same in all layers, else COG_EFORMAT),
 * widened to f32; made from rope_theta in the checkpoint's type when the file has none. */
int cog_model_inv_freq(float *dst, const cog_model_config *cfg, const cog_safetensors *file,
                       cog_err *err);

/* Checks, then gives every parameter to the device. progress (may be NULL) hears 0..1 on the
 * calling thread. cfg is copied. The file may be closed afterwards. */
int cog_model_load(cog_model **out, const cog_model_config *cfg, const cog_safetensors *file,
                   const cog_backend_ops *ops, cog_backend *be,
                   bool (*progress)(void *arg, double fraction), void *arg, cog_err *err);
void cog_model_free(cog_model *m); /* NULL and half-built are fine; before the backend closes */

/* A digest of names, shapes, types and all bytes would take a minute on 35 GB: this one covers the
 * names, shapes, types and a fixed sample of 64 KiB spread over each tensor. For /v1/models and
 * system_fingerprint. */
uint64_t cog_model_fingerprint(const cog_safetensors *file);

#endif
