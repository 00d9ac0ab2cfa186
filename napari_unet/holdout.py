"""Annotation held out to judge by: blocks, or whole images, no nearer than the net can see."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from napari_unet.annotation import BLOCK, Ends, Item, Region, ends_of, is_sparse, region_of

TRAIN, HELD, BUFFER = 0, 1, 2
# Holding out may take at most this multiple of its share away from training, buffers included.
COST = 1.25
# Of one image it may take so much: of three images, none can be spared.
MOST_OF_IMAGE = 0.5
# From so many images on, whole images are held out, though none of which little is painted: all
# that would be learned of it later is kept from training as well.
MANY_IMAGES = 5
WINDOWS = 8  # held-out rectangles at most
LEAST = 2000  # held-out pixels; a score on fewer, such as a stroke or two, is chance
LEAST_OF_STROKES = 5000  # and before that, each stroke is missed more than a score


class HoldOut:
    """Which blocks are trained on, judged by, or left unused between the two.

    What has once been trained on is never held out later, what is held out stays so.
    """

    def __init__(
        self,
        share: float,
        halo: tuple[int, ...],
        seed: int,
        earlier: Callable[[Item], list[Region] | None] = lambda item: None,
    ) -> None:
        """`earlier` says what an earlier run held out of an image; None if it did not learn it."""
        self.share = share
        self._halo = halo
        self._rng = np.random.default_rng(seed)
        self._earlier = earlier
        self.roles: dict[str, np.ndarray] = {}
        self.windows: dict[str, list[Region]] = {}  # in pixels
        self._trained: dict[str, np.ndarray] = {}
        # Of images that were asked to be judged by alone, what is held out of them otherwise.
        self._asked: dict[str, list[Region]] = {}

    def update(self, items: tuple[Item, ...]) -> None:
        """Give every block of the present annotation its role."""
        for item in items:
            # A name may come back with an image of another size, whose blocks are others.
            if item.name not in self.roles or self.roles[item.name].shape != item.touched.shape:
                self._begin(item)
            if item.role == "hold out":
                self._hold_all(item)
            elif item.name in self._asked:  # no longer
                self._lay_out(item, self._asked.pop(item.name))
            if item.role == "train":  # perhaps only since a moment ago
                self.roles[item.name][:], self.windows[item.name] = TRAIN, []
        free_to = tuple(i for i in items if i.role == "both")
        least = LEAST_OF_STROKES if is_sparse(items) else LEAST
        if self.share * sum(i.labelled for i in items) >= least:
            if sum(i.labelled > 0 for i in free_to) >= MANY_IMAGES:
                self._hold_images(free_to)
            self._hold_windows(free_to)  # where images did not suffice
        for item in items:
            free = self.roles[item.name] == TRAIN
            self._trained[item.name] |= free & (item.counts.sum(0) > 0)

    def _begin(self, item: Item) -> None:
        """The roles of an image's first blocks: no net is judged by what it learned before.

        What an earlier run held out stays held out; it learned all the rest.
        """
        self._asked.pop(item.name, None)
        earlier = self._earlier(item)
        self._lay_out(item, earlier if earlier and self.share and item.role != "train" else [])
        self._trained[item.name] = np.zeros(item.touched.shape, bool)
        if earlier is not None:
            learned = self.roles[item.name] == TRAIN
            self._trained[item.name] = learned & (item.counts.sum(0) > 0)

    def _lay_out(self, item: Item, held: Sequence[Region]) -> None:
        """Hold these windows out, and nothing else."""
        edge = BLOCK[item.annotation.ndim]
        self.roles[item.name] = np.zeros(item.touched.shape, np.uint8)
        self.windows[item.name] = []
        for pixels in held:
            self._take(item, tuple(slice(s.start // edge, -(-s.stop // edge)) for s in pixels))

    def held(self, items: tuple[Item, ...]) -> int:
        """Labelled pixels that are held out."""
        return sum(int(self.counts(i, HELD).sum()) for i in items)

    def counts(self, item: Item, role: int) -> np.ndarray:
        """Pixels of background and each class in the blocks of a role: (1 + classes,)."""
        counts: np.ndarray = item.counts[:, self.roles[item.name] == role].sum(1)
        return counts

    def state(self) -> dict[str, Any]:
        """Every decision taken, for a checkpoint."""
        return {
            "roles": {k: v.tolist() for k, v in self.roles.items()},
            "trained": {k: v.tolist() for k, v in self._trained.items()},
            "windows": _in_ends(self.windows),
            "asked": _in_ends(self._asked),
            "rng": self._rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.roles = {k: np.array(v, np.uint8) for k, v in state["roles"].items()}
        self._trained = {k: np.array(v, bool) for k, v in state["trained"].items()}
        self.windows = _in_regions(state["windows"])
        self._asked = _in_regions(state["asked"])
        self._rng.bit_generator.state = state["rng"]

    def _hold_all(self, item: Item) -> None:
        """Leave out an image that is only to be judged by; what was trained on does not judge."""
        role, whole = self.roles[item.name], _whole(item)
        if item.name not in self._asked:
            self._asked[item.name] = [w for w in self.windows[item.name] if w != whole]
        if self._trained[item.name].any():
            role[role == TRAIN] = BUFFER
        else:
            role[:], self.windows[item.name] = HELD, [whole]

    def _hold_images(self, items: tuple[Item, ...]) -> None:
        total = sum(i.labelled for i in items)
        for place in self._rng.permutation(len(items)):
            item = items[place]
            held = self.held(items)
            if held >= 0.75 * self.share * total:
                return
            fresh = not self._trained[item.name].any() and not self.windows[item.name]
            small = held + item.labelled <= COST * self.share * total
            spared = fresh and small and item.labelled and not is_sparse([item])
            if spared and self._leaves_classes(items, item):
                self.roles[item.name][:], self.windows[item.name] = HELD, [_whole(item)]

    def _leaves_classes(self, items: tuple[Item, ...], item: Item) -> bool:
        left = sum(self.counts(i, TRAIN) for i in items if i is not item)
        return bool(np.all((left > 0) | (self.counts(item, TRAIN) == 0)))

    def _hold_windows(self, items: tuple[Item, ...]) -> None:
        total = sum(i.labelled for i in items)
        while sum(len(self.windows[i.name]) for i in items) < WINDOWS:
            held = self.held(items)
            kept = np.sum([self.counts(i, TRAIN) for i in items], 0)
            taken = total - int(kept.sum())
            wanted, allowed = self.share * total - held, COST * self.share * total - taken
            if wanted < 0.25 * self.share * total:
                return
            found = [
                f
                for i in items
                if i.labelled and (f := self._best_window(i, kept, wanted, allowed))
            ]
            if not found:
                return
            _, item, window = max(found, key=lambda f: f[0])
            self._take(item, window)

    def _take(self, item: Item, window: Region) -> None:
        edge = BLOCK[item.annotation.ndim]
        role = self.roles[item.name]
        around = _grown(window, self._margin(item), role.shape)
        role[around] = np.where(role[around] == TRAIN, BUFFER, role[around])
        role[window] = HELD
        pixels = (
            slice(w.start * edge, min(w.stop * edge, n))
            for w, n in zip(window, item.annotation.shape, strict=True)
        )
        self.windows[item.name].append(tuple(pixels))

    def _margin(self, item: Item) -> tuple[int, ...]:
        edge = BLOCK[item.annotation.ndim]
        return tuple(-(-h // edge) for h in self._halo)

    def _best_window(
        self, item: Item, kept: np.ndarray, wanted: float, allowed: float
    ) -> tuple[float, Item, Region] | None:
        """The window that holds out most for what it costs training, if it is worth it."""
        role = self.roles[item.name]
        counts = item.counts * (role == TRAIN)
        if not (counts.any(0) & ~self._trained[item.name]).any():
            return None  # all there is was trained on
        taken = item.labelled - int(counts.sum())
        allowed = min(allowed, MOST_OF_IMAGE * item.labelled - taken)
        sums = _summed(counts)
        seen = _summed(self._trained[item.name][None].astype(np.int64))
        best: tuple[float, Item, Region] | None = None
        for window in _windows(role.shape):
            grown = _grown(window, self._margin(item), role.shape)
            inside, around = _inside(sums, window), _inside(sums, grown)
            if around.sum() > allowed or np.any((kept > 0) & (around >= 0.7 * kept)):
                continue
            if _inside(seen, grown).any():
                continue
            variety = np.count_nonzero(inside) / max(1, int(np.count_nonzero(kept)))
            worth = (min(inside.sum(), wanted) - 0.25 * (around - inside).sum()) * variety
            if worth > 0.02 * wanted and (best is None or worth > best[0]):
                best = (float(worth), item, window)
        return best


def _in_ends(windows: dict[str, list[Region]]) -> dict[str, list[Ends]]:
    return {name: [ends_of(window) for window in each] for name, each in windows.items()}


def _in_regions(ends: dict[str, list[Ends]]) -> dict[str, list[Region]]:
    return {name: [region_of(window) for window in each] for name, each in ends.items()}


def _whole(item: Item) -> Region:
    return tuple(slice(0, n) for n in item.annotation.shape)


def _windows(grid: tuple[int, ...]) -> list[Region]:
    """Square windows of some sizes at evenly spread places, in blocks."""
    out: list[Region] = []
    edges = {max(1, round(min(grid) * f)) for f in (0.15, 0.25, 0.4, 0.6)}
    for size in sorted(edges | {max(grid)}):
        sizes = [min(size, n) for n in grid]
        starts = [
            np.unique(np.linspace(0, n - s, min(n - s + 1, 9)).astype(int)).tolist()
            for n, s in zip(grid, sizes, strict=True)
        ]
        out += [
            tuple(slice(a, a + s) for a, s in zip(corner, sizes, strict=True))
            for corner in itertools.product(*starts)
        ]
    return out


def _grown(window: Region, margin: tuple[int, ...], grid: tuple[int, ...]) -> Region:
    return tuple(
        slice(max(0, w.start - m), min(n, w.stop + m))
        for w, m, n in zip(window, margin, grid, strict=True)
    )


def _summed(values: np.ndarray) -> np.ndarray:
    """Summed-area table over all but the first axis, with a leading zero on each."""
    out = np.pad(values, [(0, 0)] + [(1, 0)] * (values.ndim - 1))
    for axis in range(1, values.ndim):
        out = out.cumsum(axis)
    return out


def _inside(sums: np.ndarray, window: Region) -> np.ndarray:
    total = np.zeros(len(sums), sums.dtype)
    for corner in itertools.product((0, 1), repeat=len(window)):
        place = tuple(w.stop if c else w.start for w, c in zip(window, corner, strict=True))
        total += (-1) ** (len(window) - sum(corner)) * sums[(slice(None), *place)]
    return total
