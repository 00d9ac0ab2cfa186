"""Where the masks of images are written: each in a file of its own, and none onto an image."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.cli.parts import say
from napari_unet.run import BadInput

if TYPE_CHECKING:
    from napari_unet.project import Project


def check_targets(targets: Iterable[Path], images: Iterable[Path], overwrite: bool) -> None:
    """Refuse, before the work, what is there already; an image, whatever may be replaced."""
    images = [image.resolve() for image in images]
    own = _identities(images)
    around = _identities(folder for image in images for folder in image.parents)
    for target in targets:
        found = _identities([target])
        if found & own:
            raise BadInput(f"{target} is the image itself; give another folder with --out.")
        # Formats that are folders are replaced whole.
        if found & around:
            raise BadInput(f"{target} is a folder with an image in it; give another with --out.")
        if found and not overwrite:
            raise BadInput(f"{target} exists already; give --overwrite or another folder.")


def names_in(project: Project) -> dict[str, str]:
    """What the files of each image of a project are called, by its key.

    One that cannot have its own name is told of.
    """
    from napari_unet.io import file_names, plain_name

    cards = project.images.items()
    names = dict(zip(project.images, file_names(card.name for _, card in cards), strict=True))
    for key, card in cards:
        if names[key] != (own := plain_name(card.name)):
            say(f"The files of '{card.name}' are called '{names[key]}'; '{own}' is taken.")
    return names


def _identities(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """What the system knows files and folders by, whatever they are called; of those there are."""
    found = set()
    for path in set(paths):
        with suppress(OSError):
            stat = path.stat()
            found.add((stat.st_dev, stat.st_ino))
    return found
