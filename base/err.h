/* err.h - status codes and the carrier of an error message.
 *
 * A fallible function returns 0 or a negative COG_E... code. Where a person will read the reason
 * (loading, parsing, opening) a cog_err comes last and is filled where the cause is first
 * understood. */
#ifndef COG_BASE_ERR_H
#define COG_BASE_ERR_H

enum {
    COG_EINVAL = -1,        /* the caller's or the client's mistake */
    COG_ELIMIT = -2,        /* larger than a stated limit */
    COG_EBUSY = -3,         /* queue full: try later */
    COG_EFORMAT = -4,       /* a file is not what it should be */
    COG_EIO = -5,           /* reading or writing failed */
    COG_ENOMEM = -6,        /* device memory or a pool is exhausted */
    COG_EDEVICE = -7,       /* the accelerator failed; final */
    COG_ECANCELED = -8,     /* the client left */
    COG_ETIMEOUT = -9,      /* the deadline passed */
    COG_EUNSUPPORTED = -10, /* well formed, and something this program does not do */
};

typedef struct cog_err {
    int code;       /* the COG_E... value last set, 0 when none was */
    char text[512]; /* one sentence for a person, without a final newline */
} cog_err;

/* Fills err (NULL is fine) and returns code, so that `return cog_err_set(...)` reads well. Text
 * beyond the buffer is cut, on a character boundary; control characters, which may come from a file
 * that is quoted, become '?'. */
int cog_err_set(cog_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before a text already set; NULL is fine. For adding the file or tensor that
 * a lower layer did not know. */
void cog_err_prefix(cog_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The code as a word ("EINVAL"), for logs. */
const char *cog_err_name(int code);

#endif
