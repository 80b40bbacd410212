"""Pre-rendered pictures and their dense labels, in flat files that are mapped.

A data folder holds, for N scenes:

    pictures.u8   N x 112 x 112 x 3   the pictures
    patches.u8    N x 64              per patch 0: background, 1..4: object, 255: mixed
    scenes.i16    N x 26              background, number of objects, 4 x (kind, colour, box)
"""

import multiprocessing
import os

import numpy as np

from demo_scenes import CANVAS, MAX_OBJECTS, Scene, SceneObject, make_scene, render

PATCH = 14
GRID = CANVAS // PATCH
MIXED = 255
_FIELDS = 6
_SCENE_WIDTH = 2 + MAX_OBJECTS * _FIELDS


def scene_to_row(scene):
    row = np.full(_SCENE_WIDTH, -1, np.int16)
    row[0], row[1] = scene.background, len(scene.objects)
    for index, item in enumerate(scene.objects):
        row[2 + index * _FIELDS:2 + (index + 1) * _FIELDS] = (item.kind, item.colour, *item.box)
    return row


def row_to_scene(row):
    """What text needs of a scene: background, classes, colours and boxes."""
    values = row.tolist()
    scene = Scene(background=values[0])
    for index in range(values[1]):
        kind, colour, *box = values[2 + index * _FIELDS:2 + (index + 1) * _FIELDS]
        scene.objects.append(SceneObject(kind=kind, colour=colour, box=tuple(box)))
    return scene


def patch_labels(owner):
    """The object that covers each patch: 0 none, 255 too little to say."""
    cells = owner.reshape(GRID, PATCH, GRID, PATCH).transpose(0, 2, 1, 3).reshape(GRID * GRID, -1)
    covered = np.stack([(cells == i).mean(1) for i in range(1, MAX_OBJECTS + 1)], 1)
    best, share = covered.argmax(1) + 1, covered.max(1)
    return np.where(share >= 0.2, best, np.where(share <= 0.04, 0, MIXED)).astype(np.uint8)


class SceneStore:
    """Access to a data folder; `mode` 'r' or 'w+'."""

    def __init__(self, folder, count=None, mode="r"):
        if count is None:
            count = os.path.getsize(os.path.join(folder, "patches.u8")) // (GRID * GRID)
        self.count = count

        def table(name, dtype, *shape):
            return np.memmap(os.path.join(folder, name), dtype, mode, shape=(count, *shape))

        self.pictures = table("pictures.u8", np.uint8, CANVAS, CANVAS, 3)
        self.patches = table("patches.u8", np.uint8, GRID * GRID)
        self.scenes = table("scenes.i16", np.int16, _SCENE_WIDTH)


def _render_range(folder, count, first_seed, worker, workers):
    store = SceneStore(folder, count, "r+")
    for index in range(worker, count, workers):
        scene = make_scene(first_seed + index)
        picture, owner = render(scene, with_owner=True)
        store.pictures[index] = np.asarray(picture)
        store.patches[index] = patch_labels(owner)
        store.scenes[index] = scene_to_row(scene)


def render_store(folder, count, first_seed, workers=2):
    """Render scenes first_seed ... first_seed + count - 1 into `folder`."""
    os.makedirs(folder, exist_ok=True)
    SceneStore(folder, count, "w+")
    processes = [multiprocessing.Process(target=_render_range,
                                         args=(folder, count, first_seed, i, workers))
                 for i in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit("rendering failed")
