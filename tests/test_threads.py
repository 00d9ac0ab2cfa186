"""How many threads compute: all on a quiet machine, half of them on a busy one, and back again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from napari_unet.threads import PART, Threads


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def work(threads: Threads, seconds: Callable[[int], float], steps: int) -> list[int]:
    """Steps that take so long with so many threads; the number at each."""
    used = []
    for _ in range(steps):
        used.append(torch.get_num_threads())
        threads.took(seconds(used[-1]), 1000)
    return used


def quiet(threads: int) -> float:
    return 0.2 / threads


def busy(threads: int) -> float:
    return 1.5 if threads == 2 else 0.22


def test_a_quiet_machine_uses_all_but_for_a_short_try():
    used = work(Threads(adapt=True), quiet, 1000)

    assert used.count(1) <= 3
    assert used[-1] == 2


def test_a_machine_that_is_busy_from_the_start_soon_uses_fewer():
    used = work(Threads(adapt=True), busy, 400)

    assert used[4:60] == [1] * 56
    seconds = [busy(n) for n in used[4:]]
    assert sum(s for s in seconds if s > 1) < 2 * sum(seconds) / PART


def test_a_machine_that_becomes_busy_and_quiet_again_is_followed():
    threads = Threads(adapt=True)

    work(threads, quiet, 100)
    assert work(threads, busy, 60)[-1] == 1
    assert work(threads, quiet, 400)[-1] == 2


def test_steps_of_other_sizes_do_not_look_like_a_busy_machine():
    threads = Threads(adapt=True)
    work(threads, quiet, 100)

    for _ in range(100):
        threads.took(4 * quiet(torch.get_num_threads()), 4000)

    assert torch.get_num_threads() == 2


def test_where_steps_are_to_repeat_exactly_nothing_changes():
    assert set(work(Threads(adapt=False), busy, 100)) == {2}


def test_afterwards_all_are_used_again():
    with Threads(adapt=True) as threads:
        work(threads, busy, 60)
        assert torch.get_num_threads() == 1

    assert torch.get_num_threads() == 2
