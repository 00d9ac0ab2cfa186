"""A hand at a real napari window: it clicks, types and paints, all through Qt's own events.

Shared by random_use.py, scripts/screenshots.py and the tests of whole journeys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np

BRUSH = 5  # pixels across
STRIDE = 3  # image pixels between two moves of a stroke
BETWEEN_MOVES = 0.015  # seconds: vispy leaves out moves that come sooner
LONGEST = 30  # image pixels of a stroke
ROUNDS = 200  # of corrections, after which it will not learn any more

Point = tuple[float, ...]


class Hand:
    """Uses a viewer as a person does."""

    def __init__(self, viewer) -> None:
        self.viewer = viewer
        self.window = viewer.window._qt_window
        self.canvas = viewer.window._qt_viewer.canvas.native

    # --- waiting ---

    def wait(self, seconds: float) -> None:
        """Let the window run."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop = QEventLoop()
        QTimer.singleShot(round(1000 * seconds), loop.quit)
        loop.exec_()

    def until(
        self, condition: Callable[[], bool], seconds: float = 60, reached: Callable[[], str] = str
    ) -> None:
        """Let the window run until something is so; what was reached is said if it never is."""
        deadline = time.perf_counter() + seconds
        while not condition():
            if time.perf_counter() > deadline:
                raise TimeoutError(f"not within {seconds:g} s; {reached()}")
            self.wait(0.05)

    # --- widgets ---

    def find(self, name: str):
        """A widget of ours by its name without `unet.`, in whichever dock is open."""
        from qtpy.QtWidgets import QWidget

        found = self.window.findChild(QWidget, f"unet.{name}")
        if found is None:
            raise LookupError(f"there is no {name}")
        return found

    def text(self, name: str) -> str:
        return self.find(name).text()

    def click(self, name: str) -> None:
        """Click a button or a box, scrolled to where it can be seen."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest
        from qtpy.QtWidgets import QCheckBox

        widget = self.find(name)
        if not (widget.isVisible() and widget.isEnabled()):
            raise LookupError(f"{name} cannot be clicked now")
        self.scroll_to(widget)
        # A check box is clicked where its box is: beside its words there may be nothing.
        at = QPoint(8, widget.height() // 2) if isinstance(widget, QCheckBox) else QPoint()
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=at)

    def scroll_to(self, widget) -> None:
        from qtpy.QtWidgets import QScrollArea

        around = widget.parentWidget()
        while around is not None:
            if isinstance(around, QScrollArea):
                around.ensureWidgetVisible(widget)
            around = around.parentWidget()

    def choose(self, name: str, words: str) -> None:
        """Choose what begins with these words from a list that opens."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        box = self.find(name)
        self.scroll_to(box)
        box.showPopup()
        place = box.findText(words, Qt.MatchFlag.MatchStartsWith)
        box.view().setCurrentIndex(box.model().index(place, 0))
        QTest.keyClick(box.view(), Qt.Key.Key_Return)
        box.hidePopup()

    # --- keys and mouse on the canvas ---

    def press(self, key: str, *modifiers: str) -> None:
        """Press a key while the pointer is over the canvas."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        held = Qt.KeyboardModifier.NoModifier
        for modifier in modifiers:
            held |= getattr(Qt.KeyboardModifier, modifier)
        QTest.keyClick(self.canvas, getattr(Qt.Key, f"Key_{key}"), held)

    def drag(self, places: Iterable, button: str = "LeftButton") -> None:
        """Press, move and release on the canvas; places are its own points."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        first, *rest = places
        pressed, free = getattr(Qt.MouseButton, button), Qt.KeyboardModifier.NoModifier
        QTest.mouseMove(self.canvas, first)
        self.wait(BETWEEN_MOVES)
        QTest.mousePress(self.canvas, pressed, free, first)
        for place in rest:
            self.wait(BETWEEN_MOVES)
            QTest.mouseMove(self.canvas, place)
        self.wait(BETWEEN_MOVES)
        QTest.mouseRelease(self.canvas, pressed, free, rest[-1] if rest else first)
        self.wait(BETWEEN_MOVES)

    def stroke(self, layer, points: Iterable[Point]) -> None:
        """Drag over points of a layer, given in its pixels."""
        self.drag([self.place(layer, point) for point in points])

    def place(self, layer, point: Point):
        """Where on the canvas a pixel of a layer is."""
        from qtpy.QtCore import QPoint

        shown = [axis - self.viewer.dims.ndim for axis in self.viewer.dims.displayed]
        world = np.asarray(layer.data_to_world(point))[shown]
        view = self.viewer.window._qt_viewer.canvas.view
        across, down, *_ = view.scene.node_transform(view.canvas.scene).map(world[::-1])
        return QPoint(round(float(across)), round(float(down)))


# --- where a sensible person paints ---


def paths(mask: np.ndarray, count: int, random: np.random.Generator) -> list[np.ndarray]:
    """Paths of strokes inside the mask, as far from its border as a brush is wide."""
    room = depth(mask) > BRUSH / 2 + 1
    starts = random.permutation(np.argwhere(room))[:count]
    return [path(room, start) for start in starts]


def path(room: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The longest straight path from a place that does not leave the room."""
    angles = np.arange(0, 2 * np.pi, np.pi / 8)
    along = np.arange(0, LONGEST, STRIDE)
    found = []
    for angle in angles:
        points = np.round(start + along[:, None] * [np.sin(angle), np.cos(angle)]).astype(int)
        inside = ((points >= 0) & (points < room.shape)).all(1)
        inside[inside] = room[tuple(points[inside].T)]
        found.append(points[: len(points) if inside.all() else int(inside.argmin())])
    return max(found, key=len)


def depth(mask: np.ndarray) -> np.ndarray:
    """How far inside the mask each pixel is; the edge of the image counts as a border."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


def corrections(
    seen: np.ndarray, truth: np.ndarray, painted: np.ndarray, count: int
) -> list[tuple[bool, np.ndarray]]:
    """Strokes within the largest wrong regions, and whether each is foreground."""
    from scipy import ndimage

    found = []
    for foreground in (True, False):
        wrong = (truth == foreground) & (seen != foreground) & ~painted
        inside = depth(wrong)
        labels, n = ndimage.label(inside > 1)
        sizes = ndimage.sum_labels(inside, labels, range(1, n + 1))
        deepest = ndimage.maximum_position(inside, labels, range(1, n + 1))
        room = depth(truth == foreground) > BRUSH / 2
        found += [
            (size, foreground, path(room & (labels == number), np.array(at)))
            for number, (size, at) in enumerate(zip(sizes, deepest, strict=True), 1)
            if room[at]
        ]
    found.sort(key=lambda f: -f[0])
    return [(foreground, points) for _, foreground, points in found[:count]]


class Painter:
    """Somebody who knows what is a cell, and opens the sample of cells to teach it."""

    def __init__(self, hand: Hand) -> None:
        self.hand, self.layers = hand, hand.viewer.layers
        hand.click("annotate.sample.cells")
        hand.click("annotate.new")
        hand.wait(0.1)
        self.truth = self.layers["cells: truth"].data > 0
        self.annotation.brush_size = BRUSH

    @property
    def annotation(self):
        return self.layers["cells: annotation"]

    def paint(self, key: str, paths: list[np.ndarray]) -> None:
        self.hand.press(key)
        for points in paths:
            self.hand.stroke(self.annotation, points)

    def first_strokes(self) -> None:
        random = np.random.default_rng(0)
        beside = ~self.truth & (depth(~self.truth) < 16)
        self.paint("1", paths(self.truth, 6, random))
        self.paint("B", paths(beside, 4, random) + paths(~self.truth, 2, random))

    def seen(self) -> tuple[tuple[slice, ...], np.ndarray]:
        """Where the live overlay lies, and what it shows there."""
        live = self.layers["live"]
        start = np.round(live.data_to_world((0, 0))).astype(int)
        return tuple(
            slice(a, a + n) for a, n in zip(start, live.data.shape, strict=True)
        ), live.data > 0

    def score(self) -> float:
        """Dice of the live overlay where nothing is painted; 0 before there is one."""
        if "live" not in self.layers:
            return 0.0
        region, seen = self.seen()
        free = self.annotation.data[region] == 0
        return dice(seen[free], self.truth[region][free])

    def correct(self) -> None:
        """Strokes where the overlay is most wrong."""
        region, seen = self.seen()
        painted = self.annotation.data[region] > 0
        for foreground, points in corrections(seen, self.truth[region], painted, count=3):
            start = [r.start for r in region]
            self.paint("1" if foreground else "B", [points + start])

    def correct_until(self, good: float) -> None:
        """Look, and correct what is wrong, until the overlay is good."""
        for _ in range(ROUNDS):
            if self.score() >= good:
                return
            self.correct()
            self.hand.wait(1)
        raise TimeoutError(f"Dice {self.score():.3f}; {self.hand.text('train.status')}")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Agreement of two masks."""
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))
