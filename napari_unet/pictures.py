"""An image as a viewer holds it, whatever its layout, read as (C, *spatial), and parts of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from napari_unet.annotation import Region
from napari_unet.normalise import Stats, measure
from napari_unet.tiling import Tile, widened

RGB = 3


class Stacked:
    """Lazy arrays of one shape, or one with its channels last, read as one (C, *spatial)."""

    def __init__(self, parts: Sequence[Any], channels_last: bool = False) -> None:
        self._parts = list(parts)
        self._last = channels_last
        shape = tuple(int(n) for n in parts[0].shape)
        self.shape = (min(shape[-1], RGB), *shape[:-1]) if channels_last else (len(parts), *shape)
        self.dtype = np.result_type(*(p.dtype for p in parts))

    def __getitem__(self, key: Any) -> np.ndarray:
        channels, *region = key if isinstance(key, tuple) else (key,)
        if self._last:
            pixels = np.asarray(self._parts[0][tuple(region)])[..., :RGB]
            return np.moveaxis(pixels, -1, 0)[channels]
        chosen = self._parts[channels] if isinstance(channels, slice) else [self._parts[channels]]
        out = np.stack([np.asarray(part[tuple(region)]) for part in chosen])
        return out if isinstance(channels, slice) else out[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[(slice(None),)].astype(dtype or self.dtype, copy=False)


def channels_first(parts: Sequence[Any], rgb: bool = False, leading: bool = False) -> Any:
    """Arrays as one (C, *spatial): each a channel, or one whose first or last axis is channels."""
    first = parts[0]
    if leading:
        return first
    if len(parts) == 1 and isinstance(first, np.ndarray):
        return np.moveaxis(first, -1, 0)[:RGB] if rgb else first[None]
    return Stacked(parts, channels_last=rgb)


@dataclass(frozen=True, eq=False)
class Picture:
    """One image to be annotated or segmented: its pixels, and coarser ones of a pyramid."""

    name: str
    pixels: Any  # (C, *spatial), numpy or lazy
    spacing: tuple[float, ...] = ()
    unit: str = "pixel"
    coarser: tuple[Any, ...] = ()  # the same, each level smaller

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape without channels."""
        return tuple(int(n) for n in self.pixels.shape[1:])

    @property
    def n_channels(self) -> int:
        return int(self.pixels.shape[0])

    @cached_property
    def stats(self) -> Stats:
        """The intensities of the whole, measured when first needed."""
        return measure(self.pixels)

    def read(self, region: Region, step: tuple[int, ...]) -> np.ndarray:
        """The pixels of a region, every so-many-eth along each axis, from a pyramid if it fits."""
        for level in self.coarser:
            zoom = [n / m for n, m in zip(self.shape, level.shape[1:], strict=True)]
            if np.allclose(zoom, step, rtol=0.02):
                places = zip(region, step, level.shape[1:], strict=True)
                small = (slice(r.start // s, min(-(-r.stop // s), n)) for r, s, n in places)
                return np.asarray(level[(slice(None), *small)])
        strided = (slice(r.start, r.stop, s) for r, s in zip(region, step, strict=True))
        return np.asarray(self.pixels[(slice(None), *strided)])


@dataclass(frozen=True, eq=False)
class View:
    """What of a picture is on the screen: a plane through it, and how finely it is looked at.

    Regions begin at multiples of the step.
    """

    picture: Picture
    region: Region  # along all spatial axes; of length 1 along those that are not shown
    shown: tuple[int, int]  # the two axes on the screen
    step: int = 1  # every so-many-eth pixel along them

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for views that show the same."""
        return (id(self.picture), *((s.start, s.stop) for s in self.region), self.step)

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(self.step if a in self.shown else 1 for a in range(len(self.region)))

    @property
    def pixels(self) -> int:
        """How many pixels a look at it takes."""
        sizes = [self.region[a].stop - self.region[a].start for a in self.shown]
        return sizes[0] * sizes[1] // self.step**2

    @property
    def middle(self) -> tuple[int, ...]:
        return tuple((s.start + s.stop) // 2 for s in self.region)

    def within(self, most: int) -> View:
        """The middle of the view, of no more than so many pixels."""
        if self.pixels <= most:
            return self
        part = (most / self.pixels) ** 0.5
        region = list(self.region)
        for axis in self.shown:
            r = region[axis]
            keep = max(self.step, int((r.stop - r.start) * part))
            start = (r.start + r.stop - keep) // 2 // self.step * self.step
            region[axis] = slice(start, start + keep)
        return View(self.picture, tuple(region), self.shown, self.step)

    def crop(self, halo: tuple[int, ...], stride: tuple[int, ...]) -> tuple[np.ndarray, Region]:
        """The pixels a net of this reach reads to see the view, and where in them the view is."""
        axes = list(zip(self.region, self.picture.shape, self.steps, strict=True))
        # First counted in steps, as the net sees it, then in pixels of the picture.
        seen = tuple(slice(r.start // s, -(-r.stop // s)) for r, _, s in axes)
        wide = widened(seen, tuple(-(-n // s) for _, n, s in axes), halo, stride)
        read = (
            slice(w.start * s, min(w.stop * s, n)) for w, (_, n, s) in zip(wide, axes, strict=True)
        )
        pixels, lead = self.picture.read(tuple(read), self.steps), len(axes) - len(halo)
        return pixels.reshape(len(pixels), *pixels.shape[1 + lead :]), Tile(wide, seen).inner[lead:]


def numbered(name: str, taken: Collection[str]) -> str:
    """The name, or with a number if it is taken already."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} {number}"
    return free


def as_rgb(pixels: np.ndarray, stats: Stats) -> np.ndarray:
    """A plane (C, Y, X) as (Y, X, 3) from 0 to 255: in colour, or of its first channel."""
    if len(pixels) == RGB and pixels.dtype == np.uint8:
        return np.moveaxis(pixels, 0, -1).astype(float)  # a photograph, whose colours are known
    light = (stats.apply(pixels).clip(-1, 1) + 1) * 127.5
    return np.moveaxis(light[:RGB] if len(light) >= RGB else light[:1].repeat(RGB, 0), 0, -1)
