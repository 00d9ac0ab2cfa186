"""The models of the library on screen: a list of them, and the card of the one that is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from qtpy.QtCore import QBuffer, QByteArray, QModelIndex, QPointF, QRect, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QFont,
    QFontMetrics,
    QImage,
    QImageReader,
    QKeyEvent,
    QPainter,
    QPainterPath,
    QPalette,
    QPixmap,
    QResizeEvent,
)
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFrame,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QScrollArea,
    QSizePolicy,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_unet.cards import Card, Version, library_folder, list_models, read_preview
from napari_unet.config import SegClass

ENTRY = Qt.ItemDataRole.UserRole
PICTURE = ENTRY + 1
ASKED = {Qt.Key.Key_Return: "use", Qt.Key.Key_Enter: "use", Qt.Key.Key_Delete: "delete"}
LARGEST_EDGE = 4096  # of a preview that is drawn: a small PNG can unpack to gigabytes
DICE_TIP = "Dice: agreement with annotation that was kept aside, from 0 to 1 (perfect)"
LINES = 7  # of text, as high as which the preview over the card may be


@dataclass(frozen=True)
class Entry:
    """A model of the library: its card, or why that cannot be read."""

    name: str
    card: Card | str
    preview: bytes | None

    @property
    def versions(self) -> tuple[Version, ...]:
        """The newest first."""
        return () if isinstance(self.card, str) else self.card.versions[::-1]

    def matches(self, text: str) -> bool:
        """Whether a text is in its name or in that of a class."""
        classes = () if isinstance(self.card, str) else self.card.classes
        return any(text.casefold() in w.casefold() for w in (self.name, *(c.name for c in classes)))


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
        image = _decoded(entry.preview, square, Qt.AspectRatioMode.KeepAspectRatioByExpanding)
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


def _decoded(png: bytes | None, room: QSize, fit: Qt.AspectRatioMode) -> QImage | None:
    """A PNG picture, scaled to a room; None if there is none or it is damaged."""
    if png is None:
        return None
    buffer = QBuffer()
    buffer.setData(QByteArray(png))
    reader = QImageReader(buffer, QByteArray(b"png"))
    size = reader.size()
    if not size.isValid() or max(size.width(), size.height()) > LARGEST_EDGE:
        return None
    image = reader.read()
    smooth = Qt.TransformationMode.SmoothTransformation
    return None if image.isNull() else image.scaled(room, fit, smooth)


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
        score = _score(entry.versions[0]) if entry.versions else ""
        _write(painter, upper, option.font, ink, index.data(), score)
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


# --- in words ---


def _kind(entry: Entry) -> tuple[str, str]:
    """What a model is, and when its newest version was made."""
    if isinstance(entry.card, str):
        return "Damaged, cannot be used", ""
    net = entry.card.net
    counts = _count(net.in_channels, "channel"), _count(net.n_classes, "class", "es")
    kind = ", ".join((f"{net.ndim}-D", *counts))
    return kind, _day(entry.versions[0].created) if entry.versions else ""


def _tip(entry: Entry) -> str:
    if isinstance(entry.card, str):
        return entry.card
    classes = ", ".join(c.name for c in entry.card.classes)
    return f"{entry.name}: {classes}\n{DICE_TIP}"


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number:,} {what}{'' if number == 1 else plural}"


def _score(version: Version) -> str:
    return "not judged" if version.dice is None else f"Dice {version.dice:.3f}"


def _day(created: str) -> str:
    """The day of a time on a card, as it was here; cards of others may say anything."""
    try:
        time = datetime.fromisoformat(created).astimezone()
    except (ValueError, OverflowError, OSError):
        return "unknown date"
    return f"{time.day} {time:%b %Y}"


def _facts(card: Card, version: Version | None) -> dict[str, str]:
    """What the card says of a version, each in HTML."""
    net = card.net
    facts = {
        "Classes": ", ".join(_chip(c) for c in card.classes),
        "Network": f"{net.arch}, width {net.width}, depth {net.depth}",
        "Trained on": f"{_count(len(card.images), 'image')}, "
        f"{_count(sum(card.labelled), 'pixel')} painted",
    }
    if card.spacing and card.unit != "pixel":
        size = " x ".join(f"{s:g}" for s in card.spacing)
        facts["Pixel size"] = escape(f"{size} {card.unit}")
    if version is not None:
        facts["Training"] = f"{_count(version.steps, 'step')} in {version.seconds:,.0f} s"
    return facts


def _chip(one: SegClass) -> str:
    return f'<span style="color:{one.color}">■</span>&nbsp;{escape(one.name)}'


# --- the card ---


class _Scroll(QScrollArea):
    """As tall as what is in it, if there is room."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def sizeHint(self) -> QSize:
        frame = self.size() - self.contentsRect().size()
        height = self.widget().heightForWidth(self.width() - frame.width())
        return QSize(0, height + frame.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()


class About(QFrame):
    """What is known of one model, and which of its versions is to be used."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._entry: Entry | None = None
        self._picture = QLabel(self)
        self._picture.setObjectName("unet.models.preview")
        self._picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._text = QLabel(self)
        self._text.setObjectName("unet.models.card")
        self._text.setWordWrap(True)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._text.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self._versions = QComboBox(self)
        self._versions.setObjectName("unet.models.version")
        self._versions.setToolTip(f"Which version of the model to use or export\n{DICE_TIP}")
        self._versions.currentIndexChanged.connect(self._show_version)
        self._lay_out()

    def version(self) -> int | None:
        """The number of the version that is chosen; None for a model that has none."""
        number: int | None = self._versions.currentData()
        return number

    def put(self, entry: Entry | None) -> None:
        """Show a model; of the same as before, the version that is chosen stays so."""
        same = entry and self._entry and entry.name == self._entry.name
        number = self.version() if same else None
        self._entry = entry
        self.setVisible(entry is not None)
        if entry is None:
            return
        with signals_blocked(self._versions):
            self._versions.clear()
            for version in entry.versions:
                text = f"Version {version.number}, {_score(version)}, {_day(version.created)}"
                self._versions.addItem(text, version.number)
            self._versions.setCurrentIndex(max(0, self._versions.findData(number)))
        self._versions.setVisible(bool(entry.versions))
        self._show_picture(entry)
        self._show_version()

    def _lay_out(self) -> None:
        inside = QWidget(self)
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._picture)
        column.addWidget(self._text, 1)
        scroll = _Scroll(self)
        scroll.setWidget(inside)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(scroll)
        whole.addWidget(self._versions)
        self._versions.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def _show_picture(self, entry: Entry) -> None:
        line, dots = self.fontMetrics().height(), self.devicePixelRatioF()
        room = QSize(2 * LINES * line, LINES * line) * dots
        image = _decoded(entry.preview, room, Qt.AspectRatioMode.KeepAspectRatio)
        self._picture.setVisible(image is not None)
        if image is not None:
            image.setDevicePixelRatio(dots)
            self._picture.setPixmap(QPixmap.fromImage(image))

    def _show_version(self) -> None:
        if self._entry is None or isinstance(self._entry.card, str):
            reason = "" if self._entry is None else str(self._entry.card)
            self._text.setTextFormat(Qt.TextFormat.PlainText)
            self._text.setText(reason)
            return
        chosen = {v.number: v for v in self._entry.versions}.get(self.version() or 0)
        rows = (
            f'<tr><td style="padding-right: 8px">{what}</td><td>{said}</td></tr>'
            for what, said in _facts(self._entry.card, chosen).items()
        )
        self._text.setTextFormat(Qt.TextFormat.RichText)
        title = f"<b>{escape(self._entry.name)}</b>"  # whole, unlike in the list
        self._text.setText(f'{title}<table cellspacing="2">{"".join(rows)}</table>')
