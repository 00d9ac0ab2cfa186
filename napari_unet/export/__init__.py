"""Masks and probabilities leave here as files other programs open, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.atomic import atomic_file, atomic_folder
from napari_unet.config import PALETTE, SegClass
from napari_unet.io import Image, read_image
from napari_unet.run import BadInput

_TILE = 256
_TILED_FROM = 2048 * 2048  # pixels; smaller files are read whole anyway
_BAND = 4  # tiles of height that are read at a time from a lazy array
_ZARR_CHUNK = 1024


@dataclass(frozen=True)
class Export:
    """What a writer needs to know: the array, lazy or not, its type, axes, pixel size, colours."""

    data: Any
    dtype: np.dtype
    axes: str
    spacing: tuple[float, ...] | None
    unit: str
    classes: tuple[SegClass, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.data.shape)


def export_labels(
    path: str | Path,
    mask: Any,
    like: Any = None,
    classes: tuple[SegClass, ...] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a mask, 0 for background, in the format its suffix names and the smallest type.

    Axes, pixel size and unit are those of the image `like`, itself or its path; a palette takes the
    class colours.
    """
    path = Path(path)
    writer = _writer(path, WRITERS)
    like = read_image(like) if isinstance(like, str | Path) else like
    mask = _array(mask)
    if mask.dtype.kind not in "biu":
        raise BadInput(f"{path} is to hold labels, not {mask.dtype}: give an integer mask.")
    axes = _spatial_axes(mask.shape, like, path)
    data = _export(mask, _smallest(mask, path), axes, like, classes)
    writer(path, data, overwrite)
    return path


def export_probabilities(
    path: str | Path, probabilities: Any, like: Any = None, overwrite: bool = False
) -> Path:
    """Write class probabilities, classes first, as float32; PNG cannot hold them."""
    path = Path(path)
    writer = _writer(path, {s: w for s, w in WRITERS.items() if s != ".png"})
    probabilities = _array(probabilities)
    axes = "C" + _spatial_axes(probabilities.shape[1:], like, path)
    writer(path, _export(probabilities, np.dtype(np.float32), axes, like, None), overwrite)
    return path


def _writer(path: Path, writers: dict[str, Writer]) -> Writer:
    name = path.name.lower()
    for suffix in sorted(writers, key=len, reverse=True):
        if name.endswith(suffix):
            return writers[suffix]
    raise BadInput(f"{path} is of no kind written here: end its name in {', '.join(writers)}.")


def _array(array: Any) -> Any:
    return array if hasattr(array, "dtype") and hasattr(array, "shape") else np.asarray(array)


def _export(
    data: Any, dtype: np.dtype, axes: str, like: Any, classes: tuple[SegClass, ...] | None
) -> Export:
    if isinstance(like, Image):
        return Export(data, dtype, axes, like.spacing, like.unit, classes or ())
    return Export(data, dtype, axes, None, "pixel", classes or ())


def _spatial_axes(shape: tuple[int, ...], like: Any, path: Path) -> str:
    if isinstance(like, Image):
        if tuple(shape) != like.spatial_shape:
            raise BadInput(
                f"{path} would have the shape {tuple(shape)}, but its image {like.name} has "
                f"{like.spatial_shape}: give the image the mask was made from."
            )
        return like.axes[1:]
    if not 2 <= len(shape) <= 4 or 0 in shape:
        raise BadInput(f"{path} cannot hold the shape {tuple(shape)}: give 2 to 4 spatial axes.")
    return "TZYX"[-len(shape) :]


def _smallest(mask: Any, path: Path) -> np.dtype:
    low, high = int(_bound(mask, "min")), int(_bound(mask, "max"))
    if low < 0 or high > np.iinfo(np.uint32).max:
        raise BadInput(f"{path} cannot hold the labels {low} to {high}: number them 0 to 2^32-1.")
    return next(np.dtype(t) for t in (np.uint8, np.uint16, np.uint32) if high <= np.iinfo(t).max)


def _bound(mask: Any, which: str) -> Any:
    reduce = getattr(np, which)
    if isinstance(mask, np.ndarray):
        return reduce(mask)
    return reduce([reduce(band) for _, band in _bands(mask)])


def _bands(data: Any, height: int = _BAND * _TILE) -> Iterator[tuple[tuple[Any, ...], np.ndarray]]:
    """Read an array a band of rows at a time, so that memory stays flat."""
    for outer in np.ndindex(tuple(data.shape[:-2])):
        for top in range(0, data.shape[-2], height):
            where = (*outer, slice(top, top + height))
            yield where, np.asarray(data[where])


# ---- writers


def _write_tiff(path: Path, export: Export, overwrite: bool) -> None:
    _write_tif(path, export, overwrite, {"axes": export.axes}, ome=False)


def _write_ome_tiff(path: Path, export: Export, overwrite: bool) -> None:
    metadata: dict[str, Any] = {"axes": export.axes}
    for axis, size in zip(_space(export), export.spacing or (), strict=False):
        if export.unit != "pixel":
            metadata[f"PhysicalSize{axis}"] = size
            metadata[f"PhysicalSize{axis}Unit"] = _ome_unit(export.unit)
    _write_tif(path, export, overwrite, metadata, ome=True)


def _write_tif(
    path: Path, export: Export, overwrite: bool, metadata: dict[str, Any], ome: bool
) -> None:
    import tifffile

    large = export.shape[-1] * export.shape[-2] > _TILED_FROM
    with atomic_file(path, overwrite) as temporary:
        tifffile.imwrite(
            temporary,
            _tiles(export) if large else np.asarray(export.data).astype(export.dtype),
            shape=export.shape,
            dtype=export.dtype,
            tile=(_TILE, _TILE) if large else None,
            bigtiff=np.prod(export.shape, dtype=float) * export.dtype.itemsize > 2**31,
            compression="zlib",
            photometric="minisblack",
            metadata=metadata,
            ome=ome,
        )


def _tiles(export: Export) -> Iterator[np.ndarray]:
    for _, band in _bands(export.data):
        for top in range(0, band.shape[0], _TILE):
            for left in range(0, band.shape[1], _TILE):
                tile = band[top : top + _TILE, left : left + _TILE].astype(export.dtype)
                rest = [(0, _TILE - n) for n in tile.shape]
                yield np.pad(tile, rest)


def _write_png(path: Path, export: Export, overwrite: bool) -> None:
    from PIL import Image as Pillow

    if len(export.shape) != 2:
        raise BadInput(f"{path} cannot hold a stack, PNG is flat: choose .tif, .npy or .zarr.")
    if export.dtype.itemsize > 2:
        raise BadInput(f"{path} cannot hold labels above 65535: choose .tif, .npy or .zarr.")
    picture = Pillow.fromarray(np.asarray(export.data).astype(export.dtype))
    if export.dtype == np.uint8:
        picture.putpalette(_palette(export.classes))
    with atomic_file(path, overwrite) as temporary:
        picture.save(temporary, format="PNG")


def _palette(classes: tuple[SegClass, ...]) -> bytes:
    """Black, the colours of the classes, and for what has no class colours that go round."""
    colors = [item.color for item in classes]
    colors += [PALETTE[i % len(PALETTE)] for i in range(len(colors), 255)]
    return bytes(3) + b"".join(bytes.fromhex(color[1:]) for color in colors[:255])


def _write_npy(path: Path, export: Export, overwrite: bool) -> None:
    kind = np.lib.format.dtype_to_descr(export.dtype)
    header = {"descr": kind, "fortran_order": False, "shape": export.shape}
    # Not a memory map: on a full disk, writing to one kills the process.
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, band in _bands(export.data):
            file.write(np.ascontiguousarray(band, export.dtype).tobytes())


def _write_zarr(path: Path, export: Export, overwrite: bool) -> None:
    """Write OME-Zarr 0.4, the version most programs read, with one level."""
    import zarr

    chunks = (1,) * (len(export.shape) - 2) + tuple(min(n, _ZARR_CHUNK) for n in export.shape[-2:])
    with atomic_folder(path, overwrite) as temporary:
        group = zarr.open_group(str(temporary), mode="w", zarr_format=2)
        array = group.create_array(
            "0",
            shape=export.shape,
            dtype=export.dtype,
            chunks=chunks,
            chunk_key_encoding={"name": "v2", "separator": "/"},
            config={"write_empty_chunks": True},  # readers can tell background from lost chunks
        )
        for where, band in _bands(export.data, _ZARR_CHUNK):
            array[where] = band.astype(export.dtype)
        group.attrs["multiscales"] = [_multiscale(export, path)]


def _multiscale(export: Export, path: Path) -> dict[str, Any]:
    kinds = {"C": "channel", "T": "time"}
    axes = [{"name": a.lower(), "type": kinds.get(a, "space")} for a in export.axes]
    if export.unit != "pixel":
        axes = [a | {"unit": export.unit} if a["type"] == "space" else a for a in axes]
    sizes = dict(zip(_space(export), export.spacing or (), strict=False))
    scale = [float(sizes.get(a, 1.0)) for a in export.axes]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {"version": "0.4", "name": path.stem, "axes": axes, "datasets": [level]}


def _space(export: Export) -> str:
    return "".join(a for a in export.axes if a in "ZYX")


def _ome_unit(unit: str) -> str:
    return {"micrometer": "\u00b5m", "nanometer": "nm", "millimeter": "mm"}.get(unit, unit)


Writer = Callable[[Path, Export, bool], None]
WRITERS: dict[str, Writer] = {
    ".ome.tif": _write_ome_tiff,
    ".ome.tiff": _write_ome_tiff,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".png": _write_png,
    ".npy": _write_npy,
    ".zarr": _write_zarr,
}
