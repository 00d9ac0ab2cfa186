"""The Workspace: the Images, Annotate, Train and Segment docks as one column."""

from __future__ import annotations

from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_unet.gui.annotate import AnnotateDock
from napari_unet.gui.forms import Folded
from napari_unet.gui.images import ImagesDock
from napari_unet.gui.jobs import Failure, notify
from napari_unet.gui.segment import SegmentDock
from napari_unet.gui.train import TrainDock
from napari_unet.gui.workspace import Workspace
from napari_unet.run import BadInput

WIDTH = 330


class WorkspaceDock(QScrollArea):
    """Docks under each other, which can be folded away, and scroll on a low screen."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.setObjectName("unet.column")
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        docks = {
            "Images": ImagesDock,
            "Annotate": AnnotateDock,
            "Train": TrainDock,
            "Segment": SegmentDock,
        }
        for title, dock in docks.items():
            section = Folded(title, dock(napari_viewer), f"unet.column.{title.lower()}", bold=True)
            section.setValue(title != "Images")
            column.addWidget(section)
        column.addStretch(1)
        self.setWidget(inside)

    def sizeHint(self) -> QSize:
        """Wide enough for its docks, and as high as there is room."""
        return QSize(WIDTH, 900)


def open_here(folder: Path) -> None:
    """Open a project in the viewer that is in use."""
    viewer = napari.current_viewer()
    if viewer is not None:
        try:
            Workspace.of(viewer).keeping.open(folder)
        except BadInput as error:  # napari, which asked for it, would show a traceback
            notify(Failure(str(error)))


def show_project(folder: Path) -> None:
    """Open a project in a viewer of its own, and wait until it is closed."""
    viewer = napari.Viewer()
    viewer.window.add_dock_widget(WorkspaceDock(viewer), name="Workspace", area="right")
    Workspace.of(viewer).keeping.open(folder)
    napari.run()


def show_demo(image: np.ndarray, strokes: np.ndarray) -> None:
    """Open an image with strokes on it, start to learn them, and wait until the window closes."""
    viewer = napari.Viewer(title="napari-unet demo")
    viewer.add_image(image, name="cells")
    viewer.window.add_dock_widget(WorkspaceDock(viewer), name="Workspace", area="right")
    work = Workspace.of(viewer)
    painting = work.annotate()
    painting.set(tuple(slice(0, n) for n in strokes.shape), strokes)
    painting.pick(1)
    work.session.paint("cells")
    work.start_training()
    napari.run()
