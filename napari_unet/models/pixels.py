"""A classifier of single pixels: fixed filters at some scales, and a small network on their values.

It is fitted to painted pixels in a fraction of a second, long before a U-Net knows anything.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_unet.config import NetConfig
from napari_unet.losses import segmentation_loss
from napari_unet.models.unet import Net, Plan
from napari_unet.optimiser import Optimiser

SCALES = 5  # of which each is twice as coarse as the one before
COARSEST = 2 ** (SCALES - 1)  # pixels in one of the last scale
FIRST, NEXT = 1.0, math.sqrt(3.0)  # widths of the blurs, in pixels of their scale: 1, then 2
REACH = 2  # of a blur, in widths
PER_CHANNEL = 1 + 4 * SCALES
HIDDEN = 64
STEPS, BATCH, RATE = 200, 1024, 0.01
NOISE = 1.0  # standard deviations added to each filter's values: no single filter is relied on
FURTHEST = 5.0  # standard deviations beyond which a value counts as that far


class PixelNet(Net):
    """Logits of each pixel from the filters around it; in volumes, those of its plane."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(Plan(width=HIDDEN, depth=SCALES - 1, norm="none"), config)
        flat = (1,) * (config.ndim - 2)
        self.factors = ((*flat, 2, 2),) * (SCALES - 1)
        self.stride = (*flat, COARSEST, COARSEST)
        values = config.in_channels * PER_CHANNEL
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("spread", torch.ones(values))
        self.body = nn.Sequential(
            nn.Linear(values, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, config.n_logits),
        )

    @property
    def halo(self) -> tuple[int, ...]:
        coarse = sum(math.ceil(REACH * NEXT) * 2**level for level in range(SCALES - 1))
        reach = math.ceil(REACH * FIRST) + coarse + 2 * COARSEST
        return (*(0,) * (self.config.ndim - 2), reach, reach)

    def heads(self, x: Tensor) -> list[Tensor]:
        rows = features(x)  # (B, *spatial, values)
        logits: Tensor = self.body(self._scaled(rows))
        return [logits.movedim(-1, 1)]

    def _scaled(self, rows: Tensor) -> Tensor:
        return ((rows - self.mean) / self.spread).clamp_(-FURTHEST, FURTHEST)

    def fit(self, rows: Tensor, labels: Tensor, random: torch.Generator) -> None:
        """Learn annotation values (n,) from the values of the filters there (n, values)."""
        self.mean, self.spread = rows.mean(0), rows.std(0) + 1e-4
        rows = self._scaled(rows)
        optimiser = Optimiser(self.body, RATE, 1e-2)
        for step in range(STEPS):
            optimiser.rate = RATE * min(1, (step + 1) / 10, 2 * (STEPS - step) / STEPS)
            chosen = torch.randint(len(rows), (BATCH,), generator=random, device=rows.device)
            noise = torch.randn((BATCH, rows.shape[1]), generator=random, device=rows.device)
            logits = self.body(rows[chosen].addcmul_(noise, noise.new_tensor(NOISE)))
            optimiser.zero_grad()
            segmentation_loss(
                logits[..., None], labels[chosen][:, None], kind="cross-entropy"
            ).backward()
            optimiser.step()

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Of background and of every class: (B, 1 + classes, *spatial)."""
        logits = self(x).float()
        if logits.shape[1] == 1:
            return torch.cat([-logits, logits], 1).sigmoid()
        return logits.softmax(1)


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

    slope = torch.hypot(at(0, 1) - at(0, -1), at(1, 0) - at(-1, 0)) / 2
    across, down = at(0, 1) + at(0, -1) - 2 * x, at(1, 0) + at(-1, 0) - 2 * x
    mixed = (at(1, 1) + at(-1, -1) - at(1, -1) - at(-1, 1)) / 4
    middle, apart = (across + down) / 2, torch.hypot((across - down) / 2, mixed)
    return [slope, middle + apart, middle - apart]
