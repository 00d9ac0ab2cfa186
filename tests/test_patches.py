"""Patches: right at every border, never from what is held out, from the neglected more often."""

from __future__ import annotations

import json
from collections import Counter

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet import patches
from napari_unet.annotation import BLOCK, Item, TrainingSet
from napari_unet.config import BACKGROUND, class_table
from napari_unet.holdout import BUFFER, HELD, TRAIN, HoldOut
from napari_unet.patches import BlockCache, Sampler, Spot, cut, gather, item_stats, mirror


def make_set(*shapes: tuple[int, ...], classes: int = 2) -> TrainingSet:
    rng = np.random.default_rng(0)
    training_set = TrainingSet(class_table(classes), len(shapes[0]))
    for number, shape in enumerate(shapes):
        training_set.add(f"image {number}", rng.random((1, *shape)))
    return training_set


def complete(training_set: TrainingSet) -> None:
    """What is not labelled in the first image is background."""
    values = training_set.items[0].annotation
    whole = tuple(slice(0, n) for n in values.shape)
    training_set.paint("image 0", whole, np.where(values == 0, BACKGROUND, values))


def square(y: int, x: int, edge: int) -> tuple[slice, slice]:
    return slice(y, y + edge), slice(x, x + edge)


def make_sampler(training_set: TrainingSet, share: float = 0, seed: int = 0) -> Sampler:
    sampler = Sampler(training_set, HoldOut(share, (16,) * training_set.ndim, 0), seed)
    sampler.refresh(0)
    return sampler


def places(spots: list[Spot]) -> list[tuple[str, tuple[int, ...]]]:
    return [(s.item.name, s.centre) for s in spots]


class TestMirror:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            (1, [0] * 9),
            (2, [0, 1, 0, 1, 0, 1, 0, 1, 0]),
            (3, [0, 1, 2, 1, 0, 1, 2, 1, 0]),
            (9, [4, 3, 2, 1, 0, 1, 2, 3, 4]),
        ],
    )
    def test_folds_at_both_edges(self, size, expected):
        assert mirror(np.arange(-4, 5), size).tolist() == expected

    @given(size=st.integers(2, 20), before=st.integers(0, 60), after=st.integers(0, 60))
    def test_equals_padding_by_reflection(self, size, before, after):
        padded = np.pad(np.arange(size), (before, after), "reflect")
        assert np.array_equal(mirror(np.arange(-before, size + after), size), padded)


class TestGather:
    @settings(max_examples=60, deadline=None)
    @given(
        shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
        start=st.tuples(st.integers(-12, 12), st.integers(-12, 12)),
        edge=st.integers(1, 12),
    )
    def test_equals_indexing_pixel_by_pixel(self, shape, start, edge):
        image = np.arange(2 * np.prod(shape)).reshape(2, *shape)
        wanted = [np.arange(s, s + edge) for s in start]
        expected = image[:, *np.ix_(*(mirror(w, n) for w, n in zip(wanted, shape, strict=True)))]
        assert np.array_equal(gather(image, wanted), expected)

    def test_gives_a_copy(self):
        image = np.zeros((1, 8, 8))
        gather(image, [np.arange(2, 5)] * 2)[:] = 1
        assert not image.any()

    def test_takes_arrays_without_channels(self):
        annotation = np.arange(12).reshape(3, 4)
        assert gather(annotation, [np.arange(-1, 2), np.arange(2, 4)]).tolist() == [
            [6, 7],
            [2, 3],
            [6, 7],
        ]


class TestCut:
    def test_centre_lies_in_the_middle(self):
        training_set = make_set((40, 50))
        training_set.paint("image 0", square(17, 23, 1), 1)
        (item,) = training_set.items
        for shape in ((8, 12), (9, 13)):
            crops = cut([Spot(item, (17, 23), 0)], shape)
            assert np.argwhere(crops.labels[0]).tolist() == [[shape[0] // 2, shape[1] // 2]]
            assert crops.images.shape == (1, 1, *shape)

    def test_images_are_normalised_by_the_whole_image(self):
        training_set = make_set((40, 50))
        (item,) = training_set.items
        crops = cut([Spot(item, (20, 20), 0)], (8, 8))
        expected = item_stats(item).apply(item.image)[:, 16:24, 16:24]
        assert np.array_equal(crops.images[0], expected)

    @pytest.mark.parametrize("centre", [(0, 0), (39, 49), (0, 30)])
    def test_what_lies_outside_the_image_is_mirrored_but_not_labelled(self, centre):
        training_set = make_set((40, 50))
        complete(training_set)
        (item,) = training_set.items
        crops = cut([Spot(item, centre, 0)], (20, 20))
        inside = [
            (np.arange(c - 10, c + 10) >= 0) & (np.arange(c - 10, c + 10) < n)
            for c, n in zip(centre, (40, 50), strict=True)
        ]
        assert np.array_equal(crops.labels[0] == BACKGROUND, np.outer(*inside))
        assert np.isfinite(crops.images).all()
        assert item.annotation.all()

    def test_an_image_of_one_pixel_fills_the_crop(self):
        training_set = make_set((1, 1))
        training_set.paint("image 0", square(0, 0, 1), 1)
        (item,) = training_set.items
        crops = cut([Spot(item, (0, 0), 0)], (6, 6))
        assert len(np.unique(crops.images)) == 1
        assert np.argwhere(crops.labels[0]).tolist() == [[3, 3]]

    @pytest.mark.parametrize("role", [HELD, BUFFER])
    @pytest.mark.parametrize("ndim", [2, 3])
    def test_what_is_kept_from_training_is_not_labelled(self, role, ndim):
        training_set = make_set((64,) * ndim)
        complete(training_set)
        holdout, edge = HoldOut(0.2, (8,) * ndim, 0), BLOCK[ndim]
        holdout.roles["image 0"] = np.full((64 // edge,) * ndim, TRAIN, np.uint8)
        holdout.roles["image 0"][(1,) * ndim] = role
        (item,) = training_set.items
        # Two blocks wide: it reaches beyond the image by mirroring, where nothing is labelled.
        spot = Spot(item, (edge,) * ndim, 0)
        labels = cut([spot], (2 * edge,) * ndim, lambda i: holdout.roles[i.name] != TRAIN).labels[0]
        kept = np.zeros(labels.shape, bool)
        kept[(slice(edge, None),) * ndim] = True
        assert np.array_equal(labels == 0, kept)

    def test_weights_come_along_and_are_one_where_an_image_has_none(self):
        rng = np.random.default_rng(0)
        training_set = TrainingSet(class_table(1))
        weights = rng.random((30, 30)).astype(np.float32)
        training_set.add("with", rng.random((1, 30, 30)), weights=weights)
        training_set.add("without", rng.random((1, 30, 30)))
        spots = [Spot(item, (15, 15), 0) for item in training_set.items]
        crops = cut(spots, (8, 8))
        assert np.array_equal(crops.weights[0], weights[11:19, 11:19])
        assert (crops.weights[1] == 1).all()
        assert cut(spots[1:], (8, 8)).weights is None

    @pytest.mark.parametrize("shape", [(300, 530), (70, 40, 130)])
    def test_lazy_images_give_the_same_crops(self, shape):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 60_000, (2, *shape)).astype(np.uint16)
        plain, lazy = (TrainingSet(class_table(1), len(shape)) for _ in range(2))
        plain.add("a", image)
        lazy.add("a", da.from_array(image, chunks=(1, *(37,) * len(shape))))
        for centre in (rng.integers(0, shape) for _ in range(8)):
            first, second = (
                cut([Spot(s.items[0], tuple(centre), 0)], (48,) * len(shape)) for s in (plain, lazy)
            )
            assert np.array_equal(first.images, second.images)


class _Counted:
    """A lazy image that counts the pixels read from it."""

    def __init__(self, image: np.ndarray) -> None:
        self.image, self.shape, self.read = image, image.shape, 0

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        part = self.image[region]
        self.read += part.size
        return part


class TestBlockCache:
    image = np.random.default_rng(0).random((2, 700, 600)).astype(np.float32)

    def test_gives_any_region_of_the_image(self):
        cache = BlockCache(self.image)
        for y, x in ((0, 0), (250, 250), (600, 550), (255, 511)):
            region = (slice(None), *square(y, x, 50))
            assert np.array_equal(cache[region], self.image[region])

    def test_reads_a_block_once(self):
        image = _Counted(self.image)
        cache = BlockCache(image)
        for _ in range(5):
            cache[(slice(None), *square(20, 20, 100))]
        assert image.read == 2 * 256 * 256

    def test_keeps_no_more_than_its_bytes_and_those_used_last(self, monkeypatch):
        block = 2 * 256 * 256 * 4
        monkeypatch.setattr(patches, "CACHE_BYTES", 2 * block)
        image = _Counted(self.image)
        cache = BlockCache(image)
        first, second, third = (
            (slice(None), *square(y, x, 9)) for y, x in ((0, 0), (0, 256), (256, 0))
        )
        cache[first], cache[second], cache[first], cache[third]
        before = image.read
        cache[first], cache[third]
        assert image.read == before
        cache[second]
        assert image.read == before + block // 4

    def test_leaves_its_room_to_others_when_it_is_done_with(self):
        images = [_Counted(self.image), _Counted(self.image)]
        caches = [BlockCache(image) for image in images]
        for cache in caches:
            cache[(slice(None), *square(0, 0, 9))]
        before = [image.read for image in images]
        caches[0].forget()
        for cache in caches:
            cache[(slice(None), *square(0, 0, 9))]
        assert [image.read for image in images] == [2 * before[0], before[1]]

    def test_does_not_hold_on_to_what_it_dropped(self, monkeypatch):
        monkeypatch.setattr(patches, "CACHE_BYTES", 1)
        image = _Counted(self.image)
        cache = BlockCache(image)
        for _ in range(3):
            cache[(slice(None), slice(0, 700), slice(0, 600))]
        assert image.read == 3 * self.image.size


class TestDraws:
    def test_only_labelled_pixels_within_the_jitter(self):
        training_set = make_set((200, 300))
        training_set.paint("image 0", square(40, 100, 9), 1)
        training_set.paint("image 0", square(150, 290, 10), BACKGROUND)
        sampler = make_sampler(training_set)
        (item,) = training_set.items
        for spot in sampler.draw(200, (5, 3)):
            y, x = spot.centre
            near = item.annotation[max(0, y - 5) : y + 6, max(0, x - 3) : x + 4]
            assert near.any()
            assert 0 <= y < 200
            assert 0 <= x < 300

    def test_name_the_block_that_they_come_from(self):
        training_set = make_set((200, 300))
        training_set.paint("image 0", square(0, 0, 150), 1)
        sampler = make_sampler(training_set)
        for spot in sampler.draw(50, (0, 0)):
            block = np.array(spot.centre) // 32
            assert spot.block == np.ravel_multi_index(block, spot.item.touched.shape)

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_nothing_that_is_kept_from_training(self, ndim):
        training_set = make_set((300, 300) if ndim == 2 else (100, 100, 100))
        complete(training_set)
        sampler = make_sampler(training_set, share=0.3)
        (item,) = training_set.items
        roles = sampler.holdout.roles["image 0"]
        assert (roles == HELD).any()
        for spot in sampler.draw(300, (0,) * ndim):
            assert roles.reshape(-1)[spot.block] == TRAIN
            assert roles[tuple(c // BLOCK[item.annotation.ndim] for c in spot.centre)] == TRAIN

    def test_a_rare_class_more_often_than_its_share(self):
        training_set = make_set((320, 320))
        training_set.paint("image 0", square(0, 0, 10), 1)
        complete(training_set)
        (item,) = training_set.items
        spots = make_sampler(training_set).draw(300, (0, 0))
        found = Counter(int(item.annotation[spot.centre]) for spot in spots)
        assert found.keys() == {1, BACKGROUND}
        assert found[1] > 300 * 0.1
        assert found[BACKGROUND] > found[1]

    def test_every_image_at_least_sometimes(self):
        training_set = make_set((500, 500), *[(40, 40)] * 3)
        complete(training_set)
        for number in (1, 2, 3):
            training_set.paint(f"image {number}", square(0, 0, 2), BACKGROUND)
        training_set.add("unlabelled", np.zeros((1, 40, 40)))
        found = Counter(s.item.name for s in make_sampler(training_set).draw(400, (4, 4)))
        assert set(found) == {f"image {number}" for number in range(4)}
        assert min(found.values()) > 15
        assert found["image 0"] == max(found.values())

    def test_what_was_painted_last_more_often(self):
        training_set = make_set((320, 320))
        training_set.paint("image 0", (slice(0, 320), slice(0, 160)), 1)
        sampler = make_sampler(training_set)
        training_set.paint("image 0", (slice(0, 320), slice(160, 320)), 1)

        def share(step: int) -> float:
            sampler.refresh(step)
            return float(np.mean([s.centre[1] >= 160 for s in sampler.draw(400, (0, 0))]))

        assert share(50) > 0.65
        assert share(5000) == pytest.approx(0.5, abs=0.1)

    def test_what_is_predicted_badly_more_often(self):
        training_set = make_set((64, 320))
        training_set.paint("image 0", (slice(0, 64), slice(0, 320)), 1)
        sampler = make_sampler(training_set)
        for step in range(0, 400, 20):
            spots = sampler.draw(20, (0, 0))
            errors = np.array([0.9 if spot.centre[1] < 160 else 0.1 for spot in spots])
            sampler.feedback(spots, errors)
            sampler.refresh(step)
        sampler.refresh(1000)
        left = np.mean([spot.centre[1] < 160 for spot in sampler.draw(400, (0, 0))])
        assert 0.6 < left < 0.9

    def test_feedback_without_any_error_is_taken(self):
        training_set = make_set((64, 64))
        complete(training_set)
        sampler = make_sampler(training_set)
        sampler.feedback(sampler.draw(4, (0, 0)), np.zeros(4))
        sampler.refresh(100)
        assert len(sampler.draw(4, (0, 0))) == 4

    def test_where_nothing_was_looked_at_the_odds_stay(self):
        drawn = []
        for errors in (None, [np.nan, np.nan, np.nan, np.nan], [1.0, np.nan, np.nan, np.nan]):
            training_set = make_set((64, 320))
            complete(training_set)
            sampler = make_sampler(training_set)
            for step in range(0, 400, 20):
                spots = sampler.draw(4, (0, 0))
                if errors is not None:
                    sampler.feedback(spots, np.array(errors))
                sampler.refresh(step)
            drawn.append(places(sampler.draw(40, (0, 0))))
        assert drawn[0] == drawn[1] == drawn[2], "one alone is neither worse nor better"

    def test_equal_seeds_draw_alike_and_others_do_not(self):
        training_set = make_set((320, 320))
        complete(training_set)
        first, again, other = (
            places(make_sampler(training_set, seed=seed).draw(20, (5, 5))) for seed in (1, 1, 2)
        )
        assert first == again != other


class TestLiveAnnotation:
    def test_nothing_is_drawn_from_before_anything_is_labelled(self):
        training_set = make_set((64, 64))
        sampler = make_sampler(training_set)
        assert sampler.empty
        training_set.paint("image 0", square(0, 0, 5), 2)
        assert sampler.refresh(1)
        assert not sampler.empty
        assert not sampler.refresh(2)

    def test_a_set_without_images_is_empty(self):
        assert make_sampler(TrainingSet(class_table(1))).empty

    def test_erasing_everything_just_before_a_draw_does_no_harm(self):
        training_set = make_set((64, 64))
        training_set.paint("image 0", square(40, 40, 5), 1)
        sampler = make_sampler(training_set)
        training_set.paint("image 0", square(0, 0, 64), 0)
        for spot in sampler.draw(10, (0, 0)):
            assert min(spot.centre) >= 32
        sampler.refresh(1)
        assert sampler.empty

    def test_an_image_may_go_and_another_come_under_its_name(self):
        training_set = make_set((320, 320), (64, 64))
        complete(training_set)
        sampler = make_sampler(training_set)
        sampler.feedback(sampler.draw(8, (0, 0)), np.ones(8))
        training_set.remove("image 0")
        training_set.add("image 0", np.zeros((1, 40, 40)), np.ones((40, 40), np.uint8))
        sampler.refresh(100)
        for spot in sampler.draw(20, (0, 0)):
            assert max(spot.centre) < 40


class TestCheckpoint:
    def go_on(self, sampler: Sampler, training_set: TrainingSet) -> list:
        """Some steps as training takes them, with a stroke in between."""
        out = []
        for step in range(30, 90):
            if step == 50:
                training_set.paint("image 1", square(0, 0, 60), 2)
            sampler.refresh(step)
            spots = sampler.draw(3, (4, 4))
            out.append(places(spots))
            errors = np.array([s.centre[0] % 7 + 1.0 for s in spots])
            sampler.feedback(spots, errors)
        return out

    def begin(self) -> tuple[TrainingSet, Sampler]:
        training_set = make_set((320, 320), (128, 128))
        training_set.paint("image 0", square(0, 0, 200), 1)
        complete(training_set)
        return training_set, make_sampler(training_set, share=0.2, seed=5)

    def test_what_follows_is_as_if_never_interrupted(self):
        training_set, sampler = self.begin()
        for step in range(30):
            sampler.refresh(step)
            spots = sampler.draw(3, (4, 4))
            sampler.feedback(spots, np.arange(1.0, 4))
        kept = json.loads(json.dumps([sampler.state(), sampler.holdout.state()]))
        expected = self.go_on(sampler, training_set)

        training_set, restored = self.begin()
        restored.holdout.restore(kept[1])
        restored.refresh(30)
        restored.restore(kept[0])
        assert self.go_on(restored, training_set) == expected

    def test_images_that_came_meanwhile_take_part(self):
        _, sampler = self.begin()
        kept = sampler.state()
        training_set, restored = self.begin()
        training_set.add("new", np.zeros((1, 64, 64)), np.full((64, 64), 2, np.uint8))
        restored.refresh(0)
        restored.restore(kept)
        assert "new" in {spot.item.name for spot in restored.draw(50, (0, 0))}


def test_statistics_are_measured_once():
    image = _Counted(np.random.default_rng(0).random((1, 64, 64)))
    item = Item("a", image, np.zeros((64, 64), np.uint8), None, np.zeros(0), np.zeros(0))
    image.__class__.__array__ = lambda self, *_, **__: self[(slice(None),)]
    assert item_stats(item) is item_stats(item)
    assert image.read == 64 * 64


def test_a_lazy_image_is_not_asked_for_all_its_pixels():
    image = da.from_array(np.arange(64.0).reshape(1, 8, 8), chunks=4)

    found = gather(image, [np.arange(-1, 3), np.arange(2, 6)])  # dask warns where it is

    assert np.array_equal(found[0, 1:], np.arange(64.0).reshape(8, 8)[0:3, 2:6])


@pytest.mark.parametrize("first", [float("nan"), float("inf")])
def test_errors_that_are_no_numbers_are_not_remembered(first):
    training_set = make_set((64, 64))
    training_set.paint("image 0", square(0, 0, 40), 1)
    sampler = make_sampler(training_set)
    spots = sampler.draw(4, (0, 0))

    sampler.feedback(spots, np.array([first, 1.0, 2.0, 3.0]))
    sampler.refresh(10**6)

    assert len(sampler.draw(4, (0, 0))) == 4
    assert all(np.isfinite(error).all() for error in sampler._error.values())
