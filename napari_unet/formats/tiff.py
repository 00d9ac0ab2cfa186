"""What lies in a TIFF, and what OME, ImageJ or the file itself say about its axes and pixels."""

from __future__ import annotations

import logging
import math
import re
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.axes import UNNAMED
from napari_unet.formats.raw import (
    Raw,
    Stored,
    check_size,
    is_large,
    lazy,
    lazy_array,
    positive,
    squeezed,
)
from napari_unet.run import BadInput
from napari_unet.units import full_name, in_one_unit

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_JPEG_IN_TIFF = (6, 7, 33007)
_ALPHA = (1, 2)
_PALETTE = 3
_CENTIMETER = 3
_PAPER = 100  # micrometers: pixels of that size are those of a print
_APERIO = re.compile(r"MPP *= *([0-9.]+)")
_CUT_SHORT = re.compile(r"invalid page offset|corrupt")


class _Complaints(logging.Handler):
    """Keep what tifffile only logs, and keep it off the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())

    @contextmanager
    def heard(self) -> Iterator[None]:
        logger = logging.getLogger("tifffile")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)

    def check(self) -> None:
        for message in filter(_CUT_SHORT.search, self.messages):
            raise ValueError(message.replace("\n", " "))


def read_tiff(path: Path, as_mask: bool) -> Raw:
    """Read a TIFF; a large one, and one with coarser levels, stays on disk."""
    import tifffile

    complaints = _Complaints()
    with complaints.heard(), ExitStack() as stack:
        tiff = stack.enter_context(tifffile.TiffFile(path))
        # Further series are labels, thumbnails and overviews of slides.
        mine = [s for s in tiff.series if _is_in(s, tiff)] or tiff.series
        series = max(mine, key=_pixels_of)
        page, levels = series.keyframe, list(series.levels)
        for level in levels:
            _check_complete(level)
        if len(levels) > 1 or is_large(series.shape, series.dtype):
            arrays = _lazy_levels(series, path, stack)
        else:
            arrays = [series.asarray()]
        complaints.check()
        notes = [_gaps(series, path)] if tiff.is_ome else []
        # Where white is 0 values stay as stored, as in other readers: a mask must not be inverted.
        colored = [_colors_only(array, series.axes, page, as_mask) for array in arrays]
        spacing, unit = _tiff_spacing(tiff, page, len(levels) > 1, tiff.series.index(series))
        alike = sum(_pixels_of(s) == _pixels_of(series) for s in mine) if tiff.is_ome else 1
    (data, axes), *coarser = colored
    axes = "".join(a if a in "TCZYXS" else UNNAMED for a in axes)
    lossy = int(page.compression) in _JPEG_IN_TIFF
    if alike > 1:
        notes.append(f"The file holds {alike} images, of which the first is read.")
    note = " ".join(filter(None, notes))
    smaller = tuple(array for array, _ in coarser)
    return squeezed(Raw(data, axes, spacing, unit, lossy, coarser=smaller, note=note))


def _pixels_of(series: Any) -> int:
    return int(series.keyframe.imagewidth * series.keyframe.imagelength)


def _is_in(series: Any, tiff: Any) -> bool:
    """Whether a series has a page in this file: those of OME may lie in the files beside it."""
    return not tiff.is_ome or any(page is not None and page.parent is tiff for page in series.pages)


def _check_complete(series: Any) -> None:
    """Refuse a file that ends before its pixels do: it would open, and be empty at its end."""
    for page in (series.pages[0], series.pages[-1]):
        if page is None:  # OME speaks of it, but it lies in no file that is there: see _gaps
            continue
        size = page.parent.filehandle.size
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if max(ends, default=0) > size:
            raise ValueError(f"it ends after {size} of {max(ends)} bytes")


def _gaps(series: Any, path: Path) -> str:
    """What to say of planes that OME speaks of and no file holds: tifffile makes them empty."""
    there = np.array([page is not None for page in series.pages])
    if there.all():
        return ""
    lead = len(series.shape) - len(series.keyframe.shape)
    shape, channels = series.shape[:lead], series.axes[:lead].find("C")
    if channels >= 0 and math.prod(shape) == len(there):
        by_channel = np.moveaxis(there.reshape(shape), channels, 0).reshape(shape[channels], -1)
        if not by_channel.any(axis=1).all():
            first = int(by_channel.any(axis=1).argmin()) + 1
            raise BadInput(
                f"{path} has nothing of channel {first} of {shape[channels]}, which is said to lie "
                "in another file: put all files of its set into one folder."
            )
    return (
        f"It lacks {(~there).sum()} of its {len(there)} planes and has zeros there: all files of "
        "its set must lie beside it."
    )


def largest_tile(path: Path) -> int:
    """The pixels of the largest tile that a TIFF claims to have."""
    import tifffile

    with _Complaints().heard(), tifffile.TiffFile(path) as tiff:
        return max((page.tilewidth * page.tilelength for page in tiff.pages), default=0)


class _Open:
    """A file that is open for as long as any array in it lives."""


def _lazy_levels(series: Any, path: Path, stack: ExitStack) -> list[Any]:
    """Wrap a series and its coarser levels in dask."""
    opened = _Open()
    levels = [_lazy_level(series, i, path, opened) for i in range(len(series.levels))]
    weakref.finalize(opened, stack.pop_all().close)
    return levels


def _lazy_level(series: Any, number: int, path: Path, opened: _Open) -> Any:
    import zarr

    level = series.levels[number]
    check_size(level.shape, level.dtype)
    if level.dataoffset is not None:  # one uncompressed block, often a single strip: map it
        dtype = level.dtype.newbyteorder(level.keyframe.parent.byteorder)
        return lazy_array(np.memmap(path, dtype, "r", level.dataoffset, level.shape), path)
    stored = Stored(zarr.open(series.aszarr(level=number), mode="r"), path, opened)
    if stored.shape != tuple(level.shape):
        raise ValueError(f"shape {stored.shape} instead of {level.shape}")
    return lazy(stored)


def _colors_only(data: Any, axes: str, page: Any, as_mask: bool) -> tuple[Any, str]:
    """Drop alpha; look palette indices up in their palette unless they are the labels of a mask."""
    if "S" in axes and page.extrasamples and int(page.extrasamples[-1]) in _ALPHA:
        keep = [slice(None)] * data.ndim
        keep[axes.index("S")] = slice(0, -1)
        return data[tuple(keep)], axes
    if as_mask or int(page.photometric) != _PALETTE or page.colormap is None:
        return data, axes
    table = (page.colormap.T >> 8).astype(np.uint8)
    if bool((table == table[:, :1]).all()):
        return _looked_up(data, table[:, 0]), axes
    return _looked_up(data, table), axes + "S"


def _looked_up(data: Any, table: np.ndarray) -> Any:
    if isinstance(data, np.ndarray):
        return table[data]
    if table.ndim == 1:
        return data.map_blocks(table.__getitem__, dtype=table.dtype)
    chunks = (*data.chunks, (table.shape[1],))
    return data.map_blocks(table.__getitem__, dtype=table.dtype, chunks=chunks, new_axis=data.ndim)


def _tiff_spacing(tiff: Any, page: Any, pyramid: bool, number: int) -> tuple[dict[str, float], str]:
    # Dots per inch are left aside: they are about paper, and nearly always made up.
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_spacing(tiff.ome_metadata, number)
    if tiff.is_imagej and tiff.imagej_metadata:
        return _imagej_spacing(tiff.imagej_metadata, page)
    if tiff.is_svs:
        size = _APERIO.search(page.description)
        spacing = positive(dict.fromkeys("YX", size[1])) if size else {}
        return spacing, "micrometer" if spacing else "pixel"
    return _slide_spacing(page) if tiff.is_qpi or pyramid else ({}, "pixel")


def _slide_spacing(page: Any) -> tuple[dict[str, float], str]:
    """Pixels in a centimetre, which slides of many makers have."""
    if page.tags.valueof("ResolutionUnit") != _CENTIMETER:
        return {}, "pixel"
    sizes: dict[str, Any] = {}
    for axis, tag in (("Y", "YResolution"), ("X", "XResolution")):
        pixels, length = page.tags.valueof(tag, (0, 1))
        sizes[axis] = 1e4 * length / pixels if pixels else None
    spacing = {axis: size for axis, size in positive(sizes).items() if size < _PAPER}
    return spacing, "micrometer" if spacing else "pixel"


def _ome_spacing(xml: str, number: int) -> tuple[dict[str, float], str]:
    """The pixel size of the image of this number, or of the first where there are fewer."""
    from xml.etree import ElementTree

    every = [p for p in ElementTree.fromstring(xml).iter() if p.tag.endswith("}Pixels")]
    if not every:
        return {}, "pixel"
    pixels = every[number if number < len(every) else 0]
    sizes = positive({a: pixels.get(f"PhysicalSize{a}") for a in "ZYX"})
    units = {a: pixels.get(f"PhysicalSize{a}Unit", "micrometer") for a in sizes}
    return in_one_unit(sizes, units)


def _imagej_spacing(metadata: dict[str, Any], page: Any) -> tuple[dict[str, float], str]:
    sizes: dict[str, Any] = {"Z": metadata.get("spacing")}
    if metadata.get("unit"):
        for axis, tag in (("Y", "YResolution"), ("X", "XResolution")):
            if tag in page.tags:
                pixels, length = page.tags[tag].value
                sizes[axis] = length / pixels if pixels else None
    return positive(sizes), full_name(metadata.get("unit"))
