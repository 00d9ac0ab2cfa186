"""What lies in an image file of any kind read here, told apart by what it holds."""

from __future__ import annotations

from pathlib import Path

from napari_unet.formats.arrays import is_zarr, read_npy, read_zarr
from napari_unet.formats.dicom import is_dicom, is_series, read_dicom
from napari_unet.formats.medical import NIFTI, NRRD, NRRD_MAGIC, read_nifti, read_nrrd
from napari_unet.formats.pictures import read_picture
from napari_unet.formats.raw import LAZY_BYTES, Raw, head, lazy_array, quiet, reading
from napari_unet.formats.slides import SLIDES, is_slide, read_slide
from napari_unet.formats.tiff import TIFF_MAGIC, read_tiff
from napari_unet.run import BadInput

__all__ = [
    "LAZY_BYTES",
    "SCANS",
    "SUFFIXES",
    "Raw",
    "is_dicom",
    "is_series",
    "is_zarr",
    "lazy_array",
    "read_raw",
    "reading",
]

SCANS = (*NIFTI, *NRRD, ".dcm", ".ima", ".qptiff", *SLIDES)
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".npy", ".zarr", *SCANS)


def read_raw(path: Path, as_mask: bool = False) -> Raw:
    """Open a file by what it holds, not by its suffix; as a mask, palette images give indices."""
    if not path.exists():
        raise BadInput(f"{path} does not exist: check the name.")
    with quiet, reading(path):  # what matters is raised or checked here
        if path.is_dir():
            return _read_folder(path, as_mask)
        magic = head(path, 8)
        if path.name.lower().endswith(NIFTI):
            return read_nifti(path)
        if magic.startswith(NRRD_MAGIC):
            return read_nrrd(path)
        if is_slide(path):
            return read_slide(path)
        if is_dicom(path):
            return read_dicom(path, as_mask)
        if magic.startswith(TIFF_MAGIC):
            return read_tiff(path, as_mask)
        if magic.startswith(b"\x93NUMPY"):
            return read_npy(path)
        return read_picture(path, as_mask)


def _read_folder(path: Path, as_mask: bool) -> Raw:
    if is_zarr(path):
        return read_zarr(path, as_mask)
    if is_series(path):
        return read_dicom(path, as_mask)
    raise BadInput(f"{path} is a folder, not an image: give a file, a zarr or a DICOM series.")
