"""The Segment dock: which model, which part of which images, as what, and out of the viewer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image
from qtpy.QtWidgets import QCheckBox, QFormLayout, QProgressBar, QVBoxLayout, QWidget

from napari_unet.annotation import Region
from napari_unet.config import PredictConfig
from napari_unet.gui.dialogs import ask_file, ask_folder
from napari_unet.gui.forms import ConfigForm, Folded
from napari_unet.gui.jobs import Failure, Job
from napari_unet.gui.model_choice import IN_USE, ModelChoice
from napari_unet.gui.parts import beside, combo, follow, named, push, text
from napari_unet.gui.placing import finest, origin
from napari_unet.gui.workspace import Workspace, name_of
from napari_unet.io import Image as Source
from napari_unet.io import viewed_image
from napari_unet.pictures import Picture
from napari_unet.progress import count
from napari_unet.records import now
from napari_unet.run import BadInput, Control, Event, Noticed, Tiled
from napari_unet.segmenting import (
    LeftOut,
    ObjectConfig,
    Result,
    Segmented,
    Task,
    Written,
    segment,
    segment_files,
)
from napari_unet.suffixes import MASKS

SCREEN, PLANE, STACK, ALL, PROJECT, FOLDER = (
    "What is on the screen",
    "This image or slice",
    "Every slice or time point",
    "All open images",
    "All of the project, into a folder ...",
    "A folder ...",
)
SCOPES = (SCREEN, PLANE, STACK, ALL, PROJECT, FOLDER)
CLASSES, OBJECTS = "Classes", "Separate objects"
FILLED, OUTLINED = "filled", "as outlines"
NO_MODEL = "Train a model first, or choose one above."
OUTLINE = 2  # pixels
DRAW_SECONDS = 0.3  # between two drawings of a result that grows
ADVANCED = ("flips", "tile", "head", "device", "precision")


@dataclass(frozen=True, eq=False)
class Exported(Event):
    """The mask of an image is in a file."""

    path: Path
    image: Image
    is_whole: bool  # or whether parts of the image were not segmented


class SegmentDock(QWidget):
    """Masks of images, by a model."""

    def __init__(self, napari_viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._work = Workspace.of(napari_viewer)
        self._masks = self._work.masks
        self._images: dict[Picture, Image] = {}  # of the pictures that are being segmented
        self._control: Control | None = None
        self._noticed = ""  # by what runs or ran last
        self._keys: list[str] = []  # of the project's images whose masks are still to come
        self._named = ""  # the model that segments
        self._parting: ObjectConfig | None = None  # how objects are being told apart
        self._drawn = 0.0
        self._make_widgets()
        self._lay_out()
        self._connect()
        self._on_session_model_changed()

    # --- widgets ---

    def _make_widgets(self) -> None:
        self._model = named(ModelChoice(with_new=False), "segment.model", "The model to segment by")
        self._scope = combo("segment.scope", "What to segment", SCOPES)
        self._scope.setCurrentText(PLANE)
        self._kind = combo("segment.objects", "What the result holds", (CLASSES, OBJECTS))
        self._contour = combo("segment.contour", "How it is drawn", (FILLED, OUTLINED))
        self._format = combo("segment.format", "The kind of files to write the masks to")
        for suffix, name in MASKS.items():
            self._format.addItem(f"{name} ({suffix})", suffix[1:])
        self._objects = ConfigForm(ObjectConfig, ("split", "min_size", "fill_holes"), "segment")
        self._probabilities = named(
            QCheckBox("Probability"),
            "segment.probabilities",
            "A layer with the probability of each class as well",
        )
        self._uncertainty = named(
            QCheckBox("Uncertainty"),
            "segment.uncertainty",
            "A layer that shows where the model is unsure as well",
        )
        self._run = push("Segment", "segment.run", "Predict the mask, laid over the image")
        self._cancel = push("Cancel", "segment.cancel", "Stop; what is done so far stays")
        self._export = push("Export ...", "segment.export", "Write the image's mask to a file")
        self._bar = named(QProgressBar(), "segment.progress")
        self._form = ConfigForm(PredictConfig, ADVANCED, "segment")
        self._status = text("segment.status")

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Model", self._model)
        form.addRow("Where", self._scope)
        form.addRow("Result", self._kind)
        form.addRow("Shown", self._contour)
        form.addRow("Files", self._format)
        self._files = (form.labelForField(self._format), self._format)
        outer = QVBoxLayout(self)
        outer.addLayout(form)
        outer.addWidget(self._objects)
        outer.addLayout(beside(self._probabilities, self._uncertainty))
        outer.addLayout(beside(self._run, self._cancel, self._export))
        outer.addWidget(self._bar)
        outer.addWidget(self._status)
        outer.addWidget(Folded("Advanced", self._form, "unet.segment.advanced"))
        outer.addStretch(1)
        for widget in (*self._files, self._objects, self._bar):
            widget.hide()

    def _connect(self) -> None:
        self._run.clicked.connect(self._on_run_clicked)
        self._cancel.clicked.connect(self._on_cancel_clicked)
        self._export.clicked.connect(self._on_export_clicked)
        self._kind.currentTextChanged.connect(self._on_kind_changed)
        self._contour.currentTextChanged.connect(self._on_contour_changed)
        self._objects.valueChanged.connect(self._on_objects_changed)
        self._model.valueChanged.connect(self._refresh)
        self._scope.currentTextChanged.connect(self._on_scope_changed)
        follow(self, self._work.session.model_changed, self._on_session_model_changed)
        follow(self, self._work.image_changed, self._on_image_changed)
        follow(self, self._work.layers.changed, self._refresh)
        follow(self, self._masks.changed, self._on_masks_changed)

    # --- what is asked ---

    def _on_run_clicked(self) -> None:
        self._try(self._begin)
        self._refresh()

    def _begin(self) -> None:
        chosen = self._model.value()
        model = self._work.session.newest if chosen == IN_USE else chosen
        if model is None:
            raise BadInput("There is no model yet; train one, or choose one from a file.")
        control, view = Control(), self._work.view
        config = PredictConfig(
            **self._form.value(),
            probabilities=self._probabilities.isChecked(),
            uncertainty=self._uncertainty.isChecked(),
            focus=None if view is None else view.middle,
        )
        events = self._events(model, config, control)
        if events is None:
            return
        self._named = name_of(model)
        # With its dock closed, nobody waits for the result.
        self.destroyed.connect(control.stop)
        self._work.hold_training(self._start("segmenting", events, control))

    def _start(self, name: str, events: Iterator[Event], control: Control) -> Job:
        """Have something done beside the window, one thing at a time."""
        self._control, self._noticed = control, ""
        self._bar.setRange(0, 0)
        self._bar.show()
        return self._work.jobs.start(name, events, control, self._on_event, self._on_end)

    def _events(
        self, model: Any, config: PredictConfig, control: Control
    ) -> Iterator[Event] | None:
        objects = ObjectConfig(**self._objects.value()) if self._as_objects else None
        scope, self._keys = self._scope.currentText(), []
        if scope == PROJECT:
            return self._events_of_project(model, config, control, objects)
        if scope != FOLDER:
            return segment(model, self._tasks(), config, control, objects)
        source = ask_folder(self, "Folder of images to segment")
        out = ask_folder(self, "Folder to write the masks to") if source else None
        if source is None or out is None:
            return None
        return segment_files(
            model, source, out, self._format.currentData(), config, control, objects
        )

    def _events_of_project(
        self, model: Any, config: PredictConfig, control: Control, objects: ObjectConfig | None
    ) -> Iterator[Event] | None:
        files = self._work.keeping.files()
        self._keys = list(files)
        out = ask_folder(self, "Folder to write the masks to")
        if out is None:
            return None
        named = list(files.values())
        return segment_files(
            model, named, out, self._format.currentData(), config, control, objects
        )

    def _tasks(self) -> list[Task]:
        work, scope = self._work, self._scope.currentText()
        self._images.clear()
        if scope == ALL:
            opened = work.layers.images()
            return [Task(self._result(i, work.keeping.picture_of(i))) for i in opened]
        image, picture = work.image, work.picture
        if image is None or picture is None:
            raise BadInput("There is no image to segment; open one.")
        result = self._result(image, picture)
        if scope == SCREEN:
            view = work.view
            if view is None:
                raise BadInput("Nothing of the image is on the screen, or it is shown in 3-D.")
            return [Task(result, view.region)]
        if scope == PLANE and not work.session.volumes:
            return [Task(result, work.layers.here(image, picture, 2, work.leading))]
        return [Task(result)]

    def _result(self, image: Image, picture: Picture) -> Result:
        self._images[picture] = image
        return self._masks.begin(image, picture)

    def _on_cancel_clicked(self) -> None:
        if self._control is not None:
            self._control.stop()

    def _on_export_clicked(self) -> None:
        self._try(self._write)

    def _write(self) -> None:
        from napari_unet.export import describe

        image = self._work.image
        result = self._masks.of(image)
        if image is None or result is None:
            raise BadInput("This image has no mask yet; segment it first.")
        picture = result.picture
        known = (picture.pixels, picture.name, picture.spacing, picture.unit)
        like = viewed_image(*known, **origin(image))
        objects = result.objects if self._as_objects else None
        number = None if objects is None else int(objects.max(initial=0))
        about = partial(
            describe, shape=picture.shape, like=like, highest=len(result.classes), objects=number
        )
        path = ask_file(self, f"{image.name}-mask", about)
        if path is None:
            return
        job = self._start("exporting", _export(path, result, like, objects, image), Control())
        job.patience = None  # a file that is begun is written, though the window is closed
        self._refresh()
        self._cancel.setEnabled(False)  # a file is written as a whole

    # --- what happens ---

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Tiled):
            self._bar.setRange(0, event.total)
            self._bar.setValue(event.done)
            self._draw_growing()
        elif isinstance(event, Written):
            self._status.setText(f"{event.done} of {event.total}: {event.path.name}")
            if self._keys:
                self._work.keeping.change(self._keys.pop(0), exported=now())
        elif isinstance(event, LeftOut):
            self._status.setText(f"'{event.name}' is left out: {event.why}")
            del self._keys[:1]
        elif isinstance(event, Segmented):
            self._show(event.result, event.region)
            if self._parting is None and not event.stopped:  # a part is no better than what is kept
                self._keep(event.result)
        elif isinstance(event, Exported):
            rest = "" if event.is_whole else "; segmented only in part, the rest is left empty"
            self._status.setText(f"Written to {event.path}{rest}")
            self._work.keeping.mark(event.image, exported=now())
        elif isinstance(event, Noticed):
            self._noticed = event.message

    def _draw_growing(self) -> None:
        """A large mask is shown as it grows."""
        if time.monotonic() - self._drawn < DRAW_SECONDS or self._as_objects:
            return
        for picture, image in self._images.items():
            layer = self._work.layers.of(image, "prediction")
            result = self._masks.of(image)
            if layer is not None and result is not None and result.picture is picture:
                layer.refresh(extent=False, thumbnail=False)
        self._drawn = time.monotonic()

    def _on_end(self, failure: Failure | None) -> None:
        stopped = self._control is not None and self._control.stopped
        self._control = None
        self._bar.hide()
        if failure is not None:
            self._status.setText(failure.sentence)
        elif stopped:
            self._status.setText("Cancelled; what was done until then is shown.")
        self._refresh()
        parting, self._parting = self._parting, None
        if parting not in (None, ObjectConfig(**self._objects.value())):
            self._on_objects_changed()  # they were set otherwise meanwhile
        elif parting is not None and failure is None and not stopped:
            self._show_what_is_exported()  # of another image that was chosen meanwhile

    def _show(self, result: Result, region: Region | None = None) -> None:
        """Lay a result over its image, in the layers that are its own; say what is in a region."""
        image = self._images.get(result.picture)
        layers = self._work.layers
        if image is None or image not in layers.images():
            return
        contour = OUTLINE if self._contour.currentText() == OUTLINED else 0
        objects = self._as_objects and result.objects is not None
        data = result.objects if objects else result.labels
        classes = None if objects else result.classes
        assert data is not None
        if not self._work.session.training:
            layers.hide_live()
        layers.result(image, "prediction", data, classes, contour)
        if result.probabilities is not None:
            single = len(result.probabilities) == 1
            shown = result.probabilities[0] if single else result.probabilities
            layers.result(image, "probability", shown)
        if result.uncertainty is not None:
            layers.result(image, "uncertainty", result.uncertainty)
        said = _in_words(image, result, objects, region)
        self._status.setText(f"{said} {self._noticed}".strip())

    def _keep(self, result: Result) -> None:
        """The mask of an image of the project stays with it."""
        if self._keys:
            self._masks.keep(self._keys[0], result, self._named, show=True)
        else:
            key = self._work.keeping.key_of(self._images.get(result.picture))
            self._masks.keep(key, result, self._named)

    # --- how it is shown ---

    @property
    def _as_objects(self) -> bool:
        return bool(self._kind.currentText() == OBJECTS)

    def _on_scope_changed(self, scope: str) -> None:
        """Where many masks are written, as which files is asked beforehand."""
        for widget in self._files:
            widget.setVisible(scope in (PROJECT, FOLDER))
        self._refresh()

    def _on_kind_changed(self) -> None:
        self._objects.setVisible(self._as_objects)
        self._show_again()

    def _on_contour_changed(self) -> None:
        self._show_again()

    def _on_objects_changed(self) -> None:
        self._masks.forget_objects()
        self._show_again()

    def _show_again(self) -> None:
        """The present result, shown or parted in another way."""
        image = self._work.image
        result = self._masks.of(image)
        if image is None or result is None or self._control is not None:
            return
        self._images = {result.picture: image}
        if self._as_objects and result.objects is None:
            self._part(result)
        else:
            self._show(result)

    def _show_what_is_exported(self) -> None:
        """The mask of an image as classes or objects, however it was shown before."""
        image = self._work.image
        result = self._masks.of(image)
        layer = None if image is None else self._work.layers.of(image, "prediction")
        if layer is None or result is None:
            return
        if finest(layer) is not (result.objects if self._as_objects else result.labels):
            self._show_again()

    def _part(self, result: Result) -> None:
        from napari_unet.segmenting import parted

        control, self._parting = Control(), ObjectConfig(**self._objects.value())
        self._start("parting", parted(result, self._parting, control), control)
        self._refresh()

    def _on_session_model_changed(self) -> None:
        model = self._work.session.newest
        self._model.set_in_use(None if model is None else model.card.name)
        self._refresh()

    def _on_masks_changed(self, image: Image) -> None:
        """A mask that was kept is there again; it is shown as results are shown now."""
        said = self._status.text()  # of all of the project, perhaps, and not of this image
        if image is self._work.image:
            self._show_again()
        self._status.setText(said or self._status.text())
        self._refresh()

    def _on_image_changed(self) -> None:
        if self._control is None:
            self._status.setText("")  # it is about the image before
            self._show_what_is_exported()
        self._refresh()

    def _refresh(self) -> None:
        busy = self._control is not None
        image = self._work.image
        possible = image is not None or self._scope.currentText() in (PROJECT, FOLDER)
        self._run.setEnabled(not busy and possible and self._model.value() is not None)
        self._cancel.setEnabled(busy)
        self._export.setEnabled(not busy and self._masks.of(image) is not None)
        if self._model.value() is None and not busy:
            self._status.setText(NO_MODEL)
        elif self._status.text() == NO_MODEL:
            self._status.setText("")

    def _try(self, act: Callable[[], None]) -> None:
        """Do what was asked, or say why not."""
        self._status.setText("")
        try:
            act()
        except BadInput as error:
            self._status.setText(str(error))


def _export(
    path: Path, result: Result, like: Source, objects: np.ndarray | None, image: Image
) -> Iterator[Event]:
    from napari_unet.export import export_labels

    # The dialog has asked whether to replace what is there.
    export_labels(path, result.labels, like, result.classes, True, objects)
    yield Exported(path, image, result.is_whole)


def _in_words(image: Image, result: Result, objects: bool, region: Region | None) -> str:
    if objects and result.objects is not None:
        n = int(result.objects.max(initial=0))
        return f"'{image.name}': {count(n, 'object')}."
    part = result.labels[region or ()]
    share = np.count_nonzero(part) / part.size  # without another array of a slide's size
    of = "of what was segmented " if region else ""
    return f"'{image.name}': {100 * share:.1f} % {of}is covered by classes."
