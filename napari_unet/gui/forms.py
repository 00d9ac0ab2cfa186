"""Forms made from the fields of a config class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, NamedTuple, get_args

import numpy as np
from magicgui.widgets import create_widget
from pydantic.fields import FieldInfo
from qtpy.QtCore import QLocale, QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.config import Frozen
from napari_unet.gui.parts import leave_the_wheel

DEVICES = ("auto", "cpu", "cuda", "mps")
# What None is called in a form, and the number that replaces it when the user takes over.
UNSET: dict[str, tuple[str, float]] = {
    "width": ("auto", 16),
    "depth": ("auto", 3),
    "grain": ("auto", 2),
    "patch": ("auto", 192),
    "seconds": ("no limit", 60),
    "steps": ("no limit", 500),
    "tile": ("auto", 256),
    "head": ("all", 1),
    "min_size": ("specks only", 50),
}
DECIMALS = 12  # of a fraction: more than any setting needs
MOST = {int: 2**53, float: 1e9}  # where a field has no upper bound


class ConfigForm(QWidget):
    """Editors for some fields of a config class, one below the other."""

    valueChanged = Signal(dict)

    def __init__(
        self,
        kind: type[Frozen],
        fields: Sequence[str],
        dock: str,
        labels: Mapping[str, str] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._kind = kind
        self._editors: dict[str, _Editor] = {}
        self._rows = QGridLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setColumnStretch(0, 1)
        self._rows.setColumnStretch(1, 2)
        for name in fields:
            label = (labels or {}).get(name, name.replace("_", " ").capitalize())
            self._add(name, kind.model_fields[name], label, f"unet.{dock}.{name}")
        for box in (*self.findChildren(QAbstractSpinBox), *self.findChildren(QComboBox)):
            leave_the_wheel(box)
        self._last = self.value()

    def value(self) -> dict[str, Any]:
        """The fields of the form and their values, text that is still being typed included."""
        return {name: editor.read() for name, editor in self._editors.items()}

    def setValue(self, config: Frozen | Mapping[str, Any]) -> None:
        """Show the values of a config, or only those named; fields not in the form are ignored."""
        given = config.model_dump() if isinstance(config, Frozen) else config
        named = {name: given[name] for name in self._editors if name in given}
        checked = self._kind(**named)
        before = self._last
        with QSignalBlocker(self):
            for name in named:
                self._editors[name].write(getattr(checked, name))
        self._last = self.value()
        if self._last != before:
            self.valueChanged.emit(self._last)

    def _add(self, name: str, field: FieldInfo, label: str, object_name: str) -> None:
        editor = self._editors[name] = _editor(name, field, label)
        _name(editor.widget, object_name)
        for widget in (editor.widget, *editor.widget.findChildren(QWidget)):
            widget.setToolTip(field.description or "")
        editor.changed.connect(self._on_editor_changed)
        row = self._rows.rowCount()
        if isinstance(editor.widget, QCheckBox):
            self._rows.addWidget(editor.widget, row, 0, 1, 2)
        else:
            self._rows.addWidget(_label(label, editor.widget), row, 0)
            self._rows.addWidget(editor.widget, row, 1)

    def _on_editor_changed(self, *_: object) -> None:
        value = self.value()
        # An editor may speak twice for one edit: at Enter, and again when it loses the focus.
        if value != self._last:
            self._last = value
            self.valueChanged.emit(value)


class Folded(QWidget):
    """Content behind a title with an arrow, hidden at first; its value is whether it is open."""

    valueChanged = Signal(bool)

    def __init__(self, title: str, content: QWidget, name: str, bold: bool = False) -> None:
        super().__init__()
        self.setObjectName(name)
        self._content = content
        self._button = _arrow_button(title, f"{name}.toggle")
        self._button.toggled.connect(self._on_button_toggled)
        font = self._button.font()
        font.setBold(bold)
        self._button.setFont(font)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)
        layout.addWidget(content)
        content.hide()

    def value(self) -> bool:
        return self._button.isChecked()

    def setValue(self, is_open: bool) -> None:
        self._button.setChecked(is_open)

    def _on_button_toggled(self, is_open: bool) -> None:
        self._button.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self._content.setVisible(is_open)
        self.valueChanged.emit(is_open)


class _Editor(NamedTuple):
    """A widget and how to read, write and hear it, whichever library made it."""

    widget: QWidget
    read: Callable[[], Any]
    write: Callable[[Any], None]
    changed: Any


class _Number(QDoubleSpinBox):
    """A whole number or a fraction, without the zeros that say nothing.

    magicgui's own boxes show 1e-3 as 0.0 or as 0.001000, and fail when "-" is left in them.
    """

    def __init__(self, kind: type, lowest: float, highest: float, open_below: bool) -> None:
        super().__init__()
        self._kind = kind
        # The same notation as in every other program text, whatever the system speaks.
        self.setLocale(QLocale.c())
        self.setDecimals(0 if kind is int else DECIMALS)
        self.setRange(10**-DECIMALS if open_below else lowest, highest)
        self.setKeyboardTracking(False)
        if not open_below:
            self.setCorrectionMode(QAbstractSpinBox.CorrectionMode.CorrectToNearestValue)
        # The longest number possible would ask for more room than a column has.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(self.fontMetrics().horizontalAdvance("0") * 10)

    def value(self) -> float:
        self.interpretText()
        return self._kind(super().value())

    def setStep(self, step: float | None) -> None:
        """The step of the arrows; None steps by a tenth of the number's magnitude."""
        if step is None:
            self.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        else:
            self.setSingleStep(step)

    def textFromValue(self, value: float) -> str:
        return np.format_float_positional(value, trim="-")

    def validate(self, text: str | None, position: int) -> Any:
        # Qt would read a comma as a separator of thousands, and 0,5 as 5.
        return super().validate((text or "").replace(",", "."), position)


class _OrNone(QWidget):
    """A number, or a ticked box that leaves it to the program."""

    valueChanged = Signal()

    def __init__(self, number: _Number, word: str, start: float) -> None:
        super().__init__()
        self.number, self.none = number, QCheckBox(word)
        number.setValue(start)
        number.valueChanged.connect(self.valueChanged)
        self.none.toggled.connect(self._on_none_toggled)
        self.none.clicked.connect(self._on_none_clicked)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.none)
        layout.addWidget(number, 1)
        self.setFocusProxy(self.none)
        self._keep_room()

    def value(self) -> float | None:
        return None if self.none.isChecked() else self.number.value()

    def setValue(self, value: float | None) -> None:
        self.none.setChecked(value is None)
        if value is not None:
            self.number.setValue(value)

    def _keep_room(self) -> None:
        """Keep the row as high without the number as with it."""
        policy = self.number.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.number.setSizePolicy(policy)

    def _on_none_toggled(self, is_none: bool) -> None:
        self.number.setVisible(not is_none)
        self.valueChanged.emit()

    def _on_none_clicked(self, is_none: bool) -> None:
        if not is_none:
            self.number.setFocus()
            self.number.selectAll()


class _Suggested(QComboBox):
    """A word that can be chosen or typed; left empty it is the first one."""

    valueChanged = Signal()

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.addItems(list(words))
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.textActivated.connect(self.valueChanged)
        edit = self.lineEdit()
        assert edit is not None
        edit.editingFinished.connect(self._on_edit_finished)

    def value(self) -> str:
        return self.currentText().strip() or self.itemText(0)

    def setValue(self, word: str) -> None:
        self.setCurrentText(word)

    def _on_edit_finished(self) -> None:
        self.setCurrentText(self.value())
        self.valueChanged.emit()


def _editor(name: str, field: FieldInfo, label: str) -> _Editor:
    kind, can_be_none = _kind(field.annotation)
    if kind in (int, float):
        number = _number(kind, field)
        return _spoken_to(_OrNone(number, *UNSET[name]) if can_be_none else number, field.default)
    if kind is str:
        return _spoken_to(_Suggested(DEVICES), field.default)
    text = {"text": label} if kind is bool else {}
    made: Any = create_widget(annotation=kind, value=field.default, name=name, options=text)
    return _Editor(made.native, made.get_value, made.set_value, made.changed)


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type without None, and whether None is allowed."""
    if not isinstance(annotation, UnionType):
        return annotation, False
    kind, _none = get_args(annotation)
    return kind, True


def _number(kind: type, field: FieldInfo) -> _Number:
    bound = {
        sign: getattr(limit, sign)
        for limit in field.metadata
        for sign in ("ge", "gt", "le")
        if hasattr(limit, sign)
    }
    lowest, highest = bound.get("ge", 0), bound.get("le", MOST[kind])
    number = _Number(kind, lowest, highest, "gt" in bound)
    number.setStep(_step(kind, bound, field.default))
    return number


def _step(kind: type, bound: Mapping[str, float], default: float | None) -> float | None:
    """What cannot be below 16 comes in sixteens; fractions that may be 0 in equal steps."""
    if kind is int:
        return bound["ge"] if bound["ge"] > 1 else None
    if "gt" in bound:
        return None
    return 10 ** (math.floor(math.log10(default)) - 1) if default else bound["le"] / 100


def _spoken_to(widget: _Number | _OrNone | _Suggested, value: Any) -> _Editor:
    """An editor of our own, showing a value."""
    widget.setValue(value)
    return _Editor(widget, widget.value, widget.setValue, widget.valueChanged)


def _name(widget: QWidget, object_name: str) -> None:
    widget.setObjectName(object_name)
    if isinstance(widget, _OrNone):
        widget.number.setObjectName(f"{object_name}.number")
        widget.none.setObjectName(f"{object_name}.none")


def _label(text: str, editor: QWidget) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    label.setBuddy(editor)
    label.setToolTip(editor.toolTip())
    editor.setAccessibleName(text)
    return label


def _arrow_button(title: str, name: str) -> QToolButton:
    button = QToolButton()
    button.setObjectName(name)
    button.setText(title)
    button.setCheckable(True)
    button.setAutoRaise(True)
    button.setArrowType(Qt.ArrowType.RightArrow)
    button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
    return button
