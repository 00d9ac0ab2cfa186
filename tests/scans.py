"""Small DICOM files made on the spot, good and bad."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LEFT_AND_BACK = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TILTED = (0.8, 0.6, 0.0, -0.48, 0.64, -0.6)


def volume(*shape: int, dtype: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape or (5, 8, 6)).astype(dtype)


def write_series(
    folder: Path,
    pixels: np.ndarray,
    heights: Sequence[float] | None = None,
    along: Sequence[float] = LEFT_AND_BACK,
    series: str = "1.2.3",
    **tags: Any,
) -> list[Path]:
    """A file for each plane, at heights along the normal, named so that names give no order."""
    folder.mkdir(exist_ok=True, parents=True)
    heights = [2.5 * k for k in range(len(pixels))] if heights is None else heights
    normal = np.cross(along[:3], along[3:])
    files = []
    for k, (plane, height) in enumerate(zip(pixels, heights, strict=True)):
        file = folder / f"{(k * 7 + 3) % 11}_{series}.dcm"
        position = np.array([-10.0, 20.0, 5.0]) + height * normal
        placed = {"ImagePositionPatient": position.tolist(), "ImageOrientationPatient": [*along]}
        write_file(file, plane, series=series, number=k, **(placed | tags))
        files.append(file)
    return files


def write_file(
    file: Path, plane: np.ndarray, series: str = "1.2.3", number: int = 0, **tags: Any
) -> Path:
    """A file of one plane, (Y, X) or (Y, X, 3), or of frames if a tag says how many."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    colors = plane.ndim > 2 and plane.shape[-1] == 3
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = tags.pop("kind", MRImageStorage)
    header.SOPInstanceUID = f"{series}.{number + 1}"
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.SeriesInstanceUID, header.SeriesDescription = series, f"series {series}"
    header.InstanceNumber = number
    header.Rows, header.Columns = plane.shape[-3:-1] if colors else plane.shape[-2:]
    header.SamplesPerPixel = 3 if colors else 1
    header.PhotometricInterpretation = "RGB" if colors else "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = plane.dtype.itemsize * 8
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(plane.dtype.kind == "i")
    if colors:
        header.PlanarConfiguration = 0
    header.PixelSpacing = [0.5, 0.75]
    for name, value in tags.items():
        if value is None and name in header:
            delattr(header, name)
        elif value is not None:
            setattr(header, name, value)
    header.PixelData = plane.tobytes()
    header["PixelData"].VR = "OB" if plane.dtype.itemsize == 1 else "OW"
    header.save_as(file, enforce_file_format=True)
    return file


def in_itk_order(affine: Any) -> np.ndarray:
    """Our matrix between z, y, x as one between x, y, z."""
    order = [2, 1, 0, 3]
    return np.array(affine)[order][:, order]


def of_itk(image: Any) -> np.ndarray:
    """The matrix of an image of SimpleITK."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix
