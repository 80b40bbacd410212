#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "server/picture/file_store.h"

#include <string.h>

enum { SIDE = 2, PIXELS = SIDE * SIDE * 3, BODY = 10 };

static const cog_sha256 one = { { 1 } }, two = { { 2 } };

static int n_removed;
static uint64_t last_removed;

static void note(void *arg, const cog_file *f)
{
    assert_ptr_equal(arg, &n_removed);
    n_removed++;
    last_removed = f->number;
}

/* Two files of one owner, three in all. */
static cog_file_store *open_store(void)
{
    size_t cost = cog_file_cost(BODY, SIDE);
    cog_file_limits limits = {
        .bytes = 4 * cost, .bytes_of_one = 3 * cost, .files = 3, .files_of_one = 2
    };

    n_removed = 0;
    return cog_file_store_new(&limits, "", note, &n_removed);
}

static cog_file *add(cog_file_store *s, const cog_sha256 *owner, int64_t expires)
{
    uint8_t rgb[PIXELS] = { 0 };
    cog_image_source source = { .format = COG_PNG, .width = 3, .height = 4 };
    cog_image *image = cog_image_new(rgb, SIDE, &source);
    char *body = cog_strndup("0123456789", BODY);
    cog_new_file file = { .owner = *owner,
                          .filename = "a.png",
                          .purpose = "vision",
                          .created = 100,
                          .expires = expires,
                          .body_len = BODY,
                          .data = (uint8_t *)body + 2,
                          .len = 5,
                          .image = image };
    cog_file *f;

    assert_int_equal(cog_file_store_add(&f, s, &file, body), 0);
    cog_image_free(image);
    return f;
}

static int check(cog_file_store *s, const cog_sha256 *owner, size_t body_len)
{
    cog_err err;

    return cog_file_store_check(s, owner, cog_file_cost(body_len, SIDE), &err);
}

static void ids_are_ones_own(void **state)
{
    cog_file_store *s = open_store();
    cog_file *a = add(s, &one, 200), *b = add(s, &two, 200);
    char id[COG_FILE_ID_SIZE];

    assert_string_not_equal(a->id, b->id);
    assert_ptr_equal(cog_file_store_find(s, &one, a->id, 199), a);
    assert_null(cog_file_store_find(s, &two, a->id, 199));
    assert_null(cog_file_store_find(s, &one, b->id, 199));
    assert_null(cog_file_store_find(s, &one, "", 199));
    strcpy(id, a->id);
    id[strlen(id) - 1] ^= 1;
    assert_null(cog_file_store_find(s, &one, id, 199));
    assert_memory_equal(a->data, "23456", a->len);
    cog_file_store_free(s);
}

static void limits(void **state)
{
    cog_file_store *s = open_store();
    cog_file_stats st;
    cog_file *first;

    assert_int_equal(check(s, &one, BODY), 0);
    assert_int_equal(check(s, &one, cog_file_cost(BODY, SIDE) * 3), COG_ELIMIT);
    assert_int_equal(check(s, &one, SIZE_MAX / 2), COG_ELIMIT);
    first = add(s, &one, 200);
    add(s, &one, 200);
    assert_int_equal(check(s, &one, BODY), COG_ELIMIT); /* files of one */
    assert_int_equal(check(s, &two, BODY), 0);
    add(s, &two, 200);
    assert_int_equal(check(s, &two, BODY), COG_ELIMIT); /* in all */
    cog_file_store_delete(s, first);
    assert_int_equal(check(s, &two, BODY), 0);
    cog_file_store_get_stats(s, &st);
    assert_int_equal(st.n, 2);
    assert_int_equal(st.added, 3);
    assert_int_equal(st.deleted, 1);
    assert_int_equal(st.refused, 4);
    assert_int_equal(st.bytes, 2 * cog_file_cost(BODY, SIDE));
    cog_file_store_free(s);
}

/* What is held counts until it is let go. */
static void deleted_files_stay_for_their_holders(void **state)
{
    cog_file_store *s = open_store();
    cog_file *f = add(s, &one, 200);
    cog_file_stats st;
    char id[COG_FILE_ID_SIZE];

    strcpy(id, f->id);
    cog_file_ref(f);
    assert_false(cog_file_store_was_deleted(s, &one, id));
    cog_file_store_delete(s, f);
    assert_int_equal(n_removed, 1);
    assert_null(cog_file_store_find(s, &one, id, 100));
    assert_true(cog_file_store_was_deleted(s, &one, id));
    assert_false(cog_file_store_was_deleted(s, &two, id));
    assert_false(cog_file_store_was_deleted(s, &one, "file-"));
    assert_false(cog_file_store_was_deleted(s, &(cog_sha256){ 0 }, ""));
    assert_memory_equal(f->data, "23456", 5);
    cog_file_store_get_stats(s, &st);
    assert_int_equal(st.n, 0);
    assert_int_equal(st.bytes, cog_file_cost(BODY, SIDE));
    cog_file_unref(f);
    cog_file_store_get_stats(s, &st);
    assert_int_equal(st.bytes, 0);
    cog_file_store_free(s);
}

static void expiry(void **state)
{
    cog_file_store *s = open_store();
    cog_file *a = add(s, &one, 200), *b = add(s, &two, 300);

    assert_null(cog_file_store_find(s, &one, a->id, 200));
    cog_file_store_expire(s, 199);
    assert_int_equal(n_removed, 0);
    cog_file_store_expire(s, 200);
    assert_int_equal(n_removed, 1);
    assert_int_equal(last_removed, 1);
    assert_ptr_equal(cog_file_store_find(s, &two, b->id, 200), b);
    cog_file_store_free(s);
}

static bool is_two(const void *arg, const cog_sha256 *owner)
{
    return memcmp(arg, owner, sizeof(*owner)) == 0;
}

static void owners_that_go(void **state)
{
    cog_file_store *s = open_store();
    cog_file *b;

    add(s, &one, 200);
    b = add(s, &two, 200);
    add(s, &one, 200);
    cog_file_store_forget(s, is_two, &two);
    assert_int_equal(n_removed, 2);
    assert_null(cog_file_first(s, &one, true));
    assert_ptr_equal(cog_file_first(s, &two, true), b);
    cog_file_store_free(s);
}

static void order(void **state)
{
    cog_file_store *s = open_store();
    cog_file *a = add(s, &one, 200), *b = add(s, &two, 200), *c = add(s, &one, 200);

    assert_ptr_equal(cog_file_first(s, &one, true), c);
    assert_ptr_equal(cog_file_next(c, true), a);
    assert_null(cog_file_next(a, true));
    assert_ptr_equal(cog_file_first(s, &one, false), a);
    assert_ptr_equal(cog_file_next(a, false), c);
    assert_null(cog_file_next(b, false));
    cog_file_store_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_ones_own),
        cmocka_unit_test(limits),
        cmocka_unit_test(deleted_files_stay_for_their_holders),
        cmocka_unit_test(expiry),
        cmocka_unit_test(owners_that_go),
        cmocka_unit_test(order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
