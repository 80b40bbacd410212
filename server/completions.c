/* completions.c - POST /v1/completions: what its body means. How its answer looks is
 * proto/completion_write.h's, the rest of its life generate.h's. */
#include "base/alloc.h"
#include "base/err.h"
#include "base/utf8.h"
#include "proto/completion.h"
#include "proto/completion_write.h"
#include "server/generate.h"

#include <stdio.h>
#include <string.h>

typedef struct completion_job {
    cog_generate_job job;
    cog_completion completion;
} completion_job;

static cog_completion *completion_of(cog_generate_job *j)
{
    return &((completion_job *)(void *)j)->completion;
}

/* Ids in the vocabulary that stand for no text are the model's to give, not a client's: those that
 * begin and end, and those that are no token at all. */
static int check_ids(cog_engine *e, const cog_completion_prompt *p, cog_api_error *err)
{
    for (int i = 0; i < p->n_tokens; i++) {
        char at[64];
        size_t len;

        cog_engine_piece(e, p->tokens[i], &len);
        if (len > 0)
            continue;
        snprintf(at, sizeof(at), "%s[%d]", p->param, i);
        return cog_api_error_set(err, COG_API_INVALID_VALUE, at,
                                 "Invalid '%s': %d is a control token of this model. The token "
                                 "that begins a prompt is added by the server.",
                                 at, (int)p->tokens[i]);
    }
    return 0;
}

static int prompt_of_ids(cog_prompt *out, cog_server *s, const cog_completion_prompt *p,
                         cog_api_error *err)
{
    if (check_ids(s->engine, p, err) < 0)
        return COG_EINVAL;
    out->n_tokens = 1 + p->n_tokens;
    out->tokens = cog_array(int32_t, (size_t)out->n_tokens);
    out->tokens[0] = cog_engine_get_info(s->engine)->bos;
    memcpy(out->tokens + 1, p->tokens, (size_t)p->n_tokens * sizeof(int32_t));
    return 0;
}

static int prompt_of_text(cog_prompt *out, cog_generate_job *j, const cog_completion_prompt *p,
                          int64_t wanted)
{
    cog_turn turn = { .query = p->text, .query_len = p->text_len };
    cog_prompt_parts parts = { .field = "prompt",
                               .form = COG_TEMPLATE_BASE,
                               .turns = &turn,
                               .n_turns = 1,
                               .text_len = p->text_len,
                               .wanted = wanted };

    return cog_chat_prompt_make(out, j->x->server, &parts, j->x->id, &j->err);
}

/* One that is too long ends it before the next is looked at. */
static int make_prompts(cog_generate_job *j, const cog_completion *c, int64_t wanted)
{
    cog_generate_make_requests(j, c->n_prompts);
    for (int i = 0; i < c->n_prompts; i++) {
        const cog_completion_prompt *p = &c->prompts[i];
        cog_request *r = j->requests[i];
        int rc = p->text ? prompt_of_text(&r->prompt, j, p, wanted)
                         : prompt_of_ids(&r->prompt, j->x->server, p, &j->err);

        if (rc < 0 || cog_generate_set_length(j, r, "prompt", wanted) < 0)
            return COG_EINVAL;
        r->continues_prompt = r->prompt.n_tokens > 1;
        r->logprobs = j->has_logprobs;
        r->n_top = j->has_logprobs ? (int)c->logprobs : 0;
        cog_generate_ask_prompt(j, i, c->prompt_logprobs, c->echo ? c->logprobs : -1);
        if (r->score_prompt && cog_completion_max_tokens(c) == 0)
            r->max_tokens = 0;
    }
    return 0;
}

/* Each of its choices begins with the prompt. */
static void echo(cog_generate_job *j, const cog_completion *c)
{
    for (int i = 0; i < c->n_prompts * j->n; i++) {
        const cog_completion_prompt *p = &c->prompts[i / j->n];
        cog_buf *text = &j->choices[i].text;

        if (p->text)
            cog_buf_add(text, p->text, p->text_len);
        else
            cog_engine_detokenize(text, j->x->server->engine, p->tokens, p->n_tokens);
        j->choices[i].told_chars = cog_utf8_count(text->data, text->len);
    }
}

static int understand(cog_generate_job *j)
{
    cog_completion *c = completion_of(j);
    cog_exchange *x = j->x;
    cog_server *s = x->server;
    const cog_engine_info *info = cog_engine_get_info(s->engine);
    cog_completion_options opt = { .nonce = j->nonce,
                                   .max_n = cog_chat_prompt_max_n(s),
                                   .max_prompts = info->max_queue < COG_COMPLETION_MAX_PROMPTS
                                                      ? info->max_queue
                                                      : COG_COMPLETION_MAX_PROMPTS,
                                   .vocab = info->vocab,
                                   .strict = s->cfg.strict_parameters };
    int64_t wanted;

    if (cog_chat_prompt_nonce(j->nonce, x->id, &j->err) < 0 ||
        cog_completion_init(c, cog_buf_text(&x->body), x->body.len, &opt, &j->err) < 0 ||
        cog_chat_prompt_check_model(&s->cfg, c->params.model, &j->err) < 0)
        return COG_EINVAL;
    wanted = cog_completion_max_tokens(c);
    j->has_logprobs = c->logprobs >= 0;
    if (make_prompts(j, c, wanted ? wanted : 1) < 0 || cog_generate_take_params(j, &c->params) < 0)
        return COG_EINVAL;
    if (c->echo)
        echo(j, c);
    if (wanted == 0) {
        j->is_known = !j->requests[0]->score_prompt;
        j->has_metrics = false;
    }
    j->ignored = c->ignored;
    c->ignored = (cog_buf){ 0 };
    return 0;
}

static void release(cog_generate_job *j)
{
    cog_completion_fini(completion_of(j));
    j->request_id = NULL;
}

static const cog_generate_form form = {
    .size = sizeof(completion_job),
    .has_columns = true,
    .understand = understand,
    .release = release,
    .fini = release,
    .write = cog_completion_write,
    .stream_init = cog_completion_stream_init,
    .stream_text = cog_completion_stream_text,
    .stream_finish = cog_completion_stream_finish,
};

void cog_completions_begin(cog_exchange *x)
{
    cog_generate_begin(x, &form);
}
