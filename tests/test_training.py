"""Training: events in order, budgets, stop, live annotation, checkpoints, trouble."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch

from napari_unet import adviser, judging, learner
from napari_unet.adviser import ASKED, FIRST_GUESS, TOGETHER, TRUSTED
from napari_unet.annotation import TrainingSet
from napari_unet.augment import draw_warp
from napari_unet.best import MOST_PIECES, MOST_SECONDS
from napari_unet.cards import fingerprint
from napari_unet.config import BACKGROUND, NetConfig, TrainConfig, class_table
from napari_unet.device import Numerics, choose_numerics
from napari_unet.holdout import HoldOut
from napari_unet.inference import predict
from napari_unet.judging import Judge
from napari_unet.library import load_model
from napari_unet.metrics import confusion
from napari_unet.models import build
from napari_unet.normalise import measure
from napari_unet.patches import item_stats
from napari_unet.run import (
    BadInput,
    Control,
    Event,
    Noticed,
    Peeked,
    Predicted,
    Rested,
    Scored,
    Started,
    Stepped,
    Trained,
    Woke,
)
from napari_unet.training import train

TINY = {
    "width": 4, "depth": 2, "grain": 1, "patch": 32, "batch": 4, "device": "cpu",
    "precision": "float32",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def discs(seed: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs on noise (1, Y, X), and where they are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    mask = np.zeros((size, size), np.uint8)
    for cy, cx in rng.integers(0, size, (6, 2)):
        mask[(y - cy) ** 2 + (x - cx) ** 2 < 80] = 1
    image = (60 + 80 * mask + rng.normal(0, 20, mask.shape)).clip(0, 255).astype(np.uint8)
    return image[None], mask


def make_set(number: int = 1, size: int = 96, classes: int = 1) -> TrainingSet:
    training_set = TrainingSet(class_table(classes))
    for seed in range(number):
        image, mask = discs(seed, size)
        training_set.add(f"discs {seed}", image, mask, complete=True)
    return training_set


def strokes(number: int = 2) -> TrainingSet:
    """A little is painted in each image, the rest is left open."""
    training_set = TrainingSet(class_table(1))
    for seed in range(number):
        image, mask = discs(seed)
        annotation = np.where(mask, 1, BACKGROUND).astype(np.uint8)
        annotation[30:] = 0
        training_set.add(f"discs {seed}", image, annotation)
    return training_set


def run(training_set: TrainingSet, control: Control | None = None, **settings) -> list[Event]:
    return list(train(TrainConfig(**TINY | settings), training_set, control))


def of(kind: type[Event], events: list[Event]) -> list:
    return [e for e in events if isinstance(e, kind)]


def weights_of(events: list[Event]) -> dict[str, torch.Tensor]:
    return events[-1].model.weights


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class TestRun:
    def test_tells_what_happens_in_order(self):
        events = run(make_set(), steps=5)

        assert isinstance(events[0], Started)
        assert [e.step for e in of(Stepped, events)] == [1, 2, 3, 4, 5]
        assert isinstance(events[-1], Trained)
        assert events[-1].reason == "steps"

    def test_learns(self):
        events = run(make_set(3), steps=80, width=8)

        losses = [e.loss for e in of(Stepped, events)]
        assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])

    def test_seconds_are_a_limit(self):
        events = run(make_set(), seconds=1.0, second_opinion=False)  # which takes most of that

        assert events[-1].reason == "seconds"
        assert events[-1].seconds >= 1.0
        assert events[-1].step >= 1

    @pytest.mark.parametrize("arch", ["compact", "simple", "upsample", "nested"])
    def test_equal_seeds_give_equal_weights(self, arch):
        a, b = (run(make_set(), steps=4, arch=arch, seed=3) for _ in range(2))
        c = run(make_set(), steps=4, arch=arch, seed=4)

        assert equal(weights_of(a), weights_of(b))
        assert not equal(weights_of(a), weights_of(c))

    def test_starts_from_a_model_with_more_classes_to_learn(self):
        first = run(make_set(), steps=2)[-1].model
        more = make_set(classes=3)

        events = list(train(TrainConfig(steps=1, **TINY), more, start=first))

        assert len(events[-1].model.card.classes) == 3

    def test_refuses_a_start_with_other_channels(self):
        first = run(make_set(), steps=1)[-1].model
        rgb = TrainingSet(class_table(1))
        image, mask = discs(0)
        rgb.add("rgb", np.repeat(image, 3, 0), mask, complete=True)

        with pytest.raises(BadInput, match=r"reads 1 channel.*these images are 3"):
            list(train(TrainConfig(steps=1, **TINY), rgb, start=first))

    def test_the_card_says_what_the_model_was_made_of(self):
        card = run(make_set(2), steps=2)[-1].model.card

        assert list(card.images) == ["discs 0", "discs 1"]
        assert all(len(digest) == 64 for digest in card.images.values())
        assert sum(card.labelled) == 2 * 96 * 96
        assert card.training["steps"] == 2
        assert len(card.seen) == 2

    def test_the_card_has_only_images_that_were_learned_from(self):
        training_set, control, cards = make_set(), Control(), []
        for event in train(TrainConfig(steps=4, **TINY), training_set, control):
            if isinstance(event, Stepped) and event.step == 2:
                image, mask = discs(7)
                training_set.add("another", image, mask, complete=True)
                control.ask()
            if isinstance(event, Peeked):
                cards.append(event.model.card)
        cards.append(event.model.card)
        assert [[*card.images] for card in cards] == [["discs 0"], ["discs 0", "another"]]
        assert [len(card.seen) for card in cards] == [1, 2]
        assert sum(cards[1].labelled) == 2 * sum(cards[0].labelled)

    def test_volumes(self):
        volume = TrainingSet(class_table(1), ndim=3, spacing=(3.0, 1.0, 1.0))
        planes = [discs(s, 48) for s in range(8)]
        image = np.stack([i[0] for i, _ in planes])[None]
        volume.add("stack", image, np.stack([m for _, m in planes]), complete=True)

        events = run(volume, steps=2, patch=64)

        assert events[-1].model.card.net.ndim == 3
        assert events[-1].model.card.axes == "CZYX"


class TestControl:
    def test_stop_takes_effect_within_a_step_and_keeps_the_model(self):
        control, steps = Control(), []
        for event in train(TrainConfig(**TINY), make_set(), control):
            steps += of(Stepped, [event])
            if len(steps) == 3:
                control.stop()

        assert len(steps) <= 4
        assert event.reason == "stopped"
        assert event.model.weights

    def test_pause_holds_still_and_does_not_use_up_the_time(self):
        control = Control()
        config = TrainConfig(seconds=0.6, second_opinion=False, **TINY)  # which takes half of that
        events = train(config, make_set(), control)
        next(events)
        control.pause()
        threading.Timer(1.0, control.resume).start()

        rest = list(events)

        assert rest[-1].reason == "seconds"
        assert rest[-1].seconds < 1.5  # with the pause it would be at least 1.6
        assert len(of(Stepped, rest)) > 1


class TestLiveAnnotation:
    def test_rests_when_it_no_longer_improves_and_wakes_when_painted(self):
        training_set, control, seen = make_set(), Control(), []
        for event in train(TrainConfig(patience=3, rate=1e-9, **TINY), training_set, control):
            seen.append(type(event))
            if isinstance(event, Rested) and seen.count(Rested) == 1:
                training_set.paint("discs 0", (slice(0, 8), slice(0, 8)), np.full((8, 8), 1))
            elif isinstance(event, Rested):
                control.stop()

        assert seen.index(Rested) < seen.index(Woke)
        assert Stepped in seen[seen.index(Woke) :]

    def test_waits_for_the_first_stroke(self):
        training_set = TrainingSet(class_table(1))
        training_set.add("empty", discs(0)[0])
        control = Control()
        seen = []
        for event in train(TrainConfig(**TINY), training_set, control):
            seen.append(event)
            if isinstance(event, Rested):
                assert not of(Stepped, seen)
                training_set.paint("empty", (slice(0, 9), slice(0, 9)), 1)
                training_set.paint("empty", (slice(20, 29), slice(0, 9)), BACKGROUND)
            if isinstance(event, Stepped):
                control.stop()

        assert of(Woke, seen)
        assert of(Stepped, seen)

    def test_a_stroke_is_trained_on_at_the_next_step(self, monkeypatch):
        training_set, control = make_set(), Control()
        labels = []
        real = learner.cut

        def spy(*arguments):
            crops = real(*arguments)
            labels.append(np.unique(crops.labels))
            return crops

        monkeypatch.setattr(learner, "cut", spy)
        events = train(TrainConfig(augment=0, **TINY), training_set, control)
        next(e for e in events if isinstance(e, Stepped))
        before = len(labels)
        training_set.paint("discs 0", (slice(0, 96), slice(0, 96)), BACKGROUND)
        next(e for e in events if isinstance(e, Stepped))
        control.stop()
        list(events)

        assert any(1 in values for values in labels[:before])
        assert not any(1 in values for values in labels[before:])

    def test_says_when_a_class_is_nowhere_labelled(self):
        events = run(make_set(classes=2), steps=1)

        (notice,) = [e for e in of(Noticed, events) if e.kind == "class"]
        assert "Class 2 'class 2' is nowhere labelled" in notice.message

    def test_says_when_a_class_is_only_where_it_is_held_out(self):
        training_set = make_set(2, classes=2)
        image, mask = discs(7)
        training_set.add("judged", image, 2 * mask, complete=True, role="hold out")

        events = run(training_set, steps=1)

        (notice,) = [e for e in of(Noticed, events) if e.kind == "not-learned"]
        assert "Class 2 'class 2' is labelled only in or near what is held out" in notice.message

    def test_with_nothing_to_learn_from_but_what_is_held_out_there_is_no_run(self):
        training_set = TrainingSet(class_table(1))
        image, mask = discs(0)
        training_set.add("judged", image, mask, complete=True, role="hold out")

        with pytest.raises(BadInput, match="All that is labelled is held out"):
            run(training_set, steps=1)

    def test_nothing_labelled_is_refused_when_there_is_a_budget(self):
        training_set = TrainingSet(class_table(1))
        training_set.add("empty", discs(0)[0])

        with pytest.raises(BadInput, match="Nothing is labelled"):
            run(training_set, steps=1)


class TestJudging:
    def test_keeps_the_best_of_what_it_scored(self):
        events = run(make_set(6), steps=2 * FIRST_GUESS)

        scores = of(Scored, events)
        assert len(scores) >= 5
        assert events[-1].dice == max(s.dice for s in scores if s.step >= FIRST_GUESS)
        assert scores[0].best

    def test_the_card_has_the_score_of_each_image_that_was_held_out(self):
        training_set = make_set(3)
        for seed, role in ((5, "hold out"), (6, "hold out")):
            image, mask = discs(seed)
            training_set.add(f"discs {seed}", image, mask, complete=True, role=role)

        events = run(training_set, steps=60, holdout=0.01)

        card = events[-1].model.card
        assert set(card.held_out) == {"discs 5", "discs 6"}
        assert min(card.held_out.values()) - 1e-9 <= events[-1].dice
        assert max(card.held_out.values()) + 1e-9 >= events[-1].dice

    @pytest.mark.parametrize("same", [True, False], ids=["the same image", "another of its name"])
    def test_a_run_that_goes_on_is_not_judged_by_what_was_learned_before(self, same):
        first = run(make_set(2), steps=5)[-1].model
        (name,) = first.card.windows
        corner = (((64, 96), (64, 96)),)
        first.card = first.card.model_copy(update={"windows": {name: corner}})
        training_set = make_set(2)
        if not same:
            training_set.remove(name)
            image, mask = discs(9)
            training_set.add(name, image, mask, complete=True)

        events = list(train(TrainConfig(**TINY, steps=1), training_set, start=first))

        windows = events[-1].model.card.windows
        assert (windows == {name: corner}) == same

    def test_an_image_that_joins_a_run_is_not_judged_by_what_was_learned_of_it_before(self):
        first = run(make_set(2), steps=5)[-1].model
        learned = first.card.images["discs 0"]
        image, mask = discs(7)
        training_set, control = TrainingSet(class_table(1)), Control()
        training_set.add("another", image, mask, complete=True)
        config = TrainConfig(**TINY, steps=5, holdout=0.4)

        for event in train(config, training_set, control, start=first):
            if isinstance(event, Started):
                image, mask = discs(0)
                training_set.add("came later", image, mask, complete=True)

        card = event.model.card
        assert card.images["came later"] == learned
        before = first.card.windows.get("discs 0", ())
        assert card.windows.get("came later", ()) == before

    def test_what_was_learned_of_an_image_is_known_though_another_has_its_name(self):
        first = run(make_set(2), steps=5)[-1].model
        training_set = TrainingSet(class_table(1))
        image, mask = discs(9)
        training_set.add("discs 0", image, mask, complete=True)

        second = list(train(TrainConfig(**TINY, steps=1), training_set, start=first))[-1].model

        assert set(first.card.images.values()) < set(second.card.images.values())
        assert len(second.card.images) == 3
        name = next(n for n, d in second.card.images.items() if d == first.card.images["discs 0"])
        assert second.card.windows.get(name) == first.card.windows.get("discs 0")

    @pytest.mark.parametrize("back", [False, True], ids=["gone", "another in its place"])
    def test_what_was_learned_of_an_image_that_is_gone_is_known(self, back):
        """A run that goes on from it is not judged by what this one learned."""
        training_set = make_set(3)
        training_set.add("not painted on", discs(5)[0])
        for event in train(TrainConfig(steps=4, **TINY), training_set):
            if isinstance(event, Stepped) and event.step == 2:
                digest = fingerprint(discs(1)[0])
                training_set.remove("discs 1")
                if back:
                    image, mask = discs(7)
                    training_set.add("discs 1", image, mask, complete=True)
        images = event.model.card.images
        assert sorted(images) == ["discs 0", "discs 1", *["discs 1 2"] * back, "discs 2"]
        assert images["discs 1 2" if back else "discs 1"] == digest

    def test_says_when_too_little_can_be_held_out(self):
        events = run(make_set(1, size=64), steps=1)

        assert [e.kind for e in of(Noticed, events)] == ["held-out"]
        assert events[-1].dice is None

    def test_the_best_is_scored_anew_when_the_annotation_changes(self):
        training_set, control = make_set(6), Control()
        scores, flipped = [], False
        # A classifier would learn the new truth at once, and lend it to the old best.
        config = TrainConfig(second_opinion=False, **TINY)
        for event in train(config, training_set, control):
            scores += of(Scored, [event])
            if len(scores) == 3 and not flipped:  # turn every held-out truth into its opposite
                flipped = True
                for item in training_set.items:
                    turned = np.where(item.annotation == 1, BACKGROUND, 1)
                    training_set.annotate(item.name, turned)
            if len(scores) == 4:
                control.stop()

        # The old best is worthless on the new truth, whatever it scored before.
        assert event.model.card.current.steps >= scores[3].step

    def test_what_a_few_steps_learned_is_not_kept_for_its_score(self, monkeypatch):
        falling = itertools.count(1)

        def score(_self, _net, _items, shares, _view):
            return shares[-1], (1 / next(falling),)

        monkeypatch.setattr(Judge, "score", score)
        assert run(make_set(6), steps=FIRST_GUESS - 1)[-1].model.card.current.steps < FIRST_GUESS
        assert run(make_set(6), steps=2 * FIRST_GUESS)[-1].model.card.current.steps >= FIRST_GUESS


class TestRoles:
    def test_an_image_that_was_learned_cannot_judge_and_that_is_said(self):
        training_set = make_set(2)
        events = train(TrainConfig(**TINY, steps=20, holdout=0), training_set)
        next(e for e in events if isinstance(e, Stepped))
        training_set.remove("discs 0")
        image, mask = discs(0)
        training_set.add("discs 0", image, mask, complete=True, role="hold out")

        told = [e.message for e in of(Noticed, list(events)) if e.kind == "held-out"]

        assert len(told) == 1
        assert told[0].startswith("'discs 0' can no longer judge, as it was learned before;")


class TestGoingOn:
    def test_counts_all_that_was_learned_before(self):
        training_set, model = make_set(), None
        for expected in (2, 4, 6):
            events = list(train(TrainConfig(**TINY, steps=2), training_set, start=model))
            model = events[-1].last
            assert model.card.current.steps == 2
            assert model.card.current.learned == expected
            assert of(Started, events)[0].learned == expected - 2

    def test_a_stop_after_a_pause_takes_in_what_was_painted_meanwhile(self):
        training_set, control = make_set(), Control()
        events = train(TrainConfig(**TINY, steps=50), training_set, control)
        next(e for e in events if isinstance(e, Stepped))
        before = training_set.counts.tolist()
        training_set.paint("discs 0", (slice(0, 20), slice(0, 20)), 1)
        control.stop()

        card = list(events)[-1].model.card

        assert list(card.labelled) == training_set.counts.tolist() != before


class TestHints:
    def test_what_is_unpainted_is_learned_from_them(self, monkeypatch):
        losses = []
        real = learner.hint_loss

        def spy(logits, target, hints):
            assert hints.shape[1] == 2
            assert (target > 0).any()
            losses.append(float(real(logits.detach(), target, hints)))
            return real(logits, target, hints)

        monkeypatch.setattr(learner, "hint_loss", spy)
        run(strokes(), steps=80)
        assert len(losses) == 80
        assert np.mean(losses[-5:]) < 0.7 * losses[0]

    def test_before_the_first_step_the_classifier_answers_then_the_net(self, tmp_path):
        training_set, control = strokes(), Control()
        image, mask = discs(0)
        found = {}
        control.ask()
        for event in train(TrainConfig(**TINY), training_set, control):
            if isinstance(event, Started):
                assert event.first_guess
            if isinstance(event, Peeked):  # the net comes unasked
                found[event.step] = event.model
                if len(found) == 2:
                    control.stop()
                else:
                    *_, done = predict(event.model, image)
                    assert isinstance(done, Predicted)
                    assert (np.asarray(done.labels) == mask).mean() > 0.95
                    event.model.save(tmp_path / "model")
        assert [model.card.net.pixels for model in found.values()] == [1, TOGETHER]
        assert load_model(tmp_path / "model").card.net.pixels == 1
        assert [*found] == [0, ASKED]

    @pytest.mark.parametrize(("given", "balanced"), [(strokes, True), (make_set, False)])
    def test_classes_are_balanced_while_little_is_painted(self, monkeypatch, given, balanced):
        found = []
        real = learner.segmentation_loss

        def spy(*arguments, **named):
            found.append(named["class_weights"])
            return real(*arguments, **named)

        monkeypatch.setattr(learner, "segmentation_loss", spy)
        run(given(), steps=2)
        assert [weights is not None for weights in found] == [balanced] * 2

    def test_a_net_that_has_learned_needs_none(self, monkeypatch):
        model = run(strokes(), steps=2)[-1].model
        version = model.card.current.model_copy(update={"steps": TRUSTED})
        model.card = model.card.model_copy(update={"versions": (version,)})
        monkeypatch.setattr(learner, "hint_loss", None)  # not to be called
        last = [*train(TrainConfig(steps=2, **TINY), strokes(), start=model)][-1].last
        kept = {k: v for k, v in model.weights.items() if k.startswith("pixels.")}
        assert kept
        assert equal(kept, {k: last.weights[k] for k in kept})
        assert last.card.net.pixels == TOGETHER, "it is no first guess"

    def test_a_net_of_other_classes_has_not_learned(self, monkeypatch):
        """What it answers is new: until it knows better, the classifier says it, and tells it."""
        model = run(strokes(), steps=2)[-1].model
        version = model.card.current.model_copy(update={"steps": TRUSTED})
        model.card = model.card.model_copy(update={"versions": (version,)})
        training_set, hinted = TrainingSet(class_table(2)), []
        for item in strokes().items:
            annotation = item.annotation.copy()
            annotation[:, :20][annotation[:, :20] == 1] = 2
            training_set.add(item.name, item.image, annotation)
        monkeypatch.setattr(learner, "hint_loss", lambda *_: hinted.append(1) or torch.zeros(()))
        started, *_, done = train(TrainConfig(steps=2, **TINY), training_set, start=model)
        assert started.first_guess
        assert started.learned == 0
        assert hinted
        assert done.model.card.net.pixels == 1
        assert done.model.card.current.learned == 2

    def test_a_net_that_has_learned_a_little_has_a_part_in_them_at_once(self, monkeypatch):
        model = run(strokes(), steps=2)[-1].model
        version = model.card.current.model_copy(update={"steps": FIRST_GUESS})
        model.card = model.card.model_copy(update={"versions": (version,)})
        steps = []

        def spy(hints, _own, step):
            steps.append(step)
            return hints

        monkeypatch.setattr(learner, "agreed", spy)
        list(train(TrainConfig(steps=2, **TINY), strokes(), start=model))
        assert steps == [FIRST_GUESS, FIRST_GUESS + 1]

    def test_without_a_second_opinion_there_is_no_classifier(self, monkeypatch):
        model = run(strokes(), steps=2)[-1].model
        assert model.card.net.pixels
        monkeypatch.setattr(adviser, "fit", None)  # not to be called
        monkeypatch.setattr(learner, "hint_loss", None)
        events = run(strokes(), steps=2, second_opinion=False)
        assert not of(Started, events)[0].first_guess, "of a net without a step"
        last = events[-1].last
        assert last.card.net.pixels == 0
        config = TrainConfig(steps=2, second_opinion=False, **TINY)
        last = [*train(config, strokes(), start=model)][-1].last
        assert last.card.net.pixels == 0, "that of the model before leaves too"

    def test_of_other_rims_no_classifier_is_taken_over(self):
        model = run(strokes(), steps=2)[-1].model
        version = model.card.current.model_copy(update={"steps": TRUSTED})
        changed = {"versions": (version,), "rims": True}
        model.card = model.card.model_copy(update=changed)
        started, *_, done = train(TrainConfig(steps=2, **TINY), strokes(), start=model)
        assert started.learned == 0
        assert done.last.card.net.pixels == 1, "one was fitted anew"

    def test_in_a_volume_they_share_the_answer_too(self):
        training_set = TrainingSet(class_table(1), 3)
        planes, masks = zip(*(discs(seed, 48) for seed in range(4)), strict=True)
        annotation = np.where(np.stack(masks), 1, BACKGROUND).astype(np.uint8)
        annotation[:, 20:] = 0
        training_set.add("stack", np.stack(planes, 1), annotation)
        control, shares = Control(), {}
        control.ask()
        for event in train(TrainConfig(steps=ASKED + 1, **TINY), training_set, control):
            if isinstance(event, Peeked):
                shares[event.step] = event.model.card.net.pixels
        assert shares == {0: 1, ASKED: TOGETHER}
        assert event.last.card.net.pixels == TOGETHER

    def test_augmentation_grows_where_brightness_tells(self, monkeypatch):
        """And only there: without a second opinion nothing says so."""
        monkeypatch.setattr("napari_unet.learner.KNOWN", 10)
        strengths, warps = [], []

        def vary(x, strength, *_):
            strengths.append(strength)
            return x

        def draw(rng, batch, patch, strength, spacing):
            warps.append(strength)
            return draw_warp(rng, batch, patch, strength, spacing)

        monkeypatch.setattr("napari_unet.learner.vary_light", vary)
        monkeypatch.setattr("napari_unet.learner.draw_warp", draw)
        run(make_set(3), steps=25)
        assert strengths[:11] == [1.0] * 11
        assert strengths[15] == 1.5
        assert strengths[20:] == [2.0] * 5
        run(make_set(3), steps=25, augment=2.0)
        assert strengths[-1] == 3.0
        run(make_set(3), steps=25, second_opinion=False)
        assert strengths[-1] == 1.0
        assert warps == strengths

    def test_the_classifier_has_its_share_where_that_scores_better(self, monkeypatch):
        """A net that learns nothing is better off with half of what the classifier says."""
        monkeypatch.setattr("napari_unet.adviser.FIRST_GUESS", 0)
        model = run(make_set(6), steps=20, rate=1e-9)[-1].model
        assert model.card.net.pixels == TOGETHER
        assert model.card.current.dice > 0.9


class TestGrain:
    """The net works on squares of two pixels where these can draw what is annotated."""

    @pytest.mark.parametrize(("grain", "expected", "edge"), [(None, 2, 192), (1, 1, 128)])
    def test_it_and_the_patch_fit_unless_they_are_given(self, grain, expected, edge):
        settings = TINY | {"grain": grain, "patch": None}
        events = list(train(TrainConfig(steps=1, **settings), make_set(size=256)))

        assert events[-1].model.card.net.grain == expected
        assert of(Stepped, events)[0].pixels == TINY["batch"] * edge**2

    def test_who_goes_on_from_a_model_keeps_its_own(self):
        free = TINY | {"grain": None}
        *_, first = train(TrainConfig(steps=1, **TINY), make_set())
        *_, second = train(TrainConfig(steps=1, **free), make_set(), start=first.model)

        assert second.model.card.net.grain == 1
        with pytest.raises(BadInput, match="has grain 1, not 2; leave grain out"):
            list(train(TrainConfig(steps=1, **TINY | {"grain": 2}), make_set(), start=first.model))


class TestCheckpoint:
    @pytest.mark.parametrize("first", [7, 20, 23])
    @pytest.mark.parametrize("given", [partial(make_set, 6), strokes], ids=["masks", "strokes"])
    @pytest.mark.parametrize("grain", [1, 2])
    def test_going_on_equals_never_having_stopped(self, tmp_path, given, first, grain):
        path = tmp_path / "run.safetensors"
        config = TrainConfig(steps=45, **TINY | {"grain": grain})
        whole = list(train(config, given()))

        control = Control()
        for event in train(config, given(), control, checkpoint=path):
            if isinstance(event, Stepped) and event.step >= first - 1:
                control.stop()
        rest = list(train(config, given(), checkpoint=path))

        assert of(Stepped, rest)[0].step > 1
        assert equal(weights_of(whole), weights_of(rest))

    def test_going_on_keeps_the_grain_whatever_is_annotated_now(self, tmp_path):
        path, settings = tmp_path / "run.safetensors", TINY | {"grain": None}
        list(train(TrainConfig(steps=2, **settings), make_set(), checkpoint=path))
        thin = make_set()
        thin.add("thin", thin.items[0].image, np.eye(96, dtype=np.uint8), complete=True)

        *_, last = train(TrainConfig(steps=4, **settings), thin, checkpoint=path)

        assert last.model.card.net.grain == 2
        *_, anew = train(TrainConfig(steps=2, **settings), thin)
        assert anew.model.card.net.grain == 1

    def test_going_on_knows_what_was_learned_of_an_image_that_is_gone(self, tmp_path):
        path = tmp_path / "run.safetensors"
        list(train(TrainConfig(steps=2, **TINY), make_set(2), checkpoint=path))

        *_, last = train(TrainConfig(steps=4, **TINY), make_set(1), checkpoint=path)

        learned = {f"discs {n}": fingerprint(discs(n)[0]) for n in range(2)}
        assert last.model.card.images == learned

    @pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x04pickle"])
    def test_a_foreign_file_is_refused(self, tmp_path, content):
        path = tmp_path / "run.safetensors"
        path.write_bytes(content)

        with pytest.raises(BadInput, match="is no checkpoint of training"):
            list(train(TrainConfig(steps=1, **TINY), make_set(), checkpoint=path))

    def test_going_on_keeps_the_number_format_whatever_a_self_test_finds(
        self, tmp_path, monkeypatch
    ):
        path = tmp_path / "run.safetensors"
        list(train(TrainConfig(steps=1, **TINY), make_set(), checkpoint=path))
        other = Numerics(torch.device("cpu"), torch.bfloat16, channels_last=True)
        monkeypatch.setattr("napari_unet.device._fastest", lambda *_: other)
        config = TrainConfig(steps=2, **TINY | {"precision": "auto"})

        rest = list(train(config, make_set(), checkpoint=path))

        assert of(Started, rest)[0].precision == "float32"
        assert of(Started, [*train(config, make_set())])[0].precision == "bfloat16"

    def test_a_checkpoint_of_another_net_is_refused(self, tmp_path):
        path = tmp_path / "run.safetensors"
        list(train(TrainConfig(steps=1, **TINY), make_set(), checkpoint=path))

        with pytest.raises(BadInput, match="another network"):
            list(train(TrainConfig(steps=1, **TINY | {"width": 8}), make_set(), checkpoint=path))

    def test_a_run_that_began_from_a_model_goes_on_only_with_it(self, tmp_path):
        path, config = tmp_path / "run.safetensors", TrainConfig(steps=2, **TINY)
        model = run(make_set(), steps=1)[-1].model
        list(train(config, make_set(), start=model, checkpoint=path))

        with pytest.raises(BadInput, match="another network, first model"):
            list(train(config, make_set(), checkpoint=path))

        assert list(train(config, make_set(), start=model, checkpoint=path))[-1].step == 2


class TestTrouble:
    def test_memory_that_runs_out_shrinks_the_step_and_training_goes_on(self, monkeypatch):
        real, sizes = learner.Learner.learn, []

        def short_of_memory(self, part_of_rate):
            sizes.append((self.batch, self.patch))
            if self.batch * self.patch[0] > 32:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(self, part_of_rate)

        monkeypatch.setattr(learner.Learner, "learn", short_of_memory)
        events = run(make_set(), steps=3, patch=64)

        notices = [e.message for e in of(Noticed, events) if e.kind == "memory"]
        assert notices[0] == "Memory ran out on cpu; going on with 2 patch(es) of 64 x 64."
        assert sizes[-1] == (1, (32, 32))
        assert events[-1].step == 3

    def test_no_memory_for_the_network_itself_is_said_in_a_sentence(self, monkeypatch):
        def no_memory(*_arguments):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

        monkeypatch.setattr(learner.Learner, "__init__", no_memory)

        with pytest.raises(BadInput, match="not enough memory for this network"):
            run(make_set(), steps=3)

    def test_a_net_whose_smallest_patch_is_large_does_not_shrink_for_ever(self, monkeypatch):
        def no_memory(self, part_of_rate):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(learner.Learner, "learn", no_memory)

        with pytest.raises(BadInput, match="even the smallest step"):
            run(make_set(), steps=3, depth=6)

    def test_no_memory_at_all_is_said_in_a_sentence(self, monkeypatch):
        def no_memory(self, part_of_rate):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(learner.Learner, "learn", no_memory)

        with pytest.raises(BadInput, match="not enough memory on cpu"):
            run(make_set(), steps=3)

    @pytest.mark.parametrize(
        ("what", "said"),
        [
            ("fit", "Memory ran out on cpu; going on without a second opinion."),
            ("hint_loss", "Memory ran out on cpu; only what is painted is learned from now on."),
        ],
    )
    def test_without_the_memory_for_a_second_opinion_it_goes_on_and_says_so(
        self, monkeypatch, what, said
    ):
        def no_memory(*_arguments, **_options):
            raise MemoryError

        monkeypatch.setattr(adviser if what == "fit" else learner, what, no_memory)

        events = run(strokes(), steps=3)

        assert [e.message for e in of(Noticed, events) if e.kind == "memory"] == [said]
        assert events[-1].step == 3

    def test_other_errors_are_not_hidden(self, monkeypatch):
        def broken(self, part_of_rate):
            raise RuntimeError("shapes differ")

        monkeypatch.setattr(learner.Learner, "learn", broken)

        with pytest.raises(RuntimeError, match="shapes differ"):
            run(make_set(), steps=3)

    def test_a_loss_that_is_no_number_rolls_back(self, monkeypatch):
        real = learner.segmentation_loss
        calls = 0

        def sometimes_nan(*arguments, **options):
            nonlocal calls
            calls += 1
            return real(*arguments, **options) * (float("nan") if calls == 8 else 1)

        monkeypatch.setattr(learner, "segmentation_loss", sometimes_nan)
        events = run(make_set(), steps=15)

        (notice,) = [e for e in of(Noticed, events) if e.kind == "diverged"]
        assert "rate now 0.01" in notice.message
        assert all(torch.isfinite(w).all() for w in weights_of(events).values())

    def test_divergence_without_end_is_said_in_a_sentence_and_leaves_no_model(self, monkeypatch):
        monkeypatch.setattr(
            learner,
            "segmentation_loss",
            lambda logits, *a, **k: logits.sum() * float("nan"),
        )
        events = train(TrainConfig(**TINY, steps=50), make_set())
        seen: list[Event] = []

        with pytest.raises(BadInput, match="diverges again and again"):
            seen.extend(events)

        assert not of(Trained, seen)


@pytest.mark.gpu
class TestGpu:
    def test_trains_and_gives_the_memory_back(self):
        before = torch.cuda.memory_allocated()

        events = run(make_set(), steps=5, device="cuda", precision="auto")

        assert events[0].device.startswith("cuda")
        del events
        torch.cuda.empty_cache()
        assert torch.cuda.memory_allocated() <= before + 2**20

    def test_survives_running_out_of_memory_for_real(self):
        torch.cuda.set_per_process_memory_fraction(0.02)
        try:
            events = run(
                make_set(size=512), steps=2, width=64, depth=4, batch=256, patch=512, device="cuda"
            )
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

        assert [e for e in of(Noticed, events) if e.kind == "memory"]
        assert events[-1].step == 2


class TestLateTrouble:
    """What goes wrong after something was learned does not cost what was learned."""

    def test_divergence_just_before_a_backup_does_not_poison_it(self, monkeypatch):
        real = learner.segmentation_loss
        calls = 0

        def nan_once(*arguments, **options):
            nonlocal calls
            calls += 1
            return real(*arguments, **options) * (float("nan") if calls == 51 else 1)

        monkeypatch.setattr(learner, "segmentation_loss", nan_once)
        events = run(make_set(), steps=60)

        assert [e.kind for e in of(Noticed, events)].count("diverged") == 1
        assert all(torch.isfinite(w).all() for w in weights_of(events).values())

    def test_divergence_without_end_keeps_the_best_so_far(self, monkeypatch):
        real = learner.segmentation_loss
        calls = 0

        def nan_from_60_on(*arguments, **options):
            nonlocal calls
            calls += 1
            return real(*arguments, **options) * (float("nan") if calls > 60 else 1)

        monkeypatch.setattr(learner, "segmentation_loss", nan_from_60_on)
        events = run(make_set(6), steps=500)

        assert events[-1].reason == "failed"
        assert events[-1].dice is not None
        assert "The best so far is kept." in of(Noticed, events)[-1].message

    def test_a_checkpoint_that_cannot_be_written_is_told_and_the_model_kept(self, tmp_path):
        (tmp_path / "file").write_text("not a folder")
        path = tmp_path / "file" / "run.safetensors"

        events = list(train(TrainConfig(steps=2, **TINY), make_set(), checkpoint=path))

        assert [e.kind for e in of(Noticed, events)][-1] == "checkpoint"
        assert events[-1].model.weights

    def test_memory_that_runs_out_while_judging_does_not_stop_it(self, monkeypatch):
        real = judging.Judge.score
        edges = []

        def short_of_memory(self, *arguments, **options):
            edges.append(self.edge)
            if self.edge > 100:
                raise MemoryError
            return real(self, *arguments, **options)

        monkeypatch.setattr(judging.Judge, "score", short_of_memory)
        events = run(make_set(6), steps=30)

        assert edges[:2] == [256, 128]
        assert events[-1].dice is not None

    def test_without_the_memory_to_judge_at_all_it_learns_on(self, monkeypatch):
        def out_of_memory(*_arguments, **_options):
            raise MemoryError

        monkeypatch.setattr(judging.Judge, "score", out_of_memory)
        monkeypatch.setattr(judging.Judge, "tables", out_of_memory)

        last = run(make_set(6), steps=60)[-1]

        assert (last.reason, last.step, last.dice) == ("steps", 60, None)

    def test_the_last_model_has_no_score_of_earlier_weights(self, monkeypatch):
        real, times = judging.Judge.score, itertools.count()

        def only_once(self, *arguments, **options):
            if next(times):
                raise MemoryError
            return real(self, *arguments, **options)

        monkeypatch.setattr(judging.Judge, "score", only_once)

        done = run(make_set(6), steps=45)[-1]

        assert done.model.card.current.dice is not None
        assert done.last.card.current.dice is None

    def test_memory_that_runs_out_while_the_best_is_judged_anew_leaves_the_average(
        self, monkeypatch
    ):
        training_set, seen = make_set(6), []
        real = judging.Judge.score

        def short_of_memory(self, net, *others):
            seen.append({k: v.clone() for k, v in net.state_dict().items()})
            if len(seen) == 2:  # of the best, as the annotation has changed
                raise MemoryError
            return real(self, net, *others)

        monkeypatch.setattr(judging.Judge, "score", short_of_memory)
        scored = 0
        for event in train(TrainConfig(steps=60, **TINY), training_set):
            if isinstance(event, Scored):
                scored += 1
                if scored == 1:
                    training_set.paint("discs 0", (slice(0, 2), slice(0, 2)), 1)

        assert len(seen) > 3
        assert equal(seen[0], seen[1])
        assert equal(seen[0], seen[2]), "the best again"
        assert not equal(seen[0], seen[3]), "and the average, which has gone on"

    def test_a_class_that_is_hardly_held_out_is_no_judge(self):
        """Its score would be chance, and weights of the first steps might win for ever."""
        training_set = TrainingSet(class_table(1))
        image, mask = discs(0, 192)
        training_set.add("corner", image, mask * (np.arange(192) > 150), complete=True)

        events = run(training_set, steps=60)

        assert of(Started, events)[0].held_out > 0
        assert of(Scored, events) == []
        assert events[-1].dice is None

    def test_images_that_are_all_taken_away_end_a_run_with_its_best(self):
        training_set, control, seen = make_set(6), Control(), 0
        for event in train(TrainConfig(**TINY), training_set, control):
            if isinstance(event, Scored) and not seen:
                for item in training_set.items:
                    training_set.remove(item.name)
            seen += isinstance(event, Scored)
            if seen and isinstance(event, Stepped | Rested):
                control.stop()

        assert isinstance(event, Trained)
        assert event.model.weights

    @pytest.mark.parametrize(
        ("budget", "limit"), [({"steps": 25}, np.inf), ({"seconds": 1}, MOST_SECONDS)]
    )
    def test_only_with_so_many_steps_the_last_look_takes_as_long_as_it_takes(
        self, monkeypatch, budget, limit
    ):
        found = []
        real = Judge.tables

        def spy(self, net, items, pieces, shares, view, seconds=np.inf):
            if pieces == MOST_PIECES:
                found.append(seconds)
            return real(self, net, items, pieces, shares, view, seconds)

        monkeypatch.setattr(Judge, "tables", spy)
        run(make_set(6), second_opinion=False, **budget)
        assert found == [limit]

    def test_a_last_update_that_diverges_is_taken_back(self, monkeypatch):
        real = learner.Learner.learn

        def diverging(self, part_of_rate):
            loss = real(self, part_of_rate)
            if self.step == 3:
                for weight in self.average.parameters():
                    weight.fill_(np.inf)
            return loss

        monkeypatch.setattr(learner.Learner, "learn", diverging)
        events = run(make_set(), steps=3, holdout=0)

        assert [e.kind for e in of(Noticed, events)][-1] == "diverged"
        assert all(bool(torch.isfinite(w).all()) for w in events[-1].last.weights.values())

    def test_what_is_held_out_is_seen_as_in_a_prediction(self):
        """At the ends of an image there is nothing more, not the image mirrored."""
        training_set, holdout = make_set(), HoldOut(0.2, (0, 0), 0)
        holdout.update(training_set.items)
        judge = Judge(holdout, choose_numerics("cpu", "float32"), 1, 2)
        item, region = training_set.items[0], (slice(0, 40), slice(50, 96))
        holdout.windows[item.name] = [region]
        torch.manual_seed(0)
        net = build(NetConfig(arch="simple", width=4, depth=2)).eval()
        with torch.no_grad():
            pixels = torch.from_numpy(item_stats(item).apply(item.image))[None]
            net.last.bias -= net(pixels).mean()  # or it would say the same everywhere
            whole = net(pixels)[0, 0, :40, 50:] > 0

        ((table,),) = [t.values() for t in judge.tables(net, (item,), 9).values()]

        assert table.tolist() == confusion(whole.numpy(), item.annotation[region], 1).tolist()
        assert 0 < whole.float().mean() < 1

    def test_a_slide_is_judged_where_it_is_held_out_and_read_nowhere_else(self):
        class Slide:
            """Pixels that can only be had a part at a time."""

            def __init__(self, pixels):
                self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype

            def __getitem__(self, part):
                return self.pixels[part]

            def __array__(self, *_arguments, **_options):
                raise AssertionError("all of it was asked for")

        training_set = TrainingSet(class_table(1))
        image, mask = (np.kron(p, np.ones((2, 2), np.uint8)) for p in discs(0))
        training_set.add("slide", Slide(image), mask, complete=True)
        training_set.items[0].cache["stats"] = measure(image)
        training_set.items[0].cache["fingerprint"] = "slide"

        events = run(training_set, steps=30, holdout=0.2)

        assert of(Scored, events)


def test_equal_seeds_give_equal_weights_with_dropout(tmp_path):
    config = TrainConfig(steps=24, arch="classic", **TINY)
    path = tmp_path / "run.safetensors"
    whole = list(train(config, make_set()))
    control = Control()
    for event in train(config, make_set(), control, checkpoint=path):
        if isinstance(event, Stepped) and event.step >= 9:
            control.stop()
    rest = list(train(config, make_set(), checkpoint=path))

    assert equal(weights_of(whole), weights_of(rest))


def test_a_pause_after_a_stop_does_not_wait_for_ever():
    control = Control()
    control.stop()
    control.pause()

    events = list(train(TrainConfig(**TINY), make_set(), control))

    assert events[-1].reason == "stopped"


def test_an_architecture_that_contradicts_the_start_is_refused():
    first = run(make_set(), steps=1)[-1].model

    with pytest.raises(BadInput, match="has arch compact, not simple"):
        list(train(TrainConfig(steps=1, arch="simple"), make_set(), start=first))


def test_planes_of_a_stack_keep_its_intensities():
    stack = TrainingSet(class_table(1))
    image, mask = discs(0)
    known = measure(np.concatenate([image, image * 0]))

    stack.add("plane", image, mask, complete=True, stats=known)

    assert item_stats(stack.items[0]) == known


def test_what_was_learned_until_something_broke_is_handed_over(monkeypatch):
    learn, events = learner.Learner.learn, []

    def fail(self: learner.Learner, part_of_rate: float) -> torch.Tensor:
        if self.step == 30:
            raise BadInput("The share is gone.")
        return learn(self, part_of_rate)

    monkeypatch.setattr(learner.Learner, "learn", fail)
    with pytest.raises(BadInput, match="The share is gone"):
        events.extend(train(TrainConfig(**TINY), make_set(6)))

    last = events[-1]
    assert isinstance(last, Trained)
    assert (last.reason, last.step) == ("failed", 30)
    assert last.model.card.current.steps == of(Scored, events)[-1].step
    assert last.last.card.current.steps == 30
    assert all(torch.isfinite(w).all() for w in last.model.weights.values())
