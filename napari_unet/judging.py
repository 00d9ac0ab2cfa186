"""Scores on the annotation that was held out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_unet.annotation import Item, Region, parted
from napari_unet.device import Numerics
from napari_unet.holdout import HELD, HoldOut
from napari_unet.metrics import Matrix, Scores, confusion, dice_of, mean
from napari_unet.models import Net
from napari_unet.models.pixels import as_logs, together
from napari_unet.patches import gather, normalised
from napari_unet.rims import without_rims
from napari_unet.tiling import Tile, widened

EDGE = {2: 256, 3: 48}  # held-out windows are looked at in pieces of this edge,
PIECES = 4  # and at most twice so many in all, evenly spread
LEAST_OF_CLASS = 500  # held-out pixels, without which a class is not judged
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
        scores = {share: self.pooled(found, items) for share, found in tables.items()}
        best = max(scores, key=lambda s: (mean(scores[s]) or 0.0) + LEAD * (s == shares[0]))
        return best, scores[best]

    def pooled(self, tables: dict[str, Matrix], items: tuple[Item, ...]) -> Scores:
        """Dice of each class of which enough is held out; of others it would be chance."""
        held = np.zeros(1 + self.classes + self.rims, np.int64)
        for item in items:
            held += self.holdout.counts(item, HELD)
        if self.rims:
            held[1] += held[-1]
        nothing = np.zeros((self.classes + 1,) * 2, np.int64)
        scores = dice_of(sum(tables.values(), nothing))
        known = held[1 : self.classes + 1] >= LEAST_OF_CLASS
        return tuple(s if k else None for s, k in zip(scores, known, strict=True))

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
        wanted = _spread(pieces[:: max(1, len(pieces) // pieces_wanted)])
        for number, (item, region) in enumerate(wanted):
            if number >= 2 * PIECES and time.perf_counter() > end:
                break
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


def _spread(pieces: list[tuple[Item, Region]]) -> list[tuple[Item, Region]]:
    """In an order whose every beginning is spread over all."""
    places = sorted(range(len(pieces)), key=lambda place: place * GOLDEN % 1)
    return [pieces[place] for place in places]


def _logits_of(view: View | None, item: Item, region: Region, number: int) -> Tensor:
    """The probabilities that somebody gives, as so many logits."""
    assert view is not None
    p = gather(view(item), [np.arange(s.start, s.stop) for s in region])
    logits = as_logs(torch.from_numpy(p))
    return logits[1:] - logits[:1] if number == 1 else logits
