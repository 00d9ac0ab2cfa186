"""The live curves: what is drawn, in which colours, and how few points that takes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from napari_unet.config import PALETTE

pytestmark = pytest.mark.gui

LOSS = {"dark": PALETTE[0], "light": PALETTE[5]}
DICE = {"dark": PALETTE[1], "light": PALETTE[4]}
THEMES = ["dark", "light"]


@pytest.fixture
def curve(qtbot):
    from napari_unet.gui.curve import Curve

    widget = Curve()
    qtbot.addWidget(widget)
    widget.resize(300, 180)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


@pytest.fixture
def wear(curve):
    """Dress the curve in a theme of napari."""
    from napari.qt import get_stylesheet

    def wear_(theme: str) -> None:
        curve.setStyleSheet(get_stylesheet(theme))

    return wear_


def _where(curve, color: str) -> np.ndarray:
    """Where the picture of the curve is nearly of that colour."""
    from qtpy.QtGui import QImage

    picture = curve.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    pixels = picture.constBits()
    if hasattr(pixels, "setsize"):  # PyQt gives an address, PySide a view
        pixels.setsize(picture.sizeInBytes())
    rows = np.frombuffer(pixels, np.uint8).reshape(picture.height(), -1)
    colors = rows[:, : picture.width() * 3].reshape(picture.height(), -1, 3).astype(int)
    return np.abs(colors - wanted).max(axis=-1) < 12


def _count(curve, color: str) -> int:
    return int(_where(curve, color).sum())


def _items(curve) -> list:
    from qtpy.QtWidgets import QGraphicsView

    return curve.findChild(QGraphicsView).scene().items()


def _words(curve) -> set[str]:
    """All that can be read, but for the numbers of the axes."""
    from qtpy.QtGui import QTextDocument
    from qtpy.QtWidgets import QGraphicsTextItem, QLabel

    words = {
        item.toPlainText()
        for item in _items(curve)
        if isinstance(item, QGraphicsTextItem) and item.isVisible()
    }
    document = QTextDocument()
    for label in curve.findChildren(QLabel):
        if label.isVisible():
            document.setHtml(label.text())
            words.add(document.toPlainText().strip("\N{BLACK CIRCLE}\N{BLACK RECTANGLE} "))
    return words - {""}


def test_few_points_stay_as_they_are():
    from napari_unet.gui.curve import thinned

    steps, values = thinned([1, 2, 5], [0.5, 0.25, 0.125], 3)

    assert steps.tolist() == [1, 2, 5]
    assert values.tolist() == [0.5, 0.25, 0.125]


@pytest.mark.parametrize("count", [401, 799, 100_000])
def test_many_points_become_at_most_so_many(count):
    from napari_unet.gui.curve import thinned

    steps, values = thinned(range(count), np.linspace(2, 0, count), 400)

    assert len(steps) == len(values) == 400
    assert np.all(np.diff(steps) > 0)
    assert np.all(np.diff(values) < 0)


def test_a_thinned_point_is_the_mean_of_its_neighbours():
    from napari_unet.gui.curve import thinned

    steps, values = thinned([0, 1, 2, 3], [4, 6, 0, 1], 2)

    assert steps.tolist() == [0.5, 2.5]
    assert values.tolist() == [5, 0.5]


def test_what_is_not_finite_is_left_out():
    from napari_unet.gui.curve import thinned

    steps, values = thinned([0, 1, 2, 3], [4, np.nan, np.inf, 1], 2)

    assert steps.tolist() == [0, 3]
    assert values.tolist() == [4, 1]


def test_nothing_thinned_is_nothing():
    from napari_unet.gui.curve import thinned

    steps, values = thinned([], [], 400)

    assert len(steps) == len(values) == 0


def test_a_straight_line_is_smooth_already():
    from napari_unet.gui.curve import smoothed

    line = np.linspace(3, 1, 50)

    assert smoothed(line, 5) == pytest.approx(line)


def test_smoothing_calms_and_keeps_the_mean():
    from napari_unet.gui.curve import smoothed

    noise = np.tile([0.0, 1.0], 50)

    assert smoothed(noise, 5)[10:-10] == pytest.approx(0.5, abs=0.05)
    assert len(smoothed(noise, 5)) == 100


def test_before_training_it_says_when_curves_appear(curve):
    assert _words(curve) >= {"The curves appear when training starts"}


@pytest.mark.parametrize("theme", THEMES)
def test_losses_and_scores_are_drawn_in_their_colours(curve, wear, theme):
    wear(theme)
    before = _count(curve, LOSS[theme]), _count(curve, DICE[theme])

    curve.setLosses(range(1, 51), np.linspace(1, 0.1, 50))
    only_losses = _count(curve, LOSS[theme]), _count(curve, DICE[theme])
    curve.setScores([10, 30, 50], [0.3, 0.6, 0.9], 2)
    both = _count(curve, LOSS[theme]), _count(curve, DICE[theme])

    assert before == (0, 0)
    assert only_losses[0] > 100
    assert only_losses[1] == 0
    assert both[0] > 100
    assert both[1] > 100


@pytest.mark.parametrize("theme", THEMES)
def test_the_ground_is_that_of_the_theme(curve, wear, theme):
    from napari.utils.theme import get_theme

    curve.setLosses([1, 2], [1, 0.5])

    wear(theme)

    assert _count(curve, get_theme(theme).background.as_hex()) > 0.7 * 300 * 180


def test_the_colours_follow_a_change_of_theme(curve, wear):
    curve.setLosses(range(1, 51), np.linspace(1, 0.1, 50))
    wear("dark")
    assert _count(curve, LOSS["light"]) == 0

    wear("light")

    assert _count(curve, LOSS["dark"]) == 0
    assert _count(curve, LOSS["light"]) > 100


def test_a_palette_is_followed_as_well(curve):
    from qtpy.QtGui import QColor, QPalette

    curve.setLosses(range(1, 51), np.linspace(1, 0.1, 50))
    palette = QPalette(QColor("#101010"))
    palette.setColor(QPalette.ColorRole.Window, QColor("#101010"))
    palette.setColor(QPalette.ColorRole.WindowText, QColor("#f0f0f0"))

    curve.setPalette(palette)

    assert _count(curve, LOSS["dark"]) > 100


def test_the_legend_names_only_what_is_drawn(curve):
    curve.setLosses([1, 2], [1, 0.5])
    losses = _words(curve)

    curve.setScores([2], [0.4], None)
    both = _words(curve)

    assert losses == {"Training loss", "step"}
    assert both == {"Training loss", "Held-out Dice", "step"}


def test_the_best_score_is_marked_with_its_value(curve, wear):
    wear("dark")
    curve.setLosses([1, 30], [1, 0.5])
    curve.setScores([10, 20, 30], [0.3, 0.8732, 0.8], None)
    unmarked = _count(curve, DICE["dark"])

    curve.setScores([10, 20, 30], [0.3, 0.8732, 0.8], 1)

    assert "best 0.87" in _words(curve)
    assert _count(curve, DICE["dark"]) > unmarked


@pytest.mark.parametrize("step", [0, 50, 100])
@pytest.mark.parametrize("dice", [0.0, 0.5, 1.0])
def test_the_words_at_the_best_score_are_never_cut_off(curve, step, dice):
    from qtpy.QtWidgets import QGraphicsTextItem, QGraphicsView

    curve.setScores([0, 50, 100], [dice, dice, dice], step // 50)
    curve.setLosses([0, 100], [1, 0.5])
    curve.grab()

    words = next(
        item
        for item in _items(curve)
        if isinstance(item, QGraphicsTextItem) and item.toPlainText().startswith("best")
    )
    seen = curve.findChild(QGraphicsView).viewport().rect()
    place = words.sceneBoundingRect()
    assert seen.left() <= place.left()
    assert place.right() <= seen.right()
    assert seen.top() <= place.top()
    assert place.bottom() <= seen.bottom()


def test_clear_brings_back_the_beginning(curve, wear):
    wear("dark")
    curve.setLosses([1, 2], [1, 0.5])
    curve.setScores([2], [0.4], 0)

    curve.clear()

    assert _words(curve) >= {"The curves appear when training starts"}
    assert _count(curve, LOSS["dark"]) == _count(curve, DICE["dark"]) == 0


def test_after_clear_no_best_score_is_left(curve):
    curve.setScores([2], [0.4], 0)
    curve.clear()

    curve.setLosses([1, 2], [1, 0.5])

    assert _words(curve) == {"Training loss", "step"}


@pytest.mark.parametrize(
    ("steps", "losses"),
    [([], []), ([1], [0.7]), ([1, 2], [0.0, 0.0]), ([5, 6], [np.nan, 1.0]), ([3], [np.inf])],
)
def test_a_curve_of_hardly_anything_is_drawn_without_complaint(curve, steps, losses):
    curve.setLosses(steps, losses)
    curve.setScores(steps, losses, None)

    assert not curve.grab().isNull()


def test_a_wild_step_does_not_flatten_the_rest(curve, wear):
    wear("dark")
    losses = np.linspace(1, 0.1, 1000)
    losses[500] = 1e6

    curve.setLosses(range(1000), losses)

    # The half before the wild step still falls from the top towards the middle.
    rows, columns = np.nonzero(_where(curve, LOSS["dark"])[30:])
    before = rows[(columns > 60) & (columns < 120)]
    assert np.ptp(before) > 10


def test_long_training_is_drawn_with_few_points(curve):
    import pyqtgraph

    curve.setLosses(range(100_000), np.linspace(1, 0.1, 100_000))
    curve.setScores(range(0, 100_000, 50), np.linspace(0, 0.9, 2000), 1999)

    drawn = (pyqtgraph.PlotCurveItem, pyqtgraph.ScatterPlotItem)
    counts = [len(i.getData()[0]) for i in _items(curve) if isinstance(i, drawn)]
    assert len(counts) == 5
    assert 1 < max(counts) <= 400


def test_the_plot_takes_no_clicks_and_no_scrolling(curve):
    from qtpy.QtWidgets import QGraphicsView

    curve.setLosses([1, 2], [1, 0.5])
    plot = curve.findChild(QGraphicsView)

    under_pointer = curve.childAt(plot.geometry().center())

    assert under_pointer is not plot
    assert under_pointer is not plot.viewport()


def test_nothing_is_left_when_it_goes(qtbot):
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication

    from napari_unet.gui.curve import Curve

    before = QApplication.topLevelWidgets()
    curve = Curve()
    curve.setLosses([1, 2], [1, 0.5])
    curve.grab()

    curve.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)

    assert set(QApplication.topLevelWidgets()) <= set(before)


def test_pyqtgraph_waits_until_a_curve_is_made():
    script = "import sys, napari_unet.gui.curve; print(*{'pyqtgraph', 'torch'} & set(sys.modules))"

    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    assert loaded == []
