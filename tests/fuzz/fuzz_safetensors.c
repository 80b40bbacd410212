/* A checkpoint folder's weights: what opens can be read in full, and every lookup agrees. The input
 * is JSON between zero bytes: the header of a single file, or an index and the headers of the files
 * "a", "b", "c". The harness puts lengths and data behind headers; the last byte steers: shards or
 * not, how much data, or the input as it is for a file. */
#include "tests/fuzz/fuzz_json.h"

#include "engine/safetensors.h"

#include <string.h>

enum {
    IS_RAW = 1,
    IS_SHARDED = 2,
    IS_CUT = 4,
    IS_LONG = 8,
    HAS_BOTH = 16,
    MAX_DATA = 1 << 16,
    FILLING = 0x3c
};

static const char *const words[] = {
    "{}",
    "[]",
    "null",
    "0",
    "1",
    "-1",
    "2",
    "3",
    "4",
    "8",
    "12",
    "16",
    "24",
    "1.5",
    "9223372036854775807",
    "18446744073709551616",
    "\"F32\"",
    "\"F16\"",
    "\"BF16\"",
    "\"I64\"",
    "\"dtype\":\"F32\"",
    "\"shape\":[2,2]",
    "\"shape\":[]",
    "\"data_offsets\":[0,16]",
    "[0,0]",
    "[0,4]",
    "[4,8]",
    "\"__metadata__\":{\"format\":\"pt\"}",
    "\"t\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}",
    "\"weight_map\":{\"t\":\"a\"}",
    "\"a\"",
    "\"b\"",
    "\"c\"",
    "\"../a\"",
    "\"x\":\"a\"",
    "\"\"",
    "\"\\u0007\"",
    "\"\xc3\xa9\"",
};

static const char *const shard_names[] = { "a", "b", "c" };

/* Where the last tensor says it ends; a guess by scanning, like everything a damaged header says.
 */
static size_t wanted_data(fuzz_cut header)
{
    json_t *root = json_loadb((const char *)header.bytes, header.len, 0, NULL), *v;
    const char *key;
    json_int_t most = 0;

    json_object_foreach(root, key, v)
    {
        json_int_t end = json_integer_value(json_array_get(json_object_get(v, "data_offsets"), 1));

        most = end > most && end <= MAX_DATA ? end : most;
    }
    json_decref(root);
    return (size_t)most;
}

static void write_file(const char *name, fuzz_cut header, unsigned flags)
{
    size_t n = wanted_data(header);
    uint64_t len = header.len;
    cog_buf file = { 0 };

    if (flags & IS_CUT)
        n -= n > 0;
    if (flags & IS_LONG)
        n++;
    cog_buf_add(&file, &len, sizeof(len));
    cog_buf_add(&file, header.bytes, header.len);
    cog_buf_reserve(&file, n);
    memset(file.data + file.len, FILLING, n);
    fuzz_write(name, file.data, file.len + n);
    cog_buf_fini(&file);
}

static void write_folder(fuzz_cut rest, unsigned flags)
{
    fuzz_cut part = { (const uint8_t *)"", 0 };

    fuzz_remove("model.safetensors");
    fuzz_remove("model.safetensors.index.json");
    for (int i = 0; i < 3; i++)
        fuzz_remove(shard_names[i]);
    if (flags & IS_RAW) {
        fuzz_write("model.safetensors", rest.bytes, rest.len);
        return;
    }
    fuzz_next(&part, &rest, 0);
    if (!(flags & IS_SHARDED)) {
        write_file("model.safetensors", part, flags);
        return;
    }
    fuzz_write("model.safetensors.index.json", part.bytes, part.len);
    for (int i = 0; i < 3 && fuzz_next(&part, &rest, 0); i++)
        write_file(shard_names[i], part, flags);
    if (flags & HAS_BOTH)
        write_file("model.safetensors", part, flags);
}

/* Each byte of data belongs to one tensor; and is of the data, which is all of one value. */
static void check_data(const cog_safetensors *s, int i, bool is_ours)
{
    const cog_tensor *t = cog_safetensors_at(s, i);
    const char *data = t->data;
    unsigned sum = 0;

    for (size_t k = 0; k < t->bytes; k++) {
        REQUIRE(!is_ours || data[k] == FILLING);
        sum += (unsigned char)data[k];
    }
    REQUIRE(sum <= 255 * t->bytes);
    for (int k = 0; k < i && k < 64; k++) {
        const cog_tensor *other = cog_safetensors_at(s, k);
        const char *begin = other->data;

        REQUIRE(t->bytes == 0 || other->bytes == 0 || data + t->bytes <= begin ||
                begin + other->bytes <= data);
    }
}

static void check_tensor(const cog_safetensors *s, int i)
{
    const cog_tensor *t = cog_safetensors_at(s, i);
    size_t bytes = cog_dtype_size(t->dtype);

    REQUIRE(t->n_dims >= 0 && t->n_dims <= COG_MAX_DIMS);
    for (int k = 0; k < t->n_dims; k++) {
        REQUIRE(t->dim[k] >= 0);
        bytes *= (size_t)t->dim[k];
    }
    REQUIRE(bytes == t->bytes && t->bytes <= MAX_DATA);
    REQUIRE(cog_safetensors_index(s, t->name) == i && cog_safetensors_find(s, t->name) == t);
    if (i > 0)
        REQUIRE(strcmp(cog_safetensors_at(s, i - 1)->name, t->name) < 0);
}

static void check_open(const cog_safetensors *s, bool is_ours)
{
    uint64_t bytes = 0;
    int n = cog_safetensors_count(s);

    REQUIRE(n > 0);
    for (int i = 0; i < n; i++) {
        check_tensor(s, i);
        check_data(s, i, is_ours);
        bytes += cog_safetensors_at(s, i)->bytes;
    }
    REQUIRE(bytes == cog_safetensors_bytes(s));
    REQUIRE(!cog_safetensors_find(s, "") && cog_safetensors_index(s, "no such tensor") == -1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_tail tail = { bytes, len };
    unsigned flags = fuzz_take(&tail);
    cog_safetensors *s = NULL;
    cog_err err = { 0 };
    int rc;

    write_folder((fuzz_cut){ bytes, tail.len }, flags);
    rc = cog_safetensors_open(&s, fuzz_folder(), &err);
    REQUIRE((rc == 0) == (s != NULL));
    if (rc < 0)
        fuzz_check_err(rc, &err);
    else
        check_open(s, !(flags & IS_RAW));
    cog_safetensors_close(s);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
{
    return fuzz_mutate_json(bytes, len, room, seed, words, sizeof(words) / sizeof(words[0]));
}
