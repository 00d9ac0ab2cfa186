"""How many threads compute: all, or half of them while other programs hold some of the cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

WARM = 5  # first steps, which are slow for reasons of their own
WINDOW = 3  # steps by whose median a number of threads is judged,
ENOUGH = 1.0  # or as many as take so many seconds; the same for the first
SLOW = 1.5  # times the usual cost of a step, from which on something disturbs
BETTER = 0.9  # of the cost, which the other number must reach to be kept
PART = 20  # trying takes at most one part in so many of the time


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, PyTorch computes with one thread, which never waits for another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Threads:
    """Counts of threads tried during a loop of equal steps; inside `with`, they may change.

    PyTorch's threads wait for each other at every operation. When one of them has no core of its
    own, because another program computes, all of them crawl, and fewer are faster.
    """

    def __init__(self, adapt: bool) -> None:
        self._most = self.now = torch.get_num_threads()
        self._few = max(1, self._most // 2)
        self._adapt = adapt and self._few < self._most
        self._warm = WARM
        self._window: list[tuple[float, float]] = []  # seconds of each step, and per pixel
        self._usual = float("inf")  # lowest cost with all threads
        self._cost = float("inf")  # at the number that is settled on
        self._trying = False
        self._since = self._tried = 0.0  # seconds since the last try, and what that took

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: Any) -> None:
        torch.set_num_threads(self._most)

    def took(self, seconds: float, pixels: int) -> None:
        """Tell what a step took, and how large it was."""
        if not self._adapt:
            return
        self._since += seconds
        if self._warm:
            self._warm = 0 if self._since > ENOUGH else self._warm - 1
            return
        self._window.append((seconds, seconds / pixels))
        cost = median(cost for _, cost in self._window)
        hopeless = self._trying and cost > 2 * self._cost
        long = sum(seconds for seconds, _ in self._window) > ENOUGH
        if hopeless or long or len(self._window) == WINDOW:
            self._window.clear()
            self._decide(cost)

    def _decide(self, cost: float) -> None:
        if self._trying:
            self._trying, self._tried, self._since = False, self._since, 0.0
            if cost < BETTER * self._cost:
                self._cost = cost
            else:
                self._switch()
            return
        self._cost = cost
        all_of_them = self.now == self._most
        first = self._usual == float("inf")
        if all_of_them:
            self._usual = min(self._usual, cost)
        disturbed = first or not all_of_them or cost > SLOW * self._usual
        if disturbed and self._since >= PART * self._tried:
            self._trying, self._since = True, 0.0
            self._switch()

    def _switch(self) -> None:
        self.now = self._few if self.now == self._most else self._most
        torch.set_num_threads(self.now)
