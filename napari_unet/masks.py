"""Masks that are given, in files or arrays: read as whole numbers, and what their values mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from napari_unet.axes import check_array, resolve_axes
from napari_unet.config import BACKGROUND, MAX_CLASSES
from napari_unet.formats import read_raw
from napari_unet.io import Affine, channels_first, in_order, plain
from napari_unet.run import BadInput

Color = tuple[int, int, int]

# More distinct values than this in a mask are taken for objects, not classes.
MANY_VALUES = 32
# So many values, each in one piece, are objects too: classes come in several pieces.
FEW_VALUES = 4

_RGBA_TYPES = ("uint8", "uint16")
_MAX_COLORS = 255
_RINGING = 64  # how far JPEG may move a value of 0 or 255


def read_masks(
    masks: Sequence[Any],
    axes: str | None = None,
    affines: Sequence[Affine | None] | None = None,
) -> list[np.ndarray]:
    """Masks from arrays and paths; colours are numbered alike in all of them.

    Those that name no axes have those of their images, and lie as these do by their matrices.
    """
    spatial = "".join(a for a in (axes or "").upper() if a not in "CS")
    affines = affines or [None] * len(masks)
    paths = [m for m in masks if isinstance(m, str | Path)]
    known = {path: mask_colors(path) for path in paths}
    if any(known.values()):
        known |= {path: mask_colors(path, grey=True) for path, own in known.items() if not own}
    colors = sorted({c for own in known.values() for c in own}, key=_brightness) or None
    return [
        read_mask(m, spatial or None, colors, affine)
        if isinstance(m, str | Path)
        else _as_mask(m, spatial, f"The mask of image {n}")
        for n, (m, affine) in enumerate(zip(masks, affines, strict=True), 1)
    ]


def read_mask(
    path: str | Path,
    axes: str | None = None,
    colors: Sequence[Color] | None = None,
    affine: Affine | None = None,
) -> np.ndarray:
    """Read a mask as integers in the order [T], [Z], Y, X; `axes` are those of unnamed arrays.

    A mask in colour is numbered from 1 by `colors`, or else by its own, dark to bright; black is 0.
    Give the colours of a whole folder where not every mask shows all of them. Where mask and image
    know where they lie, it is turned as the image with this `affine` is.
    """
    data, lossy, own = _mask_channels(Path(path), axes)
    if affine is not None and own is not None:
        data = _turned(data, own, affine)
    if lossy:
        return _threshold(data, path)
    # Among masks in colour, grey is one more colour.
    if data.shape[0] == 1 or (colors is None and _is_grey(data)):
        return _whole_numbers(data[0], path)
    packed = _packed(data, path)
    table = [_pack(c) for c in colors] if colors is not None else _palette(packed, path)
    return _numbered(packed, table, path)


def affine_of(path: str | Path) -> Affine | None:
    """Where a mask or an image lies, if its file says so."""
    return read_raw(Path(path), as_mask=True).affine


def fitted(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask in the shape of its image, if they differ by axes of length 1 only.

    Some formats have no room for such an axis, others add one: a single slice comes back as a
    plane, a plane as a single slice.
    """
    long, wanted = ([n for n in sizes if n != 1] for sizes in (mask.shape, shape))
    return mask.reshape(shape) if long == wanted else mask


def mask_colors(path: str | Path, grey: bool = False) -> list[Color]:
    """List the colours of a mask but black, dark to bright; none if it is not in colour.

    Where others are in colour, those of one that is grey count as well.
    """
    data, lossy, _ = _mask_channels(Path(path), None)
    if lossy or data.shape[0] == 1 or (not grey and _is_grey(data)):
        return []
    return [_unpack(value) for value in _palette(_packed(data, path), path)]


# ---- what their values mean


@dataclass(frozen=True)
class Mapping:
    """How the values of a foreign mask become classes: value -> 0 for background, or its class."""

    values: dict[int, int]
    objects: bool = False  # every value but 0 is one object of class 1

    @property
    def n_classes(self) -> int:
        return 1 if self.objects else max((1, *self.values.values()))

    def describe(self) -> str:
        """The mapping in words, to be shown before it is used."""
        if self.objects:
            return "0 is background, every other value is one object of class 1"
        words = (
            f"{v} is {'class ' + str(c) if c else 'background'}" for v, c in self.values.items()
        )
        return ", ".join(words)

    def apply(self, mask: np.ndarray) -> np.ndarray:
        """The mask as 0 = background and 1..N = classes."""
        if self.objects:
            return (mask != 0).astype(np.uint8)
        if not self.values:
            return np.zeros(mask.shape, np.uint8)
        keys = np.array(sorted(self.values))
        table = np.array([self.values[k] for k in keys.tolist()], np.uint8)
        place = np.minimum(np.searchsorted(keys, mask), len(keys) - 1)
        strange = keys[place] != mask
        if strange.any():
            raise BadInput(
                f"A mask holds the value {mask[strange].flat[0]}, which is mapped to no class; "
                f"add it to the mapping ({self.describe()})."
            )
        return table[place]


def mask_values(masks: Iterable[np.ndarray]) -> list[int]:
    """The distinct values of all masks together, sorted."""
    found: set[int] = set()
    for mask in masks:
        found.update(np.unique(mask).tolist())
    return sorted(int(v) for v in found)


def understand(masks: Sequence[np.ndarray], objects: bool | None = None, named: int = 1) -> Mapping:
    """What the values of complete masks mean, where so many classes are named."""
    values = mask_values(masks)
    if objects is None and named < 2:
        objects = are_objects(masks, values)
    if objects:
        return Mapping({}, objects=True)
    guess = guess_mapping(values)
    limit = named if named > 1 else 0
    if guess.objects and objects is False:
        limit = limit or MAX_CLASSES
    if values and values[0] >= 0 and values[-1] <= limit:  # class numbers: keep them, gaps and all
        return Mapping({v: v for v in values})
    if guess.objects and (objects is False or named > 1):
        raise BadInput(
            f"The masks hold {len(values)} different values, up to {values[-1]}; at most "
            f"{MAX_CLASSES} classes are possible: say that the values are objects, or map them."
        )
    return guess


def are_objects(masks: Sequence[np.ndarray], values: list[int]) -> bool | None:
    """Whether each of several values is one connected object in every mask; None if unclear."""
    if sum(v > 0 for v in values) < FEW_VALUES or len(values) > MANY_VALUES:
        return None
    for mask in masks:
        for value in np.unique(mask[mask > 0]):
            if ndimage.label(mask == value)[1] > 1:
                return None
    return True


def guess_mapping(values: list[int]) -> Mapping:
    """The likeliest reading of complete masks: codes such as 0/128/255, classes, or objects."""
    if len(values) > MANY_VALUES or (values and values[-1] > 255):
        return Mapping({}, objects=True)
    classes = [v for v in values if v != 0]
    if classes and classes[0] > 0 and classes[-1] <= MANY_VALUES:
        return Mapping({v: v for v in values})  # class numbers already: keep them, gaps and all
    if len(classes) > 1 and classes == [*range(1, len(classes)), BACKGROUND]:
        return Mapping({v: v % BACKGROUND for v in values})  # an annotation of ours
    return Mapping({v: rank for rank, v in enumerate([0, *classes])})


# ---- how they are read


def _as_mask(array: Any, axes: str, what: str) -> np.ndarray:
    """An array as a mask; with these axes, if it has as many, in the order of ours."""
    labels = _whole_numbers(np.asarray(array), what)
    ordered: np.ndarray = in_order(labels, axes) if len(axes) == labels.ndim else labels
    return ordered


def _mask_channels(path: Path, axes: str | None) -> tuple[np.ndarray, bool, Affine | None]:
    """Read a mask with its channels first, whether its format changes values, where it lies."""
    raw = read_raw(path, as_mask=True)
    shape = tuple(int(n) for n in raw.data.shape)
    check_array(shape, raw.data.dtype.kind, str(path))
    given = axes if raw.axes is None and len(axes or "") == len(shape) else None
    source = resolve_axes(shape, raw.axes, given, str(path), mask=True)
    data = plain(np.asarray(channels_first(raw.data, source)))
    if raw.axes is None and data.shape[0] == 4:
        data = data[:3]
    if data.shape[0] not in (1, 3) or (data.shape[0] == 3 and data.dtype.name not in _RGBA_TYPES):
        raise BadInput(
            f"{path} has {data.shape[0]} channels of {data.dtype}, a mask has one or is 8-bit RGB: "
            "save its labels as one channel."
        )
    return data, raw.lossy, raw.affine


def _turned(data: np.ndarray, own: Affine, wanted: Affine) -> np.ndarray:
    """An array whose last axes lie by one matrix, as one by the other: flipped, axes exchanged.

    What differs otherwise stays as it is: many masks are on the grid of their image and do not say.
    """
    n = len(own) - 1
    if len(wanted) != len(own) or data.ndim <= n:
        return data
    matrix = np.linalg.solve(np.array(wanted), np.array(own))  # from its pixels to the image's
    turn, start = np.rint(matrix[:n, :n]), matrix[:n, n]
    order = [int(np.abs(row).argmax()) for row in turn]
    if not np.allclose(matrix[:n, :n], turn, atol=0.01) or (np.abs(turn).sum(0) != 1).any():
        return data
    if sorted(order) != list(range(n)):
        return data
    lead = data.ndim - n
    sizes = [data.shape[lead + axis] for axis in order]
    back = [turn[i, axis] < 0 for i, axis in enumerate(order)]
    ends = [size - 1 if b else 0 for size, b in zip(sizes, back, strict=True)]
    if not np.allclose(start, ends, atol=0.5):
        return data
    turned = data.transpose([*range(lead), *(lead + axis for axis in order)])
    flips = (slice(None, None, -1) if b else slice(None) for b in back)
    return turned[(..., *flips)]


def _is_grey(data: np.ndarray) -> bool:
    return data.shape[0] == 1 or bool((data == data[:1]).all())


def _whole_numbers(labels: np.ndarray, what: str | Path) -> np.ndarray:
    """Labels as integers, 0 and above."""
    kind = labels.dtype.kind
    if kind == "b":
        return labels.astype(np.uint8)
    whole = kind in "iu"
    if kind == "f":
        whole = bool((np.isfinite(labels) & (labels == np.round(labels))).all())
    if not whole:
        raise BadInput(
            f"{what} holds {labels.dtype} numbers that are not whole: round them or give a mask of "
            "integers."
        )
    if kind == "f" and bool((np.abs(labels) > 2**53).any()):
        raise BadInput(f"{what} holds labels beyond 2^53: give an integer mask.")
    if bool((labels < 0).any()):
        raise BadInput(f"{what} holds negative labels: give a mask of 0 and above.")
    if kind == "f":
        return labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
    return labels


def _threshold(data: np.ndarray, path: str | Path) -> np.ndarray:
    """Undo JPEG on a black-and-white mask, the one kind that survives it."""
    dark, bright = data < _RINGING, data > 255 - _RINGING
    clear = dark.all(axis=0) | bright.all(axis=0)
    if float(clear.mean()) < 0.99:
        raise BadInput(
            f"{path} is a JPEG, which changes the values of a mask: save the mask as PNG or TIFF."
        )
    return (data.mean(axis=0) >= 128).astype(np.uint8)


def _packed(data: np.ndarray, path: str | Path) -> np.ndarray:
    """Each colour as one number."""
    if data.dtype != np.uint8:
        raise BadInput(f"{path} is a colour mask of 16 bits: save its labels as one channel.")
    red, green, blue = data.astype(np.uint32)
    return (red << 16) | (green << 8) | blue


def _palette(packed: np.ndarray, path: str | Path) -> list[int]:
    values = [int(value) for value in np.unique(packed)]
    if len(values) > _MAX_COLORS:
        raise BadInput(
            f"{path} has {len(values)} colours and looks like a photograph, not a mask: "
            "give the mask."
        )
    return sorted((v for v in values if v), key=lambda v: _brightness(_unpack(v)))


def _numbered(packed: np.ndarray, table: list[int], path: str | Path) -> np.ndarray:
    labels = np.zeros(packed.shape, np.uint8)
    for number, value in enumerate(table, start=1):
        labels[packed == value] = number
    unknown = packed[(labels == 0) & (packed != 0)]
    if unknown.size:
        raise BadInput(
            f"{path} has the colour {_unpack(int(unknown[0]))}, which is not among those given: "
            "add it to them."
        )
    return labels


def _brightness(color: Color) -> tuple[float, Color]:
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue, color


def _pack(color: Color) -> int:
    red, green, blue = (int(c) for c in color)
    return (red << 16) | (green << 8) | blue


def _unpack(value: int) -> Color:
    return value >> 16, value >> 8 & 255, value & 255
