/* decode_child.c - see decode_child.h. One thread, and one picture at a time; whatever goes wrong
 * ends the process, and the server starts another one. */
#include "server/picture/decode_child.h"

#include "base/err.h"
#include "server/picture/decode_wire.h"
#include "server/picture/sandbox.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STOPPED = 0, FAILED = 1, USAGE = 2 };

static void say(const cog_say *words)
{
    if (send(COG_DECODE_CHILD_FD, words, sizeof(*words), MSG_NOSIGNAL) != sizeof(*words))
        _exit(STOPPED); /* the server is gone */
}

/* The server's next words, with the descriptor that came along or -1. */
static cog_ask listen_to(int *fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    cog_ask ask;
    struct iovec part = { &ask, sizeof(ask) };
    struct msghdr message = { .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = sizeof(control) };
    struct cmsghdr *c;

    if (recvmsg(COG_DECODE_CHILD_FD, &message, MSG_CMSG_CLOEXEC) != sizeof(ask))
        _exit(STOPPED);
    *fd = -1;
    c = CMSG_FIRSTHDR(&message);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(c), sizeof(*fd));
    return ask;
}

static void end(uint64_t id, cog_say_result result, cog_image_fault fault, const char *why)
{
    cog_say words = { .id = id, .kind = COG_SAY_END, .result = result, .fault = fault };

    snprintf(words.text, sizeof(words.text), "%s", why);
    say(&words);
}

/* Asked before the work, because a library that finds no memory says that the file is damaged. */
static bool has_memory(int width, int height)
{
    size_t size = (size_t)width * (size_t)height * COG_DECODE_BYTES_PER_PIXEL;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == MAP_FAILED)
        return false;
    munmap(p, size);
    return true;
}

static void decode(const cog_ask *ask, uint8_t *base)
{
    cog_image_source source;
    cog_image_fault fault;
    cog_err err = { 0 };
    cog_say words = { .id = ask->id, .kind = COG_SAY_END, .result = COG_SAY_FINE };

    if (cog_image_read(base + ask->pixels_at, &source, &fault, base, ask->file_len, ask->side,
                       &ask->options, &err) < 0) {
        end(ask->id, COG_SAY_REFUSED, fault, err.text);
        return;
    }
    words.format = source.format;
    words.width = source.width;
    words.height = source.height;
    say(&words);
}

static void look(const cog_ask *ask, uint8_t *base)
{
    cog_say words = { .id = ask->id, .kind = COG_SAY_HEADER };
    cog_image_format format;
    cog_image_fault fault;
    cog_err err = { 0 };
    int fd;

    if (cog_image_probe(&format, &words.width, &words.height, &fault, base, ask->file_len,
                        &ask->options, &err) < 0) {
        end(ask->id, COG_SAY_REFUSED, fault, err.text);
        return;
    }
    words.format = format;
    say(&words);
    if (listen_to(&fd).kind != COG_ASK_DECODE)
        return;
    if (has_memory(words.width, words.height))
        decode(ask, base);
    else
        end(ask->id, COG_SAY_NO_MEMORY, COG_IMAGE_TOO_LARGE, "");
}

static void serve_one(void)
{
    int fd;
    cog_ask ask = listen_to(&fd);
    void *base = mmap(NULL, ask.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    close(fd);
    if (base == MAP_FAILED) {
        end(ask.id, COG_SAY_NO_MEMORY, COG_IMAGE_TOO_LARGE, "");
        return;
    }
    look(&ask, base);
    munmap(base, ask.size);
}

int cog_decode_child_main(int argc, char **argv)
{
    cog_say hello = { .kind = COG_SAY_HELLO };
    int type = 0;
    socklen_t size = sizeof(type);
    cog_err err = { 0 };

    if (argc != 3 || getsockopt(COG_DECODE_CHILD_FD, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
        type != SOCK_SEQPACKET) {
        fprintf(stderr, "%s: only a server starts this\n", COG_DECODE_CHILD);
        return USAGE;
    }
    prctl(PR_SET_NAME, "cog-decode", 0, 0, 0);
    if (cog_sandbox_limit(strtoull(argv[2], NULL, 10), COG_DECODE_CHILD_FD + 1, &err) < 0) {
        fprintf(stderr, "%s: %s\n", COG_DECODE_CHILD, err.text);
        return FAILED;
    }
    if (cog_sandbox_filter(&err) < 0) {
        hello.result = COG_SAY_UNGUARDED;
        snprintf(hello.text, sizeof(hello.text), "%.250s", err.text);
    }
    say(&hello);
    for (;;)
        serve_one();
}
