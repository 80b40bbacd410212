#!/usr/bin/env python3
"""The model of bench_device.c in PyTorch: the same weights, the same stages, timed the same way.

    bench_torch.py --shape v1 --device cuda                 one JSON object a line, as bench_device
    bench_torch.py --shape tiny --device cpu --check FILE   compares the logits that
                                                            `bench_device --logits FILE` wrote

Three ways to run it, each as a person would write it:

  torch eager     boolean masks pick each expert's rows, attention is written out, keys and values
                  are concatenated
  torch sdpa      index lists instead of masks, scaled_dot_product_attention, keys and values in
                  place
  torch compiled  torch.compile of a layer; decoding is recorded as a CUDA graph. Needs PyTorch 2
                  and a GPU. The graph has one fixed context length, which favours it.

Weights are a hash of a key and an index (base/rng.h), made on the device: nothing is downloaded.
"""
import argparse
import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

MASK64 = (1 << 64) - 1
GOLDEN = 0x9e3779b97f4a7c15
TOWER, ADAPTER, DECODER, DATA = 1, 2, 3, 4
LANGUAGE, VISION = 0, 1
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
TOWER_QKV_GAIN = 0.125
CHECK_STEPS = 4
# relative L2 distance of logits: f32 sums differ in order; bf16 also in where attention rounds
LIMIT = {'f32': 1e-4, 'bf16': 3e-2}


class Shape:
    """The numbers of bench_model.c."""

    def __init__(self, name, vocab, hidden, inter, layers, heads, kv_heads, theta, tower, patches,
                 has_adapter, has_qkv_bias, text, context, prefill, max_images, max_batch):
        self.name, self.vocab, self.hidden, self.inter = name, vocab, hidden, inter
        self.layers, self.heads, self.kv_heads, self.theta = layers, heads, kv_heads, theta
        self.head_dim = hidden // heads
        self.vit_hidden, self.vit_heads, self.vit_layers, self.vit_inter, self.patch = tower
        self.patches, self.has_adapter, self.has_qkv_bias = patches, has_adapter, has_qkv_bias
        self.text, self.context, self.prefill = text, context, prefill
        self.max_images, self.max_batch = max_images, max_batch
        self.grid = math.isqrt(patches) * (1 if has_adapter else 2)
        self.image_tokens = patches + 2
        self.prompt = 1 + self.image_tokens + text


REAL_TOWER = (1792, 16, 63, 15360, 14)
SHAPES = {s.name: s for s in (
    Shape('v1', 32000, 4096, 11008, 32, 32, 32, 1e4, REAL_TOWER, 1225, True, False, 32, 1355,
          (128, 512, 2048), 8, 128),
    Shape('v2', 128256, 4096, 14336, 32, 32, 8, 5e5, REAL_TOWER, 2304, False, True, 32, 2434,
          (128, 512, 2048), 2, 128),
    Shape('tiny', 259, 64, 96, 2, 4, 2, 1e4, (48, 3, 2, 80, 7), 16, True, True, 5, 27,
          (3, 16, 40), 2, 4),
)}


# ------------------------------------------------------------------ the generator

def signed(x):
    """A 64-bit number as torch's int64 holds it."""
    x &= MASK64
    return x - (1 << 64) if x >> 63 else x


def shift_right(z, n):
    """Without the sign."""
    return (z >> n) & ((1 << (64 - n)) - 1)


def mix(z):
    """cog_rng_mix of a tensor; products wrap around."""
    z = (z ^ shift_right(z, 30)) * signed(0xbf58476d1ce4e5b9)
    z = (z ^ shift_right(z, 27)) * signed(0x94d049bb133111eb)
    return z ^ shift_right(z, 31)


def bits_at(key, first, count, device):
    """cog_rng_at(key, first .. first + count - 1)."""
    start = mix(torch.tensor(signed(key + GOLDEN), dtype=torch.int64)).item()
    counter = torch.arange(first + 1, first + count + 1, dtype=torch.int64, device=device)
    return mix(counter * signed(GOLDEN) + start)


def key_of(part, layer, kind):
    return part << 32 | layer << 8 | kind


def random_weight(rows, cols, key, center, spread, dtype, device):
    """weight_random of engine/backend.h."""
    out = torch.empty(rows * cols, dtype=dtype, device=device)
    center, spread = float(np.float32(center)), float(np.float32(spread))
    piece = 1 << 24
    for first in range(0, len(out), piece):
        n = min(piece, len(out) - first)
        u = shift_right(bits_at(key, first, n, device), 40).to(torch.float32) * 2.0**-24
        out[first:first + n] = (2 * u - 1) * spread + center
    return out.reshape(rows, cols)


# ------------------------------------------------------------------ weights

class Weights:
    """All parameters, in the order in which bench_model.c makes them."""

    def __init__(self, shape, dtype, device):
        self.shape, self.dtype, self.device = shape, dtype, device
        s = shape
        self.at(TOWER, 0)
        self.vit_patch = self.matrix(s.vit_hidden, 3 * s.patch**2)
        self.vit_patch_bias = self.vector(s.vit_hidden, 0)
        self.vit_cls = self.rows(1, s.vit_hidden)
        self.vit_position = self.rows(s.grid**2 + 1, s.vit_hidden)
        self.vit = [self.tower_layer(i + 1) for i in range(s.vit_layers)]
        if s.has_adapter:
            self.at(ADAPTER, 0)
            self.proj = self.matrix(s.hidden, s.vit_hidden, TOWER_QKV_GAIN)
            self.proj_norm, self.proj_norm_bias = self.vector(s.hidden, 1), self.vector(s.hidden, 0)
            self.proj_gate_up = self.matrix(2 * s.inter, s.hidden)
            self.proj_down = self.matrix(s.hidden, s.inter)
            self.boi, self.eoi = self.rows(1, s.hidden), self.rows(1, s.hidden)
        self.at(DECODER, 0)
        self.embed = self.rows(s.vocab, s.hidden)
        self.norm = self.vector(s.hidden, 1)
        self.lm_head = self.matrix(s.vocab, s.hidden)
        self.layer = [self.decoder_layer(i + 1) for i in range(s.layers)]

    def at(self, part, layer):
        self.part, self.number, self.kind = part, layer, 0

    def make(self, rows, cols, center, spread):
        key = key_of(self.part, self.number, self.kind)
        self.kind += 1
        return random_weight(rows, cols, key, center, spread, self.dtype, self.device)

    def matrix(self, rows, cols, gain=1.0):
        return self.make(rows, cols, 0, gain * math.sqrt(3.0 / cols))

    def vector(self, n, center):
        return self.make(1, n, center, 0.125)[0]

    def rows(self, n, cols):
        return self.make(n, cols, 0, 1)

    def tower_layer(self, number):
        h, inter = self.shape.vit_hidden, self.shape.vit_inter
        self.at(TOWER, number)
        w = {}
        w['qkv'], w['qkv_bias'] = self.matrix(3 * h, h, TOWER_QKV_GAIN), self.vector(3 * h, 0)
        w['dense'], w['dense_bias'] = self.matrix(h, h), self.vector(h, 0)
        w['norm1'], w['norm1_bias'] = self.vector(h, 1), self.vector(h, 0)
        w['fc1'], w['fc1_bias'] = self.matrix(inter, h, TOWER_QKV_GAIN), self.vector(inter, 0)
        w['fc2'], w['fc2_bias'] = self.matrix(h, inter), self.vector(h, 0)
        w['norm2'], w['norm2_bias'] = self.vector(h, 1), self.vector(h, 0)
        return w

    def decoder_layer(self, number):
        s = self.shape
        mixed = s.heads * s.head_dim
        qkv = mixed + 2 * s.kv_heads * s.head_dim
        self.at(DECODER, number)
        w = {'norm_in': self.vector(s.hidden, 1), 'norm_post': self.vector(s.hidden, 1)}
        for expert in (LANGUAGE, VISION):
            w['qkv', expert] = self.matrix(qkv, s.hidden)
            biased = expert == VISION and s.has_qkv_bias
            w['qkv_bias', expert] = self.vector(qkv, 0) if biased else None
            w['dense', expert] = self.matrix(s.hidden, mixed)
            w['gate_up', expert] = self.matrix(2 * s.inter, s.hidden)
            w['down', expert] = self.matrix(s.hidden, s.inter)
        return w


# ------------------------------------------------------------------ inputs

def picture(shape, i, device):
    """[side, side, 3] bytes."""
    side = shape.grid * shape.patch
    bits = bits_at(key_of(DATA, i, 0), 0, side * side * 3, device)
    return shift_right(bits, 56).reshape(side, side, 3)


def random_features(shape, device):
    bits = bits_at(key_of(DATA, 0, 1), 0, shape.image_tokens * shape.hidden, device)
    return ((shift_right(bits, 56) - 128).to(torch.float32) / 128).reshape(-1, shape.hidden)


def token(shape, slot):
    bits = bits_at(key_of(DATA, 0, 2), slot, 1, 'cpu')
    return 1 if slot == 0 else 3 + int(shift_right(bits, 32)) % (shape.vocab - 3)


class Rows:
    """Slots first .. first + n - 1 of a prompt, the same for all sequences of a batch."""

    def __init__(self, shape, first, n, with_picture, device):
        slots = range(first, first + n)
        self.first, self.n = first, n
        visual = [with_picture and 1 <= s <= shape.image_tokens for s in slots]
        # boi and the patches; eoi goes to the language expert
        vision = [with_picture and 1 <= s < shape.image_tokens for s in slots]
        position = [s if not with_picture or s < 2 else 2 if s < shape.image_tokens
                    else s - shape.image_tokens + 3 for s in slots]
        self.token = torch.tensor([0 if v else token(shape, s) for s, v in zip(slots, visual)],
                                  device=device)
        self.visual = torch.tensor([i for i, v in enumerate(visual) if v], device=device,
                                   dtype=torch.int64)
        self.feature = torch.tensor([s - 1 for s, v in zip(slots, visual) if v], device=device,
                                    dtype=torch.int64)
        self.is_vision = torch.tensor(vision, device=device)
        self.index = {expert: torch.tensor([i for i, v in enumerate(vision) if v == expert],
                                           device=device, dtype=torch.int64)
                      for expert in (LANGUAGE, VISION)}
        self.position = torch.tensor(position, device=device)


# ------------------------------------------------------------------ the model

def layer_norm(x, weight, bias, eps):
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def rms_norm(x, weight):
    """Rounded once, after the multiplication by the weight."""
    y = x.float()
    y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5)
    return (weight.float() * y).to(x.dtype)


def gated(x, gate_up, down):
    gate, up = F.linear(x, gate_up).chunk(2, -1)
    return F.linear(F.silu(gate) * up, down)


def rotate(x, cos, sin):
    """x [batch, heads, n, head_dim]; cos, sin [n, head_dim / 2]."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Eager:
    """As the published implementation runs."""

    name = 'torch eager'

    def __init__(self, weights):
        self.w, self.shape = weights, weights.shape
        s = self.shape
        half = s.head_dim // 2
        freq = torch.tensor([np.float32(1 / math.pow(s.theta, 2.0 * i / s.head_dim))
                             for i in range(half)], dtype=torch.float32)
        t = torch.arange(4096, dtype=torch.float32)
        dtype = weights.dtype
        angle = (t.to(dtype)[:, None] * freq.to(dtype)).to(torch.float32)
        self.cos = torch.cos(angle).to(dtype).to(weights.device)
        self.sin = torch.sin(angle).to(dtype).to(weights.device)
        mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
        self.mean, self.std = mean.to(weights.device), std.to(weights.device)

    # ---- vision

    def patches(self, rgb):
        """rgb [n, side, side, 3] -> [n, tokens, hidden]."""
        s, w = self.shape, self.w
        x = ((rgb.to(torch.float32) / 255 - self.mean) / self.std).to(w.dtype)
        x = x.reshape(len(rgb), s.grid, s.patch, s.grid, s.patch, 3)
        x = x.permute(0, 1, 3, 5, 2, 4).reshape(len(rgb), s.grid**2, -1)
        x = F.linear(x, w.vit_patch) + w.vit_patch_bias
        return torch.cat([w.vit_cls.expand(len(rgb), 1, -1), x], 1) + w.vit_position

    def all_see_all(self, q, k, v):
        p = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1,
                          dtype=torch.float32)
        return p.to(q.dtype) @ v

    def vit_block(self, x, w):
        n, tokens, hidden = x.shape
        qkv = F.linear(x, w['qkv'], w['qkv_bias'])
        q, k, v = (part.reshape(n, tokens, self.shape.vit_heads, -1).transpose(1, 2)
                   for part in qkv.chunk(3, -1))
        mixed = self.all_see_all(q, k, v).transpose(1, 2).reshape(n, tokens, hidden)
        y = F.linear(mixed, w['dense'], w['dense_bias'])
        x = x + layer_norm(y, w['norm1'], w['norm1_bias'], 1e-6)
        y = F.linear(F.gelu(F.linear(x, w['fc1'], w['fc1_bias'])), w['fc2'], w['fc2_bias'])
        return x + layer_norm(y, w['norm2'], w['norm2_bias'], 1e-6)

    def tower(self, rgb):
        x = self.patches(rgb)
        for w in self.w.vit:
            x = self.vit_block(x, w)
        return x

    def adapter(self, x):
        """[n, image_tokens, hidden]."""
        w = self.w
        x = F.gelu(layer_norm(F.linear(x[:, 1:], w.proj), w.proj_norm, w.proj_norm_bias, 1e-5))
        x = gated(x, w.proj_gate_up, w.proj_down)
        return torch.cat([w.boi.expand(len(x), 1, -1), x, w.eoi.expand(len(x), 1, -1)], 1)

    # ---- decoder

    def routed(self, x, rows, function):
        """function(rows, expert) of either expert's rows, chosen by a mask."""
        vision = rows.is_vision.expand(len(x), -1)
        if not vision.any():
            return function(x, LANGUAGE)
        part = function(x[vision], VISION)
        y = x.new_empty(*x.shape[:2], part.shape[-1])
        y[vision] = part
        if not vision.all():
            y[~vision] = function(x[~vision], LANGUAGE)
        return y

    def new_cache(self, batch, slots, like=None):
        """Per layer keys and values [batch, kv_heads, slots, head_dim]."""
        s = self.shape
        size = (batch, s.kv_heads, slots, s.head_dim)
        def fresh():
            if like == 'random':
                return torch.randn(size, dtype=self.w.dtype, device=self.w.device)
            return torch.empty(size, dtype=self.w.dtype, device=self.w.device)
        return [[fresh(), fresh()] for _ in range(s.layers)]

    def remember(self, cache, i, k, v, first):
        """Keys and values of all slots so far, in new memory."""
        cache[i] = [torch.cat([old[:, :, :first], new], 2) for old, new in zip(cache[i], (k, v))]
        return cache[i]

    def causal(self, q, k, v):
        group = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        n, total = q.shape[2], k.shape[2]
        if n > 1:
            hidden = torch.ones(n, total, dtype=torch.bool, device=q.device).triu(total - n + 1)
            scores = scores.masked_fill(hidden, -math.inf)
        return torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype) @ v

    def attention(self, x, i, rows, cache):
        s, w = self.shape, self.w.layer[i]
        n = len(x)
        qkv = self.routed(rms_norm(x, w['norm_in']), rows,
                          lambda r, e: F.linear(r, w['qkv', e], w['qkv_bias', e]))
        q, k, v = (part.reshape(n, rows.n, -1, s.head_dim).transpose(1, 2) for part in qkv.split(
            [s.heads * s.head_dim, s.kv_heads * s.head_dim, s.kv_heads * s.head_dim], -1))
        cos, sin = self.cos[rows.position], self.sin[rows.position]
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = self.remember(cache, i, k, v, rows.first)
        mixed = self.causal(q, k, v).transpose(1, 2).reshape(n, rows.n, -1)
        return x + self.routed(mixed, rows, lambda r, e: F.linear(r, w['dense', e]))

    def ffn(self, x, i, rows):
        w = self.w.layer[i]
        return x + self.routed(rms_norm(x, w['norm_post']), rows,
                               lambda r, e: gated(r, w['gate_up', e], w['down', e]))

    def decoder_layer(self, x, i, rows, cache):
        return self.ffn(self.attention(x, i, rows, cache), i, rows)

    def embed(self, rows, batch, features):
        x = self.w.embed[rows.token].expand(batch, -1, -1)
        if len(rows.visual):
            x = x.clone()
            x[:, rows.visual] = features[rows.feature]
        return x

    def head(self, x):
        return F.linear(rms_norm(x, self.w.norm), self.w.lm_head)

    def step(self, rows, batch, features, cache, with_head=True):
        """Logits of the last row, [batch, vocab]."""
        x = self.embed(rows, batch, features)
        for i in range(self.shape.layers):
            x = self.decoder_layer(x, i, rows, cache)
        return self.head(x[:, -1]) if with_head else x


class Sdpa(Eager):
    """No masks that the host must read, no copies of the cache."""

    name = 'torch sdpa'

    def all_see_all(self, q, k, v):
        return attend(q, k, v)

    def routed(self, x, rows, function):
        if not len(rows.index[VISION]):
            return function(x, LANGUAGE)
        if not len(rows.index[LANGUAGE]):
            return function(x, VISION)
        parts = {e: function(x[:, rows.index[e]], e) for e in (LANGUAGE, VISION)}
        y = x.new_empty(*x.shape[:2], parts[VISION].shape[-1])
        for e, part in parts.items():
            y[:, rows.index[e]] = part
        return y

    def remember(self, cache, i, k, v, first):
        end = first + k.shape[2]
        cache[i][0][:, :, first:end] = k
        cache[i][1][:, :, first:end] = v
        return cache[i][0][:, :, :end], cache[i][1][:, :, :end]

    def causal(self, q, k, v):
        return attend(q, k, v, causal=True)


def attend(q, k, v, causal=False):
    """scaled_dot_product_attention where there is one. causal: the queries are the last slots."""
    n, total = q.shape[2], k.shape[2]
    causal = causal and n > 1
    group = q.shape[1] // k.shape[1]
    if not hasattr(F, 'scaled_dot_product_attention'):
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if causal:
            hidden = torch.ones(n, total, dtype=torch.bool, device=q.device).triu(total - n + 1)
            scores = scores.masked_fill(hidden, -math.inf)
        return torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype) @ v
    options = {}
    if group > 1:
        if tuple(int(p) for p in torch.__version__.split('.')[:2]) >= (2, 5):
            options['enable_gqa'] = True
        else:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    if causal and n == total:
        options['is_causal'] = True
    elif causal:
        options['attn_mask'] = lower_right(n, total, q.device)
    return F.scaled_dot_product_attention(q, k, v, **options)


def lower_right(n, total, device):
    """The mask of queries that are the last n slots: one that the fast kernels know, if there is."""
    try:
        from torch.nn.attention.bias import causal_lower_right
        return causal_lower_right(n, total)
    except ImportError:
        return torch.ones(n, total, dtype=torch.bool, device=device).tril(total - n)


class Compiled(Sdpa):
    """A compiled function serves all layers; Graph records the decode step."""

    name = 'torch compiled'

    def __init__(self, weights):
        super().__init__(weights)
        self.vit_block = torch.compile(self.vit_block, dynamic=False)
        self.pure_gated = torch.compile(gated, dynamic=False)
        self.pure_norm = torch.compile(rms_norm, dynamic=False)
        self.pure_rotate = torch.compile(rotate, dynamic=False)

    def attention(self, x, i, rows, cache):
        s, w = self.shape, self.w.layer[i]
        n = len(x)
        qkv = self.routed(self.pure_norm(x, w['norm_in']), rows,
                          lambda r, e: F.linear(r, w['qkv', e], w['qkv_bias', e]))
        q, k, v = (part.reshape(n, rows.n, -1, s.head_dim).transpose(1, 2) for part in qkv.split(
            [s.heads * s.head_dim, s.kv_heads * s.head_dim, s.kv_heads * s.head_dim], -1))
        cos, sin = self.cos[rows.position], self.sin[rows.position]
        q, k = self.pure_rotate(q, cos, sin), self.pure_rotate(k, cos, sin)
        k, v = self.remember(cache, i, k, v, rows.first)
        mixed = self.causal(q, k, v).transpose(1, 2).reshape(n, rows.n, -1)
        return x + self.routed(mixed, rows, lambda r, e: F.linear(r, w['dense', e]))

    def ffn(self, x, i, rows):
        w = self.w.layer[i]
        return x + self.routed(self.pure_norm(x, w['norm_post']), rows,
                               lambda r, e: self.pure_gated(r, w['gate_up', e], w['down', e]))


def graph_of(function):
    """function recorded as a CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


# ------------------------------------------------------------------ comparison

def check(weights, kinds, path, dtype_name):
    """Compares the logits of bench_device with each kind's; returns whether all are near."""
    s = weights.shape
    ours = torch.from_numpy(np.fromfile(path, dtype=np.float32)).reshape(CHECK_STEPS, s.vocab)
    good = True
    for kind in kinds:
        model = kind(weights)
        if s.has_adapter:
            features = model.adapter(model.tower(picture(s, 0, weights.device)[None]))[0]
        else:
            features = random_features(s, weights.device).to(weights.dtype)
        cache = model.new_cache(1, s.prompt + CHECK_STEPS)
        for i in range(CHECK_STEPS):
            first, n = (0, s.prompt) if i == 0 else (s.prompt + i - 1, 1)
            logits = model.step(Rows(s, first, n, True, weights.device), 1, features, cache)
            logits = logits[0].float().cpu()
            distance = float((logits - ours[i]).norm() / logits.norm())
            near = distance <= LIMIT[dtype_name] and bool(torch.isfinite(ours[i]).all())
            good = good and near
            print(f'{kind.name}, {dtype_name}, step {i}: relative L2 distance {distance:.2e}, '
                  f'limit {LIMIT[dtype_name]:.0e}{"" if near else ": TOO FAR"}')
    return good


# ------------------------------------------------------------------ measuring

class Bench:
    """Times the stages of one kind of model."""

    def __init__(self, model, seconds):
        self.model, self.seconds, self.shape = model, seconds, model.shape
        self.device = model.w.device

    def wait(self):
        if self.device.type == 'cuda':
            torch.cuda.synchronize()

    def measure(self, metric, size, function):
        """Median time as bench_device takes it; out of memory is a line, not an end."""
        try:
            for _ in range(2):
                function()
            self.wait()
            times, used = [], 0.0
            while len(times) < 60 and (len(times) < 3 or used < self.seconds):
                begin = time.perf_counter()
                function()
                self.wait()
                times.append(time.perf_counter() - begin)
                used += times[-1]
        except RuntimeError as e:
            if 'out of memory' not in str(e):
                raise
            print(f'{self.model.name}: {metric} {size}: out of memory', file=sys.stderr)
            return
        times = sorted(1e3 * t for t in times)
        print(json.dumps({'who': self.model.name, 'shape': self.shape.name, 'metric': metric,
                          'size': size, 'ms': round(times[len(times) // 2], 6),
                          'low': round(times[len(times) // 10], 6),
                          'high': round(times[-1 - len(times) // 10], 6),
                          'repeats': len(times)}), flush=True)

    def sizes(self, most):
        n = 1
        while n <= most:
            yield n
            n *= 2

    def vision(self):
        m = self.model
        for n in self.sizes(self.shape.max_images):
            rgb = torch.stack([picture(self.shape, i, self.device) for i in range(n)])
            self.measure('vit', n, lambda: m.tower(rgb))
            if self.shape.has_adapter:
                self.measure('vit and adapter', n, lambda: m.adapter(m.tower(rgb)))

    def prefill(self):
        m, s = self.model, self.shape
        features = random_features(s, self.device).to(m.w.dtype)
        for n in self.sizes(min(4, s.max_batch)):
            cache = m.new_cache(n, s.prompt, 'random')
            rows = Rows(s, 1, s.image_tokens - 1, True, self.device)
            self.measure('vision prefill', n, lambda: m.step(rows, n, features, cache, False))
        for n in s.prefill:
            cache = m.new_cache(1, n)
            rows = Rows(s, 0, n, False, self.device)
            self.measure('text prefill', n, lambda: m.step(rows, 1, features, cache).argmax(-1)
                         .tolist())

    def decode(self, as_graph):
        m, s = self.model, self.shape
        features = random_features(s, self.device).to(m.w.dtype)
        rows = Rows(s, s.context - 1, 1, True, self.device)
        for n in self.sizes(s.max_batch):
            try:
                cache = m.new_cache(n, s.context, 'random')
                drawn = torch.empty(n, dtype=torch.int64, device=self.device)

                def step():
                    drawn.copy_(m.step(rows, n, features, cache).argmax(-1))
                run = graph_of(step) if as_graph else step
            except RuntimeError as e:
                if 'out of memory' not in str(e):
                    raise
                print(f'{m.name}: decode {n}: out of memory', file=sys.stderr)
                return

            def ended():
                run()
                return drawn.tolist()
            self.measure('decode', n, ended)
            del cache, run, step

    def first_token(self):
        m, s = self.model, self.shape
        if not s.has_adapter:
            return
        rgb = picture(s, 0, self.device)[None]
        rows = Rows(s, 0, s.prompt, True, self.device)
        cache = m.new_cache(1, s.prompt)
        self.measure('picture to first token', 1, lambda: m.step(
            rows, 1, m.adapter(m.tower(rgb))[0], cache).argmax(-1).tolist())

    def all(self):
        self.vision()
        self.prefill()
        self.decode(isinstance(self.model, Compiled))
        self.first_token()


def main():
    parser = argparse.ArgumentParser(description='The benchmark model in PyTorch.')
    parser.add_argument('--shape', choices=sorted(SHAPES), default='v1')
    parser.add_argument('--dtype', choices=('bf16', 'f32'), default='bf16')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--seconds', type=float, default=0.7, help='for each metric')
    parser.add_argument('--check', metavar='FILE', help='compare logits instead of timing')
    args = parser.parse_args()

    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    device = torch.device(args.device)
    dtype = {'bf16': torch.bfloat16, 'f32': torch.float32}[args.dtype]
    weights = Weights(SHAPES[args.shape], dtype, device)
    kinds = [Eager, Sdpa]
    if hasattr(torch, 'compile') and device.type == 'cuda':
        kinds.append(Compiled)
    if args.check:
        sys.exit(0 if check(weights, kinds, args.check, args.dtype) else 1)
    print(json.dumps({'who': 'torch', 'version': torch.__version__, 'device': (
        torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu')}), flush=True)
    for kind in kinds:
        Bench(kind(weights), args.seconds).all()


if __name__ == '__main__':
    main()
