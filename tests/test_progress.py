"""Progress: every phase and trouble in words, no nagging, bounded whatever comes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.progress import MOST_ADVICE, MOST_POINTS, Progress
from napari_unet.run import (
    FIRST_GUESS,
    Event,
    Noticed,
    Predicted,
    Rested,
    Scored,
    Started,
    Stepped,
    Tiled,
    Trained,
    Woke,
)

PIXELS = 65_536
HELD_OUT = "Too little is annotated to hold any of it out."
KINDS = ["held-out", "memory", "diverged", "class", "not-learned", "range", "checkpoint", "live"]
COUNTS, NAMES = (9000, 6000, 4000), ("cell", "nucleus")


def started(images: int = 3, held_out: int = 4000, learned: int = 0) -> Started:
    return Started("cuda", "bfloat16", 1000, images, 19_000, held_out, learned=learned)


def stepped(step: int, loss: float = 0.21, rate: float = 10.0) -> Stepped:
    return Stepped(step, step / rate, loss, PIXELS)


def scored(
    step: int, dice: float = 0.83, best: bool = True, classes: tuple[float | None, ...] = (0.8, 0.9)
) -> Scored:
    return Scored(step, step / 10, dice, classes, best)


def trained(reason: str = "stopped", dice: float | None = 0.91, step: int = 240) -> Trained:
    return Trained(reason, step, step / 4, dice, model=None, last=None)


def steps(losses: Iterable[float], first: int = 1) -> list[Event]:
    return [stepped(step, loss) for step, loss in enumerate(losses, first)]


def falling(number: int) -> list[float]:
    return [1.2 * 0.99**step + 0.05 for step in range(number)]


def judged(
    dices: Iterable[float], classes: tuple[float | None, ...] = (0.8, 0.9), first: int = 20
) -> list[Event]:
    """Judgements 20 steps apart; the first of the highest ones is the best."""
    out: list[Event] = []
    top = -1.0
    for number, dice in enumerate(dices):
        out.append(scored(first + 20 * number, dice, dice > top, classes))
        top = max(top, dice)
    return out


def told(events: Iterable[Event], now: float = 0.0) -> Progress:
    """A run that was begun and took these events, all at one time."""
    progress = Progress()
    progress.begin()
    for event in events:
        progress.take(event, now)
    return progress


class TestSay:
    def test_idle_tells_what_to_do_first(self):
        assert Progress().say(0.0) == (
            "Paint a few strokes of each class and some background, then press Start."
        )

    def test_starting_tells_what_takes_so_long(self):
        assert told([]).say(0.0) == "Getting ready: loading PyTorch and measuring this machine."

    @pytest.mark.parametrize(
        ("events", "sentence"),
        [
            ([started()], "Learning from 3 images: the first steps."),
            ([started(1), stepped(1)], "Learning from 1 image: loss 0.21, still a first guess."),
            (
                [started(1, held_out=0), stepped(FIRST_GUESS)],
                "Learning from 1 image: loss 0.21, no score yet.",
            ),
            (
                [started(1, learned=FIRST_GUESS), stepped(1)],
                "Learning from 1 image: loss 0.21, no score yet.",
            ),
            (
                [started(), stepped(1), scored(1)],
                "Learning from 3 images: held-out Dice 0.83, best 12 s ago.",
            ),
            (
                [started(), scored(20), scored(40, 0.7, best=False)],
                "Learning from 3 images: held-out Dice 0.70; best 0.83, 12 s ago.",
            ),
            # The best was reached before a checkpoint that is gone on from.
            (
                [started(), scored(20, 0.7, best=False)],
                "Learning from 3 images: held-out Dice 0.70.",
            ),
            (
                [started(), scored(1), Rested(600)],
                "Resting: no longer improving (held-out Dice 0.83). "
                "Paint a correction and it goes on.",
            ),
            (
                [started(held_out=0), stepped(1), Rested(600)],
                "Resting: no longer improving (loss 0.21). Paint a correction and it goes on.",
            ),
            (
                [Started("cpu", "float32", 1, 1, 0, 0), Rested(0)],
                "Resting: nothing is painted yet. Paint a few strokes and it goes on.",
            ),
            (
                [started(), scored(1), Rested(600), Woke(600)],
                "Learning from 3 images: held-out Dice 0.83, best 12 s ago.",
            ),
            ([trained()], "Stopped after 240 steps in 1 min; held-out Dice 0.91."),
            (
                [trained("seconds", step=1)],
                "Done: the time is up, after 1 step in under 1 s; held-out Dice 0.91.",
            ),
            (
                [trained("steps", dice=None)],
                "Done: all 240 steps in 1 min; nothing was held out, so there is no score.",
            ),
            (
                [scored(20), trained("failed")],
                "Training failed after 240 steps in 1 min, and the best until then is kept; "
                "held-out Dice 0.91.",
            ),
            (
                [started(), trained(step=FIRST_GUESS - 1, dice=None)],
                "Stopped after 59 steps in 14 s, with a first guess; press Start to improve it.",
            ),
            (
                [started(learned=30), trained(step=30, dice=None)],
                "Stopped after 30 steps in 7 s; nothing was held out, so there is no score.",
            ),
            (
                [trained(step=0, dice=None)],
                "Stopped before the first step; nothing is learned yet.",
            ),
        ],
    )
    def test_each_phase_in_a_sentence(self, events, sentence):
        progress = told(events, now=100.0)

        assert progress.say(112.0) == sentence

    def test_the_score_is_of_the_weights_that_are_kept_but_while_learning(self):
        progress = told([started(), scored(20), scored(240, 0.7, best=False)])

        progress.pause()

        assert progress.say(0.0) == "Paused at step 240; held-out Dice 0.83."

    def test_stopping(self):
        progress = told([started(), stepped(1)])

        progress.stop()

        assert progress.say(0.0) == "Stopping: judging a last time and keeping the best."

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (0.4, "just now"),
            (1, "1 s ago"),
            (59.9, "59 s ago"),
            (60, "1 min ago"),
            (3599, "59 min ago"),
            (3600, "1 h ago"),
            (3900, "1 h 5 min ago"),
            (100_000, "27 h 46 min ago"),
        ],
    )
    def test_times_as_people_say_them(self, seconds, words):
        progress = told([started(), scored(20)])

        assert progress.say(seconds) == f"Learning from 3 images: held-out Dice 0.83, best {words}."


class TestPhase:
    def test_goes_with_the_events(self):
        progress = told([])
        seen = []

        for event in [started(), stepped(1), Rested(1), Woke(1), stepped(2), trained()]:
            progress.take(event, 0.0)
            seen.append(progress.phase)

        assert seen == ["learning", "learning", "resting", "learning", "learning", "done"]

    @pytest.mark.parametrize("event", [stepped(2), scored(2), Rested(2), Woke(2), started()])
    def test_what_still_comes_in_after_pause_and_stop_does_not_undo_them(self, event):
        paused, stopping = told([started(), stepped(1)]), told([started(), stepped(1)])

        paused.pause()
        stopping.stop()
        paused.take(event, 0.0)
        stopping.take(event, 0.0)

        assert (paused.phase, stopping.phase) == ("paused", "stopping")

    @pytest.mark.parametrize(
        ("events", "phase"),
        [
            ([], "starting"),
            ([started()], "learning"),
            ([started(), Rested(0)], "resting"),
        ],
    )
    def test_resumes_to_what_the_engine_is_doing(self, events, phase):
        progress = told(events)

        progress.pause()
        progress.resume()

        assert progress.phase == phase

    def test_a_run_that_is_over_is_neither_paused_nor_stopped(self):
        progress = told([started(), trained()])

        progress.pause()
        progress.stop()
        progress.resume()

        assert progress.phase == "done"

    def test_begin_forgets_the_run_before(self):
        progress = told([started(), *steps(falling(300)), scored(300), Noticed("memory", "Full.")])
        progress.advice(COUNTS, NAMES)

        progress.begin()

        assert repr(progress) == repr(told([]))


class TestState:
    def test_holds_what_the_events_said(self):
        progress = told([started(), stepped(1, 0.5), scored(20, 0.7), stepped(21, 0.3)])

        assert (progress.device, progress.precision) == ("cuda", "bfloat16")
        assert (progress.images, progress.labelled, progress.held_out) == (3, 19_000, 4000)
        assert (progress.step, progress.seconds) == (21, 2.1)
        assert progress.losses == [(1, 0.5), (21, 0.3)]
        assert progress.scores == [(20, 0.7)]
        assert progress.classes == (0.8, 0.9)

    def test_the_best_is_what_the_engine_calls_so(self):
        # After a correction the best is judged anew, so a lower score can be the best.
        progress = told([scored(20, 0.9), scored(40, 0.8, best=False), scored(60, 0.85)])

        assert progress.best == 2

    def test_no_best_before_the_first_score(self):
        assert told([started(), stepped(1)]).best is None

    def test_the_speed_is_by_the_engines_clock_and_smooth(self):
        even = told([stepped(n, rate=10.0) for n in range(50)], now=5.0)
        hiccup = told(
            [stepped(1), stepped(2), stepped(3), Stepped(4, 1.3, 0.2, PIXELS)],
        )

        assert even.pixels_per_second == pytest.approx(10 * PIXELS)
        assert 5 * PIXELS < hiccup.pixels_per_second < 10 * PIXELS
        assert told([stepped(1)]).pixels_per_second == 0

    def test_events_of_no_interest_change_nothing(self):
        progress = told([started(), stepped(1)])
        before = dict(vars(progress))

        progress.take(Event(), 1.0)
        progress.take(Tiled(1, 2, (slice(0, 8),)), 1.0)

        assert vars(progress) == before


class TestNotices:
    def test_the_newest_of_a_kind_holds(self):
        progress = told([Noticed("memory", "Four patches."), Noticed("memory", "Two patches.")])

        assert progress.notices == {"memory": "Two patches."}

    @pytest.mark.parametrize(
        ("kind", "after"),
        [
            ("held-out", [scored(20)]),
            ("class", [Rested(20), Woke(20)]),
            ("diverged", [stepped(1210)]),  # two minutes later
            ("checkpoint", [stepped(1510)]),
            ("live", [stepped(160)]),
            ("range", [Predicted(None, None, None, False)] * 2),
        ],
    )
    def test_goes_when_it_no_longer_holds(self, kind, after):
        progress = told([started(), stepped(1), Noticed(kind, "So it is.")])
        before = dict(progress.notices)

        for event in after:
            progress.take(event, 0.0)

        assert before == {kind: "So it is."}
        assert progress.notices == {}

    @pytest.mark.parametrize(
        ("kind", "after"),
        [
            ("held-out", [stepped(900)]),
            ("diverged", [stepped(600)]),
            ("checkpoint", [stepped(700)]),
            ("live", [stepped(100)]),
            ("diverged", [stepped(3000), Noticed("diverged", "So it is."), stepped(3600)]),
            ("memory", [stepped(90_000), scored(90_000)]),
            ("range", [Predicted(None, None, None, False)]),  # of the very image it was said of
        ],
    )
    def test_stays_as_long_as_it_holds(self, kind, after):
        progress = told([started(), stepped(1), Noticed(kind, "So it is."), *after])

        assert progress.notices == {kind: "So it is."}

    def test_a_class_that_is_painted_is_no_longer_missing(self):
        progress = told([started(), Noticed("class", "Class 2 is nowhere labelled.")])

        progress.advice((9, 9, 0), NAMES)
        missing = dict(progress.notices)
        progress.advice((9, 9, 9), NAMES)

        assert "class" in missing
        assert "class" not in progress.notices

    def test_what_is_only_held_out_is_told_until_something_is_painted(self):
        progress = told([started(), stepped(1), Noticed("not-learned", "Class 1 is not learned.")])

        first = progress.advice((9, 9, 9), NAMES)
        then = progress.advice((9, 9, 12), NAMES)

        assert first == ["Class 1 is not learned."]
        assert then != first


NOTHING = "Nothing is painted yet; choose a class and paint a few strokes in the image."
NO_BACKGROUND = "No background is painted; paint a few strokes of it where no class is."
LOSS = (
    "The loss is rising, from 0.20 to 0.60; lower the learning rate and start again.",
    "The loss has stayed at 1.17 for 400 steps; look for strokes in the wrong class, or try "
    "another learning rate.",
)
UNLEARNED = (
    "'nucleus' is not learned: the held-out Dice stays below 0.1; paint more of it, in several "
    "places, and look for strokes in the wrong class."
)
UNJUDGED = (
    "Nothing of 'nucleus' is held out, so there is no score for it; paint more of it, away from "
    "what is painted already."
)
LITTLE_BACKGROUND = (
    "Less than 5% of what is painted is background; paint more of it, above all beside the classes "
    "and where one is shown that is not there."
)
FALLEN = (
    "The held-out Dice has fallen from 0.90 to 0.80. The best is kept; paint where the mask is "
    "wrong."
)
RARE = (
    "'nucleus' has only 1 painted pixel, 'cell' 6,000; paint more of 'nucleus' or, of complete "
    "masks, tick balance so that it weighs more."
)
NO_SCORE = (
    "Judge it by the live mask: too little is painted to hold some of it out for a score. More "
    "strokes away from the first ones, or in another image, would give one."
)
NO_NUMBER = (
    "The loss was no longer a number. If it happens again, lower the learning rate and look for "
    "images with extreme values."
)
MEMORY = (
    "Memory ran out. If it is too slow or not good enough, close other programs or choose a "
    "narrower network."
)


class TestAdvice:
    @pytest.mark.parametrize(
        ("counts", "sentences"),
        [
            ((0, 0, 0), [NOTHING]),
            ((), [NOTHING]),
            ((0, 5, 5), [NO_BACKGROUND]),
            ((5, 5, 0), ["'nucleus' has no strokes; paint a few, or remove it from the classes."]),
            ((5, 0, 0), ["No class is painted yet; paint a few strokes of each."]),
            ((5, 5, 5), []),
            ((1, 9000, 1), []),  # too little of something is no reason not to start
        ],
    )
    @pytest.mark.parametrize("begun", [False, True])
    def test_before_training_only_what_is_missing(self, begun, counts, sentences):
        progress = told([]) if begun else Progress()

        assert progress.advice(counts, NAMES) == sentences

    @pytest.mark.parametrize(
        ("counts", "sentence"),
        [
            (
                (5, 5, 0, 0),
                "'b' and 'c' have no strokes; paint a few, or remove them from the classes.",
            ),
            (
                (5, 0, 0, 0, 0, 0, 0, 5),
                "'a', 'b', 'c' and 3 more have no strokes; paint a few, or remove them from the "
                "classes.",
            ),
        ],
    )
    def test_many_classes_in_one_sentence(self, counts, sentence):
        assert Progress().advice(counts, "abcdefg"[: len(counts) - 1]) == [sentence]

    @pytest.mark.parametrize(
        ("events", "counts", "sentence"),
        [
            (steps([0.2] * 100 + [0.6] * 150), COUNTS, LOSS[0]),
            (steps([1.17] * 400), COUNTS, LOSS[1]),
            ([*steps([1.17] * 400), *judged([0.67])], COUNTS, LOSS[1]),
            (judged([0.4] * 10, (0.8, 0.0)), COUNTS, UNLEARNED),
            (judged([0.4] * 10, (0.8, None)), COUNTS, UNJUDGED),
            (steps(falling(100)), (90, 6000, 4000), LITTLE_BACKGROUND),
            (judged([0.9] + [0.8] * 10), COUNTS, FALLEN),
            ([*steps(falling(100)), scored(100, classes=(0.8, 0.3))], (9000, 6000, 1), RARE),
            ([Noticed("held-out", HELD_OUT), *steps(falling(100))], COUNTS, NO_SCORE),
            ([Noticed("diverged", "The loss was no longer a number.")], COUNTS, NO_NUMBER),
            ([Noticed("memory", "Memory ran out.")], COUNTS, MEMORY),
            (
                [Noticed("checkpoint", "The disk is full; make room.")],
                COUNTS,
                "The disk is full; make room.",
            ),
            ([Noticed("live", "It is not drawn.")], COUNTS, "It is not drawn."),
            (
                [Noticed("range", "Far from those; check with care.")],
                COUNTS,
                "Far from those; check with care. If it is wrong, paint in this image too.",
            ),
            ([], (0, 6000, 4000), NO_BACKGROUND),
        ],
    )
    def test_what_is_wrong_and_what_to_do(self, events, counts, sentence):
        progress = told([started(), *events])

        assert progress.advice(counts, NAMES) == [sentence]

    @pytest.mark.parametrize(
        ("events", "counts"),
        [
            (steps([0.2] * 100 + [0.6] * 149), COUNTS),  # a moment earlier
            (steps([1.17] * 399), COUNTS),
            (judged([0.4] * 9, (0.8, 0.0)), COUNTS),
            (judged([0.4] * 9, (0.8, None)), COUNTS),
            (steps(falling(99)), (90, 6000, 1)),
            (judged([0.9] + [0.8] * 9), COUNTS),
            ([Noticed("held-out", HELD_OUT), *steps(falling(99))], COUNTS),
            (judged([0.4] * 9 + [0.5], (0.8, 0.2)), COUNTS),  # learned a little
            (steps([0.05] * 100 + [0.12] * 150), COUNTS),  # tripled, but low
            (steps([0.49] * 100 + [0.7] * 150), COUNTS),  # less than half as much again
            (steps([1.2] * 100 + [1.1] * 300), COUNTS),  # slow, but it falls
            (steps([0.3] * 900), COUNTS),  # a converged model goes on learning
            ([*steps([0.7] * 900), *judged([0.9])], COUNTS),  # a loss as high as that can be good
            (judged([0.9, 0.8] * 10), COUNTS),  # ups and downs
            (steps(falling(100)), (2000, 60_000, 40_000)),  # a small part, but many
            ([*steps(falling(100)), scored(100, classes=(0.8, 0.85))], (9000, 6000, 1)),
            ([*steps(falling(100)), scored(100)], (9000, 6000, 120)),
        ],
    )
    def test_nothing_is_said_without_evidence(self, events, counts):
        progress = told([started(), *events])

        assert progress.advice(counts, NAMES) == []

    def test_a_healthy_run_is_left_alone_from_start_to_end(self):
        rising = [0.5 + 0.45 * (1 - 0.9**n) for n in range(60)]
        scores = judged(rising, (0.8, 0.9))
        losses = steps(falling(1200))
        events = sorted([*losses, *scores], key=lambda event: event.step)
        progress = told([started()])
        said = []

        for event in [*events, Rested(1200), trained()]:
            progress.take(event, 0.0)
            said += progress.advice(COUNTS, NAMES)

        assert said == []

    @pytest.mark.parametrize(
        "events",
        [
            steps([0.2] * 100 + [0.6] * 150),
            steps([1.17] * 400),
            judged([0.9] + [0.8] * 10),
        ],
    )
    @pytest.mark.parametrize("how", ["painted", "woke"])
    def test_what_was_painted_since_makes_the_curves_others(self, events, how):
        progress = told([started(), *events])
        before = progress.advice(COUNTS, NAMES)

        if how == "woke":
            progress.take(Woke(400), 0.0)
        after = progress.advice((9000, 6000, 4000 + (how == "painted")), NAMES)

        assert len(before) == 1
        assert after == []

    def test_painting_on_does_not_hide_a_class_that_is_not_learned(self):
        progress = told([started()])
        said: list[str] = []

        for number, event in enumerate(judged([0.4] * 12, (0.8, 0.0))):
            progress.take(event, 0.0)
            said += progress.advice((9000, 6000 + number, 4000), NAMES)

        assert UNLEARNED in said

    def test_a_new_class_is_given_time(self):
        progress = told([started(), *judged([0.4] * 10, (0.8, 0.0))])
        progress.advice((9000, 6000, 0), NAMES)

        assert progress.advice(COUNTS, NAMES) == []

    def test_a_class_of_which_the_run_does_not_know_is_given_time(self):
        progress = told([started(), *judged([0.8] * 10, (0.8,))])

        assert progress.advice(COUNTS, NAMES) == []

    def test_the_most_important_first_and_not_too_much(self):
        progress = told(
            [
                started(),
                Noticed("memory", "Memory ran out."),
                Noticed("checkpoint", "The disk is full; make room."),
                *steps([1.17] * 400),
                *judged([0.4] * 10, (0.8, 0.0)),
            ]
        )

        said = progress.advice((0, 6000, 4000), NAMES)

        assert said == ["The disk is full; make room.", NO_BACKGROUND, LOSS[1]]
        assert len(said) == MOST_ADVICE

    @pytest.mark.parametrize(("first", "last"), [("memory", "diverged"), ("diverged", "memory")])
    def test_why_a_run_failed_is_said_once(self, first, last):
        progress = told(
            [
                started(),
                Noticed(last, "Going on."),
                Noticed(first, "Going on as well."),
                Noticed(last, "It cannot go on; do this."),
                trained("failed"),
            ]
        )

        assert progress.advice(COUNTS, NAMES) == ["It cannot go on; do this."]

    def test_of_an_endless_plateau_the_number_of_steps_is_told(self):
        progress = told([started(), *steps([1.17] * 1250)])

        (said,) = progress.advice(COUNTS, NAMES)

        assert said.startswith("The loss has stayed at 1.17 for 1,250 steps;")


class TestBounds:
    def test_hours_of_events_stay_small_and_quick(self):
        events: list[Event] = []
        for step in range(190_000):
            events.append(stepped(step, 0.2 + step % 7 / 100))
            if step % 19 == 0:
                events.append(scored(step, 0.9 if step == 19_000 else 0.8, step == 19_000))
        progress = told([started()])

        began = time.process_time()
        for event in events:
            progress.take(event, 0.0)
        took = time.process_time() - began

        assert len(events) == 200_000
        assert took < 1
        assert MOST_POINTS / 2 <= len(progress.losses) <= MOST_POINTS
        assert MOST_POINTS / 2 <= len(progress.scores) <= MOST_POINTS
        assert progress.scores[progress.best] == (19_000, 0.9)

    @settings(deadline=None, max_examples=25)
    @given(number=st.integers(1, 40_000))
    def test_a_thinned_curve_covers_the_whole_run_evenly(self, number):
        progress = Progress()

        for step in range(number):
            progress.take(Stepped(step, 0.0, 0.5, 1), 0.0)

        kept = [step for step, _ in progress.losses]
        gaps = {b - a for a, b in pairwise(kept)}
        assert kept[0] == 0
        assert len(gaps) <= 1
        assert number - kept[-1] <= max(gaps, default=1)

    @given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(4, 16))
    def test_the_best_is_never_thinned_away(self, bests, most):
        progress = Progress()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("napari_unet.progress.MOST_POINTS", most)

            for step, best in enumerate(bests):
                progress.take(scored(step, step / 1000, best), 0.0)

        last = max((step for step, best in enumerate(bests) if best), default=None)
        found = None if progress.best is None else progress.scores[progress.best][0]
        assert found == last
        assert len(progress.scores) <= most


dice = st.floats(0, 1)
numbers = st.integers(0, 10**7)
plausible = st.one_of(
    st.builds(Stepped, numbers, st.floats(0, 1e7), st.floats(0, 1e4), st.integers(0, 10**8)),
    st.builds(
        Scored,
        numbers,
        st.floats(0, 1e7),
        dice,
        st.lists(st.none() | dice, min_size=1, max_size=4).map(tuple),
        st.booleans(),
    ),
    st.builds(Rested, numbers),
    st.builds(Woke, numbers),
    st.builds(
        Noticed,
        st.sampled_from(KINDS),
        st.text(max_size=20),
    ),
    st.builds(Predicted, st.none(), st.none(), st.none(), st.booleans()),
)
endings = st.builds(
    Trained,
    st.sampled_from(["seconds", "steps", "stopped", "failed"]),
    numbers,
    st.floats(0, 1e7),
    st.none() | dice,
    st.none(),
    st.none(),
)
buttons = st.sampled_from(["pause", "resume", "stop", "begin"])


@given(
    st.lists(plausible | buttons, max_size=60),
    endings,
    st.lists(numbers, max_size=5),
    st.floats(0, 1e9),
)
def test_there_is_always_a_sentence(middle, ending, counts, now):
    progress = told([started()])

    for part in [*middle, ending]:
        if isinstance(part, str):
            getattr(progress, part)()
        else:
            progress.take(part, now)
        sentence, advice = progress.say(now), progress.advice(counts, NAMES)

        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert len(advice) <= MOST_ADVICE
        assert all(advice)

    assert progress.phase == "done"


def test_it_needs_neither_torch_nor_numpy_nor_qt():
    script = "import sys, napari_unet.progress; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"torch", "numpy", "pydantic", "qtpy", "napari"} & set(loaded)
