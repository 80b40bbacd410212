"""Train the demo model from scratch, on generated pictures and on CPU cores.

    python3 tools/train_demo.py all --work demo-work --out models/demo

does every step; the steps can also be run one by one:

    render      draw the training scenes into WORK/data
    tokenizer   train the SentencePiece tokenizer on generated text
    stage1      vision tower and adapter on dense labels per patch
    stage2      the whole model on questions and answers
    stage3      the same, after heads that match words with patches are set up
    export      write the model folder (bfloat16)
    evaluate    greedy accuracy of the exported model on unseen scenes
    samples     write the sample pictures with their questions

The stages train for a given number of minutes, whatever the speed of the
machine, and can be resumed with --resume.  It needs PyTorch, NumPy, Pillow,
sentencepiece and the font Noto Color Emoji (Debian: python3-torch,
python3-numpy, python3-pil, python3-sentencepiece, fonts-noto-color-emoji), and
a BLAS that is fast on the machine (libopenblas0-pthread).
"""

import argparse
import os
import sys

# One thread per process, and no returning of freed memory to the system: these
# settings are read when a process starts, so start again with them.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
                "MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
if __name__ == "__main__" and any(os.environ.get(k) != v for k, v in _ENVIRONMENT.items()):
    os.environ.update(_ENVIRONMENT)
    os.execv(sys.executable, [sys.executable] + sys.argv)

import numpy as np
import torch
import torch.nn.functional as F

import demo_export
import demo_samples
from demo_data import MIXED, SceneStore, render_store, row_to_scene
from demo_eval import evaluate
from demo_matching import start_matching_heads
from demo_model import CONFIG, CogVLM, Linear, PatchHeads, normalise_pixels, parameter_count
from demo_parallel import FlatParameters, Options, load_checkpoint, load_values, train
from demo_scenes import (BACKGROUNDS, CANVAS, CLASS_NAMES, CLASS_PLURALS, COLOURS, MAX_OBJECTS,
                         make_scene)
from demo_tokens import Packer, Tokenizer, train_tokenizer

# Seeds: what is trained on, evaluated on and shown never overlaps.
TOKENIZER_SEED, TOKENIZER_SCENES = 800_000, 6000
TRAINING_SEED = 1_000_000
EVALUATION_SEED = 7_000_000

VISION = "model.model.vision."
VISION_RATE = 0.4        # its learning rate in stage 2, as a share
AUXILIARY_WEIGHT = 0.5   # of the patch heads' loss in stage 2


# -------------------------------------------------- dense labels for patches


def patch_targets(patches, rows):
    """Targets of the patch heads from patch labels [B, P] and scene rows."""
    batch = np.arange(len(rows))[:, None]
    count = rows[:, 1].astype(np.int64)
    objects = rows[:, 2:].reshape(len(rows), MAX_OBJECTS, -1).astype(np.int64)
    kinds, colours, boxes = objects[..., 0], objects[..., 1], objects[..., 2:]
    same = (kinds[:, :, None] == kinds[:, None]) & (colours[:, :, None] == colours[:, None])
    alike = same.sum(2)
    owner = np.where(patches == MIXED, 0, patches).astype(np.int64)
    index = np.maximum(owner - 1, 0)
    box = boxes[batch, index]
    thousandths = np.minimum(999, np.rint(box * (1000 / CANVAS))).astype(np.int64)
    targets = {
        "kind": np.where(owner > 0, kinds[batch, index] + 1, 0),
        "colour": np.where(owner > 0, colours[batch, index] + 1, 0),
        "order": owner,
        "background": np.broadcast_to(rows[:, :1].astype(np.int64), owner.shape),
        "count": np.broadcast_to(count[:, None] - 1, owner.shape),
        "alike": np.maximum(alike[batch, index] - 1, 0),
        "box": (box / CANVAS).astype(np.float32),
        "digits": np.stack([thousandths // 100, thousandths // 10 % 10], -1),
        "known": patches != MIXED,
    }
    targets = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in targets.items()}
    targets["object"] = targets["known"] & (targets["order"] > 0)
    return targets


def patch_loss(heads, features, patches, rows):
    """Loss of the patch heads and a few figures to watch."""
    t = patch_targets(patches, rows)
    out = heads(features)
    known, item = t["known"], t["object"]
    ground = known & ~item

    def entropy(name, where):
        return F.cross_entropy(out[name][where], t[name][where])

    digits, goal = out["digits"][item].view(-1, 4, 2, 10), t["digits"][item]
    leading = F.cross_entropy(digits[:, :, 0].reshape(-1, 10), goal[:, :, 0].flatten())
    second = F.cross_entropy(digits[:, :, 1].reshape(-1, 10), goal[:, :, 1].flatten())
    box = F.smooth_l1_loss(out["box"][item], t["box"][item], beta=0.02)
    loss = (entropy("kind", item) + 0.5 * entropy("kind", ground)
            + 0.5 * entropy("colour", item) + 0.3 * entropy("order", item)
            + 0.3 * entropy("background", known) + 0.2 * entropy("count", known)
            + 0.2 * entropy("alike", item) + 8 * box + 0.6 * leading + 0.3 * second)

    def accuracy(name, where):
        return float((out[name][where].argmax(-1) == t[name][where]).float().mean())

    with torch.no_grad():
        figures = {
            "aux": float(loss), "kind": accuracy("kind", item), "order": accuracy("order", item),
            "count": accuracy("count", known),
            "pixels": float((out["box"][item] - t["box"][item]).abs().mean()) * CANVAS,
            "leading": float((digits[:, :, 0].argmax(-1) == goal[:, :, 0]).float().mean()),
            "second": float((digits[:, :, 1].argmax(-1) == goal[:, :, 1]).float().mean()),
        }
    return loss, figures


class Pictures:
    """Random micro-batches of pre-rendered scenes."""

    def __init__(self, folder, size):
        self.store = SceneStore(folder)
        self.size = size

    def batch(self, *seed):
        chosen = np.random.default_rng(seed).integers(self.store.count, size=self.size)
        images = normalise_pixels(torch.from_numpy(self.store.pictures[chosen]))
        return images, self.store.patches[chosen], self.store.scenes[chosen]


# ------------------------------------------------------------------- stages


def in_work(args, name):
    return os.path.join(args.work, name)


def build():
    torch.manual_seed(7)
    model = CogVLM()
    heads = PatchHeads(CONFIG["hidden_size"], len(CLASS_NAMES), len(COLOURS),
                       len(BACKGROUNDS), MAX_OBJECTS)
    return model, heads


def render(args):
    render_store(in_work(args, "data"), args.scenes, TRAINING_SEED, args.workers)


def tokenizer(args):
    scenes = [make_scene(TOKENIZER_SEED + i) for i in range(TOKENIZER_SCENES)]
    path = in_work(args, "tokenizer.model")
    train_tokenizer(path, scenes)
    split = Tokenizer(path).split_names()
    print("every name is one token" if not split else f"names of several tokens: {split}")


def run_stage(args, number, flat, make_loss, minutes, rate, **options):
    path = in_work(args, f"stage{number}.pt")
    start = load_checkpoint(path, flat) if args.resume else (0, 0.0)
    settings = Options(minutes * 60, rate, checkpoint=path,
                       micro_batches=args.batch // args.micro, **options)
    train(flat, make_loss, settings, args.workers, *start)


def stage1(args):
    model, heads = build()
    flat = FlatParameters({VISION[:-1]: model.model.vision, "heads": heads}, args.workers)
    print(f"stage 1: {flat.values.numel()} parameters", flush=True)

    def make_loss():
        Linear.mixed = True
        pictures = Pictures(in_work(args, "data"), args.micro)

        def loss(number, phase):
            images, patches, rows = pictures.batch(1, number)
            return patch_loss(heads, model.image_features(images), patches, rows)
        return loss

    run_stage(args, 1, flat, make_loss, args.stage1_minutes, 8e-4)


def start_word_vectors(model, heads, words):
    """Let the vectors of nouns and colours point where the patch heads look for them."""
    def directions(name):
        rows = heads.rows(name)[1:].detach()
        return F.normalize(rows - rows.mean(0), dim=-1)

    def assign(word, direction):
        token = words.single(word)
        if token is not None:
            for table in (model.model.embed_tokens.weight, model.lm_head.weight):
                row = table.data[token]
                table.data[token] = 0.5 * row + row.norm() * direction

    for index, direction in enumerate(directions("kind")):
        assign(CLASS_NAMES[index], direction)
        assign(CLASS_PLURALS[index], direction)
    for index, direction in enumerate(directions("colour")):
        assign(COLOURS[index], direction)


def answer_loss(model, features, packed):
    """Weighted cross entropy of the answer tokens, and their accuracy."""
    tokens, positions, mask, where, goal, weight = packed
    hidden, _ = model.decode(features, tokens, positions, mask)
    logits = model.logits(hidden[where[:, 0], where[:, 1]])
    loss = (F.cross_entropy(logits, goal, reduction="none") * weight).sum() / weight.sum()
    right = float((logits.argmax(-1) == goal).float().mean())
    return loss, {"text": float(loss), "tokens": right}


def train_on_text(args, number, model, heads, flat, words, minutes, frozen):
    """Train on questions and answers; the tower joins after a share `frozen`."""
    tower = (VISION + "patch_embedding.", VISION + "transformer.")

    def rate_of(name, phase):
        if name.startswith(tower):
            return VISION_RATE if phase else 0.0
        return VISION_RATE if name.startswith(VISION) else 1.0

    def make_loss():
        Linear.mixed = True
        pictures = Pictures(in_work(args, "data"), args.micro)
        packer = Packer(words, args.text_tokens)

        def loss(index, phase):
            images, patches, rows = pictures.batch(number, index)
            with torch.set_grad_enabled(phase > 0):
                seen = model.model.vision.tower(images)
            features = model.model.vision.linear_proj(seen)
            packed = packer.batch([row_to_scene(r) for r in rows], number * 10 ** 7 + index)
            total, figures = answer_loss(model, features, packed)
            auxiliary, more = patch_loss(heads, features, patches, rows)
            figures.update({k: more[k] for k in ("aux", "kind", "pixels")})
            return total + AUXILIARY_WEIGHT * auxiliary, figures
        return loss

    run_stage(args, number, flat, make_loss, minutes, 1e-3, matrix_rate=0.007,
              phase_of=lambda share: int(share >= frozen), rate_of=rate_of)


def stage2(args):
    model, heads = build()
    words = Tokenizer(in_work(args, "tokenizer.model"))
    flat = FlatParameters({"model": model, "heads": heads}, args.workers)
    if not args.resume:
        load_values(in_work(args, "stage1.pt"), flat)
        start_word_vectors(model, heads, words)
    print(f"stage 2: {parameter_count(model)} parameters of the model", flush=True)
    train_on_text(args, 2, model, heads, flat, words, args.stage2_minutes, 0.12)


def stage3(args):
    model, heads = build()
    words = Tokenizer(in_work(args, "tokenizer.model"))
    flat = FlatParameters({"model": model, "heads": heads}, args.workers)
    if not args.resume:
        load_values(in_work(args, "stage2.pt"), flat)
        images, patches, rows = Pictures(in_work(args, "data"), 600).batch(3, 0)
        with torch.no_grad():
            features = torch.cat([model.image_features(part) for part in images.split(50)])
        start_matching_heads(model, heads, words, features, patch_targets(patches, rows))
    print("stage 3: the same with matching heads", flush=True)
    train_on_text(args, 3, model, heads, flat, words, args.stage3_minutes, 0.03)


def export(args):
    model, heads = build()
    load_values(in_work(args, "stage3.pt"), FlatParameters({"model": model, "heads": heads}, 1))
    demo_export.export(model, in_work(args, "tokenizer.model"), args.out)
    size = os.path.getsize(os.path.join(args.out, "model.safetensors"))
    print(f"{args.out}: {parameter_count(model)} parameters, {size / 1e6:.1f} MB")


def evaluate_model(args):
    model, words = demo_export.load(args.out)
    evaluate(model, words, EVALUATION_SEED, args.evaluation_scenes, show=args.show)


def samples(args):
    model, words = demo_export.load(args.out)
    right, asked = demo_samples.write_samples(model, words, args.out)
    demo_samples.print_samples(args.out)
    print(f"{right} of {asked} sample questions right")


COMMANDS = {"render": render, "tokenizer": tokenizer, "stage1": stage1, "stage2": stage2,
            "stage3": stage3, "export": export, "evaluate": evaluate_model, "samples": samples}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[*COMMANDS, "all"])
    parser.add_argument("--work", default="demo-work", help="folder for data and checkpoints")
    parser.add_argument("--out", default="models/demo", help="the model folder")
    parser.add_argument("--scenes", type=int, default=122_000, help="training scenes to render")
    parser.add_argument("--stage1-minutes", type=float, default=45)
    parser.add_argument("--stage2-minutes", type=float, default=40)
    parser.add_argument("--stage3-minutes", type=float, default=21)
    parser.add_argument("--workers", type=int, default=2, help="training processes, one per core")
    parser.add_argument("--batch", type=int, default=32, help="pictures in a step")
    parser.add_argument("--micro", type=int, default=8, help="pictures in a micro-batch")
    parser.add_argument("--text-tokens", type=int, default=128,
                        help="text tokens per picture in stage 2")
    parser.add_argument("--evaluation-scenes", type=int, default=300)
    parser.add_argument("--show", type=int, default=0, help="wrong answers to print")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    for name in COMMANDS if args.command == "all" else [args.command]:
        COMMANDS[name](args)


if __name__ == "__main__":
    main()
