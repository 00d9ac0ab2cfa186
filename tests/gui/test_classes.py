"""The palette of classes: what is picked to paint, how classes are edited, how much is painted."""

from __future__ import annotations

import pytest

from napari_unet.config import (
    BACKGROUND,
    MAX_CLASSES,
    PALETTE,
    UNLABELLED,
    SegClass,
    class_table,
)

pytestmark = pytest.mark.gui

CLASSES = class_table(["cell", "nucleus", "membrane"])
SWATCH, NAME, KEY, PIXELS = range(4)


class Palette:
    """The widget as a user sees it, and what it says."""

    def __init__(self, qtbot):
        from napari_unet.gui.classes import ClassTable

        self.qtbot = qtbot
        self.widget = ClassTable()
        qtbot.addWidget(self.widget)
        self.widget.resize(300, 400)
        self.widget.setValue(CLASSES)
        self.heard = []
        for name in ("valueChanged", "picked", "removing"):
            getattr(self.widget, name).connect(self._listener(name))

    def _listener(self, name):
        return lambda value: self.heard.append((name, value))

    def child(self, name):
        from qtpy.QtWidgets import QWidget

        return self.widget.findChild(QWidget, f"unet.annotate.{name}")

    @property
    def table(self):
        return self.child("classes")

    def index(self, row, column):
        return self.table.model().index(row, column)

    def text(self, row, column):
        return self.index(row, column).data()

    def column(self, column):
        return [self.text(row, column) for row in range(self.table.model().rowCount())]

    def place(self, row, column):
        return self.table.visualRect(self.index(row, column)).center()

    def click(self, row, column=NAME, **how):
        from qtpy.QtCore import Qt

        place = self.place(row, column)
        self.qtbot.mouseClick(self.table.viewport(), Qt.MouseButton.LeftButton, pos=place, **how)

    def double_click(self, row, column=NAME):
        from qtpy.QtCore import Qt

        where, left = self.table.viewport(), Qt.MouseButton.LeftButton
        self.qtbot.mouseClick(where, left, pos=self.place(row, column))
        self.qtbot.mouseDClick(where, left, pos=self.place(row, column))

    def press(self, name):
        from qtpy.QtCore import Qt

        self.qtbot.keyClick(self.table, getattr(Qt.Key, f"Key_{name}"))

    def push(self, button):
        from qtpy.QtCore import Qt

        self.qtbot.mouseClick(self.child(button), Qt.MouseButton.LeftButton)

    @property
    def editor(self):
        from qtpy.QtWidgets import QLineEdit

        return self.table.findChild(QLineEdit)

    def write(self, name):
        """Replace the name in the editor that is open, and confirm."""
        from qtpy.QtCore import Qt

        self.editor.selectAll()
        self.qtbot.keyClicks(self.editor, name or "x")
        if not name:
            self.qtbot.keyClick(self.editor, Qt.Key.Key_Backspace)
        self.qtbot.keyClick(self.editor, Qt.Key.Key_Return)
        self.qtbot.waitUntil(lambda: self.editor is None)

    def names(self):
        return [c.name for c in self.widget.value()]

    def said(self, name):
        return [value for heard, value in self.heard if heard == name]


@pytest.fixture
def palette(qtbot):
    palette = Palette(qtbot)
    with qtbot.waitExposed(palette.widget):
        palette.widget.show()
    return palette


def test_gives_back_the_classes_it_was_given(palette):
    classes = (SegClass(name="a", color="#123456"), SegClass(name="b", color="#ABCDEF"))

    palette.widget.setValue(list(classes))

    assert palette.widget.value() == classes
    assert palette.column(NAME) == ["a", "b", "Background", "Erase"]


def test_a_program_may_change_everything_without_a_signal(palette):
    palette.widget.setValue(class_table(5))
    palette.widget.setCurrent(4)
    palette.widget.setCounts([1, 2, 3])
    palette.widget.setValue(class_table(2))

    assert palette.heard == []


def test_the_chosen_row_stays_when_the_classes_change(palette):
    palette.widget.setCurrent(UNLABELLED)
    palette.widget.setValue(class_table(5))
    kept = palette.widget.current()
    palette.widget.setCurrent(5)
    palette.widget.setValue(CLASSES)

    assert kept == UNLABELLED
    assert palette.widget.current() == 3  # the last one that is left


def test_a_label_that_is_not_in_the_table_cannot_be_chosen(palette):
    palette.widget.setCurrent(2)

    palette.widget.setCurrent(4)

    assert palette.widget.current() == 2


@pytest.mark.parametrize(("row", "label"), [(1, 2), (2, 3), (3, BACKGROUND), (4, UNLABELLED)])
@pytest.mark.parametrize("column", [NAME, KEY, PIXELS])
def test_a_click_picks_what_to_paint(palette, row, label, column):
    palette.click(row, column)

    assert palette.heard == [("picked", label)]
    assert palette.widget.current() == label


def test_a_click_on_the_chosen_row_picks_it_again(palette):
    palette.click(1)
    palette.click(1)

    assert palette.said("picked") == [2, 2]


def test_no_click_leaves_the_table_without_a_chosen_row(palette):
    from qtpy.QtCore import Qt

    palette.click(0, modifier=Qt.KeyboardModifier.ControlModifier)

    assert [index.row() for index in palette.table.selectionModel().selectedRows()] == [0]


@pytest.mark.parametrize(
    ("key", "label"), [("2", 2), ("3", 3), ("B", BACKGROUND), ("E", UNLABELLED), ("1", 1)]
)
def test_a_key_picks_what_to_paint(palette, key, label):
    palette.press(key)

    assert palette.heard == [("picked", label)]
    assert palette.widget.current() == label


@pytest.mark.parametrize("key", ["4", "0", "X"])
def test_other_keys_pick_nothing_and_go_on_to_the_viewer(palette, qtbot, key):
    from qtpy.QtWidgets import QWidget

    class Viewer(QWidget):
        def keyPressEvent(self, event):
            keys.append(event.text())

    keys = []
    viewer = Viewer()
    qtbot.addWidget(viewer)
    palette.widget.setParent(viewer)
    palette.press(key)
    palette.widget.setParent(None)  # each of the two is closed by itself

    assert palette.heard == []
    assert keys == [key.lower()]


def test_a_letter_of_a_shortcut_picks_nothing(palette):
    from qtpy.QtCore import Qt

    palette.qtbot.keyClick(palette.table, Qt.Key.Key_E, Qt.KeyboardModifier.AltModifier)

    assert palette.heard == []


def test_arrows_move_through_all_rows(palette):
    for key in ("Down", "Down", "Down", "Down", "Down", "Up", "Home"):
        palette.press(key)

    assert palette.said("picked") == [2, 3, BACKGROUND, UNLABELLED, BACKGROUND, 1]


def test_keys_are_shown_for_the_first_nine_classes(palette):
    palette.widget.setValue(class_table(11))

    assert palette.column(KEY) == [*"123456789", "", "", "B", "E"]


@pytest.mark.parametrize("how", ["double click", "F2"])
def test_a_class_is_renamed_in_place(palette, how):
    if how == "F2":
        palette.widget.setCurrent(2)
        palette.press("F2")
    else:
        palette.double_click(1)
    palette.write("  cell 1 B ")

    assert palette.names() == ["cell", "cell 1 B", "membrane"]
    assert palette.said("valueChanged") == [palette.widget.value()]
    assert palette.widget.value()[1].color == CLASSES[1].color
    assert palette.widget.current() == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "A class needs a name"),
        ("   ", "A class needs a name"),
        ("cell", "The name cell is already in use"),
        ("CELL", "The name CELL is already in use"),
        ("background", "The name background is already in use"),
    ],
)
def test_an_empty_or_duplicate_name_is_refused_and_says_why(palette, name, reason):
    from qtpy.QtWidgets import QToolTip

    palette.double_click(1)
    palette.write(name)

    assert palette.widget.value() == CLASSES
    assert palette.text(1, NAME) == "nucleus"
    assert palette.said("valueChanged") == []
    assert QToolTip.text() == reason


def test_a_name_may_change_its_capitals(palette):
    palette.double_click(1)
    palette.write("Nucleus")

    assert palette.names() == ["cell", "Nucleus", "membrane"]


def test_a_name_confirmed_as_it_was_is_no_change(palette):
    palette.double_click(1)
    palette.write("nucleus")

    assert palette.said("valueChanged") == []


@pytest.mark.parametrize("label", [BACKGROUND, UNLABELLED])
def test_background_and_eraser_are_not_edited(palette, asked, label):
    row = {BACKGROUND: 3, UNLABELLED: 4}[label]

    palette.double_click(row)
    palette.press("F2")
    palette.click(row, SWATCH)
    palette.press("Delete")

    assert palette.editor is None
    assert asked == []
    assert palette.widget.value() == CLASSES


@pytest.fixture
def asked(monkeypatch):
    """The colours that the user was asked to replace; the answer is "#102030"."""
    from napari_unet.gui import classes

    starts = []

    def answer(start, parent):
        starts.append(start)
        return "#102030"

    monkeypatch.setattr(classes, "ask_color", answer)
    return starts


@pytest.mark.parametrize("how", ["click", "space"])
def test_a_class_is_recoloured(palette, asked, how):
    if how == "click":
        palette.click(1, SWATCH)
    else:
        palette.widget.setCurrent(2)
        palette.press("Space")

    assert asked == [CLASSES[1].color]
    assert [c.color for c in palette.widget.value()] == [
        CLASSES[0].color,
        "#102030",
        CLASSES[2].color,
    ]
    assert palette.said("valueChanged") == [palette.widget.value()]


def test_a_cancelled_dialog_keeps_the_colour(palette, monkeypatch):
    from napari_unet.gui import classes

    monkeypatch.setattr(classes, "ask_color", lambda start, parent: None)
    palette.click(1, SWATCH)

    assert palette.widget.value() == CLASSES
    assert palette.said("valueChanged") == []


def test_the_same_colour_again_is_no_change(palette, monkeypatch):
    from napari_unet.gui import classes

    monkeypatch.setattr(classes, "ask_color", lambda start, parent: start)
    palette.click(1, SWATCH)

    assert palette.said("valueChanged") == []


@pytest.mark.parametrize(("valid", "answer"), [(True, "#abcdef"), (False, None)])
def test_the_dialog_starts_at_the_old_colour(palette, monkeypatch, valid, answer):
    from qtpy.QtGui import QColor
    from qtpy.QtWidgets import QColorDialog

    from napari_unet.gui.classes import ask_color

    starts = []

    def get_color(start, parent, title):
        starts.append(start.name())
        return QColor("#ABCDEF") if valid else QColor()

    monkeypatch.setattr(QColorDialog, "getColor", get_color)

    assert ask_color("#123456", palette.widget) == answer
    assert starts == ["#123456"]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_swatches_show_their_colours_whether_chosen_or_not(palette, theme):
    from napari.qt import get_stylesheet

    palette.widget.setStyleSheet(get_stylesheet(theme))
    picture = palette.table.viewport().grab().toImage()

    for row, c in enumerate(CLASSES):
        assert picture.pixelColor(palette.place(row, SWATCH)).name() == c.color


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_chosen_row_is_marked(palette, theme):
    from napari.qt import get_stylesheet

    palette.widget.setStyleSheet(get_stylesheet(theme))
    picture = palette.table.viewport().grab().toImage()
    marked, plain = (picture.pixelColor(2, palette.place(row, NAME).y()) for row in (0, 1))

    assert abs(marked.lightness() - plain.lightness()) > 150


def test_add_class_takes_a_free_name_and_a_free_colour(palette):
    palette.push("add")

    new = SegClass(name="class 4", color=PALETTE[3])
    assert palette.heard == [("valueChanged", (*CLASSES, new)), ("picked", 4)]
    assert palette.widget.value() == (*CLASSES, new)
    assert palette.widget.current() == 4


def test_add_class_evades_names_and_colours_in_use(palette):
    first = SegClass(name="Class 2", color=PALETTE[0].upper())
    palette.widget.setValue((first,))

    palette.push("add")

    assert palette.widget.value()[1] == SegClass(name="class 3", color=PALETTE[1])


def test_the_colours_repeat_after_the_palette(palette):
    palette.widget.setValue(class_table(len(PALETTE)))

    palette.push("add")

    assert palette.widget.value()[-1].color == PALETTE[0]


@pytest.mark.parametrize("how", ["button", "key"])
def test_remove_takes_the_chosen_class(palette, how):
    palette.widget.setCurrent(2)
    value_when_told = []
    palette.widget.removing.connect(lambda _: value_when_told.append(palette.widget.value()))

    palette.push("remove") if how == "button" else palette.press("Delete")

    left = (CLASSES[0], CLASSES[2])
    assert palette.heard == [("removing", 2), ("valueChanged", left), ("picked", 2)]
    assert value_when_told == [CLASSES]
    assert palette.widget.value() == left


def test_removing_the_last_class_chooses_the_one_before(palette):
    palette.widget.setCurrent(3)

    palette.push("remove")

    assert palette.said("picked") == [2]
    assert palette.widget.current() == 2


def test_an_owner_may_set_the_remaining_classes_while_one_is_removed(palette):
    left = (CLASSES[0], CLASSES[2])
    palette.widget.removing.connect(lambda _: palette.widget.setValue(left))
    palette.widget.setCurrent(2)

    palette.push("remove")

    assert palette.widget.value() == left
    assert palette.said("valueChanged") == [left]


def test_the_pixels_of_the_other_classes_stay_theirs(palette):
    palette.widget.setCounts([5, 10, 20, 30])
    palette.widget.setCurrent(2)

    palette.push("remove")
    palette.push("add")

    assert palette.column(PIXELS) == ["10 px", "30 px", "none", "5 px", ""]


def test_a_delete_key_held_down_removes_one_class(palette):
    from qtpy.QtCore import QEvent, Qt
    from qtpy.QtGui import QKeyEvent
    from qtpy.QtWidgets import QApplication

    none = Qt.KeyboardModifier.NoModifier
    palette.press("Delete")
    again = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_Delete, none, "", True)
    QApplication.sendEvent(palette.table, again)

    assert palette.said("removing") == [1]


def test_a_new_class_has_no_pixels_of_one_that_is_gone(palette):
    palette.widget.setCounts([1, 2, 3, 4])
    palette.widget.setValue(CLASSES[:2])

    palette.push("add")

    assert palette.text(2, PIXELS) == "none"


@pytest.mark.parametrize(
    ("classes", "label", "reason"),
    [
        (1, 1, "There must be at least one class"),
        (2, BACKGROUND, "Background and Erase are always there"),
        (2, UNLABELLED, "Background and Erase are always there"),
    ],
)
def test_remove_is_unavailable_and_says_why(palette, classes, label, reason):
    palette.widget.setValue(class_table(classes))
    palette.widget.setCurrent(label)

    palette.press("Delete")

    assert not palette.child("remove").isEnabled()
    assert palette.child("remove").toolTip() == reason
    assert palette.said("removing") == []


def test_there_are_at_most_254_classes(palette):
    palette.widget.setValue(class_table(MAX_CLASSES - 1))

    palette.push("add")
    palette.push("add")

    assert len(palette.widget.value()) == MAX_CLASSES == palette.widget.current()
    assert not palette.child("add").isEnabled()
    assert palette.child("add").toolTip() == "There can be no more than 254 classes"
    assert palette.column(NAME)[-3:] == ["class 254", "Background", "Erase"]


def test_painted_pixels_are_said_in_words(palette):
    palette.widget.setCounts([1_249_000, 12_345, 0, 1])

    assert palette.column(PIXELS) == ["12,345 px", "none", "1 px", "1.2 Mpx", ""]


def test_classes_that_were_not_counted_have_no_pixels(palette):
    palette.widget.setCounts([7, 8])

    assert palette.column(PIXELS) == ["8 px", "none", "none", "7 px", ""]


def test_the_balance_says_the_percentages(palette):
    balance = palette.child("balance")
    before = balance.toolTip()

    palette.widget.setCounts([250, 500, 2, 248])

    assert before == "Nothing is painted yet"
    assert balance.toolTip().splitlines() == [
        "cell: 50%",
        "nucleus: less than 1%",
        "membrane: 25%",
        "Background: 25%",
    ]


def test_the_balance_follows_names_and_leaves_out_what_is_not_painted(palette):
    palette.widget.setCounts([0, 3, 0, 1])
    palette.double_click(0)
    palette.write("blob")

    assert palette.child("balance").toolTip() == "blob: 75%\nmembrane: 25%"


def test_the_balance_is_divided_in_the_colours_of_the_classes(palette):
    palette.widget.setCounts([25, 50, 0, 25])
    picture = palette.child("balance").grab().toImage()

    def color(share):
        place = int(picture.width() * share), picture.height() // 2
        return picture.pixelColor(*place).name()

    assert [color(share) for share in (0.1, 0.45, 0.55, 0.7, 0.8, 0.95)] == [
        CLASSES[0].color,
        CLASSES[0].color,
        CLASSES[2].color,
        CLASSES[2].color,
        "#b0b0b0",
        "#b0b0b0",
    ]


@pytest.mark.parametrize("theme", ["", "dark", "light"])
@pytest.mark.parametrize(("classes", "shown"), [(1, 3), (6, 8), (7, 8), (60, 8)])
def test_the_table_is_as_tall_as_its_rows_up_to_eight(palette, theme, classes, shown):
    from napari.qt import get_stylesheet

    palette.widget.setStyleSheet(get_stylesheet(theme) if theme else "")
    palette.widget.setValue(class_table(classes))
    palette.qtbot.wait(1)  # the layout follows on the next turn of the event loop

    height = palette.table.visualRect(palette.index(0, NAME)).height()
    assert palette.table.viewport().height() == shown * height
    assert palette.table.verticalScrollBar().isVisible() == (classes > 6)


def test_room_to_spare_stays_empty(qtbot):
    from qtpy.QtWidgets import QVBoxLayout, QWidget

    from napari_unet.gui.classes import ClassTable

    dock = QWidget()
    qtbot.addWidget(dock)
    table = ClassTable()
    QVBoxLayout(dock).addWidget(table)
    dock.resize(300, 900)
    with qtbot.waitExposed(dock):
        dock.show()

    assert table.height() == table.sizeHint().height()
    assert table.findChild(QWidget, "unet.annotate.balance").height() < 20


def test_everything_but_the_name_fits_at_300_pixels(palette):
    palette.widget.setValue(class_table(["a name that is far too long to fit in here", *"bcdefgh"]))
    palette.widget.setCounts([123_456, 999_999])
    palette.qtbot.wait(1)

    widths = [palette.table.columnWidth(column) for column in range(4)]
    text = palette.table.fontMetrics().horizontalAdvance("999,999 px")
    assert sum(widths) <= palette.table.viewport().width()
    assert widths[PIXELS] >= text
    assert widths[NAME] >= 100


def test_the_same_classes_again_do_not_disturb_a_name_being_typed(palette):
    palette.double_click(1)
    palette.qtbot.keyClicks(palette.editor, "spl")
    palette.widget.setValue(CLASSES)
    palette.qtbot.wait(1)

    assert palette.editor.text() == "spl"


def test_counts_arriving_do_not_disturb_a_name_being_typed(palette):
    palette.double_click(1)
    palette.qtbot.keyClicks(palette.editor, "spl")
    palette.widget.setCounts([1, 2, 3, 4])
    palette.qtbot.keyClicks(palette.editor, "een")

    assert palette.editor.text() == "spleen"


def test_fixed_rows_say_what_they_mean(palette):
    from qtpy.QtCore import Qt

    tips = [palette.index(row, NAME).data(Qt.ItemDataRole.ToolTipRole) for row in (3, 4)]

    assert tips == [
        "Painted on purpose: here is none of the classes",
        "Back to not labelled",
    ]


def test_tab_goes_from_the_table_to_its_buttons(palette):
    from qtpy.QtCore import Qt

    palette.widget.activateWindow()
    palette.table.setFocus()
    visited = []
    for _ in range(2):
        focused = palette.widget.focusWidget()
        palette.qtbot.keyClick(focused, Qt.Key.Key_Tab)
        visited.append(palette.widget.focusWidget().objectName())

    assert visited == ["unet.annotate.add", "unet.annotate.remove"]
