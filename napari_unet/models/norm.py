"""Normalisation followed by ReLU, with a group norm whose backward pass is fast on a CPU."""

from __future__ import annotations

from math import gcd
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Norm = Literal["group", "batch", "instance", "layer", "none"]

# These take their statistics from the whole tile, so that a pixel depends on all others.
TILE_WIDE: frozenset[Norm] = frozenset({"group", "instance"})


class _HalfGroupNormRelu(torch.autograd.Function):
    """Group norm and ReLU of half-precision numbers on a CPU.

    torch's forward is fast, its backward 10 to 30 times slower than the same in float32.
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
    """Group norm and ReLU in one."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.dtype in (torch.bfloat16, torch.float16)
        if half and x.device.type == "cpu" and torch.is_grad_enabled():
            return _HalfGroupNormRelu.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        # Group norm keeps its input for the backward pass, so its output may be overwritten.
        return F.relu(super().forward(x), inplace=True)


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
    if kind == "batch":
        norm: nn.Module = (nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d)(channels)
    else:
        norm = (nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d)(channels, affine=True)
    return nn.Sequential(norm, nn.ReLU(inplace=True))
