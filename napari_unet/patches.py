"""Where the next patches come from: only where something is labelled, the neglected more often."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from napari_unet.annotation import BLOCK, Item, TrainingSet, is_sparse
from napari_unet.config import BACKGROUND, UNLABELLED
from napari_unet.holdout import TRAIN, HoldOut
from napari_unet.normalise import Stats, measure

REFRESH_STEPS = 20  # how often the odds are computed again
FRESH_STEPS = 100  # for about so many steps a new stroke is drawn more often
FRESH_BOOST = 2.0
NEVER = -1e9
CACHE_BYTES = 256 * 2**20  # pixels of lazy images kept in memory
CACHE_EDGE = {2: 256, 3: 64}


@dataclass(frozen=True)
class Spot:
    """The centre of one patch, in pixels of its image, and the block it was drawn from."""

    item: Item
    centre: tuple[int, ...]
    block: int


class Sampler:
    """Draws patch centres from the labelled blocks of a live training set."""

    def __init__(self, training_set: TrainingSet, holdout: HoldOut, seed: int) -> None:
        self.set = training_set
        self.holdout = holdout
        self.rng = np.random.default_rng(seed)
        self.items: tuple[Item, ...] = ()
        self.version = -1
        self._fresh: dict[str, np.ndarray] = {}  # per block, the step at which it was last painted
        self._error: dict[str, np.ndarray] = {}  # per block, how badly it was predicted lately
        self._lately: list[tuple[str, int, float]] = []  # errors not yet taken in
        self._counts: dict[str, np.ndarray] = {}  # trainable pixels when last taken in
        self._sums: dict[tuple[str, int], np.ndarray] = {}
        self._since = 0
        self.totals = np.zeros(0, np.int64)  # trainable pixels of background and each class
        self.labelled = self.totals  # all that are labelled
        self.sparse = False  # whether the annotation is, all images together
        self._class_odds = np.zeros(0)
        self._item_odds: list[np.ndarray] = []  # for each class

    def refresh(self, step: int) -> bool:
        """Take in what was painted and learned since the last call; whether any was painted."""
        painted = self.set.version != self.version
        if painted:
            self._take_in_annotation(step)
        if painted or step - self._since >= REFRESH_STEPS:
            self._take_in_errors()
            self._since = step
            self._sums.clear()
        return painted

    def _take_in_annotation(self, step: int) -> None:
        before, self.version = self.version, self.set.version
        self.items = self.set.items
        self.holdout.update(self.items)
        for item in self.items:
            self._make_room(item)
            if before >= 0:
                self._fresh[item.name][item.touched > before] = step
        self.labelled = self.set.counts
        # Painting goes on meanwhile: odds that belong together come from one copy.
        self._counts = {i.name: i.counts * (self.role(i) == TRAIN) for i in self.items}
        counts = np.array([c.reshape(len(c), -1).sum(1) for c in self._counts.values()])
        total = self.totals = counts.sum(0) if len(counts) else np.zeros(1, np.int64)
        self.sparse = is_sparse(self.items)
        # Half by number of pixels, half evenly over the classes: the rare are seen more often.
        self._class_odds = _share(total) + _share((total > 0).astype(float))
        # Half evenly over the images that have the class, half by the root of what they have.
        self._item_odds = [_share((c > 0).astype(float)) + _share(np.sqrt(c)) for c in counts.T]

    def _make_room(self, item: Item) -> None:
        grid = item.touched.shape
        if item.name not in self._error or self._error[item.name].shape != grid:
            self._fresh[item.name] = np.full(grid, NEVER)
            self._error[item.name] = np.ones(grid)
            self._lately = [e for e in self._lately if e[0] != item.name]

    def _take_in_errors(self) -> None:
        for name, block, error in self._lately:
            flat = self._error[name].reshape(-1)
            flat[block] += 0.3 * (error - flat[block])
        self._lately.clear()

    def role(self, item: Item) -> np.ndarray:
        return self.holdout.roles[item.name]

    def closed(self, item: Item) -> np.ndarray:
        """By block, whether it must not be trained on: held out, or painted a moment ago."""
        return (self.role(item) != TRAIN) | (item.touched > self.version)

    @property
    def empty(self) -> bool:
        """Whether nothing is labelled that may be trained on."""
        return not self._class_odds.sum()

    def draw(self, number: int, jitter: tuple[int, ...]) -> list[Spot]:
        """The centres of so many patches, a labelled pixel within the jitter of each."""
        classes = self.rng.choice(len(self._class_odds), number, p=_share(self._class_odds))
        return [self._spot(int(c), jitter) for c in classes]

    def _spot(self, row: int, jitter: tuple[int, ...]) -> Spot:
        item = self.items[self.rng.choice(len(self.items), p=_share(self._item_odds[row]))]
        sums = self._block_sums(item, row)
        block = int(np.searchsorted(sums, self.rng.random() * sums[-1], "right"))
        edge = BLOCK[item.annotation.ndim]
        corner = np.array(np.unravel_index(block, item.touched.shape)) * edge
        part = item.annotation[tuple(slice(c, c + edge) for c in corner)]
        inside = np.flatnonzero(part == (row or BACKGROUND))
        # The label may have been erased since it was counted; then any pixel of the block will do.
        pick = self.rng.choice(inside) if len(inside) else self.rng.integers(part.size)
        centre = corner + np.array(np.unravel_index(int(pick), part.shape))
        centre += self.rng.integers(np.negative(jitter), np.array(jitter) + 1)
        centre = np.clip(centre, 0, np.array(item.annotation.shape) - 1)
        return Spot(item, tuple(centre.tolist()), block)

    def _block_sums(self, item: Item, row: int) -> np.ndarray:
        key = (item.name, row)
        if key not in self._sums:
            fresh = 1 + FRESH_BOOST * np.exp((self._fresh[item.name] - self._since) / FRESH_STEPS)
            odds = self._counts[item.name][row] * self._error[item.name] * fresh
            self._sums[key] = odds.ravel().cumsum()
        return self._sums[key]

    def feedback(self, spots: list[Spot], errors: np.ndarray) -> None:
        """Remember how badly each patch was predicted; relative to the batch, within 1/2 to 2.

        Where that is not known, as of a net that is about to be put back, all stays as it was.
        """
        known = np.isfinite(errors)
        if not known.any():
            return
        relative = np.clip(errors / max(float(errors[known].mean()), 1e-6), 0.5, 2)
        self._lately += [
            (spots[i].item.name, spots[i].block, float(relative[i])) for i in np.flatnonzero(known)
        ]

    def state(self) -> dict[str, Any]:
        """Everything random or remembered, for a checkpoint."""
        return {
            "rng": self.rng.bit_generator.state,
            "fresh": {k: v.tolist() for k, v in self._fresh.items()},
            "error": {k: v.tolist() for k, v in self._error.items()},
            "lately": self._lately,
            "since": self._since,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, once the annotation has been taken in."""
        self.rng.bit_generator.state = state["rng"]
        self._fresh |= {k: np.array(v) for k, v in state["fresh"].items()}
        self._error |= {k: np.array(v) for k, v in state["error"].items()}
        self._lately = [tuple(one) for one in state["lately"]]
        self._since = state["since"]
        self._sums.clear()


def _share(odds: np.ndarray) -> np.ndarray:
    total = odds.sum()
    return odds / total if total else odds


@dataclass(frozen=True)
class Cut:
    """A batch of axis-aligned crops, before they are warped."""

    images: np.ndarray  # (B, C, *shape) float32, normalised
    labels: np.ndarray  # (B, *shape) uint8
    weights: np.ndarray | None  # (B, *shape) float32
    hints: np.ndarray | None  # (B, 1 + classes, *shape) float32; 0 where there are none


def cut(
    spots: list[Spot],
    shape: tuple[int, ...],
    closed: Callable[[Item], np.ndarray] | None = None,
    hints: Callable[[Item], Any] | None = None,
) -> Cut:
    """Crops of one shape around the spots; mirrored, and unlabelled, outside their image.

    What is `closed` (by block) is not labelled either; `hints` are images of probabilities.
    """
    images, labels, weights, hinted = [], [], [], []
    for spot in spots:
        item = spot.item
        wanted = [
            np.arange(c - s // 2, c - s // 2 + s) for c, s in zip(spot.centre, shape, strict=True)
        ]
        sizes = item.annotation.shape
        images.append(normalised(item, wanted))
        label = gather(item.annotation, wanted)
        for axis, (place, n) in enumerate(zip(wanted, sizes, strict=True)):
            label[_along(axis, (place < 0) | (place >= n), len(sizes))] = UNLABELLED
        blocks = None if closed is None else closed(item)
        shut = None if blocks is None or not blocks.any() else at_pixels(blocks, wanted, sizes)
        if shut is not None:
            label[shut] = UNLABELLED
        labels.append(label)
        weights.append(None if item.weights is None else gather(item.weights, wanted))
        hint = None if hints is None or (there := hints(item)) is None else gather(there, wanted)
        if hint is not None and shut is not None:
            hint[:, shut] = 0
        hinted.append(hint)
    return Cut(np.stack(images), np.stack(labels), _filled(weights, 1), _filled(hinted, 0))


def _filled(parts: list[np.ndarray | None], value: float) -> np.ndarray | None:
    """The parts stacked, with one value in place of those that are missing; None if all are."""
    like = next((p for p in parts if p is not None), None)
    if like is None:
        return None
    other = np.full_like(like, value)
    return np.stack([other if p is None else p for p in parts])


def at_pixels(
    blocks: np.ndarray, wanted: Sequence[np.ndarray], sizes: tuple[int, ...]
) -> np.ndarray:
    """What holds for the blocks of the wanted pixels, pixel by pixel."""
    edge = BLOCK[len(sizes)]
    places = [np.clip(w, 0, n - 1) // edge for w, n in zip(wanted, sizes, strict=True)]
    found: np.ndarray = blocks[np.ix_(*places)]
    return found


def _along(axis: int, outside: np.ndarray, ndim: int) -> tuple[Any, ...]:
    return (slice(None),) * axis + (outside,) + (slice(None),) * (ndim - axis - 1)


def item_stats(item: Item) -> Stats:
    """The item's intensity statistics, measured once."""
    known: Stats | Callable[[], Stats] | None = item.cache.get("stats")
    stats = measure(item.image) if known is None else known() if callable(known) else known
    item.cache["stats"] = stats
    return stats


def readable(item: Item) -> Any:
    """The item's image; one that is read lazily, through a store of its pixels."""
    if isinstance(item.image, np.ndarray):
        return item.image
    if "blocks" not in item.cache:
        item.cache["blocks"] = BlockCache(item.image)
    return item.cache["blocks"]


def normalised(item: Item, wanted: list[np.ndarray]) -> np.ndarray:
    """The item's pixels at the given indices, mirrored at the borders, as nets see them."""
    return item_stats(item).apply(gather(readable(item), wanted))


def gather(image: Any, wanted: list[np.ndarray]) -> np.ndarray:
    """Pixels at the given indices along the last axes, mirrored at the borders."""
    sizes = image.shape[-len(wanted) :]
    indices = [mirror(w, n) for w, n in zip(wanted, sizes, strict=True)]
    lead = (slice(None),) * (len(image.shape) - len(wanted))
    low = [int(i.min()) for i in indices]
    box = tuple(slice(lo, int(i.max()) + 1) for lo, i in zip(low, indices, strict=True))
    part = np.asarray(image[(*lead, *box)])
    for axis, (index, lo) in enumerate(zip(indices, low, strict=True)):
        axis += len(lead)
        if not np.array_equal(index - lo, np.arange(part.shape[axis])):
            part = np.take(part, index - lo, axis)
    # Other arrays would be asked for all their pixels.
    shared = isinstance(image, np.ndarray) and np.may_share_memory(part, image)
    return part.copy() if shared else part


def mirror(index: np.ndarray, size: int) -> np.ndarray:
    """Indices folded back into 0..size-1 as if the image were mirrored at its edges."""
    period = max(1, 2 * size - 2)
    folded = np.abs(index) % period
    return np.minimum(np.where(folded >= size, period - folded, folded), size - 1)


class BlockCache:
    """A lazy image read in blocks; the most recently used stay in memory."""

    # One store for all images, or many images would take many times the memory.
    _recent: ClassVar[OrderedDict[tuple[int, ...], np.ndarray]] = OrderedDict()
    _lock: ClassVar[Lock] = Lock()
    _numbers: ClassVar[Iterator[int]] = count()

    def __init__(self, image: Any) -> None:
        self.image = image
        self.shape = tuple(image.shape)
        self._edge = CACHE_EDGE[len(self.shape) - 1]
        self._number = next(self._numbers)

    def forget(self) -> None:
        """Leave the store to others."""
        with self._lock:
            for key in [k for k in self._recent if k[0] == self._number]:
                del self._recent[key]

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        spatial = region[1:]
        out: np.ndarray | None = None
        starts = [range(s.start // self._edge, -(-s.stop // self._edge)) for s in spatial]
        for place in np.ndindex(*map(len, starts)):
            key = tuple(r[p] for r, p in zip(starts, place, strict=True))
            block = self._block(key)
            if out is None:
                out = np.empty((self.shape[0], *(s.stop - s.start for s in spatial)), block.dtype)
            here, there = [], []
            for k, s, n in zip(key, spatial, block.shape[1:], strict=True):
                first = k * self._edge
                a, b = max(first, s.start), min(first + n, s.stop)
                here.append(slice(a - s.start, b - s.start))
                there.append(slice(a - first, b - first))
            out[(slice(None), *here)] = block[(slice(None), *there)]
        assert out is not None
        return out

    def _block(self, place: tuple[int, ...]) -> np.ndarray:
        key = (self._number, *place)
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
                return self._recent[key]
        box = tuple(slice(p * self._edge, (p + 1) * self._edge) for p in place)
        block = np.asarray(self.image[(slice(None), *box)])
        with self._lock:
            self._recent[key] = block
            total = sum(b.nbytes for b in self._recent.values())
            while total > CACHE_BYTES and len(self._recent) > 1:
                total -= self._recent.popitem(last=False)[1].nbytes
        return block
