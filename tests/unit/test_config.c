#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "config/config.h"
#include "config/options.h"
#include "config/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "test_config_XXXXXX";

static int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    return rmdir(dir);
}

/* The path of a file with this content, in storage that the next call reuses. */
static const char *write_file(const char *content)
{
    static char path[64];
    FILE *f;

    snprintf(path, sizeof(path), "%s/file", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(content, f);
    fclose(f);
    return path;
}

static int load_as(cog_config *c, cog_command command, cog_err *err, const char *const *argv)
{
    int argc = 0;

    while (argv[argc])
        argc++;
    return cog_config_load(c, command, argc, (char *const *)argv, err);
}

#define LOAD(c, err, ...) \
    load_as(c, COG_COMMAND_SERVE, err, (const char *const[]){ "--model", ".", __VA_ARGS__, NULL })

static void expect_error(int code, const char *text, const char *const *argv)
{
    cog_config c = { 0 };
    cog_err err = { 0 };

    assert_int_equal(load_as(&c, COG_COMMAND_SERVE, &err, argv), code);
    assert_int_equal(err.code, code);
    if (!strstr(err.text, text))
        fail_msg("'%s' is not in '%s'", text, err.text);
}

#define REFUSED(code, text, ...) \
    expect_error(code, text, (const char *const[]){ __VA_ARGS__, NULL })

static void defaults_are_those_of_the_modules(void **state)
{
    cog_config c = { 0 };
    cog_err err;

    assert_int_equal(LOAD(&c, &err, "--log-level", "info"), 0);
    assert_int_equal(c.action, COG_CONFIG_RUN);
    assert_int_equal(c.engine.max_seqs, cog_engine_defaults.max_seqs);
    assert_int_equal(c.server.max_body_bytes, cog_server_defaults.max_body_bytes);
    assert_int_equal(c.server.watchdog_ms, cog_server_defaults.watchdog_ms);
    assert_int_equal(c.server.image.max_pixels, cog_image_defaults.max_pixels);
    assert_int_equal(c.server.n_listen, 1);
    assert_string_equal(c.server.listen[0], "127.0.0.1:8000");
    assert_int_equal(c.server.n_served_names, 1);
    cog_config_fini(&c);
}

static void flag_beats_environment_beats_file(void **state)
{
    const char *path = write_file("{\"max-seqs\": 3, \"max-queue\": 4, \"max-n\": 5}");
    cog_config c = { 0 };
    cog_err err;

    setenv("COGWHEEL_MAX_SEQS", "6", 1);
    setenv("COGWHEEL_MAX_QUEUE", "7", 1);
    setenv("COGWHEEL_MAX_N", "", 1); /* empty is unset */
    assert_int_equal(LOAD(&c, &err, "--config", path, "--max-seqs=8"), 0);
    assert_int_equal(c.engine.max_seqs, 8);
    assert_int_equal(c.engine.max_queue, 7);
    assert_int_equal(c.server.max_n, 5);
    cog_config_fini(&c);

    setenv("COGWHEEL_CONFIG", path, 1);
    assert_int_equal(LOAD(&c, &err, "--max-seqs", "9"), 0);
    assert_int_equal(c.server.max_n, 5);
    cog_config_fini(&c);
    unsetenv("COGWHEEL_CONFIG");
    unsetenv("COGWHEEL_MAX_SEQS");
    unsetenv("COGWHEEL_MAX_QUEUE");
    unsetenv("COGWHEEL_MAX_N");
    unlink(path);
}

static void lists_replace_weaker_sources(void **state)
{
    const char *path =
        write_file("{\"listen\": [\"a:1\", \"b:2\"], \"served-model-name\": \"one\"}");
    cog_config c = { 0 };
    cog_err err;

    assert_int_equal(LOAD(&c, &err, "--config", path), 0);
    assert_int_equal(c.server.n_listen, 2);
    assert_string_equal(c.server.listen[1], "b:2");
    assert_string_equal(c.server.served_names[0], "one");
    cog_config_fini(&c);

    setenv("COGWHEEL_LISTEN", "c:3,d:4,e:5", 1);
    assert_int_equal(LOAD(&c, &err, "--config", path), 0);
    assert_int_equal(c.server.n_listen, 3);
    assert_string_equal(c.server.listen[2], "e:5");
    cog_config_fini(&c);

    assert_int_equal(LOAD(&c, &err, "--listen", "f:6", "--listen=unix:g"), 0);
    assert_int_equal(c.server.n_listen, 2);
    assert_string_equal(c.server.listen[0], "f:6");
    assert_string_equal(c.server.listen[1], "unix:g");
    cog_config_fini(&c);
    unsetenv("COGWHEEL_LISTEN");
    unlink(path);
}

static void units_are_understood(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } size[] = {
        { "0", 0 },
        { "4096", 4096 },
        { "64KiB", 65536 },
        { "1.5GiB", 1610612736 },
        { "2GB", 2000000000 },
        { "1TiB", 1099511627776 },
    };
    static const struct {
        const char *text;
        int ms;
    } time[] = {
        { "0", 0 },         { "7", 7000 },    { "2.5", 2500 },   { "500ms", 500 }, { "30s", 30000 },
        { "5min", 300000 }, { "5m", 300000 }, { "1h", 3600000 }, { "0.25s", 250 },
    };
    cog_config c = { 0 };
    cog_err err;

    for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
        assert_int_equal(LOAD(&c, &err, "--kv-cache", size[i].text), 0);
        assert_int_equal(c.engine.kv_bytes, size[i].bytes);
        cog_config_fini(&c);
    }
    for (size_t i = 0; i < sizeof(time) / sizeof(time[0]); i++) {
        assert_int_equal(LOAD(&c, &err, "--drain-delay", time[i].text), 0);
        assert_int_equal(c.server.drain_delay_ms, time[i].ms);
        cog_config_fini(&c);
    }
}

static void switches_and_choices(void **state)
{
    cog_config c = { 0 };
    cog_err err;

    setenv("COGWHEEL_ANY_MODEL", "1", 1);
    assert_int_equal(LOAD(&c, &err, "--insecure", "--no-any-model", "--strict-parameters=true",
                          "--image-policy", "last", "--max-tokens-overflow", "reject",
                          "--template-version", "base", "--alpha", "drop", "--exif", "ignore",
                          "--backend", "cpu", "--log-level", "debug"),
                     0);
    assert_true(c.server.insecure);
    assert_false(c.server.any_model);
    assert_true(c.server.strict_parameters);
    assert_true(c.server.image_policy_last);
    assert_true(c.server.reject_overflow);
    assert_int_equal(c.server.default_template, COG_TEMPLATE_BASE);
    assert_true(c.server.image.drop_alpha);
    assert_true(c.server.image.ignore_exif);
    assert_string_equal(c.engine.backend, "cpu");
    assert_int_equal(c.log_level, COG_DEBUG);
    cog_config_fini(&c);
    unsetenv("COGWHEEL_ANY_MODEL");
}

static void wrong_values_are_refused_with_the_reason(void **state)
{
    REFUSED(COG_EINVAL, "--max-seqs: '0' is below the range; give 1 to 1024", "--max-seqs", "0");
    REFUSED(COG_EINVAL, "--max-seqs: '1025' is above the range", "--max-seqs=1025");
    REFUSED(COG_EINVAL, "'many' is no number", "--max-seqs", "many");
    REFUSED(COG_EINVAL, "'1.5' is no whole number", "--max-seqs", "1.5");
    REFUSED(COG_EINVAL, "'0x10' is no number", "--max-seqs", "0x10");
    REFUSED(COG_EINVAL, "'12 ' is no number", "--max-seqs", "12 ");
    REFUSED(COG_EINVAL, "'nan' is no size", "--kv-cache", "nan");
    REFUSED(COG_EINVAL, "'4XiB' has an unknown unit; known are B, KiB", "--kv-cache", "4XiB");
    REFUSED(COG_EINVAL, "'1e400' is no size", "--kv-cache", "1e400");
    REFUSED(COG_EINVAL, "give 0 to 64TiB", "--kv-cache=65TiB");
    REFUSED(COG_EINVAL, "give 0 to 1h", "--drain-delay", "2h");
    REFUSED(COG_EINVAL, "'3d' has an unknown unit; known are ms", "--drain-delay", "3d");
    REFUSED(COG_EINVAL, "'0.1ms' is no whole number of milliseconds", "--drain-delay", "0.1ms");
    REFUSED(COG_EINVAL, "'gpu' is none of auto|cpu", "--backend", "gpu");
    REFUSED(COG_EINVAL, "'auto|cpu' is none of", "--backend", "auto|cpu");
    REFUSED(COG_EINVAL, "'maybe' is neither true nor false", "--insecure=maybe");
    REFUSED(COG_EINVAL, "--model: '' is empty", "--model=");
    REFUSED(COG_EINVAL, "--step-tokens (31) must not be below --max-seqs (32)", "--model=.",
            "--step-tokens=31");
    REFUSED(COG_EINVAL, "--max-inflight-bytes (33554431) must not be below --max-body-bytes",
            "--model=.", "--max-inflight-bytes=33554431");
    REFUSED(COG_EINVAL, "--kv-block: 48 is no power of two", "--model=.", "--kv-block=48");
    REFUSED(COG_EINVAL, "option '--max-seqs' needs a value", "--max-seqs");
}

static void unknown_options_suggest_the_nearest(void **state)
{
    REFUSED(COG_EINVAL, "unknown option '--max-seq'; did you mean '--max-seqs'?", "--max-seq", "2");
    REFUSED(COG_EINVAL, "did you mean '--listen'?", "--lisen=x");
    REFUSED(COG_EINVAL, "did you mean '--api-key-file'?", "--api-key", "secret");
    REFUSED(COG_EINVAL, "unknown option '--frobnicate'; --help lists them", "--frobnicate");
    REFUSED(COG_EINVAL, "unknown option '--no-max-seqs'", "--no-max-seqs");
    REFUSED(COG_EINVAL, "options begin with two hyphens", "-m", "x");
    REFUSED(COG_EINVAL, "serve takes options only, not 'stray'", "--model", ".", "stray");
    /* caption's option is none of serve's */
    REFUSED(COG_EINVAL, "unknown option '--prompt'", "--prompt", "x");
}

static void environment_errors_name_the_variable(void **state)
{
    setenv("COGWHEEL_MAX_SEQS", "lots", 1);
    REFUSED(COG_EINVAL, "COGWHEEL_MAX_SEQS: 'lots' is no number", "--model", ".");
    unsetenv("COGWHEEL_MAX_SEQS");
}

static void refuse_file(int code, const char *content, const char *text)
{
    const char *path = write_file(content);

    REFUSED(code, text, "--model", ".", "--config", path);
    unlink(path);
}

static void file_errors_name_the_line(void **state)
{
    refuse_file(COG_EFORMAT, "{\n  \"max-seqs\": 2,\n  \"max-sequs\": 3\n}",
                "line 3: unknown option 'max-sequs'; did you mean 'max-seqs'?");
    refuse_file(COG_EFORMAT, "{\n\"max-seqs\": 2\n\"max-n\": 3}", "line 3");
    refuse_file(COG_EFORMAT, "", "line 1");
    refuse_file(COG_EFORMAT, "[]", "must be a JSON object");
    refuse_file(COG_EFORMAT, "{\"max-seqs\": 2, \"max-seqs\": 3}", "line 1");
    refuse_file(COG_EFORMAT, "{\"any-model\": 1}", "'any-model' must be true or false");
    refuse_file(COG_EFORMAT, "{\"max-seqs\": true}", "'max-seqs' must be a string or a number");
    refuse_file(COG_EFORMAT, "{\"max-seqs\": null}", "'max-seqs' must be a string or a number");
    refuse_file(COG_EFORMAT, "{\"listen\": [1]}", "'listen' must be a list of strings");
    refuse_file(COG_EFORMAT, "{\"listen\": {}}", "'listen' must be a list of strings");
    refuse_file(COG_EINVAL, "{\n\n\"max-seqs\": 0}", "line 3: '0' is below the range");
    REFUSED(COG_EIO, "cannot open nowhere/to/be/found", "--config", "nowhere/to/be/found");
    REFUSED(COG_EIO, "cannot read .", "--config", ".");
}

static void file_may_hold_options_of_other_commands(void **state)
{
    const char *path =
        write_file("{\"listen\": \"x:1\", \"max-seqs\": \"2\", \"prompt\": \"Why?\"}");
    cog_config c = { 0 };
    cog_err err;

    assert_int_equal(load_as(&c, COG_COMMAND_CAPTION, &err,
                             (const char *const[]){ "--config", path, "--model=.", "a.jpg", "--",
                                                    "--b.jpg", NULL }),
                     0);
    assert_int_equal(c.engine.max_seqs, 2);
    assert_string_equal(c.caption.prompt, "Why?");
    assert_int_equal(c.n_args, 2);
    assert_string_equal(c.args[1], "--b.jpg");
    cog_config_fini(&c);
    unlink(path);
}

static void keys_come_from_a_file_and_stay_secret(void **state)
{
    const char *path = write_file("  \nsk-one\r\nsk-two\n\n");
    cog_config c = { 0 };
    cog_err err;
    char *text = NULL;
    size_t len;
    FILE *f;

    assert_int_equal(LOAD(&c, &err, "--api-key-file", path, "--print-config"), 0);
    assert_int_equal(c.action, COG_CONFIG_PRINT);
    assert_string_equal(c.server.api_key_file, path);
    f = open_memstream(&text, &len);
    cog_config_print(f, &c);
    fclose(f);
    assert_null(strstr(text, "sk-"));
    assert_non_null(strstr(text, path));
    free(text);
    cog_config_fini(&c);

    path = write_file("\n\n");
    REFUSED(COG_EFORMAT, "holds no key", "--model=.", "--api-key-file", path);
    path = write_file("good\nsecret key\n");
    expect_error(COG_EFORMAT, "line 2",
                 (const char *const[]){ "--model=.", "--api-key-file", path, NULL });
    unlink(path);
    REFUSED(COG_EIO, "cannot open", "--model=.", "--api-key-file", path);
}

static void print_config_names_value_and_origin(void **state)
{
    const char *path = write_file("{\n\"max-n\": 5}");
    cog_config c = { 0 };
    cog_err err;
    char *text = NULL, *line;
    size_t len;
    FILE *f;

    setenv("COGWHEEL_MAX_QUEUE", "7", 1);
    assert_int_equal(LOAD(&c, &err, "--config", path, "--kv-cache=1536MiB", "--print-config"), 0);
    f = open_memstream(&text, &len);
    cog_config_print(f, &c);
    fclose(f);
    line = strstr(text, "\nmax-n ");
    assert_non_null(line);
    assert_non_null(strstr(line, "line 2\n"));
    line = strstr(text, "\nmax-queue ");
    assert_non_null(line);
    assert_int_equal(strcspn(line + 1, "\n"), strstr(line, "COGWHEEL_MAX_QUEUE") - line - 1 + 18);
    assert_non_null(strstr(text, "1536MiB"));
    assert_non_null(strstr(text, "--kv-cache\n"));
    assert_non_null(strstr(text, "default\n"));
    free(text);
    cog_config_fini(&c);
    unsetenv("COGWHEEL_MAX_QUEUE");
    unlink(path);
}

static void help_comes_before_everything(void **state)
{
    cog_config c = { 0 };
    cog_err err;

    assert_int_equal(load_as(&c, COG_COMMAND_CAPTION, &err,
                             (const char *const[]){ "--help", "--nonsense", NULL }),
                     0);
    assert_int_equal(c.action, COG_CONFIG_HELP);
    cog_config_fini(&c);
}

static void help_lists_every_option_with_default_and_range(void **state)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    cog_config_help(f, COG_COMMAND_SERVE);
    fclose(f);
    for (int i = 0; i < cog_n_options; i++) {
        char flag[64];
        snprintf(flag, sizeof(flag), "  --%s ", cog_options[i].name);
        assert_int_equal(strstr(text, flag) != NULL,
                         (cog_options[i].commands & COG_COMMAND_SERVE) != 0);
    }
    assert_non_null(strstr(text, "127.0.0.1:8000; repeatable]"));
    assert_non_null(strstr(text, "; 1 to 1024]"));
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 100);
    free(text);
}

static void the_table_is_sound(void **state)
{
    for (int i = 0; i < cog_n_options; i++) {
        const cog_option *o = &cog_options[i];
        cog_config c;
        cog_buf text = { 0 };
        cog_err err = { 0 };

        assert_true(o->name[0] && o->help[0] && o->commands);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(o->name, cog_options[k].name);
        /* Every default is a value that the option itself accepts and keeps. */
        cog_option_defaults(&c, COG_COMMAND_SERVE);
        c.own = cog_new(cog_config_own);
        c.own->origin = cog_array(char *, (size_t)cog_n_options);
        cog_value_format(&text, &c, o);
        if (text.len) {
            cog_buf again = { 0 };
            if (o->type == COG_OPTION_LIST)
                cog_value_clear(&c, o);
            if (cog_value_set(&c, o, text.data, &err) < 0)
                fail_msg("default of --%s: '%s' %s", o->name, text.data, err.text);
            cog_value_format(&again, &c, o);
            assert_string_equal(again.data, text.data);
            cog_buf_fini(&again);
        }
        cog_buf_fini(&text);
        cog_config_fini(&c);
    }
}

/* config/example.json shows every option of serve that has a default of its own. */
static void the_example_shows_the_defaults(void **state)
{
    const char *root = getenv("COG_SOURCE_ROOT");
    char *path = cog_sprintf("%s/config/example.json", root ? root : ".");
    cog_config c = { 0 }, defaults;
    cog_err err = { 0 };

    cog_option_defaults(&defaults, COG_COMMAND_SERVE);
    if (LOAD(&c, &err, "--config", path) < 0)
        fail_msg("%s", err.text);
    cog_free(path);
    for (int i = 0; i < cog_n_options; i++) {
        const cog_option *o = &cog_options[i];
        cog_buf shown = { 0 }, wanted = { 0 };

        if (!(o->commands & COG_COMMAND_SERVE) || o->default_text)
            continue;
        if (!c.own->origin[i])
            fail_msg("'%s' is missing", o->name);
        cog_value_format(&shown, &c, o);
        cog_value_format(&wanted, &defaults, o);
        if (strcmp(shown.data, wanted.data) != 0)
            fail_msg("'%s' is %s, its default %s", o->name, shown.data, wanted.data);
        cog_buf_fini(&shown);
        cog_buf_fini(&wanted);
    }
    cog_config_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_modules),
        cmocka_unit_test(flag_beats_environment_beats_file),
        cmocka_unit_test(lists_replace_weaker_sources),
        cmocka_unit_test(units_are_understood),
        cmocka_unit_test(switches_and_choices),
        cmocka_unit_test(wrong_values_are_refused_with_the_reason),
        cmocka_unit_test(unknown_options_suggest_the_nearest),
        cmocka_unit_test(environment_errors_name_the_variable),
        cmocka_unit_test(file_errors_name_the_line),
        cmocka_unit_test(file_may_hold_options_of_other_commands),
        cmocka_unit_test(keys_come_from_a_file_and_stay_secret),
        cmocka_unit_test(print_config_names_value_and_origin),
        cmocka_unit_test(help_comes_before_everything),
        cmocka_unit_test(help_lists_every_option_with_default_and_range),
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(the_example_shows_the_defaults),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
