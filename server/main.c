/* main.c - the composition root: understands the command line, opens what a subcommand needs and
 * closes it in reverse. Exit codes: 0 done, 1 failed, 2 usage or configuration. */
#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "client/bench.h"
#include "config/config.h"
#include "engine/engine.h"
#include "server/caption.h"
#include "server/picture/decode_child.h"
#include "server/picture_list.h"
#include "server/server.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { OK = 0, FAILED = 1, USAGE = 2 };

static int report(const char *command, const cog_err *err)
{
    fprintf(stderr, "cogwheel %s: %s\n", command, err->text);
    return err->code == COG_EINVAL ? USAGE : FAILED;
}

/* What is not zero here after a drain was lost on the way. */
static void log_stopped(cog_engine *engine)
{
    cog_engine_stats st;

    cog_engine_get_stats(engine, &st);
    cog_log(COG_INFO,
            "event=stopped waiting=%d running=%d kv_pages_used=%d features=%d steps=%llu "
            "tokens=%llu images_encoded=%llu images_shared=%llu preemptions=%llu",
            st.waiting, st.running, st.blocks_used, st.features, (unsigned long long)st.steps,
            (unsigned long long)st.tokens, (unsigned long long)st.images_encoded,
            (unsigned long long)st.images_shared, (unsigned long long)st.preemptions);
}

static int run_serve(const cog_config *cfg)
{
    cog_engine_config engine_config = cfg->engine;
    cog_server_config server_config = cfg->server;
    cog_server *server = NULL;
    cog_engine *engine = NULL;
    cog_err err = { 0 };
    int status;

    /* The listeners come first, so that probes are answered while the model loads. */
    server_config.image_helper =
        "/proc/self/exe"; /* this very program, also when it was replaced */
    if (cog_server_open(&server, &server_config, &err) < 0)
        return report("serve", &err);
    for (int i = 0; cog_server_address(server, i); i++)
        cog_log(COG_INFO,
                cog_server_is_metrics_address(server, i) ? "event=listening address=%s for=metrics"
                                                         : "event=listening address=%s",
                cog_server_address(server, i));
    engine_config.notify = cog_server_wake;
    engine_config.notify_arg = server;
    if (cog_engine_open(&engine, &engine_config, &err) < 0) {
        status = report("serve", &err);
    } else {
        status = cog_server_run(server, engine) == 0 ? OK : FAILED;
        log_stopped(engine);
    }
    cog_engine_close(engine);
    cog_server_close(server);
    return status;
}

static int run_caption(const cog_config *cfg)
{
    cog_err err = { 0 };
    int n_failed = 0;

    if (cog_caption_run(&n_failed, &cfg->engine, &cfg->server.image, &cfg->caption, cfg->args,
                        cfg->n_args, &err) < 0)
        return report("caption", &err);
    return n_failed ? FAILED : OK;
}

static int run_inspect(const cog_config *cfg)
{
    cog_err err = { 0 };

    if (cog_inspect(stdout, cfg->engine.model_dir, cfg->json, &err) < 0) {
        report("inspect", &err);
        return FAILED;
    }
    return OK;
}

static int run_bench_kernels(const cog_config *cfg)
{
    cog_err err = { 0 };

    if (cog_bench_kernels(stdout, cfg->engine.threads, cfg->json, &err) < 0)
        return report("bench", &err);
    return OK;
}

/* Requests to the server at the URL. */
static int run_bench_url(const cog_config *cfg)
{
    cog_bench_options opt = cfg->bench;
    cog_picture_list *list = NULL;
    const char **paths = NULL;
    int n_failed = 0, status = OK;
    cog_err err = { 0 };

    if (cfg->n_images) {
        if (cog_picture_list_new(&list, cfg->images, cfg->n_images, cfg->caption.recursive, &err) <
            0)
            return report("bench", &err);
        opt.n_images = cog_picture_list_count(list);
        paths = cog_array(const char *, (size_t)opt.n_images + 1);
        for (int i = 0; i < opt.n_images; i++)
            paths[i] = cog_picture_list_path(list, i);
        opt.images = paths;
    }
    if (cog_bench_run(&n_failed, stdout, &opt, &err) < 0)
        status = report("bench", &err);
    else if (n_failed)
        status = FAILED;
    cog_picture_list_free(list);
    cog_free(paths);
    return status;
}

static int run_bench(const cog_config *cfg)
{
    if (cfg->n_args != 1) {
        fputs("cogwheel bench: name what to measure: the URL of a server, or 'kernels'\n", stderr);
        return USAGE;
    }
    return strcmp(cfg->args[0], "kernels") == 0 ? run_bench_kernels(cfg) : run_bench_url(cfg);
}

static const struct command {
    const char *name;
    cog_command id;
    int (*run)(const cog_config *cfg);
    const char *summary;
} commands[] = {
    { "serve", COG_COMMAND_SERVE, run_serve, "answer requests over HTTP" },
    { "caption", COG_COMMAND_CAPTION, run_caption, "ask about many pictures, without a server" },
    { "inspect", COG_COMMAND_INSPECT, run_inspect, "describe a checkpoint" },
    { "bench", COG_COMMAND_BENCH, run_bench, "measure a server, or this machine" },
};

static void print_help(FILE *out)
{
    fputs("Usage: cogwheel COMMAND [OPTION]...\n\nAn inference server for CogVLM and CogVLM2.\n\n",
          out);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(out, "  %-10s%s\n", commands[i].name, commands[i].summary);
    fputs("\ncogwheel COMMAND --help lists a command's options; cogwheel --version.\n", out);
}

/* Until the server takes it: the keys are read at the start in any case. */
static void hold_hangup(void)
{
    sigset_t hangup;

    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    sigprocmask(SIG_BLOCK, &hangup, NULL);
}

static int run_command(const struct command *command, int argc, char **argv)
{
    cog_config cfg = { 0 };
    cog_err err = { 0 };
    int status = OK;

    if (command->id == COG_COMMAND_SERVE)
        hold_hangup();
    /* Whatever is wrong with the configuration, also in a file, is for its author to mend. */
    if (cog_config_load(&cfg, command->id, argc, argv, &err) < 0) {
        report(command->name, &err);
        return USAGE;
    }
    cog_log_set_level(cfg.log_level);
    if (command->id == COG_COMMAND_SERVE)
        cog_log_set_form(cfg.log_form);
    switch (cfg.action) {
    case COG_CONFIG_HELP:
        cog_config_help(stdout, command->id);
        break;
    case COG_CONFIG_PRINT:
        cog_config_print(stdout, &cfg);
        break;
    case COG_CONFIG_CHECK:
        puts("the configuration is valid");
        break;
    case COG_CONFIG_RUN:
        status = command->run(&cfg);
        break;
    }
    cog_config_fini(&cfg);
    return status;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (strcmp(name, COG_DECODE_CHILD) == 0)
        return cog_decode_child_main(argc, argv);
    if (strcmp(name, "--version") == 0) {
        puts("cogwheel " COG_VERSION);
        return OK;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return OK;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(name, commands[i].name) == 0)
            return run_command(&commands[i], argc - 2, argv + 2);
    if (*name)
        fprintf(stderr, "cogwheel: unknown command '%.64s'\n", name);
    print_help(stderr);
    return USAGE;
}
