/* picture_list.h - which pictures `cogwheel caption` asks about, and which of them a file of
 * answers already holds. The main thread only. */
#ifndef COG_SERVER_PICTURE_LIST_H
#define COG_SERVER_PICTURE_LIST_H

#include "base/err.h"

#include <stdbool.h>

typedef struct cog_picture_list cog_picture_list;

/* Files as named; of a folder the files ending in jpg, jpeg, png, webp or gif in any case, sorted
 * by name byte by byte, with is_recursive also those of the folders inside (each after the files of
 * the folder that holds it; links to folders are not followed). A path named twice is taken once.
 * Whether a named file can be read is not looked at. COG_EIO: a folder cannot be read. */
int cog_picture_list_new(cog_picture_list **out, const char *const *paths, int n_paths,
                         bool is_recursive, cog_err *err);
void cog_picture_list_free(cog_picture_list *l); /* NULL is fine */

int cog_picture_list_count(const cog_picture_list *l);
const char *cog_picture_list_path(const cog_picture_list *l, int idx); /* the list's */

/* Removes from the list what a file of caption lines answers; pictures it holds an error for stay.
 * A last line without its newline is what a crash left: it is cut off the file. No file is an empty
 * one, and so is what is no regular file. *n_removed counts. COG_EFORMAT: another line is no
 * caption line, and nothing is changed. */
int cog_picture_list_resume(cog_picture_list *l, int *n_removed, const char *file, cog_err *err);

#endif
