"""How coarse a grid the network works on, by what is annotated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.annotation import TrainingSet
from napari_unet.config import BACKGROUND, TrainConfig, class_table
from napari_unet.grain import fit_grain
from napari_unet.io import as_image
from napari_unet.teaching import make_training_set


def discs(radius: float, size: int = 300) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    y, x = (grid % 29 - 13.3 for grid in (rows, columns))
    return (y**2 + x**2 <= radius**2).astype(np.uint8)


def lines(width: float, size: int = 300) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return ((0.92 * rows + 0.39 * columns) % 24 < width).astype(np.uint8)


def learn(*masks: np.ndarray, complete: bool = True, classes: int = 1, **more) -> TrainingSet:
    training_set = TrainingSet(class_table(classes), masks[0].ndim, **more)
    for n, mask in enumerate(masks):
        image = np.zeros((1, *mask.shape), np.float32)
        training_set.add(f"{n}", image, mask, complete=complete)
    return training_set


@pytest.mark.parametrize(
    ("mask", "grain"), [(discs(9), 2), (discs(2), 1), (lines(8), 2), (lines(1.5), 1)]
)
def test_a_coarse_grid_is_taken_where_it_can_draw_the_masks(mask, grain):
    assert fit_grain(TrainConfig(), learn(mask)) == grain


def test_one_fine_class_or_many_fine_images_keep_the_fine_grid():
    both = discs(9)
    both[lines(1.5) > 0] = 2

    assert fit_grain(TrainConfig(), learn(both, classes=2)) == 1
    assert fit_grain(TrainConfig(), learn(discs(9), lines(1.5))) == 1


@pytest.mark.parametrize(("radius", "grain"), [(9, 2), (4, 1)])
def test_of_objects_their_insides_decide_and_not_their_thin_rims(radius, grain):
    objects, _ = ndimage.label(discs(radius))
    of_objects, _ = make_training_set([(as_image(np.zeros(objects.shape)), objects)], objects=True)

    assert of_objects.rims
    assert fit_grain(TrainConfig(), of_objects) == grain


def test_strokes_say_nothing_of_how_fine_things_are():
    strokes = np.zeros((300, 300), np.uint8)
    strokes[50, 20:90], strokes[80, 20:90] = 1, BACKGROUND

    assert fit_grain(TrainConfig(), learn(strokes, complete=False)) == 2


def test_thin_background_is_fine_as_well():
    """As membranes are where the cells between them are the class."""
    assert fit_grain(TrainConfig(), learn(1 - lines(1.5))) == 1
    assert fit_grain(TrainConfig(), learn(1 - lines(8))) == 2


@pytest.mark.parametrize("size", [255, 256, 257])
def test_odd_sizes_make_no_difference(size):
    assert fit_grain(TrainConfig(), learn(discs(9, size))) == 2


def test_what_is_fine_is_found_wherever_it_is():
    mask = np.zeros((64, 8192), np.uint8)
    mask[:, 5000:5200] = lines(1.5)[:64, :200]
    unpainted = np.zeros((3000, 3000), np.uint8)

    assert fit_grain(TrainConfig(), learn(mask)) == 1
    training_set = learn(mask)
    training_set.add("other", np.zeros((1, *unpainted.shape), np.float32))
    assert fit_grain(TrainConfig(), training_set) == 1


def test_a_mask_without_a_class_says_nothing_either():
    assert fit_grain(TrainConfig(), learn(np.zeros((64, 64), np.uint8))) == 2


def test_in_volumes_as_in_planes():
    thick, thin = np.zeros((2, 24, 60, 60), np.uint8)
    thick[5:19, 10:40, 10:50] = 1
    thin[:, ::7, ::7] = 1

    assert fit_grain(TrainConfig(), learn(thick)) == 2
    assert fit_grain(TrainConfig(), learn(thin)) == 1


def test_a_coarse_axis_has_no_part_in_it():
    slices = np.zeros((12, 96, 96), np.uint8)
    slices[4:6, 10:80, 10:80] = slices[8, 10:80, 10:80] = 1

    assert fit_grain(TrainConfig(), learn(slices)) == 1
    assert fit_grain(TrainConfig(), learn(slices, spacing=(4.0, 1.0, 1.0))) == 2


@pytest.mark.parametrize("arch", ["classic", "nested", "simple", "upsample"])
def test_published_networks_stay_as_they_are(arch):
    assert fit_grain(TrainConfig(arch=arch), learn(discs(9))) == 1


def test_one_halving_is_kept():
    assert fit_grain(TrainConfig(depth=1), learn(discs(9))) == 1
