"""The masks of open images: one result for each, kept with the project, shown again later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari.layers import Image
from psygnal import Signal
from qtpy.QtCore import QObject

from napari_unet.annotation import ends_of, region_of
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
    show: bool  # over its image if that is open


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
            known = self._results[image] = self._kept(image, picture) or new_result(picture)
        return known

    def _kept(self, image: Image, picture: Picture) -> Result | None:
        """What is kept of an image, of which a part may be segmented anew."""
        project, key = self._work.keeping.project, self._work.keeping.key_of(image)
        if project is None or key not in project.images:
            return None
        return _read(project, key, picture)

    def forget_objects(self) -> None:
        """The objects are to be told apart in another way."""
        for result in self._results.values():
            result.objects = None

    def keep(self, key: str | None, result: Result, model: str, show: bool = False) -> None:
        """Write a mask into the project, in a thread, if its image is in one."""
        project = self._work.keeping.project
        if project is None or project.read_only or key not in project.images:
            return
        made = MaskCard(
            model=model,
            classes=result.classes,
            ndim=result.ndim,
            smallest=result.smallest,
            parts=None if result.parts is None else tuple(map(ends_of, result.parts)),
        )
        events = _keep(project, Kept(key, result, show), made, now())
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
            if event.show and image is not None:
                picture = self._work.keeping.picture_of(image)
                self._put(image, replace(event.result, picture=picture))
        elif isinstance(event, Recalled) and event.image not in self._results:
            self._put(event.image, event.result)

    def _put(self, image: Image, result: Result) -> None:
        layers = self._work.layers
        if image in layers.images():
            self._results[image] = result
            layers.result(image, "prediction", result.labels, result.classes)
            self.changed.emit(image)


def _keep(project: Project, event: Kept, made: MaskCard, when: str) -> Iterator[Event]:
    result = event.result
    project.keep_mask(event.key, result.labels, made, when, result.rims)
    yield event


def _recalled(project: Project, key: str, image: Image, picture: Picture) -> Iterator[Event]:
    result = _read(project, key, picture)
    if result is not None:
        yield Recalled(image, result)


def _read(project: Project, key: str, picture: Picture) -> Result | None:
    made, found = project.images[key].mask, project.read_mask(key)
    if made is None or found is None or found[0].shape != picture.shape:
        return None
    labels, rims = found
    return Result(
        picture,
        labels,
        classes=made.classes,
        ndim=made.ndim,
        rims=rims,
        smallest=made.smallest,
        parts=None if made.parts is None else [region_of(part) for part in made.parts],
    )
