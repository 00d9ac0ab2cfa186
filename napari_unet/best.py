"""The best weights of a run: the averaged ones are judged now and then, and the best are kept."""

from __future__ import annotations

import math
from typing import Any

import torch

from napari_unet.adviser import Say
from napari_unet.budget import Budget
from napari_unet.device import ran_out_of_memory
from napari_unet.holdout import HoldOut
from napari_unet.judging import Judge
from napari_unet.learner import Learner, Weights, copied, under
from napari_unet.metrics import Scores, mean
from napari_unet.models.pixels import PixelNet
from napari_unet.run import Scored

JUDGE_STEPS = 20  # between two looks at the held-out annotation, or more
JUDGE_COST = 5  # so that they take about a twentieth of the time: a step costs 4 times as much
# What the best weights are judged on at the end; with so many steps wanted, however long it takes,
# so that equal runs have equal scores.
MOST_PIECES, MOST_SECONDS = 100, 3.0
SMALLEST_PIECE = 8  # pixels along each axis


class Best:
    """The averaged weights that did best so far on what is held out, and every score till now."""

    def __init__(self, learner: Learner, holdout: HoldOut, say: Say, budget: Budget) -> None:
        self._learner, self._holdout, self._say, self._budget = learner, holdout, say, budget
        known = learner.set
        self._jury = Judge(holdout, learner.numerics, len(known.classes), known.ndim, known.rims)
        self.weights: Weights | None = None
        self.step = 0
        self.share = 0.0  # of the adviser in their answer
        self.curve: list[tuple[int, float]] = []
        self._dice = -1.0
        self._version = -1  # of the training set, when last judged
        self._next = JUDGE_STEPS  # step of the next look
        self._adviser: PixelNet | None = None  # at the last look

    @property
    def found(self) -> bool:
        """Whether there are any yet."""
        return self.weights is not None

    @property
    def dice(self) -> float | None:
        """What the best weights scored."""
        return self._dice if self.found else None

    @property
    def due(self) -> bool:
        """Whether it is time to judge."""
        return self._learner.step >= self._next and self.possible

    @property
    def possible(self) -> bool:
        """Whether anything is held out."""
        return any(self._holdout.windows.values())

    def judge(self) -> Scored | None:
        """Score the averaged weights, and the best so far anew if the annotation changed since."""
        learner, average = self._learner, self._learner.average
        version, adviser = learner.sampler.version, learner.adviser.net
        if self.weights is not None and (version, adviser) != (self._version, self._adviser):
            self._score_anew()
        share, classes = self._scores(self._say.choices(learner.step))
        pause = max(JUDGE_STEPS, round(JUDGE_COST * self._jury.pixels / learner.pixels))
        self._version, self._next, self._adviser = version, learner.step + pause, adviser
        dice = mean(classes)
        if dice is None or not finite(average.state_dict()):
            self._say.judge(None)
            return None
        self._say.judge(share)
        # What a few steps have learned may score well where it was learned, and nowhere else.
        immature = self._say.mature(learner.step) and not self._say.mature(self.step)
        better = self.weights is None or dice > self._dice or immature
        if better:
            self.weights, self._dice = copied(average.state_dict()), dice
            self.step, self.share = learner.step, share
        self.curve.append((learner.step, dice))
        return Scored(learner.step, self._budget.seconds, dice, classes, better)

    def take_less(self) -> bool:
        """Judge in smaller pieces from now on, which takes less memory; whether that can be."""
        if self._jury.edge < 2 * SMALLEST_PIECE:
            return False
        self._jury.edge //= 2
        return True

    def put_off(self) -> None:
        """Not now, but later."""
        self._next = self._learner.step + JUDGE_STEPS

    def take_up(self) -> None:
        """The best weights are the averaged ones from now on."""
        assert self.weights is not None
        self._learner.average.load_state_dict(self.weights)

    def judge_well(self) -> dict[str, float]:
        """Take up the best weights, and score them by image on as much as there is time for."""
        learner = self._learner
        self.take_up()
        try:
            (tables,) = self._jury.tables(
                learner.average,
                learner.sampler.items,
                MOST_PIECES,
                (self._say.possible(self.share),),
                learner.adviser.view,
                math.inf if learner.config.steps else MOST_SECONDS,
            ).values()
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            return {}  # with the score on a sample
        pooled = mean(self._jury.pooled(tables.values()))
        self._dice = self._dice if pooled is None else pooled
        scores = {name: mean(self._jury.pooled([table])) for name, table in tables.items()}
        return {name: score for name, score in scores.items() if score is not None}

    def state(self) -> tuple[Weights, dict[str, Any]]:
        """Everything that going on needs, as tensors and as plain values."""
        return {f"best.{k}": v for k, v in (self.weights or {}).items()}, {
            "best": [self._dice, self.step, self.share],
            "curve": self.curve,
            "judged": [self._version, self._next],
        }

    def restore(self, tensors: Weights, plain: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        device = self._learner.numerics.device
        self.weights = {k: v.to(device) for k, v in under("best.", tensors).items()} or None
        self._dice, self.step, self.share = plain["best"]
        self.curve = [(int(s), float(d)) for s, d in plain["curve"]]
        self._next = plain["judged"][1]  # and the annotation may be another

    def _score_anew(self) -> None:
        assert self.weights is not None
        average = self._learner.average
        present = copied(average.state_dict())
        average.load_state_dict(self.weights)
        try:
            self.share, scores = self._scores(self._say.choices(self.step))
        finally:
            average.load_state_dict(present)
        dice = mean(scores)
        if dice is None:  # what it was judged by has been erased
            self.weights = None
        self._dice = dice or 0.0

    def _scores(self, shares: tuple[float, ...]) -> tuple[float, Scores]:
        """With which share of the adviser the averaged weights do best, and their scores then."""
        learner = self._learner
        return self._jury.score(
            learner.average, learner.sampler.items, shares, learner.adviser.view
        )


def finite(weights: Weights) -> bool:
    """Whether all of them are numbers."""
    return all(bool(torch.isfinite(w).all()) for w in weights.values())
