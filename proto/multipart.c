#include "proto/multipart.h"

#include "base/utf8.h"

#include <string.h>
#include <strings.h>

enum { DELIMITER_SIZE = 4 + COG_MULTIPART_MAX_BOUNDARY + 1 };

/* What is left to be read. */
typedef struct span {
    const char *at, *end;
} span;

static size_t left(const span *s)
{
    return (size_t)(s->end - s->at);
}

static bool skip(span *s, const char *text)
{
    size_t n = strlen(text);

    if (left(s) < n || memcmp(s->at, text, n) != 0)
        return false;
    s->at += n;
    return true;
}

static void skip_spaces(span *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t'))
        s->at++;
}

/* ------------------------------------------------------------------ parameters */

static bool is_token_char(char c)
{
    return c > ' ' && c < 0x7f && !strchr("()<>@,;:\\\"/[]?={}", c);
}

static size_t token_length(const span *s)
{
    size_t n = 0;

    while (n < left(s) && is_token_char(s->at[n]))
        n++;
    return n;
}

/* A token, or a quoted string, whose \" and \\ stand for " and \. -1: it is neither, or longer than
 * room - 1. */
static int read_value(char *dst, size_t room, span *s)
{
    size_t n = token_length(s);

    if (!skip(s, "\"")) {
        if (n == 0 || n >= room)
            return -1;
        memcpy(dst, s->at, n);
        dst[n] = '\0';
        s->at += n;
        return 0;
    }
    n = 0;
    while (s->at < s->end && *s->at != '"') {
        if (*s->at == '\\' && left(s) > 1 && (s->at[1] == '"' || s->at[1] == '\\'))
            s->at++;
        if (n + 1 >= room)
            return -1;
        dst[n++] = *s->at++;
    }
    dst[n] = '\0';
    return skip(s, "\"") ? 0 : -1;
}

/* The next of "; name=value". 1: it is there; 0: there is none; -1: the text is no parameter, or
 * the value too long. */
static int read_parameter(const char **name, size_t *name_len, char *value, size_t room, span *s)
{
    skip_spaces(s);
    if (s->at == s->end)
        return 0;
    if (!skip(s, ";"))
        return -1;
    skip_spaces(s);
    if (s->at == s->end)
        return 0;
    *name = s->at;
    *name_len = token_length(s);
    s->at += *name_len;
    if (*name_len == 0 || !skip(s, "="))
        return -1;
    return read_value(value, room, s) < 0 ? -1 : 1;
}

static bool is_word(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp(text, word, len) == 0;
}

/* ------------------------------------------------------------------ the type */

static const char form_data[] = "multipart/form-data";

bool cog_multipart_is_type(const char *content_type)
{
    size_t n = sizeof(form_data) - 1;

    return content_type && strncasecmp(content_type, form_data, n) == 0 &&
           strchr("; \t", content_type[n]) != NULL;
}

static bool is_boundary(const char *text)
{
    size_t n = strlen(text);

    return n > 0 && n <= COG_MULTIPART_MAX_BOUNDARY && text[n - 1] != ' ' &&
           strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "'()+_,-./:=? ") == n;
}

int cog_multipart_boundary(char dst[COG_MULTIPART_MAX_BOUNDARY + 1], const char *content_type)
{
    span s = { content_type + sizeof(form_data) - 1, content_type + strlen(content_type) };
    char value[256];
    const char *name;
    size_t len;
    bool found = false;
    int more;

    while ((more = read_parameter(&name, &len, value, sizeof(value), &s)) > 0) {
        if (!is_word(name, len, "boundary"))
            continue;
        if (found || !is_boundary(value))
            return COG_EINVAL;
        strcpy(dst, value);
        found = true;
    }
    return more == 0 && found ? 0 : COG_EINVAL;
}

/* ------------------------------------------------------------------ one part's head */

static bool is_text(const char *s)
{
    for (const char *c = s; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    }
    return cog_utf8_valid(s, strlen(s));
}

/* form-data; name="file"; filename="a.jpg". Other parameters mean nothing here. */
static int read_disposition(cog_multipart_part *p, span *s, cog_err *err)
{
    char value[COG_MULTIPART_MAX_FILENAME + 1];
    const char *name;
    size_t len;
    int more;

    if (p->name[0])
        return cog_err_set(err, COG_EINVAL, "a part has more than one Content-Disposition");
    len = token_length(s);
    if (!is_word(s->at, len, "form-data"))
        return cog_err_set(err, COG_EINVAL, "a part's Content-Disposition is not form-data");
    s->at += len;
    while ((more = read_parameter(&name, &len, value, sizeof(value), s)) > 0) {
        bool is_name = is_word(name, len, "name"), is_file = is_word(name, len, "filename");

        if (!is_name && !is_file)
            continue;
        if ((is_name && p->name[0]) || (is_file && p->has_filename))
            return cog_err_set(err, COG_EINVAL, "a part has a name twice");
        if (!is_text(value) || (is_name && strlen(value) > COG_MULTIPART_MAX_NAME))
            return cog_err_set(err, COG_EINVAL, "a part's name is too long or no text");
        strcpy(is_name ? p->name : p->filename, value);
        p->has_filename |= is_file;
    }
    if (more < 0)
        return cog_err_set(err, COG_EINVAL,
                           "a part's Content-Disposition cannot be read, or a name in it has more "
                           "than %d bytes",
                           COG_MULTIPART_MAX_FILENAME);
    return 0;
}

static int read_header(cog_multipart_part *p, span line, cog_err *err)
{
    const char *name = line.at;
    size_t len = token_length(&line);

    line.at += len;
    if (len == 0 || !skip(&line, ":"))
        return cog_err_set(err, COG_EINVAL, "a part has a line that is no header field");
    skip_spaces(&line);
    if (is_word(name, len, "Content-Disposition"))
        return read_disposition(p, &line, err);
    if (is_word(name, len, "Content-Transfer-Encoding") &&
        !is_word(line.at, left(&line), "binary") && !is_word(line.at, left(&line), "8bit") &&
        !is_word(line.at, left(&line), "7bit"))
        return cog_err_set(err, COG_EINVAL, "a part has a Content-Transfer-Encoding");
    return 0;
}

static int read_headers(cog_multipart_part *p, span *s, cog_err *err)
{
    const char *begin = s->at;

    while (!skip(s, "\r\n")) {
        size_t room = COG_MULTIPART_MAX_HEADERS - (size_t)(s->at - begin);
        const char *end = memmem(s->at, left(s) < room ? left(s) : room, "\r\n", 2);

        if (!end && left(s) >= room)
            return cog_err_set(err, COG_ELIMIT, "a part's header has more than %d bytes",
                               COG_MULTIPART_MAX_HEADERS);
        if (!end)
            return cog_err_set(err, COG_EINVAL, "it ends inside a part's header");
        if (read_header(p, (span){ s->at, end }, err) < 0)
            return COG_EINVAL;
        s->at = end + 2;
    }
    if (!p->name[0])
        return cog_err_set(err, COG_EINVAL, "a part has no name");
    return 0;
}

/* ------------------------------------------------------------------ the whole */

/* delimiter: CRLF, -- and the boundary, which follows the part's bytes. */
static int read_part(cog_multipart_part *p, span *s, const char *delimiter, cog_err *err)
{
    const char *end;

    *p = (cog_multipart_part){ 0 };
    if (read_headers(p, s, err) < 0)
        return COG_EINVAL;
    /* The delimiter's CRLF may be the one that ends the headers: the part is empty then. */
    s->at -= 2;
    end = memmem(s->at, left(s), delimiter, strlen(delimiter));
    if (!end)
        return cog_err_set(err, COG_EINVAL, "it ends inside a part");
    p->data = end == s->at ? end : s->at + 2;
    p->len = (size_t)(end - p->data);
    s->at = end + strlen(delimiter);
    return 0;
}

int cog_multipart_parse(cog_multipart *out, const char *body, size_t len, const char *boundary,
                        cog_err *err)
{
    char delimiter[DELIMITER_SIZE] = "\r\n--";
    span s = { body, body + len };

    strcat(delimiter, boundary);
    out->n = 0;
    if (!skip(&s, delimiter + 2))
        return cog_err_set(err, COG_EINVAL, "it does not begin with its boundary");
    while (!skip(&s, "--")) {
        skip_spaces(&s);
        if (!skip(&s, "\r\n"))
            return cog_err_set(err, COG_EINVAL, "a boundary is followed by something else");
        if (out->n == COG_MULTIPART_MAX_PARTS)
            return cog_err_set(err, COG_ELIMIT, "it has more than %d parts",
                               COG_MULTIPART_MAX_PARTS);
        if (read_part(&out->part[out->n], &s, delimiter, err) < 0)
            return err->code;
        out->n++;
    }
    skip_spaces(&s);
    skip(&s, "\r\n");
    if (left(&s) > 0)
        return cog_err_set(err, COG_EINVAL, "something follows its last boundary");
    return 0;
}
