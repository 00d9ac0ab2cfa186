"""A classifier of single pixels: fixed filters at some scales, and a small network on their values.

It is fitted to annotated pixels in a fraction of a second, long before a U-Net knows anything, and
makes other mistakes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_unet.config import NetConfig

SCALES = 4  # of which each is twice as coarse as the one before
COARSEST = 2 ** (SCALES - 1)  # pixels in one of the last scale
FIRST, NEXT = 1.0, math.sqrt(3.0)  # widths of the blurs, in pixels of their scale: 1, then 2
REACH = 2  # of a blur, in widths
PER_CHANNEL = 1 + 4 * SCALES
HIDDEN = 64
FURTHEST = 5.0  # standard deviations beyond which a value counts as that far
LEAST_P = 1e-6  # of which a logarithm is taken
SURE = 2.0  # the logit beyond which a net beside it is not believed, odds of 7 to 1
PIECE = 2**14  # pixels whose values pass through the network at once, in a processor's cache


class PixelNet(nn.Module):
    """Logits of each pixel from the filters around it; in volumes, those of its plane."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        flat = (1,) * (config.ndim - 2)
        self.stride = (*flat, COARSEST, COARSEST)
        values = config.in_channels * PER_CHANNEL
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("spread", torch.ones(values))
        self.body = nn.Sequential(
            nn.Linear(values, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, config.n_logits),
        )

    @property
    def halo(self) -> tuple[int, ...]:
        """Pixels per axis beyond which an input pixel cannot influence an output pixel."""
        coarse = sum(math.ceil(REACH * NEXT) * 2**level for level in range(SCALES - 1))
        reach = math.ceil(REACH * FIRST) + coarse + 2 * COARSEST
        return (*(0,) * (self.config.ndim - 2), reach, reach)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *spatial) of an image whose size is a multiple of the stride."""
        rows = features(x)
        # A GPU takes all at once, and so does a graph for images of any size.
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            logits: Tensor = self.body(self.scaled(rows))
            return logits.movedim(-1, 1)
        pieces = rows.flatten(0, -2).split(PIECE)
        logits = torch.cat([self.body(self.scaled(piece)) for piece in pieces])
        return logits.view(*rows.shape[:-1], -1).movedim(-1, 1)

    def scaled(self, rows: Tensor) -> Tensor:
        """The filters' values (..., values) on the scale that the network reads."""
        inverse = 1 / self.spread
        return torch.addcmul(-self.mean * inverse, rows, inverse).clamp_(-FURTHEST, FURTHEST)


def as_probabilities(logits: Tensor) -> Tensor:
    """Of background and of every class, (B, 1 + classes, *spatial), also where one logit is all."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return torch.cat([-logits, logits], 1).sigmoid()
    return logits.softmax(1)


def together(own: Tensor, advice: Tensor, share: float) -> Tensor:
    """Mix a net's logits (B, K, *spatial) with so much of a second opinion.

    A net that has learned few images for long is sure of everything, also of what it never saw;
    beside another it counts as no surer than SURE, or the other would not be heard any more.
    """
    if not share:
        return own
    if own.shape[1] == 1:
        own = own.clamp(-SURE, SURE)
    else:
        own = (own - own.amax(1, keepdim=True)).clamp_min(-SURE)
    return torch.lerp(own, advice.to(own.dtype), share)


def as_logs(p: Tensor) -> Tensor:
    """Logarithms of probabilities, which may be 0."""
    return p.clamp_min(LEAST_P).log()


def features(x: Tensor) -> Tensor:
    """Brightness, slope and curvatures at each scale: (B, *spatial, values) in float32.

    Planes (B, C, *spatial) whose edges are no multiples of COARSEST are stretched at their ends.
    """
    lead = x.movedim(1, -3).shape[:-2]  # (B, [Z], C)
    planes = x.movedim(1, -3).reshape(-1, 1, *x.shape[-2:]).float()
    found, smooth = [planes], _blurred(planes, FIRST)
    for scale in range(SCALES):
        maps = torch.cat([smooth, *_derivatives(smooth)], 1)
        if scale:
            size = planes.shape[2:]
            maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        found.append(maps)
        if scale < SCALES - 1:
            smooth = F.avg_pool2d(_blurred(smooth, NEXT), 2)
    values = torch.cat(found, 1).reshape(*lead, PER_CHANNEL, *x.shape[-2:])
    return values.flatten(-4, -3).movedim(-3, -1).contiguous()


def _blurred(x: Tensor, width: float) -> Tensor:
    """A Gaussian along rows and columns; sums of shifted images, faster here than convolutions."""
    radius = math.ceil(REACH * width)
    kernel = [math.exp(-((i / width) ** 2) / 2) for i in range(radius + 1)]
    total = kernel[0] + 2 * sum(kernel[1:])
    for axis, pad in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        size = x.shape[axis]
        padded = F.pad(x, pad, mode="replicate")
        x = padded.narrow(axis, radius, size) * (kernel[0] / total)
        for i in range(1, radius + 1):
            for start in (radius - i, radius + i):
                x.add_(padded.narrow(axis, start, size), alpha=kernel[i] / total)
    return x


def _derivatives(x: Tensor) -> list[Tensor]:
    """The slope, and the larger and smaller curvature."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")

    def at(down: int, right: int) -> Tensor:
        return padded[..., 1 + down : 1 + down + x.shape[-2], 1 + right : 1 + right + x.shape[-1]]

    slope = _length(at(0, 1) - at(0, -1), at(1, 0) - at(-1, 0)) / 2
    across, down = at(0, 1) + at(0, -1) - 2 * x, at(1, 0) + at(-1, 0) - 2 * x
    mixed = (at(1, 1) + at(-1, -1) - at(1, -1) - at(-1, 1)) / 4
    middle, apart = (across + down) / 2, _length((across - down) / 2, mixed)
    return [slope, middle + apart, middle - apart]


def _length(a: Tensor, b: Tensor) -> Tensor:
    return torch.addcmul(a * a, b, b).sqrt_()  # ONNX has no hypot
