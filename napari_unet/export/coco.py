"""COCO: an image for each plane, an annotation for each object in it, polygons or runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.atomic import atomic_file
from napari_unet.export.content import Content, rgb
from napari_unet.export.labels import OBJECT
from napari_unet.export.runs import Objects, find_objects
from napari_unet.export.shapes import Outline, outlines


def write_coco(path: Path, content: Content, overwrite: bool) -> None:
    """Write objects as polygons, and those with holes, which polygons cannot have, as runs."""
    with atomic_file(path, overwrite) as temporary, temporary.open("w", encoding="utf-8") as file:
        objects = find_objects(content)
        parts = {
            "images": _images(content),
            "categories": _categories(content, objects),
            "annotations": _annotations(content, objects),
        }
        file.write('{"info": {"description": "Written by napari-unet"}')
        for name, items in parts.items():
            file.write(f',\n"{name}": [')
            for i, item in enumerate(items):
                file.write((",\n" if i else "\n") + json.dumps(item))
            file.write("]")
        file.write("}\n")


def _images(content: Content) -> Iterator[dict[str, Any]]:
    image, (height, width) = content.image, content.shape[-2:]
    file = image.path.name if image and image.path else image.name if image else "image"
    for plane in range(content.planes):
        place = {axis.lower(): at for axis, at in content.plane(plane).items()}
        yield {"id": plane + 1, "file_name": file, "width": width, "height": height, **place}


def _categories(content: Content, objects: Objects) -> Iterator[dict[str, Any]]:
    """The classes; objects without one are of a category of their own."""
    highest = max(len(content.classes), int(objects.classes.max(initial=0)))
    for number in range(1, highest + 1):
        item = content.class_of(number)
        color = list(rgb(item.color))
        yield {"id": number, "name": item.name, "supercategory": "", "color": color}
    if not (objects.classes > 0).all():
        yield {"id": highest + 1, "name": OBJECT, "supercategory": ""}


def _annotations(content: Content, objects: Objects) -> Iterator[dict[str, Any]]:
    none = max(len(content.classes), int(objects.classes.max(initial=0))) + 1
    for i, outline in enumerate(outlines(objects), 1):
        left, top, right, bottom = outline.box
        yield {
            "id": i,
            "image_id": outline.plane + 1,
            "category_id": int(objects.classes[outline.item]) or none,
            "object": int(objects.numbers[outline.item]),
            "segmentation": _segmentation(outline, content.shape),
            "area": outline.area,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
        }


def _segmentation(outline: Outline, shape: tuple[int, ...]) -> Any:
    if not outline.has_holes:
        return [ring.ravel().tolist() for ring in outline.rings]
    height, width = shape[-2:]
    return {"size": [height, width], "counts": packed(run_lengths(outline, height, width))}


def run_lengths(outline: Outline, height: int, width: int) -> np.ndarray:
    """The lengths of runs down the columns of the whole image, outside and inside in turn."""
    columns, rows = _crossings(outline)
    # Down a column, the edges that lie across it are in turn where the object begins and ends;
    # where it ends at the foot of one column and begins at the head of the next, it goes on.
    ends = np.sort(columns * height + rows)
    again = np.flatnonzero(ends[1:] == ends[:-1])
    ends = np.delete(ends, np.concatenate([again, again + 1]))
    lengths = np.diff(ends, prepend=0, append=height * width)
    return lengths if lengths[-1] else lengths[:-1]


def _crossings(outline: Outline) -> tuple[np.ndarray, np.ndarray]:
    """Where horizontal edges lie across columns: column and row of each."""
    columns, rows = [], []
    for ring in outline.rings:
        x, y = ring.astype(np.int64).T
        along = np.roll(x, -1)
        flat = np.flatnonzero(x != along)
        left, lengths = np.minimum(x, along)[flat], np.abs(along - x)[flat]
        before = np.repeat(np.cumsum(lengths) - lengths, lengths)
        columns.append(np.repeat(left, lengths) + np.arange(len(before)) - before)
        rows.append(np.repeat(y[flat], lengths))
    return np.concatenate(columns), np.concatenate(rows)


def packed(lengths: Iterable[int]) -> str:
    """Run lengths in COCO's letters: differences to the length two before, 5 bits to a letter."""
    values = np.asarray(lengths, np.int64).tolist()
    letters = []
    for i, value in enumerate(values):
        rest, more = value - values[i - 2] if i > 2 else value, True
        while more:
            bits = rest & 31
            rest >>= 5
            more = rest != (-1 if bits & 16 else 0)
            letters.append(chr((bits | 32 if more else bits) + 48))
    return "".join(letters)
