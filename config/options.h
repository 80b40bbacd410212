/* options.h - the table of options. Private to config/. */
#ifndef COG_CONFIG_OPTIONS_H
#define COG_CONFIG_OPTIONS_H

#include "config/config.h"

#include <stddef.h>

typedef enum cog_option_type {
    COG_OPTION_TEXT,   /* const char * */
    COG_OPTION_LIST,   /* const char *const * and an int at count_offset; repeatable */
    COG_OPTION_BOOL,   /* bool */
    COG_OPTION_INT,    /* int */
    COG_OPTION_SIZE,   /* unsigned, 64 bits; bytes, written with units */
    COG_OPTION_COUNT,  /* unsigned, 64 bits */
    COG_OPTION_TIME,   /* 32 bits; milliseconds, written with units; a bare number is seconds */
    COG_OPTION_NUMBER, /* float */
    COG_OPTION_WORD,   /* const char *, one of choices */
    COG_OPTION_CHOICE, /* bool or enum: min + index into choices */
} cog_option_type;

typedef struct cog_option {
    const char *name; /* "max-seqs": --max-seqs, COGWHEEL_MAX_SEQS, "max-seqs" in the file */
    cog_option_type type;
    unsigned commands; /* set of cog_command */
    const char *group; /* heading in --help */
    const char *unit;  /* what stands for the value in --help; NULL for booleans */
    const char *help;
    const char *choices; /* "auto|cpu|cuda" */
    double min, max;     /* inclusive; of numbers */
    size_t offset, width;
    size_t count_offset;
    const char *default_text; /* what --help says instead of the field's default */
} cog_option;

extern const cog_option cog_options[];
extern const int cog_n_options;

/* NULL when there is none of this name. */
const cog_option *cog_option_find(const char *name, size_t len);

/* The option of the command whose name is most like the given one; NULL when none is near. */
const cog_option *cog_option_nearest(const char *name, size_t len, unsigned commands);

/* "COGWHEEL_MAX_SEQS" */
void cog_option_env_name(char *dst, size_t dst_size, const cog_option *o);

/* Every field at the command's default. */
void cog_option_defaults(cog_config *out, cog_command command);

#endif
