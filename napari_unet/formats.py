"""What lies in a PNG, JPEG, BMP, GIF, TIFF, npy or zarr, and what the file says about its axes."""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
import weakref
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.axes import UNNAMED
from napari_unet.run import BadInput

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".npy", ".zarr")
LAZY_BYTES = 256 * 2**20
MAX_PIXELS = 10**9

_MAX_BYTES = 2**43  # no file on a user's disk; a header that claims more is broken or hostile
_CHUNK = "4MiB"  # so small that one patch of a large image is read quickly
_PICTURES = ("PNG", "JPEG", "BMP", "DIB", "GIF")  # Pillow opens more, Ghostscript among them
_ANIMATED = ("PNG", "GIF")
_JPEG_IN_TIFF = (6, 7, 33007)
_ALPHA = (1, 2)
_PALETTE = 3
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ZARR_METADATA = (".zarray", ".zgroup", "zarr.json")
_ZARR_OTHER = (*_ZARR_METADATA, ".zattrs", ".zmetadata")
_MICROMETERS = ("um", "\u00b5m", "\u03bcm", "\\u00b5m", "\\u00B5m", "micron", "microns")
_CUT_SHORT = re.compile(r"invalid page offset|corrupt")
_PILLOW = threading.Lock()
# What decoders raise when fed damaged or hostile bytes; no user shall read it as a traceback.
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    MemoryError,
    EOFError,
    SyntaxError,
    ImportError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Raw:
    """An array as it lies in a file, with what the file says about it."""

    data: Any
    axes: str | None = None  # "?" is an axis the file has no name for; None if it names none
    spacing: dict[str, float] = field(default_factory=dict)
    unit: str = "pixel"
    lossy: bool = False
    affine: tuple[tuple[float, ...], ...] | None = None  # see io.Affine


def read_raw(path: Path, as_mask: bool = False) -> Raw:
    """Open a file by what it holds, not by its suffix; as a mask, palette images give indices."""
    if not path.exists():
        raise BadInput(f"{path} does not exist: check the name.")
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata; what matters is raised or checked here
        if path.is_dir():
            return _read_zarr(path, as_mask)
        magic = _head(path, 8)
        if magic.startswith(_TIFF_MAGIC):
            return _read_tiff(path, as_mask)
        if magic.startswith(b"\x93NUMPY"):
            return _read_npy(path)
        return _read_picture(path, as_mask)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any((path / name).is_file() for name in _ZARR_METADATA)


def lazy_array(array: Any, where: str | Path) -> Any:
    """Wrap a stored array in dask: only what is looked at is read."""
    return _dask(_Stored(array, where))


@contextmanager
def reading(where: str | Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one sentence."""
    try:
        yield
    except BadInput:
        raise
    except PermissionError as error:
        raise BadInput(f"{where} may not be read: ask for permission to read it.") from error
    except _DAMAGE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:120]
        raise BadInput(
            f"{where} cannot be read, it is damaged or not an image ({reason}): "
            "get a fresh copy or save it as TIFF or PNG."
        ) from error


class _Stored:
    """An array on disk whose damage is told in a sentence, even if it shows only when read."""

    def __init__(self, array: Any, where: str | Path) -> None:
        self.shape, self.dtype, self.ndim = array.shape, np.dtype(array.dtype), len(array.shape)
        self.chunks = getattr(array, "chunks", None)
        self._array, self._where = array, where

    def __getitem__(self, key: Any) -> np.ndarray:
        with reading(self._where):
            return np.asarray(self._array[key])


def _dask(stored: _Stored) -> Any:
    from dask import array as da

    _check_size(stored.shape, stored.dtype)
    chunks = da.core.normalize_chunks(
        "auto", stored.shape, limit=_CHUNK, dtype=stored.dtype, previous_chunks=stored.chunks
    )
    meta = np.empty((0,) * stored.ndim, stored.dtype)
    return da.from_array(stored, chunks, name=False, meta=meta)


def _check_size(shape: tuple[int, ...], dtype: np.dtype) -> None:
    if 0 in shape or dtype.hasobject:
        raise ValueError(f"shape {shape}, dtype {dtype}")
    if _bytes(shape, dtype) > _MAX_BYTES:
        raise ValueError(f"it claims the shape {shape}")


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    size = dtype.itemsize
    for n in shape:
        size *= int(n)
    return size


def _head(path: Path, n: int) -> bytes:
    with path.open("rb") as file:
        return file.read(n)


def _unit(name: Any) -> str:
    unit = str(name or "pixel").strip()
    return "micrometer" if unit in _MICROMETERS else unit


# ---- npy


def _read_npy(path: Path) -> Raw:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if mapped.nbytes > LAZY_BYTES:
        return Raw(lazy_array(mapped, path))
    return Raw(np.array(mapped))


# ---- PNG, JPEG, BMP, GIF


def _read_picture(path: Path, as_mask: bool) -> Raw:
    from PIL import Image, UnidentifiedImageError

    try:
        with _no_pixel_limit(), Image.open(path, formats=_PICTURES) as picture:
            _check_picture(picture, path)
            data = _deep_png(path) if _is_deep_png(path) else _pixels(picture, as_mask)
    except UnidentifiedImageError as error:
        raise BadInput(
            f"{path} is not an image of a kind read here: save it as TIFF, PNG, npy or zarr."
        ) from error
    return Raw(data, "YXS"[: data.ndim], lossy=picture.format in ("JPEG", "MPO"))


@contextmanager
def _no_pixel_limit() -> Iterator[None]:
    """Lift Pillow's own limit, which is global, while ours holds."""
    from PIL import Image

    with _PILLOW:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check_picture(picture: Any, path: Path) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise BadInput(
            f"{path} claims {width} x {height} pixels, too many to load whole: "
            "save it as a tiled TIFF or zarr."
        )
    frames = getattr(picture, "n_frames", 1)
    if picture.format in _ANIMATED and frames > 1:
        raise BadInput(
            f"{path} is an animation of {frames} frames: save it as a TIFF stack or one file each."
        )


def _pixels(picture: Any, as_mask: bool) -> np.ndarray:
    # EXIF orientation is not applied: a mask carries none and would no longer lie on its image.
    mode = picture.mode
    if mode in ("P", "PA"):
        return _indices(picture) if as_mask else _palette_colors(picture)
    if mode in ("LA", "La"):
        picture = picture.convert("L")
    elif mode not in ("1", "L", "I", "F", "RGB") and not mode.startswith("I;"):
        picture = picture.convert("RGB")
    return np.array(picture)


def _indices(picture: Any) -> np.ndarray:
    data = np.array(picture)
    return data if data.ndim == 2 else data[..., 0]


def _palette_colors(picture: Any) -> np.ndarray:
    colors = np.array(picture.convert("RGB"))
    return colors[..., 0] if bool((colors == colors[..., :1]).all()) else colors


def _is_deep_png(path: Path) -> bool:
    """Whether Pillow would cut 16 bits to 8, as it does with all PNGs but plain grey ones."""
    head = _head(path, 26)
    return head.startswith(b"\x89PNG") and len(head) == 26 and head[24] == 16 and head[25] != 0


def _deep_png(path: Path) -> np.ndarray:
    import imagecodecs

    data = imagecodecs.png_decode(path.read_bytes())
    colors = data.shape[-1] - (data.shape[-1] in (2, 4))
    return data[..., 0] if colors == 1 else data[..., :colors]


# ---- TIFF


class _Complaints(logging.Handler):
    """Keep what tifffile only logs, and keep it off the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())

    @contextmanager
    def heard(self) -> Iterator[None]:
        logger = logging.getLogger("tifffile")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)

    def check(self) -> None:
        for message in filter(_CUT_SHORT.search, self.messages):
            raise ValueError(message.replace("\n", " "))


def _read_tiff(path: Path, as_mask: bool) -> Raw:
    import tifffile

    complaints = _Complaints()
    with complaints.heard(), ExitStack() as stack:
        tiff = stack.enter_context(tifffile.TiffFile(path))
        series = tiff.series[0]  # further series are labels, thumbnails and overviews of slides
        page = series.keyframe
        _check_complete(series, tiff.filehandle.size)
        if _bytes(series.shape, series.dtype) > LAZY_BYTES:
            data = _lazy_series(series, path, stack)
        else:
            data = series.asarray()
        complaints.check()
        # Where white is 0 values stay as stored, as in other readers: a mask must not be inverted.
        data, axes = _colors_only(data, series.axes, page, as_mask)
        spacing, unit = _tiff_spacing(tiff, page)
    axes = "".join(a if a in "TCZYXS" else UNNAMED for a in axes)
    return _squeezed(Raw(data, axes, spacing, unit, int(page.compression) in _JPEG_IN_TIFF))


def _check_complete(series: Any, size: int) -> None:
    """Refuse a file that ends before its pixels do: it would open, and be empty at its end."""
    for page in (series.pages[0], series.pages[-1]):
        if page is None:
            continue
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if max(ends, default=0) > size:
            raise ValueError(f"it ends after {size} of {max(ends)} bytes")


def _lazy_series(series: Any, path: Path, stack: ExitStack) -> Any:
    """Wrap a series in dask, which keeps the file open for as long as it lives."""
    import zarr

    _check_size(series.shape, series.dtype)
    if series.dataoffset is not None:  # one uncompressed block, often a single strip: map it
        dtype = series.dtype.newbyteorder(series.keyframe.parent.byteorder)
        return lazy_array(np.memmap(path, dtype, "r", series.dataoffset, series.shape), path)
    stored = _Stored(zarr.open(series.aszarr(level=0), mode="r"), path)
    if stored.shape != tuple(series.shape):
        raise ValueError(f"shape {stored.shape} instead of {series.shape}")
    data = _dask(stored)
    weakref.finalize(stored, stack.pop_all().close)
    return data


def _colors_only(data: Any, axes: str, page: Any, as_mask: bool) -> tuple[Any, str]:
    """Drop alpha; look palette indices up in their palette unless they are the labels of a mask."""
    if "S" in axes and page.extrasamples and int(page.extrasamples[-1]) in _ALPHA:
        keep = [slice(None)] * data.ndim
        keep[axes.index("S")] = slice(0, -1)
        return data[tuple(keep)], axes
    if as_mask or int(page.photometric) != _PALETTE or page.colormap is None:
        return data, axes
    table = (page.colormap.T >> 8).astype(np.uint8)
    if bool((table == table[:, :1]).all()):
        return _looked_up(data, table[:, 0]), axes
    return _looked_up(data, table), axes + "S"


def _looked_up(data: Any, table: np.ndarray) -> Any:
    if isinstance(data, np.ndarray):
        return table[data]
    if table.ndim == 1:
        return data.map_blocks(table.__getitem__, dtype=table.dtype)
    chunks = (*data.chunks, (table.shape[1],))
    return data.map_blocks(table.__getitem__, dtype=table.dtype, chunks=chunks, new_axis=data.ndim)


def _tiff_spacing(tiff: Any, page: Any) -> tuple[dict[str, float], str]:
    # Dots per inch are left aside: they are about paper, and nearly always made up.
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_spacing(tiff.ome_metadata)
    if tiff.is_imagej and tiff.imagej_metadata:
        return _imagej_spacing(tiff.imagej_metadata, page)
    return {}, "pixel"


def _ome_spacing(xml: str) -> tuple[dict[str, float], str]:
    from xml.etree import ElementTree

    for pixels in ElementTree.fromstring(xml).iter():
        if pixels.tag.endswith("}Pixels"):
            sizes = {a: pixels.get(f"PhysicalSize{a}") for a in "ZYX"}
            unit = pixels.get("PhysicalSizeXUnit", "\u00b5m" if sizes["X"] else "pixel")
            return _positive(sizes), _unit(unit)
    return {}, "pixel"


def _imagej_spacing(metadata: dict[str, Any], page: Any) -> tuple[dict[str, float], str]:
    sizes: dict[str, Any] = {"Z": metadata.get("spacing")}
    if metadata.get("unit"):
        for axis, tag in (("Y", "YResolution"), ("X", "XResolution")):
            if tag in page.tags:
                pixels, length = page.tags[tag].value
                sizes[axis] = length / pixels if pixels else None
    return _positive(sizes), _unit(metadata.get("unit"))


def _positive(sizes: dict[str, Any]) -> dict[str, float]:
    """Keep the sizes that make sense."""
    known = {}
    for axis, size in sizes.items():
        try:
            value = float(size)
        except (TypeError, ValueError):
            continue
        if 0 < value < float("inf"):
            known[axis] = value
    return known


def _squeezed(raw: Raw) -> Raw:
    """Drop axes of length 1 other than Y and X, which files carry for completeness."""
    axes = raw.axes
    if axes is None or len(axes) != len(raw.data.shape):
        return replace(raw, axes=None)
    kept = [i for i, a in enumerate(axes) if a in "YX" or raw.data.shape[i] != 1]
    data = raw.data[tuple(slice(None) if i in kept else 0 for i in range(len(axes)))]
    return replace(raw, data=data, axes="".join(axes[i] for i in kept))


# ---- zarr


def _read_zarr(path: Path, as_mask: bool) -> Raw:
    import zarr

    if not is_zarr(path):
        raise BadInput(f"{path} is a folder, not an image: give a file or a zarr.")
    node = zarr.open(str(path), mode="r")
    array, axes, scale, unit = _zarr_array(node, path)
    # Chunks of zeros may be absent, so a mask may have none at all; an image would be blank.
    if not as_mask and not _has_chunks(path / array.path):
        raise BadInput(f"{path} holds no pixels, all its chunks are missing: get a fresh copy.")
    spacing = _positive(dict(zip(axes or "", scale, strict=False)))
    return _squeezed(Raw(lazy_array(array, path), axes, spacing, unit))


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
    return array, names, steps[0] if steps else [], _unit(units[-1] if units else None)


def _dimension_names(array: Any) -> str | None:
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS")
    return _letters(names) if names else None


def _letters(names: Any) -> str:
    letters = (str(name).upper() for name in names)
    return "".join(a if a in tuple("TCZYX") else UNNAMED for a in letters)


def _has_chunks(path: Path) -> bool:
    return any(item.is_file() and item.name not in _ZARR_OTHER for item in path.rglob("*"))
