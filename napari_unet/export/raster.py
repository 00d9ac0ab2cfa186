"""Masks and probabilities as pixels: TIFF and OME-TIFF, tiled and with smaller levels, PNG, npy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.atomic import atomic_file
from napari_unet.config import PALETTE, SegClass
from napari_unet.export.content import Content, bands, rgb
from napari_unet.export.pyramid import level_count, level_shape
from napari_unet.run import BadInput
from napari_unet.units import PIXEL, SYMBOLS, factor

_TILE = 256
_TILED_FROM = 2048 * 2048  # pixels of a plane; smaller files are read whole anyway


def write_tiff(path: Path, content: Content, overwrite: bool) -> None:
    """Write a TIFF that says its axes, its pixel size and the names of its classes."""
    metadata: dict[str, Any] = {"axes": content.axes}
    if content.classes and content.objects is None:
        metadata["classes"] = {str(i): c.name for i, c in enumerate(content.classes, 1)}
    _write_tif(path, content, overwrite, metadata, ome=False)


def write_ome_tiff(path: Path, content: Content, overwrite: bool) -> None:
    """Write an OME-TIFF with physical sizes, and the names of the classes as an annotation."""
    metadata: dict[str, Any] = {"axes": content.axes}
    if content.unit != PIXEL:
        for axis, size in zip(content.space, content.steps, strict=True):
            metadata[f"PhysicalSize{axis}"] = size
            metadata[f"PhysicalSize{axis}Unit"] = SYMBOLS[content.unit]
    if content.classes and content.objects is None:
        metadata["MapAnnotation"] = {
            "Namespace": "napari-unet/classes",
            **{str(i): item.name for i, item in enumerate(content.classes, 1)},
        }
    _write_tif(path, content, overwrite, metadata, ome=True)


def _write_tif(
    path: Path, content: Content, overwrite: bool, metadata: dict[str, Any], ome: bool
) -> None:
    import tifffile

    large = _is_large(content.shape)
    levels = (ome_levels if ome else tiff_levels)(content.shape)
    big = np.prod(content.shape, dtype=float) * content.dtype.itemsize > 2**31
    options: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack"}
    if large:
        options["tile"] = (_TILE, _TILE)
    with (
        atomic_file(path, overwrite) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=big, ome=ome) as tiff,
    ):
        for level in range(levels):
            first = {"subifds": levels - 1, "metadata": metadata}
            own: dict[str, Any] = {"subfiletype": 1} if level else first
            tiff.write(
                _tiles(content, level) if large else np.asarray(content.data, content.dtype),
                shape=level_shape(content.shape, level),
                dtype=content.dtype,
                **_resolution(content, level),
                **options,
                **own,
            )


def tiff_levels(shape: tuple[int, ...]) -> int:
    """How many levels a plain TIFF has, where those of a stack would pass for further stacks."""
    return ome_levels(shape) if len(shape) == 2 else 1


def ome_levels(shape: tuple[int, ...]) -> int:
    """How many levels an OME-TIFF has."""
    return level_count(shape) if _is_large(shape) else 1


def _is_large(shape: tuple[int, ...]) -> bool:
    return shape[-1] * shape[-2] > _TILED_FROM


def _tiles(content: Content, level: int) -> Iterator[np.ndarray]:
    """The tiles of a level, whose pixels are every so-many-eth of the mask."""
    step = 2**level
    data = content.data[..., ::step, ::step] if level else content.data
    for _, band in bands(data):
        for top in range(0, band.shape[0], _TILE):
            for left in range(0, band.shape[1], _TILE):
                tile = band[top : top + _TILE, left : left + _TILE].astype(content.dtype)
                yield np.pad(tile, [(0, _TILE - n) for n in tile.shape])


def _resolution(content: Content, level: int) -> dict[str, Any]:
    """Pixels per centimetre, the one way a plain TIFF has to say how large a pixel is."""
    if content.unit == PIXEL:
        return {}
    many = factor("centimeter", content.unit)
    y, x = (many / (step * 2**level) for step in content.steps[-2:])
    return {"resolution": (x, y), "resolutionunit": "CENTIMETER"}


def check_png(path: Path, content: Content) -> None:
    """Refuse what is not flat, and numbers that do not fit."""
    if content.planes != 1:
        raise BadInput(f"{path} cannot hold a stack, PNG is flat: choose .tif, .npy or .zarr.")
    if content.dtype.itemsize > 2:
        raise BadInput(f"{path} cannot hold labels above 65535: choose .tif, .npy or .zarr.")


def write_png(path: Path, content: Content, overwrite: bool) -> None:
    """Write a PNG, up to 255 labels in the colours of their classes."""
    from PIL import Image as Pillow

    plane = np.asarray(content.data).reshape(content.shape[-2:])
    picture = Pillow.fromarray(plane.astype(content.dtype))
    if content.dtype == np.uint8:
        picture.putpalette(_palette(content.classes if content.objects is None else ()))
    with atomic_file(path, overwrite) as temporary:
        picture.save(temporary, format="PNG")


def _palette(classes: tuple[SegClass, ...]) -> bytes:
    """Black, the colours of the classes, and for what has no class colours that go round."""
    colors = [item.color for item in classes]
    colors += [PALETTE[i % len(PALETTE)] for i in range(len(colors), 255)]
    return bytes(3) + b"".join(bytes(rgb(color)) for color in colors[:255])


def write_npy(path: Path, content: Content, overwrite: bool) -> None:
    """Write a NumPy file, a band of rows at a time."""
    kind = np.lib.format.dtype_to_descr(content.dtype)
    header = {"descr": kind, "fortran_order": False, "shape": content.shape}
    # Not a memory map: on a full disk, writing to one kills the process.
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, band in bands(content.data):
            file.write(np.ascontiguousarray(band, content.dtype).tobytes())
