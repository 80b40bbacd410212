#include "tests/unit/fake_library.h"

#include <string.h>

int fake_alive;

void *fake_symbol_find(const fake_symbol *table, size_t n, const char *name, const char *lacks)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, table[i].name) == 0 && !(lacks && strcmp(name, lacks) == 0))
            return table[i].function;
    return NULL;
}

int fake_dlclose(void *handle)
{
    fake_alive--;
    return 0;
}

char *fake_dlerror(void)
{
    static char text[] = "no such file";
    return text;
}
