"""How an image from a file is shown in a viewer: its levels, colours and place, and its units."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

from napari_unet.io import Affine, Image
from napari_unet.units import full_name

OURS = "napari_unet"  # key of what we note in a layer's metadata


def is_color(image: Image) -> bool:
    """Whether three channels are red, green and blue, not three stains."""
    last = image.source_axes.endswith("C")
    return image.n_channels == 3 and image.data.dtype == np.uint8 and last


def layer_of(image: Image) -> tuple[Any, dict[str, Any]]:
    """The pixels of an image, a list where there are coarser levels, and how a layer shows them."""
    levels = [image.data, *image.coarser]
    about: dict[str, Any] = {"name": image.name, "metadata": {OURS: origin_of(image)}}
    if is_color(image):
        levels = [np.moveaxis(level, 0, -1) for level in levels]
        about["rgb"] = True
    elif image.n_channels == 1:
        levels = [level[0] for level in levels]
    else:
        about["channel_axis"] = 0
        about["name"] = [f"{image.name}: channel {i}" for i in range(1, image.n_channels + 1)]
    lead = len(image.spatial_shape) - len(image.spacing)
    scale = (*(1.0,) * lead, *image.spacing)
    about |= {"scale": scale, "units": units_of(image), "multiscale": len(levels) > 1}
    if image.affine is not None:
        about["affine"] = world_of(image) / np.array((*scale, 1.0))
    return levels if len(levels) > 1 else levels[0], about


def origin_of(image: Image) -> dict[str, Any]:
    """What a layer remembers of its file: where that is, and where it says that it lies."""
    known = {"path": image.path, "affine": image.affine, "offset": image.offset}
    return known | {"axes": image.axes, "shape": image.spatial_shape}


def units_of(image: Image) -> tuple[str, ...]:
    """The unit of each axis but that of channels; of time none is known."""
    lead = len(image.spatial_shape) - len(image.spacing)
    return (*("pixel",) * lead, *(full_name(image.unit),) * len(image.spacing))


def world_of(image: Image) -> np.ndarray:
    """The matrix from pixels, channels left out, to the world of a viewer."""
    lead = len(image.spatial_shape) - len(image.spacing)
    matrix = np.diag((*(1.0,) * lead, *image.spacing, 1.0))
    if image.affine is not None:
        matrix[lead:, lead:] = upright(image.affine, image.spatial_shape[lead:])
    return matrix


def upright(affine: Affine, shape: tuple[int, ...]) -> np.ndarray:
    """Where a volume lies in a viewer: its middle in place, its planes parallel to the screen.

    A viewer cuts along the axes of an array but paints where the world says: in a tilted volume it
    paints on other planes than it shows. So the axes of the world are those of the patient that lie
    closest to the array's, in the array's order, and what is left of a tilt is not shown.
    """
    matrix, n = np.array(affine), len(shape)
    lengths = np.linalg.norm(matrix[:n, :n], axis=0)
    directions = np.abs(matrix[:n, :n] / lengths)
    closest = max(
        permutations(range(n)), key=lambda rows: sum(directions[r, c] for c, r in enumerate(rows))
    )
    matrix = matrix[[*closest, n]]
    if closest.index(0) != 0:  # the screen counts downwards, and the head is to be above
        matrix[closest.index(0)] *= -1
    if not np.count_nonzero(matrix[:n, :n] - np.diag(matrix.diagonal()[:n])):
        return matrix
    straight = np.diag((*np.copysign(lengths, matrix.diagonal()[:n]), 1.0))
    middle = np.array([*((m - 1) / 2 for m in shape), 1.0])
    straight[:n, n] = ((matrix - straight) @ middle)[:n]
    return straight
