/* The pass over a body before the parser: what it leaves, with its pieces put back, is the body.
 * A byte 0x01 stands for 4096 characters. */
#include "tests/fuzz/fuzz_json.h"

#include "base/alloc.h"
#include "proto/json_scan.h"

#include <string.h>

static const char *const words[] = {
    "{}",
    "[]",
    "null",
    "0",
    "\"\"",
    "\"data:\x01\"",
    "\"DATA:,\x01\"",
    "\"data:\x01\\/\x01\"",
    "\"data:\x01\\n\"",
    "\"data:\x01\\\\\"",
    "\"\\\"\"",
    "\"\\\\\"",
    "{\"data:\x01\":1}",
    "{\"data:\x01\" :\"data:\x01\"}",
    "[[[[[[[[",
    "]]]]]]]]",
    "\"\\u00e9\"",
};

static void check_same(const cog_json_scan *s, const json_t *whole, const json_t *lifted);

static void check_string(const cog_json_scan *s, const json_t *whole, const json_t *lifted)
{
    const cog_json_piece *p = cog_json_scan_find(s, json_string_value(lifted));
    char *text, *unescaped;
    size_t len, n;

    if (!p) {
        REQUIRE(json_equal(whole, lifted));
        return;
    }
    REQUIRE(p->len >= COG_JSON_LIFT);
    text = cog_json_piece_text(p, &len);
    unescaped = cog_json_piece_unescape(p, &n);
    REQUIRE(text && len == json_string_length(whole));
    REQUIRE(memcmp(text, json_string_value(whole), len) == 0);
    REQUIRE(n == len && memcmp(unescaped, text, len) == 0);
    cog_free(text);
    cog_free(unescaped);
}

static void check_object(const cog_json_scan *s, const json_t *whole, const json_t *lifted)
{
    const char *key;
    json_t *v;

    REQUIRE(json_object_size(whole) == json_object_size(lifted));
    json_object_foreach((json_t *)whole, key, v)
    {
        const json_t *other = json_object_get(lifted, key);

        REQUIRE_SAY(other, "'%s'", key);
        check_same(s, v, other);
    }
}

static void check_same(const cog_json_scan *s, const json_t *whole, const json_t *lifted)
{
    REQUIRE(json_typeof(whole) == json_typeof(lifted));
    if (json_is_string(whole)) {
        check_string(s, whole, lifted);
    } else if (json_is_object(whole)) {
        check_object(s, whole, lifted);
    } else if (json_is_array(whole)) {
        REQUIRE(json_array_size(whole) == json_array_size(lifted));
        for (size_t i = 0; i < json_array_size(whole); i++)
            check_same(s, json_array_get(whole, i), json_array_get(lifted, i));
    } else {
        REQUIRE(json_equal(whole, lifted));
    }
}

/* Both parse, to the same, or neither does. */
static void check_scan(const cog_json_scan *s, const cog_buf *body)
{
    const int how = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_t *whole = json_loadb(body->data, body->len, how, NULL);
    json_t *lifted = json_loadb(cog_buf_text(&s->skeleton), s->skeleton.len, how, NULL);

    REQUIRE(s->n_pieces > 0 || s->skeleton.len == body->len);
    for (int i = 0; i < s->n_pieces; i++) {
        REQUIRE(s->pieces[i].data >= body->data);
        REQUIRE(s->pieces[i].data + s->pieces[i].len <= body->data + body->len);
    }
    if (whole) {
        REQUIRE(lifted);
        check_same(s, whole, lifted);
    } else if (lifted) {
        /* a lifted string is looked at only when it is used */
        REQUIRE(s->n_pieces > 0);
    }
    json_decref(whole);
    json_decref(lifted);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    cog_buf body = fuzz_expand(bytes, len, 1, 'A', COG_JSON_LIFT);
    cog_api_error err = { 0 };
    cog_json_scan s;

    /* The nonce cannot be known by a client: a body that holds it shows nothing. */
    if (!memmem(body.data, body.len, "nonce0123456789", 15)) {
        if (cog_json_scan_init(&s, body.data, body.len, "nonce0123456789", &err) < 0) {
            fuzz_check_api_error(&err);
            REQUIRE(err.code == COG_API_INVALID_JSON);
        } else {
            check_scan(&s, &body);
            cog_json_scan_fini(&s);
        }
    }
    cog_buf_fini(&body);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
{
    return fuzz_mutate_json(bytes, len, room, seed, words, sizeof(words) / sizeof(words[0]));
}
