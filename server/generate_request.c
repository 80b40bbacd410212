/* generate_request.c - from what a body says beside its prompt to the engine's request. A worker's:
 * pure, but for the random seed. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "server/chat_prompt.h"
#include "server/generate.h"

#include <math.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

static uint64_t random_seed(void)
{
    uint64_t seed = 0;

    if (RAND_bytes((unsigned char *)&seed, sizeof(seed)) != 1)
        seed = cog_now_ns();
    return seed;
}

static void hash_user(char out[9], const char *user)
{
    cog_sha256 d = cog_sha256_of(&(cog_span){ user, strlen(user) }, 1);

    snprintf(out, 9, "%02x%02x%02x%02x", d.byte[0], d.byte[1], d.byte[2], d.byte[3]);
}

/* Whose turn the request uses. Not a secret: an equal number costs two users a fair share. */
static uint64_t tenant_of(const cog_exchange *x, const char *user)
{
    uint64_t tenant;
    cog_sha256 d = cog_sha256_of((const cog_span[]){ { "tenant", 7 },
                                                     { &x->client->digest, sizeof(cog_sha256) },
                                                     { user, user ? strlen(user) : 0 } },
                                 3);

    memcpy(&tenant, d.byte, sizeof(tenant));
    return tenant;
}

/* What two requests must have in common to share what was computed for either. */
static cog_sha256 salt_of(const cog_exchange *x, const char *cache_salt)
{
    return cog_sha256_of((const cog_span[]){ { "cache salt", 11 },
                                             { &x->client->digest, sizeof(cog_sha256) },
                                             { cache_salt, cache_salt ? strlen(cache_salt) : 0 } },
                         3);
}

void cog_generate_make_requests(cog_generate_job *j, int n)
{
    j->requests = cog_array(cog_request *, (size_t)n);
    for (j->n_requests = 0; j->n_requests < n; j->n_requests++)
        j->requests[j->n_requests] = cog_new(cog_request);
}

int cog_generate_set_length(cog_generate_job *j, cog_request *r, const char *field, int64_t wanted)
{
    const cog_engine_info *info = cog_engine_get_info(j->x->server->engine);
    const cog_prompt *p = &r->prompt;
    int64_t room = (int64_t)cog_chat_prompt_capacity(info) - p->n_tokens;

    if (room < 1 || (wanted > room && j->x->server->cfg.reject_overflow))
        return cog_chat_prompt_refuse(info, field, false, p->n_tokens, p->n_image_tokens,
                                      wanted ? wanted : 1, &j->err);
    r->max_tokens = (int)(wanted && wanted < room ? wanted : room);
    j->wanted = wanted;
    return 0;
}

/* Where the context leaves less room than was asked for, the least is cut with the most. */
static int set_least(cog_generate_job *j, cog_request *r, const cog_params *p)
{
    const char *param = p->min_tokens ? "min_tokens" : "min_new_tokens";
    int64_t least = p->min_tokens ? p->min_tokens : p->min_new_tokens;

    if (least > (j->wanted ? j->wanted : r->max_tokens))
        return cog_api_error_set(&j->err, COG_API_INTEGER_ABOVE, param,
                                 "Invalid '%s': must be below or equal to the output limit.",
                                 param);
    r->min_tokens = (int)(least < r->max_tokens ? least : r->max_tokens);
    if (cog_request_has_token(r, cog_engine_get_info(j->x->server->engine)))
        return 0;
    return cog_api_error_set(&j->err, COG_API_INVALID_VALUE, param,
                             "Invalid '%s': every token that may be drawn ends the answer.", param);
}

/* What single tokens are to do. */
static void take_tokens(cog_request *r, const cog_token_lists *t)
{
    cog_sampling *p = &r->sampling;

    p->n_bias = t->n_bias;
    p->bias = t->n_bias ? cog_array(cog_logit_bias, (size_t)t->n_bias) : NULL;
    for (int i = 0; i < t->n_bias; i++)
        p->bias[i] = (cog_logit_bias){ t->bias[i].token, t->bias[i].bias };
    p->n_allowed = t->n_allowed;
    p->allowed = t->n_allowed ? cog_array(int32_t, (size_t)t->n_allowed) : NULL;
    for (int i = 0; i < t->n_allowed; i++)
        p->allowed[i] = t->allowed[i];
    r->n_stop_tokens = t->n_stop;
    for (int i = 0; i < t->n_stop; i++)
        r->stop_token[i] = t->stop[i];
}

static int refuse_grammar(cog_generate_job *j, const cog_structured *f, const cog_err *why)
{
    cog_api_code code = why->code == COG_ELIMIT            ? COG_API_SCHEMA_COMPLEX
                        : f->kind == COG_STRUCTURED_SCHEMA ? COG_API_INVALID_SCHEMA
                                                           : COG_API_INVALID_GRAMMAR;

    return cog_api_error_set(&j->err, code, f->param, "Invalid '%s': %s.", f->param, why->text);
}

/* What was cut is refused. */
_Static_assert(COG_STRUCTURED_MAX >= (int)COG_GRAMMAR_MAX_TEXT, "the limits of a form's text");

/* The form that answers are to have; one grammar for all requests. */
static int take_structure(cog_generate_job *j, const cog_params *p)
{
    static const cog_grammar_kind kinds[] = {
        [COG_STRUCTURED_REGEX] = COG_GRAMMAR_REGEX,   [COG_STRUCTURED_CHOICE] = COG_GRAMMAR_CHOICE,
        [COG_STRUCTURED_SCHEMA] = COG_GRAMMAR_SCHEMA, [COG_STRUCTURED_OBJECT] = COG_GRAMMAR_OBJECT,
        [COG_STRUCTURED_BOXES] = COG_GRAMMAR_BOXES,   [COG_STRUCTURED_WITHOUT] = COG_GRAMMAR_WITHOUT
    };
    const cog_structured *f = &p->structured;
    cog_server *s = j->x->server;
    cog_grammar *g;
    cog_err why;

    if (f->kind == COG_STRUCTURED_NONE)
        return 0;
    if (!cog_engine_get_info(s->engine)->takes_grammars)
        return cog_api_error_set(&j->err, COG_API_UNSUPPORTED_PARAMETER, f->param,
                                 "Unsupported parameter: this model's tokens cannot spell every "
                                 "text, which '%s' needs.",
                                 f->param);
    if (p->tokens.n_allowed > 0)
        return cog_api_error_set(&j->err, COG_API_INVALID_VALUE, "allowed_token_ids",
                                 "Invalid 'allowed_token_ids': it cannot be used with '%s'.",
                                 f->param);
    if (cog_grammars_get(&g, s->grammars, kinds[f->kind], f->text, f->len, &why) < 0)
        return refuse_grammar(j, f, &why);
    for (int i = 0; i < j->n_requests; i++)
        j->requests[i]->grammar = cog_grammar_ref(g);
    cog_grammar_free(g);
    if (f->kind == COG_STRUCTURED_CHOICE && j->has_logprobs)
        cog_generate_ask_candidates(j, f->choice, f->n_choices);
    return 0;
}

static void build_request(cog_request *r, const cog_exchange *x, const cog_params *p)
{
    r->sampling = (cog_sampling){
        .temperature = (float)p->temperature,
        .top_p = (float)p->top_p,
        .top_k = p->top_k > 0 ? (int)p->top_k : 0,
        .min_p = (float)p->min_p,
        .repetition_penalty = fmaxf((float)p->repetition_penalty, 0.01f), /* 1e-46 is no float */
        .frequency_penalty = (float)p->frequency_penalty,
        .presence_penalty = (float)p->presence_penalty,
        .seed = p->has_seed ? (uint64_t)p->seed : random_seed(),
    };
    take_tokens(r, &p->tokens);
    r->ignore_eos = p->ignore_eos;
    r->keep_stop = p->keep_stop || p->no_stop_trim;
    r->show_controls = !p->skip_special_tokens;
    r->tenant = tenant_of(x, p->user);
    r->salt = salt_of(x, p->cache_salt);
    r->no_cache = !p->cache_prompt;
    r->priority = (int)p->priority;
    r->n = (int)p->n;
    r->n_stop = p->n_stop;
    for (int i = 0; i < p->n_stop; i++)
        r->stop[i] = cog_strdup(p->stop[i]);
}

static void list_prompt_ids(cog_generate_job *j)
{
    j->prompt_ids = cog_array(cog_buf, (size_t)j->n_requests);
    for (int i = 0; i < j->n_requests; i++) {
        const cog_prompt *p = &j->requests[i]->prompt;

        for (int k = 0; k < p->n_tokens; k++)
            cog_buf_printf(&j->prompt_ids[i], k ? ",%d" : "%d", (int)p->tokens[k]);
    }
}

int cog_generate_take_params(cog_generate_job *j, const cog_params *p)
{
    size_t n_choices = (size_t)j->n_requests * (size_t)p->n;

    for (int i = 0; i < j->n_requests; i++) {
        build_request(j->requests[i], j->x, p);
        if (set_least(j, j->requests[i], p) < 0)
            return COG_EINVAL;
        j->usage.prompt_tokens += j->requests[i]->prompt.n_tokens;
        j->usage.image_tokens += j->requests[i]->prompt.n_image_tokens;
    }
    if (take_structure(j, p) < 0)
        return COG_EINVAL;
    for (; j->n_stop < p->n_stop; j->n_stop++)
        j->stop[j->n_stop] = cog_strdup(p->stop[j->n_stop]);
    j->n = (int)p->n;
    j->stream = p->stream;
    j->include_usage = p->include_usage;
    j->continuous_usage = p->continuous_usage;
    j->has_metrics = p->return_metrics && n_choices == 1;
    j->choices = cog_array(cog_answer_choice, n_choices);
    j->pace = cog_array(cog_pace, n_choices);
    for (size_t i = 0; i < n_choices; i++) {
        j->choices[i].has_logprobs = j->has_logprobs;
        j->choices[i].has_token_ids = p->return_token_ids;
    }
    if (p->return_token_ids)
        list_prompt_ids(j);
    if (p->user)
        hash_user(j->x->record.user, p->user);
    j->request_id = p->request_id;
    return 0;
}
