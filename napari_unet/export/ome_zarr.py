"""OME-Zarr 0.4, the version most programs read: levels, colours and names, written in a stream."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.atomic import atomic_folder
from napari_unet.export.content import Content, bands, rgb
from napari_unet.export.labels import Label, labels_of
from napari_unet.export.pyramid import level_count, level_shape
from napari_unet.run import BadInput
from napari_unet.units import PIXEL

_CHUNK = 1024
_CREATOR = "napari-unet"
_KINDS = {"C": "channel", "T": "time"}


def write_zarr(path: Path, content: Content, overwrite: bool) -> None:
    """Write a multiscale image, of labels if it holds labels."""
    import zarr

    levels = level_count(content.shape)
    _refuse_others(path)
    with atomic_folder(path, overwrite) as temporary:
        group = zarr.open_group(str(temporary), mode="w", zarr_format=2)
        data = content.data
        for level in range(levels):
            shape = level_shape(content.shape, level)
            data = _write_level(group, str(level), shape, content.dtype, data)
        group.attrs["_creator"] = {"name": _CREATOR}
        group.attrs["multiscales"] = [_multiscale(content, path, levels)]
        if content.dtype.kind == "u":
            group.attrs["image-label"] = _image_label(labels_of(content))


def _refuse_others(path: Path) -> None:
    """A zarr is replaced whole, so it must be one of ours, and no image."""
    import zarr

    if not path.is_dir() or not any(path.iterdir()):
        return
    creator: object = None
    with suppress(Exception):  # of whatever else it is
        creator = zarr.open_group(str(path), mode="r").attrs.get("_creator")
    if creator != {"name": _CREATOR}:
        raise BadInput(f"{path} exists and was not written here: choose another name.")


def _write_level(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype, data: Any) -> Any:
    """Write one level, thinned from the level before it, and give it back to go on from."""
    array = group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(1,) * (len(shape) - 2) + tuple(min(n, _CHUNK) for n in shape[-2:]),
        chunk_key_encoding={"name": "v2", "separator": "/"},
        config={"write_empty_chunks": True},  # readers can tell background from lost chunks
    )
    step = 1 if tuple(data.shape) == shape else 2
    for where, band in bands(data, step * _CHUNK):
        rows = slice(where[-1].start // step, where[-1].start // step + -(-band.shape[0] // step))
        array[(*where[:-1], rows)] = band[::step, ::step].astype(dtype)
    return array


def _multiscale(content: Content, path: Path, levels: int) -> dict[str, Any]:
    axes = [{"name": a.lower(), "type": _KINDS.get(a, "space")} for a in content.axes]
    if content.unit != PIXEL:
        axes = [a | {"unit": content.unit} if a["type"] == "space" else a for a in axes]
    return {
        "version": "0.4",
        "name": path.stem,
        "axes": axes,
        "datasets": [_dataset(content, level) for level in range(levels)],
    }


def _dataset(content: Content, level: int) -> dict[str, Any]:
    sizes = dict(zip(content.space, content.steps, strict=True))
    scale = [sizes.get(a, 1.0) * (2**level if a in "YX" else 1) for a in content.axes]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [float(s) for s in scale]}]
    if content.image and content.image.offset:  # of all levels: each keeps the first pixel
        moves = dict(zip(content.space, content.image.offset, strict=True))
        along = [moves.get(a, 0.0) for a in content.axes]
        steps.append({"type": "translation", "translation": along})
    return {"path": str(level), "coordinateTransformations": steps}


def _image_label(labels: list[Label]) -> dict[str, Any]:
    return {
        "version": "0.4",
        "colors": [{"label-value": b.number, "rgba": [*rgb(b.color), 255]} for b in labels],
        "properties": [
            {"label-value": b.number, "name": b.name} | ({"class": b.of.name} if b.of else {})
            for b in labels
        ],
    }
