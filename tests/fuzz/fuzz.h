/* fuzz.h - what the harnesses share. A harness is one file, fuzz_<name>.c, with the functions that
 * libFuzzer calls. It asserts properties, not only that nothing crashes. The same file is linked
 * with libFuzzer for long runs, and with replay.c, for any compiler, to replay the corpus. */
#ifndef COG_TESTS_FUZZ_H
#define COG_TESTS_FUZZ_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- libFuzzer's interface ---- */

/* One input; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
/* Optional: a mutation that keeps the input's form. Returns the new length, at most room. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed);
/* libFuzzer's own mutations of bytes; replay.c has a plain one. */
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t len, size_t room);

/* ---- properties ---- */

#define REQUIRE(condition)                                       \
    do {                                                         \
        if (!(condition))                                        \
            fuzz_fail(__FILE__, __LINE__, #condition, "%s", ""); \
    } while (0)

/* The same with a word about the values. */
#define REQUIRE_SAY(condition, ...)                                 \
    do {                                                            \
        if (!(condition))                                           \
            fuzz_fail(__FILE__, __LINE__, #condition, __VA_ARGS__); \
    } while (0)

_Noreturn void fuzz_fail(const char *file, int line, const char *condition, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* rc is an error, and err says so in one sentence fit for a terminal. */
void fuzz_check_err(int rc, const cog_err *err);

/* ---- inputs ---- */

/* Reads an input from its end, where what steers a harness stands, so that the front stays a file
 * of its format. Beyond the bytes everything is 0. */
typedef struct fuzz_tail {
    const uint8_t *bytes;
    size_t len; /* what is left */
} fuzz_tail;

unsigned fuzz_take(fuzz_tail *t); /* the last byte, and removes it */

/* Bytes up to the next separator, as a view; false when there are none left. */
typedef struct fuzz_cut {
    const uint8_t *bytes;
    size_t len;
} fuzz_cut;

bool fuzz_next(fuzz_cut *part, fuzz_cut *rest, uint8_t separator);

/* The input with its first four bytes `marker` replaced by n bytes `fill` each: a short input
 * stands for a long one. The caller's. */
cog_buf fuzz_expand(const uint8_t *bytes, size_t len, uint8_t marker, char fill, size_t n);

/* ---- files ---- */

/* A folder for this process; removed with what fuzz_write put there when the process ends well. */
const char *fuzz_folder(void);
void fuzz_write(const char *name, const void *bytes, size_t len);
void fuzz_remove(const char *name); /* no matter whether it is there */
void fuzz_make_folder(const char *name);
void fuzz_link(const char *name, const char *target);

#endif
