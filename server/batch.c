/* batch.c - POST /v1/chat/completions/batch: several conversations in one body, which share
 * everything but their messages. Each is a part (generate.h), and a chat otherwise. */
#include "base/err.h"
#include "proto/chat_write.h"
#include "server/chat_job.h"
#include "server/chat_prompt.h"

static const cog_generate_form part = {
    .size = sizeof(cog_chat_job),
    .release = cog_chat_job_release,
    .fini = cog_chat_job_fini,
};

static int max_parts(const cog_server *s)
{
    int places = cog_engine_get_info(s->engine)->max_queue;

    return places < COG_CHAT_MAX_BATCH ? places : COG_CHAT_MAX_BATCH;
}

/* What is wrong with it is told in its choice. */
static void understand_part(cog_generate_job *j, const cog_chat *batch, const cog_chat_options *opt)
{
    cog_chat *c = &((cog_chat_job *)(void *)j)->chat;

    if (cog_chat_batch_read(c, batch, j->index, opt, &j->err) < 0 ||
        cog_chat_job_take(j, &batch->params) < 0)
        return;
    j->request_id = NULL;
    j->whole->usage.prompt_tokens += j->usage.prompt_tokens;
}

static int understand(cog_generate_job *j)
{
    cog_chat *c = &((cog_chat_job *)(void *)j)->chat;
    cog_exchange *x = j->x;
    cog_server *s = x->server;
    cog_chat_options opt = cog_chat_prompt_options(s, j->nonce);
    int n;

    if (cog_chat_prompt_nonce(j->nonce, x->id, &j->err) < 0 ||
        cog_chat_batch_init(c, &n, cog_buf_text(&x->body), x->body.len, max_parts(s), &opt,
                            &j->err) < 0 ||
        cog_chat_prompt_check_model(&s->cfg, c->params.model, &j->err) < 0)
        return COG_EINVAL;
    cog_generate_make_parts(j, n, &part);
    for (int i = 0; i < n; i++)
        understand_part(j->parts[i], c, &opt);
    j->request_id = c->params.request_id;
    j->ignored = c->ignored;
    c->ignored = (cog_buf){ 0 };
    return 0;
}

static const cog_generate_form form = {
    .size = sizeof(cog_chat_job),
    .understand = understand,
    .release = cog_chat_job_release,
    .fini = cog_chat_job_fini,
    .write = cog_chat_write_response,
};

void cog_batch_begin(cog_exchange *x)
{
    cog_generate_begin(x, &form);
}
