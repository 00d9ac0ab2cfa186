"""Images as the rest works with them: read, ordered, matched with masks."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Pillow

from napari_unet.io import (
    Image,
    as_image,
    list_images,
    match_pairs,
    read_image,
    stem,
    viewed_image,
)
from napari_unet.run import BadInput


def numbers(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


# ---- images


@pytest.mark.parametrize(
    ("shape", "given", "axes", "spacing"),
    [
        ((3, 8, 9), (0.5, 0.25), "CYX", (0.5, 0.25)),
        ((3, 4, 8, 9), (2.0, 0.5, 0.25), "CZYX", (2.0, 0.5, 0.25)),
        ((1, 2, 4, 8, 9), (1.0, 2.0, 0.5, -0.25), "CTZYX", (2.0, 0.5, 0.25)),
        ((1, 2, 4, 8, 9), (), "CTZYX", (1.0, 1.0, 1.0)),
    ],
)
def test_what_a_viewer_holds_has_a_pixel_size_in_space_only(shape, given, axes, spacing):
    image = viewed_image(numbers(*shape), "im", given, "micrometer")

    assert (image.axes, image.spacing, image.unit) == (axes, spacing, "micrometer")


def test_an_image_has_a_pixel_size_for_each_axis_in_space():
    with pytest.raises(ValueError, match="is no pixel size along Z, Y, X"):
        Image(numbers(1, 2, 4, 8, 9), "CTZYX", "im", "TZYX", (1.0, 2.0, 0.5, 0.25))


# ---- arrays


@pytest.mark.parametrize(
    ("shape", "given", "axes", "result"),
    [
        ((40, 30), None, "CYX", (1, 40, 30)),
        ((40, 30, 3), None, "CYX", (3, 40, 30)),
        ((40, 30, 4), None, "CYX", (3, 40, 30)),
        ((40, 30, 4), "YXC", "CYX", (4, 40, 30)),
        ((40, 30, 4), "YXS", "CYX", (4, 40, 30)),
        ((2, 40, 30), None, "CYX", (2, 40, 30)),
        ((7, 40, 30), "ZYX", "CZYX", (1, 7, 40, 30)),
        ((7, 40, 30), "TYX", "CTYX", (1, 7, 40, 30)),
        ((30, 40, 7), "XYZ", "CZYX", (1, 7, 40, 30)),
        ((7, 2, 40, 30), "ZCYX", "CZYX", (2, 7, 40, 30)),
        ((7, 5, 2, 40, 30), "TZCYX", "CTZYX", (2, 7, 5, 40, 30)),
    ],
)
@pytest.mark.parametrize("wrap", [np.asarray, da.asarray])
def test_axes_come_into_one_order(shape, given, axes, result, wrap):
    image = as_image(wrap(numbers(*shape)), given)

    assert (image.axes, image.data.shape) == (axes, result)
    assert image.spatial_shape == result[1:]
    assert image.n_channels == result[0]
    assert type(image.data) is type(wrap(numbers(1)))


def test_a_transposed_volume_keeps_its_voxels():
    data = numbers(4, 5, 6)

    image = as_image(data, "XZY")

    assert image.data[0, 2, 3, 1] == data[1, 2, 3]


@pytest.mark.parametrize(
    ("dtype", "result"),
    [("bool", "uint8"), (">u2", "uint16"), (">f4", "float32"), ("longdouble", "float64")],
)
def test_types_become_plain(dtype, result):
    image = as_image(numbers(8, 8, dtype="uint8").astype(dtype))

    assert image.data.dtype == np.dtype(result)
    assert image.data.dtype.isnative


def test_lists_and_zarr_arrays_are_taken(tmp_path):
    stored = zarr.create_array(tmp_path / "a", data=numbers(20, 20))

    assert as_image([[1, 2], [3, 4]]).data.shape == (1, 2, 2)
    assert hasattr(as_image(stored).data, "dask")


@pytest.mark.parametrize(
    ("array", "options", "sentence"),
    [
        (np.zeros(5), {}, r"image has the shape \(5,\): give an array of 2 to 5 axes"),
        (np.zeros((0, 5)), {}, "is empty"),
        (np.zeros((5, 5), complex), {}, "does not hold real numbers"),
        (np.array([["a", "b"]]), {}, "does not hold real numbers"),
        (np.zeros((5, 5), object), {}, "does not hold real numbers"),
        ([[1], [2, 3]], {}, "image cannot be read"),
        (np.zeros((9, 20, 20)), {}, r"shape \(9, 20, 20\).*`--axes ZYX`"),
        (np.zeros((9, 20)), {"spacing": (1, 1, 1)}, "give 2 numbers above 0"),
        (np.zeros((9, 20)), {"spacing": (1, 0)}, "give 2 numbers above 0"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array, options, sentence):
    with pytest.raises(BadInput, match=sentence):
        as_image(array, **options)


def test_an_image_describes_how_it_was_understood():
    image = as_image(numbers(7, 40, 30), "ZYX", name="nuclei", spacing=(2, 0.5, 0.5))

    assert image.describe() == (
        "nuclei: ZYX read as C 1, Z 7, Y 40, X 30; uint8; pixel size 2 x 0.5 x 0.5 pixel"
    )


# ---- image files


def test_an_image_file_brings_its_name_axes_and_pixel_size(tmp_path):
    path = tmp_path / "stack.ome.tif"
    metadata = {"axes": "ZCYX", "PhysicalSizeZ": 2.0, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    tifffile.imwrite(path, numbers(7, 2, 40, 30), ome=True, metadata=metadata)

    image = read_image(path)

    assert (image.name, image.axes, image.source_axes) == ("stack", "CZYX", "ZCYX")
    assert (image.spacing, image.unit) == ((2.0, 0.5, 0.5), "micrometer")
    assert image.path == path


@pytest.mark.parametrize(
    ("said", "shape", "note"),
    [
        ("YX", (5, 40, 30), "The distance of its slices is not said: 1 micrometer is taken."),
        ("ZX", (5, 40, 30), "The pixel size along Y is not said: 1 micrometer is taken."),
        ("ZYX", (5, 40, 30), ""),
        ("YX", (1, 40, 30), ""),
        ("", (5, 40, 30), ""),
    ],
)
def test_a_size_that_is_taken_for_granted_is_told(tmp_path, said, shape, note):
    metadata = {"axes": "ZYX"} | {f"PhysicalSize{a}": 0.1 for a in said}
    tifffile.imwrite(tmp_path / "a.ome.tif", numbers(*shape), metadata=metadata)

    image = read_image(tmp_path / "a.ome.tif")

    known = [0.1 if a in said else 1 for a in image.axes[1:]]
    assert (image.spacing, image.note) == (tuple(known), note)
    assert note in image.describe()


@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_an_unclear_file_is_refused_until_its_axes_are_given(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    data = numbers(7, 40, 30)
    np.save(path, data) if suffix == "npy" else tifffile.imwrite(path, data)

    with pytest.raises(BadInput, match=r"a\.\w+ has the shape \(7, 40, 30\).*give its axes"):
        read_image(path)

    assert read_image(path, axes="TYX").axes == "CTYX"


def test_axes_that_do_not_fit_the_file_are_refused(tmp_path):
    Pillow.fromarray(numbers(40, 30, 3)).save(tmp_path / "a.png")

    with pytest.raises(BadInput, match="but the axes YX are 2: give 3 letters"):
        read_image(tmp_path / "a.png", axes="YX")


def test_grey_rgb_stays_rgb(tmp_path):
    Pillow.fromarray(np.dstack([numbers(40, 30)] * 3)).save(tmp_path / "a.png")

    assert read_image(tmp_path / "a.png").n_channels == 3


# ---- folders and pairs


def test_a_folder_lists_its_images_by_name(tmp_path):
    for name in ("b.PNG", "a.tif", "c.npy", "notes.txt", "Thumbs.db", ".hidden.png", "._a.tif"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.png").mkdir()
    zarr.create_array(tmp_path / "d.zarr", data=numbers(4, 4))

    assert [p.name for p in list_images(tmp_path)] == ["a.tif", "b.PNG", "c.npy", "d.zarr"]
    assert list_images(tmp_path / "a.tif") == [tmp_path / "a.tif"]
    assert list_images(tmp_path / "d.zarr") == [tmp_path / "d.zarr"]


@pytest.mark.parametrize(
    ("name", "sentence"), [("none", "does not exist: check the name"), ("", "holds no images")]
)
def test_nothing_to_list_is_refused(tmp_path, name, sentence):
    with pytest.raises(BadInput, match=sentence):
        list_images(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tif", "a"),
        ("a.b.png", "a.b"),
        ("a.ome.tif", "a"),
        ("a.OME.TIFF", "a"),
        ("a.ome.zarr", "a"),
        ("a.nii.gz", "a"),
        (".png", ".png"),
        ("a", "a"),
    ],
)
def test_stem(name, expected):
    assert stem(Path(name)) == expected


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.png", "a.tif"),
        ("a.ome.tif", "a.png"),
        ("a.tif", "a_mask.png"),
        ("a.tif", "a_masks.ome.tif"),
        ("a.tif", "a-mask.png"),
        ("a.tif", "a_label.png"),
        ("a.tif", "a_labels.png"),
        ("a.tif", "a_SEG.png"),
        ("a_mask.png", "a_mask.png"),
    ],
)
def test_pairs_are_matched_by_name(image, mask):
    others = [Path("m/other.png"), Path("m/b_mask.png")]

    pairs = match_pairs([Path("i") / image], [*others, Path("m") / mask])

    assert pairs == [(Path("i") / image, Path("m") / mask)]


def test_the_exact_name_goes_first():
    masks = [Path("m/a_mask.png"), Path("m/a.png")]

    assert match_pairs([Path("i/a.png")], masks) == [(Path("i/a.png"), Path("m/a.png"))]


def test_images_without_a_mask_are_named():
    images = [Path(f"{name}.png") for name in "abcdef"]

    with pytest.raises(BadInput, match=r"No mask is named like b\.png, c\.png, d\.png and 2 more"):
        match_pairs(images, [Path("a.png")])


def test_two_masks_of_one_name_are_refused():
    with pytest.raises(BadInput, match=r"a\.png and m.a\.tif are masks of the same name"):
        match_pairs([Path("i/a.png")], [Path("m/a.png"), Path("m/a.tif")])


def test_an_image_cannot_be_changed():
    image = as_image(numbers(4, 4))

    assert isinstance(image, Image)
    with pytest.raises(AttributeError):
        image.name = "other"


# ---- names and channels


def test_the_folder_one_is_in_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "scan").mkdir()
    monkeypatch.chdir(tmp_path / "scan")

    assert stem(Path()) == "scan"


@pytest.mark.parametrize(
    ("dtype", "axes", "channels"),
    [("uint8", None, 3), ("uint16", None, 4), ("uint8", "YXC", 4)],
)
def test_a_fourth_channel_is_left_out_only_where_it_is_transparency(
    tmp_path, dtype, axes, channels
):
    np.save(tmp_path / "a.npy", numbers(40, 30, 4, dtype=dtype))

    image = read_image(tmp_path / "a.npy", axes)

    assert image.n_channels == channels
    assert ("fourth channel" in image.note) == (channels == 3)
