/* A request of a chat, of several, or of a response: understood or refused, what comes out is
 * within the API's ranges, and what is repeated of it is JSON. The last byte chooses the options
 * and which it is; a byte 0x01 in the body stands for 4096 characters of base64. */
#include "tests/fuzz/fuzz_json.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "proto/chat.h"
#include "proto/responses.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

enum { MAX_PICTURE = 3000, AS_RESPONSE = 2, AS_BATCH = 4 };

static const char *const words[] = {
    "{}",
    "[]",
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2",
    "0.5",
    "1e999",
    "1e-400",
    "-0.0",
    "5.0",
    "9007199254740993",
    "18446744073709551616",
    "\"\"",
    "\"text\"",
    "\"user\"",
    "\"assistant\"",
    "\"system\"",
    "\"developer\"",
    "\"tool\"",
    "\"chat\"",
    "\"vqa\"",
    "\"base\"",
    "\"none\"",
    "\"auto\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\xc3\xa9\"",
    "\"image_url\"",
    "\"image\"",
    "\"input_image\"",
    "\"json_object\"",
    "\"http://a/b.png\"",
    "\"data:image/png;base64,AAAA\"",
    "\"data:image/png;base64,\x01\"",
    "\"data:,\x01\"",
    "\"AAAA\"",
    "{\"role\":\"user\",\"content\":\"a\"}",
    "{\"role\":\"assistant\",\"content\":\"b\"}",
    "{\"role\":\"system\",\"content\":\"s\"}",
    "{\"type\":\"text\",\"text\":\"t\"}",
    "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,AAAA\"}}",
    "{\"type\":\"image_url\",\"image_url\":\"data:image/png;base64,AAAA\"}",
    "{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,AA==\"}",
    "\"model\":\"m\"",
    "\"messages\":[]",
    "\"max_completion_tokens\":1",
    "\"max_tokens\":4294967295",
    "\"n_predict\":-1",
    "\"temperature\":0",
    "\"top_p\":0",
    "\"n\":2",
    "\"stop\":\"a\"",
    "\"stop\":[\"a\",\"b\"]",
    "\"seed\":1",
    "\"stream\":true",
    "\"stream_options\":{\"include_usage\":true}",
    "\"stream_options\":{\"continuous_usage_stats\":true}",
    "\"logprobs\":true",
    "\"top_logprobs\":2",
    "\"presence_penalty\":-2",
    "\"frequency_penalty\":2",
    "\"logit_bias\":{}",
    "\"logit_bias\":{\"5\":1,\"31999\":-100}",
    "\"stop_token_ids\":[2,5]",
    "\"allowed_token_ids\":[7,5,7]",
    "\"min_tokens\":1",
    "\"min_new_tokens\":2",
    "\"ignore_eos\":true",
    "\"include_stop_str_in_output\":true",
    "\"no_stop_trim\":true",
    "\"skip_special_tokens\":false",
    "\"response_format\":{\"type\":\"text\"}",
    "\"user\":\"u\"",
    "\"top_k\":-1",
    "\"min_p\":1",
    "\"repetition_penalty\":1.1",
    "\"template_version\":\"vqa\"",
    "\"chat_template_kwargs\":{\"template_version\":\"base\"}",
    "\"request_id\":\"a-b\"",
    "\"tools\":[]",
    "\"tools\":[{}]",
    "\"tool_choice\":\"none\"",
    "\"functions\":[]",
    "\"function_call\":\"auto\"",
    "\"modalities\":[\"text\"]",
    "\"audio\":null",
    "\"metadata\":{}",
    "\"priority\":0",
    "\"unknown\":1",
    "\"cache_salt\":\"s\"",
    "\"cache_prompt\":true",
    "\"return_metrics\":true",
    "\"content\":[]",
    "\"content\":null",
    "\"name\":\"n\"",
    "\"detail\":\"low\"",
    "\"refusal\":null",
    "\"input\":\"a\"",
    "\"input\":[{\"role\":\"user\",\"content\":\"a\"}]",
    "\"type\":\"message\"",
    "\"instructions\":\"b\"",
    "\"max_output_tokens\":1",
    "\"include\":[\"message.output_text.logprobs\"]",
    "\"metadata\":{\"a\":\"b\"}",
    "\"metadata\":{\"url\":\"data:,\x01\"}",
    "\"text\":{\"format\":{\"type\":\"json_object\"}}",
    "\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"a\",\"schema\":{}}}",
    "\"previous_response_id\":\"a\"",
    "\"truncation\":\"disabled\"",
    "\"messages\":[[{\"role\":\"user\",\"content\":\"a\"}]]",
};

static void check_text(const cog_buf *b)
{
    REQUIRE(b->len == 0 || cog_utf8_valid(b->data, b->len));
}

static void check_range(double v, double min, double max)
{
    REQUIRE_SAY(v >= min && v <= max, "%g", v);
}

static void check_numbers(const cog_chat *c, const cog_chat_options *opt)
{
    check_range(c->params.temperature, 0, 2);
    check_range(c->params.top_p, 0, 1);
    check_range(c->params.min_p, 0, 1);
    check_range(c->params.repetition_penalty, 0, 2);
    REQUIRE(c->params.repetition_penalty > 0);
    check_range(c->params.frequency_penalty, -2, 2);
    check_range(c->params.presence_penalty, -2, 2);
    REQUIRE(c->params.n >= 1 && c->params.n <= opt->max_n);
    REQUIRE(cog_chat_max_tokens(c) >= 0);
    REQUIRE(c->params.stream || (!c->params.include_usage && !c->params.continuous_usage));
}

static void check_strings(const cog_chat *c)
{
    REQUIRE(c->params.n_stop >= 0 && c->params.n_stop <= COG_PARAMS_MAX_STOPS);
    for (int i = 0; i < c->params.n_stop; i++) {
        size_t len = strlen(c->params.stop[i]);

        REQUIRE(len > 0 && len <= COG_PARAMS_MAX_STOP_LEN &&
                cog_utf8_valid(c->params.stop[i], len));
    }
    REQUIRE(!c->params.request_id || cog_params_is_request_id(c->params.request_id));
    for (size_t i = 0; i < c->ignored.len; i++) /* goes into a header */
        REQUIRE(c->ignored.data[i] >= 0x20 && c->ignored.data[i] < 0x7f);
}

static void check_tokens(const cog_chat *c, const cog_chat_options *opt)
{
    const cog_token_lists *t = &c->params.tokens;

    REQUIRE(t->n_bias >= 0 && t->n_bias <= COG_MAX_TOKEN_BIASES && t->n_bias <= opt->vocab);
    for (int i = 0; i < t->n_bias; i++) {
        check_range((double)t->bias[i].bias, -100, 100);
        REQUIRE(t->bias[i].token >= 0 && t->bias[i].token < opt->vocab);
        REQUIRE(i == 0 || t->bias[i].token > t->bias[i - 1].token);
    }
    REQUIRE(t->n_allowed >= 0 && t->n_allowed <= opt->vocab);
    for (int i = 0; i < t->n_allowed; i++) {
        REQUIRE(t->allowed[i] >= 0 && t->allowed[i] < opt->vocab);
        REQUIRE(i == 0 || t->allowed[i] > t->allowed[i - 1]);
    }
    REQUIRE(t->n_stop >= 0 && t->n_stop <= COG_MAX_TOKEN_STOPS);
    for (int i = 0; i < t->n_stop; i++)
        REQUIRE(t->stop[i] >= 0 && t->stop[i] < opt->vocab);
    REQUIRE(c->params.min_tokens >= 0 && c->params.min_new_tokens >= 0);
    REQUIRE(c->top_logprobs >= 0 && c->top_logprobs <= (c->logprobs ? 20 : 0));
}

static void check_turns(const cog_chat *c)
{
    size_t len = 0;

    REQUIRE(c->n_turns >= 1 && c->n_turns <= COG_CHAT_MAX_MESSAGES);
    for (int i = 0; i < c->n_turns; i++) {
        check_text(&c->turns[i].query);
        check_text(&c->turns[i].answer);
        len += c->turns[i].query.len + c->turns[i].answer.len;
    }
    REQUIRE(c->turns[c->n_turns - 1].answer.len == 0);
    REQUIRE_SAY(len == c->text_len, "%zu is not %zu", len, c->text_len);
}

static void check_refused(const cog_chat *c, const cog_api_error *err)
{
    fuzz_check_api_error(err);
    REQUIRE(strcmp(err->param, c->picture.param) == 0);
}

static void check_picture(const cog_chat *c)
{
    cog_api_error err = { 0 };
    size_t room = 0, len = 0;
    uint8_t *bytes;

    if (!c->picture.base64)
        return;
    if (cog_chat_picture_room(&room, &c->picture, MAX_PICTURE, &err) < 0) {
        check_refused(c, &err);
        return;
    }
    REQUIRE_SAY(room <= MAX_PICTURE + 8, "%zu", room);
    bytes = cog_alloc(room, 1);
    if (cog_chat_picture_decode(&c->picture, bytes, &len, &err) < 0)
        check_refused(c, &err);
    else
        REQUIRE(len <= room);
    cog_free(bytes);
}

/* The body between spaces says the same. */
static void check_spaced(const cog_buf *body, const cog_chat_options *opt, int rc,
                         const cog_api_error *err)
{
    cog_api_error again = { 0 };
    cog_buf spaced = { 0 };
    cog_chat c;

    cog_buf_puts(&spaced, " \n");
    cog_buf_add(&spaced, body->data, body->len);
    cog_buf_puts(&spaced, "\t");
    REQUIRE(cog_chat_init(&c, spaced.data, spaced.len, opt, &again) == rc);
    REQUIRE(again.code == err->code && strcmp(again.param, err->param) == 0);
    cog_chat_fini(&c);
    cog_buf_fini(&spaced);
}

static void check_chat(const cog_chat *c, const cog_chat_options *opt)
{
    check_numbers(c, opt);
    check_strings(c);
    check_tokens(c, opt);
    check_turns(c);
    check_picture(c);
}

/* Members with a comma before each, and nothing of how pictures were lifted. */
static void check_echo(const cog_buf *echo, const cog_chat_options *opt)
{
    cog_buf object = { 0 };
    json_t *root;

    REQUIRE(echo->len > 1 && echo->data[0] == ',');
    cog_buf_puts(&object, "{");
    cog_buf_add(&object, echo->data + 1, echo->len - 1);
    cog_buf_puts(&object, "}");
    root = json_loadb(object.data, object.len, JSON_REJECT_DUPLICATES, NULL);
    REQUIRE_SAY(root, "%s", object.data);
    REQUIRE(!strstr(object.data, opt->nonce));
    json_decref(root);
    cog_buf_fini(&object);
}

static void check_one(const cog_buf *body, const cog_chat_options *opt, bool is_spaced)
{
    cog_api_error err = { 0 };
    cog_chat c;
    int rc = cog_chat_init(&c, body->data, body->len, opt, &err);

    if (rc < 0) {
        fuzz_check_api_error(&err);
    } else {
        REQUIRE(rc == 0 && err.code == COG_API_NONE);
        check_chat(&c, opt);
    }
    cog_chat_fini(&c);
    if (is_spaced)
        check_spaced(body, opt, rc, &err);
}

static void check_response(const cog_buf *body, const cog_chat_options *opt)
{
    cog_chat_options one = *opt;
    cog_api_error err = { 0 };
    cog_buf echo = { 0 };
    cog_chat c;

    one.max_n = 1;
    if (cog_responses_init(&c, &echo, body->data, body->len, &one, &err) < 0) {
        fuzz_check_api_error(&err);
    } else {
        check_chat(&c, &one);
        check_echo(&echo, &one);
    }
    cog_buf_fini(&echo);
    cog_chat_fini(&c);
}

static void check_batch(const cog_buf *body, const cog_chat_options *opt)
{
    cog_api_error err = { 0 };
    cog_chat batch;
    int n = 0;

    if (cog_chat_batch_init(&batch, &n, body->data, body->len, 4, opt, &err) < 0)
        fuzz_check_api_error(&err);
    else
        REQUIRE(n >= 1 && n <= 4 && batch.params.n == 1 && batch.n_turns == 0);
    for (int i = 0; i < n; i++) {
        cog_chat c;

        err = (cog_api_error){ 0 };
        if (cog_chat_batch_read(&c, &batch, i, opt, &err) < 0) {
            fuzz_check_api_error(&err);
        } else {
            check_turns(&c);
            check_picture(&c);
        }
        cog_chat_fini(&c);
    }
    cog_chat_fini(&batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_tail tail = { bytes, len };
    unsigned flags = fuzz_take(&tail);
    cog_chat_options opt = { .nonce = "f00dcafe0123456789abcdef",
                             .max_n = flags & 1 ? 128 : 4,
                             .vocab = flags & 16 ? 8 : 32000,
                             .max_images = 1,
                             .image_policy_last = flags & 2,
                             .strict = flags & 4 };
    cog_buf body = fuzz_expand(bytes, tail.len, 1, 'A', 4096);

    if (flags >> 5 == AS_RESPONSE)
        check_response(&body, &opt);
    else if (flags >> 5 == AS_BATCH)
        check_batch(&body, &opt);
    else
        check_one(&body, &opt, flags & 8);
    cog_buf_fini(&body);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
{
    return fuzz_mutate_json(bytes, len, room, seed, words, sizeof(words) / sizeof(words[0]));
}
