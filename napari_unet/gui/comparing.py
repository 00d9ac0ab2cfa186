"""Two models on the same image: the masks of both, and a layer that shows where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QObject

from napari_unet.annotation import Region
from napari_unet.cards import model_folder
from napari_unet.config import PredictConfig, SegClass
from napari_unet.gui.jobs import Failure, Job
from napari_unet.gui.workspace import Workspace
from napari_unet.pictures import Picture
from napari_unet.run import BadInput, Control, Event
from napari_unet.segmenting import Result, Task, new_result, segment

if TYPE_CHECKING:
    from napari_unet.library import Model

COLORS = ("#e69f00", "#56b4e9", "#cc79a7")


@dataclass(frozen=True, eq=False)
class Compared(Event):
    """Both have predicted the image: the one in use, and the other."""

    mine: Result
    other: Result


class Comparison(QObject):
    """Compares the model in use with another one, for a dock that says what came of it."""

    def __init__(self, work: Workspace, say: Callable[[str], None], parent: QObject) -> None:
        super().__init__(parent)
        self._work, self._say = work, say
        self._job: Job | None = None

    def start(self, name: str, version: int | None) -> None:
        """Predict the image or slice that is shown by both."""
        work, mine = self._work, self._work.session.newest
        image, picture = work.image, work.picture
        if self._job is not None:
            raise BadInput("Two models are being compared already; wait until that is done.")
        if mine is None:
            raise BadInput("There is no model in use to compare with; train or use one first.")
        if image is None or picture is None:
            raise BadInput("There is no image to compare the models on; open one.")
        other = name if version is None else f"{name}, version {version}"
        region = work.layers.here(image, picture, mine.card.net.ndim, work.leading)
        control = Control()
        events = _compare(mine, name, version, picture, region, control)
        on_event = partial(self._on_event, image, other)
        self._job = work.jobs.start("comparing", events, control, on_event, self._on_end)
        work.hold_training(self._job)
        self._say("Comparing ...")

    def _on_event(self, image: Image, name: str, event: Event) -> None:
        if not isinstance(event, Compared) or image not in self._work.layers.images():
            return
        mine, other = event.mine.labels, event.other.labels
        differs = np.zeros(mine.shape, np.uint8)
        differs[(mine > 0) & (other == 0)] = 1
        differs[(mine == 0) & (other > 0)] = 2
        differs[(mine > 0) & (other > 0) & (mine != other)] = 3
        names = ("only the model in use", f"only {name}", "another class")
        shown = tuple(SegClass(name=n, color=c) for n, c in zip(names, COLORS, strict=True))
        layers = self._work.layers
        layers.result(image, "in use", mine, event.mine.classes)
        layers.result(image, "other", other, event.other.classes)
        layers.result(image, "difference", differs, shown)
        agree, painted = (mine == other) & (mine > 0), (mine > 0).sum() + (other > 0).sum()
        agreement = 2 * agree.sum() / max(1, painted)
        self._say(
            f"The masks of the model in use and of {name} agree by a Dice of "
            f"{agreement:.3f}. Orange: only the one in use; blue: only the other."
        )

    def _on_end(self, failure: Failure | None) -> None:
        self._job = None
        if failure is not None:
            self._say(failure.sentence)


def _compare(
    mine: Model, name: str, version: int | None, picture: Picture, region: Region, control: Control
) -> Iterator[Event]:
    from napari_unet.library import load_model

    results = []
    for model in (mine, load_model(model_folder(name), version)):
        result = new_result(picture)
        yield from segment(model, [Task(result, region)], PredictConfig(), control)
        results.append(result)
        if control.stopped:
            return
    yield Compared(*results)
