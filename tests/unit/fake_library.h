/* fake_library.h - a loader for tests: what dlclose, dlerror and looking up a symbol do in each of
 * them. dlopen and dlsym are the test's own. */
#ifndef COG_TESTS_FAKE_LIBRARY_H
#define COG_TESTS_FAKE_LIBRARY_H

#include <stddef.h>

typedef struct fake_symbol {
    const char *name;
    void *function;
} fake_symbol;

/* The function called name; NULL when there is none, or lacks (NULL is fine) says so. */
void *fake_symbol_find(const fake_symbol *table, size_t n, const char *name, const char *lacks);

/* Handles, descriptors and libraries that are open; counted up by the tests, down by them and by
 * dlclose. */
extern int fake_alive;

void *fake_dlopen(const char *name, int flags);
int fake_dlclose(void *handle);
char *fake_dlerror(void);
void *fake_dlsym(void *handle, const char *name);

#endif
