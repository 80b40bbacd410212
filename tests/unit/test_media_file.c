#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "server/picture/media_file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder with two neighbours: im, which is open, image2 and secret.png, which are not. */
typedef struct rig {
    char dir[PATH_MAX];
    cog_media_root root;
} rig;

static char *in(const rig *r, const char *name)
{
    return cog_sprintf("%s/%s", r->dir, name);
}

static void put(const rig *r, const char *name, const char *text)
{
    char *path = in(r, name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    cog_free(path);
}

static void link_to(const rig *r, const char *name, const char *target)
{
    char *path = in(r, name);

    assert_int_equal(symlink(target, path), 0);
    cog_free(path);
}

static void make_dir(const rig *r, const char *name)
{
    char *path = in(r, name);

    assert_int_equal(mkdir(path, 0700), 0);
    cog_free(path);
}

static int setup(void **state)
{
    char name[] = "cog-media-XXXXXX";
    rig *r = cog_new(rig);
    char *path, *absolute;
    cog_err err;

    assert_non_null(mkdtemp(name));
    assert_non_null(realpath(name, r->dir));
    make_dir(r, "im");
    make_dir(r, "im/sub");
    make_dir(r, "im/age2");
    make_dir(r, "image2");
    put(r, "im/a.png", "picture a");
    put(r, "im/sub/b c.png", "picture b");
    put(r, "im/empty.png", "");
    put(r, "im/..c", "picture c");
    put(r, "im/age2/a.png", "not what /image2/a.png names");
    put(r, "image2/a.png", "secret");
    put(r, "secret.png", "secret");
    link_to(r, "im/inside.png", "sub/b c.png");
    link_to(r, "im/out.png", "../secret.png");
    link_to(r, "im/outdir", "../image2");
    link_to(r, "im/loop", "loop");
    link_to(r, "im/proc.png", "/proc/self/exe");
    absolute = in(r, "im/a.png");
    link_to(r, "im/absolute.png", absolute);
    cog_free(absolute);
    path = in(r, "im/pipe.png");
    assert_int_equal(mkfifo(path, 0600), 0);
    cog_free(path);
    link_to(r, "linked", "im");
    path = in(r, "linked/");
    assert_int_equal(cog_media_open(&r->root, path, &err), 0);
    cog_free(path);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig *r = *state;
    char *command = cog_sprintf("rm -rf '%s'", r->dir);

    cog_media_close(&r->root);
    assert_int_equal(system(command), 0);
    cog_free(command);
    cog_free(r);
    return 0;
}

static void expect(const rig *r, const char *url, const char *text)
{
    cog_media_file f;
    uint8_t bytes[100];
    size_t len = 0;
    int rc = cog_media_open_file(&f, &r->root, url, sizeof(bytes));

    if (!text) {
        if (rc != COG_EINVAL)
            fail_msg("%s: %d", url, rc);
        return;
    }
    if (rc != 0)
        fail_msg("%s: %d", url, rc);
    assert_int_equal(cog_media_read_file(bytes, &len, &f), 0);
    assert_int_equal(len, strlen(text));
    assert_int_equal(len, f.size);
    assert_memory_equal(bytes, text, len);
    cog_media_close_file(&f);
}

/* Below the folder that the root's name leads to, by whatever spelling. */
static void what_is_inside(void **state)
{
    static const struct {
        const char *scheme, *path, *text;
    } cases[] = {
        { "file://", "/im/a.png", "picture a" },
        { "FILE://", "/im/a.png", "picture a" },
        { "file://localhost", "/im/a.png", "picture a" },
        { "file://", "/im//a.png", "picture a" },
        { "file://", "/im/./a.png", "picture a" },
        { "file://", "/im/%61.png", "picture a" },
        { "file://", "/im%2fa.png", "picture a" },
        { "file://", "/im/sub/b%20c.png", "picture b" },
        { "file://", "/im/sub/b c.png", "picture b" },
        { "file://", "/im/empty.png", "" },
        { "file://", "/im/..c", "picture c" },
        { "file://", "/im/inside.png", "picture b" },
    };
    rig *r = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *url = cog_sprintf("%s%s%s", cases[i].scheme, r->dir, cases[i].path);
        expect(r, url, cases[i].text);
        cog_free(url);
    }
}

static const char *const outside[] = {
    "/secret.png",
    "/image2/a.png",
    "/im/../secret.png",
    "/im/../image2/a.png",
    "/im/%2e%2e/secret.png",
    "/im/..%2fsecret.png",
    "/im/sub/../../secret.png",
    "/im/out.png",
    "/im/outdir/a.png",
    "/im/loop",
    "/im/proc.png",
    "/im/absolute.png",
    "/im/pipe.png",
    "/im/none.png",
    "/im/none/none.png",
    "/im/a.png/",
    "/im/a.png/x",
    "/im/sub",
    "/im/sub/",
    "/im",
    "/im/",
    "/im/a.png?x",
    "/im/a.png#x",
    "/im/a.png%00",
    "/im/a.png%",
    "/im/a.png%6",
    "/im/a.png%zz",
    "/imx/a.png",
    "/i",
    "",
};

/* One failure for all, and a pipe holds nobody up. */
static void what_is_outside(void **state)
{
    rig *r = *state;
    char *long_url = cog_alloc(1, 9000);

    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        char *url = cog_sprintf("file://%s%s", r->dir, outside[i]);
        expect(r, url, NULL);
        cog_free(url);
    }
    expect(r, "file://", NULL);
    expect(r, "file:///", NULL);
    expect(r, "file:///etc/passwd", NULL);
    expect(r, "file://host/etc/passwd", NULL);
    expect(r, "file:a.png", NULL);
    expect(r, "file:im/a.png", NULL);
    expect(r, "/im/a.png", NULL);
    memset(long_url, 'a', 8999);
    memcpy(long_url, "file:///", 8);
    expect(r, long_url, NULL);
    cog_free(long_url);
}

static void sizes_are_limited(void **state)
{
    rig *r = *state;
    char *url = cog_sprintf("file://%s/im/a.png", r->dir);
    uint8_t bytes[9];
    cog_media_file f;
    size_t len = 0;

    assert_int_equal(cog_media_open_file(&f, &r->root, url, 8), COG_ELIMIT);
    assert_int_equal(cog_media_open_file(&f, &r->root, url, 9), 0);
    put(r, "im/a.png", "now it is longer"); /* what was looked at is what is read */
    assert_int_equal(cog_media_read_file(bytes, &len, &f), 0);
    assert_int_equal(len, 9);
    assert_memory_equal(bytes, "now it is", 9);
    put(r, "im/a.png", "short");
    assert_int_equal(cog_media_read_file(bytes, &len, &f), 0);
    assert_int_equal(len, 5);
    cog_media_close_file(&f);
    cog_free(url);
}

static bool opens(const rig *r, const char *path, bool has_openat2)
{
    int fd = cog_media_open_beneath(r->root.fd, path, has_openat2);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* On a system without openat2: nothing that openat2 refuses, and no link at all. */
static void without_openat2(void **state)
{
    static const char *const good[] = { "a.png", "sub/b c.png", "sub//b c.png", "./a.png", "..c" };
    static const char *const bad[] = { "../secret.png",
                                       "sub/../../secret.png",
                                       "out.png",
                                       "outdir/a.png",
                                       "loop",
                                       "proc.png",
                                       "absolute.png",
                                       "none.png",
                                       "a.png/",
                                       "a.png/x",
                                       "..",
                                       "" };
    rig *r = *state;

    for (int has = 0; has < 2; has++) {
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
            assert_true(opens(r, good[i], has));
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            if (opens(r, bad[i], has))
                fail_msg("%s is open, openat2 %d", bad[i], has);
        }
    }
    assert_true(opens(r, "inside.png", true));
    assert_false(opens(r, "inside.png", false));
    assert_false(opens(r, "sub/../a.png", false));
}

static void the_root_is_a_folder(void **state)
{
    rig *r = *state;
    char *file = in(r, "im/a.png"), *none = in(r, "none");
    cog_media_root root = { .fd = -1 };
    cog_err err;

    assert_int_equal(cog_media_open(&root, file, &err), COG_EINVAL);
    assert_non_null(strstr(err.text, file));
    assert_int_equal(cog_media_open(&root, none, &err), COG_EIO);
    assert_int_equal(root.fd, -1);
    cog_media_close(&root);
    assert_int_equal(cog_media_open(&root, "/", &err), 0);
    cog_media_close(&root);
    cog_free(file);
    cog_free(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_inside, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_outside, setup, teardown),
        cmocka_unit_test_setup_teardown(sizes_are_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(without_openat2, setup, teardown),
        cmocka_unit_test_setup_teardown(the_root_is_a_folder, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
