/* responses.c - POST /v1/responses: the chat that a body means, and the form of its answer
 * (proto/responses_write.h). The rest of its life is a chat's. */
#include "proto/responses.h"

#include "base/err.h"
#include "proto/responses_write.h"
#include "server/chat_job.h"
#include "server/chat_prompt.h"

static int understand(cog_generate_job *j)
{
    cog_chat *c = &((cog_chat_job *)(void *)j)->chat;
    const cog_buf *body = &j->x->body;
    cog_chat_options opt = cog_chat_prompt_options(j->x->server, j->nonce);

    if (cog_chat_prompt_nonce(j->nonce, j->x->id, &j->err) < 0 ||
        cog_responses_init(c, &j->echo, cog_buf_text(body), body->len, &opt, &j->err) < 0)
        return COG_EINVAL;
    return cog_chat_job_take(j, &c->params);
}

static const cog_generate_form form = {
    .size = sizeof(cog_chat_job),
    .understand = understand,
    .release = cog_chat_job_release,
    .fini = cog_chat_job_fini,
    .write = cog_responses_write,
    .stream_init = cog_responses_stream_init,
    .stream_role = cog_responses_stream_begin,
    .stream_text = cog_responses_stream_text,
    .stream_finish = cog_responses_stream_finish,
    .stream_end = cog_responses_stream_end,
    .ends_whole = true,
};

void cog_responses_begin(cog_exchange *x)
{
    cog_generate_begin(x, &form);
}

void cog_responses_fail_stream(cog_exchange *x, const cog_api_error *err)
{
    cog_generate_job *j = x->job;

    cog_generate_begin_stream(j);
    cog_responses_stream_fail(&x->out, &j->writer, err);
}
