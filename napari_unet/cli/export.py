"""Write what a project holds, its masks or what is painted, for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.cli.parts import command, say, tell_left_out, tell_problems
from napari_unet.cli.predict import FORMATS
from napari_unet.cli.targets import check_targets, names_in
from napari_unet.progress import count
from napari_unet.run import BadInput

if TYPE_CHECKING:
    import numpy as np

    from napari_unet.annotation import Ends
    from napari_unet.config import SegClass
    from napari_unet.project import Project
    from napari_unet.records import ImageCard

NNUNET = "nnunet"


def add_export(commands: Any) -> None:
    """Offer the command `export`."""
    parser = command(commands, "export", _export, "Write the masks of a project, or its strokes.")
    parser.add_argument("project", type=Path, help="The project's folder")
    parser.add_argument("--out", type=Path, required=True, help="Folder to write to")
    parser.add_argument(
        "--format", choices=(*FORMATS, NNUNET), metavar="NAME", default="tif",
        help=f"{', '.join(FORMATS)}, or {NNUNET} for a dataset of nnU-Net (default tif)",
    )  # fmt: skip
    parser.add_argument(
        "--painted", action="store_true",
        help="What is painted in place of the masks, 0 not labelled and 255 background, "
        "which is 0 as well where there are outlines, segments or lines of a table",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="Replace what is there")


def _export(arguments: argparse.Namespace) -> int:
    from napari_unet.project import open_project

    write = _write_dataset if arguments.format == NNUNET else _write_each
    project = open_project(arguments.project, mend=False)
    tell_problems(project)
    keys = _chosen(project, arguments.painted)
    left_out = write(project, keys, arguments)
    written = len(keys) - left_out
    say(f"{count(written, 'image')} written to {arguments.out.resolve()}")
    return tell_left_out(left_out, len(keys))


def _write_each(project: Project, keys: list[str], arguments: argparse.Namespace) -> int:
    """Write a file for each image; how many of them were left out."""
    names = names_in(project)
    files = [arguments.out / f"{names[key]}.{arguments.format}" for key in keys]
    check_targets(files, map(project.file, project.images), arguments.overwrite)
    if not arguments.painted:
        _say_partly(project, keys, "the rest is left empty")
    left_out = 0
    for key, file in zip(keys, files, strict=True):
        try:
            _write_one(project, key, file, arguments)
        except BadInput as error:
            left_out += 1
            if left_out == len(keys):
                raise
            say(f"'{project.images[key].name}' is left out: {error}")
    return left_out


def _write_one(project: Project, key: str, file: Path, arguments: argparse.Namespace) -> None:
    import numpy as np

    from napari_unet.config import BACKGROUND
    from napari_unet.export import export_labels, format_of

    labels = _labels(project, key, arguments.painted)
    classes = _classes(project, key, arguments)
    if arguments.painted and not format_of(file).keeps_numbers:
        labels = np.where(labels == BACKGROUND, 0, labels)
    export_labels(file, labels, project.read(key), classes, arguments.overwrite)


def _write_dataset(project: Project, keys: list[str], arguments: argparse.Namespace) -> int:
    """Write one dataset of all the images, or none."""
    from napari_unet.export import export_nnunet

    check_targets([arguments.out], map(project.file, project.images), arguments.overwrite)
    painted, classes = arguments.painted, _classes(project, keys[0], arguments)
    for key in keys:
        if [c.name for c in _classes(project, key, arguments)] != [c.name for c in classes]:
            one, other = (project.images[k].name for k in (keys[0], key))
            raise BadInput(
                f"The masks of '{one}' and '{other}' are of different classes: segment all images "
                "with one model, then export them."
            )
    sparse = painted or _say_partly(project, keys, "the rest is to be ignored")
    pairs = ((project.read(key), _labels(project, key, painted, sparse)) for key in keys)
    export_nnunet(arguments.out, pairs, classes, sparse, arguments.overwrite)
    return 0


def _chosen(project: Project, painted: bool) -> list[str]:
    """The images of which there is something to write."""
    cards = project.images.items()
    keys = [key for key, card in cards if (card.painted if painted else card.mask)]
    if not keys:
        what, how = ("painted", "paint") if painted else ("segmented", "segment")
        raise BadInput(f"No image of {project.folder} is {what}; {how} some first.")
    return keys


def _classes(project: Project, key: str, arguments: argparse.Namespace) -> tuple[SegClass, ...]:
    """The classes of what is written of an image."""
    mask = project.images[key].mask
    return project.card.classes if arguments.painted or mask is None else mask.classes


def _labels(project: Project, key: str, painted: bool, sparse: bool = False) -> np.ndarray:
    """What is written of an image; with `sparse` its mask as if it were painted."""
    if painted:
        labels = project.annotation(key)
        tell_problems(project)  # what was there before, or nothing, is written
        return labels
    found = project.read_mask(key)
    if found is None:
        raise BadInput(project.problems.pop())
    return _as_strokes(found[0], _unseen(project.images[key])) if sparse else found[0]


def _as_strokes(labels: np.ndarray, unseen: list[Ends]) -> np.ndarray:
    """A mask with 255 for background, and 0 for what was not segmented."""
    import numpy as np

    from napari_unet.annotation import region_of
    from napari_unet.config import BACKGROUND, UNLABELLED

    strokes = np.where(labels == 0, BACKGROUND, labels)
    for box in unseen:
        strokes[region_of(box)] = UNLABELLED
    return strokes


def _unseen(card: ImageCard) -> list[Ends]:
    """The parts of an image that were not segmented, though others were."""
    from napari_unet.annotation import left_out

    parts = None if card.mask is None else card.mask.parts
    return [] if parts is None else left_out(card.shape, parts)


def _say_partly(project: Project, keys: list[str], rest: str) -> bool:
    """Say which images are segmented only in part, and what becomes of the rest; whether any is."""
    cards = [project.images[key] for key in keys]
    partly = [f"'{card.name}'" for card in cards if _unseen(card)]
    more = f" and {len(partly) - 3} more" if len(partly) > 3 else ""
    if partly:
        say(f"Segmented only in part: {', '.join(partly[:3])}{more}; {rest}.")
    return bool(partly)
