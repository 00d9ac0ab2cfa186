"""What lies in an npy or a zarr, and what OME-Zarr says about its axes and pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.axes import UNNAMED
from napari_unet.formats.raw import Raw, is_large, lazy_array, positive, squeezed
from napari_unet.run import BadInput
from napari_unet.units import in_one_unit

_ZARR_METADATA = (".zarray", ".zgroup", "zarr.json")
_ZARR_OTHER = (*_ZARR_METADATA, ".zattrs", ".zmetadata")


def read_npy(path: Path) -> Raw:
    """Read an npy; a large one stays on disk."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if is_large(mapped.shape, mapped.dtype):
        return Raw(lazy_array(mapped, path))
    return Raw(np.array(mapped))


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any((path / name).is_file() for name in _ZARR_METADATA)


@dataclass(frozen=True)
class _Found:
    """The arrays of an image in a zarr, the finest first, and what is said of them."""

    levels: tuple[Any, ...]
    axes: str | None
    scale: Sequence[float] = ()
    offset: Sequence[float] = ()
    units: dict[str, str] = field(default_factory=dict)  # by axis
    note: str = ""


def read_zarr(path: Path, as_mask: bool) -> Raw:
    """Open a zarr; of an OME-Zarr, the finest level, and the coarser ones."""
    import zarr

    found = _in_zarr(zarr.open(str(path), mode="r"), path)
    first = found.levels[0]
    # Chunks of zeros may be absent, so a mask may have none at all; an image would be blank.
    if not as_mask and not _has_chunks(path / first.path):
        raise BadInput(f"{path} holds no pixels, all its chunks are missing: get a fresh copy.")
    sizes = positive(dict(zip(found.axes or "", found.scale, strict=False)))
    spacing, unit = in_one_unit({a: n for a, n in sizes.items() if a in "ZYX"}, found.units)
    moves = {a: n for a, n in zip(found.axes or "", found.offset, strict=False) if math.isfinite(n)}
    into = {a: n / sizes[a] for a, n in spacing.items()}  # that one unit
    offset = {a: moves[a] * times for a, times in into.items() if a in moves}
    data, *coarser = (lazy_array(level, path) for level in found.levels)
    levels = tuple(coarser)
    raw = Raw(data, found.axes, spacing, unit, coarser=levels, offset=offset, note=found.note)
    return squeezed(raw)


def _in_zarr(node: Any, path: Path) -> _Found:
    """Find the arrays of an image in a zarr."""
    if hasattr(node, "shape"):
        return _Found((node,), _dimension_names(node))
    scales = _multiscales(node)
    if scales is not None:
        return _levels(node, scales)
    _refuse_plate(node, path)
    arrays = sorted(name for name, _ in node.arrays())
    if len(arrays) == 1:
        return _in_zarr(node[arrays[0]], path)
    if "0" in node and _multiscales(node["0"]) is not None:  # as bioformats2raw lays them out
        return replace(_in_zarr(node["0"], path), note=_further(node, path))
    listed = ", ".join(arrays[:5]) or "none"
    raise BadInput(f"{path} is a group of several arrays or none ({listed}): give one of them.")


def _further(node: Any, path: Path) -> str:
    """What to say of the images beside the first."""
    numbers = sorted(int(name) for name in node.group_keys() if name.isdecimal())
    images = [n for n in numbers if str(n) in node and _multiscales(node[str(n)]) is not None]
    if len(images) < 2:
        return ""
    return (
        f"The file holds {len(images)} images, of which the first is read; "
        f"the next is {path / str(images[1])}."
    )


def _refuse_plate(node: Any, path: Path) -> None:
    """Many wells, or many fields of one, are many images: one of them has to be given."""
    ome = dict(node.attrs) | dict(node.attrs.get("ome") or {})
    for kind, parts in (("plate", "wells"), ("well", "images")):
        if kind in ome:
            inner = [str(part["path"]) for part in ome[kind][parts]]
            first = f"{inner[0]}/0" if kind == "plate" else inner[0]
            what = f"{len(inner)} {'wells' if kind == 'plate' else 'fields of a well'}"
            raise BadInput(f"{path} holds {what}: give one field, such as {path / first}.")


def _multiscales(node: Any) -> dict[str, Any] | None:
    if hasattr(node, "shape"):
        return None
    found = node.attrs.get("multiscales") or node.attrs.get("ome", {}).get("multiscales")
    return found[0] if found else None


def _levels(node: Any, scales: dict[str, Any]) -> _Found:
    axes = [a if isinstance(a, dict) else {"name": a} for a in scales.get("axes", [])]
    units = {str(a["name"]).upper(): a["unit"] for a in axes if "unit" in a}
    names = _letters([a["name"] for a in axes]) if axes else "TCZYX"  # as versions before 0.3 do
    scale, offset = _placed(scales["datasets"][0], scales)
    levels = tuple(node[level["path"]] for level in scales["datasets"])
    return _Found(levels, names, scale, offset, units)


def _placed(*parts: dict[str, Any]) -> tuple[list[float], list[float]]:
    """How far pixels are apart and where the first lies, as is said of a level and then of all."""
    scale: list[float] = []
    offset: list[float] = []
    for step in (t for part in parts for t in part.get("coordinateTransformations", [])):
        if "scale" in step:
            times = [float(s) for s in step["scale"]]
            scale = [a * b for a, b in zip(scale, times, strict=False)] if scale else times
            offset = [a * b for a, b in zip(offset, times, strict=False)]
        elif "translation" in step:
            move = [float(s) for s in step["translation"]]
            offset = [a + b for a, b in zip(offset, move, strict=False)] if offset else move
    return scale, offset


def _dimension_names(array: Any) -> str | None:
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS")
    return _letters(names) if names else None


def _letters(names: Any) -> str:
    letters = (str(name).upper() for name in names)
    return "".join(a if a in tuple("TCZYX") else UNNAMED for a in letters)


def _has_chunks(path: Path) -> bool:
    return any(item.is_file() and item.name not in _ZARR_OTHER for item in path.rglob("*"))
