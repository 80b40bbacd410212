/* A completion request: understood or refused, what comes out is within the API's ranges; every id
 * is in the vocabulary and every prompt is where its param says. The last byte chooses the options;
 * a byte 0x01 in the body stands for 4096 characters. */
#include "tests/fuzz/fuzz_json.h"

#include "base/utf8.h"
#include "proto/completion.h"

#include <stdio.h>
#include <string.h>

static const char *const words[] = {
    "{}",
    "[]",
    "[[]]",
    "null",
    "true",
    "0",
    "1",
    "-1",
    "5.0",
    "0.5",
    "31999",
    "32000",
    "2147483648",
    "4294967301",
    "-9223372036854775808",
    "1e300",
    "1e999",
    "\"\"",
    "\"text\"",
    "\"data:,\x01\"",
    "\"\\ud800\"",
    "\"\xc3\xa9\"",
    "[1,2]",
    "[[1],[2,3]]",
    "[\"a\",\"\"]",
    "\"prompt\":\"a\"",
    "\"prompt\":[3,4]",
    "\"prompt\":[[3],[4]]",
    "\"prompt\":[\"a\",\"b\"]",
    "\"max_tokens\":0",
    "\"max_tokens\":4294967295",
    "\"n_predict\":3",
    "\"echo\":true",
    "\"suffix\":\"\"",
    "\"suffix\":\"s\"",
    "\"logprobs\":1",
    "\"best_of\":1",
    "\"add_special_tokens\":true",
    "\"n\":2",
    "\"stop\":[\"a\",\"b\"]",
    "\"seed\":1",
    "\"stream\":true",
    "\"stream_options\":{\"include_usage\":true}",
    "\"temperature\":0",
    "\"logit_bias\":{\"5\":1}",
    "\"min_tokens\":1",
    "\"user\":\"u\"",
    "\"unknown\":1",
};

static void check_prompt(const cog_completion *c, int i, const cog_completion_options *opt,
                         const json_t *prompt)
{
    const cog_completion_prompt *p = &c->prompts[i];
    bool is_list = strcmp(p->param, "prompt") != 0;
    const json_t *v = is_list ? json_array_get(prompt, (size_t)i) : prompt;
    char param[32];

    snprintf(param, sizeof(param), "prompt[%d]", i);
    REQUIRE(!is_list || strcmp(p->param, param) == 0);
    REQUIRE(is_list || c->n_prompts == 1);
    if (p->text) {
        REQUIRE(!p->tokens && json_string_length(v) == p->text_len);
        REQUIRE(memcmp(json_string_value(v), p->text, p->text_len) == 0);
        REQUIRE(p->text_len == 0 || cog_utf8_valid(p->text, p->text_len));
        return;
    }
    REQUIRE(p->n_tokens >= 1 && json_array_size(v) == (size_t)p->n_tokens);
    for (int k = 0; k < p->n_tokens; k++) {
        REQUIRE(p->tokens[k] >= 0 && p->tokens[k] < opt->vocab);
        REQUIRE(json_number_value(json_array_get(v, (size_t)k)) == p->tokens[k]);
    }
}

static void check_understood(const cog_completion *c, const cog_completion_options *opt)
{
    const json_t *prompt = json_object_get(c->root, "prompt");
    int64_t most = cog_completion_max_tokens(c);

    REQUIRE(c->n_prompts >= 1 && c->n_prompts <= opt->max_prompts);
    for (int i = 0; i < c->n_prompts; i++)
        check_prompt(c, i, opt, prompt);
    REQUIRE(most >= 1 || (most == 0 && c->echo));
    REQUIRE(c->logprobs >= -1 && c->logprobs <= 20);
    REQUIRE(c->params.n >= 1 && c->params.n <= opt->max_n);
    for (size_t i = 0; i < c->ignored.len; i++) /* goes into a header */
        REQUIRE(c->ignored.data[i] >= 0x20 && c->ignored.data[i] < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_tail tail = { bytes, len };
    unsigned flags = fuzz_take(&tail);
    cog_completion_options opt = { .nonce = "f00dcafe0123456789abcdef",
                                   .max_n = flags & 1 ? 128 : 4,
                                   .max_prompts = flags & 2 ? COG_COMPLETION_MAX_PROMPTS : 2,
                                   .vocab = flags & 8 ? 8 : 32000,
                                   .strict = flags & 4 };
    cog_buf body = fuzz_expand(bytes, tail.len, 1, 'A', 4096);
    cog_api_error err = { 0 };
    cog_completion c;

    if (cog_completion_init(&c, body.data, body.len, &opt, &err) < 0) {
        fuzz_check_api_error(&err);
    } else {
        REQUIRE(err.code == COG_API_NONE);
        check_understood(&c, &opt);
    }
    cog_completion_fini(&c);
    cog_buf_fini(&body);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
{
    return fuzz_mutate_json(bytes, len, room, seed, words, sizeof(words) / sizeof(words[0]));
}
