/* generate_logprobs.c - the engine's tokens and how likely they were, for an answer. The loop's. */
#include "base/utf8.h"
#include "proto/logprob_write.h"
#include "server/generate.h"

#include <math.h>

/* The bytes of a token as it stands in an answer, or would: control tokens by their names. */
static cog_logprob_token token_of(cog_engine *e, const cog_logprob *p, bool is_first)
{
    cog_logprob_token t = { .logprob = (double)p->logprob };

    t.bytes = cog_engine_piece(e, p->token, &t.len);
    if (t.len == 0)
        t.bytes = cog_engine_control(e, p->token, &t.len);
    if (is_first && t.len > 0 && t.bytes[0] == ' ') {
        t.bytes++;
        t.len--;
    }
    return t;
}

void cog_generate_add_logprobs(cog_answer_choice *c, const cog_generate_job *j, const cog_event *ev)
{
    cog_engine *e = j->x->server->engine;

    for (int i = 0; i < ev->n_scored; i++) {
        const cog_scored_token *s = &ev->scored[i];
        cog_logprob_token token = token_of(e, &s->self, s->is_first), top[COG_MAX_TOP];

        c->logprob_sum += fmax((double)s->self.logprob, COG_LOGPROB_LEAST);
        c->n_scored++;
        for (int k = 0; k < s->n_top; k++)
            top[k] = token_of(e, &s->top[k], s->is_first);
        if (j->form->has_columns)
            cog_logprob_add_row(c->logprobs, &token, top, s->n_top,
                                c->told_chars + cog_utf8_count(ev->text, s->at - c->told_bytes));
        else
            cog_logprob_add(c->logprobs, &token, top, s->n_top);
    }
}
