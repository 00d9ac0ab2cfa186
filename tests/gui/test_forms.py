"""Forms: what is entered is what is read, within the bounds of the config, said once."""

from __future__ import annotations

import pytest

from napari_unet.config import PredictConfig, TrainConfig

pytestmark = pytest.mark.gui

# Every field of both configs with a value that is not its default.
CHANGED = {
    TrainConfig: {
        "arch": "nested",
        "width": 48,
        "depth": 2,
        "attention": True,
        "residual": True,
        "grain": 2,
        "seconds": 90.5,
        "steps": 12345,
        "batch": 7,
        "patch": 99,
        "rate": 1e-4,
        "decay": 3e-7,
        "augment": 0.25,
        "loss": "dice",
        "balance": True,
        "second_opinion": False,
        "border": 12.5,
        "holdout": 0.35,
        "patience": 1000,
        "seed": 2**40 + 1,
        "device": "cuda:1",
        "precision": "bfloat16",
    },
    PredictConfig: {
        "tile": 333,
        "head": 2,
        "flips": True,
        "probabilities": True,
        "uncertainty": True,
        "device": "mps",
        "precision": "float16",
    },
}
FIELDS = [(kind, name) for kind, values in CHANGED.items() for name in values]
CAN_BE_NONE = [(kind, name) for kind, name in FIELDS if kind.model_fields[name].default is None]


@pytest.fixture
def make_form(qtbot):
    """A form in a window, shown."""
    from napari_unet.gui.forms import ConfigForm

    def make(kind, *fields: str, labels: dict[str, str] | None = None):
        form = ConfigForm(kind, fields, "test", labels)
        qtbot.addWidget(form)
        form.show()
        qtbot.waitExposed(form)
        return form

    return make


@pytest.fixture
def type_into(qtbot):
    """Replace what stands in a box by typing, then press Enter."""
    from qtpy.QtCore import Qt

    def type_(box, text: str) -> None:
        box.setFocus()
        box.lineEdit().selectAll()
        qtbot.keyClicks(box.lineEdit(), text)
        qtbot.keyClick(box.lineEdit(), Qt.Key.Key_Return)

    return type_


def _editor(form, field: str):
    from qtpy.QtWidgets import QWidget

    return form.findChild(QWidget, f"unet.test.{field}")


def test_no_field_is_forgotten_here():
    assert set(CHANGED[TrainConfig]) == set(TrainConfig.model_fields)
    assert set(CHANGED[PredictConfig]) == set(PredictConfig.model_fields) - {"focus"}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_new_form_shows_the_defaults(make_form, kind):
    form = make_form(kind, *CHANGED[kind])

    assert kind(**form.value()) == kind()


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_value_survives_the_form(make_form, kind, name):
    form = make_form(kind, name)
    value = CHANGED[kind][name]

    form.setValue({name: value})

    assert form.value() == {name: value}
    assert type(form.value()[name]) is type(value)


@pytest.mark.parametrize("kind", CHANGED)
def test_a_whole_config_survives_the_form(make_form, kind):
    form = make_form(kind, *CHANGED[kind])
    config = kind(**CHANGED[kind])

    form.setValue(config)

    assert kind().model_copy(update=form.value()) == config


@pytest.mark.parametrize(("kind", "name"), CAN_BE_NONE)
def test_none_survives_the_form(make_form, kind, name):
    form = make_form(kind, name)
    form.setValue({name: CHANGED[kind][name]})

    form.setValue({name: None})

    assert form.value() == {name: None}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.02, "0.02"), (0.01, "0.01"), (1e-4, "0.0001"), (1e-3, "0.001"), (3e-7, "0.0000003")],
)
def test_small_fractions_are_readable(make_form, value, text):
    form = make_form(TrainConfig, "rate")

    form.setValue({"rate": value})

    assert _editor(form, "rate").text() == text


def test_whole_numbers_have_no_fraction(make_form):
    form = make_form(TrainConfig, "batch", "augment")

    assert _editor(form, "batch").text() == "4"
    assert _editor(form, "augment").text() == "1"


def test_only_the_named_fields_are_read_and_written(make_form):
    form = make_form(TrainConfig, "rate", "batch")

    form.setValue({"batch": 9, "patch": 64})

    assert form.value() == {"rate": 0.02, "batch": 9}


def test_what_the_config_refuses_is_refused(make_form):
    form = make_form(TrainConfig, "rate", "batch")

    with pytest.raises(ValueError, match="rate"):
        form.setValue({"batch": 9, "rate": 5.0})

    assert form.value() == {"rate": 0.02, "batch": 4}


@pytest.mark.parametrize("kind", CHANGED)
def test_tooltips_are_the_descriptions(make_form, kind):
    form = make_form(kind, *CHANGED[kind])

    for name in CHANGED[kind]:
        assert _editor(form, name).toolTip() == kind.model_fields[name].description


@pytest.mark.parametrize(("kind", "name"), CAN_BE_NONE)
def test_both_parts_of_an_editor_have_names_and_tooltips(make_form, kind, name):
    form = make_form(kind, name)

    for part in ("number", "none"):
        assert _editor(form, f"{name}.{part}").toolTip() == kind.model_fields[name].description


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("batch", "0", 1),  # too small: the nearest that is allowed
        ("batch", "99999", 999),  # too large: digits too many are not taken
        ("batch", "-3", 3),
        ("rate", "5", 0.02),
        ("rate", "0", 0.02),  # nothing is nearest to what must be above 0
        ("holdout", "0.9", 0.0),
        ("batch", "", 4),
        ("batch", "2.5", 2),
    ],
)
def test_what_is_out_of_bounds_cannot_be_entered(make_form, type_into, name, typed, value):
    form = make_form(TrainConfig, name)

    type_into(_editor(form, name), typed)

    assert form.value() == {name: value}
    assert TrainConfig(**form.value())


@pytest.mark.parametrize("typed", ["0.0005", "0,0005", ".0005"])
def test_a_fraction_may_be_typed_with_point_or_comma(make_form, type_into, typed):
    form = make_form(TrainConfig, "rate")

    type_into(_editor(form, "rate"), typed)

    assert form.value() == {"rate": 0.0005}
    assert _editor(form, "rate").text() == "0.0005"


@pytest.mark.parametrize(
    ("name", "value", "up", "down"),
    [
        ("patch.number", 128, 144, 112),
        ("rate", 0.02, 0.021, 0.019),
        ("rate", 1e-4, 1.1e-4, 9.9e-5),
        ("border", 0.0, 0.5, 0.0),
        ("holdout", 0.2, 0.21, 0.19),
        ("augment", 1.0, 1.1, 0.9),
        ("batch", 1, 2, 1),
        ("patience", 600, 610, 590),
    ],
)
def test_arrows_step_sensibly_within_the_bounds(make_form, qtbot, name, value, up, down):
    from qtpy.QtCore import Qt

    field = name.partition(".")[0]
    for key, expected in ((Qt.Key.Key_Up, up), (Qt.Key.Key_Down, down)):
        form = make_form(TrainConfig, field)
        form.setValue({field: value})

        qtbot.keyClick(_editor(form, name), key)

        assert form.value()[field] == pytest.approx(expected, rel=1e-9)


def test_typing_a_number_is_said_once(make_form, qtbot, type_into):
    form = make_form(TrainConfig, "rate", "batch")
    said = []
    form.valueChanged.connect(said.append)

    type_into(_editor(form, "batch"), "123")
    _editor(form, "rate").setFocus()

    assert said == [{"rate": 0.02, "batch": 123}]


def test_typing_the_same_number_is_not_said(make_form, type_into):
    form = make_form(TrainConfig, "batch")
    said = []
    form.valueChanged.connect(said.append)

    type_into(_editor(form, "batch"), "4")

    assert said == []


def test_a_number_still_being_typed_is_read(make_form, qtbot):
    form = make_form(TrainConfig, "batch")
    said = []
    form.valueChanged.connect(said.append)
    box = _editor(form, "batch")
    box.lineEdit().selectAll()
    qtbot.keyClicks(box.lineEdit(), "77")

    assert form.value() == {"batch": 77}
    assert said == [{"batch": 77}]


def test_ticking_a_box_is_said_once(make_form, qtbot):
    from qtpy.QtCore import Qt

    form = make_form(TrainConfig, "balance")
    said = []
    form.valueChanged.connect(said.append)

    qtbot.keyClick(_editor(form, "balance"), Qt.Key.Key_Space)

    assert said == [{"balance": True}]


def test_choosing_from_a_list_is_said_once(make_form, qtbot):
    form = make_form(TrainConfig, "loss")
    said = []
    form.valueChanged.connect(said.append)

    qtbot.keyClicks(_editor(form, "loss"), "d")

    assert said == [{"loss": "dice"}]


def test_a_list_offers_what_the_config_allows(make_form):
    form = make_form(TrainConfig, "loss")
    box = _editor(form, "loss")

    assert [box.itemText(i) for i in range(box.count())] == ["both", "cross-entropy", "dice"]


def test_taking_over_an_automatic_number_is_said_once_and_ready_to_type(make_form, qtbot):
    from qtpy.QtCore import Qt

    form = make_form(PredictConfig, "tile")
    number, none = _editor(form, "tile.number"), _editor(form, "tile.none")
    none.setFocus()
    said = []
    form.valueChanged.connect(said.append)

    qtbot.keyClick(none, Qt.Key.Key_Space)
    taken_over = list(said)
    qtbot.keyClicks(number.lineEdit(), "512")
    qtbot.keyClick(number.lineEdit(), Qt.Key.Key_Return)

    assert len(taken_over) == 1
    assert taken_over[0]["tile"] >= 16
    assert said[1:] == [{"tile": 512}]


def test_giving_a_number_back_is_said_once_and_the_number_is_kept(make_form, qtbot):
    from qtpy.QtCore import Qt

    form = make_form(PredictConfig, "tile")
    form.setValue({"tile": 512})
    number, none = _editor(form, "tile.number"), _editor(form, "tile.none")
    said = []
    form.valueChanged.connect(said.append)

    qtbot.keyClick(none, Qt.Key.Key_Space)
    hidden = not number.isVisible()
    qtbot.keyClick(none, Qt.Key.Key_Space)

    assert hidden
    assert said == [{"tile": None}, {"tile": 512}]


def test_tab_goes_from_automatic_to_its_number(make_form, qtbot):
    from qtpy.QtCore import Qt

    form = make_form(PredictConfig, "tile", "head")
    form.setValue({"tile": 512})
    _editor(form, "tile.none").setFocus()

    qtbot.keyClick(_editor(form, "tile.none"), Qt.Key.Key_Tab)

    assert form.focusWidget() is _editor(form, "tile.number")


def test_a_row_is_as_high_without_the_number(make_form):
    form = make_form(PredictConfig, "tile")
    before = form.sizeHint().height()

    form.setValue({"tile": 512})

    assert form.sizeHint().height() == before


def test_devices_are_offered_and_others_can_be_typed(make_form, type_into):
    form = make_form(TrainConfig, "device", "seed")
    box = _editor(form, "device")
    said = []
    form.valueChanged.connect(said.append)

    type_into(box, "cuda:1")
    _editor(form, "seed").setFocus()

    assert [box.itemText(i) for i in range(box.count())] == ["auto", "cpu", "cuda", "mps"]
    assert said == [{"device": "cuda:1", "seed": 0}]


def test_choosing_a_device_is_said_once(make_form, qtbot):
    from qtpy.QtCore import Qt

    form = make_form(TrainConfig, "device")
    box = _editor(form, "device")
    box.setFocus()
    said = []
    form.valueChanged.connect(said.append)

    qtbot.keyClick(box, Qt.Key.Key_Down)
    qtbot.keyClick(box, Qt.Key.Key_Return)

    assert said == [{"device": "cpu"}]


def test_no_device_is_the_automatic_one(make_form, qtbot, type_into):
    from qtpy.QtCore import Qt

    form = make_form(TrainConfig, "device")
    box = _editor(form, "device")
    type_into(box, "cpu")
    box.lineEdit().selectAll()

    qtbot.keyClick(box.lineEdit(), Qt.Key.Key_Delete)
    qtbot.keyClick(box.lineEdit(), Qt.Key.Key_Return)

    assert form.value() == {"device": "auto"}
    assert box.currentText() == "auto"


def test_setting_several_values_is_said_once(make_form):
    form = make_form(TrainConfig, "rate", "batch", "loss", "seconds", "device")
    said = []
    form.valueChanged.connect(said.append)
    wanted = {"rate": 0.1, "batch": 2, "loss": "dice", "seconds": 5.0, "device": "cpu"}

    form.setValue(wanted)
    form.setValue(wanted)

    assert said == [wanted]


@pytest.mark.parametrize("name", ["batch", "loss", "device"])
def test_scrolling_past_a_box_changes_nothing(make_form, name):
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    form = make_form(TrainConfig, "seed", name)
    _editor(form, "seed").setFocus()
    box = _editor(form, name)
    before = form.value()
    at = QPointF(box.rect().center())
    event = QWheelEvent(
        at,
        QPointF(box.mapToGlobal(box.rect().center())),
        QPoint(),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )

    QApplication.sendEvent(box, event)

    assert form.value() == before
    assert not event.isAccepted()


def test_labels_are_the_given_words_or_the_names(make_form):
    from qtpy.QtWidgets import QLabel

    form = make_form(TrainConfig, "rate", "batch", "balance", labels={"rate": "Learning rate"})

    assert [label.text() for label in form.findChildren(QLabel)] == ["Learning rate", "Batch"]
    assert [label.buddy() for label in form.findChildren(QLabel)] == [
        _editor(form, "rate"),
        _editor(form, "batch"),
    ]
    assert _editor(form, "balance").text() == "Balance"


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_largest_form_fits_a_narrow_column(make_form, theme):
    from napari.qt import get_stylesheet

    form = make_form(TrainConfig, *CHANGED[TrainConfig])
    form.setStyleSheet(get_stylesheet(theme))
    form.setValue(CHANGED[TrainConfig])

    assert form.sizeHint().width() <= 300


@pytest.fixture
def folded(qtbot):
    from qtpy.QtWidgets import QLabel

    from napari_unet.gui.forms import Folded

    widget = Folded("Advanced", QLabel("content"), "unet.test.advanced")
    qtbot.addWidget(widget)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


def test_folded_content_is_hidden_at_first(folded):
    from qtpy.QtWidgets import QLabel

    assert folded.value() is False
    assert not folded.findChild(QLabel).isVisible()


def test_a_click_opens_and_closes_what_is_folded(folded, qtbot):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QLabel, QToolButton

    button = folded.findChild(QToolButton, "unet.test.advanced.toggle")
    content = folded.findChild(QLabel)
    said = []
    folded.valueChanged.connect(said.append)

    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    opened = content.isVisible(), button.arrowType()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    closed = content.isVisible(), button.arrowType()

    assert opened == (True, Qt.ArrowType.DownArrow)
    assert closed == (False, Qt.ArrowType.RightArrow)
    assert said == [True, False]


def test_what_is_folded_can_be_opened_by_the_program(folded):
    from qtpy.QtWidgets import QLabel

    folded.setValue(True)

    assert folded.value() is True
    assert folded.findChild(QLabel).isVisible()
