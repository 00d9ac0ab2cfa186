"""The library keeps models under names that can be changed, without reading their weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.cards import (
    NAME_BYTES,
    PNG,
    PREVIEW_BYTES,
    Card,
    Version,
    duplicate_model,
    find_version,
    fingerprint,
    free_name,
    held_out_dice,
    library_folder,
    list_models,
    model_folder,
    new_place,
    possible_name,
    read_card,
    read_preview,
    rename_model,
)
from napari_unet.config import NetConfig, class_table
from napari_unet.run import BadInput

CREATED = "2025-07-21T12:00:00+00:00"


@pytest.fixture(autouse=True)
def _own_library(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))


def put(name: str, versions: int = 1) -> Path:
    """A model in the library; its weights are no weights."""
    numbers = range(1, versions + 1)
    card = Card(
        name=name,
        net=NetConfig(),
        classes=class_table(1),
        axes="CYX",
        versions=tuple(Version(number=n, created=CREATED, steps=n, seconds=n) for n in numbers),
    )
    folder = library_folder() / name
    (folder / "versions").mkdir(parents=True)
    for file, text in card.files().items():
        (folder / file).write_bytes(text)
    (folder / "weights.safetensors").write_bytes(b"newest")
    for number in numbers[:-1]:
        (folder / f"versions/{number:04d}.safetensors").write_text(f"weights {number}")
    (folder / "preview.png").write_bytes(PNG + name.encode())
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


def parts(folder: Path) -> dict[str, bytes]:
    """All but the card."""
    return {k: v for k, v in contents(folder).items() if k not in ("model.json", "README.md")}


def test_a_model_is_renamed_with_its_card_and_all_versions():
    before = parts(put("cells", versions=3))

    path = rename_model("cells", "Nuclei of 2025")

    assert path == library_folder() / "Nuclei of 2025"
    assert list(list_models()) == ["Nuclei of 2025"]
    assert parts(path) == before
    assert read_card(path).name == "Nuclei of 2025"
    assert [v.number for v in read_card(path).versions] == [1, 2, 3]
    assert (path / "README.md").read_text(encoding="utf-8").startswith("# Nuclei of 2025\n")


def test_a_model_may_be_given_its_own_name():
    before = contents(put("cells"))

    assert contents(rename_model("cells", "cells")) == before


def test_a_copy_has_another_name_and_all_else(tmp_path):
    before = contents(put("cells", versions=3))

    path = duplicate_model("cells", "nuclei")

    assert list(list_models()) == ["cells", "nuclei"]
    assert contents(model_folder("cells")) == before
    assert parts(path) == parts(model_folder("cells"))
    assert read_card(path) == read_card(model_folder("cells")).named("nuclei")


@pytest.mark.parametrize("act", [rename_model, duplicate_model])
@pytest.mark.parametrize(
    ("name", "new", "said"),
    [
        ("cells", "nuclei", "has a model named 'nuclei' already; give another name"),
        ("cells", "../nuclei", "'../nuclei' cannot be a name in the library; give one of letters"),
        ("cells", "", "'' cannot be a name in the library"),
        ("cells", "\U00020000" * 70, "cannot be a name in the library"),
        ("nobody", "somebody", "The library has no model named 'nobody'; it may have been ren"),
        ("..", "somebody", r"The library has no model named '\.\.'"),
        ("broken", "whole", r"has a model\.json that is not JSON"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(act, name, new, said):
    put("cells")
    put("nuclei")
    (put("broken") / "model.json").write_text("{")
    before = contents(library_folder())

    with pytest.raises(BadInput, match=said):
        act(name, new)

    assert contents(library_folder()) == before


def test_a_rename_that_fails_leaves_the_model_as_it_was(monkeypatch):
    before = contents(put("cells", versions=2))
    rename = Path.rename

    def refuse_folders(path, target):
        if path.is_dir():
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse_folders)
        with pytest.raises(BadInput, match=r"'cells' could not be renamed \(Permission denied\);"):
            rename_model("cells", "nuclei")

    assert contents(model_folder("cells")) == before
    assert list(list_models()) == ["cells"]


def test_a_copy_that_fails_leaves_nothing_behind(monkeypatch):
    before = contents(put("cells"))

    def fsync(_handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("napari_unet.atomic.os.fsync", fsync)
        with pytest.raises(BadInput, match="the disk is full"):
            duplicate_model("cells", "nuclei")

    assert [p.name for p in library_folder().iterdir()] == ["cells"]
    assert contents(model_folder("cells")) == before


# ---- names


def test_a_name_that_is_free_stays():
    put("cells")

    assert free_name("nuclei") == "nuclei"


def test_a_name_that_is_taken_gets_the_next_number():
    for name in ("cells", "cells 2", "cells 4"):
        put(name)

    assert free_name("cells") == "cells 3"


@pytest.mark.parametrize(
    ("name", "free"),
    [
        ("cells/2025: day 3", "cells 2025 day 3"),
        ("../../evil", "evil"),
        ("model.zip", "model"),
        ("  a\tb\n", "a b"),
        ("-1.5 (b).", "1.5 (b)"),
        ("???", "model"),
        ("débris", "débris"),
    ],
)
def test_characters_that_cannot_be_in_a_name_become_spaces(name, free):
    assert free_name(name) == free


@given(st.text(max_size=120))
def test_a_free_name_can_be_a_name(name):
    free = free_name(name)

    assert new_place(free) == library_folder() / free
    assert new_place(f"{free} 9999").name == f"{free} 9999"
    assert len(free.encode()) <= NAME_BYTES


# ---- the list


def test_a_damaged_model_is_listed_with_the_reason():
    put("cells")
    (put("broken") / "model.json").write_text("{")
    (library_folder() / "empty").mkdir()

    models = list_models()

    assert list(models) == ["broken", "cells", "empty"]
    assert "not JSON" in models["broken"]
    assert "it has no model.json" in models["empty"]
    assert models["cells"] == read_card(library_folder() / "cells")


def test_what_is_no_folder_or_hidden_is_not_listed():
    put("cells")
    (library_folder() / "notes.txt").touch()
    (library_folder() / ".0123.cells").mkdir()

    assert list(list_models()) == ["cells"]


def test_a_library_that_may_not_be_read_is_told(monkeypatch):
    put("cells")

    def iterdir(path):  # root may read everything, so the system's refusal is played
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(BadInput, match=r"models cannot be read .*; check its permissions\."):
        list_models()


def test_a_fingerprint_is_that_of_the_pixels():
    image = np.arange(12).reshape(1, 3, 4)

    assert fingerprint(image) == fingerprint(image.copy())
    assert fingerprint(image) != fingerprint(image.reshape(1, 4, 3))
    assert fingerprint(image) != fingerprint(image + 1)


@pytest.mark.parametrize(
    ("data", "found"),
    [(PNG + b"x", True), (b"GIF89a", False), (PNG + b"x" * PREVIEW_BYTES, False), (b"", False)],
)
def test_a_preview_is_a_small_png(data, found):
    folder = put("cells")
    (folder / "preview.png").write_bytes(data)

    assert read_preview(folder) == (data if found else None)


def test_a_model_may_have_no_preview(tmp_path):
    assert read_preview(tmp_path) is None


def test_cards_are_read_without_torch():
    put("cells")
    script = (
        "import sys; from napari_unet.cards import list_models; print(*list_models()); "
        "print('torch' in sys.modules)"
    )

    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout

    assert said.split() == ["cells", "False"]


def test_the_score_of_a_stack_is_the_mean_of_its_planes():
    card = read_card(put("cells")).model_copy(
        update={"held_out": {"a[3]": 0.5, "a[10]": 0.7, "a[1] b": 0.1, "ab": 0.2, "c [1][4]": 0.3}}
    )

    assert held_out_dice(card, "a") == pytest.approx(0.6)
    assert held_out_dice(card, "a[1] b") == 0.1
    assert held_out_dice(card, "c [1]") == 0.3, "as napari calls the second of a name"
    assert held_out_dice(card, "c") is None


def test_the_same_weights_are_found_under_whatever_name():
    for name, digests in (("cells", "abc"), ("mine", "axb"), ("zebra", "x")):
        folder = put(name, len(digests))
        card = read_card(folder)
        versions = tuple(
            v.model_copy(update={"sha256": d}) for v, d in zip(card.versions, digests, strict=True)
        )
        text = card.model_copy(update={"versions": versions}).model_dump_json()
        (folder / "model.json").write_text(text)

    def found(name: str, digest: str) -> tuple[str, int] | None:
        version = Version(number=9, created=CREATED, steps=1, seconds=1, sha256=digest)
        card = read_card(library_folder() / "cells")
        return find_version(card.model_copy(update={"versions": (version,)}), name)

    assert found("mine", "a") == ("mine", 1)
    assert found("gone", "a") == ("cells", 1)
    assert found("mine", "c") == ("cells", 3)
    assert found("cells", "d") is None
    assert found("cells", "") is None


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/passwd", "a/b", "..", "", "\\\\host\\x", "a.zip"]
)
def test_a_name_from_elsewhere_leads_nowhere_else(name):
    possible = possible_name(name)

    assert possible != name
    assert new_place(possible).parent == library_folder()


def test_what_a_link_in_a_models_folder_points_to_is_not_copied(tmp_path):
    (tmp_path / "secret").write_text("secret")
    put("cells")
    (library_folder() / "cells" / "link").symlink_to(tmp_path / "secret")

    copy = duplicate_model("cells", "copy")

    assert not (copy / "link").exists()
    assert (copy / "weights.safetensors").exists()
