"""What lies in an npy or a zarr, and what OME-Zarr says about its axes and pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.axes import UNNAMED
from napari_unet.formats.raw import Raw, is_large, lazy_array, named_unit, positive, squeezed
from napari_unet.run import BadInput

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


def read_zarr(path: Path, as_mask: bool) -> Raw:
    """Open a zarr; of an OME-Zarr, the finest level."""
    import zarr

    node = zarr.open(str(path), mode="r")
    array, axes, scale, unit = _zarr_array(node, path)
    # Chunks of zeros may be absent, so a mask may have none at all; an image would be blank.
    if not as_mask and not _has_chunks(path / array.path):
        raise BadInput(f"{path} holds no pixels, all its chunks are missing: get a fresh copy.")
    spacing = positive(dict(zip(axes or "", scale, strict=False)))
    return squeezed(Raw(lazy_array(array, path), axes, spacing, unit))


def _zarr_array(node: Any, path: Path) -> tuple[Any, str | None, list[float], str]:
    """Find the full-resolution array of a zarr, its axes, its scale and its unit."""
    if hasattr(node, "shape"):
        return node, _dimension_names(node), [], "pixel"
    scales = _multiscales(node)
    if scales is not None:
        return _full_resolution(node, scales)
    arrays = sorted(name for name, _ in node.arrays())
    if len(arrays) == 1:
        return _zarr_array(node[arrays[0]], path)
    if "0" in node and _multiscales(node["0"]) is not None:  # as bioformats2raw lays them out
        return _zarr_array(node["0"], path)
    listed = ", ".join(arrays[:5]) or "none"
    raise BadInput(f"{path} is a group of several arrays or none ({listed}): give one of them.")


def _multiscales(node: Any) -> dict[str, Any] | None:
    if hasattr(node, "shape"):
        return None
    found = node.attrs.get("multiscales") or node.attrs.get("ome", {}).get("multiscales")
    return found[0] if found else None


def _full_resolution(node: Any, scales: dict[str, Any]) -> tuple[Any, str | None, list[float], str]:
    first = scales["datasets"][0]
    axes = [a if isinstance(a, dict) else {"name": a} for a in scales.get("axes", [])]
    steps = [t["scale"] for t in first.get("coordinateTransformations", []) if "scale" in t]
    units = [a["unit"] for a in axes if a.get("type") == "space" and "unit" in a]
    array = node[first["path"]]
    names = _letters([a["name"] for a in axes]) if axes else "TCZYX"  # as versions before 0.3 do
    return array, names, steps[0] if steps else [], named_unit(units[-1] if units else None)


def _dimension_names(array: Any) -> str | None:
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS")
    return _letters(names) if names else None


def _letters(names: Any) -> str:
    letters = (str(name).upper() for name in names)
    return "".join(a if a in tuple("TCZYX") else UNNAMED for a in letters)


def _has_chunks(path: Path) -> bool:
    return any(item.is_file() and item.name not in _ZARR_OTHER for item in path.rglob("*"))
