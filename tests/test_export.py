"""Masks and probabilities leave as files other programs open, whole or not at all."""

import errno
import os
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Pillow

from napari_unet.config import class_table
from napari_unet.export import export_labels, export_probabilities, raster
from napari_unet.io import Image, as_image, read_image, read_mask
from napari_unet.run import BadInput

STACKS = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".npy", ".zarr")


def names_in(folder: Path) -> list[str]:
    return [item.name for item in folder.iterdir()]


def labels(*shape: int, highest: int = 3) -> np.ndarray:
    mask = np.random.default_rng(0).integers(0, 4, shape).astype(np.int64)
    mask.flat[0] = highest
    return mask


def image(*shape: int) -> Image:
    axes = {2: "YX", 3: "ZYX", 4: "TZYX"}[len(shape)]
    plain = as_image(
        np.zeros(shape, np.uint8), axes, spacing=(2.0, 0.5, 0.25)[-min(len(shape), 3) :]
    )
    return Image(plain.data, plain.axes, "a", axes, plain.spacing, "micrometer")


@pytest.mark.parametrize("suffix", [*STACKS, ".png"])
@pytest.mark.parametrize("wrap", [np.asarray, da.asarray])
@pytest.mark.parametrize("like", [None, image(50, 40)])
def test_a_mask_comes_back_as_it_left(tmp_path, suffix, wrap, like):
    mask = labels(50, 40)

    path = export_labels(tmp_path / f"a{suffix}", wrap(mask), like)

    assert path == tmp_path / f"a{suffix}"
    np.testing.assert_array_equal(read_mask(path), mask)
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", STACKS)
@pytest.mark.parametrize("shape", [(5, 50, 40), (3, 5, 50, 40)])
def test_stacks_come_back_as_they_left(tmp_path, suffix, shape):
    path = export_labels(tmp_path / f"a{suffix}", labels(*shape), like=image(*shape))

    np.testing.assert_array_equal(read_mask(path), labels(*shape))


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr"])
@pytest.mark.parametrize(
    ("highest", "dtype"),
    [(255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "uint32"), (2**32 - 1, "uint32")],
)
def test_the_smallest_type_that_holds_all_labels(tmp_path, suffix, highest, dtype):
    path = export_labels(tmp_path / f"a{suffix}", labels(50, 40, highest=highest))

    assert read_mask(path).dtype == dtype
    assert read_mask(path).max() == highest


@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_axes_and_pixel_size_are_those_of_the_image(tmp_path, suffix):
    path = export_labels(tmp_path / f"a{suffix}", labels(5, 50, 40), like=image(5, 50, 40))

    back = read_image(path)

    assert (back.axes, back.spacing, back.unit) == ("CZYX", (2.0, 0.5, 0.25), "micrometer")


def test_a_plain_tiff_keeps_its_axes(tmp_path):
    like = as_image(np.zeros((5, 50, 40)), "TYX")

    path = export_labels(tmp_path / "a.tif", labels(5, 50, 40), like)

    assert read_image(path).axes == "CTYX"


def test_tiffs_are_compressed_and_large_ones_tiled(tmp_path, monkeypatch):
    monkeypatch.setattr(raster, "_TILED_FROM", 1000)
    mask = labels(2, 1300, 700)

    path = export_labels(tmp_path / "a.tif", da.asarray(mask, chunks=300), overwrite=False)

    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].tile == (256, 256)
        assert tiff.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        np.testing.assert_array_equal(tiff.asarray(), mask)


def test_png_shows_the_classes_in_their_colours(tmp_path):
    classes = class_table(["nucleus", "gland", "stroma"])

    export_labels(tmp_path / "a.png", np.array([[0, 1], [2, 3]]), classes=classes)

    with Pillow.open(tmp_path / "a.png") as picture:
        shown = np.asarray(picture.convert("RGB")).reshape(4, 3).tolist()
    wanted = [list(bytes.fromhex(c.color[1:])) for c in classes]
    assert shown == [[0, 0, 0], *wanted]


def test_png_of_many_labels_is_grey_of_16_bits(tmp_path):
    export_labels(tmp_path / "a.png", labels(50, 40, highest=1000))

    with Pillow.open(tmp_path / "a.png") as picture:
        assert picture.mode == "I;16"
    assert read_mask(tmp_path / "a.png").max() == 1000


def test_zarr_is_ome_zarr_that_others_read(tmp_path):
    export_labels(tmp_path / "a.zarr", labels(5, 50, 40), like=image(5, 50, 40))

    group = zarr.open_group(tmp_path / "a.zarr", mode="r")

    assert group.attrs["multiscales"][0]["version"] == "0.4"
    assert group["0"].shape == (5, 50, 40)


@pytest.mark.parametrize("suffix", STACKS)
@pytest.mark.parametrize("shape", [(50, 40), (5, 50, 40)])
def test_probabilities_are_float32_with_classes_first(tmp_path, suffix, shape):
    values = np.random.default_rng(0).random((3, *shape))

    path = export_probabilities(tmp_path / f"a{suffix}", values, like=image(*shape))

    axes = "CYX" if len(shape) == 2 else "CZYX"
    back = read_image(path, axes=axes)
    assert (back.axes, back.data.dtype) == (axes, np.float32)
    np.testing.assert_array_equal(np.asarray(back.data), values.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "mask", "options", "sentence"),
    [
        ("a.jpg", labels(9, 9), {}, r"a\.jpg is of no kind written here: end its name in \.tif"),
        ("a", labels(9, 9), {}, "is of no kind written here"),
        ("a.png", labels(3, 9, 9), {}, "cannot hold a stack, PNG is flat: choose"),
        ("a.png", labels(9, 9, highest=70000), {}, "cannot hold labels above 65535: choose"),
        ("a.tif", labels(9, 9, highest=2**40), {}, "cannot hold the labels 0 to 1099511627776"),
        ("a.tif", labels(9, 9, highest=-1), {}, "cannot hold the labels -1 to 3"),
        ("a.tif", np.zeros((9, 9)), {}, "is to hold labels, not float64: give an integer mask"),
        ("a.tif", labels(9), {}, "give 2 to 4 spatial axes"),
        ("a.tif", np.zeros((0, 9), int), {}, "give 2 to 4 spatial axes"),
        ("a.tif", labels(9, 9), {"like": image(9, 8)}, r"but its image a has \(9, 8\)"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path, name, mask, options, sentence
):
    with pytest.raises(BadInput, match=sentence):
        export_labels(tmp_path / name, mask, **options)

    assert names_in(tmp_path) == []


def test_probabilities_do_not_fit_a_png(tmp_path):
    with pytest.raises(BadInput, match="is of no kind written here"):
        export_probabilities(tmp_path / "a.png", np.zeros((2, 9, 9)))


@pytest.mark.parametrize("suffix", [*STACKS, ".png"])
def test_nothing_is_overwritten_unasked(tmp_path, suffix):
    path = export_labels(tmp_path / f"a{suffix}", labels(50, 40))

    with pytest.raises(BadInput, match="exists already"):
        export_labels(path, labels(50, 40) * 0)
    np.testing.assert_array_equal(read_mask(path), labels(50, 40))

    export_labels(path, labels(50, 40) * 0, overwrite=True)
    assert read_mask(path).max() == 0


@pytest.mark.parametrize("suffix", [*STACKS, ".png"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch, suffix):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(BadInput, match="could not be written: the disk is full"):
        export_labels(tmp_path / f"a{suffix}", labels(50, 40))

    assert names_in(tmp_path) == []


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".npy", ".png"])
def test_a_file_that_may_not_grow_is_told_and_leaves_nothing(tmp_path, suffix):
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    mask = np.random.default_rng(0).integers(0, 255, (600, 600)).astype(np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(BadInput, match="could not be written"):
            export_labels(tmp_path / f"a{suffix}", mask)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert names_in(tmp_path) == []
