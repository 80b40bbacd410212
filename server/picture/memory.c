#include "server/picture/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int open_shared(size_t size)
{
    int fd = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int cog_picture_memory_init(cog_picture_memory *m, size_t file_room, int side, bool is_shared,
                            cog_err *err)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pixels_at = (file_room + page - 1) / page * page;
    size_t size = pixels_at + (size_t)side * (size_t)side * 3;
    int fd = is_shared ? open_shared(size) : -1;
    void *base = MAP_FAILED;

    if (!is_shared || fd >= 0)
        base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                    is_shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
    if (base == MAP_FAILED) {
        cog_err_set(err, COG_ENOMEM, "no memory for a picture of %zu bytes: %s", file_room,
                    strerror(errno));
        if (fd >= 0)
            close(fd);
        return COG_ENOMEM;
    }
    *m = (cog_picture_memory){ .base = base, .size = size, .pixels_at = pixels_at, .fd = fd };
    return 0;
}

void cog_picture_memory_fini(cog_picture_memory *m)
{
    if (!m->base)
        return;
    munmap(m->base, m->size);
    if (m->fd >= 0)
        close(m->fd);
    *m = (cog_picture_memory){ .fd = -1 };
}
