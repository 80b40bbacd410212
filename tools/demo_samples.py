"""Sample pictures with questions, made from seeds fixed in advance."""

import json
import os
import random

from PIL import Image

from demo_eval import answer_all, is_right
from demo_export import write_json
from demo_scenes import make_scene, render
from demo_text import (caption, caption_with_boxes, category, colour, contents, count_all,
                       count_kind, existence, in_box, position, relation_check, relation_open,
                       size, two_turns, where)

FIRST_SEED = 9_000_001

# file type, width and height of the twelve pictures, which hold 1, 2, 3, 1, ... objects
PICTURES = [("jpg", 448, 448), ("jpg", 336, 336), ("jpg", 448, 448), ("jpg", 448, 336),
            ("jpg", 112, 112), ("jpg", 336, 336), ("jpg", 224, 224), ("jpg", 336, 448),
            ("jpg", 448, 448), ("png", 224, 224), ("webp", 448, 448), ("gif", 336, 336)]
_SAVE = {"jpg": {"quality": 93}, "webp": {"quality": 92}, "png": {}, "gif": {}}

# after the caption: two of these, then one that asks for a box
_SECOND = [existence, colour, count_all, relation_check]
_THIRD = [position, relation_open, size, category, in_box, count_kind, two_turns, contents]


def _plain(sample):
    """No wording with the capital or the mark left out."""
    return not sample.question or (sample.question[0].isupper() and sample.question[-1] in "?.")


def _draw(task, scene, rng):
    for _ in range(40):
        sample = task(scene, rng)
        if sample and _plain(sample):
            return sample
    return None


def _choose(tasks, index, scene, rng):
    """The first task from place `index` on that suits the scene."""
    for step in range(len(tasks)):
        sample = _draw(tasks[(index + step) % len(tasks)], scene, rng)
        if sample:
            return sample
    return None


def _samples_of(index, scene):
    rng = random.Random(scene.seed)
    last = caption_with_boxes if index % 4 == 3 else where
    chosen = [_draw(caption, scene, rng), _choose(_SECOND, index, scene, rng),
              _choose(_THIRD, index, scene, rng), _choose([last, where], 0, scene, rng)]
    return [s for s in chosen if s]


def write_samples(model, tokenizer, folder):
    """Write samples/ and samples.json; returns (right, asked)."""
    os.makedirs(os.path.join(folder, "samples"), exist_ok=True)
    entries, questions, pictures = [], [], []
    for index, (kind, width, height) in enumerate(PICTURES):
        scene = make_scene(FIRST_SEED + index, 1 + index % 3, (height / width) ** 0.5)
        name = f"samples/{index + 1:02d}.{kind}"
        path = os.path.join(folder, name)
        render(scene, width, height).save(path, **_SAVE[kind])
        with Image.open(path) as picture:
            pictures.append(picture.convert("RGB"))
        samples = _samples_of(index, scene)
        questions += [(index, s.prompt()) for s in samples]
        entries.append((name, width, height, scene.seed, samples))

    answers = iter(answer_all(model, tokenizer, pictures, questions))
    right = asked = 0
    listed = []
    for name, width, height, seed, samples in entries:
        cases = []
        for sample in samples:
            greedy = next(answers)
            kind = "box" if "[[" in sample.answer else "text"
            correct = is_right(greedy, sample.answer, kind)
            right, asked = right + correct, asked + 1
            case = {"task": sample.task, "template": sample.template, "question": sample.question}
            if sample.history:
                case["history"] = [list(turn) for turn in sample.history]
            case.update(prompt=sample.prompt(), kind=kind, answer=sample.answer, greedy=greedy,
                        correct=correct)
            cases.append(case)
        listed.append({"image": name, "width": width, "height": height, "seed": seed,
                       "cases": cases})
    write_json(os.path.join(folder, "samples.json"), listed)
    return right, asked


def print_samples(folder):
    with open(os.path.join(folder, "samples.json"), encoding="utf-8") as source:
        for entry in json.load(source):
            print(entry["image"])
            for case in entry["cases"]:
                mark = "ok " if case["correct"] else "BAD"
                print(f"  {mark} {case['prompt']!r} -> {case['greedy']} | {case['answer']}")
