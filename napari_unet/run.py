"""What happened: the events an engine yields, the control that stops it, the error a user reads."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from napari_unet.library import Model


FIRST_GUESS = 60  # steps; until then what a net says changes from second to second


class BadInput(ValueError):
    """Something the user gave cannot be used: one sentence with what, where and what to do."""


def first_line(error: Exception) -> str:
    """What an error says, in a line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


class Control:
    """Pause, resume, stop and ask an engine from any thread; it looks between steps and tiles."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._go.set()
        self._stop = threading.Event()
        self._asked = threading.Event()

    def pause(self) -> None:
        self._go.clear()

    def resume(self) -> None:
        self._go.set()

    def stop(self) -> None:
        self._stop.set()
        self._go.set()

    def ask(self) -> None:
        """Ask training for its model as it is now; it answers with Peeked, paused or not."""
        self._asked.set()

    def take_question(self) -> bool:
        """Whether something was asked; it counts as answered then."""
        asked = self._asked.is_set()
        self._asked.clear()
        return asked

    @property
    def paused(self) -> bool:
        return not self._go.is_set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def wait_while_paused(self) -> None:
        """Wait, but not past a stop, even if a pause came after it, nor past a question."""
        while not (self.stopped or self._asked.is_set() or self._go.wait(0.05)):
            pass


@dataclass(frozen=True)
class Event:
    """Something an engine did."""


@dataclass(frozen=True)
class Started(Event):
    """Training begins."""

    device: str
    precision: str
    parameters: int
    images: int
    labelled: int
    held_out: int
    first_guess: bool = False  # whether there is an answer before the first step
    learned: int = 0  # steps of the model that is gone on from


@dataclass(frozen=True)
class Stepped(Event):
    """One optimiser step and its loss; told when the next is under way, so that none waits."""

    step: int
    seconds: float
    loss: float
    pixels: int


@dataclass(frozen=True)
class Scored(Event):
    """The averaged weights were judged on the held-out annotation; Dice is None where absent."""

    step: int
    seconds: float
    dice: float
    classes: tuple[float | None, ...]
    best: bool


@dataclass(frozen=True)
class Noticed(Event):
    """Something the user should know, in a sentence."""

    kind: Literal[
        "held-out", "memory", "diverged", "class", "not-learned", "range", "checkpoint", "live"
    ]
    message: str


@dataclass(frozen=True)
class Rested(Event):
    """Training no longer improves and waits for the annotation to change."""

    step: int


@dataclass(frozen=True)
class Woke(Event):
    """The annotation changed; training goes on."""

    step: int


@dataclass(frozen=True)
class Peeked(Event):
    """The model as it is now, with the averaged weights: control asked for it."""

    step: int
    model: Model


@dataclass(frozen=True)
class Trained(Event):
    """Training is over; the model holds the best weights, and last those of the last step."""

    reason: Literal["seconds", "steps", "stopped", "failed"]
    step: int
    seconds: float
    dice: float | None
    model: Model
    last: Model


@dataclass(frozen=True)
class Tiled(Event):
    """One tile is predicted and written."""

    done: int
    total: int
    region: tuple[slice, ...]


@dataclass(frozen=True)
class Predicted(Event):
    """Prediction is over; after a stop, what was not reached is 0."""

    labels: Any
    probabilities: Any
    uncertainty: Any
    stopped: bool
    rims: Any = None  # where a net that tells them sees objects end
