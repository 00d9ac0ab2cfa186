"""Masks that are given: read as whole numbers, numbered by colour, turned, and understood."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from napari_unet.io import read_image
from napari_unet.masks import (
    Mapping,
    are_objects,
    fitted,
    guess_mapping,
    mask_colors,
    mask_values,
    read_mask,
    read_masks,
)
from napari_unet.run import BadInput

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
STRAIGHT = [[-0.5, 0, 0, 9], [0, -0.7, 0, 8], [0, 0, 2, 7], [0, 0, 0, 1]]


def numbers(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(np.uint8)


def save(path: Path, data: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, data)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, data)
    else:
        Pillow.fromarray(data).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.png", [[0, 255], [3, 1]], [[0, 255], [3, 1]]),
        ("a.npy", [[False, True]], [[0, 1]]),
        ("a.npy", [[0.0, 300.0]], [[0, 300]]),
        ("a.npy", [[[0, 1]], [[2, 3]]], [[[0, 1]], [[2, 3]]]),
        ("a.tif", [[0, 70000]], [[0, 70000]]),
    ],
)
def test_masks_are_integers_without_channels(tmp_path, name, data, expected):
    data = np.array(data)
    if data.dtype == np.int64:
        data = data.astype(np.uint8 if data.max() < 256 else np.uint32)

    mask = read_mask(save(tmp_path / name, data))

    assert mask.dtype.kind in "iu"
    np.testing.assert_array_equal(mask, expected)


def test_a_stack_of_masks_needs_no_axes(tmp_path):
    data = numbers(7, 40, 30)

    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.tif", data)), data)


def test_a_mask_of_one_bit_holds_0_and_1(tmp_path):
    mask = read_mask(save(tmp_path / "a.png", numbers(40, 30) > 100))

    assert np.unique(mask).tolist() == [0, 1]


def test_a_palette_mask_gives_its_indices(tmp_path):
    image = Pillow.fromarray(numbers(40, 30) % 3)
    image.putpalette([9, 9, 9, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "a.png")

    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), numbers(40, 30) % 3)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_are_numbered_dark_to_bright(tmp_path, name, alpha):
    data = np.zeros((20, 24, 3), np.uint8)
    data[0, :4] = [GREEN, RED, BLUE, BLACK]
    if alpha:
        data = np.dstack([data, np.full((20, 24), 255, np.uint8)])

    path = save(tmp_path / name, data)

    assert read_mask(path)[0, :4].tolist() == [3, 2, 1, 0]
    assert mask_colors(path) == [BLUE, RED, GREEN]


def test_colours_of_a_folder_number_every_mask_alike(tmp_path):
    data = np.zeros((20, 24, 3), np.uint8)
    data[0, 0] = GREEN
    path = save(tmp_path / "a.png", data)

    assert read_mask(path)[0, 0] == 1
    assert read_mask(path, colors=[RED, GREEN])[0, 0] == 2
    with pytest.raises(BadInput, match=r"the colour \(0, 255, 0\), which is not among those given"):
        read_mask(path, colors=[RED])


def test_an_rgb_mask_without_colour_keeps_its_values(tmp_path):
    labels = numbers(20, 24) % 4 * 2

    path = save(tmp_path / "a.png", np.dstack([labels] * 3))

    np.testing.assert_array_equal(read_mask(path), labels)
    assert mask_colors(path) == []


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_black_and_white_jpeg_becomes_0_and_1(tmp_path, suffix, channels):
    mask = np.zeros((64, 64), np.uint8)
    mask[10:40, 13:50] = 255
    data = np.dstack([mask] * channels).squeeze()
    path = tmp_path / f"a.{suffix}"
    if suffix == "jpg":
        Pillow.fromarray(data).save(path, quality=80)
    else:
        tifffile.imwrite(path, data, compression="jpeg", compressionargs={"level": 80})

    np.testing.assert_array_equal(read_mask(path), mask // 255)


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.npy", np.full((8, 8), 0.5), "float64 numbers that are not whole: round them or"),
        ("a.npy", np.full((8, 8), np.nan), "numbers that are not whole"),
        ("a.npy", np.full((8, 8), np.inf), "numbers that are not whole"),
        ("a.npy", np.full((8, 8), 1e30), "labels beyond"),
        ("a.npy", np.full((8, 8), -1.0), "negative labels: give a mask of 0 and above"),
        ("a.npy", np.full((8, 8), -1), "negative labels"),
        ("a.png", photo(), "1200 colours and looks like a photograph, not a mask"),
        ("a.jpg", photo(), "is a JPEG, which changes the values of a mask: save the mask as PNG"),
        ("a.npy", photo().astype(float), "has 3 channels of float64, a mask has one"),
        ("a.npy", photo().astype("uint16"), "colour mask of 16 bits: save its labels"),
        ("a.npy", np.zeros((8, 8), complex), "does not hold real numbers"),
        ("a.npy", np.zeros((0, 8)), "is empty"),
    ],
)
def test_what_cannot_be_a_mask_is_refused(tmp_path, name, data, sentence):
    path = save(tmp_path / name, data)

    with pytest.raises(BadInput, match=sentence) as refusal:
        read_mask(path)

    assert str(path) in str(refusal.value)


def test_a_mask_of_several_channels_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", numbers(2, 40, 30), metadata={"axes": "CYX"})

    with pytest.raises(BadInput, match="has 2 channels of uint8, a mask has one"):
        read_mask(tmp_path / "a.tif")


def test_colours_mean_the_same_in_all_masks(tmp_path):
    for name, colors in (("a", [(255, 0, 0), (0, 0, 0)]), ("b", [(0, 0, 255), (255, 0, 0)])):
        picture = np.array(colors, np.uint8)[:, None].repeat(4, 1)
        Pillow.fromarray(picture).save(tmp_path / f"{name}.png")

    first, second, array = read_masks([tmp_path / "a.png", tmp_path / "b.png", [[True, False]]])

    assert first[:, 0].tolist() == [2, 0]
    assert second[:, 0].tolist() == [1, 2]
    assert array.tolist() == [[1, 0]]


def test_grey_is_a_colour_among_colours(tmp_path):
    both = np.zeros((8, 8, 3), np.uint8)
    both[:4, :4], both[4:, 4:] = (255, 0, 0), 255
    white, nothing = np.zeros_like(both), np.zeros_like(both)
    white[:2] = 255
    for name, mask in (("a", both), ("b", white), ("c", nothing)):
        Pillow.fromarray(mask).save(tmp_path / f"{name}.png")

    found = read_masks([tmp_path / f"{name}.png" for name in "abc"])

    assert [np.unique(mask).tolist() for mask in found] == [[0, 1, 2], [0, 2], [0]]
    assert np.unique(read_masks([tmp_path / "b.png"])[0]).tolist() == [0, 255]


# ---- where masks lie


def placed(folder: Path, name: str, data: np.ndarray, matrix: list[list[float]]) -> Path:
    """A NIfTI of an array in the order Z, Y, X, whose matrix from X, Y, Z is given."""
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(data.T, np.array(matrix, float)), folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("turn", "back"),
    [
        (lambda d: d, lambda m, _: m),
        (lambda d: d[:, ::-1], lambda m, n: m @ _flip(1, n[1])),
        (lambda d: d[::-1, :, ::-1], lambda m, n: m @ _flip(2, n[0]) @ _flip(0, n[2])),
        (lambda d: d.transpose(2, 0, 1), lambda m, _: m[:, [1, 2, 0, 3]]),
    ],
)
def test_a_mask_of_another_orientation_is_turned_as_its_image_is(tmp_path, turn, back):
    data = numbers(3, 4, 5)
    image = read_image(placed(tmp_path, "a.nii", data, STRAIGHT))
    other = turn(data)
    matrix = back(np.array(STRAIGHT), data.shape)

    mask = read_mask(placed(tmp_path, "m.nii", other, matrix), affine=image.affine)

    np.testing.assert_array_equal(mask, data)


def _flip(axis: int, n: int) -> np.ndarray:
    """The matrix by which the voxels of an axis X, Y, Z are counted from its other end."""
    matrix = np.eye(4)
    matrix[axis, axis], matrix[axis, 3] = -1, n - 1
    return matrix


@pytest.mark.parametrize("matrix", [np.eye(4), [[-0.5, 0, 0, 99], *STRAIGHT[1:]]])
def test_a_mask_that_lies_otherwise_is_taken_as_it_is(tmp_path, matrix):
    data = numbers(3, 4, 5)
    image = read_image(placed(tmp_path, "a.nii", data, STRAIGHT))

    mask = read_mask(placed(tmp_path, "m.nii", data, matrix), affine=image.affine)

    np.testing.assert_array_equal(mask, data)


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ((4, 5), (1, 4, 5)),
        ((1, 4, 5), (4, 5)),
        ((3, 1, 4, 5), (3, 4, 5)),
        ((1, 5), (1, 1, 5)),
    ],
)
def test_a_mask_has_the_axes_of_length_1_that_its_image_has(own, wanted):
    mask = numbers(*own)

    found = fitted(mask, wanted)

    assert found.shape == wanted
    np.testing.assert_array_equal(found.ravel(), mask.ravel())


@pytest.mark.parametrize("wanted", [(5, 4), (20,), (2, 4, 5), (4, 6)])
def test_a_mask_of_another_shape_stays_as_it_is(wanted):
    mask = numbers(4, 5)

    assert fitted(mask, wanted) is mask


# ---- what their values mean


class TestMapping:
    @pytest.mark.parametrize(
        ("mask", "expected"),
        [
            ([0, 1, 1], [0, 1, 1]),
            ([0, 255, 0], [0, 1, 0]),
            ([False, True, True], [0, 1, 1]),
            ([0, 128, 255], [0, 1, 2]),
            ([0, 1, 4, 7], [0, 1, 4, 7]),
            ([0, 0, 0], [0, 0, 0]),
            ([255, 255], [1, 1]),
            ([1, 2], [1, 2]),
            ([-1, 0, 1], [1, 0, 2]),
            ([0, 65535, 65535], [0, 1, 1]),
            (list(range(40)), [0] + [1] * 39),
        ],
    )
    def test_guessed_from_common_masks(self, mask, expected):
        mapping = guess_mapping(mask_values([np.array(mask)]))
        assert mapping.apply(np.array(mask)).tolist() == expected
        assert mapping.n_classes == max(1, *expected)

    def test_a_mask_within_the_limit_of_values_is_classes_and_beyond_it_objects(self):
        assert not guess_mapping(list(range(32))).objects
        assert guess_mapping(list(range(33))).objects

    def test_values_of_all_masks_count_together(self):
        masks = [np.array([0, 7]), np.array([7, 300]), np.array([], np.uint8)]
        assert mask_values(masks) == [0, 7, 300]

    @pytest.mark.parametrize("strange", [2, 90, 200, 256])
    def test_a_value_that_is_not_mapped_is_refused(self, strange):
        mapping = Mapping({0: 0, 128: 1, 255: 2})
        with pytest.raises(BadInput, match=f"value {strange}.*128 is class 1"):
            mapping.apply(np.array([[0, 128], [strange, 255]]))

    def test_an_empty_mapping_has_one_class_and_makes_all_background(self):
        assert Mapping({}).n_classes == 1
        assert Mapping({}).apply(np.array([[5, 0]])).tolist() == [[0, 0]]

    def test_is_told_in_words(self):
        assert Mapping({0: 0, 255: 1}).describe() == "0 is background, 255 is class 1"
        assert "object" in Mapping({}, objects=True).describe()


def test_several_values_of_one_piece_each_are_objects():
    objects = np.zeros((20, 20), np.uint8)
    for number in range(1, 6):
        objects[number * 3 : number * 3 + 2, 2:9] = number
    classes = objects.copy()
    classes[0, 15:] = 3  # a second piece

    assert are_objects([objects, objects], [0, 1, 2, 3, 4, 5]) is True
    assert are_objects([objects, classes], [0, 1, 2, 3, 4, 5]) is None
    assert are_objects([np.minimum(objects, 2)], [0, 1, 2]) is None
