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
from napari_unet.samples import cells, volume
from napari_unet.units import PIXEL, full_name

EDGE = {2: 128, 3: 32}  # of a test image, at least
COVER_EDGE = 256
HALO_STEPS = 2  # in a volume: all that a net can see would leave little of any tile


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
        return 2 * self.halo + self.step


def axes_of(card: Card, net: Net) -> list[Axis]:
    """The spatial axes of the network, the slowest first."""
    ndim = net.config.ndim
    unit = full_name(card.unit)
    known = unit != PIXEL and len(card.spacing) == ndim
    spacing = card.spacing if known else (1.0,) * ndim
    rows = zip("zyx"[-ndim:], net.stride, net.halo, spacing, strict=True)
    return [
        Axis(
            name,
            step,
            _halo(name, ndim, step, reach),
            # Sizes are multiplied and divided by it elsewhere, which is exact in 24 bits.
            float(np.float32(scale)),
            unit if known else None,
        )
        for name, step, reach, scale in rows
    ]


def _halo(name: str, ndim: int, step: int, reach: int) -> int:
    if name == "z":  # stacks have few slices and are not cut between them
        return 0
    # Others pad images by the halo: whole steps keep sizes valid and the poolings where they were.
    steps = math.ceil(reach / step)
    return step * (steps if ndim == 2 else min(steps, HALO_STEPS))


def trial_image(card: Card, axes: list[Axis]) -> np.ndarray:
    """A made-up picture of nuclei (C, *spatial) with the intensities of the training images."""
    shape = [max(a.least, math.ceil(EDGE[len(axes)] / a.step) * a.step) for a in axes]
    picture, _ = cells(0, shape[0]) if len(axes) == 2 else volume(0, (shape[0], shape[1], shape[2]))
    low, high = np.percentile(picture, card.percentiles)
    scaled = (picture - low) / (high - low)
    stats = card.seen[0] if card.seen else Stats(low=(0,), high=(255,))
    ends = np.broadcast_to(np.array([stats.low, stats.high]), (2, card.net.in_channels))
    start, end = ends.reshape(2, -1, *(1,) * len(axes))
    return (start + scaled * (end - start)).astype(np.float32)


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
    both = np.hstack([np.stack([grey] * 3, -1), drawn])
    times = max(1, COVER_EDGE // len(both))
    Image.fromarray(both.repeat(times, 0).repeat(times, 1)).save(path)
