/* The exact bytes of responses and chunks: clients depend on them. */
#include "tests/unit/unit.h"

#include "proto/chat_write.h"
#include "proto/logprob_write.h"

#include <math.h>
#include <string.h>

static const cog_answer_head head = {
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

static const cog_answer_usage usage = {
    .prompt_tokens = 30, .image_tokens = 18, .cached_tokens = 2, .completion_tokens = 5
};

static void whole(void **state)
{
    cog_answer_choice choices[2] = { { .finish = "stop", .stop_reason = "\n" },
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

/* Boxes stand beside the text and not in it, the picture's size at the top of every chunk. */
static void boxes(void **state)
{
    cog_answer_head sized = head;
    cog_answer_choice choice = { .finish = "stop" };
    cog_answer_stream st;
    cog_buf out = { 0 };

    sized.image_width = 640;
    sized.image_height = 480;
    cog_buf_puts(&choice.grounding, "[1]");
    cog_chat_write_response(&out, &sized, &choice, 1, &usage);
    assert_non_null(strstr(out.data, "\"system_fingerprint\":\"fp_1\",\"image_sizes\":[[640,480]],"
                                     "\"choices\":[{\"index\":0,"));
    assert_non_null(strstr(out.data, "\"finish_reason\":\"stop\",\"stop_reason\":null,"
                                     "\"grounding\":[1]}],\"usage\""));
    cog_buf_clear(&out);
    cog_chat_stream_init(&st, &sized, false, false);
    cog_chat_stream_text(&out, &st, 0,
                         &(cog_answer_delta){ .text = "x", .len = 1, .logprobs = NULL }, &usage);
    assert_null(strstr(out.data, "grounding"));
    assert_non_null(strstr(out.data, "\"fp_1\",\"image_sizes\":[[640,480]],\"choices\":["));
    cog_buf_clear(&out);
    cog_chat_stream_finish(&out, &st, 0, &choice, &usage);
    assert_non_null(strstr(out.data, "\"fp_1\",\"image_sizes\":[[640,480]],\"choices\":["
                                     "{\"index\":0,\"delta\":{},"));
    assert_non_null(strstr(out.data, "\"stop_reason\":null,\"grounding\":[1]}]}\n\n"));
    cog_answer_stream_fini(&st);
    cog_buf_fini(&choice.grounding);
    cog_buf_fini(&out);
}

#define METRICS                                                                     \
    "\"metrics\":{\"time_to_first_token_ms\":1.500,\"generation_time_ms\":20.000,"  \
    "\"queue_time_ms\":0.000,\"image_decode_ms\":3.000,\"vision_encode_ms\":4.000," \
    "\"prefill_ms\":5.000,\"mean_itl_ms\":null,\"tokens_per_second\":46.500}"

/* Beside the usage, and without one in the chunk that finishes; nowhere else, and never twice. */
static void metrics_go_out_once(void **state)
{
    const cog_answer_metrics metrics = { .time_to_first_token_ms = 1.5,
                                         .generation_time_ms = 20,
                                         .image_decode_ms = 3,
                                         .vision_encode_ms = 4,
                                         .prefill_ms = 5,
                                         .mean_itl_ms = -1,
                                         .tokens_per_second = 46.5 };
    cog_answer_usage with = usage;
    cog_answer_choice choice = { .finish = "stop" };

    with.metrics = &metrics;
    for (int form = 0; form < 5; form++) { /* a stream's options are two bits; a whole answer */
        cog_answer_stream st;
        cog_buf out = { 0 };
        const char *at;

        if (form == 4) {
            cog_chat_write_response(&out, &head, &choice, 1, &with);
        } else {
            cog_chat_stream_init(&st, &head, form & 1, form & 2);
            cog_chat_stream_role(&out, &st, 0, &with);
            cog_chat_stream_text(&out, &st, 0,
                                 &(cog_answer_delta){ .text = "x", .len = 1, .logprobs = NULL },
                                 &with);
            cog_chat_stream_finish(&out, &st, 0, &choice, &with);
            cog_answer_stream_end(&out, &st, &with);
            cog_answer_stream_fini(&st);
        }
        at = strstr(out.data, "," METRICS "}");
        assert_non_null(at);
        assert_null(strstr(at + 12, "\"metrics\""));
        if (form < 4) {
            const char *usage_chunk = strstr(out.data, "\"choices\":[],");
            assert_true(strstr(out.data, "\"finish_reason\":\"stop\"") < at);
            assert_true((usage_chunk != NULL) == (form & 1));
            assert_true(!usage_chunk || usage_chunk < at);
        }
        cog_buf_fini(&out);
    }
}

static void write_all(cog_buf *out, bool include_usage, bool continuous_usage)
{
    const cog_answer_choice choice = { .finish = "stop", .stop_reason = "s" };
    cog_answer_stream st;

    cog_chat_stream_init(&st, &head, include_usage, continuous_usage);
    cog_chat_stream_role(out, &st, 1, &usage);
    cog_chat_stream_text(out, &st, 1,
                         &(cog_answer_delta){ .text = "\xc3\xbc\\", .len = 3, .logprobs = NULL },
                         &usage);
    cog_chat_stream_finish(out, &st, 1, &choice, &usage);
    cog_answer_stream_end(out, &st, &usage);
    cog_answer_stream_fini(&st);
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

static void a_stop_token_is_a_number(void **state)
{
    const cog_answer_choice c = { .finish = "stop", .is_stop_token = true, .stop_token = 0 };
    cog_answer_stream st;
    cog_buf out = { 0 };

    cog_chat_write_response(&out, &head, &c, 1, &usage);
    assert_non_null(strstr(out.data, "\"finish_reason\":\"stop\",\"stop_reason\":0}"));
    cog_buf_clear(&out);
    cog_chat_stream_init(&st, &head, false, false);
    cog_chat_stream_finish(&out, &st, 0, &c, &usage);
    assert_non_null(strstr(out.data, "\"finish_reason\":\"stop\",\"stop_reason\":0}"));
    cog_answer_stream_fini(&st);
    cog_buf_fini(&out);
}

#define ENTRIES                                                                   \
    "{\"token\":\" \\\"\",\"logprob\":-0.25,\"bytes\":[32,34],\"top_logprobs\":[" \
    "{\"token\":\"</s>\",\"logprob\":0,\"bytes\":[60,47,115,62]},"                \
    "{\"token\":\"\",\"logprob\":-9999,\"bytes\":[]}]},"                          \
    "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-9999,\"bytes\":[195],\"top_logprobs\":[]}"
#define LOGPROBS "\"logprobs\":{\"content\":[" ENTRIES "],\"refusal\":null},"

/* Bytes are exact, text is text; a stream has them with the text, a whole answer all. */
static void how_likely_tokens_were(void **state)
{
    const cog_logprob_token tokens[] = { { " \"", 2, -0.25 }, { "\xc3", 1, -20000 } };
    const cog_logprob_token top[] = { { "</s>", 4, 0 }, { "", 0, -INFINITY } };
    cog_answer_choice choices[2] = { { .finish = "stop" },
                                     { .finish = "stop", .has_logprobs = true } };
    cog_answer_stream st;
    cog_buf out = { 0 };

    cog_logprob_add(choices[0].logprobs, &tokens[0], top, 2);
    cog_logprob_add(choices[0].logprobs, &tokens[1], top, 0);
    assert_string_equal(choices[0].logprobs[0].data, ENTRIES);
    choices[0].has_logprobs = true;
    cog_chat_write_response(&out, &head, choices, 2, &usage);
    assert_non_null(strstr(out.data, "\"annotations\":[]}," LOGPROBS "\"finish_reason\":\"stop\""));
    assert_non_null(
        strstr(out.data, "\"logprobs\":{\"content\":[],\"refusal\":null},\"finish_reason\""));
    cog_buf_clear(&out);
    cog_chat_stream_init(&st, &head, false, false);
    cog_chat_stream_text(
        &out, &st, 1, &(cog_answer_delta){ .text = "x", .len = 1, .logprobs = choices[0].logprobs },
        &usage);
    assert_string_equal(out.data, CHUNK("{\"index\":1,\"delta\":{\"content\":\"x\"}," LOGPROBS
                                        "\"finish_reason\":null}",
                                        ""));
    cog_answer_stream_fini(&st);
    cog_buf_fini(&choices[0].logprobs[0]);
    cog_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(boxes),
        cmocka_unit_test(metrics_go_out_once),
        cmocka_unit_test(streams),
        cmocka_unit_test(how_likely_tokens_were),
        cmocka_unit_test(a_stop_token_is_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
