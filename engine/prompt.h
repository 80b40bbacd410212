/* clang-format off */
/* prompt.h - CogVLM turns -> one token sequence with its expert routes and rotary positions. Pure.
 *
 *     tokens     BOS | boi patch ... patch eoi | text
 *     expert      L  |  V    V   ...   V    L  | L ...
 *     position    0  |  1    2   ...   2    3  | 4 5 6 ...
 *     feature    -1  |  0    1   ...   P   P+1 | -1 ...
 *
 * A token is vision when it and the next one are the picture's: eoi is language. All patches share
 * one position. The picture always sits directly after BOS. The functions below are pure in the
 * index, so that no cutting of a prompt into chunks changes a route or a position. */
/* clang-format on */
#ifndef COG_ENGINE_PROMPT_H
#define COG_ENGINE_PROMPT_H

#include "base/buf.h"
#include "engine/engine.h"
#include "engine/model_config.h"

#include <stdbool.h>
#include <stdint.h>

/* Appends the template's text: "base" is the last query as it is (history ignored), "chat" and
 * "vqa" are "Question: q Answer: a\n" ... "Question: q Answer:" (vqa: "Short answer:"). An answer
 * of the last turn that is to go on follows with a space before it. tmpl is not
 * COG_TEMPLATE_DEFAULT. */
void cog_prompt_text(cog_buf *out, cog_template tmpl, const cog_turn *turns, int n_turns);

/* What the sequence is at index i, for any i (generated tokens continue the last line). */
static inline bool cog_prompt_is_vision(int i, bool has_image, int image_tokens)
{
    return has_image && i >= 1 &&
           i < image_tokens; /* boi and patches; eoi (index image_tokens) is language */
}

static inline int cog_prompt_position(int i, bool has_image, int image_tokens)
{
    if (!has_image || i <= 1)
        return i;
    if (i < image_tokens)
        return 2;
    return i - image_tokens + 3; /* eoi 3, text from 4 */
}

static inline int cog_prompt_feature(int i, bool has_image, int image_tokens)
{
    return has_image && i >= 1 && i <= image_tokens ? i - 1 : -1;
}

#endif
