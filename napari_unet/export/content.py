"""What a writer is given: classes and objects with their axes, pixel size, place and names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.config import MAX_CLASSES, PALETTE, SegClass, class_table
from napari_unet.io import Image
from napari_unet.run import BadInput
from napari_unet.units import PIXEL, full_name

Band = tuple[tuple[Any, ...], np.ndarray]
Color = tuple[int, int, int]

BAND = 1024  # rows that are read at a time
_MOST = int(np.iinfo(np.uint32).max)
_TYPES = (np.uint8, np.uint16, np.uint32)


@dataclass(frozen=True, eq=False)
class Content:
    """Arrays, lazy or not, and what is known of them."""

    data: Any  # what raster formats write: the objects' numbers if there are any, else the classes
    dtype: np.dtype
    axes: str
    spacing: tuple[float, ...] | None = None
    unit: str = PIXEL  # by its full name
    mask: Any = None  # the class of each pixel; None where classes are not known
    objects: Any = None  # the number of each pixel's object; None where they are not known
    classes: tuple[SegClass, ...] = ()
    image: Image | None = None
    highest: int = 0  # the highest number in `data`

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.data.shape)

    @property
    def space(self) -> str:
        """The axes in space, [Z], Y and X."""
        return "".join(a for a in self.axes if a in "ZYX")

    @property
    def steps(self) -> tuple[float, ...]:
        """The pixel size along the axes in space, 1 where it is not known."""
        return self.spacing or (1.0,) * len(self.space)

    @property
    def planes(self) -> int:
        """How many planes it has, times and slices together."""
        return math.prod(self.shape[:-2])

    def plane(self, index: int) -> dict[str, int]:
        """The time and the slice of a plane, as far as there are such axes."""
        places = np.unravel_index(index, self.shape[:-2]) if self.shape[:-2] else ()
        return {a: int(at) for a, at in zip(self.axes[:-2], places, strict=True)}

    def class_of(self, number: int) -> SegClass:
        """The class of a number, also of one that the table of classes does not reach."""
        if number <= len(self.classes):
            return self.classes[number - 1]
        return SegClass(name=f"class {number}", color=PALETTE[(number - 1) % len(PALETTE)])


def make_content(
    path: Path,
    mask: Any,
    like: Any,
    classes: Sequence[str | SegClass] | None,
    objects: Any,
) -> Content:
    """Check what is to be written and gather what is known of it."""
    mask, objects = _integers(mask, path), _integers(objects, path)
    if mask is not None and objects is not None and mask.shape != objects.shape:
        raise BadInput(
            f"{path} cannot be made of classes of the shape {tuple(mask.shape)} and objects of "
            f"{tuple(objects.shape)}: give arrays of one shape."
        )
    data = mask if objects is None else objects
    if data is None:
        raise BadInput(f"{path} is to hold labels, but there are none: give a mask or objects.")
    axes = spatial_axes(data.shape, like, path)
    highest = _highest(data, path)
    if objects is None and classes is None and highest > MAX_CLASSES:
        mask, objects = None, mask  # classes are no more than 254, so these are objects
    if classes is None and mask is not None:
        classes = class_table(highest if objects is None else _highest(mask, path))
    content = Content(
        data,
        smallest(highest),
        axes,
        mask=mask,
        objects=objects,
        classes=class_table(classes or ()),
        highest=highest,
    )
    return _like(content, like)


def float_content(path: Path, values: Any, like: Any) -> Content:
    """Gather what is known of probabilities, whose first axis is that of the classes."""
    values = as_array(values)
    axes = "C" + spatial_axes(values.shape[1:], like, path)
    return _like(Content(values, np.dtype(np.float32), axes), like)


def as_array(array: Any) -> Any:
    """An array as it is, lazy ones too, and lists as NumPy."""
    return array if hasattr(array, "dtype") and hasattr(array, "shape") else np.asarray(array)


def smallest(highest: int) -> np.dtype:
    """The smallest type that holds all labels up to the highest."""
    return next(np.dtype(t) for t in _TYPES if highest <= np.iinfo(t).max)


def spatial_axes(shape: tuple[int, ...], like: Any, path: Path) -> str:
    """The letters of a mask's axes, which are those of its image."""
    if isinstance(like, Image):
        if tuple(shape) != like.spatial_shape:
            raise BadInput(
                f"{path} would have the shape {tuple(shape)}, but its image {like.name} has "
                f"{like.spatial_shape}: give the image the mask was made from."
            )
        return like.axes[1:]
    if not 2 <= len(shape) <= 4 or 0 in shape:
        raise BadInput(f"{path} cannot hold the shape {tuple(shape)}: give 2 to 4 spatial axes.")
    return "TZYX"[-len(shape) :]


def bands(data: Any, height: int = BAND, within: tuple[int, ...] = ()) -> Iterator[Band]:
    """Read an array, or the part of it at some first indices, a band of rows at a time.

    So memory stays flat; lazy arrays may read all of a part that is taken out beforehand.
    """
    for outer in np.ndindex(tuple(data.shape[len(within) : -2])):
        for top in range(0, data.shape[-2], height):
            where = (*outer, slice(top, top + height))
            yield where, np.asarray(data[(*within, *where)])


def rgb(color: str) -> Color:
    """Red, green and blue of a colour written as #rrggbb."""
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def _like(content: Content, like: Any) -> Content:
    if not isinstance(like, Image):
        return content
    return replace(content, spacing=like.spacing, unit=full_name(like.unit), image=like)


def _integers(array: Any, path: Path) -> Any:
    if array is None:
        return None
    array = as_array(array)
    if array.dtype.kind not in "biu":
        raise BadInput(f"{path} is to hold labels, not {array.dtype}: give an integer mask.")
    return array


def _highest(data: Any, path: Path) -> int:
    low, high = _bounds(data)
    if low < 0 or high > _MOST:
        raise BadInput(f"{path} cannot hold the labels {low} to {high}: number them 0 to 2^32-1.")
    return high


def _bounds(data: Any) -> tuple[int, int]:
    if isinstance(data, np.ndarray):
        return int(data.min()), int(data.max())
    found = [(int(band.min()), int(band.max())) for _, band in bands(data)]
    return min(low for low, _ in found), max(high for _, high in found)
