"""A session without a window: what is painted, what is trained on it, and what is said of both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_unet.annotation as annotation_module
from napari_unet.cards import Card, fingerprint, library_folder
from napari_unet.config import BACKGROUND, NetConfig, TrainConfig, class_table
from napari_unet.library import Model, chosen_model
from napari_unet.live import Seen
from napari_unet.pictures import Picture, View
from napari_unet.run import BadInput, Event, Peeked, Rested, Started, Stepped, Trained
from napari_unet.session import Loaded, Machine, Session, load

TINY = {"arch": "simple", "width": 4, "depth": 1, "patch": 16, "batch": 1}
CONFIG = TrainConfig(**TINY, device="cpu", precision="float32", steps=2)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_library(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))


@pytest.fixture
def session() -> Session:
    session = Session()
    session.config = CONFIG
    return session


def make_picture(name: str, *shape: int, channels: int = 1, **more: Any) -> Picture:
    pixels = np.random.default_rng(len(name)).integers(0, 255, (channels, *shape), np.uint8)
    return Picture(name, pixels, **more)


def strokes(*shape: int, label: int = 1) -> np.ndarray:
    """Six pixels of a class and four of background in each plane."""
    annotation = np.zeros(shape, np.uint8)
    annotation[..., 2:4, 1:4] = label
    annotation[..., 8:10, 6:8] = BACKGROUND
    return annotation


def begun(session: Session, *shape: int) -> Picture:
    """A picture with strokes, taken into the session."""
    picture = make_picture("p", *(shape or (20, 20)))
    session.add(picture, strokes(*picture.shape))
    return picture


def learned(session: Session, start: Any = None, name: str = "model") -> list[Event]:
    """The events of a whole run, each taken in."""
    events = []
    for event in session.train(start, name):
        session.take(event)
        events.append(event)
    return events


def until(kind: type[Event], events: Iterator[Event], session: Session) -> Any:
    """Take events in up to the first of a kind."""
    for event in events:
        session.take(event)
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__} came")


def images(session: Session) -> int:
    """How many images there are to train on: planes, or volumes."""
    session.take(Event())
    return session.progress.images


def heard(signal: Any) -> list[tuple[Any, ...]]:
    """What a signal says from now on."""
    said: list[tuple[Any, ...]] = []
    signal.connect(lambda *what: said.append(what))
    return said


def model_named(name: str) -> Model:
    return Model(Card(name=name, net=NetConfig(), classes=class_table(1), axes="CYX"), {})


def ended(best: Model, last: Model | None = None) -> Trained:
    return Trained("steps", 1, 1.0, None, best, last or best)


class TestPainting:
    def test_begins_with_one_class_and_nothing_painted(self, session):
        assert (len(session.classes), session.counts, session.ready) == (1, (0, 0), False)
        assert (session.pictures, session.model, session.newest) == ({}, None, None)

    def test_what_is_painted_already_is_counted(self, session):
        said = heard(session.annotation_changed)

        picture = begun(session)

        assert session.counts == (4, 6)
        assert session.pictures == {"p": picture}
        assert said

    def test_is_taken_in_where_it_is_told_of(self, session):
        annotation = strokes(20, 20)
        session.add(make_picture("p", 20, 20), annotation)
        said = heard(session.annotation_changed)
        annotation[12:14, 0:5] = 1
        annotation[16:18, 0:5] = BACKGROUND
        annotation[2:4] = 0

        counts = []
        for region in ((slice(12, 13), slice(2, 20)), (slice(0, 4), slice(0, 2)), None):
            session.paint("p", region)
            counts.append(session.counts)

        assert counts == [(4, 9), (4, 7), (14, 10)]
        assert len(said) == 3

    @pytest.mark.parametrize(
        ("labels", "ready"),
        [((1,), False), ((2, 2), False), ((1, 2), True), ((BACKGROUND, 2), True)],
    )
    def test_is_ready_with_two_kinds_to_tell_apart(self, session, labels, ready):
        session.classes = class_table(2)
        annotation = np.zeros((20, 20), np.uint8)
        for row, label in enumerate(labels):
            annotation[row] = label

        session.add(make_picture("p", 20, 20), annotation)

        assert session.ready == ready

    def test_another_annotation_of_a_picture_takes_the_place_of_the_one_before(self, session):
        picture = begun(session, 3, 20, 20)
        other = np.zeros((3, 20, 20), np.uint8)
        other[1] = strokes(20, 20)

        session.add(picture, other)

        assert session.counts == (4, 6)

    def test_another_picture_of_a_name_takes_the_place_of_the_one_before(self, session):
        begun(session, 3, 20, 20)
        other = make_picture("p", 30, 30)

        session.add(other, strokes(30, 30))

        assert (session.counts, images(session)) == ((4, 6), 1)
        assert session.pictures == {"p": other}

    def test_what_is_removed_no_longer_counts(self, session):
        begun(session, 3, 20, 20)
        session.add(make_picture("other", 20, 20), strokes(20, 20))
        said = heard(session.annotation_changed)

        session.remove("p")

        assert (session.counts, images(session)) == ((4, 6), 1)
        assert list(session.pictures) == ["other"]
        assert said

    def test_removing_what_is_not_there_changes_nothing(self, session):
        begun(session)
        said = heard(session.annotation_changed)

        session.remove("another")

        assert session.counts == (4, 6)
        assert not said

    @pytest.mark.parametrize(
        ("volumes", "shape", "painted", "number"),
        [
            (False, (20, 20), [()], 1),
            (False, (4, 20, 20), [(1,), (3,)], 2),
            (False, (2, 3, 20, 20), [(0, 1), (1, 1), (1, 2)], 3),
            (True, (4, 20, 20), [(1,), (3,)], 1),
            (True, (3, 2, 20, 20), [(0, 1), (2, 0), (2, 1)], 2),
        ],
    )
    def test_each_painted_plane_or_volume_is_an_image(
        self, session, volumes, shape, painted, number
    ):
        session.volumes = volumes
        annotation = np.zeros(shape, np.uint8)
        session.add(make_picture("p", *shape), annotation)
        for place in painted:
            annotation[place] = strokes(20, 20)
            session.paint("p", (*(slice(p, p + 1) for p in place), slice(0, 20), slice(0, 20)))

        assert images(session) == number
        assert session.counts == (4 * len(painted), 6 * len(painted))


class TestPicturesThatDoNotFit:
    def test_other_channels_are_refused_beside_those_of_the_first(self, session):
        begun(session)

        with pytest.raises(BadInput, match=r"'rgb' has 3 channel\(s\) .* have 1; paint"):
            session.add(make_picture("rgb", 20, 20, channels=3), strokes(20, 20))

        assert (list(session.pictures), session.counts) == (["p"], (4, 6))

    @pytest.mark.parametrize("name", ["p", "other"])
    def test_other_channels_are_fine_once_the_first_are_gone(self, session, name):
        begun(session)
        if name != "p":
            session.remove("p")

        session.add(make_picture(name, 20, 20, channels=3), strokes(20, 20))

        assert (list(session.pictures), session.counts) == ([name], (4, 6))
        assert learned(session)[-1].model.card.net.in_channels == 3

    @pytest.mark.parametrize(("channels", "outgrown"), [(1, False), (3, True)])
    def test_a_net_in_training_is_outgrown_by_other_channels(self, session, channels, outgrown):
        begun(session)
        session.train()
        said = heard(session.outgrown)

        session.add(make_picture("p", 20, 20, channels=channels), strokes(20, 20))

        assert session.counts == (4, 6)
        assert bool(said) == outgrown

    @pytest.mark.parametrize("shape", [(2, 20, 20), (20, 21), (20,)])
    def test_an_annotation_of_another_shape_is_refused(self, session, shape):
        with pytest.raises(BadInput, match=r"annotation of 'p' .* give one of its shape"):
            session.add(make_picture("p", 20, 20), np.ones(shape, np.uint8))

        assert not session.pictures

    def test_a_value_that_is_no_class_is_refused(self, session):
        picture = make_picture("p", 20, 20)

        with pytest.raises(BadInput, match=r"'p' holds the value 2 but the classes are 1\.\.1"):
            session.add(picture, strokes(20, 20, label=2))


class TestClasses:
    def test_a_change_is_told(self, session):
        said, two = heard(session.classes_changed), class_table(2)

        session.classes = two

        assert session.classes == two
        assert said == [(two,)]

    @pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
    def test_what_is_painted_stays_when_there_are_more_or_fewer(self, session, before, after):
        session.classes = class_table(before)
        begun(session)

        session.classes = class_table(after)

        assert session.counts == (4, 6, *(0,) * (after - 1))

    @pytest.mark.parametrize(
        ("names", "outgrown"), [(["cell"], False), (["cell", "nucleus"], True)]
    )
    def test_a_net_in_training_is_outgrown_by_more_classes_not_by_other_names(
        self, session, names, outgrown
    ):
        begun(session)
        said = heard(session.outgrown)
        session.classes = class_table(["a name"])
        session.train()

        session.classes = class_table(names)

        assert bool(said) == outgrown

    def test_nothing_is_outgrown_without_training(self, session):
        begun(session)
        said = heard(session.outgrown)

        session.classes, session.volumes = class_table(2), True

        assert not said

    def test_a_new_name_reaches_the_model_in_training(self, session):
        begun(session)
        events = session.train()
        until(Stepped, events, session)

        session.classes = class_table(["cell"])
        trained = until(Trained, events, session)

        assert [c.name for c in trained.model.card.classes] == ["cell"]


class TestVolumes:
    def test_planes_are_left_out_and_come_back(self, session):
        begun(session, 3, 20, 20)
        session.add(make_picture("plane", 20, 20), strokes(20, 20))

        counts = [session.counts]
        for volumes in (True, False):
            session.volumes = volumes
            counts.append(session.counts)

        assert counts == [(16, 24), (12, 18), (16, 24)]

    def test_what_no_longer_counts_is_told_though_nothing_is_left(self, session):
        begun(session)
        counts = []
        session.annotation_changed.connect(lambda: counts.append(session.counts))

        session.volumes = True

        assert counts
        assert counts[-1] == (0, 0)

    @pytest.mark.parametrize(
        "act",
        [
            lambda session: session.add(make_picture("other", 20, 20), strokes(20, 20)),
            lambda session: session.paint("p"),
        ],
        ids=["add", "paint"],
    )
    def test_a_plane_is_refused_in_a_sentence(self, session, act):
        begun(session)
        session.volumes = True

        with pytest.raises(BadInput, match="is a plane, but volumes are being learned"):
            act(session)

        assert list(session.pictures) == ["p"]

    def test_a_net_in_training_is_outgrown_once_they_change(self, session):
        begun(session, 3, 20, 20)
        session.train()
        said = heard(session.outgrown)

        session.volumes = False
        same = len(said)
        session.volumes = True

        assert (same, len(said)) == (0, 1)


class TestTraining:
    def test_goes_from_the_machine_to_a_model(self, session):
        session.classes = class_table(["cell"])
        begun(session)
        models = heard(session.model_changed)

        events = learned(session, name="mine")

        kinds = [type(e) for e in events]
        assert (kinds[:2], kinds[-1]) == ([Machine, Started], Trained)
        assert events[0].device
        assert events[0].why_no_gpu
        assert session.machine is events[0]
        assert not session.training
        assert (session.progress.phase, session.progress.step) == ("done", 2)
        model = events[-1].model
        assert session.model is session.newest is model
        assert (model.card.name, model.card.classes) == ("mine", class_table(["cell"]))
        assert models == [(model,)]

    def test_needs_something_painted(self, session):
        session.add(make_picture("p", 20, 20), np.zeros((20, 20), np.uint8))

        with pytest.raises(BadInput, match="Nothing is painted yet"):
            session.train()

        assert not session.training

    def test_is_done_one_run_at_a_time(self, session):
        begun(session)
        session.train()
        control = session.control

        with pytest.raises(BadInput, match="under way already; stop it first"):
            session.train()

        assert session.control is control

    def test_reads_the_painted_planes_at_the_range_of_their_stack(self, session):
        pixels = np.random.default_rng(0).integers(0, 50, (1, 3, 20, 20), np.uint8)
        pixels[:, 1] *= 5
        picture = Picture("p", pixels, spacing=(3.0, 0.5, 0.25), unit="micrometer")
        annotation = np.zeros((3, 20, 20), np.uint8)
        annotation[2] = strokes(20, 20)
        blank = make_picture("blank", 20, 20, spacing=(7.0, 7.0), unit="nanometer")
        session.add(blank, np.zeros((20, 20), np.uint8))
        session.add(picture, annotation)

        card = learned(session)[-1].model.card

        assert card.images == {"p[2]": fingerprint(pixels[:, 2])}
        assert card.seen == (picture.stats,)
        assert (card.axes, card.spacing, card.unit) == ("CYX", (0.5, 0.25), "micrometer")
        assert card.labelled == (4, 6)

    def test_reads_volumes_as_volumes(self, session):
        pixels = np.random.default_rng(0).integers(0, 255, (1, 2, 4, 20, 20), np.uint8)
        annotation = np.zeros((2, 4, 20, 20), np.uint8)
        annotation[1, 2] = strokes(20, 20)
        session.volumes = True
        session.add(Picture("p", pixels, spacing=(9.0, 4.0, 2.0, 1.0)), annotation)

        card = learned(session)[-1].model.card

        assert card.images == {"p[1]": fingerprint(pixels[:, 1])}
        assert (card.net.ndim, card.axes, card.spacing) == (3, "CZYX", (4.0, 2.0, 1.0))

    def test_learns_what_is_painted_meanwhile(self, session):
        session.config = CONFIG.model_copy(update={"steps": 4})
        picture = begun(session)
        events = session.train()
        until(Stepped, events, session)

        # Though nothing is left for a moment, it is the same run that goes on.
        session.remove("p")
        session.add(make_picture("other", 20, 20), strokes(20, 20))
        session.add(picture, strokes(20, 20))
        trained = until(Trained, events, session)

        assert list(trained.model.card.images) == ["other", "p"]
        assert session.progress.images == 2

    @pytest.mark.parametrize("form", ["model", "name", "path"])
    def test_goes_on_from_a_model(self, session, form):
        begun(session)
        first = learned(session, name="first")[-1].model
        place = first.save(library_folder() / "first")
        start = {"model": first, "name": "first", "path": place}[form]
        session.config = session.config.model_copy(update={"rate": 1e-9, "seed": 5})

        second = learned(session, start)[-1].model

        net = {k: w for k, w in first.weights.items() if not k.startswith("pixels.")}
        assert all(torch.allclose(second.weights[k], w, atol=1e-5) for k, w in net.items())

    def test_goes_on_with_more_classes(self, session):
        begun(session)
        first = learned(session)[-1].model
        session.classes = class_table(2)

        second = learned(session, first)[-1].model

        assert (second.card.net.n_classes, len(second.card.classes)) == (2, 2)

    @pytest.mark.parametrize(
        ("start", "shape", "channels", "problem"),
        [
            ("first", (3, 20, 20), 1, "Model 'first' reads 1 .* in 2-D, these .* in 3-D"),
            ("first", (20, 20), 2, r"Model 'first' reads 1 channel\(s\) .* are 2 channel"),
            ("none such", (20, 20), 1, "The library has no model named 'none such'"),
        ],
    )
    def test_a_net_that_does_not_fit_is_refused_in_a_sentence(
        self, session, start, shape, channels, problem
    ):
        begun(session)
        first = learned(session, name="first")[-1].model
        first.save(library_folder() / "first")
        session.remove("p")
        session.volumes = len(shape) == 3
        session.add(make_picture("p", *shape, channels=channels), strokes(*shape))

        with pytest.raises(BadInput, match=problem):
            learned(session, start)
        session.end()

        assert (session.training, session.progress.phase) == (False, "idle")
        assert session.model is first


class TestWhatIsAskedOfARun:
    def test_nothing_is_asked_where_none_is(self, session):
        session.pause()
        session.resume()
        session.stop()

        assert session.progress.phase == "idle"

    def test_it_pauses_and_goes_on(self, session):
        begun(session)
        events = session.train()
        until(Stepped, events, session)

        session.pause()
        paused = (session.control.paused, session.progress.phase)
        session.resume()

        assert paused == (True, "paused")
        assert (session.control.paused, session.progress.phase) == (False, "learning")

    def test_it_stops_though_it_was_paused_and_gives_its_model(self, session):
        session.config = CONFIG.model_copy(update={"steps": None})
        begun(session)
        events = session.train()
        until(Stepped, events, session)

        session.pause()
        session.stop()
        # Before it is waited for, or a run that does not stop would hang.
        assert (session.progress.phase, session.control.stopped) == ("stopping", True)
        trained = until(Trained, events, session)

        assert trained.reason == "stopped"
        assert session.model is trained.model

    @pytest.mark.parametrize(
        ("waits", "on", "asked"),
        [
            ("paused", True, True),
            ("resting", True, True),
            ("learning", True, False),
            ("paused", False, False),
        ],
    )
    def test_while_it_waits_a_new_view_is_asked_for_at_once(self, session, waits, on, asked):
        picture = begun(session)
        session.train()
        session.look.on = on
        session.take(Started("", "", 0, 0, 0, 0))
        if waits == "resting":
            session.take(Rested(1))
        elif waits == "paused":
            session.pause()
        view = View(picture, (slice(0, 20), slice(0, 20)), (0, 1))

        session.set_view(view)

        assert session.look.view is view
        assert session.control.take_question() == asked

    def test_a_paused_run_shows_a_view_once(self, session):
        session.config = CONFIG.model_copy(update={"steps": None})
        picture = begun(session)
        shown = heard(session.seen)
        events = session.train()
        until(Stepped, events, session)
        session.pause()
        view = View(picture, (slice(2, 12), slice(4, 20)), (0, 1))
        too_long = threading.Timer(20, session.control.stop)
        too_long.start()

        session.set_view(view)
        seen = until(Seen, events, session)
        too_long.cancel()
        session.set_view(view)

        assert (seen.view, seen.labels.shape) == (view, (10, 16))
        assert shown == [(seen,)]
        assert session.newest is not None
        assert session.model is None
        assert not session.control.take_question()


class TestModels:
    def test_one_that_is_chosen_is_told(self, session):
        said, model = heard(session.model_changed), model_named("chosen")

        session.model = model

        assert session.model is session.newest is model
        assert said == [(model,)]

    def test_the_newest_is_that_in_training_and_told_when_it_first_comes(self, session):
        begun(session)
        session.model = before = model_named("before")
        session.train()
        said = heard(session.model_changed)
        early, late = model_named("early"), model_named("late")

        for step, model in enumerate((early, late)):
            session.take(Peeked(step, model))

        assert session.newest is late
        assert session.model is before
        assert said == [(early,)]

    def test_after_a_failure_the_one_before_is_in_use_again(self, session):
        begun(session)
        session.model = before = model_named("before")
        session.train()
        session.take(Peeked(1, model_named("early")))
        said = heard(session.model_changed)

        session.end()

        assert session.newest is before
        assert said == [(before,)]
        assert (session.training, session.outcome, session.progress.phase) == (False, None, "idle")

    def test_the_end_of_a_run_that_succeeded_changes_nothing(self, session):
        begun(session)
        session.train()
        model = model_named("best")
        session.take(Peeked(1, model_named("early")))
        session.take(ended(model))
        said = heard(session.model_changed)

        session.end()

        assert session.newest is model
        assert session.progress.phase == "done"
        assert not said

    @pytest.mark.parametrize("which", ["best", "last", "before"])
    def test_after_a_run_any_of_three_is_kept(self, session, which):
        begun(session)
        models = {name: model_named(name) for name in ("before", "best", "last")}
        session.model = models["before"]
        session.train()
        session.take(ended(models["best"], models["last"]))
        at_first = session.model

        session.keep("last" if which != "last" else "before")
        session.keep(which)

        assert at_first is models["best"]
        assert session.model is models[which]

    def test_the_next_run_begins_afresh_with_nothing_to_keep(self, session):
        begun(session)
        session.train()
        session.take(ended(model_named("best"), model_named("last")))
        best = session.model
        session.train()

        session.keep("last")

        assert (session.progress.phase, session.progress.step) == ("starting", 0)
        assert session.outcome is None
        assert session.model is best

    @pytest.mark.parametrize(("version", "place"), [(None, 1), (2, 1), (1, 0)])
    def test_one_of_the_library_is_loaded_at_a_version(self, session, version, place):
        begun(session)
        models = []
        for seed in (1, 2):
            session.config = CONFIG.model_copy(update={"seed": seed})
            models.append(learned(session)[-1].model)
            models[-1].save(library_folder() / "model")

        (loaded,) = load("model", version)

        weights = models[place].weights
        assert isinstance(loaded, Loaded)
        assert all(torch.equal(loaded.model.weights[k], w) for k, w in weights.items())
        assert any(not torch.equal(models[1 - place].weights[k], w) for k, w in weights.items())


def test_a_name_in_the_library_is_no_folder_that_happens_to_be_here(session, tmp_path, monkeypatch):
    begun(session)
    learned(session, name="cells")[-1].model.save(library_folder() / "cells")
    (tmp_path / "here" / "cells").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")

    assert chosen_model("cells").card.name == "cells"
    (loaded,) = load("cells", None)
    assert loaded.model.card.name == "cells"
    with pytest.raises(BadInput):
        chosen_model(Path("cells"))


def test_a_run_without_a_step_leaves_the_model_before(session):
    before, random = model_named("before"), model_named("random")
    session.model = before
    begun(session)
    session.train()

    session.take(Trained("stopped", 0, 0.1, None, random, random))
    session.end()

    assert session.model is before
    assert session.outcome is None


def test_a_model_of_volumes_is_refused_for_planes_by_what_it_reads(session):
    session.volumes = True
    session.add(make_picture("p", 3, 20, 20, spacing=(2.0, 1.0, 1.0)), strokes(3, 20, 20))
    session.config = CONFIG.model_copy(update={"arch": "compact"})
    first = learned(session)[-1].model
    session.volumes = False

    with pytest.raises(BadInput, match=r"reads 1 .* in 3-D, these .* in 2-D"):
        learned(session, first)


def test_a_series_without_a_distance_between_its_frames_is_learned_as_a_volume(session):
    session.volumes = True
    session.add(make_picture("p", 3, 20, 20, spacing=(0.5, 0.5)), strokes(3, 20, 20))

    assert learned(session)[-1].model.card.net.ndim == 3


def test_one_picture_that_cannot_be_learned_holds_up_no_other(session):
    begun(session)
    session.add(make_picture("q", 20, 20), np.zeros((20, 20), np.uint8))
    session._painted["q"].annotation[:5] = 3
    told = heard(session.refused)

    session.classes = class_table(2)

    assert len(told) == 1
    assert "holds the value 3" in told[0][0]
    assert session.counts == (4, 6, 0)


def test_an_image_on_which_nothing_is_painted_asks_for_no_channels(session):
    session.add(make_picture("grey", 20, 20), np.zeros((20, 20), np.uint8))
    session.add(make_picture("colour", 20, 20, channels=3), strokes(20, 20))

    assert session.counts == (4, 6)


def test_a_stroke_costs_no_more_than_the_blocks_it_touches(session, monkeypatch):
    annotation = np.zeros((400, 400), np.uint8)
    session.add(make_picture("p", 400, 400), annotation)
    counted = []
    real = annotation_module.count_blocks
    monkeypatch.setattr(
        annotation_module, "count_blocks", lambda a, n: counted.append(a.size) or real(a, n)
    )

    annotation[10:20, 10:20] = 1
    session.paint("p", (slice(10, 20), slice(10, 20)))

    assert counted == [32 * 32]
    assert session.counts == (0, 100)
