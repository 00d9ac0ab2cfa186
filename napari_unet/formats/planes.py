"""Slices in space: put in order, made sure to be evenly apart, and the matrix that places them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.formats.raw import quiet, reading
from napari_unet.optional import optional
from napari_unet.run import BadInput

_SAME_PLACE = 1e-4  # millimetres
_SAME_ANGLE = 1e-3
_OFF = 0.05  # of the distance between two slices: how far one may lie from where it should


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice: where its pixels are stored, and where they lie in the patient, if that is said.

    The patient's frame is that of DICOM: x to the left, y to the back, z to the head.
    """

    file: Path
    frame: int
    size: tuple[int, ...]
    spacing: tuple[float, float] | None  # of rows, of columns
    position: Any = None  # of the centre of the first pixel: x, y, z
    along: Any = None  # directions of x, y, z in which columns and rows are counted: (2, 3)
    thickness: float = 1.0
    slope: float = 1.0
    intercept: float = 0.0
    order: tuple[Any, ...] = ()  # of slices at the same place, such as by time

    @property
    def is_placed(self) -> bool:
        return not (self.position is None or self.along is None or self.spacing is None)


@contextmanager
def telling(where: Path) -> Iterator[None]:
    """Turn what pydicom raises over damaged DICOM into one sentence, and its warnings into none."""
    errors = optional("pydicom.errors", f"{where} is DICOM and")
    with quiet, reading(where):
        try:
            yield
        except (errors.InvalidDicomError, errors.BytesLengthException) as error:
            raise ValueError(str(error)) from error


def read_frame(file: Path, frame: int) -> np.ndarray:
    """The pixels of one frame of a DICOM file, colours as red, green and blue."""
    from pydicom.pixels import pixel_array

    with telling(file):
        return np.asarray(pixel_array(file, index=frame))


def in_order(planes: Sequence[Plane], where: str) -> tuple[list[Plane], int]:
    """Placed slices by where they lie along their normal, and how many there are at each place.

    Of several at each place, such as of a time series, all of the first come first.
    """
    _check_alike(planes, where)
    normal = np.cross(*planes[0].along)
    heights = np.array([plane.position @ normal for plane in planes])
    by_height = sorted(range(len(planes)), key=lambda i: heights[i])
    places: list[list[int]] = []
    for i in by_height:
        if places and heights[i] - heights[places[-1][0]] <= _SAME_PLACE:
            places[-1].append(i)
        else:
            places.append([i])
    times = len(places[0])
    if any(len(place) != times for place in places):
        raise BadInput(
            f"{where} has more slices at some places than at others: move aside those that are "
            "there twice, or get the missing ones."
        )
    for place in places:
        place.sort(key=lambda i: planes[i].order)
    ordered = [planes[place[time]] for time in range(times) for place in places]
    _check_even(ordered[: len(places)], where)
    return ordered, times


def _check_alike(planes: Sequence[Plane], where: str) -> None:
    sizes = {plane.size for plane in planes}
    if len(sizes) > 1:
        listed = ", ".join(" x ".join(map(str, size)) for size in sorted(sizes)[:3])
        raise BadInput(f"{where} has slices of different sizes ({listed}): keep those of one size.")
    first = planes[0]
    for plane in planes:
        if not np.allclose(plane.along, first.along, atol=_SAME_ANGLE):
            raise BadInput(
                f"{where} has slices at different angles, such as {plane.file.name} and "
                f"{first.file.name}: keep those of one angle."
            )
        if not np.allclose(plane.spacing or 0, first.spacing or 0, rtol=_SAME_ANGLE):
            raise BadInput(f"{where} has slices of different pixel sizes: keep those of one size.")


def _check_even(planes: Sequence[Plane], where: str) -> None:
    """Refuse what a regular grid does not hold: strokes and measures would lie wrong."""
    if len(planes) < 3:
        return
    places = np.array([plane.position for plane in planes])
    even = np.linspace(places[0], places[-1], len(places))
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    if np.linalg.norm(places - even, axis=1).max() <= _OFF * np.median(steps):
        return
    widest = int(steps.argmax())
    times = steps / steps.min()
    if np.allclose(times, times.round(), atol=2 * _OFF):
        between = f"{planes[widest].file.name} and {planes[widest + 1].file.name}"
        raise BadInput(
            f"{where} lacks slices between {between}, which are {steps[widest]:.4g} mm apart and "
            f"others {steps.min():.4g} mm: get the missing files."
        )
    raise BadInput(
        f"{where} has slices that are between {steps.min():.4g} and {steps.max():.4g} mm apart: "
        "make them even with another program, or keep those that are."
    )


def matrix_of(planes: Sequence[Plane]) -> np.ndarray:
    """The matrix from slice, row and column to z, y, x in millimetres."""
    first, last = planes[0], planes[-1]
    assert first.spacing is not None
    columns, rows = first.along
    if len(planes) > 1:
        step = (last.position - first.position) / (len(planes) - 1)
    else:
        step = np.cross(columns, rows) * first.thickness
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([step, rows * first.spacing[0], columns * first.spacing[1]], 1)[::-1]
    matrix[:3, 3] = first.position[::-1]
    return matrix
