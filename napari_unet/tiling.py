"""Cutting an image of any size into tiles, and joining what is predicted so that no cut shows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from napari_unet.annotation import Region


@dataclass(frozen=True)
class Axis:
    """One tile along one axis: it reads read_start:read_stop and contributes to start:stop."""

    read_start: int
    read_stop: int
    start: int
    stop: int
    before: int  # pixels shared with the tile before, blended
    after: int


@dataclass(frozen=True)
class Tile:
    """One tile: what it reads of the image and what it contributes to the result."""

    axes: tuple[Axis, ...]

    @property
    def read(self) -> Region:
        return tuple(slice(a.read_start, a.read_stop) for a in self.axes)

    @property
    def write(self) -> Region:
        return tuple(slice(a.start, a.stop) for a in self.axes)

    @property
    def inner(self) -> Region:
        """The written part, in coordinates of the part that is read."""
        return tuple(slice(a.start - a.read_start, a.stop - a.read_start) for a in self.axes)


def plan_tiles(
    shape: tuple[int, ...],
    edge: tuple[int, ...],
    halo: tuple[int, ...],
    stride: tuple[int, ...],
    overlap: tuple[int, ...],
    focus: tuple[int, ...] | None = None,
) -> list[Tile]:
    """Tiles that cover an image; those around the focus come first."""
    rows = [_plan_axis(*one) for one in zip(shape, edge, halo, stride, overlap, strict=True)]
    tiles = [Tile(axes) for axes in itertools.product(*rows)]
    if focus is not None:
        tiles.sort(key=lambda t: _distance(t, focus))
    return tiles


def _plan_axis(size: int, edge: int, halo: int, stride: int, overlap: int) -> list[Axis]:
    number = math.ceil(size / edge)
    # Tiles begin at multiples of the net's stride, or its poolings would fall differently.
    core = math.ceil(size / number / stride) * stride
    overlap = min(overlap, core)  # a pixel is shared by two tiles at most
    cuts = list(range(0, size, core))
    if len(cuts) > 1 and size - cuts[-1] < max(overlap, stride):  # too thin to blend: join it
        cuts.pop()
    cuts.append(size)
    out = []
    for a, b in itertools.pairwise(cuts):
        before = overlap if a > 0 else 0
        after = overlap if b < size else 0
        start, stop = a - before // 2, b + after - after // 2
        low = max(0, (start - halo) // stride * stride)
        high = min(size, math.ceil((stop + halo) / stride) * stride)
        out.append(Axis(low, high, start, stop, before, after))
    return out


def _distance(tile: Tile, focus: tuple[int, ...]) -> float:
    middle = [(a.start + a.stop) / 2 for a in tile.axes]
    return math.dist(middle, focus)


class Blender:
    """Joins overlapping tiles by ramps that add up to one; holds only what waits for others."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[tuple[int, int], ...], tuple[np.ndarray, int]] = {}

    def add(self, tile: Tile, values: np.ndarray) -> Iterator[tuple[Region, np.ndarray]]:
        """Take one tile's values (K, *shape); yield each part (region, values) that is complete."""
        for cell in itertools.product(*(_cells(a) for a in tile.axes)):
            inside = tuple(
                slice(s - a.start, e - a.start)
                for (s, e, _), a in zip(cell, tile.axes, strict=True)
            )
            region = tuple(slice(s, e) for s, e, _ in cell)
            shared = [axis for axis, (_, _, ramp) in enumerate(cell) if ramp]
            part = values[(slice(None), *inside)]
            if not shared:
                yield region, part
                continue
            part = part.astype(np.float32)
            for axis in shared:
                start, stop, ramp = cell[axis]
                part *= _ramp(stop - start, ramp).reshape((-1,) + (1,) * (len(cell) - axis - 1))
            yield from self._join(region, part, 2 ** len(shared))

    def _join(
        self, region: Region, part: np.ndarray, parts: int
    ) -> Iterator[tuple[Region, np.ndarray]]:
        key = tuple((s.start, s.stop) for s in region)
        total, missing = self._waiting.pop(key, (None, parts))
        total = part if total is None else total + part
        if missing > 1:
            self._waiting[key] = (total, missing - 1)
        else:
            yield region, total


def _cells(axis: Axis) -> list[tuple[int, int, int]]:
    """One axis as (start, stop, ramp): shared with the tile before, own, shared with the next."""
    first, last = axis.start + axis.before, axis.stop - axis.after
    cells = [(axis.start, first, 1), (first, last, 0), (last, axis.stop, -1)]
    return [c for c in cells if c[0] < c[1]]


def _ramp(length: int, direction: int) -> np.ndarray:
    up = (np.arange(length, dtype=np.float32) + 0.5) / length
    return up if direction > 0 else 1 - up
