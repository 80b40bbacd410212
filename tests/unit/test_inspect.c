#include "tests/unit/unit.h"

#include "base/utf8.h"
#include "engine/engine.h"
#include "tests/unit/folder.h"
#include "tests/unit/spm_file.h"
#include "tests/unit/tiny_checkpoint.h"

#include <jansson.h>
#include <sys/stat.h>

static void write_tokenizer(const char *dir)
{
    cog_buf model = { 0 };

    spm_begin(&model);
    spm_piece(&model, "\xe2\x96\x81", -1, SPM_NORMAL);
    spm_piece(&model, "a", -2, SPM_NORMAL);
    spm_end(&model, 2, NULL);
    folder_write(dir, "tokenizer.model", model.data, model.len);
    cog_buf_fini(&model);
}

static void write_whole(const char *dir, struct tiny *c)
{
    tiny_init(c);
    tiny_write(c, dir);
    write_tokenizer(dir);
}

static char *inspect(const char *dir, bool as_json, int code, cog_err *err)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    *err = (cog_err){ 0 };
    assert_int_equal(cog_inspect(out, dir, as_json, err), code);
    assert_int_equal(err->code, code);
    fclose(out);
    assert_true(cog_utf8_valid(text, len));
    return text;
}

static json_t *inspect_json(const char *dir, int code)
{
    cog_err err;
    char *text = inspect(dir, true, code, &err);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

    assert_non_null(root);
    assert_int_equal(json_is_true(json_object_get(root, "loads")), code == 0);
    assert_int_equal(json_array_size(json_object_get(root, "problems")) == 0, code == 0);
    free(text);
    return root;
}

static json_int_t number(const json_t *root, const char *a, const char *b)
{
    const json_t *v = json_object_get(json_object_get(root, a), b);

    if (!json_is_integer(v))
        fail_msg("no number at %s.%s", a, b);
    return json_integer_value(v);
}

static void expect_text(const char *dir, int code, const char *const *part)
{
    cog_err err;
    char *text = inspect(dir, false, code, &err);

    for (; *part; part++)
        assert_mentions(text, *part);
    if (code)
        assert_mentions(text, err.text);
    free(text);
}

#define EXPECT_TEXT(dir, code, ...) \
    expect_text(dir, code, (const char *const[]){ __VA_ARGS__, NULL })

static void a_whole_checkpoint_will_load(void **state)
{
    struct tiny c;
    json_t *root;
    json_int_t h = TINY_HIDDEN, v = TINY_V_HIDDEN, inter = TINY_INTER, total = 0;

    write_whole(*state, &c);
    EXPECT_TEXT(*state, 0, "verdict     will load\n", "template chat, context of 64 tokens",
                "4 x 4 pixels, patches of 2: 6 tokens", "261 pieces, begin 1, end 2, unknown 0",
                "77 expected, 0 missing, 0 misshapen, 0 surplus", "vision experts");
    root = inspect_json(*state, 0);
    assert_int_equal(number(root, "tensors", "found"), c.n);
    assert_int_equal(number(root, "tensors", "expected"), c.n);
    assert_int_equal(json_integer_value(json_object_get(root, "image_tokens")), 6);
    assert_int_equal(number(root, "parameters", "embedding"), 2 * TINY_VOCAB * h);
    assert_int_equal(number(root, "parameters", "language_experts"),
                     TINY_LAYERS * (4 * h * h + 3 * inter * h));
    assert_int_equal(number(root, "parameters", "vision_experts"),
                     TINY_LAYERS * (4 * h * h + 3 * inter * h));
    assert_int_equal(number(root, "parameters", "decoder_norms"), (2 * TINY_LAYERS + 1) * h);
    assert_int_equal(number(root, "parameters", "adapter"), h * v + 4 * h + 3 * inter * h);
    assert_int_equal(number(root, "parameters", "buffers"), TINY_LAYERS * TINY_FREQ);
    for (int i = 0; i < c.n; i++) {
        json_int_t n = 1;
        for (int k = 0; k < c.tensor[i].n_dims; k++)
            n *= c.tensor[i].dim[k];
        total += strstr(c.tensor[i].name, "inv_freq") ? 0 : n;
    }
    assert_int_equal(number(root, "parameters", "total"), total);
    assert_int_equal(number(json_object_get(root, "memory"), "f32", "weights"), 4 * total);
    assert_int_equal(number(json_object_get(root, "memory"), "bf16", "weights"), 2 * total);
    assert_int_equal(number(json_object_get(root, "memory"), "bf16", "kv_per_token"),
                     TINY_LAYERS * 2 * h * 2);
    assert_int_equal(number(json_object_get(root, "memory"), "f32", "kv_of_a_full_context"),
                     TINY_LAYERS * 2 * h * 4 * 64);
    assert_int_equal(number(root, "tokenizer", "pieces"), 261);
    json_decref(root);
}

static void faults_are_listed_up_to_twenty(void **state)
{
    struct tiny c;
    json_t *root, *list;
    char name[32];

    write_whole(*state, &c);
    tiny_remove(&c, "model.norm.weight");
    tiny_find(&c, "lm_head.weight")->dim[0] = 7;
    for (int i = 0; i < 15; i++)
        tiny_remove(&c, c.tensor[c.n - 1].name); /* room for more */
    for (int i = 0; i < 25; i++) {
        snprintf(name, sizeof(name), "extra.%02d", i);
        tiny_add(&c, name, 3, 0, 0, 0);
    }
    tiny_add(&c, "model.vision.conv.weight", 3, 0, 0, 0);
    tiny_write(&c, *state);
    EXPECT_TEXT(*state, COG_EUNSUPPORTED, "will not load: tensor 'model.vision.conv.weight'",
                "  missing   model.norm.weight [8]\n",
                "  misshapen lm_head.weight is [7, 8], expected [300, 8]\n",
                "  surplus   extra.19 [3]\n", "  surplus   ... and 5 more\n",
                "  foreign   model.vision.conv.weight [3] belongs to CogVLM2's vision tower\n",
                "16 missing, 1 misshapen, 26 surplus");
    root = inspect_json(*state, COG_EUNSUPPORTED);
    list = json_object_get(json_object_get(root, "tensors"), "surplus");
    assert_int_equal(json_integer_value(json_object_get(list, "count")), 25);
    assert_int_equal(json_array_size(json_object_get(list, "first")), 20);
    json_decref(root);
}

static void parts_are_looked_at_on_their_own(void **state)
{
    struct tiny c;
    cog_err err;
    char *text;

    EXPECT_TEXT(*state, COG_EIO, "config.json", "neither model.safetensors", "no tokenizer.model");
    write_whole(*state, &c);
    folder_puts(*state, "config.json", "{\"architectures\":[\"LlamaForCausalLM\"]}");
    EXPECT_TEXT(*state, COG_EUNSUPPORTED, "only CogVLMForCausalLM", "77 in", "261 pieces");
    write_whole(*state, &c);
    folder_puts(*state, "model.safetensors", "12345678");
    EXPECT_TEXT(*state, COG_EFORMAT, "model.safetensors", "template chat", "261 pieces");
    write_whole(*state, &c);
    folder_remove(*state, "tokenizer.model");
    EXPECT_TEXT(*state, COG_EIO, "no tokenizer.model", "77 expected, 0 missing");
    write_whole(*state, &c);
    tiny_find(&c, "model.layers.1.self_attn.rotary_emb.inv_freq")->seed++;
    tiny_write(&c, *state);
    EXPECT_TEXT(*state, COG_EFORMAT, "inv_freq' differs");
    text = inspect("/nonexistent", false, COG_EIO, &err);
    assert_mentions(text, "/nonexistent");
    free(text);
}

static void tokenizer_and_configuration_agree_on_the_first_token(void **state)
{
    struct tiny c;
    char *text = cog_strdup(TINY_CONFIG), *at;

    write_whole(*state, &c);
    at = strstr(text, "\"bos_token_id\":1");
    at[strlen("\"bos_token_id\":")] = '5';
    folder_puts(*state, "config.json", text);
    EXPECT_TEXT(*state, COG_EFORMAT, "begins texts with token 1, the model's configuration says 5");
    cog_free(text);
}

/* Paths are any bytes; the output stays valid JSON and valid UTF-8 where it is JSON. */
static void paths_need_not_be_text(void **state)
{
    char *dir = cog_sprintf("%s/\xff\"x", (const char *)*state);
    json_t *root;

    assert_int_equal(mkdir(dir, 0700), 0);
    root = inspect_json(dir, COG_EIO);
    assert_mentions(json_string_value(json_object_get(root, "directory")), "\xef\xbf\xbd\"x");
    json_decref(root);
    cog_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        folder_test(a_whole_checkpoint_will_load),
        folder_test(faults_are_listed_up_to_twenty),
        folder_test(parts_are_looked_at_on_their_own),
        folder_test(tokenizer_and_configuration_agree_on_the_first_token),
        folder_test(paths_need_not_be_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
