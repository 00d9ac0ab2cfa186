"""Scores on the annotation that was held out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_unet.annotation import BLOCK, Item, Region, parted
from napari_unet.device import Numerics
from napari_unet.holdout import HoldOut
from napari_unet.metrics import Matrix, Scores, confusion, dice_of, mean
from napari_unet.models import Net
from napari_unet.models.pixels import as_logs, together
from napari_unet.patches import gather, normalised
from napari_unet.rims import without_rims
from napari_unet.tiling import Tile, widened

EDGE = {2: 256, 3: 48}  # held-out windows are looked at in pieces of this edge,
PIECES = 4  # and about twice so many at most, evenly spread, but for classes that need others
LEAST_OF_CLASS = 500  # pixels that were looked at, without which a class is not judged
GOLDEN = (math.sqrt(5) - 1) / 2  # of whose multiples the fractions are spread evenly
# What is held out lies in images that were learned from, and does not show what others are like.
LEAD = 0.02  # in Dice, which another share of a second opinion needs to be preferred to the usual

# The probabilities of an image, if there is somebody who gives them.
View = Callable[[Item], Any]


class Judge:
    """Scores a net on the present held-out annotation."""

    def __init__(
        self, holdout: HoldOut, numerics: Numerics, classes: int, ndim: int, rims: bool = False
    ) -> None:
        self.holdout, self.numerics, self.classes, self.rims = holdout, numerics, classes, rims
        self.pixels = 0  # that the last score passed through the net
        self.edge = EDGE[ndim]

    def score(
        self,
        net: Net,
        items: tuple[Item, ...],
        shares: Sequence[float] = (0.0,),
        view: View | None = None,
    ) -> tuple[float, Scores]:
        """Dice of each class on a sample of the held-out pixels, pooled, and with which share.

        Another's `view` has that share in the answer: the first, unless one is clearly better.
        """
        tables = self.tables(net, items, PIECES, shares, view)
        scores = {share: self.pooled(found.values()) for share, found in tables.items()}
        best = max(scores, key=lambda s: (mean(scores[s]) or 0.0) + LEAD * (s == shares[0]))
        return best, scores[best]

    def pooled(self, tables: Iterable[Matrix]) -> Scores:
        """Dice of each class of which enough was looked at; of others it would be chance."""
        table = sum(tables, np.zeros((self.classes + 1,) * 2, np.int64))
        known = table.sum(1)[1:] >= LEAST_OF_CLASS
        return tuple(s if k else None for s, k in zip(dice_of(table), known, strict=True))

    def tables(
        self,
        net: Net,
        items: tuple[Item, ...],
        pieces_wanted: int,
        shares: Sequence[float] = (0.0,),
        view: View | None = None,
        seconds: float = math.inf,
    ) -> dict[float, dict[str, Matrix]]:
        """By share and item, how many held-out pixels of each class were taken for which.

        After so many seconds no more pieces are looked at than for a sample.
        """
        end = time.perf_counter() + seconds
        shares = list(dict.fromkeys(shares))
        tables: dict[float, dict[str, Matrix]] = {share: {} for share in shares}
        pieces = [(item, region) for item in items for region in self._pieces(item)]
        self.pixels = 0
        sample = self._sample(pieces)
        others = [place for place in _spread(len(pieces), pieces_wanted) if place not in sample]
        for number, place in enumerate(sample + others):
            if number >= len(sample) and time.perf_counter() > end:
                break
            item, region = pieces[place]
            found = self._confusions(net, item, region, shares, view)
            for share, table in zip(shares, found, strict=True):
                known = tables[share]
                known[item.name] = known.get(item.name, 0) + table
        return tables

    def _pieces(self, item: Item) -> list[Region]:
        out: list[Region] = []
        for window in self.holdout.windows.get(item.name, []):
            out += parted(window, self.edge)
        return [region for region in out if item.annotation[region].any()]

    def _sample(self, pieces: list[tuple[Item, Region]]) -> list[int]:
        """Which of the pieces to look at, so that every class that can be judged is."""
        chosen = _spread(len(pieces), PIECES)
        counts = np.array([self._counts(*piece) for piece in pieces])
        for each in counts.T[1:]:
            if each.sum() < LEAST_OF_CLASS:
                continue
            for place in np.argsort(-each, kind="stable").tolist():
                if each[chosen].sum() >= LEAST_OF_CLASS or not each[place]:
                    break
                if place not in chosen:
                    chosen.append(place)
        return chosen

    def _counts(self, item: Item, region: Region) -> np.ndarray:
        """Pixels of background and each class in the blocks that a region touches."""
        edge = BLOCK[item.annotation.ndim]
        blocks = tuple(slice(s.start // edge, -(-s.stop // edge)) for s in region)
        counts: np.ndarray = item.counts[(slice(None), *blocks)].reshape(len(item.counts), -1)
        return counts.sum(1)

    @torch.no_grad()
    def _confusions(
        self, net: Net, item: Item, region: Region, shares: Sequence[float], view: View | None
    ) -> list[Matrix]:
        shape = item.annotation.shape
        tile = Tile(widened(region, shape, net.halo, net.stride), region)  # as in a prediction
        pixels = normalised(item, [np.arange(s.start, s.stop) for s in tile.read])
        self.pixels += pixels[0].size
        with self.numerics.autocast():
            logits = net(self.numerics.send(pixels))[0]
        logits = logits[(slice(None), *tile.inner)].float().cpu()[None]
        advice = _logits_of(view, item, region, logits.shape[1])[None] if any(shares) else logits
        return [self._confusion(together(logits, advice, s)[0], item, region) for s in shares]

    def _confusion(self, logits: Tensor, item: Item, region: Region) -> Matrix:
        truth = item.annotation[region]
        if self.rims:
            logits, _ = without_rims(logits)
            truth = np.where(truth == self.classes + 1, 1, truth)
        labels = (logits[0] > 0).long() if len(logits) == 1 else logits.argmax(0)
        return confusion(labels.numpy(), truth, self.classes)


def _spread(number: int, wanted: int) -> list[int]:
    """So many places of a number, or up to twice so many; every beginning is spread over all."""
    places = range(number)[:: max(1, number // wanted)]
    return sorted(places, key=lambda place: place // places.step * GOLDEN % 1)


def _logits_of(view: View | None, item: Item, region: Region, number: int) -> Tensor:
    """The probabilities that somebody gives, as so many logits."""
    assert view is not None
    p = gather(view(item), [np.arange(s.start, s.stop) for s in region])
    logits = as_logs(torch.from_numpy(p))
    return logits[1:] - logits[:1] if number == 1 else logits
