#include "base/err.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What a file or a library wrote may hold anything; a terminal obeys some of it. */
static void make_showable(cog_err *err)
{
    for (char *p = err->text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    err->text[cog_utf8_complete(err->text, strlen(err->text))] = '\0';
}

int cog_err_set(cog_err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        make_showable(err);
        err->code = code;
    }
    return code;
}

void cog_err_prefix(cog_err *err, const char *fmt, ...)
{
    char head[sizeof(err->text)], whole[2 * sizeof(err->text) + 2];
    va_list ap;

    if (!err)
        return;
    va_start(ap, fmt);
    vsnprintf(head, sizeof(head), fmt, ap);
    va_end(ap);
    snprintf(whole, sizeof(whole), "%s: %s", head, err->text);
    memcpy(err->text, whole, sizeof(err->text) - 1);
    err->text[sizeof(err->text) - 1] = '\0';
    make_showable(err);
}

const char *cog_err_name(int code)
{
    switch (code) {
    case 0:
        return "OK";
    case COG_EINVAL:
        return "EINVAL";
    case COG_ELIMIT:
        return "ELIMIT";
    case COG_EBUSY:
        return "EBUSY";
    case COG_EFORMAT:
        return "EFORMAT";
    case COG_EIO:
        return "EIO";
    case COG_ENOMEM:
        return "ENOMEM";
    case COG_EDEVICE:
        return "EDEVICE";
    case COG_ECANCELED:
        return "ECANCELED";
    case COG_ETIMEOUT:
        return "ETIMEOUT";
    case COG_EUNSUPPORTED:
        return "EUNSUPPORTED";
    }
    return "E?";
}
