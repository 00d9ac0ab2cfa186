"""The live overlay's half without a window: what is on the screen, predicted while training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import PredictConfig
from napari_unet.pictures import View
from napari_unet.run import Control, Event, Noticed, Peeked, Predicted, Started, first_line

if TYPE_CHECKING:
    from napari_unet.library import Model

SHARE = 0.1  # of the time, at most, in which training waits for a look
SOONEST = 1.0  # seconds between two looks while training
PATIENCE = 0.6  # seconds that one look may take: beyond, only the middle of the view is predicted
FIRST_PIXELS = {2: 2**20, 3: 2**18}  # of the first look, before the speed is known
MOST_REACH = {2: 1024, 3: 16}  # pixels around the view that are read; a volume's all would be slow


@dataclass(frozen=True, eq=False)
class Seen(Event):
    """What is on the screen was predicted: labels of a view's region, at its step."""

    step: int
    view: View
    labels: np.ndarray
    seconds: float


class Look:
    """The view that is to be predicted again and again; set in one thread, read in another."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._on = True
        self.view: View | None = None
        self._clock = clock
        self._since, self._cost = -1e9, 0.0
        self._seen: tuple[Any, ...] = ()
        self._speed: dict[tuple[float, int, bool], float] = {}  # pixels in a second, by kind of net

    @property
    def on(self) -> bool:
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        self._on = on
        if not on:  # what was seen is no longer shown, and new when it is to be shown again
            self._seen = ()

    def due(self, step: int) -> bool:
        """Whether to look now: something is new, and training has had its share of the time."""
        view = self.view
        if not self.on or view is None or self._seen == (step, *view.key):
            return False
        return self._clock() - self._since >= max(SOONEST, self._cost / SHARE)

    def is_new(self) -> bool:
        """Whether the view is another than the one last looked at."""
        return self.on and self.view is not None and self._seen[1:] != self.view.key

    def at(self, model: Model, step: int, config: PredictConfig) -> Seen | None:
        """Predict the view; of one that would take long, the middle."""
        view = self.view
        if not self.on or view is None:
            return None
        start = self._clock()
        # Also a view that cannot be shown was looked at, or it would be asked for at each step.
        self._seen = (step, *view.key)
        known = len(self._speed)
        try:
            seen = self._predict(model, view, step, config) if can_show(model, view) else None
        finally:
            self._since = self._clock()
        # The first look of a kind is slow for reasons that will not come again.
        self._cost = self._since - start if len(self._speed) == known else 0.0
        return seen

    def _predict(self, model: Model, view: View, step: int, config: PredictConfig) -> Seen:
        from napari_unet.inference import predict

        net = model.net
        ndim = net.config.ndim
        reach = tuple(min(h, MOST_REACH[ndim]) for h in net.halo)
        kind = (net.config.pixels, ndim, view.step > 1)
        first = kind not in self._speed
        most = FIRST_PIXELS[ndim] if first else int(self._speed[kind] * PATIENCE)
        view = view.within(max(most, 64**2))
        crop, inner = view.crop(reach, net.stride)
        start = self._clock()
        labels = np.zeros(0, np.uint8)
        for event in predict(model, crop, config, Control(), stats=view.picture.stats):
            if isinstance(event, Predicted):
                labels = event.labels
        seconds = self._clock() - start
        self._speed[kind] = most / PATIENCE if first else view.pixels / seconds
        labels = labels[inner]
        return Seen(
            step, view, labels.reshape((1,) * (len(view.region) - ndim) + labels.shape), seconds
        )


def can_show(model: Model, view: View) -> bool:
    """Whether this model can predict this view: its channels fit, and the axes shown are its."""
    net, axes = model.card.net, len(view.region)
    if net.in_channels != view.picture.n_channels or axes < net.ndim:
        return False
    return min(view.shown) >= axes - net.ndim


def watched(
    events: Iterator[Event], control: Control, look: Look, config: PredictConfig
) -> Iterator[Event]:
    """The events of training, and between them what it makes of the view.

    Whatever goes wrong with a look, training goes on.
    """
    step, knows_something = 0, False
    for event in events:
        yield event
        step = getattr(event, "step", step)
        knows_something |= step > 0 or (isinstance(event, Started) and event.first_guess)
        if isinstance(event, Peeked):
            seen: Event | None
            try:
                seen = look.at(event.model, event.step, config)
            except Exception as error:  # noqa: BLE001 -- of a file, a device, a library
                seen = Noticed("live", f"The live mask could not be drawn: {first_line(error)}")
            if seen is not None:
                yield seen
        elif knows_something and look.due(step):
            control.ask()
