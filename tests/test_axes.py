"""Which axis of an array is which."""

import pytest

from napari_unet.axes import check_array, resolve_axes
from napari_unet.run import BadInput


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 48), "YX"),
        ((1, 1), "YX"),
        ((64, 48, 3), "YXC"),
        ((64, 48, 4), "YXC"),
        ((1, 64, 48), "CYX"),
        ((64, 48, 1), "YXC"),
        ((1, 1, 3), "YXC"),
        ((2, 64, 48), "CYX"),
        ((4, 64, 48), "CYX"),
        ((20, 64, 48, 3), "ZYXC"),
    ],
)
def test_clear_shapes_are_guessed(shape, axes):
    assert resolve_axes(shape, None, None, "x.npy") == axes


@pytest.mark.parametrize(
    "shape",
    [
        (3, 512, 3),
        (20, 512, 512),
        (5, 64, 48),
        (64, 48, 2),
        (3, 8, 8),
        (3, 64, 48, 3),
        (20, 3, 64, 48),
        (2, 3, 20, 64, 48),
    ],
)
def test_shapes_with_two_readings_are_refused(shape):
    with pytest.raises(BadInput) as refusal:
        resolve_axes(shape, None, None, "x.npy")

    assert str(refusal.value) == (
        f"x.npy has the shape {shape}, which can be read in more than one way: "
        'give its axes, e.g. `--axes ZYX`, in Python `axes="ZYX"`; '
        "in napari, drop it onto the canvas."
    )


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 48), "YX"),
        ((20, 64, 48), "ZYX"),
        ((3, 64, 48), "ZYX"),
        ((5, 20, 64, 48), "TZYX"),
        ((64, 48, 3), "YXC"),
    ],
)
def test_a_mask_has_no_channels_but_colours(shape, axes):
    assert resolve_axes(shape, None, None, "x.npy", mask=True) == axes


@pytest.mark.parametrize(
    ("said", "given", "axes"),
    [
        ("ZYX", None, "ZYX"),
        ("ZYX", "tyx", "TYX"),
        (None, "yxz", "YXZ"),
        ("SYX", None, "CYX"),
        ("?YX", "ZYX", "ZYX"),
    ],
)
def test_the_user_goes_before_the_file_and_the_file_before_a_guess(said, given, axes):
    assert resolve_axes((20, 64, 48), said, given, "x") == axes


def test_a_stack_of_colour_pictures_is_a_volume():
    assert resolve_axes((20, 64, 48, 3), "?YXS", None, "x") == "ZYXC"


@pytest.mark.parametrize("said", ["?ZYX", "?CYX", "??YX"])
def test_an_unnamed_axis_among_others_is_refused(said):
    with pytest.raises(BadInput, match="more than one way"):
        resolve_axes((5, 20, 64, 48), said, None, "x")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("YX", r"shape \(20, 64, 48\), but the axes YX are 2: give 3 letters"),
        ("ZYXC", "the axes ZYXC are 4: give 3 letters"),
        ("QYX", "cannot have the axes QYX: use each of the letters T, C, Z, Y, X"),
        ("YYX", "cannot have the axes YYX"),
        ("CZY", "cannot have the axes CZY.*Y and X always"),
        ("", "the axes  are 0: give 3 letters"),
    ],
)
def test_wrong_axes_are_refused(given, sentence):
    with pytest.raises(BadInput, match=sentence):
        resolve_axes((20, 64, 48), None, given, "x")


@pytest.mark.parametrize(
    ("shape", "kind", "sentence"),
    [
        ((8,), "u", r"has the shape \(8,\): give an array of 2 to 5 axes"),
        ((2,) * 6, "u", "give an array of 2 to 5 axes"),
        ((0, 8), "u", r"is empty, its shape is \(0, 8\): give an image with pixels"),
        ((8, 8), "c", "does not hold real numbers: give an array of integers or floats"),
        ((8, 8), "O", "does not hold real numbers"),
        ((8, 8), "U", "does not hold real numbers"),
    ],
)
def test_what_is_no_image_is_refused(shape, kind, sentence):
    with pytest.raises(BadInput, match=sentence):
        check_array(shape, kind, "x")
