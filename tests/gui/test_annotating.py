"""Painting in the Annotate dock: keys, strokes, acts on many pixels at once, and undoing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import halves

from napari_unet.config import BACKGROUND

pytestmark = pytest.mark.gui

SHAPE = (64, 96)
CLEAR = "annotate.clear"
BOX = (slice(5, 16), slice(5, 26))  # that `drag` drags over


def pixels_shown(window: Any) -> list[str]:
    """What the class table says is painted, row by row, without that of the eraser."""
    model = window.find("annotate.classes").model()
    return [model.index(row, 3).data() for row in range(model.rowCount() - 1)]


# ---- choosing what to paint


@pytest.mark.parametrize(
    ("key", "label", "mode"),
    [("1", 1, "paint"), ("3", 3, "paint"), ("9", 2, "paint"), ("B", BACKGROUND, "paint")],
)
def test_a_key_picks_what_is_painted(open_window, image, key, label, mode):
    window = open_window(image)
    window.click("annotate.add")
    window.click("annotate.add")
    window.press("2")

    window.press(key)

    assert (window.annotation.selected_label, window.annotation.mode) == (label, mode)
    assert window.find("annotate.classes").parent().current() == label


def test_strokes_are_counted_erased_undone_and_done_again(open_window, image):
    window = open_window(image)
    window.click("annotate.new")
    window.annotation.brush_size = 1

    window.press("1")
    window.draw((10, 10), (10, 29))
    window.press("B")
    window.draw((50, 60), (50, 64))
    assert window.counts == (5, 20)
    assert pixels_shown(window) == ["20 px", "5 px"]
    assert window.text("annotate.share") == "0.4 % of this image is painted."

    window.press("E")
    window.draw((10, 10), (10, 19))
    assert window.counts == (5, 10)
    assert [window.undo(), window.undo(), window.redo(), window.redo()] == [
        (5, 20),
        (0, 20),
        (5, 20),
        (5, 10),
    ]
    assert pixels_shown(window) == ["10 px", "5 px"]


# ---- acts on many pixels at once


def painted() -> np.ndarray:
    data = np.zeros(SHAPE, np.uint8)
    data[:4, :4], data[10:14, 10:20], data[20:24, :10] = 1, 2, BACKGROUND
    return data


def mask() -> np.ndarray:
    data = np.zeros(SHAPE, np.uint8)
    data[8:12], data[50:60] = 1, 2
    return data


def over(values: np.ndarray) -> np.ndarray:
    """These values, where nothing was painted."""
    return np.where(painted() == 0, values, painted())


def within(values: np.ndarray, *region: slice) -> np.ndarray:
    """These values in a region, and what was painted around it."""
    data = painted()
    data[region] = values[region]
    return data


def drag(window: Any) -> None:
    window.wait(0.05)
    window.draw((5, 5), (10, 15), (15, 25))
    window.until(lambda: window.viewer.layers.selection.active is window.annotation)


def complete_a_rectangle(window: Any) -> None:
    window.click("annotate.rectangle")
    drag(window)


def adopt(window: Any, how: str, pixels: int) -> None:
    work = window.work
    uncertainty = np.repeat([0.1, 0.6], 48).astype(np.float32)[None].repeat(64, 0)
    work.layers.result(work.image, "prediction", mask(), work.session.classes)
    work.layers.result(work.image, "uncertainty", uncertainty)
    window.find("annotate.adopting").setValue(True)
    window.choose("annotate.source", "im: mask")
    assert window.text("annotate.mapping") == "1=1, 2=2"
    window.choose("annotate.how", how)
    window.click("annotate.adopt")
    if "rect" in how:
        drag(window)
    assert window.text("annotate.status") == f"{pixels:,} pixels were taken over from 'im: mask'."


ADOPTED = np.where(mask() == 0, BACKGROUND, mask()).astype(np.uint8)
FULL = np.full(SHAPE, BACKGROUND, np.uint8)
LEFT = (slice(None), slice(0, 48))


@dataclass
class Act:
    """Something done to many pixels, and what is painted after it."""

    name: str
    do: Callable[[Any], None]
    after: np.ndarray


ACTS = [
    Act("clear", lambda w: w.click(CLEAR), np.zeros(SHAPE, np.uint8)),
    Act("complete", lambda w: w.click("annotate.complete"), over(FULL)),
    Act("complete in a rectangle", complete_a_rectangle, within(over(FULL), *BOX)),
    Act("adopt all", lambda w: adopt(w, "everything", 64 * 96 - 96), over(ADOPTED)),
    Act(
        "adopt what is sure",
        lambda w: adopt(w, "only conf", 64 * 48 - 96),
        within(over(ADOPTED), *LEFT),
    ),
    Act(
        "adopt a rectangle",
        lambda w: adopt(w, "within a rect", 11 * 21 - 40),
        within(over(ADOPTED), *BOX),
    ),
]


def as_counted(data: np.ndarray) -> tuple[int, ...]:
    return tuple(int((data == label).sum()) for label in (BACKGROUND, 1, 2))


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_an_act_on_many_pixels_is_one_step_to_undo(open_window, image, act):
    window = open_window(image)
    window.click("annotate.add")
    window.work.annotate().set((slice(0, 64), slice(0, 96)), painted())

    act.do(window)

    assert np.array_equal(window.annotation.data, act.after)
    assert window.counts == as_counted(act.after)
    assert window.undo() == as_counted(painted())
    assert np.array_equal(window.annotation.data, painted())
    assert window.redo() == as_counted(act.after)
    assert np.array_equal(window.annotation.data, act.after)


def test_escape_leaves_the_rectangle(open_window, image):
    window = open_window(image)
    window.paint_both()
    before = window.annotation.data.copy()

    window.click("annotate.rectangle")
    window.wait(0.05)
    window.press("Escape")
    window.until(lambda: window.viewer.layers.selection.active is window.annotation)

    assert len(window.names()) == 2
    assert np.array_equal(window.annotation.data, before)


def test_of_a_stack_only_the_slice_that_is_shown_is_completed(open_window):
    window = open_window(halves(3, 64, 96))
    window.click("annotate.new")
    window.viewer.dims.set_current_step(0, 1)

    window.click("annotate.complete")

    assert [int((plane == BACKGROUND).sum()) for plane in window.annotation.data] == [0, 64 * 96, 0]


def test_removing_a_class_moves_up_what_was_painted_of_the_later_ones(
    open_window, image, monkeypatch
):
    from qtpy.QtWidgets import QMessageBox

    asked = []
    window = open_window(image)
    window.click("annotate.add")
    window.work.annotate().set((slice(0, 64), slice(0, 96)), painted())
    window.until(lambda: pixels_shown(window) == ["16 px", "40 px", "40 px"])

    for answer in ("No", "Yes"):
        button = getattr(QMessageBox.StandardButton, answer)
        told = lambda *words, button=button: asked.append(words[2]) or button  # noqa: E731
        monkeypatch.setattr(QMessageBox, "question", told)
        window.press("1")
        window.click("annotate.remove")
        assert len(window.session.classes) == (2 if answer == "No" else 1)

    assert len(asked) == 2
    assert "16 pixels are painted as 'foreground'. Remove" in asked[0]
    assert window.counts == (40, 40)
    assert pixels_shown(window) == ["40 px", "40 px"]
    assert window.undo() == (40, 40), "they would come back as other classes"


@pytest.mark.parametrize(
    ("mapping", "how", "shape", "says"),
    [
        ("1=x", "everything", SHAPE, "does not say which value is which class"),
        ("1=1", "everything", SHAPE, "holds the value 2, which is mapped to no class"),
        ("1=1, 2=2", "only conf", SHAPE, "is not known; segment the image with 'Uncertainty'"),
        ("1=1, 2=2", "everything", (32, 96), "choose a mask made on this image"),
    ],
)
def test_what_cannot_be_taken_over_is_said(open_window, image, mapping, how, shape, says):
    window = open_window(image)
    window.viewer.add_labels(mask()[: shape[0]] + mask()[-shape[0] :] * (shape != SHAPE), name="m")
    window.viewer.layers.selection.active = window.viewer.layers["im"]
    window.find("annotate.adopting").setValue(True)
    window.find("annotate.mapping").setText(mapping)
    window.choose("annotate.how", how)

    window.click("annotate.adopt")

    assert says in window.text("annotate.status")
    assert window.session.counts == (0, 0)


# ---- the first steps


def test_an_empty_viewer_offers_samples(open_window):
    window = open_window()
    assert window.find("annotate.sample.cells").isVisible()
    assert not window.find("annotate.image").isVisible()

    window.click("annotate.sample.volume")

    assert not window.find("annotate.sample.cells").isVisible()
    assert window.find("annotate.image").currentText() == "volume"
    window.wait(0.1)
    window.viewer.layers.clear()
    assert window.find("annotate.sample.cells").isVisible()
