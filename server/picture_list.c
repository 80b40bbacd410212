#include "server/picture_list.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/caption_line.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct cog_picture_list {
    char **path; /* [n] owned */
    int n, cap;
};

static void add(cog_picture_list *l, char *path)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->path = cog_realloc(l->path, (size_t)l->cap, sizeof(char *));
    }
    l->path[l->n++] = path;
}

static bool is_picture_name(const char *name)
{
    static const char *const endings[] = { "jpg", "jpeg", "png", "webp", "gif" };
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot && i < sizeof(endings) / sizeof(endings[0]); i++)
        if (strcasecmp(dot + 1, endings[i]) == 0)
            return true;
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All names of a folder but those that begin with a dot, sorted. */
static int read_names(cog_picture_list *out, const char *dir, cog_err *err)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int failed;

    if (!d)
        return cog_err_set(err, COG_EIO, "cannot read folder %s: %s", dir, strerror(errno));
    for (errno = 0; (e = readdir(d)) != NULL; errno = 0)
        if (e->d_name[0] != '.')
            add(out, cog_strdup(e->d_name));
    failed = errno;
    closedir(d);
    if (failed)
        return cog_err_set(err, COG_EIO, "cannot read folder %s: %s", dir, strerror(failed));
    if (out->n)
        qsort(out->path, (size_t)out->n, sizeof(char *), by_name);
    return 0;
}

static int add_folder(cog_picture_list *l, const char *dir, bool is_recursive, cog_err *err)
{
    cog_picture_list *names = cog_new(cog_picture_list), *folders = cog_new(cog_picture_list);
    const char *slash = dir[strlen(dir) - 1] == '/' ? "" : "/";
    int rc = read_names(names, dir, err);

    for (int i = 0; rc == 0 && i < names->n; i++) {
        char *path = cog_sprintf("%s%s%s", dir, slash, names->path[i]);
        struct stat st;

        if (is_recursive && lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            add(folders, path);
        else if (is_picture_name(path) && stat(path, &st) == 0 && S_ISREG(st.st_mode))
            add(l, path);
        else
            cog_free(path);
    }
    for (int i = 0; rc == 0 && i < folders->n; i++)
        rc = add_folder(l, folders->path[i], is_recursive, err);
    cog_picture_list_free(names);
    cog_picture_list_free(folders);
    return rc;
}

/* Keeps the elements that are not marked; frees the others. */
static int drop_marked(cog_picture_list *l, const bool *marked)
{
    int kept = 0, n = l->n;

    for (int i = 0; i < n; i++) {
        if (marked[i])
            cog_free(l->path[i]);
        else
            l->path[kept++] = l->path[i];
    }
    l->n = kept;
    return n - kept;
}

typedef struct ranked {
    const char *path;
    int idx;
} ranked;

static int by_path_then_place(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    int order = strcmp(x->path, y->path);

    return order ? order : (x->idx > y->idx) - (x->idx < y->idx);
}

/* The list sorted by path, with each one's place; the caller's to free. */
static ranked *rank(const cog_picture_list *l)
{
    ranked *r = cog_array(ranked, (size_t)l->n + 1);

    for (int i = 0; i < l->n; i++)
        r[i] = (ranked){ l->path[i], i };
    qsort(r, (size_t)l->n, sizeof(*r), by_path_then_place);
    return r;
}

static void drop_repeated(cog_picture_list *l)
{
    bool *marked = cog_array(bool, (size_t)l->n + 1);
    ranked *r = rank(l);

    for (int i = 1; i < l->n; i++)
        marked[r[i].idx] = strcmp(r[i].path, r[i - 1].path) == 0;
    drop_marked(l, marked);
    cog_free(r);
    cog_free(marked);
}

int cog_picture_list_new(cog_picture_list **out, const char *const *paths, int n_paths,
                         bool is_recursive, cog_err *err)
{
    cog_picture_list *l = cog_new(cog_picture_list);
    int rc = 0;

    for (int i = 0; rc == 0 && i < n_paths; i++) {
        struct stat st;
        if (stat(paths[i], &st) == 0 && S_ISDIR(st.st_mode))
            rc = add_folder(l, paths[i], is_recursive, err);
        else
            add(l, cog_strdup(paths[i]));
    }
    if (rc < 0) {
        cog_picture_list_free(l);
        return rc;
    }
    drop_repeated(l);
    *out = l;
    return 0;
}

void cog_picture_list_free(cog_picture_list *l)
{
    if (!l)
        return;
    for (int i = 0; i < l->n; i++)
        cog_free(l->path[i]);
    cog_free(l->path);
    cog_free(l);
}

int cog_picture_list_count(const cog_picture_list *l)
{
    return l->n;
}

const char *cog_picture_list_path(const cog_picture_list *l, int idx)
{
    return l->path[idx];
}

/* ---------------------------------------------------------------- resuming */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const ranked *)a)->path, ((const ranked *)b)->path);
}

/* Marks the picture that a line answers. */
static int mark_answered(bool *marked, const ranked *sorted, int n, const char *line, size_t len,
                         cog_err *err)
{
    char *image = NULL;
    bool answered = false;
    int rc = cog_caption_line_parse(&image, &answered, line, len, err);

    if (rc == 0 && answered) {
        ranked key = { image, 0 };
        const ranked *hit = bsearch(&key, sorted, (size_t)n, sizeof(*sorted), by_path);
        if (hit)
            marked[hit->idx] = true;
    }
    cog_free(image);
    return rc;
}

/* Reads the file's lines; *whole is the length of all that end in a newline. */
static int scan_file(bool *marked, off_t *whole, const ranked *sorted, int n, FILE *f,
                     const char *name, cog_err *err)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    int number = 0, rc = 0;

    while (rc == 0 && (len = getline(&line, &cap, f)) > 0) {
        if (line[len - 1] != '\n')
            break;
        number++;
        *whole += len;
        rc = mark_answered(marked, sorted, n, line, (size_t)len - 1, err);
        if (rc < 0)
            cog_err_prefix(err, "--out: %s, line %d", name, number);
    }
    if (rc == 0 && ferror(f))
        rc = cog_err_set(err, COG_EIO, "--out: cannot read %s: %s", name, strerror(errno));
    free(line);
    return rc;
}

int cog_picture_list_resume(cog_picture_list *l, int *n_removed, const char *file, cog_err *err)
{
    bool *marked = NULL;
    ranked *sorted = NULL;
    off_t whole = 0;
    struct stat st;
    FILE *f;
    int rc;

    *n_removed = 0;
    if (stat(file, &st) < 0 ? errno == ENOENT : !S_ISREG(st.st_mode))
        return 0;
    f = fopen(file, "r+be");
    if (!f)
        return cog_err_set(err, COG_EIO, "--out: cannot open %s: %s", file, strerror(errno));
    marked = cog_array(bool, (size_t)l->n + 1);
    sorted = rank(l);
    rc = scan_file(marked, &whole, sorted, l->n, f, file, err);
    if (rc == 0 && ftruncate(fileno(f), whole) < 0)
        rc = cog_err_set(err, COG_EIO, "--out: cannot continue %s: %s", file, strerror(errno));
    if (rc == 0)
        *n_removed = drop_marked(l, marked);
    cog_free(sorted);
    cog_free(marked);
    fclose(f);
    return rc;
}
