"""The seconds or steps that a run may take: how much is used, and the rate that goes with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from napari_unet.config import TrainConfig

WARM_UP = 10  # steps over which the rate rises
COOL_DOWN = 0.3  # part of a budget over which the rate falls


class Budget:
    """What a run may take; its clock runs from the beginning."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long it has run; set where it goes on from an earlier one."""
        return time.perf_counter() - self._began

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._began = time.perf_counter() - seconds

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Waiting is not training: inside, the clock stands still."""
        since = time.perf_counter()
        yield
        self._began += time.perf_counter() - since

    @property
    def open_ended(self) -> bool:
        """Whether only who started it stops it."""
        return self._config.seconds is None and self._config.steps is None

    def used(self, step: int) -> float:
        """The part of the budget that is used after so many steps; 1 is all of it."""
        by_steps = step / self._config.steps if self._config.steps else 0.0
        by_time = self.seconds / self._config.seconds if self._config.seconds else 0.0
        return max(by_steps, by_time)

    def part_of_rate(self, step: int) -> float:
        """A budget ends at a falling rate; without one the average of the weights must do."""
        warm = min(1.0, (step + 1) / WARM_UP)
        cool = 1.0 if self.open_ended else min(1.0, (1 - self.used(step)) / COOL_DOWN)
        return warm * max(cool, 0.01)
