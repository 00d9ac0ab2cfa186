"""NIfTI and NRRD: volumes that lie in the patient exactly where their image does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.atomic import atomic_file
from napari_unet.export.content import Content, rgb
from napari_unet.export.labels import Label, labels_of
from napari_unet.optional import optional
from napari_unet.run import BadInput

_MILLIMETERS = {
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "meter": 1e3,
}
_LONGEST = 32767  # of an axis of a NIfTI
_COMMENT = 6  # the code of a text in a NIfTI's header
_SCANNER = 1  # the code of coordinates as the scanner had them


def write_nifti(path: Path, content: Content, overwrite: bool) -> None:
    """Write a NIfTI, whose axes are x, y, z to the right, the front and the head."""
    nibabel = optional("nibabel", str(path))
    image = nibabel.Nifti1Image(_volume(content).T, to_ras(lps_matrix(content)))
    _place(image)
    names = {label.name: label.number for label in labels_of(content)}
    if names:
        image.header.set_intent("label", (), "")
        text = json.dumps({"labels": names}).encode()
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(_COMMENT, text))
    with atomic_file(path, overwrite) as temporary:
        nibabel.save(image, temporary)


def write_nifti_image(path: Path, channel: np.ndarray, content: Content) -> None:
    """Write the intensities of one channel where its mask lies."""
    nibabel = optional("nibabel", str(path))
    plain = channel.astype(np.float32) if channel.dtype.itemsize > 4 else channel
    plain = plain.astype(np.float32) if plain.dtype == np.float16 else plain
    image = nibabel.Nifti1Image(_with_z(plain, content.axes).T, to_ras(lps_matrix(content)))
    _place(image)
    nibabel.save(image, path)


def write_nrrd(path: Path, content: Content, overwrite: bool) -> None:
    """Write a NRRD that gives the names of its labels."""
    header = _nrrd_header(content)
    names = {str(label.number): label.name for label in labels_of(content)}
    if names:
        header["labels"] = json.dumps(names)
    _save_nrrd(path, content, header, overwrite)


def check_seg(path: Path, content: Content) -> None:
    """Refuse time points, which Slicer keeps in sequences of files."""
    if "T" in content.axes:
        raise BadInput(f"{path} cannot hold time points: choose .nrrd, .nii.gz or .zarr.")


def write_seg_nrrd(path: Path, content: Content, overwrite: bool) -> None:
    """Write a segmentation of 3D Slicer, a segment with name and colour for each label."""
    header = _nrrd_header(content)
    header["Segmentation_MasterRepresentation"] = "Binary labelmap"
    header["Segmentation_ContainedRepresentationNames"] = "Binary labelmap|"
    header["Segmentation_ReferenceImageExtentOffset"] = "0 0 0"
    for i, label in enumerate(labels_of(content)):
        header |= _segment(i, label, _volume(content).shape)
    _save_nrrd(path, content, header, overwrite)


def lps_matrix(content: Content) -> np.ndarray:
    """From indices of x, y, z to millimetres to the left, the back and the head, 4 by 4.

    It is the image's own where it has one, else it is made of the pixel size.
    """
    affine = content.image.affine if content.image else None
    if affine is None:
        factor = _MILLIMETERS.get(content.unit, 1.0)
        steps = (1.0,) * (3 - len(content.space)) + tuple(s * factor for s in content.steps)
        return np.diag([*steps[::-1], 1.0])
    known = np.asarray(affine, np.float64)
    full = np.eye(4)
    n = len(known) - 1
    full[3 - n : 3, 3 - n : 3], full[3 - n : 3, 3] = known[:n, :n], known[:n, n]
    turned = [2, 1, 0, 3]
    return full[np.ix_(turned, turned)]


def to_ras(lps: np.ndarray) -> np.ndarray:
    """The same place with x to the right and y to the front; only signs change."""
    ras = lps.copy()
    ras[:2] = -ras[:2]
    return ras


def _volume(content: Content) -> np.ndarray:
    return _with_z(np.asarray(content.data).astype(content.dtype), content.axes)


def _with_z(data: np.ndarray, axes: str) -> np.ndarray:
    """With an axis Z, one long where the image has none."""
    return data if "Z" in axes else np.expand_dims(data, -3)


def check_nifti(path: Path, content: Content) -> None:
    """Refuse what is too long."""
    if max(content.shape) > _LONGEST:
        raise BadInput(
            f"{path} cannot hold {max(content.shape)} pixels along an axis, NIfTI ends at "
            f"{_LONGEST}: choose .zarr or .ome.tif."
        )


def _place(image: Any) -> None:
    # Both are given: some programs look at the one, some at the other.
    affine = image.affine
    image.set_qform(affine, _SCANNER)
    image.set_sform(affine, _SCANNER)
    image.header.set_xyzt_units("mm")


def _nrrd_header(content: Content) -> dict[str, Any]:
    lps = lps_matrix(content)
    directions = list(lps[:3, :3].T)
    kinds = ["domain"] * 3
    if "T" in content.axes:
        directions.append(np.full(3, math.nan))
        kinds.append("list")
    return {
        "space": "left-posterior-superior",
        "space directions": np.array(directions),
        "space origin": lps[:3, 3],
        "kinds": kinds,
        "encoding": "gzip",
    }


def _segment(index: int, label: Label, shape: tuple[int, ...]) -> dict[str, str]:
    depth, height, width = shape
    fields = {
        "ID": f"Segment_{label.number}",
        "Name": " ".join(label.name.split()),  # a line break would end the field
        "NameAutoGenerated": "0",
        "Color": " ".join(f"{value / 255:.6g}" for value in rgb(label.color)),
        "ColorAutoGenerated": "0",
        "Extent": f"0 {width - 1} 0 {height - 1} 0 {depth - 1}",
        "LabelValue": str(label.number),
        "Layer": "0",
        "Tags": "|",
    }
    return {f"Segment{index}_{name}": value for name, value in fields.items()}


def _save_nrrd(path: Path, content: Content, header: dict[str, Any], overwrite: bool) -> None:
    nrrd = optional("nrrd", str(path))
    with atomic_file(path, overwrite) as temporary:
        nrrd.write(str(temporary), _volume(content).T, header, compression_level=6)
