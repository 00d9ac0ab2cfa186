"""The plain U-Net family, 2-D and 3-D, from one definition: its blocks, its reach, the net."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import prod, sqrt
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_unet.config import NetConfig
from napari_unet.models.norm import GroupNorm, Norm, norm_relu, share_statistics
from napari_unet.models.pixels import PixelNet, together
from napari_unet.run import BadInput

Up = Literal["transposed", "transposed3", "linear", "nearest"]
Span = tuple[int, int]  # first and last pixel along one axis


@dataclass(frozen=True)
class Plan:
    """The arguments of a U-Net."""

    width: int  # channels of the first level
    depth: int  # times the resolution is halved
    encoder: int = 2  # convolutions in each level of the encoder
    decoder: int = 2  # and of the decoder
    up: Up = "transposed"
    norm: Norm = "group"
    dropout: float = 0.0  # after the two deepest levels of the encoder
    head: int = 1  # kernel of the last convolution
    attention: bool = False
    residual: bool = False

    def channels(self, level: int) -> int:
        """Channels of a level, doubled at each halving of the resolution."""
        return self.width << level


def halvings(config: NetConfig, depth: int) -> tuple[tuple[int, ...], ...]:
    """At each level the factor of each axis: coarse axes wait until the others caught up."""
    if len(config.spacing) not in (0, config.ndim):
        raise BadInput(
            f"The spacing {config.spacing} has {len(config.spacing)} numbers; "
            f"give {config.ndim}, one per axis."
        )
    edges = config.spacing or (1.0,) * config.ndim
    factors = []
    for _ in range(depth):
        finest = min(edges)
        factors.append(tuple(2 if edge < 1.5 * finest else 1 for edge in edges))
        edges = tuple(edge * factor for edge, factor in zip(edges, factors[-1], strict=True))
    return tuple(factors)


class _Conv3d(nn.Conv3d):
    """A convolution whose gradient can be relied on.

    In bfloat16 on a CPU, oneDNN 3.12 leaves a part of the weights' gradient as it finds the memory
    where an image has two planes.
    """

    def forward(self, x: Tensor) -> Tensor:
        learns = torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        if not learns or x.shape[2] != 2:
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def padded(x: Tensor, steps: tuple[int, ...]) -> Tensor:
    """Repeat the ends of an image (B, C, *spatial) up to multiples of a step for each axis."""
    missing = [-size % step for size, step in zip(x.shape[2:], steps, strict=True)]
    if not any(missing):
        return x
    # F.pad counts from the last axis; only the ends are padded, which keeps tiles aligned.
    ends = [pad for size in reversed(missing) for pad in (0, size)]
    return F.pad(x, ends, mode="replicate")


def averaged(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Make an image (B, C, *spatial) smaller by a factor for each axis."""
    return (F.avg_pool2d if len(factors) == 2 else F.avg_pool3d)(x, factors)


def log2_of(grain: int) -> int:
    """How often the resolution is halved before the first convolution."""
    return grain.bit_length() - 1


def convolution(ndim: int, inputs: int, outputs: int, kernel: int, bias: bool = True) -> nn.Module:
    """Make a convolution that keeps the size."""
    layer = nn.Conv2d if ndim == 2 else _Conv3d
    return layer(inputs, outputs, kernel, padding=kernel // 2, bias=bias)


class Block(nn.Module):
    """Some 3x3 convolutions, each normalised and rectified, with or without a shortcut."""

    def __init__(self, plan: Plan, ndim: int, inputs: int, outputs: int, convs: int) -> None:
        super().__init__()
        layers = []
        for i in range(convs):
            # A norm has a bias of its own.
            bias = plan.norm == "none"
            layers += [
                convolution(ndim, outputs if i else inputs, outputs, 3, bias),
                norm_relu(plan.norm, outputs, ndim),
            ]
        self.body = nn.Sequential(*layers)
        self.shortcut = convolution(ndim, inputs, outputs, 1) if plan.residual else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y if self.shortcut is None else y + self.shortcut(x)


class Gate(nn.Module):
    """Additive attention: what comes from below says where the skip connection matters."""

    def __init__(self, ndim: int, skip: int, below: int) -> None:
        super().__init__()
        inner = max(1, skip // 2)
        self.key = convolution(ndim, skip, inner, 1, bias=False)
        self.query = convolution(ndim, below, inner, 1)
        self.score = convolution(ndim, inner, 1, 1)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        seen = F.relu(self.key(skip) + self.query(below))
        return skip * torch.sigmoid(self.score(seen))


class Upsample(nn.Module):
    """Interpolation by a factor for each axis."""

    def __init__(self, factors: tuple[int, ...], linear: bool) -> None:
        super().__init__()
        self.factors, self.linear = factors, linear

    def forward(self, x: Tensor) -> Tensor:
        return interpolated(x, self.factors, self.linear)


def interpolated(x: Tensor, factors: tuple[int, ...], linear: bool) -> Tensor:
    """Enlarge an image (B, C, *spatial) by a factor for each axis."""
    mode = ("bilinear" if len(factors) == 2 else "trilinear") if linear else "nearest"
    return F.interpolate(x, scale_factor=tuple(map(float, factors)), mode=mode)


def upsampling(kind: Up, inputs: int, outputs: int, factors: tuple[int, ...]) -> nn.Module:
    """Make the way up by one level, from `inputs` channels to `outputs`."""
    ndim = len(factors)
    # Their types ask for tuples of two or of three numbers.
    transposed: type[Any] = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
    if kind == "transposed":
        return transposed(inputs, outputs, factors, stride=factors)
    if kind == "transposed3":
        odd = tuple(factor - 1 for factor in factors)
        return transposed(inputs, outputs, 3, stride=factors, padding=1, output_padding=odd)
    if kind == "nearest":
        return Upsample(factors, linear=False)
    # A 1x1 convolution and interpolation commute, and few pixels cost less than many.
    return nn.Sequential(convolution(ndim, inputs, outputs, 1), Upsample(factors, linear=True))


class Merge(nn.Module):
    """One level of a decoder: what comes from below, upsampled, beside the skip connection."""

    def __init__(self, plan: Plan, level: int, factors: tuple[int, ...], skips: int = 1) -> None:
        super().__init__()
        ndim, skip = len(factors), skips * plan.channels(level)
        inputs, outputs = plan.channels(level + 1), plan.channels(level)
        raised = inputs if plan.up == "nearest" else outputs
        self.up = upsampling(plan.up, inputs, outputs, factors)
        self.gate = Gate(ndim, skip, raised) if plan.attention else None
        self.block = Block(plan, ndim, skip + raised, outputs, plan.decoder)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        up = self.up(below)
        if self.gate is not None:
            skip = self.gate(skip, up)
        return self.block(torch.cat((skip, up), 1))


def _raised(up: Up, span: Span, factor: int) -> Span:
    """Find the pixels one level down that pixels `span` are interpolated from."""
    first, last = span
    if factor == 1:
        return (first - 1, last + 1) if up == "transposed3" else span
    before, after = {"transposed3": (0, 1), "linear": (1, 1)}.get(up, (0, 0))
    return (first - before) // 2, (last + after) // 2


def _seen(
    plan: Plan, factors: tuple[int, ...], dense: bool, level: int, column: int, span: Span
) -> Span:
    """Find the input pixels that pixels `span` of a node depend on, along one axis."""
    radius = plan.decoder if column else plan.encoder
    first, last = span = span[0] - radius, span[1] + radius
    if column:
        # Of densely connected nodes to the left the nearest has seen most.
        left = _seen(plan, factors, dense, level, column - 1 if dense else 0, span)
        raised = _raised(plan.up, span, factors[level])
        below = _seen(plan, factors, dense, level + 1, column - 1, raised)
        return min(left[0], below[0]), max(left[1], below[1])
    if level:
        factor = factors[level - 1]
        pooled = first * factor, last * factor + factor - 1
        return _seen(plan, factors, dense, level - 1, 0, pooled)
    return span


@lru_cache
def reach(plan: Plan, factors: tuple[int, ...], dense: bool, column: int, grain: int = 1) -> int:
    """How far along one axis an output pixel sees, whatever its place in the pooling grid."""
    radius, half, furthest = plan.head // 2, grain // 2, 0
    for x in range(grain * prod(factors)):
        # With a grain it lies between the two squares that it is interpolated from.
        first, last = (x - half) // grain - radius, (x + half) // grain + radius
        first, last = _seen(plan, factors, dense, 0, column, (first, last))
        furthest = max(furthest, x - first * grain, last * grain + grain - 1 - x)
    return furthest


class Net(nn.Module):
    """What every network here offers: logits for images of any size, and how far they see.

    In training mode a deeply supervised network returns a list of logits, the finest first. With
    `config.pixels` a classifier of pixels, which is not trained with it, has its share in the
    answer.
    """

    dense = False  # whether nodes see all nodes to their left

    def __init__(self, plan: Plan, config: NetConfig) -> None:
        super().__init__()
        self.plan = plan
        self.config = config
        grains = log2_of(config.grain)
        factors = halvings(config, grains + plan.depth)
        self.factors = factors[grains:]
        self.stride = tuple(map(prod, zip(*factors, strict=True)))
        axes = range(config.ndim)
        self.grain = tuple(prod(f[axis] for f in factors[:grains]) for axis in axes)
        self.pixels = PixelNet(config) if config.pixels else None
        if self.pixels is not None:
            self.stride = tuple(map(max, self.stride, self.pixels.stride))

    @property
    def tile_independent(self) -> bool:
        """Whether no statistics are taken over a tile, so that tiles agree exactly."""
        if self.config.pixels == 1:
            return True
        return not any(isinstance(m, GroupNorm) for m in self.modules())

    def share_statistics(self, samples: Iterable[Tensor]) -> None:
        """Take all statistics from these images once and for all; then it is tile-independent."""
        share_statistics(self, lambda x: self.heads(self._coarser(padded(x, self.stride))), samples)

    @property
    def columns(self) -> int:
        """How many times the way up is walked one level."""
        return self.plan.depth

    @property
    def halo(self) -> tuple[int, ...]:
        """Pixels per axis beyond which an input pixel cannot influence an output pixel.

        So a tile that begins at a multiple of `stride` agrees with the whole image from `halo`
        pixels inside it on, if the network is `tile_independent`.
        """
        own = tuple(
            reach(self.plan, tuple(f[a] for f in self.factors), self.dense, self.columns, grain)
            for a, grain in enumerate(self.grain)
        )
        if self.pixels is None:
            return own
        if self.config.pixels == 1:  # the net is not asked
            return self.pixels.halo
        return tuple(map(max, own, self.pixels.halo))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:  # (B, C, *spatial)
        inside = (slice(None), slice(None), *map(slice, x.shape[2:]))
        x = padded(x, self.stride)
        share = self.config.pixels
        advice = None if self.pixels is None else self.pixels(x)[inside]
        if advice is not None and share == 1:
            return advice
        outputs = [self._finer(logits)[inside] for logits in self.heads(self._coarser(x))]
        if self.training and len(outputs) > 1:
            return outputs
        answer = outputs[0] if len(outputs) == 1 else torch.stack(outputs).mean(0)
        if advice is not None:
            answer = together(answer, advice, share)
        return answer  # (B, n_logits, *spatial)

    def heads(self, x: Tensor) -> list[Tensor]:
        """Compute the logits of each head on the net's grid; sizes are multiples of its stride."""
        raise NotImplementedError

    def output(self) -> nn.Module:
        """Make a convolution from the features of the finest level to the logits."""
        return convolution(self.config.ndim, self.plan.width, self.config.n_logits, self.plan.head)

    def encoder(self) -> nn.ModuleList:
        """Make the convolution blocks from the finest level to the coarsest."""
        plan, ndim = self.plan, self.config.ndim
        inputs = [self.config.in_channels, *map(plan.channels, range(plan.depth))]
        blocks = nn.ModuleList()
        for level, channels in enumerate(inputs):
            block: nn.Module = Block(plan, ndim, channels, plan.channels(level), plan.encoder)
            if plan.dropout and level >= plan.depth - 1:
                block = nn.Sequential(block, nn.Dropout(plan.dropout))
            blocks.append(block)
        return blocks

    def encoded(self, x: Tensor, encoder: nn.ModuleList, depth: int) -> list[Tensor]:
        """Compute the features of the encoder at each level down to `depth`."""
        pool = F.max_pool2d if self.config.ndim == 2 else F.max_pool3d
        features: list[Tensor] = [encoder[0](x)]
        for level in range(depth):
            features.append(encoder[level + 1](pool(features[-1], self.factors[level])))
        return features

    def _coarser(self, x: Tensor) -> Tensor:
        """On the net's grid, of squares of pixels where it has a grain."""
        return x if self.config.grain == 1 else averaged(x, self.grain)

    def _finer(self, logits: Tensor) -> Tensor:
        """Back on the grid of the image."""
        if self.config.grain == 1:
            return logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return interpolated(logits, self.grain, linear=True)


def he_initialise(net: nn.Module) -> None:
    """He's initialisation, with which a network without normalisation trains."""
    for module in net.modules():
        if not isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            continue
        fan, gain = module.in_channels * prod(module.kernel_size), 2.0
        if module.transposed:
            # An output pixel sees only some of the kernel, and no ReLU halves it.
            fan, gain = fan // prod(module.stride), 1.0
        nn.init.normal_(module.weight, std=sqrt(gain / fan))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class UNet(Net):
    """U-Net: an encoder, a decoder, and skip connections between their levels."""

    def __init__(self, plan: Plan, config: NetConfig) -> None:
        super().__init__(plan, config)
        self.down = self.encoder()
        self.up = nn.ModuleList(
            Merge(plan, level, factors) for level, factors in enumerate(self.factors)
        )
        self.last = self.output()
        if plan.norm == "none":
            he_initialise(self)

    def heads(self, x: Tensor) -> list[Tensor]:
        *skips, y = self.encoded(x, self.down, self.plan.depth)
        for skip, up in zip(reversed(skips), reversed(self.up), strict=True):
            y = up(skip, y)
        return [self.last(y)]
