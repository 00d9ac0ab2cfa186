"""Muon for weight matrices, AdamW for vectors: what three images teach, learned in fewer steps.

Muon makes every update a matrix whose singular values are about 1, so rare directions are learned
as fast as the common ones (Jordan et al., 2024).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# A quintic that drives singular values of 0..1 towards 1; four rounds suffice for training.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 4
MOMENTUM = 0.95
# A matrix with fewer rows or columns, such as the first and last layer, is left to AdamW.
SMALLEST = 5
VECTOR_RATE = 0.05  # AdamW's rate as a part of Muon's


def make_optimisers(net: nn.Module, rate: float, decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the net's matrices and AdamW for the rest, whichever of the two there are."""
    trained = [p for p in net.parameters() if p.requires_grad]
    matrices = [p for p in trained if is_matrix(p)]
    vectors = [p for p in trained if not is_matrix(p)]
    out: list[torch.optim.Optimizer] = []
    if matrices:
        out.append(Muon(matrices, rate, decay))
    if vectors:
        out.append(torch.optim.AdamW(vectors, rate * VECTOR_RATE, weight_decay=decay, fused=True))
    return out


def is_matrix(weight: Tensor) -> bool:
    """Whether a weight is that of a layer between layers."""
    return weight.ndim >= 2 and min(weight.shape[:2]) >= SMALLEST


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal; kernels count as matrices of their first axis by all others."""

    def __init__(self, weights: list[nn.Parameter], rate: float, decay: float) -> None:
        super().__init__(weights, {"lr": rate, "weight_decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight; those of one shape together."""
        assert closure is None
        for group in self.param_groups:
            for weights in _by_shape(group["params"]):
                self._update(weights, group)

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [w.grad for w in weights if w.grad is not None]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        momenta = [self.state[w]["momentum"] for w in weights]
        torch._foreach_mul_(momenta, MOMENTUM)
        torch._foreach_add_(momenta, gradients)
        ahead = torch._foreach_add(gradients, momenta, alpha=MOMENTUM)  # Nesterov
        updates = orthogonal(torch.stack([_flat(u) for u in ahead]))
        rows, columns = updates.shape[1:]
        rate = group["lr"] * math.sqrt(max(1, rows / columns))
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        shaped = [_unflat(u, w) for u, w in zip(updates, weights, strict=True)]
        torch._foreach_add_(weights, shaped, alpha=-rate)


def _by_shape(weights: list[Tensor]) -> list[list[Tensor]]:
    found: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for weight in weights:
        if weight.grad is not None:
            found[weight.shape].append(weight)
    return list(found.values())


def _flat(update: Tensor) -> Tensor:
    """(O, I, *kernel) as (O, *kernel x I), which for channels-last weights copies nothing."""
    return update.movedim(1, -1).reshape(len(update), -1)


def _unflat(flat: Tensor, like: Tensor) -> Tensor:
    kernel = like.shape[2:]
    return flat.reshape(like.shape[0], *kernel, like.shape[1]).movedim(-1, 1).to(like.dtype)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices with orthogonal rows or columns, roughly: (K, rows, columns)."""
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # Rounding matters less here than speed; CUDA, Metal and recent processors all know bfloat16.
    x = x.bfloat16().contiguous()
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
