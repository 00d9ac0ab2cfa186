"""Scores on the annotation that was held out."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from napari_unet.annotation import Item, Region
from napari_unet.device import Numerics
from napari_unet.holdout import HELD, HoldOut
from napari_unet.metrics import Matrix, Scores, confusion, dice_of
from napari_unet.models import Net
from napari_unet.patches import normalised
from napari_unet.rims import without_rims

EDGE = {2: 256, 3: 48}  # held-out windows are looked at in pieces of this edge,
PIECES = 4  # and at most twice so many in all, evenly spread
LEAST_OF_CLASS = 500  # held-out pixels, without which a class is not judged


class Judge:
    """Scores a net on the present held-out annotation."""

    def __init__(
        self, holdout: HoldOut, numerics: Numerics, classes: int, ndim: int, rims: bool = False
    ) -> None:
        self.holdout, self.numerics, self.classes, self.rims = holdout, numerics, classes, rims
        self.pixels = 0  # that the last score passed through the net
        self.edge = EDGE[ndim]

    def score(self, net: Net, items: tuple[Item, ...]) -> Scores:
        """Dice of each class on a sample of the held-out pixels, pooled."""
        return self.pooled(self.tables(net, items, PIECES), items)

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

    def tables(self, net: Net, items: tuple[Item, ...], pieces_wanted: int) -> dict[str, Matrix]:
        """By item, how many held-out pixels of each class were taken for which."""
        tables: dict[str, Matrix] = {}
        pieces = [(item, region) for item in items for region in self._pieces(item)]
        self.pixels = 0
        for item, region in pieces[:: max(1, len(pieces) // pieces_wanted)]:
            table = self._confusion(net, item, region)
            tables[item.name] = tables.get(item.name, 0) + table
        return tables

    def _pieces(self, item: Item) -> list[Region]:
        out: list[Region] = []
        for window in self.holdout.windows.get(item.name, []):
            axes = [
                [slice(a, min(a + self.edge, s.stop)) for a in range(s.start, s.stop, self.edge)]
                for s in window
            ]
            out += itertools.product(*axes)
        return [region for region in out if item.annotation[region].any()]

    @torch.no_grad()
    def _confusion(self, net: Net, item: Item, region: Region) -> Any:
        pairs = list(zip(region, net.halo, strict=True))
        wanted = [np.arange(s.start - h, s.stop + h) for s, h in pairs]
        pixels = normalised(item, wanted)
        self.pixels += pixels[0].size
        with self.numerics.autocast():
            logits = net(self.numerics.send(pixels))[0]
        logits = logits[(slice(None), *(slice(h, h + s.stop - s.start) for s, h in pairs))]
        truth = item.annotation[region]
        if self.rims:
            logits, _ = without_rims(logits)
            truth = np.where(truth == self.classes + 1, 1, truth)
        labels = (logits[0] > 0).long() if len(logits) == 1 else logits.argmax(0)
        return confusion(labels.cpu().numpy(), truth, self.classes)
