"""Muon for weight matrices, AdamW for vectors: what three images teach, learned in fewer steps.

Muon makes every update a matrix whose singular values are about 1, so rare directions are learned
as fast as the common ones (Jordan et al., 2024).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# A quintic that drives singular values of 0..1 towards 1; four rounds suffice for training.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 4
MOMENTUM = 0.95
# A matrix with fewer rows or columns, such as the first and last layer, is left to AdamW.
SMALLEST = 5
VECTOR_RATE = 0.05  # AdamW's rate as a part of Muon's
BETAS, EPSILON = (0.9, 0.999), 1e-8  # AdamW's

State = dict[str, Tensor]


class Optimiser:
    """Muon for the net's matrices, AdamW for the rest.

    Not a torch.optim.Optimizer: the first use of one loads PyTorch's compiler, for a second.
    """

    def __init__(self, net: nn.Module, rate: float, decay: float) -> None:
        self.rate, self.decay = rate, decay
        self.weights = [p for p in net.parameters() if p.requires_grad]
        self._state: dict[Tensor, State] = {}
        self._steps = 0

    @property
    def param_groups(self) -> list[dict[str, list[nn.Parameter]]]:
        """What a GradScaler asks for."""
        return [{"params": self.weights}]

    def zero_grad(self) -> None:
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every weight that has a gradient."""
        self._steps += 1
        learning: list[Tensor] = [w for w in self.weights if w.grad is not None]
        if matrices := [w for w in learning if is_matrix(w)]:
            self._muon(matrices)
        if vectors := [w for w in learning if not is_matrix(w)]:
            self._adam(vectors)

    def _muon(self, weights: list[Tensor]) -> None:
        """Momentum, made orthogonal; a kernel counts as a matrix of its first axis by the rest."""
        gradients = [_gradient(w) for w in weights]
        momenta = self._kept(weights, "momentum")
        torch._foreach_mul_(momenta, MOMENTUM)
        torch._foreach_add_(momenta, gradients)
        ahead = torch._foreach_add(gradients, momenta, alpha=MOMENTUM)  # Nesterov
        updates = orthogonal([_flat(u) for u in ahead])
        rates = [-self.rate * math.sqrt(max(1, len(u) / u.shape[1])) for u in updates]
        torch._foreach_mul_(updates, rates)
        torch._foreach_mul_(weights, 1 - self.rate * self.decay)
        shaped = [_unflat(u, w) for u, w in zip(updates, weights, strict=True)]
        torch._foreach_add_(weights, shaped)

    def _adam(self, weights: list[Tensor]) -> None:
        gradients, rate = [_gradient(w) for w in weights], self.rate * VECTOR_RATE
        first, second = self._kept(weights, "first"), self._kept(weights, "second")
        torch._foreach_lerp_(first, gradients, 1 - BETAS[0])
        torch._foreach_mul_(second, BETAS[1])
        torch._foreach_addcmul_(second, gradients, gradients, 1 - BETAS[1])
        corrections = [1 - beta**self._steps for beta in BETAS]
        spread = torch._foreach_sqrt(second)
        torch._foreach_div_(spread, math.sqrt(corrections[1]))
        torch._foreach_add_(spread, EPSILON)
        torch._foreach_mul_(weights, 1 - rate * self.decay)
        torch._foreach_addcdiv_(weights, first, spread, -rate / corrections[0])

    def _kept(self, weights: list[Tensor], what: str) -> list[Tensor]:
        """What is remembered of each weight's gradients; at first, nothing."""
        states = [self._state.setdefault(w, {}) for w in weights]
        for weight, state in zip(weights, states, strict=True):
            if what not in state:
                state[what] = torch.zeros_like(weight)
        return [state[what] for state in states]

    def state(self) -> State:
        """Everything remembered, for a checkpoint."""
        kept = {
            f"{number}.{what}": value
            for number, weight in enumerate(self.weights)
            for what, value in self._state.get(weight, {}).items()
        }
        return kept | {"steps": torch.tensor(self._steps)}

    def restore(self, state: State) -> None:
        """Go on from a checkpoint."""
        self._steps = int(state["steps"])
        for key, value in state.items():
            if key != "steps":
                number, what = key.split(".")
                weight = self.weights[int(number)]
                # In the weight's memory format: sums in another order round differently.
                self._state.setdefault(weight, {})[what] = torch.empty_like(weight).copy_(value)


def is_matrix(weight: Tensor) -> bool:
    """Whether a weight is that of a layer between layers."""
    return weight.ndim >= 2 and min(weight.shape[:2]) >= SMALLEST


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad


def _flat(update: Tensor) -> Tensor:
    """(O, I, *kernel) as (O, *kernel x I), which for channels-last weights copies nothing."""
    return update.movedim(1, -1).reshape(len(update), -1)


def _unflat(flat: Tensor, like: Tensor) -> Tensor:
    kernel = like.shape[2:]
    return flat.reshape(like.shape[0], *kernel, like.shape[1]).movedim(-1, 1)


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """The nearest matrices with orthogonal rows or columns, roughly.

    A round of the quintic multiplies X by a polynomial of X X'. The small squares hold all there is
    to know, so the rounds are theirs, in one go for all of a size, and X is multiplied once.
    """
    a, b, c = QUINTIC
    wide = [m.mT if len(m) > m.shape[1] else m for m in matrices]
    wide = [x / (x.norm() + 1e-7) for x in wide]
    alike: dict[int, list[int]] = defaultdict(list)
    for place, x in enumerate(wide):
        alike[len(x)].append(place)
    for size, places in alike.items():
        square = torch.stack([wide[p] @ wide[p].mT for p in places])
        product = torch.eye(size, device=square.device).expand_as(square)
        for _ in range(ROUNDS):
            factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
            factor.diagonal(dim1=1, dim2=2).add_(a)
            product = factor @ product
            square = factor @ square @ factor
        for place, factor in zip(places, product, strict=True):
            wide[place] = factor @ wide[place]
    return [x.mT if len(m) > m.shape[1] else x for x, m in zip(wide, matrices, strict=True)]
