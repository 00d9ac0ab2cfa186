"""How coarse a grid a network may work on: as coarse as can draw what is annotated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from napari_unet.annotation import Item, Region, TrainingSet, is_sparse
from napari_unet.config import TrainConfig

COARSE = 2
DRAWN = 0.96  # Dice of a class with what the coarse grid makes of it
EDGE = {2: 256, 3: 48}  # of the windows that are looked at,
MOST = 32  # and how many at most


def fit_grain(config: TrainConfig, training_set: TrainingSet) -> int:
    """A grid of squares of two pixels where that can draw complete masks, or strokes are painted.

    How thin a stroke is says nothing of what it is painted on. What parts objects is fine, and
    other networks than the compact one are as they were published.
    """
    if config.arch != "compact" or config.depth == 1 or training_set.rims:
        return 1
    items = [item for item in training_set.items if not is_sparse([item])]
    if not items:
        return COARSE
    windows = [(item, region) for item in items for region in _windows(item)]
    kinds = 1 + training_set.n_values
    both, sums = np.zeros(kinds), np.zeros(kinds)
    for item, region in windows[:: -(-len(windows) // MOST)]:
        labels = torch.from_numpy(item.annotation[region])
        for kind in range(1, kinds):
            true = labels == kind
            drawn = _drawn(true) & (labels > 0)
            both[kind] += 2 * int((true & drawn).sum())
            sums[kind] += int(true.sum()) + int(drawn.sum())
    present = sums > 0
    return COARSE if (both[present] >= DRAWN * sums[present]).all() else 1


def _drawn(mask: torch.Tensor) -> torch.Tensor:
    """What is left of a mask on the coarse grid."""
    x = mask[None, None].float()
    pool, mode = (F.avg_pool2d, "bilinear") if mask.ndim == 2 else (F.avg_pool3d, "trilinear")
    small = pool(x, COARSE, ceil_mode=True)
    return F.interpolate(small, size=mask.shape, mode=mode)[0, 0] > 0.5


def _windows(item: Item) -> Iterator[Region]:
    edge = EDGE[item.annotation.ndim]
    axes = [
        [slice(start, min(start + edge, n)) for start in range(0, n, edge)]
        for n in item.annotation.shape
    ]
    return itertools.product(*axes)
