"""One viewer's work, evented and free of Qt: classes, pictures, training under way, the models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from pydantic import ValidationError

from napari_unet.annotation import Region, TrainingSet
from napari_unet.cards import Card, model_folder
from napari_unet.config import PredictConfig, Role, SegClass, TrainConfig, class_table
from napari_unet.live import Look, Seen, watched
from napari_unet.pictures import Picture, View, numbered
from napari_unet.progress import Progress
from napari_unet.run import BadInput, Control, Event, Peeked, Trained

if TYPE_CHECKING:
    from napari_unet.library import Model
    from napari_unet.project import Project

Start = Any  # None for random weights, a Model, its name in the library, or its path


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run left to choose from: its best weights, its last, and the model before."""

    best: Model
    last: Model
    before: Model | None


@dataclass(frozen=True)
class Machine(Event):
    """What computes, in words, and if it is no GPU, why, and what to do."""

    device: str
    why_no_gpu: str


@dataclass(frozen=True, eq=False)
class _Painted:
    """A picture with the annotation that is being painted on it."""

    picture: Picture
    annotation: np.ndarray  # (*spatial), uint8; the layer's own
    role: Role = "both"


class Session:
    """What the docks of one viewer share; signals say what happened."""

    classes_changed = Signal(object)
    config_changed = Signal(object)
    annotation_changed = Signal()
    seen = Signal(object)  # a look at the screen
    model_changed = Signal(object)
    refused = Signal(str)  # why a picture is not learned, in a sentence
    outgrown = Signal()  # what is being trained has another number of classes or axes than before

    def __init__(self) -> None:
        self._config = TrainConfig()
        self.progress = Progress()
        self.look = Look()
        self.control: Control | None = None
        self.outcome: Outcome | None = None
        self.machine: Machine | None = None
        self._classes = class_table(1)
        self._volumes = False
        self._model: Model | None = None
        self._newest: Model | None = None  # as training had it a moment ago
        self._painted: dict[str, _Painted] = {}
        self._items: dict[str, set[str]] = {}  # of each picture, what of it is in the set
        self._set: TrainingSet | None = None
        self._channels = 0  # of the images in it

    # --- classes and models ---

    @property
    def config(self) -> TrainConfig:
        """How to train from the next start on."""
        return self._config

    @config.setter
    def config(self, config: TrainConfig) -> None:
        if config != self._config:
            self._config = config
            self.config_changed.emit(config)

    @property
    def classes(self) -> tuple[SegClass, ...]:
        return self._classes

    @classes.setter
    def classes(self, classes: tuple[SegClass, ...]) -> None:
        grown = len(classes) != len(self._classes)
        self._classes = classes
        if grown:
            self._start_over()
        elif self._set is not None:
            self._set.classes = classes
        self.classes_changed.emit(classes)

    @property
    def volumes(self) -> bool:
        """Whether stacks are learned as volumes, by a 3-D net, and not slice by slice."""
        return self._volumes

    @volumes.setter
    def volumes(self, volumes: bool) -> None:
        if volumes != self._volumes:
            self._volumes = volumes
            self._start_over()

    @property
    def model(self) -> Model | None:
        """The model in use: the one trained last, or one that was chosen."""
        return self._model

    @model.setter
    def model(self, model: Model | None) -> None:
        self._model = model
        self.model_changed.emit(model)

    @property
    def newest(self) -> Model | None:
        """The model in training as it was a moment ago, or the one in use."""
        return self._newest or self._model

    # --- pictures and their annotation ---

    @property
    def pictures(self) -> dict[str, Picture]:
        return {name: painted.picture for name, painted in self._painted.items()}

    @property
    def counts(self) -> tuple[int, ...]:
        """Painted pixels of background and of each class, over all pictures."""
        if self._set is None:
            return (0,) * (1 + len(self._classes))
        return tuple(int(n) for n in self._set.counts)

    def suits(self, card: Card) -> bool:
        """Whether a model reads images such as are learned now, so that a run can go on from it."""
        ndim = 3 if self._volumes else 2
        channels = card.net.in_channels if self._set is None else self._channels
        return (card.net.ndim, card.net.in_channels) == (ndim, channels)

    def refuse_misfit(self, picture: Picture, before: str = "") -> None:
        """Say why a picture cannot be learned together with those that are painted on.

        It may take the place of one that was there before.
        """
        self._check_axes(picture)
        own = (picture.name, before)
        rest = [p for n, p in self.pictures.items() if n not in own and self.labelled(n)]
        others = {p.n_channels for p in rest} - {picture.n_channels}
        if others:
            raise BadInput(
                f"'{picture.name}' has {picture.n_channels} channel(s) but the images painted so "
                f"far have {others.pop()}; paint on images of one kind, or begin another project."
            )

    def add(self, picture: Picture, annotation: np.ndarray, role: Role = "both") -> None:
        """Take a picture in; its annotation may be painted on and is to be told of by `paint`."""
        self.refuse_misfit(picture)
        if annotation.shape != picture.shape:
            raise BadInput(
                f"The annotation of '{picture.name}' has shape {annotation.shape} but its image "
                f"has {picture.shape}; give one of its shape."
            )
        if self.pictures.get(picture.name, picture) is not picture:
            self.remove(picture.name)
        self._painted[picture.name] = _Painted(picture, annotation, role)
        if self._channels not in (0, picture.n_channels):
            self._start_over()
        else:
            self.paint(picture.name)

    def labelled(self, name: str) -> int:
        """Painted pixels of a picture."""
        mine, items = self._items.get(name, set()), self._set.items if self._set else ()
        return sum(item.labelled for item in items if item.name in mine)

    def set_role(self, name: str, role: Role) -> None:
        """Say what a picture's annotation is for; what was trained on is not judged by."""
        painted = self._painted.get(name)
        if painted is None:
            return
        learned = name in self._items  # and not a plane while volumes are learned
        self.remove(name)
        self._painted[name] = replace(painted, role=role)
        if learned:
            self.paint(name)

    def remove(self, name: str) -> None:
        """Leave a picture and its annotation out."""
        if self._painted.pop(name, None) is None or self._set is None:
            return
        for item in self._items.pop(name, ()):
            self._set.remove(item)
        self.annotation_changed.emit()

    def paint(self, name: str, region: Region | None = None) -> None:
        """Take over what was painted in a region of a picture's annotation, or anywhere."""
        painted = self._painted[name]
        self._check_axes(painted.picture)
        training_set = self._training_set(painted.picture)
        lead = len(painted.picture.shape) - training_set.ndim
        region = region or tuple(slice(0, n) for n in painted.picture.shape)
        known = self._items.setdefault(name, set())
        for place in np.ndindex(*(s.stop - s.start for s in region[:lead])):
            plane = tuple(s.start + p for s, p in zip(region, place, strict=False))
            self._paint_item(training_set, painted, plane, region[lead:], known)
        self.annotation_changed.emit()

    def _paint_item(
        self,
        training_set: TrainingSet,
        painted: _Painted,
        plane: tuple[int, ...],
        region: Region,
        known: set[str],
    ) -> None:
        """Paint one plane, or one volume; it becomes an item with its first stroke."""
        picture, annotation = painted.picture, painted.annotation[plane]
        item = picture.name + "".join(f"[{p}]" for p in plane)
        values = annotation[region]
        if item in known:
            training_set.paint(item, region, values)
        elif values.any():
            pixels = picture.pixels[(slice(None), *plane)] if plane else picture.pixels
            training_set.add(
                item,
                pixels,
                values,
                region=region,
                stats=lambda: picture.stats,
                role=painted.role,
            )
            known.add(item)

    def _check_axes(self, picture: Picture) -> None:
        if self._volumes and len(picture.shape) < 3:
            raise BadInput(
                f"'{picture.name}' is a plane, but volumes are being learned; untick 3-D, or paint "
                "stacks."
            )

    def _training_set(self, picture: Picture) -> TrainingSet:
        """The set that this picture belongs in; the first that is painted gives the pixel size."""
        if self._set is None or not (self._set.items or self.training):
            ndim = 3 if self._volumes else 2
            spacing = picture.spacing[-ndim:]
            if len(spacing) < ndim:  # of a series, whose frames no pixel size parts
                spacing = ()
            self._set = TrainingSet(self._classes, ndim, spacing, picture.unit)
            self._channels = picture.n_channels
        return self._set

    def _start_over(self) -> None:
        """Build the training set anew; a net in training no longer fits it."""
        self._set = None
        self._items.clear()
        for name, painted in self._painted.items():
            if not (self._volumes and len(painted.picture.shape) < 3):
                try:
                    self.paint(name)
                except BadInput as error:  # the others are learned nevertheless
                    self.refused.emit(str(error))
        self.annotation_changed.emit()  # also where nothing is left to be painted
        if self.control is not None:
            self.outgrown.emit()

    # --- projects ---

    def open(self, project: Project) -> None:
        """Take over a project's classes and settings."""
        card = project.card  # whoever hears of the first of these may write the project's anew
        self.config = _known(card.training)
        self.volumes = card.volumes
        self.classes = card.classes  # the last, as it is told of

    def learn(self, project: Project, key: str) -> str:
        """Take in an image of a project with what is painted on it; the name it has here."""
        picture = project.picture(key)
        if picture.name in self._painted:  # of another image that is open
            picture = replace(picture, name=numbered(picture.name, self._painted))
        self.add(picture, project.annotation(key), project.images[key].role)
        return picture.name

    # --- training ---

    @property
    def training_set(self) -> TrainingSet | None:
        """What is learned from, if anything."""
        return self._set

    @property
    def training(self) -> bool:
        """Whether a run is under way, be it paused or at rest."""
        return self.control is not None

    @property
    def ready(self) -> bool:
        """Whether there is something to tell apart: two kinds of painted pixels."""
        return sum(n > 0 for n in self.counts) > 1

    def train(self, start: Start = None, name: str = "model") -> Iterator[Event]:
        """The events of a run, to be drawn by a thread and given to `take` in the window's."""
        if self.training:
            raise BadInput("Training is under way already; stop it first.")
        if self._set is None or not self._set.items:
            raise BadInput("Nothing is painted yet; paint a stroke of each class and background.")
        self.control = Control()
        self.progress.begin()
        self.outcome = None
        return _run(self.config, self._set, self.control, start, self.look, name)

    def take(self, event: Event) -> None:
        """Take in what happened."""
        self.progress.take(event, time.monotonic())
        self.progress.images = len(self._set.items) if self._set else 0
        if isinstance(event, Machine):
            self.machine = event
        if isinstance(event, Peeked):
            first, self._newest = self._newest is None, event.model
            if first:
                self.model_changed.emit(event.model)
        if isinstance(event, Trained):
            self.control = None
            if event.step:  # without one nothing was learned, and the model before stays
                self._newest = None
                self.outcome = Outcome(event.model, event.last, self._model)
                self.model = event.model
        if isinstance(event, Seen):
            self.seen.emit(event)

    def pause(self) -> None:
        if self.control is not None:
            self.control.pause()
            self.progress.pause()

    def resume(self) -> None:
        if self.control is not None:
            self.control.resume()
            self.progress.resume()

    def stop(self) -> None:
        """Stop within a step; the models come with the last event."""
        if self.control is not None:
            self.control.stop()
            self.progress.stop()

    def end(self) -> None:
        """The run is over, whatever ended it."""
        lost, self._newest = self._newest, None
        if self.control is not None:
            self.control = None
            self.progress.phase = "idle"
        if lost is not None:
            self.model_changed.emit(self._model)

    def keep(self, which: str) -> None:
        """After a run, use its best weights, its last, or the model there was before."""
        if self.outcome is not None:
            self.model = getattr(self.outcome, which)

    def set_view(self, view: View | None) -> None:
        """What is on the screen now; training that waits is asked for it at once."""
        self.look.view = view
        waits = self.progress.phase in ("paused", "resting")
        if self.control is not None and waits and self.look.is_new():
            self.control.ask()


@dataclass(frozen=True, eq=False)
class Loaded(Event):
    """A model is in memory."""

    model: Model


def get_ready() -> Iterator[Event]:
    """Load PyTorch while the first strokes are painted."""
    from napari_unet import training  # noqa: F401 -- for the run that starts soon

    yield from ()


def load(name: str, version: int | None) -> Iterator[Event]:
    """Load a model of the library; in the thread that does so, PyTorch is loaded too."""
    from napari_unet.library import load_model

    yield Loaded(load_model(model_folder(name), version))


def _known(settings: dict[str, Any]) -> TrainConfig:
    """Settings as far as this version knows them; those of a later one may be others."""
    known = {k: v for k, v in settings.items() if k in TrainConfig.model_fields}
    try:
        return TrainConfig.model_validate(known)
    except ValidationError:
        return TrainConfig()


def _run(
    config: TrainConfig,
    training_set: TrainingSet,
    control: Control,
    start: Start,
    look: Look,
    name: str,
) -> Iterator[Event]:
    """A run with looks in between; in the thread that draws it, PyTorch is loaded."""
    from napari_unet.device import choose_device, describe_device, free_memory, why_no_gpu
    from napari_unet.library import chosen_model
    from napari_unet.training import train

    device = choose_device(config.device, training_set.ndim)
    yield Machine(describe_device(device), why_no_gpu() if device.type == "cpu" else "")
    first = None if start is None else chosen_model(start)
    seeing = PredictConfig(device=config.device, precision=config.precision)
    events = train(config, training_set, control, start=first, name=name)
    yield from watched(events, control, look, seeing)
    free_memory(device)
