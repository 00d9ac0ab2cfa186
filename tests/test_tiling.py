"""Tiles write every pixel once, see as far as the net needs, and fall where its poolings do."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.run import BadInput
from napari_unet.tiling import fit_edges, plan_tiles, spread_windows, widened, zeros


@st.composite
def plans(draw):
    """The arguments of a plan: shape, edge, halo and stride, in one to three dimensions."""
    ndim = draw(st.integers(1, 3))
    largest = {1: 200, 2: 60, 3: 24}[ndim]

    def per_axis(numbers) -> tuple[int, ...]:
        return tuple(draw(numbers) for _ in range(ndim))

    return (
        per_axis(st.integers(1, largest)),
        per_axis(st.integers(4, largest)),
        per_axis(st.integers(0, 20)),
        per_axis(st.sampled_from([1, 2, 4, 8, 16])),
    )


@settings(max_examples=150, deadline=None)
@given(plan=plans())
def test_every_pixel_is_written_once(plan):
    times = np.zeros(plan[0], int)
    for tile in plan_tiles(*plan):
        times[tile.write] += 1
    assert (times == 1).all()


@settings(max_examples=150, deadline=None)
@given(plan=plans())
def test_a_tile_reads_what_the_net_needs_to_see(plan):
    for tile in plan_tiles(*plan):
        for read, write, size, _, halo, stride in zip(tile.read, tile.write, *plan, strict=True):
            assert read.start % stride == 0
            assert read.stop % stride == 0 or read.stop == size
            assert 0 <= read.start <= max(0, write.start - halo)
            assert min(size, write.stop + halo) <= read.stop <= size


@settings(max_examples=150, deadline=None)
@given(plan=plans())
def test_tiles_are_no_larger_than_asked_but_for_the_stride(plan):
    for tile in plan_tiles(*plan):
        for read, write, _, edge, halo, stride in zip(tile.read, tile.write, *plan, strict=True):
            assert 0 < write.stop - write.start < edge + stride
            assert read.stop - read.start < edge + 2 * halo + 3 * stride


@settings(max_examples=50, deadline=None)
@given(plan=plans())
def test_the_inner_part_is_what_is_written(plan):
    image = np.arange(np.prod(plan[0])).reshape(plan[0])
    for tile in plan_tiles(*plan):
        assert np.array_equal(image[tile.read][tile.inner], image[tile.write])


@pytest.mark.parametrize("shape", [(200, 150), (97, 33)])
def test_a_pooling_net_does_not_notice_the_tiles(shape):
    def net(x: torch.Tensor) -> torch.Tensor:
        """Sees 1 pixel, pools by 4, sees 1 pooled pixel, and goes back: 9 pixels are enough."""
        small = F.avg_pool2d(F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1), 4, ceil_mode=True)
        blurred = F.max_pool2d(F.pad(small, (1, 1, 1, 1)), 3, 1)
        return F.interpolate(blurred, scale_factor=4)[..., : x.shape[-2], : x.shape[-1]]

    image = torch.rand((1, 1, *shape), generator=torch.Generator().manual_seed(0))
    joined = torch.zeros(image.shape)
    tiles = plan_tiles(shape, (32, 48), (9, 9), (4, 4))
    for tile in tiles:
        joined[(..., *tile.write)] = net(image[(..., *tile.read)])[(..., *tile.inner)]
    assert len(tiles) > 1
    torch.testing.assert_close(joined, net(image))


def test_an_image_smaller_than_a_tile_is_one_tile():
    (tile,) = plan_tiles((50, 60), (64, 64), (20, 20), (8, 8))
    assert tile.read == tile.write == tile.inner == (slice(0, 50), slice(0, 60))


def test_tiles_are_about_equal():
    sizes = [t.write[0].stop - t.write[0].start for t in plan_tiles((260,), (128,), (9,), (1,))]
    assert sizes == [87, 87, 86]


@pytest.mark.parametrize("focus", [(0, 0), (200, 310), (150, 20)])
def test_the_focus_comes_first(focus):
    arguments = (256, 320), (64, 64), (8, 8), (8, 8)
    tiles = plan_tiles(*arguments, focus)
    away = [
        max(abs((s.start + s.stop) / 2 - f) for s, f in zip(tile.write, focus, strict=True))
        for tile in tiles
    ]
    assert all(s.start <= f < s.stop for s, f in zip(tiles[0].write, focus, strict=True))
    assert (away[0], away[-1]) == (min(away), max(away))
    assert sorted(tiles, key=str) == sorted(plan_tiles(*arguments), key=str)


class TestSpreadWindows:
    @settings(max_examples=100, deadline=None)
    @given(
        shape=st.lists(st.integers(1, 300), min_size=1, max_size=3),
        edge=st.integers(1, 100),
        number=st.integers(1, 64),
    )
    def test_are_distinct_and_lie_within_the_image(self, shape, edge, number):
        windows = spread_windows(tuple(shape), edge, number)
        assert 1 <= len(windows) <= 4 * number
        assert len({tuple((s.start, s.stop) for s in w) for w in windows}) == len(windows)
        for window in windows:
            for s, n in zip(window, shape, strict=True):
                assert 0 <= s.start < s.stop <= n
                assert s.stop - s.start == min(edge, n)

    def test_reach_from_border_to_border(self):
        windows = spread_windows((400, 90), 50, 9)
        assert sorted({w[0].start for w in windows}) == [0, 175, 350]
        assert sorted({w[1].start for w in windows}) == [0, 20, 40]

    def test_keep_a_margin_where_asked_to(self):
        windows = spread_windows((400, 450), 50, 4, margin=0.125)
        assert sorted({w[0].start for w in windows}) == [43, 306]
        assert sorted({w[1].start for w in windows}) == [50, 350]


class TestFitEdges:
    def test_what_fits_is_not_cut(self):
        assert fit_edges((64, 256, 256), (107,) * 3, 64 * 256 * 256) == (64, 256, 256)

    @pytest.mark.parametrize("shape", [(5000, 5000), (300, 20000), (64, 300, 500), (7, 9)])
    def test_tiles_read_no_more_than_the_limit(self, shape):
        halo, limit = (20,) * len(shape), 400_000

        edges = fit_edges(shape, halo, limit)

        tiles = plan_tiles(shape, edges, halo, (1,) * len(shape))
        assert max(np.prod([s.stop - s.start for s in t.read]) for t in tiles) <= limit

    def test_a_limit_below_any_tile_ends_at_the_smallest(self):
        assert max(fit_edges((500, 500), (100, 100), 10)) <= 32


def test_without_room_for_a_large_result_that_is_said(monkeypatch):
    room = SimpleNamespace(free=2**30)
    monkeypatch.setattr("napari_unet.tiling.shutil.disk_usage", lambda _folder: room)

    with pytest.raises(BadInput, match=r"needs 2\.0 GiB in .*, which has less room; make some, or"):
        zeros((2**31,), np.uint8)


def test_several_large_results_do_not_share_the_same_room(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr("napari_unet.tiling.os.posix_fallocate", full, raising=False)

    with pytest.raises(BadInput, match=r"needs 2\.0 GiB in .*, which has less room; make some, or"):
        zeros((2**31,), np.uint8)


def test_a_widened_region_stays_in_the_image_and_in_its_plane():
    region = (slice(2, 3), slice(5, 20), slice(30, 38))

    wide = widened(region, (9, 64, 40), (7, 7), (4, 4))

    assert wide == (slice(2, 3), slice(0, 28), slice(20, 40))
