"""How soon a brush stroke is on the screen while a net trains in the same process.

A real napari window on whatever display there is (under Xvfb: software OpenGL, on the same cores).
A second thread posts a mouse move every 16 ms, as a hand does, so that a window that stalls cannot
slow its own clock; each is timed until the frame that shows it has been drawn. Like a window
system, it merges moves that the window has not taken yet.

    python benchmarks/responsiveness.py [--seconds 10] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from common import Target, table, write_report
from hand import Hand

SIZE, LARGE = 512, 1024  # edges of the images that are painted on, and waited for
PAINTING = 3.0  # seconds that a user paints before Start
MOVE_SECONDS = 0.016
STEP, ROW = 6.5, 9  # screen pixels between two moves (400 a second), and between two rows
HEARTBEAT_MS = 5
WARM_STEPS = 20  # of training, before it is timed


@dataclass
class Watch:
    """Times of moves that were posted and taken, of frames, and gaps between two heartbeats."""

    posted: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    last: float = 0.0

    def draw(self, _event: Any = None) -> None:
        now = time.perf_counter()
        taken, self.taken = self.taken, []
        self.latencies += [now - t for t in taken]

    def beat(self) -> None:
        now = time.perf_counter()
        if self.last:
            self.gaps.append(now - self.last)
        self.last = now

    def figures(self) -> dict[str, float]:
        ms = 1000 * np.array(self.latencies)
        return {
            "moves": len(ms),
            "median": float(np.median(ms)),
            "p95": float(np.percentile(ms, 95)),
            "worst": float(ms.max()),
            "stall": 1000 * max(self.gaps),
        }


class Window:
    """A viewer with the workspace open on an image, and a hand that paints without pause."""

    def __init__(self, image: np.ndarray, strokes: np.ndarray, pause: float = 1) -> None:
        import napari

        from napari_unet.gui.workspace import Workspace

        self.strokes = strokes

        self.viewer = napari.Viewer()
        self.hand = Hand(self.viewer)
        self.hand.window.resize(1280, 720)
        self.viewer.window.add_plugin_dock_widget("napari-unet", "Workspace")
        self.viewer.add_image(image, name="cells")
        self.work = Workspace.of(self.viewer)
        self.hand.wait(1)
        self.annotate(pause)

    def annotate(self, pause: float = 1) -> None:
        """The same strokes of both kinds at the start of each measurement."""
        painting = self.work.annotate()
        painting.set(tuple(slice(0, n) for n in self.strokes.shape), self.strokes)
        painting.pick(1)
        painting.layer.brush_size = 3
        self.hand.wait(pause)

    def paint(self, seconds: float) -> dict[str, float]:
        """Paint rows over the image for some seconds."""
        from qtpy.QtCore import QEvent, QObject, QPoint, Qt, QTimer
        from qtpy.QtTest import QTest

        watch, native = Watch(), self.hand.canvas
        draws = self.viewer.window._qt_viewer.canvas._scene_canvas.events.draw

        class Taker(QObject):
            def eventFilter(self, _watched: Any, event: QEvent) -> bool:
                if event.type() == QEvent.Type.MouseMove and watch.posted:
                    watch.taken.append(watch.posted.pop(0))
                return False

        taker, heart, stop = Taker(), QTimer(), threading.Event()
        native.installEventFilter(taker)
        draws.connect(watch.draw, position="last")
        heart.timeout.connect(watch.beat)
        left, free = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        middle = QPoint(native.width() // 2, native.height() // 2)
        poster = threading.Thread(target=self._post, args=(watch, stop))
        heart.start(HEARTBEAT_MS)
        QTest.mousePress(native, left, free, middle)
        poster.start()
        self.hand.wait(seconds)
        stop.set()
        poster.join()
        self.hand.wait(0.3)
        QTest.mouseRelease(native, left, free, middle)
        heart.stop()
        draws.disconnect(watch.draw)
        native.removeEventFilter(taker)
        return watch.figures()

    def _post(self, watch: Watch, stop: threading.Event) -> None:
        from qtpy.QtCore import QCoreApplication

        number = 0
        while not stop.wait(MOVE_SECONDS):
            if not watch.posted:
                number += 1
                event = self._move(number)
                watch.posted.append(time.perf_counter())
                QCoreApplication.postEvent(self.hand.canvas, event)

    def _move(self, number: int) -> Any:
        """To and fro over pixels not painted yet: where nothing changes no frame is drawn."""
        from qtpy.QtCore import QEvent, QPointF, Qt
        from qtpy.QtGui import QMouseEvent

        native = self.hand.canvas
        row, across = divmod(number * STEP, native.width() / 2)
        x = native.width() * (0.25 if row % 2 else 0.75) + (across if row % 2 else -across)
        at = QPointF(x, native.height() * 0.15 + row * ROW)
        everywhere = QPointF(native.mapToGlobal(at.toPoint()))
        none, left = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
        plain = Qt.KeyboardModifier.NoModifier
        return QMouseEvent(QEvent.Type.MouseMove, at, everywhere, none, left, plain)

    def train(self, live: bool) -> None:
        """Start to train, and wait until it is well under way."""
        self.annotate()
        self.work.show_live(live)
        self.work.start_training()
        self.hand.until(lambda: self.work.session.progress.step >= WARM_STEPS, 120)

    def stop(self) -> None:
        self.work.session.stop()
        self.hand.until(lambda: not self.work.session.training, 60)
        self.hand.wait(0.5)

    def speed(self, seconds: float) -> float:
        """Steps per second while nobody touches the window."""
        progress = self.work.session.progress
        first, start = progress.step, time.perf_counter()
        self.hand.wait(seconds)
        return (progress.step - first) / (time.perf_counter() - start)


def open_window(size: int, pause: float = 1) -> Window:
    """On generated cells with a few strokes."""
    from napari_unet.demo import scribble
    from napari_unet.samples import cells

    image, truth = cells(0, size)
    return Window(image, scribble(truth, 0), pause)


def headless_speed(seconds: float) -> float:
    """Steps per second of the same training without a window."""
    from napari_unet.annotation import TrainingSet
    from napari_unet.config import TrainConfig, class_table
    from napari_unet.demo import scribble
    from napari_unet.run import Stepped
    from napari_unet.samples import cells
    from napari_unet.training import train

    image, truth = cells(0, SIZE)
    training_set = TrainingSet(class_table(1))
    training_set.add("cells", image[None], scribble(truth, 0))
    start = 0.0
    for event in train(TrainConfig(), training_set):
        if isinstance(event, Stepped) and event.step == WARM_STEPS:
            start = time.perf_counter()
        if start and time.perf_counter() - start > seconds and isinstance(event, Stepped):
            return (event.step - WARM_STEPS) / (time.perf_counter() - start)
    raise RuntimeError("training ended early")


def elsewhere(*flags: object) -> Any:
    """Figures measured in a process of its own."""
    command = [sys.executable, __file__, *map(str, flags)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def first_mask() -> dict[str, float]:
    """Painting while PyTorch is loaded, and seconds from Start to the first mask after it."""
    window = open_window(LARGE, pause=0)
    figures = window.paint(PAINTING)
    seen: list[Any] = []
    window.work.session.seen.connect(seen.append)
    start = time.perf_counter()
    window.work.start_training()
    window.hand.until(lambda: bool(seen), 60)
    figures["first"] = time.perf_counter() - start
    window.stop()
    window.viewer.close()
    return figures


def compare_speeds(window: Window, seconds: float, rounds: int) -> dict[str, float]:
    """Training speed in a window nobody touches, as a part of that without one: medians."""
    found: dict[str, list[float]] = {"training": [], "training, live overlay": []}
    for _ in range(rounds):
        # In this process a second pool of OpenMP threads would slow both.
        alone = elsewhere("--headless", "--seconds", seconds)
        for name, live in (("training", False), ("training, live overlay", True)):
            window.train(live)
            found[name].append(window.speed(seconds) / alone)
            window.stop()
    return {name: statistics.median(parts) for name, parts in found.items()}


def report(
    painted: dict[str, dict[str, float]], speeds: dict[str, float], firsts: list[float]
) -> None:
    head = ["", "moves", "median ms", "95 % ms", "worst ms", "longest stall ms", "of headless"]
    keys = ("moves", "median", "p95", "worst", "stall")
    part = {name: f"{speed:.2f}" for name, speed in speeds.items()}
    rows = [
        [name, *(f"{figures[key]:.0f}" for key in keys), part.get(name, "")]
        for name, figures in painted.items()
    ]
    idle = painted["idle"]["median"]
    targets = [
        Target("training with the window idle, of headless", speeds["training"], 0.9),
        Target(
            "live overlay, cost to training",
            1 - speeds["training, live overlay"] / speeds["training"],
            0.15,
            at_most=True,
        ),
    ]
    for name, figures in painted.items():
        if name != "idle":
            targets += [
                Target(f"{name}: median of idle's", figures["median"] / idle, 2, at_most=True),
                Target(f"{name}: 95th percentile, ms", figures["p95"], 50, at_most=True),
                Target(f"{name}: longest stall, ms", figures["stall"], 150, at_most=True),
            ]
    first = statistics.median(firsts)
    targets.append(Target(f"first mask of {LARGE} x {LARGE}, s from Start", first, 2, at_most=True))
    write_report(
        "responsiveness",
        "From a stroke of the brush to its frame",
        table(head, rows),
        {"painted": painted, "speeds": speeds, "first masks": firsts},
        targets,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--headless", action="store_true", help="only the speed without a window")
    parser.add_argument(
        "--first", action="store_true", help="only how soon the first mask is there"
    )
    arguments = parser.parse_args()
    if arguments.headless:
        print(headless_speed(arguments.seconds))
        return
    if arguments.first:
        print(json.dumps(first_mask()))
        return
    runs = [elsewhere("--first") for _ in range(arguments.rounds)]
    firsts = [run.pop("first") for run in runs]
    loading = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    window = open_window(SIZE)
    window.paint(2)
    window.annotate()
    painted = {"idle": window.paint(arguments.seconds), "loading": loading}
    for name, live in (("training", False), ("training, live overlay", True)):
        window.train(live)
        painted[name] = window.paint(arguments.seconds)
        window.stop()
    speeds = compare_speeds(window, arguments.seconds, arguments.rounds)
    window.viewer.close()
    report(painted, speeds, firsts)


if __name__ == "__main__":
    main()
