"""Masks and probabilities leave here as files other programs open, whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.config import SegClass
from napari_unet.export.coco import write_coco
from napari_unet.export.content import Content, float_content, make_content, smallest, spatial_axes
from napari_unet.export.dicom import check_series, write_dicom_seg
from napari_unet.export.geojson import write_geojson
from napari_unet.export.nifti import check_nifti, write_nifti
from napari_unet.export.nnunet import export_nnunet
from napari_unet.export.nrrd import check_seg, write_nrrd, write_seg_nrrd
from napari_unet.export.ome_zarr import write_zarr
from napari_unet.export.pyramid import level_count
from napari_unet.export.raster import (
    check_png,
    ome_levels,
    tiff_levels,
    write_npy,
    write_ome_tiff,
    write_png,
    write_tiff,
)
from napari_unet.export.rois import check_rois, write_rois
from napari_unet.export.tables import write_csv
from napari_unet.io import Image, read_image
from napari_unet.optional import optional
from napari_unet.progress import count
from napari_unet.run import BadInput
from napari_unet.suffixes import MASKS

__all__ = ["FORMATS", "describe", "export_labels", "export_nnunet", "export_probabilities"]

Writer = Callable[[Path, Content, bool], None]
Check = Callable[[Path, Content], None]


Levels = Callable[[tuple[int, ...]], int]
PIXELS = "pixels"


def _one(_shape: tuple[int, ...]) -> int:
    return 1


def _takes_all(_path: Path, _content: Content) -> None:
    """Nothing is refused."""


@dataclass(frozen=True)
class Format:
    """A kind of file: how its name ends, who writes it, and what it refuses."""

    suffix: str
    write: Writer
    check: Check = _takes_all
    needs: str = ""  # a module that may be absent
    share: float | None = None  # of the bytes of the array, roughly; None if it holds no pixels
    floats: bool = False  # whether it takes probabilities
    levels: Levels = _one  # how many it has for a shape, smaller ones of large masks counted
    per_object: float = 0.0  # bytes of each, roughly
    holds: str = PIXELS

    @property
    def name(self) -> str:
        """How it is called in dialogs."""
        return MASKS[self.suffix]

    @property
    def keeps_numbers(self) -> bool:
        """Whether numbers are only that, and not each a segment, an outline or a line."""
        return self.holds == PIXELS


_OUTLINES, _SEGMENTS, _TABLE = "outlines", "segments", "measurements"
FORMATS = (
    Format(".tif", write_tiff, share=0.03, floats=True, levels=tiff_levels),
    Format(".ome.tif", write_ome_tiff, share=0.03, floats=True, levels=ome_levels),
    Format(".png", write_png, check_png, share=0.03),
    Format(".npy", write_npy, share=1.0, floats=True),
    Format(".ome.zarr", write_zarr, share=0.1, floats=True, levels=level_count),
    Format(".zarr", write_zarr, share=0.1, floats=True, levels=level_count),
    Format(".nii.gz", write_nifti, check_nifti, "nibabel", share=0.03),
    Format(".nii", write_nifti, check_nifti, "nibabel", share=1.0),
    Format(".seg.nrrd", write_seg_nrrd, check_seg, share=0.03, holds=_SEGMENTS),
    Format(".nrrd", write_nrrd, share=0.03),
    Format(".dcm", write_dicom_seg, check_series, "highdicom", share=0.13, holds=_SEGMENTS),
    Format(".geojson", write_geojson, per_object=2000, holds=_OUTLINES),
    Format(".coco.json", write_coco, per_object=1500, holds=_OUTLINES),
    Format(".roi.zip", write_rois, check_rois, "roifile", per_object=500, holds=_OUTLINES),
    Format(".csv", write_csv, per_object=150, holds=_TABLE),
)
_ALIASES = {".tiff": ".tif", ".ome.tiff": ".ome.tif", ".json": ".coco.json"}


def export_labels(
    path: str | Path,
    mask: Any,
    like: Any = None,
    classes: Sequence[str | SegClass] | None = None,
    overwrite: bool = False,
    objects: Any = None,
) -> Path:
    """Write a mask of classes, 0 for background, in the format its suffix names.

    `objects` numbers the objects in it: pixels then hold these numbers, and outlines and tables
    have an entry for each, of the class of most of its pixels. Without, they have one for each
    connected part of a class. The mask may be None where objects have no classes; one that
    holds more than 254 is taken for objects. Axes, pixel size, unit and place are those of the
    image `like`, itself or its path.
    """
    path = Path(path)
    file_format = format_of(path)
    like = read_image(like) if isinstance(like, str | Path) else like
    content = make_content(path, mask, like, classes, objects)
    _refuse(path, content)
    file_format.write(path, content, overwrite)
    return path


def export_probabilities(
    path: str | Path, probabilities: Any, like: Any = None, overwrite: bool = False
) -> Path:
    """Write class probabilities, classes first, as float32; few formats hold them."""
    path = Path(path)
    file_format = format_of(path, tuple(f for f in FORMATS if f.floats))
    file_format.write(path, float_content(path, probabilities, like), overwrite)
    return path


def _refuse(path: Path, content: Content) -> None:
    """Refuse what the format cannot hold, and a format whose library is absent."""
    file_format = format_of(path)
    if file_format.needs:
        optional(file_format.needs, str(path))
    file_format.check(path, content)


def format_of(path: str | Path, formats: tuple[Format, ...] = FORMATS) -> Format:
    """The format that the end of a name stands for, or a refusal that lists them all."""
    name, known = Path(path).name.lower(), {f.suffix: f for f in formats}
    known |= {alias: known[suffix] for alias, suffix in _ALIASES.items() if suffix in known}
    for suffix in sorted(known, key=len, reverse=True):
        if name.endswith(suffix):
            return known[suffix]
    listed = ", ".join(f.suffix for f in formats)
    raise BadInput(f"{path} is of no kind written here: end its name in {listed}.")


def is_known(path: str | Path) -> bool:
    """Whether the end of a name stands for a format."""
    try:
        format_of(path)
    except BadInput:
        return False
    return True


def describe(
    path: str | Path,
    shape: tuple[int, ...],
    like: Image | None = None,
    highest: int = 1,
    objects: int | None = None,
) -> str:
    """What would be written for an image of a shape, in one line, or a refusal as when writing.

    `highest` is the highest number in the mask, `objects` how many objects are numbered in it.
    """
    path, file_format = Path(path), format_of(path)
    axes = spatial_axes(shape, like, path)
    dtype = smallest(highest if objects is None else max(highest, objects))
    pixels = np.broadcast_to(dtype.type(0), shape)  # takes no memory
    _refuse(path, Content(pixels, dtype, axes, image=like))
    sizes = f"{axes} {' x '.join(str(n) for n in shape)}"
    kind = "one folder" if file_format.suffix.endswith(".zarr") else "one file"
    if file_format.share is None:
        number = "each connected part"
        if objects is not None:
            number = count(objects, "object")
        about = "" if objects is None else f"about {_size(objects * file_format.per_object)}, "
        return f"{file_format.holds} of {number}, {sizes}, {about}{kind}"
    levels = file_format.levels(shape)
    more = f", {levels} levels" if levels > 1 else ""
    size = _size(math.prod(shape) * dtype.itemsize * file_format.share)
    return f"{dtype}, {sizes}{more}, about {size}, {kind}"


def _size(n: float) -> str:
    """Bytes in words, with one digit."""
    for unit, power in (("GB", 1e9), ("MB", 1e6)):
        if n >= power / 10:
            return f"{n / power:.1f} {unit}"
    return f"{max(n / 1e3, 1):.0f} kB"
