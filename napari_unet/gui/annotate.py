"""The Annotate dock: choose an image, paint classes on it, and say what is complete."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import napari
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFormLayout,
    QGridLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_unet.annotation import Region
from napari_unet.config import SegClass
from napari_unet.gui.adopting import HOWS, adopt, parse_mapping, suggest_mapping
from napari_unet.gui.classes import ClassTable
from napari_unet.gui.forms import Folded
from napari_unet.gui.parts import beside, combo, fill, follow, named, push, text
from napari_unet.gui.welcome import Welcome
from napari_unet.gui.workspace import Workspace
from napari_unet.run import BadInput

SLICES, CHANNELS = "Its first axis is slices or time", "Its first axis is channels"

KEYS = "Ctrl+Z undoes; [ and ] change the brush; hold Space to move the image."


class AnnotateDock(QWidget):
    """What is painted, on which image."""

    def __init__(self, napari_viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._work = Workspace.of(napari_viewer)
        self._make_widgets()
        self._lay_out()
        self._connect()
        self._on_layers_changed()
        self._on_annotation_changed()

    # --- widgets ---

    def _make_widgets(self) -> None:
        self._welcome = Welcome(self._work.layers.open_sample, self._open_project, "annotate")
        self._body = QWidget()
        self._image = combo("annotate.image", "The image to paint on")
        self._axis = combo(
            "annotate.axis", "What the first axis of the image is", (SLICES, CHANNELS)
        )
        self._channels = named(
            QListWidget(), "annotate.channels", "Layers that are further channels of the same image"
        )
        self._new = push("Paint on it", "annotate.new", "Make its annotation layer, take the brush")
        self._classes = ClassTable()
        self._complete = push(
            "In all of it",
            "annotate.complete",
            "All else in the image or slice is background",
        )
        self._rectangle = push(
            "In a rectangle",
            "annotate.rectangle",
            "All else in a rectangle is background",
        )
        self._clear = push(
            "Erase all that is painted here",
            "annotate.clear",
            "Erase what is painted on the image or slice",
        )
        self._source = combo("annotate.source", "A mask or a prediction to take over")
        self._how = combo("annotate.how", "How much of it to take over", HOWS)
        self._mapping = named(
            QLineEdit(), "annotate.mapping", "Which of its values is which class; 0 is background"
        )
        self._adopt = push(
            "Take over", "annotate.adopt", "Paint what it says where nothing is painted"
        )
        self._share = text("annotate.share")
        self._status = text("annotate.status")

    def _lay_out(self) -> None:
        form = QFormLayout(self._body)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Image", self._image)
        form.addRow(self._axis)
        form.addRow(self._channels)
        form.addRow(self._new)
        form.addRow(self._classes)
        form.addRow(self._share)
        form.addRow(text("annotate.keys", KEYS))
        form.addRow(QLabel("What is not painted is background:"))
        form.addRow(beside(self._complete, self._rectangle))
        form.addRow(self._clear)
        form.addRow(self._folded())
        outer = QVBoxLayout(self)
        outer.addWidget(self._welcome)
        outer.addWidget(self._body)
        outer.addWidget(self._status)
        outer.addStretch(1)

    def _folded(self) -> Folded:
        inside = QWidget()
        grid = QGridLayout(inside)
        grid.setContentsMargins(0, 0, 0, 0)
        words = ("From", "Take", "Values")
        widgets = (self._source, self._how, self._mapping)
        for place, (word, widget) in enumerate(zip(words, widgets, strict=True)):
            grid.addWidget(QLabel(word), place, 0)
            grid.addWidget(widget, place, 1)
        grid.addWidget(self._adopt, 3, 1)
        grid.setColumnStretch(1, 1)
        return Folded("Take over a mask or prediction", inside, "unet.annotate.adopting")

    def _connect(self) -> None:
        work, session = self._work, self._work.session
        self._image.activated.connect(self._on_image_activated)
        self._axis.activated.connect(self._on_image_activated)
        self._channels.itemChanged.connect(self._on_image_activated)
        self._new.clicked.connect(self._on_new_clicked)
        self._classes.picked.connect(self._on_classes_picked)
        self._classes.removing.connect(self._on_classes_removing)
        self._classes.valueChanged.connect(self._on_classes_changed)
        self._complete.clicked.connect(self._on_complete_clicked)
        self._rectangle.clicked.connect(self._on_rectangle_clicked)
        self._clear.clicked.connect(self._on_clear_clicked)
        self._source.currentIndexChanged.connect(self._on_source_changed)
        self._adopt.clicked.connect(self._on_adopt_clicked)
        for signal, slot in (
            (work.layers.changed, self._on_layers_changed),
            (work.image_changed, self._on_layers_changed),
            (work.picked, self._on_work_picked),
            (work.said, self._say),
            (session.annotation_changed, self._on_annotation_changed),
            (session.classes_changed, self._on_session_classes_changed),
        ):
            follow(self, signal, slot)
        self._classes.painted_elsewhere = lambda: bool(work.keeping.learned.not_yet)
        self._classes.setValue(session.classes)

    # --- the image ---

    def _on_layers_changed(self) -> None:
        images = self._work.layers.images()
        self._welcome.setVisible(not images)
        self._body.setVisible(bool(images))
        masks = self._work.layers.masks()
        fill(self._image, [(i.name, i) for i in images], self._work.image)
        fill(self._source, [(m.name, m) for m in masks], self._source.currentData())
        self._fill_channels()
        self._refresh_buttons()

    def _fill_channels(self) -> None:
        image, work = self._work.image, self._work
        several = image is not None and image.ndim > 2 and not image.rgb
        self._axis.setVisible(several)
        self._axis.setCurrentText(CHANNELS if work.leading else SLICES)
        siblings = [] if image is None or work.leading else work.layers.siblings(image)
        self._channels.blockSignals(True)
        self._channels.clear()
        for sibling in siblings:
            item = QListWidgetItem(f"with {sibling.name}")
            item.setData(Qt.ItemDataRole.UserRole, sibling)
            chosen = sibling in work.channels
            item.setCheckState(Qt.CheckState.Checked if chosen else Qt.CheckState.Unchecked)
            self._channels.addItem(item)
        self._channels.blockSignals(False)
        self._channels.setVisible(bool(siblings))
        row = self._channels.sizeHintForRow(0) if siblings else 0
        self._channels.setFixedHeight(min(3, len(siblings)) * row + 6)

    def _on_image_activated(self) -> None:
        image: Image | None = self._image.currentData()
        leading = self._axis.currentText() == CHANNELS
        if image is not self._work.image:
            self._try(lambda: self._work.work_on(image))
            return
        items = (self._channels.item(i) for i in range(self._channels.count()))
        checked = [i for i in items if i.checkState() == Qt.CheckState.Checked]
        channels = tuple(i.data(Qt.ItemDataRole.UserRole) for i in checked)
        self._try(lambda: self._work.work_on(image, () if leading else channels, leading))
        self._fill_channels()  # as it was, where that is refused

    def _on_new_clicked(self) -> None:
        self._try(lambda: self._work.pick(self._classes.current() or 1))

    def _refresh_buttons(self) -> None:
        painting = self._work.painting
        self._new.setVisible(painting is None)
        for act in (self._complete, self._rectangle, self._clear):
            act.setEnabled(painting is not None)
        self._adopt.setEnabled(self._source.count() > 0)

    # --- classes ---

    def _on_classes_picked(self, label: int) -> None:
        self._try(lambda: self._work.pick(label))

    def _on_work_picked(self, label: int) -> None:
        self._classes.setCurrent(label)
        self._refresh_buttons()

    def _on_classes_removing(self, number: int) -> None:
        self._work.remove_class(number)

    def _on_classes_changed(self, classes: tuple[SegClass, ...]) -> None:
        self._work.session.classes = classes

    def _on_session_classes_changed(self, classes: tuple[SegClass, ...]) -> None:
        if self._classes.value() != classes:
            self._classes.setValue(classes)

    # --- what is painted ---

    def _on_annotation_changed(self) -> None:
        counts = self._work.session.counts
        self._classes.setCounts(counts)
        picture = self._work.picture
        if picture is not None:
            labelled = self._work.session.labelled(picture.name)
            self._share.setText(_share_in_words(labelled, math.prod(picture.shape)))
        self._refresh_buttons()

    def _here(self) -> Region:
        work = self._work
        assert work.image is not None
        assert work.picture is not None
        ndim = 3 if work.session.volumes else 2
        return work.layers.here(work.image, work.picture, ndim, work.leading)

    def _on_complete_clicked(self) -> None:
        self._try(lambda: self._work.annotate().complete(self._here()))

    def _on_clear_clicked(self) -> None:
        self._try(lambda: self._work.annotate().clear(self._here()))

    def _on_rectangle_clicked(self) -> None:
        self._try(self._drag_rectangle)

    def _drag_rectangle(self) -> None:
        painting = self._work.annotate()
        self._work.layers.drag_rectangle(painting.layer, painting.complete)
        self._say("Drag a rectangle on the image; Escape leaves it.")

    # --- taking over ---

    def _on_source_changed(self) -> None:
        source: Labels | None = self._source.currentData()
        self._mapping.setText("" if source is None else suggest_mapping(self._work, source))

    def _on_adopt_clicked(self) -> None:
        self._try(self._take_over)

    def _take_over(self) -> None:
        source, how = self._source.currentData(), self._how.currentText()
        mapping = parse_mapping(self._mapping.text())
        painting = self._work.annotate()

        def take(region: Region) -> None:
            self._try(lambda: self._say(adopt(self._work, source, mapping, how, region)))

        if how == HOWS[2]:
            self._work.layers.drag_rectangle(painting.layer, take)
        else:
            take(tuple(slice(0, n) for n in painting.layer.data.shape))

    # --- words ---

    def _say(self, sentence: str) -> None:
        self._status.setText(sentence)

    def _open_project(self, folder: Path) -> None:
        self._try(partial(self._work.keeping.open, folder))

    def _try(self, act: Callable[[], None]) -> None:
        """Do what was asked, or say why not."""
        self._say("")
        try:
            act()
        except BadInput as error:
            self._say(str(error))


def _share_in_words(labelled: int, pixels: int) -> str:
    """How much of an image is painted."""
    if not labelled:
        return "Nothing is painted on this image yet."
    share = labelled / pixels
    here = "less than 0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")
    return f"{here} of this image is painted."
