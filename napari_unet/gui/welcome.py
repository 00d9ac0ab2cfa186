"""What an empty viewer shows in a dock: what to do next, and samples to try it on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_unet.hooks import SAMPLES

COLUMNS = 2


class Welcome(QWidget):
    """A sentence, and a button for each sample."""

    def __init__(self, open_sample: Callable[[str], None], dock: str) -> None:
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


def _open(open_sample: Callable[[str], None], key: str, _checked: bool = False) -> None:
    open_sample(key)
