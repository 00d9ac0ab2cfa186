"""Cutting an image of any size into tiles that see as much as the whole, and room for results."""

from __future__ import annotations

import errno
import itertools
import math
import os
import shutil
import tempfile
from dataclasses import dataclass

import numpy as np

from napari_unet.annotation import Region
from napari_unet.run import BadInput

SMALLEST = 32  # edge of a tile that is not cut further
IN_MEMORY = 2**28  # bytes of a result that is not put on disk


@dataclass(frozen=True)
class Tile:
    """One tile: the part of the image that it reads, and the part of the result that it writes."""

    read: Region
    write: Region

    @property
    def inner(self) -> Region:
        """The written part, in coordinates of the part that is read."""
        pairs = zip(self.read, self.write, strict=True)
        return tuple(slice(w.start - r.start, w.stop - r.start) for r, w in pairs)


def plan_tiles(
    shape: tuple[int, ...],
    edge: tuple[int, ...],
    halo: tuple[int, ...],
    stride: tuple[int, ...],
    focus: tuple[int, ...] | None = None,
    region: Region | None = None,
) -> list[Tile]:
    """Tiles that cover an image, or a region of it, about equal in size.

    Those around the focus come first.
    """
    parts = region or tuple(slice(0, n) for n in shape)
    rows = [_plan_axis(*axis) for axis in zip(parts, shape, edge, halo, stride, strict=True)]
    tiles = []
    for axes in itertools.product(*rows):
        read, write = zip(*axes, strict=True)
        tiles.append(Tile(read, write))
    if focus is not None:
        tiles.sort(key=lambda tile: math.dist(_middle(tile.write), focus))
    return tiles


def fit_edges(shape: tuple[int, ...], halo: tuple[int, ...], limit: float) -> tuple[int, ...]:
    """Edges of the fewest tiles that read, halos included, at most so many pixels each."""
    cuts = [1] * len(shape)
    while True:
        edges = [math.ceil(n / c) for n, c in zip(shape, cuts, strict=True)]
        read = [min(n, e + 2 * h) for n, e, h in zip(shape, edges, halo, strict=True)]
        if math.prod(read) <= limit or max(edges) <= SMALLEST:
            return tuple(edges)
        cuts[edges.index(max(edges))] += 1


def _plan_axis(
    part: slice, size: int, edge: int, halo: int, stride: int
) -> list[tuple[slice, slice]]:
    length = part.stop - part.start
    step = math.ceil(length / math.ceil(length / edge) / stride) * stride
    out = []
    for start in range(part.start, part.stop, step):
        write = slice(start, min(start + step, part.stop))
        out.append((_around(write, size, halo, stride), write))
    return out


def widened(
    region: Region, shape: tuple[int, ...], halo: tuple[int, ...], stride: tuple[int, ...]
) -> Region:
    """A region with as much around it as a net sees, beginning where the net's poolings do."""
    lead = len(region) - len(halo)
    axes = zip(region[lead:], shape[lead:], halo, stride, strict=True)
    return (*region[:lead], *(_around(*axis) for axis in axes))


def _around(part: slice, size: int, halo: int, stride: int) -> slice:
    """What a net has to see of an axis to know a part of it as it knows the whole."""
    # It begins at a multiple of the net's stride, or its poolings would fall differently.
    first = max(0, (part.start - halo) // stride * stride)
    return slice(first, min(size, math.ceil((part.stop + halo) / stride) * stride))


def _middle(region: Region) -> list[float]:
    return [(s.start + s.stop) / 2 for s in region]


def spread_windows(
    shape: tuple[int, ...], edge: int, number: int, margin: float = 0.0
) -> list[Region]:
    """About so many windows of one edge, spread evenly between the borders or the margins."""
    per_axis = max(1, round(number ** (1 / len(shape))))
    axes = []
    for n in shape:
        room = max(0, n - edge)
        places = np.linspace(margin * room, (1 - margin) * room, per_axis)
        starts = np.unique(places.astype(int)).tolist()
        axes.append([slice(a, min(a + edge, n)) for a in starts])
    return list(itertools.product(*axes))


def zeros(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array of zeros; a large one lies in a file without a name, which goes when it does."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype)
    # Where there is no room left, writing to a mapped file would end the program.
    folder = tempfile.gettempdir()
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- it is open for as long as it is mapped
    try:
        if shutil.disk_usage(folder).free < size:
            raise OSError(errno.ENOSPC, "no room")
        if hasattr(os, "posix_fallocate"):  # or several of them would share the same room
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:  # of a file system that cannot promise room
            return np.memmap(file, dtype, "w+", shape=shape)
        file.close()
        raise BadInput(
            f"The result needs {size / 2**30:.1f} GiB in {folder}, which has less room; make some, "
            "or set TMPDIR to a folder that has it."
        ) from None
    return np.memmap(file, dtype, "w+", shape=shape)
