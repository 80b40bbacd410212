#!/usr/bin/env python3
"""Write random CogVLM v1 checkpoints in Hugging Face form.

The weights are random but well scaled: activations stay near one, attention is
neither uniform nor degenerate, the picture matters, and the logits are spread
so that the best token usually leads clearly.  Every tensor has its own random
stream derived from the seed and its name, so a checkpoint depends only on its
options.  Tensors are produced one by one while the file is written; with --fast
large checkpoints for benchmarks are written at about disk speed.
"""

import argparse
import io
import json
import math
import os
import shutil
import sys
import zlib

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import safetensors_io  # noqa: E402

TORCH_DTYPE = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
STORED_DTYPE = {"bf16": "BF16", "f16": "F16", "f32": "F32"}
BLOCK = 1 << 22             # elements produced at a time
POOL = 4194301              # prime, so that the repetition of --fast does not align with rows
BYTE_PIECES = range(3, 259)

NOUNS = """apple banana bicycle bird boat book bottle box bridge bus butterfly cake camera car cat
chair cherry circle clock cloud cow cup dog door duck elephant fish flower fox frog guitar hat horse
house key kite lamp leaf lemon lion moon mountain mouse mushroom owl pear pen person pig pizza plane
rabbit ring road rocket sheep shoe snake spider square star strawberry sun table tiger train tree
triangle truck turtle umbrella violin wall whale window zebra""".split()
COLOURS = """red green blue yellow orange purple pink brown black white grey cyan""".split()
PLACES = """background left right top bottom centre corner above below beside between behind under
grass beach snow night water street kitchen garden""".split()
QUESTIONS = ["Describe this image.", "What is in the image?", "What colour is the {n}?",
             "How many {n}s are there?", "Where is the {n}?", "Is there a {c} {n} in this picture?",
             "What animal is on the {p}?", "What is in {b}?",
             "Which is larger, the {n} or the {m}?",
             "Is the {n} {p} of the {m}?", "Can you provide a description of the image and include "
             "the coordinates [[x0,y0,x1,y1]] for each mentioned object?"]
ANSWERS = ["a {c} {n} on a {d} background", "two {n}s and a {m} on the {p}", "yes", "no", "{d}",
           "The {c} {n} {b} is {p} the {m} {b}.", "{b}", "There are four {n}s; one is {c}.",
           "It's a {n}, isn't it? No: \"{c}\" (a {m})!"]
WRAPPER = ("A chat between a curious user and an artificial intelligence assistant. The assistant "
           "gives helpful, detailed, and polite answers to the user's questions. "
           "USER: {q} ASSISTANT: {a}")


def corpus(seed, lines=4000):
    """Synthetic training text for the tokenizer, in the form of the prompts."""
    rng = np.random.default_rng(seed)

    def pick(words):
        return words[rng.integers(len(words))]

    def fill(pattern):
        box = "[[" + ",".join(f"{v:03d}" for v in rng.integers(0, 1000, 4)) + "]]"
        return pattern.format(n=pick(NOUNS), m=pick(NOUNS), c=pick(COLOURS), d=pick(COLOURS),
                              p=pick(PLACES), b=box)

    for _ in range(lines):
        question, answer = fill(pick(QUESTIONS)), fill(pick(ANSWERS))
        form = rng.integers(8)
        if form == 0:
            yield WRAPPER.format(q=question, a=answer)
        elif form < 3:
            yield f"Question: {question} Short answer: {answer}"
        else:
            yield f"Question: {question} Answer: {answer}"


def train_tokenizer(path, vocab, seed):
    """Train a SentencePiece BPE tokenizer with the properties of LLaMA's."""
    import sentencepiece
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(seed), model_writer=model, model_type="bpe", vocab_size=vocab,
        byte_fallback=True, split_digits=True, add_dummy_prefix=True,
        remove_extra_whitespaces=False, normalization_rule_name="identity",
        character_coverage=1.0, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1,
        minloglevel=2)
    with open(path, "wb") as out:
        out.write(model.getvalue())


def tokenizer_size(path):
    import sentencepiece
    return sentencepiece.SentencePieceProcessor(model_file=path).get_piece_size()


def config(o):
    """The contents of config.json."""
    positions = (o.image_size // o.patch) ** 2 + 1
    return {
        "_name_or_path": o.name,
        "architectures": ["CogVLMForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_cogvlm.CogVLMConfig",
                     "AutoModelForCausalLM": "modeling_cogvlm.CogVLMForCausalLM"},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": o.hidden,
        "initializer_range": 0.02,
        "intermediate_size": o.inter,
        "max_position_embeddings": o.max_positions,
        "num_attention_heads": o.heads,
        "num_hidden_layers": o.layers,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-05,
        "template_version": o.template,
        "tie_word_embeddings": False,
        "torch_dtype": TORCH_DTYPE[o.dtype],
        "transformers_version": "4.35.0",
        "use_cache": True,
        "vision_config": {
            "dropout_prob": 0.0,
            "hidden_act": "gelu",
            "hidden_size": o.vision_hidden,
            "image_size": o.image_size,
            "in_channels": 3,
            "intermediate_size": o.vision_inter,
            "layer_norm_eps": 1e-06,
            "num_heads": o.vision_heads,
            "num_hidden_layers": o.vision_layers,
            "num_positions": positions,
            "patch_size": o.patch,
        },
        "vocab_size": o.vocab,
    }


GENERATION_CONFIG = {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2,
                     "pad_token_id": 0, "transformers_version": "4.35.0"}


def tokenizer_config(o):
    return {"add_bos_token": True, "add_eos_token": False, "bos_token": "<s>",
            "clean_up_tokenization_spaces": False, "eos_token": "</s>", "legacy": False,
            "model_max_length": o.max_positions, "pad_token": None, "padding_side": "right",
            "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>"}


def inverse_frequencies(o):
    half = o.hidden // o.heads // 2
    return (o.rope_theta ** (-np.arange(half, dtype=np.float64) / half)).astype(np.float32)


class Checkpoint:
    """The tensors of a checkpoint, in the order of published files."""

    def __init__(self, options, text_vocab):
        self.o = options
        self.text_vocab = text_vocab
        self.dtype = STORED_DTYPE[options.dtype]
        self.entries = []
        self.pools = {}
        self.collect()

    # -------------------------------------------------------------- producers

    def rng(self, name):
        return np.random.default_rng([self.o.seed, zlib.crc32(name.encode())])

    def add(self, name, shape, producer, dtype=None):
        self.entries.append((name, dtype or self.dtype, shape, producer))

    def values(self, name, function, shape, dtype=None):
        """A small tensor computed at once by function(rng)."""
        stored = dtype or self.dtype
        self.add(name, shape, lambda: [safetensors_io.encode(function(self.rng(name)), stored)],
                 stored)

    def normal(self, name, shape, std, mean=0.0):
        """A tensor of normal values, streamed; with --fast cut from a repeated pool."""
        count = safetensors_io.element_count(shape)

        def stream():
            rng = self.rng(name)
            for start in range(0, count, BLOCK):
                size = min(BLOCK, count - start)
                values = rng.standard_normal(size, dtype=np.float32) * np.float32(std)
                yield safetensors_io.encode(values + np.float32(mean), self.dtype)

        def repeat():
            if (std, mean) not in self.pools:
                values = np.random.default_rng(self.o.seed).standard_normal(POOL, dtype=np.float32)
                self.pools[std, mean] = safetensors_io.encode(
                    values * np.float32(std) + np.float32(mean), self.dtype)
            pool = self.pools[std, mean]
            at, left = zlib.crc32(name.encode()) % POOL, count
            while left:
                block = pool[at:at + left]
                yield block
                at, left = 0, left - len(block)

        self.add(name, shape, repeat if self.o.fast else stream)

    def matrix(self, name, rows, columns, gain=1.0):
        """A linear layer that multiplies the size of its input by `gain`."""
        self.normal(name, [rows, columns], gain / math.sqrt(columns))

    def norm_weight(self, name, size):
        self.values(name, lambda rng: rng.uniform(0.6, 1.4, size), [size])

    def norm(self, name, size, gain=1.0, shift=0.0):
        """Weight and bias of a LayerNorm."""
        self.values(name + ".weight", lambda rng: gain * rng.uniform(0.6, 1.4, size), [size])
        self.values(name + ".bias", lambda rng: gain * rng.normal(shift, 0.2, size), [size])

    # -------------------------------------------------------------- the tensors

    def collect(self):
        o = self.o
        self.embedding()
        for k in range(o.layers):
            self.decoder_layer(f"model.layers.{k}.")
        self.norm_weight("model.norm.weight", o.hidden)
        self.vision()
        self.head()

    def embedding(self):
        """Word vectors; --common-mode adds one constant to all of them."""
        o = self.o
        self.normal("model.embed_tokens.weight", [o.vocab, o.hidden], o.stream_scale,
                    o.common_mode)

    def decoder_layer(self, name):
        """Queries and keys are enlarged (attention must select), branches reduced.

        As in trained models a branch adds a fraction of the residual stream, so that
        a rounding error is not amplified from layer to layer.  Attention averages,
        which makes its output smaller; the product of the gated MLP is noisier.
        """
        o = self.o
        branch = o.branch_gain * o.stream_scale
        half = o.hidden // o.heads // 2
        self.norm_weight(name + "input_layernorm.weight", o.hidden)
        self.norm_weight(name + "post_attention_layernorm.weight", o.hidden)
        for expert in ("language", "vision"):
            attention = f"{name}self_attn.{expert}_expert_"
            self.matrix(attention + "query_key_value.weight", 3 * o.hidden, o.hidden, 1.2)
            self.matrix(attention + "dense.weight", o.hidden, o.hidden, 3.0 * branch)
        self.values(name + "self_attn.rotary_emb.inv_freq", lambda _: inverse_frequencies(o),
                    [half], STORED_DTYPE[o.inv_freq_dtype or o.dtype])
        for expert in ("language", "vision"):
            mlp = f"{name}mlp.{expert}_mlp."
            self.matrix(mlp + "gate_proj.weight", o.inter, o.hidden, 1.4)
            self.matrix(mlp + "up_proj.weight", o.inter, o.hidden, 1.2)
            self.matrix(mlp + "down_proj.weight", o.hidden, o.inter, 0.5 * branch)

    def vision(self):
        o = self.o
        h, inter = o.vision_hidden, o.vision_inter
        name = "model.vision."
        self.normal(name + "boi", [1, 1, o.hidden], o.stream_scale, o.common_mode)
        self.normal(name + "eoi", [1, 1, o.hidden], o.stream_scale, o.common_mode)
        self.normal(name + "patch_embedding.cls_embedding", [1, h], 0.7)
        self.normal(name + "patch_embedding.position_embedding.weight",
                    [(o.image_size // o.patch) ** 2 + 1, h], 0.5)
        self.normal(name + "patch_embedding.proj.weight", [h, 3, o.patch, o.patch],
                    1.0 / math.sqrt(3 * o.patch ** 2))
        self.normal(name + "patch_embedding.proj.bias", [h], 0.3)
        for k in range(o.vision_layers):
            self.vision_layer(f"{name}transformer.layers.{k}.", h, inter)
        # A shifted GELU passes more of its input than it bends, which keeps the relative
        # error of the gated product small; its size is such that patches weigh as words.
        project = name + "linear_proj."
        self.matrix(project + "linear_proj.weight", o.hidden, h, o.projection_gain)
        self.norm(project + "norm1", o.hidden, shift=o.adapter_shift)
        self.matrix(project + "gate_proj.weight", o.inter, o.hidden, o.adapter_gain)
        self.matrix(project + "dense_h_to_4h.weight", o.inter, o.hidden, o.adapter_gain)
        self.matrix(project + "dense_4h_to_h.weight", o.hidden, o.inter, 2.2 * o.stream_scale)

    def vision_layer(self, name, h, inter):
        """--vision-branch scales what enters the two norms, not what leaves them."""
        o = self.o
        attention, mlp = name + "attention.", name + "mlp."
        small = o.vision_branch
        self.matrix(attention + "query_key_value.weight", 3 * h, h, 1.2)
        self.normal(attention + "query_key_value.bias", [3 * h], 0.3)
        self.matrix(attention + "dense.weight", h, h, small)
        self.normal(attention + "dense.bias", [h], 0.2 * small)
        self.norm(name + "input_layernorm", h, o.tower_gain)
        self.matrix(mlp + "fc1.weight", inter, h, o.fc1_gain)
        self.normal(mlp + "fc1.bias", [inter], 0.3 * o.fc1_gain, o.gelu_shift)
        self.matrix(mlp + "fc2.weight", h, inter, small)
        self.normal(mlp + "fc2.bias", [h], 0.1 * small)
        self.norm(name + "post_attention_layernorm", h, o.tower_gain)

    def head(self):
        """Logits have a deviation of --logit-std.

        Rows of pieces that are not text (control, byte, beyond the tokenizer) are
        small, so that greedy answers decode to ordinary text; the end token has
        its own scale.  With a common mode the rows are made orthogonal to it.
        With --fast all these rows are zero, so that greedy answers never end.
        """
        o = self.o
        shape = [o.vocab, o.hidden]
        silent = [0, 1, *BYTE_PIECES, *range(self.text_vocab, o.vocab)]

        def repeat():
            pool = np.random.default_rng(o.seed).standard_normal(POOL, dtype=np.float32)
            pool *= np.float32(o.logit_std / math.sqrt(o.hidden))
            head = np.resize(safetensors_io.encode(pool, self.dtype), shape)
            head[[2, *silent]] = 0
            return [head]

        def rows(rng):
            head = rng.standard_normal(shape)
            if o.common_mode:
                norm = self.rng("model.norm.weight").uniform(0.6, 1.4, o.hidden)
                head -= np.outer(head @ norm / (norm @ norm), norm)
                head *= math.hypot(1, o.common_mode / o.stream_scale)
            head *= o.logit_std / math.sqrt(o.hidden)
            head[silent] *= 0.1
            head[2] *= o.eos_scale
            return head

        if o.fast:
            self.add("lm_head.weight", shape, repeat)
        else:
            self.values("lm_head.weight", rows, shape)


def write_json(path, value):
    with open(path, "w") as out:
        json.dump(value, out, indent=2)
        out.write("\n")


def write_checkpoint(folder, options):
    """Write the checkpoint described by `options` (see `parser`) into `folder`."""
    o = options
    if o.hidden % o.heads or o.hidden // o.heads % 2 or o.vision_hidden % o.vision_heads:
        raise ValueError("heads must divide the hidden sizes; the decoder's head size is even")
    if o.image_size % o.patch:
        raise ValueError("the patch size must divide the image size")
    os.makedirs(folder, exist_ok=True)
    tokenizer = os.path.join(folder, "tokenizer.model")
    if o.tokenizer:
        shutil.copyfile(o.tokenizer, tokenizer)
    else:
        train_tokenizer(tokenizer, min(o.text_vocab, o.vocab), o.seed)
    text_vocab = tokenizer_size(tokenizer)
    if text_vocab > o.vocab:
        raise ValueError(f"the tokenizer has {text_vocab} pieces, the model only {o.vocab}")
    write_json(os.path.join(folder, "config.json"), config(o))
    write_json(os.path.join(folder, "generation_config.json"), GENERATION_CONFIG)
    write_json(os.path.join(folder, "tokenizer_config.json"), tokenizer_config(o))
    safetensors_io.write_model(folder, Checkpoint(o, text_vocab).entries, o.shards)


def parser():
    p = argparse.ArgumentParser(description="Write a random CogVLM v1 checkpoint.")
    p.add_argument("folder", help="folder to write")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--name", default="random-cogvlm", help="_name_or_path in config.json")
    shape = p.add_argument_group("shape")
    for name, default in (("hidden", 128), ("inter", 344), ("layers", 2), ("heads", 2),
                          ("vocab", 1024), ("vision-hidden", 64), ("vision-inter", 256),
                          ("vision-layers", 2), ("vision-heads", 1), ("image-size", 112),
                          ("patch", 14), ("max-positions", 2048)):
        shape.add_argument("--" + name, type=int, default=default, help=f"default {default}")
    storage = p.add_argument_group("storage")
    storage.add_argument("--dtype", choices=STORED_DTYPE, default="bf16")
    storage.add_argument("--inv-freq-dtype", choices=STORED_DTYPE, help="default: as --dtype")
    storage.add_argument("--shards", type=int, default=1)
    storage.add_argument("--fast", action="store_true",
                         help="repeat a pool of random values, for large benchmark checkpoints")
    text = p.add_argument_group("text")
    text.add_argument("--template", choices=("base", "chat", "vqa"), default="chat",
                      help="template_version")
    text.add_argument("--tokenizer", help="tokenizer.model to copy instead of training one")
    text.add_argument("--text-vocab", type=int, default=1024,
                      help="pieces of the trained tokenizer, at most --vocab (default 1024)")
    scale = p.add_argument_group("scales, for checkpoints that make one detail visible")
    for name, default, text in (
            ("logit-std", 3.0, "deviation of the logits"),
            ("eos-scale", 1.0, "size of the end token's row of the head"),
            ("rope-theta", 10000.0, "base of the stored rotary frequencies"),
            ("stream-scale", 1.0, "size of the decoder's residual stream"),
            ("branch-gain", 0.2, "size of what decoder layers add, relative to the stream"),
            ("common-mode", 0.0, "constant added to the decoder's inputs"),
            ("projection-gain", 1.0, "size of the adapter norm's input"),
            ("adapter-gain", 0.6, "gain of the adapter's gate and up projections"),
            ("adapter-shift", 1.0, "mean of the inputs of the adapter's GELU"),
            ("tower-gain", 0.15, "size of what the tower's blocks add"),
            ("vision-branch", 1.0, "size of the inputs of the tower's norms"),
            ("fc1-gain", 1.0, "size of the input of the tower's GELU around its shift"),
            ("gelu-shift", 0.0, "mean of the inputs of the tower's GELU")):
        scale.add_argument("--" + name, type=float, default=default,
                           help=f"{text} (default {default:g})")
    return p


if __name__ == "__main__":
    arguments = parser().parse_args()
    write_checkpoint(arguments.folder, arguments)
