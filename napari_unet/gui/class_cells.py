"""How the cells of the class table are drawn, and the bar that shows the balance of the classes."""

from __future__ import annotations

from qtpy.QtCore import QModelIndex, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter, QPainterPath, QPaintEvent, QPalette
from qtpy.QtWidgets import (
    QLineEdit,
    QSizePolicy,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from napari_unet.gui.class_rows import COLOR, NONE


def unit(widget: QWidget) -> int:
    """The height of a line of text, by which all is measured."""
    return widget.fontMetrics().height()


class _Cell(QStyledItemDelegate):
    """A cell of a row that is marked as a whole, not where it happens to be current."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().initStyleOption(option, index)
        option.state &= ~QStyle.StateFlag.State_HasFocus


class Name(_Cell):
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


class Swatch(_Drawn):
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


class KeyCap(_Drawn):
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


class Pixels(_Cell):
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


class Balance(QWidget):
    """One bar, divided among the classes and the background as the painted pixels are."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("unet.annotate.balance")
        self.setAccessibleName("Balance of the classes")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._shares: list[tuple[str, str, int]] = []

    def set_shares(self, shares: list[tuple[str, str, int]]) -> None:
        """Show these: name, colour and painted pixels of each."""
        self._shares = [share for share in shares if share[2]]
        self.setToolTip(_percentages(self._shares))
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(unit(self) * 8, unit(self) // 2)

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
