"""A minute of random use of the window: nothing fails, and no thread is left behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.gui, pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "random_use.py"


def test_random_use_finds_no_fault():
    """In a process of its own, whose memory is not full of the tests before."""
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--minutes", "1", "--seed", "0", "--faults-only"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    acts = re.search(r"(\d+) acts", ran.stdout)
    assert acts, ran.stdout
    assert int(acts[1]) > 15, "hardly anything was done"
