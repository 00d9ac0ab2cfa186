"""The house stands: floors, the one door to napari and Qt, the guide, and a light front door."""

from __future__ import annotations

import ast
import fnmatch
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "napari_unet"

# Imports go down or sideways only.
FLOORS = [
    names.split()
    for names in (
        "config run progress suffixes units budget",
        "pictures annotation masks teaching grain holdout normalise patches augment optimiser"
        " judging losses metrics tiling instances device heap threads axes formats formats.* io"
        " atomic cards samples models models.* rims kept sheets records script optional showing"
        " export export.*",
        "library sharing sharing.*",
        "adviser learner best footing origin checkpoint training inference",
        "live segmenting session project",
        "hooks api cli cli.* demo info gui gui.*",
    )
]
BINDINGS = {"PyQt5", "PyQt6", "PySide2", "PySide6"}
WINDOWS = BINDINGS | {"napari", "qtpy", "superqt", "magicgui"}
# What a plain `import napari_unet` must not wait for.
HEAVY = WINDOWS | {"torch", "numpy", "scipy", "skimage", "dask", "zarr", "pydantic"}


def _name(path: Path) -> str:
    """napari_unet/models/unet.py is models.unet, napari_unet/models/__init__.py is models."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ROOMS = {name: path for name, path in FILES.items() if name}  # the front door is no room


def _floor(name: str) -> int | None:
    for floor, patterns in enumerate(FLOORS):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            return floor
    return None


def _is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _walk(node: ast.AST, with_types: bool) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if with_types or not _is_for_types_only(child):
            yield from _walk(child, with_types)


def _imports(name: str, with_types: bool) -> set[str]:
    """Dotted names of all that a module imports, at its top or inside its functions."""
    path = FILES[name]
    package = ["napari_unet", *name.split(".")]
    if path.name != "__init__.py":
        package.pop()
    found = set()
    for node in _walk(ast.parse(path.read_text(encoding="utf-8")), with_types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            found |= {f"{source}.{alias.name}" for alias in node.names}
    return found


def _rooms_imported(name: str) -> set[str]:
    rooms = set()
    for dotted in _imports(name, with_types=False):
        if dotted.startswith("napari_unet."):
            inner = dotted.removeprefix("napari_unet.")
            # The last part may be a name inside the module.
            rooms |= {inner, inner.rpartition(".")[0]} & ROOMS.keys()
    return rooms


def _tops_imported(name: str) -> set[str]:
    return {dotted.partition(".")[0] for dotted in _imports(name, with_types=True)}


@pytest.mark.parametrize("name", ROOMS)
def test_every_module_has_a_floor(name: str) -> None:
    assert _floor(name) is not None, f"{name} is missing from FLOORS"


@pytest.mark.parametrize("name", ROOMS)
def test_imports_go_down_or_sideways(name: str) -> None:
    upward = [room for room in _rooms_imported(name) if _floor(room) > _floor(name)]

    assert not upward


@pytest.mark.parametrize("name", [room for room in ROOMS if room.partition(".")[0] != "gui"])
def test_only_the_gui_knows_napari_and_qt(name: str) -> None:
    assert not _tops_imported(name) & (WINDOWS | {"pyqtgraph"})


@pytest.mark.parametrize("name", [room for room in ROOMS if _floor(room) == 0])
def test_contracts_know_no_torch(name: str) -> None:
    assert "torch" not in _tops_imported(name)


@pytest.mark.parametrize("name", ROOMS)
def test_the_guide_says_what_is_in_the_room(name: str) -> None:
    docstring = ast.get_docstring(ast.parse(ROOMS[name].read_text(encoding="utf-8"))) or ""
    sentence = " ".join(docstring.partition("\n\n")[0].split())
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    row = f"| [{name}]({ROOMS[name].relative_to(ROOT).as_posix()}) | {sentence} |"

    assert sentence.endswith("."), "a module opens with a sentence"
    assert ". " not in sentence, "a module opens with one sentence only"
    assert row in guide, f"CONTRIBUTING.md needs this row: | to ... {row}"


def test_the_guide_names_no_room_that_is_gone() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {
        line.split("](")[1].split(")")[0] for line in guide.splitlines() if "](napari_" in line
    }

    assert named == {path.relative_to(ROOT).as_posix() for path in ROOMS.values()}


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys; before = set(sys.modules); import napari_unet; " + (
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert "napari_unet" in loaded
    assert not set(loaded) & HEAVY


@pytest.mark.skipif(
    os.environ.get("NAPARI_UNET_HEADLESS") != "1", reason="for `make test-headless` only"
)
@pytest.mark.parametrize("package", sorted(WINDOWS))
def test_headless_means_neither_napari_nor_qt(package: str) -> None:
    assert importlib.util.find_spec(package) is None
