"""The whole journey in a real window: a sample, strokes, learning, corrections, a mask, a file."""

from __future__ import annotations

import numpy as np
import pytest
from hand import Painter, dice

from napari_unet.config import BACKGROUND

pytestmark = [pytest.mark.gui, pytest.mark.slow]

GOOD = 0.85  # Dice
SETTLED = 150  # steps
PATIENCE = 240  # seconds, on a machine that is busy with other things


def test_from_an_empty_viewer_to_a_mask_in_a_file(open_window, monkeypatch, tmp_path):
    from tifffile import imread

    file = tmp_path / "mask.tif"
    monkeypatch.setattr("napari_unet.gui.segment.ask_file", lambda *_: file)
    window = open_window()

    painter = Painter(window)
    painter.first_strokes()
    assert {1, BACKGROUND} <= set(np.unique(painter.annotation.data))

    window.click("train.start")
    window.until(lambda: painter.score() > 0, PATIENCE, lambda: window.text("train.status"))
    painter.correct()
    # The mask of a net of a few steps is another a second later.
    window.until(lambda: window.session.progress.step >= SETTLED, PATIENCE)
    painter.correct_until(GOOD)
    window.click("train.stop")
    window.until(lambda: window.find("train.start").isEnabled(), PATIENCE)

    window.click("segment.run")
    window.until(lambda: "cells: mask" in window.names(), PATIENCE)
    mask = window.viewer.layers["cells: mask"].data
    assert dice(mask > 0, painter.truth) > GOOD - 0.05

    window.until(lambda: window.find("segment.export").isEnabled(), PATIENCE)
    window.click("segment.export")
    window.until(lambda: "Written to" in window.text("segment.status"))
    assert np.array_equal(imread(file), mask)
