"""What lies in a whole slide: a pyramid in colour, read where it is looked at, by OpenSlide."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.formats.raw import Raw, head, lazy_array, positive
from napari_unet.formats.tiff import TIFF_MAGIC, largest_tile
from napari_unet.optional import optional
from napari_unet.run import BadInput

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu")

_READ = 1024  # rows and columns that are read at a time
_MOST_IN_TILE = 2**26
_ONE_LEVEL = "generic-tiff"  # what OpenSlide calls any tiled TIFF: tifffile knows more of those


def is_slide(path: Path) -> bool:
    """Whether a file is to be read as a whole slide; where it is a TIFF, only if OpenSlide can."""
    if not path.name.lower().endswith(SLIDES):
        return False
    if not head(path, 4).startswith(TIFF_MAGIC):
        optional("openslide", f"{path} is a whole slide and")
        return True
    try:
        openslide = optional("openslide", "")
    except BadInput:  # tifffile reads most
        return False
    return openslide.OpenSlide.detect_format(str(path)) not in (None, _ONE_LEVEL)


def read_slide(path: Path) -> Raw:
    """Open a whole slide: its finest level, and the coarser ones."""
    openslide = optional("openslide", f"{path} is a whole slide and")
    if head(path, 4).startswith(TIFF_MAGIC):
        check_tile(largest_tile(path))
    try:
        slide = openslide.OpenSlide(str(path))
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise ValueError("no whole slide that OpenSlide knows") from error
    except openslide.OpenSlideError as error:
        reason = str(error).removeprefix(f"Reading {path}: ")
        raise BadInput(
            f"{path} cannot be read, it is damaged or of a kind that OpenSlide does not know "
            f"(OpenSlide says: {reason}): get a fresh copy, or convert it to OME-TIFF."
        ) from error
    about = slide.properties
    levels = [lazy_array(_Level(slide, i), path) for i in range(slide.level_count)]
    sizes = {a: about.get(f"openslide.mpp-{a.lower()}") for a in "YX"}
    spacing = positive(sizes)
    unit = "micrometer" if spacing else "pixel"
    return Raw(levels[0], "YXS", spacing, unit, coarser=tuple(levels[1:]))


def check_tile(pixels: int) -> None:
    """Refuse absurd tiles: where OpenSlide gets no memory for one it ends the whole program."""
    if pixels > _MOST_IN_TILE:
        raise ValueError(f"it claims tiles of {pixels} pixels")


class _Level:
    """One level of a slide that OpenSlide has open, as an array."""

    dtype = np.dtype(np.uint8)

    def __init__(self, slide: Any, level: int) -> None:
        self._zoom = slide.level_downsamples[level]
        # Of a canvas that is empty for the most part, the part that was scanned, as in QuPath.
        about, (width, height) = slide.properties, slide.level_dimensions[level]
        x, y, w, h = (about.get(f"openslide.bounds-{n}") for n in ("x", "y", "width", "height"))
        self._left, self._top = int(x or 0), int(y or 0)
        if w and h:
            width = min(width - int(self._left / self._zoom), round(int(w) / self._zoom))
            height = min(height - int(self._top / self._zoom), round(int(h) / self._zoom))
        self.shape, self.chunks = (height, width, 3), (_READ, _READ, 3)
        self._slide, self._level = slide, level
        color = slide.properties.get("openslide.background-color", "FFFFFF")
        self._empty = np.frombuffer(bytes.fromhex(color), np.uint8)

    def __getitem__(self, key: Any) -> np.ndarray:
        given = key if isinstance(key, tuple) else (key,)
        whole = (*given, *(slice(None),) * (3 - len(given)))
        rows, columns = (_span(k, n) for k, n in zip(whole[:2], self.shape, strict=False))
        inner = tuple(
            k - span.start if not isinstance(k, slice) else slice(None, None, k.step)
            for k, span in zip(whole[:2], (rows, columns), strict=True)
        )
        return self._read(rows, columns)[(*inner, whole[2])]

    def _read(self, rows: range, columns: range) -> np.ndarray:
        left, top = columns.start * self._zoom, rows.start * self._zoom
        corner = (self._left + round(left), self._top + round(top))
        with _errors():
            region = self._slide.read_region(corner, self._level, (len(columns), len(rows)))
        pixels = np.asarray(region)
        colors, alpha = pixels[..., :3], pixels[..., 3:]
        if bool((alpha == 255).all()):
            return colors
        return np.where(alpha > 0, colors, self._empty)


def _span(key: Any, n: int) -> range:
    """All pixels between the first and the last that are asked for."""
    if not isinstance(key, slice):
        return range(int(key), int(key) + 1)
    asked = range(n)[key]
    return range(asked.start, asked[-1] + 1) if asked else range(asked.start, asked.start)


@contextmanager
def _errors() -> Iterator[None]:
    """What OpenSlide raises as what is told in a sentence."""
    from openslide import OpenSlideError

    try:
        yield
    except OpenSlideError as error:
        raise ValueError(str(error)) from error
