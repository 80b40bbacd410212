/* value.h - text and JSON values to fields and back. Private to config/. */
#ifndef COG_CONFIG_VALUE_H
#define COG_CONFIG_VALUE_H

#include "base/buf.h"
#include "config/options.h"

/* Memory that the fields of a cog_config borrow. */
struct cog_config_own {
    void **block; /* owned, each freed with cog_free */
    int n_blocks;
    char **origin; /* [cog_n_options] owned; NULL: the default */
};

/* Makes p the configuration's; returns it. */
void *cog_value_keep(cog_config *c, void *p);

/* Parses text into the option's field (of a list: appends it). On a mistake err says what is wrong
 * with the value and what would be right, as the end of a sentence that begins with the value. */
int cog_value_set(cog_config *c, const cog_option *o, const char *text, cog_err *err);

/* Empties a list's field. */
void cog_value_clear(cog_config *c, const cog_option *o);

/* The field as text that cog_value_set reads back; lists with commas between. */
void cog_value_format(cog_buf *dst, const cog_config *c, const cog_option *o);

/* A number as cog_value_format writes one of the option's kind. */
void cog_value_format_number(cog_buf *dst, const cog_option *o, double value);

#endif
