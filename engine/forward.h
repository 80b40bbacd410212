/* forward.h - the CogVLM network, written once, as calls of a backend's blocks. Engine thread only.
 *
 *   vision    x = embed(picture);  x = block_l(x) for every layer;  features = [boi;
 * adapter(patches); eoi] decoder   x = embed(tokens, features);  x = attention_l(x), x = ffn_l(x)
 * for every layer;  logits = head(x)
 *
 * A vision pass runs in slices of layers, so that a big picture never stops running streams; the
 * result does not depend on the slicing. One pass at a time. */
#ifndef COG_ENGINE_FORWARD_H
#define COG_ENGINE_FORWARD_H

#include "engine/model.h"

#include <stdbool.h>

typedef struct cog_forward cog_forward;

/* Where a trace callback stands; layer counts from 0. */
typedef enum cog_trace_point {
    COG_TRACE_VIT_EMBED,
    COG_TRACE_VIT_BLOCK, /* after block `layer`: [n_images * vision.tokens, vision.hidden] */
    COG_TRACE_FEATURES,  /* of picture `layer`: [image_tokens, hidden] */
    COG_TRACE_EMBED,
    COG_TRACE_LAYER, /* the residual stream after decoder layer `layer`: [rows, hidden] */
} cog_trace_point;

/* For golden tests: the activations may be read with the backend's act_read during the call. */
typedef void cog_trace_fn(void *arg, cog_trace_point point, int layer, const cog_act *a, int rows);

/* Reserves the residual streams, and features for max_features pictures: nothing is allocated on
 * the device afterwards. model outlives it. */
int cog_forward_open(cog_forward **out, cog_model *model, int max_rows, int max_images,
                     int max_features, cog_err *err);
void cog_forward_close(cog_forward *f); /* NULL is fine; features handed out go with it */
void cog_forward_trace(cog_forward *f, cog_trace_fn *fn, void *arg); /* fn NULL: off */

/* One step of the decoder in two calls: up to its logits, which a device may compute after the
 * call, and then token[b->n_draws], as the backend's sample gives them. b's draws are read by the
 * second one only: what they need may be found out while the device is at work. The step's logits
 * can be read with the backend's logits_read until the next one. */
int cog_forward_begin(cog_forward *f, const cog_batch *b);
int cog_forward_draw(cog_forward *f, int32_t *token);

/* Both at once. */
int cog_forward_step(cog_forward *f, const cog_batch *b, int32_t *token);

/* A vision pass over n pictures, rgb[i] = [side, side, 3]: begin, then layers until *n_left is 0,
 * then end, which takes the features of each picture, [image_tokens, hidden], from the reserve;
 * so many must be there. Each call may only enqueue: features may be used in a step once the
 * backend's vision_poll has said idle after end.
 *
 * abort drops a pass at any time. What it was computing on is used by vision work alone, which runs
 * in order: the next pass may begin at once. */
int cog_forward_vision_begin(cog_forward *f, const uint8_t *const *rgb, int n);
int cog_forward_vision_layers(cog_forward *f, int max_layers, int *n_left);
int cog_forward_vision_end(cog_forward *f, cog_act **features);
void cog_forward_vision_abort(cog_forward *f);

/* Back to the reserve; NULL is fine. At any time, even before idle was seen: only vision_end's work
 * writes features, in order, and the backend puts it behind every step that may read the old ones.
 */
void cog_forward_features_give(cog_forward *f, cog_act *features);

#endif
