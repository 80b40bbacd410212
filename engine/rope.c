#include "engine/rope.h"

#include <math.h>

void cog_rope_tables(float *cos_out, float *sin_out, const float *inv_freq, int n_freq,
                     int n_positions, cog_dtype mode)
{
    for (int p = 0; p < n_positions; p++) {
        for (int i = 0; i < n_freq; i++) {
            size_t at = (size_t)p * (size_t)n_freq + (size_t)i;
            if (mode == COG_BF16) {
                float t = cog_round_bf16((float)p);
                float angle = cog_round_bf16(t * cog_round_bf16(inv_freq[i]));
                cos_out[at] = cog_round_bf16(cosf(angle));
                sin_out[at] = cog_round_bf16(sinf(angle));
            } else {
                float angle = (float)p * inv_freq[i];
                cos_out[at] = cosf(angle);
                sin_out[at] = sinf(angle);
            }
        }
    }
}
