#!/usr/bin/env python3
"""Reference implementation of CogVLM v1 in PyTorch, written to be read.

The program loads a checkpoint folder in Hugging Face form and computes the
vision tower, the adapter and the decoder exactly as the model defines them, in
one of two modes:

  f32   no rounding anywhere: the stored weights are widened and everything is
        computed in double precision.  A correct single-precision program agrees
        with it to about 1e-5.
  bf16  the rounding of the original bfloat16 model: weights are rounded to
        bfloat16 when loaded, and every place where the original produces a
        bfloat16 tensor rounds here as well (method `round`).

Both modes carry out the arithmetic between two roundings in double precision,
so the results do not depend on the order of summation or on the machine.

The class `Model` is the specification.  The classes at the end put well-known
mistakes back one at a time ("traps"); they show that a test case would notice.
"""

import argparse
import json
import math
import os
import sys

import numpy as np
import sentencepiece
import torch
from PIL import Image, ImageOps

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import safetensors_io  # noqa: E402

PIXEL_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
PIXEL_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
ADAPTER_NORM_EPS = 1e-5     # the framework default; appears in no configuration file
PLACEHOLDER_ID = 0          # token standing for a visual embedding; overwritten

VICUNA_WRAPPER = ("A chat between a curious user and an artificial intelligence assistant. "
                  "The assistant gives helpful, detailed, and polite answers to the user's "
                  "questions. USER: {} ASSISTANT:")


def bf16(x):
    """Round a tensor to bfloat16 precision (nearest even), keeping its own dtype."""
    return x.to(torch.float32).to(torch.bfloat16).to(x.dtype)


# ------------------------------------------------------------------ prompts

def prompt_text(template, query, history=()):
    """The text of a request; `history` is a list of (query, response) pairs."""
    if template == "base":
        return query            # earlier turns are ignored
    marker = {"chat": "Answer:", "vqa": "Short answer:"}[template]
    past = "".join(f"Question: {q} {marker} {r}\n" for q, r in history)
    return f"{past}Question: {query} {marker}"


class Tokenizer:
    """The SentencePiece tokenizer of a checkpoint folder."""

    def __init__(self, folder):
        self.pieces = sentencepiece.SentencePieceProcessor(
            model_file=os.path.join(folder, "tokenizer.model"))

    def encode(self, text):
        """Ids of the text alone: one string, no special tokens."""
        return self.pieces.encode(text) if text else []

    def decode(self, ids):
        """Text of a response; ids 0 to 2 are skipped, one leading space is dropped."""
        return self.pieces.decode([i for i in ids if i > 2])


# ------------------------------------------------------------------ sequence layout

def position_ids(types):
    """Rotary positions from token types.

    boi and eoi count like text; the patches between them share one position.
    """
    visual = [i for i, t in enumerate(types) if t == 1]
    patch = set(visual[1:-1])
    positions = []
    for i in range(len(types)):
        advance = i > 0 and not (i in patch and i - 1 in patch)
        positions.append((positions[-1] if positions else 0) + advance)
    return positions


def expert_mask(types):
    """1 where a token goes through the vision expert: itself and its successor visual.

    Hence boi and all patches, but not eoi.
    """
    return [int(t == 1 and following == 1) for t, following in zip(types, types[1:] + [0])]


# ------------------------------------------------------------------ the model

class Config:
    """The fields of config.json that the computation needs."""

    def __init__(self, folder):
        with open(os.path.join(folder, "config.json")) as source:
            c = json.load(source)
        v = c["vision_config"]
        self.hidden = c["hidden_size"]
        self.layers = c["num_hidden_layers"]
        self.heads = c["num_attention_heads"]
        self.kv_heads = c.get("num_multi_query_heads", self.heads)
        self.head_dim = self.hidden // self.heads
        self.rms_eps = c["rms_norm_eps"]
        self.bos = c["bos_token_id"]
        eos = c["eos_token_id"]
        self.eos = set(eos) if isinstance(eos, list) else {eos}
        self.template = c["template_version"]
        self.vit_hidden = v["hidden_size"]
        self.vit_heads = v["num_heads"]
        self.vit_layers = v["num_hidden_layers"]
        self.vit_eps = v["layer_norm_eps"]
        self.image_size = v["image_size"]
        self.patch = v["patch_size"]
        self.grid = self.image_size // self.patch
        self.patches = self.grid * self.grid


class Model:
    """CogVLM v1.  Tensors are [tokens, features], in double precision."""

    def __init__(self, folder, mode="f32"):
        self.config = Config(folder)
        self.mode = mode
        self.weights = safetensors_io.Model(folder)
        self.cache = {}
        if "model.vision.conv.weight" in self.weights:
            raise NotImplementedError("the strided convolution of CogVLM2")

    def round(self, x):
        """A rounding point of the bf16 model; nothing in f32 mode."""
        return bf16(x) if self.mode == "bf16" else x

    def weight(self, name):
        """A weight in the precision of the mode."""
        if name not in self.cache:
            stored = torch.from_numpy(self.weights.read(name)).to(torch.float64)
            self.cache[name] = self.round(stored)
        return self.cache[name]

    # -------------------------------------------------------------- building blocks

    def linear(self, x, name):
        """x W^T, plus the bias where the checkpoint has one, rounded once."""
        y = x @ self.weight(name + ".weight").T
        if name + ".bias" in self.weights:
            y = y + self.weight(name + ".bias")
        return self.round(y)

    def layer_norm(self, x, name, eps):
        """LayerNorm over the features with the biased variance."""
        mean = x.mean(-1, keepdim=True)
        variance = ((x - mean) ** 2).mean(-1, keepdim=True)
        y = (x - mean) / torch.sqrt(variance + eps)
        return self.round(y * self.weight(name + ".weight") + self.weight(name + ".bias"))

    def rms_norm(self, x, name):
        """RMSNorm, rounded once after the multiplication by the weight."""
        scale = torch.rsqrt((x ** 2).mean(-1, keepdim=True) + self.rms_eps())
        return self.round(x * scale * self.weight(name))

    def gelu(self, x):
        """The exact (erf) form."""
        return self.round(0.5 * x * (1 + torch.erf(x / math.sqrt(2))))

    def silu(self, x):
        return self.round(x * torch.sigmoid(x))

    def gated_mlp(self, x, gate, up, down):
        product = self.round(self.silu(self.linear(x, gate)) * self.linear(x, up))
        return self.linear(product, down)

    def rms_eps(self):
        return self.config.rms_eps

    def vit_eps(self):
        return self.config.vit_eps

    def adapter_eps(self):
        return ADAPTER_NORM_EPS

    # -------------------------------------------------------------- picture

    def load_picture(self, path):
        """Decode to RGB: orientation tags ignored, alpha dropped without blending."""
        with Image.open(path) as picture:
            return picture.convert("RGB")

    def resize(self, picture):
        """Squash to the square input size with Pillow's 8-bit bicubic filter."""
        size = self.config.image_size
        return np.asarray(picture.resize((size, size), Image.BICUBIC))

    def pixels(self, path):
        """The normalised input [3, S, S], computed in single precision."""
        values = self.resize(self.load_picture(path)).astype(np.float32) / np.float32(255)
        values = (values - PIXEL_MEAN) / PIXEL_STD
        return self.round(torch.from_numpy(values.transpose(2, 0, 1).copy()).to(torch.float64))

    # -------------------------------------------------------------- vision tower

    def patch_embedding(self, pixels):
        """cls and the patches, row by row, plus their learned positions."""
        c = self.config
        patches = pixels.reshape(3, c.grid, c.patch, c.grid, c.patch)
        patches = patches.permute(1, 3, 0, 2, 4).reshape(c.patches, -1)   # (channel, y, x)
        name = "model.vision.patch_embedding."
        kernel = self.weight(name + "proj.weight").reshape(c.vit_hidden, -1)
        x = self.round(self.round(patches @ kernel.T) + self.weight(name + "proj.bias"))
        x = torch.cat([self.weight(name + "cls_embedding"), x])
        return self.round(x + self.vit_positions())

    def vit_positions(self):
        """Position table; row 0 belongs to cls."""
        return self.weight("model.vision.patch_embedding.position_embedding.weight")

    def vit_attention(self, x, name):
        """Full attention; the probabilities are rounded before they meet the values."""
        heads = self.config.vit_heads
        qkv = self.linear(x, name + ".query_key_value")
        q, k, v = (part.reshape(len(x), heads, -1).transpose(0, 1) for part in qkv.chunk(3, -1))
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        mixed = self.round(self.round(torch.softmax(scores, -1)) @ v)
        return self.linear(mixed.transpose(0, 1).reshape(len(x), -1), name + ".dense")

    def vit_mlp(self, x, name):
        return self.linear(self.vit_gelu(self.linear(x, name + ".fc1")), name + ".fc2")

    def vit_gelu(self, x):
        return self.gelu(x)

    def vit_block(self, x, k):
        """Each sublayer's output is normalised, then added to the residual stream."""
        name = f"model.vision.transformer.layers.{k}."
        a = self.vit_attention(x, name + "attention")
        x = self.round(x + self.layer_norm(a, name + "input_layernorm", self.vit_eps()))
        m = self.vit_mlp(x, name + "mlp")
        return self.round(x + self.layer_norm(m, name + "post_attention_layernorm",
                                              self.vit_eps()))

    def vit_blocks(self):
        return range(self.config.vit_layers)

    def after_tower(self, x):
        """No final norm; cls is dropped."""
        return x[1:]

    def adapter(self, x):
        """Project to the decoder, add boi and eoi: [patches + 2, hidden]."""
        name = "model.vision.linear_proj."
        x = self.layer_norm(self.linear(x, name + "linear_proj"), name + "norm1",
                            self.adapter_eps())
        x = self.gated_mlp(self.adapter_gelu(x), name + "gate_proj", name + "dense_h_to_4h",
                           name + "dense_4h_to_h")
        boi, eoi = (self.weight(f"model.vision.{n}").reshape(1, -1) for n in ("boi", "eoi"))
        return torch.cat([boi, x, eoi])

    def adapter_gelu(self, x):
        return self.gelu(x)

    def encode_picture(self, path, trace=None):
        """Visual embeddings of a picture; `trace` receives the stages by name."""
        trace = {} if trace is None else trace
        trace["pixels"] = self.pixels(path)
        x = trace["vit.embed"] = self.patch_embedding(trace["pixels"])
        for k in self.vit_blocks():
            x = trace[f"vit.{k}"] = self.vit_block(x, k)
        trace["adapter"] = self.adapter(self.after_tower(x))
        return trace["adapter"]

    # -------------------------------------------------------------- decoder

    def inv_freq(self):
        """Rotary frequencies, stored in the checkpoint, the same for all layers."""
        return self.weight("model.layers.0.self_attn.rotary_emb.inv_freq")

    def rotary_tables(self, positions):
        """cos and sin [tokens, head_dim / 2] for integer positions.

        In bf16 mode the position itself, the angle, cos and sin are all rounded:
        above 256 neighbouring tokens share a position.
        """
        t = self.round(torch.tensor(positions, dtype=torch.float64))
        angle = t[:, None] * self.inv_freq()[None, :]
        if self.mode == "bf16":
            angle = bf16(angle)
        else:
            angle = angle.to(torch.float32).to(torch.float64)
        return self.round(torch.cos(angle)), self.round(torch.sin(angle))

    def rotate(self, x, cos, sin):
        """Rotate the pairs (i, i + head_dim / 2) of x [tokens, heads, head_dim]."""
        a, b = x.chunk(2, -1)
        cos, sin = cos[:, None, :], sin[:, None, :]
        r = self.round
        return torch.cat([r(r(a * cos) - r(b * sin)), r(r(b * cos) + r(a * sin))], -1)

    def routed(self, x, vision, name):
        """A linear layer whose weights depend on the token's expert.

        `name` has a place {} for `language` or `vision`.
        """
        return self.route(x, vision, lambda part, expert: self.linear(part, name.format(expert)))

    def route(self, x, vision, function):
        """Apply function(rows, expert) to the rows of either expert and merge."""
        if not vision.any():
            return function(x, "language")
        language_out = function(x[~vision], "language")
        y = x.new_empty(len(x), language_out.shape[-1])
        y[~vision] = language_out
        y[vision] = function(x[vision], "vision")
        return y

    def split_qkv(self, qkv):
        """Contiguous blocks q, k, v; inside each one head after the other."""
        c = self.config
        sizes = [n * c.head_dim for n in (c.heads, c.kv_heads, c.kv_heads)]
        return [part.reshape(len(qkv), -1, c.head_dim) for part in qkv.split(sizes, -1)]

    def visible(self, first, count, types):
        """Causal: the token in slot i sees the slots 0 to i, pictures included."""
        slots = torch.arange(first, first + count)
        return torch.arange(first + count)[None, :] <= slots[:, None]

    def attention(self, x, k, vision, tables, kv, mask):
        """Causal attention of the new tokens over the cache `kv` of layer k."""
        c = self.config
        name = f"model.layers.{k}.self_attn."
        qkv = self.routed(x, vision, name + "{}_expert_query_key_value")
        query, key, value = self.split_qkv(qkv)
        query, key = self.rotate(query, *tables), self.rotate(key, *tables)
        if k in kv:
            key, value = torch.cat([kv[k][0], key]), torch.cat([kv[k][1], value])
        kv[k] = key, value
        group = c.heads // c.kv_heads
        key, value = (t.repeat_interleave(group, 1).transpose(0, 1) for t in (key, value))
        scores = query.transpose(0, 1) @ key.transpose(1, 2) / math.sqrt(c.head_dim)
        scores = scores.masked_fill(~mask, -math.inf)
        mixed = self.round(self.probabilities(scores) @ value)
        return self.routed(mixed.transpose(0, 1).reshape(len(x), -1), vision,
                           name + "{}_expert_dense")

    def probabilities(self, scores):
        return torch.softmax(scores, -1)

    def decoder_layer(self, x, k, vision, tables, kv, mask):
        name = f"model.layers.{k}."
        n = self.rms_norm(x, name + "input_layernorm.weight")
        x = self.round(x + self.attention(n, k, vision, tables, kv, mask))
        n = self.rms_norm(x, name + "post_attention_layernorm.weight")
        f = self.route(n, vision, lambda rows, expert: self.gated_mlp(
            rows, *(f"{name}mlp.{expert}_mlp.{part}_proj" for part in ("gate", "up", "down"))))
        return self.round(x + f)

    def logits(self, x):
        """Final norm and head; the original produces the logits in bfloat16."""
        return self.round(self.rms_norm(x, "model.norm.weight") @ self.weight("lm_head.weight").T)

    def position_ids(self, types):
        return position_ids(types)

    def expert_mask(self, types):
        return expert_mask(types)

    def prompt(self, text_ids, has_picture):
        """The sequence of a request: (ids, token types)."""
        visual = self.config.patches + 2 if has_picture else 0
        ids = [self.config.bos] + [PLACEHOLDER_ID] * visual + list(text_ids)
        return ids, [0] + [1] * visual + [0] * len(text_ids)

    def forward(self, ids, types, visual=None, kv=None, first=0, trace=None):
        """Logits of the last token of the sequence.

        `ids` and `types` describe the whole sequence; tokens before slot `first`
        are already in the cache `kv` and are not computed again.  Positions and
        experts always follow from the whole sequence.
        """
        trace = {} if trace is None else trace
        kv = {} if kv is None else kv
        new = slice(first, len(ids))
        x = self.weight("model.embed_tokens.weight")[torch.tensor(ids)]
        if visual is not None:
            x[torch.tensor(types) == 1] = visual
        x = trace["embed"] = x[new]
        vision = torch.tensor(self.expert_mask(types)[new], dtype=torch.bool)
        tables = self.rotary_tables(self.position_ids(types)[new])
        mask = self.visible(first, len(x), types)
        for k in range(self.config.layers):
            x = trace[f"layer.{k}"] = self.decoder_layer(x, k, vision, tables, kv, mask)
        trace["logits"] = self.logits(x[-1:])[0]
        return trace["logits"]

    def greedy(self, ids, types, visual, count, recompute=False):
        """Greedy continuation: (ids without the stop id, margins, finish reason).

        The lowest id wins a tie.  A margin is the largest logit minus the second.
        The list of margins includes the one of the stop id.
        """
        ids, types, kv, first = list(ids), list(types), {}, 0
        answer, margins = [], []
        while len(answer) < count:
            logits = self.forward(ids, types, visual, {} if recompute else kv,
                                  0 if recompute else first).numpy()
            best = int(np.argmax(logits))
            top = np.partition(logits, -2)[-2:]
            margins.append(float(top[1] - top[0]))
            if best in self.config.eos:
                return answer, margins, "stop"
            answer.append(best)
            first = len(ids)
            ids.append(best)
            types.append(0)
        return answer, margins, "length"


# ------------------------------------------------------------------ traps

class EoiVision(Model):
    """eoi goes through the vision expert."""

    def expert_mask(self, types):
        return list(types)


class ChunkedMask(Model):
    """Experts decided per prefill chunk of 16 tokens: its last token turns language."""

    def expert_mask(self, types):
        return sum((expert_mask(types[i:i + 16]) for i in range(0, len(types), 16)), [])


class SequentialPositions(Model):
    """Every token, patches included, has its own position."""

    def position_ids(self, types):
        return list(range(len(types)))


class EoiSharesPosition(Model):
    """eoi at the position of the patches."""

    def position_ids(self, types):
        shift = 1 if 1 in types else 0
        last = max((i for i, t in enumerate(types) if t == 1), default=0)
        return [p - (shift if i >= last else 0) for i, p in enumerate(position_ids(types))]


class ExactRope(Model):
    """Exact rotary tables where the bf16 model has bfloat16 ones."""

    def rotary_tables(self, positions):
        angle = torch.tensor(positions, dtype=torch.float64)[:, None] * self.inv_freq()
        return torch.cos(angle), torch.sin(angle)


class ExactPositions(Model):
    """bfloat16 rotary tables, but of unrounded positions (differs above 256)."""

    def rotary_tables(self, positions):
        angle = torch.tensor(positions, dtype=torch.float64)[:, None] * self.inv_freq()
        angle = self.round(angle)
        return self.round(torch.cos(angle)), self.round(torch.sin(angle))


class FormulaFrequencies(Model):
    """Rotary frequencies from the usual formula instead of the stored ones."""

    def inv_freq(self):
        half = self.config.head_dim // 2
        return self.round(10000.0 ** (-torch.arange(half, dtype=torch.float64) / half))


class InterleavedRope(Model):
    """Rotary pairs (2i, 2i + 1)."""

    def rotate(self, x, cos, sin):
        half = x.shape[-1] // 2
        order = torch.arange(2 * half).reshape(half, 2).T.reshape(-1)
        turned = super().rotate(x[..., order], cos, sin)
        return turned[..., torch.argsort(order)]


class InterleavedQkv(Model):
    """q, k and v interleaved per head (no difference with one head)."""

    def split_qkv(self, qkv):
        c = self.config
        return [part[:, :, 0] for part in
                qkv.reshape(len(qkv), c.heads, 3, c.head_dim).split(1, 2)]


class PreNorm(Model):
    """Vision blocks normalise the input of a sublayer."""

    def vit_block(self, x, k):
        name = f"model.vision.transformer.layers.{k}."
        a = self.layer_norm(x, name + "input_layernorm", self.vit_eps())
        x = self.round(x + self.vit_attention(a, name + "attention"))
        m = self.layer_norm(x, name + "post_attention_layernorm", self.vit_eps())
        return self.round(x + self.vit_mlp(m, name + "mlp"))


class NormAfterSum(Model):
    """Vision blocks normalise the residual stream after the addition."""

    def vit_block(self, x, k):
        name = f"model.vision.transformer.layers.{k}."
        x = self.layer_norm(x + self.vit_attention(x, name + "attention"),
                            name + "input_layernorm", self.vit_eps())
        return self.layer_norm(x + self.vit_mlp(x, name + "mlp"),
                               name + "post_attention_layernorm", self.vit_eps())


class DropLastVitLayer(Model):
    """The last vision block is left out."""

    def vit_blocks(self):
        return range(self.config.vit_layers - 1)


class ClsPositionLast(Model):
    """Position rows assigned as if cls were the last token."""

    def vit_positions(self):
        return torch.roll(super().vit_positions(), 1, 0)


class KeepCls(Model):
    """cls reaches the decoder and the last patch does not."""

    def after_tower(self, x):
        return x[:-1]


class VitEps(Model):
    """LayerNorm epsilon of the tower 1e-5."""

    def vit_eps(self):
        return 1e-5


class AdapterEps(Model):
    """LayerNorm epsilon of the adapter 1e-6."""

    def adapter_eps(self):
        return 1e-6


class RmsEps(Model):
    """RMSNorm epsilon 1e-6 (the class default) in place of the configured one."""

    def rms_eps(self):
        return 1e-6


def tanh_gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


class TanhGeluVit(Model):
    """tanh approximation of GELU in the tower."""

    def vit_gelu(self, x):
        return self.round(tanh_gelu(x))


class TanhGeluAdapter(Model):
    """tanh approximation of GELU in the adapter."""

    def adapter_gelu(self, x):
        return self.round(tanh_gelu(x))


class Letterbox(Model):
    """The picture is padded to a square before the resize."""

    def resize(self, picture):
        side = max(picture.size)
        square = Image.new("RGB", (side, side), (122, 116, 104))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        return super().resize(square)


class CentreCrop(Model):
    """The picture is cropped to its central square before the resize."""

    def resize(self, picture):
        side = min(picture.size)
        x, y = (picture.width - side) // 2, (picture.height - side) // 2
        return super().resize(picture.crop((x, y, x + side, y + side)))


class PlainBicubic(Model):
    """Bicubic with a = -0.75 and without antialiasing."""

    def resize(self, picture):
        size = self.config.image_size
        planes = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(torch.float32)
        out = torch.nn.functional.interpolate(planes, (size, size), mode="bicubic",
                                              align_corners=False)
        return out[0].permute(1, 2, 0).round().clamp(0, 255).numpy().astype(np.uint8)


class Bilinear(Model):
    """Bilinear resize."""

    def resize(self, picture):
        size = self.config.image_size
        return np.asarray(picture.resize((size, size), Image.BILINEAR))


class FloatResize(Model):
    """Bicubic in floating point: no rounding to 8 bits after either pass."""

    def resize(self, picture):
        size = self.config.image_size
        planes = [plane.convert("F").resize((size, size), Image.BICUBIC)
                  for plane in picture.split()]
        return np.stack([np.asarray(plane) for plane in planes], -1)


class ExifRotation(Model):
    """The orientation tag is obeyed."""

    def load_picture(self, path):
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")


class BlendAlpha(Model):
    """Transparent pictures are blended with white."""

    def load_picture(self, path):
        with Image.open(path) as picture:
            front = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", front.size, "white"), front).convert("RGB")


class SwappedChannels(Model):
    """BGR instead of RGB."""

    def resize(self, picture):
        return super().resize(picture)[:, :, ::-1]


class DoubleRoundedNorm(Model):
    """RMSNorm rounds before the multiplication by the weight as well."""

    def rms_norm(self, x, name):
        scale = torch.rsqrt((x ** 2).mean(-1, keepdim=True) + self.rms_eps())
        return self.round(self.round(x * scale) * self.weight(name))


class FullLogits(Model):
    """Logits of the bf16 model left unrounded: other tokens win where they should tie."""

    def logits(self, x):
        return self.rms_norm(x, "model.norm.weight") @ self.weight("lm_head.weight").T


class BidirectionalPicture(Model):
    """Visual tokens see each other in both directions."""

    def visible(self, first, count, types):
        visual = torch.tensor(types[:first + count]) == 1
        both = visual[first:, None] & visual[None, :]
        return super().visible(first, count, types) | both


class RoundedProbabilities(Model):
    """Not a mistake: attention kernels may round the decoder's probabilities too."""

    def probabilities(self, scores):
        return self.round(torch.softmax(scores, -1))


class FusedRotation(Model):
    """Not a mistake: the rotation may be fused and rounded once."""

    def rotate(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        cos, sin = cos[:, None, :], sin[:, None, :]
        return self.round(torch.cat([a * cos - b * sin, b * cos + a * sin], -1))


TRAPS = {
    "eoi-vision": EoiVision,
    "chunked-mask": ChunkedMask,
    "sequential-positions": SequentialPositions,
    "eoi-shares-position": EoiSharesPosition,
    "exact-rope": ExactRope,
    "exact-positions": ExactPositions,
    "formula-frequencies": FormulaFrequencies,
    "interleaved-rope": InterleavedRope,
    "interleaved-qkv": InterleavedQkv,
    "pre-norm": PreNorm,
    "norm-after-sum": NormAfterSum,
    "drop-last-vit-layer": DropLastVitLayer,
    "cls-position-last": ClsPositionLast,
    "keep-cls": KeepCls,
    "vit-eps": VitEps,
    "adapter-eps": AdapterEps,
    "rms-eps": RmsEps,
    "tanh-gelu-vit": TanhGeluVit,
    "tanh-gelu-adapter": TanhGeluAdapter,
    "letterbox": Letterbox,
    "centre-crop": CentreCrop,
    "plain-bicubic": PlainBicubic,
    "bilinear": Bilinear,
    "float-resize": FloatResize,
    "exif-rotation": ExifRotation,
    "blend-alpha": BlendAlpha,
    "swapped-channels": SwappedChannels,
    "double-rounded-norm": DoubleRoundedNorm,
    "full-logits": FullLogits,
    "bidirectional-picture": BidirectionalPicture,
}
VARIANTS = {
    "rounded-probabilities": RoundedProbabilities,
    "fused-rotation": FusedRotation,
}
BF16_ONLY = {"exact-rope", "exact-positions", "double-rounded-norm", "full-logits",
             *VARIANTS}


# ------------------------------------------------------------------ command line

def picture_path(folder, case):
    return os.path.join(folder, case["picture"]) if case["picture"] else None


def case_logits(model, folder, case):
    """Logits after the prompt of a recorded case."""
    path = picture_path(folder, case)
    visual = model.encode_picture(path) if path else None
    return model.forward(case["prompt_ids"], case["token_type_ids"], visual)


def case_greedy(model, folder, case):
    """Greedy ids of a recorded case."""
    path = picture_path(folder, case)
    visual = model.encode_picture(path) if path else None
    return model.greedy(case["prompt_ids"], case["token_type_ids"], visual,
                        case["max_tokens"])[0]


def relative_change(value, reference):
    """Norm of the difference over the norm of the reference."""
    return float((value - reference).norm() / reference.norm())


def report_traps(folders, names):
    """Print, for each trap and mode, the relative change of the logits per case."""
    for folder in folders:
        with open(os.path.join(folder, "cases.json")) as source:
            cases = json.load(source)["cases"]
        for mode in ("f32", "bf16"):
            right = Model(folder, mode)
            expected = [case_logits(right, folder, case) for case in cases]
            for name in names:
                if mode == "f32" and name in BF16_ONLY:
                    continue
                wrong = {**TRAPS, **VARIANTS}[name](folder, mode)
                changes = [relative_change(case_logits(wrong, folder, case), reference)
                           for case, reference in zip(cases, expected)]
                line = " ".join(f"{case['id']}:{change:.1e}"
                                for case, change in zip(cases, changes))
                if name == "full-logits":
                    other = [case["id"] for case in cases if case_greedy(wrong, folder, case)
                             != case["greedy_ids_bf16"]]
                    line += f" | other greedy ids in {other}"
                print(f"{os.path.basename(folder)} {mode} {name}: {line}", flush=True)


def describe(args):
    """Run one request and print what the model does with it."""
    model = Model(args.folder, args.mode)
    tokenizer = Tokenizer(args.folder)
    text = args.text
    if text is None:
        text = prompt_text(args.template or model.config.template, args.query)
    ids, types = model.prompt(tokenizer.encode(text), args.picture is not None)
    trace = {}
    visual = model.encode_picture(args.picture, trace) if args.picture else None
    if args.stages:
        model.forward(ids, types, visual, trace=trace)
        for name, value in trace.items():
            print(f"{name:12} {tuple(value.shape)} rms {float((value ** 2).mean().sqrt()):.6g}")
    print("ids      ", ids)
    print("positions", model.position_ids(types))
    print("expert   ", model.expert_mask(types))
    answer, margins, finish = model.greedy(ids, types, visual, args.tokens, args.recompute)
    print("greedy   ", answer, finish)
    print("margins  ", [round(m, 4) for m in margins])
    print("text     ", repr(tokenizer.decode(answer)))


def check_samples(args):
    """Compare greedy answers (f32) with a samples.json beside the checkpoint."""
    model = Model(args.folder, "f32")
    tokenizer = Tokenizer(args.folder)
    with open(os.path.join(args.folder, "samples.json")) as source:
        samples = json.load(source)
    right = total = 0
    for sample in samples:
        visual = model.encode_picture(os.path.join(args.folder, sample["image"]))
        for case in sample["cases"]:
            ids, types = model.prompt(tokenizer.encode(case["prompt"]), True)
            answer, _, _ = model.greedy(ids, types, visual, 64)
            same = (answer == case["greedy_token_ids"]
                    and tokenizer.decode(answer) == case["greedy_text"])
            right, total = right + same, total + 1
            if not same:
                print(sample["image"], case["prompt"], answer, case["greedy_token_ids"])
    print(f"{right} of {total} greedy answers equal")
    return 0 if right == total else 1


def main():
    parser = argparse.ArgumentParser(
        description="Reference implementation of CogVLM v1: run a request, check a "
                    "samples.json, or measure what well-known mistakes would change.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run one request greedily")
    run.add_argument("folder", help="checkpoint folder")
    run.add_argument("--mode", choices=("f32", "bf16"), default="f32")
    run.add_argument("--picture", help="picture file; without it the request is text only")
    run.add_argument("--query", default="Describe this image.", help="query of one turn")
    run.add_argument("--template", choices=("base", "chat", "vqa"),
                     help="default: the checkpoint's template_version")
    run.add_argument("--text", help="complete prompt text in place of query and template")
    run.add_argument("--tokens", type=int, default=32, help="most tokens to generate")
    run.add_argument("--recompute", action="store_true",
                     help="compute the whole sequence for every token instead of caching")
    run.add_argument("--stages", action="store_true", help="print the size of every stage")
    samples = commands.add_parser("samples", help="check the samples.json of a folder")
    samples.add_argument("folder")
    trap = commands.add_parser(
        "trap", help="relative change of the logits of a fixture's cases under a mistake",
        epilog="traps: " + ", ".join(TRAPS) + "; legitimate variants: " + ", ".join(VARIANTS))
    trap.add_argument("name", choices=["all", *TRAPS, *VARIANTS], metavar="NAME")
    trap.add_argument("folders", nargs="+", help="fixture folders with a cases.json")
    args = parser.parse_args()

    if args.command == "run":
        describe(args)
    elif args.command == "samples":
        return check_samples(args)
    else:
        report_traps([folder.rstrip("/") for folder in args.folders],
                     [*TRAPS, *VARIANTS] if args.name == "all" else [args.name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
