"""From a mask of classes to separate objects."""

import numpy as np
import pytest

from napari_unet.instances import split_objects
from napari_unet.rims import object_rims


def classes_of(labels: np.ndarray, mask: np.ndarray) -> dict[int, int]:
    """The class of each object, by the mask it was made of."""
    numbers = range(1, int(labels.max()) + 1)
    return {n: int(np.bincount(mask[labels == n]).argmax()) for n in numbers}


def balls(shape: tuple[int, ...], *balls: tuple[tuple[float, ...], float]) -> np.ndarray:
    grid = np.indices(shape)
    mask = np.zeros(shape, np.uint8)
    for center, radius in balls:
        steps = (g - c for g, c in zip(grid, center, strict=True))
        mask |= (sum(s**2 for s in steps) <= radius**2).astype(np.uint8)
    return mask


@pytest.mark.parametrize(
    ("mask", "together", "apart"),
    [
        (balls((40, 40), ((20, 20), 8)), 1, 1),
        (balls((40, 60), ((20, 20), 10), ((20, 37), 10)), 1, 2),
        (balls((40, 60), ((20, 20), 14), ((20, 39), 7)), 1, 2),
        (balls((60, 60), ((20, 20), 9), ((20, 37), 9), ((35, 28.5), 9)), 1, 3),
        (balls((24, 40, 40), ((12, 12, 20), 8), ((12, 26, 20), 8)), 1, 2),
        (np.ones((10, 60), np.uint8), 1, 1),
        (np.ones((1, 1), np.uint8), 1, 1),
        (np.zeros((9, 9), np.uint8), 0, 0),
        (np.ones((30, 30), bool), 1, 1),
    ],
)
def test_touching_objects_part_and_whole_ones_do_not(mask, together, apart):
    assert split_objects(mask, split=False).max() == together
    labels = split_objects(mask)
    assert labels.max() == apart
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels > 0, mask > 0)


def test_an_ellipse_stays_whole():
    y, x = np.indices((60, 100))
    mask = ((((y - 30) / 12) ** 2 + ((x - 50) / 40) ** 2) < 1).astype(np.uint8)

    assert split_objects(mask).max() == 1


def test_the_cut_lies_at_the_neck():
    labels = split_objects(balls((40, 60), ((20, 20), 10), ((20, 37), 10)))

    assert set(np.unique(labels[:, :27])) == {0, 1}
    assert set(np.unique(labels[:, 31:])) == {0, 2}


def test_numbers_run_from_the_top_left():
    mask = np.zeros((20, 20), np.uint8)
    mask[2:5, 12:15], mask[3:6, 2:5], mask[12:15, 5:8] = 2, 1, 1

    labels = split_objects(mask)

    assert [labels[3, 13], labels[4, 3], labels[13, 6]] == [1, 2, 3]
    assert classes_of(labels, mask) == {1: 2, 2: 1, 3: 1}


def test_neighbours_of_two_classes_are_two_objects():
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 2:10], mask[5:15, 10:18] = 1, 2

    labels = split_objects(mask)

    assert classes_of(labels, mask) == {1: 1, 2: 2}


def test_small_objects_are_dropped_and_the_rest_numbered_without_gaps():
    mask = balls((40, 40), ((5, 5), 1), ((25, 25), 8))

    labels = split_objects(mask, min_size=20)

    assert np.unique(labels).tolist() == [0, 1]
    assert labels[25, 25] == 1


def test_small_holes_are_filled_large_and_open_ones_kept():
    mask = np.ones((30, 30), np.uint8)
    mask[5, 5] = mask[0, 20] = 0
    mask[15:25, 15:25] = 0

    labels = split_objects(mask, fill_holes=4, split=False)

    assert labels[5, 5] == 1
    assert labels[0, 20] == labels[20, 20] == 0


def test_filling_a_hole_does_not_take_the_object_in_it():
    mask = np.ones((20, 20), np.uint8)
    mask[8:10, 8:10] = 2

    labels = split_objects(mask, fill_holes=50)

    assert classes_of(labels, mask) == {1: 1, 2: 2}
    assert (labels == 2).sum() == 4


def test_a_dip_of_probability_parts_what_the_outline_does_not():
    mask = np.ones((20, 60), np.uint8)
    probability = np.ones(mask.shape)
    probability[:, 28:32] = 0.5

    labels = split_objects(mask, probability)

    assert labels.max() == 2


def test_pixel_size_counts():
    # Round in micrometres, thin in planes: one object, whatever the spacing.
    mask = balls((40, 40, 40), ((20, 20, 20), 14))[::4]

    assert split_objects(mask, spacing=(4, 1, 1)).max() == 1


# ---- rims


def test_rims_are_the_outermost_pixels_and_leave_an_inside_to_each_object():
    objects = np.zeros((30, 40), np.int32)
    objects[4:14, 4:14], objects[4:14, 14:24] = 7, 300  # they touch
    objects[20:23, 4:7], objects[20:22, 20:22] = 5, 9

    rims = object_rims(objects)

    assert not rims[objects == 0].any()
    inside = np.where(rims, 0, objects)
    assert {n: int((inside == n).sum()) for n in (7, 300, 5, 9)} == {7: 36, 300: 36, 5: 1, 9: 4}
    assert not inside[4:14, 12:16].any()


def test_rims_of_a_volume_are_as_thick_along_each_axis_in_the_world():
    objects = np.zeros((9, 20, 20), np.uint8)
    objects[2:7, 4:16, 4:16] = 1

    rims = object_rims(objects, (3.0, 1.0, 1.0))

    assert np.array_equal(rims[2], rims[4]), "a plane is more than two pixels away from the next"
    assert (~rims & (objects > 0))[4].sum() == 8 * 8


def test_objects_are_parted_at_their_rims_and_keep_every_pixel():
    mask = np.zeros((20, 60), np.uint8)
    mask[4:16, 4:54] = 1  # a bar, that nothing but rims can part
    rims = np.zeros(mask.shape, bool)
    rims[:, 22:26] = rims[:, 36:40] = True
    mask[1, 1] = rims[1, 1] = 1  # a speck that is all rim

    labels = split_objects(mask, rims=rims & (mask > 0))

    assert split_objects(mask).max() == 2
    assert labels.max() == 4
    assert np.array_equal(labels > 0, mask > 0)
    assert [labels[8, x] for x in (4, 23, 24, 37, 38, 53)] == [2, 2, 3, 3, 4, 4]


def test_without_splitting_rims_part_nothing():
    mask = np.ones((10, 30), np.uint8)
    rims = np.zeros(mask.shape, bool)
    rims[:, 14:16] = True

    assert split_objects(mask, split=False, rims=rims).max() == 1


# ---- specks


def test_specks_are_dropped_unless_all_are_as_small():
    mask = balls((60, 60), ((15, 15), 8), ((40, 40), 8))
    mask[5, 50] = mask[50, 5] = 1
    spots = np.zeros((60, 60), np.uint8)
    spots[::6, ::6] = 1

    assert split_objects(mask, min_size=None).max() == 2
    assert split_objects(mask).max() == 4
    assert split_objects(spots, min_size=None).max() == 100


def test_one_blob_does_not_make_specks_of_all_others():
    mask = np.zeros((300, 300), np.uint8)
    mask[100:, 100:] = 1
    for place in range(0, 300, 12):
        mask[4:12, place : place + 8] = 1

    assert split_objects(mask, min_size=None, split=False).max() == 26


def test_nothing_has_no_specks():
    assert split_objects(np.zeros((5, 5), np.uint8), min_size=None).max() == 0


@pytest.mark.parametrize("step", [1e-5, 1.0, 1e4])
def test_objects_part_whatever_the_unit_of_a_pixel(step):
    mask = balls((40, 60), ((20, 20), 10), ((20, 37), 10))

    assert split_objects(mask, spacing=(step, step)).max() == 2
