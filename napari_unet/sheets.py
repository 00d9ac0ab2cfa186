"""What is painted on an image, on disk: a small TIFF for each part with labels, and how it was."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from napari_unet.annotation import Region, without
from napari_unet.atomic import atomic_file
from napari_unet.records import Removal
from napari_unet.run import BadInput

EDGE = 1024  # pixels of a sheet along the last two axes; along the others it is one plane
SHEETS, HISTORY, DAMAGED = "labels", "history", "damaged"
STAMP = "%Y%m%dT%H%M%S"
APART = timedelta(minutes=10)  # between two generations that are kept of a sheet
NEWEST, DAYS = 5, 14  # so many of the newest are kept, and one of each of so many days
MOST_BYTES = 4 * 2**20  # of a sheet's file: four times what its pixels take as they are

Place = tuple[int, ...]  # of a sheet: its plane, its row, its column


class _Damaged(BadInput):
    """What a file holds is not what was written."""


class Sheets:
    """The sheets of one annotation in a folder; only what changed is written.

    Of the classes that were removed since a sheet was written, it is read without.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, ...], removed: Sequence[Removal] = ()
    ) -> None:
        self.folder, self.shape, self.removed = folder, shape, removed

    def read(self, mend: bool = True) -> tuple[np.ndarray, list[str]]:
        """All that is painted, and what was damaged; of that the newest sound generation."""
        labels, problems = np.zeros(self.shape, np.uint8), []
        for file in sorted(self._files(SHEETS)):
            place = _place_of(file.name)
            if place is None or not self._is_there(place):
                continue
            values, problem = self._sound(file, mend)
            if problem:
                problems.append(problem)
            if values is not None:
                labels[self._region(place)] = values
        return labels, problems

    def write(self, place: Place, labels: np.ndarray) -> None:
        """Put one sheet of these labels on disk; what was there before may become a generation."""
        values = np.array(labels[self._region(place)], order="C")  # it may be painted on meanwhile
        file = self._file(place)
        if not values.any() and not file.exists():
            return
        self._keep(file, values)
        with atomic_file(file, overwrite=True) as draft:
            _write_tiff(draft, values, len(self.removed))

    def generations(self) -> list[datetime]:
        """The times at which something was kept, the newest first."""
        return sorted({_time_of(folder.name) for folder in self._stamped()}, reverse=True)

    def at(self, time: datetime) -> np.ndarray:
        """All that was painted at a time: of each sheet the first generation kept since then."""
        labels, _ = self.read(mend=False)
        for folder in sorted(self._stamped(), reverse=True):
            if _time_of(folder.name) < time:
                break
            for file in folder.iterdir():
                place = _place_of(file.name)
                if place is not None and self._is_there(place):
                    with suppress(BadInput):
                        labels[self._region(place)] = self._read(file, place)
        return labels

    # --- one sheet ---

    def _region(self, place: Place) -> Region:
        lead = len(self.shape) - 2
        planes = (slice(p, p + 1) for p in place[:lead])
        tiles = (
            slice(p * EDGE, min((p + 1) * EDGE, n))
            for p, n in zip(place[lead:], self.shape[lead:], strict=True)
        )
        return (*planes, *tiles)

    def _is_there(self, place: Place) -> bool:
        lead = len(self.shape) - 2
        grid = (*self.shape[:lead], *(math.ceil(n / EDGE) for n in self.shape[lead:]))
        return len(place) == len(grid) and all(p < n for p, n in zip(place, grid, strict=True))

    def _file(self, place: Place) -> Path:
        return self.folder / SHEETS / (".".join(f"{p:04d}" for p in place) + ".tif")

    def _files(self, part: str) -> Iterable[Path]:
        folder = self.folder / part
        return list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []

    def _read(self, file: Path, place: Place) -> np.ndarray:
        shape = tuple(s.stop - s.start for s in self._region(place))
        values, removed = _read_tiff(file, shape)
        for gone in self.removed[removed:]:
            values = without(values, gone.number, gone.classes)
        return values

    def _sound(self, file: Path, mend: bool) -> tuple[np.ndarray | None, str]:
        """The labels of a sheet; of a damaged one those of its newest sound generation."""
        place = _place_of(file.name)
        assert place is not None
        try:
            return self._read(file, place), ""
        except _Damaged as error:
            if mend:
                self._set_aside(file)
            said = f"{error} It is set aside." if mend else str(error)
            for folder in sorted(self._stamped(), reverse=True):
                with suppress(BadInput):
                    values = self._read(folder / file.name, place)
                    if mend:
                        with suppress(OSError):
                            _link(folder / file.name, file)
                    when = f"{_time_of(folder.name):%d %b %Y, %H:%M} UTC"
                    return values, f"{said} What was there on {when} is used."
            return None, f"{said} That part counts as not painted."

    def _set_aside(self, file: Path) -> None:
        aside = self.folder / DAMAGED / f"{_stamp()} {file.name}"
        with suppress(OSError):
            aside.parent.mkdir(exist_ok=True)
            file.rename(aside)

    # --- generations ---

    def _stamped(self) -> list[Path]:
        return [f for f in self._files(HISTORY) if _is_stamp(f.name) and f.is_dir()]

    def _keep(self, file: Path, values: np.ndarray) -> None:
        """Keep a sheet as it is before it is written anew, unless one was kept a moment ago."""
        mine = sorted(f.name for f in self._stamped() if (f / file.name).exists())
        if mine and datetime.now(UTC) - _time_of(mine[-1]) < APART:
            return
        kept = self.folder / HISTORY / _stamp() / file.name
        # Without a generation more, the newest is still written.
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            if file.exists():
                _link(file, kept)
            else:  # nothing was painted there
                _write_tiff(kept, np.zeros_like(values), len(self.removed))
            self._prune(file.name, [*mine, kept.parent.name])

    def _prune(self, name: str, stamps: list[str]) -> None:
        days = {stamp[:8]: stamp for stamp in stamps}  # the last of each
        wanted = {*stamps[-NEWEST:], *list(days.values())[-DAYS:]}
        for stamp in set(stamps) - wanted:
            folder = self.folder / HISTORY / stamp
            (folder / name).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()  # when it is empty


def places(region: Region) -> Iterator[Place]:
    """The sheets that a region lies on."""
    lead = len(region) - 2
    ranges = [range(s.start, s.stop) for s in region[:lead]]
    ranges += [range(s.start // EDGE, -(-s.stop // EDGE)) for s in region[lead:]]
    for place in np.ndindex(*map(len, ranges)):
        yield tuple(r[p] for r, p in zip(ranges, place, strict=True))


def _place_of(name: str) -> Place | None:
    """Where a sheet of this name lies; None for what is none of ours."""
    if not re.fullmatch(r"\d{4,9}(\.\d{4,9})+\.tif", name):
        return None
    return tuple(int(p) for p in name.removesuffix(".tif").split("."))


def _stamp() -> str:
    return datetime.now(UTC).strftime(STAMP)


def _is_stamp(name: str) -> bool:
    with suppress(ValueError):
        return bool(datetime.strptime(name, STAMP).replace(tzinfo=UTC))
    return False


def _time_of(stamp: str) -> datetime:
    return datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)


def _link(file: Path, kept: Path) -> None:
    """Another name for what a file holds now: it stays when the file is replaced."""
    try:
        os.link(file, kept)
    except OSError:  # a file system without links
        shutil.copyfile(file, kept)


# --- TIFF ---


def _write_tiff(file: Path, values: np.ndarray, removed: int) -> None:
    import tifffile

    tifffile.imwrite(
        file,
        values.reshape(values.shape[-2:]),
        compression="zlib",
        compressionargs={"level": 1},
        description=json.dumps({"sha256": _digest(values), "removed": removed}),
        metadata=None,
    )


def _read_tiff(file: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The pixels of a sheet, and how many classes had been removed when it was written.

    Its size is known, so that a file that unpacks to more is refused.
    """
    import tifffile

    try:
        if file.is_symlink() or file.stat().st_size > MOST_BYTES:
            raise ValueError("no sheet of ours")
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            if page.shape != shape[-2:] or page.dtype != np.uint8:
                raise ValueError("another shape")
            values: np.ndarray = page.asarray().reshape(shape)
            known = json.loads(page.description)
            if known["sha256"] != _digest(values):
                raise ValueError("other pixels")
            return values, max(0, int(known.get("removed", 0)))
    except (OSError, MemoryError) as error:
        raise BadInput(f"{file} cannot be read now ({error}).") from error
    except Exception as error:  # a damaged file can fail in any way inside the reader
        raise _Damaged(f"{file} is damaged.") from error


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
