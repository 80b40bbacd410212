#include "proto/data_url.h"

#include <string.h>
#include <strings.h>

static bool starts(const char *text, size_t len, const char *prefix)
{
    size_t n = strlen(prefix);

    return len >= n && strncasecmp(text, prefix, n) == 0;
}

static cog_url_kind check_head(const char *head, size_t len)
{
    static const char suffix[] = ";base64", octets[] = "application/octet-stream";
    const char *semicolon = memchr(head, ';', len);
    size_t type_len = semicolon ? (size_t)(semicolon - head) : len;

    if (len < strlen(suffix) || !starts(head + len - strlen(suffix), strlen(suffix), suffix))
        return COG_URL_NOT_BASE64;
    if (type_len == 0 || starts(head, type_len, "image/") ||
        (type_len == strlen(octets) && starts(head, type_len, octets)))
        return COG_URL_DATA;
    return COG_URL_NOT_IMAGE;
}

cog_url_kind cog_data_url_split(const char **payload, size_t *payload_len, const char *url,
                                size_t len)
{
    const char *comma;
    cog_url_kind kind;

    if (starts(url, len, "http://") || starts(url, len, "https://"))
        return COG_URL_WEB;
    if (starts(url, len, "file:"))
        return COG_URL_FILE;
    if (!starts(url, len, "data:")) {
        if (memchr(url, ':', len))
            return COG_URL_OTHER;
        *payload = url;
        *payload_len = len;
        return COG_URL_BARE;
    }
    comma = memchr(url, ',', len);
    if (!comma)
        return COG_URL_NOT_BASE64;
    kind = check_head(url + 5, (size_t)(comma - url) - 5);
    if (kind == COG_URL_DATA) {
        *payload = comma + 1;
        *payload_len = len - (size_t)(comma + 1 - url);
    }
    return kind;
}
