/* file_store.h - pictures that clients have uploaded, with their files, by id. In memory only: what
 * is here ends with the process.
 *
 * A file belongs to an owner, who alone can find it. What is let in is bounded: by bytes and files
 * in all and of one owner; nothing is ever removed to make room but what has expired. Files are
 * counted: one that is deleted stays for those who hold it.
 *
 * Pure logic on plain data, one thread; times are given, in Unix seconds. */
#ifndef COG_SERVER_PICTURE_FILE_STORE_H
#define COG_SERVER_PICTURE_FILE_STORE_H

#include "base/sha256.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COG_FILE_ID_SIZE = 64,
    COG_FILE_MAX_NODE = 16,      /* bytes of the node's name in ids */
    COG_FILE_MAX_DELETED = 1024, /* that are remembered */
};

typedef struct cog_file_store cog_file_store;

typedef struct cog_file_limits {
    size_t bytes, bytes_of_one; /* of files and their pixels; in all, and of one owner */
    int files, files_of_one;
} cog_file_limits;

typedef struct cog_file {
    int refs;
    char id[COG_FILE_ID_SIZE]; /* "file-", the node's name and a hyphen if it has one, and 32 hex
                                  digits that nobody can guess */
    uint64_t number;           /* of this store's files, from 1 */
    cog_sha256 owner;
    char *filename; /* owned, UTF-8 */
    const char *purpose;
    int64_t created, expires;
    char *body; /* [body_len] owned: what the file came in */
    size_t body_len;
    uint8_t *data; /* [len] a view of body: the file */
    size_t len;
    cog_image *image; /* a reference: its picture */
    bool is_deleted;  /* nobody can find it any more */
    cog_file_store *store;
    struct cog_file *older, *newer;
} cog_file;

/* removed is called for each file that nobody can find any more, before it loses its reference. */
cog_file_store *cog_file_store_new(const cog_file_limits *limits, const char *node,
                                   void (*removed)(void *arg, const cog_file *f), void *arg);
void cog_file_store_free(cog_file_store *s); /* nobody holds a file; NULL is fine */

/* What a file that came in so many bytes, with a picture of side x side, counts as. */
size_t cog_file_cost(size_t body_len, int side);

/* Whether there is room for one more file of that cost. COG_ELIMIT: err says which limit is met,
 * fit for its owner. */
int cog_file_store_check(cog_file_store *s, const cog_sha256 *owner, size_t cost, cog_err *err);

/* What is known of a file that comes in. */
typedef struct cog_new_file {
    cog_sha256 owner;
    const char *filename; /* is copied */
    const char *purpose;  /* static */
    int64_t created, expires;
    size_t body_len;
    uint8_t *data; /* [len] within the body */
    size_t len;
    cog_image *image; /* gets one more reference */
} cog_new_file;

/* Adds a file that was checked; takes body, which cog_free frees. *out is the store's until it is
 * deleted. COG_EIO: there are no random numbers for its id. */
int cog_file_store_add(cog_file **out, cog_file_store *s, const cog_new_file *file, char *body);

/* The owner's file of that id; NULL: there is none, it expired, or it is another's. */
cog_file *cog_file_store_find(cog_file_store *s, const cog_sha256 *owner, const char *id,
                              int64_t now);
void cog_file_ref(cog_file *f);
void cog_file_unref(cog_file *f); /* NULL is fine */

void cog_file_store_delete(cog_file_store *s, cog_file *f); /* one that was found */
/* Whether the owner deleted a file of that id lately: who did not hear of it may ask again. */
bool cog_file_store_was_deleted(const cog_file_store *s, const cog_sha256 *owner, const char *id);
void cog_file_store_expire(cog_file_store *s, int64_t now);
/* Removes the files of owners for whom is_known says false. */
void cog_file_store_forget(cog_file_store *s,
                           bool (*is_known)(const void *arg, const cog_sha256 *owner),
                           const void *arg);

/* The owner's files in order of age, for lists: the oldest or newest, and the next one. */
const cog_file *cog_file_first(const cog_file_store *s, const cog_sha256 *owner, bool newest_first);
const cog_file *cog_file_next(const cog_file *f, bool newest_first);

typedef struct cog_file_stats {
    int n;        /* that can be found */
    size_t bytes; /* of these, and of those deleted that somebody holds */
    uint64_t added, deleted, expired, found, missed;
    uint64_t refused; /* by a limit */
} cog_file_stats;

void cog_file_store_get_stats(const cog_file_store *s, cog_file_stats *out);

#endif
