/* config.h - everything a person can set, from the command line, the environment and a file.
 *
 * One table (options.c) states each option's name, meaning, range, unit and the field it fills; the
 * four sources, --help and --print-config are all driven by it. Flags beat the environment
 * (COGWHEEL_MAX_SEQS) beats the file (--config, JSON) beats the default. Defaults are those of
 * cog_engine_defaults, cog_server_defaults, cog_caption_defaults and cog_bench_defaults. The main
 * thread only. */
#ifndef COG_CONFIG_CONFIG_H
#define COG_CONFIG_CONFIG_H

#include "base/err.h"
#include "base/log.h"
#include "client/bench.h"
#include "engine/engine.h"
#include "server/caption.h"
#include "server/server.h"

#include <stdbool.h>
#include <stdio.h>

typedef enum cog_command {
    COG_COMMAND_SERVE = 1,
    COG_COMMAND_CAPTION = 2,
    COG_COMMAND_INSPECT = 4,
    COG_COMMAND_BENCH = 8,
} cog_command;

typedef enum cog_config_action {
    COG_CONFIG_RUN,
    COG_CONFIG_HELP,  /* --help was given; nothing else was read */
    COG_CONFIG_PRINT, /* --print-config */
    COG_CONFIG_CHECK, /* --check-config */
} cog_config_action;

typedef struct cog_config_own cog_config_own;

typedef struct cog_config {
    cog_config_action action;
    cog_command command;
    cog_engine_config engine; /* notify and on_logits are left to the caller */
    cog_server_config server;
    cog_caption_options caption;
    cog_bench_options bench;   /* what it shares with caption (prompt, seed) is in caption */
    const char *const *images; /* of bench, files and folders */
    int n_images;
    cog_log_level log_level;
    cog_log_form log_form;   /* of serve */
    bool json;               /* of inspect and bench; caption has its own */
    const char *const *args; /* what is no option, in order */
    int n_args;
    cog_config_own
        *own; /* strings and arrays the fields above borrow, and where values came from */
} cog_config;

/* Reads all sources and checks every value. argv holds what follows the subcommand. COG_EINVAL for
 * a usage error, COG_EIO and COG_EFORMAT for a file: the message names the option, where the value
 * came from, the value and what would be right. out is filled on success only. */
int cog_config_load(cog_config *out, cog_command command, int argc, char *const *argv,
                    cog_err *err);
void cog_config_fini(cog_config *c); /* zero-initialised is fine */

/* The command's options with defaults and ranges. */
void cog_config_help(FILE *out, cog_command command);

/* Every option of the command, its value and where it came from. Keys are never among them. */
void cog_config_print(FILE *out, const cog_config *c);

#endif
