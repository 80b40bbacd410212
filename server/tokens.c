/* tokens.c - POST /tokenize and /detokenize: text to ids and back, and how many tokens a chat or a
 * response would take, on a worker. No picture is looked at: it has the model's constant number of
 * tokens. */
#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "base/utf8.h"
#include "proto/json_write.h"
#include "proto/responses.h"
#include "proto/tokenize.h"
#include "server/chat_prompt.h"
#include "server/internal.h"

#include <stddef.h>
#include <string.h>

typedef int init_fn(cog_chat *c, const cog_buf *body, const cog_chat_options *opt,
                    cog_api_error *err);

typedef struct tokens_job {
    cog_work work;
    cog_exchange *x;
    char nonce[COG_NONCE_SIZE];
    cog_api_error err;
    cog_buf body, ignored; /* the answer's */
    init_fn *init;         /* of what is to be counted */
} tokens_job;

/* ------------------------------------------------------------------ a worker: the answer */

static void write_piece(cog_buf *out, cog_engine *e, int32_t id)
{
    size_t len;
    const char *text = cog_engine_piece(e, id, &len);

    cog_buf_puts(out, "\"");
    cog_json_write_text(out, text, len);
    cog_buf_puts(out, "\"");
}

/* As llama.cpp does: text, or its bytes when they are a part of a character. */
static void write_id_and_piece(cog_buf *out, cog_engine *e, int32_t id)
{
    size_t len;
    const char *text = cog_engine_piece(e, id, &len);

    cog_buf_printf(out, "{\"id\":%d,\"piece\":", id);
    if (cog_utf8_valid(text, len)) {
        write_piece(out, e, id);
    } else {
        for (size_t i = 0; i < len; i++)
            cog_buf_printf(out, "%s%d", i ? "," : "[", (unsigned char)text[i]);
        cog_buf_puts(out, "]");
    }
    cog_buf_puts(out, "}");
}

static void write_tokens(cog_buf *out, cog_engine *e, const cog_tokenize *t, const int32_t *ids,
                         int n)
{
    cog_buf_printf(out, "{\"count\":%d,\"max_model_len\":%d,\"tokens\":[", n,
                   cog_engine_get_info(e)->context);
    for (int i = 0; i < n; i++) {
        if (i)
            cog_buf_puts(out, ",");
        if (t->pieces)
            write_id_and_piece(out, e, ids[i]);
        else
            cog_buf_printf(out, "%d", ids[i]);
    }
    cog_buf_puts(out, "],\"token_strs\":");
    for (int i = 0; t->token_strings && i < n; i++) {
        cog_buf_puts(out, i ? "," : "[");
        write_piece(out, e, ids[i]);
    }
    cog_buf_puts(out, !t->token_strings ? "null}" : n ? "]}" : "[]}");
}

static int tokenize_chat(tokens_job *j, const cog_tokenize *t)
{
    cog_exchange *x = j->x;
    cog_server *s = x->server;
    cog_chat_options opt = cog_chat_prompt_options(s, j->nonce);
    cog_prompt prompt = { 0 };
    cog_chat chat;
    int rc;

    opt.strict = false; /* the fields of this address are none of a chat's */
    rc = cog_chat_init(&chat, x->body.data, x->body.len, &opt, &j->err);
    if (rc == 0) /* a field that is wrong comes before the model's name, as everywhere */
        rc = cog_chat_prompt_check_model(&s->cfg, t->model, &j->err);
    if (rc == 0)
        rc = cog_chat_prompt_build(&prompt, s, &chat, x->id, &j->err);
    if (rc == 0)
        write_tokens(&j->body, s->engine, t, prompt.tokens, prompt.n_tokens);
    cog_prompt_fini(&prompt);
    cog_chat_fini(&chat);
    return rc;
}

static void tokenize_text(tokens_job *j, const cog_tokenize *t)
{
    cog_engine *e = j->x->server->engine;
    int32_t *ids = NULL, *all;
    int n = 0, first = t->add_special;
    cog_err why;
    int rc = cog_engine_tokenize(&ids, &n, e, t->text, t->text_len, &why);

    if (rc < 0) {
        cog_log(COG_ERROR, "event=prompt_failed id=%s code=%s", j->x->id, cog_err_name(rc));
        cog_status_fail(&j->err, j->x->id);
        return;
    }
    all = cog_array(int32_t, (size_t)n + 1);
    all[0] = cog_engine_get_info(e)->bos;
    if (n)
        memcpy(all + first, ids, (size_t)n * sizeof(int32_t));
    write_tokens(&j->body, e, t, all, n + first);
    cog_free(all);
    cog_free(ids);
}

static void tokenize(cog_work *w)
{
    tokens_job *j = (tokens_job *)(void *)((char *)w - offsetof(tokens_job, work));
    cog_exchange *x = j->x;
    cog_server *s = x->server;
    cog_tokenize t = { 0 };

    if (cog_chat_prompt_nonce(j->nonce, x->id, &j->err) == 0 &&
        cog_tokenize_init(&t, cog_buf_text(&x->body), x->body.len, j->nonce,
                          s->cfg.strict_parameters, &j->err) == 0) {
        if (t.has_messages)
            tokenize_chat(j, &t);
        else if (cog_chat_prompt_check_model(&s->cfg, t.model, &j->err) == 0)
            tokenize_text(j, &t);
    }
    j->ignored = t.ignored;
    t.ignored = (cog_buf){ 0 };
    cog_tokenize_fini(&t);
}

static void detokenize(cog_work *w)
{
    tokens_job *j = (tokens_job *)(void *)((char *)w - offsetof(tokens_job, work));
    cog_exchange *x = j->x;
    cog_server *s = x->server;
    cog_detokenize d = { 0 };
    cog_buf text = { 0 };

    if (cog_chat_prompt_nonce(j->nonce, x->id, &j->err) == 0 &&
        cog_detokenize_init(&d, cog_buf_text(&x->body), x->body.len, j->nonce,
                            cog_engine_get_info(s->engine)->vocab, s->cfg.strict_parameters,
                            &j->err) == 0 &&
        cog_chat_prompt_check_model(&s->cfg, d.model, &j->err) == 0) {
        cog_engine_detokenize(&text, s->engine, d.tokens, d.n_tokens);
        cog_buf_puts(&j->body, "{\"prompt\":\"");
        cog_json_write_text(&j->body, cog_buf_text(&text), text.len);
        cog_buf_puts(&j->body, "\",\"content\":\"");
        cog_json_write_text(&j->body, cog_buf_text(&text), text.len);
        cog_buf_puts(&j->body, "\"}");
        cog_buf_fini(&text);
    }
    j->ignored = d.ignored;
    d.ignored = (cog_buf){ 0 };
    cog_detokenize_fini(&d);
}

static int init_chat(cog_chat *c, const cog_buf *body, const cog_chat_options *opt,
                     cog_api_error *err)
{
    return cog_chat_init(c, cog_buf_text(body), body->len, opt, err);
}

static int init_response(cog_chat *c, const cog_buf *body, const cog_chat_options *opt,
                         cog_api_error *err)
{
    cog_buf echo = { 0 };
    int rc = cog_responses_init(c, &echo, cog_buf_text(body), body->len, opt, err);

    cog_buf_fini(&echo);
    return rc;
}

/* What the address of the request itself would take the prompt for, and refuses as that does. */
static void count(cog_work *w)
{
    tokens_job *j = (tokens_job *)(void *)((char *)w - offsetof(tokens_job, work));
    cog_exchange *x = j->x;
    cog_server *s = x->server;
    cog_chat_options opt = cog_chat_prompt_options(s, j->nonce);
    cog_prompt prompt = { 0 };
    cog_chat chat = { 0 };

    if (cog_chat_prompt_nonce(j->nonce, x->id, &j->err) == 0 &&
        j->init(&chat, &x->body, &opt, &j->err) == 0 &&
        cog_chat_prompt_check_model(&s->cfg, chat.params.model, &j->err) == 0 &&
        cog_chat_prompt_build(&prompt, s, &chat, x->id, &j->err) == 0)
        cog_buf_printf(&j->body,
                       "{\"object\":\"response.input_tokens\",\"input_tokens\":%d,"
                       "\"image_tokens\":%d}",
                       prompt.n_tokens, prompt.n_image_tokens);
    cog_prompt_fini(&prompt);
    j->ignored = chat.ignored;
    chat.ignored = (cog_buf){ 0 };
    cog_chat_fini(&chat);
}

/* ------------------------------------------------------------------ the loop */

static void after(cog_work *w)
{
    tokens_job *j = (tokens_job *)(void *)((char *)w - offsetof(tokens_job, work));
    cog_exchange *x = j->x;
    cog_server *s = x->server;

    s->n_working--;
    cog_body_drop(x);
    if (j->err.code) {
        cog_exchange_fail(x, &j->err);
    } else if (!x->is_gone && !x->reply.status) {
        x->reply.status = 200;
        x->reply.type = "application/json";
        x->reply.body = j->body;
        j->body = (cog_buf){ 0 };
        if (j->ignored.len)
            cog_reply_header(&x->reply, "x-ignored-parameters", "%s", j->ignored.data);
        cog_exchange_reply(x);
    }
    cog_exchange_unref(x);
    cog_http_flush(s);
}

static void begin(cog_exchange *x, void (*run)(cog_work *w), init_fn *init)
{
    tokens_job *j = cog_new(tokens_job);

    x->job = j;
    j->x = x;
    j->init = init;
    j->work = (cog_work){ .run = run, .done = after };
    cog_exchange_ref(x);
    x->server->n_working++;
    cog_http_watch(x);
    cog_workers_post(x->server->workers, &j->work, x->body.len > COG_LARGE_BODY);
}

void cog_tokens_tokenize(cog_exchange *x)
{
    begin(x, tokenize, NULL);
}

void cog_tokens_detokenize(cog_exchange *x)
{
    begin(x, detokenize, NULL);
}

void cog_tokens_count(cog_exchange *x)
{
    begin(x, count, init_chat);
}

void cog_tokens_count_response(cog_exchange *x)
{
    begin(x, count, init_response);
}

void cog_tokens_fini(cog_exchange *x)
{
    tokens_job *j = x->job;

    if (!j)
        return;
    cog_buf_fini(&j->body);
    cog_buf_fini(&j->ignored);
    cog_free(j);
    x->job = NULL;
}
