"""The class table: name, colour, key and painted pixels of each class, background and eraser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QEvent, QModelIndex, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QFont,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPalette,
)
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QGridLayout,
    QHeaderView,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QToolTip,
    QTreeView,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_unet.config import (
    BACKGROUND,
    MAX_CLASSES,
    PALETTE,
    UNLABELLED,
    SegClass,
    class_table,
)

SWATCH, NAME, KEY, PIXELS = range(4)  # columns
COLOR = Qt.ItemDataRole.UserRole
FIXED = (BACKGROUND, UNLABELLED)  # the labels of the last two rows
FIXED_NAMES = ("Background", "Erase")
FIXED_KEYS = ("B", "E")
FIXED_TIPS = ("Painted on purpose: here is none of the classes", "Back to not labelled")
BACKGROUND_COLOR = "#b0b0b0"
NONE = "none"
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
        self._locked: str | None = None
        self._rows = _Rows(self)
        self._view = _View(self._rows, self)
        self._balance = _Balance(self)
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

    def setLocked(self, reason: str | None) -> None:
        """Forbid adding and removing, and say why; None allows them again."""
        self._locked = reason
        self._refresh()

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
        return self._locked

    def _why_not_remove(self) -> str | None:
        if self.current() in FIXED:
            return "Background and Erase are always there"
        if len(self.value()) == 1:
            return "There must be at least one class"
        return self._locked

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
        classes = (*self.value(), _one_more(self.value()))
        self._change(classes, len(classes))

    def _on_remove_clicked(self) -> None:
        gone = self.current()
        classes = self.value()[: gone - 1] + self.value()[gone:]
        self._rows.drop_count(gone)
        self.removing.emit(gone)
        self._change(classes, min(gone, len(classes)))

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


def _one_more(classes: tuple[SegClass, ...]) -> SegClass:
    """A class with a name that is free, in the colour of the palette that is used least."""
    used = [c.color.lower() for c in classes]
    number = len(classes) + 1
    while _is_taken(f"class {number}", classes):
        number += 1
    return SegClass(name=f"class {number}", color=min(PALETTE, key=used.count))


def _is_taken(name: str, classes: Sequence[SegClass]) -> bool:
    taken = [*FIXED_NAMES, *(c.name for c in classes)]
    return name.casefold() in {other.casefold() for other in taken}


class _Rows(QAbstractTableModel):
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


class _View(QTreeView):
    """The table on screen: one row is always chosen, and it is as tall as its rows."""

    picked = Signal(int)  # the row that was clicked or moved to, again if it was chosen already

    def __init__(self, rows: _Rows, parent: QWidget) -> None:
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
        painter.fillRect(QRectF(row.left(), row.top(), _unit(self) / 4, row.height()), ink)
        if self.hasFocus():
            painter.setPen(ink)
            painter.drawRect(row.adjusted(0.5, 0.5, -0.5, -0.5))

    def _set_columns(self) -> None:
        for column, delegate in enumerate((_Swatch, _Name, _KeyCap, _Pixels)):
            self.setItemDelegateForColumn(column, delegate(self))
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)

    def _on_row_changed(self, index: QModelIndex) -> None:
        if index.isValid():
            self.picked.emit(index.row())


def _unit(widget: QWidget) -> int:
    """The height of a line of text, by which all is measured."""
    return widget.fontMetrics().height()


class _Cell(QStyledItemDelegate):
    """A cell of a row that is marked as a whole, not where it happens to be current."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().initStyleOption(option, index)
        option.state &= ~QStyle.StateFlag.State_HasFocus


class _Name(_Cell):
    """The name, bold in the chosen row; its editor is no taller than the row."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().initStyleOption(option, index)
        option.font.setBold(_is_chosen(option))

    def createEditor(
        self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex
    ) -> QWidget:
        editor = QLineEdit(parent)
        editor.setFrame(False)
        editor.setStyleSheet("min-height: 0; padding: 0 1px;")
        return editor


class _Drawn(_Cell):
    """A cell with a box drawn in its middle and no text of the usual kind."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().initStyleOption(option, index)
        option.text = ""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        side = option.fontMetrics.height()
        return QSize(side * 2, side + 2 * side // 3)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().paint(painter, option, index)
        side = option.fontMetrics.height()
        box = QRectF(0.5, 0.5, side, side)
        box.moveCenter(QRectF(option.rect).center())
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(_ink(option, 0.5))
        self._draw(painter, box, option, index)
        painter.restore()

    def _draw(
        self, painter: QPainter, box: QRectF, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        raise NotImplementedError


class _Swatch(_Drawn):
    """The colour of a class; the eraser's is empty and crossed out."""

    def _draw(
        self, painter: QPainter, box: QRectF, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        color = index.data(COLOR)
        if color:
            painter.setBrush(QColor(color))
        else:
            painter.drawLine(box.bottomLeft(), box.topRight())
        painter.drawRoundedRect(box, box.width() / 5, box.width() / 5)


class _KeyCap(_Drawn):
    """The key that chooses the row, drawn as a small key."""

    def _draw(
        self, painter: QPainter, box: QRectF, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        if key := index.data():
            painter.drawRoundedRect(box, box.width() / 5, box.width() / 5)
            painter.setPen(_ink(option))
            font = QFont(option.font)
            font.setPixelSize(round(box.height() * 0.7))
            painter.setFont(font)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, key)


class _Pixels(_Cell):
    """How much is painted, to the right; none is faint."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().initStyleOption(option, index)
        option.displayAlignment = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if option.text == NONE:
            option.palette.setColor(QPalette.ColorRole.Text, _ink(option, 0.6))
            option.palette.setColor(QPalette.ColorRole.HighlightedText, _ink(option, 0.6))


def _is_chosen(option: QStyleOptionViewItem) -> bool:
    return bool(option.state & QStyle.StateFlag.State_Selected)


def _ink(option: QStyleOptionViewItem, strength: float = 1.0) -> QColor:
    """The colour of the text in a row, more or less faint."""
    palette = option.palette
    ink = (palette.highlightedText() if _is_chosen(option) else palette.text()).color()
    ink.setAlphaF(strength)
    return ink


class _Balance(QWidget):
    """One bar, divided among the classes and the background as the painted pixels are."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("unet.annotate.balance")
        self.setAccessibleName("Balance of the classes")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._shares: list[tuple[str, str, int]] = []

    def set_shares(self, shares: list[tuple[str, str, int]]) -> None:
        self._shares = [share for share in shares if share[2]]
        self.setToolTip(_percentages(self._shares))
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(_unit(self) * 8, _unit(self) // 2)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        whole = QPainterPath()
        whole.addRoundedRect(QRectF(self.rect()), self.height() / 2, self.height() / 2)
        track = self.palette().windowText().color()
        track.setAlphaF(0.15)
        painter.setClipPath(whole)
        painter.fillRect(self.rect(), track)
        self._draw_shares(painter)

    def _draw_shares(self, painter: QPainter) -> None:
        total = sum(count for _, _, count in self._shares)
        left = 0.0
        for _, color, count in self._shares:
            width = self.width() * count / total
            # A gap parts neighbours whose colours some eyes cannot tell apart.
            shown = width - 1 if width > 3 else width
            painter.fillRect(QRectF(left, 0, shown, self.height()), QColor(color))
            left += width


def _percentages(shares: list[tuple[str, str, int]]) -> str:
    total = sum(count for _, _, count in shares)
    lines = [f"{name}: {_percent(count / total)}" for name, _, count in shares]
    return "\n".join(lines) or "Nothing is painted yet"


def _percent(share: float) -> str:
    return "less than 1%" if share < 0.01 else f"{share:.0%}"
