"""Greedy accuracy of an exported model on unseen scenes, task by task."""

import random
import re
from collections import defaultdict

import numpy as np
import torch
from PIL import Image

from demo_model import normalise_pixels
from demo_scenes import CANVAS, make_scene, render
from demo_text import TASK_FUNCTIONS

_BOXES = re.compile(r"\[\[([\d,;]+)\]\]")


def read_boxes(text):
    """All boxes of an answer, in thousandths; None if a group is malformed."""
    boxes = []
    for group in _BOXES.findall(text):
        for part in group.split(";"):
            numbers = [int(v) for v in part.split(",") if v]
            if len(numbers) != 4:
                return None
            boxes.append(numbers)
    return boxes


def overlap(a, b):
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def box_scores(answer, truth):
    """Overlap of every true box with the answer's box of the same rank."""
    wanted, given = read_boxes(truth), read_boxes(answer) or []
    given = given[:len(wanted)] + [(0, 0, 0, 0)] * (len(wanted) - len(given))
    return [overlap(g, w) for g, w in zip(given, wanted)]


def is_right(answer, truth, kind):
    if kind == "box":
        return len(read_boxes(answer) or []) == len(read_boxes(truth)) \
            and min(box_scores(answer, truth)) >= 0.5
    return answer == truth


def picture_tensor(picture):
    """CogVLM's preprocessing: squash to a square with Pillow's bicubic filter."""
    picture = picture.convert("RGB").resize((CANVAS, CANVAS), Image.BICUBIC)
    return torch.from_numpy(np.asarray(picture).copy())


@torch.no_grad()
def answer_all(model, tokenizer, pictures, questions, batch=48):
    """Greedy answers to (picture index, prompt) pairs."""
    features = []
    for start in range(0, len(pictures), batch):
        block = torch.stack([picture_tensor(p) for p in pictures[start:start + batch]])
        features.append(model.image_features(normalise_pixels(block)))
    features = torch.cat(features)
    prompts = [tokenizer.encode(prompt) if prompt else () for _, prompt in questions]
    order = sorted(range(len(questions)), key=lambda i: len(prompts[i]))
    answers = [None] * len(questions)
    for start in range(0, len(order), batch):
        chosen = order[start:start + batch]
        rows = features[[questions[i][0] for i in chosen]]
        for i, ids in zip(chosen, model.greedy(rows, [prompts[i] for i in chosen])):
            answers[i] = tokenizer.decode(ids)
    return answers


def held_out_samples(first_seed, scenes, counts):
    """Scenes with 1, 2, ... objects in turn, and one sample of every task for each."""
    made = [make_scene(first_seed + i, counts[i % len(counts)]) for i in range(scenes)]
    samples = []
    for index, scene in enumerate(made):
        rng = random.Random(first_seed + index)
        for task in TASK_FUNCTIONS:
            sample = task(scene, rng)
            if sample:
                samples.append((index, sample))
    return made, samples


class Tally:
    def __init__(self):
        self.right, self.overlaps = [], []

    def add(self, answer, sample):
        text, truth = answer, sample.answer
        if sample.task == "caption with boxes":
            text, truth = _BOXES.sub("", answer), _BOXES.sub("", truth)
        self.right.append(is_right(text, truth, sample.kind))
        if read_boxes(sample.answer):
            self.overlaps += box_scores(answer, sample.answer)

    def accuracy(self):
        return 100 * float(np.mean(self.right))

    def describe(self):
        text = f"{self.accuracy():5.1f} % of {len(self.right):4d}"
        if self.overlaps:
            iou = np.array(self.overlaps)
            text += (f"   IoU {iou.mean():.3f}, >= 0.5: {100 * (iou >= 0.5).mean():.1f} %,"
                     f" >= 0.75: {100 * (iou >= 0.75).mean():.1f} % of {len(iou)} boxes")
        return text


def evaluate(model, tokenizer, first_seed, scenes, counts=(1, 2, 3), show=0):
    """Print a table; returns {(task, objects or 'all'): Tally}."""
    made, samples = held_out_samples(first_seed, scenes, counts)
    answers = answer_all(model, tokenizer, [render(s) for s in made],
                         [(index, sample.prompt()) for index, sample in samples])
    tallies = defaultdict(Tally)
    for (index, sample), answer in zip(samples, answers):
        objects = len(made[index].objects)
        for key in ((sample.task, "all"), (sample.task, objects)):
            tallies[key].add(answer, sample)
        if show and sample.kind == "text" and "[[" not in sample.answer and answer != sample.answer:
            print(f"  {sample.task} | {sample.prompt()!r} | {answer} | truth {sample.answer}")
            show -= 1
    print(f"{scenes} unseen scenes, seeds {first_seed} ... {first_seed + scenes - 1}")
    tasks = list(dict.fromkeys(sample.task for _, sample in samples))
    for task in tasks:
        parts = " / ".join(f"{tallies[task, n].accuracy():.0f}" if (task, n) in tallies else "-"
                           for n in counts)
        print(f"{task:20s} {tallies[task, 'all'].describe():80s} by objects {parts}")
    return tallies
