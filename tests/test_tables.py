"""Measurements: perimeter and surface by lines in all directions, brightness, and the columns."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from skimage.measure import perimeter_crofton

from napari_unet.export import export_labels
from napari_unet.export.content import make_content
from napari_unet.export.tables import Columns, measure
from napari_unet.io import as_image, viewed_image
from napari_unet.pictures import channels_first


def measured(mask: np.ndarray, spacing: tuple[float, ...]) -> Columns:
    image = as_image(np.zeros(mask.shape, np.uint8), "ZYX"[-mask.ndim :], spacing=spacing)
    return measure(make_content(Path("a"), None, image, None, mask))


def ball(radius: float, spacing: tuple[float, ...]) -> np.ndarray:
    """A disc or a ball of a radius in units, wherever the pixels fall."""
    sizes = [int(2 * radius / step) + 6 for step in spacing]
    middles = [(n - 1) / 2 + 0.3 for n in sizes]
    places = np.indices(sizes).reshape(len(sizes), -1).T
    inside = np.linalg.norm((places - middles) * spacing, axis=1) < radius
    return inside.reshape(sizes).astype(np.uint8)


@pytest.mark.parametrize("seed", range(8))
def test_the_perimeter_is_that_of_scikit_image(seed):
    random = np.random.default_rng(seed)
    numbers = random.integers(0, 4, (30, 40)) * (random.random((30, 40)) < 0.8)

    columns = measured(numbers, (1.0, 1.0))

    expected = [perimeter_crofton(numbers == n, directions=4) for n in columns["label"]]
    np.testing.assert_allclose(columns["perimeter"], expected)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.4)])
def test_area_and_perimeter_of_a_disc(spacing):
    columns = measured(ball(30.0, spacing), spacing)

    assert columns["area"] == pytest.approx(np.pi * 30**2, rel=0.01)
    assert columns["perimeter"] == pytest.approx(2 * np.pi * 30, rel=0.03)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_volume_and_surface_of_a_ball(spacing):
    columns = measured(ball(20.0, spacing), spacing)

    assert columns["volume"] == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.01)
    assert columns["surface"] == pytest.approx(4 * np.pi * 20**2, rel=0.04)


def tilted(spacing: tuple[float, float, float], degrees: float) -> np.ndarray:
    """The edges of a voxel, in columns, of a scanner whose gantry was tilted: slices slide in y."""
    edges, tilt = np.diag(spacing), np.radians(degrees)
    edges[:2, 0] = spacing[0] * np.array([np.cos(tilt), np.sin(tilt)])
    return edges


@pytest.mark.parametrize("degrees", [-30, 0, 20])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_volume_and_surface_of_a_ball_in_a_tilted_scan(spacing, degrees):
    edges, radius = tilted(spacing, degrees), 20.0
    sizes = np.array([50, 80, 50])
    places = np.indices(sizes).reshape(3, -1).T - (sizes - 1) / 2 + 0.3
    inside = np.linalg.norm(places @ edges.T, axis=1) < radius
    affine = np.eye(4)
    affine[:3, :3] = edges[[1, 2, 0]]  # wherever the patient lies
    image = as_image(np.zeros(sizes, np.uint8), "ZYX", spacing=spacing)
    image = replace(image, affine=tuple(map(tuple, affine.tolist())), unit="millimeter")

    columns = measure(make_content(Path("a"), inside.reshape(sizes), image, None, None))

    assert columns["volume"] == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)
    assert columns["surface"] == pytest.approx(4 * np.pi * radius**2, rel=0.04)


def test_the_volume_of_a_voxel_is_in_the_unit_of_the_table():
    affine = np.eye(4)
    affine[:3, :3] = tilted((0.003, 0.0005, 0.0005), 20)  # an affine is in millimetres
    image = as_image(np.zeros((2, 3, 4), np.uint8), "ZYX", spacing=(3.0, 0.5, 0.5))
    image = replace(image, affine=tuple(map(tuple, affine.tolist())), unit="micrometer")

    columns = measure(make_content(Path("a"), np.ones((2, 3, 4), int), image, None, None))

    assert columns["volume"] == pytest.approx(24 * 3 * 0.25 * np.cos(np.radians(20)))


@pytest.mark.parametrize("wrap", [np.asarray, lambda a: da.from_array(a, chunks=(1, 7, 9, 11))])
def test_brightness_is_that_of_the_pixels_of_each_channel(wrap):
    random = np.random.default_rng(0)
    pixels = random.integers(-500, 60000, (2, 3, 150, 20)).astype(np.int32)
    numbers = random.integers(0, 3, (3, 150, 20))
    image = as_image(wrap(pixels), "CZYX")

    columns = measure(make_content(Path("a"), None, image, None, numbers))

    for i, number in enumerate((1, 2)):
        for channel in range(2):
            inside = pixels[channel][numbers == number]
            assert columns[f"mean_{channel}"][i] == pytest.approx(inside.mean())
            assert columns[f"min_{channel}"][i] == inside.min()
            assert columns[f"max_{channel}"][i] == inside.max()


class Slide:
    """A plane in colour, on disk, of which it is noted how many pixels are read at a time."""

    shape, dtype, most = (1000, 50, 3), np.dtype(np.uint8), 0

    def __getitem__(self, key):
        part = np.full(self.shape, 7, self.dtype)[key]
        self.most = max(self.most, part.size)
        return part


def test_a_slide_is_read_a_band_at_a_time():
    slide = Slide()
    numbers = np.zeros((1000, 50), int)
    numbers[100:900, 10:20] = 1
    image = viewed_image(channels_first([slide], rgb=True), "slide")

    columns = measure(make_content(Path("a"), None, image, None, numbers))

    assert [columns[f"mean_{channel}"].tolist() for channel in range(3)] == [[7], [7], [7]]
    assert 0 < slide.most <= 128 * 50 * 3


@pytest.mark.parametrize(
    ("axes", "own"),
    [
        ("YX", "bbox_y0 bbox_y1 bbox_x0 bbox_x1 pixels area perimeter centroid_y centroid_x"),
        ("TYX", "time bbox_y0 bbox_y1 bbox_x0 bbox_x1 pixels area perimeter centroid_y centroid_x"),
        (
            "ZYX",
            "bbox_z0 bbox_z1 bbox_y0 bbox_y1 bbox_x0 bbox_x1 pixels volume surface "
            "centroid_z centroid_y centroid_x",
        ),
    ],
)
@pytest.mark.parametrize("value", [0, 1])
def test_the_columns_are_the_same_whether_there_are_objects_or_not(tmp_path, axes, own, value):
    shape = (2, 5, 6)[-len(axes) :]
    image = replace(as_image(np.ones(shape), axes), unit="micrometer")

    path = export_labels(tmp_path / "a.csv", np.full(shape, value), image)

    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["label", "class", "unit", *own.split(), "mean_0", "min_0", "max_0"]
    assert len(rows) == (0 if not value else 2 if "T" in axes else 1)
