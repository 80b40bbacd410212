/* config.c - collects the values of all sources, weakest first, and completes what no source said.
 */
#include "config/config.h"

#include "base/alloc.h"
#include "config/file.h"
#include "config/value.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One option given on the command line. */
typedef struct given {
    const cog_option *option;
    const char *value;
    char *flag; /* as written: "--no-json" */
} given;

typedef struct command_line {
    given *flags;
    int n_flags;
    const char *config_file; /* NULL: none */
    const char **args;
    int n_args;
    cog_config_action action;
} command_line;

static void command_line_fini(command_line *line)
{
    for (int i = 0; i < line->n_flags; i++)
        cog_free(line->flags[i].flag);
    cog_free(line->flags);
    cog_free((void *)line->args);
}

/* ---------------------------------------------------------------- flags */

static int refuse_unknown(const char *name, size_t len, unsigned command, cog_err *err)
{
    const cog_option *near = cog_option_nearest(name, len, command);
    int shown = len > 64 ? 64 : (int)len;

    if (near)
        return cog_err_set(err, COG_EINVAL, "unknown option '--%.*s'; did you mean '--%s'?", shown,
                           name, near->name);
    return cog_err_set(err, COG_EINVAL, "unknown option '--%.*s'; --help lists them", shown, name);
}

/* The value of a flag that needs one: behind '=' or the next argument. */
static int take_value(const char **value, const char *equals, int *i, int argc, char *const *argv,
                      cog_err *err)
{
    if (equals) {
        *value = equals + 1;
        return 0;
    }
    if (*i + 1 >= argc)
        return cog_err_set(err, COG_EINVAL, "option '%s' needs a value", argv[*i]);
    *value = argv[++*i];
    return 0;
}

/* --print-config and its like, which are no settings. 1: it was one. */
static int take_action(command_line *line, const char *name, size_t len)
{
    static const struct {
        const char *name;
        cog_config_action action;
    } actions[] = {
        { "help", COG_CONFIG_HELP },
        { "print-config", COG_CONFIG_PRINT },
        { "check-config", COG_CONFIG_CHECK },
    };

    for (size_t k = 0; k < sizeof(actions) / sizeof(actions[0]); k++)
        if (strlen(actions[k].name) == len && memcmp(actions[k].name, name, len) == 0) {
            line->action = actions[k].action;
            return 1;
        }
    return 0;
}

static int parse_flag(command_line *line, cog_command command, int *i, int argc, char *const *argv,
                      cog_err *err)
{
    const char *flag = argv[*i], *name = flag + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const cog_option *o;
    const char *value = NULL;
    int rc;

    if (!equals && take_action(line, name, len))
        return 0;
    if (len == 6 && memcmp(name, "config", 6) == 0)
        return take_value(&line->config_file, equals, i, argc, argv, err);

    o = cog_option_find(name, len);
    if (!o && len > 3 && memcmp(name, "no-", 3) == 0) {
        o = cog_option_find(name + 3, len - 3);
        if (!o || o->type != COG_OPTION_BOOL || equals)
            o = NULL;
        value = "false";
    } else if (o && o->type == COG_OPTION_BOOL) {
        value = equals ? equals + 1 : "true";
    } else if (o) {
        rc = take_value(&value, equals, i, argc, argv, err);
        if (rc < 0)
            return rc;
    }
    if (!o || !(o->commands & command))
        return refuse_unknown(name, len, command, err);

    line->flags[line->n_flags++] =
        (given){ .option = o, .value = value, .flag = cog_sprintf("--%.*s", (int)len, name) };
    return 0;
}

static int parse_command_line(command_line *line, cog_command command, int argc, char *const *argv,
                              cog_err *err)
{
    bool only_args = false;
    int rc;

    line->flags = cog_array(given, (size_t)argc + 1);
    line->args = cog_array(const char *, (size_t)argc + 1);
    for (int i = 0; i < argc && line->action != COG_CONFIG_HELP; i++) {
        const char *arg = argv[i];
        if (only_args || arg[0] != '-' || !arg[1]) {
            line->args[line->n_args++] = arg;
        } else if (strcmp(arg, "--") == 0) {
            only_args = true;
        } else if (strcmp(arg, "-h") == 0) {
            line->action = COG_CONFIG_HELP;
        } else if (arg[1] != '-') {
            return cog_err_set(err, COG_EINVAL,
                               "unknown option '%.64s'; options begin with two hyphens", arg);
        } else {
            rc = parse_flag(line, command, &i, argc, argv, err);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- applying values */

/* Takes origin. */
static void set_origin(cog_config *c, const cog_option *o, char *origin)
{
    char **slot = &c->own->origin[o - cog_options];

    cog_free(*slot);
    *slot = origin;
}

static int apply(cog_config *c, const cog_option *o, const char *value, const char *origin,
                 cog_err *err)
{
    cog_err reason = { 0 };

    if (cog_value_set(c, o, value, &reason) < 0)
        return cog_err_set(err, reason.code, "%s: '%.64s%s' %s", origin, value,
                           strlen(value) > 64 ? "..." : "", reason.text);
    set_origin(c, o, cog_strdup(origin));
    return 0;
}

static int apply_file(cog_config *c, const char *path, cog_err *err)
{
    cog_config_file *file = NULL;
    int rc = cog_config_file_open(&file, path, err);

    for (int i = 0; rc == 0 && i < cog_config_file_count(file); i++) {
        const cog_config_entry *e = cog_config_file_entry(file, i);
        char *origin;

        /* One file may serve several commands. */
        if (!(e->option->commands & c->command))
            continue;
        origin = cog_sprintf("'%s' in %s, line %d", e->option->name, path, e->line);
        if (e->option->type == COG_OPTION_LIST)
            cog_value_clear(c, e->option);
        for (int k = 0; rc == 0 && k < e->n_values; k++)
            rc = apply(c, e->option, e->values[k], origin, err);
        cog_free(origin);
    }
    cog_config_file_free(file);
    return rc;
}

static int apply_list(cog_config *c, const cog_option *o, const char *values, const char *origin,
                      cog_err *err)
{
    char *copy = cog_strdup(values), *save = NULL;
    int rc = 0;

    cog_value_clear(c, o);
    for (char *one = strtok_r(copy, ",", &save); rc == 0 && one; one = strtok_r(NULL, ",", &save))
        rc = apply(c, o, one, origin, err);
    cog_free(copy);
    return rc;
}

static int apply_environment(cog_config *c, cog_err *err)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < cog_n_options; i++) {
        const cog_option *o = &cog_options[i];
        char name[96];
        const char *value;

        cog_option_env_name(name, sizeof(name), o);
        value = getenv(name);
        if (!(o->commands & c->command) || !value || !*value)
            continue;
        rc = o->type == COG_OPTION_LIST ? apply_list(c, o, value, name, err)
                                        : apply(c, o, value, name, err);
    }
    return rc;
}

static int apply_flags(cog_config *c, const command_line *line, cog_err *err)
{
    int rc = 0;

    /* The first use of a repeatable flag replaces what weaker sources said. */
    for (int i = 0; i < line->n_flags; i++)
        if (line->flags[i].option->type == COG_OPTION_LIST)
            cog_value_clear(c, line->flags[i].option);
    for (int i = 0; rc == 0 && i < line->n_flags; i++)
        rc = apply(c, line->flags[i].option, line->flags[i].value, line->flags[i].flag, err);
    return rc;
}

/* ---------------------------------------------------------------- what no source said */

/* The demo beside the program: in the source tree (build/cogwheel), installed
 * (bin/cogwheel), or in the current folder. */
static int find_demo(cog_config *c, cog_err *err)
{
    static const char *const places[] = { "/../models/demo", "/../share/cogwheel/models/demo" };
    char exe[4096];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    struct stat st;

    exe[len > 0 ? len : 0] = '\0';
    if (strrchr(exe, '/'))
        *strrchr(exe, '/') = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char *dir = cog_value_keep(c, cog_sprintf("%s%s", exe, places[i]));
        char *real = realpath(dir, NULL);
        if (real) {
            c->engine.model_dir = cog_value_keep(c, cog_strdup(real));
            free(real);
            return 0;
        }
    }
    if (stat("models/demo", &st) == 0) {
        c->engine.model_dir = "models/demo";
        return 0;
    }
    return cog_err_set(err, COG_EINVAL,
                       "no --model, and the demo model is neither beside the program (%s) nor at "
                       "models/demo; give --model DIR",
                       exe);
}

/* The last name in a path; "model" for a root. */
static char *folder_name(const char *path)
{
    char *real = realpath(path, NULL);
    const char *full = real ? real : path;
    const char *slash = strrchr(full, '/');
    const char *name = slash ? slash + 1 : full;
    char *copy = cog_strdup(*name ? name : "model");

    free(real);
    return copy;
}

static void append_default(cog_config *c, const char *option, const char *value)
{
    const cog_option *o = cog_option_find(option, strlen(option));
    cog_err unused;

    cog_value_set(c, o, value, &unused);
}

/* What bench shares with caption, and the key that needs no file. */
static void complete_bench(cog_config *c)
{
    const char *key = getenv("OPENAI_API_KEY");

    c->bench.url = c->n_args ? c->args[0] : NULL;
    c->bench.prompt = c->caption.prompt;
    c->bench.max_tokens = c->caption.max_tokens;
    c->bench.temperature = c->caption.sampling.temperature;
    c->bench.seed = c->caption.sampling.seed;
    c->bench.json = c->json;
    c->bench.api_key = key && *key ? key : NULL;
}

static int complete(cog_config *c, cog_err *err)
{
    int rc;

    c->caption.json = c->json;
    if (c->command & (COG_COMMAND_SERVE | COG_COMMAND_CAPTION) && !c->engine.model_dir) {
        rc = find_demo(c, err);
        if (rc < 0)
            return rc;
    }
    if (c->command == COG_COMMAND_INSPECT) {
        if (c->n_args)
            c->engine.model_dir = c->args[0];
        else if (find_demo(c, err) < 0)
            return err->code;
    }
    if (c->command == COG_COMMAND_BENCH)
        complete_bench(c);
    if (c->command != COG_COMMAND_SERVE)
        return 0;
    if (c->server.n_listen == 0)
        append_default(c, "listen", "127.0.0.1:8000");
    if (c->server.n_served_names == 0) {
        char *name = folder_name(c->engine.model_dir);
        append_default(c, "served-model-name", name);
        cog_free(name);
    }
    if (c->server.api_key_file && cog_server_check_keys(c->server.api_key_file, err) < 0) {
        cog_err_prefix(err, "--api-key-file");
        return err->code;
    }
    return 0;
}

/* ---------------------------------------------------------------- */

/* What no single option can know. */
static int check_together(const cog_config *c, cog_err *err)
{
    const cog_engine_config *e = &c->engine;
    const cog_server_config *s = &c->server;

    if (e->step_tokens < e->max_seqs)
        return cog_err_set(err, COG_EINVAL,
                           "--step-tokens (%d) must not be below --max-seqs (%d): every answer "
                           "takes a token of each step",
                           e->step_tokens, e->max_seqs);
    if (e->block & (e->block - 1))
        return cog_err_set(err, COG_EINVAL,
                           "--kv-block: %d is no power of two; give 16, 32, 64, 128 or 256",
                           e->block);
    if (c->command == COG_COMMAND_SERVE && s->max_inflight_bytes < s->max_body_bytes)
        return cog_err_set(err, COG_EINVAL,
                           "--max-inflight-bytes (%zu) must not be below --max-body-bytes (%zu): "
                           "the largest request would never find room",
                           s->max_inflight_bytes, s->max_body_bytes);
    return 0;
}

static int check_args(const cog_config *c, cog_err *err)
{
    switch (c->command) {
    case COG_COMMAND_SERVE:
        if (c->n_args > 0)
            return cog_err_set(err, COG_EINVAL, "serve takes options only, not '%.64s'",
                               c->args[0]);
        return 0;
    case COG_COMMAND_CAPTION:
        if (c->n_args == 0 && c->action == COG_CONFIG_RUN)
            return cog_err_set(err, COG_EINVAL, "name at least one picture or folder of pictures");
        return 0;
    case COG_COMMAND_INSPECT:
        if (c->n_args > 1)
            return cog_err_set(err, COG_EINVAL, "inspect takes one folder, not also '%.64s'",
                               c->args[1]);
        return 0;
    default:
        return 0;
    }
}

int cog_config_load(cog_config *out, cog_command command, int argc, char *const *argv, cog_err *err)
{
    command_line line = { 0 };
    cog_config c;
    int rc;

    cog_option_defaults(&c, command);
    c.own = cog_new(cog_config_own);
    c.own->origin = cog_array(char *, (size_t)cog_n_options);
    rc = parse_command_line(&line, command, argc, argv, err);
    c.action = line.action;
    if (rc < 0 || c.action == COG_CONFIG_HELP)
        goto done;
    c.args = cog_value_keep(&c, (void *)line.args);
    c.n_args = line.n_args;
    line.args = NULL;

    if (!line.config_file && getenv("COGWHEEL_CONFIG") && *getenv("COGWHEEL_CONFIG"))
        line.config_file = getenv("COGWHEEL_CONFIG");
    if (line.config_file)
        rc = apply_file(&c, line.config_file, err);
    if (rc == 0)
        rc = apply_environment(&c, err);
    if (rc == 0)
        rc = apply_flags(&c, &line, err);
    if (rc == 0)
        rc = check_together(&c, err);
    if (rc == 0)
        rc = check_args(&c, err);
    if (rc == 0)
        rc = complete(&c, err);

done:
    command_line_fini(&line);
    if (rc == 0)
        *out = c;
    else
        cog_config_fini(&c);
    return rc;
}

void cog_config_fini(cog_config *c)
{
    cog_config_own *own = c->own;

    if (!own)
        return;
    for (int i = 0; i < own->n_blocks; i++)
        cog_free(own->block[i]);
    for (int i = 0; i < cog_n_options; i++)
        cog_free(own->origin[i]);
    cog_free(own->block);
    cog_free(own->origin);
    cog_free(own);
    c->own = NULL;
}
