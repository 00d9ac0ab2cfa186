"""The viewer's layers: which are ours, where they lie, and in which colours."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.config import BACKGROUND, class_table

pytestmark = pytest.mark.gui

CLASSES = class_table(["cell", "nucleus"])


def test_classes_are_drawn_in_their_colours(make_napari_viewer):
    from napari_unet.gui.viewer import label_colors

    labels = np.zeros((40, 60), np.uint8)
    labels[5:35, 5:20], labels[5:35, 25:35], labels[5:35, 40:55] = 1, 2, BACKGROUND
    viewer = make_napari_viewer(show=True)
    viewer.add_labels(labels, opacity=0.5, colormap=label_colors(CLASSES))
    viewer.reset_view()

    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)

    def share(color: str) -> float:
        wanted = np.array([int(color[i : i + 2], 16) // 2 for i in (1, 3, 5)])  # half opaque
        return float((np.abs(picture - wanted).max(-1) < 12).mean())

    assert share(CLASSES[0].color) > 0.03
    assert share(CLASSES[1].color) > 0.03
    assert share("#b0b0b0") > 0.03
