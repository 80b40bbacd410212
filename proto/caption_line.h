/* caption_line.h - the JSON lines of `cogwheel caption`: one object for each picture. */
#ifndef COG_PROTO_CAPTION_LINE_H
#define COG_PROTO_CAPTION_LINE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* {"image","text","finish_reason","prompt_tokens","completion_tokens"}, or {"image","error"}. */
typedef struct cog_caption_line {
    const char *image;
    const char *error; /* NULL: answered, and the fields below hold */
    const char *text;
    const char *finish_reason;
    int prompt_tokens, completion_tokens;
} cog_caption_line;

/* Appends the object and a newline. Bytes of a path that are no UTF-8 become U+FFFD. */
void cog_caption_line_write(cog_buf *dst, const cog_caption_line *line);

/* Reads one line (without its newline): *image is the path, to be freed with cog_free, and
 * *answered whether it has a text. COG_EFORMAT when it is no such line. */
int cog_caption_line_parse(char **image, bool *answered, const char *bytes, size_t len,
                           cog_err *err);

#endif
