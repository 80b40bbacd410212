/* The file of API keys: what is accepted is one entry for each line that holds a key, in order, and
 * no refusal quotes the file. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "server/key_file.h"

#include <string.h>

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The first word of a line; false when there is none, or a comment. */
static bool first_word(fuzz_cut *word, fuzz_cut line)
{
    while (line.len > 0 && is_blank(line.bytes[0])) {
        line.bytes++;
        line.len--;
    }
    word->bytes = line.bytes;
    for (word->len = 0; word->len < line.len && !is_blank(line.bytes[word->len]);)
        word->len++;
    return word->len > 0 && word->bytes[0] != '#';
}

static void check_entries(const cog_key_entry *e, int n, fuzz_cut rest)
{
    fuzz_cut line, word;
    int at = 0;

    while (fuzz_next(&line, &rest, '\n')) {
        cog_span key;
        cog_sha256 digest;

        if (!first_word(&word, line))
            continue;
        key = (cog_span){ word.bytes, word.len };
        digest = cog_sha256_of(&key, 1);
        REQUIRE(at < n && memcmp(&e[at].digest, &digest, sizeof(digest)) == 0);
        REQUIRE(e[at].requests >= -1 && e[at].tokens >= -1 && e[at].concurrent >= -1);
        for (int i = 0; i < at; i++)
            REQUIRE(memcmp(&e[i].digest, &digest, sizeof(digest)) != 0);
        at++;
    }
    REQUIRE(at == n && n > 0);
}

/* A word of the file that is no word of ours stands in no message. */
static void check_secret(const cog_err *err, fuzz_cut rest)
{
    fuzz_cut line, word;

    while (fuzz_next(&line, &rest, '\n'))
        if (first_word(&word, line) && word.len >= 12)
            REQUIRE_SAY(!memmem(err->text, strlen(err->text), word.bytes, word.len), "%s",
                        err->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    const char *text = len ? (const char *)bytes : "";
    cog_key_entry *entries = NULL;
    cog_err err = { 0 };
    int n = 0, rc = cog_key_file_parse(&entries, &n, text, len, &err);

    if (rc < 0) {
        fuzz_check_err(rc, &err);
        REQUIRE(!entries);
        check_secret(&err, (fuzz_cut){ bytes, len });
    } else {
        check_entries(entries, n, (fuzz_cut){ bytes, len });
        cog_free(entries);
    }
    return 0;
}
