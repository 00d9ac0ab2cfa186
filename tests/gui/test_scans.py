"""Scans and slides as napari opens them: painted on, learned and segmented where they lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import Window, halves
from scans import TILTED, write_series
from test_slides import write_slide

from napari_unet.config import BACKGROUND
from napari_unet.export import export_labels
from napari_unet.io import as_image, read_image

pytestmark = pytest.mark.gui

SHAPE = (4, 64, 96)


def series(folder: Any) -> Any:
    write_series(folder / "scan", halves(*SHAPE, dtype=np.int16), along=TILTED)
    return folder / "scan"


def sagittal(folder: Any) -> Any:
    pixels = halves(*SHAPE, dtype=np.int16)
    write_series(folder / "scan", pixels, along=(0, 1, 0, 0, 0, -1))
    return folder / "scan"


def nifti(folder: Any) -> Any:
    nibabel = pytest.importorskip("nibabel")
    pixels = halves(*SHAPE, dtype=np.int16).T
    nibabel.save(nibabel.Nifti1Image(pixels, np.diag([0.5, 0.5, 3, 1])), folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


def slide(folder: Any) -> Any:
    pytest.importorskip("openslide")
    return write_slide(folder / "scan.svs")


def corners(layer: Any, shape: tuple[int, ...]) -> np.ndarray:
    marks = np.array(list(np.ndindex(*(2,) * len(shape)))) * shape - 0.5
    return np.array([layer.data_to_world(tuple(mark)) for mark in marks])


def opened(open_window: Any, path: Any) -> Window:
    """A window into which the path was dropped."""
    window = open_window()
    window.viewer.open(path, plugin="napari-unet")
    window.viewer.reset_view()
    window.wait(0.05)
    return window


@pytest.mark.parametrize("make", [series, sagittal, nifti, slide])
def test_what_napari_opens_is_painted_learned_and_segmented(open_window, tmp_path, make):
    pytest.importorskip("pydicom")
    path = make(tmp_path)
    pixels = read_image(path)
    shape = pixels.spatial_shape
    window = opened(open_window, path)
    image = window.viewer.layers["scan"]
    unit = pixels.unit
    if len(shape) == 3:
        window.viewer.dims.set_current_step(0, 2)

    window.click("annotate.new")
    window.annotation.brush_size = 8
    window.draw((10, 10), (10, 30))
    window.press("B")
    window.draw((50, 60), (50, 80))

    here = image.world_to_data(window.viewer.dims.point)[:-2]
    shown = tuple(np.round(here).astype(int))
    painted = np.unique(np.argwhere(window.annotation.data)[:, : len(shown)])
    assert tuple(painted) == shown  # on the slice that is seen, and on no other
    assert window.annotation.data[(*shown, 10, 20)] == 1
    assert window.annotation.data[(*shown, 50, 70)] == BACKGROUND
    window.train()
    window.until(lambda: window.work.layers.live() is not None)
    window.stop()
    window.choose("segment.scope", "This image")
    window.click("segment.run")
    window.until(lambda: "scan: mask" in window.names())

    mask = window.viewer.layers["scan: mask"]
    for layer in (window.annotation, mask):
        np.testing.assert_allclose(corners(layer, shape), corners(image, shape))
        assert [str(u) for u in layer.units] == [unit] * len(shape)
    np.testing.assert_allclose(window.work.picture.spacing, pixels.spacing)
    assert window.work.picture.unit == unit


def test_a_slide_is_drawn_from_its_levels(open_window, tmp_path):
    window = opened(open_window, slide(tmp_path))
    image = window.viewer.layers["scan"]

    assert image.multiscale
    assert [level.shape for level in image.data] == [(700, 1000, 3), (175, 250, 3)]
    assert [level.shape for level in window.work.picture.coarser] == [(3, 175, 250)]


@pytest.mark.parametrize("make", [series, slide])
def test_an_image_of_a_project_opens_as_it_does_alone(open_window, tmp_path, make):
    pytest.importorskip("pydicom")
    path = make(tmp_path)
    window = opened(open_window, path)
    alone = window.viewer.layers["scan"]
    shape = read_image(path).spatial_shape
    expected, levels = corners(alone, shape), alone.multiscale
    window.viewer.layers.clear()

    window.work.keeping.create(tmp_path / "mine.unet")
    window.work.keeping.add([path])
    window.until(lambda: window.work.keeping.project.images)
    window.work.keeping.step(1)

    image = window.work.image
    np.testing.assert_allclose(corners(image, shape), expected)
    assert image.multiscale == levels
    assert image.metadata["napari_unet"]["path"] == path


def test_the_true_place_of_a_scan_is_known_where_its_mask_leaves(open_window, tmp_path):
    from napari_unet.gui.placing import origin

    pytest.importorskip("pydicom")
    path = series(tmp_path)
    window = opened(open_window, path)
    image = window.viewer.layers["scan"]

    known = {"path": path, "affine": read_image(path).affine, "offset": (), "axes": "CZYX"}
    assert origin(image) == known
    image.data = image.data[1:]
    assert origin(image) == {}


def test_a_mask_lies_where_the_zarr_of_its_image_says(open_window, tmp_path):
    from napari_unet.gui.placing import origin

    shape, offset = (64, 96), (10.5, -3.25)
    like = replace(as_image(np.zeros(shape, np.uint8)), offset=offset)
    path = export_labels(tmp_path / "scan.ome.zarr", np.eye(*shape, dtype=np.uint8), like)
    window = opened(open_window, path)
    assert origin(window.viewer.layers["scan"])["offset"] == offset

    window.click("annotate.new")
    window.draw((10, 10), (10, 30))
    window.annotation.save(str(tmp_path / "mask.ome.zarr"), plugin="napari-unet")

    assert read_image(tmp_path / "mask.ome.zarr").offset == offset
