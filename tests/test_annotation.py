"""What a painted value means, what is refused, and counts that stay true while one paints."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.annotation import (
    BLOCK,
    TrainingSet,
    block_grid,
    count_blocks,
    left_out,
    region_of,
)
from napari_unet.config import BACKGROUND, class_table
from napari_unet.holdout import HoldOut
from napari_unet.patches import Sampler
from napari_unet.run import BadInput

SHAPES = {2: (70, 101), 3: (20, 33, 17)}


def make_set(shape: tuple[int, ...] = (70, 101), classes: int = 2, **more) -> TrainingSet:
    training_set = TrainingSet(class_table(classes), len(shape))
    training_set.add("a", np.zeros((1, *shape), np.float32), **more)
    return training_set


@st.composite
def strokes(draw, ndim: int):
    def span(size: int) -> slice:
        start = draw(st.integers(0, size - 1))
        return slice(start, draw(st.integers(start, size)))

    return tuple(map(span, SHAPES[ndim])), draw(st.sampled_from([0, 1, 2, BACKGROUND]))


class TestCounts:
    @pytest.mark.parametrize("ndim", [2, 3])
    @settings(max_examples=20, deadline=None)
    @given(data=st.data())
    def test_equal_a_recount_by_hand_whatever_is_painted(self, ndim, data):
        training_set, edge = make_set(SHAPES[ndim]), BLOCK[ndim]
        for region, value in data.draw(st.lists(strokes(ndim), max_size=6)):
            training_set.paint("a", region, value)
        item = training_set.items[0]
        for block in np.ndindex(block_grid(SHAPES[ndim])):
            part = item.annotation[tuple(slice(b * edge, (b + 1) * edge) for b in block)]
            expected = [(part == v).sum() for v in (BACKGROUND, 1, 2)]
            assert item.counts[(slice(None), *block)].tolist() == expected

    def test_of_the_set_add_up_its_images(self):
        training_set = make_set((40, 40))
        training_set.add("b", np.zeros((1, 50, 40)), np.ones((50, 40), np.uint8))
        training_set.paint("a", (slice(0, 5), slice(0, 4)), 2)
        assert training_set.counts.tolist() == [0, 2000, 20]
        assert [item.labelled for item in training_set.items] == [20, 2000]

    def test_of_an_empty_set_are_zero(self):
        assert TrainingSet(class_table(3)).counts.tolist() == [0, 0, 0, 0]

    def test_of_an_annotation_by_class(self):
        annotation = np.array([[BACKGROUND, BACKGROUND, 1, 0, 3]], np.uint8)
        assert count_blocks(annotation, 3)[:, 0, 0].tolist() == [2, 1, 0, 1]


class TestVersions:
    def test_grow_with_every_change(self):
        training_set = make_set()
        seen = [training_set.version]
        training_set.paint("a", (slice(0, 1), slice(0, 1)), 1)
        seen.append(training_set.version)
        training_set.annotate("a", np.full_like(training_set.items[0].annotation, 1))
        seen.append(training_set.version)
        training_set.remove("a")
        seen.append(training_set.version)
        assert seen == sorted(set(seen))

    def test_are_noted_only_in_the_blocks_that_changed(self):
        training_set = make_set()
        training_set.paint("a", (slice(40, 45), slice(30, 40)), 1)
        changed = training_set.items[0].touched == training_set.version
        assert np.argwhere(changed).tolist() == [[1, 0], [1, 1]]

    def test_a_whole_annotation_touches_only_what_differs(self):
        training_set = make_set()
        annotation = training_set.items[0].annotation.copy()
        annotation[2:5, 70:72] = 1
        training_set.annotate("a", annotation)
        item = training_set.items[0]
        assert np.array_equal(item.annotation, annotation)
        assert np.argwhere(item.touched == training_set.version).tolist() == [[0, 2]]

    def test_an_equal_annotation_changes_nothing(self):
        training_set = make_set()
        before = training_set.version
        training_set.annotate("a", training_set.items[0].annotation.copy())
        assert training_set.version == before

    def test_what_is_painted_is_marked_before_it_is_there(self, monkeypatch):
        training_set = make_set()
        seen = []

        def half_done(*arguments):
            item = training_set.items[0]
            painted = item.annotation[42, 32] == 1
            seen.append((painted, bool(item.touched[1, 1] > training_set.version)))
            return count_blocks(*arguments)

        monkeypatch.setattr("napari_unet.annotation.count_blocks", half_done)
        training_set.paint("a", (slice(40, 45), slice(30, 40)), 1)

        assert seen == [(True, True)]
        assert training_set.items[0].touched[1, 1] == training_set.version

    def test_an_empty_stroke_paints_nothing(self):
        training_set = make_set()
        training_set.paint("a", (slice(0, 0), slice(7, 7)), 1)
        assert training_set.counts.sum() == 0


class TestComplete:
    def test_on_adding_leaves_the_mask_that_was_given_alone(self):
        mask = np.eye(40, dtype=np.uint8)
        training_set = make_set((40, 40), annotation=mask, complete=True)
        assert training_set.counts.tolist() == [1560, 40, 0]
        assert np.array_equal(mask, np.eye(40))


def test_painting_leaves_the_mask_that_was_given_alone():
    mask = np.zeros((40, 40), np.uint8)
    make_set((40, 40), annotation=mask).paint("a", (slice(0, 9), slice(0, 9)), 1)
    assert not mask.any()


class TestRefuses:
    @pytest.mark.parametrize("value", [3, 254, -1, 256, 1000])
    def test_values_without_a_class(self, value):
        training_set = make_set()
        with pytest.raises(BadInput, match=f"'a' holds the value {value}"):
            training_set.paint("a", (slice(0, 1), slice(0, 1)), value)
        assert training_set.counts.sum() == 0

    def test_fractions(self):
        with pytest.raises(BadInput, match="float64"):
            make_set((4, 4), annotation=np.zeros((4, 4)))

    def test_masks_of_another_shape(self):
        with pytest.raises(BadInput, match=r"\(4, 5\)"):
            make_set((4, 4), annotation=np.zeros((4, 5), np.uint8))
        with pytest.raises(BadInput, match=r"\(4, 1\)"):
            make_set((4, 4)).annotate("a", np.zeros((4, 1), np.uint8))

    def test_images_with_other_axes(self):
        with pytest.raises(BadInput, match="3 spatial axes"):
            make_set().add("volume", np.zeros((1, 4, 4, 4)))

    def test_images_with_other_channels(self):
        with pytest.raises(BadInput, match="3 channels"):
            make_set().add("colour", np.zeros((3, 4, 4)))

    def test_a_name_twice(self):
        with pytest.raises(BadInput, match="Two images are named 'a'"):
            make_set().add("a", np.zeros((1, 4, 4)))

    def test_a_bad_image_without_a_trace(self):
        training_set = make_set()
        with pytest.raises(BadInput):
            training_set.add("b", np.zeros((1, 4, 4)), np.full((4, 4), 9, np.uint8))
        assert [item.name for item in training_set.items] == ["a"]

    @pytest.mark.parametrize("number", [0, 255])
    def test_too_few_or_too_many_classes(self, number):
        with pytest.raises(BadInput, match=f"{number} classes"):
            TrainingSet(class_table(number))


class TestThreads:
    def test_one_paints_and_erases_while_another_counts_and_draws(self):
        training_set = make_set((128, 128), annotation=np.ones((128, 128), np.uint8))
        sampler = Sampler(training_set, HoldOut(0, (8, 8), 0), 0)
        sampler.refresh(0)
        done, trouble = threading.Event(), []

        def paint() -> None:
            rng = np.random.default_rng(0)
            try:
                while not done.is_set():
                    y, x = rng.integers(0, 100, 2)
                    stroke = slice(y, y + 28), slice(x, x + 28)
                    training_set.paint("a", stroke, rng.choice([0, 1, 2]))
            except Exception as error:  # noqa: BLE001 - the other thread must see it
                trouble.append(error)

        painter = threading.Thread(target=paint)
        painter.start()
        try:
            for step in range(100):
                sampler.refresh(step)
                assert 0 <= training_set.counts.sum() <= 128**2
                assert sampler.empty or len(sampler.draw(4, (3, 3))) == 4
        finally:
            done.set()
            painter.join()
        item = training_set.items[0]
        assert not trouble
        assert np.array_equal(item.counts, count_blocks(item.annotation, 2))

    def test_waiting_ends_when_something_is_painted(self):
        training_set = make_set()
        stroke = (slice(0, 1), slice(0, 1))
        painter = threading.Timer(0.05, training_set.paint, ("a", stroke, 1))
        began = time.monotonic()
        painter.start()
        assert training_set.wait(training_set.version, 30)
        painter.join()
        assert time.monotonic() - began < 20

    def test_waiting_ends_in_vain_after_its_time(self):
        training_set = make_set()
        assert not training_set.wait(training_set.version, 0.01)

    def test_there_is_no_waiting_for_what_is_there(self):
        training_set = make_set()
        assert training_set.wait(training_set.version - 1, 0)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), ndim=st.sampled_from([2, 3]))
def test_what_is_left_out_is_what_is_in_no_part(data, ndim):
    shape = (9, 7, 5)[:ndim]
    ends = st.tuples(*(st.tuples(st.integers(-1, n + 1), st.integers(0, n + 1)) for n in shape))
    parts = data.draw(st.lists(ends.map(lambda part: tuple(map(tuple, map(sorted, part))))))
    known = np.zeros(shape, int)
    for part in parts:
        known[region_of((max(a, 0), b) for a, b in part)] = 1

    for box in left_out(shape, parts):
        known[region_of(box)] += 1

    assert (known == 1).all()
