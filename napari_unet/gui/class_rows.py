"""The rows of the class table: the classes, Background and Erase, and what is painted of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import QWidget

from napari_unet.config import BACKGROUND, PALETTE, UNLABELLED, SegClass, class_table

SWATCH, NAME, KEY, PIXELS = range(4)  # columns
COLOR = Qt.ItemDataRole.UserRole
FIXED = (BACKGROUND, UNLABELLED)  # the labels of the last two rows
FIXED_NAMES = ("Background", "Erase")
FIXED_KEYS = ("B", "E")
FIXED_TIPS = ("Painted on purpose: here is none of the classes", "Back to not labelled")
BACKGROUND_COLOR = "#b0b0b0"
NONE = "none"


class Rows(QAbstractTableModel):
    """The rows of the table: the classes, Background and Erase."""

    edited = Signal()
    refused = Signal(int, str)  # row, why its new name was not taken

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.classes = class_table(1)
        self._counts: list[int] = []

    def reset(self, classes: tuple[SegClass, ...]) -> None:
        self.beginResetModel()
        self.classes = classes
        del self._counts[len(classes) + 1 :]
        self.endResetModel()

    def put(self, row: int, changed: SegClass) -> None:
        self.classes = (*self.classes[:row], changed, *self.classes[row + 1 :])
        self.dataChanged.emit(self.index(row, SWATCH), self.index(row, PIXELS))
        self.edited.emit()

    def set_counts(self, counts: Sequence[int]) -> None:
        self._counts = [int(count) for count in counts]
        self.dataChanged.emit(self.index(0, PIXELS), self.index(self.rowCount() - 1, PIXELS))

    def count(self, label: int) -> int:
        """Painted pixels of a class."""
        return self._counts[label] if label < len(self._counts) else 0

    def drop_count(self, label: int) -> None:
        del self._counts[label : label + 1]

    def label(self, row: int) -> int:
        return row + 1 if row < len(self.classes) else FIXED[row - len(self.classes)]

    def has(self, label: int) -> bool:
        return label in FIXED or 1 <= label <= len(self.classes)

    def row(self, label: int) -> int:
        return len(self.classes) + FIXED.index(label) if label in FIXED else label - 1

    def row_of_key(self, key: str) -> int | None:
        keys = [self._key(row) for row in range(self.rowCount())]
        return keys.index(key.upper()) if key and key.upper() in keys else None

    def shares(self) -> list[tuple[str, str, int]]:
        """Name, colour and painted pixels of each class, and last of the background."""
        rows = range(self.rowCount() - 1)
        return [(self._name(row), self._color(row) or "", self._count(row)) for row in rows]

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return len(self.classes) + len(FIXED)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return PIXELS + 1

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        editable = index.column() == NAME and index.row() < len(self.classes)
        flags = super().flags(index)
        return flags | Qt.ItemFlag.ItemIsEditable if editable else flags

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = index.row(), index.column()
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return ("", self._name(row), self._key(row), self._pixels(row))[column]
        if role == COLOR:
            return self._color(row)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(row, column)
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Rename a class; a name that is empty or taken is refused."""
        row, name = index.row(), str(value).strip()
        before = self.classes[row]
        if name == before.name:
            return False
        if why_not := self._why_not_called(name, row):
            self.refused.emit(row, why_not)
            return False
        self.put(row, SegClass(name=name, color=before.color))
        return True

    def _why_not_called(self, name: str, row: int) -> str | None:
        if not name:
            return "A class needs a name"
        others = self.classes[:row] + self.classes[row + 1 :]
        return f"The name {name} is already in use" if _is_taken(name, others) else None

    def _name(self, row: int) -> str:
        n = len(self.classes)
        return self.classes[row].name if row < n else FIXED_NAMES[row - n]

    def _color(self, row: int) -> str | None:
        """None for the eraser."""
        if row < len(self.classes):
            return self.classes[row].color
        return BACKGROUND_COLOR if self.label(row) == BACKGROUND else None

    def _key(self, row: int) -> str:
        n = len(self.classes)
        if row >= n:
            return FIXED_KEYS[row - n]
        return str(row + 1) if row < 9 else ""

    def _count(self, row: int) -> int:
        place = 0 if self.label(row) == BACKGROUND else self.label(row)
        return self._counts[place] if place < len(self._counts) else 0

    def _pixels(self, row: int) -> str:
        return "" if self.label(row) == UNLABELLED else _in_words(self._count(row))

    def _tip(self, row: int, column: int) -> str:
        if row >= len(self.classes):
            return FIXED_TIPS[row - len(self.classes)]
        key = self._key(row)
        return {
            SWATCH: "Click, or press Space, to change the colour",
            NAME: f"{self._name(row)}: double-click, or press F2, to rename",
            KEY: f"Press {key} to paint this class" if key else "",
            PIXELS: "How much of this class is painted",
        }[column]


def _in_words(count: int) -> str:
    if count >= 1_000_000:
        return f"{count / 1e6:,.1f} Mpx"
    return f"{count:,} px" if count else NONE


def one_more(classes: tuple[SegClass, ...]) -> SegClass:
    """A class with a name that is free, in the colour of the palette that is used least."""
    used = [c.color.lower() for c in classes]
    number = len(classes) + 1
    while _is_taken(f"class {number}", classes):
        number += 1
    return SegClass(name=f"class {number}", color=min(PALETTE, key=used.count))


def _is_taken(name: str, classes: Sequence[SegClass]) -> bool:
    taken = [*FIXED_NAMES, *(c.name for c in classes)]
    return name.casefold() in {other.casefold() for other in taken}
