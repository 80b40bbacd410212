/* caption.h - `cogwheel caption`: one question about many pictures, without a server.
 *
 * Runs on the calling thread, which decodes pictures and collects answers while the engine thread
 * works on as many pictures at once as one step holds. */
#ifndef COG_SERVER_CAPTION_H
#define COG_SERVER_CAPTION_H

#include "base/err.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stdint.h>

/* Strings are borrowed for the call. */
typedef struct cog_caption_options {
    const char *prompt; /* the question, asked about every picture */
    cog_template template_version;
    bool recursive;  /* look into folders inside a folder */
    bool json;       /* JSON lines on standard output instead of text */
    const char *out; /* JSON lines go to this file, which is continued when it exists; NULL: none */
    int max_tokens;  /* of one answer; less when the context has less room */
    cog_sampling sampling;
} cog_caption_options;

extern const cog_caption_options cog_caption_defaults;

/* Asks about every path: a picture, or a folder whose pictures (jpg, jpeg, png, webp, gif) are
 * taken in the order of their names. A picture that cannot be read is reported and skipped.
 * *n_failed counts those. COG_EINVAL: the prompt does not fit; COG_EFORMAT, COG_EIO: a folder or
 * the
 * --out file; otherwise the engine failed. */
int cog_caption_run(int *n_failed, const cog_engine_config *engine, const cog_image_options *image,
                    const cog_caption_options *opt, const char *const *paths, int n_paths,
                    cog_err *err);

#endif
