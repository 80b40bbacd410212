/* The log when nobody reads it: lines are lost, counted and told, and nobody waits. */
#include "tests/unit/unit.h"

#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int kept = -1;

/* Standard error is fd until the test ends. */
static void redirect(int fd)
{
    kept = dup(STDERR_FILENO);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
}

static void restore(void)
{
    assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
    close(kept);
}

/* Whatever is there to read, as text. */
static char *drain(int fd)
{
    static char text[1 << 20];
    size_t n = 0;
    ssize_t got;

    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (n < sizeof(text) - 1 && (got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    return text;
}

static unsigned long long told(const char *text)
{
    const char *at = strstr(text, "level=warn event=log_lost lines=");
    unsigned long long n = 0;

    if (at)
        sscanf(at, "level=warn event=log_lost lines=%llu\n", &n);
    return n;
}

/* Logs until lines are lost, lets the reader catch up, and expects the count. */
static void lose_and_catch_up(int reader, int writer)
{
    uint64_t before = cog_log_lost();
    uint64_t n_lost;
    const char *text;

    redirect(writer);
    for (int i = 0; i < 20000; i++)
        cog_log(COG_WARN, "event=test filler=%0200d", i);
    n_lost = cog_log_lost() - before;
    text = drain(reader);
    assert_non_null(strstr(text, "level=warn event=test filler=0"));
    assert_int_equal(told(text), 0);
    cog_log(COG_ERROR, "event=after");
    text = drain(reader);
    restore();
    close(reader);
    assert_true(n_lost > 1000);
    assert_int_equal(told(text), n_lost);
    assert_non_null(strstr(text, "level=error event=after\n"));
    assert_int_equal(cog_log_lost() - before, n_lost);
}

static void full_pipe(void **state)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    lose_and_catch_up(ends[0], ends[1]);
}

/* As systemd gives it to a service. */
static void full_socket(void **state)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    lose_and_catch_up(ends[0], ends[1]);
}

static void full_disk(void **state)
{
    uint64_t before = cog_log_lost();
    int fd = open("/dev/full", O_WRONLY), ends[2];
    const char *text;

    assert_true(fd >= 0);
    redirect(fd);
    for (int i = 0; i < 7; i++)
        cog_log(COG_ERROR, "event=test");
    restore();
    assert_int_equal(cog_log_lost() - before, 7);
    assert_int_equal(pipe(ends), 0);
    redirect(ends[1]);
    cog_log(COG_INFO, "event=room_again");
    restore();
    text = drain(ends[0]);
    close(ends[0]);
    assert_int_equal(told(text), 7);
    assert_true(strstr(text, "event=log_lost") < strstr(text, "event=room_again"));
}

static void closed(void **state)
{
    uint64_t before = cog_log_lost();

    kept = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    cog_log(COG_ERROR, "event=test");
    restore();
    assert_int_equal(cog_log_lost() - before, 1);
}

static void levels(void **state)
{
    int ends[2];
    const char *text;

    assert_int_equal(pipe(ends), 0);
    redirect(ends[1]);
    cog_log_set_level(COG_WARN);
    cog_log(COG_INFO, "event=quiet");
    cog_log(COG_WARN, "event=heard");
    cog_log_set_level(COG_INFO);
    restore();
    text = drain(ends[0]);
    close(ends[0]);
    assert_null(strstr(text, "quiet"));
    assert_non_null(strstr(text, "level=warn event=heard\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_pipe), cmocka_unit_test(full_socket), cmocka_unit_test(full_disk),
        cmocka_unit_test(closed),    cmocka_unit_test(levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
