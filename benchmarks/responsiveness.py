"""How soon a brush stroke is on the screen while a net trains in the same process.

A real napari window on whatever display there is (under Xvfb: software OpenGL, slower than a GPU).
A second thread posts a mouse move every 16 ms, as a hand does, so that a window that stalls cannot
slow its own clock; each is timed until the frame that shows it has been drawn.

    python benchmarks/responsiveness.py [--seconds 10] [--rounds 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SIZE = 512
MOVE_SECONDS = 0.016
STEP, ROW = 6.5, 9  # screen pixels between two moves (400 a second), and between two rows


@dataclass
class Watch:
    """Times of posted moves, of frames, and the longest gap between two turns of the event loop."""

    waiting: list[float] = field(default_factory=list)
    handled: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    last: float = 0.0

    def draw(self, _event=None) -> None:
        now = time.perf_counter()
        done, self.handled = self.handled, []
        self.latencies += [now - t for t in done]

    def tick(self) -> None:
        now = time.perf_counter()
        if self.last:
            self.gaps.append(now - self.last)
        self.last = now

    def report(self) -> dict[str, float]:
        ms = 1000 * np.array(self.latencies)
        return {
            "strokes": len(ms),
            "median_ms": round(float(np.median(ms)), 1),
            "p95_ms": round(float(np.percentile(ms, 95)), 1),
            "worst_ms": round(float(ms.max()), 1),
            "longest_stall_ms": round(1000 * max(self.gaps), 1),
        }


class Window:
    """A viewer with the workspace open on a sample, and a hand that paints."""

    def __init__(self) -> None:
        import napari
        from qtpy.QtCore import QTimer
        from qtpy.QtWidgets import QApplication

        from napari_unet.gui.workspace import Workspace

        self.viewer = napari.Viewer()
        self.app = QApplication.instance()
        self.viewer.window._qt_window.resize(1280, 720)
        self.viewer.window.add_plugin_dock_widget("napari-unet", "Workspace")
        self.viewer.open_sample("napari-unet", "cells")
        self.work = Workspace.of(self.viewer)
        self.canvas = self.viewer.window._qt_viewer.canvas
        self.watch = Watch()
        self.timer = QTimer()
        self.timer.timeout.connect(lambda: self.watch.tick())
        self.pump(1)
        self.annotate()

    def annotate(self) -> None:
        """Strokes of both kinds, as a start."""
        from napari_unet.demo import scribble

        truth = self.viewer.layers["cells: truth"].data
        painting = self.work.annotate()
        painting.set((slice(0, SIZE), slice(0, SIZE)), scribble(truth, 0))
        painting.pick(1)
        painting.layer.brush_size = 3
        self.pump(1)

    def pump(self, seconds: float) -> None:
        """Let the window run, as it does when nobody measures."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop = QEventLoop()
        QTimer.singleShot(round(1000 * seconds), loop.quit)
        loop.exec_()

    def measure(self, seconds: float) -> dict[str, float]:
        """Paint back and forth for some seconds."""
        from qtpy.QtCore import QEvent, QObject

        watch = self.watch = Watch()
        native = self.canvas.native

        class Hand(QObject):
            def eventFilter(self, _watched, event):
                if event.type() == QEvent.Type.MouseMove and watch.waiting:
                    watch.handled.append(watch.waiting.pop(0))
                return False

        hand = Hand()
        native.installEventFilter(hand)
        self.canvas._scene_canvas.events.draw.connect(watch.draw, position="last")
        stop = threading.Event()
        poster = threading.Thread(target=self._move, args=(stop, watch))
        self.timer.start(5)
        self._press()
        poster.start()
        self.pump(seconds)
        stop.set()
        poster.join()
        self.pump(0.3)
        self._release()
        self.timer.stop()
        native.removeEventFilter(hand)
        self.canvas._scene_canvas.events.draw.disconnect(watch.draw)
        return watch.report()

    def _move(self, stop: threading.Event, watch: Watch) -> None:
        from qtpy.QtCore import QCoreApplication

        n = 0
        while not stop.wait(MOVE_SECONDS):
            if watch.waiting:  # as a window system does, which merges moves that were not taken yet
                continue
            n += 1
            event = self._moved(n)
            watch.waiting.append(time.perf_counter())
            QCoreApplication.postEvent(self.canvas.native, event)

    def _moved(self, n: int):
        """The n-th move: to and fro over pixels not painted yet, or no frame would be drawn."""
        from qtpy.QtCore import QEvent, QPointF, Qt
        from qtpy.QtGui import QMouseEvent

        native = self.canvas.native
        down, across = divmod(n * STEP, native.width() / 2)
        at = QPointF(
            native.width() * (0.25 if down % 2 else 0.75) + (across if down % 2 else -across),
            native.height() * 0.15 + down * ROW,
        )
        everywhere = QPointF(native.mapToGlobal(at.toPoint()))
        none, left = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
        plain = Qt.KeyboardModifier.NoModifier
        return QMouseEvent(QEvent.Type.MouseMove, at, everywhere, none, left, plain)

    def _press(self) -> None:
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        native = self.canvas.native
        QTest.mousePress(
            native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier,
            QPoint(native.width() // 2, native.height() // 2),
        )  # fmt: skip

    def _release(self) -> None:
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        native = self.canvas.native
        QTest.mouseRelease(
            native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier,
            QPoint(native.width() // 2, native.height() // 2),
        )  # fmt: skip

    def train(self, live: bool) -> None:
        self.annotate()
        self.work.show_live(live)
        self.work.start_training()
        while self.work.session.progress.step < 20:
            self.pump(0.1)

    def stop(self) -> None:
        self.work.session.stop()
        while self.work.session.training:
            self.pump(0.05)
        self.pump(0.5)

    @property
    def step(self) -> int:
        return self.work.session.progress.step


def headless_rate(seconds: float) -> float:
    """Steps per second of the same training without a window."""
    from napari_unet.annotation import TrainingSet
    from napari_unet.config import TrainConfig, class_table
    from napari_unet.demo import scribble
    from napari_unet.run import Control, Stepped
    from napari_unet.samples import cells
    from napari_unet.training import train

    image, truth = cells(0, SIZE)
    training_set = TrainingSet(class_table(1))
    training_set.add("cells", image[None], scribble(truth, 0))
    control, start, first, last = Control(), 0.0, 0, 0
    for event in train(TrainConfig(), training_set, control):
        if isinstance(event, Stepped):
            last = event.step
            if last == 20:
                start, first = time.perf_counter(), last
            if start and time.perf_counter() - start > seconds:
                control.stop()
                if rate_over(start, first, last):
                    return rate_over(start, first, last)
    raise RuntimeError("training ended early")


def rate_over(start: float, first: int, last: int) -> float:
    return (last - first) / (time.perf_counter() - start)


def elsewhere(seconds: float) -> float:
    """The headless speed, in a process of its own: a second pool of OpenMP threads in this one
    would slow both."""
    command = [sys.executable, __file__, "--headless", "--seconds", str(seconds)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def rates(window: Window, seconds: float, rounds: int) -> dict[str, float]:
    """Training speed in an idle window, as a part of that without one; in turn, and the medians."""
    found: dict[str, list[float]] = {"window": [], "window, live overlay": []}
    for _ in range(rounds):
        alone = elsewhere(seconds)
        for name, live in (("window", False), ("window, live overlay", True)):
            window.train(live)
            before, start = window.step, time.perf_counter()
            window.pump(seconds)
            found[name].append(rate_over(start, before, window.step) / alone)
            window.stop()
    return {name: float(np.median(parts)) for name, parts in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--headless", action="store_true", help="only the speed without a window")
    arguments = parser.parse_args()
    if arguments.headless:
        print(headless_rate(arguments.seconds))
        return
    window = Window()
    window.measure(2)
    window.annotate()
    results = {"idle": window.measure(arguments.seconds)}
    for live in (False, True):
        window.train(live)
        before, start = window.step, time.perf_counter()
        figures = window.measure(arguments.seconds)
        figures["steps_per_s"] = rate_over(start, before, window.step)
        results["training, live overlay" if live else "training"] = figures
        window.stop()
    results["part of headless speed"] = rates(window, arguments.seconds, arguments.rounds)
    window.viewer.close()
    for name, figures in results.items():
        print(name, {k: round(v, 2) for k, v in figures.items()})
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
