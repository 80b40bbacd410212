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
    for (int i = 0; i < r->n_candidates; i++)
        cog_free(r->candidate[i].token);
    cog_free(r->candidate);
    cog_grammar_free(r->grammar);
    cog_free(r->sampling.bias);
    cog_free(r->sampling.allowed);
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

static bool is_token(int32_t token, const cog_engine_info *info)
{
    return token >= 0 && token < info->vocab;
}

/* Each token once: a device gives each to a thread of its own. */
static bool are_biases_fine(const cog_sampling *p, const cog_engine_info *info)
{
    if (p->n_bias < 0 || p->n_bias > COG_MAX_BIASES)
        return false;
    for (int i = 0; i < p->n_bias; i++)
        if (!is_token(p->bias[i].token, info) || !(fabsf(p->bias[i].bias) <= 100) ||
            (i > 0 && p->bias[i].token <= p->bias[i - 1].token))
            return false;
    return true;
}

static bool are_allowed_fine(const cog_sampling *p, const cog_engine_info *info)
{
    if (p->n_allowed < 0 || p->n_allowed > info->vocab)
        return false;
    for (int i = 0; i < p->n_allowed; i++)
        if (!is_token(p->allowed[i], info) || (i > 0 && p->allowed[i] <= p->allowed[i - 1]))
            return false;
    return true;
}

static bool are_stop_tokens_fine(const cog_request *r, const cog_engine_info *info)
{
    if (r->n_stop_tokens < 0 || r->n_stop_tokens > COG_MAX_STOP_TOKENS)
        return false;
    for (int i = 0; i < r->n_stop_tokens; i++)
        if (!is_token(r->stop_token[i], info))
            return false;
    return true;
}

static bool are_candidates_fine(const cog_request *r, const cog_engine_info *info)
{
    if (r->n_candidates < 0 || r->n_candidates > COG_MAX_CANDIDATES ||
        (r->n_candidates > 0 && r->max_tokens == 0))
        return false;
    for (int i = 0; i < r->n_candidates; i++) {
        const cog_candidate *c = &r->candidate[i];
        if (c->n < 0 || c->n > cog_request_room(&r->prompt, info))
            return false;
        for (int k = 0; k < c->n; k++)
            if (!is_token(c->token[k], info))
                return false;
    }
    return true;
}

static bool ends(const cog_request *r, int32_t token, const cog_engine_info *info)
{
    for (int i = 0; i < info->n_eos; i++)
        if (info->eos[i] == token)
            return true;
    for (int i = 0; i < r->n_stop_tokens; i++)
        if (r->stop_token[i] == token)
            return true;
    return false;
}

bool cog_request_has_token(const cog_request *r, const cog_engine_info *info)
{
    const cog_sampling *p = &r->sampling;
    int n = p->n_allowed > 0 ? p->n_allowed : info->vocab;

    if (r->min_tokens == 0)
        return true;
    for (int i = 0; i < n; i++)
        if (!ends(r, p->n_allowed > 0 ? p->allowed[i] : i, info))
            return true;
    return false;
}

static int check_tokens(const cog_request *r, const cog_engine_info *info, cog_err *err)
{
    if (!are_biases_fine(&r->sampling, info))
        return cog_err_set(err, COG_EINVAL, "biases out of range or not ascending");
    if (!are_allowed_fine(&r->sampling, info))
        return cog_err_set(err, COG_EINVAL, "allowed tokens out of range or not ascending");
    if (!are_stop_tokens_fine(r, info))
        return cog_err_set(err, COG_EINVAL, "stop tokens out of range");
    if (r->n_top < 0 || r->n_top > COG_MAX_TOP || r->n_prompt_top < 0 ||
        r->n_prompt_top > COG_MAX_TOP)
        return cog_err_set(err, COG_EINVAL, "log-probabilities of %d and %d tokens", r->n_top,
                           r->n_prompt_top);
    if (!are_candidates_fine(r, info))
        return cog_err_set(err, COG_EINVAL, "candidates out of range or too long");
    if (r->min_tokens < 0 || r->min_tokens > r->max_tokens)
        return cog_err_set(err, COG_EINVAL, "at least %d tokens of at most %d", r->min_tokens,
                           r->max_tokens);
    if (!cog_request_has_token(r, info)) /* to a sampler that is how a broken model looks */
        return cog_err_set(err, COG_EINVAL,
                           "every allowed token ends the answer, which is to have "
                           "at least %d",
                           r->min_tokens);
    for (int i = 0; i < r->prompt.n_tokens; i++)
        if (!is_token(r->prompt.tokens[i], info))
            return cog_err_set(err, COG_EINVAL, "token %d is outside the vocabulary",
                               r->prompt.tokens[i]);
    return 0;
}

int cog_request_room(const cog_prompt *p, const cog_engine_info *info)
{
    long slots = (long)info->block * info->n_blocks;

    return (int)(slots < info->context ? slots : info->context) - p->n_tokens;
}

int cog_request_check(const cog_request *r, const cog_engine_info *info, cog_err *err)
{
    long total = (long)r->prompt.n_tokens + r->max_tokens;

    if (r->n < 1 || r->n > COG_MAX_CHOICES || r->n_stop < 0 || r->n_stop > COG_MAX_STOPS)
        return cog_err_set(err, COG_EINVAL, "choices or stop strings out of range");
    if (!is_sampling_in_range(&r->sampling))
        return cog_err_set(err, COG_EINVAL, "a sampling parameter is out of range");
    if (r->prompt.n_tokens < 1 || r->max_tokens < (r->score_prompt ? 0 : 1))
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
    if (r->grammar && !info->takes_grammars)
        return cog_err_set(err, COG_EINVAL, "the model's tokens cannot spell every text");
    if (r->grammar && r->sampling.n_allowed > 0)
        return cog_err_set(err, COG_EINVAL, "a grammar beside a list of allowed tokens");
    return check_tokens(r, info, err);
}
