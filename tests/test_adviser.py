"""The adviser: what a classifier of pixels says of the unpainted rest, from what may be learned."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_unet import adviser as adviser_module
from napari_unet.adviser import (
    AGAIN,
    ALONE,
    ASKED,
    FIRST_GUESS,
    MOST_CHANNELS,
    PIXELS,
    TOGETHER,
    TRUSTED,
    WINDOWS,
    Adviser,
    Say,
    _some,
    agreed,
)
from napari_unet.annotation import BLOCK, TrainingSet
from napari_unet.config import BACKGROUND, NetConfig, class_table
from napari_unet.device import choose_numerics
from napari_unet.holdout import HELD, HoldOut
from napari_unet.models import Net, build
from napari_unet.models.pixels import PixelNet, as_probabilities
from napari_unet.patches import Sampler, item_stats

EDGE = 192
MOST = WINDOWS[2]


def two_textures(ndim: int = 2) -> np.ndarray:
    """Rough on the left, smooth on the right."""
    shape = (3,) * (ndim - 2) + (EDGE, EDGE)
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    image[..., EDGE // 2 :] *= 0.2
    return image


def paint(training_set: TrainingSet, name: str = "a") -> None:
    lead = (slice(None),) * (training_set.ndim - 2)
    training_set.paint(name, (*lead, slice(20, 40), slice(10, 60)), 1)
    training_set.paint(name, (*lead, slice(100, 120), slice(130, 180)), BACKGROUND)


def make(
    ndim: int = 2, classes: int = 1, **images: np.ndarray
) -> tuple[TrainingSet, Sampler, Adviser]:
    training_set = TrainingSet(class_table(classes), ndim)
    for name, image in (images or {"a": two_textures(ndim)}).items():
        training_set.add(name, image)
    sampler = Sampler(training_set, HoldOut(0, (8,) * ndim, 0), 0)
    numerics = choose_numerics(torch.device("cpu"), "float32", ndim)
    return (
        training_set,
        sampler,
        Adviser(sampler, NetConfig(ndim=ndim, n_classes=classes), numerics, 0),
    )


def refresh(sampler: Sampler, adviser: Adviser, step: int = 0) -> None:
    sampler.refresh(step)
    adviser.refresh(step)


def half_dark(mistakes: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """An image that is brighter on the left, and its mask with so many pixels wrong."""
    random = np.random.default_rng(0)
    image = random.normal(size=(1, EDGE, EDGE)).astype(np.float32)
    image[..., : EDGE // 2] += 10
    mask = np.zeros((EDGE, EDGE), bool)
    mask[:, : EDGE // 2] = True
    return image, mask ^ (random.random(mask.shape) < mistakes)


def whole_net(pixels: PixelNet) -> Net:
    """A net that answers for images of any size what a classifier of pixels says."""
    net = build(pixels.config.model_copy(update={"pixels": 1.0})).eval()
    net.pixels = pixels
    return net


def of(training_set: TrainingSet, adviser: Adviser, name: str = "a") -> np.ndarray:
    (item,) = (i for i in training_set.items if i.name == name)
    found = adviser.hints(item)
    assert found is not None
    return found[(slice(None), *(slice(0, n) for n in item.annotation.shape))]


@pytest.mark.parametrize("ndim", [2, 3])
def test_say_what_the_unpainted_rest_is(ndim):
    training_set, sampler, adviser = make(ndim)
    paint(training_set)
    refresh(sampler, adviser)

    p = of(training_set, adviser)

    assert np.allclose(p.sum(0), 1, atol=1e-4)
    assert (p[1][..., : EDGE // 2 - 8] > 0.5).mean() > 0.9
    assert (p[1][..., EDGE // 2 + 8 :] < 0.5).mean() > 0.9


def test_need_two_kinds_of_labels():
    training_set, sampler, adviser = make()
    training_set.paint("a", (slice(20, 40), slice(10, 60)), 1)
    refresh(sampler, adviser)
    assert adviser.net is None
    assert adviser.hints(training_set.items[0]) is None

    paint(training_set)
    refresh(sampler, adviser, 1)  # at once: nobody waits for a first guess
    assert adviser.net is not None


def test_are_not_given_for_what_is_labelled_anyway(monkeypatch):
    monkeypatch.setattr(adviser_module, "EXPLAINED", 0)  # most that is rough is background here
    training_set, sampler, adviser = make(a=two_textures(), b=two_textures())
    paint(training_set)
    values = training_set.items[0].annotation
    training_set.annotate("a", np.where(values == 0, BACKGROUND, values))
    paint(training_set, "b")
    refresh(sampler, adviser)
    complete, sparse = training_set.items
    assert adviser.hints(complete) is None
    assert adviser.hints(sparse) is not None


def test_are_given_for_an_image_that_is_painted_before_the_next_fit():
    training_set, sampler, adviser = make(a=two_textures(), b=two_textures())
    paint(training_set)
    refresh(sampler, adviser)
    paint(training_set, "b")
    refresh(sampler, adviser, 1)
    assert adviser.hints(training_set.items[1]) is not None


def test_never_learn_from_what_is_held_out():
    training_set, sampler, adviser = make()
    paint(training_set)
    training_set.paint("a", (slice(128, 160), slice(0, 64)), BACKGROUND)  # wrong, but held out
    sampler.refresh(0)
    block = BLOCK[2]
    sampler.holdout.roles["a"][128 // block : 160 // block, : 64 // block] = HELD
    adviser.refresh(0)
    p = of(training_set, adviser)
    assert (p[1][128:160, :64] > 0.5).mean() > 0.9


def test_what_was_painted_a_moment_ago_waits_until_its_role_is_decided():
    training_set, sampler, adviser = make()
    sampler.refresh(0)
    paint(training_set)
    adviser.refresh(0)
    assert adviser.net is None


def test_follow_the_annotation_but_not_at_every_step():
    training_set, sampler, adviser = make()
    paint(training_set)
    refresh(sampler, adviser)
    first = adviser.net
    training_set.paint("a", (slice(60, 80), slice(10, 60)), 1)
    refresh(sampler, adviser, AGAIN - 1)
    assert adviser.net is first
    refresh(sampler, adviser, AGAIN)
    assert adviser.net is not first
    second = adviser.net
    refresh(sampler, adviser, 10 * AGAIN)
    assert adviser.net is second, "nothing was painted since"


def test_a_class_that_is_new_is_learned_at_once():
    training_set, sampler, adviser = make(classes=2)
    paint(training_set)
    refresh(sampler, adviser, 100)
    assert float(of(training_set, adviser)[2].max()) < 0.5
    training_set.paint("a", (slice(140, 180), slice(100, 180)), 2)
    refresh(sampler, adviser, 101)
    assert (of(training_set, adviser)[2][140:180, 100:180] > 0.3).mean() > 0.5


def test_another_image_of_the_same_name_has_a_view_of_its_own():
    training_set, sampler, adviser = make()
    paint(training_set)
    refresh(sampler, adviser)
    training_set.remove("a")
    training_set.add("a", two_textures()[:, :64, :96])
    assert of(training_set, adviser).shape == (2, 64, 96)


@pytest.mark.parametrize("edge", [200, 300])
def test_are_those_of_the_classifier_on_the_whole_image(edge):
    image = np.random.default_rng(0).normal(size=(1, edge, edge)).astype(np.float32)
    image[..., edge // 2 :] += np.linspace(0, 3, edge - edge // 2)
    training_set, sampler, adviser = make(a=image)
    paint(training_set)
    refresh(sampler, adviser)
    whole = torch.from_numpy(item_stats(training_set.items[0]).apply(image))[None]
    assert adviser.net is not None
    expected = as_probabilities(whole_net(adviser.net)(whole))[0].numpy()
    assert np.abs(of(training_set, adviser) - expected).mean() < 0.02


def test_who_cannot_tell_what_was_painted_has_nothing_to_say():
    training_set, sampler, adviser = make(a=np.random.default_rng(0).random((1, EDGE, EDGE)))
    random = np.random.default_rng(1).integers(0, 2, (EDGE, EDGE))
    training_set.annotate("a", np.where(random, 1, BACKGROUND).astype(np.uint8))
    refresh(sampler, adviser)
    assert adviser.net is None


def test_of_complete_masks_a_part_is_enough():
    training_set, sampler, adviser = make(a=np.tile(two_textures(), (1, 6, 6)))
    mask = np.full((6 * EDGE,) * 2, BACKGROUND, np.uint8)
    mask[:, np.tile(np.arange(EDGE) < EDGE // 2, 6)] = 1
    training_set.annotate("a", mask)
    refresh(sampler, adviser)
    read = sum(len(rows) for _, rows, _ in adviser._rows.values())
    assert 0.9 * PIXELS < read <= PIXELS
    assert adviser.net is not None


def test_of_many_complete_images_each_is_learned_from():
    images = {name: np.tile(two_textures(), (1, 6, 6)) for name in "abc"}
    training_set, sampler, adviser = make(**images)
    mask = np.full((6 * EDGE,) * 2, BACKGROUND, np.uint8)
    mask[:, np.tile(np.arange(EDGE) < EDGE // 2, 6)] = 1
    for name in images:
        training_set.annotate(name, mask)
    refresh(sampler, adviser)
    assert len(adviser._rows) == MOST
    assert {name for name, _ in adviser._rows} == set("abc")


def test_what_was_read_when_windows_were_few_does_not_outweigh_the_rest():
    training_set, sampler, adviser = make(a=np.tile(two_textures(), (1, 1, 30)))
    training_set.annotate("a", np.zeros((EDGE, 30 * EDGE), np.uint8))
    paint(training_set)
    training_set.paint("a", (slice(0, 150), slice(0, 250)), 1)
    refresh(sampler, adviser)
    assert max(len(rows) for _, rows, _ in adviser._rows.values()) > 10_000
    for x in range(512, 30 * EDGE - 256, 256):
        training_set.paint("a", (slice(0, 100), slice(x, x + 100)), 1 + 254 * (x % 512 > 0))
    refresh(sampler, adviser, AGAIN)
    assert max(len(rows) for _, rows, _ in adviser._rows.values()) < 4000


def test_an_earlier_one_stays_as_long_as_it_can_tell_what_is_painted():
    training_set, sampler, adviser = make()
    paint(training_set)
    refresh(sampler, adviser)
    earlier = adviser.net
    assert earlier is not None
    numerics = choose_numerics(torch.device("cpu"), "float32", 2)
    config = NetConfig()

    later = Adviser(sampler, config, numerics, 1, hinting=False, earlier=earlier)
    refresh(sampler, later)
    assert later.net is earlier, "it can tell what is painted"
    training_set.paint("a", (slice(20, 40), slice(10, 60)), 0)
    refresh(sampler, later, 1)
    assert later.net is earlier, "nothing speaks against it"
    assert later.hints(training_set.items[0]) is None, "a net that has learned needs none"

    training_set.paint("a", (slice(20, 40), slice(10, 60)), BACKGROUND)
    training_set.paint("a", (slice(100, 120), slice(130, 180)), 1)
    refresh(sampler, later, 2 * AGAIN)
    assert later.net is None, "it takes one for the other"


def test_of_many_channels_there_is_none():
    image = np.repeat(two_textures(), MOST_CHANNELS + 1, 0)
    training_set = TrainingSet(class_table(1))
    training_set.add("a", image)
    paint(training_set)
    sampler = Sampler(training_set, HoldOut(0, (8, 8), 0), 0)
    numerics = choose_numerics(torch.device("cpu"), "float32", 2)
    adviser = Adviser(sampler, NetConfig(in_channels=len(image)), numerics, 0)
    refresh(sampler, adviser)
    assert adviser.net is None


def test_what_is_erased_or_taken_away_is_forgotten():
    training_set, sampler, adviser = make(a=two_textures(), b=two_textures())
    paint(training_set, "a")
    paint(training_set, "b")
    refresh(sampler, adviser)
    training_set.remove("b")
    training_set.paint("a", (slice(None), slice(EDGE // 2, None)), 0)
    refresh(sampler, adviser, 1000)
    assert adviser.net is None, "only one kind is left"


def test_only_windows_that_were_painted_on_are_read_again(monkeypatch):
    large = np.random.default_rng(0).random((1, 300, 900)).astype(np.float32)
    training_set, sampler, adviser = make(a=large)
    paint(training_set)
    training_set.paint("a", (slice(10, 30), slice(600, 640)), 1)
    refresh(sampler, adviser)
    read = []
    real = Adviser._values
    monkeypatch.setattr(
        Adviser, "_values", lambda self, w, most: read.append(w.place) or real(self, w, most)
    )
    training_set.paint("a", (slice(60, 80), slice(610, 640)), 1)
    refresh(sampler, adviser, AGAIN)
    assert read == [(0, 2)]


def test_of_many_windows_those_painted_last_are_learned_from():
    wide = np.random.default_rng(0).random((1, 32, 256 * (MOST + 4))).astype(np.float32)
    training_set, sampler, adviser = make(a=wide)
    for x in range(0, wide.shape[-1], 256):
        training_set.paint("a", (slice(0, 8), slice(x, x + 8)), BACKGROUND)
    training_set.paint("a", (slice(16, 24), slice(0, 8)), 1)
    refresh(sampler, adviser)
    for x in range(256, wide.shape[-1], 256):
        training_set.paint("a", (slice(8, 16), slice(x, x + 8)), BACKGROUND)
    refresh(sampler, adviser, AGAIN)
    # And the only one with the other class.
    assert {place for _, place in adviser._rows} == {(0, 0), *((0, n) for n in range(5, MOST + 4))}


def test_a_slide_is_read_only_where_it_is_asked(monkeypatch):
    import dask.array as da

    read = []

    def block(block_info=None):
        read.append(block_info[None]["chunk-location"])
        return np.random.default_rng(0).random((1, 256, 256)).astype(np.float32)

    chunks = ((1,), (256,) * 20, (256,) * 20)
    slide = da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), "f4"))
    training_set, sampler, adviser = make(a=slide)
    training_set.items[0].cache["stats"] = item_stats(make()[0].items[0])
    paint(training_set)
    refresh(sampler, adviser)
    item = training_set.items[0]
    found = adviser.hints(item)
    assert found is not None
    assert found[:, 0:64, 0:64].shape == (2, 64, 64)
    assert len(set(read)) <= 4


def test_a_class_of_complete_images_is_not_denied_in_others(monkeypatch):
    monkeypatch.setattr(adviser_module, "EXPLAINED", 0)  # smooth is both background and class 2
    textures = two_textures()
    training_set, sampler, adviser = make(classes=2, a=textures, b=textures)
    paint(training_set)  # of class 1 and background
    third = np.full((EDGE, EDGE), BACKGROUND, np.uint8)
    third[:, EDGE // 2 :] = 2
    training_set.annotate("b", third)
    refresh(sampler, adviser)

    assert of(training_set, adviser)[2][:, EDGE // 2 + 8 :].mean() > 0.3
    assert adviser.hints(training_set.items[1]) is None, "all of it is known"


def test_a_rare_class_is_among_the_pixels_that_are_learned_from():
    labels = np.full(60_000, BACKGROUND, np.uint8)
    labels[:10], labels[10:12] = 1, 0

    chosen = _some(labels, 1000, np.random.default_rng(0))

    assert len(np.unique(chosen)) == len(chosen) == 1000
    assert (labels[chosen] == 1).sum() == 10
    assert labels[chosen].all()


@pytest.mark.parametrize(("mistakes", "clear"), [(0, True), (0.15, False)])
def test_clear_is_what_brightness_tells_of_complete_masks(mistakes, clear):
    image, mask = half_dark(mistakes)
    training_set, sampler, adviser = make(a=image)
    assert not adviser.clear
    training_set.annotate("a", np.where(mask, 1, BACKGROUND).astype(np.uint8))
    refresh(sampler, adviser)
    assert adviser.net is not None
    assert adviser.clear is clear
    adviser.stop()
    assert adviser.clear is None


def test_of_strokes_nothing_is_clear_until_masks_have_been_looked_at():
    image, mask = half_dark()
    training_set, sampler, adviser = make(a=image)
    training_set.paint("a", (slice(20, 40), slice(10, 60)), 1)
    training_set.paint("a", (slice(20, 40), slice(130, 180)), BACKGROUND)
    refresh(sampler, adviser)
    assert adviser.net is not None
    assert adviser.clear is None
    training_set.annotate("a", np.where(mask, 1, BACKGROUND).astype(np.uint8))
    refresh(sampler, adviser, 1)  # too soon for another fit
    assert not adviser.sparse
    assert adviser.clear is None
    refresh(sampler, adviser, AGAIN)
    assert adviser.clear is True


@pytest.mark.parametrize(
    ("case", "little", "much"),
    [
        ("masks", False, True),
        ("an earlier classifier", None, True),
        ("strokes", None, None),
        ("rims", None, None),
        ("volumes", None, None),
    ],
)
def test_where_it_is_known_what_the_classifier_tells(case, little, much):
    training_set, sampler, adviser = make(ndim=3 if case == "volumes" else 2)
    shape = training_set.items[0].annotation.shape
    if case == "strokes":
        paint(training_set)
    else:
        training_set.annotate("a", np.full(shape, BACKGROUND, np.uint8))
    training_set.rims = case == "rims"
    adviser._earlier = object() if case == "an earlier classifier" else None
    sampler.refresh(0)
    assert adviser._tells(0.6) is little
    assert adviser._tells(0.9) is much


class TestAgreed:
    """What the net is taught of the unpainted rest: binary, at three pixels, none at the third."""

    hints = torch.tensor([[[0.1, 0.5, 0.0], [0.9, 0.5, 0.0]]])
    own = torch.tensor([[[0.9, 0.2, 0.2], [0.1, 0.8, 0.8]]])

    def test_both_have_half_of_the_logits_at_first(self):
        p = agreed(self.hints, self.own, FIRST_GUESS)
        assert torch.allclose(p[0, 1], torch.tensor([0.5, 2 / 3, 0]), atol=1e-4)
        assert torch.allclose(p[0].sum(0), torch.tensor([1.0, 1, 0]))

    def test_the_net_relies_on_itself_ever_more(self):
        far = [float(agreed(self.hints, self.own, n * TRUSTED)[0, 1, 0]) for n in (1, 2, 4, 1000)]
        assert far == sorted(far, reverse=True)
        assert far[-1] == pytest.approx(0.1, abs=0.01)


class TestSay:
    """How much of the answer is the adviser's; that of a test has something to say or not."""

    def say(
        self,
        steps: int = 0,
        net: object = "classifier",
        sparse: bool = False,
        clear: bool | None = True,
        of_objects: bool = False,
    ) -> Say:
        adviser = SimpleNamespace(net=net, sparse=sparse, clear=clear, of_objects=of_objects)
        return Say(adviser, steps)

    def test_all_of_the_first_guess_then_a_part(self):
        say = self.say()
        assert [say.now(0), say.now(ASKED - 1), say.now(ASKED)] == [1, 1, TOGETHER]

    def test_a_model_that_is_gone_on_from_is_no_guess(self):
        assert self.say(steps=FIRST_GUESS).now(0) == TOGETHER

    @pytest.mark.parametrize(
        ("clear", "share"),
        [(True, TOGETHER), (False, 0), (None, TOGETHER)],
    )
    def test_a_mature_net_answers_alone_where_masks_are_not_clear(self, clear, share):
        say = self.say(clear=clear)
        assert say.now(ASKED) == say.now(FIRST_GUESS - 1) == TOGETHER
        assert say.now(FIRST_GUESS) == share

    def test_half_an_answer_lasts_where_it_was_judged_better(self):
        say = self.say(clear=False)
        say.judge(TOGETHER)
        assert say.now(FIRST_GUESS) == TOGETHER
        say.judge(None)  # what it was judged by is gone
        assert say.now(FIRST_GUESS) == 0

    def test_none_without_an_adviser(self):
        say = self.say(net=None)
        assert say.now(0) == say.possible(1) == 0
        assert say.choices(0) == (0,)

    def test_what_was_judged_best_counts_but_no_guess_lasts(self):
        say = self.say()
        say.judge(1.0)
        assert say.now(FIRST_GUESS) == TOGETHER
        say.judge(0.0)
        assert say.now(0) == say.now(FIRST_GUESS) == 0

    @pytest.mark.parametrize(
        ("step", "sparse", "clear", "choices"),
        [
            (0, True, None, (1,)),
            (ASKED, True, None, (TOGETHER,)),
            (ALONE, True, None, (TOGETHER, 0)),
            (0, False, True, (1, TOGETHER)),
            (ASKED, False, True, (TOGETHER, 1)),
            (FIRST_GUESS, False, True, (TOGETHER, 0)),
            (ASKED, False, False, (TOGETHER, 1)),
            (FIRST_GUESS, False, False, (0, TOGETHER)),
        ],
    )
    def test_few_strokes_tell_nothing_and_few_steps_are_not_left_alone(
        self, step, sparse, clear, choices
    ):
        assert self.say(sparse=sparse, clear=clear).choices(step) == choices

    def test_held_out_masks_do_not_say_how_objects_are_parted(self):
        say = self.say(of_objects=True, clear=None)
        assert say.choices(0) == (1,)
        assert say.choices(FIRST_GUESS) == say.choices(ALONE) == (TOGETHER,)
        assert self.say(of_objects=True, net=None).choices(ALONE) == (0,)
