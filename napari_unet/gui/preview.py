"""A model's picture in the list of models: a piece of an image with the mask the model made."""

from __future__ import annotations

import io

import numpy as np

from napari_unet.config import SegClass
from napari_unet.pictures import View, as_rgb

EDGE = 160
OPAQUE = 0.5


def draw_preview(view: View, labels: np.ndarray, classes: tuple[SegClass, ...]) -> bytes:
    """A view's pixels with labels over them in the colours of their classes, as PNG."""
    from PIL import Image

    unseen = tuple(axis for axis in range(len(view.region)) if axis not in view.shown)
    pixels = view.picture.read(view.region, view.steps).squeeze(tuple(a + 1 for a in unseen))
    flat = labels.squeeze(unseen)
    height, width = flat.shape
    drawn = as_rgb(pixels, view.picture.stats)[:height, :width]
    for number, seg_class in enumerate(classes, 1):
        color = [int(seg_class.color[i : i + 2], 16) for i in (1, 3, 5)]
        inside = flat == number
        drawn[inside] = (1 - OPAQUE) * drawn[inside] + OPAQUE * np.array(color)
    picture = Image.fromarray(drawn.astype(np.uint8))
    picture.thumbnail((EDGE, EDGE))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
