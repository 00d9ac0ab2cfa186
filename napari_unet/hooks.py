"""What napari asks for by name in the manifest: samples, readers of files, written labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.records import PROJECT, is_project

if TYPE_CHECKING:
    from napari_unet.io import Image

LayerData = tuple[Any, dict[str, Any], str]

# Keys of the manifest's sample data, in the order in which an empty viewer offers them.
SAMPLES = {
    "cells": "Cells",
    "tissue": "Stained tissue",
    "volume": "Volume",
    "histology": "Histology",
    "retina": "Retina",
    "coins": "Coins",
}


def _layers(
    name: str, image_and_mask: tuple[np.ndarray, np.ndarray], **image: Any
) -> list[LayerData]:
    """An image, and its true mask, hidden so that it does not lie in the way of painting."""
    pixels, mask = image_and_mask
    return [
        (pixels, {"name": name, **image}, "image"),
        (
            mask,
            {
                "name": f"{name}: truth",
                "visible": False,
                "opacity": 0.5,
                "metadata": {"napari_unet": {"role": "truth", "image": name}},
            },
            "labels",
        ),
    ]


def read_project(path: str | list[str]) -> Callable[[Any], list[tuple[None]]] | None:
    """Open a project that is dropped onto napari, with its images and what is painted on them."""
    folder = Path(path if isinstance(path, str) else path[0])
    folder = folder.parent if folder.name == PROJECT else folder
    if not is_project(folder):
        return None

    def read(_path: Any) -> list[tuple[None]]:
        from napari_unet.gui.column import open_here

        open_here(folder)
        return [(None,)]  # it has put its layers there by itself

    return read


def read_images(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Open scans, whole slides and OME-Zarr as layers that lie where they should."""
    paths = [Path(p) for p in ([path] if isinstance(path, str) else path)]
    if not all(_is_read_here(p) for p in paths):
        return None

    def read(_path: Any) -> list[LayerData]:
        from napari_unet.formats.dicom import one_of_each

        return [_opened(p) for p in one_of_each(paths)]

    return read


def _is_read_here(path: Path) -> bool:
    from napari_unet.formats import SCANS, is_dicom, is_series, is_zarr

    if path.is_dir():
        named = path.name.lower().endswith(".ome.zarr") and is_zarr(path)
        return named or (is_series(path) and not is_project(path))
    return path.name.lower().endswith(SCANS) or is_dicom(path)


def _opened(path: Path) -> LayerData:
    from napari_unet.io import read_image
    from napari_unet.showing import layer_of

    image = read_image(path)
    if image.note:
        warnings.warn(image.note, stacklevel=2)  # napari shows it
    return (*layer_of(image), "image")


def sample_cells() -> list[LayerData]:
    """Generate cells in one grey plane."""
    from napari_unet.samples import cells

    return _layers("cells", cells(seed=0, size=512))


def sample_tissue() -> list[LayerData]:
    """Generate stained tissue in colour."""
    from napari_unet.samples import tissue

    return _layers("tissue", tissue(seed=0, size=512), rgb=True)


def sample_volume() -> list[LayerData]:
    """Generate a grey volume."""
    from napari_unet.samples import volume

    return _layers("volume", volume(seed=0, shape=(32, 128, 128)))


def sample_histology() -> list[LayerData]:
    """Open scikit-image's stained section of a colon."""
    from skimage.data import immunohistochemistry

    return [(immunohistochemistry(), {"name": "histology", "rgb": True}, "image")]


def sample_retina() -> list[LayerData]:
    """Open scikit-image's fundus photograph."""
    from skimage.data import retina

    return [(retina(), {"name": "retina", "rgb": True}, "image")]


def sample_coins() -> list[LayerData]:
    """Open scikit-image's photograph of coins."""
    from skimage.data import coins

    return [(coins(), {"name": "coins"}, "image")]


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer: ours by its classes, any other as objects that are numbered.

    napari has asked whether to replace what is there.
    """
    from napari_unet.config import BACKGROUND, SegClass
    from napari_unet.export import export_labels, format_of

    finest = data[0] if attributes.get("multiscale") else data
    ours = attributes.get("metadata", {}).get("napari_unet", {})
    like = _placed(finest, attributes, ours)
    if not ours.get("classes"):
        export_labels(path, None, like, objects=finest, overwrite=True)
        return [path]
    if ours["role"] == "annotation" and not format_of(path).keeps_numbers:
        finest = np.where(np.asarray(finest) == BACKGROUND, 0, finest)
    classes = tuple(SegClass(**item) for item in ours["classes"])
    export_labels(path, finest, like, classes, overwrite=True)
    return [path]


def _placed(data: Any, attributes: dict[str, Any], ours: dict[str, Any]) -> Image:
    """An image without pixels, of the pixel size of a layer; of ours we know where it lies too.

    The world of a viewer is not the patient's, so of any other layer only the size is taken.
    """
    from napari_unet.io import viewed_image

    shape = tuple(int(n) for n in data.shape)
    affine = np.asarray(attributes.get("affine", np.eye(len(shape) + 1)), float)[:-1, :-1]
    steps = np.linalg.norm(affine, axis=0) * attributes.get("scale", 1.0)
    known = ours if ours.get("shape") == shape else {}
    return viewed_image(
        np.empty((0, *shape)),
        attributes.get("name", "labels"),
        steps.tolist(),
        str((attributes.get("units") or ("pixel",))[-1]),
        known.get("path"),
        known.get("affine"),
        axes=known.get("axes", ""),
        offset=known.get("offset", ()),
    )
