"""Questions and answers about scenes, in CogVLM's prompt templates.

Every task is a function of a scene that returns a `Sample`, or None where the
scene gives no clear answer (two objects of nearly the same size, say).
"""

import random
from dataclasses import dataclass, field

from demo_scenes import (BACKGROUNDS, CANVAS, CLASS_CATEGORIES, CLASS_NAMES, CLASS_PLURALS,
                         COLOURS, SHAPES, SPRITES)

NUMBERS = ["no", "one", "two", "three", "four"]
CATEGORIES = ["animal", "food", "vehicle", "shape"]
_SETTING = {"grass": "on grass", "beach": "on a beach", "snow": "in snow",
            "night": "at night", "water": "on water"}
# relation: (axis, sign of the subject's offset, opposite)
RELATIONS = {"to the left of": (0, -1, "to the right of"),
             "to the right of": (0, 1, "to the left of"),
             "above": (1, -1, "below"), "below": (1, 1, "above")}


@dataclass
class Sample:
    task: str
    template: str                     # chat, vqa or base
    question: str
    answer: str
    kind: str = "text"                # "box" where the answer is boxes only
    history: list = field(default_factory=list)

    def prompt(self):
        return build_prompt(self.template, self.question, self.history)


def build_prompt(template, question, history=()):
    """The text that follows the image, as CogVLM's own code builds it."""
    if template == "base":
        return question
    marker = "Short answer:" if template == "vqa" else "Answer:"
    past = "".join(f"Question: {q} {marker} {a}\n" for q, a in history)
    return f"{past}Question: {question} {marker}"


# ----------------------------------------------------------------- phrases


def article(phrase):
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def plural(item):
    name = CLASS_PLURALS[item.kind]
    return f"{COLOURS[item.colour]} {name}" if item.colour >= 0 else name


def counted(group):
    """'a dog' for one object, 'two dogs' for several alike."""
    if len(group) == 1:
        return article(group[0].phrase)
    return f"{NUMBERS[len(group)]} {plural(group[0])}"


def join(parts):
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def groups_of(scene):
    """Objects that look alike, together, in reading order."""
    groups = {}
    for item in scene.objects:
        groups.setdefault(item.phrase, []).append(item)
    return list(groups.values())


def unique_objects(scene):
    return [g[0] for g in groups_of(scene) if len(g) == 1]


def setting(scene):
    name = BACKGROUNDS[scene.background]
    return _SETTING.get(name, f"on a{'n' if name[0] == 'o' else ''} {name} background")


def refer(scene, item, rng):
    """A phrase for one object: the colour may be left out where it is not needed."""
    if item.colour >= 0 and rng.random() < 0.3:
        if sum(o.kind == item.kind for o in scene.objects) == 1:
            return item.name
    return item.phrase


def box_text(items):
    """[[x0,y0,x1,y1]] in thousandths of the picture, several boxes joined by ';'."""
    def thousandths(item):
        return ",".join(f"{min(999, round(v * 1000 / CANVAS)):03d}" for v in item.box)
    return "[[" + ";".join(thousandths(i) for i in items) + "]]"


def vary(question, rng):
    """Now and then a question without its mark, or without the capital."""
    if question and rng.random() < 0.1 and question[-1] in "?.":
        question = question[:-1]
    if question and rng.random() < 0.1:
        question = question[0].lower() + question[1:]
    return question


def ask(rng, wordings, **words):
    return vary(rng.choice(wordings).format(**words), rng)


def chat_or_vqa(rng):
    return "vqa" if rng.random() < 0.4 else "chat"


# ----------------------------------------------------------------- relations


def offset(a, b, axis):
    return a.centre[axis] - b.centre[axis]


def holds(a, b, relation):
    """True, False, or None if it cannot be said clearly."""
    axis, sign, _ = RELATIONS[relation]
    distance = sign * offset(a, b, axis)
    return True if distance >= 14 else False if distance <= -14 else None


def pair_relation(a, b):
    """How the first of two objects in reading order lies to the second."""
    horizontal = abs(offset(a, b, 0)) > abs(offset(a, b, 1))
    return "to the left of" if horizontal else "above"


# ------------------------------------------------------------------- tasks


CAPTION = ["Describe this image.", "Describe the image.", "Describe this picture.",
           "What do you see in this image?", "What does this picture show?",
           "Can you describe the image?", "Please describe this image.",
           "Give a caption for this image.", "Write a caption for the picture.",
           "What is shown in the image?", "Describe this image in a few words.",
           "Describe the content of this image.", "Describe the image briefly.",
           "Describe this image in detail."]


def caption_text(scene, boxes=False):
    groups = groups_of(scene)
    parts = [counted(g) + (" " + box_text(g) if boxes else "") for g in groups]
    if len(groups) == 2 and len(scene.objects) == 2:
        return f"{parts[0]} {pair_relation(*scene.objects)} {parts[1]} {setting(scene)}"
    return f"{join(parts)} {setting(scene)}"


def caption(scene, rng):
    if rng.random() < 0.2:
        return Sample("caption", "base", "", caption_text(scene))
    template = "base" if rng.random() < 0.15 else "chat"
    return Sample("caption", template, ask(rng, CAPTION), caption_text(scene))


CAPTION_BOXES = [
    "Can you provide a description of the image and include the coordinates [[x0,y0,x1,y1]] "
    "for each mentioned object?",
    "Describe the image with the box of each object.",
    "Give a description of the image and include the location of each object as [[x0,y0,x1,y1]].",
    "Describe this image and include the coordinates of the objects.",
    "Please describe the image and mark each object with its bounding box."]


def caption_with_boxes(scene, rng):
    template = "base" if rng.random() < 0.5 else "chat"
    return Sample("caption with boxes", template, ask(rng, CAPTION_BOXES),
                  caption_text(scene, boxes=True))


CONTENTS = ["What is in the image?", "What is in this picture?", "What objects are in the image?",
            "Which objects can you see?", "What objects do you see in the picture?",
            "List the objects in the image.", "What things are in this image?",
            "Which things are in the picture?", "Name the objects in this image."]


def contents(scene, rng):
    template = chat_or_vqa(rng)
    groups = groups_of(scene)
    if template == "chat":
        answer = join([counted(g) for g in groups])
    else:
        answer = ", ".join(g[0].phrase if len(g) == 1 else counted(g) for g in groups)
    return Sample("contents", template, ask(rng, CONTENTS), answer)


EXISTENCE = ["Is there {thing} in the image?", "Is there {thing} in this picture?",
             "Can you see {thing}?", "Do you see {thing} in the image?", "Is there {thing}?",
             "Does the image contain {thing}?"]


def absent_phrase(scene, rng):
    """Something that is not in the picture, at times close to what is."""
    present = {o.kind for o in scene.objects}
    coloured = [o for o in scene.objects if o.category == "shape"]
    if coloured and rng.random() < 0.4:
        item = rng.choice(coloured)
        taken = {o.colour for o in scene.objects if o.kind == item.kind}
        colour = rng.choice([c for c in range(len(COLOURS)) if c not in taken])
        return f"{COLOURS[colour]} {item.name}"
    if rng.random() < 0.4:
        categories = {o.category for o in scene.objects}
        near = [k for k in SPRITES if CLASS_CATEGORIES[k] in categories and k not in present]
        if near:
            return CLASS_NAMES[rng.choice(near)]
    kind = rng.choice([k for k in SPRITES + SHAPES if k not in present])
    if kind in SHAPES and rng.random() < 0.5:
        return f"{rng.choice(COLOURS)} {CLASS_NAMES[kind]}"
    return CLASS_NAMES[kind]


def existence(scene, rng):
    template = chat_or_vqa(rng)
    if rng.random() < 0.5:
        group = rng.choice(groups_of(scene))
        name = refer(scene, group[0], rng)
        if len(group) == 1:
            long = f"Yes, there is {article(name)}."
        else:
            long = f"Yes, there are {counted(group)}."
        short = "yes"
    else:
        name = absent_phrase(scene, rng)
        long, short = f"No, there is no {name}.", "no"
    return Sample("existence", template, ask(rng, EXISTENCE, thing=article(name)),
                  long if template == "chat" else short)


COUNT = ["How many {things} are there?", "How many {things} are in the image?",
         "How many {things} can you see?", "How many {things} are there in the picture?",
         "Count the {things}.", "What is the number of {things}?"]


def _number_answer(template, number, one, many):
    if template == "vqa":
        return str(number)
    if number == 1:
        return f"There is one {one}."
    return f"There are {NUMBERS[number]} {many}."


def count_kind(scene, rng):
    template = chat_or_vqa(rng)
    roll = rng.random()
    if roll < 0.2:
        present = {o.kind for o in scene.objects}
        kind = rng.choice([k for k in SPRITES + SHAPES if k not in present])
        one, many, number = CLASS_NAMES[kind], CLASS_PLURALS[kind], 0
    else:
        groups = groups_of(scene)
        if roll < 0.7:
            groups = [g for g in groups if len(g) > 1] or groups
        item = rng.choice(groups)[0]
        if item.colour >= 0 and rng.random() < 0.5:
            one, many = item.phrase, plural(item)
            number = sum(o.phrase == item.phrase for o in scene.objects)
        else:
            one, many = item.name, CLASS_PLURALS[item.kind]
            number = sum(o.kind == item.kind for o in scene.objects)
    return Sample("count of a class", template, ask(rng, COUNT, things=many),
                  _number_answer(template, number, one, many))


def count_all(scene, rng):
    template = chat_or_vqa(rng)
    many = rng.choice(["objects", "objects", "things"])
    return Sample("count of all", template, ask(rng, COUNT, things=many),
                  _number_answer(template, len(scene.objects), many[:-1], many))


COLOUR = ["What color is the {thing}?", "What is the color of the {thing}?",
          "Which color is the {thing}?", "Tell me the color of the {thing}.",
          "What colour is the {thing}?"]


def colour(scene, rng):
    items = [o for o in scene.objects if o.colour >= 0
             and sum(p.kind == o.kind for p in scene.objects) == 1]
    if not items:
        return None
    item, template = rng.choice(items), chat_or_vqa(rng)
    name = COLOURS[item.colour]
    return Sample("colour", template, ask(rng, COLOUR, thing=item.name),
                  f"The {item.name} is {name}." if template == "chat" else name)


CATEGORY = ["What {category} is in the image?", "What {category} is this?",
            "Which {category} is in the picture?", "What {category} do you see?",
            "Which {category} can you see in the image?", "What kind of {category} is this?"]


def category(scene, rng):
    choices = []
    for name in CATEGORIES:
        items = [o for o in scene.objects if o.category == name]
        if len(items) == 1:
            choices.append((name, items[0]))
    if not choices:
        return None
    (name, item), template = rng.choice(choices), chat_or_vqa(rng)
    return Sample("category", template, ask(rng, CATEGORY, category=name),
                  article(item.phrase) if template == "chat" else item.phrase)


RELATION_OPEN = ["What is {relation} the {thing}?", "Which object is {relation} the {thing}?",
                 "What do you see {relation} the {thing}?", "What object is {relation} the {thing}?"]


def relation_open(scene, rng):
    choices = []
    for item in unique_objects(scene):
        for relation in RELATIONS:
            states = [(holds(o, item, relation), o) for o in scene.objects if o is not item]
            found = [o for state, o in states if state]
            if len(found) == 1 and all(state is not None for state, _ in states):
                choices.append((relation, item, found[0]))
    if not choices:
        return None
    (relation, item, found), template = rng.choice(choices), chat_or_vqa(rng)
    question = ask(rng, RELATION_OPEN, relation=relation, thing=refer(scene, item, rng))
    return Sample("relation", template, question,
                  article(found.phrase) if template == "chat" else found.phrase)


RELATION_CHECK = ["Is the {a} {relation} the {b}?", "Is the {a} {relation} the {b} in the image?"]


def relation_check(scene, rng):
    items = unique_objects(scene)
    choices = [(a, b, r) for a in items for b in items if a is not b
               for r in RELATIONS if holds(a, b, r) is not None]
    if not choices:
        return None
    (a, b, relation), template = rng.choice(choices), chat_or_vqa(rng)
    first, second = refer(scene, a, rng), refer(scene, b, rng)
    truth = holds(a, b, relation)
    if template == "vqa":
        answer = "yes" if truth else "no"
    else:
        actual = relation if truth else RELATIONS[relation][2]
        answer = f"{'Yes' if truth else 'No'}, the {first} is {actual} the {second}."
    question = ask(rng, RELATION_CHECK, a=first, b=second, relation=relation)
    return Sample("relation yes/no", template, question, answer)


POSITION = ["In which part of the image is the {thing}?", "Which part of the image is the {thing} in?",
            "In what part of the picture is the {thing}?", "What is the position of the {thing}?",
            "What is the position of the {thing} in the image?"]


def position_name(item):
    """Cell of a 3 x 3 grid, or None near a border between two cells."""
    cell = []
    for value in item.centre:
        if min(abs(value - CANVAS / 3), abs(value - 2 * CANVAS / 3)) < 4:
            return None
        cell.append(int(value * 3 / CANVAS))
    horizontal, vertical = ("left", "", "right")[cell[0]], ("top", "", "bottom")[cell[1]]
    return f"{vertical} {horizontal}".strip() or "center"


_AT = {"left": "on the left", "right": "on the right", "top": "at the top",
       "bottom": "at the bottom"}


def at_position(name):
    return _AT.get(name, f"in the {name}")


def position(scene, rng):
    items = [o for o in unique_objects(scene) if position_name(o)]
    if not items:
        return None
    item, template = rng.choice(items), chat_or_vqa(rng)
    name = refer(scene, item, rng)
    answer = position_name(item)
    if template == "chat":
        answer = f"The {name} is {at_position(answer)}."
    return Sample("position", template, ask(rng, POSITION, thing=name), answer)


SIZE_PAIR = ["Which is {more}, the {a} or the {b}?", "Which object is {more}, the {a} or the {b}?",
             "What is {more}, the {a} or the {b}?"]
SIZE_ALL = ["What is the {most} object?", "Which object is the {most}?",
            "What is the {most} object in the image?", "Which object is the {most} in the picture?"]


def size(scene, rng):
    items = sorted(unique_objects(scene), key=lambda o: o.area)
    if len(items) < 2:
        return None
    template = chat_or_vqa(rng)
    large = rng.random() < 0.6
    ranked = items[::-1] if large else items
    complete = len(items) == len(scene.objects)

    def clear(a, b):
        return max(a.area, b.area) >= 1.4 * min(a.area, b.area)

    if complete and len(items) > 2 and rng.random() < 0.5 and clear(ranked[0], ranked[1]):
        most = rng.choice(["largest", "biggest"]) if large else "smallest"
        winner = ranked[0].phrase
        question = ask(rng, SIZE_ALL, most=most)
    else:
        pairs = [(a, b) for a in items for b in items if a is not b and clear(a, b)]
        if not pairs:
            return None
        a, b = rng.choice(pairs)
        more = rng.choice(["larger", "bigger"]) if large else "smaller"
        names = refer(scene, a, rng), refer(scene, b, rng)
        winner = names[0] if (a.area > b.area) == large else names[1]
        question = ask(rng, SIZE_PAIR, more=more, a=names[0], b=names[1])
    return Sample("size", template, question, f"the {winner}" if template == "chat" else winner)


BACKGROUND = ["What is the background?", "What is in the background?",
              "What is the background of the image?", "Describe the background."]
BACKGROUND_COLOUR = ["What color is the background?", "What is the color of the background?"]


def background(scene, rng):
    template = chat_or_vqa(rng)
    name = BACKGROUNDS[scene.background]
    wordings = BACKGROUND
    if name in COLOURS and rng.random() < 0.5:
        wordings = BACKGROUND_COLOUR
    return Sample("background", template, ask(rng, wordings),
                  f"The background is {name}." if template == "chat" else name)


WHERE = ["Where is the {thing}?", "Where is the {thing} in the image?",
         "Where is the {thing}? answer in [[x0,y0,x1,y1]] format.",
         "Can you point out the {thing} in the image and provide the bounding boxes of its location?",
         "What are the bounding boxes of the {thing} in the image?",
         "Find the {thing}.", "Locate the {thing}.", "Locate the {thing} in the image.",
         "What is the bounding box of the {thing}?", "Find the {thing} in the picture."]


def where(scene, rng):
    items = unique_objects(scene)
    if not items:
        return None
    item = rng.choice(items)
    template = "base" if rng.random() < 0.45 else "chat"
    question = ask(rng, WHERE, thing=refer(scene, item, rng))
    return Sample("where is", template, question, box_text([item]), kind="box")


WHERE_ALL = ["Where are the {things}?", "Where are the {things} in the image?",
             "Find the {things}.", "Locate the {things}.",
             "What are the bounding boxes of the {things}?"]


def where_all(scene, rng):
    groups = [g for g in groups_of(scene) if len(g) > 1]
    template = "base" if rng.random() < 0.45 else "chat"
    if groups and rng.random() < 0.8:
        group = rng.choice(groups)
        name = plural(group[0])
    elif len(scene.objects) > 1:
        group, name = scene.objects, "objects"
    else:
        return None
    return Sample("where are", template, ask(rng, WHERE_ALL, things=name), box_text(group),
                  kind="box")


IN_BOX = ["What is in the box {box}?", "What is in {box}?", "What is at {box}?",
          "Which object is in the box {box}?",
          "Tell me what you see within the designated area {box} in the picture.",
          "Can you give me a description of the region {box} in image?",
          "Describe the object in the box {box}."]


def in_box(scene, rng):
    item = rng.choice(scene.objects)
    limits = (CANVAS,) * 4
    moved = tuple(max(0, min(limit, v + rng.randint(-2, 2))) for v, limit in zip(item.box, limits))
    text = "[[" + ",".join(f"{min(999, round(v * 1000 / CANVAS)):03d}" for v in moved) + "]]"
    template = rng.choice(["base", "base", "chat", "chat", "vqa"])
    return Sample("what is in box", template, ask(rng, IN_BOX, box=text),
                  item.phrase if template == "vqa" else article(item.phrase))


FOLLOW_WHERE = ["Where is it?", "Where is it in the image?", "What is its bounding box?"]
FOLLOW_COLOUR = ["What color is it?", "What is its color?"]
FOLLOW_POSITION = ["In which part of the image is it?", "What is its position?"]


def _subject(scene, sample):
    """The one object that a first answer is about."""
    if sample.task in ("category", "relation", "what is in box", "contents"):
        found = [o for o in unique_objects(scene)
                 if sample.answer in (o.phrase, article(o.phrase))]
        return found[0] if found else None
    return None


def two_turns(scene, rng):
    """A second question after any first one, at times about 'it'."""
    template = chat_or_vqa(rng)

    def turn(tasks):
        for _ in range(12):
            sample = rng.choice(tasks)(scene, rng)
            if sample and sample.template == template:
                return sample
        return None

    first = turn([category, relation_open, in_box, contents, existence, colour, count_kind,
                  caption, background, where])
    if first is None:
        return None
    item = _subject(scene, first)
    second = None
    if item and rng.random() < 0.75:
        cell = position_name(item)
        options = []
        if template == "chat":
            options.append((FOLLOW_WHERE, box_text([item]), "box"))
        if item.colour >= 0:
            name = COLOURS[item.colour]
            options.append((FOLLOW_COLOUR, f"It is {name}." if template == "chat" else name, "text"))
        if cell:
            options.append((FOLLOW_POSITION,
                            f"It is {at_position(cell)}." if template == "chat" else cell, "text"))
        if options:
            wordings, answer, kind = rng.choice(options)
            second = Sample("two turns", template, ask(rng, wordings), answer, kind)
    if second is None:
        second = turn([existence, count_kind, count_all, colour, relation_open, relation_check,
                       position, size, background, where, contents])
    if second is None or second.question == first.question:
        return None
    return Sample("two turns", template, second.question, second.answer, second.kind,
                  [(first.question, first.answer)])


# task and how often it is drawn
TASKS = [(caption, 1.8), (caption_with_boxes, 1.1), (contents, 0.8), (existence, 3.0),
         (count_kind, 2.0), (count_all, 0.6), (colour, 1.5), (category, 0.8),
         (relation_open, 2.0), (relation_check, 2.2), (position, 1.6), (size, 1.4),
         (background, 0.4), (where, 5.0), (where_all, 1.0), (in_box, 0.8), (two_turns, 1.5)]
TASK_FUNCTIONS = [t for t, _ in TASKS]
TASK_WEIGHTS = [w for _, w in TASKS]


def random_sample(scene, rng):
    while True:
        sample = rng.choices(TASK_FUNCTIONS, TASK_WEIGHTS)[0](scene, rng)
        if sample:
            return sample


def corpus(scenes, seed):
    """Lines for the tokenizer: samples, every name alone, every printable character."""
    rng = random.Random(seed)
    for scene in scenes:
        for _ in range(3):
            sample = random_sample(scene, rng)
            yield sample.prompt().replace("\n", " ")
            yield sample.answer
    for index, name in enumerate(CLASS_NAMES):
        for _ in range(60):
            yield f"a {name} and two {CLASS_PLURALS[index]}"
            yield f"the {name}"
    for name in COLOURS + list(BACKGROUNDS):
        for _ in range(60):
            yield f"a {name} one"
    for code in range(33, 127):
        for _ in range(3):
            yield f"{chr(code)} {chr(code)}"
