"""Outlines are exact: they enclose the pixels of their object and no others, and are valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.export.content import make_content
from napari_unet.export.runs import Objects, find_objects
from napari_unet.export.shapes import Outline, outlines, ring_area

SPECIAL = {
    "empty": ["...", "..."],
    "a single pixel": ["#"],
    "a pixel in the corner": ["#..", "...", "..#"],
    "full": ["###", "###"],
    "a hole": ["####", "#..#", "####"],
    "two holes that touch": ["####", "#.##", "##.#", "####"],
    "a hole that touches the outside": ["###", "#.#", "##."],
    "pixels that touch at a corner": [".#.", "#.#", ".#."],
    "an island in a hole": ["#####", "#...#", "#.#.#", "#...#", "#####"],
    "an island that touches its shore": ["#####", "##.##", "#.#.#", "##.##", "#####"],
    "rings in rings": ["#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"],
    "a comb": ["#.#.#.#", "#######"],
}


def drawn(rows: list[str]) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows], np.uint8)


def random(seed: int, *shape: int, values: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    share = (0.2, 0.5, 0.6, 0.8)[seed % 4]
    return (generator.random(shape) < share) * generator.integers(1, values, shape)


def found(mask: Any, objects: Any = None) -> Objects:
    return find_objects(make_content(Path("a"), mask, None, None, objects))


def filled(outline: Outline, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels inside, by how many edges lie to their left."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for ring in outline.rings:
        for (x, y), (other_x, other_y) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            assert (x == other_x) != (y == other_y), "edges go along rows or columns"
            if x == other_x:
                crossings[min(y, other_y) : max(y, other_y), x] += 1
    return crossings.cumsum(axis=1)[:, :-1] % 2 == 1


def numbered(objects: Objects, shape: tuple[int, ...]) -> np.ndarray:
    """The mask drawn again from the outlines, each object by its place from 1."""
    back = np.zeros(shape, int)
    planes = back.reshape(-1, *shape[-2:])
    for outline in outlines(objects):
        inside = filled(outline, shape[-2:])
        assert not planes[outline.plane][inside].any(), "no pixel is in two objects"
        assert inside.sum() == outline.area
        planes[outline.plane][inside] = outline.item + 1
    return back


def components(mask: np.ndarray) -> np.ndarray:
    """Connected parts of each class, corners included."""
    from scipy import ndimage

    parts, last = np.zeros(mask.shape, int), 0
    for value in np.unique(mask[mask > 0]):
        labels, n = ndimage.label(mask == value, np.ones((3,) * mask.ndim))
        parts[labels > 0] = labels[labels > 0] + last
        last += n
    return parts


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return all(len(np.unique(row)) == len(row) for row in pairs)


@pytest.mark.parametrize("rows", SPECIAL.values(), ids=SPECIAL)
def test_special_shapes(rows):
    mask = drawn(rows)

    objects = found(mask)

    assert np.array_equal(numbered(objects, mask.shape) > 0, mask > 0)
    for outline in outlines(objects):
        for outside, *holes in outline.polygons:
            assert ring_area(outside) > 0
            assert all(ring_area(hole) < 0 for hole in holes)
            for ring in (outside, *holes):
                assert len(np.unique(ring, axis=0)) == len(ring), "a ring meets itself"


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("shape", [(13, 11), (1, 9), (9, 1), (3, 8, 7)])
def test_parts_of_classes_are_those_that_scipy_finds(seed, shape):
    mask = random(seed, *shape)

    objects = found(mask)

    assert same_partition(numbered(objects, shape), components(mask))
    assert objects.numbers.tolist() == list(range(1, len(objects) + 1))


@pytest.mark.parametrize("seed", range(40))
def test_numbered_objects_keep_their_number_and_take_the_class_of_most_pixels(seed):
    numbers = 7 * random(seed, 12, 10, values=5)
    mask = random(seed + 1, 12, 10, values=4)

    objects = found(mask, numbers)

    back = numbered(objects, numbers.shape)
    assert np.array_equal(np.array([0, *objects.numbers])[back], numbers)
    for number, of in zip(objects.numbers, objects.classes, strict=True):
        votes = np.bincount(mask[numbers == number], minlength=5)[1:]
        assert votes[of - 1] == votes.max() if of else votes.sum() == 0


@pytest.mark.parametrize("seed", range(12))
def test_shapely_finds_every_outline_valid(seed):
    shapely = pytest.importorskip("shapely")
    mask = random(seed, 30, 30)

    for outline in outlines(found(mask)):
        shape = shapely.MultiPolygon([(outside, holes) for outside, *holes in outline.polygons])
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == outline.area


def test_an_object_does_not_reach_from_one_time_to_the_next():
    mask = np.ones((2, 3, 4, 5), np.uint8)  # TZYX

    objects = found(mask)

    assert len(objects) == 2
    assert [outline.plane for outline in outlines(objects)] == [0, 1, 2, 3, 4, 5]


def test_the_same_number_at_two_times_is_two_objects():
    numbers = np.full((2, 1, 4, 5), 9)

    objects = found(np.ones_like(numbers), numbers)

    assert objects.numbers.tolist() == [9, 9]
