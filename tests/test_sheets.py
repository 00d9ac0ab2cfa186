"""What is painted, on disk: only what changed is written, and what was damaged costs no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet import sheets as module
from napari_unet.records import Removal
from napari_unet.run import BadInput
from napari_unet.sheets import EDGE, HISTORY, SHEETS, Sheets, places

SHAPES = [(5, 7), (EDGE, EDGE + 1), (3, 40, 50), (2, 3, 20, EDGE + 9)]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)


def write(sheets: Sheets, labels: np.ndarray) -> None:
    for place in places(tuple(slice(0, n) for n in labels.shape)):
        sheets.write(place, labels)


def files(folder: Path, part: str = SHEETS) -> list[str]:
    return sorted(str(f.relative_to(folder / part)) for f in (folder / part).rglob("*.tif"))


@pytest.mark.parametrize("shape", SHAPES)
def test_comes_back_as_it_was(tmp_path, shape):
    labels = noise(*shape)

    write(Sheets(tmp_path, shape), labels)
    found, problems = Sheets(tmp_path, shape).read()

    assert np.array_equal(found, labels)
    assert problems == []


def test_only_sheets_with_labels_are_files_any_program_reads(tmp_path):
    labels = np.zeros((2, EDGE + 10, 30), np.uint8)
    labels[1, EDGE + 4, 5:9] = 2

    write(Sheets(tmp_path, labels.shape), labels)

    assert files(tmp_path) == ["0001.0001.0000.tif"]
    assert np.array_equal(
        tifffile.imread(tmp_path / SHEETS / "0001.0001.0000.tif"), labels[1, EDGE:]
    )


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ((slice(3, 9), slice(0, 1)), [(0, 0)]),
        ((slice(EDGE - 1, EDGE + 1), slice(EDGE, 2 * EDGE)), [(0, 1), (1, 1)]),
        ((slice(4, 6), slice(0, 5), slice(0, 5)), [(4, 0, 0), (5, 0, 0)]),
    ],
)
def test_a_region_lies_on(region, expected):
    assert list(places(region)) == expected


def test_what_is_erased_stays_erased(tmp_path):
    labels = noise(20, 20)
    sheets = Sheets(tmp_path, labels.shape)
    write(sheets, labels)

    write(sheets, np.zeros_like(labels))

    assert not sheets.read()[0].any()


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "tail cut": lambda data: data[:-3],
    "another file": lambda data: b"PK\x03\x04" + data,
    "a pickle": lambda data: b"\x80\x04\x95c__main__\nx\n.",
    "bit of the header": lambda data: data[:4] + bytes([data[4] ^ 1]) + data[5:],
    "bit of the pixels": lambda data: data[:-9] + bytes([data[-9] ^ 16]) + data[-8:],
    "too large": lambda data: data + bytes(module.MOST_BYTES),
}


class TestDamage:
    """One sheet is damaged; the others, and what it was before, are not."""

    @pytest.fixture
    def labels(self, tmp_path) -> np.ndarray:
        labels = noise(40, 2 * EDGE)
        write(Sheets(tmp_path, labels.shape), labels)
        return labels

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_costs_one_sheet_which_is_set_aside(self, tmp_path, labels, damage):
        file = tmp_path / SHEETS / "0000.0001.tif"
        damaged = DAMAGES[damage](file.read_bytes())
        file.write_bytes(damaged)
        sheets = Sheets(tmp_path, labels.shape)

        found, problems = sheets.read()

        assert np.array_equal(found[:, :EDGE], labels[:, :EDGE])
        assert not found[:, EDGE:].any()
        assert len(problems) == 1
        assert "0000.0001.tif is damaged" in problems[0]
        assert not file.exists() or file.read_bytes() != damaged
        (aside,) = (tmp_path / module.DAMAGED).iterdir()
        assert aside.read_bytes() == damaged
        assert sheets.read()[1] == []

    def test_is_mended_from_the_generation_before(self, tmp_path, labels, monkeypatch):
        sheets = Sheets(tmp_path, labels.shape)
        monkeypatch.setattr(module, "APART", timedelta(0))
        monkeypatch.setattr(module, "_stamp", lambda: "20990301T120000")  # after all others
        write(sheets, 2 - labels)  # so that the first becomes a generation
        (tmp_path / SHEETS / "0000.0001.tif").write_bytes(b"")

        found, problems = sheets.read()
        again, no_problems = sheets.read()

        assert np.array_equal(found, again)
        assert no_problems == []
        assert np.array_equal(found[:, EDGE:], labels[:, EDGE:])
        assert np.array_equal(found[:, :EDGE], 2 - labels[:, :EDGE])
        assert "is used" in problems[0]

    def test_is_left_alone_where_nothing_may_be_mended(self, tmp_path, labels):
        file = tmp_path / SHEETS / "0000.0001.tif"
        file.write_bytes(b"")

        _, problems = Sheets(tmp_path, labels.shape).read(mend=False)

        assert len(problems) == 1
        assert file.exists()


@pytest.mark.parametrize("shape", [(2, 2), (EDGE, 9)])
def test_a_picture_that_unpacks_to_more_is_not_unpacked(tmp_path, monkeypatch, shape):
    bomb = tmp_path / SHEETS / "0000.0000.tif"
    bomb.parent.mkdir()
    tifffile.imwrite(bomb, np.zeros((3000, 3000), np.uint8), compression="zlib")
    unpacked = []
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: unpacked.append(page))

    _, problems = Sheets(tmp_path, shape).read()

    assert unpacked == []
    assert len(problems) == 1


def test_links_and_strangers_are_not_read(tmp_path):
    labels = noise(9, 9)
    write(Sheets(tmp_path / "other", labels.shape), labels)
    folder = tmp_path / "mine" / SHEETS
    folder.mkdir(parents=True)
    (folder / "0000.0000.tif").symlink_to(tmp_path / "other" / SHEETS / "0000.0000.tif")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "0009.0000.tif").write_bytes(b"beyond the image")

    found, problems = Sheets(tmp_path / "mine", labels.shape).read()

    assert not found.any()
    assert len(problems) == 1


class Clock:
    """A clock that stands still until it is moved on."""

    def __init__(self, monkeypatch) -> None:
        self.time = datetime(2026, 3, 1, 12, tzinfo=UTC)
        clock = self

        class Now(datetime):
            @classmethod
            def now(cls, tz=None):
                return clock.time

        monkeypatch.setattr(module, "datetime", Now)

    def pass_(self, **time: float) -> datetime:
        self.time += timedelta(**time)
        return self.time


class TestGenerations:
    @pytest.fixture
    def clock(self, monkeypatch) -> Clock:
        return Clock(monkeypatch)

    def test_how_it_was_is_found_by_time(self, tmp_path, clock):
        sheets = Sheets(tmp_path, (8, 8))
        times = []
        for number in range(1, 4):
            write(sheets, np.full((8, 8), number, np.uint8))
            times.append(clock.pass_(hours=1))
            clock.pass_(hours=1)

        assert [int(sheets.at(time).max()) for time in times] == [1, 2, 3]
        assert len(sheets.generations()) == 3, "and when nothing was painted"

    def test_strokes_of_the_same_minutes_are_one(self, tmp_path, clock):
        sheets = Sheets(tmp_path, (8, 8))
        for number in range(1, 20):
            write(sheets, np.full((8, 8), number, np.uint8))
            clock.pass_(seconds=20)

        assert len(sheets.generations()) == 1
        assert int(sheets.at(sheets.generations()[0]).max()) == 0, "before the first stroke"

    def test_old_ones_are_kept_by_day(self, tmp_path, clock):
        sheets = Sheets(tmp_path, (8, 8))
        for _ in range(40):
            for _ in range(4):
                write(sheets, noise(8, 8) + 1)
                clock.pass_(hours=6)

        kept = sheets.generations()
        assert len(kept) <= module.NEWEST + module.DAYS
        assert clock.time - kept[-1] > timedelta(days=module.DAYS - 2)
        assert len(files(tmp_path, HISTORY)) == len(kept)

    def test_what_was_painted_first_later_is_not_in_an_earlier_state(self, tmp_path, clock):
        sheets, labels = Sheets(tmp_path, (8, 2 * EDGE)), np.zeros((8, 2 * EDGE), np.uint8)
        labels[:, :EDGE] = 1
        sheets.write((0, 0), labels)
        before = clock.pass_(hours=1)
        clock.pass_(hours=1)
        labels[:, EDGE:] = 2
        sheets.write((0, 1), labels)

        assert np.unique(sheets.at(before)).tolist() == [0, 1]


def test_a_sheet_that_cannot_be_read_now_is_not_taken_for_damaged(tmp_path, monkeypatch):
    labels = noise(9, 9)
    write(Sheets(tmp_path, labels.shape), labels)

    def fail(*args):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(tifffile, "TiffFile", fail)
    with pytest.raises(BadInput, match="cannot be read now"):
        Sheets(tmp_path, labels.shape).read()
    monkeypatch.undo()

    assert np.array_equal(Sheets(tmp_path, labels.shape).read()[0], labels)


def test_classes_that_were_removed_since_are_left_out_of_what_was_written_before(tmp_path):
    labels = np.array([[0, 1, 2, 3, 255]], np.uint8)
    first = Removal(when="then", number=2, classes=3)
    second = Removal(when="later", number=1, classes=2)
    write(Sheets(tmp_path, labels.shape), labels)

    assert Sheets(tmp_path, labels.shape, [first]).read()[0].tolist() == [[0, 1, 0, 2, 255]]
    assert Sheets(tmp_path, labels.shape, [first, second]).read()[0].tolist() == [[0, 0, 0, 1, 255]]
    write(Sheets(tmp_path, labels.shape, [first]), labels)
    assert Sheets(tmp_path, labels.shape, [first]).read()[0].tolist() == [[0, 1, 2, 3, 255]]
