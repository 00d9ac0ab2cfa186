"""Models: a net with everything it needs to be used again, in memory, on disk and in the
library.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import platformdirs
import safetensors
import safetensors.torch
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from napari_unet.atomic import atomic_file, atomic_folder
from napari_unet.config import Frozen, NetConfig, SegClass
from napari_unet.models import Net, build
from napari_unet.normalise import PERCENTILES, Stats, spread_sample
from napari_unet.run import BadInput

FORMAT = 1
CARD, WEIGHTS, VERSIONS = "model.json", "weights.safetensors", "versions"
CARD_BYTES = 20 * 2**20
HEADER_BYTES = 2**20  # of safetensors, before the weights; ours takes a few kilobytes
KEPT_VERSIONS = 10

Layout = dict[str, tuple[torch.Size, torch.dtype]]


class Version(Frozen):
    """One set of weights of a model."""

    number: int = Field(ge=1)
    created: str
    steps: int = Field(ge=0)
    seconds: float = Field(ge=0)
    dice: float | None = Field(None, description="On the annotation that was held out")
    sha256: str = ""

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
    versions: tuple[Version, ...] = ()

    @property
    def current(self) -> Version | None:
        return self.versions[-1] if self.versions else None

    def describe(self) -> str:
        """The model card in Markdown."""
        net = self.net
        lines = [
            f"# {self.name}",
            "",
            f"- network: {net.arch}, {net.ndim}-D, {net.in_channels} channel(s) in, "
            f"width {net.width}, depth {net.depth}",
            f"- classes: {', '.join(f'{i} {c.name}' for i, c in enumerate(self.classes, 1))}",
            f"- trained on: {len(self.images)} image(s), {sum(self.labelled):,} labelled pixels",
            f"- pixel size: {' x '.join(f'{s:g}' for s in self.spacing)} {self.unit}",
            *(self.current.describe() if self.current else ()),
        ]
        return "\n".join([*lines, ""])


class Model:
    """A trained net, its card, and the weights of its earlier versions."""

    def __init__(self, card: Card, weights: dict[str, Tensor]) -> None:
        self.card = card
        self.weights = weights
        self._net: Net | None = None

    def __repr__(self) -> str:
        card = self.card
        return f"<Model {card.name!r}: {card.net.arch}, {len(card.classes)} class(es)>"

    @property
    def net(self) -> Net:
        """The net with these weights, ready to predict; one for all callers."""
        if self._net is None:
            with torch.device("meta"):
                net = build(self.card.net)
            net.load_state_dict(self.weights, assign=True)
            self._net = net.eval().requires_grad_(False)
        return self._net

    def save(self, path: str | Path) -> Path:
        """Write a folder, or a zip of it; weights that a folder already holds become a version."""
        path = Path(path)
        check_place(path)
        if _is_zip(path):
            return self._save_zip(path)
        data = safetensors.torch.save(_plain(self.weights))
        versions = self._history(path, hashlib.sha256(data).hexdigest())
        card = self.card.model_copy(update={"versions": versions})
        with atomic_folder(path, overwrite=True) as folder:
            _copy_versions(path, folder, versions)
            (folder / WEIGHTS).write_bytes(data)
            (folder / CARD).write_text(card.model_dump_json(indent=1), encoding="utf-8")
            (folder / "README.md").write_text(card.describe(), encoding="utf-8")
        self.card = card
        return path

    def _history(self, folder: Path, digest: str) -> tuple[Version, ...]:
        """The versions in a folder that are still there, and these weights as the last of them."""
        mine = (self.card.current or _first_version()).model_copy(update={"sha256": digest})
        earlier = [v for v in _versions_in(folder) if _weights_of(folder, v).is_file()]
        if not earlier:
            return (mine,)
        if earlier[-1].sha256 == digest:  # saved again, nothing new
            return tuple(earlier)
        latest = mine.model_copy(update={"number": earlier[-1].number + 1})
        return (*earlier[-KEPT_VERSIONS:], latest)

    def _save_zip(self, path: Path) -> Path:
        with atomic_file(path, overwrite=True) as temporary:
            folder = temporary.with_suffix(".folder")
            try:
                Model(self.card, self.weights).save(folder)
                with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
                        archive.write(file, file.relative_to(folder).as_posix())
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return path


def check_place(path: str | Path) -> None:
    """Refuse a place where a model must not be saved; what is there must be a model, and ours."""
    path = Path(path)
    if not path.exists() or (path.is_dir() and not _is_zip(path) and not any(path.iterdir())):
        return
    if path.is_dir() and not _is_zip(path) and (path / CARD).is_file():
        read_card(path)
    elif not (_is_zip(path) and path.is_file() and _holds_card(path)):
        raise BadInput(f"{path} exists and is no model; choose another place for the model.")


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _holds_card(path: Path) -> bool:
    try:
        with _opened(path) as archive:
            return CARD in archive.namelist()
    except BadInput:
        return False


def _first_version() -> Version:
    return Version(number=1, created=now(), steps=0, seconds=0)


def now() -> str:
    """The time as model cards give it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version_file(folder: Path, number: int) -> Path:
    return folder / VERSIONS / f"{number:04d}.safetensors"


def _versions_in(folder: Path) -> tuple[Version, ...]:
    return read_card(folder).versions if (folder / CARD).is_file() else ()


def _weights_of(folder: Path, version: Version) -> Path:
    """Where the weights of a version lie; the last one's are those in use."""
    last = read_card(folder).current
    return folder / WEIGHTS if version == last else _version_file(folder, version.number)


def _copy_versions(old: Path, new: Path, versions: tuple[Version, ...]) -> None:
    """Take the weights of all versions but the last over from the folder that held them."""
    if len(versions) > 1:
        (new / VERSIONS).mkdir()
    for version in versions[:-1]:
        shutil.copy2(_weights_of(old, version), _version_file(new, version.number))


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().to("cpu").contiguous() for k, v in weights.items()}


def load_model(path: str | Path, version: int | None = None) -> Model:
    """A model from a folder, a zip, or by its name in the library; nothing in it is executed."""
    path = find_model(path)
    if path.is_file():
        return _load_zip(path, version)
    card = _at_version(path, read_card(path), version)
    file = _weights_of(path, card.current) if card.current else path / WEIGHTS
    layout = _layout(path, card)
    try:
        if file.stat().st_size > _most_bytes(layout):
            raise BadInput(f"{file} is too large for the net on its card; do not trust it.")
        data = file.read_bytes()
    except OSError:
        raise BadInput(
            f"{file} is missing or unreadable; copy the whole model folder again."
        ) from None
    return _assemble(path, card, layout, data)


def _at_version(path: Path, card: Card, number: int | None) -> Card:
    """The card as it was at a version; as it is if none is asked for."""
    if number is None:
        return card
    if number not in [v.number for v in card.versions]:
        known = ", ".join(str(v.number) for v in card.versions)
        raise BadInput(f"{path} has no version {number}; choose from {known or 'none'}.")
    return card.model_copy(
        update={"versions": tuple(v for v in card.versions if v.number <= number)}
    )


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


def read_card(folder: Path) -> Card:
    """The card of the model in a folder."""
    file = folder / CARD
    if not file.is_file():
        raise BadInput(f"{folder} is no model: it has no {CARD}; give a folder that 'train' wrote.")
    if file.stat().st_size > CARD_BYTES:
        raise BadInput(f"{file} is too large to be a model card; the model is damaged or not ours.")
    try:
        return _parse_card(folder, file.read_bytes())
    except OSError as error:
        reason = f"{file} cannot be read ({error.strerror})"
        raise BadInput(f"{reason}; check its permissions.") from None


def _parse_card(path: Path, text: bytes) -> Card:
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


def _layout(path: Path, card: Card) -> Layout:
    """Shape and type of each weight that the net on a card has, without allocating any."""
    if card.net.n_classes != len(card.classes):
        raise BadInput(
            f"{path} names {len(card.classes)} classes but its net has {card.net.n_classes}; "
            "the model is damaged, get it again from where it came."
        )
    with torch.device("meta"):
        return {k: (v.shape, v.dtype) for k, v in build(card.net).state_dict().items()}


def _most_bytes(layout: Layout) -> int:
    """How large a file of such weights may be."""
    return HEADER_BYTES + sum(shape.numel() * dtype.itemsize for shape, dtype in layout.values())


def _assemble(path: Path, card: Card, layout: Layout, data: bytes) -> Model:
    """A model from its card and the bytes of its weights, which are checked against it."""
    try:
        weights = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError):
        raise BadInput(
            f"{path} has weights that are truncated or not in safetensors format; pickled models "
            "are never opened: get the model again from where it came."
        ) from None
    wanted = card.current.sha256 if card.current else ""
    if wanted and hashlib.sha256(data).hexdigest() != wanted:
        raise BadInput(f"{path} has weights that do not match its card; copy the model again.")
    if {k: (v.shape, v.dtype) for k, v in weights.items()} != layout:
        raise BadInput(
            f"{path} has weights that do not fit the net on its card; "
            "get the model again from where it came."
        )
    if not all(torch.isfinite(v).all() for v in weights.values()):
        raise BadInput(
            f"{path} has weights that are not finite numbers; "
            "get the model again from where it came."
        )
    return Model(card, weights)


def _load_zip(path: Path, version: int | None) -> Model:
    with _opened(path) as archive:
        inside = _inside(path, archive.namelist())
        card = _parse_card(path, _member(path, archive, inside + CARD, CARD_BYTES))
        card = _at_version(path, card, version)
        layout = _layout(path, card)
        data = _member(path, archive, inside + WEIGHTS, _most_bytes(layout))
    return _assemble(path, card, layout, data)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip whose damage, wherever it shows, is told in a sentence."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except BadInput:
        raise
    # Encrypted members raise RuntimeError, bad names ValueError; the rest is what decoders raise.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError,
            ValueError):  # fmt: skip
        raise BadInput(
            f"{path} is neither a model folder nor a sound zip of one; pickled models are never "
            "opened: give what 'train' wrote."
        ) from None


def _inside(path: Path, names: list[str]) -> str:
    """The folder within a zip that is the model: none, or the only one there is."""
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise BadInput(
                f"{path} holds a file that would climb out of its folder ('{name}'); "
                "do not trust it."
            )
    cards = [name for name in names if PurePosixPath(name).name == CARD]
    if len(cards) != 1:
        raise BadInput(
            f"{path} is no model: it holds {len(cards)} files {CARD} instead of one; pickled "
            "models are never opened: give a folder or zip that 'train' wrote."
        )
    return cards[0].removesuffix(CARD)


def _member(path: Path, archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A file of a zip, of which no more is unpacked than it may hold, whatever its size claims."""
    if name not in archive.namelist():
        raise BadInput(f"{path} has no {name}; get the model again from where it came.")
    with archive.open(name) as file:
        data = file.read(min(limit, archive.getinfo(name).file_size) + 1)
    if len(data) > limit:
        raise BadInput(f"{path} holds a {name} too large to be one; do not trust it.")
    return data


def library_folder() -> Path:
    """Where the models of this user live; NAPARI_UNET_HOME moves it."""
    home = os.environ.get("NAPARI_UNET_HOME")
    return Path(home or platformdirs.user_data_dir("napari-unet", appauthor=False)) / "models"


def list_models() -> dict[str, Card | str]:
    """The models of the library by name; for one that cannot be read, the reason."""
    folder = library_folder()
    out: dict[str, Card | str] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and not path.name.startswith("."):
            try:
                out[path.name] = read_card(path)
            except BadInput as error:
                out[path.name] = str(error)
    return out


def import_model(path: str | Path, name: str | None = None) -> Path:
    """Copy a model into the library, checked; under its own name or the one given."""
    model = load_model(path)
    name = model.card.name if name is None else name
    if not _is_name(name):
        raise BadInput(
            f"'{name}' cannot be a name in the library; give one of letters, digits, spaces, dots "
            "and dashes with --name."
        )
    target = library_folder() / name
    if target.exists():
        raise BadInput(
            f"The library has a model named '{name}' already; give another name with --name."
        )
    return model.save(target)


def _is_name(name: str) -> bool:
    """Whether a model can be called so: a plain file name on every system, and no zip."""
    plain = re.fullmatch(r"\w[\w .()+-]{0,79}", name) is not None
    return plain and name[-1] not in ". " and not _is_zip(Path(name))


def fingerprint(pixels: Any) -> str:
    """SHA-256 of an image; of a lazy one that is large, of its shape and evenly spread samples."""
    digest = hashlib.sha256(f"{tuple(pixels.shape)} {pixels.dtype}".encode())
    digest.update(spread_sample(pixels).tobytes())
    return digest.hexdigest()
