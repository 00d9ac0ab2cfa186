"""The viewer's layers: images side by side, labels over them in the colours of their classes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.config import BACKGROUND, class_table

pytestmark = pytest.mark.gui

CLASSES = class_table(["cell", "nucleus"])


@pytest.fixture
def shown():
    image = np.zeros((40, 60), np.uint8)
    prediction, annotation = image.copy(), image.copy()
    prediction[5:35, 5:25] = 1
    annotation[5:35, 5:25] = 2
    annotation[5:35, 35:55] = BACKGROUND
    return [
        ("left", image, prediction, "prediction"),
        ("right", image, annotation, "annotation"),
    ]


def test_images_lie_side_by_side_with_their_labels_over_them(make_napari_viewer, shown):
    from napari_unet.gui.viewer import add_layers

    viewer = make_napari_viewer()
    add_layers(viewer, shown, CLASSES)

    assert [layer.name for layer in viewer.layers] == [
        "left",
        "left: prediction",
        "right",
        "right: annotation",
    ]
    left, left_labels, right, right_labels = viewer.layers
    assert np.array_equal(left.translate, left_labels.translate)
    assert np.array_equal(right.translate, right_labels.translate)
    assert right.translate[1] >= left.translate[1] + 60
    assert left_labels.metadata["napari_unet"] == {"role": "prediction", "image": "left"}


def test_classes_are_drawn_in_their_colours(make_napari_viewer, shown):
    from napari_unet.gui.viewer import add_layers

    viewer = make_napari_viewer(show=True)
    add_layers(viewer, shown, CLASSES)

    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)

    def share(color: str) -> float:
        wanted = np.array([int(color[i : i + 2], 16) // 2 for i in (1, 3, 5)])  # half opaque
        return float((np.abs(picture - wanted).max(-1) < 12).mean())

    assert share(CLASSES[0].color) > 0.03
    assert share(CLASSES[1].color) > 0.03
    assert share("#b0b0b0") > 0.03
