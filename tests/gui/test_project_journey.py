"""Three images painted in a real window, a kill, and on: to two versions, and to files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import Window, halves

pytestmark = [pytest.mark.gui, pytest.mark.slow]

SAFE = 2.0  # seconds after which what was painted is on disk
READY = "painted and learning"
NAMES = ("im0", "im1", "im2")


def paint_both(window: Window, column: int) -> None:
    """A stroke of the class on the right, one of background on the left."""
    window.press("1")
    window.draw((8, 70 + column), (40, 70 + column))
    window.press("B")
    window.draw((8, 12 + column), (40, 12 + column))


def paint_until_killed(folder: Path) -> None:
    """What runs in the process that is killed."""
    import napari

    window = Window(napari.Viewer())
    window.window.resize(1280, 720)
    window.open("Workspace")
    keeping = window.work.keeping
    keeping.create(folder / "mine.unet")
    keeping.add([folder / "images"])
    window.until(lambda: len(keeping.project.images) == 3)
    for column in range(3):
        window.press("Down", "AltModifier")
        window.click("annotate.new")
        window.annotation.brush_size = 3
        paint_both(window, column)
    window.train()
    window.stop()
    window.train()
    print(READY, flush=True)  # noqa: T201
    window.wait(600)


def killed(folder: Path) -> None:
    """Run it in a process of its own, and kill that while it learns."""
    paths = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, __file__, folder],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    with process:
        said = list(takewhile(lambda line: line.strip() != READY, process.stdout))
        assert process.poll() is None, said
        time.sleep(SAFE)
        process.kill()


def test_three_images_a_kill_and_on_to_two_versions_and_files(open_window, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    for number, name in enumerate(NAMES):
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", halves(64, 96) + 2 * number)
    killed(tmp_path)

    window = open_window()
    window.click("column.images.toggle")
    monkeypatch.setattr("napari_unet.gui.images.ask_folder", lambda *_: tmp_path / "mine.unet")
    window.click("images.open")
    window.until(lambda: window.session.model is not None)
    assert window.session.model.card.name == "mine"
    assert len(window.session.model.card.versions) == 1
    assert not window.work.keeping.project.read_only
    for name in (NAMES[-1], *NAMES[:-1]):  # from the one that was open
        assert window.work.image.name == name
        assert {1, 255} <= set(np.unique(window.annotation.data))
        window.press("Down", "AltModifier")

    window.choose("train.start_from", "The model in use")
    window.train()
    assert set(window.session.pictures) == set(NAMES)
    window.stop()
    window.until(lambda: len(window.session.model.card.versions) == 2)

    window.open("Models")
    window.choose("models.version", "Version 1")
    window.click("models.compare")
    window.until(lambda: "im2: difference" in window.names())
    assert "agree by a Dice of" in window.text("models.status")
    assert {"im2: in use", "im2: other"} <= set(window.names())
    window.click("models.use")
    window.until(lambda: len(window.session.model.card.versions) == 1)

    monkeypatch.setattr("napari_unet.gui.segment.ask_folder", lambda *_: tmp_path / "masks")
    window.choose("segment.scope", "All of the project")
    window.click("segment.run")
    window.until(lambda: "3 of 3" in window.text("segment.status"))
    assert sorted(f.name for f in (tmp_path / "masks").iterdir()) == [f"{n}.tif" for n in NAMES]
    states = {card.state for card in window.work.keeping.project.images.values()}
    assert states == {"exported"}


if __name__ == "__main__":
    paint_until_killed(Path(sys.argv[1]))
