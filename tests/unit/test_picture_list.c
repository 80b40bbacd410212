#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/caption_line.h"
#include "server/picture_list.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char home[4096], dir[] = "test_picture_list_XXXXXX";

static void put(const char *name, const char *content)
{
    FILE *f = fopen(name, "w");

    assert_non_null(f);
    fputs(content, f);
    fclose(f);
}

static int enter(void **state)
{
    static const char *const files[] = { "b.JPG",        "a.png", "c.webp", "d.gif", "e.jpeg",
                                         "f.txt",        "g",     ".h.png", "jpg",   "in/z.png",
                                         "in/more/y.gif" };

    if (!getcwd(home, sizeof(home)) || !mkdtemp(dir) || chdir(dir) < 0 || mkdir("p", 0777) < 0 ||
        chdir("p") < 0 || mkdir("in", 0777) < 0 || mkdir("in/more", 0777) < 0 ||
        mkdir("in.png", 0777) < 0 || symlink(".", "in/loop") < 0)
        return -1;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        put(files[i], "x");
    return chdir("..");
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    return remove(path);
}

static int leave(void **state)
{
    return chdir(home) < 0 ? -1 : nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void expect_paths(const cog_picture_list *l, const char *const *paths)
{
    int n = 0;

    for (; paths[n]; n++)
        if (n < cog_picture_list_count(l))
            assert_string_equal(cog_picture_list_path(l, n), paths[n]);
    assert_int_equal(cog_picture_list_count(l), n);
}

#define PATHS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void folder_gives_its_pictures_sorted(void **state)
{
    cog_picture_list *l;
    cog_err err;

    assert_int_equal(cog_picture_list_new(&l, PATHS("p"), 1, false, &err), 0);
    expect_paths(l, PATHS("p/a.png", "p/b.JPG", "p/c.webp", "p/d.gif", "p/e.jpeg"));
    cog_picture_list_free(l);
}

static void recursion_takes_folders_inside_but_follows_no_links(void **state)
{
    cog_picture_list *l;
    cog_err err;

    assert_int_equal(cog_picture_list_new(&l, PATHS("p/"), 1, true, &err), 0);
    expect_paths(l, PATHS("p/a.png", "p/b.JPG", "p/c.webp", "p/d.gif", "p/e.jpeg", "p/in/z.png",
                          "p/in/more/y.gif"));
    cog_picture_list_free(l);
}

static void named_files_keep_their_order_once(void **state)
{
    cog_picture_list *l;
    cog_err err;

    assert_int_equal(
        cog_picture_list_new(&l, PATHS("p/g", "missing.png", "p/a.png", "p/g"), 4, false, &err), 0);
    expect_paths(l, PATHS("p/g", "missing.png", "p/a.png"));
    cog_picture_list_free(l);
}

static int resume(cog_picture_list **l, int *removed, const char *file, cog_err *err)
{
    assert_int_equal(cog_picture_list_new(l, PATHS("p"), 1, false, err), 0);
    return cog_picture_list_resume(*l, removed, file, err);
}

static void resuming_skips_what_is_answered(void **state)
{
    cog_picture_list *l;
    cog_err err;
    int removed = -1;

    put("out", "{\"image\":\"p/c.webp\",\"text\":\"\"}\n"
               "{\"image\":\"p/a.png\",\"error\":\"broken\"}\n"
               "{\"image\":\"elsewhere\",\"text\":\"x\"}\n"
               "{\"image\":\"p/e.jpeg\",\"text\":\"x\"}\n"
               "{\"image\":\"p/c.webp\",\"text\":\"again\"}\n");
    assert_int_equal(resume(&l, &removed, "out", &err), 0);
    assert_int_equal(removed, 2);
    expect_paths(l, PATHS("p/a.png", "p/b.JPG", "p/d.gif"));
    cog_picture_list_free(l);

    assert_int_equal(resume(&l, &removed, "no-such-file", &err), 0);
    assert_int_equal(removed, 0);
    assert_int_equal(cog_picture_list_count(l), 5);
    cog_picture_list_free(l);
}

static void resuming_cuts_an_unfinished_line(void **state)
{
    static const char whole[] = "{\"image\":\"p/a.png\",\"text\":\"x\"}\n";
    cog_picture_list *l;
    struct stat st;
    cog_err err;
    int removed;
    char text[200];

    /* Even a last line that would parse: its newline was never written. */
    snprintf(text, sizeof(text), "%s%s", whole, "{\"image\":\"p/b.JPG\",\"text\":\"x\"}");
    put("out", text);
    assert_int_equal(resume(&l, &removed, "out", &err), 0);
    assert_int_equal(removed, 1);
    expect_paths(l, PATHS("p/b.JPG", "p/c.webp", "p/d.gif", "p/e.jpeg"));
    assert_int_equal(stat("out", &st), 0);
    assert_int_equal(st.st_size, sizeof(whole) - 1);
    cog_picture_list_free(l);
}

static void resuming_refuses_a_file_that_is_something_else(void **state)
{
    static const char *const others[] = {
        "a text\nof two lines\n",
        "{\"image\":\"p/a.png\"}\n",
        "{\"image\":1,\"text\":\"x\"}\n",
        "{\"image\":\"p/a.png\",\"text\":\"x\",\"error\":\"y\"}\n",
        "[]\n",
        "\n",
    };
    cog_picture_list *l;
    struct stat st;
    cog_err err;
    int removed;

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        put("out", others[i]);
        assert_int_equal(resume(&l, &removed, "out", &err), COG_EFORMAT);
        assert_non_null(strstr(err.text, "out, line 1"));
        assert_int_equal(cog_picture_list_count(l), 5);
        assert_int_equal(stat("out", &st), 0);
        assert_int_equal(st.st_size, strlen(others[i]));
        cog_picture_list_free(l);
    }
}

static void lines_survive_the_round_trip(void **state)
{
    const cog_caption_line answer = { .image = "a \"b\"\n\xc3\xa9.png",
                                      .text = "one\ntwo \xe2\x82\xac",
                                      .finish_reason = "stop",
                                      .prompt_tokens = 74,
                                      .completion_tokens = 8 };
    const cog_caption_line failure = { .image = "bad\xff.png", .error = "broken" };
    cog_buf b = { 0 };
    char *image;
    bool answered;
    cog_err err;

    cog_caption_line_write(&b, &answer);
    assert_int_equal(strchr(b.data, '\n') - b.data, b.len - 1);
    assert_non_null(strstr(b.data, "\"prompt_tokens\":74,\"completion_tokens\":8}"));
    assert_int_equal(cog_caption_line_parse(&image, &answered, b.data, b.len - 1, &err), 0);
    assert_string_equal(image, answer.image);
    assert_true(answered);
    cog_free(image);

    cog_buf_clear(&b);
    cog_caption_line_write(&b, &failure);
    assert_string_equal(b.data, "{\"image\":\"bad\xef\xbf\xbd.png\",\"error\":\"broken\"}\n");
    assert_int_equal(cog_caption_line_parse(&image, &answered, b.data, b.len - 1, &err), 0);
    assert_false(answered);
    cog_free(image);
    cog_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folder_gives_its_pictures_sorted),
        cmocka_unit_test(recursion_takes_folders_inside_but_follows_no_links),
        cmocka_unit_test(named_files_keep_their_order_once),
        cmocka_unit_test(resuming_skips_what_is_answered),
        cmocka_unit_test(resuming_cuts_an_unfinished_line),
        cmocka_unit_test(resuming_refuses_a_file_that_is_something_else),
        cmocka_unit_test(lines_survive_the_round_trip),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
