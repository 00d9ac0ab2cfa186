"""What lies in DICOM: series in the order in which their slices lie, frames of a file, pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.formats.planes import Plane, in_order, matrix_of, read_frame, telling
from napari_unet.formats.raw import Raw, head, is_large, lazy_array, placed
from napari_unet.formats.slides import check_tile, read_slide
from napari_unet.optional import optional
from napari_unet.progress import count
from napari_unet.run import BadInput

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"

_SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_PIXELS = 10**9  # of one slice
_BYTES_OF_FRAME = 8  # at least, in a file
_LISTED = 3
_OTHERS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".npy", ".json", ".txt", ".csv")
_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsStored",
    "PixelRepresentation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "FrameTime",
    "SpacingBetweenSlices",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, whatever it is called."""
    with suppress(OSError):  # one that may not be read is none for whoever only looks around
        return path.is_file() and head(path, 132)[128:] == b"DICM"
    return False


def is_series(folder: Path) -> bool:
    """Whether DICOM files lie in a folder itself; they may be called anything but a picture."""
    likely = (file for file in _files(folder) if not file.name.lower().endswith(_OTHERS))
    return any(is_dicom(file) for file in likely)


def is_one_file(path: Path, planes: int) -> bool:
    """Whether an image of so many planes is one file of frames, as far as a quick look can tell."""
    if path.is_dir():
        return len(_files(path)) < planes
    with telling(path):
        header = _header(path)
    return header is not None and int(header.get("NumberOfFrames") or 1) > 1


def series_files(path: Path) -> list[Path]:
    """The files of the series at a path, a folder or one of its files, in the order of the planes.

    File k holds plane k of the array; of a time series, all planes of the first time come first.
    A file of many frames is the only one.
    """
    with telling(path):
        planes, _ = _planes_of(_chosen(path)[0], path)
    return list(dict.fromkeys(plane.file for plane in planes))


def images_in(folder: Path) -> list[Path]:
    """A path for each image among the DICOM files of a folder: itself if it is one series."""
    with telling(folder):
        every = _series_in(folder)
    return [folder] if len(every) == 1 else sorted(min(f for f, _ in one) for one in every)


def one_of_each(paths: Iterable[Path]) -> list[Path]:
    """The paths without further files of a series that one of them stands for."""
    kept: list[Path] = []
    series: set[Path] = set()
    for path in paths:
        if path.resolve() in series:
            continue
        kept.append(path)
        if is_dicom(path):
            with suppress(BadInput):  # what is wrong is told when it is read
                series |= {file.resolve() for file in series_files(path)}
    return kept


def read_dicom(path: Path, as_mask: bool = False) -> Raw:
    """Read the series in a folder, or that of a file; of several in a folder, the largest."""
    with telling(path):
        return _read(path, as_mask)


def _read(path: Path, as_mask: bool) -> Raw:
    series, note = _chosen(path)
    header = series[0][1]
    if header.SOPClassUID == WHOLE_SLIDE:
        check_tile(max(h.Rows * h.Columns for _, h in series))
        return read_slide(series[0][0])  # with its siblings, which hold the other levels
    planes, times = _planes_of(series, path)
    _check_readable(header, planes)
    invert = not as_mask and header.get("PhotometricInterpretation") == "MONOCHROME1"
    stored = _Stored(planes, header, invert)
    data = lazy_array(stored, path) if is_large(stored.shape, stored.dtype) else stored[:]
    return _with_axes(data, planes, times, note)


def _with_axes(data: Any, planes: Sequence[Plane], times: int, note: str) -> Raw:
    """The array with its axes named and, if it is known where the slices lie, with its matrix."""
    colors = "S" if data.ndim == 4 else ""
    first = planes[0]
    if first.is_placed:
        axes, depth = "ZYX", len(planes) // times
        if times > 1:
            axes, data = "TZYX", data.reshape((times, depth, *data.shape[1:]))
        return placed(Raw(data, axes + colors, note=note), matrix_of(planes[:depth]))
    axes = "TYX" if len(planes) > 1 else "YX"
    spacing = dict(zip("YX", first.spacing or (), strict=False))
    unit = "millimeter" if spacing else "pixel"
    return Raw(data if len(planes) > 1 else data[0], axes + colors, spacing, unit, note=note)


# ---- which files


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if not f.name.startswith("."))


def _headers(files: Sequence[Path]) -> Iterator[tuple[Path, Any]]:
    """The files that are images, and what they say of themselves."""
    for file in files:
        with telling(file):
            header = _header(file)
        if header is not None:
            yield file, header


def _header(file: Path) -> Any:
    """What the file of an image says of itself, without pixels; None if it holds none."""
    pydicom = optional("pydicom", f"{file} is DICOM and")
    meta = pydicom.filereader.read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") == _DEFLATED:  # unpacked as a whole, to any size
        raise BadInput(f"{file} is DICOM that is deflated: save it without, and read that.")
    header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
    if header.get("Rows") and header.get("Columns") and "SOPClassUID" in header:
        return header
    if "Image Storage" in getattr(meta.get("MediaStorageSOPClassUID"), "name", ""):
        raise ValueError("it ends before its pixels")
    return None


def _series_in(folder: Path) -> list[list[tuple[Path, Any]]]:
    """The images among the DICOM files of a folder, the largest first."""
    series: dict[tuple[str, ...], dict[str, tuple[Path, Any]]] = {}
    for file, header in _headers([f for f in _files(folder) if is_dicom(f)]):
        if header.SOPClassUID in _SEGMENTATION:
            continue
        key: tuple[str, ...] = (str(header.get("SeriesInstanceUID")),)
        if not _is_part(header):
            key = (*key, str(header.get("SOPInstanceUID", file)))
        # A file that is there twice, under two names, counts once.
        series.setdefault(key, {})[str(header.get("SOPInstanceUID", file))] = (file, header)
    return sorted((list(s.values()) for s in series.values()), key=lambda s: -_weight(s))


def _is_part(header: Any) -> bool:
    """Whether a file is but a part of an image: a slice that lies somewhere, or part of a slide."""
    slide = header.SOPClassUID == WHOLE_SLIDE
    return slide or (
        "ImagePositionPatient" in header and int(header.get("NumberOfFrames") or 1) == 1
    )


def _weight(series: list[tuple[Path, Any]]) -> int:
    return sum(h.Rows * h.Columns * int(h.get("NumberOfFrames") or 1) for _, h in series)


def _chosen(path: Path) -> tuple[list[tuple[Path, Any]], str]:
    """The files of the image at a path, and what else lies in its folder."""
    if path.is_dir():
        every = _series_in(path)
        if not every:
            raise BadInput(f"{path} holds DICOM files but no images: give a folder with a series.")
        return every[0], _others(every)
    ((_, header),) = list(_headers([path])) or [(path, None)]
    if header is None or header.SOPClassUID in _SEGMENTATION:
        raise BadInput(f"{path} is DICOM but not an image: give a file of the series itself.")
    if not _is_part(header):
        return [(path, header)], ""
    return next(s for s in _series_in(path.parent) if _holds(s, header)), ""


def _holds(series: list[tuple[Path, Any]], header: Any) -> bool:
    return any(other.SOPInstanceUID == header.SOPInstanceUID for _, other in series)


def _others(every: list[list[tuple[Path, Any]]]) -> str:
    """A sentence about the series that are not read."""
    if len(every) == 1:
        return ""
    names = [f"{_name(s)}: {min(f.name for f, _ in s)}" for s in every[1 : _LISTED + 1]]
    more = f" and {len(every) - 1 - _LISTED} more" if len(every) - 1 > _LISTED else ""
    return (
        f"The folder holds {len(every)} series; the largest is read, {_name(every[0])}; for "
        f"another give one of its files ({'; '.join(names)}{more})."
    )


def _name(series: list[tuple[Path, Any]]) -> str:
    name = series[0][1].get("SeriesDescription") or "no name"
    return f"'{name}', {count(len(series), 'file')}"


# ---- where the slices lie


def _planes_of(series: list[tuple[Path, Any]], where: Path) -> tuple[list[Plane], int]:
    """The slices of an image in order, and how many there are at each place."""
    planes = [plane for file, header in series for plane in _frames(file, header)]
    if all(plane.is_placed for plane in planes):
        return in_order(planes, str(where) if where.is_dir() else f"The series of {where}")
    return planes, 1


def _frames(file: Path, header: Any) -> Iterator[Plane]:
    n = int(header.get("NumberOfFrames") or 1)
    if n < 1 or n * _BYTES_OF_FRAME > max(file.stat().st_size, _BYTES_OF_FRAME):
        raise ValueError(f"{file.name} claims {n} frames")
    each = header.get("PerFrameFunctionalGroupsSequence") or [None] * n
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    for frame in range(n):
        yield _plane(file, frame, header, [header, shared, each[frame]])


def _plane(file: Path, frame: int, header: Any, places: list[Any]) -> Plane:
    """One slice from what is said of it alone, of all frames or of the file."""

    def said(tag: str, sequence: str) -> Any:
        groups = [(p.get(sequence) or [p])[0] for p in places if p is not None]
        return next((g[tag].value for g in reversed(groups) if g.get(tag) is not None), None)

    spacing = said("PixelSpacing", "PixelMeasuresSequence") or header.get("ImagerPixelSpacing")
    position = said("ImagePositionPatient", "PlanePositionSequence")
    along = said("ImageOrientationPatient", "PlaneOrientationSequence")
    apart = said("SpacingBetweenSlices", "PixelMeasuresSequence")
    thickness = apart or said("SliceThickness", "PixelMeasuresSequence")
    times = (header.get("TemporalPositionIdentifier"), header.get("AcquisitionNumber"))
    slope = said("RescaleSlope", "PixelValueTransformationSequence")
    return Plane(
        file,
        frame,
        (int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel") or 1)),
        _numbers(spacing, 2),
        None if position is None else np.array(_numbers(position, 3)),
        None if along is None else np.array(_numbers(along, 6)).reshape(2, 3),
        abs(float(thickness or 0)) or 1.0,
        1.0 if slope is None else float(slope),
        float(said("RescaleIntercept", "PixelValueTransformationSequence") or 0),
        (*(int(t or 0) for t in times), int(header.get("InstanceNumber") or 0), frame),
    )


def _numbers(values: Any, n: int) -> Any:
    """So many numbers that make sense, or none at all."""
    if not values:
        return None
    found = tuple(float(v) for v in values)
    if len(found) != n or not np.isfinite(found).all() or (n == 2 and min(found) <= 0):
        raise ValueError(f"its geometry is {found}")
    return found


# ---- pixels


class _Stored:
    """The slices as one array that is read slice by slice, in the units of the scanner."""

    def __init__(self, planes: Sequence[Plane], header: Any, invert: bool) -> None:
        self._planes = planes
        self._top = int(header.get("BitsStored") or 16), bool(header.get("PixelRepresentation"))
        self._invert = invert
        first = read_frame(planes[0].file, planes[0].frame)
        self.dtype = _type(first.dtype, *self._top, planes)
        self.shape = (len(planes), *first.shape)
        self.chunks = (1, *first.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        chosen, *rest = key if isinstance(key, tuple) else (key,)
        if not isinstance(chosen, slice):
            return self._plane(self._planes[chosen])[tuple(rest)]
        return np.stack([self._plane(plane)[tuple(rest)] for plane in self._planes[chosen]])

    def _plane(self, plane: Plane) -> np.ndarray:
        values = read_frame(plane.file, plane.frame)
        if values.shape != self.shape[1:]:
            raise ValueError(f"{plane.file.name} has the shape {values.shape}")
        if self._invert:
            bits, signed = self._top
            values = values.dtype.type(-1 if signed else 2**bits - 1) - values
        if (plane.slope, plane.intercept) == (1, 0):
            return values.astype(self.dtype, copy=False)
        wide = np.int64 if self.dtype.kind in "iu" else np.float64
        return (values.astype(wide) * wide(plane.slope) + wide(plane.intercept)).astype(self.dtype)


def _type(stored: np.dtype, bits: int, signed: bool, planes: Sequence[Plane]) -> np.dtype:
    """The smallest type that holds what the scanner measured."""
    scales = {(plane.slope, plane.intercept) for plane in planes}
    if scales == {(1.0, 0.0)}:
        return stored
    if stored.kind == "f" or any(a != int(a) or b != int(b) for a, b in scales):
        return np.dtype(np.float32)
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    values = [int(a) * end + int(b) for a, b in scales for end in ends]
    types = (np.uint8, np.int16, np.uint16, np.int32, np.uint32)
    fits = (np.iinfo(t).min <= min(values) and max(values) <= np.iinfo(t).max for t in types)
    return next((np.dtype(t) for t, fit in zip(types, fits, strict=True) if fit), np.dtype("f8"))


def _check_readable(header: Any, planes: Sequence[Plane]) -> None:
    """Refuse slices of absurd size, and those packed in a way that nothing here can unpack."""
    from pydicom.pixels import get_decoder

    file, size = planes[0].file, planes[0].size
    if np.prod(size, dtype=float) > _MAX_PIXELS:
        raise BadInput(f"{file} claims {size[1]} x {size[0]} pixels, too many to load whole.")
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise BadInput(
            f"{file} has the colours of a palette, which are not read here: convert it to RGB."
        )
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    try:
        ready = get_decoder(syntax).is_available
    except NotImplementedError:
        ready = False
    if not ready:
        raise BadInput(
            f"{file} is compressed as {syntax.name}, which nothing installed here can unpack: "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg."
        )
