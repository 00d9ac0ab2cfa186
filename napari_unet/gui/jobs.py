"""The one place that owns threads: an engine runs in one, its events arrive in the window's."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from napari.utils.notifications import Notification, NotificationSeverity, notification_manager
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QApplication

from napari_unet.run import BadInput, Control, Event, first_line

DRAIN_MS = 30  # how often the window looks for news
DRAIN_SECONDS = 0.008  # and how long it takes them in at a time
LAST_SECONDS = 10.0  # that closing waits for a thread to finish its step, unless it writes
NICENESS = 10


@dataclass(frozen=True)
class Failure:
    """Why a job ended early: a sentence, and for what is no fault of the user's, the details."""

    sentence: str
    details: str = ""


@dataclass(frozen=True)
class _Over:
    failure: Failure | None


class Job(QObject):
    """A generator of events in a thread of its own; signals are emitted in the window's."""

    happened = Signal(object)  # Event
    ended = Signal(object)  # Failure or None

    def __init__(
        self, name: str, events: Iterator[Event], control: Control, parent: QObject
    ) -> None:
        super().__init__(parent)
        self.control = control
        self.patience: float | None = LAST_SECONDS
        self._news: SimpleQueue[Event | _Over] = SimpleQueue()
        self._thread = threading.Thread(
            target=_run,
            args=(events, self._news, _threads()),
            name=f"napari-unet {name}",
            daemon=True,
        )
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._on_timer_timeout)

    def start(self) -> None:
        self._thread.start()
        self._timer.start(DRAIN_MS)

    def close(self) -> list[Event]:
        """Stop and wait; what happened meanwhile is no longer told, but given back."""
        self._timer.stop()
        self.control.stop()
        self._thread.join(self.patience)
        self.patience = 0.0  # once is enough
        left = []
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, Event):
                left.append(news)
        return left

    def _on_timer_timeout(self) -> None:
        until = time.perf_counter() + DRAIN_SECONDS
        while time.perf_counter() < until:
            try:
                news = self._news.get_nowait()
            except Empty:
                return
            if isinstance(news, _Over):
                self._timer.stop()
                self._thread.join()
                self.ended.emit(news.failure)
                return
            self.happened.emit(news)


class Jobs(QObject):
    """The threads of one viewer."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._running: list[Job] = []

    def start(
        self,
        name: str,
        events: Iterator[Event],
        control: Control,
        on_event: Callable[[Event], None],
        on_end: Callable[[Failure | None], None] = lambda _failure: None,
    ) -> Job:
        """Run a generator; its failure, if any, is notified before on_end is told."""
        job = Job(name, events, control, self)
        self._running.append(job)

        def end(failure: Failure | None) -> None:
            self._running.remove(job)
            job.deleteLater()
            if failure is not None:
                notify(failure)

        # Connected, and not called: Qt leaves out a dock that was closed meanwhile.
        job.happened.connect(on_event)
        job.ended.connect(end)
        job.ended.connect(on_end)
        job.start()
        return job

    def close(self) -> list[Event]:
        """Stop all that runs, and wait for it; the events that were not told any more."""
        for job in self._running:
            job.control.stop()
        left = [event for job in self._running for event in job.close()]
        self._running.clear()
        return left


def _threads() -> int:
    """With how many threads PyTorch computes here; 0 if it is not loaded."""
    torch: Any = sys.modules.get("torch")
    return torch.get_num_threads() if hasattr(torch, "get_num_threads") else 0


def _run(events: Iterator[Event], news: SimpleQueue[Any], threads: int) -> None:
    _lower_priority()
    if threads:  # or it would have as few, for good, as another that computes has just now
        sys.modules["torch"].set_num_threads(threads)
    failure: Failure | None = None
    try:
        for event in events:
            news.put(event)
    except Exception as error:  # noqa: BLE001 -- the one place where a thread's errors become words
        failure = explain(error)
    news.put(_Over(failure))


def explain(error: Exception) -> Failure:
    """An error in a sentence; if it is no user's fault, with what a developer needs."""
    if isinstance(error, BadInput):
        return Failure(str(error))
    details = "".join(traceback.format_exception(error))
    return Failure(
        f"This went wrong, and is a fault of napari-unet: {first_line(error)}. What was painted "
        "and the models are kept; please report it with the details.",
        details,
    )


def notify(failure: Failure) -> None:
    """Show a failure once; its details can be copied."""
    if not failure.details:
        notification_manager.dispatch(Notification(failure.sentence, NotificationSeverity.WARNING))
        return

    def copy(_notification: Any = None) -> None:
        QApplication.clipboard().setText(failure.details)

    notification_manager.dispatch(
        Notification(failure.sentence, NotificationSeverity.ERROR, actions=[("Copy details", copy)])
    )


def _lower_priority() -> None:
    """Let the window go first; threads that PyTorch starts from this one inherit it."""
    if sys.platform == "linux":  # elsewhere a thread cannot be told apart from its process
        with suppress(OSError):  # it may only be lowered
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
