"""Normalisation followed by ReLU, with a group norm whose backward pass is fast on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import gcd
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Norm = Literal["group", "batch", "layer", "none"]


class _HalfGroupNormRelu(torch.autograd.Function):
    """Group norm and ReLU of half-precision numbers on a CPU.

    torch's forward is fast, its backward several times slower than the same in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        size = len(x), x.shape[1], x[0, 0].numel(), groups
        y, mean, rstd = torch.native_group_norm(x, weight, bias, *size, eps)
        ctx.size = size
        ctx.save_for_backward(x, y.relu_(), mean, rstd, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, mean, rstd, weight = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
        # Left in half precision these would take the slow path.
        wide = [t.float() for t in (grad, x, mean, rstd, weight)]
        dx, dweight, dbias = torch.ops.aten.native_group_norm_backward(
            *wide, *ctx.size, [True, True, True]
        )
        return dx.to(x.dtype), dweight.to(weight.dtype), dbias.to(weight.dtype), None, None


class GroupNorm(nn.GroupNorm):
    """Group norm and ReLU in one; on request it remembers the statistics of what it sees."""

    sums: Tensor | None = None  # (3, groups): numbers, their sum, the sum of their squares

    def forward(self, x: Tensor) -> Tensor:
        if self.sums is not None:
            return self._remember(x)
        half = x.dtype in (torch.bfloat16, torch.float16)
        if half and x.device.type == "cpu" and torch.is_grad_enabled():
            return _HalfGroupNormRelu.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        # Group norm keeps its input for the backward pass, so its output may be overwritten.
        return F.relu(super().forward(x), inplace=True)

    def _remember(self, x: Tensor) -> Tensor:  # (B, C, *spatial)
        assert self.sums is not None
        if x.device.type != "cpu":  # only there may weights be of another format than pixels
            x = x.float()
        size = len(x), x.shape[1], x[0, 0].numel()
        y, mean, rstd = torch.native_group_norm(
            x, self.weight, self.bias, *size, self.num_groups, self.eps
        )
        mean, rstd = mean.cpu().double(), rstd.cpu().double()  # (B, groups)
        squares = rstd**-2 - self.eps + mean**2
        number = size[1] // self.num_groups * size[2]
        self.sums += number * torch.stack([torch.ones_like(mean), mean, squares]).sum(1)
        return y.relu_()

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What remains of the norm with the remembered statistics, for each channel: (C,), (C,)."""
        assert self.sums is not None
        number, total, squares = self.sums
        mean = total / number
        rstd = (squares / number - mean**2).clamp_min(0).add(self.eps).rsqrt()
        each = self.num_channels // self.num_groups
        mean, rstd = (t.repeat_interleave(each).to(self.weight) for t in (mean, rstd))
        scale = rstd * self.weight
        return scale, self.bias - mean * scale


def share_statistics(
    net: nn.Module, forward: Callable[[Tensor], object], samples: Iterable[Tensor]
) -> None:
    """Fix every group norm to its statistics over the samples, and fold it into its convolution.

    Then no pixel depends on its tile, and a part of the work is saved.
    """
    norms = [m for m in net.modules() if isinstance(m, GroupNorm)]
    for norm in norms:
        norm.sums = torch.zeros(3, norm.num_groups, dtype=torch.float64)
    for sample in samples:
        forward(sample)
    for sequence in (m for m in net.modules() if isinstance(m, nn.Sequential)):
        for place, (conv, after) in enumerate(pairwise(sequence)):
            if isinstance(after, GroupNorm):
                _fold(conv, after)
                sequence[place + 1] = nn.ReLU(inplace=True)


def _fold(conv: Any, norm: GroupNorm) -> None:
    scale, shift = norm.scale_and_shift()
    conv.weight = nn.Parameter(conv.weight * scale.view(-1, *[1] * (conv.weight.ndim - 1)), False)
    old = 0 if conv.bias is None else conv.bias * scale
    conv.bias = nn.Parameter(old + shift, False)


class LayerNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, and ReLU."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *spatial)
        return F.relu(super().forward(x.movedim(1, -1)).movedim(-1, 1), inplace=True)


def groups(channels: int) -> int:
    """Choose eight groups, or fewer so that each has at least two channels."""
    # One channel to a group would be instance norm, which forgets absolute brightness.
    return gcd(8, max(1, channels // 2))


def norm_relu(kind: Norm, channels: int, ndim: int) -> nn.Module:
    """Make the normalisation called `kind`, followed by ReLU."""
    if kind == "group":
        return GroupNorm(groups(channels), channels)
    if kind == "layer":
        return LayerNorm(channels)
    if kind == "none":
        return nn.ReLU(inplace=True)
    norm = (nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d)(channels)
    return nn.Sequential(norm, nn.ReLU(inplace=True))
