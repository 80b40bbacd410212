/* chat.c - POST /v1/chat/completions: what its body means. How its answer looks is
 * proto/chat_write.h's, the rest of its life generate.h's. */
#include "base/err.h"
#include "proto/chat_write.h"
#include "server/chat_job.h"
#include "server/chat_prompt.h"

int cog_chat_job_take(cog_generate_job *j, const cog_params *p)
{
    cog_chat *c = &((cog_chat_job *)(void *)j)->chat;
    cog_server *s = j->x->server;

    if (cog_chat_prompt_check_model(&s->cfg, p->model, &j->err) < 0 ||
        cog_generate_set_picture(j, &c->picture) < 0)
        return COG_EINVAL;
    cog_generate_make_requests(j, 1);
    if (cog_chat_prompt_build(&j->requests[0]->prompt, s, c, j->x->id, &j->err) < 0 ||
        cog_generate_set_length(j, j->requests[0], c->field, cog_chat_max_tokens(c)) < 0)
        return COG_EINVAL;
    j->ignored = c->ignored;
    c->ignored = (cog_buf){ 0 };
    j->boxes.format = c->grounding;
    j->requests[0]->continues_prompt = c->is_open || c->turns[c->n_turns - 1].answer.len > 0;
    j->requests[0]->logprobs = j->has_logprobs = c->logprobs;
    j->requests[0]->n_top = (int)c->top_logprobs;
    cog_generate_ask_prompt(j, 0, c->prompt_logprobs, -1);
    return cog_generate_take_params(j, p);
}

void cog_chat_job_release(cog_generate_job *j)
{
    cog_chat_release(&((cog_chat_job *)(void *)j)->chat);
    j->request_id = NULL;
}

void cog_chat_job_fini(cog_generate_job *j)
{
    cog_chat_fini(&((cog_chat_job *)(void *)j)->chat);
}

static int understand(cog_generate_job *j)
{
    cog_chat *c = &((cog_chat_job *)(void *)j)->chat;
    const cog_buf *body = &j->x->body;
    cog_chat_options opt = cog_chat_prompt_options(j->x->server, j->nonce);

    if (cog_chat_prompt_nonce(j->nonce, j->x->id, &j->err) < 0 ||
        cog_chat_init(c, cog_buf_text(body), body->len, &opt, &j->err) < 0)
        return COG_EINVAL;
    return cog_chat_job_take(j, &c->params);
}

static const cog_generate_form form = {
    .size = sizeof(cog_chat_job),
    .understand = understand,
    .release = cog_chat_job_release,
    .fini = cog_chat_job_fini,
    .write = cog_chat_write_response,
    .stream_init = cog_chat_stream_init,
    .stream_role = cog_chat_stream_role,
    .stream_text = cog_chat_stream_text,
    .stream_finish = cog_chat_stream_finish,
};

void cog_chat_begin(cog_exchange *x)
{
    cog_generate_begin(x, &form);
}
