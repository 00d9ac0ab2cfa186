"""Models: a net with everything it needs to be used again, in memory, on disk and in the library."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
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
from napari_unet.config import Frozen, NetConfig, SegClass, TrainConfig
from napari_unet.models import Net, build
from napari_unet.normalise import Stats
from napari_unet.run import BadInput

FORMAT = 1
CARD, WEIGHTS, VERSIONS = "model.json", "weights.safetensors", "versions"
CARD_BYTES = 20 * 2**20
KEPT_VERSIONS = 10


class Version(Frozen):
    """One set of weights of a model."""

    number: int = Field(ge=1)
    created: str
    steps: int = Field(ge=0)
    seconds: float = Field(ge=0)
    dice: float | None = Field(None, description="On the annotation that was held out")
    sha256: str = ""


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
    labelled: tuple[int, ...] = Field((), description="Labelled pixels of background and each class")
    training: TrainConfig = TrainConfig()
    numerics: str = ""
    software: dict[str, str] = {}
    curve: tuple[tuple[int, float], ...] = Field((), description="Step and held-out Dice")
    versions: tuple[Version, ...] = ()

    @property
    def current(self) -> Version | None:
        return self.versions[-1] if self.versions else None

    def describe(self) -> str:
        """The model card in Markdown."""
        net, version = self.net, self.current
        lines = [
            f"# {self.name}",
            "",
            f"- network: {net.arch}, {net.ndim}-D, {net.in_channels} channel(s) in, width {net.width}, depth {net.depth}",
            f"- classes: {', '.join(f'{i} {c.name}' for i, c in enumerate(self.classes, 1))}",
            f"- trained on: {len(self.images)} image(s), {sum(self.labelled):,} labelled pixels",
            f"- pixel size: {' x '.join(f'{s:g}' for s in self.spacing)} {self.unit}",
        ]
        if version:
            dice = "not judged (nothing held out)" if version.dice is None else f"{version.dice:.3f}"
            lines += [
                f"- version: {version.number} of {version.created}, {version.steps} steps in {version.seconds:.0f} s",
                f"- held-out Dice: {dice}",
            ]
        return "\n".join([*lines, ""])


class Model:
    """A trained net, its card, and the weights of its earlier versions."""

    def __init__(self, card: Card, weights: dict[str, Tensor]) -> None:
        self.card = card
        self.weights = weights
        self._net: Net | None = None

    def __repr__(self) -> str:
        return f"<Model {self.card.name!r}: {self.card.net.arch}, {len(self.card.classes)} class(es)>"

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
        if path.suffix == ".zip":
            return self._save_zip(path)
        if path.exists() and not (path / CARD).is_file():
            if not path.is_dir() or any(path.iterdir()):
                raise BadInput(f"{path} exists and is no model; choose another place for the model.")
        with atomic_folder(path, overwrite=True) as folder:
            card = self._with_history(path, folder)
            data = safetensors.torch.save(_plain(self.weights))
            version = card.versions[-1].model_copy(
                update={"sha256": hashlib.sha256(data).hexdigest()}
            )
            card = card.model_copy(update={"versions": (*card.versions[:-1], version)})
            (folder / WEIGHTS).write_bytes(data)
            (folder / CARD).write_text(card.model_dump_json(indent=1), encoding="utf-8")
            (folder / "README.md").write_text(card.describe(), encoding="utf-8")
        self.card = card
        return path

    def _with_history(self, old: Path, new: Path) -> Card:
        """The card as a continuation of the model in a folder, whose weights are kept."""
        versions = self.card.versions or (_first_version(),)
        if not (old / CARD).is_file():
            return self.card.model_copy(update={"versions": versions[-1:]})
        earlier = read_card(old).versions
        if not earlier:
            return self.card.model_copy(update={"versions": versions[-1:]})
        if self.card.versions == earlier:  # saved again, nothing new
            if (old / VERSIONS).is_dir():
                shutil.copytree(old / VERSIONS, new / VERSIONS)
            return self.card
        kept = earlier[-KEPT_VERSIONS:]
        (new / VERSIONS).mkdir()
        for version in kept[:-1]:
            shutil.copy2(_version_file(old, version.number), _version_file(new, version.number))
        shutil.copy2(old / WEIGHTS, _version_file(new, kept[-1].number))
        latest = versions[-1].model_copy(update={"number": kept[-1].number + 1})
        return self.card.model_copy(update={"versions": (*kept, latest)})

    def _save_zip(self, path: Path) -> Path:
        with atomic_file(path, overwrite=True) as temporary:
            folder = temporary.with_suffix(".folder")
            try:
                self.save(folder)
                with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
                        archive.write(file, file.relative_to(folder).as_posix())
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return path


def _first_version() -> Version:
    return Version(number=1, created=now(), steps=0, seconds=0)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version_file(folder: Path, number: int) -> Path:
    return folder / VERSIONS / f"{number:04d}.safetensors"


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().to("cpu").contiguous() for k, v in weights.items()}


def load_model(path: str | Path, version: int | None = None) -> Model:
    """A model from a folder, a zip, or by its name in the library; nothing in it is executed."""
    path = find_model(path)
    if path.is_file():
        return _load_zip(path)
    card = read_card(path)
    file = path / WEIGHTS
    if version is not None and card.current and version != card.current.number:
        if version not in [v.number for v in card.versions]:
            known = ", ".join(str(v.number) for v in card.versions)
            raise BadInput(f"{path} has no version {version}; it has {known}.")
        file = _version_file(path, version)
        card = card.model_copy(
            update={"versions": tuple(v for v in card.versions if v.number <= version)}
        )
    try:
        data = file.read_bytes()
    except OSError:
        raise BadInput(
            f"{file} is missing or unreadable; copy the whole model folder again."
        ) from None
    return _assemble(path, card, data)


def find_model(path: str | Path) -> Path:
    """The place of a model given as a path or as a name in the library."""
    direct = Path(path)
    if direct.exists():
        return direct
    named = library_folder() / direct
    if len(direct.parts) == 1 and named.exists():
        return named
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
        raise BadInput(f"{file} cannot be read ({error.strerror}); check its permissions.") from None


def _parse_card(path: Path, text: bytes) -> Card:
    try:
        raw = json.loads(text)
        found = raw.get("format") if isinstance(raw, dict) else None
        if isinstance(found, int) and found > FORMAT:
            raise BadInput(
                f"{path} was written by a newer napari-unet (format {found}); update napari-unet to read it."
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


def _assemble(path: Path, card: Card, data: bytes) -> Model:
    """Weights checked against the card before anything large is built."""
    if card.net.n_classes != len(card.classes):
        raise BadInput(
            f"{path} names {len(card.classes)} classes but its net has {card.net.n_classes}; "
            "the model is damaged."
        )
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
    with torch.device("meta"):
        expected = {k: v.shape for k, v in build(card.net).state_dict().items()}
    if {k: v.shape for k, v in weights.items()} != expected:
        raise BadInput(f"{path} has weights that do not fit the net on its card; it is damaged.")
    if not all(torch.isfinite(v).all() for v in weights.values()):
        raise BadInput(f"{path} has weights that are not finite numbers; it is damaged.")
    return Model(card, weights)


def _load_zip(path: Path) -> Model:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if PurePosixPath(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
                    raise BadInput(
                        f"{path} holds a file that would climb out of its folder ('{name}'); "
                        "do not trust it."
                    )
            card = _parse_card(path, _member(archive, CARD, CARD_BYTES))
            return _assemble(path, card, _member(archive, WEIGHTS, 4 * 2**30))
    except KeyError as error:
        raise BadInput(f"{path} is no model: {error.args[0]}".rstrip(".") + ".") from None
    except (zipfile.BadZipFile, OSError, EOFError):
        raise BadInput(
            f"{path} is neither a model folder nor a zip of one; pickled models are never opened."
        ) from None


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    if archive.getinfo(name).file_size > limit:
        raise BadInput(f"{archive.filename} holds a {name} too large to be one; do not trust it.")
    return archive.read(name)


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
    target = library_folder() / (name or model.card.name)
    if target.parent != library_folder() or target.exists():
        raise BadInput(
            f"The library cannot take a model named '{target.name}'; give another with --name."
        )
    return model.save(target)


def fingerprint(pixels: Any) -> str:
    """SHA-256 of an image; of a lazy one that is large, of its shape and evenly spread samples."""
    from napari_unet.normalise import spread_sample

    digest = hashlib.sha256(f"{tuple(pixels.shape)} {pixels.dtype}".encode())
    digest.update(spread_sample(pixels).tobytes())
    return digest.hexdigest()
