#include "server/chat_prompt.h"

#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

/* A token of any vocabulary of the family has fewer bytes: text above it needs no tokenizer to be
 * refused. */
enum { MAX_TOKEN_BYTES = 256 };

static cog_template template_of(const cog_server_config *cfg, cog_chat_form form)
{
    switch (form) {
    case COG_CHAT_FORM_CHAT:
        return COG_TEMPLATE_CHAT;
    case COG_CHAT_FORM_VQA:
        return COG_TEMPLATE_VQA;
    case COG_CHAT_FORM_BASE:
        return COG_TEMPLATE_BASE;
    default:
        return cfg->default_template;
    }
}

int cog_chat_prompt_check_model(const cog_server_config *cfg, const char *model, cog_api_error *err)
{
    char quoted[COG_API_QUOTE];

    if (!model || !*model || cfg->any_model)
        return 0;
    for (int i = 0; i < cfg->n_served_names; i++) {
        if (strcmp(model, cfg->served_names[i]) == 0)
            return 0;
    }
    return cog_api_error_set(err, COG_API_MODEL_NOT_FOUND, "model", "The model %s does not exist.",
                             cog_api_quote(quoted, model, strlen(model)));
}

int cog_chat_prompt_capacity(const cog_engine_info *info)
{
    int64_t pool = (int64_t)info->block * info->n_blocks;

    return pool < info->context ? (int)pool : info->context;
}

int cog_chat_prompt_refuse(const cog_engine_info *info, const char *field, bool at_least,
                           int64_t prompt, int image, int64_t wanted, cog_api_error *err)
{
    return cog_api_error_set(
        err, COG_API_CONTEXT_LENGTH, field,
        "This model's maximum context length is %d tokens. However, you requested %s%lld tokens "
        "(%s%lld in the %s, of which %d for images; %lld in the completion). Please reduce the "
        "length of the %s or completion.",
        cog_chat_prompt_capacity(info), at_least ? "at least " : "", (long long)(prompt + wanted),
        at_least ? "at least " : "", (long long)prompt, field, image, (long long)wanted, field);
}

int cog_chat_prompt_make(cog_prompt *out, cog_server *s, const cog_prompt_parts *p, const char *id,
                         cog_api_error *err)
{
    const cog_engine_info *info = cog_engine_get_info(s->engine);
    int image = p->has_image ? info->image_tokens : 0;
    int64_t least = (int64_t)(p->text_len / MAX_TOKEN_BYTES);
    cog_err why;
    int rc = COG_ELIMIT;

    if (least <= cog_chat_prompt_capacity(info))
        rc = cog_engine_prompt(out, s->engine, p->form, p->turns, p->n_turns, p->has_image, &why);
    if (rc == COG_ELIMIT)
        return cog_chat_prompt_refuse(info, p->field, true, least + image, image, p->wanted, err);
    if (rc < 0) {
        cog_log(COG_ERROR, "event=prompt_failed id=%s code=%s", id, cog_err_name(rc));
        cog_status_fail(err, id);
        return rc;
    }
    return 0;
}

int cog_chat_prompt_build(cog_prompt *out, cog_server *s, const cog_chat *c, const char *id,
                          cog_api_error *err)
{
    cog_turn *turns = cog_array(cog_turn, (size_t)c->n_turns);
    cog_prompt_parts parts = { .field = c->field,
                               .form = template_of(&s->cfg, c->form),
                               .turns = turns,
                               .n_turns = c->n_turns,
                               .has_image = c->picture.kind != COG_PICTURE_NONE,
                               .text_len = c->text_len,
                               .wanted = cog_chat_max_tokens(c) };
    int rc;

    for (int i = 0; i < c->n_turns; i++) {
        const cog_chat_turn *t = &c->turns[i];
        bool is_last = i == c->n_turns - 1;

        turns[i].query = cog_buf_text(&t->query);
        turns[i].query_len = t->query.len;
        if (!is_last || c->continue_final)
            turns[i].answer = cog_buf_text(&t->answer);
        turns[i].answer_len = t->answer.len;
        turns[i].is_open = is_last && c->is_open;
    }
    rc = cog_chat_prompt_make(out, s, &parts, id, err);
    cog_free(turns);
    return rc;
}

int cog_chat_prompt_nonce(char nonce[COG_NONCE_SIZE], const char *id, cog_api_error *err)
{
    unsigned char bytes[(COG_NONCE_SIZE - 1) / 2];

    if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
        cog_log(COG_ERROR, "event=no_randomness id=%s", id);
        cog_status_fail(err, id);
        return COG_EIO;
    }
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(nonce + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

int cog_chat_prompt_max_n(const cog_server *s)
{
    return s->cfg.max_n < COG_MAX_CHOICES ? s->cfg.max_n : COG_MAX_CHOICES;
}

cog_chat_options cog_chat_prompt_options(const cog_server *s, const char *nonce)
{
    return (cog_chat_options){
        .nonce = nonce,
        .vocab = cog_engine_get_info(s->engine)->vocab,
        .max_n = cog_chat_prompt_max_n(s),
        .max_images = s->cfg.max_images,
        .image_policy_last = s->cfg.image_policy_last,
        .takes_web = s->fetcher != NULL,
        .takes_files = s->cfg.media_root != NULL,
        .strict = s->cfg.strict_parameters,
    };
}
