/* decode_test_helper.c - a helper that decodes as the real one does, and does what a file tells it
 * when that begins with HOOK: so tests see what becomes of a decoder that was taken over. Linked
 * with --wrap, so that the decoders behind the helper's loop are these. */
#include "base/alloc.h"
#include "engine/engine.h"
#include "server/picture/decode_child.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int __real_cog_image_probe(cog_image_format *format, int *width, int *height,
                           cog_image_fault *fault, const void *bytes, size_t len,
                           const cog_image_options *opt, cog_err *err);
int __wrap_cog_image_probe(cog_image_format *format, int *width, int *height,
                           cog_image_fault *fault, const void *bytes, size_t len,
                           const cog_image_options *opt, cog_err *err);
int __real_cog_image_read(uint8_t *rgb, cog_image_source *out, cog_image_fault *fault,
                          const void *bytes, size_t len, int side, const cog_image_options *opt,
                          cog_err *err);
int __wrap_cog_image_read(uint8_t *rgb, cog_image_source *out, cog_image_fault *fault,
                          const void *bytes, size_t len, int side, const cog_image_options *opt,
                          cog_err *err);

enum { STOPPED = 77 };

static bool is_hook(char text[64], const void *bytes, size_t len)
{
    memset(text, 0, 64);
    memcpy(text, bytes, len < 63 ? len : 63);
    return strncmp(text, "HOOK ", 5) == 0;
}

static long number(const char *text, const char *name, long otherwise)
{
    const char *at = strstr(text, name);

    return at ? strtol(at + strlen(name), NULL, 10) : otherwise;
}

static void spin(long ms)
{
    struct timespec t;
    long end;

    clock_gettime(CLOCK_MONOTONIC, &t);
    end = t.tv_sec * 1000 + t.tv_nsec / 1000000 + ms;
    do
        clock_gettime(CLOCK_MONOTONIC, &t);
    while (ms < 0 || t.tv_sec * 1000 + t.tv_nsec / 1000000 < end);
}

/* More than the memory there is, in pieces that are not asked for before. */
static void exhaust(void)
{
    for (;;)
        memset(cog_alloc(1 << 20, 1), 1, 1 << 20);
}

static void write_where_nothing_is(void)
{
    volatile int *p = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    *p = 1;
}

static void be_harmful(const char *what)
{
    if (strcmp(what, "segv") == 0)
        write_where_nothing_is();
    else if (strcmp(what, "abort") == 0)
        abort();
    else if (strcmp(what, "kill") == 0)
        raise(SIGKILL);
    else if (strcmp(what, "stop") == 0)
        raise(SIGSTOP);
    else if (strcmp(what, "spin") == 0)
        spin(-1);
    else if (strcmp(what, "exhaust") == 0)
        exhaust();
    else if (strcmp(what, "exit") == 0)
        _exit(0);
}

static void call_the_system(const char *what)
{
    static char *const argv[] = { (char *)"true", NULL };

    if (strcmp(what, "open") == 0)
        (void)!open("/dev/null", O_RDONLY);
    else if (strcmp(what, "socket") == 0)
        (void)!socket(AF_INET, SOCK_STREAM, 0);
    else if (strcmp(what, "exec") == 0)
        execv("/bin/true", argv);
    else if (strcmp(what, "fork") == 0)
        (void)!syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    else if (strcmp(what, "code") == 0)
        (void)!mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    else if (strcmp(what, "trace") == 0)
        (void)!syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
    else if (strcmp(what, "signal") == 0)
        (void)!syscall(SYS_tgkill, 1, 1, 0);
}

static void lie(const char *what, cog_image_source *out)
{
    if (strcmp(what, "width") == 0)
        out->width = 1 << 20;
    else if (strcmp(what, "format") == 0)
        out->format = (cog_image_format)77;
    else if (strcmp(what, "extra") == 0)
        (void)!send(COG_DECODE_CHILD_FD, "I am done", 9, 0);
    else if (strcmp(what, "nothing") == 0)
        (void)!send(COG_DECODE_CHILD_FD, "", 0, 0);
}

int __wrap_cog_image_probe(cog_image_format *format, int *width, int *height,
                           cog_image_fault *fault, const void *bytes, size_t len,
                           const cog_image_options *opt, cog_err *err)
{
    char text[64];

    if (!is_hook(text, bytes, len))
        return __real_cog_image_probe(format, width, height, fault, bytes, len, opt, err);
    if (strncmp(text, "HOOK early ", 11) == 0)
        be_harmful(text + 11);
    *format = COG_PNG;
    *width = *height = (int)number(text, "side=", 8);
    return 0;
}

int __wrap_cog_image_read(uint8_t *rgb, cog_image_source *out, cog_image_fault *fault,
                          const void *bytes, size_t len, int side, const cog_image_options *opt,
                          cog_err *err)
{
    char text[64];

    if (!is_hook(text, bytes, len))
        return __real_cog_image_read(rgb, out, fault, bytes, len, side, opt, err);
    *out = (cog_image_source){ COG_PNG, 8, 8 };
    spin(number(text, "ms=", 0));
    if (strcmp(text, "HOOK stop once") == 0 && rgb[0] != STOPPED) { /* the next helper sees that */
        rgb[0] = STOPPED;
        raise(SIGSTOP);
    }
    memset(rgb, (int)number(text, "fill=", 0), (size_t)side * (size_t)side * 3);
    if (strncmp(text, "HOOK late ", 10) == 0)
        be_harmful(text + 10);
    if (strncmp(text, "HOOK call ", 10) == 0)
        call_the_system(text + 10);
    if (strncmp(text, "HOOK lie ", 9) == 0)
        lie(text + 9, out);
    if (strcmp(text, "HOOK lie fault") == 0 || strcmp(text, "HOOK lie text") == 0) {
        *fault = text[9] == 'f' ? (cog_image_fault)99 : COG_IMAGE_BROKEN;
        strcpy(err->text, text[9] == 't' ? "\x1b[2J" : "broken");
        return COG_EFORMAT;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], COG_DECODE_CHILD) == 0)
        return cog_decode_child_main(argc, argv);
    return 2;
}
