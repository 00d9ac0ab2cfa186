"""Intensities: percentiles to -1 and 1, whatever the unit, from samples of a large image."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from napari_unet.normalise import SAMPLE_PIXELS, Stats, measure, outside, spread_sample


def ramp(size: int = 64) -> np.ndarray:
    return np.linspace(0, 1, size * size).reshape(1, size, size)


class TestMeasure:
    def test_takes_percentiles_of_each_channel(self):
        image = np.concatenate([ramp(), 100 + 50 * ramp()])
        stats = measure(image)
        assert stats.low == pytest.approx((0.01, 100.5))
        assert stats.high == pytest.approx((0.99, 149.5))

    def test_takes_other_percentiles(self):
        stats = measure(ramp(), 10, 60)
        assert (stats.low, stats.high) == (pytest.approx((0.1,)), pytest.approx((0.6,)))

    def test_a_few_hot_pixels_do_not_matter(self):
        image = ramp()
        image[0, 5, 5] = 1e9
        assert measure(image).high == pytest.approx((0.99,), abs=1e-3)

    def test_what_is_not_finite_does_not_count(self):
        image = np.concatenate([ramp()] * 3)
        image[0, ::2], image[1, ::3], image[2, ::4] = np.nan, np.inf, -np.inf
        stats = measure(image)
        assert np.isfinite([*stats.low, *stats.high]).all()
        assert stats.low[0] == pytest.approx(0.03, abs=0.03)
        assert stats.high[1] == pytest.approx(0.99, abs=0.03)

    def test_an_image_of_nothing_but_nan_is_measured_all_the_same(self):
        stats = measure(np.full((1, 8, 8), np.nan))
        assert np.array_equal(stats.apply(np.full((1, 8, 8), np.nan)), np.full((1, 8, 8), -1))


class TestApply:
    def test_low_becomes_minus_one_and_high_one_in_each_channel(self):
        stats = Stats(low=(10, 200), high=(20, 400))
        pixels = np.array([[[10, 15, 20]], [[200, 300, 400]]])
        assert stats.apply(pixels).tolist() == [[[-1, 0, 1]], [[-1, 0, 1]]]

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
    def test_any_kind_of_number_spans_the_same_range(self, dtype):
        top = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1
        image = (ramp() * top).astype(dtype)
        out = measure(image).apply(image)
        assert out.dtype == np.float32
        assert np.percentile(out, [1, 50, 99]) == pytest.approx([-1, 0, 1], abs=0.02)

    @pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e6])
    def test_the_unit_of_the_intensities_does_not_matter(self, unit):
        image = ramp() * unit
        assert measure(image).apply(image) == pytest.approx(measure(ramp()).apply(ramp()), abs=1e-5)

    @pytest.mark.parametrize("value", [0, 7, -3.5, 60000])
    def test_a_constant_image_is_constant(self, value):
        image = np.full((1, 9, 9), value, np.float64)
        assert np.array_equal(measure(image).apply(image), np.full((1, 9, 9), -1))

    def test_a_few_spots_on_nothing_keep_their_brightness(self):
        image = np.zeros((1, 40, 40), np.uint8)
        image[0, 3, :8] = [10, 50, 90, 130, 170, 210, 250, 255]

        out = measure(image).apply(image)

        assert out[0, 0, 0] == -1
        assert (np.diff(out[0, 3, :8]) > 0).all()

    def test_a_hot_pixel_does_not_hide_the_spots(self):
        image = np.zeros((1, 400, 400), np.uint16)
        image[0, 3, :300], image[0, 9, 9] = 200, 65535

        out = measure(image).apply(image)

        assert out[0, 3, 0] - out[0, 0, 0] > 1

    def test_extremes_are_cut_off_and_what_is_not_finite_filled(self):
        stats = Stats(low=(0,), high=(1,))
        out = stats.apply(np.array([[[1e9, -1e9, np.nan, np.inf, -np.inf]]]))
        assert out.tolist() == [[[4, -4, -1, 1, -1]]]

    def test_leaves_its_input_alone(self):
        image = ramp().astype(np.float32)
        before = image.copy()
        measure(image).apply(image)
        assert np.array_equal(image, before)

    def test_volumes_work_too(self):
        volume = np.stack([ramp(8)[0]] * 3)[None]
        assert measure(volume).apply(volume).shape == (1, 3, 8, 8)


class TestLargeImages:
    def lazy(self, shape: tuple[int, ...], chunk: int) -> tuple[da.Array, list[int]]:
        read: list[int] = []

        def make(block_info) -> np.ndarray:
            where = block_info[None]["array-location"]
            read.append(int(np.prod(block_info[None]["chunk-shape"])))
            axis = np.arange(*where[-1]) / shape[-1]
            return np.broadcast_to(axis, block_info[None]["chunk-shape"]).copy()

        chunks = da.core.normalize_chunks((shape[0],) + (chunk,) * (len(shape) - 1), shape)
        return da.map_blocks(make, chunks=chunks, dtype=float, meta=np.empty(())), read

    @pytest.mark.parametrize(
        ("shape", "chunk"), [((1, 40_000, 30_000), 250), ((2, 500, 900, 1200), 50)]
    )
    def test_only_samples_are_read(self, shape, chunk):
        image, read = self.lazy(shape, chunk)
        read.clear()
        stats = measure(image)
        assert 0 < sum(read) < np.prod(shape) / 25
        assert stats.low == pytest.approx((0.01,) * shape[0], abs=0.02)
        assert stats.high == pytest.approx((0.99,) * shape[0], abs=0.02)

    def test_the_sample_is_bounded(self):
        image = np.broadcast_to(np.uint8(3), (2, 5000, 4000))
        assert spread_sample(image).shape[0] == 2
        assert spread_sample(image).shape[1] <= SAMPLE_PIXELS

    def test_a_small_image_is_taken_whole(self):
        image = np.arange(24).reshape(2, 3, 4)
        assert np.array_equal(spread_sample(image), image.reshape(2, 12))

    def test_a_narrow_image_is_sampled_along_its_length(self):
        image = np.broadcast_to(np.arange(900_000), (1, 2, 900_000))
        stats = measure(image)
        assert stats.low[0] < 0.05 * 900_000
        assert stats.high[0] > 0.95 * 900_000


class TestOutside:
    seen = (Stats(low=(0,), high=(100,)), Stats(low=(20,), high=(200,)))

    @pytest.mark.parametrize(("low", "high"), [(0, 200), (10, 90), (-100, 400)])
    def test_what_resembles_the_training_images_is_inside(self, low, high):
        assert not outside(Stats(low=(low,), high=(high,)), list(self.seen))

    @pytest.mark.parametrize(("low", "high"), [(0, 60_000), (-5000, 100), (0, 1), (50, 50)])
    def test_what_is_far_brighter_darker_or_flatter_is_outside(self, low, high):
        assert outside(Stats(low=(low,), high=(high,)), list(self.seen))

    def test_nothing_is_outside_when_nothing_was_seen(self):
        assert not outside(Stats(low=(0,), high=(1e9,)), [])
