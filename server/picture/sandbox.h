/* sandbox.h - what a process gives up for good before it looks at bytes that strangers made. Linux
 * only. For a process with one thread. */
#ifndef COG_SERVER_PICTURE_SANDBOX_H
#define COG_SERVER_PICTURE_SANDBOX_H

#include "base/err.h"

#include <stddef.h>

/* Closes every descriptor from n_files on and allows one more; makes the standard streams /dev/null
 * (but keeps standard error in builds with a sanitizer, which reports there); bounds the address
 * space to max_memory bytes (builds with a sanitizer need all of it: not there); writes no core
 * dumps and cannot be traced; dies with the thread that started it; leaves SIGINT, SIGTERM and
 * SIGHUP, which a terminal or a supervisor sends to all processes of a service, to its parent. */
int cog_sandbox_limit(size_t max_memory, int n_files, cog_err *err);

/* From here on a system call ends the process, except those that memory, clocks and talking over
 * open descriptors take: no file, socket or process can be opened, no memory made executable.
 * COG_EUNSUPPORTED where the kernel or a policy does not allow such a filter, and in builds with a
 * sanitizer, which has calls of its own. */
int cog_sandbox_filter(cog_err *err);

#endif
