"""Models: a net with everything it needs to be used again, in memory, on disk and in the
library.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path, PurePosixPath

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from napari_unet.atomic import atomic_file, atomic_folder
from napari_unet.cards import (
    CARD,
    CARD_BYTES,
    PREVIEW,
    PREVIEW_BYTES,
    VERSIONS,
    WEIGHTS,
    Card,
    Version,
    as_preview,
    at_version,
    find_model,
    free_name,
    is_zip,
    model_folder,
    new_place,
    now,
    parse_card,
    read_card,
    read_preview,
    version_file,
    weights_of,
)
from napari_unet.models import Net, build
from napari_unet.run import BadInput

HEADER_BYTES = 2**20  # of safetensors, before the weights; ours takes a few kilobytes
KEPT_VERSIONS = 10
SQUEEZE = 20  # times: no trained weights pack to less than that
LZMA_BYTES = 2**28  # that unpacking LZMA may take beside what it unpacks
FOREIGN = ("rdf.yaml", "bioimageio.yaml", "model.yaml")  # what describes a bioimage.io package

Layout = dict[str, tuple[torch.Size, torch.dtype]]


class Model:
    """A trained net and its card; a small PNG picture of what it does, if it has one."""

    def __init__(
        self,
        card: Card,
        weights: dict[str, Tensor],
        preview: bytes | None = None,
    ) -> None:
        self.card = card
        self.weights = weights
        self.preview = preview
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
        if is_zip(path):
            return self._save_zip(path)
        data = safetensors.torch.save(_plain(self.weights))
        versions = self._history(path, hashlib.sha256(data).hexdigest())
        card = self.card.model_copy(update={"versions": versions})
        preview = as_preview(self.preview) or read_preview(path)
        with atomic_folder(path, overwrite=True) as folder:
            _copy_versions(path, folder, versions)
            (folder / WEIGHTS).write_bytes(data)
            for name, text in card.files().items():
                (folder / name).write_bytes(text)
            if preview:
                (folder / PREVIEW).write_bytes(preview)
        self.card = card
        return path

    def _history(self, folder: Path, digest: str) -> tuple[Version, ...]:
        """The versions in a folder that are still there, and these weights as the last of them."""
        own = {"sha256": digest, "net": None, "classes": (), "rims": False}
        mine = (self.card.current or _first_version()).model_copy(update=own)
        earlier = [v for v in self._earlier(folder) if weights_of(folder, v).is_file()]
        if not earlier:
            return (mine,)
        if earlier[-1].sha256 == digest:  # saved again, nothing new
            return tuple(earlier)
        latest = mine.model_copy(update={"number": earlier[-1].number + 1})
        return (*earlier[-KEPT_VERSIONS:], latest)

    def _earlier(self, folder: Path) -> list[Version]:
        """The versions in a folder; if what is told apart is another now, they remember it."""
        if not (folder / CARD).is_file():
            return []
        old = read_card(folder)
        if (old.net, len(old.classes), old.rims) == (
            self.card.net, len(self.card.classes), self.card.rims
        ):  # fmt: skip
            return list(old.versions)
        own = {"net": old.net, "classes": old.classes, "rims": old.rims}
        return [v if v.net else v.model_copy(update=own) for v in old.versions]

    def _save_zip(self, path: Path) -> Path:
        with atomic_file(path, overwrite=True) as temporary:
            folder = temporary.with_suffix(".folder")
            try:
                Model(self.card, self.weights, self.preview).save(folder)
                zip_folder(folder, temporary)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return path


def zip_folder(folder: Path, path: Path) -> None:
    """Put all that a folder holds into a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(f for f in folder.rglob("*") if f.is_file()):
            archive.write(file, file.relative_to(folder).as_posix())


def check_place(path: str | Path) -> None:
    """Refuse a place where a model must not be saved; what is there must be a model, and ours."""
    path = Path(path)
    if not path.exists() or (path.is_dir() and not is_zip(path) and not any(path.iterdir())):
        return
    if path.is_dir() and not is_zip(path) and (path / CARD).is_file():
        read_card(path)
    elif not (is_zip(path) and path.is_file() and _holds_card(path)):
        raise BadInput(f"{path} exists and is no model; choose another place for the model.")


def _holds_card(path: Path) -> bool:
    try:
        with _opened(path) as archive:
            return CARD in archive.namelist()
    except BadInput:
        return False


def _first_version() -> Version:
    return Version(number=1, created=now(), steps=0, seconds=0)


def _copy_versions(old: Path, new: Path, versions: tuple[Version, ...]) -> None:
    """Take the weights of all versions but the last over from the folder that held them."""
    if len(versions) > 1:
        (new / VERSIONS).mkdir()
    for version in versions[:-1]:
        shutil.copy2(weights_of(old, version), version_file(new, version.number))


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().to("cpu").contiguous() for k, v in weights.items()}


def chosen_model(model: Model | Path | str) -> Model:
    """What was chosen in a window: a model, its folder, or its name in the library.

    A folder that happens to have that name where napari was started is not meant.
    """
    if isinstance(model, Model):
        return model
    return load_model(model_folder(model) if isinstance(model, str) else model)


def load_model(path: str | Path, version: int | None = None) -> Model:
    """A model from a folder, a zip, or by its name in the library; nothing in it is executed."""
    path = find_model(path)
    if path.is_file():
        return _load_zip(path, version)
    card = at_version(path, read_card(path), version)
    file = weights_of(path, card.current) if card.current else path / WEIGHTS
    layout = _layout(path, card)
    try:
        if file.stat().st_size > _most_bytes(layout):
            raise BadInput(f"{file} is too large for the net on its card; do not trust it.")
        data = file.read_bytes()
    except OSError:
        raise BadInput(
            f"{file} is missing or unreadable; copy the whole model folder again."
        ) from None
    return _assemble(path, card, layout, data, read_preview(path))


def _layout(path: Path, card: Card) -> Layout:
    """Shape and type of each weight that the net on a card has, without allocating any."""
    if (card.rims and len(card.classes) > 1) or card.net.n_classes != len(card.outputs):
        raise BadInput(
            f"{path} names {len(card.classes)} classes but its net has {card.net.n_classes}; "
            "the model is damaged, get it again from where it came."
        )
    with torch.device("meta"):
        return {k: (v.shape, v.dtype) for k, v in build(card.net).state_dict().items()}


def _most_bytes(layout: Layout) -> int:
    """How large a file of such weights may be."""
    return HEADER_BYTES + sum(shape.numel() * dtype.itemsize for shape, dtype in layout.values())


def _assemble(path: Path, card: Card, layout: Layout, data: bytes, preview: bytes | None) -> Model:
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
    return Model(card, weights, as_preview(preview))


def _load_zip(path: Path, version: int | None) -> Model:
    with _opened(path) as archive:
        inside = _inside(path, archive.namelist())
        card = parse_card(path, _member(path, archive, inside + CARD, CARD_BYTES))
        card = at_version(path, card, version)
        layout = _layout(path, card)
        data = _member(path, archive, inside + WEIGHTS, _most_bytes(layout))
        preview = _zipped_preview(path, archive, inside + PREVIEW)
    return _assemble(path, card, layout, data, preview)


def _zipped_preview(path: Path, archive: zipfile.ZipFile, name: str) -> bytes | None:
    if name not in archive.namelist() or archive.getinfo(name).file_size > PREVIEW_BYTES:
        return None
    return _member(path, archive, name, PREVIEW_BYTES)


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
    if not cards and any(PurePosixPath(name).name in FOREIGN for name in names):
        raise BadInput(
            f"{path} is a bioimage.io package from another program, whose network could be built "
            "only by running code from the package, which is never done here; use it in the "
            "program it comes from, or train a model of your own."
        )
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
    info = archive.getinfo(name)
    most = min(limit, max(CARD_BYTES, SQUEEZE * info.compress_size))  # a card may claim a huge net
    if info.file_size > most or info.compress_size > min(2 * most, path.stat().st_size):
        raise BadInput(f"{path} holds a {name} too large to be one; do not trust it.")
    return _unpacked(archive, info)


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """What a file of a zip holds; `zipfile` itself bounds that only where it is deflated."""
    as_it_lies = copy(info)
    as_it_lies.compress_type, as_it_lies.file_size = zipfile.ZIP_STORED, info.compress_size
    del as_it_lies.CRC  # which is that of what is unpacked
    with archive.open(as_it_lies) as file:
        packed = file.read()
    data = _unpack(packed, info.compress_type, info.file_size + 1)
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(info.filename)
    return data


def _unpack(packed: bytes, packing: int, n: int) -> bytes:
    """So many bytes of what is packed, and no more, whatever there is."""
    if packing == zipfile.ZIP_STORED:
        return packed
    if packing == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, n)
    if packing == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, n)
    if packing == zipfile.ZIP_LZMA:  # as a file of its own: properties, unknown size, the rest
        alone = packed[4:9] + b"\xff" * 8 + packed[9:]
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, LZMA_BYTES).decompress(alone, n)
    raise zipfile.BadZipFile(f"packing {packing}")


def import_model(path: str | Path, name: str | None = None, numbered: bool = False) -> Path:
    """Copy a model into the library, checked; under its own name or the one given.

    With `numbered`, a name that is taken or impossible becomes the nearest that is free.
    """
    model = load_model(path)
    name = model.card.name if name is None else name
    place = new_place(free_name(name) if numbered else name)
    model.card = model.card.named(place.name)
    return model.save(place)
