"""Pictures: any layout read as channels first, pyramids, and what a view reads of them."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_unet.normalise import measure
from napari_unet.pictures import Picture, View, as_rgb, channels_first

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (3, 20, 24), np.uint8)
OTHER = RNG.integers(0, 60000, (3, 20, 24), np.uint16)
COLOR = RNG.integers(0, 255, (3, 20, 24, 4), np.uint8)

REGIONS = [
    (slice(None),),
    (slice(None), slice(1, 2), slice(3, 17), slice(0, 24, 5)),
    (slice(None), 1),
    (slice(0, 1), 2, slice(4, 9)),
    (0, 1, slice(0, 7)),
]


def as_numpy(array: np.ndarray) -> Any:
    return array


def as_dask(array: np.ndarray) -> Any:
    return da.from_array(array, chunks=7)


def as_zarr(array: np.ndarray) -> Any:
    made = zarr.create_array(
        zarr.storage.MemoryStore(), shape=array.shape, dtype=array.dtype, chunks=(2,) * array.ndim
    )
    made[...] = array
    return made


KINDS = pytest.mark.parametrize("kind", [as_numpy, as_dask, as_zarr])


class Reads:
    """A lazy array that remembers what was read of it."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.reads: list[Any] = []

    def __getitem__(self, key: Any) -> np.ndarray:
        self.reads.append(key)
        return self._array[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[...]


def agrees(read: Any, expected: np.ndarray) -> bool:
    """Whether shape, type, regions and the whole are those of an array."""
    regions = all(np.array_equal(np.asarray(read[r]), expected[r]) for r in REGIONS)
    same = tuple(read.shape) == expected.shape and read.dtype == expected.dtype
    return regions and same and np.array_equal(np.asarray(read), expected)


class TestChannelsFirst:
    @KINDS
    def test_one_grey_image(self, kind):
        assert agrees(channels_first([kind(GREY)]), np.stack([GREY]))

    @KINDS
    def test_colours_at_the_end(self, kind):
        read = channels_first([kind(COLOR[..., :3])], rgb=True)

        assert agrees(read, np.moveaxis(COLOR[..., :3], -1, 0))

    @KINDS
    def test_opacity_is_no_channel(self, kind):
        read = channels_first([kind(COLOR)], rgb=True)

        assert agrees(read, np.moveaxis(COLOR[..., :3], -1, 0))

    @KINDS
    def test_several_images_are_channels_of_their_common_type(self, kind):
        read = channels_first([kind(GREY), kind(OTHER), kind(GREY + 1)])

        assert agrees(read, np.stack([GREY, OTHER, GREY + 1]))

    @KINDS
    def test_the_first_axis_may_be_the_channels(self, kind):
        read = channels_first([kind(np.stack([OTHER, OTHER]))], leading=True)

        assert agrees(read, np.stack([OTHER, OTHER]))

    def test_an_image_in_memory_is_not_copied(self):
        assert np.shares_memory(channels_first([GREY]), GREY)
        assert np.shares_memory(channels_first([COLOR], rgb=True), COLOR)

    def test_no_more_is_read_than_asked_for(self):
        lazy = [Reads(GREY), Reads(OTHER)]

        read = channels_first(lazy)
        before = [list(part.reads) for part in lazy]
        read[1, 2, slice(4, 9)]

        assert before == [[], []]
        assert lazy[0].reads == []
        assert lazy[1].reads == [(2, slice(4, 9))]


class TestPicture:
    def test_knows_its_shape_without_channels(self):
        picture = Picture("p", channels_first([COLOR], rgb=True))

        assert (picture.shape, picture.n_channels) == ((3, 20, 24), 3)

    def test_measures_the_whole_once(self):
        lazy = Reads(np.stack([GREY, GREY + 3]))
        picture = Picture("p", lazy)

        found = [picture.stats, picture.stats]

        assert found[0] is found[1]
        assert found[0] == measure(np.stack([GREY, GREY + 3]))
        assert len(lazy.reads) == 1

    @KINDS
    def test_reads_every_so_many_th_pixel(self, kind):
        picture = Picture("p", channels_first([kind(GREY)]))

        read = picture.read((slice(1, 2), slice(4, 20), slice(3, 24)), (1, 4, 3))

        assert np.array_equal(read, GREY[None, 1:2, 4:20:4, 3:24:3])

    def test_reads_from_the_level_of_a_pyramid_that_fits(self):
        halves, quarters = GREY[None, :, ::2, ::2] + 1, GREY[None, :, ::4, ::4] + 2
        picture = Picture("p", GREY[None], coarser=(halves, quarters))
        region = (slice(2, 3), slice(4, 16), slice(8, 24))

        by_two, by_four = picture.read(region, (1, 2, 2)), picture.read(region, (1, 4, 4))

        assert np.array_equal(by_two, halves[:, 2:3, 2:8, 4:12])
        assert np.array_equal(by_four, quarters[:, 2:3, 1:4, 2:6])

    def test_reads_the_finest_where_no_level_fits(self):
        picture = Picture("p", GREY[None], coarser=(np.zeros((1, 3, 10, 12), np.uint8),))
        region = (slice(0, 1), slice(0, 20), slice(0, 24))

        assert np.array_equal(picture.read(region, (1, 1, 1)), GREY[None, :1])
        assert np.array_equal(picture.read(region, (1, 4, 4)), GREY[None, :1, ::4, ::4])

    @pytest.mark.parametrize("rounded", [50, 51])
    def test_a_level_may_have_been_rounded_up_or_down(self, rounded):
        level = np.arange(rounded * rounded).reshape(1, rounded, rounded)
        picture = Picture("p", np.zeros((1, 101, 101)), coarser=(level,))

        read = picture.read((slice(90, 101), slice(0, 101)), (2, 2))

        assert np.array_equal(read, level[:, 45:51])


def view_of(*shape: int, region: Any, shown: tuple[int, int] = (-2, -1), step: int = 1) -> View:
    pixels = np.arange(np.prod(shape)).reshape(1, *shape)
    axes = tuple(a % len(shape) for a in shown)
    return View(Picture("p", pixels), tuple(slice(*r) for r in region), axes, step)


class TestView:
    def test_what_shows_the_same_has_the_same_key(self):
        view = view_of(40, 50, region=[(0, 8), (4, 12)])
        again = View(view.picture, view.region, view.shown)
        others = [
            View(view.picture, (slice(0, 8), slice(5, 12)), view.shown),
            View(view.picture, view.region, view.shown, step=2),
            View(Picture("p", view.picture.pixels), view.region, view.shown),
        ]

        assert again.key == view.key
        assert all(other.key != view.key for other in others)

    def test_counts_the_pixels_of_its_plane(self):
        view = view_of(9, 40, 50, region=[(3, 4), (0, 40), (10, 50)])

        assert view.pixels == 1600
        assert View(view.picture, view.region, view.shown, step=4).pixels == 100

    @pytest.mark.parametrize("step", [1, 4])
    def test_within_is_its_middle(self, step):
        view = view_of(3, 400, 800, region=[(1, 2), (0, 400), (200, 800)], step=step)

        less = view.within(view.pixels // 4)

        assert 0.8 * view.pixels // 4 < less.pixels <= view.pixels // 4
        assert less.region[0] == slice(1, 2)
        middles = [(r.start + r.stop) / 2 for r in less.region[1:]]
        assert np.allclose(middles, (200, 500), atol=step)
        assert all(r.start % step == 0 for r in less.region[1:])

    def test_within_enough_is_the_view_itself(self):
        view = view_of(40, 50, region=[(0, 40), (0, 50)])

        assert view.within(2000) is view

    def test_within_keeps_something_of_a_sliver(self):
        view = view_of(2, 4000, region=[(0, 2), (0, 4000)], step=2)

        less = view.within(100)

        assert less.region[0] == slice(0, 2)
        assert 0 < less.pixels < view.pixels // 4


class TestCrop:
    def test_holds_the_view_and_its_surroundings(self):
        view = view_of(100, 120, region=[(40, 50), (61, 80)])
        whole = view.picture.pixels

        pixels, inner = view.crop((9, 7), (4, 2))

        assert np.array_equal(pixels[(slice(None), *inner)], whole[:, 40:50, 61:80])
        assert inner[0].start >= 9
        assert inner[1].start >= 7
        assert pixels.shape[1] - inner[0].stop >= 9
        assert pixels.shape[2] - inner[1].stop >= 7

    def test_begins_where_the_poolings_of_the_whole_do(self):
        view = view_of(100, 120, region=[(41, 50), (62, 80)])

        pixels, _ = view.crop((9, 9), (8, 4))

        y, x = np.argwhere(view.picture.pixels[0] == pixels[0, 0, 0])[0]
        assert (y % 8, x % 4) == (0, 0)

    def test_ends_at_the_borders(self):
        view = view_of(30, 33, region=[(0, 30), (0, 33)])

        pixels, inner = view.crop((9, 9), (4, 4))

        assert np.array_equal(pixels, view.picture.pixels)
        assert inner == (slice(0, 30), slice(0, 33))

    def test_of_a_stack_is_a_plane(self):
        view = view_of(2, 3, 30, 40, region=[(1, 2), (2, 3), (10, 20), (10, 20)])

        pixels, inner = view.crop((4, 4), (2, 2))

        assert pixels.shape == (1, 18, 18)
        assert np.array_equal(pixels[(0, *inner)], view.picture.pixels[0, 1, 2, 10:20, 10:20])

    def test_of_a_volume_has_the_planes_around(self):
        view = view_of(2, 30, 30, 40, region=[(1, 2), (12, 13), (10, 20), (10, 20)])

        pixels, inner = view.crop((4, 2, 2), (2, 2, 2))

        assert pixels.shape == (1, 10, 14, 14)
        assert np.array_equal(pixels[(0, *inner)], view.picture.pixels[0, 1, 12:13, 10:20, 10:20])

    def test_counts_in_steps_along_the_axes_on_the_screen(self):
        view = view_of(9, 101, 103, region=[(4, 5), (40, 60), (40, 103)], step=4)

        pixels, inner = view.crop((3, 5, 5), (1, 2, 2))

        expected = view.picture.pixels[:, 4:5, 40:60:4, 40:103:4]
        assert np.array_equal(pixels[(slice(None), *inner)], expected)
        assert pixels.shape == (1, 7, 16, 22)


def test_a_photograph_is_drawn_in_its_own_colours():
    purple = np.broadcast_to(np.array([160, 120, 200], np.uint8)[:, None, None], (3, 4, 5))

    assert np.array_equal(as_rgb(purple, measure(purple))[0, 0], [160, 120, 200])
