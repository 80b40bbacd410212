/* folder.h - a temporary folder for tests that read files, as cmocka's state. */
#ifndef COG_TESTS_FOLDER_H
#define COG_TESTS_FOLDER_H

#include "tests/unit/unit.h"

#include "base/alloc.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline int folder_setup(void **state)
{
    const char *root = getenv("TMPDIR");
    char *dir = cog_sprintf("%s/cogwheel-test-XXXXXX", root ? root : P_tmpdir);

    *state = mkdtemp(dir);
    return *state ? 0 : -1;
}

static inline void folder_remove(const char *dir, const char *name)
{
    char *path = cog_sprintf("%s/%s", dir, name);

    if (remove(path) != 0)
        perror(path);
    cog_free(path);
}

static inline void folder_clear(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    assert_non_null(d);
    while ((e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            folder_remove(dir, e->d_name);
    closedir(d);
}

static inline int folder_teardown(void **state)
{
    folder_clear(*state);
    rmdir(*state);
    cog_free(*state);
    return 0;
}

static inline void folder_write(const char *dir, const char *name, const void *bytes, size_t len)
{
    char *path = cog_sprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    cog_free(path);
}

static inline void folder_puts(const char *dir, const char *name, const char *text)
{
    folder_write(dir, name, text, strlen(text));
}

/* An error message says what a person needs. */
static inline void assert_mentions(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' does not mention '%s'", text, part);
}

#define folder_test(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)

#endif
