"""What the unpainted rest probably is: a classifier of pixels says so, and the net learns it too.

A net that has seen a few strokes and nothing else may answer anything between them.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_unet.annotation import BLOCK, Item, Region
from napari_unet.config import NetConfig
from napari_unet.device import Numerics
from napari_unet.models.pixels import PixelNet, features
from napari_unet.patches import (
    CACHE_EDGE,
    BlockCache,
    Sampler,
    at_pixels,
    gather,
    item_stats,
    readable,
)

SPARSE = 0.5  # hints are for images of which less than this part is labelled
MARGIN = 32  # pixels read around a window; what lies beyond changes little
WINDOWS = 48  # that are learned from, those painted last: each takes some hundredths of a second
PIXELS = 1024  # of a window that are learned from
AGAIN = 20  # steps after which it may be fitted again; then twice as many, and so on
TRUSTED = 150  # steps after which the net relies on hints less and less


@dataclass(frozen=True)
class _Window:
    """A part of an image in which something is labelled."""

    item: Item
    place: tuple[int, ...]
    region: Region
    version: int  # of the training set when it was last painted

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        return self.item.name, self.place


class Hints:
    """A classifier of pixels, fitted now and then to what is painted, and its view of images."""

    def __init__(self, sampler: Sampler, config: NetConfig, numerics: Numerics, seed: int) -> None:
        self.on = True
        self.net: PixelNet | None = None
        self._sampler, self._config, self._seed = sampler, config, seed
        self._device = numerics.device
        # By window, the version it was read at, the values of its filters, and its labels.
        self._rows: dict[tuple[str, tuple[int, ...]], tuple[int, Tensor, Tensor]] = {}
        self._maps: dict[str, BlockCache] = {}
        self._fitted = (-1, 0)  # to which version of the training set, at which step

    def refresh(self, step: int) -> None:
        """Fit it to the present annotation, if that has changed and some steps have gone by."""
        version, last = self._fitted
        early = self.net is not None and step < max(last + AGAIN, 2 * last)
        if not self.on or version == self._sampler.version or early:
            return
        items = [i for i in self._sampler.items if 0 < i.labelled < SPARSE * i.annotation.size]
        self._read(itertools.chain.from_iterable(map(self._windows, items)))
        self._fitted = (self._sampler.version, step)
        self.net, self._maps = self._fit(), {}
        if self.net is not None:
            self._maps = {i.name: BlockCache(_Map(self, self.net, i)) for i in items}

    @staticmethod
    def weight(step: int) -> float:
        """Of hints in the loss, in which labels weigh 1."""
        return min(1.0, TRUSTED / max(1, step))

    def of(self, item: Item) -> BlockCache | None:
        """The probabilities of background and of each class, (1 + classes, *spatial)."""
        return self._maps.get(item.name)

    def guess(self) -> PixelNet | None:
        """A copy of the classifier, for others to predict with."""
        return None if self.net is None else copy.deepcopy(self.net).cpu()

    def _windows(self, item: Item) -> Iterable[_Window]:
        ndim = item.annotation.ndim
        edge, blocks = CACHE_EDGE[ndim], CACHE_EDGE[ndim] // BLOCK[ndim]
        places = np.unique(np.argwhere(item.counts.any(0)) // blocks, axis=0)
        for place in map(tuple, places.tolist()):
            region = tuple(
                slice(p * edge, min((p + 1) * edge, n))
                for p, n in zip(place, item.annotation.shape, strict=True)
            )
            part = tuple(slice(p * blocks, (p + 1) * blocks) for p in place)
            yield _Window(item, place, region, int(item.touched[part].max()))

    def _read(self, windows: Iterable[_Window]) -> None:
        """See to it that the rows are those of the windows painted last."""
        known, self._rows = self._rows, {}
        for window in sorted(windows, key=lambda w: (-w.version, w.key))[:WINDOWS]:
            rows = known.get(window.key)
            if rows is None or rows[0] != window.version:
                rows = (window.version, *self._values(window))
            self._rows[window.key] = rows

    @torch.no_grad()
    def _values(self, window: _Window) -> tuple[Tensor, Tensor]:
        """Filter values and labels of pixels that may be trained on."""
        item, region = window.item, window.region
        places = [np.arange(s.start, s.stop) for s in region]
        closed = at_pixels(self._sampler.closed(item), places, item.annotation.shape)
        labels = np.where(closed, 0, item.annotation[region]).ravel()
        some = np.random.default_rng(self._seed).permutation(np.flatnonzero(labels))[:PIXELS]
        x, inside = self.pixels(item, region)
        rows = features(x)[0][inside].flatten(0, -2)
        return rows[torch.from_numpy(some).to(self._device)], self._send(labels[some])

    def _fit(self) -> PixelNet | None:
        rows = [rows for _, rows, _ in self._rows.values()]
        labels = [labels for _, _, labels in self._rows.values()]
        if not labels or len(torch.cat(labels).unique()) < 2:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            net = PixelNet(self._config).to(self._device)
        random = torch.Generator(self._device).manual_seed(self._seed)
        net.fit(torch.cat(rows), torch.cat(labels), random)
        return net.eval().requires_grad_(False)

    def pixels(self, item: Item, region: Region) -> tuple[Tensor, Region]:
        """Normalised pixels around a region, (1, C, *spatial), and where in them it lies."""
        margins = (0,) * (len(region) - 2) + (MARGIN, MARGIN)
        pairs = list(zip(region, margins, strict=True))
        wanted = [np.arange(s.start - m, s.stop + m) for s, m in pairs]
        inside = tuple(slice(m, m + s.stop - s.start) for s, m in pairs)
        return self._send(item_stats(item).apply(gather(readable(item), wanted)))[None], inside

    def _send(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


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
