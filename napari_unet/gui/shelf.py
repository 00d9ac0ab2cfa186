"""The models of the library on screen, as a list."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QModelIndex, QPointF, QRect, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QFont,
    QFontMetrics,
    QKeyEvent,
    QPainter,
    QPainterPath,
    QPalette,
    QPixmap,
)
from qtpy.QtWidgets import (
    QAbstractItemView,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_unet.cards import library_folder, list_models, read_preview
from napari_unet.config import SegClass
from napari_unet.gui.about import DICE_TIP, Entry, day, decoded, score
from napari_unet.progress import count

ENTRY = Qt.ItemDataRole.UserRole
PICTURE = ENTRY + 1
ASKED = {Qt.Key.Key_Return: "use", Qt.Key.Key_Enter: "use", Qt.Key.Key_Delete: "delete"}


def entries() -> list[Entry]:
    """The models of the library in the order of their names."""
    found = list_models()
    names = sorted(found, key=lambda name: (name.casefold(), name))
    return [Entry(n, found[n], read_preview(library_folder() / n)) for n in names]


class Shelf(QListWidget):
    """The list: a picture, the name, which can be edited in place, and what it is in a line."""

    asked = Signal(str)  # by a key: use or delete

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("unet.models.list")
        self.setAccessibleName("Models")
        self.setItemDelegate(_Row(self))
        self.setUniformItemSizes(True)
        self.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        asked = ASKED.get(event.key())
        # The Return that ends the typing of a name comes here, too.
        if asked is None or self.is_editing():
            super().keyPressEvent(event)
        else:
            self.asked.emit(asked)

    def current(self) -> Entry | None:
        """The model that is chosen."""
        item = self.currentItem()
        return None if item is None else item.data(ENTRY)

    def put(self, models: Sequence[Entry], name: str | None) -> None:
        """List these models; the one of this name is chosen, or else the nearest below."""
        row, place = max(0, self.currentRow()), self.verticalScrollBar().value()
        with signals_blocked(self):
            self.clear()
            for entry in models:
                self.addItem(self._item(entry))
            names = [entry.name for entry in models]
            self.setCurrentRow(names.index(name) if name in names else min(row, len(names) - 1))
        self.verticalScrollBar().setValue(place)
        self.scrollToItem(self.currentItem())

    def show_matches(self, text: str) -> int:
        """Hide what does not match; one of those that are left is chosen. How many are left."""
        left = []
        for item in map(self.item, range(self.count())):
            item.setHidden(not item.data(ENTRY).matches(text))
            if not item.isHidden():
                left.append(item)
        if self.currentItem() not in left:
            self.setCurrentItem(left[0] if left else None)
        return len(left)

    def is_editing(self) -> bool:
        """Whether a name is being edited."""
        return self.state() == QAbstractItemView.State.EditingState

    def _item(self, entry: Entry) -> QListWidgetItem:
        item = QListWidgetItem(entry.name)
        if not isinstance(entry.card, str):
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
        item.setData(ENTRY, entry)
        item.setData(PICTURE, self._picture(entry))
        item.setToolTip(_tip(entry))
        return item

    def _picture(self, entry: Entry) -> QPixmap:
        """The preview, cut to a square; without one, the colours of the classes."""
        side = 2 * self.fontMetrics().height()
        square = QSize(side, side) * self.devicePixelRatioF()
        image = decoded(entry.preview, square, Qt.AspectRatioMode.KeepAspectRatioByExpanding)
        picture = QPixmap(square)
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        frame = QPainterPath()
        frame.addRoundedRect(QRectF(picture.rect()), square.width() / 10, square.width() / 10)
        painter.setClipPath(frame)
        if image is not None:
            painter.drawImage(picture.rect().center() - image.rect().center(), image)
        elif not isinstance(entry.card, str):
            _paint_stripes(painter, picture.rect(), entry.card.classes)
        painter.end()
        picture.setDevicePixelRatio(self.devicePixelRatioF())
        return picture


def _paint_stripes(painter: QPainter, room: QRect, classes: Sequence[SegClass]) -> None:
    width = room.width() / len(classes)
    for number, one in enumerate(classes):
        stripe = QRectF(number * width, 0, width, room.height())
        painter.fillRect(stripe, QColor(one.color))


class _Row(QStyledItemDelegate):
    """A row of the list: picture, name and score, kind and date."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().initStyleOption(option, index)
        option.text = ""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        line = option.fontMetrics.height()
        return QSize(12 * line, 2 * line + 2 * _gap(option))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().paint(painter, option, index)
        picture: QPixmap = index.data(PICTURE)
        entry: Entry = index.data(ENTRY)
        gap = _gap(option)
        painter.save()
        painter.drawPixmap(option.rect.topLeft() + QPointF(gap, gap).toPoint(), picture)
        upper, lower = self._lines(option)
        ink = option.palette.color(QPalette.ColorRole.Text)
        if isinstance(entry.card, str):
            self._mark_damaged(painter, option, ink)
        dice = score(entry.versions[0]) if entry.versions else ""
        _write(painter, upper, option.font, ink, index.data(), dice)
        ink.setAlphaF(0.75)
        _write(painter, lower, _small(option.font), ink, *_kind(entry))
        painter.restore()

    def _mark_damaged(self, painter: QPainter, option: QStyleOptionViewItem, ink: QColor) -> None:
        gap, side = _gap(option), 2 * option.fontMetrics.height()
        square = QRectF(option.rect.left() + gap, option.rect.top() + gap, side, side)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(ink)
        painter.drawRoundedRect(square.adjusted(1, 1, -1, -1), side / 10, side / 10)
        painter.drawText(square, Qt.AlignmentFlag.AlignCenter, "!")

    def createEditor(
        self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex
    ) -> QWidget:
        editor = QLineEdit(parent)
        editor.setObjectName("unet.models.name")
        editor.setFrame(False)
        ink = parent.palette().color(QPalette.ColorRole.Text).name()
        editor.setStyleSheet(f"min-height: 0; padding: 0 1px; border: 1px solid {ink};")
        return editor

    def updateEditorGeometry(
        self, editor: QWidget, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        upper, _ = self._lines(option)
        editor.setGeometry(upper.adjusted(-2, -3, 0, 1))

    def _lines(self, option: QStyleOptionViewItem) -> tuple[QRect, QRect]:
        """Where the two lines of text are."""
        gap, line = _gap(option), option.fontMetrics.height()
        room = option.rect.adjusted(2 * gap + 2 * line, gap, -gap, -gap)
        upper, lower = QRect(room), QRect(room)
        upper.setHeight(line)
        lower.setTop(upper.bottom() + 1)
        return upper, lower


def _gap(option: QStyleOptionViewItem) -> int:
    return max(3, option.fontMetrics.height() // 3)


def _small(font: QFont) -> QFont:
    small = QFont(font)
    small.setPointSizeF(font.pointSizeF() * 0.9)
    return small


def _write(painter: QPainter, room: QRect, font: QFont, ink: QColor, left: str, right: str) -> None:
    """One line of text, its right part whole, its left part as far as there is room."""
    metrics = QFontMetrics(font)
    middle = Qt.AlignmentFlag.AlignVCenter
    painter.setFont(font)
    painter.setPen(ink)
    painter.drawText(room, middle | Qt.AlignmentFlag.AlignRight, right)
    width = room.width() - metrics.horizontalAdvance(f"{right}  " if right else "")
    shown = metrics.elidedText(left, Qt.TextElideMode.ElideRight, width)
    painter.drawText(room, middle | Qt.AlignmentFlag.AlignLeft, shown)


def _kind(entry: Entry) -> tuple[str, str]:
    """What a model is, and when its newest version was made."""
    if isinstance(entry.card, str):
        return "Damaged, cannot be used", ""
    net = entry.card.net
    counts = count(net.in_channels, "channel"), count(len(entry.card.classes), "class", "es")
    kind = ", ".join((f"{net.ndim}-D", *counts))
    return kind, day(entry.versions[0].created) if entry.versions else ""


def _tip(entry: Entry) -> str:
    if isinstance(entry.card, str):
        return entry.card
    classes = ", ".join(c.name for c in entry.card.classes)
    return f"{entry.name}: {classes}\n{DICE_TIP}"
