/* image_files.h - the pictures under tests/, for the tests that read them. */
#ifndef COG_TESTS_IMAGE_FILES_H
#define COG_TESTS_IMAGE_FILES_H

#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "engine/image/image_decode.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The bytes of tests/<path>; false when there is no such file. */
static inline bool test_file_read(cog_buf *out, const char *path)
{
    const char *root = getenv("COG_SOURCE_ROOT");
    char full[1024], part[4096];
    FILE *f;
    size_t n;

    assert_non_null(root);
    snprintf(full, sizeof(full), "%s/tests/%s", root, path);
    *out = (cog_buf){ 0 };
    f = fopen(full, "rb");
    if (!f)
        return false;
    while ((n = fread(part, 1, sizeof(part), f)) > 0)
        cog_buf_add(out, part, n);
    fclose(f);
    return true;
}

static inline cog_buf test_picture(const char *name)
{
    char path[300];
    cog_buf file;

    snprintf(path, sizeof(path), "images/%s", name);
    if (!test_file_read(&file, path))
        fail_msg("tests/%s is missing", path);
    return file;
}

/* Calls each for every picture in tests/images, in no particular order. */
static inline int test_each_picture(void (*each)(const char *name, const cog_buf *file, void *arg),
                                    void *arg)
{
    static const char *const endings[] = { ".jpg", ".png", ".webp", ".gif" };
    const char *root = getenv("COG_SOURCE_ROOT");
    char path[1024];
    struct dirent *e;
    int n = 0;
    DIR *dir;

    assert_non_null(root);
    snprintf(path, sizeof(path), "%s/tests/images", root);
    dir = opendir(path);
    assert_non_null(dir);
    while ((e = readdir(dir)) != NULL)
        for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
            size_t len = strlen(e->d_name), end = strlen(endings[i]);
            cog_buf file;

            if (len < end || strcmp(e->d_name + len - end, endings[i]) != 0)
                continue;
            file = test_picture(e->d_name);
            each(e->d_name, &file, arg);
            cog_buf_fini(&file);
            n++;
        }
    closedir(dir);
    return n;
}

#endif
