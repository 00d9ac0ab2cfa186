"""Files and folders that appear on disk whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from napari_unet import atomic
from napari_unet.atomic import atomic_file, atomic_folder
from napari_unet.run import BadInput


def nothing() -> None:
    pass


def write_file(path: Path, text="new", overwrite=False, then=nothing) -> None:
    with atomic_file(path, overwrite) as temporary:
        temporary.write_text(text)
        then()


def write_folder(path: Path, text="new", overwrite=False, then=nothing) -> None:
    with atomic_folder(path, overwrite) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "file").write_text(text)
        then()


def names_in(folder: Path) -> list[str]:
    return [item.name for item in folder.iterdir()]


def text_of(path: Path) -> str:
    return (path / "deep" / "file" if path.is_dir() else path).read_text()


both = pytest.mark.parametrize("write", [write_file, write_folder])


@both
def test_what_was_written_lies_at_the_path_alone(tmp_path, write):
    path = tmp_path / "new parent" / "thing.tif"

    write(path)

    assert text_of(path) == "new"
    assert names_in(path.parent) == ["thing.tif"]


@both
def test_nothing_is_overwritten_unasked(tmp_path, write):
    path = tmp_path / "thing"
    write(path, "old")

    with pytest.raises(BadInput, match="thing exists already: choose another name or ask to"):
        write(path, "new")

    assert text_of(path) == "old"


@both
def test_overwriting_leaves_only_the_new(tmp_path, write):
    path = tmp_path / "thing"
    write(path, "old")

    write(path, "new", overwrite=True)

    assert text_of(path) == "new"
    assert names_in(tmp_path) == ["thing"]


@both
def test_what_appears_meanwhile_is_not_overwritten(tmp_path, write):
    path = tmp_path / "thing"

    with pytest.raises(BadInput, match="exists already"):
        write(path, then=lambda: path.write_text("of someone else"))

    assert path.read_text() == "of someone else"


@both
def test_a_failure_in_the_body_leaves_no_trace_and_keeps_the_old(tmp_path, write):
    path = tmp_path / "thing"
    write(path, "old")

    with pytest.raises(ZeroDivisionError):
        write(path, "half", overwrite=True, then=lambda: 1 / 0)

    assert text_of(path) == "old"
    assert names_in(tmp_path) == ["thing"]


@both
@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "the disk is full: free some space"),
        (errno.EROFS, "the disk is read-only: choose another place"),
        (errno.EACCES, "permission is missing: choose a folder you may write to"),
        (errno.EIO, "Input/output error: choose another place"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_the_system_refuses_is_told_in_a_sentence(
    tmp_path, monkeypatch, write, code, sentence, overwrite
):
    path = tmp_path / "thing"
    if overwrite:
        write(path, "old")

    def refuse(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)

    with pytest.raises(BadInput, match=f"thing could not be written: {sentence}"):
        write(path, "new", overwrite=overwrite)

    assert names_in(tmp_path) == (["thing"] if overwrite else [])
    assert not overwrite or text_of(path) == "old"


@both
def test_a_file_among_the_parents_is_told(tmp_path, write):
    (tmp_path / "file").write_text("")

    with pytest.raises(BadInput, match=r"could not be written: .*choose another"):
        write(tmp_path / "file" / "thing")


def test_a_real_full_disk_is_told(tmp_path):
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(BadInput, match="does not take files this large"):
            write_file(tmp_path / "thing", "x" * (1 << 17))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert names_in(tmp_path) == []


def test_the_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = tmp_path / "thing"
    write_folder(path, "old")
    rename = Path.rename

    def refuse_the_new(self: Path, target: Path) -> Path:
        if Path(target) == path and not self.name.endswith(".old"):
            raise PermissionError(errno.EACCES, "no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)

    with pytest.raises(BadInput, match="permission is missing"):
        write_folder(path, "new", overwrite=True)

    assert text_of(path) == "old"
    assert names_in(tmp_path) == ["thing"]


@pytest.mark.parametrize(
    ("first", "second"), [(write_file, write_folder), (write_folder, write_file)]
)
def test_a_file_never_replaces_a_folder_nor_the_reverse(tmp_path, first, second):
    path = tmp_path / "thing"
    first(path, "old")

    with pytest.raises(BadInput, match="and stays as it is: choose another name"):
        second(path, "new", overwrite=True)

    assert text_of(path) == "old"


def test_the_data_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    sync, replace = atomic._sync, Path.replace
    monkeypatch.setattr(atomic, "_sync", lambda path: (calls.append("sync"), sync(path)))
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (calls.append("replace"), replace(self, to))
    )

    write_file(tmp_path / "thing")

    assert calls == ["sync", "replace", "sync"]


@both
@pytest.mark.parametrize("place", [".", "..", "/"])
def test_a_place_without_a_name_of_its_own_is_refused_in_a_sentence(write, place):
    with pytest.raises(BadInput, match="without a name of its own: give what is written a name"):
        write(Path(place), overwrite=True)
    with pytest.raises(BadInput, match="without a name of its own"):
        atomic.refuse_unwritable(Path(place))


@both
def test_a_file_system_that_flushes_no_folders_will_do(tmp_path, monkeypatch, write):
    flush = os.fsync

    def files_only(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").is_dir():
            raise OSError(errno.EINVAL, "not here")
        flush(handle)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("cannot tell what a handle is of")
    monkeypatch.setattr(atomic.os, "fsync", files_only)

    write(tmp_path / "thing")

    assert text_of(tmp_path / "thing") == "new"
