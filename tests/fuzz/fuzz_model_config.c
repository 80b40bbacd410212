/* config.json and generation_config.json, with a zero byte between them: numbers that are accepted
 * fit together. */
#include "tests/fuzz/fuzz_json.h"

#include "engine/model_config.h"

#include <math.h>
#include <string.h>

static const char *const words[] = {
    "{}",
    "[]",
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2",
    "7",
    "8",
    "32",
    "64",
    "224",
    "490",
    "4096",
    "2147483647",
    "2147483648",
    "1e-05",
    "1e400",
    "0.5",
    "\"silu\"",
    "\"gelu\"",
    "\"chat\"",
    "\"vqa\"",
    "\"base\"",
    "[2]",
    "[1,2]",
    "[]",
    "\"CogVLMForCausalLM\"",
    "\"CogAgentForCausalLM\"",
    "[\"CogVLMForCausalLM\"]",
    "\"vocab_size\":300",
    "\"hidden_size\":8",
    "\"intermediate_size\":12",
    "\"num_hidden_layers\":2",
    "\"num_attention_heads\":2",
    "\"num_multi_query_heads\":1",
    "\"max_position_embeddings\":64",
    "\"rms_norm_eps\":1e-5",
    "\"rope_theta\":500000",
    "\"rope_scaling\":null",
    "\"eos_token_id\":[1,2]",
    "\"bos_token_id\":1",
    "\"pad_token_id\":0",
    "\"tie_word_embeddings\":false",
    "\"template_version\":\"vqa\"",
    "\"vision_config\":{}",
    "\"image_size\":4",
    "\"patch_size\":2",
    "\"num_positions\":5",
    "\"num_heads\":2",
    "\"layer_norm_eps\":1e-6",
    "\"in_channels\":3",
    "\"dropout_prob\":0",
    "\"quantization_config\":{}",
    "\"model_type\":\"x\"",
};

static void check_decoder(const cog_model_config *c)
{
    REQUIRE(c->vocab > 0 && c->hidden > 0 && c->inter > 0 && c->layers > 0);
    REQUIRE(c->heads > 0 && c->kv_heads > 0 && c->heads % c->kv_heads == 0);
    REQUIRE(c->head_dim > 0 && c->head_dim % 2 == 0 && c->head_dim * c->heads == c->hidden);
    REQUIRE(isfinite(c->rms_eps) && c->rms_eps > 0);
    REQUIRE(isfinite(c->rope_theta) && c->rope_theta > 0);
    REQUIRE(c->bos >= 0 && c->bos < c->vocab && c->pad >= 0 && c->pad < c->vocab);
    REQUIRE(c->n_eos >= 1 && c->n_eos <= COG_MAX_EOS);
    for (int i = 0; i < c->n_eos; i++)
        REQUIRE(c->eos[i] >= 0 && c->eos[i] < c->vocab);
    REQUIRE(c->default_template >= COG_TEMPLATE_CHAT && c->default_template <= COG_TEMPLATE_BASE);
}

static void check_vision(const cog_model_config *c)
{
    REQUIRE(c->vision.hidden > 0 && c->vision.layers > 0 && c->vision.inter > 0);
    REQUIRE(c->vision.heads > 0 && c->vision.head_dim * c->vision.heads == c->vision.hidden);
    REQUIRE(c->vision.patch > 0 && c->vision.grid > 0);
    REQUIRE(c->vision.grid * c->vision.patch == c->vision.image_side);
    REQUIRE(c->vision.tokens == 1 + c->vision.grid * c->vision.grid);
    REQUIRE(isfinite(c->vision.eps) && c->vision.eps > 0);
    REQUIRE(c->patches == c->vision.grid * c->vision.grid && c->image_tokens == c->patches + 2);
    REQUIRE(c->max_positions > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_cut rest = { bytes, len }, part = { (const uint8_t *)"", 0 };
    cog_model_config c = { 0 };
    cog_err err = { 0 };
    int rc;

    fuzz_next(&part, &rest, 0);
    fuzz_write("config.json", part.bytes, part.len);
    if (fuzz_next(&part, &rest, 0))
        fuzz_write("generation_config.json", part.bytes, part.len);
    else
        fuzz_remove("generation_config.json");
    rc = cog_model_config_load(&c, fuzz_folder(), &err);
    if (rc < 0) {
        fuzz_check_err(rc, &err);
        REQUIRE(rc == COG_EFORMAT || rc == COG_ELIMIT || rc == COG_EUNSUPPORTED);
        REQUIRE_SAY(strstr(err.text, "config"), "%s", err.text);
    } else {
        check_decoder(&c);
        check_vision(&c);
    }
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned seed)
{
    return fuzz_mutate_json(bytes, len, room, seed, words, sizeof(words) / sizeof(words[0]));
}
