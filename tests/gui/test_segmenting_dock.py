"""The Segment dock: any part of the open images, or a folder, in layers that stay the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from conftest import halves

from napari_unet.config import PredictConfig

pytestmark = pytest.mark.gui

RUN, PROBABILITY, UNCERTAINTY = "segment.run", "segment.probabilities", "segment.uncertainty"


def learned(open_window: Any, image: np.ndarray) -> Any:
    """A window with a model that was trained on the image."""
    window = open_window(image)
    window.paint_both()
    window.train()
    window.learn(30)
    window.stop()
    return window


def segment(window: Any, scope: str = "This image") -> None:
    """Press Segment, and wait until it is done."""
    window.choose("segment.scope", scope)
    window.click(RUN)
    window.until(lambda: window.find(RUN).isEnabled())


def predicted(window: Any, pixels: np.ndarray) -> np.ndarray:
    """The mask of a whole image, without the window."""
    from napari_unet.inference import predict

    model = window.session.model
    return list(predict(model, pixels[None], PredictConfig(device="cpu")))[-1].labels


def results(window: Any) -> dict[str, Any]:
    ours = ("mask", "probability", "uncertainty")
    return {layer.name: layer for layer in window.viewer.layers if layer.name.endswith(ours)}


def on_screen(window: Any) -> tuple[slice, ...]:
    """The region of the image that is on the screen."""
    return window.work.layers.view(window.work.image, window.work.picture).region


# ---- which part of which images


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("What is on", ["im: mask"]),
        ("This image", ["im: mask"]),
        ("Every slice", ["im: mask"]),
        ("All open", ["im: mask", "second: mask"]),
    ],
)
def test_only_what_was_asked_for_is_segmented(open_window, scope, names):
    stack, second = halves(3, 64, 96), 255 - halves(64, 96)
    window = learned(open_window, stack)
    window.viewer.layers["im: annotation"].visible = False
    window.viewer.add_image(second, name="second", visible=False)
    window.viewer.layers.selection.active = window.viewer.layers["im"]
    window.viewer.dims.set_current_step(0, 1)
    window.viewer.scene.camera.zoom *= 4
    window.until(lambda: stack[on_screen(window)].size < 64 * 96 // 2)
    region: tuple[slice, ...] = {
        "What is on": on_screen(window),
        "This image": (slice(1, 2), slice(None), slice(None)),
    }.get(scope, (slice(None),) * 3)

    segment(window, scope)

    found = results(window)
    assert sorted(found) == names
    mask = found["im: mask"].data.copy()
    # The norms of a net look at what it is given: a part is not quite as the whole.
    assert (mask[region] == predicted(window, stack)[region]).mean() > 0.9
    mask[region] = 0
    assert not mask.any()
    if "second: mask" in names:
        assert np.array_equal(found["second: mask"].data, predicted(window, second))


def test_a_folder_is_segmented_into_another(open_window, image, monkeypatch, tmp_path):
    from tifffile import imread, imwrite

    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    images = {"a": image, "b": 255 - image}
    for name, pixels in images.items():
        imwrite(source / f"{name}.tif", pixels)
    window = learned(open_window, image)
    folders = iter((source, out))
    monkeypatch.setattr("napari_unet.gui.segment.ask_folder", lambda *_: next(folders))

    segment(window, "A folder")

    assert window.text("segment.status") == "2 of 2: b.tif"
    assert results(window) == {}
    for name, pixels in images.items():
        assert np.array_equal(imread(out / f"{name}.tif"), predicted(window, pixels))


def test_what_was_done_before_cancel_stays(open_window, image):
    window = learned(open_window, image)
    window.viewer.add_image(halves(1024, 1024), name="large")
    window.click(PROBABILITY)
    window.find("segment.advanced").setValue(True)
    window.find("segment.tile").setValue(32)

    window.click(RUN)
    assert window.enabled(RUN, "segment.cancel", "segment.export") == {"cancel"}
    bar = window.find("segment.progress")
    window.until(lambda: bar.value() > 2)
    window.click("segment.cancel")
    window.until(lambda: window.find(RUN).isEnabled())

    assert window.text("segment.status") == "Cancelled; what was done until then is shown."
    assert bar.value() < bar.maximum()
    probability = window.viewer.layers["large: probability"].data
    assert 0 < (probability > 0).mean() < 1


# ---- as what


def test_results_are_shown_in_the_same_layers_again(open_window, image):
    window = learned(open_window, image)
    window.click(PROBABILITY)
    window.click(UNCERTAINTY)
    segment(window)
    first = results(window)

    window.viewer.layers["im"].data = 255 - image
    segment(window)

    assert sorted(first) == ["im: mask", "im: probability", "im: uncertainty"]
    again = results(window)
    assert {name: id(layer) for name, layer in again.items()} == {
        name: id(layer) for name, layer in first.items()
    }
    probability = again["im: probability"].data
    assert np.array_equal(again["im: mask"].data, predicted(window, 255 - image))
    assert np.array_equal(again["im: mask"].data, probability > 0.5)
    uncertainty = again["im: uncertainty"].data
    least_sure = np.abs(probability - 0.5).argmin()
    assert uncertainty.flat[least_sure] > 0.999 * uncertainty.max()


def blobs() -> np.ndarray:
    """A large object and a small one."""
    data = np.zeros((64, 96), np.uint8)
    data[10:20, 10:20], data[40:44, 40:44] = 1, 1
    return data


def with_blobs(open_window: Any, image: np.ndarray) -> Any:
    """A window with a mask of two objects."""
    window = learned(open_window, image)
    segment(window)
    window.viewer.layers["im: mask"].data[:] = blobs()
    return window


def test_a_mask_is_drawn_as_outlines_and_parted_into_objects(open_window, image):
    window = with_blobs(open_window, image)
    mask = window.viewer.layers["im: mask"]

    window.choose("segment.contour", "as outlines")
    assert mask.contour > 0
    window.choose("segment.contour", "filled")
    assert mask.contour == 0
    window.choose("segment.objects", "Separate objects")
    window.until(lambda: window.text("segment.status") == "'im': 2 objects.")
    assert np.unique(mask.data).tolist() == [0, 1, 2]
    assert np.array_equal(mask.data > 0, blobs() > 0)
    window.until(lambda: window.find(RUN).isEnabled())
    window.find("segment.min_size").setValue(20)
    window.until(lambda: window.text("segment.status") == "'im': 1 object.")
    assert (mask.data > 0).sum() == 100
    window.until(lambda: window.find(RUN).isEnabled())
    window.choose("segment.objects", "Classes")
    assert np.array_equal(mask.data, blobs())
    assert list(results(window)) == ["im: mask"]


@pytest.mark.parametrize(("kind", "values"), [("Classes", [0, 1]), ("Separate", [0, 1, 2])])
def test_what_is_shown_is_exported(open_window, image, monkeypatch, tmp_path, kind, values):
    from tifffile import imread

    file = tmp_path / "mask.tif"
    monkeypatch.setattr("napari_unet.gui.segment.ask_file", lambda *_: file)
    window = with_blobs(open_window, image)
    window.choose("segment.objects", kind)
    window.until(lambda: window.find("segment.export").isEnabled())

    window.click("segment.export")
    window.until(lambda: window.text("segment.status") == f"Written to {file}")

    assert np.unique(imread(file)).tolist() == values
    assert np.array_equal(imread(file) > 0, blobs() > 0)


def test_a_mask_of_a_part_says_so_when_it_is_exported(open_window, image, monkeypatch, tmp_path):
    file = tmp_path / "mask.tif"
    monkeypatch.setattr("napari_unet.gui.segment.ask_file", lambda *_: file)
    window = learned(open_window, image)
    window.viewer.scene.camera.zoom *= 4
    window.until(lambda: image[on_screen(window)].size < image.size // 2)
    segment(window, "What is on")

    window.click("segment.export")
    said = f"Written to {file}; segmented only in part, the rest is left empty"
    window.until(lambda: window.text("segment.status") == said)

    segment(window, "This image")
    window.click("segment.export")
    window.until(lambda: window.text("segment.status") == f"Written to {file}")


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr", ".nii.gz", ".csv"])
def test_masks_of_volumes_in_time_are_exported(open_window, monkeypatch, tmp_path, suffix):
    if suffix == ".nii.gz":
        pytest.importorskip("nibabel")
    file = tmp_path / f"mask{suffix}"
    monkeypatch.setattr("napari_unet.gui.segment.ask_file", lambda *_: file)
    window = learned(open_window, halves(2, 3, 64, 96))
    segment(window, "Every slice")
    window.until(lambda: window.find("segment.export").isEnabled())

    window.click("segment.export")
    window.until(lambda: window.text("segment.status") == f"Written to {file}")

    assert file.exists()


def test_objects_are_exported_with_their_class_and_described_beforehand(
    open_window, image, monkeypatch, tmp_path
):
    file, told = tmp_path / "mask.geojson", []

    def ask(_parent: Any, _name: str, describe: Any) -> Any:
        told.append(describe(file))
        return file

    monkeypatch.setattr("napari_unet.gui.segment.ask_file", ask)
    window = with_blobs(open_window, image)
    window.choose("segment.objects", "Separate objects")
    window.until(lambda: window.find("segment.export").isEnabled())

    window.click("segment.export")
    window.until(lambda: window.text("segment.status") == f"Written to {file}")

    assert told == ["outlines of 2 objects, YX 64 x 96, about 4 kB, one file"]
    found = [f["properties"] for f in json.loads(file.read_text())["features"]]
    (of,) = {f["classification"]["name"] for f in found}
    assert of == window.session.classes[0].name
    assert {f["objectType"] for f in found} == {"detection"}
    layer = window.viewer.layers["im: mask"]
    assert "classes" not in layer.metadata["napari_unet"]


# ---- models


def test_without_a_model_it_says_what_to_do(open_window, image):
    window = open_window(image, "Segment")

    assert window.text("segment.status") == "Train a model first, or choose one above."
    assert window.enabled(RUN, "segment.cancel", "segment.export") == set()


def test_training_waits_for_segmenting_and_goes_on(open_window, image):
    window = open_window(image)
    window.paint_both()
    window.train()
    window.until(lambda: window.session.newest is not None)

    window.click(RUN)
    phase = window.phase
    window.until(lambda: "im: mask" in window.names())
    window.learn()

    assert phase == "paused"
    assert window.text("segment.status").endswith("is covered by classes.")
    window.stop()


def test_objects_are_parted_anew_on_each_image_that_is_looked_at(open_window, image):
    window = with_blobs(open_window, image)
    window.viewer.add_image(255 - image, name="second")
    segment(window, "All open")
    for name in ("im: mask", "second: mask"):
        window.viewer.layers[name].data[:] = blobs()
    window.choose("segment.objects", "Separate objects")
    window.until(lambda: window.find(RUN).isEnabled())
    window.find("segment.min_size").setValue(20)
    window.until(lambda: window.find(RUN).isEnabled())

    other = "im" if window.work.image.name == "second" else "second"
    window.viewer.layers.selection.active = window.viewer.layers[other]

    window.until(lambda: window.text("segment.status") == f"'{other}': 1 object.")
    assert (window.viewer.layers[f"{other}: mask"].data > 0).sum() == 100
    result = window.work.masks.of(window.viewer.layers[other])
    assert result.objects is window.viewer.layers[f"{other}: mask"].data
