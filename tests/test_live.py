"""The live overlay: it agrees with the whole image, keeps its share of time, shows what it can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_unet import inference
from napari_unet.cards import Card
from napari_unet.config import NetConfig, PredictConfig, class_table
from napari_unet.library import Model
from napari_unet.live import PATIENCE, SHARE, SOONEST, Look, Seen, can_show, watched
from napari_unet.models import build
from napari_unet.pictures import Picture, View
from napari_unet.run import Control, Noticed, Peeked, Predicted, Started, Stepped

CONFIG = PredictConfig(device="cpu", precision="float32")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Clock:
    """A clock that goes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        self.now += 1e-6  # no two looks at a clock are at the same time
        return self.now


def make_model(arch: str = "simple", **net: Any) -> Model:
    """A model whose net is torn between its classes, so that it says other things everywhere."""
    torch.manual_seed(0)
    built = build(NetConfig(arch=arch, **{"width": 4, "depth": 2} | net)).eval()
    config = built.config
    noise = torch.randn(1, config.in_channels, *(32,) * config.ndim)
    weights = built.state_dict()
    with torch.no_grad():
        weights["last.bias"] -= built(noise).flatten(2).mean((0, 2))
    card = Card(name="m", net=config, classes=class_table(config.n_classes), axes="CYX")
    return Model(card, weights)


def make_picture(*shape: int, channels: int = 1) -> Picture:
    noise = np.random.default_rng(0).normal(size=(channels, *shape))
    smooth = ndimage.gaussian_filter(noise, (0, *(1.5,) * len(shape)))
    return Picture("p", (128 + 300 * smooth).clip(0, 255).astype(np.uint8))


def view_of(picture: Picture, *region: tuple[int, int], step: int = 1) -> View:
    """A view; what is shown are the two axes along which it is longest."""
    sizes = [b - a for a, b in region]
    shown = sorted(np.argsort(sizes, kind="stable")[-2:].tolist())
    return View(picture, tuple(slice(*r) for r in region), tuple(shown), step)


def whole(model: Model, picture: Picture, steps: tuple[int, ...] | None = None) -> np.ndarray:
    """What the model makes of the whole, or of every so-many-eth pixel of it, at once."""
    pixels = picture.pixels[(slice(None), *(slice(None, None, s) for s in steps or ()))]
    config = CONFIG.model_copy(update={"tile": 4096})
    events = list(inference.predict(model, pixels, config, stats=picture.stats))
    return events[-1].labels


def look_at(model: Model, view: View) -> Seen:
    look = Look()
    look.view = view
    seen = look.at(model, 7, CONFIG)
    assert seen is not None
    return seen


class TestSeen:
    @pytest.mark.parametrize("arch", ["simple", "upsample", "classic"])
    @pytest.mark.parametrize("corner", [(0, 0), (51, 66), (77, 103)])
    def test_is_what_the_whole_image_would_be_there(self, arch, corner):
        model, picture = make_model(arch, n_classes=2), make_picture(130, 150)
        y, x = corner
        view = view_of(picture, (y, y + 30), (x, x + 41))

        seen = look_at(model, view)

        expected = whole(model, picture)[y : y + 30, x : x + 41]
        assert (seen.step, seen.view) == (7, view)
        assert np.array_equal(seen.labels, expected)
        assert len(np.unique(expected)) > 1

    def test_every_second_pixel_is_seen_as_if_there_were_no_others(self):
        model, picture = make_model(), make_picture(231, 260)
        view = view_of(picture, (90, 161), (114, 231), step=2)

        seen = look_at(model, view)

        assert np.array_equal(seen.labels, whole(model, picture, (2, 2))[45:81, 57:116])

    def test_a_plane_of_a_stack_of_stacks(self):
        model, picture = make_model(), make_picture(2, 3, 60, 64)

        seen = look_at(model, view_of(picture, (1, 2), (2, 3), (20, 40), (22, 50)))

        assert seen.labels.shape == (1, 1, 20, 28)
        assert np.array_equal(seen.labels[0, 0], whole(model, picture)[1, 2, 20:40, 22:50])

    @pytest.mark.parametrize(
        "region",
        [((15, 16), (11, 30), (14, 32)), ((7, 25), (20, 21), (8, 33)), ((7, 25), (9, 30), (6, 7))],
    )
    def test_any_plane_of_a_volume_with_the_planes_around_it(self, region):
        model, picture = make_model(ndim=3, depth=1), make_picture(32, 40, 42)
        view = view_of(picture, *region)

        seen = look_at(model, view)

        expected = whole(model, picture)[view.region]
        assert seen.labels.shape == tuple(b - a for a, b in region)
        assert np.array_equal(seen.labels, expected)
        assert len(np.unique(expected)) > 1

    def test_a_volume_among_several(self):
        model, picture = make_model(ndim=3, depth=1), make_picture(2, 16, 30, 30)
        view = view_of(picture, (1, 2), (6, 7), (5, 25), (5, 28))

        seen = look_at(model, view)

        assert seen.labels.shape == (1, 1, 20, 23)
        assert np.array_equal(seen.labels, whole(model, picture)[view.region])

    def test_the_middle_of_a_view_is_what_the_whole_image_would_be_there(self):
        model, picture = make_model(), make_picture(130, 150)
        view = view_of(picture, (0, 130), (0, 150)).within(3000)

        seen = look_at(model, view)

        assert np.array_equal(seen.labels, whole(model, picture)[view.region])


class TestWhatCanBeShown:
    @pytest.mark.parametrize(
        ("ndim", "shape", "shown", "can"),
        [
            (2, (30, 30), (0, 1), True),
            (2, (5, 30, 30), (1, 2), True),
            (2, (5, 30, 30), (0, 2), False),
            (3, (5, 30, 30), (0, 2), True),
            (3, (2, 5, 30, 30), (1, 3), True),
            (3, (2, 5, 30, 30), (0, 3), False),
            (3, (30, 30), (0, 1), False),
        ],
    )
    def test_is_what_lies_in_the_axes_of_the_net(self, ndim, shape, shown, can):
        model, picture, look = make_model(ndim=ndim, depth=1), make_picture(*shape), Look()
        region = tuple(slice(0, n if a in shown else 1) for a, n in enumerate(shape))
        look.view = View(picture, region, shown)

        seen = look.at(model, 1, CONFIG)

        assert can_show(model, look.view) == can
        assert (seen is not None) == can

    def test_is_what_has_the_channels_of_the_net(self):
        model = make_model(in_channels=2)
        views = [view_of(make_picture(20, 20, channels=n), (0, 20), (0, 20)) for n in (1, 2, 3)]

        assert [can_show(model, view) for view in views] == [False, True, False]

    def test_nothing_is_seen_without_a_view(self):
        assert Look().at(make_model(), 1, CONFIG) is None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def look(clock) -> Look:
    """A look at an image of 300 x 300, by a clock that stands still."""
    look = Look(clock)
    look.view = view_of(make_picture(300, 300), (0, 300), (0, 300))
    return look


def takes(seconds: float, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a prediction takes so long, whatever its size."""
    real = inference.predict

    def slow(*arguments: Any, **options: Any) -> Iterator[Any]:
        clock.now += seconds
        return real(*arguments, **options)

    monkeypatch.setattr(inference, "predict", slow)


class TestPacing:
    def test_not_when_turned_off_or_without_a_view(self, look):
        look.on = False
        off = look.due(50)
        look.on, look.view = True, None

        assert not off
        assert not look.due(50)

    def test_not_sooner_than_after_a_second(self, look, clock):
        look.at(make_model(), 50, CONFIG)
        clock.now += 0.9 * SOONEST
        soon = look.due(60)
        clock.now += 0.2 * SOONEST

        assert not soon
        assert look.due(60)

    def test_not_again_at_the_same_step_unless_the_view_is_another(self, look, clock):
        look.at(make_model(), 50, CONFIG)
        clock.now += 100
        same = look.due(50)
        look.view = view_of(look.view.picture, (0, 200), (0, 200))

        assert not same
        assert look.due(50)

    def test_training_keeps_its_share_of_the_time(self, look, clock, monkeypatch):
        model = make_model()
        look.at(model, 49, CONFIG)
        takes(3.0, clock, monkeypatch)
        look.at(model, 50, CONFIG)
        end = clock.now

        clock.now = end + 3.0 / SHARE - 0.1
        soon = look.due(60)
        clock.now = end + 3.0 / SHARE + 0.1

        assert not soon
        assert look.due(60)

    def test_of_a_view_that_takes_long_only_the_middle_is_seen(self, look, clock, monkeypatch):
        model = make_model()
        look.at(model, 49, CONFIG)
        takes(2 * PATIENCE, clock, monkeypatch)

        first, second = look.at(model, 50, CONFIG), look.at(model, 51, CONFIG)

        assert first.labels.shape == (300, 300)
        assert first.seconds == pytest.approx(2 * PATIENCE, rel=1e-3)
        assert second.view.pixels == pytest.approx(first.view.pixels / 2, rel=0.01)
        middles = [(r.start + r.stop) / 2 for r in second.view.region]
        assert middles == pytest.approx([150, 150], abs=1)
        assert np.array_equal(second.labels, first.labels[second.view.region])

    def test_the_first_look_is_slow_for_reasons_of_its_own(self, look, clock, monkeypatch):
        model = make_model()
        takes(30.0, clock, monkeypatch)

        look.at(model, 50, CONFIG)
        clock.now += 1.1 * SOONEST

        assert look.due(51)
        assert look.at(model, 51, CONFIG).labels.shape == (300, 300)

    def test_it_widens_again_when_it_is_fast_enough(self, look, clock, monkeypatch):
        model = make_model()
        look.at(model, 49, CONFIG)
        takes(2 * PATIENCE, clock, monkeypatch)
        less = [look.at(model, step, CONFIG).view.pixels for step in (50, 51)]
        takes(-1.9 * PATIENCE, clock, monkeypatch)

        look.at(model, 52, CONFIG)
        again = look.at(model, 53, CONFIG)

        assert less[1] < less[0]
        assert again.labels.shape == (300, 300)

    def test_a_view_that_cannot_be_shown_is_not_asked_for_at_each_step(self, look, clock):
        model = make_model(in_channels=2)

        first = look.due(50)
        look.at(model, 50, CONFIG)

        assert first
        assert not look.due(51)
        assert not look.is_new()


class TestIsNew:
    def test_until_it_was_looked_at(self, look):
        before = look.is_new()
        look.at(make_model(), 3, CONFIG)
        after = look.is_new()
        look.view = view_of(look.view.picture, (0, 200), (0, 200))

        assert (before, after, look.is_new()) == (True, False, True)

    def test_not_without_a_view_or_when_turned_off(self, look):
        look.on = False
        off = look.is_new()
        look.on, look.view = True, None

        assert not off
        assert not look.is_new()

    def test_when_it_is_turned_on_again(self, look):
        look.at(make_model(), 3, CONFIG)
        look.on = False

        look.on = True

        assert look.is_new()


def stepped(step: int) -> Stepped:
    return Stepped(step, float(step), 0.5, 100)


class TestWatched:
    def test_asks_when_it_is_due_and_lays_what_is_seen_after_the_answer(self, look):
        control, model = Control(), make_model()
        events = [stepped(0), stepped(10), Peeked(11, model), Noticed("class", "."), stepped(12)]
        told, asked = [], []

        for event in watched(iter(events), control, look, CONFIG):
            told.append(event)
            asked.append(control.take_question())

        assert [e for e in told if not isinstance(e, Seen)] == events
        (seen,) = (e for e in told if isinstance(e, Seen))
        assert told.index(seen) == 3
        assert (seen.step, seen.view) == (11, look.view)
        # What is asked for at an event is known when the next one is drawn.
        assert asked == [False, False, True, False, False, False]

    @pytest.mark.parametrize("guess", [False, True])
    def test_asks_before_the_first_step_where_there_is_an_answer_by_then(self, look, guess):
        control = Control()
        started = Started("cpu", "float32", 1, 1, 1, 0, first_guess=guess)
        told = watched(iter([started, stepped(0)]), control, look, CONFIG)

        next(told), next(told)  # what is asked for at an event is known when the next is drawn

        assert control.take_question() == guess

    def test_asks_nothing_while_it_is_off(self, look):
        look.on = False
        control = Control()

        list(watched(iter([stepped(s) for s in range(40)]), control, look, CONFIG))

        assert not control.take_question()

    def test_what_training_tells_unasked_is_not_looked_at_while_it_is_off(self, look):
        look.on = False

        told = list(watched(iter([Peeked(0, make_model())]), Control(), look, CONFIG))

        assert not [e for e in told if isinstance(e, Seen)]

    def test_a_prediction_is_no_event_of_training(self, look):
        events = [Peeked(11, make_model())]

        told = list(watched(iter(events), Control(), look, CONFIG))

        assert not [e for e in told if isinstance(e, Predicted)]

    def test_whatever_goes_wrong_with_a_look_training_goes_on(self, look, clock, monkeypatch):
        class Broken(Exception):
            """Of a library that reads lazy images."""

        def broken(*_arguments, **_options):
            raise Broken("the file is gone")

        monkeypatch.setattr(inference, "predict", broken)
        events = [stepped(10), Peeked(11, make_model()), stepped(12), stepped(13)]
        control, told, asked = Control(), [], []

        for event in watched(iter(events), control, look, CONFIG):
            told.append(event)
            asked.append(control.take_question())

        assert [e for e in told if e in events] == events
        (said,) = (e for e in told if isinstance(e, Noticed))
        assert said.message == "The live mask could not be drawn: the file is gone"
        assert not any(asked[told.index(said) :]), "it is tried again later, not at once"
        clock.now += 1.1 * SOONEST
        assert look.due(14)
