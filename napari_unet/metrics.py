"""How well a mask agrees with the truth: Dice and IoU per class, None for a class that is absent.

Predictions and dense masks hold 0 for background; annotations 0 for unlabelled, 255 for background.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import BACKGROUND, UNLABELLED
from napari_unet.run import BadInput

Scores = tuple[float | None, ...]
Matrix = NDArray[np.int64]  # (N + 1, N + 1): rows are the truth, columns the prediction


def dense_confusion(predicted: NDArray[Any], true: NDArray[Any], n_classes: int) -> Matrix:
    """Count the pixels of each true and predicted class of two complete masks."""
    if predicted.shape != true.shape:
        raise BadInput(
            f"The prediction has shape {predicted.shape} and the mask {true.shape}; "
            "they must be equal."
        )
    largest = max(int(predicted.max(initial=0)), int(true.max(initial=0)))
    if largest > n_classes:
        raise BadInput(f"A mask holds class {largest}, but there are only {n_classes} classes.")
    size = n_classes + 1
    pairs = true.astype(np.intp) * size + predicted.astype(np.intp)
    return np.bincount(pairs.ravel(), minlength=size**2).reshape(size, size).astype(np.int64)


def confusion(predicted: NDArray[Any], annotation: NDArray[Any], n_classes: int) -> Matrix:
    """Count the labelled pixels of each true and predicted class."""
    if predicted.shape != annotation.shape:
        raise BadInput(
            f"The prediction has shape {predicted.shape} and the annotation {annotation.shape}; "
            "they must be equal."
        )
    known = annotation != UNLABELLED
    true = annotation[known]
    true[true == BACKGROUND] = 0
    return dense_confusion(predicted[known], true, n_classes)


def _ratios(numerators: NDArray[np.int64], denominators: NDArray[np.int64]) -> Scores:
    pairs = zip(numerators.tolist(), denominators.tolist(), strict=True)
    return tuple(n / d if d else None for n, d in pairs)


def dice_of(matrix: Matrix) -> Scores:
    """Dice of classes 1..N; matrices of several images may be added before."""
    hits = matrix.diagonal()[1:]
    return _ratios(2 * hits, matrix.sum(0)[1:] + matrix.sum(1)[1:])


def iou_of(matrix: Matrix) -> Scores:
    """Intersection over union of classes 1..N."""
    hits = matrix.diagonal()[1:]
    return _ratios(hits, matrix.sum(0)[1:] + matrix.sum(1)[1:] - hits)


def dense_dice(predicted: NDArray[Any], true: NDArray[Any], n_classes: int) -> Scores:
    """Dice per class of two complete masks."""
    return dice_of(dense_confusion(predicted, true, n_classes))


def mean(scores: Iterable[float | None]) -> float | None:
    """Average the scores that are there; None if there is none."""
    present = [score for score in scores if score is not None]
    return sum(present) / len(present) if present else None
