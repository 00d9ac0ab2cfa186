"""A viewer with our docks open, used as a person would: by clicks, keys and strokes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hand import Hand

from napari_unet.config import BACKGROUND, TrainConfig
from napari_unet.run import BadInput

TINY = TrainConfig(patch=16, batch=1, width=4, depth=1, device="cpu", precision="float32")


@pytest.fixture(autouse=True)
def _own_library(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def _questions_are_answered(monkeypatch):
    """Yes; nobody is there to press a button."""
    from qtpy.QtWidgets import QMessageBox

    yes = QMessageBox.StandardButton.Yes
    monkeypatch.setattr(QMessageBox, "question", lambda *_words: yes)


def halves(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    """An image that is dark on the left and bright on the right, and nowhere even."""
    noise = np.random.default_rng(0).integers(0, 40, shape)
    bright = np.arange(shape[-1]) >= shape[-1] // 2
    return (noise + 150 * bright).astype(dtype)


@pytest.fixture
def notified() -> Iterator[list[str]]:
    """What napari notified of since, in words."""
    from napari.utils.notifications import Notification, notification_manager

    told: list[str] = []

    def tell(notification: Notification) -> None:
        told.append(notification.message)

    notification_manager.notification_ready.connect(tell)
    yield told
    notification_manager.notification_ready.disconnect(tell)


@pytest.fixture
def image() -> np.ndarray:
    return halves(64, 96)


@pytest.fixture
def open_window(make_napari_viewer) -> Iterator[Callable[..., Window]]:
    """Open a viewer with an image, if one is given, and the docks of the Workspace."""
    opened = []

    def open_one(image: Any = None, dock: str | None = "Workspace", **layer: Any) -> Window:
        viewer = make_napari_viewer(show=True)
        viewer.window._qt_window.resize(1280, 720)
        if image is not None:
            viewer.add_image(image, **{"name": "im", **layer})
        window = Window(viewer)
        if dock is not None:
            window.open(dock)
        opened.append(window)
        return window

    yield open_one
    for window in opened:  # make_napari_viewer looks whether anything holds the viewers on
        window.__dict__.clear()


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Three images that differ."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"im{number}.tif", np.roll(halves(64, 96), 9 * number, axis=1))
    return sorted(folder.iterdir())


@pytest.fixture
def three(open_window, files, monkeypatch, tmp_path):
    """A project with a name and three images, the first of them open."""
    window = open_window()
    window.click("column.images.toggle")
    answer(monkeypatch, "ask_new_folder", tmp_path / "mine")
    answer(monkeypatch, "ask_images", files)
    window.click("images.new")
    add(window)
    window.click("images.next")
    return window


class Window(Hand):
    """The window of a viewer, a person's hand, and what the person looks at."""

    def open(self, dock: str) -> Any:
        """Open a dock from the menu; its widget."""
        _, widget = self.viewer.window.add_plugin_dock_widget("napari-unet", dock)
        self.wait(0.001)
        return widget

    # --- what is there ---

    @property
    def work(self):
        from napari_unet.gui.workspace import Workspace

        return Workspace.of(self.viewer)

    @property
    def session(self):
        return self.work.session

    @property
    def phase(self) -> str:
        return self.session.progress.phase

    @property
    def counts(self) -> tuple[int, ...]:
        """Painted pixels of background and of each class, as training knows them."""
        self.wait(0.001)  # they are told a moment later
        return self.session.counts

    @property
    def annotation(self):
        return self.work.painting.layer

    def enabled(self, *names: str) -> set[str]:
        """Those of these buttons that can be pressed."""
        return {name.rpartition(".")[2] for name in names if self.find(name).isEnabled()}

    def names(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers]

    # --- hands ---

    def undo(self) -> tuple[int, ...]:
        """Press Ctrl+Z on the canvas; what training knows then."""
        self.press("Z", "ControlModifier")
        return self.counts

    def redo(self) -> tuple[int, ...]:
        self.press("Z", "ControlModifier", "ShiftModifier")
        return self.counts

    def draw(self, *places: tuple[float, float]) -> None:
        """Drag through these pixels of the active layer, in the slice that is shown."""
        layer, dims = self.viewer.layers.selection.active, self.viewer.dims
        shown = [axis - dims.ndim for axis in dims.displayed]
        points = []
        for place in places:
            point = np.array(layer.world_to_data(dims.point[-layer.ndim :]))
            point[shown] = place
            points.append(tuple(point))
        self.stroke(layer, points)

    def paint(self, label: int, *region: slice) -> None:
        """Paint a box at once, where the hand does not matter."""
        painting = self.work.annotate()
        shape = painting.layer.data.shape
        whole = (*region, *(slice(None),) * (len(shape) - len(region)))
        box = tuple(slice(*s.indices(n)) for s, n in zip(whole, shape, strict=True))
        painting.set(box, np.full([s.stop - s.start for s in box], label, np.uint8))
        self.wait(0.001)

    def paint_both(self) -> None:
        """Paint the left third as background and the right one as class 1."""
        shape = self.work.annotate().layer.data.shape
        third, before = shape[-1] // 3, (slice(None),) * (len(shape) - 1)
        self.paint(BACKGROUND, *before, slice(0, third))
        self.paint(1, *before, slice(-third, None))

    # --- docks ---

    def close_docks(self, *names: str) -> None:
        """Close docks by the buttons in their title bars."""
        from napari._qt.widgets.qt_viewer_dock_widget import QtViewerDockWidget
        from qtpy.QtWidgets import QPushButton

        for dock in self.window.findChildren(QtViewerDockWidget):
            if any(dock.name.startswith(name) for name in names):
                dock.title.findChild(QPushButton, "QTitleBarCloseButton").click()
        self.wait(0.05)

    # --- training ---

    def train(self) -> None:
        """Press Start, and wait until it learns."""
        self.session.config = TINY
        self.click("train.start")
        self.learn()

    def learn(self, steps: int = 3) -> None:
        """Wait for some more steps."""
        until = self.session.progress.step + steps
        self.until(lambda: self.phase == "learning" and self.session.progress.step >= until)

    def stop(self) -> None:
        """Press Stop, and wait until what was learned is kept."""
        ended: list[Any] = []
        self.work.run_ended.connect(ended.append)
        self.click("train.stop")
        self.until(lambda: bool(ended))
        self.work.run_ended.disconnect(ended.append)


def saved(window) -> None:
    """Wait until all that was painted is on disk."""
    project = window.work.keeping.project
    window.until(lambda: project.is_saved)
    window.wait(0.1)  # in which the table hears of it


def add(window, button: str = "images.add") -> None:
    """Add what the dialog answers, and wait until it is there."""
    window.click(button)
    window.until(lambda: "added." in window.text("images.status"))


def answer(monkeypatch, name: str, what) -> None:
    monkeypatch.setattr(f"napari_unet.gui.images.{name}", lambda *_: what)


def fill_disk(window, monkeypatch, notified) -> None:
    """Paint a stroke that is saved, and another that cannot be: the disk is full by then."""
    from napari_unet.sheets import Sheets

    folder, write = window.work.keeping.project.folder, Sheets.write
    window.paint(1, slice(0, 3))
    saved(window)

    def fail(sheets, place, labels):
        if sheets.folder.is_relative_to(folder):
            raise BadInput("The disk is full.")
        write(sheets, place, labels)

    monkeypatch.setattr(Sheets, "write", fail)
    window.paint(1, slice(10, 13))
    window.until(lambda: any("Not saved" in said for said in notified))
