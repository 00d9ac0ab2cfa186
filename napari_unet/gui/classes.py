"""The class table: name, colour, key and painted pixels of each class, background and eraser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QModelIndex, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QGridLayout,
    QHeaderView,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QStyleOptionViewItem,
    QToolTip,
    QTreeView,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_unet.config import MAX_CLASSES, SegClass
from napari_unet.gui.class_cells import Balance, KeyCap, Name, Pixels, Swatch, unit
from napari_unet.gui.class_rows import FIXED, NAME, SWATCH, Rows, one_more

ROWS_SHOWN = 8
NAVIGATION = (
    Qt.Key.Key_Up,
    Qt.Key.Key_Down,
    Qt.Key.Key_Home,
    Qt.Key.Key_End,
    Qt.Key.Key_PageUp,
    Qt.Key.Key_PageDown,
)
CHORD = (
    Qt.KeyboardModifier.ControlModifier
    | Qt.KeyboardModifier.AltModifier
    | Qt.KeyboardModifier.MetaModifier
)


def ask_color(start: str, parent: QWidget) -> str | None:
    """The colour the user chooses in a dialog, as #rrggbb; None if they cancel."""
    chosen = QColorDialog.getColor(QColor(start), parent, "Colour of the class")
    return chosen.name() if chosen.isValid() else None


class ClassTable(QWidget):
    """The palette to paint with; it edits the classes, and a chosen row is what gets painted."""

    valueChanged = Signal(object)  # the classes, after the user renamed, recoloured, added, removed
    picked = Signal(int)  # the label to paint with: 1..N, 255 for background, 0 for the eraser
    removing = Signal(int)  # the number of a class about to go; those after it move down by one

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.painted_elsewhere: Callable[[], bool] = bool  # more than the counts tell of
        self._rows = Rows(self)
        self._view = _View(self._rows, self)
        self._balance = Balance(self)
        self._add = _button("Add class", "unet.annotate.add", self)
        self._remove = _button("Remove", "unet.annotate.remove", self)
        self._lay_out()
        self._connect()
        self.setCurrent(1)
        self._refresh()

    def value(self) -> tuple[SegClass, ...]:
        """The classes 1..N in the order of their numbers."""
        return self._rows.classes

    def setValue(self, classes: Sequence[SegClass]) -> None:
        """Show these classes; the row that is chosen stays so, as far as it is still there."""
        if tuple(classes) == self.value():
            return
        label = self.current()
        with signals_blocked(self):
            self._rows.reset(tuple(classes))
            last = self._rows.label(max(0, len(classes) - 1))
            self.setCurrent(label if self._rows.has(label) else last)

    def current(self) -> int:
        """The label to paint with."""
        return self._rows.label(self._view.currentIndex().row())

    def setCurrent(self, label: int) -> None:
        """Choose the row of a label; one that is not in the table changes nothing."""
        if self._rows.has(label):
            with signals_blocked(self):
                self._view.setCurrentIndex(self._rows.index(self._rows.row(label), NAME))

    def setCounts(self, counts: Sequence[int]) -> None:
        """Show how much is painted: background first, then each class."""
        self._rows.set_counts(counts)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        actions = {
            Qt.Key.Key_F2: self._rename,
            Qt.Key.Key_Space: self._recolour,
            Qt.Key.Key_Delete: self._remove.click,  # does nothing while the button is disabled
        }
        row = self._rows.row_of_key(event.text())
        if event.modifiers() & CHORD:
            super().keyPressEvent(event)
        elif row is not None:
            self._view.pick(row)
        elif event.key() in actions:
            # A key held down must not remove one class after the other.
            if not event.isAutoRepeat():
                actions[event.key()]()
        else:
            super().keyPressEvent(event)

    def _lay_out(self) -> None:
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self._view, 0, 0, 1, 2)
        grid.addWidget(self._balance, 1, 0, 1, 2)
        grid.addWidget(self._add, 2, 0)
        grid.addWidget(self._remove, 2, 1)

    def _connect(self) -> None:
        self._rows.edited.connect(self._on_rows_edited)
        self._rows.refused.connect(self._on_rows_refused)
        self._rows.dataChanged.connect(self._refresh)
        self._rows.modelReset.connect(self._refresh)
        self._view.picked.connect(self._on_view_picked)
        self._view.clicked.connect(self._on_view_clicked)
        self._view.selectionModel().currentRowChanged.connect(self._refresh)
        self._add.clicked.connect(self._on_add_clicked)
        self._remove.clicked.connect(self._on_remove_clicked)

    def _refresh(self) -> None:
        self._balance.set_shares(self._rows.shares())
        _allow(self._add, self._why_not_add(), "Add one more class to tell apart")
        _allow(
            self._remove, self._why_not_remove(), "Remove the chosen class; the later ones move up"
        )

    def _why_not_add(self) -> str | None:
        if len(self.value()) >= MAX_CLASSES:
            return f"There can be no more than {MAX_CLASSES} classes"
        return None

    def _why_not_remove(self) -> str | None:
        if self.current() in FIXED:
            return "Background and Erase are always there"
        if len(self.value()) == 1:
            return "There must be at least one class"
        return None

    def _on_rows_edited(self) -> None:
        self.valueChanged.emit(self.value())

    def _on_rows_refused(self, row: int, reason: str) -> None:
        below = self._view.visualRect(self._rows.index(row, NAME)).bottomLeft()
        QToolTip.showText(self._view.viewport().mapToGlobal(below), reason, self._view)

    def _on_view_picked(self, row: int) -> None:
        self.picked.emit(self._rows.label(row))

    def _on_view_clicked(self, index: QModelIndex) -> None:
        if index.column() == SWATCH:
            self._recolour()

    def _on_add_clicked(self) -> None:
        classes = (*self.value(), one_more(self.value()))
        self._change(classes, len(classes))

    def _on_remove_clicked(self) -> None:
        gone = self.current()
        count, elsewhere = self._rows.count(gone), self.painted_elsewhere()
        if (count or elsewhere) and not self._may_remove(gone, count, elsewhere):
            return
        classes = self.value()[: gone - 1] + self.value()[gone:]
        self._rows.drop_count(gone)
        self.removing.emit(gone)
        self._change(classes, min(gone, len(classes)))

    def _may_remove(self, gone: int, count: int, elsewhere: bool) -> bool:
        """Whether somebody says so."""
        more = ", and perhaps more in images that are not open" if elsewhere else ""
        question = (
            f"{count:,} pixels are painted as '{self.value()[gone - 1].name}'{more}. Remove the "
            "class and what is painted of it? Ctrl+Z does not bring it back."
        )
        answer = QMessageBox.question(self, "Remove the class", question)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _change(self, classes: tuple[SegClass, ...], label: int) -> None:
        self.setValue(classes)
        self.setCurrent(label)
        self.valueChanged.emit(self.value())
        self.picked.emit(self.current())

    def _rename(self) -> None:
        index = self._view.currentIndex().siblingAtColumn(NAME)
        if index.flags() & Qt.ItemFlag.ItemIsEditable:
            self._view.edit(index)

    def _recolour(self) -> None:
        label = self.current()
        if label in FIXED:
            return
        before = self.value()[label - 1]
        color = ask_color(before.color, self)
        if color is not None and color != before.color.lower():
            self._rows.put(label - 1, SegClass(name=before.name, color=color))


def _button(text: str, name: str, parent: QWidget) -> QPushButton:
    button = QPushButton(text, parent)
    button.setObjectName(name)
    return button


def _allow(button: QPushButton, why_not: str | None, what: str) -> None:
    button.setEnabled(why_not is None)
    button.setToolTip(why_not or what)


class _View(QTreeView):
    """The table on screen: one row is always chosen, and it is as tall as its rows."""

    picked = Signal(int)  # the row that was clicked or moved to, again if it was chosen already

    def __init__(self, rows: Rows, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("unet.annotate.classes")
        self.setAccessibleName("Classes")
        self.setModel(rows)
        self.setHeaderHidden(True)
        self.setRootIsDecorated(False)
        self.setIndentation(0)
        self.setUniformRowHeights(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizeAdjustPolicy(QAbstractItemView.SizeAdjustPolicy.AdjustToContents)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        self._set_columns()
        self.selectionModel().currentRowChanged.connect(self._on_row_changed)

    def pick(self, row: int) -> None:
        """Choose a row on behalf of the user."""
        if row == self.currentIndex().row():
            self.picked.emit(row)
        else:
            self.setCurrentIndex(self.model().index(row, NAME))

    def viewportSizeHint(self) -> QSize:
        rows = min(self.model().rowCount(), ROWS_SHOWN)
        return QSize(super().viewportSizeHint().width(), rows * self.sizeHintForRow(0))

    def minimumSizeHint(self) -> QSize:
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())

    def selectionCommand(self, index: QModelIndex, event: QEvent | None = None) -> Any:
        """No click, with Ctrl or beside the rows, leaves the table without a chosen row."""
        flags = self.selectionModel().SelectionFlag
        return flags.ClearAndSelect | flags.Rows if index.isValid() else flags.NoUpdate

    def mousePressEvent(self, event: QMouseEvent) -> None:
        before = self.currentIndex().row()
        super().mousePressEvent(event)
        if self.indexAt(event.pos()).row() == before:
            self.picked.emit(before)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        # All other keys go on to the table and from there to the viewer and its tools.
        if event.key() in NAVIGATION:
            super().keyPressEvent(event)
        else:
            event.ignore()

    def drawRow(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().drawRow(painter, option, index)
        row = QRectF(option.rect)
        row.setWidth(self.header().length())
        ink = self.palette().text().color()
        if index.row() == self.currentIndex().row():
            self._mark(painter, row, ink)
        if index.row() == self.model().rowCount() - len(FIXED):
            ink.setAlphaF(0.25)
            painter.fillRect(QRectF(row.left(), row.top(), row.width(), 1), ink)

    def _mark(self, painter: QPainter, row: QRectF, ink: QColor) -> None:
        painter.fillRect(QRectF(row.left(), row.top(), unit(self) / 4, row.height()), ink)
        if self.hasFocus():
            painter.setPen(ink)
            painter.drawRect(row.adjusted(0.5, 0.5, -0.5, -0.5))

    def _set_columns(self) -> None:
        for column, delegate in enumerate((Swatch, Name, KeyCap, Pixels)):
            self.setItemDelegateForColumn(column, delegate(self))
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)

    def _on_row_changed(self, index: QModelIndex) -> None:
        if index.isValid():
            self.picked.emit(index.row())
