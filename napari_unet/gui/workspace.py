"""What the docks of one viewer share: its session, layers and threads, and how they meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import napari
import numpy as np
from napari.layers import Image, Labels
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QApplication

from napari_unet.annotation import Region, without
from napari_unet.cards import (
    find_version,
    free_name,
    is_zip,
    library_folder,
    possible_name,
    read_card,
)
from napari_unet.config import BACKGROUND
from napari_unet.gui.jobs import Failure, Job, Jobs, notify
from napari_unet.gui.keeping import Keeping
from napari_unet.gui.masks import Masks
from napari_unet.gui.painting import ERASER, Painting
from napari_unet.gui.preview import draw_preview
from napari_unet.gui.viewer import LIVE, Layers, role_of
from napari_unet.live import Seen
from napari_unet.pictures import Picture, View
from napari_unet.run import BadInput, Control, Event, Trained
from napari_unet.session import Loaded, Session, get_ready, load
from napari_unet.showing import OURS

if TYPE_CHECKING:
    from napari_unet.library import Model

NAME = "unet.workspace"
LOOK_MS = 150  # between two looks at where the viewer looks
MODEL_SECONDS = 60.0  # that closing waits for what a run has learned


@dataclass(eq=False)
class _Work:
    """An annotation that counts, its image, and how the engine reads that."""

    painting: Painting
    image: Image
    picture: Picture


class Workspace(QObject):
    """One for each viewer, found through it; it lives and dies with the viewer's window."""

    image_changed = Signal(object)  # the image that is worked on, or None
    picked = Signal(int)  # the label that is painted with
    said = Signal(str)  # a sentence about what was just done, or could not be
    kept = Signal()  # the model that a run made is in the library
    run_started = Signal()
    run_ended = Signal(object)  # Failure or None
    live_changed = Signal(bool)  # whether the live overlay is shown

    @classmethod
    def of(cls, viewer: napari.Viewer) -> Workspace:
        """The workspace of a viewer, made when first asked for."""
        # Plugins are given a proxy of the viewer; its window is what all docks have in common.
        viewer = getattr(viewer, "__wrapped__", viewer)
        window = viewer.window._qt_window
        found = window.findChild(cls, NAME)
        return found if found is not None else cls(viewer, window)

    def __init__(self, viewer: napari.Viewer, window: QObject) -> None:
        super().__init__(window)
        self.setObjectName(NAME)
        self.session = Session()
        self.layers = Layers(viewer)
        self.jobs = Jobs(self)
        self.keeping = Keeping(self)
        self.masks = Masks(self)
        self.layers.taken = lambda: set(self.session.pictures)
        self.image: Image | None = None
        self.channels: tuple[Image, ...] = ()  # further ones
        self.leading = False  # whether the image's first axis is its channels
        self._read_as: WeakKeyDictionary[Image, tuple[tuple[Image, ...], bool]]
        self._read_as = WeakKeyDictionary()  # the same of images that were worked on before
        self._label = 1  # that is painted with
        self._works: dict[Labels, _Work] = {}
        self._run: Job | None = None
        self._ready = False  # whether PyTorch is loaded, or about to be
        self._starting = False
        self._again = False  # whether to start once more when the run that is stopping has ended
        self._from: Any = None  # what the run began with
        self._seen: Seen | None = None  # the last look, which becomes the model's picture
        self._held = False  # whether training waits for segmenting
        self.kept_as: str | None = None  # the name in the library of the model that a run made
        self._overlaid: Image | None = None  # what lay under the live overlay that was removed
        self._removal = QTimer(self, singleShot=True)
        self._removal.timeout.connect(self._on_removal_timeout)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._on_timer_timeout)
        QApplication.instance().aboutToQuit.connect(self.close)
        # A window need not be told to close: it may just go, with the last that refers to it.
        self.destroyed.connect(lambda: Workspace.close(self))
        self.layers.changed.connect(self._on_layers_changed)
        self.layers.gone.connect(self._on_layers_gone)
        self.layers.replaced.connect(self._on_layers_replaced)
        self.layers.color(self.session.classes)
        self.session.classes_changed.connect(self.layers.color)
        self.session.seen.connect(self._on_session_seen)
        self.session.refused.connect(self.said.emit)
        self.session.outgrown.connect(self._on_session_outgrown)
        self.work_on(self.layers.active_image() or next(iter(self.layers.images()), None))

    # --- the image that is worked on ---

    def work_on(
        self,
        image: Image | None,
        channels: tuple[Image, ...] | None = None,
        leading: bool = False,
    ) -> None:
        """Paint on, look at and segment this image from now on; read as before, if not said how."""
        if image is not None and channels is None:
            channels, leading = self.reading(image) or ((), False)
        channels = channels or ()
        if (image, channels, leading) == (self.image, self.channels, self.leading):
            return
        painting = self.painting if image is self.image else None
        if image is not None and painting is not None:  # or what is painted could not be learned
            wanted = self.layers.picture(image, channels, leading)
            self.session.refuse_misfit(wanted, self._works[painting.layer].picture.name)
        self.image, self.channels, self.leading = image, channels, leading
        if image is not None:
            self._read_as[image] = (channels, leading)
        painting = self.painting
        if painting is not None and self.picture is not None:
            self._read_anew(painting.layer, self.picture)
        self._carry()
        self.image_changed.emit(image)

    def reading(self, image: Image) -> tuple[tuple[Image, ...], bool] | None:
        """Further channels of an image that was worked on, and whether its first axis is some."""
        if image not in self._read_as:
            return None
        channels, leading = self._read_as[image]
        return (channels if set(channels) <= set(self.layers.siblings(image)) else ()), leading

    def _read_anew(self, layer: Labels, picture: Picture) -> None:
        """The pixels under an annotation are others now, or are read in another way."""
        if picture is self._works[layer].picture:
            return
        self.session.remove(self._works[layer].picture.name)
        if picture.shape != layer.data.shape:
            self._misfits(layer)
            return
        work = self._works[layer]
        work.picture = picture
        try:
            self.session.add(picture, layer.data, self.keeping.role_of(work.image))
        except BadInput as error:
            self._leave(layer)
            self.said.emit(str(error))

    @property
    def picture(self) -> Picture | None:
        """The image that is worked on, as the engine reads it."""
        if self.image is None:
            return None
        return self.layers.picture(self.image, self.channels, self.leading)

    @property
    def view(self) -> View | None:
        """What of the image that is worked on is on the screen."""
        if self.image is None or self.picture is None:
            return None
        return self.layers.view(self.image, self.picture, self.leading)

    @property
    def painting(self) -> Painting | None:
        """The annotation of the image that is worked on, if it has one."""
        layer = None if self.image is None else self.layers.of(self.image, "annotation")
        return self._works[layer].painting if layer in self._works else None

    def annotate(self) -> Painting:
        """The annotation of the image that is worked on, made if there is none."""
        if self.image is None or self.picture is None:
            raise BadInput("There is no image; open one, or a sample, and paint on it.")
        self.session.refuse_misfit(self.picture)  # before there is a layer to paint on
        stale = self.layers.of(self.image, "annotation")
        if stale is not None and stale.data.shape != self.picture.shape:
            self._misfits(stale)
        layer = self.layers.annotate(
            self.image, self.picture, self.session.classes, self.keeping.recall
        )
        if layer not in self._works:
            self._take_in(layer, self.image, self.picture)
            if layer is stale and layer.data.any():  # it was painted on while nobody watched
                self._paint(layer, None)
            self._carry()
            self._get_ready()
        return self._works[layer].painting

    def _get_ready(self) -> None:
        """Who makes an annotation will soon train: the first mask need not wait for PyTorch."""
        if not self._ready:
            self._ready = True
            self.jobs.start("getting ready", get_ready(), Control(), lambda _event: None)

    def _take_in(self, layer: Labels, image: Image, picture: Picture) -> None:
        painting = Painting(layer, self)

        def paint(region: Region | None) -> None:
            try:
                self._paint(layer, region)
            except BadInput as error:
                self.said.emit(str(error))

        painting.painted.connect(paint)
        painting.picked.connect(partial(self._on_painting_picked, painting))
        painting.bind_keys(self._on_key_pressed)
        self._works[layer] = _Work(painting, image, picture)
        self.layers.changed.emit()  # it is painted on now
        self.session.add(picture, layer.data, self.keeping.role_of(image))

    def _paint(self, layer: Labels, region: Region | None) -> None:
        """Something was painted; without a region, the whole may be another."""
        work = self._works[layer]
        picture = work.picture
        if layer.data.dtype != np.uint8:  # napari offers to convert it
            known = (layer.data >= 0) & (layer.data <= BACKGROUND)
            layer.data, region = np.where(known, layer.data, 0).astype(np.uint8), None
            self.said.emit(f"'{layer.name}' stays as it was: classes are numbers up to 254.")
        if layer.data.shape != picture.shape:
            self._misfits(layer)
            return
        try:
            self.keeping.paint(work.image, picture, layer.data, region)
        finally:  # it is learned, though it may not be saved
            if region is None:
                self.session.add(picture, layer.data, self.keeping.role_of(work.image))
            else:
                self.session.paint(picture.name, region)

    def pick(self, label: int) -> None:
        """Paint with a class, background or the eraser from now on."""
        if label <= len(self.session.classes) or label == BACKGROUND:
            self.annotate().pick(label)
            self._label = label
            self.picked.emit(label)

    def _carry(self) -> None:
        """What was painted with on one image is painted with on the next."""
        painting = self.painting
        if painting is not None and self._label != ERASER:
            classes = len(self.session.classes)
            painting.layer.selected_label = self._label if self._is_label(self._label) else classes

    def _is_label(self, label: int) -> bool:
        return 0 < label <= len(self.session.classes) or label == BACKGROUND

    def _on_painting_picked(self, painting: Painting, label: int) -> None:
        """A label was chosen in napari's own controls."""
        if painting is not self.painting or label == ERASER:
            return
        if self._is_label(label):
            self._label = label
            self.picked.emit(label)
        else:
            self._carry()
            self.said.emit(f"{label} is no class; add one in the table of classes first.")

    def _on_key_pressed(self, label: int) -> None:
        try:
            self.pick(label)
        except BadInput as error:
            self.said.emit(str(error))

    def remove_class(self, number: int) -> None:
        """Forget a class and what was painted of it; the later ones move up.

        What was done before cannot be undone then: it would come back under other names.
        """
        classes = self.session.classes
        with self.no_start():
            for layer, work in self._works.items():
                values = without(layer.data, number, len(classes))
                work.painting.set(tuple(slice(0, n) for n in values.shape), values)
                work.painting.forget()
            learned = self.keeping.learned.renumber(number)
            self.session.classes = classes[: number - 1] + classes[number:]
            self.keeping.learned.learn(learned)

    # --- training ---

    def start_training(self, start: Any = None) -> None:
        """Start a run from random weights, a model, or a model's name or path."""
        if self._run is not None and not self.session.training:
            raise BadInput("The run before is about to end; press Start again in a moment.")
        if self._starting:
            return
        with self.no_start():
            self.keeping.fill()
        self._seen = None
        events = self.session.train(start, self._name_for(start))
        self._from = start
        assert self.session.control is not None
        self._run = self.jobs.start(
            "training", events, self.session.control, self.session.take, self._on_job_end
        )
        self._run.patience = MODEL_SECONDS
        self._timer.start(LOOK_MS)
        self.run_started.emit()

    @contextmanager
    def no_start(self) -> Iterator[None]:
        """Inside, images come and go, which would make a run start by itself."""
        before, self._starting = self._starting, True
        try:
            yield
        finally:
            self._starting = before

    @property
    def began_from(self) -> str:
        """What the run began with, in a word; nothing for new weights."""
        return "" if self._from is None else name_of(self._from)

    def stop_training(self) -> None:
        """Stop, also where a run was about to be followed by another."""
        self._again = False
        self.session.stop()

    def _name_for(self, start: Any) -> str:
        """One that is gone on from keeps its name; a new one has the project's, or a picture's."""
        if start is None:
            return free_name(self.keeping.name or next(iter(self.session.pictures), "model"))
        name = name_of(start)
        if not isinstance(start, Path):
            return name
        in_library = not is_zip(start) and find_version(read_card(start), name) is not None
        return name if in_library else free_name(name)  # and no version of another of that name

    def _on_job_end(self, failure: Failure | None) -> None:
        self._run = None
        self._timer.stop()
        self.session.end()
        outcome = self.session.outcome
        if outcome is not None:
            self.keep("best")
            self.keeping.learned.note(outcome.best, self.kept_as)
        self.run_ended.emit(failure)
        if self._again and failure is None:
            last = self._from if outcome is None else outcome.last
            fits = outcome is None or self.session.suits(outcome.last.card)
            self._go_on_from(last if fits else None)
        self._again = False

    def keep(self, which: str) -> None:
        """After a run, use and put into the library its best weights, its last, or those before."""
        self.session.keep(which)
        if self.session.model is not None:
            self._put_by(self.session.model, learned=which != "before")

    def _put_by(self, model: Model, learned: bool = True) -> None:
        """Put a model into the library; one just learned with what it made of the screen."""
        if learned and self._seen is not None:
            with suppress(Exception):  # of a file that is gone: no model is lost for its picture
                model.preview = draw_preview(self._seen.view, self._seen.labels, model.card.classes)
        model.card = model.card.named(name_of(model))
        try:
            model.save(library_folder() / model.card.name)
        except BadInput as error:
            notify(Failure(str(error)))
        else:
            self.kept_as = str(model.card.name)
            self.kept.emit()
        self.keeping.keep_model(model)

    def use(self, name: str, version: int | None = None) -> None:
        """Use a model of the library from now on."""
        self.jobs.start("loading", load(name, version), Control(), self._on_model_loaded)

    def _on_model_loaded(self, event: Event) -> None:
        if isinstance(event, Loaded):
            painted = any(self.session.counts) or self.keeping.has_strokes
            if not painted and not self.session.training:
                self.session.classes = event.model.card.classes
            self.session.model = event.model

    def hold_training(self, job: Job) -> None:
        """On a CPU two engines at once would both crawl: training waits for the shorter one."""
        if self.session.training and self.session.progress.phase != "paused":
            self._held = True
            self.session.pause()
            job.ended.connect(self._on_shorter_job_ended)

    def _on_shorter_job_ended(self) -> None:
        if self._held:
            self._held = False
            self.session.resume()

    def _go_on_from(self, start: Any) -> None:
        try:
            self.start_training(start)
        except BadInput as error:
            self.said.emit(str(error))

    def _on_session_outgrown(self) -> None:
        """The net no longer fits what is painted: stop it, and go on from its weights."""
        self._again = True
        self.session.stop()

    # --- the live overlay ---

    def show_live(self, on: bool) -> None:
        """Show or hide what is made of the screen while training."""
        if on == self.session.look.on:
            return
        self.session.look.on = on
        if not on:
            self.layers.hide_live()
        self._on_timer_timeout()

    def _on_timer_timeout(self) -> None:
        self.session.set_view(self.view)

    def _on_session_seen(self, seen: Seen) -> None:
        self._seen = seen
        if self.session.look.on and self.image is not None and seen.view.picture is self.picture:
            self.layers.show_live(seen, self.image, self.session.classes)

    # --- what happens to layers and to the window ---

    def _on_layers_changed(self) -> None:
        active = self.layers.active_image()
        if active is not None and active not in (self.image, *self.channels):
            self.work_on(active)
        elif self.image is not None and self.image not in self.layers.images():
            self.work_on(next(iter(self.layers.images()), None))

    def _on_layers_gone(self, gone: Any) -> None:
        for layer, work in list(self._works.items()):
            if gone in (layer, work.image):
                self._leave(layer)
                self.keeping.let_go(work.image)
        if isinstance(gone, Image):
            self.keeping.leave(gone)
        if role_of(gone) == LIVE and self.session.look.on and not self.layers.hiding:
            self._overlaid = self.image
            self._removal.start()

    def _on_removal_timeout(self) -> None:
        """Who removes the live overlay, and not its image with it, wants none."""
        if self._overlaid in self.layers.images():
            self.session.look.on = False
            self.live_changed.emit(False)

    def _on_layers_replaced(self, image: Image) -> None:
        for layer, work in list(self._works.items()):
            if work.image is image and image is self.image and self.picture is not None:
                self._read_anew(layer, self.picture)
            elif work.image is image:
                self._read_anew(layer, self.layers.picture(image))

    def _misfits(self, layer: Labels) -> None:
        """An annotation of another shape than its image is one no more, but the user's own."""
        if layer in self._works:
            self._leave(layer)
        layer.metadata.pop(OURS)
        self.said.emit(
            f"'{layer.name}' no longer has the shape of its image; it is left out of training."
        )

    def _leave(self, layer: Labels) -> None:
        """An annotation no longer counts; its layer, if it is there, stays."""
        self._works[layer].painting.close()  # with it the last stroke is told of
        work = self._works.pop(layer)
        self.session.remove(work.picture.name)
        work.painting.deleteLater()

    def close(self) -> None:
        """Stop everything; nothing may outlive the window, and what was learned is kept."""
        self._timer.stop()
        # The viewer may be used without its window, and then lives on.
        for signal in (self.layers.changed, self.layers.gone, self.layers.replaced):
            signal.disconnect()
        for work in self._works.values():
            work.painting.close()
        self._works.clear()
        if self._run is not None:  # before the project is closed, which is to have the model
            for event in self._run.close():
                if isinstance(event, Trained) and event.step:
                    self._put_by(event.model)
                    self.keeping.learned.note(event.model, self.kept_as)
        self.keeping.close()
        self.jobs.close()
        self.keeping.rescue()


def name_of(model: Any) -> str:
    """What a model is called: one in memory, in the library, or in a file."""
    if isinstance(model, Path):
        return model.stem if is_zip(model) else model.name
    return model if isinstance(model, str) else possible_name(model.card.name)
