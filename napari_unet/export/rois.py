"""ImageJ's regions of interest in a zip: polygons, and composites where there are holes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.atomic import atomic_file
from napari_unet.config import SegClass
from napari_unet.export.content import Content, rgb
from napari_unet.export.labels import OBJECT, item_class
from napari_unet.export.runs import Objects, find_objects
from napari_unet.export.shapes import Outline, outlines
from napari_unet.optional import optional
from napari_unet.run import BadInput

_LONGEST = 32767  # pixels; ImageJ keeps the corners of a region in 16 bits
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0  # what a number of a composite's path does


def check_rois(path: Path, content: Content) -> None:
    """Refuse what is too large."""
    if max(content.shape[-2:]) > _LONGEST:
        raise BadInput(
            f"{path} cannot hold regions beyond pixel {_LONGEST}, as ImageJ has it: "
            "choose .geojson or .json."
        )


def write_rois(path: Path, content: Content, overwrite: bool) -> None:
    """Write a region for each object and plane, named by number and class, in the class colour."""
    roifile = optional("roifile", str(path))
    with atomic_file(path, overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        objects = find_objects(content)
        for outline in outlines(objects):
            roi = _region(roifile, outline)
            of = item_class(content, objects, outline.item)
            _describe(roi, outline, objects, of, content)
            archive.writestr(f"{roi.name}.roi", roi.tobytes(), zipfile.ZIP_DEFLATED)


def _region(roifile: Any, outline: Outline) -> Any:
    simple = len(outline.rings) == 1
    left, top, right, bottom = outline.box
    roi = roifile.ImagejRoi() if not simple else roifile.ImagejRoi.frompoints(outline.rings[0])
    roi.roitype = roifile.ROI_TYPE.TRACED if simple else roifile.ROI_TYPE.RECT
    roi.left, roi.top, roi.right, roi.bottom = left, top, right, bottom
    if not simple:
        roi.multi_coordinates = np.concatenate([_path(ring) for ring in outline.rings])
        roi.shape_roi_size = len(roi.multi_coordinates)
    return roi


def _path(ring: np.ndarray) -> np.ndarray:
    steps = np.empty((len(ring), 3), np.float32)
    steps[:, 0], steps[:, 1:] = _LINE, ring
    steps[0, 0] = _MOVE
    return np.append(steps.ravel(), np.float32(_CLOSE))


def _describe(
    roi: Any, outline: Outline, objects: Objects, of: SegClass | None, content: Content
) -> None:
    place = content.plane(outline.plane)
    number = int(objects.numbers[outline.item])
    planes = "".join(f"-{axis.lower()}{at + 1:04d}" for axis, at in place.items())
    name = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in _name(of))
    roi.name = f"{number:06d}{planes}-{name}"
    if of is not None:
        roi.stroke_color = bytes([255, *rgb(of.color)])
    if len(place) == 1:  # a plain stack, whatever its axis
        roi.position = outline.plane + 1
    elif place:
        roi.position = 0
        roi.c_position, roi.z_position, roi.t_position = 1, place["Z"] + 1, place["T"] + 1


def _name(of: SegClass | None) -> str:
    return of.name if of else OBJECT
