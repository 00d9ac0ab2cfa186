"""How training is going, in words: the events of an engine folded into one state, a sentence, and
advice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from statistics import fmean
from typing import Literal

from napari_unet.run import (
    FIRST_GUESS,
    Event,
    Noticed,
    Predicted,
    Rested,
    Scored,
    Started,
    Stepped,
    Trained,
    Woke,
)

Phase = Literal["idle", "starting", "learning", "paused", "resting", "stopping", "done"]
Classes = tuple[float | None, ...]

MOST_POINTS = 4096  # of a curve: more than a screen has columns
SMOOTH = 0.05  # weight of the newest step in what is averaged, as in the engine
MOST_ADVICE = 3  # more is not read
MOST_NAMES = 3  # in one sentence
# Seconds of training after which trouble that did not come again is over; a checkpoint is
# written each minute, so two silent ones have succeeded.
OVER_AFTER = {"diverged": 120.0, "checkpoint": 150.0, "live": 15.0}

# Evidence. Single losses of a healthy run on a few strokes scatter by 0.3, so means of 50 by 0.04.
BLOCK = 50
# A healthy run has lost a third of its first loss by then, one with random labels nothing.
STUCK_BLOCKS, STUCK = 8, 0.95
# Below it something is known: guessing costs 0.69 in the entropy of two classes, more in the sum.
IGNORANT = 0.5
# Three blocks in a row, by more than scatter and by more than new patches are harder.
RISEN_BLOCKS, RISEN_BY, RISEN_TIMES = 3, 0.15, 1.5
JUDGEMENTS = 10  # in a row that must agree: 200 steps or more
FALLEN_BY = 0.05  # averaged weights hardly scatter, so that so much in all judgements is no chance
UNLEARNED = 0.1  # in a healthy run every class is above it at the first few judgements
GOOD = 0.8  # with such a Dice there is nothing to complain of
EARLY = 100  # steps in which nobody is told to paint more
LITTLE_PART, LITTLE = 0.05, 2000  # of background; a few strokes with a thick brush have 2000 pixels
RARE = 50  # a class so many times smaller than the largest hardly moves the loss


class _Curve(list[tuple[int, float]]):
    """A value by step, thinned evenly when it grows too long."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = 0
        self._stride = 1

    def add(self, point: tuple[int, float], best: tuple[int, float] | None = None) -> None:
        """Every so many points one is kept, and the best."""
        if point is best or self._seen % self._stride == 0:
            self.append(point)
        self._seen += 1
        if len(self) > MOST_POINTS:
            self[:] = [p for i, p in enumerate(self) if i % 2 == 0 or p is best]
            self._stride *= 2


@dataclass
class _Evidence:
    """What both curves have said since the annotation last changed: before, they were others."""

    blocks: int = 0  # of steps, over
    first: float = 0.0  # mean loss of the first two blocks
    lowest: float = float("inf")
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=RISEN_BLOCKS))
    top: float = 0.0  # highest Dice
    dices: deque[float] = field(default_factory=lambda: deque(maxlen=JUDGEMENTS))
    classes: deque[Classes] = field(default_factory=lambda: deque(maxlen=JUDGEMENTS))
    _sum: float = 0.0
    _count: int = 0

    def weigh_loss(self, loss: float) -> None:
        self._sum, self._count = self._sum + loss, self._count + 1
        if self._count == BLOCK:
            self._close(self._sum / BLOCK)

    def _close(self, mean: float) -> None:
        self._sum, self._count, self.blocks = 0.0, 0, self.blocks + 1
        if self.blocks <= 2:
            self.first += (mean - self.first) / self.blocks
        self.lowest = min(self.lowest, mean)
        self.latest.append(mean)

    def weigh_score(self, dice: float, classes: Classes) -> None:
        self.top = max(self.top, dice)
        self.dices.append(dice)
        self.classes.append(classes)

    @property
    def rising(self) -> bool:
        clearly = max(self.lowest * RISEN_TIMES, self.lowest + RISEN_BY)
        return len(self.latest) == RISEN_BLOCKS and min(self.latest) > clearly

    @property
    def stuck(self) -> bool:
        if self.blocks < STUCK_BLOCKS or (self.dices and self.dices[-1] >= GOOD):
            return False
        return fmean(self.latest) > max(STUCK * self.first, IGNORANT)

    @property
    def fallen(self) -> bool:
        return len(self.dices) == JUDGEMENTS and max(self.dices) < self.top - FALLEN_BY

    def dices_of(self, place: int) -> list[float | None]:
        """The last Dice of one class; none for one that the run does not know."""
        return [dices[place] for dices in self.classes if place < len(dices)]


@dataclass(eq=False)
class Progress:
    """The state of one training run, and what to say about it; cheap to tell, bounded in size."""

    phase: Phase = "idle"
    device: str = ""
    precision: str = ""
    images: int = 0
    labelled: int = 0
    held_out: int = 0
    step: int = 0
    seconds: float = 0.0
    losses: _Curve = field(default_factory=_Curve)
    scores: _Curve = field(default_factory=_Curve)
    classes: Classes = ()
    notices: dict[str, str] = field(default_factory=dict)  # the newest last
    loss: float | None = None  # smoothed
    dice: float | None = None  # of the last judgement; when done, of the model
    reason: Literal["", "seconds", "steps", "stopped", "failed"] = ""
    evidence: _Evidence = field(default_factory=_Evidence)
    _before: int = 0  # steps of the model that is gone on from
    _told: Phase = "idle"  # by the engine, which knows nothing of pause and stop
    _best: tuple[int, float] | None = None
    _best_at: float = 0.0
    _pace: float = 0.0  # seconds per pixel, smoothed
    _counts: tuple[int, ...] | None = None
    _noted: dict[str, float] = field(default_factory=dict)  # seconds of the run at each notice
    _range_is_new: bool = False

    @property
    def best(self) -> int | None:
        """Index in scores of the best: that of the weights that are kept."""
        return None if self._best is None else self.scores.index(self._best)

    @property
    def pixels_per_second(self) -> float:
        return 1 / self._pace if self._pace else 0.0

    # --- what is asked of the engine ---

    def begin(self) -> None:
        """Start was pressed: everything afresh."""
        vars(self).update(vars(Progress(phase="starting", _told="starting")))

    def pause(self) -> None:
        if self.phase in ("starting", "learning", "resting"):
            self.phase = "paused"

    def resume(self) -> None:
        """Back to what the engine was doing."""
        if self.phase == "paused":
            self.phase = self._told

    def stop(self) -> None:
        if self.phase not in ("idle", "done"):
            self.phase = "stopping"

    # --- what the engine says ---

    def take(self, event: Event, now: float) -> None:
        """Fold in one event, taken at `now` of a clock that goes forward; skip unknown ones."""
        match event:
            case Stepped():
                self._on_engine_stepped(event)
            case Scored():
                self._on_engine_scored(event, now)
            case Noticed():
                self._on_engine_noticed(event)
            case Started():
                self._on_engine_started(event)
            case Rested():
                self.step = event.step
                self._tell("resting")
            case Woke():
                self._on_engine_woke()
            case Trained():
                self._on_engine_trained(event)
            case Predicted():
                self._on_engine_predicted()

    def _tell(self, phase: Phase) -> None:
        """What is paused or stopping stays so, whatever the engine still has to say."""
        self._told = phase
        if self.phase not in ("paused", "stopping"):
            self.phase = phase

    def _on_engine_started(self, event: Started) -> None:
        self.device, self.precision = event.device, event.precision
        self.images, self.labelled, self.held_out = event.images, event.labelled, event.held_out
        self._before = event.learned
        self._tell("learning")

    def _on_engine_stepped(self, event: Stepped) -> None:
        if self.loss is not None:
            self._measure_pace(event)
        self.step, self.seconds = event.step, event.seconds
        self.loss = _smoothed(self.loss, event.loss)
        self.evidence.weigh_loss(event.loss)
        self.losses.add((event.step, event.loss))
        if self._noted:
            self._drop_what_is_over()

    def _measure_pace(self, event: Stepped) -> None:
        """By the engine's clock: events come in bursts, and waiting is not training."""
        took = event.seconds - self.seconds
        if event.pixels:
            self._pace = _smoothed(self._pace or None, took / event.pixels)

    def _drop_what_is_over(self) -> None:
        for kind, longest in OVER_AFTER.items():
            if self.seconds - self._noted.get(kind, self.seconds) > longest:
                self._drop(kind)

    def _on_engine_scored(self, event: Scored, now: float) -> None:
        self.step, self.seconds = event.step, event.seconds
        self.dice, self.classes = event.dice, event.classes
        point = (event.step, event.dice)
        if event.best:
            self._best, self._best_at = point, now
        self.scores.add(point, self._best)
        self.evidence.weigh_score(event.dice, event.classes)
        self._drop("held-out")

    def _on_engine_noticed(self, event: Noticed) -> None:
        self._drop(event.kind)  # so that the newest is the last
        self.notices[event.kind] = event.message
        self._noted[event.kind] = self.seconds
        self._range_is_new |= event.kind == "range"

    def _on_engine_woke(self) -> None:
        self._drop("class")  # if it still holds it is said again
        self._weigh_anew()
        self._tell("learning")

    def _on_engine_trained(self, event: Trained) -> None:
        self.step, self.seconds = event.step, event.seconds
        self.dice, self.reason = event.dice, event.reason
        self.phase = self._told = "done"

    def _on_engine_predicted(self) -> None:
        """An image predicted without a notice is in the range."""
        if not self._range_is_new:
            self._drop("range")
        self._range_is_new = False

    def _drop(self, kind: str) -> None:
        self.notices.pop(kind, None)
        self._noted.pop(kind, None)

    # --- what the user painted ---

    def _see(self, counts: tuple[int, ...]) -> None:
        """What was painted makes losses and scores others than before."""
        before, self._counts = self._counts, counts
        if all(counts):
            self._drop("class")
        if before is not None and before != counts:
            self._drop("not-learned")  # if it still holds it is said again
            pairs = zip_longest(before, counts, fillvalue=0)
            self._weigh_anew(any(now and not was for was, now in pairs))

    def _weigh_anew(self, new_class: bool = False) -> None:
        classes = self.evidence.classes
        self.evidence = _Evidence() if new_class else _Evidence(classes=classes)

    # --- in words ---

    def say(self, now: float) -> str:
        """How it is going, in one line."""
        match self.phase:
            case "idle":
                return "Paint a few strokes of each class and some background, then press Start."
            case "starting":
                return "Getting ready: loading PyTorch and measuring this machine."
            case "learning":
                return f"Learning from {count(self.images, 'image')}: {self._standing(now)}."
            case "paused":
                return f"Paused at step {self.step:,}{self._so_far('; {}')}."
            case "resting":
                return self._at_rest()
            case "stopping":
                return "Stopping: judging a last time and keeping the best."
            case "done":
                return self._over()

    def _standing(self, now: float) -> str:
        if self.dice is not None:
            return f"held-out Dice {self.dice:.2f}{self._best_so_far(now)}"
        if self.loss is None:
            return "the first steps"
        still = "still a first guess" if self._guessing else "no score yet"
        return f"loss {self.loss:.2f}, {still}"

    @property
    def _guessing(self) -> bool:
        """Whether the mask changes from second to second, however good it looks now."""
        return self._before + self.step < FIRST_GUESS

    def _best_so_far(self, now: float) -> str:
        if self._best is None:  # it was reached before a checkpoint that this run goes on from
            return ""
        best, present, ago = f"{self._best[1]:.2f}", f"{self.dice:.2f}", _ago(now - self._best_at)
        return f", best {ago}" if best == present else f"; best {best}, {ago}"

    def _so_far(self, frame: str) -> str:
        """The Dice of the weights that are kept, or else the loss, or else nothing."""
        kept = self.dice if self._best is None else self._best[1]
        if kept is not None:
            return frame.format(f"held-out Dice {kept:.2f}")
        return "" if self.loss is None else frame.format(f"loss {self.loss:.2f}")

    def _at_rest(self) -> str:
        if self.loss is None and not self.labelled:
            return "Resting: nothing is painted yet. Paint a few strokes and it goes on."
        so_far = self._so_far(" ({})")
        return f"Resting: no longer improving{so_far}. Paint a correction and it goes on."

    def _over(self) -> str:
        if not self.step:
            return "Stopped before the first step; nothing is learned yet."
        took = f"{count(self.step, 'step')} in {_span(self.seconds)}"
        score = "nothing was held out, so there is no score"
        if self.dice is not None:
            score = f"held-out Dice {self.dice:.2f}"
        match self.reason:
            case "seconds":
                return f"Done: the time is up, after {took}; {score}."
            case "steps":
                return f"Done: all {took}; {score}."
            case "failed":
                return f"Training failed after {took}, and the best until then is kept; {score}."
            case _ if self.dice is None and self._guessing:
                return f"Stopped after {took}, with a first guess; press Start to improve it."
            case _:
                return f"Stopped after {took}; {score}."

    def advice(self, counts: Sequence[int], names: Sequence[str]) -> list[str]:
        """What is wrong and what to do, the most important first.

        `counts` are the painted pixels of background and each class, `names` those of the classes.
        """
        self._see(tuple(counts))
        painted = _Painted(tuple(counts), tuple(names))
        said = (rule(self, painted) for rule, phases in RULES if self.phase in phases)
        return list(islice(filter(None, said), MOST_ADVICE))


@dataclass(frozen=True)
class _Painted:
    """Painted pixels of background and each class, and the names of the classes."""

    counts: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def classes(self) -> list[tuple[str, int]]:
        # While the user adds or removes a class, the two may differ for a moment.
        return list(zip(self.names, self.counts[1:], strict=False))

    @property
    def background(self) -> int:
        return self.counts[0] if self.counts else 0


# --- numbers and names, as people write them ---


def _smoothed(before: float | None, new: float) -> float:
    return new if before is None else before + SMOOTH * (new - before)


def count(number: int, what: str, plural: str = "s") -> str:
    """So many of something, in words."""
    return f"{number:,} {what}{'' if number == 1 else plural}"


def _span(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 60:
        return f"{int(seconds)} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60:,} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def _ago(seconds: float) -> str:
    return "just now" if seconds < 1 else f"{_span(seconds)} ago"


def _listed(names: Sequence[str]) -> str:
    """'a', 'a' and 'b', or 'a', 'b', 'c' and 2 more."""
    first = [f"'{name}'" for name in names[:MOST_NAMES]]
    if len(names) > MOST_NAMES:
        first.append(f"{len(names) - MOST_NAMES} more")
    return " and ".join(filter(None, [", ".join(first[:-1]), first[-1]]))


# --- rules: each looks at one thing that can be wrong ---


def _failed(progress: Progress, painted: _Painted) -> str | None:
    if progress.reason != "failed":
        return None
    newest_first = reversed(progress.notices.items())
    return next((text for kind, text in newest_first if kind in ("memory", "diverged")), None)


def _not_saved(progress: Progress, painted: _Painted) -> str | None:
    return progress.notices.get("checkpoint")


def _not_drawn(progress: Progress, painted: _Painted) -> str | None:
    return progress.notices.get("live")


def _nothing_painted(progress: Progress, painted: _Painted) -> str | None:
    if any(painted.counts):
        return None
    return "Nothing is painted yet; choose a class and paint a few strokes in the image."


def _no_background(progress: Progress, painted: _Painted) -> str | None:
    if painted.background or not any(painted.counts):
        return None
    return "No background is painted; paint a few strokes of it where no class is."


def _class_without_strokes(progress: Progress, painted: _Painted) -> str | None:
    missing = [name for name, pixels in painted.classes if not pixels]
    if not missing or not any(painted.counts):
        return None
    if len(missing) == len(painted.classes):
        return "No class is painted yet; paint a few strokes of each."
    have, them = ("has", "it") if len(missing) == 1 else ("have", "them")
    return f"{_listed(missing)} {have} no strokes; paint a few, or remove {them} from the classes."


def _not_learned(progress: Progress, painted: _Painted) -> str | None:
    return progress.notices.get("not-learned")


def _no_number(progress: Progress, painted: _Painted) -> str | None:
    message = progress.notices.get("diverged")
    if message is None or progress.reason == "failed":
        return None
    return (
        f"{message} If it happens again, lower the learning rate and look for images with extreme "
        "values."
    )


def _loss_rising(progress: Progress, painted: _Painted) -> str | None:
    evidence = progress.evidence
    if not evidence.rising:
        return None
    return (
        f"The loss is rising, from {evidence.lowest:.2f} to {evidence.latest[-1]:.2f}; lower the "
        "learning rate and start again."
    )


def _loss_stuck(progress: Progress, painted: _Painted) -> str | None:
    evidence = progress.evidence
    if not evidence.stuck:
        return None
    return (
        f"The loss has stayed at {evidence.latest[-1]:.2f} for {evidence.blocks * BLOCK:,} steps; "
        "look for strokes in the wrong class, or try another learning rate."
    )


def _class_unlearned(progress: Progress, painted: _Painted) -> str | None:
    unlearned = [
        name
        for place, (name, pixels) in enumerate(painted.classes)
        if pixels and _stays_low(progress.evidence.dices_of(place))
    ]
    if not unlearned:
        return None
    be, them = ("is", "it") if len(unlearned) == 1 else ("are", "them")
    return (
        f"{_listed(unlearned)} {be} not learned: the held-out Dice stays below {UNLEARNED}; paint "
        f"more of {them}, in several places, and look for strokes in the wrong class."
    )


def _stays_low(dices: Sequence[float | None]) -> bool:
    present = [dice for dice in dices if dice is not None]
    return len(dices) == JUDGEMENTS and bool(present) and max(present) < UNLEARNED


def _little_background(progress: Progress, painted: _Painted) -> str | None:
    few = min(LITTLE, LITTLE_PART * sum(painted.counts))
    if progress.step < EARLY or not 0 < painted.background < few:
        return None
    return (
        f"Less than {LITTLE_PART:.0%} of what is painted is background; paint more of it, above "
        "all beside the classes and where one is shown that is not there."
    )


def _score_fallen(progress: Progress, painted: _Painted) -> str | None:
    evidence = progress.evidence
    if not evidence.fallen:
        return None
    return (
        f"The held-out Dice has fallen from {evidence.top:.2f} to {evidence.dices[-1]:.2f}. The "
        "best is kept; paint where the mask is wrong."
    )


def _class_rare(progress: Progress, painted: _Painted) -> str | None:
    classes = [(pixels, place) for place, (_, pixels) in enumerate(painted.classes) if pixels]
    if progress.step < EARLY or not classes:
        return None
    (fewest, rare), (most, common) = min(classes), max(classes)
    dices = progress.evidence.dices_of(rare)
    if fewest * RARE >= most or (dices and (dices[-1] or 0) >= GOOD):
        return None
    return (
        f"'{painted.names[rare]}' has only {count(fewest, 'painted pixel')}, "
        f"'{painted.names[common]}' {most:,}; paint more of '{painted.names[rare]}' or, of "
        "complete masks, tick balance so that it weighs more."
    )


def _strange_image(progress: Progress, painted: _Painted) -> str | None:
    message = progress.notices.get("range")
    return message and f"{message} If it is wrong, paint in this image too."


def _class_unjudged(progress: Progress, painted: _Painted) -> str | None:
    unjudged = []
    for place, (name, pixels) in enumerate(painted.classes):
        dices = progress.evidence.dices_of(place)
        if pixels and len(dices) == JUDGEMENTS and not any(d is not None for d in dices):
            unjudged.append(name)
    if not unjudged:
        return None
    them = "it" if len(unjudged) == 1 else "them"
    return (
        f"Nothing of {_listed(unjudged)} is held out, so there is no score for {them}; paint more "
        f"of {them}, away from what is painted already."
    )


def _nothing_held_out(progress: Progress, painted: _Painted) -> str | None:
    if progress.step < EARLY or "held-out" not in progress.notices:
        return None
    return (
        "Judge it by the live mask: too little is painted to hold some of it out for a score. "
        "More strokes away from the first ones, or in another image, would give one."
    )


def _little_memory(progress: Progress, painted: _Painted) -> str | None:
    message = progress.notices.get("memory")
    if message is None or progress.reason == "failed":
        return None
    return (
        f"{message} If it is too slow or not good enough, close other programs or choose a "
        "narrower network."
    )


HEALTH: frozenset[Phase] = frozenset({"learning", "paused", "resting", "stopping", "done"})
ALWAYS: frozenset[Phase] = HEALTH | {"idle", "starting"}

Rule = Callable[[Progress, _Painted], str | None]

# The most important first, each with the phases in which it is looked at.
RULES: tuple[tuple[Rule, frozenset[Phase]], ...] = (
    (_failed, HEALTH),
    (_not_saved, HEALTH),
    (_not_drawn, HEALTH),
    (_nothing_painted, ALWAYS),
    (_no_background, ALWAYS),
    (_class_without_strokes, ALWAYS),
    (_not_learned, HEALTH),
    (_no_number, HEALTH),
    (_loss_rising, HEALTH),
    (_loss_stuck, HEALTH),
    (_class_unlearned, HEALTH),
    (_little_background, HEALTH),
    (_score_fallen, HEALTH),
    (_class_rare, HEALTH),
    (_strange_image, HEALTH),
    (_class_unjudged, HEALTH),
    (_nothing_held_out, HEALTH),
    (_little_memory, HEALTH),
)
