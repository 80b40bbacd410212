#include "server/picture/media_file.h"

#include "base/alloc.h"
#include "proto/percent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A pipe must not hold up whoever opens it before its kind is known. */
enum { FLAGS = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC };

int cog_media_open(cog_media_root *out, const char *dir, cog_err *err)
{
    char *path = realpath(dir, NULL);
    int fd;

    if (!path)
        return cog_err_set(err, COG_EIO, "the media root '%.300s' cannot be opened: %s", dir,
                           strerror(errno));
    fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        free(path);
        return cog_err_set(err, COG_EINVAL, "the media root '%.300s' is no folder", dir);
    }
    out->fd = fd;
    out->path = cog_strdup(strcmp(path, "/") == 0 ? "" : path);
    free(path);
    return 0;
}

void cog_media_close(cog_media_root *r)
{
    if (r->fd >= 0)
        close(r->fd);
    cog_free(r->path);
    *r = (cog_media_root){ .fd = -1 };
}

/* ------------------------------------------------------------------ names */

char *cog_media_path(const char *url)
{
    static const char scheme[] = "file://", local[] = "localhost/";
    char *path, *end;
    int byte;

    if (strncasecmp(url, scheme, strlen(scheme)) != 0)
        return NULL;
    url += strlen(scheme);
    if (strncasecmp(url, local, strlen(local)) == 0)
        url += strlen(local) - 1;
    if (url[0] != '/' || strpbrk(url, "?#") || strlen(url) > 4096)
        return NULL;
    path = end = cog_strdup(url);
    for (const char *c = url; *c; c++) {
        if (*c != '%') {
            *end++ = *c;
            continue;
        }
        byte = cog_percent_byte(c, strnlen(c, 3));
        if (byte <= 0) {
            cog_free(path);
            return NULL;
        }
        *end++ = (char)byte;
        c += 2;
    }
    *end = '\0';
    return path;
}

/* What follows the folder, whole parts compared: /data/im has nothing of /data/image2. */
static const char *below(const char *root, const char *path)
{
    size_t len = strlen(root);

    if (strncmp(path, root, len) != 0 || path[len] != '/')
        return NULL;
    path += len;
    path += strspn(path, "/");
    return *path ? path : NULL;
}

/* ------------------------------------------------------------------ files */

/* Part by part, refusing every link. */
static int walk(int dir, const char *path)
{
    int at = dir, fd;

    for (;;) {
        size_t len = strcspn(path, "/");
        const char *rest = path + len + strspn(path + len, "/");
        char part[256];

        if (len == 0 || len >= sizeof(part) || (len == 2 && memcmp(path, "..", 2) == 0)) {
            fd = -1;
            break;
        }
        memcpy(part, path, len);
        part[len] = '\0';
        if (!*rest) {
            fd = openat(at, part, FLAGS | O_NOFOLLOW | (path[len] ? O_DIRECTORY : 0));
            break;
        }
        fd = openat(at, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            break;
        if (at != dir)
            close(at);
        at = fd;
        path = rest;
    }
    if (at != dir)
        close(at);
    return fd;
}

int cog_media_open_beneath(int dir, const char *path, bool has_openat2)
{
    struct open_how how = { .flags = FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
    long fd;

    if (!has_openat2)
        return walk(dir, path);
    fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
    /* Sandboxes of before Linux 5.6 say EPERM to what they do not know. */
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        return walk(dir, path);
    return (int)fd;
}

int cog_media_open_file(cog_media_file *out, const cog_media_root *r, const char *url,
                        size_t max_bytes)
{
    char *path = cog_media_path(url);
    const char *rest = path ? below(r->path, path) : NULL;
    int fd = rest ? cog_media_open_beneath(r->fd, rest, true) : -1;
    int rc = COG_EINVAL;
    struct stat st;

    cog_free(path);
    if (fd < 0)
        return COG_EINVAL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        rc = (uint64_t)st.st_size > max_bytes ? COG_ELIMIT : 0;
    if (rc < 0) {
        close(fd);
        return rc;
    }
    *out = (cog_media_file){ .fd = fd, .size = (size_t)st.st_size };
    return 0;
}

int cog_media_read_file(uint8_t *dst, size_t *len, const cog_media_file *f)
{
    size_t n = 0;

    while (n < f->size) {
        ssize_t got = pread(f->fd, dst + n, f->size - n, (off_t)n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return COG_EINVAL;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    *len = n;
    return 0;
}

void cog_media_close_file(cog_media_file *f)
{
    close(f->fd);
    f->fd = -1;
}
