"""What a model says of itself: its card, its versions, and where the library keeps it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, ValidationError

from napari_unet.atomic import atomic_file, atomic_folder
from napari_unet.config import Frozen, NetConfig, SegClass
from napari_unet.normalise import PERCENTILES, Stats, spread_sample
from napari_unet.run import BadInput

FORMAT = 1
CARD, README, PREVIEW = "model.json", "README.md", "preview.png"
WEIGHTS, VERSIONS = "weights.safetensors", "versions"
CARD_BYTES = 20 * 2**20
PREVIEW_BYTES = 2 * 2**20
PNG = b"\x89PNG\r\n\x1a\n"
LONGEST_NAME, NAME_BYTES = 80, 240  # file systems take 255, temporary names add some
NUMBER = len(" 9999")  # what a name may grow by to be free


class Version(Frozen):
    """One set of weights of a model."""

    number: int = Field(ge=1)
    created: str
    steps: int = Field(ge=0)
    learned: int = Field(0, ge=0, description="Steps with those before; 0 in older cards")
    seconds: float = Field(ge=0)
    dice: float | None = Field(None, description="On the annotation that was held out")
    sha256: str = ""
    # Only of versions that tell other things apart than the newest, or have another net.
    net: NetConfig | None = None
    classes: tuple[SegClass, ...] = ()
    rims: bool = False

    def told_apart(self) -> dict[str, Any]:
        """What the card was in what it tells apart, where that was another."""
        if self.net is None:
            return {}
        return {"net": self.net, "classes": self.classes, "rims": self.rims}

    def describe(self) -> list[str]:
        """Two lines of the model card."""
        dice = "not judged (nothing held out)" if self.dice is None else f"{self.dice:.3f}"
        return [
            f"- version: {self.number} of {self.created}, {self.steps} steps "
            f"in {self.seconds:.0f} s",
            f"- held-out Dice: {dice}",
        ]


class Card(Frozen):
    """Everything about a model but its weights; what model.json holds."""

    format: int = FORMAT
    name: str
    net: NetConfig
    classes: tuple[SegClass, ...] = Field(min_length=1)
    axes: str = Field(description="Axes of the images it was trained on, such as CYX")
    spacing: tuple[float, ...] = Field((), description="Pixel size of the images it was trained on")
    unit: str = "pixel"
    seen: tuple[Stats, ...] = Field((), description="Intensity range of each training image")
    images: dict[str, str] = Field({}, description="Training images and their SHA-256")
    labelled: tuple[int, ...] = Field(
        (), description="Labelled pixels of background and each class"
    )
    percentiles: tuple[float, float] = Field(
        PERCENTILES, description="Of an image, brought to -1 and 1 before the net reads it"
    )
    # Settings as they were then: a later version may know others.
    training: dict[str, Any] = Field({}, description="How it was trained")
    numerics: str = ""
    software: dict[str, str] = Field({}, description="Programs that made it and their versions")
    curve: tuple[tuple[int, float], ...] = Field((), description="Step and held-out Dice")
    rims: bool = Field(
        False, description="Whether the net also tells the rims of objects, to part touching ones"
    )
    smallest: int = Field(
        0, ge=0, description="Pixels of small objects it learned from, if labels were objects"
    )
    windows: dict[str, tuple[tuple[tuple[int, int], ...], ...]] = Field(
        {}, description="Of each image the rectangles it was judged by and did not learn"
    )
    held_out: dict[str, float] = Field(
        {}, description="Dice of each image of which something was held out"
    )
    versions: tuple[Version, ...] = ()

    @property
    def current(self) -> Version | None:
        return self.versions[-1] if self.versions else None

    @property
    def outputs(self) -> tuple[SegClass, ...]:
        """What the net tells apart from background."""
        if not self.rims:
            return self.classes
        (only,) = self.classes
        return (only, only.model_copy(update={"name": f"rim of {only.name}"}))

    def named(self, name: str) -> Card:
        """The same card under another name."""
        return self.model_copy(update={"name": name})

    def describe(self) -> str:
        """The model card in Markdown."""
        net = self.net
        lines = [
            f"# {self.name}",
            "",
            f"- network: {net.arch}, {net.ndim}-D, {net.in_channels} channel(s) in, "
            f"width {net.width}, depth {net.depth}, grain {net.grain}",
            *([f"- a classifier of pixels has {net.pixels:.0%} of the say"] if net.pixels else []),
            f"- classes: {', '.join(f'{i} {c.name}' for i, c in enumerate(self.classes, 1))}",
            f"- trained on: {len(self.images)} image(s), {sum(self.labelled):,} labelled pixels",
            f"- pixel size: {' x '.join(f'{s:g}' for s in self.spacing)} {self.unit}",
            *(self.current.describe() if self.current else ()),
        ]
        return "\n".join([*lines, ""])

    def files(self) -> dict[str, bytes]:
        """The card as a model's folder holds it: for programs and for people."""
        return {CARD: self.model_dump_json(indent=1).encode(), README: self.describe().encode()}


def held_out_dice(card: Card, image: str) -> float | None:
    """The score on an image: of a stack that was learned plane by plane, the mean of its planes."""
    mine = re.compile(re.escape(image) + r"(\[\d+\])*")
    planes = [dice for name, dice in card.held_out.items() if mine.fullmatch(name)]
    return sum(planes) / len(planes) if planes else None


def now() -> str:
    """The time as model cards give it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def fingerprint(pixels: Any) -> str:
    """SHA-256 of an image; of a lazy one that is large, of its shape and evenly spread samples."""
    digest = hashlib.sha256(f"{tuple(pixels.shape)} {pixels.dtype}".encode())
    digest.update(spread_sample(pixels).tobytes())
    return digest.hexdigest()


# ---- a model's folder


def read_card(folder: Path) -> Card:
    """The card of the model in a folder."""
    file = folder / CARD
    try:
        if not file.is_file():
            raise BadInput(
                f"{folder} is no model: it has no {CARD}; give a folder that 'train' wrote."
            )
        if file.stat().st_size > CARD_BYTES:
            raise BadInput(
                f"{file} is too large to be a model card; the model is damaged or not ours."
            )
        return parse_card(folder, file.read_bytes())
    except OSError as error:
        reason = f"{file} cannot be read ({error.strerror})"
        raise BadInput(f"{reason}; check its permissions.") from None


def parse_card(path: Path, text: bytes) -> Card:
    """The card from its text; the path is where it came from, to say so."""
    try:
        raw = json.loads(text)
        found = raw.get("format") if isinstance(raw, dict) else None
        if isinstance(found, int) and found > FORMAT:
            raise BadInput(
                f"{path} was written by a newer napari-unet (format {found}); "
                "update napari-unet to read it."
            )
        return Card.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise BadInput(
            f"{path} has a damaged or foreign {CARD} ({where}: {first['msg'].lower()}); "
            "get the model again from where it came."
        ) from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{path} has a {CARD} that is not JSON; get the model again from where it came."
        ) from None


def at_version(path: Path, card: Card, number: int | None) -> Card:
    """The card as it was at a version; as it is if none is asked for."""
    if number is None:
        return card
    if number not in [v.number for v in card.versions]:
        known = ", ".join(str(v.number) for v in card.versions)
        raise BadInput(f"{path} has no version {number}; choose from {known or 'none'}.")
    versions = tuple(v for v in card.versions if v.number <= number)
    return card.model_copy(update={"versions": versions} | versions[-1].told_apart())


def version_file(folder: Path, number: int) -> Path:
    """Where the weights of a version lie once there is a later one."""
    return folder / VERSIONS / f"{number:04d}.safetensors"


def weights_of(folder: Path, version: Version) -> Path:
    """Where the weights of a version lie; the last one's are those in use."""
    last = read_card(folder).current
    newest = last is not None and version.number == last.number
    return folder / WEIGHTS if newest else version_file(folder, version.number)


def read_preview(folder: Path) -> bytes | None:
    """The small PNG picture of what the model in a folder does, if it has one."""
    file = folder / PREVIEW
    with suppress(OSError):
        if file.is_file():
            with file.open("rb") as stream:
                return as_preview(stream.read(PREVIEW_BYTES + 1))
    return None


def as_preview(data: bytes | None) -> bytes | None:
    """The bytes of a preview; None for what is no PNG, or too large."""
    return data if data and data.startswith(PNG) and len(data) <= PREVIEW_BYTES else None


def is_zip(path: Path) -> bool:
    """Whether a model at this path is a zip rather than a folder."""
    return path.suffix.lower() == ".zip"


# ---- the library


def library_folder() -> Path:
    """Where the models of this user live; NAPARI_UNET_HOME moves it."""
    home = os.environ.get("NAPARI_UNET_HOME")
    return Path(home or platformdirs.user_data_dir("napari-unet", appauthor=False)) / "models"


def list_models() -> dict[str, Card | str]:
    """The models of the library by name; for one that cannot be read, the reason."""
    out: dict[str, Card | str] = {}
    for name, path in _folders().items():
        try:
            out[name] = read_card(path)
        except BadInput as error:
            out[name] = str(error)
    return out


def model_folder(name: str) -> Path:
    """Where the library keeps the model of this name, damaged or not."""
    found = _folders().get(name)
    if found is None:
        raise BadInput(f"The library has no model named '{name}'; it may have been renamed.")
    return found


def _folders() -> dict[str, Path]:
    library = library_folder()
    try:
        paths = sorted(library.iterdir()) if library.is_dir() else []
        return {p.name: p for p in paths if p.is_dir() and not p.name.startswith(".")}
    except OSError as error:
        reason = f"{library} cannot be read ({error.strerror})"
        raise BadInput(f"{reason}; check its permissions.") from None


def find_model(path: str | Path) -> Path:
    """The place of a model given as a path or as a name in the library."""
    places = [Path(path)]
    if _is_name(str(path)):
        places.append(library_folder() / path)
    for place in places:
        with suppress(OSError, ValueError):  # a name no file can have, such as one too long
            if place.exists():
                return place
    raise BadInput(
        f"There is no model at {path} and none of that name in the library; "
        "'napari-unet models list' shows those that are there."
    )


def new_place(name: str, own: Path | None = None) -> Path:
    """Where a model of this name is to be kept, if it can be called so and no other is."""
    if not _is_name(name):
        raise BadInput(
            f"'{name}' cannot be a name in the library; give one of letters, digits, spaces, dots "
            "and dashes."
        )
    place = library_folder() / name
    # Where capitals do not count, a name that differs in them only is still the model's own.
    if place.exists() and not (own and place.samefile(own)):
        raise BadInput(f"The library has a model named '{name}' already; give another name.")
    return place


def possible_name(name: str) -> str:
    """The name itself, or the nearest that a model can have: one from elsewhere may be a path."""
    plain = " ".join(re.sub(r"[^\w .()+-]", " ", name).split())
    start = re.sub(r"^\W+", "", plain)[: LONGEST_NAME - NUMBER]
    short = start.encode()[: NAME_BYTES - NUMBER].decode(errors="ignore")
    return re.sub(r"(\.zip|[. ])+$", "", short, flags=re.IGNORECASE) or "model"


def free_name(name: str) -> str:
    """The name itself, made possible, or with the first number that makes it free."""
    base = possible_name(name)
    free, number = base, 1
    while (library_folder() / free).exists():
        number += 1
        free = f"{base} {number}"
    return free


def rename_model(name: str, new: str) -> Path:
    """Call a model of the library otherwise, on its card as well; its versions stay."""
    old = model_folder(name)
    place, card = new_place(new, own=old), read_card(old)
    _replace_card(old, card.named(new))
    try:
        old.rename(place)
    except OSError as error:
        _replace_card(old, card)
        raise BadInput(
            f"'{name}' could not be renamed ({error.strerror}); close what uses it and try again."
        ) from None
    return place


def _replace_card(folder: Path, card: Card) -> None:
    for name, text in card.files().items():
        with atomic_file(folder / name, overwrite=True) as file:
            file.write_bytes(text)


def duplicate_model(name: str, new: str) -> Path:
    """Copy a model of the library, with all its versions, under another name."""
    return take_in(model_folder(name), new)


def find_version(card: Card, name: str) -> tuple[str, int] | None:
    """Where the library has the newest weights on a card: under this name, or another."""
    wanted = card.current.sha256 if card.current else ""
    models = {n: c for n, c in list_models().items() if not isinstance(c, str)}
    for called in sorted(models, key=lambda n: n != name):
        for version in reversed(models[called].versions):
            if wanted and version.sha256 == wanted:
                return called, version.number
    return None


def take_in(old: Path, name: str) -> Path:
    """Copy a model's folder, with all its versions, into the library."""
    place, card = new_place(name), read_card(old).named(name)
    with atomic_folder(place) as folder:
        for file in sorted(f for f in old.rglob("*") if f.is_file() and not f.is_symlink()):
            copy = folder / file.relative_to(old)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        for part, text in card.files().items():
            (folder / part).write_bytes(text)
    return place


def _is_name(name: str) -> bool:
    """Whether a model can be called so: a plain file name on every system, and no zip."""
    plain = re.fullmatch(rf"\w[\w .()+-]{{0,{LONGEST_NAME - 1}}}", name) is not None
    short = plain and len(name.encode()) <= NAME_BYTES
    return short and name[-1] not in ". " and not is_zip(Path(name))
