"""A list to choose a model from: the one in use, those of the library, a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy

from napari_unet.cards import CARD, list_models
from napari_unet.gui.dialogs import ask_model
from napari_unet.gui.parts import leave_the_wheel

IN_USE = "in use"
FILE = "file"


class ModelChoice(QComboBox):
    """Its value is None for a new network, IN_USE, a name in the library, or a path."""

    valueChanged = Signal(object)

    def __init__(self, with_new: bool) -> None:
        super().__init__()
        self._with_new = with_new
        self._in_use: str | None = None
        self._file: Path | None = None
        self._before: Any = None  # what was chosen, should no file be
        leave_the_wheel(self)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.activated.connect(self._on_activated)
        self._fill()

    def value(self) -> Any:
        chosen = self.currentData()
        return None if chosen == FILE else chosen

    def setValue(self, value: Any) -> None:
        place = next((i for i in range(self.count()) if self.itemData(i) == value), -1)
        if place >= 0:
            self.setCurrentIndex(place)

    def set_in_use(self, name: str | None) -> None:
        """Offer the model in use by its name, and choose it when it is another one."""
        new = name is not None and name != self._in_use
        self._in_use = name
        self._fill()
        if new:
            self.setValue(IN_USE)
            self._before = IN_USE

    def showPopup(self) -> None:
        """The library may have changed since."""
        self._fill()
        super().showPopup()

    def _fill(self) -> None:
        before = self.value()
        self.blockSignals(True)
        self.clear()
        if self._with_new:
            self.addItem("A new network", None)
        elif self._in_use is None:
            self.addItem("None yet", None)
        if self._in_use is not None:
            self.addItem(f"The model in use ({self._in_use})", IN_USE)
        for name, card in list_models().items():
            if not isinstance(card, str):
                self.addItem(name, name)
        if self._file is not None:
            self.addItem(self._file.name, self._file)
        self.addItem("A file ...", FILE)
        self.setValue(before)
        self.blockSignals(False)

    def _on_activated(self) -> None:
        if self.currentData() == FILE:
            found = ask_model(self)
            if found is not None:
                self._file = found.parent if found.name == CARD else found
            self._fill()
            self.setValue(self._before if found is None else self._file)
        self._before = self.value()
        self.valueChanged.emit(self.value())
