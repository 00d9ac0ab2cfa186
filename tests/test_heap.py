"""While predictions run, freed memory is used again; afterwards it goes back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from napari_unet import heap

glibc = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
with_glibc = pytest.mark.skipif(not glibc, reason="the C library is not glibc")

# Each block is larger than any that glibc keeps by itself. A process of its own, as the main
# thread's heap is what is looked at, and other tests leave holes in theirs.
SCRIPT = """
import resource
import numpy as np
from napari_unet import heap

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**26, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

fresh, outside = faults(), faults()
empty = resident()
with heap.kept():
    with heap.kept():
        first = faults()
    inside = faults()
    kept = resident() - empty
again = resident() - empty
print(outside, first, inside, faults(), kept, again)
"""


@pytest.fixture(scope="module")
def counted():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    return dict(
        zip(
            ("outside", "first", "inside", "after", "kept", "given back"),
            map(int, run.stdout.split()),
            strict=True,
        )
    )


@with_glibc
def test_memory_is_not_touched_anew_inside(counted):
    # 64 MB are 16,000 small pages or 32 huge ones.
    assert counted["outside"] >= 16
    assert counted["first"] >= 16
    assert counted["inside"] < counted["first"] / 4


@with_glibc
def test_the_system_gets_it_back_afterwards(counted):
    assert counted["kept"] > 2**25
    assert counted["given back"] < 2**24
    assert counted["after"] >= 16


def test_a_machine_says_how_much_memory_it_has():
    assert 2**28 < heap.installed() < 2**50
