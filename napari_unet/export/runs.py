"""Masks as runs, stretches of one object along the rows, and the objects they make up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from napari_unet.export.content import Content, bands

# Whatever is asked of objects, their outlines, sizes and classes, is worked out from the runs:
# for 50,000 objects on 400 million pixels they are 40 MB, and the pixels are read once.


@dataclass(frozen=True, eq=False)
class Runs:
    """Stretches along the rows, in reading order; each is a row of every column."""

    plane: np.ndarray  # over all axes before Y, counted as one
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    item: np.ndarray  # the place of its object in the list of objects

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, chosen: Any) -> Runs:
        return Runs(*(getattr(self, column.name)[chosen] for column in fields(self)))

    @property
    def length(self) -> np.ndarray:
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a mask: their runs, and the number and class of each, 0 if it has none."""

    runs: Runs
    numbers: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)


def find_objects(content: Content) -> Objects:
    """The objects as they are numbered, or else the connected parts of each class."""
    plane, row, start, stop, number, label = _read(content)
    if content.objects is None:
        runs = Runs(plane, row, start, stop, label)
        runs = Runs(plane, row, start, stop, _parts(runs, content))
        items, first = np.unique(runs.item, return_index=True)
        return Objects(runs, items.astype(np.uint32) + 1, label[first])
    times = (plane // _planes(content)).astype(np.int64)
    keys, item = np.unique(times << 32 | number, return_inverse=True)
    runs = Runs(plane, row, start, stop, item.astype(np.int32))
    classes = _majority(runs, label, len(keys))
    return Objects(_joined(runs), (keys & 0xFFFFFFFF).astype(np.uint32), classes)


def neighbours(runs: Runs, lines: np.ndarray, ahead: int, reach: int) -> tuple[np.ndarray, ...]:
    """Pairs of runs, as two lists of places, that overlap from one line to another.

    `lines` numbers the line of each run; the second lies so many `ahead` of the first. With a
    `reach` of 1, pixels that touch at a corner overlap too.
    """
    width = np.int64(runs.stop.max(initial=0) + 2)
    begins = lines * width + runs.start
    ends = lines * width + runs.stop
    wanted = (lines + ahead) * width
    low = np.searchsorted(ends, wanted + runs.start - reach, side="right")
    high = np.searchsorted(begins, wanted + runs.stop + reach, side="left")
    counts = np.maximum(high - low, 0)
    first = np.repeat(np.arange(len(runs)), counts)
    skipped = np.repeat(np.cumsum(counts) - counts, counts)
    second = np.arange(len(first)) - skipped + np.repeat(low, counts)
    same = runs.item[first] == runs.item[second]
    return first[same], second[same]


def groups(pairs: list[tuple[np.ndarray, ...]], n: int) -> np.ndarray:
    """Number what hangs together, by the place of its first member."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first = np.concatenate([a for a, _ in pairs])
    second = np.concatenate([b for _, b in pairs])
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(n, n))
    found = connected_components(graph, directed=False)[1]
    places = np.unique(found, return_index=True)[1]
    order = np.empty(len(places), np.int32)
    order[np.argsort(places)] = np.arange(len(places), dtype=np.int32)
    return order[found]


def line_numbers(runs: Runs, planes: int) -> tuple[np.ndarray, int]:
    """Number the lines of all planes, one left free between planes and a plane between times.

    The second number is how many lines a plane takes.
    """
    height = int(runs.row.max(initial=0)) + 2
    times = runs.plane // planes
    return (runs.plane + times).astype(np.int64) * height + runs.row, height


def _planes(content: Content) -> int:
    """How many planes make one time point."""
    return content.shape[content.axes.index("Z")] if "Z" in content.axes else 1


def _parts(runs: Runs, content: Content) -> np.ndarray:
    """The connected parts of each class, corners included, through all planes of a volume."""
    lines, height = line_numbers(runs, _planes(content))
    steps = [1] if "Z" not in content.axes else [1, height - 1, height, height + 1]
    return groups([neighbours(runs, lines, step, 1) for step in steps], len(runs))


def _read(content: Content) -> tuple[np.ndarray, ...]:
    """All runs of one number and class: plane, row, start, stop, number and class."""
    columns = list(zip(*_read_bands(content), strict=True))
    if columns:
        return tuple(np.concatenate(column) for column in columns)
    return tuple(np.zeros(0, np.int32) for _ in range(6))


def _read_bands(content: Content) -> Iterator[tuple[np.ndarray, ...]]:
    outer = content.shape[:-2]
    for where, numbers in bands(content.data):
        classes = numbers if content.objects is None else _classes(content, where)
        row, start, stop, number, label = _runs_of(numbers, classes)
        if len(row):
            plane = np.ravel_multi_index(where[:-1], outer) if outer else 0
            planes = np.full(len(row), plane, np.int32)
            yield planes, row + np.int32(where[-1].start), start, stop, number, label


def _classes(content: Content, where: tuple[slice, ...]) -> np.ndarray | None:
    return None if content.mask is None else np.asarray(content.mask[where])


def _runs_of(numbers: np.ndarray, classes: np.ndarray | None) -> tuple[np.ndarray, ...]:
    changed = np.ones(numbers.shape, bool)
    np.not_equal(numbers[:, 1:], numbers[:, :-1], out=changed[:, 1:])
    if classes is not None and classes is not numbers:
        changed[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    first = np.flatnonzero(changed)
    number = numbers.ravel()[first]
    after = np.append(first[1:], numbers.size)
    kept = number > 0
    first, after, number = first[kept], after[kept], number[kept].astype(np.uint32)
    row = first // numbers.shape[1]
    start, stop = first - row * numbers.shape[1], after - row * numbers.shape[1]
    label = np.zeros(len(first), np.int32) if classes is None else classes.ravel()[first]
    places = (row, start, stop)
    return *(p.astype(np.int32) for p in places), number, label.astype(np.int32)


def _majority(runs: Runs, label: np.ndarray, n: int) -> np.ndarray:
    """The class of most pixels of each object; pixels without one have no say."""
    said = label > 0
    width = np.int64(label.max(initial=0)) + 1
    votes, place = np.unique(runs.item[said] * width + label[said], return_inverse=True)
    weights = np.bincount(place, runs.length[said], len(votes))
    order = np.argsort(weights, kind="stable")  # the last that is set stays
    found = np.zeros(n, np.int32)
    found[votes[order] // width] = votes[order] % width
    return found


def _joined(runs: Runs) -> Runs:
    """Runs that were cut only because the class changes within an object, as one."""
    if not len(runs):
        return runs
    cut = np.ones(len(runs) + 1, bool)
    cut[1:-1] = runs.stop[:-1] != runs.start[1:]
    for column in (runs.plane, runs.row, runs.item):
        cut[1:-1] |= column[:-1] != column[1:]
    kept = runs[cut[:-1]]
    return Runs(kept.plane, kept.row, kept.start, runs.stop[cut[1:]], kept.item)
