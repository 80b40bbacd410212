/* generate_logprobs.c - the engine's tokens and how likely they were, for an answer. The loop's. */
#include "base/alloc.h"
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

/* ------------------------------------------------------------------ prompts */

void cog_generate_ask_prompt(cog_generate_job *j, int of, int64_t n_prompt_top, int64_t n_echo_top)
{
    cog_request *r = j->requests[of];

    j->n_prompt_top = n_prompt_top == -1 ? COG_MAX_TOP : n_prompt_top < 0 ? -1 : (int)n_prompt_top;
    j->n_echo_top = (int)n_echo_top;
    if (j->n_prompt_top < 0 && j->n_echo_top < 0)
        return;
    if (!j->prompt_logprobs) {
        j->prompt_logprobs = cog_array(cog_buf, (size_t)j->n_requests);
        j->prompt_chars = cog_array(size_t, (size_t)j->n_requests);
    }
    for (int i = 0; i < 1 + r->prompt.n_image_tokens; i++) /* what begins it, and the picture */
        cog_buf_puts(&j->prompt_logprobs[of], i ? ",null" : "null");
    r->score_prompt = true;
    r->n_prompt_top = j->n_prompt_top > j->n_echo_top ? j->n_prompt_top : j->n_echo_top;
}

static cog_logprob_ranked ranked(cog_engine *e, const cog_logprob *p, int rank)
{
    return (cog_logprob_ranked){ .token = token_of(e, p, false), .id = p->token, .rank = rank };
}

static void add_ranked(cog_buf *list, cog_engine *e, const cog_scored_token *s, int n_top)
{
    cog_logprob_ranked self = ranked(e, &s->self, s->rank), top[COG_MAX_TOP];

    for (int i = 0; i < n_top && i < s->n_top; i++) {
        bool is_equal = i > 0 && s->top[i].logprob == s->top[i - 1].logprob;
        top[i] = ranked(e, &s->top[i], is_equal ? top[i - 1].rank : i + 1);
    }
    cog_logprob_add_ranked(list, &self, top, n_top < s->n_top ? n_top : s->n_top);
}

static bool is_inside_character(const cog_logprob_token *t)
{
    return t->len > 0 && ((unsigned char)t->bytes[0] & 0xc0) == 0x80;
}

/* chars: of the prompt so far, counted where they begin. */
static void add_echo(cog_answer_choice *c, cog_engine *e, const cog_scored_token *s, bool is_first,
                     int n_top, size_t chars)
{
    cog_logprob_token self = token_of(e, &s->self, is_first), top[COG_MAX_TOP];

    if (is_first) {
        cog_logprob_add_first(c->logprobs, &self);
        return;
    }
    for (int i = 0; i < s->n_top; i++)
        top[i] = token_of(e, &s->top[i], false);
    cog_logprob_add_row(c->logprobs, &self, top, n_top < s->n_top ? n_top : s->n_top,
                        chars - is_inside_character(&self));
}

static size_t count_beginnings(const cog_logprob_token *t)
{
    size_t n = 0;

    for (size_t i = 0; i < t->len; i++)
        n += ((unsigned char)t->bytes[i] & 0xc0) != 0x80;
    return n;
}

void cog_generate_on_prompt(cog_generate_job *j, const cog_event *ev)
{
    cog_engine *e = j->x->server->engine;
    int of = (int)(ev->id - j->first_id);
    cog_buf *list = &j->prompt_logprobs[of];

    for (int i = 0; i < ev->n_scored; i++) {
        const cog_scored_token *s = &ev->scored[i];
        bool is_first = ev->first + i == 1;
        cog_logprob_token self = token_of(e, &s->self, is_first);

        if (j->n_prompt_top >= 0)
            add_ranked(list, e, s, j->n_prompt_top);
        for (int c = of * j->n; j->n_echo_top >= 0 && c < (of + 1) * j->n; c++)
            add_echo(&j->choices[c], e, s, is_first, j->n_echo_top, j->prompt_chars[of]);
        j->prompt_chars[of] += count_beginnings(&self);
    }
}
