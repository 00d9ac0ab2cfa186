"""The manifest holds what it promises: it is where it should be, and every command answers."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from napari_unet import hooks
from napari_unet.formats import SCANS

ROOT = Path(__file__).parents[1]
REAL = ROOT / "napari_unet" / "napari.yaml"
MANIFEST = yaml.safe_load(REAL.read_text(encoding="utf-8"))
COMMANDS = {c["id"]: c["python_name"] for c in MANIFEST["contributions"]["commands"]}
SAMPLES = [sample["command"] for sample in MANIFEST["contributions"]["sample_data"]]
GENERATED = SAMPLES[:3]  # with true masks; the others are photographs


def _resolve(command: str) -> Any:
    module, _, name = COMMANDS[command].partition(":")
    return getattr(importlib.import_module(module), name)


def _of(kind: str) -> list[dict[str, Any]]:
    contributions = MANIFEST["contributions"].get(kind)
    return contributions if isinstance(contributions, list) else []


@pytest.mark.skipif(sys.platform == "win32", reason="git writes a link as a text file there")
def test_the_manifest_at_the_top_is_a_link_to_the_real_one() -> None:
    link = ROOT / "napari.yaml"

    assert link.is_symlink()
    assert link.readlink() == Path("napari_unet/napari.yaml")


def test_npe2_accepts_the_manifest() -> None:
    npe2 = pytest.importorskip("npe2")

    manifest = npe2.PluginManifest.from_file(REAL)

    assert manifest.name == "napari-unet"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_resolves(command: str) -> None:
    if COMMANDS[command].startswith("napari_unet.gui"):
        pytest.importorskip("qtpy")

    assert callable(_resolve(command))


def test_every_contribution_names_a_known_command() -> None:
    kinds = MANIFEST["contributions"].keys() - {"commands"}
    used = {item["command"] for kind in kinds for item in _of(kind) if "command" in item}

    assert used == COMMANDS.keys()


def test_the_manifest_claims_scans_and_slides_and_nothing_else() -> None:
    patterns = {p for reader in _of("readers") for p in reader["filename_patterns"]}

    assert patterns == {f"*{suffix}" for suffix in SCANS} | {"*project.json", "*.unet"}


@pytest.mark.parametrize("command", GENERATED)
def test_a_generated_sample_is_an_image_and_its_mask(command: str) -> None:
    (image, about_image, first), (mask, about_mask, second) = _resolve(command)()

    assert (first, second) == ("image", "labels")
    assert about_image["name"] != about_mask["name"]
    assert image.shape[-1] == 3 if about_image.get("rgb") else image.shape == mask.shape
    assert image.shape[: mask.ndim] == mask.shape
    assert np.issubdtype(mask.dtype, np.integer)
    assert mask.min() == 0 < mask.max()


@pytest.mark.parametrize("command", SAMPLES)
def test_a_sample_opens_as_layers(command: str) -> None:
    layers = pytest.importorskip("napari.layers")

    opened = [layers.Layer.create(*layer_data) for layer_data in _resolve(command)()]

    expected = ["image", "labels"] if command in GENERATED else ["image"]
    assert [layer._type_string for layer in opened] == expected
    assert [layer.visible for layer in opened] == [True, False][: len(opened)]


def test_an_empty_viewer_offers_every_sample() -> None:
    keys = [sample["key"] for sample in _of("sample_data")]

    assert list(hooks.SAMPLES) == keys


@pytest.mark.parametrize("command", SAMPLES)
def test_a_sample_is_the_same_every_time(command: str) -> None:
    once, again = _resolve(command)(), _resolve(command)()

    for (left, *_), (right, *_) in zip(once, again, strict=True):
        np.testing.assert_array_equal(left, right)
