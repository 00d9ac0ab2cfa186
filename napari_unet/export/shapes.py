"""Outlines of objects along the edges of their pixels, exact: holes, corners and islands too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from napari_unet.export.runs import Objects, Runs, groups, line_numbers, neighbours

Ring = np.ndarray  # (n, 2) of x, y, not closed; the outside is counter-clockwise, holes are not
Polygon = list[Ring]  # the outside, then the holes

_AT_ONCE = 2**20  # runs that are traced together


@dataclass(frozen=True, eq=False)
class Outline:
    """An object in one plane; `item` is its place in the list of objects."""

    item: int
    plane: int
    polygons: list[Polygon]

    @property
    def rings(self) -> list[Ring]:
        return [ring for polygon in self.polygons for ring in polygon]

    @property
    def area(self) -> int:
        """How many pixels it has."""
        return sum(ring_area(ring) for ring in self.rings)

    @property
    def has_holes(self) -> bool:
        return any(len(polygon) > 1 for polygon in self.polygons)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom."""
        outsides = np.concatenate([polygon[0] for polygon in self.polygons])
        (left, top), (right, bottom) = outsides.min(axis=0), outsides.max(axis=0)
        return int(left), int(top), int(right), int(bottom)


def outlines(objects: Objects) -> Iterator[Outline]:
    """The outline of each object in each plane, plane by plane."""
    for runs in _chunks(objects.runs):
        yield from _outlines_of(runs)


def ring_area(ring: Ring) -> int:
    """The pixels inside a ring, negative for a hole."""
    x, y = ring.astype(np.int64).T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) // 2


def _chunks(runs: Runs) -> Iterator[Runs]:
    """All runs of some objects at a time, no object of a plane in two parts."""
    order = np.lexsort((runs.item, runs.plane))
    plane, item = runs.plane[order], runs.item[order]
    ends = np.flatnonzero((plane[1:] != plane[:-1]) | (item[1:] != item[:-1])) + 1
    ends = np.append(ends, len(runs))
    first = 0
    while first < len(runs):
        after = int(ends[np.searchsorted(ends, min(first + _AT_ONCE, len(runs)))])
        yield runs[np.sort(order[first:after])]
        first = after


def _outlines_of(runs: Runs) -> Iterator[Outline]:
    lines, _ = line_numbers(runs, 1)
    parts = groups([neighbours(runs, lines, 1, 0)], len(runs))  # joined by edges, not by corners
    _, first = np.unique(parts, return_index=True)
    polygons: dict[tuple[int, int], list[Polygon]] = {}
    for part, polygon in enumerate(_polygons(runs, parts)):
        of = int(runs.plane[first[part]]), int(runs.item[first[part]])
        polygons.setdefault(of, []).append(polygon)
    for plane, item in sorted(polygons):
        yield Outline(item, plane, polygons[plane, item])


def _polygons(runs: Runs, parts: np.ndarray) -> list[Polygon]:
    """One polygon for each part."""
    part, x, top, bottom, right = _edges(runs, parts)
    following = _followers(part, x, top, bottom, right)
    order, starts = _walks(following)
    # Left edges are walked up, right edges down: the outside is counter-clockwise.
    points = np.empty((len(order), 2, 2), np.int32)
    points[..., 0] = x[order, None]
    points[:, 0, 1] = np.where(right, top, bottom)[order]
    points[:, 1, 1] = np.where(right, bottom, top)[order]
    polygons: list[Polygon] = [[] for _ in range(int(parts.max(initial=-1)) + 1)]
    ring_of = np.repeat(np.arange(len(starts) - 1), 2 * np.diff(starts))
    pinched = _pinched(points.reshape(-1, 2), ring_of)
    for i, (a, b) in enumerate(pairwise(starts.tolist())):
        ring = points[a:b].reshape(-1, 2)
        rings = _unpinched(ring) if i in pinched else [ring]
        polygons[part[order[a]]].extend(rings)
    return [_outside_first(polygon) for polygon in polygons]


def _edges(runs: Runs, parts: np.ndarray) -> tuple[np.ndarray, ...]:
    """Vertical edges as long as they go: part, x, top, bottom, and whether it is a right one."""
    part, row = np.tile(parts, 2), np.tile(runs.row, 2)
    x = np.concatenate([runs.start, runs.stop])
    right = np.repeat([False, True], len(runs))
    order = np.lexsort((row, right, x, part))
    part, row, x, right = part[order], row[order], x[order], right[order]
    cut = np.ones(len(order) + 1, bool)
    cut[1:-1] = row[1:] != row[:-1] + 1
    for column in (part, x, right):
        cut[1:-1] |= column[1:] != column[:-1]
    kept = cut[:-1]
    return part[kept], x[kept], row[kept], row[cut[1:]] + 1, right[kept]


def _followers(
    part: np.ndarray, x: np.ndarray, top: np.ndarray, bottom: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """The edge that follows each: along a row, the ends of a part's edges are joined in pairs."""
    end = np.stack([top, bottom], axis=1).ravel()
    # Where two edges end at one place, the right one belongs to the pixel on the left.
    order = np.lexsort((~np.repeat(right, 2), np.repeat(x, 2), end, np.repeat(part, 2)))
    mate = np.empty(len(order), np.int64)
    mate[order[0::2]], mate[order[1::2]] = order[1::2], order[0::2]
    leaving = 2 * np.arange(len(part)) + right
    return mate[leaving] // 2


def _walks(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges in the order of their rings, and where in it each ring starts."""
    follows, seen = following.tolist(), bytearray(len(following))
    order: list[int] = []
    starts: list[int] = []
    for edge in range(len(follows)):
        if seen[edge]:
            continue
        starts.append(len(order))
        while not seen[edge]:
            seen[edge] = 1
            order.append(edge)
            edge = follows[edge]
    return np.array(order, np.int64), np.array([*starts, len(order)], np.int64)


def _pinched(points: np.ndarray, ring: np.ndarray) -> set[int]:
    """The rings that come to one point twice, as where a hole touches the outside."""
    order = np.lexsort((points[:, 0], points[:, 1], ring))
    twice = (np.diff(points[order], axis=0) == 0).all(axis=1) & (np.diff(ring[order]) == 0)
    return set(ring[order][1:][twice].tolist())


def _unpinched(ring: Ring) -> list[Ring]:
    """A ring that comes to points twice, as rings that do not."""
    rings: list[Ring] = []
    path: dict[tuple[int, int], None] = {}
    for x, y in ring.tolist():
        if (x, y) in path:
            loop = [(x, y)]
            while (last := path.popitem()[0]) != (x, y):
                loop.append(last)
            rings.append(np.array(loop[:1] + loop[:0:-1], np.int32))
        path[x, y] = None
    return [*rings, np.array(list(path), np.int32)]


def _outside_first(rings: list[Ring]) -> Polygon:
    return rings if len(rings) == 1 else sorted(rings, key=lambda ring: ring_area(ring) < 0)
