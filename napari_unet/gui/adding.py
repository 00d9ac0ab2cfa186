"""Files are taken into the project one after the other, while the window goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_unet.io import Image, list_images, read_image
from napari_unet.progress import count
from napari_unet.run import BadInput, Control, Event

LONGEST, PAUSE = 10.0, 0.05  # seconds that a file waits for room, and between two looks


@dataclass(frozen=True, eq=False)
class Read(Event):
    """A file was read."""

    image: Image


@dataclass(frozen=True)
class Strange(Event):
    """A file, or a folder, that cannot be taken in, and why."""

    why: str


def read_all(
    paths: Sequence[Path], is_full: Callable[[], bool], control: Control
) -> Iterator[Event]:
    """Read files and all images of folders; slowly while memory is full of those before."""
    from napari_unet.formats.dicom import one_of_each

    for path in one_of_each(paths):
        try:
            files = list_images(path)
        except BadInput as error:
            yield Strange(str(error))
            continue
        for file in files:
            until = time.monotonic() + LONGEST
            while is_full() and time.monotonic() < until and not control.stopped:
                time.sleep(PAUSE)
            if control.stopped:
                return
            try:
                yield Read(read_image(file))
            except BadInput as error:
                yield Strange(str(error))


@dataclass
class Account:
    """What came of files that were to be taken in."""

    added: int = 0
    strange: list[str] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)  # in their order, each once

    def take(self, event: Event) -> None:
        if isinstance(event, Read):
            self.added += 1
            if event.image.note:
                self.notes[event.image.note] = None
        elif isinstance(event, Strange):
            self.strange.append(event.why)

    def __str__(self) -> str:
        said = f"{count(self.added, 'image')} added."
        if self.strange:
            others = len(self.strange) - 1
            said += f" Left out: {self.strange[0]}"
            said += f" So {'is' if others == 1 else 'are'} {others} more." if others else ""
        return " ".join((said, *self.notes))
