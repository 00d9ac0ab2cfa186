"""Files and folders that appear on disk whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_unet.run import BadInput

_REASONS = {
    errno.ENOSPC: "the disk is full: free some space or choose another place",
    errno.EDQUOT: "your disk quota is used up: free some space or choose another place",
    errno.EFBIG: "the disk does not take files this large: choose another place",
    errno.EROFS: "the disk is read-only: choose another place",
    errno.EACCES: "permission is missing: choose a folder you may write to",
    errno.EPERM: "permission is missing: choose a folder you may write to",
    errno.ENOTDIR: "part of its path is a file, not a folder: choose another place",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
}


@contextmanager
def atomic_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there becomes `path` when all is well.

    The temporary name ends as `path` does, so writers that go by the suffix work. Missing parent
    folders are made. If the body raises, nothing is left behind and an earlier file is untouched.
    Every OSError becomes a BadInput that says why and what to do.
    """
    path = Path(path)
    with _at(path, overwrite, Path.is_dir, "a folder") as temporary:
        yield temporary
        _sync(temporary)
        _refuse_existing(path, overwrite)
        temporary.replace(path)
        _sync(path.parent)


@contextmanager
def atomic_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder beside `path` that becomes `path` when all is well.

    The contract is that of `atomic_file`; with `overwrite` the earlier folder is replaced whole.
    """
    path = Path(path)
    with _at(path, overwrite, Path.is_file, "a file") as temporary:
        temporary.mkdir()
        yield temporary
        for item in (*temporary.rglob("*"), temporary):
            _sync(item)
        _refuse_existing(path, overwrite)
        _swap(temporary, path)
        _sync(path.parent)


def refuse_unwritable(path: Path) -> None:
    """Find out before the work, not after, that its result cannot be written at a place."""
    _refuse_nameless(path)
    probe = path.parent / f".{path.name}.probe"
    with atomic_folder(probe, overwrite=True):
        pass
    probe.rmdir()


@contextmanager
def _at(
    path: Path, overwrite: bool, is_other_kind: Callable[[Path], bool], kind: str
) -> Iterator[Path]:
    """Choose a temporary name beside path, remove it afterwards, and say what went wrong."""
    _refuse_nameless(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        _refuse_existing(path, overwrite)
        if is_other_kind(path):
            raise BadInput(f"{path} is {kind} and stays as it is: choose another name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        raise BadInput(f"{path} could not be written: {_reason(error)}.") from error
    finally:
        _remove(temporary)


def _refuse_nameless(path: Path) -> None:
    if path.name in ("", ".."):
        raise BadInput(f"{path} is a place without a name of its own: give what is written a name.")


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise BadInput(f"{path} exists already: choose another name or ask to overwrite it.")


def _reason(error: OSError) -> str:
    detail = (error.strerror or str(error) or type(error).__name__).rstrip(".")
    return _REASONS.get(error.errno or 0, f"{detail}: choose another place")


def _swap(new: Path, path: Path) -> None:
    """Put a folder in the place of another; a folder, unlike a file, cannot be replaced at once."""
    if not path.exists():
        new.rename(path)
        return
    old = new.with_name(f"{new.name}.old")
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    _remove(old)


def _sync(path: Path) -> None:
    """Force a file or folder out of the cache onto the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    # Windows flushes only files that are open for writing; a folder opens only for reading.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some shared folders know of no such thing for folders; what lies in them is written.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
