"""What a painted pixel means, and the live training set: thread-safe, versioned, counted by block.

0 is not labelled, 1..254 are classes, 255 is background painted on purpose.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_unet.config import BACKGROUND, MAX_CLASSES, UNLABELLED, Role, SegClass
from napari_unet.run import BadInput

# Labels are counted in blocks of this edge; sampling and holding out work on blocks, not pixels.
BLOCK = {2: 32, 3: 16}
SPARSE = 0.5  # an annotation is sparse where less than this part is labelled

Region = tuple[slice, ...]
Ends = tuple[tuple[int, int], ...]  # the same in numbers, for files


def block_grid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Blocks along each axis of an image of this shape."""
    edge = BLOCK[len(shape)]
    return tuple(-(-n // edge) for n in shape)


@dataclass
class Item:
    """One image of a training set with its annotation and what is counted of it."""

    name: str
    image: Any  # (C, *spatial), numpy or lazy
    annotation: np.ndarray  # (*spatial), uint8
    weights: np.ndarray | None  # (*spatial), float32, only when labels are objects
    counts: np.ndarray  # (1 + classes, *blocks), int64; row 0 is background
    touched: np.ndarray  # (*blocks), version of the set at which the block last changed
    role: Role = "both"  # whether it is learned from, judged by, or both, by blocks
    cache: dict[str, Any] = field(default_factory=dict)  # statistics that engines derive once

    @property
    def labelled(self) -> int:
        return int(self.counts.sum())


def ends_of(region: Region) -> Ends:
    """Start and stop along each axis."""
    return tuple((s.start, s.stop) for s in region)


def region_of(ends: Iterable[Iterable[int]]) -> Region:
    """The opposite of `ends_of`."""
    return tuple(slice(*both) for both in ends)


def left_out(shape: tuple[int, ...], parts: Iterable[Ends]) -> list[Ends]:
    """What of a shape lies in none of these parts, as boxes that do not overlap."""
    left: list[Ends] = [tuple((0, n) for n in shape)]
    for part in parts:
        left = [rest for box in left for rest in _around(box, part)]
    return left


def _around(box: Ends, part: Ends) -> Iterator[Ends]:
    """What of a box lies outside a part: before and after it, axis by axis."""
    for axis, ((start, stop), ends) in enumerate(zip(box, part, strict=False)):
        first, last = (min(max(end, start), stop) for end in ends)
        for one in ((start, first), (last, stop)):
            if one[0] < one[1]:
                yield (*box[:axis], one, *box[axis + 1 :])
        if first >= last:  # they have nothing in common
            return
        box = (*box[:axis], (first, last), *box[axis + 1 :])


def parted(region: Region, edge: int) -> Iterator[Region]:
    """A region in pieces of at most this edge."""
    axes = [
        [slice(a, min(a + edge, s.stop)) for a in range(s.start or 0, s.stop, edge)] for s in region
    ]
    return itertools.product(*axes)


def is_sparse(items: Iterable[Item]) -> bool:
    """Whether most of the images in which anything is labelled is not."""
    sizes = [(number, i.annotation.size) for i in items if (number := i.labelled)]
    return sum(number for number, _ in sizes) < SPARSE * sum(size for _, size in sizes)


class TrainingSet:
    """Images with annotations that may change while a net trains on them."""

    def __init__(
        self,
        classes: tuple[SegClass, ...],
        ndim: int = 2,
        spacing: tuple[float, ...] = (),
        unit: str = "pixel",
        rims: bool = False,
    ) -> None:
        if not 1 <= len(classes) <= MAX_CLASSES:
            raise BadInput(
                f"{len(classes)} classes were asked for; give between 1 and {MAX_CLASSES}."
            )
        self.classes = classes
        self.ndim = ndim
        self.spacing = spacing
        self.unit = unit
        # The value after those of the classes is then the rim of the objects of the only class.
        self.rims = rims
        self.smallest = 0  # pixels of such objects, but for the few that are smaller still
        self.version = 0
        self._items: dict[str, Item] = {}
        self._changed = threading.Condition(threading.RLock())

    @property
    def items(self) -> tuple[Item, ...]:
        with self._changed:
            return tuple(self._items.values())

    @property
    def n_values(self) -> int:
        """How many kinds of labelled pixels are told apart from background."""
        return len(self.classes) + self.rims

    @property
    def counts(self) -> np.ndarray:
        """Labelled pixels of background and of each class, over all images."""
        zero = np.zeros(1 + self.n_values, np.int64)
        return sum((i.counts.reshape(len(zero), -1).sum(1) for i in self.items), zero)

    def add(
        self,
        name: str,
        image: Any,
        annotation: np.ndarray | None = None,
        *,
        region: Region | None = None,
        complete: bool = False,
        weights: np.ndarray | None = None,
        stats: Any = None,
        role: Role = "both",
    ) -> None:
        """Add an image (C, *spatial) and its annotation; complete makes zeros background.

        An annotation of a `region` is all that is labelled. `stats` are its intensities where they
        are known, such as those of the stack it is from, or a function that measures them when they
        are needed.
        """
        shape = tuple(image.shape[1:])
        self._check_image(name, image)
        region = region or tuple(slice(0, n) for n in shape)
        covered = tuple(s.stop - s.start for s in region)
        values = (
            np.zeros(covered, np.uint8) if annotation is None else self._checked(name, annotation)
        )
        if values.shape != covered:
            raise BadInput(_misfit(name, values.shape, shape))
        if complete:
            values = np.where(values == UNLABELLED, np.uint8(BACKGROUND), values)
        grid = block_grid(shape)
        with self._changed:
            if name in self._items:
                raise BadInput(f"Two images are named '{name}'; rename one of them.")
            item = Item(
                name,
                image,
                np.zeros(shape, np.uint8),
                weights,
                np.zeros((1 + self.n_values, *grid), np.int64),
                np.zeros(grid, np.int64),
                role,
                {} if stats is None else {"stats": stats},
            )
            self._items[name] = item
            self._write(item, region, values)

    def _check_image(self, name: str, image: Any) -> None:
        shape = tuple(image.shape[1:])
        if len(shape) != self.ndim:
            raise BadInput(
                f"Image '{name}' has {len(shape)} spatial axes {shape}, this training set has "
                f"{self.ndim}; say which axes it has."
            )
        others = {i.image.shape[0] for i in self.items} - {image.shape[0]}
        if others:
            raise BadInput(
                f"Image '{name}' has {image.shape[0]} channels but the others have {others.pop()}; "
                "train on images of one kind."
            )

    def remove(self, name: str) -> None:
        with self._changed:
            del self._items[name]
            self._bump()

    def paint(self, name: str, region: Region, values: np.ndarray | int) -> None:
        """Write annotation values into a region; only the blocks it touches are counted again."""
        with self._changed:
            item = self._items[name]
            region = tuple(
                slice(*s.indices(n)) for s, n in zip(region, item.annotation.shape, strict=True)
            )
            self._write(item, region, self._checked(name, np.asarray(values)))

    def annotate(self, name: str, annotation: np.ndarray) -> None:
        """Take over a whole annotation; only the part that differs counts as changed."""
        with self._changed:
            item = self._items[name]
            if annotation.shape != item.annotation.shape:
                raise BadInput(_misfit(name, annotation.shape, item.annotation.shape))
            differs = np.nonzero(item.annotation != self._checked(name, annotation))
            if len(differs[0]):
                region = tuple(slice(int(d.min()), int(d.max()) + 1) for d in differs)
                self.paint(name, region, annotation[region])

    def wait(self, version: int, timeout: float) -> bool:
        """Wait until the set is newer than this version; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.version > version, timeout)

    def _checked(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind not in "biu":
            raise BadInput(
                f"The mask of '{name}' holds {values.dtype} numbers; give whole numbers: 0 not "
                "labelled, 1..254 classes, 255 background."
            )
        n = self.n_values
        wrong = (values > n) & (values != BACKGROUND) | (values < 0)
        if wrong.any():
            raise BadInput(
                f"The mask of '{name}' holds the value {values[wrong].flat[0]} but the classes are "
                f"1..{n}; map its values to them, or name more classes."
            )
        return values.astype(np.uint8, copy=False)

    def _write(self, item: Item, region: Region, values: np.ndarray | int) -> None:
        edge = BLOCK[self.ndim]
        blocks = tuple(slice(s.start // edge, -(-s.stop // edge)) for s in region)
        # First of all, or it would be learned before anybody has decided whether it may be.
        item.touched[blocks] = self.version + 1
        item.annotation[region] = values
        aligned = tuple(slice(b.start * edge, b.stop * edge) for b in blocks)
        item.counts[(slice(None), *blocks)] = count_blocks(item.annotation[aligned], self.n_values)
        self._bump()

    def _bump(self) -> None:
        self.version += 1
        self._changed.notify_all()


def _misfit(name: str, mask: tuple[int, ...], image: tuple[int, ...]) -> str:
    return (
        f"The mask of '{name}' has shape {mask} but its image has {image}; "
        "give a mask made on this image."
    )


def without(annotation: np.ndarray, number: int, n_classes: int) -> np.ndarray:
    """An annotation without one of so many classes; those after it move up."""
    values = annotation.copy()
    values[annotation == number] = UNLABELLED
    values[(annotation > number) & (annotation <= n_classes)] -= 1
    return values


def count_blocks(annotation: np.ndarray, n_classes: int) -> np.ndarray:
    """Pixels of background and each class in every block: (1 + classes, *blocks)."""
    grid, edge = block_grid(annotation.shape), BLOCK[annotation.ndim]
    short = [(0, g * edge - n) for g, n in zip(grid, annotation.shape, strict=True)]
    padded = np.pad(annotation, short)
    split = padded.reshape([n for g in grid for n in (g, edge)])
    inside = tuple(range(1, 2 * len(grid), 2))
    values = [BACKGROUND, *range(1, n_classes + 1)]
    present = np.zeros(256, bool)
    present[np.unique(padded)] = True
    empty = np.zeros(grid, np.int64)
    return np.stack([(split == v).sum(inside) if present[v] else empty for v in values])
