#include "engine/prompt.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

/* What the model is to go on with. */
static void begin_answer(cog_buf *out, const cog_turn *last)
{
    if (!last->answer || last->answer_len == 0)
        return;
    cog_buf_puts(out, " ");
    cog_buf_add(out, last->answer, last->answer_len);
}

void cog_prompt_text(cog_buf *out, cog_template tmpl, const cog_turn *turns, int n_turns)
{
    const char *marker = tmpl == COG_TEMPLATE_VQA ? " Short answer:" : " Answer:";

    assert(tmpl != COG_TEMPLATE_DEFAULT && n_turns >= 1);
    if (tmpl == COG_TEMPLATE_BASE) {
        cog_buf_add(out, turns[n_turns - 1].query, turns[n_turns - 1].query_len);
        begin_answer(out, &turns[n_turns - 1]);
        return;
    }
    for (int i = 0; i < n_turns; i++) {
        cog_buf_puts(out, "Question: ");
        cog_buf_add(out, turns[i].query, turns[i].query_len);
        if (i < n_turns - 1 || !turns[i].is_open)
            cog_buf_puts(out, marker);
        if (i == n_turns - 1)
            break;
        cog_buf_puts(out, " ");
        cog_buf_add(out, turns[i].answer, turns[i].answer_len);
        cog_buf_puts(out, "\n");
    }
    begin_answer(out, &turns[n_turns - 1]);
}

void cog_prompt_fini(cog_prompt *p)
{
    cog_free(p->tokens);
    memset(p, 0, sizeof(*p));
}

const char *cog_template_name(cog_template t)
{
    switch (t) {
    case COG_TEMPLATE_DEFAULT:
        return "default";
    case COG_TEMPLATE_CHAT:
        return "chat";
    case COG_TEMPLATE_VQA:
        return "vqa";
    case COG_TEMPLATE_BASE:
        return "base";
    }
    return "?";
}
