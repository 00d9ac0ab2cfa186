"""The records of a project on disk, its own and one for each image, and where projects are."""

from __future__ import annotations

import json
import secrets
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from napari_unet.atomic import atomic_file
from napari_unet.cards import library_folder
from napari_unet.config import Frozen, Role, SegClass
from napari_unet.run import BadInput

FORMAT = 1
PROJECT, IMAGE, BACKUP, ASIDE = "project.json", "image.json", ".backup", "set aside"
IMAGES = "images"
CARD_BYTES = 20 * 2**20
RECENT, MOST_RECENT = "recent.json", 12

State = Literal["new", "annotated", "trained on", "predicted", "corrected", "exported"]


def now() -> str:
    """The time, fine enough to tell what came first."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Removal(Frozen):
    """A class that was taken out; those after it moved up."""

    when: str = Field(description="When, in UTC")
    number: int = Field(ge=1, description="Its number then")
    classes: int = Field(ge=1, description="How many there were")


class ProjectCard(Frozen):
    """What project.json holds."""

    format: int = FORMAT
    name: str = Field(description="What the project is called")
    created: str = Field(description="When, in UTC")
    classes: tuple[SegClass, ...] = Field(min_length=1, description="Classes 1..N")
    # Settings as they were then: a later version may know others.
    training: dict[str, Any] = Field({}, description="How to train")
    volumes: bool = Field(False, description="Whether stacks are learned as volumes")
    shown: str = Field("", description="Key of the image that was open last")
    model: str = Field("", description="Name in the library of the model in use")
    # What was painted before is numbered otherwise.
    removed: tuple[Removal, ...] = Field((), description="Classes that there were, oldest first")


class MaskCard(Frozen):
    """What is known of the mask of an image, which is in mask.tif beside its image.json."""

    model: str = Field(description="Name of the model that made it")
    classes: tuple[SegClass, ...] = Field(min_length=1, description="Of that model, 1..N")
    ndim: Literal[2, 3] = Field(2, description="Whether planes or volumes were segmented")
    smallest: int = Field(0, ge=0, description="Pixels of small objects that the model learned")
    parts: tuple[tuple[tuple[int, int], ...], ...] | None = Field(
        None,
        description="Start and stop along each axis of the parts segmented; none for the whole",
    )


class ImageCard(Frozen):
    """What the image.json of an image holds."""

    format: int = FORMAT
    name: str = Field(description="What the image is called")
    path: str = Field(
        "",
        pattern=r"^[^\x00]*$",
        description="Its file, relative to the project where that is possible",
    )
    sha256: str = Field("", description="Of its pixels, by which it is found when it was moved")
    shape: tuple[int, ...] = Field(min_length=2, description="Axes [T], [Z], Y, X")
    channels: int = Field(1, ge=1, description="Channels of a pixel")
    shown: Literal["plain", "rgb", "leading"] = Field(
        "plain", description="How napari shows its channels: none, as colour, as its first axis"
    )
    matrix: tuple[tuple[float, ...], ...] = Field(
        (), description="From pixels to the world, homogeneous"
    )
    unit: str = Field("pixel", description="Of the world")
    role: Role = Field(
        "both", description="What its annotation is for: to learn from, to judge by, or both"
    )
    note: str = Field("", description="What somebody wrote about it")
    added: str = Field(description="When it was taken in")
    painted: str = Field("", description="When it was last painted on")
    trained: str = Field("", description="When a model was last trained on it")
    predicted: str = Field("", description="When its mask was last predicted")
    exported: str = Field("", description="When its mask was last exported")
    labelled: int = Field(0, ge=0, description="Painted pixels")
    dice: float | None = Field(
        None, ge=0, le=1, description="Held-out Dice on it, of the model trained last"
    )
    mask: MaskCard | None = Field(None, description="How its mask was made, if one is kept")

    @property
    def state(self) -> State:
        """How far the work on it is: what happened last."""
        if self.exported and self.exported >= max(self.painted, self.predicted):
            return "exported"
        if self.predicted:
            return "corrected" if self.painted > self.predicted else "predicted"
        if not self.painted:
            return "new"
        return "trained on" if self.trained >= self.painted else "annotated"


# --- on disk ---

C = TypeVar("C", ProjectCard, ImageCard)


def write_card(file: Path, card: ProjectCard | ImageCard) -> None:
    """Write a card; the one before becomes the backup."""
    if file.exists():
        with suppress(OSError):
            shutil.copyfile(file, file.with_suffix(BACKUP))
    with atomic_file(file, overwrite=True) as draft:
        draft.write_text(card.model_dump_json(indent=1), encoding="utf-8")


def read_card(file: Path, kind: type[C], problems: list[str], mend: bool) -> C | None:
    """A card, or its backup; with `mend` a damaged one is set aside."""
    for place in (file, file.with_suffix(BACKUP)):
        try:
            return _parsed(place, kind)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{place} cannot be read now ({error.strerror}).")
        except (ValueError, RecursionError) as error:
            if isinstance(error, BadInput):
                raise
            when = "" if mend else " when the project is opened in napari"
            problems.append(f"{place} is damaged; it is set aside{when}.")
            if mend:
                set_aside(place, file.parent)
    return None


def _parsed(file: Path, kind: type[C]) -> C:
    if file.stat().st_size > CARD_BYTES or file.is_symlink():
        raise ValueError("no card of ours")
    raw = json.loads(file.read_bytes())
    found = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise BadInput(
            f"{file} was written by a newer napari-unet (format {found}); update napari-unet to "
            "open it."
        )
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ValueError(str(error)) from None


def set_aside(place: Path, folder: Path) -> None:
    """Move what is damaged or taken out of the way; nothing is deleted."""
    aside = folder / ASIDE / f"{secrets.token_hex(3)} {place.name}"
    with suppress(OSError):
        aside.parent.mkdir(exist_ok=True)
        place.rename(aside)


# --- where projects are ---


def home() -> Path:
    """Where projects without a name are, and the list of those that were opened lately."""
    return library_folder().parent / "projects"


def scratch_place() -> Path:
    """A new place for what is painted before there is a project."""
    return home() / f"scratch {datetime.now(UTC):%Y-%m-%d %H.%M.%S} {secrets.token_hex(2)}"


def is_project(path: Path) -> bool:
    """Whether there is a project at a place."""
    return (path / PROJECT).is_file() or (path / PROJECT).with_suffix(BACKUP).is_file()


def recent() -> list[Path]:
    """The projects that were opened lately and are still there, the last changed first."""
    try:
        listed = json.loads((home() / RECENT).read_bytes())
    except (OSError, ValueError):
        listed = []
    named = [Path(p) for p in listed if isinstance(p, str)] if isinstance(listed, list) else []
    found = [p for p in (*named, *home().glob("scratch *")) if (p / PROJECT).is_file()]
    return sorted(found, key=_changed, reverse=True)[:MOST_RECENT]


def _changed(folder: Path) -> float:
    """When a project, or what is painted in it, was last written."""
    cards = (folder / PROJECT, *(folder / IMAGES).glob(f"*/{IMAGE}"))
    times = []
    for card in cards:
        with suppress(OSError):
            times.append(card.stat().st_mtime)
    return max(times, default=0.0)


def name_of(folder: Path) -> str:
    """What a project in this folder is called."""
    return folder.name.removesuffix(".unet") or "project"


def title(folder: Path) -> str:
    """What a project is called; one without a name by its first image and when it was begun."""
    if folder.parent != home():
        return name_of(folder)
    images = list((folder / IMAGES).glob(f"*/{IMAGE}"))
    first = _parsed_or_none(images[0], ImageCard) if images else None
    begun = datetime.fromtimestamp((folder / PROJECT).stat().st_mtime, UTC).astimezone()
    more = f" and {len(images) - 1} more" if len(images) > 1 else ""
    return f"'{first.name if first else 'images'}'{more}, {begun:%d %b, %H:%M} (no name yet)"


def _parsed_or_none(file: Path, kind: type[C]) -> C | None:
    try:
        return _parsed(file, kind)
    except (OSError, ValueError, RecursionError):
        return None


def remember(folder: Path) -> None:
    """Note that a project was opened."""
    listed = [str(p) for p in (folder.resolve(), *recent()) if p.parent != home()]
    with suppress(BadInput), atomic_file(home() / RECENT, overwrite=True) as draft:
        draft.write_text(json.dumps(list(dict.fromkeys(listed))[:MOST_RECENT]), encoding="utf-8")
