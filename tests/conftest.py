"""What every test relies on: no thread is left behind, and a test that cannot run here says why."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

GRACE = 2.0  # seconds a thread may take to end after its test
MACHINERY = ("threading", "concurrent.futures")  # starts threads on behalf of its caller
OURS = ("napari_unet", "tests.", "test_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, reason_not_to in (("gpu", _no_gpu), ("gui", _no_gui)):
        marked = [item for item in items if item.get_closest_marker(marker)]
        # Asked only where a test needs it: looking for a GPU imports torch.
        if marked and (reason := reason_not_to()):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


def _no_gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "no CUDA GPU here"


def _no_gui() -> str | None:
    for package in ("napari", "qtpy", "pytestqt"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    on_linux = sys.platform.startswith("linux")
    if on_linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "no display; try xvfb-run"
    return None


@pytest.fixture(autouse=True)
def _no_thread_left_behind(monkeypatch: pytest.MonkeyPatch):
    """Fail a test when a thread that our code started, daemon or not, outlives it.

    Pools of the libraries (dask, zarr, tqdm) live on by design, so it counts who calls start().
    """
    ours: list[threading.Thread] = []
    start = threading.Thread.start

    def start_and_note(thread: threading.Thread) -> None:
        if _caller().startswith(OURS):
            ours.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_and_note)
    yield
    deadline = time.monotonic() + GRACE
    for thread in ours:
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread.name for thread in ours if thread.is_alive()]
    assert not left, f"threads left behind: {left}"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real images that lie beside the repository, or where NAPARI_UNET_DATA says."""
    place = os.environ.get("NAPARI_UNET_DATA") or Path(__file__).parents[2] / "shared" / "data"
    if not Path(place).is_dir():
        pytest.skip("no real images here; NAPARI_UNET_DATA names their folder")
    return Path(place)


def _caller() -> str:
    """The module that starts a thread, the standard library's own layers left out."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(MACHINERY):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "")
