"""A project: a folder with its images, what is painted on each, the classes and the settings."""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from napari_unet.annotation import Region, without
from napari_unet.atomic import atomic_file, atomic_folder
from napari_unet.cards import fingerprint
from napari_unet.config import SegClass, class_table
from napari_unet.io import Image, plain_name, read_image
from napari_unet.kept import read_mask, write_mask
from napari_unet.normalise import measure
from napari_unet.pictures import Picture, as_rgb, numbered
from napari_unet.records import (
    IMAGE,
    IMAGES,
    PROJECT,
    ImageCard,
    MaskCard,
    ProjectCard,
    Removal,
    home,
    is_project,
    name_of,
    now,
    read_card,
    set_aside,
    write_card,
)
from napari_unet.run import BadInput, Control, Event
from napari_unet.sheets import Place, Sheets, places
from napari_unet.units import PIXEL

if TYPE_CHECKING:
    from napari_unet.library import Model

LOCK = ".lock"
THUMBNAIL, EDGE = "thumbnail.png", 64
MODELS = "models"
LOOK: Place = ()  # in place of a sheet: a new image is to be looked at closely
Part = tuple[str, Place | None]  # of an image a sheet, or its card; with no key the project's
PIECE = 1024  # edge of what is copied at a time
MOST_READ = 8  # images kept in memory of those that are not open
SAVE_SECONDS = 0.5  # after a stroke
AGAIN_SECONDS = 3.0  # until a disk that failed is tried again


@dataclass(frozen=True)
class Saved(Event):
    """All that was painted so far is on disk."""


@dataclass(frozen=True)
class NotSaved(Event):
    """The disk failed; it will be tried again, and nothing is lost meanwhile."""

    why: str


class _NotCopied(BadInput):
    """The pixels of an image could not be written into the project."""


class _Unreadable(Exception):
    """The pixels of an image could not be read."""


class _Unopened:
    """The pixels of an image that is read when a part of it is asked for."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read
        first = read()
        self.shape, self.dtype = tuple(first.shape), first.dtype

    def __getitem__(self, part: Any) -> np.ndarray:
        return np.asarray(self._read()[part])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._read(), dtype)


class Project:
    """An open project; what changes is written by `save`, or by whoever draws `saving`."""

    def __init__(self, folder: Path, card: ProjectCard, lock: FileLock | None) -> None:
        self.folder = folder
        self.images: dict[str, ImageCard] = {}
        self.problems: list[str] = []  # what was found damaged
        self._card = card
        self._lock = lock
        self._held: dict[str, np.ndarray] = {}  # annotations that are painted on
        self._leaving: set[str] = set()  # those that are not any more
        self._pixels: dict[str, Image] = {}  # images that are not looked at closely yet
        self._read: dict[str, Image] = {}
        self._dirty: dict[Part, float] = {}  # what is not on disk, and since when
        self._unkept = False  # whether anything was painted that cannot be written
        self._writing = 0  # parts that are neither dirty nor on disk
        self._changed = threading.Condition()
        self._saving = threading.RLock()
        self._reading = threading.Lock()
        self._masking = threading.Lock()

    @property
    def read_only(self) -> bool:
        """Whether another program has it open, or its folder cannot be written to."""
        return self._lock is None

    @property
    def is_scratch(self) -> bool:
        """Whether it has no name yet."""
        return self.folder.parent == home()

    @property
    def card(self) -> ProjectCard:
        return self._card

    @card.setter
    def card(self, card: ProjectCard) -> None:
        if card != self._card:
            self._card = card
            self._mark("", None)

    def close(self) -> None:
        """Write what is left, and let others open it."""
        with self._masking:
            try:
                self.save()
            finally:
                if self._lock is not None:
                    self._lock.release()
                    self._lock = None

    def copy(self, folder: Path) -> Project:
        """The same at another place, under its name there, open."""
        _refuse_full(folder)
        with suppress(BadInput):  # what cannot be written here may be there
            self.save()
        draft_of = atomic_folder(folder, overwrite=folder.exists())
        with self._masking, draft_of as draft, self._saving:
            for part in (PROJECT, IMAGES, MODELS):
                _copy(self.folder / part, draft / part)
            card = self._card.model_copy(update={"name": name_of(folder), "created": now()})
            write_card(draft / PROJECT, card)
        copy = open_project(folder)
        if not self.is_saved or self.read_only:
            copy._take_over(self)
        for key, image in copy.images.items():
            if image.path and not image.path.startswith(f"{IMAGES}/"):
                copy.change(key, path=copy._relative(self.file(key)))
        return copy

    def _take_over(self, other: Project) -> None:
        """What a project that cannot be written to has in memory only."""
        for key, card in other.images.items():
            if key not in self.images or key in other._pixels:
                self.images[key] = card
                self._mark(key, None)
            if key in other._pixels:
                self._pixels[key] = other._pixels[key]
                self._mark(key, LOOK)
        for key, labels in other._held.items():
            self.hold(key, labels)
            self.paint(key)
            self.let_go(key)  # unless somebody goes on painting

    # --- images ---

    def add(self, image: Image, **known: Any) -> str:
        """Take in an image; its key. One that is in no file is copied when it is saved."""
        key = secrets.token_hex(6)
        path = "" if image.path is None else self._relative(image.path)
        card = ImageCard(
            name=numbered(image.name, {card.name for card in self.images.values()}),
            path=path,
            shape=image.spatial_shape,
            channels=image.n_channels,
            unit=image.unit,
            added=now(),
        )
        self.images[key] = card.model_copy(update=known)
        self._pixels[key] = image
        self._mark(key, None)
        self._mark(key, LOOK)
        return key

    def exchange(self, key: str, image: Image, **known: Any) -> None:
        """An image has other pixels now, such as more channels; what is painted on it stays."""
        path = "" if image.path is None else self._relative(image.path)
        self._pixels[key] = image
        with self._reading:
            self._read.pop(key, None)
        self.change(key, path=path, channels=image.n_channels, sha256="", **known)
        self._mark(key, LOOK)

    def change(self, key: str, **values: Any) -> None:
        """Set what is known of an image, such as its role or a note."""
        self._note(key, **values)
        self._mark(key, None)

    def _note(self, key: str, **values: Any) -> None:
        with self._changed:  # the window and whoever saves both know more of it
            self.images[key] = self.images[key].model_copy(update=values)

    def remove(self, key: str) -> None:
        """Take an image out; what was painted on it is set aside in the project's folder."""
        if self.read_only:
            raise BadInput("The project is open in another program; take images out there.")
        with self._changed:  # one that cannot be looked at can be taken out
            self._pixels.pop(key, None)
            self._dirty.pop((key, LOOK), None)
        self.save()
        with self._masking, self._saving, self._changed:
            del self.images[key]
            self._held.pop(key, None)
            self._read.pop(key, None)
            self._dirty = {part: since for part, since in self._dirty.items() if part[0] != key}
            set_aside(self._place(key), self.folder)

    def file(self, key: str) -> Path:
        """Where the pixels of an image are."""
        return (self.folder / self.images[key].path).resolve()

    @property
    def in_memory(self) -> int:
        """Bytes of images that are not looked at closely yet, and that are not read lazily."""
        waiting = [image.data for image in list(self._pixels.values())]
        return sum(data.nbytes for data in waiting if isinstance(data, np.ndarray))

    def thumbnail(self, key: str) -> Path:
        """Where a small picture of an image is, once it has been looked at closely."""
        return self._place(key) / THUMBNAIL

    def read(self, key: str) -> Image:
        """The image, read where it is looked at; one that was moved is asked for in a sentence."""
        if key in self._pixels:
            return self._pixels[key]
        if key not in self.images:  # since a moment ago, and somebody still wants its pixels
            raise BadInput("An image was taken out of the project while it was read; try again.")
        card, file = self.images[key], self.file(key)
        if not file.exists():
            raise BadInput(f"'{card.name}' is no longer at {file}; say where it is now.")
        image = _placed(read_image(file), card)
        if image.spatial_shape != card.shape or image.n_channels != card.channels:
            raise BadInput(
                f"{file} has the shape {image.spatial_shape} now, but {card.shape} when it was "
                "painted on; put the file back as it was."
            )
        return replace(image, name=card.name)  # files of several folders may have one name

    def locate(self, key: str, file: Path) -> None:
        """Point an image to its new place; another image is refused by its pixels."""
        found = fingerprint(read_image(file).data)
        if self.images[key].sha256 not in ("", found):
            raise BadInput(f"{file} is another image than '{self.images[key].name}' was.")
        self.change(key, path=self._relative(file), sha256=found)

    def _relative(self, file: Path) -> str:
        """A path that still holds when project and images are moved together."""
        with suppress(ValueError):  # on another drive
            return Path(os.path.relpath(file.resolve(), self.folder.resolve())).as_posix()
        return file.resolve().as_posix()

    def _place(self, key: str) -> Path:
        return self.folder / IMAGES / key

    def picture(self, key: str) -> Picture:
        """The image as the engine reads it, a patch at a time; a few are kept in memory."""
        card = self.images[key]
        whole = _Unopened(lambda: self._recent(key).data)
        image = self._recent(key)
        return Picture(card.name, whole, image.spacing, image.unit)

    def _recent(self, key: str) -> Image:
        """The image, from memory if it was read lately."""
        with self._reading:
            if key not in self._read:
                while len(self._read) >= MOST_READ:
                    self._read.pop(next(iter(self._read)))
                self._read[key] = self.read(key)
            return self._read[key]

    # --- what is painted ---

    def sheets(self, key: str) -> Sheets:
        """What is painted on an image, as it lies on disk."""
        return Sheets(self._place(key), self.images[key].shape, self._card.removed)

    def annotation(self, key: str) -> np.ndarray:
        """What is painted on an image; what was damaged is told of in `problems`."""
        if key in self._held:
            return self._held[key]
        labels, problems = self.sheets(key).read(mend=not self.read_only)
        self.problems += problems
        return labels

    def hold(self, key: str, annotation: np.ndarray) -> None:
        """From now on this array is what is painted; `paint` tells where."""
        with self._changed:
            self._leaving.discard(key)
            self._held[key] = annotation

    def let_go(self, key: str) -> None:
        """The array is not painted on any more; once it is written it is given free."""
        with self._changed:
            self._leaving.add(key)
        self._mark(key, None)

    def paint(self, key: str, region: Region | None = None) -> None:
        """Something was painted in a region, or anywhere."""
        self._unkept |= self.read_only
        whole = tuple(slice(0, n) for n in self.images[key].shape)
        for place in places(region or whole):
            self._mark(key, place)
        self.change(key, painted=now())

    def remove_class(self, number: int, classes: int, shown: Collection[str]) -> list[str]:
        """One of so many classes goes; the annotations that are not shown, without it now.

        Those that are shown are changed by whoever shows them.
        """
        gone = Removal(when=now(), number=number, classes=classes)
        self.card = self._card.model_copy(update={"removed": (*self._card.removed, gone)})
        changed = [k for k, card in self.images.items() if card.painted and k not in shown]
        for key in changed:
            # On disk it is read without the class already.
            held = self._held.get(key)
            labels = self.annotation(key) if held is None else without(held, number, classes)
            self.hold(key, labels)
            self.paint(key)
            self.let_go(key)
        return changed

    # --- what models made ---

    def keep_mask(
        self,
        key: str,
        labels: np.ndarray,
        made: MaskCard,
        when: str,
        rims: np.ndarray | None = None,
    ) -> None:
        """Write the mask of an image, in place of the one before; a large one takes a while."""
        with self._masking:
            if not self.read_only and key in self.images:
                write_mask(self._place(key), labels, rims)
                self.change(key, mask=made, predicted=when)
                self.save()

    def read_mask(self, key: str) -> tuple[np.ndarray, np.ndarray | None] | None:
        """The mask of an image, and the rims in it if it has some; a damaged one is told of."""
        card = self.images[key]
        if card.mask is None:
            return None
        with self._masking:
            found = read_mask(self._place(key), card.shape)
        if found is None:
            self.problems.append(f"The mask of '{card.name}' is damaged; segment it again.")
        return found

    def keep_model(self, model: Model) -> None:
        """Put a model, as a new version if it is there already, where it moves with the project."""
        if not self.read_only:
            model.save(self.folder / MODELS / model.card.name)

    def model_folder(self, name: str) -> Path:
        """Where a model of this project is, by its name."""
        return self.folder / MODELS / name

    # --- saving ---

    @property
    def is_saved(self) -> bool:
        """Whether all that changed is on disk; if it cannot be, whether nothing was painted."""
        return not (self._dirty or self._writing or self._unkept)

    def saving(self, control: Control) -> Iterator[Event]:
        """Write what changes a moment later, again and again, until stopped; then what is left."""
        failed = False
        while not (control.stopped or self.read_only):
            with self._changed:
                self._changed.wait_for(lambda: self._dirty or control.stopped, 0.2)
            if not self._is_due() and not control.stopped:
                time.sleep(0.05)
                continue
            try:
                self.save()
            except BadInput as error:
                if not failed:
                    yield NotSaved(str(error))
                failed = True
                _wait(control, AGAIN_SECONDS)
            else:
                yield Saved()
                failed = False
        self.close()

    def save(self) -> None:
        """Write all that changed; what cannot be written stays to be written later."""
        if self.read_only:
            return
        with self._saving:
            later: dict[Part, BadInput] = {}
            while self._save_one(later):
                pass
            with self._changed:
                waiting = {key for key, _ in self._dirty}
                for key in self._leaving - waiting:
                    self._held.pop(key, None)
                self._leaving &= waiting
            for error in later.values():
                raise error

    def _is_due(self) -> bool:
        with self._changed:
            oldest = min(self._dirty.values(), default=float("inf"))
        return time.monotonic() - oldest >= SAVE_SECONDS

    def _save_one(self, later: dict[Part, BadInput], painted: bool = False) -> bool:
        """Write the part, or what is painted, that waits longest; whether there was one."""
        with self._changed:
            # In this order, for what is painted on all the time must not hold up others; but a
            # close look at a new image may take long.
            waiting = [p for p in self._dirty if p not in later and (p[1] or not painted)]
            if not waiting:
                return False
            part = min(waiting, key=lambda p: (p[1] == LOOK, self._dirty[p]))
            since = self._dirty.pop(part)
            self._writing += 1
        try:
            self._write(*part)
        except Exception as error:  # noqa: BLE001 -- whatever it was, the part is still dirty
            with self._changed:
                self._dirty.setdefault(part, since)
            later[part] = _in_words(error)  # the others do not wait for it
        finally:
            self._writing -= 1
        return True

    def _save_painted(self) -> None:
        """While something large is copied, what is painted meanwhile does not wait for its end."""
        later: dict[Part, BadInput] = {}
        for _ in range(len(self._dirty)):
            self._save_one(later, painted=True)

    def _write(self, key: str, place: Place | None) -> None:
        if not key:
            write_card(self.folder / PROJECT, self._card)
        elif place == LOOK:
            if key in self._pixels:
                self._look(key)
        elif key in self.images and place is None:
            if key in self._held:
                self._note(key, labelled=int(np.count_nonzero(self._held[key])))
            write_card(self._place(key) / IMAGE, self.images[key])
        elif key in self._held and place is not None:
            self.sheets(key).write(place, self._held[key])

    def _look(self, key: str) -> None:
        """Look closely at a new image; one in a file that cannot be looked at stays as it is."""
        try:
            self._settle(key)
        except _NotCopied:  # it is tried again
            raise
        except Exception as error:  # whatever a decoder raises
            if not self.images[key].path:
                raise
            self._pixels.pop(key, None)
            self.problems.append(f"'{self.images[key].name}': {_in_words(error)}")
        self._mark(key, None)

    def _settle(self, key: str) -> None:
        """Its hash, its thumbnail, and a copy if it is in no file."""
        image, path = self._pixels[key], self.images[key].path
        if path and not _is_file_of(self.file(key), image):
            path = ""
        if not path:
            path = f"{IMAGES}/{key}/{plain_name(self.images[key].name)}.tif"
            try:
                _copy_pixels(self.folder / path, image, self._save_painted)
            except BadInput as error:
                raise _NotCopied(str(error)) from error
        with atomic_file(self.thumbnail(key), overwrite=True) as draft:
            _draw_thumbnail(draft, image)
        self._note(key, path=path, sha256=fingerprint(image.data))
        self._pixels.pop(key, None)

    def _mark(self, key: str, place: Place | None) -> None:
        if self.read_only:
            return
        with self._changed:
            self._dirty.setdefault((key, place), time.monotonic())
            self._changed.notify_all()


# --- opening ---


def create_project(folder: Path, classes: tuple[SegClass, ...] = ()) -> Project:
    """Make a project in a folder that is new or empty."""
    _refuse_full(folder)
    card = ProjectCard(name=name_of(folder), created=now(), classes=classes or class_table(1))
    write_card(folder / PROJECT, card)
    return Project(folder, card, _locked(folder))


def _refuse_full(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is not empty; choose a new folder for the project.")


def open_project(folder: Path, mend: bool = True) -> Project:
    """Open a project; what is damaged is set aside and told of, the rest opens.

    Without `mend` it is only looked at: nothing in its folder changes, and others can open it.
    """
    file = folder / PROJECT
    if not is_project(folder):
        raise BadInput(f"{folder} is no project: it has no {PROJECT}; choose a project's folder.")
    lock = _locked(folder) if mend else None
    problems: list[str] = []
    card = read_card(file, ProjectCard, problems, mend=lock is not None)
    if card is None:
        card = ProjectCard(name=name_of(folder), created=now(), classes=class_table(1))
        problems.append("The names of the classes and the settings are lost; name them again.")
    project = Project(folder, card, lock)
    project.problems = problems
    for place in sorted(p for p in (folder / IMAGES).glob("*") if _is_key(p)):
        image = read_card(place / IMAGE, ImageCard, problems, mend=lock is not None)
        if image is not None:
            project.images[place.name] = image
    project.images = dict(sorted(project.images.items(), key=lambda item: item[1].added))
    if lock is not None:
        _write_again(project)
    return project


def _write_again(project: Project) -> None:
    """What was set aside is written as it is known now, or it would be no project the next time."""
    cards = {key: project._place(key) / IMAGE for key in project.images}
    for key, file in {"": project.folder / PROJECT, **cards}.items():
        if _is_gone(file):
            project._mark(key, None)
    with suppress(BadInput):  # it is tried again when something changes
        project.save()


def _is_gone(file: Path) -> bool:
    """Whether a file is not there, and not only out of reach for a moment."""
    try:
        file.lstat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def _locked(folder: Path) -> FileLock | None:
    """The lock that one program at a time has; the system frees it however that program ends."""
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return None
    return lock


def _is_key(place: Path) -> bool:
    return bool(re.fullmatch(r"[0-9a-f]{12}", place.name)) and not place.is_symlink()


# --- pixels ---


def _copy(source: Path, place: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, place)
    elif source.exists():
        shutil.copyfile(source, place)


def _placed(image: Image, card: ImageCard) -> Image:
    """An image whose file says no pixel size has that with which it was shown."""
    if image.unit != PIXEL or not card.matrix:
        return image
    sizes = np.linalg.norm(np.array(card.matrix)[:-1, :-1], axis=0)[-len(image.spacing) :]
    known = len(sizes) == len(image.spacing) and bool((sizes > 0).all())
    return replace(image, spacing=tuple(sizes.tolist()), unit=card.unit) if known else image


def _is_file_of(file: Path, image: Image) -> bool:
    """Whether these pixels are what we would read from a file: another reader may see others."""
    try:
        found = read_image(file)
    except BadInput:
        return False
    same = found.data.shape == image.data.shape and found.data.dtype == image.data.dtype
    return same and fingerprint(found.data) == fingerprint(image.data)


def _copy_pixels(file: Path, image: Image, between: Callable[[], None]) -> None:
    """Write an image piece by piece: it may be larger than memory, and take long."""
    import tifffile

    shape, dtype = tuple(image.data.shape), np.dtype(image.data.dtype)
    large = max(shape[-2:]) > PIECE
    with atomic_file(file, overwrite=True) as draft:
        tifffile.imwrite(
            draft,
            _pieces(image.data, between),
            shape=shape,
            dtype=dtype,
            tile=(PIECE, PIECE) if large else None,
            metadata={"axes": image.axes},
            photometric="minisblack",
            compression="zlib",
            bigtiff=math.prod(shape) * dtype.itemsize > 2**31,
        )


def _pieces(data: Any, between: Callable[[], None]) -> Iterator[np.ndarray]:
    """Planes, or where they are large their tiles, those at the borders filled up."""
    height, width = data.shape[-2:]
    large = max(height, width) > PIECE
    for place in np.ndindex(tuple(data.shape[:-2])):
        for top in range(0, height, PIECE):
            for left in range(0, width, PIECE):
                between()
                window = (*place, slice(top, top + PIECE), slice(left, left + PIECE))
                try:
                    piece = np.asarray(data[window])
                except Exception as error:  # whatever a decoder raises, and no fault of the disk
                    raise _Unreadable(str(error)) from error
                yield np.pad(piece, [(0, PIECE - n) for n in piece.shape]) if large else piece


def _draw_thumbnail(file: Path, image: Image) -> None:
    from PIL import Image as Drawn

    levels = (level for level in image.coarser if max(level.shape[-2:]) >= EDGE)
    data = min(levels, key=lambda level: level.shape[-1], default=image.data)
    step = max(1, max(data.shape[-2:]) // EDGE)
    middle = tuple(n // 2 for n in data.shape[1:-2])
    pixels = np.asarray(data[(slice(0, 3), *middle, *(slice(None, None, step),) * 2)])
    Drawn.fromarray(as_rgb(pixels, measure(pixels)).astype(np.uint8)).save(file, "PNG")


def _in_words(error: Exception) -> BadInput:
    if isinstance(error, BadInput):
        return error
    reason = str(error) or type(error).__name__
    return BadInput(f"Something could not be written ({reason}).")


def _wait(control: Control, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not control.stopped and time.monotonic() < until:
        time.sleep(0.05)
