/* What we write always parses and says what it was given: JSON strings, responses, events of a
 * stream, errors, caption lines. The input is the text of an answer. */
#include "tests/fuzz/fuzz_json.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "proto/caption_line.h"
#include "proto/chat_write.h"
#include "proto/completion_write.h"
#include "proto/logprob_write.h"
#include "proto/json_write.h"

#include <string.h>

typedef struct text {
    const char *raw;
    size_t len;
    char *clean; /* as a reader must get it */
    size_t clean_len;
} text;

static void require_text(const json_t *v, const text *t)
{
    REQUIRE(json_is_string(v) && json_string_length(v) == t->clean_len);
    REQUIRE(memcmp(json_string_value(v), t->clean, t->clean_len) == 0);
}

/* What differs between a chat and a completion. */
typedef struct form {
    void (*write)(cog_buf *out, const cog_answer_head *head, const cog_answer_choice *choices,
                  int n, const cog_answer_usage *usage);
    void (*stream_init)(cog_answer_stream *st, const cog_answer_head *head, bool include_usage,
                        bool continuous_usage);
    void (*stream_text)(cog_buf *out, cog_answer_stream *st, int choice, const cog_answer_delta *d,
                        const cog_answer_usage *usage);
    void (*stream_finish)(cog_buf *out, cog_answer_stream *st, int choice,
                          const cog_answer_choice *finished, const cog_answer_usage *usage);
    const char *whole, *delta; /* of a choice: what has its text; NULL: it does itself */
    const char *text;
} form;

static const form forms[] = {
    { cog_chat_write_response, cog_chat_stream_init, cog_chat_stream_text, cog_chat_stream_finish,
      "message", "delta", "content" },
    { cog_completion_write, cog_completion_stream_init, cog_completion_stream_text,
      cog_completion_stream_finish, NULL, NULL, "text" },
};

static json_t *text_in(const json_t *choice, const char *part, const char *name)
{
    return json_object_get(part ? json_object_get(choice, part) : choice, name);
}

static void check_response(const form *f, const text *t, const cog_answer_head *head,
                           const cog_answer_usage *usage)
{
    cog_answer_choice choice[2] = { { .finish = "stop", .stop_reason = "\"\\\n" },
                                    { .finish = "length" } };
    cog_buf out = { 0 };
    json_t *root, *choices;

    for (int i = 0; i < 2; i++)
        cog_buf_add(&choice[i].text, t->raw, t->len);
    f->write(&out, head, choice, 2, usage);
    root = fuzz_parse(out.data, out.len);
    choices = json_object_get(root, "choices");
    REQUIRE(json_array_size(choices) == 2);
    for (size_t i = 0; i < 2; i++) {
        require_text(text_in(json_array_get(choices, i), f->whole, f->text), t);
        cog_buf_fini(&choice[i].text);
    }
    json_decref(root);
    cog_buf_fini(&out);
}

/* Each event is one line "data: ..." and an empty one, of JSON or [DONE]. Returns the joined text
 * of the deltas. */
static cog_buf read_stream(const form *f, const cog_buf *out, int *n_events)
{
    cog_buf joined = { 0 };

    for (const char *at = out->data, *end = at + out->len; at < end;) {
        const char *stop = memmem(at, (size_t)(end - at), "\n\n", 2);
        size_t len;
        json_t *event, *content;

        REQUIRE(stop && strncmp(at, "data: ", 6) == 0);
        len = (size_t)(stop - at) - 6;
        REQUIRE(!memchr(at, '\r', len) && !memchr(at, '\n', len));
        if (len == 6 && memcmp(at + 6, "[DONE]", 6) == 0) {
            REQUIRE(stop + 2 == end);
            (*n_events)++;
            break;
        }
        event = fuzz_parse(at + 6, len);
        content = text_in(json_array_get(json_object_get(event, "choices"), 0), f->delta, f->text);
        if (json_is_string(content))
            cog_buf_add(&joined, json_string_value(content), json_string_length(content));
        json_decref(event);
        (*n_events)++;
        at = stop + 2;
    }
    return joined;
}

static void check_stream(const form *f, const text *t, const cog_answer_head *head,
                         const cog_answer_usage *usage, unsigned flags)
{
    cog_answer_choice finished = { .finish = "stop",
                                   .stop_reason = flags & 4 ? "a\"b" : NULL,
                                   .is_stop_token = flags & 8,
                                   .stop_token = INT32_MAX };
    const cog_logprob_token token = { t->raw, t->len, flags & 32 ? -1e300 : -0.5 };
    cog_answer_stream st;
    cog_buf out = { 0 }, entries[COG_LOGPROB_COLUMNS] = { { 0 } }, joined;
    const cog_answer_delta delta = { .text = t->raw,
                                     .len = t->len,
                                     .logprobs = flags & 16 ? entries : NULL,
                                     .token_ids = flags & 8 ? &finished.token_ids : NULL };
    int n = 0;

    for (unsigned i = 0; i < (flags >> 6); i++) {
        if (f->delta)
            cog_logprob_add(entries, &token, &token, (int)i % 2);
        else
            cog_logprob_add_row(entries, &token, &token, (int)i % 2, i);
    }
    f->stream_init(&st, head, flags & 1, flags & 2);
    if (f->delta)
        cog_chat_stream_role(&out, &st, 0, usage);
    f->stream_text(&out, &st, 0, &delta, usage);
    f->stream_finish(&out, &st, 0, &finished, usage);
    cog_answer_stream_end(&out, &st, usage);
    joined = read_stream(f, &out, &n);
    REQUIRE(n == 3 + (f->delta != NULL) + (int)(flags & 1));
    REQUIRE(joined.len == t->clean_len);
    REQUIRE(memcmp(cog_buf_text(&joined), t->clean, t->clean_len) == 0);
    cog_buf_fini(&joined);
    for (int i = 0; i < COG_LOGPROB_COLUMNS; i++)
        cog_buf_fini(&entries[i]);
    cog_buf_fini(&out);
    cog_answer_stream_fini(&st);
}

static void check_error(const text *t)
{
    char *param = cog_strndup(t->clean, t->clean_len), quoted[COG_API_QUOTE];
    cog_api_error e;

    cog_api_error_set(&e, COG_API_INVALID_VALUE, param, "%s",
                      cog_api_quote(quoted, t->clean, t->clean_len));
    fuzz_check_api_error(&e);
    if (param[0]) { /* longer than its buffer, perhaps */
        cog_api_error_set(&e, COG_API_INTERNAL, NULL, "%s", param);
        fuzz_check_api_error(&e);
    }
    cog_free(param);
}

/* Reads back its own line; a path of a file may hold anything but NUL. */
static void check_caption(const text *t)
{
    char *raw = cog_strndup(t->raw, t->len), *clean = cog_alloc(3 * strlen(raw) + 1, 1);
    size_t len = cog_utf8_sanitize(clean, raw, strlen(raw));
    cog_caption_line line = { .image = raw, .text = raw, .finish_reason = "stop" };
    bool answered = false;
    char *image = NULL;
    cog_err err = { 0 };
    cog_buf out = { 0 };

    for (int i = 0; i < 2; i++) {
        line.error = i ? raw : NULL;
        cog_buf_clear(&out);
        cog_caption_line_write(&out, &line);
        REQUIRE(out.data[out.len - 1] == '\n' && !memchr(out.data, '\n', out.len - 1));
        REQUIRE(cog_caption_line_parse(&image, &answered, out.data, out.len - 1, &err) == 0);
        REQUIRE(answered == !line.error && strlen(image) == len && strcmp(image, clean) == 0);
        cog_free(image);
    }
    cog_buf_fini(&out);
    cog_free(raw);
    cog_free(clean);
}

/* Any line: taken or refused. */
static void check_caption_line(const text *t)
{
    bool answered = false;
    char *image = NULL;
    cog_err err = { 0 };
    int rc = cog_caption_line_parse(&image, &answered, t->raw, t->len, &err);

    if (rc < 0)
        fuzz_check_err(rc, &err);
    else
        cog_free(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_tail tail = { bytes, len };
    unsigned flags = fuzz_take(&tail);
    text t = { (const char *)bytes, tail.len, cog_alloc(3 * tail.len + 1, 1), 0 };
    cog_answer_usage usage = { .prompt_tokens = 7, .image_tokens = 3, .completion_tokens = 2 };
    cog_answer_head head = { .id = "id",
                             .created = 1700000000,
                             .fingerprint = "fp",
                             .image_width = flags & 16 ? 640 : 0,
                             .image_height = 480 };

    t.clean_len = cog_utf8_sanitize(t.clean, t.raw, t.len);
    head.model = t.clean; /* a name that a person gave */
    for (int i = 0; i < 2; i++) {
        check_response(&forms[i], &t, &head, &usage);
        check_stream(&forms[i], &t, &head, &usage, flags);
    }
    check_error(&t);
    check_caption(&t);
    check_caption_line(&t);
    cog_free(t.clean);
    return 0;
}
