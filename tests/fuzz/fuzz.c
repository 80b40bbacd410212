#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILES = 64 };

void fuzz_fail(const char *file, int line, const char *condition, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "%s:%d: not true: %s ", file, line, condition);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

void fuzz_check_err(int rc, const cog_err *err)
{
    size_t len = strnlen(err->text, sizeof(err->text));

    REQUIRE(rc <= COG_EINVAL && rc >= COG_EUNSUPPORTED);
    REQUIRE(err->code == rc);
    REQUIRE(len > 0 && len < sizeof(err->text));
    for (size_t i = 0; i < len; i++)
        REQUIRE_SAY((unsigned char)err->text[i] >= 0x20 && err->text[i] != 0x7f, "'%s'", err->text);
}

unsigned fuzz_take(fuzz_tail *t)
{
    return t->len ? t->bytes[--t->len] : 0;
}

bool fuzz_next(fuzz_cut *part, fuzz_cut *rest, uint8_t separator)
{
    const uint8_t *end;

    if (rest->len == 0)
        return false;
    end = memchr(rest->bytes, separator, rest->len);
    *part = (fuzz_cut){ rest->bytes, end ? (size_t)(end - rest->bytes) : rest->len };
    rest->bytes += part->len + (end != NULL);
    rest->len -= part->len + (end != NULL);
    return true;
}

cog_buf fuzz_expand(const uint8_t *bytes, size_t len, uint8_t marker, char fill, size_t n)
{
    cog_buf out = { 0 };
    int left = 4;

    cog_buf_reserve(&out, len + 1);
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != marker || left-- <= 0) {
            cog_buf_add(&out, &bytes[i], 1);
            continue;
        }
        cog_buf_reserve(&out, n);
        memset(out.data + out.len, fill, n);
        out.len += n;
        out.data[out.len] = '\0';
    }
    return out;
}

/* ---- files ---- */

static char *folder;
static char *written[MAX_FILES];

static void remove_folder(void)
{
    for (int i = MAX_FILES - 1; i >= 0; i--) { /* folders after what is inside */
        if (written[i])
            remove(written[i]);
        cog_free(written[i]);
    }
    rmdir(folder);
    cog_free(folder);
}

const char *fuzz_folder(void)
{
    const char *root = getenv("TMPDIR");

    if (folder)
        return folder;
    folder = cog_sprintf("%s/cogwheel-fuzz-XXXXXX", root ? root : P_tmpdir);
    REQUIRE(mkdtemp(folder));
    atexit(remove_folder);
    return folder;
}

/* The path of a file of the folder, remembered for remove_folder. */
static const char *path_of(const char *name)
{
    char *path = cog_sprintf("%s/%s", fuzz_folder(), name);
    int i = 0;

    while (i < MAX_FILES && written[i] && strcmp(written[i], path) != 0)
        i++;
    REQUIRE(i < MAX_FILES);
    if (written[i])
        cog_free(path);
    else
        written[i] = path;
    return written[i];
}

void fuzz_write(const char *name, const void *bytes, size_t len)
{
    const char *path = path_of(name);
    int fd;

    /* A new file each time: ext4 makes who truncates a file and closes it wait for the disk. */
    unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, bytes, len) == (ssize_t)len);
    close(fd);
}

void fuzz_remove(const char *name)
{
    unlink(path_of(name));
}

void fuzz_make_folder(const char *name)
{
    REQUIRE(mkdir(path_of(name), 0700) == 0);
}

void fuzz_link(const char *name, const char *target)
{
    REQUIRE(symlink(target, path_of(name)) == 0);
}
