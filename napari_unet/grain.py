"""How coarse a grid a network may work on: as coarse as can draw what is annotated."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from napari_unet.annotation import BLOCK, Item, Region, TrainingSet, is_sparse, parted
from napari_unet.config import NetConfig, TrainConfig
from napari_unet.models.unet import averaged, halvings, interpolated, padded

COARSE = 2
DRAWN = 0.96  # Dice of a class with what the coarse grid makes of it
EDGE = {2: 256, 3: 48}  # of the windows that are looked at, in whole blocks,
MOST = 32  # and how many at most


def fit_grain(config: TrainConfig, training_set: TrainingSet) -> int:
    """A grid of squares of two pixels where that can draw complete masks, or strokes are painted.

    How thin a stroke is says nothing of what it is painted on, nor how thin the rims of objects
    are, and other networks than the compact one are as they were published.
    """
    if config.arch != "compact" or config.depth == 1:
        return 1
    ndim = training_set.ndim
    spacing = training_set.spacing if ndim == 3 else ()
    factors = halvings(NetConfig(ndim=ndim, spacing=spacing), 1)[0]
    passed_by = {0, training_set.n_values if training_set.rims else 0}
    both, sums = Counter[int](), Counter[int]()
    for item, region in _some_windows(training_set.items):
        labels = torch.from_numpy(item.annotation[region])
        # Background too, as it may be what is thin; the rims of objects are, whatever they are of.
        for kind in set(labels.unique().tolist()) - passed_by:
            true = labels == kind
            drawn = _drawn(true, factors)
            both[kind] += 2 * int((true & drawn).sum())
            sums[kind] += int(true.sum()) + int(drawn.sum())
    return COARSE if all(both[kind] >= DRAWN * sums[kind] for kind in sums) else 1


def _drawn(mask: torch.Tensor, factors: tuple[int, ...]) -> torch.Tensor:
    """What is left of a mask on the coarse grid."""
    x = padded(mask[None, None].float(), factors)
    again = interpolated(averaged(x, factors), factors, linear=True)[0, 0] > 0.5
    return again[tuple(map(slice, mask.shape))]


def _some_windows(items: tuple[Item, ...]) -> list[tuple[Item, Region]]:
    """Windows of complete masks, from all over the images, in which one thing ends at another."""
    complete = [item for item in items if item.labelled and not is_sparse([item])]
    windows = [
        (item, region)
        for item in complete
        for region in parted(tuple(map(slice, item.annotation.shape)), EDGE[item.annotation.ndim])
        if _has_edges(item, region)
    ]
    places = np.random.default_rng(0).permutation(len(windows))[:MOST]
    return [windows[place] for place in places]


def _has_edges(item: Item, region: Region) -> bool:
    block = BLOCK[item.annotation.ndim]
    blocks = tuple(slice(s.start // block, -(-s.stop // block)) for s in region)
    kinds = item.counts[(slice(None), *blocks)].any(tuple(range(1, 1 + len(blocks))))
    return int(kinds.sum()) > 1
