"""Start values that let words find the patches they name.

Question answering needs one step that is slow to learn from text: the token
'dog' has to attend to the patches that show a dog.  After the vision tower is
trained this step can be written down.  Three heads of the first decoder layer
are set so that

* their keys are discriminant coordinates of the patch's class (heads 0 and 1)
  or colour (head 2), and their queries give a noun or colour word the
  coordinates of what it names (a least-squares fit over the vocabulary);
* the values of heads 0 and 1 carry the part of the features that tells the box.

Only head dimensions that the rotary embedding hardly turns are used.  All of
it is ordinary weights, which training then goes on to change.
"""

import torch

from demo_scenes import CLASS_NAMES, CLASS_PLURALS, COLOURS

_MATCH_GAP = 8.0         # score of the right patches above the average
_VALUE_SCALE = 0.12
_RIDGE = 1.0


def discriminants(features, labels, size):
    """Linear discriminant analysis: axes [size, D] and the classes on them."""
    classes = int(labels.max()) + 1
    overall = features.mean(0)
    means = torch.stack([features[labels == c].mean(0) if (labels == c).any() else overall
                         for c in range(classes)])
    spread = features - means[labels]
    within = spread.t() @ spread / len(features)
    within += torch.eye(within.shape[0], dtype=within.dtype) * within.diagonal().mean() * 0.05
    root = torch.linalg.cholesky(within)
    centred = means - means.mean(0)
    white = torch.linalg.solve_triangular(root, centred.t(), upper=False)
    basis = torch.linalg.svd(white, full_matrices=False)[0][:, :size]
    axes = torch.linalg.solve_triangular(root.t(), basis, upper=True).t()
    return axes, centred @ axes.t()


def fit_queries(embeddings, tokens, goals):
    """Map word vectors to `goals` for `tokens`, and other words near zero."""
    wanted = embeddings.new_zeros(len(embeddings), goals.shape[1])
    wanted[tokens] = goals
    weight = embeddings.new_full((len(embeddings), 1), 0.3)
    weight[tokens] = 3.0
    x = embeddings * weight
    gram = x.t() @ x + torch.eye(x.shape[1], dtype=x.dtype) * _RIDGE
    return torch.linalg.solve(gram, x.t() @ (wanted * weight)).t()


@torch.no_grad()
def start_matching_heads(model, heads, words, features, targets):
    """Set heads 0 to 2 of the first layer from `features` [B, P, D] and patch targets."""
    layer = model.model.layers[0]
    attention = layer.self_attn
    width = features.shape[-1]
    dim = width // attention.heads
    half = dim // 2
    still = [*range(half // 2, half), *range(half + half // 2, dim)]   # slow rotary pairs

    x = layer.input_layernorm(features)[targets["known"]].double()
    embeddings = layer.input_layernorm(model.model.embed_tokens.weight).double()
    kinds, colours = (targets[n][targets["known"]] for n in ("kind", "colour"))
    kind_axes, kind_codes = discriminants(x, kinds, 2 * len(still))
    colour_axes, colour_codes = discriminants(x, colours, len(COLOURS))
    nouns = [words.single(n) for n in CLASS_NAMES + CLASS_PLURALS]
    adjectives = [words.single(n) for n in COLOURS]

    digits = heads.rows("digits").view(8, 10, width)
    digits = (digits - digits.mean(1, keepdim=True)).reshape(80, width)
    box_basis = torch.linalg.svd(digits, full_matrices=False)[2]

    query = attention.language_expert_query_key_value.weight
    key_value = attention.vision_expert_query_key_value.weight
    plans = [(kind_axes[0::2], kind_codes[1:, 0::2], kinds, nouns),
             (kind_axes[1::2], kind_codes[1:, 1::2], kinds, nouns),
             (colour_axes, colour_codes[1:], colours, adjectives)]
    for head, (axes, codes, labels, tokens) in enumerate(plans):
        goals = codes.repeat(len(tokens) // len(codes), 1)
        queries = fit_queries(embeddings, tokens, goals)
        shown = labels > 0
        scores = (queries @ embeddings[tokens[:len(codes)]].t()).t() @ axes @ x[shown].t()
        scores /= dim ** 0.5
        own = scores[labels[shown] - 1, torch.arange(int(shown.sum()))]
        scale = (_MATCH_GAP / float((own - scores.mean(0)).mean())) ** 0.5
        rows = slice(dim * head, dim * (head + 1))
        keys = slice(width + dim * head, width + dim * (head + 1))
        places = still[:len(axes)]
        query[rows] = 0
        query[[dim * head + d for d in places]] = (queries * scale).float()
        key_value[keys] = 0
        key_value[[width + dim * head + d for d in places]] = (axes * scale).float()
        if labels is kinds:
            basis = box_basis[rows]
            key_value[2 * width + dim * head:2 * width + dim * (head + 1)] = basis
            attention.language_expert_dense.weight[:, rows] = _VALUE_SCALE * basis.t()
