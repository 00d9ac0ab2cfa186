"""Whatever is given: it works, or one sentence says what is wrong, where, and what to do."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image as Pillow

from napari_unet.annotation import TrainingSet
from napari_unet.api import predict, train
from napari_unet.cards import Card, Version, now
from napari_unet.cli import main
from napari_unet.config import NetConfig, class_table
from napari_unet.holdout import HELD, TRAIN, HoldOut
from napari_unet.library import Model, load_model
from napari_unet.models import build
from napari_unet.run import BadInput

TINY = ("--width", "4", "--depth", "2", "--steps", "3", "--precision", "float32")
FAST = ("--precision", "float32")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """One thread, a library of its own, and a working folder in which nothing lies."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    torch.set_num_threads(threads)


# ---- what cases are made of


def picture(size: int = 32) -> np.ndarray:
    """A bright disk on noise."""
    noise = np.random.default_rng(0).integers(0, 60, (size, size))
    return (noise + 150 * disk(size)).astype(np.uint8)


def disk(size: int = 32) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return (y**2 + x**2 < (size // 4) ** 2).astype(np.uint8)


def save(path: Path, array: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Pillow.fromarray(array).save(path, **options)
    return path


def pair(root: Path, image=None, mask=None, suffix: str = "png") -> list[str]:
    """The arguments that train on one image and its mask, good ones unless others are given."""
    kinds = [image, mask]
    arrays = [picture() if image is None else image, disk() if mask is None else mask]
    for name, array, kind in zip(("image", "mask"), arrays, kinds, strict=True):
        kind = "png" if kind is None else suffix
        save(root / f"{name}.{kind}", array)
    found = [next(root.glob(f"{name}.*")) for name in ("image", "mask")]
    return ["train", *map(str, found), "--out", str(root / "model"), *TINY]


def model(root: Path, channels: int = 1, ndim: int = 2, name: str = "model") -> Path:
    torch.manual_seed(0)
    net = build(NetConfig(width=4, depth=2, ndim=ndim, in_channels=channels))
    card = Card(
        name="tiny",
        net=net.config,
        classes=class_table(1),
        axes="CYX",
        versions=(Version(number=1, created=now(), steps=1, seconds=1),),
    )
    return Model(card, net.state_dict()).save(root / name)


def predicting(root: Path, place: Path | str | None = None, image: Path | None = None) -> list[str]:
    """The arguments that predict one image, good ones unless others are given."""
    image = image or save(root / "image.png", picture())
    place = model(root) if place is None else place
    return ["predict", str(place), str(image), "--out", str(root / "masks"), *FAST]


def with_card(root: Path, **changes) -> list[str]:
    place = model(root)
    card = json.loads((place / "model.json").read_text())
    for key, value in changes.items():
        inside = card["net"] if key in card["net"] else card
        inside[key] = value
    (place / "model.json").write_text(json.dumps(card))
    return predicting(root, place)


def with_weights(root: Path, change: Callable[[bytes], bytes]) -> list[str]:
    file = model(root) / "weights.safetensors"
    file.write_bytes(change(file.read_bytes()))
    return predicting(root, file.parent)


def flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def foreign_weights(root: Path, times: float | None = None) -> list[str]:
    """Sound weights of another net, or those of this net times a number; and no checksum."""
    place = model(root)
    card = json.loads((place / "model.json").read_text())
    (place / "model.json").write_text(json.dumps(card | {"versions": []}))
    weights = {"x": torch.ones(3)}
    if times is not None:
        own = safetensors.torch.load_file(place / "weights.safetensors")
        weights = {k: v * times for k, v in own.items()}
    safetensors.torch.save_file(weights, place / "weights.safetensors")
    return predicting(root, place)


class Bomb:
    """Leaves a trace when unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("unpickled",))


def zipped(root: Path, name: str = "model.zip", **members: bytes) -> Path:
    """A zip of a model, some of whose files are replaced or added."""
    place = model(root)
    files = {f.name: f.read_bytes() for f in place.iterdir()} | {
        key.replace("UP", "../").replace("_", "."): value for key, value in members.items()
    }
    with zipfile.ZipFile(root / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in files.items():
            archive.writestr(key, value)
    return root / name


def lying_zip(root: Path) -> Path:
    """A zip of zeros that says it is small."""
    path = zipped(root, **{"weights_safetensors": bytes(64 * 2**20)})
    data = path.read_bytes()
    path.write_bytes(data.replace((64 * 2**20).to_bytes(4, "little"), (999).to_bytes(4, "little")))
    return path


def two_masks(root: Path) -> list[str]:
    save(root / "images/a.png", picture())
    save(root / "masks/a.png", disk())
    return ["train", str(root / "images"), str(root / "masks"), "--out", str(root / "model"), *TINY]


def lonely(root: Path) -> list[str]:
    arguments = two_masks(root)
    save(root / "images/b.png", picture())
    return arguments


def twins(root: Path) -> list[str]:
    arguments = two_masks(root)
    save(root / "images/a.bmp", picture())
    return arguments


def twin_masks(root: Path) -> list[str]:
    arguments = two_masks(root)
    save(root / "masks/a.bmp", disk())
    return arguments


def twins_to_predict(root: Path) -> list[str]:
    twins(root)
    return predicting(root, image=root / "images")


def empty_folder(root: Path) -> list[str]:
    arguments = two_masks(root)
    (root / "images/a.png").unlink()
    return arguments


def cut(root: Path, name: str, keep: float = 0.6) -> list[str]:
    import tifffile

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (64, 64)).astype(np.uint8)
    path = root / name
    tifffile.imwrite(path, noise) if name.endswith("tif") else save(path, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    return ["train", str(path), str(save(root / "mask.png", disk(64))), "--out", "model", *TINY]


def photograph(root: Path) -> list[str]:
    rng = np.random.default_rng(0)
    return pair(root, mask=rng.integers(0, 255, (32, 32, 3)).astype(np.uint8))


def grey_jpeg(root: Path) -> list[str]:
    arguments = pair(root)
    grey = np.repeat(np.arange(8, dtype=np.uint8) * 30, 32 * 4).reshape(32, 32)
    arguments[2] = str(save(root / "mask.jpg", grey, quality=60))
    return arguments


def strewn(values: int) -> np.ndarray:
    return (np.arange(32 * 32) % values).reshape(32, 32).astype(np.uint16)


def rare_class() -> np.ndarray:
    mask = disk(96)
    mask[2:8, 2:8] = 2
    return mask


def rare_class_in_one_of(root: Path) -> list[str]:
    for n in range(6):
        save(root / f"images/{n}.png", picture(64))
        mask = disk(64)
        mask[:4, :4] = 2 if n == 3 else 0
        save(root / f"masks/{n}.png", mask)
    return ["train", str(root / "images"), str(root / "masks"), "--out", str(root / "model"), *TINY]


def nan_image() -> np.ndarray:
    image = picture().astype(np.float32)
    image[3:9, 4:20] = np.nan
    image[20, 20] = np.inf
    return image


def stack(root: Path, *more: str) -> list[str]:
    image = save(root / "image.npy", np.stack([picture(32)] * 20))
    mask = save(root / "mask.npy", np.stack([disk(32)] * 20))
    return ["train", str(image), str(mask), "--out", str(root / "model"), *TINY, *more]


def in_the_way(root: Path) -> list[str]:
    save(root / "masks/image.tif", picture())
    return predicting(root)


def onto_itself(root: Path) -> list[str]:
    image = save(root / "masks/image.tif", picture())
    return [*predicting(root, image=image), "--overwrite"]


def onto_something(root: Path, name: str) -> list[str]:
    arguments = pair(root)
    save(root / "precious/data.png", picture())
    shutil.make_archive(str(root / "precious"), "zip", root / "precious")
    arguments[4] = str(root / name)
    return arguments


def evaluating(root: Path) -> list[str]:
    a, b = save(root / "a.png", disk(32)), save(root / "b.png", disk(40))
    return ["evaluate", str(a), str(b)]


def importing(root: Path, name: str) -> list[str]:
    return ["models", "import", str(model(root)), "--name", name]


def resuming(root: Path, data: bytes) -> list[str]:
    (root / "state").write_bytes(data)
    return [*pair(root), "--checkpoint", str(root / "state")]


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("napari_unet.atomic.os.fsync", fsync)


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the system's refusal is played."""

    def mkdir(path: Path, *_args: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.mkdir", mkdir)


# ---- the table


@dataclass(frozen=True)
class Case:
    """How bad input is made, and the sentence that answers it; none where it has to work."""

    name: str
    make: Callable[[Path], list[str]]
    sentence: str = ""
    before: Callable[[pytest.MonkeyPatch], None] | None = None  # changes the machine


CASES = [
    # files and folders
    Case(
        "missing image",
        lambda root: ["train", str(root / "no.png"), *pair(root)[2:]],
        r"no\.png does not exist: check the name",
    ),
    Case(
        "missing folder",
        lambda root: [*two_masks(root)[:2], str(root / "nowhere"), "--out", "model"],
        r"nowhere does not exist: check the name",
    ),
    Case("empty folder", empty_folder, r"images holds no images: give a folder with .*\.tif"),
    Case("no matching mask", lonely, r"No mask is named like b\.png: give each mask the name of"),
    Case("two images of one name", twins, r"a\.bmp and .*a\.png are images of the same name; ren"),
    Case("two masks of one name", twin_masks, r"a\.bmp and .*a\.png are masks of the same name: k"),
    Case(
        "two images of one name to predict",
        twins_to_predict,
        r"a\.bmp and .*a\.png are images of the same name; rename one",
    ),
    Case(
        "truncated TIFF", lambda root: cut(root, "a.tif"), r"a\.tif cannot be read, .* fresh copy"
    ),
    Case("truncated PNG", lambda root: cut(root, "a.png"), r"a\.png cannot be read, .* fresh copy"),
    Case(
        "empty file", lambda root: cut(root, "a.png", 0), r"a\.png is not an image .*: save it as"
    ),
    # masks
    Case(
        "image and mask of different shape",
        lambda root: pair(root, mask=disk(40)),
        r"The mask of 'image' has shape \(40, 40\) but its image has \(32, 32\); give a mask made",
    ),
    Case(
        "empty mask",
        lambda root: pair(root, mask=0 * disk()),
        r"masks hold no class, all of them is background \(0 is background\); paint at least one",
    ),
    Case(
        "all unlabelled",
        lambda root: [*pair(root, mask=0 * disk()), "--sparse"],
        r"Nothing is labelled in any of the masks; paint some pixels of each class",
    ),
    Case(
        "all unlabelled, open-ended",
        lambda root: [*pair(root, mask=0 * disk())[:5], "--sparse"],
        r"Nothing is labelled in any of the masks; paint some",
    ),
    Case(
        "float labels",
        lambda root: pair(root, mask=disk() * 0.5, suffix="npy"),
        r"mask\.npy holds float64 numbers that are not whole: round them",
    ),
    Case(
        "negative labels",
        lambda root: pair(root, mask=-1 * disk().astype(np.int16), suffix="npy"),
        r"mask\.npy holds negative labels: give a mask of 0 and above",
    ),
    Case("photograph as mask", photograph, r"mask\.png has \d+ colours and looks like a photograp"),
    Case("JPEG as mask", grey_jpeg, r"mask\.jpg is a JPEG, which changes .*: save the mask as PNG"),
    Case(
        "300 classes",
        lambda root: [*pair(root, mask=strewn(300), suffix="npy"), "--classes", "a,b"],
        r"The masks hold 300 different values, up to 299; at most 254 classes are possible: say",
    ),
    Case(
        "300 classes as strokes",
        lambda root: [*pair(root, mask=strewn(300), suffix="npy"), "--sparse"],
        r"A sparse mask holds the value 299; give 0 for not labelled, 1\.\.254 for classes and 255",
    ),
    Case("300 values are objects", lambda root: pair(root, mask=strewn(300), suffix="npy")),
    Case(
        "too few names",
        lambda root: [*pair(root, mask=strewn(4), suffix="npy"), "--classes", "a,b"],
        r"2 class name\(s\) were given but the masks hold 3 classes .*; name them all",
    ),
    Case(
        "class in one block only",
        lambda root: pair(root, picture(96), rare_class()),
    ),
    Case("class in one image only", rare_class_in_one_of),
    # images
    Case("NaN in an image", lambda root: pair(root, image=nan_image(), suffix="npy")),
    Case("constant image", lambda root: pair(root, image=np.full((32, 32), 7, np.uint8))),
    Case(
        "1-pixel image",
        lambda root: pair(root, image=np.full((1, 1), 7, np.uint8), mask=np.ones((1, 1), np.uint8)),
    ),
    Case(
        "huge numbers",
        lambda root: pair(root, image=picture() * np.float64(1e300), suffix="npy"),
    ),
    Case(
        "complex image",
        lambda root: pair(root, image=picture() * 1j, suffix="npy"),
        r"image\.npy does not hold real numbers: give an array of integers or floats",
    ),
    Case(
        "ambiguous axes",
        stack,
        r"image\.npy has the shape \(20, 32, 32\), which can be read in more .*: give its axes",
    ),
    Case("ambiguous axes, given", lambda root: stack(root, "--axes", "ZYX")),
    Case(
        "wrong axes",
        lambda root: stack(root, "--axes", "QYX"),
        r"image\.npy cannot have the axes QYX: use each of the letters T, C, Z, Y, X at most once",
    ),
    # options
    Case(
        "negative seconds",
        lambda root: [*pair(root), "--seconds", "-3"],
        r"--seconds -3\.0: input should be greater than 0",
    ),
    Case(
        "seconds in words",
        lambda root: [*pair(root), "--seconds", "ten"],
        r"argument --seconds: invalid float value: 'ten'; 'napari-unet train --help' lists",
    ),
    Case("no command", lambda root: [], r"required: COMMAND; 'napari-unet --help' lists"),
    Case(
        "demo of negative length",
        lambda root: ["demo", "--headless", "--seconds", "-1"],
        r"--seconds -1\.0: input should be greater than 0",
    ),
    Case(
        "demo on top of something",
        lambda root: ["demo", "--headless", "--out", pair(root)[1]],
        r"image\.png exists and is not a demo's folder; give another with --out",
    ),
    Case(
        "unknown device",
        lambda root: [*pair(root), "--device", "abacus"],
        r"There is no device 'abacus'; give auto, cpu, cuda, cuda:1 or mps",
    ),
    Case(
        "device that is not there",
        lambda root: [*pair(root), "--device", "cuda:77"],
        r"Device 'cuda:77' cannot be used: .+\.",
    ),
    Case(
        "nonsense mapping",
        lambda root: [*pair(root), "--map", "nonsense"],
        r"--map nonsense: give pairs such as 0=0,255=1",
    ),
    Case(
        "mapping to class 900",
        lambda root: [*pair(root), "--map", "0=0,1=900"],
        r"--map 0=0,1=900: classes are 1\.\.254 and 0 is background; give such",
    ),
    Case(
        "mapping without all values",
        lambda root: [*pair(root), "--map", "0=0,7=1"],
        r"A mask holds the value 1, which is mapped to no class; add it to the mapping",
    ),
    Case(
        "mapping of strokes",
        lambda root: [*pair(root), "--map", "0=0,1=1", "--sparse"],
        r"Values of sparse masks are classes already, .*; leave the mapping .* out, or give compl",
    ),
    Case(
        "empty class name",
        lambda root: [*pair(root), "--classes", "a,,b"],
        r"--classes a,,b: a name is empty; give names",
    ),
    Case(
        "no such start",
        lambda root: [*pair(root), "--init", "nobody"],
        r"There is no model at nobody and none of that name .*; 'napari-unet models list' shows",
    ),
    Case(
        "start of another kind",
        lambda root: [*pair(root), "--init", str(model(root, channels=3, name="rgb"))],
        r"Model 'tiny' reads 3 channel\(s\) in 2-D, these images are 1 channel\(s\) .*; start from",
    ),
    Case(
        "pickle as checkpoint",
        lambda root: resuming(root, pickle.dumps(Bomb())),
        r"state is no checkpoint of training; give another file",
    ),
    Case(
        "foreign checkpoint",
        lambda root: resuming(
            root,
            safetensors.torch.save({"state": torch.tensor([*b'{"for": 1}'], dtype=torch.uint8)}),
        ),
        r"state is a checkpoint of another network, first model, device or number format; "
        r"give another file",
    ),
    Case(
        "checkpoint of nothing",
        lambda root: resuming(root, safetensors.torch.save({"x": torch.ones(1)}, {"state": "[]"})),
        r"state is no checkpoint of training; give another file",
    ),
    # models
    Case(
        "no such model",
        lambda root: predicting(root, root / "nowhere"),
        r"There is no model at .*nowhere and none of that name in the library; 'napari-unet models",
    ),
    Case(
        "name with path tricks",
        lambda root: predicting(root, "../../../etc"),
        r"There is no model at \.\./\.\./\.\./etc and none of that name in the library; ",
    ),
    Case(
        "name too long for any file",
        lambda root: predicting(root, "x" * 5000),
        r"There is no model at x+ and none of that name in the library; ",
    ),
    Case(
        "folder that is no model",
        lambda root: predicting(root, save(root / "images/a.png", picture()).parent),
        r"images is no model: it has no model\.json; give a folder that 'train' wrote",
    ),
    Case(
        "truncated weights",
        lambda root: with_weights(root, lambda data: data[: len(data) // 2]),
        r"model has weights that are truncated or not in safetensors format; .* get the model aga",
    ),
    Case(
        "one bit flipped in the weights",
        lambda root: with_weights(root, flip),
        r"model has weights that do not match its card; copy the model again",
    ),
    Case(
        "weights of something else",
        foreign_weights,
        r"model has weights that do not fit the net on its card; get the model again",
    ),
    Case(
        "weights that are not finite",
        lambda root: foreign_weights(root, np.nan),
        r"model has weights that are not finite numbers; get the model again",
    ),
    Case(
        "weights alone",
        lambda root: predicting(root, model(root) / "weights.safetensors"),
        r"weights\.safetensors is neither a model folder nor a sound zip of one; .*: give what 'tr",
    ),
    Case(
        "weights that are a pickle",
        lambda root: with_weights(root, lambda _data: pickle.dumps(Bomb())),
        r"model has weights that are truncated or not .*; pickled models are never opened: get",
    ),
    Case(
        "weights that are gone",
        lambda root: predicting(root, _without(model(root), "weights.safetensors")),
        r"weights\.safetensors is missing or unreadable; copy the whole model folder again",
    ),
    Case(
        "weights far too large",
        lambda root: with_weights(root, lambda data: data + bytes(2**21)),
        r"weights\.safetensors is too large for the net on its card; do not trust it",
    ),
    Case(
        "pickle as a file",
        lambda root: predicting(root, _file(root / "model.pt", pickle.dumps(Bomb()))),
        r"model\.pt is neither a model folder nor a sound zip .*; pickled models are never opened",
    ),
    Case(
        "pickle renamed to a zip",
        lambda root: predicting(root, _file(root / "model.zip", pickle.dumps(Bomb()))),
        r"model\.zip is neither a model folder nor a sound zip .*; pickled models are never opened",
    ),
    Case(
        "pickle of PyTorch, which is a zip",
        lambda root: predicting(root, _torch_file(root / "model.zip")),
        r"model\.zip is no model: it holds 0 files model\.json .*; pickled models are never opened",
    ),
    Case(
        "zip that climbs out of its folder",
        lambda root: predicting(root, zipped(root, UPUPevil=b"x")),
        r"model\.zip holds a file that would climb out of its folder \('\.\./\.\./evil'\); do not",
    ),
    Case(
        "zip with weights far too large",
        lambda root: predicting(root, zipped(root, weights_safetensors=bytes(2**22))),
        r"model\.zip holds a weights\.safetensors too large to be one; do not trust it",
    ),
    Case(
        "zip that lies about its size",
        lambda root: predicting(root, lying_zip(root)),
        r"model\.zip is neither a model folder nor a sound zip of one; ",
    ),
    Case(
        "zip cut short",
        lambda root: predicting(root, _file(root / "cut.zip", zipped(root).read_bytes()[:-200])),
        r"cut\.zip is neither a model folder nor a sound zip of one; ",
    ),
    Case(
        "card that is not JSON",
        lambda root: predicting(root, _file(model(root) / "model.json", b"{oops").parent),
        r"model has a model\.json that is not JSON; get the model again",
    ),
    Case(
        "card of 100 MB",
        lambda root: predicting(root, _sparse_file(model(root) / "model.json", 10**8).parent),
        r"model\.json is too large to be a model card; the model is damaged or not ours",
    ),
    Case(
        "card of a later format",
        lambda root: with_card(root, format=99),
        r"model was written by a newer napari-unet \(format 99\); update napari-unet",
    ),
    Case(
        "card of a net that no machine holds",
        lambda root: with_card(root, width=512, depth=8),
        r"model has weights that do not fit the net on its card; get the model again",
    ),
    Case(
        "card with a width beyond all bounds",
        lambda root: with_card(root, width=10**9),
        r"model has a damaged or foreign model\.json \(net\.width: .*\); get the model again",
    ),
    Case(
        "card with other classes than its net",
        lambda root: with_card(root, n_classes=5),
        r"model names 1 classes but its net has 5; the model is damaged, get it again",
    ),
    Case(
        "wrong number of channels",
        lambda root: predicting(root, model(root, channels=3)),
        r"image\.png has 1 channel\(s\) but model 'tiny' reads 3; choose the channels",
    ),
    Case(
        "plane for a model of volumes",
        lambda root: predicting(root, model(root, ndim=3)),
        r"image\.png is a plane \(32, 32\) but model 'tiny' reads volumes; give a stack",
    ),
    Case(
        "name in the library that climbs",
        lambda root: importing(root, "../evil"),
        r"'\.\./evil' cannot be a name in the library; give one of letters",
    ),
    Case("name of dots", lambda root: importing(root, ".."), r"'\.\.' cannot be a name in the lib"),
    Case("hidden name", lambda root: importing(root, ".a"), r"'\.a' cannot be a name in the libr"),
    # results
    Case(
        "mask that exists",
        in_the_way,
        r"image\.tif exists already; give --overwrite or another folder",
    ),
    Case(
        "mask in place of its image", onto_itself, r"image\.tif is the image itself; give another"
    ),
    Case(
        "model on top of a folder",
        lambda root: onto_something(root, "precious"),
        r"precious exists and is no model; choose another place for the model",
    ),
    Case(
        "model on top of a zip",
        lambda root: onto_something(root, "precious.zip"),
        r"precious\.zip exists and is no model; choose another place",
    ),
    Case(
        "model inside a file",
        lambda root: onto_something(root, "image.png/model"),
        r"(image\.png/.*could not be written: part of its path is a file|image\.png.*File exists)",
    ),
    Case(
        "read-only folder", pair, r"could not be written: permission is missing: choose", read_only
    ),
    Case("full disk", pair, r"could not be written: the disk is full: free some space", full_disk),
    Case(
        "full disk while predicting",
        lambda root: predicting(root),
        r"image\.tif could not be written: the disk is full: free some space",
        full_disk,
    ),
    Case(
        "scores of different shapes",
        evaluating,
        r"a\.png has shape \(32, 32\) but .*b\.png has \(40, 40\); give masks of one image",
    ),
]


def _without(folder: Path, name: str) -> Path:
    (folder / name).unlink()
    return folder


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _sparse_file(path: Path, size: int) -> Path:
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def _torch_file(path: Path) -> Path:
    torch.save({"weights": torch.ones(3)}, path)
    return path


def test_the_table_is_long_and_no_case_is_there_twice():
    names = [case.name for case in CASES]

    assert len(names) >= 30
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(case, tmp_path, monkeypatch, capfd):
    arguments = case.make(tmp_path)
    capfd.readouterr()

    with monkeypatch.context() as patch:
        if case.before:
            case.before(patch)
        status = main(arguments)

    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert not Path("unpickled").exists()
    if case.sentence:
        assert status == 2
        assert said.count("\n") == 1, said
        assert said.startswith("napari-unet: ")
        assert re.search(case.sentence, said), said
    else:
        assert status == 0, said
        assert all(torch.isfinite(w).all() for w in load_model(tmp_path / "model").weights.values())


@pytest.mark.parametrize("name", ["no such model", "missing image"])
def test_a_process_of_its_own_says_the_same(name, tmp_path):
    case = next(case for case in CASES if case.name == name)
    arguments = case.make(tmp_path)

    done = subprocess.run(
        [sys.executable, "-m", "napari_unet.cli", *arguments], capture_output=True, text=True
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert re.search(case.sentence, done.stderr)


# ---- what has to work, looked at more closely


@pytest.mark.parametrize(
    "image",
    [nan_image(), np.full((32, 32), 7.0), np.full((1, 1), 7), np.full((32, 32), np.nan)],
    ids=["NaN", "constant", "1 pixel", "nothing but NaN"],
)
def test_odd_images_are_predicted_with_finite_probabilities(image, tmp_path):
    labels, probabilities = predict(
        load_model(model(tmp_path)), image, probabilities=True, precision="float32"
    )

    assert labels.shape == image.shape
    assert np.isfinite(probabilities).all()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_a_class_in_one_block_only_is_never_held_out():
    training_set = TrainingSet(class_table(2))
    training_set.add("rare", picture(512)[None], np.pad(rare_class(), (0, 416)), complete=True)
    holdout = HoldOut(0.2, (8, 8), seed=0)

    holdout.update(training_set.items)

    roles = holdout.roles["rare"]
    assert (roles == HELD).any(), "something else is held out"
    assert roles[training_set.items[0].counts[2] > 0] == TRAIN


def test_a_class_in_one_image_only_is_never_held_out():
    training_set = TrainingSet(class_table(2))
    for n in range(8):
        mask = disk(64)
        mask[:4, :4] = 2 if n == 3 else 0
        training_set.add(f"{n}", picture(64)[None], mask, complete=True)
    holdout = HoldOut(0.25, (8, 8), seed=0)

    holdout.update(training_set.items)

    assert holdout.held(training_set.items)
    assert (holdout.roles["3"] == TRAIN).all()


# ---- the same from Python


@pytest.mark.parametrize(
    ("images", "masks", "options", "sentence"),
    [
        ([], [], {}, "There is no image to train on; give at least one"),
        ([picture()], [], {}, "1 images were given with 0 masks; give one mask for each"),
        (picture(), disk(40), {}, r"The mask of 'image 1' has shape \(40, 40\) but"),
        (picture(), disk() * 0.5, {}, "The mask of image 1 holds float64 numbers that are not who"),
        (
            picture(),
            np.where(disk(), np.inf, 0),
            {},
            "The mask of image 1 holds float64 numbers that are not ",
        ),
        (picture(), -1 * disk().astype(int), {}, "The mask of image 1 holds negative labels: give"),
        (picture(), np.full((32, 32), "a"), {}, "The mask of image 1 holds <U1 numbers that are"),
        (picture(), 0 * disk(), {}, "The masks hold no class, all of them is background"),
        (picture(), 0 * disk(), {"sparse": True}, "Nothing is labelled in any of the masks"),
        (picture(), disk(), {"seconds": -3}, r"seconds -3: input should be greater than 0"),
        (picture(), disk(), {"arch": "resnet"}, "arch resnet: input should be 'compact'"),
        (picture(), disk(), {"widht": 8}, "widht 8: extra inputs are not permitted"),
        (picture(), disk(), {"device": "abacus"}, "There is no device 'abacus'; give"),
        (picture(), disk(), {"init": "starter"}, "No starter weights come with this version; use"),
        (picture(), disk(), {"classes": ["c"] * 300}, "300 classes were asked for; give between"),
        ([picture(), np.zeros((32, 32, 3))], [disk()] * 2, {}, "has 3 channels but the others"),
        ("no.png", disk(), {}, "no.png does not exist: check the name"),
        (np.array([picture(), None], object)[1:], disk(), {}, "give an array of integers or float"),
    ],
)
def test_bad_arguments_of_train(images, masks, options, sentence):
    with pytest.raises(BadInput, match=sentence):
        train(images, masks, **{"steps": 1, "width": 4, "depth": 2} | options)


@pytest.mark.parametrize(
    ("image", "options", "sentence"),
    [
        (
            picture()[:, :, None] * np.ones(3),
            {},
            r"Image 'image' has 3 channel\(s\) but model 'tiny'",
        ),
        (np.zeros((0, 5)), {}, "image is empty, its shape is"),
        (np.zeros(5), {}, "give an array of 2 to 5 axes"),
        (picture(), {"tile": 3}, "tile 3: input should be greater than or equal to 16"),
        (picture(), {"axes": "YQ"}, "image cannot have the axes YQ: use each of the letters"),
    ],
)
def test_bad_arguments_of_predict(image, options, sentence, tmp_path):
    with pytest.raises(BadInput, match=sentence):
        predict(load_model(model(tmp_path)), image, **options)
