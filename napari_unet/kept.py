"""The mask of an image in a project's folder: what a model made of it, and the rims it saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_unet.export import export_labels
from napari_unet.tiling import zeros

MASK, RIMS = "mask.tif", "rims.tif"


def write_mask(folder: Path, labels: np.ndarray, rims: np.ndarray | None) -> None:
    """Write a mask, and the rims in it if the net saw some, in place of those before."""
    if rims is None:
        (folder / RIMS).unlink(missing_ok=True)
    else:
        export_labels(folder / RIMS, rims.view(np.uint8), overwrite=True)
    export_labels(folder / MASK, labels, overwrite=True)


def read_mask(folder: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray | None] | None:
    """A mask of this shape, and its rims if it has some; None if there is none, sound."""
    labels = _read(folder / MASK, shape)
    rims = _read(folder / RIMS, shape)
    return None if labels is None else (labels, None if rims is None else rims.view(np.bool_))


def _read(file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    import tifffile

    labels = zeros(shape, np.uint8)
    try:
        if file.is_symlink():
            return None
        with tifffile.TiffFile(file) as tiff:
            series = tiff.series[0]
            if tuple(series.shape) != labels.shape or series.dtype != labels.dtype:
                return None
            series.asarray(out=labels)
    except Exception:  # noqa: BLE001 -- a damaged file can fail in any way inside the reader
        return None
    return labels
