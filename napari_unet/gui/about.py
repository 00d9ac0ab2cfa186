"""The card of a model on screen: its picture, what is known of it, and its versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from html import escape

from qtpy.QtCore import QBuffer, QByteArray, QSize, Qt
from qtpy.QtGui import QImage, QImageReader, QPixmap, QResizeEvent
from qtpy.QtWidgets import QComboBox, QFrame, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_unet.cards import Card, Version
from napari_unet.config import SegClass
from napari_unet.progress import count

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
                text = f"Version {version.number}, {score(version)}, {day(version.created)}"
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
        image = decoded(entry.preview, room, Qt.AspectRatioMode.KeepAspectRatio)
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


def decoded(png: bytes | None, room: QSize, fit: Qt.AspectRatioMode) -> QImage | None:
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


def score(version: Version) -> str:
    """How well a version did, in words."""
    return "not judged" if version.dice is None else f"Dice {version.dice:.3f}"


def day(created: str) -> str:
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
        "Network": f"{net.arch}, width {net.width}, depth {net.depth}, grain {net.grain}",
        "Trained on": f"{count(len(card.images), 'image')}, "
        f"{count(sum(card.labelled), 'pixel')} painted",
    }
    if net.pixels:
        facts["Second opinion"] = f"a classifier of pixels has {net.pixels:.0%} of the say"
    if card.spacing and card.unit != "pixel":
        size = " x ".join(f"{s:g}" for s in card.spacing)
        facts["Pixel size"] = escape(f"{size} {card.unit}")
    if version is not None:
        facts["Training"] = f"{count(version.steps, 'step')} in {version.seconds:,.0f} s"
    return facts


def _chip(one: SegClass) -> str:
    return f'<span style="color:{one.color}">■</span>&nbsp;{escape(one.name)}'
