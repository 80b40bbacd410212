/* The command line and a configuration file: a refusal names its place, and what is accepted can be
 * written as text and read back. The input: the file and then arguments, between zero bytes; the
 * last byte chooses the command. Slashes become colons, so that no path leads anywhere. */
#include "tests/fuzz/fuzz_json.h"

#include "base/alloc.h"
#include "config/config.h"
#include "config/options.h"
#include "config/value.h"

#include <string.h>

enum { MAX_ARGS = 32 };

static const char *const words[] = {
    "{}",
    "[]",
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "1.5",
    "1e300",
    "\"\"",
    "\"4GiB\"",
    "\"1.5s\"",
    "\"10min\"",
    "\"64kB\"",
    "\"auto\"",
    "\"cpu\"",
    "\"last\"",
    "\"debug\"",
    "[\"a\",\"b\"]",
    "\"model\":\"m\"",
    "\"max-seqs\":8",
    "\"step-tokens\":64",
    "\"kv-cache\":\"1GiB\"",
    "\"listen\":[\"127.0.0.1:0\"]",
    "\"request-timeout\":\"5min\"",
    "\"insecure\":true",
    "\"image-policy\":\"last\"",
    "\"log-level\":\"warn\"",
    "\"max-n\":4",
    "\"kv-block\":64",
    "\"gpu-memory-utilization\":0.5",
    "\"max-image-pixels\":1000000",
};

static bool is_text(const cog_option *o)
{
    return o->type == COG_OPTION_TEXT || o->type == COG_OPTION_LIST;
}

/* Every value, written and read into another configuration, is written the same. */
static void check_values(const cog_config *c)
{
    cog_config other;

    cog_option_defaults(&other, c->command);
    other.own = cog_new(cog_config_own);
    other.own->origin = cog_array(char *, (size_t)cog_n_options);
    for (int i = 0; i < cog_n_options; i++) {
        const cog_option *o = &cog_options[i];
        cog_buf text = { 0 }, again = { 0 };
        cog_err err = { 0 };

        if (!(o->commands & c->command) || is_text(o))
            continue;
        cog_value_format(&text, c, o);
        REQUIRE_SAY(text.len > 0, "%s", o->name);
        REQUIRE_SAY(cog_value_set(&other, o, text.data, &err) == 0, "%s: '%s' %s", o->name,
                    text.data, err.text);
        cog_value_format(&again, &other, o);
        REQUIRE_SAY(strcmp(text.data, again.data) == 0, "%s: '%s' '%s'", o->name, text.data,
                    again.data);
        cog_buf_fini(&text);
        cog_buf_fini(&again);
    }
    cog_config_fini(&other);
}

static void check_loaded(const cog_config *c)
{
    REQUIRE(c->engine.step_tokens >= c->engine.max_seqs);
    REQUIRE((c->engine.block & (c->engine.block - 1)) == 0);
    if (c->command == COG_COMMAND_SERVE)
        REQUIRE(c->server.n_listen > 0 && c->server.n_served_names > 0 && c->n_args == 0);
    check_values(c);
}

static int read_args(char *args[MAX_ARGS], fuzz_cut rest)
{
    fuzz_cut part;
    int n = 0;

    while (n < MAX_ARGS && fuzz_next(&part, &rest, 0))
        args[n++] = cog_strndup((const char *)part.bytes, part.len);
    return n;
}

static uint8_t *without_slashes(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = cog_alloc(len + 1, 1);

    for (size_t i = 0; i < len; i++)
        copy[i] = bytes[i] == '/' ? ':' : bytes[i];
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_tail tail = { bytes, len };
    cog_command command = (cog_command)(1u << fuzz_take(&tail) % 4);
    uint8_t *copy = without_slashes(bytes, tail.len);
    fuzz_cut rest = { copy, tail.len }, file = { copy, 0 };
    char *args[MAX_ARGS + 2];
    cog_err err = { 0 };
    cog_config c = { 0 };
    int n = 2, rc;

    args[0] = cog_strdup("--config");
    args[1] = cog_sprintf("%s/config.json", fuzz_folder());
    fuzz_next(&file, &rest, 0);
    fuzz_write("config.json", file.bytes, file.len);
    n += read_args(args + 2, rest);
    rc = cog_config_load(&c, command, n, args, &err);
    if (rc < 0) {
        fuzz_check_err(rc, &err);
    } else {
        if (c.action != COG_CONFIG_HELP)
            check_loaded(&c);
        cog_config_fini(&c);
    }
    for (int i = 0; i < n; i++)
        cog_free(args[i]);
    cog_free(copy);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
{
    return fuzz_mutate_json(bytes, len, room, seed, words, sizeof(words) / sizeof(words[0]));
}
