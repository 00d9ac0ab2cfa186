"""Training: a generator that learns from a live training set and keeps the best weights."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from napari_unet import __version__
from napari_unet.adviser import TRUSTED, Adviser, Say
from napari_unet.annotation import Ends, Item, TrainingSet, ends_of, region_of
from napari_unet.cards import Card, Version, fingerprint, now
from napari_unet.checkpoint import read_checkpoint, write_checkpoint
from napari_unet.config import NetChoice, NetConfig, TrainConfig
from napari_unet.device import choose_device, choose_numerics, free_memory, ran_out_of_memory
from napari_unet.holdout import HoldOut
from napari_unet.judging import Judge
from napari_unet.learner import Learner, Weights, copied, under
from napari_unet.library import Model
from napari_unet.metrics import Scores, dice_of, mean
from napari_unet.models import Net, build
from napari_unet.models.pixels import PixelNet
from napari_unet.patches import Sampler, item_stats
from napari_unet.pictures import numbered
from napari_unet.run import (
    BadInput,
    Control,
    Event,
    Noticed,
    Peeked,
    Rested,
    Scored,
    Started,
    Stepped,
    Trained,
    Woke,
)
from napari_unet.threads import Threads

WARM_UP = 10  # steps over which the rate rises
COOL_DOWN = 0.3  # part of a budget over which the rate falls
JUDGE_STEPS = 20  # between two looks at the held-out annotation, or more
NOTHING_LABELLED = (
    "Nothing is labelled in any image; paint some pixels of each class and some background, or "
    "give complete masks."
)
ONLY_HELD_OUT = "All that is labelled is held out to judge by; let an image be learned from."
TOO_LITTLE = (
    "None of the annotation can be held out without taking too much from training, so no score can "
    "be given; more strokes, further apart, or more images allow one."
)
LEARNED_BEFORE = (
    "What is annotated was learned in an earlier run or is too little to be held out, so no score "
    "can be given; annotate another image."
)
# What the best weights are judged on at the end; with so many steps wanted, however long it takes,
# so that equal runs have equal scores.
MOST_PIECES, MOST_SECONDS = 100, 3.0
JUDGE_COST = 5  # so that they take about a twentieth of the time: a step costs 4 times as much
BACKUP_STEPS = 50
CHECKPOINT_SECONDS = 60
MOST_ROLLBACKS = 5


def train(
    config: TrainConfig,
    training_set: TrainingSet,
    control: Control | None = None,
    *,
    start: Model | None = None,
    checkpoint: Path | None = None,
    name: str = "model",
) -> Iterator[Event]:
    """Train until the budget is spent or control says stop; with no budget, rest and wake instead.

    The last event holds the model. `start` gives the first weights; a `checkpoint` file is gone on
    from if it exists, and written at the end.
    """
    control = control or Control()
    saved = None
    if checkpoint is not None and checkpoint.exists():
        saved = read_checkpoint(checkpoint)
        config = _in_its_format(config, training_set.ndim, saved[1])
    run = _Run(config, training_set, start, name)
    if checkpoint is not None and saved is not None:
        run.load_checkpoint(checkpoint, *saved)
    with run.threads:
        try:
            yield from _loop(run, training_set, control, checkpoint)
        except Exception:  # such as a file that is gone: what was learned is not lost with it
            yield from run.rescued()
            raise


def _loop(
    run: _Run, training_set: TrainingSet, control: Control, checkpoint: Path | None
) -> Iterator[Event]:
    yield from run.begin()
    while not (control.stopped or run.spent or run.failed):
        if control.take_question():
            yield run.peek()
        if control.paused:
            with run.clock_stopped():
                control.wait_while_paused()
            continue
        if run.resting:
            with run.clock_stopped():
                changed = training_set.wait(run.sampler.version, timeout=0.2)
            if not changed:
                continue
            yield run.wake()
        yield from run.take_in_changes()
        if run.sampler.empty:
            yield run.rest()
            continue
        yield from run.one_step()
        if run.guess_is_old:
            yield run.peek()
        if run.due:
            yield from run.judge()
        if checkpoint is not None and run.saved_long_ago:
            yield from run.save_checkpoint(checkpoint)
        if run.stale:
            yield run.rest()
    yield from run.finish(control, checkpoint)


class _Run:
    """One training run: its budget, its judge, what it kept, and what it says."""

    def __init__(
        self, config: TrainConfig, training_set: TrainingSet, start: Model | None, name: str
    ) -> None:
        self.began = time.perf_counter()
        self.config, self.set, self.name = config, training_set, name
        if not training_set.items:
            raise BadInput("There is no image to train on; add one.")
        self.numerics = choose_numerics(
            choose_device(config.device, training_set.ndim),
            config.precision,
            training_set.ndim,
        )
        torch.manual_seed(config.seed)
        net = build(_net_config(config, training_set, start))
        if start is not None:
            _take_over(net, start, training_set.rims)
        self.holdout = HoldOut(config.holdout, net.halo, config.seed)
        current = None if start is None else start.card.current
        self._start = "" if current is None else current.created
        self._learned: dict[str, str] = {}  # images of earlier runs
        self._windows_before: Windows = {}
        if start is not None:
            self._learned, self._windows_before = start.card.images, start.card.windows
        self.sampler = Sampler(training_set, self.holdout, config.seed)
        # A net that has learned knows more than an adviser does that has seen some strokes.
        before = 0 if current is None else current.steps
        hinting, earlier = config.second_opinion and before < TRUSTED, None
        if start is not None and config.second_opinion and not hinting:
            earlier = _earlier_adviser(start, net, training_set.rims, self.numerics.device)
        self.adviser = Adviser(
            self.sampler, net.config, self.numerics, config.seed, hinting, earlier
        )
        self.say = Say(self.adviser, before)
        self.learner = Learner(net, config, self.sampler, self.numerics, self.adviser, before)
        self.jury = Judge(
            self.holdout,
            self.numerics,
            len(training_set.classes),
            training_set.ndim,
            training_set.rims,
        )
        # Sums depend on the number of threads: with so many steps wanted, it stays as it is.
        self.threads = Threads(self.numerics.device.type == "cpu" and config.steps is None)
        self.resting = False
        self.best: Weights | None = None
        self.best_dice = -1.0
        self.best_step = 0
        self.curve: list[tuple[int, float]] = []
        self._progress_step = 0  # the last at which something improved, or was painted
        self._losses = (math.inf, 0.0)  # lowest and present, smoothed
        self._judged = (-1, JUDGE_STEPS)  # version last judged on, step of the next look
        self._judged_with: PixelNet | None = None  # the adviser then
        self._pending: tuple[int, Tensor] | None = None  # a loss that is not waited for
        self._backup = self.learner.weights()
        self._backed_up_at = 0
        self._rollbacks = 0
        self._saved = self.began
        self._guessed = False  # whether the last answer was the classifier
        self.failed = False
        self._over = False  # whether its model was handed over

    # --- in the order it happens ---

    def begin(self) -> Iterator[Event]:
        """Look at the annotation for the first time."""
        notices = list(self.take_in_changes())
        if self.sampler.empty and not self._open_ended:
            raise BadInput(ONLY_HELD_OUT if self.set.counts.any() else NOTHING_LABELLED)
        items = self.set.items
        yield Started(
            str(self.numerics.device),
            self.numerics.name,
            sum(p.numel() for p in self.learner.net.parameters()),
            len(items),
            int(self.set.counts.sum()),
            self.holdout.held(items),
            self.say.now(self.step) > 0,
            self.learner.before,
        )
        yield from notices

    def take_in_changes(self) -> Iterator[Event]:
        """See what was painted since the last step."""
        first = self.sampler.version < 0
        new = tuple(i for i in self.set.items if i.name not in self.holdout.roles)
        _go_on(self.holdout, new, self._learned, self._windows_before)
        painted = self.sampler.refresh(self.step)
        yield from self._refresh_adviser()
        if not painted:
            return
        self._be_patient_again()
        if first and self.config.holdout and not self.holdout.held(self.sampler.items):
            yield Noticed("held-out", LEARNED_BEFORE if self._learned else TOO_LITTLE)
        learned, there = self.sampler.totals, self.sampler.labelled
        for number in np.flatnonzero(learned[: 1 + len(self.set.classes)] == 0).tolist():
            if there[number]:
                yield Noticed("not-learned", self._only_held_out(number))
            elif there.any():
                yield Noticed("class", self._nowhere(number))

    def _refresh_adviser(self, now: bool = False) -> Iterator[Event]:
        """Without the memory for one, there is none."""
        try:
            self.adviser.refresh(self.step, now)
            return
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
        yield self._stop_adviser()  # outside the except block, which would keep tensors alive

    def _stop_adviser(self) -> Event:
        self.adviser.stop()
        free_memory(self.numerics.device)
        return self._ran_out("going on without a second opinion")

    def _ran_out(self, so: str) -> Event:
        return Noticed("memory", f"Memory ran out on {self.numerics.device}; {so}.")

    def one_step(self) -> Iterator[Event]:
        """One optimiser step; when memory runs out, a smaller one is tried."""
        start = time.perf_counter()
        try:
            loss = self.learner.learn(self._part_of_rate)
            self.threads.took(time.perf_counter() - start, self.learner.pixels)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            loss = None
        if loss is None:  # outside the except block, which would keep the step's tensors alive
            self.learner.zero_grad()
            free_memory(self.numerics.device)
            if self.adviser.stop_hinting():  # for which it needs memory as well
                yield self._ran_out("only what is painted is learned from now on")
            else:
                yield self._shrink()
            return
        pending, self._pending = self._pending, (self.step, loss)
        if pending is not None:
            yield self._look_at(*pending)

    def judge(self) -> Iterator[Event]:
        """Judge the averaged weights; when memory runs out, in smaller pieces, or later."""
        while True:
            try:
                events = list(self._judge())
                break
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
            if self.jury.edge >= 16:
                self.jury.edge //= 2
            elif self.adviser.net is not None:
                yield self._stop_adviser()
            else:
                self._judged = (self._judged[0], self.step + JUDGE_STEPS)
                return
        yield from events

    def _judge(self) -> Iterator[Event]:
        """Score the averaged weights, and the best so far anew if the annotation changed since."""
        average, adviser = self.learner.average, self.adviser.net
        changed = self._judged[0] != self.sampler.version or self._judged_with is not adviser
        if self.best is not None and changed:
            present = copied(average.state_dict())
            average.load_state_dict(self.best)
            try:
                self.say.best, scores = self._scores(self.say.choices(self.best_step))
            finally:
                average.load_state_dict(present)
            rescored = mean(scores)
            if rescored is None:  # what it was judged by has been erased
                self.best = None
            self.best_dice = rescored or 0.0
        share, classes = self._scores(self.say.choices(self.step))
        pause = max(JUDGE_STEPS, round(JUDGE_COST * self.jury.pixels / self.learner.pixels))
        self._judged = (self.sampler.version, self.step + pause)
        self._judged_with = adviser
        dice = mean(classes)
        if dice is None or not _finite(average.state_dict()):
            self.say.judge(None)
            return
        self.say.judge(share)
        # What a few steps have learned may score well where it was learned, and nowhere else.
        immature = self.say.mature(self.step) and not self.say.mature(self.best_step)
        better = self.best is None or dice > self.best_dice or immature
        if better:
            self.best, self.best_dice = copied(average.state_dict()), dice
            self.best_step = self._progress_step = self.step
            self.say.best = share
        self.curve.append((self.step, dice))
        yield Scored(self.step, self.seconds, dice, classes, better)

    def _scores(self, shares: tuple[float, ...]) -> tuple[float, Scores]:
        """With which share of the adviser the averaged weights do best, and their scores then."""
        return self.jury.score(self.learner.average, self.sampler.items, shares, self.adviser.view)

    def _judge_the_best(self) -> dict[str, float]:
        """By image, on as much of what was held out as there is time for; pooled, the score."""
        assert self.best is not None
        self.learner.average.load_state_dict(self.best)
        try:
            (tables,) = self.jury.tables(
                self.learner.average,
                self.sampler.items,
                MOST_PIECES,
                (self.say.possible(self.say.best),),
                self.adviser.view,
                math.inf if self.config.steps else MOST_SECONDS,
            ).values()
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            return {}  # with the score on a sample
        pooled = mean(self.jury.pooled(tables, self.sampler.items))
        self.best_dice = self.best_dice if pooled is None else pooled
        scores = {name: mean(dice_of(table)) for name, table in tables.items()}
        return {name: score for name, score in scores.items() if score is not None}

    def rest(self) -> Event:
        self.resting = True
        return Rested(self.step)

    def wake(self) -> Event:
        self.resting = False
        return Woke(self.step)

    def finish(self, control: Control, checkpoint: Path | None) -> Iterator[Event]:
        """Keep the state if asked to, judge a last time, then hand over the best."""
        pending, self._pending = self._pending, None
        if pending is not None:
            yield self._look_at(*pending)
        if not _finite(self.learner.average.state_dict()):  # of the last update there is no loss
            yield self._roll_back()
        if checkpoint is not None:
            yield from self.save_checkpoint(checkpoint)
        yield from self._refresh_adviser(now=True)
        if self.step and self._holds_out:
            yield from self.judge()
        dice = dict(self.curve).get(self.step)
        model = last = self._model(self.step, dice, self.say.now(self.step))
        if self.best is not None:
            held_out = self._judge_the_best()
            model = self._best_model()
            model.card = model.card.model_copy(update={"held_out": held_out})
        self._over = True
        yield Trained(self._reason(control), self.step, self.seconds, self._dice, model, last)

    def rescued(self) -> Iterator[Event]:
        """What was learned until something went wrong that cannot be mended."""
        if not self.step or self._over:
            return
        self.failed = True
        with suppress(Exception):  # of what went wrong before there is more to say
            model = last = self._model(self.step, None, self.say.now(self.step))
            if self.best is not None:
                self.learner.average.load_state_dict(self.best)
                model = self._best_model()
            yield Trained("failed", self.step, self.seconds, self._dice, model, last)

    def peek(self) -> Event:
        """The model as it is now."""
        share = self.say.now(self.step)
        self._guessed = share == 1
        return Peeked(self.step, self._model(self.step, None, share))

    @property
    def guess_is_old(self) -> bool:
        """Whether somebody still has the classifier, where the net knows more."""
        return self._guessed and self.say.shared(self.step)

    # --- time, budget and patience ---

    @property
    def step(self) -> int:
        return self.learner.step

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Waiting is not training: inside, the clock stands still."""
        since = time.perf_counter()
        yield
        self.began += time.perf_counter() - since

    @property
    def _open_ended(self) -> bool:
        return self.config.seconds is None and self.config.steps is None

    @property
    def _used(self) -> float:
        """The part of the budget that is used."""
        by_steps = self.step / self.config.steps if self.config.steps else 0.0
        by_time = self.seconds / self.config.seconds if self.config.seconds else 0.0
        return max(by_steps, by_time)

    @property
    def spent(self) -> bool:
        return self._used >= 1

    @property
    def _part_of_rate(self) -> float:
        """A budget ends at a falling rate; without one the average of the weights must do."""
        warm = min(1.0, (self.step + 1) / WARM_UP)
        cool = 1.0 if self._open_ended else min(1.0, (1 - self._used) / COOL_DOWN)
        return warm * max(cool, 0.01)

    @property
    def due(self) -> bool:
        """Whether it is time to judge."""
        return self.step >= self._judged[1] and self._holds_out

    @property
    def _holds_out(self) -> bool:
        return any(self.holdout.windows.values())

    @property
    def saved_long_ago(self) -> bool:
        return time.perf_counter() - self._saved > CHECKPOINT_SECONDS

    @property
    def stale(self) -> bool:
        """Whether open-ended training no longer improves."""
        return self._open_ended and self.step - self._progress_step >= self.config.patience

    def _be_patient_again(self) -> None:
        self._progress_step = self.step
        self._losses = (math.inf, self._losses[1])

    def _reason(self, control: Control) -> Literal["seconds", "steps", "stopped", "failed"]:
        if self.failed:
            return "failed"
        if control.stopped:
            return "stopped"
        return "steps" if self.config.steps and self.step >= self.config.steps else "seconds"

    # --- what the loss says ---

    def _look_at(self, step: int, pending: Tensor) -> Event:
        """The loss of the step before: by now it costs nothing to read."""
        loss = float(pending)
        if not math.isfinite(loss):
            return self._roll_back()
        lowest, smooth = self._losses
        smooth += (loss - smooth) * (0.05 if smooth else 1)
        if smooth < 0.99 * lowest:
            lowest = smooth
            if self.best is None:  # with a score to go by, the loss no longer counts as progress
                self._progress_step = step
        self._losses = (lowest, smooth)
        if step % BACKUP_STEPS == 0:
            # The step after this one has been taken already, and may be the one that diverged.
            backup = self.learner.weights()
            if all(map(_finite, backup)):
                self._backup, self._backed_up_at, self._rollbacks = backup, step, 0
        return Stepped(step, self.seconds, loss, self.learner.pixels)

    def _roll_back(self) -> Event:
        self._rollbacks += 1
        rate = self.learner.rate / 2
        self.learner.start_again_from(self._backup, rate)
        self._pending = None
        if self._rollbacks > MOST_ROLLBACKS:
            return self._give_up(
                "diverged",
                "Training diverges again and again; lower the learning rate, and look for images "
                "with extreme values.",
            )
        return Noticed(
            "diverged",
            f"The loss was no longer a number; back to the last good weights, rate now {rate:g}.",
        )

    def _shrink(self) -> Event:
        if not self.learner.shrink():
            return self._give_up(
                "memory",
                f"There is not enough memory on {self.numerics.device} for even the smallest step; "
                "choose a narrower network or close other programs.",
            )
        size = " x ".join(map(str, self.learner.patch))
        return self._ran_out(f"going on with {self.learner.batch} patch(es) of {size}")

    def _give_up(self, kind: Literal["diverged", "memory"], why: str) -> Event:
        """End the run with what it has; with nothing yet, that is the user's to mend."""
        if self.best is None and self._backed_up_at == 0:
            raise BadInput(why)
        self.failed = True
        return Noticed(kind, f"{why} The best so far is kept.")

    def _only_held_out(self, number: int) -> str:
        what = f"Class {number} '{self.set.classes[number - 1].name}'" if number else "Background"
        return (
            f"{what} is labelled only in or near what is held out to judge by, and is not learned; "
            "paint some of it elsewhere."
        )

    def _nowhere(self, number: int) -> str:
        if number == 0:
            return "No background is labelled; paint some of it to have it told apart."
        name = self.set.classes[number - 1].name
        return f"Class {number} '{name}' is nowhere labelled; paint some of it to have it learned."

    # --- what is kept ---

    @property
    def _dice(self) -> float | None:
        return None if self.best is None else self.best_dice

    def _best_model(self) -> Model:
        """That of the best weights, which are the averaged ones now."""
        return self._model(self.best_step, self.best_dice, self.say.possible(self.say.best))

    def _model(self, step: int, dice: float | None, share: float) -> Model:
        """The averaged weights, copied, with what is to be said of them."""
        weights = dict(self.learner.average.state_dict())
        if share:
            assert self.adviser.net is not None
            weights |= {f"pixels.{k}": v for k, v in self.adviser.net.state_dict().items()}
        copies = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in weights.items()}
        return Model(self._card(step, dice, share), copies)

    def _card(self, step: int, dice: float | None, share: float) -> Card:
        items = self.sampler.items  # others came a moment ago, and were not learned
        images = {i.name: _identify(i) for i in items}
        now_here = set(images.values())
        earlier, windows = dict[str, str](), Windows()
        for name, digest in self._learned.items():
            if digest not in now_here:
                called = numbered(name, {*images, *earlier})  # another may have its name now
                earlier[called] = digest
                if name in self._windows_before:
                    windows[called] = self._windows_before[name]
        version = Version(
            number=1, created=now(), steps=step, seconds=round(self.seconds, 2), dice=dice
        )
        return Card(
            name=self.name,
            net=self.learner.net.config.model_copy(update={"pixels": share}),
            classes=self.set.classes,
            axes="CYX" if self.set.ndim == 2 else "CZYX",
            spacing=self.set.spacing,
            unit=self.set.unit,
            seen=tuple(item_stats(i) for i in items),
            images=earlier | images,
            labelled=tuple(self.sampler.labelled.tolist()),
            training=self.config.model_dump(),
            numerics=f"{self.numerics.name} on {self.numerics.device}",
            software={"napari-unet": __version__, "torch": torch.__version__},
            rims=self.set.rims,
            smallest=self.set.smallest,
            curve=tuple(self.curve),
            windows=windows | _places(self.holdout),
            versions=(version,),
        )

    def save_checkpoint(self, path: Path) -> Iterator[Event]:
        """Everything that going on needs, so that the result is that of a run never interrupted."""
        tensors, learner = self.learner.state()
        if self.best is not None:
            tensors |= {f"best.{k}": v for k, v in self.best.items()}
        state = {
            "for": self._identity,
            "sizes": {i.name: i.annotation.shape for i in self.set.items},
            "learner": learner,
            "sampler": self.sampler.state(),
            "holdout": self.holdout.state(),
            "seconds": self.seconds,
            "best": [self.best_dice, self.best_step, self.say.best],
            "curve": self.curve,
            "progress": self._progress_step,
            "losses": self._losses,
            "judged": self._judged,
        }
        self._saved = time.perf_counter()
        try:
            write_checkpoint(path, tensors, state)
        except BadInput as error:  # a full disk must not cost what has been learned
            yield Noticed("checkpoint", str(error))

    def load_checkpoint(self, path: Path, tensors: Weights, state: dict[str, Any]) -> None:
        """Go on where a checkpoint left off."""
        if state.get("for") != self._identity:
            raise BadInput(
                f"{path} is a checkpoint of another network, first model, device or number format; "
                "give another file."
            )
        sizes = state.get("sizes", {})
        for item in self.set.items:
            if sizes.get(item.name, [*item.annotation.shape]) != [*item.annotation.shape]:
                raise BadInput(
                    f"{path} is a checkpoint of another image '{item.name}', of another size; give "
                    "another file."
                )
        try:
            self._restore(tensors, state)
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError):
            raise BadInput(f"{path} is a damaged checkpoint; give another file.") from None

    @property
    def _identity(self) -> list[Any]:
        """What must be the same for a checkpoint to be gone on from."""
        net, numerics = self.learner.net, self.numerics
        return [net.config.model_dump_json(), self._start, numerics.name, numerics.device.type]

    def _restore(self, tensors: Weights, state: dict[str, Any]) -> None:
        self.learner.restore(tensors, state["learner"])
        self.holdout.restore(state["holdout"])
        self.sampler.refresh(self.step)
        self.sampler.restore(state["sampler"])
        device = self.numerics.device
        self.best = {k: v.to(device) for k, v in under("best.", tensors).items()} or None
        self.best_dice, self.best_step, self.say.best = state["best"]
        self.curve = [(int(s), float(d)) for s, d in state["curve"]]
        self.began = time.perf_counter() - state["seconds"]
        self._progress_step = state["progress"]
        self._losses = tuple(state["losses"])
        self._judged = (-1, state["judged"][1])  # the annotation may be another
        self._backup, self._backed_up_at = self.learner.weights(), self.step


def _finite(weights: Weights) -> bool:
    return all(bool(torch.isfinite(w).all()) for w in weights.values())


def _in_its_format(config: TrainConfig, ndim: int, state: dict[str, Any]) -> TrainConfig:
    """With the number format of a checkpoint, should a self-test of the CPU choose another now."""
    device = choose_device(config.device, ndim)
    before = state.get("for")
    for precision in ("float32", "bfloat16") if config.precision == "auto" else ():
        same = isinstance(before, list) and before[2:] == [precision, device.type]
        if same and device.type == "cpu" and choose_numerics(device, ndim=ndim).name != precision:
            return config.model_copy(update={"precision": precision})
    return config


def _identify(item: Item) -> str:
    """The image's fingerprint, taken once."""
    if "fingerprint" not in item.cache:
        item.cache["fingerprint"] = fingerprint(item.image)
    found: str = item.cache["fingerprint"]
    return found


Windows = dict[str, tuple[Ends, ...]]


def _places(holdout: HoldOut) -> Windows:
    """What is held out, as a model's card has it."""
    return {
        name: tuple(map(ends_of, windows)) for name, windows in holdout.windows.items() if windows
    }


def _go_on(
    holdout: HoldOut, items: tuple[Item, ...], learned: dict[str, str], windows: Windows
) -> None:
    """A model is not judged by what it has learned in an earlier run, under whatever name."""
    names = {digest: name for name, digest in learned.items()}
    for item in items if names else ():
        name = names.get(_identify(item))
        if name is not None:
            held = windows.get(name, ())
            holdout.go_on(item, [region_of(ends) for ends in held])


def _net_config(config: TrainConfig, training_set: TrainingSet, start: Model | None) -> NetConfig:
    own = {
        "ndim": training_set.ndim,
        "in_channels": training_set.items[0].image.shape[0],
        "n_classes": training_set.n_values,
    }
    choice = {k: getattr(config, k) for k in NetChoice.model_fields}
    if start is not None:
        there = start.card.net
        usual = {k: field.default for k, field in NetChoice.model_fields.items()}
        other = [k for k in choice if choice[k] not in (usual[k], getattr(there, k))]
        if other:
            raise BadInput(
                f"Model '{start.card.name}' has {other[0]} {getattr(there, other[0])}, not "
                f"{choice[other[0]]}; leave {other[0]} out, or start from random weights."
            )
        return there.model_copy(update=own | {"pixels": 0.0})
    spacing = training_set.spacing if training_set.ndim == 3 else ()
    return NetConfig(**choice, **own, spacing=spacing)


def _earlier_adviser(start: Model, net: Net, rims: bool, device: torch.device) -> PixelNet | None:
    """The classifier of pixels of another model, if it tells the same things apart."""
    there = start.net.pixels
    own = net.config.model_copy(update={"pixels": start.card.net.pixels})
    if there is None or start.net.config != own or start.card.rims != rims:
        return None
    return copy.deepcopy(there).to(device)


def _take_over(net: Net, start: Model, rims: bool) -> None:
    """Weights of another model; only its last layer may differ, where the classes do."""
    own = net.state_dict()
    fitting = {k: v for k, v in start.weights.items() if k in own and own[k].shape == v.shape}
    if start.card.rims != rims:  # as many outputs may mean other things
        fitting = {k: v for k, v in fitting.items() if not k.startswith("last")}
    if any(k not in fitting and not k.startswith("last") for k in own):
        there, here = start.card.net, net.config
        raise BadInput(
            f"Model '{start.card.name}' reads {there.in_channels} channel(s) in {there.ndim}-D, "
            f"these images are {here.in_channels} channel(s) in {here.ndim}-D; start from another "
            "model or from random weights."
        )
    net.load_state_dict(own | fitting)
