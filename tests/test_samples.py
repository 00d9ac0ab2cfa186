"""Made-up microscope pictures with true masks."""

import numpy as np
import pytest

from napari_unet.samples import SAMPLES, cells, tissue, volume


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_seed_makes_one_picture(name):
    first, again, other = SAMPLES[name](3), SAMPLES[name](3), SAMPLES[name](4)

    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize(
    ("sample", "shape", "dtype", "classes"),
    [
        (cells(0, 128), (128, 128), np.uint8, [0, 1]),
        (tissue(0, 192), (192, 192, 3), np.uint8, [0, 1, 2]),
        (volume(0, (12, 64, 48)), (12, 64, 48), np.uint16, [0, 1]),
    ],
)
def test_shapes_types_and_classes(sample, shape, dtype, classes):
    image, mask = sample

    assert (image.shape, image.dtype) == (shape, dtype)
    assert (mask.shape, mask.dtype) == (shape[: mask.ndim], np.uint8)
    assert np.unique(mask).tolist() == classes


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("seed", range(4))
def test_every_class_covers_a_fair_part(name, seed):
    mask = SAMPLES[name](seed)[1]

    shares = np.bincount(mask.ravel()) / mask.size

    assert shares.min() > 0.03


@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_solves_the_cells(seed):
    image, mask = cells(seed)

    best = max(dice(image > t, mask == 1) for t in range(5, 250, 5))

    assert 0.4 < best < 0.8


def test_objects_are_brighter_than_what_surrounds_them():
    for image, mask in (cells(1), volume(1)):
        assert image[mask == 1].mean() > 1.5 * image[mask == 0].mean()
