"""What lies in NIfTI and NRRD, and where in the patient that lies."""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.formats.raw import Raw, check_size, is_large, lazy_array, n_bytes, placed, positive
from napari_unet.optional import optional
from napari_unet.run import BadInput
from napari_unet.units import PIXEL, factor, full_name

NIFTI = (".nii", ".nii.gz")
NRRD = (".nrrd", ".nhdr")
NRRD_MAGIC = b"NRRD"

_NIFTI_BYTES = 540  # of the longer kind of header
_CIFTI = range(3000, 3100)  # intents of what is no image: matrices of how parts of a brain connect
_FAR = 2**26  # bytes: before that pixels begin, whatever lies between a header and them
_WHOLE_BYTES = 4 * 2**30  # of what is compressed as one piece, and so has to be unpacked as one
_SQUEEZE = 1032  # times: smaller than that, deflate makes nothing
_HEADER = 2**26  # bytes in which an NRRD header ends; one that names 200,000 objects does
_PART = 2**20  # of it that is read at a time
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_RAS = (-1, -1, 1)
_SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": _RAS,
    "ras": _RAS,
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_DOMAIN = ("domain", "space")


def turned(matrix: np.ndarray, signs: tuple[int, ...]) -> np.ndarray:
    """A matrix between x, y, z as one between z, y, x, with signs changed; it is exact."""
    signed = matrix.copy()
    signed[:3] *= np.array(signs, float)[:, None]
    order = [2, 1, 0, 3]
    return signed[order][:, order]


# ---- NIfTI


def read_nifti(path: Path) -> Raw:
    """Read a NIfTI; a large one that is not compressed stays on disk."""
    nibabel = optional("nibabel", f"{path} is NIfTI and")
    try:
        with _quiet(nibabel.imageglobals.logger):
            header = nifti_header(nibabel, path)
            proxy = nibabel.arrayproxy.ArrayProxy(str(path), header)
    except (
        nibabel.spatialimages.HeaderDataError,
        nibabel.wrapstruct.WrapStructError,
    ) as error:
        raise ValueError(str(error)) from error
    stored, packed = _Turned(proxy), _is_packed(path)
    check_size(stored.shape, stored.dtype)
    if proxy.offset > _FAR:
        raise ValueError(f"its header claims that pixels begin at byte {proxy.offset}")
    n, size = n_bytes(proxy.shape, proxy.dtype), path.stat().st_size
    _check_holds(n, size * (_SQUEEZE if packed else 1) - int(proxy.offset))
    if packed:
        _check_unpacks(path, n)
    data: Any = stored
    if is_large(stored.shape, stored.dtype) and not packed:
        data = lazy_array(stored, path)
    axes = "CTZYX"[-len(proxy.shape) :] + ("S" if stored.colors else "")
    raw = Raw(np.asarray(data) if data is stored else data, axes)
    return _nifti_placed(_without_ones(raw), header)


def nifti_header(nibabel: Any, path: Path) -> Any:
    """The header alone: extensions of it may be of any size, and nothing here needs them."""
    with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
        start = file.read(_NIFTI_BYTES)
    if nibabel.Nifti1Header.may_contain_header(start):
        return nibabel.Nifti1Header(start[: nibabel.Nifti1Header.sizeof_hdr])
    if nibabel.Nifti2Header.may_contain_header(start):
        header = nibabel.Nifti2Header(start)
        if int(header["intent_code"]) not in _CIFTI:
            return header
    raise ValueError("it is no NIfTI")


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep off the terminal what nibabel only logs, such as what it mends in a header."""
    handlers, logger.handlers = logger.handlers, [logging.NullHandler()]
    try:
        yield
    finally:
        logger.handlers = handlers


def _nifti_placed(raw: Raw, header: Any) -> Raw:
    unit = full_name(header.get_xyzt_units()[0])
    scale = 1.0 if unit == PIXEL else factor(unit, "millimeter")  # as others take it
    matrix = turned(np.asarray(header.get_best_affine(), float), _RAS)
    if scale != 1:
        matrix[:3] *= scale
    if len(header.get_data_shape()) > 2 and _is_sound(matrix):
        return placed(raw, matrix)
    zooms = dict(zip("XYZ", (float(z) * scale for z in header.get_zooms()), strict=False))
    return Raw(raw.data, raw.axes, positive(zooms), "millimeter")


def _is_sound(matrix: np.ndarray) -> bool:
    return bool(np.isfinite(matrix).all()) and abs(float(np.linalg.det(matrix[:-1, :-1]))) > 0


def _without_ones(raw: Raw) -> Raw:
    """Time and channels of length 1 are not there; a single slice has its place and stays."""
    assert raw.axes is not None
    kept = [i for i, a in enumerate(raw.axes) if a not in "CT" or raw.data.shape[i] != 1]
    shape = tuple(raw.data.shape[i] for i in kept)
    return Raw(raw.data.reshape(shape), "".join(raw.axes[i] for i in kept))


class _Turned:
    """What nibabel reads with x first, as an array with x last."""

    def __init__(self, proxy: Any) -> None:
        self._proxy = proxy
        self.colors = len(proxy.dtype.fields or ())
        ends = (self.colors,) if self.colors else ()
        shape = tuple(int(n) for n in proxy.shape)
        self.shape = (*shape[::-1], *ends)
        self.chunks = (*(1,) * (len(shape) - 2), *shape[1::-1], *ends)
        self._scaled = (proxy.slope, proxy.inter) != (1, 0)
        self.dtype = np.dtype(np.uint8) if self.colors else proxy.dtype
        if self._scaled:
            self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: Any) -> np.ndarray:
        n = len(self._proxy.shape)
        values = self._seen(self._proxy[key[:n][::-1]])
        return values[(..., *key[n:])]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._seen(np.asanyarray(self._proxy))

    def _seen(self, values: np.ndarray) -> np.ndarray:
        values = values.T
        if self.colors:
            values = np.ascontiguousarray(values)[..., None].view(np.uint8)
        return np.ascontiguousarray(values, self.dtype)


def _check_holds(n: int, room: int) -> None:
    """Refuse a file that cannot hold what its header claims."""
    if n > room:
        raise ValueError(f"its header claims {n} bytes of pixels, but there are {max(room, 0)}")


def _check_unpacks(path: Path, n: int) -> None:
    """Refuse what would have to be unpacked as a whole and is too much for that."""
    if n > _WHOLE_BYTES:
        raise BadInput(
            f"{path} is compressed as one piece and unpacks to {n / 2**30:.0f} GB: unpack it with "
            "another program, then it is read where it is looked at."
        )


# ---- NRRD


def read_nrrd(path: Path) -> Raw:
    """Read an NRRD, its pixels in the same file or in one beside it."""
    nrrd = optional("nrrd", f"{path} is NRRD and")
    text = _nrrd_header(path)
    try:
        header = nrrd.read_header(io.BytesIO(text))
        # What type that is, pynrrd tells by reading.
        plain = {"type": header["type"], "dimension": 1, "sizes": np.array([1]), "encoding": "raw"}
        about = plain | {k: header[k] for k in ("endian",) if k in header}
        dtype = nrrd.read_data(about, io.BytesIO(bytes(64))).dtype
    except nrrd.NRRDError as error:
        raise ValueError(str(error)) from error
    file = _data_file(path, header)
    shape = tuple(int(n) for n in header["sizes"][::-1])
    data = _nrrd_pixels(file, header, 0 if file != path else len(text), shape, dtype)
    return _nrrd_placed(data, header)


def _nrrd_header(path: Path) -> bytes:
    """All up to the first empty line, that included, or the whole file if there is none."""
    text = bytearray()
    with path.open("rb") as file:
        while part := file.read(_PART):
            seen = max(0, len(text) - 3)  # an empty line may lie across two parts
            text += part
            if end := _HEADER_END.search(text, seen):
                return bytes(text[: end.end()])
            if len(text) >= _HEADER:
                raise ValueError("its header has no end")
    return bytes(text)


def _data_file(path: Path, header: dict[str, Any]) -> Path:
    name = header.get("data file", header.get("datafile"))
    if name is None:
        return path
    beside = path.parent / Path(str(name)).name
    # Neither a list of files nor another place: a header may come from anyone.
    if str(name) != beside.name or "\\" in str(name) or not beside.is_file():
        raise BadInput(
            f"{path} has its pixels in '{str(name)[:80]}', which is no file beside it: "
            "put the two into one folder, or save it as one file (.nrrd)."
        )
    return beside


def _nrrd_pixels(
    file: Path, header: dict[str, Any], start: int, shape: tuple[int, ...], dtype: np.dtype
) -> Any:
    check_size(shape, dtype)
    n, size = n_bytes(shape, dtype), file.stat().st_size
    packing = str(header.get("encoding")).lower()
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    if int(header.get("line skip", header.get("lineskip", 0))) or skip < -1:
        raise ValueError("it skips lines")
    if packing == "raw":
        start = size - n if skip == -1 else start + skip
        _check_holds(n, size - start)
        mapped = np.memmap(file, dtype, "r", start, shape)
        return lazy_array(mapped, file) if is_large(shape, dtype) else np.array(mapped)
    if packing not in ("gzip", "gz", "bzip2", "bz2"):
        raise ValueError(f"it is written as {packing}")
    if packing[0] == "g":
        _check_holds(n, size * _SQUEEZE)
    _check_unpacks(file, n)
    unpacked = _unpacked(file, start, packing, max(skip, 0) + n)
    return np.frombuffer(unpacked[max(skip, 0) :], dtype).reshape(shape)


def _unpacked(file: Path, start: int, packing: str, n: int) -> bytes:
    """So many bytes of what is packed, and no more, whatever there is."""
    packed = file.read_bytes()[start:]
    if packing[0] == "b":
        return bz2.BZ2Decompressor().decompress(packed, n)
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, n)


def _nrrd_placed(data: Any, header: dict[str, Any]) -> Raw:
    """Name the axes, and say where they lie if the header does."""
    n = data.ndim
    directions = header.get("space directions")
    kinds = [str(kind).lower() for kind in header.get("kinds", ())]
    if directions is not None:
        spatial = [i for i in range(n) if directions[i] is not None]
        spatial = [i for i in spatial if np.isfinite(np.asarray(directions[i], float)).all()]
    elif len(kinds) == n:
        spatial = [i for i in range(n) if kinds[i] in _DOMAIN]
    else:
        spatial = list(range(n)) if n <= 3 and data.shape[-1] > 4 else []
    names = [str(name) for name in header.get("labels", ())]  # where ours say it: see export.nrrd
    letters = ["T" if "time" in (*kinds[i : i + 1], *names[i : i + 1]) else "C" for i in range(n)]
    for letter, i in zip("XYZ", spatial, strict=False):
        letters[i] = letter
    axes = "".join(reversed(letters)) if 2 <= len(spatial) <= 3 else None
    raw = Raw(data, axes)
    unit = _nrrd_unit(header, spatial)
    vectors = None if directions is None else np.array([directions[i] for i in spatial], float)
    signs = _SPACES.get(str(header.get("space", "")).lower())
    if vectors is not None and vectors.shape == (3, 3) and signs is not None and unit != PIXEL:
        matrix = np.eye(4)
        matrix[:3, :3] = vectors.T
        matrix[:3, 3] = header.get("space origin", np.zeros(3))
        if unit != "millimeter":
            matrix[:3] *= factor(unit, "millimeter")
        return placed(raw, turned(matrix, signs))
    return _nrrd_spaced(raw, header, spatial, vectors, unit)


def _nrrd_unit(header: dict[str, Any], spatial: list[int]) -> str:
    """The full name of the unit of lengths: millimetres, as others take it, if none is said."""
    said = [str(unit) for unit in header.get("space units", ())]
    if not said and "units" in header:
        said = [str(header["units"][i]) for i in spatial]
    return full_name(said[0]) if any(said) else "millimeter"


def _nrrd_spaced(
    raw: Raw, header: dict[str, Any], spatial: list[int], vectors: Any, unit: str
) -> Raw:
    """With pixel sizes, where there are no more than that."""
    if vectors is not None:
        sizes = np.linalg.norm(vectors, axis=1)
    elif "spacings" in header:
        sizes = np.asarray(header["spacings"], float)[spatial]
    else:
        return raw
    spacing = positive(dict(zip("XYZ", sizes.tolist(), strict=False)))
    return Raw(raw.data, raw.axes, spacing, unit if spacing else PIXEL)
