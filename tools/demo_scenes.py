"""Synthetic scenes for the demo model.

A scene is one to four objects (emoji sprites and coloured shapes) on a
background, fully determined by an integer seed.  This module makes a scene
(`make_scene`), draws it at any size (`render`) and tells which object every
pixel belongs to (`owner_map`).  `demo_text.py` writes questions and answers
about a scene, `train_demo.py` trains on both.

Run it directly to write a few scenes as PNG files:

    python3 tools/demo_scenes.py --seed 1 --count 8 --out scenes
"""

import argparse
import functools
import io
import math
import os
import random
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

CANVAS = 112          # side of the model's input; scene coordinates use it
MAX_OBJECTS = 4
EMOJI_FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
EMOJI_STRIKE = 109    # the only bitmap size in the font

COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "pink",
           "brown", "black", "white", "gray"]
COLOUR_RGB = {
    "red": (220, 30, 35), "orange": (250, 135, 20), "yellow": (250, 220, 40),
    "green": (40, 160, 60), "blue": (40, 90, 220), "purple": (130, 50, 175),
    "pink": (250, 140, 190), "brown": (120, 72, 35), "black": (22, 22, 24),
    "white": (246, 246, 246), "gray": (135, 135, 138),
}
PLACES = ["grass", "beach", "snow", "night", "water"]
BACKGROUNDS = COLOURS + PLACES

# name, plural, category, [(emoji, colour or None), ...]
_CLASSES = [
    ("cat", "cats", "animal", [("🐱", None), ("🐈", None)]),
    ("dog", "dogs", "animal", [("🐶", None), ("🐕", None)]),
    ("rabbit", "rabbits", "animal", [("🐰", None), ("🐇", None)]),
    ("bear", "bears", "animal", [("🐻", None)]),
    ("panda", "pandas", "animal", [("🐼", None)]),
    ("fox", "foxes", "animal", [("🦊", None)]),
    ("tiger", "tigers", "animal", [("🐯", None), ("🐅", None)]),
    ("lion", "lions", "animal", [("🦁", None)]),
    ("cow", "cows", "animal", [("🐮", None), ("🐄", None)]),
    ("pig", "pigs", "animal", [("🐷", None), ("🐖", None)]),
    ("monkey", "monkeys", "animal", [("🐵", None), ("🐒", None)]),
    ("frog", "frogs", "animal", [("🐸", None)]),
    ("horse", "horses", "animal", [("🐴", None), ("🐎", None)]),
    ("chicken", "chickens", "animal", [("🐔", None), ("🐓", None)]),
    ("penguin", "penguins", "animal", [("🐧", None)]),
    ("bird", "birds", "animal", [("🐦", None)]),
    ("duck", "ducks", "animal", [("🦆", None)]),
    ("owl", "owls", "animal", [("🦉", None)]),
    ("turtle", "turtles", "animal", [("🐢", None)]),
    ("fish", "fish", "animal", [("🐟", None), ("🐠", None)]),
    ("whale", "whales", "animal", [("🐳", None), ("🐋", None)]),
    ("elephant", "elephants", "animal", [("🐘", None)]),
    ("butterfly", "butterflies", "animal", [("🦋", None)]),
    ("bee", "bees", "animal", [("🐝", None)]),
    ("apple", "apples", "food", [("🍎", "red"), ("🍏", "green")]),
    ("pear", "pears", "food", [("🍐", None)]),
    ("lemon", "lemons", "food", [("🍋", None)]),
    ("banana", "bananas", "food", [("🍌", None)]),
    ("strawberry", "strawberries", "food", [("🍓", None)]),
    ("pineapple", "pineapples", "food", [("🍍", None)]),
    ("carrot", "carrots", "food", [("🥕", None)]),
    ("burger", "burgers", "food", [("🍔", None)]),
    ("pizza", "pizzas", "food", [("🍕", None)]),
    ("donut", "donuts", "food", [("🍩", None)]),
    ("cake", "cakes", "food", [("🎂", None), ("🍰", None)]),
    ("mushroom", "mushrooms", "food", [("🍄", None)]),
    ("car", "cars", "vehicle", [("🚗", "red"), ("🚙", "blue")]),
    ("taxi", "taxis", "vehicle", [("🚕", None)]),
    ("bus", "buses", "vehicle", [("🚌", None)]),
    ("train", "trains", "vehicle", [("🚂", None)]),
    ("bicycle", "bicycles", "vehicle", [("🚲", None)]),
    ("airplane", "airplanes", "vehicle", [("✈", None)]),
    ("helicopter", "helicopters", "vehicle", [("🚁", None)]),
    ("rocket", "rockets", "vehicle", [("🚀", None)]),
    ("ship", "ships", "vehicle", [("🚢", None)]),
    ("tractor", "tractors", "vehicle", [("🚜", None)]),
    ("house", "houses", "thing", [("🏠", None), ("🏡", None)]),
    ("castle", "castles", "thing", [("🏰", None)]),
    ("tree", "trees", "thing", [("🌳", None), ("🌲", None)]),
    ("cactus", "cactuses", "thing", [("🌵", None)]),
    ("sunflower", "sunflowers", "thing", [("🌻", None)]),
    ("rose", "roses", "thing", [("🌹", None)]),
    ("sun", "suns", "thing", [("☀", None), ("🌞", None)]),
    ("moon", "moons", "thing", [("🌙", None)]),
    ("cloud", "clouds", "thing", [("☁", None)]),
    ("umbrella", "umbrellas", "thing", [("☂", None), ("☔", None)]),
    ("clock", "clocks", "thing", [("⏰", None), ("🕒", None)]),
    ("key", "keys", "thing", [("🔑", None)]),
    ("crown", "crowns", "thing", [("👑", None)]),
    ("guitar", "guitars", "thing", [("🎸", None)]),
    ("drum", "drums", "thing", [("🥁", None)]),
    ("camera", "cameras", "thing", [("📷", None)]),
    ("book", "books", "thing", [("📕", "red"), ("📗", "green"),
                                ("📘", "blue"), ("📙", "orange")]),
    ("robot", "robots", "thing", [("🤖", None)]),
    ("circle", "circles", "shape", None),
    ("square", "squares", "shape", None),
    ("triangle", "triangles", "shape", None),
    ("star", "stars", "shape", None),
    ("heart", "hearts", "shape", None),
]
CLASS_NAMES = [c[0] for c in _CLASSES]
CLASS_PLURALS = [c[1] for c in _CLASSES]
CLASS_CATEGORIES = [c[2] for c in _CLASSES]
SPRITES = [i for i, c in enumerate(_CLASSES) if c[3]]
SHAPES = [i for i, c in enumerate(_CLASSES) if not c[3]]

# A white star cannot be seen on snow: colours (of shapes) and classes that a
# place would hide.
_HIDDEN_COLOURS = {"grass": {"green"}, "beach": {"yellow", "orange"},
                   "snow": {"white"}, "night": {"black"}, "water": {"blue"}}
_HIDDEN_CLASSES = {"snow": {"cloud"}, "white": {"cloud"}, "black": {"drum"},
                   "water": {"whale"}}

# Longest side of an object, in canvas pixels, by the number of objects.
_SIDES = {1: (40, 92), 2: (38, 62), 3: (34, 50), 4: (30, 42)}
_ANGLES = (-15, -10, -5, 0, 5, 10, 15)


@dataclass
class SceneObject:
    """One object.  `box` is (x0, y0, x1, y1) in canvas pixels, x1/y1 exclusive."""
    kind: int
    colour: int                      # index into COLOURS, -1: none worth naming
    box: tuple
    variant: int = 0
    angle: int = 0
    mirror: bool = False
    gain: tuple = (1.0, 1.0, 1.0)    # brightness of the three channels
    saturation: float = 1.0

    @property
    def name(self):
        return CLASS_NAMES[self.kind]

    @property
    def category(self):
        return CLASS_CATEGORIES[self.kind]

    @property
    def phrase(self):
        """Name with the colour where one is worth naming: 'red circle', 'dog'."""
        return f"{COLOURS[self.colour]} {self.name}" if self.colour >= 0 else self.name

    @property
    def centre(self):
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def area(self):
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


@dataclass
class Scene:
    """Objects are stored in reading order: see `_reading_order`."""
    background: int
    objects: list = field(default_factory=list)
    seed: int = 0


# ----------------------------------------------------------------- sprites


@functools.lru_cache(maxsize=None)
def _emoji(character):
    font = ImageFont.truetype(EMOJI_FONT, EMOJI_STRIKE)
    image = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(image).text((10, 10), character, font=font, embedded_color=True)
    return image


@functools.lru_cache(maxsize=None)
def _shape(name):
    side, margin = 320, 20
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    low, high, middle = margin, side - margin, side / 2
    radius = middle - margin
    if name == "circle":
        draw.ellipse((low, low, high, high), fill=255)
    elif name == "square":
        draw.rectangle((low + 10, low + 10, high - 10, high - 10), fill=255)
    elif name == "triangle":
        draw.polygon([(middle, low), (high, high - 20), (low, high - 20)], fill=255)
    elif name == "star":
        points = []
        for i in range(10):
            r = radius if i % 2 == 0 else radius * 0.42
            a = math.pi * i / 5 - math.pi / 2
            points.append((middle + r * math.cos(a), middle + r * math.sin(a)))
        draw.polygon(points, fill=255)
    elif name == "heart":
        points = []
        for i in range(120):
            t = 2 * math.pi * i / 120
            points.append((middle + radius / 17 * 16 * math.sin(t) ** 3,
                           middle - 10 - radius / 17 * (13 * math.cos(t) - 5 * math.cos(2 * t)
                                                        - 2 * math.cos(3 * t) - math.cos(4 * t))))
        draw.polygon(points, fill=255)
    else:
        raise ValueError(name)
    mask = mask.resize((160, 160), Image.LANCZOS)
    image = Image.new("RGBA", mask.size, (255, 255, 255, 0))
    image.putalpha(mask)
    return image


@functools.lru_cache(maxsize=None)
def _sprite(kind, variant, angle, mirror):
    """The rotated sprite, cropped to its visible part."""
    variants = _CLASSES[kind][3]
    image = _emoji(variants[variant][0]) if variants else _shape(CLASS_NAMES[kind])
    if mirror:
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
    if angle:
        image = image.convert("RGBa").rotate(angle, Image.BICUBIC).convert("RGBA")
    visible = image.getchannel("A").point(lambda a: 255 if a > 60 else 0)
    return image.crop(visible.getbbox())


# ------------------------------------------------------------------ layout


def _overlap(a, b):
    """Shared area of two boxes as a part of the smaller one."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return width * height / smaller


def _readable(boxes):
    """True if the boxes hardly overlap and their order can be told."""
    centres = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in boxes]
    for i, box in enumerate(boxes):
        for j in range(i):
            if _overlap(box, boxes[j]) > 0.04:
                return False
            dx = abs(centres[i][0] - centres[j][0])
            dy = abs(centres[i][1] - centres[j][1])
            if len(boxes) == 2 and abs(dx - dy) < 10:
                return False
            if len(boxes) > 2 and dx < 9:
                return False
    return True


def _reading_order(objects):
    """Left to right; two objects one above the other: top to bottom."""
    if len(objects) == 2:
        (ax, ay), (bx, by) = (o.centre for o in objects)
        axis = 0 if abs(ax - bx) > abs(ay - by) else 1
        return sorted(objects, key=lambda o: o.centre[axis])
    return sorted(objects, key=lambda o: o.centre[0])


def _choose_kinds(rng, count, background):
    """Class, variant and colour of every object."""
    place = BACKGROUNDS[background]
    hidden_colours = _HIDDEN_COLOURS.get(place, {place})
    hidden_classes = _HIDDEN_CLASSES.get(place, set())

    def draw(kind=None):
        while True:
            chosen = kind
            if chosen is None:
                chosen = rng.choice(SHAPES if rng.random() < 0.22 else SPRITES)
            if CLASS_NAMES[chosen] in hidden_classes:
                continue
            variants = _CLASSES[chosen][3]
            variant = rng.randrange(len(variants)) if variants else 0
            if variants:
                name = variants[variant][1]
                return chosen, variant, COLOURS.index(name) if name else -1
            colour = rng.randrange(len(COLOURS))
            if COLOURS[colour] not in hidden_colours:
                return chosen, 0, colour

    chosen = [draw()]
    while len(chosen) < count:
        if rng.random() < 0.18:
            kind, variant, colour = rng.choice(chosen)
            # the same thing again, or the same class in another look
            chosen.append((kind, variant, colour) if rng.random() < 0.6 else draw(kind))
        else:
            chosen.append(draw())
    return chosen


def make_scene(seed, count=None, stretch=None):
    """The scene of a seed.

    count    fixes the number of objects
    stretch  fixes the factor by which objects are wider and flatter than their
             pictures; a third of the scenes have one, because pictures that are
             not square reach the model squashed
    """
    rng = random.Random(seed * 2654435761 % (1 << 61))
    if rng.random() < 0.7:
        background = rng.randrange(len(COLOURS))
    else:
        background = len(COLOURS) + rng.randrange(len(PLACES))
    drawn = rng.choices((1, 2, 3, 4), (25, 35, 34, 6))[0]
    count = count or drawn
    kinds = _choose_kinds(rng, count, background)
    drawn = math.exp(rng.uniform(-0.32, 0.32)) if rng.random() < 0.35 else 1.0
    stretch = stretch or drawn

    looks = []
    for kind, variant, _ in kinds:
        angle = rng.choice(_ANGLES)
        mirror = rng.random() < 0.5
        width, height = _sprite(kind, variant, angle, mirror).size
        looks.append((angle, mirror, width * stretch, height / stretch))

    shrink = 1.0
    while True:
        boxes = []
        for _, _, width, height in looks:
            scale = rng.uniform(*_SIDES[count]) * shrink / max(width, height)
            w = max(14, min(CANVAS - 2, round(width * scale)))
            h = max(14, min(CANVAS - 2, round(height * scale)))
            x0 = rng.randint(0, CANVAS - w)
            y0 = rng.randint(0, CANVAS - h)
            boxes.append((x0, y0, x0 + w, y0 + h))
        if _readable(boxes):
            break
        shrink = max(0.75, shrink * 0.997)

    scene = Scene(background=background, seed=seed)
    for (kind, variant, colour), (angle, mirror, _, _), box in zip(kinds, looks, boxes):
        brightness = rng.uniform(0.86, 1.1)
        gain = tuple(brightness * rng.uniform(0.97, 1.03) for _ in range(3))
        scene.objects.append(SceneObject(
            kind=kind, colour=colour, box=box, variant=variant, angle=angle,
            mirror=mirror, gain=gain, saturation=rng.uniform(0.8, 1.1)))
    scene.objects = _reading_order(scene.objects)
    return scene


# --------------------------------------------------------------- rendering


def _jittered(name, noise, spread=0.5):
    base = np.array(COLOUR_RGB[name], np.float32)
    return np.clip(base + noise.uniform(-22, 22, 3).astype(np.float32) * spread, 0, 255)


def _smooth_noise(noise, cells, width, height):
    grid = noise.random((cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.BICUBIC))


def _colour_background(name, noise, width, height):
    tone = _jittered(name, noise)
    style = noise.integers(6)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x * (CANVAS / width), y * (CANVAS / height)
    if style <= 1:
        level = np.zeros((height, width), np.float32)
    elif style == 2:
        angle = noise.uniform(0, 2 * math.pi)
        level = ((x - 56) * math.cos(angle) + (y - 56) * math.sin(angle)) / 56 * noise.uniform(8, 22)
    elif style == 3:
        level = (_smooth_noise(noise, int(noise.integers(4, 14)), width, height) - 0.5) * noise.uniform(15, 40)
    elif style == 4:
        angle, period = noise.uniform(0, math.pi), noise.uniform(8, 22)
        wave = (x * math.cos(angle) + y * math.sin(angle)) / period
        level = np.where(wave % 1 < 0.5, 1, -1) * noise.uniform(5, 11)
    else:
        period = noise.uniform(10, 24)
        level = np.where((x // period + y // period) % 2 < 1, 1, -1) * noise.uniform(5, 11)
    return tone + level[..., None].astype(np.float32)


def _place_background(name, noise, width, height):
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    grain = noise.random((height, width, 1)).astype(np.float32) - 0.5
    if name == "night":
        sky = np.array([14, 18, 52], np.float32) + y * np.array([22, 20, 40], np.float32)
        picture = sky + np.zeros((height, width, 3), np.float32) + grain * 4
        unit = max(1, round(width / CANVAS))
        for _ in range(int(noise.integers(25, 50))):
            px, py = int(noise.integers(width)), int(noise.integers(height))
            picture[py:py + unit, px:px + unit] += noise.uniform(90, 220)
        return picture
    sky = np.array([150, 200, 245], np.float32) + y * np.array([60, 35, 8], np.float32)
    horizon = noise.uniform(0.22, 0.5)
    soft = _smooth_noise(noise, 12, width, height)[..., None] - 0.5
    if name == "grass":
        ground = np.array([88, 172, 58], np.float32) + grain * 45 + soft * 35
    elif name == "snow":
        sky = sky * 0.55 + np.array([175, 185, 200], np.float32) * 0.45
        ground = np.array([238, 242, 250], np.float32) + soft * 18 + grain * 8
    elif name == "beach":
        ground = np.array([236, 208, 148], np.float32) + grain * 26 + soft * 18
        sea = np.array([45, 135, 195], np.float32) + grain * 10
        ground = np.where(y < horizon + 0.14, sea, ground)
    elif name == "water":
        x = np.linspace(0, CANVAS, width, dtype=np.float32)[None, :, None]
        waves = np.sin(y * CANVAS * 0.9 + 1.5 * np.sin(x * noise.uniform(0.1, 0.2)))
        ground = np.array([35, 110, 185], np.float32) + waves * 16 + soft * 14
        horizon *= 0.6
    else:
        raise ValueError(name)
    return np.where(y < horizon, sky, ground)


def _object_image(item, noise, width, height):
    """The object as (float colour, alpha image) at its size in pixels."""
    image = _sprite(item.kind, item.variant, item.angle, item.mirror)
    image = image.resize((width, height), Image.BICUBIC)
    alpha = image.getchannel("A")
    if item.category == "shape":
        tone = _jittered(COLOURS[item.colour], noise, 0.6)
        shade = np.linspace(6, -6, height, dtype=np.float32)[:, None, None]
        pixels = np.broadcast_to(tone + shade, (height, width, 3))
    else:
        pixels = np.asarray(image)[..., :3].astype(np.float32)
        grey = pixels.mean(2, keepdims=True)
        pixels = (grey + (pixels - grey) * item.saturation) * np.array(item.gain, np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), alpha


def _pixel_box(box, width, height):
    x0, y0, x1, y1 = box
    return (round(x0 * width / CANVAS), round(y0 * height / CANVAS),
            round(x1 * width / CANVAS), round(y1 * height / CANVAS))


def render(scene, width=CANVAS, height=CANVAS, with_owner=False):
    """Draw a scene as an RGB picture of width x height.

    with_owner also returns an array that holds, for every pixel, 0 for the
    background or 1 + the index of the visible object.
    """
    noise = np.random.default_rng(scene.seed)
    name = BACKGROUNDS[scene.background]
    make = _colour_background if scene.background < len(COLOURS) else _place_background
    picture = make(name, noise, width, height)
    picture = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    owner = np.zeros((height, width), np.uint8)
    for index, item in enumerate(scene.objects):
        x0, y0, x1, y1 = _pixel_box(item.box, width, height)
        pixels, alpha = _object_image(item, noise, x1 - x0, y1 - y0)
        picture.paste(pixels, (x0, y0), alpha)
        if with_owner:
            owner[y0:y1, x0:x1][np.asarray(alpha) > 127] = index + 1
    picture = _degrade(picture, noise)
    return (picture, owner) if with_owner else picture


def _degrade(picture, noise):
    """Blur, sensor noise and JPEG artefacts on a share of the pictures."""
    blur, grain, jpeg = noise.random(3)
    if blur < 0.12:
        radius = noise.uniform(0.4, 0.8) * picture.width / CANVAS
        picture = picture.filter(ImageFilter.GaussianBlur(radius))
    if grain < 0.3:
        pixels = np.asarray(picture).astype(np.float32)
        pixels += noise.standard_normal(pixels.shape, dtype=np.float32) * noise.uniform(1, 7)
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if jpeg < 0.3:
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=int(noise.integers(55, 96)))
        picture = Image.open(data).convert("RGB")
    return picture


def main():
    parser = argparse.ArgumentParser(description="Write scenes as PNG files.")
    parser.add_argument("--seed", type=int, default=1, help="first seed (default 1)")
    parser.add_argument("--count", type=int, default=8, help="number of scenes (default 8)")
    parser.add_argument("--size", type=int, default=CANVAS, help="side in pixels (default 112)")
    parser.add_argument("--out", default="scenes", help="folder to write to")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    for seed in range(args.seed, args.seed + args.count):
        scene = make_scene(seed)
        render(scene, args.size, args.size).save(os.path.join(args.out, f"{seed}.png"))
        listed = ", ".join(f"{o.phrase} {o.box}" for o in scene.objects)
        print(f"{seed}: {BACKGROUNDS[scene.background]}: {listed}")


if __name__ == "__main__":
    main()
