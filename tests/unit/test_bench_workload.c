#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/sha256.h"
#include "client/workload.h"
#include "engine/engine.h"
#include "proto/base64.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { N = 2000 };

static cog_workload *open_workload(const cog_bench_options *opt, size_t n)
{
    cog_workload *w = NULL;
    cog_err err = { 0 };

    if (cog_workload_new(&w, opt, n, &err) < 0)
        fail_msg("%s", err.text);
    return w;
}

/* The picture's URL in a body, which must be a chat request; "" for text. Owned by the caller. */
static char *url_of(const cog_buf *body)
{
    json_t *root = json_loadb(body->data, body->len, JSON_REJECT_DUPLICATES, NULL);
    json_t *message = json_array_get(json_object_get(root, "messages"), 0);
    json_t *parts = json_object_get(message, "content");
    json_t *image = json_object_get(json_array_get(parts, 1), "image_url");
    char *url;

    assert_non_null(root);
    assert_non_null(json_string_value(json_object_get(json_array_get(parts, 0), "text")));
    url = cog_strdup(image ? json_string_value(json_object_get(image, "url")) : "");
    json_decref(root);
    return url;
}

static void shares_are_kept(void **state)
{
    cog_bench_options opt = cog_bench_defaults;
    size_t count[3] = { 0 };
    cog_workload *w;

    opt.image_size = "16x12";
    opt.image_share = 0.75f;
    opt.repeated_image_share = 0.6f;
    w = open_workload(&opt, N);
    assert_int_equal(cog_workload_n_repeated(w), opt.repeated_images);
    for (size_t i = 0; i < N; i++) {
        cog_buf body = { 0 };
        cog_bench_picture picture;
        char *url;

        cog_workload_add_body(w, &body, &picture, i, "m", true);
        url = url_of(&body);
        assert_int_equal(url[0] == '\0', picture == COG_BENCH_TEXT);
        count[picture]++;
        cog_free(url);
        cog_buf_fini(&body);
    }
    assert_in_range(count[COG_BENCH_TEXT], N * 22 / 100, N * 28 / 100);
    assert_in_range(count[COG_BENCH_REPEATED], N * 41 / 100, N * 49 / 100);
    assert_int_equal(count[0] + count[1] + count[2], N);
    cog_workload_free(w);
}

/* Cold is cold only once, and a picture that the warm-up showed never is. */
static void cold_pictures_were_never_sent(void **state)
{
    cog_bench_options opt = cog_bench_defaults;
    char *sent[64] = { 0 };
    int n_sent = 0;
    cog_workload *w;

    opt.image_size = "16x12";
    opt.repeated_image_share = 0.5f;
    opt.repeated_images = 3;
    w = open_workload(&opt, 40);
    for (size_t i = 0; i < 50; i++) {
        cog_buf body = { 0 };
        cog_bench_picture picture = COG_BENCH_REPEATED;
        bool is_known = false;
        char *url;

        if (i < 5)
            cog_workload_add_warmup(w, &body, i, "m", false);
        else
            cog_workload_add_body(w, &body, &picture, i - 5, "m", false);
        url = url_of(&body);
        for (int k = 0; k < n_sent; k++)
            is_known |= strcmp(sent[k], url) == 0;
        if (i >= 5)
            assert_int_equal(picture, is_known ? COG_BENCH_REPEATED : COG_BENCH_COLD);
        else
            assert_false(is_known);
        sent[n_sent++] = url;
        cog_buf_fini(&body);
    }
    for (int k = 0; k < n_sent; k++)
        cog_free(sent[k]);
    cog_workload_free(w);
}

static void one_seed_one_load(void **state)
{
    cog_bench_options opt = cog_bench_defaults;
    cog_buf bodies[3] = { 0 };

    opt.image_size = "16x12";
    opt.repeated_image_share = 0.5f;
    opt.prompt_words = 20;
    opt.length_spread = 0.5f;
    for (int run = 0; run < 3; run++) {
        cog_workload *w;

        opt.seed = run == 2 ? 2 : 1;
        w = open_workload(&opt, 30);
        for (size_t i = 0; i < 30; i++) {
            cog_bench_picture picture;
            cog_workload_add_body(w, &bodies[run], &picture, i, "m", true);
        }
        cog_workload_free(w);
    }
    assert_int_equal(bodies[0].len, bodies[1].len);
    assert_memory_equal(bodies[0].data, bodies[1].data, bodies[0].len);
    assert_true(bodies[0].len != bodies[2].len ||
                memcmp(bodies[0].data, bodies[2].data, bodies[0].len) != 0);
    for (int run = 0; run < 3; run++)
        cog_buf_fini(&bodies[run]);
}

static void fields_of_a_body(void **state)
{
    cog_bench_options opt = cog_bench_defaults;
    cog_buf body = { 0 };
    cog_bench_picture picture;
    cog_workload *w;

    opt.prompt = "say \"x\"\n";
    opt.image_share = 0;
    opt.max_tokens = 7;
    w = open_workload(&opt, 1);
    cog_workload_add_body(w, &body, &picture, 0, "a \"model\"", true);
    assert_string_equal(
        body.data,
        "{\"model\":\"a \\\"model\\\"\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
        "\"text\",\"text\":\"say \\\"x\\\"\\n\"}]}],\"max_completion_tokens\":7,"
        "\"temperature\":0,\"stream\":true,\"stream_options\":{\"include_usage\":true},"
        "\"ignore_eos\":true}");
    cog_buf_clear(&body);
    opt.stream = false;
    cog_workload_add_body(w, &body, &picture, 0, "m", false);
    assert_null(strstr(body.data, "stream"));
    assert_null(strstr(body.data, "ignore_eos"));
    cog_buf_fini(&body);
    cog_workload_free(w);
}

static void lengths_are_spread(void **state)
{
    cog_bench_options opt = cog_bench_defaults;
    int low = 1000, high = 0;
    cog_workload *w;

    opt.image_share = 0;
    opt.max_tokens = 100;
    opt.length_spread = 0.3f;
    w = open_workload(&opt, 500);
    for (size_t i = 0; i < 500; i++) {
        cog_buf body = { 0 };
        cog_bench_picture picture;
        int n;

        cog_workload_add_body(w, &body, &picture, i, "m", true);
        n = atoi(strstr(body.data, "max_completion_tokens\":") + 23);
        low = n < low ? n : low;
        high = n > high ? n : high;
        cog_buf_fini(&body);
    }
    assert_in_range(low, 70, 75);
    assert_in_range(high, 125, 130);
    cog_workload_free(w);
}

/* Our own decoder takes them, at their size, and no two are the same. */
static void random_pictures_are_pictures(void **state)
{
    cog_bench_options opt = cog_bench_defaults;
    cog_sha256 hash[2];
    cog_workload *w;

    opt.image_size = "70x50";
    w = open_workload(&opt, 2);
    for (size_t i = 0; i < 2; i++) {
        static const char prefix[] = "data:image/jpeg;base64,";
        cog_buf body = { 0 };
        cog_bench_picture picture;
        cog_image *image = NULL;
        cog_image_format format;
        cog_image_fault fault;
        int width, height;
        cog_err err = { 0 };
        uint8_t *bytes;
        size_t len;
        char *url;

        cog_workload_add_body(w, &body, &picture, i, "m", true);
        url = url_of(&body);
        assert_memory_equal(url, prefix, strlen(prefix));
        bytes = cog_array(uint8_t, cog_base64_room(strlen(url)));
        assert_int_equal(
            cog_base64_decode(bytes, &len, url + strlen(prefix), strlen(url) - strlen(prefix)), 0);
        assert_true(len > 1000);
        assert_int_equal(cog_image_probe(&format, &width, &height, &fault, bytes, len,
                                         &cog_image_defaults, &err),
                         0);
        assert_int_equal(width, 70);
        assert_int_equal(height, 50);
        assert_int_equal(cog_image_load(&image, &fault, bytes, len, 28, &cog_image_defaults, &err),
                         0);
        cog_image_free(image);
        hash[i] = cog_sha256_of(&(cog_span){ bytes, len }, 1);
        cog_free(bytes);
        cog_free(url);
        cog_buf_fini(&body);
    }
    assert_memory_not_equal(&hash[0], &hash[1], sizeof(hash[0]));
    cog_workload_free(w);
}

static void bad_options(void **state)
{
    static const char *const sizes[] = {
        "", "10", "10x", "0x5", "5x0", "axb", "10x10x", "70000x5"
    };
    static const char *const files[] = { "/none" };
    cog_bench_options opt = cog_bench_defaults;
    cog_workload *w = NULL;
    cog_err err = { 0 };

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        opt.image_size = sizes[i];
        if (cog_workload_new(&w, &opt, 1, &err) != COG_EINVAL)
            fail_msg("took size '%s'", sizes[i]);
        assert_non_null(strstr(err.text, "--image-size"));
    }
    opt.images = files;
    opt.n_images = 1;
    assert_int_equal(cog_workload_new(&w, &opt, 1, &err), COG_EIO);
    assert_non_null(strstr(err.text, "/none"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_kept),    cmocka_unit_test(cold_pictures_were_never_sent),
        cmocka_unit_test(one_seed_one_load),  cmocka_unit_test(fields_of_a_body),
        cmocka_unit_test(lengths_are_spread), cmocka_unit_test(random_pictures_are_pictures),
        cmocka_unit_test(bad_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
