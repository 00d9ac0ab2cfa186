"""What training minimises: cross-entropy and Dice where something is labelled, and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from napari_unet.config import BACKGROUND, UNLABELLED

Kind = Literal["both", "cross-entropy", "dice"]


@dataclass(frozen=True)
class _Truth:
    """An annotation, made ready once for all heads."""

    index: Tensor  # (B, *spatial) int64: logit of the true class, 0 where unlabelled
    known: Tensor  # (B, *spatial) float32: 1 where labelled
    weight: Tensor  # (B, *spatial) float32: weight in the cross-entropy, 0 where unlabelled


def _truth(target: Tensor, class_weights: Tensor | None, pixel_weights: Tensor | None) -> _Truth:
    index = torch.where(target == BACKGROUND, 0, target).long()
    weight = known = (target != UNLABELLED).float()
    if class_weights is not None:
        weight = weight * class_weights.to(weight)[index]
    if pixel_weights is not None:
        weight = weight * pixel_weights
    return _Truth(index, known, weight)


def _mean_dice_loss(overlap: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """1 - Dice, averaged over the classes that are annotated; 0 if none is."""
    present = (true > 0).float()
    # One more pixel of agreement keeps a class of few pixels from tossing the loss about.
    dice = (2 * overlap + 1) / (predicted + true + 1)
    return ((1 - dice) * present).sum() / present.sum().clamp_min(1)


def _binary(logits: Tensor, truth: _Truth, kind: Kind) -> Tensor:
    z = logits[:, 0].float()  # (B, *spatial)
    true = truth.index.float()
    loss = z.new_zeros(())
    if kind != "dice":
        entropy = F.binary_cross_entropy_with_logits(z, true, truth.weight, reduction="sum")
        loss = loss + entropy / truth.weight.sum().clamp_min(1e-6)
    if kind != "cross-entropy":
        p = z.sigmoid() * truth.known
        loss = loss + _mean_dice_loss((p * true).sum(), p.sum(), true.sum())
    return loss


def _multiclass(logits: Tensor, truth: _Truth, kind: Kind) -> Tensor:
    log_p = F.log_softmax(logits.float().flatten(2), 1)  # (B, K, pixels)
    index, known = truth.index.flatten(1), truth.known.flatten(1)  # (B, pixels)
    log_true = log_p.gather(1, index[:, None])[:, 0]  # (B, pixels): of the true class
    loss = log_true.new_zeros(())
    if kind != "dice":
        weight = truth.weight.flatten(1)
        loss = loss - (log_true * weight).sum() / weight.sum().clamp_min(1e-6)
    if kind != "cross-entropy":
        # The sums per class need no one-hot target.
        zeros, flat = log_p.new_zeros(log_p.shape[1]), index.flatten()
        overlap = zeros.index_add(0, flat, (log_true.exp() * known).flatten())
        true = zeros.index_add(0, flat, known.flatten())
        predicted = torch.einsum("bkp,bp->k", log_p.exp(), known)
        loss = loss + _mean_dice_loss(overlap[1:], predicted[1:], true[1:])
    return loss


def segmentation_loss(
    logits: Tensor | Sequence[Tensor],
    target: Tensor,
    *,
    kind: Kind = "both",
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Compare logits (B, K, *spatial) with an annotation (B, *spatial) where it is labelled.

    Of several heads each counts half as much as the one before. `class_weights` has one number
    for background and each class; it and `pixel_weights` apply to the cross-entropy.
    """
    truth = _truth(target, class_weights, pixel_weights)

    def compare(head: Tensor) -> Tensor:
        return (_binary if head.shape[1] == 1 else _multiclass)(head, truth, kind)

    return _over_heads(compare, logits)


def hint_loss(logits: Tensor | Sequence[Tensor], target: Tensor, hints: Tensor) -> Tensor:
    """Cross-entropy with what the rest probably is, where nothing is labelled.

    `hints` (B, 1 + classes, *spatial) are probabilities, all 0 where there are none; a pixel
    counts as much as its hint is sure. Of several heads each counts half as much as the one before.
    """
    hints = hints * (target == UNLABELLED)[:, None] * _sureness(hints)

    def compare(head: Tensor) -> Tensor:
        z = head.float()
        log_p = F.logsigmoid(torch.cat([-z, z], 1)) if z.shape[1] == 1 else F.log_softmax(z, 1)
        return -(hints * log_p).sum() / hints.sum().clamp_min(1)

    return _over_heads(compare, logits)


def _over_heads(loss: Callable[[Tensor], Tensor], logits: Tensor | Sequence[Tensor]) -> Tensor:
    """The mean over the heads, each of which counts half as much as the one before."""
    heads = [logits] if isinstance(logits, Tensor) else logits
    parts = [0.5**i * loss(head) for i, head in enumerate(heads)]
    return torch.stack(parts).sum() / (2 - 0.5 ** (len(heads) - 1))


def _sureness(p: Tensor) -> Tensor:
    """How much probabilities (B, K, *spatial) say: 0 where all are alike, 1 where one is 1."""
    kinds = p.shape[1]
    return ((kinds * p.amax(1, keepdim=True) - 1) / (kinds - 1)).clamp_min(0)


def class_weights(counts: Sequence[int] | Tensor, limit: float = 10.0) -> Tensor:
    """Weigh classes by the inverse square root of their pixels: mean 1, absent classes 1."""
    pixels = torch.as_tensor(counts, dtype=torch.float32)
    present = pixels > 0
    weights = torch.ones_like(pixels)
    if present.any():
        raw = pixels[present].rsqrt()
        raw = (raw / raw.mean()).clamp(1 / limit, limit)
        weights[present] = raw / raw.mean()
    return weights


def _neighbours(nearest: NDArray[Any]) -> dict[int, set[int]]:
    """For each object those whose regions of nearest pixels touch its own."""
    touching: dict[int, set[int]] = {}
    for shift in product((-1, 0, 1), repeat=nearest.ndim):
        if shift <= (0,) * nearest.ndim:
            continue
        a = nearest[tuple(slice(max(0, s), min(0, s) or None) for s in shift)]
        b = nearest[tuple(slice(max(0, -s), min(0, -s) or None) for s in shift)]
        different = a != b
        for i, j in np.unique(np.stack((a[different], b[different]), 1), axis=0).tolist():
            touching.setdefault(i, set()).add(j)
            touching.setdefault(j, set()).add(i)
    return touching


def _colours(nearest: NDArray[Any]) -> NDArray[np.intp]:
    """Colour the objects 1, 2, ... so that neighbours differ; indexed by object number."""
    colours = np.zeros(int(nearest.max()) + 1, np.intp)
    for i, others in _neighbours(nearest).items():
        taken = {int(colours[j]) for j in others}
        colours[i] = next(c for c in range(1, len(taken) + 2) if c not in taken)
    return colours


def border_weights(
    instances: NDArray[Any], strength: float, width: float = 5.0
) -> NDArray[np.float32]:
    """Weigh background between two close objects by up to 1 + `strength`, all else by 1.

    The U-Net paper's 1 + w0 exp(-(d1 + d2)^2 / (2 sigma^2)); labels are objects, 0 background.
    """
    weights = np.ones(instances.shape, np.float32)
    names = np.union1d(0, instances)
    objects = np.searchsorted(names, instances)  # 0 for background, then 1, 2, ...
    if strength == 0 or objects.max(initial=0) < 2:
        return weights
    where = ndimage.distance_transform_edt(
        objects == 0, return_distances=False, return_indices=True
    )
    # The second nearest object is a neighbour of the nearest, so it has another colour: one
    # distance transform for each of a few colours finds both.
    coloured = _colours(objects[tuple(where)])[objects]
    distances = np.stack(
        [ndimage.distance_transform_edt(coloured != c) for c in range(1, coloured.max() + 1)]
    )
    both = np.partition(distances, 1, axis=0)[:2].sum(0)
    gap = objects == 0
    weights[gap] += (strength * np.exp(-(both[gap] ** 2) / (2 * width**2))).astype(np.float32)
    return weights
