/* file.h - the file that config reads: --config. Private to config/. */
#ifndef COG_CONFIG_FILE_H
#define COG_CONFIG_FILE_H

#include "config/options.h"

typedef struct cog_config_file cog_config_file;

typedef struct cog_config_entry {
    const cog_option *option;
    int line;      /* where its key stands, from 1 */
    char **values; /* owned by the file; as cog_value_set reads them; one unless a list */
    int n_values;
} cog_config_entry;

/* Reads a JSON object of option names and values. COG_EIO: unreadable; COG_EFORMAT: not JSON, a key
 * that is no option, or a value of the wrong kind; the message names file and line. */
int cog_config_file_open(cog_config_file **out, const char *path, cog_err *err);
void cog_config_file_free(cog_config_file *f); /* NULL is fine */
int cog_config_file_count(const cog_config_file *f);
const cog_config_entry *cog_config_file_entry(const cog_config_file *f, int idx);

#endif
