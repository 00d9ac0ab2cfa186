"""How images lie in a viewer: levels, colours, scale, place and units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dask import array as da

from napari_unet.io import Image
from napari_unet.showing import is_color, layer_of, upright, world_of

SHAPE = (5, 8, 6)


def image(*shape: int, axes: str = "CZYX", **values) -> Image:
    data = np.zeros(shape or (1, *SHAPE), values.pop("dtype", np.uint8))
    spacing = values.pop("spacing", (1.0,) * sum(a in "ZYX" for a in axes))
    source = values.pop("source_axes", axes)
    return Image(data, axes, "im", source, spacing, **values)


def as_affine(matrix) -> tuple:
    return tuple(map(tuple, np.array(matrix, float).tolist()))


def tilted(degrees: float, scale=(6.5, 0.7, 0.7)) -> np.ndarray:
    a = np.deg2rad(degrees)
    matrix = np.eye(4)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    matrix[:3, :3] = turn * scale
    matrix[:3, 3] = 10, -80, -97
    return matrix


@pytest.mark.parametrize(
    ("source", "dtype", "shape", "color"),
    [
        ("YXC", "uint8", (3, 8, 6), True),
        ("CYX", "uint8", (3, 8, 6), False),  # stains
        ("YXC", "uint16", (3, 8, 6), False),
        ("YXC", "uint8", (2, 8, 6), False),
    ],
)
def test_colours_are_told_from_stains(source, dtype, shape, color):
    assert is_color(image(*shape, axes="CYX", dtype=dtype, source_axes=source)) == color


def test_a_pyramid_in_colour_has_its_colours_last_on_every_level():
    slide = image(3, 64, 48, axes="CYX", source_axes="YXC", spacing=(0.5, 0.5), unit="micrometer")
    slide = replace(
        slide, data=da.zeros((3, 64, 48), dtype=np.uint8), coarser=(slide.data[:, ::2, ::2],)
    )

    levels, about = layer_of(slide)

    assert [level.shape for level in levels] == [(64, 48, 3), (32, 24, 3)]
    assert (about["rgb"], about["multiscale"]) == (True, True)
    assert about["scale"] == (0.5, 0.5)
    assert about["units"] == ("micrometer", "micrometer")


def test_stains_are_channels_and_time_has_no_unit():
    film = image(2, 4, 5, 8, 6, axes="CTZYX", spacing=(2, 0.5, 0.5), unit="micrometer")

    _, about = layer_of(film)

    assert about["channel_axis"] == 0
    assert about["name"] == ["im: channel 1", "im: channel 2"]
    assert about["scale"] == (1, 2, 0.5, 0.5)
    assert about["units"] == ("pixel", *("micrometer",) * 3)


def test_a_unit_that_nobody_knows_is_a_pixel():
    assert layer_of(image(unit="cubit"))[1]["units"] == ("pixel",) * 3


@pytest.mark.parametrize("signs", [(1, 1, 1), (1, -1, -1), (-1, 1, -1)])
def test_a_volume_that_lies_straight_lies_where_it_does(signs):
    matrix = np.diag((*np.array(signs) * (6.5, 0.7, 0.5), 1.0))
    matrix[:3, 3] = 10, -80, -97

    np.testing.assert_array_equal(upright(as_affine(matrix), SHAPE), matrix)


@pytest.mark.parametrize("degrees", [0.001, 5, 10.8, 44])
def test_a_tilted_volume_is_straight_with_its_middle_in_place(degrees):
    matrix = tilted(degrees)
    middle = np.array([*((n - 1) / 2 for n in SHAPE), 1])

    shown = upright(as_affine(matrix), SHAPE)

    np.testing.assert_allclose(shown @ middle, matrix @ middle)
    np.testing.assert_allclose(np.diag(shown), (6.5, 0.7, 0.7, 1))
    assert np.count_nonzero(shown[:3, :3]) == 3


def test_a_sagittal_volume_is_shown_in_its_planes_with_the_head_above():
    matrix = np.zeros((4, 4))
    matrix[2, 0], matrix[0, 1], matrix[1, 2], matrix[3, 3] = 3, -0.7, 0.5, 1  # x, -z, y

    shown = upright(as_affine(matrix), SHAPE)

    np.testing.assert_allclose(np.diag(shown), (3, 0.7, 0.5, 1))


def test_the_layer_remembers_the_true_place():
    scan = image(spacing=(6.5, 0.7, 0.7), unit="millimeter", affine=as_affine(tilted(10.8)))

    _, about = layer_of(scan)

    assert about["metadata"]["napari_unet"]["affine"] == scan.affine
    np.testing.assert_allclose(about["affine"] * (*about["scale"], 1), world_of(scan))
    np.testing.assert_allclose(np.diag(about["affine"])[:3], 1)
    assert about["units"] == ("millimeter",) * 3
