#!/usr/bin/env python3
"""Make the golden fixtures: tiny checkpoints, pictures, cases and expected values.

Everything follows from the seeds below.  Without options the fixtures are
written to tests/golden/fixtures.  With --check they are made again in a
temporary folder, with the stored queries, and compared with the stored ones; the
exit code is 77 where PyTorch or another needed package is missing.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile

try:
    import numpy as np
    import torch
    from PIL import Image, ImageDraw
    import make_checkpoint
    import oracle
    import safetensors_io
except ImportError as missing:
    print(f"make_golden: skipped, {missing}", file=sys.stderr)
    sys.exit(77)

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "..", "tests", "golden", "fixtures")
ALL_ROWS_UP_TO = 300        # stages with more rows are stored in part
CLEAR = {"f32": 1e-3, "bf16": 0.2}  # least lead of a greedy token, 10 times the noise or more
CANDIDATES = 150            # words tried for a query
LEAST_TOKENS = 12           # of the answer to a query that is searched for
TOLERANCE = 1e-5            # of --check, relative to the largest value of a tensor

# A place {} in a query is filled with the first word for which the greedy answer is
# good, see `Search.suits`, or else clear for longest.
QUESTIONS = ["Describe the {} in this image.", "What colour is the {}?",
             "How many {}s are there?",
             "Where is the red {}? answer in [[x0,y0,x1,y1]] format.",
             "Is the {} left of the tree", "what is the {} in [[071,536,339,804]]?"]
TURNS = [["What is this?", "A blue bird on a branch."]]
LONG_TEXT = ("The quick brown fox, 1234567890 jumps over 17 lazy dogs; then it rests beside the "
             "old house on the hill. ") * 4


def request(picture, query, template=None, history=(), tokens=16, expect=False, end="clear"):
    """One case; `template` None means the checkpoint's own.

    `end` is what the answer must end with: any `clear` token, the `stop` id, or an
    exact `tie` in bf16 that the lowest id wins.
    """
    return {"picture": picture, "query": query, "template": template,
            "history": [list(turn) for turn in history], "tokens": tokens, "expect": expect,
            "end": end}


def wrapped(query, **options):
    """A text-only request in the wrapper for plain conversation."""
    return request(None, oracle.VICUNA_WRAPPER.format(query), "base", **options)


# Pictures: (width, height, mode).  The mode is Pillow's, or `RGB-rotated` for an
# RGB file with an orientation tag, or `P-transparent`.  A fourth entry chooses another
# random content.
# `bf16_limit` is the relative distance allowed after any block and for the logits.

CHECKPOINTS = {
    "hd64-bf16": {
        "options": "--hidden 128 --heads 2 --inter 72 --layers 2 --vocab 448 --vision-hidden 64 "
                   "--vision-heads 1 --vision-inter 128 --vision-layers 2 --image-size 70 "
                   "--eos-scale 0.75",
        "pictures": [(93, 61, "RGB"), (40, 75, "P"), (70, 70, "RGBA"), (33, 20, "L", 11)],
        "cases": [request(0, QUESTIONS[0], expect=True), request(1, QUESTIONS[1], "vqa"),
                  request(2, QUESTIONS[2], "base", expect=True), request(3, "", "base"),
                  request(0, QUESTIONS[3], "chat", TURNS, tokens=20),
                  request(1, "Où est  l'œuf?\n🦙 {}"),
                  request(None, "Hello, {}!", "chat", expect=True),
                  wrapped("What is a {}?")]},
    "hd80-f16-sharded": {
        "options": "--hidden 160 --heads 2 --inter 77 --layers 2 --vocab 400 --vision-hidden 112 "
                   "--vision-heads 1 --vision-inter 100 --vision-layers 1 --image-size 112 "
                   "--dtype f16 --shards 3 --template vqa",
        "pictures": [(121, 87, "RGB"), (57, 130, "RGB"), (64, 50, "LA")],
        "cases": [request(0, QUESTIONS[1], expect=True), request(1, QUESTIONS[0], "chat"),
                  request(2, QUESTIONS[3], "base"), request(1, QUESTIONS[2], "vqa", TURNS),
                  request(None, "What is 12 + 30 {}s?", "vqa", expect=True),
                  request(None, "What is a {}?", "chat", end="stop"),
                  request(None, QUESTIONS[3], end="tie")]},
    "hd112-bf16": {
        "options": "--hidden 112 --heads 1 --inter 100 --layers 2 --vocab 400 --vision-hidden 80 "
                   "--vision-heads 1 --vision-inter 64 --vision-layers 2 --image-size 224 "
                   "--template base",
        "pictures": [(150, 101, "RGB"), (37, 61, "RGB"), (240, 230, "P")],
        "cases": [request(0, QUESTIONS[3], expect=True), request(2, ""),
                  request(2, QUESTIONS[0], "chat"), request(0, QUESTIONS[4], "vqa"),
                  request(1, QUESTIONS[1], "base", TURNS),
                  request(None, "Once upon a time a {}", expect=True)]},
    "hd128-f32": {
        "options": "--hidden 128 --heads 1 --inter 99 --layers 1 --vocab 400 --vision-hidden 66 "
                   "--vision-heads 2 --vision-inter 70 --vision-layers 2 --image-size 64 "
                   "--patch 16 --dtype f32 --template base",
        "pictures": [(64, 49, "RGB"), (63, 64, "RGB-rotated"), (20, 90, "1")],
        "cases": [request(0, QUESTIONS[0], "chat", expect=True),
                  request(1, QUESTIONS[5], expect=True),
                  request(2, QUESTIONS[1], "vqa"), request(2, "", tokens=24),
                  request(None, "Hi {}", "chat", TURNS, expect=True)]},
    "hd20-odd-bf16": {
        "options": "--hidden 100 --heads 5 --inter 33 --layers 2 --vocab 1031 --text-vocab 1024 "
                   "--vision-hidden 45 --vision-heads 3 --vision-inter 50 --vision-layers 3 "
                   "--image-size 48 --patch 16 --inv-freq-dtype f32 --rope-theta 700",
        "pictures": [(1, 1, "RGB"), (47, 31, "RGB"), (48, 17, "P-transparent")],
        "cases": [request(1, QUESTIONS[0], expect=True), request(0, QUESTIONS[1]),
                  request(2, QUESTIONS[2], "vqa"), request(1, QUESTIONS[4], "chat", TURNS * 2),
                  request(None, QUESTIONS[0], expect=True),
                  request(None, QUESTIONS[1], end="tie")]},
    "deep-bf16": {
        "options": "--hidden 48 --heads 2 --inter 40 --layers 10 --vocab 448 --vision-hidden 36 "
                   "--vision-heads 3 --vision-inter 48 --vision-layers 9 --image-size 40 "
                   "--patch 8 --shards 2",
        "bf16_limit": 1.5e-2,
        "pictures": [(53, 40, "RGB"), (80, 81, "RGB"), (40, 40, "L")],
        "cases": [request(0, QUESTIONS[0], expect=True),
                  request(1, LONG_TEXT + "{}", expect=True),
                  request(2, QUESTIONS[5], "vqa"), request(1, "And the {}?", "chat", TURNS),
                  request(None, "Hello {}", "chat"),
                  request(None, LONG_TEXT * 2 + "{}", "base", expect=True)]},
    "small-values-f32": {
        "options": "--hidden 64 --heads 2 --inter 80 --layers 2 --vocab 400 --vision-hidden 48 "
                   "--vision-heads 4 --vision-inter 64 --vision-layers 2 --image-size 56 "
                   "--dtype f32 --stream-scale 0.004 --vision-branch 0.01 "
                   "--projection-gain 0.004 --gelu-shift -2.5 --fc1-gain 0.4 --tower-gain 0.5 "
                   "--adapter-shift -2.5 --adapter-gain 30 --branch-gain 0.4",
        "bf16_limit": 2e-2,
        "pictures": [(56, 30, "RGB", 2), (29, 71, "RGB")],
        "cases": [request(0, QUESTIONS[0], expect=True), request(1, QUESTIONS[1], "vqa"),
                  request(0, "", "base"),
                  request(None, "Hello, {}!", expect=True),
                  request(None, QUESTIONS[1], end="tie")]},
    "rounding-bf16": {
        "options": "--hidden 128 --heads 2 --inter 48 --layers 1 --vocab 400 "
                   "--vision-hidden 32 --vision-heads 2 --vision-inter 32 --vision-layers 1 "
                   "--image-size 28 --common-mode 14",
        "bf16_limit": 2e-2,
        "pictures": [(28, 28, "RGB"), (31, 19, "RGB")],
        "cases": [request(0, QUESTIONS[0], expect=True), request(1, QUESTIONS[1], "vqa"),
                  request(0, QUESTIONS[2], "base"),
                  request(None, "Hello, {}!", expect=True, tokens=24),
                  wrapped("What is a {}?", tokens=24)]},
    "grid35-bf16": {
        "options": "--hidden 64 --heads 1 --inter 72 --layers 1 --vocab 400 --vision-hidden 32 "
                   "--vision-heads 1 --vision-inter 40 --vision-layers 1 --image-size 490",
        "pictures": [(90, 120, "RGB"), (61, 47, "RGB")],
        "cases": [request(0, QUESTIONS[0], expect=True),
                  request(1, QUESTIONS[3], "base", tokens=12),
                  request(1, "And the {}?", "chat", TURNS, tokens=12),
                  request(None, "Hello {}", expect=True)]},
}


# ------------------------------------------------------------------ pictures

def draw_picture(width, height, mode, rng):
    """A structured picture: gradient, shapes and noise, in a given file mode."""
    y, x = np.mgrid[0:height, 0:width]
    corner = rng.uniform(0, 255, (4, 3))
    u, v = (x / max(width - 1, 1))[..., None], (y / max(height - 1, 1))[..., None]
    top, bottom = (corner[k] * (1 - u) + corner[k + 1] * u for k in (0, 2))
    base = top * (1 - v) + bottom * v
    picture = Image.fromarray(base.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for k in range(6):
        x0, y0 = int(rng.integers(-5, width)), int(rng.integers(-5, height))
        x1, y1 = (int(rng.integers(2, side + 2)) // 2 for side in (width, height))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        (draw.rectangle if k % 2 else draw.ellipse)([x0, y0, x0 + x1, y0 + y1], fill=colour)
    noise = rng.normal(0, 3, (height, width, 3))
    picture = Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        alpha = Image.fromarray(((x * 7 + y * 5) % 256).astype(np.uint8))
        picture = picture.convert(mode)
        picture.putalpha(alpha)
    elif mode in ("P", "P-transparent"):
        picture = picture.quantize(60)
    elif mode in ("L", "1"):
        picture = picture.convert(mode)
    return picture


def save_picture(picture, path, mode):
    """Save as PNG; some modes carry a transparent palette entry or an orientation tag."""
    options = {}
    if mode == "P-transparent":
        options["transparency"] = 7
    if mode == "RGB-rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    picture.save(path, optimize=True, **options)


# ------------------------------------------------------------------ checkpoints

def stored_rows(count, visual):
    """Rows of a stage to store: all, or the ends, boi, eoi and samples between.

    `visual` is the slot of boi and of eoi in the stage, or None.
    """
    if count <= ALL_ROWS_UP_TO:
        return None
    rows = {0, 1, 2, 3, count // 4, count // 3, count // 2, 3 * count // 4, count - 2, count - 1}
    if visual:
        boi, eoi = visual
        rows |= {boi, boi + 1, (boi + eoi) // 2, eoi - 1, eoi, min(eoi + 1, count - 1)}
    return sorted(rows)


def stage_rows(model, case):
    """The rows stored for each kind of stage (None: all of them)."""
    c = model.config
    rows = {"decoder": stored_rows(len(case["prompt_ids"]),
                                   (1, c.patches + 2) if case["picture"] else None)}
    if case["picture"]:
        rows["pixels"] = None if c.image_size <= 64 else \
            [0, c.image_size // 3, c.image_size // 2, c.image_size - 1]
        rows["vit"] = stored_rows(c.patches + 1, None)
        rows["adapter"] = stored_rows(c.patches + 2, (0, c.patches + 1))
    return rows


def keep(stage, value, rows):
    """The part of a traced stage that is stored."""
    if stage == "logits":
        return value
    if stage == "pixels":
        chosen = rows["pixels"]
        return value if chosen is None else value[:, chosen]
    kind = {"vit": "vit", "adapter": "adapter"}.get(stage.split(".")[0], "decoder")
    return value if rows[kind] is None else value[rows[kind]]


class Search:
    """Finds queries whose greedy answers do not depend on rounding noise."""

    def __init__(self, folder, models, tokenizer, pictures):
        self.folder, self.models, self.tokenizer = folder, models, tokenizer
        self.pictures = pictures
        self.full_logits = oracle.FullLogits(folder, "bf16")
        self.last = {}

    def start(self, mode, picture, text):
        """Ids, types, visual embeddings, cache and its length for a prompt.

        The cache holds what the prompt shares with the one before it.
        """
        model = self.models[mode]
        ids, types = model.prompt(self.tokenizer.encode(text), picture is not None)
        if (mode, picture) not in self.last:
            path = os.path.join(self.folder, picture or "")
            self.last[mode, picture] = [], model.encode_picture(path) if picture else None, {}
        old, visual, kv = self.last[mode, picture]
        shared = 0
        while shared < min(len(old), len(ids) - 1) and old[shared] == ids[shared]:
            shared += 1
        kv = {k: (key[:shared], value[:shared]) for k, (key, value) in kv.items()}
        return ids, types, visual, kv if shared else {}, shared

    def answer(self, mode, picture, text, tokens, least):
        """Greedy answer, cut before the first unclear token: (ids, what ends it).

        The end is `clear`, `stop`, `tie` (the tied token is included), or None where
        fewer than `least` tokens are clear.
        """
        model = self.models[mode]
        ids, types, visual, kv, first = self.start(mode, picture, text)
        answer = []
        while len(answer) < tokens:
            before = dict(kv)
            logits = model.forward(ids, types, visual, kv, first)
            if not answer:
                self.last[mode, picture] = list(ids), visual, dict(kv)
            best = int(np.argmax(logits.numpy()))
            top = torch.topk(logits, 2).values
            if top[0] - top[1] < CLEAR[mode]:
                if mode == "bf16" and top[0] == top[1] and best not in model.config.eos:
                    full = self.full_logits.forward(ids, types, visual, before, first)
                    if full.argmax() != best:
                        return [*answer, best], "tie"
                return answer, "clear" if len(answer) >= least else None
            if best in model.config.eos:
                return answer, "stop"
            answer.append(best)
            first = len(ids)
            ids.append(best)
            types.append(0)
        return answer, "clear"

    def suits(self, picture, text, tokens, end):
        """The number of tokens to generate if the prompt is good for a case, or 0.

        Answers must not repeat one token, must be equal in both modes and not be the
        same for all pictures.
        """
        least = LEAST_TOKENS if end == "clear" else 3
        answer, how = self.answer("bf16", picture, text, tokens, least)
        if how != end or len(answer) < least or len(set(answer)) < 2:
            return 0
        count = tokens if end == "stop" else len(answer)
        exact = self.answer("f32", picture, text, count, least)
        if len(exact[0]) < len(answer) or (end != "tie" and exact != (answer, end)):
            return 0
        others = [p for p in self.pictures if p != picture] if picture else []
        if others and all(self.answer("f32", p, text, count, 0)[0] == answer for p in others):
            return 0
        return count

    def clear_tokens(self, picture, text, tokens):
        """How many tokens are clear in both modes; all if the answer stops."""
        found = [self.answer(mode, picture, text, tokens, 0) for mode in ("bf16", "f32")]
        if found[0] == found[1] and found[0][1] == "stop":
            return tokens
        return min(len(answer) - (how == "tie") for answer, how in found)


def fill_query(search, number, wanted, template, picture):
    """Query and number of tokens of a case."""
    words = make_checkpoint.NOUNS
    words = [*words, *(f"{c} {n}" for c in make_checkpoint.COLOURS for n in words)]
    best = None
    for k in range(CANDIDATES):
        query = wanted["query"].replace("{}", words[(11 * number + k) % len(words)])
        text = oracle.prompt_text(template, query, wanted["history"])
        if query != wanted["query"]:
            tokens = search.suits(picture, text, wanted["tokens"], wanted["end"])
            if tokens:
                return query, tokens
        tokens = search.clear_tokens(picture, text, wanted["tokens"])
        if not best or tokens > best[1]:
            best = query, tokens
        if query == wanted["query"]:
            break
    if best[1] == 0:
        raise ValueError(f"case {number}: no word makes the first token clear")
    return best


def run_case(case, store, models, tokenizer, folder, expected):
    """Fill in the results of a case in both modes; `store` adds its stages to `expected`."""
    picture = os.path.join(folder, case["picture"]) if case["picture"] else None
    for mode, model in models.items():
        trace = {}
        visual = model.encode_picture(picture, trace) if picture else None
        ids, types = case["prompt_ids"], case["token_type_ids"]
        model.forward(ids, types, visual, trace=trace)
        answer, margins, finish = model.greedy(ids, types, visual, case["max_tokens"])
        case[f"greedy_ids_{mode}"] = answer
        case[f"finish_{mode}"] = finish
        case[f"margins_{mode}"] = [round(margin, 6) for margin in margins]
        if mode == "f32":
            case["greedy_text_f32"] = tokenizer.decode(answer)
        if store:
            case["rows"] = stage_rows(model, case)
            dtype = "F32" if mode == "f32" else "BF16"
            for stage, value in trace.items():
                expected[f"c{case['id']}.{mode}.{stage}"] = (
                    dtype, keep(stage, value, case["rows"]).numpy().astype(np.float32))


def stored_queries(name):
    """Query and number of tokens of the stored cases of a checkpoint."""
    with open(os.path.join(FIXTURES, name, "cases.json")) as source:
        return [(case["query"], case["max_tokens"]) for case in json.load(source)["cases"]]


def make_checkpoint_fixture(root, name, seed, queries=None):
    """Write one checkpoint folder with its pictures, cases and expected values.

    `queries` are the queries and numbers of tokens; without them they are searched for.
    """
    spec = CHECKPOINTS[name]
    folder = os.path.join(root, name)
    options = ["--text-vocab", "400", *spec["options"].split()]
    make_checkpoint.write_checkpoint(folder, make_checkpoint.parser().parse_args(
        [folder, "--seed", str(seed), "--name", name, *options]))
    os.makedirs(os.path.join(folder, "pictures"))
    pictures = []
    for k, (width, height, mode, *content) in enumerate(spec["pictures"]):
        pictures.append(f"pictures/{k}.png")
        picture = draw_picture(width, height, mode, np.random.default_rng([seed, k, *content]))
        save_picture(picture, os.path.join(folder, pictures[-1]), mode)

    models = {mode: oracle.Model(folder, mode) for mode in ("f32", "bf16")}
    tokenizer = oracle.Tokenizer(folder)
    search = Search(folder, models, tokenizer, pictures)
    cases, expected = [], {}
    for k, wanted in enumerate(spec["cases"]):
        template = wanted["template"] or models["f32"].config.template
        picture = None if wanted["picture"] is None else pictures[wanted["picture"]]
        query, tokens = queries[k] if queries else fill_query(search, k, wanted, template, picture)
        text = oracle.prompt_text(template, query, wanted["history"])
        ids, types = models["f32"].prompt(tokenizer.encode(text), picture is not None)
        case = {"id": k, "picture": picture, "template": template, "history": wanted["history"],
                "query": query, "prompt_text": text, "prompt_ids": ids,
                "token_type_ids": types, "position_ids": oracle.position_ids(types),
                "expert": oracle.expert_mask(types), "max_tokens": tokens, "rows": None}
        run_case(case, wanted["expect"], models, tokenizer, folder, expected)
        cases.append(case)
    write_cases(os.path.join(folder, "cases.json"), name, spec.get("bf16_limit", 1e-2), cases)
    os.makedirs(os.path.join(folder, "expected"), exist_ok=True)
    safetensors_io.write_arrays(os.path.join(folder, "expected", "model.safetensors"), expected,
                                {"checkpoint": name})


def write_cases(path, name, bf16_limit, cases):
    """cases.json with one key a line, so that lists do not take a line per number."""
    with open(path, "w") as out:
        out.write('{\n "checkpoint": %s,\n "bf16_limit": %s,\n "cases": [\n'
                  % (json.dumps(name), json.dumps(bf16_limit)))
        for k, case in enumerate(cases):
            lines = [f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in case.items()]
            separator = "," if k + 1 < len(cases) else ""
            out.write("  {\n" + ",\n".join(lines) + "\n  }" + separator + "\n")
        out.write(" ]\n}\n")


# ------------------------------------------------------------------ unit vectors

def bf16_hex(tensor):
    """Bit patterns of a tensor of bfloat16 values, as four hexadecimal digits each."""
    bits = safetensors_io.float_to_bf16_bits(tensor.numpy().astype(np.float32))
    return [f"{b:04x}" for b in bits.reshape(-1)]


def rope_vectors():
    """bf16 rotary tables for a few bases and head sizes, as bit patterns."""
    positions = [0, 1, 2, 3, 4, 5, 50, 100, 200, *range(254, 269), 300, 511, 512, 513, 823, 1000,
                 1023, 1025, 2000, 2047]
    t = oracle.bf16(torch.tensor(positions, dtype=torch.float64))
    tables = []
    for theta, dim in ((10000.0, 128), (10000.0, 64), (500000.0, 128)):
        half = dim // 2
        exact = (theta ** (-np.arange(half, dtype=np.float64) / half)).astype(np.float32)
        inv_freq = oracle.bf16(torch.from_numpy(exact).double())
        angle = oracle.bf16(t[:, None] * inv_freq)
        tables.append({"theta": theta, "head_dim": dim, "inv_freq": bf16_hex(inv_freq),
                       "cos": [bf16_hex(row) for row in oracle.bf16(torch.cos(angle))],
                       "sin": [bf16_hex(row) for row in oracle.bf16(torch.sin(angle))],
                       "angle": [bf16_hex(row) for row in angle]})
    return {"positions": positions, "rounded_positions": [int(v) for v in t], "tables": tables}


def rms_norm_vectors():
    """RMSNorm in bf16: inputs and weights, the right result and the doubly rounded one."""
    rng = np.random.default_rng(77)
    rows = []
    for size, scale in ((7, 1.0), (64, 30.0), (112, 0.003), (128, 1.0)):
        x = oracle.bf16(torch.from_numpy(rng.normal(0, scale, size)))
        w = oracle.bf16(torch.from_numpy(rng.uniform(0.5, 1.5, size)))
        normal = x * torch.rsqrt((x ** 2).mean() + 1e-5)
        rows.append({"eps": 1e-5, "x": bf16_hex(x), "weight": bf16_hex(w),
                     "y": bf16_hex(oracle.bf16(normal * w)),
                     "y_if_rounded_twice": bf16_hex(oracle.bf16(oracle.bf16(normal) * w))})
    return rows


RESIZE_INPUTS = [(1, 1), (1, 7), (9, 1), (3, 3), (13, 5), (28, 28), (37, 23), (50, 81), (140, 90)]
RESIZE_TARGETS = [(1, 1), (7, 3), (14, 14), (28, 28), (37, 23), (37, 40), (40, 23), (51, 33),
                  (70, 70)]


def make_resize_vectors(root):
    """Pictures and what Pillow's bicubic filter makes of them, for many sizes."""
    folder = os.path.join(root, "resize")
    os.makedirs(folder)
    entries = []
    for k, (width, height) in enumerate(RESIZE_INPUTS):
        rng = np.random.default_rng([99, k])
        picture = draw_picture(width, height, "RGB", rng)
        if k % 3 == 0:      # hard black and white pixels: overshoot must be clamped
            dots = rng.integers(0, 2, (height, width, 3)) * 255
            picture = Image.fromarray(dots.astype(np.uint8))
        source = f"in_{width}x{height}.png"
        picture.save(os.path.join(folder, source))
        for target in RESIZE_TARGETS + ([(112, 112)] if width > 100 else []):
            result = f"in_{width}x{height}_to_{target[0]}x{target[1]}.png"
            picture.resize(target, Image.BICUBIC).save(os.path.join(folder, result))
            entries.append({"input": source, "width": target[0], "height": target[1],
                            "output": result})
    write_lines(os.path.join(folder, "index.json"), entries)


def write_lines(path, entries):
    """A JSON list with one entry a line."""
    with open(path, "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")


def make_all(root, names, search=True):
    """Write all fixtures (checkpoints only those in `names`) below `root`.

    Without `search` the queries are those of the stored fixtures.
    """
    for seed, name in enumerate(CHECKPOINTS, 1):
        if name in names:
            make_checkpoint_fixture(root, name, seed, None if search else stored_queries(name))
            print(f"made {name}", flush=True)
    make_resize_vectors(root)
    with open(os.path.join(root, "rope.json"), "w") as out:
        json.dump(rope_vectors(), out)
        out.write("\n")
    write_lines(os.path.join(root, "rms_norm.json"), rms_norm_vectors())


# ------------------------------------------------------------------ comparison

def close(a, b, scale=None):
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        return False
    if a.size == 0:
        return True
    return np.abs(a - b).max() <= TOLERANCE * (scale or max(np.abs(b).max(), 1e-30))


def same_json(a, b):
    """Equal, floating point values within the tolerance."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same_json(x, y) for x, y in zip(a, b))
    if isinstance(a, float) and isinstance(b, float):
        return close(a, b, max(abs(b), 1.0))
    return a == b


def same_file(path, stored):
    """Compare by meaning: tensors and numbers nearly, pictures by pixel, others by text.

    Tokenizers are not compared as files (they record the trainer's version); the
    ids in cases.json show whether they are the same.
    """
    if path.endswith(".safetensors"):
        a, b = safetensors_io.File(path), safetensors_io.File(stored)
        return a.header == b.header and all(close(a.read(n), b.read(n)) for n in a.names())
    if path.endswith(".png"):
        with Image.open(path) as a, Image.open(stored) as b:
            return a.mode == b.mode and a.size == b.size and \
                a.convert("RGBA").tobytes() == b.convert("RGBA").tobytes()
    if path.endswith(".json"):
        with open(path) as a, open(stored) as b:
            return same_json(json.load(a), json.load(b))
    return os.path.exists(stored)


def files_below(root, names):
    """Relative paths of all fixture files, checkpoints only those in `names`."""
    found = set()
    for folder, _, files in os.walk(root):
        relative = os.path.relpath(folder, root)
        top = relative.split(os.sep)[0]
        if top not in CHECKPOINTS or top in names:
            found.update(os.path.normpath(os.path.join(relative, f)) for f in files)
    return found


def check(names):
    """Make the fixtures again and list the files that differ from the stored ones."""
    with tempfile.TemporaryDirectory() as root:
        make_all(root, names, search=False)
        made, stored = files_below(root, names), files_below(FIXTURES, names)
        wrong = sorted(made ^ stored)
        wrong += [path for path in sorted(made & stored)
                  if not same_file(os.path.join(root, path), os.path.join(FIXTURES, path))]
    for path in wrong:
        print(f"differs: {path}")
    print(f"{len(made)} files made, {len(wrong)} differ")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description="Make or check the golden fixtures.")
    parser.add_argument("--check", action="store_true",
                        help="compare with the stored fixtures instead of writing them")
    parser.add_argument("--only", nargs="+", choices=CHECKPOINTS, default=list(CHECKPOINTS),
                        metavar="NAME", help="checkpoints to make: " + ", ".join(CHECKPOINTS))
    args = parser.parse_args()
    if args.check:
        return check(args.only)
    for name in [*args.only, "resize"]:
        shutil.rmtree(os.path.join(FIXTURES, name), ignore_errors=True)
    os.makedirs(FIXTURES, exist_ok=True)
    make_all(FIXTURES, args.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
