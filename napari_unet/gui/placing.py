"""Where things lie: from a layer's pixels to the world, the screen and the engine, and back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Layer

from napari_unet.annotation import Region
from napari_unet.io import plain, read_image
from napari_unet.pictures import Picture, View, channels_first
from napari_unet.run import BadInput
from napari_unet.showing import OURS

VIEW_PIXELS = 2**22  # beyond so many on the screen, a look takes every second, fourth ... pixel
PYRAMID_FROM = 2**26  # pixels of a plane from which a result is shown as a pyramid
PYRAMID_TOP = 2048


def finest(layer: Any) -> Any:
    """The pixels of an image or of labels, at the finest level if there are several."""
    return layer.data[0] if layer.multiscale else layer.data


def shape_of(image: Image) -> tuple[int, ...]:
    """The shape of an image's finest level, colour channels left out."""
    shape = tuple(int(n) for n in finest(image).shape)
    return shape[:-1] if image.rgb else shape


def matrix_of(layer: Layer) -> np.ndarray:
    """The homogeneous matrix from a layer's pixels to the world."""
    n = layer.ndim
    origin = np.asarray(layer.data_to_world((0,) * n))
    columns = [np.asarray(layer.data_to_world(tuple(row))) - origin for row in np.eye(n)]
    matrix = np.eye(n + 1)
    matrix[:n, :n] = np.stack(columns, 1)
    matrix[:n, n] = origin
    return matrix


def matrix_of_part(image: Image, view: View) -> np.ndarray:
    """The matrix from the pixels of a view, of some step, to the world."""
    n = len(view.region)
    local = np.eye(n + 1)
    for axis, (r, step) in enumerate(zip(view.region, view.steps, strict=True)):
        local[axis, axis], local[axis, n] = step, r.start + (step - 1) / 2
    return _spatial_part(matrix_of(image), n) @ local


def _spatial_part(matrix: np.ndarray, n: int) -> np.ndarray:
    """A matrix without the axes before the last n, such as one of channels."""
    keep = slice(len(matrix) - 1 - n, None)
    return matrix[keep, keep]


def place_of(image: Image, data: np.ndarray) -> dict[str, Any]:
    """The transform of an image, for a layer with its spatial axes only."""
    if data.ndim == image.ndim:
        names = ("scale", "translate", "rotate", "shear", "affine", "units")
        return {name: getattr(image, name) for name in names}
    n = min(data.ndim, image.ndim)
    units = ("pixel",) * (data.ndim - n) + tuple(image.units[-n:])  # first an axis of classes
    return {"affine": _spatial_part(matrix_of(image), n), "units": units}


def put_over(layer: Layer, image: Image) -> None:
    """Lay a layer of an image where that is now."""
    n = min(layer.ndim, image.ndim)
    there, here = (_spatial_part(matrix_of(one), n) for one in (layer, image))
    if not np.allclose(there, here):
        for name, value in place_of(image, finest(layer)).items():
            setattr(layer, name, value)


def picture_of(name: str, image: Image, others: Sequence[Image], leading: bool) -> Picture:
    """An image, with further ones as channels, as the engine reads it."""
    levels, *further = [
        [plain(level) for level in (i.data if i.multiscale else [i.data])] for i in (image, *others)
    ]
    stacked = [
        channels_first([level, *(f[i] for f in further)], rgb=image.rgb, leading=leading)
        for i, level in enumerate(levels)
        if all(i < len(f) for f in further)
    ]
    n = len(stacked[0].shape) - 1
    # Scale, rotation and affine together: how far apart two pixels are in the world.
    spacing = tuple(np.linalg.norm(matrix_of(image)[:-1, :-1], axis=0)[-n:].tolist())
    return Picture(name, stacked[0], spacing, str(image.units[-1]), tuple(stacked[1:]))


def file_of(image: Image) -> Path | None:
    """The file that an image was read from, by us or by napari; the disk is not asked."""
    path = image.metadata.get(OURS, {}).get("path") or image.source.path
    return Path(path).absolute() if path else None


def origin(image: Image) -> dict[str, Any]:
    """The file of an image, its axes and where that says it lies, if they are what they were.

    Of a file that napari has read, the axes are known.
    """
    known = image.metadata.get(OURS, {})
    if "shape" in known:
        there = known["shape"] == shape_of(image)[-len(known["shape"]) :]
        return {k: known[k] for k in ("path", "affine", "offset", "axes")} if there else {}
    path = file_of(image)
    with suppress(BadInput):
        found = None if path is None or not path.exists() else read_image(path)
        if found is not None and found.spatial_shape == shape_of(image)[-len(found.axes) + 1 :]:
            return {"axes": found.axes}
    return {}


def zoom_of(image: Image) -> np.ndarray:
    """Pixels of the finest level in one of the level that is drawn."""
    if not image.multiscale:
        return np.ones(image.ndim)
    return np.asarray(image.downsample_factors[image.data_level])[: image.ndim]


def covered(corners: np.ndarray, shape: tuple[int, ...]) -> Region | None:
    """The region of an array within a rectangle; None if there is none."""
    low = np.clip(np.round(corners.min(0)), 0, shape).astype(int)
    high = np.clip(np.round(corners.max(0)), 0, np.array(shape) - 1).astype(int)
    if (low > high).any():
        return None
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))


def at_step(view: View) -> View:
    """The view at the finest step that keeps it within bounds."""
    step = 1
    while view.pixels / step**2 > VIEW_PIXELS:
        step *= 2
    region = list(view.region)
    for axis in view.shown:
        region[axis] = slice(region[axis].start // step * step, region[axis].stop)
    return View(view.picture, tuple(region), view.shown, step)


def pyramid(data: np.ndarray) -> Any:
    """A large result with coarser views of itself, which take no memory."""
    if data.shape[-1] * data.shape[-2] < PYRAMID_FROM:
        return data
    levels = [data]
    while max(levels[-1].shape[-2:]) > PYRAMID_TOP:
        levels.append(levels[-1][..., ::2, ::2])
    return levels
