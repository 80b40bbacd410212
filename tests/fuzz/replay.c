/* replay.c - runs a harness without libFuzzer: replay [-m N] [-w FILE] FILE-OR-FOLDER...
 *
 * Every unit as it is, then N mutations of it, the same in every run. Ends by the harness's abort,
 * or with 0; 1 when there was no unit. The last path printed is that of the unit at fault; with -w
 * each input is in FILE while it runs, so that FILE then holds the one at fault. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM = 1 << 16 };

/* of harnesses that have none, and of those compiled alone */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
    __attribute__((weak));

static cog_rng rng;
static unsigned long n_units, n_runs;
static int n_mutations;
static const char *keep; /* NULL: -w was not given */

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t len, size_t room)
{
    size_t at = len ? (size_t)cog_rng_below(&rng, len) : 0;

    switch (cog_rng_below(&rng, 4)) {
    case 0:
        if (len < room) {
            memmove(bytes + at + 1, bytes + at, len - at);
            bytes[at] = (uint8_t)cog_rng_next(&rng);
            return len + 1;
        }
        break;
    case 1:
        if (len > 1) {
            memmove(bytes + at, bytes + at + 1, len - at - 1);
            return len - 1;
        }
        break;
    case 2:
        if (len > 0)
            bytes[at] ^= (uint8_t)(1u << cog_rng_below(&rng, 8));
        break;
    default:
        if (len > 0)
            bytes[at] = (uint8_t)cog_rng_next(&rng);
        break;
    }
    return len;
}

static void write_input(const uint8_t *bytes, size_t len)
{
    FILE *f = fopen(keep, "wb");

    REQUIRE(f && fwrite(bytes, 1, len, f) == len && fclose(f) == 0);
}

/* In a block of exactly its size, so that a read beyond it is seen. */
static void run(const uint8_t *bytes, size_t len)
{
    uint8_t *exact = malloc(len ? len : 1);

    REQUIRE(exact);
    if (keep)
        write_input(bytes, len);
    memcpy(exact, bytes, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    n_runs++;
}

static void run_unit(const uint8_t *bytes, size_t len)
{
    uint8_t *room = malloc(ROOM);

    REQUIRE(room);
    n_units++;
    run(bytes, len);
    for (int i = 0; i < n_mutations && len <= ROOM; i++) {
        unsigned seed = (unsigned)cog_rng_next(&rng);
        size_t n;

        memcpy(room, bytes, len);
        n = LLVMFuzzerCustomMutator ? LLVMFuzzerCustomMutator(room, len, ROOM, seed)
                                    : LLVMFuzzerMutate(room, len, ROOM);
        run(room, n);
    }
    free(room);
}

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    cog_buf bytes = { 0 };
    char part[4096];
    size_t n;

    if (!f) {
        perror(path);
        exit(1);
    }
    while ((n = fread(part, 1, sizeof(part), f)) > 0)
        cog_buf_add(&bytes, part, n);
    fclose(f);
    printf("%s\n", path);
    fflush(stdout);
    run_unit((const uint8_t *)(cog_buf_text(&bytes)), bytes.len);
    cog_buf_fini(&bytes);
}

static int is_visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static void run_path(const char *path)
{
    struct dirent **names = NULL;
    struct stat st;
    int n;

    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
        run_file(path);
        return;
    }
    n = scandir(path, &names, is_visible, alphasort);
    for (int i = 0; i < n; i++) {
        char *file = cog_sprintf("%s/%s", path, names[i]->d_name);

        run_path(file);
        cog_free(file);
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    int option;

    rng.key = 1;
    while ((option = getopt(argc, argv, "m:w:")) != -1) {
        if (option == 'm')
            n_mutations = atoi(optarg);
        else if (option == 'w')
            keep = optarg;
        else
            return 2;
    }
    for (int i = optind; i < argc; i++)
        run_path(argv[i]);
    printf("%lu units, %lu runs\n", n_units, n_runs);
    return n_units == 0;
}
