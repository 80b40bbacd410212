/* Pictures by file: URLs: no path, however written, opens a file outside the folder, with the
 * kernel's openat2 or without. The input is what follows the folder in the URL. Inside are files,
 * folders, and links that stay and that lead out. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "server/picture/media_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static cog_media_root root = { .fd = -1 };

static void open_root(void)
{
    char *dir = cog_sprintf("%s/root", fuzz_folder());
    cog_err err = { 0 };

    fuzz_write("secret", "no", 2);
    fuzz_make_folder("root");
    fuzz_make_folder("rootless");
    fuzz_write("rootless/f", "no", 2);
    fuzz_write("root/f", "yes", 3);
    fuzz_make_folder("root/d");
    fuzz_write("root/d/g", "yes", 3);
    fuzz_link("root/in", "d/g");
    fuzz_link("root/out", "../secret");
    fuzz_link("root/loop", ".");
    fuzz_link("root/d/up", "..");
    fuzz_link("root/d/upper", "../..");
    fuzz_link("root/self", "/proc/self/root");
    REQUIRE_SAY(cog_media_open(&root, dir, &err) == 0, "%s", err.text);
    cog_free(dir);
}

/* The kernel's own word for what a descriptor is. */
static void require_inside(int fd)
{
    char name[64], path[4096];
    ssize_t n;

    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    n = readlink(name, path, sizeof(path) - 1);
    REQUIRE(n > 0);
    path[n] = '\0';
    REQUIRE_SAY(strncmp(path, root.path, strlen(root.path)) == 0 &&
                    (path[strlen(root.path)] == '/' || path[strlen(root.path)] == '\0'),
                "%s", path);
}

static void check_path(const char *path)
{
    int fast = cog_media_open_beneath(root.fd, path, true);
    int walked = cog_media_open_beneath(root.fd, path, false);

    if (fast >= 0) {
        require_inside(fast);
        close(fast);
    }
    if (walked >= 0) {
        require_inside(walked);
        close(walked);
    }
}

static void check_url(const char *url)
{
    char *path = cog_media_path(url);
    cog_media_file f;
    uint8_t bytes[8];
    size_t len = 0;
    int rc = cog_media_open_file(&f, &root, url, sizeof(bytes));

    REQUIRE(!path || path[0] == '/');
    cog_free(path);
    if (rc < 0) {
        REQUIRE(rc == COG_EINVAL || rc == COG_ELIMIT);
        return;
    }
    require_inside(f.fd);
    REQUIRE(cog_media_read_file(bytes, &len, &f) == 0);
    REQUIRE(len == 3 && memcmp(bytes, "yes", 3) == 0);
    cog_media_close_file(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char *rest = cog_strndup(len ? (const char *)bytes : "", len), *url;

    if (root.fd < 0)
        open_root();
    check_path(rest);
    url = cog_sprintf("file://%s/%s", root.path, rest);
    check_url(url);
    cog_free(url);
    check_url(rest);
    cog_free(rest);
    return 0;
}
