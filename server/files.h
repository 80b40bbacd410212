/* files.h - /v1/files: pictures that are uploaded once and asked about by id. The store is
 * picture/file_store.h's; a question takes its picture from there in generate_picture.c. The loop
 * thread's, but for what upload.c says. */
#ifndef COG_SERVER_FILES_H
#define COG_SERVER_FILES_H

#include "server/internal.h"
#include "server/picture/file_store.h"

/* upload.c: POST /v1/files. The form is read by a worker, and the picture decoded, before the file
 * is let in. */
void cog_upload_begin(cog_exchange *x);
void cog_upload_cancel(cog_exchange *x);
void cog_upload_fini(cog_exchange *x);

/* files.c */
void cog_files_list(cog_exchange *x);
void cog_files_get(cog_exchange *x);
void cog_files_content(cog_exchange *x);
void cog_files_delete(cog_exchange *x);

cog_file_store *cog_files_open(cog_server *s);
void cog_files_forget_keys(cog_server *s); /* the files of keys that are no more */

/* What the API says about a file; the purposes that it knows, and NULL. */
void cog_files_write(cog_buf *out, const cog_file *f);
extern const char *const cog_file_purposes[];

#endif
