"""The workspace of a viewer: any image is painted on and learned, whatever comes and goes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from conftest import halves

from napari_unet.config import BACKGROUND

pytestmark = pytest.mark.gui

# ---- any image


@dataclass
class Kind:
    """An image as it may lie in a viewer, and its pixels as the engine is to read them."""

    data: Any
    pixels: np.ndarray  # (C, *spatial)
    layer: dict[str, Any] = field(default_factory=dict)
    set_up: Callable[[Any], None] = lambda window: None


def grey(dtype: str, scale: float) -> Kind:
    data = (halves(64, 96) * scale).astype(dtype)
    return Kind(data, data[None])


def colour(channels: int) -> Kind:
    data = np.stack([halves(64, 96) // n for n in range(1, channels + 1)], -1)
    return Kind(data, np.moveaxis(data[..., :3], -1, 0), {"rgb": True})


def stack(*shape: int, **layer: Any) -> Kind:
    data = halves(*shape)
    return Kind(data, data[None], layer)


def lazy() -> Kind:
    import dask.array as da

    data = halves(64, 96)
    return Kind(da.from_array(data, chunks=32), data[None])


def pyramid() -> Kind:
    data = halves(64, 96)
    return Kind([data, data[::2, ::2]], data[None], {"multiscale": True})


def several_layers() -> Kind:
    data = halves(64, 96), 255 - halves(64, 96)

    def set_up(window: Any) -> None:
        from qtpy.QtCore import Qt

        window.viewer.add_image(data[1], name="second")
        window.choose("annotate.image", "im")
        box = window.find("annotate.channels")
        box.item(0).setCheckState(Qt.CheckState.Checked)

    return Kind(data[0], np.stack(data), set_up=set_up)


def leading() -> Kind:
    data = np.stack([halves(64, 96), 255 - halves(64, 96)])
    return Kind(data, data, set_up=lambda w: w.choose("annotate.axis", "Its first axis is ch"))


TURNED = {
    "scale": (2.0, 0.5),
    "rotate": 30,
    "translate": (100, -7),
    "affine": [[0.9, 0.2, 3], [-0.1, 1.1, 5], [0, 0, 1]],
}
KINDS = {
    "uint8": lambda: grey("uint8", 1),
    "uint16": lambda: grey("uint16", 200),
    "float": lambda: grey("float32", 1 / 255),
    "RGB": lambda: colour(3),
    "RGBA": lambda: colour(4),
    "stack": lambda: stack(3, 64, 96, scale=(5, 1, 1), translate=(20, 0, 0)),
    "time series": lambda: stack(2, 3, 64, 96),
    "lazy": lazy,
    "pyramid": pyramid,
    "turned": lambda: stack(64, 96, **TURNED),
    "several layers": several_layers,
    "leading channels": leading,
}


def corners(layer: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Where in the world the corners of an array in a layer lie, its last axes being so long."""
    lead = layer.ndim - len(shape)
    marks = np.array(list(np.ndindex(*(2,) * len(shape)))) * shape - 0.5
    world = [layer.data_to_world((*(0,) * lead, *mark)) for mark in marks]
    return np.array(world)[:, lead:]


@pytest.mark.parametrize("name", KINDS)
def test_any_image_is_painted_learned_and_segmented(open_window, name):
    kind = KINDS[name]()
    window = open_window(kind.data, **kind.layer)
    kind.set_up(window)
    image = window.viewer.layers["im"]
    shape = kind.pixels.shape[1:]

    window.click("annotate.new")
    window.annotation.brush_size = 1
    window.draw((10, 10), (10, 30))
    window.press("B")
    window.draw((50, 60), (50, 80))

    step = window.viewer.dims.current_step[-len(shape) : -2]
    here = window.annotation.data[step]
    assert (here[10, 10:31] == 1).all()
    assert (here[50, 60:81] == BACKGROUND).all()
    assert window.counts == (21, 21)
    assert np.allclose(corners(window.annotation, shape), corners(image, shape))

    window.train()
    window.until(lambda: window.work.layers.live() is not None)
    window.stop()
    window.choose("segment.scope", "Every slice")
    window.click("segment.run")
    window.until(lambda: "im: mask" in window.names())

    mask = window.viewer.layers["im: mask"]
    assert np.allclose(corners(mask, shape), corners(image, shape))
    assert np.array_equal(mask.data, predicted(window.session.model, kind.pixels))


def predicted(model: Any, pixels: np.ndarray) -> np.ndarray:
    """The mask of a whole image, without a window."""
    from napari_unet.config import PredictConfig
    from napari_unet.inference import predict

    return list(predict(model, pixels, PredictConfig(device="cpu")))[-1].labels


def test_opening_every_dock_does_not_load_pytorch():
    script = """
import sys, napari
viewer = napari.Viewer(show=False)
for name in ("Workspace", "Annotate", "Train", "Segment", "Models", "Images"):
    viewer.window.add_plugin_dock_widget("napari-unet", name)
print("torch" in sys.modules)
viewer.close()
"""

    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == ["False"]


def test_making_an_annotation_loads_pytorch_before_start():
    script = """
import sys, time, napari, numpy
from napari_unet.gui.workspace import Workspace
viewer = napari.Viewer(show=False)
viewer.add_image(numpy.zeros((32, 32)))
viewer.window.add_plugin_dock_widget("napari-unet", "Workspace")
Workspace.of(viewer).annotate()
until = time.monotonic() + 60
while "napari_unet.training" not in sys.modules and time.monotonic() < until:
    time.sleep(0.05)
print("napari_unet.training" in sys.modules)
viewer.close()
"""

    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == ["True"]
