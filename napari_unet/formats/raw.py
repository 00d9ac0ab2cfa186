"""An array as it lies in a file: with its axes, whole or lazy, its damage told in a sentence."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.run import BadInput

LAZY_BYTES = 256 * 2**20

_MAX_BYTES = 2**43  # no file on a user's disk; a header that claims more is broken or hostile
_CHUNK = "4MiB"  # so small that one patch of a large image is read quickly
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
    offset: dict[str, float] = field(default_factory=dict)  # see io.Image
    affine: tuple[tuple[float, ...], ...] | None = None  # see io.Affine
    coarser: tuple[Any, ...] = ()  # the same, each level of a pyramid smaller
    note: str = ""  # a sentence the user should read, such as what else lies there


def lazy_array(array: Any, where: str | Path) -> Any:
    """Wrap a stored array in dask: only what is looked at is read."""
    return lazy(Stored(array, where))


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


class _Quiet:
    """Keep warnings off the terminal, such as those about metadata, for as long as anybody reads.

    Their filters are global, and others put whole lists of them back at any time: ours is one more
    in the list, which is taken out where it was put and where it was copied to.
    """

    _ALL = "(?s:.*)"

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._lists: list[Any] = []

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                warnings.filterwarnings("ignore", message=self._ALL)
                self._lists = [warnings.filters]

    def __exit__(self, *_about: object) -> None:
        with self._lock:
            self._inside -= 1
            for filters in () if self._inside else (*self._lists, warnings.filters):
                mine = [f for f in filters if getattr(f[1], "pattern", None) == self._ALL]
                for item in mine:
                    filters.remove(item)


quiet = _Quiet()


class Stored:
    """An array on disk whose damage is told in a sentence, even if it shows only when read."""

    def __init__(self, array: Any, where: str | Path, keeps: Any = None) -> None:
        self.shape, self.dtype, self.ndim = array.shape, np.dtype(array.dtype), len(array.shape)
        self.chunks = getattr(array, "chunks", None)
        self._array, self._where = array, where
        self._keeps = keeps  # what has to live as long, such as an open file

    def __getitem__(self, key: Any) -> np.ndarray:
        with reading(self._where):
            return np.asarray(self._array[key])


def lazy(stored: Stored) -> Any:
    """Wrap what is stored in dask, in chunks that follow its own."""
    from dask import array as da

    check_size(stored.shape, stored.dtype)
    chunks = da.core.normalize_chunks(
        "auto", stored.shape, limit=_CHUNK, dtype=stored.dtype, previous_chunks=stored.chunks
    )
    meta = np.empty((0,) * stored.ndim, stored.dtype)
    return da.from_array(stored, chunks, name=False, meta=meta)


def is_large(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether an array is to stay on disk and be read where it is looked at."""
    return n_bytes(shape, dtype) > LAZY_BYTES


def check_size(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse what no file holds, or no array should."""
    if 0 in shape or dtype.hasobject:
        raise ValueError(f"shape {shape}, dtype {dtype}")
    if n_bytes(shape, dtype) > _MAX_BYTES:
        raise ValueError(f"it claims the shape {shape}")


def n_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """How much memory an array takes."""
    size = dtype.itemsize
    for n in shape:
        size *= int(n)
    return size


def head(path: Path, n: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(n)


def positive(sizes: dict[str, Any]) -> dict[str, float]:
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


def placed(raw: Raw, matrix: np.ndarray) -> Raw:
    """The same with the matrix that says where it lies, in millimetres, and its pixel sizes."""
    lengths = np.linalg.norm(matrix[:-1, :-1], axis=0)
    if not (np.isfinite(matrix).all() and abs(np.linalg.det(matrix / lengths.max())) > 0):
        raise ValueError("its geometry makes no volume")
    spacing = dict(zip("ZYX"[-len(lengths) :], lengths.tolist(), strict=True))
    affine = tuple(map(tuple, matrix.tolist()))
    return replace(raw, spacing=spacing, unit="millimeter", affine=affine)


def squeezed(raw: Raw) -> Raw:
    """Drop axes of length 1 other than Y and X, which files carry for completeness."""
    axes = raw.axes
    if axes is None or len(axes) != len(raw.data.shape):
        return replace(raw, axes=None)
    kept = [i for i, a in enumerate(axes) if a in "YX" or raw.data.shape[i] != 1]
    part = tuple(slice(None) if i in kept else 0 for i in range(len(axes)))
    fitting = (level for level in raw.coarser if len(level.shape) == len(axes))
    coarser = tuple(level[part] for level in fitting)
    return replace(raw, data=raw.data[part], axes="".join(axes[i] for i in kept), coarser=coarser)
