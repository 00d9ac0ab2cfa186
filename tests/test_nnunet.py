"""The folder that nnU-Net trains on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_unet.config import class_table
from napari_unet.export import export_nnunet
from napari_unet.io import Image, as_image
from napari_unet.run import BadInput

nibabel = pytest.importorskip("nibabel")
CLASSES = class_table(["cell", "gland"])


def image(name: str, *shape: int, axes: str = "YX", **more: object) -> Image:
    pixels = np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)
    return replace(as_image(pixels, axes, name), **more)


def mask(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3, shape).astype(np.uint8)


def load(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj).T


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_images_masks_and_a_description(tmp_path):
    slide = image("slide 1", 3, 20, 30, axes="CYX")
    other = image("b", 3, 10, 12, axes="CYX")
    pairs = [(slide, mask(20, 30)), (other, mask(10, 12))]

    folder = export_nnunet(tmp_path / "Dataset001_cells", pairs, CLASSES)

    assert files(folder) == [
        "dataset.json",
        *(f"imagesTr/{case}_000{c}.nii.gz" for case in ("b", "slide_1") for c in range(3)),
        "labelsTr/b.nii.gz",
        "labelsTr/slide_1.nii.gz",
    ]
    assert json.loads((folder / "dataset.json").read_text()) == {
        "channel_names": {"0": "channel 0", "1": "channel 1", "2": "channel 2"},
        "labels": {"background": 0, "cell": 1, "gland": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    for channel in range(3):
        stored = load(folder / f"imagesTr/slide_1_000{channel}.nii.gz")
        np.testing.assert_array_equal(stored[0], slide.data[channel])
    np.testing.assert_array_equal(load(folder / "labelsTr/slide_1.nii.gz")[0], mask(20, 30))


def test_a_mask_of_true_and_false_is_one_class(tmp_path):
    inside = mask(5, 6) > 0

    folder = export_nnunet(tmp_path / "a", [(image("a", 5, 6), inside)], CLASSES)

    np.testing.assert_array_equal(load(folder / "labelsTr/a.nii.gz")[0], inside)


def test_images_and_masks_lie_in_the_same_place(tmp_path):
    affine = ((2.0, 0, 0, 5), (0, 0, 0.5, 6), (0, -0.5, 0, 7), (0, 0, 0, 1))
    scan = image("scan", 4, 5, 6, axes="ZYX", affine=affine, unit="millimeter")

    folder = export_nnunet(tmp_path / "a", [(scan, mask(4, 5, 6))], CLASSES)

    one = nibabel.load(folder / "imagesTr/scan_0000.nii.gz")
    other = nibabel.load(folder / "labelsTr/scan.nii.gz")
    assert np.array_equal(one.affine, other.affine)
    assert one.affine.tolist() == [[0, 0.5, 0, -7], [-0.5, 0, 0, -6], [0, 0, 2, 5], [0, 0, 0, 1]]


def test_strokes_leave_what_is_not_labelled_to_be_ignored(tmp_path):
    strokes = np.array([[0, 1, 2, 255]], np.uint8)

    folder = export_nnunet(tmp_path / "a", [(image("a", 1, 4), strokes)], CLASSES, sparse=True)

    assert load(folder / "labelsTr/a.nii.gz").ravel().tolist() == [3, 1, 2, 0]
    labels = json.loads((folder / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "cell": 1, "gland": 2, "ignore": 3}


def test_a_single_slice_is_written_with_the_mask_of_its_plane(tmp_path):
    labels = mask(5, 6)

    folder = export_nnunet(tmp_path / "a", [(image("a", 1, 5, 6, axes="ZYX"), labels)], CLASSES)

    np.testing.assert_array_equal(load(folder / "labelsTr/a.nii.gz")[0], labels)


def test_each_time_is_a_case(tmp_path):
    film, masks = image("film", 2, 5, 6, axes="TYX"), mask(2, 5, 6)

    folder = export_nnunet(tmp_path / "a", [(film, masks)], CLASSES)

    for t in range(2):
        np.testing.assert_array_equal(load(folder / f"labelsTr/film_t000{t}.nii.gz")[0], masks[t])
        found = load(folder / f"imagesTr/film_t000{t}_0000.nii.gz")[0]
        np.testing.assert_array_equal(found, film.data[0, t])


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([], "give one image or more"),
        ([(image("a", 5, 6), mask(5, 6) / 2)], "The mask of a holds float64: give an integer mask"),
        ([(image("a", 5, 6), mask(5, 7))], r"has the shape \(5, 7\), the image \(5, 6\)"),
        ([(image("a", 5, 6), mask(5, 6) + 1)], "holds the number 3, but there are 2 classes"),
        ([(image("a", 5, 6), mask(5, 6))] * 2, "Two images are called a: rename one"),
        (
            [(image("a", 5, 6), mask(5, 6)), (image("b", 1, 32768), mask(1, 32768))],
            "b has 32768 pixels along an axis, NIfTI ends at 32767: cut the image",
        ),
        (
            [(image("a", 5, 6), mask(5, 6)), (image("b", 3, 5, 6, axes="CYX"), mask(5, 6))],
            r"images of \[1, 3\] channels",
        ),
    ],
)
def test_what_nnunet_would_not_take_is_refused_and_leaves_nothing(tmp_path, pairs, sentence):
    with pytest.raises(BadInput, match=sentence):
        export_nnunet(tmp_path / "a", pairs, CLASSES)

    assert not list(tmp_path.iterdir())


def test_images_of_one_file_name_have_names_of_their_own(tmp_path):
    files = [tmp_path / day / "img.tif" for day in ("day1", "day2")]
    pairs = [
        (image(name, 5, 6, path=file), mask(5, 6))
        for name, file in zip(("img", "img 2"), files, strict=True)
    ]

    folder = export_nnunet(tmp_path / "a", pairs, CLASSES)

    assert [file.name for file in sorted(folder.glob("labelsTr/*"))] == [
        "img.nii.gz",
        "img_2.nii.gz",
    ]


def test_names_of_classes_are_enough(tmp_path):
    pairs = [(image("a", 5, 6), mask(5, 6))]

    named, known = (
        export_nnunet(tmp_path / name, pairs, classes)
        for name, classes in (("named", ["cell", "gland"]), ("known", CLASSES))
    )

    assert (named / "dataset.json").read_text() == (known / "dataset.json").read_text()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["cell", "background"], "A class is called background, which nnU-Net keeps for itself"),
        (["ignore", "cell"], "A class is called ignore, which nnU-Net keeps for itself: rename it"),
        (["cell", "gland", "cell"], "2 classes are called cell: rename all but one"),
    ],
)
def test_names_that_nnunet_could_not_tell_apart_are_refused(tmp_path, names, sentence, sparse):
    pairs = [(image("a", 5, 6), mask(5, 6))]

    with pytest.raises(BadInput, match=sentence):
        export_nnunet(tmp_path / "a", pairs, names, sparse=sparse)

    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path):
    pairs = [(image("a", 20, 30), mask(20, 30))]
    folder = export_nnunet(tmp_path / "out", pairs, CLASSES)
    export_nnunet(folder, pairs, CLASSES, overwrite=True)
    (folder / "notes.txt").write_text("mine")

    with pytest.raises(BadInput, match=r"holds notes\.txt, which is no part of what would replace"):
        export_nnunet(folder, pairs, CLASSES, overwrite=True)

    assert (folder / "notes.txt").read_text() == "mine"


def test_a_mask_in_a_file_lies_as_its_image_does(tmp_path):
    affine = np.diag([-0.5, -0.7, 2, 1])
    turned = affine @ np.array([[1, 0, 0, 0], [0, -1, 0, 9], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    labels = mask(4, 10, 12)
    nibabel.save(nibabel.Nifti1Image(labels.T.astype(np.int16), affine), tmp_path / "a.nii")
    flipped = labels[:, ::-1].T
    nibabel.save(nibabel.Nifti1Image(flipped, turned), tmp_path / "m.nii")

    folder = export_nnunet(tmp_path / "out", [(tmp_path / "a.nii", tmp_path / "m.nii")], CLASSES)

    np.testing.assert_array_equal(load(folder / "labelsTr/a.nii.gz"), labels)
