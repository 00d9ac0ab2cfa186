"""Small parts that all docks are made of: named widgets, rows, lists of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from weakref import WeakMethod

from psygnal import SignalInstance
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget

W = TypeVar("W", bound=QWidget)


def named(widget: W, name: str, tip: str = "") -> W:
    """A widget by the name that tests and scripts find it by: unet.<dock>.<what>."""
    widget.setObjectName(f"unet.{name}")
    widget.setToolTip(tip)
    return widget


def push(words: str, name: str, tip: str) -> QPushButton:
    """A button that says what it does."""
    return named(QPushButton(words), name, tip)


def combo(name: str, tip: str, words: Iterable[str] = ()) -> QComboBox:
    """A list to choose from that never makes its dock wider than it must be."""
    box = named(QComboBox(), name, tip)
    leave_the_wheel(box)
    box.addItems(list(words))
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box


class _Wheel(QObject):
    """Scrolls the column, and does not change what the pointer happens to pass."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if event is not None and event.type() == QEvent.Type.Wheel:
            assert isinstance(watched, QWidget)
            if not watched.hasFocus():
                event.ignore()
                return True
        return super().eventFilter(watched, event)


def leave_the_wheel(box: QWidget) -> None:
    """Have a list or a number change by the wheel only once it was clicked."""
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    box.installEventFilter(_Wheel(box))


def text(name: str, words: str = "") -> QLabel:
    """A line of text that wraps, and can be copied."""
    label = named(QLabel(words), name)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)  # names of images and classes may be anything
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


def beside(*widgets: QWidget) -> QHBoxLayout:
    """Widgets in one row."""
    layout = QHBoxLayout()
    for widget in widgets:
        layout.addWidget(widget)
    return layout


def fill(box: QComboBox, choices: list[tuple[str, Any]], current: Any) -> None:
    """Put choices into a list; the present one stays chosen, and it tells if another one is."""
    before = box.currentData()
    box.blockSignals(True)
    box.clear()
    for name, data in choices:
        box.addItem(name, data)
    places = [i for i, (_, data) in enumerate(choices) if data is current]
    box.setCurrentIndex(places[0] if places else min(0, len(choices) - 1))
    box.blockSignals(False)
    if box.currentData() is not before:
        box.currentIndexChanged.emit(box.currentIndex())


def follow(widget: QWidget, signal: SignalInstance, slot: Callable[..., Any]) -> None:
    """Connect a signal that is not Qt's to a method, for as long as a widget is there."""
    # Python may hold the widget on when Qt has deleted it; and we must not hold it on either.
    method = WeakMethod(slot)

    def leave() -> None:
        held = method()
        if held is not None:
            signal.disconnect(held)

    signal.connect(slot)
    widget.destroyed.connect(leave)
