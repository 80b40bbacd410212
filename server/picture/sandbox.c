#include "server/picture/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER 0
#endif

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__LITTLE_ENDIAN__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#define ARCH 0
#endif

/* ------------------------------------------------------------------ limits */

static int limit(int resource, rlim_t value)
{
    struct rlimit now;

    if (getrlimit(resource, &now) < 0)
        return -1;
    if (now.rlim_max < value)
        value = now.rlim_max;
    return setrlimit(resource, &(struct rlimit){ value, value });
}

static int silence(void)
{
    int null = open("/dev/null", O_RDWR), last = HAS_SANITIZER ? STDOUT_FILENO : STDERR_FILENO;

    for (int fd = 0; null >= 0 && fd <= last; fd++) {
        if (dup2(null, fd) < 0)
            return -1;
    }
    if (null > last)
        close(null);
    return null < 0 ? -1 : 0;
}

int cog_sandbox_limit(size_t max_memory, int n_files, cog_err *err)
{
    closefrom(n_files);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    if (limit(RLIMIT_CORE, 0) < 0 || limit(RLIMIT_NOFILE, (rlim_t)n_files + 1) < 0 ||
        (!HAS_SANITIZER && limit(RLIMIT_AS, max_memory) < 0) ||
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ||
        silence() < 0)
        return cog_err_set(err, COG_EUNSUPPORTED, "cannot limit the process: %s", strerror(errno));
    return 0;
}

/* ------------------------------------------------------------------ the filter */

/* clock_gettime: where the vDSO has no answer, as for the processor time of a thread. getrandom: of
 * the first malloc. The signal calls are abort's. */
/* clang-format off */
static const int allowed[] = {
    SYS_read, SYS_write, SYS_recvmsg, SYS_sendto, SYS_close,
    SYS_munmap, SYS_mremap, SYS_brk, SYS_madvise, SYS_futex,
    SYS_clock_gettime, SYS_getrandom,
    SYS_getpid, SYS_gettid, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_exit, SYS_exit_group,
};
/* clang-format on */

enum { N_ALLOWED = sizeof(allowed) / sizeof(allowed[0]), MAX_FILTER = 2 * N_ALLOWED + 24 };

typedef struct filter {
    struct sock_filter op[MAX_FILTER];
    unsigned short n;
} filter;

static void add(filter *f, unsigned short code, unsigned value, unsigned char is_true,
                unsigned char is_false)
{
    f->op[f->n++] = (struct sock_filter){ code, is_true, is_false, value };
}

static void load(filter *f, size_t offset)
{
    add(f, BPF_LD | BPF_W | BPF_ABS, (unsigned)offset, 0, 0);
}

static void finish(filter *f, unsigned action)
{
    add(f, BPF_RET | BPF_K, action, 0, 0);
}

static void allow(filter *f, int call)
{
    add(f, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1);
    finish(f, SECCOMP_RET_ALLOW);
}

/* Only when the argument's low half passes the test (its result as_wanted). */
static void allow_if(filter *f, int call, int argument, unsigned short test, unsigned value,
                     bool as_wanted)
{
    add(f, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 4);
    load(f, offsetof(struct seccomp_data, args) + sizeof(__u64) * (size_t)argument);
    add(f, BPF_JMP | test | BPF_K, value, as_wanted ? 0 : 1, as_wanted ? 1 : 0);
    finish(f, SECCOMP_RET_ALLOW);
    finish(f, SECCOMP_RET_KILL_PROCESS);
}

static void build(filter *f)
{
    load(f, offsetof(struct seccomp_data, arch));
    add(f, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    finish(f, SECCOMP_RET_KILL_PROCESS);
    load(f, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < N_ALLOWED; i++)
        allow(f, allowed[i]);
    allow_if(f, SYS_mmap, 2, BPF_JSET, PROT_EXEC, false);
    allow_if(f, SYS_mprotect, 2, BPF_JSET, PROT_EXEC, false);
    allow_if(f, SYS_tgkill, 0, BPF_JEQ, (unsigned)getpid(), true);
    finish(f, SECCOMP_RET_KILL_PROCESS);
}

int cog_sandbox_filter(cog_err *err)
{
    filter f = { .n = 0 };
    struct sock_fprog program = { .filter = f.op };

    if (HAS_SANITIZER)
        return cog_err_set(err, COG_EUNSUPPORTED, "this program was built with a sanitizer");
    if (!ARCH)
        return cog_err_set(err, COG_EUNSUPPORTED, "no filter is written for this processor");
    build(&f);
    program.len = f.n;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
        return cog_err_set(err, COG_EUNSUPPORTED, "the kernel refuses a seccomp filter: %s",
                           strerror(errno));
    return 0;
}
