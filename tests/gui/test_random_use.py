"""A minute of random use of the window: nothing fails, and no thread is left behind."""

from __future__ import annotations

import pytest
from random_use import User, open_folder

pytestmark = [pytest.mark.gui, pytest.mark.slow]

SECONDS = 60


def test_random_use_finds_no_fault(open_window, tmp_path):
    window = open_window()
    user = User(window.viewer, seed=0, folder=open_folder(tmp_path))

    user.use(SECONDS)
    left = user.close()

    assert user.number > SECONDS / 4, "hardly anything was done"
    assert not user.faults.found, user.faults.say(user.seed)
    assert not left
