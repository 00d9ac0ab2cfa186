"""What the unpainted rest probably is: a classifier of pixels says so, and the net learns it too.

A net that has seen a few strokes and nothing else may answer anything between them.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_unet.annotation import BLOCK, Item, Region
from napari_unet.config import BACKGROUND, NetConfig
from napari_unet.device import Numerics
from napari_unet.models.pixels import COARSEST, PixelNet, features
from napari_unet.patches import (
    CACHE_EDGE,
    SPARSE,
    BlockCache,
    Sampler,
    at_pixels,
    normalised,
)

MARGIN = 32  # pixels read around a window; what lies beyond changes little
WINDOWS = {2: 48, 3: 8}  # that are learned from; one of a plane takes some hundredths of a second
PIXELS = 1024  # of a window that are learned from,
LEAST_OF_KIND = 32  # of them at least so many of each class, if there are
AGAIN = 20  # steps after which it may be fitted again; then twice as many, and so on
TRUSTED = 150  # steps after which the net relies on hints less and less,
LEAST = 0.02  # until they weigh so little that they are not worth their time


@dataclass(frozen=True)
class _Window:
    """A part of an image in which something is labelled."""

    item: Item
    place: tuple[int, ...]
    region: Region
    version: int  # of the training set when it was last painted
    kinds: frozenset[int]  # rows of the counts of what may be learned there

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        return self.item.name, self.place


def _newest(window: _Window) -> tuple[int, tuple[str, tuple[int, ...]]]:
    return -window.version, window.key


class Hints:
    """A classifier of pixels, fitted now and then to what is painted, and its view of images."""

    def __init__(
        self,
        sampler: Sampler,
        config: NetConfig,
        numerics: Numerics,
        seed: int,
        on: bool = True,
    ) -> None:
        self.on = on
        self.net: PixelNet | None = None
        self._sampler, self._config, self._seed = sampler, config, seed
        self._device = numerics.device
        # By window, the version it was read at, the values of its filters, and its labels.
        self._rows: dict[tuple[str, tuple[int, ...]], tuple[int, Tensor, Tensor]] = {}
        self._maps: dict[str, tuple[Item, BlockCache]] = {}
        self._fitted = (-1, 0)  # to which version of the training set, at which step
        self._kinds: frozenset[int] = frozenset()  # that it knows

    def refresh(self, step: int) -> None:
        """Fit it to the present annotation, if that has changed and some steps have gone by.

        A class that it does not know is learned at once, or it would be denied everywhere.
        """
        if self.on and self.weight(step) < LEAST:
            self.stop()
        version, last = self._fitted
        if not self.on or version == self._sampler.version:
            return
        kinds = frozenset(np.flatnonzero(self._sampler.totals).tolist())
        if kinds == self._kinds and step < max(last + AGAIN, 2 * last):
            return
        painted = [i for i in self._sampler.items if i.labelled]
        sparse = [i for i in painted if i.labelled < SPARSE * i.annotation.size]
        windows = map(self._windows, painted if sparse else ())
        self._read(sorted(itertools.chain.from_iterable(windows), key=_newest))
        self._fitted, self._kinds = (self._sampler.version, step), kinds
        self.net, self._maps = self._fit(), {}
        if self.net is not None:
            self._maps = {i.name: (i, BlockCache(_Map(self, self.net, i))) for i in sparse}

    def stop(self) -> None:
        """Give no hints any more."""
        self.on, self.net, self._maps, self._rows = False, None, {}, {}

    @staticmethod
    def weight(step: int) -> float:
        """Of hints in the loss, in which labels weigh 1."""
        return min(1.0, TRUSTED / max(1, step))

    def of(self, item: Item) -> BlockCache | None:
        """The probabilities of background and of each class, (1 + classes, *spatial)."""
        known = self._maps.get(item.name)
        # Another image may have come under the name.
        return known[1] if known is not None and known[0] is item else None

    def guess(self) -> PixelNet | None:
        """A copy of the classifier, for others to predict with."""
        return None if self.net is None else copy.deepcopy(self.net).cpu()

    def _windows(self, item: Item) -> Iterable[_Window]:
        ndim = item.annotation.ndim
        edge, blocks = CACHE_EDGE[ndim], CACHE_EDGE[ndim] // BLOCK[ndim]
        counts = item.counts * ~self._sampler.closed(item)
        places = np.unique(np.argwhere(counts.any(0)) // blocks, axis=0)
        for place in map(tuple, places.tolist()):
            region = tuple(
                slice(p * edge, min((p + 1) * edge, n))
                for p, n in zip(place, item.annotation.shape, strict=True)
            )
            part = tuple(slice(p * blocks, (p + 1) * blocks) for p in place)
            kinds = np.flatnonzero(counts[(slice(None), *part)].reshape(len(counts), -1).any(1))
            # What was painted a moment ago is not read yet, so it has to be read later.
            version = min(int(item.touched[part].max()), self._sampler.version)
            yield _Window(item, place, region, version, frozenset(kinds.tolist()))

    def _read(self, windows: Sequence[_Window]) -> None:
        """See to it that the rows are those of the windows painted last, with all kinds in them."""
        if not windows:
            self._rows = {}
            return
        most = WINDOWS[len(windows[0].region)]
        kinds = frozenset[int]().union(*(w.kinds for w in windows))
        chosen: dict[tuple[str, tuple[int, ...]], _Window] = {}
        for kind in sorted(kinds):
            some = [w for w in windows if kind in w.kinds]
            chosen |= {w.key: w for w in some[: max(1, most // len(kinds))]}
        for window in windows:
            if len(chosen) < most:
                chosen[window.key] = window
        known, self._rows = self._rows, {}
        for window in sorted(chosen.values(), key=_newest):
            rows = known.get(window.key)
            if rows is None or rows[0] != window.version:
                rows = (window.version, *self._values(window))
            self._rows[window.key] = rows

    @torch.no_grad()
    def _values(self, window: _Window) -> tuple[Tensor, Tensor]:
        """Filter values and labels of pixels that may be trained on."""
        item, region = window.item, window.region
        labels = item.annotation[region].copy()  # before it is asked which of them are open
        places = [np.arange(s.start, s.stop) for s in region]
        labels[at_pixels(self._sampler.closed(item), places, item.annotation.shape)] = 0
        if labels.ndim == 3 and labels.any():  # each plane is filtered by itself
            planes = np.flatnonzero(labels.any((1, 2)))
            low, high = int(planes[0]), int(planes[-1]) + 1
            labels, first = labels[low:high], region[0].start
            region = (slice(first + low, first + high), *region[1:])
        flat = labels.ravel()
        some = _some(flat, np.random.default_rng(self._seed))
        x, inside = self.pixels(item, region)
        rows = features(x)[0][inside].flatten(0, -2)
        return rows[torch.from_numpy(some).to(self._device)], self._send(flat[some])

    def _fit(self) -> PixelNet | None:
        rows = [rows for _, rows, _ in self._rows.values()]
        labels = [labels for _, _, labels in self._rows.values()]
        known = set(torch.cat(labels).unique().tolist()) if labels else set()
        # Of a class that it has not seen it would say that it is nowhere.
        if len(known) < 2 or not {kind or BACKGROUND for kind in self._kinds} <= known:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed)  # and not those of GPUs
            net = PixelNet(self._config).to(self._device)
        random = torch.Generator(self._device).manual_seed(self._seed)
        net.fit(torch.cat(rows), torch.cat(labels), random)
        return net.eval().requires_grad_(False)

    def pixels(self, item: Item, region: Region) -> tuple[Tensor, Region]:
        """Normalised pixels around a region, (1, C, *spatial), and where in them it lies."""
        margins = (0,) * (len(region) - 2) + (MARGIN, MARGIN)
        pairs = list(zip(region, margins, strict=True))
        # Up to sizes that can be halved at all scales.
        steps = (1,) * (len(region) - 2) + (COARSEST, COARSEST)
        wanted = [
            np.arange(s.start - m, s.stop + m + (s.start - s.stop - 2 * m) % step)
            for (s, m), step in zip(pairs, steps, strict=True)
        ]
        inside = tuple(slice(m, m + s.stop - s.start) for s, m in pairs)
        return self._send(normalised(item, wanted))[None], inside

    def _send(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _some(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Places of labelled pixels, few of them; the rare are not left out."""
    places = random.permutation(np.flatnonzero(labels))
    kinds = np.unique(labels[places])
    first = [places[labels[places] == kind][:LEAST_OF_KIND] for kind in kinds]
    wanted = np.concatenate([*first, places])
    _, when = np.unique(wanted, return_index=True)
    chosen: np.ndarray = wanted[np.sort(when)][:PIXELS]
    return chosen


class _Map:
    """An image of probabilities that is computed where it is read."""

    def __init__(self, hints: Hints, net: PixelNet, item: Item) -> None:
        self.shape = (net.config.n_classes + 1, *item.annotation.shape)
        self._hints, self._net, self._item = hints, net, item

    def __getitem__(self, place: tuple[slice, ...]) -> np.ndarray:
        pairs = zip(place[1:], self.shape[1:], strict=True)
        x, inside = self._hints.pixels(self._item, tuple(slice(*s.indices(n)) for s, n in pairs))
        found = self._net.probabilities(x)[0].movedim(0, -1)[inside].movedim(-1, 0)
        return found.contiguous().cpu().numpy()
