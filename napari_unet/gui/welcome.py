"""What an empty viewer shows in a dock: what to do next, and samples to try it on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_unet.hooks import SAMPLES
from napari_unet.records import recent, title

COLUMNS = 2


class Welcome(QWidget):
    """A sentence, a button for each sample, and one for what was painted last."""

    def __init__(
        self,
        open_sample: Callable[[str], None],
        open_project: Callable[[Path], None],
        dock: str,
    ) -> None:
        super().__init__()
        words = QLabel("Open an image: drag a file onto the window, or try a sample.")
        words.setWordWrap(True)
        grid = QGridLayout()
        for place, (key, name) in enumerate(SAMPLES.items()):
            button = QPushButton(name)
            button.setObjectName(f"unet.{dock}.sample.{key}")
            button.clicked.connect(partial(_open, open_sample, key))
            grid.addWidget(button, *divmod(place, COLUMNS))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(words)
        layout.addLayout(grid)
        for folder in recent()[:1]:
            last = QPushButton(f"Go on with {title(folder)}")
            last.setObjectName(f"unet.{dock}.go_on")
            last.setToolTip("What was painted last; the Images dock lists others")
            last.clicked.connect(partial(_open, open_project, folder))
            layout.addWidget(last)


def _open(open_one: Callable[[Any], None], what: Any, _checked: bool = False) -> None:
    open_one(what)
