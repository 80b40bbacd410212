/* generate_parts.c - several conversations in one body, each with its own end. The loop's. */
#include "server/generate.h"

static void over(cog_generate_job *j)
{
    cog_generate_job *whole = j->whole;

    j->is_over = true;
    if (--whole->n_open == 0)
        cog_generate_answer_parts(whole);
}

void cog_generate_fail(cog_generate_job *j, const cog_api_error *err)
{
    cog_buf object = { 0 };

    if (!j->whole) {
        cog_exchange_fail(j->x, err);
        return;
    }
    if (j->is_over)
        return;
    cog_api_error_write(&object, err); /* {"error":{...}} */
    cog_buf_add(&j->whole->choices[j->index].error, object.data + 1, object.len - 2);
    cog_buf_fini(&object);
    over(j);
}

void cog_generate_fail_code(cog_generate_job *j, cog_api_code code)
{
    cog_api_error err;

    if (!j->whole) {
        cog_exchange_fail_code(j->x, code);
        return;
    }
    if (code == COG_API_INTERNAL)
        cog_status_fail(&err, j->x->id);
    else
        cog_status_text(j->x->server, code, &err);
    cog_generate_fail(j, &err);
}

void cog_generate_part_done(cog_generate_job *j)
{
    cog_answer_choice *c = &j->whole->choices[j->index];
    cog_answer_usage *sum = &j->whole->usage;

    if (j->is_over)
        return;
    *c = j->choices[0];
    j->choices[0] = (cog_answer_choice){ 0 };
    if (j->boxes.format != COG_GROUNDING_OFF) {
        c->image_width = j->boxes.width;
        c->image_height = j->boxes.height;
    }
    sum->prompt_tokens += j->usage.prompt_tokens;
    sum->image_tokens += j->usage.image_tokens;
    sum->cached_tokens += j->usage.cached_tokens;
    sum->completion_tokens += j->usage.completion_tokens;
    over(j);
}

cog_generate_job *cog_generate_part_of(cog_generate_job *j, uint64_t id)
{
    for (int i = 0; i < j->n_parts; i++) {
        if (j->parts[i]->first_id == id)
            return j->parts[i];
    }
    return j;
}

static void start(cog_generate_job *j)
{
    if (j->err.code == COG_API_NONE && cog_generate_is_stored(j))
        cog_generate_take_stored(j);
    if (j->err.code == COG_API_NONE && cog_generate_is_remote(j) &&
        !cog_body_reserve(j->x, j->x->server->cfg.image.max_bytes))
        cog_status_text(j->x->server, COG_API_OVERLOADED, &j->err);
    if (!cog_generate_goes_on(j)) {
        cog_generate_drop_picture(j);
        cog_generate_release(j);
    } else if (j->picture) {
        cog_generate_start_picture(j);
    } else {
        cog_generate_submit(j);
    }
}

void cog_generate_start_parts(cog_generate_job *j)
{
    cog_exchange *x = j->x;

    if (j->ignored.len)
        cog_reply_header(&x->reply, "x-ignored-parameters", "%s", j->ignored.data);
    j->usage = (cog_answer_usage){ 0 }; /* from here on: of those that are answered */
    for (int i = 0; i < j->n_parts; i++)
        start(j->parts[i]);
}

void cog_generate_expire(cog_exchange *x)
{
    cog_generate_job *j = x->job;

    if (!j || !j->is_understood || !j->n_parts) {
        cog_exchange_fail_code(x, COG_API_DEADLINE);
        return;
    }
    for (int i = 0; i < j->n_parts; i++)
        cog_generate_fail_code(j->parts[i], COG_API_DEADLINE);
}
