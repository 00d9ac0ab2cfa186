"""The whole journey in a real window: a sample, strokes, learning, corrections, a mask, a file."""

from __future__ import annotations

import numpy as np
import pytest
from hand import corrections, depth, paths

from napari_unet.config import BACKGROUND

pytestmark = [pytest.mark.gui, pytest.mark.slow]

GOOD = 0.85  # Dice
PATIENCE = 240.0  # seconds, on a machine that is busy with other things


class Painter:
    """Somebody who knows what is a cell, at a window with the sample of cells."""

    def __init__(self, window) -> None:
        self.window, self.layers = window, window.viewer.layers
        self.truth = self.layers["cells: truth"].data > 0

    @property
    def annotation(self):
        return self.layers["cells: annotation"]

    def paint(self, key: str, paths: list[np.ndarray]) -> None:
        self.window.press(key)
        for points in paths:
            self.window.stroke(self.annotation, points)

    def first_strokes(self) -> None:
        random = np.random.default_rng(0)
        beside = ~self.truth & (depth(~self.truth) < 16)
        self.paint("1", paths(self.truth, 6, random))
        self.paint("B", paths(beside, 4, random) + paths(~self.truth, 2, random))

    def seen(self) -> tuple[tuple[slice, ...], np.ndarray]:
        """Where the live overlay lies, and what it shows there."""
        live = self.layers["live"]
        start = np.round(live.data_to_world((0, 0))).astype(int)
        return tuple(
            slice(a, a + n) for a, n in zip(start, live.data.shape, strict=True)
        ), live.data > 0

    def score(self) -> float:
        """Dice of the live overlay where nothing is painted; 0 before there is one."""
        if "live" not in self.layers:
            return 0.0
        region, seen = self.seen()
        free = self.annotation.data[region] == 0
        return dice(seen[free], self.truth[region][free])

    def correct(self) -> None:
        """Strokes where the overlay is most wrong."""
        region, seen = self.seen()
        painted = self.annotation.data[region] > 0
        for foreground, points in corrections(seen, self.truth[region], painted, count=3):
            start = [r.start for r in region]
            self.paint("1" if foreground else "B", [points + start])

    def correct_until_good(self) -> None:
        """Look, and correct what is wrong, until the overlay is good."""
        rounds = 0
        while self.score() < GOOD:
            rounds += 1
            assert rounds < PATIENCE, f"Dice {self.score()}; {self.window.text('train.status')}"
            self.correct()
            self.window.wait(1)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def test_from_an_empty_viewer_to_a_mask_in_a_file(open_window, monkeypatch, tmp_path):
    from tifffile import imread

    file = tmp_path / "mask.tif"
    monkeypatch.setattr("napari_unet.gui.segment.ask_file", lambda *_: file)
    window = open_window()

    window.click("annotate.sample.cells")
    window.click("annotate.new")
    window.wait(0.1)
    painter = Painter(window)
    painter.annotation.brush_size = 5
    painter.first_strokes()
    assert {1, BACKGROUND} <= set(np.unique(painter.annotation.data))

    window.click("train.start")
    window.until(lambda: painter.score() > 0, PATIENCE, lambda: window.text("train.status"))
    painter.correct()
    painter.correct_until_good()
    window.click("train.stop")
    window.until(lambda: window.find("train.start").isEnabled(), PATIENCE)

    window.click("segment.run")
    window.until(lambda: "cells: mask" in window.names(), PATIENCE)
    mask = window.viewer.layers["cells: mask"].data
    assert dice(mask > 0, painter.truth) > GOOD - 0.05

    window.until(lambda: window.find("segment.export").isEnabled(), PATIENCE)
    window.click("segment.export")
    assert np.array_equal(imread(file), mask)
