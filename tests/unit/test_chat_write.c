/* The exact bytes of responses and chunks: clients depend on them. */
#include "tests/unit/unit.h"

#include "proto/chat_write.h"

#include <string.h>

static const cog_chat_head head = {
    .id = "id1", .created = 1700000000, .model = "a\"b", .fingerprint = "fp_1"
};

#define CHUNK(choices, usage)                                                                     \
    "data: {\"id\":\"chatcmpl-id1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000," \
    "\"model\":\"a\\\"b\",\"system_fingerprint\":\"fp_1\",\"choices\":[" choices "]" usage "}\n\n"
#define USAGE                                                                                \
    "{\"prompt_tokens\":30,\"completion_tokens\":5,\"total_tokens\":35,"                     \
    "\"prompt_tokens_details\":{\"cached_tokens\":2,\"image_tokens\":18,\"text_tokens\":12," \
    "\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,"             \
    "\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}"

static const cog_chat_usage usage = {
    .prompt_tokens = 30, .image_tokens = 18, .cached_tokens = 2, .completion_tokens = 5
};

static void whole(void **state)
{
    cog_chat_choice choices[2] = { { .finish = "stop", .stop_reason = "\n" },
                                   { .finish = "length" } };
    cog_buf out = { 0 };

    cog_buf_puts(&choices[0].text, "x\ty");
    cog_chat_write_response(&out, &head, choices, 2, &usage);
    assert_string_equal(
        out.data,
        "{\"id\":\"chatcmpl-id1\",\"object\":\"chat.completion\",\"created\":1700000000,"
        "\"model\":\"a\\\"b\",\"system_fingerprint\":\"fp_1\",\"choices\":["
        "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"x\\u0009y\",\"refusal\":"
        "null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":"
        "\"\\n\"},"
        "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null,"
        "\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null}],"
        "\"usage\":" USAGE "}");
    cog_buf_fini(&choices[0].text);
    cog_buf_fini(&out);
}

static void write_all(cog_buf *out, bool include_usage, bool continuous_usage)
{
    cog_chat_stream st;

    cog_chat_stream_init(&st, &head, include_usage, continuous_usage);
    cog_chat_stream_role(out, &st, 1, &usage);
    cog_chat_stream_text(out, &st, 1, "\xc3\xbc\\", 3, &usage);
    cog_chat_stream_finish(out, &st, 1, "stop", "s", &usage);
    cog_chat_stream_end(out, &st, &usage);
    cog_chat_stream_fini(&st);
}

#define ROLE                                                                             \
    "{\"index\":1,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}," \
    "\"logprobs\":null,\"finish_reason\":null}"
#define TEXT                                                                   \
    "{\"index\":1,\"delta\":{\"content\":\"\xc3\xbc\\\\\"},\"logprobs\":null," \
    "\"finish_reason\":null}"
#define FINISH                                                                                \
    "{\"index\":1,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":" \
    "\"s\"}"

static void streams(void **state)
{
    cog_buf out = { 0 };

    write_all(&out, false, false);
    assert_string_equal(out.data,
                        CHUNK(ROLE, "") CHUNK(TEXT, "") CHUNK(FINISH, "") "data: [DONE]\n\n");
    cog_buf_clear(&out);
    write_all(&out, true, false);
    assert_string_equal(out.data, CHUNK(ROLE, ",\"usage\":null") CHUNK(TEXT, ",\"usage\":null")
                                      CHUNK(FINISH, ",\"usage\":null")
                                          CHUNK("", ",\"usage\":" USAGE) "data: [DONE]\n\n");
    cog_buf_clear(&out);
    write_all(&out, false, true);
    assert_string_equal(out.data, CHUNK(ROLE, ",\"usage\":" USAGE) CHUNK(TEXT, ",\"usage\":" USAGE)
                                      CHUNK(FINISH, ",\"usage\":" USAGE) "data: [DONE]\n\n");
    cog_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
