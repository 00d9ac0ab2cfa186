"""A folder of images and masks as nnU-Net takes it to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.atomic import atomic_folder
from napari_unet.config import BACKGROUND, UNLABELLED, SegClass, class_table
from napari_unet.export.content import Content, make_content
from napari_unet.export.nifti import LONGEST, write_nifti, write_nifti_image
from napari_unet.io import Image, plain_name, read_image
from napari_unet.masks import fitted, read_mask
from napari_unet.run import BadInput

_ENDING = ".nii.gz"

Pair = tuple[Image | str | Path, Any]


def export_nnunet(
    folder: str | Path,
    pairs: Iterable[Pair],
    classes: Sequence[str | SegClass],
    sparse: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write images with their masks, arrays or paths, as a dataset of nnU-Net.

    With `sparse` the masks are strokes, 0 for not labelled and 255 for background: what is not
    labelled becomes nnU-Net's "ignore". Time points become cases of their own.
    """
    folder, channels, cases = Path(folder), set(), set()
    table = class_table(classes)
    _refuse_names([item.name for item in table])
    _refuse_others(folder)
    with atomic_folder(folder, overwrite) as temporary:
        for name in ("imagesTr", "labelsTr"):
            (temporary / name).mkdir()
        for image, mask in pairs:
            for case, one, labels in _cases(image, mask):
                if case in cases:
                    raise BadInput(f"Two images are called {case}: rename one of them.")
                cases.add(case)
                _refuse_long(one.spatial_shape, case)
                channels.add(one.n_channels)
                meant = _meant(labels, len(table), sparse, case)
                _write_case(temporary, case, one, meant, table)
        if len(channels) != 1:
            raise BadInput(
                f"{folder} would hold images of {sorted(channels)} channels: "
                "give one image or more, all with as many channels."
            )
        text = json.dumps(_dataset(channels.pop(), table, sparse, len(cases)), indent=1)
        (temporary / "dataset.json").write_text(text, encoding="utf-8")
    return folder


def _refuse_names(names: list[str]) -> None:
    """A description gives each name one number, and two of the names are nnU-Net's own."""
    for name in names:
        if name in ("background", "ignore"):
            raise BadInput(f"A class is called {name}, which nnU-Net keeps for itself: rename it.")
        if names.count(name) > 1:
            raise BadInput(f"{names.count(name)} classes are called {name}: rename all but one.")


def _refuse_others(folder: Path) -> None:
    """A folder is replaced whole, so nothing else may lie in it."""
    names = {item.name for item in folder.iterdir()} if folder.is_dir() else set()
    if others := sorted(names - {"dataset.json", "imagesTr", "labelsTr"}):
        raise BadInput(
            f"{folder} holds {others[0]}, which is no part of what would replace it: give another "
            "folder."
        )


def _cases(image: Image | str | Path, mask: Any) -> Iterator[tuple[str, Image, np.ndarray]]:
    """Name, image and mask of each time point."""
    one = image if isinstance(image, Image) else read_image(image)
    is_file = isinstance(mask, str | Path)
    labels = read_mask(mask, affine=one.affine) if is_file else np.asarray(mask)
    if labels.dtype.kind not in "biu":
        raise BadInput(f"The mask of {one.name} holds {labels.dtype}: give an integer mask.")
    labels = labels.astype(np.uint8) if labels.dtype.kind == "b" else labels
    labels = fitted(labels, one.spatial_shape)
    if labels.shape != one.spatial_shape:
        raise BadInput(
            f"The mask of {one.name} has the shape {labels.shape}, the image "
            f"{one.spatial_shape}: give the mask of this image."
        )
    name = plain_name(one.name).replace(" ", "_")
    if "T" not in one.axes:
        yield name, one, labels
        return
    for t in range(len(labels)):
        now = replace(one, data=one.data[:, t], axes=one.axes.replace("T", ""))
        yield f"{name}_t{t:04d}", now, labels[t]


def _refuse_long(shape: tuple[int, ...], case: str) -> None:
    if max(shape) > LONGEST:
        raise BadInput(
            f"{case} has {max(shape)} pixels along an axis, NIfTI ends at {LONGEST}: cut the image "
            "and its mask into parts."
        )


def _meant(labels: np.ndarray, n: int, sparse: bool, case: str) -> np.ndarray:
    """The numbers nnU-Net uses: 0 is background, the one after the last class is ignored."""
    table = np.arange(256)
    if sparse:
        table[UNLABELLED], table[BACKGROUND] = n + 1, 0
    found = table[labels] if int(labels.max(initial=0)) < len(table) else labels
    if int(found.max(initial=0)) > n + sparse:
        raise BadInput(
            f"The mask of {case} holds the number {int(labels.max())}, but there are {n} classes: "
            "give the names of all of them."
        )
    return found.astype(np.uint8)


def _write_case(
    folder: Path, case: str, image: Image, labels: np.ndarray, classes: tuple[SegClass, ...]
) -> None:
    path = folder / "labelsTr" / f"{case}{_ENDING}"
    content: Content = make_content(path, labels, image, classes, None)
    write_nifti(path, content, overwrite=False)
    for channel in range(image.n_channels):
        pixels = np.asarray(image.data[channel])
        to = folder / "imagesTr" / f"{case}_{channel:04d}{_ENDING}"
        write_nifti_image(to, pixels, content)


def _dataset(
    channels: int, classes: tuple[SegClass, ...], sparse: bool, cases: int
) -> dict[str, Any]:
    labels = {"background": 0} | {item.name: i for i, item in enumerate(classes, 1)}
    return {
        "channel_names": {str(i): f"channel {i}" for i in range(channels)},
        "labels": labels | ({"ignore": len(classes) + 1} if sparse else {}),
        "numTraining": cases,
        "file_ending": _ENDING,
    }
