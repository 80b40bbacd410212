/* The logger's two forms: what is written, and that nothing a client sends can break a line. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/utf8.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static FILE *captured;
static int saved;

static void capture(cog_log_form form)
{
    cog_log_set_form(form);
    captured = tmpfile();
    assert_non_null(captured);
    fflush(stderr);
    saved = dup(STDERR_FILENO);
    dup2(fileno(captured), STDERR_FILENO);
}

/* What was written since. Owned by the caller. */
static char *written(void)
{
    char *text = cog_alloc(1 << 16, 1);
    size_t n;

    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(captured);
    n = fread(text, 1, (1 << 16) - 1, captured);
    text[n] = '\0';
    fclose(captured);
    cog_log_set_form(COG_LOG_TEXT);
    return text;
}

/* The one line written, as an object. */
static json_t *written_object(void)
{
    char *text = written();
    json_error_t error;
    json_t *root;

    assert_true(strlen(text) > 0 && text[strlen(text) - 1] == '\n');
    assert_true(strchr(text, '\n') == text + strlen(text) - 1);
    root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        fail_msg("%s in %s", error.text, text);
    cog_free(text);
    return root;
}

static const char *string_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static void text_lines_stay_as_they_were(void **state)
{
    char *text;

    capture(COG_LOG_TEXT);
    cog_log(COG_WARN, "event=thing id=%s n=%d why=\"%s\"", "a", 5, "x y");
    text = written();
    assert_true(strncmp(text, "ts=20", 5) == 0);
    assert_string_equal(strstr(text, " level="), " level=warn event=thing id=a n=5 why=\"x y\"\n");
    cog_free(text);
}

static void a_format_becomes_typed_json(void **state)
{
    json_t *o;

    capture(COG_LOG_JSON);
    cog_log(COG_INFO, "event=thing id=%s n=%d big=%llu part=%.2f hex=%x text=\"%s\" mixed=%d/%d",
            "123", -5, 9007199254740993ull, 0.25, 255, "a=b c=d", 1, 2);
    o = written_object();
    assert_string_equal(string_of(o, "level"), "info");
    assert_string_equal(string_of(o, "event"), "thing");
    assert_string_equal(string_of(o, "id"), "123");
    assert_int_equal(json_integer_value(json_object_get(o, "n")), -5);
    assert_true(json_integer_value(json_object_get(o, "big")) == 9007199254740993);
    assert_true(json_real_value(json_object_get(o, "part")) == 0.25);
    assert_string_equal(string_of(o, "hex"), "ff");
    assert_string_equal(string_of(o, "text"), "a=b c=d");
    assert_string_equal(string_of(o, "mixed"), "1/2");
    assert_null(json_object_get(o, "c"));
    json_decref(o);
}

static void quoted_text_comes_back_whole(void **state)
{
    static const char nasty[] = "a \"b\" \\ c\n\x01 d=e ü";
    char quoted[100];
    json_t *o;

    capture(COG_LOG_JSON);
    cog_log(COG_INFO, "event=thing text=%s tail=%d", cog_log_quote(quoted, sizeof(quoted), nasty),
            7);
    o = written_object();
    assert_string_equal(string_of(o, "text"), nasty);
    assert_int_equal(json_integer_value(json_object_get(o, "tail")), 7);
    json_decref(o);
}

static void loose_words_belong_to_the_value_before(void **state)
{
    json_t *o;

    capture(COG_LOG_JSON);
    cog_log(COG_INFO, "event=replay_off rows=%d reason=\"%s\": steps are slower", 3, "no");
    o = written_object();
    assert_int_equal(json_integer_value(json_object_get(o, "rows")), 3);
    assert_string_equal(string_of(o, "reason"), "\"no\": steps are slower");
    json_decref(o);
}

static void not_a_number_is_a_string(void **state)
{
    json_t *o;

    capture(COG_LOG_JSON);
    cog_log(COG_INFO, "event=thing a=%f b=%g", __builtin_nan(""), __builtin_inf());
    o = written_object();
    assert_true(json_is_string(json_object_get(o, "a")) && json_is_string(json_object_get(o, "b")));
    json_decref(o);
}

static void write_fields(void)
{
    cog_log_line l;

    cog_log_begin(&l, COG_INFO, "request");
    cog_log_text(&l, "id", "42");
    cog_log_text(&l, "path", "/a b\"\xff\n");
    cog_log_text(&l, "none", NULL);
    cog_log_text(&l, "empty", "");
    cog_log_int(&l, "zero", 0);
    cog_log_ms(&l, "wait_ms", 1250000);
    cog_log_ms(&l, "no_ms", 0);
    cog_log_end(&l);
}

static void fields_in_both_forms(void **state)
{
    char *text;
    json_t *o;

    capture(COG_LOG_TEXT);
    write_fields();
    text = written();
    assert_string_equal(strstr(text, " event="),
                        " event=request id=42 path=\"/a b\\\"\xff\\x0a\" zero=0 wait_ms=1.2\n");
    cog_free(text);
    capture(COG_LOG_JSON);
    write_fields();
    o = written_object();
    assert_string_equal(string_of(o, "id"), "42");
    assert_string_equal(string_of(o, "path"), "/a b\"\xef\xbf\xbd\n");
    assert_int_equal(json_object_size(o), 7);
    assert_true(json_real_value(json_object_get(o, "wait_ms")) == 1.2);
    json_decref(o);
}

/* Values of every byte and length; the line must parse and hold what came before it was full. */
static void hostile_values_cannot_break_a_line(void **state)
{
    char value[3000];

    srand(7);
    for (int turn = 0; turn < 300; turn++) {
        size_t len = (size_t)rand() % sizeof(value);
        cog_log_line l;
        json_t *o;

        for (size_t i = 0; i < len; i++)
            value[i] = (char)(1 + rand() % 255);
        value[len ? len - 1 : 0] = '\0';
        capture(COG_LOG_JSON);
        cog_log_begin(&l, COG_ERROR, "request");
        for (int i = 0; i < 20; i++) {
            char key[8];
            snprintf(key, sizeof(key), "k%d", i);
            cog_log_text(&l, key, value);
        }
        cog_log_end(&l);
        o = written_object();
        assert_string_equal(string_of(o, "event"), "request");
        assert_true(len < 2 || strlen(string_of(o, "k0")) > 0);
        json_decref(o);
    }
}

static void the_level_holds_in_both_ways(void **state)
{
    cog_log_line l;
    char *text;

    capture(COG_LOG_TEXT);
    cog_log(COG_DEBUG, "event=thing");
    cog_log_begin(&l, COG_DEBUG, "thing");
    cog_log_text(&l, "a", "b");
    cog_log_int(&l, "c", 1);
    cog_log_ms(&l, "d", 1000000);
    cog_log_end(&l);
    text = written();
    assert_string_equal(text, "");
    cog_free(text);
}

static void auto_is_json_where_nobody_looks(void **state)
{
    json_t *o;

    capture(COG_LOG_TEXT);
    cog_log_set_form(COG_LOG_AUTO); /* standard error is a file now */
    cog_log(COG_INFO, "event=thing");
    o = written_object();
    assert_string_equal(string_of(o, "event"), "thing");
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines_stay_as_they_were),
        cmocka_unit_test(a_format_becomes_typed_json),
        cmocka_unit_test(quoted_text_comes_back_whole),
        cmocka_unit_test(loose_words_belong_to_the_value_before),
        cmocka_unit_test(not_a_number_is_a_string),
        cmocka_unit_test(fields_in_both_forms),
        cmocka_unit_test(hostile_values_cannot_break_a_line),
        cmocka_unit_test(the_level_holds_in_both_ways),
        cmocka_unit_test(auto_is_json_where_nobody_looks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
