"""The one place that touches a viewer's layers."""

from __future__ import annotations

import napari
import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from napari_unet.config import BACKGROUND, SegClass

Shown = tuple[str, np.ndarray, np.ndarray, str]  # name, image, labels, role of the labels


def show_layers(shown: list[Shown], classes: tuple[SegClass, ...], title: str) -> None:
    """Open a window with images side by side, labels over them, and wait until it closes."""
    add_layers(napari.Viewer(title=title), shown, classes)
    napari.run()


def add_layers(viewer: napari.Viewer, shown: list[Shown], classes: tuple[SegClass, ...]) -> None:
    """Add images side by side, each with its labels in the class colours."""
    left = 0
    for name, image, labels, role in shown:
        place = {"translate": (0, left)}
        viewer.add_image(image, name=name, **place)
        viewer.add_labels(
            labels,
            name=f"{name}: {role}",
            colormap=label_colors(classes),
            opacity=0.5,
            metadata={"napari_unet": {"role": role, "image": name}},
            **place,
        )
        left += image.shape[1] + 16
    viewer.reset_view()


def label_colors(classes: tuple[SegClass, ...]) -> DirectLabelColormap:
    """The colours of the class table; unlabelled is clear, painted background grey."""
    colors: dict[int | None, str] = {None: "transparent", 0: "transparent", BACKGROUND: "#b0b0b0"}
    colors |= {number: c.color for number, c in enumerate(classes, 1)}
    return DirectLabelColormap(color_dict=colors)
