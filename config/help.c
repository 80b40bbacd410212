/* help.c - what a person reads about the options. */
#include "config/value.h"

#include <string.h>

enum { HELP_COLUMN = 34, WIDTH = 100 };

static const char *usage(cog_command command)
{
    switch (command) {
    case COG_COMMAND_SERVE:
        return "Usage: cogwheel serve [OPTION]...\n\nServes one checkpoint over HTTP, in the form "
               "of the OpenAI API.\n";
    case COG_COMMAND_CAPTION:
        return "Usage: cogwheel caption [OPTION]... IMAGE|FOLDER...\n\nAsks one question about "
               "many pictures, without a server.\n";
    case COG_COMMAND_INSPECT:
        return "Usage: cogwheel inspect [OPTION]... [FOLDER]\n\nSays what a checkpoint is, what "
               "memory it needs, and whether it will load.\nWithout a folder: the shipped demo "
               "model.\n";
    default:
        return "Usage: cogwheel bench URL [OPTION]...\n       cogwheel bench kernels "
               "[OPTION]...\n\n"
               "Sends requests to any server of the OpenAI API and reports how long answers took; "
               "or\nmeasures this machine's ceilings and each kernel against them (of the options "
               "below,\n--threads, --json and --log-level are for that).\n";
    }
}

/* Prints text into the help column, broken between words. */
static void print_wrapped(FILE *out, const char *text, int column)
{
    while (*text) {
        size_t len = strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + (int)len > WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        column += fprintf(out, "%s%.*s", column > HELP_COLUMN ? " " : "", (int)len, text);
        text += len + strspn(text + len, " ");
    }
    fputc('\n', out);
}

static void add_range(cog_buf *dst, const cog_option *o)
{
    if (o->min == o->max || o->type == COG_OPTION_CHOICE)
        return;
    for (int i = 0; i < 2; i++) {
        cog_buf_puts(dst, i ? " to " : "; ");
        cog_value_format_number(dst, o, i ? o->max : o->min);
    }
}

static void print_option(FILE *out, const cog_option *o, cog_command command)
{
    cog_buf left = { 0 }, text = { 0 };
    cog_config defaults;

    cog_option_defaults(&defaults, command);
    cog_buf_printf(&left, "  --%s%s%s", o->name, o->unit ? " " : "", o->unit ? o->unit : "");
    cog_buf_printf(&text, "%s [", o->help);
    if (o->default_text)
        cog_buf_puts(&text, o->default_text);
    else
        cog_value_format(&text, &defaults, o);
    add_range(&text, o);
    cog_buf_puts(&text, o->type == COG_OPTION_LIST ? "; repeatable]" : "]");

    if (left.len + 2 > HELP_COLUMN)
        fprintf(out, "%s\n%*s", left.data, HELP_COLUMN, "");
    else
        fprintf(out, "%-*s", HELP_COLUMN, left.data);
    print_wrapped(out, text.data, HELP_COLUMN);
    cog_buf_fini(&left);
    cog_buf_fini(&text);
}

void cog_config_help(FILE *out, cog_command command)
{
    const char *group = "";

    fputs(usage(command), out);
    for (int i = 0; i < cog_n_options; i++) {
        const cog_option *o = &cog_options[i];
        if (!(o->commands & command))
            continue;
        if (strcmp(group, o->group) != 0)
            fprintf(out, "\n%s\n", o->group);
        group = o->group;
        print_option(out, o, command);
    }
    fputs("\nConfiguration\n", out);
    fprintf(out, "%-*s", HELP_COLUMN, "  --config FILE");
    print_wrapped(out, "JSON object of the options above, names without hyphens in front",
                  HELP_COLUMN);
    fprintf(out, "%-*s", HELP_COLUMN, "  --print-config");
    print_wrapped(out, "print every value and where it came from, and exit", HELP_COLUMN);
    fprintf(out, "%-*s", HELP_COLUMN, "  --check-config");
    print_wrapped(out, "check all values, and exit", HELP_COLUMN);
    fputs("\nAn option --max-seqs is also read from the environment as COGWHEEL_MAX_SEQS. Flags "
          "beat the\nenvironment, the environment beats the file. --no-NAME turns a switch off. "
          "Sizes: 512MiB,\n4GiB, 2GB. Times: 500ms, 30s, 5min; a bare number is seconds.\n",
          out);
}

void cog_config_print(FILE *out, const cog_config *c)
{
    for (int i = 0; i < cog_n_options; i++) {
        const cog_option *o = &cog_options[i];
        const char *origin = c->own->origin[i];
        cog_buf text = { 0 };

        if (!(o->commands & c->command))
            continue;
        cog_value_format(&text, c, o);
        fprintf(out, "%-22s %-32s %s\n", o->name, text.len ? text.data : "-",
                origin ? origin : "default");
        cog_buf_fini(&text);
    }
}
