"""Intensities brought to one scale, from statistics of the whole image and never of a tile."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import Field

from napari_unet.config import Frozen
from napari_unet.tiling import spread_windows

SAMPLE_BLOCKS = 64
SAMPLE_PIXELS = 1_000_000


class Stats(Frozen):
    """The low and high intensity of each channel of one image."""

    low: tuple[float, ...] = Field(description="First percentile of each channel, about")
    high: tuple[float, ...] = Field(description="99th percentile of each channel, about")

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (C, ...) with the low at -1 and the high at 1, as float32."""
        shape = (-1,) + (1,) * (pixels.ndim - 1)
        # Numbers of 64 bits may be beyond those of 32.
        wide: Any = np.float64 if pixels.dtype == np.float64 else np.float32
        low, high = np.array(self.low, wide), np.array(self.high, wide)
        # The range of a constant channel counts as a millionth of its value.
        largest = np.maximum(np.abs(low), np.abs(high))
        scale = 2 / np.maximum(high - low, 1e-6 * np.where(largest > 0, largest, 1))
        out = pixels.astype(wide)
        out -= low.reshape(shape)
        out *= scale.reshape(shape)
        out -= 1
        np.nan_to_num(out, copy=False, nan=-1.0, posinf=1.0, neginf=-1.0)
        return np.clip(out, -4, 4, out=out).astype(np.float32, copy=False)


PERCENTILES = (1.0, 99.0)


def measure(image: Any, low: float = PERCENTILES[0], high: float = PERCENTILES[1]) -> Stats:
    """The percentiles of an image (C, *spatial); a large one is sampled in evenly spread blocks."""
    ends = [_ends(values[np.isfinite(values)], low, high) for values in spread_sample(image)]
    return Stats(low=tuple(first for first, _ in ends), high=tuple(last for _, last in ends))


def _ends(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Two percentiles; where they are the same, as of a few spots on nothing, also of the rest."""
    if not values.size:
        return 0.0, 1.0
    first, last = np.percentile(values, [low, high]).tolist()
    rest = values[values != first] if first == last else values[:0]
    if not rest.size:
        return first, last
    lowest, highest = np.percentile(rest, [low, high]).tolist()
    return min(first, lowest), max(first, highest)


def outside(stats: Stats, seen: list[Stats]) -> bool:
    """Whether an image's intensity range lies far outside those that a model was trained on."""
    if not seen:
        return False
    width = max(h - lo for s in seen for h, lo in zip(s.high, s.low, strict=True)) or 1.0
    floor = min(min(s.low) for s in seen) - 2 * width
    ceiling = max(max(s.high) for s in seen) + 2 * width
    narrow = max(h - lo for h, lo in zip(stats.high, stats.low, strict=True)) < width / 50
    return min(stats.low) < floor or max(stats.high) > ceiling or narrow


def spread_sample(image: Any) -> np.ndarray:
    """All pixels of an image (C, n), or those of evenly spread blocks of a large one."""
    spatial = image.shape[1:]
    if math.prod(spatial) <= SAMPLE_PIXELS:
        return np.asarray(image).reshape(image.shape[0], -1)
    edge = max(1, round((SAMPLE_PIXELS / SAMPLE_BLOCKS) ** (1 / len(spatial))))
    windows = spread_windows(spatial, edge, SAMPLE_BLOCKS)
    blocks = [np.asarray(image[(slice(None), *window)]) for window in windows]
    return np.concatenate([b.reshape(b.shape[0], -1) for b in blocks], 1)
