/* rope.h - rotary tables as CogVLM's reference makes them (Su et al., "RoFormer", 2021;
 * half-rotated form). Pure.
 *
 *   o[i]          = x[i] cos(phi_i) - x[i + d/2] sin(phi_i)
 *   o[i + d/2]    = x[i] sin(phi_i) + x[i + d/2] cos(phi_i),   phi_i = position * inv_freq[i]
 *
 * In a bf16 run the reference computes the tables in bf16 all the way: the position is rounded to
 * bf16 (exact to 256, then in steps of 2, 4, ...), so is the product, so are cosine and sine. The
 * model was trained with them. */
#ifndef COG_ENGINE_ROPE_H
#define COG_ENGINE_ROPE_H

#include "engine/tensor.h"

/* cos, sin: [n_positions, n_freq], values for the given mode (COG_BF16: each exactly a bf16 value).
 * inv_freq: [n_freq] as the checkpoint stores it, widened. */
void cog_rope_tables(float *cos, float *sin, const float *inv_freq, int n_freq, int n_positions,
                     cog_dtype mode);

#endif
