"""Training: a generator that learns from a live training set and keeps the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from napari_unet import __version__
from napari_unet.adviser import TRUSTED, Adviser, Say
from napari_unet.annotation import TrainingSet, ends_of
from napari_unet.best import Best, finite
from napari_unet.budget import Budget
from napari_unet.cards import Card, Version, now
from napari_unet.checkpoint import read_checkpoint, write_checkpoint
from napari_unet.config import NetConfig, TrainConfig
from napari_unet.device import (
    choose_device,
    choose_numerics,
    free_memory,
    ran_out_of_memory,
    room_for,
)
from napari_unet.footing import Footing
from napari_unet.holdout import HoldOut
from napari_unet.learner import Learner, Weights
from napari_unet.library import Model
from napari_unet.origin import Origin, Windows, identify
from napari_unet.patches import Sampler, item_stats
from napari_unet.pictures import numbered
from napari_unet.run import (
    BadInput,
    Control,
    Event,
    Noticed,
    Peeked,
    Rested,
    Started,
    Stepped,
    Trained,
    Woke,
)
from napari_unet.threads import Threads

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
CHECKPOINT_SECONDS = 60


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
    with room_for("this network"):
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
            with run.budget.clock_stopped():
                control.wait_while_paused()
            continue
        if run.resting:
            with run.budget.clock_stopped():
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
        if run.best.due:
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
        self.budget = Budget(config)
        self.config, self.set, self.name = config, training_set, name
        if not training_set.items:
            raise BadInput("There is no image to train on; add one.")
        self.numerics = choose_numerics(
            choose_device(config.device, training_set.ndim),
            config.precision,
            training_set.ndim,
        )
        torch.manual_seed(config.seed)
        self.origin = Origin(start)
        net = self.origin.build(config, training_set)
        self.holdout = HoldOut(config.holdout, net.halo, config.seed, self.origin.held_out_of)
        self.sampler = Sampler(training_set, self.holdout, config.seed)
        # A net that has learned knows more than an adviser does that has seen some strokes.
        before = self.origin.steps
        hinting, earlier = config.second_opinion and before < TRUSTED, None
        if config.second_opinion and not hinting:
            earlier = self.origin.adviser(self.numerics.device)
        self.adviser = Adviser(
            self.sampler, net.config, self.numerics, config.seed, hinting, earlier
        )
        self.say = Say(self.adviser, before)
        self.learner = Learner(net, config, self.sampler, self.numerics, self.adviser, before)
        self.best = Best(self.learner, self.holdout, self.say, self.budget)
        self.footing = Footing(self.learner)
        # Sums depend on the number of threads: with so many steps wanted, it stays as it is.
        self.threads = Threads(self.numerics.device.type == "cpu" and config.steps is None)
        self.resting = False
        self._learned: dict[str, str] = {}  # names of images, by fingerprint, also of those gone
        self._unfit: set[str] = set()  # images that were to judge, and cannot
        self._progress_step = 0  # the last at which something improved, or was painted
        self._losses = (math.inf, 0.0)  # lowest and present, smoothed
        self._pending: tuple[int, Tensor] | None = None  # a loss that is not waited for
        self._saved = time.perf_counter()
        self._guessed = False  # whether the last answer was the classifier
        self.failed = False
        self._over = False  # whether its model was handed over, or is not worth it

    # --- in the order it happens ---

    def begin(self) -> Iterator[Event]:
        """Look at the annotation for the first time."""
        notices = list(self.take_in_changes())
        if self.sampler.empty and not self.budget.open_ended:
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
        painted = self.sampler.refresh(self.step)
        yield from self._refresh_adviser()
        if not painted:
            return
        self._be_patient_again()
        self._know_images()
        if first and self.config.holdout and not self.holdout.held(self.sampler.items):
            yield Noticed("held-out", LEARNED_BEFORE if self.origin.learned else TOO_LITTLE)
        yield from self._cannot_judge()
        learned, there = self.sampler.totals, self.sampler.labelled
        for number in np.flatnonzero(learned[: 1 + len(self.set.classes)] == 0).tolist():
            if there[number]:
                yield Noticed("not-learned", self._only_held_out(number))
            elif there.any():
                yield Noticed("class", self._nowhere(number))

    def _know_images(self) -> None:
        self._learned |= {identify(i): i.name for i in self.sampler.items if i.labelled}

    def _cannot_judge(self) -> Iterator[Event]:
        """Say of which images it is asked that they judge, after they were learned."""
        asked = {i.name for i in self.sampler.items if i.role == "hold out" and i.labelled}
        unfit = {name for name in asked if not self.holdout.windows[name]}
        new, self._unfit = sorted(unfit - self._unfit), unfit
        if new:
            others = f" and {len(new) - 1} more" if new[1:] else ""
            yield Noticed(
                "held-out",
                f"'{new[0]}'{others} can no longer judge, as it was learned before; it is learned "
                "no more. Judge by another image, or start from random weights.",
            )

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
            loss = self.learner.learn(self.budget.part_of_rate(self.step))
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
                scored = self.best.judge()
                break
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
            if self.best.take_less():
                continue
            if self.adviser.net is None:
                self.best.put_off()
                return
            yield self._stop_adviser()
        if scored is not None:
            if scored.best:
                self._progress_step = self.step
            yield scored

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
        if not finite(self.learner.average.state_dict()):  # of the last update there is no loss
            yield self._roll_back()
        if checkpoint is not None:
            yield from self.save_checkpoint(checkpoint)
        yield from self.take_in_changes()  # those of a pause, too
        yield from self._refresh_adviser(now=True)
        if self.step and self.best.possible:
            yield from self.judge()
        dice = dict(self.best.curve).get(self.step)
        model = last = self._model(self.step, dice, self.say.now(self.step))
        if self.best.found:
            held_out = self.best.judge_well()
            model = self._best_model()
            model.card = model.card.model_copy(update={"held_out": held_out})
        self._over = True
        yield Trained(
            self._reason(control), self.step, self.budget.seconds, self.best.dice, model, last
        )

    def rescued(self) -> Iterator[Event]:
        """What was learned until something went wrong that cannot be mended."""
        if not self.step or self._over:
            return
        self.failed = True
        with suppress(Exception):  # of what went wrong before there is more to say
            model = last = self._model(self.step, None, self.say.now(self.step))
            if self.best.found:
                self.best.take_up()
                model = self._best_model()
            yield Trained("failed", self.step, self.budget.seconds, self.best.dice, model, last)

    def peek(self) -> Event:
        """The model as it is now."""
        share = self.say.now(self.step)
        self._guessed = share == 1
        return Peeked(self.step, self._model(self.step, None, share))

    @property
    def guess_is_old(self) -> bool:
        """Whether somebody still has the classifier, where the net knows more."""
        return self._guessed and self.say.shared(self.step)

    # --- budget and patience ---

    @property
    def step(self) -> int:
        return self.learner.step

    @property
    def spent(self) -> bool:
        return self.budget.used(self.step) >= 1

    @property
    def saved_long_ago(self) -> bool:
        return time.perf_counter() - self._saved > CHECKPOINT_SECONDS

    @property
    def stale(self) -> bool:
        """Whether open-ended training no longer improves."""
        return self.budget.open_ended and self.step - self._progress_step >= self.config.patience

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
            if not self.best.found:  # with a score to go by, the loss no longer counts as progress
                self._progress_step = step
        self._losses = (lowest, smooth)
        self.footing.stood(step)
        return Stepped(step, self.budget.seconds, loss, self.learner.pixels)

    def _roll_back(self) -> Event:
        self._pending = None
        if not self.footing.go_back():
            return self._give_up(
                "diverged",
                "Training diverges again and again; lower the learning rate, and look for images "
                "with extreme values.",
            )
        return Noticed(
            "diverged",
            f"The loss was no longer a number; back to the last good weights, rate now "
            f"{self.learner.rate:g}.",
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
        if not self.best.found and self.footing.step == 0:
            self._over = True
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

    def _best_model(self) -> Model:
        """That of the best weights, which are the averaged ones now."""
        return self._model(self.best.step, self.best.dice, self.say.possible(self.best.share))

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
        images = {i.name: digest for i in items if (digest := identify(i)) in self._learned}
        for digest, name in self._learned.items():
            if digest not in images.values():
                images[numbered(name, images)] = digest  # another may have its name now
        earlier, windows = self.origin.beside(images)
        version = Version(
            number=1,
            created=now(),
            steps=step,
            learned=self.origin.steps + step,
            seconds=round(self.budget.seconds, 2),
            dice=dice,
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
            curve=tuple(self.best.curve),
            windows=windows | _places(self.holdout),
            versions=(version,),
        )

    def save_checkpoint(self, path: Path) -> Iterator[Event]:
        """Everything that going on needs, so that the result is that of a run never interrupted."""
        (tensors, learner), (best, judged) = self.learner.state(), self.best.state()
        state = judged | {
            "for": [self.learner.net.config.model_dump_json(), *self._identity],
            "sizes": {i.name: i.annotation.shape for i in self.set.items},
            "learner": learner,
            "sampler": self.sampler.state(),
            "holdout": self.holdout.state(),
            "images": self._learned,
            "seconds": self.budget.seconds,
            "progress": self._progress_step,
            "losses": self._losses,
        }
        self._saved = time.perf_counter()
        try:
            write_checkpoint(path, tensors | best, state)
        except BadInput as error:  # a full disk must not cost what has been learned
            yield Noticed("checkpoint", str(error))

    def load_checkpoint(self, path: Path, tensors: Weights, state: dict[str, Any]) -> None:
        """Go on where a checkpoint left off."""
        net = _net_of(state)
        if net != self.learner.net.config or state["for"][1:] != self._identity:
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
        """What must be the same for a checkpoint to be gone on from, beside the network."""
        return [self.origin.created, self.numerics.name, self.numerics.device.type]

    def _restore(self, tensors: Weights, state: dict[str, Any]) -> None:
        self.learner.restore(tensors, state["learner"])
        self.holdout.restore(state["holdout"])
        self.sampler.refresh(self.step)
        self.sampler.restore(state["sampler"])
        self._learned = dict(state["images"])
        self._know_images()
        self.best.restore(tensors, state)
        self.budget.seconds = state["seconds"]
        self._progress_step = state["progress"]
        self._losses = tuple(state["losses"])
        self.footing.renew()


def _net_of(state: dict[str, Any]) -> NetConfig | None:
    """The network of a checkpoint."""
    try:
        return NetConfig.model_validate_json(state["for"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _in_its_format(config: TrainConfig, ndim: int, state: dict[str, Any]) -> TrainConfig:
    """With the grain of a checkpoint, and with its number format.

    Another grain may fit what is annotated now, and a self-test of the CPU choose another format.
    """
    device, net = choose_device(config.device, ndim), _net_of(state)
    if config.grain is None and net is not None:
        config = config.model_copy(update={"grain": net.grain})
    before = state.get("for")
    for precision in ("float32", "bfloat16") if config.precision == "auto" else ():
        same = isinstance(before, list) and before[2:] == [precision, device.type]
        if same and device.type == "cpu" and choose_numerics(device, ndim=ndim).name != precision:
            return config.model_copy(update={"precision": precision})
    return config


def _places(holdout: HoldOut) -> Windows:
    """What is held out, as a model's card has it."""
    return {
        name: tuple(map(ends_of, windows)) for name, windows in holdout.windows.items() if windows
    }
