"""Projects: what is painted is on disk a moment later, and survives what happens to disks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet import atomic
from napari_unet.config import class_table
from napari_unet.io import as_image, read_image
from napari_unet.kept import write_mask
from napari_unet.project import (
    IMAGES,
    LOOK,
    NotSaved,
    Project,
    Saved,
    _draw_thumbnail,
    create_project,
    open_project,
)
from napari_unet.records import MaskCard, recent, remember, scratch_place
from napari_unet.run import BadInput, Control
from napari_unet.sheets import Sheets


def picture(seed: int = 0, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape or (30, 40)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "work" / "project"


@pytest.fixture
def project(folder) -> Project:
    project = create_project(folder, classes=class_table(["cell", "gland"]))
    yield project
    project.close()


def put_file(folder: Path, name: str = "a.tif", seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / name, picture(seed))
    return folder / name


def painted(project: Project, key: str, value: int = 1) -> np.ndarray:
    """The annotation of an image, with a stroke on it that is told of."""
    labels = project.annotation(key)
    project.hold(key, labels)
    labels[2:5, 3:20] = value
    project.paint(key, (slice(2, 5), slice(3, 20)))
    return labels


def reopened(project: Project) -> Project:
    project.close()
    return open_project(project.folder)


# ---- what comes back


def test_a_project_comes_back_as_it_was(project, tmp_path):
    file = put_file(tmp_path / "images")
    key = project.add(read_image(file))
    labels = painted(project, key)
    project.change(key, note="from Tuesday", role="hold out")
    project.card = project.card.model_copy(update={"training": {"width": 8}, "volumes": True})

    again = reopened(project)

    assert again.problems == []
    assert again.card == project.card
    assert [c.name for c in again.card.classes] == ["cell", "gland"]
    assert again.images == project.images
    assert np.array_equal(again.annotation(key), labels)
    assert np.array_equal(again.read(key).data[0], picture())
    again.close()


def test_images_keep_their_order(project, tmp_path):
    names = ["c", "a", "b"]
    for number, name in enumerate(names):
        project.add(read_image(put_file(tmp_path, f"{name}.tif", number)), added=f"2026-{number}")

    again = reopened(project)

    assert [card.name for card in again.images.values()] == names
    again.close()


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3), (4, 30, 40), (1030, 20), (3, 20, 2050)])
def test_an_image_that_is_in_no_file_is_copied(project, shape):
    image = as_image(picture(1, *shape), name="made")
    key = project.add(image)

    again = reopened(project)

    assert np.array_equal(again.read(key).data, image.data)
    assert again.read(key).spatial_shape == again.images[key].shape
    again.close()


def test_pixels_that_we_would_read_otherwise_are_copied(project, tmp_path):
    file = put_file(tmp_path)
    other = read_image(file)
    changed = type(other)(255 - other.data, other.axes, "a", other.axes, other.spacing, path=file)

    key = project.add(changed)
    again = reopened(project)

    assert again.file(key) != file
    assert np.array_equal(again.read(key).data, 255 - other.data)
    again.close()


def test_project_and_images_can_be_moved_together(project, tmp_path, folder):
    key = project.add(read_image(put_file(folder.parent / "images")))
    project.close()
    shutil.move(folder.parent, tmp_path / "elsewhere")

    again = open_project(tmp_path / "elsewhere" / "project")

    assert np.array_equal(again.read(key).data[0], picture())
    again.close()


def test_an_image_that_was_moved_is_found_by_its_pixels(project, tmp_path):
    file = put_file(tmp_path)
    key = project.add(read_image(file))
    project.save()
    file.rename(tmp_path / "moved.tif")
    put_file(tmp_path, "other.tif", seed=1)

    with pytest.raises(BadInput, match=r"'a' is no longer at .*a\.tif; say where it is now"):
        project.read(key)
    with pytest.raises(BadInput, match=r"other\.tif is another image than 'a' was"):
        project.locate(key, tmp_path / "other.tif")
    project.locate(key, tmp_path / "moved.tif")

    assert np.array_equal(project.read(key).data[0], picture())


def test_an_image_of_another_size_now_is_refused(project, tmp_path):
    file = put_file(tmp_path)
    key = project.add(read_image(file))
    project.save()
    tifffile.imwrite(file, picture(0, 10, 10))

    with pytest.raises(BadInput, match="put the file back as it was"):
        project.read(key)


def test_what_is_taken_out_is_set_aside(project, folder):
    key = project.add(as_image(picture(), name="made"))
    painted(project, key)
    project.save()

    project.remove(key)

    again = reopened(project)
    assert again.images == {}
    assert list(folder.rglob("0000.0000.tif")), "the strokes are still there"
    again.close()


# ---- saving


def test_strokes_are_written_a_moment_later_by_whoever_draws(project, folder):
    key = project.add(as_image(picture(), name="made"))
    control, events = Control(), []

    def draw() -> None:
        for event in project.saving(control):
            events.append(event)
            if len(events) == 2:
                control.stop()

    thread = threading.Thread(target=draw)
    thread.start()
    labels = painted(project, key)
    thread.join(5)
    if thread.is_alive():
        painted(project, key, 2)  # both may have been written at once
        thread.join(5)

    assert [type(e) for e in events] == [Saved, Saved]
    assert np.array_equal(project.sheets(key).read()[0], labels)


def test_only_the_sheet_that_was_painted_is_written(project):
    key = project.add(as_image(picture(0, 4, 40, 30), "ZYX", "stack"))
    labels = np.zeros((4, 40, 30), np.uint8)
    project.hold(key, labels)
    labels[:] = 1
    project.paint(key, (slice(2, 3), slice(0, 40), slice(0, 30)))

    project.save()

    assert np.array_equal(project.sheets(key).read()[0].any((1, 2)), [False, False, True, False])


def test_what_is_painted_without_a_pause_holds_up_no_other_image(project, folder, monkeypatch):
    """On a slow disk each sheet that is written finds the next stroke waiting."""
    keys = [project.add(as_image(picture(n), name=f"im{n}")) for n in range(3)]
    for key in keys:
        painted(project, key)
    write, safe = Sheets.write, []

    def slow(sheets, place, labels):
        write(sheets, place, labels)
        cards = folder.glob("images/*/image.json")
        safe.append(sum(any((card.parent / "labels").glob("*.tif")) for card in cards))
        if len(safe) < 20:
            for key in keys:
                project.paint(key, (slice(2, 5), slice(3, 20)))

    monkeypatch.setattr(Sheets, "write", slow)

    project.save()

    assert 3 in safe[:15]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "permission is missing"),
        (errno.EIO, "Input/output error"),
        (errno.ENOENT, "No such file"),  # a stick that was pulled
    ],
)
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_disk_that_fails_is_told_of_once_and_written_when_it_is_back(
    project, monkeypatch, number, said, where
):
    monkeypatch.setattr("napari_unet.project.AGAIN_SECONDS", 0.05)
    key = project.add(as_image(picture(), name="made"))
    labels = painted(project, key)
    failing = [6]

    def fail(real):
        def call(*args):
            if failing[0] > 0:
                failing[0] -= 1
                raise OSError(number, os.strerror(number))
            return real(*args)

        return call

    if where == "fsync":
        monkeypatch.setattr(atomic.os, "fsync", fail(os.fsync))
    else:
        monkeypatch.setattr(Path, "replace", fail(Path.replace))
    control, events = Control(), []
    for event in project.saving(control):
        events.append(event)
        if isinstance(event, Saved):
            control.stop()

    assert [type(e) for e in events] == [NotSaved, Saved]
    assert said in events[0].why
    assert np.array_equal(project.sheets(key).read()[0], labels)


def test_whatever_goes_wrong_in_a_save_it_is_tried_again(project, monkeypatch):
    monkeypatch.setattr("napari_unet.project.AGAIN_SECONDS", 0.05)
    key = project.add(as_image(picture(), name="made"))
    labels = painted(project, key)
    write, failing = Project._write, [3]

    def fail(self, key, place):
        failing[0] -= 1
        if failing[0] >= 0:
            raise RuntimeError("nobody thought of this")
        write(self, key, place)

    monkeypatch.setattr(Project, "_write", fail)
    control, events = Control(), []
    for event in project.saving(control):
        events.append(event)
        if isinstance(event, Saved):
            control.stop()

    assert [type(e) for e in events] == [NotSaved, Saved]
    assert "nobody thought of this" in events[0].why
    assert np.array_equal(project.sheets(key).read()[0], labels)


def test_a_lazy_image_that_knows_no_size_in_bytes_is_copied(project):
    from napari_unet.io import Image
    from napari_unet.pictures import channels_first

    planes = [picture(0), picture(1)]
    lazy = channels_first(planes)
    key = project.add(Image(lazy, "CYX", "two", "CYX", (1.0, 1.0)))

    again = reopened(project)

    assert np.array_equal(again.read(key).data, np.stack(planes))
    again.close()


def test_what_is_painted_while_a_large_image_is_copied_does_not_wait(project, monkeypatch):
    """The image is lazy and larger than a piece; a stroke is painted before each piece is read."""
    monkeypatch.setattr("napari_unet.project.PIECE", 16)
    labels = np.zeros((64, 64), np.uint8)
    behind = []

    class Slow:
        shape, dtype, ndim = (1, 64, 64), np.dtype(np.uint8), 3

        def __getitem__(self, part):
            if labels.any():
                behind.append(np.count_nonzero(labels != project.sheets(key).read()[0]))
            labels[len(behind)] = 1
            project.paint(key, (slice(0, 64), slice(0, 64)))
            return picture(0, 1, 64, 64)[part]

        def __array__(self, dtype=None, copy=None):
            return picture(0, 1, 64, 64)

    key = project.add(replace(as_image(picture(0, 64, 64), name="slow"), data=Slow()))
    project.hold(key, labels)

    project.save()

    assert len(behind) >= 15
    assert max(behind) <= 64, "only the stroke of this piece"
    assert np.array_equal(project.read(key).data[0], picture(0, 1, 64, 64)[0])


def test_what_is_let_go_with_its_last_stroke_is_written_first(project):
    key = project.add(as_image(picture(), name="made"))
    labels = painted(project, key)
    project.let_go(key)

    project.save()

    assert np.array_equal(project.annotation(key), labels)
    assert project.annotation(key) is not labels


def test_a_copy_goes_on_by_itself_and_finds_its_images(project, tmp_path):
    made = project.add(as_image(picture(), name="made"))
    filed = project.add(read_image(put_file(tmp_path / "images", seed=1)))
    painted(project, made)

    copy = project.copy(tmp_path / "far" / "away" / "other.unet")
    labels = painted(copy, made, 2)
    copy.close()
    shutil.rmtree(project.folder / IMAGES / made)

    again = open_project(copy.folder)
    assert again.card.name == "other"
    assert np.array_equal(again.annotation(made), labels)
    assert np.array_equal(again.read(made).data[0], picture())
    assert np.array_equal(again.read(filed).data[0], picture(1))
    again.close()


# ---- damage


def test_a_damaged_card_is_read_from_its_backup(project, folder):
    key = project.add(as_image(picture(), name="made"))
    project.save()
    project.change(key, note="newest")
    project.card = project.card.model_copy(update={"name": "newest"})
    project.close()
    for file in (folder / "project.json", folder / IMAGES / key / "image.json"):
        file.write_bytes(file.read_bytes()[:40])

    again = open_project(folder)

    assert again.card.name == "project"
    assert again.images[key].name == "made"
    assert len(again.problems) == 2
    again.close()
    assert open_project(folder).problems == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 10**5, b"\xff\xfe"])
def test_whatever_is_in_a_card_no_other_image_is_lost(project, folder, content):
    keys = [project.add(as_image(picture(n), name=f"im{n}")) for n in range(3)]
    labels = [painted(project, key, 1 + n % 2) for n, key in enumerate(keys)]
    project.close()
    for file in folder.glob("project.*"):
        file.write_bytes(content)
    for file in (folder / IMAGES / keys[1]).glob("image.*"):
        file.write_bytes(content)

    again = open_project(folder)

    assert list(again.images) == [keys[0], keys[2]]
    assert np.array_equal(again.annotation(keys[0]), labels[0])
    assert np.array_equal(again.annotation(keys[2]), labels[2])
    assert any("classes and the settings are lost" in p for p in again.problems)
    again.close()
    assert list((folder / IMAGES / keys[1]).rglob("*.tif")), "its strokes are still there"


@pytest.mark.parametrize("backup", [False, True])
def test_a_project_that_was_damaged_opens_ever_after(project, folder, backup):
    key = project.add(as_image(picture(), name="made"))
    project.save()
    project.change(key, note="newest")
    project.card = project.card.model_copy(update={"name": "newest"})
    project.close()
    (folder / "project.json").write_text('{"name": "newest",')
    (folder / IMAGES / key / "image.json").write_text("{")
    if not backup:
        (folder / "project.backup").unlink()

    first = open_project(folder)  # and killed before it was closed
    second = open_project(folder)

    assert len(first.problems) == (2 if backup else 3)
    assert second.problems == []
    assert second.card == first.card
    assert second.images[key].name == "made"
    assert (folder / IMAGES / key / "image.json").is_file()
    first.close()


def test_a_record_that_is_out_of_reach_for_a_moment_is_not_replaced(project, folder, monkeypatch):
    project.card = project.card.model_copy(update={"name": "newest"})
    project.close()
    file, read = folder / "project.json", Path.stat
    before = file.read_bytes()

    def stat(path: Path, **options):
        if path == file:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stat)
        patch.setattr("napari_unet.project.is_project", lambda _folder: True)
        again = open_project(folder)
        assert "cannot be read now (Stale file handle)" in again.problems[0]
        again.close()

    assert file.read_bytes() == before


def test_a_project_that_is_only_looked_at_stays_as_it_is(project, folder):
    key = project.add(as_image(picture(), name="made"))
    painted(project, key)
    project.close()
    for file in (folder / "project.json", *folder.glob(f"{IMAGES}/{key}/labels/*.tif")):
        file.write_bytes(file.read_bytes()[:40])
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    looked = open_project(folder, mend=False)
    looked.annotation(key)

    problems = " ".join(looked.problems)
    assert "project.json is damaged; it is set aside when the project is opened" in problems
    assert "0000.0000.tif is damaged. What was there on " in problems
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    other = open_project(folder)
    assert not other.read_only
    other.close()


def test_a_newer_format_is_refused_and_left_alone(project, folder):
    project.close()
    file = folder / "project.json"
    newer = json.dumps(json.loads(file.read_text()) | {"format": 99})
    file.write_text(newer)

    with pytest.raises(BadInput, match=r"newer napari-unet \(format 99\); update"):
        open_project(folder)

    assert file.read_text() == newer


def test_what_is_no_project_is_refused(tmp_path):
    with pytest.raises(BadInput, match="is no project"):
        open_project(tmp_path)


def test_a_folder_with_something_in_it_is_not_made_a_project(tmp_path):
    put_file(tmp_path)

    with pytest.raises(BadInput, match="is not empty; choose a new folder"):
        create_project(tmp_path)


# ---- two programs


def test_a_second_program_reads_only_until_the_first_has_closed(project, folder):
    key = project.add(as_image(picture(), name="made"))
    labels = painted(project, key)
    project.save()

    second = open_project(folder)
    second.change(key, note="of the second")
    second.save()

    assert second.read_only
    assert np.array_equal(second.annotation(key), labels)
    assert not project.read_only
    project.close()
    third = open_project(folder)
    assert not third.read_only
    assert third.images[key].note == ""
    third.close()


def test_the_lock_of_a_program_that_died_locks_nobody_out(folder):
    import subprocess
    import sys

    create_project(folder).close()
    script = (
        "import os, sys; from pathlib import Path; from napari_unet.project import open_project; "
        "project = open_project(Path(sys.argv[1])); assert not project.read_only; os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], check=False)

    project = open_project(folder)

    assert not project.read_only
    project.close()


# ---- hostile projects


@pytest.mark.parametrize("name", ["../../evil", "0123456789ab/../..", "ABCDEF012345", "x", ".."])
def test_folders_that_are_not_keys_are_no_images(project, folder, name):
    project.close()
    place = folder / IMAGES / name
    place.mkdir(parents=True, exist_ok=True)

    again = open_project(folder)

    assert again.images == {}
    again.close()


def test_an_image_folder_that_is_a_link_is_not_followed(project, folder, tmp_path):
    key = project.add(as_image(picture(), name="made"))
    project.close()
    (folder / IMAGES / key).rename(tmp_path / "outside")
    (folder / IMAGES / key).symlink_to(tmp_path / "outside")

    again = open_project(folder)

    assert again.images == {}
    again.close()


def test_a_card_of_100_megabytes_is_not_read(project, folder, monkeypatch):
    project.add(as_image(picture(), name="made"))
    project.close()
    with (folder / "project.json").open("wb") as file:
        file.truncate(100 * 2**20)
    read = Path.read_bytes
    sizes = []
    monkeypatch.setattr(Path, "read_bytes", lambda p: sizes.append(p.stat().st_size) or read(p))

    again = open_project(folder)

    assert max(sizes) < 10**6
    assert len(again.images) == 1
    again.close()


@pytest.mark.parametrize("path", ["../../../etc/passwd", "/etc/passwd", "/dev/zero"])
def test_a_path_to_what_is_no_image_is_refused_in_a_sentence(project, path):
    key = project.add(as_image(picture(), name="made"))
    project.save()
    project.change(key, path=path)

    with pytest.raises(BadInput):
        project.read(key)


# --- what models made ---


def made(*names: str) -> MaskCard:
    return MaskCard(model="m", classes=class_table(names or ["cell"]))


WHEN = "2026-01-02"


def test_a_mask_is_kept_with_its_image(project, folder):
    key = project.add(as_image(picture(), name="im0"))
    mask, rims = (picture(1) > 128).astype(np.uint8), picture(2) > 200
    project.keep_mask(key, mask, made("nucleus"), WHEN, rims)
    project.close()

    again = open_project(folder)
    labels, edges = again.read_mask(key)
    assert np.array_equal(labels, mask)
    assert np.array_equal(edges, rims)
    assert again.images[key].mask.classes[0].name == "nucleus"
    assert again.images[key].state == "predicted"


def test_a_mask_without_rims_takes_those_of_the_one_before_away(project):
    key = project.add(as_image(picture(), name="im0"))
    mask = np.ones((30, 40), np.uint8)
    project.keep_mask(key, mask, made(), WHEN, mask > 0)

    project.keep_mask(key, mask, made(), WHEN)

    assert project.read_mask(key)[1] is None


def test_without_a_mask_there_is_none_and_nothing_is_told(project):
    key = project.add(as_image(picture(), name="im0"))

    assert project.read_mask(key) is None
    assert project.problems == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(file.read_bytes()[:60]),
        lambda file: file.write_bytes(b"not a TIFF"),
        lambda file: tifffile.imwrite(file, np.zeros((3, 4), np.uint8)),
        lambda file: tifffile.imwrite(file, np.zeros((30, 40), np.uint16)),
    ],
    ids=["gone", "cut off", "foreign", "of another size", "of another type"],
)
def test_a_mask_that_is_damaged_is_told_of(project, folder, spoil):
    key = project.add(as_image(picture(), name="im0"))
    labels = painted(project, key)
    project.keep_mask(key, np.ones((30, 40), np.uint8), made(), WHEN)
    project.save()
    spoil(folder / "images" / key / "mask.tif")

    assert project.read_mask(key) is None
    assert project.problems == ["The mask of 'im0' is damaged; segment it again."]
    assert np.array_equal(project.sheets(key).read()[0], labels), "what is painted is untouched"


def test_the_mask_of_an_image_that_was_taken_out_is_not_written(project, folder):
    key = project.add(as_image(picture(), name="im0"))
    project.remove(key)

    project.keep_mask(key, np.ones((30, 40), np.uint8), made(), WHEN)

    assert not (folder / "images" / key).exists()


@pytest.mark.parametrize("end", ["close", "remove"])
def test_a_mask_that_is_being_written_is_waited_for(project, folder, monkeypatch, end):
    """Whoever closes the project, or takes the image out, comes after the mask is whole."""
    key = project.add(as_image(picture(), name="im0"))
    project.save()
    began, go_on = threading.Event(), threading.Event()

    def slowly(*arguments: object) -> None:
        began.set()
        go_on.wait(5)
        write_mask(*arguments)

    monkeypatch.setattr("napari_unet.project.write_mask", slowly)
    mask = np.ones((30, 40), np.uint8)
    writing = threading.Thread(target=project.keep_mask, args=(key, mask, made(), WHEN))
    writing.start()
    began.wait(5)
    act = project.close if end == "close" else lambda: project.remove(key)
    ending = threading.Thread(target=act)
    ending.start()
    ending.join(0.2)
    assert ending.is_alive()
    go_on.set()
    writing.join()
    ending.join()
    project.close()

    again = open_project(folder)
    assert [c.mask is not None for c in again.images.values()] == [True] * (end == "close")
    assert sorted(f.name for f in (folder / "images").iterdir()) == [key] * (end == "close")


def test_one_image_that_cannot_be_looked_at_holds_up_no_stroke(project, folder, tmp_path):
    broken = project.add(
        replace(as_image(picture(), name="broken"), data=Broken(), path=tmp_path / "broken.tif")
    )
    sound = project.add(as_image(picture(1), name="sound"))
    labels = painted(project, sound)

    project.save()

    assert np.array_equal(project.sheets(sound).read()[0], labels)
    assert project.is_saved
    assert [p.split(":")[0] for p in project.problems] == ["'broken'"]
    project.close()
    assert set(open_project(folder).images) == {broken, sound}


def test_an_image_in_no_file_that_cannot_be_copied_is_tried_again_and_holds_up_none(project):
    broken = project.add(replace(as_image(picture(), name="broken"), data=Broken()))
    sound = project.add(as_image(picture(1), name="sound"))
    labels = painted(project, sound)

    for _ in range(2):
        with pytest.raises(BadInput, match="nobody can read this"):
            project.save()

    assert np.array_equal(project.sheets(sound).read()[0], labels)
    assert not project.is_saved
    project.remove(broken)
    assert project.is_saved


class Broken:
    """Pixels that fail when they are read."""

    shape, dtype, ndim = (1, 30, 40), np.dtype(np.uint8), 3

    def __getitem__(self, part: object) -> np.ndarray:
        raise RuntimeError("nobody can read this")

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise RuntimeError("nobody can read this")


# --- earlier versions of the program ---


def test_a_project_of_the_first_version_opens(tmp_path):
    """Its files as that version wrote them: later ones know more of an image and of its model."""
    shutil.copytree(Path(__file__).parent / "first_version.unet", tmp_path / "old.unet")

    project = open_project(tmp_path / "old.unet")

    assert project.problems == []
    assert [c.name for c in project.card.classes] == ["cell", "gland"]
    assert project.card.training == {"seconds": 30.0}
    (key,) = project.images
    card = project.images[key]
    assert (card.name, card.role, card.note, card.state) == ("im0", "train", "blurred", "annotated")
    assert (card.dice, card.mask) == (None, None)
    assert np.count_nonzero(project.annotation(key)) == card.labelled == 3 * 17
    assert np.array_equal(project.read(key).data[0], picture())
    project.change(key, note="sharp")
    project.close()
    assert open_project(tmp_path / "old.unet").images[key].note == "sharp"


def test_the_thumbnail_of_a_slide_is_drawn_from_a_coarser_level(tmp_path):
    class Finest:
        """Tells how many pixels were read."""

        shape, dtype, read = (1, 6400, 6400), np.dtype(np.uint8), 0

        def __getitem__(self, part):
            sizes = [len(range(n)[s]) for s, n in zip(part[1:], self.shape[1:], strict=True)]
            Finest.read += sizes[0] * sizes[1]
            return np.zeros((1, *sizes), np.uint8)

    levels = tuple(picture(0, 1, n, n) for n in (3200, 800, 100, 50))
    image = replace(as_image(picture(), name="slide"), data=Finest(), coarser=levels)

    with atomic.atomic_file(tmp_path / "a.png") as draft:
        _draw_thumbnail(draft, image)

    assert Finest.read == 0
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_an_earlier_state_is_without_a_class_that_was_removed_since(project, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_unet.sheets.APART", timedelta(0))
    key = project.add(read_image(put_file(tmp_path / "images")))
    painted(project, key, 2)
    project.save()
    project.let_go(key)
    project.save()

    assert project.remove_class(1, 2, shown=()) == [key]
    project.save()

    assert project.annotation(key)[3, 5] == 1
    again = reopened(project)
    assert again.annotation(key)[3, 5] == 1
    newest = again.sheets(key).generations()[0]
    assert set(np.unique(again.sheets(key).at(newest))) <= {0, 1}
    again.close()


def test_what_could_not_be_saved_goes_into_a_copy(project, tmp_path):
    key = project.add(read_image(put_file(tmp_path / "images")))
    project.save()
    second = open_project(project.folder)
    assert second.read_only
    painted(second, key)
    new = second.add(as_image(picture(1)))
    painted(second, new, 2)

    copy = second.copy(tmp_path / "copy")
    copy.close()

    found = open_project(tmp_path / "copy")
    assert found.annotation(key)[3, 5] == 1
    assert found.annotation(new)[3, 5] == 2
    assert np.array_equal(np.asarray(found.read(new).data)[0], picture(1))
    found.close()


def test_the_project_that_was_painted_last_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_unet.cards.library_folder", lambda: tmp_path / "home" / "models")
    monkeypatch.setattr("napari_unet.records.library_folder", lambda: tmp_path / "home" / "models")
    named = create_project(tmp_path / "named")
    named.close()
    remember(named.folder)
    scratch = create_project(scratch_place())
    key = scratch.add(read_image(put_file(tmp_path / "images")))
    scratch.save()
    old = time.time() - 1000
    os.utime(named.folder / "project.json", (old, old))
    os.utime(scratch.folder / "project.json", (old - 1000, old - 1000))
    assert recent() == [scratch.folder, named.folder]
    scratch.close()

    os.utime(scratch.folder / IMAGES / key / "image.json", (old - 1000, old - 1000))
    assert recent() == [named.folder, scratch.folder]


def test_one_part_that_cannot_be_written_holds_up_no_other(project, monkeypatch):
    keys = [project.add(as_image(picture(n), name=f"im{n}")) for n in range(2)]
    project.save()
    labels = [painted(project, key) for key in keys]
    write = Sheets.write

    def fail(sheets, place, values):
        if sheets.folder.name == keys[0]:
            raise BadInput("Another program holds it.")
        write(sheets, place, values)

    monkeypatch.setattr(Sheets, "write", fail)
    with pytest.raises(BadInput, match="Another program holds it"):
        project.save()
    assert np.array_equal(project.sheets(keys[1]).read()[0], labels[1])
    assert not project.is_saved

    monkeypatch.setattr(Sheets, "write", write)
    project.save()
    assert np.array_equal(project.sheets(keys[0]).read()[0], labels[0])


def test_a_copy_that_failed_is_made_again(project, tmp_path, monkeypatch):
    file = put_file(tmp_path)
    other = replace(read_image(file), data=255 - read_image(file).data)
    key = project.add(other)
    with monkeypatch.context() as patch:
        patch.setattr("tifffile.imwrite", lambda *_, **__: _no_room())
        with pytest.raises(BadInput, match="the disk is full"):
            project.save()

    again = reopened(project)

    assert np.array_equal(again.read(key).data[0], 255 - picture())
    again.close()


def _no_room() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_cannot_be_written_here_goes_into_a_copy_elsewhere(project, tmp_path, monkeypatch):
    key = project.add(as_image(picture(), name="made"))
    project.save()
    labels = painted(project, key)
    write = Sheets.write

    def fail(sheets, place, values):
        if sheets.folder.is_relative_to(project.folder):
            raise BadInput("The disk is full.")
        write(sheets, place, values)

    monkeypatch.setattr(Sheets, "write", fail)
    copy = project.copy(tmp_path / "elsewhere")
    copy.save()

    assert np.array_equal(copy.sheets(key).read()[0], labels)
    copy.close()
    monkeypatch.setattr(Sheets, "write", write)


def test_an_image_whose_file_has_no_pixel_size_has_that_of_the_viewer(project, tmp_path):
    matrix = ((0.3, 0.0, 7.0), (0.0, 0.1, 5.0), (0.0, 0.0, 1.0))
    shown = {"shown": "plain", "matrix": matrix}
    image = replace(read_image(put_file(tmp_path)), unit="micrometer", spacing=(0.3, 0.1))
    key = project.add(image, **shown)

    again = reopened(project)

    assert again.read(key).unit == "micrometer"
    assert again.read(key).spacing == pytest.approx((0.3, 0.1))
    again.close()


def test_what_is_painted_in_a_project_of_another_program_is_not_taken_for_saved(folder, tmp_path):
    first = create_project(folder)
    key = first.add(as_image(picture(), name="made"))
    first.save()
    second = open_project(folder)
    assert second.read_only
    assert second.is_saved

    labels = painted(second, key)

    assert not second.is_saved
    copy = second.copy(tmp_path / "elsewhere")
    assert np.array_equal(copy.annotation(key), labels)
    copy.close()
    second.close()
    first.close()


def test_an_image_that_was_looked_at_but_is_not_on_disk_goes_into_a_copy(
    project, tmp_path, monkeypatch
):
    file = put_file(tmp_path)
    key = project.add(read_image(file))
    painted(project, key)
    with monkeypatch.context() as patch:
        patch.setattr("napari_unet.project.write_card", _full)
        patch.setattr(Sheets, "write", _full)
        patch.setattr("napari_unet.project._draw_thumbnail", _full)
        with pytest.raises(BadInput):
            project.save()
    assert key not in project._pixels

    copy = project.copy(tmp_path / "elsewhere")

    assert copy.annotation(key).any()
    copy.close()


def _full(*_arguments: object) -> None:
    raise BadInput("The disk is full.")


def test_an_image_with_other_channels_keeps_its_strokes_and_its_place(project):
    key = project.add(as_image(picture(), name="made"))
    labels = painted(project, key)
    project.save()
    both = np.stack([picture(), picture(1)])

    project.exchange(key, as_image(both, "CYX", name="made"))
    project.save()

    again = reopened(project)
    assert list(again.images) == [key]
    assert np.array_equal(again.read(key).data, both)
    assert np.array_equal(again.annotation(key), labels)
    again.close()


def test_strokes_do_not_wait_for_a_close_look_at_new_images(project, tmp_path, monkeypatch):
    order = []
    real = Project._write
    keys = [project.add(read_image(put_file(tmp_path, f"{n}.tif", n))) for n in range(3)]
    painted(project, keys[0])
    monkeypatch.setattr(
        Project, "_write", lambda self, *part: order.append(part[1]) or real(self, *part)
    )

    project.save()

    assert order.index(LOOK) > max(n for n, place in enumerate(order) if place)
