"""The rims of objects, which a net learns beside their insides to part those that touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_WIDTH = 2  # pixels


def object_rims(objects: np.ndarray, spacing: Sequence[float] = ()) -> np.ndarray:
    """The outermost pixels of each object, fewer where nothing would be left inside of them."""
    names, numbers = np.unique(objects, return_inverse=True)
    numbers = numbers.reshape(objects.shape)
    rims = np.zeros(objects.shape, bool)
    for width in range(1, _WIDTH + 1):
        edge = _edge(numbers, width, spacing)
        has_inside = np.bincount(numbers[~edge], minlength=len(names)) > 0
        rims |= edge & has_inside[numbers]
    return rims & (objects != 0)


def _edge(numbers: np.ndarray, width: int, spacing: Sequence[float]) -> np.ndarray:
    """Pixels with others than their own number within so many of the smallest steps."""
    from scipy import ndimage

    steps = spacing or (1.0,) * numbers.ndim
    size = [2 * int(width * min(steps) / step) + 1 for step in steps]
    highest, lowest = (f(numbers, size) for f in (ndimage.maximum_filter, ndimage.minimum_filter))
    return highest != lowest


def without_rims(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of background, objects and their rims as one of objects, and where the rims are."""
    inside, rim = logits[1:2], logits[2:3]
    import torch

    return torch.logaddexp(inside, rim) - logits[:1], (rim > inside)[0]
