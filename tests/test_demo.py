"""The demo leaves everything it promises, and its strokes are honest."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from napari_unet import demo
from napari_unet.config import BACKGROUND
from napari_unet.demo import run_demo, scribble
from napari_unet.library import load_model
from napari_unet.run import BadInput, Control, Event, Trained
from napari_unet.samples import cells


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(demo, "SIZE", 128)
    yield
    torch.set_num_threads(threads)


def run(out, seconds: float = 1.0, **options) -> tuple[list[str], list[Event]]:
    said: list[str] = []
    events: list[Event] = []
    options = {"headless": True, "control": Control()} | options
    run_demo(out, seconds, **options, watch=events.append, say=said.append)
    return said, events


def test_strokes_are_right_and_few():
    _, truth = cells(0, 256)

    painted = scribble(truth, seed=0)

    assert (truth[painted == 1] == 1).all()
    assert (truth[painted == BACKGROUND] == 0).all()
    assert set(np.unique(painted)) == {0, 1, BACKGROUND}
    assert 0.005 < (painted > 0).mean() < 0.2
    np.testing.assert_array_equal(painted, scribble(truth, seed=0))


def test_the_demo_leaves_model_masks_and_overlays(tmp_path):
    out = tmp_path / "new" / "demo"

    said, events = run(out)

    assert sorted(p.name for p in out.iterdir()) == [
        "cells-2-mask.png",
        "cells-2-overlay.png",
        "cells-3-mask.png",
        "cells-3-overlay.png",
        "model",
    ]
    assert load_model(out / "model").card.name == "demo"
    with Pillow.open(out / "cells-2-mask.png") as mask:
        assert mask.size == (128, 128)
        assert set(np.unique(np.asarray(mask))) <= {0, 1}
    with Pillow.open(out / "cells-2-overlay.png") as overlay:
        assert overlay.size == (2 * 128 + 8, 128)
        assert overlay.mode == "RGB"
    assert isinstance(events[-1], Trained)
    assert any("Dice on two unseen images: 0." in line for line in said)
    assert str(out.resolve()) in said[-1]


def test_the_demo_can_be_run_again_in_its_folder(tmp_path):
    for _ in range(2):
        run(tmp_path, seconds=0.2)

    assert load_model(tmp_path / "model").card.current


def test_the_demo_does_not_write_among_other_things(tmp_path):
    (tmp_path / "thesis.doc").touch()

    with pytest.raises(BadInput, match="exists and is not a demo's folder; give another"):
        run(tmp_path)

    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_with_a_display_the_demo_is_a_window(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(demo, "has_display", lambda: True)
    monkeypatch.setattr(demo, "_opens_window", lambda say: opened.append(say) or True)

    run(tmp_path, seconds=0.2, headless=False)

    assert len(opened) == 1
    assert not any(tmp_path.iterdir())


def test_without_napari_the_demo_does_without_a_window(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "has_display", lambda: True)
    monkeypatch.setitem(sys.modules, "napari_unet.gui.column", None)

    said, _ = run(tmp_path, seconds=0.2, headless=False)

    assert "napari-unet[all]" in "".join(said)
    assert (tmp_path / "model" / "model.json").is_file()


@pytest.mark.parametrize(("variable", "expected"), [("DISPLAY", True), ("NOTHING", False)])
def test_a_display_is_found_by_its_variable(variable, expected, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv(variable, ":0")

    assert demo.has_display() is expected
