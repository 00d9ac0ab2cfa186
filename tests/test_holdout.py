"""Held-out annotation: out of sight of training, never trained on, never all there is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.annotation import BLOCK, Item, TrainingSet
from napari_unet.config import BACKGROUND, class_table
from napari_unet.holdout import BUFFER, COST, HELD, MOST_OF_IMAGE, TRAIN, HoldOut


def make_set(*shapes: tuple[int, ...], classes: int = 2) -> TrainingSet:
    training_set = TrainingSet(class_table(classes), len(shapes[0]))
    for number, shape in enumerate(shapes):
        training_set.add(f"image {number}", np.broadcast_to(np.float32(0), (1, *shape)))
    return training_set


def cover(training_set: TrainingSet, seed: int = 0) -> None:
    """Label every pixel, all classes everywhere."""
    rng = np.random.default_rng(seed)
    for item in training_set.items:
        values = rng.choice(np.array([1, 2, BACKGROUND], np.uint8), item.annotation.shape)
        training_set.annotate(item.name, values)


def in_pixels(blocks: np.ndarray, item: Item) -> np.ndarray:
    edge = BLOCK[blocks.ndim]
    large = np.kron(blocks, np.ones((edge,) * blocks.ndim, blocks.dtype))
    return large[tuple(slice(0, n) for n in item.annotation.shape)]


def pixels_of(holdout: HoldOut, item: Item, role: int) -> np.ndarray:
    return in_pixels(holdout.roles[item.name] == role, item)


def near(held: np.ndarray, halo: tuple[int, ...]) -> np.ndarray:
    """Pixels within the halo of a held-out one."""
    return ndimage.maximum_filter(held, [2 * h + 1 for h in halo])


@pytest.mark.parametrize("shapes", [[(256, 320)] * 3, [(512, 640), (160, 160), (512, 640)]])
def test_of_few_images_each_is_learned_for_the_most_part(shapes):
    training_set = make_set(*shapes)
    cover(training_set)
    holdout = HoldOut(0.2, (51, 51), 0)
    holdout.update(training_set.items)

    assert holdout.held(training_set.items) > 0.05 * sum(i.labelled for i in training_set.items)
    for item in training_set.items:
        assert holdout.counts(item, TRAIN).sum() >= (1 - MOST_OF_IMAGE) * item.labelled


def test_what_is_to_be_learned_is_held_out_no_longer():
    training_set = make_set((96, 96))
    holdout = HoldOut(0.2, (8, 8), 0)
    values = np.full((96, 96), 1, np.uint8)
    for role, expected in (("hold out", HELD), ("train", TRAIN)):
        training_set.add("a", np.zeros((1, 96, 96), np.float32), values, role=role)
        holdout.update(training_set.items)
        assert (holdout.roles["a"] == expected).all()
        training_set.remove("a")

    assert holdout.windows["a"] == []


@pytest.mark.parametrize(
    ("shape", "halo"),
    [
        ((500, 420), (0, 0)),
        ((500, 420), (20, 20)),
        ((500, 420), (32, 45)),
        ((96, 160, 176), (5, 17, 16)),
    ],
)
def test_nothing_trained_on_lies_within_sight_of_what_is_held_out(shape, halo):
    training_set = make_set(shape)
    cover(training_set)
    holdout = HoldOut(0.2, halo, 0)
    holdout.update(training_set.items)
    (item,) = training_set.items
    held = pixels_of(holdout, item, HELD)
    assert held.any()
    assert not (near(held, halo) & pixels_of(holdout, item, TRAIN)).any()


def test_windows_are_the_held_out_pixels():
    training_set = make_set((500, 420), (300, 300))
    cover(training_set)
    holdout = HoldOut(0.2, (20, 20), 0)
    holdout.update(training_set.items)
    for item in training_set.items:
        drawn = np.zeros(item.annotation.shape, bool)
        for window in holdout.windows[item.name]:
            drawn[window] = True
        assert np.array_equal(drawn, pixels_of(holdout, item, HELD))
    total = sum(pixels_of(holdout, item, HELD).sum() for item in training_set.items)
    assert holdout.held(training_set.items) == total > 0


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
@pytest.mark.parametrize(
    "shapes", [[(640, 640)], [(300, 400)] * 3, [(200 + 9 * i,) * 2 for i in range(9)]]
)
def test_costs_no_more_than_allowed(share, shapes):
    training_set = make_set(*shapes)
    cover(training_set)
    holdout = HoldOut(share, (24, 24), 0)
    holdout.update(training_set.items)
    items = training_set.items
    lost = sum((i.annotation[~pixels_of(holdout, i, TRAIN)] > 0).sum() for i in items)
    assert 0 < lost <= COST * share * training_set.counts.sum()


def test_a_share_of_nothing_holds_out_nothing():
    training_set = make_set((640, 640))
    cover(training_set)
    holdout = HoldOut(0, (0, 0), 0)
    holdout.update(training_set.items)
    assert holdout.held(training_set.items) == 0
    assert (holdout.roles["image 0"] == TRAIN).all()


@pytest.mark.parametrize("shape", [(1, 1), (40, 30), (64, 64), (16, 16, 16)])
def test_a_tiny_image_holds_out_nothing(shape):
    training_set = make_set(shape)
    cover(training_set)
    holdout = HoldOut(0.5, (30,) * len(shape), 0)
    holdout.update(training_set.items)
    assert holdout.held(training_set.items) == 0


def test_without_annotation_nothing_is_held_out():
    holdout = HoldOut(0.2, (8, 8), 0)
    holdout.update(())
    training_set = make_set((640, 640))
    holdout.update(training_set.items)
    assert (holdout.roles["image 0"] == TRAIN).all()


class TestEveryClass:
    @pytest.mark.parametrize("seed", range(4))
    def test_keeps_pixels_to_train_on(self, seed):
        rng = np.random.default_rng(seed)
        training_set = make_set((640, 480))
        for value in (1, 2, BACKGROUND):
            for y, x in rng.integers(0, 400, (6, 2)):
                training_set.paint("image 0", (slice(y, y + 40), slice(x, x + 40)), value)
        holdout = HoldOut(0.2, (20, 20), seed)
        holdout.update(training_set.items)
        (item,) = training_set.items
        left = item.annotation[pixels_of(holdout, item, TRAIN)]
        assert set(np.unique(item.annotation)) == set(np.unique(left))

    def test_that_lies_in_one_place_is_never_held_out(self):
        training_set = make_set((640, 640))
        training_set.paint("image 0", (slice(None), slice(None)), BACKGROUND)
        training_set.paint("image 0", (slice(0, 640), slice(0, 300)), 1)
        training_set.paint("image 0", (slice(500, 520), slice(500, 520)), 2)
        for seed in range(5):
            holdout = HoldOut(0.4, (20, 20), seed)
            holdout.update(training_set.items)
            (item,) = training_set.items
            assert holdout.held(training_set.items)
            assert pixels_of(holdout, item, TRAIN)[500:520, 500:520].all()

    def test_that_lies_in_one_image_keeps_that_image(self):
        training_set = make_set(*[(64, 64)] * 8)
        for item in training_set.items:
            training_set.annotate(item.name, np.full((64, 64), 1, np.uint8))
        training_set.paint("image 3", (slice(0, 5), slice(0, 5)), 2)
        for seed in range(8):
            holdout = HoldOut(0.4, (20, 20), seed)
            holdout.update(training_set.items)
            assert holdout.held(training_set.items)
            assert (holdout.roles["image 3"] == TRAIN).all()


class TestManyImages:
    def test_are_held_out_whole(self):
        training_set = make_set(*[(100, 80)] * 5)
        cover(training_set)
        holdout = HoldOut(0.2, (20, 20), 0)
        holdout.update(training_set.items)
        roles = [set(np.unique(holdout.roles[i.name])) for i in training_set.items]
        assert sorted(roles, key=max) == [{TRAIN}] * 4 + [{HELD}]
        held = roles.index({HELD})
        assert holdout.windows[f"image {held}"] == [(slice(0, 100), slice(0, 80))]

    def test_cost_no_more_than_allowed_together(self):
        training_set = make_set(*[(64, 64)] * 7)
        cover(training_set)
        holdout = HoldOut(0.2, (20, 20), 0)
        holdout.update(training_set.items)
        assert holdout.held(training_set.items) == 64 * 64

    @pytest.mark.parametrize("width", [6, 12, 50])
    def test_are_not_where_there_are_only_strokes(self, width):
        """The next image's first strokes would be held out, and with them all of it for good."""
        training_set = make_set(*[(400, 400)] * 7)
        holdout = HoldOut(0.2, (60, 60), 0)
        for number, item in enumerate(training_set.items):
            for place, value in ((20, 1), (220, 2), (340, BACKGROUND)):
                rows = slice(place, place + (50 if number < 4 else width))
                training_set.paint(item.name, (rows, slice(10, 390)), value)
                holdout.update(training_set.items)
        items = training_set.items
        assert holdout.held(items)
        assert all((holdout.roles[item.name] == TRAIN).any() for item in items)

    def test_the_seed_chooses_which(self):
        def chosen(seed: int) -> str:
            training_set = make_set(*[(64, 64)] * 6)
            cover(training_set)
            holdout = HoldOut(0.2, (20, 20), seed)
            holdout.update(training_set.items)
            return next(n for n, r in holdout.roles.items() if r.any())

        assert chosen(3) == chosen(3)
        assert len({chosen(seed) for seed in range(8)}) > 1

    def test_an_image_that_was_trained_on_stays_in_training(self):
        training_set = make_set(*[(96, 96)] * 3)
        cover(training_set)
        holdout = HoldOut(0.2, (96, 96), 0)
        holdout.update(training_set.items)
        assert not holdout.held(training_set.items)
        for number in (3, 4):
            training_set.add(f"image {number}", np.zeros((1, 96, 96)))
        cover(training_set)
        holdout.update(training_set.items)
        held = {name for name, role in holdout.roles.items() if (role == HELD).any()}
        assert held in ({"image 3"}, {"image 4"})


class TestDecisions:
    """Strokes arrive one after another; after each, training takes what is left to it."""

    @settings(max_examples=15, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        number=st.integers(1, 6),
        share=st.sampled_from([0.1, 0.2, 0.5]),
    )
    def test_are_never_taken_back(self, seed, number, share):
        rng = np.random.default_rng(seed)
        training_set, halo = make_set(*[(256, 224)] * number), (20, 33)
        holdout = HoldOut(share, halo, seed)
        trained = {i.name: np.zeros(i.annotation.shape, bool) for i in training_set.items}
        held = {name: seen.copy() for name, seen in trained.items()}
        for _ in range(10):
            y, x, h, w = rng.integers(1, 130, 4)
            name = f"image {rng.integers(number)}"
            training_set.paint(name, (slice(y, y + h), slice(x, x + w)), rng.choice([1, 2, 255]))
            holdout.update(training_set.items)
            for item in training_set.items:
                now = pixels_of(holdout, item, HELD)
                free = pixels_of(holdout, item, TRAIN)
                trained[item.name] |= free & (item.annotation > 0)
                assert not (near(now, halo) & trained[item.name]).any()
                assert not (held[item.name] & ~now).any()
                held[item.name] = now

    def test_leave_room_for_what_is_painted_later(self):
        training_set = make_set((640, 640))
        holdout = HoldOut(0.2, (8, 8), 0)
        training_set.paint("image 0", (slice(0, 40), slice(0, 40)), 1)
        holdout.update(training_set.items)
        assert not holdout.held(training_set.items)
        training_set.paint("image 0", (slice(0, 640), slice(200, 640)), 1)
        holdout.update(training_set.items)
        assert holdout.held(training_set.items)

    def test_are_void_for_another_image_of_the_same_name(self):
        training_set = make_set((640, 640))
        cover(training_set)
        holdout = HoldOut(0.2, (8, 8), 0)
        holdout.update(training_set.items)
        training_set.remove("image 0")
        training_set.add("image 0", np.zeros((1, 40, 40)), np.ones((40, 40), np.uint8))
        holdout.update(training_set.items)
        assert holdout.roles["image 0"].shape == (2, 2)
        assert holdout.held(training_set.items) == 0

    def test_survive_a_checkpoint(self):
        training_set = make_set((640, 640), (320, 320))
        training_set.paint("image 0", (slice(0, 640), slice(0, 300)), 1)
        first = HoldOut(0.2, (20, 20), 0)
        first.update(training_set.items)
        second = HoldOut(0.2, (20, 20), 99)
        second.restore(json.loads(json.dumps(first.state())))
        assert second.windows == first.windows
        for images in (1, 8, 8):
            for _ in range(images):
                training_set.add(f"image {len(training_set.items)}", np.zeros((1, 200, 200)))
            cover(training_set)
            for holdout in (first, second):
                holdout.update(training_set.items)
            assert first.windows == second.windows
            for name, role in first.roles.items():
                assert np.array_equal(role, second.roles[name])
        assert any((r == HELD).any() for r in first.roles.values())
        assert any((r == BUFFER).any() for r in first.roles.values())


def test_of_few_strokes_none_is_spared():
    """Of a complete mask with as many pixels, some are."""
    held = []
    for edge in (150, 600):
        training_set = make_set((edge, edge))
        training_set.paint("image 0", (slice(0, 150), slice(0, 150)), 1)
        holdout = HoldOut(0.2, (8, 8), 0)
        holdout.update(training_set.items)
        held.append(holdout.held(training_set.items))
    assert held[0] > 0
    assert held[1] == 0
    training_set.paint("image 0", (slice(300, 400), slice(0, 600)), 1)
    holdout.update(training_set.items)
    assert holdout.held(training_set.items) > 0


def test_an_image_to_judge_by_is_held_out_whole_and_one_to_learn_from_never():
    training_set = make_set((90, 90))
    for name, role in (("judge", "hold out"), ("learn", "train")):
        zeros = np.broadcast_to(np.float32(0), (1, 90, 90))
        training_set.add(name, zeros, np.full((90, 90), 1, np.uint8), role=role)
    holdout = HoldOut(0.2, (0, 0), 0)

    holdout.update(training_set.items)

    assert (holdout.roles["judge"] == HELD).all()
    assert holdout.windows["judge"] == [(slice(0, 90), slice(0, 90))]
    assert (holdout.roles["learn"] == TRAIN).all()


def test_an_image_that_was_trained_on_is_neither_judged_by_later_nor_learned():
    training_set = make_set((90, 90), (90, 90))
    cover(training_set)
    holdout = HoldOut(0, (0, 0), 0)
    holdout.update(training_set.items)

    training_set.items[0].role = "hold out"
    holdout.update(training_set.items)

    assert holdout.held(training_set.items) == 0
    assert (holdout.roles["image 0"] == BUFFER).all()


@pytest.mark.parametrize("share", [0, 0.2])
@pytest.mark.parametrize("learned_before", [False, True])
def test_an_image_that_is_no_longer_only_judged_by_is_learned_again(share, learned_before):
    training_set = make_set((90, 90), (90, 90))
    cover(training_set)
    item = training_set.items[0]
    holdout, expected = HoldOut(share, (0, 0), 0), HoldOut(share, (0, 0), 0)
    expected.update(training_set.items)
    if learned_before:
        holdout.update(training_set.items)
    item.role = "hold out"
    holdout.update(training_set.items)
    restored = HoldOut(share, (0, 0), 0)
    restored.restore(holdout.state())

    item.role = "both"
    for each in (holdout, restored):
        each.update(training_set.items)

        learned = (each.roles["image 0"] == TRAIN).mean()
        assert learned >= (expected.roles["image 0"] == TRAIN).mean() > 0.4
        assert each.windows["image 0"] != [(slice(0, 90), slice(0, 90))]
