"""Which images of the project are learned, open or not, and how the session calls them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from napari_unet.cards import held_out_dice
from napari_unet.gui.jobs import Failure, notify
from napari_unet.records import ImageCard, now
from napari_unet.run import BadInput

if TYPE_CHECKING:
    from napari_unet.gui.workspace import Workspace
    from napari_unet.library import Model


class Learned:
    """The session knows images by names, the project by keys; here they meet."""

    def __init__(self, work: Workspace) -> None:
        self._work = work
        self._names: dict[str, str] = {}
        self._left_out: set[str] = set()  # images that cannot be learned with the others

    @property
    def keys(self) -> set[str]:
        """The images that the session has."""
        pictures = self._work.session.pictures
        return {key for key, name in self._names.items() if name in pictures}

    def name_of(self, key: str) -> str:
        """How the session calls an image; nothing if it was never told of it."""
        return self._names.get(key, "")

    def call(self, key: str, name: str) -> None:
        """From now on the session knows an image by this name, and by no other."""
        if self.name_of(key) not in ("", name):
            self.forget(key)
        self._names[key] = name

    def forget(self, key: str) -> None:
        """Learn an image no more."""
        self._work.session.remove(self._names.pop(key, ""))

    def forget_all(self) -> None:
        for key in list(self._names):
            self.forget(key)

    def learn(self, keys: Iterable[str]) -> None:
        """Have images learned that are not open, as far as they can be."""
        for key in keys:
            with suppress(BadInput):  # such as a plane while volumes are learned
                self._learn(key)

    def _learn(self, key: str) -> None:
        project = self._work.keeping.project
        assert project is not None
        self.forget(key)
        self._names[key] = self._work.session.learn(project, key)

    @property
    def not_yet(self) -> dict[str, ImageCard]:
        """The images that are painted on, and neither open nor learned."""
        keeping = self._work.keeping
        images = {} if keeping.project is None else keeping.project.images
        there = self.keys | keeping.shown
        return {key: card for key, card in images.items() if card.painted and key not in there}

    @property
    def next_run(self) -> dict[str, ImageCard]:
        """Those of them that the next run takes in."""
        # What was closed in a project without a name was done with.
        return {} if self._work.keeping.is_passing else self.not_yet

    def fill(self) -> None:
        """Before a run: all that is painted in the project is to be learned, open or not."""
        for key, card in self.next_run.items():
            try:
                self._learn(key)
            except BadInput as error:
                if key not in self._left_out:
                    notify(Failure(f"'{card.name}' is left out: {error}"))
                self._left_out.add(key)

    def renumber(self, number: int) -> list[str]:
        """A class goes: take it out of images that are not open; those that were learned."""
        keeping, session = self._work.keeping, self._work.session
        if keeping.project is None:
            return []
        changed = keeping.project.remove_class(number, len(session.classes), keeping.shown)
        before = self.keys
        learned = [key for key in changed if key in before]
        for key in learned:
            self.forget(key)
        return learned

    def note(self, model: Model, kept_as: str | None) -> None:
        """A model was trained on all that is learned, and is in the library by this name."""
        project = self._work.keeping.project
        if project is None:
            return
        for key in self.keys.intersection(project.images):
            dice = held_out_dice(model.card, self._names[key])
            project.change(key, trained=now(), dice=dice)
        if kept_as is not None:
            project.card = project.card.model_copy(update={"model": kept_as})
        self._work.keeping.changed.emit()
