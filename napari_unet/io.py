"""Images as the rest works with them: read, their axes in one order, matched with masks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.axes import ORDER, check_array, resolve_axes
from napari_unet.formats import (
    SUFFIXES,
    Raw,
    is_dicom,
    is_series,
    is_zarr,
    lazy_array,
    read_raw,
    reading,
)
from napari_unet.formats.dicom import images_in
from napari_unet.pictures import numbered
from napari_unet.run import BadInput
from napari_unet.units import PIXEL, full_name

# Homogeneous, from the indices of [Z], Y, X to millimetres in that order of axes, in the patient's
# frame as DICOM and ITK have it: x to the left, y to the back, z to the head.
Affine = tuple[tuple[float, ...], ...]

_MASK_ENDING = re.compile(r"[._-](masks?|labels?|seg)$", re.IGNORECASE)
_ENDING = re.compile(r"(\.ome)?\.(zarr|[^.]+)$|\.nii\.gz$", re.IGNORECASE)


@dataclass(frozen=True)
class Image:
    """An image, its axes always in the order C, [T], [Z], Y, X."""

    data: Any  # numpy, or dask where the file is large or a zarr
    axes: str
    name: str
    source_axes: str
    spacing: tuple[float, ...]
    unit: str = PIXEL  # or that of a length, by its full name
    path: Path | None = None
    affine: Affine | None = None
    coarser: tuple[Any, ...] = ()  # the same, each level of a pyramid smaller
    note: str = ""  # what the user should read, such as what else the file holds
    offset: tuple[float, ...] = ()  # where its first pixel lies, in its unit; none if it does at 0

    def __post_init__(self) -> None:
        space = "".join(a for a in self.axes if a in "ZYX")
        if len(self.spacing) != len(space):
            raise ValueError(f"{self.spacing} is no pixel size along {', '.join(space)}")

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """The shape without channels: [T], [Z], Y, X."""
        return tuple(int(n) for n in self.data.shape[1:])

    @property
    def n_channels(self) -> int:
        return int(self.data.shape[0])

    def describe(self) -> str:
        """One line that shows how the file was understood."""
        sizes = ", ".join(f"{a} {n}" for a, n in zip(self.axes, self.data.shape, strict=True))
        steps = " x ".join(f"{step:g}" for step in self.spacing)
        line = (
            f"{self.name}: {self.source_axes} read as {sizes}; {self.data.dtype}; "
            f"pixel size {steps} {self.unit}"
        )
        return f"{line}. {self.note}" if self.note else line


def as_image(
    array: Any,
    axes: str | None = None,
    name: str = "image",
    spacing: Sequence[float] | None = None,
) -> Image:
    """Take an array as an image; `axes` are in its own order, `spacing` is that of [Z], Y, X."""
    image = _image(Raw(_array(array, name)), axes, name, name)
    if spacing is None:
        return image
    if len(spacing) != len(image.spacing) or not all(0 < step < np.inf for step in spacing):
        raise BadInput(
            f"{name} cannot have the pixel size {tuple(spacing)}: "
            f"give {len(image.spacing)} numbers above 0."
        )
    return replace(image, spacing=tuple(float(step) for step in spacing))


def viewed_image(
    pixels: Any,
    name: str,
    spacing: Sequence[float] = (),
    unit: str = PIXEL,
    path: Path | None = None,
    affine: Affine | None = None,
    coarser: tuple[Any, ...] = (),
    axes: str = "",
    offset: tuple[float, ...] = (),
) -> Image:
    """What a viewer holds as an image; `spacing` may tell of time too, which has no pixel size."""
    axes = axes or "C" + "TZYX"[1 - len(pixels.shape) :]
    n = sum(a in "ZYX" for a in axes)
    steps = tuple(abs(float(step)) for step in spacing[-n:]) or (1.0,) * n
    about = (steps, full_name(unit), path, affine, coarser)
    return Image(pixels, axes, name, axes, *about, offset=offset)


def read_image(path: str | Path, axes: str | None = None) -> Image:
    """Read an image; a large one stays on disk and is read where it is looked at."""
    path = Path(path)
    return replace(_image(read_raw(path), axes, stem(path), str(path)), path=path)


def list_images(path: str | Path) -> list[Path]:
    """List the readable images of a folder by name, or the file itself; pass by what is none."""
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path} does not exist: check the name.")
    if path.is_file() or is_zarr(path):
        return [path]
    with reading(path):
        items = sorted(item for item in path.iterdir() if not item.name.startswith("."))
        slices = [item for item in items if is_dicom(item)]
        found = [item for item in items if item not in set(slices) and _looks_readable(item)]
    scans = images_in(path) if slices else []
    # What lies beside the slices of a series does not count; stray slices are images as well.
    found = scans if scans and len(slices) > len(found) else sorted([*found, *scans])
    if not found:
        raise BadInput(f"{path} holds no images: give a folder with {', '.join(SUFFIXES)}.")
    return found


def match_pairs(images: Iterable[Path], masks: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Each image with the mask of its name, which may end in _mask, _label or _seg."""
    images = list(images)
    by_stem = _by_stem(masks)
    pairs = [(image, by_stem[stem(image)]) for image in images if stem(image) in by_stem]
    lonely = [image.name for image in images if stem(image) not in by_stem]
    if lonely:
        more = f" and {len(lonely) - 3} more" if len(lonely) > 3 else ""
        raise BadInput(
            f"No mask is named like {', '.join(lonely[:3])}{more}: "
            "give each mask the name of its image, with or without _mask at its end."
        )
    return pairs


def stem(path: Path) -> str:
    """Cut the suffix off a file name, also a double one as in .ome.tif."""
    path = path if path.name not in ("", "..") else path.resolve()
    if path.is_dir() and path.suffix.lower() != ".zarr":  # a series, named by numbers and dots
        return path.name
    return _ENDING.sub("", path.name) or path.name


def refuse_twins(paths: Iterable[Path]) -> None:
    """Refuse images that only their suffix tells apart: mask and result could be of either."""
    seen: dict[str, Path] = {}
    for path in paths:
        twin = seen.setdefault(stem(path), path)
        if twin != path:
            raise BadInput(f"{twin} and {path} are images of the same name; rename one of them.")


def plain_name(name: str) -> str:
    """A name that a file may have on any system."""
    return re.sub(r"[^\w .()+-]", "_", name).strip(" .") or "image"


def file_names(names: Iterable[str]) -> list[str]:
    """What the files of images of these names are called: on no system two alike."""
    taken: set[str] = set()
    called = []
    for name in map(plain_name, names):
        free = numbered(name.casefold(), taken)  # some disks take Cell and cell for one
        taken.add(free)
        called.append(name + free[len(name.casefold()) :])
    return called


def _by_stem(masks: Iterable[Path]) -> dict[str, Path]:
    """Masks by the stems they answer to; a name as it stands goes before one shortened."""
    exact: dict[str, Path] = {}
    shortened: dict[str, Path] = {}
    for mask in masks:
        name = stem(mask)
        short = _MASK_ENDING.sub("", name)
        _add(exact, name, mask)
        if short != name:
            _add(shortened, short, mask)
    return shortened | exact


def _add(table: dict[str, Path], name: str, mask: Path) -> None:
    if name in table:
        raise BadInput(
            f"{table[name]} and {mask} are masks of the same name: keep one, move the other away."
        )
    table[name] = mask


def _looks_readable(path: Path) -> bool:
    if path.is_dir():
        return is_zarr(path) or is_series(path)
    return path.name.lower().endswith(SUFFIXES)


# ---- images


def _image(raw: Raw, axes: str | None, name: str, where: str) -> Image:
    data = raw.data
    shape = tuple(int(n) for n in data.shape)
    check_array(shape, data.dtype.kind, where)
    source = resolve_axes(shape, raw.axes, axes, where)
    note = f"{raw.note} {_unsaid(raw, dict(zip(source, shape, strict=True)))}".strip()
    guessed = axes is None and raw.axes is None and source.endswith("YXC")
    if guessed and shape[-1] == 4 and data.dtype == np.uint8:
        data = data[..., :3]
        note = f"{note} Its fourth channel is left out as transparency; else give its axes.".strip()
    kept = "C" + "".join(a for a in ORDER[1:] if a in source)
    spacing = tuple(raw.spacing.get(a, 1.0) for a in kept if a in "ZYX")
    offset = tuple(raw.offset.get(a, 0.0) for a in kept if a in "ZYX")
    return Image(
        plain(channels_first(data, source)),
        kept,
        name,
        source,
        spacing,
        raw.unit,
        affine=raw.affine,
        coarser=tuple(plain(channels_first(level, source)) for level in raw.coarser),
        note=note,
        offset=offset if any(offset) else (),
    )


def _unsaid(raw: Raw, sizes: dict[str, int]) -> str:
    """What to say where a file gives the size of pixels along some axes only."""
    unsaid = [a for a in "ZYX" if sizes.get(a, 1) > 1 and a not in raw.spacing]
    if not unsaid or raw.unit == PIXEL or not any(a in raw.spacing for a in sizes):
        return ""
    what = "distance of its slices" if unsaid == ["Z"] else f"pixel size along {', '.join(unsaid)}"
    return f"The {what} is not said: 1 {raw.unit} is taken."


def channels_first(data: Any, axes: str) -> Any:
    """Bring named axes into their order and add a channel axis where there is none."""
    data = in_order(data, axes)
    return data if "C" in axes else data[None]


def in_order(data: Any, axes: str) -> Any:
    """An array with these axes, each of them once, in the order of ours."""
    return data.transpose([axes.index(a) for a in ORDER if a in axes])


def plain(data: Any) -> Any:
    """Types that every library takes: native byte order, no booleans, no 128-bit floats."""
    dtype = data.dtype
    if dtype.kind == "b":
        return data.astype(np.uint8)
    if dtype.kind == "f" and dtype.itemsize > 8:
        return data.astype(np.float64)
    return data if dtype.isnative else data.astype(dtype.newbyteorder("="))


def _array(array: Any, name: str) -> Any:
    """NumPy and dask as they are, zarr as dask, lists and the like as NumPy."""
    if isinstance(array, np.ndarray) or hasattr(array, "dask"):
        return array
    if hasattr(array, "chunks"):
        return lazy_array(array, name)
    with reading(name):
        return np.asarray(array)
