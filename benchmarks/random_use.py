"""Random use of the real window: nothing may fail, stall, grow without end or be left running.

Act after act is drawn by weight from those that are possible at the time, each from the seed and
its own number, so that what a thread did sooner or later changes as little as may be of the rest.

    python benchmarks/random_use.py [--minutes 30] [--seed 0] [--follow]
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from common import Target, table
from hand import Hand

MOST_IMAGES = 4  # open at a time
MOST_CLASSES = 12
LAST_ACTS = 40  # that are told of when something fails
LONGEST_STALL = 1.0  # seconds
MOST_GROWTH = 0.10
BEAT_MS = 10
LOOK_SECONDS, LATE = 0.05, 0.4  # how often the watch looks, and when it asks what the window does
SOON, LONG = 0.25, 4.0  # seconds between two acts, and of just looking
SAMPLES = ("cells", "tissue", "volume", "coins")
DOCKS = ("Workspace", "Annotate", "Train", "Segment", "Models")
KEYS = ("1", "1", "1", "2", "3", "B", "B", "B", "E")
# Faults of napari itself, which happen without us too: they are counted, and no more.
KNOWN = {"_validate_non_painted_coord": "napari raises where one paints beside a layer's slices"}
RECTANGLE = "drag a rectangle (Escape: none)"


class Faults:
    """Whatever went wrong while it listened, each kind once, with the acts that led to it."""

    def __init__(self, ring: deque[str]) -> None:
        self.found: dict[str, tuple[str, list[str]]] = {}
        self.times: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self._ring = ring

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear of exceptions in slots, in threads and in finalizers, and of napari's errors."""
        from napari.utils.notifications import notification_manager

        before = sys.excepthook, threading.excepthook, sys.unraisablehook
        sys.excepthook = self._on_exception
        threading.excepthook = lambda a: self._on_exception(a.exc_type, a.exc_value)
        sys.unraisablehook = lambda a: self._on_exception(a.exc_type, a.exc_value)
        notification_manager.notification_ready.connect(self._on_notification)
        try:
            yield
        finally:
            notification_manager.notification_ready.disconnect(self._on_notification)
            sys.excepthook, threading.excepthook, sys.unraisablehook = before

    def note(self, text: str) -> None:
        """Something failed; it is of a kind with what failed in the same lines."""
        known = next((words for mark, words in KNOWN.items() if mark in text), None)
        if known is not None:
            self.known[known] += 1
            return
        kind = "".join(line for line in text.splitlines() if line.startswith("  File")) or text
        self.found.setdefault(kind, (text, list(self._ring)))
        self.times[kind] += 1

    def _on_exception(self, _kind: Any, error: BaseException, _where: Any = None) -> None:
        self.note("".join(traceback.format_exception(error)).strip())

    def _on_notification(self, notification: Any) -> None:
        from napari.utils.notifications import NotificationSeverity
        from qtpy.QtWidgets import QApplication

        if notification.severity < NotificationSeverity.ERROR:
            return
        details = ""
        for words, press in notification.actions:
            if words == "Copy details":
                press(notification)
                details = QApplication.clipboard().text().strip()
        self.note(f"{notification.message}\n{details}".strip())

    def say(self, seed: int) -> str:
        parts = []
        for kind, (text, acts) in self.found.items():
            lines = "\n".join(f"    {act}" for act in acts)
            parts.append(f"{self.times[kind]} x, seed {seed}, last acts:\n{lines}\n{text}")
        return "\n\n".join(parts)


class Heart:
    """A timer of the window; a second thread sees when it is late, and what the window does."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.act = ""
        self.longest: dict[str, tuple[float, str]] = {}  # by act: seconds, and where
        self._last = 0.0
        self._where = ""
        self._over = threading.Event()
        self._watch = threading.Thread(
            target=self._look, args=(threading.get_ident(),), name="random use, watch"
        )
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)

    @contextmanager
    def beating(self) -> Iterator[None]:
        self._last = time.perf_counter()
        self._timer.start(BEAT_MS)
        self._watch.start()
        try:
            yield
        finally:
            self._over.set()
            self._watch.join()
            self._timer.stop()

    def _beat(self) -> None:
        now = time.perf_counter()
        late, self._last = now - self._last, now
        where, self._where = self._where, ""
        self.longest[self.act] = max(self.longest.get(self.act, (0.0, "")), (late, where))

    def _look(self, window: int) -> None:
        asked = 0.0
        while not self._over.wait(LOOK_SECONDS):
            last = self._last
            if time.perf_counter() - last > LATE and last != asked:
                asked, self._where = last, _place(sys._current_frames()[window])


def _place(frame: Any) -> str:
    """Where a thread is: its innermost lines, and those of ours that led there."""
    lines = traceback.extract_stack(frame)
    near = lines[-3:]
    ours = [line for line in lines[:-3] if "napari_unet" in line.filename][-3:]
    return " > ".join(f"{Path(x.filename).name}:{x.lineno} {x.name}" for x in [*ours, *near])


class Memory:
    """Resident memory in the course of a run."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._start = time.perf_counter()
        self.samples: list[tuple[float, float]] = []  # seconds, MB

    def sample(self) -> None:
        now = time.perf_counter() - self._start
        self.samples.append((now, self._process.memory_info().rss / 2**20))

    def curve(self, parts: int = 6) -> list[float]:
        """The middle of each of so many parts of the run."""
        total = self.samples[-1][0] + 1e-9
        return [
            statistics.median([mb for t, mb in self.samples if int(t / total * parts) == part])
            for part in sorted({int(t / total * parts) for t, _ in self.samples})
        ]

    def growth(self) -> float:
        """How much more it is at the end than when the first five minutes, or sixth, were over."""
        total = self.samples[-1][0]
        warm = min(300.0, total / 6)
        early = [mb for t, mb in self.samples if warm <= t <= 2 * warm]
        late = [mb for t, mb in self.samples if t >= total - warm]
        return statistics.median(late) / statistics.median(early) - 1


# --- acts ---


@dataclass(frozen=True)
class Act:
    """Something a person may do, how often, and when it is possible."""

    weight: float
    needs: tuple[str, ...]  # what has to be there to be clicked
    when: Callable[[User], bool]
    do: Callable[[User], None]

    def possible(self, user: User) -> bool:
        return all(user.can(name) for name in self.needs) and self.when(user)


ACTS: dict[str, Act] = {}


def act(
    weight: float, *needs: str, when: Callable[[User], bool] = lambda user: True
) -> Callable[[Callable[[User], None]], Callable[[User], None]]:
    """Declare an act."""

    def declare(do: Callable[[User], None]) -> Callable[[User], None]:
        ACTS[do.__name__] = Act(weight, needs, when, do)
        return do

    return declare


class User(Hand):
    """Somebody who does this and that, without sense but never the same from another seed."""

    def __init__(self, viewer: Any, seed: int, folder: Path, follow: bool = False) -> None:
        super().__init__(viewer)
        self.seed = seed
        self.folder = folder  # of images to segment; what is written goes there too
        self.number = 0
        self.random = np.random.default_rng(seed)
        self.ring: deque[str] = deque(maxlen=LAST_ACTS)
        self.done: Counter[str] = Counter()
        self.faults, self.heart, self.memory = Faults(self.ring), Heart(), Memory()
        self._follow = follow

    # --- the run ---

    def use(self, seconds: float) -> None:
        """Do one thing after the other for some time."""
        end = time.perf_counter() + seconds
        with self.faults.listening(), self.heart.beating(), self._answering():
            while time.perf_counter() < end:
                self.do_something()
                self.memory.sample()

    def close(self) -> list[str]:
        """Close the window; which of our threads are left."""
        with self.faults.listening():
            self.note("close the window")
            self.viewer.close()
            self.wait(0.5)
        del self.viewer, self.window, self.canvas  # nothing may hold them on
        return [t.name for t in threading.enumerate() if t.name.startswith("napari-unet")]

    def do_something(self) -> None:
        self.number += 1
        self.random = np.random.default_rng([self.seed, self.number])
        # Each act draws how soon it would come: what is possible does not change that of the rest.
        soon = zip(ACTS, self.random.exponential(1, len(ACTS)), strict=True)
        order = sorted((haste / ACTS[name].weight, name) for name, haste in soon)
        name = next(name for _, name in order if ACTS[name].possible(self))
        self.heart.act = name
        self.done[name] += 1
        self.note(f"{self.number} {name}")
        try:
            ACTS[name].do(self)
        except Exception:  # noqa: BLE001 -- to be told of with all others at the end
            self.faults.note(traceback.format_exc().strip())
        self.wait(0.02 + min(2.0, float(self.random.exponential(SOON))))

    def note(self, words: str) -> None:
        self.ring.append(words)
        if self._follow:
            print(words, flush=True)

    def detail(self, *words: object) -> None:
        """Say more of the act that is being done."""
        self.note(" ".join((self.ring.pop(), *map(str, words))))

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Answer the dialogs of the system that ask for a folder."""
        from napari_unet.gui import segment

        def answer(_parent: Any, title: str) -> Path:
            source = "to segment" in title
            return self.folder / ("images" if source else f"masks {self.number}")

        with mock.patch.object(segment, "ask_folder", answer):
            yield

    # --- what there is ---

    @property
    def work(self) -> Any:
        from napari_unet.gui.workspace import Workspace

        return Workspace.of(self.viewer)

    @property
    def images(self) -> list[Any]:
        return self.work.layers.images()

    def find(self, name: str) -> Any:
        """As a person sees it: of two docks with the same, the one that is shown."""
        from qtpy.QtWidgets import QWidget

        found = self.window.findChildren(QWidget, f"unet.{name}")
        if not found:
            raise LookupError(f"there is no {name}")
        return next((widget for widget in found if widget.isVisible()), found[0])

    def can(self, name: str) -> bool:
        """Whether something is there and can be clicked."""
        try:
            widget = self.find(name)
        except LookupError:
            return False
        return bool(widget.isVisible() and widget.isEnabled())

    def docks(self) -> list[Any]:
        """Those of ours that are open."""
        from qtpy.QtWidgets import QDockWidget

        docks = self.window.findChildren(QDockWidget)
        return [d for d in docks if "(napari-unet)" in d.windowTitle() and d.isVisible()]

    def any_of(self, things: Any) -> Any:
        return things[int(self.random.integers(len(things)))]

    def unfold(self, fold: str) -> None:
        from napari_unet.gui.forms import Folded

        fold_widget = self.find(fold)
        assert isinstance(fold_widget, Folded)
        if not fold_widget.value():
            self.click(f"{fold}.toggle")
            self.wait(0.05)

    def walk(self, steps: int) -> list[Any]:
        """Points of the canvas along a stroke."""
        from qtpy.QtCore import QPoint

        size = np.array([self.canvas.width(), self.canvas.height()])
        at = size * self.random.uniform(0.2, 0.8, 2)
        turn = self.random.normal(0, 8, (steps, 2)).cumsum(0)
        places = np.clip(at + turn.cumsum(0), 2, size - 3)
        return [QPoint(int(x), int(y)) for x, y in places]

    def pick_from(self, name: str) -> None:
        """Choose anything from a list that opens, but nothing that opens a dialog."""
        box = self.find(name)
        words = [box.itemText(i) for i in range(box.count())]
        word = self.any_of([w for w in words if w != "A file ..."])
        self.detail(repr(word))
        self.choose(name, word)

    def tidy(self) -> None:
        """Remove the images opened first, and all that belongs to them."""
        layers, old = self.viewer.layers, self.images[MOST_IMAGES:]
        beginnings = tuple(f"{image.name}:" for image in old)
        gone = {layer for layer in layers if layer in old or layer.name.startswith(beginnings)}
        if gone:
            layers.selection = gone
            layers.remove_selected()

    def pixels(self, *shape: int) -> np.ndarray:
        """Noise with something brighter in it."""
        noise = self.random.integers(0, 90, shape, dtype=np.uint8)
        noise[..., shape[-2] // 4 : shape[-2] // 2, shape[-1] // 4 :] += 120
        return noise


# --- images and layers ---


@act(3)
def open_sample(user: User) -> None:
    name = user.any_of(SAMPLES)
    user.detail(name)
    button = f"annotate.sample.{name}"
    if user.can(button):
        user.click(button)
    else:
        user.viewer.open_sample("napari-unet", name)
    user.tidy()


@act(3)
def open_image(user: User) -> None:
    kind = user.any_of(list(KINDS))
    user.detail(kind)
    data, how = KINDS[kind](user)
    user.viewer.add_image(data, **{"name": kind, **how})
    user.tidy()


def _pyramid(user: User) -> tuple[Any, dict[str, Any]]:
    data = user.pixels(512, 640)
    return [data, data[::2, ::2]], {"multiscale": True}


KINDS: dict[str, Callable[[User], tuple[Any, dict[str, Any]]]] = {
    "plane": lambda user: (user.pixels(200, 300), {}),
    "small": lambda user: (user.pixels(24, 17), {}),
    "deep": lambda user: (user.pixels(256, 256).astype(np.uint16) * 200, {"scale": (0.5, 0.5)}),
    "float": lambda user: (user.pixels(128, 128).astype(np.float32) / 255, {"rotate": 20}),
    "rgb": lambda user: (np.moveaxis(user.pixels(3, 160, 200), 0, -1), {"rgb": True}),
    "stack": lambda user: (user.pixels(12, 96, 128), {"scale": (2, 1, 1)}),
    "movie": lambda user: (user.pixels(3, 6, 64, 80), {}),
    "channels": lambda user: (user.pixels(2, 128, 160), {"channel_axis": 0, "name": None}),
    "pyramid": _pyramid,
}


@act(3, when=lambda user: bool(user.images))
def switch_image(user: User) -> None:
    if user.can("annotate.image") and user.random.random() < 0.5:
        user.pick_from("annotate.image")
    else:
        layer = user.any_of(list(user.viewer.layers))
        user.detail("by selecting", layer.name)
        user.viewer.layers.selection.active = layer


@act(1, "annotate.axis")
def say_what_the_first_axis_is(user: User) -> None:
    user.pick_from("annotate.axis")


@act(1, "annotate.channels")
def tick_a_channel(user: User) -> None:
    from qtpy.QtCore import Qt

    channels = user.find("annotate.channels")
    item = channels.item(int(user.random.integers(channels.count())))
    on = item.checkState() == Qt.CheckState.Checked
    user.detail(item.text(), "off" if on else "on")
    item.setCheckState(Qt.CheckState.Unchecked if on else Qt.CheckState.Checked)


def _delete(user: User, layer: Any) -> None:
    user.detail(layer.name)
    user.viewer.layers.selection = {layer}
    user.viewer.layers.remove_selected()


@act(1.5, when=lambda user: len(user.viewer.layers) > 2)
def delete_layer(user: User) -> None:
    _delete(user, user.any_of(list(user.viewer.layers)))


@act(0.4, when=lambda user: user.work.session.training and user.work.painting is not None)
def delete_what_is_trained_on(user: User) -> None:
    of_image = user.random.random() < 0.5
    _delete(user, user.work.image if of_image else user.work.painting.layer)


@act(0.6, when=lambda user: user.work.layers.live() is not None)
def delete_live(user: User) -> None:
    _delete(user, user.work.layers.live())


@act(1, when=lambda user: len(user.viewer.layers) > 0)
def rename_layer(user: User) -> None:
    layer = user.any_of(list(user.viewer.layers))
    name = user.any_of(("cells", "live", f"name {user.number}", "a: annotation", "x/y", " "))
    user.detail(layer.name, "to", repr(name))
    layer.name = name


@act(1, when=lambda user: any(not i.multiscale for i in user.images))
def replace_data(user: User) -> None:
    image = user.any_of([i for i in user.images if not i.multiscale])
    data = np.asarray(image.data)
    how = user.any_of(("turned", "cropped", "float"))
    user.detail(image.name, how)
    if how == "cropped":
        image.data = (
            data[..., : max(8, data.shape[-2] // 2), :].copy()
            if not image.rgb
            else (data[: max(8, len(data) // 2)].copy())
        )
    else:
        image.data = data[::-1].copy() if how == "turned" else data.astype(np.float32)


# --- painting ---


@act(14, when=lambda user: bool(user.images))
def paint(user: User) -> None:
    if user.can("annotate.new"):
        user.click("annotate.new")
        user.wait(0.05)
    painting = user.work.painting
    if painting is not None and user.random.random() < 0.9:
        user.viewer.layers.selection.active = painting.layer
    key = user.any_of(KEYS)
    user.detail(key)
    user.press(key)
    user.drag(user.walk(int(user.random.integers(2, 15))))


@act(3, when=lambda user: user.work.painting is not None)
def undo(user: User) -> None:
    user.press("Z", "ControlModifier")


@act(1.5, when=lambda user: user.work.painting is not None)
def redo(user: User) -> None:
    user.press("Z", "ControlModifier", "ShiftModifier")


@act(0.6, "annotate.add", when=lambda user: len(user.work.session.classes) < MOST_CLASSES)
def add_class(user: User) -> None:
    user.click("annotate.add")


@act(0.5, "annotate.remove")
def remove_class(user: User) -> None:
    user.click("annotate.remove")


@act(1, "annotate.classes")
def pick_class(user: User) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    view = user.find("annotate.classes")
    user.scroll_to(view)
    index = view.model().index(int(user.random.integers(view.model().rowCount())), 1)
    user.detail(index.data())
    at = view.visualRect(index).center()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=at)


@act(0.7, "annotate.classes")
def rename_class(user: User) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QLineEdit

    view = user.find("annotate.classes")
    QTest.keyClick(view, Qt.Key.Key_F2)
    user.wait(0.05)
    editor = view.viewport().findChild(QLineEdit)
    if editor is not None:
        editor.selectAll()
        QTest.keyClicks(editor, user.any_of(("nucleus", "wall", f"c{user.number}", "")))
        QTest.keyClick(editor, user.any_of((Qt.Key.Key_Return, Qt.Key.Key_Escape)))


@act(0.5, "annotate.complete")
def complete_image(user: User) -> None:
    user.click("annotate.complete")


@act(0.5, "annotate.clear")
def clear(user: User) -> None:
    user.click("annotate.clear")


@act(0.7, "annotate.rectangle")
def complete_rectangle(user: User) -> None:
    user.click("annotate.rectangle")
    _drag_rectangle(user)


def _drag_rectangle(user: User) -> None:
    """Drag it, leave it, or do something else meanwhile."""
    user.wait(0.1)
    how = user.any_of(("drag", "drag", "Escape", "forget"))
    user.detail(how)
    if how == "drag":
        first, *_, last = user.walk(8)
        user.drag([first, (first + last) / 2, last])
    elif how == "Escape":
        user.press("Escape")


@act(1, "annotate.adopting.toggle", "annotate.adopt")
def take_over(user: User) -> None:
    user.pick_from("annotate.source")
    user.pick_from("annotate.how")
    user.click("annotate.adopt")
    if RECTANGLE in user.viewer.layers:
        _drag_rectangle(user)


@act(0.5, "annotate.adopting.toggle")
def fold_or_unfold_taking_over(user: User) -> None:
    user.click("annotate.adopting.toggle")


# --- training ---


@act(5, "train.start")
def start(user: User) -> None:
    user.click("train.start")


@act(1.5, "train.pause")
def pause(user: User) -> None:
    user.click("train.pause")


@act(1, "train.stop")
def stop(user: User) -> None:
    user.click("train.stop")


@act(0.7, "train.live")
def toggle_live(user: User) -> None:
    user.click("train.live")


@act(0.2, "train.advanced.toggle")
def toggle_volumes(user: User) -> None:
    user.unfold("train.advanced")
    user.click("train.volumes")


@act(0.7, "train.keep")
def keep(user: User) -> None:
    user.pick_from("train.keep")


@act(0.4, "train.start_from")
def start_from(user: User) -> None:
    user.pick_from("train.start_from")


# --- segmenting ---


@act(3, "segment.run")
def segment(user: User) -> None:
    user.pick_from("segment.scope")
    if user.can("segment.run"):
        user.click("segment.run")


@act(3, "segment.cancel")
def cancel(user: User) -> None:
    user.click("segment.cancel")


@act(1, "segment.contour")
def outline_or_fill(user: User) -> None:
    user.pick_from("segment.contour")


@act(1, "segment.objects")
def classes_or_objects(user: User) -> None:
    user.pick_from("segment.objects")


@act(0.5, "segment.probabilities", "segment.uncertainty")
def tick_more_results(user: User) -> None:
    user.click(user.any_of(("segment.probabilities", "segment.uncertainty")))


# --- the window ---


@act(0.3, when=lambda user: bool(user.docks()))
def close_dock(user: User) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    dock = user.any_of(user.docks())
    user.detail(dock.windowTitle())
    QTest.mouseClick(dock.title.close_button, Qt.MouseButton.LeftButton)


@act(6, when=lambda user: not user.docks())
def open_workspace(user: User) -> None:
    user.viewer.window.add_plugin_dock_widget("napari-unet", "Workspace")


@act(0.3, when=lambda user: len(user.docks()) < 2)
def open_dock(user: User) -> None:
    dock = user.any_of(DOCKS)
    user.detail(dock)
    user.viewer.window.add_plugin_dock_widget("napari-unet", dock)


@act(0.5)
def resize(user: User) -> None:
    width, height = int(user.random.integers(900, 1600)), int(user.random.integers(600, 1150))
    user.detail(width, height)
    user.window.resize(width, height)


@act(2, when=lambda user: len(user.viewer.layers) > 0)
def zoom_or_look_at_all(user: User) -> None:
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    if user.random.random() < 0.3:
        user.viewer.reset_view()
        return
    at, turn = user.walk(1)[0], 120 * int(user.random.choice((-3, -2, -1, 1, 2, 3)))
    user.detail(turn)
    everywhere = QPointF(user.canvas.mapToGlobal(at))
    free, plain = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    phase = Qt.ScrollPhase.NoScrollPhase
    wheel = (QPointF(at), everywhere, QPoint(), QPoint(0, turn), free, plain, phase, False)
    QApplication.sendEvent(user.canvas, QWheelEvent(*wheel))


@act(3, when=lambda user: user.viewer.dims.ndim > 2)
def move_slider(user: User) -> None:
    dims = user.viewer.dims
    axis = user.any_of(dims.not_displayed)
    step = int(user.random.integers(dims.nsteps[axis]))
    user.detail(axis, step)
    dims.set_current_step(axis, step)


@act(0.2, when=lambda user: user.viewer.dims.ndim > 2)
def roll_axes(user: User) -> None:
    user.press("E", "ControlModifier")


@act(0.15)
def switch_theme(user: User) -> None:
    user.viewer.theme = "light" if user.viewer.theme == "dark" else "dark"


@act(1.5)
def just_look(user: User) -> None:
    user.wait(float(user.random.uniform(1, LONG)))


# --- the report ---


def report(user: User, minutes: float, left: list[str]) -> bool:
    """Print what was found; whether all is as it should be."""
    stalls = sorted(user.heart.longest.items(), key=lambda item: -item[1][0])
    rows = [(name, user.done[name], f"{1000 * s:.0f}", where) for name, (s, where) in stalls]
    targets = [
        Target("faults", len(user.faults.found), 0, at_most=True),
        Target(f"longest stall, s ({stalls[0][0]})", stalls[0][1][0], LONGEST_STALL, at_most=True),
        Target("growth of memory", user.memory.growth(), MOST_GROWTH, at_most=True),
        Target(" ".join(["threads left", *left]), len(left), 0, at_most=True),
    ]
    curve = ", ".join(f"{mb:.0f}" for mb in user.memory.curve())
    print(f"# Random use, {minutes:g} minutes, seed {user.seed}: {user.number} acts\n")
    print(table(["after", "times", "longest stall, ms", "where"], rows))
    print(f"\nMemory in each sixth, MB: {curve}\n")
    print("\n".join(f"- {target.line()}" for target in targets))
    for words, times in user.faults.known.items():
        print(f"- known, {times} x: {words}")
    if user.faults.found:
        print(f"\n{user.faults.say(user.seed)}")
    return all(target.met for target in targets)


def open_folder(folder: Path) -> Path:
    """A folder with two images to segment."""
    import tifffile

    (folder / "images").mkdir()
    for name, seed in (("a", 0), ("b", 1)):
        pixels = np.random.default_rng(seed).integers(0, 255, (96, 128), dtype=np.uint8)
        tifffile.imwrite(folder / "images" / f"{name}.tif", pixels)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults-only", action="store_true", help="forgive stalls and memory")
    parser.add_argument("--follow", action="store_true", help="say each act before it is done")
    arguments = parser.parse_args()
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as name:
        folder = open_folder(Path(name))
        os.environ["NAPARI_UNET_HOME"] = str(folder / "home")
        os.environ["NAPARI_CONFIG"] = str(folder / "settings.yaml")
        import napari

        viewer = napari.Viewer()
        user = User(viewer, arguments.seed, folder, arguments.follow)
        user.window.resize(1280, 720)
        viewer.window.add_plugin_dock_widget("napari-unet", "Workspace")
        user.use(60 * arguments.minutes)
        left = user.close()
    sound = report(user, arguments.minutes, left)
    if arguments.faults_only:
        sound = not (user.faults.found or left)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
