"""The masks of open images: one result for each, kept with the project, shown again later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari.layers import Image
from psygnal import Signal
from qtpy.QtCore import QObject

from napari_unet.pictures import Picture
from napari_unet.project import Project
from napari_unet.records import MaskCard, now
from napari_unet.run import Control, Event
from napari_unet.segmenting import Result, new_result

if TYPE_CHECKING:
    from napari_unet.gui.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Kept(Event):
    """The mask of an image of the project is on disk."""

    key: str
    result: Result


@dataclass(frozen=True, eq=False)
class Recalled(Event):
    """A mask that was kept is in memory."""

    image: Image
    result: Result


class Masks(QObject):
    """What is known of each image: by whichever dock it was segmented."""

    changed = Signal(object)  # the image whose result is another one now

    def __init__(self, work: Workspace) -> None:
        super().__init__(work)
        self._work = work
        self._results: WeakKeyDictionary[Image, Result] = WeakKeyDictionary()

    def of(self, image: Image | None) -> Result | None:
        """The result of an image, if it was segmented."""
        return None if image is None else self._results.get(image)

    def begin(self, image: Image, picture: Picture) -> Result:
        """The result of an image, new if there is none, to be filled by whoever segments."""
        known = self._results.get(image)
        if known is None or known.picture is not picture:
            known = self._results[image] = new_result(picture)
        return known

    def forget_objects(self) -> None:
        """The objects are to be told apart in another way."""
        for result in self._results.values():
            result.objects = None

    def keep(self, key: str | None, result: Result, model: str) -> None:
        """Write a mask into the project, in a thread, if its image is in one."""
        project = self._work.keeping.project
        if project is None or project.read_only or key not in project.images:
            return
        made = MaskCard(model=model, classes=result.classes, ndim=result.ndim)
        events = _kept(project, key, result, made, now())
        self._work.jobs.start("keeping a mask", events, Control(), self._on_event)

    def recall(self, image: Image, picture: Picture, key: str) -> None:
        """Show what is kept as the mask of an image that was opened."""
        project = self._work.keeping.project
        if project is not None and project.images[key].mask is not None:
            events = _recalled(project, key, image, picture)
            self._work.jobs.start("opening a mask", events, Control(), self._on_event)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Kept):
            self._work.keeping.changed.emit()
            image = self._work.keeping.image_of(event.key)
            if image is not None and self._results.get(image) is not event.result:
                # It was segmented with all of the project, and not as it is open.
                self._put(image, replace(event.result, picture=self._work.layers.picture(image)))
        elif isinstance(event, Recalled) and event.image not in self._results:
            self._put(event.image, event.result)

    def _put(self, image: Image, result: Result) -> None:
        layers = self._work.layers
        if image in layers.images():
            self._results[image] = result
            layers.result(image, result.picture, "prediction", result.labels, result.classes)
            self.changed.emit(image)


def _kept(project: Project, key: str, result: Result, made: MaskCard, when: str) -> Iterator[Event]:
    project.keep_mask(key, result.labels, made, when)
    yield Kept(key, result)


def _recalled(project: Project, key: str, image: Image, picture: Picture) -> Iterator[Event]:
    result, made = new_result(picture), project.images[key].mask
    if made is not None and project.read_mask(key, result.labels):
        result.classes, result.ndim = made.classes, made.ndim
        yield Recalled(image, result)
