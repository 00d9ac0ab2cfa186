"""What others try a model on: how large an image may be, and one that is made up for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_unet.cards import Card
from napari_unet.config import SegClass
from napari_unet.models import Net
from napari_unet.normalise import Stats

EDGE = 128  # of a test plane
SMOOTH = 3  # pixels over which the test image is smooth
HALO_STEPS = 2  # in a volume: all that a net can see would ask for more slices than stacks have
UNITS = ("micrometer", "nanometer", "millimeter", "centimeter", "meter", "angstrom", "picometer")


@dataclass(frozen=True)
class Axis:
    """A spatial axis of what the network reads, as other programs must know it."""

    name: str
    step: int  # sizes are multiples of it
    halo: int  # pixels at each border of a tile that are not to be trusted
    scale: float
    unit: str | None

    @property
    def least(self) -> int:
        """The smallest size of which something is left without the halo."""
        return math.ceil((2 * self.halo + 1) / self.step) * self.step


def axes_of(card: Card, net: Net) -> list[Axis]:
    """The spatial axes of the network, the slowest first."""
    ndim = net.config.ndim
    unit = card.unit if card.unit in UNITS and len(card.spacing) == ndim else None
    spacing = card.spacing if unit else (1.0,) * ndim
    rows = zip("zyx"[-ndim:], net.stride, net.halo, spacing, strict=True)
    return [
        # Sizes are multiplied and divided by the scale elsewhere, which is exact in 24 bits.
        Axis(name, step, _halo(ndim, step, reach), float(np.float32(scale)), unit)
        for name, step, reach, scale in rows
    ]


def _halo(ndim: int, step: int, reach: int) -> int:
    return reach if ndim == 2 else min(reach, HALO_STEPS * step)


def trial_image(card: Card, axes: list[Axis]) -> np.ndarray:
    """A smooth random image (C, *spatial) with the intensities of the training images."""
    from scipy import ndimage

    random = np.random.default_rng(0)
    stats = card.seen[0] if card.seen else Stats(low=(0,), high=(255,))
    shape = [axis.least if len(axes) == 3 else _edge(axis) for axis in axes]
    channels = []
    for channel in range(card.net.in_channels):
        noise = ndimage.gaussian_filter(random.standard_normal(shape), SMOOTH, mode="wrap")
        low, high = np.percentile(noise, card.percentiles)
        start, end = stats.low[channel % len(stats.low)], stats.high[channel % len(stats.high)]
        channels.append(start + (noise - low) / (high - low) * (end - start))
    return np.stack(channels).astype(np.float32)


def _edge(axis: Axis) -> int:
    return max(axis.least, math.ceil(EDGE / axis.step) * axis.step)


def draw_cover(
    path: Path, pixels: np.ndarray, probabilities: np.ndarray, classes: tuple[SegClass, ...]
) -> None:
    """Draw normalised pixels (C, *spatial) beside the classes that were found in them, as PNG."""
    from PIL import Image

    middle = tuple(n // 2 for n in pixels.shape[1:-2])
    grey = ((pixels[(0, *middle)].clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    found = probabilities[(slice(None), *middle)]
    labels = found[0] > 0.5 if len(found) == 1 else found.argmax(0)
    colors = [(0, 0, 0), *(tuple(bytes.fromhex(c.color[1:])) for c in classes)]
    drawn = np.array(colors, np.uint8)[labels.astype(int)]
    Image.fromarray(np.hstack([np.stack([grey] * 3, -1), drawn])).save(path)
