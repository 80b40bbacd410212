/* memory.h - how much memory this process may still use. */
#ifndef COG_BASE_MEMORY_H
#define COG_BASE_MEMORY_H

#include <stdint.h>

/* Bytes that can be had without swapping: what the kernel says is available, or what the control
 * group's limit (version 1 or 2) leaves, if that is less. 0 when neither is known. Any thread. */
uint64_t cog_memory_available(void);

#endif
