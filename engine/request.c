#include "engine/request.h"

#include "base/alloc.h"

#include <math.h>

void cog_request_free(cog_request *r)
{
    if (!r)
        return;
    cog_prompt_fini(&r->prompt);
    cog_image_free(r->image);
    for (int i = 0; i < r->n_stop; i++)
        cog_free(r->stop[i]);
    cog_free(r);
}

/* NaN fails every comparison. */
static bool is_sampling_in_range(const cog_sampling *p)
{
    return p->temperature >= 0 && p->temperature <= 100 && p->top_p >= 0 && p->top_p <= 1 &&
           p->top_k >= 0 && p->min_p >= 0 && p->min_p <= 1 && p->repetition_penalty > 0 &&
           p->repetition_penalty <= 100 && fabsf(p->frequency_penalty) <= 100 &&
           fabsf(p->presence_penalty) <= 100;
}

int cog_request_check(const cog_request *r, const cog_engine_info *info, cog_err *err)
{
    long total = (long)r->prompt.n_tokens + r->max_tokens;

    if (r->n < 1 || r->n > COG_MAX_CHOICES || r->n_stop < 0 || r->n_stop > COG_MAX_STOPS)
        return cog_err_set(err, COG_EINVAL, "choices or stop strings out of range");
    if (!is_sampling_in_range(&r->sampling))
        return cog_err_set(err, COG_EINVAL, "a sampling parameter is out of range");
    if (r->prompt.n_tokens < 1 || r->max_tokens < 1)
        return cog_err_set(err, COG_EINVAL, "a request needs a prompt and room for one token");
    if (total > info->context)
        return cog_err_set(err, COG_EINVAL, "%ld tokens do not fit in a context of %d", total,
                           info->context);
    if (total > (long)info->block * info->n_blocks)
        return cog_err_set(err, COG_EINVAL, "%ld tokens do not fit in a KV cache of %d pages of %d",
                           total, info->n_blocks, info->block);
    if (r->prompt.n_image_tokens != (r->image ? info->image_tokens : 0) ||
        r->prompt.n_tokens < 1 + r->prompt.n_image_tokens)
        return cog_err_set(err, COG_EINVAL, "the prompt's picture tokens do not match its picture");
    if (r->image && r->image->side != info->image_side)
        return cog_err_set(err, COG_EINVAL, "the picture is %d pixels wide, the model takes %d",
                           r->image->side, info->image_side);
    for (int i = 0; i < r->prompt.n_tokens; i++)
        if (r->prompt.tokens[i] < 0 || r->prompt.tokens[i] >= info->vocab)
            return cog_err_set(err, COG_EINVAL, "token %d is outside the vocabulary",
                               r->prompt.tokens[i]);
    return 0;
}
