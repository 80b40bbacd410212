#include "tests/unit/unit.h"

#include "base/buf.h"
#include "base/rng.h"
#include "engine/safetensors.h"
#include "tests/unit/folder.h"

#include <sys/stat.h>

#define SINGLE "model.safetensors"
#define INDEX  "model.safetensors.index.json"

/* A file of the given header and data_len bytes 0, 1, 2, ... after it. */
static void file_bytes(cog_buf *out, const char *header, size_t header_len, size_t data_len)
{
    cog_buf_clear(out);
    for (int i = 0; i < 8; i++) {
        char byte = (char)((uint64_t)header_len >> (8 * i));
        cog_buf_add(out, &byte, 1);
    }
    cog_buf_add(out, header, header_len);
    for (size_t i = 0; i < data_len; i++) {
        char byte = (char)i;
        cog_buf_add(out, &byte, 1);
    }
}

static void write_file(const char *dir, const char *name, const char *header, size_t data_len)
{
    cog_buf b = { 0 };

    file_bytes(&b, header, strlen(header), data_len);
    folder_write(dir, name, b.data, b.len);
    cog_buf_fini(&b);
}

static void expect_refusal(const char *dir, int code, const char *part)
{
    cog_safetensors *s = NULL;
    cog_err err = { 0 };
    int rc = cog_safetensors_open(&s, dir, &err);

    if (rc == 0)
        fail_msg("opened, expected '%s'", part);
    assert_null(s);
    assert_mentions(err.text, part);
    assert_int_equal(rc, code);
    assert_int_equal(err.code, code);
}

#define T(dtype, shape, begin, end) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static void reads_a_single_file(void **state)
{
    cog_safetensors *s;
    cog_err err = { 0 };
    const cog_tensor *t;

    write_file(*state, SINGLE,
               "{\"__metadata__\":{\"format\":\"pt\"},"
               "\"b\":" T("F32", "[2,3]", 8, 32) ",\"a\":" T("BF16", "[1,2,2]", 0, 8) ",\"c\":" T(
                   "F16", "[]", 32, 34) ",\"empty\":" T("F32", "[0,7]", 34, 34) "}   ",
               34);
    assert_int_equal(cog_safetensors_open(&s, *state, &err), 0);
    assert_int_equal(cog_safetensors_count(s), 4);
    assert_int_equal(cog_safetensors_bytes(s), 34);
    assert_string_equal(cog_safetensors_at(s, 0)->name, "a");
    assert_string_equal(cog_safetensors_at(s, 3)->name, "empty");
    assert_int_equal(cog_safetensors_at(s, 3)->bytes, 0);
    assert_null(cog_safetensors_find(s, "d"));
    assert_int_equal(cog_safetensors_index(s, "d"), -1);
    t = cog_safetensors_find(s, "b");
    assert_non_null(t);
    assert_int_equal(t->dtype, COG_F32);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dim[0], 2);
    assert_int_equal(t->dim[1], 3);
    assert_int_equal(t->bytes, 24);
    assert_int_equal(((const unsigned char *)t->data)[0], 8);
    t = cog_safetensors_find(s, "c");
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->bytes, 2);
    cog_safetensors_close(s);
    cog_safetensors_close(NULL);
}

static void unsound_headers_are_refused(void **state)
{
    static const struct {
        const char *header;
        size_t data;
        int code;
        const char *part;
    } row[] = {
        { "", 0, COG_EFORMAT, "does not start with '{'" },
        { "[]", 0, COG_EFORMAT, "does not start with '{'" },
        { "{", 0, COG_EFORMAT, "not sound JSON" },
        { "{}", 0, COG_EFORMAT, "holds no tensors" },
        { "{} x", 0, COG_EFORMAT, "not sound JSON" },
        { "{\"x\":" T("F32", "[1]", 0, 4) ",\"x\":" T("F32", "[1]", 4, 8) "}", 8, COG_EFORMAT,
          "duplicate" },
        { "{\"x\":3}", 0, COG_EFORMAT, "tensor 'x' has no dtype" },
        { "{\"\":" T("F32", "[1]", 0, 4) "}", 4, COG_EFORMAT, "name is empty" },
        { "{\"a\\u001b[2J\":" T("F32", "[1]", 0, 4) "}", 4, COG_EFORMAT, "control characters" },
        { "{\"x\":" T("F64", "[1]", 0, 8) "}", 8, COG_EFORMAT, "tensor 'x' has dtype 'F64'" },
        { "{\"x\":" T("U8", "[8]", 0, 8) "}", 8, COG_EFORMAT, "quantised" },
        { "{\"x\":" T("f32", "[1]", 0, 4) "}", 4, COG_EFORMAT, "dtype 'f32'" },
        { "{\"x\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, COG_EFORMAT, "has no shape" },
        { "{\"x\":" T("F32", "4", 0, 4) "}", 4, COG_EFORMAT, "has no shape" },
        { "{\"x\":" T("F32", "[1,1,1,1,1]", 0, 4) "}", 4, COG_EFORMAT, "5 dimensions" },
        { "{\"x\":" T("F32", "[-1]", 0, 4) "}", 4, COG_EFORMAT, "dimension 0" },
        { "{\"x\":" T("F32", "[1.0]", 0, 4) "}", 4, COG_EFORMAT, "dimension 0" },
        { "{\"x\":" T("F32", "[1,\"1\"]", 0, 4) "}", 4, COG_EFORMAT, "dimension 1" },
        { "{\"x\":" T("F32", "[99999999999999999999]", 0, 4) "}", 4, COG_EFORMAT, "integer" },
        { "{\"x\":" T("F32", "[4294967296,4294967296]", 0, 4) "}", 4, COG_EFORMAT, "overflows" },
        { "{\"x\":" T("F32", "[4611686018427387904]", 0, 0) "}", 0, COG_EFORMAT, "overflows" },
        { "{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, COG_EFORMAT, "data_offsets" },
        { "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, COG_EFORMAT,
          "data_offsets" },
        { "{\"x\":" T("F32", "[1]", 4, 0) "}", 4, COG_EFORMAT, "data_offsets" },
        { "{\"x\":" T("F32", "[1]", -4, 0) "}", 4, COG_EFORMAT, "data_offsets" },
        { "{\"x\":" T("F32", "[1]", 0, 4.0) "}", 4, COG_EFORMAT, "data_offsets" },
        { "{\"x\":" T("F32", "[2]", 0, 4) "}", 4, COG_EFORMAT, "need 8" },
        { "{\"x\":" T("F32", "[1]", 0, 4) "}", 3, COG_EFORMAT, "cut short" },
        { "{\"x\":" T("F32", "[1]", 4, 8) "}", 4, COG_EFORMAT, "ends at byte 8" },
        { "{\"x\":" T("F32", "[1]", 0, 4) "}", 5, COG_EFORMAT, "1 bytes after the last tensor" },
        { "{\"x\":" T("F32", "[1]", 0, 4) ",\"y\":" T("F32", "[1]", 2, 6) "}", 6, COG_EFORMAT,
          "'x' and 'y' overlap" },
        { "{\"x\":" T("F32", "[1]", 0, 4) ",\"y\":" T("F32", "[1]", 6, 10) "}", 10, COG_EFORMAT,
          "2 bytes before tensor 'y'" },
    };

    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        write_file(*state, SINGLE, row[i].header, row[i].data);
        expect_refusal(*state, row[i].code, row[i].part);
    }
}

static void absurd_header_lengths_are_refused(void **state)
{
    const char *dir = *state;
    const size_t size = ((size_t)100 << 20) + 64;
    char *path = cog_sprintf("%s/" SINGLE, dir);
    FILE *f;

    folder_puts(dir, SINGLE, "1234567");
    expect_refusal(dir, COG_EFORMAT, "too short");
    folder_puts(dir, SINGLE, "");
    expect_refusal(dir, COG_EFORMAT, "too short");
    folder_write(dir, SINGLE, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    expect_refusal(dir, COG_EFORMAT, "18446744073709551615 bytes");
    folder_write(dir, SINGLE, "\x03\0\0\0\0\0\0\0{}", 10);
    expect_refusal(dir, COG_EFORMAT, "3 bytes in a file of 10");

    /* sparse: one byte more of header than the limit */
    folder_write(dir, SINGLE, "\x01\0\x40\x06\0\0\0\0{}", 10);
    assert_int_equal(truncate(path, (off_t)size), 0);
    expect_refusal(dir, COG_ELIMIT, "more than the limit");

    /* within the limit, and full of values that would cost gigabytes once parsed */
    f = fopen(path, "wb");
    assert_non_null(f);
    fwrite("\0\0\x30\0\0\0\0\0{\"x\":[", 1, 14, f);
    for (int i = 0; i < 0x300000 / 3; i++)
        fwrite("{},", 1, 3, f);
    fclose(f);
    expect_refusal(dir, COG_ELIMIT, "values in its JSON");
    cog_free(path);
}

static void other_kinds_of_files_are_named(void **state)
{
    const char *dir = *state;
    char *path = cog_sprintf("%s/" SINGLE, dir);

    expect_refusal(dir, COG_EIO, "neither model.safetensors nor");
    folder_puts(dir, "pytorch_model.bin", "x");
    expect_refusal(dir, COG_EIO, "pytorch_model.bin");
    folder_puts(dir, SINGLE, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
    expect_refusal(dir, COG_EFORMAT, "git lfs pull");
    remove(path);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_refusal(dir, COG_EIO, "not a regular file");
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not hang */
    expect_refusal(dir, COG_EIO, "not a regular file");
    cog_free(path);
}

#define ONE_F32(name) "{\"" name "\":" T("F32", "[1]", 0, 4) "}"

static void reads_shards(void **state)
{
    cog_safetensors *s;
    cog_err err = { 0 };

    write_file(*state, "m-1.safetensors", ONE_F32("b"), 4);
    write_file(*state, "m-2.safetensors",
               "{\"c\":" T("F16", "[2]", 0, 4) ",\"a\":" T("BF16", "[1]", 4, 6) "}", 6);
    folder_puts(*state, INDEX,
                "{\"metadata\":{\"total_size\":10},\"weight_map\":{\"a\":\"m-2.safetensors\","
                "\"b\":\"m-1.safetensors\",\"c\":\"m-2.safetensors\"}}");
    assert_int_equal(cog_safetensors_open(&s, *state, &err), 0);
    assert_int_equal(cog_safetensors_count(s), 3);
    assert_int_equal(cog_safetensors_bytes(s), 10);
    assert_string_equal(cog_safetensors_at(s, 0)->name, "a");
    assert_int_equal(((const unsigned char *)cog_safetensors_find(s, "a")->data)[0], 4);
    cog_safetensors_close(s);
}

static void a_single_file_goes_before_an_index(void **state)
{
    cog_safetensors *s;
    cog_err err = { 0 };

    write_file(*state, SINGLE, ONE_F32("x"), 4);
    folder_puts(*state, INDEX, "{");
    assert_int_equal(cog_safetensors_open(&s, *state, &err), 0);
    assert_non_null(cog_safetensors_find(s, "x"));
    cog_safetensors_close(s);
}

static void unsound_indexes_are_refused(void **state)
{
    static const struct {
        const char *index;
        int code;
        const char *part;
    } row[] = {
        { "{", COG_EFORMAT, "not sound JSON" },
        { "[]", COG_EFORMAT, "no object" },
        { "{}", COG_EFORMAT, "no weight_map" },
        { "{\"weight_map\":[]}", COG_EFORMAT, "no weight_map" },
        { "{\"weight_map\":{}}", COG_EFORMAT, "no weight_map" },
        { "{\"weight_map\":{\"a\":1}}", COG_EFORMAT, "tensor 'a' is not mapped" },
        { "{\"weight_map\":{\"a\":\"\"}}", COG_EFORMAT, "tensor 'a' is not mapped" },
        { "{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}", COG_EFORMAT, "name of a file" },
        { "{\"weight_map\":{\"a\":\"sub/m-1.safetensors\"}}", COG_EFORMAT, "name of a file" },
        { "{\"weight_map\":{\"a\":\"/etc/hostname\"}}", COG_EFORMAT, "name of a file" },
        { "{\"weight_map\":{\"a\":\"..\"}}", COG_EFORMAT, "name of a file" },
        { "{\"weight_map\":{\"a\":\"gone.safetensors\"}}", COG_EIO, "gone.safetensors" },
        { "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"z\":\"m-1.safetensors\"}}", COG_EFORMAT,
          "tensor 'z' is not in its file m-1.safetensors" },
        { "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"c\":\"m-2.safetensors\"}}", COG_EFORMAT,
          "does not list tensor 'b'" },
        { "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\",\"c\":"
          "\"m-2.safetensors\"}}",
          COG_EFORMAT, "lists tensor 'b' in m-1.safetensors, but it is in m-2.safetensors" },
        { "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-3.safetensors\"}}", COG_EFORMAT,
          "'a' is in both m-1.safetensors and m-3.safetensors" },
    };

    write_file(*state, "m-1.safetensors", ONE_F32("a"), 4);
    write_file(*state, "m-2.safetensors",
               "{\"b\":" T("F32", "[1]", 0, 4) ",\"c\":" T("F32", "[1]", 4, 8) "}", 8);
    write_file(*state, "m-3.safetensors",
               "{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 4, 8) "}", 8);
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        folder_puts(*state, INDEX, row[i].index);
        expect_refusal(*state, row[i].code, row[i].part);
    }
}

static void error_carrier_may_be_null(void **state)
{
    cog_safetensors *s;

    write_file(*state, SINGLE, "{\"x\":3}", 0);
    assert_int_equal(cog_safetensors_open(&s, *state, NULL), COG_EFORMAT);
}

/* Whatever opens can be read in full; the sanitizers watch. */
static void damaged_files_never_crash(void **state)
{
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},\"model.a\":" T("F32", "[2,3]", 0, 24) ",\"b\":" T(
            "BF16", "[1,2,2]", 24, 32) ",\"c\":" T("F16", "[3]", 32, 38) "}";
    static const char alphabet[] = "{}[]\",:0123456789-.eE\\u \n\x7f\xff";
    cog_buf good = { 0 }, bad = { 0 };
    cog_rng rng = { .key = 11 };
    unsigned sum = 0;
    int opened = 0;

    file_bytes(&good, header, sizeof(header) - 1, 38);
    for (int round = 0; round < 4000; round++) {
        cog_safetensors *s;
        cog_err err;
        cog_buf_clear(&bad);
        cog_buf_add(&bad, good.data, good.len);
        for (uint64_t n = cog_rng_below(&rng, 3) + (round % 8 != 0); n > 0; n--)
            bad.data[cog_rng_below(&rng, 8 + sizeof(header))] =
                alphabet[cog_rng_below(&rng, sizeof(alphabet) - 1)];
        if (round % 4 == 0)
            bad.len = cog_rng_below(&rng, bad.len + 1);
        folder_write(*state, SINGLE, bad.data, bad.len);
        if (cog_safetensors_open(&s, *state, &err) < 0)
            continue;
        opened++;
        for (int i = 0; i < cog_safetensors_count(s); i++) {
            const cog_tensor *t = cog_safetensors_at(s, i);
            for (size_t k = 0; k < t->bytes; k++)
                sum += ((const unsigned char *)t->data)[k];
        }
        cog_safetensors_close(s);
    }
    assert_in_range(opened, 10, 3000); /* both outcomes were met */
    assert_in_range(sum, 1, UINT32_MAX);
    cog_buf_fini(&good);
    cog_buf_fini(&bad);
}

static void many_tensors_are_found(void **state)
{
    cog_buf header = { 0 };
    cog_safetensors *s;
    cog_err err = { 0 };
    char name[32];
    enum { N = 5000 };

    for (int i = 0; i < N; i++)
        cog_buf_printf(&header,
                       "%s\"t%d\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                       i ? "," : "{", i, 2 * i, 2 * i + 2);
    cog_buf_puts(&header, "}");
    write_file(*state, SINGLE, header.data, 2 * N);
    assert_int_equal(cog_safetensors_open(&s, *state, &err), 0);
    assert_int_equal(cog_safetensors_count(s), N);
    for (int i = 0; i < N; i++) {
        const cog_tensor *t;
        snprintf(name, sizeof(name), "t%d", i);
        t = cog_safetensors_find(s, name);
        assert_non_null(t);
        assert_int_equal(((const unsigned char *)t->data)[0], (2 * i) & 255);
    }
    cog_safetensors_close(s);
    cog_buf_fini(&header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        folder_test(reads_a_single_file),
        folder_test(unsound_headers_are_refused),
        folder_test(absurd_header_lengths_are_refused),
        folder_test(other_kinds_of_files_are_named),
        folder_test(reads_shards),
        folder_test(a_single_file_goes_before_an_index),
        folder_test(unsound_indexes_are_refused),
        folder_test(error_carrier_may_be_null),
        folder_test(damaged_files_never_crash),
        folder_test(many_tensors_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
