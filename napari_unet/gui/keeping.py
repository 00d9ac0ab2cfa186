"""Keeps what is painted in a project, from the first stroke on, and opens it again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image
from psygnal import Signal
from qtpy.QtCore import QObject

from napari_unet.annotation import Region
from napari_unet.cards import (
    CARD,
    find_version,
    free_name,
    list_models,
    possible_name,
    read_card,
    take_in,
)
from napari_unet.config import UNLABELLED, Role
from napari_unet.gui.adding import Account, Read, read_all
from napari_unet.gui.jobs import Failure, notify
from napari_unet.gui.learned import Learned
from napari_unet.gui.placing import file_of, matrix_of
from napari_unet.io import Image as Pixels
from napari_unet.io import viewed_image
from napari_unet.pictures import Picture
from napari_unet.project import NotSaved, Project, Saved, create_project, open_project
from napari_unet.records import remember, scratch_place
from napari_unet.run import BadInput, Control, Event, first_line
from napari_unet.showing import is_color, world_of

if TYPE_CHECKING:
    from napari_unet.gui.workspace import Workspace
    from napari_unet.library import Model


NEXT, BEFORE = "Alt+Down", "Alt+Up"
SHOW_EVERY = 20  # images that are added, until they are shown
CUT_SHORT = " The rest was left when another project was opened; add it there if you want it."
MOST_IN_MEMORY = 2**29  # bytes of images whose files are not looked at closely yet


class Keeping(QObject):
    """The project of one viewer: written as it is painted, opened image by image."""

    opened = Signal()  # another project
    changed = Signal()  # its images, or what is known of them
    told = Signal(str)  # how far it is with what takes time, in a sentence

    def __init__(self, work: Workspace) -> None:
        super().__init__(work)
        self._work = work
        self.project: Project | None = None
        self.learned = Learned(work)
        self._keys: WeakKeyDictionary[Image, str] = WeakKeyDictionary()
        self._opened = False  # whether the project was there before
        self._control = Control()
        for keys, by in ((NEXT, 1), (BEFORE, -1)):
            work.layers.bind_key(keys.replace("+", "-"), partial(self._on_key_pressed, by))
        work.session.classes_changed.connect(self._keep_settings)
        work.session.config_changed.connect(self._keep_settings)

    def _on_key_pressed(self, by: int) -> None:
        try:
            self.step(by)
        except BadInput as error:
            self._work.said.emit(str(error))

    # --- while it is painted ---

    def recall(self, image: Image, picture: Picture) -> np.ndarray | None:
        """What the project has painted on an image that is opened again."""
        key = self._key_of(image, picture)
        if self.project is None or key is None:
            return None
        self._keys[image] = key
        self.learned.call(key, picture.name)
        labels = self.project.annotation(key)
        self._tell_problems()
        self.project.hold(key, labels)
        return labels

    def paint(
        self, image: Image, picture: Picture, labels: np.ndarray, region: Region | None
    ) -> None:
        """Something was painted: it will be on disk a moment later."""
        project = self._present()
        key, own = self._key_of(image, picture), self._keys.get(image, "")
        if key is None and own in project.images and project.images[own].shape == picture.shape:
            key = own  # with other channels than before
            project.exchange(key, _pixels_of(image, picture), **_known_of(image, picture))
        if key is None:
            key = project.add(_pixels_of(image, picture), **_known_of(image, picture))
            region = None
        elif image not in self._keys:  # of a file that was painted on in this project before
            np.copyto(labels, project.annotation(key), where=labels == UNLABELLED)
            region = None
        self._keys[image] = key
        self.learned.call(key, picture.name)
        project.hold(key, labels)
        project.paint(key, region)

    def mark(self, image: Image, **values: Any) -> None:
        """Something is known of an image now, such as when it was segmented."""
        key = self._keys.get(image)
        if self.project is not None and key in self.project.images:
            self.project.change(key, **values)
            self.changed.emit()

    @property
    def shown(self) -> set[str]:
        """The images of the project that are open."""
        return set(self._keys.values())

    def key_of(self, image: Image | None) -> str | None:
        """The key in the project of an image that is open."""
        return None if image is None else self._keys.get(image)

    def image_of(self, key: str) -> Image | None:
        """The open image that has a key in the project."""
        return next((image for image, k in self._keys.items() if k == key), None)

    def picture_of(self, image: Image) -> Picture:
        """An open image as it is worked on, or as it was taken in."""
        work, key = self._work, self._keys.get(image, "")
        if image is work.image and work.picture is not None:
            return work.picture
        card = None if self.project is None else self.project.images.get(key)
        leading = card is not None and card.shown == "leading"
        channels, leading = work.reading(image) or ((), leading)
        return work.layers.picture(image, channels, leading)

    @property
    def name(self) -> str:
        """What the project is called; nothing if it has no name yet."""
        return "" if self.project is None or self.project.is_scratch else self.project.card.name

    @property
    def is_passing(self) -> bool:
        """Whether the project has no name yet, and is not one that was offered again."""
        return self.project is not None and self.project.is_scratch and not self._opened

    @property
    def has_strokes(self) -> bool:
        """Whether anything is painted in the project."""
        images = {} if self.project is None else self.project.images
        return any(card.painted for card in images.values())

    def role_of(self, image: Image) -> Role:
        """What the annotation of an image is for."""
        key = self._keys.get(image)
        return "both" if self.project is None or key is None else self.project.images[key].role

    def _key_of(self, image: Image, picture: Picture) -> str | None:
        """The image in the project that this layer shows: opened from it, or of its file."""
        project, key = self.project, self._keys.get(image)
        if project is None:
            return None
        if key is None and (path := file_of(image)) is not None:
            file, shown = path.resolve(), self.shown
            found = (k for k, c in project.images.items() if c.path and project.file(k) == file)
            key = next((k for k in found if k not in shown), None)
        card = project.images.get(key or "")
        known = card and (card.shape, card.channels) == (picture.shape, picture.n_channels)
        return key if known else None

    # --- projects ---

    def create(self, folder: Path) -> None:
        """Begin a project with a name; what was painted before stays in its own."""
        self._refuse_while_training()
        self._exchange(create_project(folder, self._work.session.classes))
        remember(folder)

    def open(self, folder: Path) -> None:
        """Open a project, and the first of its images."""
        self._refuse_while_training()
        if self.project is not None and self.project.folder.resolve() == folder.resolve():
            if self._keys:
                raise BadInput(f"'{self.project.card.name}' is open already.")
            self._show_last()  # its layers were deleted
            return
        project = open_project(folder)
        self._exchange(project)
        self._opened = True
        remember(folder)
        self._work.session.open(project)
        self._use_model(project)
        self._tell_problems()
        self._show_last()

    def _show_last(self) -> None:
        """Show the image that was shown last, or the first."""
        assert self.project is not None
        project, last = self.project, self.project.card.shown
        first = last if last in project.images else next(iter(project.images), None)
        if first is not None:
            try:
                self.show(first)
            except BadInput as error:  # such as that it was moved: now it can be said where
                notify(Failure(str(error)))

    def _use_model(self, project: Project) -> None:
        """Go on with the project's model; one that the library does not have is put there."""
        name = project.card.model
        folder = project.model_folder(name)
        try:
            if name == possible_name(name) and (folder / CARD).is_file():
                self._work.use(*self._in_library(folder, name))
            elif name in list_models():
                self._work.use(name)
        except BadInput as error:
            notify(Failure(f"The project's model cannot be used: {error}"))

    def _in_library(self, folder: Path, name: str) -> tuple[str, int | None]:
        """The same weights in the library, whatever they are called there, or a copy of them."""
        found = find_version(read_card(folder), name)
        if found is not None:
            return found
        free = free_name(name)
        if free != name:
            self._work.said.emit(
                f"The library has another model named '{name}'; the project's is '{free}' there."
            )
        return take_in(folder, free).name, None

    def keep_model(self, model: Model) -> None:
        """Put a model that a run made into the project that it learned from."""
        if self.project is not None:
            try:
                self.project.keep_model(model)
            except BadInput as error:
                notify(Failure(str(error)))

    def save_as(self, folder: Path) -> None:
        """Go on in a copy of the project at another place, under another name."""
        self._refuse_while_training()
        if self.project is None:
            self.create(folder)
            return
        copy = self.project.copy(folder)
        held = {key: self.project.annotation(key) for key in self.shown & set(copy.images)}
        closed = self.learned.keys - self.shown
        with self._work.no_start():
            for key in closed:  # they are learned from the copy
                self.learned.forget(key)
            self._control.stop()
            with suppress(BadInput):  # what cannot be written is in the copy
                self.project.close()
            self._begin(copy)
            self.learned.learn(closed & set(copy.images))
        for key, labels in held.items():
            copy.hold(key, labels)
        remember(folder)
        self.changed.emit()

    def _present(self) -> Project:
        """The project that is open; without one, one that has no name yet."""
        if self.project is None:
            self._begin(create_project(scratch_place(), self._work.session.classes))
        assert self.project is not None
        return self.project

    def _exchange(self, project: Project) -> None:
        """Close the project that is open, and go on in this one, or leave all as it is."""
        try:
            self._end()
        except BadInput:
            project.close()
            raise
        self._begin(project)

    def _end(self) -> None:
        """Close the project that is open; if it cannot be saved it stays open."""
        if self.project is None:
            return
        self.project.save()
        if self.project.read_only:
            self.rescue()
        self._control.stop()
        self.project.close()
        with self._work.no_start():
            for image in list(self._keys):
                self._work.layers.close(image)
            self.learned.forget_all()
        self.project = None
        self._keys.clear()

    def _begin(self, project: Project) -> None:
        self.project, self._opened = project, False
        self._control = Control()
        saving = project.saving(self._control)
        job = self._work.jobs.start("saving", saving, self._control, self._on_event)
        job.patience = None  # however long it takes, what was painted is written
        if project.read_only:
            notify(
                Failure(
                    f"'{project.card.name}' is open in another program, or its folder cannot be "
                    "written to: what you paint here is not saved in it; save it as another."
                )
            )
        self.opened.emit()
        self.changed.emit()

    def _refuse_while_training(self) -> None:
        if self._work.session.training:
            raise BadInput("Training is under way; stop it first.")

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Saved):
            self.changed.emit()
        elif isinstance(event, NotSaved):
            notify(Failure(f"Not saved: {event.why} Go on painting; it is tried again and again."))

    def _keep_settings(self) -> None:
        """Classes and settings are kept as well."""
        project, session = self.project, self._work.session
        if project is not None:
            settings = session.config.model_dump(exclude_defaults=True)
            known = {"classes": session.classes, "volumes": session.volumes, "training": settings}
            project.card = project.card.model_copy(update=known)

    def _tell_problems(self) -> None:
        if self.project is not None and self.project.problems:
            notify(Failure(" ".join(self.project.problems)))
            self.project.problems = []

    # --- its images ---

    def add(self, files: Sequence[Path]) -> None:
        """Take in files, and the images of folders; `told` says what came of it."""
        project, account = self._present(), Account()
        control = self._control  # stopped when the project is closed

        def take(event: Event) -> None:
            if self.project is not project:
                return
            account.take(event)
            if isinstance(event, Read):
                project.add(event.image, **_shown(event.image))
                if account.added % SHOW_EVERY == 1:
                    self.changed.emit()
                    self.told.emit(f"Adding images: {account.added} so far ...")

        def end(_failure: Failure | None) -> None:
            self.changed.emit()
            self.told.emit(f"{account}{CUT_SHORT if control.stopped else ''}")

        events = read_all(files, lambda: project.in_memory > MOST_IN_MEMORY, control)
        self._work.jobs.start("adding", events, control, take, end)

    def files(self) -> dict[str, tuple[str, Path]]:
        """The images of the project that are there: by key, their names and files."""
        project = self.project
        if project is None or not project.images:
            raise BadInput("There is no image in the project yet; add some, or paint on one.")
        project.save()  # so that those without a file have one
        files = {key: (card.name, project.file(key)) for key, card in project.images.items()}
        return {key: (name, file) for key, (name, file) in files.items() if file.exists()}

    def show(self, key: str) -> None:
        """Open an image of the project in place of the one that is open."""
        with self._work.no_start():
            self._show(key)
        self.changed.emit()

    def _show(self, key: str) -> None:
        assert self.project is not None
        open_already = self.image_of(key)
        if open_already is not None:
            self._work.work_on(open_already)
            return
        pixels, card = self.project.read(key), self.project.images[key]
        for image in list(self._keys):
            self._release(image)
        self.learned.forget(key)  # it is learned as it is open
        layer = self._work.layers.make(pixels, card)
        self._keys[layer] = key
        self._work.layers.open(layer)
        self.project.card = self.project.card.model_copy(update={"shown": key})
        self._work.work_on(layer, (), card.shown == "leading")
        if card.painted:
            self._work.annotate()
        if self._work.picture is not None:
            self._work.masks.recall(layer, self._work.picture, key)

    def step(self, by: int) -> None:
        """Show the next image of the project, or the one before."""
        keys = list(self.project.images) if self.project is not None else []
        if not keys:
            raise BadInput("There is no image in the project yet; add some.")
        shown = [keys.index(k) for k in self._keys.values() if k in keys]
        self.show(keys[(shown[0] + by) % len(keys)] if shown else keys[0])

    def change(self, key: str, **values: Any) -> None:
        """Set what somebody says of an image, such as a note or what it is used for."""
        if self.project is None or key not in self.project.images:
            return  # it was taken out, or another project opened, while it was worked on
        self.project.change(key, **values)
        if "role" in values:
            self._work.session.set_role(self.learned.name_of(key), values["role"])
        self.changed.emit()

    def locate(self, key: str, file: Path) -> str:
        """Point an image to where it is now."""
        assert self.project is not None
        project = self.project
        project.locate(key, file)
        others = [k for k in project.images if not project.file(k).exists()]
        for other in others:  # those beside it, by their names and pixels
            beside = file.parent / project.file(other).name
            with suppress(BadInput):
                project.locate(other, beside)
        self.changed.emit()
        found = sum(project.file(k).exists() for k in others)
        more = f"; so {'is' if found == 1 else 'are'} {found} more" if found else ""
        return f"'{project.images[key].name}' is in {file.parent} now{more}."

    def generations(self, key: str) -> list[datetime]:
        """The times at which what is painted on an image was kept, the newest first."""
        return self.project.sheets(key).generations() if self.project is not None else []

    def restore(self, key: str, time: datetime) -> str:
        """Paint an image as it was at a time; Ctrl+Z takes that back."""
        assert self.project is not None
        self.project.save()
        before = self.project.sheets(key).at(time)
        self.show(key)
        self._work.annotate().set(tuple(slice(0, n) for n in before.shape), before)
        name = self.project.images[key].name
        return f"'{name}' is painted as on {time.astimezone():%d %b %Y, %H:%M}; Ctrl+Z undoes it."

    def remove(self, key: str) -> None:
        """Take an image out of the project."""
        assert self.project is not None
        for image in [i for i, k in self._keys.items() if k == key]:
            self._work.layers.close(image)
        self.learned.forget(key)  # before its pixels are gone
        self.project.remove(key)
        self.changed.emit()

    def _release(self, image: Image) -> None:
        """Close an image; what is painted on it goes on being learned."""
        key = self._keys[image]
        learned = key in self.learned.keys
        self._work.layers.close(image)  # and with it `leave`
        if learned:
            self.learned.learn([key])

    def let_go(self, image: Image) -> None:
        """An image is not painted on any more; what was painted stays on disk."""
        key = self._keys.get(image)
        if self.project is not None and key in self.project.images:
            self.project.let_go(key)

    def leave(self, image: Image) -> None:
        """An image is not open any more."""
        self.let_go(image)
        self._keys.pop(image, None)

    def fill(self) -> None:
        """Before training: all that is painted in the project is to be learned, open or not."""
        self._keep_settings()
        self.learned.fill()
        self._tell_problems()

    def close(self) -> None:
        """Write what is left; others may open the project then."""
        self._control.stop()

    def rescue(self) -> None:
        """What could not be written at the end goes to another place, and is offered next time."""
        project = self.project
        if project is None or project.is_saved:
            return
        for place in (scratch_place(), Path(gettempdir()) / f"napari-unet {scratch_place().name}"):
            try:
                project.copy(place).close()
            except Exception as error:  # noqa: BLE001 -- of whatever is wrong with the place
                why = first_line(error)
                continue
            remember(place)
            notify(Failure(f"What could not be saved in {project.folder} is in {place}."))
            return
        notify(Failure(f"What was painted last could not be saved anywhere: {why}"))


def _pixels_of(image: Image, picture: Picture) -> Pixels:
    """A picture as one that was read from a file."""
    known = (picture.spacing, picture.unit, file_of(image))
    return viewed_image(picture.pixels, image.name, *known, coarser=picture.coarser)


def _known_of(image: Image, picture: Picture) -> dict[str, Any]:
    """How the viewer shows an image, so that it can do so again."""
    n = len(picture.shape)
    matrix = matrix_of(image)[-n - 1 :, -n - 1 :]
    shown = "rgb" if image.rgb else "leading" if picture.n_channels > 1 else "plain"
    return {"shown": shown, "matrix": tuple(map(tuple, matrix.tolist()))}


def _shown(image: Pixels) -> dict[str, Any]:
    shown = "rgb" if is_color(image) else "leading" if image.n_channels > 1 else "plain"
    return {"shown": shown, "matrix": tuple(map(tuple, world_of(image).tolist()))}
