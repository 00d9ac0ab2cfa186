"""Measurements of objects as a table: how large, where, of which class, how bright."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.atomic import atomic_file
from napari_unet.export.content import Content, bands
from napari_unet.export.labels import class_of
from napari_unet.export.runs import Objects, Runs, find_objects, line_numbers, neighbours

_ROWS = 128  # of an image that are read at a time; they become float64

Columns = dict[str, np.ndarray]


def write_csv(path: Path, content: Content, overwrite: bool) -> None:
    """Write a line for each object; sizes and places are in the unit that the table names."""
    with (
        atomic_file(path, overwrite) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        columns = measure(content)
        table = csv.writer(file)
        table.writerow(columns)
        # As Python's own numbers, which are written with all their digits.
        table.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def measure(content: Content) -> Columns:
    """The columns of the table by name, an entry for each object."""
    objects = find_objects(content)
    names = [class_of(content, int(number)) for number in objects.classes]
    columns: Columns = {
        "label": objects.numbers,
        "class": np.array([item.name if item else "" for item in names], object),
        "unit": np.full(len(objects), content.unit, object),
    }
    columns |= _boxes(objects, content)
    columns |= _sizes(objects, content)
    columns |= _centroids(objects, content)
    if content.image is not None:
        columns |= _intensities(objects, content.image.data)
    return columns


def _places(runs: Runs, content: Content) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The first and the last pixel of each run along each axis."""
    outer = content.shape[:-2]
    planes = np.unravel_index(runs.plane, outer) if outer else ()
    places = {a: (p, p) for a, p in zip(content.axes[:-2], planes, strict=True)}
    return places | {"Y": (runs.row, runs.row), "X": (runs.start, runs.stop - 1)}


def _boxes(objects: Objects, content: Content) -> Columns:
    """The box around each object in pixels, its end excluded; its time is a number."""
    columns: Columns = {}
    for axis, (first, last) in _places(objects.runs, content).items():
        low = np.full(len(objects), np.iinfo(np.int32).max, np.int64)
        high = np.full(len(objects), -1, np.int64)
        np.minimum.at(low, objects.runs.item, first)
        np.maximum.at(high, objects.runs.item, last)
        if axis == "T":
            columns["time"] = low
        else:
            columns |= {f"bbox_{axis.lower()}0": low, f"bbox_{axis.lower()}1": high + 1}
    return columns


def _sizes(objects: Objects, content: Content) -> Columns:
    """Area and perimeter, or volume and surface of what has slices."""
    pixels = _sums(objects, objects.runs.length)
    size = pixels * _pixel_size(content)
    border = _borders(objects, content, pixels)
    first, second = ("volume", "surface") if "Z" in content.axes else ("area", "perimeter")
    return {"pixels": pixels.astype(np.int64), first: size, second: border}


def _pixel_size(content: Content) -> float:
    """The area or the volume of a pixel."""
    return math.prod(content.steps) * abs(float(np.linalg.det(_axes(content))))


def _axes(content: Content) -> np.ndarray:
    """The directions of the axes in space, one in each column.

    They are at right angles, unless the image says otherwise, as one of a tilted gantry does.
    """
    affine, n = content.image.affine if content.image else None, len(content.space)
    if affine is None or len(affine) != n + 1:
        return np.eye(n)
    matrix = np.array(affine)[:n, :n]
    directions: np.ndarray = matrix / np.linalg.norm(matrix, axis=0)
    return directions


def _centroids(objects: Objects, content: Content) -> Columns:
    runs, pixels = objects.runs, _sums(objects, objects.runs.length)
    columns: Columns = {}
    places = _places(runs, content)
    for axis, step in zip(content.space, content.steps, strict=True):
        first, last = places[axis]
        middle = _sums(objects, (first + last) / 2 * runs.length) / pixels
        columns[f"centroid_{axis.lower()}"] = middle * step
    return columns


def _borders(objects: Objects, content: Content, pixels: np.ndarray) -> np.ndarray:
    """Perimeter or surface by Crofton: how often lines in all directions enter and leave.

    Unlike the length along the edges of pixels it is right for slanting borders.
    """
    directions = _directions(len(content.space))
    vectors = (directions * content.steps) @ _axes(content).T
    weights = _weights(vectors)
    factor = math.pi if len(content.space) == 2 else 4.0
    total, size = np.zeros(len(objects)), _pixel_size(content)
    for direction, vector, weight in zip(directions, vectors, weights, strict=True):
        entered = pixels - _kept(objects, content, direction)
        total += weight * entered * size / math.hypot(*vector)
    return factor * total


def _directions(ndim: int) -> np.ndarray:
    """A neighbour in each direction, of two that lie opposite only the one further on."""
    steps = [step for step in product((-1, 0, 1), repeat=ndim) if step > (0,) * ndim]
    return np.array(steps)


def _weights(vectors: np.ndarray) -> np.ndarray:
    """The share of all directions for which each vector stands."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    both = np.concatenate([unit, -unit])
    if vectors.shape[1] == 2:
        angles = np.arctan2(both[:, 0], both[:, 1])
        order = np.argsort(angles)
        gaps = np.diff(angles[order], append=angles[order[0]] + 2 * math.pi)
        shares = np.empty(len(both))
        shares[order] = (gaps + np.roll(gaps, 1)) / 2 / (2 * math.pi)
    else:
        from scipy.spatial import SphericalVoronoi

        shares = SphericalVoronoi(both).calculate_areas() / (4 * math.pi)
    found: np.ndarray = shares[: len(unit)] + shares[len(unit) :]
    return found


def _kept(objects: Objects, content: Content, direction: np.ndarray) -> np.ndarray:
    """How many pixels of each object have a neighbour of the same object in a direction."""
    runs = objects.runs
    *depth, down, right = (int(n) for n in direction)
    if not any(depth) and not down:
        return _sums(objects, runs.length - 1)
    planes = content.shape[content.axes.index("Z")] if "Z" in content.axes else 1
    lines, height = line_numbers(runs, planes)
    ahead = (depth[0] * height if depth else 0) + down
    first, second = neighbours(runs, lines, ahead, 1)
    begin = np.maximum(runs.start[first] + right, runs.start[second])
    end = np.minimum(runs.stop[first] + right, runs.stop[second])
    shared = np.maximum(end - begin, 0)
    return np.bincount(runs.item[first], shared, len(objects))


def _sums(objects: Objects, values: np.ndarray) -> np.ndarray:
    return np.bincount(objects.runs.item, values, len(objects))


def _intensities(objects: Objects, image: Any) -> Columns:
    columns: Columns = {}
    for channel in range(image.shape[0]):
        total = np.zeros(len(objects))
        low, high = np.full(len(objects), np.inf), np.full(len(objects), -np.inf)
        for item, sums, least, most in _bright(objects.runs, image, channel):
            np.add.at(total, item, sums)
            np.minimum.at(low, item, least)
            np.maximum.at(high, item, most)
        mean = total / np.maximum(_sums(objects, objects.runs.length), 1)
        columns |= {f"mean_{channel}": mean, f"min_{channel}": low, f"max_{channel}": high}
    return columns


def _bright(runs: Runs, image: Any, channel: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Object, sum, minimum and maximum of each run in a channel, a band of it at a time."""
    outer = tuple(image.shape[1:-2])
    place = runs.plane.astype(np.int64) * image.shape[-2] + runs.row
    for where, band in bands(image, _ROWS, (channel,)):
        plane = int(np.ravel_multi_index(where[:-1], outer)) if outer else 0
        top = plane * image.shape[-2] + where[-1].start
        first, last = np.searchsorted(place, [top, top + band.shape[0]])
        if first == last:
            continue
        here = runs[slice(first, last)]
        offset = (place[first:last] - top) * band.shape[1]
        ends = np.stack([offset + here.start, offset + here.stop], axis=1).ravel()
        # A value more, so that the last run may end where the band does.
        values = np.append(band.astype(np.float64).ravel(), 0.0)
        reduced = [f.reduceat(values, ends)[::2] for f in (np.add, np.minimum, np.maximum)]
        yield here.item, *reduced
