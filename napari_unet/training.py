"""Training: a generator that learns from a live training set and keeps the best weights."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from napari_unet import __version__
from napari_unet.annotation import Item, Region, TrainingSet
from napari_unet.atomic import atomic_file
from napari_unet.augment import draw_warp, vary_light, warp_batch, warp_grid
from napari_unet.config import BACKGROUND, NetConfig, TrainConfig
from napari_unet.device import choose_device, choose_numerics, free_memory, ran_out_of_memory
from napari_unet.holdout import HELD, HoldOut
from napari_unet.library import Card, Model, Version, fingerprint, now
from napari_unet.losses import class_weights, segmentation_loss
from napari_unet.metrics import confusion, dice_of, mean
from napari_unet.models import Net, build
from napari_unet.patches import Sampler, Spot, cut, gather, item_stats
from napari_unet.run import (
    BadInput,
    Control,
    Event,
    Noticed,
    Rested,
    Scored,
    Started,
    Stepped,
    Trained,
    Woke,
)

WARM_UP = 10  # steps over which the rate rises
COOL_DOWN = 0.3  # part of a budget over which the rate falls
AVERAGE = 0.99  # of the weights; less at the beginning
JUDGE_STEPS = 20  # between two looks at the held-out annotation, or more if there is much of it
JUDGE_EDGE = 256  # it is looked at in pieces of this edge,
JUDGE_PIECES = 12  # and of so many pieces
BACKUP_STEPS = 50
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
    run = _Run(config, training_set, start, name)
    if checkpoint is not None and checkpoint.exists():
        run.load_checkpoint(checkpoint)
    yield from run.begin()
    while not (control.stopped or run.spent):
        if control.paused:
            with run.clock_stopped():
                control.wait_while_paused()
            continue
        if run.resting:
            with run.clock_stopped():
                changed = training_set.wait(run.sampler.version, 0.2)
            if not changed:
                continue
            run.wake()
            yield Woke(run.step)
        yield from run.take_in_changes()
        if run.sampler.empty:
            yield from run.rest()
            continue
        yield from run.one_step()
        if run.due:
            yield from run.judge()
        if run.stale:
            yield from run.rest()
    yield from run.finish(control, checkpoint)


class _Run:
    """The state of one training run."""

    def __init__(
        self, config: TrainConfig, training_set: TrainingSet, start: Model | None, name: str
    ) -> None:
        self.began = time.perf_counter()
        self.config, self.set, self.name = config, training_set, name
        if not training_set.items:
            raise BadInput("There is no image to train on; add one.")
        self.numerics = choose_numerics(
            choose_device(config.device), config.precision, training_set.ndim
        )
        self.device = self.numerics.device
        torch.manual_seed(config.seed)
        net = build(_net_config(config, training_set, start))
        if start is not None:
            _take_over(net, start)
        layout = self.numerics.layout(training_set.ndim)
        self.net: Net = net.to(self.device, memory_format=layout).train()
        self.average: Net = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.rate = config.rate
        self.optimiser = self._new_optimiser()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.numerics.scaled)
        self.holdout = HoldOut(config.holdout, net.halo, config.seed)
        self.sampler = Sampler(training_set, self.holdout, config.seed)
        self.rng = np.random.default_rng(config.seed)
        self.random = torch.Generator(self.device).manual_seed(config.seed)
        self.patch, self.batch = patch_shape(config, training_set, net.stride), config.batch
        if training_set.ndim == 3:
            self.batch = max(1, config.batch // 4)
        self.step = 0
        self.resting = False
        self.best: dict[str, Tensor] | None = None
        self.best_dice = -1.0
        self.best_step = 0
        self.curve: list[tuple[int, float]] = []
        self._pending: tuple[int, Tensor] | None = None  # a loss that is not waited for
        self._loss = (math.inf, 0.0, 0)  # lowest smoothed, present smoothed, step of the lowest
        self._judged_version = -1
        self._next_judgement = JUDGE_STEPS
        self._backup = self._weights()
        self._rollbacks = 0

    # --- the run, in the order it happens ---

    def begin(self) -> Iterator[Event]:
        """Look at the annotation for the first time."""
        changes = list(self.take_in_changes())
        items = self.set.items
        if self.sampler.empty and not self._open_ended:
            raise BadInput(
                "Nothing is labelled in any image; paint some pixels of each class and some "
                "background, or give complete masks."
            )
        yield Started(
            str(self.device),
            self.numerics.name,
            sum(p.numel() for p in self.net.parameters()),
            len(items),
            int(self.set.counts.sum()),
            self.holdout.held(items),
        )
        yield from changes

    def take_in_changes(self) -> Iterator[Event]:
        """See what was painted since the last step."""
        first = self.sampler.version < 0
        if not self.sampler.refresh(self.step):
            return
        if not first:
            self.wake()
        elif self.config.holdout and not self.holdout.held(self.sampler.items):
            yield Noticed(
                "held-out",
                "Too little is annotated to hold any of it out, so no score can be given; "
                "annotate further away, or another image.",
            )
        counts = self.set.counts
        for value, found in enumerate(counts.tolist()):
            if not found and counts.any():
                what = (
                    f"Class {value} '{self.set.classes[value - 1].name}' is"
                    if value
                    else "No background is"
                )
                rest = " nowhere" if value else ""
                yield Noticed("class", f"{what}{rest} labelled; paint some of it to have it learned.")

    def one_step(self) -> Iterator[Event]:
        """One optimiser step; when memory runs out, a smaller one is tried."""
        pending = self._pending
        try:
            loss = self._learn()
        except RuntimeError as error:
            if not ran_out_of_memory(error):
                raise
            self.optimiser.zero_grad()
            loss = None
        if loss is None:  # outside the except block, which would keep the step's tensors alive
            free_memory(self.device)
            yield self._shrink()
            return
        self.step += 1
        self._pending = (self.step, loss)
        if pending is not None:
            yield from self._look_at(*pending)

    def judge(self) -> Iterator[Event]:
        """Score the averaged weights, and the best so far anew if the annotation changed since."""
        version = self.sampler.version
        if self.best is not None and version != self._judged_version:
            present = _copy(self.average.state_dict())
            self.average.load_state_dict(self.best)
            rescored = mean(self._score())
            self.best_dice = -1.0 if rescored is None else rescored
            self.average.load_state_dict(present)
        classes = self._score()
        dice = mean(classes)
        self._judged_version = version
        pixels = self.holdout.held(self.sampler.items)
        per_step = self.batch * math.prod(self.patch)
        self._next_judgement = self.step + max(JUDGE_STEPS, round(3 * pixels / per_step))
        if dice is None:
            return
        better = dice > self.best_dice
        if better:
            self.best, self.best_dice, self.best_step = _copy(self.average.state_dict()), dice, self.step
        self.curve.append((self.step, dice))
        yield Scored(self.step, self.seconds, dice, classes, better)

    def rest(self) -> Iterator[Event]:
        self.resting = True
        yield Rested(self.step)

    def wake(self) -> None:
        """Go on, with fresh patience."""
        self.resting = False
        self.best_step = self.step
        self._loss = (math.inf, self._loss[1], self.step)

    def finish(self, control: Control, checkpoint: Path | None) -> Iterator[Event]:
        """Judge a last time, then hand over the best."""
        if self._pending is not None:
            yield from self._look_at(*self._pending)
            self._pending = None
        if checkpoint is not None:
            self.save_checkpoint(checkpoint)
        if self.step and self.holdout.held(self.sampler.items):
            yield from self.judge()
        weights = self.best if self.best is not None else self.average.state_dict()
        model = Model(self._card(), {k: v.to("cpu").contiguous() for k, v in weights.items()})
        reason = "stopped" if control.stopped else self._reason
        dice = self.best_dice if self.best is not None else None
        yield Trained(reason, self.step, self.seconds, dice, model)

    # --- time and budget ---

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def clock_stopped(self) -> _StoppedClock:
        return _StoppedClock(self)

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
    def _reason(self) -> Any:
        return "steps" if self.config.steps and self.step >= self.config.steps else "seconds"

    @property
    def due(self) -> bool:
        """Whether it is time to judge."""
        return self.step >= self._next_judgement and bool(self.holdout.held(self.sampler.items))

    @property
    def stale(self) -> bool:
        """Whether open-ended training no longer improves."""
        if not self._open_ended:
            return False
        best = self.best_step if self.best is not None else self._loss[2]
        return self.step - best >= self.config.patience

    # --- one step ---

    def _learn(self) -> Tensor:
        spots = self.sampler.draw(self.batch, tuple(p // 3 for p in self.patch))
        warp = draw_warp(self.rng, self.batch, self.patch, self.config.augment, self.set.spacing)
        crops = cut(spots, warp.crop, self.holdout)
        grid = warp_grid(warp, warp.crop, self.random, self.device)
        x, target, weights = warp_batch(
            self._send(crops.images), self._send(crops.labels), self._send(crops.weights), grid
        )
        x = vary_light(x, self.config.augment, self.random, self.rng)
        x = x.contiguous(memory_format=self.numerics.layout(self.set.ndim))
        self._set_rate()
        with self.numerics.autocast():
            logits = self.net(x)
        loss = segmentation_loss(
            logits,
            target,
            kind=self.config.loss,
            class_weights=self._class_weights(),
            pixel_weights=weights,
        )
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._update_average()
        self._give_feedback(spots, logits[0] if isinstance(logits, list) else logits, target)
        return loss.detach()

    def _send(self, array: np.ndarray | None) -> Any:
        return None if array is None else torch.from_numpy(array).to(self.device, non_blocking=True)

    def _set_rate(self) -> None:
        warm = min(1.0, (self.step + 1) / WARM_UP)
        cool = 1.0 if self._open_ended else min(1.0, (1 - self._used) / COOL_DOWN)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warm * max(cool, 0.01)

    def _class_weights(self) -> Tensor | None:
        if not self.config.balance:
            return None
        return class_weights(self.set.counts).to(self.device)

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        mine, theirs = list(self.average.parameters()), list(self.net.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - keep)
        for a, b in zip(self.average.buffers(), self.net.buffers(), strict=True):
            a.copy_(b)

    @torch.no_grad()
    def _give_feedback(self, spots: list[Spot], logits: Tensor, target: Tensor) -> None:
        """Tell the sampler how wrong each patch was, on every fourth pixel along each axis."""
        if self.step % 4:  # often enough, and a GPU need not be waited for at each step
            return
        few = (slice(None, None, 4),) * self.set.ndim
        z, t = logits[(slice(None), slice(None), *few)].float(), target[(slice(None), *few)].long()
        truth = torch.where(t == BACKGROUND, 0, t)
        if z.shape[1] == 1:
            right = torch.sigmoid(torch.where(truth > 0, z[:, 0], -z[:, 0]))
        else:
            right = torch.softmax(z, 1).gather(1, truth[:, None])[:, 0]
        known = t > 0
        wrong = ((1 - right) * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)
        self.sampler.feedback(spots, wrong.cpu().numpy())

    def _look_at(self, step: int, pending: Tensor) -> Iterator[Event]:
        """The loss of the step before: by now it costs nothing to read."""
        loss = float(pending)
        if not math.isfinite(loss):
            yield self._roll_back()
            return
        yield Stepped(step, self.seconds, loss, self.batch * math.prod(self.patch))
        lowest, smooth, at = self._loss
        smooth = loss if smooth == 0 else smooth + 0.05 * (loss - smooth)
        self._loss = (smooth, smooth, step) if smooth < 0.99 * lowest else (lowest, smooth, at)
        if step % BACKUP_STEPS == 0:
            self._backup = self._weights()

    # --- when something goes wrong ---

    def _shrink(self) -> Event:
        if self.batch > 1:
            self.batch //= 2
        elif max(self.patch) > 32:
            self.patch = tuple(
                max(s, p // 2 // s * s) for p, s in zip(self.patch, self.net.stride, strict=True)
            )
        else:
            raise BadInput(
                f"There is not enough memory on {self.device} for even the smallest step; choose a "
                "narrower network or close other programs."
            )
        size = " x ".join(map(str, self.patch))
        return Noticed(
            "memory",
            f"Memory ran out on {self.device}; going on with {self.batch} patch(es) of {size}.",
        )

    def _roll_back(self) -> Event:
        self._rollbacks += 1
        if self._rollbacks > MOST_ROLLBACKS:
            raise BadInput(
                "Training diverges again and again; lower the learning rate, and look for images "
                "with extreme values."
            )
        net, average = self._backup
        self.net.load_state_dict(net)
        self.average.load_state_dict(average)
        self.rate /= 2
        self.optimiser = self._new_optimiser()
        self._pending = None
        return Noticed(
            "diverged",
            f"The loss was no longer a number; back to the last good weights, rate now {self.rate:g}.",
        )

    def _weights(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return _copy(self.net.state_dict()), _copy(self.average.state_dict())

    def _new_optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.net.parameters(), self.rate, weight_decay=self.config.decay, fused=True
        )

    # --- judging ---

    def _score(self) -> tuple[float | None, ...]:
        """Dice of each class on the held-out annotation, all its pixels pooled."""
        table = np.zeros((len(self.set.classes) + 1,) * 2, np.int64)
        for item in self.sampler.items:
            for region in self._pieces(item):
                table += self._confusion(item, region)
        return dice_of(table)

    def _pieces(self, item: Item) -> list[Region]:
        """Held-out windows in pieces; of many, evenly spread ones."""
        out: list[Region] = []
        for window in self.holdout.windows.get(item.name, []):
            cuts = [range(s.start, s.stop, JUDGE_EDGE) for s in window]
            for place in np.ndindex(*map(len, cuts)):
                out.append(
                    tuple(
                        slice(c[p], min(c[p] + JUDGE_EDGE, s.stop))
                        for c, p, s in zip(cuts, place, window, strict=True)
                    )
                )
        out = [r for r in out if item.annotation[r].any()]
        most = max(1, JUDGE_PIECES // max(1, len(self.sampler.items) // 4))
        return out[:: max(1, len(out) // most)]

    @torch.no_grad()
    def _confusion(self, item: Item, region: Region) -> np.ndarray:
        wanted = [
            np.arange(s.start - h, s.stop + h) for s, h in zip(region, self.net.halo, strict=True)
        ]
        pixels = self._send(item_stats(item).apply(gather(item.image, wanted)))[None]
        pixels = pixels.contiguous(memory_format=self.numerics.layout(self.set.ndim))
        with self.numerics.autocast():
            logits = self.average(pixels)[0]
        inside = tuple(
            slice(h, h + s.stop - s.start) for s, h in zip(region, self.net.halo, strict=True)
        )
        logits = logits[(slice(None), *inside)]
        labels = (logits[0] > 0).long() if len(logits) == 1 else logits.argmax(0)
        return confusion(labels.cpu().numpy(), item.annotation[region], len(self.set.classes))

    # --- what is kept ---

    def _card(self) -> Card:
        items = self.set.items
        step = self.best_step if self.best is not None else self.step
        version = Version(
            number=1,
            created=now(),
            steps=step,
            seconds=round(self.seconds, 2),
            dice=self.best_dice if self.best is not None else None,
        )
        return Card(
            name=self.name,
            net=self.net.config,
            classes=self.set.classes,
            axes="CYX" if self.set.ndim == 2 else "CZYX",
            spacing=self.set.spacing,
            unit=self.set.unit,
            seen=tuple(item_stats(i) for i in items),
            images={i.name: fingerprint(i.image) for i in items},
            labelled=tuple(self.set.counts.tolist()),
            training=self.config,
            numerics=f"{self.numerics.name} on {self.device}",
            software={"napari-unet": __version__, "torch": torch.__version__},
            curve=tuple(self.curve),
            versions=(version,),
        )

    def save_checkpoint(self, path: Path) -> None:
        """Everything that going on needs, so that the result is that of a run never interrupted."""
        tensors = {"random": self.random.get_state()}
        parts = {"net": self.net.state_dict(), "average": self.average.state_dict()}
        for part, weights in (parts | ({"best": self.best} if self.best else {})).items():
            tensors |= {f"{part}.{k}": v for k, v in weights.items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{k}": v for k, v in state.items()}
        state = {
            "format": 1,
            "net": self.net.config.model_dump(),
            "step": self.step,
            "seconds": self.seconds,
            "rate": self.rate,
            "batch": self.batch,
            "patch": self.patch,
            "best": [self.best_dice, self.best_step],
            "curve": self.curve,
            "loss": self._loss,
            "judged": [self._judged_version, self._next_judgement],
            "rng": self.rng.bit_generator.state,
            "sampler": self.sampler.state(),
            "holdout": self.holdout.state(),
        }
        plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        with atomic_file(path, overwrite=True) as temporary:
            safetensors.torch.save_file(plain, temporary, {"state": json.dumps(state)})

    def load_checkpoint(self, path: Path) -> None:
        """Go on where a checkpoint left off."""
        try:
            with safetensors.safe_open(path, "pt") as file:
                state = json.loads((file.metadata() or {})["state"])
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError, KeyError, ValueError):
            raise BadInput(f"{path} is no checkpoint of training; give another file.") from None
        if state["net"] != json.loads(self.net.config.model_dump_json()):
            raise BadInput(f"{path} is a checkpoint of another network; give another file.")
        part = {
            name: {k.removeprefix(name + "."): v for k, v in tensors.items() if k.startswith(name + ".")}
            for name in ("net", "average", "best", "optimiser")
        }
        self.net.load_state_dict(part["net"])
        self.average.load_state_dict(part["average"])
        self.best = {k: v.to(self.device) for k, v in part["best"].items()} or None
        optimiser = self.optimiser.state_dict()
        for key, value in part["optimiser"].items():
            number, what = key.split(".", 1)
            optimiser["state"].setdefault(int(number), {})[what] = value
        self.optimiser.load_state_dict(optimiser)
        self.random.set_state(tensors["random"])
        self.step, self.rate, self.batch = state["step"], state["rate"], state["batch"]
        self.patch, self.began = tuple(state["patch"]), time.perf_counter() - state["seconds"]
        self.best_dice, self.best_step = state["best"]
        self.curve = [(int(s), float(d)) for s, d in state["curve"]]
        self._loss = tuple(state["loss"])
        self._judged_version, self._next_judgement = state["judged"]
        self.rng.bit_generator.state = state["rng"]
        self.holdout.restore(state["holdout"])
        self.sampler.refresh(self.step)
        self.sampler.restore(state["sampler"])
        self._backup = self._weights()


class _StoppedClock:
    """While entered, the run's clock stands still."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._run.began += time.perf_counter() - self._since


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in weights.items()}


def _net_config(config: TrainConfig, training_set: TrainingSet, start: Model | None) -> NetConfig:
    own = {
        "ndim": training_set.ndim,
        "in_channels": training_set.items[0].image.shape[0],
        "n_classes": len(training_set.classes),
    }
    if start is not None:
        return start.card.net.model_copy(update=own)
    choice = {k: getattr(config, k) for k in ("arch", "width", "depth", "attention", "residual")}
    spacing = training_set.spacing if training_set.ndim == 3 else ()
    return NetConfig(**choice, **own, spacing=spacing)


def _take_over(net: Net, start: Model) -> None:
    """Weights of another model wherever they fit; only the last layer may differ, for new classes."""
    own, theirs = net.state_dict(), start.weights
    fitting = {k: v for k, v in theirs.items() if k in own and own[k].shape == v.shape}
    if not fitting or any(k not in fitting and not k.startswith("last") for k in own):
        raise BadInput(
            f"Model '{start.card.name}' reads {start.card.net.in_channels} channel(s) in "
            f"{start.card.net.ndim}-D, these images are {net.config.in_channels} channel(s) in "
            f"{net.config.ndim}-D; start from another model or from random weights."
        )
    net.load_state_dict(own | fitting)


def patch_shape(
    config: TrainConfig, training_set: TrainingSet, stride: tuple[int, ...]
) -> tuple[int, ...]:
    """The patch along each axis: smaller in volumes, along coarse axes, and in small images."""
    ndim = training_set.ndim
    edge = config.patch if ndim == 2 else config.patch * 3 // 8
    spacing = (training_set.spacing if ndim == 3 else ()) or (1.0,) * ndim
    largest = np.max([i.annotation.shape for i in training_set.items], 0).tolist()
    wanted = (min(n, edge * min(spacing) / s) for n, s in zip(largest, spacing, strict=True))
    return tuple(math.ceil(w / s) * s for w, s in zip(wanted, stride, strict=True))
