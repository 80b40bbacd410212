"""The CogVLM architecture at demo size, in PyTorch.

Module names follow the published checkpoints, so `state_dict()` has exactly
the tensor names of a CogVLM file.  Only what training and evaluation need is
here: a packed forward pass for training (many question-and-answer segments
share one picture) and batched greedy decoding with a key/value cache.

Token order inside the decoder is [boi, patches, BOS, eoi, text]: the tokens of
the vision expert come first, so that routing is a slice.  Positions and masks
are explicit, therefore the result equals that of the sequence order
BOS, boi, patches, eoi, text.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

BOS, EOS = 1, 2
FIRST_TEXT_POSITION = 4

CONFIG = {
    "architectures": ["CogVLMForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_cogvlm.CogVLMConfig",
        "AutoModelForCausalLM": "modeling_cogvlm.CogVLMForCausalLM",
    },
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "pad_token_id": 0,
    "hidden_act": "silu",
    "hidden_size": 192,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "max_position_embeddings": 2048,
    "num_attention_heads": 6,
    "num_hidden_layers": 4,
    "rms_norm_eps": 1e-05,
    "template_version": "chat",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vision_config": {
        "dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_size": 192,
        "image_size": 112,
        "in_channels": 3,
        "intermediate_size": 768,
        "layer_norm_eps": 1e-06,
        "num_heads": 6,
        "num_hidden_layers": 6,
        "num_positions": 65,
        "patch_size": 14,
    },
    "vocab_size": 1024,
}


def normalise_pixels(pixels):
    """uint8 [B, H, W, 3] to normalised float32 [B, 3, H, W]."""
    x = pixels.permute(0, 3, 1, 2).float().div_(255.0)
    mean = torch.tensor(CLIP_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(CLIP_STD).view(1, 3, 1, 1)
    return x.sub_(mean).div_(std)


class _MixedLinear(torch.autograd.Function):
    """x W^T with bfloat16 operands; everything around it stays float32.

    Twice as fast as float32 on processors with bfloat16 instructions.
    """

    @staticmethod
    def forward(ctx, x, weight):
        shape = x.shape
        x = x.reshape(-1, shape[-1]).bfloat16()
        weight = weight.bfloat16()
        ctx.save_for_backward(x, weight)
        return torch.mm(x, weight.t()).float().view(*shape[:-1], -1)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        shape = grad.shape
        grad = grad.reshape(-1, shape[-1]).bfloat16()
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.mm(grad, weight).float().view(*shape[:-1], -1)
        if ctx.needs_input_grad[1]:
            grad_weight = torch.mm(grad.t(), x).float()
        return grad_x, grad_weight


class _MixedSwiGLU(torch.autograd.Function):
    """(silu(x G^T) * x U^T) D^T in bfloat16, for float32 inputs and outputs."""

    @staticmethod
    def forward(ctx, x, gate, up, down):
        shape = x.shape
        x = x.reshape(-1, shape[-1]).bfloat16()
        gate, up, down = gate.bfloat16(), up.bfloat16(), down.bfloat16()
        g, u = torch.mm(x, gate.t()), torch.mm(x, up.t())
        ctx.save_for_backward(x, gate, up, down, g, u)
        return torch.mm(F.silu(g).mul_(u), down.t()).float().view(*shape[:-1], -1)

    @staticmethod
    def backward(ctx, grad):
        x, gate, up, down, g, u = ctx.saved_tensors
        shape = grad.shape
        grad = grad.reshape(-1, shape[-1]).bfloat16()
        active = F.silu(g)
        inner = torch.mm(grad, down)
        grad_down = torch.mm(grad.t(), active * u).float()
        grad_g = torch.ops.aten.silu_backward(inner * u, g)
        grad_u = active.mul_(inner)
        grad_x = torch.mm(grad_g, gate).add_(torch.mm(grad_u, up)).float()
        return (grad_x.view(*shape[:-1], -1), torch.mm(grad_g.t(), x).float(),
                torch.mm(grad_u.t(), x).float(), grad_down)


def swiglu(x, gate, up, down):
    """The gated MLP of the decoder and of the adapter; the arguments are `Linear`."""
    if Linear.mixed:
        return _MixedSwiGLU.apply(x, gate.weight, up.weight, down.weight)
    return down(F.silu(gate(x)) * up(x))


def linear(x, weight, bias=None):
    if not Linear.mixed:
        return F.linear(x, weight, bias)
    x = _MixedLinear.apply(x, weight)
    return x if bias is None else x + bias


class Linear(nn.Linear):
    mixed = False          # set while training; evaluation computes in float32

    def forward(self, x):
        return linear(x, self.weight, self.bias)


def split_heads(x, heads):
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)


def merge_heads(x):
    batch, heads, length, dim = x.shape
    return x.transpose(1, 2).reshape(batch, length, heads * dim)


class _MixedAttention(torch.autograd.Function):
    """softmax(q k^T + mask) v in bfloat16, for float32 inputs and outputs.

    The mask is bfloat16 and the same for all heads.
    """

    @staticmethod
    def forward(ctx, q, k, v, mask):
        ctx.shapes = q.shape, k.shape
        ctx.scale = q.shape[-1] ** -0.5
        q, k, v = (t.reshape(-1, *t.shape[2:]).bfloat16() for t in (q * ctx.scale, k, v))
        scores = torch.bmm(q, k.transpose(1, 2))
        if mask is not None:
            scores.view(*ctx.shapes[0][:2], *scores.shape[1:]).add_(mask)
        weights = torch.softmax(scores, -1)
        ctx.save_for_backward(q, k, v, weights)
        return torch.bmm(weights, v).float().view(ctx.shapes[0])

    @staticmethod
    def backward(ctx, grad):
        q, k, v, weights = ctx.saved_tensors
        grad = grad.reshape(q.shape).bfloat16()
        grad_v = torch.bmm(weights.transpose(1, 2), grad)
        grad_scores = torch._softmax_backward_data(
            torch.bmm(grad, v.transpose(1, 2)), weights, -1, weights.dtype)
        grad_q = torch.bmm(grad_scores, k).float().mul_(ctx.scale).view(ctx.shapes[0])
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q).float().view(ctx.shapes[1])
        return grad_q, grad_k, grad_v.float().view(ctx.shapes[1]), None


def attend(q, k, v, mask=None):
    """Scaled dot-product attention; `mask` is added to the scores."""
    if Linear.mixed:
        return _MixedAttention.apply(q, k, v, mask)
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    if mask is not None:
        scores = scores + mask
    return torch.matmul(torch.softmax(scores, -1), v)


# ------------------------------------------------------------ vision tower


class PatchEmbedding(nn.Module):
    def __init__(self, c):
        super().__init__()
        width = c["hidden_size"]
        self.patch = c["patch_size"]
        self.proj = nn.Conv2d(c["in_channels"], width, self.patch, self.patch)
        self.cls_embedding = nn.Parameter(torch.zeros(1, width))
        self.position_embedding = nn.Embedding(c["num_positions"], width)

    def forward(self, images):
        # the convolution as one matrix product over flattened patches
        batch, channels, height, width = images.shape
        p = self.patch
        x = images.view(batch, channels, height // p, p, width // p, p)
        x = x.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * p * p)
        x = linear(x, self.proj.weight.flatten(1), self.proj.bias)
        x = torch.cat([self.cls_embedding.expand(batch, 1, -1), x], 1)
        return x + self.position_embedding.weight


class VisionAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c["num_heads"]
        self.query_key_value = Linear(c["hidden_size"], 3 * c["hidden_size"])
        self.dense = Linear(c["hidden_size"], c["hidden_size"])

    def forward(self, x):
        q, k, v = (split_heads(t, self.heads) for t in self.query_key_value(x).chunk(3, -1))
        return self.dense(merge_heads(attend(q, k, v)))


class VisionMLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc1 = Linear(c["hidden_size"], c["intermediate_size"])
        self.fc2 = Linear(c["intermediate_size"], c["hidden_size"])

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VisionLayer(nn.Module):
    """EVA block: the norms act on the branch outputs, before the addition."""

    def __init__(self, c):
        super().__init__()
        self.attention = VisionAttention(c)
        self.mlp = VisionMLP(c)
        self.input_layernorm = nn.LayerNorm(c["hidden_size"], c["layer_norm_eps"])
        self.post_attention_layernorm = nn.LayerNorm(c["hidden_size"], c["layer_norm_eps"])

    def forward(self, x):
        x = x + self.input_layernorm(self.attention(x))
        return x + self.post_attention_layernorm(self.mlp(x))


class VisionTransformer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(c) for _ in range(c["num_hidden_layers"]))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class GLU(nn.Module):
    """The adapter from the tower to the decoder."""

    def __init__(self, c):
        super().__init__()
        width, inner = c["hidden_size"], c["intermediate_size"]
        self.linear_proj = Linear(c["vision_config"]["hidden_size"], width, bias=False)
        self.norm1 = nn.LayerNorm(width)
        self.gate_proj = Linear(width, inner, bias=False)
        self.dense_h_to_4h = Linear(width, inner, bias=False)
        self.dense_4h_to_h = Linear(inner, width, bias=False)

    def forward(self, x):
        x = F.gelu(self.norm1(self.linear_proj(x)))
        return swiglu(x, self.gate_proj, self.dense_h_to_4h, self.dense_4h_to_h)


class VisionModel(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.patch_embedding = PatchEmbedding(c["vision_config"])
        self.transformer = VisionTransformer(c["vision_config"])
        self.linear_proj = GLU(c)
        self.boi = nn.Parameter(torch.zeros(1, 1, c["hidden_size"]))
        self.eoi = nn.Parameter(torch.zeros(1, 1, c["hidden_size"]))

    def tower(self, images):
        """Patch features before the adapter (cls dropped)."""
        return self.transformer(self.patch_embedding(images))[:, 1:]


# ----------------------------------------------------------------- decoder


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class RotaryEmbedding(nn.Module):
    def __init__(self, dim):
        super().__init__()
        inv_freq = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
        self.register_buffer("inv_freq", inv_freq)


def rotary_table(inv_freq, positions):
    """cos and sin for `positions`, shaped to broadcast over heads."""
    angle = positions.float().unsqueeze(-1) * inv_freq
    if angle.dim() == 3:
        angle = angle.unsqueeze(1)
    return torch.cat([angle, angle], -1).cos(), angle.sin()


class _Rotate(torch.autograd.Function):
    """Half-rotated rotary embedding with few temporaries."""

    @staticmethod
    def turn(x, cos, sin):
        half = x.shape[-1] // 2
        out = x * cos
        out[..., :half].addcmul_(x[..., half:], sin, value=-1)
        out[..., half:].addcmul_(x[..., :half], sin)
        return out

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return _Rotate.turn(x, cos, sin)

    @staticmethod
    def backward(ctx, grad):
        cos, sin = ctx.saved_tensors
        return _Rotate.turn(grad, cos, -sin), None, None


def rotate(x, table):
    return _Rotate.apply(x, *table)


class SwiGLU(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.gate_proj = Linear(width, inner, bias=False)
        self.up_proj = Linear(width, inner, bias=False)
        self.down_proj = Linear(inner, width, bias=False)

    def forward(self, x):
        return swiglu(x, self.gate_proj, self.up_proj, self.down_proj)


class ExpertMLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.language_mlp = SwiGLU(c["hidden_size"], c["intermediate_size"])
        self.vision_mlp = SwiGLU(c["hidden_size"], c["intermediate_size"])


class ExpertAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, self.heads = c["hidden_size"], c["num_attention_heads"]
        self.rotary_emb = RotaryEmbedding(width // self.heads)
        self.vision_expert_query_key_value = Linear(width, 3 * width, bias=False)
        self.vision_expert_dense = Linear(width, width, bias=False)
        self.language_expert_query_key_value = Linear(width, 3 * width, bias=False)
        self.language_expert_dense = Linear(width, width, bias=False)

    def project(self, expert, x, table):
        """Rotated q and k, and v, of one expert's tokens."""
        weight = getattr(self, f"{expert}_expert_query_key_value")
        q, k, v = (split_heads(t, self.heads) for t in weight(x).chunk(3, -1))
        return rotate(q, table), rotate(k, table), v


class DecoderLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn = ExpertAttention(c)
        self.mlp = ExpertMLP(c)
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])

    def language_output(self, x, context):
        x = x + self.self_attn.language_expert_dense(merge_heads(context))
        return x + self.mlp.language_mlp(self.post_attention_layernorm(x))

    def vision_output(self, x, context):
        x = x + self.self_attn.vision_expert_dense(merge_heads(context))
        return x + self.mlp.vision_mlp(self.post_attention_layernorm(x))

    def forward(self, vision, language, tables, masks, last):
        """One layer over both experts' tokens.

        Returns the new tokens and the keys and values in the order
        vision, language.  The vision tokens of the last layer are not needed.
        """
        attn = self.self_attn
        vq, vk, vv = attn.project("vision", self.input_layernorm(vision), tables[0])
        lq, lk, lv = attn.project("language", self.input_layernorm(language), tables[1])
        k, v = torch.cat([vk, lk], 2), torch.cat([vv, lv], 2)
        language = self.language_output(language, attend(lq, k, v, masks[1]))
        if not last:
            seen = vision.shape[1] + 1                      # vision tokens and BOS
            context = attend(vq, k[:, :, :seen], v[:, :, :seen], masks[0])
            vision = self.vision_output(vision, context)
        return vision, language, (k, v)


class CogVLMModel(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(DecoderLayer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.vision = VisionModel(c)


class CogVLM(nn.Module):
    def __init__(self, config=CONFIG):
        super().__init__()
        self.config = config
        self.model = CogVLMModel(config)
        self.lm_head = Linear(config["hidden_size"], config["vocab_size"], bias=False)
        self.apply(self._initialise)
        for name, p in self.named_parameters():
            if name.endswith("position_embedding.weight"):
                nn.init.normal_(p, std=0.3)
            elif name.endswith(("cls_embedding", "boi", "eoi")):
                nn.init.normal_(p, std=0.1)
        # residual branches of the decoder start small
        depth = 2 * config["num_hidden_layers"]
        for name, p in self.named_parameters():
            if name.endswith(("expert_dense.weight", "mlp.down_proj.weight")):
                p.data.mul_(depth ** -0.5)

    @staticmethod
    def _initialise(module):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=fan_in ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)

    def image_features(self, images):
        vision = self.model.vision
        return vision.linear_proj(vision.tower(images))

    def decode(self, features, tokens, positions, text_mask):
        """Hidden states of the language tokens, before the final norm.

        features   [B, P, D] adapter output
        tokens     [B, T] text tokens
        positions  [B, T] their rotary positions
        text_mask  [B, T, T] additive mask among the text tokens
        Returns ([B, 2 + T, D] for BOS, eoi, text; keys and values per layer).
        """
        m = self.model
        batch, patches, _ = features.shape
        bos = m.embed_tokens.weight[BOS].expand(batch, 1, -1)
        vision = torch.cat([m.vision.boi.expand(batch, 1, -1), features], 1)
        language = torch.cat([bos, m.vision.eoi.expand(batch, 1, -1), m.embed_tokens(tokens)], 1)

        inv_freq = m.layers[0].self_attn.rotary_emb.inv_freq
        vision_positions = torch.full((patches + 1,), 2)
        vision_positions[0] = 1
        head = torch.tensor([0, 3]).expand(batch, 2)
        tables = (rotary_table(inv_freq, vision_positions),
                  rotary_table(inv_freq, torch.cat([head, positions], 1)))
        masks = (vision_mask(patches), language_mask(patches, text_mask))
        if Linear.mixed:
            masks = tuple(mask.bfloat16() for mask in masks)

        cache = []
        last = len(m.layers) - 1
        for index, layer in enumerate(m.layers):
            vision, language, kv = layer(vision, language, tables, masks, index == last)
            cache.append(kv)
        return language, cache

    def logits(self, hidden):
        return self.lm_head(self.model.norm(hidden))

    @torch.no_grad()
    def greedy(self, features, prompts, limit=96):
        """Greedy answers for prompts (lists of token ids), one row of features each."""
        batch, patches, _ = features.shape
        longest = max(1, max(len(p) for p in prompts))
        tokens = torch.zeros(batch, longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, :len(prompt)] = torch.tensor(prompt, dtype=torch.long)
        lengths = torch.tensor([len(p) for p in prompts])
        positions = FIRST_TEXT_POSITION + torch.arange(longest).expand(batch, longest)
        causal = torch.full((longest, longest), -1e9).triu(1)
        hidden, cache = self.decode(features, tokens, positions, causal.expand(batch, -1, -1))
        # language tokens are BOS, eoi, text: an empty prompt ends at eoi
        current = self.logits(hidden[torch.arange(batch), 1 + lengths]).argmax(-1)

        prefix = torch.zeros(batch, patches + 3)
        padding = torch.where(torch.arange(longest) < lengths[:, None], 0.0, -1e9)
        mask = torch.cat([prefix, padding], 1)[:, None, None]
        inv_freq = self.model.layers[0].self_attn.rotary_emb.inv_freq
        answers = [[] for _ in prompts]
        done = torch.zeros(batch, dtype=torch.bool)
        for step in range(limit):
            done |= current == EOS
            for row in torch.nonzero(~done).flatten().tolist():
                answers[row].append(int(current[row]))
            if bool(done.all()):
                break
            mask = F.pad(mask, (0, 1))
            table = rotary_table(inv_freq, (FIRST_TEXT_POSITION + lengths + step)[:, None])
            x = self.model.embed_tokens(current)[:, None]
            for index, layer in enumerate(self.model.layers):
                q, k, v = layer.self_attn.project("language", layer.input_layernorm(x), table)
                k = torch.cat([cache[index][0], k], 2)
                v = torch.cat([cache[index][1], v], 2)
                cache[index] = (k, v)
                x = layer.language_output(x, attend(q, k, v, mask))
            current = self.logits(x[:, 0]).argmax(-1)
        return answers


def vision_mask(patches):
    """Mask of [boi, patches] over the keys [boi, patches, BOS]."""
    mask = torch.full((patches + 1, patches + 2), -1e9).triu(1)
    mask[:, -1] = 0
    return mask


def language_mask(patches, text_mask):
    """Mask of [BOS, eoi, text] over the keys [boi, patches, BOS, eoi, text]."""
    batch, length, _ = text_mask.shape
    vision = patches + 1
    mask = torch.zeros(batch, length + 2, vision + length + 2)
    mask[:, 0] = -1e9
    mask[:, 0, vision] = 0
    mask[:, 1, vision + 2:] = -1e9
    mask[:, 2:, vision + 2:] = text_mask
    return mask[:, None]


# ------------------------------------------------- auxiliary heads (stage 1)


class PatchHeads(nn.Module):
    """Linear read-outs of the adapter's output, dropped after training."""

    def __init__(self, width, classes, colours, backgrounds, max_objects):
        super().__init__()
        self.sizes = {
            "kind": classes + 1,             # 0: background
            "colour": colours + 1,           # 0: none
            "background": backgrounds,
            "order": max_objects + 1,        # place in reading order, 0: background
            "count": max_objects,            # objects in the picture - 1
            "alike": max_objects,            # objects that look like this one - 1
            "digits": 80,                    # 4 coordinates x 2 leading digits x 10
            "box": 4,
        }
        self.out = Linear(width, sum(self.sizes.values()))

    def forward(self, features):
        parts = self.out(features).split(list(self.sizes.values()), -1)
        return dict(zip(self.sizes, parts))

    def rows(self, name):
        """The weight rows of one read-out."""
        start = 0
        for key, size in self.sizes.items():
            if key == name:
                return self.out.weight[start:start + size]
            start += size
        raise KeyError(name)


def parameter_count(model):
    return sum(math.prod(p.shape) for p in model.parameters())
