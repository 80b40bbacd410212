#include "engine/file.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int cog_file_open(int *out_fd, size_t *out_size, const char *dir, const char *name, cog_err *err)
{
    char *path = cog_sprintf("%s/%s", dir, name);
    struct stat st;
    int rc = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a named pipe must not hang us */

    if (fd < 0 || fstat(fd, &st) < 0)
        rc = cog_err_set(err, COG_EIO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = cog_err_set(err, COG_EIO, "%s: not a regular file", path);
    if (rc < 0) {
        if (fd >= 0)
            close(fd);
    } else {
        *out_fd = fd;
        *out_size = (size_t)st.st_size;
    }
    cog_free(path);
    return rc;
}

int cog_file_read(cog_buf *out, const char *dir, const char *name, size_t limit, cog_err *err)
{
    size_t size;
    int fd;
    int rc = cog_file_open(&fd, &size, dir, name, err);

    if (rc < 0)
        return rc;
    cog_buf_clear(out);
    if (size > limit)
        rc = cog_err_set(err, COG_ELIMIT, "%s/%s: %zu bytes, more than the limit of %zu", dir, name,
                         size, limit);
    else
        cog_buf_reserve(out, size);
    while (rc == 0 && out->len < size) {
        ssize_t n = read(fd, out->data + out->len, size - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = cog_err_set(err, COG_EIO, "%s/%s: %s", dir, name,
                             n < 0 ? strerror(errno) : "became shorter while it was read");
            break;
        }
        out->len += (size_t)n;
        out->data[out->len] = '\0';
    }
    close(fd);
    return rc;
}

bool cog_file_exists(const char *dir, const char *name)
{
    char *path = cog_sprintf("%s/%s", dir, name);
    bool found = access(path, F_OK) == 0;

    cog_free(path);
    return found;
}
