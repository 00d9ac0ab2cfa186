"""NIfTI: volumes that lie in the patient exactly where their image does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.atomic import atomic_file
from napari_unet.export.content import Content
from napari_unet.export.labels import labels_of
from napari_unet.formats.medical import nifti_header
from napari_unet.optional import optional
from napari_unet.run import BadInput
from napari_unet.units import PIXEL, factor

LONGEST = 32767  # of an axis of a NIfTI
_COMMENT = 6  # the code of a text in a NIfTI's header
_SCANNER = 1  # the code of coordinates as the scanner had them


def write_nifti(path: Path, content: Content, overwrite: bool) -> None:
    """Write a NIfTI, whose axes are x, y, z to the right, the front and the head."""
    nibabel = optional("nibabel", str(path))
    image = _placed(nibabel, _volume(content), content)
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
    nibabel.save(_placed(nibabel, _with_z(plain, content.axes), content), path)


def lps_matrix(content: Content) -> np.ndarray:
    """From indices of x, y, z to millimetres to the left, the back and the head, 4 by 4.

    It is the image's own where it has one, else it is made of the pixel size.
    """
    affine = content.image.affine if content.image else None
    if affine is None:
        scale = 1.0 if content.unit == PIXEL else factor(content.unit, "millimeter")
        steps = (1.0,) * (3 - len(content.space)) + tuple(s * scale for s in content.steps)
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
    if max(content.shape) > LONGEST:
        raise BadInput(
            f"{path} cannot hold {max(content.shape)} pixels along an axis, NIfTI ends at "
            f"{LONGEST}: choose .zarr or .ome.tif."
        )


def _placed(nibabel: Any, volume: np.ndarray, content: Content) -> Any:
    """A NIfTI that lies as its image does; that of a NIfTI says so in the very same numbers."""
    affine = to_ras(lps_matrix(content))
    header = _source_header(nibabel, content)
    if header is not None and np.array_equal(header.get_best_affine(), affine):
        header.set_data_dtype(volume.dtype)
        return nibabel.Nifti1Image(volume.T, affine, header)
    image = nibabel.Nifti1Image(volume.T, affine)
    # Both are given: some programs look at the one, some at the other.
    image.set_qform(affine, _SCANNER)
    image.set_sform(affine, _SCANNER)
    known = content.unit != PIXEL or (content.image is not None and content.image.affine)
    image.header.set_xyzt_units("mm" if known else "unknown")
    return image


def _source_header(nibabel: Any, content: Content) -> Any:
    """The header of a NIfTI that the mask was made from, without what is said of its pixels."""
    path = content.image.path if content.image else None
    if path is None or not path.name.lower().endswith((".nii", ".nii.gz")):
        return None
    try:
        stored = nifti_header(nibabel, path)
    except (OSError, EOFError, ValueError):  # moved away since, or replaced
        return None
    header = nibabel.Nifti1Header.from_header(stored, check=False)
    header["cal_min"] = header["cal_max"] = 0
    return header
