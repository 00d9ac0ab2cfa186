"""The live curves of training: loss, held-out Dice, and the best point marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QHBoxLayout, QLabel, QStackedLayout, QVBoxLayout, QWidget

from napari_unet.config import PALETTE

ORANGE, SKY, BLUE, VERMILION = (PALETTE[i] for i in (0, 1, 4, 5))
# Loss and Dice: two colours of the palette that are far from the ground and from each other.
ON_DARK, ON_LIGHT = (ORANGE, SKY), (VERMILION, BLUE)
MOST_LOSSES, MOST_SCORES = 400, 100  # points drawn
SMOOTHED_OVER = 0.03  # of the curve's length, on both sides of a point
LINES_HIGH = 9  # least height, in lines of text
MEANING = "Training loss should fall; Dice on held-out annotation should rise towards 1"
MARGIN = 0.05  # around the curves, as a share: room for half a dot
FEWEST_STEPS = 10  # on the axis: fewer would be marked in fractions of a step


def thinned(
    steps: Sequence[float], values: Sequence[float], most: int
) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points, each the mean of its neighbours; what is not finite is left out."""
    points = np.array([steps, values], np.float64)
    points = points[:, np.isfinite(points).all(axis=0)]
    count = points.shape[1]
    if count > most:
        edges = np.linspace(0, count, most + 1).astype(int)
        points = np.add.reduceat(points, edges[:-1], axis=1) / np.diff(edges)
    return points[0], points[1]


def smoothed(values: np.ndarray, reach: int) -> np.ndarray:
    """The mean of each value and its neighbours on both sides, of fewer towards the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    here = np.arange(len(values))
    reaches = np.minimum(reach, np.minimum(here, here[::-1]))
    return (sums[here + reaches + 1] - sums[here - reaches]) / (2 * reaches + 1)


class Curve(QWidget):
    """Training loss on the left axis and held-out Dice on the right one, over the steps."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._legend = _Legend()
        self._plot = _Plot()
        self._pages = QStackedLayout(self)
        self._pages.addWidget(_hint("The curves appear when training starts"))
        self._pages.addWidget(_stacked(self._legend, self._plot.widget))
        self.setToolTip(MEANING)
        self.setMinimumHeight(self.fontMetrics().lineSpacing() * LINES_HIGH)
        self._recolour()

    def setLosses(self, steps: Sequence[float], losses: Sequence[float]) -> None:
        """Draw the training losses: faintly as they are, and smoothed."""
        self._plot.draw_losses(*thinned(steps, losses, MOST_LOSSES))
        self._show_what_there_is()

    def setScores(self, steps: Sequence[float], dice: Sequence[float], best: int | None) -> None:
        """Draw the scores on held-out annotation; best is the index of the one to mark."""
        self._plot.draw_scores(*thinned(steps, dice, MOST_SCORES))
        self._plot.mark_best(None if best is None else (float(steps[best]), float(dice[best])))
        self._show_what_there_is()

    def clear(self) -> None:
        """Forget the curves, until training starts again."""
        self.setLosses([], [])
        self.setScores([], [], None)

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        themed = QEvent.Type.PaletteChange, QEvent.Type.StyleChange
        if event is not None and event.type() in themed:
            self._recolour()

    def _show_what_there_is(self) -> None:
        losses, scores = self._plot.has_losses(), self._plot.has_scores()
        self._legend.show_names(losses, scores)
        self._pages.setCurrentIndex(1 if losses or scores else 0)

    def _recolour(self) -> None:
        ground = self.palette().color(QPalette.ColorRole.Window)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        loss, dice = ON_DARK if ground.lightness() < ink.lightness() else ON_LIGHT
        self._legend.recolour(loss, dice)
        self._plot.recolour(ground, ink, loss, dice)


class _Legend(QWidget):
    """What the two colours mean, each above its axis."""

    def __init__(self) -> None:
        super().__init__()
        self._loss, self._dice = QLabel(), QLabel()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._loss)
        row.addStretch()
        row.addWidget(self._dice)

    def recolour(self, loss: str, dice: str) -> None:
        self._loss.setText(f'<b style="color:{loss}">\N{BLACK RECTANGLE}</b> Training loss')
        self._dice.setText(f'Held-out Dice <b style="color:{dice}">\N{BLACK CIRCLE}</b>')

    def show_names(self, loss: bool, dice: bool) -> None:
        self._loss.setVisible(loss)
        self._dice.setVisible(dice)


class _Plot:
    """One box from 0 to 1 in height: Dice as it is, losses divided by the height of their axis."""

    def __init__(self) -> None:
        import pyqtgraph  # here, since opening a dock should not wait for it

        self._library: Any = pyqtgraph
        # Put together by hand: the usual PlotWidget brings menus, and windows that outlive it.
        self.widget = pyqtgraph.GraphicsLayoutWidget()
        self.widget.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.widget.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.widget.setAntialiasing(True)
        # Half a number stands out above; napari's stylesheet takes a pixel on each side.
        self.widget.ci.layout.setContentsMargins(0, 6, 3, 3)
        self.widget.ci.layout.setSpacing(0)
        self._box = self.widget.addViewBox(0, 1, enableMenu=False, enableMouse=False)
        self._axes = self._make_axes()
        # Left of its numbers the word costs no height.
        self._unit = self.widget.addLabel("step", 1, 0)
        self.widget.ci.layout.setAlignment(self._unit, Qt.AlignmentFlag.AlignTop)
        self._make_items()
        self._loss_steps = self._dice_steps = np.empty(0)
        self._marked: tuple[float, float] | None = None

    def has_losses(self) -> bool:
        return len(self._loss_steps) > 0

    def has_scores(self) -> bool:
        return len(self._dice_steps) > 0

    def draw_losses(self, steps: np.ndarray, losses: np.ndarray) -> None:
        self._loss_steps = steps
        smooth = smoothed(losses, round(len(losses) * SMOOTHED_OVER))
        # Nearly all of it is in sight: one wild step must not flatten the rest.
        top = float(np.percentile(losses, 99)) * (1 + MARGIN) if len(losses) else 0.0
        top = top if top > 0 else 1.0
        self._axes["left"].setScale(top)
        self._raw.setData(steps, losses / top)
        self._smooth.setData(steps, smooth / top)
        self._fit()

    def draw_scores(self, steps: np.ndarray, dice: np.ndarray) -> None:
        self._dice_steps = steps
        self._line.setData(steps, dice)
        self._dots.setData(steps, dice)
        self._fit()

    def mark_best(self, at: tuple[float, float] | None) -> None:
        self._marked = at
        self._best.setData(*([at[0]], [at[1]]) if at else ([], []))
        self._word.setVisible(at is not None)
        if at is not None:
            self._word.setPlainText(f"best {at[1]:.2f}")
        self._fit()

    def recolour(self, ground: QColor, ink: QColor, loss: str, dice: str) -> None:
        pen, brush = self._library.mkPen, self._library.mkBrush
        self.widget.setBackground(ground)
        for axis in self._axes.values():
            axis.setPen(pen(_faint(ink, 0.4)))
            axis.setTextPen(pen(ink))
        self._unit.setText("step", color=ink)
        self._raw.setPen(pen(_faint(QColor(loss), 0.4), width=1))
        self._smooth.setPen(pen(loss, width=2))
        self._line.setPen(pen(dice, width=1.5))
        self._dots.setPen(None)
        self._dots.setBrush(brush(dice))
        self._best.setPen(pen(ink, width=1.5))
        self._best.setBrush(brush(dice))
        self._word.setColor(ink)
        self._word.fill = brush(_faint(ground, 0.8))
        self._word.update()

    def _make_axes(self) -> dict[str, Any]:
        axes = {}
        for side, row, column in (("left", 0, 0), ("right", 0, 2), ("bottom", 1, 1)):
            axis = axes[side] = self._library.AxisItem(side, linkView=self._box)
            axis.enableAutoSIPrefix(False)
            axis.setStyle(maxTextLevel=0, maxTickLevel=0, hideOverlappingLabels=10)
            axis.setTickDensity(0.7)
            self.widget.addItem(axis, row, column)
        self.widget.ci.layout.setAlignment(axes["left"], Qt.AlignmentFlag.AlignRight)
        return axes

    def _make_items(self) -> None:
        dot = self.widget.fontMetrics().height() * 0.4
        curve, dots = self._library.PlotCurveItem, self._library.ScatterPlotItem
        self._raw, self._smooth, self._line = (curve(antialias=True) for _ in range(3))
        self._dots, self._best = (
            dots(size=size, symbol="o", antialias=True) for size in (dot, dot * 2)
        )
        self._word = self._library.TextItem()
        for item in (self._raw, self._smooth, self._line, self._dots, self._best, self._word):
            self._box.addItem(item, ignoreBounds=True)

    def _fit(self) -> None:
        steps = np.concatenate([self._loss_steps, self._dice_steps])
        first = steps.min() if len(steps) else 0.0
        last = max(steps.max(initial=first), first + FEWEST_STEPS)
        margin = (last - first) * MARGIN
        left, right = first - margin, last + margin
        self._box.setRange(xRange=(left, right), yRange=(-MARGIN / 2, 1 + MARGIN), padding=0)
        for side, shown in (("left", self.has_losses()), ("right", self.has_scores())):
            self._axes[side].setVisible(shown)
        if self._marked is not None:
            step, dice = self._marked
            self._word.setPos(step, dice)
            # Anchored by where it lies, the word never leaves the box.
            self._word.setAnchor(((step - left) / (right - left), -0.6 if dice > 0.5 else 1.6))


def _faint(color: QColor, opacity: float) -> QColor:
    faint = QColor(color)
    faint.setAlphaF(opacity)
    return faint


def _hint(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    label.setAlignment(Qt.AlignmentFlag.AlignCenter)
    return label


def _stacked(*widgets: QWidget) -> QWidget:
    page = QWidget()
    column = QVBoxLayout(page)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(0)
    for widget in widgets:
        column.addWidget(widget)
    column.setStretch(len(widgets) - 1, 1)
    return page
