#include "tests/fuzz/fuzz_json.h"

#include "base/rng.h"
#include "base/utf8.h"

#include <string.h>

json_t *fuzz_parse(const char *text, size_t len)
{
    json_error_t why;
    json_t *v = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);

    REQUIRE_SAY(v, "%s at byte %d of '%.*s'", why.text, why.position, (int)(len > 500 ? 500 : len),
                text);
    return v;
}

static void check_text(const char *text, size_t size)
{
    size_t len = strnlen(text, size);

    REQUIRE(len < size);
    REQUIRE_SAY(cog_utf8_valid(text, len), "'%s'", text);
}

static void check_member(const json_t *error, const char *name, const char *text)
{
    const json_t *v = json_object_get(error, name);

    if (text[0])
        REQUIRE_SAY(json_is_string(v) && strcmp(json_string_value(v), text) == 0, "%s", name);
    else
        REQUIRE_SAY(json_is_null(v), "%s", name);
}

void fuzz_check_api_error(const cog_api_error *e)
{
    int status = cog_api_error_status(e->code);
    cog_buf out = { 0 };
    json_t *root, *error;

    REQUIRE(e->code > COG_API_NONE && e->code < COG_API_N_CODES);
    REQUIRE(status >= 400 && status <= 599);
    check_text(e->message, sizeof(e->message));
    check_text(e->param, sizeof(e->param));
    REQUIRE(e->message[0]);
    REQUIRE(e->retry_after_ms >= 0);

    cog_api_error_write(&out, e);
    root = fuzz_parse(out.data, out.len);
    error = json_object_get(root, "error");
    check_member(error, "message", e->message);
    check_member(error, "param", e->param);
    check_member(error, "code", cog_api_error_name(e->code));
    REQUIRE(json_is_string(json_object_get(error, "type")));
    json_decref(root);
    cog_buf_fini(&out);
}

/* ---- mutations ---- */

enum { MAX_SPANS = 256 };

struct span {
    size_t at, len;
};

static size_t string_len(const uint8_t *bytes, size_t len)
{
    size_t i = 1;

    while (i < len && bytes[i] != '"')
        i += bytes[i] == '\\' ? 2 : 1;
    return i < len ? i + 1 : len;
}

static bool is_mark(uint8_t c)
{
    return strchr("{}[],:\" \t\r\n", c) != NULL; /* and NUL, which strchr finds */
}

/* Strings, words and numbers, and what stands between a bracket and its partner. */
static int find_spans(struct span *span, const uint8_t *bytes, size_t len)
{
    size_t open[64];
    int n = 0, depth = 0;

    for (size_t i = 0; i < len && n < MAX_SPANS;) {
        size_t end = i;

        if (bytes[i] == '"') {
            end = i + string_len(bytes + i, len - i);
        } else if (bytes[i] == '{' || bytes[i] == '[') {
            if (depth < 64)
                open[depth] = i;
            depth++;
        } else if ((bytes[i] == '}' || bytes[i] == ']') && depth > 0) {
            depth--;
            if (depth < 64)
                span[n++] = (struct span){ open[depth], i + 1 - open[depth] };
        } else {
            while (end < len && !is_mark(bytes[end]))
                end++;
        }
        if (end > i)
            span[n++] = (struct span){ i, end - i };
        i = end > i ? end : i + 1;
    }
    return n;
}

/* bytes[at, at + drop) becomes with[n]; the length, unchanged when there is no room. */
static size_t replace(uint8_t *bytes, size_t len, size_t room, struct span drop, const void *with,
                      size_t n)
{
    if (len - drop.len + n > room)
        return len;
    memmove(bytes + drop.at + n, bytes + drop.at + drop.len, len - drop.at - drop.len);
    memcpy(bytes + drop.at, with, n);
    return len - drop.len + n;
}

/* A comma and a copy of a span behind it. */
static size_t double_span(uint8_t *bytes, size_t len, size_t room, struct span s)
{
    cog_buf copy = { 0 };

    cog_buf_add(&copy, ",", 1);
    cog_buf_add(&copy, bytes + s.at, s.len);
    len = replace(bytes, len, room, (struct span){ s.at + s.len, 0 }, copy.data, copy.len);
    cog_buf_fini(&copy);
    return len;
}

/* With the comma or colon and the spaces behind it. */
static size_t drop_span(uint8_t *bytes, size_t len, struct span s)
{
    while (s.at + s.len < len && strchr(",: ", bytes[s.at + s.len]) && bytes[s.at + s.len])
        s.len++;
    return replace(bytes, len, len, s, "", 0);
}

static size_t replace_by_other(uint8_t *bytes, size_t len, size_t room, struct span s,
                               struct span other)
{
    cog_buf copy = { 0 };

    cog_buf_add(&copy, bytes + other.at, other.len);
    len = replace(bytes, len, room, s, copy.data, copy.len);
    cog_buf_fini(&copy);
    return len;
}

size_t fuzz_mutate_json(uint8_t *bytes, size_t len, size_t room, unsigned seed,
                        const char *const *words, size_t n_words)
{
    cog_rng rng = { .key = seed };
    struct span span[MAX_SPANS];
    int n = find_spans(span, bytes, len);

    if (n == 0 || cog_rng_below(&rng, 3) == 0)
        return LLVMFuzzerMutate(bytes, len, room);
    for (int left = 1 + (int)cog_rng_below(&rng, 3); left > 0 && n > 0; left--) {
        struct span s = span[cog_rng_below(&rng, (uint64_t)n)];
        const char *word = words[cog_rng_below(&rng, n_words)];

        switch (cog_rng_below(&rng, 6)) {
        case 0:
            len = drop_span(bytes, len, s);
            break;
        case 1:
            len = double_span(bytes, len, room, s);
            break;
        case 2:
            len = replace_by_other(bytes, len, room, s, span[cog_rng_below(&rng, (uint64_t)n)]);
            break;
        case 3: /* a new member or element in front */
            len = replace(bytes, len, room, (struct span){ s.at, 0 }, ",", 1);
            len = replace(bytes, len, room, (struct span){ s.at, 0 }, word, strlen(word));
            break;
        default:
            len = replace(bytes, len, room, s, word, strlen(word));
            break;
        }
        n = find_spans(span, bytes, len);
    }
    return len;
}
