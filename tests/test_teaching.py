"""A training set out of images and their masks."""

import numpy as np
import pytest

from napari_unet.config import BACKGROUND
from napari_unet.export import export_labels
from napari_unet.io import as_image
from napari_unet.masks import Mapping, read_mask
from napari_unet.run import BadInput
from napari_unet.teaching import make_training_set


def test_values_are_read_as_codes_classes_or_objects():
    image = as_image(np.zeros((40, 40)))
    codes = np.zeros((40, 40), np.uint8)
    codes[:9], codes[20:29] = 128, 255
    many = (np.arange(1600).reshape(40, 40) // 16).astype(np.uint16)

    of_codes = make_training_set([(image, codes)])
    of_many = make_training_set([(image, many)])

    assert of_codes[1] == Mapping({0: 0, 128: 1, 255: 2})
    assert of_many[1].objects
    assert of_codes[0].counts.tolist() == [1600 - 720, 360, 360]
    assert of_many[0].counts.tolist() == [16, 1584, 0], "background, objects, and their rims"


def test_few_values_are_objects_if_said_so_and_many_are_not_if_denied():
    image = as_image(np.zeros((40, 40)))
    few = (np.arange(1600).reshape(40, 40) // 400).astype(np.uint16)
    many = (np.arange(1600).reshape(40, 40) // 4).astype(np.uint16)

    training_set, mapping = make_training_set([(image, few)], objects=True)

    assert mapping.objects
    assert len(training_set.classes) == 1
    with pytest.raises(BadInput, match="hold 400 different values, up to 399; at most 254 class"):
        make_training_set([(image, many)], objects=False)
    assert len(make_training_set([(image, many // 4)], objects=False)[0].classes) == 99


def test_values_that_have_names_keep_their_numbers():
    sparing = np.zeros((40, 40), np.uint8)
    sparing[5:9], sparing[20:30] = 10, 40
    image = as_image(np.zeros((40, 40)))

    training_set, _ = make_training_set([(image, sparing)], classes=[f"c{n}" for n in range(40)])

    assert np.flatnonzero(training_set.counts).tolist() == [0, 10, 40]


def test_values_that_have_names_are_no_objects():
    organs = np.zeros((40, 40), np.uint8)
    for number in range(1, 5):
        organs[number * 8 : number * 8 + 4, 4:36] = number
    image = as_image(np.zeros((40, 40)))
    names = ["liver", "spleen", "left kidney", "right kidney"]

    named, mapping = make_training_set([(image, organs)], classes=names)
    unnamed, _ = make_training_set([(image, organs)])

    assert (mapping.objects, named.rims) == (False, False)
    assert len(named.classes) == 4
    assert named.counts[1:].all()
    assert unnamed.rims
    with pytest.raises(BadInput, match="4 class names were given, but objects are all of one"):
        make_training_set([(image, organs)], classes=names, objects=True)
    one, mapping = make_training_set([(image, organs)], classes=["nucleus"])
    assert mapping.objects
    assert one.rims


def test_objects_with_a_border_weigh_more_where_they_touch():
    image = as_image(np.zeros((40, 40)))
    mask = np.zeros((40, 40), np.uint16)
    mask[5:35, 5:19], mask[5:35, 21:35] = 1, 2

    training_set, _ = make_training_set([(image, mask)], objects=True, border=5.0)

    weights = training_set.items[0].weights
    assert weights[20, 19:21].min() > 2 * weights[20, 1]
    assert make_training_set([(image, mask)], objects=True)[0].items[0].weights is None


def test_objects_of_planes_are_as_large_as_in_a_plane():
    """A column through a stack is one object in the mask, and one in each plane of a 2-D net."""
    mask = np.zeros((20, 40, 40), np.uint16)
    for number, (y, x) in enumerate(np.ndindex(3, 3), 1):
        mask[:, 12 * y : 12 * y + 8, 12 * x : 12 * x + 8] = number
    image = as_image(np.zeros(mask.shape, np.uint8), "ZYX")

    of_planes, _ = make_training_set([(image, mask)], objects=True, slices=True)
    of_volumes, _ = make_training_set([(image, mask)], objects=True)

    assert (of_planes.smallest, of_volumes.smallest) == (64, 64 * 20)


def test_a_single_slice_that_has_a_place_is_a_plane():
    image = as_image(np.zeros((1, 40, 40), np.uint8), "ZYX")
    mask = np.zeros((1, 40, 40), np.uint8)
    mask[0, :9] = 1

    training_set, _ = make_training_set([(image, mask)])

    assert training_set.ndim == 2


@pytest.mark.parametrize(
    ("axes", "shape", "suffixes"),
    [
        ("ZYX", (1, 40, 50), "tif ome.tif png npy zarr nii.gz nrrd seg.nrrd"),
        ("YX", (40, 50), "tif ome.tif png npy zarr nii.gz nrrd seg.nrrd"),
        ("TYX", (3, 40, 50), "tif ome.tif npy zarr nii.gz nrrd"),
    ],
)
def test_a_mask_that_we_write_goes_in_again_as_it_is(tmp_path, axes, shape, suffixes):
    for library in ("nibabel", "nrrd"):
        pytest.importorskip(library)
    mask = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
    image = as_image(np.zeros(shape, np.uint8), axes)

    for suffix in suffixes.split():
        back = read_mask(export_labels(tmp_path / f"a.{suffix}", mask, image))
        training_set, _ = make_training_set([(image, back)])

        found = np.stack([item.annotation for item in training_set.items]).reshape(shape)
        np.testing.assert_array_equal(np.where(found == BACKGROUND, 0, found), mask, suffix)
